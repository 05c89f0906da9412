//! What LiteLLM sets for all of its models: fallbacks, strategies, limits, and what has no place here.

use super::super::{Fate, Import, Rule, members, number, text};
use super::Names;
use serde_json::Value;

/// Where budgets belong.
pub(super) const BUDGET: &str = "budgets belong to tenants and keys: `turnout tenant create NAME --limit \"100 usd per month\"` for all of its keys together, `turnout key create --limit` for one";

/// Reads one setting of a section.
pub(super) fn setting(section: &str, name: &str, value: &Value, import: &mut Import, all: &mut Names) {
    let Names { groups, falls, aliases } = all;
    let place = format!("{section}.{name}");
    match name {
        "fallbacks" => {
            let Some(all) = value.as_array() else {
                return import.note(place, Fate::Left, "expected a list of `group: [fallback, ..]`");
            };
            for (group, to) in all.iter().flat_map(members) {
                let names = named(to, &format!("{place}.{group}"), import);
                falls.entry(group.clone()).or_default().extend(names);
            }
            import.note(place, Fate::Carried, "the group is asked first, then its fallbacks");
        }
        "default_fallbacks" => {
            let names = named(value, &place, import);
            for (group, _) in groups.iter() {
                falls.entry(group.clone()).or_default().extend(names.iter().filter(|n| *n != group).cloned());
            }
            import.note(place, Fate::Carried, "added to the fallbacks of every group");
        }
        "context_window_fallbacks" => import.note(place, Fate::Changed, "a model that is too small for a request is no candidate for it; give the groups as `fallbacks` and the larger one is taken"),
        "model_group_alias" => {
            for (alias, to) in members(value) {
                let target = to.as_str().or_else(|| text(to, "model")).unwrap_or("");
                match groups.iter().find(|(g, _)| g == target).map(|(_, ids)| ids.clone()) {
                    Some(ids) => {
                        for (name, _) in members(to).filter(|(n, _)| *n != "model") {
                            import.note(format!("{place}.{alias}.{name}"), Fate::Left, "there is no such setting here");
                        }
                        groups.push((alias.clone(), ids));
                        aliases.push((alias.clone(), target.to_owned()));
                        import.note(format!("{place}.{alias}"), Fate::Carried, format!("as `{target}`"));
                    }
                    None => import.note(format!("{place}.{alias}"), Fate::Left, format!("there is no group `{target}`")),
                }
            }
        }
        "num_retries" => match number(value).map(|n| n as u64).filter(|n| *n <= 4) {
            Some(n) => {
                overruled(import, "retry.max_attempts", &place);
                import.attempts = Some(n.saturating_add(1));
                import.note(place, Fate::Carried, format!("`retry.max_attempts: {}` in turnout.yaml", n.saturating_add(1)));
            }
            None if number(value).is_some_and(|n| n > 4.0) => {
                overruled(import, "retry.max_attempts", &place);
                import.attempts = Some(5);
                import.note(place, Fate::Changed, "`retry.max_attempts: 5` in turnout.yaml, which is the most");
            }
            None => import.note(place, Fate::Left, "expected a whole number"),
        },
        "request_timeout" | "timeout" => match number(value).filter(|s| (1.0..=3_600.0).contains(s)) {
            // Within the bounds above.
            Some(s) => {
                overruled(import, "request.default_deadline", &place);
                import.deadline_s = Some(s as u64);
                import.note(place, Fate::Carried, "`request.default_deadline` in turnout.yaml");
            }
            None => import.note(place, Fate::Left, "expected seconds, 1 to 3600"),
        },
        "routing_strategy" => strategy(value.as_str().unwrap_or(""), place, import),
        "drop_params" => import.note(place, Fate::Changed, "what a vendor is known to refuse is left out always (`quirks.drop` of the matrix)"),
        "allowed_fails" | "cooldown_time" => import.note(place, Fate::Changed, "each model has a circuit breaker: `breaker` in turnout.yaml"),
        "max_budget" | "budget_duration" => import.note(place, Fate::Left, BUDGET),
        _ if name.contains("callback") => import.note(place, Fate::Left, "metrics are at /metrics, records at /v1/decisions; other sinks are not fed"),
        _ if name.contains("cache") || name.starts_with("redis") => import.note(place, Fate::Left, "there is no cache of answers"),
        _ => import.note(place, Fate::Left, instead(name)),
    }
}

/// What was told to be a setting of ours before is not kept: another one of the file says it as well, and counts.
fn overruled(import: &mut Import, setting: &str, by: &str) {
    let named = format!("`{setting}");
    for n in import.notes.iter_mut().filter(|n| n.fate != Fate::Left && n.text.starts_with(&named)) {
        (n.fate, n.text) = (Fate::Left, format!("`{by}` says it as well, and counts"));
    }
}

/// What to use in the place of a setting that has none of its kind here; in their names LiteLLM's sections agree.
const INSTEAD: &[(&str, &str)] = &[
    (
        "provider_budget_config",
        "a limit that counts calls of one provider: `turnout key create --limit \"10 usd per day for model openai/*\"`",
    ),
    (
        "max_parallel_requests",
        "use a limit on `concurrency` of tenants and keys, or `edge.max_inflight` in turnout.yaml",
    ),
    ("global_max_parallel_requests", "use `edge.max_inflight` in turnout.yaml"),
    ("alerting", "use the verb `notify` of rules, and `webhooks.notify_url` in turnout.yaml"),
    ("alerting_threshold", "use the verb `notify` of rules, and `webhooks.notify_url` in turnout.yaml"),
    ("json_logs", "set TURNOUT_LOG_FORMAT=json"),
    ("turn_off_message_logging", "use a rule with `log: { content: none }`"),
    ("enable_tag_filtering", "use rules that read `request.options.tags` and `require` models by their tags"),
    ("tag_filtering", "use rules that read `request.options.tags` and `require` models by their tags"),
    (
        "content_policy_fallbacks",
        "use a rule of the phase `response` with `when: response.refused` and `escalate`",
    ),
];

pub(super) fn instead(name: &str) -> &'static str {
    let found = INSTEAD.iter().find(|(n, _)| *n == name);
    found.map_or("there is no such setting here", |(_, what)| what)
}

/// The names of a list of groups; what is none is noted.
fn named(value: &Value, place: &str, import: &mut Import) -> Vec<String> {
    let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let mut names = Vec::new();
    for item in items {
        match item.as_str() {
            Some(name) => names.push(name.to_owned()),
            None => import.note(place, Fate::Left, "a fallback that is no name of a group"),
        }
    }
    names
}

fn strategy(name: &str, place: String, import: &mut Import) {
    let weight = match name {
        "latency-based-routing" => "{ latency: 3.0 }",
        "cost-based-routing" => "{ cost: 2.0 }",
        _ => {
            return import.note(
                place,
                Fate::Changed,
                format!("`{name}`: the router chooses by expected outcome, cost and latency instead"),
            );
        }
    };
    import.rules.push(Rule {
        id: "imported_strategy".to_owned(),
        description: format!("LiteLLM's {name}"),
        when: None,
        group: None,
        actions: vec![format!("weight: {weight}")],
    });
    import.note(
        place,
        Fate::Changed,
        format!("a rule with `weight: {weight}`: it counts more, but a good answer still comes first"),
    );
}
