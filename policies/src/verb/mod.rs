//! The verbs: what rules and policies can do. One file each, listed once here.

mod cap_cost;
mod cap_latency;
mod cap_max_tokens;
mod cap_temperature;
mod deny;
mod exclude;
mod prefer;
mod require;
mod tag;
mod validators;
mod weight;
mod workflow;

pub(crate) use validators::Validator;

use crate::merge::Action;
use crate::selector::{Context, models};
use std::sync::Arc;
use types::diagnostic::nearest;
use types::doc::{Key, Node, Reader, Span, Value};
use types::matrix::ModelSet;

/// Whether a verb can only tighten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It restricts; a rule that holds one fails closed.
    Hard,
    /// It shapes the choice among what is allowed.
    Soft,
}

/// A verb.
pub(crate) struct Verb {
    /// The same in YAML, Rhai, metrics and records.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Names of the arguments when a policy gives them one by one; a single argument stands for itself.
    pub(crate) arguments: &'static [&'static str],
    /// Reads the argument; problems are noted in the reader.
    pub(crate) read: Read,
}

/// Reader, argument, its path, and what names mean.
type Read = fn(&mut Reader<'_>, &Node, &str, &Context<'_>) -> Option<Arc<dyn Action>>;

/// Every verb that exists.
pub(crate) const VERBS: &[Verb] = &[
    prefer::VERB,
    require::VERB,
    exclude::VERB,
    weight::VERB,
    cap_cost::VERB,
    cap_latency::VERB,
    cap_max_tokens::VERB,
    cap_temperature::VERB,
    workflow::VERB,
    validators::VERB,
    tag::VERB,
    deny::VERB,
];

/// Verbs of the policy language that this version does not know yet.
const NOT_YET: &[&str] = &[
    "avoid",
    "min_quality",
    "residency",
    "data_policy",
    "explore",
    "sticky",
    "assume_price",
    "fanout",
    "hedge",
    "repair",
    "escalate",
    "enforce_format",
    "stream",
    "set_var",
    "experiment",
    "shadow",
    "priority",
    "cap_tokens",
    "cap_calls",
    "cap_attempts",
    "cap_fanout",
    "set_temperature",
    "set_max_tokens",
    "set_params",
    "retry",
    "add_system",
    "rate_limit",
    "concurrency",
    "require_approval",
    "redact",
    "allow_tools",
    "deny_tools",
    "cache",
    "log",
    "audit",
    "header",
    "notify",
];

/// The verb of that name; notes an unknown one (`101`), or one that is planned (`109`).
pub(crate) fn find(r: &mut Reader<'_>, name: &str, span: Span, field: &str) -> Option<&'static Verb> {
    if let Some(verb) = VERBS.iter().find(|v| v.name == name) {
        return Some(verb);
    }
    let known = VERBS.iter().map(|v| v.name);
    let list = known.clone().collect::<Vec<_>>().join(", ");
    let near = nearest(name, known);
    let d = if NOT_YET.contains(&name) {
        let d = r.error("109", span, format!("the verb `{name}` is not supported yet"));
        d.expected = Some(format!("one of {list}"));
        d
    } else {
        let d = r.error("101", span, format!("unknown verb `{name}`"));
        d.expected = Some(format!("one of {list}"));
        d.hint = near.first().map(|n| format!("did you mean `{n}`?"));
        d
    };
    field.clone_into(&mut d.field);
    None
}

/// An action as it was written, and what it does.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) verb: Arc<str>,
    pub(crate) argument: serde_json::Value,
    pub(crate) action: Arc<dyn Action>,
}

/// Reads the argument of a verb.
pub(crate) fn bind(
    r: &mut Reader<'_>,
    verb: &'static Verb,
    node: &Node,
    field: &str,
    cx: &Context<'_>,
) -> Option<Bound> {
    let action = (verb.read)(r, node, field, cx)?;
    Some(Bound { verb: verb.name.into(), argument: node.to_json(), action })
}

/// The arguments of a call in a policy as the one argument of the YAML form. `None` for too many.
pub(crate) fn argument(verb: &Verb, mut args: Vec<Node>, span: Span) -> Option<Node> {
    use types::doc::Style;
    if args.len() == 1 {
        return args.pop();
    }
    if args.is_empty() || args.len() > verb.arguments.len() {
        return None;
    }
    let members = verb.arguments.iter().zip(args);
    let members = members.map(|(name, value)| (Key { name: (*name).to_owned(), span: value.span }, value));
    Some(Node { value: Value::Map(members.collect()), span, style: Style::Plain })
}

/// The set of models of `require` and `exclude`: selectors, or `{models, optional}`.
fn model_set(r: &mut Reader<'_>, node: &Node, field: &str, cx: &Context<'_>) -> Option<ModelSet> {
    if node.get("models").is_none() {
        return models(r, node, field, cx, false);
    }
    let mut f = r.fields(node, field)?;
    let selectors = f.take("models");
    let optional = f.take("optional").and_then(|n| r.boolean(n, &f.at("optional"))).unwrap_or(false);
    let at = f.at("models");
    f.finish(r);
    models(r, selectors?, &at, cx, optional)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_planned_ones_are_not_there_yet() {
        for (i, v) in VERBS.iter().enumerate() {
            assert!(VERBS.iter().skip(i + 1).all(|w| w.name != v.name), "{}", v.name);
            assert!(!NOT_YET.contains(&v.name), "{}", v.name);
        }
    }
}
