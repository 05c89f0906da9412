//! Instances against an independent validator: hand-written schemas and generated ones.

use super::*;
use proptest::prelude::*;

fn words() -> Vec<String> {
    ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"].map(str::to_owned).to_vec()
}

fn check(schema: &Value) {
    for seed in 0..20_u8 {
        let draw = &mut Draw::new(&[&[seed]]);
        let good = valid(schema, draw, &words());
        assert!(jsonschema::is_valid(schema, &good), "{schema}\nmade {good}");
        let bad = invalid(schema, draw, &words());
        assert!(!jsonschema::is_valid(schema, &bad), "{schema}\nmade {bad}");
    }
}

#[test]
fn hand_written_schemas_are_met_and_missed() {
    check(
        &json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
        "required": ["name", "age"], "additionalProperties": false}),
    );
    check(
        &json!({"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "maxItems": 3, "uniqueItems": true}),
    );
    check(
        &json!({"type": "object", "required": ["id"], "properties": {"id": {"type": "string", "format": "uuid"},
        "tags": {"type": "array", "items": {"type": "string", "minLength": 30, "maxLength": 31}}}}),
    );
    check(
        &json!({"$defs": {"point": {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
        "required": ["x", "y"]}}, "type": "object", "properties": {"p": {"$ref": "#/$defs/point"}}, "required": ["p"]}),
    );
    check(
        &json!({"type": "object", "properties": {"v": {"anyOf": [{"type": "string", "pattern": "^[A-Z]{2}\\d{3}$"}, {"type": "null"}]}},
        "required": ["v"]}),
    );
    check(
        &json!({"oneOf": [{"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5}, {"type": "array"}]}),
    );
    check(
        &json!({"type": "object", "required": ["a"], "allOf": [{"properties": {"a": {"type": "integer", "minimum": 5}}},
        {"properties": {"a": {"maximum": 6}, "b": {"const": "k"}}, "required": ["b"]}]}),
    );
    check(&json!({"type": ["null", "integer"], "multipleOf": 7, "minimum": 10}));
    check(&json!({"type": "number", "multipleOf": 0.25, "minimum": 0.1, "maximum": 0.6}));
    check(
        &json!({"type": "object", "minProperties": 3, "additionalProperties": {"type": "integer"}, "required": ["q"]}),
    );
    check(
        &json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "boolean"}], "items": false, "minItems": 2}),
    );
    check(&json!({"enum": ["low", "high"]}));
    check(&json!({"const": 5}));
}

#[test]
fn recursive_schemas_end() {
    let tree = json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties":
        {"value": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}, "required": ["value", "children"]}}});
    check(&tree);
    let list = json!({"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]});
    check(&list);
    for endless in [
        json!({"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]}),
        json!({"$ref": "#"}),
        json!({"type": "array", "minItems": 4_000_000_000_u64}),
        json!({"type": "string", "minLength": 4_000_000_000_u64}),
        json!({"type": "object", "minProperties": 4_000_000_000_u64}),
        json!({"type": "array", "minItems": 50, "items": {"type": "array", "minItems": 50, "items": {"$ref": "#"}}}),
    ] {
        let made = valid(&endless, &mut Draw::new(&[b"e"]), &words());
        assert!(made.to_string().len() < 200_000);
    }
}

/// Schemas of the kinds that structured output allows.
fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        (0_u8..20, 0_u8..20).prop_map(|(a, b)| json!({"type": "string", "minLength": a, "maxLength": a + b})),
        (-50_i32..50, 0_i32..40)
            .prop_map(|(a, b)| json!({"type": "integer", "minimum": a, "maximum": a + b})),
        (-5.0..5.0_f64, 0.5..9.0_f64)
            .prop_map(|(a, b)| json!({"type": "number", "minimum": a, "maximum": a + b})),
        Just(json!({"type": "boolean"})),
        Just(json!({"enum": ["x", 2, null]})),
        Just(json!({"type": ["string", "null"], "format": "date"})),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            (proptest::collection::vec(inner.clone(), 1..5), any::<bool>()).prop_map(|(items, closed)| {
                let members: Map<String, Value> =
                    items.into_iter().enumerate().map(|(i, s)| (format!("k{i}"), s)).collect();
                let required: Vec<String> = members.keys().cloned().collect();
                json!({"type": "object", "properties": members, "required": required, "additionalProperties": !closed})
            }),
            (inner.clone(), 0_usize..4, 0_usize..3)
                .prop_map(|(s, a, b)| json!({"type": "array", "items": s, "minItems": a, "maxItems": a + b})),
            proptest::collection::vec(inner, 1..3).prop_map(|b| json!({"anyOf": b})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_made_fits(schema in schemas(), seed in any::<u64>()) {
        let made = valid(&schema, &mut Draw::new(&[&seed.to_le_bytes()]), &words());
        prop_assert!(jsonschema::is_valid(&schema, &made), "{schema}\nmade {made}");
    }
}
