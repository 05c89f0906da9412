//! Values in texts that are written in the escapes of JSON: `a\u0040b.example` is an address to whoever reads the JSON,
//! and several vendors are sent what it stands for.

use super::{Detector, Entity};
use std::ops::Range;

/// JSON stands in strings of JSON at most so often; what is hidden deeper nobody reads.
const DEEPEST: usize = 3;
/// Longest escape in bytes: the two halves of a character beyond the first plane.
pub const LONGEST: usize = 12;

/// A value in a text, as it stands there or behind escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What kind.
    pub entity: Entity,
    /// Where, in bytes, with its escapes.
    pub span: Range<usize>,
    /// What it is to whoever reads it.
    pub value: String,
}

/// What [`Detector::find`] finds in a text, and in what it stands for when its escapes are read, once or several times;
/// in order of their places, none overlapping another.
#[must_use]
pub fn find(detector: &dyn Detector, text: &str, kinds: &[Entity]) -> Vec<Hit> {
    let found = detector.find(text, kinds).into_iter();
    let as_written = |span: &Range<usize>| text.get(span.clone()).unwrap_or("").to_owned();
    let mut hits: Vec<Hit> =
        found.map(|f| Hit { entity: f.entity, value: as_written(&f.span), span: f.span }).collect();
    let mut view: Option<View> = None;
    for _ in 0..DEEPEST {
        let Some(next) = View::of(view.as_ref().map_or(text, |v| &v.text), view.as_ref()) else { break };
        for f in detector.find(&next.text, kinds) {
            let value = next.text.get(f.span.clone()).unwrap_or("").to_owned();
            hits.push(Hit {
                entity: f.entity,
                span: next.place(f.span.start)..next.place(f.span.end),
                value,
            });
        }
        view = Some(next);
    }
    if view.is_none() {
        return hits;
    }
    hits.sort_by_key(|h| (h.span.start, std::cmp::Reverse(h.span.end)));
    let mut apart: Vec<Hit> = Vec::with_capacity(hits.len());
    for hit in hits {
        match apart.last_mut() {
            // Two readings of one thing: all of it goes.
            Some(last) if hit.span.start < last.span.end => last.span.end = last.span.end.max(hit.span.end),
            _ => apart.push(hit),
        }
    }
    apart
}

/// A text with its escapes read.
struct View {
    text: String,
    /// Where each byte of it, and its end, stands in the text as written.
    places: Vec<usize>,
}

impl View {
    /// `None` where there is no escape. `within`: the view whose text it is.
    fn of(text: &str, within: Option<&View>) -> Option<View> {
        if !text.contains('\\') {
            return None;
        }
        let place = |at: usize| within.map_or(at, |v| v.place(at));
        let (mut out, mut places) = (String::with_capacity(text.len()), Vec::with_capacity(text.len()));
        let (mut at, mut any) = (0_usize, false);
        while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
            let read = if c == '\\' { text.get(at..).and_then(escape) } else { None };
            any |= read.is_some();
            let (c, length) = read.unwrap_or((c, c.len_utf8()));
            out.push(c);
            places.resize(out.len(), place(at));
            at = at.saturating_add(length);
        }
        places.push(place(text.len()));
        any.then_some(View { text: out, places })
    }

    fn place(&self, at: usize) -> usize {
        self.places.get(at).or(self.places.last()).copied().unwrap_or(0)
    }
}

/// The character that an escape at the beginning of a text stands for, and the length of the escape.
fn escape(text: &str) -> Option<(char, usize)> {
    let plain = match text.as_bytes().get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = unit(text)?;
            if let Some(c) = char::from_u32(first) {
                return Some((c, 6));
            }
            let second = unit(text.get(6..)?)?;
            let pair = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
            let c = char::decode_utf16(pair).next()?.ok()?;
            return Some((c, LONGEST));
        }
        _ => return None,
    };
    Some((plain, 2))
}

/// The number of `\uXXXX` at the beginning of a text.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::Found;

    /// Knows one address.
    struct One;

    impl Detector for One {
        fn find(&self, text: &str, _: &[Entity]) -> Vec<Found> {
            let all = text.match_indices("a@b.example");
            all.map(|(at, v)| Found { entity: Entity::Email, span: at..at + v.len() }).collect()
        }

        fn injection(&self, _: &str) -> f64 {
            0.0
        }

        fn reach(&self, _: &[Entity]) -> usize {
            16
        }
    }

    fn check(text: &str, want: &[&str]) {
        let hits = find(&One, text, &[Entity::Email]);
        let got: Vec<&str> = hits.iter().map(|h| &text[h.span.clone()]).collect();
        assert_eq!(got, want, "{text}");
        assert!(hits.iter().all(|h| h.value == "a@b.example"), "{hits:?}");
    }

    #[test]
    fn escapes_hide_nothing() {
        check("to a@b.example", &["a@b.example"]);
        check(r#"{"to":"a\u0040b.example"}"#, &[r"a\u0040b.example"]);
        check(r#"{"to":"\u0061@b.exampl\u0065"}"#, &[r"\u0061@b.exampl\u0065"]);
        check(
            r#"{"x":"ä\ud83d\ude00a\u0040b.example","y":"a@b.example"}"#,
            &[r"a\u0040b.example", "a@b.example"],
        );
        check(r#"{"args":"{\"to\":\"a\\u0040b.example\"}"}"#, &[r"a\\u0040b.example"]);
        check(r"a\u004b.example \u00 \ud83d \x \", &[]);
    }
}
