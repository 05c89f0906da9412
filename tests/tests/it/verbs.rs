//! What verbs of rules lead to: each asked of a house with the rule, and of one without it.

use serde_json::{Value, json};
use std::time::Duration;
use tests::admin::{Admin, get, send};
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Gate, Reply, Vendor};

fn ask() -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": "Say hello to me."}]})
}

/// Two models, of which the first is chosen where nothing is said, though the second costs a hundredth.
fn plan(vendor: &Vendor, chance: &str, actions: &str) -> Plan {
    let rule = match actions {
        "" => String::new(),
        actions => format!("rules:\n  - {{ id: said, actions: {{ {actions} }} }}\n"),
    };
    Plan::new()
        .vendor("lab", vendor)
        .model(&Model::new("lab/one").success(0.95).price(10.0))
        .model(&Model::new("lab/two").success(0.6).price(0.1))
        .rules(&format!("version: 1\n{chance}{rule}"))
}

const NONE: &str = "exploration: { epsilon: 0, beta: 0, beta_young: 0 }\n";
const MUCH: &str =
    "exploration: { epsilon: 0.5, beta: 0, beta_young: 0, within: 0.1, budget: 1, min_confidence: 0 }\n";

async fn hello() -> Vendor {
    Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await
}

async fn served_by(house: &House) -> String {
    let answer = house.client().chat(&ask()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["model"].as_str().unwrap().to_owned()
}

async fn decision(house: &House) -> Value {
    let answer = house.client().chat(&ask()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    house.decision(&answer.request_id()).await["decision"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn weight_and_avoid_turn_the_choice() {
    let vendor = hello().await;
    for (actions, by) in [
        ("", "lab/one"),
        ("weight: { cost: 4 }", "lab/two"),
        ("avoid: [lab/one]", "lab/two"),
        ("avoid: [lab/two]", "lab/one"),
    ] {
        let house = plan(&vendor, NONE, actions).start().await;
        assert_eq!(served_by(&house).await, by, "{actions}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explore_bounds_what_is_left_to_chance() {
    let vendor = hello().await;
    for (actions, most) in [("", 0.5), ("explore: none", 0.0), ("explore: { max_rate: 0.2 }", 0.2)] {
        let house = plan(&vendor, MUCH, actions).start().await;
        for _ in 0..10 {
            let decision = decision(&house).await;
            assert!(decision["epsilon"].as_f64().unwrap() <= most + 1e-9, "{actions}: {decision}");
            // How likely each arm was is on record, whichever was drawn.
            let arms = decision["arms"].as_array().unwrap().iter();
            let likely: Vec<f64> =
                arms.filter_map(|a| a["propensity"].as_f64()).filter(|p| *p > 0.0).collect();
            let others = 1.0 - likely.iter().copied().fold(0.0, f64::max);
            assert_eq!(likely.len() > 1, most > 0.0, "{actions}: {decision}");
            assert!(
                others <= most + 1e-9 && (most > 0.0 || decision["explored"] != true),
                "{actions}: {decision}"
            );
        }
    }
}

/// A model of unknown price has no place under a limit on money, unless a rule says what to count it at.
#[tokio::test(flavor = "multi_thread")]
async fn assume_price_lets_a_model_be_counted() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello").costing(100, 2)).await;
    for (actions, status) in [("", 503), ("assume_price: { in: 2, out: 8 }", 200)] {
        let rule = match actions {
            "" => String::new(),
            actions => format!("rules:\n  - {{ id: said, actions: {{ {actions} }} }}\n"),
        };
        let house = Plan::new()
            .vendor("lab", &vendor)
            .file(
                "matrix.d/unpriced.yaml",
                "models:\n  lab/un: { context_window: 9000, max_output_tokens: 900, quality_tier: 2, speed_tier: 1, \
                 abilities: [streaming], prior: { success: { default: 0.8 } } }\n",
            )
            .rules(&format!("version: 1\n{NONE}{rule}"))
            .start()
            .await;
        let admin = Admin::of(&house);
        admin.tenant(json!({"id": "acme"})).await;
        let limits = json!([{"metric": "usd", "amount": 1, "per": "day"}]);
        let (_, key) = admin.key(json!({"tenant": "acme", "limits": limits})).await;
        let before = vendor.count();
        let answer = send(house.client(), &key, "/v1/chat/completions", &ask()).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        if status == 200 {
            let path = format!("/v1/decisions/{}", answer.request_id());
            let mut record = get(house.client(), &key, &path).await;
            for _ in 0..1_500 {
                if record.status == 200 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                record = get(house.client(), &key, &path).await;
            }
            let outcome = record.json()["outcome"].clone();
            let tokens = |kind: &str| outcome["usage"][kind].as_f64().unwrap_or_default();
            let cost = (tokens("input") * 2.0 + tokens("output") * 8.0) / 1e6;
            let charged = outcome["cost_usd"].as_f64().unwrap();
            assert!(charged > 0.0 && (charged - cost).abs() < 1e-9, "{outcome}");
        } else {
            assert!(answer.text().contains("price"), "{}", answer.text());
            assert_eq!(vendor.count(), before, "nobody was asked");
        }
    }
}

/// What takes longer than a rule allows is at an end when that time has passed, whoever is still thinking.
#[tokio::test(flavor = "multi_thread")]
async fn cap_latency_ends_what_takes_longer() {
    let vendor =
        Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello").slow(Duration::from_secs(3))).await;
    for (actions, status) in [("cap_latency: 400ms", 504), ("cap_latency: 60s", 200)] {
        // Nothing is known of its times, so that nothing keeps it out beforehand.
        let house = Plan::new()
            .vendor("lab", &vendor)
            .model(&Model::new("lab/one").untimed())
            .rules(&format!("version: 1\n{NONE}rules:\n  - {{ id: said, actions: {{ {actions} }} }}\n"))
            .start()
            .await;
        let answer = house.client().chat(&ask()).await;
        assert_eq!(answer.status, status, "{actions}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cap_tokens_ends_what_would_take_more() {
    let vendor = hello().await;
    let house = plan(&vendor, NONE, "cap_tokens: 3").start().await;
    let refused = house.client().chat(&ask()).await;
    assert!((400..500).contains(&refused.status), "{}", refused.text());
    assert!(refused.text().contains("tokens"), "{}", refused.text());
    assert_eq!(vendor.count(), 0);
    let house = plan(&vendor, NONE, "cap_tokens: 3000").start().await;
    assert_eq!(house.client().chat(&ask()).await.status, 200);
}

/// So many at the same moment and no more; another user has a place of his own.
#[tokio::test(flavor = "multi_thread")]
async fn concurrency_counts_for_each_user() {
    let vendor = hello().await;
    let gate = Gate::default();
    vendor.queue(Reply::text("hello").held(&gate));
    let house = plan(&vendor, NONE, "concurrency: { per: user, max: 1 }").start().await;
    let as_user = |user: &str| {
        let mut body = ask();
        body["user"] = user.into();
        body
    };
    let (client, body) = (house.client(), as_user("ada"));
    let first = tokio::spawn(async move { client.chat(&body).await });
    assert!(tests::eventually(Duration::from_secs(20), || vendor.count() == 1).await);
    let refused = house.client().chat(&as_user("ada")).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(house.client().chat(&as_user("bob")).await.status, 200);
    gate.open();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(house.client().chat(&as_user("ada")).await.status, 200, "its place is free again");
}

/// Six a minute, but no more than two in the twenty seconds in which two fall due.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_keeps_requests_from_coming_all_at_once() {
    let vendor = hello().await;
    let rate = "rate_limit: { per: user, requests: 6, window: 1m, burst: 2 }";
    let house = plan(&vendor, NONE, rate).start().await;
    let as_user = async |user: &str| {
        let mut body = ask();
        body["user"] = user.into();
        house.client().chat(&body).await
    };
    for _ in 0..2 {
        assert_eq!(as_user("ada").await.status, 200);
    }
    let refused = as_user("ada").await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=21).contains(&wait), "{wait}");
    assert_eq!(as_user("bob").await.status, 200, "another user comes by himself");
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(as_user("ada").await.status, 200);
}
