//! Training as a whole: the same bytes again, sources apart, laws kept.

use super::*;
use crate::dense;
use crate::model::{Class, Model};
use std::collections::BTreeMap;

/// Hand-written requests in a dozen languages.
const OWN: &[u8] = include_bytes!("../../data/own.jsonl");

fn quick() -> Settings {
    Settings { steps: 15, folds: 2, ..Settings::default() }
}

fn train_on(text: &[u8], settings: &Settings) -> Result<Trained, Error> {
    train(&[Input { name: "own", text }], settings, &|_, _| {})
}

/// A source with requests of two families whose text starts with `mark`.
fn source(name: &str, mark: &str) -> String {
    let row = |i: usize, family: &str, text: String| {
        let request = serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": text}]});
        serde_json::json!({"id": format!("{name}-{family}-{i}"), "source": name, "task_family": family, "request": request})
            .to_string()
    };
    let poem = |i: usize| row(i, "creative", format!("{mark} number {i}: write a poem about the sea"));
    let code =
        |i: usize| row(i, "coding", format!("{mark} number {i}: write a Python function that sorts a list"));
    (0..6).flat_map(|i| [poem(i), code(i)]).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_same_seed_and_data_give_the_same_bytes() {
    let one = train_on(OWN, &quick()).expect("trains");
    let again = train_on(OWN, &quick()).expect("trains");
    assert!(one.model == again.model, "two runs differ");
    let other = train_on(OWN, &Settings { seed: 1, ..quick() }).expect("trains");
    assert!(one.model != other.model, "another seed dresses other requests");
    assert_eq!(one.report.inputs[0].blake3, blake3::hash(OWN).to_hex().to_string());
    assert!(one.report.requests >= 300 && one.report.dressed > 50, "{:?}", one.report);
}

/// The report beside the built-in model says what a training run says.
#[test]
fn the_built_in_model_states_where_it_comes_from() {
    let report: serde_json::Value =
        serde_json::from_slice(include_bytes!("../../model/family.json")).expect("model/family.json is JSON");
    let settings = serde_json::to_value(Settings::default()).expect("serialises");
    assert_eq!(report["settings"], settings, "trained with other settings than the defaults");
    let temperature = report["temperature"].as_f64().expect("a temperature");
    assert!((temperature - f64::from(Model::shipped().temperature)).abs() < 1e-3, "model and report differ");
    let sources = report["sources"].as_array().expect("sources");
    assert!(sources.len() > 40 && report["requests"].as_u64().is_some_and(|n| n > 5_000));
    for name in ["accuracy", "macro_f1", "calibration_error"] {
        assert!(report[name].as_f64().is_some_and(|x| (0.0..=1.0).contains(&x)), "{name}");
    }
    let own = blake3::hash(OWN).to_hex().to_string();
    assert!(
        report["inputs"].as_array().is_some_and(|i| i.iter().any(|read| read["blake3"] == own)),
        "data/own.jsonl has changed since the model was trained: train it again"
    );
}

#[test]
fn sources_that_share_text_are_one_group() {
    let shared = "the quick brown fox jumps over the lazy dog and then sleeps until the morning comes";
    let text =
        [source("a", shared), source("b", shared), source("c", "an entirely different beginning")].join("\n");
    let corpus = Corpus::read(&[Input { name: "x", text: text.as_bytes() }], 0, &quick()).expect("reads");
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for e in &corpus.examples {
        groups.insert(&e.source, e.group);
    }
    assert_eq!(groups["a"], groups["b"]);
    assert_ne!(groups["a"], groups["c"]);
    assert_eq!(corpus.groups(), 2);
}

#[test]
fn families_and_groups_weigh_the_same_whatever_their_size() {
    let text = [source("a", "one"), source("b", "two")].join("\n")
        + "\n"
        + source("c", "three").lines().next().expect("a line");
    let corpus = Corpus::read(
        &[Input { name: "x", text: text.as_bytes() }],
        0,
        &Settings { dressed_every: 0, ..quick() },
    )
    .expect("reads");
    let weights = corpus.weights(|_| true);
    let sum = |f: &dyn Fn(&Example) -> bool| -> f64 {
        corpus.examples.iter().zip(&weights).filter(|(e, _)| f(e)).map(|(_, w)| w).sum()
    };
    let (creative, coding) = (sum(&|e| e.class == Class::Creative), sum(&|e| e.class == Class::Coding));
    assert!((creative - coding).abs() < 1e-9);
    let one = sum(&|e| e.class == Class::Creative && e.source == "c");
    assert!((one - creative / 3.0).abs() < 1e-9, "a source of one request weighs as one of six");
    assert!((weights.iter().sum::<f64>() - corpus.examples.len() as f64).abs() < 1e-9);
}

#[test]
fn a_large_source_is_thinned() {
    let text = source("a", "one");
    let settings = Settings { per_source: 2, dressed_every: 0, ..quick() };
    let thinned = Corpus::read(&[Input { name: "x", text: text.as_bytes() }], 0, &settings).expect("reads");
    assert_eq!(thinned.examples.len(), 4, "two of each family");
    let whole = Corpus::read(&[Input { name: "x", text: text.as_bytes() }], 1, &settings).expect("reads");
    assert_eq!(whole.examples.len(), 12, "what is judged is not thinned");
}

#[test]
fn a_cue_only_the_held_source_shows_is_not_vouched_for() {
    let text = [source("a", "one"), source("b", "two").replace("poem", "limerick")].join("\n");
    let corpus = Corpus::read(&[Input { name: "x", text: text.as_bytes() }], 0, &quick()).expect("reads");
    let mask = corpus.vouched(|e| e.source == "a");
    let vouched = |words: &str| {
        (0..crate::cues::count()).any(|i| mask[i] && crate::cues::cue(i).is_some_and(|c| c.words == words))
    };
    assert!(vouched("poem") && !vouched("limerick"));
}

#[test]
fn fitted_weights_keep_the_laws_of_structure() {
    let corpus = Corpus::read(&[Input { name: "own", text: OWN }], 0, &quick()).expect("reads");
    let model = fit(&corpus, |_| true, None, &quick()).quantised(1.0);
    for (name, leaders) in prior::LEADERS {
        let row = model.dense[dense::position(name).expect("a feature")];
        let least = leaders.iter().map(|c| row[*c as usize]).fold(f32::INFINITY, f32::min);
        for class in Class::ALL.into_iter().filter(|c| !leaders.contains(c)) {
            assert!(row[class as usize] <= least + 1e-3, "{name}: {class:?} gains more than {leaders:?}");
        }
    }
}

#[test]
fn routing_packs_are_read_as_well() {
    let line = r#"{"query_id": "q", "task": "tool_use", "source_label": "simple/1", "prompt": "Is it warm?",
        "tools": [{"type": "function", "function": {"name": "f"}}]}"#
        .replace('\n', " ");
    let corpus = Corpus::read(
        &[Input { name: "pack", text: line.as_bytes() }],
        0,
        &Settings { dressed_every: 0, ..quick() },
    )
    .expect("reads");
    let e = &corpus.examples[0];
    assert_eq!((e.source.as_str(), e.class, corpus.examples.len()), ("simple", Class::ToolUse, 1));
    assert_eq!(e.numbers(None)[dense::position("tools offered").expect("a feature")], 1.0);
}

#[test]
fn bad_lines_and_too_few_sources_are_named() {
    let check = |text: &str, expected: &str| {
        let error = train_on(text.as_bytes(), &quick()).expect_err("no model");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check("{", "own, line 1: not a labelled request");
    check("\n{\"id\": \"a\", \"task_family\": \"chat\"}", "own, line 2: neither `request` nor `prompt`");
    check("{\"id\": \"a\", \"task_family\": \"chat\", \"request\": {}}", "the request is refused at");
    check("", "found 0 sources");
    check(&source("a", "one"), "found 1 sources");
}
