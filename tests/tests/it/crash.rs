//! `kill -9` under load loses nothing that was acknowledged. `CRASH_ROUNDS` sets the number of kills (3).

use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::admin::{Admin, get, send};
use tests::client::{Client, Socket};
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Fault, Reply, Vendor};

/// What the server told its clients.
#[derive(Default)]
struct Told {
    requests: Vec<String>,
    feedback: Vec<String>,
}

/// Asks until the server is gone, whole and streamed in turn; notes what it said to the end.
async fn load(client: Client, told: Arc<Mutex<Told>>, who: usize) {
    for i in 0_usize.. {
        let body = json!({
            "model": "auto", "stream": i % 2 == 1,
            "messages": [{"role": "user", "content": format!("client {who} asks {i}")}],
        })
        .to_string();
        let Some(id) = ask(client, "/v1/chat/completions", &body).await else { return };
        told.lock().unwrap().requests.push(id.clone());
        if i % 3 == 0 {
            let word = json!({"request_id": id, "score": 0.5, "source": "load"}).to_string();
            if ask(client, "/v1/feedback", &word).await.is_none() {
                return;
            }
            told.lock().unwrap().feedback.push(id);
        }
    }
}

/// The id of an answer that came whole with a status of success; `None` when the server is gone.
async fn ask(client: Client, path: &str, body: &str) -> Option<String> {
    let mut socket = Socket::try_open(client.0).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    socket.send(head + body).await;
    let answer = socket.response().await?;
    assert!(answer.status < 300, "{}", answer.text());
    let streamed = answer.header("content-type").is_some_and(|t| t.starts_with("text/event-stream"));
    (!streamed || answer.text().contains("data: [DONE]")).then(|| answer.request_id())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost() {
    let rounds: usize = std::env::var("CRASH_ROUNDS").ok().and_then(|v| v.parse().ok()).unwrap_or(3);
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("an answer in a few words")).await;
    let mut house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
    let mut all = Told::default();
    for round in 0..rounds {
        let told = Arc::new(Mutex::new(Told::default()));
        let mut clients = tokio::task::JoinSet::new();
        for who in 0..8 {
            clients.spawn(load(house.client(), Arc::clone(&told), who));
        }
        let answered = || told.lock().unwrap().requests.len() > 20;
        assert!(tests::eventually(Duration::from_secs(60), answered).await, "{}", house.log());
        // A different moment each round, so that the kill meets the spool and the database in every state.
        tokio::time::sleep(Duration::from_millis(170 * round as u64)).await;
        house.kill().await;
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        house.restart().await;
        let told = std::mem::take(&mut *told.lock().unwrap());
        all.requests.extend(told.requests);
        all.feedback.extend(told.feedback);
        for id in &all.requests {
            let answer = house.client().get(&format!("/v1/decisions/{id}")).await;
            assert_eq!(answer.status, 200, "round {round}: {id} was answered and is lost");
            let record = answer.json();
            assert_eq!(record["outcome"]["status"], "delivered", "{record}");
        }
        for id in &all.feedback {
            let record = house.client().get(&format!("/v1/decisions/{id}")).await.json();
            assert_eq!(
                record["feedback"].as_array().map(Vec::len),
                Some(1),
                "round {round}: word on {id}: {record}"
            );
        }
    }
    // The command line finds them as well, while the server runs.
    for id in all.requests.iter().rev().take(5) {
        let shown = house.cli(&["explain", id, "--json"]).await;
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.status.success() && text.contains(id.as_str()), "{id}: {text}");
    }
}

/// What was called for a request that a kill cuts off may have to be paid: it is on record at what it had reserved.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_kill_cuts_off_is_on_record_at_what_it_had_reserved() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| {
        Reply::Answer(Answer::text("so much and then nothing").fault(3, Fault::Hang))
    })
    .await;
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one"));
    let mut house = plan.start().await;
    let body = |stream: bool| {
        json!({"model": "auto", "stream": stream, "max_tokens": 1000,
               "messages": [{"role": "user", "content": "slowly"}]})
    };
    let mut events = house.client().stream(&body(true)).await;
    let id = events.header("x-turnout-decision").expect("it is named").to_owned();
    events.next().await.unwrap();
    // The other one is told nothing: what was called for it counts all the same.
    let client = house.client();
    let whole =
        tokio::spawn(async move { ask(client, "/v1/chat/completions", &body(false).to_string()).await });
    assert!(tests::eventually(Duration::from_secs(30), || vendor.count() == 2).await);
    house.kill().await;
    assert_eq!(whole.await.unwrap(), None);
    house.restart().await;
    let record = house.client().get(&format!("/v1/decisions/{id}")).await.json();
    let (outcome, call) = (&record["outcome"], &record["run"]["steps"][0]["calls"][0]);
    assert_eq!((&outcome["status"], &outcome["error"]), (&json!("failed"), &json!("unsettled")), "{record}");
    assert_eq!((&outcome["calls"], &call["model"]), (&json!(1), &json!("lab/one")), "{record}");
    // A thousand tokens of an answer at a dollar a million, and what goes in.
    let cost = outcome["cost_usd"].as_f64().unwrap();
    assert!((0.001..0.002).contains(&cost), "{record}");
    let usage = Admin::of(&house).call("GET", "/usage?group_by=model", &json!(null)).await.json();
    let row = &usage["data"][0];
    assert_eq!((&row["group"], &row["requests"], &row["failed"]), (&json!("lab/one"), &json!(2), &json!(2)));
    assert_eq!(row["calls"], 2, "{usage}");
    let shown = house.cli(&["explain", &id]).await;
    assert!(String::from_utf8_lossy(&shown.stdout).contains("unsettled"), "{shown:?}");
}

/// Three answers, and then a request and a run that a kill cuts off: what budgets count is what records and reports say,
/// neither what had been set aside for the whole of each nor what the disk ran ahead of it.
#[tokio::test(flavor = "multi_thread")]
async fn budgets_say_after_a_kill_what_records_say() {
    let hangs = Arc::new(AtomicBool::new(true));
    let slowly = hangs.clone();
    let vendor = Vendor::scripted(Dialect::OpenAi, move |seen| {
        match seen.body.to_string().contains("slowly") && slowly.load(Ordering::Relaxed) {
            true => Reply::Answer(Answer::text("an answer").fault(0, Fault::Hang)),
            false => Reply::text("an answer").costing(1_000, 500),
        }
    })
    .await;
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).rules(crate::NO_CHANCE);
    let mut house = plan.start().await;
    let admin = Admin::of(&house);
    let limit = |per: &str| json!([{"metric": "usd", "amount": 10.0, "per": per}]);
    admin.tenant(json!({"id": "acme", "limits": limit("month")})).await;
    let (_, key) = admin.key(json!({"tenant": "acme", "limits": limit("day")})).await;
    let body = |text: &str| json!({"model": "lab/one", "max_tokens": 1000, "messages": [{"role": "user", "content": text}]});
    for _ in 0..3 {
        assert_eq!(send(house.client(), &key, "/v1/chat/completions", &body("quickly")).await.status, 200);
    }
    let asked = body("slowly").to_string();
    let mut cut_off = Socket::try_open(house.client().0).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         authorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n",
        asked.len()
    );
    cut_off.send(head + &asked).await;
    let run = send(house.client(), &key, "/v1/runs", &json!({"request": body("slowly")})).await;
    assert_eq!(run.status, 202, "{}", run.text());
    let path = format!("/v1/runs/{}", run.json()["id"].as_str().unwrap());
    assert!(tests::eventually(Duration::from_secs(20), || vendor.count() == 5).await, "{}", house.log());
    // What the disk says runs ahead of what is used: it is written every second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    house.kill().await;
    drop(cut_off);
    hangs.store(false, Ordering::Relaxed);
    house.restart().await;
    for _ in 0..1_200 {
        if get(house.client(), &key, &path).await.json()["status"] == "succeeded" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let admin = Admin::of(&house);
    let mut last = (json!(null), json!(null));
    for _ in 0..1_200 {
        last.0 = admin.call("GET", "/budgets", &json!(null)).await.json()["data"].clone();
        last.1 = admin.call("GET", "/usage?group_by=key", &json!(null)).await.json()["total"].clone();
        if last.1["requests"] == 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let spent = last.1["cost_usd"].as_f64().unwrap();
    // Four answers at 0.0015, and two calls that may have been billed.
    assert!((0.008..0.01).contains(&spent) && last.1["calls"] == 6, "{last:?}");
    let rows = last.0.as_array().unwrap();
    assert!(rows.len() == 2, "{last:?}");
    for row in rows {
        assert!((row["used"].as_f64().unwrap() - spent).abs() < 1e-9, "{last:?}");
    }
}

/// Two calls, one after the other.
const TWICE: &str = "version: 1
name: twice
nodes:
  - { id: first, type: generate, params: { temperature: 0.1 } }
  - { id: second, type: generate, params: { temperature: 0.2 }, needs: first }
output: nodes.second.completion
";

/// What was set aside for a call that nobody has made, and nobody will, counts nowhere after a kill: neither on limits of
/// tokens, nor on those of a model, a label or a rule.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_holds_any_more_counts_on_no_limit() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| match seen.body.to_string().contains("slowly") {
        true => Reply::Answer(Answer::text("nothing").fault(0, Fault::Hang)),
        false => Reply::text("an answer").costing(1_000, 500),
    })
    .await;
    let rule = "rules:\n  - { id: each, actions: { rate_limit: { per: user, usd: 0.0075, window: 1d } } }\n";
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one"));
    let plan = plan.rules(&format!("{}{rule}", crate::NO_CHANCE)).file("workflows/twice.yaml", TWICE);
    let mut house = plan.start().await;
    let limits = json!([
        {"metric": "tokens", "amount": 100_000, "per": "day"},
        {"metric": "usd", "amount": 10.0, "per": "day", "model": "lab/one"},
        {"metric": "usd", "amount": 10.0, "per": "day", "label": "team=red"},
    ]);
    let (_, key) = Admin::of(&house).key(json!({"limits": limits, "labels": {"team": "red"}})).await;
    let body = |model: &str, tokens: u32, text: &str| json!({"model": model, "max_tokens": tokens, "user": "ada", "messages": [{"role": "user", "content": text}]});
    let chat =
        async |house: &House, body: &Value| send(house.client(), &key, "/v1/chat/completions", body).await;
    for _ in 0..3 {
        assert_eq!(chat(&house, &body("lab/one", 1_000, "quickly")).await.status, 200);
    }
    // Of the second call, for which as much is set aside, nothing ever comes.
    let asked = body("workflow/twice", 1_000, "slowly");
    let (client, bearer) = (house.client(), format!("Bearer {key}"));
    let cut_off = tokio::spawn(async move {
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        let body = asked.to_string();
        client.send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await
    });
    assert!(tests::eventually(Duration::from_secs(20), || vendor.count() == 4).await, "{}", house.log());
    house.kill().await;
    cut_off.abort();
    house.restart().await;
    let usage = Admin::of(&house).call("GET", "/usage?group_by=key", &json!(null)).await.json();
    let spent = usage["total"]["cost_usd"].as_f64().unwrap();
    assert!((0.0055..0.0056).contains(&spent) && usage["total"]["calls"] == 4, "{usage}");
    let rows = Admin::of(&house).call("GET", "/budgets", &json!(null)).await.json()["data"].clone();
    // With the budget that a key has whose limits bound no money on the whole.
    assert_eq!(rows.as_array().unwrap().len(), 4, "{rows}");
    for row in rows.as_array().unwrap() {
        let used = row["used"].as_f64().unwrap();
        let want = if row["metric"] == "tokens" { spent * 1e6 } else { spent };
        assert!((used - want).abs() < 1e-6 * want, "{row} {want}");
    }
    // The rule has room for as much as that leaves.
    let answer = chat(&house, &body("lab/one", 1_800, "quickly")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(vendor.seen().last().unwrap().body["max_tokens"], 1_800);
}

/// Asked to stop, it finishes what is in work, refuses what is new, and says so by its exit code.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_is_in_work() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| {
        let answer = Answer::text("slow but whole to the very end");
        Reply::Answer(answer.gap(Duration::from_millis(150)))
    })
    .await;
    let mut house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
    let client = house.client();
    let body = json!({"model": "auto", "messages": [{"role": "user", "content": "slowly"}]});
    let mut events = client.stream(&body).await;
    events.next().await.unwrap();
    let (code, (events, end)) = tokio::join!(house.stop(), events.collect());
    assert_eq!(end, tests::client::End::Done, "{events:?}");
    assert!(tests::client::text_of(&events).ends_with("to the very end"), "{events:?}");
    assert_eq!(code, Some(0));
}

/// What cannot end within the grace is told so: a whole answer as an error that names its record, as a stream is.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_whole_answer_is_told_that_the_grace_is_over() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::Hang).await;
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one"));
    let mut house = plan.settings("shutdown: { grace: 300ms }\n").start().await;
    let client = house.client();
    let body = json!({"model": "auto", "messages": [{"role": "user", "content": "slowly"}]});
    let asked = tokio::spawn(async move { client.chat(&body).await });
    let mut half = Socket::open(house.addr()).await;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    half.send(format!("{head}content-length: 500\r\nexpect: 100-continue\r\n\r\n")).await;
    // The server waits for the body.
    assert_eq!(half.response().await.unwrap().status, 100);
    half.send("{").await;
    while vendor.count() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    house.stop().await;
    // Of whom the whole request never came: nothing was decided, and nothing is on record.
    let told = half.response().await.unwrap();
    assert_eq!(told.error(503)["code"], "shutting_down", "{told:?}");
    assert_eq!(told.header("x-turnout-decision"), None, "{told:?}");
    let answer = asked.await.unwrap();
    let error = answer.error(503);
    assert_eq!(error["code"], "shutting_down", "{error}");
    let told = (answer.header("x-should-retry"), answer.header("retry-after"), answer.header("connection"));
    assert_eq!(told, (Some("true"), Some("1"), Some("close")), "{error}");
    let record = answer.header("x-turnout-decision").unwrap();
    house.restart().await;
    let kept = house.decision(record).await;
    assert_eq!(kept["outcome"]["status"], "cancelled", "{kept}");
}
