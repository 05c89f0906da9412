//! The one writer of the audit trail: lines as they come, synced before who waits is told, and seals over them.

use super::line::{self, Sealed};
use super::tail::Tail;
use super::verify::Chain;
use super::{CHAIN, Event, KEY_IN_FORCE, Line, NEW_KEY, PUBLIC, Rotated, anchor, folder, keys};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Map, Value, json};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use types::encoding::hex;

/// A new file is begun beyond this size, bytes: a start reads all of the last one.
const FILE_BYTES: u64 = 16 << 20;
/// A seal follows so many lines.
pub(super) const SEAL_LINES: u64 = 1_000;
/// Lines of one sync: who waits for theirs does not wait for all that come meanwhile.
const BATCH: usize = 256;

/// What is to be written.
pub(super) enum Job {
    /// Written and on the disk before it is answered.
    Sync(Box<Event>, oneshot::Sender<io::Result<Line>>),
    Later(Box<Event>),
    /// The key is changed, and the line announces that.
    Rotate(Box<Event>, oneshot::Sender<io::Result<Rotated>>),
}

/// See the module.
pub(super) struct Writer {
    /// Where the private keys lie.
    pub(super) data: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) instance: String,
    /// Files that tell how far the trail went.
    pub(super) anchors: Vec<PathBuf>,
    pub(super) file: Tail,
    pub(super) key: Ed25519KeyPair,
    /// The one that the trail announces, until a seal says so.
    pub(super) next: Option<Ed25519KeyPair>,
    /// The key is the announced one, and its file has still to take the place of the one before.
    pub(super) changed: bool,
    /// What is sealed next is the last of its file: the key has changed within it.
    pub(super) ends_file: bool,
    pub(super) chain: Chain,
    /// Identifies the process.
    pub(super) boot: String,
    /// Lines that did not fit into the queue and are not told of yet.
    pub(super) lost: Arc<AtomicU64>,
    /// The newest anchor, for whoever tells it.
    pub(super) newest: watch::Sender<Option<Value>>,
}

impl Writer {
    /// Body of the writer's thread; ends when nobody can send any more.
    pub(super) fn run(mut self, queue: &mpsc::Receiver<Job>, seal_after: Duration) {
        // When the first line without a seal gets one, however many follow it.
        let mut due: Option<Instant> = None;
        loop {
            let wait = due.map_or(seal_after, |d| d.saturating_duration_since(Instant::now()));
            let received = queue.recv_timeout(wait);
            match received {
                Ok(job) => {
                    let mut waiting: Vec<_> = self.take(job).into_iter().collect();
                    for job in queue.try_iter().take(BATCH.saturating_sub(1)) {
                        waiting.extend(self.take(job));
                    }
                    self.commit(waiting);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.report(Self::seal);
                    return;
                }
            }
            if due.is_some_and(|d| Instant::now() >= d) {
                self.report(Self::seal);
                // One that failed is tried again when as much time has passed once more.
                due = None;
            }
            due = match self.chain.unsealed {
                0 => None,
                _ => due.or_else(|| Some(Instant::now() + seal_after)),
            };
        }
    }

    /// Whether it could be done.
    fn report(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> bool {
        work(self).inspect_err(|e| tracing::error!(error = %e, "the audit trail cannot be written")).is_ok()
    }

    /// Writes one line; who waits for it is told after the sync.
    fn take(&mut self, job: Job) -> Option<(oneshot::Sender<io::Result<Line>>, io::Result<Line>)> {
        let lost = self.lost.swap(0, Relaxed);
        if lost > 0 {
            let gap = Event::gap("lost_lines", lost);
            if !self.report(|w| w.line(&gap).map(drop)) {
                // The gap is told when there is room again, and is as long as it was.
                self.lost.fetch_add(lost, Relaxed);
            }
        }
        match job {
            Job::Later(event) => {
                if !self.report(|w| w.line(&event).map(drop)) {
                    self.lost.fetch_add(1, Relaxed);
                }
                None
            }
            Job::Rotate(event, tell) => {
                tell.send(self.rotate(*event)).ok();
                None
            }
            Job::Sync(event, tell) => {
                let written = self.line(&event);
                Some((tell, written))
            }
        }
    }

    fn commit(
        &mut self,
        waiting: impl IntoIterator<Item = (oneshot::Sender<io::Result<Line>>, io::Result<Line>)>,
    ) {
        if self.chain.unsealed >= SEAL_LINES {
            self.report(Self::seal);
        }
        let synced = self.file.sync();
        for (tell, written) in waiting {
            let answer = match &synced {
                Ok(()) => written,
                Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
            };
            // Nobody may be waiting any more.
            tell.send(answer).ok();
        }
    }

    /// Appends a line to the chain.
    ///
    /// # Errors
    /// The disk refuses; the chain is as it was.
    pub(super) fn line(&mut self, e: &Event) -> io::Result<Line> {
        let seq = self.chain.next;
        let members = json!({
            "ts": timestamp(crate::clock::unix_ms()), "boot": self.boot, "actor": {"kind": e.actor_kind, "id": e.actor},
            "action": e.action, "target": e.target, "tenant": e.tenant, "request": e.request,
            "before": e.before, "after": e.after, "detail": e.detail,
        });
        let Value::Object(members) = members else { return Err(io::Error::other("a line is an object")) };
        let (text, hash) = line::chained(members, CHAIN, seq, &self.chain.prev);
        self.file.line(&text)?;
        self.chain.next = seq.saturating_add(1);
        self.chain.prev = hash;
        self.chain.unsealed = self.chain.unsealed.saturating_add(1);
        Ok(Line { seq, hash })
    }

    /// Signs what was written since the last seal, begins a new file where one has grown large or the key has changed, and
    /// writes down how far the trail goes.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        if self.chain.unsealed == 0 {
            return Ok(());
        }
        self.sign()?;
        if self.changed {
            self.in_force()?;
        }
        if self.ends_file || self.file.len() > FILE_BYTES {
            self.begin_file()?;
        }
        self.anchor()
    }

    /// The seal itself, on the disk when this returns.
    fn sign(&mut self) -> io::Result<()> {
        let sealed = Sealed {
            seq: self.chain.next.saturating_sub(1),
            hash: self.chain.prev,
            count: self.chain.unsealed,
            prev: self.chain.prev_seal,
        };
        let (text, hash) = sealed.sign(CHAIN, &self.key);
        self.file.line(&text)?;
        // A seal that stands in the file is the one before the next, also where the disk does not say that it is safe;
        // an anchor to it comes only after that, and so does the end of a key.
        if self.chain.is_sealed(text, hash)
            && let Some(next) = self.next.take()
        {
            self.key = next;
            self.changed = true;
        }
        self.file.sync()
    }

    fn begin_file(&mut self) -> io::Result<()> {
        let number = folder::files(&self.folder)?.len().saturating_add(1);
        self.file = Tail::of(folder::append_to(&folder::name(&self.folder, number))?)?;
        self.ends_file = false;
        Ok(())
    }

    /// Changes the key: the new one is announced by a line that the one before it seals.
    fn rotate(&mut self, mut event: Event) -> io::Result<Rotated> {
        if self.next.is_some() || self.changed {
            return Err(io::Error::other("another key is announced, and waits for its seal"));
        }
        let made = keys::make()?;
        let next = made.pair()?;
        let public = next.public_key().as_ref().to_vec();
        let (public_key, key) = (hex(&public), line::key_id(&public));
        made.keep_next(&self.data)?;
        event.detail.insert(PUBLIC.to_owned(), public_key.clone().into());
        let line = self.line(&Event { action: NEW_KEY, target: key.clone(), ..event })?;
        (self.chain.announced, self.next) = (Some(public), Some(next));
        if let Err(e) = self.seal() {
            if self.next.is_some() || self.changed {
                return Err(e);
            }
            // The key is the new one all the same: whoever asked again would change it again.
            tracing::error!(error = %e, "the key of the audit trail was changed, and not all that follows could be written");
        }
        Ok(Rotated { line, public_key, key })
    }

    /// After the seal that hands over to another key: that becomes the one which is kept, and seals a line that says so. A
    /// file of its own begins then, whose start is verified with it alone.
    fn in_force(&mut self) -> io::Result<()> {
        keys::adopt(&self.data)?;
        (self.changed, self.ends_file) = (false, true);
        let public = self.key.public_key();
        let detail = Map::from_iter([(PUBLIC.to_owned(), hex(public.as_ref()).into())]);
        let target = line::key_id(public.as_ref());
        self.line(&Event { actor_kind: "system", action: KEY_IN_FORCE, target, detail, ..Event::default() })?;
        self.sign()
    }

    /// Writes down how far the trail is sealed, wherever that is kept.
    pub(super) fn anchor(&self) -> io::Result<()> {
        let Some(seal) = &self.chain.seal else { return Ok(()) };
        self.newest.send_replace(Some(anchor::document(&self.instance, seal)?));
        // One that is away keeps no other from being written.
        let each: Vec<_> =
            self.anchors.iter().map(|path| anchor::write(path, &self.instance, seal)).collect();
        each.into_iter().collect()
    }
}

/// A moment as lines tell it, which is in the order of time also as text.
pub(super) fn timestamp(ms: i64) -> String {
    let date = types::calendar::Date::from_days(ms.div_euclid(86_400_000));
    let of_day = ms.rem_euclid(86_400_000);
    let (h, m, s, ms) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60, of_day % 1_000);
    format!("{date}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}
