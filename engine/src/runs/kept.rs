//! What policies say of a run before anything of it is written: what is to be masked or not recorded must not lie on the
//! disk as it came.

use super::made::bound_to_requests;
use super::service::{Failure, Runs};
use super::submission::Submission;
use crate::account::About;
use crate::decide::{Decided, Decider};
use crate::profiled::Profiled;
use crate::settle::{Means, Settlement, Subject};
use crate::who::Who;
use std::sync::Arc;
use types::ChatRequest;
use types::run::Run;

impl Runs {
    /// Looks whether a request may be kept as it came. One that may not is on record like any that policies refuse, and
    /// counts as a request.
    ///
    /// # Errors
    /// What no run can be held to; a limit on requests is reached.
    pub(super) async fn may_be_kept(
        &self,
        who: &Arc<Who>,
        id: &str,
        submission: &Submission,
        request: ChatRequest,
    ) -> Result<(), Failure> {
        let inner = &self.0.engine.0;
        let view = inner.view.load_full();
        if !view.bundle.asks.masks {
            return Ok(());
        }
        let admission = submission.admission(id, who.clone());
        let ts_ms = inner.clock.unix_ms();
        let decider = Decider { inner, view: &view, admission: &admission, ts_ms };
        let decided = decider.consider(Arc::new(request)).await;
        let Decided { profiled, scope, directives, decision, demands, .. } = decided;
        let Profiled { request, profile, features } = profiled;
        let refusal = bound_to_requests(&view, &request, &scope, &directives, demands.as_deref());
        let Some(refusal) = refusal else { return Ok(()) };
        if let Some(asked) = self.asked(who).await? {
            asked.settle(&Run::default());
        }
        let about = About::of(&decision, view.bundle.matrix(), profile.facts.images);
        let means = Means { demands, ..Means::default() };
        let mut settlement = Settlement::open(inner, Subject { admission, decision, features, about }, means);
        Err(Failure::Engine(Box::new(settlement.failed(refusal))))
    }
}
