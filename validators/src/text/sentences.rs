//! Splitting text into sentences, in any script.

use super::blocks::{Kind, Outline};
use std::ops::Range;

/// A sentence of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sentence {
    /// Bytes of the text.
    pub(crate) span: Range<usize>,
    /// What it stands in.
    pub(crate) kind: Kind,
    /// Position of its block among the blocks.
    pub(crate) block: usize,
}

/// Words behind whose dot a sentence goes on.
const NEVER_LAST: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "cf", "fig", "figs", "no", "nos", "vol", "pp",
    "p", "approx", "gen", "col", "sgt", "capt", "lt", "rev", "hon", "sen", "rep", "gov", "pres", "sec", "eq",
    "ch", "dept", "est", "al", "ca", "bzw", "z.b", "d.h", "u.a", "vgl", "nr", "bspw", "ggf", "hr", "fr",
    "sra", "sr", "dra", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec",
    "v", "art", "ed", "eds", "mt",
];

/// Words behind whose dot a sentence ends only if the next one begins with a capital.
const SELDOM_LAST: &[&str] =
    &["etc", "inc", "ltd", "co", "corp", "jr", "a.m", "p.m", "u.s", "u.k", "usw", "a.d", "b.c"];

/// The sentences of running text, as byte ranges without surrounding blanks.
pub(crate) fn spans(text: &str) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut start = 0_usize;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let end = at.saturating_add(c.len_utf8());
        if !ends(text, start, at, c) {
            continue;
        }
        let mut end = end;
        // Closing marks and a citation behind the full stop belong to the sentence.
        while let Some(rest) = text.get(end..) {
            let extra = closing(rest);
            if extra == 0 {
                break;
            }
            end = end.saturating_add(extra);
        }
        if !wide(c) && c != '\n' && !breaks(text, end) {
            continue;
        }
        push(text, start..end, &mut out);
        start = end;
        while chars.peek().is_some_and(|(i, _)| *i < end) {
            chars.next();
        }
    }
    push(text, start..text.len(), &mut out);
    out
}

/// The sentences of the prose of a text: paragraphs, items, headings and rows, not code.
pub(crate) fn of(text: &str, outline: &Outline) -> Vec<Sentence> {
    let mut out = Vec::new();
    for (block, b) in outline.blocks.iter().enumerate() {
        let whole = text.get(b.span.clone()).unwrap_or("");
        let spans = match b.kind {
            Kind::Paragraph | Kind::Item => spans(whole),
            Kind::Heading(_) | Kind::Header | Kind::Row => std::iter::once(0..whole.len()).collect(),
        };
        out.extend(spans.into_iter().map(|s| Sentence {
            span: b.span.start.saturating_add(s.start)..b.span.start.saturating_add(s.end),
            kind: b.kind,
            block,
        }));
    }
    out
}

/// Terminators of scripts that put no space behind them.
fn wide(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '｡' | '．')
}

/// Whether a sentence may end with this character.
fn ends(text: &str, start: usize, at: usize, c: char) -> bool {
    match c {
        '!' | '?' | '…' | '।' | '॥' | '؟' | '۔' | '።' | '။' | '៕' => true,
        // An empty line ends whatever stands before it.
        '\n' => text
            .get(at.saturating_add(1)..)
            .is_some_and(|r| r.trim_start_matches([' ', '\t']).starts_with('\n')),
        '.' => !abbreviates(text, start, at),
        c => wide(c),
    }
}

/// Whether the dot at this place belongs to the word before it.
fn abbreviates(text: &str, start: usize, at: usize) -> bool {
    let before = text.get(start..at).unwrap_or("");
    let word =
        before.rsplit(|c: char| c.is_whitespace() || matches!(c, '(' | '[' | '"' | '“')).next().unwrap_or("");
    let next = text.get(at.saturating_add(1)..).and_then(|r| r.trim_start().chars().next());
    // The number that opens a line numbers it.
    let opens = before.trim_start() == word;
    if opens && !word.is_empty() && word.len() <= 3 && word.chars().all(|c| c.is_ascii_digit()) {
        return true;
    }
    let mut letters = word.chars();
    let initial = letters.next().is_some_and(char::is_uppercase) && letters.next().is_none() && word != "I";
    match dot(&word.to_lowercase()) {
        _ if initial => true,
        Dot::Ends => false,
        Dot::SeldomEnds => next.is_some_and(|c| !c.is_uppercase()),
        Dot::NeverEnds => true,
    }
}

/// What a dot behind a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dot {
    /// The end of a sentence.
    Ends,
    /// That, if the next word begins with a capital.
    SeldomEnds,
    /// It belongs to the word.
    NeverEnds,
}

/// What a dot behind this word, in small letters, means.
pub(crate) fn dot(word: &str) -> Dot {
    match word {
        w if NEVER_LAST.contains(&w) => Dot::NeverEnds,
        w if SELDOM_LAST.contains(&w) => Dot::SeldomEnds,
        _ => Dot::Ends,
    }
}

/// Length of a closing quote, bracket, repeated terminator or citation mark at the beginning of the text.
fn closing(rest: &str) -> usize {
    let Some(c) = rest.chars().next() else { return 0 };
    if matches!(
        c,
        '"' | '\'' | '”' | '’' | '»' | ')' | ']' | '」' | '』' | '）' | '!' | '?' | '.' | '…' | '*' | '_'
    ) {
        return c.len_utf8();
    }
    mark(rest.trim_start_matches(' '))
        .map_or(0, |n| n.saturating_add(rest.len().saturating_sub(rest.trim_start_matches(' ').len())))
}

/// Length of a mark such as `[1]`, `[2, 3]` or `[^a]` at the beginning of the text.
fn mark(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('[')?;
    let end = inner.find(']').filter(|n| *n <= 24)?;
    let body = inner.get(..end)?;
    let known = body.starts_with('^')
        || body.chars().all(|c| c.is_ascii_digit() || matches!(c, ',' | ' ' | '-' | '–'));
    (known && !body.is_empty() && !inner.get(end..)?.starts_with("](")).then_some(end.saturating_add(2))
}

/// Whether what follows lets a sentence end here: the end, a line break, or blanks before anything but a
/// small letter.
fn breaks(text: &str, end: usize) -> bool {
    let rest = text.get(end..).unwrap_or("");
    match rest.chars().next() {
        None => true,
        Some(c) if c.is_whitespace() => rest.trim_start().chars().next().is_none_or(|c| !c.is_lowercase()),
        Some(c) => super::unspaced(c),
    }
}

fn push(text: &str, span: Range<usize>, out: &mut Vec<Range<usize>>) {
    let piece = text.get(span.clone()).unwrap_or("");
    let start = span.start.saturating_add(piece.len().saturating_sub(piece.trim_start().len()));
    let trimmed = piece.trim();
    if trimmed.chars().any(char::is_alphanumeric) {
        out.push(start..start.saturating_add(trimmed.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::blocks::outline;
    use proptest::prelude::*;

    fn check(text: &str, want: &[&str]) {
        let got: Vec<&str> = spans(text).into_iter().map(|s| &text[s]).collect();
        assert_eq!(got, want, "{text:?}");
    }

    #[test]
    fn latin_text_is_split() {
        check("", &[]);
        check("One. Two! Three? Four", &["One.", "Two!", "Three?", "Four"]);
        check("Dr. Smith paid 3.5 million. He left.", &["Dr. Smith paid 3.5 million.", "He left."]);
        check(
            "J. K. Rowling wrote it, e.g. in Paris. Yes.",
            &["J. K. Rowling wrote it, e.g. in Paris.", "Yes."],
        );
        check("It costs 5 USD etc. and more. Fine.", &["It costs 5 USD etc. and more.", "Fine."]);
        check("It ended at 5 p.m. Then we left.", &["It ended at 5 p.m.", "Then we left."]);
        check("He said \"Go.\" She went (fast.) Ok", &["He said \"Go.\"", "She went (fast.)", "Ok"]);
        check("True.[1] And so on. [2, 3] End.", &["True.[1]", "And so on. [2, 3]", "End."]);
        check("1. First thing. 2. Second.", &["1. First thing.", "2. Second."]);
        check("Visit example.com now. Bye.", &["Visit example.com now.", "Bye."]);
        check("Wait... what? No!!! Yes", &["Wait... what?", "No!!!", "Yes"]);
        check("One line\n\nAnother", &["One line", "Another"]);
    }

    #[test]
    fn other_scripts_are_split() {
        check("今天天气很好。我们去公园吧！好吗？", &["今天天气很好。", "我们去公园吧！", "好吗？"]);
        check("彼は「行く。」と言った。終わり", &["彼は「行く。」", "と言った。", "終わり"]);
        check("यह पहला है। यह दूसरा है।", &["यह पहला है।", "यह दूसरा है।"]);
        check("هل هذا صحيح؟ نعم.", &["هل هذا صحيح؟", "نعم."]);
        check("Это раз. Это два.", &["Это раз.", "Это два."]);
    }

    #[test]
    fn sentences_know_their_block() {
        let text = "# Title\n\nOne. Two.\n\n- three\n- four. five\n\n```\nno. code.\n```";
        let got: Vec<(usize, &str)> =
            of(text, &outline(text)).into_iter().map(|s| (s.block, &text[s.span])).collect();
        assert_eq!(got, [(0, "Title"), (1, "One."), (1, "Two."), (2, "three"), (3, "four. five")]);
    }

    proptest! {
        #[test]
        fn spans_lie_in_order_on_boundaries(text in "[a-zA-Z0-9.!?\\[\\]\"' \n。中]{0,80}") {
            let mut last = 0;
            for s in spans(&text) {
                prop_assert!(s.start >= last && s.end > s.start && text.get(s.clone()).is_some());
                last = s.end;
            }
        }
    }
}
