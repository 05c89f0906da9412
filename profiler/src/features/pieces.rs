//! A long text as the pieces of it that are read: both edges, and a sample of what lies between.

/// Where instructions stand in a text: this many bytes at its start …
const EDGE_HEAD: usize = 450;
/// … and this many at its end; what lies between is mostly material.
const EDGE_TAIL: usize = 350;

/// At most `bytes` from the start, cut between characters.
pub(crate) fn head(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// At most `bytes` from the end, cut between characters.
pub(crate) fn tail(text: &str, bytes: usize) -> &str {
    text.get(text.ceil_char_boundary(text.len().saturating_sub(bytes))..).unwrap_or(text)
}

/// A text in four pieces: both edges, where instructions stand, and a sample of what lies between.
pub(super) struct Pieces<'a> {
    pub(super) edge_head: &'a str,
    pub(super) body_head: &'a str,
    pub(super) body_tail: &'a str,
    pub(super) edge_tail: &'a str,
}

impl<'a> Pieces<'a> {
    pub(super) fn cut(text: &'a str, body_head: usize, body_tail: usize) -> Self {
        if text.len() <= EDGE_HEAD.saturating_add(EDGE_TAIL) {
            return Pieces { edge_head: text, body_head: "", body_tail: "", edge_tail: "" };
        }
        let (edge_head, rest) = split_at_blank(text, EDGE_HEAD);
        let (body, edge_tail) = split_at_blank(rest, rest.len().saturating_sub(EDGE_TAIL));
        if body.len() <= body_head.saturating_add(body_tail) {
            return Pieces { edge_head, body_head: body, body_tail: "", edge_tail };
        }
        Pieces { edge_head, body_head: head(body, body_head), body_tail: tail(body, body_tail), edge_tail }
    }

    /// The pieces in the order of the text.
    pub(super) fn all(&self) -> [&'a str; 4] {
        [self.edge_head, self.body_head, self.body_tail, self.edge_tail]
    }
}

/// Splits at the first blank within 48 bytes after `at`, so that no cue is cut; else at `at`.
fn split_at_blank(text: &str, at: usize) -> (&str, &str) {
    let at = text.floor_char_boundary(at);
    let blank = text.as_bytes().get(at..).unwrap_or(&[]).iter().take(48).position(u8::is_ascii_whitespace);
    text.split_at_checked(at.saturating_add(blank.unwrap_or(0))).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_never_cut_a_character() {
        let text = "é".repeat(30_000);
        let p = Pieces::cut(&text, 101, 103);
        assert!(p.all().iter().all(|s| !s.is_empty()));
    }

    #[test]
    fn a_text_of_middling_length_is_read_whole() {
        let text = "one two three ".repeat(200);
        assert_eq!(Pieces::cut(&text, 6_000, 3_000).all().concat(), text);
    }
}
