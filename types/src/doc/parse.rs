//! Text as a tree in which every value knows its place, within bounds.

use super::{Key, Node, SourceFile, Span, Style, Value, meant};
use crate::diagnostic::Diagnostic;
use saphyr_parser::{Event, Parser, ScalarStyle};
use std::collections::HashMap;

/// Largest file, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// The same of rules, which stand in one file: a thousand of them, each described.
pub const MAX_BYTES_OF_RULES: usize = 1024 * 1024;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 64;
/// Most nodes after alias expansion.
pub const MAX_NODES: usize = 10_000;
/// The same of rules.
pub const MAX_NODES_OF_RULES: usize = 50_000;
/// The prefix of what is told of rules.
const RULES: &str = "PL";
/// Most text after alias expansion, in bytes.
pub const MAX_TEXT: usize = 1024 * 1024;

/// Parses one file of one document.
///
/// # Errors
/// One diagnostic (`<prefix>001` syntax, `002` duplicate key, `003` too large, `004` merge key, `005` tag,
/// `006` key that is no string): a file that is no tree cannot be checked further.
pub fn parse(file: &SourceFile, prefix: &str) -> Result<Node, Box<Diagnostic>> {
    whole(read(file, prefix, false))
}

/// As [`parse`], for who checks the file further: keys that stand twice are told and left out, so that the tree is there
/// all the same. A file of which anything is told is not to be used.
#[must_use]
pub fn parse_to_check(file: &SourceFile, prefix: &str) -> (Option<Node>, Vec<Diagnostic>) {
    read(file, prefix, false)
}

/// As [`parse`], for files of others: the merge key `<<` takes in the members of the maps that it names, as far as the
/// map has none of these names itself.
///
/// # Errors
/// As of [`parse`]; `004` where what is merged is no map.
pub fn parse_merged(file: &SourceFile, prefix: &str) -> Result<Node, Box<Diagnostic>> {
    whole(read(file, prefix, true))
}

/// A tree of which nothing is told.
fn whole((tree, told): (Option<Node>, Vec<Diagnostic>)) -> Result<Node, Box<Diagnostic>> {
    match (tree, told.into_iter().next()) {
        (_, Some(first)) => Err(Box::new(first)),
        (tree, None) => Ok(tree.unwrap_or_else(nothing)),
    }
}

/// What an empty file is.
const fn nothing() -> Node {
    let span = Span { line: 1, column: 1, start: 0, end: 0 };
    Node { value: Value::Null, span, style: Style::Plain }
}

fn read(file: &SourceFile, prefix: &str, merges: bool) -> (Option<Node>, Vec<Diagnostic>) {
    let (bytes, nodes) =
        if prefix == RULES { (MAX_BYTES_OF_RULES, MAX_NODES_OF_RULES) } else { (MAX_BYTES, MAX_NODES) };
    if file.text.len() > bytes {
        let found = format!("the file has {} bytes", file.text.len());
        let start = Span { line: 1, column: 1, ..Span::default() };
        let told = Diagnostic::error(format!("{prefix}003"), file, start, found);
        return (None, vec![told.expected(format!("at most {bytes}"))]);
    }
    let mut builder = Builder {
        file,
        prefix,
        parser: Parser::new_from_str(&file.text),
        offsets: char_offsets(&file.text),
        anchors: HashMap::new(),
        nodes: 0,
        most: nodes,
        text: 0,
        merges,
        twice: Vec::new(),
    };
    let read = builder.document();
    let mut told = builder.twice;
    let tree = read.map_err(|d| told.push(*d)).ok();
    (tree, told)
}

/// Byte offset of every character, only where they differ (non-ASCII text).
fn char_offsets(text: &str) -> Option<Vec<usize>> {
    (!text.is_ascii()).then(|| text.char_indices().map(|(b, _)| b).collect())
}

struct Builder<'a> {
    file: &'a SourceFile,
    prefix: &'a str,
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    offsets: Option<Vec<usize>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    /// Most nodes.
    most: usize,
    text: usize,
    /// Whether `<<` is taken.
    merges: bool,
    /// Keys that stand twice.
    twice: Vec<Diagnostic>,
}

impl<'a> Builder<'a> {
    fn error(&self, number: &str, span: Span, message: impl Into<String>) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(format!("{}{number}", self.prefix), self.file, span, message))
    }

    fn span(&self, s: saphyr_parser::Span) -> Span {
        let byte = |chars: usize| match &self.offsets {
            None => chars.min(self.file.text.len()),
            Some(o) => o.get(chars).copied().unwrap_or(self.file.text.len()),
        };
        Span {
            line: s.start.line(),
            column: s.start.col().saturating_add(1),
            start: byte(s.start.index()),
            end: byte(s.end.index()),
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Box<Diagnostic>> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.span(span))),
            Some(Err(e)) => {
                let m = *e.marker();
                let span = self.span(saphyr_parser::Span::new(m, m));
                let told = self.error("001", span, format!("this is not YAML: {}", e.info()));
                let hint = meant::syntax(e.info(), self.file.text.get(..span.start).unwrap_or_default());
                Err(Box::new(Diagnostic { hint: hint.map(str::to_owned), ..*told }))
            }
            None => {
                Err(self.error("001", Span { line: 1, column: 1, ..Span::default() }, "the file ends early"))
            }
        }
    }

    fn document(&mut self) -> Result<Node, Box<Diagnostic>> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
                Event::StreamEnd => {
                    return Ok(nothing());
                }
                event => {
                    let root = self.node(event, span, 0)?;
                    loop {
                        let (event, span) = self.next()?;
                        match event {
                            Event::StreamEnd => return Ok(root),
                            Event::DocumentStart(_) => {
                                return Err(Box::new(
                                    self.error("001", span, "a second document in one file")
                                        .expected("one document"),
                                ));
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
    }

    fn count(&mut self, nodes: usize, text: usize, span: Span) -> Result<(), Box<Diagnostic>> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.text = self.text.saturating_add(text);
        if self.nodes > self.most || self.text > MAX_TEXT {
            let what =
                format!("more than {} values or {MAX_TEXT} bytes of text, aliases expanded", self.most);
            let hint = match self.prefix {
                RULES => {
                    "put what many rules have in common into a `set`, a pool, or a policy in `policies/`"
                }
                _ => "split the file",
            };
            return Err(Box::new(self.error("003", span, what).hint(hint)));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Box<Diagnostic>> {
        if depth > MAX_DEPTH {
            return Err(self.error("003", span, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.count(1, 0, span)?;
        match event {
            Event::Alias(id) => {
                let Some(node) = self.anchors.get(&id).cloned() else {
                    return Err(self.error("001", span, "an alias that names no anchor before it"));
                };
                let (nodes, text) = weight(&node);
                self.count(nodes, text, span)?;
                Ok(Node { span, ..node })
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), span)?;
                self.count(0, text.len(), span)?;
                let one_line = text.len() <= span.end.saturating_sub(span.start);
                let node = Node {
                    value: if style == ScalarStyle::Plain {
                        resolve(&text)
                    } else {
                        Value::Str(text.into_owned())
                    },
                    span,
                    style: match style {
                        ScalarStyle::Plain if one_line => Style::Plain,
                        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted if one_line => Style::Quoted,
                        ScalarStyle::Literal => Style::Literal,
                        _ => Style::Folded,
                    },
                };
                Ok(self.remember(anchor, node))
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), span)?;
                let mut list = Vec::new();
                loop {
                    let (event, s) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    list.push(self.node(event, s, depth.saturating_add(1))?);
                }
                Ok(self.remember(anchor, Node { value: Value::List(list), span, style: Style::Plain }))
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), span)?;
                let map = self.mapping(depth)?;
                // A block mapping's own span is empty; its first key is a better place to point at.
                let span = map.first().map_or(span, |(k, _)| k.span);
                Ok(self.remember(anchor, Node { value: Value::Map(map), span, style: Style::Plain }))
            }
            _ => Err(self.error("001", span, "unexpected end of a value")),
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, Box<Diagnostic>> {
        let mut map: Vec<(Key, Node)> = Vec::new();
        let mut merged: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let name = match event {
                Event::MappingEnd => {
                    for (key, value) in merged {
                        if !map.iter().any(|(k, _)| k.name == key.name) {
                            map.push((key, value));
                        }
                    }
                    return Ok(map);
                }
                Event::Scalar(text, _, _, None) => text.into_owned(),
                _ => return Err(self.error("006", span, "a key that is not a plain string")),
            };
            if name == "<<" && self.merges {
                let (event, value_span) = self.next()?;
                let value = self.node(event, value_span, depth.saturating_add(1))?;
                self.merge(value, &mut merged)?;
                continue;
            }
            if name == "<<" {
                let d = self.error("004", span, "a merge key (`<<`)");
                return Err(Box::new(d.hint("write the keys out, or use an alias for a whole value")));
            }
            self.count(1, name.len(), span)?;
            let (event, value_span) = self.next()?;
            let value = self.node(event, value_span, depth.saturating_add(1))?;
            match map.iter().find(|(k, _)| k.name == name) {
                None => map.push((Key { name, span }, value)),
                Some((first, _)) => {
                    let message = format!("key `{name}` stands twice; first at line {}", first.span.line);
                    let mut twice = self.error("002", span, message);
                    twice.relate(first.span, "it stands here first");
                    self.twice.push(*twice);
                }
            }
        }
    }

    /// Adds the members of what is merged; earlier ones count.
    fn merge(&self, value: Node, into: &mut Vec<(Key, Node)>) -> Result<(), Box<Diagnostic>> {
        match value.value {
            Value::Map(members) => into.extend(members),
            Value::List(items) => {
                for item in items {
                    self.merge(item, into)?;
                }
            }
            _ => return Err(self.error("004", value.span, "a merge key (`<<`) that names no map")),
        }
        Ok(())
    }

    fn refuse_tag(&self, tagged: bool, span: Span) -> Result<(), Box<Diagnostic>> {
        if tagged {
            return Err(Box::new(
                self.error("005", span, "a tag (`!…`)").hint(
                    "put an expression that begins with `!` in quotes: \"!…\"; else remove it, for values are typed by \
                     their field",
                ),
            ));
        }
        Ok(())
    }

    fn remember(&mut self, anchor: usize, node: Node) -> Node {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        node
    }
}

fn weight(node: &Node) -> (usize, usize) {
    match &node.value {
        Value::Str(s) => (1, s.len()),
        Value::List(l) => {
            l.iter().map(weight).fold((1, 0), |(n, t), (a, b)| (n.saturating_add(a), t.saturating_add(b)))
        }
        Value::Map(m) => m.iter().fold((1, 0), |(n, t), (k, v)| {
            let (a, b) = weight(v);
            (n.saturating_add(a).saturating_add(1), t.saturating_add(b).saturating_add(k.name.len()))
        }),
        _ => (1, 0),
    }
}

/// A plain scalar by the core schema, with `true`/`false` as the only booleans.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" => return Value::Null,
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        ".inf" | "-.inf" | ".nan" => return Value::Str(text.to_owned()),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Value::Str(text.to_owned());
    }
    if let Ok(i) = text.parse::<i64>() {
        return Value::Int(i);
    }
    let numeric = digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    match text.parse::<f64>() {
        Ok(f) if numeric && f.is_finite() => Value::Float(f),
        _ => Value::Str(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<Node, Box<Diagnostic>> {
        parse(&SourceFile::new("t.yaml", text), "TS")
    }

    fn check_refused(text: &str, code: &str, line: usize, column: usize) {
        let d = tree(text).expect_err(text);
        assert_eq!((d.code.as_str(), d.line, d.column), (code, line, column), "{d}");
    }

    #[test]
    fn scalars_resolve_without_surprises() {
        let n =
            tree("a: no\nb: 1.5\nc: 0x1f\nd: \"12\"\ne: 1_000\nf: -3\ng: ~\nh: 1.2.3\ni: 250ms\n").unwrap();
        assert_eq!(
            n.to_json(),
            serde_json::json!({"a": "no", "b": 1.5, "c": "0x1f", "d": "12", "e": "1_000", "f": -3, "g": null, "h": "1.2.3", "i": "250ms"})
        );
    }

    /// Rules stand in one file, which nobody can split.
    #[test]
    fn a_file_of_rules_may_be_longer_than_others() {
        let list = |nodes: usize| format!("[{}]", "1,".repeat(nodes));
        let of = |text: &str, prefix: &str| parse(&SourceFile::new("t.yaml", text), prefix);
        assert_eq!(of(&list(20_000), "TS").unwrap_err().hint.as_deref(), Some("split the file"));
        assert!(of(&list(20_000), RULES).is_ok());
        let told = of(&list(50_001), RULES).unwrap_err();
        assert!(told.code == "PL003" && told.hint.as_ref().is_some_and(|h| !h.contains("split")), "{told}");
        let long = format!("# {}\n", "x".repeat(MAX_BYTES));
        assert_eq!(of(&long, "TS").unwrap_err().code, "TS003");
        assert!(of(&long, RULES).is_ok());
    }

    #[test]
    fn what_is_no_tree_is_refused_with_its_place() {
        check_refused("a: 1\nb: [1\n", "TS001", 3, 1);
        check_refused("a: 1\nb: 2\na: 3\n", "TS002", 3, 1);
        // What comes first in the file is told.
        check_refused("a: 1\na: 2\nb: [\n", "TS002", 2, 1);
        check_refused("x: &x {a: 1}\ny:\n  <<: *x\n", "TS004", 3, 3);
        check_refused("a: !!str 1\n", "TS005", 1, 4);
        check_refused(&format!("a: {}1{}", "[".repeat(70), "]".repeat(70)), "TS003", 1, 68);
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n";
        assert_eq!(tree(bomb).expect_err("bomb").code, "TS003");
    }

    #[test]
    fn keys_that_stand_twice_hide_nothing_else() {
        let file = SourceFile::new("t.yaml", "a: 1\na: 2\nb: { c: 1, c: 2 }\nd: 4\n");
        let (tree, told) = parse_to_check(&file, "TS");
        let places: Vec<_> = told.iter().map(|d| (d.code.as_str(), d.line, d.column)).collect();
        assert_eq!(places, [("TS002", 2, 1), ("TS002", 3, 12)]);
        let json = tree.map(|t| t.to_json());
        assert_eq!(json, Some(serde_json::json!({"a": 1, "b": {"c": 1}, "d": 4})));
        let (tree, told) = parse_to_check(&SourceFile::new("t.yaml", "a: 1\na: 2\nb: [\n"), "TS");
        assert!(tree.is_none() && told.len() == 2, "{told:?}");
    }

    #[test]
    fn merge_keys_are_taken_of_others() {
        let read =
            |text: &str| parse_merged(&SourceFile::new("f", text), "T").map(|n| n.to_json().to_string());
        let text = "a: &a { x: 1, y: 2 }\nb: &b { y: 3, z: 4 }\nc: { y: 5, <<: [*a, *b] }\nd: { <<: *a }\n";
        let json: serde_json::Value = serde_json::from_str(&read(text).unwrap()).unwrap();
        assert_eq!(json["c"], serde_json::json!({"x": 1, "y": 5, "z": 4}));
        assert_eq!(json["d"], serde_json::json!({"x": 1, "y": 2}));
        assert_eq!(read("a: { <<: 7 }").unwrap_err().code, "T004");
        assert_eq!(parse(&SourceFile::new("f", text), "T").unwrap_err().code, "T004");
    }
}
