//! Tests of policies: what passes, what fails and how that is told, what was touched.

use crate::cases::TestReport;
use crate::testing::{TOOL_RULES, sound};
use types::doc::SourceFile;

const RULES: &str = r#"
  - id: eu_only
    when: tenant.region == "eu"
    actions: { residency: [eu] }
  - id: cheap_when_red
    when: budget.state == "red" && workload.latency_class != "interactive"
    actions: { avoid: [acme/large], workflow: careful }
    tests:
      - name: a red budget is careful
        given: { budget: { state: red }, workload: { latency_class: batch } }
        expect: { matched: [cheap_when_red], workflow: careful }
  - id: secrets
    when: input.secrets
    actions: { deny: { reason: no, code: secret_in_prompt } }
  - id: unsafe_tools
    phase: tool
    when: tool.side_effect == "unsafe"
    actions: { require_approval: { group: ops, reason: side effects } }
  - id: watched
    mode: shadow
    when: request.metadata.team == "red"
    actions: { deny: no }
"#;

fn run(cases: &str) -> (TestReport, Vec<types::Diagnostic>) {
    let set = sound(&format!("{TOOL_RULES}rules:{RULES}"), &[]);
    let text = format!("version: 1\ndefaults: {{ tenant: {{ region: eu }} }}\ncases:\n{cases}");
    set.test(&[SourceFile::new("policies/tests/a.yaml", text)])
}

#[track_caller]
fn check(case: &str, failures: &[&str]) {
    let (report, problems) = run(&format!("- {case}"));
    assert!(problems.is_empty(), "{problems:#?}");
    let got = &report.cases.last().unwrap().failures;
    assert_eq!(got.len(), failures.len(), "{case}: {got:#?}");
    for (got, want) in got.iter().zip(failures) {
        assert!(got.contains(want), "{got}");
    }
}

#[test]
fn expectations_that_hold() {
    check("expect: { matched: [eu_only], not_matched: [cheap_when_red, secrets], denied: false }", &[]);
    check(
        "expect: { directives: { residency: [eu] }, candidates: { none_of: [\"acme/*\"], all_of: [beta/coder], count: 2 } }",
        &[],
    );
    check("given: { input: { secrets: true } }\n  expect: { denied: secret_in_prompt }", &[]);
    check("phase: tool\n  given: { tool: { side_effect: unsafe } }\n  expect: { approval: [ops] }", &[]);
    check("phase: tool\n  given: { tool: { side_effect: none } }\n  expect: { approval: [] }", &[]);
    check(
        "given: { tenant: { region: us } }\n  expect: { not_matched: [eu_only], candidates: { count: 4 } }",
        &[],
    );
}

#[test]
fn expectations_that_do_not_hold_are_told_with_their_reason() {
    check(
        "expect: { matched: [cheap_when_red], not_matched: [eu_only] }",
        &["`cheap_when_red` did not match: `budget.state == \"red\"` is false", "`eu_only` matched"],
    );
    check("expect: { matched: [nobody] }", &["there is no rule `nobody`"]);
    check("expect: { denied: true }", &["it was not denied"]);
    check(
        "given: { input: { secrets: true } }\n  expect: { denied: other }",
        &["denied with secret_in_prompt"],
    );
    check(
        "expect: { directives: { residency: [us], cap_cost: 1 } }",
        &["`directives.residency` is", "cap_cost"],
    );
    check(
        "expect: { candidates: { all_of: [acme/small], none_of: [beta/coder], count: 3 } }",
        &[
            "`acme/small` was removed by `eu_only`",
            "`beta/coder` is still a candidate",
            "2 candidates are left, not 3",
        ],
    );
    check("expect: { workflow: careful }", &["left open, not `careful`"]);
    check(
        "given: { tenant: { teir: gold } }\n  expect: { denied: false }",
        &["`tenant.teir`: there is no such field"],
    );
    check(
        "phase: tool\n  given: { tool: { side_effect: none } }\n  expect: { approval: [ops] }",
        &["not of [ops]"],
    );
}

#[test]
fn each_expands_and_wrong_files_are_told() {
    let (report, problems) = run(
        "- name: tiers\n  each: { tenant.tier: [gold, silver], request.stream: [true, false] }\n  expect: { matched: [eu_only] }",
    );
    assert!(problems.is_empty());
    let names: Vec<_> = report.cases.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names.len(), 5, "the rule's own and four");
    assert!(names.contains(&"tiers [tenant.tier = \"gold\"] [request.stream = false]"), "{names:?}");
    assert_eq!(report.failed(), 0);
    let (_, problems) = run("- { name: x, expct: { denied: true } }");
    assert_eq!(problems.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), ["PL102", "PL101"]);
}

#[test]
fn what_no_case_touches_is_told() {
    let (report, _) = run(
        "- { given: { tenant: { region: us }, request: { metadata: { team: blue } } }, expect: { matched: [] } }\n\
         - { given: { request: { metadata: { team: red } } }, expect: { matched: [eu_only] } }",
    );
    let missing = report.coverage.missing();
    for text in [
        "`cheap_when_red`: `workload.latency_class != \"interactive\"` is never false",
        "`secrets` never matches",
        "`secrets`: `deny` is never applied",
        "`unsafe_tools` never matches",
    ] {
        assert!(missing.iter().any(|m| m == text), "{text}: {missing:#?}");
    }
    for text in [
        "`eu_only` never matches",
        "`watched` never matches",
        "`cheap_when_red`: `workflow` is never applied",
    ] {
        assert!(!missing.iter().any(|m| m == text), "{text}");
    }
    assert!((40.0..90.0).contains(&report.coverage.percent()), "{}", report.coverage.percent());
}
