//! Keeps the spool on disk: syncs within 100 ms, and writes the ring out once the disk is back.

use super::{Spool, State};
use crate::lock;
use std::io;
use std::sync::PoisonError;
use std::time::Duration;

/// Half of the 100 ms that a power cut may cost; the other half is for the sync itself.
const SYNC_EVERY: Duration = Duration::from_millis(50);

/// How long to let a disk that refuses alone; at most 5 s are promised.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Bytes written from the ring under one lock, so that appends do not wait for all of it.
const DRAIN_BYTES: usize = 1 << 20;

/// Body of the syncer's thread; ends when the spool is closed.
pub(crate) fn run(spool: &Spool) {
    loop {
        let last = wait(spool);
        while drain(spool) {}
        sync(spool);
        if last {
            return;
        }
    }
}

/// Waits until there is something to do and the time for it; `true` = this is the last round.
fn wait(spool: &Spool) -> bool {
    let idle = |state: &mut State| !state.closed && !state.dirty && !state.failed && state.ring.is_empty();
    let state = spool.sync.wait_while(spool.lock(), idle).unwrap_or_else(PoisonError::into_inner);
    let pause = if state.failed || state.short { RETRY_EVERY } else { SYNC_EVERY };
    let open = |state: &mut State| !state.closed;
    let (state, _) =
        spool.sync.wait_timeout_while(state, pause, open).unwrap_or_else(PoisonError::into_inner);
    state.closed
}

/// Writes a piece of the ring; `true` = there is more, and the disk takes it.
pub(super) fn drain(spool: &Spool) -> bool {
    let mut state = spool.lock();
    // What is still here at the end goes to the disk whatever room there is: it would be lost otherwise.
    if state.short && !state.closed {
        return false;
    }
    if state.failed && !spool.repair(&mut state) {
        return false;
    }
    let mut done = 0;
    while done < DRAIN_BYTES {
        let Some(frame) = state.ring.pop_front() else {
            break;
        };
        if !spool.write(&mut state, &frame) {
            state.ring.push_front(frame);
            return false;
        }
        done += frame.len();
    }
    if done > 0 {
        state.full.now = None;
        spool.wake_mover(&mut state);
        tracing::info!(
            bytes = done,
            left = state.ring.len(),
            "records that waited in memory are in the spool"
        );
    }
    !state.ring.is_empty()
}

/// Syncs what was written. Outside the lock: appends go on meanwhile, and count for the next sync.
pub(super) fn sync(spool: &Spool) {
    let (before, file, new_file) = {
        let mut state = spool.lock();
        if !std::mem::take(&mut state.dirty) {
            return;
        }
        (state.before.clone(), state.file.clone(), std::mem::take(&mut state.new_file))
    };
    let synced = before.map_or(Ok(()), |before| spool.lasts(&*before));
    let synced = synced.and_then(|()| file.map_or(Ok(()), |file| file.sync()));
    let synced = synced.and_then(|()| if new_file { spool.medium.sync_dir(&spool.dir) } else { Ok(()) });
    if let Err(error) = synced {
        retry(spool, &error, new_file);
    }
}

fn retry(spool: &Spool, error: &io::Error, new_file: bool) {
    tracing::error!(%error, "the spool could not be synced; a power cut would cost records");
    let mut state = lock(&spool.state);
    state.counts.write_errors += 1;
    state.dirty = true;
    state.new_file |= new_file;
}
