//! What is refused early, where, and that nothing valid ever is.

use super::*;
use crate::schema::compiled;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Pushes the text in pieces of that many characters; the finding and the bytes read with its piece.
fn read(state: &mut Prefix, text: &str, piece: usize) -> Option<(usize, Finding)> {
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    for part in chars.chunks(piece) {
        let delta: String = part.iter().collect();
        at += delta.len();
        match state.push(&delta) {
            Step::Continue { safe_up_to: 0 } => {}
            Step::Reject(f) => return Some((at, *f)),
            other => panic!("{other:?}"),
        }
    }
    state.finish().map(|f| (text.len() + 1, *f))
}

fn fitting(schema: &Value) -> Prefix {
    Prefix::fitting("json_schema", Severity::Repair, compiled(schema).unwrap().nodes.clone())
}

/// The keyword and place of the refusal, and the text up to where it was certain; "" where all is read.
fn check(schema: &Value, text: &str, want: Option<(&str, &str, &str)>) {
    let got = read(&mut fitting(schema), text, 1).map(|(at, f)| {
        let read = text.get(..at).unwrap_or("").to_owned();
        (f.code, f.path.unwrap_or_default(), read)
    });
    let want = want.map(|(code, path, read)| (code.to_owned(), path.to_owned(), read.to_owned()));
    assert_eq!(got, want, "{schema} {text}");
}

/// Where JSON alone is asked for: the byte at which the text is refused.
fn syntax(text: &str, allow_fence: bool, want: Option<usize>) {
    let mut state = Prefix::json("json", Severity::Repair, allow_fence);
    let got = read(&mut state, text, 1).map(|(_, f)| f.span.unwrap().0);
    assert_eq!(got, want, "{text:?}");
}

#[test]
fn syntax_is_refused_at_the_first_wrong_byte() {
    for good in [
        "",
        " ",
        "{",
        "{\"a",
        "{\"a\": [1, -0.5e+3, \"x\\u00e9\\ud83d\\ude00\\n\", true, null]} \n",
        "1",
        "tru",
        "[]",
        "{}",
        "\"é",
        "0",
        "10.0",
    ] {
        syntax(good, false, None);
    }
    for (bad, at) in [
        ("Sure", 0),
        ("```json\n{}", 0),
        ("{a", 1),
        ("{\"a\" 1", 5),
        ("[1,]", 3),
        ("{\"a\":1,}", 7),
        ("[1 2", 3),
        ("01", 1),
        ("1.x", 2),
        ("-a", 1),
        ("trux", 3),
        ("nul,", 3),
        ("{} x", 3),
        ("\"\n", 1),
        ("\"\\x", 2),
        ("\"\\u12g", 5),
        ("\"\\ud800x", 7),
        ("\"\\ud800\\n", 8),
        ("\"\\udc00", 6),
        ("]", 0),
        ("[}", 1),
        ("\u{feff}{}", 0),
        ("\u{a0}{}", 0),
        ("1e", 2),
        // These are wrong because the text ends here.
        ("-", 1),
    ] {
        syntax(bad, false, Some(at));
    }
    syntax(&"[".repeat(127), false, None);
    syntax(&"[".repeat(128), false, Some(127));
}

#[test]
fn one_fence_may_surround_the_value() {
    for good in [
        "```json\n{\"a\": 1}\n```",
        "\n```\n[1]\n``` \n",
        "```JSON\n{",
        "{}",
        "``",
        "\u{a0}```\n1\n```\u{a0}",
    ] {
        syntax(good, true, None);
    }
    for (bad, at) in
        [("`x", 1), ("```js`", 5), ("```\nx", 4), ("```\n1\n```x", 9), ("```\n1 2", 6), ("{}```", 2)]
    {
        syntax(bad, true, Some(at));
    }
}

fn person() -> Value {
    json!({"type": "object", "additionalProperties": false, "required": ["name", "age"],
        "properties": {
            "name": {"type": "string", "minLength": 2, "maxLength": 5},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "kind": {"enum": ["admin", "adult"]},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 2},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}})
}

#[test]
fn what_no_continuation_can_mend_is_refused_at_once() {
    let s = person();
    check(
        &s,
        "{\"name\": \"Ada\", \"age\": 36, \"kind\": \"admin\", \"tags\": [\"a\", \"b\"], \"next\": null}",
        None,
    );
    check(&s, "{\"name\": \"Ada\", \"age\": 3", None);
    check(&s, "[", Some(("type", "", "[")));
    check(&s, "{\"name\": 1", Some(("type", "/name", "{\"name\": 1")));
    check(&s, "{\"x\": 1", Some(("additionalProperties", "", "{\"x\"")));
    check(&s, "{\"name\": \"Adalbert", Some(("maxLength", "/name", "{\"name\": \"Adalbe")));
    check(&s, "{\"name\": \"A\"", Some(("minLength", "/name", "{\"name\": \"A\"")));
    check(&s, "{\"age\": 1.5}", Some(("type", "/age", "{\"age\": 1.5}")));
    check(&s, "{\"age\": 1.0, \"age\": -1,", Some(("minimum", "/age", "{\"age\": 1.0, \"age\": -1,")));
    check(&s, "{\"age\": 151 ", Some(("maximum", "/age", "{\"age\": 151 ")));
    check(&s, "{\"kind\": \"ads", Some(("enum", "/kind", "{\"kind\": \"ads")));
    check(&s, "{\"kind\": \"ad\"", Some(("enum", "/kind", "{\"kind\": \"ad\"")));
    check(&s, "{\"kind\": t", Some(("enum", "/kind", "{\"kind\": t")));
    check(&s, "{\"tags\": [\"a\", 2", Some(("type", "/tags/1", "{\"tags\": [\"a\", 2")));
    check(&s, "{\"tags\": [\"\", \"\", \"", Some(("maxItems", "/tags", "{\"tags\": [\"\", \"\", \"")));
    check(&s, "{\"name\": \"Ada\"}", Some(("required", "", "{\"name\": \"Ada\"}")));
    check(
        &s,
        "{\"next\": {\"next\": {\"name\": n",
        Some(("anyOf", "/next", "{\"next\": {\"next\": {\"name\": n")),
    );
    check(&s, "{\"next\": {\"next\": null, \"name\": \"\\u00e9a\"", None);
}

#[test]
fn alternatives_fall_one_by_one() {
    let s = json!({"oneOf": [
        {"properties": {"t": {"const": "a"}, "v": {"type": "string"}}, "required": ["t"]},
        {"properties": {"t": {"const": "b"}, "v": {"type": "number"}}, "required": ["t"]}]});
    check(&s, "{\"t\": \"a\", \"v\": \"x\"}", None);
    check(&s, "{\"v\": 1, \"t\": \"b\"}", None);
    check(&s, "{\"t\": \"b\", \"v\": \"", Some(("oneOf", "", "{\"t\": \"b\", \"v\": \"")));
    check(&s, "{\"t\": \"c", Some(("oneOf", "", "{\"t\": \"c")));
    check(&s, "{}", Some(("oneOf", "", "{}")));
    let all = json!({"allOf": [{"required": ["a"]}, {"properties": {"a": {"type": "null"}}}]});
    check(&all, "{\"a\": 1", Some(("type", "/a", "{\"a\": 1")));
    check(&json!(false), " 1", Some(("falseSchema", "", " 1")));
    let tuple = json!({"prefixItems": [{"type": "null"}], "items": false});
    check(&tuple, "[null, 1", Some(("items", "", "[null, 1")));
}

#[test]
fn what_is_not_understood_is_let_through() {
    let text = "{\"a\": \"anything\"}";
    for open in [
        json!({"patternProperties": {"^a": {"type": "string"}}, "additionalProperties": false}),
        json!({"$ref": "#there", "$defs": {"a": {"$anchor": "there"}}}),
        json!({"properties": {"a": {"$id": "http://localhost/x", "$ref": "#/$defs/y", "$defs": {"y": true}}},
               "$defs": {"y": {"type": "null"}}}),
        json!({"not": {"required": ["b"]}, "if": true, "then": {"minProperties": 1}}),
        json!({"properties": {"a": {"$ref": "#/properties/a"}}}),
    ] {
        check(&open, text, None);
    }
    // Draft 7 ignores what stands beside a reference.
    let old = json!({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"t": {}},
        "properties": {"a": {"$ref": "#/definitions/t", "type": "null"}}});
    check(&old, text, None);
}

#[test]
fn too_many_conditions_leave_the_syntax_alone() {
    let branch: Vec<Value> = (0..40).map(|_| json!({"items": {"$ref": "#"}})).collect();
    let s = json!({"anyOf": branch});
    check(&s, "[[[[[[[[[[1]]]]]]]]]]", None);
    check(&s, "[[[[[[[[[[1]]]]]]]]]]]", Some(("not_json", "", "[[[[[[[[[[1]]]]]]]]]]]")));
}

#[test]
fn findings_quote_little_and_name_the_place() {
    let s = json!({"type": "object", "additionalProperties": false});
    let long = format!("{{\"{}\"", "x".repeat(10_000));
    let (_, f) = read(&mut fitting(&s), &long, 7).unwrap();
    assert!(f.actual.unwrap().as_str().unwrap().chars().count() <= crate::MAX_EXCERPT);
    let (_, f) =
        read(&mut fitting(&json!({"properties": {"a/b": {"type": "null"}}})), "{\"a/b\": 1", 3).unwrap();
    assert_eq!((f.path.as_deref(), f.expected), (Some("/a~1b"), Some(json!("null"))));
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-3_i64..4).prop_map(Value::from),
        prop_oneof![Just(0.5), Just(-1.5), Just(2.0), Just(1e20)].prop_map(Value::from),
        "[ab\"\\\\é😀\n]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map("[abc]", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// Schemas out of everything that is decided early, and some of what is not.
fn schemas() -> impl Strategy<Value = Value> {
    let kind = prop_oneof![
        Just("null"),
        Just("boolean"),
        Just("integer"),
        Just("number"),
        Just("string"),
        Just("array"),
        Just("object")
    ];
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!(false)),
        Just(json!({"$ref": "#"})),
        kind.clone().prop_map(|k| json!({"type": k})),
        (kind, values()).prop_map(|(k, v)| json!({"type": [k, "string"], "enum": [v, "a", 1]})),
        values().prop_map(|v| json!({"const": v})),
        (0_u64..4, 0_u64..4).prop_map(|(a, b)| json!({"minLength": a, "maxLength": b, "maximum": b})),
        (0_u64..3, 0_u64..3).prop_map(|(a, b)| json!({"minItems": a, "maxItems": b, "exclusiveMinimum": a})),
        (0_u64..3, 0_u64..3).prop_map(|(a, b)| json!({"minProperties": a, "maxProperties": b})),
        Just(json!({"required": ["a", "b"]})),
        Just(json!({"pattern": "^a", "uniqueItems": true})),
    ];
    leaf.prop_recursive(3, 20, 3, |inner| {
        let list = proptest::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            list.clone().prop_map(|l| json!({"allOf": l})),
            list.clone().prop_map(|l| json!({"anyOf": l})),
            list.clone().prop_map(|l| json!({"oneOf": l})),
            inner.clone().prop_map(|s| json!({"not": s})),
            (list, inner.clone()).prop_map(|(l, s)| json!({"prefixItems": l, "items": s})),
            (inner.clone(), inner.clone(), inner.clone(), any::<bool>()).prop_map(|(a, b, rest, closed)| {
                let additional = if closed { json!(false) } else { rest };
                json!({"properties": {"a": a, "b": b}, "additionalProperties": additional})
            }),
            (inner.clone(), inner)
                .prop_map(|(a, b)| json!({"if": a, "then": b, "patternProperties": {"^c": b}})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Scenario 17 of the workflow format, over random schemas and values.
    #[test]
    fn scenario_17_a_valid_value_is_never_refused_however_it_is_cut(
        schema in schemas(), value in values(), pretty in any::<bool>(), piece in 1_usize..9,
    ) {
        let Ok(compiled) = compiled(&schema) else { return Ok(()) };
        let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
        let refused = read(&mut fitting(&schema), &text, piece);
        if let Some((_, finding)) = &refused {
            prop_assert!(!compiled.fits(&value), "{schema} {text}: {finding:?}");
        }
        // Whether it is refused does not depend on how it is cut.
        let whole = read(&mut fitting(&schema), &text, usize::MAX);
        prop_assert_eq!(refused.is_some(), whole.is_some());
    }

    #[test]
    fn syntax_agrees_with_the_parser(text in "[\\[\\]{}\":,0-9a-f\\\\ \\-.eEunlrts\n]{0,24}", piece in 1_usize..5) {
        let mut state = Prefix::json("json", Severity::Repair, false);
        if let Some((_, finding)) = read(&mut state, &text, piece) {
            prop_assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}: {finding:?}");
        }
    }

    #[test]
    fn whatever_comes_it_ends(text in any::<String>(), fence in any::<bool>(), piece in 1_usize..5) {
        let _ = read(&mut Prefix::json("json", Severity::Repair, fence), &text, piece);
        let _ = read(&mut fitting(&person()), &text, piece);
    }
}
