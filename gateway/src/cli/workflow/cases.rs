//! Where the tests of workflows stand, and what they say.

use crate::cli::Problem;
use crate::config::{folder, sources};
use engine::Bundle;
use engine::rehearse::{self, Case};
use std::path::{Path, PathBuf};
use types::Diagnostic;
use types::diagnostic::suggestion;
use types::doc::{self, SourceFile, Span};
use types::matrix::glob;
use workflows::Workflow;

/// Tests that are built into the program, for the workflows that are.
pub(super) const SHIPPED: &[(&str, &str)] = &[
    ("default.prose.yaml", include_str!("../../../../workflows/library/tests/default.prose.yaml")),
    ("default.checked.yaml", include_str!("../../../../workflows/library/tests/default.checked.yaml")),
    ("default.tools.yaml", include_str!("../../../../workflows/library/tests/default.tools.yaml")),
    ("default.repaired.yaml", include_str!("../../../../workflows/library/tests/default.repaired.yaml")),
    ("default.failed.yaml", include_str!("../../../../workflows/library/tests/default.failed.yaml")),
    (
        "json_extraction.repaired.yaml",
        include_str!("../../../../workflows/library/tests/json_extraction.repaired.yaml"),
    ),
    (
        "json_extraction.escalated.yaml",
        include_str!("../../../../workflows/library/tests/json_extraction.escalated.yaml"),
    ),
    (
        "json_extraction.hopeless.yaml",
        include_str!("../../../../workflows/library/tests/json_extraction.hopeless.yaml"),
    ),
    (
        "json_extraction.object.yaml",
        include_str!("../../../../workflows/library/tests/json_extraction.object.yaml"),
    ),
    (
        "json_extraction.refused.yaml",
        include_str!("../../../../workflows/library/tests/json_extraction.refused.yaml"),
    ),
    (
        "consensus_vote.agree.yaml",
        include_str!("../../../../workflows/library/tests/consensus_vote.agree.yaml"),
    ),
    (
        "consensus_vote.judged.yaml",
        include_str!("../../../../workflows/library/tests/consensus_vote.judged.yaml"),
    ),
    (
        "speculative_hedge.draft.yaml",
        include_str!("../../../../workflows/library/tests/speculative_hedge.draft.yaml"),
    ),
    (
        "speculative_hedge.strong.yaml",
        include_str!("../../../../workflows/library/tests/speculative_hedge.strong.yaml"),
    ),
    (
        "cheap_first_cascade.agreed.yaml",
        include_str!("../../../../workflows/library/tests/cheap_first_cascade.agreed.yaml"),
    ),
    (
        "cheap_first_cascade.graded.yaml",
        include_str!("../../../../workflows/library/tests/cheap_first_cascade.graded.yaml"),
    ),
    (
        "cheap_first_cascade.rejected.yaml",
        include_str!("../../../../workflows/library/tests/cheap_first_cascade.rejected.yaml"),
    ),
    (
        "cheap_first_cascade.abstained.yaml",
        include_str!("../../../../workflows/library/tests/cheap_first_cascade.abstained.yaml"),
    ),
    (
        "cheap_first_cascade.refused.yaml",
        include_str!("../../../../workflows/library/tests/cheap_first_cascade.refused.yaml"),
    ),
    (
        "cheap_first_cascade.escalated.yaml",
        include_str!("../../../../workflows/library/tests/cheap_first_cascade.escalated.yaml"),
    ),
    (
        "cheap_first_cascade.failed.yaml",
        include_str!("../../../../workflows/library/tests/cheap_first_cascade.failed.yaml"),
    ),
    (
        "rag_grounded.grounded.yaml",
        include_str!("../../../../workflows/library/tests/rag_grounded.grounded.yaml"),
    ),
    (
        "rag_grounded.repaired.yaml",
        include_str!("../../../../workflows/library/tests/rag_grounded.repaired.yaml"),
    ),
    ("rag_grounded.thin.yaml", include_str!("../../../../workflows/library/tests/rag_grounded.thin.yaml")),
    (
        "rag_grounded.unverified.yaml",
        include_str!("../../../../workflows/library/tests/rag_grounded.unverified.yaml"),
    ),
    ("tool_loop.answers.yaml", include_str!("../../../../workflows/library/tests/tool_loop.answers.yaml")),
    ("tool_loop.limit.yaml", include_str!("../../../../workflows/library/tests/tool_loop.limit.yaml")),
    ("tool_loop.injected.yaml", include_str!("../../../../workflows/library/tests/tool_loop.injected.yaml")),
    ("hard_coding.passes.yaml", include_str!("../../../../workflows/library/tests/hard_coding.passes.yaml")),
    (
        "hard_coding.repaired.yaml",
        include_str!("../../../../workflows/library/tests/hard_coding.repaired.yaml"),
    ),
    (
        "hard_coding.hopeless.yaml",
        include_str!("../../../../workflows/library/tests/hard_coding.hopeless.yaml"),
    ),
    (
        "hard_coding.unverified.yaml",
        include_str!("../../../../workflows/library/tests/hard_coding.unverified.yaml"),
    ),
];

/// Tests as they were read.
#[derive(Debug, Default)]
pub(in crate::cli) struct Tests {
    /// Those that can be played.
    pub(super) cases: Vec<Case>,
    /// Every problem of every file.
    pub(in crate::cli) problems: Vec<Diagnostic>,
    /// The texts, for excerpts.
    pub(in crate::cli) texts: Vec<SourceFile>,
}

impl Tests {
    /// Those of a folder of the configuration: what its files name is looked for in `bundle`, without which their form alone
    /// is looked at.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub(in crate::cli) fn of_folder(config: &Path, bundle: Option<&Bundle>) -> Result<Tests, Problem> {
        let mut tests = Tests::default();
        let mut paths = folder::texts(&config.join("workflows/tests"), "yaml")?;
        if let Some(bundle) = bundle {
            tests.elsewhere(&config.join("workflows"), bundle, &mut paths)?;
        }
        for path in &paths {
            tests.read(path, bundle)?;
        }
        Ok(tests)
    }

    /// Those of files and folders.
    ///
    /// # Errors
    /// There is nothing at one of the paths.
    pub(super) fn of_paths(paths: &[&PathBuf], bundle: &Bundle) -> Result<Tests, Problem> {
        let mut tests = Tests::default();
        for path in paths {
            if path.is_dir() {
                for file in folder::texts(path, "yaml")? {
                    tests.read(&file, Some(bundle))?;
                }
            } else {
                tests.read(path, Some(bundle))?;
            }
        }
        Ok(tests)
    }

    /// Adds those that are built in.
    pub(super) fn and_shipped(&mut self, bundle: &Bundle) {
        for (name, text) in SHIPPED {
            self.take(SourceFile::new(*name, *text), Path::new(""), Some(bundle));
        }
    }

    fn read(&mut self, path: &Path, bundle: Option<&Bundle>) -> Result<(), Problem> {
        match sources::read(path) {
            Ok(None) => return Err(Problem(format!("{}: there is no such file", path.display()))),
            Ok(Some(source)) => self.take(source, path.parent().unwrap_or(Path::new("")), bundle),
            Err(d) => self.problems.push(*d),
        }
        Ok(())
    }

    /// Takes in a file; requests that it names stand in its folder.
    fn take(&mut self, source: SourceFile, folder: &Path, bundle: Option<&Bundle>) {
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        let (case, found) = rehearse::load(&source, &read, bundle);
        self.cases.extend(case);
        self.problems.extend(found);
        self.texts.push(source);
    }

    /// Adds the paths of the tests that workflows name by globs and that do not stand in the usual folder.
    fn elsewhere(&mut self, folder: &Path, bundle: &Bundle, into: &mut Vec<PathBuf>) -> Result<(), Problem> {
        let names = bundle.workflow_names();
        let named: Vec<_> = names.iter().filter_map(|n| bundle.workflow(n)).cloned().collect();
        if named.iter().all(|w| w.tests.is_empty()) {
            return Ok(());
        }
        let mut files = Vec::new();
        below(folder, 0, &mut files)?;
        for workflow in named {
            for pattern in &workflow.tests {
                let plain = pattern.strip_prefix("./").unwrap_or(pattern);
                let path = |f: &PathBuf| f.strip_prefix(folder).ok()?.to_str().map(str::to_owned);
                let found: Vec<&PathBuf> =
                    files.iter().filter(|f| path(f).is_some_and(|p| glob(plain, &p))).collect();
                if found.is_empty() {
                    let all: Vec<String> = files.iter().filter_map(path).collect();
                    self.fits_nothing((bundle, &workflow), pattern, &all);
                }
                let usual = folder.join("tests");
                for file in found.into_iter().filter(|f| !f.starts_with(&usual)) {
                    if !into.contains(file) {
                        into.push(file.clone());
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells of a pattern of a workflow's `tests` that no file fits, where it stands.
    fn fits_nothing(&mut self, (bundle, of): (&Bundle, &Workflow), pattern: &str, all: &[String]) {
        let Some(source) = bundle.workflow_source(&of.name) else { return };
        let place = place_of(source, pattern).unwrap_or(Span { line: 1, column: 1, start: 0, end: 0 });
        let message = format!("no file fits `{pattern}` of the `tests` of workflow `{}`", of.name);
        let hint = suggestion(pattern, all.iter().map(String::as_str));
        self.problems.push(Diagnostic::error("WT207", source, place, message).hint(hint).field("tests"));
        self.texts.push(source.clone());
    }
}

/// Where a pattern stands among the `tests` of a workflow's file.
fn place_of(source: &SourceFile, pattern: &str) -> Option<Span> {
    let root = doc::parse(source, "WT").ok()?;
    let tests = root.get("tests")?;
    let all = match &tests.value {
        doc::Value::List(list) => list.as_slice(),
        _ => std::slice::from_ref(tests),
    };
    all.iter().find(|n| n.as_str() == Some(pattern)).map(|n| n.span)
}

/// Deepest folder that is looked into for tests.
const DEEPEST: usize = 8;

/// The YAML files of a folder and of those in it.
fn below(folder: &Path, depth: usize, into: &mut Vec<PathBuf>) -> Result<(), Problem> {
    if depth > DEEPEST {
        return Ok(());
    }
    for path in folder::list(folder)? {
        if path.is_dir() && !path.is_symlink() {
            below(&path, depth.saturating_add(1), into)?;
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            into.push(path);
        }
    }
    Ok(())
}
