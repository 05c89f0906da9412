//! `retry: {max_attempts, backoff, codes, reroute, respect_retry_after}` — attempts of one call, as nodes of workflows say it;
//! `cap_attempts` bounds them.

use super::{Kind, REQUEST, Single, Verb, count, millis, put};
use types::directives::RetryRule;
use types::doc::{Node, Reader, Value};
use types::provider::ErrorKind;

pub(super) const VERB: Verb = Verb {
    name: "retry",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["max_attempts", "backoff"],
    read: |r, node, field, _| {
        let before = r.problems.len();
        let mut f = r.fields(node, field)?;
        let max = f.require(r, "max_attempts").and_then(|n| count(r, n, &f.at("max_attempts"), 1, 5));
        let mut rule = RetryRule::default();
        if let Some(n) = f.take("backoff") {
            backoff(r, n, &f.at("backoff"), &mut rule);
        }
        if let Some(n) = f.take("codes") {
            rule.codes = codes(r, n, &f.at("codes"));
        }
        rule.stays = f.take("reroute").and_then(|n| r.boolean(n, &f.at("reroute"))) == Some(false);
        let respects = f.take("respect_retry_after").and_then(|n| r.boolean(n, &f.at("respect_retry_after")));
        rule.impatient = respects == Some(false);
        f.finish(r);
        rule.max = max?;
        // What is wrong anywhere in it has been told of, and says nothing by halves.
        if r.problems.len() > before {
            return None;
        }
        put(rule, |m, v, at| m.single(|m| &mut m.further().retry, v, at))
    },
};

/// A duration, or `{initial, factor, max, jitter}`.
fn backoff(r: &mut Reader<'_>, node: &Node, field: &str, rule: &mut RetryRule) {
    if !matches!(node.value, Value::Map(_)) {
        rule.backoff_ms = millis(r, node, field);
        return;
    }
    let Some(mut f) = r.fields(node, field) else { return };
    rule.backoff_ms = f.take("initial").and_then(|n| millis(r, n, &f.at("initial")));
    rule.factor = f.take("factor").and_then(|n| r.number(n, &f.at("factor"), 1.0, 10.0));
    rule.backoff_max_ms = f.take("max").and_then(|n| millis(r, n, &f.at("max")));
    let jitter = f.take("jitter").and_then(|n| r.one_of(n, &f.at("jitter"), &["full", "none"]));
    rule.exact = jitter == Some("none");
    f.finish(r);
}

fn codes(r: &mut Reader<'_>, node: &Node, field: &str) -> Vec<String> {
    let list = r.list(node, field).unwrap_or(&[]);
    let known = ErrorKind::RETRY_NAMES;
    list.iter().filter_map(|n| r.one_of(n, field, &known)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use crate::testing::{check_verb, load_text};
    use types::directives::RetryRule;

    #[test]
    fn a_rule_says_all_that_a_node_can_say() {
        let check = |argument: &str, want: RetryRule| {
            let d = check_verb(&[&format!("retry: {argument}")], &["applied"]);
            assert_eq!(d.further.unwrap().retry.unwrap().value, want, "{argument}");
        };
        check("{ max_attempts: 2 }", RetryRule { max: 2, ..RetryRule::default() });
        check(
            "{ max_attempts: 2, backoff: 1s }",
            RetryRule { max: 2, backoff_ms: Some(1_000), ..RetryRule::default() },
        );
        check(
            "{ max_attempts: 3, backoff: { initial: 100ms, factor: 3, max: 2s, jitter: none }, codes: [timeout], \
             reroute: false, respect_retry_after: false }",
            RetryRule {
                max: 3,
                backoff_ms: Some(100),
                factor: Some(3.0),
                backoff_max_ms: Some(2_000),
                exact: true,
                codes: vec!["timeout".to_owned()],
                stays: true,
                impatient: true,
            },
        );
    }

    #[test]
    fn what_no_node_may_say_is_refused() {
        for (argument, code, part) in [
            ("{ backoff: 1s }", "PL102", "max_attempts"),
            ("{ max_attempts: 6 }", "PL104", "1..=5"),
            ("{ max_attempts: 2, backoff: { factor: 0 } }", "PL104", "factor"),
            ("{ max_attempts: 2, backoff: { jiter: none } }", "PL101", "did you mean `jitter`?"),
            ("{ max_attempts: 2, codes: [timout] }", "PL104", "did you mean `timeout`?"),
            ("{ max_attempts: 2, reroute: never }", "PL103", "reroute"),
        ] {
            let (_, problems) =
                load_text(&format!("rules: [{{ id: a, actions: {{ retry: {argument} }} }}]"), &[]);
            let told = problems.iter().any(|d| d.code == code && d.to_string().contains(part));
            assert!(told, "{argument}: {problems:#?}");
        }
    }
}
