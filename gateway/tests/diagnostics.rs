//! Every code of a problem in a workflow file has a file that brings it about, at the stated place, with the stated
//! hint. The first lines of a file in `workflows/diagnostics` say so: `# CODE LINE:COLUMN hint`; lines are counted from
//! the one behind these.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

use gateway::config::{Environment, Simulated, Source, load};
use std::collections::BTreeSet;
use std::path::PathBuf;
use types::Diagnostic;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../workflows/diagnostics"))
}

/// The problems of a text that stands where a workflow `w` would.
fn problems(text: &str) -> Vec<Diagnostic> {
    let source = Source::Given(vec![("workflows/w.yaml".to_owned(), text.to_owned())]);
    let found = load(&source, &Environment::default(), Simulated::AsWritten).problems;
    found.into_iter().filter(|d| d.file == "workflows/w.yaml").collect()
}

fn line(d: &Diagnostic, head: usize) -> String {
    let hint = d.hint.as_deref().or(d.expected.as_deref()).unwrap_or("");
    // A list of all that is known is no matter of this test.
    let hint = hint.split('\n').next().unwrap_or("").chars().take(100).collect::<String>();
    format!("# {} {}:{} {hint}", d.code, d.line - head, d.column).trim_end().to_owned()
}

/// Scenario 8 of the workflow format.
#[test]
fn scenario_08_every_code_has_a_file_that_brings_it_about() {
    let mut covered = BTreeSet::new();
    let mut wrong = Vec::new();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for path in files {
        let code = path.file_stem().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let stated: Vec<String> =
            text.lines().take_while(|l| l.starts_with("# WF")).map(str::to_owned).collect();
        let found = problems(&text);
        let got: Vec<String> = found.iter().map(|d| line(d, stated.len())).collect();
        if got != stated || !found.iter().any(|d| d.code == code) {
            wrong.push(format!("{}:\n{}", path.display(), got.join("\n")));
            continue;
        }
        for d in &found {
            let shown = d.render(Some(&text), false);
            let at = text.lines().nth(d.line - 1).unwrap_or("");
            // Long lines are cut.
            let start: String = at.chars().take(60).collect();
            let excerpt = shown.contains(start.trim_end())
                && shown.contains(&format!("w.yaml:{}:{}", d.line, d.column));
            assert!(excerpt && shown.contains(&format!("[{}]", d.code)), "{shown}");
            assert!(d.hint.is_some() || d.expected.is_some() || !d.message.is_empty(), "{d}");
        }
        covered.insert(code);
    }
    assert!(wrong.is_empty(), "stated otherwise:\n{}", wrong.join("\n\n"));
    let table: BTreeSet<String> = workflows::CODES.iter().map(|(c, _)| (*c).to_owned()).collect();
    assert_eq!(covered, table, "every code of the table has a file, and every file a code of the table");
}

#[test]
fn names_that_are_nearly_right_are_suggested() {
    for code in ["WF101", "WF104", "WF202", "WF203", "WF205", "WF206", "WF301", "WF304"] {
        let text = std::fs::read_to_string(folder().join(format!("{code}.yaml"))).unwrap();
        let found = problems(&text);
        let d = found.iter().find(|d| d.code == code).unwrap();
        assert!(d.hint.as_deref().is_some_and(|h| h.contains("did you mean")), "{d}");
    }
}

#[test]
fn other_places_of_a_problem_are_shown() {
    for (code, line, said) in [
        ("WF002", 2, "it stands here first"),
        ("WF121", 4, "this node has it already"),
        ("WF131", 8, "it is given here first"),
        ("WF310", 8, "`ask` → `check`"),
    ] {
        let text = std::fs::read_to_string(folder().join(format!("{code}.yaml"))).unwrap();
        let found = problems(&text);
        let d = found.iter().find(|d| d.code == code).unwrap();
        let head = text.lines().take_while(|l| l.starts_with("# WF")).count();
        let places: Vec<(usize, &str)> = d.related.iter().map(|r| (r.line - head, &*r.message)).collect();
        assert_eq!(places, [(line, said)], "{code}");
        assert!(d.render(Some(&text), false).contains(said), "{code}");
    }
}

/// Whoever meets a code finds it in the book.
#[test]
fn every_code_stands_in_the_book_with_what_it_means() {
    let book = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/workflows.md")).unwrap();
    let rows: Vec<(&str, &str)> = book
        .lines()
        .filter_map(|l| l.strip_prefix("| `WF")?.strip_suffix(" |")?.split_once("` | "))
        .collect();
    let table: Vec<(&str, &str)> =
        workflows::CODES.iter().map(|(c, m)| (c.trim_start_matches("WF"), *m)).collect();
    assert_eq!(rows, table);
}
