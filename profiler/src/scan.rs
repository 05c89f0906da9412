//! The one pass over the bytes of a text: its tokens, its signs, and the scripts it is written in.
//!
//! A token is a word, a number, a sign, or one character of a script that puts no blanks between words. Each
//! carries a hash of its lower-cased spelling, so that cues, n-grams and the language are all looked up by
//! number and no word is compared or copied.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A run of letters.
    Word,
    /// A run of digits.
    Number,
    /// Any other visible character; full-width forms count as their narrow ones.
    Sign,
    /// A character of a script without blanks between words (Han, kana, Hangul, Thai).
    Character,
}

/// A piece of text that cues and n-grams are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Hash of the lower-cased spelling.
    pub(crate) hash: u32,
    /// Where it starts in its text, bytes.
    pub(crate) start: u32,
    /// How long it is, bytes; the end of an overlong one is cut.
    pub(crate) bytes: u16,
    /// What it is.
    pub(crate) kind: Kind,
    /// Nothing but blanks and markup stands before it on its line.
    pub(crate) line_start: bool,
}

impl Token {
    /// Whether `next` follows without a blank.
    pub(crate) fn touches(&self, next: &Token) -> bool {
        self.start.saturating_add(u32::from(self.bytes)) == next.start
    }
}

/// What single characters say of a text; sums over all texts scanned.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Signs {
    /// Runs of digits; a separator between digits keeps the number one.
    pub(crate) numbers: u32,
    /// Signs of formulas: `=`, `^`, `\`, `$`, and mathematical operators beyond ASCII.
    pub(crate) formula: u32,
    /// Question marks, of any script.
    pub(crate) questions: u32,
    /// Opening braces.
    pub(crate) braces: u32,
    /// Vertical bars.
    pub(crate) bars: u32,
    /// Double quotation marks.
    pub(crate) quotes: u32,
    /// Characters beyond ASCII.
    pub(crate) beyond_ascii: u32,
    /// Words of answer asked for by number ("in 300 words").
    pub(crate) words_asked: Option<u32>,
}

/// How many characters of each script or telling letter a text holds; for the language.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Letters {
    /// Weight per language code of [`crate::language`], by its position there.
    pub(crate) weights: [f32; crate::language::CODES.len()],
    /// Han characters.
    pub(crate) han: u32,
    /// Kana.
    pub(crate) kana: u32,
}

/// Reads texts; what it allocates is kept from one text to the next.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    /// Tokens of the text read last.
    pub(crate) tokens: Vec<Token>,
    /// Sums over all texts read.
    pub(crate) signs: Signs,
    /// Letters of the text read last.
    pub(crate) letters: Letters,
}

const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

const fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(PRIME)
}

/// Mixes the high bits down: the low ones of the running product are weak.
const fn finish(hash: u64) -> u32 {
    let h = hash ^ (hash >> 32);
    (h.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

/// What a byte begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Blank,
    Newline,
    Letter,
    Digit,
    Sign,
    Beyond,
}

const CLASSES: [Class; 256] = {
    let mut table = [Class::Sign; 256];
    let mut i = 0;
    while i < 256 {
        let byte = i as u8;
        #[expect(clippy::indexing_slicing, reason = "a constant table filled at compile time")]
        {
            table[i] = match byte {
                b'\n' => Class::Newline,
                0..=b' ' | 0x7F => Class::Blank,
                b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
                b'0'..=b'9' => Class::Digit,
                0x80.. => Class::Beyond,
                _ => Class::Sign,
            };
        }
        i += 1;
    }
    table
};

fn class(byte: u8) -> Class {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(Class::Sign)
}

/// Bytes of markup that may stand before the first word of a line.
const MARKUP: u32 = 8;

impl Scanner {
    /// Reads a text: its tokens replace those of the text before, its signs are added up.
    pub(crate) fn read(&mut self, text: &str) {
        self.tokens.clear();
        self.letters = Letters::default();
        let bytes = text.as_bytes();
        let (mut at, mut markup) = (0_usize, Some(0_u32));
        while let Some(&byte) = bytes.get(at) {
            match class(byte) {
                Class::Blank => {
                    at = at.saturating_add(1);
                    markup = markup.map(|m| m.saturating_add(1)).filter(|m| *m <= MARKUP);
                }
                Class::Newline => {
                    at = at.saturating_add(1);
                    markup = Some(0);
                }
                Class::Letter => at = self.word(text, at, &mut markup),
                Class::Digit => at = self.number(bytes, at, &mut markup),
                Class::Sign => {
                    self.sign(byte);
                    self.push(finish(step(OFFSET, byte)), at, 1, Kind::Sign, markup.is_some());
                    let open = matches!(byte, b'#' | b'*' | b'-' | b'>' | b'[' | b'(' | b'<' | b'"');
                    markup = markup.map(|m| m.saturating_add(1)).filter(|m| open && *m <= MARKUP);
                    at = at.saturating_add(1);
                }
                Class::Beyond => at = self.beyond(text, at, &mut markup),
            }
        }
    }

    fn push(&mut self, hash: u32, start: usize, bytes: usize, kind: Kind, line_start: bool) {
        let (Ok(start), bytes) = (u32::try_from(start), u16::try_from(bytes).unwrap_or(u16::MAX)) else {
            return;
        };
        self.tokens.push(Token { hash, start, bytes, kind, line_start });
    }

    /// A word that starts with an ASCII letter.
    fn word(&mut self, text: &str, start: usize, markup: &mut Option<u32>) -> usize {
        let mut hash = OFFSET;
        let mut end = start;
        for &byte in text.as_bytes().get(start..).unwrap_or(&[]) {
            match class(byte) {
                // Setting this bit lower-cases an ASCII letter.
                Class::Letter => hash = step(hash, byte | 0x20),
                Class::Beyond => return self.long_word(text, start, end, hash, markup),
                _ => break,
            }
            end = end.saturating_add(1);
        }
        self.push(finish(hash), start, end.saturating_sub(start), Kind::Word, markup.take().is_some());
        end
    }

    /// Goes on with a word where it leaves ASCII.
    fn long_word(
        &mut self,
        text: &str,
        start: usize,
        from: usize,
        mut hash: u64,
        markup: &mut Option<u32>,
    ) -> usize {
        let mut end = from;
        for c in text.get(from..).unwrap_or("").chars() {
            if c.is_ascii_alphabetic() {
                hash = step(hash, c as u8 | 0x20);
            } else if joins(c) {
                self.letter(c);
                let low = c.to_lowercase().next().unwrap_or(c);
                for byte in low.encode_utf8(&mut [0; 4]).bytes() {
                    hash = step(hash, byte);
                }
            } else {
                break;
            }
            end = end.saturating_add(c.len_utf8());
        }
        self.push(finish(hash), start, end.saturating_sub(start), Kind::Word, markup.take().is_some());
        end
    }

    fn number(&mut self, bytes: &[u8], start: usize, markup: &mut Option<u32>) -> usize {
        let rest = bytes.get(start..).unwrap_or(&[]);
        let length = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
        let hash = rest.iter().take(length).fold(OFFSET, |h, b| step(h, *b));
        // `1,000.5` is one number.
        let goes_on = self.tokens.last().is_some_and(|t| {
            t.kind == Kind::Sign
                && usize::try_from(t.start).is_ok_and(|s| s.saturating_add(1) == start)
                && start.checked_sub(1).and_then(|i| bytes.get(i)).is_some_and(|b| matches!(b, b',' | b'.'))
                && start.checked_sub(2).and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit)
        });
        if !goes_on {
            self.signs.numbers = self.signs.numbers.saturating_add(1);
            if self.signs.words_asked.is_none() {
                self.signs.words_asked = words_asked(rest);
            }
        }
        self.push(finish(hash), start, length, Kind::Number, markup.take().is_some());
        start.saturating_add(length)
    }

    fn sign(&mut self, byte: u8) {
        let count = match byte {
            b'=' | b'^' | b'\\' | b'$' => &mut self.signs.formula,
            b'?' => &mut self.signs.questions,
            b'{' => &mut self.signs.braces,
            b'|' => &mut self.signs.bars,
            b'"' => &mut self.signs.quotes,
            _ => return,
        };
        *count = count.saturating_add(1);
    }

    /// A token that starts beyond ASCII.
    fn beyond(&mut self, text: &str, start: usize, markup: &mut Option<u32>) -> usize {
        let Some(c) = text.get(start..).and_then(|t| t.chars().next()) else {
            return start.saturating_add(1);
        };
        let end = start.saturating_add(c.len_utf8());
        if joins(c) {
            return self.long_word(text, start, start, OFFSET, markup);
        }
        self.letter(c);
        let (folded, kind) = match c {
            _ if stands_alone(c) => (c, Kind::Character),
            '’' | '‘' => ('\'', Kind::Sign),
            '“' | '”' | '„' | '«' | '»' | '「' | '」' => ('"', Kind::Sign),
            '؟' => ('?', Kind::Sign),
            '！'..='～' => (narrow(c), Kind::Sign),
            '\u{3000}' | '\u{A0}' | '\u{FEFF}' | '\u{2028}' => return end,
            _ => (c, Kind::Sign),
        };
        match folded {
            _ if folded.is_ascii() => self.sign(folded as u8),
            '\u{2200}'..='\u{22FF}' | '×' | '÷' | '²' | '³' | '°' => self.sign(b'='),
            _ => {}
        }
        let hash = folded.encode_utf8(&mut [0; 4]).bytes().fold(OFFSET, step);
        self.push(finish(hash), start, c.len_utf8(), kind, markup.is_some());
        *markup = markup.filter(|_| kind == Kind::Sign);
        end
    }

    /// Counts a character beyond ASCII for the language.
    fn letter(&mut self, c: char) {
        self.signs.beyond_ascii = self.signs.beyond_ascii.saturating_add(1);
        crate::language::weigh_letter(c, &mut self.letters);
    }
}

/// A letter or a mark that belongs to a word in a script with blanks between words.
fn joins(c: char) -> bool {
    match c {
        '\u{0300}'..='\u{036F}' | '\u{064B}'..='\u{065F}' | '\u{0900}'..='\u{0DFF}' => c != '।',
        _ => !stands_alone(c) && c.is_alphabetic(),
    }
}

fn stands_alone(c: char) -> bool {
    matches!(c, '\u{0E00}'..='\u{0E7F}' | '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{9FFF}'
        | '\u{AC00}'..='\u{D7AF}' | '\u{20000}'..='\u{2FA1F}')
}

/// The ASCII form of a full-width character.
fn narrow(c: char) -> char {
    u32::from(c).checked_sub(0xFEE0).and_then(char::from_u32).unwrap_or(c)
}

/// Units of length and how many words one is, as they follow a number.
const UNITS: &[(&str, u32)] = &[
    ("word", 1),
    ("wörter", 1),
    ("worte", 1),
    ("mots", 1),
    ("palabras", 1),
    ("palavras", 1),
    ("parole", 1),
    ("слов", 1),
    ("字", 1),
    ("文字", 1),
    ("sentence", 20),
    ("paragraph", 100),
    ("page", 500),
    ("bullet", 20),
];

/// The number at the start of `bytes` times its unit, if a unit of length follows; 5..=20000.
fn words_asked(bytes: &[u8]) -> Option<u32> {
    let mut number: u32 = 0;
    let mut rest = bytes;
    while let Some((b, after)) = rest.split_first() {
        match b {
            b'0'..=b'9' => number = number.checked_mul(10)?.checked_add(u32::from(b - b'0'))?,
            b',' => {}
            _ => break,
        }
        rest = after;
    }
    if let Some((b' ' | b'-', after)) = rest.split_first() {
        rest = after;
    }
    // Most numbers are followed by something else: look closer only where a unit may start.
    if !rest.first().is_some_and(|b| b.is_ascii_alphabetic() || *b >= 0x80) {
        return None;
    }
    let (_, each) = UNITS
        .iter()
        .find(|(unit, _)| rest.get(..unit.len()).is_some_and(|r| r.eq_ignore_ascii_case(unit.as_bytes())))?;
    number.checked_mul(*each).filter(|n| (5..=20_000).contains(n))
}

/// The hash of a word as [`Scanner`] would give it; for tables built at start.
pub(crate) fn hash_of(word: &str) -> u32 {
    let mut scanner = Scanner::default();
    scanner.read(word);
    scanner.tokens.first().map_or(0, |t| t.hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let mut scanner = Scanner::default();
        scanner.read(text);
        let words: Vec<&str> = scanner
            .tokens
            .iter()
            .map(|t| &text[t.start as usize..t.start as usize + usize::from(t.bytes)])
            .collect();
        assert_eq!(words, expected, "{text:?}");
    }

    #[test]
    fn words_numbers_signs_and_characters() {
        check("Write 2 poems, please!", &["Write", "2", "poems", ",", "please", "!"]);
        check("don’t", &["don", "’", "t"]);
        check("prépare Übung naïve", &["prépare", "Übung", "naïve"]);
        check("用Python写", &["用", "Python", "写"]);
        check("हिंदी में", &["हिंदी", "में"]);
        check("Привет, мир", &["Привет", ",", "мир"]);
        check("x1,000.5\u{3000}y", &["x", "1", ",", "000", ".", "5", "y"]);
        check("", &[]);
    }

    #[test]
    fn case_and_width_do_not_count() {
        for (a, b) in
            [("WRITE", "write"), ("ÜBERSETZE", "übersetze"), ("НАПИШИ", "напиши"), ("？", "?"), ("’", "'")]
        {
            assert_eq!(hash_of(a), hash_of(b), "{a} {b}");
        }
        assert_ne!(hash_of("write"), hash_of("writes"));
    }

    #[test]
    fn line_starts_allow_markup() {
        let mut scanner = Scanner::default();
        scanner.read("one two\n## three four\n - [five] six\nseven");
        let starts: Vec<bool> =
            scanner.tokens.iter().filter(|t| t.kind == Kind::Word).map(|t| t.line_start).collect();
        assert_eq!(starts, [true, false, true, false, true, false, true]);
    }

    #[test]
    fn signs_are_counted() {
        let mut scanner = Scanner::default();
        scanner.read("Find $x^2 = 4$ where x = 1,000.5? Why？ {a|b}");
        let s = scanner.signs;
        assert_eq!((s.numbers, s.questions, s.formula, s.braces, s.bars), (3, 2, 5, 1, 1));
    }

    #[test]
    fn a_stated_length_is_read() {
        for (text, words) in [
            ("Write 1,200 words on tea", Some(1_200)),
            ("a 300-word essay", Some(300)),
            ("in 5 sentences", Some(100)),
            ("写一篇800字的作文", Some(800)),
            ("in 2024 we met", None),
            ("99999999999999 words", None),
        ] {
            let mut scanner = Scanner::default();
            scanner.read(text);
            assert_eq!(scanner.signs.words_asked, words, "{text}");
        }
    }
}
