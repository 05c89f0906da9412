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

/// What the account of a request needs to know before its first call.
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
        refused: None,
    }
}

/// What each model was paid for, with the most that its vendor may bill.
pub(crate) fn billed(run: &Run) -> Vec<Billed> {
    let mut all: Vec<Billed> = Vec::new();
    for c in run.calls() {
        let one = Billed {
            model: c.model.clone(),
            calls: 1,
            unpriced: u32::from(c.cost_usd.is_none()),
            usage: c.usage,
            cost_usd: c.cost_usd.unwrap_or_default(),
            estimated: u32::from(c.usage.estimated),
            estimated_usd: c.cost_usd.filter(|_| c.usage.estimated).unwrap_or_default(),
            at_most: c.at_most.map(|_| c.counted()),
        };
        match all.iter_mut().find(|b| b.model == one.model) {
            Some(b) => {
                let is_cut = b.at_most.is_some() || one.at_most.is_some();
                b.at_most = is_cut.then(|| b.counted().plus(one.counted()));
                b.calls = b.calls.saturating_add(1);
                b.unpriced = b.unpriced.saturating_add(one.unpriced);
                b.usage = b.usage.plus(one.usage);
                b.cost_usd = b.cost_usd.plus(one.cost_usd);
                b.estimated = b.estimated.saturating_add(one.estimated);
                b.estimated_usd = b.estimated_usd.plus(one.estimated_usd);
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

#[cfg(test)]
mod tests {
    use super::*;
    use types::run::{AtMost, CallRecord, Purpose, Step};

    #[test]
    fn what_is_paid_counts_the_most_that_calls_which_were_cut_off_may_have_cost() {
        let call = |model: &str, usd: i64, at_most: Option<(u64, i64)>| CallRecord {
            at_most: at_most.map(|(tokens, usd)| AtMost { tokens, usd: Usd::from_nanos(usd) }),
            ..CallRecord::lost(model.into(), Purpose::Judge, Some(Usd::from_nanos(usd)), "as it may be")
        };
        let calls = vec![call("p/a", 5, None), call("p/b", 3, None), call("p/a", 2, Some((40, 30)))];
        let step = Step { calls, ..Step::new("rate", "judge", "ok") };
        let run = Run { steps: vec![step], ..Run::default() };
        let told = |all: Vec<Billed>| -> Vec<(i64, i64)> {
            all.iter().map(|b| (b.cost_usd.nanos(), b.counted().usd.nanos())).collect()
        };
        assert_eq!(told(billed(&run)), [(7, 35), (3, 3)]);
    }
}
