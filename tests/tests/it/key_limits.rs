//! Limits of single keys of providers: no key is used beyond its own, the limits add up, and no client sees a failure while
//! another key has room.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tests::admin::{Admin, send};
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Gate, Reply, Vendor};
use tokio::task::JoinSet;

/// What a vendor counts of each key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    requests: usize,
    /// Under way, and the most that ever were.
    now: usize,
    most: usize,
}

type Counts = Arc<Mutex<BTreeMap<String, Seen>>>;

/// A vendor that counts by key; each answer takes some milliseconds and costs a thousand tokens in and a hundred out.
async fn vendor(counts: &Counts) -> Vendor {
    let counts = counts.clone();
    Vendor::scripted(Dialect::OpenAi, move |seen| {
        let key = seen.header("authorization").unwrap_or("").trim_start_matches("Bearer ").to_owned();
        counts.lock().unwrap().entry(key).or_default().requests += 1;
        Reply::text("hello").costing(1_000, 100).slow(Duration::from_millis(3))
    })
    .await
}

fn ask(i: usize) -> Value {
    json!({
        "model": "alpha/one", "max_tokens": 100, "stream": i.is_multiple_of(2),
        "messages": [{"role": "user", "content": format!("say something, {i}")}],
    })
}

/// Asks so often from several clients at once; the statuses that came.
async fn race(house: &House, n: usize) -> Vec<u16> {
    let mut clients = JoinSet::new();
    for c in 0..8_usize {
        let client = house.client();
        clients.spawn(async move {
            let mut statuses = Vec::new();
            for i in (c..n).step_by(8) {
                let answer = send(client, "", "/v1/chat/completions", &ask(i)).await;
                if answer.status != 200 {
                    let code = answer.json()["error"]["code"].clone();
                    assert!(["key_limit", "no_candidates"].iter().any(|c| code == **c), "{}", answer.text());
                }
                statuses.push(answer.status);
            }
            statuses
        });
    }
    clients.join_all().await.into_iter().flatten().collect()
}

fn good(statuses: &[u16]) -> usize {
    assert!(statuses.iter().all(|s| [200, 429, 503].contains(s)), "{statuses:?}");
    statuses.iter().filter(|s| **s == 200).count()
}

fn requests(counts: &Counts) -> Vec<(String, usize)> {
    counts.lock().unwrap().iter().map(|(key, seen)| (key.clone(), seen.requests)).collect()
}

const MASTER: (&str, &str) = ("TURNOUT_MASTER_KEY", "a master key of more than thirty-two bytes");

/// A house whose provider has two keys of the environment, the first with limits of its own.
async fn house(vendor: &Vendor, limits: &str) -> House {
    Plan::new()
        .vendor("alpha", vendor)
        .with_key("alpha", &format!("[K1, K2]\n    key_limits: {{ K1: {limits} }}"))
        .model(&Model::new("alpha/one").price(1.0))
        .rules(NO_CHANCE)
        .env(MASTER.0, MASTER.1)
        .env("K1", "sk-upstream-1")
        .env("K2", "sk-upstream-2")
        .start()
        .await
}

/// The row of a key by its variable or its name.
async fn row(admin: &Admin, of: &str) -> Value {
    let listed = admin.call("GET", "/provider-keys", &Value::Null).await.json();
    let rows = listed["data"].as_array().unwrap();
    let found = rows.iter().find(|r| r["variable"] == of || r["name"] == of || r["id"] == of);
    found.cloned().unwrap_or_else(|| panic!("{of}: {listed}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_no_key_is_used_beyond_its_limit_and_the_others_take_over() {
    let counts = Counts::default();
    let vendor = vendor(&counts).await;
    let house = house(&vendor, "[{ metric: requests, amount: 7, per: day }]").await;
    // As long as the second key has room nobody sees that the first has none.
    assert_eq!(good(&race(&house, 60).await), 60);
    let seen = requests(&counts);
    assert_eq!(seen[0].0, "sk-upstream-1");
    assert!(seen[0].1 <= 7, "{seen:?}");
    // A third one comes with a limit, and the second gives way to a limit on the first alone: limits add up.
    let admin = Admin::of(&house);
    let third = json!({
        "provider": "alpha", "name": "third", "key": "sk-upstream-3",
        "limits": [{"metric": "requests", "amount": 9, "per": "day"}],
    });
    let made = admin.call("POST", "/provider-keys", &third).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(good(&race(&house, 40).await), 40);
    assert!(requests(&counts).iter().all(|(key, n)| key == "sk-upstream-2" || *n <= 9), "{counts:?}");
    let told = row(&admin, "third").await;
    assert_eq!(told["limits"][0]["amount"], 9.0, "{told}");
    assert!(told["limits"][0]["used"].as_u64().unwrap() <= 9, "{told}");
    assert_eq!(row(&admin, "K1").await["limits"][0]["metric"], "requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_all_keys_add_up_and_then_the_client_is_told_when_to_ask_again() {
    let counts = Counts::default();
    let vendor = vendor(&counts).await;
    let plan = "{ K1: [{ metric: requests, amount: 7, per: day }], K2: [{ metric: requests, amount: 12, per: day }] }";
    let house = Plan::new()
        .vendor("alpha", &vendor)
        .with_key("alpha", &format!("[K1, K2]\n    key_limits: {plan}"))
        .model(&Model::new("alpha/one").price(1.0))
        .rules(NO_CHANCE)
        .env("K1", "sk-upstream-1")
        .env("K2", "sk-upstream-2")
        .start()
        .await;
    assert_eq!(good(&race(&house, 50).await), 19, "{counts:?}");
    let want = [("sk-upstream-1".to_owned(), 7), ("sk-upstream-2".to_owned(), 12)];
    assert_eq!(requests(&counts), want);
    let refused = house.client().chat(&ask(1)).await;
    assert_eq!(refused.error(503)["code"], "no_candidates");
    assert!(refused.header("retry-after").is_some_and(|s| s.parse::<u64>().is_ok_and(|s| s > 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_money_and_calls_at_once_of_one_key_hold_under_load() {
    // A call costs 1,100 tokens and 0.0011 USD.
    for (limit, most) in [
        ("{ metric: tokens, amount: 5600, per: day }", 5),
        ("{ metric: usd, amount: 0.0067, per: month }", 6),
    ] {
        let counts = Counts::default();
        let vendor = vendor(&counts).await;
        let house = house(&vendor, &format!("[{limit}]")).await;
        assert_eq!(good(&race(&house, 60).await), 60, "{limit}");
        let seen = requests(&counts);
        assert!(seen[0].0 == "sk-upstream-1" && seen[0].1 <= most, "{limit}: {seen:?}");
    }
    let counts = Counts::default();
    let under_way = counts.clone();
    let gate = Gate::default();
    let closed = gate.clone();
    let vendor = Vendor::scripted(Dialect::OpenAi, move |seen| {
        let key = seen.header("authorization").unwrap_or("").trim_start_matches("Bearer ").to_owned();
        let mut all = under_way.lock().unwrap();
        let of = all.entry(key).or_default();
        of.now += 1;
        of.most = of.most.max(of.now);
        Reply::text("hello").held(&closed)
    })
    .await;
    let house = house(&vendor, "[{ metric: concurrency, amount: 2 }]").await;
    let mut clients = JoinSet::new();
    for i in 0..12 {
        let client = house.client();
        clients.spawn(async move { send(client, "", "/v1/chat/completions", &ask(i)).await.status });
    }
    let all = || counts.lock().unwrap().values().map(|s| s.now).sum::<usize>();
    assert!(tests::eventually(Duration::from_secs(30), || all() == 12).await, "{counts:?}");
    gate.open();
    assert!(clients.join_all().await.iter().all(|status| *status == 200));
    assert!(counts.lock().unwrap()["sk-upstream-1"].most <= 2, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_stored_key_are_changed_and_outlive_a_restart() {
    let counts = Counts::default();
    let vendor = vendor(&counts).await;
    let mut house = Plan::new()
        .vendor("alpha", &vendor)
        .with_key("alpha", "K0")
        .model(&Model::new("alpha/one").price(1.0))
        .rules(NO_CHANCE)
        .env(MASTER.0, MASTER.1)
        .start_even_if_not_ready()
        .await;
    let admin = Admin::of(&house);
    let spec =
        |limits: Value| json!({"provider": "alpha", "name": "a", "key": "sk-upstream-1", "limits": limits});
    for (limits, code) in [
        (json!([{"metric": "usd", "amount": 1, "per": "day", "model": "alpha/*"}]), "invalid_value"),
        (json!([{"metric": "usd", "amount": 1, "per": "request"}]), "invalid_value"),
        (json!([{"metric": "usd", "amount": 1}]), "invalid_value"),
        (json!([{"metric": "usd", "amount": -1, "per": "day"}]), "invalid_value"),
    ] {
        let refused = admin.call("POST", "/provider-keys", &spec(limits.clone())).await;
        assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (400, Some(code)), "{limits}");
    }
    let limits = json!([{"metric": "requests", "amount": 5, "per": "day"}, {"metric": "usd", "amount": 1, "per": "day"}]);
    let made = admin.call("POST", "/provider-keys", &spec(limits)).await.json();
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(good(&race(&house, 8).await), 5);
    let path = format!("/provider-keys/{id}");
    let more = json!({"limits": [{"metric": "requests", "amount": 7, "per": "day"}]});
    let changed = admin.call("PATCH", &path, &more).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["limits"].as_array().map(Vec::len), Some(2), "{}", changed.text());
    assert_eq!(good(&race(&house, 8).await), 2, "what was used stays used");
    house.stop().await;
    house.restart().await;
    let admin = Admin::of(&house);
    assert_eq!(good(&race(&house, 8).await), 0, "over a restart, too");
    let gone = json!({"limits": [{"metric": "requests", "amount": null, "per": "day"}], "name": "b"});
    let changed = admin.call("PATCH", &path, &gone).await.json();
    assert_eq!((changed["name"].as_str(), changed["limits"].as_array().map(Vec::len)), (Some("b"), Some(1)));
    assert_eq!(good(&race(&house, 4).await), 4);
    let lines = admin.call("GET", "/audit?action=provider_key.change", &Value::Null).await.json();
    assert_eq!(lines["data"].as_array().map(Vec::len), Some(2), "{lines}");
    assert_eq!(admin.call("PATCH", "/provider-keys/pk-none", &json!({"name": "x"})).await.status, 404);
}
