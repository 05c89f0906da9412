//! For whom a request's money went, and what the most capable candidate would have taken: what reports are made of.

use crate::who::Who;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::decision::Decision;
use types::matrix::{Matrix, Price, Tier};
use types::options::CLIENT_REQUEST_ID;
use types::outcome::{Account, Billed, ReferenceCost, Status};
use types::run::Run;
use types::{Usage, Usd};

/// What is known before the first call.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    /// Images in the request.
    pub(crate) images: u32,
    /// The most capable candidate and its price; `None` = there is none, or its price is unknown.
    pub(crate) reference: Option<(Arc<str>, Price)>,
}

impl About {
    pub(crate) fn of(decision: &Decision, matrix: &Matrix, images: u32) -> About {
        About { images, reference: reference(decision, matrix) }
    }
}

/// Free of charge.
const NOTHING: Price = Price::new(0.0, 0.0);

/// The most capable of the candidates that the router had to choose from: the highest quality tier, then the best
/// belief before evidence for this kind of task; where both are alike the cheapest, so that nothing is claimed as
/// saved that a choice among equals would have saved.
fn reference(decision: &Decision, matrix: &Matrix) -> Option<(Arc<str>, Price)> {
    let cell = decision.cell;
    let candidates = decision.arms.iter().filter_map(|arm| {
        let ix = matrix.find(&arm.model)?;
        let (model, provider) = (matrix.model(ix)?, matrix.provider_of(ix)?);
        let price = if provider.tier == Tier::Free { Some(NOTHING) } else { model.price };
        Some((model, price))
    });
    let dear = |p: &Option<Price>| p.map_or(f64::INFINITY, |p| p.input + p.output);
    let best = candidates.max_by(|(a, pa), (b, pb)| {
        let belief = |m: &types::matrix::Model| m.prior.success(cell.family, cell.sub);
        (a.quality_tier.cmp(&b.quality_tier))
            .then(belief(a).total_cmp(&belief(b)))
            .then(dear(pb).total_cmp(&dear(pa)))
    })?;
    Some((best.0.id.clone(), best.1?))
}

/// The labels that a request is counted by: its own, those of policies, those of its key.
pub(crate) fn tags(who: &Who, decision: &Decision) -> BTreeMap<String, String> {
    let mut tags = decision.tags.clone();
    // It names one request, and what names one is nothing to count by.
    tags.remove(CLIENT_REQUEST_ID);
    for (name, value) in who.labels() {
        tags.entry(name.clone()).or_insert_with(|| value.clone());
    }
    tags
}

/// The account of a request at its end.
pub(crate) fn account(about: &About, who: &Who, decision: &Decision, run: &Run, status: Status) -> Account {
    Account {
        key: who.principal.key_id().to_owned(),
        tags: tags(who, decision),
        images: about.images,
        calls: billed(run),
        late: Vec::new(),
        beside: Vec::new(),
        reference: about.reference.as_ref().map(|(model, price)| ReferenceCost {
            model: model.clone(),
            cost_usd: answered(run, status).map_or(Usd::ZERO, |usage| price.cost(&usage)),
        }),
    }
}

/// What each model was paid for.
pub(crate) fn billed(run: &Run) -> Vec<Billed> {
    let mut all: Vec<Billed> = Vec::new();
    for c in run.calls() {
        let one = Billed {
            model: c.model.clone(),
            calls: 1,
            unpriced: u32::from(c.cost_usd.is_none()),
            usage: c.usage,
            cost_usd: c.cost_usd.unwrap_or_default(),
        };
        match all.iter_mut().find(|b| b.model == one.model) {
            Some(b) => {
                b.calls = b.calls.saturating_add(1);
                b.unpriced = b.unpriced.saturating_add(one.unpriced);
                b.usage = b.usage.plus(one.usage);
                b.cost_usd = b.cost_usd.plus(one.cost_usd);
            }
            None => all.push(one),
        }
    }
    all
}

/// Tokens of the one call that gave the answer; `None` = nothing was delivered. Repairs, samples and judges are
/// ours, not what the other model would have been asked.
fn answered(run: &Run, status: Status) -> Option<Usage> {
    if status != Status::Delivered {
        return None;
    }
    let good = || run.calls().filter(|c| c.error.is_none());
    let own = good().filter(|c| run.served_by.as_ref().is_none_or(|m| *m == c.model)).last();
    own.or_else(|| good().last()).map(|c| c.usage)
}
