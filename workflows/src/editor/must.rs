//! What a node must have, unless `defaults` of its type may give it.

use serde_json::{Map, Value as Json, json};

/// Keys that no default gives.
const OWN: [&str; 2] = ["id", "type"];

/// Takes the other keys that nodes must have out of their definitions; gives what says the same of the nodes of a
/// file whose `defaults` have nothing for nodes of that type. Where they have, and within bodies, the loader alone
/// tells what is missing.
pub(super) fn beside_defaults(defs: &mut Map<String, Json>) -> Vec<Json> {
    let nodes = defs.iter_mut().filter_map(|(name, def)| Some((name.strip_prefix("node_")?, def)));
    nodes.filter_map(|(kind, def)| said(kind, def.get_mut("required")?.as_array_mut()?)).collect()
}

fn said(kind: &str, required: &mut Vec<Json>) -> Option<Json> {
    let given: Vec<Json> =
        required.extract_if(.., |key| !key.as_str().is_some_and(|k| OWN.contains(&k))).collect();
    let of_kind = json!({"properties": {"type": {"const": kind}}, "required": ["type"]});
    (!given.is_empty()).then(|| {
        json!({
            "if": {"required": ["defaults"], "properties": {"defaults": {"required": [kind]}}},
            "else": {"properties": {"nodes": {"items": {"if": of_kind, "then": {"required": given}}}}},
        })
    })
}
