//! How fast growing JSON is read and growing prose is searched, in MB/s.

use crate::{Effort, Failure, say};
use serde_json::{Value, json};
use tokio::time::Instant;
use types::{ChatRequest, Verdict};
use validators::{Check, Input, Step, build};

/// Bytes that are read in each measurement, about.
const BYTES: usize = 64 * 1024 * 1024;
/// The same where it only has to run.
const FEW: usize = 512 * 1024;

/// Rows of parts, and the schema that they fit.
fn parts() -> (String, Value) {
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
    let row = json!({"type": "object", "additionalProperties": false, "required": ["id", "name", "price"], "properties": {
        "id": {"type": "integer", "minimum": 0}, "name": {"type": "string", "maxLength": 80}, "price": {"type": "number"},
        "in_stock": {"type": "boolean"}, "kind": {"enum": ["bolt", "nut", "washer"]},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5}, "note": {"type": "string"}}});
    let schema = json!({"type": "object", "required": ["rows"], "properties": {"rows": {"type": "array", "items": row}}});
    (json!({ "rows": rows }).to_string(), schema)
}

/// Prints a line per check and size of its pieces, and one for the schema held against the whole text.
pub(crate) fn run(effort: Effort) -> Result<(), Failure> {
    let bytes = if effort == Effort::Quick { FEW } else { BYTES };
    let body = json!({"model": "auto", "messages": [{"role": "user", "content": "x"}]});
    let request = ChatRequest::from_value(&body)?;
    let (text, schema) = parts();
    for (name, with) in [("json", Value::Null), ("json_schema", json!({ "schema": schema }))] {
        let check = build(name, &with, None).map_err(|p| p.message)?;
        for piece in [4, 64, 4096, text.len()] {
            grow((name, &*check), &request, (&text, piece), bytes)?;
        }
    }
    let check = build("json_schema", &json!({ "schema": schema }), None).map_err(|p| p.message)?;
    whole(&*check, &request, &text, bytes / 4)?;
    let prose =
        "The café opens at 9:30; ask for the 12 best offers, e.g. tea (from Assam) & cake. ".repeat(2000);
    for name in ["pii", "secrets", "urls"] {
        let check = build(name, &Value::Null, None).map_err(|p| p.message)?;
        for piece in [4, 64, prose.len()] {
            grow((name, &*check), &request, (&prose, piece), bytes / 16)?;
        }
    }
    Ok(())
}

/// A text in pieces of that many bytes, or a few more where a character does not end there.
fn pieces(text: &str, size: usize) -> Vec<&str> {
    let (mut all, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let end = (size.min(rest.len())..=rest.len()).find(|i| rest.is_char_boundary(*i));
        let (head, tail) = rest.split_at(end.unwrap_or(rest.len()));
        all.push(head);
        rest = tail;
    }
    all
}

fn grow(
    (name, check): (&str, &dyn Check),
    request: &ChatRequest,
    (text, piece): (&str, usize),
    bytes: usize,
) -> Result<(), Failure> {
    let pieces = pieces(text, piece);
    let rounds = bytes.div_ceil(text.len());
    let start = Instant::now();
    for _ in 0..rounds {
        let mut state = check.open(request).ok_or("the check does not watch text grow")?;
        for piece in &pieces {
            if !matches!(state.push(piece), Step::Continue { .. }) {
                return Err(format!("{name} stopped a good text").into());
            }
        }
        if state.finish().is_some() {
            return Err(format!("{name} found something in a good text").into());
        }
    }
    told(&format!("{name}, growing by {piece} bytes"), rounds.saturating_mul(text.len()), start);
    Ok(())
}

/// The parser and the schema engine on the whole text, for comparison.
fn whole(check: &dyn Check, request: &ChatRequest, text: &str, bytes: usize) -> Result<(), Failure> {
    let choice = types::completion::Choice { text: text.to_owned(), ..Default::default() };
    let completion = types::Completion { choices: vec![choice], ..Default::default() };
    let rounds = bytes.div_ceil(text.len());
    let start = Instant::now();
    for _ in 0..rounds {
        if check.check(&Input::new(&completion, request)).verdict != Verdict::Passed {
            return Err("json_schema refused a good text".into());
        }
    }
    told("json_schema, whole text at the end", rounds.saturating_mul(text.len()), start);
    Ok(())
}

fn told(name: &str, bytes: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    say(&format!("{name:<40} {:>8.0} MB/s", bytes as f64 / 1e6 / seconds.max(1e-9)));
}
