//! The one place where all parts are wired, in order: configuration, store, learner, fleet, engine, edge.

use super::configured::{Good, checked, loaded, open_bundles};
use super::kept::{self, open, open_plane, runs};
use super::listen::{admin_listener, listen, tell_address};
use super::reach::{Before, reach};
use super::settings::folder;
use super::work::{Work, serve};
use super::{ADDRESS_FILE, ADMIN_FILE, App, Error, Running, Settings};
use crate::admin;
use crate::bundles::Found;
use crate::bundles::guard::Guard;
use crate::clock;
use crate::control::audit::Afar;
use crate::control::plane::Plane;
use crate::control::spent::Keeper;
use crate::control::tripwire::{Tripwire, tripwire};
use crate::disk::Disk;
use crate::edge::body::Budget;
use crate::front::Front;
use crate::metrics::Metrics;
use crate::notices::{self, Told};
use crate::services;
use crate::tasks::Tasks;
use crate::webhooks::{self, Webhooks};
use engine::{Engine, Parts};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use stores::limits::Counters;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use types::Clock;
use types::store::RequestRecord;

/// Starts a server. It accepts connections when this returns.
///
/// # Errors
/// Why it does not start. Nothing is left behind then.
pub async fn start(settings: Settings) -> Result<Running, Error> {
    // What it runs on: the configuration, an address, the data folder.
    let read = settings.source.read();
    let digest = read.0.digest(&read.1);
    let file = read.0.settings.clone();
    let started_with = file.as_ref().map(|s| s.text.clone());
    let Good { mut server, bundle, files, built_in, signer, warnings } =
        checked(loaded(&settings, read, None).await)?;
    if let Some(mode) = settings.mode {
        server.engine.mode = mode;
    }
    server.engine.seed = settings.seed.or(server.engine.seed);
    let (listener, addr) = bound(listen(&settings, &server).await?)?;
    let folder = folder(&settings, &server);

    // What is remembered: records and statistics, who may use what, which bundle was in force.
    let (learner, statistics) = engine::learner(engine::learn::Limits::default());
    let kept = open(folder.clone(), server.spool, learner).await?;
    let (tripwire, trips) = tripwire(server.tripwire);
    let tripwire = Arc::new(tripwire);
    let plane = open_plane(folder.as_deref(), &settings.environment, &server, tripwire.clone()).await?;
    if !addr.ip().is_loopback() && plane.directory().is_open() && !settings.insecure_open {
        return Err(Error::Open(addr));
    }
    let found = Found { hash: bundle.hash().clone(), files, built_in, digest, signer };
    let (bundles, bundle) = open_bundles(&settings, (&server, file), &plane, bundle, found).await?;
    let control = admin_listener(&settings, &server, addr).await?;
    let plane = Arc::new(plane);

    // Who answers calls, who looks at what has ended, and the engine between them.
    let metrics = Arc::new(Metrics::default());
    let limits = Arc::new(Counters::default());
    let before = Before::Nothing(limits.clone());
    let reach = reach(bundle.matrix(), &settings, server.upstream, before, &plane.provider_keys());
    let fleet = reach.fleet.clone();
    let free_use = Keeper::free_use(plane.store.clone(), move |used| {
        if let Some(fleet) = &fleet {
            fleet.resume_free_use(used, clock::unix_ms());
        }
    });
    let free_use = free_use.await.map_err(Error::Control)?;
    let (told, notices) = notices::channel(metrics.clone());
    let told = Arc::new(told);
    let known = plane.clone();
    let (guard, faults) = Guard::new(Box::new(move || known.directory().holders(clock::unix_ms())));
    let guard = Arc::new(guard);
    let witnesses = Witnesses {
        metrics: metrics.clone(),
        told: told.clone(),
        guard: guard.clone(),
        plane: plane.clone(),
        tripwire,
    };
    let tasks = Tasks::default();
    let work = tasks.clone();
    let background: engine::Background = Arc::new(move |name, future| work.spawn(name, future));
    let engine = Engine::new(Parts {
        bundle,
        provider: reach.provider,
        availability: reach.availability,
        store: kept.seam(),
        statistics,
        limits: Some(limits.clone()),
        finished: Some(Arc::new(move |record: &RequestRecord| witnesses.saw(record))),
        background: Some(background.clone()),
        outside: services::outside(&server.runner, &server.tools, &settings.environment)
            .map_err(Error::Services)?,
        redaction_key: plane.redaction_key(),
        clock: Clock::new(clock::unix_ms),
        config: server.engine.clone(),
    });

    // What goes on in the background.
    let runs = runs(&engine, &plane, background, folder.as_deref(), server.runs.clone()).await?;
    let log = kept::log(kept.seam(), &runs, &plane).await;
    let spent = Keeper::spent(plane.store.clone(), limits.clone(), &log).await.map_err(Error::Control)?;
    let secret = settings.environment.secret(webhooks::SECRET);
    let webhooks = Webhooks::new(server.webhooks.clone(), secret.as_deref()).map_err(Error::Webhooks)?;
    let notices = notices.to(server.notify_url.clone(), &webhooks).map_err(Error::Webhooks)?;
    let afar = Afar::new(server.anchor_url.clone(), &webhooks).map_err(Error::Webhooks)?;
    let disk = Disk::of(folder.as_deref(), server.disk);

    let app = Arc::new(App {
        engine,
        metrics,
        budget: Budget::new(server.edge.body_bytes_inflight, server.edge.body_bytes),
        control_budget: Budget::new(admin::BODIES, admin::BODY),
        once: Arc::default(),
        kill: CancellationToken::new(),
        started: clock::unix(),
        plane,
        nobody: engine::Who::open(),
        limits,
        folder: folder.clone(),
        runs,
        webhooks: Arc::new(webhooks),
        afar,
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
    app.tell_of_strange_tenants(&app.engine.bundle());
    app.resume_trial().await;
    app.watch_from_start().await;
    let front = Front::new(app.clone());
    let stop = CancellationToken::new();
    let of = app.clone();
    let free_use = free_use(Box::new(move |ms| of.free_use(ms)));
    Work { told, notices, trips, faults, spent, free_use }.begin(&app, &stop);
    let admin = control.as_ref().and_then(|l| l.local_addr().ok());
    serve(&app, &front, (listener, control), &stop);
    if let Some(folder) = &folder {
        tell_address(folder, ADDRESS_FILE, addr);
        if let Some(admin) = admin {
            tell_address(folder, ADMIN_FILE, admin);
        }
    }
    Ok(Running { addr, admin, app, front, stop, folder, warnings })
}

/// The listener, and where it listens.
fn bound(listener: TcpListener) -> Result<(TcpListener, SocketAddr), Error> {
    // A bound socket has an address.
    let addr =
        listener.local_addr().map_err(|source| Error::Listen { addr: ([0, 0, 0, 0], 0).into(), source })?;
    Ok((listener, addr))
}

/// Who looks at every request that has ended.
struct Witnesses {
    metrics: Arc<Metrics>,
    told: Arc<Told>,
    guard: Arc<Guard>,
    plane: Arc<Plane>,
    tripwire: Arc<Tripwire>,
}

impl Witnesses {
    fn saw(&self, record: &RequestRecord) {
        self.metrics.request(record);
        self.told.saw(record);
        self.guard.saw(record);
        self.plane.note_denied(record);
        self.tripwire.saw(record, |key| self.plane.directory().counted(key));
    }
}
