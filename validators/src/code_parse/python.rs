//! What the grammar of Python lets pass and Python does not: missing bodies, indentation that does not fit.

use super::tree::{Fault, MAX_FAULTS, next};
use tree_sitter::{Node, Tree};

/// Faults of indentation in a tree without errors.
pub(super) fn faults(tree: &Tree) -> Vec<Fault> {
    let mut out = Vec::new();
    let mut cursor = tree.walk();
    loop {
        let node = cursor.node();
        match node.kind() {
            "block" if node.named_child_count() == 0 => out.extend(bodiless(node)),
            "block" | "module" => out.extend(shifted(node)),
            _ => {}
        }
        if out.len() >= MAX_FAULTS || !cursor.goto_first_child() && !next(&mut cursor) {
            return out;
        }
    }
}

/// An empty block with a statement behind it. At the end of a snippet it is a signature on its own, and a
/// comment in its place says that something is left out.
fn bodiless(block: Node<'_>) -> Option<Fault> {
    let owner = block.parent()?;
    let mut at = owner;
    let behind = loop {
        match at.next_named_sibling() {
            Some(n) => break n,
            None => at = at.parent()?,
        }
    };
    let comment = |n: Node<'_>| n.kind() == "comment";
    let mut cursor = owner.walk();
    if comment(behind) || owner.children(&mut cursor).any(comment) {
        return None;
    }
    Some(Fault {
        span: owner.start_byte()..block.start_byte().max(owner.start_byte()),
        missing: None,
        what: Some("an indented block is missing behind the `:`".to_owned()),
    })
}

/// The first statement that begins a line of the block at another column than the block.
fn shifted(block: Node<'_>) -> Option<Fault> {
    let mut cursor = block.walk();
    let mut column: Option<usize> = None;
    let mut last_row: Option<usize> = None;
    for child in block.named_children(&mut cursor).filter(|c| c.kind() != "comment") {
        let start = child.start_position();
        let begins = last_row.is_none_or(|r| r < start.row);
        last_row = Some(child.end_position().row);
        // The first statement may stand behind the colon.
        if column.is_none() && block.parent().is_some_and(|p| p.start_position().row == start.row) {
            continue;
        }
        match column {
            None => column = Some(start.column),
            Some(c) if begins && c != start.column => {
                let what = "the indentation does not fit the lines before".to_owned();
                return Some(Fault { span: child.byte_range(), missing: None, what: Some(what) });
            }
            Some(_) => {}
        }
    }
    None
}
