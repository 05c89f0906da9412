//! The verbs: what rules and policies can do. One file each, or one for a few that differ only in their name;
//! listed once here.

mod add_system;
mod assume_price;
mod audit;
mod cache;
mod cap_cost;
mod cap_latency;
mod cap_max_tokens;
mod cap_temperature;
mod counts;
mod data_policy;
mod deny;
mod enforce_format;
mod escalate;
mod exclude;
mod experiment;
mod explore;
mod fanout;
mod header;
mod hedge;
mod limits;
mod log;
mod min_quality;
mod notify;
mod params;
mod prefer;
mod premium;
mod priority;
mod redact;
mod repair;
mod require;
mod require_approval;
mod residency;
mod retry;
mod set_var;
mod shadow;
mod sticky;
mod stream;
mod tag;
mod tools;
mod validators;
mod weight;
mod workflow;

pub(crate) use limits::is_over_all;
pub(crate) use redact::{Redaction, redaction};
pub(crate) use validators::Validator;

use crate::merge::{Action, At, Merge};
use crate::phase::Phase;
use crate::selection::Selection;
use crate::selector::{Context, models};
use std::fmt;
use std::sync::Arc;
use types::diagnostic::{Diagnostic, nearest};
use types::directives::Verb as Name;
use types::doc::{Key, Node, Reader, SourceFile, Span, Value};
use types::matrix::ModelSet;

/// Whether a verb can only tighten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It restricts; a rule that holds one fails closed.
    Hard,
    /// It shapes the choice among what is allowed.
    Soft,
}

/// Whether one action wins over the others of the same verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Single {
    /// All of them count.
    No,
    /// One of them wins.
    Value,
    /// One of them wins for each name in its map.
    PerName,
}

const REQUEST: &[Phase] = &[Phase::Request];
const REQUEST_TOOL: &[Phase] = &[Phase::Request, Phase::Tool];
const REQUEST_RESPONSE: &[Phase] = &[Phase::Request, Phase::Response];
const RESPONSE: &[Phase] = &[Phase::Response];
const ANY: &[Phase] = &Phase::ALL;

/// A verb.
pub(crate) struct Verb {
    /// The same in YAML, Rhai, metrics and records.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Where rules may use it.
    pub(crate) phases: &'static [Phase],
    pub(crate) single: Single,
    /// Names of the arguments when a policy gives them one by one; a single argument stands for itself.
    pub(crate) arguments: &'static [&'static str],
    /// Reads the argument; problems are noted in the reader.
    pub(crate) read: Read,
}

/// Reader, argument, its path, and what names mean.
type Read = fn(&mut Reader<'_>, &Node, &str, &Context<'_>) -> Option<Arc<dyn Action>>;

/// Every verb that exists.
pub(crate) const VERBS: &[Verb] = &[
    // Choosing candidates.
    prefer::VERB,
    prefer::AVOID,
    weight::VERB,
    require::VERB,
    exclude::VERB,
    min_quality::VERB,
    residency::VERB,
    data_policy::VERB,
    explore::VERB,
    sticky::VERB,
    assume_price::VERB,
    premium::VERB,
    // Shape of execution.
    workflow::VERB,
    fanout::VERB,
    hedge::VERB,
    validators::VERB,
    repair::VERB,
    escalate::VERB,
    enforce_format::VERB,
    stream::VERB,
    set_var::VERB,
    experiment::VERB,
    shadow::VERB,
    priority::VERB,
    // Parameters and limits.
    cap_cost::VERB,
    cap_latency::VERB,
    counts::CAP_TOKENS,
    counts::CAP_CALLS,
    counts::CAP_ATTEMPTS,
    fanout::CAP,
    cap_max_tokens::VERB,
    cap_temperature::VERB,
    params::TEMPERATURE,
    params::MAX_TOKENS,
    params::PARAMS,
    retry::VERB,
    add_system::VERB,
    limits::RATE_LIMIT,
    limits::CONCURRENCY,
    // Safety, data, record.
    deny::VERB,
    require_approval::VERB,
    redact::VERB,
    tools::ALLOW,
    tools::DENY,
    cache::VERB,
    log::VERB,
    audit::VERB,
    tag::VERB,
    header::VERB,
    notify::VERB,
];

/// The verb of that name; notes an unknown one (`101`).
pub(crate) fn find(r: &mut Reader<'_>, name: &str, span: Span, field: &str) -> Option<&'static Verb> {
    if let Some(verb) = VERBS.iter().find(|v| v.name == name) {
        return Some(verb);
    }
    let known = VERBS.iter().map(|v| v.name);
    let list = known.clone().collect::<Vec<_>>().join(", ");
    let near = nearest(name, known);
    let d = r.error("101", span, format!("unknown verb `{name}`"));
    d.expected = Some(format!("one of {list}"));
    d.hint = near.first().map(|n| format!("did you mean `{n}`?"));
    field.clone_into(&mut d.field);
    None
}

/// Notes a verb that has no meaning in a phase (`107`); whether it has one.
pub(crate) fn fits(r: &mut Reader<'_>, verb: &Verb, phase: Phase, span: Span, field: &str) -> bool {
    if verb.phases.contains(&phase) {
        return true;
    }
    let phases: Vec<_> = verb.phases.iter().map(|p| p.as_str()).collect();
    let message = format!("the verb `{}` has no meaning in the phase `{}`", verb.name, phase.as_str());
    let d = r.error("107", span, message);
    d.expected = Some(format!("the phase {}", phases.join(" or ")));
    field.clone_into(&mut d.field);
    false
}

/// Whether an action on an answer has to be known before the answer goes out; the others only write something down, or
/// tell of it, afterwards.
pub(crate) fn holds_back(verb: &Name, argument: &serde_json::Value) -> bool {
    match verb {
        Name::Tag | Name::Log | Name::Notify => false,
        Name::Redact => argument.get("in").is_none_or(|places| *places != serde_json::json!(["logs"])),
        _ => true,
    }
}

/// An action as it was written, and what it does.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) verb: Name,
    pub(crate) argument: serde_json::Value,
    pub(crate) action: Arc<dyn Action>,
}

impl Bound {
    /// The verb itself.
    pub(crate) fn of(&self) -> Option<&'static Verb> {
        VERBS.iter().find(|v| *v.name == *self.verb.as_str())
    }
}

/// Why an argument has no meaning in a phase in which its verb has one.
struct Unfit {
    /// `107`, or `109` for what is not there yet.
    code: &'static str,
    span: Span,
    message: &'static str,
    expected: &'static str,
}

/// Whether the argument of a verb has a meaning in a phase; `None` = it has.
fn unfit(verb: &Verb, node: &Node, cx: &Context<'_>, phase: Phase) -> Option<Unfit> {
    let span = node.span;
    match (verb.name, phase) {
        ("escalate", Phase::Request) if escalate::to_workflow(node, cx) => Some(Unfit {
            code: "109",
            span,
            message: "from the phase `request` only models can be escalated to",
            expected: "models, such as \"pool:strong\"; `workflow: <name>` fixes the workflow",
        }),
        ("cache", Phase::Response) => Some(Unfit {
            code: "109",
            span,
            message: "from the phase `response` nothing can be kept out of a cache yet: it needs the cache of answers",
            expected: "`cache` in the phase request",
        }),
        ("rate_limit", Phase::Tool) => {
            let (span, expected) = limits::not_of_tools(node)?;
            Some(Unfit { code: "107", span, message: "that cannot be counted in the phase `tool`", expected })
        }
        ("redact", Phase::Tool | Phase::Response) => {
            let (span, message) = redact::too_late(node, phase)?;
            Some(Unfit { code: "107", span, message, expected: redact::LATER })
        }
        _ => None,
    }
}

/// Reads the argument of a verb.
pub(crate) fn bind(
    r: &mut Reader<'_>,
    verb: &'static Verb,
    node: &Node,
    field: &str,
    cx: &Context<'_>,
    phase: Phase,
) -> Option<Bound> {
    if let Some(Unfit { code, span, message, expected }) = unfit(verb, node, cx, phase) {
        let d = r.error(code, span, message);
        d.expected = Some(expected.to_owned());
        field.clone_into(&mut d.field);
        return None;
    }
    let before = r.problems.len();
    let action = (verb.read)(r, node, field, cx);
    let is_no_map = |d: &&mut Diagnostic| d.field == field && d.expected.as_deref() == Some(MAP);
    if let Some(d) = r.problems.iter_mut().skip(before).find(is_no_map)
        && let Some(members) = members(verb, r.file, cx)
    {
        // Whoever writes no map does not know what belongs into it.
        d.expected = Some(format!("{MAP}, of: {members}"));
    }
    let action = action?;
    Some(Bound { verb: verb.name.into(), argument: node.to_json(), action })
}

/// How a reader calls a value that has members.
const MAP: &str = "a map";

/// The members that the argument of a verb may have: what its reader names where none is known.
fn members(verb: &'static Verb, file: &SourceFile, cx: &Context<'_>) -> Option<String> {
    let span = Span { line: 1, column: 1, ..Span::default() };
    let node = |value| Node { value, span, style: types::doc::Style::Folded };
    let nothing = (Key { name: "(none)".to_owned(), span }, node(Value::Null));
    let mut r = Reader::new(file, "PL");
    let _unread = (verb.read)(&mut r, &node(Value::Map(vec![nothing])), verb.name, cx);
    let unknown = r.problems.into_iter().find(|d| d.code == "PL101")?;
    Some(unknown.expected?.strip_prefix("one of ")?.to_owned())
}

/// Whether one rule may use a verb several times, with a list of arguments: those that say each time something of its own,
/// and that take no list as it is.
pub(crate) fn repeats(verb: &Verb) -> bool {
    const REPEATED: &[&str] = &[
        deny::VERB.name,
        require_approval::VERB.name,
        redact::VERB.name,
        notify::VERB.name,
        shadow::VERB.name,
        add_system::VERB.name,
    ];
    REPEATED.contains(&verb.name)
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

/// An action that hands one value to the merge.
struct Put<T>(T, fn(&mut Merge, T, At));

impl<T: fmt::Debug> fmt::Debug for Put<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Clone + fmt::Debug + Send + Sync> Action for Put<T> {
    fn apply(&self, at: At, merge: &mut Merge) {
        (self.1)(merge, self.0.clone(), at);
    }
}

/// The action that hands `value` to the merge in this way.
fn put<T: Clone + fmt::Debug + Send + Sync + 'static>(
    value: T,
    how: fn(&mut Merge, T, At),
) -> Option<Arc<dyn Action>> {
    Some(Arc::new(Put(value, how)))
}

/// As [`Put`], of a value that models belong to.
struct PutModels<T>(Selection, T, fn(&mut Merge, (ModelSet, T), At));

impl<T: fmt::Debug> fmt::Debug for PutModels<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (&self.0, &self.1).fmt(f)
    }
}

impl<T: Clone + fmt::Debug + Send + Sync> Action for PutModels<T> {
    fn apply(&self, at: At, merge: &mut Merge) {
        let models = merge.chosen(&self.0);
        (self.2)(merge, (models, self.1.clone()), at);
    }

    fn selections(&self) -> Vec<&Selection> {
        vec![&self.0]
    }
}

/// The action that hands the models of a selection, and what belongs to them, to the merge in this way.
fn put_models<T: Clone + fmt::Debug + Send + Sync + 'static>(
    selection: Selection,
    value: T,
    how: fn(&mut Merge, (ModelSet, T), At),
) -> Option<Arc<dyn Action>> {
    Some(Arc::new(PutModels(selection, value, how)))
}

/// The models of `require` and `exclude`: selectors, or `{models, optional}`.
fn chosen(r: &mut Reader<'_>, node: &Node, field: &str, cx: &Context<'_>) -> Option<Selection> {
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

/// A map of strings with at least one member; `keep` makes of a member's name, its text and its path what is kept.
fn strings(
    r: &mut Reader<'_>,
    node: &Node,
    field: &str,
    keep: impl Fn(&mut Reader<'_>, &Key, (&Node, String), String) -> Option<(String, String)>,
) -> Option<Vec<(String, String)>> {
    let members = r.map(node, field)?;
    if members.is_empty() {
        r.wrong_type(node, field, "a map of strings with at least one member");
        return None;
    }
    let mut read = |(key, value): &(Key, Node)| {
        let at = format!("{field}.{}", key.name);
        let text = r.string(value, &at)?;
        keep(r, key, (value, text), at)
    };
    // Every member is looked at, so that all problems are told.
    let each: Vec<_> = members.iter().map(&mut read).collect();
    each.into_iter().collect()
}

/// A whole number of at least `least` that fits 32 bits.
fn count(r: &mut Reader<'_>, node: &Node, field: &str, least: u32, most: u32) -> Option<u32> {
    r.integer(node, field, i64::from(least), i64::from(most)).and_then(|n| u32::try_from(n).ok())
}

/// A duration, in milliseconds, of at least one.
fn millis(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<u64> {
    let duration = r.duration(node, field)?;
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        let d = r.error("104", node.span, format!("`{field}` is 0"));
        d.expected = Some("a duration of at least 1ms".to_owned());
        field.clone_into(&mut d.field);
        return None;
    }
    Some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (i, v) in VERBS.iter().enumerate() {
            assert!(VERBS.iter().skip(i + 1).all(|w| w.name != v.name), "{}", v.name);
        }
    }

    #[test]
    fn records_know_every_verb_by_its_name() {
        let here: Vec<&str> = VERBS.iter().map(|v| v.name).collect();
        let known: Vec<&str> = Name::ALL.iter().map(Name::as_str).collect();
        assert_eq!(known, here);
    }

    /// A row of the documentation's table: the verb, marked where it is hard, and its phases.
    fn documented(verb: &Verb) -> String {
        let phases: Vec<&str> = verb.phases.iter().map(|p| p.as_str()).collect();
        let mark = if verb.kind == Kind::Hard { "\\*" } else { "" };
        format!("| `{}`{mark} | {} | ", verb.name, phases.join(", "))
    }

    #[test]
    fn the_documentation_has_every_verb_with_its_phases() {
        let page = include_str!("../../../docs/policies.md");
        let missing: Vec<String> =
            VERBS.iter().map(documented).filter(|row| !page.lines().any(|l| l.starts_with(row))).collect();
        assert!(missing.is_empty(), "docs/policies.md has no such rows: {missing:#?}");
    }
}
