//! Virtual keys: made, changed, rotated, revoked.

use super::actor::{Actor, Need};
use super::directory::{KEY, TENANT};
use super::fields::{self, Patch};
use super::key::Minted;
use super::merge::{self, Labels, Limits, Lists};
use super::object::{kept, shown};
use super::plane::{Plane, away};
use crate::clock;
use crate::error::Failure;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use types::control::{DEFAULT_TENANT, Key, Object, Quota, Role, Scopes};
use types::diagnostic::{nearest, suggestion};
use types::limits::Metric;

/// Endpoints that scopes may name.
pub(crate) const ENDPOINTS: &[&str] = &["chat", "models", "feedback", "decisions", "runs", "workflows"];
/// How long a rotated key goes on working unless the caller says otherwise, seconds: a day.
const GRACE_S: u64 = 86_400;
/// Longest grace: 30 days.
const MAX_GRACE_S: u64 = 30 * 86_400;

/// What a new key may say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Spec {
    #[serde(deserialize_with = "fields::given")]
    pub(crate) tenant: Option<String>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) name: Option<String>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) role: Option<Role>,
    #[serde(deserialize_with = "fields::object")]
    pub(crate) scopes: Option<Lists>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) labels: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "fields::objects")]
    pub(crate) limits: Option<Vec<Quota>>,
    #[serde(deserialize_with = "fields::patch")]
    pub(crate) expires_ms: Patch<i64>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) suspended: Option<bool>,
}

/// What a change may say of a key; what it does not name stays.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Change {
    /// The version that it was made for; `None` = whichever there is.
    #[serde(deserialize_with = "fields::given")]
    pub(crate) version: Option<u64>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) tenant: Option<String>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) name: Option<String>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) role: Option<Role>,
    #[serde(deserialize_with = "fields::object")]
    pub(crate) scopes: Option<Lists>,
    #[serde(deserialize_with = "fields::patch")]
    pub(crate) labels: Labels,
    #[serde(deserialize_with = "fields::patch_objects")]
    pub(crate) limits: Limits,
    #[serde(deserialize_with = "fields::patch")]
    pub(crate) expires_ms: Patch<i64>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) suspended: Option<bool>,
}

/// What `POST …/rotate` may say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rotation {
    /// Seconds for which the old key still works.
    #[serde(deserialize_with = "fields::given")]
    pub(crate) grace_s: Option<u64>,
}

/// Names that scopes are checked against.
pub(crate) struct Known {
    pub(crate) models: Vec<String>,
    /// Those of the models that can be called.
    pub(crate) ready: Vec<String>,
    pub(crate) pools: Vec<String>,
    /// Whether a selector names a model.
    pub(crate) selects: Box<dyn Fn(&str) -> bool + Send + Sync>,
    pub(crate) workflows: Vec<String>,
    /// What a key may spend a day that is made without limits, in USD.
    pub(crate) default_budget: f64,
}

impl Known {
    /// That a selector of models names some.
    fn selector(&self, field: &str, selector: &str) -> Result<(), Failure> {
        if (self.selects)(selector) {
            return Ok(());
        }
        let near = match selector.strip_prefix("pool:") {
            Some(pool) => suggestion(pool, self.pools.iter().map(String::as_str)),
            None => self.near(selector),
        };
        let text = format!(
            "`{selector}` names nothing here: models are named by id, alias, a pattern such as `groq/*`, or \
             `pool:<name>`; {near}"
        );
        Err(Failure::bad_request("unknown_name", text).param(field))
    }

    /// Models that may have been meant; where none is like it, those that can be called say the most.
    fn near(&self, selector: &str) -> String {
        let (all, ready) = (self.models.iter().map(String::as_str), self.ready.iter().map(String::as_str));
        if self.ready.is_empty() || !nearest(selector, all.clone()).is_empty() {
            return suggestion(selector, all);
        }
        let (many, of) = (self.ready.len(), self.models.len());
        format!("of the {of} models, {many} can be called now; of these, {}", suggestion(selector, ready))
    }

    /// That limits count calls of models that there are.
    pub(crate) fn limits(&self, limits: &[Quota]) -> Result<(), Failure> {
        for (i, model) in limits.iter().enumerate().filter_map(|(i, q)| Some((i, q.model.as_ref()?))) {
            self.selector(&format!("limits[{i}].model"), model)?;
        }
        Ok(())
    }

    /// That the lists that are named here hold what there is.
    fn scopes(&self, scopes: &Lists) -> Result<(), Failure> {
        let refuse = |field: &str, name: &str, hint: String| {
            Err(Failure::bad_request("unknown_name", format!("`{name}` names nothing here; {hint}"))
                .param(field))
        };
        for m in scopes.models.iter().flatten() {
            self.selector("scopes.models", m)?;
        }
        for w in scopes.workflows.iter().flatten() {
            if !self.workflows.contains(w) {
                return refuse(
                    "scopes.workflows",
                    w,
                    suggestion(w, self.workflows.iter().map(String::as_str)),
                );
            }
        }
        for e in scopes.endpoints.iter().flatten() {
            if !ENDPOINTS.contains(&e.as_str()) {
                return refuse("scopes.endpoints", e, suggestion(e, ENDPOINTS.iter().copied()));
            }
        }
        Ok(())
    }
}

impl Spec {
    fn apply(self, k: &mut Key, known: &Known, now_ms: i64) -> Result<(), Failure> {
        if let Some(limits) = self.limits {
            fields::limits(&limits)?;
            known.limits(&limits)?;
            // Whoever bounds something else does not mean to take the bound on money away.
            // Nor does who says what one request may cost say how many there may be.
            let on_money = |q: &Quota| {
                q.metric == Metric::Usd
                    && q.model.is_none()
                    && q.label.is_none()
                    && q.per.as_deref() != Some("request")
            };
            if limits.is_empty() || limits.iter().any(on_money) {
                k.limits.clear();
            }
            k.limits.extend(limits);
            fields::limits(&k.limits)?;
        }
        fields::set(&mut k.labels, self.labels);
        fields::labels(&k.labels)?;
        let Spec { name, scopes, expires_ms, suspended, .. } = self;
        Change { name, scopes, expires_ms, suspended, ..Change::default() }.apply(k, known, now_ms)
    }
}

impl Change {
    fn apply(self, k: &mut Key, known: &Known, now_ms: i64) -> Result<(), Failure> {
        fields::set(&mut k.name, self.name);
        fields::text("name", &k.name)?;
        if let Some(lists) = self.scopes {
            known.scopes(&lists)?;
            lists.apply(&mut k.scopes);
            fields::scopes(&k.scopes)?;
        }
        merge::labels(self.labels, &mut k.labels)?;
        merge::limits(self.limits, &mut k.limits, |all| known.limits(all))?;
        fields::set(&mut k.suspended, self.suspended);
        if matches!(self.expires_ms, Patch::Set(at) if at <= now_ms) {
            let text = "`expires_ms` lies in the past; it is Unix time in milliseconds";
            return Err(Failure::bad_request("invalid_value", text).param("expires_ms"));
        }
        self.expires_ms.apply(&mut k.expires_ms);
        Ok(())
    }
}

/// Whether a key can still be changed so: what has ended does not begin again.
fn still_changes(key: &Key, spec: &Change) -> Result<(), Failure> {
    let ended = |text: String| Err(Failure::new(StatusCode::CONFLICT, "not_active", text));
    if key.revoked_ms.is_some() {
        return ended(format!("key `{}` was revoked; make another one", key.id));
    }
    let longer = match spec.expires_ms {
        Patch::Set(until) => key.expires_ms.is_some_and(|end| until > end),
        Patch::Clear => true,
        Patch::Keep => false,
    };
    match &key.rotated_to {
        Some(next) if longer => {
            ended(format!("key `{}` was rotated to `{next}` and ends when its grace is over", key.id))
        }
        _ => Ok(()),
    }
}

/// Whom a caller may make a key for: nobody gives what they do not hold.
fn may_grant(actor: &Actor, role: Role, tenant: Option<&str>) -> Result<(), Failure> {
    let forbid = |text: &str| Err(Failure::new(StatusCode::FORBIDDEN, "role_missing", text));
    if !actor.sees(tenant) {
        return forbid("the key would belong to another tenant");
    }
    if actor.role != Role::Admin && !matches!(role, Role::Inference | Role::Viewer) {
        return forbid(
            "only an admin makes, changes, rotates and revokes keys with the roles auditor, operator and admin",
        );
    }
    if tenant.is_none() && role == Role::Inference {
        return forbid("a key that asks models belongs to a tenant");
    }
    Ok(())
}

impl Plane {
    /// Keys that the caller may see; never their text or hash.
    pub(crate) async fn keys(&self, actor: &Actor) -> Result<Vec<Value>, Failure> {
        let all = self.store.all(KEY).await.map_err(away)?;
        Ok(all.into_iter().filter(|o| actor.sees(tenant_of(o))).map(shown).collect())
    }

    pub(crate) async fn key(&self, actor: &Actor, id: &str) -> Result<Value, Failure> {
        self.find(KEY, id, |o| actor.sees(tenant_of(o))).await.map(shown)
    }

    /// Makes a key. Its text stands in the answer, this once.
    pub(crate) async fn create_key(
        &self,
        actor: &Actor,
        mut spec: Spec,
        known: &Known,
    ) -> Result<Value, Failure> {
        let _one = self.changing.lock().await;
        let role = spec.role.take().unwrap_or_default();
        let tenant = spec.tenant.take().or_else(|| actor.tenant.clone());
        let tenant = tenant.or_else(|| (role == Role::Inference).then(|| DEFAULT_TENANT.to_owned()));
        if let Some(t) = &tenant
            && self.directory().tenant(t).is_none()
        {
            let all = self.store.all(TENANT).await.map_err(away)?;
            let hint = suggestion(t, all.iter().map(|o| o.id.as_str()));
            let text = format!("there is no tenant `{t}`; {hint}");
            return Err(Failure::bad_request("unknown_tenant", text).param("tenant"));
        }
        may_grant(actor, role, tenant.as_deref())?;
        if tenant.is_some() && matches!(role, Role::Auditor | Role::Admin) {
            let text = format!(
                "the role {} is for all tenants: a key of one with it could do no more than a viewer or an operator; leave out \
                 `tenant`, or make a viewer or an operator of it",
                role.as_str()
            );
            return Err(Failure::bad_request("invalid_value", text).param("role"));
        }
        let default = Quota {
            metric: Metric::Usd,
            amount: known.default_budget,
            per: Some("day".to_owned()),
            model: None,
            label: None,
            reserved_premium: None,
        };
        let now_ms = clock::unix_ms();
        let mut key = Key {
            id: String::new(),
            tenant,
            name: String::new(),
            role,
            scopes: Scopes::default(),
            labels: BTreeMap::new(),
            limits: if role == Role::Inference { vec![default] } else { Vec::new() },
            expires_ms: None,
            revoked_ms: None,
            rotated_to: None,
            counts_as: None,
            suspended: false,
            created_ms: now_ms,
            vouched: actor.may(Need::Admin).is_ok(),
            created_by: actor.id.clone(),
        };
        spec.apply(&mut key, known, now_ms)?;
        self.mint(actor, "key.create", key).await
    }

    async fn mint(&self, actor: &Actor, action: &'static str, mut key: Key) -> Result<Value, Failure> {
        let minted = Minted::new(&self.pepper).map_err(|e| {
            tracing::error!(error = %e, "no key can be made");
            Failure::internal()
        })?;
        key.id.clone_from(&minted.id);
        let made = kept(KEY, &key.id, 0, &key, minted.hash.to_vec())?;
        let mut doc = shown(self.change(actor, action, None, made, Map::new()).await?);
        if let Some(m) = doc.as_object_mut() {
            m.insert("key".to_owned(), minted.text.into());
        }
        Ok(doc)
    }

    pub(crate) async fn change_key(
        &self,
        actor: &Actor,
        id: &str,
        spec: Change,
        known: &Known,
    ) -> Result<Value, Failure> {
        let _one = self.changing.lock().await;
        let before = self.own(actor, id).await?;
        merge::version(spec.version, &before)?;
        let mut key = read(&before)?;
        if spec.role.is_some_and(|r| r != key.role)
            || spec.tenant.as_ref().is_some_and(|t| Some(t) != key.tenant.as_ref())
        {
            let text = "a key keeps its role and tenant; make another one";
            return Err(Failure::bad_request("immutable", text).param("role"));
        }
        still_changes(&key, &spec)?;
        if spec.name.is_some() || !matches!(spec.labels, Patch::Keep) {
            key.vouched = actor.may(Need::Admin).is_ok();
        }
        spec.apply(&mut key, known, clock::unix_ms())?;
        let after = kept(KEY, &key.id, before.version, &key, before.sealed.clone())?;
        self.change(actor, "key.change", Some(&before), after, Map::new()).await.map(shown)
    }

    /// Refuses a key until somebody says `suspended: false`. Suspending again changes nothing.
    pub(crate) async fn suspend_key(&self, actor: &Actor, id: &str) -> Result<(), Failure> {
        let _one = self.changing.lock().await;
        let before = self.own(actor, id).await?;
        let mut key = read(&before)?;
        if key.suspended || key.revoked_ms.is_some() {
            return Ok(());
        }
        key.suspended = true;
        let after = kept(KEY, &key.id, before.version, &key, before.sealed.clone())?;
        self.change(actor, "key.suspend", Some(&before), after, Map::new()).await.map(drop)
    }

    /// Revokes a key at once. Revoking again changes nothing.
    pub(crate) async fn revoke_key(&self, actor: &Actor, id: &str) -> Result<Value, Failure> {
        let _one = self.changing.lock().await;
        let before = self.own(actor, id).await?;
        let mut key = read(&before)?;
        if key.revoked_ms.is_some() {
            return Ok(shown(before));
        }
        key.revoked_ms = Some(clock::unix_ms());
        let after = kept(KEY, &key.id, before.version, &key, before.sealed.clone())?;
        self.change(actor, "key.revoke", Some(&before), after, Map::new()).await.map(shown)
    }

    /// Makes a key with the same rights; the old one works until the grace is over. What both use counts together.
    pub(crate) async fn rotate_key(&self, actor: &Actor, id: &str, how: &Rotation) -> Result<Value, Failure> {
        let _one = self.changing.lock().await;
        let grace = how.grace_s.unwrap_or(GRACE_S);
        if grace > MAX_GRACE_S {
            let text = format!("`grace_s` is {grace}; at most {MAX_GRACE_S} (30 days) are allowed");
            return Err(Failure::bad_request("invalid_value", text).param("grace_s"));
        }
        let before = self.own(actor, id).await?;
        let mut old = read(&before)?;
        if old.revoked_ms.is_some() || old.rotated_to.is_some() {
            let text = format!("key `{id}` was revoked or rotated before");
            return Err(Failure::new(StatusCode::CONFLICT, "not_active", text));
        }
        let now = clock::unix_ms();
        if old.expires_ms.is_some_and(|end| end <= now) {
            let text = format!(
                "key `{id}` has expired, and so would its successor; change its `expires_ms` first, or make another key"
            );
            return Err(Failure::new(StatusCode::CONFLICT, "not_active", text));
        }
        let counts_as = Some(old.counted().to_owned());
        // Whoever rotates a key holds the next one.
        let vouched = old.vouched && actor.may(Need::Admin).is_ok();
        let next = Key { created_ms: now, created_by: actor.id.clone(), counts_as, vouched, ..old.clone() };
        let made = self.mint(actor, "key.create", next).await?;
        let until = now.saturating_add_unsigned(grace.saturating_mul(1_000));
        old.expires_ms = Some(old.expires_ms.map_or(until, |t| t.min(until)));
        old.rotated_to = made.get("id").and_then(Value::as_str).map(str::to_owned);
        let after = kept(KEY, &old.id, before.version, &old, before.sealed.clone())?;
        self.change(actor, "key.rotate", Some(&before), after, Map::new()).await?;
        Ok(made)
    }

    /// A key that the caller may change: not its own, whose limits and scopes others set.
    async fn own(&self, actor: &Actor, id: &str) -> Result<Object, Failure> {
        let object = self.find(KEY, id, |o| actor.sees(tenant_of(o))).await?;
        if actor.kind == "key" && actor.id == id {
            let text = "nobody changes the key they use; ask somebody else to";
            return Err(Failure::new(StatusCode::FORBIDDEN, "own_key", text));
        }
        may_grant(actor, read(&object)?.role, tenant_of(&object))?;
        Ok(object)
    }
}

fn tenant_of(o: &Object) -> Option<&str> {
    o.doc.get("tenant").and_then(Value::as_str)
}

fn read(o: &Object) -> Result<Key, Failure> {
    serde_json::from_value(o.doc.clone()).map_err(|_| Failure::internal())
}
