//! A call before it is made: fitted to its model, with its money and its place in the tree reserved.

use super::Calls;
use super::open::Open;
use crate::ledger::{Ledger, Place};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::time::Instant;
use types::adjustment::Adjustment;
use types::chat::{ChatRequest, Message, ResponseFormat, Role};
use types::matrix::{Model, ModelIx, Provider, Tier};
use types::provider::{Call, Edits};
use workflows::Ask;

impl Calls {
    /// The call for one candidate with its money, and its place in the tree, reserved.
    ///
    /// # Errors
    /// What does not reach: `usd`, `calls`, `tokens`.
    pub(super) async fn prepare(
        &self,
        ask: &Ask,
        (ix, model): (ModelIx, &Arc<Model>),
        provider: &Arc<Provider>,
        attempt: u32,
        deadline: Instant,
    ) -> Result<(Call, Open), &'static str> {
        let model = &self.ceilings.priced(model);
        let mut edits = ask.edits.clone();
        self.ceilings.lower(&mut edits, &self.request);
        adapt(&mut edits, &self.request, model);
        let est = self.est_input(&edits);
        let longest = edits.max_tokens.or(self.request.params.max_tokens).unwrap_or(model.max_output_tokens);
        let place = self.ledger_of(ask).admit(est.input, longest)?;
        if place.output.is_some_and(|most| most < longest) {
            edits.max_tokens = place.output;
        }
        let most = self.most_input(&edits);
        let held = Placed { ledger: self.ledger_of(ask), place: Some(place) };
        let Some((reserved, share)) = self.reserve((ix, model), provider, &mut edits, most, ask).await else {
            return Err("usd");
        };
        held.keep();
        let granted = edits.max_tokens.unwrap_or(longest);
        let now = Instant::now();
        let purpose =
            if attempt > 1 && ask.purpose == "primary" { "fallback".into() } else { ask.purpose.to_string() };
        let ledger = self.ledger_of(ask);
        ledger.await_begins(now);
        let call = Call {
            request: self.request.clone(),
            edits,
            model: model.clone(),
            provider: provider.clone(),
            stream: ask.stream && model.abilities.streaming,
            remaining: deadline.saturating_duration_since(now),
            id: format!("{}.{}.{}", self.request_id, ask.node(), self.made.fetch_add(1, Ordering::Relaxed)),
            family: self.profile.task_family.value,
            sub_label: self.profile.sub_label,
        };
        let mut adjusted = self.reach.provider.adjustments(&call);
        adjusted.extend(fitted(&ask.edits, &call));
        let open = Open {
            ledger: ledger.clone(),
            log: self.log.clone(),
            purse: ask.purse.clone(),
            node: ask.node().clone(),
            model: model.clone(),
            free: provider.tier == Tier::Free,
            purpose,
            attempt,
            reserved,
            share,
            place,
            run_started: self.started,
            started: now,
            est,
            most,
            longest: granted.saturating_mul(self.request.params.n.max(1)),
            adjusted,
            awaited: true,
            closed: false,
        };
        Ok((call, open))
    }
}

/// A place in the tree that is given back unless the call is made: nobody need wait for the money of a call.
struct Placed<'a> {
    ledger: &'a Ledger,
    place: Option<Place>,
}

impl Placed<'_> {
    fn keep(mut self) {
        self.place = None;
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.ledger.unmade(place);
        }
    }
}

/// Fits the wishes to what the model can do: its longest answer, and the strongest form it can promise. A
/// schema the model cannot be held to goes into the instructions; the checks hold the answer to it anyway.
fn adapt(edits: &mut Edits, request: &ChatRequest, model: &Model) {
    if let Some(wish) = edits.max_tokens.or(request.params.max_tokens)
        && wish > model.max_output_tokens
    {
        edits.max_tokens = Some(model.max_output_tokens);
    }
    // Vendors refuse the beginning of an answer beside thinking, and beside a call that is demanded.
    let thinks = request.raw("thinking").is_some_and(|t| t != "null");
    let demanded = edits.tools.is_none() && !edits.without_tools && request.tool_choice.demands();
    if !model.abilities.prefill || thinks || demanded {
        edits.prefill = None;
    }
    let format = edits.response_format.as_ref().unwrap_or(&request.response_format);
    let instruction = match format {
        ResponseFormat::JsonSchema { schema, .. } if !model.abilities.json_schema => {
            format!(
                "Answer with one JSON value and nothing else. It must be valid under this JSON Schema:\n{schema}"
            )
        }
        ResponseFormat::JsonObject if !model.abilities.json => {
            "Answer with one JSON object and nothing else.".to_owned()
        }
        _ => return,
    };
    edits.response_format =
        Some(if model.abilities.json { ResponseFormat::JsonObject } else { ResponseFormat::Text });
    let mut messages = edits.messages.take().unwrap_or_else(|| request.messages.clone());
    let place = messages.iter().take_while(|m| m.role.is_instruction()).count();
    messages.insert(place, Message::text(Role::System, instruction));
    edits.messages = Some(messages);
}

/// What of the request had to be fitted to a model, or to what may be spent; `wishes` are those of the node that asks,
/// which knew what it did.
fn fitted(wishes: &Edits, call: &Call) -> impl Iterator<Item = Adjustment> {
    let (request, edits) = (&call.request, &call.edits);
    let limit = if request.raw("max_completion_tokens").is_some_and(|raw| raw != "null") {
        "max_completion_tokens"
    } else {
        "max_tokens"
    };
    let asked = request.params.max_tokens.filter(|_| wishes.max_tokens.is_none());
    let shorter = asked.zip(edits.max_tokens).filter(|(asked, granted)| granted < asked);
    let hot = request.params.temperature.filter(|_| wishes.temperature.is_none());
    let cooler = hot.zip(edits.temperature).filter(|(asked, granted)| granted < asked);
    let form = Some(&request.response_format).filter(|_| wishes.response_format.is_none());
    let other = form.zip(edits.response_format.as_ref()).filter(|(asked, given)| asked != given);
    [
        shorter.map(|(from, to)| Adjustment::changed(limit, from, to)),
        cooler.map(|(from, to)| Adjustment::changed("temperature", from, to)),
        other.map(|(from, to)| Adjustment::changed("response_format", from.kind(), to.kind())),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_beginning_of_an_answer_goes_to_who_can_go_on_from_it() {
        let check = |able: bool, more: Value, without_tools: bool, kept: bool| {
            let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "x"}]});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let request = ChatRequest::from_value(&body).unwrap();
            let mut model = Model::new("p/m", 0, (1_000, 100));
            model.abilities.prefill = able;
            let mut edits = Edits { prefill: Some("{".into()), without_tools, ..Edits::default() };
            adapt(&mut edits, &request, &model);
            assert_eq!(edits.prefill.is_some(), kept, "{able} {more}");
        };
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
        let tools = |choice: &str| json!({"tools": [tool], "tool_choice": choice});
        check(true, json!({}), false, true);
        check(false, json!({}), false, false);
        check(true, json!({"thinking": {"type": "enabled"}}), false, false);
        check(true, json!({"thinking": null}), false, true);
        check(true, tools("auto"), false, true);
        check(true, tools("required"), false, false);
        check(true, tools("required"), true, true);
    }
}
