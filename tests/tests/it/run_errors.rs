//! A run fails in the words in which a request fails: same status, `type`, `code`, `param`, message. Asked for again
//! under its key, it says so in the header in which answers do.

use serde_json::{Value, json};
use tests::client::Response;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Seen, Vendor};

const PLAIN: &str = "\
version: 1
name: plain
nodes:
  - { id: ask, type: generate }
  - { id: answer, type: stream, from: nodes.ask.completion }
edges:
  - { from: ask, to: answer }
";

const REFUSES: &str = "\
version: 1
name: refuses
nodes:
  - { id: stop, type: fail, code: no_refund, message: No refund, status: 451 }
";

const CHECKED: &str = "\
version: 1
name: checked
limits: { on_exhausted: fail }
nodes:
  - { id: ask, type: generate }
  - { id: check, type: validate, input: nodes.ask.completions, validators: [{ use: json, severity: block }] }
  - { id: answer, type: stream, from: nodes.check.best }
edges:
  - { from: ask, to: check }
  - { from: check, to: answer, outcome: [passed, unverified, failed] }
";

/// What the vendor does stands in the question: a status, or else it answers.
fn vendor_of(seen: &Seen) -> Reply {
    match seen.last_text().parse() {
        Ok(429) => Reply::error_with(429, "retry-after", "7"),
        Ok(status) => Reply::error(status),
        Err(_) => Reply::text("no JSON"),
    }
}

async fn start() -> (Vendor, House) {
    let vendor = Vendor::scripted(Dialect::OpenAi, vendor_of).await;
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(crate::NO_CHANCE)
        .settings("retry:\n  max_attempts: 1\n")
        .file("workflows/plain.yaml", PLAIN)
        .file("workflows/refuses.yaml", REFUSES)
        .file("workflows/checked.yaml", CHECKED)
        .start()
        .await;
    (vendor, house)
}

fn request(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

async fn submit(house: &House, body: &Value) -> String {
    let accepted = house.client().post("/v1/runs", body).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    format!("/v1/runs/{}", accepted.json()["id"].as_str().unwrap())
}

/// The members by which clients tell failures apart.
fn told(error: &Value) -> Value {
    let found = |key: &str| error["metadata"][key].clone();
    json!([
        error["type"],
        error["code"],
        error["param"],
        error["message"],
        found("upstream_status"),
        found("model")
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_fails_in_the_words_of_a_request() {
    for (workflow, text, status) in [
        ("plain", "400", 400),
        ("plain", "401", 502),
        ("plain", "429", 429),
        ("plain", "500", 503),
        ("refuses", "x", 451),
        ("checked", "x", 422),
    ] {
        // What the vendor did to the one is nothing that the other knows of.
        let (_vendor, house) = start().await;
        let asked = house.client().chat(&request(&format!("workflow/{workflow}"), text)).await;
        let error = asked.error(status);
        let (_vendor, house) = start().await;
        let path = submit(&house, &json!({"workflow": workflow, "request": request("auto", text)})).await;
        let run = house.run_in(&path, "failed").await;
        assert_eq!(told(&run["error"]), told(&error), "{workflow} {text}: {run:#}\n{error:#}");
        // Its journal says the same, whoever reads it.
        let trace = house.client().get(&format!("{path}/trace")).await.json();
        let end = trace["history"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(end["result"]["error"], run["error"], "{trace:#}");
        let events = house.client().get(&format!("{path}/events")).await.text();
        assert!(events.contains(&format!(r#""type":{}"#, error["type"])), "{events}");
        let again = house.client().post(&format!("{path}/replay"), &json!({})).await.json();
        assert_eq!(told(&again["result"]["error"])[0], error["type"], "{again}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_about_a_run_is_told_as_everywhere() {
    let (_vendor, house) = start().await;
    let client = house.client();
    let check = |response: &Response, status: u16, code: &str, param: Value| {
        let error = response.error(status);
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &param), "{error}");
        assert_eq!(response.header("x-should-retry"), Some("false"), "{error}");
    };
    check(&client.get("/v1/runs/run_none").await, 404, "not_found", Value::Null);
    check(&client.get("/v1/runs/%FF").await, 404, "not_found", Value::Null);
    let unknown = client.post("/v1/runs", &json!({"workflow": "plane"})).await;
    check(&unknown, 404, "unknown_workflow", json!("workflow"));
    check(&client.post("/v1/runs", &json!({"flow": "plain"})).await, 400, "unknown_member", json!("flow"));
    let limits = json!({"workflow": "plain", "request": request("auto", "x"), "limits": {"usd": -1}});
    check(&client.post("/v1/runs", &limits).await, 400, "invalid_value", json!("limits.usd"));
    check(&client.get("/v1/runs?status=done").await, 400, "invalid_value", json!("status"));
    let path = submit(&house, &json!({"workflow": "refuses", "request": request("auto", "x")})).await;
    house.run_in(&path, "failed").await;
    let fork = client.post(&format!("{path}/fork"), &json!({"after": "nowhere"})).await;
    check(&fork, 400, "invalid_value", json!("after"));
    let again = client.post(&format!("{path}/tool_outputs"), &json!({"tool_outputs": []})).await;
    check(&again, 409, "not_waiting", Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_asked_for_again_says_so() {
    let (_vendor, house) = start().await;
    let headers = [("content-type", "application/json"), ("idempotency-key", "once")];
    let ask = async |path: &str, body: Value, more: &[(&str, &str)]| {
        let headers: Vec<_> = headers.iter().chain(more).copied().collect();
        house.client().send("POST", path, &headers, body.to_string().as_bytes()).await
    };
    let run = |text: &str| json!({"workflow": "plain", "request": request("auto", text)});
    let chat = |text: &str| request("workflow/plain", text);
    for (path, body, other, more) in [
        ("/v1/runs", run("x"), run("y"), &[][..]),
        ("/v1/chat/completions", chat("x"), chat("y"), &[("prefer", "respond-async")]),
    ] {
        let (first, again) = (ask(path, body.clone(), more).await, ask(path, body, more).await);
        assert_eq!((first.status, again.status), (202, 202), "{}", again.text());
        assert_eq!(first.json()["id"], again.json()["id"]);
        let header = "idempotent-replayed";
        assert_eq!((first.header(header), again.header(header)), (None, Some("true")));
        let reused = ask(path, other, more).await.error(409);
        assert_eq!(
            (&reused["code"], &reused["param"]),
            (&json!("idempotency_key_reused"), &json!("idempotency-key"))
        );
    }
}
