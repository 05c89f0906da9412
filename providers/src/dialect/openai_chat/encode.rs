//! The client's body with a few members replaced: one pass, one buffer, the rest byte for byte.

use super::super::ids::Ids;
use super::super::{Encoded, unsayable};
use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use types::chat::{ChatRequest, Content, Message, ResponseFormat, Role, ToolChoice};
use types::matrix::Quirks;
use types::provider::{Call, Error};

/// A new value of a member.
enum New<'a> {
    /// A JSON string with this text.
    Text(&'a str),
    /// JSON as it stands.
    Json(Cow<'a, str>),
}

impl New<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            New::Json(j) => out.extend_from_slice(j.as_bytes()),
            New::Text(t) => write_string(out, t),
        }
    }
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing a string to a `Vec` has no way to fail.
    let _ = serde_json::to_writer(out, text);
}

/// What is done to the members of the body.
struct Plan<'a> {
    /// Replaced where they stand, added at the end where they do not.
    set: Vec<(&'a str, New<'a>)>,
    /// Left out, beside what the provider's quirks leave out.
    drop: Vec<&'static str>,
    /// Given another name: from, to.
    rename: Option<(&'static str, &'a str)>,
}

/// The call as the vendor reads it.
///
/// # Errors
/// [`types::provider::ErrorKind::BadRequest`] when the messages cannot be rewritten.
pub(in super::super) fn encode(call: &Call) -> Result<Encoded, Error> {
    let mut plan = Plan {
        set: vec![("model", New::Text(&call.model.upstream_name))],
        drop: vec!["routing", "provider", "models", "guardrails"],
        rename: None,
    };
    plan.stream(call);
    plan.metadata(call);
    plan.messages(call)?;
    plan.sampling(call);
    plan.max_tokens(call);
    if let Some(format) = &call.edits.response_format {
        match response_format(format) {
            Some(json) => plan.set.push(("response_format", New::Json(json.into()))),
            None => plan.drop.push("response_format"),
        }
    }
    if call.edits.without_tools {
        plan.drop.extend(["tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"]);
    } else if let Some(tools) = &call.edits.tools {
        let all: Vec<&str> = tools.iter().map(|t| t.raw.get()).collect();
        plan.set.push(("tools", New::Json(format!("[{}]", all.join(",")).into())));
        // What the client demands is of tools of its own.
        plan.drop.extend(["tool_choice", "functions", "function_call"]);
    }
    plan.no_tools(call);
    if let Some(choice) = call.edits.tool_choice.as_ref().filter(|_| !call.edits.without_tools) {
        plan.set.extend(tool_choice(choice).map(|json| ("tool_choice", New::Json(json.into()))));
    }
    let body = plan.splice(&call.request, &call.provider.quirks.drop);
    Ok(Encoded { path: super::PATH.into(), query: None, body })
}

impl<'a> Plan<'a> {
    fn stream(&mut self, call: &'a Call) {
        let asked = call.request.raw("stream").unwrap_or("");
        if call.stream {
            if asked != "true" {
                self.set.push(("stream", New::Json("true".into())));
            }
        } else if asked == "true" {
            self.set.push(("stream", New::Json("false".into())));
        }
        if !call.stream || !call.provider.quirks.stream_usage {
            // Vendors refuse the options where there is no stream, and those of the quirk always.
            self.drop.push("stream_options");
        } else if !call.request.include_usage {
            let options = call.request.raw("stream_options").and_then(|o| serde_json::from_str(o).ok());
            let mut options: Map<String, Value> = options.unwrap_or_default();
            options.insert("include_usage".into(), Value::Bool(true));
            self.set.push(("stream_options", New::Json(Value::Object(options).to_string().into())));
        }
    }

    /// Vendors refuse an empty list of tools, and a word on how tools are used where there are none; libraries send both for
    /// agents without tools. That one must be used stays: it cannot be, which the vendor says.
    fn no_tools(&mut self, call: &'a Call) {
        let request = &call.request;
        if !request.tools.is_empty() || call.edits.tools.is_some() || call.edits.without_tools {
            return;
        }
        let mut leave_out = vec!["tools", "functions", "parallel_tool_calls"];
        if matches!(request.tool_choice, ToolChoice::Auto | ToolChoice::None) {
            leave_out.extend(["tool_choice", "function_call"]);
        }
        self.drop.extend(leave_out.into_iter().filter(|name| request.raw(name).is_some()));
    }

    /// Lists of labels and checks in the form of LiteLLM are meant for us, and no vendor takes them.
    fn metadata(&mut self, call: &'a Call) {
        const OURS: [&str; 2] = ["tags", "guardrails"];
        let concerns = |raw: &&str| OURS.iter().any(|name| raw.contains(name));
        let Some(raw) = call.request.raw("metadata").filter(concerns) else { return };
        let Ok(mut map) = serde_json::from_str::<Map<String, Value>>(raw) else { return };
        let before = map.len();
        map.retain(|name, value| !(OURS.contains(&name.as_str()) && value.is_array()));
        if map.len() == before {
            return;
        }
        match map.is_empty() {
            true => self.drop.push("metadata"),
            false => self.set.push(("metadata", New::Json(Value::Object(map).to_string().into()))),
        }
    }

    fn messages(&mut self, call: &'a Call) -> Result<(), Error> {
        let house = House::of(call);
        if let Some(edited) = &call.edits.messages {
            let mut messages = Cow::Borrowed(edited);
            if edited.iter().any(|m| house.concerns(m)) {
                messages.to_mut().iter_mut().for_each(|m| house.message(m));
            }
            let json = serde_json::to_string(&*messages)
                .map_err(|_| unsayable(call, "messages", "these messages"))?;
            self.set.push(("messages", New::Json(json.into())));
        } else if call.request.messages.iter().any(|m| house.concerns(m)) {
            let raw = call.request.raw("messages").unwrap_or("[]");
            let json = house.written(raw).map_err(|_| unsayable(call, "messages", "these messages"))?;
            self.set.push(("messages", New::Json(json.into())));
        }
        let Some(prefill) = &call.edits.prefill else { return Ok(()) };
        let edited = self.set.iter().position(|(k, _)| *k == "messages").map(|i| self.set.swap_remove(i).1);
        let json = match &edited {
            Some(New::Json(json)) => with_prefill(json, prefill),
            _ => with_prefill(call.request.raw("messages").unwrap_or("[]"), prefill),
        };
        let json = json.map_err(|_| unsayable(call, "messages", "these messages"))?;
        self.set.push(("messages", New::Json(json.into())));
        Ok(())
    }

    fn sampling(&mut self, call: &'a Call) {
        let edits = &call.edits;
        let numbers = [
            ("temperature", edits.temperature),
            ("top_p", edits.top_p),
            ("presence_penalty", edits.presence_penalty),
            ("frequency_penalty", edits.frequency_penalty),
        ];
        for (name, value) in numbers {
            if let Some(v) = value {
                self.set.push((name, New::Json(json!(v).to_string().into())));
            }
        }
        if let Some(seed) = edits.seed {
            self.set.push(("seed", New::Json(seed.to_string().into())));
        }
        match &edits.stop {
            Some(none) if none.is_empty() => self.drop.push("stop"),
            Some(stop) => self.set.push(("stop", New::Json(json!(stop).to_string().into()))),
            None => {}
        }
        if let Some(effort) = &edits.reasoning_effort {
            self.set.push(("reasoning_effort", New::Text(effort)));
        }
        match edits.logprobs {
            Some(true) => self.set.push(("logprobs", New::Json("true".into()))),
            // Vendors refuse the number of alternatives where none are asked for.
            Some(false) => self.drop.extend(["logprobs", "top_logprobs"]),
            None => {}
        }
    }

    fn max_tokens(&mut self, call: &'a Call) {
        const NAMES: [&str; 2] = ["max_completion_tokens", "max_tokens"];
        let field = call.provider.quirks.max_tokens_field.as_str();
        if let Some(n) = call.edits.max_tokens {
            self.drop.extend(NAMES.iter().filter(|name| **name != field));
            self.set.push((field, New::Json(n.to_string().into())));
            return;
        }
        // The newer name wins, as in the canonical form; only one of them goes out.
        let given = |name: &str| call.request.raw(name).is_some_and(|raw| raw != "null");
        let Some(winner) = NAMES.into_iter().find(|name| given(name)) else { return };
        self.drop.extend(NAMES.iter().filter(|name| **name != winner));
        if winner != field {
            self.rename = Some((winner, field));
        }
    }

    fn splice(&self, request: &ChatRequest, quirk_drop: &[String]) -> Bytes {
        let body = request.body();
        let between = |from: usize, to: usize| body.get(from..to).unwrap_or(&[]);
        let unwanted = |key: &str| quirk_drop.iter().any(|d| d == key);
        let grown: usize =
            self.set.iter().map(|(k, v)| k.len().saturating_add(v.size()).saturating_add(4)).sum();
        let mut out = Vec::with_capacity(body.len().saturating_add(grown).saturating_add(32));
        let mut written = vec![false; self.set.len()];
        // `copied`: how far the body is dealt with; `end`: where the last member ended.
        let (mut copied, mut kept_any) = (0, false);
        let mut end = memchr::memchr(b'{', body).map_or(0, |open| open.saturating_add(1));
        for member in request.members() {
            let key = member.key.as_str();
            let place = self.set.iter().position(|(k, _)| *k == key);
            let renamed = self.rename.filter(|(from, _)| *from == key).map(|(_, to)| to);
            if self.drop.contains(&key) || unwanted(renamed.unwrap_or(key)) {
                out.extend_from_slice(between(copied, end));
                end = member.value.end;
                if !kept_any {
                    // The comma goes with the member before it, which the first one does not have.
                    end = after_comma(body, end);
                }
                copied = end;
                continue;
            }
            if let Some(to) = renamed {
                out.extend_from_slice(between(copied, end));
                separate(&mut out, kept_any, to);
                copied = member.value.start;
            } else if let Some(((_, new), written)) =
                place.and_then(|p| self.set.get(p).zip(written.get_mut(p)))
            {
                out.extend_from_slice(between(copied, member.value.start));
                new.write(&mut out);
                *written = true;
                copied = member.value.end;
            }
            kept_any = true;
            end = member.value.end;
        }
        out.extend_from_slice(between(copied, end));
        for ((key, new), _) in
            self.set.iter().zip(&written).filter(|((key, _), done)| !**done && !unwanted(key))
        {
            separate(&mut out, kept_any, key);
            new.write(&mut out);
            kept_any = true;
        }
        out.extend_from_slice(between(end, body.len()));
        out.into()
    }
}

impl New<'_> {
    fn size(&self) -> usize {
        match self {
            New::Text(t) => t.len().saturating_add(2),
            New::Json(j) => j.len(),
        }
    }
}

fn separate(out: &mut Vec<u8>, comma: bool, key: &str) {
    if comma {
        out.push(b',');
    }
    write_string(out, key);
    out.push(b':');
}

fn after_comma(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or(&[]);
    let space = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
    match rest.get(space) {
        Some(b',') => at.saturating_add(space).saturating_add(1),
        _ => at,
    }
}

/// What a vendor knows by another name, a role, and what it would refuse: identifiers, thoughts of other models, and
/// members of messages that it does not know.
struct House<'a> {
    quirks: &'a Quirks,
    ids: Ids<'a>,
}

impl<'a> House<'a> {
    fn of(call: &'a Call) -> Self {
        House { quirks: &call.provider.quirks, ids: Ids::of(call) }
    }

    fn takes(&self, member: &str) -> bool {
        self.quirks.takes_in_messages(member)
    }

    fn concerns(&self, message: &Message) -> bool {
        let known = !self.quirks.message_members.is_empty();
        // A member that is `null` is read as none: whether an answer that comes back has one is for its text to say.
        let sent_back =
            message.role == Role::Assistant || message.name.is_some() || message.refusal.is_some();
        self.quirks.developer_as_system && message.role == Role::Developer
            || known && sent_back
            || message.extra.keys().any(|name| !self.takes(name))
            || !self.quirks.reasoning_history && message.tool_calls.iter().any(|c| c.extra_content.is_some())
            || self.ids.concern(message)
    }

    fn message(&self, message: &mut Message) {
        if self.quirks.developer_as_system && message.role == Role::Developer {
            message.role = Role::System;
        }
        message.extra.retain(|name, _| self.takes(name));
        message.name = message.name.take().filter(|_| self.takes("name"));
        if !self.takes("refusal")
            && let Some(refusal) = message.refusal.take()
            && message.content == Content::None
        {
            message.content = Content::Text(refusal);
        }
        if !self.quirks.reasoning_history {
            message.tool_calls.iter_mut().for_each(|c| c.extra_content = None);
        }
        let ids = message.tool_calls.iter_mut().map(|c| &mut c.id).chain(&mut message.tool_call_id);
        for id in ids {
            *id = self.ids.get(id).to_owned();
        }
    }

    /// Nothing else changes: members that the house does not know stay in their messages.
    fn written(&self, messages: &str) -> Result<String, serde_json::Error> {
        let raw: Vec<&RawValue> = serde_json::from_str(messages)?;
        let mut out = Vec::with_capacity(raw.len());
        for message in raw {
            let mut parsed: Value = serde_json::from_str(message.get())?;
            let changed = self.change(&mut parsed);
            out.push(if changed { Cow::Owned(parsed.to_string()) } else { Cow::Borrowed(message.get()) });
        }
        Ok(format!("[{}]", out.join(",")))
    }

    fn change(&self, message: &mut Value) -> bool {
        let mut changed = message.as_object_mut().is_some_and(|members| self.leave_out(members));
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten();
        for call in calls.filter_map(Value::as_object_mut).filter(|_| !self.quirks.reasoning_history) {
            changed |= call.remove("extra_content").is_some();
        }
        let mut set = |place: Option<&mut Value>, new: &dyn Fn(&str) -> Option<String>| {
            if let Some(place) = place
                && let Some(new) = place.as_str().and_then(new)
            {
                *place = Value::String(new);
                changed = true;
            }
        };
        let id = |id: &str| Some(self.ids.get(id)).filter(|new| *new != id).map(str::to_owned);
        set(message.get_mut("role"), &|role| {
            (self.quirks.developer_as_system && role == "developer").then(|| "system".to_owned())
        });
        set(message.get_mut("tool_call_id"), &id);
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        calls.into_iter().flatten().for_each(|call| set(call.get_mut("id"), &id));
        changed
    }

    /// What the vendor does not take, and what says nothing where it does not take all; tells whether there was any.
    fn leave_out(&self, members: &mut Map<String, Value>) -> bool {
        let before = members.len();
        let known = !self.quirks.message_members.is_empty();
        // A refusal is all that such an answer says.
        let refusal = members.get("refusal").filter(|r| r.is_string() && !self.takes("refusal")).cloned();
        members.retain(|name, value| self.takes(name) && !(known && value.is_null() && name != "content"));
        if members.len() == before {
            return false;
        }
        if let Some(refusal) = refusal.filter(|_| members.get("content").is_none_or(Value::is_null)) {
            members.insert("content".to_owned(), refusal);
        }
        true
    }
}

/// The messages with the beginning of the answer behind them. `prefix` is how those vendors of this dialect know
/// one that have it (docs.mistral.ai, "Prefix"; api-docs.deepseek.com, "Chat Prefix Completion").
fn with_prefill(messages: &str, prefill: &str) -> Result<String, serde_json::Error> {
    let all: Vec<&RawValue> = serde_json::from_str(messages)?;
    let begun = json!({"role": "assistant", "content": prefill, "prefix": true}).to_string();
    let all: Vec<&str> = all.iter().map(|m| m.get()).chain([begun.as_str()]).collect();
    Ok(format!("[{}]", all.join(",")))
}

fn tool_choice(choice: &ToolChoice) -> Option<String> {
    let named = |name: &String| json!({"type": "function", "function": {"name": name}});
    Some(match choice {
        ToolChoice::Unset => return None,
        ToolChoice::None => "\"none\"".to_owned(),
        ToolChoice::Auto => "\"auto\"".to_owned(),
        ToolChoice::Required => "\"required\"".to_owned(),
        ToolChoice::Function(name) => named(name).to_string(),
        ToolChoice::Allowed { names, required } => {
            let tools: Vec<Value> = names.iter().map(named).collect();
            let mode = if *required { "required" } else { "auto" };
            json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}).to_string()
        }
    })
}

fn response_format(format: &ResponseFormat) -> Option<String> {
    Some(match format {
        ResponseFormat::Text => return None,
        ResponseFormat::JsonObject => json!({"type": "json_object"}).to_string(),
        ResponseFormat::JsonSchema { name, schema, strict } => json!({
            "type": "json_schema",
            "json_schema": {"name": name, "schema": schema, "strict": strict},
        })
        .to_string(),
    })
}
