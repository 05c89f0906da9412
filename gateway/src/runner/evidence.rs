//! What tests said of themselves, and the verdict that follows.
//!
//! A program that ends well has not passed its tests by that alone: it may have ended before they ran. Where
//! the framework tells how many tests ran, its word is needed as well.

use types::Verdict;
use types::runner::Ended;

/// What tests are written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framework {
    /// A program that fails by its exit code.
    Script,
    Unittest,
    Pytest,
    NodeTest,
    RustTest,
    GoTest,
}

/// What the framework said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Tests that ran; `None` = nothing was said.
    pub(super) ran: Option<u32>,
    /// Names of those that failed.
    pub(super) failed: Vec<String>,
    /// The framework itself is not there.
    missing: bool,
}

/// Most names of failed tests.
const MOST: usize = 50;
/// Longest name.
const LONGEST: usize = 200;

/// Reads what a framework wrote.
pub(super) fn read(framework: Framework, stdout: &str, stderr: &str) -> Told {
    let mut told = match framework {
        Framework::Script => Told::default(),
        Framework::Unittest => unittest(stderr),
        Framework::Pytest => pytest(stdout, stderr),
        Framework::NodeTest => node(stdout),
        Framework::RustTest => rust(stdout),
        Framework::GoTest => go(stdout),
    };
    told.failed.truncate(MOST);
    for name in &mut told.failed {
        *name = name.chars().take(LONGEST).collect();
    }
    told
}

/// Takes the word out with which plain tests say that they came to their end; whether it was there.
pub(super) fn take_mark(stderr: &mut String, mark: &str) -> bool {
    let Some(at) = stderr.rfind(mark) else { return false };
    let from = stderr.get(..at).filter(|before| before.ends_with('\n')).map_or(at, |_| at.saturating_sub(1));
    let end = at.saturating_add(mark.len());
    let behind = usize::from(stderr.get(end..).is_some_and(|rest| rest.starts_with('\n')));
    stderr.replace_range(from..end.saturating_add(behind), "");
    true
}

/// The verdict, and one sentence on it. `reached`: tests that nobody counts came to their end.
pub(super) fn verdict(
    (framework, reached): (Framework, bool),
    told: &Told,
    exit: Option<i32>,
    ended: Option<Ended>,
) -> (Verdict, Option<String>) {
    let failed = |why: String| (Verdict::Failed, Some(why));
    if told.missing {
        return (Verdict::Unverified, Some("the tests need a framework that is not installed".to_owned()));
    }
    if let Some(limit) = ended {
        return failed(format!("ended for going over its limit of {}", limit.as_str()));
    }
    match (exit, told.failed.first()) {
        (_, Some(first)) => failed(match told.failed.len() {
            1 => format!("test `{first}` failed"),
            n => format!("{n} tests failed, the first is `{first}`"),
        }),
        (None, None) => failed("ended by a signal".to_owned()),
        (Some(0), None) => match (framework, told.ran) {
            (Framework::Script, _) if !reached => {
                failed("ended before its tests had come to their end".to_owned())
            }
            (Framework::Script, _) | (_, Some(1..)) => (Verdict::Passed, None),
            (_, Some(0)) => (Verdict::Unverified, Some("no test ran".to_owned())),
            (_, None) => failed("ended before its tests had reported".to_owned()),
        },
        // pytest's own code for an empty collection, and unittest's from Python 3.12 on.
        (Some(5), None) if matches!(framework, Framework::Pytest | Framework::Unittest) => {
            (Verdict::Unverified, Some("no test ran".to_owned()))
        }
        (Some(code), None) => failed(format!("ended with code {code}")),
    }
}

/// What stands between two texts in a line.
fn between<'t>(line: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let rest = line.strip_prefix(before)?;
    rest.find(after).and_then(|at| rest.get(..at))
}

fn names<'t>(text: &'t str, name: impl Fn(&'t str) -> Option<&'t str>) -> Vec<String> {
    text.lines().filter_map(name).map(|n| n.trim().to_owned()).collect()
}

/// The number before a word in a list of counts: `2 passed, 1 failed`.
fn count(text: &str, word: &str) -> Option<u32> {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    words.windows(2).find_map(|w| match w {
        [n, found] if *found == word => n.parse().ok(),
        _ => None,
    })
}

fn unittest(stderr: &str) -> Told {
    let ran = stderr.lines().rev().find_map(|l| between(l, "Ran ", " test")?.parse().ok());
    let name = |l| between(l, "FAIL: ", " ").or_else(|| between(l, "ERROR: ", " "));
    Told { ran, failed: names(stderr, name), missing: false }
}

fn pytest(stdout: &str, stderr: &str) -> Told {
    let missing = stderr.contains("No module named pytest");
    let summary = stdout.lines().rev().find(|l| l.contains(" in ") && l.trim_matches('=').contains("s"));
    let ran = summary.and_then(|line| {
        let counts = ["passed", "failed", "error", "errors"].map(|w| count(line, w));
        let some = counts.iter().any(Option::is_some) || line.contains("no tests ran");
        some.then(|| counts.into_iter().flatten().sum())
    });
    let name = |l| {
        let rest = str::strip_prefix(l, "FAILED ").or_else(|| l.strip_prefix("ERROR "))?;
        rest.split(" - ").next()
    };
    Told { ran, failed: names(stdout, name), missing }
}

fn node(stdout: &str) -> Told {
    let ran = stdout.lines().rev().find_map(|l| l.strip_prefix("# tests ")?.trim().parse().ok());
    let failed = stdout.lines().filter_map(|l| l.trim_start().strip_prefix("not ok ")?.split_once(" - "));
    Told { ran, failed: failed.map(|(_, name)| name.trim().to_owned()).collect(), missing: false }
}

fn rust(stdout: &str) -> Told {
    let summary = stdout.lines().rev().find_map(|l| l.strip_prefix("test result: "));
    let ran = summary.map(|s| count(s, "passed").unwrap_or(0) + count(s, "failed").unwrap_or(0));
    let name = |l| between(l, "test ", " ... FAILED");
    Told { ran, failed: names(stdout, name), missing: false }
}

fn go(stdout: &str) -> Told {
    let of = |mark: &str| names(stdout, |l| l.trim_start().strip_prefix(mark)?.split(' ').next());
    let failed = of("--- FAIL: ");
    let passed = of("--- PASS: ").len();
    let ended = stdout.lines().any(|l| l.starts_with("ok ") || l == "PASS" || l.starts_with("FAIL"));
    let ran = u32::try_from(failed.len().saturating_add(passed)).unwrap_or(u32::MAX);
    Told { ran: ended.then_some(ran), failed, missing: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Framework::*;

    fn check(framework: Framework, stdout: &str, stderr: &str, ran: Option<u32>, failed: &[&str]) {
        let told = read(framework, stdout, stderr);
        assert_eq!((told.ran, told.failed.as_slice()), (ran, owned(failed).as_slice()), "{stdout}{stderr}");
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn frameworks_are_read() {
        let ok = "test_a (t.T.test_a) ... ok\n\n----\nRan 1 test in 0.000s\n\nOK\n";
        check(Unittest, "", ok, Some(1), &[]);
        let bad = "FAIL: test_a (t.T.test_a)\nERROR: test_b (t.T)\nRan 12 tests in 0.1s\n\nFAILED (failures=1, errors=1)";
        check(Unittest, "", bad, Some(12), &["test_a", "test_b"]);
        check(Unittest, "Ran 1 test in", "", None, &[]);

        check(Pytest, "..\n===== 2 passed in 0.01s =====\n", "", Some(2), &[]);
        let bad = "FAILED test_x.py::test_a - assert 1 == 2\nFAILED test_x.py::test_b\n=== 2 failed, 3 passed in 1.0s ===";
        check(Pytest, bad, "", Some(5), &["test_x.py::test_a", "test_x.py::test_b"]);
        check(Pytest, "=== no tests ran in 0.00s ===", "", Some(0), &[]);
        check(Pytest, "", "/usr/bin/python3: No module named pytest", None, &[]);

        let tap = "TAP version 13\n# Subtest: adds\nnot ok 1 - adds\n  ---\nok 2 - b\n1..2\n# tests 2\n# pass 1\n# fail 1\n";
        check(NodeTest, tap, "", Some(2), &["adds"]);

        let bad = "test a ... FAILED\ntest b ... ok\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored";
        check(RustTest, bad, "", Some(2), &["a"]);
        check(RustTest, "", "error: expected one of", None, &[]);

        check(
            GoTest,
            "=== RUN TestA\n--- PASS: TestA (0.00s)\nPASS\nok  \tsolution\t0.002s\n",
            "",
            Some(1),
            &[],
        );
        let bad = "--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/one (0.00s)\nFAIL\nFAIL\tsolution\t0.003s\n";
        check(GoTest, bad, "", Some(2), &["TestA", "TestA/one"]);
    }

    fn said(ran: Option<u32>, failed: &[&str]) -> Told {
        Told { ran, failed: owned(failed), missing: false }
    }

    #[test]
    fn a_good_end_alone_is_not_a_pass() {
        use Verdict::{Failed, Passed, Unverified};
        let check = |framework, told: &Told, exit, ended, want| {
            let (got, why) = verdict((framework, true), told, exit, ended);
            assert_eq!((got, why.is_none()), (want, want == Passed), "{told:?} {exit:?} {why:?}");
        };
        check(Script, &said(None, &[]), Some(0), None, Passed);
        check(Script, &said(None, &[]), Some(1), None, Failed);
        check(Script, &said(None, &[]), None, None, Failed);
        check(Script, &said(None, &[]), Some(0), Some(Ended::Memory), Failed);
        check(Unittest, &said(Some(3), &[]), Some(0), None, Passed);
        check(Unittest, &said(Some(3), &["a"]), Some(0), None, Failed);
        check(Unittest, &said(Some(0), &[]), Some(0), None, Unverified);
        check(Unittest, &said(Some(0), &[]), Some(5), None, Unverified);
        check(Unittest, &said(None, &[]), Some(0), None, Failed);
        check(Pytest, &Told { missing: true, ..Told::default() }, Some(1), None, Unverified);
        check(RustTest, &said(None, &[]), Some(1), None, Failed);
        assert_eq!(verdict((Script, false), &said(None, &[]), Some(0), None).0, Failed, "they never ended");
        let mut stderr = "warning\n\nMARK\nmore".to_owned();
        assert!(take_mark(&mut stderr, "MARK") && !take_mark(&mut stderr, "MARK"));
        assert_eq!(stderr, "warning\nmore");
    }

    #[test]
    fn names_are_bounded() {
        let many: String = (0..100).map(|i| format!("FAIL: test_{i}{} (t)\n", "x".repeat(300))).collect();
        let told = read(Unittest, "", &many);
        assert!(told.failed.len() == MOST && told.failed.iter().all(|n| n.chars().count() == LONGEST));
    }
}
