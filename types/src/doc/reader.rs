//! Lowering of a [`Node`] tree: every problem is noted, the value is given where there is one.

use super::{Diagnostic, Duration, Key, Node, SourceFile, Span, Value, meant, nearest};
use super::{parse_bytes, parse_duration};
use crate::units::Usd;

/// What a value was asked to be. The schema for editors is made of this, so it says what the loader does.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// A map that may hold these keys.
    Keys(Vec<&'static str>),
    /// A map that must hold this key.
    Required(&'static str),
    /// A map whose keys the author chooses.
    Map,
    /// The same, beside which keys that start with `x-` are the author's own notes.
    Noted,
    /// The same, with identifiers for keys.
    Names,
    /// A list.
    List,
    /// A string.
    Text,
    /// A string that is an identifier.
    Ident,
    /// `true` or `false`.
    Flag,
    /// A number between these, ends included.
    Number(f64, f64),
    /// A whole number between these, ends included.
    Whole(i64, i64),
    /// A time with its unit.
    Duration,
    /// A number of bytes.
    Bytes,
    /// One of these words.
    Words(Vec<String>),
}

/// Collects the problems of one file while its tree is lowered.
///
/// Codes: `<prefix>101` unknown key, `102` missing key, `103` wrong type, `104` out of range or not one of
/// the allowed values, `111` duration without unit.
pub struct Reader<'a> {
    /// The file.
    pub file: &'a SourceFile,
    /// `WF`, `CM`, `PL`, `TS`.
    pub prefix: &'static str,
    /// What was found so far.
    pub problems: Vec<Diagnostic>,
    /// The value whose questions are noted, by the start of its span, and the questions.
    watched: Option<(usize, Vec<Asked>)>,
}

impl<'a> Reader<'a> {
    /// A reader of that file.
    #[must_use]
    pub fn new(file: &'a SourceFile, prefix: &'static str) -> Self {
        Reader { file, prefix, problems: Vec::new(), watched: None }
    }

    /// Notes from now on what is asked of the value whose span starts at `start`.
    pub fn watch(&mut self, start: usize) {
        self.watched = Some((start, Vec::new()));
    }

    /// What was asked of the watched value so far.
    pub fn asked(&mut self) -> Vec<Asked> {
        self.watched.take().map(|(_, asked)| asked).unwrap_or_default()
    }

    fn note(&mut self, span: Span, asked: impl FnOnce() -> Asked) {
        if let Some((start, list)) = &mut self.watched
            && *start == span.start
        {
            list.push(asked());
        }
    }

    /// Notes an error and gives it back for `expected`, `hint`, `field`.
    pub fn error(&mut self, number: &str, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        let d = Diagnostic::error(format!("{}{number}", self.prefix), self.file, span, message);
        self.push(d)
    }

    /// Notes a warning.
    pub fn warning(&mut self, number: &str, span: Span, message: impl Into<String>) -> &mut Diagnostic {
        let d = Diagnostic::warning(format!("{}{number}", self.prefix), self.file, span, message);
        self.push(d)
    }

    fn push(&mut self, d: Diagnostic) -> &mut Diagnostic {
        self.problems.push(d);
        let last = self.problems.len().saturating_sub(1);
        match self.problems.get_mut(last) {
            Some(d) => d,
            None => unreachable!("one was just pushed"),
        }
    }

    /// Notes that `node` is not what `field` takes.
    pub fn wrong_type(&mut self, node: &Node, field: &str, expected: &str) {
        self.unlike(node, field, expected, None);
    }

    /// The same, with what was probably meant.
    fn unlike(&mut self, node: &Node, field: &str, expected: &str, meant: Option<String>) {
        let d = self.error("103", node.span, format!("`{field}` is {}", node.kind()));
        d.expected = Some(expected.to_owned());
        d.hint = meant.map(|meant| format!("write {meant}"));
        field.clone_into(&mut d.field);
    }

    /// The members of a map; notes a wrong type.
    pub fn map<'n>(&mut self, node: &'n Node, field: &str) -> Option<&'n [(Key, Node)]> {
        self.note(node.span, || Asked::Map);
        self.members(node, field)
    }

    /// The members of a map whose keys the author chooses, but for those of keys that start with `x-`, which are notes of the
    /// author's; notes a wrong type.
    pub fn noted<'n>(&mut self, node: &'n Node, field: &str) -> Vec<&'n (Key, Node)> {
        self.note(node.span, || Asked::Noted);
        let members = self.map(node, field).unwrap_or(&[]);
        members.iter().filter(|(k, _)| !k.is_note()).collect()
    }

    /// As [`Reader::noted`], of a map whose keys are names; what is no identifier is noted (`104`).
    pub fn names<'n>(&mut self, node: &'n Node, field: &str) -> Vec<&'n (Key, Node)> {
        self.note(node.span, || Asked::Names);
        let members = self.noted(node, field);
        for (k, _) in members.iter().filter(|(k, _)| !is_ident(&k.name)) {
            let d = self.error("104", k.span, format!("`{}` is not an identifier", k.name));
            d.expected = Some(IDENT.to_owned());
            d.field = format!("{field}.{}", k.name);
        }
        members
    }

    fn members<'n>(&mut self, node: &'n Node, field: &str) -> Option<&'n [(Key, Node)]> {
        match &node.value {
            Value::Map(m) => Some(m),
            Value::Null => Some(&[]),
            _ => {
                self.wrong_type(node, field, "a map");
                None
            }
        }
    }

    /// The elements of a list; notes a wrong type.
    pub fn list<'n>(&mut self, node: &'n Node, field: &str) -> Option<&'n [Node]> {
        self.note(node.span, || Asked::List);
        match &node.value {
            Value::List(l) => Some(l),
            _ => {
                self.unlike(node, field, "a list", node.as_str().and_then(meant::list));
                None
            }
        }
    }

    /// A map whose keys are known: take them one by one, then [`Fields::finish`].
    pub fn fields<'n>(&mut self, node: &'n Node, path: &str) -> Option<Fields<'n>> {
        let members = self.members(node, if path.is_empty() { "the file" } else { path })?;
        Some(Fields {
            members,
            taken: vec![false; members.len()],
            known: Vec::new(),
            span: node.span,
            path: path.to_owned(),
        })
    }

    /// A string.
    pub fn string(&mut self, node: &Node, field: &str) -> Option<String> {
        self.note(node.span, || Asked::Text);
        match &node.value {
            Value::Str(s) => Some(s.clone()),
            _ => {
                self.wrong_type(node, field, "a string");
                None
            }
        }
    }

    /// A boolean.
    pub fn boolean(&mut self, node: &Node, field: &str) -> Option<bool> {
        self.note(node.span, || Asked::Flag);
        match node.value {
            Value::Bool(b) => Some(b),
            _ => {
                let meant = node.as_str().and_then(meant::flag).map(|b| b.to_string());
                self.unlike(node, field, "true or false", meant);
                None
            }
        }
    }

    /// A number in a closed range.
    pub fn number(&mut self, node: &Node, field: &str, lo: f64, hi: f64) -> Option<f64> {
        self.note(node.span, || Asked::Number(lo, hi));
        let Some(x) = node.as_f64() else {
            let meant = node.as_str().and_then(meant::number).filter(|x| (lo..=hi).contains(x));
            self.unlike(node, field, &format!("a number in {lo}..={hi}"), meant.map(|x| x.to_string()));
            return None;
        };
        if !(lo..=hi).contains(&x) {
            let d = self.error("104", node.span, format!("`{field}` is {x}"));
            d.expected = Some(format!("a number in {lo}..={hi}"));
            field.clone_into(&mut d.field);
            return None;
        }
        Some(x)
    }

    /// A whole number in a closed range.
    pub fn integer(&mut self, node: &Node, field: &str, lo: i64, hi: i64) -> Option<i64> {
        self.note(node.span, || Asked::Whole(lo, hi));
        let Value::Int(x) = node.value else {
            let fits = |x: &f64| x.fract() == 0.0 && (lo as f64..=hi as f64).contains(x);
            let meant = node.as_str().and_then(meant::number).filter(fits).map(|x| x.to_string());
            self.unlike(node, field, &format!("a whole number in {lo}..={hi}"), meant);
            return None;
        };
        if !(lo..=hi).contains(&x) {
            let d = self.error("104", node.span, format!("`{field}` is {x}"));
            d.expected = Some(format!("a whole number in {lo}..={hi}"));
            field.clone_into(&mut d.field);
            return None;
        }
        Some(x)
    }

    /// A duration with its unit.
    pub fn duration(&mut self, node: &Node, field: &str) -> Option<Duration> {
        const FORM: &str = "a duration with its unit, such as 250ms, 2s, 5m or 1h";
        self.note(node.span, || Asked::Duration);
        match &node.value {
            Value::Str(s) => {
                let parsed = parse_duration(s);
                if parsed.is_none() {
                    let d = self.error("103", node.span, format!("`{field}` is not a duration"));
                    d.expected = Some(FORM.to_owned());
                    d.hint = meant::duration(s).map(|meant| format!("write {meant}"));
                    field.clone_into(&mut d.field);
                }
                parsed
            }
            Value::Int(_) | Value::Float(_) => {
                let n = node.as_f64().unwrap_or_default();
                let d = self.error("111", node.span, format!("`{field}` has no unit"));
                d.expected = Some(FORM.to_owned());
                d.hint = Some(format!("write {n}s for seconds or {n}ms for milliseconds"));
                field.clone_into(&mut d.field);
                None
            }
            _ => {
                self.wrong_type(node, field, FORM);
                None
            }
        }
    }

    /// A number of bytes: `64KiB`, `1MiB` or a whole number.
    pub fn bytes(&mut self, node: &Node, field: &str) -> Option<u64> {
        self.note(node.span, || Asked::Bytes);
        let parsed = match &node.value {
            Value::Int(i) => u64::try_from(*i).ok(),
            Value::Str(s) => parse_bytes(s),
            _ => None,
        };
        if parsed.is_none() {
            let meant = node.as_str().and_then(meant::bytes);
            self.unlike(node, field, "a number of bytes, such as 64KiB, 1MiB or 4096", meant);
        }
        parsed
    }

    /// Dollars, at least 0.
    pub fn usd(&mut self, node: &Node, field: &str) -> Option<Usd> {
        self.number(node, field, 0.0, 1e6).map(Usd::from_dollars)
    }

    /// One of some names.
    pub fn one_of<'n>(&mut self, node: &'n Node, field: &str, names: &[&str]) -> Option<&'n str> {
        self.note(node.span, || Asked::Words(names.iter().map(|n| (*n).to_owned()).collect()));
        let Some(s) = node.as_str() else {
            self.wrong_type(node, field, &format!("one of {}", names.join(", ")));
            return None;
        };
        if names.contains(&s) {
            return Some(s);
        }
        let near = nearest(s, names.iter().copied());
        let d = self.error("104", node.span, format!("`{s}` is not a value of `{field}`"));
        d.expected = Some(format!("one of {}", names.join(", ")));
        d.hint = near.first().map(|n| format!("did you mean `{n}`?"));
        field.clone_into(&mut d.field);
        None
    }

    /// A list of strings; one string counts as a list of one.
    pub fn strings(&mut self, node: &Node, field: &str) -> Option<Vec<String>> {
        self.note(node.span, || Asked::Text);
        match &node.value {
            Value::Str(s) => Some(vec![s.clone()]),
            Value::List(l) => Some(l.iter().filter_map(|n| self.string(n, field)).collect()),
            _ => {
                self.wrong_type(node, field, "a list of strings");
                None
            }
        }
    }

    /// An identifier `^[a-z][a-z0-9_]{0,62}$`.
    pub fn ident(&mut self, node: &Node, field: &str) -> Option<String> {
        self.note(node.span, || Asked::Ident);
        let s = self.string(node, field)?;
        if is_ident(&s) {
            return Some(s);
        }
        let d = self.error("104", node.span, format!("`{s}` is not an identifier"));
        d.expected = Some(IDENT.to_owned());
        field.clone_into(&mut d.field);
        None
    }
}

/// What an identifier is, in words.
const IDENT: &str = "lower-case letters, digits and _, starting with a letter, at most 63";

fn is_ident(s: &str) -> bool {
    s.len() <= 63
        && s.starts_with(|c: char| c.is_ascii_lowercase())
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// The members of a map with known keys.
pub struct Fields<'n> {
    members: &'n [(Key, Node)],
    taken: Vec<bool>,
    known: Vec<&'static str>,
    /// Where the map stands.
    pub span: Span,
    /// Path of the map, for messages.
    pub path: String,
}

impl<'n> Fields<'n> {
    /// The value of `key`, if present; the key counts as known.
    pub fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        let i = self.members.iter().position(|(k, _)| k.name == key)?;
        if let Some(t) = self.taken.get_mut(i) {
            *t = true;
        }
        self.members.get(i).map(|(_, v)| v)
    }

    /// The value of `key`; its absence is noted (`102`).
    pub fn require(&mut self, r: &mut Reader<'_>, key: &'static str) -> Option<&'n Node> {
        let found = self.take(key);
        r.note(self.span, || Asked::Required(key));
        if found.is_none() {
            let d = r.error("102", self.span, format!("`{key}` is missing"));
            d.field = self.at(key);
        }
        found
    }

    /// Full path of a key.
    #[must_use]
    pub fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes every key that was not taken (`101`), with the nearest known one. Keys that start with `x-`
    /// are the author's own.
    pub fn finish(self, r: &mut Reader<'_>) {
        r.note(self.span, || Asked::Keys(self.known.clone()));
        for ((key, _), taken) in self.members.iter().zip(&self.taken) {
            if *taken || key.is_note() {
                continue;
            }
            let near = nearest(&key.name, self.known.iter().copied());
            let field = self.at(&key.name);
            let d = r.error("101", key.span, format!("unknown key `{}`", key.name));
            d.field = field;
            if near.is_empty() {
                let mut known = self.known.clone();
                known.sort_unstable();
                known.dedup();
                d.expected = Some(format!("one of {}", known.join(", ")));
            } else {
                d.hint = Some(format!("did you mean `{}`?", near.join("` or `")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    /// What other programs take is told as it is written here.
    #[test]
    fn values_in_other_forms_are_told_with_the_right_one() {
        let text = "n: 50%\nw: 1k\nb: 1 GB\nd: 5 seconds\nf: yes\nl: a, b\nfar: 500%\n";
        let file = SourceFile::new("t.yaml", text);
        let node = parse(&file, "TS").unwrap();
        let mut r = Reader::new(&file, "TS");
        let of = |key: &str| node.get(key).unwrap();
        r.number(of("n"), "n", 0.0, 1.0);
        r.integer(of("w"), "w", 0, 2_000);
        r.bytes(of("b"), "b");
        r.duration(of("d"), "d");
        r.boolean(of("f"), "f");
        r.list(of("l"), "l");
        r.number(of("far"), "far", 0.0, 1.0);
        let hints: Vec<_> = r.problems.iter().map(|d| d.hint.as_deref().unwrap_or_default()).collect();
        let want = ["write 0.5", "write 1000", "write 1GiB", "write 5s", "write true", "write [a, b]", ""];
        assert_eq!(hints, want);
    }

    #[test]
    fn text_that_is_no_yaml_is_told_with_what_to_do() {
        for (text, part) in [
            ("a:\n  b: 1\n   c: 2\n", "same column"),
            ("a:\n    b: 1\n  c: 2\n", "same column"),
            ("a: b: c\n", "in quotes"),
            ("a:\n\tb: 1\n", "with blanks"),
            ("a: \"b\n", "close the quote"),
            ("a: { b: 1\nc: 2\n", "close the `{`"),
            ("a: [b\n", "close the `[`"),
            ("a: @b\n", "in quotes"),
            ("a: [", "close the `[`"),
            ("a: \"b\" == c\n", "of the other kind"),
            ("a: \"\\d\"\n", "single ones"),
            ("a: 1\nb\nc: 2\n", "a colon and a blank"),
        ] {
            let told = parse(&SourceFile::new("t.yaml", text), "TS").unwrap_err();
            assert!(told.hint.as_ref().is_some_and(|h| h.contains(part)), "{text}: {told}");
        }
    }

    #[test]
    fn all_problems_of_a_file_are_found_in_one_run() {
        let file = SourceFile::new("t.yaml", "port: x\ntimout: 5\ntimeout: 5\nmode: fre\n");
        let node = parse(&file, "TS").unwrap();
        let mut r = Reader::new(&file, "TS");
        let mut f = r.fields(&node, "").unwrap();
        if let Some(n) = f.require(&mut r, "port") {
            assert_eq!(r.integer(n, "port", 1, 65_535), None);
        }
        if let Some(n) = f.take("timeout") {
            assert_eq!(r.duration(n, "timeout"), None);
        }
        if let Some(n) = f.take("mode") {
            assert_eq!(r.one_of(n, "mode", &["free", "paid"]), None);
        }
        assert!(f.require(&mut r, "name").is_none());
        f.finish(&mut r);
        let got: Vec<_> = r.problems.iter().map(|d| (d.code.as_str(), d.line)).collect();
        assert_eq!(got, [("TS103", 1), ("TS111", 3), ("TS104", 4), ("TS102", 1), ("TS101", 2)]);
        assert_eq!(r.problems[4].hint.as_deref(), Some("did you mean `timeout`?"));
    }
}
