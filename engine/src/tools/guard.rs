//! What policies say of a call of a tool before it is made.

use crate::answer::Admission;
use crate::calls::Calls;
use crate::demands::Demands;
use crate::limits::{self, Counters};
use crate::redact::{Blocked, Redaction};
use crate::respond;
use crate::said::Said;
use crate::{Engine, View, policy_inputs};
use policies::{History, Phase, RunSoFar, ToolCall};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;
use types::directives::{Further, LimitRule, Place, Set};
use types::expr::Scope;
use types::runs::SideEffect;
use types::{ChatRequest, Usd};
use workflows::{Consent, ToolAsk, ToolFailure, ToolSpec, Trace};

/// Asks the policies about the calls of one request.
pub(crate) struct Guard {
    pub(crate) view: Arc<View>,
    /// Who counts calls for rules that limit them.
    pub(crate) limits: Option<Counters>,
    pub(crate) stands: Stands,
    /// What the request phase says of tools.
    pub(crate) tools: Option<Further>,
    /// What policies demand of the request; `None` where they demand nothing, and in runs.
    pub(crate) demands: Option<Demands>,
    /// Without any rule, the ground for those of the phase `tool`; `None` = that of the demands. Each call of a run
    /// begins with it anew, so that the same call is masked alike after a crash, too.
    pub(crate) ground: Option<Redaction>,
    pub(crate) trace: Trace,
}

/// What rules see of the request that a call is made for.
pub(crate) enum Stands {
    /// What they saw when it came.
    Then(Scope),
    /// What they see when the call is made: it is for a run.
    Now(Box<OfRun>),
}

/// The request of a run, and what is asked how things stand.
pub(crate) struct OfRun {
    pub(crate) engine: Engine,
    pub(crate) admission: Admission,
    pub(crate) request: Arc<ChatRequest>,
    /// What came before it.
    pub(crate) history: History,
}

impl Stands {
    async fn scope(&self, view: &View) -> Cow<'_, Scope> {
        match self {
            Stands::Then(scope) => Cow::Borrowed(scope),
            Stands::Now(run) => {
                let asked = (&run.request, run.history);
                Cow::Owned(policy_inputs::of_run(&run.engine.0, view, &run.admission, asked).await)
            }
        }
    }
}

/// A call that no rule forbids.
pub(super) struct Permitted {
    /// The arguments as the tool may see them.
    pub(super) args: Value,
    /// What it counts on once it goes out.
    limits: Vec<Set<LimitRule>>,
}

impl Permitted {
    /// With these arguments, counted nowhere.
    pub(super) const fn uncounted(args: Value) -> Permitted {
        Permitted { args, limits: Vec::new() }
    }
}

impl Guard {
    /// Whether rules say anything of calls of tools, so that each call has to be put to them.
    pub(crate) fn is_busy(&self) -> bool {
        let policies = &self.view.bundle.policies;
        let masks = self.demands.as_ref().is_some_and(|d| d.redaction.is_busy());
        policies.has(Phase::Tool) || self.tools.is_some() || masks
    }

    /// What rules make of a call. `before`: calls of tools before this one; `said`: where what they say of it is noted, if
    /// not with what is said of the whole request.
    ///
    /// # Errors
    /// The call is forbidden, or people have to agree to it first.
    pub(super) async fn permit(
        &self,
        calls: &Calls,
        ask: &ToolAsk,
        spec: &ToolSpec,
        before: u32,
        said: Option<&Said>,
    ) -> Result<Permitted, ToolFailure> {
        forbidden(self.tools.as_ref(), &ask.tool)?;
        let redaction = self.demands.as_ref().map(|d| d.redaction.clone());
        if !self.view.bundle.policies.has(Phase::Tool) {
            return redacted(&ask.args, redaction.as_ref(), Place::Output).map(Permitted::uncounted);
        }
        let so_far = RunSoFar { iterations: iterations(&ask.id.frame), ..so_far(calls, &self.trace) };
        let spent = so_far.cost_usd;
        let tool = ToolCall {
            name: ask.tool.to_string(),
            side_effect: side_effect(spec.side_effect),
            trusted: spec.trusted,
            args: ask.args.clone(),
            calls_so_far: before,
        };
        let scope = policies::tool_scope(&*self.stands.scope(&self.view).await, so_far, tool);
        let evaluated = self.view.bundle.policies.evaluate(Phase::Tool, &scope).await;
        let said = said.or_else(|| self.demands.as_ref().map(|d| &d.said));
        let evaluated = match said {
            Some(said) => said.unless_failed(evaluated),
            None => evaluated,
        };
        let mut d = evaluated.map_err(|e| ToolFailure::Denied(e.public_message()))?;
        if let Some(said) = said {
            said.note(&mut d);
        }
        if let Some(denial) = d.denials.first() {
            return Err(ToolFailure::Denied(denial.reason.clone()));
        }
        if let Some(why) = over(d.cap_cost.as_ref(), spent, "it") {
            return Err(ToolFailure::Denied(why));
        }
        let Some(further) = d.further else {
            return redacted(&ask.args, redaction.as_ref(), Place::Output).map(Permitted::uncounted);
        };
        forbidden(Some(&further), &ask.tool)?;
        let missing = further.approvals.iter().filter(|a| !ask.approved.contains(&a.value.group));
        let consents = missing.map(|a| Consent {
            group: a.value.group.clone(),
            reason: a.value.reason.clone(),
            expires_ms: a.value.expires_ms,
        });
        let consents: Vec<Consent> = consents.collect();
        if !consents.is_empty() {
            return Err(ToolFailure::Approval(consents));
        }
        let more = respond::in_answers(&further);
        let args = match redaction.or_else(|| self.ground.as_ref().map(Redaction::afresh)) {
            Some(own) => redacted(&ask.args, Some(&own.with(&more)), Place::Output)?,
            None if more.is_empty() => ask.args.clone(),
            None => {
                let why = "a rule masks its arguments, and nothing can here";
                return Err(ToolFailure::Denied(why.to_owned()));
            }
        };
        Ok(Permitted { args, limits: further.limits })
    }

    /// Counts a call that is about to go out.
    ///
    /// # Errors
    /// A limit of a rule is reached.
    pub(super) async fn count(&self, calls: &Calls, call: &Permitted) -> Result<(), ToolFailure> {
        limits::count_tool_call(self.limits.as_ref(), &calls.asker, &call.limits)
            .await
            .map_err(|e| ToolFailure::Denied(e.public_message()))
    }

    /// A result as models may see it.
    ///
    /// # Errors
    /// It holds what may not be passed on.
    pub(super) fn result(&self, result: &Value) -> Result<Value, ToolFailure> {
        redacted(result, self.demands.as_ref().map(|d| &d.redaction), Place::Input)
    }
}

/// Why a rule's ceiling on what a run has cost stands against a call of a tool; what nobody knows is above any.
pub(crate) fn over(cap: Option<&Set<Usd>>, spent: Option<f64>, tool: &str) -> Option<String> {
    let cap = cap.filter(|c| spent.is_none_or(|spent| spent > c.value.dollars()))?;
    let unknown = if spent.is_none() { ", and a model was called whose price is not known" } else { "" };
    Some(format!("the rule `{}` allows {} USD before {tool} is called{unknown}", cap.rule, cap.value))
}

/// What a run has used so far.
pub(crate) fn so_far(calls: &Calls, trace: &Trace) -> RunSoFar {
    let (cost, made) = calls.ledger.so_far();
    RunSoFar {
        workflow: trace.snapshot().workflow,
        iterations: 0,
        cost_usd: cost.map(Usd::dollars),
        calls: made,
        elapsed_ms: u64::try_from(calls.started.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

/// Iterations begun of the loop around a node instance such as `work[2]/act[0]/run`; 0 outside of loops.
fn iterations(frame: &str) -> u32 {
    let inner = frame.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.and_then(|(n, _)| n.parse::<u32>().ok()).map_or(0, |n| n.saturating_add(1))
}

/// The same as policies name it.
const fn side_effect(effect: SideEffect) -> policies::SideEffect {
    match effect {
        SideEffect::None => policies::SideEffect::None,
        SideEffect::Idempotent => policies::SideEffect::Idempotent,
        SideEffect::Unsafe => policies::SideEffect::Unsafe,
    }
}

fn forbidden(further: Option<&Further>, tool: &str) -> Result<(), ToolFailure> {
    let rule = further.and_then(|f| f.forbids_tool(tool));
    rule.map_or(Ok(()), |rule| Err(ToolFailure::Denied(format!("the rule `{rule}` forbids it"))))
}

/// A value with every text in it redacted.
fn redacted(value: &Value, redaction: Option<&Redaction>, place: Place) -> Result<Value, ToolFailure> {
    let mut value = value.clone();
    if let Some(redaction) = redaction.filter(|r| r.concerns(place)) {
        texts(&mut value, &mut |text| redaction.text(text, place)).map_err(|Blocked(entity)| {
            ToolFailure::Denied(format!("it would pass on a value that may not be: {}", entity.as_str()))
        })?;
    }
    Ok(value)
}

type Change<'a> = dyn for<'t> FnMut(&'t str) -> Result<Cow<'t, str>, Blocked> + 'a;

fn texts(value: &mut Value, change: &mut Change<'_>) -> Result<(), Blocked> {
    match value {
        Value::String(text) => {
            let changed = match change(text)? {
                Cow::Owned(changed) => Some(changed),
                Cow::Borrowed(_) => None,
            };
            if let Some(changed) = changed {
                *text = changed;
            }
            Ok(())
        }
        Value::Array(all) => all.iter_mut().try_for_each(|v| texts(v, change)),
        Value::Object(all) => all.iter_mut().try_for_each(|(_, v)| texts(v, change)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn iterations_are_read_off_the_frame() {
        for (frame, want) in [("send", 0), ("work[0]/run", 1), ("work[2]/act[0]/run", 3), ("a[x]/b", 0)] {
            assert_eq!(iterations(frame), want, "{frame}");
        }
    }

    #[test]
    fn every_text_of_a_value_is_changed_and_nothing_else() {
        let mut value = json!({"a": "x", "n": 1, "l": ["x", {"b": "y"}]});
        texts(&mut value, &mut |t| Ok(if t == "x" { Cow::Owned("z".to_owned()) } else { Cow::Borrowed(t) }))
            .unwrap();
        assert_eq!(value, json!({"a": "z", "n": 1, "l": ["z", {"b": "y"}]}));
    }
}
