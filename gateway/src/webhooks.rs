//! Webhooks: the end of a run told to whoever asked to be told, signed, tried eight times over a day.
//!
//! Which hosts may be told is the operator's to say; without a list nobody is. The signature is HMAC-SHA-256
//! over `<id>.<timestamp>.<body>`, so that a receiver knows who speaks, when, and that nothing was changed; the
//! identifier stays the same over all tries, so that it can tell a repetition.

use crate::clock;
use crate::routes::runs::object;
use engine::runs::Runs;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use providers::Outgoing;
use ring::hmac;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use types::encoding::hex;
use types::runs::{Told, Webhook};

/// Shortest secret, bytes.
pub(crate) const MIN_SECRET: usize = 32;
/// The variable that holds the secret.
pub(crate) const SECRET: &str = "TURNOUT_WEBHOOK_SECRET";
/// How often it looks for what is due.
const LOOK: Duration = Duration::from_secs(1);
/// Most that are under way at once. Each has a place of its own: a slow receiver holds up nobody else.
const AT_ONCE: usize = 64;

/// Settings of webhooks: who may be told.
pub use crate::hosts::Config;

/// Tells the ends of runs.
pub(crate) struct Webhooks {
    config: Config,
    key: Option<hmac::Key>,
    out: Option<Outgoing>,
}

impl Webhooks {
    /// `secret` is the signing key; without one, or without hosts, nobody is told anything.
    ///
    /// # Errors
    /// In words: the secret is too short, or TLS cannot be had.
    pub(crate) fn new(config: Config, secret: Option<&str>) -> Result<Self, String> {
        if let Some(short) = secret.filter(|s| s.len() < MIN_SECRET) {
            return Err(format!("{SECRET} has {} bytes, expected {MIN_SECRET} or more", short.len()));
        }
        let key = secret.map(|s| hmac::Key::new(hmac::HMAC_SHA256, s.as_bytes()));
        let on = key.is_some() && !config.allow_hosts.is_empty();
        let out = if on { Some(Outgoing::new(config.allow_private)?) } else { None };
        Ok(Webhooks { config, key, out })
    }

    /// Whether an address may be told.
    ///
    /// # Errors
    /// Why not, for whoever named it.
    pub(crate) fn check(&self, url: &str) -> Result<(), String> {
        if self.out.is_none() {
            return Err(format!(
                "`callback_url`: this server tells nobody; it needs webhooks.allow_hosts and {SECRET}"
            ));
        }
        self.config.check(url).map_err(|refused| format!("`callback_url`: {}", refused.for_webhooks()))
    }

    /// Whether anybody can be told anything.
    pub(crate) fn is_on(&self) -> bool {
        self.out.is_some()
    }

    /// Tells one thing, signed, if its address is among those that may be told; gives the status of the answer.
    ///
    /// # Errors
    /// It may not be told, or there was no answer; why.
    pub(crate) async fn post(&self, url: &str, id: &str, body: String) -> Result<u16, String> {
        let Some((out, key)) = self.out.as_ref().zip(self.key.as_ref()) else {
            return Err(format!("nobody is told: it needs webhooks.allow_hosts and {SECRET}"));
        };
        self.config.check(url).map_err(|refused| refused.for_webhooks().to_owned())?;
        post(out, key, url, id, body).await
    }

    /// Tells what is due, until the server stops.
    pub(crate) async fn run(&self, runs: Runs, stop: CancellationToken) {
        let Some((out, key)) = self.out.as_ref().zip(self.key.as_ref()) else { return };
        let mut ends = runs.ends();
        let mut under_way = FuturesUnordered::new();
        loop {
            let room = AT_ONCE.saturating_sub(under_way.len());
            if room > 0 {
                match runs.webhooks(room).await {
                    Ok(due) => under_way.extend(due.into_iter().map(|hook| self.tell(out, key, &runs, hook))),
                    Err(error) => tracing::warn!(%error, "webhooks cannot be read"),
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(()) = under_way.next() => {}
                _ = ends.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn tell(&self, out: &Outgoing, key: &hmac::Key, runs: &Runs, hook: Webhook) {
        // What was allowed when the run was taken need not be any more.
        let sent = match self.check(&hook.url) {
            Ok(()) => send(out, key, &hook).await,
            Err(why) => Err(why),
        };
        let told = match &sent {
            Ok(200..=299) => Told::Delivered,
            _ => Told::Failed,
        };
        if told == Told::Failed {
            let why = sent.map_or_else(|e| e, |status| format!("status {status}"));
            tracing::warn!(run = hook.row.head.id, attempt = hook.attempt, why, "a webhook was not taken");
        }
        if let Err(error) = runs.told(&hook.id, told).await {
            tracing::warn!(run = hook.row.head.id, %error, "what became of a webhook cannot be kept; it may come twice");
        }
    }
}

async fn send(out: &Outgoing, key: &hmac::Key, hook: &Webhook) -> Result<u16, String> {
    let event = format!("run.{}", hook.row.head.state.as_str());
    let body = json!({
        "id": hook.id, "type": event, "attempt": hook.attempt,
        "data": Value::Object(object::of_row(&hook.row)),
    })
    .to_string();
    post(out, key, &hook.url, &hook.id, body).await
}

async fn post(out: &Outgoing, key: &hmac::Key, url: &str, id: &str, body: String) -> Result<u16, String> {
    let timestamp = clock::unix().to_string();
    let signature = sign(key, id, &timestamp, &body);
    let headers = [
        ("x-turnout-webhook-id", id.to_owned()),
        ("x-turnout-webhook-timestamp", timestamp),
        ("x-turnout-webhook-signature", format!("sha256={signature}")),
    ];
    out.post(url, &headers, body.into()).await
}

/// 64 hex digits over identifier, time and body.
fn sign(key: &hmac::Key, id: &str, timestamp: &str, body: &str) -> String {
    let tag = hmac::sign(key, format!("{id}.{timestamp}.{body}").as_bytes());
    hex(tag.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "0123456789abcdef0123456789abcdef";

    fn webhooks(hosts: &[&str], allow_http: bool) -> Webhooks {
        let allow_hosts = hosts.iter().map(|h| (*h).to_owned()).collect();
        Webhooks::new(Config { allow_hosts, allow_http, allow_private: false }, Some(LONG)).unwrap()
    }

    #[test]
    fn only_hosts_of_the_list_are_told() {
        let check =
            |hooks: &Webhooks, url: &str, allowed| assert_eq!(hooks.check(url).is_ok(), allowed, "{url}");
        let hooks = webhooks(&["hooks.example.com", "*.example.org"], false);
        check(&hooks, "https://hooks.example.com/x?y=1", true);
        check(&hooks, "https://HOOKS.example.com:8443/x", true);
        check(&hooks, "https://a.b.example.org/", true);
        for refused in [
            "http://hooks.example.com/",
            "https://example.org/",
            "https://evilexample.org/",
            "https://.example.org/",
            "https://hooks.example.com.evil.net/",
            "https://user@hooks.example.com/",
            "https://hooks.example.com@evil.net/",
            "ftp://hooks.example.com/",
            "/relative",
            "",
        ] {
            check(&hooks, refused, false);
        }
        check(&webhooks(&["localhost"], true), "http://localhost:1/", true);
        let off = Webhooks::new(Config { allow_hosts: vec!["a".into()], ..Config::default() }, None).unwrap();
        check(&off, "https://a/", false);
        assert!(Webhooks::new(Config::default(), Some("short")).is_err());
    }

    #[test]
    fn signatures_are_those_of_the_standard() {
        // RFC 4231, test case 2, with the parts joined by dots.
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        let whole = hmac::sign(&key, b"what do ya want.for.nothing?");
        let want = hex(whole.as_ref());
        assert_eq!(sign(&key, "what do ya want", "for", "nothing?"), want);
        assert_eq!(want.len(), 64);
    }
}
