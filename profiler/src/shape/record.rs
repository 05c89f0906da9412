//! Lines that repeat a form: rows of separated values, keys with values, lines of a log.

use super::Signs;

/// What consecutive lines have in common if they are records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// So many of a separator that nothing but data is written with.
    Separated(u8, u32),
    /// So many commas with blanks after them, in a short line that is no sentence.
    Listed(u32),
    /// `key: value`, `- key: value`.
    Keyed,
    /// Begins with digits and signs in the same places, as a time stamp does.
    Stamped(u64),
}

impl Form {
    /// Lines from which on they are records: the more often prose looks like that, the more.
    fn least(self) -> u32 {
        match self {
            Form::Separated(_, 2..) | Form::Stamped(_) => 3,
            Form::Separated(..) | Form::Keyed => 4,
            Form::Listed(_) => 5,
        }
    }
}

/// The lines of one form that were read last.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Records {
    form: Option<Form>,
    lines: u32,
    bytes: usize,
}

impl Records {
    /// Reads a line that is not blank; how many bytes of records it makes known, itself and those before it.
    pub(super) fn read(&mut self, line: &str, signs: &Signs, bytes: usize) -> usize {
        let form = form(line, signs);
        if form.is_none() || form != self.form {
            *self = Records { form, lines: u32::from(form.is_some()), bytes };
            return 0;
        }
        let Some(least) = form.map(Form::least) else { return 0 };
        self.lines = self.lines.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.lines < least {
            return 0;
        }
        std::mem::take(&mut self.bytes)
    }
}

/// Longest line that counts as a record.
const LONGEST: usize = 600;
/// Longest line of values with blanks between them.
const LONGEST_LISTED: usize = 120;

fn form(line: &str, signs: &Signs) -> Option<Form> {
    if line.len() > LONGEST {
        return None;
    }
    let bytes = line.as_bytes();
    let ended = matches!(bytes.last(), Some(b'.' | b'?' | b'!' | b':' | b'{'));
    if let Some(stamp) = stamp(bytes) {
        return Some(Form::Stamped(stamp));
    }
    for (separator, count) in [(b'\t', signs.tabs), (b'|', signs.bars), (b';', signs.semicolons)] {
        if count > 0 && !(separator == b';' && (bytes.last() == Some(&b';') || ended)) {
            return Some(Form::Separated(separator, count));
        }
    }
    let spaced = signs.commas > 0 && line.contains(", ");
    if signs.commas > 0 && !spaced && !ended {
        return Some(Form::Separated(b',', signs.commas));
    }
    if is_keyed(bytes) {
        return Some(Form::Keyed);
    }
    (signs.commas >= 2 && spaced && !ended && line.len() <= LONGEST_LISTED)
        .then_some(Form::Listed(signs.commas))
}

/// Longest key.
const KEY: usize = 40;

/// A key in the small letters of configuration, a colon, and a blank or nothing after it.
fn is_keyed(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"- ").unwrap_or(bytes);
    let Some(colon) = bytes.iter().take(KEY).position(|b| *b == b':') else { return false };
    let key = bytes.get(..colon).unwrap_or_default();
    let word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    key.first().is_some_and(u8::is_ascii_lowercase)
        && key.iter().all(word)
        && matches!(bytes.get(colon.saturating_add(1)), None | Some(b' '))
}

/// Bytes at the start of a line in which a time stamp shows.
const STAMP: usize = 12;

/// The places of digits and signs at the start of a line that begins as a time stamp does.
fn stamp(bytes: &[u8]) -> Option<u64> {
    let start = bytes.get(..STAMP)?;
    let digits = start.iter().filter(|b| b.is_ascii_digit()).count();
    let parted = start
        .windows(3)
        .any(|w| matches!(w, [a, b'-' | b':' | b'/' | b'.', c] if a.is_ascii_digit() && c.is_ascii_digit()));
    (digits >= 4 && parted).then(|| {
        start.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| {
            let class = if b.is_ascii_digit() {
                b'9'
            } else if b.is_ascii_alphabetic() {
                b'a'
            } else {
                *b
            };
            (hash ^ u64::from(class)).wrapping_mul(0x0100_0000_01b3)
        })
    })
}

/// Bytes of a line of prose that stand between the first and last bracket of data written into it.
pub(super) fn inline_data(line: &str) -> usize {
    let pairs = line.matches("\":").take(2).count();
    if pairs < 2 {
        return 0;
    }
    let (first, last) = (line.find(['{', '[']), line.rfind(['}', ']']));
    first.zip(last).map_or(0, |(first, last)| last.saturating_sub(first))
}

#[cfg(test)]
mod tests {
    use crate::shape::Shape;

    fn check(text: &str, structured: bool) {
        let mut shape = Shape::default();
        shape.read(text);
        shape.end();
        assert_eq!(shape.data_bytes * 2 > shape.bytes, structured, "{text}\n{shape:?}");
    }

    #[test]
    fn records_are_told_from_prose() {
        check("city,inhabitants\nUlm,126000\nBonn,330000\nJena,111000", true);
        check("plant;height;needs water\nfern;40;yes\ncactus;12;no\npalm;210;yes", true);
        check("host: db1\nport: 5432\nuser: app\nssl: true\npool:", true);
        check("Ann, 34, Leeds\nBob, 51, York\nCleo, 27, Hull\nDan, 40, Bath\nEve, 33, Ripon", true);
        check(
            "2025-11-02 08:00:01 INFO started\n2025-11-02 08:00:07 WARN retry\n2025-11-02 08:01:44 ERROR gave up",
            true,
        );
        check(
            "Nov 12 10:22:33 web1 sshd: ok\nNov 12 10:22:39 web1 sshd: bye\nNov 13 01:02:03 web2 cron: run",
            true,
        );
        check("Given {\"a\": 1, \"b\": [2, 3], \"c\": {\"d\": 4}} what is d?", true);
        check(
            "The sea was calm, the sky was grey,\nand no one came, and no one stayed,\nbut someone sang, far out, away",
            false,
        );
        check("Dear Ann,\nthank you for the letter.\nIt came today.\nYours, Bob", false);
        check("Question: who?\nAnswer: Ann.\nQuestion: when?\nAnswer: today.", false);
        check("1. Boil water.\n2. Add salt.\n3. Add rice.\n4. Wait.", false);
    }

    #[test]
    fn a_line_that_is_cut_goes_on_in_the_next_piece() {
        let data = format!("[{}]", vec!["{\"id\": 17, \"state\": \"open\"}"; 60].join(", "));
        let (first, rest) = data.split_at(500);
        let mut shape = Shape::default();
        shape.read(first);
        shape.read(rest);
        shape.end();
        assert!(shape.data_bytes * 10 > shape.bytes * 9, "{shape:?}");
    }
}
