//! Limits that count only calls of some models: which they are for one request, and which models they leave out.

use super::each::is_shared;
use super::{Count, SHORTEST, least, nanos, refusal, shortest};
use crate::error::Error;
use crate::route::matches_any;
use crate::who::Who;
use crate::{Inner, View};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use types::chat::ChatRequest;
use types::directives::{LimitRule, Per, Pools, RuleId, Set};
use types::limits::{Amount, Limit, Metric};
use types::matrix::{Availability, Matrix, ModelIx, ModelSet};
use types::profile::Facts;

/// A limit that not every call falls under.
#[derive(Clone, Debug)]
pub(crate) enum Partial {
    /// Of a key or tenant: calls of these models together.
    Together(ModelSet, Limit),
    /// Of a policy: every one of these models by itself.
    Each(ModelSet, RuleId, LimitRule),
}

impl Partial {
    /// Whether its models count together.
    const fn is_shared(&self) -> bool {
        matches!(self, Partial::Together(..))
    }

    /// The limit as it counts calls of a model; `None` = it does not.
    pub(super) fn of(&self, ix: ModelIx, model: &str) -> Option<Limit> {
        match self {
            Partial::Together(models, limit) => models.contains(ix).then(|| limit.clone()),
            Partial::Each(models, ..) if !models.contains(ix) => None,
            Partial::Each(_, rule, LimitRule { over, metric, amount, window, .. }) => {
                let holder = format!("{}rule:{rule}:model={model}", over.prefix());
                Limit::rate(&holder, *metric, *amount, *window)
            }
        }
    }
}

/// Those of a key, its tenant, and policies, but for those on what one request may use, which its ledger keeps. Who is not `premium` is counted against what is not held back.
pub(crate) fn partial(
    who: &Who,
    (matrix, pools): (&Matrix, &Pools),
    tags: &BTreeMap<String, String>,
    rules: &[Set<LimitRule>],
    premium: bool,
) -> Vec<Partial> {
    let own =
        who.principal.partial.iter().filter(|(q, _)| q.model.is_some() && super::labelled(q, who, tags));
    let together = own.map(|(quota, limit)| {
        let named = quota.model.as_slice();
        let models = matrix.indices().filter(|ix| matches_any(named, *ix, pools, matrix)).collect();
        Partial::Together(models, super::counts(limit, premium))
    });
    let each = rules.iter().filter(|r| matches!(r.value.per, Per::Model) && is_shared(r));
    let each = each.map(|r| {
        let models = super::each::models_of(&r.value, (matrix, pools));
        Partial::Each(models, r.rule.clone(), r.value.clone())
    });
    together.chain(each).collect()
}

/// A model that may not be called now.
#[derive(Clone, Debug)]
struct Full {
    ix: ModelIx,
    /// The least that it needs of the limit that stands against it.
    needs: u64,
    /// What a record says of that.
    detail: String,
    /// What a client is told.
    error: Error,
}

impl Full {
    /// How long it may not; without end where the limit never has room for it.
    fn wait(&self) -> Duration {
        self.error.retry_after.unwrap_or(Duration::MAX)
    }
}

/// Models that may not be called now, each with the limit that stands against it, and what a client is told of that.
#[derive(Clone, Debug, Default)]
pub(crate) struct UsedUp(Vec<Full>);

/// No limit of a model stands against anything.
pub(crate) static NOTHING_USED_UP: UsedUp = UsedUp(Vec::new());

impl UsedUp {
    /// Whether no limit leaves any out.
    pub(crate) const fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    /// Why a limit leaves a model out; `None` = none does.
    pub(crate) fn of(&self, ix: ModelIx) -> Option<&str> {
        self.0.iter().find(|full| full.ix == ix).map(|full| &*full.detail)
    }

    /// The refusal where only some of these models would do; `None` = none of those is left out.
    pub(crate) fn error(&self, of: impl Fn(ModelIx) -> bool) -> Option<Error> {
        let all = self.0.iter().filter(|full| of(full.ix));
        // What never has room is told where nothing else is; of one limit, what the cheapest of them needs.
        let first = all.min_by_key(|full| (full.wait(), full.needs));
        first.map(|full| full.error.clone())
    }
}

/// A request, and the limits that count the calls for it.
#[derive(Clone, Copy)]
pub(crate) struct Counted<'a> {
    pub(crate) request: &'a ChatRequest,
    pub(crate) facts: &'a Facts,
    /// Longest answer that policies allow, in tokens.
    pub(crate) cap: Option<u32>,
    /// Limits that count only calls of some models.
    pub(crate) partial: &'a [Partial],
    /// Limits on money that count every call.
    pub(crate) money: &'a [Limit],
}

/// Which models' limits have no room for the shortest useful answer; and for which models limits on money have none that
/// count every call. What is only set aside for requests in work comes back: calls wait for it.
pub(crate) async fn used_up(
    inner: &Inner,
    view: &View,
    who: &Who,
    Counted { request, facts, cap, partial, money }: Counted<'_>,
) -> UsedUp {
    let Some(store) = &inner.limits else { return UsedUp::default() };
    let matrix = view.bundle.matrix();
    let ready = |ix: ModelIx| view.availability.get(usize::from(ix.0)) == Some(&Availability::Ready);
    let models = || matrix.indices().filter(|ix| ready(*ix)).filter_map(|ix| Some((ix, matrix.model(ix)?)));
    // The models, each with the place of the limit that it falls under.
    let (mut limits, mut under) = (Vec::new(), Vec::new());
    for p in partial {
        let first = limits.len();
        for (ix, model) in models() {
            let Some(limit) = p.of(ix, &model.id) else { continue };
            if !p.is_shared() || limits.len() == first {
                limits.push(limit);
            }
            under.push((ix, limits.len().saturating_sub(1)));
        }
    }
    for limit in money {
        let place = limits.len();
        limits.push(limit.clone());
        under.extend(models().map(|(ix, _)| (ix, place)));
    }
    if limits.is_empty() {
        return UsedUp::default();
    }
    let standing = super::standing(store, &who.tenant_id, &limits).await;
    let needs = |ix: ModelIx| {
        let (usd, output) = match (matrix.model(ix), matrix.provider_of(ix)) {
            (Some(model), Some(provider)) => {
                (nanos(least((model, provider), request, facts, cap)), shortest(model, request, cap))
            }
            _ => (0, SHORTEST),
        };
        let tokens = u64::from(facts.most_input_tokens).saturating_add(u64::from(output));
        Amount { usd, tokens, ..Count::Request.amount() }
    };
    let mut full: Vec<Full> = Vec::new();
    for (ix, place) in under {
        let Some(stands) = standing.get(place) else { continue };
        let metric = stands.limit.metric;
        let comes_back = if metric == Metric::Concurrency { 0 } else { stands.in_work };
        let room = stands.left().saturating_add(comes_back);
        let least = needs(ix);
        let needs = least.of(metric);
        if room >= needs {
            continue;
        }
        // Asked for no more than that, the limit says how long it has no room.
        let limits: Arc<[Limit]> = Arc::from([stands.limit.clone()]);
        match store.reserve(&stands.limit.whose(&who.tenant_id), &limits, least).await {
            Ok(there_is) => store.settle(there_is, Amount::default()),
            Err(refused) => {
                let error = refusal(store, who, (refused, least)).await;
                // Records name nobody by a word of a request.
                let short = error.short.as_ref().map(|short| short.unnamed().to_string());
                let detail = short.unwrap_or_else(|| error.to_string());
                let found = Full { ix, needs, detail, error };
                // Of several that stand against a model, the one that does so longest keeps it out.
                match full.iter_mut().find(|full| full.ix == ix) {
                    Some(known) if found.wait() > known.wait() => *known = found,
                    Some(_) => {}
                    None => full.push(found),
                }
            }
        }
    }
    UsedUp(full)
}
