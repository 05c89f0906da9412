//! What a change says of lists and labels: what is not named stays, so that no change gives more than there was without
//! saying so.

use super::fields::{self, Patch};
use crate::error::Failure;
use http::StatusCode;
use serde::Deserialize;
use std::collections::BTreeMap;
use types::control::{Object, Quota, Scopes};
use types::limits::Metric;

/// Lists of a scope; one that is not named stays, an empty one allows everything.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Lists {
    #[serde(deserialize_with = "fields::given")]
    pub(crate) models: Option<Vec<String>>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) workflows: Option<Vec<String>>,
    #[serde(deserialize_with = "fields::given")]
    pub(crate) endpoints: Option<Vec<String>>,
}

impl Lists {
    pub(crate) fn apply(self, scopes: &mut Scopes) {
        fields::set(&mut scopes.models, self.models);
        fields::set(&mut scopes.workflows, self.workflows);
        fields::set(&mut scopes.endpoints, self.endpoints);
    }
}

/// Labels by name: a value sets one, `null` takes it away, and `null` in the place of all takes all away.
pub(crate) type Labels = Patch<BTreeMap<String, Option<String>>>;

/// # Errors
/// 400: which label is wrong.
pub(crate) fn labels(change: Labels, of: &mut BTreeMap<String, String>) -> Result<(), Failure> {
    match change {
        Patch::Keep => {}
        Patch::Clear => of.clear(),
        Patch::Set(change) => {
            for (name, value) in change {
                match value {
                    Some(value) => of.insert(name, value),
                    None => of.remove(&name),
                };
            }
        }
    }
    fields::labels(of)
}

/// A limit that takes the place of the one of the same kind, or with `amount: null` takes that away.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Amended {
    metric: Metric,
    #[serde(deserialize_with = "fields::nullable")]
    amount: Option<f64>,
    #[serde(default, deserialize_with = "fields::given")]
    per: Option<String>,
    #[serde(default, deserialize_with = "fields::given")]
    model: Option<String>,
    #[serde(default, deserialize_with = "fields::given")]
    label: Option<String>,
    #[serde(default, deserialize_with = "fields::given")]
    reserved_premium: Option<f64>,
}

impl Amended {
    /// Whether a limit counts the same, over the same time, of the same requests.
    fn is_of_the_kind_of(&self, q: &Quota) -> bool {
        (self.metric, &self.per, &self.model, &self.label) == (q.metric, &q.per, &q.model, &q.label)
    }

    /// As it would be kept; one that is taken away with an amount that nobody sees.
    fn quota(&self) -> Quota {
        let Amended { metric, amount, per, model, label, reserved_premium } = self.clone();
        Quota { metric, amount: amount.unwrap_or(1.0), per, model, label, reserved_premium }
    }
}

/// Limits by kind; `null` in the place of all takes all away.
pub(crate) type Limits = Patch<Vec<Amended>>;

/// `check` sees those that are set.
///
/// # Errors
/// 400: which limit is wrong.
pub(crate) fn limits(
    change: Limits,
    of: &mut Vec<Quota>,
    check: impl Fn(&[Quota]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    match change {
        Patch::Keep => Ok(()),
        Patch::Clear => {
            of.clear();
            Ok(())
        }
        Patch::Set(change) if change.is_empty() => {
            let text = "`limits` names none: limits that are not named stay, `amount: null` takes one away, and \
                        `limits: null` takes all of them away";
            Err(Failure::bad_request("invalid_value", text.to_owned()).param("limits"))
        }
        Patch::Set(change) => {
            // Those that are taken away, too: one with an odd window is a mistake, and nothing would be taken away.
            let named: Vec<Quota> = change.iter().map(Amended::quota).collect();
            fields::limits(&named)?;
            of.retain(|q| !change.iter().any(|c| c.is_of_the_kind_of(q)));
            let set = || change.iter().filter(|c| c.amount.is_some()).map(Amended::quota);
            check(&set().collect::<Vec<_>>())?;
            of.extend(set());
            fields::limits(of)
        }
    }
}

/// That something is still as a change that names a version found it.
///
/// # Errors
/// 409 with the version that it has by now.
pub(crate) fn version(named: Option<u64>, of: &Object) -> Result<(), Failure> {
    match named {
        Some(version) if version != of.version => {
            let text = format!(
                "`version` is {version}, but {} `{}` has version {} by now: somebody else changed it; read it again",
                of.kind.replace('_', " "),
                of.id,
                of.version
            );
            Err(Failure::new(StatusCode::CONFLICT, "conflict", text).param("version"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Known;
    use super::*;
    use serde_json::{Value, json};

    fn known() -> Known {
        Known {
            models: Vec::new(),
            ready: Vec::new(),
            pools: Vec::new(),
            selects: Box::new(|name| name != "nobody"),
            workflows: Vec::new(),
            default_budget: 10.0,
        }
    }

    /// What becomes of limits by a change, as JSON; `Err` = its code.
    fn changed(of: &Value, change: &Value) -> Result<Value, String> {
        #[derive(Deserialize)]
        struct Change {
            #[serde(deserialize_with = "fields::patch_objects")]
            limits: Limits,
        }
        let Change { limits } =
            serde_json::from_value(json!({ "limits": change })).map_err(|e| e.to_string())?;
        let mut of: Vec<Quota> = serde_json::from_value(of.clone()).unwrap();
        super::limits(limits, &mut of, |all| known().limits(all)).map_err(|e| e.code.to_string())?;
        Ok(serde_json::to_value(of).unwrap())
    }

    #[test]
    fn a_limit_takes_the_place_of_its_like_and_of_no_other() {
        let usd = json!({"metric": "usd", "amount": 10.0, "per": "day"});
        let month = json!({"metric": "usd", "amount": 100.0, "per": "month"});
        let model = json!({"metric": "usd", "amount": 2.0, "per": "day", "model": "a/*"});
        let label = json!({"metric": "usd", "amount": 1.0, "per": "day", "label": "team=red"});
        let places = json!({"metric": "concurrency", "amount": 4.0});
        let all = json!([usd, month, model, label, places]);
        let rate = json!({"metric": "requests", "amount": 5.0, "per": "second"});
        let with = |of: &Value, amount: Value| {
            let mut of = of.clone();
            of["amount"] = amount;
            of
        };
        for (change, want) in [
            (json!([rate]), json!([usd, month, model, label, places, rate])),
            (json!([with(&usd, json!(5.0))]), json!([month, model, label, places, with(&usd, json!(5.0))])),
            (json!([with(&model, json!(5.0))]), json!([usd, month, label, places, with(&model, json!(5.0))])),
            (json!([with(&label, Value::Null)]), json!([usd, month, model, places])),
            (json!([with(&places, Value::Null), rate]), json!([usd, month, model, label, rate])),
            (json!([with(&rate, Value::Null)]), all.clone()),
            (Value::Null, json!([])),
        ] {
            assert_eq!(changed(&all, &change).unwrap(), want, "{change}");
        }
        for (change, want) in [
            (json!([]), "invalid_value"),
            (json!([{"metric": "usd", "per": "day"}]), "missing field `amount`"),
            (json!([{"metric": "usd", "amount": null}]), "invalid_value"),
            (json!([{"metric": "usd", "amount": 0, "per": "day"}]), "invalid_value"),
            (json!([{"metric": "usd", "amount": 1, "per": "day", "model": "nobody"}]), "unknown_name"),
            (json!([["usd", 1]]), "expected an object"),
        ] {
            let told = changed(&all, &change).unwrap_err();
            assert!(told.contains(want), "{change}: {told}");
        }
        // What is gone from the models can still be taken out of the limits.
        let gone = json!([{"metric": "usd", "amount": 1.0, "per": "day", "model": "nobody"}]);
        assert_eq!(changed(&gone, &json!([with(&gone[0], Value::Null)])).unwrap(), json!([]));
    }

    #[test]
    fn labels_go_by_name() {
        let check = |change: Value, want: Value| {
            let mut of = BTreeMap::from([("locked".to_owned(), "true".to_owned())]);
            labels(fields::patch(change.clone()).unwrap(), &mut of).unwrap();
            assert_eq!(json!(of), want, "{change}");
        };
        check(json!({"team": "red"}), json!({"locked": "true", "team": "red"}));
        check(json!({"locked": "no"}), json!({"locked": "no"}));
        check(json!({"locked": null, "team": "red"}), json!({"team": "red"}));
        check(json!({}), json!({"locked": "true"}));
        check(Value::Null, json!({}));
    }

    #[test]
    fn a_list_that_is_not_named_stays() {
        let mut scopes = Scopes { endpoints: vec!["chat".to_owned()], ..Scopes::default() };
        let change = |value: Value| serde_json::from_value::<Lists>(value).unwrap();
        change(json!({"models": ["a/*"]})).apply(&mut scopes);
        let want = json!({"models": ["a/*"], "workflows": [], "endpoints": ["chat"]});
        assert_eq!(serde_json::to_value(&scopes).unwrap(), want);
        change(json!({})).apply(&mut scopes);
        assert_eq!(serde_json::to_value(&scopes).unwrap(), want);
        change(json!({"endpoints": []})).apply(&mut scopes);
        assert!(scopes.endpoints.is_empty() && scopes.models.len() == 1);
    }
}
