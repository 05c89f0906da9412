//! Who is told when something changes: each run has its own signals, so that nobody is woken for another one's.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;

/// What is told of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Something was written to its journal, or it stands somewhere else.
    Written,
    /// Something was posted to it, or its end was asked for.
    Told,
}

type Key = (Kind, String);

/// Signals of this process; a cheap handle.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Runs may be due, or there is room to walk one.
    due: watch::Sender<()>,
    /// A run has ended.
    ended: watch::Sender<()>,
    /// Of runs that somebody follows.
    runs: Mutex<HashMap<Key, watch::Sender<()>>>,
}

impl Inner {
    fn runs(&self) -> MutexGuard<'_, HashMap<Key, watch::Sender<()>>> {
        // Every write leaves the map consistent, so a panic elsewhere does not spoil it.
        self.runs.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Changes {
    /// A run may be taken, or there is room for one.
    pub(super) fn due(&self) {
        self.0.due.send_replace(());
    }

    /// Something was said to a run from outside: whoever walks it hears it, and whoever might.
    pub(super) fn told(&self, run: &str) {
        self.signal(Kind::Told, run);
        self.signal(Kind::Written, run);
        self.due();
    }

    /// Something of a run was written.
    pub(super) fn written(&self, run: &str) {
        self.signal(Kind::Written, run);
    }

    /// A run has ended.
    pub(super) fn ended(&self) {
        self.0.ended.send_replace(());
    }

    /// Changes when runs may be due.
    pub(super) fn when_due(&self) -> watch::Receiver<()> {
        self.0.due.subscribe()
    }

    /// Changes when a run ends.
    pub(super) fn when_ended(&self) -> watch::Receiver<()> {
        self.0.ended.subscribe()
    }

    /// Follows a run.
    pub(super) fn follow(&self, kind: Kind, run: &str) -> Following {
        let key = (kind, run.to_owned());
        let receiver = self.0.runs().entry(key.clone()).or_default().subscribe();
        Following { key, receiver: Some(receiver), inner: self.0.clone() }
    }

    fn signal(&self, kind: Kind, run: &str) {
        if let Some(sender) = self.0.runs().get(&(kind, run.to_owned())) {
            sender.send_replace(());
        }
    }
}

/// Follows one run.
#[derive(Debug)]
pub struct Following {
    key: Key,
    /// `None` = it is being dropped.
    receiver: Option<watch::Receiver<()>>,
    inner: Arc<Inner>,
}

impl Following {
    /// What has changed until now is known.
    pub fn seen(&mut self) {
        self.receiver.iter_mut().for_each(watch::Receiver::mark_unchanged);
    }

    /// Waits until something changes that is not known. May be dropped and asked again.
    pub async fn changed(&mut self) {
        match &mut self.receiver {
            // Its other end is kept as long as this one is.
            Some(receiver) => drop(receiver.changed().await),
            None => std::future::pending().await,
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut runs = self.inner.runs();
        self.receiver = None;
        if let Entry::Occupied(kept) = runs.entry(self.key.clone())
            && kept.get().receiver_count() == 0
        {
            kept.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn a_run_wakes_only_who_follows_it() {
        let changes = Changes::default();
        let mut worker = changes.when_due();
        let follow = |kind, run| changes.follow(kind, run);
        let mut own = follow(Kind::Written, "a");
        let (mut driver, mut other) = (follow(Kind::Told, "a"), follow(Kind::Written, "b"));
        let mut woken = |worker: &mut watch::Receiver<()>| {
            let due = worker.has_changed().unwrap();
            worker.mark_unchanged();
            let one = |f: &mut Following| f.changed().now_or_never().is_some();
            [one(&mut own), one(&mut driver), one(&mut other), due]
        };
        changes.written("a");
        assert_eq!(woken(&mut worker), [true, false, false, false], "its owner wrote that itself");
        changes.told("a");
        assert_eq!(woken(&mut worker), [true, true, false, true]);
        changes.written("c");
        changes.ended();
        assert_eq!(woken(&mut worker), [false; 4]);
        changes.due();
        assert_eq!(woken(&mut worker), [false, false, false, true]);
    }

    #[test]
    fn what_nobody_follows_any_more_is_forgotten() {
        let changes = Changes::default();
        let mut one = changes.follow(Kind::Written, "a");
        let other = changes.follow(Kind::Written, "a");
        changes.written("a");
        one.seen();
        assert!(one.changed().now_or_never().is_none());
        drop(other);
        assert_eq!(changes.0.runs().len(), 1);
        changes.written("a");
        assert!(one.changed().now_or_never().is_some());
        drop(one);
        assert!(changes.0.runs().is_empty());
    }
}
