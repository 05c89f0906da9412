//! Arguments that a file gives a tool, against what the tool takes.

use crate::load::{Cx, Data};
use crate::schema::Schema;
use types::Finding;
use types::doc::{Node, Span, Value};

/// Notes what of the arguments cannot fit, whatever a run puts into them; `node` is where they are written, if they are.
pub(super) fn check(
    cx: &mut Cx<'_>,
    tool: &str,
    (args, span): (&Data, Span),
    (node, path): (Option<&Node>, &str),
) {
    let Some(schema) = cx.tool(tool).and_then(|t| Schema::new(&t.input_schema).ok()) else { return };
    let (value, open) = args.written();
    for finding in schema.findings(&value).iter().filter(|f| is_certain(f, &open)) {
        let at = finding.path.as_deref().unwrap_or_default();
        let place = node.and_then(|n| place(n, at)).unwrap_or(span);
        let d =
            cx.r.error("104", place, format!("`{tool}` does not take these arguments: {}", finding.message));
        d.field = at.split('/').skip(1).fold(path.to_owned(), |path, key| format!("{path}.{key}"));
    }
}

/// Whether a finding stands however the open places are filled. Which members there are is known, and that they make a
/// map; all else of what has an open place in it is not.
fn is_certain(finding: &Finding, open: &[String]) -> bool {
    let at = finding.path.as_deref().unwrap_or_default();
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let of_members = matches!(finding.code.as_str(), "required" | "additionalProperties" | "type");
    open.iter().all(|o| !within(at, o) && (of_members || !within(o, at)))
}

/// Where a value stands that a JSON pointer leads to.
fn place(node: &Node, pointer: &str) -> Option<Span> {
    let mut steps = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
    let found = steps.try_fold(node, |node, step| match &node.value {
        Value::List(list) => list.get(step.parse::<usize>().ok()?),
        _ => node.get(&step),
    });
    found.map(|n| n.span)
}
