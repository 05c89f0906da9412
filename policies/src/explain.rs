//! What the policies made of one request, part by part: for people, for tests of policies, for comparisons.

use crate::expression::{Condition, Vars};
use crate::native::Atom;
use crate::phase::Phase;
use crate::set::{Body, Entry, PolicySet};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;
use types::Matrix;
use types::directives::{
    ActionRecord, Directives, Escalate, Further, HedgeRule, Layer, RuleRecord, RuleResult, Set, TermWeights,
};
use types::expr::Scope;
use types::options::Options;

/// A part of a condition that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AtomRecord {
    /// As it was written.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// The value that was compared, where it is a field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// A rule or policy and what it made of the request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleExplanation {
    /// The rule.
    pub id: String,
    /// Whose word it is.
    #[serde(skip_serializing_if = "Layer::is_platform")]
    pub layer: Layer,
    /// What it made of the request.
    pub result: RuleResult,
    /// Why it could not be evaluated, or was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The parts of its condition that were looked at, in order; the last one decided.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub atoms: Vec<AtomRecord>,
}

/// What the policies made of one request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Every rule of the phase that has a say in the requests of the tenant.
    pub rules: Vec<RuleExplanation>,
    /// Every action of the matching rules and what became of it.
    pub actions: Vec<ActionRecord>,
    /// The merged result, by verb.
    pub directives: Value,
    /// Models that may not be candidates, with the rule that removed each.
    pub removed: Vec<(String, String)>,
    /// Models that may, apart from what only the router knows.
    pub left: Vec<String>,
    /// The rule that could not be evaluated and refuses the request, with what happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<(String, String)>,
}

impl PolicySet {
    /// Evaluates a phase and tells everything about it; every policy runs on the caller's thread.
    #[must_use]
    pub fn explain(&self, phase: Phase, scope: &Scope) -> Explanation {
        self.explain_asked(phase, scope, None)
    }

    /// As [`PolicySet::explain`], of a request with these options.
    #[must_use]
    pub fn explain_asked(&self, phase: Phase, scope: &Scope, asked: Option<&Options>) -> Explanation {
        self.told(phase, scope, asked, Parts::Shown)
    }

    /// As [`PolicySet::explain`], without the parts of conditions: looking at them costs as much as the evaluation.
    pub(crate) fn outcome(&self, phase: Phase, scope: &Scope) -> Explanation {
        self.told(phase, scope, None, Parts::Hidden)
    }

    /// What was made of a request.
    fn told(&self, phase: Phase, scope: &Scope, asked: Option<&Options>, parts: Parts) -> Explanation {
        let matrix = &self.resolver.matrix;
        let (d, error) = match self.evaluate_asked(phase, scope, asked) {
            Ok(d) => (d, None),
            Err(e) => (
                e.until_then(),
                Some(match e {
                    crate::Error::Evaluation { rule, detail, .. } => (rule.to_string(), detail),
                    crate::Error::Option { option, message } => (option, message),
                }),
            ),
        };
        let said: HashMap<&str, &RuleRecord> = d.rules.iter().map(|r| (&*r.id, r)).collect();
        let vars = Vars::of(scope).ok();
        let shown = vars.filter(|_| parts == Parts::Shown);
        let entries = self.of_phase(phase, vars.map_or("", |v| v.tenant()));
        let rules = entries.map(|entry| rule(entry, &said, shown)).collect();
        let name = |ix| matrix.model(ix).map_or_else(String::new, |m| m.id.to_string());
        let left = matrix.indices().filter(|ix| d.removed_by(*ix).is_none()).map(name).collect();
        Explanation {
            rules,
            directives: directives(&d, matrix),
            removed: d.removed.iter().map(|(ix, rule)| (name(*ix), rule.to_string())).collect(),
            left,
            actions: d.actions,
            error,
        }
    }
}

/// Whether the parts of conditions are told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    Shown,
    Hidden,
}

/// What one rule made of a request, by what the evaluation says of each.
fn rule(entry: &Entry, said: &HashMap<&str, &RuleRecord>, vars: Option<&Vars>) -> RuleExplanation {
    let id = entry.head.id.to_string();
    let (result, detail) = match said.get(id.as_str()) {
        Some(r) => (r.result, r.detail.clone()),
        // The evaluation ended before its turn.
        None => (RuleResult::NotMatched, Some("not asked: another rule failed before it".to_owned())),
    };
    let asked = matches!(result, RuleResult::Matched | RuleResult::Shadow | RuleResult::Error)
        || result == RuleResult::NotMatched && detail.is_none();
    let mut atoms = Vec::new();
    if let (Body::Rule(rule), Some(vars), true) = (&entry.body, vars, asked) {
        for (condition, wanted) in [(&rule.when, true), (&rule.unless, false)] {
            let Some(condition) = condition else { continue };
            if trace(condition, vars, &mut atoms) != Some(wanted) {
                break;
            }
        }
    }
    RuleExplanation { id, layer: entry.layer(), result, detail, atoms }
}

/// Looks at a condition as an evaluation does and notes every part of it; `None` where it fails.
fn trace(condition: &Condition, vars: &Vars, atoms: &mut Vec<AtomRecord>) -> Option<bool> {
    let holds = condition.tree.holds(&mut |atom: &Atom| {
        let holds = condition.atom(atom, vars)?;
        let value = atom.test.as_ref().and_then(|t| t.value(vars));
        atoms.push(AtomRecord { text: atom.text.to_string(), holds, value });
        Ok::<_, types::expr::Error>(holds)
    });
    holds.ok()
}

impl RuleExplanation {
    /// Its name, and whose word it is where it is not the deployment's.
    fn called(&self) -> String {
        if self.layer == Layer::Tenant { format!("{} (tenant)", self.id) } else { self.id.clone() }
    }
}

impl Explanation {
    /// The rules that apply.
    pub fn matched(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter(|r| r.result == RuleResult::Matched).map(|r| r.id.as_str())
    }

    /// Made to be read in seconds: a line per rule that matters, with what it did and why; if `all`, also those that
    /// did not match.
    #[must_use]
    pub fn to_text(&self, all: bool) -> String {
        let mut out = String::new();
        let quiet = |r: &&RuleExplanation| matches!(r.result, RuleResult::NotMatched | RuleResult::Disabled);
        let told: Vec<_> = self.rules.iter().filter(|r| all || !quiet(r)).collect();
        let width = told.iter().map(|r| r.called().len()).max().unwrap_or(0);
        for rule in &told {
            let word = match rule.result {
                RuleResult::Matched => "matched",
                RuleResult::Shadow => "shadow",
                RuleResult::NotMatched => "skipped",
                RuleResult::Error => "error",
                RuleResult::Disabled => "disabled",
            };
            // Writing to a string does not fail.
            let _ = write!(out, " {word:<9}{:<width$}", rule.called());
            if let Some(detail) = &rule.detail {
                let _ = write!(out, "  {detail}");
            }
            if let Some(last) = rule.atoms.last() {
                let value = last.value.as_ref().filter(|v| !v.is_boolean());
                let value = value.map_or(String::new(), |v| format!(" ({})", short(v)));
                let _ = write!(out, "  {}: {}{value}", last.text, last.holds);
            }
            out.truncate(out.trim_end().len());
            out.push('\n');
            for action in self.actions.iter().filter(|a| *a.rule == *rule.id) {
                let argument = short(&action.argument);
                let _ = writeln!(out, "          {} {argument}  [{}]", action.verb, action.effect);
            }
        }
        let of_request = |a: &&ActionRecord| !self.rules.iter().any(|rule| *rule.id == *a.rule);
        for action in self.actions.iter().filter(of_request) {
            let (from, argument) = (&action.rule, short(&action.argument));
            let _ = writeln!(out, " asked    {from}: {} {argument}  [{}]", action.verb, action.effect);
        }
        match self.rules.len().saturating_sub(told.len()) {
            0 => {}
            n if n == self.rules.len() => {
                let _ = writeln!(out, " none of {n} rules matches (--verbose tells why)");
            }
            n => {
                let _ = writeln!(out, " {n} other rules do not match (--verbose tells why)");
            }
        }
        if let Some((rule, detail)) = &self.error {
            let _ = writeln!(out, " refused: `{rule}` could not be evaluated: {detail}");
        }
        let total = self.removed.len().saturating_add(self.left.len());
        // What is refused has none, whatever rules would have left.
        if !self.is_refused() {
            let _ = writeln!(out, " candidates: {} of {total} models", self.left.len());
        }
        let long = |value: &Value| if all { value.to_string() } else { short(value) };
        for (verb, value) in self.directives.as_object().into_iter().flatten() {
            let _ = writeln!(out, " {verb:<16} {}", long(value));
        }
        for (rule, models) in self.removals() {
            let shown = if all { models.len() } else { REMOVED };
            let more = models.len().saturating_sub(shown);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let names: Vec<&str> = models.into_iter().take(shown).collect();
            let _ = writeln!(out, " removed by {rule}: {}{more}", names.join(", "));
        }
        out
    }

    /// Whether a rule denies it, or could not be evaluated and refuses.
    pub(crate) fn is_refused(&self) -> bool {
        self.error.is_some() || self.directives.get("deny").is_some()
    }

    /// What each rule removed, in the order of the models.
    fn removals(&self) -> Vec<(&str, Vec<&str>)> {
        let mut by_rule: Vec<(&str, Vec<&str>)> = Vec::new();
        for (model, rule) in &self.removed {
            match by_rule.iter_mut().find(|(r, _)| *r == rule.as_str()) {
                Some((_, models)) => models.push(model),
                None => by_rule.push((rule, vec![model])),
            }
        }
        by_rule
    }
}

/// Removed models that are named of each rule, unless everything is told.
const REMOVED: usize = 4;

/// A value in one short line.
fn short(value: &Value) -> String {
    const MOST: usize = 100;
    let text = match value {
        Value::String(s) => s.clone(),
        v => v.to_string(),
    };
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or("")),
        None => text,
    }
}

/// The merged result as a map by verb; what is not set is not there.
#[must_use]
pub fn directives(d: &Directives, matrix: &Matrix) -> Value {
    let mut out = Map::new();
    let mut put = |verb: &str, value: Value| {
        let empty = match &value {
            Value::Null => true,
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            _ => false,
        };
        if !empty {
            out.insert(verb.to_owned(), value);
        }
    };
    let name = |ix| matrix.model(ix).map_or_else(String::new, |m| m.id.to_string());
    put(
        "deny",
        d.denials.iter().map(|d| json!({"reason": d.reason, "code": d.code, "status": d.status})).collect(),
    );
    put("prefer", d.boost.iter().map(|(ix, b)| (name(*ix), json!(b))).collect::<Map<_, _>>().into());
    let mut weights = d.weights;
    let weight = |n: &&str| weights.weight(n).map(|w| ((*n).to_owned(), *w));
    let changed = TermWeights::NAMES.iter().filter_map(weight).filter(|(_, w)| *w != 1.0);
    put("weight", changed.map(|(n, w)| (n, json!(w))).collect::<Map<_, _>>().into());
    put("cap_cost", of(d.cap_cost.as_ref(), |v| json!(v.dollars())));
    put("cap_latency", of(d.cap_latency.as_ref(), |v| json!(format!("{}ms", v.as_millis()))));
    put("cap_max_tokens", of(d.cap_max_tokens.as_ref(), |v| json!(v)));
    put("cap_temperature", of(d.cap_temperature.as_ref(), |v| json!(v)));
    put("workflow", of(d.workflow.as_ref(), |v| json!(v)));
    put("validators", d.validators.iter().map(|v| v.value.clone()).collect());
    put("tag", json!(d.tags));
    if let Some(f) = &d.further {
        further(f, matrix, &mut put);
    }
    Value::Object(out)
}

fn of<T>(set: Option<&Set<T>>, json: impl FnOnce(&T) -> Value) -> Value {
    set.map_or(Value::Null, |s| json(&s.value))
}

fn plain<T: Serialize>(set: Option<&Set<T>>) -> Value {
    of(set, |v| serde_json::to_value(v).unwrap_or_default())
}

fn each<T: Serialize>(list: &[Set<T>]) -> Value {
    list.iter().map(|s| serde_json::to_value(&s.value).unwrap_or_default()).collect()
}

fn further(f: &Further, matrix: &Matrix, put: &mut dyn FnMut(&str, Value)) {
    let named = |m: &std::collections::BTreeMap<String, Set<Value>>| {
        Value::Object(m.iter().map(|(k, v)| (k.clone(), v.value.clone())).collect())
    };
    put("residency", plain(f.residency.as_ref()));
    put("data_policy", plain(f.data.as_ref()));
    put("min_quality", plain(f.min_quality.as_ref()));
    put("explore", of(f.explore.as_ref(), |v| json!({"max_rate": v})));
    put("sticky", plain(f.sticky.as_ref()));
    put("assume_price", plain(f.assume_price.as_ref()));
    put("premium", plain(f.premium.as_ref()));
    put("priority", plain(f.priority.as_ref()));
    put("enforce_format", plain(f.format.as_ref()));
    put("stream", plain(f.stream.as_ref()));
    put("set_var", named(&f.vars));
    put(
        "escalate",
        of(f.escalate.as_ref(), |to| match to {
            Escalate::Workflow(w) => json!({"to": w}),
            Escalate::Models(m) => {
                let ids = m.iter().filter_map(|ix| matrix.model(ix)).map(|m| m.id.to_string());
                json!({"to": ids.collect::<Vec<_>>()})
            }
        }),
    );
    put("retry", plain(f.retry.as_ref()));
    put("cap_tokens", plain(f.cap_tokens.as_ref()));
    put("cap_calls", plain(f.cap_calls.as_ref()));
    put("cap_attempts", plain(f.cap_attempts.as_ref()));
    put("fanout", plain(f.fanout.as_ref()));
    put("cap_fanout", plain(f.cap_fanout.as_ref()));
    put(
        "hedge",
        of(f.hedge.as_ref(), |rule| match rule {
            HedgeRule::None => json!("none"),
            HedgeRule::Begin { after, max } => json!({"after": after.to_string(), "max": max}),
        }),
    );
    put("repair", plain(f.repair.as_ref()));
    put("set_params", named(&f.params));
    put("add_system", each(&f.system));
    put("limits", each(&f.limits));
    put("require_approval", each(&f.approvals));
    put("redact", each(&f.redact));
    put("allow_tools", each(&f.allow_tools));
    put("deny_tools", each(&f.deny_tools));
    let models = |m: &types::matrix::ModelSet| {
        let ids = m.iter().filter_map(|ix| matrix.model(ix)).map(|m| m.id.to_string());
        ids.collect::<Vec<_>>()
    };
    let shadow = f.shadow.iter().map(|s| {
        let (workflow, models) = (&s.value.workflow, s.value.models.as_ref().map(models));
        json!({"workflow": workflow, "models": models, "rate": s.value.rate})
    });
    let experiment = |ids: &Vec<String>| if ids.is_empty() { json!("none") } else { json!({"only": ids}) };
    put("experiment", of(f.experiment.as_ref(), experiment));
    put("shadow", shadow.collect());
    put("cache", plain(f.cache.as_ref()));
    put(
        "log",
        match (&f.log, &f.retention) {
            (content, None) => plain(content.as_ref()),
            (None, Some(kept)) => json!({"retention_ms": kept.value}),
            (Some(content), Some(kept)) => json!({"content": content.value, "retention_ms": kept.value}),
        },
    );
    put("audit", f.audit.as_ref().map_or(Value::Null, |_| json!("required")));
    let headers = f.headers.iter().map(|(k, v)| (k.clone(), json!(v.value)));
    put("header", Value::Object(headers.collect()));
}
