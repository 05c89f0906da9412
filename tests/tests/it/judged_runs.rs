//! Rules of the phase `response` hold for runs: nobody has an answer, nor a piece of it, before they have looked at it.

use serde_json::{Value, json};
use tests::admin::Admin;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Seen, Vendor};

const RULES: &str = "\
approvers: { ops: [\"user:dana\"] }
rules:
  - { id: seen, phase: response, actions: { tag: { seen: \"yes\" } } }
  - { id: evil, phase: response, when: 'response.text.contains(\"evil\")', actions: { deny: { reason: no evil, code: evil } } }
  - { id: odd, phase: response, when: 'response.text.contains(\"broken\") && request.metadata.tier == \"x\"', actions: { deny: odd } }
  - { id: held, phase: response, when: 'response.text.contains(\"delicate\")', actions: { require_approval: { group: ops, reason: look first } } }
  - { id: better, phase: response, when: 'request.user == \"elsewhere\"', actions: { escalate: { to: lab/one } } }
";

/// Says what it was asked to say.
fn echo(seen: &Seen) -> Reply {
    Reply::text(&format!("so be it: {}", seen.last_text()))
}

async fn house(vendor: &Vendor) -> House {
    let plan = Plan::new().vendor("lab", vendor).model(&Model::new("lab/one"));
    plan.rules(&format!("{}{RULES}", crate::NO_CHANCE)).start().await
}

/// A run that is asked to say something; its path.
async fn submit(house: &House, text: &str) -> String {
    let request = json!({"model": "auto", "messages": [{"role": "user", "content": text}]});
    let taken = house.client().post("/v1/runs", &json!({"request": request})).await;
    assert_eq!(taken.status, 202, "{}", taken.text());
    format!("/v1/runs/{}", taken.json()["id"].as_str().unwrap())
}

/// All that the client of a run can look at, but for what it has asked itself.
async fn shown(house: &House, path: &str) -> String {
    let mut all = house.client().get(path).await.text();
    let trace = house.client().get(&format!("{path}/trace")).await.json();
    for part in ["nodes", "edges", "history", "run"] {
        all.push_str(&trace[part].to_string());
    }
    all.push_str(&house.client().post(&format!("{path}/replay"), &json!({})).await.text());
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_answer_a_rule_refuses_fails_and_shows_none_of_it() {
    let vendor = Vendor::scripted(Dialect::OpenAi, echo).await;
    let house = house(&vendor).await;
    let good = submit(&house, "fine").await;
    let run = house.run_in(&good, "succeeded").await;
    assert_eq!(run["result"]["choices"][0]["message"]["content"], "so be it: fine");
    let record = house.decision(good.trim_start_matches("/v1/runs/")).await;
    assert_eq!(record["decision"]["tags"]["seen"], "yes", "{record:#}");
    for (text, code, status) in [("evil", "evil", "denied"), ("broken", "evaluation_failed", "failed")] {
        let path = submit(&house, text).await;
        let run = house.run_in(&path, "failed").await;
        assert_eq!(run["error"]["code"], code, "{run:#}");
        let all = shown(&house, &path).await;
        assert!(!all.contains("so be it"), "{text}: {all}");
        // That it repeats its journal is told, its answer is not.
        assert!(all.contains("\"same\":true"), "{all}");
        let events = house.client().get(&format!("{path}/events")).await.text();
        assert!(events.contains("call_result") && !events.contains("so be it"), "{events}");
        let record = house.decision(path.trim_start_matches("/v1/runs/")).await;
        assert_eq!(record["outcome"]["status"], status, "{record:#}");
        let rules = record["decision"]["rules"].to_string();
        assert!(rules.contains(if text == "evil" { "\"evil\"" } else { "no member `tier`" }), "{rules}");
    }
    // What a run cannot be held to, it is refused for.
    let mut request = json!({"model": "auto", "user": "elsewhere"});
    request["messages"] = json!([{"role": "user", "content": "fine"}]);
    let taken = house.client().post("/v1/runs", &json!({"request": request})).await;
    let path = format!("/v1/runs/{}", taken.json()["id"].as_str().unwrap());
    let run = house.run_in(&path, "failed").await;
    assert_eq!(run["error"]["code"], "not_in_runs", "{run:#}");
    assert!(run["error"]["message"].as_str().unwrap().contains("(escalate)"), "{run:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_people_have_to_see_waits_for_them_in_the_run() {
    let vendor = Vendor::scripted(Dialect::OpenAi, echo).await;
    let mut house = house(&vendor).await;
    let (yes, no) = (submit(&house, "delicate one").await, submit(&house, "delicate two").await);
    for path in [&yes, &no] {
        let run = house.run_in(path, "suspended").await;
        assert_eq!(run["waiting"]["questions"][0]["frame"], "response", "{run:#}");
        let all = shown(&house, path).await;
        assert!(!all.contains("so be it"), "{all}");
    }
    // Nothing is asked or called once more after a crash.
    house.kill().await;
    house.restart().await;
    let admin = Admin::of(&house);
    for (path, text, decision) in [(&yes, "delicate one", "approve"), (&no, "delicate two", "reject")] {
        let list = admin.call("GET", "/approvals", &Value::Null).await.json();
        let of_run = |q: &&Value| path.ends_with(q["run"]["id"].as_str().unwrap_or("-"));
        let asked =
            list["data"].as_array().unwrap().iter().find(of_run).unwrap_or_else(|| panic!("{list:#}"));
        assert_eq!(
            (&asked["phase"], &asked["shows"]),
            (&json!("response"), &json!(format!("so be it: {text}")))
        );
        let path = format!("/approvals/{}", asked["id"].as_str().unwrap());
        let said = admin.call("POST", &path, &json!({"decision": decision, "as": "user:dana"})).await;
        assert_eq!(said.status, 200, "{}", said.text());
    }
    let run = house.run_in(&yes, "succeeded").await;
    assert_eq!(run["result"]["choices"][0]["message"]["content"], "so be it: delicate one");
    let run = house.run_in(&no, "failed").await;
    assert_eq!(run["error"]["code"], "approval_rejected", "{run:#}");
    assert!(!shown(&house, &no).await.contains("so be it"));
    assert_eq!(vendor.count(), 2);
}
