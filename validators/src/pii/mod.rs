//! `pii`: personal data that is recognised by its form.
//!
//! Names have no form, and postal addresses one that too much else has: neither is found.

use crate::finding::Note;
use crate::params::{Params, Problem};
use crate::scan::{Hunt, Rule};
use crate::{About, Check, Entry, Growing, Input, Kind, Promise, fix};
use serde_json::Value;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use types::run::Severity;
use types::{ChatRequest, Report};

mod entity;
mod numbers;

pub use entity::Entity;
pub(crate) use entity::Whose;

const NAME: &str = "pii";

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "no e-mail addresses, telephone, account, card, social security and passport numbers, internet addresses",
    kind: Kind::Semantic,
    stream: "window",
    severity: Severity::Block,
    build,
};

/// The rules of each kind.
type Kinds = Vec<(Entity, Vec<Arc<Rule>>)>;

/// Those of the check, compiled once.
static RULES: LazyLock<Kinds> = LazyLock::new(|| every(Whose::Somebody));

/// The rules of every kind, newly compiled.
pub(crate) fn every(whose: Whose) -> Kinds {
    Entity::ALL.iter().map(|(_, e)| (*e, e.rules(whose).into_iter().map(Arc::new).collect())).collect()
}

/// The rules of these kinds.
pub(crate) fn rules(entities: &[Entity]) -> Arc<[Arc<Rule>]> {
    let wanted = RULES.iter().filter(|(e, _)| entities.contains(e));
    wanted.flat_map(|(_, rules)| rules.iter().cloned()).collect()
}

#[derive(Debug)]
struct Pii {
    severity: Severity,
    entities: Vec<Entity>,
    mask: bool,
    hunt: Hunt,
}

/// Parameters: `entities`, which kinds count (default: all); `action`: `block` (default), or `mask`, where
/// local repair puts placeholders such as `[EMAIL_1]` in their place.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["entities", "action"])?;
    let mask = params.word("action", &["mask", "block"])? == Some("mask");
    let entities = entities(&params)?;
    let tell = move |rule: &Rule, span: Range<usize>, _: &str| {
        let words = Entity::parse(&rule.code).map_or("personal data", Entity::words);
        // The data itself is told to nobody: findings are recorded and sent to models.
        Note::new(NAME, severity, &rule.code, &format!("{words} occurs"))
            .span(span.start, span.end)
            .hint("leave personal data out, or put a placeholder in its place")
    };
    let hunt = Hunt { rules: rules(&entities), tell: Arc::new(tell), max: usize::MAX };
    Ok(Arc::new(Pii { severity, entities, mask, hunt }))
}

fn entities(params: &Params<'_>) -> Result<Vec<Entity>, Problem> {
    let names = || Entity::ALL.iter().map(|(n, _)| *n);
    let expected = || format!("at least one of {}", names().collect::<Vec<_>>().join(", "));
    if params.get("entities").is_none() {
        return Ok(Entity::ALL.iter().map(|(_, e)| *e).collect());
    }
    let given = params.strings("entities")?;
    if given.is_empty() {
        return Err(Problem::new("entities", "is empty", expected()));
    }
    let known = given.into_iter().map(|name| {
        Entity::parse(name).ok_or_else(|| {
            let near = types::diagnostic::suggestion(name, names());
            Problem::new("entities", format!("`{name}` is not known; {near}"), expected())
        })
    });
    known.collect()
}

impl Check for Pii {
    fn about(&self) -> About {
        About::semantic(NAME, self.severity)
    }

    fn promise(&self, _: &ChatRequest) -> Promise {
        self.hunt.promise()
    }

    fn open(&self, _: &ChatRequest) -> Option<Box<dyn Growing>> {
        Some(self.hunt.open())
    }

    fn mend(&self, text: &str) -> Option<String> {
        let masked = self.mask.then(|| fix::mask(text, &self.entities))?;
        (!masked.places.is_empty()).then_some(masked.text)
    }

    fn check(&self, input: &Input<'_>) -> Report {
        self.hunt.report(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::testing::window;
    use crate::testing::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(text: &str, want: &[&str]) {
        assert_eq!(codes(NAME, &Value::Null, &request(json!({})), &answer(text)), want, "{text:?}");
    }

    #[test]
    fn the_rules_compile_and_are_bounded() {
        for (entity, rules) in RULES.iter().chain(&every(Whose::Anybody)) {
            assert!(!rules.is_empty(), "{entity:?}");
            assert!(rules.iter().all(|r| r.longest < 2_048), "{entity:?}");
        }
    }

    #[test]
    fn personal_data_is_found() {
        check("Write to ada.lovelace+x@analytical.co.uk.", &["email"]);
        check("(grace@navy.mil)", &["email"]);
        for address in
            ["jörg.maier@gmail.com", "max.müller@acme-corp.de", "max@müller-bau.de", "иван@почта.рф"]
        {
            check(&format!("mail: {address}."), &["email"]);
        }
        check("jose\u{301}@gmail.com", &["email"]);
        check("联系me@gmail.com的", &["email"]);
        check("call +49 30 1234567 now", &["phone"]);
        check("+1 (415) 265-3921", &["phone"]);
        check("0049 171 2345678", &["phone"]);
        check("(415) 265-3921 or 415-265-3921", &["phone", "phone"]);
        check("Tel. 030 12345678", &["phone"]);
        check("01 42 68 53 00", &["phone"]);
        check("DE89 3704 0044 0532 0130 00 AND MORE", &["iban"]);
        check("GB29NWBK60161331926819", &["iban"]);
        check("4111 1111 1111 1111, 12/27", &["credit_card"]);
        check("card 4111111111111111 12", &["credit_card"]);
        check("3782-822463-10005", &["credit_card"]);
        check("SSN 123-45-6789.", &["ssn"]);
        check("from 93.184.216.34:8080.", &["ip"]);
        check("2a00:1450:4001:81b::200e", &["ip"]);
        check("Passport number: C01X00T47", &["passport"]);
        check("Reisepassnummer C01X00T47", &["passport"]);
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        for text in [
            "",
            "user@example.com, me@host.test and icon@2x.png",
            "It was 2024-05-17 12:30:45, or 05.12.2024.",
            "127.0.0.1, 192.168.0.10, 203.0.113.9, 1.2.3",
            "version 12.4.1.300 and v1.2.3.4",
            "4111 1111 1111 1112",
            "order 1234567812345678",
            "DE89 3704 0044 0532 0130 01",
            "000-12-3456 and 555-0123 and (212) 555-0100",
            "pi is 3.14159265358979, e is 2.718281828459045",
            "1 000 000 000 people, 10,000,000 more",
            "f47ac10b-58cc-4372-a567-0e02b2c3d479",
            "ISBN 978-3-16-148410-0",
            "passport control closes at 10:00",
            "0.4111111111111111",
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn findings_never_quote_the_data() {
        let c = answer("ada@lovelace.org");
        let r = request(json!({}));
        let report = crate::build(NAME, &Value::Null, None).unwrap().check(&Input::new(&c, &r));
        let text = serde_json::to_string(&report).unwrap();
        assert!(!text.contains("lovelace"), "{text}");
        assert_eq!(report.findings[0].span, Some((0, 16)));
        assert_eq!(report.findings[0].severity, Severity::Block);
    }

    #[test]
    fn kinds_and_actions_are_chosen() {
        let r = request(json!({}));
        let c = answer("ada@lovelace.org, 123-45-6789");
        assert_eq!(codes(NAME, &json!({"entities": "ssn"}), &r, &c), ["ssn"]);
        assert_eq!(refused(NAME, &json!({"entities": ["emial"]})).field, "entities");
        assert!(refused(NAME, &json!({"entities": "emial"})).message.contains("did you mean `email`"));
        assert_eq!(refused(NAME, &json!({"entities": []})).field, "entities");
        assert_eq!(refused(NAME, &json!({"action": "hide"})).field, "action");
        let build = |with| crate::build(NAME, &with, None).unwrap();
        assert_eq!(build(json!({})).mend("ada@lovelace.org"), None);
        let masking = build(json!({"action": "mask", "entities": ["email"]}));
        assert_eq!(masking.mend("to ada@lovelace.org!").as_deref(), Some("to [EMAIL_1]!"));
        assert_eq!(masking.mend("123-45-6789"), None);
    }

    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-zé0-9 .,:@+()-]{0,12}",
            Just("ada@lovelace.org".to_owned()),
            Just("+49 30 1234567".to_owned()),
            Just("4111 1111 1111 1111".to_owned()),
            Just("DE89 3704 0044 0532 0130 00".to_owned()),
            Just("123-45-6789".to_owned()),
            Just("93.184.216.34".to_owned()),
            Just("2a00:1450:4001:81b::200e".to_owned()),
            Just("Passport No. C01X00T47".to_owned()),
            Just(" ".to_owned()),
        ];
        proptest::collection::vec(piece, 0..6).prop_map(|l| l.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

        #[test]
        fn no_byte_of_personal_data_is_released(
            text in texts(), pieces in proptest::collection::vec(1_usize..20, 1..6),
        ) {
            window(&crate::build(NAME, &Value::Null, None).unwrap(), &text, &pieces);
        }
    }
}
