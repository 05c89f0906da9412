//! The loop: admit, profile, decide, run, settle, assess, learn.
//!
//! Takes a canonical request and who asks; gives an answer, whole or as events, and a record of how it was
//! decided and how it turned out. Knows no HTTP server and no database: providers and stores are seams.

mod account;
mod admit;
mod affinity;
pub mod answer;
mod approvals;
mod breaker;
pub mod bundle;
mod calls;
mod caps;
mod concurrency;
mod config;
mod decide;
mod decision_slots;
mod demands;
mod ending;
mod errand;
pub mod error;
mod escalation;
pub mod explain;
mod explore;
mod failed;
pub mod feedback;
mod govern;
mod history;
pub mod learn;
mod ledger;
mod limits;
mod live;
mod members;
mod models;
mod node_cache;
pub mod outcome;
pub mod outside;
mod pipeline;
mod policy_inputs;
mod post_response;
mod premium;
mod profiled;
mod recent;
mod redact;
pub mod rehearse;
pub mod replay;
mod reserve;
mod respond;
mod rewrite;
pub mod route;
pub mod runs;
mod said;
mod settle;
pub mod shadow;
mod shadow_run;
mod shown;
mod sticky;
mod task;
mod tools;
mod trailer;
mod unrecorded;
mod weigh;
mod who;
mod worst_case;

pub use answer::{Admission, Answer, Event, Head, Live, OnRecord, Sum, Tail, Whole};
pub use approvals::{
    ApprovalError, ApprovalStanding, GateOf, GroupStanding, Phase as ApprovalPhase,
    REQUIRED as APPROVAL_REQUIRED, Said, State as ApprovalState,
};
pub use breaker::Circuit;
pub use bundle::{Bundle, Files};
pub use calls::ExtraCounts;
pub use config::{Breaker as BreakerConfig, Config, Retry};
pub use errand::Errand;
pub use error::{Error, Kind};
pub use failed::node_codes;
pub use learn::{Statistics, learner};
pub use models::{Learned, ModelRow, Reachable};
pub use outside::Outside;
pub use post_response::{Background, Counts as LateCounts};
pub use settle::Finished;
pub use shadow_run::OPERATOR;
pub use who::Who;
pub use worst_case::{Bound, Dry, Row as BoundRow, USUAL};

use admit::Gate;
use arc_swap::{ArcSwap, ArcSwapOption};
use breaker::Breaker;
use calls::{Extra, Reach};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Semaphore;
use types::Clock;
use types::chat::ChatRequest;
use types::decision::Exclusion;
use types::limits::LimitStore;
use types::matrix::Availability;
use types::provider::ChatProvider;
use types::store::{self, OutcomeStore, Stored};

/// What an engine is made of.
pub struct Parts {
    /// The configuration to start with.
    pub bundle: Arc<Bundle>,
    /// Answers calls to every provider of the bundle's matrix.
    pub provider: Arc<dyn ChatProvider>,
    /// By model, in the order of the matrix.
    pub availability: Vec<Availability>,
    /// Where records go.
    pub store: Arc<dyn OutcomeStore>,
    /// What the learner, which observes the store, publishes.
    pub statistics: Statistics,
    /// Counts rates and budgets; `None` = nothing is limited.
    pub limits: Option<Arc<dyn LimitStore>>,
    /// Told of every request at its end.
    pub finished: Option<Finished>,
    /// Starts what outlives an answer: late judges, runs beside live ones, trials of configurations. `None` = that is
    /// left undone, and every request of a trial counts as dropped.
    pub background: Option<Background>,
    /// What workflows reach besides models. It does not change while the engine lives.
    pub outside: Outside,
    /// The key of the hashes that policies put in the place of values. With another one the hashes of a value change.
    pub redaction_key: [u8; 32],
    /// Says what day it is.
    pub clock: Clock,
    /// Settings.
    pub config: Config,
}

/// The engine: a cheap handle.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) view: ArcSwap<View>,
    pub(crate) store: Arc<dyn OutcomeStore>,
    pub(crate) statistics: Statistics,
    pub(crate) clock: Clock,
    pub(crate) limits: Option<limits::Counters>,
    /// Those that wait for what requests in work have set aside.
    pub(crate) patience: limits::Patience,
    pub(crate) finished: Option<Finished>,
    pub(crate) config: Config,
    pub(crate) gate: Arc<Gate>,
    /// Permits for work on the processor that is no request: checks, replays, rehearsals.
    pub(crate) errands: Arc<Semaphore>,
    /// The model that each session was answered by last.
    pub(crate) sessions: route::Sessions,
    /// What exploring has cost.
    pub(crate) explorers: explore::Explorers,
    /// A configuration that is tried beside the one in force.
    pub(crate) shadow: ArcSwapOption<shadow::Shadow>,
    /// What came before in conversations, as far as policies ask.
    pub(crate) memory: Arc<history::Memory>,
    /// Questions that policies put to people.
    pub(crate) approvals: Arc<approvals::Approvals>,
    /// The arm that each holder of a `sticky` rule was given last; bounded.
    pub(crate) arms: sticky::Arms,
    /// What nodes of workflows have put out.
    pub(crate) results: Arc<node_cache::Results>,
    /// The key of redaction's hashes.
    pub(crate) redaction_key: [u8; 32],
    seeds: AtomicU64,
    /// Somebody walks what becomes a run.
    pub(crate) keeps_runs: AtomicBool,
    pub(crate) background: Option<Background>,
    /// What is done after responses.
    late: Arc<post_response::Work>,
    /// Runs beside live ones.
    beside: Arc<post_response::Work>,
    /// What lies outside besides models.
    pub(crate) outside: Outside,
}

/// A configuration with what belongs to it; a request keeps the one it entered with.
pub(crate) struct View {
    pub(crate) bundle: Arc<Bundle>,
    pub(crate) availability: Vec<Availability>,
    pub(crate) unavailable: Arc<Vec<Exclusion>>,
    pub(crate) reach: Arc<Reach>,
}

impl View {
    pub(crate) fn circuit(&self, ix: types::ModelIx) -> Circuit {
        let breaker = self.reach.breakers.get(usize::from(ix.0));
        let out = breaker.filter(|b| !b.is_closed());
        out.map_or(Circuit::Closed, |b| b.circuit(tokio::time::Instant::now()))
    }
}

/// Load and readiness of the engine at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Health {
    /// Requests in flight.
    pub in_flight: usize,
    /// Most that may be.
    pub max_inflight: usize,
    /// Requests that wait to be.
    pub waiting: usize,
    /// New work is refused.
    pub draining: bool,
    /// There is so much to do that what only improves is left out.
    pub brownout: bool,
    /// Models that can be called.
    pub candidates: usize,
    /// Models that can be called but are kept out by their breaker.
    pub open: usize,
}

impl Engine {
    /// An engine of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        profiler::warm_up();
        let Parts { bundle, provider, availability, store, statistics, limits, finished, .. } = parts;
        let Parts { background, outside, redaction_key, clock, config, .. } = parts;
        let limits = limits.map(|store| limits::Counters::new(store, clock.clone()));
        let gate = Gate::new(config.max_inflight, (config.queue, config.queue_wait));
        let view = view(bundle, provider, availability, (&config, &gate), None);
        // A map's random state is drawn from the system's entropy, which is all that a fresh seed needs.
        let seed = config.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Engine(Arc::new(Inner {
            view: ArcSwap::from_pointee(view),
            store,
            statistics,
            clock,
            limits,
            patience: limits::Patience::default(),
            finished,
            gate,
            errands: Arc::new(Semaphore::new(errand::AT_ONCE)),
            sessions: route::Sessions::default(),
            explorers: explore::Explorers::default(),
            shadow: ArcSwapOption::empty(),
            memory: Arc::default(),
            approvals: Arc::default(),
            arms: sticky::Arms::default(),
            results: Arc::default(),
            redaction_key,
            seeds: AtomicU64::new(seed),
            keeps_runs: AtomicBool::new(false),
            background,
            late: Arc::default(),
            beside: Arc::default(),
            outside,
            config,
        }))
    }

    /// What came of the work after responses since the start.
    #[must_use]
    pub fn late(&self) -> LateCounts {
        self.0.late.counts()
    }

    /// What came of the runs beside live ones that rules wanted.
    #[must_use]
    pub fn beside(&self) -> LateCounts {
        self.0.beside.counts()
    }

    /// What came of the wish for retries and hedges since the start.
    #[must_use]
    pub fn extra(&self) -> ExtraCounts {
        self.0.view.load().reach.extra.counts()
    }

    /// The questions to people that stand, oldest first.
    #[must_use]
    pub fn approvals(&self) -> Vec<ApprovalStanding> {
        self.0.approvals.standing()
    }

    /// Takes somebody's answer to a question. `who` are their names, as the rules give them: `user:dana`.
    ///
    /// # Errors
    /// Their answer does not count.
    pub fn decide_approval(
        &self,
        id: &str,
        who: &[String],
        approve: bool,
    ) -> Result<ApprovalStanding, ApprovalError> {
        self.0.approvals.decide(id, who, approve)
    }

    /// How failed calls are tried again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.0.config.retry
    }

    /// Longest time of a request, streamed or not, whose workflow names none. `waits`: how long its client says that it
    /// waits for a whole answer.
    #[must_use]
    pub fn usual_deadline(&self, streamed: bool, waits: Option<std::time::Duration>) -> std::time::Duration {
        self.0.config.usual_deadline(streamed, waits)
    }

    /// Swaps the configuration. Requests under way keep the one they entered with; models that stay keep
    /// their breaker.
    pub fn reload(
        &self,
        bundle: impl Into<Arc<Bundle>>,
        provider: Arc<dyn ChatProvider>,
        availability: Vec<Availability>,
    ) {
        let old = self.0.view.load_full();
        let of_engine = (&self.0.config, &self.0.gate);
        self.0.view.store(Arc::new(view(bundle.into(), provider, availability, of_engine, Some(&old))));
    }

    /// These models of the configuration in force are called with other keys than before it: what vendors said of those
    /// keeps none of them out any more.
    pub fn rekeyed(&self, models: &[types::matrix::ModelIx]) {
        let view = self.0.view.load();
        let own = models.iter().filter_map(|ix| view.reach.breakers.get(usize::from(ix.0)));
        own.for_each(|breaker| breaker.rekeyed());
    }

    /// The configuration in force.
    #[must_use]
    pub fn bundle(&self) -> Arc<Bundle> {
        self.0.view.load().bundle.clone()
    }

    /// Tries another configuration on some of the requests, after their answers; see [`shadow`].
    /// One that was tried before is not tried any more. Without somewhere to work ([`Parts::background`]) nothing is
    /// tried, and every request counts as dropped.
    pub fn try_beside(&self, bundle: Arc<Bundle>, availability: Vec<Availability>, sample: shadow::Sample) {
        let (shadow, work) = shadow::Shadow::new(bundle, availability, sample);
        if let Some(start) = &self.0.background {
            start("shadow", Box::pin(work));
        }
        self.0.shadow.store(Some(Arc::new(shadow)));
    }

    /// Tries nothing any more, and gives what came of it.
    pub fn end_trial(&self) -> Option<shadow::Report> {
        self.0.shadow.swap(None).map(|s| s.report())
    }

    /// What came so far of the configuration that is tried; `None` = none is.
    #[must_use]
    pub fn trial(&self) -> Option<shadow::Report> {
        self.0.shadow.load().as_ref().map(|s| s.report())
    }

    /// The providers and models in force.
    #[must_use]
    pub fn matrix(&self) -> Arc<types::Matrix> {
        self.0.view.load().bundle.matrix().clone()
    }

    /// Whether the answers of a model are made up; `None` = it is not in the matrix.
    #[must_use]
    pub fn is_simulated(&self, model: &str) -> Option<bool> {
        let matrix = self.matrix();
        let provider = matrix.provider_of(matrix.find(model)?)?;
        Some(provider.dialect == types::matrix::Dialect::Simulated)
    }

    /// Swaps who answers calls, under the same configuration.
    pub fn reach(&self, provider: Arc<dyn ChatProvider>, availability: Vec<Availability>) {
        let old = self.0.view.load_full();
        let unavailable = route::unavailable(old.bundle.matrix(), &availability);
        let reach = Arc::new(Reach { provider, ..(*old.reach).clone() });
        let bundle = old.bundle.clone();
        self.0.view.store(Arc::new(View { bundle, availability, unavailable, reach }));
    }

    /// Answers one request. Dropping the future, or the stream in the answer, cancels it.
    ///
    /// # Errors
    /// Why there is no answer. Nothing has gone to the client then.
    pub async fn chat(&self, admission: Admission, request: ChatRequest) -> Result<Answer, Error> {
        Box::pin(pipeline::chat(&self.0, admission, request)).await
    }

    /// How a request would be decided, which models its workflow would call, and what that may cost. Nothing is
    /// called, reserved or recorded.
    ///
    /// # Errors
    /// Nothing could serve it.
    pub async fn dry(&self, admission: Admission, request: ChatRequest) -> Result<Dry, Error> {
        Box::pin(worst_case::dry(&self.0, admission, request)).await
    }

    /// Finds a request.
    ///
    /// # Errors
    /// Its record was erased ([`store::Error::Erased`]), or the store failed.
    pub async fn stored(&self, request_id: &str) -> Result<Option<Stored>, store::Error> {
        self.0.store.request(request_id).await
    }

    /// The newest requests, newest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn recent(&self, limit: usize) -> Result<Vec<Stored>, store::Error> {
        self.0.store.recent(limit).await
    }

    /// What was used and what it cost.
    ///
    /// # Errors
    /// The store failed.
    pub async fn usage(&self, query: types::usage::Query) -> Result<types::usage::Report, store::Error> {
        self.0.store.usage(query).await
    }

    /// Every model with its state.
    #[must_use]
    pub fn models(&self) -> Vec<ModelRow> {
        models::rows(&self.0, &Who::open())
    }

    /// Every model that somebody may use, with its state.
    #[must_use]
    pub fn models_of(&self, who: &Who) -> Vec<ModelRow> {
        models::rows(&self.0, who)
    }

    /// Hash of the configuration in force.
    #[must_use]
    pub fn bundle_hash(&self) -> Arc<str> {
        self.0.view.load().bundle.hash().clone()
    }

    /// The workflows that can run.
    #[must_use]
    pub fn workflow_names(&self) -> Vec<String> {
        self.0.view.load().bundle.workflow_names()
    }

    /// What somebody may name in `model`.
    #[must_use]
    pub fn reachable(&self, who: &Who) -> Reachable {
        models::reachable(&self.0, who)
    }

    /// Ids of the models that somebody may mean who asks for that name, the surest first: as chat requests are read.
    #[must_use]
    pub fn meant(&self, name: &str) -> Vec<Arc<str>> {
        let view = self.0.view.load();
        let matrix = view.bundle.matrix();
        matrix.meant(name).filter_map(|ix| Some(matrix.model(ix)?.id.clone())).collect()
    }

    /// Whether a selector names a model of the configuration in force: an id, an alias, a bare name that one provider
    /// has, a pattern, `pool:<name>`.
    #[must_use]
    pub fn selects(&self, selector: &str) -> bool {
        let view = self.0.view.load();
        !route::selected(&view.bundle, std::slice::from_ref(&selector.to_owned())).is_empty()
            || selector.strip_prefix("pool:").is_some_and(|pool| view.bundle.pools.contains_key(pool))
    }

    /// The pools of models.
    #[must_use]
    pub fn pool_names(&self) -> Vec<String> {
        self.0.view.load().bundle.pools.keys().cloned().collect()
    }

    /// What was learned so far.
    #[must_use]
    pub fn statistics(&self) -> Arc<learn::Snapshot> {
        self.0.statistics.load()
    }

    /// The states of what was learned that are kept, newest first.
    ///
    /// # Errors
    /// The store failed.
    pub async fn saved_statistics(&self) -> Result<Vec<store::Saved>, store::Error> {
        self.0.store.saved().await
    }

    /// Goes back to a state that is kept: what was learned after it is known no more, and what comes is learned from
    /// there. Decisions follow it when this returns.
    ///
    /// # Errors
    /// The store failed.
    pub async fn go_back(&self, to: store::Saved) -> Result<(), store::Error> {
        self.0.store.append(&store::Record::GoBack(to.unix_ms))?;
        self.0.store.flush().await
    }

    /// Load and readiness, now.
    #[must_use]
    pub fn health(&self) -> Health {
        let view = self.0.view.load();
        let ready = view
            .bundle
            .matrix()
            .indices()
            .zip(&view.availability)
            .filter(|(_, a)| **a == Availability::Ready);
        let (candidates, open) = ready.fold((0_usize, 0_usize), |(n, open), (ix, _)| {
            (
                n.saturating_add(1),
                open.saturating_add(usize::from(matches!(view.circuit(ix), Circuit::Open(_)))),
            )
        });
        Health {
            in_flight: self.0.gate.in_flight(),
            max_inflight: self.0.gate.max(),
            waiting: self.0.gate.waiting(),
            draining: self.0.gate.is_draining(),
            brownout: self.0.gate.in_brownout(),
            candidates,
            open,
        }
    }

    /// Requests in flight, and the most that may be. Cheap, for every answer.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.0.gate.in_flight(), self.0.gate.max())
    }

    /// Refuses new work from now on.
    pub fn drain(&self) {
        self.0.gate.drain();
    }
}

impl Inner {
    /// A fresh seed for each request: the golden-ratio step visits every number before it repeats one.
    pub(crate) fn next_seed(&self) -> u64 {
        self.seeds.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)
    }
}

fn view(
    bundle: Arc<Bundle>,
    provider: Arc<dyn ChatProvider>,
    availability: Vec<Availability>,
    (config, gate): (&Config, &Arc<Gate>),
    old: Option<&View>,
) -> View {
    let kept: HashMap<&str, &Arc<Breaker>> = old.map_or_else(HashMap::new, |v| {
        v.bundle.matrix().models().iter().map(|m| &*m.id).zip(&v.reach.breakers).collect()
    });
    let breaker =
        |id: &str| kept.get(id).map_or_else(|| Arc::new(Breaker::new(config.breaker)), |b| (*b).clone());
    let breakers = bundle.matrix().models().iter().map(|m| breaker(&m.id)).collect();
    let unavailable = route::unavailable(bundle.matrix(), &availability);
    let extra = Extra::new(bundle.matrix(), config.retry, gate.clone(), old.map(|v| &*v.reach.extra));
    let (matrix, extra) = (bundle.matrix().clone(), Arc::new(extra));
    let reach = Reach { matrix, provider, breakers, retry: config.retry, extra };
    View { bundle, availability, unavailable, reach: Arc::new(reach) }
}
