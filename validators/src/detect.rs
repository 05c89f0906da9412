//! Where values of some kinds stand in a text, for rooms that mask them: the rules of the checks `pii` and `secrets`,
//! without the exceptions that those make.

use crate::pattern::Pattern;
use crate::scan::{self, Rule};
use crate::secrets;
use crate::{address, injection, named, pii};
use std::sync::{Arc, OnceLock};
use types::privacy::{Detector, Entity, Found};

/// What closes a private key.
const KEY_END: &str = "-----END";
/// Most bytes of a private key.
const MAX_KEY: usize = 16 * 1024;

/// Longest match of an operator's pattern, in bytes: streams hold so much back.
const MAX_CUSTOM: usize = 1024;

/// A rule, and what it finds.
type OfKind = (Entity, Arc<Rule>);

/// Finds values by the rules of this crate, and by these of the operator.
struct Rules(Vec<OfKind>);

static HOUSE: OnceLock<Vec<OfKind>> = OnceLock::new();

/// The rules of this crate.
fn house() -> &'static [OfKind] {
    HOUSE.get_or_init(|| {
        let personal = pii::every(pii::Whose::Anybody).into_iter();
        let personal = personal.flat_map(|(kind, rules)| rules.into_iter().map(move |r| (entity(kind), r)));
        let secrets = secrets::rules().iter().map(|r| (Entity::Secret, Arc::clone(r)));
        let named = named::rules().into_iter().map(|(kind, rule)| (kind, Arc::new(rule)));
        let addresses = address::rules().into_iter().map(|(kind, rule)| (kind, Arc::new(rule)));
        personal.chain(secrets).chain(named).chain(addresses).collect()
    })
}

impl Rules {
    fn every(&self) -> impl Iterator<Item = &OfKind> {
        house().iter().chain(&self.0)
    }
}

/// The detector of this house.
#[must_use]
pub fn detector() -> Arc<dyn Detector> {
    Arc::new(Rules(Vec::new()))
}

/// The detector of this house, and what these patterns describe: each by its kind.
///
/// # Errors
/// What is wrong with a pattern, and what would be right; see [`check_pattern`].
pub fn detector_with(patterns: &[(Entity, &str)]) -> Result<Arc<dyn Detector>, (String, String)> {
    let own = patterns.iter().map(|(entity, source)| custom(source).map(|rule| (*entity, Arc::new(rule))));
    Ok(Arc::new(Rules(own.collect::<Result<_, _>>()?)))
}

/// The rule of an operator's pattern.
///
/// # Errors
/// It is no regular expression, too large, without bound, or matches where nothing is: what was found, and what was
/// expected.
pub fn check_pattern(source: &str) -> Result<(), (String, String)> {
    custom(source).map(|_| ())
}

fn custom(source: &str) -> Result<Rule, (String, String)> {
    let pattern = Pattern::own(source).map_err(|why| {
        let expected =
            "a regular expression without look-around and back-references, up to 1 MiB when compiled";
        (format!("it is not a pattern: {why}"), expected.to_owned())
    })?;
    let bounded =
        || format!("a pattern whose matches have 1 to {MAX_CUSTOM} bytes: `{{1,64}}` in the place of `+`");
    let longest = match pattern.longest() {
        None => return Err(("its matches have no greatest length".to_owned(), bounded())),
        Some(longest) if longest > MAX_CUSTOM => {
            return Err((format!("its matches have up to {longest} bytes"), bounded()));
        }
        Some(longest) => longest,
    };
    if pattern.may_be_empty() {
        return Err(("it matches where nothing stands".to_owned(), bounded()));
    }
    Ok(Rule { code: source.to_owned(), pattern, longest, accept: Box::new(|_, span| Some(span)) })
}

/// Whether the patterns are compiled, which the first look does and which takes tens of milliseconds.
#[must_use]
pub fn is_ready() -> bool {
    HOUSE.get().is_some()
}

const fn entity(kind: pii::Entity) -> Entity {
    match kind {
        pii::Entity::Email => Entity::Email,
        pii::Entity::Phone => Entity::Phone,
        pii::Entity::Iban => Entity::Iban,
        pii::Entity::CreditCard => Entity::Card,
        pii::Entity::Ssn => Entity::NationalId,
        pii::Entity::Ip => Entity::Ip,
        pii::Entity::Passport => Entity::Passport,
    }
}

impl Detector for Rules {
    fn find(&self, text: &str, kinds: &[Entity]) -> Vec<Found> {
        let wanted: Vec<&OfKind> = self.every().filter(|(e, _)| kinds.contains(e)).collect();
        let rules: Vec<&Rule> = wanted.iter().map(|(_, r)| &**r).collect();
        // The patterns of this house are searched to the end.
        let hits = scan::all(&rules, text, usize::MAX).unwrap_or_default();
        let mut found: Vec<Found> = Vec::with_capacity(hits.len());
        for hit in hits {
            let Some((entity, rule)) = wanted.get(hit.rule) else { continue };
            let mut span = hit.span;
            if rule.code == "private_key" {
                span.end = key_end(text, span.end);
            }
            match found.last_mut() {
                // Where hits overlap, the first takes its place and the rest of the other one goes with it.
                Some(last) if last.span.end > span.start => last.span.end = last.span.end.max(span.end),
                _ => found.push(Found { entity: *entity, span }),
            }
        }
        found
    }

    fn injection(&self, text: &str) -> f64 {
        injection::score(text)
    }

    fn reach(&self, kinds: &[Entity]) -> usize {
        // The characters before a match and behind it are looked at, too.
        const AROUND: usize = 16;
        let wanted = self.every().filter(|(e, _)| kinds.contains(e));
        wanted.map(|(_, r)| r.longest).max().unwrap_or(0).saturating_add(AROUND)
    }

    fn custom(&self) -> Vec<Entity> {
        self.0.iter().map(|(e, _)| *e).filter(|e| matches!(e, Entity::Custom(_))).collect()
    }
}

/// Where a private key ends that is opened before `from`.
fn key_end(text: &str, from: usize) -> usize {
    let most = from.saturating_add(MAX_KEY).min(text.len());
    let most = (from..=most).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(from);
    let rest = text.get(from..most).unwrap_or("");
    let Some(end) = rest.find(KEY_END) else { return most };
    let line = rest.get(end..).and_then(|r| r.find('\n')).unwrap_or(rest.len().saturating_sub(end));
    from.saturating_add(end).saturating_add(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[(&str, &str)]) {
        let found = detector().find(text, &Entity::ALL);
        let got: Vec<_> = found.iter().map(|f| (f.entity.as_str(), &text[f.span.clone()])).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn values_are_found_with_their_kinds() {
        check(
            "ada@analytical.co.uk, 4111 1111 1111 1111 and DE89 3704 0044 0532 0130 00",
            &[
                ("email", "ada@analytical.co.uk"),
                ("card", "4111 1111 1111 1111"),
                ("iban", "DE89 3704 0044 0532 0130 00"),
            ],
        );
        check("nothing of the kind", &[]);
    }

    /// A check may pass over what belongs to nobody; what leaves the house may not hold it.
    #[test]
    fn values_for_examples_and_of_networks_of_ones_own_are_found_too() {
        for (text, kind, value) in [
            ("write to bob@example.com.", "email", "bob@example.com"),
            ("-bob@mail.test_", "email", "bob@mail.test"),
            ("at 10.1.2.3, say", "ip", "10.1.2.3"),
            ("host_192.168.0.10-a", "ip", "192.168.0.10"),
            ("ask 8.8.8.8:53", "ip", "8.8.8.8"),
            ("127.0.0.1", "ip", "127.0.0.1"),
            ("203.0.113.7", "ip", "203.0.113.7"),
            ("from fe80::1: hello", "ip", "fe80::1"),
            ("[2001:db8::1]:80", "ip", "2001:db8::1"),
            ("on ::1 only", "ip", "::1"),
            ("(212) 555-0100", "phone", "(212) 555-0100"),
            ("078-05-1120", "national_id", "078-05-1120"),
        ] {
            check(text, &[(kind, value)]);
        }
        for text in [
            "icon@2x.png",
            "at 12:30:45 or 12:30",
            "std::vec::Vec, a :: b, x::",
            "v1.2.3.4",
            "256.1.1.1",
            "1.2.3",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn a_private_key_is_found_whole() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ\n-----END PRIVATE KEY-----";
        check(&format!("before {key}\nafter"), &[("secret", key)]);
    }

    #[test]
    fn an_operators_patterns_are_found_like_the_houses() {
        let badge = Entity::parse("custom:badge").unwrap();
        let detector = detector_with(&[(badge, r"\bB-[0-9]{6}\b")]).unwrap();
        let find = |text: &str, kinds: &[Entity]| -> Vec<(Entity, String)> {
            detector.find(text, kinds).into_iter().map(|f| (f.entity, text[f.span].to_owned())).collect()
        };
        let text = "badge B-123456 of ada@analytical.co.uk, not B-1234567";
        assert_eq!(find(text, &[badge]), [(badge, "B-123456".to_owned())]);
        assert_eq!(find(text, &[badge, Entity::Email]).len(), 2);
        assert_eq!(find(text, &Entity::ALL).len(), 1);
        assert_eq!((detector.custom(), detector.reach(&[badge])), (vec![badge], 24));
        for (wrong, part) in [
            ("B-[0-9", "not a pattern"),
            ("(?=x)y", "not a pattern"),
            (r"(\pL{50}){50}", "not a pattern"),
            (r"B-\d+", "no greatest length"),
            (".{0,2000}x", "bytes"),
            ("x{0,5}", "nothing stands"),
            (r"\b", "nothing stands"),
        ] {
            let (found, _) = check_pattern(wrong).unwrap_err();
            assert!(found.contains(part), "{wrong}: {found}");
        }
    }

    #[test]
    fn only_the_wanted_kinds_are_found() {
        let text = "ada@analytical.co.uk, 4111 1111 1111 1111";
        assert_eq!(detector().find(text, &[Entity::Card]).len(), 1);
        assert!(detector().reach(&[Entity::Email]) < detector().reach(&Entity::ALL));
    }
}
