//! JSON-Schema-Test-Suite through `json_schema` and through its reading of growing text.
//!
//! The suite (MIT) is not part of this repository. `make setup` puts it under
//! `target/json-schema-test-suite`, from the package that `json-schema-test-suite.txt` beside this file names;
//! without it these tests fail.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test: what goes wrong is to be seen, and the figures are what the run is for"
)]

use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::completion::{Choice, FinishReason};
use types::{ChatRequest, Completion, Verdict};
use validators::{Check, Input, Step, build};

/// Folder of the suite, name in our files, and cases that must be there at least, so that an empty or
/// mutilated suite is no success.
const DRAFTS: &[(&str, &str, usize)] = &[
    ("draft4", "4", 600),
    ("draft6", "6", 800),
    ("draft7", "7", 900),
    ("draft2019-09", "2019-09", 1200),
    ("draft2020-12", "2020-12", 1250),
];

fn suite() -> PathBuf {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let at = home.parent().unwrap().join("target/json-schema-test-suite/tests");
    assert!(at.is_dir(), "JSON-Schema-Test-Suite is not at {}: run `make setup`", at.display());
    at
}

struct Case {
    name: String,
    schema: Value,
    data: Value,
    valid: bool,
}

fn cases(draft: &str, folder: &Path) -> Vec<Case> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        let groups: Vec<Value> = serde_json::from_slice(&std::fs::read(&file).unwrap())
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for group in groups {
            for test in group["tests"].as_array().unwrap() {
                let name = format!(
                    "{draft}/{stem}: {}: {}",
                    group["description"].as_str().unwrap(),
                    test["description"].as_str().unwrap()
                );
                let (data, valid) = (test["data"].clone(), test["valid"].as_bool().unwrap());
                all.push(Case { name, schema: group["schema"].clone(), data, valid });
            }
        }
    }
    all
}

fn request() -> ChatRequest {
    ChatRequest::from_value(&json!({"model": "auto", "messages": [{"role": "user", "content": "x"}]}))
        .unwrap()
}

fn answer(text: String) -> Completion {
    let choice = Choice { text, finish_reason: Some(FinishReason::Stop), ..Choice::default() };
    Completion { choices: vec![choice], ..Completion::default() }
}

/// The check of a case's schema; `None` where it needs a document that is not in it, which is never fetched.
fn checking(case: &Case, draft: &str) -> Option<Arc<dyn Check>> {
    // A draft that is named outright outranks the schema's own word, which some cases are about.
    let draft = if case.schema.get("$schema").is_some() { "auto" } else { draft };
    match build("json_schema", &json!({"schema": case.schema, "drafts": draft}), None) {
        Ok(check) => Some(check),
        Err(e) => {
            let text = case.schema.to_string();
            let elsewhere = text.contains("http://") || text.contains("https://") || text.contains(".json");
            assert!(elsewhere && e.message.contains("nothing is fetched"), "{}: {e}", case.name);
            None
        }
    }
}

#[test]
fn json_schema_agrees_with_the_suite() {
    let mut wrong = Vec::new();
    let mut table = String::new();
    for (folder, draft, least) in DRAFTS {
        let cases = cases(folder, &suite().join(folder));
        assert!(cases.len() >= *least, "{folder} has only {} cases", cases.len());
        let (mut passed, mut refused) = (0, 0);
        for case in &cases {
            let Some(check) = checking(case, draft) else {
                refused += 1;
                continue;
            };
            let completion = answer(case.data.to_string());
            let got = check.check(&Input::new(&completion, &request())).verdict;
            let want = if case.valid { Verdict::Passed } else { Verdict::Failed };
            if got == want {
                passed += 1;
            } else {
                wrong.push(format!("{}: {got:?}", case.name));
            }
        }
        let total = cases.len();
        writeln!(
            table,
            "{folder}: {passed} of {total} passed, {refused} not decided: the schema is elsewhere"
        )
        .unwrap();
    }
    report(&table);
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Scenario 17 of the workflow format, over the suite.
#[test]
fn scenario_17_no_prefix_of_a_valid_instance_is_rejected() {
    let mut wrong = Vec::new();
    let mut table = String::new();
    for (folder, draft, _) in DRAFTS {
        let (mut prefixes, mut early, mut invalid) = (0_usize, 0_usize, 0_usize);
        for case in &cases(folder, &suite().join(folder)) {
            let Some(check) = checking(case, draft) else { continue };
            for text in
                [case.data.to_string(), serde_json::to_string_pretty(&case.data).unwrap(), ascii(&case.data)]
            {
                let rejected = rejected(check.as_ref(), &text);
                prefixes += text.chars().count();
                match rejected {
                    Some(at) if case.valid => wrong.push(format!("{}: at byte {at} of {text}", case.name)),
                    Some(_) => early += 1,
                    None => {}
                }
                invalid += usize::from(!case.valid);
            }
        }
        writeln!(
            table,
            "{folder}: {prefixes} prefixes read; {early} of {invalid} invalid texts were refused early"
        )
        .unwrap();
    }
    report(&table);
    assert!(wrong.is_empty(), "{} valid texts are refused:\n{}", wrong.len(), wrong.join("\n"));
}

/// Pushes one character after the other; where it was rejected, if it was.
fn rejected(check: &dyn Check, text: &str) -> Option<usize> {
    let mut state = check.open(&request()).unwrap();
    for (at, c) in text.char_indices() {
        match state.push(c.encode_utf8(&mut [0; 4])) {
            Step::Continue { safe_up_to: 0 } => {}
            Step::Reject(_) => return Some(at),
            other => panic!("{other:?}"),
        }
    }
    state.finish().map(|_| text.len())
}

/// The same value with everything beyond ASCII escaped.
fn ascii(data: &Value) -> String {
    let mut out = String::new();
    for c in data.to_string().chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").unwrap();
            }
        }
    }
    out
}

/// Shown with `--nocapture`, and with a failure.
fn report(table: &str) {
    println!("{table}");
}
