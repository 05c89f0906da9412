//! HTML: what the grammar cannot read, elements that are not closed or not open, scripts and styles within.

use super::language::Language;
use super::tree::{self, Fault, Gave, MAX_FAULTS, VOID};
use super::{Reading, fragments, prepare};
use tree_sitter::{Node, Tree};

/// Elements whose end tag may be left out.
const OPTIONAL_END: &[&str] = &[
    "html", "head", "body", "p", "li", "dt", "dd", "option", "optgroup", "tr", "td", "th", "thead", "tbody",
    "tfoot", "colgroup", "caption", "rt", "rp",
];

/// Parses a document or a piece of one.
pub(super) fn read(code: &str) -> Reading {
    let tree = match tree::parse(Language::Html, code) {
        Ok(t) => t,
        Err(gave) => return Reading::Unsure(gave.why().into()),
    };
    let mut found: Vec<Fault> =
        tree::faults(&tree, Language::Html).into_iter().map(|f| stray(f, code)).collect();
    match structure(&tree, code) {
        Ok(more) => found.extend(more),
        Err(gave) => return Reading::Unsure(gave.why().into()),
    }
    if found.is_empty() {
        return Reading::Fine;
    }
    if prepare::is_template(code) {
        return Reading::Unsure("it is a template, which is filled in before it is HTML".into());
    }
    found.sort_by_key(|f| f.span.start);
    found.truncate(MAX_FAULTS);
    Reading::Faulty(found)
}

/// An end tag outside of any element is an error of the grammar; it is told as what it is.
fn stray(fault: Fault, code: &str) -> Fault {
    let before = code.get(..fault.span.start).unwrap_or("");
    let inner = code.get(fault.span.clone()).unwrap_or("");
    if !before.ends_with("</") || inner.contains('<') {
        return fault;
    }
    let what = Some(format!("`</{}>` closes nothing that is open", inner.trim_end_matches('>')));
    let behind = code.get(fault.span.end..).is_some_and(|r| r.starts_with('>'));
    let span = fault.span.start.saturating_sub(2)..fault.span.end.saturating_add(usize::from(behind));
    Fault { span, missing: None, what }
}

fn structure(tree: &Tree, code: &str) -> Result<Vec<Fault>, Gave> {
    let mut out = Vec::new();
    let mut cursor = tree.walk();
    loop {
        let node = cursor.node();
        match node.kind() {
            "erroneous_end_tag" => out.push(Fault {
                span: node.byte_range(),
                missing: None,
                what: Some(format!("`</{}>` closes nothing that is open", name(node, code))),
            }),
            "element" => out.extend(unclosed(node, code)),
            "script_element" | "style_element" => out.extend(within(node, code)?),
            _ => {}
        }
        if out.len() >= MAX_FAULTS || !cursor.goto_first_child() && !forward(&mut cursor) {
            return Ok(out);
        }
    }
}

fn forward(cursor: &mut tree_sitter::TreeCursor<'_>) -> bool {
    while !cursor.goto_next_sibling() {
        if !cursor.goto_parent() {
            return false;
        }
    }
    true
}

/// The name in a tag.
fn name(tag: Node<'_>, code: &str) -> String {
    let mut cursor = tag.walk();
    let found = tag.children(&mut cursor).find(|c| matches!(c.kind(), "tag_name" | "erroneous_end_tag_name"));
    found.and_then(|n| code.get(n.byte_range())).unwrap_or("").to_ascii_lowercase()
}

fn child<'t>(node: Node<'t>, kind: &str) -> Option<Node<'t>> {
    let mut cursor = node.walk();
    node.children(&mut cursor).find(|c| c.kind() == kind)
}

fn unclosed(element: Node<'_>, code: &str) -> Option<Fault> {
    let start = child(element, "start_tag")?;
    let name = name(start, code);
    let closed = child(element, "end_tag").is_some_and(|e| !e.is_missing() && !e.byte_range().is_empty());
    let free =
        closed || VOID.contains(&name.as_str()) || OPTIONAL_END.contains(&name.as_str()) || name.is_empty();
    (!free).then(|| Fault {
        span: start.byte_range(),
        missing: Some(format!("</{name}>")),
        what: Some(format!("`<{name}>` is not closed")),
    })
}

/// The faults of a script or a style sheet, at their places in the whole.
fn within(element: Node<'_>, code: &str) -> Result<Vec<Fault>, Gave> {
    let (Some(raw), Some(start)) = (child(element, "raw_text"), child(element, "start_tag")) else {
        return Ok(Vec::new());
    };
    let tag = code.get(start.byte_range()).unwrap_or("").to_ascii_lowercase();
    let text = code.get(raw.byte_range()).unwrap_or("");
    let script = element.kind() == "script_element";
    let plain = !tag.contains("type=")
        || tag.contains("javascript")
        || tag.contains("module")
        || tag.contains("text/css");
    if !plain
        || tag.contains("lang=")
        || prepare::is_template(text)
        || prepare::without_elisions(text).is_some()
    {
        return Ok(Vec::new());
    }
    let language = if script { Language::JavaScript } else { Language::Css };
    let shift = raw.start_byte();
    let found = fragments::faults(language, text)?;
    Ok(found
        .into_iter()
        .map(|f| Fault { span: f.span.start.saturating_add(shift)..f.span.end.saturating_add(shift), ..f })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, want: &[&str]) {
        let got = match read(code) {
            Reading::Fine => Vec::new(),
            Reading::Unsure(why) => vec![why],
            Reading::Faulty(f) => f.iter().map(|f| code[f.span.clone()].to_owned()).collect(),
        };
        assert_eq!(got, want, "{code}");
    }

    #[test]
    fn documents_and_pieces_are_read() {
        check(
            "<!DOCTYPE html>\n<html><head><title>x</title></head><body><p>a<p>b<br><img src=x></body></html>",
            &[],
        );
        check("<ul><li>a<li>b</ul><input disabled>", &[]);
        check("<div>{x}</div>", &[]);
        check("<td>1</td><td>2</td>", &[]);
        check("text only &amp; more", &[]);
        check("<script>let a = 1;</script><style>a { b: c; }</style>", &[]);
    }

    #[test]
    fn what_is_not_closed_or_open_is_found() {
        check("<div><span>a</div>", &["<span>"]);
        check("<div>a", &["<div>"]);
        check("a</div>", &["</div>"]);
        check("<p>a</p></section>", &["</section>"]);
        check("<script>let a = ;</script>", &["="]);
    }

    #[test]
    fn templates_are_not_judged() {
        check(
            "{% if x %}<div a>{% else %}<div>{% endif %}</div>",
            &["it is a template, which is filled in before it is HTML"],
        );
    }
}
