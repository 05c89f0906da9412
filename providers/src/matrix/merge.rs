//! Several files as one tree in which every value still knows its own file.
//!
//! The byte offsets of the files are laid end to end, as if they were one text; a problem is then brought
//! back to its file by its offset.

use types::diagnostic::Diagnostic;
use types::doc::{self, Node, SourceFile, Span, Value};

/// Of all codes of this room.
pub(super) const PREFIX: &str = "CM";

/// Parses all files and merges them. No tree if the base is none; the problems are those of parsing.
pub(super) fn read(files: &[SourceFile]) -> (Option<Node>, Vec<Diagnostic>) {
    let mut tree: Option<Node> = None;
    let mut problems = Vec::new();
    let mut base_is_broken = false;
    for (i, (file, at)) in files.iter().zip(offsets(files)).enumerate() {
        let (read, told) = doc::parse_to_check(file, PREFIX);
        problems.extend(told);
        base_is_broken |= i == 0 && read.is_none();
        let Some(mut node) = read else { continue };
        shift(&mut node, at);
        tree = Some(match tree.take() {
            None => node,
            Some(below) => over(below, node),
        });
    }
    (tree.filter(|_| !base_is_broken), problems)
}

/// Brings a problem of the merged tree back to its file.
pub(super) fn relocate(mut d: Diagnostic, files: &[SourceFile]) -> Diagnostic {
    let home = files.iter().zip(offsets(files)).take_while(|(_, at)| *at <= d.range.start).last();
    if let Some((file, at)) = home {
        d.file.clone_from(&file.path);
        d.range = d.range.start.saturating_sub(at)..d.range.end.saturating_sub(at);
    }
    d
}

/// Where each file starts; one byte apart, so that the end of one is not the start of the next.
fn offsets(files: &[SourceFile]) -> impl Iterator<Item = usize> {
    files.iter().scan(0_usize, |at, file| {
        let here = *at;
        *at = at.saturating_add(file.text.len()).saturating_add(1);
        Some(here)
    })
}

fn shift(node: &mut Node, by: usize) {
    move_span(&mut node.span, by);
    match &mut node.value {
        Value::List(l) => l.iter_mut().for_each(|n| shift(n, by)),
        Value::Map(m) => {
            for (key, value) in m {
                move_span(&mut key.span, by);
                shift(value, by);
            }
        }
        _ => {}
    }
}

fn move_span(span: &mut Span, by: usize) {
    span.start = span.start.saturating_add(by);
    span.end = span.end.saturating_add(by);
}

/// `upper` over `lower`: maps merge key by key, everything else replaces; nothing over a map changes nothing.
fn over(lower: Node, upper: Node) -> Node {
    match (lower.value, upper.value) {
        (Value::Map(mut below), Value::Map(above)) => {
            for (key, value) in above {
                match below.iter().position(|(k, _)| k.name == key.name) {
                    None => below.push((key, value)),
                    Some(i) => {
                        let (key, old) = below.remove(i);
                        below.insert(i, (key, over(old, value)));
                    }
                }
            }
            Node { value: Value::Map(below), span: lower.span, style: lower.style }
        }
        (value @ Value::Map(_), Value::Null) => Node { value, span: lower.span, style: lower.style },
        (_, value) => Node { value, span: upper.span, style: upper.style },
    }
}
