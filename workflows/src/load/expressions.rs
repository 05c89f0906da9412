//! The variables that expressions of a workflow may read beside the request's, with their types.

use super::{Cx, Named};
use types::doc;
use types::expr::{Type, Variables};

/// Everything that is visible at the place that is being read: an inner name hides an outer one.
pub(super) fn variables(cx: &Cx<'_>) -> Variables {
    let mut own: Variables = Vec::new();
    let mut nodes: Vec<(String, Type)> = Vec::new();
    for level in &cx.levels {
        for n in &level.nodes {
            nodes.retain(|(id, _)| *id != n.id);
            nodes.extend(node(n).map(|t| (n.id.clone(), t)));
        }
        for (name, t) in &level.locals {
            own.retain(|(n, _)| n != name);
            own.push((name.clone(), t.clone()));
        }
    }
    own.push(("nodes".to_owned(), Type::Map(nodes)));
    own.push(("vars".to_owned(), Type::Map(cx.vars.clone())));
    own.push(("inputs".to_owned(), Type::Map(cx.inputs.clone())));
    own.extend(facts());
    own.extend(request(cx.names.variables));
    let base = cx.names.variables.iter();
    let hidden = |name: &str| own.iter().any(|(n, _)| n == name);
    let mut all: Variables = base.filter(|(n, _)| !hidden(n)).cloned().collect();
    all.extend(own);
    all
}

/// `request` with the messages, which rules and policies may not read but workflows may.
fn request(base: &Variables) -> Option<(String, Type)> {
    let (name, Type::Map(fields)) = base.iter().find(|(n, _)| n == "request")? else { return None };
    let mut fields = fields.clone();
    if !fields.iter().any(|(n, _)| n == "messages") {
        fields.push(("messages".to_owned(), Type::Any.list()));
    }
    Some((name.clone(), Type::Map(fields)))
}

/// What a run knows of itself. Of a limit that is not set, nothing is known.
fn facts() -> Variables {
    const MODES: &[&str] = &["sync", "async", "shadow", "replay", "test"];
    let amounts = || {
        Type::map([
            ("usd", Type::Float.optional()),
            ("wall_ms", Type::Int.optional()),
            ("tokens", Type::Int.optional()),
            ("calls", Type::Int),
        ])
    };
    let spent = Type::map([
        ("usd", Type::Float),
        ("wall_ms", Type::Int),
        ("tokens", Type::Int),
        ("calls", Type::Int),
    ]);
    let run = Type::map([
        ("id", Type::Str),
        ("mode", Type::Enum(MODES)),
        ("seed", Type::Int),
        ("variant", Type::Str.optional()),
    ]);
    [("limits", amounts()), ("spent", spent), ("remaining", amounts()), ("run", run)]
        .map(|(name, t)| (name.to_owned(), t))
        .to_vec()
}

/// What can be read of a node. Lists are empty and single values `()` while it has not run.
fn node(n: &Named) -> Option<Type> {
    let common = n.kind.map(|_| n.common())?.into_iter().map(|(name, ty)| (name.to_owned(), ty));
    let own = n.outputs.iter().map(|o| (o.name.to_string(), o.ty.expr()));
    Some(Type::Map(common.chain(own).collect()))
}

/// The type of a constant; `None` if it is neither a scalar nor a list of scalars of one type.
pub(super) fn constant(n: &doc::Node) -> Option<Type> {
    Some(match &n.value {
        doc::Value::Bool(_) => Type::Bool,
        doc::Value::Int(_) => Type::Int,
        doc::Value::Float(_) => Type::Float,
        doc::Value::Str(_) => Type::Str,
        doc::Value::List(l) => {
            let mut types = l.iter().map(constant);
            let first = types.next().unwrap_or(Some(Type::Any))?;
            if matches!(first, Type::List(_)) || !types.all(|t| t.as_ref() == Some(&first)) {
                return None;
            }
            first.list()
        }
        doc::Value::Null | doc::Value::Map(_) => return None,
    })
}
