//! Wrong files that loaded: what they say would never have done anything, or always failed.

use super::tests::{GOOD, check, located, with};
use crate::testing::{file, load_all};

#[test]
fn a_loop_tells_what_its_last_iteration_had() {
    let body = |read: &str, top: &str| {
        format!(
            "{top}nodes:\n  - id: l\n    type: loop\n    max_iterations: 2\n    until: \"true\"\n    body:\n      nodes: \
             [{{ id: h, type: generate }}]\n  - {{ id: answer, type: stream, from: {read} }}\nedges: \
             [{{ from: l, to: answer, outcome: [done, exhausted] }}]\n"
        )
    };
    check(&body("nodes.l.last.h.completion", ""), &[]);
    located(&body("nodes.l.last.g.completion", ""), "WF301", "nodes.l.last.g");
    located(&body("nodes.l.last.h.compltion", ""), "WF301", "nodes.l.last.h");
    located(&body("nodes.l.last.h.ok_count.x", ""), "WF301", "nodes.l.last.h");
}

#[test]
fn a_conversation_is_a_list_of_messages() {
    let asks = |messages: &str| {
        format!(
            "vars: {{ k: 3, t: [a, b] }}\n{}",
            with("type: generate", &format!("type: generate, messages: {messages}"))
        )
    };
    check(&asks("request.messages"), &[]);
    for wrong in ["vars.k", "vars.t"] {
        located(&asks(wrong), "WF302", wrong);
    }
    located(&asks("{ base: vars.k }"), "WF302", "vars.k");
}

#[test]
fn sources_are_text_or_lists() {
    let checks = |of: &str| {
        format!(
            "vars: {{ k: 3, t: text, l: [a, b] }}\n{}",
            with("[contract]", &format!("[{{ use: grounding, with: {{ sources: {of} }} }}]"))
        )
    };
    for good in ["vars.t", "vars.l"] {
        check(&checks(good), &[]);
    }
    located(&checks("vars.k"), "WF302", "vars.k");
}

#[test]
fn a_validator_that_nobody_names_is_read_all_the_same() {
    located(&format!("validators: {{ v: {{ use: lenght }} }}\n{GOOD}"), "WF203", "lenght");
    located(
        &format!("validators: {{ v: {{ use: length, with: {{ wrds: {{ max: 4 }} }} }} }}\n{GOOD}"),
        "WF101",
        "wrds",
    );
    check(&format!("validators: {{ v: {{ use: length, with: {{ words: {{ max: 4 }} }} }} }}\n{GOOD}"), &[]);
    // One that is named is told of once.
    located(
        &format!("validators: {{ v: {{ use: lenght }} }}\n{}", with("[contract]", "[v]")),
        "WF203",
        "lenght",
    );
}

#[test]
fn a_host_that_may_not_be_asked_is_told() {
    let checks = |url: &str| with("[contract]", &format!("[{{ use: http, with: {{ url: '{url}' }} }}]"));
    check(&checks("https://checks.example.com/"), &[]);
    located(&checks("https://forbidden.example.com/"), "WF422", "'https");
    let silent = checks("https://forbidden.example.com/")
        .replace("type: validate", "type: validate, lint: { allow: [WF422] }");
    check(&silent, &[]);
}

#[test]
fn of_two_keys_that_say_the_same_one_counts() {
    let asks = |keys: &str| with("type: generate", &format!("type: generate, {keys}"));
    located(&asks("model: p/b, route: { model: p/a }"), "WF104", "p/b");
    check(&asks("model: p/b, route: { strategy: fixed }"), &[]);
    // What the node says itself stands in the place of the file's defaults.
    check(&format!("defaults: {{ route: {{ model: p/a }} }}\n{}", asks("model: p/b")), &[]);
    check(&format!("defaults: {{ generate: {{ model: p/a }} }}\n{}", asks("route: { model: p/b }")), &[]);
    let last = format!("on_failure: {{ fallback: w0, respond: error }}\n{GOOD}");
    check(&last, &[("WF104", 3, 15), ("WF205", 3, 25)]);
}

#[test]
fn keys_of_another_method_mean_nothing() {
    let select = |keys: &str| {
        with(
            "{ id: check, type: validate, validators: [contract] }",
            &format!("{{ id: check, type: select, from: [nodes.ask.completions], {keys} }}"),
        )
        .replace("nodes.check.best", "nodes.check.completion")
    };
    check(&select("method: vote, vote: { min_agreement: 0.6 }, when_none: best"), &[]);
    located(
        &select("method: first, when_none: best, vote: { min_agreement: 0.6 }"),
        "WF104",
        "min_agreement",
    );
    let classify = |keys: &str| {
        format!(
            "nodes:\n  - {{ id: sort, type: classify, labels: [a, b], {keys} }}\n  - {{ id: ask, type: generate, needs: sort }}\noutput: nodes.ask.completion\n"
        )
    };
    check(&classify("rules: [{ when: flag, label: b }]"), &[]);
    located(&classify("method: model, rules: [{ when: flag, label: b }]"), "WF104", "[{ when");
}

#[test]
fn labels_are_no_words_of_edges() {
    let classify = |label: &str| {
        format!(
            "nodes:\n  - {{ id: sort, type: classify, labels: [easy, {label}] }}\n  - {{ id: ask, type: generate, needs: sort }}\noutput: nodes.ask.completion\n"
        )
    };
    check(&classify("hard"), &[]);
    for word in ["any", "completed", "error", "timeout", "cancelled", "skipped"] {
        located(&classify(word), "WF104", &format!("{word}]"));
    }
}

/// The good file with a repair of these keys after its check.
fn repairing(keys: &str) -> String {
    GOOD.replace("to: answer }", "to: answer, outcome: [passed, unverified] }\n  - { from: check, to: fix, outcome: failed }\n  - { from: fix, to: end }")
        .replace("best }", &format!("best }}\n  - {{ id: fix, type: repair, from: check, {keys} }}\n  - {{ id: end, type: stream, from: nodes.fix.completion }}"))
}

#[test]
fn lists_that_ask_for_nothing() {
    located(&with("[contract]", "[]"), "WF104", "[]");
    let repair = repairing("strategies: [fix]");
    check(&repair, &[]);
    located(&repair.replace("[fix]", "[]"), "WF104", "[]");
}

#[test]
fn no_time_at_all_is_no_limit() {
    located(&with("type: generate", "type: generate, timeout: 0s"), "WF104", "0s");
    located(&with("[contract]", "[{ use: json, timeout: 0ms }]"), "WF104", "0ms");
}

#[test]
fn feedback_of_hardly_any_bytes_says_nothing() {
    let repair = repairing("feedback: { max_bytes: 64 }");
    check(&repair, &[]);
    located(&repair.replace("max_bytes: 64", "max_bytes: 63"), "WF104", "63");
}

/// What is said beside a problem is no other problem, and no name of nothing.
#[test]
fn what_is_told_leads_on() {
    let told = |body: &str| {
        let (_, problems) = load_all(&[file(body)]);
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let nameless = told(&with("id: ask, type", "type"));
    assert!(!nameless.contains("``"), "{nameless}");
    let input = format!("inputs: {{ a: {{ type: strng }} }}\n{GOOD}");
    check(&input, &[("WF104", 3, 22)]);
    for (wrong, right) in [("timeot: 5s", "timeout"), ("generat: { samples: 2 }", "generate")] {
        let found = told(&format!("defaults: {{ {wrong} }}\n{GOOD}"));
        assert!(found.contains(&format!("did you mean `{right}`?")), "{found}");
    }
    let far = told(&with("id: check, type: validate, validators: [contract]", "id: check, type: banana"));
    assert!(far.contains("WF104") && !far.contains("is missing"), "{far}");
    let out = told(&with("[contract]", "[{ use: grounding, with: { min: 2 } }]"));
    assert!(out.contains("is 2; expected a number from 0 to 1"), "{out}");
}

/// A strict join is skipped as soon as one of its sources fails it, whatever the others do.
#[test]
fn behind_a_skipped_join_nothing_has_run_for_certain() {
    let join = |join: &str| {
        format!(
            "nodes:\n  - {{ id: a, type: generate }}\n  - {{ id: b, type: classify, labels: [x, y], rules: [] }}\n  - {{ id: j, type: set, join: {join}, values: {{ v: \"1\" }} }}\n  \
             - {{ id: out, type: stream, from: nodes.a.completion }}\nedges:\n  - {{ from: a, to: j }}\n  - {{ from: b, to: j, outcome: x }}\n  \
             - {{ from: j, to: out, outcome: [ok, skipped] }}\n"
        )
    };
    let codes = |body: &str| {
        let (_, problems) = load_all(&[file(body)]);
        problems.iter().map(|d| d.code.clone()).collect::<Vec<_>>()
    };
    assert!(codes(&join("strict")).contains(&"WF307".to_owned()));
}

#[test]
fn lint_silences_what_it_can() {
    let silent = |code: &str| with("type: generate", &format!("type: generate, lint: {{ allow: [{code}] }}"));
    check(&silent("WF332"), &[]);
    for code in ["WF999", "WF301", "wf332"] {
        located(&silent(code), "WF104", code);
    }
}

#[test]
fn arguments_fit_the_tool_whatever_a_run_puts_in() {
    let call = |args: &str| {
        format!(
            "nodes:\n  - {{ id: t, type: tool, tool: look, args: {args} }}\n  - {{ id: ask, type: generate }}\n\
             output: nodes.ask.completion\nedges:\n  - {{ from: t, to: ask, outcome: [ok, tool_error, denied] }}\n"
        )
    };
    for good in
        ["{ q: text }", "{ q: '${ request.model }' }", "{ q: 'about ${ request.model }', more: 1 }", "{}"]
    {
        check(&call(good), &[]);
    }
    located(&call("{ q: 7 }"), "WF104", "7 }");
    located(&call("{ q: [text] }"), "WF104", "[text]");
    located(&call("{ q: { of: '${ request.model }' } }"), "WF104", "of:");
    let (_, problems) = load_all(&[file(&call("{ q: 7 }"))]);
    assert_eq!(problems[0].field, "nodes[0].args.q");
    assert!(problems[0].message.contains("string"), "{}", problems[0]);
}

#[test]
fn the_one_model_that_is_asked_can_do_what_it_is_asked_for() {
    let asks = |keys: &str| with("type: generate", &format!("type: generate, {keys}"));
    let strict = "response: { format: json, enforce: strict }";
    check(&asks(strict), &[]);
    check(&asks("model: p/a, response: { format: json }"), &[]);
    for keys in ["response: { format: tool_calls }, tools: [look]", "tools: [look]", strict] {
        let body = asks(&format!("model: p/a, {keys}"));
        check(&body, &[("WF201", 4, 7)]);
    }
}

#[test]
fn outputs_in_the_place_of_an_error_have_their_types() {
    let instead = |value: &str| {
        with("type: generate", &format!("type: generate, on_error: {{ value: {{ {value} }} }}"))
    };
    for good in
        ["completion: null", "completions: []", "ok_count: 0", "hedge_fired: false", "served_by: [p/a]"]
    {
        check(&instead(good), &[]);
    }
    for (wrong, at) in
        [("completion: sorry", "sorry"), ("completions: [a]", "[a]"), ("ok_count: none", "none")]
    {
        located(&instead(wrong), "WF104", at);
    }
}

/// As [`located`], of what no schema could tell: what a name stands for.
fn told(body: &str, code: &str, wrong: &str) {
    let before = &body[..body.find(wrong).unwrap()];
    let at = (3 + before.matches('\n').count(), 1 + before.rsplit('\n').next().unwrap().len());
    let (_, problems) = load_all(&[file(body)]);
    let all: Vec<_> = problems.iter().map(|d| (d.code.as_str(), (d.line, d.column))).collect();
    assert_eq!(all, [(code, at)], "{body}\n{problems:?}");
}

/// What a `map` goes through has the type of what its list holds.
#[test]
fn items_have_the_type_of_their_list() {
    let each = |over: &str, when: &str, call: &str| {
        format!(
            "vars: {{ parts: [a, b] }}\nnodes:\n  - {{ id: ask, type: generate, samples: 2 }}\n  - id: each\n    type: map\n    \
             needs: ask\n    over: {over}\n    max_items: 4\n    body:\n      nodes: [{{ id: t, type: {call}, when: {when} \
             }}]\n      result: nodes.t\n  - {{ id: answer, type: stream, from: nodes.ask.completion, needs: each }}\n"
        )
    };
    let calls = "nodes.ask.completion.tool_calls";
    let tool = "tool, call: item, allow: [look]";
    let check_item = "validate, input: item, validators: [json]";
    check(&each(calls, "item.name == 1", tool), &[]);
    located(&each(calls, "item.nmae == 1", tool), "WF301", "item.nmae");
    told(&each("vars.parts", "flag", tool), "WF103", "item, allow");
    // Completions keep their identity.
    check(&each("nodes.ask.completions", "item.quality == 1", check_item), &[]);
    located(&each("nodes.ask.completions", "item.qualty == 1", check_item), "WF301", "item.qualty");
    located(&each("nodes.ask.failed", "item.cod == 1", "set, values: { e: item }"), "WF301", "item.cod");
}

/// Values that a `set` takes over have the type of where they come from, in whatever order the nodes stand.
#[test]
fn values_of_a_set_have_the_types_of_what_they_are_computed_from() {
    let sets = |when: &str, from: &str| {
        format!(
            "nodes:\n  - {{ id: again, type: set, needs: first, values: {{ n: nodes.first.n, c: nodes.first.c }} }}\n  - {{ id: \
             first, type: set, needs: ask, values: {{ n: nodes.ask.ok_count, c: nodes.ask.completion }} }}\n  - {{ id: ask, \
             type: generate }}\n  - {{ id: rate, type: judge, input: {from}, needs: [{{ node: again, when: {when} }}] }}\n\
             output: nodes.ask.completion\n"
        )
    };
    check(&sets("nodes.again.n == 1", "nodes.again.c"), &[]);
    check(&sets("nodes.again.c.text == 1", "nodes.again.c"), &[]);
    // A note of the author's is none of them.
    let noted = sets("nodes.again.c.text == 1", "nodes.again.c");
    check(&noted.replace("values: { n: nodes.ask", "values: { x-note: why, n: nodes.ask"), &[]);
    located(&sets("nodes.again.c.txet == 1", "nodes.again.c"), "WF301", "nodes.again.c.txet");
    located(&sets("nodes.again.n.x == 1", "nodes.again.c"), "WF301", "nodes.again.n.x");
    told(&sets("flag", "nodes.again.n"), "WF103", "nodes.again.n");
}

#[test]
fn a_call_that_a_node_makes_is_one_that_a_model_has_made() {
    let call = |call: &str, allow: &str| {
        format!(
            "nodes:\n  - {{ id: ask, type: generate }}\n  - {{ id: run, type: tool, call: {call}, allow: {allow}, needs: ask \
             }}\n  - {{ id: answer, type: stream, from: nodes.ask.completion, needs: {{ node: run, outcome: [ok, tool_error, \
             denied] }} }}\n"
        )
    };
    check(&call("'nodes.ask.completion.tool_calls[0]'", "[look]"), &[]);
    check(&call("nodes.ask.completion.json", "look"), &[]);
    for wrong in ["nodes.ask.completion.text", "nodes.ask.completion", "nodes.ask.ok_count"] {
        told(&call(wrong, "[look]"), "WF103", wrong);
    }
    located(&call("nodes.ask.completion.json", "[]"), "WF104", "[]");
}

#[test]
fn a_join_that_may_leave_its_node_out_is_no_end_of_a_path() {
    let body = |join: &str, edges: &str| {
        format!(
            "nodes:\n  - {{ id: a, type: generate }}\n  - {{ id: b, type: set, values: {{ v: flag }} }}\n  \
             - {{ id: c, type: classify, labels: [x, y] }}\n  \
             - {{ id: j, type: merge, from: [nodes.a.completion], join: {join}, lint: {{ allow: [WF307] }} }}\n  \
             - {{ id: out, type: stream, from: nodes.j.completion }}\n  \
             - {{ id: no, type: fail, code: no, message: no, enabled: true }}\nedges:\n  - {{ from: j, to: out }}\n{edges}"
        )
    };
    let edges = |all: &[&str]| all.iter().map(|e| format!("  - {{ {e} }}\n")).collect::<String>();
    let told = |join: &str, all: &[&str]| {
        let (_, p) = load_all(&[file(&body(join, &edges(all)))]);
        p.iter().filter(|d| d.code == "WF333").map(|d| d.line).collect::<Vec<_>>()
    };
    let c = "from: c, to: no, outcome: error";
    // Whatever comes, both run.
    assert!(told("strict", &["from: [a, b], to: j", c]).is_empty());
    assert!(told("{ at_least: 2 }", &["from: [a, b], to: j", c]).is_empty());
    assert!(told("{ at_least: 1 }", &["from: a, to: j", "from: b, to: j, when: flag", c]).is_empty());
    assert!(told("all", &["from: a, to: j", "from: b, to: j, when: flag", c]).is_empty());
    // One of them may not lead on.
    assert_eq!(told("strict", &["from: [a, c], to: j", "from: b, to: j, when: flag", c]), [7]);
    assert_eq!(told("{ at_least: 3 }", &["from: [a, c], to: j", "from: b, to: j, when: flag", c]), [7]);
    let other = "from: c, to: no, outcome: y";
    assert!(told("strict", &["from: [a, b], to: j", "from: c, to: j, outcome: x", other]).is_empty());
    // Then it leads on all the same.
    let skipped = "from: j, to: no, outcome: skipped";
    assert!(told("strict", &["from: [a, c], to: j", "from: b, to: j, when: flag", skipped]).is_empty());
    // Both lie behind the same branch.
    let branch = ["from: c, to: [a, b], outcome: x", "from: c, to: no, outcome: y"];
    assert!(told("strict", &[branch[0], branch[1], "from: [a, b], to: j"]).is_empty());
    let branch = ["from: c, to: [a, b], outcome: x, when: flag", "from: c, to: no, else: true"];
    assert!(told("strict", &[branch[0], branch[1], "from: [a, b], to: j"]).is_empty());
    // They lie behind different ones.
    let branch = ["from: c, to: a, outcome: x", "from: c, to: b, outcome: y"];
    assert_eq!(told("strict", &[branch[0], branch[1], "from: [a, b], to: j", c]), [7]);
}

#[test]
fn names_that_the_author_chooses_are_identifiers() {
    let plain = with("type: generate", "type: generate");
    for name in ["my-style", "Terse", "\"my var\"", "\"\"", "größe", "a.b"] {
        for (before, value) in [
            ("prompts", "Be brief."),
            ("vars", "1"),
            ("inputs", "{ type: int }"),
            ("pools", "{ min_tier: 1 }"),
            ("validators", "{ use: json }"),
        ] {
            let (_, p) = load_all(&[file(&format!("{before}: {{ {name}: {value} }}\n{plain}"))]);
            let told = p.iter().find(|d| d.code == "WF104").map(|d| (d.line, d.column));
            assert_eq!(told, Some((3, before.len() + 5)), "{before} {name}: {p:?}");
        }
        let set = format!(
            "nodes:\n  - {{ id: s, type: set, values: {{ {name}: flag }} }}\n  - {{ id: no, type: fail, code: n, message: x, needs: s }}\n"
        );
        let (_, p) = load_all(&[file(&set)]);
        assert!(p.iter().any(|d| d.code == "WF104" && d.column == 35), "{name}: {p:?}");
    }
    // What is no name in `messages` is what the user says.
    check(&with("type: generate", "type: generate, messages: { append: my-style }"), &[]);
}
