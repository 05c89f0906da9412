//! What pytest and unittest print.

use super::{Failure, Patterns, TestOutput, counts, one_line};

/// `===== 1 failed, 2 passed in 0.03s =====`, with or without the bars.
pub(super) fn is_pytest_count(line: &str) -> bool {
    let bare = line.trim_matches(['=', ' ']);
    bare.contains(" in ")
        && bare.ends_with('s')
        && ["passed", "failed", "error", "no tests ran"].iter().any(|w| bare.contains(w))
}

pub(super) fn pytest(lines: &[&str], p: &Patterns) -> TestOutput {
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

pub(super) fn unittest(lines: &[&str], p: &Patterns) -> TestOutput {
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
