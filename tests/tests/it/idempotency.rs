//! With an `Idempotency-Key` a chat request runs once, however often it is sent; without an end it never was.

use serde_json::{Value, json};
use std::time::Duration;
use tests::admin::Admin;
use tests::client::{Client, Response, Socket};
use tests::eventually;
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Fault, Gate, Reply, Vendor};

async fn start(reply: Reply) -> (Vendor, House) {
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| reply.clone()).await;
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
    (vendor, house)
}

fn ask(text: &str, stream: bool) -> Value {
    json!({"model": "lab/one", "stream": stream, "messages": [{"role": "user", "content": text}]})
}

async fn send(client: Client, key: &str, auth: &str, body: &Value) -> Response {
    let auth = format!("Bearer {auth}");
    let headers =
        [("content-type", "application/json"), ("idempotency-key", key), ("authorization", auth.as_str())];
    client.send("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes()).await
}

async fn once(house: &House, key: &str, body: &Value) -> Response {
    send(house.client(), key, "none", body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_is_given_again_and_nobody_is_asked_or_billed_twice() {
    let (vendor, house) = start(Reply::text("only once").costing(100, 50)).await;
    let first = once(&house, "k1", &ask("a", false)).await;
    let again = once(&house, "k1", &ask("a", false)).await;
    assert_eq!((first.status, again.status, vendor.count()), (200, 200, 1), "{}", again.text());
    assert_eq!(first.text(), again.text());
    assert_eq!(
        (first.header("idempotent-replayed"), again.header("idempotent-replayed")),
        (None, Some("true"))
    );
    let decision = "x-turnout-decision";
    assert_eq!(first.header(decision), again.header(decision));
    assert_ne!(first.request_id(), again.request_id());
    assert_ne!(first.header("x-turnout-cost-usd"), Some("0"));
    assert_eq!(again.header("x-turnout-cost-usd"), Some("0"));
    // Another key, or none, is another request.
    once(&house, "k2", &ask("a", false)).await;
    house.client().chat(&ask("a", false)).await;
    assert_eq!(vendor.count(), 3);
    let other = once(&house, "k1", &ask("b", false)).await;
    let error = other.error(409);
    assert_eq!(
        (error["code"].as_str(), error["param"].as_str()),
        (Some("idempotency_key_reused"), Some("idempotency-key"))
    );
    let wrong = once(&house, "not visible", &ask("a", false)).await;
    assert_eq!(wrong.error(400)["param"], "idempotency-key");
    assert_eq!(vendor.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_at_once_share_one_call() {
    let (vendor, house) = start(Reply::text("shared").slow(Duration::from_millis(300))).await;
    let client = house.client();
    let asks =
        (0..12).map(|_| tokio::spawn(async move { send(client, "k", "none", &ask("a", false)).await }));
    let mut texts = Vec::new();
    for a in asks.collect::<Vec<_>>() {
        let r = a.await.unwrap();
        assert_eq!(r.status, 200, "{}", r.text());
        texts.push(r.text());
    }
    texts.dedup();
    assert_eq!((texts.len(), vendor.count()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_given_again_whole() {
    let (vendor, house) = start(Reply::text("piece by piece")).await;
    let first = once(&house, "k", &ask("a", true)).await;
    let again = once(&house, "k", &ask("a", true)).await;
    assert_eq!((first.status, again.status, vendor.count()), (200, 200, 1));
    assert!(again.text().trim_end().ends_with("data: [DONE]"), "{}", again.text());
    // The same but for the comment on what it cost: this one costs nothing.
    let (paid, free) = (first.text(), again.text());
    let differ: Vec<_> = paid.lines().zip(free.lines()).filter(|(a, b)| a != b).collect();
    assert_eq!((differ.len(), paid.lines().count()), (1, free.lines().count()), "{paid}\n{free}");
    assert!(differ[0].0.starts_with(": turnout ") && differ[0].1.ends_with("cost_usd=0"), "{differ:?}");
    assert_eq!(first.header("content-type"), again.header("content-type"));
    // What the first one cost was not known when it began; that the second one costs nothing is.
    let cost = "x-turnout-cost-usd";
    assert_eq!((first.header(cost), again.header(cost)), (None, Some("0")));
    // The same key for a whole answer is another body.
    let _ = once(&house, "k", &ask("a", false)).await.error(409);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_broke_off_runs_again() {
    let (vendor, house) = start(Reply::Answer(Answer::text("one two three four").fault(2, Fault::Cut))).await;
    let broken = once(&house, "k", &ask("a", true)).await;
    assert!(!broken.text().contains("[DONE]"), "{}", broken.text());
    let before = vendor.count();
    vendor.otherwise(|_| Reply::text("whole now"));
    let again = once(&house, "k", &ask("a", true)).await;
    assert!(again.text().trim_end().ends_with("data: [DONE]") && vendor.count() > before, "{}", again.text());
    assert!(again.text().contains("whole ") && !again.text().contains("\"one "), "{}", again.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_leaves_nothing_behind_and_who_waits_runs_instead() {
    let (vendor, house) = start(Reply::Hang).await;
    let text = ask("a", false).to_string();
    let mut socket = Socket::open(house.client().0).await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nidempotency-key: k\r\nauthorization: Bearer none\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    assert!(socket.send(head + &text).await);
    assert!(eventually(Duration::from_secs(20), || vendor.count() == 1).await);
    vendor.otherwise(|_| Reply::text("for the second"));
    let client = house.client();
    let waits = tokio::spawn(async move { send(client, "k", "none", &ask("a", false)).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waits.is_finished(), "it did not wait for the first");
    drop(socket);
    let answer = waits.await.unwrap();
    assert_eq!((answer.status, answer.content().as_str()), (200, "for the second"), "{}", answer.text());
    assert_eq!((vendor.count(), answer.header("idempotent-replayed")), (2, None));
}

/// Those that wait hold nothing of what all requests share, and there are only so many of them.
#[tokio::test(flavor = "multi_thread")]
async fn those_that_wait_are_few_and_give_their_bodies_back() {
    const WAIT: usize = 16;
    let gate = Gate::default();
    let held = gate.clone();
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| Reply::text("shared").held(&held)).await;
    let house = Plan::new()
        .vendor("lab", &vendor)
        .timeouts("connect: 10s, first_token: 90s, inter_token: 20s, total: 100s")
        .model(&Model::new("lab/one"))
        .settings("edge: {body_bytes: 1MiB, body_bytes_inflight: 1MiB}\n")
        .start()
        .await;
    let client = house.client();
    // All of them fit beside each other, and then nothing large does.
    let body = ask(&"word ".repeat(8_000), false);
    let asks = |body: Value| tokio::spawn(async move { send(client, "k", "none", &body).await });
    let first = asks(body.clone());
    assert!(eventually(Duration::from_secs(20), || vendor.count() == 1).await, "\n{}", house.log());
    let mut line: Vec<_> = (0..=WAIT).map(|_| asks(body.clone())).collect();
    let one_is_back = || line.iter().any(tokio::task::JoinHandle::is_finished);
    assert!(eventually(Duration::from_secs(60), one_is_back).await, "all of them wait");
    let at = line.iter().position(tokio::task::JoinHandle::is_finished).unwrap();
    let beyond = line.remove(at).await.unwrap();
    assert_eq!(beyond.error(409)["code"], "idempotency_key_in_work");
    assert_eq!(beyond.header("x-should-retry"), Some("true"));
    let large = client.chat(&json!({"messages": "x".repeat(600 * 1024)})).await;
    assert_eq!(large.status, 400, "{}", large.text());
    gate.open();
    for answer in line.into_iter().chain([first]) {
        let answer = answer.await.unwrap();
        assert_eq!((answer.status, answer.content().as_str()), (200, "shared"), "{}", answer.text());
    }
    assert_eq!(vendor.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_may_pass_is_forgotten_and_a_wrong_request_stays_wrong() {
    let (vendor, house) = start(Reply::error(503)).await;
    let _ = once(&house, "k", &ask("a", false)).await.error(503);
    vendor.otherwise(|_| Reply::text("well again"));
    let again = once(&house, "k", &ask("a", false)).await;
    assert_eq!(again.status, 200, "{}", again.text());
    vendor.otherwise(|_| Reply::error(422));
    let wrong = once(&house, "w", &ask("a", false)).await;
    let (status, calls) = (wrong.status, vendor.count());
    assert!((400..500).contains(&status), "{}", wrong.text());
    let again = once(&house, "w", &ask("a", false)).await;
    assert_eq!((again.status, again.text(), vendor.count()), (status, wrong.text(), calls));
    assert_eq!(again.header("x-should-retry"), Some("false"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_different_callers_have_nothing_to_do_with_each_other() {
    let (vendor, house) = start(Reply::text("mine")).await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme"})).await;
    let (_, one) = admin.key(json!({"tenant": "acme", "name": "one"})).await;
    let (_, two) = admin.key(json!({"tenant": "acme", "name": "two"})).await;
    for (key, calls) in [(&one, 1), (&two, 2), (&one, 2), (&two, 2)] {
        let r = send(house.client(), "k", key, &ask("a", false)).await;
        assert_eq!((r.status, vendor.count()), (200, calls), "{}", r.text());
    }
}
