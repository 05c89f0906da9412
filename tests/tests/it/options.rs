//! What a request asks for by verbs of policies holds as far as rules allow, and says what became of it.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use tests::client::Response;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

fn ask(more: &Value) -> Value {
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "Say hello to me."}]});
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// Two models that differ in nothing, and rules.
async fn start(vendor: &Vendor, rules: &str) -> House {
    let plan = Plan::new().vendor("lab", vendor).model(&Model::new("lab/one")).model(&Model::new("lab/two"));
    plan.rules(&format!("{NO_CHANCE}{rules}")).start().await
}

async fn vendor() -> Vendor {
    Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await
}

async fn send(house: &House, more: Value) -> Response {
    house.client().chat(&ask(&more)).await
}

/// What became of an option, as the record tells.
async fn effect(house: &House, answer: &Response, option: &str) -> String {
    let record = house.decision(&answer.request_id()).await;
    let actions = record["decision"]["actions"].as_array().unwrap().clone();
    let own = actions.iter().find(|a| a["rule"] == option);
    own.unwrap_or_else(|| panic!("no {option} in {actions:?}"))["effect"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_that_a_request_asks_for_hold_its_answer() {
    let vendor = vendor().await;
    let house = start(&vendor, "").await;
    vendor.queue(Reply::text("no json"));
    vendor.otherwise(|_| Reply::text(r#"{"greeting": "hello"}"#));
    let answer = send(&house, json!({"routing": {"validators": ["json"]}})).await;
    assert_eq!((answer.status, answer.content().as_str()), (200, r#"{"greeting": "hello"}"#));
    assert_eq!(vendor.count(), 2);
    assert_eq!(effect(&house, &answer, "routing.validators").await, "applied");
    // LiteLLM's form of the same, of which the vendor hears nothing.
    vendor.queue(Reply::text("no json"));
    let answer = send(&house, json!({"guardrails": ["json"]})).await;
    assert_eq!((answer.status, vendor.count()), (200, 4));
    assert!(vendor.seen().iter().all(|s| s.body.get("guardrails").is_none()));
    vendor.queue(Reply::text("no json"));
    let answer = send(&house, json!({"metadata": {"guardrails": ["json"], "own": "x"}})).await;
    assert_eq!((answer.status, vendor.count()), (200, 6));
    assert_eq!(vendor.seen().last().unwrap().body["metadata"], json!({"own": "x"}));
    vendor.otherwise(|_| Reply::text("never json"));
    let strict = json!({"routing": {"validators": [{"use": "json", "severity": "block"}]}});
    assert_eq!(send(&house, strict).await.error(422)["type"], "server_error", "it is the answer that fails");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_options_are_the_clients_fault_and_name_the_right_ones() {
    let vendor = vendor().await;
    let house = start(&vendor, "").await;
    for (more, param, part) in [
        (json!({"routing": {"validators": ["jsn"]}}), "routing.validators", "did you mean `json`?"),
        (json!({"guardrails": ["jsn"]}), "guardrails", "did you mean `json`?"),
        (json!({"metadata": {"guardrails": ["jsn"]}}), "metadata.guardrails", "did you mean `json`?"),
        (
            json!({"routing": {"validators": [{"use": "length", "with": {"mx": 3}}]}}),
            "routing.validators",
            "mx",
        ),
        (json!({"routing": {"avoid": ["lab/tow"]}}), "routing.avoid", "did you mean `lab/two`?"),
        (json!({"routing": {"capcost": 1}}), "routing.capcost", "did you mean `cap_cost`?"),
        (json!({"routing": {"experiment": "all"}}), "routing.experiment", "expected none"),
        (json!({"routing": {"experiment": {"only": ["repairs"]}}}), "routing.experiment", "expected none"),
        (json!({"routing": {"stream": "bufferd"}}), "routing.stream", "did you mean `buffered`?"),
        (json!({"metadata": {"tags": [1]}}), "metadata.tags", "short strings"),
    ] {
        let error = send(&house, more).await.error(400);
        assert_eq!(error["param"], param, "{error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
    assert_eq!(vendor.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn soft_options_tip_the_scales_and_ceilings_hold() {
    let vendor = vendor().await;
    let house = start(&vendor, "").await;
    for (avoided, served) in [("lab/one", "lab/two"), ("lab/two", "lab/one")] {
        let answer = send(&house, json!({"routing": {"avoid": [avoided]}})).await;
        assert_eq!(answer.header("x-turnout-model"), Some(served));
    }
    let before = vendor.count();
    let refused = send(&house, json!({"routing": {"cap_tokens": 1}})).await;
    assert_eq!(refused.error(400)["param"], "routing.cap_tokens");
    let refused = send(&house, json!({"routing": {"cap_cost": 0.000000001}})).await;
    assert!(refused.text().contains("max_cost"), "{}", refused.text());
    assert_eq!(vendor.count(), before);
    let answer = send(
        &house,
        json!({"routing": {"weight": "price", "explore": "none", "experiment": "none", "sticky": "user"}}),
    )
    .await;
    for option in ["routing.weight", "routing.explore", "routing.experiment", "routing.sticky"] {
        assert_eq!(effect(&house, &answer, option).await, "applied");
    }
    let kept = json!({"routing": {"sticky": {"by": "user", "ttl": "30m"}}});
    assert_eq!(effect(&house, &send(&house, kept).await, "routing.sticky").await, "applied");
    // A preference in the form of OpenRouter is the same weight.
    let answer = send(&house, json!({"provider": {"sort": "throughput"}})).await;
    assert_eq!(effect(&house, &answer, "provider.sort").await, "applied");
    let headers = [("content-type", "application/json"), ("x-turnout-tags", "team=a,batch")];
    let body = ask(&json!({})).to_string();
    let refused = house.client().send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
    assert_eq!(refused.error(400)["param"], "x-turnout-tags");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_ask_to_be_checked_before_it_leaves() {
    let vendor = vendor().await;
    let house = start(&vendor, "").await;
    for (mode, held) in [("buffered", true), ("passthrough", false)] {
        let body = ask(&json!({"stream": true, "routing": {"stream": mode}}));
        let events = house.client().stream(&body).await;
        assert_eq!(events.header("x-turnout-verdict").is_some(), held, "{mode}");
        events.collect().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_outrank_options_and_strict_ones_are_refused_instead() {
    let vendor = vendor().await;
    let rules = "rules:\n  - { id: held, actions: { stream: buffered, workflow: default } }\n  \
                 - { id: not_two, actions: { exclude: [lab/two] } }\n";
    let house = start(&vendor, rules).await;
    for (options, option) in [
        (json!({"stream": "passthrough"}), "routing.stream"),
        (json!({"workflow": "json_extraction"}), "routing.workflow"),
        (json!({"prefer": ["lab/two"]}), "routing.prefer"),
    ] {
        let answer = send(&house, json!({"routing": options})).await;
        assert_eq!(answer.status, 200, "{option}: {}", answer.text());
        let said = effect(&house, &answer, option).await;
        assert!(["overridden by held", "overridden by not_two"].contains(&said.as_str()), "{option}: {said}");
        let before = vendor.count();
        let mut strict = options.clone();
        strict["strict"] = true.into();
        let error = send(&house, json!({"routing": strict})).await.error(403);
        assert_eq!(error["code"], "option_overridden", "{error}");
        assert!(error["message"].as_str().unwrap().contains(option), "{error}");
        assert_eq!(vendor.count(), before);
    }
    // What a rule only makes tighter still holds.
    let tighter =
        json!({"routing": {"strict": true, "cap_tokens": 5000, "stream": "buffered", "prefer": ["lab/one"]}});
    assert_eq!(send(&house, tighter).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_in_the_form_of_litellm_are_labels() {
    let vendor = vendor().await;
    let rule = "rules:\n  - { id: no_blue, when: '\"blue\" in request.options.tags', actions: { deny: { reason: no, code: blue } } }\n";
    let house = start(&vendor, rule).await;
    assert_eq!(send(&house, json!({"metadata": {"tags": ["blue"]}})).await.error(403)["code"], "blue");
    let answer = send(&house, json!({"metadata": {"tags": ["red"], "order": "4711"}})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(house.decision(&answer.request_id()).await["decision"]["tags"]["red"], "true");
    // No vendor takes a list there.
    assert_eq!(vendor.seen()[0].body["metadata"], json!({"order": "4711"}));
    assert_eq!(send(&house, json!({"metadata": {"tags": ["red"]}})).await.status, 200);
    assert_eq!(vendor.seen()[1].body.get("metadata"), None);
}

/// A ceiling of the client's own that rules out everybody is the request's doing, also where a price is not known.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_that_rules_out_everybody_is_told_as_the_requests_doing() {
    let vendor = vendor().await;
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/known"))
        .model(&Model::new("lab/odd").unpriced())
        .rules(crate::NO_CHANCE)
        .start()
        .await;
    for (option, most) in [("max_cost_usd", json!(0.0000001)), ("cap_tokens", json!(3))] {
        for models in ["auto", "lab/odd"] {
            let body = json!({"model": models, "messages": [{"role": "user", "content": "hi"}],
                "routing": {option: most}});
            let error = house.client().chat(&body).await.error(400);
            let param = format!("routing.{option}");
            assert_eq!(
                (&error["code"], &error["param"]),
                (&json!("unfit_request"), &json!(param)),
                "{error}"
            );
        }
    }
    assert_eq!(vendor.count(), 0);
}

/// What a request would be told is told before it is sent, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_written_down_is_explained_with_its_options() {
    let vendor = vendor().await;
    let house =
        start(&vendor, "rules:\n  - { id: first, actions: { workflow: default, cap_cost: 0.5 } }\n").await;
    let body = ask(&json!({"routing": {"workflow": "hard_coding", "cap_cost": 0.25, "stream": "buffered"}}));
    house.folder().write("request.json", &body.to_string());
    let file = house.folder().path().join("request.json").display().to_string();
    let out = house.cli(&["policy", "explain", &file]).await;
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{out:?}");
    let line =
        |of: &str| told.lines().find(|l| l.contains(of)).unwrap_or_else(|| panic!("{of}: {told}")).to_owned();
    assert!(line("asked    routing.workflow").contains("overridden by first"), "{told}");
    assert!(line("asked    routing.cap_cost: 0.25").contains("the lower holds"), "{told}");
    assert!(line("asked    routing.stream").contains("[applied]"), "{told}");
    let out = house.cli(&["policy", "explain", "req_0192f3a1"]).await;
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("`turnout explain req_0192f3a1`"), "{said}");
}
