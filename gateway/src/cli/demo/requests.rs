//! What the demo asks: varied work, the same in every run.

use serde_json::{Value, json};

/// One request of the demo.
pub(super) struct Task {
    /// What it is, for the table.
    pub(super) name: &'static str,
    /// A chat-completions body.
    pub(super) body: Value,
}

/// Different kinds of work, one after the other.
pub(super) const KINDS: usize = 8;

const PEOPLE: &[&str] =
    &["Ada Lovelace, 36, London", "Alan Turing, 41, Wilmslow", "Grace Hopper, 85, Arlington"];
const QUESTIONS: &[&str] =
    &["Why is the sky blue?", "What should I cook for six guests?", "How do I learn to whistle?"];
const FUNCTIONS: &[&str] =
    &["reverses a linked list", "parses an ISO 8601 date", "finds the median of two sorted arrays"];
const PLANS: &[&str] =
    &["move an office of 40 people", "migrate a shop to a new database", "train for a marathon"];
const CITIES: &[&str] = &["Lisbon", "Oslo", "Nairobi"];

/// The `n`th request.
pub(super) fn task(n: usize) -> Task {
    let pick = |list: &[&'static str]| list.iter().cycle().nth(n / KINDS % 64).copied().unwrap_or("");
    match n % KINDS {
        0 => chat("chat", pick(QUESTIONS)),
        1 => extraction(pick(PEOPLE)),
        2 => chat("coding", &format!("Write a Rust function that {}. Add tests.", pick(FUNCTIONS))),
        3 => {
            chat("planning", &format!("Make a step-by-step plan to {}, with risks and owners.", pick(PLANS)))
        }
        4 => tools(pick(CITIES)),
        5 => {
            let sum = n.saturating_mul(17).saturating_add(23);
            chat(
                "math",
                &format!(
                    "A tank holds {sum} litres and loses 3% a day. How much is left after 12 days? Show the steps."
                ),
            )
        }
        6 => streamed(pick(QUESTIONS)),
        _ => rag(pick(CITIES)),
    }
}

fn chat(name: &'static str, text: &str) -> Task {
    Task { name, body: json!({"model": "auto", "messages": [{"role": "user", "content": text}]}) }
}

fn extraction(person: &str) -> Task {
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["name", "age", "city"],
        "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}, "city": {"type": "string"}}});
    let body = json!({
        "model": "auto",
        "messages": [{"role": "user", "content": format!("Extract name, age and city: {person}.")}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "person", "strict": true, "schema": schema}},
    });
    Task { name: "extraction (schema)", body }
}

fn tools(city: &str) -> Task {
    let parameters =
        json!({"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}});
    let body = json!({
        "model": "auto",
        "messages": [{"role": "user", "content": format!("What is the weather in {city} right now?")}],
        "tools": [{"type": "function", "function": {
            "name": "get_weather", "description": "Current weather of a city", "parameters": parameters}}],
        "tool_choice": "required",
    });
    Task { name: "tools", body }
}

fn streamed(question: &str) -> Task {
    let mut task = chat("chat (stream)", question);
    if let Some(body) = task.body.as_object_mut() {
        body.insert("stream".to_owned(), Value::Bool(true));
    }
    task
}

fn rag(city: &str) -> Task {
    let documents = format!(
        "Answer only from these documents.\n\n[1] {city} has 1 200 bus stops and 84 lines.\n[2] A day ticket in {city} \
         costs 6.40.\n[3] The night network of {city} runs every 30 minutes."
    );
    let body = json!({
        "model": "auto",
        "messages": [
            {"role": "system", "content": documents},
            {"role": "user", "content": "What does a day ticket cost, and do buses run at night?"},
        ],
    });
    Task { name: "rag", body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_well_formed() {
        for n in 0..KINDS * 4 {
            let task = task(n);
            types::ChatRequest::from_value(&task.body).unwrap_or_else(|e| panic!("{}: {e}", task.name));
        }
    }
}
