//! What a request may ask of the router: the `routing` object of the body or `x-turnout-*` headers.

use crate::axis::{
    AxisValue, DeterminismNeeds, EconomicPolicy, LatencyClass, PrecisionSensitivity, SafetyPosture,
    TaskFamily,
};
use crate::units::{UnitInterval, Usd};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Cache behaviour asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMode {
    /// Use and fill.
    On,
    /// Neither use nor fill.
    Off,
    /// Fill only.
    Refresh,
}

/// Which price tiers may be candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Only free tiers.
    Free,
    /// Only paid ones.
    Paid,
    /// Prefer free tiers, pay where the task calls for it.
    #[default]
    Auto,
}

/// A list of models that a request insists on, prefers, or rules out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Member or header that says so, such as `routing.require`.
    pub from: &'static str,
    /// Model selectors.
    pub selectors: Vec<String>,
}

/// A verb of the policy language that a request asks for by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Member or header that says so, such as `routing.stream`.
    pub from: &'static str,
    /// The verb.
    pub verb: &'static str,
    /// As it was given.
    pub argument: Value,
}

/// Options of one request; everything absent by default. Policies outrank them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Ceiling on the whole answer's latency.
    pub max_latency: Option<Duration>,
    /// Ceiling on the cost of the whole request tree.
    pub max_cost: Option<Usd>,
    /// Floor under the lower confidence bound of success.
    pub min_quality: Option<UnitInterval>,
    /// Floor under the model's tier, 1..=3.
    pub min_quality_tier: Option<u8>,
    /// Sets the axis `economic_policy`.
    pub economy: Option<EconomicPolicy>,
    /// Sets the axis `latency_class`.
    pub latency_class: Option<LatencyClass>,
    /// Sets the axis `precision_sensitivity`.
    pub precision: Option<PrecisionSensitivity>,
    /// Sets the axis `determinism_needs`.
    pub determinism: Option<DeterminismNeeds>,
    /// Sets the axis `safety_posture`.
    pub safety: Option<SafetyPosture>,
    /// Sets the axis `task_family`.
    pub task_family: Option<TaskFamily>,
    /// Fixes the workflow.
    pub workflow: Option<String>,
    /// Lists of models to prefer, in order.
    pub prefer: Vec<Demand>,
    /// Lists outside which nothing is a candidate: every one of them holds; empty = no restriction.
    pub require: Vec<Demand>,
    /// Lists of what is no candidate.
    pub exclude: Vec<Demand>,
    /// Price tiers that may be candidates.
    pub mode: Option<Mode>,
    /// Session whose model is kept.
    pub session: Option<String>,
    /// Labels copied to the record.
    pub tags: BTreeMap<String, String>,
    /// Cache behaviour.
    pub cache: Option<CacheMode>,
    /// Verbs of policies, in order: the lowest layer, which every rule outranks.
    pub asks: Vec<Ask>,
    /// What a policy does not allow of the options refuses the request.
    pub strict: bool,
    /// What was asked for in the form of another gateway and has none here.
    pub foreign: crate::foreign::Foreign,
    /// The approval that was given for this request.
    pub approval: Option<String>,
    /// Add a `turnout` object to the answer.
    pub explain: bool,
    /// Options given by header whose value stands for the record, in order.
    pub given: Vec<&'static str>,
}

/// Why an option was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the option as it was written.
    pub option: String,
    /// What is wrong with it and what would be right.
    pub message: String,
}

/// Every option name, as in `routing` and (with dashes) after `x-turnout-`.
pub const NAMES: &[&str] = &[
    "max_latency_ms",
    "max_cost_usd",
    "min_quality",
    "min_quality_tier",
    "economy",
    "latency_class",
    "precision",
    "determinism",
    "safety",
    "task_family",
    "workflow",
    "prefer",
    "require",
    "exclude",
    "mode",
    "session",
    "tags",
    "cache",
    "approval",
    "explain",
    "cap_cost",
    "cap_latency",
    "cap_tokens",
    "avoid",
    "weight",
    "validators",
    "stream",
    "explore",
    "sticky",
    "tag",
    "strict",
];

/// Options that are verbs of policies: name, and how the members of a body and headers that hold them are called.
const VERBS: &[(&str, &str, &str)] = &[
    ("cap_tokens", "routing.cap_tokens", "x-turnout-cap-tokens"),
    ("avoid", "routing.avoid", "x-turnout-avoid"),
    ("weight", "routing.weight", "x-turnout-weight"),
    ("validators", "routing.validators", "x-turnout-validators"),
    ("stream", "routing.stream", "x-turnout-stream"),
    ("explore", "routing.explore", "x-turnout-explore"),
    ("sticky", "routing.sticky", "x-turnout-sticky"),
];

/// What `weight` may be: the term of the utility that counts twice.
const PRESETS: &[&str] = &["price", "latency", "quality", "safety"];
const STREAM_MODES: &[&str] = &["passthrough", "optimistic", "windowed", "buffered"];
const STICKY: &[&str] = &["conversation", "user", "tenant"];
/// Most validators of one request.
const MAX_VALIDATORS: usize = 16;

impl Options {
    /// Sets the option `name` (one of [`NAMES`]) from a JSON value. Said more than once (in the body, in the form
    /// of another gateway, in a header), a restriction only becomes tighter; of everything else the last word counts.
    ///
    /// # Errors
    /// A [`Problem`] that names the nearest known option, or what the value should have been.
    pub fn set(&mut self, name: &str, value: &Value) -> Result<(), Problem> {
        let problem = |message: String| Problem { option: name.to_owned(), message };
        let Some(known) = NAMES.iter().copied().find(|n| *n == name) else {
            let hint = match crate::diagnostic::nearest(name, NAMES.iter().copied()).first() {
                Some(near) => format!("; did you mean `{near}`?"),
                None => format!("; known options are {}", NAMES.join(", ")),
            };
            return Err(problem(format!("unknown option{hint}")));
        };
        let expected = |what: &str| problem(format!("expected {what}"));
        match known {
            "max_latency_ms" => {
                let ms = value.as_u64().filter(|v| (1..=3_600_000).contains(v));
                let given = Duration::from_millis(
                    ms.ok_or_else(|| expected("a whole number of milliseconds, 1..=3600000"))?,
                );
                self.max_latency = Some(self.max_latency.map_or(given, |before| before.min(given)));
            }
            "max_cost_usd" | "cap_cost" => {
                let usd = value.as_f64().filter(|v| (0.0..=10_000.0).contains(v));
                let given = Usd::from_dollars(usd.ok_or_else(|| expected("dollars, 0..=10000"))?);
                self.max_cost = Some(self.max_cost.map_or(given, |before| before.min(given)));
            }
            "cap_latency" => {
                let given = value.as_str().and_then(crate::doc::parse_duration);
                let longest = Duration::from_millis(3_600_000);
                let given = given.filter(|d| !d.is_zero() && *d <= longest);
                let given = given.ok_or_else(|| expected("a duration such as 800ms or 2s, at most 1h"))?;
                self.max_latency = Some(self.max_latency.map_or(given, |before| before.min(given)));
            }
            "min_quality" => {
                let given = value.as_f64().and_then(UnitInterval::new);
                let given = given.ok_or_else(|| expected("a number in 0..=1"))?;
                self.min_quality =
                    self.min_quality.filter(|before| before.get() > given.get()).or(Some(given));
            }
            "min_quality_tier" => {
                let tier = value.as_u64().filter(|v| (1..=3).contains(v)).and_then(|v| u8::try_from(v).ok());
                self.min_quality_tier =
                    self.min_quality_tier.max(Some(tier.ok_or_else(|| expected("1, 2 or 3"))?));
            }
            "economy" => self.economy = Some(one_of(value).map_err(problem)?),
            "latency_class" => self.latency_class = Some(one_of(value).map_err(problem)?),
            "precision" => self.precision = Some(one_of(value).map_err(problem)?),
            "determinism" => self.determinism = Some(one_of(value).map_err(problem)?),
            "safety" => {
                let given: SafetyPosture = one_of(value).map_err(problem)?;
                self.safety =
                    Some(self.safety.filter(|before| before.index() > given.index()).unwrap_or(given));
            }
            "task_family" => self.task_family = Some(one_of(value).map_err(problem)?),
            "workflow" => {
                self.workflow = Some(identifier(value).ok_or_else(|| expected("a workflow's name"))?)
            }
            "approval" => {
                self.approval = Some(identifier(value).ok_or_else(|| expected("an identifier"))?);
            }
            "session" => self.session = Some(identifier(value).ok_or_else(|| expected("an identifier"))?),
            "prefer" => {
                let selectors = identifiers(value).ok_or_else(|| expected("a list of model selectors"))?;
                self.prefer.clear();
                demand(&mut self.prefer, "routing.prefer", selectors);
            }
            "require" => {
                let selectors = identifiers(value).ok_or_else(|| expected("a list of model selectors"))?;
                demand(&mut self.require, "routing.require", selectors);
            }
            "exclude" => {
                let selectors = identifiers(value).ok_or_else(|| expected("a list of model selectors"))?;
                demand(&mut self.exclude, "routing.exclude", selectors);
            }
            "mode" => {
                let given = match value.as_str() {
                    Some("free") => Mode::Free,
                    Some("paid") => Mode::Paid,
                    Some("auto") => Mode::Auto,
                    _ => return Err(expected("free, paid or auto")),
                };
                self.mode = Some(match (self.mode, given) {
                    (None | Some(Mode::Auto), given) => given,
                    (Some(before), Mode::Auto) => before,
                    (Some(before), given) if before == given => given,
                    _ => {
                        return Err(problem(
                            "`free` and `paid` are both asked for, in the body and in a header; no model is both"
                                .to_owned(),
                        ));
                    }
                });
            }
            "tags" | "tag" => {
                let map = value
                    .as_object()
                    .filter(|m| m.len() <= 64)
                    .ok_or_else(|| expected("a map of strings"))?;
                for (k, v) in map {
                    let v = v
                        .as_str()
                        .filter(|s| s.len() <= 256)
                        .ok_or_else(|| expected("a map of short strings"))?;
                    self.tags.insert(k.clone(), v.to_owned());
                }
            }
            "cache" => {
                self.cache = Some(match value.as_str() {
                    Some("on") => CacheMode::On,
                    Some("off") => CacheMode::Off,
                    Some("refresh") => CacheMode::Refresh,
                    _ => return Err(expected("on, off or refresh")),
                });
            }
            "strict" => self.strict = value.as_bool().ok_or_else(|| expected("true or false"))?,
            "explain" => self.explain = value.as_bool().ok_or_else(|| expected("true or false"))?,
            verb => self.ask(verb, value).map_err(problem)?,
        }
        if !self.given.contains(&known) {
            self.given.push(known);
        }
        Ok(())
    }

    /// Takes up a verb of policies. Said more than once, all that restricts counts, and the last word of the rest.
    fn ask(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let Some((verb, from, _)) = VERBS.iter().find(|(verb, ..)| *verb == name) else {
            return Err("is no option of this version".to_owned());
        };
        let argument = match *verb {
            "cap_tokens" => {
                let n = value.as_u64().filter(|n| (1..=u64::from(u32::MAX)).contains(n));
                Value::from(n.ok_or("expected a whole number of tokens, at least 1")?)
            }
            "avoid" => match identifiers(value).ok_or("expected a list of model selectors")? {
                list if list.is_empty() => return Ok(()),
                list => Value::from(list),
            },
            "weight" => Value::from(named(value, PRESETS)?),
            "stream" => Value::from(named(value, STREAM_MODES)?),
            "explore" => Value::from(named(value, &["none"])?),
            "sticky" => Value::from(named(value, STICKY)?),
            _ => validators(value)?,
        };
        if matches!(*verb, "avoid" | "weight" | "sticky") {
            self.asks.retain(|a| a.verb != *verb);
        }
        self.asks.push(Ask { from, verb, argument });
        Ok(())
    }

    /// Sets an option from a header's text: `x-turnout-max-cost-usd: 0.01`, lists separated by commas,
    /// tags as `name=value` pairs.
    ///
    /// # Errors
    /// As for [`Options::set`].
    pub fn set_header(&mut self, header_suffix: &str, text: &str) -> Result<(), Problem> {
        let name = header_suffix.replace('-', "_");
        let value = match name.as_str() {
            "max_latency_ms" | "max_cost_usd" | "min_quality" | "min_quality_tier" | "explain" | "cap_cost"
            | "cap_tokens" | "strict" => serde_json::from_str(text.trim()).unwrap_or(Value::Null),
            "prefer" | "require" | "exclude" | "avoid" | "validators" => {
                Value::Array(text.split(',').map(|s| Value::String(s.trim().to_owned())).collect())
            }
            "tags" | "tag" => Value::Object(
                text.split(',')
                    .filter_map(|pair| pair.split_once('='))
                    .map(|(k, v)| (k.trim().to_owned(), Value::String(v.trim().to_owned())))
                    .collect(),
            ),
            _ => Value::String(text.trim().to_owned()),
        };
        let demands = (self.require.len(), self.exclude.len());
        self.set(&name, &value)?;
        if let Some((verb, _, header)) = VERBS.iter().find(|(verb, ..)| *verb == name)
            && let Some(last) = self.asks.last_mut().filter(|a| a.verb == *verb)
        {
            last.from = header;
        }
        if name == "prefer" {
            self.prefer.iter_mut().for_each(|d| d.from = "x-turnout-prefer");
        }
        self.require.iter_mut().skip(demands.0).for_each(|d| d.from = "x-turnout-require");
        self.exclude.iter_mut().skip(demands.1).for_each(|d| d.from = "x-turnout-exclude");
        Ok(())
    }
}

/// An empty list asks for nothing.
pub(crate) fn demand(list: &mut Vec<Demand>, from: &'static str, selectors: Vec<String>) {
    if !selectors.is_empty() {
        list.push(Demand { from, selectors });
    }
}

/// One of a few names.
fn named<'n>(value: &Value, names: &[&'n str]) -> Result<&'n str, String> {
    let given = value.as_str().unwrap_or_default();
    names.iter().copied().find(|n| *n == given).ok_or_else(|| {
        let near = crate::diagnostic::nearest(given, names.iter().copied());
        let hint = near.first().map_or(String::new(), |n| format!("; did you mean `{n}`?"));
        format!("expected {}{hint}", names.join(", "))
    })
}

/// A list of validators: names, or `{use, with, severity}`.
fn validators(value: &Value) -> Result<Value, String> {
    let fits = |v: &Value| v.as_str().is_some_and(is_identifier) || v.is_object();
    match value.as_array() {
        Some(list) if list.len() <= MAX_VALIDATORS && list.iter().all(fits) => Ok(value.clone()),
        _ => Err(format!("expected a list of up to {MAX_VALIDATORS} validators: names, or {{use, with, severity}}")),
    }
}

/// Takes up LiteLLM's `guardrails`: names of checks.
///
/// # Errors
/// It is no list of names.
pub(crate) fn guardrails(options: &mut Options, value: &Value) -> Result<(), Problem> {
    let problem = |message: &str| Problem { option: "guardrails".to_owned(), message: message.to_owned() };
    let named = value.as_array().filter(|l| l.len() <= MAX_VALIDATORS && l.iter().all(Value::is_string));
    let list = named.ok_or_else(|| problem("expected a list of names of validators"))?;
    if !list.is_empty() {
        options.asks.push(Ask { from: "guardrails", verb: "validators", argument: value.clone() });
        options.given.push("guardrails");
    }
    Ok(())
}

/// Takes up LiteLLM's `metadata.tags`: each is a label that is `true`.
///
/// # Errors
/// It is a list of something else than short strings. What is no list is metadata like any other.
pub(crate) fn metadata_tags(options: &mut Options, value: &Value) -> Result<(), Problem> {
    let Some(list) = value.as_array() else { return Ok(()) };
    let problem = || Problem {
        option: "metadata.tags".to_owned(),
        message: "expected a list of up to 64 short strings".to_owned(),
    };
    if list.len() > 64 {
        return Err(problem());
    }
    for tag in list {
        let name = tag.as_str().filter(|s| (1..=256).contains(&s.len())).ok_or_else(problem)?;
        options.tags.entry(name.to_owned()).or_insert_with(|| "true".to_owned());
    }
    Ok(())
}

fn one_of<V: AxisValue>(value: &Value) -> Result<V, String> {
    let names: Vec<&str> = V::ALL.iter().map(|v| v.as_str()).collect();
    value.as_str().and_then(V::parse).ok_or_else(|| {
        let near = crate::diagnostic::nearest(value.as_str().unwrap_or_default(), names.iter().copied());
        let hint = near.first().map_or(String::new(), |n| format!("; did you mean `{n}`?"));
        format!("expected one of {}{hint}", names.join(", "))
    })
}

fn identifier(value: &Value) -> Option<String> {
    value.as_str().filter(|s| is_identifier(s)).map(str::to_owned)
}

fn identifiers(value: &Value) -> Option<Vec<String>> {
    let list = value.as_array().filter(|l| l.len() <= 256)?;
    list.iter().map(|v| v.as_str().filter(|s| is_selector(s)).map(str::to_owned)).collect()
}

/// `[A-Za-z0-9._:/@+-]{1,256}`: what may name a thing on the wire (`reliability.md` §3).
#[must_use]
pub fn is_identifier(s: &str) -> bool {
    (1..=256).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b))
}

/// An identifier that may also hold `*`.
fn is_selector(s: &str) -> bool {
    (1..=256).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@+-*".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(name: &str, value: impl Into<Value>, message: Option<&str>) {
        let got = Options::default().set(name, &value.into());
        match message {
            None => assert_eq!(got, Ok(()), "{name}"),
            Some(m) => assert!(got.clone().is_err_and(|p| p.message.contains(m)), "{name}: {got:?}"),
        }
    }

    #[test]
    fn options_are_checked_one_by_one() {
        check("max_cost_usd", json!(0.01), None);
        check("max_cost_usd", json!(-1), Some("dollars"));
        check("max_cost", json!(1), Some("did you mean `cap_cost`?"));
        check("economy", json!("cheap"), Some("cheapest, balanced, best_possible"));
        check("task_family", json!("coding"), None);
        check("prefer", json!(["groq/*"]), None);
        check("prefer", json!("groq"), Some("list"));
        check("session", json!("a b"), Some("identifier"));
        check("explain", json!(true), None);
        check("mode", json!("free"), None);
        check("cap_cost", json!("a"), Some("dollars"));
        check("cap_latency", json!("2s"), None);
        check("cap_latency", json!(2), Some("such as 800ms"));
        check("cap_tokens", json!(0), Some("at least 1"));
        check("weight", json!("latncy"), Some("did you mean `latency`?"));
        check("weight", json!({"cost": 2}), Some("price, latency, quality, safety"));
        check("stream", json!("bufferd"), Some("did you mean `buffered`?"));
        check("explore", json!("all"), Some("expected none"));
        check("sticky", json!("usr"), Some("did you mean `user`?"));
        check("validators", json!(["json", {"use": "length"}]), None);
        check("validators", json!("json"), Some("a list of up to 16"));
        check("validators", json!([7]), Some("a list of up to 16"));
        check("avoid", json!(["a/*"]), None);
        check("avoid", json!([{"where": "true"}]), Some("selectors"));
        check("strict", json!(1), Some("true or false"));
        check("validator", json!([]), Some("did you mean `validators`?"));
        check("capcost", json!(1), Some("did you mean `cap_cost`?"));
    }

    /// An option of the body, then of a header: what holds in the end, or what the refusal says.
    fn check_both(name: &str, body: &Value, header: &str, want: Result<Options, &str>) {
        let mut got = Options::default();
        got.set(name, body).unwrap();
        let said = got.set_header(&name.replace('_', "-"), header);
        got.given.clear();
        match want {
            Ok(want) => assert_eq!((said, got), (Ok(()), want), "{name} {body} {header}"),
            Err(part) => assert!(said.is_err_and(|p| p.message.contains(part)), "{name} {body} {header}"),
        }
    }

    #[test]
    fn what_restricts_only_becomes_tighter() {
        let with = |change: fn(&mut Options)| {
            let mut o = Options::default();
            change(&mut o);
            Ok(o)
        };
        for (body, header) in [(0.5, "0.1"), (0.1, "0.5")] {
            let want = with(|o| o.max_cost = Some(Usd::from_dollars(0.1)));
            check_both("max_cost_usd", &json!(body), header, want);
            check_both("min_quality", &json!(body), header, with(|o| o.min_quality = UnitInterval::new(0.5)));
        }
        for (body, header) in [(1, "3"), (3, "1")] {
            let want = with(|o| o.max_latency = Some(Duration::from_millis(1)));
            check_both("max_latency_ms", &json!(body), header, want);
            check_both("min_quality_tier", &json!(body), header, with(|o| o.min_quality_tier = Some(3)));
        }
        let list = |from, s: &str| Demand { from, selectors: vec![s.to_owned()] };
        let both = Options {
            require: vec![list("routing.require", "a/*"), list("x-turnout-require", "b/*")],
            ..Options::default()
        };
        check_both("require", &json!(["a/*"]), "b/*", Ok(both));
        let both = Options {
            exclude: vec![list("routing.exclude", "a/*"), list("x-turnout-exclude", "b/*")],
            ..Options::default()
        };
        check_both("exclude", &json!(["a/*"]), "b/*", Ok(both));
        for (body, header) in [("free", "auto"), ("auto", "free"), ("free", "free")] {
            check_both("mode", &json!(body), header, with(|o| o.mode = Some(Mode::Free)));
        }
        for (body, header) in [("locked_down", "permissive"), ("permissive", "locked_down")] {
            check_both("safety", &json!(body), header, with(|o| o.safety = Some(SafetyPosture::LockedDown)));
        }
        check_both("mode", &json!("free"), "paid", Err("no model is both"));
        check_both(
            "economy",
            &json!("cheapest"),
            "balanced",
            with(|o| o.economy = Some(EconomicPolicy::Balanced)),
        );
    }

    #[test]
    fn of_verbs_what_restricts_adds_up_and_the_last_word_counts_for_the_rest() {
        let mut o = Options::default();
        for (name, value) in [("weight", json!("price")), ("stream", json!("windowed"))] {
            o.set(name, &value).unwrap();
        }
        o.set_header("weight", "quality").unwrap();
        o.set_header("stream", "buffered").unwrap();
        let told: Vec<_> = o.asks.iter().map(|a| (a.from, a.argument.as_str().unwrap())).collect();
        let want = [
            ("routing.stream", "windowed"),
            ("x-turnout-weight", "quality"),
            ("x-turnout-stream", "buffered"),
        ];
        assert_eq!(told, want);
        // The two names of one ceiling are one.
        let mut o = Options::default();
        o.set("cap_cost", &json!(0.2)).unwrap();
        o.set("max_cost_usd", &json!(0.5)).unwrap();
        assert_eq!(o.max_cost, Some(Usd::from_dollars(0.2)));
    }

    #[test]
    fn every_name_is_settable_by_header() {
        for name in NAMES {
            let text = match *name {
                "max_latency_ms" | "min_quality_tier" => "1",
                "max_cost_usd" | "min_quality" => "0.5",
                "economy" => "cheapest",
                "latency_class" => "batch",
                "precision" => "high",
                "determinism" => "strict",
                "safety" => "standard",
                "task_family" => "chat",
                "mode" => "auto",
                "cache" => "off",
                "explain" => "true",
                "tags" | "tag" => "team=a",
                "cap_cost" => "0.5",
                "cap_latency" => "800ms",
                "cap_tokens" => "100",
                "weight" => "latency",
                "stream" => "buffered",
                "explore" => "none",
                "sticky" => "user",
                "strict" => "true",
                _ => "x",
            };
            let mut o = Options::default();
            assert_eq!(o.set_header(&name.replace('_', "-"), text), Ok(()), "{name}");
            assert_ne!(o, Options::default(), "{name} had no effect");
        }
    }
}
