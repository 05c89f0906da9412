//! Judges in all their modes, and choices among what they and the checks say.

use super::prose;
use crate::testing::*;
use crate::{Ending, Failure};
use serde_json::json;
use types::Verdict;

/// Answers of three samples, a judge over them, and what it says in words.
fn judging(keys: &str) -> String {
    format!(
        "\
limits: {{ calls: 60 }}
vars: {{ truth: '42', accepted: [0.0, 0.1, 1.0], words: [a, b], one: [0.5] }}
nodes:
  - {{ id: ask, type: generate, samples: SAMPLES }}
  - {{ id: judge, type: judge, input: nodes.ask.completions, {keys} }}
  - {{ id: say, type: merge, from: [nodes.judge.best], method: template, template: \"${{ nodes.judge.best.text }} ${{ nodes.judge.best_score }} ${{ nodes.judge.ranking }} agreement ${{ nodes.judge.agreement }} ties ${{ nodes.judge.tie_rate }} ${{ nodes.judge.outcome }}\" }}
  - {{ id: answer, type: stream, from: nodes.say.completion }}
edges:
  - {{ from: ask, to: judge }}
  - {{ from: judge, to: say }}
  - {{ from: say, to: answer }}
"
    )
}

async fn judge(keys: &str, answers: &[&'static str], says: Vec<Says>) -> (String, Script) {
    let body = judging(keys).replace("SAMPLES", &answers.len().to_string());
    let asked = (1..).zip(answers).map(|(ms, a)| Says::Text(ms, a)).collect();
    let script = Script::new(vec![("ask", asked), ("judge", says)]);
    let (ending, steps) = play(&workflow(&body), prose(), &script).await;
    let said = match ending {
        Ending::Delivered { completion, .. } => completion.text().to_owned(),
        Ending::Failed(f) => f.message,
        other => panic!("{other:?} {steps:?}"),
    };
    (said, script)
}

async fn check(keys: &str, answers: &[&'static str], says: Vec<&'static str>, want: &str) {
    let says = says.into_iter().map(|s| Says::Text(1, s)).collect();
    assert_eq!(judge(keys, answers, says).await.0, want, "{keys}");
}

const LOW: &str = "{\"scores\": {\"correctness\": 1, \"helpfulness\": 1}, \"rationale\": \"bad\"}";
const MIDDLE: &str = "{\"scores\": {\"correctness\": 3, \"helpfulness\": 3}, \"rationale\": \"so so\"}";
const HIGH: &str = "{\"scores\": {\"correctness\": 5, \"helpfulness\": 5}, \"rationale\": \"good\"}";

#[tokio::test(start_paused = true)]
async fn a_rubric_gives_scores_a_ranking_and_how_far_samples_agree() {
    let ranked = "[\"ask#1.1\",\"ask#0.1\"]";
    check("samples: 1", &["x", "y"], vec![LOW, HIGH], &format!("y 1.0 {ranked} agreement  ties  scored"))
        .await;
    let both = vec![LOW, MIDDLE, HIGH, HIGH];
    check("samples: 2", &["x", "y"], both, &format!("y 1.0 {ranked} agreement 0.75 ties  scored")).await;
    let min = vec![LOW, MIDDLE, HIGH, MIDDLE];
    check(
        "samples: 2, aggregate: min",
        &["x", "y"],
        min,
        &format!("y 0.5 {ranked} agreement 0.5 ties  scored"),
    )
    .await;
    check("threshold: 0.6", &["x"], vec![MIDDLE], "x 0.5 [\"ask#0.1\"] agreement  ties  failed").await;
    check("threshold: 0.6", &["x"], vec!["?", "none"], "  [] agreement  ties  abstained").await;
    // A grade outside the scale is none: it is asked for again.
    let nine = "{\"scores\": {\"correctness\": 9, \"helpfulness\": 9}, \"rationale\": \"very good\"}";
    check("threshold: 0.6", &["x"], vec![nine, nine], "  [] agreement  ties  abstained").await;
    check("threshold: 0.6", &["x"], vec![nine, LOW], "x 0.0 [\"ask#0.1\"] agreement  ties  failed").await;
}

#[tokio::test(start_paused = true)]
async fn calibration_turns_raw_scores_into_probabilities() {
    check("calibration: accepted", &["x"], vec![MIDDLE], "x 0.1 [\"ask#0.1\"] agreement  ties  scored").await;
    let keys = "calibration: accepted, threshold: 0.4";
    check(keys, &["x"], vec![MIDDLE], "x 0.1 [\"ask#0.1\"] agreement  ties  failed").await;
    let (said, _) = judge("calibration: one", &["x"], vec![]).await;
    assert!(said.contains("no list of at least two numbers"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_reference_is_shown_as_data() {
    let says = || vec![Says::Text(1, "{\"scores\": {\"agreement\": 4}, \"rationale\": \"nearly\"}")];
    let (said, script) = judge("mode: reference, reference: vars.truth", &["x"], says()).await;
    assert_eq!(said, "x 0.75 [\"ask#0.1\"] agreement  ties  scored");
    let (_, template) = judge("mode: reference, reference: \"It is ${ vars.truth }.\"", &["x"], says()).await;
    for (script, shown) in
        [(script, "REFERENCE (data)\n\"42\""), (template, "REFERENCE (data)\n\"It is 42.\"")]
    {
        let asked = script.asked.lock().unwrap();
        let messages = asked[1].edits.messages.as_ref().unwrap();
        assert!(messages[1].content.text().contains(shown), "{messages:?}");
        assert_eq!((asked[1].edits.temperature, asked[1].edits.without_tools), (Some(0.0), true));
    }
}

const A: &str = "{\"better\": \"A\", \"rationale\": \"\"}";
const B: &str = "{\"better\": \"B\", \"rationale\": \"\"}";
const TIE: &str = "{\"better\": \"tie\", \"rationale\": \"\"}";

#[tokio::test(start_paused = true)]
async fn pairs_are_asked_about_in_both_orders() {
    let score =
        |said: &str| said.split_whitespace().nth(1).unwrap_or_default().parse::<f64>().unwrap_or(-1.0);
    let go = async |keys: &str, answers: &[&'static str], says: Vec<&'static str>| {
        let keys = format!("mode: pairwise{keys}");
        let (said, script) =
            judge(&keys, answers, says.into_iter().map(|s| Says::Text(1, s)).collect()).await;
        let asked = script.asked.lock().unwrap().len() - answers.len();
        (said, asked)
    };
    // The second is better whatever the order.
    let (said, asked) = go("", &["x", "y"], vec![B, A]).await;
    assert!(said.starts_with("y 0.") && said.ends_with("agreement 1.0 ties 0.0 scored"), "{said}");
    assert!((score(&said) > 0.9, asked) == (true, 2), "{said}");
    // Whatever stands first is better: a tie, and the judge is caught at it.
    let (said, _) = go("", &["x", "y"], vec![A, A]).await;
    assert_eq!(said, "x 0.5 [\"ask#0.1\",\"ask#1.1\"] agreement 0.0 ties 1.0 scored");
    let (said, _) = go("", &["x", "y"], vec![TIE, TIE]).await;
    assert!(said.ends_with("agreement 1.0 ties 1.0 scored"), "{said}");
    // Three: each with each, in both orders. Pairs come as 0-1, 0-2, 1-2.
    let (said, asked) = go("", &["x", "y", "z"], vec![B, A, A, B, A, B]).await;
    assert!(said.contains("[\"ask#1.1\",\"ask#0.1\",\"ask#2.1\"]") && asked == 6, "{said}");
    // Five: each with the best so far.
    let (said, asked) = go("", &["v", "w", "x", "y", "z"], vec![B, A, A, B, B, A, A, B]).await;
    assert!(said.starts_with("y ") && asked == 8, "{said} {asked}");
    // One order by draw.
    let (_, asked) = go(", order: random", &["x", "y"], vec![A]).await;
    assert_eq!(asked, 1);
    // One alone is not compared, and nothing that can be read is no verdict.
    let (said, asked) = go("", &["x"], vec![]).await;
    assert!(said.ends_with("abstained") && asked == 0, "{said}");
    let (said, _) = go("", &["x", "y"], vec!["?", "?", "?", "?"]).await;
    assert!(said.ends_with("abstained"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn judges_are_of_another_family_where_there_is_one() {
    let go = async |independent: &str, says: Says| {
        let (said, script) = judge(&format!("independent: {independent}"), &["x"], vec![says]).await;
        let asked = script.asked.lock().unwrap();
        let ask = asked.last().unwrap();
        (said, ask.not_families.clone(), ask.avoid_families.clone())
    };
    let none = Vec::<String>::new;
    let a = || vec!["a".to_owned()];
    let (_, not, avoid) = go("prefer", Says::Text(1, HIGH)).await;
    assert_eq!((not, avoid), (none(), a()));
    let (_, not, avoid) = go("any", Says::Text(1, HIGH)).await;
    assert_eq!((not, avoid), (none(), none()));
    let (said, not, _) = go("require", Says::Fail(Failure::nobody("none"))).await;
    assert_eq!(not, a());
    assert!(said.ends_with("abstained"), "nobody may judge, so nothing is judged: {said}");
}

#[test]
fn judges_are_checked() {
    let codes = |keys: &str| {
        let (_, p) = load_all(&[file(&judging(keys).replace("SAMPLES", "2"))]);
        p.iter().map(|d| d.code.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(codes("mode: reference"), "WF102");
    assert_eq!(codes("reference: vars.truth"), "WF103");
    assert_eq!(codes("order: random"), "WF103");
    assert_eq!(codes("mode: reference, reference: vars.trth"), "WF301");
    assert_eq!(codes("mode: sideways"), "WF104");
    assert_eq!(codes("samples: 6"), "WF104");
    assert_eq!(codes("threshold: 2"), "WF104");
    assert_eq!(codes("calibration: acepted"), "WF301");
    assert_eq!(codes("calibration: words"), "WF301");
    assert_eq!(codes("rubric: { criteria: [] }"), "WF104");
    assert_eq!(codes("rubric: { criteria: [{ name: a, scale: [5, 1] }] }"), "WF104");
    assert_eq!(codes("rubric: { criteria: [{ name: a, scale: [1] }] }"), "WF104");
    assert_eq!(codes("rubric: { criteria: [{ name: a, scale: [low, 5] }] }"), "WF103");
    assert_eq!(codes("rubric: \"Prefer ${ vars.trth }\""), "WF301");
    assert_eq!(codes("rubric: \"Prefer ${ vars.truth }\", independent: require, aggregate: mean"), "");
    assert_eq!(codes("mode: pairwise, order: both, calibration: accepted"), "");
}

fn choosing(keys: &str) -> String {
    format!(
        "\
nodes:
  - {{ id: ask, type: generate, samples: 4 }}
  - {{ id: pick, type: select, from: [nodes.ask.completions], {keys} }}
  - {{ id: say, type: merge, from: [nodes.pick.completion], method: template, template: \"${{ nodes.pick.completion.text }} then ${{ nodes.pick.runner_up.text }} agreement ${{ nodes.pick.agreement }}\" }}
  - {{ id: answer, type: stream, from: nodes.say.completion }}
edges:
  - {{ from: ask, to: pick }}
  - {{ from: pick, to: say, outcome: completed }}
  - {{ from: say, to: answer }}
"
    )
}

async fn choose(keys: &str, answers: [&'static str; 4]) -> String {
    let asked = (1..).zip(answers).map(|(ms, a)| Says::Text(ms, a)).collect();
    let script = Script::new(vec![("ask", asked)]);
    let (ending, _) = play(&workflow(&choosing(keys)), prose(), &script).await;
    text(&ending)
}

#[tokio::test(start_paused = true)]
async fn votes_are_counted_by_what_they_say() {
    assert_eq!(
        choose("method: vote", ["No.", "yes", "Yes", "  YES "]).await,
        "yes then No. agreement 0.75|none"
    );
    let composed = ["caf\u{e9}", "cafe\u{301}", "tea", "CAFE\u{301}"];
    assert_eq!(choose("method: vote", composed).await, "caf\u{e9} then tea agreement 0.75|none");
    assert_eq!(choose("method: vote", ["a", "b", "c", "d"]).await, " then  agreement 0.25|none");
    let json = ["{\"a\":1,\"b\":2}", "{}", "{ \"b\": 2, \"a\": 1 }", "[]"];
    let said = choose("method: vote, vote: { key: json }", json).await;
    assert_eq!(said, "{\"a\":1,\"b\":2} then {} agreement 0.5|none");
    // One and the same value, within a code fence or not.
    let fenced = ["{\"a\": 1}", "```json\n{\"a\":1}\n```", "{\"a\": 2}", "```\n{\"a\": 1}\n```"];
    let said = choose("method: vote, vote: { key: json }", fenced).await;
    assert_eq!(said, "{\"a\": 1} then {\"a\": 2} agreement 0.75|none");
    // By an expression: here what the answers hold as `a`.
    let by = "method: vote, vote: { key: expr, by: completion.json.a }";
    let said = choose(by, ["{\"a\":1}", "{\"a\":2,\"b\":1}", "{\"a\":2,\"b\":2}", "{\"a\":3}"]).await;
    assert_eq!(said, "{\"a\":2,\"b\":1} then {\"a\":1} agreement 0.5|none");
    // Weighted: the two later ones count more than the two earlier.
    let weighted = "method: vote, vote: { weight: completion.latency.total_ms }";
    assert_eq!(choose(weighted, ["x", "x", "y", "y"]).await, "y then x agreement 0.7|none");
}

/// How often a judge changes its mind with the order is on record.
#[tokio::test(start_paused = true)]
async fn pairs_that_turn_with_their_order_are_counted() {
    for (keys, says, want) in [
        ("mode: pairwise", vec![A, A], (1, 1)),
        ("mode: pairwise", vec![B, A], (1, 0)),
        ("mode: pairwise, order: random", vec![A], (0, 0)),
    ] {
        let body = judging(keys).replace("SAMPLES", "2");
        let asked = vec![Says::Text(1, "x"), Says::Text(2, "y")];
        let says = says.into_iter().map(|s| Says::Text(1, s)).collect();
        let input = input(prose(), None);
        let trace = input.trace.clone();
        run(&workflow(&body), input, &Script::new(vec![("ask", asked), ("judge", says)])).await;
        let told = trace.take();
        assert_eq!((told.pairs, told.turned), want, "{keys}");
    }
}

/// Two sources, the first of which is the slower one; what of both is picked.
async fn between(keys: &str, first: &'static str, second: &'static str) -> String {
    let body = format!(
        "\
nodes:
  - {{ id: a, type: generate, route: {{ strategy: fixed }} }}
  - {{ id: b, type: generate, route: {{ strategy: fixed }} }}
  - {{ id: check, type: validate, input: [nodes.a.completion, nodes.b.completion], validators: [json], lint: {{ allow: [WF307] }} }}
  - {{ id: pick, type: select, from: [nodes.a.completion, nodes.b.completion], {keys} }}
  - {{ id: answer, type: stream, from: nodes.pick.completion }}
edges:
  - {{ from: [a, b], to: check }}
  - {{ from: check, to: pick, outcome: completed }}
  - {{ from: pick, to: answer }}
"
    );
    let script = Script::new(vec![("a", vec![Says::Text(9, first)]), ("b", vec![Says::Text(1, second)])]);
    text(&play(&workflow(&body), prose(), &script).await.0)
}

#[tokio::test(start_paused = true)]
async fn ties_are_broken_in_the_order_of_their_list() {
    for (keys, want) in [
        ("tie_break: [index, latency]", "[1]|passed"),
        ("tie_break: [latency, index]", "[2]|passed"),
        ("tie_break: [cost]", "[1]|passed"),
    ] {
        assert_eq!(between(keys, "[1]", "[2]").await, want, "{keys}");
    }
    // Of groups of one weight, the one whose best comes first; of it, the answer that stands first.
    let index = "method: vote, tie_break: [index]";
    assert_eq!(choose(index, ["X", "y", "y", "x"]).await, "X then y agreement 0.5|none");
    let slowest = "method: vote, tie_break: [score], score: completion.latency.total_ms";
    assert_eq!(choose(slowest, ["X", "y", "y", "x"]).await, "X then y agreement 0.5|none");
    assert_eq!(choose(slowest, ["x", "x", "Y", "y"]).await, "Y then x agreement 0.5|none");
}

/// Where failed answers may be chosen, those that passed still come first in the methods that are named after them.
#[tokio::test(start_paused = true)]
async fn what_passed_comes_first_where_that_is_the_method() {
    for (method, want) in
        [("first", "no json|failed"), ("first_passing", "[2]|passed"), ("cheapest_passing", "[2]|passed")]
    {
        let keys = format!("method: {method}, require_passing: false");
        assert_eq!(between(&keys, "no json", "[2]").await, want, "{method}");
        assert_eq!(between(&keys, "none", "neither").await, "none|failed", "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_score_of_its_own_ranks() {
    let four = ["a", "b", "c", "d"];
    assert_eq!(choose("score: completion.latency.total_ms", four).await, "d then c agreement |none");
    assert_eq!(
        choose("method: first, score: completion.latency.total_ms", four).await,
        "a then b agreement |none"
    );
    assert_eq!(choose("score: completion.text", four).await, "expression.type");
}

#[test]
fn choices_are_checked() {
    let codes = |keys: &str| {
        let (_, p) = load_all(&[file(&choosing(keys))]);
        p.iter().map(|d| d.code.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(codes("method: pairwise"), "");
    assert_eq!(codes("method: fist"), "WF104");
    assert_eq!(codes("method: vote, vote: { key: expr }"), "WF102");
    assert_eq!(codes("method: vote, vote: { key: json, by: completion.text }"), "WF103");
    assert_eq!(codes("method: vote, vote: { by: completion.txt }"), "WF301");
    assert_eq!(codes("method: vote, vote: { min_agreement: 2 }"), "WF104");
    assert_eq!(codes("score: complection.quality"), "WF301");
}

/// What forbids the delivery of a text forbids that of every text that holds it; what only fails is told of the whole
/// until a check has looked at the whole.
#[tokio::test(start_paused = true)]
async fn a_merge_hides_no_failure() {
    let merged = |check: &str, more: &str| {
        let last = if more.is_empty() { "all" } else { "again" };
        workflow(&format!(
            "\
nodes:
  - {{ id: ask, type: generate }}
  - {{ id: check, type: validate, input: nodes.ask.completions, validators: [{check}] }}
  - {{ id: all, type: merge, from: [nodes.ask.completions] }}
{more}  - {{ id: answer, type: stream, from: nodes.all.completion }}
edges:
  - {{ from: ask, to: check }}
  - {{ from: check, to: all, outcome: any }}
  - {{ from: {last}, to: answer, outcome: completed }}
"
        ))
    };
    let go = async |check: &str, more: &str| {
        let script = Script::new(vec![("ask", vec![Says::Text(1, "mail joe@acme-corp.com now")])]);
        text(&play(&merged(check, more), prose(), &script).await.0)
    };
    let again = "  - { id: again, type: validate, input: nodes.all.completions, validators: [secrets], needs: { node: all, outcome: merged } }\n";
    let again = &again.replace("nodes.all.completions", "nodes.all.completion");
    let short = "{ use: length, with: { words: { max: 2 } }, severity: repair }";
    assert_eq!(go("pii", "").await, "validation.failed");
    assert_eq!(go("pii", again).await, "validation.failed");
    assert_eq!(go(short, "").await, "mail joe@acme-corp.com now|failed");
    assert_eq!(go(short, again).await, "mail joe@acme-corp.com now|passed");
}

/// An answer that fails its checks is whole where the author sends it on, and stopped where nobody would.
#[tokio::test(start_paused = true)]
async fn what_fails_is_not_stopped_where_it_is_delivered_on_purpose() {
    let body = |to: &str| {
        workflow(&format!(
            "\
nodes:
  - {{ id: ask, type: generate }}
  - {{ id: check, type: validate, input: nodes.ask.completions, validators: [{{ use: length, with: {{ words: {{ max: 2 }} }} }}] }}
  - {{ id: answer, type: stream, from: nodes.check.best }}
  - {{ id: no, type: fail, code: no, message: no }}
edges:
  - {{ from: ask, to: check }}
  - {{ from: check, to: answer, outcome: [passed, unverified, failed] }}
  - {{ from: check, to: no, outcome: {to} }}
"
        ))
    };
    let script = || Script::new(vec![("ask", vec![Says::Text(1, "one two three four")])]);
    let (ending, _) = play(&body("[error, timeout]"), prose(), &script()).await;
    assert_eq!(text(&ending), "one two three four|failed");
}

/// Where a workflow checks nothing, calls of the client's tools are still held against what the client declared.
#[tokio::test(start_paused = true)]
async fn a_call_of_the_clients_tools_that_fits_nothing_is_no_clean_answer() {
    let tools = json!([{"type": "function", "function": {"name": "w", "parameters":
        {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]);
    let body = "nodes:\n  - { id: ask, type: generate }\noutput: nodes.ask.completion\n";
    const CALLS: [(&[(&str, &str)], Verdict); 3] = [
        (&[("w", "{\"city\": \"Oslo\"}")], Verdict::None),
        (&[("w", "{\"cty\": \"Oslo\"}")], Verdict::Failed),
        (&[("zz", "{}")], Verdict::Failed),
    ];
    for (calls, verdict) in CALLS {
        let script = Script::new(vec![("ask", vec![Says::Calls(calls)])]);
        let (ending, _) = play(&workflow(body), request(json!({"tools": tools})), &script).await;
        let Ending::Delivered { verdict: got, .. } = ending else { panic!("{ending:?}") };
        assert_eq!(got, verdict, "{calls:?}");
    }
}
