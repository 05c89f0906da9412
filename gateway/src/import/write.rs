//! The files of a configuration folder.

use super::{Flow, Import, Kind, Model, Price, Rates, list, quoted};
use crate::config::built_in_rules;
use std::fmt::Write as _;

/// Assumed of a model of a shipped provider, tokens: what the smaller models of such vendors take.
const CONTEXT: u64 = 128_000;
/// Likewise of a model at an address of its own, which may run on somebody's own machine.
const CONTEXT_OF_ITS_OWN: u64 = 32_768;
/// Assumed of every model that chats, unless the file says otherwise.
const ABILITIES: [&str; 3] = ["streaming", "json", "tools"];

impl Kind {
    const fn title(self) -> &'static str {
        match self {
            Kind::Litellm => "a LiteLLM config",
            Kind::Portkey => "a Portkey config",
            Kind::Openrouter => "OpenRouter preferences",
        }
    }
}

pub(super) fn files(import: &Import, kind: Kind) -> Vec<(String, String)> {
    let head = format!("# Made by `turnout import` from {}.\n", kind.title());
    let mut all = Vec::new();
    if !import.providers.is_empty() || !import.models.is_empty() {
        all.push(("matrix.d/imported.yaml".to_owned(), format!("{head}{}", matrix(import))));
    }
    if !import.rules.is_empty() || !import.pools.is_empty() {
        all.push(("routing_rules.yaml".to_owned(), format!("{head}{}", rules(import))));
    }
    for (name, flow) in &import.flows {
        all.push((format!("workflows/{name}.yaml"), format!("{head}{}", workflow(name, flow))));
    }
    if import.attempts.is_some() || import.deadline_s.is_some() {
        let mut text = head;
        // Writing to a String cannot fail.
        if let Some(n) = import.attempts {
            let _ = writeln!(text, "retry: {{ max_attempts: {n} }}");
        }
        if let Some(s) = import.deadline_s {
            let _ = writeln!(text, "request: {{ default_deadline: {s}s, client_deadline: {s}s }}");
        }
        all.push(("turnout.yaml".to_owned(), text));
    }
    all
}

/// As `default`: what the request's own contract implies is checked and, where it fails, repaired within the pool.
fn workflow(name: &str, Flow { description, pool, prefer }: &Flow) -> String {
    format!(
        "version: 1
name: {name}
description: {}
limits: {{ calls: 12 }}
nodes:
  - {{ id: generate, type: generate, primary: false, timeout: 115s, route: {{ pool: {pool}, prefer: {} }} }}
  - {{ id: check, type: validate, input: nodes.generate.completions, validators: [contract] }}
  - id: fix
    type: repair
    from: check
    max_attempts: 3
    strategies: [fix, reprompt, escalate]
    escalate: [{{ pool: {pool} }}]
    on_exhausted: best
  - id: pick
    type: select
    from: [nodes.check.usable, nodes.fix.completion, nodes.check.completions]
    method: first_passing
    when_none: best
  - {{ id: answer, type: stream, from: nodes.pick.completion }}
edges:
  - {{ from: generate, to: check }}
  - {{ from: check, to: pick, outcome: [passed, unverified] }}
  - {{ from: check, to: fix, outcome: failed }}
  - {{ from: fix, to: pick }}
  - {{ from: pick, to: answer }}
",
        quoted(description),
        list(prefer)
    )
}

fn matrix(import: &Import) -> String {
    let mut out = "version: 1\n".to_owned();
    let providers: Vec<_> = import
        .providers
        .iter()
        .filter(|(_, p)| {
            p.own.is_some() || !p.keys.is_empty() || p.total_ms.is_some() || p.first_ms.is_some()
        })
        .collect();
    if !providers.is_empty() {
        out.push_str("providers:\n");
    }
    for (id, p) in providers {
        let _ = writeln!(out, "  {id}:");
        if let Some((dialect, base)) = &p.own {
            let _ = writeln!(out, "    dialect: {dialect}\n    base_url: {}\n    tier: paid", quoted(base));
        }
        if !p.keys.is_empty() {
            let _ = writeln!(out, "    api_key_env: {}", list(&p.keys));
        }
        let times: Vec<String> = [("first_token", p.first_ms), ("total", p.total_ms)]
            .into_iter()
            .filter_map(|(name, ms)| ms.map(|ms| format!("{name}: {ms}ms")))
            .collect();
        if !times.is_empty() {
            let _ = writeln!(out, "    timeouts: {{ {} }}", times.join(", "));
        }
    }
    if import.models.values().any(written) {
        out.push_str("models:\n");
    }
    for (id, m) in import.models.iter().filter(|(_, m)| written(m)) {
        let _ = writeln!(out, "  {id}:");
        model(&mut out, m, import.own(id));
    }
    out
}

/// Tokens of the window of a model, where the file does not say.
fn context(m: &Model, own: bool) -> u64 {
    let least = if own { CONTEXT_OF_ITS_OWN } else { CONTEXT };
    m.context.unwrap_or_else(|| least.max(m.output.unwrap_or(0).saturating_mul(2)))
}

/// What a model can do, as far as it is said or assumed.
fn abilities(m: &Model) -> Vec<&'static str> {
    let assumed = ABILITIES.into_iter().filter(|a| m.abilities.get(a) != Some(&false));
    let said = m.abilities.iter().filter(|(a, can)| **can && !ABILITIES.contains(a)).map(|(a, _)| *a);
    assumed.chain(said).collect()
}

/// What is assumed of a model that the shipped matrix does not have, in words.
pub(super) fn assumptions(id: &str, m: &Model, own: bool) -> String {
    let mut assumed = Vec::new();
    if m.context.is_none() {
        assumed.push(format!("a window of {} tokens (longer requests are refused)", context(m, own)));
    }
    let can = abilities(m);
    let lacking: Vec<&str> =
        ["tools", "json_schema", "vision"].into_iter().filter(|a| !can.contains(a)).collect();
    let lost = match lacking.is_empty() {
        true => String::new(),
        false => format!(" (requests that need {} go elsewhere or are refused)", lacking.join(", ")),
    };
    assumed.push(format!("the abilities {}{lost}", can.join(", ")));
    assumed.push("a middle quality and speed".to_owned());
    let price = match m.price {
        Some(_) => "",
        None => {
            ". No price is known: where money is limited, as keys of this server are by default, it is not asked"
        }
    };
    format!(
        "`{id}` is not in the shipped matrix; matrix.d/imported.yaml assumes {}{price}. Put the vendor's numbers there",
        assumed.join(", ")
    )
}

/// A shipped model of which the file says nothing more needs no entry.
fn written(m: &Model) -> bool {
    m.fresh || !m.aliases.is_empty() || m.price.is_some()
}

fn model(out: &mut String, m: &Model, own: bool) {
    if m.fresh {
        let assumed = if m.context.is_none() { "     # assumed" } else { "" };
        let context = context(m, own);
        let _ = writeln!(out, "    context_window: {context}{assumed}");
        if let Some(n) = m.output {
            let _ = writeln!(out, "    max_output_tokens: {}", n.min(context));
        }
        let said = m.abilities.contains_key("tools");
        let assumed = if said { "" } else { "     # tools: assumed" };
        let _ = writeln!(
            out,
            "    abilities: [{}]{assumed}\n    quality_tier: 2     # assumed\n    speed_tier: 2     # assumed",
            abilities(m).join(", ")
        );
    }
    if !m.aliases.is_empty() {
        let _ = writeln!(out, "    aliases: {}", list(&m.aliases));
    }
    if let Some(price) = &m.price {
        let _ = writeln!(out, "    price: {}", price_of(price));
    }
}

/// In one line, as a problem of it is told by that.
fn price_of(Price { rates, above, tiers: [flex, priority] }: &Price) -> String {
    let mut parts = rates_of(rates);
    let step = |(tokens, rates): &(u64, Rates)| {
        let mut parts = vec![format!("tokens: {tokens}")];
        parts.extend(rates_of(rates));
        format!("{{ {} }}", parts.join(", "))
    };
    match above.as_slice() {
        [] => {}
        [one] => parts.push(format!("above: {}", step(one))),
        all => parts.push(format!("above: [{}]", all.iter().map(step).collect::<Vec<_>>().join(", "))),
    }
    let tiers = [("flex", flex), ("priority", priority)];
    let tiers: Vec<String> =
        tiers.into_iter().filter_map(|(name, factor)| Some(format!("{name}: {:?}", (*factor)?))).collect();
    if !tiers.is_empty() {
        parts.push(format!("tiers: {{ {} }}", tiers.join(", ")));
    }
    format!("{{ {} }}", parts.join(", "))
}

fn rates_of(r: &Rates) -> Vec<String> {
    let all = [
        ("input", Some(r.input)),
        ("cached_input", r.cached_input),
        ("cache_write", r.cache_write),
        ("cache_write_1h", r.cache_write_1h),
        ("image", r.image),
        ("output", Some(r.output)),
        ("reasoning", r.reasoning),
    ];
    all.into_iter().filter_map(|(name, usd)| Some(format!("{name}: {:?}", usd?))).collect()
}

/// The shipped rules with the imported pools and rules added, so that nothing shipped is lost.
fn rules(import: &Import) -> String {
    let shipped = built_in_rules();
    let mut pools = "pools:\n".to_owned();
    for (name, models) in &import.pools {
        let _ = writeln!(pools, "  {name}: {{ models: {} }}", list(models));
    }
    let mut out = shipped.text.replacen("pools:\n", &pools, 1);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    for r in &import.rules {
        let _ = write!(out, "\n  - id: {}\n    description: {}\n", r.id, quoted(&r.description));
        if let Some(group) = r.group {
            let _ = writeln!(out, "    group: {group}");
        }
        if let Some(when) = &r.when {
            let _ = writeln!(out, "    when: {}", quoted(when));
        }
        out.push_str("    actions:\n");
        for action in &r.actions {
            let _ = writeln!(out, "      {action}");
        }
    }
    out
}
