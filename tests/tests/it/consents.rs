//! People have to agree before a run begins: it waits for them, and goes on when they have.

use serde_json::{Value, json};
use std::time::Duration;
use tests::admin::{Admin, get, send};
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

const RULES: &str = "\
approvers: { ops: [\"user:dana\", \"user:lee\"], law: [\"user:kim\"] }
rules:
  - id: costly
    owner: ops
    when: request.last_user_text.contains(\"costly\")
    actions: { require_approval: { group: ops, reason: \"it costs\" } }
  - id: delicate
    owner: law
    when: request.last_user_text.contains(\"delicate\")
    actions: { require_approval: { group: law, reason: \"it is delicate\" } }
  - id: at_once
    owner: ops
    when: request.last_user_text.contains(\"at once\")
    actions: { require_approval: { group: ops, reason: \"it is late\", expires: 1s } }
";

/// A house with a key by which runs are asked for.
async fn house(vendor: &Vendor) -> (House, String) {
    let plan = Plan::new().vendor("lab", vendor).model(&Model::new("lab/one"));
    let house = plan.rules(&format!("{}{RULES}", crate::NO_CHANCE)).start().await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme"})).await;
    let (_, key) = admin.key(json!({"role": "inference", "name": "lee", "tenant": "acme"})).await;
    (house, key)
}

async fn submit(house: &House, key: &str, text: &str) -> String {
    let body = json!({"request": {"model": "auto", "messages": [{"role": "user", "content": text}]}});
    let accepted = send(house.client(), key, "/v1/runs", &body).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    accepted.json()["id"].as_str().unwrap().to_owned()
}

async fn until(house: &House, key: &str, id: &str, state: &str) -> Value {
    let look = async {
        loop {
            let run = get(house.client(), key, &format!("/v1/runs/{id}")).await.json();
            if run["status"] == state {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(60), look).await;
    found.unwrap_or_else(|_| panic!("it does not become {state}\n{}", house.log()))
}

/// The questions that stand, and the path of the first.
async fn standing(admin: &Admin) -> (Vec<Value>, String) {
    let list = admin.call("GET", "/approvals", &Value::Null).await.json()["data"].clone();
    let all = list.as_array().unwrap_or_else(|| panic!("{list}")).clone();
    let path = all.first().map(|q| format!("/approvals/{}", q["id"].as_str().unwrap()));
    (all, path.unwrap_or_default())
}

fn word(decision: &str, name: &str) -> Value {
    json!({"decision": decision, "as": name})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_waits_for_people_and_goes_on_when_they_agree() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("done")).await;
    let (mut house, key) = house(&vendor).await;
    let admin = Admin::of(&house);
    let id = submit(&house, &key, "a costly and delicate matter").await;
    let run = until(&house, &key, &id, "suspended").await;
    assert_eq!(run["waiting"]["questions"][0]["frame"], "request", "{run:#}");
    let (asked, path) = standing(&admin).await;
    assert_eq!(asked.len(), 1, "{asked:?}");
    let told = |i: usize, what: &str| asked[0]["groups"][i][what].clone();
    assert_eq!((told(0, "group"), told(1, "group")), (json!("law"), json!("ops")), "{asked:?}");
    assert_eq!((told(0, "reason"), told(0, "rule")), (json!("it is delicate"), json!("delicate")));
    assert_eq!((&asked[0]["phase"], &asked[0]["run"]["id"]), (&json!("request"), &json!(id)));
    assert_eq!(asked[0]["shows"], "a costly and delicate matter");
    // Whoever asks for the run does not agree to it, with the key that asked or by that name.
    let own = json!({"decision": "approved", "content_hash": asked[0]["run"]["content_hash"]});
    let gate = format!("/v1/runs/{id}/gates/request");
    assert_eq!(send(house.client(), &key, &gate, &own).await.status, 403);
    assert_eq!(admin.call("POST", &path, &word("approve", "user:lee")).await.status, 403);
    let half = admin.call("POST", &path, &word("approve", "user:dana")).await;
    assert_eq!((half.status, &half.json()["state"]), (200, &json!("pending")), "{}", half.text());
    // Nobody has to be asked again after a crash.
    house.kill().await;
    house.restart().await;
    let admin = Admin::of(&house);
    assert_eq!(vendor.count(), 0);
    assert_eq!(admin.call("POST", &path, &word("approve", "user:kim")).await.status, 200);
    let run = until(&house, &key, &id, "succeeded").await;
    assert_eq!(
        (run["result"]["choices"][0]["message"]["content"].as_str(), vendor.count()),
        (Some("done"), 1)
    );
    let record = get(house.client(), &key, &format!("/v1/decisions/{id}")).await.json();
    assert_eq!(record["outcome"]["status"], "delivered", "{record:#}");
    assert_eq!(
        send(house.client(), &key, &format!("/v1/runs/{id}/replay"), &json!({})).await.json()["same"],
        true
    );
    // An agreement holds for one run.
    let second = submit(&house, &key, "a costly and delicate matter").await;
    until(&house, &key, &second, "suspended").await;
    assert_eq!(vendor.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_a_run_before_it_begins_and_so_does_silence() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("done")).await;
    let (house, key) = house(&vendor).await;
    let admin = Admin::of(&house);
    let id = submit(&house, &key, "a costly and delicate matter").await;
    until(&house, &key, &id, "suspended").await;
    let (_, path) = standing(&admin).await;
    assert_eq!(admin.call("POST", &path, &word("reject", "user:kim")).await.status, 200);
    let run = until(&house, &key, &id, "failed").await;
    assert_eq!(run["error"]["code"], "approval_rejected", "{run:#}");
    // Of a long matter the last words are what it comes to.
    let said = format!("{} costly: yes, pay them all", "well, ".repeat(5_000));
    let talk = json!([{"role": "user", "content": "may I?"}, {"role": "user", "content": said}]);
    let body = json!({"request": {"model": "auto", "messages": talk}});
    let accepted = send(house.client(), &key, "/v1/runs", &body).await.json();
    until(&house, &key, accepted["id"].as_str().unwrap(), "suspended").await;
    let (asked, path) = standing(&admin).await;
    assert!(asked[0]["shows"].as_str().unwrap().ends_with("yes, pay them all"), "{asked:?}");
    assert_eq!(admin.call("POST", &path, &word("reject", "user:dana")).await.status, 200);
    let id = submit(&house, &key, "answer at once").await;
    let run = until(&house, &key, &id, "failed").await;
    assert_eq!(run["error"]["code"], "approval_rejected", "{run:#}");
    assert!(run["error"]["message"].as_str().unwrap().contains("in time"), "{run:#}");
    assert_eq!((vendor.count(), standing(&admin).await.0.len()), (0, 0));
}

/// Whoever may make keys can name one as they like: a name speaks for somebody only where an admin gave it.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_admin_gave_speaks_for_nobody() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("done")).await;
    let (house, key) = house(&vendor).await;
    let admin = Admin::of(&house);
    let (_, operator) = admin.key(json!({"role": "operator", "tenant": "acme"})).await;
    let dana = json!({"role": "viewer", "tenant": "acme", "name": "dana"});
    let as_operator = async |path: &str, body: &Value| {
        let made = admin.call_as(&operator, "POST", path, body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["key"].as_str().unwrap().to_owned()
    };
    let forged = as_operator("/keys", &dana).await;
    let (id, genuine) = admin.key(dana.clone()).await;
    let rotated = as_operator(&format!("/keys/{id}/rotate"), &json!({})).await;
    let (other, renamed) = admin.key(json!({"role": "viewer", "tenant": "acme", "name": "somebody"})).await;
    let change = json!({"name": "dana"});
    assert_eq!(admin.call_as(&operator, "PATCH", &format!("/keys/{other}"), &change).await.status, 200);
    let run = submit(&house, &key, "a costly matter").await;
    until(&house, &key, &run, "suspended").await;
    let (_, path) = standing(&admin).await;
    let approve = json!({"decision": "approve"});
    for stranger in [&forged, &rotated, &renamed] {
        let refused = admin.call_as(stranger, "POST", &path, &approve).await;
        assert_eq!(refused.status, 403, "{}", refused.text());
    }
    assert_eq!(vendor.count(), 0);
    let agreed = admin.call_as(&genuine, "POST", &path, &approve).await;
    assert_eq!(agreed.status, 200, "{}", agreed.text());
    until(&house, &key, &run, "succeeded").await;
}
