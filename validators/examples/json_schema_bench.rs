//! JSONSchemaBench through `json_schema` and through its reading of growing text: what is valid by the whole check
//! must never be refused on the way.
//!
//! The data, some ten thousand schemas as people wrote them with instances of which it is known whether they are
//! valid, names no licence and is not part of this repository:
//! `cargo run --release -p validators --example json_schema_bench -- <maskbench/data of guidance-ai/jsonschemabench>`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement at a terminal: it needs the clock"
)]

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use types::completion::{Choice, FinishReason};
use types::{ChatRequest, Completion, Verdict};
use validators::{Check, Input, Step, build};

fn request() -> ChatRequest {
    ChatRequest::from_value(&json!({"model": "auto", "messages": [{"role": "user", "content": "x"}]}))
        .unwrap()
}

fn answer(text: String) -> Completion {
    let choice = Choice { text, finish_reason: Some(FinishReason::Stop), ..Choice::default() };
    Completion { choices: vec![choice], ..Completion::default() }
}

/// Where a text pushed character by character was refused, if it was.
fn rejected(check: &dyn Check, text: &str) -> Option<usize> {
    let mut state = check.open(&request()).unwrap();
    for (at, c) in text.char_indices() {
        if let Step::Reject(_) = state.push(c.encode_utf8(&mut [0; 4])) {
            return Some(at);
        }
    }
    state.finish().map(|_| text.len())
}

fn main() {
    let folder = std::env::args().nth(1).expect("the folder maskbench/data");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    files.sort();
    let (mut built, mut valid, mut invalid, mut early, mut prefixes) = (0, 0, 0, 0, 0);
    let (mut differ, mut wrong) = (BTreeMap::new(), Vec::new());
    let (mut bytes, mut whole, mut growing) = (0, Duration::ZERO, Duration::ZERO);
    for (i, file) in files.iter().enumerate() {
        if i % 500 == 0 {
            println!("{i} of {} schemas", files.len());
        }
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let body: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let Ok(check) = build("json_schema", &json!({"schema": body["schema"]}), None) else { continue };
        built += 1;
        for test in body["tests"].as_array().into_iter().flatten() {
            let text = test["data"].to_string();
            let (completion, begin) = (answer(text.clone()), Instant::now());
            let verdict = check.check(&Input::new(&completion, &request())).verdict;
            whole += begin.elapsed();
            if (verdict == Verdict::Passed) != (test["valid"] == true) {
                // Whether `format` is more than a note is each checker's choice, and ours is the draft's: a note.
                let of_format = test["valid"] == false && body["schema"].to_string().contains("\"format\"");
                *differ.entry((of_format, test["valid"] == true)).or_insert(0) += 1;
                if !of_format {
                    println!("differs: {name}, the file says valid: {}, we say {verdict:?}", test["valid"]);
                }
            }
            let begin = Instant::now();
            let refused = rejected(check.as_ref(), &text);
            growing += begin.elapsed();
            bytes += text.len();
            if verdict != Verdict::Passed {
                invalid += 1;
                early += usize::from(refused.is_some());
                continue;
            }
            valid += 1;
            prefixes += text.chars().count();
            wrong.extend(refused.map(|at| format!("{name}: at byte {at} of {text}")));
        }
    }
    println!(
        "{built} of {} schemas; {valid} valid instances with {prefixes} prefixes; {early} of {invalid} invalid ones \
         refused early; {} verdicts differ from the file's, {} of them passed where the schema has a `format`; {} valid \
         ones refused on the way",
        files.len(),
        differ.values().sum::<usize>(),
        differ.get(&(true, false)).copied().unwrap_or(0),
        wrong.len()
    );
    let speed = |time: Duration| bytes as f64 / 1e6 / time.as_secs_f64().max(1e-9);
    println!(
        "{:.1} MB of instances: {:.1} MB/s checked whole, {:.1} MB/s character by character, opening included",
        bytes as f64 / 1e6,
        speed(whole),
        speed(growing)
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
