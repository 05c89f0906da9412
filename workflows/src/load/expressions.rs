//! The variables that conditions of a workflow may read beside the request's: `nodes` and `vars`.

use crate::node::Tag;
use types::doc;
use types::expr::{Type, Variables};

/// `nodes` and `vars` added to the variables of a request.
pub(super) fn variables(
    base: &Variables,
    ids: &[(String, Option<Tag>)],
    vars: &[(String, Type)],
) -> Variables {
    let mut all = base.clone();
    let nodes = ids.iter().filter_map(|(id, tag)| Some((id.clone(), node((*tag)?)))).collect();
    all.push(("nodes".to_owned(), Type::Map(nodes)));
    all.push(("vars".to_owned(), Type::Map(vars.to_vec())));
    all
}

/// What can be read of a node. Lists are empty and single values `()` while it has not run.
fn node(tag: Tag) -> Type {
    const STATES: &[&str] = &["pending", "running", "resolved"];
    let list = || completion().list();
    let one = || completion().optional();
    let mut fields = vec![
        ("status", Type::Enum(STATES)),
        ("outcome", Type::Enum(tag.outcome_names()).optional()),
        ("duration_ms", Type::Float.optional()),
    ];
    fields.extend(match tag {
        Tag::Generate => vec![("completions", list()), ("completion", one()), ("ok_count", Type::Int)],
        Tag::Validate => vec![
            ("completions", list()),
            ("passing", list()),
            ("usable", list()),
            ("failing", list()),
            ("best", one()),
            ("passed", Type::Bool),
            ("all_passed", Type::Bool),
            ("score", Type::Float.optional()),
            ("unverified", Type::Str.list()),
        ],
        Tag::Repair => {
            vec![("completion", one()), ("attempts", Type::Int), ("strategy", Type::Str.optional())]
        }
        Tag::Judge => {
            vec![("best", one()), ("best_score", Type::Float.optional()), ("abstained", Type::Bool)]
        }
        Tag::Select => vec![
            ("completion", one()),
            ("runner_up", one()),
            ("agreement", Type::Float.optional()),
            ("considered", Type::Int),
        ],
        Tag::Stream | Tag::Fail => Vec::new(),
    });
    Type::map(fields)
}

/// What can be read of a completion.
fn completion() -> Type {
    const VERDICTS: &[&str] = &["passed", "failed", "unverified", "none"];
    Type::map([
        ("text", Type::Str),
        ("finish_reason", Type::Str.optional()),
        ("provider", Type::Str),
        ("model", Type::Str),
        ("family", Type::Str),
        ("cost_usd", Type::Float.optional()),
        ("refused", Type::Bool),
        ("truncated", Type::Bool),
        ("quality", Type::Float),
        ("validation", Type::map([("verdict", Type::Enum(VERDICTS)), ("score", Type::Float)])),
        ("judge", Type::map([("score", Type::Float.optional())])),
        ("usage", Type::map([("input", Type::Int), ("output", Type::Int)])),
    ])
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
