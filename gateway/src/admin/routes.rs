//! The routes of the control API.

use super::{Call, Reply, Route, Run, approvals, bundles, openapi, pages, parts, statistics, trail};
use crate::app::App;
use crate::clock;
use crate::control::{Need, keys, provider_keys, tenants};
use crate::error::Failure;
use crate::usage;
use http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::Arc;
use types::control::Principal;
use types::limits::{Standing, Window};
use types::matrix::Availability;

/// What most routes answer with.
const OK: &[&str] = &["200"];

const fn get(path: &'static str, need: Need, summary: &'static str, gives: &'static str, run: Run) -> Route {
    Route { method: "GET", path, need, summary, query: &[], takes: "", gives, statuses: OK, run }
}

const fn post(
    path: &'static str,
    need: Need,
    summary: &'static str,
    takes: &'static str,
    gives: &'static str,
    run: Run,
) -> Route {
    Route { method: "POST", path, need, summary, query: &[], takes, gives, statuses: OK, run }
}

/// A `POST` that makes what it gives.
const fn create(
    path: &'static str,
    need: Need,
    summary: &'static str,
    takes: &'static str,
    gives: &'static str,
    run: Run,
) -> Route {
    Route { statuses: &["201"], ..post(path, need, summary, takes, gives, run) }
}

const fn patch(
    path: &'static str,
    summary: &'static str,
    takes: &'static str,
    gives: &'static str,
    run: Run,
) -> Route {
    Route { method: "PATCH", path, need: Need::Operate, summary, query: &[], takes, gives, statuses: OK, run }
}

const fn delete(
    path: &'static str,
    need: Need,
    summary: &'static str,
    gives: &'static str,
    run: Run,
) -> Route {
    Route { method: "DELETE", path, need, summary, query: &[], takes: "", gives, statuses: OK, run }
}

/// A change of a part of the bundle in force.
const fn change(
    method: &'static str,
    path: &'static str,
    summary: &'static str,
    takes: &'static str,
    run: Run,
) -> Route {
    let (need, query) = (Need::OperateAll, parts::HOW);
    Route { method, path, need, summary, query, takes, gives: "Change", statuses: OK, run }
}

/// All of them.
pub(crate) static ROUTES: &[Route] = &[
    get("/openapi.json", Need::View, "This document", "Document", |_| {
        Box::pin(async { ok(openapi::document()) })
    }),
    get("/whoami", Need::View, "Who the key belongs to", "Whoami", |c| Box::pin(ready(whoami(&c)))),
    Route {
        query: pages::PAGED,
        ..get("/tenants", Need::View, "Tenants, by id", "Tenants", |c| Box::pin(list_tenants(c)))
    },
    create("/tenants", Need::Admin, "Make a tenant", "NewTenant", "Tenant", |c| Box::pin(create_tenant(c))),
    get("/tenants/{tenant}", Need::View, "One tenant", "Tenant", |c| Box::pin(one_tenant(c))),
    Route {
        need: Need::OperateAll,
        ..patch("/tenants/{tenant}", "Change a tenant", "TenantChange", "Tenant", |c| {
            Box::pin(change_tenant(c))
        })
    },
    delete("/tenants/{tenant}", Need::Admin, "Remove a tenant without keys", "Removed", |c| {
        Box::pin(remove_tenant(c))
    }),
    Route {
        query: pages::OF_TENANTS,
        ..get("/keys", Need::View, "Virtual keys, by id", "Keys", |c| Box::pin(list_keys(c)))
    },
    create(
        "/keys",
        Need::Operate,
        "Make a virtual key; its text is shown this once",
        "NewKey",
        "MintedKey",
        |c| Box::pin(create_key(c)),
    ),
    get("/keys/{key}", Need::View, "One virtual key", "Key", |c| Box::pin(one_key(c))),
    patch("/keys/{key}", "Change a virtual key", "KeyChange", "Key", |c| Box::pin(change_key(c))),
    create(
        "/keys/{key}/rotate",
        Need::Operate,
        "Replace a key; the old one works for a grace",
        "Rotation",
        "MintedKey",
        |c| Box::pin(rotate_key(c)),
    ),
    delete("/keys/{key}", Need::Operate, "Revoke a virtual key at once", "Key", |c| Box::pin(revoke_key(c))),
    get("/providers", Need::ViewAll, "Providers and whether they can be called", "Providers", |c| {
        Box::pin(ready(providers(&c)))
    }),
    get("/models", Need::ViewAll, "Models with state, price and what was learned", "Models", |c| {
        Box::pin(ready(models(&c)))
    }),
    get(
        "/provider-keys",
        Need::ViewAll,
        "Keys of providers and how they stand, without the keys",
        "ProviderKeys",
        |c| Box::pin(list_provider_keys(c)),
    ),
    create(
        "/provider-keys",
        Need::Admin,
        "Keep a key of a provider, encrypted",
        "NewProviderKey",
        "ProviderKey",
        |c| Box::pin(create_provider_key(c)),
    ),
    Route {
        need: Need::Admin,
        ..patch(
            "/provider-keys/{id}",
            "Change the name or the limits of a stored key of a provider",
            "ProviderKeyChange",
            "ProviderKey",
            |c| Box::pin(change_provider_key(c)),
        )
    },
    delete("/provider-keys/{id}", Need::Admin, "Forget a key of a provider", "Removed", |c| {
        Box::pin(remove_provider_key(c))
    }),
    Route {
        query: pages::OF_TENANTS,
        ..get("/budgets", Need::View, "How the limits of tenants and keys stand", "Budgets", |c| {
            Box::pin(budgets(c))
        })
    },
    Route {
        query: &["group_by", "from", "to", "tenant", "limit"],
        ..get("/usage", Need::View, "What was used, what it cost and what was saved", "Usage", |c| {
            Box::pin(used(c))
        })
    },
    get("/statistics", Need::ViewAll, "States of what was learned that are kept", "Statistics", |c| {
        Box::pin(statistics::states(c))
    }),
    post(
        "/statistics/rollback",
        Need::OperateAll,
        "Go back to what was known at a moment",
        "StatisticsRollback",
        "SavedStatistics",
        |c| Box::pin(statistics::rollback(c)),
    ),
    get("/approvals", Need::View, "Questions of policies and gates to people that stand", "Approvals", |c| {
        Box::pin(approvals::list(c))
    }),
    // Whose answer counts is said by the rules, not by the role.
    post(
        "/approvals/{approval}",
        Need::View,
        "Answer such a question; a gate that names nobody is for operators",
        "ApprovalAnswer",
        "Approval",
        |c| Box::pin(approvals::decide(c)),
    ),
    get("/pools", Need::ViewAll, "Pools of models and what they come to now", "Pools", |c| {
        Box::pin(ready(parts::pools(&c)))
    }),
    get("/pools/{pool}", Need::ViewAll, "One pool", "Pool", |c| Box::pin(ready(parts::pool(&c)))),
    change("PUT", "/pools/{pool}", "Put a pool; what would have problems changes nothing", "NewPool", |c| {
        Box::pin(parts::put_pool(c))
    }),
    change("DELETE", "/pools/{pool}", "Remove a pool that nothing names", "", |c| {
        Box::pin(parts::remove_pool(c))
    }),
    get(
        "/policies",
        Need::ViewAll,
        "Rules and scripts, where they stand and how often they matched",
        "Policies",
        |c| Box::pin(ready(parts::policies(&c))),
    ),
    get("/policies/{policy}", Need::ViewAll, "One rule or script with its text", "Policy", |c| {
        Box::pin(ready(parts::policy(&c)))
    }),
    change(
        "PUT",
        "/policies/{policy}",
        "Put a rule or script; what would have problems changes nothing",
        "NewPolicy",
        |c| Box::pin(parts::put_policy(c)),
    ),
    change("DELETE", "/policies/{policy}", "Remove a rule or script", "", |c| {
        Box::pin(parts::remove_policy(c))
    }),
    get("/bundle", Need::ViewAll, "The configuration in force", "Bundle", |c| Box::pin(ready(bundle(&c)))),
    post(
        "/reload",
        Need::OperateAll,
        "Read the configuration again; a bad one changes nothing",
        "Nothing",
        "Bundle",
        |c| Box::pin(reload(c)),
    ),
    get("/bundles", Need::ViewAll, "Bundles that are kept, and how the files stand", "Bundles", |c| {
        Box::pin(ready(bundles::list(&c)))
    }),
    Route {
        // 200: it was kept already.
        statuses: &["200", "201"],
        ..post(
            "/bundles",
            Need::OperateAll,
            "Check and keep a bundle; all of its problems at once",
            "NewBundle",
            "KeptBundle",
            |c| Box::pin(bundles::upload(c)),
        )
    },
    Route {
        query: parts::OF_ROLLBACK,
        ..post(
            "/bundles/rollback",
            Need::OperateAll,
            "Put the bundle in force that was in force before",
            "Nothing",
            "KeptBundle",
            |c| Box::pin(bundles::rollback(c)),
        )
    },
    get("/bundles/{hash}", Need::ViewAll, "One bundle with its texts", "KeptBundle", |c| {
        Box::pin(ready(bundles::one(&c)))
    }),
    Route {
        query: parts::OF_ACTIVATION,
        ..post(
            "/bundles/{hash}/activate",
            Need::OperateAll,
            "Put a kept bundle in force; with `dry_run=true` only tell what would become of recorded requests",
            "Activation",
            "KeptBundle",
            |c| Box::pin(bundles::activate(c)),
        )
    },
    post(
        "/bundles/{hash}/shadow",
        Need::OperateAll,
        "Try a kept bundle on a share of the requests, after their answers",
        "NewTrial",
        "Trial",
        |c| Box::pin(bundles::shadow(c)),
    ),
    get("/bundles/{hash}/shadow", Need::ViewAll, "What came of trying a bundle", "Trial", |c| {
        Box::pin(ready(bundles::trial(&c)))
    }),
    delete("/bundles/{hash}/shadow", Need::OperateAll, "Try a bundle no more", "Trial", |c| {
        Box::pin(bundles::end_shadow(c))
    }),
    Route {
        query: &["against"],
        ..get(
            "/bundles/{hash}/diff",
            Need::ViewAll,
            "How a bundle differs from the one in force, or from `against`",
            "BundleDiff",
            |c| Box::pin(bundles::diff(c)),
        )
    },
    Route {
        query: trail::QUERY,
        ..get(
            "/audit",
            Need::Audit,
            "Lines of the audit trail: the newest, or those after or before a number",
            "AuditLines",
            |c| Box::pin(trail::lines(c)),
        )
    },
    post(
        "/audit/key",
        Need::Admin,
        "Seal the audit trail with a new key from now on",
        "Nothing",
        "AuditKey",
        |c| Box::pin(trail::rotate_key(c)),
    ),
];

pub(super) fn ok(value: Value) -> Result<Reply, Failure> {
    Ok(Reply(StatusCode::OK, value))
}

pub(super) fn list(data: impl Into<Value>) -> Result<Reply, Failure> {
    ok(json!({ "object": "list", "data": data.into() }))
}

fn whoami(c: &Call<'_>) -> Result<Reply, Failure> {
    ok(json!({ "kind": c.actor.kind, "id": c.actor.id, "role": c.actor.role, "tenant": c.actor.tenant }))
}

async fn list_tenants(c: Call<'_>) -> Result<Reply, Failure> {
    let all = c.app.plane.tenants(c.actor).await?;
    Ok(pages::page(&c, all.into_iter().map(by_id).collect())?.reply())
}

async fn one_tenant(c: Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.plane.tenant(c.actor, c.name()).await?)
}

async fn create_tenant(c: Call<'_>) -> Result<Reply, Failure> {
    let spec: tenants::Spec = c.read()?;
    Ok(Reply(StatusCode::CREATED, c.app.plane.create_tenant(c.actor, spec, &known(c.app)).await?))
}

async fn change_tenant(c: Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.plane.change_tenant(c.actor, c.name(), c.read()?, &known(c.app)).await?)
}

async fn remove_tenant(c: Call<'_>) -> Result<Reply, Failure> {
    c.app.plane.remove_tenant(c.actor, c.name()).await?;
    ok(json!({ "id": c.name(), "removed": true }))
}

fn known(app: &App) -> keys::Known {
    let models = app.engine.models();
    let ready = models.iter().filter(|m| m.availability == Availability::Ready);
    keys::Known {
        ready: ready.map(|m| m.id.to_string()).collect(),
        models: models.iter().map(|m| m.id.to_string()).collect(),
        pools: app.engine.pool_names(),
        selects: {
            let engine = app.engine.clone();
            Box::new(move |selector| engine.selects(selector))
        },
        workflows: app.engine.workflow_names(),
        default_budget: app.server.default_budget,
    }
}

async fn list_keys(c: Call<'_>) -> Result<Reply, Failure> {
    let mut all = c.app.plane.keys(c.actor).await?;
    all.retain(|key| pages::is_asked_for(&c, key.get("tenant").and_then(Value::as_str)));
    if all.is_empty() {
        pages::tenant_is_known(&c).await?;
    }
    Ok(pages::page(&c, all.into_iter().map(by_id).collect())?.reply())
}

async fn one_key(c: Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.plane.key(c.actor, c.name()).await?)
}

async fn create_key(c: Call<'_>) -> Result<Reply, Failure> {
    if c.body.is_empty() {
        let text = "say what the key is for, such as {\"tenant\": \"acme\", \"name\": \"web\"}; {} makes one of the tenant \
                    `default` with the usual limits";
        return Err(Failure::bad_request("body_required", text.to_owned()));
    }
    let spec: keys::Spec = c.read()?;
    Ok(Reply(StatusCode::CREATED, c.app.plane.create_key(c.actor, spec, &known(c.app)).await?))
}

async fn change_key(c: Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.plane.change_key(c.actor, c.name(), c.read()?, &known(c.app)).await?)
}

async fn rotate_key(c: Call<'_>) -> Result<Reply, Failure> {
    Ok(Reply(StatusCode::CREATED, c.app.plane.rotate_key(c.actor, c.name(), &c.read()?).await?))
}

async fn revoke_key(c: Call<'_>) -> Result<Reply, Failure> {
    ok(c.app.plane.revoke_key(c.actor, c.name()).await?)
}

fn providers(c: &Call<'_>) -> Result<Reply, Failure> {
    let mut by_provider: std::collections::BTreeMap<String, (usize, usize)> =
        std::collections::BTreeMap::new();
    for m in c.app.engine.models() {
        let (ready, all) = by_provider.entry(m.provider).or_default();
        *all = all.saturating_add(1);
        *ready = ready.saturating_add(usize::from(m.availability == types::matrix::Availability::Ready));
    }
    let stored = c.app.plane.provider_keys();
    let rows = by_provider.into_iter().map(|(id, (ready, all))| {
        let keys = stored.iter().filter(|k| k.provider == id).count();
        json!({ "id": id, "models": all, "candidates": ready, "stored_keys": keys })
    });
    list(rows.collect::<Vec<_>>())
}

fn models(c: &Call<'_>) -> Result<Reply, Failure> {
    list(c.app.engine.models().iter().filter_map(|m| serde_json::to_value(m).ok()).collect::<Vec<_>>())
}

async fn list_provider_keys(c: Call<'_>) -> Result<Reply, Failure> {
    list(c.app.plane.list_provider_keys(&c.app.key_states()).await?)
}

async fn create_provider_key(c: Call<'_>) -> Result<Reply, Failure> {
    let spec: provider_keys::Spec = c.read()?;
    let mut providers: Vec<String> = c.app.engine.models().into_iter().map(|m| m.provider).collect();
    providers.dedup();
    let made = c.app.plane.create_provider_key(c.actor, spec, &providers).await?;
    c.app.rekey();
    Ok(Reply(StatusCode::CREATED, made))
}

async fn change_provider_key(c: Call<'_>) -> Result<Reply, Failure> {
    let change: provider_keys::Change = c.read()?;
    let mut changed = c.app.plane.change_provider_key(c.actor, c.name(), change).await?;
    c.app.rekey();
    let id = changed.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let rows = c.app.plane.list_provider_keys(&c.app.key_states()).await?;
    if let Some(row) = rows.into_iter().find(|r| r.get("id").and_then(Value::as_str) == Some(&id)) {
        changed = row;
    }
    ok(changed)
}

async fn remove_provider_key(c: Call<'_>) -> Result<Reply, Failure> {
    c.app.plane.remove_provider_key(c.actor, c.name()).await?;
    c.app.rekey();
    ok(json!({ "id": c.name(), "removed": true }))
}

async fn budgets(c: Call<'_>) -> Result<Reply, Failure> {
    let mut limits = BTreeMap::new();
    for principal in c.app.plane.directory().principals() {
        let id = principal.tenant.id.as_str();
        if c.actor.sees(Some(id)) && pages::is_asked_for(&c, Some(id)) {
            let tenant: Arc<str> = id.into();
            limits.extend(
                all_limits(&principal).into_iter().map(|l| (place(&tenant, &l), (tenant.clone(), l))),
            );
        }
    }
    if limits.is_empty() {
        pages::tenant_is_known(&c).await?;
    }
    let page = pages::page(&c, limits.into_iter().collect())?;
    let now = clock::unix_ms();
    let mut rows = Vec::with_capacity(page.entries.len());
    for (tenant, limit) in &page.entries {
        let standing = match limit.window {
            // Each request has all of it.
            Window::Request => vec![Standing::untouched(limit)],
            _ => c.app.limits.standing(tenant, std::slice::from_ref(limit), now).await,
        };
        rows.extend(standing.iter().map(|s| usage::budget(tenant, s, now)));
    }
    Ok(page.shown(rows).reply())
}

/// By what a limit is found again in the list of all.
fn place(tenant: &str, l: &types::limits::Limit) -> String {
    let of = [tenant, &l.holder, l.metric.as_str(), &l.window.to_string()];
    types::encoding::hex(format!("{}\0{:020}\0{}", of.join("\0"), l.ceiling, l.reserved).as_bytes())
}

/// What is found by its id.
fn by_id(entry: Value) -> (String, Value) {
    (entry.get("id").and_then(Value::as_str).unwrap_or_default().to_owned(), entry)
}

fn all_limits(p: &Principal) -> Vec<types::limits::Limit> {
    p.limits.iter().chain(p.partial.iter().chain(&p.each).map(|(_, l)| l)).cloned().collect()
}

async fn used(c: Call<'_>) -> Result<Reply, Failure> {
    let query = usage::asked(c.actor, |name| c.parameter(name))?;
    let report = c.app.engine.usage(query.clone()).await.map_err(|e| {
        tracing::error!(error = %e, "usage cannot be read");
        Failure::busy("store_unavailable", "usage cannot be read just now", std::time::Duration::from_secs(5))
    })?;
    if report.rows.is_empty() {
        pages::tenant_is_known(&c).await?;
    }
    ok(usage::document(&query, &report))
}

fn bundle(c: &Call<'_>) -> Result<Reply, Failure> {
    ok(json!({ "hash": &*c.app.engine.bundle_hash(), "workflows": c.app.engine.workflow_names() }))
}

/// What a route reads that takes nothing: an object without members.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

async fn reload(c: Call<'_>) -> Result<Reply, Failure> {
    let Nothing {} = c.read()?;
    c.app.reload(c.actor).await?;
    bundle(&c)
}
