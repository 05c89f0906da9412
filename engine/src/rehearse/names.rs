//! The names in a test of a workflow: whether there is what they stand for, and each that stands for nothing at its own
//! place.

use super::case::Case;
use super::{Seen, stage};
use crate::bundle::Bundle;
use types::ChatRequest;
use types::diagnostic::suggestion;
use types::doc::{Node, Reader, Span, Value};
use types::matrix::glob;
use workflows::Workflow;

/// Outcomes with which any node may resolve, and what stands for all of them.
const ANYWHERE: [&str; 5] = ["error", "timeout", "cancelled", "skipped", "any"];

/// Tells of a request that is none, at the member that is at fault where the test itself holds it.
pub(super) fn request(r: &mut Reader<'_>, root: &Node, case: &Case) {
    let Some(node) = root.get("request") else { return };
    if case.request.is_null() {
        return;
    }
    let Err(e) = ChatRequest::from_value(&case.request) else { return };
    let options = e.pointer.strip_prefix("/routing").and_then(|rest| Some((root.get("profile")?, rest)));
    let place = options.and_then(|(profile, rest)| member(profile, rest));
    let place = place.or_else(|| member(node, &e.pointer)).unwrap_or(node.span);
    r.error("104", place, e.message).field = format!("request{}", e.pointer.replace('/', "."));
}

/// Tells of names that the configuration does not hold.
pub(super) fn known(r: &mut Reader<'_>, root: &Node, case: &Case, bundle: &Bundle) {
    models(r, root, bundle);
    let with_tools = (!case.tools.is_empty()).then(|| bundle.with_tools(&stage::specs(case)));
    let library = with_tools.as_ref().unwrap_or(&bundle.library);
    if let Some(workflow) = library.get(&case.workflow) {
        variables(r, root, workflow);
        inputs(r, root, workflow);
        nodes(r, root, workflow);
    } else if let Some(node) = root.get("workflow").filter(|_| !case.workflow.is_empty()) {
        let d = r.error("205", node.span, format!("there is no workflow `{}`", case.workflow));
        d.hint = Some(suggestion(&case.workflow, library.names().iter().copied()));
        "workflow".clone_into(&mut d.field);
    }
}

fn models(r: &mut Reader<'_>, root: &Node, bundle: &Bundle) {
    for (i, node) in items(root, "calls").iter().enumerate() {
        let named = node.get("model").and_then(|n| Some((n, n.as_str()?)));
        let Some((node, model)) = named.filter(|(_, m)| bundle.matrix().find(m).is_none()) else { continue };
        let all = bundle.matrix().models();
        let d = r.error("201", node.span, format!("there is no model `{model}`"));
        d.hint = Some(suggestion(model, all.iter().map(|m| &*m.id)));
        d.field = format!("calls[{i}].model");
    }
}

fn variables(r: &mut Reader<'_>, root: &Node, workflow: &Workflow) {
    let Some(Value::Map(set)) = root.get("vars").map(|n| &n.value) else { return };
    for (key, node) in set {
        let one = [(key.name.clone(), node.to_json())].into_iter().collect();
        let Err((_, why)) = workflow.takes_vars(&one) else { continue };
        let (message, hint) = why.split_once("; ").map_or((&*why, None), |(m, h)| (m, Some(h.to_owned())));
        let declared = workflow.vars().any(|name| name == key.name);
        let d = match declared {
            true => r.error("103", node.span, message),
            false => r.error("301", key.span, message),
        };
        d.hint = hint;
        d.field = format!("vars.{}", key.name);
    }
}

fn inputs(r: &mut Reader<'_>, root: &Node, workflow: &Workflow) {
    let written = root.get("inputs");
    let members = match written.map(|n| &n.value) {
        Some(Value::Map(members)) => members.as_slice(),
        _ => &[],
    };
    let given: Vec<_> = members.iter().map(|(key, n)| (key.name.as_str(), key.span, n.to_json())).collect();
    let whole = written.or_else(|| root.get("workflow")).map_or(root.span, |n| n.span);
    for (span, message, hint) in workflow.misgiven(&given) {
        let d = r.error("208", span.unwrap_or(whole), message);
        (d.hint, d.field) = (Some(hint).filter(|h| !h.is_empty()), "inputs".to_owned());
    }
}

fn nodes(r: &mut Reader<'_>, root: &Node, workflow: &Workflow) {
    let paths = workflow.paths();
    let fits = |pattern: &str| {
        let plain = Seen::plain(pattern);
        let below = plain.strip_suffix("/*").unwrap_or(&plain);
        paths.iter().any(|p| glob(&plain, p) || glob(below, p))
    };
    let mut unknown = |span: Span, name: &str, field: String| {
        let d = r.error("320", span, format!("workflow `{}` has no node `{name}`", workflow.name));
        (d.hint, d.field) = (Some(suggestion(name, paths.iter().map(String::as_str))), field);
    };
    for (i, call) in items(root, "calls").iter().enumerate() {
        let named = call.get("at").and_then(|n| Some((n.span, n.as_str()?)));
        if let Some((span, at)) = named.filter(|(_, at)| !fits(at)) {
            unknown(span, at, format!("calls[{i}].at"));
        }
    }
    let Some(expect) = root.get("expect") else { return };
    for node in items(expect, "not_run") {
        // That nothing of what is no node runs says nothing.
        if let Some(name) = node.as_str().filter(|name| !paths.iter().any(|p| p == name)) {
            unknown(node.span, name, "expect.not_run".to_owned());
        }
    }
    let steps: Vec<_> = items(expect, "path")
        .iter()
        .filter_map(|step| match &step.value {
            Value::Map(step) => Some(step),
            _ => None,
        })
        .flatten()
        .collect();
    for (key, _) in steps.iter().filter(|(key, _)| !fits(&key.name)) {
        unknown(key.span, &key.name, "expect.path".to_owned());
    }
    let outcomes = workflow.points().outcomes;
    for (key, node) in steps {
        let plain = Seen::plain(&key.name);
        let own: Vec<&str> =
            outcomes.iter().filter(|(path, _)| *path == plain).map(|(_, o)| o.as_str()).collect();
        let Some(said) = node.as_str().filter(|_| !own.is_empty()) else { continue };
        if !own.contains(&said) && !ANYWHERE.contains(&said) {
            let d = r.error("304", node.span, format!("`{}` never resolves as `{said}`", key.name));
            let all: Vec<&str> = own.into_iter().chain(ANYWHERE).collect();
            (d.hint, d.field) = (Some(suggestion(said, all)), "expect.path".to_owned());
        }
    }
}

/// The members of a list; a text by itself is a list of one.
fn items<'n>(of: &'n Node, key: &str) -> &'n [Node] {
    match of.get(key) {
        Some(Node { value: Value::List(list), .. }) => list,
        Some(node @ Node { value: Value::Str(_), .. }) => std::slice::from_ref(node),
        _ => &[],
    }
}

/// The place of what a JSON pointer leads to; of a member, its name.
fn member(mut node: &Node, pointer: &str) -> Option<Span> {
    let mut place = None;
    for step in pointer.split('/').filter(|s| !s.is_empty()) {
        match &node.value {
            Value::Map(members) => {
                let (key, value) = members.iter().find(|(key, _)| key.name == step)?;
                (node, place) = (value, Some(key.span));
            }
            Value::List(list) => {
                node = list.get(step.parse::<usize>().ok()?)?;
                place = Some(node.span);
            }
            _ => return place,
        }
    }
    place
}
