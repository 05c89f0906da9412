//! Who asks and how things stand, for the policies: only what some rule reads is found out.

use crate::admit::Gate;
use crate::answer::Admission;
use crate::breaker::Circuit;
use crate::history::Conversation;
use crate::who::Who;
use crate::{Inner, View};
use policies::{Around, Brownout, Budget, BudgetState, History, ModelState, ProviderState, Status, System};
use std::collections::HashMap;
use std::sync::Arc;
use types::expr::Scope;
use types::limits::{Limit, Metric, Pressure, Standing};
use types::privacy::Detector;
use types::{ChatRequest, ModelIx};

/// What the policies of a configuration ask for; found out once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asks {
    pub(crate) history: bool,
    budget: bool,
    system: bool,
    detector: bool,
    injection: bool,
    providers: Vec<String>,
    /// The models of which predicates read how they are, by their identifiers.
    models: Vec<Arc<str>>,
    /// Some rule may say that content is masked, or not recorded.
    pub(crate) masks: bool,
}

impl Asks {
    /// Makes ready what their first request would have to wait for: the patterns of personal data and secrets, where
    /// rules look for these or mask them. Compiling them takes tens of milliseconds.
    pub(crate) fn warm(&self, detector: &dyn Detector) {
        if self.detector || self.masks {
            // A search makes the caches of the patterns, too.
            detector.find("a text without any", &types::privacy::Entity::ALL);
            if self.injection {
                detector.injection("a text without any");
            }
        }
    }

    /// What either of two configurations asks for. Looking into texts is not part of it: each does so with patterns of
    /// its own.
    pub(crate) fn and(&self, other: &Asks) -> Self {
        fn all<T: Clone + PartialEq>(some: &[T], more: &[T]) -> Vec<T> {
            let new = more.iter().filter(|name| !some.contains(name));
            some.iter().chain(new).cloned().collect()
        }
        Asks {
            history: self.history || other.history,
            budget: self.budget || other.budget,
            system: self.system || other.system,
            providers: all(&self.providers, &other.providers),
            models: all(&self.models, &other.models),
            ..self.clone()
        }
    }

    /// How things stood around a request, for policies that look for values in it with these patterns.
    pub(crate) fn with_patterns(&self, around: &Around, detector: &Arc<dyn Detector>) -> Around {
        Around { detector: self.detector.then(|| detector.clone()), ..around.clone() }
    }

    /// What these policies read.
    pub(crate) fn of(policies: &policies::PolicySet) -> Self {
        let reads = policies.reads();
        let root = |name: &str| reads.iter().any(|p| p.split('.').next() == Some(name));
        let masking = |verb: &String| ["redact", "log"].contains(&verb.as_str());
        let provider = |p: &&str| Some(p.strip_prefix("provider(\"")?.strip_suffix("\")")?.to_owned());
        Asks {
            history: root("history"),
            budget: root("budget"),
            system: root("system"),
            detector: root("input") || root("response"),
            injection: reads.contains("input.injection_score") || reads.contains("input"),
            providers: reads.iter().filter_map(provider).collect(),
            models: policies.watched_models().into_iter().map(Arc::from).collect(),
            masks: policies.listing(0).iter().any(|l| l.verbs.iter().any(masking)),
        }
    }
}

/// Who asks and how things stand, as far as these policies ask. `note`: the request comes in earnest, and later ones are
/// told of it.
pub(crate) async fn around(
    inner: &Inner,
    view: &View,
    asks: &Asks,
    admission: &Admission,
    turn: Option<Conversation>,
    note: bool,
) -> Around {
    let who = &*admission.who;
    let mut around = Around {
        tenant: who.tenant.clone(),
        key: who.key.clone(),
        headers: admission.headers.clone(),
        ..Around::default()
    };
    if let Some(turn) = turn {
        around.history = if note { inner.memory.begins(turn) } else { inner.memory.before(turn) };
    }
    if asks.budget && who.budgeted {
        around.budget = budget(inner, who).await;
    }
    if asks.system {
        around.system = system(&inner.gate);
    }
    if asks.detector {
        around.detector = Some(view.bundle.detector.clone());
    }
    if !asks.providers.is_empty() {
        let states: HashMap<String, ProviderState> =
            asks.providers.iter().map(|name| (name.clone(), state(inner, view, name))).collect();
        around.providers = Some(Arc::new(move |name: &str| states.get(name).copied().unwrap_or_default()));
    }
    if !asks.models.is_empty() {
        let matrix = view.bundle.matrix();
        let state = |id: &Arc<str>| Some((Arc::clone(id), model_state(inner, view, matrix.find(id)?)));
        let states: HashMap<Arc<str>, ModelState> = asks.models.iter().filter_map(state).collect();
        around.models = Some(Arc::new(move |id: &str| states.get(id).copied().unwrap_or_default()));
    }
    around
}

/// What rules see of the request of a run, to whom things stand as they do now: a run may last for days. What came before
/// it in its conversation is what had come when it was decided.
pub(crate) async fn of_run(
    inner: &Inner,
    view: &View,
    admission: &Admission,
    (request, history): (&Arc<ChatRequest>, History),
) -> Scope {
    let unix_ms = inner.clock.unix_ms();
    let around = around(inner, view, &view.bundle.asks, admission, None, false).await;
    let around = Around { history, ..around };
    let profile = profiler::profile(request);
    policies::scope(&policies::Inputs { request, profile: &profile, around: &around, unix_ms })
}

fn system(gate: &Gate) -> System {
    /// Share of the places from which on a brownout is heavy.
    const HEAVY: f64 = 0.95;
    let load = gate.in_flight() as f64 / gate.max().max(1) as f64;
    let brownout = match gate.in_brownout() {
        false => Brownout::None,
        true if load < HEAVY => Brownout::Light,
        true => Brownout::Heavy,
    };
    System { brownout, load }
}

/// How the money limits of the tenant and the key stand; the tightest of each counts, and the one that ends first.
async fn budget(inner: &Inner, who: &Who) -> Budget {
    let Some(store) = &inner.limits else { return Budget::default() };
    let money: Vec<Limit> =
        who.principal.limits.iter().filter(|l| l.metric == Metric::Usd).cloned().collect();
    stands(&store.standing(who.counted().0, &money).await)
}

fn stands(all: &[Standing]) -> Budget {
    let mut budget = Budget::default();
    for s in all {
        let left = s.left() as f64 / 1e9;
        let least = |slot: Option<f64>| Some(slot.map_or(left, |l: f64| l.min(left)));
        if s.limit.holder.starts_with("key:") {
            budget.key_remaining_usd = least(budget.key_remaining_usd);
        } else {
            let ratio = s.ratio();
            budget.tenant_remaining_usd = least(budget.tenant_remaining_usd);
            budget.tenant_spent_ratio = Some(budget.tenant_spent_ratio.map_or(ratio, |r: f64| r.max(ratio)));
        }
        let ordinary = s.ordinary_left() as f64 / 1e9;
        budget.ordinary_remaining_usd =
            Some(budget.ordinary_remaining_usd.map_or(ordinary, |l: f64| l.min(ordinary)));
        if let Some(hours) = s.runs_out_in().map(|d| d.as_secs_f64() / 3_600.0) {
            budget.forecast_exhausted_h =
                Some(budget.forecast_exhausted_h.map_or(hours, |h: f64| h.min(hours)));
        }
        budget.state = budget.state.max(match s.pressure() {
            Pressure::Green => BudgetState::Green,
            Pressure::Amber => BudgetState::Amber,
            Pressure::Red => BudgetState::Red,
        });
    }
    budget
}

/// How a provider is: by the breakers of its models that can be called, and by what was seen of them.
fn state(inner: &Inner, view: &View, name: &str) -> ProviderState {
    let matrix = view.bundle.matrix();
    let own: Vec<ModelIx> = matrix
        .indices()
        .filter(|ix| matrix.provider_of(*ix).is_some_and(|p| p.id == name))
        .filter(|ix| view.availability.get(usize::from(ix.0)) == Some(&types::matrix::Availability::Ready))
        .collect();
    let open = own.iter().filter(|ix| matches!(view.circuit(**ix), Circuit::Open(_))).count();
    let troubled = own.iter().any(|ix| view.circuit(*ix) != Circuit::Closed);
    let status = match () {
        () if own.is_empty() || open == own.len() => Status::Offline,
        () if troubled => Status::Degraded,
        () => Status::Healthy,
    };
    let statistics = inner.statistics.load();
    let seen = own.iter().filter_map(|ix| {
        let model = matrix.model(*ix)?;
        Some((statistics.model(&model.id)?, model.prior.ttft_ms))
    });
    let slowest = seen.map(|(s, prior)| s.ttft.p95(prior)).reduce(f64::max);
    let left = own.iter().filter_map(|ix| view.reach.provider.quota(*ix)).map(|q| q.ratio).reduce(f64::min);
    let now = tokio::time::Instant::now();
    let breakers = own.iter().filter_map(|ix| view.reach.breakers.get(usize::from(ix.0)));
    let (calls, failures) = breakers
        .map(|b| b.counts(now))
        .fold((0_u32, 0_u32), |(c, f), (more, failed)| (c.saturating_add(more), f.saturating_add(failed)));
    let error_rate = (calls > 0).then(|| f64::from(failures) / f64::from(calls));
    // Of all its models, those included that can be called no more.
    let of_it = |ix: &ModelIx| matrix.provider_of(*ix).is_some_and(|p| p.id == name);
    let all = matrix.indices().filter(of_it).filter_map(|ix| view.reach.breakers.get(usize::from(ix.0)));
    let in_flight = all.map(|b| b.room().in_flight()).fold(0, u32::saturating_add);
    ProviderState { status, error_rate, p95_ttft_ms: slowest, in_flight, quota_ratio: left }
}

/// How a model is: by its breaker, and by what was seen of it.
fn model_state(inner: &Inner, view: &View, ix: ModelIx) -> ModelState {
    let at = usize::from(ix.0);
    let ready = view.availability.get(at) == Some(&types::matrix::Availability::Ready);
    let health = match view.circuit(ix) {
        Circuit::HalfOpen if ready => Status::Degraded,
        Circuit::Closed if ready => Status::Healthy,
        _ => Status::Offline,
    };
    let model = view.bundle.matrix().model(ix);
    let statistics = inner.statistics.load();
    let seen = model.and_then(|m| Some(statistics.model(&m.id)?.ttft.p95(m.prior.ttft_ms)));
    let counts = view.reach.breakers.get(at).map(|b| b.counts(tokio::time::Instant::now()));
    let error_rate =
        counts.filter(|(calls, _)| *calls > 0).map(|(c, failed)| f64::from(failed) / f64::from(c));
    let quota_ratio = view.reach.provider.quota(ix).map(|q| q.ratio);
    ModelState { health, error_rate, p95_ttft_ms: seen, quota_ratio }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use types::limits::Window;

    #[tokio::test(start_paused = true)]
    async fn load_is_the_share_of_places_that_are_taken() {
        let gate = Gate::new(10, (0, Duration::ZERO));
        let enter = |n: usize| (0..n).map(|_| gate.enter(1.0).ok().unwrap()).collect::<Vec<_>>();
        let check = |load: f64, brownout: Brownout| assert_eq!(system(&gate), System { brownout, load });
        check(0.0, Brownout::None);
        let mut held = enter(9);
        check(0.9, Brownout::None);
        tokio::time::advance(Duration::from_secs(5)).await;
        held.extend(enter(1));
        check(1.0, Brownout::Heavy);
        held.truncate(9);
        check(0.9, Brownout::Light);
        held.truncate(4);
        check(0.4, Brownout::Light);
        tokio::time::advance(Duration::from_secs(10)).await;
        check(0.4, Brownout::None);
    }

    #[test]
    fn the_tightest_budget_and_the_first_to_end_count() {
        let standing = |holder: &str, used: f64, pace: Option<f64>| Standing {
            limit: Limit::rate(holder, Metric::Usd, 10.0, Window::Day).unwrap(),
            used: (used * 1e9) as u64,
            in_work: 0,
            at_most: 0,
            resets_in: Duration::from_secs(36_000),
            pace_per_h: pace.map(|p| p * 1e9),
        };
        assert_eq!(stands(&[]), Budget::default());
        let calm = stands(&[standing("tenant:a", 2.0, Some(0.1)), standing("key:k", 4.0, None)]);
        assert_eq!((calm.state, calm.forecast_exhausted_h), (BudgetState::Green, None));
        assert_eq!((calm.tenant_remaining_usd, calm.key_remaining_usd), (Some(8.0), Some(6.0)));
        let hurried = stands(&[standing("tenant:a", 2.0, Some(2.0)), standing("key:k", 6.0, Some(2.0))]);
        assert_eq!((hurried.state, hurried.forecast_exhausted_h), (BudgetState::Amber, Some(2.0)));
        let over = stands(&[standing("tenant:a", 2.0, None), standing("tenant:a", 9.6, None)]);
        assert_eq!((over.state, over.tenant_remaining_usd), (BudgetState::Red, Some(0.4)));
        let mut held = standing("tenant:a", 7.0, None);
        held.limit = held.limit.reserving(0.25);
        let held = stands(&[held]);
        assert_eq!(
            (held.state, held.tenant_remaining_usd, held.ordinary_remaining_usd),
            (BudgetState::Amber, Some(3.0), Some(0.5))
        );
    }
}
