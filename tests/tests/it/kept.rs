//! What a node has put out, kept for whoever of the same tenant asks the same.

use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::admin::{Admin, send};
use tests::client::Response;
use tests::house::{House, Model, Plan};
use tests::service::Service;
use tests::vendor::{Answer, Dialect, Reply, Vendor};

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
    for _ in 0..1_200 {
        ended = tests::admin::get(house.client(), &first, &path).await.json();
        if ended["status"] == "succeeded" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
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
    // How it is to come, and what is noted of it, are no part of the question.
    for member in ["stream_options", "metadata", "routing"] {
        body[member] = match member {
            "stream_options" => json!({"include_usage": true}),
            "metadata" => json!({"team": "a"}),
            _ => json!({"tags": {"team": "a"}}),
        };
        let streamed = house.client().chat(&body).await;
        assert!(streamed.text().contains("three"), "{}", streamed.text());
        assert_eq!(vendor.count(), 1);
        let record = house.decision(&streamed.request_id()).await;
        let said = record["run"]["steps"][0]["note"].as_str().and_then(|n| n.split(':').next());
        assert_eq!(said, Some("cached"), "{record}");
        let mode = record["run"]["stream_mode"].as_str().unwrap();
        assert_eq!(mode, "buffered: the answer of `ask` may be one that is kept");
    }
    let mut brief = question("count");
    brief["user"] = "brief".into();
    house.client().chat(&brief).await;
    assert_eq!(vendor.count(), 2);
    // Who needs the same for the same does not get what somebody else was given.
    let mut strict = question("count");
    strict["seed"] = 7.into();
    strict["temperature"] = 0.into();
    for calls in [3, 4] {
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
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(asks("anybody", &b).await, "it was kept for a moment only");
    for (option, again) in [("off", true), ("refresh", true), ("on", false)] {
        // Each asks something of its own: the option is no part of the question.
        let mut body = question(option);
        body["routing"] = json!({"cache": option});
        assert!(asks("anybody", &body).await);
        assert_eq!(asks("anybody", &body).await, again, "{option}");
    }
}

/// What is made anew stands in the place of what was kept, whoever says so where.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refreshed_is_found_by_who_asks_next() {
    let made = AtomicU32::new(0);
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| {
        let nth = made.fetch_add(1, Ordering::Relaxed);
        Reply::text(&format!("answer {nth}"))
    })
    .await;
    let house = start(&vendor, "").await;
    let plain = question("hi");
    let mut anew = plain.clone();
    anew["routing"] = json!({"cache": "refresh"});
    for (body, said) in
        [(&plain, "answer 0"), (&plain, "answer 0"), (&anew, "answer 1"), (&plain, "answer 1")]
    {
        let answer = house.client().chat(body).await;
        assert_eq!(answer.content(), said, "{body}");
    }
}

const LOOKED: &str = "\
version: 1
name: looked
nodes:
  - { id: look, type: tool, tool: look, cache: { ttl: 10m } }
  - { id: say, type: merge, method: template, from: [nodes.look.text], template: '${ nodes.look.outcome }', needs: look }
output: nodes.say.completion
";

/// A tool that is out of order for a moment is not out of order for as long as its results are kept.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_tool_failed_at_is_not_kept() {
    let broken = Arc::new(AtomicBool::new(true));
    let now = broken.clone();
    let service = Service::start(move |_| {
        let status = if now.load(Ordering::Relaxed) { 500 } else { 200 };
        (status, "\"fine\"".to_owned(), Duration::ZERO)
    })
    .await;
    let rules = format!(
        "{}tools:\n  look:\n    description: Looks.\n    url: {}/look\n    input_schema: {{ type: object }}\n    side_effect: none\n",
        crate::NO_CHANCE,
        service.origin()
    );
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .settings("tools: { allow_hosts: [127.0.0.1], allow_http: true, allow_private: true }\n")
        .rules(&rules)
        .file("workflows/looked.yaml", LOOKED)
        .start()
        .await;
    let body = json!({"model": "workflow/looked", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(house.client().chat(&body).await.content(), "tool_error");
    broken.store(false, Ordering::Relaxed);
    assert_eq!(house.client().chat(&body).await.content(), "ok");
    let asked = service.count("/look");
    assert_eq!(house.client().chat(&body).await.content(), "ok");
    assert_eq!(service.count("/look"), asked, "what it gave is kept");
}

/// The next answer may be whole: who asks again is not given the stump of the first.
#[tokio::test(flavor = "multi_thread")]
async fn only_whole_answers_are_kept() {
    let finish = Arc::new(Mutex::new(""));
    let now = finish.clone();
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| {
        let answer = match *now.lock().unwrap() {
            "refusal" => Answer { refusal: Some("I will not.".to_owned()), ..Answer::pieces(Vec::new()) },
            finish => Answer { finish: finish.to_owned(), ..Answer::text("one two three") },
        };
        Reply::Answer(answer)
    })
    .await;
    let house = start(&vendor, "").await;
    for broken in ["length", "content_filter", "refusal"] {
        *finish.lock().unwrap() = broken;
        let body = question(broken);
        for asked in 1..=2 {
            let before = vendor.count();
            house.client().chat(&body).await;
            assert_eq!(vendor.count(), before + 1, "{broken}: the {asked}. time");
        }
        *finish.lock().unwrap() = "stop";
        let before = vendor.count();
        for _ in 0..2 {
            assert_eq!(house.client().chat(&body).await.content(), "one two three", "{broken}");
        }
        assert_eq!(vendor.count(), before + 1, "{broken}: a whole one is kept");
    }
}

/// What needs most care is answered for its own request alone.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_down_is_not_kept() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = start(&vendor, "").await;
    let mut careful = question("hi");
    careful["routing"] = json!({"safety": "locked_down"});
    for (body, calls) in
        [(&careful, 1), (&careful, 2), (&question("hi"), 3), (&careful, 4), (&question("hi"), 4)]
    {
        assert_eq!(house.client().chat(body).await.status, 200);
        assert_eq!(vendor.count(), calls);
    }
}

/// What rules keep to one key, or to one end user of it, nobody else of the tenant is given.
#[tokio::test(flavor = "multi_thread")]
async fn rules_keep_results_to_one_key_and_to_one_end_user() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let rules = "\
rules:
  - { id: by_key, when: 'request.max_tokens == 11', actions: { cache: { scope: key } } }
  - { id: by_user, when: 'request.max_tokens == 12', actions: { cache: { scope: user } } }
";
    let house = start(&vendor, rules).await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "one"})).await;
    let (_, first) = admin.key(json!({"tenant": "one"})).await;
    let (_, colleague) = admin.key(json!({"tenant": "one"})).await;
    // Whether the vendor was asked.
    let asks = async |key: &str, most: u32, user: Option<&str>| {
        let mut body = question("hi");
        body["max_tokens"] = most.into();
        if let Some(user) = user {
            body["user"] = user.into();
        }
        let before = vendor.count();
        let answer = send(house.client(), key, "/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        vendor.count() > before
    };
    assert!(asks(&first, 10, None).await && !asks(&colleague, 10, None).await, "no rule: the tenant");
    assert!(asks(&first, 11, None).await && !asks(&first, 11, None).await);
    assert!(asks(&colleague, 11, None).await && !asks(&colleague, 11, None).await, "another key");
    assert!(asks(&first, 12, Some("ada")).await && !asks(&first, 12, Some("ada")).await);
    assert!(asks(&first, 12, Some("bob")).await, "another end user");
    assert!(asks(&colleague, 12, Some("ada")).await, "whom another key names");
    assert!(asks(&first, 12, None).await && asks(&first, 12, None).await, "nobody's, and not kept");
}
