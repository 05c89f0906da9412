//! How long a request may take: what its workflow says, else what is usual, and no longer than its client waits.

use crate::NO_CHANCE;
use serde_json::json;
use std::time::Duration;
use tests::client::{End, text_of};
use tests::house::{Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

const LONG: &str = "version: 1
name: long
limits: { wall: 20s }
nodes:
  - { id: ask, type: generate }
output: nodes.ask.completion
";

/// The workflow's own time holds, although it is longer than what is usual; a client that waits for less is answered
/// in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_names_its_own_time() {
    let vendor =
        Vendor::scripted(Dialect::OpenAi, |_| Reply::text("slow").slow(Duration::from_millis(1_300))).await;
    for (workflow, more, status) in [
        ("usual", json!({}), 504),
        ("default", json!({}), 504),
        ("long", json!({}), 200),
        ("long", json!({"routing": {"max_latency_ms": 900}}), 504),
        ("usual", json!({"routing": {"max_latency_ms": 5_000}}), 504),
    ] {
        // Each has a server of its own: what was learned of the time that the model takes would refuse the next.
        let house = Plan::new()
            .vendor("lab", &vendor)
            .model(&Model::new("lab/one"))
            .rules(NO_CHANCE)
            .settings("request: { default_deadline: 1s }\n")
            .file("workflows/long.yaml", LONG)
            .file(
                "workflows/usual.yaml",
                &LONG.replace("long", "usual").replace("limits: { wall: 20s }\n", ""),
            )
            .start()
            .await;
        let mut body =
            json!({"model": format!("workflow/{workflow}"), "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = house.client().chat(&body).await;
        assert_eq!(answer.status, status, "{workflow} {more}: {}", answer.text());
        if status == 504 {
            // It is the request whose time is up, whatever the model would have said.
            assert_eq!(answer.error(504)["code"], "budget.wall", "{workflow} {more}");
        }
    }
}

/// A draft, and a second call that is to be better.
const HURRIED: &str = "version: 1
name: hurried
limits: { wall: 2s, finish_reserve: 300ms }
nodes:
  - { id: draft, type: generate, params: { temperature: 0.1 } }
  - { id: better, type: generate, params: { temperature: 0.2 }, retry: { max_attempts: 3, backoff: { initial: 5s, jitter: none } } }
  - { id: answer, type: stream, from: nodes.better.completion, trailer: always }
edges:
  - { from: draft, to: better }
  - { from: better, to: answer }
";

/// 10: with 300 ms left a call is given up and none is begun; the client has the best answer so far, and is told. What
/// failed before is not tried again where the pause would not end in time.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_10_with_300_ms_left_nothing_is_asked_and_the_client_has_the_best_so_far() {
    for hangs in [true, false] {
        let vendor = Vendor::scripted(Dialect::OpenAi, move |seen| {
            match seen.body["temperature"].to_string().as_str() {
                "0.1" => Reply::text("a draft"),
                _ if hangs => Reply::Hang,
                _ => Reply::error(503),
            }
        })
        .await;
        let house = Plan::new()
            .vendor("lab", &vendor)
            .model(&Model::new("lab/one"))
            .rules(NO_CHANCE)
            .file("workflows/hurried.yaml", HURRIED)
            .start()
            .await;
        let mut ask = json!({"model": "workflow/hurried", "messages": [{"role": "user", "content": "hi"}]});
        ask["routing"] = json!({"explain": true});
        let answer = house.client().chat(&ask).await;
        assert_eq!(vendor.count(), 2, "nothing was tried again");
        if !hangs {
            assert_eq!(answer.status, 503, "{}", answer.text());
            continue;
        }
        assert_eq!((answer.status, answer.content().as_str()), (200, "a draft"), "{}", answer.text());
        let told = &answer.json()["turnout"];
        assert_eq!(
            (&told["run"]["exhausted"], &told["run"]["verdict"]),
            (&json!("wall"), &json!("unverified"))
        );
        ask["routing"] = json!({});
        let (events, end) = house.client().stream(&ask).await.collect().await;
        assert_eq!((text_of(&events).as_str(), end), ("a draft", End::Done));
        let told = &events.last().unwrap()["turnout"];
        assert_eq!(
            (&told["budget_exhausted"], &told["verdict"]),
            (&json!(true), &json!("unverified")),
            "{told}"
        );
        assert_eq!(vendor.count(), 4);
    }
}
