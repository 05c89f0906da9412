//! Rules about answers do what the record says of them: send them elsewhere, hold them for people, write on their head.

use serde_json::{Value, json};
use tests::client::Response;
use tests::house::{House, Model, Plan, cli};
use tests::vendor::{Dialect, Reply, Seen, Vendor};

/// The weak model does not know; the other one does, unless it is asked for `nothing`.
fn answers(seen: &Seen) -> Reply {
    match seen.body["model"].as_str() {
        Some("one") => Reply::text("I do not know."),
        _ if seen.body.to_string().contains("nothing") => Reply::error(400),
        _ => Reply::text("It is 42."),
    }
}

const RULES: &str = "  - { id: seen, phase: response, actions: { tag: { seen: \"yes\" } } }\n  \
    - id: try_harder\n    phase: response\n    when: response.text.contains(\"not know\")\n    \
      actions: { escalate: { to: lab/two } }\n  \
    - { id: told, phase: response, when: response.escalated, actions: { header: { x-escalated: \"yes\" } } }\n";

fn plan(vendor: &Vendor, rules: &str) -> Plan {
    Plan::new()
        .vendor("lab", vendor)
        .model(&Model::new("lab/one"))
        .model(&Model::new("lab/two").success(0.3))
        .rules(&format!("{}approvers: {{ ops: [\"user:dana\"] }}\nrules:\n{rules}", crate::NO_CHANCE))
}

fn ask(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

/// What the record says of the actions of a verb, and of how often each rule was in force.
async fn told(house: &House, answer: &Response, verb: &str) -> (Vec<String>, Vec<String>) {
    let decision = house.decision(&answer.request_id()).await["decision"].clone();
    let list = |name: &str| decision[name].as_array().unwrap().clone();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let effects = list("actions").iter().filter(|a| a["verb"] == verb).map(|a| text(&a["effect"])).collect();
    (effects, list("rules").iter().map(|r| text(&r["id"])).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_answer_that_was_asked_for_elsewhere_counts_as_escalated() {
    let vendor = Vendor::scripted(Dialect::OpenAi, answers).await;
    let house = plan(&vendor, RULES).start().await;
    for (model, text, said, escalated, effect, rules) in [
        ("auto", "what?", "It is 42.", Some("yes"), "applied", &["seen", "try_harder", "told"][..]),
        (
            "lab/one",
            "what?",
            "I do not know.",
            None,
            "no effect: none of these models may answer this request",
            &["seen", "try_harder"],
        ),
        (
            "auto",
            "nothing",
            "I do not know.",
            None,
            "no effect: no answer came from there",
            &["seen", "try_harder"],
        ),
    ] {
        let answer = house.client().chat(&ask(model, text)).await;
        assert_eq!((answer.status, answer.content().as_str()), (200, said), "{model} {text}");
        assert_eq!(answer.header("x-escalated"), escalated, "{model} {text}");
        let (effects, matched) = told(&house, &answer, "escalate").await;
        assert!(effects.len() == 1 && effects[0].starts_with(effect), "{model} {text}: {effects:?}");
        assert_eq!(matched, rules, "each rule is told of once");
        let explained = house.cli(&["explain", &answer.request_id()]).await;
        let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
        assert_eq!(explained.matches("escalate {").count(), 1, "{explained}");
        assert_eq!(explained.matches("tag {").count(), 1, "{explained}");
    }
}

/// Rules of the request say where repairs go: the record says so where nobody of theirs may answer.
#[tokio::test(flavor = "multi_thread")]
async fn repairs_that_can_go_nowhere_are_told_of() {
    let vendor = Vendor::scripted(Dialect::OpenAi, answers).await;
    let house = plan(&vendor, "  - { id: up, actions: { escalate: { to: lab/two } } }\n").start().await;
    for (model, effect) in
        [("auto", "applied"), ("lab/one", "no effect: none of these models may answer this request")]
    {
        let answer = house.client().chat(&ask(model, "what?")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(told(&house, &answer, "escalate").await.0, [effect], "{model}");
    }
}

/// What rules see of an answer was found of that answer alone, and charged for it, whatever came before it.
#[tokio::test(flavor = "multi_thread")]
async fn rules_see_what_was_found_of_the_answer_that_goes_out() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| {
        let again = seen.body["messages"].as_array().is_some_and(|m| m.len() > 1);
        Reply::text(if again { "{\"a\": 1}" } else { "there is none" })
    })
    .await;
    let rules = "  - { id: broken, phase: response, when: '\"not_json\" in response.codes', actions: { deny: no } }\n  \
                 - { id: free, phase: response, when: 'response.cost_usd == 0.0', actions: { header: { x-free: \"yes\" } } }\n";
    let house = plan(&vendor, rules).free("lab").start().await;
    let mut body = ask("auto", "an object");
    body["response_format"] = json!({"type": "json_object"});
    let repaired = house.client().chat(&body).await;
    assert_eq!((repaired.status, repaired.content().as_str()), (200, "{\"a\": 1}"), "{}", repaired.text());
    assert_eq!(repaired.header("x-free"), Some("yes"));
    assert!(vendor.count() > 1, "it was repaired");
    // An answer of which it is found is refused.
    let mut body = ask("auto", "an object");
    body["routing"] = json!({"validators": [{"use": "json", "severity": "warn"}]});
    assert_eq!(house.client().chat(&body).await.error(403)["code"], "denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_asked_for_nowhere_else() {
    let vendor = Vendor::scripted(Dialect::OpenAi, answers).await;
    let rules = format!(
        "{RULES}  - {{ id: no, phase: response, when: response.text.contains(\"not know\"), actions: {{ deny: no }} }}\n"
    );
    let house = plan(&vendor, &rules).start().await;
    let refused = house.client().chat(&ask("auto", "what?")).await;
    assert_eq!(refused.error(403)["code"], "denied");
    assert_eq!(told(&house, &refused, "escalate").await.0, ["no effect: the answer is refused"]);
    assert_eq!(vendor.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_answer_has_the_headers_of_every_rule() {
    let vendor = Vendor::scripted(Dialect::OpenAi, answers).await;
    let house = plan(
        &vendor,
        "  - { id: mark, phase: response, actions: { header: { x-checked: by rule } } }\n  \
         - { id: read_first, phase: response, actions: { require_approval: { group: ops, reason: all } } }\n",
    )
    .start()
    .await;
    for stream in [false, true] {
        let mut body = ask("auto", "what?");
        body["stream"] = stream.into();
        let refused = house.client().chat(&body).await;
        let message = refused.error(409)["message"].as_str().unwrap().to_owned();
        let id = message.split('`').find(|part| part.starts_with("apr_")).unwrap();
        let said = house.cli(&["approval", "approve", id, "--as", "user:dana"]).await;
        assert!(said.status.success(), "{said:?}");
        let headers = [("content-type", "application/json"), ("x-turnout-approval", id)];
        let through =
            house.client().send("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes()).await;
        assert_eq!((through.status, through.header("x-checked")), (200, Some("by rule")), "{through:?}");
    }
}

/// What `turnout policy check` says of one action of the phase `response`.
async fn checked(actions: &str) -> (bool, String) {
    let folder = Plan::new()
        .simulated("lab")
        .model(&Model::new("lab/one"))
        .rules(&format!(
            "version: 1\nrules:\n  - {{ id: said, phase: response, actions: {{ {actions} }} }}\n"
        ))
        .write();
    let output = cli(&folder, &["policy", "check"]).await;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rule_sets_a_header_that_the_server_sets() {
    let vendor = Vendor::scripted(Dialect::OpenAi, answers).await;
    let house =
        plan(&vendor, "  - { id: few, actions: { rate_limit: { per: tenant, requests: 9, window: 1h } } }\n")
            .start()
            .await;
    let mut names = std::collections::BTreeSet::new();
    for stream in [false, true] {
        let mut body = ask("auto", "what?");
        body["stream"] = stream.into();
        // The second answer is the first one again.
        for _ in 0..2 {
            let key = format!("key-{stream}");
            let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
            let answer = house
                .client()
                .send("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes())
                .await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            names.extend(answer.headers.into_iter().map(|(name, _)| name.to_ascii_lowercase()));
        }
    }
    assert!(
        names.contains("idempotent-replayed") && names.contains("x-ratelimit-limit-requests"),
        "{names:?}"
    );
    names.extend(["retry-after", "x-should-retry"].map(str::to_owned));
    let all: Vec<String> = names.iter().map(|name| format!("{name}: a")).collect();
    let (sound, text) = checked(&format!("header: {{ {} }}", all.join(", "))).await;
    assert!(!sound && text.contains("x-ratelimit-*"), "the reserved names are told: {text}");
    for name in names {
        assert!(text.contains(&format!("`{name}` cannot be set")), "{name}: {text}");
    }
    let (sound, text) = checked("header: { x-own: a }").await;
    assert!(sound, "{text}");
    for value in ["a\\r\\nb: c", "é"] {
        let (sound, text) = checked(&format!("header: {{ x-own: \"{value}\" }}")).await;
        assert!(!sound && text.contains("the value of `x-own`"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_too_late_for_the_input_is_refused_at_load() {
    for (argument, sound) in [
        ("{ entities: [email] }", true),
        ("{ entities: [email], in: [output] }", true),
        ("{ entities: [email], in: [logs] }", true),
        ("{ entities: [email], in: [input] }", false),
        ("{ entities: [email], in: [input, output] }", false),
        ("{ entities: [email], restore: true }", false),
    ] {
        let (good, text) = checked(&format!("redact: {argument}")).await;
        assert_eq!(good, sound, "{argument}: {text}");
        assert!(sound || text.contains("PL107") && text.contains("in: [output]"), "{argument}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_which_workflow_it_came_from() {
    const SECOND: &str = "version: 1\nname: second\nnodes: [{ id: ask, type: generate, model: lab/two }]\n";
    let vendor = Vendor::scripted(Dialect::OpenAi, answers).await;
    let rules = "  - id: try_harder\n    phase: response\n    when: response.text.contains(\"not know\")\n    \
                 actions: { escalate: { to: second } }\n";
    let house = plan(&vendor, rules).file("workflows/second.yaml", SECOND).start().await;
    for (model, said, workflow) in
        [("workflow/default", "It is 42.", "second"), ("lab/two", "It is 42.", "default")]
    {
        let answer = house.client().chat(&ask(model, "what?")).await;
        assert_eq!((answer.status, answer.content().as_str()), (200, said), "{}", answer.text());
        assert_eq!(answer.header("x-turnout-workflow"), Some(workflow));
        let record = house.decision(answer.header("x-turnout-decision").unwrap()).await;
        let elsewhere = Some(workflow).filter(|w| *w == "second");
        assert_eq!(record["outcome"]["served_in"].as_str(), elsewhere, "{record:#}");
        assert_eq!(record["outcome"]["workflow"], "default", "learning is about what was chosen");
        let version = record["decision"]["engine_version"].as_str().unwrap_or_default();
        assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{record:#}");
    }
    // Reports count it where it was answered.
    let admin = tests::admin::Admin::of(&house);
    let counted = |report: &Value| {
        let rows = report["data"].as_array().unwrap();
        let of = |name: &str| rows.iter().find(|r| r["group"] == name).map(|r| r["requests"].clone());
        (of("second"), of("default"))
    };
    let mut report = Value::Null;
    for _ in 0..1_000 {
        report = admin.call("GET", "/usage?group_by=workflow", &Value::Null).await.json();
        if counted(&report) == (Some(1.into()), Some(1.into())) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{report:#}");
}
