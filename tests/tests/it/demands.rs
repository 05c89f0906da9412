//! What policies are told of a request, and what they demand of its record.

use serde_json::{Value, json};
use std::time::Duration;
use tests::client::{End, Response};
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Reply, Vendor};

fn plan(vendor: &Vendor, rules: &str) -> Plan {
    Plan::new()
        .vendor("lab", vendor)
        .model(&Model::new("lab/one"))
        .rules(&format!("{}rules:\n{rules}", crate::NO_CHANCE))
}

fn ask(user: &str) -> Value {
    json!({"model": "auto", "user": user, "messages": [{"role": "user", "content": "hello"}]})
}

async fn with(house: &House, header: (&str, &str)) -> Response {
    let headers = [("content-type", "application/json"), header];
    house.client().send("POST", "/v1/chat/completions", &headers, ask("u").to_string().as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_read_the_headers_that_the_server_names_and_no_others() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let rules = "  - id: not_them\n    when: request.headers.get(\"x-team\") == \"b\"\n    actions: { deny: { reason: not them, code: wrong_team } }\n  \
                 - id: nothing_else\n    when: '\"x-secret-sauce\" in request.headers || \"authorization\" in request.headers'\n    \
                 actions: { deny: { reason: never, code: told_too_much } }\n";
    let house = plan(&vendor, rules).settings("policies: { headers: [X-Team] }\n").start().await;
    assert_eq!(with(&house, ("x-team", "b")).await.error(403)["code"], "wrong_team");
    assert_eq!(with(&house, ("x-team", "a")).await.status, 200);
    assert_eq!(with(&house, ("x-secret-sauce", "b")).await.status, 200);
    assert_eq!(with(&house, ("accept", "*/*")).await.status, 200, "a header that is not sent is no error");

    // Without the setting there are none.
    let house = plan(&vendor, rules).start().await;
    assert_eq!(with(&house, ("x-team", "b")).await.status, 200);
}

/// A rule that is left out because it cannot be evaluated is missed by nobody but those who read the log and the metrics.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_cannot_be_evaluated_is_logged_and_counted() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let broken = "when: 'request.metadata.tier == \"gold\"'";
    let rules = format!(
        "  - {{ id: soft, {broken}, actions: {{ tag: {{ a: b }} }} }}\n  \
         - {{ id: late, phase: response, {broken}, actions: {{ tag: {{ a: b }} }} }}\n"
    );
    let house = plan(&vendor, &rules).start().await;
    for _ in 0..2 {
        assert_eq!(with(&house, ("accept", "*/*")).await.status, 200);
    }
    let metrics = house.client().get("/metrics").await.text();
    for rule in ["soft", "late"] {
        let counted = format!("turnout_policy_errors_total{{rule=\"{rule}\"}} 2");
        assert!(metrics.contains(&counted), "{metrics}");
        let log = house.log();
        let told = |l: &&str| l.contains("could not be evaluated; it is left out") && l.contains(rule);
        assert_eq!(log.lines().filter(told).count(), 2, "{log}");
    }
    let closed = format!("  - {{ id: hard, {broken}, actions: {{ cap_cost: 1 }} }}\n");
    let house = plan(&vendor, &closed).start().await;
    assert_eq!(with(&house, ("accept", "*/*")).await.error(500)["code"], "evaluation_failed");
    let metrics = house.client().get("/metrics").await.text();
    assert!(metrics.contains("turnout_policy_errors_total{rule=\"hard\"} 1"), "{metrics}");
}

/// What a rule that cannot be evaluated leaves behind of the requests that it fails: what each rule said, in the record and
/// for people, and a line of the trail. Of rules whose ceiling leaves no model there is a line as well.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_rule_fails_is_explained_and_on_the_trail() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| match seen.body.get("tools") {
        Some(_) => Reply::Answer(Answer::call("call_1", "pay", "{}")),
        None => Reply::text("hello, write to ada@analytical.co.uk"),
    })
    .await;
    let of = |user: &str| format!("request.user == \"{user}\" && request.metadata.tier == \"gold\"");
    let rules = format!(
        "  - {{ id: first, actions: {{ tag: {{ a: b }} }} }}\n  \
         - {{ id: other, when: request.stream, actions: {{ tag: {{ c: d }} }} }}\n  \
         - {{ id: early, when: '{}', actions: {{ cap_cost: 1 }} }}\n  \
         - {{ id: after, actions: {{ tag: {{ e: f }} }} }}\n  \
         - {{ id: calls, phase: tool, when: '{}', actions: {{ deny: no }} }}\n  \
         - {{ id: late, phase: response, when: '{}', actions: {{ deny: no }} }}\n  \
         - {{ id: dear, when: 'request.user == \"cheap\"', actions: {{ cap_cost: 0.000000001 }} }}\n  \
         - {{ id: no_cards, when: 'request.user == \"4111 1111 1111 1111\"', actions: {{ redact: {{ entities: [card], in: [input], action: block }} }} }}\n  \
         - {{ id: no_mail, when: 'request.user == \"o\"', actions: {{ redact: {{ entities: [email], in: [output], action: block }} }} }}\n  \
         - {{ id: no_pay, when: 'request.user == \"p\"', actions: {{ deny_tools: [pay] }} }}\n  \
         - {{ id: in_form, when: 'request.user == \"f\"', actions: {{ enforce_format: json_schema }} }}\n  \
         - {{ id: not_so, phase: response, when: 'request.user == \"d\"', actions: {{ deny: no }} }}\n  \
         - {{ id: no_calls, phase: tool, when: 'request.user == \"c\"', actions: {{ deny_tools: [pay] }} }}\n",
        of("r"),
        of("t"),
        of("a"),
    );
    let house = plan(&vendor, &rules).start().await;
    let tools = json!([{"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}]);
    let mut known = Vec::new();
    for (user, status, code, rule, said) in [
        ("r", 500, "evaluation_failed", "early", json!(["matched", "not_matched", "error"])),
        ("t", 500, "evaluation_failed", "calls", json!(["error"])),
        ("a", 500, "evaluation_failed", "late", json!(["error"])),
        ("cheap", 403, "no_candidates", "dear", json!([])),
        ("4111 1111 1111 1111", 403, "pii", "no_cards", json!([])),
        ("o", 403, "pii", "no_mail", json!([])),
        ("p", 403, "tool_denied", "no_pay", json!([])),
        ("f", 403, "conflict", "in_form", json!([])),
        ("d", 403, "denied", "not_so", json!([])),
        ("c", 403, "tool_denied", "no_calls", json!([])),
    ] {
        let mut body = ask(user);
        if ["t", "p", "c"].contains(&user) {
            body["tools"] = tools.clone();
        }
        if user == "p" {
            body["tool_choice"] = json!("required");
        }
        let refused = house.client().chat(&body).await;
        assert_eq!(refused.error(status)["code"], code, "{user}: {}", refused.text());
        let record = house.decision(&refused.request_id()).await;
        let told: Vec<&Value> = record["decision"]["rules"].as_array().unwrap().iter().collect();
        let results: Vec<&Value> = told.iter().map(|r| &r["result"]).collect();
        let said = said.as_array().unwrap();
        let last = results.len().saturating_sub(said.len());
        assert_eq!(results[last..], said.iter().collect::<Vec<_>>(), "{user}: {told:?}");
        if status == 500 {
            let failed = told.last().unwrap();
            assert_eq!(failed["id"], rule);
            assert!(failed["detail"].as_str().unwrap().contains("no member `tier`"), "{failed}");
            let explained = house.cli(&["explain", &refused.request_id()]).await.stdout;
            let explained = String::from_utf8_lossy(&explained);
            assert!(explained.contains("no member `tier`"), "{explained}");
        } else if user != "cheap" {
            let denials = &record["decision"]["denials"];
            assert_eq!((&denials[0]["rule"], &denials[0]["code"]), (&json!(rule), &json!(code)), "{user}");
            let explained = house.cli(&["explain", &refused.request_id()]).await.stdout;
            let explained = String::from_utf8_lossy(&explained);
            assert!(explained.contains(&format!("denied   by {rule}: ")), "{explained}");
        }
        known.push((refused.request_id(), code, rule));
    }
    let metrics = house.client().get("/metrics").await.text();
    for (_, code, rule) in &known {
        let counted = format!("turnout_policy_refusals_total{{rule=\"{rule}\"}} 1");
        assert_eq!(metrics.contains(&counted), *code != "evaluation_failed", "{rule}: {metrics}");
    }
    // A line is written beside the answer, not before it.
    let mut trail = Value::Null;
    for _ in 0..400 {
        trail = serde_json::from_slice(&house.cli(&["audit", "list", "--json"]).await.stdout).unwrap();
        if trail["data"].as_array().unwrap().iter().filter(|l| l["action"] == "request.denied").count()
            == known.len()
        {
            break;
        }
    }
    for (id, code, rule) in known {
        let line = trail["data"].as_array().unwrap().iter().find(|l| l["target"] == *id);
        let line = line.unwrap_or_else(|| panic!("{rule}: {trail:#}"));
        assert_eq!(line["detail"]["code"], code, "{line}");
        let named: Vec<&str> = line["detail"]["rules"].as_str().unwrap().split(", ").collect();
        assert!(named.contains(&rule) && (code == "no_candidates" || named.len() == 1), "{line}");
    }
}

const AUDITED: &str =
    "  - id: on_record\n    when: request.user == \"bank\"\n    actions: { audit: required }\n";

/// The disk refuses from the first record on: the folder that records go to is somewhere else for a while.
#[tokio::test(flavor = "multi_thread")]
async fn t09_a_request_that_must_be_on_record_fails_while_the_disk_refuses_and_others_do_not() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = plan(&vendor, AUDITED).start().await;
    let (data, away) = (house.folder().path().join("data"), house.folder().path().join("away"));
    std::fs::rename(&data, &away).unwrap();

    // The first finds out at its end: the answer does not leave.
    let refused = house.client().chat(&ask("bank")).await;
    let error = refused.error(500);
    assert_eq!(error["code"], "unrecorded", "{error}");
    assert!(error["message"].as_str().unwrap().contains("on_record"), "{error}");
    assert!(!refused.text().contains("hello"));
    assert_eq!(vendor.count(), 1);
    // From then on nobody is even asked, streamed or not.
    assert_eq!(house.client().chat(&ask("bank")).await.error(500)["code"], "unrecorded");
    let mut streamed = ask("bank");
    streamed["stream"] = json!(true);
    assert_eq!(house.client().chat(&streamed).await.error(500)["code"], "unrecorded");
    assert_eq!(vendor.count(), 1);
    // Who needs no record is served.
    let served = house.client().chat(&ask("shop")).await;
    assert_eq!((served.status, served.content().as_str()), (200, "hello"), "{}", served.text());

    // The disk takes records again: those that waited first, and audited requests are served.
    std::fs::rename(&away, &data).unwrap();
    let mut last = None;
    for _ in 0..1_200 {
        let answer = house.client().chat(&ask("bank")).await;
        if answer.status == 200 {
            last = Some(answer.request_id());
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let last = last.unwrap_or_else(|| panic!("audited requests are refused for good\n{}", house.log()));
    assert_eq!(house.decision(&last).await["outcome"]["status"], "delivered");
    assert_eq!(house.decision(&served.request_id()).await["outcome"]["status"], "delivered");
    assert_eq!(house.decision(&refused.request_id()).await["outcome"]["calls"], 1);
}

/// A stream that has begun cannot be taken back, but it does not end as if all were well.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_must_be_on_record_has_no_clean_end_without_one() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = plan(&vendor, AUDITED).start().await;
    let (data, away) = (house.folder().path().join("data"), house.folder().path().join("away"));
    std::fs::rename(&data, &away).unwrap();
    let (events, end) = house.client().stream(&ask("bank")).await.collect().await;
    assert_ne!(end, End::Done, "{events:?}");
    assert!(format!("{events:?} {end:?}").contains("unrecorded"), "{events:?} {end:?}");
    std::fs::rename(&away, &data).unwrap();
}
