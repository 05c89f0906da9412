//! What rules allow a run, and the values they give its workflow: as it is kept, so that it holds whenever the run
//! goes on.

use crate::calls::Ceilings;
use crate::caps;
use crate::ledger::Limits;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use types::directives::{AssumedPrice, CacheRule, Directives, LimitRule, RetryRule, Set};
use types::matrix::{Matrix, ModelSet, Price};

/// What is allowed in every call and in all of them together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Bounds {
    /// Ceilings of every call.
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    temperature: Option<f64>,
    /// Limits of rules, each with the rule that sets it, for what is done after the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    limits: Vec<(String, LimitRule)>,
    /// Attempts of one call, other candidates included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<RetryRule>,
    /// Models that what is escalated goes to; empty = no rule says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    escalate: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    premium: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    assumed: Option<AssumedPrice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache: Option<CacheRule>,
    /// Calls of the whole run, and their tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calls: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<u32>,
    /// Values of the workflow's own variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) vars: Vec<(String, Value)>,
}

impl Bounds {
    /// Those of a request's rules.
    pub(super) fn of(directives: &Directives, matrix: &Matrix) -> Self {
        let (of_calls, of_all) = (caps::ceilings(directives), caps::limits(directives));
        let models = of_calls.escalate.iter().flat_map(|set| set.iter());
        let assumed = directives.further.as_ref().and_then(|f| f.assume_price.as_ref());
        Bounds {
            max_tokens: of_calls.max_tokens,
            temperature: of_calls.temperature,
            limits: of_calls.limits.iter().map(|s| (s.rule.to_string(), s.value.clone())).collect(),
            attempts: of_calls.attempts,
            retry: of_calls.retry,
            escalate: models.filter_map(|ix| matrix.model(ix)).map(|m| m.id.to_string()).collect(),
            premium: of_calls.premium,
            assumed: assumed.map(|a| a.value),
            cache: of_calls.cache,
            calls: of_all.calls,
            tokens: of_all.tokens,
            vars: caps::vars(directives),
        }
    }

    /// What holds in every call; models that are gone since are left out.
    pub(super) fn ceilings(&self, matrix: &Matrix) -> Ceilings {
        let limit =
            |(rule, limit): &(String, LimitRule)| Set { value: limit.clone(), rule: rule.as_str().into() };
        let mut escalate = ModelSet::default();
        self.escalate.iter().filter_map(|id| matrix.find(id)).for_each(|ix| escalate.insert(ix));
        Ceilings {
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            attempts: self.attempts,
            retry: self.retry.clone(),
            escalate: (!self.escalate.is_empty()).then(|| Arc::new(escalate)),
            premium: self.premium,
            cache: self.cache,
            assumed: self.assumed.map(|a| Price::new(a.input, a.output)),
            limits: self.limits.iter().map(limit).collect(),
        }
    }

    /// What holds for all calls together.
    pub(super) const fn limits(&self) -> Limits {
        Limits { calls: self.calls, tokens: self.tokens, usd: None, fresh: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::directives::{CacheScope, Caching, Escalate, Further};
    use types::matrix::{Dialect, Model, Provider};

    #[test]
    fn what_rules_say_comes_back_from_paper() {
        let model = |name: &str| Model::new(format!("p/{name}"), 0, (8_000, 1_000));
        let matrix = Matrix::new(vec![Provider::new("p", Dialect::Simulated)], vec![model("a"), model("b")]);
        let mut to = ModelSet::default();
        matrix.find("p/b").into_iter().for_each(|ix| to.insert(ix));
        fn set<T>(value: T) -> Set<T> {
            Set { value, rule: "r".into() }
        }
        let further = Further {
            cap_attempts: Some(set(3)),
            cap_calls: Some(set(4)),
            cap_tokens: Some(set(500)),
            retry: Some(set(RetryRule {
                max: 2,
                backoff_ms: Some(7),
                factor: Some(1.5),
                codes: vec!["timeout".to_owned()],
                ..RetryRule::default()
            })),
            escalate: Some(set(Escalate::Models(to.clone()))),
            premium: Some(set(true)),
            cache: Some(set(CacheRule { mode: Caching::ReadOnly, ttl_ms: Some(5), scope: CacheScope::Key })),
            assume_price: Some(set(AssumedPrice { input: 1.0, output: 2.0 })),
            vars: [("draft".to_owned(), set(Value::from(5)))].into(),
            ..Further::default()
        };
        let directives = Directives {
            cap_max_tokens: Some(set(64)),
            cap_temperature: Some(set(0.5)),
            further: Some(Box::new(further)),
            ..Directives::default()
        };
        let bounds = Bounds::of(&directives, &matrix);
        let again: Bounds = serde_json::from_str(&serde_json::to_string(&bounds).unwrap()).unwrap();
        assert_eq!(again, bounds);
        // Earlier journals say whether only the tenant's own was to be shared.
        for (own, scope) in [(true, CacheScope::Tenant), (false, CacheScope::Engine)] {
            let earlier = serde_json::json!({"mode": "exact", "own": own});
            let rule: CacheRule = serde_json::from_value(earlier).unwrap();
            assert_eq!((rule.mode, rule.scope), (Caching::Exact, scope));
        }
        assert_eq!(format!("{:?}", again.ceilings(&matrix)), format!("{:?}", caps::ceilings(&directives)));
        assert_eq!(format!("{:?}", again.limits()), format!("{:?}", caps::limits(&directives)));
        assert_eq!(again.vars, caps::vars(&directives));
        // What earlier versions wrote.
        let old: Bounds = serde_json::from_str(r#"{"max_tokens": 5, "temperature": null}"#).unwrap();
        assert_eq!(old, Bounds { max_tokens: Some(5), ..Bounds::default() });
    }
}
