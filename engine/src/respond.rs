//! What policies say of an answer before it reaches the client: of the calls of tools it asks for, then of the
//! answer itself.

use crate::Inner;
use crate::View;
use crate::approvals::{Asked, Binding, HeldAnswer};
use crate::error::{Error, Kind};
use crate::ledger::Ledger;
use crate::redact::Redaction;
use crate::rewrite::blocked;
use policies::{Phase, Response, RunSoFar, ToolCall};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;
use types::directives::{
    ActionRecord, Directives, Escalate, LogContent, Place, RuleRecord, RuleResult,
};
use types::expr::Scope;
use types::matrix::Model;
use types::run::Verdict;
use types::{ChatRequest, Completion};
use workflows::{Ending, RunFailure, Trace};

/// What rules of the later phases leave behind for the record and the head of the answer.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Words>>);

/// See [`Said`].
#[derive(Default)]
pub(crate) struct Words {
    pub(crate) rules: Vec<RuleRecord>,
    pub(crate) actions: Vec<ActionRecord>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) log: Option<LogContent>,
    /// Why the answer does not go out.
    refusal: Option<Box<Error>>,
}

impl Said {
    /// Notes why the answer does not go out; the end of the run that says so.
    pub(crate) fn refuse(&self, error: Box<Error>) -> Ending {
        let (code, message) = (error.code().to_owned(), error.public_message());
        self.lock().refusal = Some(error);
        Ending::Failed(RunFailure {
            class: "policy",
            code,
            message,
            status: 403,
            findings: Vec::new(),
            provider_error: None,
        })
    }

    /// Why the answer does not go out, where policies say so.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.lock().refusal.take().map(|e| *e)
    }

    fn lock(&self) -> MutexGuard<'_, Words> {
        // Every write leaves the words consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything said so far, but for a refusal.
    pub(crate) fn take(&self) -> Words {
        let mut words = self.lock();
        let refusal = words.refusal.take();
        std::mem::replace(&mut *words, Words { refusal, ..Words::default() })
    }

    fn note(&self, d: &mut Directives) {
        let mut words = self.lock();
        // A rule that does not concern the answer is not worth a line in the record of every request.
        words.rules.extend(d.rules.drain(..).filter(|r| r.result != RuleResult::NotMatched));
        words.actions.append(&mut d.actions);
        words.tags.append(&mut d.tags);
        if let Some(f) = &d.further {
            words.headers.extend(f.headers.iter().map(|(k, v)| (k.clone(), v.value.clone())));
            words.log = [words.log, f.log.as_ref().map(|l| l.value)].into_iter().flatten().min();
        }
    }
}

/// What becomes of an answer.
pub(crate) enum Next {
    /// It goes out.
    Deliver(Box<Completion>),
    /// The request is to be answered once more, there.
    Again(Escalate),
    /// It does not go out.
    Refuse(Box<Error>),
}

/// Asks the policies about the answers of one request.
pub(crate) struct Respond {
    pub(crate) view: Arc<View>,
    pub(crate) scope: Scope,
    pub(crate) request: Arc<ChatRequest>,
    pub(crate) said: Said,
    pub(crate) trace: Trace,
    pub(crate) ledger: Ledger,
    pub(crate) tenant: String,
    pub(crate) requester: String,
    pub(crate) started: Instant,
    pub(crate) binding: Binding,
    pub(crate) redaction_key: [u8; 32],
}

/// Whether answers to a request must be complete before any of them goes out.
pub(crate) fn holds_back(view: &View, scope: &Scope, request: &ChatRequest, d: &Directives) -> bool {
    use types::directives::StreamMode;
    let demanded = d.further.as_ref().and_then(|f| f.stream.as_ref());
    let policies = &view.bundle.policies;
    demanded.is_some_and(|s| matches!(s.value, StreamMode::Windowed | StreamMode::Buffered))
        || policies.has(Phase::Tool) && !request.tools.is_empty()
        || policies.holds_back(scope)
}

impl Respond {
    /// Whether any policy could have a say.
    pub(crate) fn is_idle(&self) -> bool {
        let policies = &self.view.bundle.policies;
        !policies.has(Phase::Response) && (!policies.has(Phase::Tool) || self.request.tools.is_empty())
    }

    /// What becomes of an answer; `escalated` = it is the second one.
    pub(crate) async fn judge(
        &self,
        inner: &Inner,
        mut completion: Completion,
        model: &Arc<Model>,
        verdict: Verdict,
        escalated: bool,
    ) -> Next {
        if let Err(e) = self.tools(inner, &mut completion, model, verdict).await {
            return Next::Refuse(Box::new(e));
        }
        if !self.view.bundle.policies.has(Phase::Response) {
            return Next::Deliver(Box::new(completion));
        }
        let run = self.so_far();
        let scope = policies::response_scope(&self.scope, run, self.response(&completion, model, verdict, escalated));
        let mut d = match self.view.bundle.policies.evaluate(Phase::Response, &scope).await {
            Ok(d) => d,
            Err(e) => return Next::Refuse(Box::new(unevaluated(&e))),
        };
        let again = d.further.as_ref().and_then(|f| f.escalate.as_ref()).map(|e| e.value.clone());
        self.said.note(&mut d);
        if let Some(e) = denial(&d) {
            return Next::Refuse(Box::new(e));
        }
        if let Some(to) = again.filter(|_| !escalated) {
            return Next::Again(to);
        }
        match self.finish(inner, completion, model, verdict, &d, "response") {
            Ok(completion) => Next::Deliver(Box::new(completion)),
            Err(e) => Next::Refuse(Box::new(e)),
        }
    }

    /// Redacts an answer and asks people about it, as the directives of a phase say.
    fn finish(
        &self,
        inner: &Inner,
        mut completion: Completion,
        model: &Arc<Model>,
        verdict: Verdict,
        d: &Directives,
        phase: &'static str,
    ) -> Result<Completion, Error> {
        let Some(further) = &d.further else { return Ok(completion) };
        let own = Redaction::of(
            &further.redact,
            workflows::detector(),
            &self.redaction_key,
            &self.tenant,
            std::str::from_utf8(self.request.body()).unwrap_or(""),
        );
        if let Some(redaction) = own {
            let text = |text: &str| redaction.text(text, Place::Output).map(std::borrow::Cow::into_owned);
            for choice in &mut completion.choices {
                choice.text = text(&choice.text).map_err(blocked)?;
                choice.reasoning = text(&choice.reasoning).map_err(blocked)?;
                for call in &mut choice.tool_calls {
                    call.arguments = text(&call.arguments).map_err(blocked)?;
                }
            }
            completion.raw = None;
        }
        if further.approvals.is_empty() {
            return Ok(completion);
        }
        let asked = Asked {
            tenant: &self.tenant,
            requester: &self.requester,
            phase,
            binding: self.binding,
            demanded: &further.approvals,
            approvers: self.view.bundle.policies.approvers(),
        };
        // The very text that people look at is the one that goes out.
        Err(inner.approvals.ask(&asked, Some(HeldAnswer { completion, model: model.clone(), verdict })))
    }

    /// Asks about every call of a tool that the answer wants the client to make.
    async fn tools(
        &self,
        inner: &Inner,
        completion: &mut Completion,
        model: &Arc<Model>,
        verdict: Verdict,
    ) -> Result<(), Error> {
        if !self.view.bundle.policies.has(Phase::Tool) {
            return Ok(());
        }
        let calls: Vec<(String, String)> = completion
            .choices
            .iter()
            .flat_map(|c| &c.tool_calls)
            .map(|c| (c.name.clone(), c.arguments.clone()))
            .collect();
        for (i, (name, arguments)) in calls.into_iter().enumerate() {
            let tool = ToolCall {
                args: serde_json::from_str(&arguments).unwrap_or_default(),
                name: name.clone(),
                calls_so_far: u32::try_from(i).unwrap_or(u32::MAX),
                ..ToolCall::default()
            };
            let scope = policies::tool_scope(&self.scope, self.so_far(), tool);
            let evaluated = self.view.bundle.policies.evaluate(Phase::Tool, &scope).await;
            let mut d = evaluated.map_err(|e| unevaluated(&e))?;
            self.said.note(&mut d);
            if let Some(e) = denial(&d) {
                return Err(e);
            }
            if let Some(rule) = d.further.as_ref().and_then(|f| f.forbids_tool(&name)) {
                let reason = format!("the rule `{rule}` forbids the tool `{name}`");
                return Err(refused(reason, "tool_denied"));
            }
            *completion = self.finish(inner, completion.clone(), model, verdict, &d, "tool")?;
        }
        Ok(())
    }

    fn so_far(&self) -> RunSoFar {
        let (cost, calls) = self.ledger.so_far();
        RunSoFar {
            workflow: self.trace.snapshot().workflow,
            iterations: 0,
            cost_usd: cost.dollars(),
            calls,
            elapsed_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn response(&self, c: &Completion, model: &Arc<Model>, verdict: Verdict, escalated: bool) -> Response {
        let findings = self.trace.snapshot().steps.into_iter().flat_map(|s| s.findings).collect();
        Response {
            text: c.text().into(),
            verdict,
            findings,
            provider: model.id.split('/').next().unwrap_or("").to_owned(),
            model: model.id.to_string(),
            finish_reason: c.finish_reason().map_or_else(String::new, |f| f.as_str().to_owned()),
            refused: c.refused(),
            usage: c.usage,
            cost_usd: model.price.map(|p| p.cost(&c.usage).dollars()),
            escalated,
        }
    }
}

/// The first refusal.
fn denial(d: &Directives) -> Option<Error> {
    let denial = d.denials.first()?;
    let kind = Kind::Denied {
        reason: denial.reason.clone(),
        code: denial.code.clone(),
        status: denial.status,
    };
    Some(kind.into())
}

fn unevaluated(e: &policies::Error) -> Error {
    Kind::PolicyEvaluation(e.public_message()).into()
}

fn refused(reason: String, code: &str) -> Error {
    Kind::Denied { reason, code: code.to_owned(), status: 403 }.into()
}
