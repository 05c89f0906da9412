//! Bodies that are wrong in one place: a clear 400 that names the place, nobody is called, the process lives.

use serde_json::{Value, json};
use tests::house::{Model, Plan};
use tests::vendor::{Dialect, Vendor};

fn with(name: &str, value: Value) -> Value {
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "hello"}]});
    body[name] = value;
    body
}

fn routing(name: &str, value: Value) -> Value {
    with("routing", json!({name: value}))
}

fn message(value: Value) -> Value {
    with("messages", json!([value]))
}

/// Body, what `param` or the message must name, and what the message must say.
fn cases() -> Vec<(Value, &'static str, &'static str)> {
    vec![
        (json!({"messages": [{"role": "user", "content": "x"}]}), "model", ""),
        (json!({"model": "auto"}), "messages", ""),
        (with("model", json!(7)), "model", ""),
        (with("model", json!("")), "model", ""),
        (with("model", json!("a b")), "model", ""),
        (with("messages", json!("hello")), "messages", ""),
        (with("messages", json!([])), "messages", ""),
        (with("messages", json!(["hello"])), "messages", ""),
        (message(json!({"content": "x"})), "role", ""),
        (message(json!({"role": "usr", "content": "x"})), "role", "user"),
        (message(json!({"role": "user", "content": 7})), "content", ""),
        (message(json!({"role": "user", "content": [{"type": "text"}]})), "content", ""),
        (message(json!({"role": "user", "content": [{"type": "image_url", "image_url": 5}]})), "content", ""),
        (message(json!({"role": "assistant", "tool_calls": [{"id": 1}]})), "tool_calls", ""),
        (with("stream", json!("yes")), "stream", ""),
        (with("temperature", json!("hot")), "temperature", ""),
        (with("temperature", json!(-1)), "temperature", ""),
        (with("temperature", json!(9)), "temperature", ""),
        (with("top_p", json!(2)), "top_p", ""),
        (with("max_tokens", json!(-5)), "max_tokens", ""),
        (with("max_tokens", json!(1.5)), "max_tokens", ""),
        (with("n", json!(0)), "n", ""),
        (with("n", json!("two")), "n", ""),
        (with("stop", json!(7)), "stop", ""),
        (with("stop", json!(vec!["x"; 17])), "stop", ""),
        (with("tools", json!({})), "tools", ""),
        (with("tools", json!([{"type": "function"}])), "tools", ""),
        (with("tool_choice", json!("sometimes")), "tool_choice", ""),
        (with("response_format", json!("json")), "response_format", ""),
        (with("response_format", json!({"type": "yaml"})), "response_format", ""),
        (with("response_format", json!({"type": "json_schema"})), "response_format", ""),
        (with("stream_options", json!(5)), "stream_options", ""),
        (with("metadata", json!("x")), "metadata", ""),
        (with("metadata", json!({"team": "a\u{1b}[31m"})), "metadata.team", "control"),
        (with("metadata", json!({"a": {"b": ["x\u{0}"]}})), "metadata.a", "control"),
        (with("metadata", json!({"a\u{85}": "b"})), "metadata", "control"),
        (with("metadata", json!({"tags": ["a\u{7f}"]})), "metadata.tags", "control"),
        (routing("tags", json!({"t\u{1b}": "v"})), "routing.tags", "control"),
        (routing("tags", json!({"t": "v\r\nx: y"})), "routing.tags", "control"),
        (with("aws_secret_access_key", json!("x")), "aws_secret_access_key", "operator"),
        (with("headers", json!({"authorization": "x"})), "headers", "operator"),
        (with("messages", orphan("tool_call_id")), "messages.1", "makes the call"),
        (with("messages", orphan("name")), "messages.1", "tool_call_id"),
        (with("routing", json!("cheap")), "routing", ""),
        (routing("max_cost", json!(1)), "max_cost", "max_cost_usd"),
        (routing("wrkflow", json!("default")), "wrkflow", "workflow"),
        (routing("economy", json!("cheap")), "economy", "cheapest"),
        (routing("task_family", json!("codng")), "task_family", "coding"),
        (routing("max_cost_usd", json!("1")), "max_cost_usd", "dollars"),
        (routing("min_quality", json!(7)), "min_quality", "0..=1"),
        (routing("min_quality_tier", json!(4)), "min_quality_tier", "3"),
        (routing("mode", json!("gratis")), "mode", "free"),
        (routing("prefer", json!("lab/one")), "prefer", "list"),
        (routing("tags", json!([1])), "tags", "map"),
        (routing("explain", json!("yes")), "explain", "true or false"),
    ]
}

/// A conversation that holds the result of a tool, and not the call that it answers.
fn orphan(named_by: &str) -> Value {
    let result = json!({"role": "tool", named_by: "call_1", "content": "42"});
    json!([{"role": "user", "content": "x"}, result])
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bodies_are_told_what_is_wrong_and_where() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
    let mut wrong = Vec::new();
    for (body, place, says) in cases() {
        let answer = house.client().chat(&body).await;
        if answer.status != 400 {
            wrong.push(format!("{body}\n  gives {}: {}", answer.status, answer.text()));
            continue;
        }
        let error = answer.error(400);
        let text =
            error["message"].as_str().unwrap().to_owned() + " " + error["param"].as_str().unwrap_or_default();
        if !text.contains(place) || !text.contains(says) {
            wrong.push(format!("{body}\n  does not name `{place}` and `{says}`: {error}"));
        }
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{body}");
    }
    // The member that names a workflow which is not there is the one that the client wrote.
    for (body, place) in [
        (routing("workflow", json!("defaul")), "routing.workflow"),
        (with("model", json!("workflow/defaul")), "model"),
    ] {
        let answer = house.client().chat(&body).await;
        let error = answer.error(404);
        assert_eq!((&error["code"], &error["param"]), (&json!("unknown_workflow"), &json!(place)), "{error}");
        assert!(error["message"].as_str().unwrap().contains("`default`"), "{error}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(vendor.count(), 0, "a wrong body reached the vendor");
    assert_eq!(house.client().chat(&with("temperature", json!(1))).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_are_told_the_nearest() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
    for (model, near) in
        [("lab/oen", "lab/one"), ("workflow/defalt", "default"), ("auto:cheap", "auto:cheapest")]
    {
        let error = house.client().chat(&with("model", json!(model))).await.error(404);
        assert!(error["message"].as_str().unwrap().contains(near), "{model}: {error}");
    }
    let answer = house.client().chat(&routing("workflow", json!("defalt"))).await;
    let error = answer.error(404);
    assert!(error["message"].as_str().unwrap().contains("default"), "{error}");
    for text in ["x-turnout-max-cost: 1", "x-turnout-economy: cheap"] {
        let (name, value) = text.split_once(": ").unwrap();
        let body = with("stream", json!(false)).to_string();
        let headers = [("content-type", "application/json"), (name, value)];
        let answer = house.client().send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
        let _ = answer.error(400);
    }
    assert_eq!(vendor.count(), 0);
}

/// What the caller wrote is not repeated into the error: it may be anything.
#[tokio::test(flavor = "multi_thread")]
async fn errors_do_not_repeat_values() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
    let secret = "secret-7741";
    for body in [
        with("temperature", json!(secret)),
        with("stop", json!({secret: 1})),
        message(json!({"role": secret, "content": secret})),
        routing("economy", json!(secret)),
    ] {
        let answer = house.client().chat(&body).await;
        let _ = answer.error(400);
        assert!(!answer.text().contains(secret), "{body}: {}", answer.text());
    }
}
