//! Parsing with tree-sitter, bounded in work, and finding what it could not make sense of.

use super::language::Language;
use super::python;
use std::ops::{ControlFlow, Range};
use tree_sitter::{Node, ParseOptions, ParseState, Parser, Tree};

/// Most calls of the progress callback, one per hundred steps of the parser, beside what the length allows.
const BASE_TICKS: usize = 2_000;
/// Bytes for which one more such call is allowed: four steps a byte is many times what real code takes.
const BYTES_PER_TICK: usize = 25;
/// Deepest nesting that is handed to a parser. The states of the scanners, which are C, go into buffers of
/// fixed size, and some walks of the trees recurse.
const MAX_DEPTH: usize = 200;
/// Most problems told of one piece of code.
pub(crate) const MAX_FAULTS: usize = 5;

/// A place that does not parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Bytes of the code.
    pub(crate) span: Range<usize>,
    /// What is missing there; `None` if something is there that does not belong.
    pub(crate) missing: Option<String>,
    /// What is wrong, if it can be said better than by what stands there.
    pub(crate) what: Option<String>,
}

/// Why a piece of code was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gave {
    /// It nests deeper than is safe.
    TooDeep,
    /// It takes too many steps.
    TooMuch,
}

impl Gave {
    /// For the reason of an unverified report.
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Gave::TooDeep => "it nests too deep to be parsed",
            Gave::TooMuch => "it takes too many steps to parse",
        }
    }
}

/// The syntax tree of the code.
pub(crate) fn parse(language: Language, code: &str) -> Result<Tree, Gave> {
    if depth(language, code) > MAX_DEPTH {
        return Err(Gave::TooDeep);
    }
    let grammar = language.grammar().ok_or(Gave::TooMuch)?;
    let mut parser = Parser::new();
    // The grammars are compiled in; a version that does not fit fails the test of all of them.
    parser.set_language(&grammar).map_err(|_| Gave::TooMuch)?;
    let mut left = BASE_TICKS.saturating_add(code.len() / BYTES_PER_TICK);
    let mut tick = |_: &ParseState| match left.checked_sub(1) {
        Some(n) => {
            left = n;
            ControlFlow::Continue(())
        }
        None => ControlFlow::Break(()),
    };
    let options = ParseOptions::new().progress_callback(&mut tick);
    let bytes = code.as_bytes();
    parser
        .parse_with_options(&mut |i, _| bytes.get(i..).unwrap_or(&[]), None, Some(options))
        .ok_or(Gave::TooMuch)
}

/// How deep the code nests, as far as it matters to the parser of its language.
fn depth(language: Language, code: &str) -> usize {
    match language {
        // Its scanner keeps every level of indentation.
        Language::Python => {
            let indent = code.lines().map(|l| l.len().saturating_sub(l.trim_start().len())).max();
            indent.unwrap_or(0).max(brackets(code))
        }
        // Its scanner keeps every open element.
        Language::Html => elements(code),
        _ => brackets(code),
    }
}

fn brackets(code: &str) -> usize {
    let (mut open, mut deepest) = (0_usize, 0_usize);
    for b in code.bytes() {
        match b {
            b'(' | b'[' | b'{' => open = open.saturating_add(1),
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

/// Elements that have no content and no end tag.
pub(crate) const VOID: &[&str] = &[
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];

fn elements(code: &str) -> usize {
    let (mut open, mut deepest) = (0_usize, 0_usize);
    for tag in code.split('<').skip(1) {
        let name: String = tag.chars().take_while(char::is_ascii_alphanumeric).collect();
        if tag.starts_with('/') {
            open = open.saturating_sub(1);
        } else if !name.is_empty() && !VOID.contains(&name.to_ascii_lowercase().as_str()) {
            let closed = tag.split('>').next().is_some_and(|t| t.ends_with('/'));
            open = open.saturating_add(usize::from(!closed));
        }
        deepest = deepest.max(open);
    }
    deepest
}

/// The outermost places that do not parse, in order.
pub(crate) fn faults(tree: &Tree, language: Language) -> Vec<Fault> {
    if !tree.root_node().has_error() {
        return if language == Language::Python { python::faults(tree) } else { Vec::new() };
    }
    let mut out = Vec::new();
    let mut cursor = tree.walk();
    loop {
        let node = cursor.node();
        if node.is_missing() {
            let what = node.kind();
            out.push(Fault { span: node.byte_range(), missing: Some(what.to_owned()), what: None });
        } else if node.is_error() {
            out.push(Fault { span: core(node), missing: None, what: None });
        }
        let descend = node.has_error() && !node.is_error() && !node.is_missing();
        let went = descend && cursor.goto_first_child() || next(&mut cursor);
        if out.len() >= MAX_FAULTS || !went {
            return out;
        }
    }
}

/// To the next node that is not below this one.
pub(crate) fn next(cursor: &mut tree_sitter::TreeCursor<'_>) -> bool {
    while !cursor.goto_next_sibling() {
        if !cursor.goto_parent() {
            return false;
        }
    }
    true
}

/// The place within an error node where things go wrong: an error within it, else all of it.
fn core(node: Node<'_>) -> Range<usize> {
    let mut cursor = node.walk();
    let inner = node.children(&mut cursor).find(|c| c.is_error() || c.is_missing());
    inner.map_or_else(|| node.byte_range(), |c| c.byte_range())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(language: Language, code: &str, want: &[(&str, Option<&str>)]) {
        let tree = parse(language, code).unwrap();
        let got = faults(&tree, language);
        let got: Vec<(&str, Option<&str>)> =
            got.iter().map(|f| (&code[f.span.clone()], f.missing.as_deref())).collect();
        assert_eq!(got, want, "{code:?}\n{}", tree.root_node().to_sexp());
    }

    #[test]
    fn faults_are_placed() {
        check(Language::Python, "x = 1\n", &[]);
        check(Language::Json, "{\"a\": 1", &[("", Some("}"))]);
        check(Language::JavaScript, "let x = 1 +;\n", &[("+", None)]);
        check(Language::Python, "def f():\n\nx = 1\n", &[("def f():", None)]);
        check(Language::Python, "def f():\n    # later\nx = 1\n", &[]);
        check(Language::Python, "if x:\n    a\n      b\n", &[("b", None)]);
        check(Language::Python, "if x: a; b\nelse:\n    c\n\n    d\n", &[]);
        check(Language::C, "int f(void) { return 1 }", &[("", Some(";"))]);
    }

    #[test]
    fn work_is_bounded() {
        assert_eq!(parse(Language::Python, &"(".repeat(100_000)).err(), Some(Gave::TooDeep));
        let indented: String = (0..400).map(|n| format!("{}if x:\n", " ".repeat(n))).collect();
        assert_eq!(parse(Language::Python, &indented).err(), Some(Gave::TooDeep));
        assert_eq!(parse(Language::Html, &"<div>".repeat(50_000)).err(), Some(Gave::TooDeep));
        assert!(parse(Language::Html, &"<div></div><br/>".repeat(5_000)).is_ok());
    }
}
