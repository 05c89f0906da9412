//! What belongs to one tenant is not there for another: the same answer as for what nobody has.

use serde_json::{Value, json};
use tests::admin::{Admin, get, send};
use tests::client::Response;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

/// A run that waits for people.
const ASKS: &str = "\
version: 1
name: asks
nodes:
  - { id: ask, type: gate, prompt: 'Send it?' }
  - { id: one, type: generate }
  - { id: answer, type: stream, from: nodes.one.completion }
  - { id: no, type: fail, code: refused, message: 'nobody agreed' }
edges:
  - { from: ask, to: one, outcome: approved }
  - { from: ask, to: no, outcome: rejected }
  - { from: one, to: answer }
";

async fn delete(house: &House, key: &str, path: &str) -> Response {
    house.client().send("DELETE", path, &[("authorization", &format!("Bearer {key}"))], b"").await
}

/// What an answer says, but for the names that tell one request from another.
fn says(answer: &Response, id: &str) -> (u16, String) {
    (answer.status, answer.text().replace(id, "ID").replace(&answer.request_id(), "REQ"))
}

/// Everything that can be asked of a run, with bodies that its own tenant could send.
async fn tried(house: &House, key: &str, id: &str, hash: &Value) -> Vec<(String, Response)> {
    let mut all = Vec::new();
    for rest in ["", "/events", "/trace"] {
        all.push((format!("GET {rest}"), get(house.client(), key, &format!("/v1/runs/{id}{rest}")).await));
    }
    let output = json!([{"tool_call_id": "call_1", "output": "42"}]);
    for (rest, body) in [
        ("/cancel", json!({"reason": "mine now"})),
        ("/resume", json!({})),
        ("/fork", json!({"after": "ask"})),
        ("/gates/ask", json!({"decision": "approved", "content_hash": hash})),
        ("/tool_outputs", json!({ "tool_outputs": output })),
        ("/replay", json!({})),
        ("/replay", json!({"live": {"usd": 0.01}})),
    ] {
        let path = format!("/v1/runs/{id}{rest}");
        all.push((format!("POST {rest} {body}"), send(house.client(), key, &path, &body).await));
    }
    all.push(("DELETE".to_owned(), delete(house, key, &format!("/v1/runs/{id}")).await));
    all
}

/// How many requests of others are in work, and how large they are, is told to nobody with a key.
#[tokio::test(flavor = "multi_thread")]
async fn the_load_of_the_server_is_not_told_to_keys() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
    let body = json!({"model": "lab/one", "messages": [{"role": "user", "content": "hello"}]});
    let told = |answer: &Response| {
        let named = answer.headers.iter().filter(|(name, _)| name.starts_with("x-ratelimit-"));
        named.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let open = house.client().chat(&body).await;
    assert!(!told(&open).is_empty(), "{open:?}");
    let admin = Admin::of(&house);
    let (_, free) = admin.key(json!({"limits": []})).await;
    let answer = send(house.client(), &free, "/v1/chat/completions", &body).await;
    assert_eq!((answer.status, told(&answer)), (200, Vec::new()));
    let (_, bound) = admin.key(json!({"limits": [{"metric": "requests", "amount": 9, "per": "day"}]})).await;
    let answer = send(house.client(), &bound, "/v1/chat/completions", &body).await;
    assert_eq!((answer.status, answer.header("x-ratelimit-limit-requests")), (200, Some("9")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_not_there_for_another_tenant() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("sent")).await;
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(crate::NO_CHANCE)
        .file("workflows/asks.yaml", ASKS)
        .start()
        .await;
    let admin = Admin::of(&house);
    let mut keys = Vec::new();
    for tenant in ["acme", "other"] {
        admin.tenant(json!({"id": tenant})).await;
        keys.push(admin.key(json!({"tenant": tenant})).await.1);
    }
    let (own, stranger) = (&keys[0], &keys[1]);
    let body = json!({"workflow": "asks", "request": {"messages": [{"role": "user", "content": "hello"}]}});
    let made = send(house.client(), own, "/v1/runs", &body).await;
    assert_eq!(made.status, 202, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/runs/{id}");
    let mut shown = Value::Null;
    for _ in 0..1_200 {
        shown = get(house.client(), own, &path).await.json();
        if shown["status"] == "suspended" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert_eq!(shown["status"], "suspended", "{shown}\n{}", house.log());
    let hash = &shown["waiting"]["questions"][0]["content_hash"];

    let nobodys = id.chars().rev().collect::<String>();
    let nobodys = format!("run_{}", nobodys.trim_end_matches("_nur"));
    let theirs = tried(&house, &stranger.clone(), &id, hash).await;
    let none = tried(&house, &stranger.clone(), &nobodys, hash).await;
    for ((what, theirs), (_, none)) in theirs.iter().zip(&none) {
        assert_eq!(theirs.status, 404, "{what}: {}", theirs.text());
        assert_eq!(says(theirs, &id), says(none, &nobodys), "{what}");
    }
    let list = get(house.client(), stranger, "/v1/runs").await.json();
    assert_eq!(list["data"], json!([]), "{list}");
    assert_eq!(get(house.client(), own, &path).await.json(), shown, "nothing has become of it");
    assert_eq!(vendor.count(), 0);
    assert_eq!(get(house.client(), own, "/v1/runs").await.json()["data"][0]["id"], json!(id));
}

/// Who decides says what he was shown: what has changed since, or is another's question, is not decided by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_about_another_question_decides_nothing() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("sent")).await;
    let gated = ASKS.replace("'Send it?'", "\"Send ${ request.messages[-1].content }?\"");
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(crate::NO_CHANCE)
        .file("workflows/asks.yaml", &gated)
        .start()
        .await;
    let begin = async |text: &str| {
        let request = json!({"messages": [{"role": "user", "content": text}]});
        let made =
            house.client().post("/v1/runs", &json!({"workflow": "asks", "request": request})).await.json();
        let path = format!("/v1/runs/{}", made["id"].as_str().unwrap_or_else(|| panic!("{made}")));
        let shown = house.run_in(&path, "suspended").await;
        (path, shown["waiting"]["questions"][0]["content_hash"].clone())
    };
    let (first, of_first) = begin("mail 1").await;
    let (second, of_second) = begin("mail 2").await;
    assert_ne!(of_first, of_second);
    let decide = async |path: &str, hash: &Value| {
        let said = json!({"decision": "approved", "content_hash": hash});
        house.client().post(&format!("{path}/gates/ask"), &said).await
    };
    let refused = decide(&second, &of_first).await.error(409);
    assert_eq!(refused["code"], "content_changed", "{refused}");
    assert_eq!(refused["metadata"]["content_hash"], of_second, "{refused}");
    for path in [&first, &second] {
        assert_eq!(house.client().get(path).await.json()["status"], "suspended");
    }
    assert_eq!(vendor.count(), 0);
    assert_eq!(decide(&second, &of_second).await.status, 202);
    house.run_in(&second, "succeeded").await;
    assert_eq!(house.client().get(&first).await.json()["status"], "suspended", "the other still waits");
}
