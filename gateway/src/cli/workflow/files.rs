//! Workflow files that a command names, with what they name themselves and stands beside them.

use crate::cli::Problem;
use crate::config::{folder, sources};
use std::path::{Path, PathBuf};
use types::Diagnostic;
use types::doc::SourceFile;
use workflows::is_schema;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// The files that were named, and the schemas beside them.
    pub(super) named: Vec<SourceFile>,
    /// Workflows beside them whose names stand in one of them.
    pub(super) beside: Vec<SourceFile>,
    /// Of files that cannot be read.
    pub(super) problems: Vec<Diagnostic>,
}

impl Files {
    /// The files of some paths; of a folder all workflows in it.
    ///
    /// # Errors
    /// There is nothing at one of the paths.
    pub(super) fn of(paths: &[PathBuf]) -> Result<Files, Problem> {
        let mut named: Vec<PathBuf> = Vec::new();
        for path in paths {
            let found = if path.is_dir() { folder::texts(path, "yaml")? } else { vec![path.clone()] };
            if found.is_empty() {
                let text = format!("{}: there are no workflows (*.yaml) in this folder", path.display());
                return Err(Problem(text));
            }
            named.extend(found.into_iter().filter(|f| !named.contains(f)).collect::<Vec<_>>());
        }
        let mut folders: Vec<PathBuf> = named.iter().map(|p| folder_of(p)).collect();
        folders.sort();
        folders.dedup();
        let mut files = Files::default();
        for folder in &folders {
            for path in folder::texts(&folder.join("schemas"), "json")? {
                files.named.extend(read(&path, &mut files.problems)?);
            }
        }
        for path in &named {
            files.named.extend(read(path, &mut files.problems)?);
        }
        for folder in &folders {
            let is_named = |p: &PathBuf| named.iter().any(|n| plain(n) == plain(p));
            let others = folder::texts(folder, "yaml")?.into_iter().filter(|p| !is_named(p));
            files.follow(others.collect())?;
        }
        Ok(files)
    }

    /// Takes those workflows that are named in what there is, and those that they name.
    fn follow(&mut self, mut left: Vec<PathBuf>) -> Result<(), Problem> {
        loop {
            let wanted = |path: &PathBuf| self.all().any(|f| !is_schema(f) && f.text.contains(stem(path)));
            let Some(at) = left.iter().position(wanted) else { return Ok(()) };
            let path = left.swap_remove(at);
            self.beside.extend(read(&path, &mut self.problems)?);
        }
    }

    fn all(&self) -> impl Iterator<Item = &SourceFile> {
        self.named.iter().chain(&self.beside)
    }

    /// All that were read: a later one of the same name counts.
    pub(super) fn together(&self) -> Vec<SourceFile> {
        self.beside.iter().chain(&self.named).cloned().collect()
    }
}

/// The folder in which a file stands.
fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// A path without the `./` before it.
fn plain(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}

fn stem(path: &Path) -> &str {
    path.file_stem().and_then(std::ffi::OsStr::to_str).unwrap_or_default()
}

/// A file; `None` = it cannot be read, which is noted.
///
/// # Errors
/// There is none of that name.
pub(super) fn read(path: &Path, problems: &mut Vec<Diagnostic>) -> Result<Option<SourceFile>, Problem> {
    match sources::read(path) {
        Ok(None) => Err(Problem(format!("{}: there is no such file", path.display()))),
        Ok(found) => Ok(found),
        Err(d) => {
            problems.push(*d);
            Ok(None)
        }
    }
}
