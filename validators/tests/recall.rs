//! How much the detector of personal data and secrets finds, by kind, on a table of cases of our own: texts of the sort that
//! people send, with the values marked. What is measured stands in `docs/policies.md`; a change of it is a change of a promise.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use types::privacy::Entity;

/// Texts by the kind of the values in them, which stand between `«` and `»`. Some are there because they are hard.
const CASES: &[(Entity, &[&str])] = &[
    (
        Entity::Email,
        &[
            "write to «ada@analytical.co.uk» today",
            "Contact: <«o'brien.pat+orders@mail.example.ie»>",
            "«grace_hopper@navy.mil», «linus@kernel.org»",
            "mailto:«sales@shop-4-you.de»?subject=x",
            "«jürgen@müller.de» schrieb",
            "{\"mail\":\"«x@y.io»\"}",
            "her address is ada (at) analytical.co.uk, that is «ada at analytical dot co dot uk»",
        ],
    ),
    (
        Entity::Phone,
        &[
            "call me at «+1 415 555 2671»",
            "Tel.: «+49 30 901820»",
            "«(415) 555-2671» is my cell",
            "phone: «020 7946 0958»",
            "reach us on «+33 1 42 68 53 00» or «+81-3-3224-9999»",
            "my number is «415-555-2671»",
            "Handy: «0171 2345678»",
            "ring «5552671» after six",
        ],
    ),
    (
        Entity::Iban,
        &[
            "pay to «DE89 3704 0044 0532 0130 00»",
            "IBAN: «GB29NWBK60161331926819»",
            "«FR1420041010050500013M02606» is the account",
            "konto «AT611904300234573201»",
            "iban «nl91abna0417164300»",
            "«CH93-0076-2011-6238-5295-7»",
        ],
    ),
    (
        Entity::Card,
        &[
            "card «4111 1111 1111 1111» exp 12/27",
            "«5500005555555559»",
            "amex «3782 822463 10005»",
            "my visa is «4012-8888-8888-1881»",
            "number=«6011111111111117»&cvc=123",
            "«4111.1111.1111.1111»",
        ],
    ),
    (
        Entity::NationalId,
        &[
            "my SSN is «536-90-4399»",
            "social security number: «219-09-9999»",
            "ssn «536904399»",
            "SSN «536 90 4399»",
        ],
    ),
    (
        Entity::Passport,
        &[
            "passport no. «C01X00T47»",
            "my passport number is «963545637»",
            "Reisepass «C4KPL1R2T»",
            "pasaporte «PAA123456»",
        ],
    ),
    (
        Entity::Ip,
        &[
            "from «81.2.69.142» at noon",
            "host «2a00:1450:4001:82b::200e» is up",
            "connect to «8.8.8.8»:53",
            "blocked [«2001:4860:4860::8888»]",
        ],
    ),
    (
        Entity::Person,
        &[
            "Dear Mr. «John Smith», thanks",
            "I saw Dr. «Ada Lovelace» yesterday",
            "my name is «Grace Hopper» and I",
            "Sehr geehrte Frau «Müller»,",
            "je m'appelle «Claire Dubois»",
            "mi chiamo «Luca Bianchi»",
            "me llamo «Carmen Ortiz»",
            "«Alan Turing» asked for a refund",
            "signed: «K. Johnson»",
        ],
    ),
    (
        Entity::DateOfBirth,
        &[
            "born on «4 November 1984» in Bonn",
            "DOB: «1984-11-04»",
            "date of birth «11/04/1984»",
            "geboren am «4.11.1984»",
            "né le «4 novembre 1984»",
            "nacida el «4 de noviembre de 1984»",
            "she turned 40 on «4 November»",
        ],
    ),
    (
        Entity::Address,
        &[
            "I live at «221B Baker Street»",
            "ship to «1600 Amphitheatre Parkway, Mountain View, CA 94043»",
            "«Hauptstraße 12a», bitte",
            "«12 bis rue de la Paix, 75002 Paris»",
            "«Piazza della Scala 3»",
            "«Am Markt 3, 50667 Köln»",
            "«P.O. Box 1234»",
            "over on «Elm Street» by the bank",
        ],
    ),
    (
        Entity::Url,
        &[
            "see «https://example.com/a?b=c#d» there",
            "«http://intranet.local:8080/x»",
            "at «www.example.org/page»",
            "open «ftp://files.example.net/report.pdf»",
        ],
    ),
];

/// Secrets, put together here so that nobody takes them for some that were left lying about.
fn secrets() -> Vec<String> {
    let random = "Zk3Qv9Lm2Xr7Tn5Bw8Yc4Hd6Jf1Gs0Pa9Ke3Vu7Rq2Nt5Mx8Lz4Wb6Cy1Dh0Fj9";
    let part = |n: usize| random.get(..n).unwrap();
    vec![
        format!("key: «sk-proj-{}»", part(48)),
        format!("ANTHROPIC_API_KEY=«sk-ant-{}»", part(40)),
        format!("«{}_{}» leaked", "ghp", part(36)),
        format!("aws «{}{}»", "AKIA", "Q3XK7TR5LM2VN6WB"),
        format!("token «{}-{}»", "xoxb", "2481632640-96128256512-Zk3Qv9Lm2Xr7"),
        format!("«{}_{}»", "sk_live", part(24)),
        format!("«{}{}»", "AIza", part(35)),
        format!("password = \"«{}»\"", "vT9#kL2$wQ7!pX4z"),
        format!("postgres://app:«{}»@db.internal/app", "hT7wK2pZ9qLx"),
        format!("Authorization: Bearer «{}»", part(40)),
        format!("«-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----»", part(60)),
        format!(
            "eyJhbGciOiJIUzI1NiJ9 is no token, «eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{}» is",
            part(43)
        ),
        "my password is «hunter2»".to_owned(),
    ]
}

/// Texts in which nothing is to be found of the kinds above but addresses of pages.
const NOTHING: &[&str] = &[
    "Version 1.2.3 of 2024-11-04 costs 1,234.56 EUR and weighs 12 kg.",
    "Order 4711-0815-2024 ships on 4 November; invoice 20241104001.",
    "The function f(x) = 3x + 5 has one root at x = -5/3.",
    "Call the API with sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx in place of your key.",
    "ISBN 978-3-16-148410-0, DOI 10.1000/182, commit 9f86d081884c7d65.",
    "let password = prompt(\"password?\"); // asks for it",
    "In 1984 the report had 40 pages, 12 tables and 3 figures.",
];

/// A text without its marks, and where the marked values stand in it.
fn unmarked(text: &str) -> (String, Vec<std::ops::Range<usize>>) {
    let (mut plain, mut values, mut start) = (String::new(), Vec::new(), 0);
    for c in text.chars() {
        match c {
            '«' => start = plain.len(),
            '»' => values.push(start..plain.len()),
            c => plain.push(c),
        }
    }
    (plain, values)
}

/// How many of the marked values are found whole and by their kind, of how many.
fn recall<'t>(entity: Entity, texts: impl Iterator<Item = &'t str>) -> (usize, usize) {
    let detector = validators::detector();
    let (mut found, mut all) = (0, 0);
    for text in texts {
        let (plain, values) = unmarked(text);
        let hits = detector.find(&plain, &[entity]);
        all += values.len();
        found += values
            .iter()
            .filter(|v| hits.iter().any(|h| h.span.start <= v.start && v.end <= h.span.end))
            .count();
    }
    (found, all)
}

#[test]
fn what_is_found_of_each_kind_is_what_the_documents_say() {
    let secrets = secrets();
    let mut measured = String::new();
    for (entity, texts) in CASES {
        let (found, all) = recall(*entity, texts.iter().copied());
        let _ = writeln!(measured, "| `{}` | {found} of {all} |", entity.as_str());
    }
    let (found, all) = recall(Entity::Secret, secrets.iter().map(String::as_str));
    let _ = writeln!(measured, "| `secret` | {found} of {all} |");
    let documents = include_str!("../../docs/policies.md");
    assert!(documents.contains(&measured), "docs/policies.md does not hold what is measured:\n{measured}");
}

#[test]
fn nothing_is_found_where_nothing_is() {
    let kinds: Vec<Entity> = Entity::ALL.into_iter().filter(|e| *e != Entity::Url).collect();
    let detector = validators::detector();
    for text in NOTHING {
        let hits = detector.find(text, &kinds);
        assert!(hits.is_empty(), "{text}: {hits:?}");
    }
}
