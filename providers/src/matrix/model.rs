//! One entry of `models`.

use super::evidence::{self, Evaluations};
use super::{ReadModel, string};
use crate::transport::is_reset;
use std::sync::Arc;
use std::time::Duration;
use types::axis::TaskFamily;
use types::diagnostic::nearest;
use types::doc::{Fields, Key, Node, Reader, Span, Value};
use types::matrix::{
    Abilities, Above, Dialect, KeyLimits, Model, Price, Prior, Provider, Rates, Simulate, Steps, Tiers,
};
use types::profile::SubLabel;
use types::units::UnitInterval;

/// Most output tokens of a model that does not say, if its context window is larger.
pub(super) const DEFAULT_MAX_OUTPUT: u32 = 8_192;

/// Largest number of tokens that can be stated.
const MAX_TOKENS: i64 = 100_000_000;

/// Dearest price that can be stated, in dollars per million tokens.
const MAX_PRICE: f64 = 100_000.0;
/// Most that a tier of service can be stated to cost, in ordinary prices.
const MAX_FACTOR: f64 = 100.0;

/// Longest median time to the first token of a simulated model.
const MAX_TTFT: Duration = Duration::from_secs(600);

/// What a simulated model can get wrong; see [`Simulate::failures`].
const FAILURES: &[&str] = &[
    "broken_json",
    "wrong_schema",
    "refuse",
    "truncate",
    "cut_stream",
    "stall",
    "http_429",
    "http_500",
    "connect_error",
];

/// Reads a model. `provider` is `None` if the provider could not be read: the model is checked all the same.
pub(super) fn lower(
    key: &Key,
    node: &Node,
    provider: Option<(usize, &Provider)>,
    evaluations: &Evaluations,
    r: &mut Reader<'_>,
) -> Option<ReadModel> {
    if !types::options::is_identifier(&key.name) || key.name.ends_with('/') {
        let d = r.error("104", key.span, format!("`{}` is not a model's name", key.name));
        d.expected = Some("provider/name of letters, digits and ._:/@+-, at most 256".to_owned());
    }
    let mut f = r.fields(node, &format!("models.{}", key.name))?;
    let name = key.name.split_once('/').map_or("", |(_, name)| name);
    let upstream_name = string(&mut f, r, "upstream_name").unwrap_or_else(|| name.to_owned());
    let (context_window, max_output_tokens) = window(&mut f, r);
    let aliases = aliases(&mut f, r);
    let dialect = provider.map(|(_, p)| p.dialect);
    let model = Model {
        id: Arc::from(key.name.as_str()),
        provider: provider.map_or(0, |(place, _)| place),
        family: string(&mut f, r, "family").unwrap_or_else(|| family_of(&upstream_name)),
        upstream_name,
        aliases: Vec::new(),
        context_window,
        max_output_tokens,
        abilities: f.take("abilities").map(|n| abilities(n, &f.at("abilities"), r)).unwrap_or_default(),
        price: f.take("price").and_then(|n| price(n, &f.at("price"), r)),
        free_tier: f.take("free_tier").and_then(|n| key_limits(n, &f.at("free_tier"), r)),
        limits: f.take("limits").and_then(|n| key_limits(n, &f.at("limits"), r)),
        quality_tier: tier(&mut f, r, "quality_tier"),
        speed_tier: tier(&mut f, r, "speed_tier"),
        prior: f.take("prior").map(|n| prior(n, &f.at("prior"), evaluations, r)).unwrap_or_default(),
        tags: f.take("tags").and_then(|n| r.strings(n, &f.at("tags"))).unwrap_or_default(),
        simulate: simulate(&mut f, dialect, r),
        enabled: f.take("enabled").and_then(|n| r.boolean(n, &f.at("enabled"))).unwrap_or(true),
    };
    f.finish(r);
    provider.map(|_| ReadModel { model, span: key.span, aliases })
}

/// The letters at the start of the last part of a name: `llama` of `meta-llama/Llama-3.3-70B`.
fn family_of(upstream: &str) -> String {
    let last = upstream.rsplit('/').next().unwrap_or(upstream).to_lowercase();
    let letters: String = last.chars().take_while(|c| c.is_alphabetic()).collect();
    if letters.is_empty() { last } else { letters }
}

fn window(f: &mut Fields<'_>, r: &mut Reader<'_>) -> (u32, u32) {
    let tokens = |node: Option<&Node>, field: &str, r: &mut Reader<'_>| {
        node.and_then(|n| r.integer(n, field, 1, MAX_TOKENS)).and_then(|t| u32::try_from(t).ok())
    };
    let context = f.require(r, "context_window");
    let context = tokens(context, &f.at("context_window"), r);
    let output_node = f.take("max_output_tokens");
    let output = tokens(output_node, &f.at("max_output_tokens"), r);
    let context = context.unwrap_or(u32::MAX);
    if let (Some(out), Some(node)) = (output, output_node)
        && out > context
    {
        let field = f.at("max_output_tokens");
        let d = r.error("104", node.span, format!("`{field}` is {out}"));
        d.expected = Some(format!("at most the context window, {context}"));
        d.field = field;
    }
    (context, output.unwrap_or(DEFAULT_MAX_OUTPUT.min(context)))
}

fn aliases(f: &mut Fields<'_>, r: &mut Reader<'_>) -> Vec<(String, types::doc::Span)> {
    let Some(node) = f.take("aliases") else { return Vec::new() };
    let field = f.at("aliases");
    let items = match &node.value {
        Value::Str(_) => std::slice::from_ref(node),
        _ => r.list(node, &field).unwrap_or_default(),
    };
    let mut aliases = Vec::new();
    for item in items {
        let Some(alias) = r.string(item, &field) else { continue };
        if types::options::is_identifier(&alias) {
            aliases.push((alias, item.span));
        } else {
            let d = r.error("104", item.span, "an alias that is not a name");
            d.expected = Some("letters, digits and ._:/@+-, at most 256".to_owned());
            d.field.clone_from(&field);
        }
    }
    aliases
}

fn abilities(node: &Node, field: &str, r: &mut Reader<'_>) -> Abilities {
    let mut a = Abilities::default();
    for item in r.list(node, field).unwrap_or_default() {
        if let Some(flag) = r.one_of(item, field, Abilities::NAMES).and_then(|name| a.flag(name)) {
            *flag = true;
        }
    }
    a
}

fn price(node: &Node, field: &str, r: &mut Reader<'_>) -> Option<Price> {
    let mut f = r.fields(node, field)?;
    let rates = rates(&mut f, r);
    let above = f.take("above").map(|n| steps(n, &f.at("above"), r)).unwrap_or_default();
    let tiers = f.take("tiers").map(|n| tiers(n, &f.at("tiers"), r)).unwrap_or_default();
    f.finish(r);
    Some(Price { above, tiers, ..Price::of(rates?) })
}

fn rates(f: &mut Fields<'_>, r: &mut Reader<'_>) -> Option<Rates> {
    let input = f.require(r, "input");
    let output = f.require(r, "output");
    let mut dollars =
        |node: Option<&Node>, field: &str| node.and_then(|n| r.number(n, field, 0.0, MAX_PRICE));
    let input = dollars(input, &f.at("input"));
    let output = dollars(output, &f.at("output"));
    let mut other = |key: &'static str| dollars(f.take(key), &f.at(key));
    let (cached, write, hour) = (other("cached_input"), other("cache_write"), other("cache_write_1h"));
    let (image, reasoning) = (other("image"), other("reasoning"));
    let (input, output) = (input?, output?);
    Some(Rates {
        cached_input: cached.unwrap_or(input),
        cache_write: write.unwrap_or(input),
        // Who bills the writing of a cache bills twice the input where it is to last for an hour, as far as is known.
        cache_write_1h: hour.or_else(|| write.map(|write| write.max(2.0 * input))).unwrap_or(input),
        image: image.unwrap_or(input),
        reasoning: reasoning.unwrap_or(output),
        ..Rates::new(input, output)
    })
}

/// Prices of long requests: one threshold, or a list of them that rise.
fn steps(node: &Node, field: &str, r: &mut Reader<'_>) -> Steps {
    let Value::List(items) = &node.value else {
        let one = above(node, field, r).map(|(above, _)| above);
        return Steps::new(one.as_slice()).unwrap_or_default();
    };
    if items.len() > Steps::MOST {
        let d = r.error("104", node.span, format!("`{field}` has {} thresholds", items.len()));
        d.expected = Some(format!("{} at most", Steps::MOST));
        field.clone_into(&mut d.field);
        return Steps::NONE;
    }
    let mut all: Vec<Above> = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let field = format!("{field}[{i}]");
        let Some((above, span)) = above(item, &field, r) else { continue };
        match all.last().filter(|last| above.tokens <= last.tokens) {
            Some(last) => {
                let text = format!("`{field}.tokens` is {}, after {}", above.tokens, last.tokens);
                let expected = format!("more than {}: thresholds rise", last.tokens);
                let d = r.error("104", span, text);
                d.expected = Some(expected);
                d.field = format!("{field}.tokens");
            }
            None => all.push(above),
        }
    }
    Steps::new(&all).unwrap_or_default()
}

/// One threshold with its prices, and where its tokens are said.
fn above(node: &Node, field: &str, r: &mut Reader<'_>) -> Option<(Above, Span)> {
    let mut f = r.fields(node, field)?;
    let tokens = f.require(r, "tokens");
    let span = tokens.map_or(node.span, |n| n.span);
    let tokens = tokens.and_then(|n| r.integer(n, &f.at("tokens"), 1, MAX_TOKENS));
    let rates = rates(&mut f, r);
    f.finish(r);
    Some((Above { tokens: u32::try_from(tokens?).ok()?, rates: rates? }, span))
}

fn tiers(node: &Node, field: &str, r: &mut Reader<'_>) -> Tiers {
    let Some(mut f) = r.fields(node, field) else { return Tiers::default() };
    let mut factor = |key: &'static str| f.take(key).and_then(|n| r.number(n, &f.at(key), 0.0, MAX_FACTOR));
    let tiers = Tiers { flex: factor("flex"), priority: factor("priority") };
    f.finish(r);
    tiers
}

pub(super) fn key_limits(node: &Node, field: &str, r: &mut Reader<'_>) -> Option<KeyLimits> {
    let mut f = r.fields(node, field)?;
    let mut limit = |key: &'static str, r: &mut Reader<'_>| {
        f.take(key)
            .and_then(|n| r.integer(n, &f.at(key), 1, i64::from(u32::MAX)))
            .and_then(|x| u32::try_from(x).ok())
    };
    let mut limits = KeyLimits {
        rpm: limit("rpm", r),
        tpm: limit("tpm", r),
        rpd: limit("rpd", r),
        tpd: limit("tpd", r),
        resets: None,
    };
    limits.resets = f.take("resets").and_then(|n| {
        let text = r.string(n, &f.at("resets"))?;
        if is_reset(&text) {
            return Some(text);
        }
        let d = r.error("104", n.span, format!("`{text}` is no time of day with a time zone"));
        d.hint = Some("write it as in \"00:00 UTC\" or \"00:00 America/Los_Angeles\"".to_owned());
        None
    });
    f.finish(r);
    Some(limits)
}

fn tier(f: &mut Fields<'_>, r: &mut Reader<'_>, key: &'static str) -> u8 {
    let tier = f.take(key).and_then(|n| r.integer(n, &f.at(key), 1, 3));
    tier.and_then(|t| u8::try_from(t).ok()).unwrap_or(2)
}

fn prior(node: &Node, field: &str, evaluations: &Evaluations, r: &mut Reader<'_>) -> Prior {
    let mut p = Prior::default();
    let Some(mut f) = r.fields(node, field) else { return p };
    p.timed = ["ttft_ms", "tokens_per_second"].iter().any(|key| node.get(key).is_some());
    let mut number = |key: &'static str, lo: f64, hi: f64, default: f64, r: &mut Reader<'_>| {
        f.take(key).and_then(|n| r.number(n, &f.at(key), lo, hi)).unwrap_or(default)
    };
    p.strength = number("strength", 0.5, 1_000.0, p.strength, r);
    p.ttft_ms = number("ttft_ms", 1.0, 600_000.0, p.ttft_ms, r);
    p.tokens_per_second = number("tokens_per_second", 0.1, 100_000.0, p.tokens_per_second, r);
    if let Some(n) = f.take("success") {
        p.by_family = families(n, &f.at("success"), r);
    }
    if let Some(n) = f.take("sources") {
        p.sources = evidence::sources(n, &f.at("sources"), &p.by_family, evaluations, r);
    }
    f.finish(r);
    if let Some(i) = p.by_family.iter().position(|(k, _)| k == "default") {
        p.default = p.by_family.remove(i).1;
    }
    p
}

/// The names under which success can be stated: families, sub-labels, and `default` for the rest.
fn family_names() -> impl Iterator<Item = &'static str> + Clone {
    const SUB: [SubLabel; 5] = [
        SubLabel::Math,
        SubLabel::Creative,
        SubLabel::Summarisation,
        SubLabel::Translation,
        SubLabel::KnowledgeQa,
    ];
    TaskFamily::NAMES.iter().copied().chain(SUB.iter().map(|s| s.as_str())).chain(["default"])
}

fn families(node: &Node, field: &str, r: &mut Reader<'_>) -> Vec<(String, UnitInterval)> {
    probabilities(node, field, r, "task family", &family_names())
}

/// Whether success can be stated of it; if not, that is an error at its place.
pub(super) fn is_family(key: &Key, field: &str, r: &mut Reader<'_>) -> bool {
    is_known(key, field, r, "task family", &family_names())
}

fn is_known(
    key: &Key,
    field: &str,
    r: &mut Reader<'_>,
    what: &str,
    known: &(impl Iterator<Item = &'static str> + Clone),
) -> bool {
    if known.clone().any(|k| k == key.name) {
        return true;
    }
    let near = nearest(&key.name, known.clone());
    let d = r.error("101", key.span, format!("unknown {what} `{}`", key.name));
    d.expected = Some(format!("one of {}", known.clone().collect::<Vec<_>>().join(", ")));
    d.hint = near.first().map(|n| format!("did you mean `{n}`?"));
    d.field = field.to_owned();
    false
}

/// A map from known names to numbers in 0..=1.
fn probabilities(
    node: &Node,
    field: &str,
    r: &mut Reader<'_>,
    what: &str,
    known: &(impl Iterator<Item = &'static str> + Clone),
) -> Vec<(String, UnitInterval)> {
    let mut out = Vec::new();
    for (key, value) in r.map(node, field).unwrap_or_default() {
        let field = format!("{field}.{}", key.name);
        if !is_known(key, &field, r, what, known) {
            continue;
        }
        if let Some(p) = r.number(value, &field, 0.0, 1.0).and_then(UnitInterval::new) {
            out.push((key.name.clone(), p));
        }
    }
    out
}

/// The `simulate` block: required by dialect `simulated`, refused by all others.
fn simulate(f: &mut Fields<'_>, dialect: Option<Dialect>, r: &mut Reader<'_>) -> Option<Simulate> {
    let node = f.take("simulate");
    let field = f.at("simulate");
    match (node, dialect) {
        (None, Some(Dialect::Simulated)) => {
            r.error("102", f.span, "`simulate` is missing: the provider's dialect is `simulated`").field =
                field;
            None
        }
        (Some(n), Some(d)) if d != Dialect::Simulated => {
            let d = r.error("204", n.span, "`simulate` stands in a model whose provider is not simulated");
            d.hint = Some("only providers of dialect `simulated` take it".to_owned());
            d.field = field;
            None
        }
        (Some(n), _) => simulate_block(n, &field, r),
        (None, _) => None,
    }
}

fn simulate_block(node: &Node, field: &str, r: &mut Reader<'_>) -> Option<Simulate> {
    let mut f = r.fields(node, field)?;
    let mut s = Simulate {
        success: Vec::new(),
        ttft: Duration::from_millis(300),
        sigma: 0.25,
        tokens_per_second: 80.0,
        failures: Vec::new(),
    };
    if let Some(n) = f.require(r, "success") {
        s.success = families(n, &f.at("success"), r);
        if !s.success.iter().any(|(k, _)| k == "default") {
            let field = format!("{}.default", f.at("success"));
            r.error("102", n.span, "`default` is missing: success where no family is named").field = field;
        }
    }
    if let Some(n) = f.take("latency") {
        latency(n, &f.at("latency"), r, &mut s);
    }
    if let Some(n) = f.take("failures") {
        let field = f.at("failures");
        s.failures = probabilities(n, &field, r, "failure mode", &FAILURES.iter().copied());
        let sum: f64 = s.failures.iter().map(|(_, p)| p.get()).sum();
        if sum > 1.0 {
            let d = r.error("208", n.span, format!("the probabilities of `{field}` sum to {sum:.3}"));
            d.expected = Some("at most 1".to_owned());
            d.field = field;
        }
    }
    f.finish(r);
    Some(s)
}

fn latency(node: &Node, field: &str, r: &mut Reader<'_>, s: &mut Simulate) {
    let Some(mut f) = r.fields(node, field) else { return };
    if let Some(n) = f.take("ttft")
        && let Some(d) = r.duration(n, &f.at("ttft"))
    {
        if d <= MAX_TTFT {
            s.ttft = d;
        } else {
            let field = f.at("ttft");
            let e = r.error("104", n.span, format!("`{field}` is {d:?}"));
            e.expected = Some("at most 10m".to_owned());
            e.field = field;
        }
    }
    if let Some(n) = f.take("sigma") {
        s.sigma = r.number(n, &f.at("sigma"), 0.0, 3.0).unwrap_or(s.sigma);
    }
    if let Some(n) = f.take("tokens_per_second") {
        let tps = r.number(n, &f.at("tokens_per_second"), 0.1, 1_000_000.0);
        s.tokens_per_second = tps.unwrap_or(s.tokens_per_second);
    }
    f.finish(r);
}
