//! Every option, one row each: its name, how a header writes it, and what it may be and sets.

use super::{CacheMode, Demand, Mode, OnDisconnect, Options};
use crate::axis::{AxisValue, SafetyPosture};
use crate::printable::has_no_controls;
use crate::units::{UnitInterval, Usd};
use serde_json::{Map, Value};
use std::time::Duration;

/// What a request may set.
pub(super) struct Row {
    /// As in the `routing` object and, with dashes, after `x-turnout-`.
    pub(super) name: &'static str,
    /// How a header writes the value.
    pub(super) form: Form,
    /// Takes the value up, or says what it should have been.
    pub(super) take: fn(&mut Options, &Value) -> Result<(), String>,
}

/// How a header writes a value.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// As it stands.
    Text,
    /// A number, `true` or `false`.
    Literal,
    /// Words separated by commas.
    List,
    /// `name=value` pairs separated by commas.
    Pairs,
}

impl Form {
    /// The JSON value that a header's text stands for; `null` where it stands for none.
    pub(super) fn value(self, text: &str) -> Value {
        match self {
            Form::Text => Value::String(text.trim().to_owned()),
            Form::Literal => serde_json::from_str(text.trim()).unwrap_or(Value::Null),
            Form::List => text.split(',').map(|word| Value::String(word.trim().to_owned())).collect(),
            Form::Pairs => {
                let parts = text.split(',').filter(|part| !part.trim().is_empty());
                let pairs: Option<Map<String, Value>> = parts
                    .map(|part| part.split_once('='))
                    .map(|pair| pair.map(|(name, value)| (name.trim().to_owned(), value.trim().into())))
                    .collect();
                pairs.map_or(Value::Null, Value::Object)
            }
        }
    }
}

const fn row(name: &'static str, form: Form, take: fn(&mut Options, &Value) -> Result<(), String>) -> Row {
    Row { name, form, take }
}

/// In the order in which a hint lists them.
pub(super) const ROWS: &[Row] = &[
    row("max_latency_ms", Form::Literal, |o, v| {
        let ms = v.as_u64().filter(|ms| (1..=LONGEST_MS).contains(ms));
        let ms = ms.ok_or("expected a whole number of milliseconds, 1..=3600000")?;
        lower(&mut o.max_latency, Duration::from_millis(ms));
        Ok(())
    }),
    row("max_cost_usd", Form::Literal, max_cost),
    row("min_quality", Form::Literal, |o, v| {
        let given = v.as_f64().and_then(UnitInterval::new).ok_or("expected a number in 0..=1")?;
        o.min_quality = o.min_quality.filter(|before| before.get() > given.get()).or(Some(given));
        Ok(())
    }),
    row("min_quality_tier", Form::Literal, |o, v| {
        let tier = v.as_u64().filter(|tier| (1..=3).contains(tier)).and_then(|tier| u8::try_from(tier).ok());
        o.min_quality_tier = o.min_quality_tier.max(Some(tier.ok_or("expected 1, 2 or 3")?));
        Ok(())
    }),
    row("economy", Form::Text, |o, v| put(&mut o.economy, one_of(v)?)),
    row("latency_class", Form::Text, |o, v| put(&mut o.latency_class, one_of(v)?)),
    row("precision", Form::Text, |o, v| put(&mut o.precision, one_of(v)?)),
    row("determinism", Form::Text, |o, v| put(&mut o.determinism, one_of(v)?)),
    row("safety", Form::Text, |o, v| {
        let given: SafetyPosture = one_of(v)?;
        o.safety = o.safety.filter(|before| before.index() > given.index()).or(Some(given));
        Ok(())
    }),
    row("task_family", Form::Text, |o, v| put(&mut o.task_family, one_of(v)?)),
    row("workflow", Form::Text, |o, v| {
        put(&mut o.workflow, identifier(v).ok_or("expected a workflow's name")?)
    }),
    row("prefer", Form::List, |o, v| {
        let selectors = selectors(v)?;
        o.prefer.clear();
        demand(&mut o.prefer, "routing.prefer", selectors);
        Ok(())
    }),
    row("require", Form::List, |o, v| {
        demand(&mut o.require, "routing.require", selectors(v)?);
        Ok(())
    }),
    row("exclude", Form::List, |o, v| {
        demand(&mut o.exclude, "routing.exclude", selectors(v)?);
        Ok(())
    }),
    row("mode", Form::Text, mode),
    row("session", Form::Text, |o, v| put(&mut o.session, identifier(v).ok_or(AN_IDENTIFIER)?)),
    row("tags", Form::Pairs, tags),
    row("cache", Form::Text, |o, v| {
        put(
            &mut o.cache,
            match v.as_str() {
                Some("on") => CacheMode::On,
                Some("off") => CacheMode::Off,
                Some("refresh") => CacheMode::Refresh,
                _ => return Err("expected on, off or refresh".to_owned()),
            },
        )
    }),
    row("on_disconnect", Form::Text, |o, v| {
        let given = match v.as_str() {
            Some("cancel") => OnDisconnect::Cancel,
            Some("finish") => OnDisconnect::Finish,
            _ => return Err("expected cancel or finish".to_owned()),
        };
        put(&mut o.on_disconnect, given)
    }),
    row("approval", Form::Text, |o, v| put(&mut o.approval, identifier(v).ok_or(AN_IDENTIFIER)?)),
    row("explain", Form::Literal, |o, v| {
        o.explain = v.as_bool().ok_or(A_TRUTH)?;
        Ok(())
    }),
    row("cap_cost", Form::Literal, max_cost),
    row("cap_latency", Form::Text, |o, v| {
        let given = v.as_str().and_then(crate::doc::parse_duration);
        let given = given.filter(|d| !d.is_zero() && *d <= Duration::from_millis(LONGEST_MS));
        lower(&mut o.max_latency, given.ok_or("expected a duration such as 800ms or 2s, at most 1h")?);
        Ok(())
    }),
    row("cap_tokens", Form::Literal, |o, v| o.ask("cap_tokens", v)),
    row("avoid", Form::List, |o, v| o.ask("avoid", v)),
    row("weight", Form::Text, |o, v| o.ask("weight", v)),
    row("validators", Form::List, |o, v| o.ask("validators", v)),
    row("stream", Form::Text, |o, v| o.ask("stream", v)),
    row("explore", Form::Text, |o, v| o.ask("explore", v)),
    row("experiment", Form::Text, |o, v| o.ask("experiment", v)),
    row("sticky", Form::Text, |o, v| o.ask("sticky", v)),
    row("tag", Form::Pairs, tags),
    row("strict", Form::Literal, |o, v| {
        o.strict = v.as_bool().ok_or(A_TRUTH)?;
        Ok(())
    }),
];

/// Longest ceiling on latency, an hour.
const LONGEST_MS: u64 = 3_600_000;
const AN_IDENTIFIER: &str = "expected an identifier";
const A_TRUTH: &str = "expected true or false";

/// The last word counts.
fn put<T>(slot: &mut Option<T>, given: T) -> Result<(), String> {
    *slot = Some(given);
    Ok(())
}

/// A ceiling only comes down.
fn lower<T: Ord>(ceiling: &mut Option<T>, given: T) {
    *ceiling = Some(match ceiling.take() {
        Some(before) => before.min(given),
        None => given,
    });
}

fn max_cost(o: &mut Options, value: &Value) -> Result<(), String> {
    let dollars = value.as_f64().filter(|dollars| (0.0..=10_000.0).contains(dollars));
    lower(&mut o.max_cost, Usd::from_dollars(dollars.ok_or("expected dollars, 0..=10000")?));
    Ok(())
}

fn mode(o: &mut Options, value: &Value) -> Result<(), String> {
    let given = match value.as_str() {
        Some("free") => Mode::Free,
        Some("paid") => Mode::Paid,
        Some("auto") => Mode::Auto,
        _ => return Err("expected free, paid or auto".to_owned()),
    };
    let narrower = match (o.mode, given) {
        (None | Some(Mode::Auto), given) => given,
        (Some(before), Mode::Auto) => before,
        (Some(before), given) if before == given => given,
        _ => {
            let both = "`free` and `paid` are both asked for, in the body and in a header; no model is both";
            return Err(both.to_owned());
        }
    };
    put(&mut o.mode, narrower)
}

fn tags(o: &mut Options, value: &Value) -> Result<(), String> {
    let map = value.as_object().filter(|m| m.len() <= 64).ok_or("expected a map of strings")?;
    for (name, value) in map {
        let value = value.as_str().filter(|s| s.len() <= 256).ok_or("expected a map of short strings")?;
        if !has_no_controls(name) || !has_no_controls(value) {
            return Err("expected names and values without control characters".to_owned());
        }
        o.tags.insert(name.clone(), value.to_owned());
    }
    Ok(())
}

/// Adds a list of models; an empty one asks for nothing.
pub(crate) fn demand(list: &mut Vec<Demand>, from: &'static str, selectors: Vec<String>) {
    if !selectors.is_empty() {
        list.push(Demand { from, selectors });
    }
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
    value.as_str().filter(|s| super::is_identifier(s)).map(str::to_owned)
}

pub(super) fn selectors(value: &Value) -> Result<Vec<String>, String> {
    let list = value.as_array().filter(|l| l.len() <= 256);
    let all = list.and_then(|list| {
        list.iter().map(|v| v.as_str().filter(|s| is_selector(s)).map(str::to_owned)).collect()
    });
    all.ok_or_else(|| "expected a list of model selectors".to_owned())
}

/// An identifier that may also hold `*`.
fn is_selector(s: &str) -> bool {
    (1..=256).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@+-*".contains(&b))
}
