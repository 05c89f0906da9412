//! A client that leaves takes its upstream call with it: before the first token, after it, and while waiting
//! for a whole answer.

use serde_json::{Value, json};
use std::time::Duration;
use tests::admin::Admin;
use tests::client::{Client, Socket};
use tests::eventually;
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Fault, Reply, Usage, Vendor};

async fn start(dialect: Dialect, reply: Reply) -> (Vendor, House) {
    let vendor = Vendor::scripted(dialect, move |_| reply.clone()).await;
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
    (vendor, house)
}

fn ask(stream: bool) -> Value {
    json!({"model": "auto", "stream": stream, "messages": [{"role": "user", "content": "count slowly"}]})
}

async fn send(client: Client, body: &Value) -> Socket {
    let text = body.to_string();
    let mut socket = Socket::open(client.0).await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    assert!(socket.send(head + &text).await);
    socket
}

/// Asks, waits until the vendor has the request, and leaves.
async fn leave_while_waiting(dialect: Dialect, reply: Reply, stream: bool) {
    let (vendor, house) = start(dialect, reply).await;
    let socket = send(house.client(), &ask(stream)).await;
    assert!(eventually(Duration::from_secs(20), || vendor.count() == 1).await, "the vendor was not asked");
    drop(socket);
    assert!(vendor.seen()[0].wait_left().await, "the call goes on without a client ({dialect:?}, {stream})");
    // Neither tried again nor handed to anybody else, and nothing of it stays in work.
    let health = house.client().get("/healthz").await;
    assert_eq!(health.status, 200);
    assert_eq!(vendor.count(), 1, "asked again for a client that had left");
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_head() {
    for dialect in Dialect::ALL {
        leave_while_waiting(dialect, Reply::Hang, true).await;
        leave_while_waiting(dialect, Reply::Hang, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_token() {
    let late = Answer::text("too late").fault(1, Fault::Hang);
    leave_while_waiting(Dialect::OpenAi, Reply::Answer(late), true).await;
}

/// A vendor that says at once what went in, and then thinks: who leaves by then pays for that, not for an estimate.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_reported_before_the_client_left_is_charged() {
    // Nothing shows from outside that what the vendor wrote has been read.
    let mut total = Value::Null;
    for wait in [1, 4, 16] {
        total = charged_after(Duration::from_secs(wait)).await;
        if total["input_tokens"] == 4_000 {
            break;
        }
    }
    let input = (&total["input_tokens"], &total["cached_input_tokens"]);
    assert_eq!(input, (&json!(4_000), &json!(1_000)), "{total}");
}

/// What is charged to a client that leaves so long after the vendor has said what went in.
async fn charged_after(wait: Duration) -> Value {
    let usage = Usage { input: 4_000, cached_input: 1_000, output: 50, ..Usage::default() };
    let late = Answer { usage, ..Answer::text("too late") }.fault(1, Fault::Hang);
    let (vendor, house) = start(Dialect::Anthropic, Reply::Answer(late)).await;
    let admin = Admin::of(&house);
    let socket = send(house.client(), &ask(true)).await;
    let begun = || vendor.seen().first().is_some_and(|seen| seen.events() > 0);
    assert!(eventually(Duration::from_secs(20), begun).await, "the vendor said nothing");
    tokio::time::sleep(wait).await;
    drop(socket);
    assert!(vendor.seen()[0].wait_left().await, "the call goes on without a client");
    for _ in 0..400 {
        let total = admin.call("GET", "/usage", &Value::Null).await.json()["total"].clone();
        if total["requests"] == 1 {
            return total;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it is on no account\n{}", house.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_first_token() {
    for dialect in Dialect::ALL {
        let pieces = (0..2000).map(|i| format!("{i} ")).collect();
        let (vendor, house) =
            start(dialect, Reply::Answer(Answer::pieces(pieces).gap(Duration::from_millis(20)))).await;
        let mut events = house.client().stream(&ask(true)).await;
        let id = events.header("x-request-id").unwrap().to_owned();
        events.next().await.expect("a first event");
        drop(events);
        let seen = &vendor.seen()[0];
        assert!(seen.wait_left().await, "{dialect:?}: the vendor goes on");
        assert!(seen.events() < 1000, "{dialect:?}: {} events were paid for", seen.events());
        let record = house.decision(&id).await;
        assert_eq!(record["outcome"]["status"], "cancelled", "{record}");
    }
}

/// Waits until nothing more has been taken from the vendor for five seconds: the rest is in the sockets' buffers.
async fn stand_still(vendor: &Vendor) -> Vec<usize> {
    let (mut last, mut alike) = (Vec::new(), 0);
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now: Vec<usize> = vendor.seen().iter().map(|seen| seen.events()).collect();
        alike = if now == last && now.iter().all(|events| *events > 0) { alike + 1 } else { 0 };
        if alike == 5 {
            return now;
        }
        last = now;
    }
    panic!("it takes more and more: {last:?}");
}

/// A client that reads nothing slows the vendor down instead of filling our memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_holds_the_vendor_back() {
    let piece = "x".repeat(16 * 1024);
    let pieces = vec![piece; 4096]; // 64 MiB in all
    let (vendor, house) = start(Dialect::OpenAi, Reply::Answer(Answer::pieces(pieces))).await;
    let _socket = send(house.client(), &ask(true)).await;
    assert!(eventually(Duration::from_secs(20), || vendor.count() == 1).await);
    let taken = stand_still(&vendor).await;
    assert!(taken[0] < 2048, "{} of 4096 pieces were taken from the vendor", taken[0]);
}

/// Time in which a client reads nothing is none of the vendor's, however long the client waits to leave.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_makes_no_model_look_slow() {
    // More than lies in all buffers on the way.
    let pieces = vec!["x".repeat(16 * 1024); 1024];
    let vendor =
        Vendor::scripted(Dialect::OpenAi, move |_| Reply::Answer(Answer::pieces(pieces.clone()))).await;
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one").untimed()).start().await;
    let mut body = ask(true);
    body["routing"] = json!({"max_latency_ms": 6_000});
    let mut events = house.client().stream(&body).await;
    let id = events.header("x-turnout-decision").unwrap().to_owned();
    assert_eq!(events.status, 200);
    assert!(events.next().await.is_some());
    stand_still(&vendor).await;
    // Longer than the answer may take.
    tokio::time::sleep(Duration::from_secs(7)).await;
    drop(events);
    let record = house.decision(&id).await;
    let call = &record["run"]["steps"][0]["calls"][0];
    assert_eq!(call["error"]["kind"], "cancelled", "{record:#}");
    let ms = |what: &str| call[what].as_f64().unwrap_or_default();
    assert!(ms("unread_ms") > 0.9 * ms("total_ms"), "{call:#}");
}

/// A request of a key's holder, with what it says of clients that leave.
fn of_key(key: &str, stream: bool, option: Option<&str>) -> String {
    let mut body = ask(stream);
    if let Some(option) = option {
        body["routing"] = json!({"on_disconnect": option});
    }
    let body = body.to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The keys of a tenant whose requests are finished, and of one whose requests are not.
async fn patient_and_hasty(house: &House) -> (String, String) {
    let admin = Admin::of(house);
    admin.tenant(json!({"id": "patient", "on_disconnect": "finish"})).await;
    admin.tenant(json!({"id": "hasty"})).await;
    (admin.key(json!({"tenant": "patient"})).await.1, admin.key(json!({"tenant": "hasty"})).await.1)
}

/// Who says so, by option or for all of a tenant, has the answer made although nobody waits for it any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_finished_goes_on_without_its_client() {
    let pieces: Vec<String> = (0..100).map(|i| format!("{i} ")).collect();
    let (delay, gap) = (Duration::from_millis(300), Duration::from_millis(10));
    let (vendor, house) =
        start(Dialect::OpenAi, Reply::Answer(Answer::pieces(pieces).after(delay).gap(gap))).await;
    let (patient, hasty) = patient_and_hasty(&house).await;
    for (key, option) in [(&patient, None), (&hasty, Some("finish"))] {
        for stream in [false, true] {
            let before = vendor.count();
            let mut socket = Socket::open(house.client().0).await;
            assert!(socket.send(of_key(key, stream, option)).await);
            let asked = || vendor.count() > before;
            assert!(eventually(Duration::from_secs(20), asked).await, "the vendor was not asked");
            let seen = vendor.seen()[before].clone();
            if stream {
                // In the middle of its answer.
                assert!(eventually(Duration::from_secs(20), || seen.events() > 3).await);
            }
            drop(socket);
            let all = eventually(Duration::from_secs(20), || seen.done()).await;
            assert!(all && !seen.left(), "{option:?}, stream {stream}: the call was ended");
        }
    }
}

/// A request says otherwise than its tenant.
#[tokio::test(flavor = "multi_thread")]
async fn what_need_not_be_finished_is_ended() {
    let (vendor, house) = start(Dialect::OpenAi, Reply::Hang).await;
    let (patient, hasty) = patient_and_hasty(&house).await;
    for (key, option) in [(&patient, Some("cancel")), (&hasty, None)] {
        for stream in [false, true] {
            let before = vendor.count();
            let mut socket = Socket::open(house.client().0).await;
            assert!(socket.send(of_key(key, stream, option)).await);
            let asked = || vendor.count() > before;
            assert!(eventually(Duration::from_secs(20), asked).await, "the vendor was not asked");
            drop(socket);
            assert!(vendor.seen()[before].wait_left().await, "{option:?}, stream {stream}: the call goes on");
        }
    }
}

/// The record of a stream that was finished without its client is that of a whole answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_finished_is_on_record_as_delivered() {
    let pieces = (0..100).map(|i| format!("{i} ")).collect();
    let reply = Reply::Answer(Answer::pieces(pieces).gap(Duration::from_millis(10)));
    let (vendor, house) = start(Dialect::OpenAi, reply).await;
    let mut body = ask(true);
    body["routing"] = json!({"on_disconnect": "finish"});
    let mut events = house.client().stream(&body).await;
    let id = events.header("x-request-id").unwrap().to_owned();
    events.next().await.expect("a first event");
    drop(events);
    let record = house.decision(&id).await;
    assert_eq!(record["outcome"]["status"], "delivered", "{record}");
    assert!(vendor.seen()[0].done() && !vendor.seen()[0].left());
}

/// Who comes back with the same key gets the answer that was finished meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_gets_what_was_finished() {
    let (vendor, house) =
        start(Dialect::OpenAi, Reply::text("the answer").slow(Duration::from_millis(700))).await;
    let mut body = ask(false);
    body["routing"] = json!({"on_disconnect": "finish"});
    let text = body.to_string();
    let mut socket = Socket::open(house.client().0).await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nidempotency-key: again\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    assert!(socket.send(head + &text).await);
    assert!(eventually(Duration::from_secs(20), || vendor.count() == 1).await, "the vendor was not asked");
    drop(socket);
    let seen = vendor.seen()[0].clone();
    assert!(eventually(Duration::from_secs(20), || seen.done() || seen.left()).await);
    let headers = [("content-type", "application/json"), ("idempotency-key", "again")];
    let again = house.client().send("POST", "/v1/chat/completions", &headers, text.as_bytes()).await;
    assert_eq!((again.content().as_str(), vendor.count()), ("the answer", 1), "{}", again.text());
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
}

/// What a call may have used that was cut off counts on limits; reports and budgets tell it apart from what it is estimated to
/// have cost, and come to the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_limits_count_of_a_call_that_was_cut_off_is_told_apart() {
    let pieces = (0..2_000).map(|i| format!("{i} ")).collect();
    let slow = Reply::Answer(Answer::pieces(pieces).gap(Duration::from_millis(20)));
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| slow.clone()).await;
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one").price(10.0));
    let mut house = plan.start().await;
    let limits = json!([{"metric": "usd", "amount": 5, "per": "day"}]);
    let (id, key) = Admin::of(&house).key(json!({"name": "web", "limits": limits})).await;
    let text = ask(true).to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        text.len()
    );
    let mut socket = Socket::open(house.client().0).await;
    assert!(socket.send(head + &text).await);
    let begun = || vendor.seen().first().is_some_and(|seen| seen.events() > 2);
    assert!(eventually(Duration::from_secs(20), begun).await, "the vendor said nothing");
    drop(socket);
    assert!(vendor.seen()[0].wait_left().await, "the call goes on without a client");
    let mut total = Value::Null;
    for _ in 0..800 {
        total = Admin::of(&house).call("GET", "/usage", &Value::Null).await.json()["total"].clone();
        if total["requests"] == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let usd = |of: &Value, name: &str| of[name].as_f64().unwrap_or_else(|| panic!("no {name} in {of}"));
    let (cost, at_most) = (usd(&total, "cost_usd"), usd(&total, "at_most_usd"));
    assert!(cost > 0.0 && at_most > cost, "{total}");
    let budget = async |house: &House| {
        let all = Admin::of(house).call("GET", "/budgets", &Value::Null).await.json();
        let mut own = all["data"].as_array().unwrap().iter().filter(|b| b["holder"] == format!("key:{id}"));
        own.find(|b| b["metric"] == "usd").cloned().unwrap_or_else(|| panic!("{all}"))
    };
    let same = |a: f64, b: f64| (a - b).abs() < 1e-9;
    for restarted in [false, true] {
        if restarted {
            house.stop().await;
            house.restart().await;
        }
        let budget = budget(&house).await;
        assert_eq!(budget["in_work"], json!(0.0), "{budget}");
        assert!(same(usd(&budget, "used"), at_most), "{budget} {total}");
        assert!(same(usd(&budget, "at_most"), at_most - cost), "{budget} {total}");
    }
    let said = |output: std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let table = said(house.cli(&["usage"]).await);
    assert!(table.contains("USD at most, which is what limits count"), "{table}");
    let table = said(house.cli(&["budget"]).await);
    assert!(table.contains("at_most") && table.contains("in_work"), "{table}");
}
