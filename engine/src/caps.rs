//! What the caps of policies, the request and the server leave of time, calls and parameters.

use crate::Inner;
use crate::answer::Admission;
use crate::calls::Ceilings;
use crate::ledger::Limits;
use crate::premium;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::chat::ChatRequest;
use types::directives::{Directives, Escalate, Set};
use types::matrix::Price;
use workflows::Overrides;

/// Longest time of a request whatever its workflow says: longer ones are runs.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The shortest of all times that are allowed. `wall`: what the workflow says, which holds in the place of what is
/// usual, be it more or less.
pub(crate) fn deadline(
    inner: &Inner,
    admission: &Admission,
    request: &ChatRequest,
    directives: &Directives,
    wall: Option<Duration>,
) -> Instant {
    let capped = directives.cap_latency.as_ref().map(|s| s.value);
    let usual = inner.config.usual_deadline(request.stream, admission.deadline);
    let allowed = wall.map_or(usual, |w| w.min(LONGEST));
    let named = [admission.deadline, request.options.max_latency, capped].into_iter().flatten();
    admission.received + named.fold(allowed, Duration::min)
}

/// Values that policies give the workflow's own variables.
pub(crate) fn vars(d: &Directives) -> Vec<(String, serde_json::Value)> {
    let set = d.further.iter().flat_map(|f| &f.vars);
    set.map(|(name, set)| (name.clone(), set.value.clone())).collect()
}

/// What policies say in the place of what the workflow's nodes do.
pub(crate) fn overrides(d: &Directives) -> Overrides {
    let Some(f) = d.further.as_deref() else { return Overrides::default() };
    let samples = |s: &Option<Set<u32>>| s.as_ref().map(|s| s.value);
    Overrides {
        fanout: samples(&f.fanout),
        cap_fanout: samples(&f.cap_fanout),
        hedge: f.hedge.as_ref().map(|s| s.value),
        repair: f.repair.as_ref().map(|s| s.value.clone()),
    }
}

/// What the policies' caps allow in every call.
pub(crate) fn ceilings(d: &Directives) -> Ceilings {
    let further = d.further.as_deref();
    let models = |e: &Set<Escalate>| match &e.value {
        Escalate::Models(set) => Some(Arc::new(set.clone())),
        Escalate::Workflow(_) => None,
    };
    Ceilings {
        max_tokens: d.cap_max_tokens.as_ref().map(|c| c.value),
        temperature: d.cap_temperature.as_ref().map(|c| c.value),
        attempts: further.and_then(|f| f.cap_attempts.as_ref()).map(|c| c.value),
        retry: further.and_then(|f| f.retry.as_ref()).map(|r| r.value.clone()),
        escalate: further.and_then(|f| f.escalate.as_ref()).and_then(models),
        premium: premium::said(d),
        assumed: assumed(d),
        cache: further.and_then(|f| f.cache.as_ref()).map(|c| c.value),
        limits: further.map(|f| f.limits.as_slice().into()).unwrap_or_default(),
    }
}

/// What the whole tree may use at most.
pub(crate) fn limits(d: &Directives) -> Limits {
    let further = d.further.as_deref();
    Limits {
        calls: further.and_then(|f| f.cap_calls.as_ref()).map(|c| c.value),
        tokens: further.and_then(|f| f.cap_tokens.as_ref()).map(|c| c.value),
        usd: None,
        fresh: None,
    }
}

/// What models cost whose price is not known.
pub(crate) fn assumed(d: &Directives) -> Option<Price> {
    let price = d.further.as_ref()?.assume_price.as_ref()?.value;
    Some(Price::new(price.input, price.output))
}
