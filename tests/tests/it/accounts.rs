//! What requests and runs leave on budgets and on record that came to nothing, went on later or ended twice.

use crate::NO_CHANCE;
use crate::money::STEPS;
use crate::runs::{path_of, shown};
use serde_json::{Value, json};
use std::time::Duration;
use tests::admin::{Admin, get, metered, send, spent};
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Seen, Vendor};

fn ask(model: &str) -> Value {
    json!({"model": model, "max_tokens": 1000, "messages": [{"role": "user", "content": "say something"}]})
}

/// A house with one metered model under these rules, and a key of the tenant `acme`, which has these limits.
async fn house(plan: Plan, rules: &str, limits: Value) -> (Vendor, House, String) {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    metered(&vendor, Duration::ZERO, |_| "hello");
    let house = plan
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(&format!("{NO_CHANCE}{rules}"))
        .start()
        .await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme", "limits": limits})).await;
    let (_, key) = admin.key(json!({"tenant": "acme", "limits": []})).await;
    (vendor, house, key)
}

/// What limits of `acme` count of this metric at the moment.
async fn used(house: &House, metric: &str) -> f64 {
    let budgets = Admin::of(house).call("GET", "/budgets", &Value::Null).await.json();
    let rows = budgets["data"].as_array().unwrap_or_else(|| panic!("{budgets}"));
    let row = rows.iter().find(|b| b["tenant"] == "acme" && b["metric"] == metric);
    row.unwrap_or_else(|| panic!("{budgets:#}"))["used"].as_f64().unwrap()
}

async fn begin(house: &House, key: &str, body: &Value) -> String {
    let accepted = send(house.client(), key, "/v1/runs", body).await;
    path_of(&accepted)
}

fn is(status: &'static str) -> impl Fn(&Value) -> bool {
    move |run| run["status"] == status
}

/// A run that has to wait for a limit of a rule holds no money while it waits, however often it is tried.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_for_a_limit_costs_nothing() {
    let rules =
        "rules:\n  - { id: few, actions: { rate_limit: [{ per: tenant, requests: 1, window: 1h }] } }\n";
    let limits = json!([{"metric": "usd", "amount": 1.0, "per": "month"}]);
    let (vendor, house, key) = house(Plan::new(), rules, limits).await;
    let first = begin(&house, &key, &json!({"request": ask("auto")})).await;
    shown(&house, &key, &first, is("succeeded")).await;
    let second = begin(&house, &key, &json!({"request": ask("auto")})).await;
    shown(&house, &key, &second, |run| run["status"] == "queued" && run["wake_ms"].is_i64()).await;
    assert_eq!(vendor.count(), 1);
    let used = used(&house, "usd").await;
    assert!((used - spent(&vendor)).abs() < 1e-9, "{used} of what cost {}", spent(&vendor));
}

/// A question and somebody's word.
const GATED: &str = "version: 1
name: gated
nodes:
  - { id: one, type: generate }
  - { id: ask, type: gate, prompt: \"Send it?\", expires: 1h }
  - { id: answer, type: stream, from: nodes.one.completion }
  - { id: stop, type: fail, code: refused, message: \"no\" }
edges:
  - { from: one, to: ask }
  - { from: ask, to: answer, outcome: approved }
  - { from: ask, to: stop, outcome: [rejected, expired] }
";

fn is_second(seen: &Seen) -> bool {
    seen.body["temperature"] == 0.2
}

/// A house with both workflows, in which each call costs 0.00111 USD.
async fn house_of_runs(settings: &str, rules: &str) -> (Vendor, House, String) {
    let plan = Plan::new()
        .file("workflows/steps.yaml", STEPS)
        .file("workflows/gated.yaml", GATED)
        .settings(&format!("retry: {{ max_attempts: 1 }}\n{settings}"));
    let (vendor, house, key) =
        house(plan, rules, json!([{"metric": "usd", "amount": 1.0, "per": "month"}])).await;
    vendor.otherwise(|_| Reply::text("hello").costing(110, 1_000));
    (vendor, house, key)
}

const CALL: f64 = 0.00111;

fn wish(workflow: &str) -> Value {
    json!({"workflow": workflow, "request": ask("auto")})
}

/// Waits until so many requests of `acme` are on record; gives their sum.
async fn recorded(house: &House, requests: u64) -> Value {
    let mut total = Value::Null;
    for _ in 0..1_200 {
        let report = Admin::of(house).call("GET", "/usage?tenant=acme", &Value::Null).await.json();
        total = report["total"].clone();
        if total["requests"] == requests {
            return total;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{requests} requests are not on record: {total:#}\n{}", house.log());
}

fn is_about(cost: &Value, expected: f64) {
    assert!((cost.as_f64().unwrap_or(-1.0) - expected).abs() < 1e-9, "{cost} is not {expected}");
}

/// What somebody ends was paid for all the same: what its calls cost is on record, the one under way included.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_is_on_record_with_what_it_cost() {
    let (vendor, house, key) = house_of_runs("", "").await;
    vendor.otherwise(|seen| match is_second(seen) {
        true => Reply::Hang,
        false => Reply::text("hello").costing(110, 1_000),
    });
    let path = begin(&house, &key, &wish("steps")).await;
    assert!(tests::eventually(Duration::from_secs(20), || vendor.count() == 2).await, "{}", house.log());
    send(house.client(), &key, &format!("{path}/cancel"), &json!({})).await;
    shown(&house, &key, &path, is("cancelled")).await;
    let total = recorded(&house, 1).await;
    assert!(total["cost_usd"].as_f64() > Some(CALL), "{total}");
    let explained = house.cli(&["explain", path.trim_start_matches("/v1/runs/")]).await;
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("cancelled"), "{explained}");
}

/// The store ends what nobody owns; what was used until then is on record.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ends_while_it_waits_is_on_record_with_what_it_cost() {
    let (_vendor, house, key) = house_of_runs("runs: { lifetime: 4s }\n", "").await;
    let path = begin(&house, &key, &wish("gated")).await;
    shown(&house, &key, &path, is("suspended")).await;
    send(house.client(), &key, &format!("{path}/cancel"), &json!({})).await;
    assert_eq!(get(house.client(), &key, &path).await.json()["status"], "cancelled");
    is_about(&recorded(&house, 1).await["cost_usd"], CALL);
    let path = begin(&house, &key, &wish("gated")).await;
    shown(&house, &key, &path, is("suspended")).await;
    shown(&house, &key, &path, is("expired")).await;
    is_about(&recorded(&house, 2).await["cost_usd"], 2.0 * CALL);
    is_about(&json!(used(&house, "usd").await), 2.0 * CALL);
}

/// Each end of a run has its own record, with what was called since the end before: nothing is lost, nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_resumed_is_on_record_once_for_every_end() {
    let (vendor, house, key) = house_of_runs("", "").await;
    vendor.otherwise(|seen| match is_second(seen) {
        true => Reply::error(400),
        false => Reply::text("hello").costing(110, 1_000),
    });
    let path = begin(&house, &key, &wish("steps")).await;
    shown(&house, &key, &path, is("failed")).await;
    is_about(&recorded(&house, 1).await["cost_usd"], CALL);
    vendor.otherwise(|_| Reply::text("hello").costing(110, 1_000));
    assert_eq!(send(house.client(), &key, &format!("{path}/resume"), &json!({})).await.status, 202);
    shown(&house, &key, &path, is("succeeded")).await;
    let total = recorded(&house, 2).await;
    is_about(&total["cost_usd"], 2.0 * CALL);
    assert_eq!((&total["successes"], &total["failed"]), (&json!(1), &json!(1)), "{total}");
    let second = format!("{}.2", path.trim_start_matches("/v1/runs/"));
    let explained = house.cli(&["explain", &second]).await;
    assert!(explained.status.success(), "{explained:?}");
    // A fork begins with what the run has paid for, and pays for the rest.
    let fork = send(house.client(), &key, &format!("{path}/fork"), &json!({"after": "one"})).await;
    let fork = format!("/v1/runs/{}", fork.json()["id"].as_str().unwrap());
    shown(&house, &key, &fork, is("succeeded")).await;
    is_about(&recorded(&house, 3).await["cost_usd"], 3.0 * CALL);
    is_about(&json!(used(&house, "usd").await), 3.0 * CALL);
}

/// Who may not have an answer now does not get it later either, and it is told of like any other refusal.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_policies_refuse_is_on_record_and_on_the_trail() {
    let rules = "rules:\n  - { id: eve, when: request.user == \"eve\", actions: { deny: { reason: no, code: outsiders } } }\n";
    let (_vendor, house, key) = house_of_runs("", rules).await;
    let mut asked = ask("auto");
    asked["user"] = json!("eve");
    let path = begin(&house, &key, &json!({"request": asked})).await;
    let run = shown(&house, &key, &path, is("failed")).await;
    assert_eq!(run["error"]["code"], "outsiders", "{run:#}");
    recorded(&house, 1).await;
    let trail = Admin::of(&house).call("GET", "/audit?limit=1000", &Value::Null).await.json();
    let denied = trail["data"].as_array().unwrap().iter().find(|l| l["action"] == "request.denied");
    assert!(
        denied.is_some_and(|l| l.to_string().contains(path.trim_start_matches("/v1/runs/"))),
        "{trail:#}"
    );
}

/// Who leaves while it waits for a place has used nothing; that it asked is on record.
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_it_waits_for_a_place_pays_nothing() {
    let rules = "rules:\n  - { id: bulk, when: 'request.user == \"bulk\"', actions: { priority: batch } }\n";
    let plan = Plan::new().settings("edge: { max_inflight: 10 }\n");
    let limits = json!([{"metric": "usd", "amount": 1.0, "per": "month"}]);
    let (vendor, house, key) = house(plan, rules, limits).await;
    vendor.otherwise(|_| Reply::Hang);
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "other"})).await;
    let (_, other) = admin.key(json!({"tenant": "other", "limits": []})).await;
    let mut busy = tokio::task::JoinSet::new();
    // Most that its tenant may take but one; requests that give way have two fewer.
    for _ in 0..6 {
        let (client, key) = (house.client(), other.clone());
        busy.spawn(async move { send(client, &key, "/v1/chat/completions", &ask("auto")).await.status });
    }
    assert!(tests::eventually(Duration::from_secs(20), || vendor.count() == 6).await, "{}", house.log());
    let mut bulk = ask("auto");
    bulk["user"] = json!("bulk");
    let asked = send(house.client(), &key, "/v1/chat/completions", &bulk);
    assert!(tokio::time::timeout(Duration::from_millis(400), asked).await.is_err(), "it waits");
    let total = recorded(&house, 1).await;
    assert_eq!((&total["failed"], vendor.count()), (&json!(0), 6), "{total}");
    is_about(&json!(used(&house, "usd").await), 0.0);
}

/// A chat that has to become a run is one request, and comes for the first time.
#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_becomes_a_run_counts_once() {
    let rules = "rules:\n  - { id: again, when: history.client_retry > 0, actions: { deny: { reason: no, code: again } } }\n  - { id: one, actions: { rate_limit: [{ per: key, requests: 1, window: 1h }] } }\n";
    let plan = Plan::new().file("workflows/gated.yaml", GATED);
    let limits = json!([{"metric": "requests", "amount": 1, "per": "month"}]);
    let (_vendor, house, key) = house(plan, rules, limits).await;
    let answered = send(house.client(), &key, "/v1/chat/completions", &ask("workflow/gated")).await;
    assert_ne!(answered.status, 429, "{}", answered.text());
    let runs = get(house.client(), &key, "/v1/runs").await.json();
    assert_eq!(runs["data"][0]["status"], "suspended", "{runs:#}");
    is_about(&json!(used(&house, "requests").await), 1.0);
    assert_eq!(send(house.client(), &key, "/v1/chat/completions", &ask("auto")).await.status, 429);
}

/// All limits of a request are taken together, or none is: what a budget refuses is no request.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_budget_refuses_is_not_counted_as_a_request() {
    let limits = json!([
        {"metric": "usd", "amount": 0.00001, "per": "month"}, {"metric": "requests", "amount": 5, "per": "month"},
    ]);
    let (vendor, house, key) = house(Plan::new(), "", limits).await;
    for _ in 0..8 {
        let refused = send(house.client(), &key, "/v1/chat/completions", &ask("auto")).await;
        assert_eq!(refused.error(429)["code"], "insufficient_quota", "{}", refused.text());
    }
    assert_eq!(vendor.count(), 0);
    is_about(&json!(used(&house, "requests").await), 0.0);
}
