//! One checked configuration: matrix, rules, policies, workflows. Swapped whole, never in parts.

use crate::about::Asks;
use crate::bound::over_limit;
use crate::outside::Surroundings;
use crate::route;
use crate::tools::Registry;
use std::collections::BTreeSet;
use std::sync::Arc;
use types::diagnostic::{Diagnostic, Severity};
use types::directives::Pools;
use types::doc::{self, Node, Reader, SourceFile};
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
    /// `workflows/*.yaml` of the operator; the shipped ones are added here, and an equal name replaces them.
    pub workflows: Vec<SourceFile>,
    /// `workflows/schemas/*.json`: the schemas that workflows name.
    pub schemas: Vec<SourceFile>,
    /// Whether something runs tests against code.
    pub runner: bool,
    /// What the tools that are declared are checked against; `None` = nothing is known.
    pub around: Option<Arc<dyn Surroundings>>,
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

/// Whether workflows may have an address asked; `None` = nothing is known.
fn may_ask(around: Option<&Arc<dyn Surroundings>>) -> Option<Box<workflows::MayAsk<'_>>> {
    around.map(|around| -> Box<workflows::MayAsk<'_>> { Box::new(move |url| around.may_ask(url)) })
}

/// The sections of `routing_rules.yaml` that belong to a later version.
const LATER: &[&str] = &["experiments"];

impl Bundle {
    /// Checks everything; all problems of all files. `None` when any is an error.
    #[must_use]
    pub fn load(matrix: Arc<Matrix>, files: &Files) -> (Option<Bundle>, Vec<Diagnostic>) {
        let mut problems = Vec::new();
        let root = match doc::parse(&files.rules, "PL") {
            Ok(root) => root,
            Err(d) => {
                problems.push(*d);
                // The other files are checked all the same, against rules that say nothing.
                Node { value: doc::Value::Null, span: doc::Span::default(), style: doc::Style::Plain }
            }
        };
        let mut r = Reader::new(&files.rules, "PL");
        let mut sections = Sections::default();
        if let Some(mut f) = r.fields(&root, "") {
            if !matches!(root.value, doc::Value::Null)
                && let Some(v) = f.require(&mut r, "version")
            {
                r.integer(v, "version", 1, 1);
            }
            sections.utility = f.take("utility");
            sections.exploration = f.take("exploration");
            sections.disabled = f.take("workflows");
            sections.pools = f.take("pools");
            sections.sets = f.take("sets");
            sections.approvers = f.take("approvers");
            sections.patterns = f.take("patterns");
            sections.redaction = f.take("redaction");
            sections.tools = f.take("tools");
            sections.rules = f.take("rules");
            let owned = f.take("require_owner").and_then(|n| r.boolean(n, "require_owner"));
            sections.require_owner = owned.unwrap_or(false);
            for key in LATER {
                if let Some(n) = f.take(key) {
                    r.error("105", n.span, format!("`{key}` is not supported yet")).hint =
                        Some("remove the section".to_owned());
                }
            }
            f.finish(&mut r);
        }
        let built_in = files.defaults.as_ref().and_then(|f| doc::parse(f, "PL").ok());
        if sections.pools.is_none() {
            sections.pools = built_in.as_ref().and_then(|n| n.get("pools"));
        }
        let routing = route::Config::lower(&mut r, sections.utility, sections.exploration);
        let disabled = disabled_workflows(&mut r, sections.disabled);
        let language = policies::language();

        let shipped = workflows::shipped();
        let known: Vec<String> =
            shipped.iter().chain(&files.workflows).map(|f| f.stem().to_owned()).collect();
        for (name, span) in &disabled {
            if !known.contains(name) {
                let hint = types::diagnostic::suggestion(name, known.iter().map(String::as_str));
                r.error("205", *span, format!("workflow `{name}` does not exist")).hint = Some(hint);
            }
        }
        let tools = Registry::lower(&mut r, sections.tools, &known, files.around.as_deref());
        let off = |f: &&SourceFile| !disabled.iter().any(|(name, _)| name == f.stem());
        let workflows = shipped.iter().chain(&files.workflows).filter(off);
        let sources: Vec<SourceFile> = workflows.chain(&files.schemas).cloned().collect();

        let names = policies::Names {
            matrix: &matrix,
            workflows: &known,
            validators: workflows::VALIDATORS,
            misfit,
            pattern: workflows::check_pattern,
            unix_ms: Some(crate::settle::unix_ms()),
            require_owner: sections.require_owner,
        };
        let policy_sections = policies::Sections {
            pools: sections.pools,
            sets: sections.sets,
            approvers: sections.approvers,
            patterns: sections.patterns,
            redaction: sections.redaction,
            rules: sections.rules,
        };
        let (policies, found) = policies::load(&files.rules, &policy_sections, &files.scripts, &names);
        let named: Vec<String> = policies.pools().keys().cloned().collect();
        let groups: Vec<String> = policies.approvers().keys().cloned().collect();
        let variables = policies::request_variables();
        let specs = tools.specs();
        let checks = policies.checks();
        let may_ask = may_ask(files.around.as_ref());
        let (library, in_workflows) = workflows::load(
            &sources,
            &workflows::Names {
                scripts: &checks,
                matrix: &matrix,
                pools: &named,
                approvers: Some(&groups),
                tools: &specs,
                runner: files.runner,
                may_ask: may_ask.as_deref(),
                language: &*language,
                variables: &variables,
            },
        );
        problems.extend(r.problems);
        problems.extend(found);
        // Of workflows that are faulty it is not known what they declare.
        if !in_workflows.iter().any(|d| d.severity == Severity::Error) {
            problems.extend(undeclared(&files.rules, &policies, &library));
        }
        problems.extend(in_workflows);
        let pools = Arc::new(policies.pools().clone());
        problems.extend(over_limit(&matrix, &pools, with_files(&library, &sources)));
        if problems.iter().any(|d| d.severity == Severity::Error) {
            return (None, problems);
        }
        let hash = hash(&matrix, files);
        let detector = detector(&policies);
        let asks = Asks::of(&policies);
        asks.warm(&*detector);
        (
            Some(Bundle {
                hash,
                matrix,
                routing,
                policies,
                asks,
                detector,
                pools,
                library,
                sources,
                language,
                runner: files.runner,
                around: files.around.clone(),
                standings: route::Standings::default(),
                tools: Arc::new(tools),
            }),
            problems,
        )
    }

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
        let pools: Vec<String> = self.pools.keys().cloned().collect();
        let variables = policies::request_variables();
        let checks = self.policies.checks();
        let may_ask = may_ask(self.around.as_ref());
        let names = workflows::Names {
            scripts: &checks,
            matrix: &self.matrix,
            pools: &pools,
            approvers,
            tools: specs,
            runner: self.runner,
            may_ask: may_ask.as_deref(),
            language: &*self.language,
            variables: &variables,
        };
        workflows::load(files, &names)
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

/// Rules that set variables of workflows which no workflow declares.
fn undeclared(rules: &SourceFile, policies: &policies::PolicySet, library: &Library) -> Vec<Diagnostic> {
    let declared: BTreeSet<&str> = library.iter().flat_map(|w| w.vars()).collect();
    let mut r = Reader::new(rules, "PL");
    for (rule, at, name) in policies.sets_vars().filter(|(.., name)| !declared.contains(name)) {
        let d =
            r.error("210", at, format!("`set_var` of `{rule}`: no workflow declares the variable `{name}`"));
        d.hint = Some(types::diagnostic::suggestion(name, declared.iter().copied()));
        d.field = format!("rules.{rule}.actions.set_var.{name}");
    }
    r.problems
}

/// What finds the values that rules name. Patterns that are faulty have been told of before.
fn detector(policies: &policies::PolicySet) -> Arc<dyn Detector> {
    let patterns = policies.patterns();
    match patterns.is_empty() {
        true => workflows::detector(),
        false => workflows::detector_with(&patterns).unwrap_or_else(|_| workflows::detector()),
    }
}

/// What is wrong with the parameters of a validator that a rule names.
fn misfit(name: &str, with: Option<&Node>) -> Option<policies::Misfit> {
    let workflows::Misfit { number, span, field, message, expected } = workflows::misfit(name, with)?;
    Some(policies::Misfit { number, span, field, message, expected })
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

#[derive(Default)]
struct Sections<'a> {
    utility: Option<&'a Node>,
    exploration: Option<&'a Node>,
    disabled: Option<&'a Node>,
    pools: Option<&'a Node>,
    sets: Option<&'a Node>,
    approvers: Option<&'a Node>,
    patterns: Option<&'a Node>,
    redaction: Option<&'a Node>,
    tools: Option<&'a Node>,
    rules: Option<&'a Node>,
    /// Rules that restrict have to say who answers for them.
    require_owner: bool,
}

/// `workflows: { disabled: [name, …] }`.
fn disabled_workflows(r: &mut Reader<'_>, node: Option<&Node>) -> Vec<(String, doc::Span)> {
    let Some(mut f) = node.and_then(|n| r.fields(n, "workflows")) else { return Vec::new() };
    let list = f.take("disabled").and_then(|n| r.list(n, "workflows.disabled")).unwrap_or(&[]);
    let names = list.iter().filter_map(|n| r.ident(n, "workflows.disabled").map(|s| (s, n.span))).collect();
    f.finish(r);
    names
}

fn hash(matrix: &Matrix, files: &Files) -> Arc<str> {
    let mut h = blake3::Hasher::new();
    // Debug output of validated data is stable within one version of the program, which is all that an
    // identifier of a loaded configuration needs. The matrix's own index is left out: its order is random.
    h.update(format!("{:?}{:?}", matrix.providers(), matrix.models()).as_bytes());
    for f in std::iter::once(&files.rules).chain(&files.scripts).chain(&files.workflows).chain(&files.schemas)
    {
        h.update(f.path.rsplit('/').next().unwrap_or("").as_bytes());
        h.update(&[0]);
        h.update(f.text.as_bytes());
        h.update(&[0]);
    }
    h.finalize().to_hex().as_str().get(..16).unwrap_or("").into()
}
