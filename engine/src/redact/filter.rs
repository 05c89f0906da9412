//! One text of an answer on its way to the client, piece by piece: what no piece can decide alone is held back.

use super::{Blocked, Redaction};
use std::collections::BTreeMap;
use std::ops::Bound;
use types::directives::Place;
use types::privacy::{Entity, escapes};

/// A growing text of an answer.
pub(super) struct Filter {
    redaction: Redaction,
    /// Kinds that are redacted in answers.
    kinds: Vec<Entity>,
    reach: usize,
    /// The end of what was given, then what is undecided.
    text: String,
    /// How much of `text` was given.
    given: usize,
    restore: Restore,
}

impl Filter {
    /// For a text that is JSON, values are restored in the form they have in its strings.
    pub(super) fn new(redaction: Redaction, tokens: &[(String, String)], json: bool) -> Self {
        let kinds = redaction.kinds(Place::Output);
        let reach = if kinds.is_empty() { 0 } else { redaction.detector.reach(&kinds) };
        Filter { redaction, kinds, reach, text: String::new(), given: 0, restore: Restore::new(tokens, json) }
    }

    /// Takes a piece; gives what can be given.
    pub(super) fn push(&mut self, piece: &str) -> Result<String, Blocked> {
        self.advance(piece, false)
    }

    /// Gives what is left.
    pub(super) fn finish(&mut self) -> Result<String, Blocked> {
        self.advance("", true)
    }

    fn advance(&mut self, piece: &str, ended: bool) -> Result<String, Blocked> {
        if self.kinds.is_empty() {
            return Ok(self.restore.advance(piece, ended));
        }
        self.text.push_str(piece);
        let found = self.redaction.find(&self.text, &self.kinds);
        // What an escape at the end stands for is not known yet.
        let length = if ended { self.text.len() } else { open_escape(&self.text) };
        let mut until = if ended { length } else { self.decided(length) };
        let mut out = String::new();
        let mut at = self.given;
        for value in found.into_iter().filter(|f| f.span.start >= self.given) {
            if value.span.start >= until {
                break;
            }
            if !ended && value.span.end >= length {
                // It may still grow.
                until = value.span.start;
                break;
            }
            out.push_str(self.text.get(at..value.span.start).unwrap_or(""));
            out.push_str(&self.redaction.instead(value.entity, &value.value, Place::Output)?);
            at = value.span.end;
            until = until.max(at);
        }
        out.push_str(self.text.get(at..until).unwrap_or(""));
        self.given = until.max(self.given);
        // A value may be known by words before it that were given already: what it is known by reaches no farther back
        // than it reaches on.
        let gone = self.text.floor_char_boundary(self.given.saturating_sub(self.reach()));
        self.text.drain(..gone);
        self.given = self.given.saturating_sub(gone);
        Ok(self.restore.advance(&out, ended))
    }

    /// Bytes of the text that decide on a value: behind escapes there are as many times more.
    fn reach(&self) -> usize {
        let escaped = self.text.as_bytes().contains(&b'\\');
        if escaped { self.reach.saturating_mul(UNIT) } else { self.reach }
    }

    /// How far a growing text is decided; no escape is cut in two.
    fn decided(&self, length: usize) -> usize {
        let until = self.text.floor_char_boundary(length.saturating_sub(self.reach()));
        open_escape(self.text.get(..until).unwrap_or("")).max(self.given)
    }
}

/// Bytes that one byte takes as an escape.
const UNIT: usize = 6;

/// Where the escapes begin that the end of a text may cut in two; its end where there are none. Backslashes in a row
/// belong together: any of them may be escaped by the one before.
fn open_escape(text: &str) -> usize {
    let near = text.floor_char_boundary(text.len().saturating_sub(escapes::LONGEST));
    let Some(at) = text.get(near..).and_then(|end| end.find('\\')) else { return text.len() };
    let before = text.get(..near.saturating_add(at)).unwrap_or("");
    before.trim_end_matches('\\').len()
}

/// Replaces tokens back.
struct Restore {
    tokens: BTreeMap<String, String>,
    longest: usize,
    held: String,
}

impl Restore {
    fn new(tokens: &[(String, String)], json: bool) -> Self {
        let value = |v: &str| {
            let quoted = serde_json::Value::from(v).to_string();
            let inner = quoted.strip_prefix('"').and_then(|q| q.strip_suffix('"'));
            if json { inner.unwrap_or(v).to_owned() } else { v.to_owned() }
        };
        let tokens: BTreeMap<_, _> = tokens.iter().map(|(t, v)| (t.clone(), value(v))).collect();
        let longest = tokens.keys().map(String::len).max().unwrap_or(0);
        Restore { tokens, longest, held: String::new() }
    }

    /// Whether a token begins so.
    fn begins_one(&self, start: &str) -> bool {
        let next = self.tokens.range::<str, _>((Bound::Included(start), Bound::Unbounded)).next();
        next.is_some_and(|(token, _)| token.starts_with(start))
    }

    fn advance(&mut self, piece: &str, ended: bool) -> String {
        if self.tokens.is_empty() {
            return piece.to_owned();
        }
        self.held.push_str(piece);
        let mut out = String::with_capacity(self.held.len());
        let mut rest = self.held.as_str();
        while let Some(open) = rest.find('[') {
            let (before, from) = rest.split_at(open);
            out.push_str(before);
            rest = from;
            let within = rest.as_bytes().get(..self.longest.min(rest.len())).unwrap_or_default();
            let token = memchr::memchr(b']', within).and_then(|close| rest.split_at_checked(close + 1));
            if let Some((value, after)) = token.and_then(|(t, after)| Some((self.tokens.get(t)?, after))) {
                out.push_str(value);
                rest = after;
            } else if !ended && rest.len() < self.longest && self.begins_one(rest) {
                // It may become a token.
                self.held = rest.to_owned();
                return out;
            } else {
                out.push('[');
                rest = rest.get(1..).unwrap_or("");
            }
        }
        out.push_str(rest);
        self.held.clear();
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::redaction;
    use super::*;
    use proptest::prelude::*;
    use types::directives::RedactAction;

    const TEXTS: &[&str] = &[
        "Write to ada@analytical.co.uk or call +49 30 1234567, thanks.",
        "card 4111 1111 1111 1111 and 4111 1111 1111 1112 and [EMAIL_1] and [EMAIL_12] [EMAIL_",
        "[EMAIL_1][EMAIL_1] [[EMAIL_1]] äöü ada@analytical.co.uk",
        "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----\nrest",
        "nothing at all, but \\n and \\\\ and \\u00e4",
        r#"{"to":"\u0061da\u0040analytical.co.uk","card":"4111 1111 1111 111\u0031"}"#,
        r#"{"a":"{\"to\":\"ada\\u0040analytical.co.uk\"}"}"#,
        "key: sk-proj-aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3z and more text behind it",
        "fecha de nacimiento: 12/05/1980, date de naissance : 12/05/1980; Date of birth is: 12/05/1980.",
        "Passport number is: C01X00T47 and Reisepassnummer C01X00T47",
    ];

    fn subject() -> (Redaction, Vec<(String, String)>) {
        let r = redaction(&[
            (Entity::Email, Place::Output, RedactAction::Mask, false),
            (Entity::Card, Place::Output, RedactAction::Drop, false),
            (Entity::Phone, Place::Output, RedactAction::Hash, false),
            (Entity::Secret, Place::Output, RedactAction::Mask, false),
            (Entity::DateOfBirth, Place::Output, RedactAction::Mask, false),
            (Entity::Passport, Place::Output, RedactAction::Mask, false),
            (Entity::Email, Place::Input, RedactAction::Mask, true),
        ]);
        // What the client sent: its token is `[EMAIL_1]`.
        r.text("from carol@analytical.co.uk", Place::Input).unwrap();
        let tokens = r.restorable();
        (r, tokens)
    }

    fn whole(text: &str) -> String {
        let (r, tokens) = subject();
        let mut f = Filter::new(r, &tokens, false);
        let mut out = f.push(text).unwrap();
        out.push_str(&f.finish().unwrap());
        out
    }

    #[test]
    fn what_must_not_come_out_does_not_and_what_was_masked_comes_back() {
        assert_eq!(whole("to [EMAIL_1]"), "to carol@analytical.co.uk");
        assert_eq!(whole("a ada@analytical.co.uk b [EMAIL_1]"), "a [EMAIL_3] b carol@analytical.co.uk");
        assert_eq!(whole("x 4111 1111 1111 1111 y"), "x  y");
        assert_eq!(whole("[EMAIL_12] [EMAIL_"), "[EMAIL_12] [EMAIL_");
        let key = whole(TEXTS[3]);
        assert!(!key.contains("MIIE") && key.ends_with("\nrest"), "{key}");
    }

    /// The words that tell of a value may be given long before the value is decided on.
    #[test]
    fn values_are_known_by_words_that_were_given() {
        let passed = |text: &str, size: usize| {
            let mask = |kind| (kind, Place::Output, RedactAction::Mask, false);
            let r = redaction(&[Entity::DateOfBirth, Entity::Passport].map(mask));
            let mut f = Filter::new(r, &[], false);
            let pieces = text.as_bytes().chunks(size).map(|p| std::str::from_utf8(p).unwrap());
            let mut out: String = pieces.map(|p| f.push(p).unwrap()).collect();
            out.push_str(&f.finish().unwrap());
            out
        };
        for text in TEXTS.iter().filter(|t| t.contains("12/05/1980") || t.contains("C01X00T47")) {
            // More text behind, so that the words come to be decided on before the value does.
            let text = format!("{text} {}", "and so on, ".repeat(80));
            for size in 1..12 {
                let out = passed(&text, size);
                assert!(!out.contains("1980") && !out.contains("C01X"), "{size}: {out}");
                assert_eq!(out, passed(&text, text.len()), "{size}");
            }
        }
    }

    #[test]
    fn values_keep_json_whole() {
        let r = redaction(&[(Entity::Secret, Place::Input, RedactAction::Mask, true)]);
        r.text("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", Place::Input).unwrap();
        let mut f = Filter::new(r.clone(), &r.restorable(), true);
        let mut out = f.push("{\"key\":\"[SECRET_1]\"}").unwrap();
        out.push_str(&f.finish().unwrap());
        assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{out}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn t11_chunks_decide_nothing(picks in prop::collection::vec(0..TEXTS.len(), 1..4), cuts in prop::collection::vec(1..40_usize, 1..60)) {
            let text: String = picks.iter().map(|i| TEXTS[*i]).collect::<Vec<_>>().join(" ~ ");
            let (r, tokens) = subject();
            let mut f = Filter::new(r, &tokens, false);
            let chars: Vec<char> = text.chars().collect();
            let (mut out, mut at) = (String::new(), 0);
            for cut in cuts.iter().cycle() {
                if at >= chars.len() {
                    break;
                }
                let piece: String = chars.iter().skip(at).take(*cut).collect();
                at += cut;
                out.push_str(&f.push(&piece).unwrap());
                prop_assert!(!out.contains("u0040") && !out.contains("u0031") && !out.contains("ada@") && !out.contains("4111 1111 1111 1111") && !out.contains("MIIE"));
            }
            out.push_str(&f.finish().unwrap());
            prop_assert_eq!(out, whole(&text));
        }
    }
}
