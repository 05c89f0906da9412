//! Prints how fast growing JSON is read and growing prose is searched, in MB/s: `cargo run --release -p validators --example prefix_speed`.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement: it needs the clock, and its output is what it is for"
)]

use serde_json::{Value, json};
use std::time::Instant;
use types::ChatRequest;
use validators::build;

/// Bytes that are read in each measurement, about.
const BYTES: usize = 64 * 1024 * 1024;

fn main() {
    let rows: Vec<Value> = ["bolt", "nut", "washer"]
        .iter()
        .cycle()
        .zip(0..2000)
        .map(|(kind, i)| {
            json!({"id": i, "name": format!("Part number {i}"), "price": f64::from(i) / 8.0, "in_stock": i % 3 == 0,
                "kind": kind, "tags": ["metric", "steel"],
                "note": "A longer line of text, as models write them, with a “quotation” and some more words in it."})
        })
        .collect();
    let text = json!({ "rows": rows }).to_string();
    let row = json!({"type": "object", "additionalProperties": false, "required": ["id", "name", "price"], "properties": {
        "id": {"type": "integer", "minimum": 0}, "name": {"type": "string", "maxLength": 80}, "price": {"type": "number"},
        "in_stock": {"type": "boolean"}, "kind": {"enum": ["bolt", "nut", "washer"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5}, "note": {"type": "string"}}});
    let schema = json!({"type": "object", "required": ["rows"], "properties": {"rows": {"type": "array", "items": row}}});
    for (name, with) in [("json", Value::Null), ("json_schema", json!({ "schema": schema }))] {
        for piece in [4, 64, 4096, text.len()] {
            measure(name, &with, &text, piece);
        }
    }
    whole(&text, &schema);
    let prose =
        "The café opens at 9:30; ask for the 12 best offers, e.g. tea (from Assam) & cake. ".repeat(2000);
    for name in ["pii", "secrets", "urls"] {
        for piece in [4, 64, prose.len()] {
            measure(name, &Value::Null, &prose, piece);
        }
    }
}

fn request() -> ChatRequest {
    ChatRequest::from_value(&json!({"model": "auto", "messages": [{"role": "user", "content": "x"}]}))
        .unwrap()
}

fn measure(name: &str, with: &Value, text: &str, piece: usize) {
    let check = build(name, with, None).unwrap();
    let request = request();
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = (piece.min(rest.len())..=rest.len()).find(|i| rest.is_char_boundary(*i)).unwrap();
        let (head, tail) = rest.split_at(end);
        pieces.push(head);
        rest = tail;
    }
    let bytes = if name.starts_with("json") { BYTES } else { BYTES / 16 };
    let rounds = bytes.div_ceil(text.len());
    let start = Instant::now();
    for _ in 0..rounds {
        let mut state = check.open(&request).unwrap();
        for piece in &pieces {
            assert!(matches!(state.push(piece), validators::Step::Continue { .. }));
        }
        assert!(state.finish().is_none());
    }
    report(&format!("{name}, growing by {piece} bytes"), rounds * text.len(), start);
}

/// The parser and the schema engine on the whole text, for comparison.
fn whole(text: &str, schema: &Value) {
    let check = build("json_schema", &json!({ "schema": schema }), None).unwrap();
    let mut completion = types::Completion::default();
    completion.choices.push(types::completion::Choice { text: text.to_owned(), ..Default::default() });
    let request = request();
    let rounds = BYTES.div_ceil(text.len()).div_ceil(4);
    let start = Instant::now();
    for _ in 0..rounds {
        let report = check.check(&validators::Input::new(&completion, &request));
        assert_eq!(report.verdict, types::Verdict::Passed);
    }
    report("json_schema, whole text at the end", rounds * text.len(), start);
}

fn report(name: &str, bytes: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{name:<40} {:>8.0} MB/s", bytes as f64 / 1e6 / seconds);
}
