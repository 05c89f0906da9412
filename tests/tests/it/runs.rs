//! Durable runs: what a kill leaves of them, what repeats from their journals, and under which plan they go on.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
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
    // The command line says the same.
    house.folder().write("edited/long.yaml", &LONG.replace("0.3", "0.5"));
    let edited = house.folder().path().join("edited/long.yaml");
    let shown = house.cli(&["workflow", "replay", &id, "--workflow", edited.to_str().unwrap()]).await;
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.status.code(), Some(2), "{text}");
    assert!(text.contains("call_intent three#0.1:model") && text.contains("would call three#0.1"), "{text}");
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
        for _ in 0..400 {
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
    // Only what was still to come is different: it goes on, and nobody is asked again who has answered.
    vendor.otherwise(answer);
    taken_up(&LONG.replace("type: merge,", "type: merge, separator: ' + ',")).await;
    let accepted = resume(&house, &id).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let done = until(&house, &id, &["succeeded", "failed"]).await;
    assert_eq!(content(&done), told("a question").replace("\n\n", " + "), "{done:#}");
    assert_eq!((count("0.1"), count("0.2"), count("0.3")), (1, 1, 2));
}
