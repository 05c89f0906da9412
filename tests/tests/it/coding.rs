//! Code that is delivered as tested has passed its tests, in the runner of this machine.

use serde_json::{Value, json};
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

const WRONG: &str = "```python\ndef add(a, b):\n    return a - b\n```";
const RIGHT: &str = "Here:\n```python\ndef add(a, b):\n    return a + b\n```";

fn ask() -> Value {
    let question = "Write a Python function add(a, b). It has to pass this:\n```python\nimport unittest\n\
                    from solution import add\nclass T(unittest.TestCase):\n    def test_sum(self):\n        \
                    self.assertEqual(add(2, 3), 5)\n```";
    json!({"model": "auto", "messages": [{"role": "user", "content": question}],
           "routing": {"workflow": "hard_coding"}})
}

async fn start(vendor: &Vendor, runner: bool) -> House {
    let settings = if runner { "runner: { enabled: true }\n" } else { "" };
    let plan = Plan::new().vendor("lab", vendor).model(&Model::new("lab/one")).rules(crate::NO_CHANCE);
    plan.settings(settings).start().await
}

/// Whether this machine has run the code apart from everything else; says loudly where it cannot.
fn isolated(record: &Value) -> bool {
    let cannot = record["run"].to_string().contains("cannot be isolated");
    if cannot {
        eprintln!("\n!!! NOT TESTED: the code runner cannot isolate on this machine: {}\n", record["run"]);
        assert_eq!(record["outcome"]["verdict"], "unverified", "{record}");
    }
    !cannot
}

fn outcomes(record: &Value, node: &str) -> Vec<String> {
    let steps = record["run"]["steps"].as_array().unwrap();
    let of = steps.iter().filter(|s| s["node"] == node);
    of.map(|s| s["outcome"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_fails_its_tests_is_repaired_with_what_they_said() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text(RIGHT)).await;
    for _ in 0..3 {
        vendor.queue(Reply::text(WRONG));
    }
    let house = start(&vendor, true).await;
    let answer = house.client().chat(&ask()).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), house.log());
    let record = house.decision(&answer.request_id()).await;
    if !isolated(&record) {
        return;
    }
    assert_eq!(answer.content(), RIGHT);
    assert_eq!(vendor.count(), 4, "three drafts and one repair");
    let told = vendor.seen()[3].conversation();
    assert!(told.contains("test_sum"), "the model that repairs is told which test failed: {told}");
    assert_eq!(record["outcome"]["verdict"], "passed", "{record}");
    assert_eq!(outcomes(&record, "check"), ["failed"]);
    assert_eq!(outcomes(&record, "fix"), ["repaired"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn among_drafts_the_one_that_passes_is_delivered() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text(WRONG)).await;
    vendor.queue(Reply::text(WRONG));
    vendor.queue(Reply::text(RIGHT));
    let house = start(&vendor, true).await;
    let answer = house.client().chat(&ask()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    if !isolated(&house.decision(&answer.request_id()).await) {
        return;
    }
    assert_eq!(answer.content(), RIGHT);
    assert_eq!(vendor.count(), 3, "nothing was repaired and nobody judged");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_never_passes_is_not_delivered() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text(WRONG)).await;
    let house = start(&vendor, true).await;
    let answer = house.client().chat(&ask()).await;
    if !isolated(&house.decision(&answer.request_id()).await) {
        return;
    }
    let error = answer.error(422);
    assert_eq!(error["code"], "no_valid_patch", "{error}");
}

/// A coder that never passes is given up for stronger ones, and what those write passes.
#[tokio::test(flavor = "multi_thread")]
async fn a_coder_that_never_passes_is_given_up_for_a_stronger_one() {
    let weak = Vendor::scripted(Dialect::OpenAi, |_| Reply::text(WRONG)).await;
    let strong = Vendor::scripted(Dialect::OpenAi, |_| Reply::text(RIGHT)).await;
    let house = Plan::new()
        .vendor("lab", &weak)
        .vendor("other", &strong)
        .model(&Model { quality_tier: 1, ..Model::new("lab/small").success(0.95) })
        .model(&Model { quality_tier: 3, ..Model::new("other/large").success(0.3) })
        .rules(crate::NO_CHANCE)
        .settings("runner: { enabled: true }\n")
        .start()
        .await;
    let answer = house.client().chat(&ask()).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), house.log());
    let record = house.decision(&answer.request_id()).await;
    if !isolated(&record) {
        return;
    }
    assert_eq!((answer.content().as_str(), answer.json()["model"].as_str()), (RIGHT, Some("other/large")));
    assert_eq!(record["outcome"]["verdict"], "passed", "{record}");
    assert_eq!(
        (outcomes(&record, "check"), outcomes(&record, "fix")),
        (vec!["failed".to_owned()], vec!["repaired".to_owned()])
    );
    assert!(weak.count() >= 4, "three drafts and at least one repair: {}", weak.count());
    let asked = strong.seen();
    assert_eq!(asked.len(), 1, "the strong one is asked once, last");
    assert!(asked[0].conversation().contains("test_sum"), "{}", asked[0].conversation());
}

/// "Could not check" is not "passed".
#[tokio::test(flavor = "multi_thread")]
async fn without_a_runner_the_answer_is_unverified() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text(RIGHT)).await;
    let house = start(&vendor, false).await;
    let answer = house.client().chat(&ask()).await;
    assert_eq!((answer.status, answer.content().as_str()), (200, RIGHT), "{}", answer.text());
    let record = house.decision(&answer.request_id()).await;
    assert_eq!(record["outcome"]["verdict"], "unverified", "{record}");
    assert_eq!(outcomes(&record, "check"), ["unverified"]);
}
