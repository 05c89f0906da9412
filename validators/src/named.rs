//! Values that are known by the words before them: names of people and dates of birth; and addresses of pages.
//!
//! Rules of context, not of form: a name that stands alone is not found, and neither is a date that could be any.

use crate::scan::{Rule, before, behind};
use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;
use types::privacy::Entity;

/// A title or a phrase, and the name behind it (the group).
const PERSON: &str = r"(?:(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herr|Frau|Mme|Mlle|Monsieur|Madame|Señora?|Sra?|Signora?)\.?|(?i:my name is|my name's|i am called|ich heiße|ich heisse|mein name ist|je m'appelle|je m’appelle|mon nom est|me llamo|mi nombre es|mi chiamo|il mio nome è)) ((?:(?:von|van|de|del|der|den|da|di|la|le|zu) ){0,2}[A-ZÀ-ÖØ-Þ][A-Za-zÀ-ÖØ-öø-ž'’\-]{1,30}(?: (?:(?:von|van|de|del|der|den|da|di|la|le|zu) ){0,2}[A-ZÀ-ÖØ-Þ][A-Za-zÀ-ÖØ-öø-ž'’\-]{1,30}){0,3})";

/// What is said of a day on which somebody was born, and the day (the group).
const BIRTH: &str = r"(?i:(?:date of birth|birth ?date|birthday|dob|d\.o\.b\.|born(?: on)?|geboren(?: am)?|geb\.(?: am)?|geburtsdatum|geburtstag|née?(?: le)?|date de naissance|nacid[oa](?: el)?|fecha de nacimiento|nat[oa](?: il)?|data di nascita)(?: is| ist| est| es| war| was)?[ :]{1,3}(\d{1,2}[./\-]\d{1,2}[./\-]\d{2,4}|\d{4}[./\-]\d{1,2}[./\-]\d{1,2}|\d{1,2}(?:\.|st|nd|rd|th)? (?:of |de )?[A-Za-zÀ-ÖØ-öø-ž]{3,10}\.?,?(?: de)? \d{4}|[A-Za-zÀ-ÖØ-öø-ž]{3,10}\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4}))";

/// A page, by its scheme or its beginning.
const URL: &str = r"(?i:https?://|www\.)[A-Za-z0-9\-._~%]{1,253}(?::\d{1,5})?(?:[/?#][A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]{0,2000})?";

static PERSON_VALUE: LazyLock<Regex> = LazyLock::new(|| anchored(PERSON));
static BIRTH_VALUE: LazyLock<Regex> = LazyLock::new(|| anchored(BIRTH));

fn anchored(pattern: &str) -> Regex {
    Regex::new(&format!("^(?:{pattern})$")).expect("the patterns of this house compile: each has a test")
}

/// The rules, each with what it finds.
pub(crate) fn rules() -> Vec<(Entity, Rule)> {
    vec![
        (Entity::Person, Rule::own("person", PERSON, |text, span| value(&PERSON_VALUE, text, &span))),
        (
            Entity::DateOfBirth,
            Rule::own("date_of_birth", BIRTH, |text, span| value(&BIRTH_VALUE, text, &span)),
        ),
        (Entity::Url, Rule::own("url", URL, url)),
    ]
}

/// The value behind the words, where these stand by themselves.
fn value(pattern: &Regex, text: &str, span: &Range<usize>) -> Option<Range<usize>> {
    if before(text, span.start).is_some_and(char::is_alphanumeric)
        || behind(text, span.end).is_some_and(char::is_alphanumeric)
    {
        return None;
    }
    let found = pattern.captures(text.get(span.clone())?)?.get(1)?;
    Some(span.start.saturating_add(found.start())..span.start.saturating_add(found.end()))
}

/// An address without the marks of the sentence around it.
fn url(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    if before(text, span.start).is_some_and(char::is_alphanumeric) {
        return None;
    }
    let found = text.get(span.clone())?.trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', ')', ']']);
    // `www.` alone, or a scheme without a host, is no address.
    let host = found.split_once("://").map_or(found, |(_, rest)| rest);
    host.contains('.').then(|| span.start..span.start.saturating_add(found.len()))
}

#[cfg(test)]
mod tests {
    use crate::detector;
    use types::privacy::Entity;

    #[track_caller]
    fn check(text: &str, kinds: &[Entity], want: &[&str]) {
        let found = detector().find(text, kinds);
        let got: Vec<&str> = found.iter().map(|f| &text[f.span.clone()]).collect();
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn people_are_known_by_titles_and_introductions() {
        for (text, name) in [
            ("Please call Dr. Ada Lovelace-King today.", "Ada Lovelace-King"),
            ("my name is Jean de la Fontaine.", "Jean de la Fontaine"),
            ("Sehr geehrte Frau Müller, danke", "Müller"),
            ("Ich heiße Lena von Ahn", "Lena von Ahn"),
            ("Bonjour, je m'appelle Zoé Élan", "Zoé Élan"),
            ("me llamo Íñigo Montoya y", "Íñigo Montoya"),
            ("Mr O'Neil wrote", "O'Neil"),
        ] {
            check(text, &[Entity::Person], &[name]);
        }
        for text in
            ["Ada Lovelace wrote this.", "my name is not important", "the Sr. of it", "MMr Smith", "Dr."]
        {
            check(text, &[Entity::Person], &[]);
        }
    }

    #[test]
    fn dates_of_birth_are_known_by_what_is_said_of_them() {
        for (text, date) in [
            ("DOB: 04/11/1984.", "04/11/1984"),
            ("born on 4 November 1984 in", "4 November 1984"),
            ("date of birth is November 4th, 1984", "November 4th, 1984"),
            ("geboren am 4.11.1984", "4.11.1984"),
            ("Geburtsdatum: 1984-11-04", "1984-11-04"),
            ("née le 4 novembre 1984", "4 novembre 1984"),
            ("nacida el 4 de noviembre de 1984", "4 de noviembre de 1984"),
        ] {
            check(text, &[Entity::DateOfBirth], &[date]);
        }
        for text in ["due on 04/11/1984", "born in 1984", "stubborn 04/11/1984", "born to run"] {
            check(text, &[Entity::DateOfBirth], &[]);
        }
    }

    #[test]
    fn pages_are_found_without_the_sentence_around_them() {
        check(
            "See https://intra.example.com:8443/a/b?c=d#e, or (www.example.org).",
            &[Entity::Url],
            &["https://intra.example.com:8443/a/b?c=d#e", "www.example.org"],
        );
        check("http:// is a scheme, www. a beginning, and a.b nothing", &[Entity::Url], &[]);
    }
}
