//! Rules of the phase `response` hold for runs: nobody has an answer, nor a piece of it, before they have looked at it.

use serde_json::{Value, json};
use std::time::Duration;
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

/// Lines of the audit trail on something, once there are so many.
async fn lines_of(house: &House, action: &str, least: usize) -> Vec<Value> {
    for _ in 0..1_000 {
        let trail = Admin::of(house).call("GET", "/audit?limit=1000", &Value::Null).await.json();
        let lines = trail["data"].as_array().unwrap().iter().filter(|l| l["action"] == action);
        let lines: Vec<Value> = lines.cloned().collect();
        if lines.len() >= least {
            return lines;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no {least} lines of {action}");
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
    let lines = lines_of(&house, "request.gated", 2).await;
    assert_eq!(
        (&lines[0]["detail"]["rules"], &lines[0]["detail"]["phase"]),
        (&json!("held"), &json!("response"))
    );
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
    let denied = lines_of(&house, "request.denied", 1).await;
    assert_eq!(denied[0]["detail"]["code"], "approval_rejected", "{denied:#?}");
    assert_eq!(lines_of(&house, "request.gated", 2).await.len(), 2);
    assert!(!shown(&house, &no).await.contains("so be it"));
    assert_eq!(vendor.count(), 2);
}

/// What rules say of what may be seen and kept of an answer.
const CAREFUL: &str = "\
rules:
  - { id: mask, phase: response, when: 'request.user == \"masked\"', actions: { redact: { entities: [email], action: mask, in: [output] } } }
  - { id: dark, phase: response, when: 'request.user == \"dark\"', actions: { redact: { entities: [email], action: mask }, log: { content: none } } }
  - { id: brief, phase: response, when: 'request.user == \"brief\"', actions: { log: { retention: 2s } } }
  - { id: named, phase: response, actions: { header: { x-checked: \"yes\" } } }
";

/// As [`submit`], for somebody.
async fn submit_of(house: &House, user: &str) -> String {
    let text = format!("write to {ADDRESS}");
    let request = json!({"model": "auto", "user": user, "messages": [{"role": "user", "content": text}]});
    let taken = house.client().post("/v1/runs", &json!({"request": request})).await;
    assert_eq!(taken.status, 202, "{}", taken.text());
    format!("/v1/runs/{}", taken.json()["id"].as_str().unwrap())
}

const ADDRESS: &str = "ada.of.the.marked@analytical.co.uk";

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_a_run_is_masked_and_has_the_headers_that_rules_add() {
    let vendor = Vendor::scripted(Dialect::OpenAi, echo).await;
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one"));
    let house = plan.rules(&format!("{}{CAREFUL}", crate::NO_CHANCE)).start().await;
    let path = submit_of(&house, "masked").await;
    let run = house.run_in(&path, "succeeded").await;
    assert_eq!(run["result"]["choices"][0]["message"]["content"], "so be it: write to [EMAIL_1]", "{run:#}");
    assert_eq!(house.client().get(&path).await.header("x-checked"), Some("yes"));
    let events = house.client().get(&format!("{path}/events")).await.text();
    assert!(events.contains("[EMAIL_1]") && !events.contains("so be it: write to ada"), "{events}");
    let replay = house.client().post(&format!("{path}/replay"), &json!({})).await;
    assert_eq!(replay.json()["same"], true, "{}", replay.text());
    let record = house.decision(path.trim_start_matches("/v1/runs/")).await;
    assert_eq!(record["decision"]["tags"]["redacted_email"], "1", "{record:#}");
    assert_eq!(record["outcome"]["redacted"], json!({"email": 1}), "{record:#}");
    let metrics = house.client().get("/metrics").await.text();
    assert!(metrics.contains("turnout_policy_redactions_total{entity=\"email\"} 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_its_end_is_kept_of_a_run_that_may_not_be_recorded() {
    let vendor = Vendor::scripted(Dialect::OpenAi, echo).await;
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one"));
    let mut house = plan.rules(&format!("{}{CAREFUL}", crate::NO_CHANCE)).start().await;
    let path = submit_of(&house, "dark").await;
    let run = house.run_in(&path, "succeeded").await;
    assert_eq!(run["result"]["choices"][0]["message"]["content"], "so be it: write to [EMAIL_1]", "{run:#}");
    let trace = house.client().get(&format!("{path}/trace")).await.json();
    assert_eq!((&trace["nodes"], &trace["request"]), (&json!([]), &Value::Null), "{trace:#}");
    for (verb, body) in [("replay", json!({})), ("resume", json!({})), ("fork", json!({"after": "ask"}))] {
        let refused = house.client().post(&format!("{path}/{verb}"), &body).await;
        assert_eq!(refused.error(409)["code"], "not_recorded", "{}", refused.text());
    }
    house.stop().await;
    for (name, bytes) in tests::admin::files(&house.folder().path().join("data")) {
        assert!(!bytes.windows(13).any(|w| w == b"of.the.marked"), "an address stands in {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_forgotten_with_its_record() {
    let vendor = Vendor::scripted(Dialect::OpenAi, echo).await;
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one"));
    let house = plan.rules(&format!("{}{CAREFUL}", crate::NO_CHANCE)).start().await;
    let path = submit_of(&house, "brief").await;
    let gone = || async { house.client().get(&path).await.status == 404 };
    let ended = std::time::Instant::now();
    while !gone().await {
        assert!(ended.elapsed() < Duration::from_secs(90), "it is still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let id = path.trim_start_matches("/v1/runs/");
    let erased = house.client().get(&format!("/v1/decisions/{id}")).await;
    assert_eq!(erased.error(410)["code"], "record_erased", "{}", erased.text());
}
