//! The one place where all parts are wired, in order: configuration, store, learner, fleet, engine, edge.

mod error;
mod kept;
mod listen;
mod reach;
mod running;
mod settings;

pub use error::Error;
pub use running::Running;
pub use settings::{ADDRESS_FILE, ADMIN_FILE, DEFAULT_LISTEN, Data, Settings, default_folder};

use kept::{Kept, open, open_plane, runs};
use listen::{admin_listener, listen, tell_address};
use reach::reach;
use settings::folder;

use crate::admin;
use crate::bundles::guard::{Fault, Guard};
use crate::bundles::{Bundles, Found, watch};
use crate::clock;
use crate::config::server::Server;
use crate::config::{self, Loaded, Source, Texts};
use crate::control::plane::Plane;
use crate::control::spent::Keeper;
use crate::control::tripwire::tripwire;
use crate::disk::{self, Disk};
use crate::edge::accept::{Acceptor, Handler, Seats};
use crate::edge::body::Budget;
use crate::front;
use crate::metrics::{Metrics, Reading};
use crate::notices;
use crate::once::Once;
use crate::services;
use crate::tasks::Tasks;
use crate::webhooks::{self, Webhooks};
use engine::runs::Runs;
use engine::{Circuit, Engine, Parts};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use stores::limits::Counters;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::limits::LimitStore;
use types::matrix::Availability;
use types::{Diagnostic, Severity};

/// What every part of a running server shares.
pub(crate) struct App {
    pub(crate) engine: Engine,
    pub(crate) server: Server,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) budget: Budget,
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

    /// Whether records are being kept as they should.
    pub(crate) fn store_degraded(&self) -> bool {
        self.kept.stats().degraded
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
            put_away: bundle
                .policies()
                .put_away()
                .into_iter()
                .map(|(p, (n, away))| (p.to_owned(), n, away))
                .collect(),
            named_none: bundle.policies().named_none().into_iter().map(|(r, n)| (r.to_owned(), n)).collect(),
            concurrency: limited.collect(),
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
        let mut fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.plane.provider_keys();
        let reach = reach(bundle.matrix(), &self.settings, self.server.upstream, fleet.as_deref(), &keys);
        *fleet = reach.fleet;
        self.engine.reload(bundle, reach.provider, reach.availability);
    }

    /// Which models could be called under a configuration that is not in force.
    pub(crate) fn availability(&self, bundle: &engine::Bundle) -> Vec<Availability> {
        let fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.plane.provider_keys();
        reach(bundle.matrix(), &self.settings, self.server.upstream, fleet.as_deref(), &keys).availability
    }

    /// What was used of free tiers, to be kept.
    fn free_use(&self, unix_ms: i64) -> serde_json::Value {
        let fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner).clone();
        fleet.map_or_else(|| serde_json::json!([]), |f| serde_json::json!(f.free_use(unix_ms)))
    }

    /// Takes up the stored keys of providers as they stand now; the configuration stays.
    pub(crate) fn rekey(&self) {
        let mut fleet = self.fleet.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.plane.provider_keys();
        let matrix = self.engine.matrix();
        let reach = reach(&matrix, &self.settings, self.server.upstream, fleet.as_deref(), &keys);
        *fleet = reach.fleet;
        self.engine.reach(reach.provider, reach.availability);
    }
}

/// A configuration without errors.
struct Good {
    server: Server,
    bundle: engine::Bundle,
    files: Texts,
    warnings: Vec<Diagnostic>,
}

/// A configuration without errors, or all of its problems.
fn checked(loaded: Loaded) -> Result<Good, Error> {
    let report = loaded.report(false);
    let Loaded { server, bundle, problems, files, .. } = loaded;
    match bundle {
        Some(bundle) => {
            let warnings = problems.into_iter().filter(|d| d.severity == Severity::Warning).collect();
            Ok(Good { server, bundle, files, warnings })
        }
        None => Err(Error::Configuration { problems, report }),
    }
}

/// The bundles that are kept, and the one to begin with: the folder's, or the one that was in force through the
/// control API when the server ended.
async fn open_bundles(
    settings: &Settings,
    plane: &Plane,
    good: engine::Bundle,
    found: Found,
) -> Result<(Bundles, Arc<engine::Bundle>), Error> {
    let bundles = Bundles::open(plane.store.clone(), found).await.map_err(Error::Control)?;
    let Some(entry) = bundles.remembered() else { return Ok((bundles, Arc::new(good))) };
    let (mut sources, problems) = Source::kept(&entry.files).read();
    sources.settings = settings.source.read().0.settings;
    let read = (sources, problems);
    let loaded = config::load_to_serve(read, &settings.environment, settings.simulated, None);
    match checked(loaded) {
        Ok(Good { bundle, .. }) => {
            tracing::info!(bundle = &*entry.hash, by = entry.by, "the bundle that was in force goes on");
            let bundle = bundle.named(entry.hash);
            Ok((bundles, Arc::new(bundle)))
        }
        Err(e) => {
            tracing::error!(bundle = &*entry.hash, "the bundle that was in force cannot go on: {e}");
            bundles.forget_remembered().await.map_err(Error::Control)?;
            Ok((bundles, Arc::new(good)))
        }
    }
}

/// Starts a server. It accepts connections when this returns.
///
/// # Errors
/// Why it does not start. Nothing is left behind then.
pub async fn start(settings: Settings) -> Result<Running, Error> {
    let read = settings.source.read();
    let digest = read.0.digest(&read.1);
    let started_with = read.0.settings.as_ref().map(|s| s.text.clone());
    let loaded = config::load_to_serve(read, &settings.environment, settings.simulated, None);
    let Good { mut server, bundle, files, warnings } = checked(loaded)?;
    if let Some(mode) = settings.mode {
        server.engine.mode = mode;
    }
    server.engine.seed = settings.seed.or(server.engine.seed);
    let listener = listen(&settings, &server).await?;
    // A bound socket has an address.
    let addr =
        listener.local_addr().map_err(|source| Error::Listen { addr: ([0, 0, 0, 0], 0).into(), source })?;
    let folder = folder(&settings, &server);
    let (learner, statistics) = engine::learner(engine::learn::Limits::default());
    let kept = open(folder.clone(), learner).await?;
    let (tripwire, trips) = tripwire(server.tripwire);
    let tripwire = Arc::new(tripwire);
    let plane = open_plane(folder.as_deref(), &settings.environment, &server, tripwire.clone()).await?;
    if !addr.ip().is_loopback() && plane.directory().is_open() && !settings.insecure_open {
        return Err(Error::Open(addr));
    }
    let found = Found { hash: bundle.hash().clone(), files, digest };
    let (bundles, bundle) = open_bundles(&settings, &plane, bundle, found).await?;
    let limits = Arc::new(Counters::default());
    let control = admin_listener(&settings, &server, addr).await?;
    let metrics = Arc::new(Metrics::default());
    let reach = reach(bundle.matrix(), &settings, server.upstream, None, &plane.provider_keys());
    let fleet = reach.fleet.clone();
    let free_use = Keeper::free_use(plane.store.clone(), move |used| {
        if let Some(fleet) = &fleet {
            fleet.resume_free_use(used, clock::unix_ms());
        }
    });
    let free_use = free_use.await.map_err(Error::Control)?;
    let plane = Arc::new(plane);
    let (count, trail, wire) = (metrics.clone(), plane.clone(), tripwire);
    let (told, notices) = notices::channel(metrics.clone());
    let told = Arc::new(told);
    let tells = told.clone();
    let known = plane.clone();
    let (guard, faults) = Guard::new(Box::new(move || known.directory().holders(clock::unix_ms())));
    let guard = Arc::new(guard);
    let watched = guard.clone();
    let engine = Engine::new(Parts {
        bundle,
        provider: reach.provider,
        availability: reach.availability,
        store: kept.seam(),
        statistics,
        limits: Some(limits.clone()),
        finished: Some(Arc::new(move |record: &types::store::RequestRecord| {
            count.request(record);
            told.saw(record);
            watched.saw(record);
            trail.note_denied(record);
            wire.saw(record);
        })),
        config: server.engine.clone(),
    });
    engine.give(
        services::outside(&server.runner, &server.tools, &settings.environment).map_err(Error::Services)?,
    );
    engine.redact_with(plane.redaction_key());
    let tasks = Tasks::default();
    let work = tasks.clone();
    let start: engine::Background = Arc::new(move |name, future| work.spawn(name, future));
    engine.work_in(start.clone());
    let runs = runs(&engine, &plane, start, folder.as_deref(), server.runs.clone()).await?;
    let log = kept::log(kept.seam(), &runs, &plane).await;
    let keeper = Keeper::spent(plane.store.clone(), limits.clone(), &log).await.map_err(Error::Control)?;
    let secret = settings.environment.get(webhooks::SECRET);
    let webhooks = Webhooks::new(server.webhooks.clone(), secret.as_deref()).map_err(Error::Webhooks)?;
    let notices = notices.to(server.notify_url.clone(), &webhooks).map_err(Error::Webhooks)?;
    let disk = Disk::of(folder.as_deref(), server.disk);
    let app = Arc::new(App {
        engine,
        metrics,
        budget: Budget::new(server.edge.body_bytes_inflight),
        once: Arc::default(),
        kill: CancellationToken::new(),
        started: clock::unix(),
        plane,
        nobody: engine::Who::open(),
        limits,
        folder: folder.clone(),
        runs,
        webhooks: Arc::new(webhooks),
        disk,
        bundles,
        guard,
        started_with,
        seats: Arc::default(),
        tasks,
        keeping: Tasks::default(),
        at_rest: CancellationToken::new(),
        kept,
        settings,
        fleet: Mutex::new(reach.fleet),
        server,
    });
    app.resume_trial().await;
    let front = front::Front::new(app.clone());
    let stop = CancellationToken::new();
    app.runs.work();
    let (hooks, runs, ends) = (app.webhooks.clone(), app.runs.clone(), stop.clone());
    app.tasks.spawn("webhooks", async move { hooks.run(runs, ends).await });
    let (hooks, ends) = (app.webhooks.clone(), stop.clone());
    app.tasks.spawn("notices", async move { notices.run(&hooks, ends).await });
    let (of, ends) = (app.clone(), stop.clone());
    app.tasks.spawn("tripwire", async move { trips.run(&of.plane, &tells, of.server.tripwire, ends).await });
    app.look_at_disk();
    let (watched, ends) = (app.clone(), stop.clone());
    app.tasks.spawn("disk", async move { watched.watch_disk(ends).await });
    accept(&app, &front, &stop, listener, app.seats.clone());
    app.keeping.spawn("spent", keeper.run(app.at_rest.clone()));
    if let (Source::Folder(folder), true) = (&app.settings.source, app.is_watched()) {
        let debounce = app.server.reload.debounce;
        app.tasks.spawn("watch", watch::run(app.clone(), folder.clone(), debounce, stop.clone()));
    }
    if app.server.reload.rollback {
        app.tasks.spawn("bundle_guard", go_back(app.clone(), faults, stop.clone()));
    }
    let (of, ends) = (app.clone(), stop.clone());
    app.tasks.spawn("directory", async move { of.plane.keep_present(ends).await });
    let of = app.clone();
    let free_use = free_use(Box::new(move |ms| of.free_use(ms)));
    app.keeping.spawn("free_use", free_use.run(app.at_rest.clone()));
    let admin = control.as_ref().and_then(|l| l.local_addr().ok());
    if let Some(listener) = control {
        accept(&app, &Arc::new(admin::Front(app.clone())), &stop, listener, Arc::default());
    }
    if let Some(folder) = &folder {
        tell_address(folder, ADDRESS_FILE, addr);
        if let Some(admin) = admin {
            tell_address(folder, ADMIN_FILE, admin);
        }
    }
    Ok(Running { addr, admin, app, front, stop, folder, warnings })
}

/// Takes bundles back that the guard says fail, until the server stops.
async fn go_back(app: Arc<App>, mut faults: mpsc::Receiver<Fault>, stop: CancellationToken) {
    loop {
        let fault = tokio::select! {
            () = stop.cancelled() => return,
            fault = faults.recv() => fault,
        };
        let Some(fault) = fault else { return };
        if let Err(e) = app.go_back(fault).await {
            tracing::error!("a bundle that fails stays in force: {}", e.message);
        }
    }
}

/// `seats`: a flood of connections on one listener takes none from the other.
fn accept<H: Handler>(
    app: &Arc<App>,
    handler: &Arc<H>,
    stop: &CancellationToken,
    listener: TcpListener,
    seats: Arc<Seats>,
) {
    let acceptor = Arc::new(Acceptor {
        edge: app.server.edge.clone(),
        stream: app.server.stream.clone(),
        handler: handler.clone(),
        tasks: app.tasks.clone(),
        metrics: app.metrics.clone(),
        stop: stop.clone(),
        kill: app.kill.clone(),
        seats,
    });
    app.tasks.spawn("accept", acceptor.run(listener));
}
