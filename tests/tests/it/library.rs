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

/// Scenario 7: every shipped workflow loads, draws in three formats, plans, and passes its tests.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_07_every_shipped_workflow_loads_draws_plans_and_passes_its_tests() {
    let folder = folder();
    let played: Value = serde_json::from_str(&run(&folder, &["workflow", "test", "--json"]).await).unwrap();
    let played = played.to_string();
    let names = [
        "default",
        "json_extraction",
        "cheap_first_cascade",
        "consensus_vote",
        "speculative_hedge",
        "tool_loop",
    ];
    for name in names {
        for (format, sign) in [("mermaid", "flowchart"), ("dot", "digraph"), ("svg", "<svg")] {
            let drawn = run(&folder, &["workflow", "graph", name, "--format", format]).await;
            assert!(drawn.contains(sign), "{name} as {format}: {drawn}");
        }
        assert!(run(&folder, &["workflow", "plan", name]).await.contains(name));
        assert!(played.contains(name), "{name} has no test: {played}");
    }
}

/// One may play the tests of one workflow by its name.
#[tokio::test(flavor = "multi_thread")]
async fn tests_are_played_by_the_name_of_their_workflow() {
    let folder = folder();
    let played = run(&folder, &["workflow", "test", "json_extraction", "--json"]).await;
    let played: Vec<Value> = serde_json::from_str(&played).unwrap();
    assert!(played.len() > 1 && played.iter().all(|p| p["workflow"] == "json_extraction"), "{played:?}");
}
