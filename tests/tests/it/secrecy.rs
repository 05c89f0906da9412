//! No byte of a key in what the server writes or says: logs, errors, answers, metrics, the control API, explanations,
//! every file of the data folder. Searched for byte by byte, as text, in hex and in base64.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::time::Duration;
use tests::admin::{Admin, files, get, send};
use tests::house::{Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

/// Base64 of the standard alphabet, without the last incomplete group: that is what can be searched for.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let of = |n: u32| ALPHABET[(n & 63) as usize];
    bytes
        .chunks_exact(3)
        .flat_map(|c| {
            let n = u32::from(c[0]) << 16 | u32::from(c[1]) << 8 | u32::from(c[2]);
            [of(n >> 18), of(n >> 12), of(n >> 6), of(n)]
        })
        .collect()
}

/// The forms in which a secret might stand somewhere. Its middle is searched for: a cut or masked copy counts.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let core = &secret.as_bytes()[secret.len() / 4..secret.len() - 4];
    let hex: String = core.iter().map(|b| format!("{b:02x}")).collect();
    let mut all = vec![core.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    // The three ways in which a text can lie in base64.
    all.extend((0..3).map(|skip| base64(&core[skip..])));
    all
}

fn search(name: &str, haystack: &[u8], needles: &[(String, Vec<Vec<u8>>)]) {
    for (secret, forms) in needles {
        for form in forms {
            assert!(!haystack.windows(form.len()).any(|w| w == &form[..]), "{secret} stands in {name}");
        }
    }
}

#[test]
fn the_search_finds_what_is_there() {
    let needles = vec![("s".to_owned(), forms("sk-secret-0123456789-abcdef"))];
    let found = |text: &[u8]| std::panic::catch_unwind(|| search("x", text, &needles)).is_err();
    assert!(found(b"key: sk-secret-0123456789-abcdef;") && !found(b"nothing of it"));
    assert!(found(b"sk-s...ret-0123456789-ab...") && found(&base64(b"a key: sk-secret-0123456789-abcdef")));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_key_stands_anywhere() {
    // One of a known form, one that looks like a word, one of a form that nothing tells from others.
    let upstream = ["sk-env-THROTTLED-9f8e7d6c5b4a", "plain-GOODKEY-as-any-word", "fw_REVOKEDabcdefghijkl"];
    let master = "master-SECRET-of-more-than-thirty-two-bytes";
    // A vendor that repeats the credential in its errors and in its answer, as some do.
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| {
        let key = seen.header("authorization").unwrap_or("").to_owned();
        let message = format!("Incorrect API key provided: {key}. Check {key}.");
        if key.contains("THROTTLED") {
            Reply::Error { status: 429, headers: vec![("retry-after".into(), "1".into())], message }
        } else if key.contains("REVOKED") {
            Reply::Error { status: 401, headers: Vec::new(), message }
        } else if seen.bytes.windows(5).any(|w| w == b"break") {
            let message = format!("this request of {key} is no good");
            Reply::Error { status: 400, headers: vec![("x-key".into(), key)], message }
        } else {
            Reply::text("hello")
        }
    })
    .await;
    let mut house = Plan::new()
        .vendor("alpha", &vendor)
        .with_key("alpha", "[KEY_A, KEY_B]")
        .model(&Model::new("alpha/one"))
        .rules(NO_CHANCE)
        .env("KEY_A", upstream[0])
        .env("KEY_B", upstream[1])
        .env("TURNOUT_MASTER_KEY", master)
        .env("TURNOUT_LOG", "trace")
        .start()
        .await;
    let admin = Admin::of(&house);
    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    let stored = admin
        .call("POST", "/provider-keys", &json!({"provider": "alpha", "name": "spare", "key": upstream[2]}))
        .await;
    assert_eq!(stored.status, 201);
    said.push(("provider-key create".to_owned(), stored.body));
    // Virtual keys: in use, rotated, revoked, wrong by one character, never made here.
    let (id, used) = admin.key(json!({"limits": []})).await;
    let rotated = admin.call("POST", &format!("/keys/{id}/rotate"), &json!({"grace_s": 600})).await.json();
    let new = rotated["key"].as_str().unwrap().to_owned();
    let (gone, revoked) = admin.key(json!({})).await;
    admin.call("DELETE", &format!("/keys/{gone}"), &Value::Null).await;
    let wrong = format!("{}{}", &used[..used.len() - 1], if used.ends_with('x') { 'y' } else { 'x' });
    let stranger = "sk-to-strangerstra_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789AbCdEfGh123456";
    let mut ids = Vec::new();
    for key in [&used, &new, &revoked, &wrong, stranger, upstream[0], "nonsense-credential-0123456789"] {
        for text in ["say hello", "break it"] {
            let body = json!({
                "model": "auto", "routing": {"explain": true, "max_latency_ms": 5000},
                "messages": [{"role": "user", "content": text}],
            });
            let answer = send(house.client(), key, "/v1/chat/completions", &body).await;
            ids.extend(answer.header("x-turnout-decision").map(str::to_owned));
            let headers = format!("{:?}", answer.headers);
            said.push((format!("answer to {text}"), answer.body));
            said.push((format!("headers of the answer to {text}"), headers.into_bytes()));
        }
        for path in ["/keys", "/audit"] {
            said.push((
                format!("{path} with a key"),
                admin.call_as(key, "GET", path, &Value::Null).await.body,
            ));
        }
    }
    assert!(ids.len() >= 2, "some requests were decided");
    for id in &ids {
        said.push((
            "decision".to_owned(),
            get(house.client(), &new, &format!("/v1/decisions/{id}")).await.body,
        ));
    }
    for path in [
        "/openapi.json",
        "/whoami",
        "/tenants",
        "/keys",
        "/providers",
        "/models",
        "/provider-keys",
        "/budgets",
        "/usage?group_by=key",
        "/bundle",
        "/audit?limit=1000",
    ] {
        let answer = admin.call("GET", path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{path}");
        said.push((path.to_owned(), answer.body));
    }
    for path in ["/metrics", "/readyz", "/healthz"] {
        said.push((path.to_owned(), house.client().get(path).await.body));
    }
    for args in [
        &["key", "list"][..],
        &["provider-key", "list"],
        &["audit", "list"],
        &["usage", "--json"],
        &["check", "--json"],
        &["models", "--json"],
        &["explain", &ids[0], "--json"],
    ] {
        let out = house.cli(args).await;
        said.push((format!("{args:?}"), [out.stdout, out.stderr].concat()));
    }
    // A killed process leaves its journals and write-ahead logs as they are; one that is stopped, its last state.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    house.kill().await;
    said.push(("log".to_owned(), house.log().into_bytes()));
    let left = files(house.folder().path());
    assert!(left.iter().any(|(n, _)| n.ends_with("-wal")), "a write-ahead log was looked at");
    said.extend(left);
    house.restart().await;
    house.stop().await;
    said.push(("second log".to_owned(), house.log().into_bytes()));
    said.extend(files(&house.folder().path().join("data")));

    let mut needles: Vec<(String, Vec<Vec<u8>>)> =
        upstream.iter().chain([&master, &stranger]).map(|s| ((*s).to_owned(), forms(s))).collect();
    // The public part of a virtual key is its id; what follows it is the secret.
    for key in [&used, &new, &revoked] {
        let secret =
            key.rsplit_once('_').filter(|(_, s)| s.len() >= 40).map_or_else(|| &key[19..], |(_, s)| s);
        needles.push((key.clone(), forms(secret)));
    }
    for (name, bytes) in &said {
        search(name, bytes, &needles);
    }
}

/// A dump would hold every key that the process holds.
#[tokio::test(flavor = "multi_thread")]
async fn no_core_is_dumped() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("x")).await;
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", house.pid())).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    let numbers: Vec<&str> = core.split_whitespace().filter(|w| w.parse::<u64>().is_ok()).collect();
    assert_eq!(numbers, ["0", "0"], "{core}");
}

/// Masks e-mail addresses on the way out and in what is recorded.
const MASKED: &str = "rules:
  - { id: mask, actions: { redact: { entities: [email], action: mask, in: [input, logs] } } }
";

/// What a rule masks in records lies nowhere in the data folder: not in labels, not in what is said of an answer later,
/// not in a request for a run, which is refused before anything of it is written.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_masked_in_records_stands_in_no_file() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let mut house = Plan::new()
        .vendor("alpha", &vendor)
        .model(&Model::new("alpha/one"))
        .rules(&format!("{NO_CHANCE}{MASKED}"))
        .start()
        .await;
    let admin = Admin::of(&house);
    let limits = json!([{"metric": "requests", "amount": 100, "per": "day"}]);
    let (key_id, key) = admin.key(json!({"limits": limits})).await;
    let address = |n: u32| format!("ada{n}.of.the.marked@analytical.co.uk");
    let ask = |text: String| json!({"model": "auto", "messages": [{"role": "user", "content": text}]});

    let mut body = ask(address(1));
    body["routing"] = json!({"tags": {"who": address(2)}});
    body["metadata"] = json!({"tags": [address(3)]});
    body["routing"]["validators"] =
        json!([{"use": "keywords", "with": {"all": [address(7)]}, "severity": "warn"}]);
    let answer = send(house.client(), &key, "/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let id = answer.header("x-turnout-decision").unwrap().to_owned();
    let word = json!({"request_id": id, "score": 0.5, "reason": format!("ask {}", address(4))});
    assert_eq!(send(house.client(), &key, "/v1/feedback", &word).await.status, 200);
    let again = send(house.client(), &key, "/v1/feedback", &word).await.json();
    assert_eq!(again["duplicate"], true, "{again}");

    // Neither as a run nor in the background; what is refused is on record, and counts as a request.
    let run = json!({"request": ask(address(5))});
    let refused = send(house.client(), &key, "/v1/runs", &run).await;
    assert_eq!(refused.error(403)["code"], "not_in_runs", "{}", refused.text());
    let auth = format!("Bearer {key}");
    let headers =
        [("authorization", auth.as_str()), ("content-type", "application/json"), ("prefer", "respond-async")];
    let asked = ask(address(6)).to_string();
    let refused = house.client().send("POST", "/v1/chat/completions", &headers, asked.as_bytes()).await;
    assert_eq!(refused.error(403)["code"], "not_in_runs", "{}", refused.text());
    assert_eq!(get(house.client(), &key, "/v1/runs").await.json()["data"], json!([]));
    let budgets = admin.call("GET", "/budgets", &Value::Null).await.json();
    assert_eq!(budgets["data"][0]["used"], 3.0, "{budgets}");
    assert_eq!(vendor.count(), 1);

    let told = get(house.client(), &key, &format!("/v1/decisions/{id}")).await;
    assert_eq!(told.json()["decision"]["key"], key_id, "{}", told.text());
    let told = told.text();
    assert!(told.contains("[EMAIL_") && !told.contains("of.the.marked"), "{told}");
    house.stop().await;
    let data = house.folder().path().join("data");
    for (name, bytes) in files(&data) {
        let found = bytes.windows(13).any(|w| w == b"of.the.marked");
        assert!(!found, "an address stands in {name}");
    }
}
