//! Hand-written YAML as a tree in which every value knows its place, and a helper to lower it.
//!
//! Serde stops at the first error and loses the place of tagged values, so files that people write are
//! parsed into this tree and lowered by hand with [`Reader`]: all problems of a file in one run.

use crate::diagnostic::{Diagnostic, nearest};
use std::sync::Arc;
use std::time::Duration;

mod meant;
mod parse;
mod reader;

pub use parse::{
    MAX_BYTES, MAX_BYTES_OF_RULES, MAX_DEPTH, MAX_NODES, MAX_NODES_OF_RULES, MAX_TEXT, parse, parse_merged,
    parse_to_check,
};
pub use reader::{Asked, Fields, Reader};

/// A file as it was read.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// As the user named it.
    pub path: String,
    /// Its text.
    pub text: Arc<str>,
}

impl SourceFile {
    /// A file of that name and text.
    pub fn new(path: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        SourceFile { path: path.into(), text: text.into() }
    }

    /// File name without folder and extension.
    #[must_use]
    pub fn stem(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.rsplit_once('.').map_or(name, |(stem, _)| stem)
    }
}

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Byte offset of the start.
    pub start: usize,
    /// Byte offset of the end.
    pub end: usize,
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes, on one line.
    Plain,
    /// In quotes.
    Quoted,
    /// A literal block (`|`).
    Literal,
    /// A folded block (`>`), or anything whose positions cannot be mapped.
    Folded,
}

/// A value with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it stands.
    pub span: Span,
    /// How it was written (scalars).
    pub style: Style,
}

/// A YAML value, resolved by the core schema with `true`/`false` as the only booleans.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A decimal number.
    Float(f64),
    /// Anything else.
    Str(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in order; keys are unique strings.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its text.
    pub name: String,
    /// Its place.
    pub span: Span,
}

impl Key {
    /// Whether its value is the author's own note, which nothing reads.
    #[must_use]
    pub fn is_note(&self) -> bool {
        self.name.starts_with("x-")
    }
}

impl Node {
    /// What kind of value it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a decimal number",
            Value::Str(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The value of `key`, if this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(m) => m.iter().find(|(k, _)| k.name == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The string, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self.value {
            Value::Int(i) => Some(i as f64),
            Value::Float(f) => Some(f),
            _ => None,
        }
    }

    /// The same value as JSON, for schemas and parameters.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as J;
        match &self.value {
            Value::Null => J::Null,
            Value::Bool(b) => J::Bool(*b),
            Value::Int(i) => J::from(*i),
            Value::Float(f) => J::from(*f),
            Value::Str(s) => J::String(s.clone()),
            Value::List(l) => J::Array(l.iter().map(Node::to_json).collect()),
            Value::Map(m) => J::Object(m.iter().map(|(k, v)| (k.name.clone(), v.to_json())).collect()),
        }
    }

    /// The place of (line, column), both from 1, inside this scalar's text: exact for one-line plain and
    /// quoted scalars and for literal blocks; the whole scalar otherwise.
    #[must_use]
    pub fn place(&self, file: &SourceFile, line: usize, column: usize) -> Span {
        let (line, column) = (line.max(1), column.max(1));
        let at = |l: usize, c: usize| {
            let start = offset(&file.text, l, c);
            let end = file
                .text
                .get(start..)
                .and_then(|r| r.find('\n'))
                .map_or(file.text.len(), |e| start.saturating_add(e));
            // One character, however many bytes it has.
            let one = file.text.get(start..).and_then(|r| r.chars().next()).map_or(0, char::len_utf8);
            Span { line: l, column: c, start, end: end.min(start.saturating_add(one)).max(start) }
        };
        match self.style {
            Style::Plain if line == 1 => {
                at(self.span.line, self.span.column.saturating_add(column).saturating_sub(1))
            }
            Style::Quoted if line == 1 => at(self.span.line, self.span.column.saturating_add(column)),
            Style::Literal => {
                // The parser's span of a block scalar starts at its first line of text.
                let row = self.span.line.saturating_add(line).saturating_sub(1);
                let indent = file
                    .text
                    .lines()
                    .nth(row.saturating_sub(1))
                    .map_or(0, |l| l.len().saturating_sub(l.trim_start().len()));
                at(row, indent.saturating_add(column))
            }
            _ => self.span,
        }
    }
}

/// Byte offset of (line, column), both from 1; the end of the text when it is shorter.
fn offset(text: &str, line: usize, column: usize) -> usize {
    let mut start = 0_usize;
    for (i, l) in text.split_inclusive('\n').enumerate() {
        if i.saturating_add(1) == line {
            let within = l
                .char_indices()
                .nth(column.saturating_sub(1))
                .map_or(l.trim_end_matches('\n').len(), |(b, _)| b);
            return start.saturating_add(within);
        }
        start = start.saturating_add(l.len());
    }
    text.len()
}

/// A duration as it is written: `250ms`, `2s`, `1.5s`, `5m`, `1h`, `7d`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let number: f64 = number.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * scale).ok()
}

/// A number of bytes as it is written: `64KiB`, `1MiB`, or plain bytes.
#[must_use]
pub fn parse_bytes(text: &str) -> Option<u64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.trim().parse().ok()?;
    let scale: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_inside_scalars_are_mapped() {
        let file =
            SourceFile::new("t.yaml", "é: 1\nwhen: a == b\nq: \"x y\"\nl: |\n  one\n  two\nw: 캮${ x }\n");
        let n = parse(&file, "TS").unwrap();
        let at = |key: &str, l, c| {
            let s = n.get(key).unwrap().place(&file, l, c);
            assert!(file.text.is_char_boundary(s.end), "{s:?}");
            (s.line, s.column, file.text[s.start..].chars().next())
        };
        assert_eq!(at("when", 1, 3), (2, 9, Some('=')));
        assert_eq!(at("q", 1, 3), (3, 7, Some('y')));
        assert_eq!(at("l", 2, 1), (6, 3, Some('t')));
        // A whole character, not its first byte.
        assert_eq!(at("w", 1, 1), (7, 4, Some('캮')));
    }

    #[test]
    fn units_need_their_unit() {
        assert_eq!(parse_duration("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("5"), None);
        assert_eq!(parse_duration("-1s"), None);
        assert_eq!(parse_bytes("64KiB"), Some(65_536));
        assert_eq!(parse_bytes("12"), Some(12));
        assert_eq!(parse_bytes("1GB"), None);
    }
}
