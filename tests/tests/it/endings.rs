//! What a run that does not come to its usual end gives the client, and what it leaves on record.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::time::Duration;
use tests::client::Response;
use tests::house::{House, Model, Plan};
use tests::service::Service;
use tests::vendor::{Dialect, Gate, Reply, Seen, Vendor};

/// By the temperature of its call: a plan, nothing at all, a refusal, or each time another answer.
fn says(seen: &Seen) -> Reply {
    let temperature = seen.body["temperature"].to_string();
    match temperature.as_str() {
        "0.1" => Reply::text("an internal plan"),
        "0.2" => Reply::Hang,
        "0.3" => Reply::error(400),
        _ => Reply::text("an answer"),
    }
}

fn plan(vendor: &Vendor) -> Plan {
    Plan::new().vendor("lab", vendor).model(&Model::new("lab/one")).rules(NO_CHANCE)
}

fn file(plan: Plan, name: &str, text: &str) -> Plan {
    plan.file(&format!("workflows/{name}.yaml"), &format!("version: 1\nname: {name}\n{text}"))
}

async fn ask(house: &House, workflow: &str) -> Response {
    let messages = json!([{"role": "user", "content": "hi"}]);
    let body =
        json!({"model": format!("workflow/{workflow}"), "messages": messages, "routing": {"explain": true}});
    house.client().chat(&body).await
}

const SLOW: &str = "nodes:
  - { id: plan, type: generate, params: { temperature: 0.1 } }
  - { id: ask, type: generate, params: { temperature: 0.2 }, needs: plan, timeout: 300ms }
  - { id: answer, type: stream, from: nodes.ask.completion, needs: ask }
";

/// What a node made for others is no answer because another node was slow.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_takes_too_long_has_failed_and_the_run_has_not_used_up_its_time() {
    let vendor = Vendor::scripted(Dialect::OpenAi, says).await;
    let service = Service::start(|_| (200, "\"late\"".to_owned(), Duration::from_secs(20))).await;
    let looked = SLOW
        .replace("type: generate, params: { temperature: 0.2 }", "type: tool, tool: look")
        .replace("nodes.ask.completion", "nodes.ask.text");
    let rules = format!(
        "{NO_CHANCE}tools:\n  look:\n    description: Looks.\n    url: {}/look\n    input_schema: {{ type: object }}\n    \
         side_effect: none\n",
        service.origin()
    );
    let house = plan(&vendor)
        .settings("tools: { allow_hosts: [127.0.0.1], allow_http: true, allow_private: true }\n")
        .rules(&rules);
    let house = file(house, "slow", SLOW);
    let house = file(house, "looked", &looked);
    let house = file(house, "hurried", &format!("limits: {{ wall: 4s }}\n{}", SLOW.replace("300ms", "60s")));
    let house = file(house, "carved", &SLOW.replace("timeout: 300ms", "budget: { wall: 300ms }"));
    let house = house.start().await;
    for workflow in ["slow", "looked"] {
        let answer = ask(&house, workflow).await;
        assert_eq!(answer.status, 504, "{workflow}: {}", answer.text());
        assert!(!answer.text().contains("internal plan\""), "{workflow}: {}", answer.text());
    }
    // The run's own time, and an amount of it that a node is given, are limits.
    for workflow in ["hurried", "carved"] {
        let answer = ask(&house, workflow).await;
        assert_eq!(
            (answer.status, answer.content().as_str()),
            (200, "an internal plan"),
            "{}",
            answer.text()
        );
        let run = &answer.json()["turnout"]["run"];
        assert_eq!(
            (&run["exhausted"], &run["verdict"]),
            (&json!("wall"), &json!("unverified")),
            "{workflow}"
        );
    }
}

const STRANDS: &str = "nodes:
  - { id: ask, type: generate, params: { temperature: 0.1 } }
  - { id: check, type: validate, validators: [json], needs: ask, lint: { allow: [WF332] } }
  - { id: answer, type: stream, from: nodes.check.best, needs: [{ node: check, outcome: passed }] }
";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_happen_on_failure_happens_where_nothing_answered_too() {
    let vendor = Vendor::scripted(Dialect::OpenAi, says).await;
    let house = file(plan(&vendor), "strands", &format!("on_failure: {{ fallback: default }}\n{STRANDS}"));
    let refused = SLOW.replace("0.2", "0.3");
    let house = file(house, "best", &format!("on_failure: {{ respond: best_so_far }}\n{refused}"));
    let house = house.start().await;
    let answer = ask(&house, "strands").await;
    assert_eq!((answer.status, answer.content().as_str()), (200, "an answer"), "{}", answer.text());
    let answer = ask(&house, "best").await;
    assert_eq!((answer.status, answer.content().as_str()), (200, "an internal plan"), "{}", answer.text());
    assert_eq!(answer.json()["turnout"]["run"]["verdict"], "unverified", "it has not come to its end");
}

const VOTED: &str = "nodes:
  - { id: ask, type: generate, samples: 3 }
  - { id: vote, type: select, from: [nodes.ask.completions], method: vote, WHEN needs: ask }
  - { id: answer, type: stream, from: nodes.vote.completion, needs: vote }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_without_a_majority_says_so() {
    let count = std::sync::atomic::AtomicU32::new(0);
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| {
        let nth = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Reply::text(&format!("answer {nth}"))
    })
    .await;
    let house = file(plan(&vendor), "fails", &VOTED.replace("WHEN", "when_none: fail,"));
    let house = file(house, "passes", &VOTED.replace("WHEN", "")).start().await;
    for workflow in ["fails", "passes"] {
        let answer = ask(&house, workflow).await;
        assert_eq!(answer.status, 422, "{workflow}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "no_consensus", "{workflow}: {}", answer.text());
    }
}

/// With a tool that must not be called twice.
fn sending(vendor: &Vendor, service: &Service) -> Plan {
    let rules = format!(
        "{NO_CHANCE}tools:\n  send:\n    description: Sends.\n    url: {}/send\n    input_schema: {{ type: object }}\n    \
         side_effect: unsafe\n    timeout: 30s\n",
        service.origin()
    );
    plan(vendor)
        .settings("tools: { allow_hosts: [127.0.0.1], allow_http: true, allow_private: true }\n")
        .rules(&rules)
}

const UNDER_WAY: &str = "nodes:
  - { id: ask, type: generate }
  - { id: mail, type: tool, tool: send }
  - id: mails
    type: map
    over: \"[1]\"
    max_items: 1
    body:
      nodes: [{ id: one, type: tool, tool: send }]
      edges: []
      result: nodes.one.text
  - { id: pick, type: select, from: [nodes.ask.completions], join: any, needs: [ask, mail, mails] }
  - { id: answer, type: stream, from: nodes.pick.completion, needs: pick }
";

/// What is still at work when the answer goes out stands on record, a call that nobody may take back above all.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_when_the_answer_goes_out_is_on_record() {
    // The answer comes once both calls of the tool are under way.
    let gate = Gate::default();
    let held = Reply::text("an answer").held(&gate);
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| held.clone()).await;
    let service = Service::start(|_| (200, "\"sent\"".to_owned(), Duration::from_secs(20))).await;
    let house = file(sending(&vendor, &service), "busy", UNDER_WAY).start().await;
    let under_way = async {
        let both = || service.count("/send") == 2;
        assert!(tests::eventually(Duration::from_secs(20), both).await, "{}", house.log());
        gate.open();
    };
    let (answer, ()) = tokio::join!(ask(&house, "busy"), under_way);
    assert_eq!((answer.status, answer.content().as_str()), (200, "an answer"), "{}", answer.text());
    let record = house.decision(&answer.request_id()).await;
    let steps = steps(&record);
    for node in ["mail", "mails[0]/one"] {
        let step =
            steps.iter().find(|s| s["node"] == node).unwrap_or_else(|| panic!("no {node}: {record:#}"));
        assert_eq!(step["outcome"], "cancelled");
        assert!(step["note"].to_string().contains("goes on to its end"), "{step}");
    }
    assert!(steps.iter().any(|s| s["node"] == "mails"), "{record:#}");
}

const SENDS_THREE: &str = "nodes:
  - { id: ask, type: generate }
  - id: mails
    type: map
    over: \"[1, 2, 3]\"
    max_items: 3
    parallel: 1
    body: { nodes: [{ id: one, type: tool, tool: send }], result: nodes.one.text }
  - { id: pick, type: select, from: [nodes.ask.completions], join: any, needs: [ask, mails] }
  - { id: ok, type: gate, prompt: \"Go on?\", needs: pick }
  - { id: answer, type: stream, from: nodes.pick.completion, needs: ok }
";

/// Calls that change the world are begun for themselves: that nothing reads what they give stops them as little within
/// a `map` as it stops a node.
#[tokio::test(flavor = "multi_thread")]
async fn a_map_of_unsafe_calls_is_not_left_in_the_middle() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("an answer")).await;
    let service = Service::start(|_| (200, "\"sent\"".to_owned(), Duration::from_millis(300))).await;
    let house = file(sending(&vendor, &service), "mailing", SENDS_THREE).start().await;
    let wish = json!({"workflow": "mailing", "request": {"messages": [{"role": "user", "content": "hi"}]}});
    let made = house.client().post("/v1/runs", &wish).await.json();
    let path = format!("/v1/runs/{}", made["id"].as_str().unwrap());
    // A run waits for people once nothing else of it is at work.
    house.run_in(&path, "suspended").await;
    assert_eq!(service.count("/send"), 3);
    let trace = house.client().get(&format!("{path}/trace")).await.text();
    for node in ["mails[0]/one", "mails[1]/one", "mails[2]/one"] {
        assert!(trace.contains(node), "{node}: {trace}");
    }
}

const FAILS_WITHIN: &str = "nodes:
  - id: each
    type: map
    over: \"[1, 2]\"
    max_items: 2
    parallel: 1
    body:
      nodes:
        - { id: plan, type: generate, params: { temperature: 0.1 } }
        - { id: ask, type: generate, params: { temperature: 0.3 }, needs: plan }
      result: nodes.ask.completion
  - { id: all, type: merge, from: [nodes.each.results], needs: each }
  - { id: no, type: fail, code: no, message: '${ json(nodes.each.error) }', needs: [{ node: each, outcome: error }] }
  - { id: answer, type: stream, from: nodes.all.completion, needs: all }
";

const SOME_FAIL: &str = "nodes:
  - { id: ask, type: generate, samples: 4, params: { temperature: 0.4 } }
  - { id: say, type: merge, method: template, from: [nodes.ask.completion], template: '${ json(nodes.ask.failed) }', needs: ask }
output: nodes.say.completion
";

/// An error tells where it happened: within a body the node of the body, and how many calls that one had made.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_tells_where_within_a_node_it_happened() {
    let samples = std::sync::atomic::AtomicU32::new(0);
    let vendor = Vendor::scripted(Dialect::OpenAi, move |seen| {
        let nth = || samples.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if seen.body["temperature"] == 0.4 && nth() > 0 { Reply::error(400) } else { says(seen) }
    })
    .await;
    let house = file(plan(&vendor), "within", FAILS_WITHIN);
    let house = file(house, "some", SOME_FAIL).start().await;
    let answer = ask(&house, "within").await;
    let told: Value = serde_json::from_str(answer.error(422)["message"].as_str().unwrap()).unwrap();
    let place = (&told["node"], &told["frame"], &told["attempt"]);
    assert_eq!(place, (&json!("ask"), &json!("each[0]/ask"), &json!(1)), "{told}");
    let answer = ask(&house, "some").await;
    let failed: Value = serde_json::from_str(&answer.content()).unwrap();
    let places: Vec<_> = failed.as_array().unwrap().iter().map(|f| (&f["frame"], &f["attempt"])).collect();
    assert_eq!(places, [(&json!("ask"), &json!(1)); 3], "each sample made one call: {failed}");
}

/// The steps of a record, wherever it keeps its run.
fn steps(record: &Value) -> Vec<Value> {
    let run = record.pointer("/outcome/run").or_else(|| record.get("run"));
    run.and_then(|r| r["steps"].as_array()).cloned().unwrap_or_default()
}
