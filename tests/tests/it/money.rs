//! A budget holds under a storm: whatever the tree of a request does, no vendor is asked for more than was allowed.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tests::admin::{Admin, Race, get, metered, send};
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Seen, Vendor};

/// Four samples at once, the first good one is delivered.
const SAMPLES: &str = "version: 1
name: samples
nodes:
  - { id: draft, type: generate, samples: 4 }
  - { id: check, type: validate, input: nodes.draft.completions, validators: [contract] }
  - { id: pick, type: select, from: [nodes.check.usable], method: first_passing, when_none: best }
  - { id: out, type: stream, from: nodes.pick.completion }
edges:
  - { from: draft, to: check }
  - { from: check, to: pick }
  - { from: pick, to: out }
";

/// One question for each of four parts, three at a time, and one that joins them.
const PARTS: &str = "version: 1
name: parts
vars: { parts: [one, two, three, four] }
nodes:
  - { id: plan, type: set, values: { parts: vars.parts } }
  - id: each
    type: map
    over: nodes.plan.parts
    as: part
    max_items: 4
    parallel: 3
    min_ok: 0
    body:
      nodes:
        - { id: ask, type: generate }
      result: nodes.ask.completion
  - { id: all, type: merge, from: [nodes.each.results], separator: \" \" }
  - { id: out, type: stream, from: nodes.all.completion }
edges:
  - { from: plan, to: each }
  - { from: each, to: all, outcome: completed }
  - { from: all, to: out }
";

/// A budget for about twenty answers of a thousand tokens at 1 USD per million.
const BUDGET: f64 = 0.0202;

/// Two models at 1 USD per million tokens; the first is believed to be much better.
async fn house() -> (Vendor, House) {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    metered(&vendor, Duration::from_millis(20), |_| "hello");
    let house = Plan::new()
        .vendor("alpha", &vendor)
        .model(&Model::new("alpha/one"))
        .model(&Model::new("alpha/two").success(0.2))
        .rules(NO_CHANCE)
        .file("workflows/samples.yaml", SAMPLES)
        .file("workflows/parts.yaml", PARTS)
        .start()
        .await;
    (vendor, house)
}

fn ask(model: &str) -> Value {
    json!({"model": model, "max_tokens": 1000, "messages": [{"role": "user", "content": "say something"}]})
}

/// Whatever a limit counts, two hundred at once get what it allows: nobody more, and hardly anybody less.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_get_what_limits_of_each_kind_allow() {
    let (vendor, house) = house().await;
    let admin = Admin::of(&house);
    for (limit, least) in [
        (json!({"metric": "requests", "amount": 20, "per": "day"}), 20),
        (json!({"metric": "requests", "amount": 20, "per": "day", "model": "alpha/*"}), 20),
        (json!({"metric": "requests", "amount": 20, "per": "day", "label": "team=red"}), 20),
        (json!({"metric": "tokens", "amount": 21_000, "per": "day"}), 15),
        (json!({"metric": "tokens", "amount": 21_000, "per": "day", "model": "alpha/*"}), 15),
        (json!({"metric": "usd", "amount": BUDGET, "per": "day", "model": "alpha/*"}), 15),
    ] {
        let (_, key) = admin.key(json!({"limits": [limit], "labels": {"team": "red"}})).await;
        let before = tests::admin::spent(&vendor);
        let mut tasks = tokio::task::JoinSet::new();
        for body in storm(&ask("auto")) {
            let (client, key) = (house.client(), key.clone());
            tasks.spawn(async move { send(client, &key, "/v1/chat/completions", &body).await.status });
        }
        let statuses = tasks.join_all().await;
        let served = statuses.iter().filter(|status| **status == 200).count();
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{limit}: {statuses:?}");
        let spent = tests::admin::spent(&vendor) - before;
        // Of money shorter answers may be had for what is left.
        let most = if limit["metric"] == "usd" { 40 } else { 20 };
        assert!((least..=most).contains(&served) && spent <= 0.0211, "{limit}: {served} for {spent} USD");
        assert!(limit["metric"] != "usd" || spent <= BUDGET + 1e-9, "{spent} USD");
    }
}

/// A vendor that counts nothing, and one that closes the connection once it has the request, may bill all that was asked for:
/// a budget holds as if they did.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_counts_is_counted_as_what_may_be_billed() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house =
        Plan::new().vendor("alpha", &vendor).model(&Model::new("alpha/one")).rules(NO_CHANCE).start().await;
    let admin = Admin::of(&house);
    const BUDGET: f64 = 0.001;
    let limit = json!({"metric": "usd", "amount": BUDGET, "per": "day"});
    let uncounted: fn() -> Reply = || Reply::text(&"w ".repeat(50)).costing(0, 0);
    for (reply, answered) in [(uncounted, true), (|| Reply::Close, false)] {
        vendor.otherwise(move |_| reply());
        let (_, key) = admin.key(json!({"limits": [limit]})).await;
        let (before, calls) = (tests::admin::spent(&vendor), vendor.count());
        let mut tasks = tokio::task::JoinSet::new();
        let short = json!({"model": "auto", "max_tokens": 50, "messages": [{"role": "user", "content": "say something"}]});
        for body in storm(&short) {
            let (client, key) = (house.client(), key.clone());
            tasks.spawn(async move { send(client, &key, "/v1/chat/completions", &body).await.status });
        }
        let statuses = tasks.join_all().await;
        let spent = tests::admin::spent(&vendor) - before;
        assert!(vendor.count() > calls && spent <= BUDGET + 1e-9, "{spent} USD");
        assert_eq!(statuses.contains(&200), answered);
        // A model whose connections are lost may be left alone before its budget is used up.
        assert!(!answered || statuses.contains(&429), "{statuses:?}");
    }
}

/// Two hundred of them, a third as streams.
fn storm(body: &Value) -> Vec<Value> {
    let streamed = |i: usize| {
        let mut body = body.clone();
        body["stream"] = json!(i % 3 == 1);
        body
    };
    (0..200).map(streamed).collect()
}

/// Scenario 9 of the workflow format, at the budget of a tenant.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_09_two_hundred_plain_calls_at_once_stay_within_the_budget() {
    let (vendor, house) = house().await;
    let race = Race::run(&house, &[&vendor], BUDGET, storm(&ask("auto"))).await;
    race.holds();
    let over = {
        let (_, key) = Admin::of(&house).key(json!({"tenant": "racer", "limits": []})).await;
        send(house.client(), &key, "/v1/chat/completions", &ask("auto")).await
    };
    assert_eq!(over.error(429)["code"], "insufficient_quota");
    assert!(over.header("retry-after").is_some() && over.header("x-should-retry") == Some("false"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_with_four_samples_each_stay_within_the_budget() {
    let (vendor, house) = house().await;
    let race = Race::run(&house, &[&vendor], BUDGET, storm(&ask("workflow/samples"))).await;
    race.holds();
}

/// Conversations of many short messages: what goes in costs more than what comes out, and most of it is frames.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_long_conversations_of_short_messages_stay_within_the_budget() {
    let turn = |i| json!({"role": if i % 2 == 0 { "user" } else { "assistant" }, "content": "ok"});
    let messages: Vec<Value> = (0..41).map(turn).collect();
    for model in ["auto", "workflow/samples"] {
        let (vendor, house) = house().await;
        let body = json!({"model": model, "max_tokens": 16, "messages": messages});
        let race = Race::run(&house, &[&vendor], 0.01, storm(&body)).await;
        race.holds();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_maps_stay_within_the_budget() {
    let (vendor, house) = house().await;
    let race = Race::run(&house, &[&vendor], BUDGET, storm(&ask("workflow/parts"))).await;
    race.holds();
}

/// Every answer is graded after it has gone out, for as long as the budget has room for that, too.
const GRADED: &str = "version: 1
name: graded
nodes:
  - { id: ask, type: generate }
  - { id: audit, type: judge, input: nodes.ask.completion, needs: ask }
  - { id: answer, type: stream, from: nodes.ask.completion, needs: ask }
";

/// Whether it is a judge who is asked.
fn is_judge(seen: &Seen) -> bool {
    seen.body["messages"].to_string().contains("scores")
}

fn graded(seen: &Seen) -> &'static str {
    match is_judge(seen) {
        true => "{\"scores\": {\"correctness\": 3, \"helpfulness\": 3}, \"rationale\": \"so so\"}",
        false => "hello",
    }
}

/// One is asked alone, and its judge has spoken before two hundred come at once: who of all these finds money first,
/// answers or judges, is a matter of moments.
async fn graded_race(house: &House, vendor: &Vendor, limits: Value) {
    let key = Race::racer(house, limits).await;
    assert_eq!(send(house.client(), &key, "/v1/chat/completions", &ask("workflow/graded")).await.status, 200);
    let graded = || vendor.seen().iter().any(|s| is_judge(s));
    assert!(
        tests::eventually(Duration::from_secs(20), graded).await,
        "nothing was graded, so nothing is shown"
    );
    let race = Race::with(house, &[vendor], BUDGET, &key, storm(&ask("workflow/graded"))).await;
    race.holds();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_that_are_graded_afterwards_stay_within_the_budget() {
    let (vendor, house) = house().await;
    metered(&vendor, Duration::from_millis(20), graded);
    house.folder().write("workflows/graded.yaml", GRADED);
    house.signal("HUP").await;
    assert!(
        tests::eventually(Duration::from_secs(20), || house.log().contains("a bundle is in force")).await
    );
    graded_race(&house, &vendor, Race::limits(BUDGET)).await;
}

/// The budget is that of a rule, per tenant and, as much, per model: judges after the response are under it like the
/// answers.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_that_are_graded_afterwards_stay_within_the_budget_of_a_rule() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    metered(&vendor, Duration::from_millis(20), graded);
    let rule = format!(
        "rules:\n  - id: daily\n    actions: {{ rate_limit: [{{ per: tenant, usd: {BUDGET}, window: 1d }}, {{ per: model, usd: {BUDGET}, window: 1d }}] }}\n"
    );
    let house = Plan::new()
        .vendor("alpha", &vendor)
        .model(&Model::new("alpha/one"))
        .rules(&format!("{NO_CHANCE}{rule}"))
        .file("workflows/graded.yaml", GRADED)
        .start()
        .await;
    graded_race(&house, &vendor, json!([])).await;
}

/// Every first answer breaks its schema; two of three repairs mend it, the third fails as well.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_repairs_stay_within_the_budget() {
    let (vendor, house) = house().await;
    let calls = std::sync::atomic::AtomicUsize::new(0);
    metered(&vendor, Duration::from_millis(20), move |_| {
        match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3 {
            0 => "{\"name\": \"Ada\"}",
            1 => "{\"name\": 7}",
            _ => "{\"name\": \"Ada\", \"age\": 36}",
        }
    });
    let mut body = ask("workflow/json_extraction");
    body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "person", "strict": true, "schema": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"], "additionalProperties": false,
    }}});
    // Room for a first call and a repair, each as long as it may be, several times over.
    let race = Race::run(&house, &[&vendor], 3.0 * BUDGET, storm(&body)).await;
    let good = race.statuses.iter().filter(|s| **s == 200).count();
    assert!(good > 0 && race.statuses.iter().all(|s| [200, 422, 429, 502].contains(s)), "{race:?}");
    assert!(race.raced <= race.budget + 1e-9 && race.spent <= race.budget + 1e-9, "{race:?}");
    let repairs = vendor.seen().iter().filter(|s| s.body["messages"].as_array().unwrap().len() > 1).count();
    assert!(repairs > 0, "something was repaired");
}

/// What a vendor never answered, and what its client left, is not spent twice and not forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn failures_and_clients_that_leave_strand_no_money() {
    let (vendor, house) = house().await;
    let calls = std::sync::atomic::AtomicUsize::new(0);
    vendor.otherwise(move |_| match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 2 {
        0 => tests::vendor::Reply::error(500),
        _ => tests::vendor::Reply::text("hello").costing(3, 1_000),
    });
    let admin = Admin::of(&house);
    let limits =
        json!([{"metric": "usd", "amount": 1.0, "per": "month"}, {"metric": "concurrency", "amount": 50}]);
    let (_, key) = admin.key(json!({"limits": limits})).await;
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..60_u64 {
        let (client, key) = (house.client(), key.clone());
        tasks.spawn(async move {
            let body = ask("auto");
            let asked = send(client, &key, "/v1/chat/completions", &body);
            // Every third client leaves before or while its answer comes.
            let patience = if i % 3 == 0 { Duration::from_millis(i) } else { Duration::from_secs(20) };
            let _ = tokio::time::timeout(patience, asked).await;
        });
    }
    tasks.join_all().await;
    let spent_at_most = vendor.count() as f64 * 1_100.0 / 1e6;
    let standing = async || {
        let said = admin.call("GET", "/budgets", &Value::Null).await.json();
        let of = |metric: &str| {
            let row = said["data"].as_array().unwrap().iter().find(|b| b["metric"] == metric).cloned();
            row.unwrap()["used"].as_f64().unwrap()
        };
        (of("usd"), of("concurrency"))
    };
    let mut last = standing().await;
    for _ in 0..1_500 {
        if last.1 == 0.0 && last.0 <= spent_at_most {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        last = standing().await;
    }
    assert!(last.0 <= spent_at_most && last.0 > 0.0, "{last:?}, at most {spent_at_most}");
    assert_eq!(last.1, 0.0, "every place came back");
}

/// Trees of four calls each, whole and streamed, a fifth of whose clients leave: whatever comes of them, the vendor is asked
/// for no more than the budget, and nothing stays set aside.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_trees_whose_clients_leave_stays_within_the_budget() {
    const ALL: u64 = 1_000;
    let (vendor, house) = house().await;
    let key = Race::racer(&house, Race::limits(4.0 * BUDGET)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for (i, mut body) in (0..ALL).map(|i| (i, ask("workflow/samples"))) {
        body["stream"] = json!(i % 3 == 1);
        let (client, key) = (house.client(), key.clone());
        tasks.spawn(async move {
            // Not all of them in one moment: who comes later finds what others gave back.
            tokio::time::sleep(Duration::from_millis(i)).await;
            let asked = send(client, &key, "/v1/chat/completions", &body);
            let patience = if i % 5 == 0 { Duration::from_millis(i % 60) } else { Duration::from_secs(120) };
            tokio::time::timeout(patience, asked).await.ok().map(|answer| answer.status)
        });
    }
    let statuses = tasks.join_all().await;
    let served = statuses.iter().filter(|status| **status == Some(200)).count();
    assert!(statuses.iter().flatten().all(|s| [200, 422, 429, 503].contains(s)), "{statuses:?}");
    let spent = tests::admin::spent(&vendor);
    assert!(served > 0 && spent <= 4.0 * BUDGET + 1e-9, "{served} for {spent} USD of {}", 4.0 * BUDGET);
    // What was set aside for those who left comes back, so that most of it can be spent.
    for _ in 0..600 {
        let again = send(house.client(), &key, "/v1/chat/completions", &ask("workflow/samples")).await;
        if again.status != 200 && tests::admin::spent(&vendor) > 3.0 * BUDGET {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let spent = tests::admin::spent(&vendor);
    assert!((3.0 * BUDGET..=4.0 * BUDGET + 1e-9).contains(&spent), "{spent} USD of {}", 4.0 * BUDGET);
}

/// Who is premium by a rule, and who is not whatever its profile says.
const WHO_IS_PREMIUM: &str = "rules:
  - { id: vip, when: request.user == \"vip\", actions: { premium: true } }
  - { id: claims, when: request.user == \"claims\", actions: { premium: false } }
";

/// Half of the budget is held back: bulk traffic cannot take it, whoever needs it can, and both together never spend
/// more than there is, also over a killed process.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_for_premium_requests_is_there_for_them() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    metered(&vendor, Duration::from_millis(20), |_| "hello");
    let mut house = Plan::new()
        .vendor("alpha", &vendor)
        .model(&Model::new("alpha/one"))
        .rules(&format!("{NO_CHANCE}{WHO_IS_PREMIUM}"))
        .start()
        .await;
    let admin = Admin::of(&house);
    let limit = json!({"metric": "usd", "amount": BUDGET, "per": "month", "reserved_premium": 0.5});
    admin.tenant(json!({"id": "racer", "limits": [limit]})).await;
    let (_, key) = admin.key(json!({"tenant": "racer", "limits": []})).await;
    let (_, labelled) =
        admin.key(json!({"tenant": "racer", "limits": [], "labels": {"premium": "true"}})).await;
    let bulk = {
        let mut body = ask("auto");
        body["routing"] = json!({"precision": "low"});
        body
    };
    let careful = {
        let mut body = ask("auto");
        body["routing"] = json!({"precision": "high"});
        body
    };
    let path = "/v1/chat/completions";

    // Two hundred ordinary ones at once leave alone what is held back.
    let race = async |house: &House, bodies: Vec<Value>| {
        let mut tasks = tokio::task::JoinSet::new();
        for body in bodies {
            let (client, key) = (house.client(), key.clone());
            tasks.spawn(async move { send(client, &key, path, &body).await.status });
        }
        tasks.join_all().await
    };
    let statuses = race(&house, storm(&bulk)).await;
    let good = statuses.iter().filter(|s| **s == 200).count();
    assert!(good > 0 && statuses.iter().all(|s| [200, 429].contains(s)), "{statuses:?}");
    // What was set aside in the storm and not used came back.
    for _ in 0..40 {
        if send(house.client(), &key, path, &bulk).await.status != 200 {
            break;
        }
    }
    let ordinary = tests::admin::spent(&vendor);
    assert!(ordinary <= BUDGET / 2.0 + 1e-9 && ordinary > BUDGET * 0.4, "{ordinary}");

    // They are told why, and the budget tells what is left for whom.
    let refused = send(house.client(), &key, path, &bulk).await;
    let error = refused.error(429);
    assert_eq!(error["code"], "insufficient_quota");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("0.0202 less 0.0101 USD that are held back for premium requests"), "{message}");
    assert!(refused.header("retry-after").is_some() && refused.header("x-should-retry") == Some("false"));
    let id = refused.header("x-turnout-decision").unwrap().to_owned();
    let explained = house.cli(&["explain", &id]).await;
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("not premium"), "{explained}");
    let budgets = admin.call("GET", "/budgets", &Value::Null).await.json();
    let row = budgets["data"].as_array().unwrap().iter().find(|r| r["tenant"] == "racer").unwrap().clone();
    assert_eq!((&row["reserved_premium"], &row["state"]), (&json!(0.0101), &json!("red")), "{row}");
    assert!(row["ordinary_left"].as_f64() < Some(0.001) && row["left"].as_f64() > Some(0.01), "{row}");

    // It is remembered over a killed process.
    house.kill().await;
    house.restart().await;
    assert_eq!(send(house.client(), &key, path, &bulk).await.status, 429);

    // A profile, a rule and a label of the key give what is held back; a rule can take it away.
    let by = |user: &str, mut body: Value| {
        body["user"] = json!(user);
        body
    };
    let careful_one = send(house.client(), &key, path, &careful).await;
    assert_eq!(careful_one.status, 200, "{}", careful_one.text());
    let id = careful_one.header("x-turnout-decision").unwrap().to_owned();
    let explained = house.cli(&["explain", &id]).await;
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains("premium, its precision_sensitivity is high"), "{explained}");
    assert_eq!(send(house.client(), &key, path, &by("vip", bulk.clone())).await.status, 200);
    assert_eq!(send(house.client(), &labelled, path, &bulk).await.status, 200);
    assert_eq!(send(house.client(), &key, path, &by("claims", careful.clone())).await.status, 429);

    // Both kinds at once: never more than all of it, and most of it can be spent.
    let mixed = storm(&careful).into_iter().zip(storm(&bulk)).take(100).flat_map(|(a, b)| [a, b]);
    let statuses = race(&house, mixed.collect()).await;
    assert!(statuses.iter().all(|s| [200, 429].contains(s)), "{statuses:?}");
    for _ in 0..40 {
        if send(house.client(), &key, path, &careful).await.status != 200 {
            break;
        }
    }
    let spent = tests::admin::spent(&vendor);
    assert!(spent <= BUDGET + 1e-9 && spent > BUDGET * 0.8, "{spent}");
}

/// Two questions, one after the other.
pub(super) const STEPS: &str = "version: 1
name: steps
nodes:
  - { id: one, type: generate, params: { temperature: 0.1 } }
  - { id: two, type: generate, params: { temperature: 0.2 } }
  - { id: answer, type: stream, from: nodes.two.completion }
edges:
  - { from: one, to: two }
  - { from: two, to: answer }
";

fn is_second(seen: &Seen) -> bool {
    seen.body["temperature"] == 0.2
}

/// Runs that failed are resumed and forked all at once against a budget with room for a few of them: whatever goes
/// on reserves before it asks, and what it used is counted.
#[tokio::test(flavor = "multi_thread")]
async fn eighty_resumed_and_forked_runs_stay_within_the_budget() {
    const FAILED: usize = 8;
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = broken.clone();
    vendor.otherwise(move |seen| match breaks.load(Ordering::Relaxed) && is_second(seen) {
        true => Reply::error(400),
        false => {
            let most = seen.body["max_tokens"].as_u64().unwrap();
            Reply::text("hello").costing(10, u32::try_from(most).unwrap()).slow(Duration::from_millis(20))
        }
    });
    let house = Plan::new()
        .vendor("alpha", &vendor)
        .model(&Model::new("alpha/one"))
        .rules(NO_CHANCE)
        .settings("retry: { max_attempts: 1 }\n")
        .file("workflows/steps.yaml", STEPS)
        .start()
        .await;
    let admin = Admin::of(&house);
    let limit = json!({"metric": "usd", "amount": BUDGET, "per": "month"});
    admin.tenant(json!({"id": "racer", "limits": [limit]})).await;
    let (_, key) = admin.key(json!({"tenant": "racer", "limits": []})).await;
    let ended = async |id: &str| {
        for _ in 0..1_000 {
            let run = get(house.client(), &key, &format!("/v1/runs/{id}")).await.json();
            if ["succeeded", "failed"].contains(&run["status"].as_str().unwrap()) {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it does not end\n{}", house.log());
    };
    let begin = async |path: String, body: Value| {
        let accepted = send(house.client(), &key, &path, &body).await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        accepted.json()["id"].as_str().unwrap().to_owned()
    };
    let fork = |id: &str| (format!("/v1/runs/{id}/fork"), json!({"after": "one"}));
    let mut failed = Vec::new();
    for _ in 0..FAILED {
        let id = begin("/v1/runs".to_owned(), json!({"workflow": "steps", "request": ask("auto")})).await;
        let run = ended(&id).await;
        assert_eq!(run["status"], "failed", "{run:#}");
        failed.push(id);
    }
    broken.store(false, Ordering::Relaxed);
    let before = vendor.count();
    let cost = |seen: &Seen| (10 + seen.body["max_tokens"].as_u64().unwrap()) as f64 / 1e6;
    let spent = || {
        let seen = vendor.seen();
        let paid = seen.iter().enumerate().filter(|(i, s)| *i >= before || !is_second(s));
        paid.map(|(_, s)| cost(s)).sum::<f64>()
    };

    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..72 + FAILED {
        let (path, body) = match failed.get(i) {
            Some(id) => (format!("/v1/runs/{id}/resume"), json!({})),
            None => fork(&failed[i % FAILED]),
        };
        let (client, key) = (house.client(), key.clone());
        tasks.spawn(async move { send(client, &key, &path, &body).await.json() });
    }
    let mut statuses = Vec::new();
    for accepted in tasks.join_all().await {
        let run = ended(accepted["id"].as_str().unwrap_or_else(|| panic!("{accepted}"))).await;
        let code = run["error"]["code"].as_str().unwrap_or("none").to_owned();
        assert!(["none", "insufficient_quota", "budget.usd"].contains(&&*code), "{run:#}");
        statuses.push(code);
    }
    let good = statuses.iter().filter(|s| *s == "none").count();
    assert!((1..statuses.len()).contains(&good), "{statuses:?}");
    assert!(spent() <= BUDGET + 1e-9, "{} of {BUDGET}: {statuses:?}", spent());

    // What was reserved and not used came back, so that most of it can be spent; then nothing goes on any more.
    let mut last = String::new();
    for _ in 0..40 {
        let (path, body) = fork(&failed[0]);
        last = begin(path, body).await;
        if ended(&last).await["status"] == "failed" {
            break;
        }
    }
    let all = spent();
    assert!(all <= BUDGET + 1e-9 && all > BUDGET * 0.8, "{all} of {BUDGET}");
    let refused = ended(&last).await;
    assert_eq!(refused["error"]["code"], "insufficient_quota", "{refused:#}");
    let calls = vendor.count();
    begin(format!("/v1/runs/{last}/resume"), json!({})).await;
    let refused = ended(&last).await;
    assert_eq!(refused["error"]["code"], "insufficient_quota", "{refused:#}");
    assert_eq!(vendor.count(), calls, "nobody is asked");
    let replay = send(house.client(), &key, &format!("/v1/runs/{last}/replay"), &json!({})).await.json();
    assert_eq!((&replay["same"], &replay["would_call"]), (&json!(true), &Value::Null), "{replay}");
    let budgets = admin.call("GET", "/budgets", &Value::Null).await.json();
    let row = budgets["data"].as_array().unwrap().iter().find(|b| b["tenant"] == "racer").cloned().unwrap();
    assert!((row["used"].as_f64().unwrap() - all).abs() < 1e-9, "{all}: {row}");
}

/// What a vendor bills beside its prices for tokens nobody can set aside: where a limit counts money it is refused, and
/// nobody is asked. Where nothing counts money it goes on as it came.
#[tokio::test(flavor = "multi_thread")]
async fn what_costs_more_than_its_tokens_is_refused_where_money_is_counted() {
    let (vendor, house) = house().await;
    let admin = Admin::of(&house);
    let dear = [
        ("service_tier", json!("priority")),
        ("tools", json!([{"type": "web_search"}])),
        ("web_search_options", json!({})),
        ("search_parameters", json!({"mode": "on"})),
        ("plugins", json!([{"id": "web"}])),
        ("prediction", json!({"type": "content", "content": "x"})),
        ("best_of", json!(50)),
        ("thinking_budget", json!(8_000)),
        ("reasoning", json!({"max_tokens": 100_000})),
    ];
    let budget = json!([{"metric": "usd", "amount": 1.0, "per": "day"}]);
    for (limits, max_cost, refused) in
        [(budget, None, true), (json!([]), Some(0.5), true), (json!([]), None, false)]
    {
        let (_, key) = admin.key(json!({"limits": limits})).await;
        for (member, value) in &dear {
            let mut body = ask("auto");
            body[*member] = value.clone();
            if let Some(most) = max_cost {
                body["routing"] = json!({"max_cost_usd": most});
            }
            let before = vendor.count();
            let answer = send(house.client(), &key, "/v1/chat/completions", &body).await;
            if refused {
                let error = answer.error(400);
                assert_eq!(
                    (&error["code"], &error["param"]),
                    (&json!("unpriced"), &json!(member)),
                    "{error}"
                );
                assert_eq!(vendor.count(), before, "{member}");
            } else {
                assert_eq!((answer.status, vendor.count()), (200, before + 1), "{}", answer.text());
                assert_eq!(&vendor.seen().last().unwrap().body[*member], value);
            }
        }
        let mut plain = ask("auto");
        plain["service_tier"] = json!("flex");
        assert_eq!(send(house.client(), &key, "/v1/chat/completions", &plain).await.status, 200);
    }
}

/// Sound has prices of its own, which no table of ours has.
#[tokio::test(flavor = "multi_thread")]
async fn sound_in_a_message_is_refused_where_money_is_counted() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    metered(&vendor, Duration::from_millis(20), |_| "hello");
    let hears = Model { abilities: "streaming, tools, json, audio", ..Model::new("alpha/one") };
    let house = Plan::new().vendor("alpha", &vendor).model(&hears).rules(NO_CHANCE).start().await;
    let admin = Admin::of(&house);
    let mut body = ask("auto");
    body["messages"][0]["content"] = json!([
        {"type": "text", "text": "what is said?"},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    ]);
    let (_, limited) = admin.key(json!({"limits": [{"metric": "usd", "amount": 1.0, "per": "day"}]})).await;
    let error = send(house.client(), &limited, "/v1/chat/completions", &body).await.error(400);
    assert_eq!((&error["code"], &error["param"]), (&json!("unpriced"), &json!("messages")), "{error}");
    assert_eq!(vendor.count(), 0);
    let (_, open) = admin.key(json!({"limits": []})).await;
    let answer = send(house.client(), &open, "/v1/chat/completions", &body).await;
    assert_eq!((answer.status, vendor.count()), (200, 1), "{}", answer.text());
}

/// A judge for whom nothing is left once the answer is paid is not asked, and that is counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_judge_that_cannot_be_paid_is_not_asked() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    metered(&vendor, Duration::ZERO, graded);
    let plan = Plan::new().vendor("alpha", &vendor).model(&Model::new("alpha/one")).rules(NO_CHANCE);
    let house = plan.file("workflows/graded.yaml", GRADED).start().await;
    // An answer of a thousand tokens, and fifty that are too few for what a judge is told.
    let limits = json!([{"metric": "usd", "amount": 0.00105, "per": "month"}]);
    let (_, key) = Admin::of(&house).key(json!({"limits": limits})).await;
    let answer = send(house.client(), &key, "/v1/chat/completions", &ask("workflow/graded")).await;
    assert_eq!((answer.status, answer.content().as_str()), (200, "hello"), "{}", answer.text());
    let told = || async { house.client().get("/metrics").await.text() };
    let mut metrics = told().await;
    for _ in 0..1_200 {
        if metrics.contains("turnout_after_response_total{result=\"unpaid\"} 1") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
        metrics = told().await;
    }
    assert!(metrics.contains("turnout_after_response_total{result=\"unpaid\"} 1"), "{metrics}");
    assert!(!vendor.seen().iter().any(|s| is_judge(s)), "it was asked");
}
