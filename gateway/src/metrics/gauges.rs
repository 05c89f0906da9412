//! What is read when somebody looks: gauges, and counters that are kept elsewhere.

use super::{Counts, Labels, counts};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::{AtomicU64, Ordering};

type Several<const N: usize> = Family<Labels<N>, Gauge<f64, AtomicU64>>;

/// Gauges that are read when somebody looks.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Open connections.
    pub connections: usize,
    /// Requests in work.
    pub in_flight: usize,
    /// Requests that wait for a place.
    pub waiting: usize,
    /// Models that can be called.
    pub candidates: usize,
    /// Tasks by name.
    pub tasks: Vec<(&'static str, usize)>,
    /// Bundles that have a part in serving: name and state.
    pub bundles: Vec<(String, &'static str)>,
    /// What came so far of the bundle that is tried.
    pub trial: Option<engine::shadow::Report>,
    /// What came of the work after responses.
    pub late: engine::LateCounts,
    /// What came of the runs beside live ones.
    pub beside: engine::LateCounts,
    /// What came of the wish for retries and hedges.
    pub extra: engine::ExtraCounts,
    /// What only improves is left out.
    pub brownout: bool,
    /// The configuration files have errors, so the bundle in force stays.
    pub configuration_refused: bool,
    /// Policies that reached their limits too often: by file, how often they were put away, and whether they are.
    pub put_away: Vec<(String, u64, bool)>,
    /// By rule, how often a selector that goes by how models are named none.
    pub named_none: Vec<(String, u64)>,
    /// Rules and policies, and how often they could not be evaluated.
    pub policy_errors: Vec<(String, u64)>,
    /// Per model: its breaker's state as 0 closed, 1 half-open, 2 open.
    pub breakers: Vec<(String, f64)>,
    /// Per model whose vendor has complained of load: most calls that may be under way.
    pub concurrency: Vec<(String, f64)>,
    /// How often each model was seen to change: model, in what, which way.
    pub changes: Vec<(String, &'static str, &'static str, u64)>,
    /// By provider and state, how many of its keys are in it.
    pub provider_keys: Vec<((String, &'static str), usize)>,
    /// By provider, how often a call went on with another of its keys.
    pub key_turns: Vec<(String, u64)>,
    /// What waits in the store, by name.
    pub store: Vec<(&'static str, f64)>,
    /// What became of the store's records, and its failed writes.
    pub records: Vec<(&'static str, u64)>,
}

/// The gauges, and the counters that are kept elsewhere.
pub(super) struct Gauges {
    connections: Gauge,
    in_flight: Gauge,
    waiting: Gauge,
    candidates: Gauge,
    tasks: Several<1>,
    bundles: Several<2>,
    trial: Several<1>,
    late: Counts<1>,
    beside: Counts<1>,
    extra: Counts<2>,
    brownout: Gauge,
    refused: Gauge,
    put_away: Several<2>,
    named_none: Counts<1>,
    policy_errors: Counts<1>,
    breakers: Several<1>,
    concurrency: Several<1>,
    changes: Counts<3>,
    provider_keys: Several<2>,
    key_turns: Counts<1>,
    store: Several<1>,
    records: Counts<1>,
}

impl Gauges {
    pub(super) fn register(r: &mut Registry) -> Self {
        fn gauges<const N: usize>(r: &mut Registry, name: &str, help: &str) -> Several<N> {
            let family = Several::<N>::default();
            r.register(name, help, family.clone());
            family
        }
        fn gauge(r: &mut Registry, name: &str, help: &str) -> Gauge {
            let gauge = Gauge::default();
            r.register(name, help, gauge.clone());
            gauge
        }
        Gauges {
            connections: gauge(r, "turnout_connections", "Open connections"),
            in_flight: gauge(r, "turnout_requests_in_flight", "Requests in work"),
            waiting: gauge(r, "turnout_requests_waiting", "Requests that wait for a place"),
            candidates: gauge(r, "turnout_candidates", "Models that can be called"),
            tasks: gauges(r, "turnout_tasks", "Running tasks by name"),
            bundles: gauges(r, "turnout_bundle", "1 for each bundle that has a part in serving"),
            trial: gauges(r, "turnout_shadow", "Requests decided under the bundle that is tried, by result"),
            late: counts(
                r,
                "turnout_after_response",
                "Requests with work after their response, by what came of it",
            ),
            beside: counts(
                r,
                "turnout_beside",
                "Runs beside live ones that rules wanted (`shadow`), by what came of them",
            ),
            extra: counts(
                r,
                "turnout_extra_calls",
                "Calls beyond the first of a question, by kind and whether there was room",
            ),
            brownout: gauge(r, "turnout_brownout", "1 while what only improves is left out"),
            refused: gauge(r, "turnout_configuration_refused", "1 while the configuration files have errors"),
            put_away: gauges(
                r,
                "turnout_policy_put_away",
                "Policies put away for reaching their limits too often: whether they are away now, and how often",
            ),
            named_none: counts(
                r,
                "turnout_policy_named_none",
                "Times that a rule matched and models it names by how they are were none",
            ),
            policy_errors: counts(
                r,
                "turnout_policy_errors",
                "Times that a rule or policy could not be evaluated, whatever its `on_error` made of that",
            ),
            breakers: gauges(r, "turnout_breaker_state", "0 closed, 1 half-open, 2 open"),
            concurrency: gauges(
                r,
                "turnout_concurrency_limit",
                "Most calls of a model that may be under way, since its vendor complained of load",
            ),
            changes: counts(
                r,
                "turnout_model_changes",
                "Times that a model was seen to change, by what changed and which way",
            ),
            provider_keys: gauges(
                r,
                "turnout_provider_keys",
                "Keys of providers by what they can be used for",
            ),
            key_turns: counts(
                r,
                "turnout_provider_key_turns",
                "Times that a call went on with another key of its provider",
            ),
            store: gauges(r, "turnout_store", "What waits in the store, by name"),
            records: counts(
                r,
                "turnout_store_records",
                "Records by what became of them, and writes that failed (`write_errors`)",
            ),
        }
    }

    pub(super) fn set(&self, reading: &Reading) {
        let to = |g: &Gauge, n: usize| {
            g.set(i64::try_from(n).unwrap_or(i64::MAX));
        };
        to(&self.connections, reading.connections);
        to(&self.in_flight, reading.in_flight);
        to(&self.waiting, reading.waiting);
        to(&self.candidates, reading.candidates);
        // Models may have gone with a reload.
        self.breakers.clear();
        self.concurrency.clear();
        self.put_away.clear();
        for (policy, times, away) in &reading.put_away {
            for (what, value) in [("now", f64::from(u8::from(*away))), ("times", *times as f64)] {
                let labels = [("policy", policy.clone()), ("what", what.to_owned())];
                self.put_away.get_or_create(&labels).set(value);
            }
        }
        self.named_none.clear();
        for (rule, n) in &reading.named_none {
            stands(&self.named_none.get_or_create(&[("rule", rule.clone())]), *n);
        }
        self.policy_errors.clear();
        for (rule, n) in &reading.policy_errors {
            stands(&self.policy_errors.get_or_create(&[("rule", rule.clone())]), *n);
        }
        self.bundles.clear();
        self.trial.clear();
        for (counter, counts) in [(&self.late, reading.late), (&self.beside, reading.beside)] {
            for (name, n) in [("done", counts.done), ("shed", counts.shed), ("unpaid", counts.unpaid)] {
                stands(&counter.get_or_create(&[("result", name.to_owned())]), n);
            }
        }
        let extra = reading.extra;
        let kinds = [
            ("retry", "made", extra.retries),
            ("retry", "refused", extra.retries_refused),
            ("hedge", "made", extra.hedges),
            ("hedge", "refused", extra.hedges_refused),
        ];
        for (kind, result, n) in kinds {
            let labels = [("kind", kind.to_owned()), ("result", result.to_owned())];
            stands(&self.extra.get_or_create(&labels), n);
        }
        self.brownout.set(i64::from(reading.brownout));
        if let Some(t) = &reading.trial {
            let results = [("same", t.same), ("dropped", t.dropped)].into_iter();
            for (name, n) in results.chain(t.different.iter().map(|(d, n)| (d.as_str(), *n))) {
                self.trial.get_or_create(&[("result", name.to_owned())]).set(n as f64);
            }
        }
        self.refused.set(i64::from(reading.configuration_refused));
        for (hash, state) in &reading.bundles {
            let labels = [("bundle", hash.clone()), ("state", (*state).to_owned())];
            self.bundles.get_or_create(&labels).set(1.0);
        }
        for (name, n) in &reading.tasks {
            self.tasks.get_or_create(&[("task", (*name).to_owned())]).set(*n as f64);
        }
        for (model, state) in &reading.breakers {
            self.breakers.get_or_create(&[("model", model.clone())]).set(*state);
        }
        for (model, most) in &reading.concurrency {
            self.concurrency.get_or_create(&[("model", model.clone())]).set(*most);
        }
        self.changes.clear();
        for (model, aspect, way, n) in &reading.changes {
            let labels =
                [("model", model.clone()), ("aspect", (*aspect).to_owned()), ("way", (*way).to_owned())];
            stands(&self.changes.get_or_create(&labels), *n);
        }
        self.provider_keys.clear();
        for ((provider, state), n) in &reading.provider_keys {
            let labels = [("provider", provider.clone()), ("state", (*state).to_owned())];
            self.provider_keys.get_or_create(&labels).set(*n as f64);
        }
        for (provider, n) in &reading.key_turns {
            stands(&self.key_turns.get_or_create(&[("provider", provider.clone())]), *n);
        }
        for (name, n) in &reading.records {
            stands(&self.records.get_or_create(&[("what", (*name).to_owned())]), *n);
        }
        for (name, value) in &reading.store {
            self.store.get_or_create(&[("what", (*name).to_owned())]).set(*value);
        }
    }
}

/// A counter that is kept elsewhere stands so.
fn stands(counter: &Counter, n: u64) {
    counter.inner().store(n, Ordering::Relaxed);
}
