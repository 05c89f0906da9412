//! The entry of a list of validators: names and parameters come from the validators themselves.

use serde_json::{Map, Value as Json, json};

/// Puts names and parameters into the definition of an entry, and the entry under a name of its own.
pub(super) fn complete(defs: &mut Map<String, Json>) {
    let described = |name: &&str| json!({"const": name, "description": validators::about(name)});
    let names: Vec<Json> = validators::NAMES.iter().map(described).collect();
    // A file may define validators of its own, so the list is an offer.
    let offer = json!({"anyOf": [{"oneOf": names}, {"type": "string"}]});
    defs.insert("validator_name".to_owned(), offer);
    let name = json!({"$ref": "#/$defs/validator_name"});
    let Some(Json::Object(entry)) = defs.get_mut("validators_item") else { return };
    if let Some(used) = entry.get_mut("properties").and_then(|p| p.get_mut("use")) {
        *used = name.clone();
    }
    let choice = |v: &&str| {
        let keys: Map<String, Json> =
            validators::parameters(v).into_iter().map(|k| (k, json!(true))).collect();
        json!({
            "if": {"properties": {"use": {"const": v}}, "required": ["use"]},
            "then": {"properties": {"with": {"properties": keys, "additionalProperties": false}}},
        })
    };
    entry.insert("allOf".to_owned(), validators::NAMES.iter().map(choice).collect());
    let either = json!({"anyOf": [name, {"$ref": "#/$defs/validators_item"}]});
    for def in defs.values_mut() {
        replace(def, &either);
    }
    defs.insert("validator".to_owned(), either);
}

/// Every list of validators takes names too.
fn replace(at: &mut Json, either: &Json) {
    match at {
        Json::Object(m) => {
            let entry = |v: &Json| v.to_string().contains("#/$defs/validators_item");
            match m.get_mut("items") {
                Some(items) if entry(items) => items.clone_from(either),
                _ => m.values_mut().for_each(|v| replace(v, either)),
            }
        }
        Json::Array(l) => l.iter_mut().for_each(|v| replace(v, either)),
        _ => {}
    }
}
