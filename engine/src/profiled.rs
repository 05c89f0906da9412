//! The product of the profiler's room, as the rooms behind it take it.

use std::sync::Arc;
use types::{ChatRequest, Features, WorkloadProfile};

/// A request and what it was found to be.
#[derive(Clone)]
pub(crate) struct Profiled {
    pub(crate) request: Arc<ChatRequest>,
    pub(crate) profile: WorkloadProfile,
    /// The request as the learner's numbers.
    pub(crate) features: Features,
}

impl Profiled {
    /// Finds out what a request is. No model is asked.
    pub(crate) fn of(request: Arc<ChatRequest>) -> Self {
        let profile = profiler::profile(&request);
        let features = profiler::features(&request, &profile);
        Profiled { request, profile, features }
    }

    /// Another request in the place of this one: what was found of the first one stays found, but for its size.
    pub(crate) fn replace(&mut self, request: Arc<ChatRequest>) {
        // Instructions that are added cost tokens, too.
        self.profile.facts = profiler::profile(&request).facts;
        self.request = request;
    }
}
