//! The committed schema is what the loader does; good files are valid by it and ill-shaped ones are not.

use super::*;
use crate::testing::shape_of;
use types::doc::{SourceFile, parse};

const COMMITTED: &str = include_str!("../../schema/workflow.v1.json");

#[test]
fn the_committed_file_is_what_the_loader_does() {
    let made = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("TURNOUT_WRITE_SCHEMA").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/schema/workflow.v1.json"), &made).unwrap();
        return;
    }
    assert!(
        made == COMMITTED,
        "the loader takes other keys than workflows/schema/workflow.v1.json says; write it anew with \
         `TURNOUT_WRITE_SCHEMA=1 cargo test -p workflows the_committed_file` or `turnout workflow schema`"
    );
}

#[test]
fn every_line_is_of_a_key_that_there_is() {
    let made = schema();
    let defs = made["$defs"].as_object().unwrap();
    let keys = |def: &Json| -> Vec<String> {
        def["properties"].as_object().map(|p| p.keys().cloned().collect()).unwrap_or_default()
    };
    for (def, key) in about::lines() {
        let there = match def {
            "*" => defs.values().any(|d| keys(d).iter().any(|k| k == key)),
            "workflow" => keys(&made).iter().any(|k| k == key),
            def => defs.get(def).is_some_and(|d| keys(d).iter().any(|k| k == key)),
        };
        assert!(there, "{def}.{key}");
    }
}

#[test]
fn shapes_are_those_of_the_loader() {
    let made = schema();
    let at = |pointer: &str| made.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).clone();
    assert_eq!(at("/$defs/node_generate/properties/samples/maximum"), 16);
    assert_eq!(at("/$defs/node_generate/properties/min_ok/maximum"), 16);
    assert_eq!(
        at("/$defs/node_loop/properties/max_iterations"),
        json!({
        "type": "integer", "minimum": 1, "maximum": 32, "description": "Most iterations, the first included"})
    );
    assert_eq!(at("/$defs/limits/properties/on_exhausted/enum"), json!(["best_so_far", "fail"]));
    assert_eq!(at("/$defs/node_loop/properties/body/$ref"), "#/$defs/body");
    assert_eq!(at("/$defs/body/properties/nodes/items/$ref"), "#/$defs/node");
    assert_eq!(
        at("/$defs/node_validate/properties/validators/items"),
        json!({"anyOf": [
        {"$ref": "#/$defs/validator_name"}, {"$ref": "#/$defs/validators_item"}]})
    );
    assert_eq!(at("/$defs/node_classify/properties/default/type"), "string");
    assert_eq!(at("/properties/pools/additionalProperties/$ref"), "#/$defs/route");
    // A `stream` node calls nothing, so there is nothing to try again.
    assert!(made.pointer("/$defs/node_stream/properties/retry").is_none());
    // No word of the small files that are read got out.
    assert!(!made.to_string().contains("zz_"));
}

#[test]
fn shipped_files_are_valid_and_ill_shaped_ones_are_not() {
    let compiled = jsonschema::validator_for(&schema()).unwrap();
    let fits = |text: &str| {
        let tree = parse(&SourceFile::new("w.yaml", text), "WF").unwrap();
        compiled.validate(&tree.to_json()).map_err(|e| e.to_string())
    };
    for f in crate::shipped() {
        assert_eq!(fits(&f.text), Ok(()), "{}", f.path);
    }
    let good = "version: 1\nname: w\nnodes: [{ id: a, type: generate }]\noutput: nodes.a.completion\n";
    assert_eq!(fits(good), Ok(()));
    let defaults =
        "defaults: { timeout: 5s, generate: { samples: 3, params: { temperature: 0.5 } } }\noutput:";
    assert_eq!(fits(&good.replace("output:", defaults)), Ok(()));
    // What a node must have may come from `defaults`.
    let gate =
        good.replace("id: a, type: generate", "id: g, type: gate }, { id: a, type: generate, needs: g");
    let asked = "defaults: { gate: { prompt: 'Go on?' } }\noutput:";
    assert_eq!(fits(&gate.replace("output:", asked)), Ok(()));
    assert!(fits(&gate).is_err());
    assert!(
        fits(&gate.replace("output:", &asked.replace("gate:", "tool:").replace("prompt", "tool"))).is_err()
    );
    for (from, to) in [
        ("version: 1", "version: 2"),
        ("name: w", "nam: w"),
        ("type: generate", "type: generte"),
        ("type: generate", "type: generate, sampels: 2"),
        ("type: generate", "type: generate, samples: 17"),
        ("type: generate", "type: generate, timeout: 5"),
        ("type: generate", "type: validate, validators: [{ use: json, with: { fence: true } }]"),
        ("type: generate", "type: generate, route: { strategy: cheap }"),
        ("type: generate", "type: validate"),
        ("id: a, ", ""),
        ("output:", "limits: { usd: free }\noutput:"),
        ("output:", "vars: { a: { b: 1 } }\noutput:"),
        ("output:", "defaults: { retries: 2 }\noutput:"),
        ("output:", "defaults: { generate: { sampels: 2 } }\noutput:"),
        ("output:", "defaults: { generate: { samples: 17 } }\noutput:"),
        ("output:", "defaults: { generate: { params: { temperature: warm } } }\noutput:"),
        ("output:", "defaults: { judge: { timeout: 5 } }\noutput:"),
    ] {
        assert!(good.contains(from), "{from}");
        assert!(fits(&good.replacen(from, to, 1)).is_err(), "{to}");
    }
    assert!(shape_of("nodes: []\n").is_err());
}
