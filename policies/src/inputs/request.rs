//! The variable `request`: what came in, with its options.

use super::table::{Table, Val, leaf, table};
use crate::values::{self, record, text};
use std::borrow::Cow;
use std::time::Duration;
use types::axis::{
    AxisValue, DeterminismNeeds, EconomicPolicy, LatencyClass, PrecisionSensitivity, SafetyPosture,
    TaskFamily,
};
use types::chat::{ResponseFormat, ToolChoice};
use types::expr::Type;
use types::options::{CacheMode, Demand, Mode};

const RESPONSE_FORMATS: &[&str] = &["text", "json", "json_schema"];
const TOOL_CHOICES: &[&str] = &["none", "auto", "required", "function"];
const MODES: &[&str] = &["free", "paid", "auto"];
const CACHE_MODES: &[&str] = &["on", "off", "refresh"];

pub(super) static REQUEST: Table = Table(&[
    leaf("model_asked", || Type::Str, |f| Val::Str(&f.request.model)),
    leaf("stream", || Type::Bool, |f| f.request.stream.into()),
    leaf("message_count", || Type::Int, |f| f.request.messages.len().into()),
    leaf("text_bytes", || Type::Int, |f| f.profile.facts.text_bytes.into()),
    leaf("has_images", || Type::Bool, |f| (f.profile.facts.images > 0).into()),
    leaf("has_tools", || Type::Bool, |f| tools(f).next().is_some().into()),
    leaf("tool_names", || Type::Str.list(), |f| Val::Strs(tools(f).collect())),
    leaf("tool_choice", || Type::Enum(TOOL_CHOICES).optional(), |f| tool_choice(&f.request.tool_choice)),
    leaf(
        "response_format",
        || Type::Enum(RESPONSE_FORMATS),
        |f| {
            Val::Str(match f.request.response_format {
                ResponseFormat::Text => "text",
                ResponseFormat::JsonObject => "json",
                ResponseFormat::JsonSchema { .. } => "json_schema",
            })
        },
    ),
    leaf("max_tokens", || Type::Int.optional(), |f| Val::or_unit(f.request.params.max_tokens)),
    leaf("temperature", || Type::Float.optional(), |f| Val::or_unit(f.request.params.temperature)),
    leaf("user", || Type::Str.optional(), |f| Val::or_unit(f.request.user.as_deref())),
    leaf("metadata", || Type::Any, |f| Val::Made(f.metadata.get_or_init(|| metadata(&f.request)).clone())),
    leaf(
        "headers",
        || Type::Any,
        |f| {
            let headers = f.around.headers.iter();
            Val::Made(record(headers.map(|(k, v)| (Cow::Owned(k.clone()), text(v))).collect()))
        },
    ),
    table("options", &OPTIONS),
    leaf("last_user_text", || Type::Str, |f| Val::Str(f.last_user_text())),
]);

/// Names of all tools that the request offers, those that a vendor runs among them.
fn tools(f: &super::Facts) -> impl Iterator<Item = &str> {
    let own = f.request.tools.iter().map(types::chat::Tool::known_as);
    own.chain(f.request.vendor_tools().map(|(_, name)| name))
}

static OPTIONS: Table = Table(&[
    leaf("max_latency_ms", || Type::Int.optional(), |f| Val::or_unit(f.request.options.max_latency.map(ms))),
    leaf(
        "max_cost_usd",
        || Type::Float.optional(),
        |f| Val::or_unit(f.request.options.max_cost.map(types::Usd::dollars)),
    ),
    leaf(
        "min_quality",
        || Type::Float.optional(),
        |f| Val::or_unit(f.request.options.min_quality.map(types::UnitInterval::get)),
    ),
    leaf("min_quality_tier", || Type::Int.optional(), |f| Val::or_unit(f.request.options.min_quality_tier)),
    leaf("economy", || Type::Enum(EconomicPolicy::NAMES).optional(), |f| name(f.request.options.economy)),
    leaf(
        "latency_class",
        || Type::Enum(LatencyClass::NAMES).optional(),
        |f| name(f.request.options.latency_class),
    ),
    leaf(
        "precision",
        || Type::Enum(PrecisionSensitivity::NAMES).optional(),
        |f| name(f.request.options.precision),
    ),
    leaf(
        "determinism",
        || Type::Enum(DeterminismNeeds::NAMES).optional(),
        |f| name(f.request.options.determinism),
    ),
    leaf("safety", || Type::Enum(SafetyPosture::NAMES).optional(), |f| name(f.request.options.safety)),
    leaf("task_family", || Type::Enum(TaskFamily::NAMES).optional(), |f| name(f.request.options.task_family)),
    leaf("workflow", || Type::Str.optional(), |f| Val::or_unit(f.request.options.workflow.as_deref())),
    leaf("prefer", || Type::Str.list(), |f| selectors(&f.request.options.prefer)),
    leaf("require", || Type::Str.list(), |f| selectors(&f.request.options.require)),
    leaf("exclude", || Type::Str.list(), |f| selectors(&f.request.options.exclude)),
    leaf(
        "mode",
        || Type::Enum(MODES).optional(),
        |f| {
            Val::or_unit(f.request.options.mode.map(|m| match m {
                Mode::Free => "free",
                Mode::Paid => "paid",
                Mode::Auto => "auto",
            }))
        },
    ),
    leaf("session", || Type::Str.optional(), |f| Val::or_unit(f.request.options.session.as_deref())),
    leaf(
        "tags",
        || Type::Any,
        |f| {
            let tags = f.request.options.tags.iter();
            Val::Made(record(tags.map(|(k, v)| (Cow::Owned(k.clone()), text(v))).collect()))
        },
    ),
    leaf(
        "cache",
        || Type::Enum(CACHE_MODES).optional(),
        |f| {
            Val::or_unit(f.request.options.cache.map(|c| match c {
                CacheMode::On => "on",
                CacheMode::Off => "off",
                CacheMode::Refresh => "refresh",
            }))
        },
    ),
    leaf("explain", || Type::Bool, |f| f.request.options.explain.into()),
]);

/// The selectors of all lists together.
fn selectors(demands: &[Demand]) -> Val<'_> {
    Val::Strs(demands.iter().flat_map(|d| &d.selectors).map(String::as_str).collect())
}

fn name<'a>(value: Option<impl AxisValue>) -> Val<'a> {
    Val::or_unit(value.map(|v| v.as_str()))
}

fn ms(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

fn tool_choice<'a>(choice: &ToolChoice) -> Val<'a> {
    match choice {
        ToolChoice::Unset => Val::Unit,
        ToolChoice::None => Val::Str("none"),
        ToolChoice::Auto | ToolChoice::Allowed { required: false, .. } => Val::Str("auto"),
        ToolChoice::Required | ToolChoice::Allowed { required: true, .. } => Val::Str("required"),
        ToolChoice::Function(_) => Val::Str("function"),
    }
}

fn metadata(request: &types::ChatRequest) -> rhai::Dynamic {
    request
        .raw("metadata")
        .and_then(|raw| serde_json::from_str(raw).ok())
        .filter(serde_json::Value::is_object)
        .map_or_else(|| record(Vec::new()), |v| values::from_json(&v))
}
