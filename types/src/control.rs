//! Who may use what: tenants, virtual keys, roles; and the seam to where they are kept.
//!
//! Secrets are not here: of a virtual key only a keyed hash is known, and it compares in constant time.

use crate::limits::{Limit, Metric, Window};
use crate::options::OnDisconnect;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tenant of requests without a key, where none is demanded.
pub const DEFAULT_TENANT: &str = "default";

/// The service a tenant is promised, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceTier {
    /// Served when there is room; the first to be refused under load.
    Bronze,
    /// The default.
    #[default]
    Silver,
    /// Before silver and bronze.
    Gold,
    /// The last to be refused.
    Platinum,
}

impl ServiceTier {
    /// The strings of policies, files and the control API.
    pub const NAMES: &'static [&'static str] = &["bronze", "silver", "gold", "platinum"];

    /// The string used in policies, files and the control API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ServiceTier::Bronze => "bronze",
            ServiceTier::Silver => "silver",
            ServiceTier::Gold => "gold",
            ServiceTier::Platinum => "platinum",
        }
    }

    /// Share of the places for requests in work (`edge.max_inflight`) that this tier may fill, 0..=1: what lies
    /// above is kept for the tiers above.
    #[must_use]
    pub const fn share_of_places(self) -> f64 {
        match self {
            ServiceTier::Bronze => 0.7,
            ServiceTier::Silver => 0.85,
            ServiceTier::Gold => 0.95,
            ServiceTier::Platinum => 1.0,
        }
    }
}

/// What a key may do. Each role but `inference` may do what those before it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Ask models, give feedback, read its own decisions. Nothing of the control API.
    #[default]
    Inference,
    /// Read the control API, within its tenant if it has one.
    Viewer,
    /// Also the audit log; changes nothing.
    Auditor,
    /// Change what runs: keys of others' tenants excluded, see the access table.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// The strings of the control API.
    pub const NAMES: &'static [&'static str] = &["inference", "viewer", "auditor", "operator", "admin"];

    /// The string used in the control API and the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Inference => "inference",
            Role::Viewer => "viewer",
            Role::Auditor => "auditor",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

/// A limit as people write it; [`Quota::limit`] gives what is counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// What is counted.
    pub metric: Metric,
    /// How much, per window: requests, tokens, US dollars or requests at once. Fractions are allowed.
    pub amount: f64,
    /// `request` (of `usd` and `tokens`), `second`, `minute`, `hour`, `day`, `month`; not for `concurrency`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub per: Option<String>,
    /// Only calls of these models count (a model, alias or glob); `None` = all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub model: Option<String>,
    /// Only requests with this label count, `name=value`; `None` = all.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub label: Option<String>,
    /// Share of it, above 0 and below 1, that only premium requests may use; only of `usd`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub reserved_premium: Option<f64>,
}

/// A member that is there has a value: `null` is none.
fn given<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

impl Quota {
    /// The limit of a holder (`key:<id>`, `tenant:<id>`), or what is wrong with it, in words.
    ///
    /// # Errors
    /// The field and what it should be.
    pub fn limit(&self, holder: &str) -> Result<Limit, String> {
        let window = match (&self.per, self.metric) {
            (None, Metric::Concurrency) => Window::Sliding(0),
            (Some(_), Metric::Concurrency) => return Err("`concurrency` takes no `per`".to_owned()),
            (None, _) => return Err(format!("`per` is missing: one of {}", Window::NAMES.join(", "))),
            (Some(name), _) => Window::parse(name).ok_or_else(|| {
                format!("`per: {name}` is no window: it is one of {}", Window::NAMES.join(", "))
            })?,
        };
        let mut holder = holder.to_owned();
        for (kind, value) in [("model", &self.model), ("label", &self.label)] {
            if let Some(v) = value {
                holder = format!("{holder}/{kind}:{v}");
            }
        }
        if self.label.as_ref().is_some_and(|l| !l.contains('=')) {
            return Err("`label` has the form name=value".to_owned());
        }
        if self.metric == Metric::Concurrency && self.amount.fract() != 0.0 {
            return Err("`concurrency` is a whole number".to_owned());
        }
        let of_one = window == Window::Request;
        if of_one && !matches!(self.metric, Metric::Usd | Metric::Tokens) {
            return Err(format!(
                "`per: request` is for `usd` and `tokens`, not for `{}`",
                self.metric.as_str()
            ));
        }
        let limit = Limit::rate(&holder, self.metric, self.amount, window).ok_or_else(|| {
            format!("`amount: {}` is not a number above 0 that ever admits anything", self.amount)
        })?;
        match self.reserved_premium {
            None => Ok(limit),
            Some(_) if of_one => {
                Err("`reserved_premium` is a part of what many requests share, not for `per: request`"
                    .to_owned())
            }
            Some(_) if self.metric != Metric::Usd => Err("`reserved_premium` is for `usd` alone".to_owned()),
            Some(share) if share > 0.0 && share < 1.0 => Ok(limit.reserving(share)),
            Some(share) => Err(format!("`reserved_premium: {share}` is no share above 0 and below 1")),
        }
    }

    /// The limit of one key of a provider, counted over all models and requests that use it. `name` is that of its
    /// variable, or of the key where it is stored.
    ///
    /// # Errors
    /// The field and what it should be: such a limit takes no `model`, `label`, `reserved_premium` nor `per: request`.
    pub fn of_provider_key(&self, provider: &str, name: &str) -> Result<Limit, String> {
        for (member, is_said) in [
            ("model", self.model.is_some()),
            ("label", self.label.is_some()),
            ("reserved_premium", self.reserved_premium.is_some()),
        ] {
            if is_said {
                return Err(format!(
                    "a limit of a provider's key counts all that it is used for and takes no `{member}`"
                ));
            }
        }
        if self.per.as_deref() == Some("request") {
            return Err(
                "`per: request` is for keys of Turnout and tenants, not for keys of providers".to_owned()
            );
        }
        self.limit(&format!("provider_key:{provider}:{name}"))
    }
}

/// A team, customer or application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    /// Unique; `[a-z0-9][a-z0-9_-]{0,62}`.
    pub id: String,
    /// For people.
    #[serde(default)]
    pub title: String,
    /// The service it is promised.
    #[serde(default)]
    pub tier: ServiceTier,
    /// Where its data has to stay, for policies; `None` = not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// IANA name of its time zone, for `time` in policies.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// For policies and reports.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What all its keys together may use.
    #[serde(default)]
    pub limits: Vec<Quota>,
    /// Its requests may be used to explore.
    #[serde(default = "yes")]
    pub allow_explore: bool,
    /// What becomes of its requests whose clients leave, unless they say otherwise.
    #[serde(default)]
    pub on_disconnect: OnDisconnect,
    /// None of its keys is accepted.
    #[serde(default)]
    pub suspended: bool,
    /// Unix milliseconds.
    #[serde(default)]
    pub created_ms: i64,
}

fn utc() -> String {
    "UTC".to_owned()
}

const fn yes() -> bool {
    true
}

impl Tenant {
    /// A tenant with nothing set.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Tenant {
            id: id.to_owned(),
            title: String::new(),
            tier: ServiceTier::default(),
            region: None,
            time_zone: utc(),
            labels: BTreeMap::new(),
            limits: Vec::new(),
            allow_explore: true,
            on_disconnect: OnDisconnect::default(),
            suspended: false,
            created_ms: 0,
        }
    }
}

/// What a key may be used for; an empty list allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scopes {
    /// Selectors of models: ids, globs, aliases, `pool:<name>`.
    pub models: Vec<String>,
    /// Names of workflows.
    pub workflows: Vec<String>,
    /// Endpoints: `chat`, `models`, `feedback`, `decisions`, `runs`, `workflows`.
    pub endpoints: Vec<String>,
}

/// A virtual key as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// Its public part, twelve characters; also its name in records.
    pub id: String,
    /// Whose; `None` only for keys of the control API that span tenants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// What it may do.
    #[serde(default)]
    pub role: Role,
    /// What it may be used for.
    #[serde(default)]
    pub scopes: Scopes,
    /// For policies and reports; copied to the tags of its requests.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What it may use.
    #[serde(default)]
    pub limits: Vec<Quota>,
    /// Unix milliseconds from which on it is refused; `None` = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
    /// It is refused until this is taken back.
    #[serde(default)]
    pub suspended: bool,
    /// Unix milliseconds at which it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_ms: Option<i64>,
    /// The key that replaces it; this one works until `expires_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_to: Option<String>,
    /// The first key of the line of rotations that led to it, under whose name what they use is counted together;
    /// `None` = it is the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts_as: Option<String>,
    /// An admin gave it its name and its labels: who holds it may answer approvals under them.
    #[serde(default)]
    pub vouched: bool,
    /// Unix milliseconds.
    #[serde(default)]
    pub created_ms: i64,
    /// Who made it.
    #[serde(default)]
    pub created_by: String,
}

impl Key {
    /// The identifier under which what it uses is counted: its own, or that of the key whose place it takes.
    #[must_use]
    pub fn counted(&self) -> &str {
        self.counts_as.as_deref().unwrap_or(&self.id)
    }

    /// The names by which rules know its holder: `key:<id>`, `user:<name>` and `user:<its label user>`.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let user = |name: &String| (!name.is_empty()).then(|| format!("user:{name}"));
        let own =
            [Some(format!("key:{}", self.id)), user(&self.name), self.labels.get("user").and_then(user)];
        own.into_iter().flatten().collect()
    }

    /// Those of them under which its holder may answer for somebody: anybody who may make keys can name one as they like.
    #[must_use]
    pub fn voices(&self) -> Vec<String> {
        let most = if self.vouched { usize::MAX } else { 1 };
        self.names().into_iter().take(most).collect()
    }

    /// A key of a tenant with nothing set.
    #[must_use]
    pub fn named(id: &str, tenant: &str) -> Self {
        Key {
            id: id.to_owned(),
            tenant: Some(tenant.to_owned()),
            name: String::new(),
            role: Role::default(),
            scopes: Scopes::default(),
            labels: BTreeMap::new(),
            limits: Vec::new(),
            expires_ms: None,
            suspended: false,
            revoked_ms: None,
            rotated_to: None,
            counts_as: None,
            vouched: false,
            created_ms: 0,
            created_by: String::new(),
        }
    }
}

/// Whose request it is, with everything that rooms need to know of that. Shared by all requests of a key.
#[derive(Debug)]
pub struct Principal {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// The key; `None` where none is demanded.
    pub key: Option<Arc<Key>>,
    /// What counts every request: the limits of key and tenant that name neither model nor label.
    pub limits: Arc<[Limit]>,
    /// Limits that count only some requests: by model or label.
    pub partial: Vec<(Quota, Limit)>,
    /// What one request may use at most, whatever others do: the limits whose window is [`Window::Request`], of all
    /// models and labels.
    pub each: Vec<(Quota, Limit)>,
}

impl Principal {
    /// The principal of a tenant and key. Quotas that give no limit are left out: they were checked when they
    /// were written.
    #[must_use]
    pub fn new(tenant: Arc<Tenant>, key: Option<Arc<Key>>) -> Self {
        let of_tenant = (format!("tenant:{}", tenant.id), tenant.limits.clone());
        let of_key = key.as_ref().map(|k| (format!("key:{}", k.counted()), k.limits.clone()));
        let (mut limits, mut partial, mut each) = (Vec::new(), Vec::new(), Vec::new());
        for (holder, quotas) in std::iter::once(of_tenant).chain(of_key) {
            for q in quotas {
                let Ok(limit) = q.limit(&holder) else { continue };
                if limit.window == Window::Request {
                    each.push((q, limit));
                } else if q.model.is_none() && q.label.is_none() {
                    limits.push(limit);
                } else {
                    partial.push((q, limit));
                }
            }
        }
        Principal { tenant, key, limits: limits.into(), partial, each }
    }

    /// The principal of requests without a key, where none is demanded.
    #[must_use]
    pub fn open() -> Self {
        Principal::new(Arc::new(Tenant::new(DEFAULT_TENANT)), None)
    }

    /// Identifier of the key, for records; empty without one.
    #[must_use]
    pub fn key_id(&self) -> &str {
        self.key.as_ref().map_or("", |k| &k.id)
    }
}

/// Something that the control plane keeps: one JSON document, and bytes that are never shown.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// `tenant`, `key`, `provider_key`, `bundle`, `approval`, …
    pub kind: String,
    /// Unique within its kind.
    pub id: String,
    /// Grows by one with each change; what a change must name to be accepted.
    pub version: u64,
    /// What it says.
    pub doc: Value,
    /// A hash or an encrypted secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<u8>,
    /// Unix milliseconds of the last change.
    pub updated_ms: i64,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Why the control plane's state was not changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else changed it meanwhile, or it exists already.
    #[error("{kind} `{id}` has version {found}, not {expected}")]
    Conflict {
        /// Kind of the object.
        kind: String,
        /// Its identifier.
        id: String,
        /// The version the change named; 0 = it should not exist.
        expected: u64,
        /// The version that is there; 0 = it does not exist.
        found: u64,
    },
    /// The disk or database failed: nothing was changed.
    #[error("control store: {0}")]
    Away(String),
}

/// Where tenants, keys and everything else of the control plane are kept. Every write is on disk when it returns.
pub trait ControlStore: Send + Sync {
    /// All objects of a kind, by id.
    fn all(&self, kind: &str) -> BoxFuture<'_, Result<Vec<Object>, Error>>;

    /// The object of that id; what others there are makes no difference to what it costs.
    fn one(&self, kind: &str, id: &str) -> BoxFuture<'_, Result<Option<Object>, Error>>;

    /// Writes objects, all or none. Each `version` is the one that was read; 0 = it must not exist yet. Gives them
    /// with their new versions.
    fn put(&self, objects: Vec<Object>) -> BoxFuture<'_, Result<Vec<Object>, Error>>;

    /// Removes an object of that version.
    fn remove(&self, kind: &str, id: &str, version: u64) -> BoxFuture<'_, Result<(), Error>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(json: &str) -> Result<String, String> {
        let quota: Quota = serde_json::from_str(json).map_err(|e| e.to_string())?;
        quota.limit("key:k").map(|l| l.to_string())
    }

    #[test]
    fn quotas_give_limits_or_say_what_is_wrong() {
        for (json, want) in [
            (r#"{"metric":"usd","amount":10,"per":"day"}"#, Ok("10 USD per day for key:k")),
            (r#"{"metric":"requests","amount":0.2,"per":"second"}"#, Ok("1 requests per 5 s for key:k")),
            (r#"{"metric":"usd","amount":0.01,"per":"request"}"#, Ok("0.01 USD per request for key:k")),
            (
                r#"{"metric":"tokens","amount":5,"per":"request","label":"a=b"}"#,
                Ok("5 tokens per request for key:k/label:a=b"),
            ),
            (
                r#"{"metric":"requests","amount":5,"per":"request"}"#,
                Err("`per: request` is for `usd` and `tokens`, not for `requests`"),
            ),
            (
                r#"{"metric":"usd","amount":0,"per":"request"}"#,
                Err("`amount: 0` is not a number above 0 that ever admits anything"),
            ),
            (
                r#"{"metric":"tokens","amount":0.5,"per":"request"}"#,
                Err("`amount: 0.5` is not a number above 0 that ever admits anything"),
            ),
            (
                r#"{"metric":"usd","amount":1,"per":"request","reserved_premium":0.5}"#,
                Err("`reserved_premium` is a part of what many requests share, not for `per: request`"),
            ),
            (r#"{"metric":"concurrency","amount":4}"#, Ok("4 requests at once for key:k")),
            (
                r#"{"metric":"tokens","amount":5,"per":"minute","model":"a/*"}"#,
                Ok("5 tokens per minute for key:k/model:a/*"),
            ),
            (
                r#"{"metric":"usd","amount":1}"#,
                Err("`per` is missing: one of request, second, minute, hour, day, month"),
            ),
            (
                r#"{"metric":"usd","amount":1,"per":"week"}"#,
                Err("`per: week` is no window: it is one of request, second, minute, hour, day, month"),
            ),
            (
                r#"{"metric":"usd","amount":-1,"per":"day"}"#,
                Err("`amount: -1` is not a number above 0 that ever admits anything"),
            ),
            (r#"{"metric":"concurrency","amount":1.5}"#, Err("`concurrency` is a whole number")),
            (
                r#"{"metric":"usd","amount":1,"per":"day","label":"x"}"#,
                Err("`label` has the form name=value"),
            ),
        ] {
            assert_eq!(quota(json), want.map(str::to_owned).map_err(str::to_owned), "{json}");
        }
        for (share, want) in [
            ("0.2", Ok(2_000_000_000)),
            ("0", Err("`reserved_premium: 0` is no share above 0 and below 1")),
            ("1", Err("`reserved_premium: 1` is no share above 0 and below 1")),
        ] {
            let text = format!(r#"{{"metric":"usd","amount":10,"per":"day","reserved_premium":{share}}}"#);
            let got = serde_json::from_str::<Quota>(&text).unwrap().limit("key:k").map(|l| l.reserved);
            assert_eq!(got, want.map_err(str::to_owned), "{share}");
        }
        let of_tokens = quota(r#"{"metric":"tokens","amount":9,"per":"day","reserved_premium":0.2}"#);
        assert_eq!(of_tokens, Err("`reserved_premium` is for `usd` alone".to_owned()));
        assert!(quota(r#"{"metric":"usd","amount":1,"per":"day","reserved_premium":null}"#).is_err());
        assert!(quota(r#"{"metric":"usd","amount":1,"per":"day","limit":2}"#).is_err());
        assert!(quota(r#"{"metric":"usd","amount":"much","per":"request"}"#).is_err());
    }

    #[test]
    fn limits_of_provider_keys_count_all_that_they_are_used_for() {
        let check = |json: &str, want: Result<&str, &str>| {
            let quota: Quota = serde_json::from_str(json).unwrap();
            let got = quota.of_provider_key("groq", "K2").map(|l| l.to_string());
            match want {
                Ok(want) => assert_eq!(got.as_deref(), Ok(want), "{json}"),
                Err(want) => assert!(got.as_ref().unwrap_err().contains(want), "{json}: {got:?}"),
            }
        };
        check(
            r#"{"metric":"requests","amount":60,"per":"minute"}"#,
            Ok("60 requests per minute for provider_key:groq:K2"),
        );
        check(r#"{"metric":"concurrency","amount":4}"#, Ok("4 requests at once for provider_key:groq:K2"));
        check(r#"{"metric":"usd","amount":5,"per":"month"}"#, Ok("5 USD per month for provider_key:groq:K2"));
        check(r#"{"metric":"usd","amount":5,"per":"request"}"#, Err("`per: request`"));
        check(r#"{"metric":"usd","amount":5,"per":"day","model":"groq/*"}"#, Err("`model`"));
        check(r#"{"metric":"usd","amount":5,"per":"day","label":"a=b"}"#, Err("`label`"));
        check(r#"{"metric":"usd","amount":5,"per":"day","reserved_premium":0.2}"#, Err("`reserved_premium`"));
        check(r#"{"metric":"usd","amount":5}"#, Err("`per` is missing"));
    }

    #[test]
    fn a_principal_holds_the_limits_of_key_and_tenant() {
        let q = |json: &str| serde_json::from_str::<Quota>(json).unwrap();
        let mut tenant = Tenant::new("acme");
        tenant.limits = vec![q(r#"{"metric":"usd","amount":10,"per":"month"}"#)];
        let key: Key = serde_json::from_str(
            r#"{"id":"k","limits":[{"metric":"requests","amount":5,"per":"minute"},
                {"metric":"usd","amount":1,"per":"day","model":"openai/*"},
                {"metric":"usd","amount":0.5,"per":"request"}]}"#,
        )
        .unwrap();
        let p = Principal::new(tenant.into(), Some(key.into()));
        let all: Vec<String> = p.limits.iter().map(ToString::to_string).collect();
        assert_eq!(all, ["10 USD per month for tenant:acme", "5 requests per minute for key:k"]);
        assert_eq!(p.partial.len(), 1);
        let each: Vec<String> = p.each.iter().map(|(_, limit)| limit.to_string()).collect();
        assert_eq!(each, ["0.5 USD per request for key:k"]);
    }
}
