//! What the command line tells the authors of workflows about files that are not in force yet.

use serde_json::{Value, json};
use tests::folder::Folder;
use tests::house::cli;

const GOOD: &str =
    "version: 1\nname: good\nnodes: [{ id: ask, type: generate }]\noutput: nodes.ask.completion\n";
const BAD: &str =
    "version: 1\nname: bad\nnodes: [{ id: ask, type: generate, sampels: 2 }]\noutput: nodes.ask.completion\n";

/// Exit code and standard output of a command.
async fn told(folder: &Folder, args: &[&str]) -> (i32, String) {
    let done = cli(folder, args).await;
    (done.status.code().unwrap_or(-1), String::from_utf8_lossy(&done.stdout).into_owned())
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_checked_by_themselves() {
    let folder = Folder::default();
    let at = |name: &str| folder.path().join(name).display().to_string();
    folder.write("drafts/good.yaml", GOOD);
    folder.write("drafts/bad.yaml", BAD);
    let (code, text) = told(&folder, &["workflow", "check", &at("drafts/good.yaml")]).await;
    assert_eq!((code, text.as_str()), (0, "good: 1 workflows (0 errors, 0 warnings in 1 files)\n"));
    let (code, text) = told(&folder, &["--json", "workflow", "check", &at("drafts")]).await;
    let told_of = json_of(&text);
    assert_eq!((code, &told_of["good"], &told_of["errors"]), (2, &json!(false), &json!(1)), "{text}");
    assert_eq!(told_of["problems"][0]["file"], at("drafts/bad.yaml"), "{text}");
    assert_eq!(told(&folder, &["workflow", "check"]).await.0, 0, "drafts are not part of the configuration");

    // A file of the configuration is told of alone, whatever else is wrong with it; what stands beside it is found.
    folder.write("workflows/bad.yaml", BAD);
    let calls = GOOD.replace("name: good", "name: calls").replace(
        "type: generate }",
        "type: generate, response: { format: json_schema, schema: 'file:schemas/person.json' } }",
    );
    folder.write("drafts/calls.yaml", &calls);
    folder.write("drafts/schemas/person.json", r#"{"type": "object"}"#);
    assert_eq!(
        told(&folder, &["workflow", "check", &at("drafts/calls.yaml")]).await.0,
        2,
        "it does not start"
    );
    let (code, text) = told(&folder, &["--json", "workflow", "check", &at("workflows/bad.yaml")]).await;
    assert_eq!((code, json_of(&text)["problems"][0]["code"].as_str()), (2, Some("WF101")), "{text}");
    std::fs::remove_file(folder.path().join("workflows/bad.yaml")).unwrap();
    assert_eq!(told(&folder, &["workflow", "check", &at("drafts/calls.yaml")]).await.0, 0);
    let empty = told(&folder, &["workflow", "check", &at("drafts/schemas")]).await;
    assert_eq!(empty.0, 2, "a folder without workflows is a mistake");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_hosts_are_told_in_sarif() {
    let folder = Folder::default();
    folder.write("workflows/bad.yaml", BAD);
    let file = folder.path().join("workflows/bad.yaml").display().to_string();
    for args in [&["workflow", "check", &file, "--format", "sarif"][..], &["check", "--format", "sarif"]] {
        let (code, text) = told(&folder, args).await;
        let sarif = json_of(&text);
        assert_eq!((code, &sarif["version"]), (2, &json!("2.1.0")), "{text}");
        let run = &sarif["runs"][0];
        let result = run["results"].as_array().unwrap().iter().find(|r| r["ruleId"] == "WF101").unwrap();
        assert_eq!(result["level"], "error");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["region"], json!({"startLine": 3, "startColumn": 36}), "{text}");
        assert!(place["artifactLocation"]["uri"].as_str().unwrap().ends_with("workflows/bad.yaml"), "{text}");
        assert!(run["tool"]["driver"]["rules"].as_array().unwrap().contains(&json!({"id": "WF101"})));
    }
}
