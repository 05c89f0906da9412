//! `rate_limit` and `concurrency`: at most so much in a window, or at the same time; all of them apply.

use super::{Kind, REQUEST, REQUEST_TOOL, Single, Verb, millis, put};
use crate::merge::Action;
use std::sync::Arc;
use types::directives::{LimitRule, Per};
use types::doc::{Fields, Node, Reader, Span, Value};
use types::limits::{Limit, Metric, Window};

pub(super) const RATE_LIMIT: Verb = Verb {
    name: "rate_limit",
    kind: Kind::Hard,
    phases: REQUEST_TOOL,
    single: Single::No,
    arguments: &["per", "requests", "window", "burst"],
    read: |r, node, field, _| several(r, node, field, rate),
};

pub(super) const CONCURRENCY: Verb = Verb {
    name: "concurrency",
    phases: REQUEST,
    arguments: &["per", "max"],
    read: |r, node, field, _| several(r, node, field, concurrency),
    ..RATE_LIMIT
};

/// What of limits cannot be counted of calls of tools, with what can; `None` = all can.
pub(super) fn not_of_tools(node: &Node) -> Option<(Span, &'static str)> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let members = items.iter().filter_map(|item| match &item.value {
        Value::Map(members) => Some(members),
        _ => None,
    });
    members.flatten().find_map(|(key, value)| match key.name.as_str() {
        "tokens" | "usd" => Some((key.span, "`requests`, which counts calls of tools")),
        "per" if value.as_str() == Some("model") => Some((value.span, "tenant, key, user or label:<name>")),
        _ => None,
    })
}

/// Reads one limit, which may come to several.
type One = fn(&mut Reader<'_>, &mut Fields<'_>, Per) -> Option<Vec<LimitRule>>;

/// One limit or a list of them.
fn several(r: &mut Reader<'_>, node: &Node, field: &str, one: One) -> Option<Arc<dyn Action>> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if items.is_empty() {
        r.wrong_type(node, field, "at least one limit");
        return None;
    }
    let each: Vec<Option<Vec<LimitRule>>> = items
        .iter()
        .enumerate()
        .map(|(i, item)| {
            let at = if items.len() > 1 { format!("{field}[{i}]") } else { field.to_owned() };
            let mut f = r.fields(item, &at)?;
            let per = f.require(r, "per").and_then(|n| per(r, n, &f.at("per")));
            // The rest is read all the same, so that all of its problems are told and none that it has not.
            let limit = one(r, &mut f, per.clone().unwrap_or(Per::Tenant));
            f.finish(r);
            limit.filter(|_| per.is_some())
        })
        .collect();
    let each = each.into_iter().collect::<Option<Vec<_>>>()?;
    put(each.concat(), |m, each, at| m.further().limits.extend(each.into_iter().map(|l| (l, at))))
}

fn per(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<Per> {
    if let Some(label) = node.as_str().and_then(|s| s.strip_prefix("label:"))
        && !label.is_empty()
    {
        return Some(Per::Label(label.to_owned()));
    }
    Some(match r.one_of(node, field, &["tenant", "key", "user", "model", "label:<name>"])? {
        "tenant" => Per::Tenant,
        "key" => Per::Key,
        "user" => Per::User,
        "model" => Per::Model,
        _ => {
            r.wrong_type(node, field, "label:<name> with the name of a label");
            return None;
        }
    })
}

fn rate(r: &mut Reader<'_>, f: &mut Fields<'_>, per: Per) -> Option<Vec<LimitRule>> {
    let mut amounts = Vec::new();
    for (key, metric) in [("requests", Metric::Requests), ("tokens", Metric::Tokens), ("usd", Metric::Usd)] {
        if let Some(n) = f.take(key) {
            amounts.push(r.number(n, &f.at(key), 0.0, 1e15).map(|amount| (metric, amount)));
        }
    }
    let written = f.require(r, "window");
    let window = written.and_then(|n| window(r, n, &f.at("window")));
    let burst = f.take("burst").map(|n| (n.span, r.integer(n, &f.at("burst"), 1, 1_000_000)));
    let (metric, amount) = match amounts.as_slice() {
        [one] => (*one)?,
        _ => {
            let message = format!("{} amounts are given", amounts.len());
            let d = r.error("104", f.span, message);
            d.expected = Some("one of requests, tokens, usd".to_owned());
            d.field.clone_from(&f.path);
            return None;
        }
    };
    let window = window?;
    if window == Window::Request && !(per == Per::Model && matches!(metric, Metric::Tokens | Metric::Usd)) {
        let at = written.map_or(f.span, |n| n.span);
        let d = r.error("104", at, "one request is bounded otherwise");
        d.expected = Some("`per: model` with `tokens` or `usd`, or a window that requests share".to_owned());
        d.hint =
            Some("`cap_cost` and `cap_tokens` bound what a request may use with all its calls".to_owned());
        d.field = f.at("window");
        return None;
    }
    if Limit::rate("policy", metric, amount, window).is_none() {
        r.error("104", f.span, "the limit admits nothing").expected = Some("a greater amount".to_owned());
        return None;
    }
    let whole = LimitRule { per, metric, amount, window };
    match burst {
        None => Some(vec![whole]),
        Some((span, most)) => {
            let at_once = spread(&whole, most? as f64);
            if at_once.is_none() {
                let d = r.error("104", span, "`burst` has no effect here");
                d.expected = Some("fewer than `requests`, of a window that slides".to_owned());
                d.hint = Some("`day` and `month` are those of the calendar; `24h` slides".to_owned());
                d.field = f.at("burst");
            }
            Some(vec![at_once?, whole])
        }
    }
}

/// No more than `most` at once of what a limit admits: as many as fall due in so much of its window. `None` = that is no
/// limit beside it.
fn spread(limit: &LimitRule, most: f64) -> Option<LimitRule> {
    let Window::Sliding(ms) = limit.window else { return None };
    let share = most / limit.amount;
    let fewer = limit.metric == Metric::Requests && share < 1.0;
    let window = Window::Sliding((ms as f64 * share).round().max(1.0) as u64);
    fewer.then(|| LimitRule { amount: most, window, ..limit.clone() })
}

/// `request`, `second` to `month`, or a duration.
fn window(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<Window> {
    match node.as_str().and_then(Window::parse) {
        Some(window) => Some(window),
        None => millis(r, node, field).map(Window::Sliding),
    }
}

fn concurrency(r: &mut Reader<'_>, f: &mut Fields<'_>, per: Per) -> Option<Vec<LimitRule>> {
    let max = f.require(r, "max").and_then(|n| r.integer(n, &f.at("max"), 1, 1_000_000))?;
    Some(vec![LimitRule { per, metric: Metric::Concurrency, amount: max as f64, window: Window::Sliding(1) }])
}

#[cfg(test)]
mod tests {
    use crate::testing::{check_verb, load_text};
    use types::directives::Per;
    use types::limits::{Metric, Window};

    #[test]
    fn every_limit_applies() {
        let d = check_verb(
            &[
                "rate_limit: [{ per: tenant, requests: 10, window: second }, { per: \"label:team\", usd: 2.5, window: day }]",
                "rate_limit: { per: tenant, requests: 20, window: 90s }",
                "concurrency: { per: user, max: 3 }",
            ],
            &["applied"; 3],
        );
        let limits: Vec<_> = d.further.unwrap().limits.into_iter().map(|l| l.value).collect();
        assert_eq!(limits.len(), 4);
        assert_eq!((&limits[1].per, limits[1].metric), (&Per::Label("team".into()), Metric::Usd));
        assert_eq!(limits[2].window, Window::Sliding(90_000));
        assert_eq!((limits[3].metric, limits[3].amount), (Metric::Concurrency, 3.0));
    }

    #[test]
    fn a_burst_is_what_falls_due_in_its_share_of_the_window() {
        let limits = |limit: &str| {
            let d = check_verb(&[&format!("rate_limit: {limit}")], &["applied"]);
            let limits = d.further.unwrap().limits.into_iter();
            limits.map(|l| (l.value.amount, l.value.window)).collect::<Vec<_>>()
        };
        let whole = (60.0, Window::Sliding(60_000));
        assert_eq!(
            limits("{ per: key, requests: 60, window: minute, burst: 5 }"),
            [(5.0, Window::Sliding(5_000)), whole]
        );
        assert_eq!(limits("{ per: key, requests: 60, window: 1m }"), [whole]);
        for wrong in [
            "{ per: key, requests: 60, window: day, burst: 5 }",
            "{ per: key, requests: 5, window: minute, burst: 5 }",
            "{ per: key, tokens: 60, window: minute, burst: 5 }",
            "{ per: key, requests: 60, window: minute, burst: 0 }",
        ] {
            let (_, problems) =
                load_text(&format!("rules: [{{ id: a, actions: {{ rate_limit: {wrong} }} }}]"), &[]);
            assert_eq!(problems.len(), 1, "{wrong}: {problems:#?}");
            assert!(problems[0].field.ends_with("burst"), "{problems:#?}");
        }
    }

    #[test]
    fn what_one_request_may_use_is_bounded_of_each_model() {
        let d = check_verb(&["rate_limit: { per: model, usd: 0.02, window: request }"], &["applied"]);
        let limits: Vec<_> = d.further.unwrap().limits.into_iter().map(|l| l.value).collect();
        assert_eq!((&limits[0].per, limits[0].window), (&Per::Model, Window::Request));
        for wrong in [
            "{ per: tenant, usd: 0.02, window: request }",
            "{ per: model, requests: 2, window: request }",
            "{ per: key, tokens: 2, window: request }",
        ] {
            let (_, problems) =
                load_text(&format!("rules: [{{ id: a, actions: {{ rate_limit: {wrong} }} }}]"), &[]);
            assert_eq!(problems.len(), 1, "{wrong}: {problems:#?}");
            assert!(problems[0].field.ends_with("window"), "{problems:#?}");
            assert!(problems[0].hint.as_ref().is_some_and(|h| h.contains("cap_cost")), "{problems:#?}");
        }
    }

    #[test]
    fn who_is_counted_wrongly_makes_nothing_else_wrong() {
        let (_, problems) = load_text(
            "rules: [{ id: a, actions: { rate_limit: [{ per: planet, requests: 1, window: 1m }] } }]",
            &[],
        );
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].message.contains("planet"), "{problems:#?}");
    }

    #[test]
    fn of_tools_the_calls_are_counted_and_nothing_else() {
        let load = |limit: &str| {
            let rules =
                format!("rules:\n- {{ id: a, owner: me, phase: tool, actions: {{ rate_limit: {limit} }} }}");
            load_text(&rules, &[]).1
        };
        assert_eq!(load("{ per: user, requests: 3, window: hour }"), []);
        for wrong in [
            "{ per: user, usd: 3, window: hour }",
            "[{ per: key, tokens: 3, window: hour }]",
            "{ per: model, requests: 3, window: hour }",
        ] {
            let problems = load(wrong);
            assert_eq!(problems.len(), 1, "{problems:#?}");
            assert_eq!(problems[0].code, "PL107", "{problems:#?}");
        }
        let (_, problems) = load_text(
            "rules: [{ id: a, owner: me, phase: tool, actions: { concurrency: { per: user, max: 3 } } }]",
            &[],
        );
        assert_eq!(problems[0].code, "PL107", "{problems:#?}");
    }

    #[test]
    fn a_limit_states_one_amount() {
        for wrong in ["{ per: tenant, window: day }", "{ per: key, requests: 1, tokens: 2, window: day }"] {
            let rules =
                format!("rules:\\n- {{ id: a, actions: {{ rate_limit: {wrong} }} }}").replace("\\n", "\n");
            let (_, problems) = load_text(&rules, &[]);
            assert_eq!(problems[0].code, "PL104", "{problems:#?}");
        }
    }
}
