//! `regex`: patterns that must and must not occur in the text, matched in linear time.

use crate::finding::{Note, decided, unverified};
use crate::growing::Held;
use crate::params::{Params, Problem};
use crate::pattern::{Pattern, TooSlow};
use crate::scan::{Hunt, MAX_HOLD, Rule, TOO_SLOW};
use crate::{About, Check, Entry, Growing, Input, Kind, Promise};
use serde_json::Value;
use std::sync::Arc;
use types::run::Severity;
use types::{ChatRequest, Finding, Report};

const NAME: &str = "regex";
/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 1024;
/// Longest text that is searched, in bytes.
const MAX_TEXT: usize = 1024 * 1024;
/// Most patterns in one list.
const MAX_PATTERNS: usize = 64;

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "patterns that must and must not occur",
    kind: Kind::Structural,
    stream: "window for must_not, else end",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct Patterns {
    severity: Severity,
    must: Vec<Pattern>,
    must_not: Hunt,
}

/// Parameters: `must` and `must_not`, each a pattern or a list of patterns; `max_len`, in bytes: how long a
/// match of a `must_not` without bound (`\d+`) is held back on a stream. Without it, such a pattern is
/// checked only on the whole text.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["must", "must_not", "max_len"])?;
    let must = compile(&params, "must")?;
    let must_not = compile(&params, "must_not")?;
    if must.is_empty() && must_not.is_empty() {
        return Err(Problem::new("", "no pattern is given", "`must`, `must_not` or both"));
    }
    let max_len = params.count("max_len")?;
    if max_len.is_some_and(|m| m == 0 || m > MAX_HOLD) {
        return Err(Problem::new("max_len", "is out of range", format!("1 to {MAX_HOLD} bytes")));
    }
    let rules = must_not.into_iter().map(|p| Arc::new(rule(p, max_len))).collect();
    let tell = move |rule: &Rule, span: std::ops::Range<usize>, _: &str| {
        let message = format!("the forbidden pattern `{}` occurs", rule.code);
        Note::new(NAME, severity, "forbidden", &message).span(span.start, span.end)
    };
    let must_not = Hunt { rules, tell: Arc::new(tell), max: MAX_TEXT };
    Ok(Arc::new(Patterns { severity, must, must_not }))
}

fn rule(pattern: Pattern, max_len: Option<usize>) -> Rule {
    // What a `$` or `\b` at the end of an endless match means is known only at the end of the text.
    let given = max_len.filter(|_| !pattern.looks());
    let longest = pattern.longest().or(given).unwrap_or(usize::MAX);
    Rule { code: pattern.source().to_owned(), pattern, longest, accept: Box::new(|_, span| Some(span)) }
}

fn compile(params: &Params<'_>, key: &str) -> Result<Vec<Pattern>, Problem> {
    let sources = params.strings(key)?;
    if sources.len() > MAX_PATTERNS {
        return Err(Problem::new(
            key,
            format!("{} patterns", sources.len()),
            format!("at most {MAX_PATTERNS}"),
        ));
    }
    sources
        .into_iter()
        .map(|source| {
            if source.len() > MAX_PATTERN {
                let found = format!("the pattern has {} bytes", source.len());
                return Err(Problem::new(key, found, format!("at most {MAX_PATTERN}")));
            }
            Pattern::new(source).map_err(|why| {
                Problem::new(
                    key,
                    format!("`{source}` is not a pattern: {why}"),
                    "a regular expression without look-around and back-references",
                )
            })
        })
        .collect()
}

impl Patterns {
    fn missing(&self, input: &Input<'_>) -> Result<Vec<Finding>, String> {
        let choices = &input.completion.choices;
        let mut findings = Vec::new();
        for (position, choice) in choices.iter().enumerate() {
            if choice.text.len() > MAX_TEXT {
                return Err(format!("the text is longer than {MAX_TEXT} bytes"));
            }
            for pattern in &self.must {
                if pattern.find_at(&choice.text, 0).map_err(|TooSlow| TOO_SLOW)?.is_none() {
                    let message = "a required pattern does not occur";
                    let note = Note::new(NAME, self.severity, "missing", message).expected(pattern.source());
                    findings.push(note.choice(position, choices.len()).into_finding());
                }
            }
        }
        Ok(findings)
    }
}

impl Check for Patterns {
    fn about(&self) -> About {
        About::structural(NAME, self.severity)
    }

    fn promise(&self, _: &ChatRequest) -> Promise {
        match self.must_not.promise() {
            Promise::Window(_) if self.must_not.rules.is_empty() => Promise::End,
            Promise::Window(_) if !self.must.is_empty() => Promise::Early,
            promise => promise,
        }
    }

    fn open(&self, request: &ChatRequest) -> Option<Box<dyn Growing>> {
        match self.promise(request) {
            Promise::End => None,
            Promise::Early => Some(Box::new(Held(self.must_not.open()))),
            _ => Some(self.must_not.open()),
        }
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let found = self.missing(input).and_then(|mut missing| {
            missing.extend(self.must_not.findings(input)?);
            Ok(missing)
        });
        found.map_or_else(unverified, decided)
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use crate::scan::testing::window;
    use crate::testing::*;
    use crate::{Promise, Watch, build};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn check(text: &str, with: Value, want: &[&str]) {
        assert_eq!(codes("regex", &with, &request(json!({})), &answer(text)), want, "{text:?} {with}");
    }

    #[test]
    fn patterns_must_and_must_not_occur() {
        check("order A-17", json!({"must": "[A-Z]-\\d+"}), &[]);
        check("order", json!({"must": ["[A-Z]-\\d+", "order"]}), &["missing"]);
        check("call 555", json!({"must_not": "\\d{3}"}), &["forbidden"]);
        check("call", json!({"must_not": ["\\d"], "must": "x"}), &["missing"]);
        check(&"a".repeat(1_048_577), json!({"must": "a"}), &["unverified"]);
    }

    #[test]
    fn bad_patterns_are_refused() {
        assert_eq!(refused("regex", &json!({"must": "("})).field, "must");
        assert_eq!(refused("regex", &json!({"must": "(?=a)"})).field, "must");
        assert_eq!(refused("regex", &json!({"must_not": "a{1000}{1000}{1000}"})).field, "must_not");
        assert_eq!(refused("regex", &json!({"must": "a".repeat(1025)})).field, "must");
        assert_eq!(refused("regex", &json!({"must": 1})).field, "must");
        assert_eq!(refused("regex", &Value::Null).message, "no pattern is given");
        assert_eq!(refused("regex", &json!({"must": "a", "max_len": 0})).field, "max_len");
    }

    #[test]
    fn the_promise_follows_from_the_patterns() {
        let check = |with: Value, want: Promise| {
            let r = request(json!({}));
            let check = build("regex", &with, None).unwrap();
            assert_eq!(check.promise(&r), want, "{with}");
            assert_eq!(check.open(&r).is_some(), want != Promise::End, "{with}");
        };
        check(json!({"must_not": "a{2,9}"}), Promise::Window(16));
        check(json!({"must_not": "\\bab\\b$"}), Promise::Window(9));
        check(json!({"must_not": "\\d+"}), Promise::End);
        check(json!({"must_not": "\\d+", "max_len": 20}), Promise::Window(27));
        check(json!({"must_not": "a.*b$", "max_len": 20}), Promise::End);
        check(json!({"must": "a"}), Promise::End);
        check(json!({"must": "a", "must_not": "b"}), Promise::Early);
    }

    #[test]
    fn endless_matches_are_held_for_as_long_as_asked() {
        let with = json!({"must_not": "<[^>]*>", "max_len": 8});
        let check = build("regex", &with, None).unwrap();
        let r = request(json!({}));
        let mut watch = Watch::open(std::slice::from_ref(&check), &r);
        assert!(watch.push("a < b").is_none());
        assert_eq!(watch.safe_up_to(), 2);
        assert!(watch.push(" and some more").is_none());
        assert_eq!(watch.safe_up_to(), 19);
        assert!(watch.push("<i").is_none());
        assert_eq!(watch.safe_up_to(), 19);
        assert!(watch.push(">").is_none() && watch.push("xy").is_some());
    }

    #[test]
    fn no_split_of_a_text_releases_a_forbidden_pattern() {
        // Every way of cutting these texts, each bit a cut.
        for (source, text) in [
            ("ab{1,3}c", "xabbbcxabx"),
            ("(?m)^b{1,4}$|é", "abb\nbbaéa"),
            ("\\bkey-\\d{2}\\b", " key-1 key-12"),
        ] {
            let with = json!({"must_not": source, "max_len": 8});
            let check = build("regex", &with, None).unwrap();
            for cuts in 0_u32..1 << (text.len() - 1) {
                let mut pieces = vec![1];
                for i in 0..text.len() - 1 {
                    match (cuts >> i & 1, pieces.last_mut()) {
                        (0, Some(last)) => *last += 1,
                        _ => pieces.push(1),
                    }
                }
                window(&check, text, &pieces);
            }
        }
    }

    proptest! {
        #[test]
        fn no_byte_of_a_forbidden_pattern_is_released(
            text in "[abé \n]{0,40}", pieces in proptest::collection::vec(1_usize..9, 1..6), which in 0_usize..12,
        ) {
            let sources = ["ab", "a{2,4}b", "\\bab\\b", "(?m)^a.{0,3}$", "é|bb", "\\Aa", "ba\\z", "a\\b", "(?i)É.A",
                "a\\s{1,3}b", "(?-u:\\b)b{3}", "a[^b]{0,5}b$"];
            let check = build("regex", &json!({"must_not": sources[which]}), None).unwrap();
            window(&check, &text, &pieces);
        }

        #[test]
        fn endless_patterns_without_places_are_held_as_well(
            text in "[ab<> ]{0,60}", pieces in proptest::collection::vec(1_usize..9, 1..6), which in 0_usize..3,
        ) {
            // No match is longer than the text, so `max_len` is the longest match here.
            let source = ["a+b", "<[^>]*>", "b(?: a)*b"][which];
            let with = json!({"must_not": source, "max_len": 60});
            window(&build("regex", &with, None).unwrap(), &text, &pieces);
        }
    }
}
