//! Right files that did not load, or wrong ones that were not told of.

use super::tests::{GOOD, check, located, with};
use crate::testing::{file, load_all, workflow};

/// Hints of all problems of a file.
fn hints(body: &str) -> Vec<String> {
    let (_, problems) = load_all(&[file(body)]);
    problems.into_iter().map(|d| d.hint.unwrap_or_default()).collect()
}

/// A problem that no schema for editors knows, by its code and where it stands.
fn told(body: &str, code: &str, at: &str) {
    let (_, problems) = load_all(&[file(body)]);
    let text = format!("version: 1\nname: w\n{body}");
    let [d] = problems.as_slice() else { panic!("{body}\n{problems:#?}") };
    let line = text.lines().nth(d.line - 1).unwrap();
    assert_eq!(d.code, code, "{d}");
    assert!(line.chars().skip(d.column - 1).collect::<String>().starts_with(at), "{d}\n{line}");
}

#[test]
fn what_is_checked_is_an_answer_a_text_or_data() {
    let input = |of: &str| {
        format!(
            "vars: {{ t: text, n: 3 }}\n{}",
            with("type: validate", &format!("type: validate, input: {of}"))
        )
    };
    for good in ["vars.t", "nodes.ask.completion.text", "nodes.ask.completions", "nodes.ask.completion.json"]
    {
        check(&input(good), &[]);
    }
    told(&input("vars.n"), "WF103", "vars.n");
    told(&input("nodes.ask.ok_count"), "WF103", "nodes.ask.ok_count");
    told(&with("from: nodes.check.best", "from: nodes.check.findings"), "WF103", "nodes.check.findings");
}

#[test]
fn the_output_is_what_the_one_last_node_makes() {
    let w = workflow("nodes:\n  - { id: ask, type: generate }\n");
    let said = workflow("nodes:\n  - { id: ask, type: generate }\noutput: nodes.ask.completion\n");
    assert_eq!(w.plan_hash, said.plan_hash, "it is as if it had been said");
    let picked = "nodes:\n  - { id: ask, type: generate, samples: 2 }\n  - { id: pick, type: select, from: [nodes.ask.completions], needs: ask }\n";
    assert_eq!(workflow(picked).root.nodes.len(), 3);
    // An end that fails the run answers nothing.
    let or_fail = format!(
        "{picked}  - {{ id: no, type: fail, code: no, message: none, needs: [{{ node: pick, outcome: none }}] }}\n"
    );
    let or_fail = or_fail.replace("needs: ask", "needs: ask, lint: { allow: [WF332] }");
    assert!(load_all(&[file(&or_fail)]).0.get("w").is_some(), "{:?}", hints(&or_fail));
}

#[test]
fn of_several_ends_or_one_that_only_looks_the_file_says_which() {
    let two = "nodes:\n  - { id: a, type: generate }\n  - { id: b, type: generate }\n";
    assert!(hints(two).iter().all(|h| h.contains("output: nodes.")), "{:?}", hints(two));
    let looked = "nodes:\n  - { id: ask, type: generate }\n  - { id: check, type: validate, validators: [contract], needs: ask }\n";
    check(looked, &[("WF333", 5, 7)]);
    assert!(hints(looked)[0].contains("output: nodes.check.best"), "{:?}", hints(looked));
    let judged = "nodes:\n  - { id: ask, type: generate, samples: 2 }\n  - { id: best, type: judge, input: nodes.ask.completions, needs: ask }\n";
    check(judged, &[("WF333", 4, 7)]);
    assert!(hints(judged)[0].contains("`best` runs after the response"), "{:?}", hints(judged));
    check("nodes:\n  - { id: output, type: generate }\n", &[("WF333", 4, 7)]);
}

#[test]
fn an_entry_stands_over_the_files_own_validator() {
    let own =
        "validators: { brief: { use: length, with: { words: { max: 40 } }, on_fail: reject }, form: json }\n";
    let hash = |entry: &str| {
        workflow(&format!("{own}{}", with("[contract]", &format!("[{entry}]")))).plan_hash.clone()
    };
    let written = |entry: &str| workflow(&with("[contract]", &format!("[{entry}]"))).plan_hash.clone();
    let length = "use: length, with: { words: { max: 40 } }";
    assert_eq!(hash("brief"), written(&format!("{{ {length}, on_fail: reject }}")));
    assert_eq!(
        hash("{ use: brief, severity: warn }"),
        written(&format!("{{ {length}, on_fail: reject, severity: warn }}"))
    );
    assert_eq!(
        hash("{ use: brief, with: { words: { max: 20 } }, on_fail: warn }"),
        written("{ use: length, with: { words: { max: 20 } }, on_fail: warn }")
    );
    assert_eq!(hash("{ use: form, severity: warn }"), written("{ use: json, severity: warn }"));
    // What is wrong with an entry is told at its place, and a name that is nearly right is known.
    let wrong = format!("{own}{}", with("[contract]", "[{ use: brief, severity: wran }]"));
    located(&wrong, "WF104", "wran");
    let near = format!("{own}{}", with("[contract]", "[{ use: breif, severity: warn }]"));
    located(&near, "WF203", "breif");
    assert!(hints(&near)[0].contains("`brief`"), "{:?}", hints(&near));
}

#[test]
fn a_prompt_that_nobody_names_is_read_all_the_same() {
    let prompts = |of: &str| format!("prompts: {{ p: {of} }}\n{GOOD}");
    told(&prompts("'hello ${ flag'"), "WF103", "'hello");
    located(&prompts("[{ role: sytem, content: hi }]"), "WF104", "sytem");
    // Which names there are, only the place can say that it is meant for.
    check(&prompts("'${ carry.last }'"), &[]);
    let rewrite = format!(
        "prompts: {{ json: 'x ${{ flag' }}\n{}",
        GOOD.replace("to: answer }", "to: answer, outcome: [passed, unverified] }\n  - { from: check, to: fix, outcome: failed }\n  - { from: fix, to: end }")
            .replace("best }", "best }\n  - { id: fix, type: repair, from: check, strategies: [rewrite] }\n  - { id: end, type: stream, from: nodes.fix.completion }")
    );
    told(&rewrite, "WF103", "'x");
}

#[test]
fn keys_that_only_one_method_goes_by() {
    let classify = |top: &str, keys: &str| {
        format!(
            "{top}nodes:\n  - {{ id: sort, type: classify, labels: [a, b], {keys} }}\n  - {{ id: ask, type: generate, needs: sort }}\n"
        )
    };
    let rules = "rules: [{ when: flag, label: b }]";
    located(
        &classify("", &format!("method: rules, {rules}, route: {{ pool: judge }}")),
        "WF104",
        "pool: judge",
    );
    located(&classify("", &format!("{rules}, prompt: 'Sort it.'")), "WF104", "'Sort");
    check(&classify("", "route: { pool: judge }, prompt: 'Sort it.'"), &[]);
    let defaults = "defaults: { route: { pool: judge }, classify: { prompt: 'Sort it.' } }\n";
    check(&classify(defaults, rules), &[]);
    check(&classify(defaults, "method: model"), &[]);
    let merge = |keys: &str| {
        format!(
            "defaults: {{ route: {{ pool: judge }} }}\nnodes:\n  - {{ id: ask, type: generate }}\n  - {{ id: all, type: merge, from: [nodes.ask.completion], {keys}, needs: ask }}\n"
        )
    };
    // In either order the route is one that the nodes have, so what is wrong with it is told.
    for keys in ["route: { pool: nope }, method: synthesize", "method: synthesize, route: { pool: nope }"] {
        let merges = format!(
            "defaults: {{ merge: {{ {keys}, prompt: 'As one.' }} }}\nnodes:\n  - {{ id: ask, type: generate }}\n  - {{ id: all, type: merge, from: [nodes.ask.completion], needs: ask }}\n"
        );
        located(&merges, "WF202", "nope");
    }
    let gate = |keys: &str| {
        format!(
            "defaults: {{ {keys} }}\nnodes:\n  - {{ id: ok, type: gate }}\n  - {{ id: ask, type: generate, needs: ok }}\n"
        )
    };
    let (_, problems) = load_all(&[file(&gate("gate: { prompt: 'Go on?' }, route: { pool: judge }"))]);
    assert!(problems.is_empty(), "{problems:#?}");
    located(&gate("gate: { prompt: 'Go on?', route: { pool: judge } }"), "WF101", "route");
    check(&merge("separator: ', '"), &[]);
    check(&merge("method: synthesize, prompt: 'As one.'"), &[]);
    located(&merge("method: json_array, separator: ', '"), "WF104", "', '");
    located(&merge("template: 'x'"), "WF104", "'x'");
    located(&merge("method: template, template: 'x', params: { temperature: 0 }"), "WF104", "temperature: 0");
}

#[test]
fn arguments_beside_a_call_and_questions_of_no_time() {
    let tool = |keys: &str| {
        format!(
            "nodes:\n  - {{ id: ask, type: generate, tools: [look] }}\n  - {{ id: run, type: tool, call: 'nodes.ask.completion.tool_calls[0]', allow: [look]{keys}, needs: ask }}\n  \
             - {{ id: say, type: merge, from: [nodes.run.text], needs: {{ node: run, outcome: [ok, tool_error, denied] }} }}\n"
        )
    };
    check(&tool(""), &[]);
    located(&tool(", args: { q: x }"), "WF104", "q: x");
    let gate = |expires: &str| {
        format!(
            "nodes:\n  - {{ id: ask, type: generate }}\n  - {{ id: sure, type: gate, prompt: 'Yes?', expires: {expires}, needs: ask }}\n  \
             - {{ id: no, type: fail, code: no, message: no, needs: {{ node: sure, outcome: rejected }} }}\n  - {{ id: answer, type: stream, from: nodes.ask.completion, needs: {{ node: sure, outcome: approved }} }}\n"
        )
    };
    check(&gate("1h"), &[]);
    located(&gate("0s"), "WF104", "0s");
}

#[test]
fn an_edge_is_no_arrow() {
    let arrow = with("{ from: ask, to: check }", "ask -> check");
    assert!(
        hints(&arrow).contains(&"write `{ from: one_node, to: another }`".to_owned()),
        "{:?}",
        hints(&arrow)
    );
}

/// A value of a node that may have been skipped, wherever an expression or a template reads it.
#[test]
fn what_may_not_have_run_is_told_of_in_templates() {
    let said = |text: &str, edge: &str| {
        format!(
            "nodes:\n  - {{ id: ask, type: generate }}\n  - {{ id: check, type: validate, validators: [contract], needs: ask }}\n  - {{ id: fix, type: repair, from: check }}\n  \
             - {{ id: no, type: fail, code: no, message: '{text}' }}\n  - {{ id: answer, type: stream, from: nodes.check.best }}\nedges:\n  \
             - {{ from: check, to: answer, outcome: [passed, unverified] }}\n  - {{ from: check, to: fix, outcome: failed }}\n  - {{ from: fix, to: no }}\n{edge}"
        )
    };
    check(&said("tried ${ nodes.fix.attempts }", ""), &[]);
    let around = "  - { from: ask, to: no, outcome: error }\n";
    located(&said("tried ${ nodes.fix.attempts }", around), "WF307", "'tried");
    check(&said("tried ${ nodes.fix.outcome } ${ nodes.fix.attempts ?? 0 }", around), &[]);
}

/// At the end of an iteration everything has run that nothing kept from it.
#[test]
fn what_a_loop_carries_on_may_not_have_been_there() {
    let body = |edge: &str| {
        format!(
            "nodes:\n  - id: work\n    type: loop\n    max_iterations: 2\n    carry: {{ good: {{ init: 'false', next: nodes.b.passed }} }}\n    until: carry.good\n    body:\n      \
             nodes: [{{ id: a, type: generate }}, {{ id: b, type: validate, validators: [contract] }}]\n      edges: [{{ from: a, to: b{edge} }}]\n  \
             - {{ id: answer, type: stream, from: nodes.work.last.a.completion, needs: work }}\n"
        )
    };
    check(&body(""), &[]);
    located(&body(", outcome: ok"), "WF307", "nodes.b.passed");
}
