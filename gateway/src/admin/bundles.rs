//! The routes of bundles.

use super::parts::{flag, terms_of};
use super::routes::{Nothing, ok};
use super::{Call, Reply};
use crate::bundles::diff as difference;
use crate::config::Texts;
use crate::control::fields;
use crate::error::Failure;
use engine::shadow::Sample;
use serde::Deserialize;
use std::time::Duration;

/// A bundle that is sent here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Upload {
    /// Texts by path.
    files: Texts,
    /// Why, for people.
    #[serde(default)]
    message: String,
}

/// Longest message, characters.
const MESSAGE: usize = 500;

pub(super) fn list(c: &Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.bundles.list(c.app.is_watched()))
}

pub(super) fn one(c: &Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.bundles.one(c.name())?)
}

pub(super) async fn upload(c: Call<'_>) -> Result<Reply, Failure> {
    let Upload { files, message } = c.read()?;
    if message.chars().count() > MESSAGE {
        let text = format!("`message` holds at most {MESSAGE} characters");
        return Err(Failure::bad_request("invalid_value", text).param("message"));
    }
    if files.is_empty() {
        let text = "`files` holds no file of a configuration; what is built in is in force without a bundle";
        return Err(Failure::bad_request("invalid_value", text).param("files"));
    }
    let (status, kept) = c.app.upload(c.actor, files, message).await?;
    Ok(Reply(status, kept))
}

/// How a bundle is put in force.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Activation {
    /// However much it changes.
    #[serde(default)]
    acknowledge: bool,
}

pub(super) async fn activate(c: Call<'_>) -> Result<Reply, Failure> {
    let Activation { acknowledge } = c.read()?;
    let terms = terms_of(&c, flag(&c, "dry_run")?, acknowledge);
    ok(c.app.activate(c.actor, c.name(), terms).await?)
}

pub(super) async fn rollback(c: Call<'_>) -> Result<Reply, Failure> {
    let Nothing {} = c.read()?;
    ok(c.app.rollback(c.actor, &terms_of(&c, false, false)).await?)
}

pub(super) async fn diff(c: Call<'_>) -> Result<Reply, Failure> {
    let bundles = &c.app.bundles;
    let from = bundles.named(c.parameter("against").unwrap_or("active"))?;
    let to = bundles.named(c.name())?;
    let (a, b) = (c.app.bundle(&from).await?, c.app.bundle(&to).await?);
    ok(difference((&a, &bundles.texts(&from)), (&b, &bundles.texts(&to))))
}

/// How a bundle is tried.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTrial {
    /// Share of the requests.
    #[serde(default = "all")]
    share: f64,
    /// Seconds after which it ends by itself; none = somebody has to end it.
    #[serde(default, deserialize_with = "fields::given")]
    for_s: Option<u64>,
    /// Requests after which it ends by itself; none = it goes on however many come.
    #[serde(default, deserialize_with = "fields::given")]
    for_requests: Option<u64>,
}

/// Longest trial that ends by itself: thirty days.
pub(super) const LONGEST_TRIAL_S: u64 = 2_592_000;
/// Most requests of a trial that ends by itself.
pub(super) const LARGEST_TRIAL: u64 = 1_000_000;

const fn all() -> f64 {
    1.0
}

pub(super) async fn shadow(c: Call<'_>) -> Result<Reply, Failure> {
    let NewTrial { share, for_s, for_requests } = c.read()?;
    if let Some(s) = for_s.filter(|s| !(1..=LONGEST_TRIAL_S).contains(s)) {
        let text = format!("`for_s` is {s}; it is 1 to {LONGEST_TRIAL_S} seconds (30 days)");
        return Err(Failure::bad_request("invalid_value", text).param("for_s"));
    }
    if let Some(n) = for_requests.filter(|n| !(1..=LARGEST_TRIAL).contains(n)) {
        let text = format!("`for_requests` is {n}; it is 1 to {LARGEST_TRIAL}");
        return Err(Failure::bad_request("invalid_value", text).param("for_requests"));
    }
    let sample = Sample { share, most: for_requests };
    ok(c.app.try_bundle(c.actor, c.name(), (sample, for_s.map(Duration::from_secs))).await?)
}

pub(super) fn trial(c: &Call<'_>) -> Result<Reply, Failure> {
    let hash = c.app.bundles.named(c.name())?;
    ok(c.app.bundles.trial(&hash, c.app.engine.trial())?)
}

pub(super) async fn end_shadow(c: Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.end_trial(c.actor, c.name()).await?)
}
