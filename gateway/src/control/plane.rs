//! The control plane of one server: what is kept, the snapshot that requests look up, and the trail of changes.

use super::actor::Actor;
use super::audit::{Audit, Event, Rotated};
use super::directory::{self, Directory, Refused};
use super::refusals::{Refusal, Refusals};
use super::secret::{self, Secret};
use super::tripwire::Tripwire;
use crate::clock;
use crate::error::Failure;
use crate::metrics::refusing;
use arc_swap::ArcSwap;
use engine::runs::Question;
use engine::{APPROVAL_REQUIRED, Kind, Who};
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use types::control::{ControlStore, Error, Key, Object, Quota};
use types::diagnostic::suggestion;
use types::directives::RuleResult;
use types::outcome::Status;
use types::store::RequestRecord;
use zeroize::Zeroizing;

/// File of the pepper of key hashes, in the data folder.
const PEPPER: &str = "pepper";
/// File by which commands on the same machine, run by the same user, show who they are. New at each start.
pub(crate) const LOCAL_TOKEN: &str = "admin.token";
/// Codes of requests that a limit refused. One that asks for what has no price is refused for a limit on money.
pub(crate) const BY_LIMITS: &[&str] = &["rate_limit_exceeded", "insufficient_quota", "unpriced"];
/// Kind of the stored keys of providers.
pub(crate) const PROVIDER_KEY: &str = "provider_key";

/// A provider's key that is kept here.
#[derive(Clone)]
pub(crate) struct StoredKey {
    pub(crate) id: String,
    pub(crate) provider: String,
    pub(crate) text: Zeroizing<String>,
    /// What it may use, whatever the other keys of its provider may.
    pub(crate) limits: Vec<Quota>,
}

/// What the control plane is opened with.
pub(crate) struct Opening<'a> {
    pub(crate) store: Arc<dyn ControlStore>,
    /// `None` = nothing outlives the process, the trail of changes included.
    pub(crate) data: Option<&'a Path>,
    /// The master key; `None` = no key of a provider is kept here.
    pub(crate) master: Option<Secret>,
    /// The one before it: what opens with that alone is wrapped anew.
    pub(crate) master_before: Option<Secret>,
    /// Where the anchor of the trail is written besides.
    pub(crate) anchor: Option<&'a Path>,
    /// What keys spend.
    pub(crate) tripwire: Arc<Tripwire>,
}

/// The control plane.
pub(crate) struct Plane {
    pub(crate) store: Arc<dyn ControlStore>,
    directory: ArcSwap<Directory>,
    provider_keys: ArcSwap<Vec<StoredKey>>,
    pub(super) pepper: Secret,
    pub(super) master: Option<Secret>,
    audit: Option<Audit>,
    refusals: Refusals,
    tripwire: Arc<Tripwire>,
    local: blake3::Hash,
    /// One change at a time: what is checked still holds when it is written.
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl Plane {
    /// Opens it.
    ///
    /// # Errors
    /// A secret or the trail cannot be used, or what is stored cannot be read: in words for the operator.
    pub(crate) async fn open(opening: Opening<'_>) -> Result<Plane, String> {
        let Opening { store, data, master, master_before, anchor, tripwire } = opening;
        let words = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| format!("{what}: {e}")
        };
        let boot = uuid::Uuid::now_v7().to_string();
        let token = Zeroizing::new(types::encoding::hex(&secret::random::<32>().map_err(words("random"))?));
        let (pepper, audit) = match data {
            Some(folder) => {
                let pepper = Secret::of_file(&folder.join(PEPPER)).map_err(words(PEPPER))?;
                let audit = Audit::open(folder, boot, anchor).map_err(words("audit trail"))?;
                write_token(&folder.join(LOCAL_TOKEN), &token).map_err(words(LOCAL_TOKEN))?;
                (pepper, Some(audit))
            }
            None => (Secret::of_text(&token)?, None),
        };
        let local = pepper.hash(&token);
        let empty = Directory::new(&[], &[], 0)?;
        let plane = Plane {
            store,
            directory: ArcSwap::from_pointee(empty),
            provider_keys: ArcSwap::default(),
            pepper,
            master,
            audit,
            refusals: Refusals::default(),
            tripwire,
            local,
            changing: tokio::sync::Mutex::default(),
        };
        plane.refresh().await?;
        if let Some(before) = master_before {
            plane.rewrap(&before).await?;
        }
        Ok(plane)
    }

    /// Reads what is stored anew from time to time, until `stop`: keys grow older, and tenants' clocks change to
    /// summer time, at a quarter of an hour wherever they do.
    pub(crate) async fn keep_present(&self, stop: CancellationToken) {
        const QUARTER_MS: i64 = 15 * 60 * 1_000;
        loop {
            let left = QUARTER_MS - clock::unix_ms().rem_euclid(QUARTER_MS);
            // A moment after it, so that it is over for a clock that lags.
            let wait = Duration::from_millis(left.unsigned_abs().saturating_add(100));
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let _one = self.changing.lock().await;
            if let Err(e) = self.refresh().await {
                tracing::warn!(
                    error = e,
                    "tenants and keys could not be read anew; those read before stay in force"
                );
            }
        }
    }

    /// The newest anchor of the trail, whenever there is one; `None` = there is no trail.
    pub(crate) fn anchors(&self) -> Option<tokio::sync::watch::Receiver<Option<Value>>> {
        self.audit.as_ref().map(Audit::newest)
    }

    /// Puts on the trail what was only counted of refusals, when the minute is over, until `stop`.
    pub(crate) async fn keep_counting(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(30)) => {}
            }
            self.refusals.over(clock::unix_ms()).into_iter().for_each(|e| self.note(e));
        }
    }

    /// Reads what is stored into the snapshots.
    pub(super) async fn refresh(&self) -> Result<(), String> {
        let words = |e: Error| e.to_string();
        let tenants = self.store.all(directory::TENANT).await.map_err(words)?;
        let keys = self.store.all(directory::KEY).await.map_err(words)?;
        self.directory.store(Arc::new(Directory::new(&tenants, &keys, clock::unix_ms())?));
        self.refresh_provider_keys().await
    }

    pub(super) async fn refresh_provider_keys(&self) -> Result<(), String> {
        let words = |e: Error| e.to_string();
        let stored = self.store.all(PROVIDER_KEY).await.map_err(words)?;
        let mut opened = Vec::with_capacity(stored.len());
        for o in &stored {
            match self.provider_key(o) {
                Ok(key) => opened.push(key),
                // The others still serve.
                Err(why) => tracing::error!(id = o.id, "a stored key of a provider cannot be used: {why}"),
            }
        }
        self.provider_keys.store(Arc::new(opened));
        Ok(())
    }

    fn provider_key(&self, o: &Object) -> Result<StoredKey, &'static str> {
        let master = self.master.as_ref().ok_or("TURNOUT_MASTER_KEY is not set")?;
        let provider = o.doc.get("provider").and_then(Value::as_str).ok_or("it names no provider")?;
        let text = master.open(&sealed_about(provider, &o.id), &o.sealed)?;
        let limits = super::provider_keys::limits_of(o).map_err(|_| "its limits are none")?;
        Ok(StoredKey { id: o.id.clone(), provider: provider.to_owned(), text, limits })
    }

    /// The keys of providers that are kept here.
    pub(crate) fn provider_keys(&self) -> Arc<Vec<StoredKey>> {
        self.provider_keys.load_full()
    }

    /// Tenants and keys as they stand.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.directory.load_full()
    }

    /// Whose request it is, by the key it brought.
    ///
    /// # Errors
    /// 401, 403, or 429 for a key that the tripwire holds.
    pub(crate) fn authenticate(&self, presented: Option<&str>) -> Result<Arc<Who>, Refused> {
        let now_ms = clock::unix_ms();
        let who = self.directory.load().authenticate(presented, &self.pepper, now_ms)?;
        let key = who.principal.key.as_ref();
        match key.and_then(|key| self.tripwire.refusal(key.counted(), now_ms)) {
            Some(failure) => Err(Refused { failure, key: key.cloned() }),
            None => Ok(who),
        }
    }

    /// Who started something earlier; `None` = it may not go on.
    pub(crate) fn starter(&self, tenant: &str, principal: &str) -> Option<Arc<Who>> {
        self.directory.load().starter(tenant, principal, clock::unix_ms())
    }

    /// Whether a key is the token of commands on the same machine.
    pub(crate) fn is_local(&self, presented: &str) -> bool {
        self.pepper.hash(presented) == self.local
    }

    /// Who asks the control API.
    ///
    /// # Errors
    /// 401 without a key, and with one that is not for it.
    pub(crate) fn actor(&self, presented: Option<&str>) -> Result<Actor, Refused> {
        let refuse = |key: Option<Arc<Key>>, text: &str| {
            let failure = Failure::new(StatusCode::UNAUTHORIZED, "invalid_admin_key", text);
            Refused { failure: failure.param("authorization"), key }
        };
        let Some(text) = presented else {
            let text =
                "the control API asks for a key with a role: make one with `turnout key create --role admin`";
            return Err(refuse(None, text));
        };
        if self.is_local(text) {
            return Ok(Actor::local());
        }
        let who = self.authenticate(Some(text)).map_err(|r| refuse(r.key, "the key is not known here"))?;
        match &who.principal.key {
            Some(key) => Actor::of_key(key).ok_or_else(|| {
                let text = "this key asks models; the control API asks for a key with another role";
                let failure = Failure::new(StatusCode::FORBIDDEN, "role_missing", text);
                Refused { failure, key: Some(key.clone()) }
            }),
            None => Err(refuse(None, "the key is not known here")),
        }
    }

    /// Puts a change on the trail; it is on the disk when this returns.
    ///
    /// # Errors
    /// 503: the change must not be made then.
    pub(crate) async fn record(&self, event: Event) -> Result<(), Failure> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let receipts = event.receipts.clone();
        let written = audit.record(event).await;
        written.map(|line| receipts.add(line)).map_err(|e| {
            tracing::error!(error = %e, "the audit trail cannot be written; the change was not made");
            let wait = std::time::Duration::from_secs(5);
            Failure::busy(
                "audit_unavailable",
                "the audit trail cannot be written, so nothing was changed",
                wait,
            )
        })
    }

    /// Has the trail sealed with a new key from now on; tells which.
    ///
    /// # Errors
    /// 404 where there is no trail; 503 where it cannot be written.
    pub(crate) async fn rotate_audit_key(&self, actor: &Actor) -> Result<Value, Failure> {
        let Some(audit) = &self.audit else {
            return Err(Failure::not_found("there is no audit trail: this server keeps nothing"));
        };
        let Rotated { line, public_key, key } = audit.rotate(actor.event("", "")).await.map_err(|e| {
            tracing::error!(error = %e, "the key of the audit trail was not changed");
            let text = "the audit trail cannot be written; the key in force stays until a seal can be";
            Failure::busy("audit_unavailable", text, Duration::from_secs(5))
        })?;
        actor.receipts.add(line);
        Ok(json!({ "object": "audit_key", "seq": line.seq, "key": key, "public_key": public_key }))
    }

    /// Puts a refused request on the trail, without waiting.
    pub(crate) fn note(&self, event: Event) {
        if let Some(audit) = &self.audit {
            audit.note(event);
        }
    }

    /// Puts refused credentials on the trail.
    pub(crate) fn refused(&self, endpoint: &'static str, refused: &Refused, from: Option<IpAddr>) {
        let refusal = Refusal::of(endpoint, &refused.failure.code, refused.key.as_deref());
        self.note_bounded(refusal, |event| {
            event.detail.extend(why(&refused.failure));
            event.detail.extend(from.map(|from| ("from".to_owned(), from.to_string().into())));
        });
    }

    /// Puts a request on the trail that was refused before it had a record, by the key that it came with.
    pub(crate) fn note_refused(&self, endpoint: &'static str, failure: &Failure, who: &Who) {
        let (principal, code) = (&who.principal, failure.code.as_str());
        let refusal = Refusal::of_tenant(endpoint, code, principal.key.as_deref(), &principal.tenant.id);
        let by_limit = BY_LIMITS.contains(&code);
        let refusal = if by_limit { refusal.by_limit(failure.short.as_deref()) } else { refusal };
        self.note_bounded(refusal, |event| event.detail.extend(why(failure)));
    }

    /// Puts on the trail what somebody may not have done by the control API: `path` as they asked for it.
    pub(crate) fn note_forbidden(
        &self,
        actor: &Actor,
        route: &'static str,
        path: &str,
        code: &str,
        request: &str,
    ) {
        self.note_bounded(Refusal::of_actor(actor, route, code), |event| {
            path.clone_into(&mut event.target);
            request.clone_into(&mut event.request);
        });
    }

    /// Puts a refusal on the trail: a line of its own, to which `tell` adds what is only its own, or a part of a sum.
    fn note_bounded(&self, refusal: Refusal, tell: impl FnOnce(&mut Event)) {
        if self.audit.is_some() {
            let lines = self.refusals.one(refusal, tell, clock::unix_ms());
            lines.into_iter().for_each(|line| self.note(line));
        }
    }

    /// Puts a request on the trail that a policy refused, put to people, or failed because it could not be evaluated, or
    /// that a limit refused.
    pub(crate) fn note_denied(&self, record: &RequestRecord) {
        let (decision, outcome) = (&record.decision, &record.outcome);
        let code = outcome.error.as_deref().unwrap_or_default();
        let unevaluated = code == Kind::UNEVALUATED;
        let noted = unevaluated || outcome.status == Status::Denied || BY_LIMITS.contains(&code);
        if !noted || self.audit.is_none() {
            return;
        }
        let of = |result| decision.rules.iter().filter(move |r| r.result == result).map(|r| &*r.id);
        let rules: Vec<&str> = match unevaluated {
            // The evaluation ended with it; those before it were left out.
            true => of(RuleResult::Error).next_back().into_iter().collect(),
            // That a rule sets limits, too, says nothing of which one had no room.
            false if outcome.status != Status::Denied => Vec::new(),
            false => match refusing(record) {
                // What people have said is told by its code.
                none if none.is_empty() => of(RuleResult::Matched).collect(),
                refusing => refusing.into_iter().collect(),
            },
        };
        let directory = self.directory.load();
        let key = outcome.account.as_ref().and_then(|a| directory.key(&a.key));
        let refusal = Refusal::of_tenant("requests", code, key, &decision.tenant).by_rules(rules.join(", "));
        let short = outcome.account.as_ref().and_then(|a| a.refused.as_deref());
        let refusal = if BY_LIMITS.contains(&code) { refusal.by_limit(short) } else { refusal };
        self.note_bounded(refusal, |event| {
            decision.request_id.clone_into(&mut event.target);
            decision.request_id.clone_into(&mut event.request);
            event.detail.extend(short.map(|short| ("limit".to_owned(), short.to_string().into())));
        });
    }

    /// Puts on the trail that a run waits for people.
    pub(crate) fn note_asked(&self, question: &Question<'_>) {
        if self.audit.is_none() {
            return;
        }
        let run = question.run;
        let directory = self.directory.load();
        let key = directory.key(&run.principal);
        let refusal = Refusal::of_tenant("runs", APPROVAL_REQUIRED, key, &run.tenant)
            .by_rules(question.rules.join(", "))
            .named("request.gated");
        self.note_bounded(refusal, |event| {
            run.id.clone_into(&mut event.target);
            run.id.clone_into(&mut event.request);
            for (name, value) in [("phase", question.phase.as_str()), ("frame", question.frame)] {
                event.detail.insert(name.to_owned(), value.into());
            }
        });
    }

    /// The key of the hashes that policies put in the place of values.
    pub(crate) fn redaction_key(&self) -> [u8; 32] {
        *self.pepper.derive("turnout 2026 redaction").hash("").as_bytes()
    }

    /// The keyed hash under which a document stands in the trail.
    pub(super) fn fingerprint(&self, doc: &Value) -> String {
        self.pepper.derive("turnout 2026 audit").hash(&crate::signing::canonical(doc)).to_hex().to_string()
    }

    /// A change: on the trail first, then stored, then in force. Gives the stored object.
    pub(super) async fn change(
        &self,
        actor: &Actor,
        action: &'static str,
        before: Option<&Object>,
        after: Object,
        detail: Map<String, Value>,
    ) -> Result<Object, Failure> {
        let mut event = actor.event(action, &after.id);
        event.tenant = tenant_of(&after).to_owned();
        event.before = before.map(|o| self.fingerprint(&o.doc));
        event.after = Some(self.fingerprint(&after.doc));
        event.detail = detail;
        self.record(event).await?;
        let stored = self.store.put(vec![after]).await.map_err(away)?;
        let stored = stored.into_iter().next().ok_or_else(Failure::internal)?;
        match stored.kind.as_str() {
            directory::TENANT | directory::KEY => {
                let changed = self.directory().with(&stored, clock::unix_ms()).map_err(broken)?;
                self.directory.store(Arc::new(changed));
            }
            _ => self.refresh_provider_keys().await.map_err(broken)?,
        }
        Ok(stored)
    }

    /// Removes an object, on the trail first.
    pub(super) async fn remove(
        &self,
        actor: &Actor,
        action: &'static str,
        object: &Object,
    ) -> Result<(), Failure> {
        let mut event = actor.event(action, &object.id);
        event.tenant = tenant_of(object).to_owned();
        event.before = Some(self.fingerprint(&object.doc));
        self.record(event).await?;
        self.store.remove(&object.kind, &object.id, object.version).await.map_err(away)?;
        match object.kind.as_str() {
            directory::TENANT => {
                let left = self.directory().without_tenant(&object.id, clock::unix_ms());
                self.directory.store(Arc::new(left));
                Ok(())
            }
            // Keys are revoked and stay.
            _ => self.refresh_provider_keys().await.map_err(broken),
        }
    }

    /// An object by its id.
    ///
    /// # Errors
    /// 404 with the nearest names, which are only those the caller may see.
    pub(super) async fn find(
        &self,
        kind: &'static str,
        id: &str,
        seen: impl Fn(&Object) -> bool,
    ) -> Result<Object, Failure> {
        if let Some(found) = self.store.one(kind, id).await.map_err(away)?.filter(&seen) {
            return Ok(found);
        }
        let mut all = self.store.all(kind).await.map_err(away)?;
        all.retain(seen);
        let hint = suggestion(id, all.iter().map(|o| o.id.as_str()));
        let what = kind.replace('_', " ");
        Err(Failure::not_found(format!("there is no {what} `{id}`; {hint}")))
    }
}

impl Drop for Plane {
    /// What was counted and has no line yet gets one: its minute is not over.
    fn drop(&mut self) {
        self.refusals.rest().into_iter().for_each(|e| self.note(e));
    }
}

/// The tenant that an object is about: itself, or the one that it belongs to; empty = all of them.
fn tenant_of(object: &Object) -> &str {
    match object.kind.as_str() {
        directory::TENANT => &object.id,
        _ => object.doc.get("tenant").and_then(Value::as_str).unwrap_or_default(),
    }
}

/// What a stored key of a provider is bound to.
pub(super) fn sealed_about(provider: &str, id: &str) -> String {
    format!("provider_key/{provider}/{id}")
}

/// A change that found something else than it was made for is the caller's to repeat; everything else is ours.
#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
pub(super) fn away(e: Error) -> Failure {
    match e {
        Error::Conflict { .. } => Failure::new(StatusCode::CONFLICT, "conflict", e.to_string()),
        Error::Away(_) => {
            tracing::error!(error = %e, "the control store is away");
            Failure::busy("store_unavailable", "nothing was changed", std::time::Duration::from_secs(5))
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` takes")]
fn broken(why: String) -> Failure {
    tracing::error!("what the control plane stores cannot be read: {why}");
    Failure::internal()
}

/// What is told of a refusal beside its code: of a limit which, whose, over which time and how it stood, of all else what the
/// client is told, as far as it is not too long for a line. No text that names a key holds more than its public part.
fn why(failure: &Failure) -> Option<(String, Value)> {
    /// Characters of a reason.
    const MOST: usize = 300;
    let (name, text) = match &failure.short {
        // Lines name nobody by a word of a request.
        Some(short) => ("limit", short.unnamed().to_string()),
        None => ("reason", failure.message.chars().take(MOST).collect()),
    };
    (!text.is_empty()).then(|| (name.to_owned(), text.into()))
}

fn write_token(path: &Path, token: &str) -> io::Result<()> {
    use std::io::Write as _;
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    secret::create_private(path)?.write_all(token.as_bytes())
}

#[cfg(test)]
mod tests;
