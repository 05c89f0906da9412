//! Taking a line apart into numbers, signs and words.

use crate::text::numbers::{Number, numbers};
use crate::text::quantities::Unit;
use std::ops::Range;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Number(Number),
    /// `+ - * /`
    Operator(char),
    Open,
    Close,
    Equal,
    Word(String),
    /// Something that ends an expression without being part of it.
    Stop,
    /// Something that makes what is beside it no plain number.
    Other,
}

#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) span: Range<usize>,
}

/// Signs of LaTeX as plain ones of the same length.
fn plain(line: &str) -> String {
    let mut out = line.to_owned();
    for (from, to) in [
        (r"\times", "*     "),
        (r"\cdot", "*    "),
        (r"\div", "/   "),
        (r"\approx", "=      "),
        (r"\left", "     "),
        (r"\right", "      "),
        (r"\%", " %"),
        (r"\$", " $"),
        (r"\,", "  "),
        (r"\;", "  "),
        (r"\(", "  "),
        (r"\)", "  "),
        (r"\[", "  "),
        (r"\]", "  "),
    ] {
        if out.contains(from) {
            out = out.replace(from, to);
        }
    }
    out
}

pub(super) fn tokens(line: &str, skip: &[Range<usize>]) -> Vec<Placed> {
    let line = plain(line);
    let mut all = numbers(&line, skip).into_iter().peekable();
    let mut out: Vec<Placed> = Vec::new();
    let mut at = 0_usize;
    while let Some(c) = line.get(at..).and_then(|r| r.chars().next()) {
        if let Some(s) = skip.iter().find(|s| s.contains(&at)) {
            out.push(Placed { token: Token::Other, span: at..s.end });
            at = s.end.max(at.saturating_add(c.len_utf8()));
            continue;
        }
        while all.next_if(|n| n.span.start < at).is_some() {}
        if let Some(n) = all.next_if(|n| n.span.start == at && !n.spelled) {
            let span = n.span.clone();
            at = span.end.max(at.saturating_add(1));
            let known = n.literal.is_none() && !matches!(n.unit, Unit::Clock | Unit::Ordinal);
            out.push(Placed { token: if known { Token::Number(n) } else { Token::Other }, span });
            continue;
        }
        let (token, len) = sign(&line, at, c, out.last());
        if let Some(token) = token {
            out.push(Placed { token, span: at..at.saturating_add(len) });
        }
        at = at.saturating_add(len.max(1));
    }
    out
}

/// What stands here beside numbers, and how long it is.
fn sign(line: &str, at: usize, c: char, last: Option<&Placed>) -> (Option<Token>, usize) {
    let len = c.len_utf8();
    let rest = line.get(at..).unwrap_or("");
    let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let after_number = last.is_some_and(|p| matches!(p.token, Token::Number(_) | Token::Close));
    match c {
        ' ' | '\t' | '\n' | '\r' | '\u{a0}' | '\u{202f}' | '*' if c != '*' => (None, len),
        // Bold, not times.
        '*' if rest.starts_with("**") => (None, 2),
        '+' => (Some(Token::Operator('+')), len),
        '-' | '−' | '–' => (Some(Token::Operator('-')), len),
        '*' | '×' | '·' | '∗' => (Some(Token::Operator('*')), len),
        '/' | '÷' => (Some(Token::Operator('/')), len),
        '(' => (Some(Token::Open), len),
        ')' => (Some(Token::Close), len),
        '=' if rest.starts_with("==") || rest.starts_with("=>") => (Some(Token::Other), 2),
        '=' | '≈' => (Some(Token::Equal), len),
        '≠' | '<' | '>' | '!' | '^' | '²' | '³' | '√' | '\\' | '{' | '}' | '[' | ']' | '%' | '°' | '|' =>
        {
            // `<=`, `!=` and the like are no equations.
            (
                Some(Token::Other),
                if rest.get(len..).is_some_and(|r| r.starts_with('=')) { len.saturating_add(1) } else { len },
            )
        }
        ',' | '.' | ';' | ':' | '?' | '"' | '“' | '”' | '$' | '€' | '£' | '_' | '#' => {
            (Some(Token::Stop), len)
        }
        _ if word.is_empty() => (Some(Token::Other), len),
        _ => {
            let times = after_number && matches!(word.as_str(), "x" | "X");
            let token = if times { Token::Operator('*') } else { Token::Word(word.to_lowercase()) };
            (Some(token), word.len())
        }
    }
}
