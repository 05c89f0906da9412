//! The repair ladder, rung by rung.

use super::{json_wanted, prose};
use crate::testing::*;
use crate::world::Ask;
use crate::{Ending, Exhausted, Failure};
use serde_json::json;
use types::chat::ResponseFormat;
use types::matrix::Price;
use types::run::Purpose;

fn mending(keys: &str) -> String {
    format!(
        "\
limits: {{ calls: 9 }}
prompts: {{ json: Write JSON and nothing else. }}
nodes:
  - {{ id: ask, type: generate }}
  - {{ id: check, type: validate, validators: [json, {{ use: length, with: {{ chars: {{ max: 30 }} }} }}] }}
  - {{ id: fix, type: repair, from: check, {keys} }}
  - {{ id: tell, type: merge, from: [nodes.fix.completion], method: template, template: \"${{ nodes.fix.outcome }} by ${{ nodes.fix.strategy }} in ${{ nodes.fix.attempts }}: ${{ nodes.fix.history }}\" }}
  - {{ id: answer, type: stream, from: nodes.tell.completion }}
  - {{ id: good, type: stream, from: nodes.check.best }}
edges:
  - {{ from: ask, to: check }}
  - {{ from: check, to: good, outcome: [passed, unverified] }}
  - {{ from: check, to: fix, outcome: failed }}
  - {{ from: fix, to: tell }}
  - {{ from: tell, to: answer }}
"
    )
}

/// What is told of the repair, and what was asked for it.
async fn mend(keys: &str, first: &'static str, says: Vec<Says>) -> (String, Vec<Ask>) {
    let script = Script::new(vec![("ask", vec![Says::Text(1, first)]), ("fix", says)]);
    *script.price.lock().unwrap() = Some(Price::new(1e5, 0.0));
    let (ending, steps) = play(&workflow(&mending(keys)), prose(), &script).await;
    let Ending::Delivered { completion, .. } = ending else { panic!("{ending:?} {steps:?}") };
    let asked = script.asked.lock().unwrap().iter().skip(1).cloned().collect();
    (completion.text().to_owned(), asked)
}

/// The strategies of a history.
fn tried(told: &str) -> Vec<String> {
    let (_, history) = told.split_once(": ").unwrap();
    let history: Vec<serde_json::Value> = serde_json::from_str(history).unwrap();
    history.iter().map(|t| t["strategy"].as_str().unwrap().to_owned()).collect()
}

fn all(texts: &[&'static str]) -> Vec<Says> {
    texts.iter().map(|t| Says::Text(1, t)).collect()
}

const EVERY: &str = "max_attempts: 4, strategies: [fix, reprompt, structured, deterministic, escalate]";

#[tokio::test(start_paused = true)]
async fn what_can_be_mended_without_a_model_is() {
    let (told, asked) = mend(EVERY, "```json\n{\"a\": 1,}\n```", vec![]).await;
    assert!(told.starts_with("repaired by fix in 0: ") && asked.is_empty(), "{told}");
    assert_eq!(tried(&told), ["fix"]);
}

/// 13: what makes no progress is skipped, feedback is bounded, the best so far is kept, attempts are counted,
/// and every attempt's cost is told.
#[tokio::test(start_paused = true)]
async fn scenario_13_the_ladder() {
    // The same findings twice: what changes neither model nor sampling is skipped.
    let (told, asked) = mend(EVERY, "no", all(&["never", "nope", "{}"])).await;
    assert!(told.starts_with("repaired by escalate in 3: "), "{told}");
    let purposes: Vec<_> = asked.iter().map(|a| a.purpose.as_str()).collect();
    assert_eq!(purposes, ["repair:reprompt", "repair:deterministic", "repair:escalate"]);
    // Each attempt's cost stands in the history: a dollar for the ten tokens of input.
    let (_, history) = told.split_once(": ").unwrap();
    let history: serde_json::Value = serde_json::from_str(history).unwrap();
    let costs: Vec<f64> =
        history.as_array().unwrap().iter().map(|t| t["cost_usd"].as_f64().unwrap()).collect();
    assert_eq!(costs.iter().filter(|c| (**c - 1.0).abs() < 1e-9).count(), 3, "{history}");
    assert_eq!(history[0]["findings"][0]["validator"], "json", "{history}");
    // Never more than was stated, whatever the ladder has.
    for most in 1..=4_u32 {
        let keys = format!(
            "max_attempts: {most}, strategies: [resample, resample, deterministic, escalate, escalate, resample]"
        );
        let (told, asked) = mend(&keys, "no", all(&["a", "b", "c", "d"])).await;
        assert_eq!(asked.len(), most as usize, "{told}");
        assert!(told.starts_with(&format!("exhausted by  in {most}: ")), "{told}");
    }
    // The best so far: less is wrong with it than with all others.
    let long = "this is no JSON, and it is much too long as well";
    let best = "max_attempts: 2, strategies: [resample, resample], on_exhausted: best";
    let script = Script::new(vec![("ask", all(&[long])), ("fix", all(&["short", long]))]);
    let body = mending(best).replace("from: nodes.tell.completion", "from: nodes.fix.completion");
    let (ending, _) = play(&workflow(&body), prose(), &script).await;
    assert_eq!(text(&ending), "short|failed");
}

/// 13, its feedback: bounded, and of the latest answer alone.
#[tokio::test(start_paused = true)]
async fn scenario_13_feedback_names_the_findings_within_its_bounds() {
    let long = "this is no JSON, and it is much too long as well";
    let (_, asked) = mend("strategies: [reprompt], max_attempts: 1", long, all(&["{}"])).await;
    let last =
        |asked: &[Ask]| asked[0].edits.messages.as_ref().unwrap().last().unwrap().content.text().into_owned();
    let told = last(&asked);
    assert_eq!(told.lines().filter(|l| l.starts_with("- ")).count(), 2, "{told}");
    let few = "strategies: [reprompt], max_attempts: 1, feedback: { max_findings: 1 }";
    let (_, asked) = mend(few, long, all(&["{}"])).await;
    assert_eq!(last(&asked).lines().filter(|l| l.starts_with("- ")).count(), 1);
    // The worst of them is told in any case, as much of it as fits.
    let longer = "none of this is JSON ".repeat(10);
    let short = "strategies: [reprompt], max_attempts: 1, feedback: { max_bytes: 64 }";
    let (_, asked) = mend(short, Box::leak(longer.into_boxed_str()), all(&["{}"])).await;
    let told = last(&asked);
    let lines: Vec<&str> = told.lines().filter(|l| l.starts_with("- ")).collect();
    assert!(lines.len() == 1 && (10..=64).contains(&lines[0].len()), "{told}");
    // Attempts do not pile up: the second is told of the latest answer only.
    let twice = "strategies: [reprompt, structured], max_attempts: 2";
    let (_, asked) = mend(twice, "one", all(&["this is another and very long kind of wrong", "{}"])).await;
    let texts: Vec<String> =
        asked[1].edits.messages.as_ref().unwrap().iter().map(|m| m.content.text().into_owned()).collect();
    assert_eq!(texts.len(), 3, "the question, the latest answer, its findings: {texts:?}");
    assert!(texts[1].starts_with("this is another"), "{texts:?}");
}

#[tokio::test(start_paused = true)]
async fn each_rung_changes_what_it_says() {
    let go = async |strategy: &str| {
        let keys = format!("strategies: [{strategy}], max_attempts: 1");
        let (told, asked) = mend(&keys, "no", all(&["{}"])).await;
        assert!(told.starts_with(&format!("repaired by {strategy} in 1")), "{told}");
        asked.into_iter().next().unwrap()
    };
    let texts = |a: &Ask| -> Vec<String> {
        a.edits.messages.iter().flatten().map(|m| m.content.text().into_owned()).collect()
    };
    let plain = go("reprompt").await;
    assert!(texts(&plain)[1] == "no" && plain.edits.response_format.is_none(), "{plain:?}");
    assert_eq!(plain.route.model.as_deref(), Some("p/a"), "the same model");
    assert_eq!(go("structured").await.edits.response_format, Some(ResponseFormat::JsonObject));
    let fixed = go("deterministic").await;
    assert_eq!(
        (fixed.edits.temperature, fixed.edits.top_p, fixed.edits.seed.is_some()),
        (Some(0.0), Some(1.0), true)
    );
    let fresh = go("resample").await;
    assert!(fresh.edits.messages.is_none() && fresh.edits.seed.is_some(), "the answer is not shown");
    let rewritten = go("rewrite").await;
    assert_eq!(texts(&rewritten), ["Write JSON and nothing else.", "question"]);
    let other = go("escalate").await;
    assert_eq!((other.route.min_tier, other.avoid.as_slice()), (Some(2), ["p/a".into()].as_slice()));
    assert!(!texts(&other).contains(&"no".to_owned()), "findings, not the answer");
}

#[tokio::test(start_paused = true)]
async fn a_schema_that_only_a_check_knows_is_asked_for_in_the_strictest_form() {
    let schema = "{ use: json_schema, with: { schema: { type: object, required: [n] } } }";
    let body =
        mending("strategies: [structured], max_attempts: 1").replace("[json, {", &format!("[{schema}, {{"));
    let script = Script::new(vec![("ask", all(&["{}"])), ("fix", all(&["{\"n\": 1}"]))]);
    play(&workflow(&body), json_wanted(), &script).await;
    let asked = script.asked.lock().unwrap();
    let Some(ResponseFormat::JsonSchema { schema, strict, .. }) = &asked[1].edits.response_format else {
        panic!("{asked:?}")
    };
    assert_eq!((&**schema, *strict), (&json!({"type": "object", "required": ["n"]}), true));
}

#[tokio::test(start_paused = true)]
async fn a_failing_provider_uses_an_attempt_and_a_budget_ends_the_ladder() {
    let keys = "max_attempts: 3, strategies: [reprompt, resample, escalate]";
    let (told, asked) = mend(keys, "no", vec![Says::Fail(unavailable()), Says::Text(1, "{}")]).await;
    assert!(told.starts_with("repaired by resample in 2: ") && asked.len() == 2, "{told}");
    let (told, asked) = mend(keys, "no", vec![Says::Fail(Failure::Budget(Exhausted::Usd))]).await;
    assert!(told.starts_with("exhausted by  in 1: ") && asked.len() == 1, "{told}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_to_be_repaired_is_not() {
    let go = async |on_fail: &str, first: &'static str, says: Vec<Says>| {
        let body = mending("strategies: [fix, reprompt]")
            .replace("[json, {", &format!("[{{ use: json, as: form, on_fail: {on_fail} }}, {{"));
        let script = Script::new(vec![("ask", all(&[first])), ("fix", says)]);
        let (_, steps) = play(&workflow(&body), prose(), &script).await;
        (steps.iter().find(|s| s.starts_with("fix:")).cloned(), script.asked.lock().unwrap().len())
    };
    let fix = |outcome: &str| Some(format!("fix:{outcome}"));
    let fenced = "```json\n{\"a\": 1,}\n```";
    assert_eq!(go("repair", "no", all(&["{}"])).await, (fix("repaired"), 2));
    assert_eq!(go("fix", "no", vec![]).await, (fix("exhausted"), 1));
    assert_eq!(go("fix", fenced, vec![]).await, (fix("repaired"), 1));
    for never in ["drop", "reject"] {
        assert_eq!(go(never, fenced, vec![]).await, (fix("exhausted"), 1), "{never}");
    }
    assert_eq!(go("warn", "no", vec![]).await, (fix("skipped"), 1), "nothing failed");
}

#[tokio::test(start_paused = true)]
async fn a_repair_goes_by_the_expression_of_the_node_it_mends() {
    let body = mending("strategies: [resample, resample], max_attempts: 2")
        .replace("type: validate,", "type: validate, pass_when: 'completion.text == \"third\"',");
    let script = Script::new(vec![("ask", all(&["first"])), ("fix", all(&["{}", "third"]))]);
    let (_, steps) = play(&workflow(&body), prose(), &script).await;
    assert!(steps.contains(&"fix:repaired".to_owned()), "{steps:?}");
    assert_eq!(script.asked.lock().unwrap().len(), 3);
}

#[test]
fn ladders_are_checked() {
    let codes = |body: &str| {
        let (_, p) = load_all(&[file(body)]);
        p.iter().map(|d| d.code.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(codes(&mending("strategies: [rewrite]")), "");
    assert_eq!(
        codes(&mending("strategies: [rewrite]").replace("prompts: { json:", "prompts: { jsn:")),
        "WF206"
    );
    assert_eq!(codes(&mending("strategies: [rephrase]")), "WF104");
    assert_eq!(codes(&mending("max_attempts: 5")), "WF104");
    assert_eq!(codes(&mending("max_attempts: 0")), "WF104");
    // A ladder without so many rungs asks for no more calls than it has.
    assert_eq!(
        codes(&mending("max_attempts: 4, strategies: [reprompt]").replace("calls: 9", "calls: 2")),
        ""
    );
    assert_eq!(
        codes(&mending("max_attempts: 2, strategies: [reprompt, escalate]").replace("calls: 9", "calls: 2")),
        "WF401"
    );
}

/// A prompt is named after a check, whoever runs it, or after what the list calls it.
#[tokio::test(start_paused = true)]
async fn checks_outside_have_prompts_of_their_own() {
    for (check, prompt) in [
        ("code_tests", "code_tests"),
        ("{ use: code_tests, as: tests }", "tests"),
        ("{ use: code_tests, as: tests }", "code_tests"),
        ("{ use: length, with: { chars: { max: 3 } }, as: tests }", "tests"),
    ] {
        let body = format!(
            "\
prompts: {{ {prompt}: Think of the tests first. }}
nodes:
  - {{ id: ask, type: generate }}
  - {{ id: check, type: validate, validators: [{check}] }}
  - {{ id: fix, type: repair, from: check, strategies: [rewrite] }}
  - {{ id: answer, type: stream, from: nodes.fix.completion }}
  - {{ id: good, type: stream, from: nodes.check.best }}
edges:
  - {{ from: ask, to: check }}
  - {{ from: check, to: good, outcome: [passed, unverified] }}
  - {{ from: check, to: fix, outcome: failed }}
  - {{ from: fix, to: answer }}
"
        );
        let report = |verdict| types::Report { verdict, reason: None, findings: Vec::new() };
        let script = Script::new(vec![("ask", all(&["bad code"])), ("fix", all(&["ok"]))])
            .with_checks(vec![report(types::Verdict::Failed), report(types::Verdict::Passed)]);
        let (ending, _) = play(&workflow(&body), prose(), &script).await;
        assert_eq!(text(&ending), "ok|passed", "{check} {prompt}");
        let asked = script.asked.lock().unwrap();
        let messages = asked[1].edits.messages.as_ref().unwrap();
        assert_eq!(messages[0].content.text(), "Think of the tests first.", "{check} {prompt}");
    }
}

/// What leaves the process is asked only of answers that nothing else stands against.
#[tokio::test(start_paused = true)]
async fn checks_outside_are_not_asked_about_answers_that_fail_already() {
    let body = "\
nodes:
  - { id: ask, type: generate }
  - { id: check, type: validate, validators: [json, code_tests] }
  - { id: fix, type: repair, from: check, strategies: [reprompt, resample, deterministic], max_attempts: 3, on_exhausted: best }
  - { id: answer, type: stream, from: nodes.fix.completion }
  - { id: good, type: stream, from: nodes.check.best }
edges:
  - { from: ask, to: check }
  - { from: check, to: good, outcome: [passed, unverified] }
  - { from: check, to: fix, outcome: failed }
  - { from: fix, to: answer }
";
    let go = async |says: &[&'static str], reports: Vec<types::Verdict>| {
        let report = |verdict| types::Report { verdict, reason: None, findings: Vec::new() };
        let script = Script::new(vec![("ask", all(&["no"])), ("fix", all(says))])
            .with_checks(reports.into_iter().map(report).collect());
        let (ending, _) = play(&workflow(body), prose(), &script).await;
        let asked = script.check_asks.lock().unwrap().len();
        (text(&ending), asked)
    };
    let (bad, good) = (types::Verdict::Failed, types::Verdict::Passed);
    assert_eq!(go(&["none", "{}"], vec![good, good]).await, ("{}|passed".to_owned(), 2));
    // What was not asked is no better than what failed: the answer that fails one check alone is the best.
    assert_eq!(go(&["none", "[1]", "never"], vec![bad, bad]).await, ("[1]|failed".to_owned(), 2));
}

const OWN: &str = "\
nodes:
  - { id: ask, type: generate }
  - { id: fix, type: repair, input: nodes.ask.completions, validators: [json], strategies: [fix, reprompt], on_exhausted: best }
  - { id: answer, type: stream, from: nodes.fix.completion }
edges:
  - { from: ask, to: fix }
  - { from: fix, to: answer }
";

#[tokio::test(start_paused = true)]
async fn checks_of_its_own_look_at_the_answer_it_starts_from() {
    let check = async |body: &str,
                       says: &[&'static str],
                       fixes: &[&'static str],
                       want: (&str, &str, usize)| {
        let script = Script::new(vec![("ask", all(says)), ("fix", all(fixes))]);
        let (ending, steps) = play(&workflow(body), prose(), &script).await;
        let asked =
            script.asked.lock().unwrap().iter().filter(|a| matches!(a.purpose, Purpose::Repair(_))).count();
        let fix = steps.iter().find(|s| s.starts_with("fix:")).map_or("", String::as_str);
        assert_eq!((text(&ending).as_str(), fix, asked), want, "{steps:?}");
    };
    check(OWN, &["{}"], &[], ("{}|passed", "fix:repaired", 0)).await;
    check(OWN, &["no"], &["{\"a\":1}"], ("{\"a\":1}|passed", "fix:repaired", 1)).await;
    check(OWN, &["no"], &["no", "no"], ("no|failed", "fix:exhausted", 1)).await;
    check(OWN, &["[1,]"], &[], ("[1]|passed", "fix:repaired", 0)).await;
    // Of several the one that passes, wherever it stands.
    let three = OWN.replace("type: generate", "type: generate, samples: 3");
    check(&three, &["no", "{}", "not"], &[], ("{}|passed", "fix:repaired", 0)).await;
    // By its own checks, whatever others have said: that stays on the answer.
    let other = OWN.replace("- { id: fix,", "- { id: look, type: validate, input: nodes.ask.completions, validators: [{ use: length, with: { chars: { min: 9 } } }] }\n  - { id: fix,")
        .replace("from: ask, to: fix }", "from: ask, to: look }\n  - { from: look, to: fix }");
    check(&other, &["{}"], &[], ("{}|failed", "fix:repaired", 0)).await;
}
