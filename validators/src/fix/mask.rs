//! Putting placeholders in the place of personal data, and the data back.

use crate::pii::{Entity, rules};
use crate::scan::{self, Rule};
use std::collections::HashMap;
use std::sync::Arc;

/// A text without the personal data that was found in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masked {
    /// The text with placeholders such as `[EMAIL_1]`. Equal data has equal placeholders.
    pub text: String,
    /// Each placeholder with what it stands for, in the order of the text. To be kept as secret as the data;
    /// dropped, the masking cannot be undone.
    pub places: Vec<(String, String)>,
}

/// Masks personal data of these kinds. The same text gives the same result; a placeholder that the text
/// already holds is not used again, so [`unmask`] restores the text exactly. Masked text holds nothing more
/// of these kinds.
#[must_use]
pub fn mask(text: &str, entities: &[Entity]) -> Masked {
    let rules = rules(entities);
    let mut masked = Masked { text: text.to_owned(), places: Vec::new() };
    let mut next: HashMap<String, usize> = HashMap::new();
    // What stood too close to other data to be told from it stands free once that is masked.
    while let Some(text) = round(&masked.text, &rules, &mut masked.places, &mut next) {
        masked.text = text;
    }
    masked
}

fn round(
    text: &str,
    rules: &[Arc<Rule>],
    places: &mut Vec<(String, String)>,
    next: &mut HashMap<String, usize>,
) -> Option<String> {
    // The patterns of this house are searched to the end.
    let hits = scan::all(rules, text, usize::MAX).ok().filter(|h| !h.is_empty())?;
    let mut known: HashMap<String, String> =
        places.iter().map(|(p, data)| (data.clone(), p.clone())).collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for hit in hits {
        // Where hits overlap, the first takes its place and the rest of the other one is masked as well.
        let from = hit.span.start.max(at);
        let code = rules.get(hit.rule).map_or("", |r| r.code.as_str());
        let (Some(data), Some(between)) = (text.get(from..hit.span.end), text.get(at..from)) else {
            continue;
        };
        if data.is_empty() {
            continue;
        }
        let place = known.entry(data.to_owned()).or_insert_with(|| {
            let place = fresh(text, code, next.entry(code.to_owned()).or_insert(0));
            places.push((place.clone(), data.to_owned()));
            place
        });
        out.push_str(between);
        out.push_str(place);
        at = hit.span.end;
    }
    out.push_str(text.get(at..).unwrap_or(""));
    Some(out)
}

/// A placeholder that the text does not hold.
fn fresh(text: &str, code: &str, number: &mut usize) -> String {
    loop {
        *number = number.saturating_add(1);
        let place = format!("[{}_{number}]", code.to_uppercase());
        if !text.contains(&place) {
            return place;
        }
    }
}

/// Puts the data back. Placeholders that the map does not know stay.
#[must_use]
pub fn unmask(text: &str, places: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let (plain, marked) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(plain);
        let place = places.iter().find(|(p, _)| marked.starts_with(p.as_str()));
        let (data, length) = place.map_or(("[", 1), |(p, data)| (data.as_str(), p.len()));
        out.push_str(data);
        rest = marked.get(length..).unwrap_or("");
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: &[Entity] = &[
        Entity::Email,
        Entity::Phone,
        Entity::Iban,
        Entity::CreditCard,
        Entity::Ssn,
        Entity::Ip,
        Entity::Passport,
    ];

    fn check(text: &str, want: &str) {
        let masked = mask(text, ALL);
        assert_eq!(masked.text, want);
        assert_eq!(unmask(&masked.text, &masked.places), text);
    }

    #[test]
    fn data_gives_way_to_placeholders_and_comes_back() {
        check("nothing here", "nothing here");
        check("a@b.de, c@d.de and a@b.de", "[EMAIL_1], [EMAIL_2] and [EMAIL_1]");
        check("[EMAIL_1] is a@b.de", "[EMAIL_1] is [EMAIL_2]");
        check("4111 1111 1111 1111 or +49 30 1234567.", "[CREDIT_CARD_1] or [PHONE_1].");
        check("Passport number C01X00T47", "Passport number [PASSPORT_1]");
        assert_eq!(mask("a@b.de", &[Entity::Ssn]).text, "a@b.de");
        assert_eq!(unmask("[EMAIL_7] [x", &[]), "[EMAIL_7] [x");
    }

    proptest! {
        #[test]
        fn masking_is_complete_and_reversible(
            pieces in proptest::collection::vec(prop_oneof![
                Just("a@b.de"), Just("+49 30 1234567"), Just("123-45-6789"), Just("4111111111111111"),
                Just("93.184.216.34"), Just("[EMAIL_1]"), Just(" "), Just("é"), Just("7"), Just("."), Just("-"),
                Just("DE89370400440532013000"),
            ], 0..12),
        ) {
            let text = pieces.concat();
            let masked = mask(&text, ALL);
            prop_assert_eq!(unmask(&masked.text, &masked.places), text);
            prop_assert_eq!(&mask(&masked.text, ALL).text, &masked.text);
        }

        #[test]
        fn anything_can_be_masked(text in any::<String>()) {
            let masked = mask(&text, ALL);
            prop_assert_eq!(unmask(&masked.text, &masked.places), text);
        }
    }
}
