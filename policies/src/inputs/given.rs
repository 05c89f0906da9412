//! Variables that are written down rather than read from a request: of policy tests, of recorded requests, of
//! witnesses.

use super::{ROOT, exists, model_state_type, provider_type, variables};
use crate::expression::Vars;
use crate::phase::Phase;
use crate::time::{self, Civil};
use serde_json::{Map, Value, json};
use types::diagnostic::suggestion;
use types::expr::{Scope, Type};

/// What is wrong with values that are written down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}`: {message}")]
pub struct Problem {
    /// Where, such as `tenant.tier`.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

/// The moment that holds where none is given: 2026-11-23T12:00:00Z, a Monday.
const NOON: i64 = 1_795_435_200_000;

/// The variables of a phase with these values; what is not given takes its default.
///
/// Beside the variables, `at` (a date-time, or Unix milliseconds) sets the moment, `providers` the state of providers
/// by name, `models` that of models by identifier. The
/// defaults are those of an ordinary request: a chat of one short message, a silver tenant, a green budget,
/// noon of a working day, healthy providers and models, nothing found in the texts.
///
/// # Errors
/// Every field that is unknown or has the wrong type.
pub fn scope_of(given: &Value, phase: Phase) -> Result<Scope, Vec<Problem>> {
    let empty = Map::new();
    let Some(given) = (if given.is_null() { Some(&empty) } else { given.as_object() }) else {
        return Err(vec![Problem { path: String::new(), message: "the variables are no map".to_owned() }]);
    };
    let mut problems = Vec::new();
    let mut values = Vec::new();
    let moment = moment(given, &mut problems);
    for (name, ty) in variables(phase) {
        let mut value = default_of(&name, &ty);
        if name == "time" {
            value = clock(moment);
        }
        if let Some(own) = given.get(&name) {
            lay_over(&mut value, own, &ty, &name, &mut problems);
        }
        values.push((name, value));
    }
    for (name, ty) in [("providers", provider_type()), ("models", model_state_type())] {
        let mut all = Value::Object(Map::new());
        if let Some(own) = given.get(name) {
            states(&mut all, own, (name, &ty), &mut problems);
        }
        values.push((name.to_owned(), all));
    }
    let known: Vec<&str> = ROOT
        .0
        .iter()
        .map(|f| f.name)
        .filter(|n| exists(n, phase))
        .chain(["at", "providers", "models"])
        .collect();
    for name in given.keys().filter(|k| !known.contains(&k.as_str())) {
        let message = format!("there is no such variable; {}", suggestion(name, known.iter().copied()));
        problems.push(Problem { path: name.clone(), message });
    }
    if problems.is_empty() {
        Ok(Scope(std::sync::Arc::new(Vars::given(values, moment))))
    } else {
        Err(problems)
    }
}

fn moment(given: &Map<String, Value>, problems: &mut Vec<Problem>) -> i64 {
    let Some(at) = given.get("at") else { return NOON };
    at.as_str().and_then(time::parse).or(at.as_i64()).unwrap_or_else(|| {
        let message = "expected a date-time with its zone, such as 2026-11-23T12:00:00Z".to_owned();
        problems.push(Problem { path: "at".to_owned(), message });
        NOON
    })
}

fn clock(unix_ms: i64) -> Value {
    let c = Civil::of(unix_ms);
    json!({"hour": c.hour, "minute": c.minute, "weekday": c.weekday(), "daypart": c.daypart(), "date": c.date()})
}

fn states(into: &mut Value, own: &Value, (of, ty): (&str, &Type), problems: &mut Vec<Problem>) {
    let Some(own) = own.as_object() else {
        problems.push(Problem { path: of.to_owned(), message: "expected a map by name".to_owned() });
        return;
    };
    for (name, state) in own {
        let mut value = default_of(of, ty);
        lay_over(&mut value, state, ty, &format!("{of}.{name}"), problems);
        if let Some(into) = into.as_object_mut() {
            into.insert(name.clone(), value);
        }
    }
}

/// What a field is in an ordinary request.
fn default_of(path: &str, ty: &Type) -> Value {
    match path {
        "request.model_asked" => json!("auto"),
        "request.message_count" | "history.turn" => json!(1),
        "request.text_bytes" => json!(400),
        "workload.required_depth" | "workload.precision_sensitivity" => json!("medium"),
        "workload.safety_posture" => json!("standard"),
        "workload.economic_policy" => json!("balanced"),
        "workload.confidence" => json!(0.9),
        "workload.est_input_tokens" => json!(100),
        "workload.est_output_tokens" => json!(300),
        "workload.language" => json!("en"),
        "tenant.id" => json!("default"),
        "tenant.tier" => json!("silver"),
        "tenant.allow_explore" => json!(true),
        "history.last_verdict" | "response.verdict" => json!("none"),
        "tool.side_effect" => json!("unsafe"),
        "tool.trust" => json!("untrusted"),
        "run.workflow" => json!("default"),
        "run.calls" => json!(1),
        "response.finish_reason" => json!("stop"),
        _ => match ty {
            Type::Bool => json!(false),
            Type::Int => json!(0),
            Type::Float if path.starts_with("workload.axis_confidence") => json!(0.9),
            Type::Float => json!(0.0),
            Type::Str => json!(""),
            Type::Enum(values) => values.first().map_or(Value::Null, |v| json!(v)),
            Type::OneOf(values) => values.first().map_or(Value::Null, |v| json!(&**v)),
            Type::List(_) => json!([]),
            Type::Map(fields) => Value::Object(
                fields.iter().map(|(n, t)| (n.clone(), default_of(&format!("{path}.{n}"), t))).collect(),
            ),
            Type::Any => json!({}),
            Type::Optional(_) => Value::Null,
        },
    }
}

/// Puts given values in the place of defaults.
fn lay_over(into: &mut Value, own: &Value, ty: &Type, path: &str, problems: &mut Vec<Problem>) {
    let wrong = |expected: String, problems: &mut Vec<Problem>| {
        problems.push(Problem { path: path.to_owned(), message: format!("expected {expected}") });
    };
    match (ty, own) {
        (Type::Map(fields), Value::Object(members)) => {
            for (name, value) in members {
                let at = format!("{path}.{name}");
                match (fields.iter().find(|(n, _)| n == name), into.get_mut(name)) {
                    (Some((_, ty)), Some(slot)) => lay_over(slot, value, ty, &at, problems),
                    _ => {
                        let known = fields.iter().map(|(n, _)| n.as_str());
                        let message = format!("there is no such field; {}", suggestion(name, known));
                        problems.push(Problem { path: at, message });
                    }
                }
            }
        }
        (Type::Optional(_), Value::Null) => *into = Value::Null,
        (Type::Optional(of), own) => lay_over(into, own, of, path, problems),
        (Type::Enum(values), Value::String(s)) if values.contains(&s.as_str()) => *into = own.clone(),
        (Type::Enum(values), _) => wrong(format!("one of {}", values.join(", ")), problems),
        (Type::OneOf(values), Value::String(s)) if values.iter().any(|v| **v == *s) => *into = own.clone(),
        (Type::OneOf(values), _) => wrong(format!("one of {}", values.join(", ")), problems),
        (Type::List(of), Value::Array(items)) => {
            let mut all = Vec::with_capacity(items.len());
            for (i, item) in items.iter().enumerate() {
                let mut slot = default_of("", of);
                lay_over(&mut slot, item, of, &format!("{path}[{i}]"), problems);
                all.push(slot);
            }
            *into = Value::Array(all);
        }
        (Type::Float, Value::Number(n)) => *into = json!(n.as_f64()),
        (Type::Bool, Value::Bool(_)) | (Type::Str, Value::String(_)) | (Type::Any, _) => *into = own.clone(),
        (Type::Int, Value::Number(n)) if n.is_i64() => *into = own.clone(),
        (Type::Bool, _) => wrong("true or false".to_owned(), problems),
        (Type::Int, _) => wrong("a whole number".to_owned(), problems),
        (Type::Float, _) => wrong("a number".to_owned(), problems),
        (Type::Str, _) => wrong("a string".to_owned(), problems),
        (Type::List(_), _) => wrong("a list".to_owned(), problems),
        (Type::Map(_), _) => wrong("a map".to_owned(), problems),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language;
    use types::expr::Type;

    #[test]
    fn what_is_not_given_takes_its_default() {
        let given = json!({"tenant": {"tier": "gold", "labels": {"a": "b"}}, "at": "2026-11-21T08:30:00Z"});
        let scope = scope_of(&given, Phase::Request).unwrap();
        for condition in [
            "tenant.tier == \"gold\" && tenant.id == \"default\"",
            "tenant.labels.a == \"b\"",
            "workload.task_family == \"chat\" && workload.axis_confidence.task_family > 0.5",
            "time.weekday == \"sat\" && time.hour == 8 && time.date == \"2026-11-21\"",
            "request.max_tokens == () && budget.state == \"green\"",
            "request.message_count == 1 && request.tool_names.is_empty()",
        ] {
            let (e, _) =
                language().compile(condition, &variables(Phase::Request), Some(&Type::Bool)).unwrap();
            assert_eq!(e.eval_bool(&scope), Ok(true), "{condition}");
        }
    }

    #[track_caller]
    fn check(given: &Value, want: &[&str]) {
        let got: Vec<_> =
            scope_of(given, Phase::Request).unwrap_err().iter().map(ToString::to_string).collect();
        for (got, want) in got.iter().zip(want) {
            assert!(got.contains(want), "{got}");
        }
        assert_eq!(got.len(), want.len(), "{got:?}");
    }

    #[test]
    fn unknown_fields_and_wrong_values_are_told() {
        check(&json!({"tenat": {}}), &["`tenat`: there is no such variable; did you mean `tenant`?"]);
        check(
            &json!({"tenant": {"teir": "gold"}}),
            &["`tenant.teir`: there is no such field; did you mean `tier`?"],
        );
        check(&json!({"tenant": {"tier": "golden"}}), &["`tenant.tier`: expected one of bronze, silver"]);
        check(&json!({"request": {"stream": 1, "message_count": 1.5}}), &["true or false", "a whole number"]);
        check(&json!({"tool": {"name": "x"}}), &["`tool`: there is no such variable"]);
        check(&json!({"at": "noon", "providers": {"a": {"status": "x"}}}), &["`at`", "`providers.a.status`"]);
        check(&json!([]), &["no map"]);
    }
}
