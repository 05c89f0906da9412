//! Keys of providers that are kept here: encrypted at rest, never shown again; and how all of them stand.

use super::actor::Actor;
use super::plane::{PROVIDER_KEY, Plane, away, sealed_about};
use super::secret::{MASTER_KEY, MASTER_KEY_OLD, Secret};
use super::{fields, merge};
use crate::app::stored_name;
use crate::clock;
use crate::error::Failure;
use http::StatusCode;
use providers::{KeyState, Rest, Standing};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use types::Usd;
use types::control::{Object, Quota};
use types::diagnostic::suggestion;
use types::limits::Metric;
use zeroize::Zeroizing;

/// A new key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    /// The provider of the matrix.
    provider: String,
    /// For people.
    #[serde(default)]
    name: String,
    /// The key itself.
    key: Zeroizing<String>,
    /// What it may use, whatever the other keys of the provider may.
    #[serde(default, deserialize_with = "fields::objects")]
    limits: Option<Vec<Quota>>,
}

/// What becomes of a key; what is not named stays.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Change {
    #[serde(deserialize_with = "fields::given")]
    name: Option<String>,
    #[serde(deserialize_with = "fields::patch_objects")]
    limits: merge::Limits,
}

/// What a stored key may use.
///
/// # Errors
/// What stands there are no limits.
pub(super) fn limits_of(o: &Object) -> Result<Vec<Quota>, serde_json::Error> {
    o.doc.get("limits").map_or_else(|| Ok(Vec::new()), Vec::<Quota>::deserialize)
}

/// That these are limits of a provider's key.
fn check(limits: &[Quota]) -> Result<(), Failure> {
    fields::limits(limits)?;
    for (i, q) in limits.iter().enumerate() {
        let wrong = |why| Failure::bad_request("invalid_value", format!("limit {i}: {why}"));
        q.of_provider_key("", "").map_err(|why| wrong(why).param(format!("limits[{i}]")))?;
    }
    Ok(())
}

/// Limits with what is used and set aside of each, in its own unit.
fn used((q, used): &(Quota, u64)) -> Value {
    let mut row = json!(q);
    if let Some(members) = row.as_object_mut() {
        let used = match q.metric {
            Metric::Usd => json!(Usd::from_nanos(i64::try_from(*used).unwrap_or(i64::MAX)).dollars()),
            _ => json!(used),
        };
        members.insert("used".to_owned(), used);
    }
    row
}

/// How a key stands, as members of its row.
fn standing(of: &KeyState) -> Map<String, Value> {
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    put("state", of.as_str().into());
    if let Standing::Resting(Rest { why, left }) = of.standing {
        put("why", why.into());
        put("rest_s", left.as_secs().into());
    }
    if !of.models.is_empty() {
        let row = |(model, rest): &(String, Rest)| json!({ "model": model, "why": rest.why, "rest_s": rest.left.as_secs() });
        put("models", of.models.iter().map(row).collect());
    }
    if !of.limits.is_empty() {
        put("limits", of.limits.iter().map(used).collect());
    }
    put("in_flight", of.in_flight.into());
    if of.day_requests > 0 || of.day_tokens > 0 {
        put("day_requests", of.day_requests.into());
        put("day_tokens", of.day_tokens.into());
    }
    members
}

impl Plane {
    /// The keys of the environment and then those that are kept, without the keys, each with how it stands. `unreadable` is
    /// one that cannot be opened with the master key there is, `unused` one that stands in for no call: its provider
    /// is switched off, or has it by another name.
    pub(crate) async fn list_provider_keys(&self, states: &[KeyState]) -> Result<Vec<Value>, Failure> {
        let all = self.store.all(PROVIDER_KEY).await.map_err(away)?;
        let open = self.provider_keys();
        let names: Vec<String> = all.iter().map(|o| stored_name(&o.id)).collect();
        let of_environment = states.iter().filter(|s| !s.name.is_empty() && !names.contains(&s.name));
        let of_environment = of_environment.map(|s| {
            let mut members = standing(s);
            members.insert("provider".to_owned(), s.provider.as_str().into());
            members.insert("variable".to_owned(), s.name.as_str().into());
            Value::Object(members)
        });
        let mut shown: Vec<Value> = of_environment.collect();
        shown.extend(all.into_iter().zip(&names).map(|(mut o, name)| {
            let state = states.iter().find(|s| s.name == *name);
            let told = match (open.iter().any(|k| k.id == o.id), state) {
                (false, _) => Map::from_iter([("state".to_owned(), "unreadable".into())]),
                (true, Some(state)) => standing(state),
                (true, None) => Map::from_iter([("state".to_owned(), "unused".into())]),
            };
            if let Some(members) = o.doc.as_object_mut() {
                members.extend(told);
            }
            o.doc
        }));
        Ok(shown)
    }

    /// Keeps a key; it is used from the next call on.
    pub(crate) async fn create_provider_key(
        &self,
        actor: &Actor,
        spec: Spec,
        providers: &[String],
    ) -> Result<Value, Failure> {
        let _one = self.changing.lock().await;
        let Some(master) = &self.master else {
            let text = "keys are kept only under a master key: set TURNOUT_MASTER_KEY (32 bytes or more), or TURNOUT_MASTER_KEY_FILE, and start \
                        again, or name the key's environment variable in `api_key_env` of the matrix";
            return Err(Failure::bad_request("no_master_key", text));
        };
        if !providers.contains(&spec.provider) {
            let hint = suggestion(&spec.provider, providers.iter().map(String::as_str));
            let text = format!("there is no provider `{}`; {hint}", spec.provider);
            return Err(Failure::bad_request("unknown_provider", text).param("provider"));
        }
        fields::text("name", &spec.name)?;
        let good = (8..=4_096).contains(&spec.key.len()) && spec.key.bytes().all(|b| b.is_ascii_graphic());
        if !good {
            let text = "`key` is 8 to 4096 visible ASCII characters";
            return Err(Failure::bad_request("invalid_value", text).param("key"));
        }
        let limits = spec.limits.clone().unwrap_or_default();
        check(&limits)?;
        self.is_new(&spec).await?;
        let id = format!("pk-{}", uuid::Uuid::now_v7().simple());
        let sealed = master.seal(&sealed_about(&spec.provider, &id), &spec.key).map_err(|e| {
            tracing::error!(error = %e, "a key cannot be encrypted");
            Failure::internal()
        })?;
        let doc = json!({
            "id": id, "provider": spec.provider, "name": spec.name, "limits": limits,
            "created_ms": clock::unix_ms(), "created_by": actor.id,
        });
        let object = Object {
            kind: PROVIDER_KEY.to_owned(),
            id,
            version: 0,
            doc,
            sealed,
            updated_ms: clock::unix_ms(),
        };
        let mut made = self.change(actor, "provider_key.create", None, object, Map::new()).await?.doc;
        if let Some(members) = made.as_object_mut() {
            members.insert("state".to_owned(), "ready".into());
        }
        Ok(made)
    }

    /// Changes the name or the limits of a key; they hold from the next call on.
    pub(crate) async fn change_provider_key(
        &self,
        actor: &Actor,
        id: &str,
        change: Change,
    ) -> Result<Value, Failure> {
        if let Some(name) = &change.name {
            fields::text("name", name)?;
        }
        // What is wrong by itself is so of any key.
        merge::limits(change.limits.clone(), &mut Vec::new(), check)?;
        let _one = self.changing.lock().await;
        let before = self.find(PROVIDER_KEY, id, |_| true).await?;
        let mut limits = limits_of(&before).map_err(|_| Failure::internal())?;
        merge::limits(change.limits, &mut limits, check)?;
        let mut after = Object { updated_ms: clock::unix_ms(), ..before.clone() };
        let provider = before.doc.get("provider").and_then(Value::as_str).unwrap_or_default();
        if let Some(name) = &change.name {
            self.is_nobodys(provider, name, id).await?;
        }
        if let Some(members) = after.doc.as_object_mut() {
            members.insert("limits".to_owned(), json!(limits));
            members.extend(change.name.map(|name| ("name".to_owned(), name.into())));
        }
        Ok(self.change(actor, "provider_key.change", Some(&before), after, Map::new()).await?.doc)
    }

    /// That no other key of the provider has this name, by which people tell them apart.
    async fn is_nobodys(&self, provider: &str, name: &str, own: &str) -> Result<(), Failure> {
        let member = |o: &Object, name: &str| o.doc.get(name).and_then(Value::as_str).map(str::to_owned);
        let all = self.store.all(PROVIDER_KEY).await.map_err(away)?;
        let namesake = all.iter().find(|o| {
            !name.is_empty()
                && o.id != own
                && member(o, "provider").as_deref() == Some(provider)
                && member(o, "name").as_deref() == Some(name)
        });
        let Some(o) = namesake else { return Ok(()) };
        let text = format!(
            "a key of `{provider}` is called `{name}`: {}; remove it, or give this one another name",
            o.id
        );
        Err(Failure::new(StatusCode::CONFLICT, "name_taken", text).param("name"))
    }

    /// That no key of the provider has this name, and that it is not there already: its vendor counts it once.
    async fn is_new(&self, spec: &Spec) -> Result<(), Failure> {
        let Spec { provider, name, key, .. } = spec;
        self.is_nobodys(provider, name, "").await?;
        let known = self.provider_keys();
        let Some(known) = known.iter().find(|k| k.provider == *provider && *k.text == **key) else {
            return Ok(());
        };
        let text = format!("this key of `{provider}` is kept already, as {}", known.id);
        Err(Failure::new(StatusCode::CONFLICT, "key_known", text).param("key"))
    }

    /// Wraps the keys anew that the master key before opens, and not the present one: on the trail first, one by one, so
    /// that a start that is cut off goes on with the rest.
    ///
    /// # Errors
    /// In words for the operator: there is no master key to wrap them with, or the trail or the store cannot be written.
    pub(super) async fn rewrap(&self, before: &Secret) -> Result<(), String> {
        let Some(master) = &self.master else {
            return Err(format!(
                "{MASTER_KEY_OLD} says what stored keys were sealed with; set {MASTER_KEY} as well"
            ));
        };
        let words = |e: types::control::Error| e.to_string();
        let mut done = 0_usize;
        for o in self.store.all(PROVIDER_KEY).await.map_err(words)? {
            let provider = o.doc.get("provider").and_then(Value::as_str).unwrap_or_default();
            let about = sealed_about(provider, &o.id);
            if master.open(&about, &o.sealed).is_ok() {
                continue;
            }
            let sealed = master.rewrap(before, &about, &o.sealed).map_err(|e| e.to_string())?;
            let Some(sealed) = sealed else { continue };
            self.record(Actor::start().event("provider_key.rewrap", &o.id)).await.map_err(|e| e.message)?;
            self.store
                .put(vec![Object { sealed, updated_ms: clock::unix_ms(), ..o }])
                .await
                .map_err(words)?;
            done = done.saturating_add(1);
        }
        match done {
            0 => {
                tracing::info!("no stored key needs {MASTER_KEY_OLD}; it can be taken out of the environment")
            }
            _ => tracing::info!(keys = done, "stored keys of providers are sealed with the new master key"),
        }
        self.refresh_provider_keys().await
    }

    /// Forgets a key; calls under way with it go on.
    pub(crate) async fn remove_provider_key(&self, actor: &Actor, id: &str) -> Result<(), Failure> {
        let _one = self.changing.lock().await;
        let object = self.find(PROVIDER_KEY, id, |_| true).await?;
        self.remove(actor, "provider_key.remove", &object).await
    }
}
