//! What is to be done for a request that found its arm, and how its workflow is set going.

use crate::account::About;
use crate::admit::Permit;
use crate::affinity::Stays;
use crate::answer::Admission;
use crate::approvals::HeldAnswer;
use crate::calls::{Begins, Beyond, Calls, Money, Scope};
use crate::caps;
use crate::decide::{self, Decided, Reserved};
use crate::error::Error;
use crate::ledger::{self, Ledger};
use crate::limits::{Asker, Each};
use crate::live;
use crate::node_cache::Kept;
use crate::profiled::Profiled;
use crate::reserve;
use crate::respond::{self, Again, People, Respond};
use crate::route;
use crate::runs;
use crate::settle::{Means, Settlement, Subject};
use crate::shadow_run;
use crate::tools::{self, Toolbox};
use crate::{Inner, View};
use policies::{Phase, Watched};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;
use tokio::time::Instant;
use types::chat::ChatRequest;
use types::directives::Directives;
use types::provider::Edits;
use types::{Chunk, Usd};
use workflows::{Ending, Wire};

/// What is to be done for a request.
pub(crate) struct Task {
    pub(crate) request: Arc<ChatRequest>,
    profile: types::WorkloadProfile,
    scope: types::expr::Scope,
    pub(crate) directives: Directives,
    seed: u64,
    pub(crate) workflow: Arc<workflows::Workflow>,
    candidates: route::Candidates,
    asker: Asker,
    /// Most that it may cost, whatever limits give.
    ceiling: Option<Usd>,
    /// An answer that is there already: somebody had to agree to it.
    pub(crate) agreed: Option<Box<HeldAnswer>>,
    approval: Option<String>,
    /// Where its answer is noted, for those that come after; taken when its work begins.
    stays: Option<Box<Stays>>,
}

/// A workflow that runs when it is polled.
pub(crate) struct Launched {
    pub(crate) run: Pin<Box<dyn Future<Output = Ending> + Send>>,
    /// Its answer as it comes, where the client streams.
    pub(crate) chunks: Option<mpsc::Receiver<Chunk>>,
    /// What it wants of the stream.
    pub(crate) wire: Wire,
}

/// Opens the account of a request, which settles it whichever way it ends; with it what is to be done, or why
/// nothing is.
pub(crate) fn begin(
    inner: &Inner,
    view: &View,
    admission: Admission,
    permit: Permit,
    reserved: Reserved,
) -> (Settlement, Result<Task, Error>) {
    let Reserved { decided, mut held, waited } = reserved;
    let Decided { profiled, scope, directives, seed, mut decision, .. } = decided;
    let Decided { chosen, ceiling, shadow, demands, agreed, approval, asker, stays, .. } = decided;
    let Profiled { request, profile, features } = profiled;
    let own = of_request(view, &asker, &directives);
    let ledger = Ledger::under(caps::limits(&directives)).bind(own, view.bundle.matrix());
    if let Some(held) = &mut held {
        ledger.draw_on(held);
    }
    ledger.was_kept(waited);
    if let Some(demands) = &demands {
        demands.conceal(&mut decision.tags);
    }
    let about = About::of(&decision, view.bundle.matrix(), profile.facts.images);
    let (explain, permit) = (request.options.explain, Some(permit));
    let means = Means { ledger, held, permit, demands, shadow, explain, ..Means::default() };
    let settlement = Settlement::open(inner, Subject { admission, decision, features, about }, means);
    let task = chosen.map(|route::Chosen { workflow, candidates, .. }| Task {
        request,
        profile,
        scope,
        directives,
        seed,
        workflow,
        candidates,
        asker,
        ceiling,
        agreed,
        approval,
        stays: Some(stays),
    });
    (settlement, task)
}

/// Limits on what a request may use by itself.
fn of_request(view: &View, asker: &Asker, directives: &Directives) -> Vec<Each> {
    let rules = directives.further.as_ref().map_or(&[] as &[_], |f| &f.limits);
    reserve::of_request(view, &asker.who, &asker.request, rules)
}

impl Task {
    /// Whether the request is to be made a run: its workflow may have to wait, and nothing keeps it from becoming one.
    pub(crate) fn must_be_run(&self, inner: &Inner, view: &View, settlement: &Settlement) -> bool {
        let demands = settlement.demands.as_deref();
        inner.keeps_runs.load(Ordering::Relaxed)
            && self.agreed.is_none()
            && self.workflow.may_wait(&self.request)
            && runs::bound_to_requests(view, &self.request, &self.scope, &self.directives, demands).is_none()
    }

    /// What its stream is refused for as soon as it holds it. An answer that is held back was judged whole.
    pub(crate) fn watched(&self, view: &View) -> Vec<Watched> {
        let policies = &view.bundle.policies;
        let streams = self.request.stream && policies.has(Phase::Response) && self.held_back(view).is_none();
        if streams { policies.watched(&self.scope) } else { Vec::new() }
    }

    /// Why its stream must be complete before any of it goes out; `None` = it need not, or it asks for none.
    fn held_back(&self, view: &View) -> Option<&'static str> {
        let reason = || respond::holds_back(view, &self.scope, &self.request, &self.directives);
        self.request.stream.then(reason).flatten()
    }

    /// Notes what the request is given, for those that come after it.
    pub(crate) fn note(&mut self, inner: &Inner, settlement: &mut Settlement) {
        if let (Some(decision), Some(stays)) = (settlement.decision.as_deref(), self.stays.take()) {
            decide::note(inner, &stays, decision);
            settlement.stays = Some(stays);
        }
    }

    /// Uses up the approval that the request has, now that nothing stands before its work.
    ///
    /// # Errors
    /// Somebody else used it meanwhile.
    pub(crate) fn begin_approved(&mut self, inner: &Inner, settlement: &Settlement) -> Result<(), Error> {
        let tenant = &settlement.admission.who.principal.tenant.id;
        self.approval.take().map_or(Ok(()), |id| inner.approvals.use_up(&id, tenant))
    }

    /// When the answer must be there.
    pub(crate) fn deadline(&self, inner: &Inner, settlement: &Settlement) -> Instant {
        caps::deadline(
            inner,
            &settlement.admission,
            &self.request,
            &self.directives,
            self.workflow.limits.wall,
        )
    }

    /// The run of the chosen workflow, and what policies say of its answer.
    pub(crate) fn launch(
        self,
        inner: &Inner,
        view: &Arc<View>,
        settlement: &Settlement,
        deadline: Instant,
    ) -> Launched {
        let held = self.held_back(view);
        let live = self.request.stream && held.is_none();
        let (sink, chunks) = live.then(|| mpsc::channel(live::CHUNKS)).unzip();
        let wire = self.workflow.wire();
        let input = workflows::Input { sink, held, ..self.input(view, settlement, deadline) };
        let afterwards = inner.afterwards(&settlement.admission);
        let further = self.directives.further.as_deref();
        let demands =
            settlement.demands.as_deref().filter(|_| respond::concerns(view, &self.request, further));
        let tools = respond::of_tools(further);
        let beside = shadow_run::drawn(further, self.seed);
        let workflow = self.workflow.clone();
        let calls = self.calls(inner, view, settlement, deadline);
        let respond = demands.map(|demands| {
            Box::new(Respond {
                view: view.clone(),
                who: settlement.admission.who.clone(),
                limits: inner.limits.clone(),
                people: People::Asked(inner.approvals.clone()),
                demands: demands.clone(),
                tools,
                again: Again::of(&input, &calls, &workflow),
            })
        });
        let beside = inner
            .trials(view, &settlement.admission.request_id, &beside, || Again::of(&input, &calls, &workflow));
        // Boxed once: a run is large, and would be copied with every hand it passes through.
        let run = Box::pin(async move {
            let calls = Arc::new(calls);
            let done = Box::pin(workflows::run(workflow, input, calls.clone())).await;
            if let Some((beside, answer)) = beside.zip(shadow_run::answer(&done.ending)) {
                beside.begin(answer);
            }
            if let (Some(later), Some(afterwards)) = (done.later, afterwards) {
                afterwards.begin(later, calls);
            }
            match respond {
                Some(respond) => Box::pin(respond.answered(done.ending)).await,
                None => done.ending,
            }
        });
        Launched { run, chunks, wire }
    }

    /// What the workflow starts from.
    fn input(&self, view: &View, settlement: &Settlement, deadline: Instant) -> workflows::Input {
        workflows::Input {
            request: self.request.clone(),
            scope: self.scope.clone(),
            language: view.bundle.language.clone(),
            extra_validators: self.directives.validators.clone(),
            edits: Edits::default(),
            sink: None,
            held: None,
            inputs: serde_json::Map::new(),
            vars: caps::vars(&self.directives),
            overrides: caps::overrides(&self.directives),
            usd: self.ceiling,
            limits: None,
            facts: workflows::Facts {
                id: settlement.admission.request_id.clone(),
                seed: self.seed,
                ..workflows::Facts::default()
            },
            deadline: Some(deadline),
            trace: settlement.trace.clone(),
            observer: None,
        }
    }

    /// Who makes the calls of the workflow, and within what.
    fn calls(self, inner: &Inner, view: &Arc<View>, settlement: &Settlement, deadline: Instant) -> Calls {
        let Task { request, profile, scope, directives, seed, candidates, asker, ceiling, .. } = self;
        let guard = || tools::Guard {
            view: view.clone(),
            limits: inner.limits.clone(),
            stands: tools::Stands::Then(scope),
            tools: respond::of_tools(directives.further.as_deref()),
            demands: settlement.demands.as_deref().cloned(),
            ground: None,
            trace: settlement.trace.clone(),
        };
        let tenant = &settlement.admission.who.principal.tenant.id;
        let background = inner.background.clone();
        let after = Ledger::under(ledger::Limits { usd: ceiling, ..ledger::Limits::default() });
        let money = Money {
            ledger: settlement.ledger.clone(),
            // What budgets left for the answer says nothing of what they leave later.
            after: after.bind(of_request(view, &asker, &directives), view.bundle.matrix()),
            cap: ceiling,
            ceilings: caps::ceilings(&directives),
        };
        let beyond = Beyond {
            outside: inner.outside.clone(),
            tools: Toolbox::new(view.bundle.tools.clone(), tenant, guard, background),
            kept: Some(Kept { results: inner.results.clone(), bundle: view.bundle.hash().clone() }),
            begins: settlement.decision.as_ref().map(|decision| {
                let about = (settlement.demands.as_deref(), settlement.held.as_ref());
                Begins::of(&inner.store, &settlement.admission.who, decision, about)
            }),
        };
        let admission = &settlement.admission;
        Calls::new(
            Scope { view, admission, request, profile, asker, candidates, seed, deadline },
            money,
            beyond,
        )
    }
}
