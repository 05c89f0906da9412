//! The control API under bad input: every operation of its own document with bodies that do not fit it, with every
//! role, with keys that no longer hold; and answers that fit what the document says of them.

use serde_json::{Value, json};
use tests::admin::Admin;
use tests::house::{House, Model, Plan};
use tests::openapi::{Document, Operation, wrong_words};
use tests::vendor::{Dialect, Vendor};

/// One user's requests need a person's word.
const RULES: &str = "version: 1\nexploration: { epsilon: 0 }\napprovers: { ops: [\"user:dana\"] }\nrules:\n  \
    - { id: ask, when: request.user == \"asks\", actions: { require_approval: { group: ops, reason: why } } }\n";

async fn house() -> (Vendor, House, Admin, Document) {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = Plan::new()
        .vendor("alpha", &vendor)
        .model(&Model::new("alpha/one"))
        .rules(RULES)
        .env("TURNOUT_MASTER_KEY", "a master key of more than thirty-two bytes")
        .start()
        .await;
    let admin = Admin::of(&house);
    let document = Document(admin.call("GET", "/openapi.json", &Value::Null).await.json());
    (vendor, house, admin, document)
}

/// Everything that a write could have changed.
async fn state(admin: &Admin) -> String {
    let mut all = String::new();
    for path in ["/tenants", "/keys", "/provider-keys", "/bundle", "/pools", "/policies"] {
        all.push_str(&admin.call("GET", path, &Value::Null).await.text());
    }
    all
}

/// A path with things that exist in the place of its names.
fn path(op: &Operation, key: &str, provider_key: &str) -> String {
    let path = op.path.replace("{tenant}", "acme").replace("{key}", key).replace("{id}", provider_key);
    // Who only tries whether he may come in must not find what he could remove.
    let (pool, policy) = if key.starts_with("0000") { ("none", "none") } else { ("vision", "ask") };
    let path = path.replace("{pool}", pool).replace("{policy}", policy);
    path.replace("{hash}", "previous").replace("{approval}", "apr_none")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_malformed_body_is_refused_and_changes_nothing() {
    let (_vendor, _house, admin, document) = house().await;
    admin.tenant(json!({"id": "acme"})).await;
    let (key, _) = admin.key(json!({"tenant": "acme"})).await;
    let before = state(&admin).await;
    let mut tried = 0;
    for op in document.operations().iter().filter(|op| !op.takes.is_empty()) {
        let path = path(op, &key, "pk-none");
        for (what, body) in document.wrong(document.schema(&op.takes)) {
            let text = body.to_string();
            let said =
                admin.bytes(&admin.token, &op.method, &path, "application/json", text.as_bytes()).await;
            let place = format!("{} {path} with {what}: {body:.200}", op.method);
            assert_eq!(said.status, 400, "{place}: {}", said.text());
            let misfits = document.misfits(document.schema("Error"), &said.json(), "");
            assert!(misfits.is_empty(), "{place}: {misfits:#?}");
            assert!(said.body.len() < 2_000, "{place}: an answer longer than what it is about");
            tried += 1;
        }
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        for (kind, body, status) in [
            ("application/json", "{\"id\": ", 400),
            ("application/json", "nonsense", 400),
            ("application/json", "[]", 400),
            ("application/json", "null", 400),
            ("application/json", "{} {}", 400),
            ("application/json", "{\"a\":1,\"a\":2}", 400),
            ("application/json", "\u{0}", 400),
            ("application/json", "{\"id\": \"\u{fffd}\u{1}\"}", 400),
            ("application/json", deep.as_str(), 400),
            ("text/plain", "{\"no_such_member\": 1}", 415),
        ] {
            let said = admin.bytes(&admin.token, &op.method, &path, kind, body.as_bytes()).await;
            assert_eq!(said.status, status, "{} {path} with {body:.40}: {}", op.method, said.text());
            let _ = said.error(status);
            tried += 1;
        }
        let broken =
            admin.bytes(&admin.token, &op.method, &path, "application/json", b"{\"id\": \"\xff\xfe\"}").await;
        let _ = broken.error(400);
        let large = vec![b' '; (4 << 20) + 1];
        let said = admin.bytes(&admin.token, &op.method, &path, "application/json", &large).await;
        let _ = said.error(413);
    }
    assert!(tried > 250, "{tried} bodies were tried");
    assert_eq!(state(&admin).await, before, "nothing was changed by any of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_in_paths_and_queries_are_refused() {
    let (_vendor, _house, admin, document) = house().await;
    let before = state(&admin).await;
    let odd =
        ["%00", "..", "a%2fb", "x%0d%0aset-cookie:a", "%ff", "nobody", "%F0%9F%92%A9", "'%20or%201=1--"];
    let long = "x".repeat(4_000);
    for op in document.operations().iter().filter(|op| op.path.contains('{')) {
        for name in odd.iter().copied().chain([long.as_str()]) {
            let start = op.path.split('{').next().unwrap();
            let path = op.path.replacen(&op.path[start.len()..=op.path.find('}').unwrap()], name, 1);
            let said = admin.call(&op.method, &path, &Value::Null).await;
            assert!((400..500).contains(&said.status), "{} {path:.80}: {}", op.method, said.text());
            let _ = said.error(said.status);
            assert!(said.header("set-cookie").is_none());
        }
    }
    for (path, param) in [
        ("/audit?after=-1", "after"),
        ("/audit?before=x", "before"),
        ("/audit?after=1&before=2", "before"),
        ("/audit?from=yesterday", "from"),
        ("/audit?to=2026-02-30", "to"),
        ("/audit?lmit=1", "query"),
        ("/audit?actor=%zz", "query"),
        // As it stands, a plus is a space.
        ("/audit?from=2026-11-22T10:00:00+01:00", "from"),
        ("/audit?after", "after"),
        ("/keys?cursor=", "cursor"),
        ("/tenants?limit=2&cursor=", "cursor"),
        ("/audit?=1", "query"),
        ("/usage?group_by=day&group_by=key", "group_by"),
        ("/keys?team=acme", "query"),
        ("/usage?group_by=colour", "group_by"),
        ("/usage?from=yesterday", "from"),
        ("/usage?to=2026-13-01", "to"),
        ("/usage?from=2026-02-02&to=2026-02-01", "from"),
        ("/usage?tenant=%00", "tenant"),
        ("/usage?limit=0", "limit"),
        ("/audit?limit=1001", "limit"),
        ("/pools?dry_run=true", "query"),
    ] {
        let said = admin.call("GET", path, &Value::Null).await;
        assert_eq!(said.error(400)["param"], param, "{path}");
    }
    // As every library of a client writes them.
    for path in
        ["/audit?from=2096-11-22T10%3A00%3A00%2B01%3A00", "/audit?actor=local&to=2026-11-22T10:00:00Z"]
    {
        let said = admin.call("GET", path, &Value::Null).await;
        assert_eq!((said.status, &said.json()["data"]), (200, &json!([])), "{path}");
    }
    let nobody = admin.call("GET", "/audit?actor=ann+smith", &Value::Null).await.error(404);
    assert!(nobody["message"].as_str().unwrap().contains("`ann smith`"), "{nobody}");
    // Whether it is to be tried only is said twice, and in two ways.
    let twice = admin.call("PUT", "/pools/mine?dry_run=false&dry_run=true", &json!({"models": ["*"]})).await;
    assert_eq!(twice.error(400)["code"], "repeated_parameter");
    assert_eq!(state(&admin).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_document_says_of_parameters_and_bodies_is_asked_for() {
    let (_vendor, _house, admin, document) = house().await;
    admin.tenant(json!({"id": "acme"})).await;
    let (key, _) = admin.key(json!({"tenant": "acme"})).await;
    let before = state(&admin).await;
    let (mut words, mut bodies) = (0, 0);
    for op in document.operations() {
        let path = path(&op, &key, "pk-none");
        let body = if op.takes.is_empty() { Value::Null } else { document.good(document.schema(&op.takes)) };
        for (name, schema) in &op.query {
            for wrong in wrong_words(schema) {
                let said = admin.call(&op.method, &format!("{path}?{name}={wrong}"), &body).await;
                assert_eq!(said.status, 400, "{} {path}?{name}={wrong}: {}", op.method, said.text());
                assert_eq!(said.error(400)["param"], json!(name), "{} {path}?{name}={wrong}", op.method);
                words += 1;
            }
        }
        if op.needs_body {
            let said = admin.call(&op.method, &path, &Value::Null).await;
            assert_eq!(said.status, 400, "{} {path}: {}", op.method, said.text());
            bodies += 1;
        }
        // What nothing is said of would fit everything.
        let misfits = document.misfits(document.schema(&op.gives), &json!({}), "");
        assert!(!misfits.is_empty(), "{} {path}: an empty object would be an answer", op.method);
    }
    assert!(words > 20 && bodies > 5, "{words} values and {bodies} empty bodies were tried");
    assert_eq!(state(&admin).await, before, "nothing was changed by any of them");
}

/// What the document says each route needs, as the set of callers that have it.
fn allowed(needs: &str, role: &str, of_tenant: bool) -> bool {
    let all = !of_tenant;
    match needs.trim_start_matches("Needs the role ").trim_end_matches('.') {
        "viewer" => role != "inference",
        "viewer of all tenants" => role != "inference" && all,
        "auditor" => all && ["auditor", "admin"].contains(&role),
        "operator" => ["operator", "admin"].contains(&role),
        "operator of all tenants" => all && ["operator", "admin"].contains(&role),
        "admin" => all && role == "admin",
        other => panic!("a need that nobody knows: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_asks_for_the_role_that_the_document_names() {
    let (_vendor, _house, admin, document) = house().await;
    admin.tenant(json!({"id": "acme"})).await;
    let mut callers = Vec::new();
    for role in ["inference", "viewer", "auditor", "operator", "admin"] {
        for tenant in [None, Some("acme")] {
            // Keys that ask models are of a tenant, those that see or change everything of none.
            if (role == "inference" && tenant.is_none())
                || (["auditor", "admin"].contains(&role) && tenant.is_some())
            {
                continue;
            }
            let mut spec = json!({"role": role});
            if let Some(t) = tenant {
                spec["tenant"] = json!(t);
            }
            callers.push((role, tenant.is_some(), admin.key(spec).await.1));
        }
    }
    for op in document.operations() {
        // A body that none takes and names of nothing: who may come in is told of that, and nothing is changed.
        let path = path(&op, "000000000000", "pk-none");
        let body = if op.takes.is_empty() { Value::Null } else { json!({"no_such_member": 1}) };
        for (role, of_tenant, key) in &callers {
            let said = admin.call_as(key, &op.method, &path, &body).await;
            let refused = [401, 403].contains(&said.status);
            let want = !allowed(&op.needs, role, *of_tenant);
            assert_eq!(
                refused,
                want,
                "{role} (of a tenant: {of_tenant}) {} {path}: {}",
                op.method,
                said.text()
            );
        }
        for wrong in ["", "sk-to-nobody", "sk-to-000000000000_0", "Bearer", "\u{7f}"] {
            let said = admin.call_as(wrong, &op.method, &path, &body).await;
            assert!([400, 401].contains(&said.status), "{} {path}: {}", op.method, said.text());
        }
        for method in ["PUT", "TRACE", "GET", "POST", "PATCH", "DELETE"] {
            let known = document.operations().iter().any(|o| o.method == method && o.path == op.path);
            if !known {
                let said = admin.call(method, &path, &Value::Null).await;
                assert_eq!(said.status, 405, "{method} {path}: {}", said.text());
                let allowed = said.header("allow").unwrap_or_default();
                assert!(allowed.split(", ").any(|m| m == op.method), "{method} {path}: {allowed}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_no_longer_hold_open_nothing() {
    let (_vendor, mut house, admin, document) = house().await;
    admin.tenant(json!({"id": "acme"})).await;
    // Not before the key is there, which may take its time.
    let soon = tests::now_ms() + 10_000;
    let (_, expired) = admin.key(json!({"role": "admin", "expires_ms": soon})).await;
    let (id, revoked) = admin.key(json!({"role": "admin"})).await;
    let (rotated_id, rotated) = admin.key(json!({"role": "admin"})).await;
    let (_, suspended) = admin.key(json!({"role": "operator", "tenant": "acme"})).await;
    assert_eq!(admin.call_as(&revoked, "GET", "/keys", &Value::Null).await.status, 200);
    admin.call("DELETE", &format!("/keys/{id}"), &Value::Null).await;
    admin.call("POST", &format!("/keys/{rotated_id}/rotate"), &json!({"grace_s": 0})).await;
    admin.call("PATCH", "/tenants/acme", &json!({"suspended": true})).await;
    tests::past(soon).await;
    let refused = async |admin: &Admin| {
        for (what, key) in
            [("expired", &expired), ("revoked", &revoked), ("rotated", &rotated), ("suspended", &suspended)]
        {
            for op in document.operations() {
                let path = path(&op, "000000000000", "pk-none");
                let said = admin.call_as(key, &op.method, &path, &Value::Null).await;
                assert_eq!(said.status, 401, "{what} {} {path}: {}", op.method, said.text());
                assert_eq!(said.error(401)["code"], "invalid_admin_key");
            }
        }
    };
    refused(&admin).await;
    house.kill().await;
    house.restart().await;
    refused(&Admin::of(&house)).await;
}

/// And whatever changes something stands on the audit trail.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_what_the_document_says() {
    let (_vendor, house, admin, document) = house().await;
    admin.tenant(json!({"id": "acme", "limits": [{"metric": "usd", "amount": 5, "per": "day"}]})).await;
    let (key, text) = admin.key(json!({"tenant": "acme", "labels": {"team": "red"}})).await;
    let kept =
        admin.call("POST", "/provider-keys", &json!({"provider": "alpha", "key": "sk-abcdefgh"})).await;
    let kept = kept.json()["id"].as_str().unwrap().to_owned();
    let asked = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(tests::admin::send(house.client(), &text, "/v1/chat/completions", &asked).await.status, 200);
    let asks = json!({"model": "auto", "user": "asks", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(tests::admin::send(house.client(), &text, "/v1/chat/completions", &asks).await.status, 409);
    let standing = admin.call("GET", "/approvals", &Value::Null).await.json();
    let approval = standing["data"][0]["id"].as_str().unwrap().to_owned();
    // A bundle before the one in force, which can be gone back to, tried and compared.
    let other = json!({"files": {"routing_rules.yaml": "version: 1\n"}});
    let other = admin.call("POST", "/bundles", &other).await.json()["hash"].as_str().unwrap().to_owned();
    admin.call("POST", &format!("/bundles/{other}/activate"), &Value::Null).await;
    admin.call("POST", "/bundles/rollback", &Value::Null).await;
    let tried = json!({"files": {"routing_rules.yaml": format!("{RULES}# tried\n")}});
    let tried = admin.call("POST", "/bundles", &tried).await.json()["hash"].as_str().unwrap().to_owned();
    let bodies = [
        ("POST /bundles", json!({"files": {"routing_rules.yaml": "version: 1\n# new\n"}, "message": "try"})),
        ("POST /approvals/{approval}", json!({"decision": "approve", "as": "user:dana"})),
        ("PUT /pools/{pool}", json!({"models": ["*"], "where": "model.tier >= 1", "min": 1})),
        (
            "PUT /policies/{policy}",
            json!({"source": "id: ask\nmode: disabled\nactions: { deny: no }\n", "kind": "rule"}),
        ),
        ("POST /tenants", json!({"id": "fresh", "tier": "gold"})),
        ("PATCH /tenants/{tenant}", json!({"title": "Acme", "region": null})),
        ("POST /keys", json!({"tenant": "acme", "name": "web"})),
        ("PATCH /keys/{key}", json!({"name": "other", "limits": null})),
        ("POST /keys/{key}/rotate", json!({"grace_s": 60})),
        ("POST /provider-keys", json!({"provider": "alpha", "key": "sk-ijklmnop"})),
        ("PATCH /provider-keys/{id}", json!({"limits": [{"metric": "concurrency", "amount": 4}]})),
        ("POST /statistics/rollback", json!({"to": "2099-01-01T00:00:00Z"})),
    ];
    let mut operations = document.operations();
    // What removes comes last; the tenant with keys cannot go, the fresh one can.
    // Changes of the bundle in force come after what names bundles by their place.
    let changes = |path: &str| path.starts_with("/pools") || path.starts_with("/policies");
    operations.sort_by_key(|op| {
        let last = changes(&op.path);
        (last, op.method == "DELETE", last && op.method == "GET", op.path.contains('{'), op.path.len())
    });
    for op in operations {
        if op.path == "/reload" {
            house.folder().write("routing_rules.yaml", &format!("{RULES}# changed\n"));
        }
        let last = last_line(&admin).await;
        let body = bodies.iter().find(|(n, _)| *n == format!("{} {}", op.method, op.path));
        let body = body.map_or(Value::Null, |(_, b)| b.clone());
        let mut path = path(&op, &key, &kept).replace("apr_none", &approval);
        if op.path.ends_with("/shadow") {
            // What is put in force is not tried any more.
            path = format!("/bundles/{tried}/shadow");
        }
        if op.method == "DELETE" && op.path == "/tenants/{tenant}" {
            path = "/tenants/fresh".to_owned();
        }
        let said = admin.call(&op.method, &path, &body).await;
        assert!(op.statuses.contains(&said.status), "{} {path}: {} {}", op.method, said.status, said.text());
        let misfits = document.misfits(document.schema(&op.gives), &said.json(), "");
        assert!(misfits.is_empty(), "{} {path}: {misfits:#?}", op.method);
        let written = last_line(&admin).await > last;
        assert_eq!(written, op.method != "GET", "{} {path} and the audit trail", op.method);
    }
}

/// The number of the newest line of the audit trail.
async fn last_line(admin: &Admin) -> u64 {
    let lines = admin.call("GET", "/audit?limit=1", &Value::Null).await.json();
    lines["data"][0]["seq"].as_u64().unwrap_or_else(|| panic!("{lines}"))
}

/// Somebody with access to the files, but not to the signing key, adds, changes, swaps or removes a line.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_audit_entry_is_found() {
    let (_vendor, mut house, admin, _document) = house().await;
    for i in 0..6 {
        admin.tenant(json!({"id": format!("t{i}")})).await;
    }
    house.stop().await;
    let good = house.cli(&["audit", "verify"]).await;
    assert!(good.status.success(), "{good:?}");
    let folder = house.folder().path().join("data/audit");
    let file = std::fs::read_dir(&folder).unwrap().flatten().map(|e| e.path());
    let file = file.filter(|p| p.extension().is_some_and(|e| e == "jsonl")).max().expect("a file of lines");
    let whole = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let made =
        lines.iter().position(|l| l.contains("tenant.create") && l.contains("\"t2\"")).expect("its line");
    let swap = |a: usize, b: usize| {
        let mut l = lines.clone();
        l.swap(a, b);
        l.join("\n") + "\n"
    };
    let without = |i: usize| {
        let mut l = lines.clone();
        l.remove(i);
        l.join("\n") + "\n"
    };
    let forged = [
        ("another target", whole.replacen("\"t2\"", "\"tX\"", 1)),
        ("another actor", whole.replacen("\"local\"", "\"other\"", 1)),
        ("a line left out", without(made)),
        ("two lines swapped", swap(made, made + 1)),
        ("a line twice", format!("{whole}{}\n", lines[made])),
        ("a line of one's own", format!("{whole}{}\n", lines[made].replace("\"t2\"", "\"mine\""))),
    ];
    for (what, text) in forged {
        assert_ne!(text, whole, "{what}");
        std::fs::write(&file, &text).unwrap();
        let found = house.cli(&["audit", "verify"]).await;
        assert!(!found.status.success(), "{what} was not found: {found:?}");
        assert!(String::from_utf8_lossy(&found.stderr).contains("broken at line"), "{what}: {found:?}");
    }
    std::fs::write(&file, &whole).unwrap();
    assert!(house.cli(&["audit", "verify"]).await.status.success());
}
