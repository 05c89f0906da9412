//! The raw protocol: what a client that is no SDK sees, and what each vendor is sent.

use serde_json::{Value, json};
use std::time::Duration;
use tests::client::{End, Response, text_of};
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Reply, Vendor};

async fn start(dialect: Dialect) -> (Vendor, House) {
    let vendor = Vendor::scripted(dialect, |_| Reply::text("one two three")).await;
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
    (vendor, house)
}

fn ask() -> Value {
    json!({"model": "lab/one", "messages": [{"role": "user", "content": "count"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_framed_as_the_reference_says() {
    for dialect in Dialect::ALL {
        let (_vendor, house) = start(dialect).await;
        let events = house.client().stream(&ask()).await;
        assert_eq!(events.status, 200);
        assert!(events.header("content-type").is_some_and(|t| t.starts_with("text/event-stream")));
        assert!(events.header("cache-control").is_some_and(|c| c.contains("no-cache")));
        assert!(events.header("content-encoding").is_none());
        assert!(events.header("x-request-id").is_some() && events.header("x-turnout-model").is_some());
        let (events, end) = events.collect().await;
        assert_eq!((text_of(&events).as_str(), end), ("one two three", End::Done), "{dialect:?}");
        for e in &events {
            assert_eq!(e["object"], "chat.completion.chunk", "{e}");
            assert!(e["id"].is_string() && e["created"].is_i64() && e["model"] == "lab/one", "{e}");
            assert_eq!(e["choices"][0]["index"], 0, "{e}");
        }
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant", "{dialect:?}");
        let roles = events.iter().filter(|e| e["choices"][0]["delta"]["role"].is_string()).count();
        assert_eq!(roles, 1, "{dialect:?}: the role is said once: {events:?}");
        assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "stop", "{dialect:?}");
    }
}

/// The first event reaches the client while the vendor still works on the rest.
#[tokio::test(flavor = "multi_thread")]
async fn events_go_out_as_they_come() {
    for dialect in Dialect::ALL {
        let pieces = (0..40).map(|i| format!("{i} ")).collect();
        let answer = Answer::pieces(pieces).gap(Duration::from_millis(50));
        let vendor = Vendor::scripted(dialect, move |_| Reply::Answer(answer.clone())).await;
        let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
        let mut events =
            house.client().stream(&json!({"model": "auto", "messages": ask()["messages"]})).await;
        while events.next().await.expect("a first token")["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or_default()
            .is_empty()
        {}
        let sent = vendor.seen()[0].events();
        assert!(sent < 30, "{dialect:?}: the first token came after {sent} of the vendor's events");
    }
}

/// Stream and whole answer agree on text, usage and cost; cached tokens are counted once.
#[tokio::test(flavor = "multi_thread")]
async fn stream_and_whole_agree() {
    for dialect in Dialect::ALL {
        let (_vendor, house) = start(dialect).await;
        let whole = house.client().chat(&ask()).await;
        let mut body = ask();
        body["stream_options"] = json!({"include_usage": true});
        let events = house.client().stream(&body).await;
        let id = events.header("x-request-id").unwrap().to_owned();
        let (events, _) = events.collect().await;
        let (last, before) = events.split_last().unwrap();
        assert_eq!(last["choices"], json!([]), "{dialect:?}: {last}");
        assert!(before.iter().all(|e| e.as_object().unwrap().contains_key("usage") && e["usage"].is_null()));
        assert_eq!(text_of(before), whole.content());
        for key in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(last["usage"][key], whole.json()["usage"][key], "{dialect:?} {key}");
        }
        assert_eq!(last["usage"]["prompt_tokens"], 20, "{dialect:?}");
        assert_eq!(last["usage"]["prompt_tokens_details"]["cached_tokens"], 8, "{dialect:?}");
        let streamed = house.decision(&id).await;
        let whole = house.decision(&whole.request_id()).await;
        assert_eq!(streamed["outcome"]["cost_usd"], whole["outcome"]["cost_usd"], "{dialect:?}");
        assert_eq!(streamed["outcome"]["usage"], whole["outcome"]["usage"], "{dialect:?}");
    }
}

/// Everything a conversation may hold arrives at each vendor in that vendor's form.
#[tokio::test(flavor = "multi_thread")]
async fn vendors_are_spoken_to_in_their_own_form() {
    for dialect in Dialect::ALL {
        let (vendor, house) = start(dialect).await;
        let mut body = ask();
        body["messages"] = json!([
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_7", "type": "function", "function": {"name": "peek", "arguments": "{\"at\":1}"}}]},
            {"role": "tool", "tool_call_id": "call_7", "content": "a cat"},
            {"role": "user", "content": "so?"},
        ]);
        body["tools"] = json!([{"type": "function", "function": {"name": "peek", "description": "looks",
            "parameters": {"type": "object", "properties": {"at": {"type": "integer"}}}}}]);
        body["stop"] = json!(["END"]);
        body["max_tokens"] = json!(321);
        body["temperature"] = json!(0.25);
        let answer = house.client().chat(&body).await;
        assert_eq!(answer.status, 200, "{dialect:?}: {}", answer.text());
        let seen = &vendor.seen()[0];
        assert_eq!(seen.method, "POST");
        assert_eq!(seen.header("content-type").map(|t| t.starts_with("application/json")), Some(true));
        let (path, expected) = expected(dialect);
        assert_eq!(seen.path, path);
        for (pointer, value) in expected {
            assert_eq!(seen.body.pointer(pointer), Some(&value), "{dialect:?} {pointer}\n{}", seen.body);
        }
    }
}

type Expected = (&'static str, Vec<(&'static str, Value)>);

fn expected(dialect: Dialect) -> Expected {
    match dialect {
        Dialect::OpenAi => (
            "/v1/chat/completions",
            vec![
                ("/model", json!("one")),
                ("/messages/0", json!({"role": "system", "content": "be brief"})),
                ("/messages/1/content/1/image_url/url", json!("data:image/png;base64,aGVsbG8=")),
                ("/messages/2/tool_calls/0/id", json!("call_7")),
                ("/messages/3/tool_call_id", json!("call_7")),
                ("/tools/0/function/name", json!("peek")),
                ("/stop", json!(["END"])),
                ("/max_tokens", json!(321)),
                ("/temperature", json!(0.25)),
            ],
        ),
        Dialect::Anthropic => (
            "/v1/messages",
            vec![
                ("/model", json!("one")),
                ("/messages/0/content/1/source/data", json!("aGVsbG8=")),
                ("/messages/0/content/1/source/media_type", json!("image/png")),
                ("/messages/1/content/0/type", json!("tool_use")),
                ("/messages/1/content/0/input", json!({"at": 1})),
                ("/messages/2/content/0/type", json!("tool_result")),
                ("/messages/2/content/0/tool_use_id", json!("call_7")),
                ("/tools/0/name", json!("peek")),
                ("/stop_sequences", json!(["END"])),
                ("/max_tokens", json!(321)),
                ("/temperature", json!(0.25)),
            ],
        ),
        Dialect::Gemini => (
            "/v1beta/models/one:generateContent",
            vec![
                ("/systemInstruction/parts/0/text", json!("be brief")),
                ("/contents/0/parts/1/inlineData/data", json!("aGVsbG8=")),
                ("/contents/0/parts/1/inlineData/mimeType", json!("image/png")),
                ("/contents/1/role", json!("model")),
                ("/contents/1/parts/0/functionCall/name", json!("peek")),
                ("/contents/2/parts/0/functionResponse/name", json!("peek")),
                ("/tools/0/functionDeclarations/0/name", json!("peek")),
                ("/generationConfig/stopSequences", json!(["END"])),
                ("/generationConfig/maxOutputTokens", json!(321)),
                ("/generationConfig/temperature", json!(0.25)),
            ],
        ),
    }
}

/// Where the vendor speaks our format, the body goes through as it came but for `model` and what is ours.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_members_pass_untouched() {
    let (vendor, house) = start(Dialect::OpenAi).await;
    let body = concat!(
        r#"{"model":"lab/one","messages":[{"role":"user","content":"hi","x-own":[1.50,{"b":1,"a":2}]}],"#,
        r#""prompt_cache_key":"k","verbosity":"low","x_future":{"z":1e2,"y":[null]},"routing":{"mode":"auto"}}"#
    );
    let headers = [("content-type", "application/json")];
    let answer = house.client().send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = &vendor.seen()[0];
    let sent = String::from_utf8_lossy(&seen.bytes);
    for part in
        [r#""x-own":[1.50,{"b":1,"a":2}]"#, r#""x_future":{"z":1e2,"y":[null]}"#, r#""verbosity":"low""#]
    {
        assert!(sent.contains(part), "{part} is not in {sent}");
    }
    assert!(!sent.contains("routing"), "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_identified() {
    let (_vendor, house) = start(Dialect::OpenAi).await;
    let client = house.client();
    let answers: [Response; 6] = [
        client.chat(&ask()).await,
        client.get("/v1/models").await,
        client.get("/healthz").await,
        client.get("/nothing").await,
        client.post("/v1/chat/completions", &json!({})).await,
        client.get("/metrics").await,
    ];
    let mut ids: Vec<String> = answers.iter().map(Response::request_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), answers.len(), "an id was used twice");
    for name in [
        "x-turnout-overhead-ms",
        "x-turnout-cost-usd",
        "x-turnout-cache",
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-tokens",
        "openai-processing-ms",
        "openai-version",
        "openai-organization",
    ] {
        assert!(answers[0].header(name).is_some(), "{name} is missing: {:?}", answers[0].headers);
    }
    let total: usize = answers[0].headers.iter().map(|(n, v)| n.len() + v.len() + 4).sum();
    assert!(total < 4096, "{total} bytes of headers");

    let text = ask().to_string();
    for (given, kept) in [("my-own.id:7", true), ("spaces are not", false), ("", false)] {
        let headers = [("content-type", "application/json"), ("x-request-id", given)];
        let answer = client.send("POST", "/v1/chat/completions", &headers, text.as_bytes()).await;
        assert_eq!(answer.request_id() == given, kept, "{given}: {}", answer.request_id());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed() {
    let (_vendor, house) = start(Dialect::OpenAi).await;
    let list = house.client().get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let names: Vec<&str> = list["data"].as_array().unwrap().iter().filter_map(|m| m["id"].as_str()).collect();
    for name in ["auto", "auto:cheapest", "auto:balanced", "auto:best", "workflow/default", "lab/one"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
        for path in [format!("/v1/models/{name}"), format!("/v1/models/{}", name.replace('/', "%2F"))] {
            let one = house.client().get(&path).await;
            assert_eq!((one.status, one.json()["id"].as_str()), (200, Some(name)), "{path}");
        }
    }
    assert!(
        list["data"].as_array().unwrap().iter().all(|m| m["object"] == "model" && m["owned_by"].is_string())
    );
    // Whatever a chat request may name is found.
    for path in ["/v1/models/one", "/v1/models/ONE", "/v1/models/Lab/One"] {
        let one = house.client().get(path).await;
        assert_eq!((one.status, one.json()["id"].as_str()), (200, Some("lab/one")), "{path}");
    }
    let _ = house.client().get("/v1/models/lab/nothing").await.error(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_can_be_watched() {
    let (_vendor, house) = start(Dialect::OpenAi).await;
    for _ in 0..3 {
        assert_eq!(house.client().chat(&ask()).await.status, 200);
    }
    assert_eq!(house.client().get("/healthz").await.status, 200);
    assert_eq!(house.client().get("/readyz").await.status, 200);
    let metrics = house.client().get("/metrics").await;
    let text = metrics.text();
    assert_eq!(metrics.status, 200);
    let counted: f64 = text
        .lines()
        .filter(|l| l.starts_with("turnout_requests_total"))
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!(counted >= 3.0, "{text}");
    assert!(!text.contains("count\"}"), "a label holds a prompt");
}

/// The messages of a request never show in the log.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_holds_no_content() {
    let (vendor, house) = start(Dialect::OpenAi).await;
    vendor.queue(Reply::error(500));
    let secret = "zebra-crossing-4711";
    let body = json!({"model": "lab/one", "messages": [{"role": "user", "content": secret}]});
    let text = body.to_string();
    let headers = [("content-type", "application/json"), ("authorization", "Bearer sk-very-secret-key")];
    let answer = house.client().send("POST", "/v1/chat/completions", &headers, text.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = vendor.seen().iter().any(|s| s.headers.iter().any(|(_, v)| v.contains("sk-very-secret")));
    assert!(!sent, "the client's key went to the vendor");
    let log = house.log();
    assert!(!log.contains(secret) && !log.contains("sk-very-secret"), "{log}");
}

/// An answer that is read as it grows, and given when it is whole: the time in which it grows is its vendor's.
#[tokio::test(flavor = "multi_thread")]
async fn time_in_which_an_answer_is_written_is_none_of_ours() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| {
        Reply::Answer(Answer::text("{\"name\": \"Ada\", \"age\": 36 }").gap(Duration::from_secs(1)))
    })
    .await;
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
    let schema =
        json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}});
    let body = json!({"model": "workflow/json_extraction", "messages": [{"role": "user", "content": "Ada, 36"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}});
    let answer = house.client().chat(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(vendor.seen()[0].streams(), "it was not read as it grew, so nothing is shown");
    let outcome = house.decision(&answer.request_id()).await["outcome"].clone();
    let ms = |what: &str| outcome[what].as_f64().unwrap();
    assert!(ms("overhead_ms") < ms("total_ms") / 2.0, "{outcome:#}");
}
