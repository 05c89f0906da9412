//! Reading settings from the file and from the environment, with every problem at its place.

use super::keys::{KEYS, Slot, groups, siblings, slot};
use super::{GIB, KIB, MIB, Net, Origin, PREFIX, PublicKey, Server, address};
use crate::control::tripwire::TripwireAction;
use std::ops::RangeInclusive;
use std::time::Duration;
use types::doc::{Node, Reader, SourceFile, Value};
use types::options::Mode;
use types::{Diagnostic, diagnostic};

/// Takes a file's settings over what stands; gives every problem.
pub fn apply_file(server: &mut Server, file: &SourceFile) -> Vec<Diagnostic> {
    let (node, told) = types::doc::parse_to_check(file, PREFIX);
    let mut r = Reader::new(file, PREFIX);
    r.problems = told;
    let Some(node) = node else { return r.problems };
    let Some(members) = r.map(&node, "the file") else { return r.problems };
    for (key, value) in members {
        let name = key.name.as_str();
        if name == "version" {
            r.integer(value, "version", 1, 1);
        } else if groups().contains(&name) {
            for (inner, value) in r.map(value, name).unwrap_or_default() {
                apply(server, &mut r, &format!("{name}.{}", inner.name), inner.span, value);
            }
        } else if !name.starts_with("x-") {
            apply(server, &mut r, name, key.span, value);
        }
    }
    r.problems
}

/// Takes settings from the environment (`name`, `value`) over what stands; gives every problem.
pub fn apply_environment(server: &mut Server, variables: &[(String, String)]) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix("TURNOUT_") else { continue };
        if OTHERS.contains(&rest) {
            continue;
        }
        let file = SourceFile::new(format!("environment variable {name}"), text.as_str());
        let key = rest.to_lowercase().replace("__", ".");
        let mut r = Reader::new(&file, PREFIX);
        match types::doc::parse(&file, PREFIX) {
            Ok(node) if known(&key) => apply(server, &mut r, &key, node.span, &node),
            // Not ours for certain: another version's, or another program's.
            Ok(node) => {
                let d = r.warning("101", node.span, format!("{name} sets nothing"));
                d.hint = Some(diagnostic::suggestion(&key, KEYS.iter().copied()));
            }
            Err(problem) => problems.push(*problem),
        }
        problems.append(&mut r.problems);
    }
    problems
}

/// `TURNOUT_*` variables that are no settings of this file.
const OTHERS: &[&str] = &[
    "LOG",
    "LOG_FORMAT",
    "CONFIG",
    "WEBHOOK_SECRET",
    "MASTER_KEY",
    "MASTER_KEY_FILE",
    "MASTER_KEY_OLD",
    "MASTER_KEY_OLD_FILE",
    "ADMIN_KEY",
    "API_KEY",
];

fn known(key: &str) -> bool {
    KEYS.contains(&key)
}

/// What was probably meant by a key that there is not: one of that name in another section, whose lines are not indented
/// or stand under the wrong one, or else the nearest beside it.
fn hint(key: &str) -> String {
    let bare = key.rsplit('.').next().unwrap_or(key);
    let elsewhere = KEYS.iter().copied().filter(|k| k.rsplit_once('.').is_some_and(|(_, own)| own == bare));
    match elsewhere.collect::<Vec<_>>().as_slice() {
        [] => diagnostic::suggestion(key, siblings(key).iter().copied()),
        full => format!("did you mean `{}`? Keys of a section stand under it, indented", full.join("` or `")),
    }
}

fn apply(server: &mut Server, r: &mut Reader<'_>, key: &str, at: types::doc::Span, node: &Node) {
    let Some(slot) = slot(server, key) else {
        let d = r.error("101", at, format!("unknown key `{key}`"));
        d.field = key.to_owned();
        d.hint = Some(hint(key));
        return;
    };
    match slot {
        Slot::Time(place, range) => set(r, node, key, place, &range, |r| r.duration(node, key), show_time),
        Slot::Bytes(place, range) => {
            let read = |r: &mut Reader<'_>| r.bytes(node, key).and_then(|b| usize::try_from(b).ok());
            set(r, node, key, place, &range, read, show_bytes);
        }
        Slot::Count(place, range) => {
            let (lo, hi) = (as_i64(*range.start()), as_i64(*range.end()));
            if let Some(n) = r.integer(node, key, lo, hi).and_then(|n| usize::try_from(n).ok()) {
                *place = n;
            }
        }
        Slot::Whole(place, range) => {
            let n = r.integer(node, key, i64::from(*range.start()), i64::from(*range.end()));
            if let Some(n) = n.and_then(|n| u32::try_from(n).ok()) {
                *place = n;
            }
        }
        Slot::Share(place) => {
            if let Some(x) = r.number(node, key, 0.01, 1.0) {
                *place = x;
            }
        }
        Slot::Dollars(place, range) => {
            if let Some(x) = r.number(node, key, *range.start(), *range.end()) {
                *place = x;
            }
        }
        Slot::Flag(place) => {
            if let Some(b) = r.boolean(node, key) {
                *place = b;
            }
        }
        Slot::Seed(place) => {
            let n = r.integer(node, key, 0, i64::MAX).and_then(|n| u64::try_from(n).ok());
            if n.is_some() {
                *place = n;
            }
        }
        Slot::Mode(place) => {
            if let Some(m) = r.one_of(node, key, MODES).and_then(mode) {
                *place = m;
            }
        }
        Slot::Tripwire(place) => {
            if let Some(a) = r.one_of(node, key, TripwireAction::NAMES).and_then(TripwireAction::parse) {
                *place = a;
            }
        }
        Slot::Address(place) => listen(r, node, key, place, false),
        Slot::Loopback(place) => listen(r, node, key, place, true),
        Slot::Text(place) => {
            if let Some(t) = plain(r, node, key) {
                *place = Some(t);
            }
        }
        Slot::Texts(place) => {
            let Some(list) = r.list(node, key) else { return };
            let texts: Option<Vec<String>> = list.iter().map(|n| r.string(n, key)).collect();
            if let Some(texts) = texts {
                *place = texts;
            }
        }
        Slot::Nets(place) => {
            let Some(list) = r.list(node, key) else { return };
            let nets: Option<Vec<Net>> = list.iter().map(|n| net(r, n, key)).collect();
            if let Some(nets) = nets {
                *place = nets;
            }
        }
        Slot::Origins(place) => {
            let Some(list) = r.list(node, key) else { return };
            let origins: Option<Vec<Origin>> = list.iter().map(|n| origin(r, n, key)).collect();
            if let Some(origins) = origins {
                *place = origins;
            }
        }
        Slot::PublicKeys(place) => {
            let Some(list) = r.list(node, key) else { return };
            // Of several keys one that cannot be read must not leave the others to decide alone.
            let keys: Option<Vec<PublicKey>> = list.iter().map(|n| public_key(r, n, key)).collect();
            if let Some(keys) = keys {
                *place = keys;
            }
        }
        Slot::Headers(place) => {
            let list = r.list(node, key).unwrap_or_default();
            let names = list.iter().filter_map(|n| header(r, n, key)).collect();
            *place = names;
        }
    }
}

/// A text; `data: 7` names a folder all the same.
fn plain(r: &mut Reader<'_>, node: &Node, key: &str) -> Option<String> {
    match &node.value {
        Value::Int(i) => Some(i.to_string()),
        _ => r.string(node, key),
    }
}

/// Where to listen; `loopback` = on this machine alone.
fn listen(r: &mut Reader<'_>, node: &Node, key: &str, place: &mut Option<String>, loopback: bool) {
    if let Some(text) = plain(r, node, key) {
        address::check(r, node, key, &text, loopback);
        *place = Some(text);
    }
}

/// An address or a net.
fn net(r: &mut Reader<'_>, node: &Node, key: &str) -> Option<Net> {
    let text = r.string(node, key)?;
    let net = Net::parse(&text);
    if net.is_none() {
        let d = r.error("104", node.span, format!("`{text}` is no address"));
        d.expected = Some("an address or a net, such as 10.0.0.7, 10.0.0.0/8 or fd00::/8".to_owned());
        key.clone_into(&mut d.field);
    }
    net
}

/// Where pages come from.
fn origin(r: &mut Reader<'_>, node: &Node, key: &str) -> Option<Origin> {
    let text = r.string(node, key)?;
    let origin = Origin::parse(&text);
    if origin.is_none() {
        let d = r.error("104", node.span, format!("`{text}` is no origin"));
        d.expected = Some(Origin::EXPECTED.to_owned());
        key.clone_into(&mut d.field);
    }
    origin
}

/// A public key.
fn public_key(r: &mut Reader<'_>, node: &Node, key: &str) -> Option<PublicKey> {
    let text = r.string(node, key)?;
    let parsed = PublicKey::parse(&text);
    if parsed.is_none() {
        let d = r.error("104", node.span, format!("`{text}` is no public key"));
        d.expected = Some("64 hexadecimal digits, as `turnout bundle keygen` tells them".to_owned());
        key.clone_into(&mut d.field);
    }
    parsed
}

/// Parts of the names of headers that hold credentials.
const CREDENTIALS: &[&str] = &[
    "auth",
    "cookie",
    "token",
    "secret",
    "password",
    "passwd",
    "credential",
    "apikey",
    "api-key",
    "api_key",
    "session",
];

/// The name of a header that policies may read: none that holds a credential, for what policies read is put on record.
fn header(r: &mut Reader<'_>, node: &Node, key: &str) -> Option<String> {
    let name = r.string(node, key)?.to_ascii_lowercase();
    let why = if http::HeaderName::try_from(&name).is_err() {
        "is no name of a header"
    } else if CREDENTIALS.iter().any(|part| name.contains(part)) || name.split(['-', '_']).any(|p| p == "key")
    {
        "is the name of a header that holds a credential; policies are never told those"
    } else {
        return Some(name);
    };
    r.error("104", node.span, format!("`{name}` {why}")).field = key.to_owned();
    None
}

/// The strings of `mode`.
pub const MODES: &[&str] = &["free", "paid", "auto"];

/// The mode of that name.
#[must_use]
pub fn mode(name: &str) -> Option<Mode> {
    Some(match name {
        "free" => Mode::Free,
        "paid" => Mode::Paid,
        "auto" => Mode::Auto,
        _ => return None,
    })
}

fn as_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn set<T: PartialOrd + Copy>(
    r: &mut Reader<'_>,
    node: &Node,
    key: &str,
    place: &mut T,
    range: &RangeInclusive<T>,
    read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
    show: impl Fn(T) -> String,
) {
    let Some(value) = read(r) else { return };
    if range.contains(&value) {
        *place = value;
        return;
    }
    let d = r.error("104", node.span, format!("`{key}` is {}", show(value)));
    d.expected = Some(format!("{} to {}", show(*range.start()), show(*range.end())));
    d.field = key.to_owned();
}

/// A time in the largest unit of which it is a whole number.
pub(super) fn show_time(d: Duration) -> String {
    let (s, ms) = (d.as_secs(), d.as_millis());
    let whole = |unit: u64| d.subsec_millis() == 0 && s > 0 && s.is_multiple_of(unit);
    match () {
        () if whole(86_400) => format!("{}d", s / 86_400),
        () if whole(3_600) => format!("{}h", s / 3_600),
        () if whole(60) => format!("{}m", s / 60),
        () if whole(1) || ms == 0 => format!("{s}s"),
        () => format!("{ms}ms"),
    }
}

/// Bytes in the largest unit of which they are a whole number.
pub(super) fn show_bytes(n: usize) -> String {
    let whole = |unit: usize| n >= unit && n.is_multiple_of(unit);
    match () {
        () if whole(GIB) => format!("{}GiB", n / GIB),
        () if whole(MIB) => format!("{}MiB", n / MIB),
        () if whole(KIB) => format!("{}KiB", n / KIB),
        () => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::secs;
    use super::*;

    fn check(text: &str, want: &[(&str, usize, usize)]) -> Server {
        let mut server = Server::default();
        let file = SourceFile::new("turnout.yaml", text);
        let got = apply_file(&mut server, &file);
        let got: Vec<_> = got.iter().map(|d| (d.code.as_str(), d.line, d.column)).collect();
        assert_eq!(got, want, "{text}");
        server
    }

    #[test]
    fn a_file_sets_what_it_names_and_nothing_else() {
        let s = check(
            "listen: 127.0.0.1:9000\nmode: free\nedge:\n  header_timeout: 2s\n  body_bytes: 1MiB\nx-note: mine\n",
            &[],
        );
        assert_eq!(s.listen.as_deref(), Some("127.0.0.1:9000"));
        assert_eq!((s.engine.mode, s.edge.header_timeout, s.edge.body_bytes), (Mode::Free, secs(2), MIB));
        assert_eq!((s.edge.max_headers, s.default_budget), (100, 10.0));
        assert_eq!(check("keys: { default_budget: 2.5 }\n", &[]).default_budget, 2.5);
        check("", &[]);
    }

    #[test]
    fn every_problem_has_its_code_and_place() {
        check("edge: 3\n", &[("TS103", 1, 7)]);
        check("lisen: x\n", &[("TS101", 1, 1)]);
        check("edge:\n  heder_timeout: 2s\n", &[("TS101", 2, 3)]);
        check("edge:\n  header_timeout: 2\n", &[("TS111", 2, 19)]);
        check("edge:\n  header_timeout: 61s\n", &[("TS104", 2, 19)]);
        check("edge:\n  body_bytes: 1GiB\n", &[("TS104", 2, 15)]);
        check("mode: fre\nedge: {max_headers: 101}\n", &[("TS104", 1, 7), ("TS104", 2, 21)]);
        check("retry: {max_attempts: many}\n", &[("TS103", 1, 23)]);
        assert_eq!(check("keys: { tripwire_action: suspend }\n", &[]).tripwire, TripwireAction::Suspend);
        check("keys: { tripwire_action: shout }\n", &[("TS104", 1, 26)]);
        check("keys: { default_budget: 0 }\n", &[("TS104", 1, 25)]);
        check("edge: { trusted_proxies: [10.0.0.0/8, proxy] }\n", &[("TS104", 1, 39)]);
        assert_eq!(
            check("edge: { trusted_proxies: [10.0.0.0/8, \"::1\"] }\n", &[]).edge.trusted_proxies.len(),
            2
        );
        check("keys: { default_budget: much }\n", &[("TS103", 1, 25)]);
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        let signed =
            check(&format!("bundles: {{ require_signature: [{key}], two_person: true }}\n"), &[]).bundles;
        assert_eq!((signed.require_signature.len(), signed.two_person), (1, true));
        check(&format!("bundles: {{ require_signature: [{key}, d75a] }}\n"), &[("TS104", 1, 98)]);
        check("bundles: { require_signature: true }\n", &[("TS103", 1, 31)]);
        check("a: 1\na: 2\n", &[("TS002", 2, 1), ("TS101", 1, 1)]);
        check("version: 2\n", &[("TS104", 1, 10)]);
    }

    /// A section whose lines are not indented, and a key under the wrong one.
    #[test]
    fn a_key_of_another_section_is_told_with_its_section() {
        let mut server = Server::default();
        let file =
            SourceFile::new("turnout.yaml", "edge:\nmax_inflight: 3\nstream: { header_timeout: 2s }\n");
        let told: Vec<_> = apply_file(&mut server, &file).into_iter().filter_map(|d| d.hint).collect();
        assert!(
            told[0].contains("`edge.max_inflight`") && told[1].contains("`edge.header_timeout`"),
            "{told:?}"
        );
    }

    #[test]
    fn policies_are_told_no_credentials() {
        let s = check("policies: { headers: [X-Team, accept-language] }\n", &[]);
        assert_eq!(s.policy_headers, ["x-team", "accept-language"]);
        for name in [
            "Authorization",
            "x-api-key",
            "Cookie",
            "x-goog-api-key",
            "x-auth-request-user",
            "\"a b\"",
            "my-key",
        ] {
            check(&format!("policies: {{ headers: [x-team, {name}] }}\n"), &[("TS104", 1, 31)]);
        }
    }

    #[test]
    fn the_environment_outranks_the_file_and_unknown_names_are_told() {
        let mut s = Server::default();
        let vars = [
            ("TURNOUT_EDGE__HEADER_TIMEOUT", "3s"),
            ("TURNOUT_MODE", "paid"),
            ("TURNOUT_LOG", "debug"),
            ("TURNOUT_EDGE__MAX_HEADER", "3"),
            ("TURNOUT_EDGE__MAX_HEADERS", "many"),
            ("HOME", "/"),
        ];
        let vars: Vec<_> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let problems = apply_environment(&mut s, &vars);
        assert_eq!((s.edge.header_timeout, s.engine.mode), (secs(3), Mode::Paid));
        let got: Vec<_> = problems.iter().map(|d| (d.code.as_str(), d.severity)).collect();
        assert_eq!(got, [("TS101", types::Severity::Warning), ("TS103", types::Severity::Error)]);
        assert!(problems[0].hint.as_deref().is_some_and(|h| h.contains("edge.max_headers")));
    }
}
