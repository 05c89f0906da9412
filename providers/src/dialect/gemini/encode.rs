//! The canonical request as a generateContent body.

use super::super::turns::{NO_RESULT, Step, steps};
use super::super::{
    Encoded, arguments, data_url, dropped, form_in_words, max_tokens, messages, nothing_said,
    response_format, temperature, to_body, tools, top_p, unsayable,
};
use super::schema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Number, Value, json};
use std::borrow::Cow;
use types::adjustment::Adjustment;
use types::chat::{Content, Message, PartKind, ResponseFormat, Role, ToolCall, ToolChoice};
use types::provider::{Call, Error};

/// Documented stand-in for a signature of thoughts that were not had here.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// Models with this tag want a signature on the first call of each turn.
const SIGNATURES: &str = "thought_signatures";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    contents: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<Value>,
    #[serde(skip_serializing_if = "Generation::is_empty")]
    generation_config: Generation<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_settings: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Turn<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    parts: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Text {
        text: Cow<'a, str>,
    },
    #[serde(rename_all = "camelCase")]
    Inline {
        inline_data: Inline<'a>,
    },
    #[serde(rename_all = "camelCase")]
    File {
        file_data: FileData<'a>,
    },
    #[serde(rename_all = "camelCase")]
    Call {
        function_call: FunctionCall<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thought_signature: Option<&'a str>,
    },
    #[serde(rename_all = "camelCase")]
    Response {
        function_response: FunctionResponse<'a>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Inline<'a> {
    mime_type: Cow<'a, str>,
    data: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FileData<'a> {
    mime_type: &'static str,
    file_uri: &'a str,
}

#[derive(Serialize)]
struct FunctionCall<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    name: &'a str,
    args: Cow<'a, RawValue>,
}

#[derive(Serialize)]
struct FunctionResponse<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    name: &'a str,
    response: Value,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Generation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_schema: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<Value>,
}

impl Generation<'_> {
    fn is_empty(&self) -> bool {
        serde_json::to_value(self).is_ok_and(|v| v == json!({}))
    }
}

/// The call as the vendor reads it.
///
/// # Errors
/// [`types::provider::ErrorKind::BadRequest`] for what the dialect cannot say.
pub(in super::super) fn encode(call: &Call) -> Result<Encoded, Error> {
    let (mut system, mut contents) = conversation(call)?;
    if let Some(form) = form_in_words(response_format(call)).filter(|_| !formed(call)) {
        system.push(Part::Text { text: form.into() });
    }
    if contents.is_empty() {
        // The vendor wants at least one turn; instructions alone are the question then.
        contents.push(Turn { role: Some("user"), parts: std::mem::take(&mut system) });
        if contents.iter().all(|t| t.parts.is_empty()) {
            return Err(nothing_said(call));
        }
    }
    let body = Body {
        contents,
        system_instruction: (!system.is_empty()).then_some(Turn { role: None, parts: system }),
        tools: declarations(call)?,
        tool_config: tool_config(call),
        generation_config: generation(call),
        safety_settings: own(call, "safety_settings"),
    };
    let (verb, query) =
        if call.stream { ("streamGenerateContent", Some("alt=sse")) } else { ("generateContent", None) };
    let path = format!("/models/{}:{verb}", call.model.upstream_name);
    Ok(Encoded { path: path.into(), query, body: to_body(call, &body)? })
}

fn own<'a>(call: &'a Call, name: &str) -> Option<&'a RawValue> {
    let raw = call.request.raw(name).filter(|raw| *raw != "null" && !dropped(call, name))?;
    serde_json::from_str(raw).ok()
}

fn generation(call: &Call) -> Generation<'_> {
    let params = &call.request.params;
    let (response_mime_type, response_schema) = match response_format(call) {
        ResponseFormat::Text => (None, None),
        _ if !formed(call) => (None, None),
        ResponseFormat::JsonObject => (Some("application/json"), None),
        ResponseFormat::JsonSchema { schema, .. } => (Some("application/json"), Some(schema::subset(schema))),
    };
    Generation {
        temperature: temperature(call),
        top_p: top_p(call),
        top_k: own(call, "top_k"),
        candidate_count: (params.n > 1).then_some(params.n),
        max_output_tokens: max_tokens(call),
        stop_sequences: call.stop(),
        seed: seed(call).map(|s| s & SEED),
        presence_penalty: penalty(call, "presence_penalty", call.edits.presence_penalty),
        frequency_penalty: penalty(call, "frequency_penalty", call.edits.frequency_penalty),
        response_mime_type,
        response_schema,
        thinking_config: call.reasoning_effort().and_then(|effort| thinking(call, effort)),
    }
}

/// The workflow's, or else the request's.
fn penalty(call: &Call, name: &str, edited: Option<f64>) -> Option<Number> {
    match edited {
        Some(n) => Number::from_f64(n).filter(|_| !dropped(call, name)),
        None => serde_json::from_str(own(call, name)?.get()).ok(),
    }
}

/// Whether the vendor can be held to the form of the answer: beside tools it refuses one, and words ask for it.
fn formed(call: &Call) -> bool {
    tools(call).is_empty()
}

/// The vendor's seed has 32 bits.
const SEED: i64 = 0x7fff_ffff;

fn seed(call: &Call) -> Option<i64> {
    call.edits.seed.or(call.request.params.seed).filter(|_| !dropped(call, "seed"))
}

/// What has words here, and goes out otherwise than it was asked for.
pub(in super::super) fn adjust(call: &Call, all: &mut Vec<Adjustment>) {
    if let Some(asked) = seed(call).filter(|s| s & SEED != *s) {
        all.push(Adjustment::changed("seed", asked, asked & SEED));
    }
    let form = response_format(call);
    if *form != ResponseFormat::Text && !formed(call) {
        all.push(Adjustment::changed("response_format", form.kind(), "instruction"));
    }
    let told = |name: &str| all.iter().any(|a| a.name == name);
    if let Some(effort) = call.reasoning_effort()
        && thinking(call, effort).is_none()
        && !told("reasoning_effort")
    {
        all.push(Adjustment::dropped("reasoning_effort", effort));
    }
}

fn thinking(call: &Call, effort: &str) -> Option<Value> {
    if !call.model.abilities.reasoning || dropped(call, "reasoning_effort") {
        return None;
    }
    let budget = match effort {
        "none" => 0,
        "minimal" | "low" => 1024,
        "medium" => 8192,
        "high" | "xhigh" => 24_576,
        _ => return None,
    };
    Some(json!({"thinkingBudget": budget}))
}

/// Parts of the system instruction, and turns in which no role follows itself.
fn conversation(call: &Call) -> Result<(Vec<Part<'_>>, Vec<Turn<'_>>), Error> {
    let (mut system, mut turns): (Vec<Part<'_>>, Vec<Turn<'_>>) = (Vec::new(), Vec::new());
    for step in steps(messages(call)) {
        let (role, mut parts) = match step {
            Step::Result(made, told) => ("user", result(call, &made.id, &made.name, told)?),
            Step::Says(message) => match message.role {
                Role::System | Role::Developer => {
                    system.append(&mut parts(call, &message.content)?);
                    continue;
                }
                Role::Tool => {
                    let id = message.tool_call_id.as_deref().unwrap_or_default();
                    ("user", result(call, id, message.name.as_deref().unwrap_or(id), Some(message))?)
                }
                Role::Assistant => ("model", said(call, message)?),
                Role::User | Role::Function => ("user", parts(call, &message.content)?),
            },
        };
        match turns.last_mut() {
            Some(last) if last.role == Some(role) => last.parts.append(&mut parts),
            // A turn without parts is refused.
            _ if parts.is_empty() => {}
            _ => turns.push(Turn { role: Some(role), parts }),
        }
    }
    for turn in &mut turns {
        // Results stand together, as many as there were calls; what they show follows.
        turn.parts.sort_by_key(|p| !matches!(p, Part::Response { .. }) && turn.role == Some("user"));
    }
    Ok((system, turns))
}

fn said<'a>(call: &Call, message: &'a Message) -> Result<Vec<Part<'a>>, Error> {
    let mut parts = parts(call, &message.content)?;
    if let Some(refusal) = message.refusal.as_deref().filter(|r| !r.is_empty()) {
        parts.push(Part::Text { text: refusal.into() });
    }
    parts.extend(calls(call, &message.tool_calls));
    Ok(parts)
}

fn calls<'a>(call: &Call, tool_calls: &'a [ToolCall]) -> impl Iterator<Item = Part<'a>> + use<'a> {
    let sign = call.model.tags.iter().any(|t| t == SIGNATURES);
    tool_calls.iter().enumerate().map(move |(i, c)| Part::Call {
        function_call: FunctionCall { id: &c.id, name: &c.name, args: arguments(c) },
        thought_signature: signature(c).or((i == 0).then_some(NO_SIGNATURE)).filter(|_| sign),
    })
}

/// The signature that came with a call and that its client sent back.
fn signature(call: &ToolCall) -> Option<&str> {
    call.extra_content.as_ref()?.pointer("/google/thought_signature")?.as_str().filter(|s| !s.is_empty())
}

/// The result of a tool under the name of the tool that was called, and what it shows beside its text.
fn result<'a>(
    call: &Call,
    id: &'a str,
    name: &'a str,
    told: Option<&'a Message>,
) -> Result<Vec<Part<'a>>, Error> {
    let Some(message) = told else {
        let response = json!({ "error": NO_RESULT });
        return Ok(vec![Part::Response { function_response: FunctionResponse { id, name, response } }]);
    };
    let text = message.content.text();
    let response = match serde_json::from_str(&text) {
        Ok(object @ Value::Object(_)) => object,
        Ok(other) => json!({ "result": other }),
        Err(_) => json!({ "result": text }),
    };
    let shown = parts(call, &message.content)?.into_iter().filter(|p| !matches!(p, Part::Text { .. }));
    let response = Part::Response { function_response: FunctionResponse { id, name, response } };
    Ok(std::iter::once(response).chain(shown).collect())
}

fn parts<'a>(call: &Call, content: &'a Content) -> Result<Vec<Part<'a>>, Error> {
    let text = |t: &'a String| (!t.is_empty()).then(|| Part::Text { text: t.as_str().into() });
    match content {
        Content::None => Ok(Vec::new()),
        Content::Text(t) => Ok(text(t).into_iter().collect()),
        Content::Parts(parts) => parts
            .iter()
            .filter_map(|p| match &p.kind {
                PartKind::Text(t) | PartKind::Refusal(t) => text(t).map(Ok),
                PartKind::Image { url, .. } => Some(Ok(image(url))),
                PartKind::Other(kind, whole) => Some(
                    other(kind, whole)
                        .ok_or_else(|| unsayable(call, "messages", "this type of content part")),
                ),
            })
            .collect(),
    }
}

fn image(url: &str) -> Part<'_> {
    if let Some((mime, data)) = data_url(url) {
        return Part::Inline { inline_data: Inline { mime_type: mime.into(), data } };
    }
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let mime_type = match path.rsplit('.').next().unwrap_or("").to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        _ => "image/jpeg",
    };
    Part::File { file_data: FileData { mime_type, file_uri: url } }
}

fn other<'a>(kind: &str, whole: &'a serde_json::Map<String, Value>) -> Option<Part<'a>> {
    let inner = whole.get(kind)?;
    match kind {
        "input_audio" => {
            let format = inner.get("format").and_then(Value::as_str).unwrap_or("wav");
            let data = inner.get("data")?.as_str()?;
            Some(Part::Inline { inline_data: Inline { mime_type: format!("audio/{format}").into(), data } })
        }
        "file" => {
            let (mime, data) = data_url(inner.get("file_data")?.as_str()?)?;
            Some(Part::Inline { inline_data: Inline { mime_type: mime.into(), data } })
        }
        _ => None,
    }
}

fn declarations(call: &Call) -> Result<Vec<Value>, Error> {
    let mut list = Vec::new();
    for tool in tools(call) {
        if tool.name.is_empty() {
            return Err(unsayable(call, "tools", "tools of another type than function"));
        }
        let mut one = json!({"name": tool.name});
        if let Some(o) = one.as_object_mut() {
            if let Some(d) = &tool.description {
                o.insert("description".into(), d.as_str().into());
            }
            let parameters = tool.parameters.as_deref().map(schema::subset);
            // An object without properties is refused.
            let given =
                |p: &Value| p.get("properties").and_then(Value::as_object).is_some_and(|p| !p.is_empty());
            if let Some(p) = parameters.filter(given) {
                o.insert("parameters".into(), p);
            }
        }
        list.push(one);
    }
    Ok(if list.is_empty() { Vec::new() } else { vec![json!({"functionDeclarations": list})] })
}

fn tool_config(call: &Call) -> Option<Value> {
    if tools(call).is_empty() {
        return None;
    }
    let config = match call.tool_choice() {
        ToolChoice::Unset => return None,
        ToolChoice::None => json!({"mode": "NONE"}),
        ToolChoice::Auto | ToolChoice::Allowed { required: false, .. } => json!({"mode": "AUTO"}),
        ToolChoice::Required | ToolChoice::Allowed { required: true, .. } => json!({"mode": "ANY"}),
        ToolChoice::Function(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
    };
    Some(json!({ "functionCallingConfig": config }))
}
