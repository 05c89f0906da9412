//! What was answered once is the answer to the same question in other words, and to no other question.

use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use tests::admin::{Admin, send};
use tests::client::Response;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

/// The example of the guide.
fn faq() -> &'static str {
    let guide = include_str!("../../../docs/workflows.md");
    let (_, from) = guide.split_once("```yaml\n# workflows/faq.yaml\n").unwrap();
    from.split_once("```").unwrap().0
}

async fn vendor() -> Vendor {
    let made = AtomicU32::new(0);
    Vendor::scripted(Dialect::OpenAi, move |_| {
        let nth = made.fetch_add(1, Ordering::Relaxed);
        Reply::text(&format!("answer {nth}")).costing(1_000, 100)
    })
    .await
}

async fn start(vendor: &Vendor, rules: &str) -> House {
    Plan::new()
        .vendor("lab", vendor)
        .model(&Model::new("lab/one"))
        .rules(&format!("{}{rules}", crate::NO_CHANCE))
        .file("workflows/faq.yaml", faq())
        .settings("policies: { headers: [x-team] }")
        .start()
        .await
}

fn question(text: &str) -> Value {
    json!({"model": "workflow/faq", "messages": [{"role": "user", "content": text}]})
}

/// The answer that was made first, and whether it was kept.
fn told(answer: &Response) -> (String, bool) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    (answer.content(), answer.header("x-turnout-cache") == Some("hit"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_question_in_other_words_is_answered_from_what_is_kept() {
    let vendor = vendor().await;
    let house = start(&vendor, "").await;
    let made = house.client().chat(&question("In the EU, how long is the warranty of model 7?")).await;
    assert_eq!(told(&made), ("answer 0".to_owned(), false));
    for text in [
        "In the EU, how long is the warranty of model 7?",
        "in the EU how long is the warranty of model 7",
        "Hello, could you tell me how long is the \"warranty\" of model 7 in the EU?",
    ] {
        let found = house.client().chat(&question(text)).await;
        assert_eq!(told(&found), ("answer 0".to_owned(), true), "{text}");
        assert_eq!(found.header("x-turnout-cost-usd"), Some("0"), "{text}");
    }
    for (n, text) in (1..).zip([
        "In the EU, how long is the warranty of model 8?",
        "In the EU, how long is the warranty of no model 7?",
        "In the US, how long is the warranty of model 7?",
        "In the eu, how long is the warranty of model 7?",
        "In the EU, how long is a warranty of model 7?",
        "In the EU, how short is the warranty of model 7?",
    ]) {
        let other = house.client().chat(&question(text)).await;
        assert_eq!(told(&other), (format!("answer {n}"), false), "{text}");
    }
    let metrics = house.client().get("/metrics").await.text();
    for line in
        ["turnout_cache_hits_total{match=\"exact\"} 1", "turnout_cache_hits_total{match=\"semantic\"} 2"]
    {
        assert!(metrics.lines().any(|l| l == line), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_says_whose_answer_it_was_and_how_similar_the_question() {
    let vendor = vendor().await;
    let house = start(&vendor, "").await;
    let made = house.client().chat(&question("How long is the warranty?")).await;
    let found = house.client().chat(&question("how long is the warranty, please")).await;
    let again = house.client().chat(&question("How long is the warranty?")).await;
    let step =
        async |answer: &Response| house.decision(&answer.request_id()).await["run"]["steps"][0].clone();
    let first = step(&made).await;
    assert_eq!(first["cached"], Value::Null, "{first}");
    let cost = first["calls"][0]["cost_usd"].as_f64().unwrap();
    let similar = step(&found).await;
    let (of, kept) = (made.request_id(), &similar["cached"]);
    assert_eq!((&kept["of"], kept["cost_usd"].as_f64()), (&json!(of), Some(cost)), "{similar}");
    let similarity = kept["similarity"].as_f64().unwrap();
    assert!((0.97..1.0).contains(&similarity), "{similar}");
    assert!(similar["note"].as_str().unwrap().contains(&of), "{similar}");
    let exact = step(&again).await;
    assert_eq!(
        (&exact["cached"]["of"], &exact["cached"]["similarity"]),
        (&json!(of), &Value::Null),
        "{exact}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_question_has_to_be_the_same() {
    let vendor = vendor().await;
    let house = start(&vendor, "").await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "one"})).await;
    admin.tenant(json!({"id": "two"})).await;
    let (_, key) = admin.key(json!({"tenant": "one"})).await;
    let (_, stranger) = admin.key(json!({"tenant": "two"})).await;
    let ask =
        async |key: &str, body: &Value| told(&send(house.client(), key, "/v1/chat/completions", body).await);
    let (plain, other) = (question("How long is the warranty?"), question("how long is the warranty"));
    assert_eq!(ask(&key, &plain).await, ("answer 0".to_owned(), false));
    assert_eq!(ask(&stranger, &other).await, ("answer 1".to_owned(), false), "another tenant");
    let with = |member: &str, value: Value| {
        let mut body = other.clone();
        body[member] = value;
        body
    };
    let before = |messages: Value| {
        let mut all = messages.as_array().unwrap().clone();
        all.extend(other["messages"].as_array().unwrap().iter().cloned());
        with("messages", Value::Array(all))
    };
    let tool = json!([{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]);
    for (n, (what, body)) in (2..).zip([
        ("parameters", with("temperature", json!(0.5))),
        ("length", with("max_tokens", json!(50))),
        ("system text", before(json!([{"role": "system", "content": "Be brief."}]))),
        (
            "history",
            before(json!([{"role": "user", "content": "Model 7"}, {"role": "assistant", "content": "Yes?"}])),
        ),
        ("form", with("response_format", json!({"type": "json_object"}))),
        ("tools", with("tools", tool)),
        ("strict", {
            let mut strict = with("seed", json!(7));
            strict["temperature"] = 0.into();
            strict
        }),
        ("refresh", with("routing", json!({"cache": "refresh"}))),
        ("off", with("routing", json!({"cache": "off"}))),
    ]) {
        assert_eq!(ask(&key, &body).await, (format!("answer {n}"), false), "{what}");
    }
    // The newest of several that are as similar.
    assert_eq!(ask(&key, &question("how long is the warranty!?")).await, ("answer 9".to_owned(), true));
    // What came before it is the same.
    let history =
        before(json!([{"role": "user", "content": "Model 7"}, {"role": "assistant", "content": "Yes?"}]));
    let mut same = history.clone();
    same["messages"][2]["content"] = "How long is the warranty please?".into();
    assert_eq!(ask(&key, &same).await, ("answer 5".to_owned(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_say_whether_similar_questions_are_looked_for() {
    let vendor = vendor().await;
    let rule = |team: &str, cache: &str| {
        format!(
            "  - {{ id: {team}, when: 'request.headers.get(\"x-team\") == \"{team}\"', actions: {{ cache: {cache} }} }}\n"
        )
    };
    let rules = [
        rule("exact", "exact"),
        rule("reader", "read_only"),
        rule("none", "none"),
        rule("semantic", "semantic"),
        rule("brief", "{ ttl: 1h }"),
    ];
    let house = start(&vendor, &format!("rules:\n{}", rules.concat())).await;
    let ask = async |team: &str, text: &str| {
        let headers = [("content-type", "application/json"), ("x-team", team)];
        let body = question(text).to_string();
        told(&house.client().send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await).1
    };
    assert!(!ask("exact", "How long is it?").await);
    assert!(!ask("anybody", "how long is it").await, "what one keeps to the letter is found to the letter");
    for team in ["exact", "reader", "none"] {
        assert!(!ask(team, &format!("how long is it{}", "?".repeat(team.len()))).await, "{team}");
    }
    assert!(ask("semantic", "how long is it!").await && ask("brief", "how long is it.").await);
    assert!(ask("exact", "How long is it?").await, "to the letter");
}
