//! Limits that count only calls of some models: which they are for one request, and which models they leave out.

use super::each::is_shared;
use super::told::refusal_of;
use super::{Count, Counters, SHORTEST, foresee, least, nanos, shortest};
use crate::error::Error;
use crate::route::matches_any;
use crate::who::Who;
use crate::{Inner, View};
use std::collections::BTreeMap;
use std::time::Duration;
use types::chat::ChatRequest;
use types::directives::{LimitRule, Per, Pools, RuleId, Set};
use types::limits::{Amount, Foreseen, Inquiry, Limit, Metric, Refused};
use types::matrix::{Availability, Matrix, Model, ModelIx, ModelSet};
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
    if partial.is_empty() && money.is_empty() {
        return UsedUp::default();
    }
    let matrix = view.bundle.matrix();
    let ready = |ix: ModelIx| view.availability.get(usize::from(ix.0)) == Some(&Availability::Ready);
    let least = |ix: ModelIx, model: &Model| {
        let (usd, output) = match matrix.provider_of(ix) {
            Some(provider) => {
                (nanos(least((model, provider), request, facts, cap)), shortest(model, request, cap))
            }
            None => (0, SHORTEST),
        };
        let tokens = u64::from(facts.most_input_tokens).saturating_add(u64::from(output));
        Amount { usd, tokens, ..Count::Request.amount() }
    };
    let models = matrix.indices().filter(|ix| ready(*ix)).filter_map(|ix| Some((ix, matrix.model(ix)?)));
    let models: Vec<Needs<'_>> =
        models.map(|(ix, model)| Needs { ix, id: &model.id, least: least(ix, model) }).collect();
    found(store, who, Questions::of(&models, partial, money)).await
}

/// What a model needs at the least.
struct Needs<'a> {
    ix: ModelIx,
    id: &'a str,
    least: Amount,
}

/// What is asked of limits, for all models at once.
#[derive(Default)]
struct Questions {
    /// Each limit, and the amounts that models need of it.
    asked: Vec<Inquiry>,
    /// For each of the amounts, whose it is.
    of: Vec<Vec<(ModelIx, Amount)>>,
}

impl Questions {
    fn of(models: &[Needs<'_>], partial: &[Partial], money: &[Limit]) -> Questions {
        let mut all = Questions::default();
        for p in partial {
            let first = all.asked.len();
            for needs in models {
                let Some(limit) = p.of(needs.ix, needs.id) else { continue };
                if !p.is_shared() || all.asked.len() == first {
                    all.limit(limit);
                }
                all.ask(needs);
            }
        }
        for limit in money {
            all.limit(limit.clone());
            models.iter().for_each(|needs| all.ask(needs));
        }
        all
    }

    fn limit(&mut self, limit: Limit) {
        self.asked.push(Inquiry { limit, amounts: Vec::new() });
        self.of.push(Vec::new());
    }

    /// Asks the last limit for what a model needs.
    fn ask(&mut self, Needs { ix, least, .. }: &Needs<'_>) {
        if let (Some(asked), Some(of)) = (self.asked.last_mut(), self.of.last_mut()) {
            asked.amounts.push(least.of(asked.limit.metric));
            of.push((*ix, *least));
        }
    }
}

/// The models against which limits stand.
async fn found(store: &Counters, who: &Who, all: Questions) -> UsedUp {
    let Questions { asked, of } = all;
    let said = foresee(store, &who.tenant_id, asked).await;
    let mut full: Vec<Full> = Vec::new();
    for (Foreseen { standing, reached }, of) in said.into_iter().zip(of) {
        let short = reached.into_iter().zip(of).filter_map(|(reached, of)| Some((reached?, of)));
        for (reached, (ix, least)) in short {
            let metric = reached.limit.metric;
            let needs = least.of(metric);
            // A place that is taken is none, however soon it comes back.
            if metric != Metric::Concurrency && needs <= reached.free {
                continue;
            }
            let error = refusal_of(who, (Refused::Reached(vec![reached]), least), Some(standing.clone()));
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
    UsedUp(full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::BoxFuture;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use stores::limits::Counters;
    use types::Clock;
    use types::limits::{Claim, LimitStore, Reservation, Standing, Window};

    /// Counters, and how often they were asked anything.
    #[derive(Default)]
    struct Asked {
        counters: Counters,
        times: AtomicU32,
    }

    impl Asked {
        fn ask(&self) -> &Counters {
            self.times.fetch_add(1, Ordering::Relaxed);
            &self.counters
        }
    }

    impl LimitStore for Asked {
        fn reserve_all(
            &self,
            claims: Vec<Claim>,
            ms: i64,
        ) -> BoxFuture<'_, Result<Vec<Reservation>, Refused>> {
            self.ask().reserve_all(claims, ms)
        }
        fn settle(&self, reservation: Reservation, used: Amount) {
            self.ask().settle(reservation, used);
        }
        fn restore(&self, tenant: &Arc<str>, limit: &Limit, used: u64, ms: i64) {
            self.counters.restore(tenant, limit, used, ms);
        }
        fn standing(&self, tenant: &Arc<str>, limits: &[Limit], ms: i64) -> BoxFuture<'_, Vec<Standing>> {
            self.ask().standing(tenant, limits, ms)
        }
        fn foresee(&self, tenant: &Arc<str>, asked: &[Inquiry], ms: i64) -> BoxFuture<'_, Vec<Foreseen>> {
            self.ask().foresee(tenant, asked, ms)
        }
    }

    const MODELS: u16 = 300;

    /// However many models there are and however little is left for them, limits are asked once, and those that all tenants
    /// share once more.
    #[tokio::test]
    async fn one_question_is_asked_for_all_models() {
        let (store, who) = (Arc::new(Asked::default()), Who::open());
        let counters = super::Counters::new(store.clone(), Clock::new(|| 0));
        let ids: Vec<String> = (0..MODELS).map(|i| format!("p/m{i}")).collect();
        let least = |i: u16| Amount {
            usd: 100 + u64::from(i),
            tokens: 10,
            requests: 1,
            concurrency: 1,
            ..Amount::default()
        };
        let needs = |(i, id): (u16, &'static str)| Needs { ix: ModelIx(i), id, least: least(i) };
        let ids: &'static [String] = ids.leak();
        let models: Vec<Needs<'_>> = (0..MODELS).zip(ids).map(|(i, id)| needs((i, id))).collect();
        let limit = |holder: &str, metric, n: f64| Limit::rate(holder, metric, n, Window::Day).unwrap();
        let all: ModelSet = (0..MODELS).map(ModelIx).collect();
        let each = |over| LimitRule {
            per: Per::Model,
            over,
            model: None,
            metric: Metric::Tokens,
            amount: 1_000.0,
            window: Window::Day,
        };
        let key = limit("key:k/model:*", Metric::Usd, 300e-9);
        let (own, shared) = (each(types::directives::Over::Tenant), each(types::directives::Over::All));
        let partial =
            [Partial::Together(all.clone(), key.clone()), Partial::Each(all.clone(), "own".into(), own)];
        let with_shared: Vec<Partial> =
            partial.iter().cloned().chain([Partial::Each(all, "shared".into(), shared)]).collect();
        let money = [limit("key:k", Metric::Usd, 1.0)];
        // Of the 300 of the key 100 are left: one model needs no more.
        store.restore(&who.tenant_id, &key, 200, 0);
        for (partial, questions) in [(&partial[..], 1), (&with_shared, 2)] {
            store.times.store(0, Ordering::Relaxed);
            let full = found(&counters, &who, Questions::of(&models, partial, &money)).await;
            assert_eq!(store.times.load(Ordering::Relaxed), questions);
            let left: Vec<u16> = (0..MODELS).filter(|i| full.of(ModelIx(*i)).is_none()).collect();
            assert_eq!(left, [0]);
            let want = "the limit of 0.0000003 USD per day for key:k/model:* (0.0000002 USD used, at least 0.000000101 USD \
                        needed)";
            assert_eq!(full.of(ModelIx(1)), Some(want));
            let error = full.error(|ix| ix.0 > 1).unwrap();
            assert_eq!(error.short.unwrap().needs, Some(102), "the cheapest of those that would do");
        }
    }

    /// What requests in work have set aside comes back: who only waits for that is not left out, who needs a place is.
    #[tokio::test]
    async fn what_comes_back_leaves_no_model_out() {
        let (store, who) = (Arc::new(Asked::default()), Who::open());
        let counters = super::Counters::new(store.clone(), Clock::new(|| 0));
        let needs = |i: u16, usd| Needs {
            ix: ModelIx(i),
            id: "p/m",
            least: Amount { usd, requests: 1, concurrency: 1, ..Amount::default() },
        };
        let models = [needs(0, 50), needs(1, 90)];
        let money = Limit::rate("key:k", Metric::Usd, 100e-9, Window::Day).unwrap();
        let places = Limit::rate("key:k/model:p/m", Metric::Concurrency, 1.0, Window::Sliding(1)).unwrap();
        store.restore(&who.tenant_id, &money, 20, 0);
        let limits = Arc::from([money.clone(), places.clone()]);
        let amount = Amount { usd: 60, concurrency: 1, ..Amount::default() };
        let taken = store.reserve(&who.tenant_id, &limits, amount, 0).await.unwrap();
        let check = async |partial: &[Partial], money: &[Limit], want: &[u16]| {
            let full = found(&counters, &who, Questions::of(&models, partial, money)).await;
            let left: Vec<u16> = (0..2).filter(|i| full.of(ModelIx(*i)).is_none()).collect();
            assert_eq!(left, want);
        };
        check(&[], std::slice::from_ref(&money), &[0]).await;
        let first: ModelSet = std::iter::once(ModelIx(0)).collect();
        check(&[Partial::Together(first, places)], &[], &[1]).await;
        store.settle(taken, Amount::default());
    }
}
