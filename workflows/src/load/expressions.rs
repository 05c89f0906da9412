//! The variables that conditions of a workflow may read beside the request's: `nodes` and `vars`.

use super::Named;
use types::doc;
use types::expr::{Type, Variables};

/// `nodes` and `vars` added to the variables of a request.
pub(super) fn variables(base: &Variables, nodes: &[Named], vars: &[(String, Type)]) -> Variables {
    let mut all = base.clone();
    let nodes = nodes.iter().filter_map(|n| Some((n.id.clone(), node(n)?))).collect();
    all.push(("nodes".to_owned(), Type::Map(nodes)));
    all.push(("vars".to_owned(), Type::Map(vars.to_vec())));
    all
}

/// What can be read of a node. Lists are empty and single values `()` while it has not run.
fn node(n: &Named) -> Option<Type> {
    let common = n.kind?.common().map(|(name, ty)| (name.to_owned(), ty));
    let own = n.outputs.iter().map(|o| (o.name.to_string(), o.ty.expr()));
    Some(Type::Map(common.into_iter().chain(own).collect()))
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
