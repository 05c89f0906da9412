//! Every verb: what two actions of it come to, how it merges, where it is refused, what the record says.

use crate::Phase;
use crate::testing::{TOOL_RULES, check_rules_in, load_text, matrix};
use crate::verb::VERBS;
use serde_json::{Value, json};

/// A verb with two arguments, what becomes of each action, and the merged result.
pub(super) struct Case(pub(super) &'static str, pub(super) [&'static str; 2], [&'static str; 2], Value);

/// Applied twice.
const BOTH: [&str; 2] = ["applied", "applied"];
/// The first wins, the second.
const FIRST: [&str; 2] = ["applied", "overridden by r0"];
const SECOND: [&str; 2] = ["overridden by r1", "applied"];
/// Nothing is left for the second to remove.
const REMOVED: [&str; 2] = ["applied", "no effect: it removes no further model"];

pub(super) fn cases() -> Vec<Case> {
    let mask = |entity: &str, place: &str| json!({"entity": entity, "place": place, "action": "mask", "restore": false});
    vec![
        Case("prefer", ["[acme/small]", "[acme/small]"], BOTH, json!({"acme/small": 0.6})),
        Case(
            "avoid",
            ["[acme/small]", "{ models: [acme/small], strength: 0.5 }"],
            BOTH,
            json!({"acme/small": -0.8}),
        ),
        Case("weight", ["{ cost: 2 }", "{ cost: 1.5 }"], BOTH, json!({"cost": 3.0})),
        Case("require", ["[\"acme/*\"]", "[\"*/small\"]"], BOTH, json!(null)),
        Case("exclude", ["[acme/small]", "[acme/small]"], REMOVED, json!(null)),
        Case("min_quality", ["0.5", "0.7"], SECOND, json!(0.7)),
        Case("residency", ["[us]", "[eu, us]"], REMOVED, json!(["us"])),
        Case(
            "data_policy",
            ["{ trains: false }", "{ max_retention_days: 30 }"],
            BOTH,
            json!({"max_retention_days": 30, "no_training": true}),
        ),
        Case("explore", ["{ max_rate: 0.02 }", "none"], SECOND, json!({"max_rate": 0.0})),
        Case(
            "sticky",
            ["{ by: user, ttl: 5m }", "conversation"],
            FIRST,
            json!({"by": "user", "ttl_ms": 300_000}),
        ),
        Case(
            "assume_price",
            ["{ in: 1, out: 2 }", "{ in: 3, out: 4 }"],
            FIRST,
            json!({"in": 1.0, "out": 2.0}),
        ),
        Case("premium", ["true", "false"], FIRST, json!(true)),
        Case("priority", ["batch", "interactive"], FIRST, json!("batch")),
        Case("notify", ["{ sink: log, message: one }", "{ sink: webhook, message: two }"], BOTH, json!(null)),
        Case("workflow", ["careful", "default"], FIRST, json!("careful")),
        Case("validators", ["[json]", "[length]"], BOTH, json!([{"use": "json"}, {"use": "length"}])),
        Case(
            "escalate",
            ["{ to: \"pool:strong\" }", "{ to: \"acme/*\" }"],
            FIRST,
            json!({"to": ["acme/large"]}),
        ),
        Case("enforce_format", ["json", "json_schema"], SECOND, json!("json_schema")),
        Case("stream", ["windowed", "buffered"], SECOND, json!("buffered")),
        Case("set_var", ["{ a: 1 }", "{ a: 2, b: x }"], BOTH, json!({"a": 1, "b": "x"})),
        Case("cap_cost", ["0.5", "0.25"], SECOND, json!(0.25)),
        Case("cap_latency", ["5s", "20s"], FIRST, json!("5000ms")),
        Case("cap_tokens", ["100", "50"], SECOND, json!(50)),
        Case("cap_calls", ["4", "5"], FIRST, json!(4)),
        Case("cap_attempts", ["3", "2"], SECOND, json!(2)),
        Case("cap_fanout", ["3", "2"], SECOND, json!(2)),
        Case("fanout", ["3", "5"], FIRST, json!(3)),
        Case("hedge", ["{ after: p90 }", "{ after: 1s, max: 2 }"], FIRST, json!({"after": "p90", "max": 1})),
        Case(
            "repair",
            ["{ max_attempts: 1, strategies: [fix, reprompt] }", "{ max_attempts: 3 }"],
            FIRST,
            json!({"max_attempts": 1, "strategies": ["fix", "reprompt"]}),
        ),
        Case("cap_max_tokens", ["100", "50"], SECOND, json!(50)),
        Case("cap_temperature", ["0.5", "0.7"], FIRST, json!(0.5)),
        Case("set_temperature", ["0.1", "0.2"], FIRST, json!({"temperature": 0.1})),
        Case("set_max_tokens", ["10", "20"], FIRST, json!({"max_tokens": 10})),
        Case(
            "set_params",
            ["{ top_p: 0.5 }", "{ top_p: 1, seed: 7 }"],
            BOTH,
            json!({"seed": 7, "top_p": 0.5}),
        ),
        Case("retry", ["{ max_attempts: 2 }", "{ max_attempts: 5, backoff: 1s }"], FIRST, json!({"max": 2})),
        Case(
            "add_system",
            ["Be brief.", "{ text: Be kind., before: true }"],
            BOTH,
            json!([{"text": "Be brief.", "before": false}, {"text": "Be kind.", "before": true}]),
        ),
        Case(
            "rate_limit",
            ["{ per: tenant, requests: 2, window: second }", "{ per: key, usd: 1, window: day }"],
            BOTH,
            json!([
                {"per": "tenant", "metric": "requests", "amount": 2.0, "window": {"sliding": 1000}},
                {"per": "key", "metric": "usd", "amount": 1.0, "window": "day"},
            ]),
        ),
        Case(
            "concurrency",
            ["{ per: tenant, max: 2 }", "{ per: model, max: 1 }"],
            BOTH,
            json!([
                {"per": "tenant", "metric": "concurrency", "amount": 2.0, "window": {"sliding": 1}},
                {"per": "model", "metric": "concurrency", "amount": 1.0, "window": {"sliding": 1}},
            ]),
        ),
        Case(
            "deny",
            ["first", "{ reason: second, code: two, status: 451 }"],
            BOTH,
            json!([
                {"reason": "first", "code": "denied", "status": 403},
                {"reason": "second", "code": "two", "status": 451},
            ]),
        ),
        Case(
            "require_approval",
            ["{ group: ops, reason: money }", "{ group: ops, reason: time, expires: 1h }"],
            SECOND,
            json!([{"group": "ops", "reason": "time", "expires_ms": 3_600_000}]),
        ),
        Case(
            "redact",
            ["{ entities: [email], in: [input] }", "{ use: personal, in: [logs] }"],
            BOTH,
            json!([mask("email", "input"), mask("email", "logs"), mask("phone", "logs")]),
        ),
        Case("allow_tools", ["[a, b]", "[b]"], BOTH, json!([["a", "b"], ["b"]])),
        Case("deny_tools", ["[a]", "[\"b*\"]"], BOTH, json!(["a", "b*"])),
        Case(
            "log",
            ["{ content: metadata, retention: 30d }", "{ content: full, retention: 1d }"],
            BOTH,
            json!({"content": "metadata", "retention_ms": 86_400_000}),
        ),
        Case(
            "experiment",
            ["{ only: [repairs, judges] }", "{ only: [judges] }"],
            SECOND,
            json!({"only": ["judges"]}),
        ),
        Case(
            "shadow",
            ["{ models: [acme/large], rate: 0.5 }", "{ workflow: careful, rate: 1 }"],
            BOTH,
            json!([
                {"workflow": null, "models": ["acme/large"], "rate": 0.5},
                {"workflow": "careful", "models": null, "rate": 1.0},
            ]),
        ),
        Case(
            "cache",
            ["{ mode: exact, ttl: 1h }", "{ mode: none, scope: tenant }"],
            BOTH,
            json!({"mode": "none", "ttl_ms": 3_600_000, "scope": "tenant"}),
        ),
        Case("audit", ["required", "required"], FIRST, json!("required")),
        Case("tag", ["{ a: x }", "{ a: y }"], FIRST, json!({"a": "x"})),
        Case(
            "header",
            ["{ X-A: one }", "{ x-a: two, x-b: three }"],
            BOTH,
            json!({"x-a": "one", "x-b": "three"}),
        ),
    ]
}

/// Where the result of a verb stands.
pub(super) fn key(verb: &str) -> &str {
    match verb {
        "avoid" => "prefer",
        "set_temperature" | "set_max_tokens" => "set_params",
        "rate_limit" | "concurrency" => "limits",
        verb => verb,
    }
}

#[test]
fn what_is_no_map_is_told_what_belongs_into_one() {
    for (argument, members) in [
        ("rate_limit: 5", "per"),
        ("redact: email", "entities"),
        ("concurrency: x", "per"),
        ("require_approval: ops", "group"),
        ("notify: ops", "message, sink"),
    ] {
        let rules = format!("{TOOL_RULES}rules:\n- {{ id: a, owner: x, actions: {{ {argument} }} }}");
        let (_, problems) = load_text(&rules, &[]);
        let told: Vec<String> = problems.iter().filter_map(|d| d.expected.clone()).collect();
        assert!(told.iter().any(|t| t.contains("a map, of: ") && t.contains(members)), "{problems:#?}");
    }
}

#[test]
fn t02_every_verb_has_its_effect_its_merge_its_phases_and_its_explanation() {
    let cases = cases();
    for verb in VERBS {
        assert!(cases.iter().any(|c| c.0 == verb.name), "`{}` has no case", verb.name);
    }
    for Case(verb, arguments, effects, want) in cases {
        let spec = VERBS.iter().find(|v| v.name == verb).unwrap();
        let phase = spec.phases[0];
        let rules = |phase: Phase| {
            let rule = |(i, a): (usize, &&str)| {
                format!("- {{ id: r{i}, phase: {}, actions: {{ {verb}: {a} }} }}\n", phase.as_str())
            };
            arguments.iter().enumerate().map(rule).collect::<String>()
        };
        // Effect and merge, and what the record says of each action.
        let d = check_rules_in(phase, &rules(phase), &effects);
        let got = crate::directives_json(&d, &matrix());
        assert_eq!(got.get(key(verb)).cloned().unwrap_or_default(), want, "{verb}");
        for (action, argument) in d.actions.iter().zip(arguments) {
            assert_eq!(action.verb.as_str(), verb);
            assert!(!action.argument.is_null(), "{verb}: {argument}");
        }
        // Phases in which it means nothing.
        for phase in Phase::ALL.into_iter().filter(|p| !spec.phases.contains(p)) {
            let (_, problems) = load_text(&format!("{TOOL_RULES}rules:\n{}", rules(phase)), &[]);
            assert!(problems.iter().any(|d| d.code == "PL107"), "{verb} in {}: {problems:?}", phase.as_str());
        }
    }
}

/// Arguments that hardly any verb takes.
const MISUSES: &[&str] =
    &["-1000000", "[[1]]", "{ zzz: { zzz: 1 } }", "\"\"", "true", "[{ zzz: 1 }]", "2026-13-45", "~"];

#[test]
fn every_verb_misused_is_refused_with_its_place() {
    for verb in VERBS {
        let mut refused = 0;
        for misuse in MISUSES {
            let phase = verb.phases[0].as_str();
            let rule = format!("- {{ id: r, phase: {phase}, actions: {{ {}: {misuse} }} }}\n", verb.name);
            let (_, problems) = load_text(&format!("{TOOL_RULES}rules:\n{rule}"), &[]);
            let errors = problems.iter().filter(|d| d.severity == types::Severity::Error);
            let told: Vec<_> = errors.collect();
            refused += usize::from(!told.is_empty());
            for d in told {
                let names = d.field.contains(verb.name) || d.message.contains(verb.name);
                assert!(names && d.line == 5 && d.column > 1, "{}: {misuse}: {d:?}", verb.name);
            }
        }
        // Free texts and maps take some of them.
        assert!(refused >= 5, "`{}` takes {} of {MISUSES:?}", verb.name, MISUSES.len() - refused);
    }
}
