//! What workflows reach besides models: checks and tools outside the process.
//!
//! Everything here is off until whoever starts the engine gives it.

mod code;
mod http;
mod script;

use futures_util::future::BoxFuture;
use policies::PolicySet;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use types::runner::CodeRunner;
use types::{Report, Verdict};
use workflows::CheckAsk;

/// Asks services over HTTP; which ones it may ask is its own business.
pub trait Fetch: Send + Sync {
    /// Sends a request and gives status and body of the answer. Redirects are not followed.
    ///
    /// # Errors
    /// There was no answer, or the service may not be asked; why.
    fn fetch(&self, request: Request) -> BoxFuture<'_, Result<Response, String>>;
}

/// A request to a service.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `POST`, ...
    pub method: &'static str,
    /// Absolute address.
    pub url: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// A header whose value only whoever sends it knows.
    pub auth: Option<Auth>,
    /// JSON; `None` = no body.
    pub body: Option<Value>,
    /// Longest time for all of it.
    pub timeout: Duration,
}

/// A header with a secret. The secret itself is not in it: it comes from the environment when a request is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Name of the header, in lower case.
    pub header: String,
    /// Stands before the secret.
    pub prefix: String,
    /// The variable of the environment that holds the secret.
    pub env: String,
}

/// What whoever loads a configuration knows of the machine it is for.
pub trait Surroundings: std::fmt::Debug + Send + Sync {
    /// Whether tools may ask an address.
    ///
    /// # Errors
    /// Why not.
    fn may_ask(&self, url: &str) -> Result<(), String>;

    /// Whether the environment has a variable.
    fn has_secret(&self, env: &str) -> bool;
}

/// What a service answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// What there is outside.
#[derive(Clone, Default)]
pub struct Outside {
    /// Runs tests against code; `None` = nothing does.
    pub runner: Option<Arc<dyn CodeRunner>>,
    /// Asks services; `None` = none may be asked.
    pub fetch: Option<Arc<dyn Fetch>>,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside")
            .field("runner", &self.runner.is_some())
            .field("fetch", &self.fetch.is_some())
            .finish()
    }
}

impl Outside {
    /// Runs a check. What cannot be checked, in time or at all, is unverified.
    pub(crate) async fn check(&self, ask: CheckAsk, policies: &PolicySet) -> Report {
        let timeout = ask.timeout;
        let checked = async {
            match &*ask.check {
                "code_tests" => code::check(self.runner.as_deref(), &ask).await,
                "http" => http::check(self.fetch.as_deref(), &ask).await,
                "script" => script::check(policies, &ask).await,
                other => unverified(format!("nothing here runs `{other}`")),
            }
        };
        let late = || unverified(format!("`{}` took longer than {timeout:?}", ask.check));
        tokio::time::timeout(timeout, checked).await.unwrap_or_else(|_| late())
    }
}

pub(crate) use script::check_now as script_now;

/// It could not be checked; why.
fn unverified(reason: impl Into<String>) -> Report {
    Report { verdict: Verdict::Unverified, reason: Some(reason.into()), findings: Vec::new() }
}
