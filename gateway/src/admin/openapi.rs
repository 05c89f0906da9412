//! The OpenAPI document, written from the table of routes.

mod answers;
mod operations;
mod parameters;

use super::{ROOT, Route, routes};
use crate::control::fields;
use serde_json::{Map, Value, json};

/// The whole document.
pub(crate) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    let schemas = schemas();
    for r in routes::ROUTES {
        let path = paths.entry(format!("{ROOT}{}", r.path)).or_insert_with(|| json!({}));
        if let Some(p) = path.as_object_mut() {
            p.insert(r.method.to_ascii_lowercase(), operation(r, &schemas));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Turnout control API",
            "description": "Codes of errors stand in docs/control.md.",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas,
        },
    })
}

fn operation(r: &Route, schemas: &Value) -> Value {
    let names = r.path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}'));
    let of_path =
        names.map(|n| json!({ "name": n, "in": "path", "required": true, "schema": { "type": "string" } }));
    let of_query = r.query.iter().map(|n| parameters::parameter(r.path, n));
    let parameters: Vec<Value> = of_path.chain(of_query).collect();
    let (name, command) = operations::names(r.method, r.path);
    let mut operation = json!({
        "operationId": name,
        "tags": [operations::tag(r.path)],
        "summary": r.summary,
        "description": format!("Needs the role {}.", r.need.as_str()),
        "x-command": format!("turnout {command}"),
        "parameters": parameters,
        "security": [{ "key": [] }],
        "responses": responses(r),
    });
    if let (false, Some(o)) = (r.takes.is_empty(), operation.as_object_mut()) {
        let members = schemas.get(r.takes).and_then(|s| s.get("required")).and_then(Value::as_array);
        // A key is made of nothing but `{}`, which has to be said all the same.
        let required = r.takes == "NewKey" || members.is_some_and(|m| !m.is_empty());
        o.insert("requestBody".to_owned(), json!({ "required": required, "content": content(r.takes) }));
    }
    operation
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

/// What is answered with: every member is there, but those that are named.
fn answer_with(sometimes: &[&str], properties: impl Into<Value>) -> Value {
    let properties = properties.into();
    let members = properties.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let required: Vec<&str> = members.filter(|name| !sometimes.contains(name)).collect();
    object(&required, properties.clone())
}

fn nullable(kind: &str) -> Value {
    json!({ "type": [kind, "null"] })
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
fn limit(amount: &Value) -> Value {
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
    let value = json!({ "type": ["string", "null"], "maxLength": fields::MAX_LABEL });
    let changed = json!({
        "version": { "type": "integer", "minimum": 0, "description": "409 `conflict` where it is another by now" },
        "labels": {
            "type": ["object", "null"], "maxProperties": fields::MAX_LABELS, "additionalProperties": value,
            "description": "by name: what is not named stays, `null` takes one away, and in the place of all all of them",
        },
        "limits": limit_changes(),
    });
    with(members, changed)
}

/// Limits that are named one by one.
fn limit_changes() -> Value {
    let items = json!({ "$ref": "#/components/schemas/LimitChange" });
    json!({
        "type": ["array", "null"], "minItems": 1, "maxItems": fields::MAX_LIMITS, "items": items,
        "description": "each takes the place of the limit of the same metric, window and selector; others stay. \
                        `amount: null` takes one away, and `null` in the place of all all of them",
    })
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

/// Members of a bundle; one that is shown alone has its texts, a refused one its problems.
fn kept_bundle() -> Value {
    json!({
        "hash": { "type": "string" },
        "state": { "enum": ["active", "previous", "shadow", "kept", "rejected"] },
        "origin": { "enum": ["files", "upload"] },
        "by": { "type": "string" }, "at_ms": { "type": "integer" }, "message": { "type": "string" },
        "activated_ms": { "type": ["integer", "null"] }, "paths": texts(),
        "files": { "type": "object", "additionalProperties": { "type": "string" } },
        "problems": problems(),
        "parent": { "type": ["string", "null"], "description": "what was in force when it came" },
        "went_back": { "type": ["string", "null"], "description": "why it went back by itself, until another one is put in force" },
        "dry_run": { "const": true },
        "replay": { "oneOf": [{ "$ref": "#/components/schemas/Replay" }, { "type": "null" }] },
    })
}

/// What another bundle would make of recorded requests.
fn replay() -> Value {
    let count = || json!({ "type": "integer", "minimum": 0 });
    answer_with(
        &[],
        json!({
            "requests": count(), "differ": count(), "otherwise": count(), "new_denials": count(), "lifted_denials": count(),
            "new_empty": count(), "new_errors": count(),
            "cost": { "type": "object" }, "rules": { "type": "object" }, "assumed": texts(), "unasked": texts(),
            "exceeds": { "enum": ["max_changed", "max_new_denials", null] },
        }),
    )
}

/// What is wrong with files, as `turnout check --json` tells it.
fn problems() -> Value {
    let (text, number) = (|| json!({ "type": "string" }), || json!({ "type": "integer" }));
    let related = answer_with(&[], json!({ "line": number(), "column": number(), "message": text() }));
    let problem = json!({
        "code": text(), "severity": { "enum": ["warning", "error"] }, "file": text(), "line": number(),
        "column": number(), "field": text(), "message": text(), "expected": nullable("string"),
        "hint": nullable("string"), "related": { "type": "array", "items": related },
    });
    json!({ "type": "array", "items": answer_with(&["related"], problem) })
}

fn of_bundles() -> Value {
    json!({
        "NewBundle": object(&["files"], json!({
            "files": { "type": "object", "minProperties": 1, "additionalProperties": { "type": "string" }, "description": "texts by path" },
            "message": { "type": "string", "maxLength": 500 },
        })),
        "KeptBundle": answer_with(&["activated_ms", "paths", "files", "problems", "parent", "went_back", "dry_run", "replay"], kept_bundle()),
        "Replay": replay(),
        "Bundles": answer_with(&[], json!({
            "object": { "const": "list" },
            "data": { "type": "array", "items": { "$ref": "#/components/schemas/KeptBundle" } },
            "active": { "type": "string" }, "previous": { "type": ["string", "null"] },
            "files": answer_with(&["at_ms", "problems"], json!({
                "state": { "enum": ["active", "overruled", "refused"] }, "hash": { "type": "string" },
                "at_ms": { "type": "integer" }, "watched": { "type": "boolean" }, "problems": problems(),
            })),
        })),
        "Activation": object(&[], json!({ "acknowledge": { "type": "boolean", "default": false } })),
        "NewTrial": object(&[], json!({
            "share": { "type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 1 },
            "for_s": { "type": "integer", "minimum": 1, "maximum": super::bundles::LONGEST_TRIAL_S },
            "for_requests": { "type": "integer", "minimum": 1, "maximum": super::bundles::LARGEST_TRIAL },
        })),
        "Trial": answer_with(&[], json!({
            "hash": { "type": "string" }, "against": { "type": "string" }, "state": { "enum": ["running", "ended"] },
            "since_ms": { "type": "integer" }, "until_ms": { "type": ["integer", "null"] }, "until_requests": { "type": ["integer", "null"] }, "share": { "type": "number" }, "requests": { "type": "integer" },
            "same": { "type": "integer" }, "dropped": { "type": "integer" },
            "different": { "type": "object", "additionalProperties": { "type": "integer" } },
            "examples": { "type": "array", "items": example() },
        })),
        "BundleDiff": answer_with(&[], json!({
            "from": { "type": "string" }, "to": { "type": "string" },
            "files": { "type": "array", "items": answer_with(&[], json!({
                "path": { "type": "string" }, "change": { "enum": ["added", "removed", "changed"] },
                "diff": { "type": "string" },
            })) },
            "rules": answer_with(&[], json!({
                "added": texts(), "removed": texts(),
                "changed": { "type": "object", "additionalProperties": texts() },
                "pools": { "type": "object", "additionalProperties": { "type": "array", "items": texts() } },
                "named": { "type": "object", "additionalProperties": { "type": "array" } },
            })),
            "models": came_and_went(), "workflows": came_and_went(),
        })),
    })
}

fn came_and_went() -> Value {
    answer_with(&[], json!({ "added": texts(), "removed": texts() }))
}

/// One request over which two bundles differ.
fn example() -> Value {
    let side = || {
        let text = || json!({ "type": "string" });
        let members = json!({ "workflow": text(), "model": text(), "refused": text(), "why": text() });
        answer_with(&["workflow", "model", "refused"], members)
    };
    answer_with(
        &[],
        json!({
            "request_id": { "type": "string" }, "ts_ms": { "type": "integer" }, "difference": { "type": "string" },
            "active": side(), "shadow": side(),
        }),
    )
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
        "Policy": answer_with(&["source"], json!({
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
            "problems": problems(),
            "diff": { "$ref": "#/components/schemas/BundleDiff" },
            "replay": { "oneOf": [{ "$ref": "#/components/schemas/Replay" }, { "type": "null" }] },
        })),
    })
}

fn schemas() -> Value {
    let id = json!({ "id": { "type": "string", "maxLength": 63, "pattern": "^[a-z0-9][a-z0-9_-]*$" } });
    let part = || json!({ "type": "object" });
    let taken = json!({
        "Document": answer_with(&[], json!({
            "openapi": { "type": "string" }, "info": part(), "paths": part(), "components": part(),
        })),
        "Nothing": object(&[], json!({})),
        "LimitChange": limit(&json!({ "type": ["number", "null"], "exclusiveMinimum": 0 })),
        "NewTenant": object(&["id"], with(tenant(), id.clone())),
        "TenantChange": object(&[], change(with(tenant(), id))),
        "NewKey": object(&[], key()),
        "KeyChange": object(&[], change(key())),
        "Rotation": object(&[], json!({ "grace_s": { "type": "integer", "minimum": 0, "maximum": 2_592_000 } })),
        "NewProviderKey": object(&["provider", "key"], json!({
            "provider": { "type": "string", "maxLength": 256 }, "name": text(fields::MAX_TEXT),
            "key": { "type": "string", "minLength": 8, "maxLength": 4096, "writeOnly": true },
            "limits": limits(),
        })),
        "ProviderKeyChange": object(&[], json!({
            "name": text(fields::MAX_TEXT),
            "limits": limit_changes(),
        })),
        "Bundle": answer_with(&[], json!({ "hash": { "type": "string" }, "workflows": texts() })),
    });
    with(with(taken, answers::schemas()), with(of_bundles(), of_parts()))
}
