//! Reading what test runners print: which tests failed, where and with what message.
//!
//! A pure function of the text, for whoever runs the tests. It knows pytest, unittest, `node --test` (TAP and
//! spec), jest (and vitest, which prints alike), `cargo test` and rustc, `go test` and the Go compiler.

use crate::MAX_FINDINGS;
use crate::finding::{Note, cut};
use regex::Regex;
use std::sync::LazyLock;
use types::Finding;
use types::run::Severity;

/// Longest output that is read, in bytes; of a longer one the end, where runners put their summaries.
const MAX_BYTES: usize = 1024 * 1024;
/// Most characters of a message that are kept.
const MAX_MESSAGE: usize = 160;
/// Name of the check whose findings these become.
const NAME: &str = "code_tests";

/// A test that failed, or code that did not get as far as being tested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Name of the test as its runner writes it; `None` for code that does not compile or load.
    pub test: Option<String>,
    /// What went wrong, on one line; "" if the runner says nothing.
    pub message: String,
    /// The file, as printed.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<u32>,
}

/// What a run of tests printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestOutput {
    /// `pytest`, `unittest`, `node`, `jest`, `cargo` or `go`; `None` if the text is of none of them.
    pub runner: Option<&'static str>,
    /// Tests that passed, if it says so.
    pub passed: Option<u64>,
    /// Tests that failed, errors included, if it says so.
    pub failed: Option<u64>,
    /// The failures in the order in which they are printed.
    pub failures: Vec<Failure>,
}

impl TestOutput {
    /// The failures as findings of `code_tests`, at most as many as a report may have. The path of a finding
    /// is the name of its test, so that the same failure twice is seen to be the same.
    #[must_use]
    pub fn findings(&self, severity: Severity) -> Vec<Finding> {
        self.failures.iter().take(MAX_FINDINGS).map(|f| finding(f, severity)).collect()
    }
}

fn finding(f: &Failure, severity: Severity) -> Finding {
    let place = match (&f.file, f.line) {
        (Some(file), Some(line)) => format!(" ({}:{line})", cut(file, 60)),
        (Some(file), None) => format!(" ({})", cut(file, 60)),
        _ => String::new(),
    };
    let (code, what) = match &f.test {
        Some(test) => ("test_failed", format!("{} failed{place}: {}", cut(test, 60), f.message)),
        None => ("does_not_build", format!("the code does not build or load{place}: {}", f.message)),
    };
    let path = f.test.as_deref().or(f.file.as_deref()).unwrap_or("");
    let note = Note::new(NAME, severity, code, what.trim_end_matches([':', ' '])).path(path);
    note.actual(f.message.as_str())
        .hint("mend the code so that this test passes; leave the test as it is")
        .into_finding()
}

struct Patterns {
    colour: Regex,
    pytest_summary: Regex,
    pytest_place: Regex,
    unittest_head: Regex,
    python_place: Regex,
    tap: Regex,
    spec: Regex,
    jest_head: Regex,
    js_place: Regex,
    cargo_panic: Regex,
    rust_place: Regex,
    go_fail: Regex,
    go_place: Regex,
    count: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        colour: Regex::new("\x1b\\[[0-9;]*[A-Za-z]").ok()?,
        pytest_summary: Regex::new(r"^(FAILED|ERROR) (\S+?\.py)(?:::(\S+(?:\[[^\]]*\])?))?(?: - (.*))?$")
            .ok()?,
        pytest_place: Regex::new(r"^(\S+\.py):(\d+): ").ok()?,
        unittest_head: Regex::new(r"^(FAIL|ERROR): (\S+)(?: \(([^)]*)\))?(.*)$").ok()?,
        python_place: Regex::new(r#"^\s*File "([^"]+)", line (\d+)"#).ok()?,
        tap: Regex::new(r"^(\s*)not ok \d+(?: - (.*))?$").ok()?,
        spec: Regex::new(r"^(?:✖|×|not ok) (.+?)(?: \([\d.]+m?s\))?$").ok()?,
        jest_head: Regex::new(r"^  ● (.+)$").ok()?,
        js_place: Regex::new(r"\(?((?:[\w./@\\-]|:\\)+\.[cm]?[jt]sx?):(\d+):\d+\)?").ok()?,
        cargo_panic: Regex::new(
            r"^thread '([^']+)'(?: \(\d+\))? panicked at (?:'(.*)', )?([^:\s]+):(\d+):\d+:?$",
        )
        .ok()?,
        rust_place: Regex::new(r"^\s*--> ([^:]+):(\d+):\d+$").ok()?,
        go_fail: Regex::new(r"^\s*--- FAIL: (\S+)").ok()?,
        go_place: Regex::new(r"^\s*((?:\./)?[\w./-]+\.go):(\d+)(?::\d+)?: (.*)$").ok()?,
        count: Regex::new(r"(\d+) (failed|failures?|errors?|passed|pass)\b").ok()?,
    })
});

/// Reads the output of a test runner, standard output and error together.
#[must_use]
pub fn read(output: &str) -> TestOutput {
    let Some(p) = PATTERNS.as_ref() else { return TestOutput::default() };
    let mut from = output.len().saturating_sub(MAX_BYTES);
    while !output.is_char_boundary(from) {
        from = from.saturating_add(1);
    }
    let plain = p.colour.replace_all(output.get(from..).unwrap_or(""), "");
    let lines: Vec<&str> = plain.lines().map(str::trim_end).collect();
    let has = |f: &dyn Fn(&str) -> bool| lines.iter().any(|l| f(l));
    if has(&|l| l.starts_with("TAP version") || l.starts_with("# tests ") || l.starts_with("ℹ tests ")) {
        node(&lines, p)
    } else if has(&|l| {
        l.starts_with("Test Suites:") || l.starts_with("Tests:  ") || l.starts_with(" Test Files ")
    }) {
        jest(&lines, p)
    } else if has(&|l| {
        l.starts_with("test result:") || l.starts_with("error[E") || l.starts_with("error: could not compile")
    }) {
        cargo(&lines, p)
    } else if has(&|l| {
        l.starts_with("--- FAIL:") || l.starts_with("FAIL\t") || l.starts_with("ok  \t") || l == "PASS"
    }) {
        go(&lines, p)
    } else if has(&|l| l.starts_with("Ran ") && l.contains(" test")) {
        unittest(&lines, p)
    } else if has(&|l| l.contains("short test summary") || is_pytest_count(l)) {
        pytest(&lines, p)
    } else {
        TestOutput::default()
    }
}

/// `===== 1 failed, 2 passed in 0.03s =====`, with or without the bars.
fn is_pytest_count(line: &str) -> bool {
    let bare = line.trim_matches(['=', ' ']);
    bare.contains(" in ")
        && bare.ends_with('s')
        && ["passed", "failed", "error", "no tests ran"].iter().any(|w| bare.contains(w))
}

fn one_line(text: &str) -> String {
    cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), MAX_MESSAGE)
}

fn pytest(lines: &[&str], p: &Patterns) -> TestOutput {
    let mut out = TestOutput { runner: Some("pytest"), ..TestOutput::default() };
    // The summary names the tests; what goes before it says where and why.
    let mut details: Vec<(String, String, u32)> = Vec::new();
    let (mut section, mut why) = (String::new(), Vec::new());
    for line in lines {
        let title = line.trim_matches('_').trim();
        if line.starts_with("___") && line.ends_with("___") && !title.is_empty() {
            title.trim_start_matches("ERROR collecting ").clone_into(&mut section);
            why.clear();
        } else if let Some(m) = line.strip_prefix("E ") {
            why.push(m.trim());
        }
        if let Some(c) = p.pytest_place.captures(line)
            && let (Some(file), Some(n)) = (c.get(1), c.get(2))
        {
            details.push((section.clone(), file.as_str().to_owned(), n.as_str().parse().unwrap_or(0)));
        }
        if let Some(c) = p.pytest_summary.captures(line) {
            let file = c.get(2).map_or("", |m| m.as_str());
            let test = c.get(3).map(|m| m.as_str().to_owned());
            let dotted = test.as_deref().unwrap_or(file).replace("::", ".");
            let place = details.iter().rev().find(|(s, f, _)| *s == dotted && f.ends_with(file));
            let message = c.get(4).map_or_else(|| why.last().copied().unwrap_or(""), |m| m.as_str());
            out.failures.push(Failure {
                test,
                message: one_line(message),
                file: Some(file.to_owned()),
                line: place.map(|(_, _, n)| *n),
            });
        }
    }
    let count = lines.iter().rev().find(|l| is_pytest_count(l)).copied().unwrap_or("");
    (out.passed, out.failed) = counts(count, p);
    out
}

/// `passed` and `failed`, the latter with errors.
fn counts(line: &str, p: &Patterns) -> (Option<u64>, Option<u64>) {
    let (mut passed, mut failed) = (None::<u64>, None::<u64>);
    for c in p.count.captures_iter(line) {
        let n: u64 = c.get(1).and_then(|m| m.as_str().parse().ok()).unwrap_or(0);
        let to =
            if c.get(2).is_some_and(|m| m.as_str().starts_with("pass")) { &mut passed } else { &mut failed };
        *to = Some(to.unwrap_or(0).saturating_add(n));
    }
    (passed, failed)
}

fn unittest(lines: &[&str], p: &Patterns) -> TestOutput {
    let mut out = TestOutput { runner: Some("unittest"), ..TestOutput::default() };
    let mut open: Option<Failure> = None;
    let mut traced = false;
    for line in lines {
        if let Some(c) = p.unittest_head.captures(line) {
            out.failures.extend(open.take());
            let name = c.get(2).map_or("", |m| m.as_str());
            let of = c.get(3).map_or("", |m| m.as_str());
            let sub = c.get(4).map_or("", |m| m.as_str());
            let full = if of.ends_with(name) { of.to_owned() } else { format!("{of}.{name}") };
            let unloaded = of.contains("_FailedTest");
            let test = (!unloaded).then(|| format!("{}{sub}", full.trim_start_matches('.')));
            open = Some(Failure { test, ..Failure::default() });
            traced = false;
        } else if let Some(f) = &mut open {
            if let Some(c) = p.python_place.captures(line) {
                // The last frame of the test's own files is where it failed.
                let file = c.get(1).map_or("", |m| m.as_str());
                if !file.contains("/unittest/") {
                    f.file = Some(file.to_owned());
                    f.line = c.get(2).and_then(|m| m.as_str().parse().ok());
                }
                traced = true;
            } else if line.starts_with("====") || line.starts_with("Ran ") {
                out.failures.extend(open.take());
            } else if traced && !line.starts_with([' ', '-']) && !line.is_empty() && f.message.is_empty() {
                f.message = one_line(line);
            }
        }
    }
    out.failures.extend(open);
    let number = |l: &str, key: &str| -> Option<u64> {
        let rest = l.split(key).nth(1)?;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
    };
    let ran = lines.iter().rev().find(|l| l.starts_with("Ran ")).and_then(|l| number(l, "Ran "));
    let failed =
        lines.iter().rev().find(|l| l.starts_with("FAILED (")).map_or(0, |l| {
            number(l, "failures=").unwrap_or(0).saturating_add(number(l, "errors=").unwrap_or(0))
        });
    out.failed = Some(failed);
    out.passed = ran.map(|n| n.saturating_sub(failed));
    out
}

fn node(lines: &[&str], p: &Patterns) -> TestOutput {
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

fn jest(lines: &[&str], p: &Patterns) -> TestOutput {
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

fn cargo(lines: &[&str], p: &Patterns) -> TestOutput {
    let mut out = TestOutput { runner: Some("cargo"), ..TestOutput::default() };
    for (i, line) in lines.iter().enumerate() {
        let next = |k: usize| lines.get(i.saturating_add(k)).copied().unwrap_or("");
        if let Some(c) = p.cargo_panic.captures(line) {
            let text = |n: usize| c.get(n).map(|m| m.as_str().to_owned());
            // Since 1.73 the message stands on the lines behind the place.
            let message = text(2).unwrap_or_else(|| {
                let more = (1..8)
                    .map(next)
                    .take_while(|l| !l.is_empty() && !l.starts_with("note:") && !l.starts_with("stack"));
                more.collect::<Vec<_>>().join(" ")
            });
            out.failures.push(Failure {
                test: text(1),
                message: one_line(&message),
                file: text(3),
                line: c.get(4).and_then(|m| m.as_str().parse().ok()),
            });
        } else if line.starts_with("error") && line.contains(": ") && p.rust_place.is_match(next(1)) {
            let place = p.rust_place.captures(next(1));
            let text = |n: usize| place.as_ref().and_then(|c| c.get(n)).map(|m| m.as_str().to_owned());
            out.failures.push(Failure {
                test: None,
                message: one_line(line),
                file: text(1),
                line: text(2).and_then(|n| n.parse().ok()),
            });
        }
    }
    // Tests that failed without a panic of their own, such as one that should have.
    let named = lines.iter().filter_map(|l| l.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    for name in named {
        let name = name.trim_end_matches(" - should panic");
        if !out.failures.iter().any(|f| f.test.as_deref() == Some(name)) {
            let note = lines
                .iter()
                .skip_while(|l| **l != format!("---- {name} stdout ----"))
                .nth(1)
                .copied()
                .unwrap_or("");
            let message = one_line(note.trim_start_matches("note: "));
            out.failures.push(Failure { test: Some(name.to_owned()), message, ..Failure::default() });
        }
    }
    let results = lines.iter().filter(|l| l.starts_with("test result:"));
    for line in results {
        let (passed, failed) = counts(line, p);
        out.passed = Some(out.passed.unwrap_or(0).saturating_add(passed.unwrap_or(0)));
        out.failed = Some(out.failed.unwrap_or(0).saturating_add(failed.unwrap_or(0)));
    }
    // A panic in a helper thread of a test that passes is no failure.
    if out.failed == Some(0) {
        out.failures.clear();
    }
    out
}

fn go(lines: &[&str], p: &Patterns) -> TestOutput {
    let mut out = TestOutput { runner: Some("go"), ..TestOutput::default() };
    let building = lines.iter().any(|l| l.ends_with("[build failed]") || l.ends_with("[setup failed]"));
    for line in lines {
        if let Some(name) = p.go_fail.captures(line).and_then(|c| c.get(1)) {
            out.failures.push(Failure { test: Some(name.as_str().to_owned()), ..Failure::default() });
        } else if let Some(c) = p.go_place.captures(line) {
            let text = |n: usize| c.get(n).map_or("", |m| m.as_str());
            let place = (Some(text(1).trim_start_matches("./").to_owned()), text(2).parse().ok());
            let indented = line.starts_with(' ');
            match out.failures.last_mut().filter(|f| f.test.is_some() && indented) {
                Some(f) if f.line.is_none() => {
                    (f.file, f.line) = place;
                    f.message = one_line(text(3));
                }
                None if building && !indented => {
                    out.failures.push(Failure {
                        test: None,
                        message: one_line(text(3)),
                        file: place.0,
                        line: place.1,
                    });
                }
                _ => {}
            }
        } else if let Some(f) = out.failures.last_mut()
            && f.message.is_empty()
            && let Some(why) = line.trim_start().strip_prefix("panic: ")
        {
            f.message = one_line(&format!("panic: {}", why.trim_end_matches(" [recovered]")));
        }
    }
    // A test that failed only by its parts says nothing of its own.
    let names: Vec<String> = out.failures.iter().filter_map(|f| f.test.clone()).collect();
    out.failures.retain(|f| {
        let part = |n: &String| {
            f.test.as_ref().is_some_and(|t| n.strip_prefix(t.as_str()).is_some_and(|r| r.starts_with('/')))
        };
        !(f.message.is_empty() && names.iter().any(part))
    });
    let failed = out.failures.iter().filter(|f| f.test.is_some()).count();
    out.failed = u64::try_from(failed).ok();
    let passed = lines.iter().filter(|l| l.trim_start().starts_with("--- PASS:")).count();
    out.passed = u64::try_from(passed).ok().filter(|n| *n > 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Want<'a> = (Option<&'a str>, &'a str, Option<&'a str>, Option<u32>);

    fn check(output: &str, runner: &str, passed: Option<u64>, failed: Option<u64>, want: &[Want<'_>]) {
        let got = read(output);
        assert_eq!(got.runner, Some(runner), "{output}");
        assert_eq!((got.passed, got.failed), (passed, failed), "{output}");
        let failures: Vec<Want<'_>> = got
            .failures
            .iter()
            .map(|f| (f.test.as_deref(), f.message.as_str(), f.file.as_deref(), f.line))
            .collect();
        assert_eq!(failures, want, "{output}");
    }

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../fixtures/test_output/", $name, ".txt"))
        };
    }

    #[test]
    fn python_runners_are_read() {
        let file = Some("test_c.py");
        let want: &[Want<'_>] = &[
            (Some("test_add"), "AssertionError: sum is wrong", file, Some(6)),
            (Some("test_par[2]"), "assert 2 == 1", file, Some(8)),
            (Some("TestT::test_err"), "ValueError: boom", file, Some(11)),
        ];
        check(fixture!("pytest"), "pytest", Some(2), Some(3), want);
        check(fixture!("pytest_q"), "pytest", Some(2), Some(3), want);
        let missing = "ModuleNotFoundError: No module named 'nosuchmodule'";
        check(fixture!("pytest_b"), "pytest", None, Some(1), &[(None, missing, Some("test_b.py"), Some(1))]);
        let file = Some("test_a.py");
        check(
            fixture!("unittest"),
            "unittest",
            Some(0),
            Some(3),
            &[
                (Some("test_a.T.test_err"), "ValueError: boom", file, Some(12)),
                (Some("test_a.T.test_sub (i=1)"), "AssertionError: 1 != 0", file, Some(15)),
                (Some("test_a.T.test_u"), "AssertionError: 0 != 4", file, Some(10)),
            ],
        );
        check(
            fixture!("unittest_b"),
            "unittest",
            Some(0),
            Some(1),
            &[(None, missing, Some("test_b.py"), Some(1))],
        );
        check("..\n----\nRan 2 tests in 0.001s\n\nOK\n", "unittest", Some(2), Some(0), &[]);
        check("..  [100%]\n2 passed in 0.01s\n", "pytest", Some(2), None, &[]);
    }

    #[test]
    fn javascript_runners_are_read() {
        let file = Some("a.test.js");
        let adds = "Expected values to be strictly equal: 2 !== 3";
        check(
            fixture!("node_tap"),
            "node",
            Some(1),
            Some(3),
            &[(Some("adds"), adds, file, Some(2)), (Some("inner"), "boom", file, Some(2))],
        );
        let spec = format!("AssertionError [ERR_ASSERTION]: {adds}");
        check(
            fixture!("node_spec"),
            "node",
            Some(1),
            Some(3),
            &[(Some("adds"), spec.as_str(), file, Some(2)), (Some("inner"), "Error: boom", file, Some(2))],
        );
        let sum = "expect(received).toBe(expected) // Object.is equality Expected: 3 Received: 2";
        let syntax = "SyntaxError: bad.test.js: Unexpected token (1:6)";
        let bad = syntax.replace("bad.test.js", "j/bad.test.js");
        check(
            fixture!("jest"),
            "jest",
            Some(1),
            Some(2),
            &[
                (Some("sum › adds"), sum, Some("s.test.js"), Some(1)),
                (Some("sum › throws"), "boom", Some("s.test.js"), Some(1)),
                (None, bad.as_str(), Some("bad.test.js"), None),
            ],
        );
    }

    #[test]
    fn compiled_languages_are_read() {
        let file = Some("t.rs");
        check(
            fixture!("cargo"),
            "cargo",
            Some(1),
            Some(3),
            &[
                (Some("adds"), "assertion `left == right` failed: sum of 1 left: -1 right: 3", file, Some(3)),
                (Some("deep::boom"), "index out of bounds: the len is 0 but the index is 0", file, Some(4)),
                (Some("deep::calm"), "test did not panic as expected at t.rs:4:101", None, None),
            ],
        );
        check(
            fixture!("rustc"),
            "cargo",
            None,
            None,
            &[
                (None, "error[E0425]: cannot find value `y` in this scope", Some("b.rs"), Some(1)),
                (None, "error[E0308]: mismatched types", Some("b.rs"), Some(1)),
            ],
        );
        let file = Some("x_test.go");
        check(
            fixture!("go"),
            "go",
            None,
            Some(2),
            &[
                (Some("TestAdd"), "Add(1,2) = -1, want 3", file, Some(6)),
                (Some("TestTable/b"), "no b", file, Some(11)),
            ],
        );
        let type_error = "cannot use \"s\" (untyped string constant) as int value in variable declaration";
        check(fixture!("go_build"), "go", None, Some(0), &[(None, type_error, Some("bad.go"), Some(2))]);
        let panic = "panic: assignment to entry in nil map";
        check(fixture!("go_panic"), "go", None, Some(1), &[(Some("TestPanic"), panic, None, None)]);
    }

    #[test]
    fn what_is_no_test_output_gives_nothing() {
        for text in ["", "hello", "Segmentation fault", "Killed"] {
            assert_eq!(read(text), TestOutput::default(), "{text}");
        }
    }

    #[test]
    fn failures_become_findings() {
        let out = TestOutput {
            failures: vec![
                Failure {
                    test: Some("t".into()),
                    message: "x".repeat(500),
                    file: Some("a.py".into()),
                    line: Some(3),
                },
                Failure { test: None, message: "bad".into(), file: Some("b.py".into()), line: None },
            ],
            ..TestOutput::default()
        };
        let f = out.findings(Severity::Repair);
        assert_eq!(f.iter().map(|f| f.code.as_str()).collect::<Vec<_>>(), ["test_failed", "does_not_build"]);
        assert_eq!(f[0].path.as_deref(), Some("t"));
        assert!(f[0].message.starts_with("t failed (a.py:3): xxx") && f[0].message.chars().count() <= 200);
        assert_eq!(f[1].message, "the code does not build or load (b.py): bad");
    }

    proptest! {
        #[test]
        fn any_text_is_read(
            parts in prop::collection::vec(prop::sample::select(vec![
                "TAP version 13", "not ok 1 - a", "  ---", "  error: |-", "  ...", "# tests 1", "✖ failing tests:", "test at a.js:1:2",
                "✖ a (1ms)", "Test Suites: 1", "  ● a", "FAIL ./a", "test result: FAILED. 1 failed", "thread 'a' panicked at b.rs:1:2:",
                "--- FAIL: T (0.0s)", "    x.go:1: y", "FAIL\tx [build failed]", "Ran 1 test in 1s", "FAIL: a (b.a)", "FAILED x.py::y - z",
                "  File \"a\", line 2", "= 1 failed in 2s =", "\u{1b}[31m", "é", "",
            ]), 0..12),
        ) {
            let out = read(&parts.join("\n"));
            prop_assert!(out.findings(Severity::Warn).len() <= MAX_FINDINGS);
        }
    }
}
