//! Durable runs: what a kill leaves of them, what repeats from their journals, and under which plan they go on.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tests::admin::{Admin, get, send};
use tests::client::{Client, Response};
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Seen, Vendor};

/// Three models in a row, a check, and two beside each other; every call is told apart by its temperature.
const LONG: &str = "\
version: 1
name: long
nodes:
  - { id: one, type: generate, params: { temperature: 0.1 } }
  - { id: two, type: generate, params: { temperature: 0.2 } }
  - { id: check, type: validate, input: nodes.two.completions, validators: [refusal] }
  - { id: three, type: generate, params: { temperature: 0.3 } }
  - { id: four, type: generate, params: { temperature: 0.4 } }
  - { id: all, type: merge, from: [nodes.one.completion, nodes.two.completion, nodes.three.completion, nodes.four.completion] }
  - { id: answer, type: stream, from: nodes.all.completion }
edges:
  - { from: one, to: two }
  - { from: two, to: check }
  - { from: check, to: [three, four], outcome: [passed, unverified, failed] }
  - { from: [three, four], to: all }
  - { from: all, to: answer }
";
const CALLS: [&str; 4] = ["0.1", "0.2", "0.3", "0.4"];

async fn start(vendor: &Vendor, workflow: &str) -> House {
    Plan::new()
        .vendor("lab", vendor)
        .model(&Model::new("lab/one"))
        .rules(crate::NO_CHANCE)
        .settings("reload: { debounce: 100ms }\nretry:\n  max_attempts: 1\n")
        .file("workflows/long.yaml", workflow)
        .start()
        .await
}

/// The question and the call of a request.
fn which(seen: &Seen) -> (String, String) {
    (seen.last_text(), seen.body["temperature"].to_string())
}

/// An answer that depends on nothing but what is asked.
fn answer(seen: &Seen) -> Reply {
    let (question, call) = which(seen);
    Reply::text(&format!("{call} says yes to {question}"))
}

fn told(question: &str) -> String {
    CALLS.map(|c| format!("{c} says yes to {question}")).join("\n\n")
}

async fn submit(client: Client, question: &str) -> String {
    let body = json!({"workflow": "long", "request": {"messages": [{"role": "user", "content": question}]}});
    let accepted = client.post("/v1/runs", &body).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    accepted.json()["id"].as_str().unwrap().to_owned()
}

async fn run(client: Client, id: &str) -> Value {
    client.get(&format!("/v1/runs/{id}")).await.json()
}

/// Waits for one of these states; a lease of a killed process takes a quarter of a minute to lapse.
async fn until(house: &House, id: &str, states: &[&str]) -> Value {
    let look = async {
        loop {
            let run = run(house.client(), id).await;
            if states.contains(&run["status"].as_str().unwrap()) {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), look).await.unwrap_or_else(|_| panic!("{}", house.log()))
}

fn content(run: &Value) -> &str {
    run["result"]["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{run:#}"))
}

/// Scenario 18: `kill -9` while each of many runs stands somewhere else. They end as if nothing had happened, and
/// no call was made twice but one that was under way.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_18_a_kill_anywhere_leads_to_the_same_answer() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| {
        let (question, call) = which(seen);
        // `hold 0.2 …`: the first time it is asked, that call does not come back.
        if question.starts_with(&format!("hold {call} ")) {
            return Reply::Hang;
        }
        let wait = question.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        answer(seen).slow(Duration::from_millis(wait))
    })
    .await;
    let mut house = start(&vendor, LONG).await;
    let mut runs = BTreeMap::new();
    for call in CALLS {
        let question = format!("hold {call} of 0");
        runs.insert(submit(house.client(), &question).await, question);
    }
    // The others are caught wherever they are: each is a little slower than the one before.
    for n in 0..24 {
        let question = format!("run {n} at 1{n:02}");
        runs.insert(submit(house.client(), &question).await, question);
    }
    let held = || {
        let seen = vendor.seen();
        CALLS.iter().all(|c| seen.iter().any(|s| which(s) == (format!("hold {c} of 0"), (*c).to_owned())))
    };
    assert!(tests::eventually(Duration::from_secs(20), held).await, "{}", house.log());
    house.kill().await;
    let before: Vec<(String, String)> = vendor.seen().iter().map(|s| which(s)).collect();
    vendor.otherwise(answer);
    house.restart().await;
    let mut places = BTreeMap::new();
    for id in runs.keys() {
        let run = run(house.client(), id).await;
        *places.entry(run["records"].as_u64().unwrap()).or_insert(0) += 1;
    }
    assert!(places.len() >= 4, "they all stood at the same place: {places:?}");
    for (id, question) in &runs {
        let done = until(&house, id, &["succeeded", "failed", "needs_attention"]).await;
        assert_eq!(content(&done), told(question), "{done:#}");
        // Once each, and once more what was asked before the kill and had no answer on record.
        let twice = done["owners"].as_u64().unwrap() > 1;
        for call in CALLS {
            let this = (question.clone(), call.to_owned());
            let asked = vendor.seen().iter().filter(|s| which(s) == this).count();
            let may = 1 + usize::from(twice && before.contains(&this));
            assert!((1..=may).contains(&asked), "{question}: {call} was asked {asked} times");
        }
        let replay = house.client().post(&format!("/v1/runs/{id}/replay"), &json!({})).await.json();
        assert_eq!(replay["same"], true, "{question}: {replay}");
    }
    for call in CALLS {
        let this = (format!("hold {call} of 0"), call.to_owned());
        assert_eq!(vendor.seen().iter().filter(|s| which(s) == this).count(), 2, "{call} was under way");
    }
}

/// Scenario 20: a run repeats to the byte; under an edited workflow the first thing that is different is named, and
/// what would have to be asked.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_20_a_replay_names_the_first_divergence() {
    let vendor = Vendor::scripted(Dialect::OpenAi, answer).await;
    let house = start(&vendor, LONG).await;
    let id = submit(house.client(), "a question").await;
    let run = until(&house, &id, &["succeeded", "failed"]).await;
    assert_eq!(content(&run), told("a question"));
    let calls = vendor.count();
    let replay = async |text: Option<&str>| {
        let body = text.map_or(json!({}), |t| json!({"workflow": {"name": "long", "text": t}}));
        house.client().post(&format!("/v1/runs/{id}/replay"), &body).await.json()
    };
    let same = replay(None).await;
    assert_eq!((&same["same"], &same["records"]), (&json!(true), &run["records"]), "{same}");
    assert_eq!(same["result"]["completion"]["choices"][0]["text"], content(&run), "{same}");
    // Another version that could not do that can say so.
    let events = house.client().get(&format!("/v1/runs/{id}/events")).await.text().to_owned();
    assert!(
        events.contains(r#""version":""#)
            && events.contains(&format!("\"journal\":{},", types::runs::JOURNAL)),
        "{events}"
    );
    // Another title is no other plan.
    assert_eq!(replay(Some(&format!("{LONG}title: Long\n"))).await["same"], true);
    let check = async |from: &str, to: &str, found: &str, would: Value| {
        assert!(LONG.contains(from));
        let other = replay(Some(&LONG.replace(from, to))).await;
        assert_eq!(other["same"], false, "{other}");
        let divergence = &other["divergence"];
        assert!(divergence["found"].as_str().unwrap().starts_with(found), "{other}");
        assert_eq!(other["would_call"], would, "{other}");
        divergence["seq"].as_u64().unwrap()
    };
    let late = check("0.3", "0.5", "call_intent three#0.1:model", json!(["three#0.1:model"])).await;
    let early = check("0.2", "0.5", "call_intent two#0.1:model", json!(["two#0.1:model"])).await;
    let longer = "{ use: length, with: { chars: { min: 10000 } } }";
    let judged = check("refusal", longer, "validator_result check: failed", Value::Null).await;
    assert!(early < judged && judged < late, "{early} {judged} {late}");
    assert_eq!(vendor.count(), calls, "nobody is asked");
    // The workflow is drawn as it went, for who may see the run; not another one.
    let drawn = house.client().get(&format!("/v1/workflows/long/graph?format=dot&run={id}")).await;
    assert!(drawn.status == 200 && drawn.text().contains(" ms"), "{}", drawn.text());
    let other = house.client().get(&format!("/v1/workflows/default/graph?run={id}")).await;
    assert_eq!(other.error(400)["param"], "run", "{}", other.text());
    assert_eq!(house.client().get("/v1/workflows/long/graph?run=run_none").await.status, 404);
    // The command line says the same.
    house.folder().write("edited/long.yaml", &LONG.replace("0.3", "0.5"));
    let edited = house.folder().path().join("edited/long.yaml");
    let shown = house.cli(&["workflow", "replay", &id, "--workflow", edited.to_str().unwrap()]).await;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.status.code(), Some(2), "{text}");
    assert!(text.contains("call_intent three#0.1:model") && text.contains("would call three#0.1"), "{text}");
    // So it does of a file that is none, as the server said it and nothing else.
    house.folder().write("edited/short.yaml", &LONG.replace("type: merge", "type: marge"));
    let edited = house.folder().path().join("edited/short.yaml");
    let shown = house.cli(&["workflow", "replay", &id, "--workflow", edited.to_str().unwrap()]).await;
    let text = String::from_utf8_lossy(&shown.stderr).into_owned();
    assert_eq!(shown.status.code(), Some(2), "{text}");
    for part in ["`short.yaml` is no workflow", "2:7: WF104", "did you mean `merge`"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("in use"), "{text}");
}

/// A replay with calls is a request of its key: no other key of the tenant makes it, and none whose budget is spent.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_with_calls_is_bound_to_its_key_and_what_that_may_spend() {
    let costly = |seen: &Seen| answer(seen).costing(1_000, 1_000);
    let vendor = Vendor::scripted(Dialect::OpenAi, costly).await;
    let house = start(&vendor, LONG).await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme"})).await;
    let (id, own) = admin.key(json!({"tenant": "acme", "limits": []})).await;
    let (_, other) = admin.key(json!({"tenant": "acme", "limits": []})).await;
    let body =
        json!({"workflow": "long", "request": {"messages": [{"role": "user", "content": "a question"}]}});
    let made = send(house.client(), &own, "/v1/runs", &body).await.json();
    let path = format!("/v1/runs/{}", made["id"].as_str().unwrap());
    for _ in 0..1_200 {
        if get(house.client(), &own, &path).await.json()["status"] == "succeeded" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(vendor.count(), 4, "{}", house.log());
    let edited = LONG.replace("0.3", "0.5");
    let replay = async |key: &str| {
        let body = json!({"workflow": {"name": "long", "text": edited}, "live": {"usd": 1}});
        send(house.client(), key, &format!("{path}/replay"), &body).await
    };
    let refused = replay(&other).await.error(403);
    assert!(refused["message"].as_str().unwrap().contains("only the key that asked"), "{refused}");
    // All that the key may spend a day is spent.
    let may = async |limits: Value| {
        let changed = admin.call("PATCH", &format!("/keys/{id}"), &json!({ "limits": limits })).await;
        assert_eq!(changed.status, 200, "{}", changed.text());
    };
    may(json!([{"metric": "usd", "amount": 0.000_001, "per": "day"}])).await;
    assert_eq!(replay(&own).await.error(429)["code"], "insufficient_quota");
    assert_eq!(vendor.count(), 4, "nobody is asked");
    may(Value::Null).await;
    let live = replay(&own).await;
    assert_eq!(
        (live.status, live.json()["called"].clone()),
        (200, json!(["three#0.1:model"])),
        "{}",
        live.text()
    );
}

/// With a budget a replay asks for what is not on record, within it, and the run stays as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_with_a_budget_asks_for_what_is_new() {
    let costly = |seen: &Seen| answer(seen).costing(1_000, 1_000);
    let vendor = Vendor::scripted(Dialect::OpenAi, costly).await;
    let house = start(&vendor, LONG).await;
    let id = submit(house.client(), "a question").await;
    let before = until(&house, &id, &["succeeded", "failed"]).await;
    let edited = LONG.replace("0.3", "0.5");
    let path = format!("/v1/runs/{id}/replay");
    let replay = async |text: &str, live: Value| {
        let body = json!({"workflow": {"name": "long", "text": text}, "live": live});
        house.client().post(&path, &body).await
    };
    // Nothing is new: nobody is asked, and nothing is on record.
    let same = replay(LONG, json!({"usd": 1})).await.json();
    assert_eq!(
        (&same["same"], &same["called"], &same["record"]),
        (&json!(true), &Value::Null, &Value::Null),
        "{same}"
    );
    for wrong in [json!({}), json!({"usd": 0}), json!({"usd": "1"}), json!({"usd": 1, "eur": 1})] {
        assert_eq!(replay(&edited, wrong).await.error(400)["param"], "live");
    }
    assert_eq!(vendor.count(), 4);
    let live = replay(&edited, json!({"usd": 1})).await.json();
    assert_eq!(
        (&live["called"], &live["would_call"]),
        (&json!(["three#0.1:model"]), &Value::Null),
        "{live:#}"
    );
    assert_eq!(live["result"]["completion"]["choices"][0]["text"], told("a question").replace("0.3", "0.5"));
    assert!(live["divergence"]["found"].as_str().unwrap().starts_with("call_intent three"), "{live:#}");
    assert_eq!(vendor.count(), 5, "what is on record is not asked for again");
    let record = house.decision(live["record"].as_str().unwrap()).await;
    assert_eq!(record["outcome"]["calls"], 1, "{record:#}");
    assert_eq!(record["outcome"]["cost_usd"], live["cost_usd"], "{record:#}");
    assert!(live["cost_usd"].as_f64().unwrap() > 0.0, "{live:#}");
    assert_eq!(run(house.client(), &id).await, before, "the run stays as it was");
    // It is not asked what would cost more than there is.
    let poor = replay(&edited, json!({"usd": 0.000_000_1})).await.json();
    assert_eq!((poor["cost_usd"].as_f64(), vendor.count()), (Some(0.0), 5), "{poor:#}");
    house.folder().write("edited/long.yaml", &edited);
    let file = house.folder().path().join("edited/long.yaml");
    let file = file.to_str().unwrap();
    let shown = house.cli(&["workflow", "replay", &id, "--workflow", file, "--live", "--usd", "1"]).await;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.status.code(), Some(2), "{text}");
    assert!(text.contains("called three#0.1:model") && text.contains("on record as"), "{text}");
    assert!(text.contains("0.5 says yes to a question"), "{text}");
    let unpaid = house.cli(&["workflow", "replay", &id, "--live"]).await;
    assert!(String::from_utf8_lossy(&unpaid.stderr).contains("--usd"), "{unpaid:?}");
}

/// A check with a time limit of its own is asked for beside the walk: what it said is on record, and comes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_with_a_time_limit_comes_again() {
    let vendor = Vendor::scripted(Dialect::OpenAi, answer).await;
    let timed = LONG.replace("[refusal]", "[{ use: refusal, timeout: 5s }, language]");
    let house = start(&vendor, &timed).await;
    let id = submit(house.client(), "a question").await;
    assert_eq!(content(&until(&house, &id, &["succeeded", "failed"]).await), told("a question"));
    let path = format!("/v1/runs/{id}");
    let trace = house.client().get(&format!("{path}/trace")).await.json();
    let check = trace["nodes"].as_array().unwrap().iter().find(|n| n["frame"] == "check").unwrap().clone();
    assert_eq!(check["effects"][0]["purpose"], "refusal", "{check:#}");
    assert_eq!(check["effects"][1]["result"]["verdict"], "passed", "{check:#}");
    let again = house.client().post(&format!("{path}/replay"), &json!({})).await.json();
    assert_eq!(again["same"], true, "{again:#}");
    // A test that is made of it leaves the check to whoever plays it.
    let recorded = house.cli(&["workflow", "test", "--record", &id]).await;
    assert_eq!(recorded.status.code(), Some(0), "{}", String::from_utf8_lossy(&recorded.stdout));
}

async fn resume(house: &House, id: &str) -> Response {
    house.client().post(&format!("/v1/runs/{id}/resume"), &json!({"plan": "latest"})).await
}

/// Scenario 21: a run goes on under another plan only where everything that has resolved is the same in it.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_21_a_changed_plan_is_refused_with_the_changed_nodes() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| {
        if which(seen).1 == "0.3" { Reply::error(400) } else { answer(seen) }
    })
    .await;
    let house = start(&vendor, LONG).await;
    let id = submit(house.client(), "a question").await;
    let failed = until(&house, &id, &["succeeded", "failed"]).await;
    assert_eq!(failed["status"], "failed", "{failed:#}");
    let count = |call: &str| vendor.seen().iter().filter(|s| which(s).1 == call).count();
    let taken_up = async |text: &str| {
        house.folder().write("workflows/long.yaml", text);
        let hash = async || house.client().get("/v1/workflows/long").await.json()["plan_hash"].clone();
        let before = hash().await;
        for _ in 0..1_200 {
            if hash().await != before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("it was never taken up\n{}", house.log());
    };
    // One that has resolved is different, and another one has another name.
    let other = LONG.replace("0.1", "0.7").replace("two", "second");
    taken_up(&other).await;
    let refused = resume(&house, &id).await.error(409);
    assert_eq!(refused["code"], "plan_changed", "{refused}");
    let nodes: Vec<(&str, &str)> = refused["metadata"]["nodes"]
        .as_array()
        .unwrap_or_else(|| panic!("{refused}"))
        .iter()
        .map(|n| (n["node"].as_str().unwrap(), n["change"].as_str().unwrap()))
        .collect();
    for expected in [("one", "changed"), ("two", "removed")] {
        assert!(nodes.contains(&expected), "{nodes:?}");
    }
    assert!(refused["message"].as_str().unwrap().contains("one"), "{refused}");
    assert_eq!(run(house.client(), &id).await["status"], "failed", "it stays as it was");
    // What failed is mended, and what was still to come is different: it goes on, and nobody is asked again who has answered.
    vendor.otherwise(answer);
    let mended = LONG.replace("type: merge,", "type: merge, separator: ' + ',").replace("0.3", "0.5");
    taken_up(&mended).await;
    let accepted = resume(&house, &id).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let done = until(&house, &id, &["succeeded", "failed"]).await;
    let wanted = told("a question").replace("\n\n", " + ").replace("0.3", "0.5");
    assert_eq!(content(&done), wanted, "{done:#}");
    assert_eq!((count("0.1"), count("0.2"), count("0.3"), count("0.5")), (1, 1, 1, 1));
}

/// Whoever ends a run leaves a record that repeats up to there.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_repeats_up_to_its_end() {
    let late = |seen: &Seen| which(seen).1 == "0.3" || which(seen).1 == "0.4";
    let vendor =
        Vendor::scripted(Dialect::OpenAi, move |seen| if late(seen) { Reply::Hang } else { answer(seen) })
            .await;
    let house = start(&vendor, LONG).await;
    let id = submit(house.client(), "a question").await;
    assert!(tests::eventually(Duration::from_secs(20), || vendor.count() == 4).await, "{}", house.log());
    house.client().post(&format!("/v1/runs/{id}/cancel"), &json!({"reason": "enough"})).await;
    let ended = until(&house, &id, &["cancelled"]).await;
    assert_eq!(ended["error"]["message"], "enough", "{ended:#}");
    let replay =
        async |body: Value| house.client().post(&format!("/v1/runs/{id}/replay"), &body).await.json();
    let same = replay(json!({})).await;
    assert_eq!((&same["same"], &same["would_call"]), (&json!(true), &Value::Null), "{same}");
    assert_eq!(same["result"]["error"]["message"], "enough", "{same}");
    // Another workflow still differs where it differs.
    let other = replay(json!({"workflow": {"name": "long", "text": LONG.replace("0.2", "0.7")}})).await;
    let found = other["divergence"]["found"].as_str().unwrap_or_else(|| panic!("{other}"));
    assert!(found.starts_with("call_intent two#0.1:model"), "{other}");
    assert_eq!(vendor.count(), 4);
}

/// Whoever asks for a fork twice with one key has one fork.
#[tokio::test(flavor = "multi_thread")]
async fn a_fork_with_a_key_is_made_once() {
    let vendor = Vendor::scripted(Dialect::OpenAi, answer).await;
    let house = start(&vendor, LONG).await;
    let id = submit(house.client(), "a question").await;
    until(&house, &id, &["succeeded"]).await;
    let path = format!("/v1/runs/{id}/fork");
    let fork = async |key: &str, after: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        let body = json!({"after": after}).to_string();
        house.client().send("POST", &path, &headers, body.as_bytes()).await
    };
    let (first, again, other) = (fork("k", "one").await, fork("k", "one").await, fork("l", "one").await);
    let id_of = |r: &tests::client::Response| r.json()["id"].as_str().unwrap().to_owned();
    assert_eq!((first.status, again.status), (202, 202), "{}", again.text());
    assert_eq!((id_of(&first), again.header("idempotent-replayed")), (id_of(&again), Some("true")));
    assert_ne!(id_of(&first), id_of(&other));
    assert_eq!(fork("k", "two").await.error(409)["code"], "idempotency_key_reused");
}

/// Calls and tokens of a run may be less than its workflow allows, and never more.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_may_ask_for_less_than_its_workflow_allows() {
    let vendor = Vendor::scripted(Dialect::OpenAi, answer).await;
    let house = start(&vendor, LONG).await;
    let wish = |limits: Value| json!({"workflow": "long", "limits": limits, "request": {"messages": [{"role": "user", "content": "a question"}]}});
    // One token is not enough for any call: what one takes is set aside before it begins.
    for (limits, calls) in [(json!({"calls": 2}), 2), (json!({"tokens": 1}), 0), (json!({"calls": 500}), 4)] {
        let before = vendor.count();
        let accepted = house.client().post("/v1/runs", &wish(limits.clone())).await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        until(&house, accepted.json()["id"].as_str().unwrap(), &["succeeded", "failed"]).await;
        assert_eq!(vendor.count() - before, calls, "{limits}");
    }
    for wrong in [json!({"calls": 0}), json!({"tokens": "many"}), json!({"token": 5})] {
        assert_eq!(house.client().post("/v1/runs", &wish(wrong.clone())).await.status, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_asks_the_model_of_the_run_it_comes_from() {
    let vendor = Vendor::scripted(Dialect::OpenAi, answer).await;
    let house = start(&vendor, LONG).await;
    let id = submit(house.client(), "a question").await;
    until(&house, &id, &["succeeded"]).await;
    let other = json!({"messages": [{"role": "user", "content": "another one"}]});
    let body = json!({"after": "one", "overrides": {"request": other}});
    let forked = house.client().post(&format!("/v1/runs/{id}/fork"), &body).await;
    assert_eq!(forked.status, 202, "{}", forked.text());
    let done = until(&house, forked.json()["id"].as_str().unwrap(), &["succeeded", "failed"]).await;
    assert_eq!(
        (content(&done), &done["workflow"]),
        (told("another one").as_str(), &json!("long")),
        "{done:#}"
    );
}

/// A fork that names a variable that there is not, or gives one another type, is told so and not made.
#[tokio::test(flavor = "multi_thread")]
async fn a_fork_sets_variables_by_their_names_and_types() {
    let vendor = Vendor::scripted(Dialect::OpenAi, answer).await;
    let house = start(&vendor, &LONG.replace("nodes:", "vars: { drafts: 3 }\nnodes:")).await;
    let id = submit(house.client(), "a question").await;
    until(&house, &id, &["succeeded"]).await;
    for (vars, param, told) in [
        (json!({"draft": 4}), "overrides.vars.draft", "did you mean `drafts`?"),
        (json!({"drafts": "four"}), "overrides.vars.drafts", "cannot be a text; expected a number"),
    ] {
        let body = json!({"after": "one", "overrides": {"vars": vars}});
        let refused = house.client().post(&format!("/v1/runs/{id}/fork"), &body).await.error(400);
        assert_eq!(refused["param"], param, "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(told), "{refused}");
    }
    let body = json!({"after": "one", "overrides": {"vars": {"drafts": 4}}});
    let forked = house.client().post(&format!("/v1/runs/{id}/fork"), &body).await;
    assert_eq!(forked.status, 202, "{}", forked.text());
}

/// A workflow whose question depends on a variable, and which asks three times.
const LIMITED: &str = "\
version: 1
name: long
vars: { tone: plain }
nodes:
  - { id: one, type: generate, messages: { base: request, system: \"Be ${ vars.tone }.\" } }
  - { id: two, type: generate }
  - { id: three, type: generate, on_error: skip }
  - { id: all, type: merge, from: [nodes.one.completion, nodes.two.completion, nodes.three.completion] }
  - { id: answer, type: stream, from: nodes.all.completion }
edges:
  - { from: one, to: two }
  - { from: two, to: three }
  - { from: three, to: all, outcome: any }
  - { from: all, to: answer }
";

async fn under_rule(vendor: &Vendor, actions: &str) -> House {
    let rules = format!("{}rules:\n  - {{ id: all, actions: {{ {actions} }} }}\n", crate::NO_CHANCE);
    Plan::new()
        .vendor("lab", vendor)
        .model(&Model::new("lab/one"))
        .model(&Model::new("lab/two").success(0.7))
        .rules(&rules)
        .settings("retry: { max_attempts: 1 }\n")
        .file("workflows/long.yaml", LIMITED)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_hold_for_runs_as_for_requests() {
    let steady = |seen: &Seen| Reply::text(&format!("{} answers", seen.body["messages"][0]["content"]));
    // A variable of the workflow.
    let vendor = Vendor::scripted(Dialect::OpenAi, steady).await;
    let house = under_rule(&vendor, "set_var: { tone: kind }").await;
    let id = submit(house.client(), "hi").await;
    let done = until(&house, &id, &["succeeded", "failed"]).await;
    assert!(content(&done).starts_with("\"Be kind.\" answers"), "{done:#}");
    assert_eq!(house.client().post(&format!("/v1/runs/{id}/replay"), &json!({})).await.json()["same"], true);

    // Calls of the whole run.
    let vendor = Vendor::scripted(Dialect::OpenAi, steady).await;
    let house = under_rule(&vendor, "cap_calls: 2").await;
    let id = submit(house.client(), "hi").await;
    until(&house, &id, &["succeeded", "failed"]).await;
    assert_eq!(vendor.count(), 2);

    // Attempts of one call: as many as of a request.
    let body = json!({"model": "workflow/long", "messages": [{"role": "user", "content": "hi"}]});
    let mut counts = Vec::new();
    for actions in ["cap_attempts: 1", "retry: { max_attempts: 3, backoff: 1ms }", "tag: { a: b }"] {
        let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::error(503)).await;
        let house = under_rule(&vendor, actions).await;
        let id = submit(house.client(), "hi").await;
        let done = until(&house, &id, &["succeeded", "failed"]).await;
        assert_eq!(done["status"], "failed", "{done:#}");
        let in_run = vendor.count();
        drop(house);
        let house = under_rule(&vendor, actions).await;
        assert_eq!(house.client().chat(&body).await.status, 503);
        assert_eq!(vendor.count() - in_run, in_run, "{actions}");
        counts.push(in_run);
    }
    assert!(counts.windows(2).all(|w| w[0] != w[1]) && counts[0] == 1, "the rules do something: {counts:?}");
}

const GATED: &str = "\
version: 1
name: long
nodes:
  - { id: ask, type: gate, prompt: \"Send ${ request.messages[-1].content }?\", approvers: [ops] }
  - { id: one, type: generate }
  - { id: answer, type: stream, from: nodes.one.completion }
  - { id: no, type: fail, code: refused, message: '${ nodes.ask.comment ?? \"no\" }' }
edges:
  - { from: ask, to: one, outcome: approved }
  - { from: ask, to: no, outcome: rejected }
  - { from: one, to: answer }
";

/// Gates are decided by the people whom they name, wherever those come in: with a key of the control API, at the
/// server's own machine, with another key of the tenant. Never by who started the run.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_is_decided_by_those_whom_it_names() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("sent")).await;
    let rules = format!("{}approvers: {{ ops: [\"user:dana\", \"user:lee\"] }}\n", crate::NO_CHANCE);
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(&rules)
        .file("workflows/long.yaml", GATED)
        .file(
            "workflows/free.yaml",
            &GATED.replace("name: long", "name: free").replace(", approvers: [ops]", ""),
        )
        .start()
        .await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme"})).await;
    admin.tenant(json!({"id": "other"})).await;
    let key = async |role: &str, tenant: &str, name: &str| {
        let mut spec = json!({"role": role, "name": name});
        if !tenant.is_empty() {
            spec["tenant"] = tenant.into();
        }
        admin.key(spec).await.1
    };
    let own = key("inference", "acme", "lee").await;
    let colleague = key("inference", "acme", "dana").await;
    let (dana, eve) = (key("operator", "", "dana").await, key("operator", "", "eve").await);
    let lee = key("operator", "", "lee").await;
    let (far, viewer) = (key("operator", "other", "dana").await, key("viewer", "", "vic").await);
    let begin = async |workflow: &str, text: &str| {
        let body =
            json!({"workflow": workflow, "request": {"messages": [{"role": "user", "content": text}]}});
        let id =
            send(house.client(), &own, "/v1/runs", &body).await.json()["id"].as_str().unwrap().to_owned();
        for _ in 0..1_200 {
            let run = get(house.client(), &own, &format!("/v1/runs/{id}")).await.json();
            if run["status"] == "suspended" {
                return (id, run["waiting"]["questions"][0]["content_hash"].clone());
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("it does not wait\n{}", house.log());
    };
    let ended = async |id: &str| {
        for _ in 0..1_200 {
            let run = get(house.client(), &own, &format!("/v1/runs/{id}")).await.json();
            if ["succeeded", "failed"].contains(&run["status"].as_str().unwrap()) {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("it does not end\n{}", house.log());
    };
    let standing = async |key: &str| {
        let list = admin.call_as(key, "GET", "/approvals", &Value::Null).await.json();
        list["data"].as_array().unwrap_or_else(|| panic!("{list}")).clone()
    };
    let approve = json!({"decision": "approve"});

    // With a key of the control API.
    let (run, hash) = begin("long", "mail 1").await;
    let seen = standing(&dana).await;
    let gate = seen.first().unwrap_or_else(|| panic!("nothing stands"));
    assert_eq!((&gate["shows"], &gate["phase"]), (&json!("Send mail 1?"), &json!("gate")), "{gate}");
    assert_eq!((&gate["run"]["id"], &gate["run"]["content_hash"]), (&json!(run), &hash), "{gate}");
    assert_eq!(gate["groups"][0]["members"], json!(["user:dana", "user:lee"]), "{gate}");
    assert!(standing(&far).await.is_empty(), "another tenant's is not seen");
    let path = format!("/approvals/{}", gate["id"].as_str().unwrap());
    assert_eq!(admin.call_as(&far, "POST", &path, &approve).await.status, 404);
    let refused = admin.call_as(&eve, "POST", &path, &approve).await.error(403);
    assert!(refused["message"].as_str().unwrap().contains("only members of ops"), "{refused}");
    let refused = admin.call_as(&lee, "POST", &path, &approve).await.error(403);
    assert!(refused["message"].as_str().unwrap().contains("whoever started"), "{refused}");
    assert_eq!(vendor.count(), 0);
    let done = admin.call_as(&dana, "POST", &path, &approve).await;
    assert_eq!((done.status, &done.json()["state"]), (200, &json!("approved")), "{}", done.text());
    assert_eq!(content(&ended(&run).await), "sent");
    assert_eq!(admin.call_as(&dana, "POST", &path, &approve).await.status, 404, "it does not stand any more");

    // At the server's own machine.
    let (run, _) = begin("long", "mail 2").await;
    let shown = house.cli(&["approval", "list"]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let id = shown.split_whitespace().find(|w| w.starts_with("gate_")).unwrap_or_else(|| panic!("{shown}"));
    let said = house.cli(&["approval", "reject", id, "--as", "user:dana", "--comment", "not today"]).await;
    assert!(said.status.success(), "{said:?}");
    let rejected = ended(&run).await;
    assert_eq!(rejected["error"]["message"], "not today", "{rejected:#}");

    // With another key of the tenant.
    let (run, hash) = begin("long", "mail 3").await;
    let body = json!({"decision": "approved", "content_hash": hash});
    let path = format!("/v1/runs/{run}/gates/ask");
    let gate = standing(&dana).await[0]["id"].clone();
    assert_eq!(send(house.client(), &own, &path, &body).await.status, 403);
    assert_eq!(send(house.client(), &colleague, &path, &body).await.status, 202);
    assert_eq!(content(&ended(&run).await), "sent");
    // It stands on the trail as if it had been given to the control API, and so does who may not.
    let lines = admin.call("GET", "/audit?limit=1000", &Value::Null).await.json();
    let of = |wanted: &dyn Fn(&Value) -> bool| -> Vec<Value> {
        lines["data"].as_array().unwrap().iter().filter(|l| wanted(l)).cloned().collect()
    };
    let id = |key: &str| json!(key.strip_prefix("sk-to-").unwrap().split('_').next().unwrap());
    let approved = of(&|l| l["target"] == gate);
    assert_eq!(approved.len(), 1, "{approved:#?}");
    let line = &approved[0];
    assert_eq!(
        (&line["action"], &line["actor"]["id"]),
        (&json!("approval.approve"), &id(&colleague)),
        "{line}"
    );
    assert_eq!((&line["tenant"], &line["detail"]["phase"]), (&json!("acme"), &json!("gate")), "{line}");
    assert!(line["detail"]["as"].as_str().unwrap().contains("user:dana"), "{line}");
    let refused = of(&|l| l["action"] == "request.denied" && l["actor"]["id"] == id(&own));
    assert_eq!(refused.len(), 1, "{refused:#?}");
    assert_eq!(refused[0]["detail"]["code"], "not_allowed", "{refused:#?}");

    // Where nobody is named, whoever may operate the house decides.
    let (run, _) = begin("free", "mail 4").await;
    // Whoever only looks sees that it stands, and not what somebody wrote.
    let seen = standing(&viewer).await;
    assert_eq!((seen.len(), &seen[0]["shows"]), (1, &Value::Null), "{seen:?}");
    assert!(standing(&eve).await[0]["shows"].is_string());
    let path = format!("/approvals/{}", standing(&eve).await[0]["id"].as_str().unwrap());
    assert_eq!(admin.call_as(&viewer, "POST", &path, &approve).await.error(403)["code"], "role_missing");
    assert_eq!(admin.call_as(&eve, "POST", &path, &approve).await.status, 200);
    assert_eq!(content(&ended(&run).await), "sent");
    let trail = house.cli(&["audit", "list", "--json"]).await;
    let trail = String::from_utf8_lossy(&trail.stdout).into_owned();
    assert!(trail.contains("approval.approve") && trail.contains("not today"), "{trail}");
}

/// A run shows what its author says of the workflow, is found by that, and claims to keep no more than it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_shows_what_its_workflow_says_of_itself() {
    const OWN: &str = "version: 1
name: long
revision: third try
labels: { team: blue }
durability: none
nodes: [{ id: ask, type: generate }]
output: nodes.ask.completion
";
    let vendor =
        Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello").slow(Duration::from_millis(500))).await;
    let house = start(&vendor, OWN).await;
    let id = submit(house.client(), "a question").await;
    let at_work = run(house.client(), &id).await;
    assert!(["none", "null"].contains(&at_work["durability"].as_str().unwrap_or("null")), "{at_work}");
    let ended = until(&house, &id, &["succeeded"]).await;
    let own = (&ended["revision"], &ended["labels"], &ended["durability"], &ended["metadata"]);
    assert_eq!(own, (&json!("third try"), &json!({"team": "blue"}), &json!("none"), &json!({})), "{ended}");
    let found = async |label: &str| {
        let list = house.client().get(&format!("/v1/runs?label={label}")).await.json();
        list["data"].as_array().unwrap_or_else(|| panic!("{list}")).len()
    };
    assert_eq!((found("team:blue").await, found("team:red").await), (1, 0));
    let replay = house.client().post(&format!("/v1/runs/{id}/replay"), &json!({})).await;
    assert_eq!(replay.error(409)["code"], "not_recorded", "{}", replay.text());
}

/// Who repeats a run that there is not hears so from the server, not only that the folder is its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_there_is_not_cannot_be_repeated() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = start(&vendor, LONG).await;
    let unknown = house.cli(&["workflow", "replay", "run_nope"]).await;
    let told = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        told.contains("there is no replay of `run_nope`") && told.contains("no run has that identifier"),
        "{told}"
    );
}

/// Two gates that are open at once may be decided one right after the other.
#[tokio::test(flavor = "multi_thread")]
async fn open_gates_are_decided_in_a_row() {
    const BOTH: &str = "version: 1
name: long
vars: { parts: [a, b, c] }
nodes:
  - { id: ask, type: generate }
  - id: each
    type: map
    over: vars.parts
    max_items: 3
    body:
      nodes: [{ id: ok, type: gate, prompt: \"Send ${ item }?\" }]
      result: nodes.ok.outcome
  - { id: answer, type: stream, from: nodes.ask.completion }
edges:
  - { from: ask, to: each }
  - { from: each, to: answer }
";
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = start(&vendor, BOTH).await;
    let id = submit(house.client(), "a question").await;
    let waiting = until(&house, &id, &["suspended"]).await;
    let questions = waiting["waiting"]["questions"].as_array().unwrap().clone();
    assert_eq!(questions.len(), 3, "{waiting:#}");
    for question in &questions {
        let path = format!("/v1/runs/{id}/gates/{}", question["frame"].as_str().unwrap());
        let said = json!({"decision": "approved", "content_hash": question["content_hash"]});
        let answer = house.client().post(&path, &said).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    until(&house, &id, &["succeeded"]).await;
}

/// Each group that a gate names has to agree; one that does not ends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_of_several_groups_needs_them_all() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("sent")).await;
    let groups = "{ ops: [\"user:dana\"], legal: [\"user:kim\"] }";
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(&format!("{}approvers: {groups}\n", crate::NO_CHANCE))
        .file("workflows/long.yaml", &GATED.replace("[ops]", "[ops, legal]"))
        .start()
        .await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme"})).await;
    let key =
        async |name: &str| admin.key(json!({"role": "inference", "tenant": "acme", "name": name})).await.1;
    let (own, dana, kim, eve) = (key("lee").await, key("dana").await, key("kim").await, key("eve").await);
    let state = async |id: &str, want: &str| {
        for _ in 0..1_200 {
            let run = get(house.client(), &own, &format!("/v1/runs/{id}")).await.json();
            if run["status"] == want {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("it is never {want}\n{}", house.log());
    };
    let begin = async |text: &str| {
        let body = json!({"workflow": "long", "request": {"messages": [{"role": "user", "content": text}]}});
        let made = send(house.client(), &own, "/v1/runs", &body).await.json();
        let id = made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        let hash = state(&id, "suspended").await["waiting"]["questions"][0]["content_hash"].clone();
        (id, hash)
    };
    let decide = async |key: &str, (id, hash): &(String, Value), decision: &str| {
        let body = json!({"decision": decision, "content_hash": hash, "comment": decision});
        send(house.client(), key, &format!("/v1/runs/{id}/gates/ask"), &body).await
    };

    let run = begin("mail 1").await;
    assert_eq!(decide(&eve, &run, "approved").await.status, 403);
    let half = decide(&dana, &run, "approved").await;
    assert_eq!((half.status, &half.json()["status"]), (202, &json!("suspended")), "{}", half.text());
    let shown = house.cli(&["approval", "list", "--json"]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("user:dana") && shown.contains("true"), "who has agreed is seen: {shown}");
    assert_eq!(decide(&dana, &run, "approved").await.status, 202, "the same again changes nothing");
    assert_eq!(decide(&dana, &run, "rejected").await.error(409)["code"], "already_answered");
    assert_eq!(vendor.count(), 0, "one group is not enough");
    assert_eq!(decide(&kim, &run, "approved").await.status, 202);
    assert_eq!(content(&state(&run.0, "succeeded").await), "sent");

    let run = begin("mail 2").await;
    assert_eq!(decide(&kim, &run, "rejected").await.status, 202);
    assert_eq!(state(&run.0, "failed").await["error"]["message"], "rejected", "one is enough to end it");

    // The admin API says how it stands.
    let run = begin("mail 3").await;
    let seen = house.cli(&["approval", "list"]).await;
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    let id = seen.split_whitespace().find(|w| w.starts_with("gate_")).unwrap_or_else(|| panic!("{seen}"));
    let said = house.cli(&["approval", "approve", id, "--as", "user:kim", "--json"]).await;
    let said: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    assert_eq!(said["state"], "pending", "{said}");
    let said = house.cli(&["approval", "approve", id, "--as", "user:dana", "--json"]).await;
    let said: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    assert_eq!(said["state"], "approved", "{said}");
    state(&run.0, "succeeded").await;
}

/// A key for chat alone makes no runs, whichever way they are asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_for_runs_makes_none_by_a_header() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("sent")).await;
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
    let admin = Admin::of(&house);
    let body = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let ask = async |endpoints: &[&str], prefer: &str| {
        let (_, key) = admin.key(json!({"scopes": {"endpoints": endpoints}})).await;
        let bearer = format!("Bearer {key}");
        let headers =
            [("authorization", bearer.as_str()), ("content-type", "application/json"), ("prefer", prefer)];
        house.client().send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await
    };
    let refused = ask(&["chat"], "respond-async").await.error(403);
    assert_eq!(
        (&refused["code"], &refused["message"]),
        (&json!("not_allowed"), &json!("the key may not use `runs`"))
    );
    assert_eq!(ask(&["chat"], "return=minimal").await.status, 200);
    assert_eq!(ask(&["chat", "runs"], "respond-async").await.status, 202);
    assert_eq!(ask(&[], "respond-async").await.status, 202);
}

/// Whoever forks the run of another key is asked and bound as if it had begun that run itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_bound_to_what_its_own_key_may_use() {
    let vendor = Vendor::scripted(Dialect::OpenAi, answer).await;
    let deny = "{ reason: \"not for them\", code: outsiders }";
    let rule = format!("  - {{ id: out, when: key.labels.team == \"out\", actions: {{ deny: {deny} }} }}\n");
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .model(&Model::new("lab/two").success(0.5))
        .rules(&format!("{}rules:\n{rule}", crate::NO_CHANCE))
        .settings("retry: { max_attempts: 1 }\n")
        .file("workflows/long.yaml", LONG)
        .start()
        .await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme"})).await;
    let key = async |spec: Value| {
        let mut spec = spec;
        spec["tenant"] = "acme".into();
        admin.key(spec).await.1
    };
    let member = json!({"team": "in"});
    let own = key(json!({"labels": member})).await;
    let narrow = key(json!({"labels": member, "scopes": {"models": ["lab/two"]}})).await;
    let elsewhere = key(json!({"labels": member, "scopes": {"workflows": ["default"]}})).await;
    let out = key(json!({"labels": {"team": "out"}})).await;
    let begin = async |key: &str, path: &str, body: Value| {
        let accepted = send(house.client(), key, path, &body).await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        let id = accepted.json()["id"].as_str().unwrap().to_owned();
        for _ in 0..1_200 {
            let run = get(house.client(), key, &format!("/v1/runs/{id}")).await.json();
            if ["succeeded", "failed"].contains(&run["status"].as_str().unwrap()) {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("it does not end\n{}", house.log());
    };
    let question = json!({"messages": [{"role": "user", "content": "a question"}]});
    let run = begin(&own, "/v1/runs", json!({"workflow": "long", "request": question})).await;
    assert_eq!(content(&run), told("a question"));
    let models = || vendor.seen().iter().map(|s| s.model()).collect::<Vec<_>>();
    assert_eq!(models(), ["one"; 4]);
    let path = |run: &Value| format!("/v1/runs/{}/fork", run["id"].as_str().unwrap());
    let after = json!({"after": "one"});

    // The same key goes on as the run did; another one with the models that it may use.
    assert_eq!(content(&begin(&own, &path(&run), after.clone()).await), told("a question"));
    assert_eq!(models()[4..], ["one"; 3]);
    assert_eq!(content(&begin(&narrow, &path(&run), after.clone()).await), told("a question"));
    assert_eq!(models()[7..], ["two"; 3]);

    // Nobody is asked for whom a rule or a scope forbids it, not even in the fork of a fork.
    for (key, code) in [(&elsewhere, "workflow_not_allowed"), (&out, "outsiders")] {
        let mut from = run.clone();
        for _ in 0..2 {
            from = begin(key, &path(&from), after.clone()).await;
            assert_eq!(from["error"]["code"], code, "{from:#}");
        }
    }
    assert_eq!(vendor.count(), 10);
}

/// A hang for whom it is told so, else an answer.
fn patient(seen: &Seen) -> Reply {
    if seen.last_text() == "hang" { Reply::Hang } else { answer(seen) }
}

/// A house that walks so many runs at once, a key of a tenant with these limits, and one of another tenant.
async fn queueing(vendor: &Vendor, runs: &str, limits: Value) -> (House, String, String) {
    let house = Plan::new()
        .vendor("lab", vendor)
        .model(&Model::new("lab/one"))
        .rules(crate::NO_CHANCE)
        .settings(&format!("runs: {runs}\n"))
        .file("workflows/long.yaml", LONG)
        .start()
        .await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme", "limits": limits})).await;
    admin.tenant(json!({"id": "other"})).await;
    let own = admin.key(json!({"tenant": "acme", "limits": []})).await.1;
    let other = admin.key(json!({"tenant": "other", "limits": []})).await.1;
    (house, own, other)
}

fn wish(question: &str) -> Value {
    json!({"workflow": "long", "request": {"messages": [{"role": "user", "content": question}]}})
}

pub(super) fn path_of(accepted: &Response) -> String {
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    format!("/v1/runs/{}", accepted.json()["id"].as_str().unwrap())
}

/// Waits until a run is shown as wanted.
pub(super) async fn shown(house: &House, key: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1_200 {
        let run = get(house.client(), key, path).await.json();
        if wanted(&run) {
            return run;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{path} is not as wanted\n{}", house.log());
}

/// A run is one request of its key, counted when it is asked for: not when it is walked, and not twice under one
/// `Idempotency-Key`. Forks and resumptions are requests as well.
#[tokio::test(flavor = "multi_thread")]
async fn runs_count_as_requests_when_they_are_asked_for() {
    let vendor = Vendor::scripted(Dialect::OpenAi, patient).await;
    let limits = json!([{"metric": "requests", "amount": 3, "per": "month"}]);
    let (house, key, _) = queueing(&vendor, "{ parallel: 4 }", limits).await;
    let auth = format!("Bearer {key}");
    let headers =
        [("authorization", auth.as_str()), ("content-type", "application/json"), ("idempotency-key", "once")];
    let body = wish("a question").to_string();
    let mut paths = Vec::new();
    for _ in 0..3 {
        paths.push(path_of(&house.client().send("POST", "/v1/runs", &headers, body.as_bytes()).await));
    }
    assert!(paths.windows(2).all(|w| w[0] == w[1]), "{paths:?}");
    let ended = |run: &Value| ["succeeded", "failed"].contains(&run["status"].as_str().unwrap());
    assert_eq!(content(&shown(&house, &key, &paths[0], ended).await), told("a question"));
    let second = path_of(&send(house.client(), &key, "/v1/runs", &wish("another")).await);
    assert_eq!(content(&shown(&house, &key, &second, ended).await), told("another"));
    let fork = format!("{second}/fork");
    // What is refused is not counted.
    assert_eq!(send(house.client(), &key, &fork, &json!({"after": "nowhere"})).await.status, 400);
    assert_eq!(send(house.client(), &key, &format!("{second}/resume"), &json!({})).await.status, 409);
    path_of(&send(house.client(), &key, &fork, &json!({"after": "one"})).await);
    for (path, body) in [(fork.as_str(), json!({"after": "one"})), ("/v1/runs", wish("more"))] {
        let refused = send(house.client(), &key, path, &body).await;
        assert_eq!(refused.error(429)["code"], "rate_limit_exceeded");
        assert!(refused.header("retry-after").is_some());
    }
}

/// Under one `Idempotency-Key` many at once are one request, and asking for a run that is there is none, also when no
/// more are allowed.
#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_asked_for_at_once_under_one_key_count_once() {
    let vendor = Vendor::scripted(Dialect::OpenAi, patient).await;
    let limits = json!([{"metric": "requests", "amount": 2, "per": "month"}]);
    let (house, key, _) = queueing(&vendor, "{ parallel: 4 }", limits).await;
    let ask = |key: String, once: &'static str| {
        let client = house.client();
        async move {
            let auth = format!("Bearer {key}");
            let headers = [
                ("authorization", auth.as_str()),
                ("content-type", "application/json"),
                ("idempotency-key", once),
            ];
            client.send("POST", "/v1/runs", &headers, wish("a question").to_string().as_bytes()).await
        }
    };
    for once in ["first", "second"] {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            tasks.spawn(ask(key.clone(), once));
        }
        let mut paths: Vec<String> = tasks.join_all().await.iter().map(path_of).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 1, "{paths:?}");
    }
    assert_eq!(ask(key, "third").await.error(429)["code"], "rate_limit_exceeded");
}

/// A run for which its key has no place waits outside: it holds no worker up.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_place_waits_outside() {
    let vendor = Vendor::scripted(Dialect::OpenAi, patient).await;
    let limits = json!([{"metric": "concurrency", "amount": 1}]);
    let (house, own, other) = queueing(&vendor, "{ parallel: 2 }", limits).await;
    let hangs = path_of(&send(house.client(), &own, "/v1/runs", &wish("hang")).await);
    assert!(tests::eventually(Duration::from_secs(20), || vendor.count() == 1).await, "{}", house.log());
    let mut waits = Vec::new();
    for question in ["first", "second"] {
        waits.push((path_of(&send(house.client(), &own, "/v1/runs", &wish(question)).await), question));
    }
    for (path, _) in &waits {
        let later = |run: &Value| run["status"] == "queued" && run["wake_ms"].is_i64();
        shown(&house, &own, path, later).await;
    }
    let theirs = path_of(&send(house.client(), &other, "/v1/runs", &wish("theirs")).await);
    let ended = |run: &Value| ["succeeded", "failed"].contains(&run["status"].as_str().unwrap());
    assert_eq!(content(&shown(&house, &other, &theirs, ended).await), told("theirs"));
    assert_eq!(get(house.client(), &own, &hangs).await.json()["status"], "running");
    send(house.client(), &own, &format!("{hangs}/cancel"), &json!({})).await;
    for (path, question) in &waits {
        assert_eq!(content(&shown(&house, &own, path, ended).await), told(question));
    }
}

/// Only so many runs of a tenant wait; another tenant has room of its own.
#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_runs_of_a_tenant_are_queued() {
    let vendor = Vendor::scripted(Dialect::OpenAi, patient).await;
    let (house, own, other) = queueing(&vendor, "{ parallel: 1, queued: 2 }", json!([])).await;
    let hangs = path_of(&send(house.client(), &own, "/v1/runs", &wish("hang")).await);
    assert!(tests::eventually(Duration::from_secs(20), || vendor.count() == 1).await, "{}", house.log());
    let mut waits = Vec::new();
    for question in ["first", "second"] {
        waits.push((path_of(&send(house.client(), &own, "/v1/runs", &wish(question)).await), question));
    }
    let refused = send(house.client(), &own, "/v1/runs", &wish("third")).await;
    assert_eq!(refused.error(429)["code"], "too_many_queued_runs");
    assert_eq!((refused.header("retry-after"), refused.header("x-should-retry")), (Some("5"), Some("true")));
    path_of(&send(house.client(), &other, "/v1/runs", &wish("theirs")).await);
    send(house.client(), &own, &format!("{hangs}/cancel"), &json!({})).await;
    let ended = |run: &Value| ["succeeded", "failed"].contains(&run["status"].as_str().unwrap());
    for (path, question) in &waits {
        assert_eq!(content(&shown(&house, &own, path, ended).await), told(question));
    }
    path_of(&send(house.client(), &own, "/v1/runs", &wish("third")).await);
}

/// Runs of another tenant are listed for keys of the control API that see it, and for nobody else; they may look, and
/// ask for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_runs_of_a_tenant_are_listed_for_who_runs_the_server() {
    let vendor = Vendor::scripted(Dialect::OpenAi, patient).await;
    let (house, own, other) = queueing(&vendor, "{ parallel: 2 }", json!([])).await;
    let admin = Admin::of(&house);
    let key = async |spec: Value| admin.key(spec).await.1;
    let all = key(json!({"role": "viewer"})).await;
    let one = key(json!({"role": "operator", "tenant": "acme"})).await;
    let made = path_of(&send(house.client(), &own, "/v1/runs", &wish("a question")).await);
    let id = made.rsplit('/').next().unwrap();
    let listed = async |key: &str, query: &str| {
        let page = get(house.client(), key, &format!("/v1/runs{query}")).await.json();
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for (key, query) in
        [(&own, ""), (&own, "?tenant=acme"), (&all, "?tenant=acme"), (&one, "?tenant=acme"), (&one, "")]
    {
        assert_eq!(listed(key, query).await, [id], "{query}");
    }
    for (key, query) in
        [(&other, ""), (&all, "?tenant=other"), (&all, "?tenant=acme&workflow=else"), (&all, "")]
    {
        assert!(listed(key, query).await.is_empty(), "{query}");
    }
    for (key, tenant) in [(&own, "other"), (&other, "acme"), (&one, "other"), (&one, "default")] {
        let refused = get(house.client(), key, &format!("/v1/runs?tenant={tenant}")).await.error(403);
        assert_eq!((&refused["code"], &refused["param"]), (&json!("role_missing"), &json!("tenant")));
    }
    assert_eq!(get(house.client(), &all, &made).await.error(403)["code"], "not_allowed");
    assert_eq!(send(house.client(), &all, "/v1/runs", &wish("mine")).await.error(403)["code"], "not_allowed");
}

/// Inputs that the named workflow does not take are told at once, before there is a run.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_inputs_make_no_run() {
    let vendor = Vendor::scripted(Dialect::OpenAi, answer).await;
    let workflow = LONG.replace("nodes:\n", "inputs: { tone: { type: string, required: true } }\nnodes:\n");
    let house = start(&vendor, &workflow).await;
    for (inputs, said) in [
        (json!({}), "`tone` is missing"),
        (json!({"tone": 3}), "tone"),
        (json!({"tone": "dry", "ton": "x"}), "there is no input `ton`"),
    ] {
        let body = json!({"workflow": "long", "inputs": inputs});
        let error = house.client().post("/v1/runs", &body).await.error(400);
        assert_eq!(error["param"], "inputs", "{error}");
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
    }
    let body = json!({"workflow": "long", "inputs": {"tone": "dry"}});
    assert_eq!(house.client().post("/v1/runs", &body).await.status, 202);
}
