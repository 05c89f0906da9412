//! From files to a library: parse, lower, resolve names, compile expressions, build and check the graph.

use crate::plan::Workflow;
use crate::world::ToolSpec;
use std::collections::BTreeMap;
use std::sync::Arc;
use types::diagnostic::Diagnostic;
use types::doc::SourceFile;
use types::expr::{Language, Variables};
use types::matrix::Matrix;

mod body;
mod checks;
mod cx;
mod expr;
mod expressions;
mod file;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod largest;
mod link;
pub(crate) mod lint;
#[cfg(test)]
mod meant;
pub(crate) mod outside;
mod schema;
mod source;
mod template;
#[cfg(test)]
mod tests;
mod top;
mod work;
#[cfg(test)]
mod wrong;

pub(crate) use body::body;
pub(crate) use checks::{Checks, Timed, of_directive};
pub use checks::{Misfit, misfit};
pub(crate) use cx::{Cx, Named};
pub(crate) use expr::{Expr, Reads, Unguarded};
pub(crate) use file::{Head, Loaded, watch, workflow};
pub(crate) use outside::{Outside, What};
pub use schema::is_schema;
pub(crate) use schema::names_file;
pub(crate) use source::Source;
pub(crate) use template::{Data, Prompt, Template};
pub(crate) use top::{Given, Gives, Top, bind, has_type, kind, misgiven, unfit};

/// Whether an address outside may be asked; else why not.
pub type MayAsk<'a> = dyn Fn(&str) -> Result<(), String> + Send + Sync + 'a;

/// What the names and expressions of workflows are checked against.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// Providers and models.
    pub matrix: &'a Matrix,
    /// Names of the pools.
    pub pools: &'a [String],
    /// Names of the groups of approvers; `None` = not known, so that any name is taken.
    pub approvers: Option<&'a [String]>,
    /// The tools that workflows may call.
    pub tools: &'a [Arc<ToolSpec>],
    /// Names of the functions of policy files that look at answers.
    pub scripts: &'a [String],
    /// Whether something runs tests against code.
    pub runner: bool,
    /// Why an address outside may not be asked; `None` = not known, so that any may.
    pub may_ask: Option<&'a MayAsk<'a>>,
    /// The language of expressions.
    pub language: &'a dyn Language,
    /// The variables of a request; `nodes`, `vars` and the rest of a workflow's own are added here.
    pub variables: &'a Variables,
}

impl std::fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").field("pools", &self.pools).finish_non_exhaustive()
    }
}

/// Checked workflows by name.
#[derive(Clone, Debug, Default)]
pub struct Library(BTreeMap<String, Arc<Workflow>>);

impl Library {
    /// The workflow of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Workflow>> {
        self.0.get(name)
    }

    /// All workflows, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Workflow>> {
        self.0.values()
    }

    /// All names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// The workflows that are built into the program.
#[must_use]
pub fn shipped() -> Vec<SourceFile> {
    [
        ("workflows/default.yaml", include_str!("../../library/default.yaml")),
        ("workflows/json_extraction.yaml", include_str!("../../library/json_extraction.yaml")),
        ("workflows/cheap_first_cascade.yaml", include_str!("../../library/cheap_first_cascade.yaml")),
        ("workflows/consensus_vote.yaml", include_str!("../../library/consensus_vote.yaml")),
        ("workflows/speculative_hedge.yaml", include_str!("../../library/speculative_hedge.yaml")),
        ("workflows/hard_coding.yaml", include_str!("../../library/hard_coding.yaml")),
        ("workflows/rag_grounded.yaml", include_str!("../../library/rag_grounded.yaml")),
        ("workflows/tool_loop.yaml", include_str!("../../library/tool_loop.yaml")),
    ]
    .into_iter()
    .map(|(path, text)| SourceFile::new(path, text))
    .collect()
}

/// Loads files: workflows, and the schemas that they name ([`is_schema`]). A later file replaces an earlier one of the
/// same name; a file with errors is in the library neither itself nor by what it replaces. Every problem of every file
/// is given.
#[must_use]
pub fn load(files: &[SourceFile], names: &Names<'_>) -> (Library, Vec<Diagnostic>) {
    let mut loaded = Vec::new();
    let mut problems = Vec::new();
    let (schemas, files): (Vec<&SourceFile>, Vec<&SourceFile>) = files.iter().partition(|f| is_schema(f));
    let known: Vec<&str> = files.iter().map(|f| f.stem()).collect();
    for (i, source) in files.iter().enumerate() {
        let replaced = files.iter().skip(i.saturating_add(1)).any(|f| f.stem() == source.stem());
        let one = file::load(source, names, &known, &schemas);
        if !replaced {
            loaded.push(one);
        } else if one.failed() {
            problems.extend(one.sorted());
        }
    }
    let (workflows, found) = link::link(loaded);
    problems.extend(found);
    (Library(workflows), problems)
}
