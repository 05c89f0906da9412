//! Problems of expressions and scripts as diagnostics of the files they stand in.

use types::diagnostic::{Diagnostic, Severity};
use types::doc::{Node, Reader, SourceFile, Span};
use types::expr::Problem;

/// Notes the problems of an expression that is the text of `node`.
pub(crate) fn problems(r: &mut Reader<'_>, node: &Node, field: &str, problems: Vec<Problem>) {
    for p in problems {
        let span = node.place(r.file, p.line, p.column);
        note(r, p, span, field);
    }
}

/// Notes the problems of a script that is the whole file.
pub(crate) fn script(r: &mut Reader<'_>, problems: Vec<Problem>) {
    for p in problems {
        let span = span(r.file, p.line, p.column);
        let before = r.problems.len();
        note(r, p, span, "");
        // What several phases reach is told once.
        let (told, last) = r.problems.split_at(before);
        if last.iter().all(|d| told.contains(d)) {
            r.problems.truncate(before);
        }
    }
}

fn note(r: &mut Reader<'_>, p: Problem, span: Span, field: &str) {
    let d: &mut Diagnostic = r.error(p.number, span, p.message);
    if p.warning {
        d.severity = Severity::Warning;
    }
    d.hint = p.hint;
    field.clone_into(&mut d.field);
}

/// The place of (line, column), both from 1, to the end of its word.
pub(crate) fn span(file: &SourceFile, line: usize, column: usize) -> Span {
    let mut start = 0_usize;
    for (i, text) in file.text.split_inclusive('\n').enumerate() {
        if i.saturating_add(1) == line {
            let mut rest = text.char_indices().skip(column.saturating_sub(1));
            let first = rest.next().map_or(text.len(), |(at, _)| at);
            let word = |c: char| c.is_alphanumeric() || c == '_';
            let end = rest.find(|(_, c)| !word(*c)).map_or(text.len(), |(at, _)| at);
            return Span { line, column, start: start.saturating_add(first), end: start.saturating_add(end) };
        }
        start = start.saturating_add(text.len());
    }
    Span { line, column, start: file.text.len(), end: file.text.len() }
}
