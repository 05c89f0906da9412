//! What the control API answers with, but for bundles and their parts: every member, and whether it is always there.

use super::{answer_with, key, limit, list_of, nullable, page_of, tenant, text, texts, with};
use crate::control::fields;
use serde_json::{Map, Value, json};
use types::control::Role;
use types::limits::{Metric, Window};
use types::matrix::{Abilities, Dialect};

/// By name.
pub(super) fn schemas() -> Value {
    with(with(of_people(), of_models()), of_use())
}

fn of_people() -> Value {
    let integer = || json!({ "type": "integer" });
    let string = || json!({ "type": "string" });
    let lists = || answer_with(&[], json!({ "models": texts(), "workflows": texts(), "endpoints": texts() }));
    let of_key = json!({
        "id": string(), "version": integer(), "created_ms": integer(), "created_by": string(), "revoked_ms": integer(),
        "rotated_to": string(), "counts_as": string(), "vouched": { "type": "boolean" }, "scopes": lists(),
    });
    let minted =
        with(of_key.clone(), json!({ "key": { "type": "string", "description": "shown this once" } }));
    let of_tenant = json!({ "id": string(), "version": integer(), "created_ms": integer() });
    let sometimes = ["tenant", "expires_ms", "revoked_ms", "rotated_to", "counts_as"];
    let of_some = [
        "id",
        "name",
        "created_ms",
        "created_by",
        "variable",
        "why",
        "rest_s",
        "models",
        "limits",
        "in_flight",
        "day_requests",
        "day_tokens",
    ];
    json!({
        "Whoami": answer_with(&[], json!({
            "kind": { "enum": ["local", "key"] }, "id": string(), "role": { "enum": Role::NAMES }, "tenant": nullable("string"),
        })),
        "Limit": limit(&json!({ "type": "number", "exclusiveMinimum": 0 })),
        "Tenant": answer_with(&["region"], with(tenant(), of_tenant)),
        "Tenants": page_of("Tenant"),
        "Key": answer_with(&sometimes, with(key(), of_key)),
        "Keys": page_of("Key"),
        "MintedKey": answer_with(&sometimes, with(key(), minted)),
        "Removed": answer_with(&[], json!({ "id": string(), "removed": { "const": true } })),
        "ProviderKey": answer_with(&of_some, json!({
            "id": string(), "provider": string(), "name": string(), "created_ms": integer(), "created_by": string(),
            "variable": string(), "state": { "enum": ["ready", "partly", "resting", "unused", "unreadable"] },
            "why": string(), "rest_s": integer(),
            "models": { "type": "array", "items": answer_with(&[], json!({
                "model": string(), "why": string(), "rest_s": integer(),
            })) },
            "limits": { "type": "array", "items": answer_with(&["per", "used"], json!({
                "metric": { "enum": Metric::NAMES }, "amount": { "type": "number" }, "per": { "enum": Window::NAMES },
                "used": { "type": "number", "description": "and set aside for what is in work" },
            })) },
            "in_flight": integer(), "day_requests": integer(), "day_tokens": integer(),
        })),
        "ProviderKeys": list_of("ProviderKey"),
        "Error": answer_with(&[], json!({ "error": answer_with(&["metadata"], json!({
            "message": string(), "type": string(), "param": nullable("string"), "code": string(),
            "metadata": { "type": "object" },
        })) })),
    })
}

fn of_models() -> Value {
    let some_number = || nullable("number");
    let pairs = json!({ "type": "array", "items": { "type": "array", "minItems": 2, "maxItems": 2 } });
    let flags = Abilities::NAMES.iter().map(|name| ((*name).to_owned(), json!({ "type": "boolean" })));
    let abilities = answer_with(&[], flags.collect::<Map<_, _>>());
    let number = |name: &str| (name.to_owned(), json!({ "type": "number" }));
    let rates = ["input", "cached_input", "cache_write", "cache_write_1h", "image", "output", "reasoning"]
        .map(number);
    let mut above = Map::from_iter(rates.clone());
    above.insert("tokens".to_owned(), json!({ "type": "integer" }));
    let mut price = Map::from_iter(rates);
    price.insert("above".to_owned(), json!({ "type": "array", "items": answer_with(&[], above) }));
    let tiers = ["flex", "priority"];
    price.insert("tiers".to_owned(), answer_with(&tiers, Map::from_iter(tiers.map(number))));
    let mut price = answer_with(&["above", "tiers"], price);
    let rates = ["rpm", "tpm", "rpd", "tpd"].map(|name| (name.to_owned(), nullable("integer")));
    let mut free_tier = Map::from_iter(rates);
    free_tier.insert("resets".to_owned(), nullable("string"));
    let mut free_tier = answer_with(&[], free_tier);
    for known in [&mut price, &mut free_tier] {
        if let Some(members) = known.as_object_mut() {
            members.insert("type".to_owned(), json!(["object", "null"]));
        }
    }
    let states = ["ready", "no_key", "disabled", "unusable"];
    let model = json!({
        "id": { "type": "string" }, "aliases": texts(), "provider": { "type": "string" },
        "dialect": { "enum": Dialect::NAMES }, "simulated": { "type": "boolean" },
        "availability": answer_with(&["detail"], json!({
            "state": { "enum": states }, "detail": { "type": ["string", "array"] },
        })),
        "circuit": { "enum": ["closed", "half_open", "open"] }, "quota_ratio": { "type": "number" },
        "quota_wait_s": { "type": "integer" }, "concurrency": { "type": "integer" },
        "tier": { "enum": ["free", "paid"] }, "price": price, "price_as_of": nullable("string"),
        "free_tier": free_tier.clone(), "limits": free_tier, "context_window": { "type": "integer" }, "max_output_tokens": { "type": "integer" },
        "abilities": abilities, "quality_tier": { "type": "integer" }, "speed_tier": { "type": "integer" },
        "prior": pairs.clone(), "prior_sources": pairs,
        "learned": answer_with(&[], json!({
            "outcomes": { "type": "number" }, "mean_reward": some_number(), "answered": some_number(),
            "ttft_ms": some_number(),
        })),
    });
    let integer = || json!({ "type": "integer" });
    json!({
        "Provider": answer_with(&[], json!({
            "id": { "type": "string" }, "models": integer(), "candidates": integer(), "stored_keys": integer(),
        })),
        "Providers": list_of("Provider"),
        "Model": answer_with(&["quota_ratio", "quota_wait_s", "concurrency"], model),
        "Models": list_of("Model"),
    })
}

fn of_use() -> Value {
    let string = || json!({ "type": "string" });
    let gate = json!({ "id": string(), "workflow": string(), "frame": string(), "content_hash": string() });
    let group = answer_with(
        &[],
        json!({
            "group": string(), "reason": string(), "rule": string(), "members": texts(), "decided": nullable("array"),
        }),
    );
    json!({
        "Budget": answer_with(&[], json!({
            "tenant": string(), "holder": string(),
            "metric": { "enum": types::limits::Metric::NAMES }, "limit": { "type": "number" },
            "used": { "type": "number" }, "in_work": { "type": "number" }, "at_most": { "type": "number" }, "left": { "type": "number" },
            "reserved_premium": nullable("number"), "ordinary_left": nullable("number"), "window": nullable("string"),
            "resets_in_s": nullable("integer"), "state": { "enum": ["green", "amber", "red"] },
            "pace_per_h": nullable("number"), "runs_out_in_s": nullable("integer"), "runs_out_at": nullable("string"),
        })),
        "Budgets": page_of("Budget"),
        "Usage": answer_with(&[], json!({
            "object": { "const": "usage" }, "group_by": { "enum": types::usage::GroupBy::NAMES },
            "from": nullable("string"), "to": nullable("string"), "tenant": nullable("string"),
            "total": answer_with(&[], used()),
            "data": { "type": "array", "items": answer_with(&[], with(used(), json!({ "group": string() }))) },
        })),
        "Approval": answer_with(&["run"], json!({
            "id": string(), "tenant": string(), "phase": { "enum": ["request", "tool", "response", "gate"] },
            "requesters": texts(), "shows": nullable("string"), "groups": { "type": "array", "items": group },
            "state": { "enum": ["pending", "approved", "rejected"] }, "expires_in_ms": { "type": "integer" },
            "run": answer_with(&[], gate),
        })),
        "Approvals": list_of("Approval"),
        "AuditLine": answer_with(&[], json!({
            "v": { "type": "integer" }, "chain": string(), "seq": { "type": "integer" }, "prev": string(), "hash": string(),
            "ts": string(), "boot": string(), "actor": answer_with(&[], json!({ "kind": string(), "id": string() })),
            "action": string(), "target": string(), "tenant": string(), "request": string(),
            "before": nullable("string"), "after": nullable("string"), "detail": { "type": "object" },
        })),
        "AuditLines": audit_lines(),
        "AuditKey": answer_with(&[], json!({
            "object": { "const": "audit_key" },
            "seq": { "type": "integer", "description": "the line that announces it, sealed with the key before" },
            "key": { "type": "string", "description": "its name in seals" }, "public_key": string(),
        })),
        "ApprovalAnswer": super::object(&["decision"], json!({
            "decision": { "enum": ["approve", "reject"] }, "comment": text(fields::MAX_TEXT),
            "as": { "type": "string", "minLength": 1, "maxLength": fields::MAX_TEXT },
        })),
    })
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

/// Sums of a report.
fn used() -> Value {
    let counts = types::usage::Sums::COLUMNS.iter().filter(|name| !name.ends_with("_nanos"));
    let mut members: Map<String, Value> =
        counts.map(|name| ((*name).to_owned(), json!({ "type": "integer" }))).collect();
    for name in
        ["cost_usd", "at_most_usd", "estimated_usd", "compared_cost_usd", "reference_usd", "saved_usd"]
    {
        members.insert(name.to_owned(), json!({ "type": "number" }));
    }
    for name in ["cost_per_request_usd", "cost_per_success_usd"] {
        members.insert(name.to_owned(), nullable("number"));
    }
    if let Some(m) = members.get_mut("reference_usd").and_then(Value::as_object_mut) {
        let text =
            "an estimate: what the most capable candidate would have cost for the tokens of the answers";
        m.insert("description".to_owned(), text.into());
    }
    Value::Object(members)
}
