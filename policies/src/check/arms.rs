//! The texts that a `switch` compares with. The tree holds only their hashes, so they are read in the text.

use std::ops::Range;

/// The literals in the patterns of the `switch` that begins a text, each with its place, quotes left out.
pub(super) fn literals(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut tokens = Tokens { text, at: 0 };
    let (mut depth, mut pattern) = (0_usize, false);
    while let Some(token) = tokens.next() {
        match token {
            Token::Text(span) if depth == 1 && pattern => {
                found.push((span.start, text.get(span).unwrap_or("")));
            }
            Token::Text(_) => {}
            Token::Open('{') if depth == 0 => (depth, pattern) = (1, true),
            // What is compared, before the first bracket of the arms.
            Token::Open(_) if depth == 0 => tokens.skip_group(),
            Token::Open(_) => depth = depth.saturating_add(1),
            Token::Close => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    break;
                }
                // A block needs no comma behind it.
                pattern |= depth == 1;
            }
            Token::Arrow | Token::If if depth == 1 => pattern = false,
            Token::Comma if depth == 1 => pattern = true,
            Token::Arrow | Token::If | Token::Comma => {}
        }
    }
    found
}

/// What matters of the text.
enum Token {
    /// A string, where it stands without its quotes.
    Text(Range<usize>),
    Open(char),
    Close,
    Arrow,
    Comma,
    If,
}

struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl Tokens<'_> {
    fn next(&mut self) -> Option<Token> {
        loop {
            let rest = self.text.get(self.at..)?;
            let c = rest.chars().next()?;
            let (token, length) = match c {
                '"' | '`' => {
                    let end = end_of(rest, c);
                    let inner = self.at.saturating_add(1)..self.at.saturating_add(end.saturating_sub(1));
                    (Some(Token::Text(inner)), end)
                }
                '\'' => (None, end_of(rest, c)),
                '/' if rest.starts_with("//") => (None, rest.find('\n').unwrap_or(rest.len())),
                '/' if rest.starts_with("/*") => {
                    (None, rest.find("*/").map_or(rest.len(), |i| i.saturating_add(2)))
                }
                '{' | '(' | '[' => (Some(Token::Open(c)), 1),
                '}' | ')' | ']' => (Some(Token::Close), 1),
                '=' if rest.starts_with("=>") => (Some(Token::Arrow), 2),
                ',' => (Some(Token::Comma), 1),
                c if c.is_alphabetic() || c == '_' => {
                    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                    (rest.get(..word).filter(|w| *w == "if").map(|_| Token::If), word)
                }
                c => (None, c.len_utf8()),
            };
            self.at = self.at.saturating_add(length);
            if token.is_some() {
                return token;
            }
        }
    }

    /// Goes behind the bracket that closes the one that was opened last.
    fn skip_group(&mut self) {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next() {
                Some(Token::Open(_)) => depth = depth.saturating_add(1),
                Some(Token::Close) => depth = depth.saturating_sub(1),
                Some(_) => {}
                None => return,
            }
        }
    }
}

/// Where a string that begins a text ends, behind its closing quote.
fn end_of(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return i.saturating_add(1),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_compared_with_is_read() {
        let check = |text: &str, want: &[&str]| {
            let found = literals(text);
            assert_eq!(found.iter().map(|(_, t)| *t).collect::<Vec<_>>(), want, "{text}");
            assert!(found.iter().all(|(at, t)| text.get(*at..).unwrap().starts_with(t)));
        };
        check("switch t { \"a\" => 1, \"b\" | \"c\" => \"x\", _ => \"y\" } let z = \"d\";", &["a", "b", "c"]);
        check(
            "switch f(\"q\", [1]) { \"a\" => { let x = \"n\"; g(\"m\") } \"b\" if t == \"k\" => 2 }",
            &["a", "b"],
        );
        check("switch t { // \"no\", \n \"a\" => #{ k: \"v\" }, /* \"no\" */ \"b\" => 1, }", &["a", "b"]);
        check("switch t { \"a\\\"b\" => '\"', \"c\" => `x, \"d\"` }", &["a\\\"b", "c"]);
        check("switch t", &[]);
    }
}
