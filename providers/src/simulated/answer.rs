//! One choice of an answer: its form as asked, or broken in the way that was drawn.

use super::contract::Contract;
use super::draw::Draw;
use super::{instance, prose};
use serde_json::{Value, json};
use types::chat::ToolCall;
use types::completion::{Choice, FinishReason};
use types::matrix::Simulate;
use types::provider::Call;

/// Tokens of a text: its bytes by four, at least one if there is any.
pub(crate) fn tokens(text: &str) -> u32 {
    u32::try_from(text.len().div_ceil(4)).unwrap_or(u32::MAX)
}

/// What a choice turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Good,
    Wrong,
    BrokenJson,
    WrongSchema,
    Refuse,
    Truncate,
}

/// Success of the model at this call, by the finest name that is stated.
pub(super) fn success(sim: &Simulate, call: &Call) -> f64 {
    use types::axis::AxisValue as _;
    let named = |name: &str| sim.success.iter().find(|(k, _)| k == name).map(|(_, p)| p.get());
    let sub = call.sub_label.and_then(|s| named(s.as_str()));
    sub.or_else(|| named(call.family.as_str())).or_else(|| named("default")).unwrap_or(1.0)
}

/// Draws how a choice turns out, given that no failure mode struck. A model that fails at JSON fails by the
/// modes it has, in their proportion; one that states none gets the schema wrong.
pub(super) fn turn(sim: &Simulate, call: &Call, contract: &Contract, draw: &mut Draw) -> Turn {
    if draw.unit() < success(sim, call) {
        return Turn::Good;
    }
    if !contract.is_json() {
        return Turn::Wrong;
    }
    let weight = |name: &str| sim.failures.iter().find(|(k, _)| k == name).map_or(0.0, |(_, p)| p.get());
    let (broken, wrong) = (weight("broken_json"), weight("wrong_schema"));
    let share = if broken + wrong > 0.0 { broken / (broken + wrong) } else { 0.0 };
    if draw.unit() < share { Turn::BrokenJson } else { Turn::WrongSchema }
}

/// Writes one choice and cuts it to the stop sequences and to `max_tokens`.
pub(super) fn write(
    call: &Call,
    contract: &Contract,
    turn: Turn,
    max_tokens: u32,
    draw: &mut Draw,
) -> Choice {
    let question = super::contract::question(call);
    let words = prose::words(&question);
    let mut choice = Choice { finish_reason: Some(FinishReason::Stop), ..Choice::default() };
    if turn == Turn::Refuse {
        choice.refusal = Some(prose::refusal());
        return choice;
    }
    match contract {
        Contract::Tool(place) => choice.tool_calls.extend(tool_call(call, *place, turn, &words, draw)),
        Contract::Prose => {
            choice.text = prose::answer(&question, &words, call.family, turn != Turn::Wrong, draw);
        }
        Contract::Json => {
            let value = json!({"answer": prose::quote(&question), "about": words.first(), "complete": true});
            // Any object would do, so what fails here must not be one.
            let value = if turn == Turn::WrongSchema { json!([value]) } else { value };
            choice.text = json_text(&value, turn, draw);
        }
        Contract::Schema(schema) => {
            let value = if turn == Turn::WrongSchema {
                instance::invalid(schema, draw, &words)
            } else {
                instance::valid(schema, draw, &words)
            };
            choice.text = json_text(&value, turn, draw);
        }
    }
    if choice.tool_calls.is_empty() {
        stop(&mut choice, call.stop());
    } else {
        choice.finish_reason = Some(FinishReason::ToolCalls);
    }
    let written = body(&choice).len();
    if turn == Turn::Truncate {
        cut(&mut choice, written / 2);
    } else if tokens(body(&choice)) > max_tokens {
        cut(&mut choice, (max_tokens as usize).saturating_mul(4));
    }
    choice
}

/// The text that is counted and cut: the arguments of a tool call, else the answer's own.
pub(super) fn body(choice: &Choice) -> &str {
    match (choice.tool_calls.first(), &choice.refusal) {
        (Some(call), _) => &call.arguments,
        (None, Some(refusal)) => refusal,
        (None, None) => &choice.text,
    }
}

fn stop(choice: &mut Choice, sequences: &[String]) {
    let at = sequences.iter().filter(|s| !s.is_empty()).filter_map(|s| choice.text.find(s.as_str())).min();
    if let Some(at) = at {
        choice.text.truncate(at);
    }
}

fn cut(choice: &mut Choice, bytes: usize) {
    let text = match choice.tool_calls.first_mut() {
        Some(call) => &mut call.arguments,
        None => &mut choice.text,
    };
    let mut at = bytes.min(text.len());
    while !text.is_char_boundary(at) {
        at = at.saturating_sub(1);
    }
    text.truncate(at);
    choice.finish_reason = Some(FinishReason::Length);
}

fn tool_call(call: &Call, place: usize, turn: Turn, words: &[String], draw: &mut Draw) -> Option<ToolCall> {
    let tool = call.tools().get(place)?;
    let open = json!({"type": "object"});
    let schema = tool.parameters.as_deref().unwrap_or(&open);
    let value = match turn {
        Turn::WrongSchema => instance::invalid(schema, draw, words),
        _ => instance::valid(schema, draw, words),
    };
    Some(ToolCall {
        id: format!("call_{:016x}", draw.bits()),
        name: tool.name.clone(),
        arguments: json_text(&value, turn, draw),
        ..ToolCall::default()
    })
}

/// JSON as text; broken in one of three ways that are seen in the wild, if that was drawn.
fn json_text(value: &Value, turn: Turn, draw: &mut Draw) -> String {
    let text = value.to_string();
    if turn != Turn::BrokenJson {
        return text;
    }
    match draw.below(3) {
        0 => format!("Here is the JSON you asked for:\n```json\n{text}\n```"),
        1 if text.ends_with(['}', ']']) => {
            let (inner, end) = text.split_at(text.len().saturating_sub(1));
            format!("{inner},{end}")
        }
        _ => {
            let half = (text.len() / 2..text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            format!("{{\"result\": {}", text.get(..half).unwrap_or(""))
        }
    }
}
