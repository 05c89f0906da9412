//! Rules of `routing_rules.yaml`: read, checked, and ready to be evaluated.

use crate::expression::Condition;
use crate::selector::Context;
use crate::verb::{self, Bound, Kind};
use crate::{inputs, report, time};
use types::diagnostic::Severity;
use types::directives::RuleId;
use types::doc::{Fields, Node, Reader, Value};
use types::expr::{Expression, Scope, Type};

/// Most rules of a file.
pub(crate) const MAX_RULES: usize = 1_000;

/// How a rule takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Evaluated and applied.
    Enforce,
    /// Evaluated and recorded, never applied.
    Shadow,
    /// Not evaluated.
    Disabled,
}

/// What rules and policies have in common.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) id: RuleId,
    pub(crate) mode: Mode,
    pub(crate) group: Option<String>,
    pub(crate) priority: i64,
    /// Whether an evaluation error refuses the request; `None` = as the verbs say.
    pub(crate) closed: Option<bool>,
    starts: Option<i64>,
    expires: Option<i64>,
}

impl Head {
    /// Reads the members that rules and policies share.
    pub(crate) fn read(r: &mut Reader<'_>, f: &mut Fields<'_>) -> Option<Head> {
        let id = f.require(r, "id").and_then(|n| r.ident(n, &f.at("id")));
        for key in ["description", "owner"] {
            if let Some(n) = f.take(key) {
                r.string(n, &f.at(key));
            }
        }
        let mode = match f.take("mode") {
            None => Some(Mode::Enforce),
            Some(n) => r.one_of(n, &f.at("mode"), &["enforce", "shadow", "disabled"]).map(|m| match m {
                "shadow" => Mode::Shadow,
                "disabled" => Mode::Disabled,
                _ => Mode::Enforce,
            }),
        };
        let group = f.take("group").map(|n| r.ident(n, &f.at("group")));
        let priority = match f.take("priority") {
            None => Some(0),
            Some(n) => r.integer(n, &f.at("priority"), -100, 100),
        };
        let closed = f.take("on_error").map(|n| r.one_of(n, &f.at("on_error"), &["closed", "open"]));
        let starts = moment(r, f, "starts");
        let expires = moment(r, f, "expires");
        if let (Some(Some(from)), Some(Some(to))) = (starts, expires)
            && to <= from
        {
            let d = r.error("104", f.span, "`expires` is not after `starts`");
            d.field = f.at("expires");
        }
        Some(Head {
            id: id?.into(),
            mode: mode?,
            group: group.map_or(Some(None), |g| g.map(Some))?,
            priority: priority?,
            closed: closed.map_or(Some(None), |c| c.map(|c| Some(c == "closed")))?,
            starts: starts?,
            expires: expires?,
        })
    }

    /// Whether the rule is in force at that moment. `None` when it has dates and the moment is not known.
    pub(crate) fn in_force(&self, unix_ms: Option<i64>) -> Option<bool> {
        if self.starts.is_none() && self.expires.is_none() {
            return Some(true);
        }
        let now = unix_ms?;
        Some(self.starts.is_none_or(|s| s <= now) && self.expires.is_none_or(|e| now < e))
    }
}

/// A date-time; the outer `None` is a noted problem, the inner one an absent key.
#[expect(clippy::option_option, reason = "absent and wrong are two different things here")]
fn moment(r: &mut Reader<'_>, f: &mut Fields<'_>, key: &'static str) -> Option<Option<i64>> {
    let Some(n) = f.take(key) else { return Some(None) };
    let text = r.string(n, &f.at(key))?;
    let parsed = time::parse(&text);
    if parsed.is_none() {
        let d = r.error("104", n.span, format!("`{text}` is no date-time"));
        d.expected = Some("a date-time with its zone, such as 2027-03-31T00:00:00Z, or a date".to_owned());
        d.field = f.at(key);
    }
    parsed.map(Some)
}

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule {
    when: Option<Condition>,
    unless: Option<Condition>,
    pub(crate) actions: Vec<Bound>,
}

impl Rule {
    /// Reads one rule; its problems are noted.
    pub(crate) fn read(
        r: &mut Reader<'_>,
        node: &Node,
        path: &str,
        cx: &Context<'_>,
    ) -> Option<(Head, Rule)> {
        let mut f = r.fields(node, path)?;
        let head = Head::read(r, &mut f);
        let phase = f.take("phase").map(|n| phase(r, n, &f.at("phase")));
        if let Some(n) = f.take("tests") {
            let d = r.error("109", n.span, "tests beside a rule are not supported yet");
            d.field = f.at("tests");
        }
        let when = condition(r, &mut f, "when", cx);
        let unless = condition(r, &mut f, "unless", cx);
        let actions = match f.require(r, "actions") {
            Some(n) => actions(r, n, &f.at("actions"), cx),
            None => None,
        };
        f.finish(r);
        phase.unwrap_or(Some(()))?;
        Some((head?, Rule { when: when?, unless: unless?, actions: actions? }))
    }

    /// Whether a rule of these actions fails closed unless it says otherwise.
    pub(crate) fn is_hard(&self) -> bool {
        self.actions.iter().any(|a| verb::VERBS.iter().any(|v| *v.name == *a.verb && v.kind == Kind::Hard))
    }

    /// Paths its conditions read.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &str> {
        self.when.iter().chain(&self.unless).flat_map(|c| c.reads.iter().map(String::as_str))
    }

    /// `when && !unless`
    pub(crate) fn matches(&self, scope: &Scope) -> Result<bool, types::expr::Error> {
        if let Some(when) = &self.when
            && !when.eval_bool(scope)?
        {
            return Ok(false);
        }
        match &self.unless {
            Some(unless) => unless.eval_bool(scope).map(|b| !b),
            None => Ok(true),
        }
    }
}

fn phase(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<()> {
    let name = r.one_of(node, field, &["request", "tool", "response"])?;
    if name == "request" {
        return Some(());
    }
    let d = r.error("109", node.span, format!("the phase `{name}` is not supported yet"));
    d.expected = Some("request".to_owned());
    field.clone_into(&mut d.field);
    None
}

/// A condition; the outer `None` is a noted problem, the inner one means "always" (or "never", of
/// `unless`).
#[expect(clippy::option_option, reason = "absent and wrong are two different things here")]
fn condition(
    r: &mut Reader<'_>,
    f: &mut Fields<'_>,
    key: &'static str,
    cx: &Context<'_>,
) -> Option<Option<Condition>> {
    let Some(node) = f.take(key) else { return Some(None) };
    let at = f.at(key);
    let source = match &node.value {
        // `when: true` is YAML's boolean, and as good an expression as any.
        Value::Bool(b) => b.to_string(),
        _ => r.string(node, &at)?,
    };
    match cx.resolver.language().condition(&source, &inputs::request_variables(), Some(&Type::Bool)) {
        Ok((condition, warnings)) => {
            report::problems(r, node, &at, warnings);
            Some(Some(condition))
        }
        Err(problems) => {
            report::problems(r, node, &at, problems);
            None
        }
    }
}

/// A map of verbs; every problem of every verb is noted.
fn actions(r: &mut Reader<'_>, node: &Node, field: &str, cx: &Context<'_>) -> Option<Vec<Bound>> {
    let members = r.map(node, field)?;
    if members.is_empty() {
        r.wrong_type(node, field, "a map with at least one verb");
        return None;
    }
    let before = errors(r);
    let bound: Vec<Option<Bound>> = members
        .iter()
        .map(|(key, value)| {
            let at = format!("{field}.{}", key.name);
            let verb = verb::find(r, &key.name, key.span, &at)?;
            verb::bind(r, verb, value, &at, cx)
        })
        .collect();
    let bound = bound.into_iter().collect::<Option<Vec<_>>>();
    bound.filter(|_| errors(r) == before)
}

fn errors(r: &Reader<'_>) -> usize {
    r.problems.iter().filter(|d| d.severity == Severity::Error).count()
}
