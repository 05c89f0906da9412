//! What a request rules out by itself is a 400 that names the member; what passes, or is the operator's doing, is not.

use serde_json::{Value, json};
use tests::client::Response;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

/// Two vendors: `oa` speaks OpenAI's dialect, `an` Anthropic's. `oa/small` has no tools and a small window.
async fn start() -> (Vendor, Vendor, House) {
    let oa = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("ok")).await;
    let an = Vendor::scripted(Dialect::Anthropic, |_| Reply::text("ok")).await;
    let small = Model { abilities: "streaming", quality_tier: 1, ..Model::new("oa/small") };
    let plan = Plan::new().vendor("oa", &oa).vendor("an", &an).rules(crate::NO_CHANCE);
    let plan = plan.model(&Model::new("oa/ok")).model(&small).model(&Model::new("an/ok"));
    let overlay = "models: { oa/small: { context_window: 4000, max_output_tokens: 1000 } }\n";
    let house = plan.file("matrix.d/small.yaml", overlay).start().await;
    (oa, an, house)
}

fn ask(model: &str, more: &Value) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "hello"}]});
    for (k, v) in more.as_object().unwrap() {
        body[k] = v.clone();
    }
    body
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])
}

fn check(answer: &Response, param: &str, says: &[&str]) {
    let error = answer.error(400);
    assert_eq!(
        (error["type"].as_str(), error["param"].as_str()),
        (Some("invalid_request_error"), Some(param)),
        "{error}"
    );
    for part in says {
        assert!(error["message"].as_str().unwrap().contains(part), "`{part}` is not in {error}");
    }
    assert_eq!(answer.header("x-should-retry"), Some("false"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_request_itself_rules_out_is_its_fault() {
    let (oa, an, house) = start().await;
    let long = json!([{"role": "user", "content": "several words and more of them ".repeat(2000)}]);
    for (model, more, param, says) in [
        ("an/ok", json!({"n": 2}), "n", ["an/ok", "one answer"]),
        ("oa/small", json!({"tools": tools()}), "tools", ["oa/small", "no tools"]),
        ("oa/small", json!({"messages": long}), "messages", ["oa/small", "4000 tokens"]),
        ("oa/ok", json!({"routing": {"exclude": ["oa/*"]}}), "routing.exclude", ["oa/ok", "routing.exclude"]),
        ("oa/ok", json!({"provider": {"only": ["an"]}}), "provider.only", ["oa/ok", "provider.only"]),
        (
            "oa/small",
            json!({"routing": {"min_quality_tier": 2}}),
            "routing.min_quality_tier",
            ["tier 1", "below 2"],
        ),
        ("an/ok", json!({"tools": [{"type": "web_search"}]}), "tools", ["an/ok", "`function`"]),
        (
            "auto",
            json!({"tools": tools(), "routing": {"require": ["oa/small"]}}),
            "routing.require",
            ["`tools` rules out 1", "2"],
        ),
        ("auto", json!({"logprobs": true}), "logprobs", ["`logprobs` rules out 3", "no logprobs"]),
        (
            "auto",
            json!({"modalities": ["text", "audio"]}),
            "modalities",
            ["`modalities` rules out 3", "in text only"],
        ),
    ] {
        check(&house.client().chat(&ask(model, &more)).await, param, &says);
    }
    assert_eq!((oa.count(), an.count()), (0, 0));
    // One that fits is enough for `auto`.
    let served = house.client().chat(&ask("auto", &json!({"n": 2}))).await;
    assert_eq!(
        (served.status, served.header("x-turnout-model").map(|m| m.starts_with("oa/"))),
        (200, Some(true))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_the_operators_doing_or_passes_is_not() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let plan = Plan::new().vendor("lab", &vendor).with_key("lab", "LAB_KEY_THAT_NOBODY_SET");
    let house = plan.model(&Model::new("lab/one")).start_even_if_not_ready().await;
    for model in ["lab/one", "auto"] {
        let error = house.client().chat(&ask(model, &json!({"n": 2}))).await.error(503);
        assert_eq!(error["type"], "service_unavailable_error", "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restrictions_only_become_tighter_wherever_they_stand() {
    let (oa, an, house) = start().await;
    let served = |answer: Response| {
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.header("x-turnout-model").unwrap().to_owned()
    };
    let both = json!({"provider": {"only": ["an"]}, "routing": {"require": ["*/ok"]}});
    assert_eq!(served(house.client().chat(&ask("auto", &both)).await), "an/ok");
    let both = json!({"models": ["an/ok", "oa/ok"], "routing": {"require": ["oa/*"]}});
    assert_eq!(served(house.client().chat(&ask("auto", &both)).await), "oa/ok");
    let with = async |header: (&str, &str), more: &Value| {
        let body = ask("auto", more).to_string();
        let headers = [("content-type", "application/json"), header];
        house.client().send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await
    };
    let body = json!({"routing": {"require": ["*/ok"]}});
    assert_eq!(served(with(("x-turnout-require", "an/*"), &body).await), "an/ok");
    let body = json!({"routing": {"exclude": ["oa/*"]}});
    let none_left = with(("x-turnout-exclude", "an/*"), &body).await;
    check(&none_left, "routing.exclude", &["routing.exclude", "x-turnout-exclude"]);

    let (oa_before, an_before) = (oa.count(), an.count());
    for (more, param, other) in [
        (
            json!({"provider": {"only": ["an"]}, "routing": {"require": ["oa/ok"]}}),
            "routing.require",
            "provider.only",
        ),
        (json!({"routing": {"require": ["an/*"]}, "models": ["oa/ok"]}), "models", "routing.require"),
    ] {
        check(&house.client().chat(&ask("auto", &more)).await, param, &[param, other]);
    }
    for (more, param) in [
        (json!({"provider": {"only": ["ann"]}}), "provider.only"),
        (json!({"provider": {"order": ["oa", "ann"]}}), "provider.order"),
        (json!({"provider": {"ignore": ["ann"]}}), "provider.ignore"),
        (json!({"routing": {"prefer": ["ann/*"]}}), "routing.prefer"),
    ] {
        let refused = house.client().chat(&ask("auto", &more)).await;
        let error = refused.error(400);
        assert_eq!(error["param"], param, "{error}");
        assert_eq!(error["message"], "`ann/*` names no model; did you mean `an`?", "{error}");
    }
    let body = json!({"routing": {"require": ["an/ok"]}});
    let says = ["x-turnout-require", "routing.require"];
    check(&with(("x-turnout-require", "oa/ok"), &body).await, "x-turnout-require", &says);
    assert_eq!((oa.count(), an.count()), (oa_before, an_before));
}

/// Two readers could read such a body two ways: it is refused wherever JSON is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_stands_twice_is_refused_everywhere() {
    let (_, _, house) = start().await;
    let id = house.client().chat(&ask("auto", &json!({}))).await.request_id();
    for (path, body, param) in [
        ("/v1/feedback", format!(r#"{{"request_id":"{id}","score":1,"score":0}}"#), "score"),
        ("/v1/chat/completions", r#"{"model":"auto","n":1,"n":2,"messages":[]}"#.to_owned(), "n"),
        ("/v1/runs", r#"{"workflow":"default","workflow":"other"}"#.to_owned(), "workflow"),
    ] {
        let headers = [("content-type", "application/json")];
        let answer = house.client().send("POST", path, &headers, body.as_bytes()).await;
        check(&answer, param, &["stands twice"]);
    }
    // Nothing was recorded: the first word is yet to come.
    let said = house.client().post("/v1/feedback", &json!({"request_id": id, "score": 1})).await.json();
    assert_eq!(said["recorded"], true, "{said}");
}

/// Nothing behind the door would see them: the model would answer as if it had been offered none.
#[tokio::test(flavor = "multi_thread")]
async fn functions_of_the_old_form_are_never_lost_in_silence() {
    let (oa, an, house) = start().await;
    for (more, param) in [
        (json!({"functions": [{"name": "f", "parameters": {"type": "object"}}]}), "functions"),
        (json!({"function_call": {"name": "f"}}), "function_call"),
    ] {
        check(&house.client().chat(&ask("an/ok", &more)).await, param, &["use `tools`"]);
    }
    assert_eq!((oa.count(), an.count()), (0, 0));
}

/// What a request will not pay, or will not take, is its own doing: the SDK must not try it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_that_no_model_keeps_is_named() {
    let (_oa, _an, house) = start().await;
    for (option, param) in [
        (json!({"max_cost_usd": 0.000_000_01}), "routing.max_cost_usd"),
        (json!({"min_quality": 0.999}), "routing.min_quality"),
    ] {
        let refused = house.client().chat(&ask("auto", &json!({"routing": option}))).await;
        check(&refused, param, &[param]);
    }
}

/// What is told of the floor is how near the best came to it, not the worst.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_quality_quotes_the_best() {
    let oa = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("ok")).await;
    let plan = Plan::new().vendor("oa", &oa).rules(crate::NO_CHANCE);
    let plan = [0.2, 0.9, 0.5]
        .into_iter()
        .enumerate()
        .fold(plan, |plan, (i, success)| plan.model(&Model::new(&format!("oa/m{i}")).success(success)));
    let house = plan.start().await;
    let refused = house.client().chat(&ask("auto", &json!({"routing": {"min_quality": 0.999}}))).await;
    let message = refused.error(400)["message"].as_str().unwrap().to_owned();
    let bound = |told: &str| -> f64 {
        let figure = told.split("lower bound ").nth(1).and_then(|w| w.split(' ').next());
        figure.and_then(|f| f.parse().ok()).unwrap_or_else(|| panic!("{told}"))
    };
    // What a model of that quality alone is told.
    let mut bounds = Vec::new();
    for i in 0..3 {
        let one = ask(&format!("oa/m{i}"), &json!({"routing": {"min_quality": 0.999}}));
        let told = house.client().chat(&one).await.error(400)["message"].as_str().unwrap().to_owned();
        bounds.push(bound(&told));
    }
    assert_eq!(
        bound(&message),
        bounds.iter().copied().fold(f64::MIN, f64::max),
        "{message}; alone: {bounds:?}"
    );
    assert!(bounds[1] > bounds[0] && message.contains("rules out 3 (the nearest"), "{message}; {bounds:?}");
}

/// Nothing may be spent: what costs nothing answers, and nothing else does.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_may_cost_nothing_goes_where_nothing_is_charged() {
    let paid = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("paid")).await;
    let free = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("free")).await;
    let plan = Plan::new().vendor("paid", &paid).vendor("free", &free).free("free").rules(crate::NO_CHANCE);
    let house =
        plan.model(&Model::new("paid/good")).model(&Model::new("free/fair").success(0.5)).start().await;
    for option in ["max_cost_usd", "cap_cost"] {
        let answer = house.client().chat(&ask("auto", &json!({"routing": {option: 0}}))).await;
        assert_eq!(
            (answer.status, answer.header("x-turnout-model")),
            (200, Some("free/fair")),
            "{}",
            answer.text()
        );
        let refused = house.client().chat(&ask("paid/good", &json!({"routing": {option: 0}}))).await;
        check(&refused, "routing.max_cost_usd", &["costs more"]);
    }
    assert_eq!(paid.count(), 0);
}
