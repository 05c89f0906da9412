//! What one request may use holds for all its calls, whoever sets it and whatever the request becomes; and what vendors
//! charge beyond what was set aside is lost nowhere.

use crate::NO_CHANCE;
use crate::runs::{path_of, shown};
use serde_json::{Value, json};
use std::time::Duration;
use tests::admin::{Admin, get, metered, send, spent};
use tests::client::Response;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Seen, Vendor};

const CHAT: &str = "/v1/chat/completions";

/// Four samples at once, and a dear answer after them that is graded when it has gone out.
const LONG: &str = "version: 1
name: long
nodes:
  - { id: draft, type: generate, samples: 4 }
  - { id: pick, type: select, from: [nodes.draft.completions], method: first_passing, when_none: best }
  - { id: ask, type: generate, model: beta/large }
  - { id: audit, type: judge, input: nodes.ask.completion, needs: ask }
  - { id: out, type: stream, from: nodes.ask.completion, needs: ask }
edges:
  - { from: draft, to: pick }
  - { from: pick, to: ask }
";

/// What a request may cost: two thirds of one long answer of the large model.
const MOST: f64 = 0.01;
/// Price of the large model, USD per million tokens.
const LARGE: f64 = 15.0;

async fn house() -> (Vendor, Vendor, House) {
    let (small, large) = (Vendor::start(Dialect::OpenAi).await, Vendor::start(Dialect::OpenAi).await);
    for vendor in [&small, &large] {
        metered(vendor, Duration::from_millis(2), |seen: &Seen| {
            match seen.body["messages"].to_string().contains("scores") {
                true => "{\"scores\": {\"correctness\": 3, \"helpfulness\": 3}, \"rationale\": \"so so\"}",
                false => "hello",
            }
        });
    }
    let house = Plan::new()
        .vendor("alpha", &small)
        .vendor("beta", &large)
        .model(&Model::new("alpha/small").price(1.0))
        .model(&Model::new("beta/large").price(LARGE))
        .rules(NO_CHANCE)
        .file("workflows/long.yaml", LONG)
        .start()
        .await;
    (small, large, house)
}

fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "say something"}]})
}

fn limit(metric: &str, amount: impl Into<Value>) -> Value {
    json!({"metric": metric, "amount": amount.into(), "per": "request"})
}

async fn chat(house: &House, key: &str, body: &Value) -> Response {
    send(house.client(), key, CHAT, body).await
}

/// What both vendors were asked for at most so far, in dollars.
fn bill(small: &Vendor, large: &Vendor) -> f64 {
    spent(small) + spent(large) * LARGE
}

/// `turnout explain` of a refused request and its line of the audit trail say which limit refused it, and how much was
/// needed.
async fn is_told(house: &House, refused: &Response, limit: &str) {
    let is_so = |told: &str| told.contains(limit) && told.contains(" needed)");
    let id = refused.header("x-turnout-decision").unwrap().to_owned();
    let explained = house.cli(&["explain", &id]).await;
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    let line = explained.lines().find_map(|line| line.trim_start().strip_prefix("refused"));
    assert!(line.is_some_and(is_so), "{limit}: {explained}");
    // What was refused is put on the trail beside the answer.
    let mut lines = Value::Null;
    for _ in 0..1_200 {
        lines = Admin::of(house).call("GET", "/audit?limit=1000", &Value::Null).await.json();
        let all = lines["data"].as_array().unwrap();
        if let Some(line) = all.iter().find(|line| line["target"] == json!(id)) {
            return assert!(line["detail"]["limit"].as_str().is_some_and(is_so), "{limit}: {line}");
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("no line of {id}: {lines}")
}

/// Waits until nobody has been asked for half a second: what is graded is graded after the response.
async fn calm(small: &Vendor, large: &Vendor) {
    let mut before = usize::MAX;
    while before != small.count() + large.count() {
        before = small.count() + large.count();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Asks in every way that costs, one after the other; none of it costs more than a request may.
async fn stays_within(house: &House, vendors: (&Vendor, &Vendor), key: &str) {
    let (small, large) = vendors;
    let asked = large.count();
    for body in [ask("auto"), ask("beta/large"), ask("workflow/long"), ask("workflow/consensus_vote")] {
        for stream in [false, true] {
            let (mut body, before) = (body.clone(), bill(small, large));
            body["stream"] = json!(stream);
            let answer = chat(house, key, &body).await;
            calm(small, large).await;
            let cost = bill(small, large) - before;
            assert!(cost <= MOST + 1e-9, "{body}: {cost} ({} {})", answer.status, answer.text());
            assert!([200, 422, 429].contains(&answer.status), "{body}: {}", answer.text());
        }
    }
    let before = bill(small, large);
    let run = json!({"workflow": "long", "request": {"messages": ask("auto")["messages"]}});
    let path = path_of(&send(house.client(), key, "/v1/runs", &run).await);
    shown(house, key, &path, |run| run["status"] == "succeeded" || run["status"] == "failed").await;
    calm(small, large).await;
    assert!(bill(small, large) - before <= MOST + 1e-9, "{} for a run", bill(small, large) - before);
    assert!(large.count() > asked, "the dear one was never asked, so nothing is shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_a_cent_for_each_request_never_had_a_dearer_one_and_keeps_it_over_a_restart() {
    let (small, large, mut house) = house().await;
    let admin = Admin::of(&house);
    let (id, key) = admin.key(json!({"limits": [limit("usd", MOST)]})).await;
    // Without one it costs more than that.
    let (_, free) = admin.key(json!({"limits": []})).await;
    assert_eq!(chat(&house, &free, &ask("workflow/long")).await.status, 200);
    calm(&small, &large).await;
    assert!(bill(&small, &large) > MOST);
    stays_within(&house, (&small, &large), &key).await;
    // Nothing is used up: each request has all of it.
    let rows = admin.call("GET", "/budgets", &Value::Null).await.json();
    let row = rows["data"].as_array().unwrap().iter().find(|b| b["window"] == "request").unwrap();
    let told = (&row["holder"], &row["limit"], &row["used"], &row["left"], &row["resets_in_s"]);
    assert_eq!(told, (&json!(format!("key:{id}")), &json!(MOST), &json!(0.0), &json!(MOST), &Value::Null));
    house.stop().await;
    house.restart().await;
    let kept = Admin::of(&house).call("GET", &format!("/keys/{id}"), &Value::Null).await.json();
    // Beside the budget that every key has: it says nothing of how many requests there may be.
    assert_eq!(kept["limits"].as_array().unwrap().last(), Some(&limit("usd", MOST)), "{kept}");
    stays_within(&house, (&small, &large), &key).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_more_than_a_request_may_use_is_told_what_whose_and_how_much() {
    let (small, large, house) = house().await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "lab", "limits": [limit("usd", 0.000_001)]})).await;
    let mut of_model = limit("usd", 0.001);
    of_model["model"] = json!("beta/*");
    let mut of_label = limit("tokens", 3);
    of_label["label"] = json!("team=red");
    let (_, lab) = admin.key(json!({"tenant": "lab"})).await;
    let (dear, model) = admin.key(json!({"limits": [of_model]})).await;
    let (red, label) = admin.key(json!({"limits": [of_label], "labels": {"team": "red"}})).await;
    for (key, body, code, holder) in [
        (&lab, ask("auto"), "insufficient_quota", "0.000001 USD per request for tenant:lab".to_owned()),
        (
            &model,
            ask("beta/large"),
            "insufficient_quota",
            format!("0.001 USD per request for key:{dear}/model:beta/*"),
        ),
        (
            &label,
            ask("auto"),
            "rate_limit_exceeded",
            format!("3 tokens per request for key:{red}/label:team=red"),
        ),
    ] {
        let refused = chat(&house, key, &body).await;
        let error = refused.error(429);
        let said = error["message"].as_str().unwrap();
        assert_eq!(error["code"], code, "{error}");
        assert!(said.contains(&format!("more than the limit of {holder} ever admits")), "{error}");
        assert!(said.contains("shorten the input") && said.contains("have the limit raised"), "{error}");
        let headers = (refused.header("retry-after"), refused.header("x-should-retry"));
        assert_eq!(headers, (None, Some("false")), "{error}");
        let mut explained = body.clone();
        explained["routing"] = json!({"explain": true});
        let error = chat(&house, key, &explained).await.error(429);
        let excluded = error.pointer("/metadata/turnout/decision/excluded").cloned().unwrap_or_default();
        assert!(
            excluded.to_string().contains("\"limit\"") && excluded.to_string().contains(&holder),
            "{error}"
        );
        is_told(&house, &refused, &format!("the limit of {holder} (")).await;
    }
    let metrics = house.client().get("/metrics").await.text();
    for series in [
        "{limit=\"tenant\",metric=\"usd\"}",
        "{limit=\"model\",metric=\"usd\"}",
        "{limit=\"label\",metric=\"tokens\"}",
    ] {
        let counted = format!("turnout_limit_refusals_total{series} 2");
        assert!(metrics.lines().any(|line| line == counted), "{counted}: {metrics}");
    }
    assert_eq!((small.count(), large.count()), (0, 0));
    // Others than the model that is limited go on.
    let other = chat(&house, &model, &ask("auto")).await;
    assert_eq!((other.status, other.header("x-turnout-model")), (200, Some("alpha/small")));
    assert_eq!(large.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_a_budget_does_not_pay_for_is_left_out_and_a_cheaper_one_answers() {
    let (small, large, house) = house().await;
    let admin = Admin::of(&house);
    // A short answer of the large model costs about 0.0015 USD.
    let budget = json!({"metric": "usd", "amount": 0.0005, "per": "day"});
    let (id, key) = admin.key(json!({"limits": [budget]})).await;
    let mut asked = ask("auto");
    asked["routing"] = json!({"explain": true});
    let answer = chat(&house, &key, &asked).await;
    assert_eq!((answer.status, answer.header("x-turnout-model")), (200, Some("alpha/small")));
    assert!(
        answer.text().contains(&format!("the limit of 0.0005 USD per day for key:{id}")),
        "{}",
        answer.text()
    );
    let refused = chat(&house, &key, &ask("beta/large")).await;
    let error = refused.error(429);
    let said = error["message"].as_str().unwrap();
    assert!(said.contains("it needs at least") && said.contains("ask a cheaper model"), "{error}");
    is_told(&house, &refused, &format!("the limit of 0.0005 USD per day for key:{id} (")).await;
    assert_eq!((small.count(), large.count()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_one_request_that_cannot_be_are_refused_with_the_field() {
    let (_small, _large, house) = house().await;
    let admin = Admin::of(&house);
    let (id, _) = admin.key(json!({})).await;
    let mut held = limit("usd", 1);
    held["reserved_premium"] = json!(0.5);
    let mut twice = limit("usd", 1);
    twice["window"] = json!("request");
    for (wrong, why) in [
        (limit("usd", 0), "`amount: 0`"),
        (limit("usd", -0.01), "`amount: -0.01`"),
        (limit("usd", 1e-12), "`amount: 0.000000000001`"),
        (limit("tokens", 0.5), "`amount: 0.5`"),
        (limit("usd", "much"), "`limits[0].amount` is not what this takes: expected a number"),
        (limit("usd", Value::Null), "`limits[0].amount` is not what this takes: expected a number"),
        (limit("requests", 1), "`per: request` is for `usd` and `tokens`"),
        (limit("concurrency", 1), "`concurrency` takes no `per`"),
        (held, "`reserved_premium`"),
        (twice, "window"),
    ] {
        for (method, path) in
            [("POST", "/keys".to_owned()), ("POST", "/tenants".to_owned()), ("PATCH", format!("/keys/{id}"))]
        {
            let mut body = json!({"limits": [wrong]});
            if path == "/tenants" {
                body["id"] = json!("lab");
            }
            if method == "PATCH" && wrong["amount"].is_null() {
                // In a change that takes a limit away.
                continue;
            }
            let refused = admin.call(method, &path, &body).await;
            let error = refused.error(400);
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(why), "{wrong}: {error}");
            let place = error["param"].as_str().unwrap();
            assert!(place.starts_with("limits[0]"), "{wrong}: {error}");
        }
    }
    let made = house.cli(&["key", "create", "--name", "cli", "--limit", "0.01 usd per request"]).await;
    assert!(made.status.success(), "{made:?}");
    let shown = house.cli(&["budget", "list"]).await;
    assert!(String::from_utf8_lossy(&shown.stdout).contains("request"), "{shown:?}");
    let wrong = house.cli(&["key", "create", "--limit", "0 usd per request"]).await;
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && said.contains("`amount: 0` is not a number above 0"), "{said}");
}

/// A vendor that counts far more than goes in, as for a file that nobody here can read: all of it is booked on every
/// counter, seen by whoever comes next, told, and remembered by a killed process.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_vendor_charges_beyond_what_was_set_aside_is_booked_in_full_everywhere() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    vendor.otherwise(|_| Reply::text("hello").costing(5_000, 10));
    let mut house = Plan::new()
        .vendor("alpha", &vendor)
        .model(&Model::new("alpha/one").price(100.0))
        .rules(NO_CHANCE)
        .start()
        .await;
    let admin = Admin::of(&house);
    // At 100 USD a million; about a cent is set aside.
    let (charged, most) = (0.501, 0.4);
    let per = |per: &str| json!({"metric": "usd", "amount": most, "per": per});
    let mut of_label = per("day");
    of_label["label"] = json!("team=red");
    admin.tenant(json!({"id": "lab", "limits": [per("month"), of_label]})).await;
    let mut of_model = per("day");
    of_model["model"] = json!("alpha/*");
    let tokens = json!({"metric": "tokens", "amount": 4_000, "per": "day"});
    let spec = json!({"tenant": "lab", "labels": {"team": "red"}, "limits": [per("day"), of_model, tokens]});
    let (_, key) = admin.key(spec).await;
    let mut body = ask("auto");
    body["max_tokens"] = json!(100);
    let answer = chat(&house, &key, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.header("x-turnout-decision").unwrap().to_owned();
    let used = async |house: &House| {
        let rows = Admin::of(house).call("GET", "/budgets?tenant=lab", &Value::Null).await.json();
        let row = |b: &Value| (b["metric"].as_str().unwrap().to_owned(), b["used"].as_f64().unwrap());
        rows["data"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let booked = |rows: &[(String, f64)]| {
        let full = |(metric, used): &(String, f64)| match metric.as_str() {
            "usd" => (used - charged).abs() < 1e-9,
            _ => (used - 5_010.0).abs() < 1e-9,
        };
        rows.len() == 5 && rows.iter().all(full)
    };
    let rows = used(&house).await;
    assert!(booked(&rows), "{rows:?}");
    // Nobody who counts there begins anything any more.
    assert_eq!(chat(&house, &key, &body).await.error(429)["code"], "insufficient_quota");
    let (_, other) = admin.key(json!({"tenant": "lab", "limits": []})).await;
    assert_eq!(chat(&house, &other, &body).await.error(429)["code"], "insufficient_quota");
    assert_eq!(vendor.count(), 1);
    // It is told of in the record and counted by the metrics.
    let told = || async { get(house.client(), &key, &format!("/v1/decisions/{id}")).await };
    let mut record = told().await;
    for _ in 0..2_000 {
        if record.status == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        record = told().await;
    }
    let record = record.json();
    let beyond = record.pointer("/run/steps/0/calls/0/beyond_usd").and_then(Value::as_f64).unwrap();
    assert!(beyond > 0.4 && beyond < charged, "{record}");
    let metrics = house.client().get("/metrics").await.text();
    let series = "turnout_cost_beyond_reserved_usd_total{model=\"alpha/one\"} ";
    let counted = metrics.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_default().to_owned();
    assert!((counted.parse::<f64>().unwrap() - beyond).abs() < 1e-9, "{metrics}");
    house.kill().await;
    house.restart().await;
    let rows = used(&house).await;
    assert!(booked(&rows), "{rows:?}");
    assert_eq!(chat(&house, &key, &body).await.error(429)["code"], "insufficient_quota");
    assert_eq!(vendor.count(), 1);
}
