//! Rules of one tenant: they hold for its requests and runs, for nobody else's, and below those of the deployment.

use crate::NO_CHANCE;
use crate::runs::{path_of, shown};
use serde_json::{Value, json};
use tests::admin::{Admin, send};
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

/// What holds for everybody.
const PLATFORM: &str = "rules:
  - { id: calm, actions: { set_temperature: 0.25, cap_max_tokens: 50 } }
";
/// What `acme` has of its own: the temperature is the deployment's to say, the ceiling only falls.
const ACME: &str = "version: 1
rules:
  - { id: acme_elsewhere, owner: ops, actions: { exclude: [\"good/*\"], cap_max_tokens: 40 } }
  - { id: acme_hot, priority: 100, actions: { set_temperature: 0.75 } }
";
const SCRIPT: &str = r#"fn describe() { #{ id: "acme_guard", owner: "ops" } }
fn on_request(ctx, act) {
    if ctx.request.has_tools { act.deny(#{ reason: "no tools for acme", code: "acme_tools" }); }
}
"#;

struct Two {
    good: Vendor,
    other: Vendor,
    house: House,
    acme: String,
    beta: String,
}

async fn two(plan: Plan) -> Two {
    let good = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("from the good one")).await;
    let other = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("from the other")).await;
    let house = plan
        .vendor("good", &good)
        .vendor("other", &other)
        .model(&Model::new("good/one").success(0.95))
        .model(&Model::new("other/two").success(0.2))
        .rules(&format!("{NO_CHANCE}{PLATFORM}"))
        .start()
        .await;
    let admin = Admin::of(&house);
    for id in ["acme", "beta"] {
        admin.tenant(json!({"id": id})).await;
    }
    let (_, acme) = admin.key(json!({"tenant": "acme", "limits": []})).await;
    let (_, beta) = admin.key(json!({"tenant": "beta", "limits": []})).await;
    Two { good, other, house, acme, beta }
}

fn with_rules() -> Plan {
    Plan::new()
        .file("policies/tenants/acme/rules.yaml", ACME)
        .file("policies/tenants/acme/guard.rhai", SCRIPT)
}

fn ask() -> Value {
    json!({"model": "auto", "max_tokens": 1000, "messages": [{"role": "user", "content": "say something"}]})
}

impl Two {
    async fn ask(&self, key: &str, body: &Value) -> tests::client::Response {
        send(self.house.client(), key, "/v1/chat/completions", body).await
    }

    async fn record(&self, key: &str, request: &str) -> Value {
        let path = format!("/v1/decisions/{request}");
        shown(&self.house, key, &path, |record| record["decision"].is_object()).await
    }

    async fn says(&self, key: &str) -> String {
        let answer = self.ask(key, &ask()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.content()
    }
}

/// The names of the rules on record, each with the layer that is named.
fn rules(record: &Value) -> Vec<(&str, Option<&str>)> {
    let rules = record["decision"]["rules"].as_array().unwrap();
    rules.iter().map(|r| (r["id"].as_str().unwrap(), r["layer"].as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn they_hold_for_their_tenant_and_for_nobody_else() {
    let two = two(with_rules()).await;
    let answers = (two.ask(&two.acme, &ask()).await, two.ask(&two.beta, &ask()).await);
    assert_eq!((&*answers.0.content(), &*answers.1.content()), ("from the other", "from the good one"));
    let sent = |vendor: &Vendor| vendor.seen().pop().map(|seen| seen.body.clone()).unwrap();
    let (acme, beta) = (sent(&two.other), sent(&two.good));
    assert_eq!((&acme["temperature"], &beta["temperature"]), (&json!(0.25), &json!(0.25)));
    assert_eq!((&acme["max_tokens"], &beta["max_tokens"]), (&json!(40), &json!(50)));

    // Each record tells of the rules that had a say in it, and whose word they are.
    let record = two.record(&two.acme, &answers.0.request_id()).await;
    let tenant = Some("tenant");
    let all = [("calm", None), ("acme_elsewhere", tenant), ("acme_hot", tenant), ("acme_guard", tenant)];
    assert_eq!(rules(&record), all);
    let hot = record["decision"]["actions"].as_array().unwrap().iter().find(|a| a["rule"] == "acme_hot");
    assert_eq!(hot.unwrap()["effect"], "overridden by calm");
    let told = two.house.cli(&["explain", &answers.0.request_id()]).await;
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("acme_elsewhere (tenant)") && !told.contains("calm (tenant)"), "{told}");
    assert_eq!(rules(&two.record(&two.beta, &answers.1.request_id()).await), [("calm", None)]);

    // A script of theirs refuses, and only them.
    let mut tools = ask();
    tools["tools"] =
        json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    assert_eq!(two.ask(&two.acme, &tools).await.error(403)["code"], "acme_tools");
    assert_eq!(two.ask(&two.beta, &tools).await.status, 200);

    // What is done in the background is theirs as well.
    for (key, text) in [(&two.acme, "from the other"), (&two.beta, "from the good one")] {
        let begun = send(two.house.client(), key, "/v1/runs", &json!({"request": ask()})).await;
        let run = shown(&two.house, key, &path_of(&begun), |run| run["status"] == "succeeded").await;
        assert!(run["result"].to_string().contains(text), "{run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_put_listed_and_removed_one_by_one() {
    let two = two(Plan::new()).await;
    let admin = Admin::of(&two.house);
    let put = async |id: &str, body: Value| admin.call("PUT", &format!("/policies/{id}"), &body).await;
    let rule = |id: &str| format!("id: {id}\nowner: ops\nactions: {{ exclude: [\"good/*\"] }}\n");
    let new = json!({"kind": "rule", "tenant": "acme", "source": rule("acme_elsewhere")});
    assert_eq!(put("acme_elsewhere", new).await.status, 200);
    assert_eq!(
        put("acme_guard", json!({"kind": "script", "tenant": "acme", "source": SCRIPT})).await.status,
        200
    );
    assert_eq!(
        (&*two.says(&two.acme).await, &*two.says(&two.beta).await),
        ("from the other", "from the good one")
    );

    let row = async |id: &str| admin.call("GET", &format!("/policies/{id}"), &Value::Null).await.json();
    let (own, ours) = (row("acme_elsewhere").await, row("calm").await);
    assert_eq!(
        (&own["tenant"], &own["file"], &own["matched"]),
        (&json!("acme"), &json!("policies/tenants/acme/rules.yaml"), &json!(1))
    );
    assert_eq!((&ours["tenant"], &ours["file"]), (&Value::Null, &json!("routing_rules.yaml")));
    assert_eq!(row("acme_guard").await["file"], "policies/tenants/acme/acme_guard.rhai");

    // What is there stays where it is; a tenant that nobody can be is refused.
    for (id, tenant, status, says) in [
        ("acme_elsewhere", "beta", 409, "is of `acme`"),
        ("calm", "beta", 409, "of all tenants"),
        ("new", "No Body", 400, "lower-case"),
    ] {
        let said = put(id, json!({"kind": "rule", "tenant": tenant, "source": rule(id)})).await;
        assert!(said.status == status && said.text().contains(says), "{id} {tenant}: {}", said.text());
    }
    let changed = json!({"source": rule("acme_elsewhere").replace("good", "other")});
    assert_eq!(put("acme_elsewhere", changed).await.status, 200);
    assert_eq!(two.says(&two.acme).await, "from the good one");
    assert_eq!(admin.call("DELETE", "/policies/acme_guard", &Value::Null).await.status, 200);
    assert_eq!(admin.call("GET", "/policies/acme_guard", &Value::Null).await.status, 404);
}

/// A tenant may be made after its rules, and rules may name it wrongly: the log tells, and they hold once it is there.
#[tokio::test(flavor = "multi_thread")]
async fn rules_of_a_tenant_that_is_not_there_yet_are_told_of_and_wait() {
    let rules = ACME.replace("acme", "late");
    let two = two(Plan::new().file("policies/tenants/late/rules.yaml", &rules)).await;
    let log = two.house.log();
    assert!(log.contains("a tenant that does not exist") && log.contains("late"), "{log}");
    let admin = Admin::of(&two.house);
    // Whoever puts one over the control API is told there, with the tenant that may be meant.
    let source = "id: mistyped\nowner: ops\nwhen: request.stream\nactions: { deny: no }\n";
    let body = json!({"kind": "rule", "tenant": "acne", "source": source});
    let said = admin.call("PUT", "/policies/mistyped?dry_run=true", &body).await;
    assert_eq!(said.status, 200, "{}", said.text());
    let problems = said.json()["problems"].as_array().unwrap().clone();
    let strange: Vec<&Value> = problems.iter().filter(|p| p["code"] == "TS014").collect();
    assert_eq!(strange.len(), 2, "{problems:#?}");
    let mistyped = strange.iter().find(|p| p["message"].as_str().unwrap().contains("`acne`")).unwrap();
    assert_eq!(
        (&mistyped["severity"], &mistyped["file"]),
        (&json!("warning"), &json!("policies/tenants/acne/rules.yaml"))
    );
    assert!(mistyped["hint"].as_str().unwrap().contains("did you mean `acme`"), "{mistyped}");
    admin.tenant(json!({"id": "late"})).await;
    let (_, late) = admin.key(json!({"tenant": "late", "limits": []})).await;
    assert_eq!(
        (&*two.says(&late).await, &*two.says(&two.acme).await),
        ("from the other", "from the good one")
    );
}
