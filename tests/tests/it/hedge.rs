//! Calls beside each other: the loser is cancelled, paid for and never shown, and both keep to the budget.

use serde_json::{Value, json};
use std::time::Duration;
use tests::admin::{Admin, send};
use tests::client::text_of;
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Fault, Reply, Vendor};
use tokio::task::JoinSet;

const HEDGED: &str = "\
version: 1
name: hedged
nodes:
  - { id: ask, type: generate, primary: true, hedge: { after: AFTER } }
  - { id: answer, type: stream, from: nodes.ask.completion }
edges:
  - { from: ask, to: answer }
";

/// `slow` is believed to be better and is asked first.
async fn start(slow: &Vendor, quick: &Vendor, after: &str) -> House {
    Plan::new()
        .vendor("slow", slow)
        .vendor("quick", quick)
        .model(&Model::new("slow/one").success(0.95))
        .model(&Model::new("quick/one").success(0.5))
        .rules(crate::NO_CHANCE)
        .file("workflows/hedged.yaml", &HEDGED.replace("AFTER", after))
        .start()
        .await
}

fn ask(stream: bool) -> Value {
    json!({"model": "workflow/hedged", "stream": stream, "max_tokens": 1000,
        "messages": [{"role": "user", "content": "say something"}]})
}

/// Scenario 11: the loser is cancelled, charged, never shown; only content decides.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_11_the_loser_is_cancelled_charged_and_never_shown() {
    // It opens its stream at once, and no content follows.
    let stuck = Answer::text("never to be seen").fault(1, Fault::Hang);
    let slow = Vendor::scripted(Dialect::OpenAi, move |_| Reply::Answer(stuck.clone())).await;
    let quick = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("quick words")).await;
    let house = start(&slow, &quick, "40ms").await;
    for stream in [false, true] {
        let (request, said) = if stream {
            let events = house.client().stream(&ask(true)).await;
            let request = events.header("x-turnout-decision").unwrap().to_owned();
            (request, text_of(&events.collect().await.0))
        } else {
            let answer = house.client().chat(&ask(false)).await;
            assert_eq!(answer.json()["model"], "quick/one");
            (answer.request_id(), answer.content())
        };
        assert_eq!(said, "quick words");
        let lost = slow.seen().last().unwrap().clone();
        assert!(lost.wait_left().await, "the loser goes on");
        let record = house.decision(&request).await;
        let calls: Vec<Value> = record["run"]["steps"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|s| s["calls"].as_array().cloned().unwrap_or_default())
            .collect();
        assert_eq!(calls.len(), 2, "{record:#}");
        let of = |model: &str| calls.iter().find(|c| c["model"] == model).unwrap().clone();
        let (loser, winner) = (of("slow/one"), of("quick/one"));
        assert_eq!(
            (&loser["purpose"], &winner["purpose"]),
            (&json!("primary"), &json!("hedge")),
            "{calls:?}"
        );
        assert_eq!(loser["error"]["kind"], "cancelled", "{loser}");
        assert_eq!(loser["usage"]["estimated"], true, "{loser}");
        let cost = |c: &Value| c["cost_usd"].as_f64().unwrap();
        assert!(cost(&loser) > 0.0 && cost(&winner) > 0.0, "{calls:?}");
        let total = record["outcome"]["cost_usd"].as_f64().unwrap();
        assert!((total - cost(&loser) - cost(&winner)).abs() < 1e-9, "{total} {calls:?}");
    }
    assert_eq!((slow.count(), quick.count()), (2, 2));
}

/// A call that fails brings no hedge about: it is answered as any failure is.
#[tokio::test(flavor = "multi_thread")]
async fn a_quick_answer_and_a_quick_failure_have_no_company() {
    let slow = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("in time")).await;
    let quick = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("instead")).await;
    let house = start(&slow, &quick, "20s").await;
    assert_eq!(house.client().chat(&ask(false)).await.content(), "in time");
    assert_eq!((slow.count(), quick.count()), (1, 0));
    slow.queue(Reply::error(400));
    house.client().chat(&ask(false)).await;
    assert_eq!(slow.count(), 2);
    assert!(quick.seen().iter().all(|s| s.body["model"] == "one"), "a fallback at most, no hedge");
}

/// Two hundred at once, each with a second call beside a slow one, against a budget of twenty answers.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_hedged_at_once_spend_no_more_than_the_budget_allows() {
    let reply = |wait: u64| {
        move |seen: &tests::vendor::Seen| {
            let most = seen.body["max_tokens"].as_u64().unwrap_or(1_000).min(1_000);
            Reply::text("hello").costing(3, u32::try_from(most).unwrap()).slow(Duration::from_millis(wait))
        }
    };
    let slow = Vendor::scripted(Dialect::OpenAi, reply(150)).await;
    let quick = Vendor::scripted(Dialect::OpenAi, reply(150)).await;
    let house = start(&slow, &quick, "40ms").await;
    let admin = Admin::of(&house);
    let limits = json!([{"metric": "usd", "amount": 0.0202, "per": "month"}]);
    admin.tenant(json!({"id": "acme", "limits": limits})).await;
    let (_, key) = admin.key(json!({"tenant": "acme", "limits": []})).await;
    let mut tasks = JoinSet::new();
    for i in 0..200 {
        let (client, key) = (house.client(), key.clone());
        let body = ask(i % 3 == 0);
        tasks.spawn(async move { send(client, &key, "/v1/chat/completions", &body).await.status });
    }
    let statuses = tasks.join_all().await;
    let good = statuses.iter().filter(|s| **s == 200).count();
    assert!(statuses.iter().all(|s| [200, 429, 422].contains(s)), "{statuses:?}");
    assert!((1..=40).contains(&good), "{good}");
    assert!(quick.count() > 0, "nothing was hedged, so nothing is shown");
    // What was written to its end is paid in full; what was dropped, as far as it had come.
    let tokens = |vendor: &Vendor| -> u64 {
        let whole = |s: &std::sync::Arc<tests::vendor::Seen>| {
            3 + if s.done() { s.body["max_tokens"].as_u64().unwrap_or(1_000).min(1_000) } else { 0 }
        };
        vendor.seen().iter().map(whole).sum()
    };
    let spent = (tokens(&slow) + tokens(&quick)) as f64 / 1e6;
    println!(
        "hedge race: {good} answered, {} + {} calls, {spent} USD of 0.0202",
        slow.count(),
        quick.count()
    );
    assert!(spent <= 0.0202 + 1e-9, "{spent} USD");
}
