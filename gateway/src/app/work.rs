//! What a running server does besides answering: connections are taken, files watched, what was used kept.

use super::App;
use crate::admin;
use crate::bundles::acts::STORE_WAIT;
use crate::bundles::guard::Fault;
use crate::bundles::watch;
use crate::config::Source;
use crate::control::spent::Keeper;
use crate::control::tripwire::Trips;
use crate::edge::accept::{Acceptor, Handler, Seats};
use crate::edge::turned_away::TurnedAway;
use crate::error::Failure;
use crate::front::Front;
use crate::notices::{Notices, Told};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What waits to be worked on, and who works on what until the server stops.
pub(super) struct Work {
    /// What rules and the tripwire want told, on its way in and out.
    pub(super) told: Arc<Told>,
    pub(super) notices: Notices,
    /// Keys that spend too fast.
    pub(super) trips: Trips,
    /// Bundles that fail.
    pub(super) faults: mpsc::Receiver<Fault>,
    /// Keeps what was spent.
    pub(super) spent: Keeper,
    /// Keeps what was used of free tiers.
    pub(super) free_use: Keeper,
}

impl Work {
    /// Starts all of it but taking connections.
    pub(super) fn begin(self, app: &Arc<App>, stop: &CancellationToken) {
        let Work { told, notices, trips, faults, spent, free_use } = self;
        app.runs.work();
        let (hooks, runs, ends) = (app.webhooks.clone(), app.runs.clone(), stop.clone());
        app.tasks.spawn("webhooks", async move { hooks.run(runs, ends).await });
        let (hooks, ends) = (app.webhooks.clone(), stop.clone());
        app.tasks.spawn("notices", async move { notices.run(&hooks, ends).await });
        if let Some(newest) = app.plane.anchors() {
            let (of, ends) = (app.clone(), stop.clone());
            app.tasks.spawn("anchors", async move {
                of.afar.run(&of.webhooks, &of.metrics, newest, ends).await;
            });
        }
        let (of, ends) = (app.clone(), stop.clone());
        app.tasks
            .spawn("tripwire", async move { trips.run(&of.plane, &told, of.server.tripwire, ends).await });
        app.look_at_disk();
        let (of, ends) = (app.clone(), stop.clone());
        app.tasks.spawn("disk", async move { of.watch_disk(ends).await });
        let (of, ends) = (app.clone(), stop.clone());
        app.tasks.spawn("directory", async move { of.plane.keep_present(ends).await });
        let (of, ends) = (app.clone(), stop.clone());
        app.tasks.spawn("refusals", async move { of.plane.keep_counting(ends).await });
        watch_bundles(app, faults, stop);
        let (of, ends) = (app.clone(), stop.clone());
        app.tasks.spawn("bundle_trials", app.clone().end_trials(stop.clone()));
        app.tasks.spawn("bundle_ready", async move {
            tokio::select! {
                () = ends.cancelled() => {}
                () = of.ready_previous() => {}
            }
        });
        app.keeping.spawn("spent", spent.run(app.at_rest.clone()));
        app.keeping.spawn("free_use", free_use.run(app.at_rest.clone()));
    }
}

/// Watches the files of the configuration, and the bundle in force, where that is wanted.
fn watch_bundles(app: &Arc<App>, faults: mpsc::Receiver<Fault>, stop: &CancellationToken) {
    if let (Source::Folder(folder), true) = (&app.settings.source, app.is_watched()) {
        let debounce = app.server.reload.debounce;
        app.tasks.spawn("watch", watch::run(app.clone(), folder.clone(), debounce, stop.clone()));
    }
    if app.server.reload.rollback {
        app.tasks.spawn("bundle_guard", go_back(app.clone(), faults, stop.clone()));
    }
}

/// Takes connections for requests, and those of the control API where it is served.
pub(super) fn serve(
    app: &Arc<App>,
    front: &Arc<Front>,
    (listener, control): (TcpListener, Option<TcpListener>),
    stop: &CancellationToken,
) {
    accept(app, front, stop, listener, app.seats.clone());
    if let Some(listener) = control {
        accept(app, &Arc::new(admin::Front(app.clone())), stop, listener, Arc::default());
    }
}

/// Takes bundles back that the guard says fail, until the server stops.
async fn go_back(app: Arc<App>, mut faults: mpsc::Receiver<Fault>, stop: CancellationToken) {
    loop {
        let fault = tokio::select! {
            () = stop.cancelled() => return,
            fault = faults.recv() => fault,
        };
        let Some(fault) = fault else { return };
        let go_back = || {
            let (app, fault) = (app.clone(), fault.clone());
            async move { app.go_back(fault).await }
        };
        insist(go_back, &stop).await;
    }
}

/// Takes a bundle back, again and again where that may succeed a moment later: the guard says once that it fails.
async fn insist<F>(mut go_back: impl FnMut() -> F, stop: &CancellationToken)
where
    F: Future<Output = Result<(), Failure>>,
{
    while let Err(e) = go_back().await {
        tracing::error!(again = e.retry, "a bundle that fails stays in force: {}", e.message);
        if !e.retry {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(STORE_WAIT) => {}
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
        turned_away: TurnedAway::default(),
    });
    app.tasks.spawn("accept", acceptor.run(listener));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_refuses_keeps_no_failing_bundle_in_force() {
        let check = async |refused: Failure, want: u32| {
            let mut asked = 0;
            let go_back = || {
                asked += 1;
                std::future::ready(if asked < 4 { Err(refused.clone()) } else { Ok(()) })
            };
            insist(go_back, &CancellationToken::new()).await;
            assert_eq!(asked, want, "{refused:?}");
        };
        check(Failure::busy("store_unavailable", "not now", STORE_WAIT), 4).await;
        // What has errors has them a moment later, too.
        check(Failure::internal(), 1).await;
    }
}
