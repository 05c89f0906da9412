//! The OpenAPI document, written from the table of routes.

use super::{ROOT, Route, routes};
use crate::control::fields;
use serde_json::{Map, Value, json};

/// The whole document.
pub(crate) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for r in routes::ROUTES {
        let names = r.path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}'));
        let of_path = names
            .map(|n| json!({ "name": n, "in": "path", "required": true, "schema": { "type": "string" } }));
        let of_query =
            r.query.iter().map(|n| json!({ "name": n, "in": "query", "schema": { "type": "string" } }));
        let parameters: Vec<Value> = of_path.chain(of_query).collect();
        let mut operation = json!({
            "summary": r.summary,
            "description": format!("Needs the role {}.", r.need.as_str()),
            "parameters": parameters,
            "security": [{ "key": [] }],
            "responses": responses(r),
        });
        if let (false, Some(o)) = (r.takes.is_empty(), operation.as_object_mut()) {
            o.insert("requestBody".to_owned(), json!({ "content": content(r.takes) }));
        }
        let path = paths.entry(format!("{ROOT}{}", r.path)).or_insert_with(|| json!({}));
        if let Some(p) = path.as_object_mut() {
            p.insert(r.method.to_ascii_lowercase(), operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Turnout control API", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
        },
    })
}

fn responses(r: &Route) -> Map<String, Value> {
    let good = r.statuses.iter().map(|status| (*status, r.gives));
    good.chain([("4XX", "Error"), ("5XX", "Error")])
        .map(|(s, schema)| (s.to_owned(), answer(schema)))
        .collect()
}

fn content(schema: &str) -> Value {
    json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{schema}") } } })
}

fn answer(schema: &str) -> Value {
    json!({ "description": schema, "content": content(schema) })
}

fn object(required: &[&str], properties: impl Into<Value>) -> Value {
    let properties = properties.into();
    json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties })
}

fn open(properties: impl Into<Value>) -> Value {
    let properties = properties.into();
    json!({ "type": "object", "properties": properties })
}

fn list_of(schema: &str) -> Value {
    let items = json!({ "$ref": format!("#/components/schemas/{schema}") });
    object(
        &["object", "data"],
        json!({ "object": { "const": "list" }, "data": { "type": "array", "items": items } }),
    )
}

/// A page of a list: what follows it begins at `next_cursor`, if there is more.
fn page_of(schema: &str) -> Value {
    let mut list = list_of(schema);
    if let Some(members) = list.get_mut("properties").and_then(Value::as_object_mut) {
        members.insert("has_more".to_owned(), json!({ "type": "boolean" }));
        members.insert("next_cursor".to_owned(), json!({ "type": ["string", "null"] }));
    }
    if let Some(required) = list.get_mut("required").and_then(Value::as_array_mut) {
        required.extend(["has_more".into(), "next_cursor".into()]);
    }
    list
}

/// Lines, and the number after or before which there are more.
fn audit_lines() -> Value {
    let mut list = list_of("AuditLine");
    let number = json!({ "type": ["integer", "null"] });
    let members =
        [("has_more", json!({ "type": "boolean" })), ("next_after", number.clone()), ("next_before", number)];
    for (name, schema) in members {
        if let Some(required) = list.get_mut("required").and_then(Value::as_array_mut) {
            required.push(name.into());
        }
        if let Some(all) = list.get_mut("properties").and_then(Value::as_object_mut) {
            all.insert(name.to_owned(), schema);
        }
    }
    list
}

fn texts() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

/// A text of up to so many bytes.
fn text(most: usize) -> Value {
    json!({ "type": "string", "maxLength": most })
}

/// A list of a scope.
fn entries() -> Value {
    json!({ "type": "array", "maxItems": fields::MAX_SCOPE, "items": text(fields::MAX_SELECTOR) })
}

fn labels() -> Value {
    let value = text(fields::MAX_LABEL);
    json!({ "type": "object", "maxProperties": fields::MAX_LABELS, "additionalProperties": value })
}

fn limits() -> Value {
    let items = json!({ "$ref": "#/components/schemas/Limit" });
    json!({ "type": "array", "maxItems": fields::MAX_LIMITS, "items": items })
}

/// A limit, its amount as this says.
fn limit(amount: Value) -> Value {
    object(
        &["metric", "amount"],
        json!({
            "metric": { "enum": types::limits::Metric::NAMES },
            "amount": amount,
            "per": { "enum": types::limits::Window::NAMES },
            "model": text(fields::MAX_SELECTOR),
            "label": text(fields::MAX_SELECTOR),
            "reserved_premium": { "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 },
        }),
    )
}

/// Members of a change: those of what is changed, where labels and limits are named one by one.
fn change(members: Value) -> Value {
    let items = json!({ "$ref": "#/components/schemas/LimitChange" });
    let value = json!({ "type": ["string", "null"], "maxLength": fields::MAX_LABEL });
    let changed = json!({
        "version": { "type": "integer", "minimum": 0, "description": "409 `conflict` where it is another by now" },
        "labels": {
            "type": ["object", "null"], "maxProperties": fields::MAX_LABELS, "additionalProperties": value,
            "description": "by name: what is not named stays, `null` takes one away, and in the place of all all of them",
        },
        "limits": {
            "type": ["array", "null"], "minItems": 1, "maxItems": fields::MAX_LIMITS, "items": items,
            "description": "each takes the place of the limit of the same metric, window and selector; others stay. \
                            `amount: null` takes one away, and `null` in the place of all all of them",
        },
    });
    with(members, changed)
}

/// Members of a tenant, but its `id`.
fn tenant() -> Value {
    json!({
        "title": text(fields::MAX_TEXT),
        "tier": { "enum": types::control::ServiceTier::NAMES },
        "region": { "type": ["string", "null"], "maxLength": fields::MAX_TEXT },
        "time_zone": text(fields::MAX_TEXT),
        "labels": labels(),
        "limits": limits(),
        "allow_explore": { "type": "boolean" },
        "on_disconnect": { "enum": types::options::OnDisconnect::NAMES },
        "suspended": { "type": "boolean" },
    })
}

/// Members of a key that may be said at any time.
fn key() -> Value {
    json!({
        "name": text(fields::MAX_TEXT),
        "scopes": object(&[], json!({ "models": entries(), "workflows": entries(), "endpoints": entries() })),
        "labels": labels(),
        "limits": limits(),
        "expires_ms": { "type": ["integer", "null"] },
        "suspended": { "type": "boolean" },
        "tenant": { "type": "string" },
        "role": { "enum": types::control::Role::NAMES },
    })
}

fn with(mut members: Value, more: Value) -> Value {
    if let (Some(m), Value::Object(more)) = (members.as_object_mut(), more) {
        m.extend(more);
    }
    members
}

/// Sums of a report.
fn used() -> Value {
    let counts = types::usage::Sums::COLUMNS.iter().filter(|name| !name.ends_with("_nanos"));
    let mut members: Map<String, Value> =
        counts.map(|name| ((*name).to_owned(), json!({ "type": "integer" }))).collect();
    for name in ["cost_usd", "compared_cost_usd", "reference_usd", "saved_usd"] {
        members.insert(name.to_owned(), json!({ "type": "number" }));
    }
    for name in ["cost_per_request_usd", "cost_per_success_usd"] {
        members.insert(name.to_owned(), json!({ "type": ["number", "null"] }));
    }
    if let Some(m) = members.get_mut("reference_usd").and_then(Value::as_object_mut) {
        let text =
            "an estimate: what the most capable candidate would have cost for the tokens of the answers";
        m.insert("description".to_owned(), text.into());
    }
    object(&["requests", "cost_usd"], members)
}

fn with_group(mut sums: Value) -> Value {
    if let Some(members) = sums.get_mut("properties").and_then(Value::as_object_mut) {
        members.insert("group".to_owned(), json!({ "type": "string" }));
    }
    sums
}

/// Members of a bundle; one that is shown alone has its texts, a refused one its problems.
fn kept_bundle() -> Value {
    json!({
        "hash": { "type": "string" },
        "state": { "enum": ["active", "previous", "shadow", "kept", "rejected"] },
        "origin": { "enum": ["files", "upload"] },
        "by": { "type": "string" }, "at_ms": { "type": "integer" }, "message": { "type": "string" },
        "activated_ms": { "type": ["integer", "null"] }, "paths": texts(),
        "files": { "type": "object", "additionalProperties": { "type": "string" } },
        "problems": { "type": "array", "items": { "type": "object" } },
        "parent": { "type": ["string", "null"], "description": "what was in force when it came" },
        "went_back": { "type": ["string", "null"], "description": "why it went back by itself, until another one is put in force" },
        "dry_run": { "const": true },
        "replay": { "oneOf": [{ "$ref": "#/components/schemas/Replay" }, { "type": "null" }] },
    })
}

/// What another bundle would make of recorded requests.
fn replay() -> Value {
    let count = || json!({ "type": "integer", "minimum": 0 });
    open(json!({
        "requests": count(), "differ": count(), "new_denials": count(), "lifted_denials": count(),
        "new_empty": count(), "new_errors": count(),
        "cost": { "type": "object" }, "rules": { "type": "object" }, "assumed": texts(), "unasked": texts(),
        "exceeds": { "enum": ["max_changed", "max_new_denials", null] },
    }))
}

fn of_bundles() -> Value {
    json!({
        "NewBundle": object(&["files"], json!({
            "files": { "type": "object", "additionalProperties": { "type": "string" }, "description": "texts by path" },
            "message": { "type": "string", "maxLength": 500 },
        })),
        "KeptBundle": open(kept_bundle()),
        "Replay": replay(),
        "Bundles": open(json!({
            "object": { "const": "list" },
            "data": { "type": "array", "items": { "$ref": "#/components/schemas/KeptBundle" } },
            "active": { "type": "string" }, "previous": { "type": ["string", "null"] },
            "files": open(json!({
                "state": { "enum": ["active", "overruled", "refused"] }, "hash": { "type": "string" },
                "watched": { "type": "boolean" }, "problems": { "type": "array" },
            })),
        })),
        "Activation": object(&[], json!({ "acknowledge": { "type": "boolean", "default": false } })),
        "NewTrial": object(&[], json!({
            "share": { "type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1 },
            "for_s": { "type": "integer", "minimum": 1, "maximum": super::bundles::LONGEST_TRIAL_S },
        })),
        "Trial": open(json!({
            "hash": { "type": "string" }, "against": { "type": "string" }, "state": { "enum": ["running", "ended"] },
            "since_ms": { "type": "integer" }, "until_ms": { "type": ["integer", "null"] }, "share": { "type": "number" }, "requests": { "type": "integer" },
            "same": { "type": "integer" }, "dropped": { "type": "integer" },
            "different": { "type": "object", "additionalProperties": { "type": "integer" } },
            "examples": { "type": "array", "items": { "type": "object" } },
        })),
        "BundleDiff": open(json!({
            "from": { "type": "string" }, "to": { "type": "string" }, "files": { "type": "array" },
            "rules": { "type": "object" }, "models": { "type": "object" }, "workflows": { "type": "object" },
        })),
    })
}

/// Pools and policies, and what a change of one came to.
fn of_parts() -> Value {
    let models =
        json!({ "type": "array", "maxItems": fields::MAX_SCOPE, "items": text(fields::MAX_SELECTOR) });
    let pool = json!({
        "models": models, "where": text(crate::bundles::MAX_WHERE),
        "min": { "type": "integer", "minimum": 0, "maximum": crate::bundles::MAX_MIN },
        "optional": { "type": "boolean" },
    });
    let of_pool = json!({
        "name": { "type": "string" }, "file": { "type": "string" }, "line": { "type": "integer" },
        "shipped": { "type": "boolean" }, "matches": texts(), "candidates": texts(),
    });
    let some = |kind: &str| json!({ "type": [kind, "null"] });
    json!({
        "NewPool": object(&[], pool.clone()),
        "Pool": object(&["name", "file", "line", "shipped", "matches", "candidates"], with(pool, of_pool)),
        "Pools": list_of("Pool"),
        "NewPolicy": object(&["source"], json!({
            "source": text(crate::bundles::MAX_SOURCE), "kind": { "enum": ["rule", "script"] },
            "tenant": { "type": "string" },
        })),
        "Policy": object(&["id", "kind", "file", "line"], json!({
            "id": { "type": "string" }, "kind": { "enum": ["rule", "script"] }, "file": { "type": "string" },
            "tenant": some("string"),
            "line": { "type": "integer" }, "shipped": { "type": "boolean" }, "phases": texts(),
            "description": some("string"), "owner": some("string"), "group": some("string"),
            "priority": { "type": "integer" }, "mode": { "enum": ["enforce", "shadow", "disabled"] },
            "in_force": { "type": "boolean" }, "starts_ms": some("integer"), "expires_ms": some("integer"),
            "on_error": { "enum": ["closed", "open"] }, "when": some("string"), "unless": some("string"),
            "verbs": texts(), "matched": { "type": "integer" }, "source": some("string"),
        })),
        "Policies": list_of("Policy"),
        "SavedStatistics": object(&["at", "unix_ms", "bytes"], json!({
            "at": { "type": "string" }, "unix_ms": { "type": "integer" }, "bytes": { "type": "integer" },
        })),
        "Statistics": list_of("SavedStatistics"),
        "StatisticsRollback": object(&["to"], json!({ "to": { "type": "string", "maxLength": 64 } })),
        "Change": object(&["object", "dry_run", "changed", "bundle", "before", "problems", "diff"], json!({
            "object": { "const": "change" }, "dry_run": { "type": "boolean" }, "changed": { "type": "boolean" },
            "bundle": { "type": "string" }, "before": { "type": "string" },
            "problems": { "type": "array", "items": { "type": "object" } },
            "diff": { "$ref": "#/components/schemas/BundleDiff" },
            "replay": { "oneOf": [{ "$ref": "#/components/schemas/Replay" }, { "type": "null" }] },
        })),
    })
}

fn schemas() -> Value {
    let id = json!({ "id": { "type": "string", "maxLength": 63, "pattern": "^[a-z0-9][a-z0-9_-]*$" } });
    let name = || json!({ "type": "string" });
    let of_gate = json!({ "id": name(), "workflow": name(), "frame": name(), "content_hash": name() });
    let of_gate = object(&["id", "workflow", "frame", "content_hash"], of_gate);
    let of_key = json!({
        "id": { "type": "string" }, "version": { "type": "integer" }, "created_ms": { "type": "integer" },
        "created_by": { "type": "string" }, "revoked_ms": { "type": "integer" }, "rotated_to": { "type": "string" },
        "counts_as": { "type": "string" }, "vouched": { "type": "boolean" },
    });
    let minted =
        with(of_key.clone(), json!({ "key": { "type": "string", "description": "shown this once" } }));
    let of_tenant = json!({
        "id": { "type": "string" }, "version": { "type": "integer" }, "created_ms": { "type": "integer" },
    });
    let provider_key = json!({
        "id": { "type": "string" }, "provider": { "type": "string" }, "name": { "type": "string" },
        "created_ms": { "type": "integer" }, "created_by": { "type": "string" },
        "variable": { "type": "string" },
        "state": { "enum": ["ready", "partly", "resting", "unused", "unreadable"] },
        "why": { "type": "string" }, "rest_s": { "type": "integer" },
        "models": { "type": "array", "items": open(json!({
            "model": { "type": "string" }, "why": { "type": "string" }, "rest_s": { "type": "integer" },
        })) },
        "in_flight": { "type": "integer" }, "day_requests": { "type": "integer" }, "day_tokens": { "type": "integer" },
    });
    let all = json!({
        "Document": open(json!({})),
        "Nothing": object(&[], json!({})),
        "Whoami": open(json!({ "kind": {}, "id": {}, "role": {}, "tenant": {} })),
        "Limit": limit(json!({ "type": "number", "exclusiveMinimum": 0 })),
        "LimitChange": limit(json!({ "type": ["number", "null"], "exclusiveMinimum": 0 })),
        "NewTenant": object(&["id"], with(tenant(), id.clone())),
        "TenantChange": object(&[], change(with(tenant(), id))),
        "Tenant": open(with(tenant(), of_tenant)),
        "Tenants": page_of("Tenant"),
        "NewKey": object(&[], key()),
        "KeyChange": object(&[], change(key())),
        "Key": open(with(key(), of_key)),
        "Keys": page_of("Key"),
        "MintedKey": open(with(key(), minted)),
        "Rotation": object(&[], json!({ "grace_s": { "type": "integer", "minimum": 0, "maximum": 2_592_000 } })),
        "Removed": object(&["id", "removed"], json!({ "id": { "type": "string" }, "removed": { "const": true } })),
    });
    let rest = json!({
        "Provider": open(json!({ "id": {}, "models": {}, "candidates": {}, "stored_keys": {} })),
        "Providers": list_of("Provider"),
        "Model": open(json!({ "id": {}, "provider": {} })),
        "Models": list_of("Model"),
        "NewProviderKey": object(&["provider", "key"], json!({
            "provider": { "type": "string", "maxLength": 256 }, "name": text(fields::MAX_TEXT),
            "key": { "type": "string", "minLength": 8, "maxLength": 4096, "writeOnly": true },
        })),
        "ProviderKey": open(provider_key),
        "ProviderKeys": list_of("ProviderKey"),
        "Budget": open(json!({
            "tenant": { "type": "string" }, "holder": { "type": "string" },
            "metric": { "enum": types::limits::Metric::NAMES }, "limit": { "type": "number" },
            "used": { "type": "number" }, "left": { "type": "number" },
            "reserved_premium": { "type": ["number", "null"] }, "ordinary_left": { "type": ["number", "null"] }, "window": { "type": ["string", "null"] },
            "resets_in_s": { "type": ["integer", "null"] }, "state": { "enum": ["green", "amber", "red"] },
            "pace_per_h": { "type": ["number", "null"] }, "runs_out_in_s": { "type": ["integer", "null"] },
            "runs_out_at": { "type": ["string", "null"] },
        })),
        "Usage": object(&["object", "group_by", "data", "total"], json!({
            "object": { "const": "usage" }, "group_by": { "enum": types::usage::GroupBy::NAMES },
            "from": { "type": ["string", "null"] }, "to": { "type": ["string", "null"] },
            "tenant": { "type": ["string", "null"] }, "total": used(),
            "data": { "type": "array", "items": with_group(used()) },
        })),
        "Budgets": page_of("Budget"),
        "ApprovalAnswer": object(&["decision"], json!({
            "decision": { "enum": ["approve", "reject"] }, "comment": text(fields::MAX_TEXT),
            "as": { "type": "string", "minLength": 1, "maxLength": fields::MAX_TEXT },
        })),
        "Approval": open(json!({
            "id": { "type": "string" }, "tenant": {}, "phase": { "enum": ["request", "tool", "response", "gate"] },
            "requesters": texts(), "shows": { "type": ["string", "null"] }, "groups": { "type": "array" },
            "state": { "enum": ["pending", "approved", "rejected"] }, "expires_in_ms": { "type": "integer" },
            "run": of_gate,
        })),
        "Approvals": list_of("Approval"),
        "Bundle": open(json!({ "hash": { "type": "string" }, "workflows": texts() })),
        "Error": open(json!({ "error": open(json!({
            "message": { "type": "string" }, "type": { "type": "string" }, "param": { "type": ["string", "null"] },
            "code": { "type": "string" },
        })) })),
    });
    with(with(with(with(all, rest), of_bundles()), of_parts()), of_trail())
}

/// The audit trail.
fn of_trail() -> Value {
    json!({
        "AuditLine": open(json!({ "seq": {}, "ts": {}, "actor": {}, "action": {}, "target": {}, "hash": {} })),
        "AuditLines": audit_lines(),
        "AuditKey": object(&["object", "seq", "key", "public_key"], json!({
            "object": { "const": "audit_key" },
            "seq": { "type": "integer", "description": "the line that announces it, sealed with the key before" },
            "key": { "type": "string", "description": "its name in seals" }, "public_key": { "type": "string" },
        })),
    })
}
