//! The anchors of the audit trail leave the machine: an address is told of each, signed and again until it takes it, and what
//! it was told shows that lines are missing though every file here was taken back.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tests::admin::Admin;
use tests::house::{House, Model, Plan, cli};
use tests::service::Service;
use tests::vendor::{Dialect, Vendor};

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "a-secret-of-more-than-thirty-two-bytes";

async fn start(vendor: &Vendor, url: &str) -> House {
    let settings = format!(
        "webhooks: {{ allow_hosts: [127.0.0.1], allow_http: true, allow_private: true }}\naudit: {{ anchor_url: \"{url}\" }}"
    );
    Plan::new()
        .vendor("lab", vendor)
        .model(&Model::new("lab/one"))
        .rules(NO_CHANCE)
        .settings(&settings)
        .env("TURNOUT_WEBHOOK_SECRET", SECRET)
        .start()
        .await
}

async fn ready(house: &House) -> Value {
    house.client().get("/readyz").await.json()
}

fn seq(body: &Value) -> u64 {
    body["data"]["seal"]["seq"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_that_was_told_shows_a_trail_that_was_cut() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let up = Arc::new(AtomicBool::new(false));
    let takes = up.clone();
    let hook =
        Service::start(move |_| (if takes.load(Relaxed) { 204 } else { 503 }, String::new(), Duration::ZERO))
            .await;
    let mut house = start(&vendor, &format!("{}/anchors", hook.origin())).await;
    let admin = Admin::of(&house);
    // The receiver is down: changes are made all the same, and somebody is told.
    admin.tenant(json!({"id": "early"})).await;
    house.stop().await;
    house.restart().await;
    let admin = Admin::of(&house);
    let failing = || async { ready(&house).await["degraded"].to_string().contains("anchor_url") };
    let seen = tokio::time::timeout(PATIENCE, async {
        while !failing().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(seen.await.is_ok(), "{}", ready(&house).await);
    assert!(
        house
            .client()
            .get("/metrics")
            .await
            .text()
            .contains("turnout_audit_anchors_total{result=\"failed\"}")
    );
    admin.tenant(json!({"id": "later"})).await;
    // It is back: the newest is sent again, signed.
    up.store(true, Relaxed);
    let seen = tokio::time::timeout(PATIENCE, async {
        while failing().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(seen.await.is_ok(), "{}", ready(&house).await);
    let told = hook.asked();
    let first = told.last().unwrap();
    assert_eq!((first.path.as_str(), &first.body["type"]), ("/anchors", &json!("audit.anchor")));
    assert!(first.header("x-turnout-webhook-signature").is_some_and(|s| s.starts_with("sha256=")));
    // Everything as it is now, to be put back by whoever takes the last lines away.
    let folder = house.folder().path().join("data");
    house.stop().await;
    let copy = tempfile::tempdir().unwrap();
    let before: Vec<(std::path::PathBuf, Vec<u8>)> = tests::admin::files(&folder)
        .into_iter()
        .filter(|(path, _)| path.contains("audit"))
        .map(|(path, bytes)| (path.into(), bytes))
        .collect();
    house.restart().await;
    Admin::of(&house).tenant(json!({"id": "evil"})).await;
    house.stop().await;
    let longest = seq(&first.body);
    house.restart().await;
    let newer = || hook.asked().iter().any(|b| seq(&b.body) > longest);
    assert!(tests::eventually(PATIENCE, newer).await, "the next seal is told as well");
    house.stop().await;
    let bodies: Vec<String> = hook.asked().iter().map(|b| b.body.to_string()).collect();
    let kept = copy.path().join("anchors.jsonl");
    std::fs::write(&kept, bodies.join("\n")).unwrap();
    let verify = async |anchor: &str| {
        let said = cli(house.folder(), &["audit", "verify", "--anchor", anchor]).await;
        (
            said.status.code(),
            String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr),
        )
    };
    let kept = kept.to_str().unwrap();
    let (code, said) = verify(kept).await;
    assert!(code == Some(0) && said.contains("says the anchor"), "{said}");
    // The trail and its own anchor are taken back to an earlier day: by themselves they hold.
    for (path, bytes) in &before {
        std::fs::write(path, bytes).unwrap();
    }
    let own = folder.join("audit.anchor");
    let (code, said) = verify(own.to_str().unwrap()).await;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = verify(kept).await;
    assert!(code != Some(0) && said.contains("lines are missing"), "{said}");
    let odd = copy.path().join("odd");
    std::fs::write(&odd, "{\"data\": 1}").unwrap();
    assert!(verify(odd.to_str().unwrap()).await.1.contains("is no anchor"));
}
