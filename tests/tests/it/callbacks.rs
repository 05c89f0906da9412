//! Who asked to be told of a run's end is told: once it is allowed, signed, until it is taken, and after a kill.

use ring::hmac;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tests::house::{House, Model, Plan};
use tests::service::{Asked, Service};
use tests::vendor::{Dialect, Gate, Reply, Vendor};

const SECRET: &str = "thirty-two bytes and some more of it";

fn plan(vendor: &Vendor) -> Plan {
    let hosts = "webhooks: { allow_hosts: [127.0.0.1], allow_http: true, allow_private: true }\n";
    Plan::new()
        .vendor("lab", vendor)
        .model(&Model::new("lab/one"))
        .rules(crate::NO_CHANCE)
        .settings(hosts)
        .env("TURNOUT_WEBHOOK_SECRET", SECRET)
}

fn wish(url: &str) -> Value {
    json!({"request": {"messages": [{"role": "user", "content": "hello"}]}, "callback_url": url})
}

async fn submit(house: &House, url: &str) -> String {
    let made = house.client().post("/v1/runs", &wish(url)).await;
    assert_eq!(made.status, 202, "{}", made.text());
    made.json()["id"].as_str().unwrap().to_owned()
}

/// Waits until so many have arrived.
async fn told(service: &Service, count: usize, house: &House) -> Vec<Asked> {
    for _ in 0..1_200 {
        if service.asked().len() >= count {
            return service.asked();
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{} of {count} arrived\n{}", service.asked().len(), house.log());
}

/// A receiver that holds the secret finds that the house wrote it.
fn is_signed(asked: &Asked) {
    let part = |name: &str| asked.header(name).unwrap_or_else(|| panic!("no {name}: {asked:?}"));
    let (id, at) = (part("x-turnout-webhook-id"), part("x-turnout-webhook-timestamp"));
    let hex = part("x-turnout-webhook-signature").strip_prefix("sha256=").unwrap();
    let signature: Vec<u8> =
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let text = format!("{id}.{at}.{}", asked.text);
    hmac::verify(&key, text.as_bytes(), &signature).unwrap_or_else(|_| panic!("not signed: {asked:?}"));
    assert_eq!(asked.body["id"], id, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_run_is_told_until_it_is_taken() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("done")).await;
    // The first time the receiver is in trouble.
    let tries = AtomicU32::new(0);
    let service = Service::start(move |_| {
        let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
        (if first { 500 } else { 200 }, "{}".to_owned(), Duration::ZERO)
    })
    .await;
    let house = plan(&vendor).start().await;

    let elsewhere = house.client().post("/v1/runs", &wish("http://localhost.example/told")).await.error(400);
    assert_eq!(
        (&elsewhere["code"], &elsewhere["param"]),
        (&json!("callback_not_allowed"), &json!("callback_url")),
        "{elsewhere}"
    );
    assert_eq!(vendor.count(), 0, "it has not begun");

    let id = submit(&house, &format!("{}/told", service.origin())).await;
    let all = told(&service, 2, &house).await;
    for asked in &all {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/told"));
        is_signed(asked);
        let event = (&asked.body["type"], &asked.body["data"]["id"]);
        assert_eq!(event, (&json!("run.succeeded"), &json!(id)), "{asked:?}");
    }
    let names: Vec<_> = all.iter().map(|a| a.header("x-turnout-webhook-id")).collect();
    assert_eq!(names[0], names[1], "a repetition is known by its name");
    assert_eq!(all.iter().map(|a| a.body["attempt"].clone()).collect::<Vec<_>>(), [json!(1), json!(2)]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(service.asked().len(), 2, "what was taken is not told again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_server_was_killed_is_told_of_after_its_restart() {
    // It answers once the server has been killed, and not before.
    let gate = Gate::default();
    let held = Reply::text("done").held(&gate);
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| held.clone()).await;
    let service = Service::saying(200, "{}").await;
    let mut house = plan(&vendor).start().await;
    let id = submit(&house, &format!("{}/told", service.origin())).await;
    assert!(tests::eventually(Duration::from_secs(20), || vendor.count() == 1).await, "{}", house.log());
    house.kill().await;
    assert!(service.asked().is_empty());
    gate.open();
    house.restart().await;
    let all = told(&service, 1, &house).await;
    is_signed(&all[0]);
    assert_eq!(
        (&all[0].body["type"], &all[0].body["data"]["id"]),
        (&json!("run.succeeded"), &json!(id)),
        "{all:?}"
    );
}
