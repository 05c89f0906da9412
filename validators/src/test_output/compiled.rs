//! What `cargo test`, rustc and `go test` print.

use super::{Failure, Patterns, TestOutput, counts, one_line};

pub(super) fn cargo(lines: &[&str], p: &Patterns) -> TestOutput {
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

pub(super) fn go(lines: &[&str], p: &Patterns) -> TestOutput {
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
