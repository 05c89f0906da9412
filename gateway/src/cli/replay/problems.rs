//! What is wrong with a recorded table, kept until all of it is known.

use std::collections::BTreeMap;
use std::path::Path;

/// Names that nobody knows: the first line of each, and how many there are.
#[derive(Default)]
pub(super) struct Strange(BTreeMap<String, (usize, usize)>);

impl Strange {
    pub(super) fn note(&mut self, name: &str, line: usize) {
        self.0.entry(name.to_owned()).or_insert((line, 0)).1 += 1;
    }

    /// Each with its first line and on how many it stands.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, usize, usize)> {
        self.0.iter().map(|(name, (first, lines))| (name.as_str(), *first, *lines))
    }
}

/// What editors of some systems put before a text.
pub(super) const BOM: char = '\u{feff}';
pub(super) const WITH_BOM: &str =
    "the file begins with a byte order mark (BOM); save it as UTF-8 without one";

/// A line without the mark before the first, of which it is told.
pub(super) fn unmarked<'l>(path: &Path, number: usize, line: &'l str, problems: &mut Problems) -> &'l str {
    match line.strip_prefix(BOM).filter(|_| number == 1) {
        Some(rest) => {
            problems.note(path, number, WITH_BOM);
            rest
        }
        None => line,
    }
}

/// Most problems of a table that are told one by one.
pub(super) const TOLD: usize = 50;

/// What is wrong with a table.
#[derive(Default)]
pub(super) struct Problems {
    told: Vec<String>,
    more: usize,
}

impl Problems {
    pub(super) fn note(&mut self, path: &Path, line: usize, what: &str) {
        self.push(format!("{}:{line}: {what}", path.display()));
    }

    pub(super) fn push(&mut self, what: String) {
        if self.told.len() < TOLD { self.told.push(what) } else { self.more += 1 }
    }

    pub(super) const fn are_none(&self) -> bool {
        self.told.is_empty()
    }

    /// Each of them, a line each.
    pub(super) fn lines(mut self) -> Vec<String> {
        if self.more > 0 {
            self.told.push(format!("and {} more problems", self.more));
        }
        self.told
    }

    pub(super) fn end(self) -> Result<(), String> {
        if self.are_none() { Ok(()) } else { Err(self.lines().join("\n")) }
    }
}
