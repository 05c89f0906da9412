//! Tenants, keys and money: who may ask, how much they may spend, who changed what.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tests::admin::{Admin, files, get, metered, send, spent};
use tests::client::{Client, Socket};
use tests::eventually;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Gate, Reply, Vendor};
use tokio::task::JoinSet;

fn ask() -> Value {
    json!({"model": "auto", "max_tokens": 1000, "messages": [{"role": "user", "content": "say something"}]})
}

/// Two models at 1 USD per million tokens; the first is believed to be much better.
async fn house() -> (Vendor, House) {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = Plan::new()
        .vendor("alpha", &vendor)
        .model(&Model::new("alpha/one"))
        .model(&Model::new("alpha/two").success(0.2))
        .rules(NO_CHANCE)
        .start()
        .await;
    (vendor, house)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_open_what_they_are_for_and_nothing_else() {
    let (_vendor, house) = house().await;
    let client = house.client();
    assert_eq!(client.chat(&ask()).await.status, 200, "open while there is no key");
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme"})).await;
    admin.tenant(json!({"id": "other"})).await;
    let (id, key) = admin.key(json!({"tenant": "acme", "scopes": {"models": ["alpha/one"], "endpoints": ["chat", "decisions", "feedback"]}})).await;
    let (_, stranger) = admin.key(json!({"tenant": "other"})).await;

    let missing = client.chat(&ask()).await.error(401);
    assert_eq!(missing["code"], "missing_api_key");
    for wrong in ["sk-to-abc", "hunter2", &key[..key.len() - 1], &format!("{key}x")] {
        assert_eq!(
            send(house.client(), wrong, "/v1/chat/completions", &ask()).await.error(401)["code"],
            "invalid_api_key"
        );
    }
    let good = send(house.client(), &key, "/v1/chat/completions", &ask()).await;
    assert_eq!((good.status, good.json()["model"].as_str()), (200, Some("alpha/one")), "{}", good.text());
    let two = json!({"model": "alpha/two", "messages": [{"role": "user", "content": "hi"}]});
    let refused = send(house.client(), &key, "/v1/chat/completions", &two).await;
    assert_eq!(refused.error(403)["code"], "model_not_allowed");
    let (_, reader) = admin
        .key(json!({"tenant": "acme", "scopes": {"models": ["alpha/one"], "workflows": ["default"]}}))
        .await;
    let listed = get(house.client(), &reader, "/v1/models").await.text();
    for (name, there) in [
        ("\"alpha/one\"", true),
        ("\"alpha/two\"", false),
        ("\"auto\"", true),
        ("\"workflow/default\"", true),
        ("\"workflow/json_extraction\"", false),
    ] {
        assert_eq!(listed.contains(name), there, "{name} in {listed}");
    }
    assert_eq!(get(house.client(), &reader, "/v1/models/alpha/two").await.status, 404);
    assert_eq!(get(house.client(), &key, "/v1/models").await.error(403)["code"], "not_allowed");

    // Another tenant's record is as if it were not there; its own is.
    let request = good.header("x-turnout-decision").unwrap().to_owned();
    let path = format!("/v1/decisions/{request}");
    assert_eq!(get(house.client(), &stranger, &path).await.status, 404);
    assert_eq!(get(house.client(), &key, &path).await.json()["decision"]["tenant"], "acme");
    let word = json!({"request_id": request, "score": 1.0});
    assert_eq!(send(house.client(), &stranger, "/v1/feedback", &word).await.status, 404);
    assert_eq!(send(house.client(), &key, "/v1/feedback", &word).await.status, 200);

    // A suspended key is refused, and works again when that is taken back.
    for (suspended, status) in [(true, 403), (false, 200)] {
        admin.call("PATCH", &format!("/keys/{id}"), &json!({ "suspended": suspended })).await;
        let answer = send(house.client(), &key, "/v1/chat/completions", &ask()).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }

    // Revoked at once; listed without its text or hash.
    let listed = admin.call("GET", "/keys", &Value::Null).await.text();
    assert!(listed.contains(&id) && !listed.contains(&key) && !listed.contains("sealed"), "{listed}");
    assert_eq!(admin.call("DELETE", &format!("/keys/{id}"), &Value::Null).await.status, 200);
    assert_eq!(
        send(house.client(), &key, "/v1/chat/completions", &ask()).await.error(401)["code"],
        "invalid_api_key"
    );
    // A suspended tenant's keys are refused, and come back with it.
    admin.call("PATCH", "/tenants/other", &json!({"suspended": true})).await;
    assert_eq!(
        send(house.client(), &stranger, "/v1/chat/completions", &ask()).await.error(403)["code"],
        "tenant_suspended"
    );
    admin.call("PATCH", "/tenants/other", &json!({"suspended": false})).await;
    assert_eq!(send(house.client(), &stranger, "/v1/chat/completions", &ask()).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_works_for_its_grace_and_everything_survives_a_restart() {
    let (_vendor, mut house) = house().await;
    let admin = Admin::of(&house);
    let (id, old) = admin.key(json!({})).await;
    let rotated = admin.call("POST", &format!("/keys/{id}/rotate"), &json!({"grace_s": 3600})).await;
    let new = rotated.json()["key"].as_str().unwrap().to_owned();
    let (gone_id, gone) = admin.key(json!({})).await;
    let ended = admin.call("POST", &format!("/keys/{gone_id}/rotate"), &json!({"grace_s": 0})).await;
    assert_eq!(ended.status, 201);
    house.kill().await;
    house.restart().await;
    for key in [&old, &new] {
        assert_eq!(send(house.client(), key, "/v1/chat/completions", &ask()).await.status, 200);
    }
    assert_eq!(
        send(house.client(), &gone, "/v1/chat/completions", &ask()).await.error(401)["code"],
        "expired_api_key"
    );
    // The answer told of its lines, which the trail has still: the new key, and what became of the old one.
    let told = rotated.header("x-turnout-audit").unwrap().to_owned();
    let lines: Vec<&str> = told.split(", ").collect();
    assert_eq!(lines.len(), 2, "{told}");
    let looked = Admin::of(&house).call("GET", "/keys", &Value::Null).await;
    assert_eq!((looked.status, looked.header("x-turnout-audit")), (200, None));
    let verified = house.cli(&["audit", "verify", "--receipt", lines[0], "--receipt", lines[1]]).await;
    assert!(verified.status.success(), "{verified:?}");
    let other =
        format!("{}{}", lines[1].split(':').next().unwrap(), &lines[0][lines[0].find(':').unwrap()..]);
    let broken = house.cli(&["audit", "verify", "--receipt", &other]).await;
    assert_eq!(broken.status.code(), Some(2), "{broken:?}");
    assert!(String::from_utf8_lossy(&broken.stderr).contains("another line than the receipt"), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spent_is_remembered_over_a_kill() {
    is_remembered_over_a_kill("month").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spent_of_a_window_that_slides_is_remembered_over_a_kill() {
    is_remembered_over_a_kill("hour").await;
}

async fn is_remembered_over_a_kill(window: &str) {
    let (vendor, mut house) = house().await;
    metered(&vendor, Duration::from_millis(1), |_| "hello");
    let admin = Admin::of(&house);
    let (_, key) = admin.key(json!({"limits": [{"metric": "usd", "amount": 0.003, "per": window}]})).await;
    for _ in 0..2 {
        assert_eq!(send(house.client(), &key, "/v1/chat/completions", &ask()).await.status, 200);
    }
    house.kill().await;
    house.restart().await;
    // What is left may pay for shorter answers.
    let refused = loop {
        let answer = send(house.client(), &key, "/v1/chat/completions", &ask()).await;
        assert!(vendor.count() < 10 && spent(&vendor) <= 0.003 + 1e-9, "{} USD", spent(&vendor));
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(refused.error(429)["code"], "insufficient_quota");
}

/// While it runs, the disk runs ahead of what is spent; after an orderly end it says what was, even of a request that
/// ended last of all.
#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_leaves_what_was_spent_to_the_cent() {
    let (vendor, mut house) = house().await;
    vendor.otherwise(|_| Reply::text("hello").costing(3, 1_000).slow(Duration::from_millis(300)));
    let admin = Admin::of(&house);
    let (_, key) = admin.key(json!({"limits": [{"metric": "usd", "amount": 1.0, "per": "month"}]})).await;
    assert_eq!(send(house.client(), &key, "/v1/chat/completions", &ask()).await.status, 200);
    let last = tokio::spawn({
        let (client, key) = (house.client(), key.clone());
        async move { send(client, &key, "/v1/chat/completions", &ask()).await.status }
    });
    assert!(eventually(Duration::from_secs(20), || vendor.count() == 2).await);
    assert_eq!(house.stop().await, Some(0), "{}", house.log());
    assert_eq!(last.await.unwrap(), 200);
    house.restart().await;
    let said = Admin::of(&house).call("GET", "/budgets", &Value::Null).await.json();
    let row = said["data"].as_array().unwrap().iter().find(|b| b["metric"] == "usd").unwrap().clone();
    assert_eq!(row["used"].as_f64(), Some(2.0 * 0.001_003), "{row}");
}

/// Killed again and again while it spends: over all its lives it spends no more than the budget.
#[tokio::test(flavor = "multi_thread")]
async fn a_budget_holds_over_kills_in_the_middle_of_requests() {
    let (vendor, mut house) = house().await;
    metered(&vendor, Duration::from_millis(40), |_| "hello");
    let admin = Admin::of(&house);
    let (_, key) = admin.key(json!({"limits": [{"metric": "usd", "amount": 0.03, "per": "month"}]})).await;
    let mut answered = 0;
    for round in 0..4 {
        let client = house.client();
        let asks: Vec<_> = (0..4).map(|_| {
            let key = key.clone();
            tokio::spawn(async move {
                let mut good = 0;
                loop {
                    let Some(mut socket) = Socket::try_open(client.0).await else { return good };
                    let text = ask().to_string();
                    let head = format!(
                        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        text.len()
                    );
                    socket.send(head + &text).await;
                    match socket.response().await {
                        Some(r) if r.status == 200 => good += 1,
                        _ => return good,
                    }
                }
            })
        }).collect();
        tokio::time::sleep(Duration::from_millis(90 + 30 * round)).await;
        house.kill().await;
        for a in asks {
            answered += a.await.unwrap();
        }
        house.restart().await;
        // Nothing that the vendor was asked for is forgotten, also where it does not reach the ceiling yet.
        let said = Admin::of(&house).call("GET", "/budgets", &Value::Null).await.json();
        let row = said["data"].as_array().unwrap().iter().find(|b| b["metric"] == "usd").unwrap().clone();
        let (used, spent) = (row["used"].as_f64().unwrap(), spent(&vendor));
        assert!(used + 1e-9 >= spent, "round {round}: {used} of {spent} USD count after a kill");
    }
    let last = loop {
        let answer = send(house.client(), &key, "/v1/chat/completions", &ask()).await;
        if answer.status != 200 {
            break answer.text();
        }
        answered += 1;
    };
    // What the vendor was asked for counts, answered or not.
    let spent = spent(&vendor);
    assert!(spent <= 0.03 + 1e-9, "{spent} USD were spent in {} calls", vendor.count());
    assert!(answered > 4, "only {answered} of about 30 were answered: {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_and_places_are_held() {
    let (vendor, house) = house().await;
    let admin = Admin::of(&house);
    let (_, slow) =
        admin.key(json!({"limits": [{"metric": "requests", "amount": 0.05, "per": "second"}]})).await;
    let first = send(house.client(), &slow, "/v1/chat/completions", &ask()).await;
    assert_eq!((first.status, first.header("x-ratelimit-remaining-requests")), (200, Some("0")));
    let second = send(house.client(), &slow, "/v1/chat/completions", &ask()).await;
    assert_eq!(second.error(429)["code"], "rate_limit_exceeded");
    let wait: u64 = second.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=21).contains(&wait), "{wait}");
    assert_eq!(vendor.count(), 1);

    let gate = Gate::default();
    let held = Reply::text("hello").held(&gate);
    vendor.otherwise(move |_| held.clone());
    let (_, few) = admin.key(json!({"limits": [{"metric": "concurrency", "amount": 2}]})).await;
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let (client, key) = (house.client(), few.clone());
        tasks.spawn(async move { send(client, &key, "/v1/chat/completions", &ask()).await.status });
    }
    // Two have a place, and keep it until the others have been refused.
    for _ in 0..4 {
        assert_eq!(tasks.join_next().await.unwrap().unwrap(), 429);
    }
    gate.open();
    assert_eq!(tasks.join_all().await, [200, 200]);
    assert_eq!(
        send(house.client(), &few, "/v1/chat/completions", &ask()).await.status,
        200,
        "places come back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_by_model_and_label_count_only_what_they_name() {
    let (_vendor, house) = house().await;
    let admin = Admin::of(&house);
    let limits = json!([
        {"metric": "requests", "amount": 2, "per": "hour", "label": "team=red"},
        {"metric": "requests", "amount": 1, "per": "hour", "model": "alpha/two"},
    ]);
    let (_, key) = admin.key(json!({"limits": limits})).await;
    let tagged = |team: &str| {
        let mut body = ask();
        body["model"] = json!("alpha/one");
        body["routing"] = json!({"tags": {"team": team}});
        body
    };
    let mut red = Vec::new();
    for _ in 0..3 {
        red.push(send(house.client(), &key, "/v1/chat/completions", &tagged("red")).await.status);
        assert_eq!(send(house.client(), &key, "/v1/chat/completions", &tagged("blue")).await.status, 200);
    }
    assert_eq!(red, [200, 200, 429]);
    let mut two = ask();
    two["model"] = json!("alpha/two");
    assert_eq!(send(house.client(), &key, "/v1/chat/completions", &two).await.status, 200);
    assert_eq!(send(house.client(), &key, "/v1/chat/completions", &two).await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_may_what_they_may_and_bad_input_is_refused_clearly() {
    let (_vendor, house) = house().await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme"})).await;
    let (_, viewer) = admin.key(json!({"role": "viewer"})).await;
    let (own, operator) = admin.key(json!({"role": "operator", "tenant": "acme"})).await;
    let (_, inference) = admin.key(json!({"tenant": "acme"})).await;
    let check = async |key: &str, method: &str, path: &str, body: Value, status: u16, code: &str| {
        let said = admin.call_as(key, method, path, &body).await;
        if code.is_empty() {
            assert_eq!(said.status, status, "{method} {path}: {}", said.text());
        } else {
            assert_eq!(said.error(status)["code"], code, "{method} {path}");
        }
    };
    check(&viewer, "GET", "/tenants", Value::Null, 200, "").await;
    check(&viewer, "POST", "/keys", json!({}), 403, "role_missing").await;
    check(&viewer, "GET", "/audit", Value::Null, 403, "role_missing").await;
    check(&operator, "POST", "/keys", json!({"tenant": "acme"}), 201, "").await;
    check(&operator, "POST", "/keys", json!({"tenant": "acme", "role": "admin"}), 403, "role_missing").await;
    check(&operator, "POST", "/keys", json!({"tenant": "default"}), 403, "role_missing").await;
    check(&operator, "PATCH", &format!("/keys/{own}"), json!({"limits": []}), 403, "").await;
    check(&operator, "PATCH", "/tenants/acme", json!({"limits": []}), 403, "role_missing").await;
    check(&inference, "GET", "/tenants", Value::Null, 403, "role_missing").await;
    check("sk-to-nobody", "GET", "/tenants", Value::Null, 401, "invalid_admin_key").await;
    assert_eq!(
        send(house.client(), &viewer, "/v1/chat/completions", &ask()).await.error(403)["code"],
        "not_allowed"
    );
    let t = admin.token.clone();
    for (method, path, body, status, code) in [
        ("POST", "/tenants", json!({}), 400, "missing"),
        ("POST", "/tenants", json!({"id": "Acme!"}), 400, "invalid_value"),
        ("POST", "/tenants", json!({"id": "acme"}), 409, "exists"),
        ("POST", "/tenants", json!({"id": "x", "limit": []}), 400, "invalid_body"),
        ("POST", "/tenants", json!({"id": "x", "tier": "wood"}), 400, "invalid_body"),
        ("POST", "/tenants", json!({"id": "x", "time_zone": "Mars"}), 400, "invalid_value"),
        ("POST", "/tenants", json!([1]), 400, "invalid_body"),
        ("DELETE", "/tenants/acme", Value::Null, 409, "in_use"),
        ("GET", "/tenants/acmee", Value::Null, 404, "not_found"),
        ("PATCH", "/tenants/acme", json!({"id": "b"}), 400, "immutable"),
        ("POST", "/keys", json!({"tenant": "nobody"}), 400, "unknown_tenant"),
        ("POST", "/keys", json!({"scopes": {"models": ["beta/*"]}}), 400, "unknown_name"),
        ("POST", "/keys", json!({"scopes": {"workflows": ["defualt"]}}), 400, "unknown_name"),
        ("POST", "/keys", json!({"scopes": {"endpoints": ["chta"]}}), 400, "unknown_name"),
        (
            "POST",
            "/keys",
            json!({"limits": [{"metric": "usd", "amount": -1, "per": "day"}]}),
            400,
            "invalid_value",
        ),
        (
            "POST",
            "/keys",
            json!({"limits": [{"metric": "usd", "amount": 1, "per": "week"}]}),
            400,
            "invalid_value",
        ),
        ("POST", "/keys", json!({"expires_ms": 5}), 400, "invalid_value"),
        // Nobody is left believing that such a key may do what its role says.
        ("POST", "/keys", json!({"tenant": "acme", "role": "auditor"}), 400, "invalid_value"),
        ("POST", "/keys", json!({"tenant": "acme", "role": "admin"}), 400, "invalid_value"),
        ("POST", "/keys", json!({"key": "sk-to-mine"}), 400, "invalid_body"),
        ("POST", "/provider-keys", json!({"provider": "alpha", "key": "sk-abcdefgh"}), 400, "no_master_key"),
        ("GET", "/nothing", Value::Null, 404, "not_found"),
        ("PUT", "/keys", json!({}), 405, "method_not_allowed"),
        ("GET", "/audit?after=x", Value::Null, 400, "invalid_value"),
    ] {
        check(&t, method, path, body, status, code).await;
    }
    // Lines of refusals are written beside the answers, in their order: that of a change comes behind them, and is waited for.
    admin.tenant(json!({"id": "last"})).await;
    // Each refusal of a role is on the trail.
    let trail = admin.call("GET", "/audit?limit=1000", &Value::Null).await.json();
    let denied = trail["data"].as_array().unwrap().iter().filter(|l| l["action"] == "admin.denied").count();
    assert!(denied >= 3, "{trail}");
    // Without a place to begin at the newest lines come, in their order; with one the first after it.
    let seqs = |query: &str| {
        let (admin, query) = (&admin, query.to_owned());
        async move {
            let page = admin.call("GET", &format!("/audit?{query}"), &Value::Null).await.json();
            let lines = page["data"].as_array().unwrap().clone();
            lines.iter().map(|l| l["seq"].as_u64().unwrap()).collect::<Vec<u64>>()
        }
    };
    let all = seqs("after=0&limit=1000").await;
    assert!(all.len() > 5 && all.is_sorted());
    assert_eq!(seqs("limit=3").await, all[all.len() - 3..]);
    assert_eq!(seqs("after=0&limit=3").await, all[..3]);
    assert!(seqs("limit=0").await.is_empty() && seqs("after=0&limit=0").await.is_empty());
    // And those of an action, somebody, a tenant or a time, page by page.
    let of_denied = seqs("action=admin.denied&limit=1000").await;
    assert_eq!((of_denied.len(), &of_denied), (denied, &seqs("after=0&action=admin&limit=1000").await));
    assert_eq!(seqs(&format!("before={}&action=admin.denied", of_denied[2])).await, of_denied[..2]);
    assert_eq!(seqs("limit=1000&from=2001-01-01").await, all);
    assert!(seqs("to=2001-01-01T00:00:00Z").await.is_empty());
    assert!(!seqs("tenant=acme").await.is_empty());
    for nobody in ["actor=nobody", "tenant=acm"] {
        let _ = admin.call("GET", &format!("/audit?{nobody}"), &Value::Null).await.error(404);
    }
    let page = admin.call("GET", "/audit?after=0&limit=2", &Value::Null).await.json();
    assert_eq!((&page["has_more"], &page["next_after"]), (&json!(true), &page["data"][1]["seq"]), "{page}");
    let listed = house.cli(&["audit", "list", "--action", "admin", "--json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["data"].as_array().unwrap().len(), denied, "{listed}");
    // Another key seals from now on, and the trail is verified through both.
    let rotated = house.cli(&["audit", "rotate-key", "--json"]).await;
    let rotated: Value =
        serde_json::from_slice(&rotated.stdout).unwrap_or_else(|e| panic!("{e}: {rotated:?}"));
    let line = admin.call("GET", "/audit?action=audit.key", &Value::Null).await.json()["data"][0].clone();
    assert_eq!((&line["seq"], &line["actor"]["id"]), (&rotated["seq"], &json!("local")), "{line}");
    assert_eq!(line["detail"]["public_key"], rotated["public_key"], "{line}");
    let verified = house.cli(&["audit", "verify", "--json"]).await;
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!((&verified["keys_changed"], &verified["broken"]), (&json!(1), &Value::Null), "{verified}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_providers_are_kept_secret_and_routed_around() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| {
        let key = seen.header("authorization").unwrap_or("").to_owned();
        match key.as_str() {
            "Bearer sk-stored-revoked-1" => Reply::error(401),
            "Bearer sk-stored-throttled-2" => Reply::error_with(429, "retry-after", "30"),
            "Bearer sk-stored-spent-3" => Reply::error(402),
            "Bearer sk-stored-good-4" => Reply::text("hello"),
            _ => Reply::error(403),
        }
    })
    .await;
    let mut house = Plan::new()
        .vendor("alpha", &vendor)
        .with_key("alpha", "ALPHA_KEY")
        .model(&Model::new("alpha/one"))
        .rules(NO_CHANCE)
        .env("TURNOUT_MASTER_KEY", "a master key of more than thirty-two bytes")
        .start_even_if_not_ready()
        .await;
    let admin = Admin::of(&house);
    let secrets = ["sk-stored-revoked-1", "sk-stored-throttled-2", "sk-stored-spent-3", "sk-stored-good-4"];
    for secret in secrets {
        let body = json!({"provider": "alpha", "name": &secret[10..], "key": secret});
        let made = admin.call("POST", "/provider-keys", &body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        assert!(!made.text().contains(secret));
    }
    // Two of one name could not be told apart, and one that is there twice would count twice.
    for (name, secret, code) in
        [("good-4", "sk-stored-other-5", "name_taken"), ("again", "sk-stored-good-4", "key_known")]
    {
        let body = json!({"provider": "alpha", "name": name, "key": secret});
        let refused = admin.call("POST", "/provider-keys", &body).await;
        let error = refused.error(409);
        assert_eq!(error["code"], code);
        assert!(error["message"].to_string().contains("pk-") && !refused.text().contains(secret), "{error}");
    }
    let load = async |client: Client| {
        let client = Arc::new(client);
        let mut tasks = JoinSet::new();
        for i in 0..40 {
            let client = client.clone();
            let mut body = ask();
            body["stream"] = json!(i % 2 == 0);
            tasks.spawn(async move { client.post("/v1/chat/completions", &body).await.status });
        }
        assert!(
            tasks.join_all().await.iter().all(|s| *s == 200),
            "no client sees a failure while one key lives"
        );
    };
    load(house.client()).await;
    house.kill().await;
    house.restart().await;
    load(house.client()).await;
    // The living key is taken away: now, and only now, clients hear of it.
    let admin = Admin::of(&house);
    let listed = admin.call("GET", "/provider-keys", &Value::Null).await.json();
    let last = listed["data"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    let removed = admin.call("DELETE", &format!("/provider-keys/{last}"), &Value::Null).await;
    assert_eq!(removed.status, 200);
    let mut hurried = ask();
    hurried["routing"] = json!({"max_latency_ms": 2_000});
    assert_ne!(house.client().chat(&hurried).await.status, 200);
    let metrics = house.client().get("/metrics").await.text();
    let log = house.log();
    house.stop().await;
    let mut searched =
        vec![("metrics".to_owned(), metrics.into_bytes()), ("log".to_owned(), log.into_bytes())];
    searched.extend(files(&house.folder().path().join("data")));
    assert!(searched.len() > 6, "the data folder was looked at");
    for (name, bytes) in &searched {
        for secret in secrets {
            assert!(
                !bytes.windows(secret.len()).any(|w| w == secret.as_bytes()),
                "{secret} stands in {name}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_does_what_the_control_api_does() {
    let (_vendor, mut house) = house().await;
    let run = async |args: &[&str]| {
        let out = house.cli(args).await;
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    run(&[
        "tenant",
        "create",
        "acme",
        "--tier",
        "gold",
        "--limit",
        "100 usd per month",
        "--label",
        "team=red",
    ])
    .await;
    let made: Value = serde_json::from_str(
        &run(&["--json", "key", "create", "--tenant", "acme", "--limit", "5 usd per day"]).await,
    )
    .unwrap();
    let key = made["key"].as_str().unwrap();
    assert_eq!(send(house.client(), key, "/v1/chat/completions", &ask()).await.status, 200);
    let table = run(&["budget"]).await;
    assert!(table.contains("tenant:acme") && table.contains("month"), "{table}");
    assert!(run(&["tenant", "list"]).await.contains("100 usd per month"));
    run(&["key", "revoke", made["id"].as_str().unwrap()]).await;
    assert_eq!(send(house.client(), key, "/v1/chat/completions", &ask()).await.status, 401);
    assert!(run(&["audit", "list"]).await.contains("key.revoke"));
    assert!(run(&["audit", "verify"]).await.contains("hold"));
    let wrong = house.cli(&["key", "create", "--tenant", "acm"]).await;
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("did you mean `acme`"), "{wrong:?}");
    assert_eq!(wrong.status.code(), Some(2));
    house.stop().await;
    let stopped = house.cli(&["tenant", "list"]).await;
    assert!(String::from_utf8_lossy(&stopped.stderr).contains("turnout serve"), "{stopped:?}");
}

/// What a change does not name stays as it was, by the command and over HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_gives_a_key_no_more_than_it_says() {
    let (_vendor, house) = house().await;
    let admin = Admin::of(&house);
    let usd = json!({"metric": "usd", "amount": 10.0, "per": "day"});
    let rate = json!({"metric": "requests", "amount": 5.0, "per": "second"});
    let spec = json!({
        "scopes": {"endpoints": ["chat"], "workflows": ["default"]}, "labels": {"locked": "true"}, "limits": [usd],
    });
    let (id, key) = admin.key(spec).await;
    let run = async |options: &[&str]| {
        let args = [&["key", "change", id.as_str()], options].concat();
        let out = house.cli(&args).await;
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        admin.call("GET", &format!("/keys/{id}"), &Value::Null).await.json()
    };
    let changed = run(&["--model", "alpha/one"]).await;
    let scopes = json!({"models": ["alpha/one"], "workflows": ["default"], "endpoints": ["chat"]});
    assert_eq!(changed["scopes"], scopes);
    assert_eq!(get(house.client(), &key, "/v1/models").await.error(403)["code"], "not_allowed");
    let changed = run(&["--limit", "5 requests per second"]).await;
    assert_eq!(changed["limits"], json!([usd, rate]));
    let changed = run(&["--limit", "2 usd per day", "--label", "team=red"]).await;
    assert_eq!(changed["limits"], json!([rate, {"metric": "usd", "amount": 2.0, "per": "day"}]));
    assert_eq!(changed["labels"], json!({"locked": "true", "team": "red"}));
    let changed = run(&["--no-limit", "usd per day", "--no-label", "locked", "--all-workflows"]).await;
    assert_eq!((&changed["limits"], &changed["labels"]), (&json!([rate]), &json!({"team": "red"})));
    assert_eq!(changed["scopes"], json!({"models": ["alpha/one"], "workflows": [], "endpoints": ["chat"]}));
    let changed = run(&["--no-limits", "--no-labels", "--all-models", "--all-endpoints"]).await;
    assert_eq!((&changed["limits"], &changed["labels"]), (&json!([]), &json!({})));
    assert_eq!(changed["scopes"], json!({"models": [], "workflows": [], "endpoints": []}));
    assert_eq!(get(house.client(), &key, "/v1/models").await.status, 200);

    // Over HTTP as well, and of tenants.
    let patch = async |path: &str, body: Value| admin.call("PATCH", path, &body).await;
    let path = format!("/keys/{id}");
    patch(&path, json!({"scopes": {"endpoints": ["chat"]}})).await;
    let changed = patch(&path, json!({"scopes": {"models": ["alpha/one"]}, "limits": [usd]})).await.json();
    assert_eq!(changed["scopes"]["endpoints"], json!(["chat"]));
    let changed = patch(&path, json!({"limits": [rate]})).await.json();
    assert_eq!(changed["limits"], json!([usd, rate]));
    let told = patch(&path, json!({"limits": []})).await.error(400);
    assert!(told["param"] == "limits" && told["message"].as_str().unwrap().contains("null"), "{told}");
    admin.tenant(json!({"id": "acme", "limits": [usd], "labels": {"locked": "true"}})).await;
    let out =
        house.cli(&["tenant", "change", "acme", "--limit", "5 requests per second", "--label", "a=b"]).await;
    assert!(out.status.success(), "{out:?}");
    let changed = admin.call("GET", "/tenants/acme", &Value::Null).await.json();
    assert_eq!(changed["limits"], json!([usd, rate]));
    assert_eq!(changed["labels"], json!({"a": "b", "locked": "true"}));
}

/// Two who read the same thing and change it do not overwrite each other, if they say what they read.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_names_an_old_version_changes_nothing() {
    let (_vendor, house) = house().await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme"})).await;
    let (id, _) = admin.key(json!({"tenant": "acme"})).await;
    for (path, command, member, option) in [
        (format!("/keys/{id}"), ["key", "change", &id], "name", "--name"),
        ("/tenants/acme".to_owned(), ["tenant", "change", "acme"], "title", "--title"),
    ] {
        let read = admin.call("GET", &path, &Value::Null).await.json()["version"].as_u64().unwrap();
        let change = |text: &str| json!({ "version": read, member: text });
        let first = admin.call("PATCH", &path, &change("first")).await;
        assert_eq!(
            (first.status, first.json()["version"].as_u64()),
            (200, Some(read + 1)),
            "{}",
            first.text()
        );
        let second = admin.call("PATCH", &path, &change("second")).await.error(409);
        assert_eq!((&second["code"], &second["param"]), (&json!("conflict"), &json!("version")), "{second}");
        assert!(second["message"].as_str().unwrap().contains(&format!("version {}", read + 1)), "{second}");
        let stale = read.to_string();
        let out = house.cli(&[&command[..], &[option, "third", "--if-version", &stale]].concat()).await;
        assert!(String::from_utf8_lossy(&out.stderr).contains("--if-version"), "{out:?}");
        assert_eq!(admin.call("GET", &path, &Value::Null).await.json()[member], "first");
        let fresh = (read + 1).to_string();
        let out = house.cli(&[&command[..], &[option, "third", "--if-version", &fresh]].concat()).await;
        assert!(out.status.success(), "{out:?}");
        assert_eq!(admin.call("GET", &path, &Value::Null).await.json()[member], "third");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_address_needs_a_key_first() {
    let (_vendor, mut house) = house().await;
    house.stop().await;
    let refused = house.cli(&["serve", "--listen", "0.0.0.0:0"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("turnout key create"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_limits_gets_the_budget_of_the_settings() {
    // It writes as much as it may.
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| {
        let most = seen.body["max_tokens"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap();
        Reply::text("hello").costing(10, most)
    })
    .await;
    let house = Plan::new()
        .vendor("alpha", &vendor)
        .model(&Model::new("alpha/one").price(1_000.0))
        .rules(NO_CHANCE)
        .settings("keys: { default_budget: 1.5 }\n")
        .start()
        .await;
    let admin = Admin::of(&house);
    let (id, key) = admin.key(json!({})).await;
    let made = admin.call("GET", &format!("/keys/{id}"), &Value::Null).await.json();
    assert_eq!(made["limits"], json!([{"metric": "usd", "amount": 1.5, "per": "day"}]));
    // A thousand tokens at 1,000 USD a million cost a dollar and a bit: the second answer is shortened to what is left.
    let path = "/v1/chat/completions";
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(send(house.client(), &key, path, &ask()).await.status);
    }
    assert_eq!((statuses[0], statuses[3]), (200, 429), "{statuses:?}");
    let (id, _) = admin.key(json!({"limits": []})).await;
    let free = admin.call("GET", &format!("/keys/{id}"), &Value::Null).await.json();
    assert_eq!(free["limits"], json!([]), "who says so gets none");
    // Who bounds something else does not take the bound on money away; who bounds money says how.
    let usd = json!({"metric": "usd", "amount": 1.5, "per": "day"});
    for (limits, with_it) in [
        (json!([{"metric": "concurrency", "amount": 4.0}]), true),
        (json!([{"metric": "usd", "amount": 0.05, "per": "request"}]), true),
        (json!([{"metric": "usd", "amount": 9.0, "per": "day", "model": "alpha/*"}]), true),
        (json!([{"metric": "usd", "amount": 9.0, "per": "month"}]), false),
    ] {
        let (id, _) = admin.key(json!({ "limits": limits })).await;
        let made = admin.call("GET", &format!("/keys/{id}"), &Value::Null).await.json();
        let own = limits.as_array().unwrap().clone();
        let want: Vec<Value> = with_it.then(|| usd.clone()).into_iter().chain(own).collect();
        assert_eq!(made["limits"], json!(want));
    }
    let (id, _) = admin.key(json!({"role": "viewer"})).await;
    let viewer = admin.call("GET", &format!("/keys/{id}"), &Value::Null).await.json();
    assert_eq!(viewer["limits"], json!([]), "a key that asks no model spends nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_proxy_says_from_where_a_refused_key_came() {
    for (trusted, from) in [("[127.0.0.0/8]", "9.9.9.9"), ("[10.0.0.0/8]", "127.0.0.1")] {
        let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
        let house = Plan::new()
            .vendor("alpha", &vendor)
            .model(&Model::new("alpha/one"))
            .rules(NO_CHANCE)
            .settings(&format!("edge: {{ trusted_proxies: {trusted} }}"))
            .start()
            .await;
        let admin = Admin::of(&house);
        admin.key(json!({})).await;
        let headers = [
            ("authorization", "Bearer sk-to-wrong"),
            ("content-type", "application/json"),
            ("x-forwarded-for", "6.6.6.6, 9.9.9.9"),
        ];
        let body = ask().to_string();
        let refused = house.client().send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await;
        assert_eq!(refused.status, 401);
        let mut told = String::new();
        for _ in 0..1_200 {
            told = admin.call("GET", "/audit?limit=100", &Value::Null).await.text();
            if told.contains("invalid_api_key") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert!(told.contains(&format!("\"from\":\"{from}\"")) && !told.contains("6.6.6.6"), "{told}");
    }
}

/// A key that was revoked is not changed, one that was rotated ends when it was to end, and one that has expired has no
/// successor that has expired as well.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_does_not_begin_again() {
    let (_vendor, house) = house().await;
    let admin = Admin::of(&house);
    // Not before the key is there, which may take its time.
    let soon = tests::now_ms() + 10_000;
    let (expired, _) = admin.key(json!({"expires_ms": soon})).await;
    let (id, old) = admin.key(json!({})).await;
    let (revoked, _) = admin.key(json!({})).await;
    let rotated = admin.call("POST", &format!("/keys/{id}/rotate"), &json!({"grace_s": 0})).await;
    assert_eq!(rotated.status, 201, "{}", rotated.text());
    admin.call("DELETE", &format!("/keys/{revoked}"), &Value::Null).await;
    let later = json!({"expires_ms": 4_000_000_000_000_i64});
    for (id, body) in [
        (&id, later),
        (&id, json!({"expires_ms": null})),
        (&revoked, json!({"suspended": false})),
        (&revoked, json!({"name": "x"})),
    ] {
        let refused = admin.call("PATCH", &format!("/keys/{id}"), &body).await;
        assert_eq!(refused.error(409)["code"], "not_active", "{body}");
    }
    assert_eq!(admin.call("PATCH", &format!("/keys/{id}"), &json!({"name": "x"})).await.status, 200);
    let gone = send(house.client(), &old, "/v1/chat/completions", &ask()).await;
    assert_eq!(gone.error(401)["code"], "expired_api_key");

    tests::past(soon).await;
    let rotate = async || admin.call("POST", &format!("/keys/{expired}/rotate"), &json!({})).await;
    let refused = rotate().await.error(409);
    assert_eq!(refused["code"], "not_active");
    assert!(refused["message"].as_str().is_some_and(|m| m.contains("expires_ms")), "{refused}");
    let later = json!({"expires_ms": 4_000_000_000_000_i64});
    assert_eq!(admin.call("PATCH", &format!("/keys/{expired}"), &later).await.status, 200);
    let next = rotate().await;
    assert_eq!((next.status, &next.json()["expires_ms"]), (201, &later["expires_ms"]), "{}", next.text());
}

/// Once there are keys, only who may see the configuration reads in `/readyz` what it says, and `/metrics` asks for a
/// key where the settings say so.
#[tokio::test(flavor = "multi_thread")]
async fn what_files_say_is_told_to_those_who_may_see_them() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = Plan::new()
        .vendor("alpha", &vendor)
        .model(&Model::new("alpha/one"))
        .rules(NO_CHANCE)
        .settings("metrics: { require_key: true }\nreload: { debounce: 100ms }\n")
        .start()
        .await;
    let admin = Admin::of(&house);
    let wrong =
        format!("{NO_CHANCE}rules:\n  - {{ id: a, when: workload.task_familly == \"x\", actions: {{}} }}\n");
    house.folder().write("routing_rules.yaml", &wrong);
    admin.call("POST", "/reload", &json!({})).await;
    let open = house.client().get("/readyz").await.text();
    assert!(open.contains("task_familly"), "while nobody has a key everybody may see it: {open}");

    let (_, asks) = admin.key(json!({})).await;
    let (_, of_one) = admin.key(json!({"role": "viewer", "tenant": "default"})).await;
    let (_, of_all) = admin.key(json!({"role": "viewer"})).await;
    let bare = house.client().get("/readyz").await;
    assert!(bare.status == 200 && bare.text().contains("the files have errors"), "{}", bare.text());
    assert!(!bare.text().contains("task_familly"), "{}", bare.text());
    assert_eq!(house.client().get("/metrics").await.error(401)["code"], "invalid_admin_key");
    for (key, sees) in [(&asks, false), (&of_one, false), (&of_all, true), (&admin.token, true)] {
        let ready = get(house.client(), key, "/readyz").await;
        assert_eq!((ready.status, ready.text().contains("task_familly")), (200, sees), "{}", ready.text());
        assert_eq!(get(house.client(), key, "/metrics").await.status, if sees { 200 } else { 403 });
    }
}

/// Long lists come in pages, each entry once, whatever the size of a page.
#[tokio::test(flavor = "multi_thread")]
async fn long_lists_come_in_pages() {
    let (_vendor, house) = house().await;
    let admin = Admin::of(&house);
    for tenant in ["acme", "beta"] {
        admin.tenant(json!({"id": tenant})).await;
        for n in 1..4 {
            let limits = json!([{"metric": "usd", "amount": n, "per": "day"}]);
            admin.key(json!({"tenant": tenant, "limits": limits})).await;
        }
    }
    let read = async |path: &str, limit: usize| {
        let (mut all, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let asked = format!("{path}limit={limit}{cursor}");
            let page = admin.call("GET", &asked, &Value::Null).await.json();
            let data = page["data"].as_array().unwrap();
            assert!(data.len() <= limit, "{page}");
            all.extend(data.iter().cloned());
            pages += 1;
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => {
                    assert_eq!(page["has_more"], false);
                    return (all, pages);
                }
            }
        }
    };
    for (path, entries, pages) in [
        ("/keys?", 6, 3),
        ("/keys?tenant=acme&", 3, 2),
        ("/tenants?", 2, 1),
        ("/budgets?", 6, 3),
        ("/budgets?tenant=beta&", 3, 2),
    ] {
        let (whole, one) = read(path, 1_000).await;
        let (parts, several) = read(path, 2).await;
        assert_eq!((whole.len(), one, several), (entries, 1, pages), "{path} {whole:?}");
        assert_eq!(parts, whole, "{path}");
    }
    assert_eq!(admin.call("GET", "/keys?tenant=nobody", &Value::Null).await.error(404)["param"], "tenant");
    for (path, param) in
        [("/keys?limit=0", "limit"), ("/keys?limit=1001", "limit"), ("/tenants?tenant=a", "query")]
    {
        let refused = admin.call("GET", path, &Value::Null).await;
        assert_eq!(refused.error(400)["param"], param, "{path}");
    }
}
