//! Tenants: made, changed, removed.

use super::actor::Actor;
use super::directory::{KEY, TENANT};
use super::fields::{self, Patch};
use super::keys::Known;
use super::merge::{self, Labels, Limits};
use super::object::{kept, shown};
use super::plane::{Plane, away};
use crate::clock;
use crate::error::Failure;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use types::control::{Object, Quota, ServiceTier, Tenant};
use types::options::OnDisconnect;

/// What a new tenant may say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Spec {
    #[serde(deserialize_with = "fields::given")]
    pub(crate) id: Option<String>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) title: Option<String>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) tier: Option<ServiceTier>,
    #[serde(deserialize_with = "fields::patch")]
    pub(crate) region: Patch<String>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) time_zone: Option<String>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) labels: Option<BTreeMap<String, String>>,
    #[serde(deserialize_with = "fields::objects")]
    pub(crate) limits: Option<Vec<Quota>>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) allow_explore: Option<bool>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) on_disconnect: Option<OnDisconnect>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) suspended: Option<bool>,
}

/// What a change may say of a tenant; what it does not name stays.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Change {
    /// The version that it was made for; `None` = whichever there is.
    #[serde(deserialize_with = "fields::given")]
    pub(crate) version: Option<u64>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) id: Option<String>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) title: Option<String>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) tier: Option<ServiceTier>,
    #[serde(deserialize_with = "fields::patch")]
    pub(crate) region: Patch<String>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) time_zone: Option<String>,
    #[serde(deserialize_with = "fields::patch")]
    pub(crate) labels: Labels,
    #[serde(deserialize_with = "fields::patch_objects")]
    pub(crate) limits: Limits,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) allow_explore: Option<bool>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) on_disconnect: Option<OnDisconnect>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) suspended: Option<bool>,
}

impl Spec {
    fn apply(self, t: &mut Tenant, known: &Known) -> Result<(), Failure> {
        if let Some(limits) = self.limits {
            fields::limits(&limits)?;
            known.limits(&limits)?;
            t.limits = limits;
        }
        fields::set(&mut t.labels, self.labels);
        fields::labels(&t.labels)?;
        let Spec { title, tier, region, time_zone, allow_explore, on_disconnect, suspended, .. } = self;
        let rest = Change {
            title,
            tier,
            region,
            time_zone,
            allow_explore,
            on_disconnect,
            suspended,
            ..Change::default()
        };
        rest.apply(t, known)
    }
}

impl Change {
    fn apply(self, t: &mut Tenant, known: &Known) -> Result<(), Failure> {
        fields::set(&mut t.title, self.title);
        fields::set(&mut t.tier, self.tier);
        self.region.apply(&mut t.region);
        fields::set(&mut t.time_zone, self.time_zone);
        merge::labels(self.labels, &mut t.labels)?;
        merge::limits(self.limits, &mut t.limits, |all| known.limits(all))?;
        fields::set(&mut t.allow_explore, self.allow_explore);
        fields::set(&mut t.on_disconnect, self.on_disconnect);
        fields::set(&mut t.suspended, self.suspended);
        for (field, text) in
            [("title", Some(&t.title)), ("region", t.region.as_ref()), ("time_zone", Some(&t.time_zone))]
        {
            fields::text(field, text.map_or("", String::as_str))?;
        }
        if t.region.as_deref() == Some("") {
            let text = "`region` is empty; leave it out, or take it away with `null`";
            return Err(Failure::bad_request("invalid_value", text).param("region"));
        }
        if jiff::tz::TimeZone::get(&t.time_zone).is_err() {
            let text = format!("`{}` is no time zone; write it as in Europe/Berlin or UTC", t.time_zone);
            return Err(Failure::bad_request("invalid_value", text).param("time_zone"));
        }
        Ok(())
    }
}

impl Plane {
    /// Tenants that the caller may see.
    pub(crate) async fn tenants(&self, actor: &Actor) -> Result<Vec<Value>, Failure> {
        let all = self.store.all(TENANT).await.map_err(away)?;
        Ok(all.into_iter().filter(|o| actor.sees(Some(&o.id))).map(shown).collect())
    }

    pub(crate) async fn tenant(&self, actor: &Actor, id: &str) -> Result<Value, Failure> {
        self.find(TENANT, id, |o| actor.sees(Some(&o.id))).await.map(shown)
    }

    pub(crate) async fn create_tenant(
        &self,
        actor: &Actor,
        mut spec: Spec,
        known: &Known,
    ) -> Result<Value, Failure> {
        let _one = self.changing.lock().await;
        let id =
            spec.id.take().ok_or_else(|| Failure::bad_request("missing", "`id` is missing").param("id"))?;
        fields::identifier("id", &id)?;
        let mut tenant = Tenant { created_ms: clock::unix_ms(), ..Tenant::new(&id) };
        spec.apply(&mut tenant, known)?;
        if self.store.one(TENANT, &id).await.map_err(away)?.is_some() {
            let text = format!(
                "there is a tenant `{id}` already; change it with PATCH (`turnout tenant change {id}`)"
            );
            return Err(Failure::new(StatusCode::CONFLICT, "exists", text).param("id"));
        }
        let made = kept(TENANT, &id, 0, &tenant, Vec::new())?;
        self.change(actor, "tenant.create", None, made, Map::new()).await.map(shown)
    }

    pub(crate) async fn change_tenant(
        &self,
        actor: &Actor,
        id: &str,
        spec: Change,
        known: &Known,
    ) -> Result<Value, Failure> {
        let _one = self.changing.lock().await;
        if spec.id.as_ref().is_some_and(|new| new != id) {
            return Err(Failure::bad_request("immutable", "a tenant keeps its `id`").param("id"));
        }
        let before = self.find(TENANT, id, |o| actor.sees(Some(&o.id))).await?;
        merge::version(spec.version, &before)?;
        let mut tenant: Tenant =
            serde_json::from_value(before.doc.clone()).map_err(|_| Failure::internal())?;
        spec.apply(&mut tenant, known)?;
        let after = kept(TENANT, id, before.version, &tenant, Vec::new())?;
        self.change(actor, "tenant.change", Some(&before), after, Map::new()).await.map(shown)
    }

    /// Removes a tenant that no key belongs to.
    pub(crate) async fn remove_tenant(&self, actor: &Actor, id: &str) -> Result<(), Failure> {
        let _one = self.changing.lock().await;
        let object = self.find(TENANT, id, |o| actor.sees(Some(&o.id))).await?;
        let keys = self.store.all(KEY).await.map_err(away)?;
        let of_it = |o: &&Object| o.doc.get("tenant").and_then(Value::as_str) == Some(id);
        let live = keys.iter().filter(of_it).filter(|o| o.doc.get("revoked_ms").is_none()).count();
        if live > 0 {
            let text =
                format!("{live} keys belong to tenant `{id}`; revoke them first, or suspend the tenant");
            return Err(Failure::new(StatusCode::CONFLICT, "in_use", text));
        }
        self.remove(actor, "tenant.remove", &object).await
    }
}
