//! How many tokens a text may be, from its bytes and scripts.

/// Tokens per ASCII byte: English and code run at about four bytes a token.
const PER_ASCII_BYTE: f32 = 0.25;
/// Tokens per character of two UTF-8 bytes (accented Latin, Cyrillic, Greek, Arabic, Hebrew).
const PER_TWO_BYTE_CHAR: f32 = 0.42;
/// Tokens per character of three UTF-8 bytes (Han, kana, Hangul, Thai, Devanagari, typographic marks).
/// Tokenisers in use lie between 0.6 and 1.1 for Han; this is the middle.
const PER_THREE_BYTE_CHAR: f32 = 0.85;
/// Tokens per character of four UTF-8 bytes (emoji, rare Han).
const PER_FOUR_BYTE_CHAR: f32 = 1.6;
/// Tokens that the frame of a message (role, separators) takes where the text of a conversation is compared with others,
/// which need not be paid for.
pub(crate) const PER_MESSAGE: f32 = 0.5;
/// Tokens that the frame of a tool call takes.
pub(crate) const PER_CALL: f32 = 8.0;
/// Tokens of an image at ordinary detail.
pub(crate) const PER_IMAGE: f32 = 765.0;

/// Estimated tokens of `text`; one linear pass the compiler turns into vector code.
pub(crate) fn of(text: &str) -> f32 {
    let bytes = text.as_bytes();
    let ascii = count(bytes, |b| b < 0x80);
    if ascii == bytes.len() {
        return ascii as f32 * PER_ASCII_BYTE;
    }
    let two = count(bytes, |b| (0xC0..0xE0).contains(&b));
    let three = count(bytes, |b| (0xE0..0xF0).contains(&b));
    let four = count(bytes, |b| b >= 0xF0);
    ascii as f32 * PER_ASCII_BYTE
        + two as f32 * PER_TWO_BYTE_CHAR
        + three as f32 * PER_THREE_BYTE_CHAR
        + four as f32 * PER_FOUR_BYTE_CHAR
}

/// The longest words that tokenisers in use keep whole, in letters.
const LONGEST: usize = 16;
/// Letters that another character counts for, such as one of Han: many words of two or three of them are one token, and
/// hardly any of more than five.
const LETTERS_PER_WIDE: usize = 3;

/// Fewer tokens than `text` has, or as many: no tokeniser in use joins words that stand apart, nor keeps longer ones than
/// [`LONGEST`] whole. A letter like the one before it counts nothing, since a rule of any length may be one token.
pub(crate) fn least(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let (first, rest) = (bytes.get(..1).unwrap_or_default(), bytes.get(1..).unwrap_or_default());
    let is_blank = |b: u8| matches!(b, b' ' | b'\n' | b'\r' | b'\t');
    let words = count(first, |b| !is_blank(b)) + pairs(bytes, rest, |a, b| is_blank(a) & !is_blank(b));
    let ascii = first.len() + pairs(bytes, rest, |a, b| (b < 0x80) & (a != b) & !is_blank(b));
    let letters = ascii.saturating_add(if text.is_ascii() { 0 } else { letters_beyond_ascii(text) });
    u32::try_from(words.max(letters / LONGEST)).unwrap_or(u32::MAX)
}

fn letters_beyond_ascii(text: &str) -> usize {
    let each = |(a, b): (char, char)| match b.len_utf8() {
        _ if a == b => 0,
        1 => 0,
        2 => 1,
        _ => LETTERS_PER_WIDE,
    };
    std::iter::once('\0').chain(text.chars()).zip(text.chars()).map(each).sum()
}

/// The frame of a message or a tool call at most, whatever the vendor's template.
pub(crate) const MOST_PER_FRAME: u32 = 8;
/// What vendors put around a conversation at most, and what some add where tools are offered.
const MOST_AROUND: u32 = 16;
const MOST_FOR_TOOLS: u32 = 600;
/// An image at most, at the detail that is usual.
const MOST_PER_IMAGE: u32 = 1_600;

/// More tokens than `text` has: letters and blanks make at least two a token, and nothing makes more than one token a
/// byte. Twice to four times the usual number; what is set aside before a call has to reach for any text.
pub(crate) fn most(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let paired = count(bytes, |b| b.is_ascii_alphabetic() || b == b' ');
    let single = bytes.len().saturating_sub(paired);
    u32::try_from(paired.div_ceil(2).saturating_add(single)).unwrap_or(u32::MAX)
}

/// More input tokens than a request has whose texts come to `texts` ([`most`]); of these, images.
pub(crate) fn most_of(texts: u32, frames: u32, tools: u32, images: u32) -> (u32, u32) {
    let images = images.saturating_mul(MOST_PER_IMAGE);
    let offered = if tools > 0 { MOST_FOR_TOOLS } else { 0 };
    (texts.saturating_add(around(frames)).saturating_add(offered).saturating_add(images), images)
}

/// What vendors put around the texts of a conversation of so many messages and calls at most.
pub(crate) const fn around(frames: u32) -> u32 {
    frames.saturating_mul(MOST_PER_FRAME).saturating_add(MOST_AROUND)
}

/// Counts in chunks of 255, so that a chunk's sum fits a byte and the loop stays in narrow vector lanes.
fn count(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    bytes.chunks(255).map(|c| usize::from(c.iter().fold(0_u8, |n, b| n.wrapping_add(u8::from(is(*b)))))).sum()
}

/// The same of each byte and the one after it.
fn pairs(bytes: &[u8], next: &[u8], is: impl Fn(u8, u8) -> bool) -> usize {
    let chunk =
        |(a, b): (&[u8], &[u8])| a.iter().zip(b).fold(0_u8, |n, (a, b)| n.wrapping_add(u8::from(is(*a, *b))));
    bytes.chunks(255).zip(next.chunks(255)).map(|c| usize::from(chunk(c))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, low: f32, high: f32) {
        let n = of(text);
        assert!((low..=high).contains(&n), "{text:?}: {n} is outside {low}..={high}");
    }

    #[test]
    fn there_are_never_more_than_the_most() {
        // Tokens that a tokeniser in use (o200k, cl100k) makes of these, whichever makes more.
        let counted = [
            ("ok", 1),
            ("The quick brown fox jumps over the lazy dog.", 10),
            ("请帮我写一首关于春天的诗", 16),
            ("Напиши короткое стихотворение о весне", 16),
            ("d41d8cd98f00b204e9800998ecf8427e", 24),
            ("{\"a\":[1,22,333,4444]}", 14),
            ("\n\n\n\n", 1),
            ("👩‍👩‍👧‍👦", 18),
        ];
        for (text, tokens) in counted {
            assert!(most(text) >= tokens, "{text:?}: {} < {tokens}", most(text));
            assert!(most(text) as f32 >= of(text), "{text:?}");
            assert!(least(text) <= tokens, "{text:?}: {} > {tokens}", least(text));
        }
        // A conversation of many short messages is mostly frames: 41 times "ok" are 208 tokens at OpenAI.
        assert!(most_of(41 * most("ok"), 41, 0, 0).0 >= 208);
    }

    #[test]
    fn there_are_never_fewer_than_the_least() {
        let check = |text: &str, tokens: u32| {
            let n = least(text);
            assert!(n <= tokens, "{:?}: {n} > {tokens}", text.get(..20));
        };
        // A token for each word with the blank before it, as tokenisers in use have them.
        for words in [" the", " several words", " information", " international", " the responsibility of"] {
            check(&words.repeat(1_000), 1_000 * u32::try_from(words.split(' ').count() - 1).unwrap());
        }
        check(&" ".repeat(8_000), 100);
        check(&"=".repeat(8_000), 125);
        check(&"─".repeat(8_000), 125);
        // But they are not many fewer.
        assert_eq!(least(&" several words".repeat(1_000)), 2_000);
        assert_eq!(least(&"The lake lay still under a grey sky.\n".repeat(1_000)), 8_000);
        assert!(least(&"d41d8cd98f00b204e9800998ecf8427e".repeat(100)) > 100);
        assert!(least(&"请帮我写一首关于春天的诗".repeat(100)) > 200);
    }

    #[test]
    fn scripts_differ_in_tokens_per_character() {
        check("", 0.0, 0.0);
        check("The quick brown fox jumps over the lazy dog.", 9.0, 13.0);
        check("请帮我写一首关于春天的诗", 8.0, 14.0);
        check("Напиши короткое стихотворение о весне", 9.0, 18.0);
        check(&"a".repeat(100_000), 24_999.0, 25_001.0);
        check(&"é".repeat(1_000), 300.0, 500.0);
    }
}
