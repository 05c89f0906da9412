//! An answer reaches a client that streams while it grows, whatever came before it.

use crate::NO_CHANCE;
use serde_json::json;
use tests::client::text_of;
use tests::house::{Model, Plan};
use tests::vendor::{Answer, Dialect, Fault, Reply, Vendor};

const SORTED: &str = "version: 1
name: sorted
nodes:
  - { id: sort, type: classify, method: rules, labels: [short, long], rules: [{ when: request.message_count > 3, label: long }] }
  - { id: ask, type: generate }
  - { id: seen, type: set, values: { n: nodes.ask.ok_count } }
  - { id: answer, type: stream, from: nodes.ask.completion }
  - { id: no, type: fail, code: too_long, message: no }
edges:
  - { from: sort, to: ask, outcome: short }
  - { from: sort, to: no, outcome: long }
  - { from: ask, to: seen }
  - { from: seen, to: answer }
";

/// The vendor never comes to the end of its answer, and the client reads the beginning.
#[tokio::test(flavor = "multi_thread")]
async fn text_flows_behind_what_has_resolved() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| {
        Reply::Answer(Answer::text("one two three").fault(3, Fault::Hang))
    })
    .await;
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(NO_CHANCE)
        .file("workflows/sorted.yaml", SORTED)
        .start()
        .await;
    let body =
        json!({"model": "workflow/sorted", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let mut events = house.client().stream(&body).await;
    let mut seen = Vec::new();
    while !text_of(&seen).contains("one") {
        seen.push(events.next().await.unwrap());
    }
}
