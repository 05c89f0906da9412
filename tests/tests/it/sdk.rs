//! The official Python and Node clients work unchanged, whatever dialect the vendor behind turnout speaks.

use crate::NO_CHANCE;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Fault, Reply, Seen, ToolCall, Usage, Vendor};
use tokio::process::Command;

/// One pixel, as the scripts send it.
const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Models that fail as their names say.
const FAILING: [&str; 5] = ["fail-400", "fail-401", "fail-429", "fail-503", "cut"];

/// What the vendor says to the scenarios of `tests/sdk`.
fn script(seen: &Seen) -> Reply {
    let text = seen.last_text();
    let conversation = seen.conversation();
    if conversation.contains("sunny-17") {
        return Reply::text("The tool said sunny-17");
    }
    if text.contains("weather, twice") {
        let mut answer = Answer::call("call_a", "get_weather", r#"{"city": "Paris"}"#);
        let other = Answer::call("call_b", "get_weather", r#"{"city": "Oslo"}"#);
        answer.tool_calls.extend(other.tool_calls);
        return Reply::Answer(answer);
    }
    if text.contains("weather") {
        return Reply::Answer(Answer::call(
            "call_a",
            "get_weather",
            r#"{"city": "Paris", "unit": "celsius"}"#,
        ));
    }
    if conversation.contains("cut short") {
        let text = "{\"city\": \"Par";
        return Reply::Answer(Answer {
            finish: "length".to_owned(),
            ..Answer::pieces(vec![text.to_owned()])
        });
    }
    if text.contains("as json") {
        return Reply::Answer(structured(seen, r#"{"city": "Paris", "population": 2100000}"#));
    }
    if text.contains("picture") {
        let sees = conversation.contains(PIXEL);
        return Reply::text(if sees { "I see one pixel" } else { "I see nothing" });
    }
    if seen.model() == "cut" {
        return Reply::Answer(Answer::text("one two three four five six seven").fault(6, Fault::Cut));
    }
    if text.contains("slowly") {
        let pieces = (0..2000).map(|i| format!("piece {i} ")).collect();
        return Reply::Answer(Answer::pieces(pieces).gap(Duration::from_millis(20)));
    }
    if let Some(n) = text.strip_prefix("echo ") {
        return Reply::Answer(Answer::text(&format!("echo number {n}")).gap(Duration::from_millis(5)));
    }
    match seen.model().strip_prefix("fail-").and_then(|s| s.parse().ok()) {
        Some(status @ (429 | 503)) => Reply::error_with(status, "retry-after", "1"),
        Some(status) => Reply::error(status),
        None => Reply::text("Hello there, friend"),
    }
}

/// JSON as text, or as the call of the one tool that the dialect forces for a schema.
fn structured(seen: &Seen, json: &str) -> Answer {
    match seen.body["tool_choice"]["name"].as_str() {
        Some(name) => Answer {
            tool_calls: vec![ToolCall {
                id: "toolu_schema".into(),
                name: name.into(),
                arguments: vec![json.into()],
            }],
            ..Answer::pieces(Vec::new())
        },
        None => Answer {
            usage: Usage { input: 30, output: 12, ..Usage::default() },
            ..Answer::pieces(json.chars().map(String::from).collect())
        },
    }
}

async fn start(dialect: Dialect) -> (Vendor, House) {
    let vendor = Vendor::scripted(dialect, script).await;
    // Failures have models of their own, so that no breaker stands between the other scenarios and theirs.
    let mut plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one").success(0.95));
    for name in FAILING {
        plan = plan.model(&Model::new(&format!("lab/{name}")).success(0.05));
    }
    (vendor, plan.rules(NO_CHANCE).settings("retry:\n  max_attempts: 1\n").start().await)
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk")
}

/// Runs a script against the house; its output is the failure's text.
async fn run(mut command: Command, house: &House, dialect: Dialect) {
    let command = command
        .env("TURNOUT_URL", house.base_url())
        .env("TURNOUT_MODEL", "lab/one")
        .env("TURNOUT_DIALECT", dialect.name())
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(180), command.output());
    let output = output.await.expect("the script did not end within 3 minutes").unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n--- log of turnout\n{}", house.log());
}

async fn python(dialect: Dialect) {
    let interpreter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/python");
    assert!(interpreter.exists(), "{} is missing; run `make setup`", interpreter.display());
    let (vendor, house) = start(dialect).await;
    let mut command = Command::new(interpreter);
    command.arg(here().join("python/sdk.py"));
    run(command, &house, dialect).await;
    what_the_vendor_saw(&vendor).await;
}

async fn node(dialect: Dialect) {
    let modules = here().join("node/node_modules/openai");
    assert!(modules.exists(), "{} is missing; run `make setup`", modules.display());
    let (vendor, house) = start(dialect).await;
    let mut command = Command::new("node");
    command.arg(here().join("node/sdk.mjs"));
    run(command, &house, dialect).await;
    what_the_vendor_saw(&vendor).await;
}

/// The half of the promises that only the vendor can check.
async fn what_the_vendor_saw(vendor: &Vendor) {
    let seen = vendor.seen();
    let slow = seen.iter().find(|s| s.last_text().contains("slowly")).expect("the slow stream was asked for");
    assert!(slow.wait_left().await, "the client left, the vendor went on: {} events", slow.events());
    assert!(!slow.done());

    let custom = seen.iter().find(|s| s.last_text().contains("custom")).expect("it was asked");
    assert!(custom.body.get("routing").is_none(), "our options went to the vendor: {}", custom.body);
    if vendor.dialect() == Dialect::OpenAi {
        assert_eq!(custom.body["x_custom"], serde_json::json!({"a": [1]}), "{}", custom.body);
    }
    for s in &seen {
        assert!(s.header("authorization").is_none_or(|v| !v.contains("unused")), "the client's key went out");
    }
    let tried = |name: &str| seen.iter().filter(|s| s.model() == name).count();
    // Once by each of the calls that the script makes: what a retry cannot mend is not tried twice.
    assert_eq!((tried("fail-400"), tried("fail-401"), tried("cut")), (1, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn python_over_openai() {
    python(Dialect::OpenAi).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_over_anthropic() {
    python(Dialect::Anthropic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_over_gemini() {
    python(Dialect::Gemini).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_over_openai() {
    node(Dialect::OpenAi).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_over_anthropic() {
    node(Dialect::Anthropic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_over_gemini() {
    node(Dialect::Gemini).await;
}

/// A lock file with addresses of a registry ties the build to it.
#[test]
fn the_lock_file_names_no_registry() {
    let lock = std::fs::read_to_string(here().join("node/package-lock.json")).unwrap();
    assert!(!lock.contains("\"resolved\"") && !lock.contains("://"), "addresses in package-lock.json");
}
