//! The workflows that are shipped load, can be drawn and planned, and pass their tests.

use serde_json::Value;
use tests::folder::Folder;
use tests::house::{Model, Plan, cli};

/// Enough models for samples that keep apart.
fn folder() -> Folder {
    let plan = Plan::new().simulated("lab");
    let models = ["one", "two", "three", "four", "five"];
    let model = |m: &str| Model::new(&format!("lab/{m}")).with("simulate: { success: { default: 1 } }");
    models.iter().fold(plan, |p, m| p.model(&model(m))).write()
}

async fn run(folder: &Folder, args: &[&str]) -> String {
    let output = cli(folder, args).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The files that are shipped: names and texts.
fn shipped() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../workflows/library");
    let files = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let yaml = files.filter(|p| p.extension().is_some_and(|e| e == "yaml"));
    let named = |p: std::path::PathBuf| {
        let name = p.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(&p).unwrap())
    };
    let mut all: Vec<_> = yaml.map(named).collect();
    all.sort();
    all
}

/// The ids of all nodes of a file, those of bodies included.
fn ids(text: &str) -> Vec<&str> {
    text.lines().filter_map(|l| Some(l.trim_start().strip_prefix("- id: ")?.trim())).collect()
}

/// Scenario 7: every shipped workflow loads, draws all its nodes in three formats, plans, and passes its tests.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_07_every_shipped_workflow_loads_draws_plans_and_passes_its_tests() {
    let folder = folder();
    let told: Value = serde_json::from_str(&run(&folder, &["workflow", "test", "--json"]).await).unwrap();
    let played = told["cases"].as_array().unwrap();
    let shipped = shipped();
    let names: Vec<&str> = shipped.iter().map(|(name, _)| name.as_str()).collect();
    let all = [
        "cheap_first_cascade",
        "consensus_vote",
        "default",
        "hard_coding",
        "json_extraction",
        "rag_grounded",
        "speculative_hedge",
        "tool_loop",
    ];
    assert_eq!(names, all, "the examples of the format's page");
    for (name, text) in &shipped {
        let ids = ids(text);
        assert!(ids.len() >= 4, "{name}: {ids:?}");
        for (format, sign) in [("mermaid", "flowchart"), ("dot", "digraph"), ("svg", "<svg")] {
            let drawn = run(&folder, &["workflow", "graph", name, "--format", format]).await;
            assert!(drawn.contains(sign), "{name} as {format}: {drawn}");
            let words: Vec<&str> = drawn.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
            for id in &ids {
                assert!(words.contains(id), "{name} as {format} lacks `{id}`: {drawn}");
            }
        }
        let plan = run(&folder, &["workflow", "plan", name]).await;
        assert!(plan.contains(name.as_str()), "{plan}");
        let mine: Vec<&Value> = played.iter().filter(|p| p["workflow"] == **name).collect();
        assert!(!mine.is_empty() && mine.iter().all(|p| p["good"] == true), "{name}: {mine:?}");
    }
}

/// Whoever begins with the one that most requests take, or with the cascade, finds its ways tested.
#[tokio::test(flavor = "multi_thread")]
async fn the_tests_that_are_shipped_reach_most_of_what_they_are_for() {
    let folder = folder();
    let args = ["workflow", "test", "default", "cheap_first_cascade", "--coverage", "--min", "70"];
    let told = run(&folder, &args).await;
    for reached in
        ["check: failed", "fix: repaired", "fix: exhausted", "grade: passed", "grade: failed", "strong: ok"]
    {
        assert!(!told.contains(&format!("not reached: {reached}")), "{told}");
    }
}

/// One may play the tests of one workflow by its name.
#[tokio::test(flavor = "multi_thread")]
async fn tests_are_played_by_the_name_of_their_workflow() {
    let folder = folder();
    let played = run(&folder, &["workflow", "test", "json_extraction", "--json"]).await;
    let played: Value = serde_json::from_str(&played).unwrap();
    let played = played["cases"].as_array().unwrap();
    assert!(played.len() > 1 && played.iter().all(|p| p["workflow"] == "json_extraction"), "{played:?}");
}
