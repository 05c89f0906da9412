//! A form that a rule demands is the form of what is delivered, whatever the workflow checks.

use serde_json::{Value, json};
use tests::client::text_of;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Seen, Vendor};

const PLAIN: &str = "\
version: 1
name: plain
nodes:
  - { id: ask, type: generate }
  - { id: answer, type: stream, from: nodes.ask.completion, mode: passthrough }
edges:
  - { from: ask, to: answer }
";

/// Answers with what it is asked to say, and in no other form when it is asked again.
fn says(seen: &Seen) -> Reply {
    let asked = seen.body["messages"].to_string();
    Reply::text(if asked.contains("an object") { "{\"a\": 1}" } else { "Of course, here it is." })
}

async fn house(vendor: &Vendor, demanded: &str) -> House {
    let rules = format!(
        "{}rules:\n  - {{ id: shaped, owner: ops, actions: {{ enforce_format: {demanded} }} }}\n",
        crate::NO_CHANCE
    );
    let plan = Plan::new().vendor("lab", vendor).model(&Model::new("lab/one")).rules(&rules);
    plan.file("workflows/plain.yaml", PLAIN).start().await
}

fn ask(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn prose_is_not_delivered_where_json_is_demanded() {
    let vendor = Vendor::scripted(Dialect::OpenAi, says).await;
    let house = house(&vendor, "json").await;
    // A workflow that checks nothing, one that checks code, one that delivers what fails, and a model by its name.
    for model in ["workflow/plain", "workflow/hard_coding", "workflow/default", "lab/one"] {
        let refused = house.client().chat(&ask(model, "prose")).await;
        assert!(refused.status >= 400, "{model}: {}", refused.text());
        let answer = house.client().chat(&ask(model, "an object")).await;
        assert_eq!((answer.status, answer.content().as_str()), (200, "{\"a\": 1}"), "{model}");
    }
    let streamed = |text: &str| {
        let mut body = ask("workflow/plain", text);
        body["stream"] = true.into();
        body
    };
    assert_eq!(house.client().chat(&streamed("prose")).await.error(422)["code"], "failed");
    let (events, _) = house.client().stream(&streamed("an object")).await.collect().await;
    assert_eq!(text_of(&events), "{\"a\": 1}", "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_schema_is_not_delivered_where_that_is_demanded() {
    let vendor = Vendor::scripted(Dialect::OpenAi, says).await;
    let house = house(&vendor, "json_schema").await;
    for (kind, status) in [("integer", 200), ("object", 422)] {
        let mut body = ask("workflow/plain", "an object");
        let schema = json!({"type": "object", "properties": {"a": {"type": kind}}});
        body["response_format"] =
            json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
        let answer = house.client().chat(&body).await;
        assert_eq!(answer.status, status, "{kind}: {}", answer.text());
    }
}
