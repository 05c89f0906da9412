//! A configuration is in force whole or not at all, whoever brings it: files that change, a signal, an upload.
//! Every answer says under which one it was decided, and the one before is a moment away.

use serde_json::{Value, json};
use std::process::Output;
use std::time::Duration;
use tests::admin::Admin;
use tests::client::Client;
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Gate, Reply, Vendor};

const PATIENCE: Duration = Duration::from_secs(20);

fn ask() -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": "say something"}]})
}

/// Only this model answers, and a rule of its own says so.
fn only(model: &str) -> String {
    let other = if model == "one" { "two" } else { "one" };
    format!(
        "version: 1\nexploration:\n  epsilon: 0\nrules:\n  - id: only_{model}\n    actions: {{ exclude: [alpha/{other}] }}\n"
    )
}

/// Two models, of which the rules of `only("one")` leave the first.
async fn house() -> (Vendor, House) {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = plan(&vendor).start().await;
    (vendor, house)
}

fn plan(vendor: &Vendor) -> Plan {
    Plan::new()
        .vendor("alpha", vendor)
        .model(&Model::new("alpha/one"))
        .model(&Model::new("alpha/two"))
        .rules(&only("one"))
        .settings("reload: { debounce: 100ms }\n")
}

/// Which bundle answers, and with which model.
async fn served(client: Client) -> (String, String) {
    let answer = client.chat(&ask()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    (
        answer.header("x-turnout-bundle").unwrap().to_owned(),
        answer.json()["model"].as_str().unwrap().to_owned(),
    )
}

async fn until_served_by(house: &House, model: &str) -> String {
    let wait = async {
        loop {
            let (bundle, by) = served(house.client()).await;
            if by == model {
                return bundle;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    waited.unwrap_or_else(|_| panic!("{model} never answered\n{}", house.log()))
}

async fn bundles(house: &House) -> Value {
    Admin::of(house).call("GET", "/bundles", &Value::Null).await.json()
}

/// Hash and state of every bundle that is listed.
fn states(list: &Value) -> Vec<(String, String)> {
    let rows = list["data"].as_array().unwrap().iter();
    rows.map(|r| (r["hash"].as_str().unwrap().to_owned(), r["state"].as_str().unwrap().to_owned())).collect()
}

async fn metric(house: &House, line: &str) -> bool {
    house.client().get("/metrics").await.text().lines().any(|l| l == line)
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_are_taken_up_whole_and_bad_ones_change_nothing() {
    let (_vendor, house) = house().await;
    let (first, by) = served(house.client()).await;
    assert_eq!(by, "alpha/one");

    house.folder().write("routing_rules.yaml", &only("two"));
    let second = until_served_by(&house, "alpha/two").await;
    assert_ne!(first, second);
    assert_eq!(
        states(&bundles(&house).await)[..2],
        [(second.clone(), "active".into()), (first, "previous".into())]
    );

    // A mistake in one file, written after a change in another that is good.
    house.folder().write("workflows/own.yaml", "version: 1\nname: own\nnodes: 7\n");
    house.folder().write("routing_rules.yaml", &only("one"));
    assert!(tests::eventually(PATIENCE, || house.log().contains("own.yaml:3:8")).await, "{}", house.log());
    // A problem is one record, with its place.
    let log = house.log();
    let errors: Vec<&str> = log.lines().filter(|l| l.contains("ERROR")).collect();
    assert!(
        !errors.is_empty() && errors.iter().all(|l| l.contains("own.yaml:") && l.contains("code")),
        "{log}"
    );
    assert_eq!(served(house.client()).await, (second.clone(), "alpha/two".to_owned()));
    let ready = house.client().get("/readyz").await;
    assert_eq!((ready.status, ready.json()["status"].as_str()), (200, Some("degraded")));
    assert!(ready.text().contains("own.yaml:3:8") && ready.text().contains(&second), "{}", ready.text());
    assert!(metric(&house, "turnout_configuration_refused 1").await);
    assert!(metric(&house, &format!(r#"turnout_bundle{{bundle="{second}",state="active"}} 1.0"#)).await);
    let listed = bundles(&house).await;
    assert_eq!(listed["files"]["state"], "refused");
    let problem = &listed["files"]["problems"][0];
    assert_eq!((problem["line"].as_u64(), problem["column"].as_u64()), (Some(3), Some(8)), "{listed}");
    assert!(problem["file"].as_str().is_some_and(|f| f.ends_with("workflows/own.yaml")), "{listed}");

    // The mistake mended: everything that was changed since is in force.
    std::fs::remove_file(house.folder().path().join("workflows/own.yaml")).unwrap();
    until_served_by(&house, "alpha/one").await;
    let mended = async || house.client().get("/readyz").await.json()["status"] == "ready";
    assert!(mended().await, "{}", house.log());
    assert!(metric(&house, "turnout_configuration_refused 0").await);
    assert_eq!(bundles(&house).await["files"]["state"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_replaced_by_a_rename_and_folders_made_later_are_seen() {
    let (_vendor, house) = house().await;
    let at = house.folder().path();
    house.folder().write("new-rules", &only("two"));
    std::fs::rename(at.join("new-rules"), at.join("routing_rules.yaml")).unwrap();
    until_served_by(&house, "alpha/two").await;
    // A folder that was not there at the start.
    house.folder().write(
        "matrix.d/own.yaml",
        "models:\n  alpha/one: { enabled: false }\n  alpha/two: { enabled: false }\n  alpha/three: { context_window: 9000, max_output_tokens: 900, quality_tier: 2, speed_tier: 1, price: { input: 1, output: 1 } }\n",
    );
    until_served_by(&house, "alpha/three").await;
    std::fs::remove_dir_all(at.join("matrix.d")).unwrap();
    until_served_by(&house, "alpha/two").await;
}

/// A trial that is given a time ends by itself, and what came of it stays; the bundle knows what was in force when it came.
#[tokio::test(flavor = "multi_thread")]
async fn a_trial_may_end_by_itself() {
    let (_vendor, house) = house().await;
    let (first, _) = served(house.client()).await;
    let admin = Admin::of(&house);
    let matrix = std::fs::read_to_string(house.folder().path().join("capability_matrix.yaml")).unwrap();
    let files = json!({"capability_matrix.yaml": matrix, "routing_rules.yaml": only("two")});
    let kept = admin.call("POST", "/bundles", &json!({"files": files})).await.json();
    assert_eq!(kept["parent"], json!(first), "{kept}");
    let path = format!("/bundles/{}/shadow", kept["hash"].as_str().unwrap());
    for wrong in [0, 2_592_001] {
        assert_eq!(admin.call("POST", &path, &json!({"for_s": wrong})).await.error(400)["param"], "for_s");
    }
    let begun = admin.call("POST", &path, &json!({"for_s": 1})).await.json();
    assert!(begun["state"] == "running" && begun["until_ms"].is_u64(), "{begun}");
    let end = tokio::time::Instant::now() + PATIENCE;
    while admin.call("GET", &path, &Value::Null).await.json()["state"] != "ended" {
        assert!(tokio::time::Instant::now() < end, "it goes on\n{}", house.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(admin.call("DELETE", &path, &Value::Null).await.status, 404, "it is tried no more");
    // Or after so many requests, neither more nor fewer.
    for wrong in [0, 1_000_001] {
        let refused = admin.call("POST", &path, &json!({"for_requests": wrong})).await.error(400);
        assert_eq!(refused["param"], "for_requests");
    }
    let begun = admin.call("POST", &path, &json!({"for_requests": 3})).await.json();
    assert!(begun["state"] == "running" && begun["until_requests"] == 3, "{begun}");
    let end = tokio::time::Instant::now() + PATIENCE;
    let report = loop {
        served(house.client()).await;
        let report = admin.call("GET", &path, &Value::Null).await.json();
        if report["state"] == "ended" {
            break report;
        }
        assert!(tokio::time::Instant::now() < end, "it goes on: {report}\n{}", house.log());
    };
    assert_eq!((&report["requests"], &report["dropped"]), (&json!(3), &json!(0)), "{report}");
}

/// `turnout.yaml` holds from the next start on, for the check of files too: what it would allow then is not allowed now, and a
/// mistake in it keeps no good rules out.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_checked_under_the_settings_that_are_in_force() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let mut house = plan(&vendor).settings("reload: { watch: false }\n").start().await;
    let reload = async |house: &House| Admin::of(house).call("POST", "/reload", &json!({})).await;
    let with_tool = format!(
        "{}tools:\n  look:\n    description: Looks something up.\n    url: https://tools.example/look\n    method: GET\n    \
         input_schema: {{ type: object }}\n    side_effect: none\n",
        only("two")
    );
    house.folder().write("routing_rules.yaml", &with_tool);
    house
        .folder()
        .write("turnout.yaml", "reload: { watch: false }\ntools: { allow_hosts: [tools.example] }\n");
    let refused = reload(&house).await.error(422);
    assert!(refused["message"].as_str().unwrap().contains("tools.allow_hosts"), "{refused}");
    assert_eq!(served(house.client()).await.1, "alpha/one");
    house.stop().await;
    house.restart().await;
    assert_eq!(served(house.client()).await.1, "alpha/two");

    house.folder().write("turnout.yaml", "tools: { allow_hsots: 7 }\n");
    house.folder().write("routing_rules.yaml", &with_tool.replace(&only("two"), &only("one")));
    let taken = reload(&house).await;
    assert_eq!(taken.status, 200, "{}", taken.text());
    assert_eq!(served(house.client()).await.1, "alpha/one");
    assert!(house.log().contains("the next start would be refused"), "{}", house.log());
}

/// A start that puts another bundle in force is a change like any other: who looks for it finds it on the trail.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_files_that_changed_is_on_the_audit_trail() {
    let (_vendor, mut house) = house().await;
    let (first, _) = served(house.client()).await;
    house.stop().await;
    house.restart().await;
    let starts = async |house: &House| {
        let all = Admin::of(house).call("GET", "/audit?limit=1000", &Value::Null).await.json();
        let lines = all["data"].as_array().unwrap().iter().filter(|l| l["action"] == "bundle.start");
        lines.map(|l| json!([l["actor"]["id"], l["target"], l["before"], l["after"]])).collect::<Vec<Value>>()
    };
    assert_eq!(starts(&house).await, Vec::<Value>::new(), "the same bundle as before");
    house.stop().await;
    house.folder().write("routing_rules.yaml", &only("two"));
    house.restart().await;
    let (second, by) = served(house.client()).await;
    assert_eq!(by, "alpha/two");
    assert_eq!(starts(&house).await, [json!(["start", second, first, second])]);
}

/// A rule that protects is not gone because what its link leads to is: that is an error, and nothing changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_breaks_takes_no_rule_away() {
    let (_vendor, house) = house().await;
    let at = house.folder().path();
    house.folder().write("real/rules.yaml", &only("two"));
    std::fs::remove_file(at.join("routing_rules.yaml")).unwrap();
    std::os::unix::fs::symlink("real/rules.yaml", at.join("routing_rules.yaml")).unwrap();
    let linked = until_served_by(&house, "alpha/two").await;

    std::fs::rename(at.join("real/rules.yaml"), at.join("real/gone")).unwrap();
    let told = "it is a link to real/rules.yaml, and nothing is there";
    assert!(tests::eventually(PATIENCE, || house.log().contains(told)).await, "{}", house.log());
    assert_eq!(served(house.client()).await, (linked.clone(), "alpha/two".to_owned()));
    let ready = house.client().get("/readyz").await;
    assert_eq!(ready.json()["status"], "degraded", "{}", ready.text());
    assert!(
        ready.text().contains("routing_rules.yaml") && ready.text().contains(&linked),
        "{}",
        ready.text()
    );
    let checked = house.cli(&["check"]).await;
    assert_eq!(checked.status.code(), Some(2), "{}", said(&checked));
    assert!(said(&checked).contains(told), "{}", said(&checked));

    // Taken away as a whole it is absent, as any file may be.
    std::fs::remove_file(at.join("routing_rules.yaml")).unwrap();
    let ready = async || house.client().get("/readyz").await.json();
    let taken = async {
        while ready().await["status"] != "ready" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, taken).await.is_ok(), "{}", house.log());
    assert_ne!(ready().await["bundle"], linked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_emptied_before_it_is_written_is_waited_for() {
    let (_vendor, house) = house().await;
    let before = served(house.client()).await;
    // Without its rules the house would be open to both models; that is not what anybody wrote.
    house.folder().write("routing_rules.yaml", "");
    assert!(tests::eventually(PATIENCE, || house.log().contains("is empty")).await, "{}", house.log());
    assert_eq!(served(house.client()).await, before);
    house.folder().write("routing_rules.yaml", &only("two"));
    until_served_by(&house, "alpha/two").await;

    // Who says so gets it as it is.
    house.folder().write("routing_rules.yaml", "");
    house.signal("HUP").await;
    let empty = || house.log().lines().filter(|l| l.contains("a bundle is in force")).count() >= 2;
    assert!(tests::eventually(PATIENCE, empty).await, "{}", house.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_reads_the_files_where_nobody_watches() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = plan(&vendor).settings("reload: { watch: false }\n").start().await;
    assert_eq!(bundles(&house).await["files"]["watched"], false);
    // Where somebody watches the same is taken up by itself.
    let watched = plan(&vendor).start().await;
    for house in [&house, &watched] {
        house.folder().write("routing_rules.yaml", &only("two"));
    }
    until_served_by(&watched, "alpha/two").await;
    assert_eq!(served(house.client()).await.1, "alpha/one");
    house.signal("HUP").await;
    until_served_by(&house, "alpha/two").await;
    // Asked over the control API, what is in force already stays.
    let admin = Admin::of(&house);
    let before = bundles(&house).await["active"].clone();
    let again = admin.call("POST", "/reload", &json!({})).await;
    assert_eq!((again.status, &again.json()["hash"]), (200, &before));
    assert!(metric(&house, r#"turnout_reloads_total{result="unchanged"} 1"#).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_checked_kept_put_in_force_and_taken_back() {
    let (_vendor, mut house) = house().await;
    let (first, _) = served(house.client()).await;
    let admin = Admin::of(&house);

    // Every problem of every file at once, each with its place; nothing is kept.
    let bad = json!({"files": {
        "routing_rules.yaml": "version: 1\nruels: []\n",
        "workflows/own.yaml": "version: 1\nname: own\nnodes: 7\n",
        "rules.yaml": "version: 1\n",
        "turnout.yaml": "mode: free\n",
    }});
    let refused = admin.call("POST", "/bundles", &bad).await;
    let error = refused.error(422);
    assert_eq!(error["code"], "invalid_configuration");
    let problems = error["metadata"]["problems"].as_array().unwrap();
    for (file, line, hint) in [
        ("routing_rules.yaml", 2, "`rules`"),
        ("workflows/own.yaml", 3, ""),
        ("rules.yaml", 1, "routing_rules.yaml"),
        ("turnout.yaml", 1, "leave the file out"),
    ] {
        let found = problems.iter().find(|p| p["file"] == file && p["severity"] == "error");
        let found = found.unwrap_or_else(|| panic!("nothing of {file}: {problems:#?}"));
        assert!(found["line"] == line && found["column"].as_u64() >= Some(1), "{found}");
        assert!(found["hint"].to_string().contains(hint), "{found}");
    }
    let listed = bundles(&house).await;
    assert_eq!(listed["data"].as_array().unwrap().last().unwrap()["state"], "rejected");

    // A good one is kept, and not in force by that.
    let matrix = std::fs::read_to_string(house.folder().path().join("capability_matrix.yaml")).unwrap();
    let files = json!({"capability_matrix.yaml": matrix, "routing_rules.yaml": only("two")});
    let kept = admin.call("POST", "/bundles", &json!({"files": files, "message": "try two"})).await;
    assert_eq!(kept.status, 201, "{}", kept.text());
    let second = kept.json()["hash"].as_str().unwrap().to_owned();
    assert_eq!(served(house.client()).await.0, first);
    let again = admin.call("POST", "/bundles", &json!({"files": files})).await;
    assert_eq!((again.status, again.json()["hash"].as_str()), (200, Some(second.as_str())));
    // A file that has no place is refused, and that is not held against the files that have one.
    let mut with_notes = files.clone();
    with_notes["notes.txt"] = "remember".into();
    assert_eq!(admin.call("POST", "/bundles", &json!({"files": with_notes})).await.status, 422);
    let known = admin.call("GET", &format!("/bundles/{second}"), &Value::Null).await.json();
    assert_eq!(known["state"], "kept", "{known}");
    let all = states(&bundles(&house).await);
    assert_eq!(all.iter().filter(|(hash, _)| *hash == second).count(), 1, "{all:?}");
    assert_eq!(all.iter().filter(|(_, state)| state == "rejected").count(), 2, "{all:?}");
    let shown = admin.call("GET", &format!("/bundles/{}", &second[..6]), &Value::Null).await.json();
    assert_eq!(
        (shown["message"].as_str(), shown["files"]["routing_rules.yaml"].as_str()),
        (Some("try two"), Some(only("two").as_str()))
    );
    let diff = admin.call("GET", &format!("/bundles/{second}/diff"), &Value::Null).await.json();
    assert_eq!(
        (&diff["rules"]["added"], &diff["rules"]["removed"]),
        (&json!(["only_two"]), &json!(["only_one"]))
    );

    // In force, back, and forth again.
    let path = format!("/bundles/{second}/activate");
    assert_eq!(admin.call("POST", &path, &json!({})).await.json()["state"], "active");
    assert_eq!(served(house.client()).await, (second.clone(), "alpha/two".to_owned()));
    let back = admin.call("POST", "/bundles/rollback", &Value::Null).await;
    assert_eq!(back.json()["hash"].as_str(), Some(first.as_str()), "{}", back.text());
    assert_eq!(served(house.client()).await, (first.clone(), "alpha/one".to_owned()));
    admin.call("POST", "/bundles/rollback", &Value::Null).await;
    assert_eq!(served(house.client()).await.0, second);

    // It outlives the process; a change of the files made meanwhile outranks it.
    house.kill().await;
    house.restart().await;
    assert_eq!(served(house.client()).await, (second.clone(), "alpha/two".to_owned()));
    let listed = bundles(&house).await;
    assert_eq!(states(&listed)[..2], [(second.clone(), "active".into()), (first.clone(), "previous".into())]);
    assert_eq!(listed["files"], json!({"state": "overruled", "hash": first, "watched": true}));
    house.kill().await;
    house.folder().write("routing_rules.yaml", &(only("one") + "# by hand\n"));
    house.restart().await;
    let (third, by) = served(house.client()).await;
    assert!(by == "alpha/one" && third != first && third != second, "{by} {third}");

    // Who did it stands on the trail, and why.
    let trail = Admin::of(&house).call("GET", "/audit?limit=1000", &Value::Null).await;
    for action in ["bundle.upload", "bundle.activate"] {
        let lines = trail.json()["data"].as_array().unwrap().clone();
        let line = lines.iter().find(|l| l["action"] == action && l["target"] == json!(second));
        assert_eq!(line.map(|l| &l["detail"]["message"]), Some(&json!("try two")), "{action} in {lines:#?}");
    }
    let trail = trail.text();
    for action in ["bundle.upload", "bundle.activate", "bundle.rollback", "bundle.refused"] {
        assert!(trail.contains(action), "{action} in {trail}");
    }
    let verified = house.cli(&["audit", "verify"]).await;
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_wrong_words_are_refused_with_reasons() {
    let (_vendor, house) = house().await;
    let admin = Admin::of(&house);
    let (_, viewer) = admin.key(json!({"role": "viewer"})).await;
    let (_, within) = admin.key(json!({"role": "operator", "tenant": "default"})).await;
    let seen = admin.call_as(&viewer, "GET", "/bundles", &Value::Null).await;
    assert_eq!(seen.status, 200, "{}", seen.text());
    let files = json!({"files": {"routing_rules.yaml": "version: 1\n"}});
    for key in [&viewer, &within] {
        for (path, body) in [
            ("/bundles", &files),
            ("/bundles/active/activate", &json!({})),
            ("/bundles/rollback", &json!({})),
        ] {
            let refused = admin.call_as(key, "POST", path, body).await;
            assert_eq!(refused.error(403)["code"], "role_missing", "{path}");
        }
    }
    for (path, body, status, code) in [
        ("/bundles", json!({}), 400, "invalid_body"),
        ("/bundles", json!({"files": []}), 400, "invalid_body"),
        ("/bundles", json!({"files": {"routing_rules.yaml": 7}}), 400, "invalid_body"),
        ("/bundles", json!({"files": {}}), 400, "invalid_value"),
        ("/bundles", json!({"files": {"matrix.d/a\nb.yaml": "version: 1\n"}}), 422, "invalid_configuration"),
        ("/bundles", json!({"files": {"workflows/\u{202e}.yaml": "nonsense"}}), 422, "invalid_configuration"),
        ("/keys", json!({"name": "\u{202e}nimda"}), 400, "invalid_value"),
        ("/bundles", json!({"files": {}, "massage": "x"}), 400, "invalid_body"),
        ("/bundles", json!({"files": {}, "message": "x".repeat(501)}), 400, "invalid_value"),
        ("/bundles/0000000000000000/activate", json!({}), 404, "not_found"),
        ("/bundles/rollback", json!({}), 409, "nothing_before"),
    ] {
        let refused = admin.call("POST", path, &body).await;
        assert_eq!(refused.error(status)["code"], code, "{path} {body}");
        // What nobody sees is told so that everybody does.
        let plain = |c: char| c == '\n' || types::printable::is_plain(c);
        let text = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(text.chars().all(plain) && !text.contains("a\nb"), "{text:?}");
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_is_done_from_the_command_line() {
    let (vendor, house) = house().await;
    let (first, _) = served(house.client()).await;
    let other = plan(&vendor).rules(&only("two")).write();
    let folder = other.path().display().to_string();
    let cli = async |args: &[&str]| {
        let output = house.cli(args).await;
        (output.status.code(), said(&output))
    };

    let (code, text) = cli(&["bundle", "upload", &folder, "--message", "try two"]).await;
    assert_eq!(code, Some(0), "{text}");
    let (_, json) = cli(&["bundle", "list", "--json"]).await;
    let listed: Value = serde_json::from_str(&json).unwrap();
    let second = states(&listed).into_iter().find(|(_, s)| s == "kept").unwrap().0;
    assert!(text.contains(&second), "{text}");
    let (_, text) = cli(&["bundle", "diff", &second]).await;
    for part in ["-  - id: only_one", "+  - id: only_two", "added    rule only_two"] {
        assert!(text.contains(part), "`{part}` in {text}");
    }
    let (code, text) = cli(&["bundle", "activate", &second[..8]]).await;
    assert!(code == Some(0) && text.contains(&second), "{text}");
    assert_eq!(served(house.client()).await.1, "alpha/two");
    let (code, text) = cli(&["bundle", "rollback"]).await;
    assert!(code == Some(0) && text.contains(&first), "{text}");
    let (_, text) = cli(&["bundle", "list"]).await;
    assert!(text.contains("previous") && text.contains("try two"), "{text}");
    let (_, text) = cli(&["bundle", "show", &second]).await;
    assert!(text.contains("try two") && text.contains("routing_rules.yaml"), "{text}");
    let (_, text) = cli(&["bundle", "show", "previous", "routing_rules.yaml"]).await;
    assert_eq!(text, only("two"));
    let (code, text) = cli(&["bundle", "show", "previous", "routing_rule.yaml"]).await;
    assert!(code == Some(2) && text.contains("did you mean `routing_rules.yaml`"), "{text}");

    other.write("routing_rules.yaml", "version: 1\nruels: []\n");
    let (code, text) = cli(&["bundle", "upload", &folder]).await;
    assert!(code == Some(2) && text.contains("routing_rules.yaml:2:1") && text.contains("ruels"), "{text}");
    let (code, text) = cli(&["bundle", "upload", &folder, "--json"]).await;
    let problems: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((code, &problems["error"]["metadata"]["problems"][0]["line"]), (Some(2), &json!(2)));
    let (code, text) = cli(&["bundle", "activate", "0000"]).await;
    assert!(code == Some(2) && text.contains("there is no bundle `0000`"), "{text}");
}

/// What came of trying a bundle, once so many requests were looked at.
async fn report(house: &House, hash: &str, requests: u64) -> Value {
    let admin = Admin::of(house);
    for _ in 0..1_200 {
        let said = admin.call("GET", &format!("/bundles/{hash}/shadow"), &Value::Null).await;
        assert_eq!(said.status, 200, "{}", said.text());
        if said.json()["requests"].as_u64() >= Some(requests) {
            return said.json();
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not looked at: {}", house.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sends_no_key_elsewhere() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let thief = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("thanks")).await;
    let house = plan(&vendor)
        .settings("tools: { allow_hosts: [127.0.0.1], allow_http: true, allow_private: true }\n")
        .with_key("alpha", "KEY_A")
        .env("KEY_A", "key-a")
        .env("OTHER", "other")
        .start()
        .await;
    let admin = Admin::of(&house);
    let (_, operator) = admin.key(json!({"role": "operator"})).await;
    let matrix = std::fs::read_to_string(house.folder().path().join("capability_matrix.yaml")).unwrap();
    let put = |matrix: String, rules: String| {
        let (admin, operator) = (&admin, operator.as_str());
        let files = json!({"files": {"capability_matrix.yaml": matrix, "routing_rules.yaml": rules}});
        async move {
            let kept = admin.call_as(operator, "POST", "/bundles", &files).await;
            if kept.status >= 300 {
                return (kept, String::new());
            }
            let path = format!("/bundles/{}/activate", kept.json()["hash"].as_str().unwrap());
            (admin.call_as(operator, "POST", &path, &json!({})).await, path)
        }
    };
    let elsewhere = matrix.replace(&vendor.origin(), &thief.origin());
    for other in [
        elsewhere.clone(),
        matrix.replace("api_key_env: KEY_A", "api_key_env: [KEY_A, OTHER]"),
        matrix.replace("api_key_env: KEY_A", "api_key_env: KEY_A\n    headers: { x-a: \"${ENV:OTHER}\" }"),
        matrix.replace(&vendor.origin(), &format!("{}/${{ENV:OTHER}}", vendor.origin())),
    ] {
        assert_ne!(other, matrix);
        let (refused, _) = put(other, only("one")).await;
        let error = refused.error(403);
        assert_eq!(error["code"], "role_missing");
        assert!(error["message"].as_str().unwrap().contains("`alpha`"), "{error}");
    }
    // Tools may take a variable along, to where an admin says.
    let tool = |env: &str| {
        let auth = format!("auth: {{ env: {env} }}, side_effect: none, input_schema: {{ type: object }}");
        format!(
            "{}tools:\n  grab: {{ description: d, url: \"{}/t\", {auth} }}\n",
            only("one"),
            thief.origin()
        )
    };
    let (refused, _) = put(matrix.clone(), tool("KEY_A")).await;
    assert!(refused.error(403)["message"].as_str().unwrap().contains("`grab`"), "{}", refused.text());
    let refused = put(matrix.clone(), tool("TURNOUT_MASTER_KEY")).await.0;
    assert_eq!(refused.error(422)["code"], "invalid_configuration");
    // The server's own variables go nowhere, whoever asks.
    let own = matrix.replace("api_key_env: KEY_A", "api_key_env: TURNOUT_MASTER_KEY");
    assert_eq!(put(own, only("one")).await.0.error(422)["code"], "invalid_configuration");
    // What sends nothing elsewhere is the operator's to put in force, and an admin may do the rest.
    assert_eq!(put(matrix, only("two")).await.0.status, 200);
    let (refused, path) = put(elsewhere, only("two")).await;
    assert_eq!((refused.status, thief.count()), (403, 0));
    assert_eq!(admin.call("POST", &path, &json!({})).await.status, 200);
    // Going back is putting in force, too: from there, and to there again.
    let back = async |key: &str| admin.call_as(key, "POST", "/bundles/rollback", &json!({})).await;
    assert_eq!(back(&operator).await.error(403)["code"], "role_missing");
    assert_eq!(admin.call("POST", "/bundles/rollback", &json!({})).await.status, 200);
    assert_eq!(back(&operator).await.error(403)["code"], "role_missing");
    assert_eq!((house.client().chat(&ask()).await.status, thief.count()), (200, 0));
}

async fn upload(house: &House, rules: &str) -> String {
    let matrix = std::fs::read_to_string(house.folder().path().join("capability_matrix.yaml")).unwrap();
    let files = json!({"files": {"capability_matrix.yaml": matrix, "routing_rules.yaml": rules}});
    let kept = Admin::of(house).call("POST", "/bundles", &files).await;
    assert!(kept.status < 300, "{}", kept.text());
    kept.json()["hash"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_tried_on_live_traffic_and_calls_nobody() {
    let (vendor, mut house) = house().await;
    let (first, _) = served(house.client()).await;
    let admin = Admin::of(&house);
    let same = upload(&house, &(only("one") + "# a comment decides nothing\n")).await;
    let other = upload(&house, &only("two")).await;
    let deny = "version: 1\nrules:\n  - id: closed\n    actions: { deny: closed for today }\n";
    let closed = upload(&house, deny).await;

    for (bundle, kind, reason) in [
        (&same, None, ""),
        (&other, Some("other_arm"), "alpha/two"),
        (&closed, Some("newly_denied"), "closed for today"),
    ] {
        let began = admin.call("POST", &format!("/bundles/{bundle}/shadow"), &json!({"share": 1})).await;
        assert_eq!(
            (began.status, began.json()["against"].as_str()),
            (200, Some(first.as_str())),
            "{}",
            began.text()
        );
        let before = vendor.seen().len();
        for _ in 0..10 {
            assert_eq!(served(house.client()).await, (first.clone(), "alpha/one".to_owned()));
        }
        assert_eq!(vendor.seen().len(), before + 10, "nobody else was called");
        let said = report(&house, bundle, 10).await;
        match kind {
            None => assert_eq!((&said["same"], &said["different"]), (&json!(10), &json!({})), "{said}"),
            Some(kind) => {
                assert_eq!(said["different"], json!({kind: 10}), "{said}");
                let example = &said["examples"][0];
                assert!(example["shadow"].to_string().contains(reason), "{example}");
                assert_eq!(example["active"]["model"], "alpha/one");
                // The example is a request that can be explained.
                house.decision(example["request_id"].as_str().unwrap()).await;
                assert!(metric(&house, &format!("turnout_shadow{{result=\"{kind}\"}} 10.0")).await);
            }
        }
    }
    let shown = house.cli(&["bundle", "shadow", &closed, "--report"]).await;
    let text = said(&shown);
    assert!(text.contains("10 newly denied") && text.contains("closed for today"), "{text}");
    let listed = states(&bundles(&house).await);
    assert!(listed.contains(&(closed.clone(), "shadow".to_owned())), "{listed:?}");

    // It goes on over a restart, with counts of its own; ended, what came of it stays to be read.
    house.kill().await;
    house.restart().await;
    served(house.client()).await;
    assert_eq!(report(&house, &closed, 1).await["different"], json!({"newly_denied": 1}));
    let admin = Admin::of(&house);
    let ended = admin.call("DELETE", &format!("/bundles/{closed}/shadow"), &Value::Null).await;
    assert_eq!((ended.status, ended.json()["state"].as_str()), (200, Some("ended")), "{}", ended.text());
    served(house.client()).await;
    assert_eq!(report(&house, &closed, 1).await["requests"], 1);
    let twice = admin.call("DELETE", &format!("/bundles/{closed}/shadow"), &Value::Null).await;
    assert_eq!(twice.status, 404);

    // What is in force is compared with nothing; one that comes into force is tried no more.
    let own = admin.call("POST", "/bundles/active/shadow", &json!({})).await;
    assert_eq!(own.error(409)["code"], "in_force");
    let share = admin.call("POST", &format!("/bundles/{other}/shadow"), &json!({"share": 1.5})).await;
    assert_eq!(share.error(400)["param"], "share");
    admin.call("POST", &format!("/bundles/{other}/shadow"), &json!({"share": 0.5})).await;
    admin.call("POST", &format!("/bundles/{other}/activate"), &json!({})).await;
    assert_eq!(states(&bundles(&house).await)[0], (other.clone(), "active".to_owned()));
    served(house.client()).await;
    let trial = admin.call("GET", &format!("/bundles/{other}/shadow"), &Value::Null).await;
    assert_eq!(trial.json()["state"], "ended");
    assert_eq!(house.stop().await, Some(0), "{}", house.log());
}

/// Rules of a bundle that is tried see what those in force would: what stands in a request and its headers, what came
/// before it, and how money, providers and places stood when it came.
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_is_tried_sees_the_traffic() {
    let secret = "use sk-proj-aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3z";
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = plan(&vendor)
        .settings("reload: { debounce: 100ms }\npolicies: { headers: [x-team] }\n")
        .start()
        .await;
    let admin = Admin::of(&house);
    admin.tenant(json!({"id": "acme", "limits": [{"metric": "usd", "amount": 5, "per": "day"}]})).await;
    let (_, key) = admin.key(json!({"role": "inference", "name": "lee", "tenant": "acme"})).await;
    let authorization = format!("Bearer {key}");
    let send = async |text: &str, team: &str| {
        let body = json!({"model": "auto", "messages": [{"role": "user", "content": text}]}).to_string();
        let headers =
            [("content-type", "application/json"), ("authorization", &*authorization), ("x-team", team)];
        house.client().send("POST", "/v1/chat/completions", &headers, body.as_bytes()).await.status
    };
    let closed = |when: &str| {
        format!("{}  - {{ id: closed, when: '{when}', actions: {{ deny: no }} }}\n", only("one"))
    };
    let (plain, team) = (("hello", "other"), ("hello", "search"));
    let mut known = Vec::new();
    for (when, first, second, denied) in [
        ("input.secrets", plain, (secret, "other"), 1),
        ("request.headers.get(\"x-team\") == \"search\"", plain, team, 1),
        ("history.client_retry == 1", ("begin", "other"), ("begin", "other"), 1),
        ("budget.tenant_remaining_usd != ()", plain, plain, 2),
        ("provider(\"alpha\").error_rate != ()", plain, plain, 2),
        ("system.load > 0.0", plain, plain, 2),
    ] {
        let bundle = upload(&house, &closed(when)).await;
        let began = admin.call("POST", &format!("/bundles/{bundle}/shadow"), &json!({"share": 1})).await;
        assert_eq!(began.status, 200, "{}", began.text());
        for (text, team) in [first, second] {
            assert_eq!(send(text, team).await, 200, "{when}");
        }
        let said = report(&house, &bundle, 2).await;
        assert_eq!(said["different"], json!({"newly_denied": denied}), "{when}: {said}");
        known.push(bundle);
    }
    // What rules do not let through, and what people have to agree to, comes to nobody either.
    for (text, actions) in [
        ("mail ada@analytical.co.uk", "redact: { entities: [email], in: [input], action: block }"),
        ("hello", "require_approval: { group: ops, reason: always }"),
        ("hello", "enforce_format: json_schema"),
    ] {
        let approvers = "approvers: { ops: [\"user:dana\"] }\n";
        let rules = format!("{}  - {{ id: closed, actions: {{ {actions} }} }}\n{approvers}", only("one"));
        let bundle = upload(&house, &rules).await;
        admin.call("POST", &format!("/bundles/{bundle}/shadow"), &json!({"share": 1})).await;
        assert_eq!(send(text, "other").await, 200, "{actions}");
        let said = report(&house, &bundle, 1).await;
        assert_eq!(said["different"], json!({"newly_denied": 1}), "{actions}: {said}");
        assert!(said["examples"][0]["shadow"]["why"].as_str().unwrap().contains("closed"), "{said}");
    }
    // The same the other way round.
    let before = upload(&house, &(only("one") + "# nothing is closed\n")).await;
    admin.call("POST", &format!("/bundles/{}/activate", known[0]), &json!({})).await;
    admin.call("POST", &format!("/bundles/{before}/shadow"), &json!({"share": 1})).await;
    assert_eq!((send("hello", "other").await, send(secret, "other").await), (200, 403));
    assert_eq!(report(&house, &before, 2).await["different"], json!({"no_longer_denied": 1}));
}

/// A request that is at work while another bundle comes into force ends under the one it began with: what rules of the
/// response phase say of its answer, and what its record says of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_under_the_bundle_it_began_with() {
    let marks = |by: &str| {
        let rule = format!(
            "- {{ id: mark, phase: response, when: \"true\", actions: {{ header: {{ x-by: {by} }} }} }}"
        );
        format!("version: 1\nexploration: {{ epsilon: 0 }}\nrules:\n  {rule}\n")
    };
    // The first answer comes after the change and breaks its contract, so that a second call is made.
    let gate = Gate::default();
    let broken = Reply::text("{\"a\": ").held(&gate);
    let vendor = Vendor::scripted(Dialect::OpenAi, move |seen| {
        let again = seen.body["messages"].as_array().is_some_and(|m| m.len() > 1);
        if again { Reply::text("{\"a\": 1}") } else { broken.clone() }
    })
    .await;
    let house = plan(&vendor).rules(&marks("first")).start().await;
    let admin = Admin::of(&house);
    let mut body = ask();
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    body["response_format"] =
        json!({"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": true}});
    let other = upload(&house, &marks("second")).await;
    let (client, held) = (house.client(), body.clone());
    let asked = tokio::spawn(async move { client.chat(&held).await });
    assert!(tests::eventually(PATIENCE, || vendor.count() == 1).await, "{}", house.log());
    let put = admin.call("POST", &format!("/bundles/{other}/activate"), &json!({})).await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert_eq!(vendor.count(), 1, "it was changed before the second call");
    gate.open();
    let answer = asked.await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(vendor.count() > 1, "it was mended after the change");
    let bundle = answer.header("x-turnout-bundle").unwrap().to_owned();
    assert_ne!(bundle, other);
    assert_eq!(answer.header("x-by"), Some("first"), "{:?}", answer.headers);
    assert_eq!(house.decision(&answer.request_id()).await["decision"]["bundle"], json!(bundle));
    let later = house.client().chat(&body).await;
    assert_eq!((later.header("x-by"), later.header("x-turnout-bundle")), (Some("second"), Some(&*other)));
}

/// Open files and threads of a process, and its memory in KiB.
fn size(house: &House) -> (usize, usize, u64) {
    let proc = format!("/proc/{}", house.pid());
    let entries = |what: &str| std::fs::read_dir(format!("{proc}/{what}")).unwrap().count();
    (entries("fd"), entries("task"), house.memory())
}

/// Under requests, some of them streams that are long under way when their bundle goes: each is decided, run and
/// recorded under one bundle.
#[tokio::test(flavor = "multi_thread")]
async fn t07_a_thousand_reloads_under_load_show_no_request_two_bundles_and_leak_nothing() {
    let vendor =
        Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello").slow(Duration::from_millis(5))).await;
    let house = plan(&vendor).start().await;
    let (first, _) = served(house.client()).await;
    let second = upload(&house, &only("two")).await;
    let admin = Admin::of(&house);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut asking = tokio::task::JoinSet::new();
    for i in 0..4 {
        let (client, stopped) = (house.client(), stopped.clone());
        asking.spawn(async move {
            let mut all = Vec::new();
            while !*stopped.borrow() {
                let (bundle, id, model) = if i % 2 == 0 {
                    let r = client.chat(&ask()).await;
                    assert_eq!(r.status, 200, "{}", r.text());
                    let model = r.json()["model"].as_str().unwrap().to_owned();
                    (
                        r.header("x-turnout-bundle").unwrap().to_owned(),
                        r.header("x-turnout-decision").unwrap().to_owned(),
                        model,
                    )
                } else {
                    let r = client.stream(&ask()).await;
                    let of = |name| r.header(name).unwrap().to_owned();
                    let (bundle, id) = (of("x-turnout-bundle"), of("x-turnout-decision"));
                    let (events, _) = r.collect().await;
                    (bundle, id, events[0]["model"].as_str().unwrap().to_owned())
                };
                all.push((bundle, id, model));
            }
            all
        });
    }
    // The first are read, checked and compiled anew; then two take turns as they are.
    let reload = async |numbers: std::ops::Range<usize>| {
        for i in numbers {
            let rules = format!("{}# {i}\n", only(if i % 2 == 0 { "one" } else { "two" }));
            house.folder().write("routing_rules.yaml", &rules);
            let said = admin.call("POST", "/reload", &json!({})).await;
            assert_eq!(said.status, 200, "{i}: {}", said.text());
        }
    };
    let swap = async |n: usize| {
        for i in 0..n {
            let said = admin.call("POST", "/bundles/rollback", &Value::Null).await;
            assert_eq!(said.status, 200, "{i}: {}", said.text());
        }
    };
    assert_eq!(admin.call("POST", &format!("/bundles/{second}/activate"), &json!({})).await.status, 200);
    // Twenty bundles are kept: from here on each that comes is one that goes.
    reload(0..30).await;
    let at_first = size(&house);
    reload(30..180).await;
    let after_some = size(&house);
    swap(820).await;
    let after_all = size(&house);
    stop.send(true).unwrap();
    let asked: Vec<_> = asking.join_all().await.into_iter().flatten().collect();

    // The model that answered is the one that the bundle in the header leaves, and the record says the same.
    let mut models: std::collections::BTreeMap<&str, &str> =
        [(first.as_str(), "alpha/one"), (second.as_str(), "alpha/two")].into();
    assert!(asked.len() > 50, "{} requests are no load", asked.len());
    for (bundle, id, model) in &asked {
        assert_eq!(models.entry(bundle.as_str()).or_insert(model), model, "{id} under {bundle}");
    }
    for (bundle, id, model) in asked.iter().step_by(asked.len().div_ceil(100)) {
        let record = house.decision(id).await;
        let decision = &record["decision"];
        assert_eq!(decision["bundle"].as_str(), Some(bundle.as_str()), "{id}");
        let rule = if model == "alpha/one" { "only_one" } else { "only_two" };
        assert!(decision["rules"].to_string().contains(rule), "{id}: {decision}");
    }
    let requests = asked.len();
    eprintln!(
        "files, threads, KiB after 30 reloads: {at_first:?}, after 180: {after_some:?}, after 820 swaps: {after_all:?}; \
         {requests} requests"
    );
    let (fds, threads, kib) = at_first;
    for (fds_then, threads_then, kib_then) in [after_some, after_all] {
        // Connections of requests in flight come and go.
        assert!(fds_then <= fds + 16, "{fds} files, then {fds_then}");
        assert!(threads_then <= threads + 8, "{threads} threads, then {threads_then}");
        // 220 KiB for each reload: a bundle takes three times as much.
        assert!(kib_then <= kib + 32 * 1024, "{kib} KiB, then {kib_then}");
    }
    assert!(bundles(&house).await["data"].as_array().unwrap().len() <= 20);
}
