//! Rules in YAML: read, checked, and ready to be evaluated.

use crate::expression::{Condition, Vars};
use crate::head::Head;
use crate::phase::Phase;
use crate::selector::Context;
use crate::verb::{self, Bound, Kind};
use crate::{inputs, report};
use std::sync::Arc;
use types::diagnostic::Severity;
use types::doc::{Fields, Node, Reader, SourceFile, Span, Value};
use types::expr::Type;

/// Most rules of a file.
pub(crate) const MAX_RULES: usize = 1_000;

/// A rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) when: Option<Condition>,
    pub(crate) unless: Option<Condition>,
    pub(crate) actions: Vec<Bound>,
    /// The file it stands in.
    pub(crate) file: SourceFile,
    /// Its first line there, from 1.
    pub(crate) line: usize,
    /// Where its condition stands, or the rule itself where it has none.
    pub(crate) at: Span,
    /// Its own tests.
    pub(crate) tests: Option<Node>,
}

/// What a condition came to.
pub(crate) struct Answer<'a> {
    pub(crate) matches: bool,
    /// The part that decided.
    pub(crate) because: Option<&'a Arc<str>>,
}

impl Rule {
    /// Reads one rule; its problems are noted.
    pub(crate) fn read(
        r: &mut Reader<'_>,
        node: &Node,
        path: &str,
        cx: &Context<'_>,
    ) -> Option<(Head, Phase, Rule)> {
        let mut f = r.fields(node, path)?;
        let head = Head::read(r, &mut f);
        let phase = match f.take("phase") {
            None => Some(Phase::Request),
            Some(n) => r.one_of(n, &f.at("phase"), Phase::NAMES).and_then(Phase::parse),
        };
        let tests = f.take("tests").cloned();
        // A wrong phase is told once, not once more for everything that depends on it.
        let known = phase.unwrap_or(Phase::Request);
        let at = f.span;
        let (file, line) = (r.file.clone(), node.span.line);
        let at = node.get("when").or(node.get("unless")).map_or(at, |n| n.span);
        let when = condition(r, &mut f, "when", known, cx);
        let unless = condition(r, &mut f, "unless", known, cx);
        let actions = match f.require(r, "actions") {
            Some(n) => actions(r, n, &f.at("actions"), known, cx),
            None => None,
        };
        f.finish(r);
        let (when, unless, actions) = (when?, unless?, actions?);
        Some((head?, phase?, Rule { when, unless, actions, file, line, at, tests }))
    }

    /// Whether a rule of these actions fails closed unless it says otherwise.
    pub(crate) fn is_hard(&self) -> bool {
        self.actions.iter().any(|a| a.of().is_some_and(|v| v.kind == Kind::Hard))
    }

    /// Whether anything it does has to be known before an answer goes out.
    pub(crate) fn holds_back(&self) -> bool {
        self.actions.iter().any(|a| verb::holds_back(&a.verb, &a.argument))
    }

    /// Paths its conditions read.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &str> {
        self.when.iter().chain(&self.unless).flat_map(|c| c.reads.iter().map(String::as_str))
    }

    /// Whether it may match once an answer is there: what is not known yet may come to anything.
    pub(crate) fn may_match(&self, vars: &Vars) -> bool {
        let may = |condition: &Condition, wanted: bool| {
            let later = |name: &str| ["response", "run", "tool"].contains(&name);
            let told = condition.tree.may_hold(&mut |atom| match atom.may_read(later) {
                true => None,
                // What cannot be evaluated may come to anything, too.
                false => condition.atom(atom, vars).ok(),
            });
            told.is_none_or(|holds| holds == wanted)
        };
        self.when.as_ref().is_none_or(|c| may(c, true)) && self.unless.as_ref().is_none_or(|c| may(c, false))
    }

    /// `when && !unless`
    pub(crate) fn answer(&self, vars: &Vars) -> Result<Answer<'_>, types::expr::Error> {
        let mut because = None;
        for (condition, wanted) in [(&self.when, true), (&self.unless, false)] {
            let Some(condition) = condition else { continue };
            let holds = condition.tree.holds(&mut |atom| {
                because = Some(&atom.text);
                condition.atom(atom, vars)
            })?;
            if holds != wanted {
                return Ok(Answer { matches: false, because });
            }
        }
        Ok(Answer { matches: true, because })
    }
}

/// A condition; the outer `None` is a noted problem, the inner one means "always" (or "never", of
/// `unless`).
#[expect(clippy::option_option, reason = "absent and wrong are two different things here")]
fn condition(
    r: &mut Reader<'_>,
    f: &mut Fields<'_>,
    key: &'static str,
    phase: Phase,
    cx: &Context<'_>,
) -> Option<Option<Condition>> {
    let Some(node) = f.take(key) else { return Some(None) };
    let at = f.at(key);
    let source = match &node.value {
        // `when: true` is YAML's boolean, and as good an expression as any.
        Value::Bool(b) => b.to_string(),
        _ => r.string(node, &at)?,
    };
    match cx.resolver.language().condition(&source, &inputs::variables(phase), Some(&Type::Bool)) {
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
fn actions(
    r: &mut Reader<'_>,
    node: &Node,
    field: &str,
    phase: Phase,
    cx: &Context<'_>,
) -> Option<Vec<Bound>> {
    let members = r.map(node, field)?;
    if members.is_empty() {
        r.wrong_type(node, field, "a map with at least one verb");
        return None;
    }
    let before = errors(r);
    let bound: Vec<Option<Vec<Bound>>> = members
        .iter()
        .map(|(key, value)| {
            let at = format!("{field}.{}", key.name);
            let verb = verb::find(r, &key.name, key.span, &at)?;
            if !verb::fits(r, verb, phase, key.span, &at) {
                return None;
            }
            match &value.value {
                Value::List(each) if verb::repeats(verb) && !each.is_empty() => {
                    let one = |(i, value)| verb::bind(r, verb, value, &format!("{at}[{i}]"), cx, phase);
                    let each: Vec<Option<Bound>> = each.iter().enumerate().map(one).collect();
                    each.into_iter().collect()
                }
                _ => verb::bind(r, verb, value, &at, cx, phase).map(|one| vec![one]),
            }
        })
        .collect();
    let bound = bound.into_iter().collect::<Option<Vec<_>>>().map(|all| all.concat());
    bound.filter(|_| errors(r) == before)
}

fn errors(r: &Reader<'_>) -> usize {
    r.problems.iter().filter(|d| d.severity == Severity::Error).count()
}
