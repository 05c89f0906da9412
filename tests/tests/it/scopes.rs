//! Scopes of keys: every path of the API against every endpoint that a key may be for.

use serde_json::{Value, json};
use tests::admin::{Admin, get, send};
use tests::house::{Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

/// Method, path, and the endpoint that it belongs to.
const ROUTES: &[(&str, &str, &str)] = &[
    ("POST", "/v1/chat/completions", "chat"),
    ("GET", "/v1/models", "models"),
    ("GET", "/v1/models/lab/one", "models"),
    ("POST", "/v1/feedback", "feedback"),
    ("GET", "/v1/decisions/req_none", "decisions"),
    ("GET", "/v1/runs", "runs"),
    ("POST", "/v1/runs", "runs"),
    ("GET", "/v1/runs/run_none", "runs"),
    ("DELETE", "/v1/runs/run_none", "runs"),
    ("GET", "/v1/runs/run_none/events", "runs"),
    ("GET", "/v1/runs/run_none/trace", "runs"),
    ("POST", "/v1/runs/run_none/cancel", "runs"),
    ("POST", "/v1/runs/run_none/resume", "runs"),
    ("POST", "/v1/runs/run_none/fork", "runs"),
    ("POST", "/v1/runs/run_none/gates/allow", "runs"),
    ("POST", "/v1/runs/run_none/tool_outputs", "runs"),
    ("POST", "/v1/runs/run_none/replay", "runs"),
    ("GET", "/v1/workflows", "workflows"),
    ("POST", "/v1/workflows/check", "workflows"),
    ("GET", "/v1/workflows/default", "workflows"),
    ("GET", "/v1/workflows/default/graph", "workflows"),
    ("GET", "/v1/workflows/default/plan", "workflows"),
    ("POST", "/v1/workflows/default/test", "workflows"),
    ("POST", "/v1/workflows/default/dry_run", "workflows"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_key_opens_the_paths_of_its_endpoint_and_no_other() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).rules(crate::NO_CHANCE);
    let house = house.start().await;
    let admin = Admin::of(&house);
    let mut endpoints: Vec<&str> = ROUTES.iter().map(|(.., endpoint)| *endpoint).collect();
    endpoints.dedup();
    let refused = admin.call("POST", "/keys", &json!({"scopes": {"endpoints": ["none"]}})).await.error(400);
    assert_eq!(refused["code"], "unknown_name");
    for own in &endpoints {
        let (id, key) = admin.key(json!({"scopes": {"endpoints": [own]}})).await;
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let mut denied = 0;
        for (method, path, endpoint) in ROUTES {
            let body: &[u8] = if *method == "POST" { b"{}" } else { b"" };
            let said = house.client().send(method, path, &headers, body).await;
            if endpoint == own {
                assert!(![401, 403, 405].contains(&said.status), "{own}: {method} {path}: {}", said.text());
                continue;
            }
            let error = said.error(403);
            assert_eq!(error["code"], "not_allowed", "{own}: {method} {path}");
            assert_eq!(
                error["message"],
                format!("the key may not use `{endpoint}`"),
                "{own}: {method} {path}"
            );
            denied += 1;
        }
        // Each stands on the audit trail.
        let trail = async || {
            let lines = admin.call("GET", "/audit?limit=1000", &Value::Null).await.json();
            let of_key = |l: &&Value| l["action"] == "request.denied" && l["actor"]["id"] == *id;
            lines["data"].as_array().unwrap().iter().filter(of_key).count()
        };
        let mut on_trail = 0;
        for _ in 0..1_200 {
            on_trail = trail().await;
            if on_trail == denied {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        assert_eq!(on_trail, denied, "{own}");
        let lines = admin.call("GET", "/audit?limit=1000", &Value::Null).await.json();
        for line in lines["data"].as_array().unwrap().iter().filter(|l| l["actor"]["id"] == *id) {
            let target = line["target"].as_str().unwrap();
            assert_eq!(line["detail"]["reason"], format!("the key may not use `{target}`"), "{line}");
        }
    }
    assert_eq!(vendor.count(), 0, "nothing that was asked makes a call");
}

/// A key reads how its requests were decided, and nothing of how the server is set up: where keys of vendors are looked for
/// is for those who run it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_not_told_where_keys_of_vendors_are_looked_for() {
    const VARIABLE: &str = "SPARE_VENDOR_CREDENTIAL";
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let plan = Plan::new().vendor("lab", &vendor).vendor("spare", &vendor).with_key("spare", VARIABLE);
    let plan = plan.model(&Model::new("lab/one")).model(&Model::new("spare/one"));
    let house = plan.rules(crate::NO_CHANCE).start().await;
    let body = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}], "routing": {"explain": true}});

    // Whoever runs it without keys, and asks as the user who does, is told.
    let answer = house.client().chat(&body).await;
    assert!(answer.text().contains(VARIABLE), "{}", answer.text());
    let (_, key) = Admin::of(&house).key(json!({})).await;
    let answer = send(house.client(), &key, "/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let path = format!("/v1/decisions/{}", answer.request_id());
    let record = get(house.client(), &key, &path).await;
    assert_eq!(record.status, 200, "{}", record.text());
    for told in [answer, record] {
        assert!(told.text().contains("no_key") && !told.text().contains(VARIABLE), "{}", told.text());
    }
    let refused = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}],
        "routing": {"explain": true, "max_cost_usd": 0.0000001}});
    let answer = send(house.client(), &key, "/v1/chat/completions", &refused).await;
    assert!(answer.status == 400 && !answer.text().contains(VARIABLE), "{}", answer.text());
}
