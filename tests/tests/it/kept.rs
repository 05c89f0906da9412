//! What a node has put out, kept for whoever of the same tenant asks the same.

use serde_json::{Value, json};
use tests::admin::{Admin, send};
use tests::client::Response;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

const KEPT: &str = "\
version: 1
name: kept
nodes:
  - { id: ask, type: generate, cache: { ttl: 10m } }
output: nodes.ask.completion
";

async fn start(vendor: &Vendor, rules: &str) -> House {
    Plan::new()
        .vendor("lab", vendor)
        .model(&Model::new("lab/one"))
        .rules(&format!("{}{rules}", crate::NO_CHANCE))
        .file("workflows/kept.yaml", KEPT)
        .start()
        .await
}

fn question(text: &str) -> Value {
    json!({"model": "workflow/kept", "messages": [{"role": "user", "content": text}]})
}

fn cost(answer: &Response) -> f64 {
    answer
        .header("x-turnout-cost-usd")
        .and_then(|c| c.parse().ok())
        .unwrap_or_else(|| panic!("{}", answer.text()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_question_of_the_same_tenant_is_answered_from_what_is_kept() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| {
        Reply::text(&format!("to {}", seen.last_text())).costing(1_000, 100)
    })
    .await;
    let house = start(&vendor, "").await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "one"})).await;
    admin.tenant(json!({"id": "two"})).await;
    let (_, first) = admin.key(json!({"tenant": "one"})).await;
    let (_, colleague) = admin.key(json!({"tenant": "one"})).await;
    let (_, stranger) = admin.key(json!({"tenant": "two"})).await;
    let ask = async |key: &str, text: &str| {
        let answer = send(house.client(), key, "/v1/chat/completions", &question(text)).await;
        assert_eq!((answer.status, answer.content()), (200, format!("to {text}")), "{}", answer.text());
        answer
    };
    let made = ask(&first, "hi").await;
    assert!(cost(&made) > 0.0);
    let found = ask(&colleague, "hi").await;
    let cache = "x-turnout-cache";
    assert_eq!((made.header(cache), found.header(cache)), (Some("miss"), Some("hit")));
    assert_eq!((vendor.count(), cost(&found)), (1, 0.0));
    assert_eq!(found.json()["usage"]["total_tokens"], 0, "{}", found.text());
    ask(&first, "ho").await;
    ask(&stranger, "hi").await;
    assert_eq!(vendor.count(), 3, "another question, and another tenant");

    // A run finds it as well, and repeats with it.
    let body = json!({"request": question("hi")});
    let run = send(house.client(), &first, "/v1/runs", &body).await.json();
    let path = format!("/v1/runs/{}", run["id"].as_str().unwrap_or_else(|| panic!("{run}")));
    let mut ended = Value::Null;
    for _ in 0..400 {
        ended = tests::admin::get(house.client(), &first, &path).await.json();
        if ended["status"] == "succeeded" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert_eq!((&ended["spent"]["calls"], vendor.count()), (&json!(0), 3), "{ended:#}");
    let replay = send(house.client(), &first, &format!("{path}/replay"), &json!({})).await.json();
    assert_eq!(replay["same"], true, "{replay}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_answered_from_what_is_kept_and_the_record_says_so() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("one two three")).await;
    // A word changes what may be asked, and so the answer.
    let rules = "rules: [{ id: short, when: 'request.user == \"brief\"', actions: { cap_max_tokens: 7 } }]\n";
    let house = start(&vendor, rules).await;
    let mut body = question("count");
    let whole = house.client().chat(&body).await;
    let steps = house.decision(&whole.request_id()).await["run"]["steps"].clone();
    assert_eq!(steps[0]["note"], Value::Null, "{steps}");
    body["stream"] = true.into();
    // Another body is another question: it is kept by itself.
    for (calls, note) in [(2, None), (2, Some("cached"))] {
        let streamed = house.client().chat(&body).await;
        assert!(streamed.text().contains("three"), "{}", streamed.text());
        assert_eq!(vendor.count(), calls);
        let record = house.decision(&streamed.request_id()).await;
        let said = record["run"]["steps"][0]["note"].as_str().and_then(|n| n.split(':').next());
        assert_eq!(said, note, "{record}");
        let mode = record["run"]["stream_mode"].as_str().unwrap();
        assert_eq!(mode, "buffered: the answer of `ask` may be one that is kept");
    }
    let mut brief = question("count");
    brief["user"] = "brief".into();
    house.client().chat(&brief).await;
    assert_eq!(vendor.count(), 3);
    // Who needs the same for the same does not get what somebody else was given.
    let mut strict = question("count");
    strict["seed"] = 7.into();
    strict["temperature"] = 0.into();
    for calls in [4, 5] {
        let answer = house.client().chat(&strict).await;
        let record = house.decision(&answer.request_id()).await;
        let profile = record["decision"]["profile"].as_array().unwrap();
        let axis = profile.iter().find(|a| a["axis"] == "determinism_needs").unwrap();
        assert_eq!(axis["value"], "strict", "{record}");
        assert_eq!(vendor.count(), calls);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_requests_say_what_may_be_kept_and_had() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let rule = |id: &str, cache: &str| {
        format!(
            "  - {{ id: {id}, when: 'request.headers.get(\"x-team\") == \"{id}\"', actions: {{ cache: {cache} }} }}\n"
        )
    };
    let rules = [rule("never", "none"), rule("reader", "read_only"), rule("brief", "{ ttl: 1ms }")].concat();
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(&format!("{}rules:\n{rules}", crate::NO_CHANCE))
        .file("workflows/kept.yaml", KEPT)
        .settings("policies: { headers: [x-team] }")
        .start()
        .await;
    // Whether the vendor was asked.
    let asks = async |team: &str, body: &Value| {
        let before = vendor.count();
        let headers = [("content-type", "application/json"), ("x-team", team)];
        let body = body.to_string();
        let answer = house.client().send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        vendor.count() > before
    };
    let a = question("a");
    assert!(asks("never", &a).await && asks("never", &a).await, "nothing is kept");
    assert!(asks("reader", &a).await && asks("reader", &a).await, "nor by who may only read");
    assert!(asks("anybody", &a).await);
    assert!(!asks("reader", &a).await, "who may have what others keep");
    assert!(asks("never", &a).await && !asks("anybody", &a).await);
    let b = question("b");
    assert!(asks("brief", &b).await);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    assert!(asks("anybody", &b).await, "it was kept for a moment only");
    for (option, again) in [("off", true), ("refresh", true), ("on", false)] {
        let mut body = question("c");
        body["routing"] = json!({"cache": option});
        assert!(asks("anybody", &body).await);
        assert_eq!(asks("anybody", &body).await, again, "{option}");
    }
}
