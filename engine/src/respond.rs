//! What policies say of an answer before it reaches the client: of the calls of tools it asks for, then of the
//! answer itself.

use crate::View;
use crate::approvals::{self, Approvals, HeldAnswer, Question};
use crate::calls::Calls;
use crate::demands::Demands;
use crate::error::{Error, Kind};
use crate::escalation;
use crate::limits::{self, Counters};
use crate::redact::{Blocked, Redaction};
use crate::runs::{About, Consent};
use crate::shown;
use crate::tools;
use crate::who::Who;
use policies::{Phase, Response, RunSoFar, ToolCall};
use std::borrow::Cow;
use std::sync::Arc;
use types::ChatRequest;
use types::directives::{Approval, Denial, Directives, Escalate, Further, LimitRule, Place, Set, StreamMode};
use types::expr::Scope;
use types::{Completion, FinishReason, Usd};
use workflows::{Ending, Input, Trace, Workflow};

/// Asks the policies about the answers of one request.
pub(crate) struct Respond {
    pub(crate) view: Arc<View>,
    pub(crate) who: Arc<Who>,
    /// Who counts calls of tools for rules that limit them.
    pub(crate) limits: Option<Counters>,
    pub(crate) people: People,
    pub(crate) demands: Demands,
    /// What the request phase says of tools.
    pub(crate) tools: Option<Further>,
    /// What a workflow is run on, once more where an answer is not enough.
    pub(crate) again: Again,
}

/// Where people are asked about an answer.
pub(crate) enum People {
    /// Beside the request, whose client comes again.
    Asked(Arc<Approvals>),
    /// In the run, which waits for them.
    OfRun(Arc<Consent>),
}

/// What a workflow is run on. The sink and the observer are of the first run alone.
pub(crate) struct Again {
    pub(crate) input: Input,
    pub(crate) calls: Calls,
    pub(crate) workflow: Arc<Workflow>,
}

/// An answer, and what policies say of it.
struct Judged {
    answer: HeldAnswer,
    of_tools: OfTools,
    /// What the rules of the response phase say; nothing, where there are none.
    says: Directives,
}

impl Judged {
    /// Where rules send the request to be answered once more. What is refused goes nowhere.
    fn sends_to(&self) -> Option<Escalate> {
        let further = self.says.further.as_ref().filter(|_| self.says.denials.is_empty())?;
        Some(further.escalate.as_ref()?.value.clone())
    }

    /// Has the record say of rules that send the request elsewhere that nothing came of it.
    fn stays(&mut self, why: impl Into<Cow<'static, str>>) {
        escalation::comes_to_nothing(&mut self.says.actions, why);
    }
}

/// What policies say of the calls of tools in an answer that goes out.
#[derive(Default)]
struct OfTools {
    /// Who has to agree.
    approvals: Vec<Set<Approval>>,
    /// What counts them, for each call.
    limits: Vec<Vec<Set<LimitRule>>>,
}

/// Whether any policy could have a say in the answer to a request.
pub(crate) fn concerns(view: &View, request: &ChatRequest, further: Option<&Further>) -> bool {
    let policies = &view.bundle.policies;
    policies.has(Phase::Response) || looks_at_calls(view, request, further)
}

/// Whether rules look at the calls of the client's own tools in the answer to a request.
pub(crate) fn looks_at_calls(view: &View, request: &ChatRequest, further: Option<&Further>) -> bool {
    !request.tools.is_empty()
        && (view.bundle.policies.has(Phase::Tool) || further.is_some_and(restricts_tools))
}

/// Why an answer must be complete before any of it goes out, in the words of the record; `None` = it need not.
pub(crate) fn holds_back(
    view: &View,
    scope: &Scope,
    request: &ChatRequest,
    d: &Directives,
) -> Option<&'static str> {
    let further = d.further.as_deref();
    let demanded = further.and_then(|f| f.stream.as_ref());
    let policies = &view.bundle.policies;
    // Whatever must be checked on the way is checked whole: more is held back than demanded, never less.
    if demanded.is_some_and(|s| s.value > StreamMode::Passthrough) {
        return Some("a rule lets nothing stream unchecked");
    }
    if looks_at_calls(view, request, further) {
        return Some("rules look at the calls of tools in the answer");
    }
    // What is watched loses its log probabilities, which hold the texts as they were.
    let reads = |scope| match request.params.logprobs {
        true => policies.holds_back(scope),
        false => policies.needs_whole(scope),
    };
    (policies.has(Phase::Response) && reads(scope))
        .then_some("a rule of the response phase sees the whole answer")
}

fn restricts_tools(further: &Further) -> bool {
    !further.allow_tools.is_empty() || !further.deny_tools.is_empty()
}

/// What is said of tools, alone.
pub(crate) fn of_tools(further: Option<&Further>) -> Option<Further> {
    further.filter(|f| restricts_tools(f)).map(|f| Further {
        allow_tools: f.allow_tools.clone(),
        deny_tools: f.deny_tools.clone(),
        ..Further::default()
    })
}

impl Respond {
    /// What becomes of the end of a run once the policies have seen its answer.
    pub(crate) async fn answered(self, ending: Ending) -> Ending {
        let first = match ending {
            Ending::Delivered { completion, model, verdict } => {
                HeldAnswer { completion, model, verdict, headers: Vec::new() }
            }
            Ending::Streamed { completion, model, verdict } => {
                // No rule that could stop it was there; those that are only watched still see it.
                let answer = HeldAnswer { completion, model, verdict, headers: Vec::new() };
                if let Ok(mut d) = self.of_response(&answer, false).await {
                    self.demands.said.note(&mut d);
                }
                let HeldAnswer { completion, model, verdict, .. } = answer;
                return Ending::Streamed { completion, model, verdict };
            }
            other => return other,
        };
        match self.settled(first).await {
            Ok(HeldAnswer { completion, model, verdict, .. }) => {
                Ending::Delivered { completion, model, verdict }
            }
            Err(error) => self.demands.said.refuse(error),
        }
    }

    /// What goes out: the first answer, or that of those to whom a rule sends the request, at most once.
    ///
    /// # Errors
    /// Rules refuse it, or ask people about it.
    pub(crate) async fn settled(&self, first: HeldAnswer) -> Result<HeldAnswer, Error> {
        let mut judged = self.judge(first, false).await?;
        match judged.sends_to() {
            None => judged.stays("the answer is refused"),
            Some(to) => match self.escalate(&to).await {
                Ok(second) => {
                    self.demands.said.note(&mut judged.says);
                    judged = self.judge(second, true).await?;
                    judged.stays("the request has been answered once more already");
                }
                // The first one has to do.
                Err(why) => judged.stays(why),
            },
        }
        self.demands.said.note(&mut judged.says);
        self.deliver(judged).await
    }

    /// The answer of those to whom a rule sends the request.
    ///
    /// # Errors
    /// In words: there is none.
    async fn escalate(&self, to: &Escalate) -> Result<HeldAnswer, String> {
        if let People::OfRun(_) = self.people {
            return Err("a run is answered once".to_owned());
        }
        let Again { input, calls, workflow } = &self.again;
        let (candidates, workflow) = match to {
            Escalate::Models(set) => {
                let candidates = calls.candidates.only(set);
                (candidates.ok_or(escalation::NOBODY)?, workflow.clone())
            }
            Escalate::Workflow(name) => {
                let workflow = self.view.bundle.library.get(name);
                (calls.candidates.clone(), workflow.ok_or("there is no such workflow")?.clone())
            }
        };
        let before = input.trace.snapshot();
        let calls = Calls { candidates, ..calls.clone() };
        let done = workflows::run(workflow, copy(input), Arc::new(calls)).await;
        let code = match done.ending {
            Ending::Delivered { completion, model, verdict }
            | Ending::Streamed { completion, model, verdict } => {
                return Ok(HeldAnswer { completion, model, verdict, headers: Vec::new() });
            }
            Ending::Failed(failure) => failure.code,
            Ending::Broken { error, .. } => error.kind.as_str().to_owned(),
            Ending::Suspended(_) => "suspended".to_owned(),
        };
        let steps = input.trace.take().steps;
        input.trace.put(types::Run { steps, ..before });
        Err(format!("no answer came from there ({code})"))
    }

    /// What policies say of an answer; `escalated` = it is the second one.
    ///
    /// # Errors
    /// A rule forbids a call of a tool in it, or cannot be evaluated.
    async fn judge(&self, mut answer: HeldAnswer, escalated: bool) -> Result<Judged, Error> {
        let of_tools = self.of_tools(&mut answer).await?;
        let says = match self.view.bundle.policies.has(Phase::Response) {
            true => self.of_response(&answer, escalated).await?,
            false => Directives::default(),
        };
        Ok(Judged { answer, of_tools, says })
    }

    /// An answer as it goes out.
    ///
    /// # Errors
    /// It does not: rules refuse it, or ask people about it.
    async fn deliver(&self, judged: Judged) -> Result<HeldAnswer, Error> {
        let Judged { mut answer, of_tools: OfTools { mut approvals, limits }, says } = judged;
        if let Some(denial) = says.denials.first() {
            return Err(self.denied(denial));
        }
        let mut phase = approvals::Phase::Tool;
        if let Some(further) = says.further {
            let redaction = self.demands.redaction.with(&in_answers(&further));
            texts(&mut answer.completion, &redaction).map_err(|value| self.blocked(&redaction, value))?;
            if !further.approvals.is_empty() {
                phase = approvals::Phase::Response;
                approvals.extend(further.approvals);
            }
        }
        // Those of an answer that gives way to another one are never made.
        for rules in &limits {
            let asker = &self.again.calls.asker;
            limits::count_tool_call(self.limits.as_ref(), asker, rules).await?;
        }
        if approvals.is_empty() {
            return Ok(answer);
        }
        self.ask(phase, &approvals, answer)
    }

    /// Asks people about the very answer that goes out once they agree.
    ///
    /// # Errors
    /// They have yet to agree, or have not.
    fn ask(
        &self,
        phase: approvals::Phase,
        demanded: &[Set<Approval>],
        mut answer: HeldAnswer,
    ) -> Result<HeldAnswer, Error> {
        let request = &self.again.input.request;
        let binding = approvals::binding(request, &self.who, self.view.bundle.hash());
        let shows = shown::of_answer(&answer.completion);
        match &self.people {
            People::Asked(approvals) => {
                // What rules add to the head of the answer goes out with it, once people agree.
                answer.headers = self.demands.said.headers();
                let question = Question {
                    who: &self.who,
                    phase,
                    binding,
                    demanded,
                    approvers: self.view.bundle.policies.approvers(),
                    user: request.user.as_deref(),
                    shows,
                    agreed: self.demands.agreed(),
                };
                Err(approvals.ask(&question, Some(answer)))
            }
            People::OfRun(consent) => {
                let about = About::answer(&answer.completion, shows, binding);
                consent.holds(&about, demanded).map(|()| answer)
            }
        }
    }

    async fn of_response(&self, answer: &HeldAnswer, escalated: bool) -> Result<Directives, Error> {
        let Again { calls, input, .. } = &self.again;
        let charged = calls.charged(&answer.model, &answer.completion.usage);
        let response = response(&input.trace, answer, charged, escalated);
        let scope = policies::response_scope(&self.again.input.scope, self.so_far(), response);
        let evaluated = self.view.bundle.policies.evaluate(Phase::Response, &scope).await;
        self.demands.said.unless_failed(evaluated).map_err(Error::from)
    }

    /// Asks about every call of a tool that the answer wants the client to make.
    async fn of_tools(&self, answer: &mut HeldAnswer) -> Result<OfTools, Error> {
        let mut said = OfTools::default();
        let has = self.view.bundle.policies.has(Phase::Tool);
        if self.again.input.request.tools.is_empty() || !has && self.tools.is_none() {
            return Ok(said);
        }
        let mut so_far = 0_u32;
        let mut changed = false;
        for call in answer.completion.choices.iter_mut().flat_map(|c| &mut c.tool_calls) {
            self.forbidden(self.tools.as_ref(), &call.name)?;
            if has {
                let tool = ToolCall {
                    args: arguments(call),
                    name: call.name.clone(),
                    calls_so_far: so_far,
                    ..ToolCall::default()
                };
                let further = self.of_tool(tool).await?;
                let redaction = self.demands.redaction.with(&in_answers(&further));
                if redaction.concerns(Place::Output) {
                    let text = redaction.text(&call.arguments, Place::Output);
                    let text = text.map_err(|value| self.blocked(&redaction, value))?;
                    call.arguments = text.into_owned();
                    changed = true;
                }
                said.approvals.extend(further.approvals);
                said.limits.push(further.limits);
            }
            so_far = so_far.saturating_add(1);
        }
        if changed {
            answer.completion.changed();
        }
        Ok(said)
    }

    async fn of_tool(&self, tool: ToolCall) -> Result<Further, Error> {
        let so_far = self.so_far();
        let spent = so_far.cost_usd;
        let name = tool.name.clone();
        let scope = policies::tool_scope(&self.again.input.scope, so_far, tool);
        let evaluated = self.view.bundle.policies.evaluate(Phase::Tool, &scope).await;
        let mut d = self.demands.said.unless_failed(evaluated)?;
        self.demands.said.note(&mut d);
        if let Some(denial) = d.denials.first() {
            return Err(self.denied(denial));
        }
        if let Some(message) = tools::over(d.cap_cost.as_ref(), spent, &format!("`{name}`")) {
            return Err(Kind::out_of_money(message).into());
        }
        let further = d.further.map(|f| *f).unwrap_or_default();
        self.forbidden(Some(&further), &name)?;
        Ok(further)
    }

    /// # Errors
    /// A rule forbids the tool.
    fn forbidden(&self, further: Option<&Further>, tool: &str) -> Result<(), Error> {
        let Some(rule) = further.and_then(|f| f.forbids_tool(tool)) else { return Ok(()) };
        let reason = format!("the rule `{rule}` forbids the tool `{tool}`");
        Err(self.denied(&Denial::new(rule.clone(), "tool_denied", reason)))
    }

    fn blocked(&self, redaction: &Redaction, value: Blocked) -> Error {
        self.denied(&redaction.denial(value, Place::Output))
    }

    fn denied(&self, denial: &Denial) -> Error {
        self.demands.said.denies(denial)
    }

    fn so_far(&self) -> RunSoFar {
        tools::so_far(&self.again.calls, &self.again.input.trace)
    }
}

/// The same input for another run, which nobody watches and no client reads.
fn copy(input: &Input) -> Input {
    Input { sink: None, held: None, observer: None, ..input.clone() }
}

impl Again {
    /// For a run on the same as the first one.
    pub(crate) fn of(input: &Input, calls: &Calls, workflow: &Arc<Workflow>) -> Again {
        Again { input: copy(input), calls: calls.clone(), workflow: workflow.clone() }
    }
}

/// What a rule of a later phase redacts before the client sees it: there, what comes in is the answer.
pub(crate) fn in_answers(further: &Further) -> Vec<Set<types::directives::Redact>> {
    let mut rules: Vec<_> = further.redact.iter().filter(|r| r.value.place != Place::Logs).cloned().collect();
    for r in &mut rules {
        r.value.place = Place::Output;
        r.value.restore = false;
    }
    rules
}

/// Redacts every text of an answer.
fn texts(completion: &mut Completion, redaction: &Redaction) -> Result<(), Blocked> {
    if !redaction.concerns(Place::Output) {
        return Ok(());
    }
    let text = |text: &mut String| -> Result<(), Blocked> {
        if let std::borrow::Cow::Owned(changed) = redaction.text(text, Place::Output)? {
            *text = changed;
        }
        Ok(())
    };
    for choice in &mut completion.choices {
        text(&mut choice.text)?;
        text(&mut choice.reasoning)?;
        choice.refusal.iter_mut().try_for_each(text)?;
        choice.tool_calls.iter_mut().try_for_each(|call| text(&mut call.arguments))?;
    }
    completion.changed();
    Ok(())
}

/// What a call is made with. Custom tools take a text of any form.
fn arguments(call: &types::chat::ToolCall) -> serde_json::Value {
    if call.custom {
        return serde_json::json!({"input": call.arguments});
    }
    serde_json::from_str(&call.arguments).unwrap_or_default()
}

/// An answer as rules see it: all its choices, for a client may ask for several.
fn response(trace: &Trace, answer: &HeldAnswer, charged: Option<Usd>, escalated: bool) -> Response {
    let HeldAnswer { completion: c, model, verdict, .. } = answer;
    let texts: Vec<&str> = c.choices.iter().map(|choice| &*choice.text).filter(|t| !t.is_empty()).collect();
    let beside = c.choices.iter().flat_map(|choice| {
        let texts = [Some(&choice.reasoning), choice.refusal.as_ref()];
        let arguments = choice.tool_calls.iter().map(|call| &call.arguments);
        texts.into_iter().flatten().chain(arguments).filter(|t| !t.is_empty())
    });
    let mut reasons = c.choices.iter().filter_map(|choice| choice.finish_reason.as_ref());
    let odd = reasons.clone().find(|reason| **reason != FinishReason::Stop);
    Response {
        text: texts.join("\n").into(),
        beside: beside.cloned().collect(),
        verdict: *verdict,
        findings: trace.found(),
        provider: model.id.split('/').next().unwrap_or("").to_owned(),
        model: model.id.to_string(),
        finish_reason: odd.or_else(|| reasons.next()).map_or_else(String::new, |f| f.as_str().to_owned()),
        refused: c.refused(),
        usage: c.usage,
        cost_usd: charged.map(Usd::dollars),
        escalated,
    }
}
