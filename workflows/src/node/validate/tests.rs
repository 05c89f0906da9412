//! Checks in files: what they refer to, what they find, and what they mend.

use crate::testing::{Says, Script, file, load_all, play, replies, request, text, workflow};
use serde_json::{Value, json};
use types::run::Severity;
use types::{Finding, Report, Verdict};

fn body(validators: &str) -> String {
    format!(
        "\
nodes:
  - {{ id: find, type: tool, tool: look, args: {{ q: tower }} }}
  - {{ id: ask, type: generate }}
  - {{ id: check, type: validate, validators: [{validators}] }}
  - {{ id: fix, type: repair, from: check, strategies: [fix, reprompt], on_exhausted: best }}
  - {{ id: answer, type: stream, from: nodes.check.best }}
  - {{ id: mended, type: stream, from: nodes.fix.completion }}
edges:
  - {{ from: find, to: ask }}
  - {{ from: ask, to: check }}
  - {{ from: check, to: answer, outcome: [passed, unverified] }}
  - {{ from: check, to: fix, outcome: failed }}
  - {{ from: fix, to: mended }}
"
    )
}

const SOURCED: &str = "{ use: citations, with: { sources: nodes.find.result, style: author_year } }, \
    { use: grounding, with: { sources: nodes.find.result } }, code_parse, { use: pii, with: { action: mask } }";

const GOOD: &str = "The tower was completed in March 1889 (Smith, 2020).";

fn paris() -> Value {
    json!([{"title": "Eiffel Tower", "author": "Smith", "year": 2020, "text": "The tower was completed in March 1889. It stands on the Champ de \
        Mars in Paris, and was designed by the company of Gustave Eiffel."}])
}

/// The text that is delivered, with its verdict, and the questions that were asked.
async fn run(validators: &str, found: Value, says: &[&'static str]) -> (String, Vec<String>) {
    let mut says = says.iter().map(|s| Says::Text(1, s));
    let first = says.next().into_iter().collect();
    let script = Script::new(vec![("ask", first), ("fix", says.collect())]).with_tools(vec![replies(found)]);
    let (ending, _) = play(&workflow(&body(validators)), request(json!({})), &script).await;
    (text(&ending), script.purposes())
}

#[tokio::test(start_paused = true)]
async fn answers_are_held_against_what_a_node_has_found() {
    let check = async |says: &[&'static str], want: &str, asked: &[&str]| {
        let got = run(SOURCED, paris(), says).await;
        assert_eq!(
            (got.0.as_str(), got.1.iter().map(String::as_str).collect::<Vec<_>>()),
            (want, asked.to_vec())
        );
    };
    let passed = format!("{GOOD}|passed");
    check(&[GOOD], &passed, &["primary"]).await;
    // Not supported, not cited, pointing nowhere: each is repaired.
    for bad in [
        "The tower was completed in 1925 by Stephen Sauvestre in Lyon (Smith, 2020).",
        "The tower was completed in March 1889.",
        "The tower was completed in March 1889 (Jones, 2019).",
    ] {
        check(&[bad, GOOD], &passed, &["primary", "repair:reprompt"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_value_is_unverified_and_never_passed() {
    let (said, asked) = run(SOURCED, Value::Null, &[GOOD]).await;
    assert_eq!((said, asked.len()), (format!("{GOOD}|unverified"), 1));
}

#[tokio::test(start_paused = true)]
async fn code_that_does_not_parse_is_asked_for_again() {
    const CODE: &str = "```python\ndef f():\n    return 1\n```";
    let (said, asked) = run("code_parse", json!([]), &["```python\ndef f(:\n    return 1\n```", CODE]).await;
    assert_eq!((said, asked.len()), (format!("{CODE}|passed"), 2));
}

#[tokio::test(start_paused = true)]
async fn checks_mend_what_they_know_how_to_put_right() {
    let answer = "Write to jane.doe@towers.org about it.";
    let (said, asked) = run("{ use: pii, with: { action: mask } }", json!([]), &[answer]).await;
    assert!(said.ends_with("|passed") && !said.contains("jane.doe") && said.contains("about it."), "{said}");
    assert_eq!(asked, ["primary"], "a mask needs no model");
    let (said, asked) = run("pii", json!([]), &[answer, "Write to us."]).await;
    assert_eq!((said.as_str(), asked.len()), ("Write to us.|passed", 2));
}

#[test]
fn wrong_parameters_and_references_are_shown_at_their_place() {
    // The list of validators begins at column 47 of line 6.
    let check = |validators: &str, want: (&str, &str)| {
        let (library, problems) = load_all(&[file(&body(validators))]);
        let first = problems.first().unwrap_or_else(|| panic!("{validators} is taken"));
        let at = validators.find(want.1).unwrap() + 47;
        assert_eq!((first.code.as_str(), first.line, first.column), (want.0, 6, at), "{first}");
        assert_eq!(first.file, "w.yaml");
        assert!(library.get("w").is_none());
    };
    check("{ use: grounding, with: { sources: nodes.fnd.result } }", ("WF301", "nodes.fnd"));
    check("{ use: grounding, with: { sources: nodes.find.reslt } }", ("WF301", "nodes.find"));
    check("{ use: grounding, with: { sources: nodes.fix.history } }", ("WF320", "nodes.fix"));
    check("{ use: grounding, with: { min: 2 } }", ("WF104", "min"));
    check("{ use: citations, with: { stile: url } }", ("WF101", "stile"));
    check("{ use: similarity, with: { to: quick, min: 0.5 } }", ("WF103", "quick"));
    check("script", ("WF102", "script"));
}

/// One generation whose code is checked outside, repaired if it fails.
fn tested(validator: &str) -> String {
    format!(
        "\
nodes:
  - {{ id: ask, type: generate }}
  - {{ id: check, type: validate, validators: [{validator}], timeout: 20s }}
  - {{ id: fix, type: repair, from: check, strategies: [reprompt] }}
  - {{ id: answer, type: stream, from: nodes.check.best }}
  - {{ id: mended, type: stream, from: nodes.fix.completion }}
  - {{ id: gone, type: fail, code: none_passed, message: gone }}
edges:
  - {{ from: ask, to: check }}
  - {{ from: check, to: answer, outcome: [passed, unverified] }}
  - {{ from: check, to: fix, outcome: failed }}
  - {{ from: fix, to: mended, outcome: repaired }}
  - {{ from: fix, to: gone, outcome: exhausted }}
"
    )
}

fn says(verdict: Verdict, code: Option<&str>) -> Report {
    let finding = |code: &str| Finding {
        validator: "anything".into(),
        code: code.into(),
        severity: Severity::Warn,
        path: Some("test_sum".into()),
        span: None,
        message: "x".repeat(500),
        expected: None,
        actual: None,
        hint: None,
    };
    Report {
        verdict,
        reason: Some("as the script says".into()),
        findings: code.map(finding).into_iter().collect(),
    }
}

const QUESTION: &str = "Write add.\n```python\nassert add(1, 2) == 3\n```\n```sh\nls\n```";

async fn code(validator: &str, reports: Vec<Report>) -> (String, Script) {
    let ask = vec![Says::Text(1, "first")];
    let script = Script::new(vec![("ask", ask), ("fix", vec![Says::Text(1, "second")])]).with_checks(reports);
    let request = request(json!({"messages": [{"role": "user", "content": QUESTION}]}));
    let (ending, _) = play(&workflow(&tested(validator)), request, &script).await;
    (text(&ending), script)
}

#[tokio::test(start_paused = true)]
async fn what_is_checked_outside_has_three_verdicts() {
    use Verdict::{Failed, Passed, Unverified};
    let check = async |reports: &[Verdict], want: &str| {
        let reports = reports.iter().map(|v| says(*v, (*v == Failed).then_some("test_failed"))).collect();
        let (got, script) = code("code_tests", reports).await;
        assert_eq!(got, want);
        script
    };
    check(&[Passed], "first|passed").await;
    check(&[Unverified], "first|unverified").await;
    let script = check(&[Failed, Passed], "second|passed").await;
    let asks = script.check_asks.lock().unwrap().clone();
    let ids: Vec<String> = asks.iter().map(|a| a.id.to_string()).collect();
    assert_eq!(ids, ["check#0.1:check", "fix#0.1:check"]);
    assert_eq!(asks[0].with, json!({"language": "python", "tests": [{"text": "assert add(1, 2) == 3\n"}]}));
    assert_eq!((asks[0].completion.text(), asks[0].timeout.as_secs()), ("first", 18));
    // The model that repairs is told, in few words.
    let told = script.asked.lock().unwrap()[1].edits.messages.clone().unwrap();
    let told = told.last().unwrap().content.text().into_owned();
    assert!(told.contains("test_failed at test_sum") && !told.contains(&"x".repeat(201)), "{told}");
    let script = check(&[Failed, Failed], "workflow.none_passed").await;
    assert!(!script.check_asks.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_without_findings_fails_and_a_warning_does_not() {
    let (got, _) = code("code_tests", vec![says(Verdict::Failed, None), says(Verdict::Passed, None)]).await;
    assert_eq!(got, "second|passed");
    let warns = "{ use: code_tests, severity: warn }";
    let (got, _) = code(warns, vec![says(Verdict::Failed, None)]).await;
    assert_eq!(got, "first|passed");
}

#[tokio::test(start_paused = true)]
async fn parameters_go_out_with_the_question() {
    let of = async |validator: &str| {
        let (_, script) = code(validator, vec![says(Verdict::Passed, None)]).await;
        let asks = script.check_asks.lock().unwrap();
        (asks[0].check.to_string(), asks[0].with.clone(), asks[0].timeout.as_millis())
    };
    let with =
        "{ use: code_tests, with: { cpu: 5s, memory: 1KiB, network: off, language: sh }, timeout: 3s }";
    let sh = json!({"language": "sh", "cpu_ms": 5000, "memory": 1024, "tests": [{"text": "assert add(1, 2) == 3\n"}]});
    assert_eq!(of(with).await, ("code_tests".to_owned(), sh, 3000));
    let http = "{ use: http, with: { url: \"https://checks.example/run\" } }";
    let url = json!({"url": "https://checks.example/run", "question": QUESTION});
    assert_eq!(of(http).await, ("http".to_owned(), url, 2000));
}

#[test]
fn mistakes_in_checks_outside_are_named() {
    let check = |validator: &str, want: &[(&str, &str)]| {
        let (_, problems) = load_all(&[file(&tested(validator))]);
        let got: Vec<(&str, &str)> = problems.iter().map(|d| (d.code.as_str(), d.message.as_str())).collect();
        assert_eq!(got.len(), want.len(), "{validator}: {got:?}");
        for ((code, message), (wanted, part)) in got.iter().zip(want) {
            assert!(code == wanted && message.contains(part), "{validator}: {got:?}");
        }
    };
    check("code_tests", &[]);
    check("code_test", &[("WF203", "code_test")]);
    check("{ use: code_tests, with: { cpus: 5s } }", &[("WF101", "cpus")]);
    check("{ use: code_tests, with: { network: on } }", &[("WF103", "network")]);
    check("{ use: code_tests, with: { tests: nodes.nobody.text } }", &[("WF301", "nobody")]);
    check("{ use: script, with: { name: tone }, timeout: 1s }", &[]);
    check("script", &[("WF102", "name")]);
    check("{ use: script, with: { nam: tone } }", &[("WF102", "name"), ("WF101", "nam")]);
    check("{ use: script, with: { name: tune } }", &[("WF203", "`tune(answer, ctx)`")]);
    let (_, missing) = load_all(&[file(&tested("{ use: script, with: { name: tune } }"))]);
    assert!(missing[0].hint.as_deref().unwrap().contains("did you mean `tone`"), "{missing:?}");
    check("http", &[("WF102", "url")]);
    check("{ use: http, with: { url: checks.example } }", &[("WF104", "checks.example")]);
}

#[test]
fn tests_without_a_runner_are_warned_of() {
    let (matrix, variables) = (crate::testing::matrix(), crate::testing::variables());
    let names = crate::Names {
        matrix: &matrix,
        pools: &[],
        approvers: None,
        tools: &[],
        scripts: &[],
        runner: false,
        may_ask: None,
        language: &crate::testing::Small,
        variables: &variables,
    };
    let problems = |body: &str| crate::load(&[file(body)], &names).1;
    let got = problems(&tested("code_tests"));
    assert_eq!(got.len(), 1, "{got:?}");
    let d = &got[0];
    assert_eq!((d.code.as_str(), d.line, d.severity), ("WF421", 5, types::Severity::Warning));
    assert!(d.hint.as_ref().is_some_and(|h| h.contains("runner.enabled")));
    let silent = tested("code_tests").replace("timeout: 20s", "timeout: 20s, lint: { allow: [WF421] }");
    assert!(problems(&silent).is_empty(), "{:?}", problems(&silent));
}

/// One answer through one `validate` node: its outcome, score and findings.
async fn validated(keys: &str, says: &'static str) -> String {
    let body = format!(
        "\
nodes:
  - {{ id: ask, type: generate }}
  - {{ id: check, type: validate, {keys} }}
  - {{ id: tell, type: merge, from: [nodes.ask.completions], method: template, template: \"${{ nodes.check.outcome }} ${{ nodes.check.score }} ${{ nodes.check.findings.len() }} ${{ nodes.check.completions.len() }} ${{ nodes.check.unverified.len() }}\" }}
  - {{ id: answer, type: stream, from: nodes.tell.completion }}
edges:
  - {{ from: ask, to: check }}
  - {{ from: check, to: tell }}
  - {{ from: tell, to: answer }}
"
    );
    let script = Script::new(vec![("ask", vec![Says::Text(1, says)])]);
    let (ending, _) = play(&workflow(&body), request(json!({})), &script).await;
    text(&ending).trim_end_matches("|none").to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_an_entry_say_how_much_it_counts_and_what_its_failure_means() {
    let long = "{ use: length, with: { chars: { min: 100 } }, KEYS }";
    let check = async |keys: &str, want: &str| {
        let list = format!("validators: [json, {}]", long.replace("KEYS", keys));
        assert_eq!(validated(&list, "[1]").await, want, "{keys}");
        // How long it may take changes nothing of what it says.
        let timed = list.replace("with:", "timeout: 1s, with:");
        assert_eq!(validated(&timed, "[1]").await, want, "{keys}");
    };
    check("severity: repair", "failed 0.5 1 1 0").await;
    check("weight: 3", "failed 0.25 1 1 0").await;
    check("on_fail: warn", "passed 0.8333333333333333 1 1 0").await;
    check("on_fail: reject", "failed 0.25 1 1 0").await;
    check("on_fail: drop", "failed 0.25 1 0 0").await;
    check("on_fail: reject, severity: warn", "passed 0.8333333333333333 1 1 0").await;
    let sources = "validators: [{ use: grounding, with: { sources: nodes.ask.error }, KEYS }]";
    assert_eq!(validated(&sources.replace(", KEYS", ""), "x").await, "unverified 0.5 0 1 1");
    assert_eq!(validated(&sources.replace("KEYS", "needed: true"), "x").await, "failed 0.0 1 1 0");
    assert_eq!(
        validated(&(sources.replace("KEYS", "needed: true") + ", pass_when: score >= 0.0"), "x").await,
        "failed 0.0 1 1 0"
    );
    assert_eq!(
        validated(&(sources.replace(", KEYS", "") + ", pass_when: score >= 0.0"), "x").await,
        "unverified 0.5 0 1 1"
    );
    for (keys, code) in
        [("weight: -1", "WF104"), ("on_fail: reask", "WF104"), ("needed: 3", "WF103"), ("as: 'x y'", "WF104")]
    {
        let body = body(&format!("{{ use: json, {keys} }}"));
        let (_, p) = load_all(&[file(&body)]);
        assert_eq!(p.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), [code], "{keys}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_may_stop_at_the_first_failure_and_decide_by_itself() {
    let two = "validators: [json, { use: length, with: { chars: { min: 100 } } }]";
    assert_eq!(validated(two, "no").await, "failed 0.0 2 1 0");
    assert_eq!(validated(&format!("{two}, mode: fail_fast"), "no").await, "failed 0.0 1 1 0");
    assert_eq!(validated(&format!("{two}, pass_when: score > 0.4"), "[1]").await, "passed 0.5 1 1 0");
    assert_eq!(validated(&format!("{two}, pass_when: score > 0.6"), "[1]").await, "failed 0.5 1 1 0");
    // What does not hold says so, where nothing else was found.
    assert_eq!(
        validated("validators: [json], pass_when: findings.len() > 0", "[1]").await,
        "failed 1.0 1 1 0"
    );
    let by = "validators: [json], pass_when: 'completion.text == \"[1]\"'";
    assert_eq!(validated(by, "[1]").await, "passed 1.0 0 1 0");
    let (_, p) = load_all(&[file(&body("json").replace("validators:", "pass_when: scor > 1, validators:"))]);
    assert_eq!(p[0].code, "WF301");
}

#[tokio::test(start_paused = true)]
async fn what_stops_at_the_first_failure_asks_nobody_outside_in_vain() {
    let fast = tested("{ use: json }, code_tests").replace("timeout: 20s", "timeout: 20s, mode: fail_fast");
    let fast = fast.replace("strategies: [reprompt]", "strategies: [reprompt], max_attempts: 1");
    let passed = Report { verdict: Verdict::Passed, reason: None, findings: Vec::new() };
    let script = Script::new(vec![("ask", vec![Says::Text(1, "no")]), ("fix", vec![Says::Text(1, "{}")])])
        .with_checks(vec![passed]);
    let (ending, _) = play(&workflow(&fast), request(json!({})), &script).await;
    assert_eq!(text(&ending), "{}|passed");
    assert_eq!(script.check_asks.lock().unwrap().len(), 1, "of the second answer alone");
}

/// Scenario 14, of a check that takes too long: the run goes on by the edges of what could not be checked.
#[tokio::test(start_paused = true)]
async fn scenario_14_a_check_with_a_time_limit_is_asked_for_and_may_come_too_late() {
    let list = "{ use: length, with: { chars: { max: 9 } }, timeout: 2s, KEYS }, json, { use: refusal, timeout: 1h }";
    let late = || Report {
        verdict: Verdict::Unverified,
        reason: Some("it took longer".to_owned()),
        findings: vec![],
    };
    let passed = || Report { verdict: Verdict::Passed, reason: None, findings: vec![] };
    let check = async |keys: &str, reports: Vec<Report>, want: &str| {
        let says = |text| vec![Says::Text(1, text)];
        let script = Script::new(vec![("ask", says("[1]")), ("fix", says("[2]"))])
            .with_tools(vec![replies(json!([]))])
            .with_checks(reports);
        let file = body(&list.replace(", KEYS", keys)).replace("[fix, reprompt]", "[reprompt]");
        let (ending, _) = play(&workflow(&file), request(json!({})), &script).await;
        assert_eq!(text(&ending), want, "{keys}");
        let asks = script.check_asks.lock().unwrap();
        let first: Vec<(&str, u32, u64)> =
            asks.iter().take(2).map(|a| (&*a.check, a.id.index, a.timeout.as_secs())).collect();
        // Never more than nine tenths of the node's ten seconds.
        assert_eq!(first, [("length", 0, 2), ("refusal", 1, 9)], "{keys}");
        assert_eq!(asks[0].with["with"]["chars"]["max"], 9);
        assert!(asks.iter().all(|a| a.own.is_some()));
    };
    check("", vec![], "[1]|passed").await;
    check("", vec![late(), passed()], "[1]|unverified").await;
    check(", severity: warn", vec![late(), passed()], "[1]|passed").await;
    // Where it is needed, an answer that it was too late for has failed; the next one is checked again.
    check(", needed: true", vec![late(), passed()], "[2]|passed").await;
    let sink = body("json")
        .replace("from: nodes.check.best", "from: nodes.check.best, validators: [{ use: pii, timeout: 1s }]");
    let (_, p) = load_all(&[file(&sink)]);
    assert_eq!(p.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), ["WF104"], "{p:?}");
}

/// What could not be checked is counted by what the check is, whatever a list calls it and however little it weighs.
#[tokio::test(start_paused = true)]
async fn checks_that_could_not_say_anything_are_counted() {
    let unable = |n: usize| vec![says(Verdict::Unverified, None); n];
    for (checks, answer, reports, want) in [
        ("{ use: code_tests, as: mine, severity: warn }", "x", 1, vec![("code_tests", 1)]),
        ("json, { use: grounding, as: facts }", "{}", 0, vec![("grounding", 1)]),
        ("json", "{}", 0, vec![]),
    ] {
        let script = Script::new(vec![("ask", vec![Says::Text(1, answer)])]).with_checks(unable(reports));
        let input = crate::testing::input(request(json!({})), None);
        let trace = input.trace.clone();
        crate::testing::run(&workflow(&tested(checks)), input, &script).await;
        let told = trace.take().unverified;
        let told: Vec<_> = told.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(told, want, "{checks}");
    }
}
