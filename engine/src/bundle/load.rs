//! How files become a bundle: each part by who understands it, in an order in which each finds what it names.

use super::sections::{Sections, disabled_workflows};
use super::{Bundle, Files, with_files};
use crate::decision_slots::MANY;
use crate::outside::Surroundings;
use crate::policy_inputs::Asks;
use crate::route;
use crate::tools::Registry;
use crate::worst_case::over_limit;
use std::collections::BTreeSet;
use std::sync::Arc;
use types::diagnostic::{Diagnostic, Severity};
use types::doc::{self, Node, Reader, SourceFile, Span};
use types::expr::Language;
use types::matrix::{Matrix, ModelIx};
use types::privacy::Detector;
use workflows::Library;

impl Bundle {
    /// Checks everything; all problems of all files. `None` when any is an error.
    #[must_use]
    pub fn load(matrix: Arc<Matrix>, files: &Files) -> (Option<Bundle>, Vec<Diagnostic>) {
        let mut problems = Vec::new();
        let root = root_of(&files.rules, &mut problems);
        let built_in = files.defaults.as_ref().and_then(|f| doc::parse(f, "PL").ok());
        let mut r = Reader::new(&files.rules, "PL");
        let mut sections = Sections::read(&mut r, &root);
        if sections.policies.pools.is_none() {
            sections.policies.pools = built_in.as_ref().and_then(|n| n.get("pools"));
        }
        let routing = route::Config::lower(&mut r, sections.utility, sections.exploration);
        let Named { known, sources } = Named::of(&mut r, sections.disabled, files);
        let tools = Registry::lower(&mut r, sections.tools, &known, files.around.as_deref());
        problems.extend(r.problems);

        let (policies, mut found) = policies_of(&sections, files, &matrix, &known);
        let shipped = built_in.as_ref().and_then(|n| n.get("pools"));
        found.iter_mut().for_each(|d| tell_of_shipped(d, shipped, files.defaults.as_ref()));
        problems.extend(found);

        let language = policies::language();
        let (runner, around) = (files.runner, files.around.as_ref());
        let groups: Vec<String> = policies.approvers().keys().cloned().collect();
        let names = Known { matrix: &matrix, policies: &policies, language: &*language, runner, around };
        let (library, found) = names.workflows(&sources, &tools.specs(), Some(&groups));
        // Of workflows that are faulty it is not known what they declare.
        if !found.iter().any(|d| d.severity == Severity::Error) {
            problems.extend(undeclared(&policies, &library));
        }
        problems.extend(found);
        problems.extend(many_arms(&files.rules, &matrix, &library));
        let pools = Arc::new(policies.pools().clone());
        problems.extend(over_limit(&matrix, &pools, with_files(&library, &sources)));
        if problems.iter().any(|d| d.severity == Severity::Error) {
            return (None, problems);
        }

        let hash = hash(&matrix, files);
        let detector = detector(&policies);
        let asks = Asks::of(&policies);
        asks.warm(&*detector);
        let bundle = Bundle {
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
        };
        (Some(bundle), problems)
    }
}

/// Says of a pool that is shipped, and not there because the file has pools of its own, how it is had again.
fn tell_of_shipped(d: &mut Diagnostic, shipped: Option<&Node>, built_in: Option<&SourceFile>) {
    let name = d.message.strip_prefix("there is no pool `").and_then(|m| m.strip_suffix('`'));
    let Some(spec) = name.and_then(|n| shipped?.get(n)) else { return };
    // Each of them stands in a line of its own.
    let line =
        built_in.and_then(|f| f.text.lines().nth(spec.span.line.saturating_sub(1))).unwrap_or_default();
    d.hint = Some(format!(
        "a section `pools` takes the place of the shipped one: write the shipped `{}` into it as well",
        line.trim()
    ));
}

/// What the file of the rules says; one that cannot be read says nothing, and the others are checked all the same.
fn root_of(rules: &SourceFile, problems: &mut Vec<Diagnostic>) -> Node {
    let (root, told) = doc::parse_to_check(rules, "PL");
    problems.extend(told);
    let nothing = Node { value: doc::Value::Null, span: doc::Span::default(), style: doc::Style::Plain };
    root.unwrap_or(nothing)
}

/// The workflows that there are, shipped ones included.
struct Named {
    /// Names of all of them.
    known: Vec<String>,
    /// The files of those that are not switched off, and of all schemas.
    sources: Vec<SourceFile>,
}

impl Named {
    fn of(r: &mut Reader<'_>, disabled: Option<&Node>, files: &Files) -> Named {
        let disabled = disabled_workflows(r, disabled);
        let shipped = workflows::shipped();
        let known: Vec<String> =
            shipped.iter().chain(&files.workflows).map(|f| f.stem().to_owned()).collect();
        for (name, span) in &disabled {
            if !known.contains(name) {
                let hint = types::diagnostic::suggestion(name, known.iter().map(String::as_str));
                r.error("205", *span, format!("workflow `{name}` does not exist")).hint = Some(hint);
            }
        }
        let off = |f: &&SourceFile| !disabled.iter().any(|(name, _)| name == f.stem());
        let workflows = shipped.iter().chain(&files.workflows).filter(off);
        let sources = workflows.chain(&files.schemas).cloned().collect();
        Named { known, sources }
    }
}

fn policies_of(
    sections: &Sections<'_>,
    files: &Files,
    matrix: &Matrix,
    workflows: &[String],
) -> (policies::PolicySet, Vec<Diagnostic>) {
    let names = policies::Names {
        matrix,
        workflows,
        experiments: &sections.experiments,
        validators: workflows::VALIDATORS,
        misfit,
        pattern: workflows::check_pattern,
        unix_ms: files.now_ms,
        require_owner: sections.require_owner,
    };
    policies::load(&files.rules, &sections.policies, &files.scripts, &files.tenants, &names)
}

/// What workflows may name.
pub(super) struct Known<'a> {
    pub(super) matrix: &'a Matrix,
    pub(super) policies: &'a policies::PolicySet,
    pub(super) language: &'a dyn Language,
    /// Something runs tests against code.
    pub(super) runner: bool,
    pub(super) around: Option<&'a Arc<dyn Surroundings>>,
}

impl Known<'_> {
    /// The workflows of these files, and what is wrong with them. `approvers`: groups of people; `None` = they are not
    /// checked.
    pub(super) fn workflows(
        &self,
        files: &[SourceFile],
        specs: &[Arc<workflows::ToolSpec>],
        approvers: Option<&[String]>,
    ) -> (Library, Vec<Diagnostic>) {
        let pools: Vec<String> = self.policies.pools().keys().cloned().collect();
        let variables = policies::request_variables();
        let checks = self.policies.checks();
        let may_ask = may_ask(self.around);
        let names = workflows::Names {
            scripts: &checks,
            matrix: self.matrix,
            pools: &pools,
            approvers,
            tools: specs,
            runner: self.runner,
            may_ask: may_ask.as_deref(),
            language: self.language,
            variables: &variables,
        };
        workflows::load(files, &names)
    }
}

/// Whether workflows may have an address asked; `None` = nothing is known.
fn may_ask(around: Option<&Arc<dyn Surroundings>>) -> Option<Box<workflows::MayAsk<'_>>> {
    around.map(|around| -> Box<workflows::MayAsk<'_>> { Box::new(move |url| around.may_ask(url)) })
}

/// Rules that set variables of workflows which no workflow declares.
fn undeclared(policies: &policies::PolicySet, library: &Library) -> Vec<Diagnostic> {
    let declared: BTreeSet<&str> = library.iter().flat_map(|w| w.vars()).collect();
    let wrong = policies.sets_vars().filter(|(.., name)| !declared.contains(name));
    let told = wrong.map(|(rule, file, at, name)| {
        let message = format!("`set_var` of `{rule}`: no workflow declares the variable `{name}`");
        let d = Diagnostic::error("PL210", file, at, message);
        let hint = types::diagnostic::suggestion(name, declared.iter().copied());
        Diagnostic { field: format!("rules.{rule}.actions.set_var.{name}"), ..d.hint(hint) }
    });
    told.collect()
}

/// More pairs of a workflow and a model than are compared at once. Which providers have no key is not known here.
fn many_arms(rules: &SourceFile, matrix: &Matrix, library: &Library) -> Option<Diagnostic> {
    let on = |ix: &ModelIx| {
        matrix.model(*ix).is_some_and(|m| m.enabled) && matrix.provider_of(*ix).is_some_and(|p| p.enabled)
    };
    let (models, flows) =
        (matrix.indices().filter(on).count(), library.iter().filter(|w| w.offers()).count());
    let arms = flows.saturating_mul(models);
    let message = format!(
        "a request for `auto` compares up to {arms} pairs of a workflow and a model: {flows} workflows say what they serve, \
         {models} models are switched on; over more than {MANY} such requests are decided a few at a time"
    );
    let hint = "switch off models that nobody is to be given (`enabled: false`), or leave `serves` out of workflows that \
                are asked for by name";
    let start = Span { line: 1, column: 1, ..Span::default() };
    (arms > MANY).then(|| Diagnostic::warning("PL220", rules, start, message).hint(hint))
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

fn hash(matrix: &Matrix, files: &Files) -> Arc<str> {
    let mut h = blake3::Hasher::new();
    // Debug output of validated data is stable within one version of the program, which is all that an
    // identifier of a loaded configuration needs. The matrix's own index is left out: its order is random.
    h.update(format!("{:?}{:?}", matrix.providers(), matrix.models()).as_bytes());
    let mut part = |name: &str, text: &str| {
        h.update(name.as_bytes());
        h.update(&[0]);
        h.update(text.as_bytes());
        h.update(&[0]);
    };
    for f in std::iter::once(&files.rules).chain(&files.scripts).chain(&files.workflows).chain(&files.schemas)
    {
        part(f.path.rsplit('/').next().unwrap_or(""), &f.text);
    }
    for tenant in &files.tenants {
        part("tenant", &tenant.tenant);
        tenant.files.iter().for_each(|f| part(f.path.rsplit('/').next().unwrap_or(""), &f.text));
    }
    h.finalize().to_hex().as_str().get(..16).unwrap_or("").into()
}
