//! Lists of validators, in files and in directives.

use super::outside::{self, Outside};
use super::{Cx, names_file};
use crate::canonical;
use crate::node::Read;
use crate::reference::Ref;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use types::diagnostic::suggestion;
use types::doc::{self, Fields, Node};
use types::run::Severity;
use validators::{Check, Keys, OnFail};

/// Highest `weight` of an entry.
const MOST_WEIGHT: f64 = 1_000.0;

/// A check of this process with a time limit of its own.
#[derive(Clone, Debug)]
pub(crate) struct Timed {
    /// Its place in the list.
    pub(crate) at: usize,
    /// The check without the keys of its entry.
    pub(crate) check: Arc<dyn Check>,
    pub(crate) params: Value,
    pub(crate) keys: Keys,
    pub(crate) timeout: Duration,
}

/// A list of checks, with what it was built from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks {
    pub(crate) list: Vec<Arc<dyn Check>>,
    /// Those of the list that have a time limit.
    pub(crate) timed: Vec<Timed>,
    /// Those that leave the process.
    pub(crate) outside: Vec<Outside>,
    /// What their parameters refer to, under the paths by which they ask for it.
    pub(crate) refs: Vec<(String, Ref)>,
    /// For the hash of the plan: name, parameters, severity of each.
    pub(crate) canonical: Vec<Value>,
}

impl Checks {
    /// The same, where without any nothing would be done.
    pub(crate) fn lower_some(cx: &mut Cx<'_>, node: &Node, path: &str) -> Self {
        let list = cx.some_of(node, path, "one check at least, such as contract").unwrap_or(&[]);
        Checks::of(cx, list, path)
    }

    pub(crate) fn lower(cx: &mut Cx<'_>, node: &Node, path: &str) -> Self {
        let list = cx.r.list(node, path).unwrap_or(&[]);
        Checks::of(cx, list, path)
    }

    fn of(cx: &mut Cx<'_>, list: &[Node], path: &str) -> Self {
        let mut checks = Checks::default();
        for (i, n) in list.iter().enumerate() {
            let own = own_entry(cx, n);
            checks.entry(cx, own.as_ref().unwrap_or(n), &format!("{path}[{i}]"));
        }
        checks
    }

    /// Reads the file's own validators that no place names, for what is wrong with them.
    pub(super) fn unused(cx: &mut Cx<'_>) {
        for (name, node) in cx.top.validators.clone() {
            if !cx.top.used.contains(&name) {
                Checks::default().entry(cx, &node, &format!("validators.{name}"));
            }
        }
    }

    /// What the checks of a list are called where that is not what they are (`as`).
    pub(crate) fn labels(cx: &Cx<'_>, n: &Node) -> Vec<String> {
        let entries: &[Node] = match &n.value {
            doc::Value::List(l) => l,
            _ => std::slice::from_ref(n),
        };
        let said = |n: &Node| n.get("as").and_then(Node::as_str).map(str::to_owned);
        let label = |n: &Node| {
            let name = n.as_str().or_else(|| n.get("use")?.as_str());
            let of = name.and_then(|name| cx.top.validators.iter().find(|(known, _)| known == name));
            said(n).or_else(|| said(&of?.1))
        };
        entries.iter().filter_map(label).collect()
    }

    /// The references that the checks read.
    pub(crate) fn reads(&self) -> impl Iterator<Item = Read<'_>> {
        let own = self.refs.iter().map(|(_, reference)| reference);
        let tests = self.outside.iter().filter_map(Outside::tests);
        own.chain(tests).map(|reference| Read { reference, may_be_absent: false })
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.outside.is_empty()
    }

    fn entry(&mut self, cx: &mut Cx<'_>, n: &Node, path: &str) {
        let (name, with, severity, timeout, keys) = if let Some(s) = n.as_str() {
            ((s.to_owned(), n), None, None, None, Keys::default())
        } else {
            let Some(mut f) = cx.r.fields(n, path) else { return };
            let name = f.require(&mut cx.r, "use").and_then(|n| Some((cx.r.string(n, &f.at("use"))?, n)));
            let with = f.take("with");
            let severity = f
                .take("severity")
                .and_then(|n| cx.r.one_of(n, &f.at("severity"), Severity::NAMES))
                .and_then(Severity::parse);
            let timeout = f.take("timeout").and_then(|n| cx.time_limit(n, &f.at("timeout")));
            let (keys, meant) = keys(cx, &mut f);
            f.finish(&mut cx.r);
            let Some(name) = name else { return };
            (name, with, severity.or(meant), timeout, keys)
        };
        let (name, at) = name;
        if outside::NAMES.contains(&name.as_str()) {
            if let Some(o) = Outside::lower(cx, (&name, at), with, (severity, timeout, keys), path) {
                self.canonical.push(o.canonical());
                self.outside.push(o);
            }
            return;
        }
        if !validators::NAMES.contains(&name.as_str()) {
            let own = cx.top.validators.iter().map(|(name, _)| name.as_str());
            let hint = suggestion(&name, validators::NAMES.iter().chain(outside::NAMES).copied().chain(own));
            let d = cx.r.error("203", at.span, format!("there is no validator `{name}`"));
            d.hint = Some(hint);
            path.clone_into(&mut d.field);
            return;
        }
        let mut params = with.map_or(Value::Null, Node::to_json);
        if let Some(own) = params.as_object_mut() {
            own.retain(|key, _| !key.starts_with("x-"));
        }
        if name == "json_schema"
            && let Some(named) = with.and_then(|w| w.get("schema")).filter(|n| names_file(n))
        {
            let Some(found) = cx.schema(named, &format!("{path}.with.schema")) else { return };
            if let Some(own) = params.get_mut("schema") {
                own.clone_from(&found.value);
            }
        }
        match validators::build(&name, &params, severity) {
            Ok(check) => {
                let severity = check.severity().weight().to_string();
                let mut canonical = vec![json!(name), json!(params), json!(severity), canonical::keys(&keys)];
                canonical.extend(timeout.map(|t| json!(t.as_secs_f64())));
                self.canonical.push(Value::Array(canonical));
                self.refer(cx, check.as_ref(), with, path);
                let at = self.list.len();
                self.list.push(validators::keyed(check.clone(), &keys));
                self.timed.extend(timeout.map(|timeout| Timed { at, check, params, keys, timeout }));
            }
            Err(p) => {
                let p = Misfit::of(p, with);
                let message = format!("validator `{name}`: {}", p.message);
                let d = cx.r.error(p.number, p.span.unwrap_or(at.span), message);
                d.expected = Some(p.expected);
                d.field =
                    if p.field.is_empty() { path.to_owned() } else { format!("{path}.with.{}", p.field) };
            }
        }
    }

    /// Resolves what the parameters of a check refer to.
    fn refer(&mut self, cx: &mut Cx<'_>, check: &dyn Check, with: Option<&Node>, path: &str) {
        for wanted in check.references() {
            let Some(n) = with.and_then(|w| w.get(wanted.param)) else { continue };
            let found = Ref::lower(cx, n, &format!("{path}.with.{}", wanted.param));
            let Some(r) = found else { continue };
            if !r.ty.may_be_text_or_list() {
                let at = format!("{path}.with.{}", wanted.param);
                let d = cx.r.error("302", n.span, format!("`{}` is no text and no list", r.canonical()));
                d.expected = Some(format!("what `{}` may hold: text, a list or a map", wanted.param));
                d.field = at;
                continue;
            }
            if self.refs.iter().all(|(known, _)| *known != wanted.path) {
                self.refs.push((wanted.path.clone(), r));
            }
        }
    }
}

/// The entry that is meant where one names a validator of the file's own: that validator, with the keys that the entry
/// gives in the place of its. `None` where it names none.
fn own_entry(cx: &mut Cx<'_>, n: &Node) -> Option<Node> {
    let name = n.as_str().or_else(|| n.get("use")?.as_str())?;
    let own = cx.own_validator(name)?;
    let doc::Value::Map(given) = &n.value else { return Some(own) };
    let mut members = match own.value {
        doc::Value::Map(members) => members,
        // It is but another name for a validator.
        value => {
            let key = given.iter().find(|(k, _)| k.name == "use").map(|(k, _)| k.clone())?;
            vec![(key, Node { value, ..own })]
        }
    };
    for (key, value) in given.iter().filter(|(k, _)| k.name != "use") {
        members.retain(|(k, _)| k.name != key.name);
        members.push((key.clone(), value.clone()));
    }
    Some(Node { value: doc::Value::Map(members), ..n.clone() })
}

/// The keys of an entry, and the severity that `on_fail` stands for.
fn keys(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> (Keys, Option<Severity>) {
    let usual = Keys::default();
    let weight = f.take("weight").and_then(|n| cx.r.number(n, &f.at("weight"), 0.0, MOST_WEIGHT));
    let needed = f.take("needed").and_then(|n| cx.r.boolean(n, &f.at("needed")));
    let on_fail = f
        .take("on_fail")
        .and_then(|n| cx.r.one_of(n, &f.at("on_fail"), OnFail::NAMES))
        .and_then(OnFail::parse);
    let label = f.take("as").and_then(|n| cx.r.ident(n, &f.at("as")));
    let keys = Keys {
        weight: weight.unwrap_or(usual.weight),
        needed: needed.unwrap_or(usual.needed),
        on_fail: on_fail.unwrap_or(usual.on_fail),
        label,
    };
    (keys, on_fail.map(OnFail::severity))
}

/// What is wrong with the parameters of a validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// `101` for a parameter that the validator does not have, `104` for a wrong value.
    pub number: &'static str,
    /// Where it stands; `None` where no parameters are given.
    pub span: Option<doc::Span>,
    /// Path of the parameter within `with`; empty = the parameters as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What would have been right.
    pub expected: String,
}

impl Misfit {
    fn of(p: validators::Problem, with: Option<&Node>) -> Self {
        let span = with.map(|w| place(w, &p.field));
        let number = if p.message.starts_with("unknown parameter") { "101" } else { "104" };
        Misfit { number, span, field: p.field, message: p.message, expected: p.expected }
    }
}

/// What is wrong with these parameters (`with`) of the validator of that name, where a directive names it: schemas
/// stand in it themselves there, and nothing of a graph can be referred to.
#[must_use]
pub fn misfit(name: &str, with: Option<&Node>) -> Option<Misfit> {
    let params = with.map_or(Value::Null, Node::to_json);
    validators::build(name, &params, None).err().map(|p| Misfit::of(p, with))
}

/// Where a parameter stands: its key if it has one, its place in a list, else what is nearest around it.
fn place(with: &Node, field: &str) -> doc::Span {
    let mut at = with;
    let mut span = with.span;
    for part in field.split(['.', '[']).filter(|p| !p.is_empty()) {
        let next = match (&at.value, part.strip_suffix(']')) {
            (doc::Value::Map(m), None) => m.iter().find(|(k, _)| k.name == part).map(|(k, v)| (k.span, v)),
            (doc::Value::List(l), Some(i)) => {
                i.parse().ok().and_then(|i: usize| l.get(i)).map(|v| (v.span, v))
            }
            _ => None,
        };
        let Some(next) = next else { break };
        (span, at) = next;
    }
    span
}

/// The checks of a directive: one entry or a list of them.
///
/// # Errors
/// What is wrong with the first entry that cannot be built.
pub(crate) fn of_directive(value: &Value) -> Result<Vec<Arc<dyn Check>>, String> {
    validators::together(|| all_of(value))
}

fn all_of(value: &Value) -> Result<Vec<Arc<dyn Check>>, String> {
    match value {
        Value::Array(list) => {
            let each: Result<Vec<_>, _> = list.iter().map(all_of).collect();
            Ok(each?.into_iter().flatten().collect())
        }
        Value::String(name) => one(name, &Value::Null, None),
        Value::Object(m) => {
            let name = m.get("use").and_then(Value::as_str).ok_or("a validator without `use`")?;
            let severity = m.get("severity").and_then(Value::as_str).and_then(Severity::parse);
            one(name, m.get("with").unwrap_or(&Value::Null), severity)
        }
        _ => Err("a validator is a name or a map with `use`".to_owned()),
    }
}

fn one(name: &str, with: &Value, severity: Option<Severity>) -> Result<Vec<Arc<dyn Check>>, String> {
    validators::build(name, with, severity).map(|c| vec![c]).map_err(|p| p.to_string())
}
