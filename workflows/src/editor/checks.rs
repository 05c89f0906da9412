//! The entry of a list of validators: names and parameters come from the validators themselves.

use crate::load::outside;
use serde_json::{Map, Value as Json, json};

/// Puts names and parameters into the definition of an entry, and the entry under a name of its own.
pub(super) fn complete(defs: &mut Map<String, Json>) {
    let pure = validators::NAMES.iter().map(|n| {
        let about = validators::about(n).unwrap_or_default();
        (*n, about, validators::parameters(n))
    });
    let outside = outside::NAMES.iter().map(|n| {
        let (about, keys) = outside::about(n);
        (*n, about, keys.iter().map(|k| (*k).to_owned()).collect())
    });
    let all: Vec<(&str, &str, Vec<String>)> = pure.chain(outside).collect();
    let names = all.iter().map(|(name, about, _)| json!({"const": name, "description": about}));
    let names: Vec<Json> = names.collect();
    // A file may define validators of its own, so the list is an offer.
    let offer = json!({"anyOf": [{"oneOf": names}, {"type": "string"}]});
    defs.insert("validator_name".to_owned(), offer);
    let name = json!({"$ref": "#/$defs/validator_name"});
    let Some(Json::Object(entry)) = defs.get_mut("validators_item") else { return };
    if let Some(used) = entry.get_mut("properties").and_then(|p| p.get_mut("use")) {
        *used = name.clone();
    }
    let choice = |(name, _, keys): &(&str, &str, Vec<String>)| {
        let keys: Map<String, Json> = keys.iter().map(|k| (k.clone(), json!(true))).collect();
        json!({
            "if": {"properties": {"use": {"const": name}}, "required": ["use"]},
            "then": {"properties": {"with": {
                "properties": keys, "patternProperties": {"^x-": true}, "additionalProperties": false,
            }}},
        })
    };
    entry.insert("allOf".to_owned(), all.iter().map(choice).collect());
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
