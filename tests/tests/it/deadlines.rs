//! How long a request may take: what its workflow says, else what is usual, and no longer than its client waits.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::time::Duration;
use tests::client::{End, text_of};
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Fault, Reply, Vendor};
use tokio::task::JoinSet;

const LONG: &str = "version: 1
name: long
limits: { wall: 20s }
nodes:
  - { id: ask, type: generate }
output: nodes.ask.completion
";

/// The workflow's own time holds, although it is longer than what is usual; a client that waits for less is answered
/// in time.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_names_its_own_time() {
    let vendor =
        Vendor::scripted(Dialect::OpenAi, |_| Reply::text("slow").slow(Duration::from_millis(1_300))).await;
    for (workflow, more, status) in [
        ("usual", json!({}), 504),
        ("default", json!({}), 504),
        ("long", json!({}), 200),
        ("long", json!({"routing": {"max_latency_ms": 900}}), 504),
        ("usual", json!({"routing": {"max_latency_ms": 5_000}}), 504),
    ] {
        // Each has a server of its own: what was learned of the time that the model takes would refuse the next.
        let house = Plan::new()
            .vendor("lab", &vendor)
            .model(&Model::new("lab/one"))
            .rules(NO_CHANCE)
            .settings("request: { default_deadline: 1s }\n")
            .file("workflows/long.yaml", LONG)
            .file(
                "workflows/usual.yaml",
                &LONG.replace("long", "usual").replace("limits: { wall: 20s }\n", ""),
            )
            .start()
            .await;
        let mut body =
            json!({"model": format!("workflow/{workflow}"), "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = house.client().chat(&body).await;
        assert_eq!(answer.status, status, "{workflow} {more}: {}", answer.text());
        if status == 504 {
            // It is the request whose time is up, whatever the model would have said.
            assert_eq!(answer.error(504)["code"], "budget.wall", "{workflow} {more}");
        }
    }
}

/// A client that waits is not told after less that it is too late: the SDKs say how long they wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_answer_may_take_as_long_as_its_client_waits() {
    let vendor =
        Vendor::scripted(Dialect::OpenAi, |_| Reply::text("slow").slow(Duration::from_millis(1_300))).await;
    for (waits, most, status) in [(None, "10m", 504), (Some("60"), "10m", 200), (Some("60"), "1s", 504)] {
        let house = Plan::new()
            .vendor("lab", &vendor)
            .model(&Model::new("lab/one"))
            .rules(NO_CHANCE)
            .settings(&format!("request: {{ default_deadline: 1s, client_deadline: {most} }}\n"))
            .start()
            .await;
        let body = json!({"model": "lab/one", "messages": [{"role": "user", "content": "hi"}]}).to_string();
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(waits.map(|waits| ("x-stainless-read-timeout", waits)));
        let answer = house.client().send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, status, "{waits:?} {most}: {}", answer.text());
    }
}

/// A draft, and a second call that is to be better.
const HURRIED: &str = "version: 1
name: hurried
limits: { wall: 2s, finish_reserve: 300ms }
nodes:
  - { id: draft, type: generate, params: { temperature: 0.1 } }
  - { id: better, type: generate, params: { temperature: 0.2 }, retry: { max_attempts: 3, backoff: { initial: 5s, jitter: none } } }
  - { id: answer, type: stream, from: nodes.better.completion, trailer: always }
edges:
  - { from: draft, to: better }
  - { from: better, to: answer }
";

/// 10: with 300 ms left a call is given up and none is begun, and what failed before is not tried again where the pause
/// would not end in time; either way the client has the best answer so far, and is told.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_10_with_300_ms_left_nothing_is_asked_and_the_client_has_the_best_so_far() {
    for hangs in [true, false] {
        let (vendor, house) = hurried(move || if hangs { Reply::Hang } else { Reply::error(503) }).await;
        let mut ask = json!({"model": "workflow/hurried", "messages": [{"role": "user", "content": "hi"}]});
        ask["routing"] = json!({"explain": true});
        let answer = house.client().chat(&ask).await;
        assert_eq!(vendor.count(), 2, "nothing was tried again");
        assert_eq!((answer.status, answer.content().as_str()), (200, "a draft"), "{}", answer.text());
        let told = &answer.json()["turnout"];
        assert_eq!(
            (&told["run"]["exhausted"], &told["run"]["verdict"]),
            (&json!("wall"), &json!("unverified"))
        );
        ask["routing"] = json!({});
        let (events, end) = house.client().stream(&ask).await.collect().await;
        assert_eq!((text_of(&events).as_str(), end), ("a draft", End::Done));
        let told = &events.last().unwrap()["turnout"];
        assert_eq!(
            (&told["budget_exhausted"], &told["verdict"]),
            (&json!(true), &json!("unverified")),
            "{told}"
        );
        assert_eq!(vendor.count(), 4);
    }
}

/// What no time would mend is no matter of time: the client has the vendor's error, and so it does where no answer is
/// there that could be delivered, with the vendor's word on when to ask again.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_for_another_reason_or_with_nothing_to_deliver_is_the_vendors_error() {
    let (vendor, house) = hurried(|| Reply::error(401)).await;
    let ask = json!({"model": "workflow/hurried", "messages": [{"role": "user", "content": "hi"}],
        "routing": {"explain": true}});
    let answer = house.client().chat(&ask).await;
    assert_eq!((answer.status, vendor.count()), (502, 2), "{}", answer.text());

    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::error_with(429, "retry-after", "20")).await;
    let house = house_of(&vendor).await;
    let answer = house.client().chat(&ask).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("20")), "{}", answer.text());
    assert_eq!(vendor.count(), 1);
}

/// A vendor that gives a draft, and something else where it is asked for more.
async fn hurried(more: impl Fn() -> Reply + Send + Sync + 'static) -> (Vendor, House) {
    let vendor =
        Vendor::scripted(Dialect::OpenAi, move |seen| match seen.body["temperature"].to_string().as_str() {
            "0.1" => Reply::text("a draft"),
            _ => more(),
        })
        .await;
    let house = house_of(&vendor).await;
    (vendor, house)
}

async fn house_of(vendor: &Vendor) -> House {
    Plan::new()
        .vendor("lab", vendor)
        .model(&Model::new("lab/one"))
        .rules(NO_CHANCE)
        .file("workflows/hurried.yaml", HURRIED)
        .start()
        .await
}

/// Its time is up while it flows: whoever reads has an error event that names the record, and no clean end; the record
/// says whose time that was and what was used until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_time_is_up_ends_honestly() {
    let (vendor, house) = stops_midway().await;
    let models = ["workflow/brief", "workflow/goes_on", "workflow/usual", "workflow/default", "lab/one"];
    let client = house.client();
    let asked: JoinSet<_> = models
        .into_iter()
        .map(|model| async move {
            let body = json!({"model": model, "messages": [{"role": "user", "content": "count to six"}]});
            let events = client.stream(&body).await;
            let id = events.header("x-turnout-decision").unwrap().to_owned();
            (model, events.status, id, events.collect().await)
        })
        .collect();
    for (model, status, id, (events, end)) in asked.join_all().await {
        assert_eq!((status, end), (200, End::NoDone), "{model}: {events:?}");
        assert!(text_of(&events).starts_with("one two"), "{model}: {events:?}");
        let written = is_out_of_time(&house, model, &id, &events.last().unwrap()["error"]).await;
        assert!(written > 0, "{model}");
    }
    assert_eq!(vendor.count(), models.len(), "an answer went on");
    for seen in vendor.seen() {
        assert!(seen.wait_left().await);
    }
}

/// Nothing had gone out by then: it is a status.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_held_back_until_its_time_is_up_is_a_504() {
    let (_vendor, house) = stops_midway().await;
    let client = house.client();
    let asked: JoinSet<_> = ["workflow/checked", "workflow/default"]
        .into_iter()
        .map(|model| async move {
            let mut body = json!({"model": model, "messages": [{"role": "user", "content": "count to six"}]});
            body["response_format"] =
                json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}});
            body["stream"] = json!(true);
            (model, client.chat(&body).await)
        })
        .collect();
    for (model, answer) in asked.join_all().await {
        let id = answer.header("x-turnout-decision").unwrap().to_owned();
        is_out_of_time(&house, model, &id, &answer.error(504)).await;
    }
}

const CHECKED: &str = "version: 1
name: checked
limits: { wall: 3s }
nodes:
  - { id: ask, type: generate }
  - { id: check, type: validate, input: nodes.ask.completions, validators: [contract] }
  - { id: answer, type: stream, from: nodes.check.best }
edges:
  - { from: ask, to: check }
  - { from: check, to: answer, outcome: [passed, unverified, failed] }
";

/// A vendor whose answers stop midway, and workflows that have three seconds.
async fn stops_midway() -> (Vendor, House) {
    let half =
        || Answer::pieces(["{\"one two", " three", " four", " five", " six"].map(String::from).to_vec());
    let vendor =
        Vendor::scripted(Dialect::OpenAi, move |seen| match seen.body["response_format"].is_null() {
            true => Reply::Answer(Answer::text("one two three four five six").fault(5, Fault::Hang)),
            false => Reply::Answer(half().fault(4, Fault::Hang)),
        })
        .await;
    let brief = LONG.replace("20s", "3s");
    let goes_on = brief.replace("id: ask,", "id: ask, on_upstream_loss: continue,");
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .model(&Model::new("lab/two"))
        .rules(NO_CHANCE)
        .settings("request: { stream_deadline: 3s }\n")
        .file("workflows/brief.yaml", &brief.replace("long", "brief"))
        .file("workflows/checked.yaml", CHECKED)
        .file("workflows/goes_on.yaml", &goes_on.replace("long", "goes_on"))
        .file("workflows/usual.yaml", &LONG.replace("long", "usual").replace("limits: { wall: 20s }\n", ""))
        .start()
        .await;
    (vendor, house)
}

/// What is told of a request whose time is up, and what is on record of it. Gives how many tokens had been written.
async fn is_out_of_time(house: &House, model: &str, id: &str, error: &Value) -> u64 {
    assert_eq!(
        (&error["code"], &error["type"], &error["metadata"]["decision"]),
        (&json!("budget.wall"), &json!("timeout_error"), &json!(id)),
        "{model}: {error}"
    );
    let record = house.decision(id).await;
    let (outcome, run) = (&record["outcome"], &record["run"]);
    assert_eq!(
        (&outcome["status"], &outcome["error"], &run["exhausted"]),
        (&json!("failed"), &json!("budget.wall"), &json!("wall")),
        "{model}: {record:#}"
    );
    // What had come by then was made and is paid for.
    assert!(outcome["cost_usd"].as_f64().unwrap() > 0.0, "{model}: {record:#}");
    assert_eq!(outcome["usage"]["estimated"], true, "{model}: {record:#}");
    outcome["usage"]["output"].as_u64().unwrap()
}
