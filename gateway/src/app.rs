//! What every part of a running server shares, and how it starts ([`start`]), works and stops.

mod configured;
mod error;
mod kept;
mod listen;
mod reach;
mod running;
mod settings;
mod start;
mod work;

pub use error::Error;
pub use running::Running;
pub use settings::{ADDRESS_FILE, ADMIN_FILE, DEFAULT_LISTEN, Data, Settings, default_folder};
pub use start::start;

use crate::bundles::Bundles;
use crate::bundles::guard::Guard;
use crate::config::Source;
use crate::config::server::Server;
use crate::control::audit::Afar;
use crate::control::plane::{BY_LIMITS, Plane};
use crate::disk::{self, Disk};
use crate::edge::accept::Seats;
use crate::edge::body::Budget;
use crate::error::Failure;
use crate::metrics::{Metrics, Reading};
use crate::once::Once;
use crate::tasks::Tasks;
use crate::webhooks::Webhooks;
use engine::runs::Runs;
use engine::{Circuit, Engine, Who};
use kept::Kept;
pub(crate) use reach::stored_name;
use reach::{Before, reach};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;
use types::limits::LimitStore;
use types::matrix::Availability;

/// What every part of a running server shares.
pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) server: Server,
    pub(crate) metrics: Arc<Metrics>,
    /// Bodies of the API for clients.
    pub(crate) budget: Budget,
    /// Those of the control API: who is to end what fills the other one must not stand behind it.
    pub(crate) control_budget: Budget,
    /// Requests that say that they must run once.
    pub(crate) once: Arc<Once>,
    /// Fires when every connection must be gone.
    pub(crate) kill: CancellationToken,
    /// Unix time of the start, for models whose prices bear no date.
    pub(crate) started: i64,
    /// Who may use what.
    pub(crate) plane: Arc<Plane>,
    /// Stands for the caller where none is asked for.
    pub(crate) nobody: Arc<engine::Who>,
    /// Counts rates and budgets.
    pub(crate) limits: Arc<dyn LimitStore>,
    /// The data folder, if there is one.
    pub(crate) folder: Option<PathBuf>,
    /// Durable runs.
    pub(crate) runs: Runs,
    /// Who may be told of their ends.
    pub(crate) webhooks: Arc<Webhooks>,
    /// Tells the anchors of the audit trail.
    pub(crate) afar: Afar,
    pub(crate) disk: Disk,
    /// Configurations that are kept, and which of them is in force.
    pub(crate) bundles: Bundles,
    /// Watches the one that came into force last.
    pub(crate) guard: Arc<Guard>,
    pub(crate) settings: Settings,
    /// The text of `turnout.yaml` at the start, where there is one.
    pub(crate) started_with: Option<Arc<str>>,
    seats: Arc<Seats>,
    pub(crate) tasks: Tasks,
    /// What keeps counters on the disk, until after the last of `tasks`.
    keeping: Tasks,
    /// Nothing is in work any more: what was used stands.
    at_rest: CancellationToken,
    kept: Kept,
    /// Of the configuration in force; reloads take connections over from it.
    fleet: Mutex<Option<Arc<providers::Fleet>>>,
}

impl App {
    /// Tells the metrics and the trail of a request that a limit refused. What has a record is told of by that.
    pub(crate) fn limited(&self, endpoint: &'static str, who: &Who, refused: &Failure) {
        if let Some(short) = &refused.short {
            let limit = &short.limit;
            self.metrics.limit_refused(limit.on(), limit.metric.as_str());
        }
        if refused.decision.is_none() && BY_LIMITS.contains(&refused.code.as_str()) {
            self.plane.note_refused(endpoint, refused, who);
        }
    }

    /// Looks how much room there is, and has records wait in memory where there is hardly any.
    fn look_at_disk(&self) {
        if self.disk.look() {
            self.kept.short_of_room(self.disk.is_critical());
        }
    }

    /// Looks again and again until the server stops.
    async fn watch_disk(&self, stop: CancellationToken) {
        while self.disk.is_watched() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(disk::LOOK) => self.look_at_disk(),
            }
        }
    }

    /// What is amiss where records are not kept as they should be.
    pub(crate) fn store_degraded(&self) -> Option<String> {
        let stats = self.kept.stats();
        match stats.full {
            Some(what) => {
                Some(format!("store: records are lost, the {what} is full ({} so far)", stats.dropped))
            }
            None => stats.degraded.then(|| "store: records wait in memory".to_owned()),
        }
    }

    /// Gauges as they stand now.
    pub(crate) fn reading(&self) -> Reading {
        let health = self.engine.health();
        let circuit = |c: Circuit| match c {
            Circuit::Closed => 0.0,
            Circuit::HalfOpen => 1.0,
            Circuit::Open(_) => 2.0,
        };
        let s = self.kept.stats();
        let bundle = self.engine.bundle();
        let rows = self.engine.models();
        let ready = rows.iter().filter(|r| r.availability == Availability::Ready);
        let owned = |counted: BTreeMap<&str, u64>| -> Vec<(String, u64)> {
            counted.into_iter().map(|(rule, n)| (rule.to_owned(), n)).collect()
        };
        let limited = ready.clone().filter_map(|r| Some((r.id.to_string(), f64::from(r.concurrency?))));
        Reading {
            connections: self.seats.open(),
            in_flight: health.in_flight,
            waiting: health.waiting,
            candidates: health.candidates,
            tasks: self.tasks.counts(),
            bundles: self.bundles.in_use(),
            trial: self.engine.trial(),
            late: self.engine.late(),
            beside: self.engine.beside(),
            extra: self.engine.extra(),
            brownout: health.brownout,
            configuration_refused: self.bundles.refused(false).is_some(),
            changes: self
                .engine
                .statistics()
                .models()
                .flat_map(|(model, s)| s.changes.iter().map(move |c| (model, c)))
                .filter(|(_, (.., n))| *n > 0)
                .map(|(model, (aspect, way, n))| (model.to_string(), aspect.as_str(), way.as_str(), n))
                .collect(),
            put_away: bundle
                .policies()
                .put_away()
                .into_iter()
                .map(|(p, (n, away))| (p.to_owned(), n, away))
                .collect(),
            named_none: owned(bundle.policies().named_none()),
            policy_errors: owned(bundle.policies().failed()),
            concurrency: limited.collect(),
            provider_keys: {
                let mut counts: BTreeMap<(String, &'static str), usize> = BTreeMap::new();
                for key in self.key_states().into_iter().filter(|k| !k.name.is_empty()) {
                    let state = key.as_str();
                    let count = counts.entry((key.provider, state)).or_default();
                    *count = count.saturating_add(1);
                }
                counts.into_iter().collect()
            },
            key_turns: self.key_turns(),
            breakers: ready.map(|r| (r.id.to_string(), circuit(r.circuit))).collect(),
            store: vec![
                ("spool_bytes", s.spool_bytes as f64),
                ("archive_bytes", s.archive_bytes as f64),
                ("ring_records", s.ring_records as f64),
            ],
            records: vec![
                ("appended", s.appended),
                ("stored", s.stored),
                ("dropped", s.dropped),
                ("write_errors", s.write_errors),
            ],
        }
    }

    /// Whether changed files are taken up by themselves.
    pub(crate) fn is_watched(&self) -> bool {
        self.server.reload.watch && matches!(self.settings.source, Source::Folder(_))
    }

    /// Puts a configuration in force for new requests; those under way keep theirs.
    /// Settings of the server itself (addresses, limits) keep until a restart.
    pub(crate) fn swap(&self, bundle: Arc<engine::Bundle>) {
        let matrix = bundle.matrix().clone();
        self.tell_of_strange_tenants(&bundle);
        self.take_up(&matrix, |reach| self.engine.reload(bundle, reach.provider, reach.availability));
    }

    /// Says which rules hold for nobody yet: a tenant may be made after its rules, or be misspelt in them.
    pub(crate) fn tell_of_strange_tenants(&self, bundle: &engine::Bundle) {
        let known = self.plane.directory();
        for tenant in bundle.policies().tenants().into_iter().filter(|t| known.tenant(t).is_none()) {
            tracing::warn!(
                tenant,
                "there are rules for a tenant that does not exist; they hold once a tenant of that id is made"
            );
        }
    }

    /// Readies who answers calls, hands it over, and lets models be asked again whose keys are others than before.
    fn take_up(&self, matrix: &Arc<types::matrix::Matrix>, hand_over: impl FnOnce(reach::Reach)) {
        let mut fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.plane.provider_keys();
        let mut reach =
            reach(matrix, &self.settings, self.server.upstream, self.before(fleet.as_deref()), &keys);
        let before = std::mem::replace(&mut *fleet, reach.fleet.take());
        hand_over(reach);
        if let (Some(now), Some(before)) = (fleet.as_deref(), before) {
            self.engine.rekeyed(&now.rekeyed(&before));
        }
    }

    /// Which models could be called under a configuration that is not in force.
    pub(crate) fn availability(&self, bundle: &engine::Bundle) -> Vec<Availability> {
        let fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.plane.provider_keys();
        let before = self.before(fleet.as_deref());
        reach(bundle.matrix(), &self.settings, self.server.upstream, before, &keys).availability
    }

    fn before<'a>(&self, fleet: Option<&'a providers::Fleet>) -> Before<'a> {
        fleet.map_or_else(|| Before::Nothing(self.limits.clone()), Before::Fleet)
    }

    /// What was used of free tiers, to be kept.
    fn free_use(&self, unix_ms: i64) -> serde_json::Value {
        let fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner).clone();
        fleet.map_or_else(|| serde_json::json!([]), |f| serde_json::json!(f.free_use(unix_ms)))
    }

    /// How the keys of providers stand, those of the environment and the stored ones.
    pub(crate) fn key_states(&self) -> Vec<providers::KeyState> {
        let fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner).clone();
        fleet.map_or_else(Vec::new, |f| f.keys())
    }

    fn key_turns(&self) -> Vec<(String, u64)> {
        let fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner).clone();
        fleet.map_or_else(Vec::new, |f| f.key_turns())
    }

    /// Takes up the stored keys of providers as they stand now; the configuration stays.
    pub(crate) fn rekey(&self) {
        self.take_up(&self.engine.matrix(), |reach| self.engine.reach(reach.provider, reach.availability));
    }
}
