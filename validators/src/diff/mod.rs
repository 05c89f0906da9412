//! `diff`: the patch in the answer parses, its hunks say what they hold, and it applies to its files.

mod files;
mod mend;
mod parse;

use crate::check::Reference;
use crate::finding::{Note, cut, decided, nothing, unverified};
use crate::params::{Params, Problem};
use crate::text::blocks::outline;
use crate::text::{MAX_BYTES, line_column};
use crate::{About, Check, Entry, Input, Kind};
use files::Files;
use mend::fixed;
use parse::{FilePatch, Hunk, Kind as Line};
use serde_json::Value;
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;
use types::run::Severity;
use types::{Finding, Report};

const NAME: &str = "diff";
/// Most hunks that are looked at.
const MAX_HUNKS: usize = 2_000;
/// Most work of applying hunks, in lines of a file times lines of a hunk.
const MAX_WORK: usize = 20_000_000;

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "the patch in the answer parses, its hunks are consistent, and it applies to its files",
    kind: Kind::Structural,
    stream: "end",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct Diff {
    severity: Severity,
    applies_to: Vec<Reference>,
    require: bool,
}

/// Parameters: `applies_to`, the path of a value that holds the files (a text, a map from path to text, or a
/// list of objects with `path` and `content`; without it the files that the request shows), and `require`
/// (default true: an answer without a patch fails).
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["applies_to", "require"])?;
    let applies_to = params.reference("applies_to")?.into_iter().collect();
    Ok(Arc::new(Diff { severity, applies_to, require: params.boolean("require", true)? }))
}

impl Check for Diff {
    fn about(&self) -> About {
        About::structural(NAME, self.severity)
    }

    fn references(&self) -> &[Reference] {
        &self.applies_to
    }

    fn mend(&self, text: &str) -> Option<String> {
        fixed(text)
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let (files, given) = match self.applies_to.first() {
            None => (files::of_request(input.request), false),
            Some(r) => match input.value(&r.path) {
                Some(v) => (files::of_value(v), true),
                None => return unverified(format!("`{}` has no value in this run", r.path)),
            },
        };
        let choices = &input.completion.choices;
        let (mut findings, mut unsure, mut seen) = (Vec::<Finding>::new(), None::<String>, false);
        for (position, choice) in choices.iter().enumerate() {
            if choice.text.len() > MAX_BYTES {
                return unverified("the answer is too long to be looked at");
            }
            let (notes, doubt, patches) = self.text(&choice.text, &files, given);
            seen |= patches || self.require;
            unsure = unsure.or(doubt);
            findings.extend(notes.into_iter().map(|n| n.choice(position, choices.len()).into_finding()));
        }
        match (findings.is_empty(), unsure) {
            (true, Some(why)) => unverified(why),
            (true, None) if !seen => nothing(),
            _ => decided(findings),
        }
    }
}

impl Diff {
    /// What is wrong, what could not be told, and whether there is a patch at all.
    fn text(&self, text: &str, files: &Files, given: bool) -> (Vec<Note>, Option<String>, bool) {
        let patches: Vec<(usize, Vec<FilePatch>, &str)> = patches(text);
        if patches.iter().all(|(_, p, _)| p.is_empty()) {
            let none = Note::new(NAME, self.severity, "no_patch", "the answer holds no unified diff")
                .expected("a unified diff with `---`, `+++` and `@@` lines")
                .hint("give the change as a unified diff in a block fenced with ```diff");
            return (if self.require { vec![none] } else { Vec::new() }, None, false);
        }
        let hunks: usize = patches.iter().flat_map(|(_, p, _)| p).map(|f| f.hunks.len()).sum();
        if hunks > MAX_HUNKS {
            return (Vec::new(), Some(format!("{hunks} hunks are more than are looked at")), true);
        }
        let mut notes = Vec::new();
        let mut unsure = None;
        for (shift, file, patch) in patches.iter().flat_map(|(s, p, t)| p.iter().map(|f| (*s, f, *t))) {
            let place = Place { answer: text, shift, patch };
            let wrong = self.consistent(file, &place);
            let sound = wrong.is_empty();
            notes.extend(wrong);
            if sound {
                match self.applies(file, files, given, &place) {
                    Ok(note) => notes.extend(note),
                    Err(why) => unsure = unsure.or(Some(why)),
                }
            }
        }
        (notes, unsure, true)
    }

    /// Whether the hunks are what their headers say.
    fn consistent(&self, file: &FilePatch, place: &Place<'_>) -> Vec<Note> {
        let mut notes = Vec::new();
        if file.hunks.is_empty() && !file.bare {
            let what = format!("`{}` is named and not changed", cut(file.path(), 80));
            notes.push(self.note(place, "no_hunks", &file.span, &what));
        }
        let mut end = 0_usize;
        for hunk in &file.hunks {
            notes.extend(self.hunk(hunk, &mut end, place));
        }
        notes
    }

    fn hunk(&self, hunk: &Hunk, end: &mut usize, place: &Place<'_>) -> Option<Note> {
        let header = place.text(&hunk.header);
        let (Some(old), Some(new)) = (hunk.old, hunk.new) else {
            let what = format!("`{}` is not the header of a hunk", cut(header, 80));
            let note = self.note(place, "bad_header", &hunk.header, &what);
            return Some(note.expected("@@ -start,lines +start,lines @@").actual(header));
        };
        if let Some((_, span)) = hunk.lines.iter().find(|(k, _)| *k == Line::Unknown) {
            let what = "a line of a hunk begins with neither a blank, `+` nor `-`";
            return Some(self.note(place, "bad_line", span, what).actual(place.text(span)));
        }
        let counts = hunk.counts();
        if counts != (old.1, new.1) {
            let what = format!(
                "the hunk has {} lines before and {} after, its header says {} and {}",
                counts.0, counts.1, old.1, new.1
            );
            let note = self.note(place, "wrong_count", &hunk.header, &what);
            return Some(
                note.expected(format!("{},{}", counts.0, counts.1)).actual(format!("{},{}", old.1, new.1)),
            );
        }
        if !hunk.lines.iter().any(|(k, _)| matches!(k, Line::Added | Line::Removed)) {
            return Some(self.note(place, "no_change", &hunk.header, "the hunk changes nothing"));
        }
        if old.0 < *end {
            let what = format!("the hunk begins at line {}, before the end of the one above it", old.0);
            return Some(self.note(place, "overlap", &hunk.header, &what));
        }
        *end = old.0.saturating_add(old.1);
        None
    }

    /// Whether a consistent patch applies to its file; why that could not be told.
    fn applies(
        &self,
        file: &FilePatch,
        files: &Files,
        given: bool,
        place: &Place<'_>,
    ) -> Result<Option<Note>, String> {
        if file.hunks.is_empty() || file.creates() || files.is_empty() && !given {
            return Ok(None);
        }
        let path = file.old.as_deref().or(file.new.as_deref()).unwrap_or("");
        let Some(base) = files::find(files, path) else {
            let known: Vec<&str> = files.keys().map(String::as_str).take(10).collect();
            if !given {
                return Err(format!("the request does not show `{}`", cut(path, 80)));
            }
            let what = format!("there is no file `{}`", cut(path, 80));
            let note = self.note(place, "unknown_file", &file.span, &what);
            return Ok(Some(note.expected(format!("one of {}", known.join(", "))).actual(path)));
        };
        let base = base.replace("\r\n", "\n");
        let lines = base.lines().count().max(1);
        let work: usize =
            file.hunks.iter().map(|h| h.lines.len().saturating_mul(lines)).fold(0, usize::saturating_add);
        if work > MAX_WORK {
            return Err(format!("`{}` is too long to try the patch on it", cut(path, 80)));
        }
        let patch = canonical(file, place);
        let Ok(patch) = diffy::Patch::from_str(&patch) else {
            return Err("the patch could not be read again".to_owned());
        };
        if diffy::apply(&base, &patch).is_ok() {
            return Ok(None);
        }
        Ok(Some(self.mismatch(file, &base, path, place)))
    }

    /// The first line that the patch expects and the file does not have.
    fn mismatch(&self, file: &FilePatch, base: &str, path: &str, place: &Place<'_>) -> Note {
        let have: std::collections::HashSet<&str> = base.lines().collect();
        let wanted = file
            .hunks
            .iter()
            .flat_map(|h| &h.lines)
            .filter(|(k, _)| matches!(k, Line::Context | Line::Removed));
        let missing = wanted.clone().find(|(_, s)| !have.contains(body(place.text(s))));
        let span = missing.or_else(|| wanted.clone().next()).map_or(file.span.clone(), |(_, s)| s.clone());
        let what = match missing {
            Some(_) => {
                format!("`{}` does not have this line: `{}`", cut(path, 60), cut(body(place.text(&span)), 80))
            }
            None => format!("the lines of a hunk do not stand together in `{}`", cut(path, 60)),
        };
        self.note(place, "does_not_apply", &span, &what).hint(
            "copy context and removed lines exactly from the file, and give enough of them to find the place",
        )
    }

    fn note(&self, place: &Place<'_>, code: &str, span: &Range<usize>, what: &str) -> Note {
        let span = span.start.saturating_add(place.shift)..span.end.saturating_add(place.shift);
        let (line, _) = line_column(place.answer, span.start);
        Note::new(NAME, self.severity, code, &format!("line {line}: {what}")).span(span.start, span.end)
    }
}

/// Where a patch lies in the answer.
#[derive(Clone, Copy)]
struct Place<'a> {
    answer: &'a str,
    shift: usize,
    patch: &'a str,
}

impl<'a> Place<'a> {
    fn text(&self, span: &Range<usize>) -> &'a str {
        self.patch.get(span.clone()).unwrap_or("")
    }
}

/// A line of a hunk without its mark.
fn body(line: &str) -> &str {
    line.get(1..).unwrap_or("")
}

/// The patches of an answer with their places: blocks fenced as `diff` or that look like one, else the whole.
fn patches(text: &str) -> Vec<(usize, Vec<FilePatch>, &str)> {
    let blocks: Vec<Range<usize>> = outline(text)
        .code
        .into_iter()
        .filter(|c| {
            let info = c.info.as_deref().map(|i| i.split_whitespace().next().unwrap_or("").to_lowercase());
            let named = matches!(info.as_deref(), Some("diff" | "patch" | "udiff"));
            named || matches!(info.as_deref(), Some("")) && looks_like_patch(&c.text)
        })
        .map(|c| c.body)
        .collect();
    if blocks.is_empty() && looks_like_patch(text) {
        return vec![(0, parse::parse(text), text)];
    }
    let slice = |b: Range<usize>| (b.start, text.get(b).unwrap_or(""));
    blocks.into_iter().map(slice).map(|(at, t)| (at, parse::parse(t), t)).collect()
}

fn looks_like_patch(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_end);
    lines.any(|l| l.starts_with("@@ -") || l.starts_with("diff --git "))
}

/// The patch of one file as a strict parser wants it.
fn canonical(file: &FilePatch, place: &Place<'_>) -> String {
    let mut out = String::from("--- a\n+++ b\n");
    for hunk in &file.hunks {
        let (Some(old), Some(new)) = (hunk.old, hunk.new) else { continue };
        let _ = writeln!(out, "@@ -{},{} +{},{} @@", old.0, old.1, new.0, new.1);
        for (kind, span) in &hunk.lines {
            let line = place.text(span);
            match kind {
                Line::Context if line.is_empty() => out.push(' '),
                _ => out.push_str(line),
            }
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Values;
    use crate::testing::*;
    use proptest::prelude::*;
    use serde_json::json;

    const FILE: &str = "one\ntwo\nthree\nfour\nfive\n";
    const GOOD: &str = "--- a/f.txt\n+++ b/f.txt\n@@ -2,3 +2,3 @@\n two\n-three\n+THREE\n four\n";

    fn check(patch: &str, want: &[&str]) {
        check_with(patch, json!({"f.txt": FILE}), want);
    }

    fn check_with(patch: &str, files: Value, want: &[&str]) {
        let check = build(&json!({"applies_to": "nodes.repo.files"}), Severity::Repair).unwrap();
        let values = Values::from([("nodes.repo.files".to_owned(), files)]);
        let text = format!("Change:\n\n```diff\n{patch}```\n");
        let (answer, request) = (answer(&text), request(json!({})));
        let report = check.check(&Input::new(&answer, &request).with_values(&values));
        let mut got: Vec<&str> = report.findings.iter().map(|f| f.code.as_str()).collect();
        if report.verdict == types::Verdict::Unverified {
            got.push("unverified");
        }
        assert_eq!(got, want, "{patch}");
    }

    #[test]
    fn patches_apply_or_say_where_not() {
        check(GOOD, &[]);
        check(&GOOD.replace("-2,3 +2,3", "-20,3 +20,3"), &[]);
        check(&GOOD.replace("-three", "-thre"), &["does_not_apply"]);
        check(&GOOD.replace("f.txt", "g.txt"), &["unknown_file"]);
        check(&GOOD.replace("f.txt", "src/f.txt"), &[]);
        check("--- /dev/null\n+++ b/new.txt\n@@ -0,0 +1 @@\n+x\n", &[]);
        check_with(GOOD, json!("one\r\ntwo\r\nthree\r\nfour\r\n"), &[]);
        check_with(GOOD, Value::Null, &["unverified"]);
        let end = "--- a/f.txt\n+++ b/f.txt\n@@ -5 +5 @@\n-five\n+FIVE\n\\ No newline at end of file\n";
        check(end, &[]);
    }

    #[test]
    fn hunks_are_what_they_say() {
        check(&GOOD.replace("-2,3 +2,3", "-2,4 +2,3"), &["wrong_count"]);
        check(&GOOD.replace("@@ -2,3 +2,3 @@", "@@ ... @@"), &["bad_header"]);
        check(&GOOD.replace(" two", "two"), &["bad_line"]);
        check("--- a/f.txt\n+++ b/f.txt\n@@ -1,2 +1,2 @@\n one\n two\n", &["no_change"]);
        check("--- a/f.txt\n+++ b/f.txt\n", &["no_hunks"]);
        let twice = format!("{GOOD}@@ -1,2 +1,2 @@\n one\n-two\n+TWO\n");
        check(&twice, &["overlap"]);
        check("diff --git a/x b/y\nrename from x\nrename to y\n", &[]);
    }

    #[test]
    fn without_files_only_the_form_is_checked() {
        let run = |text: &str, with: Value, messages: &str| {
            let r = request(json!({"messages": [{"role": "user", "content": messages}]}));
            codes(NAME, &with, &r, &answer(text))
        };
        assert_eq!(run(GOOD, Value::Null, "x"), Vec::<String>::new());
        assert_eq!(run("no patch", Value::Null, "x"), ["no_patch"]);
        assert_eq!(run("no patch", json!({"require": false}), "x"), ["none"]);
        let shown = format!("In f.txt:\n```\n{FILE}```\nplease");
        assert_eq!(run(GOOD, Value::Null, &shown), Vec::<String>::new());
        assert_eq!(run(&GOOD.replace("-three", "-3"), Value::Null, &shown), ["does_not_apply"]);
        assert_eq!(run(&GOOD.replace("f.txt", "g.txt"), Value::Null, &shown), ["unverified"]);
    }

    #[test]
    fn counts_and_blanks_are_mended() {
        let broken = "@@ -2,9 +2,9 @@ fn x\n two\n\n-three\n+THREE\n+more\n four\n@@ -10 +10 @@\n-a\n+b\n";
        let want = "@@ -2,4 +2,5 @@ fn x\n two\n \n-three\n+THREE\n+more\n four\n@@ -10 +10 @@\n-a\n+b\n";
        assert_eq!(fixed(&format!("--- a\n+++ a\n{broken}")), Some(format!("--- a\n+++ a\n{want}")));
        assert_eq!(fixed(GOOD), None);
        assert_eq!(fixed(&GOOD.replace("@@ -2,3 +2,3 @@", "@@ x @@")), None);
        assert_eq!(fixed("prose"), None);
    }

    proptest! {
        #[test]
        fn what_was_mended_is_consistent(
            lines in prop::collection::vec("[ +-][a-c]{0,2}|", 1..12), a in 1_usize..5, b in 0_usize..5,
        ) {
            let text = format!("--- a\n+++ b\n@@ -{a},{b} +{a},{b} @@\n{}\n", lines.join("\n"));
            if let Some(mended) = fixed(&text) {
                for f in parse::parse(&mended) {
                    for h in f.hunks {
                        prop_assert_eq!(Some(h.counts()), h.old.zip(h.new).map(|(o, n)| (o.1, n.1)), "{}", mended);
                    }
                }
            }
        }

        #[test]
        fn patches_made_by_a_tool_pass(old in "([a-d]{1,3}\n){1,12}", new in "([a-d]{1,3}\n){1,12}") {
            let patch = diffy::create_patch(&old, &new).to_string();
            if old != new {
                let check = build(&json!({"applies_to": "f"}), Severity::Repair).unwrap();
                let values = Values::from([("f".to_owned(), json!(old))]);
                let (answer, request) = (answer(&patch), request(json!({})));
                let report = check.check(&Input::new(&answer, &request).with_values(&values));
                prop_assert_eq!(report.verdict, types::Verdict::Passed, "{:?}\n{}", report, patch);
            }
        }
    }
}
