//! Runs beside live ones that rules want (`shadow`): the client sees none of them and pays for none.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::time::Duration;
use tests::admin::{Admin, send};
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

const RULES: &str = "rules:
  - { id: live, actions: { require: [lab/one] } }
  - { id: tried, actions: { shadow: { models: [lab/two], rate: 1 } } }
";

fn ask(stream: bool) -> Value {
    json!({"model": "auto", "max_tokens": 100, "stream": stream,
           "messages": [{"role": "user", "content": "say something"}]})
}

/// Two models of which rules choose the first; `more` are settings.
async fn house(rules: &str, settings: &str) -> (Vendor, House) {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| {
        let live = seen.body["model"] == "one";
        Reply::text(if live { "the answer" } else { "another answer" }).costing(1_000, 100)
    })
    .await;
    let plan = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one").price(1.0))
        .model(&Model::new("lab/two").price(10.0))
        .rules(&format!("{NO_CHANCE}{rules}"));
    let house = plan.settings(settings).start().await;
    (vendor, house)
}

/// The record of a request, once `ready` holds of it.
async fn record(house: &House, key: &str, id: &str, ready: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/v1/decisions/{id}");
    for _ in 0..1_200 {
        let found = tests::admin::get(house.client(), key, &path).await.json();
        if ready(&found) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{}", tests::admin::get(house.client(), key, &path).await.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_beside_is_recorded_and_nobody_else_sees_or_pays_for_it() {
    // The models that may run are those that rules leave: the second is one here.
    let rules = RULES.replace("require: [lab/one]", "prefer: { models: [lab/one], strength: 1.0 }");
    let (vendor, house) = house(&rules, "").await;
    let admin = Admin::of(&house);
    let limit = json!([{"metric": "usd", "amount": 1.0, "per": "day"}]);
    let (_, key) = admin.key(json!({"limits": limit})).await;
    for (n, stream) in [(1, false), (2, true)] {
        let answer = send(house.client(), &key, "/v1/chat/completions", &ask(stream)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(
            !answer.text().contains("another") && !answer.text().contains("lab/two"),
            "{}",
            answer.text()
        );
        let id = answer.header("x-turnout-decision").unwrap().to_owned();
        let told = record(&house, &key, &id, |r| !r["outcome"]["account"]["beside"].is_null()).await;
        let beside = &told["outcome"]["account"]["beside"];
        assert_eq!(beside.as_array().map(Vec::len), Some(1), "{beside}");
        let beside = &beside[0];
        assert_eq!((&beside["rule"], &beside["model"]), (&json!("tried"), &json!("lab/two")), "{beside}");
        assert_eq!((&beside["same"], &beside["calls"]), (&json!(false), &json!(1)), "{beside}");
        assert_eq!(told["outcome"]["calls"], 1, "the request itself made one call");
        assert_eq!(vendor.count(), 2 * n);
    }
    // What it cost is in nobody's sums: two calls of the first model are.
    let usage = admin.call("GET", "/usage?group_by=model", &Value::Null).await.text();
    assert!(usage.contains("lab/one") && !usage.contains("lab/two"), "{usage}");
    let metrics = house.client().get("/metrics").await.text();
    assert!(metrics.contains("turnout_beside_total{result=\"done\"} 2"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_in_the_background_has_runs_beside_it_as_well() {
    let rules = RULES.replace("require: [lab/one]", "prefer: { models: [lab/one], strength: 1.0 }");
    let (vendor, house) = house(&rules, "").await;
    let body = json!({"request": ask(false)});
    let created = house.client().post("/v1/runs", &body).await;
    assert_eq!(created.status, 202, "{}", created.text());
    let id = created.json()["id"].as_str().unwrap().to_owned();
    let told = record(&house, "", &id, |r| !r["outcome"]["account"]["beside"].is_null()).await;
    let beside = &told["outcome"]["account"]["beside"];
    assert_eq!(beside.as_array().map(Vec::len), Some(1), "{beside}");
    let beside = &beside[0];
    assert_eq!((&beside["rule"], &beside["model"]), (&json!("tried"), &json!("lab/two")), "{beside}");
    assert_eq!((&beside["same"], &beside["calls"]), (&json!(false), &json!(1)), "{beside}");
    assert_eq!((&told["outcome"]["status"], &told["outcome"]["calls"]), (&json!("delivered"), &json!(1)));
    assert_eq!(vendor.count(), 2);
    // A repetition asks nobody, here neither.
    let again = house.client().post(&format!("/v1/runs/{id}/replay"), &json!({})).await.json();
    assert_eq!((&again["same"], vendor.count()), (&json!(true), 2), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_hold_for_what_runs_beside_as_well() {
    let first = "  - { id: first, actions: { prefer: { models: [lab/one], strength: 1.0 } } }\n";
    let rules = RULES.replace("id: live,", "id: live, when: 'request.user != \"free\"',");
    let (vendor, house) = house(&format!("{rules}{first}"), "").await;
    for user in ["bound", "free"] {
        let mut body = ask(false);
        body["user"] = json!(user);
        let answer = house.client().chat(&body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    until_counted(&house, "done", 1).await;
    assert_eq!(vendor.count(), 3, "a model that rules exclude is not called beside either");
    let beside = vendor.seen().iter().filter(|s| s.body["model"] == "two").count();
    assert_eq!(beside, 1, "only for whom it is not excluded");
}

/// Who is kept out of experiments is asked about of no other model, whether a rule says so or the request itself.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_kept_out_of_experiments_has_nothing_beside() {
    let rules = RULES.replace("require: [lab/one]", "prefer: { models: [lab/one], strength: 1.0 }");
    let kept_out =
        "  - { id: kept_out, when: 'request.user == \"strict\"', actions: { experiment: none } }\n";
    let (vendor, house) = house(&format!("{rules}{kept_out}"), "").await;
    for (member, value, by) in [
        ("user", json!("strict"), "kept_out"),
        ("routing", json!({"experiment": "none"}), "routing.experiment"),
    ] {
        let mut body = ask(false);
        body[member] = value;
        let answer = house.client().chat(&body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told = house.decision(&answer.request_id()).await;
        let actions = told["decision"]["actions"].as_array().unwrap();
        let effect = |rule: &str| actions.iter().find(|a| a["rule"] == rule).map(|a| a["effect"].clone());
        assert_eq!(effect(by), Some(json!("applied")), "{actions:?}");
        let why = json!("no effect: `experiment` keeps the request out of it");
        assert_eq!(effect("tried"), Some(why), "{actions:?}");
    }
    // Another request has its run beside, so that those before it have had the time for theirs.
    assert_eq!(house.client().chat(&ask(false)).await.status, 200);
    until_counted(&house, "done", 1).await;
    assert_eq!(vendor.count(), 4);
}

/// Waits until so many runs beside have come to that.
async fn until_counted(house: &House, result: &str, count: usize) {
    let line = format!("turnout_beside_total{{result=\"{result}\"}} {count}");
    for _ in 0..800 {
        if house.client().get("/metrics").await.text().contains(&line) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no {line} in\n{}", house.client().get("/metrics").await.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_operators_money_nothing_runs_beside() {
    let rules = RULES.replace("require: [lab/one]", "prefer: { models: [lab/one], strength: 1.0 }");
    let (vendor, house) = house(&rules, "shadow: { usd_per_day: 0 }").await;
    assert_eq!(house.client().chat(&ask(false)).await.status, 200);
    until_counted(&house, "unpaid", 1).await;
    assert_eq!(vendor.count(), 1);
}

/// What a run beside is set aside goes by how long its request lets answers be, and what it does not use comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_budget_pays_for_as_many_runs_as_it_has_money_for() {
    let rules = RULES.replace("require: [lab/one]", "prefer: { models: [lab/one], strength: 1.0 }");
    let (vendor, house) = house(&rules, "shadow: { usd_per_day: 0.05 }").await;
    for done in 1..=3 {
        assert_eq!(house.client().chat(&ask(false)).await.status, 200);
        until_counted(&house, "done", done).await;
        let metrics = house.client().get("/metrics").await.text();
        assert!(!metrics.contains("result=\"unpaid\"} 1"), "{metrics}");
        assert_eq!(vendor.count(), 2 * done, "{metrics}");
    }
}
