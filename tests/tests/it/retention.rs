//! What is recorded of a request is erased when its time is over, whatever happens meanwhile; what was used and learned stays.

use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tests::admin::{Admin, get, send};
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

/// Stands in what clients say of themselves and of answers.
const MARK: &str = "marginalia";

const RULES: &str = "\
rules:
  - { id: by_what_was_asked, when: 'request.user == \"jane\"', actions: { log: { retention: 30s } } }
  - { id: by_the_answer, phase: response, when: 'request.user == \"joan\"', actions: { log: { retention: 30s } } }
";

async fn ask(house: &House, user: &str, label: &str) -> String {
    let body = json!({
        "model": "auto", "user": user, "routing": {"tags": {"who": label}},
        "messages": [{"role": "user", "content": "hello"}],
    });
    let answer = house.client().chat(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.request_id()
}

async fn say(house: &House, id: &str, score: f64) -> tests::client::Response {
    let word = json!({"request_id": id, "score": score, "reason": format!("{MARK} of {id}")});
    house.client().post("/v1/feedback", &word).await
}

/// Names of the files below a folder in which the mark stands.
fn marked(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(marked(&path));
        } else if std::fs::read(&path).is_ok_and(|b| b.windows(MARK.len()).any(|w| w == MARK.as_bytes())) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// What was used, by model and by key.
async fn known(house: &House) -> (Value, Value) {
    let admin = Admin::of(house);
    let report = |by: &str| format!("/usage?group_by={by}&limit=100");
    let by_model = admin.call("GET", &report("model"), &Value::Null).await.json();
    let by_key = admin.call("GET", &report("key"), &Value::Null).await.json();
    (by_model["data"].clone(), by_key["data"].clone())
}

/// What the arms of a decision know from outcomes.
async fn learned(house: &House, id: &str) -> Value {
    let decision = house.decision(id).await["decision"].clone();
    let arms = decision["arms"].as_array().unwrap().iter();
    arms.map(|a| json!([a["model"], a["outcomes"], a["terms"]["success"]])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_goes_when_its_time_is_over_over_kills_and_a_lost_database_and_its_figures_stay() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello").costing(1_000, 100)).await;
    let mut house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one").price(1.0))
        .rules(&format!("{}{RULES}", crate::NO_CHANCE))
        .start()
        .await;
    let data = house.folder().path().join("data");
    let (mut go, mut stay) = (Vec::new(), Vec::new());
    for (i, user) in ["jane", "joan", "jane"].into_iter().enumerate() {
        go.push(ask(&house, user, &format!("{MARK}{i}")).await);
        stay.push(ask(&house, "bob", "team").await);
    }
    for id in go.iter().chain(&stay[..1]) {
        let body = json!({"request_id": id, "score": 0.9, "reason": "fine"});
        assert_eq!(house.client().post("/v1/feedback", &body).await.status, 200);
    }
    assert_eq!(say(&house, &go[0], 0.25).await.status, 200);
    let record = house.decision(&go[0]).await;
    assert_eq!(record["feedback"].as_array().map(Vec::len), Some(2), "{record}");
    assert!(record["outcome"]["expires_ms"].as_i64() > record["outcome"]["ts_ms"].as_i64(), "{record}");
    assert!(!marked(&data).is_empty());
    let used = known(&house).await;
    // Nobody says how good this one is, nor of those that ask later: nothing more is learned.
    let before = learned(&house, &ask(&house, "bob", "team").await).await;
    assert!(before[0][1].as_f64() > Some(3.5), "from what four words said: {before}");

    // Killed before its time and away when it comes: the next process erases it.
    let mut last = 0;
    for id in &go {
        last = last.max(house.decision(id).await["outcome"]["expires_ms"].as_u64().unwrap());
    }
    house.kill().await;
    assert!(tests::now_ms() < last, "it took so long that nothing is shown");
    tests::past(last).await;
    house.restart().await;
    for id in &go {
        let gone = house.client().get(&format!("/v1/decisions/{id}")).await;
        assert_eq!(gone.error(410)["code"], "record_erased");
    }
    let clean = || marked(&data).is_empty();
    assert!(tests::eventually(Duration::from_secs(40), clean).await, "{:?}\n{}", marked(&data), house.log());
    let refused = say(&house, &go[1], 0.0).await;
    assert_eq!(refused.error(410)["code"], "record_erased");
    let told = house.cli(&["explain", &go[2]]).await;
    let words = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(!told.status.success() && words.contains("erased"), "{words}");

    for lost in [false, true] {
        if lost {
            assert_eq!(house.stop().await, Some(0));
            for name in ["outcomes.db", "outcomes.db-wal", "outcomes.db-shm"] {
                drop(std::fs::remove_file(data.join(name)));
            }
            house.restart().await;
        }
        for id in &stay {
            assert_eq!(house.decision(id).await["outcome"]["status"], "delivered");
        }
        let gone = house.client().get(&format!("/v1/decisions/{}", go[0])).await;
        assert_eq!(gone.error(410)["code"], "record_erased", "lost: {lost}");
        assert_eq!(marked(&data), [""; 0], "lost: {lost}");
        check_known(&house, &used, &before, lost).await;
    }

    // Of whose request it was, others learn nothing.
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "other"})).await;
    let (_, stranger) = admin.key(json!({"tenant": "other"})).await;
    let path = format!("/v1/decisions/{}", go[0]);
    assert_eq!(get(house.client(), &stranger, &path).await.error(404)["code"], "not_found");
    let word = json!({"request_id": go[0], "score": 0.5});
    let refused = send(house.client(), &stranger, "/v1/feedback", &word).await;
    assert_eq!(refused.error(404)["code"], "not_found");
}

/// Reports and beliefs are what they were, but for the requests that only looked at them.
async fn check_known(house: &House, used: &(Value, Value), before: &Value, lost: bool) {
    let now = known(house).await;
    let looks = 1 + i64::from(lost);
    for (rows, was) in [(&now.0, &used.0), (&now.1, &used.1)] {
        let requests = |v: &Value| v[0]["requests"].as_i64().unwrap();
        assert_eq!(requests(rows), requests(was) + looks, "lost: {lost}: {rows}");
        assert_eq!(rows[0]["successes"].as_i64(), was[0]["successes"].as_i64().map(|n| n + looks), "{rows}");
    }
    let after = learned(house, &ask(house, "bob", "team").await).await;
    assert_eq!(after, *before, "lost: {lost}");
}
