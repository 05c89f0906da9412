//! What rules and policies may read of a request: the variables, their types and their values.

use crate::expression::Vars;
use crate::time::{Civil, WEEKDAYS};
use crate::values::{self, list, record, text};
use rhai::Dynamic;
use std::borrow::Cow;
use std::sync::Arc;
use types::axis::{
    Axis, DeterminismNeeds, EconomicPolicy, LatencyClass, PrecisionSensitivity, SafetyPosture, TaskFamily,
};
use types::chat::{ResponseFormat, ToolChoice};
use types::expr::{Scope, Type, Variables};
use types::options::{CacheMode, Mode, Options};
use types::{ChatRequest, WorkloadProfile};

/// What policies are evaluated on.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The request: the variable `request`.
    pub request: &'a ChatRequest,
    /// Its profile: the variable `workload`.
    pub profile: &'a WorkloadProfile,
    /// Whose request: `tenant.id`.
    pub tenant: &'a str,
    /// Unix time in milliseconds, fixed at admission: the variable `time`, and the dates of rules.
    pub unix_ms: i64,
    /// Whether to copy the last user text into `request.last_user_text`, which is `""` otherwise. Take it
    /// from [`crate::PolicySet::wants_text`].
    pub wants_text: bool,
}

const RESPONSE_FORMATS: &[&str] = &["text", "json", "json_schema"];
const TOOL_CHOICES: &[&str] = &["none", "auto", "required", "function"];
const DAYPARTS: &[&str] = &["business_hours", "off_hours"];
const MODES: &[&str] = &["free", "paid", "auto"];
const CACHE_MODES: &[&str] = &["on", "off", "refresh"];

/// Names of the fields that are read most; each gets a getter of its own.
pub(crate) const FIELDS: &[&str] = &[
    "axis_confidence",
    "confidence",
    "context_topology",
    "context_window",
    "date",
    "daypart",
    "determinism_needs",
    "economic_policy",
    "est_input_tokens",
    "est_output_tokens",
    "family",
    "has_images",
    "has_tools",
    "hour",
    "id",
    "language",
    "last_user_text",
    "latency_class",
    "max_tokens",
    "message_count",
    "metadata",
    "minute",
    "model_asked",
    "options",
    "output_contract",
    "precision_sensitivity",
    "price_in",
    "price_out",
    "price_tier",
    "provider",
    "region",
    "request",
    "required_depth",
    "response_format",
    "safety_posture",
    "score",
    "speed_tier",
    "stream",
    "sub_label",
    "supports",
    "tags",
    "task_family",
    "temperature",
    "tenant",
    "text",
    "text_bytes",
    "tier",
    "time",
    "tool_choice",
    "tool_dependence",
    "tool_names",
    "user",
    "validation",
    "verdict",
    "weekday",
    "workload",
];

/// The variables that rules and policies may read, with their types.
///
/// `request`, `workload`, `tenant` and `time`, as described in the policy language; every field is always
/// present, and what is not known is `()`. `time` is in UTC; business hours are Monday to Friday, 09:00
/// to 17:59.
#[must_use]
pub fn request_variables() -> Variables {
    let entry = |name: &str, t: Type| (name.to_owned(), t);
    vec![
        entry("request", request_type()),
        entry("workload", workload_type()),
        entry("tenant", Type::map([("id", Type::Str)])),
        entry(
            "time",
            Type::map([
                ("hour", Type::Int),
                ("minute", Type::Int),
                ("weekday", Type::Enum(WEEKDAYS)),
                ("daypart", Type::Enum(DAYPARTS)),
                ("date", Type::Str),
            ]),
        ),
    ]
}

fn request_type() -> Type {
    Type::map([
        ("model_asked", Type::Str),
        ("stream", Type::Bool),
        ("message_count", Type::Int),
        ("text_bytes", Type::Int),
        ("has_images", Type::Bool),
        ("has_tools", Type::Bool),
        ("tool_names", Type::Str.list()),
        ("tool_choice", Type::Enum(TOOL_CHOICES).optional()),
        ("response_format", Type::Enum(RESPONSE_FORMATS)),
        ("max_tokens", Type::Int.optional()),
        ("temperature", Type::Float.optional()),
        ("user", Type::Str.optional()),
        ("metadata", Type::Any),
        ("options", options_type()),
        ("last_user_text", Type::Str),
    ])
}

fn options_type() -> Type {
    Type::map([
        ("max_latency_ms", Type::Int.optional()),
        ("max_cost_usd", Type::Float.optional()),
        ("min_quality", Type::Float.optional()),
        ("min_quality_tier", Type::Int.optional()),
        ("economy", Type::Enum(EconomicPolicy::NAMES).optional()),
        ("latency_class", Type::Enum(LatencyClass::NAMES).optional()),
        ("precision", Type::Enum(PrecisionSensitivity::NAMES).optional()),
        ("determinism", Type::Enum(DeterminismNeeds::NAMES).optional()),
        ("safety", Type::Enum(SafetyPosture::NAMES).optional()),
        ("task_family", Type::Enum(TaskFamily::NAMES).optional()),
        ("workflow", Type::Str.optional()),
        ("prefer", Type::Str.list()),
        ("require", Type::Str.list()),
        ("exclude", Type::Str.list()),
        ("mode", Type::Enum(MODES).optional()),
        ("session", Type::Str.optional()),
        ("tags", Type::Any),
        ("cache", Type::Enum(CACHE_MODES).optional()),
        ("explain", Type::Bool),
    ])
}

fn workload_type() -> Type {
    const SUB_LABELS: &[&str] = &["math", "creative", "summarisation", "translation", "knowledge_qa"];
    let mut fields: Vec<(&str, Type)> = Axis::ALL.map(|a| (a.as_str(), Type::Enum(a.values()))).to_vec();
    fields.extend([
        ("sub_label", Type::Enum(SUB_LABELS).optional()),
        ("confidence", Type::Float),
        ("axis_confidence", Type::map(Axis::ALL.map(|a| (a.as_str(), Type::Float)))),
        ("est_input_tokens", Type::Int),
        ("est_output_tokens", Type::Int),
        ("language", Type::Str),
    ]);
    Type::map(fields)
}

/// Binds the variables of [`request_variables`] to the values of one request.
///
/// Built once per request; every rule, policy and workflow condition shares it.
#[must_use]
pub fn scope(inputs: &Inputs<'_>) -> Scope {
    let fields = vec![
        ("request".into(), request(inputs)),
        ("workload".into(), workload(inputs.profile)),
        ("tenant".into(), record(vec![("id".into(), text(inputs.tenant))])),
        ("time".into(), time(inputs.unix_ms)),
    ];
    Scope(Arc::new(Vars::new(fields, Some(inputs.unix_ms))))
}

fn request(inputs: &Inputs<'_>) -> Dynamic {
    let (request, facts) = (inputs.request, &inputs.profile.facts);
    let metadata = request
        .raw("metadata")
        .and_then(|raw| serde_json::from_str(raw).ok())
        .filter(serde_json::Value::is_object)
        .map_or_else(|| record(Vec::new()), |v| values::from_json(&v));
    let choice = match request.tool_choice {
        ToolChoice::Unset => Dynamic::UNIT,
        ToolChoice::None => "none".into(),
        ToolChoice::Auto => "auto".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Function(_) => "function".into(),
    };
    let format = match request.response_format {
        ResponseFormat::Text => "text",
        ResponseFormat::JsonObject => "json",
        ResponseFormat::JsonSchema { .. } => "json_schema",
    };
    let last_user_text = match request.last_user() {
        Some(message) if inputs.wants_text => text(&message.content.text()),
        _ => text(""),
    };
    record(vec![
        ("model_asked".into(), text(&request.model)),
        ("stream".into(), request.stream.into()),
        ("message_count".into(), int(request.messages.len())),
        ("text_bytes".into(), i64::from(facts.text_bytes).into()),
        ("has_images".into(), (facts.images > 0).into()),
        ("has_tools".into(), (!request.tools.is_empty()).into()),
        ("tool_names".into(), list(request.tools.iter().map(|t| text(&t.name)).collect())),
        ("tool_choice".into(), choice),
        ("response_format".into(), format.into()),
        ("max_tokens".into(), optional(request.params.max_tokens.map(i64::from))),
        ("temperature".into(), optional(request.params.temperature)),
        ("user".into(), request.user.as_deref().map_or(Dynamic::UNIT, text)),
        ("metadata".into(), metadata),
        ("options".into(), options(&request.options)),
        ("last_user_text".into(), last_user_text),
    ])
}

fn options(o: &Options) -> Dynamic {
    use types::axis::AxisValue as _;
    let name = |s: Option<&'static str>| s.map_or(Dynamic::UNIT, Dynamic::from);
    let strings = |l: &[String]| list(l.iter().map(|s| text(s)).collect());
    let mode = o.mode.map(|m| match m {
        Mode::Free => "free",
        Mode::Paid => "paid",
        Mode::Auto => "auto",
    });
    let cache = o.cache.map(|c| match c {
        CacheMode::On => "on",
        CacheMode::Off => "off",
        CacheMode::Refresh => "refresh",
    });
    let tags = o.tags.iter().map(|(k, v)| (Cow::Owned(k.clone()), text(v))).collect();
    record(vec![
        ("max_latency_ms".into(), optional(o.max_latency.map(|d| saturating(d.as_millis())))),
        ("max_cost_usd".into(), optional(o.max_cost.map(types::Usd::dollars))),
        ("min_quality".into(), optional(o.min_quality.map(types::UnitInterval::get))),
        ("min_quality_tier".into(), optional(o.min_quality_tier.map(i64::from))),
        ("economy".into(), name(o.economy.map(|v| v.as_str()))),
        ("latency_class".into(), name(o.latency_class.map(|v| v.as_str()))),
        ("precision".into(), name(o.precision.map(|v| v.as_str()))),
        ("determinism".into(), name(o.determinism.map(|v| v.as_str()))),
        ("safety".into(), name(o.safety.map(|v| v.as_str()))),
        ("task_family".into(), name(o.task_family.map(|v| v.as_str()))),
        ("workflow".into(), o.workflow.as_deref().map_or(Dynamic::UNIT, text)),
        ("prefer".into(), strings(&o.prefer)),
        ("require".into(), strings(&o.require)),
        ("exclude".into(), strings(&o.exclude)),
        ("mode".into(), name(mode)),
        ("session".into(), o.session.as_deref().map_or(Dynamic::UNIT, text)),
        ("tags".into(), record(tags)),
        ("cache".into(), name(cache)),
        ("explain".into(), o.explain.into()),
    ])
}

fn workload(profile: &WorkloadProfile) -> Dynamic {
    let axes = profile.axes();
    let mut fields: Vec<(Cow<'static, str>, Dynamic)> =
        axes.iter().map(|(axis, value, _)| (Cow::Borrowed(*axis), (*value).into())).collect();
    let confidences = axes.iter().map(|(axis, _, c)| (Cow::Borrowed(*axis), f64::from(*c).into())).collect();
    fields.extend([
        ("sub_label".into(), profile.sub_label.map_or(Dynamic::UNIT, |s| s.as_str().into())),
        ("confidence".into(), f64::from(profile.confidence).into()),
        ("axis_confidence".into(), record(confidences)),
        ("est_input_tokens".into(), i64::from(profile.facts.est_input_tokens).into()),
        ("est_output_tokens".into(), i64::from(profile.facts.est_output_tokens).into()),
        ("language".into(), profile.facts.language.into()),
    ]);
    record(fields)
}

fn time(unix_ms: i64) -> Dynamic {
    let c = Civil::of(unix_ms);
    let weekday = WEEKDAYS.get(c.weekday).copied().unwrap_or("mon");
    record(vec![
        ("hour".into(), c.hour.into()),
        ("minute".into(), c.minute.into()),
        ("weekday".into(), weekday.into()),
        ("daypart".into(), c.daypart().into()),
        ("date".into(), text(&format!("{:04}-{:02}-{:02}", c.year, c.month, c.day))),
    ])
}

fn optional(value: Option<impl Into<Dynamic>>) -> Dynamic {
    value.map_or(Dynamic::UNIT, Into::into)
}

fn int(n: usize) -> Dynamic {
    i64::try_from(n).unwrap_or(i64::MAX).into()
}

fn saturating(n: u128) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use crate::values::{Record, to_json};
    use serde_json::{Value, json};

    /// Whether a value has a type, every field included.
    fn fits(value: &Value, t: &Type, path: &str) {
        match t {
            Type::Optional(inner) => {
                if !value.is_null() {
                    fits(value, inner, path);
                }
            }
            Type::Bool => assert!(value.is_boolean(), "{path}"),
            Type::Int => assert!(value.is_i64(), "{path}"),
            Type::Float => assert!(value.is_f64(), "{path}"),
            Type::Str => assert!(value.is_string(), "{path}"),
            Type::Enum(values) => assert!(values.contains(&value.as_str().unwrap_or("?")), "{path}: {value}"),
            Type::List(of) => value.as_array().unwrap().iter().for_each(|v| fits(v, of, path)),
            Type::Any => {}
            Type::Map(fields) => {
                let map = value.as_object().unwrap();
                assert_eq!(map.len(), fields.len(), "{path}");
                for (name, t) in fields {
                    fits(
                        map.get(name).unwrap_or_else(|| panic!("{path}.{name}")),
                        t,
                        &format!("{path}.{name}"),
                    );
                }
            }
        }
    }

    #[test]
    fn every_declared_field_is_there_with_its_type() {
        for body in [testing::plain_body(), testing::full_body()] {
            let request = ChatRequest::from_value(&body).unwrap();
            let profile = testing::profile();
            let inputs =
                Inputs { request: &request, profile: &profile, tenant: "acme", unix_ms: 0, wants_text: true };
            let scope = scope(&inputs);
            let vars = scope.0.downcast_ref::<Vars>().unwrap();
            for (name, t) in request_variables() {
                fits(&to_json(vars.record().get(&name).unwrap()), &t, &name);
            }
        }
    }

    #[test]
    fn values_are_those_of_the_request() {
        let request = ChatRequest::from_value(&testing::full_body()).unwrap();
        let profile = testing::profile();
        let mut inputs =
            Inputs { request: &request, profile: &profile, tenant: "acme", unix_ms: 0, wants_text: true };
        let read = |inputs: &Inputs<'_>, path: [&str; 2]| {
            let scope = scope(inputs);
            let vars = scope.0.downcast_ref::<Vars>().unwrap();
            let outer = vars.record().get(path[0]).unwrap().clone();
            to_json(outer.read_lock::<Record>().unwrap().get(path[1]).unwrap())
        };
        assert_eq!(read(&inputs, ["request", "tool_names"]), json!(["search"]));
        assert_eq!(read(&inputs, ["request", "response_format"]), json!("json"));
        assert_eq!(read(&inputs, ["request", "metadata"]), json!({"team": "a"}));
        assert_eq!(read(&inputs, ["request", "last_user_text"]), json!("hello"));
        assert_eq!(read(&inputs, ["tenant", "id"]), json!("acme"));
        assert_eq!(read(&inputs, ["time", "weekday"]), json!("thu"));
        inputs.wants_text = false;
        assert_eq!(read(&inputs, ["request", "last_user_text"]), json!(""));
    }
}
