//! Reading what test runners print: which tests failed, where and with what message.
//!
//! A pure function of the text, for whoever runs the tests. It knows pytest, unittest, `node --test` (TAP and
//! spec), jest, `cargo test` and rustc, `go test` and the Go compiler.

mod compiled;
mod javascript;
mod python;

use crate::MAX_FINDINGS;
use crate::finding::{Note, cut};
use compiled::{cargo, go};
use javascript::{jest, node};
use python::{is_pytest_count, pytest, unittest};
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
    } else if has(&|l| l.starts_with("Test Suites:") || l.starts_with("Tests:  ")) {
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

fn one_line(text: &str) -> String {
    cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), MAX_MESSAGE)
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
            include_str!(concat!("../../fixtures/test_output/", $name, ".txt"))
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
