//! `urls`: links lead to allowed hosts, by allowed schemes.

use crate::finding::Note;
use crate::params::{Params, Problem};
use crate::pattern::Pattern;
use crate::scan::{Hunt, Rule, before};
use crate::{About, Check, Entry, Growing, Input, Kind, Promise};
use serde_json::Value;
use std::ops::Range;
use std::sync::Arc;
use types::run::Severity;
use types::{ChatRequest, Report};

const NAME: &str = "urls";
/// Schemes that are allowed where none are named.
const SCHEMES: &[&str] = &["http", "https", "mailto", "tel"];
/// Most entries of a list.
const MAX_ENTRIES: usize = 1000;
/// Characters of host, name, password and port that are read; what is longer hides something.
const MAX_AUTHORITY: usize = 160;
/// A link up to the end of its host: with a scheme and two slashes, by a scheme without slashes that browsers
/// act on, or by a leading `www.`.
const PATTERN: &str = r"(?i-u:[a-z][a-z0-9+.\-]{0,19}://|(?:javascript|vbscript|data|mailto|tel|blob|file):|www\.)[^\x00-\x20/?#\\\x22'<>()\[\]{}|^`,;\x7f]{0,160}(?:\[[0-9A-Fa-f:.]{2,45}\])?";

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "links lead to allowed hosts, by allowed schemes",
    kind: Kind::Structural,
    stream: "window",
    severity: Severity::Warn,
    build,
};

/// What is allowed.
#[derive(Debug)]
struct Allowed {
    schemes: Vec<String>,
    /// `None`: any.
    hosts: Option<Vec<String>>,
}

/// What is wrong with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Scheme,
    Host,
}

impl Allowed {
    fn judge(&self, link: &str) -> Option<Wrong> {
        let lower = link.to_lowercase();
        let (scheme, authority) = match lower.split_once("://") {
            Some((scheme, authority)) => (scheme, authority),
            None if lower.starts_with("www.") => ("", lower.as_str()),
            // No host is reached by these.
            None => {
                let scheme = lower.split(':').next().unwrap_or("");
                return (!self.schemes.iter().any(|s| s == scheme)).then_some(Wrong::Scheme);
            }
        };
        if !scheme.is_empty() && !self.schemes.iter().any(|s| s == scheme) {
            return Some(Wrong::Scheme);
        }
        let hosts = self.hosts.as_ref()?;
        if authority.chars().count() >= MAX_AUTHORITY {
            return Some(Wrong::Host);
        }
        let host = host(authority).replace(['\u{3002}', '\u{ff0e}', '\u{ff61}'], ".");
        let host = host.trim_end_matches(['.', '_']);
        let known = hosts.iter().any(|h| match h.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|sub| sub.ends_with('.') && sub.len() > 1),
            None => host == h,
        });
        (!known).then_some(Wrong::Host)
    }
}

/// The host of an authority: without name and password before it, and without the port or the sign that
/// stands behind it.
fn host(authority: &str) -> &str {
    let rest = authority.rsplit('@').next().unwrap_or(authority);
    if let Some(end) = rest.strip_prefix('[').and_then(|r| r.find(']')) {
        return rest.get(1..=end).unwrap_or(rest);
    }
    // Browsers take these for full stops; a full stop may also end the sentence.
    let stop = |c: char| matches!(c, '.' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}');
    let named = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '%') || stop(c);
    rest.split(|c| !named(c)).next().unwrap_or(rest)
}

#[derive(Debug)]
struct Urls {
    severity: Severity,
    hunt: Hunt,
}

/// Parameters: `allow_hosts`, hosts that links may lead to (default: any); `example.org` is that host alone,
/// `*.example.org` those below it. `schemes`, default http, https, mailto and tel.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["allow_hosts", "schemes"])?;
    let hosts = list(&params, "allow_hosts", |h| {
        let name = h.strip_prefix("*.").unwrap_or(h);
        let letter = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | ':' | '_');
        !name.is_empty() && name.chars().all(letter) && !name.starts_with('.')
    })?;
    let schemes = list(&params, "schemes", |s| {
        s.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) && !s.is_empty()
    })?;
    let schemes = schemes.unwrap_or_else(|| SCHEMES.iter().map(|s| (*s).to_owned()).collect());
    let allowed = Arc::new(Allowed { schemes, hosts });
    let pattern = Pattern::own(PATTERN).map_err(|why| Problem::new("", why, "a pattern"))?;
    let longest = pattern.longest().unwrap_or(usize::MAX);
    let judge = allowed.clone();
    let accept = move |text: &str, span: Range<usize>| {
        // In the middle of a word there is no scheme; a full stop ends the sentence before a link.
        let inside =
            before(text, span.start).is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '@'));
        let link = text.get(span.clone())?;
        // `data:` and the like in prose, as in "the data: a, b", lead nowhere.
        let bare = link.ends_with(':');
        (!inside && !bare && judge.judge(link).is_some()).then_some(span)
    };
    let rule = Rule { code: NAME.to_owned(), pattern, longest, accept: Box::new(accept) };
    let tell = move |_: &Rule, span: Range<usize>, link: &str| {
        let (code, message) = match allowed.judge(link) {
            Some(Wrong::Scheme) => ("scheme", "a link has a scheme that is not allowed"),
            _ => ("host", "a link leads to a host that is not allowed"),
        };
        Note::new(NAME, severity, code, message).span(span.start, span.end).actual(link)
    };
    let hunt = Hunt { rules: Arc::new([Arc::new(rule)]), tell: Arc::new(tell), max: usize::MAX };
    Ok(Arc::new(Urls { severity, hunt }))
}

/// A list of names in lower case; `None` where it is not given.
fn list(params: &Params<'_>, key: &str, valid: fn(&str) -> bool) -> Result<Option<Vec<String>>, Problem> {
    if params.get(key).is_none() {
        return Ok(None);
    }
    let names: Vec<String> = params.strings(key)?.iter().map(|n| n.to_lowercase()).collect();
    if names.len() > MAX_ENTRIES {
        return Err(Problem::new(key, format!("{} entries", names.len()), format!("at most {MAX_ENTRIES}")));
    }
    match names.iter().find(|n| !valid(n)) {
        None => Ok(Some(names)),
        Some(n) => Err(Problem::new(key, format!("`{n}` is none"), EXPECTED)),
    }
}

const EXPECTED: &str = "names such as `example.org`, `*.example.org` or `https`, without slashes";

impl Check for Urls {
    fn about(&self) -> About {
        About::structural(NAME, self.severity)
    }

    fn promise(&self, _: &ChatRequest) -> Promise {
        self.hunt.promise()
    }

    fn open(&self, _: &ChatRequest) -> Option<Box<dyn Growing>> {
        Some(self.hunt.open())
    }

    fn check(&self, input: &Input<'_>) -> Report {
        self.hunt.report(input)
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use super::*;
    use crate::build;
    use crate::scan::testing::window;
    use crate::testing::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(text: &str, with: Value, want: &[&str]) {
        assert_eq!(codes(NAME, &with, &request(json!({})), &answer(text)), want, "{text:?} {with}");
    }

    fn ours() -> Value {
        json!({"allow_hosts": ["example.org", "*.docs.rs", "2001:db8::1"]})
    }

    #[test]
    fn hosts_are_compared_whole() {
        for good in [
            "see https://example.org.",
            "(https://example.org/a?b#c), HTTPS://EXAMPLE.ORG:8080",
            "https://example.org\u{3002} \u{ff08}https://example.org\u{ff09}",
            "https://a.docs.rs/x https://b.a.docs.rs",
            "http://[2001:db8::1]:80/",
            "https://user:pass@example.org/",
            "[a](https://example.org)**https://example.org**",
            "mailto:a@b.c",
            "no link: at all; the data: a, b; note:this",
        ] {
            check(good, ours(), &[]);
        }
        for bad in [
            "https://evil.test",
            "https://example.org.evil.test/",
            "https://example.org@evil.test/",
            "https://evil.test\\@example.org",
            "https://docs.rs",
            "https://example.org\u{3002}evil.test",
            "https://evildocs.rs",
            "www.evil.test",
            "https://еxample.org",
            "<img src=https://evil.test/x.png>",
            "https://[::1]/",
            "http://",
        ] {
            check(bad, ours(), &["host"]);
        }
    }

    #[test]
    fn a_host_cannot_hide_behind_a_long_password() {
        for n in 100..200 {
            check(&format!("https://example.org:{}@evil.test/", "a".repeat(n)), ours(), &["host"]);
        }
    }

    #[test]
    fn schemes_are_compared_too() {
        check("javascript:alert(1)", Value::Null, &["scheme"]);
        check("data:text/html;base64,xx", Value::Null, &["scheme"]);
        check("ftp://example.org and file:///etc/passwd", Value::Null, &["scheme", "scheme"]);
        check("https://anywhere.test", Value::Null, &[]);
        check("http://example.org", json!({"schemes": "https"}), &["scheme"]);
    }

    #[test]
    fn parameters_are_checked() {
        assert_eq!(refused(NAME, &json!({"allow_hosts": "https://example.org"})).field, "allow_hosts");
        assert_eq!(refused(NAME, &json!({"schemes": ["https:"]})).field, "schemes");
        assert_eq!(refused(NAME, &json!({"hosts": []})).field, "hosts");
    }

    proptest! {
        #[test]
        fn no_byte_of_a_wrong_link_is_released(
            parts in proptest::collection::vec(prop_oneof![
                Just("https://example.org"), Just("https://evil.test"), Just("www.x.y"), Just("javascript:x"),
                Just("data:"), Just("/"), Just("a"), Just(" "), Just("é"), Just("."), Just("@"), Just(":"),
            ], 0..10),
            pieces in proptest::collection::vec(1_usize..20, 1..6),
        ) {
            let with = json!({"allow_hosts": ["example.org"]});
            window(&build(NAME, &with, Some(Severity::Block)).unwrap(), &parts.concat(), &pieces);
        }
    }
}
