//! All providers of one snapshot of the matrix: who can be called, and the call.

use crate::dialect::{Auth, Wire};
use crate::recorded::Recorded;
use crate::simulated::Simulated;
use crate::transport::{Accounts, Client, Counting, KeyState, Limits, Problem, Settings, Tls, unix_ms};
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use types::adjustment::Adjustment;
use types::matrix::{Availability, Dialect, Matrix, ModelIx, Provider};
use types::provider::{Call, ChatProvider, Error, ErrorKind, Quota, Reply};

/// Bounds on what providers may do to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Largest answer, whole or streamed, in bytes. Default [`Config::MAX_ANSWER_BYTES`].
    pub max_answer_bytes: usize,
    /// Largest single event of a stream, in bytes. Default [`Config::MAX_EVENT_BYTES`].
    pub max_event_bytes: usize,
    /// Whether providers may be at addresses that are not public (loopback, private networks). Default
    /// true: hosts are named by the operator alone, and local models are an ordinary case.
    pub allow_private: bool,
    /// Whether keys and headers may go over `http://` to a host that is not known to be near: neither a private
    /// address nor a name of a local network. Default false.
    pub allow_http: bool,
}

impl Config {
    /// 64 MiB.
    pub const MAX_ANSWER_BYTES: usize = 64 << 20;
    /// 1 MiB.
    pub const MAX_EVENT_BYTES: usize = 1 << 20;
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_answer_bytes: Config::MAX_ANSWER_BYTES,
            max_event_bytes: Config::MAX_EVENT_BYTES,
            allow_private: true,
            allow_http: false,
        }
    }
}

/// What one key has used of a free tier, or of other limits, on the vendor's present day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct FreeUse {
    /// The provider.
    pub provider: String,
    /// The name of the variable that holds the key, never the key; empty where none is needed.
    pub key: String,
    /// `provider/model`; empty: of all models of the provider together.
    pub model: String,
    /// Unix milliseconds at which the vendor's day ends, in the vendor's own zone.
    pub day_ends_ms: i64,
    /// Requests.
    pub requests: u32,
    /// Tokens, input and output.
    pub tokens: u64,
    /// Unix milliseconds until which the vendor says that nothing is left; 0 = it has not said so.
    #[serde(default)]
    pub closed_until_ms: i64,
}

/// The providers of one snapshot of the configuration, with their connection pools and keys.
pub struct Fleet {
    matrix: Arc<Matrix>,
    /// By the provider's id.
    members: HashMap<String, Member>,
    tls: Result<Tls, String>,
    /// What is known of keys that several providers of one host share.
    accounts: Arc<Accounts>,
    config: Config,
    /// Counts what keys with limits of their own use.
    counting: Option<Counting>,
}

/// A provider as it can be called, or why it cannot.
#[derive(Clone)]
enum Member {
    Remote(Arc<Client>),
    Local(Arc<Provider>, Arc<dyn ChatProvider>),
    Out(Availability),
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ids: Vec<&String> = self.members.keys().collect();
        ids.sort();
        f.debug_struct("Fleet").field("providers", &ids).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Fleet {
    /// Readies every provider of the matrix. Nothing is connected to yet. Keys are read through `env`, once; they
    /// never print. A provider that cannot be called is no error: [`Fleet::availability`] says why. Nobody counts limits of
    /// single keys.
    #[must_use]
    pub fn new(matrix: Arc<Matrix>, env: &dyn Fn(&str) -> Option<String>, config: Config) -> Fleet {
        Fleet::counted(matrix, env, config, None)
    }

    /// The same, where somebody counts what keys with limits of their own use, so that these hold.
    #[must_use]
    pub fn counted(
        matrix: Arc<Matrix>,
        env: &dyn Fn(&str) -> Option<String>,
        config: Config,
        counting: Option<Counting>,
    ) -> Fleet {
        let (matrix_before, members, accounts) = (Arc::default(), HashMap::new(), Arc::default());
        let empty = Fleet { matrix: matrix_before, members, tls: Tls::new(), accounts, config, counting };
        empty.reload(matrix, env)
    }

    /// The same for another snapshot. Providers whose entry, keys and headers did not change keep their
    /// connections; calls under way are not disturbed.
    #[must_use]
    pub fn reload(&self, matrix: Arc<Matrix>, env: &dyn Fn(&str) -> Option<String>) -> Fleet {
        let members = matrix.providers().iter().map(|p| (p.id.clone(), self.member(p, env))).collect();
        let accounts = Arc::clone(&self.accounts);
        let (tls, counting) = (self.tls.clone(), self.counting.clone());
        let fleet = Fleet { matrix, members, tls, accounts, config: self.config, counting };
        // A provider whose entry changed has new keys and counts; what was used stays used.
        let now = unix_ms();
        fleet.resume_free_use(&self.free_use(now), now);
        fleet
    }

    /// The models whose provider is called otherwise than in the snapshot before: with other keys, headers or settings.
    #[must_use]
    pub fn rekeyed(&self, before: &Fleet) -> Vec<ModelIx> {
        let is_other = |ix: &ModelIx| {
            let id = self.matrix.provider_of(*ix).map(|p| &p.id);
            let of = |fleet: &Fleet| id.and_then(|id| fleet.members.get(id).cloned());
            match (of(self), of(before)) {
                (Some(Member::Remote(now)), Some(Member::Remote(then))) => !Arc::ptr_eq(&now, &then),
                // It could not be called in between.
                (Some(Member::Remote(_)), _) => true,
                _ => false,
            }
        };
        self.matrix.indices().filter(is_other).collect()
    }

    /// Whether a model of this fleet's matrix may be a candidate, and if not, why.
    #[must_use]
    pub fn availability(&self, ix: ModelIx) -> Availability {
        let (Some(model), Some(provider)) = (self.matrix.model(ix), self.matrix.provider_of(ix)) else {
            return Availability::Unusable("the matrix has no such model".to_owned());
        };
        if !model.enabled {
            return Availability::Disabled;
        }
        match self.members.get(&provider.id) {
            Some(Member::Out(why)) => why.clone(),
            Some(_) => Availability::Ready,
            None => Availability::Unusable("its provider is not part of the matrix".to_owned()),
        }
    }

    /// What was used of free tiers since each vendor's day began, to be kept and put back after a restart.
    #[must_use]
    pub fn free_use(&self, unix_ms: i64) -> Vec<FreeUse> {
        let mut all: Vec<FreeUse> = self.remotes().flat_map(|c| c.days(unix_ms)).collect();
        all.sort();
        all
    }

    /// How the keys of all providers that can be called stand, by provider, in the order of each.
    #[must_use]
    pub fn keys(&self) -> Vec<KeyState> {
        let mut all: Vec<KeyState> = self.remotes().flat_map(|c| c.key_states()).collect();
        all.sort_by(|a, b| a.provider.cmp(&b.provider));
        all
    }

    /// By provider, how often a call went on with another of its keys.
    #[must_use]
    pub fn key_turns(&self) -> Vec<(String, u64)> {
        let mut all: Vec<(String, u64)> = self
            .remotes()
            .map(|c| (c.settings().id().to_owned(), c.turns()))
            .filter(|(_, n)| *n > 0)
            .collect();
        all.sort();
        all
    }

    fn remotes(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.members.values().filter_map(|m| match m {
            Member::Remote(client) => Some(client),
            _ => None,
        })
    }

    /// Goes on from what was used before. Providers, keys and models that are no more, and days that are over, are
    /// passed over; where more is counted here already, that stands.
    pub fn resume_free_use(&self, before: &[FreeUse], unix_ms: i64) {
        for used in before {
            let model = self.matrix.find(&used.model).and_then(|ix| self.matrix.model(ix));
            if let Some(Member::Remote(client)) = self.members.get(&used.provider)
                && (model.is_some() || used.model.is_empty())
            {
                client.resume(model.map(|m| &**m), used, unix_ms);
            }
        }
    }

    fn member(&self, provider: &Arc<Provider>, env: &dyn Fn(&str) -> Option<String>) -> Member {
        if !provider.enabled {
            return Member::Out(Availability::Disabled);
        }
        let made = match Wire::of(provider.dialect) {
            Some(wire) => self.remote(provider, wire, env),
            None => self.local(provider),
        };
        made.unwrap_or_else(Member::Out)
    }

    fn remote(
        &self,
        provider: &Arc<Provider>,
        wire: Wire,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Member, Availability> {
        let settings = Settings::new(provider, wire.auth() == Auth::Bearer, env).map_err(|p| match p {
            Problem::NoKey(names) => Availability::NoKey(names),
            Problem::Unusable(why) => Availability::Unusable(why),
        })?;
        if !self.config.allow_private && !settings.may_be_public() {
            return Err(Availability::Unusable("its address is not public, which is not allowed".to_owned()));
        }
        if !self.config.allow_http && settings.tells_secrets() {
            let why = "its key would go over http:// to a public host: the address begins with https://, or \
                       `upstream.allow_http` is set";
            return Err(Availability::Unusable(why.to_owned()));
        }
        if let Some(Member::Remote(client)) = self.members.get(&provider.id)
            && *client.settings() == settings
        {
            return Ok(Member::Remote(Arc::clone(client)));
        }
        let tls = self.tls.as_ref().map_err(|e| Availability::Unusable(e.clone()))?;
        let http = tls.client(provider.timeouts.connect, self.config.allow_private);
        let limits = Limits { answer: self.config.max_answer_bytes, event: self.config.max_event_bytes };
        let before = match self.members.get(&provider.id) {
            Some(Member::Remote(client)) => Some(&**client),
            _ => None,
        };
        Ok(Member::Remote(Arc::new(Client::new(
            (settings, wire),
            http,
            limits,
            (&self.accounts, self.counting.as_ref()),
            before,
        ))))
    }

    fn local(&self, provider: &Arc<Provider>) -> Result<Member, Availability> {
        if let Some(known @ Member::Local(before, _)) = self.members.get(&provider.id)
            && before == provider
        {
            // Its table is read anew only when the entry changes.
            return Ok(known.clone());
        }
        let made: Arc<dyn ChatProvider> = match (provider.dialect, &provider.file) {
            (Dialect::Recorded, Some(folder)) => {
                Arc::new(Recorded::open(folder).map_err(Availability::Unusable)?)
            }
            (Dialect::Recorded, None) => {
                return Err(Availability::Unusable("`file` names no outcome table".to_owned()));
            }
            _ => Arc::new(Simulated),
        };
        Ok(Member::Local(Arc::clone(provider), made))
    }
}

impl ChatProvider for Fleet {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Reply, Error>> {
        let why = match self.members.get(&call.provider.id) {
            Some(Member::Remote(client)) => return Box::pin(Arc::clone(client).call(call)),
            Some(Member::Local(_, provider)) => return provider.call(call),
            Some(Member::Out(Availability::NoKey(names))) => {
                Error::new(ErrorKind::Auth, &call.model, format!("none of {} is set", names.join(", ")))
            }
            Some(Member::Out(Availability::Unusable(why))) => {
                Error::new(ErrorKind::Connect, &call.model, why.clone())
            }
            Some(Member::Out(_)) => {
                Error::new(ErrorKind::Connect, &call.model, "the provider is switched off")
            }
            None => Error::new(ErrorKind::Connect, &call.model, "no such provider"),
        };
        Box::pin(std::future::ready(Err(why)))
    }

    fn adjustments(&self, call: &Call) -> Vec<Adjustment> {
        match self.members.get(&call.provider.id) {
            Some(Member::Remote(client)) => client.adjustments(call),
            _ => Vec::new(),
        }
    }

    fn quota(&self, ix: ModelIx) -> Option<Quota> {
        let (model, provider) = (self.matrix.model(ix)?, self.matrix.provider_of(ix)?);
        match self.members.get(&provider.id)? {
            Member::Remote(client) => client.quota(model),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix;
    use types::doc::SourceFile;

    fn shipped(env: &dyn Fn(&str) -> Option<String>) -> (Arc<Matrix>, Fleet) {
        let file = SourceFile::new("capability_matrix.yaml", matrix::SHIPPED);
        let matrix = Arc::new(matrix::load(&[file], env, None).0);
        (Arc::clone(&matrix), Fleet::new(matrix, env, Config::default()))
    }

    /// How many enabled models there are, and those of them that are not ready.
    fn out(env: &dyn Fn(&str) -> Option<String>) -> (usize, Vec<(String, Availability)>) {
        let (matrix, fleet) = shipped(env);
        let named =
            |ix| (matrix.model(ix).map_or(String::new(), |m| m.id.to_string()), fleet.availability(ix));
        let enabled: Vec<_> =
            matrix.indices().map(named).filter(|(_, a)| *a != Availability::Disabled).collect();
        let n = enabled.len();
        (n, enabled.into_iter().filter(|(_, a)| *a != Availability::Ready).collect())
    }

    #[test]
    fn every_shipped_model_is_ready_once_the_environment_is_full() {
        let full = |name: &str| {
            Some(if name.ends_with("BASE_URL") { "http://127.0.0.1:9/v1" } else { "secret" }.to_owned())
        };
        let (n, out) = out(&full);
        assert!(n > 20);
        assert_eq!(out, []);
    }

    #[test]
    fn without_an_environment_no_vendor_is_ready() {
        let (n, out) = out(&|_| None);
        assert_eq!(out.len(), n);
        for (id, why) in out {
            assert!(matches!(why, Availability::NoKey(_) | Availability::Unusable(_)), "{id}: {why:?}");
        }
    }
}
