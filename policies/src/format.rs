//! The usual form of rules files and policies: layout only, never meaning.

/// Formats a rules file: conditions, plain or in single quotes, with one space around operators, one empty line between
/// rules, no spaces at the ends of lines, a line end at the end. Comments stay. What could change its meaning (block
/// scalars, text in double quotes) is left as it is.
#[must_use]
pub fn rules(text: &str) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut block: Option<usize> = None;
    let mut in_rules = false;
    let mut first = false;
    for line in text.lines() {
        let indent = line.chars().take_while(|c| *c == ' ').count();
        let trimmed = line.trim_end();
        if let Some(outer) = block {
            if trimmed.is_empty() || indent > outer {
                out.push(line.to_owned());
                continue;
            }
            block = None;
        }
        if indent == 0 && !trimmed.is_empty() && !trimmed.starts_with('#') && !trimmed.starts_with('-') {
            in_rules = trimmed.starts_with("rules:");
            first = in_rules;
        }
        if in_rules && indent <= 2 && trimmed.trim_start().starts_with("- ") {
            let above = above_comments(&out);
            if !first && above > 0 && out.get(above.saturating_sub(1)).is_some_and(|l| !l.is_empty()) {
                out.insert(above, String::new());
            }
            first = false;
        }
        if trimmed.is_empty() && out.last().is_some_and(String::is_empty) {
            continue;
        }
        if is_block(trimmed) {
            block = Some(indent);
        }
        out.push(condition(trimmed));
    }
    while out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    out.push(String::new());
    out.join("\n")
}

/// Where a line stands that an empty one is put before: above the comments that belong to it.
fn above_comments(out: &[String]) -> usize {
    out.iter()
        .rposition(|l| !l.trim_start().starts_with('#') || l.is_empty())
        .map_or(0, |i| i.saturating_add(1))
}

/// Whether a block scalar begins behind the line.
fn is_block(line: &str) -> bool {
    let value = line.rsplit(": ").next().unwrap_or("").trim();
    let value = value.split(" #").next().unwrap_or("").trim_end();
    ["|", ">", "|-", ">-", "|+", ">+"].contains(&value)
}

/// A line with its plain condition in the usual form.
fn condition(line: &str) -> String {
    for key in ["when: ", "unless: "] {
        let start = line.trim_start();
        let own = start.strip_prefix("- ").unwrap_or(start);
        if let Some(quoted) = own.strip_prefix(key).and_then(|v| v.strip_prefix('\'')?.strip_suffix('\''))
            && !quoted.contains('\'')
            && !quoted.contains('`')
        {
            let before = line.len().saturating_sub(quoted.len().saturating_add(1));
            return format!("{}{}'", line.get(..before).unwrap_or(""), expression(quoted));
        }
        if let Some(expr) = own.strip_prefix(key)
            // Quoted, commented and flow text is not plain.
            && !expr.starts_with(['"', '\'', '|', '>', '{', '[', '&', '*', '!'])
            && !expr.contains(" #")
            && !expr.contains('`')
        {
            let before = line.len().saturating_sub(expr.len());
            return format!("{}{}", line.get(..before).unwrap_or(""), expression(expr));
        }
    }
    line.to_owned()
}

/// An expression with one space around each operator that takes two sides.
fn expression(text: &str) -> String {
    const OPERATORS: &[&str] = &["&&", "||", "==", "!=", "<=", ">=", "??"];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            let end = string_end(rest);
            out.push_str(rest.get(..end).unwrap_or(rest));
            rest = rest.get(end..).unwrap_or("");
            continue;
        }
        if let Some(op) = OPERATORS.iter().find(|op| rest.starts_with(**op)) {
            while out.ends_with(' ') {
                out.pop();
            }
            out.push(' ');
            out.push_str(op);
            out.push(' ');
            rest = rest.get(op.len()..).unwrap_or("").trim_start();
            continue;
        }
        if c == ' ' {
            if !out.ends_with([' ', '(', '[']) {
                out.push(' ');
            }
            rest = rest.trim_start();
            if rest.starts_with([')', ']', ',']) && out.ends_with(' ') {
                out.pop();
            }
            continue;
        }
        out.push(c);
        rest = rest.get(c.len_utf8()..).unwrap_or("");
        if c == ',' && !rest.starts_with(' ') && !rest.is_empty() {
            out.push(' ');
        }
    }
    out.trim().to_owned()
}

/// Length of a string that starts the text, its quotes included.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return i.saturating_add(1),
            _ => escaped = false,
        }
    }
    text.len()
}

/// Formats a policy: four spaces for each bracket that is open, one step more for what goes on over several lines, no
/// spaces at the ends of lines, at most one empty line in a row and none after a bracket that opens, a line end at the
/// end. Comments stay. A policy with texts over several lines is left as it is.
#[must_use]
pub fn script(text: &str) -> String {
    if text.contains('`') {
        return text.to_owned();
    }
    let mut out: Vec<String> = Vec::new();
    let mut nesting = Nesting::default();
    for line in text.lines() {
        if nesting.in_comment {
            // What is drawn there may need its spaces.
            nesting.read(line);
            out.push(line.trim_end().to_owned());
            continue;
        }
        let code = line.trim();
        if code.is_empty() {
            let opens = out.last().is_some_and(|l| l.ends_with(['{', '(', '[']));
            if !opens && !out.last().is_none_or(String::is_empty) {
                out.push(String::new());
            }
            continue;
        }
        if code.starts_with(['}', ')', ']']) && out.last().is_some_and(String::is_empty) {
            out.pop();
        }
        let level = nesting.level(code);
        out.push(format!("{}{code}", "    ".repeat(level)));
        nesting.read(code);
    }
    while out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    out.push(String::new());
    out.join("\n")
}

/// Which brackets are open, by the level of the line each of them stands in.
#[derive(Default)]
struct Nesting {
    open: Vec<usize>,
    in_comment: bool,
    /// The statement of the line before goes on.
    goes_on: bool,
    /// The level of the line that is read.
    line: usize,
}

impl Nesting {
    /// The level of a line that begins with this.
    fn level(&mut self, code: &str) -> usize {
        let closing = code.chars().take_while(|c| ['}', ')', ']'].contains(c)).count();
        self.line = match closing {
            0 => {
                let inner = self.open.last().map_or(0, |outer| outer.saturating_add(1));
                let more = self.goes_on && !code.starts_with("//");
                inner.saturating_add(usize::from(more))
            }
            n => self.open.iter().rev().nth(n.saturating_sub(1)).copied().unwrap_or(0),
        };
        self.line
    }

    /// Counts the brackets of a line outside of texts and comments, and notes whether its statement goes on.
    fn read(&mut self, code: &str) {
        let mut rest = code;
        let mut last = None;
        while let Some(c) = rest.chars().next() {
            if self.in_comment {
                let end = rest.find("*/").map(|at| at.saturating_add(2));
                self.in_comment = end.is_none();
                rest = end.and_then(|end| rest.get(end..)).unwrap_or("");
                continue;
            }
            if rest.starts_with("//") {
                break;
            }
            if rest.starts_with("/*") {
                self.in_comment = true;
                rest = rest.get(2..).unwrap_or("");
                continue;
            }
            let length = match c {
                '"' => string_end(rest),
                // A character, not a label.
                '\'' => character_end(rest),
                _ => c.len_utf8(),
            };
            match c {
                '{' | '(' | '[' => self.open.push(self.line),
                '}' | ')' | ']' => drop(self.open.pop()),
                _ => {}
            }
            last = if c.is_whitespace() { last } else { Some(c) };
            rest = rest.get(length..).unwrap_or("");
        }
        if let Some(last) = last {
            // Within brackets of a call or a list, lines are its members.
            self.goes_on = !matches!(last, ';' | '{' | '}' | ',' | '(' | '[' | ':');
        }
    }
}

/// Length of a character in single quotes that starts the text.
fn character_end(text: &str) -> usize {
    let escaped = text.get(1..).is_some_and(|t| t.starts_with('\\'));
    let from = if escaped { 3 } else { 1 };
    let end = text.get(from..).and_then(|t| t.find('\'')).filter(|at| *at <= 10);
    end.map_or(1, |at| from.saturating_add(at).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SHIPPED;

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(rules(text), want);
        assert_eq!(rules(want), want, "the usual form stays");
    }

    #[test]
    fn layout_changes_and_meaning_does_not() {
        check(
            "version: 1  \nrules:\n  - id: a\n    when: a.b==\"x  ==y\"&&( c<=3||!d )   ?? false\n    actions: { deny: no }\n  # about b\n  - id: b\n    when: x in [ \"a\",\"b\" ]\n\n\n",
            "version: 1\nrules:\n  - id: a\n    when: a.b == \"x  ==y\" && (c <= 3 || !d) ?? false\n    actions: { deny: no }\n\n  # about b\n  - id: b\n    when: x in [\"a\", \"b\"]\n",
        );
    }

    #[test]
    fn what_could_change_its_meaning_is_left_alone() {
        let text = "rules:\n  - id: a\n    when: |\n      a==1  &&\n\n\n      b\n    unless: \"a==1\"\n";
        check(text, text);
    }

    #[test]
    fn conditions_in_single_quotes_are_plain_ones() {
        check(
            "rules:\n  - id: a\n    when: 'a==1&&b  !=  \"x==y\"'\n    unless: 'it''s==1'\n",
            "rules:\n  - id: a\n    when: 'a == 1 && b != \"x==y\"'\n    unless: 'it''s==1'\n",
        );
    }

    #[test]
    fn policies_stand_as_deep_as_their_brackets() {
        let check = |text: &str, want: &str| {
            assert_eq!(script(text), want);
            assert_eq!(script(want), want, "the usual form stays");
        };
        check(
            "fn on_request(ctx, act) {\n\n\tlet x = 1; // { not one\n  if ctx.request.stream {\n act.weight(#{\n cost: 1.0,\n/* as it\n    is drawn ( */\n});\n  } else if x == '{' {\n}\n\n}\n\n\n",
            "fn on_request(ctx, act) {\n    let x = 1; // { not one\n    if ctx.request.stream {\n        act.weight(#{\n            cost: 1.0,\n            /* as it\n    is drawn ( */\n        });\n    } else if x == '{' {\n    }\n}\n",
        );
        check(
            "fn a() {\nlet x = one\n&& \"} {\"\n// why\n|| two;\nswitch x {\n1 => 2,\n_ => 3\n}\n}\n",
            "fn a() {\n    let x = one\n        && \"} {\"\n    // why\n        || two;\n    switch x {\n        1 => 2,\n        _ => 3\n    }\n}\n",
        );
        let several = "fn a() { `\n  text` }";
        assert_eq!(script(several), several);
    }

    #[test]
    fn the_shipped_files_have_the_usual_form() {
        let text = include_str!("../../routing_rules.yaml");
        assert_eq!(rules(text), text);
        for (name, text) in SHIPPED {
            assert_eq!(script(text), *text, "{name}");
        }
    }
}
