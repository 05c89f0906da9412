//! Which files there are: those of a folder, or texts given in process; what is absent is built in.

use super::unreadable;
use std::path::{Path, PathBuf};
use types::Diagnostic;
use types::doc::{self, SourceFile};

/// The rules that are built into the binary.
const SHIPPED_RULES: &str = include_str!("../../../routing_rules.yaml");

/// The rules that are built into the binary.
pub(crate) fn built_in_rules() -> SourceFile {
    SourceFile::new("routing_rules.yaml (built in)", SHIPPED_RULES)
}

/// Most files of one kind.
const MAX_FILES: usize = 1_000;

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder in the layout of the README.
    Folder(PathBuf),
    /// Texts by the names they would have in a folder.
    Given(Vec<(String, String)>),
}

impl Default for Source {
    /// Nothing but what is built in.
    fn default() -> Self {
        Source::Given(Vec::new())
    }
}

/// The texts of a configuration.
#[derive(Clone, Debug)]
pub struct Sources {
    /// `turnout.yaml`, if there is one.
    pub settings: Option<SourceFile>,
    /// The matrix and what is merged over it, in order.
    pub matrix: Vec<SourceFile>,
    /// `routing_rules.yaml`.
    pub rules: SourceFile,
    /// `policies/*.rhai` and `policies/rules/*.rhai`.
    pub scripts: Vec<SourceFile>,
    /// `workflows/*.yaml`.
    pub workflows: Vec<SourceFile>,
}

impl Sources {
    /// All of them.
    #[must_use]
    pub fn texts(&self) -> Vec<SourceFile> {
        let lists = [&self.matrix, &self.scripts, &self.workflows];
        let single = self.settings.iter().chain(std::iter::once(&self.rules));
        single.chain(lists.into_iter().flatten()).cloned().collect()
    }
}

impl Source {
    /// Reads everything; gives what could be read, and what could not.
    #[must_use]
    pub fn read(&self) -> (Sources, Vec<Diagnostic>) {
        let mut found = Found { source: self, problems: Vec::new() };
        if let Source::Folder(dir) = self
            && !dir.is_dir()
        {
            found.problems.push(unreadable(&dir.display().to_string(), "it is no folder"));
        }
        let mut matrix = vec![found.one("capability_matrix.yaml").unwrap_or_else(|| {
            SourceFile::new("capability_matrix.yaml (built in)", providers::matrix::SHIPPED)
        })];
        matrix.extend(found.all("matrix.d", "yaml"));
        let mut scripts = found.all("policies", "rhai");
        scripts.extend(found.all("policies/rules", "rhai"));
        let sources = Sources {
            settings: found.one("turnout.yaml"),
            matrix,
            rules: found.one("routing_rules.yaml").unwrap_or_else(built_in_rules),
            scripts,
            workflows: found.all("workflows", "yaml"),
        };
        (sources, found.problems)
    }
}

struct Found<'a> {
    source: &'a Source,
    problems: Vec<Diagnostic>,
}

impl Found<'_> {
    fn one(&mut self, name: &str) -> Option<SourceFile> {
        match self.source {
            Source::Given(texts) => {
                let text = texts.iter().rev().find(|(n, _)| n == name);
                text.map(|(n, t)| SourceFile::new(n.as_str(), t.as_str()))
            }
            Source::Folder(dir) => {
                let path = dir.join(name);
                path.exists().then(|| self.file(&path)).flatten()
            }
        }
    }

    /// Every file of a folder with that extension, by name.
    fn all(&mut self, folder: &str, extension: &str) -> Vec<SourceFile> {
        let mut list = match self.source {
            Source::Given(texts) => {
                let within = |n: &str| {
                    let rest = n.strip_prefix(folder).and_then(|r| r.strip_prefix('/'));
                    rest.is_some_and(|r| !r.contains('/') && r.ends_with(&format!(".{extension}")))
                };
                let texts = texts.iter().filter(|(n, _)| within(n));
                texts.map(|(n, t)| SourceFile::new(n.as_str(), t.as_str())).collect()
            }
            Source::Folder(dir) => self.folder(&dir.join(folder), extension),
        };
        list.sort_by(|a, b| a.path.cmp(&b.path));
        list
    }

    fn folder(&mut self, dir: &Path, extension: &str) -> Vec<SourceFile> {
        if !dir.exists() {
            return Vec::new();
        }
        let shown = dir.display().to_string();
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) => {
                self.problems.push(unreadable(&shown, &e.to_string()));
                return Vec::new();
            }
        };
        let paths: Vec<PathBuf> = entries
            .filter_map(|e| e.ok().map(|e| e.path()))
            .filter(|p| {
                p.is_file()
                    && p.extension().is_some_and(|e| e == extension || extension == "yaml" && e == "yml")
            })
            // Editors leave such files behind.
            .filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| !n.starts_with('.')))
            .collect();
        if paths.len() > MAX_FILES {
            self.problems.push(unreadable(&shown, &format!("it holds more than {MAX_FILES} files")));
            return Vec::new();
        }
        paths.iter().filter_map(|p| self.file(p)).collect()
    }

    fn file(&mut self, path: &Path) -> Option<SourceFile> {
        let shown = path.strip_prefix(".").unwrap_or(path).display().to_string();
        let size = std::fs::metadata(path).map(|m| m.len());
        if size.as_ref().is_ok_and(|n| *n > doc::MAX_BYTES as u64) {
            self.problems.push(unreadable(&shown, &format!("it is larger than {} bytes", doc::MAX_BYTES)));
            return None;
        }
        match size.and_then(|_| std::fs::read_to_string(path)) {
            Ok(text) => Some(SourceFile::new(shown, text)),
            Err(e) => {
                self.problems.push(unreadable(&shown, &e.to_string()));
                None
            }
        }
    }
}
