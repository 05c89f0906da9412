//! A virtual key is known by name wherever it is refused, is made only where somebody says so, and keeps its limits when
//! it is rotated.

use serde_json::{Value, json};
use tests::admin::{Admin, send};
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

const CHAT: &str = "/v1/chat/completions";
const RULES: &str = "rules:
  - { id: no, when: request.last_user_text == \"denied\", actions: { deny: { reason: no, code: never } } }
  - { id: per_key, when: request.last_user_text == \"rule\", actions: { rate_limit: { per: key, requests: 2, window: day } } }
";

async fn house(vendor: &Vendor) -> House {
    Plan::new()
        .vendor("lab", vendor)
        .model(&Model::new("lab/one"))
        .rules(&format!("{}{RULES}", crate::NO_CHANCE))
        .start()
        .await
}

async fn hello() -> Vendor {
    Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await
}

fn ask(text: &str) -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": text}]})
}

/// The newest line of the trail that refuses a request with that code; waits for it to be there.
async fn refused(admin: &Admin, code: &str) -> Value {
    for _ in 0..1_200 {
        let lines = admin.call("GET", "/audit?limit=1000", &Value::Null).await.json();
        let of_code = |l: &&Value| l["action"] == "request.denied" && l["detail"]["code"] == code;
        if let Some(line) = lines["data"].as_array().unwrap().iter().rev().find(of_code) {
            return line.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("no line of {code}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_names_the_key_that_was_refused_and_never_shows_it() {
    let vendor = hello().await;
    let house = house(&vendor).await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme"})).await;
    let mut texts = Vec::new();
    let mut made = async |name: &str| {
        let (id, text) = admin.key(json!({"tenant": "acme", "name": name})).await;
        texts.push(text.clone());
        (id, text)
    };
    let (of_rule, expired, revoked, suspended) =
        (made("asks").await, made("ends").await, made("gone").await, made("held").await);
    let path = |id: &str| format!("/keys/{id}");
    let rotated = admin.call("POST", &format!("{}/rotate", path(&expired.0)), &json!({"grace_s": 0})).await;
    assert_eq!(rotated.status, 201, "{}", rotated.text());
    assert_eq!(admin.call("DELETE", &path(&revoked.0), &Value::Null).await.status, 200);
    let held = admin.call("PATCH", &path(&suspended.0), &json!({"suspended": true})).await;
    assert_eq!(held.status, 200, "{}", held.text());
    for ((id, text), name, asked, code, reason) in [
        (&expired, "ends", "hi", "expired_api_key", json!("the key has expired")),
        (&revoked, "gone", "hi", "invalid_api_key", json!("the key was revoked")),
        (
            &suspended,
            "held",
            "hi",
            "key_suspended",
            json!("the key is suspended: whoever runs this server can take that back"),
        ),
        // Its record tells.
        (&of_rule, "asks", "denied", "never", Value::Null),
    ] {
        let said = send(house.client(), text, CHAT, &ask(asked)).await;
        assert!([401, 403].contains(&said.status), "{name}: {}", said.text());
        let line = refused(&admin, code).await;
        assert_eq!((&line["actor"]["kind"], &line["actor"]["id"]), (&json!("key"), &json!(id)), "{line}");
        assert_eq!((&line["detail"]["key_name"], &line["tenant"]), (&json!(name), &json!("acme")), "{line}");
        assert_eq!(line["detail"]["reason"], reason, "{line}");
    }
    // Who only knows the public part of a key is not its holder.
    let (_, good) = &of_rule;
    let mut bad = good.clone();
    let last = if bad.pop() == Some('0') { '1' } else { '0' };
    bad.push(last);
    texts.push(bad.clone());
    assert_eq!(send(house.client(), &bad, CHAT, &ask("hi")).await.status, 401);
    let nobody = async || {
        let lines = admin.call("GET", "/audit?limit=1000", &Value::Null).await.json();
        let unknown = json!("the key is not known here, or not whole");
        lines["data"].as_array().unwrap().iter().any(|l| l["detail"]["reason"] == unknown)
    };
    let mut is_told = false;
    for _ in 0..1_200 {
        is_told = nobody().await;
        if is_told {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert!(is_told, "why it was refused stands on the trail, whoever held it");
    let all = admin.call("GET", "/audit?limit=1000", &Value::Null).await.text();
    for text in texts {
        let (_, secret) = text.split_once('_').unwrap();
        assert!(!all.contains(secret), "bytes of a key stand on the trail");
    }
}

/// Requests that limits refuse stand on the trail: one by one while they are few, and as a sum when they are many.
#[tokio::test(flavor = "multi_thread")]
async fn what_limits_refuse_is_on_the_trail_and_does_not_fill_it() {
    let vendor = hello().await;
    let mut house = house(&vendor).await;
    let admin = Admin::of(&house);
    let limits = json!([{"metric": "requests", "amount": 4, "per": "day"}]);
    let (id, key) = admin.key(json!({"name": "web", "limits": limits})).await;
    for _ in 0..2 {
        assert_eq!(send(house.client(), &key, CHAT, &ask("rule")).await.status, 200);
    }
    // Of a rule. Which rules set limits, too, says nothing of the one that refused.
    assert_eq!(send(house.client(), &key, CHAT, &ask("rule")).await.status, 429);
    let line = refused(&admin, "rate_limit_exceeded").await;
    let limit = format!("the limit of 2 requests per day for rule:per_key:key={id} (2 requests used)");
    assert_eq!((&line["actor"]["id"], &line["detail"]["limit"]), (&json!(id), &json!(limit)), "{line}");
    // Of the key: at the door, where nothing is recorded.
    while send(house.client(), &key, CHAT, &ask("hi")).await.status == 200 {}
    let run = json!({"request": {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}});
    assert_eq!(send(house.client(), &key, "/v1/runs", &run).await.status, 429);
    for _ in 0..100 {
        assert_eq!(send(house.client(), &key, CHAT, &ask("hi")).await.status, 429);
    }
    let metrics = house.client().get("/metrics").await.text();
    let counted = |of: &str| {
        let name = format!("turnout_limit_refusals_total{{limit=\"{of}\",metric=\"requests\"}} ");
        let of = metrics.lines().find_map(|l| l.strip_prefix(&name));
        of.map_or(0, |n| n.parse::<u64>().unwrap())
    };
    assert_eq!((counted("rule"), counted("key")), (1, 102), "{metrics}");
    // What was only counted is told at the latest when the server stops.
    house.stop().await;
    house.restart().await;
    let lines = Admin::of(&house).call("GET", "/audit?limit=1000", &Value::Null).await.json();
    let lines: Vec<&Value> = lines["data"].as_array().unwrap().iter().collect();
    let of_key = |l: &&&Value| l["action"] == "request.denied" && l["actor"]["id"] == json!(id);
    let told: Vec<&&Value> = lines.iter().filter(of_key).collect();
    assert!(told.len() <= 64, "{told:#?}");
    let times: u64 = told.iter().map(|l| l["detail"]["times"].as_u64().unwrap_or(1)).sum();
    assert_eq!(times, 103, "{told:#?}");
    // Every one of them says which limit it was, whose and over which time, and one by itself how it stood.
    for line in told.iter().filter(|l| l["target"] == "chat" || l["target"] == "runs") {
        let limit = format!("the limit of 4 requests per day for key:{id}");
        let alone = format!("{limit} (4 requests used)");
        let want = if line["detail"]["times"].is_null() { alone } else { limit };
        assert_eq!(line["detail"]["limit"], want, "{line}");
    }
    assert!(told.iter().any(|l| l["target"] == "chat" && l["detail"]["times"].is_u64()), "{told:#?}");
    assert!(
        told.iter().any(|l| l["target"] == "runs") && told.iter().any(|l| l["target"] == "chat"),
        "{told:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_neither_renews_nor_doubles_what_a_key_may_use() {
    let vendor = hello().await;
    let house = house(&vendor).await;
    let admin = Admin::of(&house);
    let limits = json!([{"metric": "requests", "amount": 4, "per": "day"}]);
    let (first, mut key) = admin.key(json!({"name": "web", "limits": limits})).await;
    let mut id = first.clone();
    let mut all = vec![key.clone()];
    for _ in 0..2 {
        assert_eq!(send(house.client(), &key, CHAT, &ask("rule")).await.status, 200);
        let next = admin.call("POST", &format!("/keys/{id}/rotate"), &json!({"grace_s": 600})).await;
        assert_eq!(next.status, 201, "{}", next.text());
        let next = next.json();
        assert_eq!(next["counts_as"], first, "{next}");
        id = next["id"].as_str().unwrap().to_owned();
        key = next["key"].as_str().unwrap().to_owned();
        all.push(key.clone());
    }
    // Two of four are used, and both of the rule's.
    for key in &all {
        assert_eq!(
            send(house.client(), key, CHAT, &ask("rule")).await.error(429)["code"],
            "rate_limit_exceeded"
        );
    }
    assert_eq!(send(house.client(), &all[0], CHAT, &ask("hi")).await.status, 200);
    assert_eq!(send(house.client(), &all[2], CHAT, &ask("hi")).await.status, 200);
    for key in &all {
        assert_eq!(send(house.client(), key, CHAT, &ask("hi")).await.status, 429);
    }
    let budgets = admin.call("GET", "/budgets", &Value::Null).await.json();
    let of_keys = budgets["data"].as_array().unwrap().iter().filter(|b| b["metric"] == "requests");
    let of_keys: Vec<&Value> = of_keys.collect();
    assert_eq!((of_keys.len(), &of_keys[0]["holder"]), (1, &json!(format!("key:{first}"))), "{budgets}");
    assert_eq!((&of_keys[0]["used"], &of_keys[0]["limit"]), (&json!(4), &json!(4)), "{budgets}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_only_where_somebody_says_for_what() {
    let vendor = hello().await;
    let house = house(&vendor).await;
    let admin = Admin::of(&house);
    let refused = admin.call("POST", "/keys", &Value::Null).await;
    assert_eq!(refused.error(400)["code"], "body_required");
    let keys = admin.call("GET", "/keys", &Value::Null).await.json();
    assert_eq!(keys["data"], json!([]), "none was made");
    assert_eq!(admin.call("POST", "/keys", &json!({})).await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_what_is_in_work_has_no_window() {
    let vendor = hello().await;
    let house = house(&vendor).await;
    let admin = Admin::of(&house);
    admin.key(json!({"name": "web", "limits": [{"metric": "concurrency", "amount": 2}]})).await;
    let budgets = admin.call("GET", "/budgets", &Value::Null).await.json();
    assert_eq!(budgets["data"][0]["window"], Value::Null, "{budgets}");
    let said = house.cli(&["budget"]).await;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("concurrency") && !said.contains("0 s") && !said.contains("1 ms"), "{said}");
}

/// Whoever found a key, or guesses one, is seen to try it.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_the_control_api_refuses_are_on_the_trail() {
    let vendor = hello().await;
    let house = house(&vendor).await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme"})).await;
    let (id, asks) = admin.key(json!({"tenant": "acme", "name": "asks"})).await;
    let unknown = admin.call_as("sk-to-made-up", "GET", "/keys", &Value::Null).await;
    assert_eq!(unknown.status, 401, "{}", unknown.text());
    let line = refused(&admin, "invalid_admin_key").await;
    assert_eq!((&line["target"], &line["actor"]["id"]), (&json!("admin"), &json!("")), "{line}");
    let wrong = admin.call_as(&asks, "DELETE", &format!("/keys/{id}"), &Value::Null).await;
    assert_eq!(wrong.error(403)["code"], "role_missing");
    let line = refused(&admin, "role_missing").await;
    assert_eq!((&line["target"], &line["actor"]["id"]), (&json!("admin"), &json!(id)), "{line}");
}
