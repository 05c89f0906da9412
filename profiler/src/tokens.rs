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
/// Tokens that the frame of a message (role, separators) takes.
pub(crate) const PER_MESSAGE: f32 = 0.5;
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

/// Counts in chunks of 255, so that a chunk's sum fits a byte and the loop stays in narrow vector lanes.
fn count(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    bytes.chunks(255).map(|c| usize::from(c.iter().fold(0_u8, |n, b| n.wrapping_add(u8::from(is(*b)))))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, low: f32, high: f32) {
        let n = of(text);
        assert!((low..=high).contains(&n), "{text:?}: {n} is outside {low}..={high}");
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
