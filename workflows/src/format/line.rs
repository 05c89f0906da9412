//! One line of a YAML file: what it says, its comment, and what it leaves open.

/// What the lines before have left open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Open brackets and braces.
    depth: usize,
    /// The quote that is open.
    quote: Option<char>,
}

impl State {
    /// The next line goes on with a value of this one.
    pub(super) fn goes_on(self) -> bool {
        self.depth > 0 || self.quote.is_some()
    }
}

/// A line, read.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// Without indentation, comment and what is blank at its end.
    pub(super) body: &'a str,
    /// The comment with its `#`.
    pub(super) comment: Option<&'a str>,
    /// What stands between body and comment.
    pub(super) gap: &'a str,
    /// A block of text follows.
    pub(super) opens_block: bool,
}

impl<'a> Line<'a> {
    pub(super) fn read(raw: &'a str, state: &mut State) -> Line<'a> {
        let goes_on = state.goes_on();
        let text = raw.trim_start();
        let mut scan = Scan { state: *state, before: ' ', fresh: !goes_on };
        let comment = text.char_indices().find(|(i, c)| scan.step(text, *i, *c)).map(|(i, _)| i);
        *state = scan.state;
        let (body, comment) = match comment {
            Some(at) => (text.get(..at).unwrap_or(""), text.get(at..)),
            None => (text, None),
        };
        let trimmed = body.trim_end();
        let gap = body.get(trimmed.len()..).unwrap_or("");
        let last = trimmed.rsplit([' ', '\t']).next().unwrap_or("");
        let sign = last.trim_end_matches(|c: char| c.is_ascii_digit() || c == '+' || c == '-');
        let opens_block =
            !goes_on && matches!(sign, "|" | ">") && (trimmed.contains(": ") || trimmed.starts_with("- "));
        Line { body: trimmed, comment, gap, opens_block }
    }
}

/// Goes through a line, character by character.
struct Scan {
    state: State,
    before: char,
    /// A value may begin here, so that brackets and quotes mean something.
    fresh: bool,
}

impl Scan {
    /// Whether a comment begins here.
    fn step(&mut self, text: &str, at: usize, c: char) -> bool {
        let before = std::mem::replace(&mut self.before, c);
        if let Some(quote) = self.state.quote {
            let escaped = quote == '"' && before == '\\' && !doubled(text, at);
            if c == quote && !escaped {
                self.state.quote = None;
            }
            return false;
        }
        let in_flow = self.state.depth > 0;
        let value = self.fresh || in_flow;
        match c {
            '#' if before == ' ' || before == '\t' => return true,
            '"' | '\'' if value && (self.fresh || matches!(before, ' ' | ',' | '[' | '{' | ':')) => {
                self.state.quote = Some(c);
            }
            '[' | '{' if value => self.state.depth = self.state.depth.saturating_add(1),
            ']' | '}' if in_flow => self.state.depth = self.state.depth.saturating_sub(1),
            _ => {}
        }
        // Behind `- `, `key: ` and a bracket a value begins.
        self.fresh = match c {
            ' ' => self.fresh || matches!(before, ':' | '-') && value_mark(text, at),
            '[' | '{' | ',' if in_flow || self.state.depth > 0 => true,
            _ => false,
        };
        false
    }
}

/// The backslash before `at` is itself escaped.
fn doubled(text: &str, at: usize) -> bool {
    let back = text.get(..at).unwrap_or("").bytes().rev().take_while(|b| *b == b'\\').count();
    back % 2 == 0
}

/// Before `at` stands the mark of a key or of a list.
fn value_mark(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or("");
    before.ends_with(':')
        || before == "-"
        || before.ends_with("- -")
        || before.trim_start_matches(['-', ' ']).is_empty()
}

/// The same text with one space where spaces mean nothing: behind a key, and around brackets.
pub(super) fn spaced(body: &str) -> String {
    let (key, value) = split(body);
    let mut out = key.to_owned();
    if !key.is_empty() && !value.is_empty() {
        out.push(' ');
    }
    out.push_str(&if value.starts_with(['{', '[']) { flow(value) } else { value.to_owned() });
    out
}

/// Key with its colon, and value.
fn split(body: &str) -> (&str, &str) {
    let plain = !body.starts_with(['"', '\'', '{', '[']);
    match body.find(": ").filter(|_| plain) {
        Some(at) => {
            let (key, rest) = body.split_at(at.saturating_add(1));
            (key, rest.trim_start())
        }
        None if plain && body.ends_with(':') => (body, ""),
        None => ("", body),
    }
}

/// A list or map on one line: `{ a: 1, b: [x, y] }`.
fn flow(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut quote: Option<char> = None;
    let mut fresh = true;
    for (at, c) in value.char_indices() {
        if let Some(q) = quote {
            out.push(c);
            let escaped =
                q == '"' && value.get(..at).is_some_and(|b| b.ends_with('\\')) && !doubled(value, at);
            if c == q && !escaped {
                quote = None;
            }
            continue;
        }
        match c {
            '"' | '\'' if fresh => {
                quote = Some(c);
                out.push(c);
            }
            '{' => out.push_str("{ "),
            '[' => out.push('['),
            '}' => {
                trim(&mut out);
                out.push_str(if out.ends_with('{') { "}" } else { " }" });
            }
            ']' => {
                trim(&mut out);
                out.push(']');
            }
            ',' => {
                trim(&mut out);
                out.push_str(", ");
            }
            // Behind a bracket, a comma or a key nothing more than one space is needed.
            ' ' if fresh && (out.ends_with([' ', '[']) || out.is_empty()) => {}
            c => out.push(c),
        }
        let key = c == ' ' && value.get(..at).is_some_and(|b| b.trim_end().ends_with(':'));
        fresh = matches!(c, '{' | '[' | ',') || key || (c == ' ' && fresh);
    }
    out.trim_end().to_owned()
}

fn trim(out: &mut String) {
    while out.ends_with(' ') {
        out.pop();
    }
}
