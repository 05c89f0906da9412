//! What rules and policies may read of a request: the variables, their types and their values.
//!
//! Nothing is copied in advance: a field is read when a condition or a policy reads it.

mod request;
mod table;
mod workload;

pub(crate) use table::{Get, Table, Val};
pub(crate) use workload::SUB_LABELS;

use crate::expression::Vars;
use crate::time::{Civil, DAYPARTS, WEEKDAYS};
use rhai::Dynamic;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use table::{leaf, table};
use types::expr::{Scope, Type, Variables};
use types::{ChatRequest, WorkloadProfile};

/// What policies are evaluated on.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The request: the variable `request`.
    pub request: &'a Arc<ChatRequest>,
    /// Its profile: the variable `workload`.
    pub profile: &'a WorkloadProfile,
    /// Whose request: `tenant.id`.
    pub tenant: &'a str,
    /// Unix time in milliseconds, fixed at admission: the variable `time`, and the dates of rules.
    pub unix_ms: i64,
}

/// What the variables of one request are read from.
#[derive(Debug)]
pub(crate) struct Facts {
    request: Arc<ChatRequest>,
    profile: WorkloadProfile,
    tenant: Box<str>,
    pub(crate) unix_ms: i64,
    time: Civil,
    date: OnceLock<String>,
    last_user_text: OnceLock<String>,
    metadata: OnceLock<Dynamic>,
}

impl Facts {
    fn last_user_text(&self) -> &str {
        match self.request.last_user().map(|m| m.content.text()) {
            None => "",
            Some(Cow::Borrowed(text)) => text,
            Some(Cow::Owned(text)) => self.last_user_text.get_or_init(|| text),
        }
    }
}

/// The variables.
pub(crate) static ROOT: Table = Table(&[
    table("request", &request::REQUEST),
    table("workload", &workload::WORKLOAD),
    table("tenant", &TENANT),
    table("time", &TIME),
]);

static TENANT: Table = Table(&[leaf("id", || Type::Str, |f| Val::Str(&f.tenant))]);

static TIME: Table = Table(&[
    leaf("hour", || Type::Int, |f| f.time.hour.into()),
    leaf("minute", || Type::Int, |f| f.time.minute.into()),
    leaf("weekday", || Type::Enum(WEEKDAYS), |f| f.time.weekday().into()),
    leaf("daypart", || Type::Enum(DAYPARTS), |f| f.time.daypart().into()),
    leaf("date", || Type::Str, |f| Val::Str(f.date.get_or_init(|| f.time.date()))),
]);

/// The variables that rules and policies may read, with their types.
///
/// `request`, `workload`, `tenant` and `time`, as described in the policy language; every field is always
/// present, and what is not known is `()`. `time` is in UTC; business hours are Monday to Friday, 09:00
/// to 17:59.
#[must_use]
pub fn request_variables() -> Variables {
    ROOT.0.iter().map(|f| (f.name.to_owned(), f.ty())).collect()
}

/// Binds the variables of [`request_variables`] to the values of one request.
///
/// Made once per request; every rule, policy and workflow condition shares it. Costs nothing but the copy
/// of the profile: values are read when they are asked for.
#[must_use]
pub fn scope(inputs: &Inputs<'_>) -> Scope {
    Scope(Arc::new(Vars::of_request(Facts {
        request: Arc::clone(inputs.request),
        profile: inputs.profile.clone(),
        tenant: inputs.tenant.into(),
        unix_ms: inputs.unix_ms,
        time: Civil::of(inputs.unix_ms),
        date: OnceLock::new(),
        last_user_text: OnceLock::new(),
        metadata: OnceLock::new(),
    })))
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
            let request = Arc::new(ChatRequest::from_value(&body).unwrap());
            let profile = testing::profile();
            let scope = scope(&Inputs { request: &request, profile: &profile, tenant: "acme", unix_ms: 0 });
            let vars = scope.0.downcast_ref::<Vars>().unwrap();
            for (name, t) in request_variables() {
                fits(&to_json(&vars.record().get(&name).unwrap()), &t, &name);
            }
        }
    }

    #[test]
    fn values_are_those_of_the_request() {
        let request = Arc::new(ChatRequest::from_value(&testing::full_body()).unwrap());
        let profile = testing::profile();
        let inputs = Inputs { request: &request, profile: &profile, tenant: "acme", unix_ms: 0 };
        let read = |inputs: &Inputs<'_>, path: [&str; 2]| {
            let scope = scope(inputs);
            let vars = scope.0.downcast_ref::<Vars>().unwrap();
            let outer = vars.record().get(path[0]).unwrap();
            to_json(&outer.read_lock::<Record>().unwrap().get(path[1]).unwrap())
        };
        assert_eq!(read(&inputs, ["request", "tool_names"]), json!(["search"]));
        assert_eq!(read(&inputs, ["request", "response_format"]), json!("json"));
        assert_eq!(read(&inputs, ["request", "metadata"]), json!({"team": "a"}));
        assert_eq!(read(&inputs, ["request", "last_user_text"]), json!("hello"));
        assert_eq!(read(&inputs, ["tenant", "id"]), json!("acme"));
        assert_eq!(read(&inputs, ["time", "weekday"]), json!("thu"));
    }
}
