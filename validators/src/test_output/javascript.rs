//! What `node --test` and jest print.

use super::{Failure, MAX_MESSAGE, Patterns, TestOutput, counts, one_line};

pub(super) fn node(lines: &[&str], p: &Patterns) -> TestOutput {
    let mut out = TestOutput { runner: Some("node"), ..TestOutput::default() };
    let number = |key: &str| {
        let line = lines.iter().rev().find_map(|l| l.trim_start_matches(['#', 'ℹ', ' ']).strip_prefix(key));
        line.and_then(|n| n.trim().parse().ok())
    };
    (out.passed, out.failed) = (number("pass "), number("fail "));
    out.failures =
        if lines.iter().any(|l| l.starts_with("TAP version")) { tap(lines, p) } else { spec(lines, p) };
    out
}

fn tap(lines: &[&str], p: &Patterns) -> Vec<Failure> {
    let mut out = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let Some(c) = p.tap.captures(line) else { continue };
        let name = c.get(2).map_or("", |m| m.as_str());
        if name.ends_with("# TODO") || name.contains("# SKIP") {
            continue;
        }
        let block: Vec<&str> = lines
            .iter()
            .skip(i.saturating_add(1))
            .take_while(|l| l.trim() != "...")
            .map(|l| l.trim())
            .collect();
        let member = |key: &str| {
            let at = block.iter().position(|l| l.starts_with(key))?;
            let value = block.get(at)?.get(key.len()..)?.trim();
            // A block scalar goes on until the next member.
            let more = || {
                let body = block.iter().skip(at.saturating_add(1)).take_while(|l| !is_member(l));
                body.copied().collect::<Vec<_>>().join(" ")
            };
            Some(if value.starts_with('|') { more() } else { value.trim_matches('\'').to_owned() })
        };
        // A parent that failed only by its children says nothing of its own.
        if member("failureType:").as_deref() == Some("subtestsFailed") {
            continue;
        }
        let (file, line) = member("location:").map_or((None, None), |l| js_place(&l, p));
        let message = one_line(&member("error:").unwrap_or_default());
        out.push(Failure { test: Some(name.to_owned()), message, file, line });
    }
    out
}

/// `code: x` of a block of TAP.
fn is_member(line: &str) -> bool {
    [
        "code:",
        "name:",
        "expected:",
        "actual:",
        "operator:",
        "stack:",
        "location:",
        "duration_ms:",
        "failureType:",
    ]
    .iter()
    .any(|k| line.starts_with(k))
}

fn js_place(text: &str, p: &Patterns) -> (Option<String>, Option<u32>) {
    let Some(c) = p.js_place.captures(text) else { return (None, None) };
    (c.get(1).map(|m| m.as_str().to_owned()), c.get(2).and_then(|m| m.as_str().parse().ok()))
}

/// The list of failing tests at the end of the spec reporter.
fn spec(lines: &[&str], p: &Patterns) -> Vec<Failure> {
    let from = lines.iter().rposition(|l| l.contains("failing tests:")).unwrap_or(0);
    let mut out: Vec<Failure> = Vec::new();
    let mut place = (None, None);
    for line in lines.iter().skip(from) {
        let text = line.trim_start();
        if let Some(at) = text.strip_prefix("test at ") {
            place = js_place(at, p);
        } else if let Some(c) = p.spec.captures(text).filter(|_| place.0.is_some()) {
            let name = c.get(1).map(|m| m.as_str().to_owned());
            let (file, line) = std::mem::take(&mut place);
            out.push(Failure { test: name, message: String::new(), file, line });
        } else if let Some(f) = out.last_mut().filter(|f| f.message.len() < MAX_MESSAGE) {
            // All up to the stack is the message.
            let ends = text.starts_with("at ") || text.ends_with('{') || f.message.ends_with('\u{0}');
            if ends && !f.message.ends_with('\u{0}') {
                f.message.push('\u{0}');
            } else if !ends && !text.is_empty() {
                f.message = format!("{} {text}", f.message);
            }
        }
    }
    for f in &mut out {
        f.message = one_line(f.message.trim_end_matches('\u{0}'));
    }
    out
}

pub(super) fn jest(lines: &[&str], p: &Patterns) -> TestOutput {
    let mut out = TestOutput { runner: Some("jest"), ..TestOutput::default() };
    let mut suite: Option<String> = None;
    let mut done = false;
    for line in lines {
        if let Some(file) = line.trim_start().strip_prefix("FAIL ") {
            suite = file.split_whitespace().next().map(|f| f.trim_start_matches("./").to_owned());
        } else if let Some(c) = p.jest_head.captures(line) {
            let name = c.get(1).map_or("", |m| m.as_str());
            // The failures are listed again at the end of long runs.
            let test = (name != "Test suite failed to run").then(|| name.to_owned());
            if out.failures.iter().any(|f| f.test == test && f.file == suite) {
                done = true;
                continue;
            }
            done = false;
            out.failures.push(Failure { test, file: suite.clone(), ..Failure::default() });
        } else if let Some(f) = out.failures.last_mut().filter(|_| !done && line.starts_with("    ")) {
            jest_detail(f, line, p);
        }
    }
    for f in &mut out.failures {
        f.message = one_line(&f.message);
    }
    let tests = lines.iter().rev().find(|l| l.trim_start().starts_with("Tests")).copied().unwrap_or("");
    (out.passed, out.failed) = counts(tests, p);
    out
}

fn jest_detail(f: &mut Failure, line: &str, p: &Patterns) {
    let text = line.trim();
    let stack = text.starts_with("at ");
    if stack {
        if let ((Some(file), Some(line)), None) = (js_place(text, p), f.line)
            && !file.contains("node_modules")
        {
            (f.file, f.line) = (Some(file), Some(line));
        }
    } else if text.starts_with("SyntaxError") && f.test.is_none() {
        text.clone_into(&mut f.message);
    } else if f.message.starts_with("SyntaxError") {
        // What follows shows the code.
    } else if !text.is_empty() && !text.contains('|') && f.line.is_none() && f.message.len() < MAX_MESSAGE {
        // Suites that do not load open with general advice.
        f.message = format!("{} {text}", f.message);
    }
}
