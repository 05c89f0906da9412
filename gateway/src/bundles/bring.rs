//! How bundles come: the configuration folder is read, files are uploaded, a part of the one in force is changed.
//!
//! What has errors, or nobody vouches for who has to, is refused whole, and that is on the audit trail.

use super::acts::away;
use super::book::{Entry, Origin, Refused};
use super::compile::Vouching;
use super::{How, Read, Terms, refusal, watch};
use crate::app::App;
use crate::clock;
use crate::config::sources::{SIGNATURE, is_readable, misplaced};
use crate::config::{self, Loaded, Signer, Source, Texts};
use crate::control::Actor;
use crate::control::audit::Event;
use crate::error::Failure;
use engine::Bundle;
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use types::{Diagnostic, Severity};

/// Time between two readings of a folder that somebody asked to be read now.
const AT_ONCE: Duration = Duration::from_millis(20);
/// How long its files may go on changing meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of the files of the folder.
#[derive(Clone, Debug)]
pub(crate) enum Taken {
    /// They are in force now.
    Applied(Arc<str>),
    /// They are what is in force already.
    Same(Arc<str>),
}

impl Taken {
    pub(crate) const fn hash(&self) -> &Arc<str> {
        match self {
            Taken::Applied(hash) | Taken::Same(hash) => hash,
        }
    }
}

/// A change of the texts in force.
pub(crate) struct Change<'a> {
    /// What it is called on the audit trail.
    pub(crate) action: &'static str,
    /// What it is about.
    pub(crate) target: &'a str,
    /// Whether it is only checked, or in force however much it changes, and what it was made for.
    pub(crate) terms: Terms,
    /// Gives the texts that are to be in force instead.
    pub(crate) edit: Edit<'a>,
    /// What has to hold of what comes of it, besides being good.
    pub(crate) check: Check<'a>,
}

/// What changes texts.
pub(crate) type Edit<'a> = Box<dyn Fn(&Bundle, &Texts) -> Result<Texts, Failure> + Send + Sync + 'a>;
/// What looks at a bundle.
pub(crate) type Check<'a> = Box<dyn Fn(&Bundle) -> Result<(), Failure> + Send + Sync + 'a>;

impl Change<'_> {
    /// For people who read the list of bundles.
    fn message(&self) -> String {
        format!("{} {}", self.action, self.target)
    }
}

impl App {
    /// Reads the configuration folder now. Good: it is in force for new requests. Bad: nothing changes.
    ///
    /// # Errors
    /// Its problems, or that its files are still being written.
    pub(crate) async fn reload(self: &Arc<Self>, actor: &Actor) -> Result<Taken, Failure> {
        let source = &self.settings.source;
        let read = watch::settled(&self.tasks, source, AT_ONCE, PATIENCE).await.ok_or_else(|| {
            let text = "the files of the configuration are being written; ask again when that is done";
            Failure::busy("configuration_changing", text, PATIENCE)
        })?;
        self.take_files(actor, read).await
    }

    /// Takes up what was read of the configuration folder.
    ///
    /// # Errors
    /// Its problems. Nothing has changed then.
    pub(crate) async fn take_files(self: &Arc<Self>, actor: &Actor, read: Read) -> Result<Taken, Failure> {
        let _checks = self.bundles.checking().await;
        let digest = read.0.digest(&read.1);
        if read.0.settings.as_ref().map(|s| &s.text) != self.started_with.as_ref() {
            tracing::warn!("turnout.yaml has changed; what it says holds from the next start");
            for problem in config::wrong_settings(&read.0, &self.settings.environment) {
                tracing::warn!("the next start would be refused: {problem}");
            }
        }
        let loaded = self.compile(move || read, Vouching::AsSet).await?;
        let Loaded { bundle, problems, hash, files, built_in, signer, .. } = match loaded {
            Ok(good) => good,
            Err(bad) => {
                let _one = self.bundles.changing().await;
                self.bundles.note_digest(digest);
                return Err(self.refuse_files(actor, bad));
            }
        };
        warn(&problems);
        let _one = self.bundles.changing().await;
        let mut book = self.bundles.copy();
        book.refused = None;
        book.at.folder = hash.clone();
        if book.at.active == hash {
            self.bundles.commit(book, &[]).await.map_err(away)?;
            self.bundles.note_digest(digest);
            // Whoever loads policies again wants them run again, changed or not.
            self.engine.bundle().policies().release();
            self.metrics.reload("unchanged");
            return Ok(Taken::Same(hash));
        }
        self.one_of_that_name(&hash, &files)?;
        let by = actor.to_string();
        book.add(entry(&hash, (files, built_in), Origin::Files, by, String::new()));
        let bundle = bundle.ok_or_else(Failure::internal)?;
        let event = signed(actor.event("bundle.reload", &hash), signer);
        self.put_in_force_as(event, Arc::new(bundle), book, None).await?;
        self.bundles.note_digest(digest);
        self.metrics.reload("applied");
        Ok(Taken::Applied(hash))
    }

    fn refuse_files(&self, actor: &Actor, bad: Loaded) -> Failure {
        self.metrics.reload("refused");
        log(&bad.problems);
        let report = bad.report(false);
        let failure = refusal(&bad.problems, format!("the configuration has errors:\n\n{report}"));
        let refused = refused(bad, Origin::Files, actor.to_string(), String::new());
        let mut event = refusal_event(actor, &refused.hash, &refused.problems);
        event.before = Some(self.engine.bundle_hash().to_string());
        self.plane.note(event);
        self.bundles.book().refused = Some(refused);
        failure
    }

    async fn refuse_upload(&self, actor: &Actor, bad: Loaded, message: String) -> Failure {
        let failure = has_errors(&bad);
        let refused = refused(bad, Origin::Upload, actor.to_string(), message);
        let mut event = refusal_event(actor, &refused.hash, &refused.problems);
        told(&mut event.detail, &refused.message);
        self.plane.note(event);
        // Whoever changes the book works on a copy, which would take the place of this line.
        let _one = self.bundles.changing().await;
        self.bundles.book().reject(refused);
        failure
    }

    /// Changes the texts of the bundle in force and puts what comes of it in force, as a whole, unless it would change more
    /// for the requests that came of late than the settings allow; with [`How::DryRun`] it is only checked.
    ///
    /// # Errors
    /// Why it cannot be changed so, or all problems of what would come of it, or another bundle came into force meanwhile.
    /// Nothing has changed then.
    pub(crate) async fn change(
        self: &Arc<Self>,
        actor: &Actor,
        change: Change<'_>,
    ) -> Result<Value, Failure> {
        let _checks = self.bundles.checking().await;
        let Terms { how, .. } = change.terms;
        let dry_run = how == How::DryRun;
        if !dry_run {
            self.may_change_alone()?;
        }
        let before = self.engine.bundle();
        change.terms.hold_over(before.hash())?;
        let texts = self.bundles.texts(before.hash());
        let mut edited = (change.edit)(&before, &texts)?;
        // It vouched for other texts.
        edited.remove(SIGNATURE);
        let given = Source::kept(&edited, &[]);
        let Loaded { bundle, problems, hash, files, built_in, .. } =
            match self.compile(move || given.read(), Vouching::Nobody).await? {
                Ok(good) => good,
                Err(bad) if dry_run => return Err(has_errors(&bad)),
                Err(bad) => return Err(self.refuse_upload(actor, bad, change.message()).await),
            };
        let after = Arc::new(bundle.ok_or_else(Failure::internal)?);
        let strange = self.strange_tenants(&after, &files);
        let problems: Vec<Diagnostic> = problems.into_iter().chain(strange).collect();
        (change.check)(&after)?;
        let changed = hash != *before.hash();
        let replay = if dry_run { self.foretold(&before, &after).await? } else { Value::Null };
        let answer = json!({
            "object": "change", "dry_run": dry_run, "changed": changed, "bundle": hash, "before": before.hash(),
            "problems": super::listed(&problems), "diff": super::diff((&before, &texts), (&after, &files)),
            "replay": replay,
        });
        if changed && !dry_run {
            let detail = self.foresee(&before, &after, how).await?;
            let _one = self.bundles.changing().await;
            if self.engine.bundle_hash() != *before.hash() {
                return Err(overtaken());
            }
            self.one_of_that_name(&hash, &files)?;
            let mut book = self.bundles.copy();
            book.add(entry(&hash, (files, built_in), Origin::Upload, actor.to_string(), change.message()));
            let event = Event { detail, ..actor.event(change.action, change.target) };
            self.put_in_force_as(event, after, book, None).await?;
        }
        Ok(answer)
    }

    /// Checks and keeps a bundle. It is not in force by that.
    ///
    /// # Errors
    /// All of its problems.
    pub(crate) async fn upload(
        self: &Arc<Self>,
        actor: &Actor,
        files: Texts,
        message: String,
    ) -> Result<(StatusCode, Value), Failure> {
        let _checks = self.bundles.checking().await;
        let paths = misplaced(files.keys().map(String::as_str));
        let apart = (!paths.is_empty()).then(|| name_of(&files));
        // Problems within a file are told with its path, which has to be one that can be told.
        let files = files.into_iter().filter(|(path, _)| is_readable(path));
        let given = Source::Given(files.map(|(p, t)| (p, t.to_string())).collect());
        let read = move || {
            let (sources, mut problems) = given.read();
            problems.extend(paths);
            (sources, problems)
        };
        let Loaded { bundle, problems, hash, files, built_in, signer, .. } =
            match self.compile(read, Vouching::AsSet).await? {
                Ok(good) => good,
                // Files without a place are no part of a bundle's name: those with them must not bear that of those without.
                Err(bad) => {
                    let bad = Loaded { hash: apart.unwrap_or_else(|| bad.hash.clone()), ..bad };
                    return Err(self.refuse_upload(actor, bad, message).await);
                }
            };
        let strange = bundle.iter().flat_map(|b| self.strange_tenants(b, &files));
        let problems: Vec<Diagnostic> = problems.into_iter().chain(strange).collect();
        let _one = self.bundles.changing().await;
        self.one_of_that_name(&hash, &files)?;
        let mut book = self.bundles.copy();
        book.rejected.retain(|r| r.hash != hash);
        let known = book.entry(&hash).is_some();
        if !known {
            let mut event = signed(actor.event("bundle.upload", &hash), signer);
            let warnings = problems.iter().filter(|d| d.severity == Severity::Warning).count();
            for (name, n) in [("files", files.len()), ("warnings", warnings)] {
                event.detail.insert(name.to_owned(), n.into());
            }
            told(&mut event.detail, &message);
            self.plane.record(event).await?;
            book.add(entry(&hash, (files, built_in), Origin::Upload, actor.to_string(), message));
            self.bundles.commit(book, std::slice::from_ref(&hash)).await.map_err(away)?;
        }
        if let Some(bundle) = bundle {
            self.bundles.keep_ready(Arc::new(bundle));
        }
        let mut shown = self.bundles.one(&hash)?;
        if let Some(m) = shown.as_object_mut() {
            m.insert("problems".to_owned(), super::listed(&problems));
        }
        Ok((if known { StatusCode::OK } else { StatusCode::CREATED }, shown))
    }

    /// A name stands for one bundle: what people looked at under it is what comes into force.
    ///
    /// # Errors
    /// 409: other texts are kept under that name. Names are short enough that somebody could make two texts for one.
    fn one_of_that_name(&self, hash: &str, files: &Texts) -> Result<(), Failure> {
        match self.bundles.book().entry(hash).is_none_or(|known| known.files == *files) {
            true => Ok(()),
            false => {
                let text =
                    format!("another bundle is known as {hash}; change a comment in one of these files");
                Err(Failure::new(StatusCode::CONFLICT, "name_taken", text))
            }
        }
    }
}

/// A line of the trail that names who vouches.
pub(crate) fn signed(mut event: Event, signer: Option<Signer>) -> Event {
    if let Some(Signer { key, author }) = signer {
        event.detail.insert("signed_by".to_owned(), key.to_string().into());
        event.detail.insert("author".to_owned(), author.into());
    }
    event
}

/// A line of the trail that says why something is no bundle, by the codes of its errors.
pub(crate) fn refusal_event(actor: &Actor, hash: &str, problems: &[Diagnostic]) -> Event {
    let mut event = actor.event("bundle.refused", hash);
    event.detail.insert("codes".to_owned(), codes(problems).into());
    event
}

/// Says in a line of the trail why a bundle was brought, if that was said.
pub(super) fn told(detail: &mut Map<String, Value>, message: &str) {
    if !message.is_empty() {
        detail.insert("message".to_owned(), message.into());
    }
}

/// The codes of the errors among problems, each once.
pub(crate) fn codes(problems: &[Diagnostic]) -> String {
    let errors = problems.iter().filter(|d| d.severity == Severity::Error);
    let codes: BTreeSet<&str> = errors.map(|d| d.code.as_str()).collect();
    codes.into_iter().collect::<Vec<_>>().join(" ")
}

fn entry(
    hash: &Arc<str>,
    (files, built_in): (Texts, Vec<String>),
    origin: Origin,
    by: String,
    message: String,
) -> Entry {
    let at_ms = clock::unix_ms();
    Entry {
        hash: hash.clone(),
        files,
        built_in,
        origin,
        by,
        at_ms,
        message,
        parent: None,
        activated_ms: None,
        version: 0,
    }
}

/// Names all files of an upload, those included that are no files of a bundle.
fn name_of(files: &Texts) -> Arc<str> {
    let mut h = blake3::Hasher::new();
    for part in files.iter().flat_map(|(path, text)| [path.as_str(), &**text]) {
        h.update(&(part.len() as u64).to_le_bytes());
        h.update(part.as_bytes());
    }
    h.finalize().to_hex().as_str().get(..16).unwrap_or("").into()
}

fn refused(bad: Loaded, origin: Origin, by: String, message: String) -> Refused {
    Refused { hash: bad.hash, origin, by, at_ms: clock::unix_ms(), message, problems: bad.problems }
}

fn overtaken() -> Failure {
    let text =
        "another bundle came into force while this change was checked, so nothing was changed; ask again";
    Failure::new(StatusCode::CONFLICT, "bundle_changed", text)
}

fn has_errors(bad: &Loaded) -> Failure {
    refusal(&bad.problems, format!("the bundle has errors:\n\n{}", bad.report(false)))
}

/// Tells of every error of files in one record.
fn log(problems: &[Diagnostic]) {
    for d in problems.iter().filter(|d| d.severity == Severity::Error) {
        let (file, line, column, code) = (d.file.as_str(), d.line, d.column, d.code.as_str());
        tracing::error!(file, line, column, code, "the files of the configuration are not taken up: {d}");
    }
}

/// Tells why files of the configuration are not taken up; what is wrong in them was told when they were read.
pub(crate) fn log_not_taken(e: &Failure) {
    if e.code != super::INVALID {
        tracing::error!("the files of the configuration are not taken up: {}", e.message);
    }
}

fn warn(problems: &[Diagnostic]) {
    for w in problems.iter().filter(|d| d.severity == Severity::Warning) {
        tracing::warn!("{w}");
    }
}
