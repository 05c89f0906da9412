//! Decisions without a house around them: for replay, for what-if, for measuring.

use super::Inputs;
use crate::breaker::Circuit;
use crate::bundle::Bundle;
use crate::error::Error;
use crate::learn::Snapshot;
use crate::limits::NOTHING_USED_UP;
use crate::who::Who;
use std::sync::Arc;
use types::decision::Exclusion;
use types::directives::Directives;
use types::matrix::Availability;
use types::options::Mode;
use types::{ChatRequest, Decision, Features, WorkloadProfile};

/// Profiles, asks the policies and routes as the engine does; calls nothing and remembers nothing.
pub struct Router {
    bundle: Bundle,
    unavailable: Arc<Vec<Exclusion>>,
    who: Arc<Who>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("bundle", &self.bundle).finish_non_exhaustive()
    }
}

/// What a decision is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Identifier for the record.
    pub id: &'a str,
    /// The request.
    pub request: &'a Arc<ChatRequest>,
    /// Its profile; see [`Router::profile`].
    pub profile: &'a WorkloadProfile,
    /// Its numbers.
    pub features: &'a Features,
    /// By model, in the order of the matrix: those that are not ready are no candidates.
    pub availability: &'a [Availability],
    /// What was learned so far.
    pub statistics: &'a Arc<Snapshot>,
    /// Seed of the draw.
    pub seed: u64,
    /// Unix time in milliseconds.
    pub ts_ms: i64,
}

impl Router {
    /// A router under this configuration.
    #[must_use]
    pub fn new(bundle: Bundle) -> Self {
        profiler::warm_up();
        Router { bundle, unavailable: Arc::default(), who: Who::open() }
    }

    /// The configuration.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// What the profiler says of a request.
    #[must_use]
    pub fn profile(&self, request: &ChatRequest) -> (WorkloadProfile, Features) {
        let profile = profiler::profile(request);
        let features = profiler::features(request, &profile);
        (profile, features)
    }

    /// Decides.
    ///
    /// # Errors
    /// Nothing can be chosen, and why.
    pub async fn decide(&self, ask: Ask<'_>) -> Result<Decision, Error> {
        let around = policies::Around {
            tenant: self.who.tenant.clone(),
            key: self.who.key.clone(),
            ..policies::Around::default()
        };
        let about = policies::Inputs {
            request: ask.request,
            profile: ask.profile,
            around: &around,
            unix_ms: ask.ts_ms,
        };
        let scope = policies::scope(&about);
        let evaluated = self.bundle.policies.evaluate(policies::Phase::Request, &scope).await;
        let (mut directives, unevaluated) = match evaluated {
            Ok(directives) => (directives, None),
            Err(e) => (e.until_then(), Some(e.into())),
        };
        self.route(&ask, &scope, &mut directives, unevaluated)
    }

    fn route(
        &self,
        ask: &Ask<'_>,
        scope: &types::expr::Scope,
        directives: &mut Directives,
        unevaluated: Option<Error>,
    ) -> Result<Decision, Error> {
        let inputs = Inputs {
            bundle: &self.bundle,
            availability: ask.availability,
            unavailable: &self.unavailable,
            circuit: &|_| Circuit::Closed,
            quota: &|_| None,
            statistics: ask.statistics,
            request: ask.request,
            profile: ask.profile,
            features: ask.features,
            warm: None,
            kept: None,
            explore: true,
            scope,
            mode: Mode::Auto,
            seed: ask.seed,
            request_id: ask.id,
            who: &self.who,
            used_up: &NOTHING_USED_UP,
            ts_ms: ask.ts_ms,
        };
        let routed = super::decide(&inputs, directives, unevaluated);
        routed.chosen.map(|_| routed.decision)
    }
}
