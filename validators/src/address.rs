//! Postal addresses, by their shape: a house number and a street, in the orders and with the words of several languages,
//! and the postal code and place behind them.
//!
//! Rules of shape, not of knowledge: nobody looks up whether there is such a street. What is written without a number, or
//! without a word for a street and without a postal code, is not found; a title such as `12 Bourbon Street` is.

use crate::scan::{Rule, before};
use std::ops::Range;
use types::privacy::Entity;

/// What a word of a name begins with.
const CAPITAL: &str = "[A-ZÀ-ÖØ-Þ]";
/// What it goes on with; the second range has the letters of central and northern Europe.
const LETTER: &str = r"[A-Za-zÀ-ÖØ-öø-ž'’\-]";
/// Words within a name.
const SMALL: &str = r"(?:(?:de la|de los|de las|de|del|della|dello|dei|degli|di|da|do|dos|das|du|des|la|le|les|aux?) |de l['’]|dell['’]|d['’]|l['’])";
/// House numbers that follow the street.
const NUMBER: &str = r"\d{1,4}(?: ?[a-h])?\b(?: ?[\-–/] ?\d{1,4}[a-h]?\b)?";

/// Words that are hardly anything but a street, where a number and a name stand before them.
const STREETS: &str =
    "Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Parkway|Pkwy|Highway|Hwy|Terrace|Crescent|Mews";
/// Words that are much else as well: a place has to stand behind them.
const STREETS_OR_ELSE: &str = "Drive|Dr|Court|Ct|Square|Sq|Place|Pl|Way|Close|Gardens|Grove|Row|Hill|Walk|Circle|Trail|Loop|Quay|Green|Park";
/// Ends of names of streets.
const ENDS: &str = r"straße|strasse|str\.|allee|gasse|chaussee|straat|laan|gracht|gatan|vägen|vej|veien";
/// Ends that are much else as well.
const ENDS_OR_ELSE: &str = "weg|platz|damm|ufer|ring|steig|markt|plein|kade|gade|gata|plass";

/// The rules, each with what it finds.
pub(crate) fn rules() -> Vec<(Entity, Rule)> {
    let rule_but = |pattern: &str, but: fn(&str) -> bool| {
        let accept = move |text: &str, span: Range<usize>| {
            alone(text, span).filter(|span| !text.get(span.clone()).is_some_and(but))
        };
        (Entity::Address, Rule::own("address", &written_out(pattern), accept))
    };
    let rule = |pattern: &str| rule_but(pattern, |_| false);
    vec![
        // 221B Baker Street, London NW1 6XE; 350 5th Ave Suite 3300, New York, NY 10118
        rule_but(&format!(r"#before(?:{STREETS})\b\.?#side#unit(?:#gap#place)?"), begins_with_a_year),
        rule(&format!(r"#before(?:{STREETS}|{STREETS_OR_ELSE})\b\.?#side#unit#gap#place")),
        // Hauptstraße 12a, 10115 Berlin; Berliner Str. 5; Kerkstraat 12, 1017 GC Amsterdam
        rule(&format!(r"#capital#letter{{1,30}}(?:{ENDS}) ?#number(?:#gap#place)?")),
        rule(
            r"#capital#letter{1,30}[ \-](?:Straße|Strasse|Str\.|Allee|Gasse|Chaussee) ?#number(?:#gap#place)?",
        ),
        rule(&format!(r"#capital#letter{{1,30}}(?:{ENDS_OR_ELSE}) #number#gap#place")),
        rule(r"#capital#letter{1,30}er (?:Platz|Weg|Ring|Damm|Ufer) #number(?:#gap#place)?"),
        // Am Markt 3, 50667 Köln: of any name, since a number, a postal code and a place follow.
        rule_but(
            r"#word(?: (?:den |dem |der |des |de |la )?#word){0,3},? #number(?:, |,?\r?\n)(?:[A-Z]{1,2}-)?(?:\d{5}|\d{4} [A-Z]{2}) #town",
            counts_things,
        ),
        // 12 bis rue de la Paix, 75002 Paris
        rule(
            r"\d{1,4}(?: ?(?:bis|ter|quater))?,? (?:rue|Rue|avenue|Avenue|av\.|boulevard|Boulevard|bd\.?|place|chemin|Chemin|impasse|Impasse|allée|quai|Quai) #small?#word(?: #small?#word){0,4}(?:#gap#place)?",
        ),
        // Calle de Alcalá, 42; Rua Augusta, 123; ul. Polna 5/7, 00-625 Warszawa
        rule(
            r"(?:Viale|Piazza|Piazzale|Corso|Largo|Vicolo|[Cc]alle|[Aa]venida|Avda\.|[Pp]laza|[Pp]aseo|[Rr]ua|[Tt]ravessa|[Pp]raça|[Cc]arrer|[Pp]asseig|[Uu]l\.) ?#small?#word(?: #small?#word){0,4},? (?:n[.º°]{1,2} ?)?#number(?:#gap#place)?",
        ),
        // Via Garibaldi 12, 00184 Roma: words that are much else as well, as in `et al. Nature 518`.
        rule(r"(?:Via|C/|[Aa]l\.) ?#small?#word(?: #small?#word){0,4},? (?:n[.º°]{1,2} ?)?#number#gap#place"),
        // Boxes of a post office.
        rule(r"(?:P\. ?O\. ?|PO |P\.O )Box \d{1,7}\b(?:#gap#place)?"),
        rule(r"Postfach \d{1,3}(?: ?\d{2}){0,3}\b(?:#gap#place)?"),
    ]
}

/// A pattern with the words of this file in the place of their names.
fn written_out(pattern: &str) -> String {
    // What a name stands for may hold those below it.
    let words: [(&str, &str); 11] = [
        // A number, directions and up to four words, of a street that is named after its number.
        (
            "#before",
            r"\d{1,5}[A-Za-z]?(?:[\-/]\d{1,5})?,? (?:(?:[NSEW]\.?|North|South|East|West) )?(?:(?:#word|\d{1,3}(?:st|nd|rd|th)) ){1,4}",
        ),
        ("#side", r"(?: (?:N|S|E|W|NE|NW|SE|SW)\b\.?)?"),
        ("#unit", r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|#)\.? ?#?[0-9A-Za-z\-]{1,6}\b)?"),
        ("#gap", r"(?:, ?|,?\r?\n| )"),
        // A code and a town, or a town and a code.
        (
            "#place",
            r"(?:(?:[A-Z]{1,2}[\- ])?(?:\d{2}-\d{3}|\d{4,5})(?: [A-Z]{2})? #town|(?:#town(?:, ?|,?\r?\n| ))?(?:[A-Z]{2},? \d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]{2,3} \d{4})\b)",
        ),
        (
            "#town",
            r"#capital#letter{1,24}\.?(?: (?:am |an der |upon |on |sur |de |di |la |le )?#capital#letter{1,24}){0,2}",
        ),
        ("#word", r"#capital#letter{0,24}\.?"),
        ("#small", SMALL),
        ("#number", NUMBER),
        ("#capital", CAPITAL),
        ("#letter", LETTER),
    ];
    let whole =
        words.iter().fold(pattern.to_owned(), |all, (name, stands_for)| all.replace(name, stands_for));
    // Of ASCII alone: with boundaries and digits of all scripts, texts beyond ASCII are searched many times slower.
    whole.replace(r"\b", r"(?-u:\b)").replace(r"\d", "[0-9]")
}

/// What is counted, and stands behind a number that is no postal code then.
const COUNTED: &str = "Euro|Euros|Dollar|Dollars|Francs|Franken|Pounds|Units|Items|Points|Users|People|Tokens|Watt|Einheiten|Einwohner|Personen|Menschen|Punkte|Nutzer|Kunden|Mitarbeiter|Stück|Tonnen|Kilometer|Meter|Liter";

fn is_year(number: &str) -> bool {
    number.parse::<u16>().is_ok_and(|n| (1900..2100).contains(&n))
}

/// `1929 Wall Street`: hardly anybody lives there.
fn begins_with_a_year(found: &str) -> bool {
    found.split(|c: char| !c.is_ascii_digit()).next().is_some_and(is_year)
}

/// `Im Jahr 2023, 15000 Euro`: a year, or a number of things, and no house and postal code.
fn counts_things(found: &str) -> bool {
    let mut numbers = found.split(|c: char| !c.is_ascii_digit()).filter(|n| !n.is_empty());
    let behind = found.rsplit(|c: char| c.is_ascii_digit()).next().and_then(|b| b.split_whitespace().next());
    numbers.next().is_some_and(is_year) || behind.is_some_and(|b| COUNTED.split('|').any(|c| c == b))
}

/// What does not go on a word or a number: `1.5 High Street` is none.
fn alone(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let mut back = text.get(..span.start)?.chars().rev();
    let (last, further) = (back.next(), back.next());
    let goes_on = before(text, span.start)
        .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '€'))
        || matches!(last, Some('.' | ',' | '-' | '/')) && further.is_some_and(|c| c.is_ascii_digit());
    (!goes_on).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::rules;
    use crate::detector;
    use types::privacy::Entity;

    #[track_caller]
    fn check(text: &str, want: &[&str]) {
        let found = detector().find(text, &[Entity::Address]);
        let got: Vec<&str> = found.iter().map(|f| &text[f.span.clone()]).collect();
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn a_stream_holds_little_back() {
        assert!(
            rules().iter().all(|(_, rule)| rule.longest < 1_024),
            "{:?}",
            rules().iter().map(|(_, r)| r.longest).collect::<Vec<_>>()
        );
    }

    #[test]
    fn addresses_of_many_countries_are_found_whole() {
        for address in [
            "221B Baker Street, London NW1 6XE",
            "10 Downing St, London SW1A 2AA",
            "1600 Pennsylvania Avenue NW, Washington, DC 20500",
            "350 5th Ave Suite 3300, New York, NY 10118",
            "1 Infinite Loop, Cupertino, CA 95014",
            "742 Evergreen Terrace, Springfield",
            "12 St. James's Square, London SW1Y 4LB",
            "25 Martin Place, Sydney NSW 2000",
            "Hauptstraße 12a, 10115 Berlin",
            "Karl-Marx-Straße 7, 12043 Berlin",
            "Berliner Str. 5",
            "Potsdamer Platz 1, 10785 Berlin",
            "Am Markt 3, 50667 Köln",
            "Unter den Linden 77, D-10117 Berlin",
            "Bahnhofstrasse 21, 8001 Zürich",
            "Feldweg 3, 80331 München",
            "Mariahilfer Straße 88, 1070 Wien",
            "Kerkstraat 12, 1017 GC Amsterdam",
            "Drottninggatan 53, 111 21",
            "12 bis rue de la Paix, 75002 Paris",
            "5 avenue Victor-Hugo",
            "8, boulevard de l'Hôpital, 75013 Paris",
            "Via Garibaldi 12, 00184 Roma",
            "Piazza della Scala, 3",
            "2001 Main Street, Springfield, IL 62701",
            "al. Jerozolimskie 54, 00-024 Warszawa",
            "C/ Mayor 5, 28013 Madrid",
            "Calle de Alcalá, 42, 28014 Madrid",
            "Rua Augusta, 123",
            "ul. Polna 5/7, 00-625 Warszawa",
            "P.O. Box 1234",
            "Postfach 10 20 30, 20095 Hamburg",
        ] {
            // Of a town without a code behind it, and of a code in other groups, the street and its number.
            let found = address.trim_end_matches(", Springfield").trim_end_matches(", 111 21");
            check(address, &[found]);
            check(&format!("({found})"), &[found]);
            check(&format!("They live at {found}; call first."), &[found]);
        }
        check("12 High Street\nOxford OX1 4AB\nUnited Kingdom", &["12 High Street\nOxford OX1 4AB"]);
        check("Lange Straße 5\n18055 Rostock", &["Lange Straße 5\n18055 Rostock"]);
    }

    #[test]
    fn what_only_looks_like_one_is_not() {
        for text in [
            "In 2024 the Supreme Court decided.",
            "I have 3 Google Drive folders and 2 Star Way badges",
            "version 1.5 Main Street of the game",
            "On May 5, 2024 Alice came to London.",
            "Er belegte Platz 3 und Arbeitsplatz 12 ist frei.",
            "the street has 12 houses on the main road",
            "une place de 12 rue",
            "Bahnsteig 5, Gleis 12",
            "Step 12, 2 Cups of Flour",
            "See section 4, Row 12 and Table 3.",
            "$100 Million Lane",
            "9 to 5 on a Monday, Room 12",
            "the 1929 Wall Street crash",
            "the 2020 Abbey Road reissue",
            "Mnih et al. Nature 518, 529 (2015)",
            "Via USB 3.0 or Via Slack 24/7",
            "C/Rust 2021 edition",
            "Im Jahr 2023, 15000 Euro mehr",
            "Total 3,12345 Units",
            "Posten 3, 15000 Euro",
        ] {
            check(text, &[]);
        }
    }
}
