//! What a choice is compared with: the most capable model that it could have been.

use super::candidates::Estimated;
use std::sync::Arc;
use types::matrix::{Matrix, Model, ModelIx, Price, Provider, Tier};
use types::profile::Cell;

/// Free of charge.
const NOTHING: Price = Price::new(0.0, 0.0);

/// What a model costs here; `None` = nobody knows.
pub(crate) fn price(model: &Model, provider: &Provider) -> Option<Price> {
    if provider.tier == Tier::Free { Some(NOTHING) } else { model.price }
}

/// The most capable of what arms come to: the highest quality tier, then the best belief before evidence for this kind of
/// task; where both are alike the cheapest, so that nothing is claimed as saved that a choice among equals would have
/// saved. An arm without a model, of a workflow that chooses for itself, may come to any that is eligible.
pub(super) fn reference(
    arms: impl Iterator<Item = Option<ModelIx>> + Clone,
    eligible: &[Estimated],
    matrix: &Matrix,
    cell: Cell,
) -> Option<Arc<str>> {
    let open = arms.clone().any(|model| model.is_none());
    let any = eligible.iter().filter(|_| open).map(|e| e.ix);
    let candidates =
        arms.flatten().chain(any).filter_map(|ix| Some((matrix.model(ix)?, matrix.provider_of(ix)?)));
    let belief = |m: &Model| m.prior.success(cell.family, cell.sub);
    let dear = |m: &Model, p: &Provider| price(m, p).map_or(f64::INFINITY, |p| p.input + p.output);
    let best = candidates.max_by(|(a, pa), (b, pb)| {
        (a.quality_tier.cmp(&b.quality_tier))
            .then(belief(a).total_cmp(&belief(b)))
            .then(dear(b, pb).total_cmp(&dear(a, pa)))
    });
    best.map(|(model, _)| model.id.clone())
}
