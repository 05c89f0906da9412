//! What rules want told reaches the log and the webhook, once a minute, signed, and only where the operator allows.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::time::Duration;
use tests::house::{House, Model, Plan, cli};
use tests::service::Service;
use tests::vendor::{Dialect, Reply, Vendor};

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "a-secret-of-more-than-thirty-two-bytes";
const RULES: &str = "rules:\n  - { id: watched, actions: { notify: [] } }\n";

fn rules() -> String {
    let notify = "{ sink: log, message: somebody asks }";
    let denied = "{ id: stopped, when: 'request.user == \"eve\"', actions: { deny: no, notify: { sink: webhook, message: eve was here } } }";
    let watched = RULES.replace("[]", notify);
    format!("{NO_CHANCE}{watched}  - {denied}\n")
}

fn ask(user: &str) -> Value {
    json!({"model": "auto", "user": user, "messages": [{"role": "user", "content": "say hello"}]})
}

fn plan(vendor: &Vendor) -> Plan {
    Plan::new().vendor("lab", vendor).model(&Model::new("lab/one")).rules(&rules())
}

async fn count(house: &House, sink: &str, result: &str) -> f64 {
    let text = house.client().get("/metrics").await.text();
    let line = format!("turnout_notifications_total{{sink=\"{sink}\",result=\"{result}\"}}");
    text.lines().find_map(|l| l.strip_prefix(&line)?.trim().parse().ok()).unwrap_or(0.0)
}

async fn comes_to(house: &House, sink: &str, result: &str, want: f64) {
    let reached = tokio::time::timeout(PATIENCE, async {
        while count(house, sink, result).await < want {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(reached.await.is_ok(), "{}", house.client().get("/metrics").await.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_and_a_webhook_are_told_once_a_minute() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let hook = Service::start(|_| (204, String::new(), Duration::ZERO)).await;
    let settings = format!(
        "webhooks: {{ allow_hosts: [127.0.0.1], allow_http: true, allow_private: true, notify_url: \"{}/told\" }}",
        hook.origin()
    );
    let house = plan(&vendor).settings(&settings).env("TURNOUT_WEBHOOK_SECRET", SECRET).start().await;
    for _ in 0..3 {
        assert_eq!(house.client().chat(&ask("ada")).await.status, 200);
    }
    comes_to(&house, "log", "repeated", 2.0).await;
    assert_eq!(count(&house, "log", "sent").await, 1.0);
    assert_eq!(house.log().matches("somebody asks").count(), 1, "{}", house.log());
    assert!(hook.asked().is_empty());
    // A refused request is told of as well.
    let refused = house.client().chat(&ask("eve")).await;
    assert_eq!(refused.status, 403);
    comes_to(&house, "webhook", "sent", 1.0).await;
    let told = hook.asked();
    assert_eq!((told.len(), told[0].path.as_str()), (1, "/told"));
    let data = &told[0].body["data"];
    assert_eq!((&data["rule"], &data["message"]), (&json!("stopped"), &json!("eve was here")));
    assert_eq!(data["request_id"], refused.request_id());
    assert!(told[0].header("x-turnout-webhook-signature").is_some_and(|s| s.starts_with("sha256=")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_answer_holds_up_nobody_else() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let slow = |told: &tests::service::Asked| match told.body["data"]["message"].as_str() {
        Some("eve was here") => Duration::from_secs(3_600),
        _ => Duration::ZERO,
    };
    let hook = Service::start(move |told| (204, String::new(), slow(told))).await;
    let settings = format!(
        "webhooks: {{ allow_hosts: [127.0.0.1], allow_http: true, allow_private: true, notify_url: \"{}/told\" }}",
        hook.origin()
    );
    let other = "  - { id: other, when: 'request.user == \"bob\"', actions: { notify: { sink: webhook, message: bob was here } } }\n";
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one"));
    let plan = plan.rules(&format!("{}{other}", rules())).settings(&settings);
    let house = plan.env("TURNOUT_WEBHOOK_SECRET", SECRET).start().await;
    assert_eq!(house.client().chat(&ask("eve")).await.status, 403);
    assert!(tests::eventually(PATIENCE, || hook.asked().len() == 1).await);
    assert_eq!(house.client().chat(&ask("bob")).await.status, 200);
    comes_to(&house, "webhook", "sent", 1.0).await;
    comes_to(&house, "log", "sent", 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_address_nothing_leaves_and_it_is_counted() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = plan(&vendor).start().await;
    assert_eq!(house.client().chat(&ask("eve")).await.status, 403);
    comes_to(&house, "webhook", "unset", 1.0).await;
}

/// What would end a start is told by a check.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_of_an_address_that_cannot_be_told() {
    for (hosts, severity, message) in [
        ("[hooks.test]", "warning", "TURNOUT_WEBHOOK_SECRET"),
        ("[other.test]", "error", "webhooks.allow_hosts"),
    ] {
        let settings =
            format!("webhooks: {{ allow_hosts: {hosts}, notify_url: \"https://hooks.test/told\" }}");
        let folder = Plan::new()
            .provider("lab", "openai_chat", "http://127.0.0.1:9/v1")
            .model(&Model::new("lab/one"))
            .settings(&settings)
            .write();
        let output = cli(&folder, &["check", "--json"]).await;
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems = said["problems"].as_array().unwrap();
        let found = problems.iter().find(|p| p["message"].as_str().unwrap().contains(message));
        let found = found.unwrap_or_else(|| panic!("{message}: {said}"));
        assert_eq!((&found["field"], &found["severity"]), (&json!("webhooks.notify_url"), &json!(severity)));
        assert_eq!(output.status.success(), severity == "warning", "{said}");
    }
}
