//! The routes of pools and policies: parts of the bundle in force, changed one by one.

use super::routes::{list, ok};
use super::{Call, Reply};
use crate::error::Failure;

/// The parameter of a change that is only to be checked.
pub(super) const DRY_RUN: &[&str] = &["dry_run"];

pub(super) fn pools(c: &Call<'_>) -> Result<Reply, Failure> {
    list(c.app.pools())
}

pub(super) fn pool(c: &Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.pool(c.name())?)
}

pub(super) async fn put_pool(c: Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.put_pool(c.actor, c.name(), &c.read()?, dry_run(&c)?).await?)
}

pub(super) async fn remove_pool(c: Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.remove_pool(c.actor, c.name(), dry_run(&c)?).await?)
}

pub(super) fn policies(c: &Call<'_>) -> Result<Reply, Failure> {
    list(c.app.policies())
}

pub(super) fn policy(c: &Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.policy(c.name())?)
}

pub(super) async fn put_policy(c: Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.put_policy(c.actor, c.name(), &c.read()?, dry_run(&c)?).await?)
}

pub(super) async fn remove_policy(c: Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.remove_policy(c.actor, c.name(), dry_run(&c)?).await?)
}

fn dry_run(c: &Call<'_>) -> Result<bool, Failure> {
    match c.parameter("dry_run") {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => {
            Err(Failure::bad_request("invalid_value", "`dry_run` is `true` or `false`").param("dry_run"))
        }
    }
}
