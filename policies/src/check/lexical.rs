//! Habits of other languages that would compile to something else, or to nothing one can understand.

use types::expr::Problem;

fn problem(number: &'static str, at: (usize, usize), message: &str, hint: String) -> Problem {
    Problem {
        number,
        warning: false,
        line: at.0,
        column: at.1,
        message: message.to_owned(),
        hint: Some(hint),
    }
}

/// Template text (305) and foreign syntax (306), found before the parser sees the text.
pub(crate) fn lexical(source: &str) -> Vec<Problem> {
    let chars: Vec<char> = source.chars().collect();
    let mut scan = Scan { chars: &chars, at: 0, line: 1, column: 1, problems: Vec::new() };
    while let Some(c) = scan.peek(0) {
        scan.token(c);
    }
    scan.problems
}

struct Scan<'a> {
    chars: &'a [char],
    at: usize,
    line: usize,
    column: usize,
    problems: Vec<Problem>,
}

impl Scan<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at.saturating_add(ahead)).copied()
    }

    fn advance(&mut self) {
        if self.peek(0) == Some('\n') {
            self.line = self.line.saturating_add(1);
            self.column = 0;
        }
        self.column = self.column.saturating_add(1);
        self.at = self.at.saturating_add(1);
    }

    fn skip(&mut self, n: usize) {
        (0..n).for_each(|_| self.advance());
    }

    fn token(&mut self, c: char) {
        match c {
            '"' => self.string(),
            '`' => {
                let place = (self.line, self.column);
                self.problems.push(problem(
                    "305",
                    place,
                    "a template string (`…`)",
                    "use double quotes".into(),
                ));
                self.skip_to('`');
            }
            '\'' => self.single_quotes(),
            '$' if self.peek(1) == Some('{') => self.template(),
            '.' if self.peek(1) == Some('.') => self.skip(if self.peek(2) == Some('=') { 3 } else { 2 }),
            '=' | '!' | '<' | '>' | '+' | '-' | '*' | '/' | '%' | '&' | '|' | '^' => self.operator(c),
            c if c.is_alphabetic() || c == '_' => self.word(),
            _ => self.advance(),
        }
    }

    fn template(&mut self) {
        let message = "template text (`${…}`) in an expression";
        let hint = "write the name itself: an expression is never interpolated".into();
        self.problems.push(problem("305", (self.line, self.column), message, hint));
        self.skip(2);
    }

    fn string(&mut self) {
        self.advance();
        while let Some(c) = self.peek(0) {
            match c {
                '"' => return self.advance(),
                '\\' => self.skip(2),
                '$' if self.peek(1) == Some('{') => self.template(),
                _ => self.advance(),
            }
        }
    }

    /// Moves behind the next `end`; gives what stands between.
    fn skip_to(&mut self, end: char) -> String {
        self.advance();
        let mut inner = String::new();
        while let Some(c) = self.peek(0) {
            self.advance();
            if c == end {
                break;
            }
            inner.push(c);
        }
        inner
    }

    fn single_quotes(&mut self) {
        let place = (self.line, self.column);
        let inner = self.skip_to('\'');
        let hint = format!("write \"{inner}\": strings take double quotes");
        self.problems.push(problem("306", place, "single quotes", hint));
    }

    fn operator(&mut self, c: char) {
        let two: String = [Some(c), self.peek(1)].into_iter().flatten().collect();
        match two.as_str() {
            "==" | "!=" | "<=" | ">=" | "=>" | "&&" | "||" | "**" => self.skip(2),
            _ if c == '=' => {
                let hint = "write `==` to compare".into();
                self.problems.push(problem("306", (self.line, self.column), "a single `=`", hint));
                self.advance();
            }
            _ => self.advance(),
        }
    }

    fn word(&mut self) {
        let place = (self.line, self.column);
        let member = self.at > 0 && self.chars.get(self.at.saturating_sub(1)) == Some(&'.');
        let mut word = String::new();
        while let Some(c) = self.peek(0).filter(|c| c.is_alphanumeric() || *c == '_') {
            word.push(c);
            self.advance();
        }
        let rewrite = match word.as_str() {
            "and" => "&&",
            "or" => "||",
            "not" if self.next_word("in") => "!in",
            "not" => "!",
            _ => return,
        };
        if !member {
            self.problems.push(problem("306", place, &format!("`{word}`"), format!("write `{rewrite}`")));
        }
    }

    fn next_word(&self, word: &str) -> bool {
        let rest: String = self.chars.iter().skip(self.at).take(word.len().saturating_add(2)).collect();
        rest.trim_start().starts_with(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, want: &[(&str, usize, usize, &str)]) {
        let got = lexical(source);
        let got: Vec<_> =
            got.iter().map(|p| (p.number, p.line, p.column, p.hint.as_deref().unwrap_or(""))).collect();
        assert_eq!(got, want, "{source}");
    }

    #[test]
    fn foreign_syntax_is_named_with_its_rewrite() {
        check("a == 'x'", &[("306", 1, 6, "write \"x\": strings take double quotes")]);
        check("a and b", &[("306", 1, 3, "write `&&`")]);
        check("a\n or not b", &[("306", 2, 2, "write `||`"), ("306", 2, 5, "write `!`")]);
        check("a not in [1]", &[("306", 1, 3, "write `!in`")]);
        check("a = 1", &[("306", 1, 3, "write `==` to compare")]);
        check("`x`", &[("305", 1, 1, "use double quotes")]);
        check(
            "a == \"${b}\"",
            &[("305", 1, 7, "write the name itself: an expression is never interpolated")],
        );
    }

    #[test]
    fn what_only_looks_like_it_passes() {
        for source in [
            "a == \"it's and = \\\" or\"",
            "a.and",
            "oranges >= band",
            "[1].some(|x| x <= 2)",
            "a != b",
            "a in 1..=5",
        ] {
            check(source, &[]);
        }
    }
}
