//! A Portkey config: targets under a strategy.

use super::{Fate, Import, Rule, condition, ident, known, list, members, text, variable};
use serde_json::Value;
use types::matrix::Matrix;

/// Deepest nesting of strategies.
const DEPTH: u8 = 8;
/// Most attempts of a call here, the first included.
const MAX_ATTEMPTS: u64 = 5;
/// The group of rules of which the first that holds counts.
const GROUP: &str = "portkey";

pub(super) fn read(document: &Value, shipped: &Matrix, import: &mut Import) -> Result<(), String> {
    let targets = document.get("targets").is_some();
    if !targets && document.get("provider").is_none() && document.get("virtual_key").is_none() {
        return Err(
            "there are neither `targets` nor `provider` nor `virtual_key`: this is no Portkey config"
                .to_owned(),
        );
    }
    let strategy = document.get("strategy").unwrap_or(&Value::Null);
    if text(strategy, "mode") == Some("conditional") {
        conditional(document, strategy, shipped, import);
    } else {
        let models = models(document, "", shipped, import, DEPTH);
        let ordered = text(strategy, "mode") == Some("fallback");
        if models.is_empty() {
            import.note("targets", Fate::Left, "no target names a provider that can be called");
        } else {
            pool_rule(
                "portkey_targets",
                "The targets of the Portkey config.",
                asked_auto(),
                &models,
                ordered,
                import,
            );
        }
    }
    Ok(())
}

fn asked_auto() -> Option<String> {
    Some("request.model_asked == \"auto\"".to_owned())
}

/// A pool of these models, and a rule that keeps requests to it; in their order, if that counts.
fn pool_rule(
    id: &str,
    description: &str,
    when: Option<String>,
    models: &[String],
    ordered: bool,
    import: &mut Import,
) {
    let mut actions = vec![format!("require: [\"pool:{id}\"]")];
    if let Some(first) = models.first().filter(|_| ordered && models.len() > 1) {
        actions.push(format!("prefer: {{ models: {}, strength: 1.0 }}", list(std::slice::from_ref(first))));
    }
    import.pools.insert(id.to_owned(), models.to_vec());
    let group = when.as_ref().map(|_| GROUP);
    import.rules.push(Rule { id: id.to_owned(), description: description.to_owned(), when, group, actions });
}

/// Selectors of the models that a target, or all targets below it, may go to.
fn models(target: &Value, place: &str, shipped: &Matrix, import: &mut Import, depth: u8) -> Vec<String> {
    settings(target, place, import);
    let Some(all) = target.get("targets").and_then(Value::as_array) else {
        return one(target, place, shipped, import).into_iter().collect();
    };
    let at = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    if depth == 0 {
        import.note(at("targets"), Fate::Left, "nested too deeply");
        return Vec::new();
    }
    let strategy = target.get("strategy").unwrap_or(&Value::Null);
    match text(strategy, "mode") {
        Some("fallback") => import.note(at("strategy"), Fate::Changed, "the first target is preferred; which one follows is chosen by expected outcome. Any failure that another model may mend leads on, whatever its status"),
        Some("loadbalance") => import.note(at("strategy"), Fate::Changed, "one pool; the router chooses within it by expected outcome, cost and latency, and shares are not kept"),
        Some("conditional") if !place.is_empty() => import.note(at("strategy"), Fate::Left, "conditions below another strategy: all their targets are one pool"),
        _ => {}
    }
    let mut found: Vec<String> = Vec::new();
    for (i, t) in all.iter().enumerate() {
        for m in models(t, &at(&format!("targets[{i}]")), shipped, import, depth.saturating_sub(1)) {
            if !found.contains(&m) {
                found.push(m);
            }
        }
    }
    found
}

/// The models of one target: one, or all of its provider.
fn one(target: &Value, place: &str, shipped: &Matrix, import: &mut Import) -> Option<String> {
    let place = if place.is_empty() { "config" } else { place };
    let asked = target.get("override_params").and_then(|p| text(p, "model"));
    // `@account/model` names both.
    let (account, model) = match asked.and_then(|m| m.strip_prefix('@')).and_then(|m| m.split_once('/')) {
        Some((account, model)) => (Some(account), Some(model)),
        None => (None, asked),
    };
    let named = account.or_else(|| text(target, "provider")).or_else(|| text(target, "virtual_key"));
    let Some(named) = named.map(|n| n.trim_start_matches('@')) else {
        import.note(place, Fate::Left, "it names no provider");
        return None;
    };
    let provider = match text(target, "custom_host") {
        Some(host) => known::at(import, "openai_chat", host, place),
        None => match known::provider(named, shipped).or_else(|| known::of_account(named, shipped)) {
            Some(p) => {
                import.providers.entry(p.to_owned()).or_default();
                p.to_owned()
            }
            None => {
                import.note(place, Fate::Left, known::why_not(named));
                return None;
            }
        },
    };
    keys(target, named, &provider, place, shipped, import);
    let id = match model {
        Some(model) => known::model(import, shipped, &provider, model, place)?,
        None if shipped.models().iter().any(|m| m.id.starts_with(&format!("{provider}/"))) => {
            format!("{provider}/*")
        }
        None => {
            import.note(
                place,
                Fate::Left,
                format!(
                    "no model is named and the shipped matrix has none of `{provider}`: add them to matrix.d"
                ),
            );
            return None;
        }
    };
    import.note(place, Fate::Carried, format!("`{id}`"));
    Some(id)
}

fn keys(target: &Value, named: &str, provider: &str, place: &str, shipped: &Matrix, import: &mut Import) {
    if let Some(key) = target.get("api_key") {
        let name = format!("{}_KEY", variable(&format!("{provider}_{}", ident(place))));
        import.clear_key(provider, &key.to_string(), &name, format!("{place}.api_key"));
    } else if known::provider(named, shipped).is_none() || text(target, "virtual_key").is_some() {
        let name = format!("{}_API_KEY", variable(named));
        import.key(provider, &name);
        import.note(place, Fate::Changed, format!("the account `{named}` keeps its key at Portkey: put the vendor's own key into the variable {name}"));
    }
}

/// What stands beside targets.
fn settings(target: &Value, place: &str, import: &mut Import) {
    let at = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
    for (name, value) in members(target) {
        match name.as_str() {
            "targets" | "provider" | "virtual_key" | "api_key" | "custom_host" | "name" => {}
            "strategy" => strategy(value, &at(name), import),
            "retry" => retry(value, &at(name), import),
            "request_timeout" => match value.as_u64().filter(|ms| (1_000..=3_600_000).contains(ms)) {
                Some(ms) => {
                    import.deadline_s = Some(import.deadline_s.unwrap_or(0).max(ms / 1_000));
                    import.note(
                        at(name),
                        Fate::Changed,
                        "`request.default_deadline` in turnout.yaml, for all requests",
                    );
                }
                None => import.note(at(name), Fate::Left, "expected milliseconds, 1000 to 3600000"),
            },
            "override_params" => {
                for (name, _) in members(value).filter(|(n, _)| *n != "model") {
                    import.note(
                        at(&format!("override_params.{name}")),
                        Fate::Left,
                        "use a rule with `set_params` or `cap_max_tokens`",
                    );
                }
            }
            "weight" => import.note(at(name), Fate::Left, "shares are not kept"),
            "cache" => import.note(at(name), Fate::Left, "there is no cache of answers"),
            _ if name.contains("guardrails") || name.ends_with("hooks") => {
                import.note(
                    at(name),
                    Fate::Left,
                    "use the validators of a workflow, or the verb `validators` of a rule",
                );
            }
            _ => import.note(at(name), Fate::Left, "there is no such setting here"),
        }
    }
}

/// How often a call is tried again.
fn retry(value: &Value, place: &str, import: &mut Import) {
    for (name, value) in members(value) {
        let place = format!("{place}.{name}");
        match name.as_str() {
            "attempts" => {}
            "on_status_codes" => import.note(
                place,
                Fate::Changed,
                "what is tried again goes by what failed (limits, overload, errors of the vendor's own, lost connections), not by a list",
            ),
            "use_retry_after_header" if value == &Value::Bool(true) => {
                import.note(place, Fate::Carried, "as it is here anyway");
            }
            "use_retry_after_header" => {
                import.note(place, Fate::Changed, "how long a vendor asks to wait is heeded always");
            }
            _ => import.note(place, Fate::Left, "there is no such setting here"),
        }
    }
    match value.get("attempts").and_then(Value::as_u64) {
        Some(n) => {
            let attempts = n.saturating_add(1).min(MAX_ATTEMPTS);
            import.attempts = Some(import.attempts.unwrap_or(0).max(attempts));
            let most = if n >= MAX_ATTEMPTS { ", which is the most" } else { "" };
            let text = format!("`retry.max_attempts: {attempts}` in turnout.yaml, for all requests{most}");
            import.note(place, Fate::Changed, text);
        }
        None => import.note(place, Fate::Left, "expected `attempts`, a whole number"),
    }
}

/// What a strategy says beside its mode, its conditions and its default, which are told of elsewhere.
fn strategy(value: &Value, place: &str, import: &mut Import) {
    for (name, value) in members(value) {
        let place = format!("{place}.{name}");
        match name.as_str() {
            "mode" => {
                let known = ["single", "fallback", "loadbalance", "conditional"];
                if !value.as_str().is_some_and(|m| known.contains(&m)) {
                    import.note(place, Fate::Left, format!("expected one of {}", known.join(", ")));
                }
            }
            "conditions" | "default" => {}
            "on_status_codes" => import.note(
                place,
                Fate::Changed,
                "any failure that another model may mend leads on, whatever its status",
            ),
            "cb_config" => import.note(
                place,
                Fate::Changed,
                "each model has a circuit breaker: `breaker` in turnout.yaml",
            ),
            _ => import.note(place, Fate::Left, "there is no such setting here"),
        }
    }
}

/// Conditions become rules of which the first that holds counts.
fn conditional(document: &Value, strategy: &Value, shipped: &Matrix, import: &mut Import) {
    settings(document, "", import);
    let targets = document.get("targets").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut named: Vec<(String, Vec<String>, bool)> = Vec::new();
    for (i, t) in targets.iter().enumerate() {
        let place = format!("targets[{i}]");
        let found = models(t, &place, shipped, import, DEPTH);
        let name = text(t, "name").map_or_else(|| place.clone(), str::to_owned);
        let ordered = t.get("strategy").and_then(|s| text(s, "mode")) == Some("fallback");
        named.push((name, found, ordered));
    }
    let find = |name: &str| named.iter().find(|(n, all, _)| n == name && !all.is_empty());
    for (i, c) in strategy.get("conditions").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let place = format!("strategy.conditions[{i}]");
        let then = text(c, "then").unwrap_or("");
        let Some((_, found, ordered)) = find(then) else {
            import.note(place, Fate::Left, format!("the target `{then}` cannot be called"));
            continue;
        };
        match condition::expression(c.get("query").unwrap_or(&Value::Null)) {
            Ok(when) => {
                import.note(place, Fate::Carried, format!("a rule: when {when}"));
                let id = format!("portkey_{}_{}", i.saturating_add(1), ident(then));
                pool_rule(&id, &format!("Portkey: the target {then}."), Some(when), found, *ordered, import);
            }
            Err(why) => import.note(place, Fate::Left, format!("rules cannot say it: {why}")),
        }
    }
    match text(strategy, "default").and_then(find) {
        Some((name, found, ordered)) => {
            pool_rule(
                "portkey_default",
                &format!("Portkey: the default target {name}."),
                asked_auto(),
                found,
                *ordered,
                import,
            );
        }
        None => import.note(
            "strategy.default",
            Fate::Left,
            "requests that no condition meets may go to every model",
        ),
    }
    import.note("strategy", Fate::Changed, "conditions on `params.model` see the name the client asked for; ask for \"auto\", or for a model of the target, for the others to hold");
}
