//! Samples and hedges: what is asked, what is taken, what is dropped on the way.

use super::prose;
use crate::testing::*;
use crate::world::{Distinct, Spread};
use crate::{Ending, Exhausted, Failure};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::ChatRequest;
use types::run::Purpose;

/// One `generate` node, and what is told of it.
fn asking(keys: &str) -> String {
    format!(
        "\
nodes:
  - {{ id: ask, type: generate, {keys} }}
  - {{ id: tell, type: merge, from: [nodes.ask.completion], method: template, template: \"${{ nodes.ask.ok_count }} of ${{ nodes.ask.completions.len() }} hedged ${{ nodes.ask.hedge_fired }} by ${{ nodes.ask.served_by }} failed ${{ nodes.ask.failed.len() }}\" }}
  - {{ id: answer, type: stream, from: nodes.tell.completion }}
  - {{ id: no, type: fail, code: no, message: \"${{ nodes.ask.error }}\" }}
edges:
  - {{ from: ask, to: tell }}
  - {{ from: ask, to: no, outcome: [error, timeout] }}
  - {{ from: tell, to: answer }}
"
    )
}

struct Told {
    said: String,
    asked: usize,
    dropped: usize,
    ms: u128,
}

async fn ask(keys: &str, says: Vec<Says>) -> (Told, Script) {
    let script = Script::new(vec![("ask", says)]);
    let start = Instant::now();
    let (ending, _) = play(&workflow(&asking(keys)), prose(), &script).await;
    let said = match ending {
        Ending::Delivered { completion, .. } => completion.text().to_owned(),
        Ending::Failed(f) => f.message,
        other => panic!("{other:?}"),
    };
    let told = Told {
        said,
        asked: script.asked.lock().unwrap().len(),
        dropped: script.dropped.lock().unwrap().len(),
        ms: start.elapsed().as_millis(),
    };
    (told, script)
}

async fn check(keys: &str, says: Vec<Says>, want: (&str, usize, usize, u128)) {
    let (t, _) = ask(keys, says).await;
    assert_eq!((t.said.as_str(), t.asked, t.dropped, t.ms), want, "{keys}");
}

fn text(ms: u64) -> Says {
    Says::Text(ms, "x")
}

#[tokio::test(start_paused = true)]
async fn samples_are_taken_side_by_side_until_there_are_enough() {
    let five = || vec![text(50), text(10), text(30), text(20), text(40)];
    let by = |n: usize| format!("[{}]", vec!["\"p/a\""; n].join(","));
    let want = |n: usize| format!("{n} of {n} hedged false by {} failed 0", by(n));
    check("samples: 5", five(), (&want(5), 5, 0, 50)).await;
    check("samples: 5, stop_when: completions.len() > 2", five(), (&want(3), 5, 2, 30)).await;
    // It is asked only once there are as many as are wanted at least.
    check("samples: 5, min_ok: 4, stop_when: flag", five(), (&want(4), 5, 1, 40)).await;
    check(
        "samples: 5, stop_when: agree_count(completions.map(|c| c.text)) >= 2",
        five(),
        (&want(2), 5, 3, 20),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn too_few_samples_are_a_failure() {
    let two_of_four = || vec![text(1), Says::Fail(unavailable()), text(2), Says::Fail(unavailable())];
    let (t, _) = ask("samples: 4, min_ok: 2", two_of_four()).await;
    assert_eq!(t.said, "2 of 2 hedged false by [\"p/a\",\"p/a\"] failed 2");
    let (t, _) = ask("samples: 4, min_ok: 3", two_of_four()).await;
    assert!(t.said.contains("unavailable"), "{}", t.said);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_was_left_to_make_is_none() {
    let body = "\
nodes:
  - { id: ask, type: generate, samples: 2, distinct: model, min_ok: 1, lint: { allow: [WF431] } }
  - { id: tell, type: merge, from: [nodes.ask.completion], method: template, template: \"${ nodes.ask.calls } ${ spent.calls }\", needs: ask }
  - { id: answer, type: stream, from: nodes.tell.completion, needs: tell }
";
    let nobody = Says::Fail(Failure::nobody("no other"));
    let script = Script::new(vec![("ask", vec![text(1), nobody])]);
    let (ending, _) = play(&workflow(body), prose(), &script).await;
    let Ending::Delivered { completion, .. } = ending else { panic!("{ending:?}") };
    assert_eq!(completion.text(), "1 1");
}

#[tokio::test(start_paused = true)]
async fn distinct_samples_share_the_candidates_out_and_are_fewer_where_there_are_too_few() {
    let none = || Says::Fail(Failure::nobody("no other"));
    let (t, script) = ask("samples: 3, min_ok: 2, distinct: model", vec![text(1), text(2), none()]).await;
    assert_eq!(t.said, "2 of 2 hedged false by [\"p/a\",\"p/a\"] failed 0", "two are all that can be had");
    let spread: Vec<_> = script.asked.lock().unwrap().iter().map(|a| a.spread.unwrap()).collect();
    let one = |index| Spread { by: Distinct::Model, index, of: 3 };
    assert_eq!(spread, [one(0), one(1), one(2)]);
    // Fewer answers than are wanted at least are a failure, whyever they are fewer.
    let (t, _) = ask("samples: 3, min_ok: 3, distinct: model", vec![text(1), text(2), none()]).await;
    assert!(t.said.contains("only 2 of 3 samples"), "{}", t.said);
    // Without `distinct` it is a failure like any other.
    let (t, _) = ask("samples: 2, min_ok: 2", vec![text(1), none()]).await;
    assert!(t.said.contains("no_candidates"), "{}", t.said);
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_gets_company_and_the_first_to_begin_wins() {
    let hedge = "hedge: { after: 100ms }";
    let want = |hedged: bool| format!("1 of 1 hedged {hedged} by [\"p/a\"] failed 0");
    check(hedge, vec![text(90)], (&want(false), 1, 0, 90)).await;
    // The second answers first; the first is dropped.
    check(hedge, vec![Says::Never, text(30)], (&want(true), 2, 1, 130)).await;
    // The first answers after all.
    check(hedge, vec![text(120), text(30)], (&want(true), 2, 1, 120)).await;
    // Three, each after the same time.
    let three = vec![Says::Never, Says::Never, Says::Never, text(5)];
    check("hedge: { after: 100ms, max: 3 }", three, (&want(true), 4, 3, 305)).await;
    // Nobody knows how long calls take here: two seconds are waited.
    check("hedge: { after: p95 }", vec![Says::Never, text(5)], (&want(true), 2, 1, 2005)).await;
}

/// 11: the loser is gone within 250 ms of the other's first content, while the run goes on.
#[tokio::test(start_paused = true)]
async fn scenario_11_the_loser_is_cancelled_within_250_ms() {
    let body = "\
nodes:
  - { id: ask, type: generate, hedge: { after: 100ms } }
  - { id: next, type: generate, route: { strategy: fixed }, needs: ask }
  - { id: answer, type: stream, from: nodes.next.completion, needs: next }
";
    let script =
        Script::new(vec![("ask", vec![Says::Never, text(30)]), ("next", vec![Says::Text(10_000, "done")])]);
    let watch = async {
        tokio::time::sleep(Duration::from_millis(129)).await;
        assert!(script.dropped.lock().unwrap().is_empty(), "nobody has won yet");
        tokio::time::sleep(Duration::from_millis(251)).await;
        assert_eq!(*script.dropped.lock().unwrap(), ["ask"]);
        assert_eq!(script.asked.lock().unwrap().len(), 3, "the run has gone on");
    };
    let w = workflow(body);
    let ((ending, steps), ()) = tokio::join!(play(&w, prose(), &script), watch);
    assert!(matches!(ending, Ending::Delivered { .. }), "{steps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_never_begins_a_hedge_and_never_ends_one() {
    let (t, _) = ask("hedge: { after: 100ms }", vec![Says::Fail(unavailable())]).await;
    assert_eq!((t.asked, t.ms), (1, 0), "{}", t.said);
    let failing = || vec![Says::Never, Says::Fail(Failure::Budget(Exhausted::Usd)), text(5)];
    // The hedge is not affordable: the first goes on until its own time is up.
    let (t, _) = ask("hedge: { after: 100ms }, timeout: 1s", failing()).await;
    assert_eq!((t.asked, t.ms), (2, 1000), "{}", t.said);
    // The next one is.
    let (t, _) = ask("hedge: { after: 100ms, max: 2 }", failing()).await;
    assert_eq!((t.asked, t.ms), (3, 205), "{}", t.said);
    // One that is not made is none of those that the node may make.
    let (t, _) = ask("hedge: { after: 100ms, max: 2 }, budget: { calls: 2 }", failing()).await;
    assert_eq!((t.asked, t.ms), (3, 205), "{}", t.said);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_goes_where_it_is_told_to() {
    let go = async |to: &str| {
        let keys = format!("hedge: {{ after: 10ms{to} }}");
        let (_, script) = ask(&keys, vec![Says::Never, text(1)]).await;
        let asked = script.asked.lock().unwrap();
        assert_eq!((&asked[0].purpose, &asked[1].purpose), (&Purpose::Primary, &Purpose::Hedge));
        assert!(asked[0].stream && asked[1].stream, "what counts is the first content");
        assert_ne!(asked[0].id, asked[1].id);
        (asked[1].skip, asked[1].primary, asked[1].route.pool.clone())
    };
    assert_eq!(go("").await, (1, true, None));
    assert_eq!(go(", to: same").await, (0, true, None));
    assert_eq!(go(", to: judge").await, (0, false, Some("judge".to_owned())));
    let (_, script) = ask("hedge: { after: 10ms, trigger: complete }", vec![text(1)]).await;
    assert!(!script.asked.lock().unwrap()[0].stream);
}

#[tokio::test(start_paused = true)]
async fn an_answer_lost_on_the_way_is_asked_for_again_in_the_place_of_a_hedge() {
    let lost = || vec![Says::Stream(vec![Some("be"), None]), text(5)];
    let (t, script) = ask("hedge: { after: 100ms }", lost()).await;
    assert_eq!((t.asked, t.said.starts_with("1 of 1 hedged false")), (2, true), "{}", t.said);
    assert_eq!(script.purposes(), ["primary", "retry"]);
    let (t, _) = ask("hedge: { after: 100ms }, on_upstream_loss: fail", lost()).await;
    assert_eq!((t.asked, t.said.contains("stream_lost")), (1, true), "{}", t.said);
}

#[tokio::test(start_paused = true)]
async fn no_hedge_is_begun_once_a_limit_was_hit() {
    let body = "\
nodes:
  - { id: ask, type: generate, hedge: { after: 100ms }, timeout: 1s }
  - { id: other, type: generate, route: { strategy: fixed }, on_error: skip }
  - { id: pick, type: select, from: [nodes.ask.completion] }
  - { id: answer, type: stream, from: nodes.pick.completion }
edges:
  - { from: ask, to: pick }
  - { from: other, to: pick, outcome: any }
  - { from: pick, to: answer, outcome: completed }
";
    let script = Script::new(vec![
        ("ask", vec![text(300)]),
        ("other", vec![Says::Fail(Failure::Budget(Exhausted::Usd))]),
    ]);
    let start = Instant::now();
    let (ending, steps) = play(&workflow(body), prose(), &script).await;
    assert!(matches!(ending, Ending::Delivered { .. }), "{steps:?}");
    assert_eq!((script.asked.lock().unwrap().len(), start.elapsed()), (2, Duration::from_millis(300)));
}

#[tokio::test(start_paused = true)]
async fn the_conversation_and_its_tools_are_what_the_file_says() {
    let check =
        async |keys: &str, messages: Option<&[(&str, &str)]>, tools: Option<&[&str]>, without: bool| {
            let (_, script) = ask(keys, vec![Says::Text(1, "x")]).await;
            let asked = script.asked.lock().unwrap();
            let edits = &asked[0].edits;
            let said = edits.messages.as_ref().map(|all| {
                all.iter().map(|m| (m.role.as_str(), m.content.text().into_owned())).collect::<Vec<_>>()
            });
            let want = messages.map(|all| all.iter().map(|(r, t)| (*r, (*t).to_owned())).collect::<Vec<_>>());
            assert_eq!(said, want, "{keys}");
            let offered =
                edits.tools.as_ref().map(|all| all.iter().map(|t| t.name.as_str()).collect::<Vec<_>>());
            assert_eq!((offered.as_deref(), edits.without_tools), (tools, without), "{keys}");
        };
    let own = prose().messages[0].content.text().into_owned();
    check("messages: request", None, None, false).await;
    check("messages: request.messages", Some(&[("user", &own)]), None, false).await;
    check(
        "messages: { system: Be brief., prepend: [{ role: assistant, content: a }], append: \"b ${ request.model }\" }",
        Some(&[("system", "Be brief."), ("assistant", "a"), ("user", &own), ("user", "b auto")]),
        None,
        false,
    )
    .await;
    check("tools: none", None, None, true).await;
    check("tools: [look, send, look]", None, Some(&["look", "send"]), false).await;
    // Nobody has declared a tool for this very workflow.
    check("tools: registered", None, None, true).await;
    check("client_tools: forbid", None, None, false).await;
    for (keys, code) in [
        ("tools: [lok]", "WF204"),
        ("tools: nune", "WF104"),
        ("messages: { sistem: x }", "WF101"),
        ("samples: 2, client_tools: suspend", "WF104"),
    ] {
        let (_, p) = load_all(&[file(&asking(keys))]);
        assert!(p.iter().any(|d| d.code == code), "{keys}: {p:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_begins_as_the_file_says_where_the_model_can() {
    let body = |prefill: &str| {
        format!(
            "\
vars: {{ key: name }}
nodes:
  - {{ id: ask, type: generate, prefill: '{prefill}' }}
  - {{ id: answer, type: stream, from: nodes.ask.completion, needs: ask }}
"
        )
    };
    let note = |model: &str| Some(format!("the prefill was left out: {model} did not go on from one"));
    for (prefill, said, begins, noted) in [
        ("{\"${ vars.key }\":", "{\"name\": 1}", Some("{\"name\":"), None),
        ("{\"${ vars.key }\":", "It is Ada.", Some("{\"name\":"), note("p/large")),
        ("Well,  ", "Well, no.", Some("Well,"), None),
        ("  ", "Well, no.", None, None),
    ] {
        // Whole, and passed through as it comes.
        for streamed in [false, true] {
            let says = if streamed { Says::Stream(vec![Some(said)]) } else { Says::As("large", said) };
            let script = Script::new(vec![("ask", vec![says])]);
            let (tx, mut rx) = tokio::sync::mpsc::channel(8);
            let input = input(prose(), streamed.then_some(tx));
            let trace = input.trace.clone();
            let w = workflow(&body(prefill));
            let (ending, ()) = tokio::join!(run(&w, input, &script), async {
                while streamed && rx.recv().await.is_some() {}
            });
            assert_eq!(crate::testing::text(&ending), format!("{said}|none"));
            let asked = script.asked.lock().unwrap();
            assert_eq!(asked[0].edits.prefill.as_deref(), begins, "{prefill}");
            let step = trace.snapshot().steps.iter().find(|s| &*s.node == "ask").unwrap().note.clone();
            let told = |n: &Option<String>| n.as_deref().map(|n| n.split(": ").next().unwrap().to_owned());
            assert_eq!(told(&step), told(&noted), "{prefill} {said} {streamed}");
            if !streamed {
                assert_eq!(step, noted);
            }
        }
    }
}

/// A client cannot carry out what does not fit its own schema: the model is told, and the client is asked for the rest.
#[tokio::test(start_paused = true)]
async fn only_calls_that_fit_their_tools_wait_for_the_client() {
    let w = workflow(
        "durability: sync\nnodes:\n  - { id: ask, type: generate, client_tools: suspend }\noutput: nodes.ask.completion\n",
    );
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let body = json!({"model": "auto", "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": schema}}]});
    let request = Arc::new(ChatRequest::from_value(&body).unwrap());
    let script = Script::new(vec![(
        "ask",
        vec![
            Says::Calls(&[("weather", "{\"city\": \"Rome\",}"), ("weather", "{\"city\": \"Oslo\"}")]),
            Says::Calls(&[("weather", "{}")]),
            Says::Calls(&[("weather", "{\"city\": \"Rome\"}")]),
        ],
    )]);
    let (ending, steps) = play(&w, request, &script).await;
    let Ending::Suspended(waits) = ending else { panic!("{ending:?} {steps:?}") };
    let crate::ending::Waiting::ClientTools(calls) = &waits[0].waiting else { panic!("{waits:?}") };
    assert_eq!(calls.iter().map(|c| &*c.arguments).collect::<Vec<_>>(), ["{\"city\": \"Rome\"}"]);
    let asked = script.asked.lock().unwrap();
    let said: Vec<String> =
        asked[2].edits.messages.as_ref().unwrap().iter().map(|m| m.content.text().into_owned()).collect();
    let told: Vec<&String> = said.iter().filter(|t| t.starts_with("not called: ")).collect();
    assert!(told.len() == 3 && told[1].contains("another call") && told[2].contains("city"), "{said:?}");
}

/// Every member of an error can be read, whatever failed.
#[tokio::test(start_paused = true)]
async fn an_error_says_where_and_of_whom() {
    let told = async |says: Says, keys: &str| {
        let fields = [
            "class",
            "code",
            "node",
            "frame",
            "attempt",
            "provider",
            "model",
            "upstream_status",
            "retry_after_ms",
            "retryable",
        ];
        let said = fields.map(|f| format!("${{ nodes.ask.error.{f} }}")).join(" ");
        let body = asking(keys).replace("${ nodes.ask.error }", &said);
        let (ending, _) = play(&workflow(&body), prose(), &Script::new(vec![("ask", vec![says])])).await;
        let Ending::Failed(f) = ending else { panic!("{ending:?}") };
        f.message
    };
    let limited = types::provider::Error {
        status: Some(429),
        retry_after: Some(Duration::from_secs(2)),
        ..types::provider::Error::new(types::provider::ErrorKind::RateLimited, &model("a", 1), "slow down")
    };
    let by_vendor = Says::Fail(Failure::Provider(limited));
    assert_eq!(told(by_vendor, "samples: 1").await, "provider rate_limited ask ask 1 p p/a 429 2000 true");
    assert_eq!(told(Says::Never, "timeout: 1s").await, "provider timeout ask ask 1     false");
}

/// Of several calls that fail one is told, and the others are its causes; the record says how many samples are missing.
#[tokio::test(start_paused = true)]
async fn an_error_holds_what_failed_beside_it() {
    let fails = |kind| Says::Fail(Failure::Provider(types::provider::Error::new(kind, &model("a", 1), "no")));
    let says = || {
        let (limited, away) =
            (types::provider::ErrorKind::RateLimited, types::provider::ErrorKind::Unavailable);
        Script::new(vec![("ask", vec![fails(limited), fails(away), Says::Text(30, "yes")])])
    };
    let fields = ["code", "causes.len()", "causes[0].code", "causes[0].frame"];
    let said = fields.map(|f| format!("${{ nodes.ask.error.{f} }}")).join(" ");
    let body = |keys: &str| asking(keys).replace("${ nodes.ask.error }", &said);
    let (ending, _) = play(&workflow(&body("samples: 3, min_ok: 2")), prose(), &says()).await;
    let Ending::Failed(f) = ending else { panic!("{ending:?}") };
    assert_eq!(f.message, "unavailable 1 rate_limited ask");

    let input = input(prose(), None);
    let trace = input.trace.clone();
    run(&workflow(&body("samples: 3")), input, &says()).await;
    let note = trace.take().steps.first().and_then(|s| s.note.clone()).unwrap();
    assert!(note.starts_with("2 of 3 samples failed: "), "{note}");
}
