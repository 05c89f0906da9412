//! One checked configuration: matrix, rules, policies, workflows. Swapped whole, never in parts.

mod load;
mod sections;

use crate::outside::Surroundings;
use crate::policy_inputs::Asks;
use crate::route;
use crate::tools::Registry;
use crate::worst_case::over_limit;
use load::Known;
use std::sync::Arc;
use types::diagnostic::Diagnostic;
use types::directives::Pools;
use types::doc::SourceFile;
use types::expr::Language;
use types::matrix::Matrix;
use types::privacy::Detector;
use workflows::Library;

/// The files of a configuration besides the matrix.
#[derive(Clone, Debug)]
pub struct Files {
    /// `routing_rules.yaml`.
    pub rules: SourceFile,
    /// Whose `pools` hold where `rules` names none: the copy that is built into the program.
    pub defaults: Option<SourceFile>,
    /// `policies/*.rhai`.
    pub scripts: Vec<SourceFile>,
    /// What tenants have of their own.
    pub tenants: Vec<policies::TenantFiles>,
    /// `workflows/*.yaml` of the operator; the shipped ones are added here, and an equal name replaces them.
    pub workflows: Vec<SourceFile>,
    /// `workflows/schemas/*.json`: the schemas that workflows name.
    pub schemas: Vec<SourceFile>,
    /// Whether something runs tests against code.
    pub runner: bool,
    /// What the tools that are declared are checked against; `None` = nothing is known.
    pub around: Option<Arc<dyn Surroundings>>,
    /// The moment of loading, Unix milliseconds, for rules that have expired or soon will; `None` = dates are not checked.
    pub now_ms: Option<i64>,
}

impl Files {
    /// These rules and nothing beside them.
    #[must_use]
    pub const fn new(rules: SourceFile) -> Self {
        Files {
            rules,
            defaults: None,
            scripts: Vec::new(),
            tenants: Vec::new(),
            workflows: Vec::new(),
            schemas: Vec::new(),
            runner: false,
            around: None,
            now_ms: None,
        }
    }
}

/// A checked configuration.
pub struct Bundle {
    hash: Arc<str>,
    matrix: Arc<Matrix>,
    pub(crate) routing: route::Config,
    pub(crate) policies: policies::PolicySet,
    /// What the policies have to be told.
    pub(crate) asks: Asks,
    /// Finds values that must not go everywhere, those of the operator's patterns among them.
    pub(crate) detector: Arc<dyn Detector>,
    pub(crate) pools: Arc<Pools>,
    pub(crate) library: Library,
    /// The files of the workflows and of the schemas that they name, for plans that outlive this configuration.
    pub(crate) sources: Vec<SourceFile>,
    pub(crate) language: Arc<dyn Language>,
    runner: bool,
    around: Option<Arc<dyn Surroundings>>,
    /// How its arms stand, as far as what was learned goes.
    pub(crate) standings: route::Standings,
    pub(crate) tools: Arc<Registry>,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl Bundle {
    /// The same configuration under another name. Whoever reads the files names it by their texts, so that equal
    /// files have equal names on every machine.
    #[must_use]
    pub fn named(self, hash: Arc<str>) -> Bundle {
        Bundle { hash, ..self }
    }

    /// Identifies the configuration: BLAKE3 over everything that decides, shortened to 16 hex digits, unless it was
    /// [named](Bundle::named).
    #[must_use]
    pub fn hash(&self) -> &Arc<str> {
        &self.hash
    }

    /// The rules and policies.
    #[must_use]
    pub fn policies(&self) -> &policies::PolicySet {
        &self.policies
    }

    /// The providers and models.
    #[must_use]
    pub fn matrix(&self) -> &Arc<Matrix> {
        &self.matrix
    }

    /// What workflows know of the tools that are declared.
    #[must_use]
    pub fn tools(&self) -> Vec<Arc<workflows::ToolSpec>> {
        self.tools.specs()
    }

    /// The tools, by name, that would send a variable of the environment elsewhere, or otherwise, than `now` does.
    pub fn credentials_beyond<'a>(&'a self, now: &'a Bundle) -> impl Iterator<Item = &'a str> {
        let goes = move |url: &str, auth| now.tools.credentials().any(|(_, u, a)| (u, a) == (url, auth));
        self.tools.credentials().filter(move |(_, url, auth)| !goes(url, auth)).map(|(name, ..)| name)
    }

    /// A workflow made from files of its own time, with the names of today.
    pub(crate) fn compile(&self, files: &[SourceFile], name: &str) -> Option<Arc<workflows::Workflow>> {
        // A group that is gone has nobody who could agree; the run itself need not end over it.
        self.compile_with(files, &self.tools.specs(), None).0.get(name).cloned()
    }

    /// The workflows as they are where these tools are declared as well.
    pub(crate) fn with_tools(&self, tools: &[Arc<workflows::ToolSpec>]) -> Library {
        let named = |t: &Arc<workflows::ToolSpec>| tools.iter().all(|own| own.name != t.name);
        let others = self.tools.specs().into_iter().filter(named);
        let all: Vec<_> = tools.iter().cloned().chain(others).collect();
        self.compile_with(&self.sources, &all, None).0
    }

    fn compile_with(
        &self,
        files: &[SourceFile],
        specs: &[Arc<workflows::ToolSpec>],
        approvers: Option<&[String]>,
    ) -> (Library, Vec<Diagnostic>) {
        let known = Known {
            matrix: &self.matrix,
            policies: &self.policies,
            language: &*self.language,
            runner: self.runner,
            around: self.around.as_ref(),
        };
        known.workflows(files, specs, approvers)
    }

    /// A workflow by its name.
    #[must_use]
    pub fn workflow(&self, name: &str) -> Option<&Arc<workflows::Workflow>> {
        self.library.get(name)
    }

    /// The file of a workflow.
    #[must_use]
    pub fn workflow_source(&self, name: &str) -> Option<&SourceFile> {
        self.library.get(name).and_then(|_| file_of(name, &self.sources))
    }

    /// Checks the texts of workflows as if they stood beside those of the configuration. The library holds both.
    #[must_use]
    pub fn try_workflows(&self, files: &[SourceFile]) -> (Library, Vec<Diagnostic>) {
        let mut all = self.sources.clone();
        all.extend(files.iter().cloned());
        let groups: Vec<String> = self.policies.approvers().keys().cloned().collect();
        let (library, mut problems) = self.compile_with(&all, &self.tools.specs(), Some(&groups));
        problems.extend(over_limit(&self.matrix, &self.pools, with_files(&library, &all)));
        (library, problems)
    }

    /// The workflows that can run.
    #[must_use]
    pub fn workflow_names(&self) -> Vec<String> {
        self.library.names().into_iter().map(|n| n.to_string()).collect()
    }
}

/// The file of a workflow: a later one replaces an earlier one.
fn file_of<'f>(name: &str, files: &'f [SourceFile]) -> Option<&'f SourceFile> {
    files.iter().rev().find(|f| f.stem() == name && !workflows::is_schema(f))
}

fn with_files<'f>(
    library: &'f Library,
    files: &'f [SourceFile],
) -> impl Iterator<Item = (&'f workflows::Workflow, &'f SourceFile)> {
    library.iter().filter_map(|w| Some((&**w, file_of(&w.name, files)?)))
}
