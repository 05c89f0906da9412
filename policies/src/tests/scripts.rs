//! Policies in Rhai: what loads, what runs, and how runaways end.

use crate::testing::{load_text, profile, scope_of, sound};
use crate::{Error, Phase, PolicySet, Purpose};
use serde_json::json;
use std::sync::Mutex;
use std::time::Duration;
use types::directives::{Directives, RuleResult};

const HEAD: &str = "fn describe() { #{ id: \"p\" } }\n";

fn policy(body: &str) -> String {
    format!("{HEAD}fn on_request(ctx, act) {{\n{body}\n}}")
}

fn set(text: &str) -> PolicySet {
    sound("{}", &[("policies/p.rhai", text)])
}

fn run(body: &str) -> Result<Directives, Error> {
    set(&policy(body)).evaluate_now(Phase::Request, &scope_of(&profile()))
}

/// Code, line, column and a piece of the text of every problem of a policy file.
#[track_caller]
fn check(text: &str, want: &[(&str, usize, usize, &str)]) {
    let (_, problems) = load_text("{}", &[("policies/p.rhai", text)]);
    let got: Vec<_> = problems.iter().map(|d| (d.code.as_str(), d.line, d.column)).collect();
    assert_eq!(got, want.iter().map(|w| (w.0, w.1, w.2)).collect::<Vec<_>>(), "{text}\n{problems:#?}");
    for (d, w) in problems.iter().zip(want) {
        assert!(d.file == "policies/p.rhai" && d.to_string().contains(w.3), "{d}");
    }
}

#[track_caller]
fn check_body(body: &str, want: &[(&str, usize, usize, &str)]) {
    check(&policy(body), want);
}

#[test]
fn a_policy_acts_with_the_verbs_of_the_rules() {
    let d = run("let big = ctx.workload.est_input_tokens > 50;\n\
         if big && ctx.workload.task_family == \"coding\" { act.cap_cost(0.5); }\n\
         for name in [\"acme/small\", \"beta/coder\"] { act.exclude(name); }\n\
         act.prefer([\"acme/*\"], 0.4);\n\
         act.weight(#{ cost: 1.0 + 0.5 });\n\
         act.deny(\"no\", \"busy\", 429);")
    .unwrap();
    assert_eq!(d.rules[0].result, RuleResult::Matched);
    let verbs: Vec<_> = d.actions.iter().map(|a| a.verb.as_str()).collect();
    assert_eq!(verbs, ["cap_cost", "exclude", "exclude", "prefer", "weight", "deny"]);
    assert_eq!(d.actions[3].argument, json!({"models": ["acme/*"], "strength": 0.4}));
    assert_eq!((d.weights.cost, d.denials[0].status, d.removed.len()), (1.5, 429, 2));
}

#[test]
fn what_is_recorded_and_for_how_long_is_said_one_by_one_or_as_a_map() {
    let d = run("act.log(\"metadata\", \"30d\");\nact.log(#{ retention: \"1d\" });").unwrap();
    let further = d.further.unwrap();
    assert_eq!(further.log.unwrap().value, types::directives::LogContent::Metadata);
    assert_eq!(further.retention.unwrap().value, 86_400_000);
}

#[test]
fn helpers_and_early_returns_work() {
    let text = format!(
        "{HEAD}fn cap(kind) {{ switch kind {{ \"coding\" => 0.5, _ => 0.1 }} }}\n\
         fn guard(ctx, act) {{ act.cap_cost(cap(ctx.workload.task_family)); }}\n\
         fn on_request(ctx, act) {{\n guard(ctx, act);\n return;\n act.deny(\"never\");\n}}"
    );
    let d = set(&text).evaluate_now(Phase::Request, &scope_of(&profile())).unwrap();
    assert_eq!(d.cap_cost.unwrap().value.dollars(), 0.5);
    assert!(d.denials.is_empty());
}

#[test]
fn no_action_is_no_match() {
    let d = run("if ctx.request.stream { act.deny(\"x\"); }").unwrap();
    assert_eq!(d.rules[0].result, RuleResult::NotMatched);
}

/// In a `switch`, and in helpers by what they are given.
#[test]
fn what_is_misspelt_in_helpers_and_switches_never_loads() {
    check_body(
        "let cap = switch ctx.tenant.tier { \"platnum\" => 0.5, \"gold\" | \"silver\" => 0.2, _ => 0.1 };\nact.cap_cost(cap);",
        &[("PL304", 3, 36, "did you mean `platinum`?")],
    );
    let helper = |helper: &str, call: &str| {
        format!("{HEAD}fn z(q) {{ {helper} }}\nfn on_request(ctx, act) {{ {call} }}")
    };
    check(
        &helper("q.task_famly == \"coding\"", "if z(ctx.workload) { act.cap_cost(1.0); }"),
        &[("PL301", 2, 13, "did you mean `task_family`?")],
    );
    check(
        &helper("switch q { \"codng\" => 1.0, _ => 2.0 }", "act.cap_cost(z(ctx.workload.task_family));"),
        &[("PL304", 2, 22, "did you mean `coding`?")],
    );
    // Given this and that, it may be anything.
    check(
        &helper("q.team == \"a\"", "if z(ctx.workload) || z(#{ team: \"a\" }) { act.cap_cost(1.0); }"),
        &[],
    );
    // Over a helper, and as a list of them.
    let two = format!(
        "{HEAD}fn z(q) {{ q.tiar == \"gold\" }}\nfn y(p) {{ z(p) }}\nfn on_request(ctx, act) {{ if y(ctx.tenant) {{ act.cap_cost(1.0); }} }}"
    );
    check(&two, &[("PL301", 2, 13, "did you mean `tier`?")]);
}

#[test]
fn what_is_misspelt_never_loads() {
    check_body("act.cap_csot(1);", &[("PL101", 3, 5, "did you mean `cap_cost`?")]);
    check_body("act.experiment(\"non\");", &[("PL103", 3, 16, "`none`, or {only: [ids]}")]);
    check_body("act.experiment(#{ only: [\"repair\"] });", &[("PL212", 3, 25, "did you mean `repairs`?")]);
    check_body(
        "if ctx.workload.task_famly == \"x\" { act.deny(\"x\"); }",
        &[("PL301", 3, 17, "task_family")],
    );
    check_body("if ctx.response.text == \"red\" { act.deny(\"x\"); }", &[("PL301", 3, 8, "request")]);
    check_body(
        "let w = ctx.workload;\nif w.task_famly == \"x\" { act.deny(\"x\"); }",
        &[("PL301", 4, 6, "task_family")],
    );
    check_body(
        "if ctx.workload.task_family == \"codng\" { act.deny(\"x\"); }",
        &[("PL304", 3, 32, "coding")],
    );
    check_body("if ctx.request.max_tokens > 5 { act.deny(\"x\"); }", &[("PL303", 3, 4, "unknown")]);
    check_body("act.prefer([\"acme/smal\"]);", &[("PL201", 3, 13, "did you mean `acme/small`?")]);
    check_body("act.prefer([#{ where: \"model.teir > 1\" }]);", &[("PL301", 3, 30, "tier")]);
    check_body("act.workflow(\"defalt\");", &[("PL205", 3, 14, "default")]);
    check_body("act.weight(#{ costs: 1.0 + 1.0 });", &[("PL101", 3, 15, "cost")]);
    check_body("act.cap_cost(-1);", &[("PL104", 3, 14, "0..=")]);
    check_body("act.cap_cost(1, 2);", &[("PL104", 3, 5, "(usd)")]);
    check_body("act.cap_fanuot(1);", &[("PL101", 3, 5, "did you mean `cap_fanout`?")]);
    check_body("act.cap_fanout(17);", &[("PL104", 3, 16, "1..=16")]);
    check_body("act.hedge(\"never\");", &[("PL103", 3, 11, "`none`, or {after, max}")]);
    check_body("act.repair(1, [\"repromt\"]);", &[("PL104", 3, 16, "did you mean `reprompt`?")]);
    check_body("if lenn(ctx.request.tool_names) > 1 { act.deny(\"x\"); }", &[("PL301", 3, 4, "len")]);
    check_body("if ctxx.request.stream { act.deny(\"x\"); }", &[("PL301", 3, 4, "ctx")]);
    check_body("let a = act;\na.dny(\"x\");", &[("PL131", 3, 9, "stands alone"), ("PL301", 4, 3, "deny")]);
    check_body("ctx.tenant.id = \"x\";", &[("PL131", 3, 1, "read-only")]);
}

#[test]
fn the_shape_of_a_policy_is_checked() {
    check(&format!("let limit = 3;\n{}", policy("act.deny(\"x\");")), &[("PL121", 1, 1, "functions only")]);
    check("fn describe() { #{ id: \"p\" } }", &[("PL122", 1, 1, "on_request(ctx, act)")]);
    check("fn on_request(ctx, act) { }", &[("PL122", 1, 1, "describe()")]);
    check("fn describe() { #{ id: \"p\" } }\nfn on_request(a, b) { }", &[("PL123", 2, 4, "(ctx, act)")]);
    check(
        "fn describe() { #{ id: \"p\" } }\nfn on_requst(ctx, act) { }",
        &[("PL122", 2, 4, "did you mean `on_request`?")],
    );
    check(
        "fn describ() { #{ id: \"p\" } }\nfn on_request(ctx, act) { }",
        &[("PL122", 1, 4, "did you mean `describe`?")],
    );
    check(
        &format!(
            "{HEAD}fn on_tool(ctx, act) {{ help(ctx, act); act.cap_calls(2); }}\n\
                  fn help(ctx, act) {{ if ctx.tool.nam == \"x\" {{ act.deny(\"x\"); }} }}"
        ),
        &[("PL301", 3, 33, "`name`"), ("PL107", 2, 44, "the phase request")],
    );
    check(
        &format!(
            "{HEAD}fn on_request(ctx, act) {{ help(ctx, act); }}\nfn on_tool(ctx, act) {{ help(ctx, act); }}\n\
                  fn help(ctx, act) {{ if ctx.tenant.nam == \"x\" {{ act.deny(1); }} }}"
        ),
        &[("PL301", 4, 35, "known names: id"), ("PL103", 4, 57, "a reason")],
    );
    check(
        "fn describe() { #{ idd: \"p\" } }\nfn on_request(ctx, act) { }",
        &[("PL102", 1, 17, "`id` is missing"), ("PL101", 1, 20, "did you mean `id`?")],
    );
    check(
        "fn describe() { #{ id: \"p\", mode: \"of\" } }\nfn on_request(ctx, act) { }",
        &[("PL104", 1, 35, "enforce")],
    );
    check("fn describe() { throw 1 }\nfn on_request(ctx, act) { }", &[("PL123", 1, 4, "threw")]);
    check_body("let x = ;", &[("PL300", 3, 9, "")]);
    let (_, problems) =
        load_text("rules:\n- { id: p, actions: { tag: { a: b } } }", &[("policies/p.rhai", &policy(""))]);
    assert_eq!(problems[0].code, "PL120");
}

#[test]
fn what_reaches_out_or_loops_without_bound_does_not_compile() {
    for body in [
        "while true { }",
        "loop { }",
        "do { } while true",
        "import \"x\" as y;",
        "eval(\"1\");",
        "print(\"x\");",
        "debug(\"x\");",
        "let f = Fn(\"x\");",
    ] {
        let (_, problems) = load_text("{}", &[("policies/p.rhai", &policy(body))]);
        assert_eq!(
            problems.first().map(|d| (d.code.as_str(), d.line)),
            Some(("PL300", 3)),
            "{body} {problems:?}"
        );
    }
    check_body("sleep(1);", &[("PL301", 3, 1, "unknown function `sleep`")]);
    check_body("timestamp();", &[("PL301", 3, 1, "unknown function")]);
}

/// Runaways, with what is told of them. `rec` calls itself.
const RUNAWAYS: &[(&str, &str)] = &[
    ("for i in 0..1000000000 { }", "operation limit"),
    ("for i in 0..300 { for j in 0..300 { } }", "operation limit"),
    ("rec(1);", "too deep"),
    ("let s = \"0123456789\"; for i in 0..30 { s += s; }", "over its limit"),
    ("let a = []; for i in 0..1000 { a.push(i); }", "over its limit"),
    ("let m = #{}; for i in 0..100000 { m[`k${i}`] = [i, i]; }", "limit"),
    ("for i in 0..1000 { act.tag(#{ a: \"b\" }); }", "over its limit"),
    ("throw `secret ${ctx.tenant.id}`;", "threw a value"),
    ("let x = ctx.request.metadata.secret;", "no member"),
    ("act.cap_cost(ctx.request.model_asked);", "`act.cap_cost` was given something it does not take"),
    ("let p = \"model.ti\" + \"er > 1\"; act.prefer([#{ where: p }]);", "written out"),
];

#[test]
fn runaways_end_with_the_right_fail_mode() {
    let text = |mode: &str, body: &str, verb: &str| {
        format!(
            "fn describe() {{ #{{ id: \"p\"{mode} }} }}\nfn rec(n) {{ rec(n + 1) + 1 }}\n\
             fn on_request(ctx, act) {{ {body} act.{verb}; }}"
        )
    };
    for (body, told) in RUNAWAYS {
        let closed =
            set(&text("", body, "cap_temperature(0.5)")).evaluate_now(Phase::Request, &scope_of(&profile()));
        let Err(Error::Evaluation { rule, detail, .. }) = closed else { panic!("{body}: {closed:?}") };
        assert_eq!(rule.as_ref(), "p");
        assert!(detail.contains(told), "{body}: {detail}");
        assert!(!detail.contains("acme") && !detail.contains("auto"), "{body}: {detail}");
        let open = set(&text(", on_error: \"open\"", body, "deny(\"x\")"))
            .evaluate_now(Phase::Request, &scope_of(&profile()))
            .unwrap();
        assert_eq!(open.rules[0].result, RuleResult::Error, "{body}");
        assert!(open.actions.is_empty() && open.denials.is_empty(), "{body}");
    }
}

/// What a script may make: each at its limit, and one beyond.
#[test]
fn the_limits_of_scripts_are_those_that_are_documented() {
    let vars = |n: usize| (0..n).map(|i| format!("let v{i} = {i}; ")).collect::<String>();
    let text = |bytes: usize| {
        format!("let s = \"0123456789abcdef\"; for i in 0..8 {{ s += s; }} s += \"{}\";", "x".repeat(bytes))
    };
    let list = |n: usize| format!("let a = []; for i in 0..{n} {{ a.push(i); }}");
    let map = |n: usize| {
        format!("let m = #{{}}; for i in 0..{n} {{ let one = #{{}}; one[`k${{i}}`] = i; m += one; }}")
    };
    for (within, beyond, told) in [
        (text(0), text(1), "over its limit"),
        (list(256), list(257), "over its limit"),
        (map(256), map(257), "over its limit"),
        (vars(126), vars(127), "too many variables"),
    ] {
        let run = |body: &str| run(&format!("{body} act.cap_cost(1.0);"));
        let d = run(&within).unwrap_or_else(|e| panic!("{within}: {e}"));
        assert!(d.cap_cost.is_some(), "{within}");
        let error = run(&beyond).expect_err(&beyond).to_string();
        assert!(error.contains(told), "{beyond}: {error}");
    }
    // Functions within each other, and in one file.
    let nested = |deep: usize| {
        let helpers: String = (1..deep).map(|i| format!("fn f{i}(n) {{ f{}(n) }}\n", i + 1)).collect();
        let body = "fn on_request(ctx, act) { act.cap_cost(f1(1.0)); }";
        set(&format!("{HEAD}{helpers}fn f{deep}(n) {{ n }}\n{body}"))
            .evaluate_now(Phase::Request, &scope_of(&profile()))
    };
    assert!(nested(8).is_ok_and(|d| d.cap_cost.is_some()));
    assert!(nested(9).expect_err("it is too deep").to_string().contains("too deep"));
    let functions = |n: usize| {
        let helpers: String = (2..n).map(|i| format!("fn h{i}() {{ {i} }}\n")).collect();
        let text = format!("{HEAD}{helpers}fn on_request(ctx, act) {{ act.cap_cost(1.0); }}");
        load_text("{}", &[("policies/p.rhai", text.as_str())]).1
    };
    assert_eq!(functions(64), []);
    assert_eq!(functions(65).first().map(|d| d.code.as_str()), Some("PL300"));
}

#[test]
fn a_function_that_is_off_hides_no_other_mistake() {
    check(
        &policy("print(`${ctx.tennant.id}`);\nact.perfer([#{ where: \"true\" }]);"),
        &[("PL300", 3, 1, "print"), ("PL301", 3, 14, "tenant"), ("PL101", 4, 5, "perfer")],
    );
}

/// Each says where it is, which limit that is and what to do.
#[test]
fn a_limit_is_told_with_its_place_and_value() {
    for (body, told) in [
        (
            "let n = 0;\nfor i in 0..100000 {\n n += i;\n}",
            "the operation limit of 50000 is reached at policies/p.rhai:",
        ),
        (
            "let s = \"0123456789\";\nfor i in 0..30 {\n s += s;\n}",
            "over its limit of 4096 bytes at policies/p.rhai:5:",
        ),
        (
            "let m = [];\nfor i in 0..90 {\n m.push(\"0123456789012345678901234567890123456789012345678901234567890\");\n}",
            "all texts within a list or map count together",
        ),
        (
            "let m = [];\nfor i in 0..900 {\n m.push(i);\n}",
            "over its limit of 256 elements at policies/p.rhai:5:",
        ),
        ("act.deny(ctx.request.metadata.secret);", "at policies/p.rhai:3:"),
    ] {
        let error = set(&policy(&format!("{body} act.cap_cost(1.0);")))
            .evaluate_now(Phase::Request, &scope_of(&profile()))
            .expect_err(body)
            .to_string();
        assert!(error.contains(told), "{body}: {error}");
    }
    let text = format!(
        "{HEAD}fn rec(n) {{\n rec(n + 1) + 1\n}}\nfn on_request(ctx, act) {{ act.cap_cost(rec(1)); }}"
    );
    let error =
        set(&text).evaluate_now(Phase::Request, &scope_of(&profile())).expect_err("too deep").to_string();
    assert!(error.contains("over the limit of 8 calls at policies/p.rhai:5:"), "{error}");
    let slow = set(&policy("for i in 0..200 {\n let n = i;\n}\nact.deny(\"x\");"))
        .with_clock(stepping(Duration::from_micros(100), false));
    let error = slow.evaluate_now(Phase::Request, &scope_of(&profile())).expect_err("it is slow").to_string();
    assert!(error.contains("the time limit of 2 ms is reached at policies/p.rhai:"), "{error}");
}

#[test]
fn soft_policies_fail_open_unless_they_say_otherwise() {
    let d = run("act.tag(#{ a: \"b\" }); throw 1;").unwrap();
    assert_eq!(d.rules[0].result, RuleResult::Error);
    assert!(d.tags.is_empty());
}

/// A clock that gains `step` at every reading, and a whole second more at the tenth.
fn stepping(step: Duration, jump: bool) -> impl Fn() -> Duration + Send + Sync {
    let readings = Mutex::new(0_u32);
    move || {
        let mut readings = readings.lock().unwrap();
        *readings += 1;
        step * *readings + Duration::from_secs(u64::from(jump && *readings > 10))
    }
}

#[test]
fn the_deadline_holds_whatever_the_operations() {
    let run = |step, jump| {
        let set = set(&policy("for i in 0..200 { }\nact.deny(\"x\");")).with_clock(stepping(step, jump));
        set.evaluate_now(Phase::Request, &scope_of(&profile()))
    };
    assert_eq!(run(Duration::ZERO, false).unwrap().denials.len(), 1);
    let error = run(Duration::from_micros(100), false).unwrap_err();
    assert!(error.to_string().contains("time limit"), "{error}");
}

/// Each is within its own limit; together they are not.
#[test]
fn all_policies_of_a_phase_have_a_deadline_together() {
    let one = |name: &str, on_error: &str| {
        let describe =
            format!("fn describe() {{ #{{ id: \"{name}\", owner: \"me\", on_error: \"{on_error}\" }} }}\n");
        let body = "fn on_request(ctx, act) {\n for i in 0..8 { }\n act.tag(#{ seen: \"yes\" });\n}";
        (format!("policies/{name}.rhai"), format!("{describe}{body}"))
    };
    let evaluate = |many: usize, on_error: &str| {
        let files: Vec<_> = (0..many).map(|i| one(&format!("p{i:02}"), on_error)).collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        let (set, problems) = load_text("{}", &files);
        assert!(problems.is_empty(), "{problems:#?}");
        // At most 2 ms for the loop of each.
        let set = set.with_clock(stepping(Duration::from_micros(40), false));
        let d = set.evaluate_now(Phase::Request, &scope_of(&profile()));
        assert!(set.put_away().is_empty(), "that others came first is no fault of theirs");
        d
    };
    let matched = |d: &Directives| d.rules.iter().filter(|r| r.result == RuleResult::Matched).count();
    assert_eq!(matched(&evaluate(3, "closed").unwrap()), 3);
    let error = evaluate(40, "closed").unwrap_err();
    assert!(error.to_string().contains("time limit"), "{error}");
    let d = evaluate(40, "open").unwrap();
    assert!((4..40).contains(&matched(&d)), "{}", matched(&d));
    assert_eq!(d.rules.last().map(|r| &r.result), Some(&RuleResult::Error));
    assert_eq!(matched(&evaluate(3, "closed").unwrap()), 3, "the next phase has time of its own");
}

/// Policies of these heads, each with a loop of nearly 2 ms by its clock, then a rule and the marks of what matched,
/// both with every policy on the caller's thread and without.
#[track_caller]
fn check_last(before: &str, many: usize) {
    let body = "fn on_request(ctx, act) {\n for i in 0..8 { }\n act.tag(#{ seen: \"yes\" });\n}";
    let one = |name: &str, more: &str| {
        let head = format!("fn describe() {{ #{{ id: \"{name}\", owner: \"me\", {more} }} }}\n");
        (format!("policies/{name}.rhai"), format!("{head}{body}"))
    };
    let mut files: Vec<_> = (0..many).map(|i| one(&format!("p{i:02}"), before)).collect();
    files.push(one("z", "on_error: \"closed\""));
    let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    let (set, problems) = load_text("{}", &files);
    assert!(problems.iter().all(|d| d.severity != types::diagnostic::Severity::Error), "{problems:#?}");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for threads in [false, true] {
        let set = set.clone().with_clock(stepping(Duration::from_micros(40), false));
        let scope = scope_of(&profile());
        let d = match threads {
            true => runtime.block_on(set.evaluate(Phase::Request, &scope)),
            false => set.evaluate_now(Phase::Request, &scope),
        };
        let d = d.unwrap_or_else(|e| panic!("{before}, on threads: {threads}: {e}"));
        assert_eq!(d.rules.last().map(|r| &r.result), Some(&RuleResult::Matched), "{before}: {threads}");
    }
}

#[test]
fn what_does_not_apply_takes_no_time_of_what_does() {
    check_last("mode: \"shadow\"", 40);
    check_last("expires: \"2020-01-01T00:00:00Z\"", 40);
}

/// A thread that does not run is no fault of the policies that come after.
#[test]
fn a_policy_that_does_not_come_back_fails_alone() {
    let file = |name: &str, on_error: &str| {
        format!(
            "fn describe() {{ #{{ id: \"{name}\", owner: \"me\", on_error: \"{on_error}\" }} }}\n\
             fn on_request(ctx, act) {{ for i in 0..8 {{ }} act.tag(#{{ seen: \"yes\" }}); }}"
        )
    };
    let (first, last) = (file("first", "open"), file("last", "closed"));
    let (set, problems) = load_text("{}", &[("policies/first.rhai", &first), ("policies/last.rhai", &last)]);
    assert!(problems.is_empty(), "{problems:#?}");
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(Some(held));
    let set = set.with_clock(move || {
        // The thread of the first policy stands still where it first looks at the clock.
        let on_its_own = std::thread::current().name() == Some("policy");
        if let Some(held) = on_its_own.then(|| held.lock().unwrap().take()).flatten() {
            let _ = held.recv();
        }
        Duration::ZERO
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let d = runtime.block_on(set.evaluate(Phase::Request, &scope_of(&profile()))).unwrap();
    let results: Vec<_> = d.rules.iter().map(|r| &r.result).collect();
    assert_eq!(results, [&RuleResult::Error, &RuleResult::Matched]);
    drop(release);
}

#[test]
fn a_thread_that_was_not_running_is_not_a_runaway() {
    let set = set(&policy("for i in 0..200 { }\nact.deny(\"x\");"));
    let set = set.with_clock(stepping(Duration::from_nanos(100), true));
    assert_eq!(set.evaluate_now(Phase::Request, &scope_of(&profile())).unwrap().denials.len(), 1);
}

#[test]
fn a_policy_that_is_put_away_is_told_of_and_comes_back() {
    let seconds = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let clock = seconds.clone();
    let set =
        set(&policy("if ctx.workload.est_input_tokens > 500 { for i in 0..1000000 { } }\nact.deny(\"x\");"))
            .with_clock(move || Duration::from_secs(clock.load(std::sync::atomic::Ordering::Relaxed)));
    let ask = |tokens: u32| {
        let mut asked = profile();
        asked.facts.est_input_tokens = tokens;
        set.evaluate_now(Phase::Request, &scope_of(&asked)).map(|d| d.denials.len())
    };
    let path = "policies/p.rhai";
    assert!(set.put_away().is_empty());
    (0..3).for_each(|_| drop(ask(1_000).unwrap_err()));
    assert_eq!(set.put_away().get(path), Some(&(1, true)));
    assert!(ask(1).unwrap_err().to_string().contains("for a while"));
    seconds.store(60, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(ask(1), Ok(1));
    (0..3).for_each(|_| drop(ask(1_000).unwrap_err()));
    set.release();
    assert_eq!((ask(1), set.put_away().get(path)), (Ok(1), Some(&(2, false))));
}

/// What is only looked at (a trial, a replay, a test case) says nothing of a policy that serves.
#[test]
fn what_is_looked_at_puts_no_policy_away() {
    let runaway = "if ctx.workload.est_input_tokens > 500 { for i in 0..1000000 { } }\nact.deny(\"x\");";
    let set = set(&policy(runaway));
    let scope = |tokens: u32| {
        let mut asked = profile();
        asked.facts.est_input_tokens = tokens;
        scope_of(&asked)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let look = |tokens| runtime.block_on(set.evaluate_for(Purpose::Looking, Phase::Request, &scope(tokens)));
    for _ in 0..4 {
        assert!(set.explain(Phase::Request, &scope(1_000)).error.is_some());
        assert!(look(1_000).is_err());
    }
    assert!(set.put_away().is_empty() && set.failed().is_empty(), "{:?}", set.put_away());
    assert_eq!(set.evaluate_now(Phase::Request, &scope(1)).unwrap().denials.len(), 1);
    // One that is put away tells all the same what it would say.
    (0..3).for_each(|_| drop(set.evaluate_now(Phase::Request, &scope(1_000)).unwrap_err()));
    assert!(set.evaluate_now(Phase::Request, &scope(1)).is_err());
    assert_eq!(look(1).unwrap().denials.len(), 1);
}

/// One that could run long would cost the time that others need, whatever it says.
#[tokio::test]
async fn a_policy_of_a_decided_group_is_not_run() {
    let late = "fn describe() { #{ id: \"late\", owner: \"o\", group: \"g\" } }\n\
                fn on_request(ctx, act) { for i in 0..1000000 { } act.cap_calls(1); }";
    let rules = "rules: [{ id: first, group: g, actions: { cap_calls: 3 } }]\n";
    let set = crate::testing::sound(rules, &[("policies/late.rhai", late)]);
    for _ in 0..4 {
        let d = set.evaluate(Phase::Request, &scope_of(&profile())).await.unwrap();
        assert_eq!(d.rules[1].detail.as_deref(), Some("`first` of the same group applies"));
    }
    assert!(set.put_away().is_empty(), "it never ran");
}

#[test]
fn inputs_are_shared_and_cannot_be_changed() {
    let (_, problems) = load_text(
        "{}",
        &[("policies/p.rhai", &policy("let r = ctx.request;\nr.user = \"x\";\nact.deny(\"x\");"))],
    );
    assert!(problems.is_empty(), "{problems:?}");
    let error = run("let r = ctx.request;\nr.user = \"x\";\nact.deny(\"x\");").unwrap_err();
    assert!(error.to_string().contains("cannot be read or set"), "{error}");
}

#[test]
fn closures_read_what_they_run_over() {
    let body = "let least = 1;\nif ctx.request.options.prefer.is_empty() && [1, 2].some(|n| n > least) && \
                words(ctx.request.last_user_text).some(|w| w == ctx.request.last_user_text) { act.deny(\"x\"); }";
    assert_eq!(run(body).unwrap().denials.len(), 1);
    check_body("if [1].some(|n| n == ctx.tenant.idd) { act.deny(\"x\"); }", &[("PL301", 3, 33, "`id`")]);
}

#[test]
fn one_scope_serves_many_threads() {
    let set = set(&policy("if ctx.workload.task_family == \"coding\" { act.cap_cost(0.5); }"));
    let scope = scope_of(&profile());
    let want = set.evaluate_now(Phase::Request, &scope).unwrap();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                (0..50).for_each(|_| assert_eq!(set.evaluate_now(Phase::Request, &scope).as_ref(), Ok(&want)))
            });
        }
    });
}

#[test]
fn everyday_conditions_are_not_too_deep() {
    let d = run(
        "if (ctx.request.metadata.get(\"p\") ?? \"\") == \"\" { act.prefer([ctx.request.metadata.get(\"v\") ?? \"acme/*\"], 0.4); }",
    );
    assert_eq!(d.unwrap().actions[0].argument, json!({"models": ["acme/*"], "strength": 0.4}));
    // A loop, three conditions and a closure within each other.
    let nested = "for x in [1] { if x == 1 { if (ctx.request.metadata.get(\"p\") ?? \"\") == \"\" { \
                  act.prefer([\"acme/*\"].filter(|y| y != (ctx.request.metadata.get(\"n\") ?? \"\")), 0.4); } \
                  else if x == 2 { switch x { 1 => { act.tag(#{ a: \"b\" }); } } } } }";
    assert_eq!(run(nested).unwrap().actions.len(), 1);
    let deep = format!("let a = {}1{};", "(1 + ".repeat(40), ")".repeat(40));
    let (_, problems) = load_text("{}", &[("policies/p.rhai", &policy(&deep))]);
    assert_eq!((problems[0].code.as_str(), problems[0].line), ("PL300", 3), "{problems:?}");
    assert!(problems[0].to_string().contains("into a `let` or a function of its own"), "{problems:?}");
}

/// All that asks for something together asks for 500 things at most; what asks for more has failed, and is left out
/// whole.
#[test]
fn more_actions_than_there_is_room_for_are_a_failure() {
    let one = |name: &str, on_error: &str, n: usize| {
        let head = format!("fn describe() {{ #{{ id: \"{name}\", on_error: \"{on_error}\" }} }}\n");
        let body = format!("for i in 0..{n} {{ let t = #{{}}; t[`{name}${{i}}`] = \"x\"; act.tag(t); }}");
        (format!("policies/{name}.rhai"), format!("{head}fn on_request(ctx, act) {{ {body} }}"))
    };
    let evaluate = |files: &[(String, String)]| {
        let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        let set = sound("rules: [{ id: r, actions: { tag: { r: x } } }]", &files);
        (set.evaluate_now(Phase::Request, &scope_of(&profile())), set.failed().len())
    };
    let (d, failed) = evaluate(&[one("a", "open", 300), one("b", "open", 300), one("c", "open", 199)]);
    let d = d.unwrap();
    assert_eq!((d.tags.len(), d.actions.len(), failed), (500, 500, 1));
    let left_out: Vec<_> = d.rules.iter().filter(|r| r.result == RuleResult::Error).collect();
    assert_eq!(left_out.iter().map(|r| &*r.id).collect::<Vec<_>>(), ["b"]);
    assert!(left_out[0].detail.as_deref().unwrap().contains("more than 500 actions"), "{left_out:?}");
    let (refused, _) = evaluate(&[one("a", "open", 300), one("b", "closed", 300)]);
    assert!(refused.unwrap_err().to_string().contains("more than 500 actions"));
}
