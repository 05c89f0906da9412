//! A bundle under which requests fail goes back by itself, and says so.

use serde_json::{Value, json};
use tests::admin::Admin;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

fn ask() -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": "hello"}]})
}

/// Status and bundle of so many requests.
async fn storm(house: &House, n: usize) -> Vec<(u16, String)> {
    let mut all = Vec::new();
    for _ in 0..n {
        let answer = house.client().chat(&ask()).await;
        all.push((answer.status, answer.header("x-turnout-bundle").unwrap_or_default().to_owned()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_denies_everybody_goes_back_by_itself_and_is_told_of() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = Plan::new().vendor("alpha", &vendor).model(&Model::new("alpha/one")).rules(crate::NO_CHANCE);
    let mut house = house.settings("reload: { debounce: 100ms }\n").start().await;
    let admin = Admin::of(&house);
    let good = storm(&house, 5).await;
    assert!(good.iter().all(|(status, _)| *status == 200));
    let first = good[0].1.clone();

    let rule = "rules:\n  - { id: nobody, actions: { deny: { reason: closed, code: closed } } }\n";
    house.folder().write("routing_rules.yaml", &format!("{}{rule}", crate::NO_CHANCE));
    let reloaded = admin.call("POST", "/reload", &json!({})).await;
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    let bad = admin.call("GET", "/bundles", &Value::Null).await.json()["active"].as_str().unwrap().to_owned();
    assert_ne!(bad, first);
    let denied = storm(&house, 499).await;
    assert!(
        denied.iter().all(|(status, _)| *status == 403),
        "it is watched, not judged by its first requests"
    );

    // The five hundredth is enough.
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let (status, bundle) = storm(&house, 1).await.remove(0);
        if status == 200 {
            assert_eq!(bundle, first);
            break;
        }
        assert!(tokio::time::Instant::now() < end, "it stays in force\n{}", house.log());
    }
    let ready = house.client().get("/readyz").await;
    assert!(
        ready.status == 200 && ready.text().contains(&format!("bundle {bad} went back by itself")),
        "{}",
        ready.text()
    );
    let trail = admin.call("GET", "/audit?limit=1000", &Value::Null).await.text();
    assert!(
        trail.contains("bundle.auto_rollback") && trail.contains("of its first 500 requests were denied"),
        "{trail}"
    );
    assert!(house.cli(&["audit", "verify"]).await.status.success());

    let metrics = house.client().get("/metrics").await.text();
    let counted = metrics.lines().find(|l| l.starts_with("turnout_policy_refusals_total{rule=\"nobody\"}"));
    let counted: u64 = counted.unwrap_or_default().rsplit(' ').next().unwrap_or_default().parse().unwrap();
    assert!(counted >= 500, "{counted}");

    // Who rolls back a moment later, or asks again for what was lost, does not take it up again; nor after a restart.
    for round in ["at once", "after a restart"] {
        let admin = Admin::of(&house);
        let refused = admin.call("POST", "/bundles/rollback", &Value::Null).await.error(409);
        assert_eq!(refused["code"], "went_back", "{round}: {refused}");
        assert!(refused["message"].as_str().unwrap().contains("of its first 500 requests"), "{refused}");
        assert_eq!(storm(&house, 1).await, [(200, first.clone())], "{round}");
        let listed = admin.call("GET", "/bundles", &Value::Null).await.json();
        let row = listed["data"].as_array().unwrap().iter().find(|row| row["hash"] == *bad).unwrap().clone();
        assert!(row["went_back"].is_string() && row["state"] == "previous", "{row}");
        let ready = house.client().get("/readyz").await.text();
        assert!(ready.contains(&format!("bundle {bad} went back by itself")), "{round}: {ready}");
        if round == "at once" {
            house.stop().await;
            house.restart().await;
        }
    }
    let admin = Admin::of(&house);
    assert_eq!(storm(&house, 60).await.iter().filter(|(status, _)| *status == 200).count(), 60);

    // Whoever means it says so again; the server does not insist before it has seen as many requests anew.
    let path = format!("/bundles/{bad}/activate");
    let refused = admin.call("POST", &path, &json!({})).await;
    let error = refused.error(409);
    assert_eq!(error["code"], "too_much_changes", "{error}");
    assert!(error["message"].as_str().unwrap().contains("newly refused (`nobody` in "), "{error}");
    assert!(error["message"].as_str().unwrap().contains("--dry-run"), "{error}");
    // Which requests these are is told while the server runs, and nothing changes by that.
    let foretold = admin.call("POST", &format!("{path}?dry_run=true"), &json!({})).await.json();
    let replay = &foretold["replay"];
    assert!(foretold["dry_run"] == true && foretold["state"] == "previous", "{foretold}");
    assert_eq!(
        (&replay["new_denials"], &replay["exceeds"]),
        (&replay["requests"], &json!("max_new_denials"))
    );
    assert!(
        replay["rules"]["nobody"]["examples"][0].as_str().is_some_and(|id| id.starts_with("req_")),
        "{replay}"
    );
    let out = house.cli(&["bundle", "activate", &bad, "--dry-run"]).await;
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success() && told.contains("nobody") && told.contains("nothing was changed"),
        "{out:?}"
    );
    assert_eq!(storm(&house, 1).await, [(200, first.clone())]);
    let out = house.cli(&["bundle", "activate", &bad]).await;
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("acknowledge"), "{out:?}");
    assert_eq!(storm(&house, 1).await[0].0, 200);
    let trail = admin.call("GET", "/audit?limit=1000", &Value::Null).await.json();
    let lines = trail["data"].as_array().unwrap().iter().filter(|l| l["action"] == "admin.denied");
    let told: Vec<(&Value, &Value)> = lines.map(|l| (&l["target"], &l["detail"]["code"])).collect();
    assert_eq!(told, [(&json!(path), &json!("too_much_changes")); 2], "{trail:#}");
    let again = house.cli(&["bundle", "activate", &bad, "--acknowledge"]).await;
    assert!(again.status.success(), "{again:?}");
    let trail = admin.call("GET", "/audit?limit=1000", &Value::Null).await.json();
    let line = trail["data"].as_array().unwrap().iter().find(|l| l["action"] == "bundle.activate");
    let told = &line.unwrap_or_else(|| panic!("{trail:#}"))["detail"];
    assert_eq!(told["acknowledged"], true, "{told}");
    assert_eq!(told["newly_refused"], told["requests"], "{told}");
    assert_eq!(storm(&house, 20).await.iter().filter(|(status, _)| *status == 403).count(), 20);
    assert!(!house.client().get("/readyz").await.text().contains("went back"));
}

/// A start is as good a way for a bundle to come into force as any other, and where it was watched it still is.
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_comes_with_a_start_is_watched_and_so_is_one_that_a_start_interrupts() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = Plan::new().vendor("alpha", &vendor).model(&Model::new("alpha/one")).rules(crate::NO_CHANCE);
    let mut house = house.settings("reload: { watch: false }\n").start().await;
    let first = storm(&house, 5).await.remove(0).1;
    house.stop().await;
    let rule = "rules:\n  - { id: nobody, actions: { deny: { reason: closed, code: closed } } }\n";
    house.folder().write("routing_rules.yaml", &format!("{}{rule}", crate::NO_CHANCE));
    house.restart().await;
    assert!(storm(&house, 20).await.iter().all(|(status, _)| *status == 403));
    house.stop().await;
    house.restart().await;
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    assert!(storm(&house, 499).await.iter().all(|(status, _)| *status == 403));
    while storm(&house, 1).await.remove(0) != (200, first.clone()) {
        assert!(tokio::time::Instant::now() < end, "it stays in force\n{}", house.log());
    }
}

/// Whatever refuses: what rules say of answers, and what they do not let through, as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_refuses_every_answer_goes_back_too() {
    for rule in [
        "{ id: nobody, phase: response, actions: { deny: closed } }",
        "{ id: nobody, actions: { redact: { entities: [email], in: [output], action: block } } }",
    ] {
        let vendor =
            Vendor::scripted(Dialect::OpenAi, |_| Reply::text("write to ada@analytical.co.uk")).await;
        let house =
            Plan::new().vendor("alpha", &vendor).model(&Model::new("alpha/one")).rules(crate::NO_CHANCE);
        let house = house.settings("reload: { debounce: 100ms }\n").start().await;
        let first = storm(&house, 1).await.remove(0).1;
        house.folder().write("routing_rules.yaml", &format!("{}rules:\n  - {rule}\n", crate::NO_CHANCE));
        assert_eq!(Admin::of(&house).call("POST", "/reload", &json!({})).await.status, 200);
        assert!(storm(&house, 499).await.iter().all(|(status, _)| *status == 403), "{rule}");
        let end = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let (status, bundle) = storm(&house, 1).await.remove(0);
            if status == 200 {
                assert_eq!(bundle, first);
                break;
            }
            assert!(tokio::time::Instant::now() < end, "{rule}: it stays in force\n{}", house.log());
        }
    }
}
