//! What a choice is compared with: the most capable model that it could have been.

use super::candidates::Estimated;
use std::sync::Arc;
use types::matrix::{Matrix, Model, Price, Provider, Tier};

/// Free of charge.
const NOTHING: Price = Price::new(0.0, 0.0);

/// What a model costs here; `None` = nobody knows.
pub(crate) fn price(model: &Model, provider: &Provider) -> Option<Price> {
    if provider.tier == Tier::Free { Some(NOTHING) } else { model.price }
}

/// The most capable of what arms come to: the highest quality tier, then the best belief before evidence for this kind of
/// task; where both are alike the cheapest, so that nothing is claimed as saved that a choice among equals would have
/// saved. An arm without a model, of a workflow that chooses for itself, may come to any that is eligible.
pub(super) fn reference<'a>(
    arms: impl Iterator<Item = Option<&'a Estimated>> + Clone,
    eligible: &'a [Estimated],
    matrix: &Matrix,
) -> Option<Arc<str>> {
    let open = arms.clone().any(|model| model.is_none());
    let any = eligible.iter().filter(|_| open);
    let dear = |e: &Estimated| {
        let known = matrix.model(e.ix).zip(matrix.provider_of(e.ix)).and_then(|(m, p)| price(m, p));
        known.map_or(f64::INFINITY, |p| p.input + p.output)
    };
    let best = arms.flatten().chain(any).max_by(|a, b| {
        (a.tier.cmp(&b.tier))
            .then(a.estimate.success.total_cmp(&b.estimate.success))
            .then_with(|| dear(b).total_cmp(&dear(a)))
    });
    best.and_then(|e| matrix.model(e.ix)).map(|model| model.id.clone())
}
