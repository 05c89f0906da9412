//! The usual form of a workflow file: two spaces per level, lists within their key, one space where one is
//! enough, top-level keys in the order of the documentation. Comments stay where they are; meaning never changes.

mod line;
#[cfg(test)]
mod tests;

use line::{Line, State};
use types::diagnostic::Diagnostic;
use types::doc::{self, Node, SourceFile, Span, Value};

/// Top-level keys in the order in which a reader wants them.
const ORDER: &[&str] = &[
    "version",
    "name",
    "revision",
    "title",
    "description",
    "owner",
    "labels",
    "serves",
    "inputs",
    "vars",
    "limits",
    "durability",
    "on_failure",
    "tests",
    "pools",
    "prompts",
    "validators",
    "defaults",
    "nodes",
    "edges",
    "output",
];
/// Spaces per level.
const STEP: usize = 2;

/// The file in its usual form.
///
/// # Errors
/// It is no YAML, or it is written in a way that this cannot lay out anew without changing what it says.
pub fn format(file: &SourceFile) -> Result<String, Box<Diagnostic>> {
    lay_out(file, ORDER, "WF")
}

/// Another file of this house in the same layout, its top-level keys in this order and those that it does not name where
/// they stand, behind them. `family` begins the code of what is wrong.
///
/// # Errors
/// As for [`format()`].
pub fn lay_out(file: &SourceFile, order: &[&str], family: &'static str) -> Result<String, Box<Diagnostic>> {
    let before = doc::parse(file, family)?;
    let formatted = ordered(&indented(&file.text), order);
    let after = SourceFile::new(file.path.as_str(), formatted.as_str());
    let kept = doc::parse(&after, family).is_ok_and(|n| same(&before, &n, true))
        && comments(&after) == comments(file);
    if kept {
        return Ok(formatted);
    }
    // In the order in which it stands it may still be laid out.
    let formatted = indented(&file.text);
    let after = SourceFile::new(file.path.as_str(), formatted.as_str());
    if doc::parse(&after, family).is_ok_and(|n| same(&before, &n, true)) && comments(&after) == comments(file)
    {
        return Ok(formatted);
    }
    let start = Span { line: 1, column: 1, ..Span::default() };
    let d = Diagnostic::error(
        format!("{family}007"),
        file,
        start,
        "the file cannot be laid out without changing what it says",
    );
    Err(Box::new(
        d.hint("write values of several lines as blocks (`|`), and lists and maps one entry a line"),
    ))
}

/// Whether two trees say the same. The order of keys is part of it, but not at the top.
fn same(a: &Node, b: &Node, top: bool) -> bool {
    match (&a.value, &b.value) {
        (Value::Map(x), Value::Map(y)) if top => {
            let of = |k: &str| y.iter().find(|(l, _)| l.name == k).map(|(_, n)| n);
            x.len() == y.len() && x.iter().all(|(k, n)| of(&k.name).is_some_and(|m| same(n, m, false)))
        }
        (Value::Map(x), Value::Map(y)) => {
            let pairs = || x.iter().zip(y);
            x.len() == y.len() && pairs().all(|((k, n), (l, m))| k.name == l.name && same(n, m, false))
        }
        (Value::List(x), Value::List(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(n, m)| same(n, m, false))
        }
        (x, y) => x == y,
    }
}

/// Every comment, in the order of the alphabet: none may be lost but the spaces at its end.
fn comments(file: &SourceFile) -> Vec<String> {
    let mut state = State::default();
    let mut all: Vec<String> = file
        .text
        .lines()
        .filter_map(|l| Line::read(l, &mut state).comment.map(|c| c.trim_end().to_owned()))
        .collect();
    all.sort_unstable();
    all
}

/// A level of the file: where it stood, where it stands now, whether it is a list.
struct Level {
    old: usize,
    new: usize,
    list: bool,
}

/// A block of text (`|` or `>`) that is being passed through: where its key stood, where its text goes, and where
/// its text stood, once a line of it has been seen.
struct Block {
    key: usize,
    new: usize,
    old: Option<usize>,
}

fn indented(text: &str) -> String {
    let mut layout = Layout::default();
    for l in text.lines() {
        layout.line(l);
    }
    layout.flush(0);
    let mut out = layout.out;
    while out.ends_with("\n\n") {
        out.pop();
    }
    out
}

#[derive(Default)]
struct Layout {
    out: String,
    levels: Vec<Level>,
    block: Option<Block>,
    state: State,
    /// Comments and blank lines that wait for the line they belong to.
    waiting: Vec<String>,
    /// How far the last line was moved, for what goes on from it.
    shift: (usize, usize),
}

impl Layout {
    fn line(&mut self, raw: &str) {
        let old = raw.len().saturating_sub(raw.trim_start_matches(' ').len());
        if self.in_block(raw, old) {
            return;
        }
        let goes_on = self.state.goes_on();
        let line = Line::read(raw, &mut self.state);
        if goes_on {
            let (from, to) = self.shift;
            let at = old.saturating_add(to).saturating_sub(from);
            self.put(at, raw.trim_start_matches(' ').trim_end());
            return;
        }
        if line.body.is_empty() {
            match line.comment {
                Some(c) => self.waiting.push(c.trim_end().to_owned()),
                None if self.waiting.last().is_none_or(|l| !l.is_empty()) => self.waiting.push(String::new()),
                None => {}
            }
            return;
        }
        self.structure(old, line.body, line.comment, &line);
    }

    /// Passes a line of a block of text through, moved with its key.
    fn in_block(&mut self, raw: &str, old: usize) -> bool {
        let Some(b) = &mut self.block else { return false };
        if raw.trim().is_empty() {
            self.out.push('\n');
            return true;
        }
        if old <= b.key || b.old.is_some_and(|first| old < first) {
            // What is blank behind a block belongs to what follows.
            self.block = None;
            while self.out.ends_with("\n\n") {
                self.out.pop();
                if self.waiting.is_empty() {
                    self.waiting.push(String::new());
                }
            }
            return false;
        }
        let first = *b.old.get_or_insert(old);
        let at = b.new.saturating_add(old.saturating_sub(first));
        let text = raw.get(old..).unwrap_or("");
        self.out.extend(std::iter::repeat_n(' ', at));
        self.out.push_str(text);
        self.out.push('\n');
        true
    }

    fn structure(&mut self, old: usize, body: &str, comment: Option<&str>, line: &Line<'_>) {
        let dash = is_dash(body);
        self.leave(old, dash);
        let new = self.enter(old, dash);
        self.flush(new);
        self.shift = (old, new);
        let mut text = String::new();
        let (mut rest, mut at_old, mut at_new, mut dash_at) = (body, old, new, old);
        while is_dash(rest) {
            let inner = rest.get(1..).unwrap_or("").trim_start();
            dash_at = at_old;
            let skip = rest.len().saturating_sub(inner.len());
            text.push_str(if inner.is_empty() { "-" } else { "- " });
            (at_old, at_new, rest) = (at_old.saturating_add(skip), at_new.saturating_add(STEP), inner);
            if !inner.is_empty() {
                self.levels.push(Level { old: at_old, new: at_new, list: is_dash(inner) });
            }
        }
        text.push_str(&line::spaced(rest));
        if line.opens_block {
            // Behind a bare dash the text stands where a key would.
            let bare = rest.starts_with(['|', '>']);
            let (key, new) = if bare { (dash_at, at_new) } else { (at_old, at_new.saturating_add(STEP)) };
            self.block = Some(Block { key, new, old: None });
        }
        if let Some(c) = comment {
            text.push_str(line.gap);
            text.push_str(c.trim_end());
        }
        self.put(new, &text);
    }

    /// Ends the levels that a line at that column is not in.
    fn leave(&mut self, old: usize, dash: bool) {
        while self.levels.last().is_some_and(|l| l.old > old || l.old == old && l.list && !dash) {
            self.levels.pop();
        }
    }

    /// The column of a line, and its level if it begins one.
    fn enter(&mut self, old: usize, list: bool) -> usize {
        let new = match self.levels.last() {
            None => 0,
            Some(l) if l.old == old && l.list == list => return l.new,
            Some(l) => l.new.saturating_add(STEP),
        };
        self.levels.push(Level { old, new, list });
        new
    }

    /// Writes the comments that waited, at the column of what follows them.
    fn flush(&mut self, column: usize) {
        for l in std::mem::take(&mut self.waiting) {
            // A file does not begin with a blank line.
            if !(l.is_empty() && self.out.is_empty()) {
                self.put(column, &l);
            }
        }
    }

    fn put(&mut self, column: usize, text: &str) {
        if !text.is_empty() {
            self.out.extend(std::iter::repeat_n(' ', column));
            self.out.push_str(text);
        }
        self.out.push('\n');
    }
}

fn is_dash(body: &str) -> bool {
    body == "-" || body.starts_with("- ")
}

/// The top-level keys in their order, each with the comments above it.
fn ordered(text: &str, order: &[&str]) -> String {
    let mut state = State::default();
    let mut head = String::new();
    let mut parts: Vec<(usize, String)> = Vec::new();
    let mut above = String::new();
    for raw in text.lines() {
        let goes_on = state.goes_on();
        let line = Line::read(raw, &mut state);
        let top = !goes_on && !raw.starts_with([' ', '-']) && !line.body.is_empty();
        if top {
            let key = line.body.split(':').next().unwrap_or("");
            let rank = order.iter().position(|k| *k == key).unwrap_or(order.len());
            let mut part = std::mem::take(&mut above);
            push(&mut part, raw);
            parts.push((rank, part));
        } else if parts.is_empty() && line.body.is_empty() {
            // What stands above the first key is about the file, down to its last blank line.
            push(&mut above, raw);
            if raw.trim().is_empty() || raw.starts_with("# yaml-language-server:") {
                head.push_str(&std::mem::take(&mut above));
            }
        } else if !goes_on && raw.starts_with('#') || raw.trim().is_empty() || !above.is_empty() {
            push(&mut above, raw);
        } else if let Some((_, part)) = parts.last_mut() {
            push(part, raw);
        }
    }
    if parts.windows(2).all(|w| matches!(w, [a, b] if a.0 <= b.0)) {
        return text.to_owned();
    }
    parts.sort_by_key(|(rank, _)| *rank);
    let body: String = parts.into_iter().map(|(_, part)| part).collect();
    format!("{head}{}{above}", body.trim_start_matches('\n'))
}

fn push(into: &mut String, line: &str) {
    into.push_str(line);
    into.push('\n');
}
