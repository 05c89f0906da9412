//! Tenants and keys as requests look them up: one snapshot, no lock, no store on the way.

use super::key;
use super::secret::Secret;
use crate::bundles::guard::Holders;
use crate::error::Failure;
use engine::Who;
use http::StatusCode;
use std::collections::HashMap;
use std::sync::Arc;
use types::control::{DEFAULT_TENANT, Key, Object, Principal, Role, Tenant};

/// Kinds of the control store.
pub(crate) const TENANT: &str = "tenant";
pub(crate) const KEY: &str = "key";

/// All tenants and keys of one moment.
#[derive(Clone)]
pub(crate) struct Directory {
    tenants: HashMap<String, Arc<Tenant>>,
    keys: HashMap<String, Entry>,
    /// Who asks without a key, while none is demanded.
    open: Option<Arc<Who>>,
    /// What unknown keys are compared with, so that they take as long as known ones.
    dummy: blake3::Hash,
}

/// A credential that is not let in.
#[derive(Debug)]
pub(crate) struct Refused {
    /// What its holder is told.
    pub(crate) failure: Failure,
    /// The key, where that is known and shown to be held; the trail names it.
    pub(crate) key: Option<Arc<Key>>,
}

#[derive(Clone)]
struct Entry {
    hash: blake3::Hash,
    /// `None` = its tenant is gone: it is refused like one that never was.
    who: Option<Arc<Who>>,
    key: Arc<Key>,
}

impl Directory {
    /// A snapshot of the stored objects. Requests need no key until there is one that is not of the control API.
    ///
    /// # Errors
    /// An object that is not what this version writes.
    pub(crate) fn new(tenants: &[Object], keys: &[Object], now_ms: i64) -> Result<Directory, String> {
        let mut new = Directory {
            tenants: HashMap::with_capacity(tenants.len()),
            keys: HashMap::with_capacity(keys.len()),
            open: None,
            dummy: blake3::hash(b"nobody's key"),
        };
        for o in tenants {
            new.put_tenant(o)?;
        }
        new.tenants.entry(DEFAULT_TENANT.to_owned()).or_insert_with(|| Arc::new(Tenant::new(DEFAULT_TENANT)));
        for o in keys {
            new.put_key(o, now_ms)?;
        }
        new.reopen(now_ms);
        Ok(new)
    }

    /// The snapshot after a tenant or key was made or changed; what has nothing to do with it is shared with this one.
    ///
    /// # Errors
    /// Those of [`Directory::new`].
    pub(crate) fn with(&self, o: &Object, now_ms: i64) -> Result<Directory, String> {
        let mut new = self.clone();
        match o.kind.as_str() {
            TENANT => {
                new.put_tenant(o)?;
                new.renew_keys_of(&o.id, now_ms);
            }
            _ => new.put_key(o, now_ms)?,
        }
        new.reopen(now_ms);
        Ok(new)
    }

    /// The snapshot after a tenant was removed. The one of requests that bring no key is always there.
    pub(crate) fn without_tenant(&self, id: &str, now_ms: i64) -> Directory {
        let mut new = self.clone();
        new.tenants.remove(id);
        if id == DEFAULT_TENANT {
            new.tenants.insert(id.to_owned(), Arc::new(Tenant::new(id)));
        }
        new.renew_keys_of(id, now_ms);
        new.reopen(now_ms);
        new
    }

    fn put_tenant(&mut self, o: &Object) -> Result<(), String> {
        let t: Tenant =
            serde_json::from_value(o.doc.clone()).map_err(|e| format!("tenant `{}`: {e}", o.id))?;
        self.tenants.insert(t.id.clone(), Arc::new(t));
        Ok(())
    }

    fn put_key(&mut self, o: &Object, now_ms: i64) -> Result<(), String> {
        let k: Key = serde_json::from_value(o.doc.clone()).map_err(|e| format!("key `{}`: {e}", o.id))?;
        let hash = <[u8; 32]>::try_from(o.sealed.as_slice())
            .map_err(|_| format!("key `{}`: its hash is not of 32 bytes", o.id))?;
        let mut entry = Entry { hash: hash.into(), who: None, key: Arc::new(k) };
        entry.renew(&self.tenants, now_ms);
        self.keys.insert(entry.key.id.clone(), entry);
        Ok(())
    }

    fn renew_keys_of(&mut self, tenant: &str, now_ms: i64) {
        let Directory { tenants, keys, .. } = self;
        keys.values_mut().filter(|e| e.tenant() == tenant).for_each(|e| e.renew(tenants, now_ms));
    }

    fn reopen(&mut self, now_ms: i64) {
        let demanded = self.keys.values().any(|e| e.key.role == Role::Inference);
        let default = self.tenants.get(DEFAULT_TENANT).filter(|_| !demanded);
        self.open = default.map(|t| who(Principal::new(t.clone(), None), now_ms));
    }

    pub(crate) fn tenant(&self, id: &str) -> Option<&Arc<Tenant>> {
        self.tenants.get(id)
    }

    /// The names of all tenants, in order.
    pub(crate) fn tenants(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tenants.keys().cloned().collect();
        names.sort_unstable();
        names
    }

    /// Everybody whose limits are counted: each tenant by itself, and each key.
    pub(crate) fn principals(&self) -> Vec<Arc<Principal>> {
        let tenants = self.tenants.values().map(|t| Arc::new(Principal::new(t.clone(), None)));
        let keys = self.keys.values().filter_map(|e| e.who.as_ref());
        tenants.chain(keys.map(|who| who.principal.clone())).collect()
    }

    /// How many may ask: keys for requests that can be used now, and the tenants that they are of.
    pub(crate) fn holders(&self, now_ms: i64) -> Holders {
        let usable = |e: &&Entry| {
            let who = e.who.as_ref().filter(|_| e.key.role == Role::Inference);
            who.is_some_and(|who| e.usable(who, now_ms).is_ok())
        };
        let mut tenants: Vec<&str> = self.keys.values().filter(usable).map(Entry::tenant).collect();
        let keys = tenants.len();
        tenants.sort_unstable();
        tenants.dedup();
        Holders { tenants: tenants.len(), keys }
    }

    /// No key is demanded of requests.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whose request it is, by the text of its key (`None` = it brought none).
    ///
    /// # Errors
    /// 401, without a word on whether the key exists; 403 for a suspended key or tenant, which only the key's owner can
    /// learn of.
    pub(crate) fn authenticate(
        &self,
        presented: Option<&str>,
        pepper: &Secret,
        now_ms: i64,
    ) -> Result<Arc<Who>, Refused> {
        let unknown = |code: &str, text: &str| Refused { failure: refuse(code, text), key: None };
        let Some(text) = presented else {
            let text = "this server asks for a key: send it as `Authorization: Bearer sk-to-…`";
            return self.open.clone().ok_or_else(|| unknown("missing_api_key", text));
        };
        let entry = key::id_of(text).and_then(|id| self.keys.get(id));
        let hash = entry.map_or(self.dummy, |e| e.hash);
        // `blake3::Hash` compares in constant time.
        let same = pepper.hash(text) == hash;
        let known = entry.filter(|_| same).and_then(|e| Some((e, e.who.as_ref()?)));
        let Some((entry, who)) = known else {
            // Without keys of its own the server takes what SDKs send when they must send something.
            return match &self.open {
                Some(open) if !text.starts_with("sk-to-") => Ok(open.clone()),
                _ => Err(unknown("invalid_api_key", "the key is not known here, or not whole")),
            };
        };
        match entry.usable(who, now_ms) {
            Ok(()) => Ok(who.clone()),
            Err(failure) => Err(Refused { failure, key: Some(entry.key.clone()) }),
        }
    }

    /// Under whose name what a key uses is counted; one that nobody knows counts for itself.
    pub(crate) fn counted(&self, id: &str) -> String {
        self.key(id).map_or(id, Key::counted).to_owned()
    }

    /// The keys that count under one name: one, and those that it was rotated to, in no order.
    pub(crate) fn line(&self, counted: &str) -> Vec<String> {
        let all = self.keys.values().filter(|entry| entry.key.counted() == counted);
        all.map(|entry| entry.key.id.clone()).collect()
    }

    /// A key by its public part.
    pub(crate) fn key(&self, id: &str) -> Option<&Key> {
        self.keys.get(id).filter(|e| e.who.is_some()).map(|e| &*e.key)
    }

    /// Who started something earlier, by tenant and the name under which it is kept; `None` = it may not go on.
    pub(crate) fn starter(&self, tenant: &str, principal: &str, now_ms: i64) -> Option<Arc<Who>> {
        let who = match self.keys.get(principal) {
            Some(entry) => entry.who.clone().filter(|who| entry.usable(who, now_ms).is_ok()),
            None => self.open.clone().filter(|_| principal == OPEN),
        };
        who.filter(|w| w.principal.tenant.id == tenant)
    }
}

/// The name of who asks without a key (`engine::runs::principal`).
const OPEN: &str = "open";

impl Entry {
    /// Whose key it is.
    fn tenant(&self) -> &str {
        self.key.tenant.as_deref().unwrap_or(DEFAULT_TENANT)
    }

    fn renew(&mut self, tenants: &HashMap<String, Arc<Tenant>>, now_ms: i64) {
        let tenant = tenants.get(self.tenant()).cloned();
        self.who = tenant.map(|tenant| who(Principal::new(tenant, Some(self.key.clone())), now_ms));
    }

    /// Whether the key works now for whom it is.
    fn usable(&self, who: &Who, now_ms: i64) -> Result<(), Failure> {
        if self.key.revoked_ms.is_some_and(|t| t <= now_ms) {
            return Err(refuse("invalid_api_key", "the key was revoked"));
        }
        if self.key.expires_ms.is_some_and(|t| t <= now_ms) {
            return Err(refuse("expired_api_key", "the key has expired"));
        }
        if self.key.suspended {
            let text = "the key is suspended: whoever runs this server can take that back";
            return Err(Failure::new(StatusCode::FORBIDDEN, "key_suspended", text));
        }
        if who.principal.tenant.suspended {
            let text = "the tenant of this key is suspended";
            return Err(Failure::new(StatusCode::FORBIDDEN, "tenant_suspended", text));
        }
        Ok(())
    }
}

fn who(principal: Principal, now_ms: i64) -> Arc<Who> {
    let zone = jiff::tz::TimeZone::get(&principal.tenant.time_zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let now = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
    Who::new(Arc::new(principal), zone.to_offset(now).seconds() / 60, now_ms)
}

fn refuse(code: &str, text: &str) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, code, text).param("authorization")
}

#[cfg(test)]
mod tests {
    use super::super::key::Minted;
    use super::*;
    use serde_json::{Value, json};

    fn object(kind: &str, doc: Value, sealed: Vec<u8>) -> Object {
        let id = doc["id"].as_str().unwrap().to_owned();
        Object { kind: kind.into(), id, version: 1, doc, sealed, updated_ms: 0 }
    }

    fn check(directory: &Directory, pepper: &Secret, key: Option<&str>, want: Result<&str, &str>) {
        let got = directory.authenticate(key, pepper, 1_000);
        let got = got.as_ref().map(|w| w.principal.tenant.id.as_str()).map_err(|e| e.failure.code.as_str());
        assert_eq!(got, want, "{key:?}");
    }

    #[test]
    fn keys_open_what_they_are_for() {
        let pepper = Secret::of_text(&"p".repeat(32)).unwrap();
        let empty = Directory::new(&[], &[], 0).unwrap();
        check(&empty, &pepper, None, Ok("default"));
        check(&empty, &pepper, Some("sk-anything-an-sdk-wants"), Ok("default"));
        let keys: Vec<Minted> = (0..5).map(|_| Minted::new(&pepper).unwrap()).collect();
        check(&empty, &pepper, Some(&keys[0].text), Err("invalid_api_key"));
        let tenants = [
            object(TENANT, json!({"id": "acme"}), vec![]),
            object(TENANT, json!({"id": "late", "suspended": true}), vec![]),
        ];
        let doc = |i: usize, more: Value| {
            let mut doc = json!({"id": keys[i].id, "tenant": "acme"});
            doc.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            object(KEY, doc, keys[i].hash.to_vec())
        };
        let admin = [doc(0, json!({"role": "admin"}))];
        check(&Directory::new(&tenants, &admin, 0).unwrap(), &pepper, None, Ok("default"));
        let all = [
            doc(0, json!({})),
            doc(1, json!({"revoked_ms": 900})),
            doc(2, json!({"expires_ms": 1_000})),
            doc(3, json!({"tenant": "late"})),
            doc(4, json!({"expires_ms": 1_001})),
        ];
        let directory = Directory::new(&tenants, &all, 0).unwrap();
        check(&directory, &pepper, None, Err("missing_api_key"));
        check(&directory, &pepper, Some("sk-anything"), Err("invalid_api_key"));
        check(&directory, &pepper, Some(&keys[0].text), Ok("acme"));
        check(&directory, &pepper, Some(&keys[1].text), Err("invalid_api_key"));
        check(&directory, &pepper, Some(&keys[2].text), Err("expired_api_key"));
        check(&directory, &pepper, Some(&keys[3].text), Err("tenant_suspended"));
        check(&directory, &pepper, Some(&keys[4].text), Ok("acme"));
        let other = Secret::of_text(&"q".repeat(32)).unwrap();
        check(&directory, &other, Some(&keys[0].text), Err("invalid_api_key"));
    }

    /// One change after the other gives what reading all of it gives, and what it has nothing to do with is not made anew.
    #[test]
    fn a_change_touches_what_it_changes_and_shares_the_rest() {
        let pepper = Secret::of_text(&"p".repeat(32)).unwrap();
        let keys: Vec<Minted> = (0..2).map(|_| Minted::new(&pepper).unwrap()).collect();
        let tenant =
            |id: &str, suspended: bool| object(TENANT, json!({"id": id, "suspended": suspended}), vec![]);
        let key = |i: usize, tenant: &str, more: Value| {
            let mut doc = json!({"id": keys[i].id, "tenant": tenant});
            doc.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            object(KEY, doc, keys[i].hash.to_vec())
        };
        let who = |d: &Directory, i: usize| d.authenticate(Some(&keys[i].text), &pepper, 1_000);
        let code = |d: &Directory, i: usize| who(d, i).map_err(|e| e.failure.code.clone()).err();
        let start = Directory::new(&[], &[], 0).unwrap();
        let one = start.with(&tenant("acme", false), 0).unwrap();
        let one = one.with(&key(0, "acme", json!({})), 0).unwrap();
        assert!(start.is_open() && !one.is_open());
        let two = one.with(&tenant("beta", false), 0).unwrap();
        let two = two.with(&key(1, "beta", json!({})), 0).unwrap();
        assert!(Arc::ptr_eq(&who(&one, 0).unwrap(), &who(&two, 0).unwrap()), "another's key is what it was");
        let suspended = two.with(&tenant("beta", true), 0).unwrap();
        assert_eq!((code(&suspended, 0), code(&suspended, 1).as_deref()), (None, Some("tenant_suspended")));
        let revoked = two.with(&key(1, "beta", json!({"revoked_ms": 900})), 0).unwrap();
        assert_eq!((code(&two, 1), code(&revoked, 1).as_deref()), (None, Some("invalid_api_key")));
        // A key without its tenant is nobody's, and still one that was made: none is let in without.
        let gone = two.without_tenant("beta", 0);
        assert_eq!((code(&gone, 1).as_deref(), gone.key(&keys[1].id)), (Some("invalid_api_key"), None));
        assert_eq!((gone.tenants(), gone.is_open()), (vec!["acme".to_owned(), "default".to_owned()], false));
        let back = gone.with(&tenant("beta", false), 0).unwrap();
        assert_eq!((code(&back, 1), back.principals().len()), (None, 5));
        assert!(back.without_tenant("default", 0).tenant("default").is_some());
    }
}
