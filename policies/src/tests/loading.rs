//! Loading of rules, pools and sets: what is wrong is told at once, with its place.

use crate::Phase;
use crate::testing::{load_text, matrix, sound};
use types::diagnostic::Severity;

/// Code, line, column and a piece of the text of every problem.
#[track_caller]
fn check(yaml: &str, want: &[(&str, usize, usize, &str)]) {
    let (_, problems) = load_text(yaml, &[]);
    let got: Vec<_> = problems.iter().map(|d| (d.code.as_str(), d.line, d.column)).collect();
    assert_eq!(got, want.iter().map(|w| (w.0, w.1, w.2)).collect::<Vec<_>>(), "{yaml}\n{problems:#?}");
    for (d, w) in problems.iter().zip(want) {
        assert!(d.to_string().contains(w.3), "{d}");
    }
}

/// One rule of one line, with these members beside its id; places are on line 2.
#[track_caller]
fn rule(members: &str, want: &[(&str, usize, &str)]) {
    let want: Vec<_> = want.iter().map(|w| (w.0, 2, w.1, w.2)).collect();
    check(&format!("rules:\n- {{ id: a, {members} }}"), &want);
}

#[test]
fn misspelt_things_never_load() {
    rule("actions: { prefr: [acme/small] }", &[("PL101", 23, "did you mean `prefer`?")]);
    rule("actions: { experiment: { only: [repair] } }", &[("PL212", 43, "did you mean `repairs`?")]);
    rule("actions: { experimnt: none }", &[("PL101", 23, "did you mean `experiment`?")]);
    rule("actions: { notify: { sink: lgo, message: x } }", &[("PL104", 39, "did you mean `log`?")]);
    rule("actions: { notify: { sink: log } }", &[("PL102", 33, "`message`")]);
    rule("actions: { priority: bulk }", &[("PL104", 33, "batch")]);
    rule("actions: { fanout: 17 }", &[("PL104", 31, "1..=16")]);
    rule("actions: { cap_fanout: 0 }", &[("PL104", 35, "1..=16")]);
    rule("actions: { fanuot: 2 }", &[("PL101", 23, "did you mean `fanout`?")]);
    rule("actions: { hedge: nnoe }", &[("PL103", 30, "`none`, or {after, max}")]);
    rule("actions: { hedge: { after: p40 } }", &[("PL104", 39, "p50 to p99")]);
    rule("actions: { hedge: { after: 1s, max: 4 } }", &[("PL104", 48, "1..=3")]);
    rule("actions: { hedge: { max: 1 } }", &[("PL102", 32, "`after`")]);
    rule("actions: { repair: { max_attempts: 5 } }", &[("PL104", 47, "0..=4")]);
    rule("actions: { repair: { strategies: [repromt] } }", &[("PL104", 46, "did you mean `reprompt`?")]);
    rule("actions: { repair: { strategies: [] } }", &[("PL103", 45, "at least one strategy")]);
    rule("actions: { repair: {} }", &[("PL103", 31, "one of the two")]);
    rule("actions: { fanout: 2 }, phase: response", &[("PL107", 23, "the phase request")]);
    rule("actions: { escalate: { to: careful } }", &[("PL109", 35, "only models")]);
    rule("actions: { tag: { a: b } }, whn: x", &[("PL101", 40, "did you mean `when`?")]);
    rule("actions: { tag: { a: b } }, mode: enforced", &[("PL104", 46, "did you mean `enforce`?")]);
    rule("actions: { tag: { a: b } }, phase: respnse", &[("PL104", 47, "did you mean `response`?")]);
    rule("actions: { cap_calls: 2 }, phase: tool", &[("PL107", 23, "the phase request")]);
    rule("actions: { tag: { a: b } }, phase: tool, when: response.refused", &[("PL301", 59, "`response`")]);
    rule(
        "actions: { tag: { a: b } }, phase: tool, when: tool.side_effect == \"unsaf\"",
        &[("PL304", 79, "unsafe")],
    );
    rule(
        "actions: { tag: { a: b } }, when: provider(\"acm\").status == \"offline\"",
        &[("PL201", 55, "`acme`")],
    );
    rule("actions: { redact: { entities: [emial] } }", &[("PL104", 44, "did you mean `email`?")]);
    rule("actions: { redact: { entities: [\"custom:badge\"] } }", &[("PL209", 44, "no pattern `badge`")]);
    let of_model = |wrong: &str| format!("actions: {{ require: [{{ where: \"model.{wrong}\" }}] }}");
    rule(&of_model("error_rate < 0.1"), &[("PL303", 43, "?? 0")]);
    rule(&of_model("health == \\\"ofline\\\""), &[("PL304", 59, "offline")]);
    rule(&of_model("status == 1"), &[("PL301", 49, "")]);
    rule("actions: { redact: { use: persnal } }", &[("PL208", 38, "no redaction `persnal`")]);
    rule(
        "actions: { require_approval: { group: opz, reason: x } }",
        &[("PL207", 50, "no group of approvers")],
    );
    rule("actions: { data_policy: { trains: true } }", &[("PL103", 46, "no demand")]);
    rule("actions: { escalate: { to: carefull } }", &[("PL201", 39, "no model `carefull`")]);
    rule("actions: { require: acme/smal }", &[("PL201", 32, "did you mean `acme/small`?")]);
    rule("actions: { require: [\"groq/*\"] }", &[("PL203", 33, "matches no model")]);
    rule("actions: { prefer: [\"pool:codng\"] }", &[("PL202", 32, "no pool `codng`")]);
    rule("actions: { workflow: defalt }", &[("PL205", 33, "did you mean `default`?")]);
    rule("actions: { validators: [jsn] }", &[("PL206", 36, "did you mean `json`?")]);
    rule(
        "actions: { validators: [{ use: json, severity: hard }] }",
        &[("PL104", 59, "one of warn, repair, block")],
    );
    rule(
        "actions: { validators: [{ use: length, with: { maks: 3 } }] }",
        &[("PL101", 59, "validator `length`: unknown parameter `maks`")],
    );
    rule("actions: { weight: { costs: 1 } }", &[("PL101", 33, "did you mean `cost`?")]);
    rule(
        "actions: { tag: { a: b } }, when: workload.task_family == \"codng\"",
        &[("PL304", 70, "did you mean `coding`?")],
    );
    rule(
        "actions: { tag: { a: b } }, unless: \"workload.task_famly == 1\"",
        &[("PL301", 58, "did you mean `task_family`?")],
    );
    rule("actions: { prefer: [{ where: \"model.teir > 1\" }] }", &[("PL301", 48, "did you mean `tier`?")]);
    rule(
        "actions: { prefer: [{ where: model.price_out < 1.0 }] }",
        &[("PL303", 41, "(model.price_out ?? 0)")],
    );
}

#[test]
fn wrong_shapes_never_load() {
    rule("actions: {}", &[("PL103", 21, "at least one verb")]);
    rule("when: request.stream", &[("PL102", 5, "`actions` is missing")]);
    rule("actions: { cap_cost: -1 }", &[("PL104", 33, "0..=1000000")]);
    rule("actions: { cap_cost: cheap }", &[("PL103", 33, "number")]);
    rule("actions: { cap_latency: 5 }", &[("PL111", 36, "5s for seconds")]);
    rule("actions: { cap_latency: 0s }", &[("PL104", 36, "above zero")]);
    rule("actions: { cap_max_tokens: 0 }", &[("PL104", 39, "1..=")]);
    rule("actions: { cap_temperature: 3 }", &[("PL104", 40, "0..=2")]);
    rule("actions: { weight: { cost: 5 } }", &[("PL104", 39, "0..=4")]);
    rule("actions: { weight: {} }", &[("PL103", 31, "success, quality")]);
    rule("actions: { prefer: { models: acme/small, strength: 2 } }", &[("PL104", 63, "0.05..=1")]);
    rule("actions: { prefer: { strength: 1 } }", &[("PL102", 33, "`models` is missing")]);
    rule("actions: { require: [] }", &[("PL103", 32, "at least one")]);
    rule(
        "actions: { deny: { code: Not-An-Ident, status: 500 } }",
        &[("PL102", 31, "`reason` is missing"), ("PL104", 37, "identifier"), ("PL104", 59, "400..=499")],
    );
    rule("actions: { deny: 3 }", &[("PL103", 29, "a reason")]);
    rule("actions: { tag: { a: 1 } }", &[("PL103", 33, "a string")]);
    rule("actions: { tag: { a: b } }, priority: 101", &[("PL104", 50, "-100..=100")]);
    rule("actions: { tag: { a: b } }, on_error: maybe", &[("PL104", 50, "closed, open")]);
    rule("actions: { tag: { a: b } }, starts: tomorrow", &[("PL104", 48, "date-time")]);
    rule("actions: { tag: { a: b } }, starts: 2027-01-02, expires: 2027-01-01", &[("PL104", 5, "not after")]);
    check("rules: { a: 1 }", &[("PL103", 1, 10, "a list")]);
    check("rules:\n- { id: A, actions: { tag: { a: b } } }", &[("PL104", 2, 9, "identifier")]);
}

#[test]
fn pools_and_groups_name_what_there_is() {
    check("pools: { p: { models: [acme/smal] } }", &[("PL201", 1, 24, "did you mean `acme/small`?")]);
    check("pools: { p: { models: nope/x } }", &[("PL201", 1, 23, "no model `nope/x`")]);
    check("pools: { p: { models: [\"*\", \"nope/*\"] } }", &[("PL203", 1, 29, "`nope/*` matches no model")]);
    check("pools: { p: { models: [[acme/small]] } }", &[("PL103", 1, 24, "provider/model")]);
    check("pools: { p: { models: [] } }", &[("PL103", 1, 23, "at least one")]);
    check("pools: { p: { models: [nope/x, \"nope/*\"], optional: true } }", &[]);
    check("pools: { none: { where: model.supports.vision }, p: { models: [\"pool:none\"] } }", &[]);
    check("approvers: { d: [dana] }", &[("PL104", 1, 18, "write `user:dana`")]);
    check("approvers: { d: \"team:dana\" }", &[("PL104", 1, 17, "`user:<name>`, `key:<id>` or `local`")]);
    check("approvers: { d: [\"user:\"] }", &[("PL104", 1, 18, "nobody")]);
    check("approvers: { d: [\"user:dana\", \"key:0123456789ab\", local] }", &[]);
}

#[test]
fn all_problems_of_a_file_are_told_in_one_run() {
    check(
        "pools:\n  p: { where: model.teir == 1 }\nrules:\n- id: a\n  when: |\n    request.stream &&\n    \
         workload.confidnce > 1\n  actions: { dny: x, cap_cost: x }\n- id: a\n  actions: { tag: { a: b } }\n- \
         id: a\n  actions: { tag: { a: b } }\n",
        &[
            ("PL301", 2, 21, "tier"),
            ("PL301", 7, 14, "confidence"),
            ("PL101", 8, 14, "deny"),
            ("PL103", 8, 32, "number"),
            ("PL120", 9, 7, "used twice; first at routing_rules.yaml:4"),
            ("PL120", 11, 7, "used twice; first at routing_rules.yaml:4"),
        ],
    );
}

#[test]
fn constant_conditions_are_warned_of() {
    let (_, problems) = load_text("rules:\n- { id: a, when: 1 == 1, actions: { tag: { a: b } } }", &[]);
    let got: Vec<_> = problems.iter().map(|d| (d.code.as_str(), d.severity)).collect();
    assert_eq!(got, [("PL308", Severity::Warning)]);
}

#[test]
fn pools_resolve_against_the_matrix() {
    let set = sound(
        "pools:\n  all: { models: [\"*\"] }\n  cheap: { where: \"(model.price_out ?? 99.0) <= 1.0\" }\n  code: \
         { models: [\"beta/*\"], where: \"\\\"code\\\" in model.tags\" }\n  both: { models: [\"pool:code\", \
         acme-small] }\n  none: { where: model.supports.vision }\n",
        &[],
    );
    let matrix = matrix();
    let names = |pool: &str| {
        let ids = set.pools()[pool].iter().map(|ix| matrix.model(ix).unwrap().id.to_string());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(names("all").len(), 4);
    assert_eq!(names("cheap"), ["acme/small", "beta/coder"]);
    assert_eq!(names("code"), ["beta/coder"]);
    assert_eq!(names("both"), ["acme/small", "beta/coder"]);
    assert!(names("none").is_empty());
    assert!(set.is_empty());
}

#[test]
fn a_thin_pool_is_warned_of_and_an_empty_one_cannot_be_named() {
    check("pools: { p: { models: [acme/small], min: 2 } }", &[("PL204", 1, 15, "at least 2")]);
    check("pools: { p: {} }", &[("PL103", 1, 13, "`models`, `where` or both")]);
    let empty = "pools: { p: { models: [\"x/*\"], optional: true } }\nrules:\n- { id: a, actions: { prefer: ";
    check(&format!("{empty}\"pool:p\" }} }}"), &[("PL203", 3, 31, "optional: true")]);
    check(&format!("{empty}{{ models: \"pool:p\", optional: true }} }} }}"), &[]);
}

#[test]
fn sets_are_known_by_name() {
    let set = "sets: { vips: [acme, beta] }\nrules:\n- id: a\n  when: tenant.id in set(\"vips\")\n  actions: { tag: { vip: yes } }";
    let set = sound(set, &[]);
    let d = set.evaluate_now(Phase::Request, &crate::testing::scope_of(&crate::testing::profile())).unwrap();
    assert_eq!(d.tags.get("vip").map(String::as_str), Some("yes"));
    check(
        "sets: { vips: [acme] }\nrules:\n- id: a\n  when: tenant.id in set(\"vip\")\n  actions: { tag: { vip: yes } }",
        &[("PL301", 4, 26, "did you mean `vips`?")],
    );
}

#[test]
fn a_thousand_rules_as_people_write_them_load() {
    let rule = |i: usize| {
        format!(
            "  - id: rule_{i}\n    owner: platform-team\n    description: >-\n      Tenants of the group {i} keep to what \
             was agreed with them, and to nothing else.\n    when: tenant.labels.get(\"group\") == \"g{i}\" && request.stream\n    \
             actions:\n      deny: {{ reason: \"This is no part of the agreement.\", code: not_agreed_{i} }}\n      \
             log: {{ content: metadata, retention: 30d }}\n      notify: {{ sink: log, message: \"refused {i}\" }}\n"
        )
    };
    let rules: String = (0..1_000).map(rule).collect();
    let (set, problems) = load_text(&format!("rules:\n{rules}"), &[]);
    assert!(problems.is_empty(), "{:#?}", problems.first());
    assert_eq!(set.entries.len(), 1_000);
}
