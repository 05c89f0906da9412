//! The worker: takes runs that are due, and walks them.

use super::service::Service;
use super::{account, drive, walk};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use types::runs::Claims;

/// How often the worker looks for runs that became due by themselves.
const LOOK: Duration = Duration::from_secs(1);

/// Takes runs and walks them until it is told to stop.
pub(super) async fn work(service: Arc<Service>) {
    let mut stop = service.stop.subscribe();
    let mut due = service.changes.when_due();
    loop {
        let free = service.config.parallel.saturating_sub(service.walking.load(Ordering::Acquire));
        if free > 0 {
            match service.store.claim(&service.owner, free).await {
                Ok(Claims { taken, expired }) => {
                    taken.into_iter().for_each(|one| walk(&service, one));
                    for head in &expired {
                        service.changes.written(&head.id);
                        service.changes.ended();
                        account::ended(&service, head).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "no run can be taken"),
            }
        }
        tokio::select! {
            biased;
            () = drive::stopped(&mut stop) => return,
            _ = due.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn walk(service: &Arc<Service>, claimed: types::runs::Claimed) {
    service.walking.fetch_add(1, Ordering::AcqRel);
    let own = service.clone();
    let place = Place(service.clone());
    (service.start)(
        "run",
        Box::pin(async move {
            let _place = place;
            Box::pin(walk::own(own, claimed)).await;
        }),
    );
}

/// A place among the runs that are walked at once.
struct Place(Arc<Service>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.walking.fetch_sub(1, Ordering::AcqRel);
        self.0.changes.due();
    }
}
