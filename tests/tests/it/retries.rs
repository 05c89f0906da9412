//! `retry` of a node: how many calls there are at most, after which failures, and who says how long the pause is.

use crate::NO_CHANCE;
use serde_json::json;
use std::sync::OnceLock;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Seen, Vendor};

/// Three models of one vendor, and a workflow whose call is tried again as it says.
async fn house(vendor: &Vendor, retry: &str) -> House {
    let text = format!(
        "version: 1\nname: tries\nnodes:\n  - {{ id: ask, type: generate, route: {{ strategy: strongest }}, retry: {{ {retry}, \
         backoff: {{ initial: 1ms }} }} }}\noutput: nodes.ask.completion\n"
    );
    let plan = Plan::new().vendor("lab", vendor).rules(NO_CHANCE).file("workflows/tries.yaml", &text);
    ["lab/one", "lab/two", "lab/three"]
        .into_iter()
        .fold(plan, |plan, model| plan.model(&Model::new(model)))
        .start()
        .await
}

/// Status of the answer, and how often the vendor was asked.
async fn calls(retry: &str, reply: impl Fn() -> Reply + Send + Sync + 'static) -> (u16, usize) {
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| reply()).await;
    let house = house(&vendor, retry).await;
    let body = json!({"model": "workflow/tries", "messages": [{"role": "user", "content": "hi"}]});
    let answer = house.client().chat(&body).await;
    (answer.status, vendor.count())
}

/// Four models at most, each once, and the last one twice.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_number_of_its_own_a_node_is_tried_as_the_settings_say() {
    // Three models, of which the last is asked again.
    assert_eq!(calls("reroute: true", || Reply::error(503)).await, (503, 4));
    assert_eq!(calls("reroute: false", || Reply::error(503)).await, (503, 2));
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::error(503)).await;
    let text =
        "version: 1\nname: tries\nnodes:\n  - { id: ask, type: generate }\noutput: nodes.ask.completion\n";
    let plan = Plan::new()
        .vendor("lab", &vendor)
        .rules(NO_CHANCE)
        .settings("retry: { backoff: 1ms }\n")
        .file("workflows/tries.yaml", text);
    let models = ["one", "two", "three", "four", "five"].map(|m| format!("lab/{m}"));
    let house = models.iter().fold(plan, |plan, model| plan.model(&Model::new(model))).start().await;
    let body = json!({"model": "workflow/tries", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!((house.client().chat(&body).await.status, vendor.count()), (503, 5));
}

/// Another model is another attempt.
#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_attempts_than_a_node_allows_whichever_models_they_go_to() {
    assert_eq!(calls("max_attempts: 1", || Reply::error(503)).await, (503, 1));
    assert_eq!(calls("max_attempts: 2", || Reply::error(503)).await, (503, 2));
    assert_eq!(calls("max_attempts: 4", || Reply::error(503)).await, (503, 4));
    assert_eq!(calls("max_attempts: 3, reroute: false", || Reply::error(503)).await, (503, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_failures_than_a_node_names_are_not_tried_again() {
    assert_eq!(calls("codes: [rate_limited]", || Reply::error(503)).await, (503, 1));
    assert_eq!(calls("max_attempts: 3, codes: [unavailable]", || Reply::error(503)).await, (503, 3));
    // A key that a vendor does not take is no matter of trying again: others are asked.
    assert_eq!(calls("max_attempts: 1, codes: [rate_limited]", || Reply::error(401)).await.1, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_may_have_its_own_pause_in_the_place_of_the_vendors() {
    let busy = || Reply::error_with(429, "retry-after", "600");
    let own = "max_attempts: 2, reroute: false, respect_retry_after: false";
    assert_eq!(calls(own, busy).await, (429, 2));
    let theirs = "max_attempts: 2, reroute: false, respect_retry_after: true";
    assert_eq!(calls(theirs, busy).await, (429, 1), "there is no time for the vendor's pause");
}

/// What a rule says of them holds where a node says nothing of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_says_of_attempts_what_a_node_can_say() {
    let by_rule = async |retry: &str, reply: fn() -> Reply| {
        let vendor = Vendor::scripted(Dialect::OpenAi, move |_| reply()).await;
        let text = "version: 1\nname: tries\nnodes:\n  - { id: ask, type: generate }\noutput: nodes.ask.completion\n";
        let rule = format!("rules:\n  - {{ id: said, actions: {{ retry: {{ {retry} }} }} }}\n");
        let plan = Plan::new().vendor("lab", &vendor).rules(&format!("{NO_CHANCE}{rule}"));
        let plan = plan.file("workflows/tries.yaml", text);
        let models = ["lab/one", "lab/two", "lab/three"];
        let house = models.into_iter().fold(plan, |plan, model| plan.model(&Model::new(model))).start().await;
        let body = json!({"model": "workflow/tries", "messages": [{"role": "user", "content": "hi"}]});
        (house.client().chat(&body).await.status, vendor.count())
    };
    let down: fn() -> Reply = || Reply::error(503);
    let busy: fn() -> Reply = || Reply::error_with(429, "retry-after", "600");
    let short = "max_attempts: 2, backoff: { initial: 1ms, max: 1ms, jitter: none }";
    assert_eq!(by_rule(short, down).await, (503, 4));
    assert_eq!(by_rule(&format!("{short}, codes: [rate_limited]"), down).await, (503, 1));
    assert_eq!(by_rule(&format!("{short}, codes: [unavailable], reroute: false"), down).await, (503, 2));
    assert_eq!(
        by_rule(&format!("{short}, reroute: false, respect_retry_after: false"), busy).await,
        (429, 2)
    );
    assert_eq!(by_rule(&format!("{short}, reroute: false"), busy).await, (429, 1));
}

/// The strongest model that half a cent pays for, and no call but the first of each question to a provider.
async fn within_half_a_cent(plan: Plan, calls: u32) -> House {
    let text = format!(
        "version: 1\nname: tries\nnodes:\n  - {{ id: ask, type: generate, route: {{ strategy: strongest }}, \
         budget: {{ usd: 0.005, calls: {calls} }} }}\noutput: nodes.ask.completion\n"
    );
    let plan = plan.rules(NO_CHANCE).settings("retry: { budget: 0.01, budget_per_second: 0 }");
    plan.file("workflows/tries.yaml", &text).start().await
}

fn model(id: &str, quality_tier: u8, price: f64) -> Model {
    Model { quality_tier, ..Model::new(id).price(price) }
}

/// Which models were asked for the answer to one question.
async fn asked(house: &House, vendor: &Vendor) -> Vec<String> {
    let body = json!({"model": "workflow/tries", "messages": [{"role": "user", "content": "hi"}]});
    let answer = house.client().chat(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    vendor.seen().iter().map(|s| s.model()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_there_is_no_money_for_has_not_been_asked() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let plan = Plan::new().vendor("lab", &vendor).model(&model("lab/dear", 3, 100.0)).model(&model(
        "lab/cheap",
        2,
        1.0,
    ));
    let house = within_half_a_cent(plan, 1).await;
    assert_eq!(asked(&house, &vendor).await, ["cheap"]);
    let metrics = house.client().get("/metrics").await.text();
    for result in ["made", "refused"] {
        let none = format!("turnout_extra_calls_total{{kind=\"retry\",result=\"{result}\"}} 0\n");
        assert!(metrics.contains(&none), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_there_is_no_money_for_takes_none_of_the_calls_that_a_node_may_make() {
    let failing = |seen: &Seen| match seen.model().as_str() {
        "failing" => Reply::error(503),
        _ => Reply::text("hello"),
    };
    let vendor = Vendor::scripted(Dialect::OpenAi, failing).await;
    let plan = Plan::new()
        .vendor("alpha", &vendor)
        .vendor("beta", &vendor)
        .vendor("gamma", &vendor)
        .model(&model("alpha/failing", 3, 1.0))
        .model(&model("beta/dear", 2, 100.0))
        .model(&model("gamma/cheap", 1, 1.0));
    let house = within_half_a_cent(plan, 2).await;
    assert_eq!(asked(&house, &vendor).await, ["failing", "cheap"]);
}

/// What a call was for: only another model than the first is one to fall back on.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_tried_again_is_no_fallback() {
    let body = json!({"model": "workflow/tries", "messages": [{"role": "user", "content": "hi"}]});
    for (reroute, then, same) in [(false, "primary", true), (true, "fallback", false)] {
        let first: OnceLock<String> = OnceLock::new();
        let script = move |seen: &Seen| match *first.get_or_init(|| seen.model()) == seen.model() {
            true => Reply::error(503),
            false => Reply::text("hello"),
        };
        let vendor = Vendor::scripted(Dialect::OpenAi, script).await;
        let text = format!(
            "version: 1\nname: tries\nnodes:\n  - {{ id: ask, type: generate, primary: true, retry: {{ max_attempts: 2, \
             reroute: {reroute}, backoff: {{ initial: 1ms }} }} }}\noutput: nodes.ask.completion\n"
        );
        let plan = Plan::new().vendor("lab", &vendor).rules(NO_CHANCE).file("workflows/tries.yaml", &text);
        let plan =
            ["lab/one", "lab/two"].into_iter().fold(plan, |plan, model| plan.model(&Model::new(model)));
        let house = plan.start().await;
        let record = house.decision(&house.client().chat(&body).await.request_id()).await;
        let steps = record["run"]["steps"].as_array().unwrap();
        let calls: Vec<_> =
            steps.iter().flat_map(|s| s["calls"].as_array().cloned().unwrap_or_default()).collect();
        assert_eq!((calls.len(), &calls[0]["purpose"]), (2, &json!("primary")), "{calls:#?}");
        assert_eq!((&calls[1]["purpose"], calls[0]["model"] == calls[1]["model"]), (&json!(then), same));
    }
}
