//! For whom a request's money went, and what the most capable candidate would have taken: what reports are made of.

use crate::route::reference;
use crate::who::Who;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::decision::Decision;
use types::matrix::{Matrix, Price};
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
        let priced = |model: &Arc<str>| {
            let ix = matrix.find(model)?;
            Some((model.clone(), reference::price(matrix.model(ix)?, matrix.provider_of(ix)?)?))
        };
        About { images, reference: decision.reference.as_ref().and_then(priced) }
    }
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
        late_ms: 0,
        beside: Vec::new(),
        reference: about.reference.as_ref().map(|(model, price)| ReferenceCost {
            model: model.clone(),
            cost_usd: answered(run, status).map_or(Usd::ZERO, |usage| price.cost(&usage)),
        }),
        counters: Vec::new(),
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
