//! Outcomes change the next choice: towards the better arm, back when the arms swap, and across restarts.

use serde_json::{Value, json};
use std::time::Duration;
use tests::admin::Admin;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

/// No choice by chance, and a bonus for the untried: what is learned is all that moves the choice.
const RULES: &str = "version: 1\nexploration: { epsilon: 0 }\n";

fn ask(i: usize) -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": format!("Tell me about number {i}, please.")}]})
}

async fn start() -> (Vendor, Vendor, House) {
    let a = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("an answer of one")).await;
    let b = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("an answer of two")).await;
    // The first is believed to be better, and is not.
    let house = Plan::new()
        .vendor("one", &a)
        .vendor("two", &b)
        .model(&Model::new("one/m").success(0.75))
        .model(&Model::new("two/m").success(0.65))
        .rules(RULES)
        .start()
        .await;
    (a, b, house)
}

/// Asks until `good` was chosen twenty times in a row, telling after each answer how good it was; gives the
/// number of requests it took.
async fn until_settled(house: &House, good: &str) -> usize {
    let mut in_a_row = 0;
    let mut last = String::new();
    for i in 0..600 {
        let answer = house.client().chat(&ask(i)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let model = answer.header("x-turnout-model").unwrap().to_owned();
        house.feedback(&answer.request_id(), if model == good { 1.0 } else { 0.0 }).await;
        in_a_row = if model == good { in_a_row + 1 } else { 0 };
        if in_a_row == 20 {
            return i + 1;
        }
        last = answer.request_id();
        // Statistics are published a few times a second, behind the reply.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!(
        "600 outcomes did not move the choice to {good}: {}",
        house.decision(&last).await["decision"]["arms"]
    );
}

async fn next_choice(house: &House) -> String {
    let answer = house.client().chat(&ask(1000)).await;
    answer.header("x-turnout-model").unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_choice_follows_feedback_there_and_back_and_survives_restarts() {
    let (_a, _b, mut house) = start().await;
    assert_eq!(next_choice(&house).await, "one/m", "before any outcome the prior decides");
    until_settled(&house, "two/m").await;

    assert_eq!(house.stop().await, Some(0));
    house.restart().await;
    assert_eq!(next_choice(&house).await, "two/m", "forgotten by a restart");

    until_settled(&house, "one/m").await;
    house.kill().await;
    house.restart().await;
    assert_eq!(next_choice(&house).await, "one/m", "forgotten by a kill");
}

/// The checks alone teach it: nobody says a word, but one model keeps the contract and the other does not.
#[tokio::test(flavor = "multi_thread")]
async fn the_choice_follows_the_checks_of_the_answers() {
    let simulate = |wrong: f64| {
        format!(
            "simulate: {{ success: {{ default: 0.9 }}, failures: {{ wrong_schema: {wrong} }}, \
             latency: {{ ttft: 1ms, sigma: 0, tokens_per_second: 100000 }} }}"
        )
    };
    let house = Plan::new()
        .simulated("lab")
        .model(&Model::new("lab/breaks").success(0.75).with(&simulate(0.9)))
        .model(&Model::new("lab/keeps").success(0.65).with(&simulate(0.02)))
        .rules(RULES)
        .start()
        .await;
    let ask = |i: usize| {
        json!({
            "model": "auto",
            "messages": [{"role": "user", "content": format!("Extract the number from: number {i}.")}],
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {
                "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}}},
        })
    };
    let (mut first, mut last) = (0, 0);
    for i in 0..240 {
        let answer = house.client().chat(&ask(i)).await;
        let record = house.decision(&answer.request_id()).await;
        let chosen = record["outcome"]["model"].as_str().unwrap_or_default().to_owned();
        let keeps = usize::from(chosen == "lab/keeps");
        if i < 40 {
            first += keeps;
        } else if i >= 200 {
            last += keeps;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(last >= 36, "of the last 40 choices {last} fell on the model that keeps its contract");
    assert!(first < last, "{first} of the first 40, {last} of the last 40");
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_is_idempotent_and_only_for_known_requests() {
    let (_a, _b, house) = start().await;
    let answer = house.client().chat(&ask(1)).await;
    let id = answer.request_id();
    let reward = async || house.decision(&id).await["outcome"]["reward"].as_f64();
    house.feedback(&id, 0.25).await;
    let once = reward().await;
    house.feedback(&id, 0.25).await;
    assert_eq!(reward().await, once, "the same word twice counts twice");
    house.feedback(&id, 1.0).await;
    assert!(reward().await > once, "the last word of a source counts");
    let record = house.decision(&id).await;
    assert!(record["feedback"].as_array().is_some_and(|f| !f.is_empty()), "{record}");

    let success = json!({"request_id": id, "success": false, "reason": "wrong", "source": "person"});
    let taken = house.client().post("/v1/feedback", &success).await;
    assert!(taken.status < 300, "{}", taken.text());
    // 1.0 and 0.0, and not the 0.25 that was taken back: what the receipt says is what the record comes to.
    assert_eq!(taken.json()["reward"].as_f64(), reward().await);
    // One key is one voice, whatever it calls itself.
    for source in 0..6 {
        let one_more = json!({"request_id": id, "score": 0.5, "source": format!("voice-{source}")});
        assert_eq!(house.client().post("/v1/feedback", &one_more).await.status, 200);
    }
    let crowd = json!({"request_id": id, "score": 0.0, "source": "one-too-many"});
    assert_eq!(house.client().post("/v1/feedback", &crowd).await.error(400)["code"], "too_many_sources");
    let wrong = [
        json!({"request_id": "nobody", "score": 1.0}),
        json!({"request_id": id, "score": 2.0}),
        json!({"request_id": id, "score": "good"}),
        json!({"request_id": id}),
        json!({"score": 1.0}),
        json!({"request_id": id, "score": 1.0, "scroe": 1.0}),
        json!([1]),
    ];
    for body in wrong {
        let answer = house.client().post("/v1/feedback", &body).await;
        assert!((400..500).contains(&answer.status), "{body}: {}", answer.text());
        let _ = answer.error(answer.status);
    }
}

/// Whoever says too much is told to wait, whatever it is worth; others are heard.
#[tokio::test(flavor = "multi_thread")]
async fn words_of_one_key_are_counted() {
    let (_a, _b, house) = start().await;
    let admin = tests::admin::Admin::of(&house);
    let ((_, loud), (_, quiet)) = (admin.key(json!({})).await, admin.key(json!({})).await);
    let word = json!({"request_id": "nobody", "score": 1.0});
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (client, key, word) = (house.client(), loud.clone(), word.clone());
        // How many fit into a minute is not told: each goes on until it has had enough of them.
        tasks.spawn(async move {
            for _ in 0..1_000 {
                let answer = tests::admin::send(client, &key, "/v1/feedback", &word).await;
                if answer.status != 404 {
                    return Some(answer);
                }
            }
            None
        });
    }
    let refused: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert!(!refused.is_empty(), "twenty thousand were heard");
    let last = refused.last().unwrap();
    assert_eq!(last.error(429)["code"], "rate_limit_exceeded");
    assert!(last.header("retry-after").is_some() && last.header("x-should-retry") == Some("true"));
    assert_eq!(tests::admin::send(house.client(), &quiet, "/v1/feedback", &word).await.status, 404);
}

/// What was learned can be taken back to what was known before, and stays there over a restart.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_go_back_to_what_was_known_at_a_moment() {
    let (_a, _b, mut house) = start().await;
    let answer = house.client().chat(&ask(0)).await;
    house.decision(&answer.request_id()).await;
    assert_eq!(next_choice(&house).await, "one/m");
    until_settled(&house, "two/m").await;
    let admin = Admin::of(&house);
    let kept = admin.call("GET", "/statistics", &Value::Null).await.json();
    let first = kept["data"][0]["at"].as_str().unwrap_or_else(|| panic!("{kept}")).to_owned();
    assert_eq!(kept["data"].as_array().map(Vec::len), Some(1), "one an hour: {kept}");
    let back = |to: &str| json!({ "to": to });
    let wrong = admin.call("POST", "/statistics/rollback", &back("yesterday")).await;
    assert_eq!(wrong.error(400)["param"], "to");
    let early = admin.call("POST", "/statistics/rollback", &back("2001-01-01T00:00:00Z")).await;
    assert_eq!(early.error(409)["code"], "nothing_before");
    assert_eq!(next_choice(&house).await, "two/m", "nothing has changed");
    let done = house.cli(&["statistics", "rollback", "--to", &first]).await;
    assert!(done.status.success(), "{done:?}");
    assert_eq!(next_choice(&house).await, "one/m");
    let trail = admin.call("GET", "/audit?limit=100", &Value::Null).await.json();
    let lines = trail["data"].as_array().unwrap();
    assert!(lines.iter().any(|l| l["action"] == "statistics.rollback" && l["target"] == *first), "{trail}");
    house.kill().await;
    house.restart().await;
    assert_eq!(next_choice(&house).await, "one/m", "it is not learned again from the log");
}
