//! Bundles: configurations as things of their own: read from files or uploaded, kept, put in force, taken back.

pub(crate) mod acts;
mod book;
mod bring;
mod compile;
mod edit;
mod foreseen;
pub(crate) mod guard;
mod kept;
mod policies;
mod pools;
mod reach;
mod second;
mod show;
mod strangers;
mod trial;
pub(crate) mod watch;

pub(crate) use bring::log_not_taken;
pub(crate) use foreseen::{How, TOO_MUCH, Terms};
pub(crate) use show::diff;

pub(crate) use policies::MAX_SOURCE;
pub(crate) use pools::{MAX_MIN, MAX_WHERE};

use book::{Book, Entry};

use crate::config::{Signer, Sources, Texts};
use crate::control::Actor;
use crate::control::audit::Event;
use crate::error::Failure;
use engine::Bundle;
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::control::ControlStore;
use types::{Diagnostic, Severity};

/// What was read of a configuration, with what was wrong in reading it.
pub(crate) type Read = (Sources, Vec<Diagnostic>);

/// Bundles that stay compiled besides the one in force and the one before, so that taking them up needs no reading.
const READY: usize = 3;
/// Problems that one answer lists.
const PROBLEMS: usize = 200;

/// What the configuration folder held when the server started.
pub(crate) struct Found {
    pub(crate) hash: Arc<str>,
    pub(crate) files: Texts,
    /// The paths of those that are built in.
    pub(crate) built_in: Vec<String>,
    /// Of everything read, settings included.
    pub(crate) digest: blake3::Hash,
    /// Who vouches for it, where somebody has to.
    pub(crate) signer: Option<Signer>,
}

/// The bundles of one server.
pub(crate) struct Bundles {
    book: Mutex<Book>,
    store: Arc<dyn ControlStore>,
    /// One change is written and swapped at a time. Nothing is compiled, tested or replayed while it is held: a rollback
    /// waits for it, and must not wait for the tests of another bundle.
    changing: tokio::sync::Mutex<()>,
    /// One new configuration is checked at a time, which may take minutes. Taken before `changing`, never within it.
    checking: tokio::sync::Mutex<()>,
    /// Newest last.
    ready: Mutex<VecDeque<Arc<Bundle>>>,
    /// What was in force before, in a place of its own: no upload and no comparison pushes it out.
    previous: Mutex<Option<Arc<Bundle>>>,
    /// Who compiles a kept bundle, by its hash: others wait for what comes of it, and begin nothing of their own.
    readying: Mutex<BTreeMap<Arc<str>, Arc<tokio::sync::Mutex<()>>>>,
    /// Of the files as they were read last.
    digest: Mutex<blake3::Hash>,
    trial: Mutex<Option<trial::Trial>>,
}

impl Bundles {
    /// Takes up what is kept. The folder's bundle is in force unless [`Bundles::remembered`] names another. Where that
    /// is another one than before, the line for the audit trail goes to `tell` first.
    ///
    /// # Errors
    /// What is kept cannot be read or written, or the line cannot be: in words for the operator. Nothing has changed
    /// then.
    pub(crate) async fn open(
        store: Arc<dyn ControlStore>,
        found: Found,
        tell: impl AsyncFnOnce(Event) -> Result<(), String>,
    ) -> Result<Bundles, String> {
        let mut book = kept::load(&*store).await?;
        if let Some(before) = book.start(&found) {
            let mut event = bring::signed(Actor::start().event("bundle.start", &found.hash), found.signer);
            (event.before, event.after) = (Some(before.to_string()), Some(found.hash.to_string()));
            tell(event).await?;
        }
        let bundles = Bundles {
            book: Mutex::default(),
            store,
            changing: tokio::sync::Mutex::default(),
            checking: tokio::sync::Mutex::default(),
            ready: Mutex::default(),
            previous: Mutex::default(),
            readying: Mutex::default(),
            digest: Mutex::new(found.digest),
            trial: Mutex::default(),
        };
        bundles.commit(book, &[found.hash]).await?;
        Ok(bundles)
    }

    /// What was in force when the server ended, where that was not the folder's bundle and the folder did not change.
    pub(crate) fn remembered(&self) -> Option<Entry> {
        let book = self.book();
        (book.at.folder != book.at.active).then(|| book.entry(&book.at.active).cloned()).flatten()
    }

    /// What was remembered cannot be used any more, for these problems: the folder's bundle is in force, and until
    /// another one is, what became of the other is told. Gives the line of the audit trail.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(crate) async fn forget_remembered(&self, problems: &[Diagnostic]) -> Result<Event, String> {
        let mut book = self.copy();
        let (gone, folder) = (book.at.active.clone(), book.at.folder.clone());
        book.activate(&folder, crate::clock::unix_ms());
        let why = format!("it was refused when the server started ({})", bring::codes(problems));
        book.at.went_back = Some(guard::Fault { hash: gone.clone(), why });
        self.commit(book, std::slice::from_ref(&folder)).await?;
        let mut event = bring::refusal_event(&Actor::start(), &gone, problems);
        (event.before, event.after) = (Some(gone.to_string()), Some(folder.to_string()));
        Ok(event)
    }

    async fn changing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// The turn to compile a kept bundle.
    async fn readying(&self, hash: &Arc<str>) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.readying.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody has or waits for.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(hash.clone()).or_default().clone()
        };
        turn.lock_owned().await
    }

    async fn checking(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.checking.lock().await
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn copy(&self) -> Book {
        self.book().clone()
    }

    /// Writes a changed book down, then takes it up. Bundles that there is no room for are forgotten.
    async fn commit(&self, mut book: Book, changed: &[Arc<str>]) -> Result<(), String> {
        let gone = book.evict();
        kept::save(&*self.store, &mut book, changed).await?;
        *self.book() = book;
        for entry in gone {
            if let Err(e) = kept::remove(&*self.store, &entry).await {
                tracing::warn!(bundle = &*entry.hash, error = e, "an old bundle could not be removed");
            }
        }
        Ok(())
    }

    /// A bundle that is compiled already.
    fn ready(&self, hash: &str) -> Option<Arc<Bundle>> {
        let previous = self.previous.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        previous.iter().chain(ready.iter()).find(|b| &**b.hash() == hash).cloned()
    }

    /// Whether it is what was in force before.
    fn is_previous(&self, hash: &str) -> bool {
        self.book().at.previous.as_deref() == Some(hash)
    }

    /// Keeps a bundle compiled: what was in force before until another one was, of the others the newest.
    pub(crate) fn keep_ready(&self, bundle: Arc<Bundle>) {
        if self.is_previous(bundle.hash()) {
            *self.previous.lock().unwrap_or_else(PoisonError::into_inner) = Some(bundle);
            return;
        }
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.retain(|b| b.hash() != bundle.hash());
        ready.push_back(bundle);
        while ready.len() > READY {
            ready.pop_front();
        }
    }

    /// Of the files as they were read last.
    pub(crate) fn digest(&self) -> blake3::Hash {
        *self.digest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_digest(&self, digest: blake3::Hash) {
        *self.digest.lock().unwrap_or_else(PoisonError::into_inner) = digest;
    }

    /// Why the files of the folder are not in force, in one line, with what the first error says where that is to be
    /// `told`; `None` = they were good when they were read last.
    pub(crate) fn refused(&self, told: bool) -> Option<String> {
        let book = self.book();
        let refused = book.refused.as_ref()?;
        let errors = refused.problems.iter().filter(|d| d.severity == Severity::Error).count();
        let first = refused.problems.iter().find(|d| told && d.severity == Severity::Error);
        let first = first.map(|d| format!(", the first {d}")).unwrap_or_default();
        let active = &book.at.active;
        Some(format!(
            "configuration: the files have errors ({errors}){first}; bundle {active} stays in force"
        ))
    }

    /// Which bundle went back by itself, in one line; `None` = none did since a bundle was put in force.
    pub(crate) fn went_back(&self) -> Option<String> {
        let book = self.book();
        let guard::Fault { hash, why } = book.at.went_back.as_ref()?;
        let active = &book.at.active;
        Some(format!("bundle {hash} went back by itself: {why}; bundle {active} is in force"))
    }

    /// The bundle in force, where it came into force so lately that it has not proved itself, and there is one to go back
    /// to. One that another went back to was good before.
    pub(crate) fn unproved(&self, now_ms: i64) -> Option<Arc<str>> {
        let book = self.book();
        let since = book.entry(&book.at.active)?.activated_ms?;
        let lately = u128::try_from(now_ms.saturating_sub(since)).unwrap_or(0) < guard::WATCHED.as_millis();
        let is = lately && book.at.previous.is_some() && book.at.went_back.is_none();
        is.then(|| book.at.active.clone())
    }

    /// Name and state of every bundle that has a part in serving.
    pub(crate) fn in_use(&self) -> Vec<(String, &'static str)> {
        let book = self.book();
        let previous = book.at.previous.iter().map(|h| (h.to_string(), "previous"));
        let shadow = book.at.shadow.iter().map(|s| (s.hash.to_string(), "shadow"));
        std::iter::once((book.at.active.to_string(), "active")).chain(previous).chain(shadow).collect()
    }
}

/// The code of [`refusal`].
const INVALID: &str = "invalid_configuration";

/// 422 with every problem: its message is for people, its metadata for programs.
pub(crate) fn refusal(problems: &[Diagnostic], report: String) -> Failure {
    let mut f = Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_configuration", report);
    f.metadata.insert("problems".to_owned(), listed(problems));
    f
}

fn listed(problems: &[Diagnostic]) -> Value {
    json!(problems.iter().take(PROBLEMS).collect::<Vec<_>>())
}
