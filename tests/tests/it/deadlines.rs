//! How long a request may take: what its workflow says, else what is usual, and no longer than its client waits.

use crate::NO_CHANCE;
use serde_json::json;
use std::time::Duration;
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
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(NO_CHANCE)
        .settings("request: { default_deadline: 1s }\n")
        .file("workflows/long.yaml", LONG)
        .file("workflows/usual.yaml", &LONG.replace("long", "usual").replace("limits: { wall: 20s }\n", ""))
        .start()
        .await;
    for (workflow, more, status) in [
        ("usual", json!({}), 504),
        ("default", json!({}), 504),
        ("long", json!({}), 200),
        ("long", json!({"routing": {"max_latency_ms": 900}}), 504),
        ("usual", json!({"routing": {"max_latency_ms": 5_000}}), 504),
    ] {
        let mut body =
            json!({"model": format!("workflow/{workflow}"), "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = house.client().chat(&body).await;
        assert_eq!(answer.status, status, "{workflow} {more}: {}", answer.text());
    }
}
