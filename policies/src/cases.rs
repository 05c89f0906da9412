//! Tests of policies, written in YAML: requests by their variables, and what the policies should make of them.

mod coverage;
mod expect;
mod mutate;
mod registry;

pub use coverage::Coverage;
pub use mutate::{Mutant, Mutation};
pub use registry::Registries;

use crate::explain::Explanation;
use crate::inputs::{GivenProblem, scope_of};
use crate::path::put;
use crate::phase::Phase;
use crate::set::{Body, Entry, PolicySet};
use expect::Expect;
use registry::{Asked, Sets};
use serde::Serialize;
use serde_json::{Value, json};
use types::diagnostic::Diagnostic;
use types::doc::{self, Node, Reader, SourceFile};
use types::expr::Scope;

/// Most cases of one file, after `each` has been expanded.
const MAX_CASES: usize = 10_000;

/// One case that has been run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CaseResult {
    /// File, or rule, it stands in.
    pub file: String,
    /// The file that it stands in in any case.
    #[serde(skip)]
    pub source: String,
    /// Its name, with the values of `each`.
    pub name: String,
    /// Where it begins, line from 1.
    pub line: usize,
    /// The same place exactly.
    #[serde(skip)]
    pub at: doc::Span,
    /// What was expected and did not come; empty = passed.
    pub failures: Vec<String>,
}

/// What came of all cases.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TestReport {
    /// In the order of the files.
    pub cases: Vec<CaseResult>,
    /// What the cases touched.
    pub coverage: Coverage,
}

impl TestReport {
    /// Cases that failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.cases.iter().filter(|c| !c.failures.is_empty()).count()
    }
}

struct Case {
    name: String,
    at: doc::Span,
    phase: Phase,
    /// Whose models it is about; `None` = those of the configuration.
    registry: Option<Asked>,
    given: Value,
    expect: Expect,
}

impl Case {
    /// What was expected of it and did not come under these policies; notes what it touches of what it should.
    fn played(&self, set: &PolicySet, scope: &Scope, coverage: &mut Coverage) -> Vec<String> {
        // Parts of conditions are looked at where they are asked for: by the coverage, and of a case that fails.
        let failures = |told: &Explanation| self.expect.failures(told, |id| set.owner(self.phase, id));
        if coverage.is_empty() && failures(&set.outcome(self.phase, scope)).is_empty() {
            return Vec::new();
        }
        let told = set.explain(self.phase, scope);
        coverage.saw(&told);
        failures(&told)
    }
}

/// The code of a case that fails.
const FAILS: &str = "PL501";

impl PolicySet {
    /// Runs the cases as [`PolicySet::test`] does, and gives what is wrong: with the files, and with the policies by
    /// what the cases say (`PL501`). Nothing = all of them pass.
    #[must_use]
    pub fn failing(&self, files: &[SourceFile], registries: &Registries) -> Vec<Diagnostic> {
        let (sets, mut problems) = Sets::of(self, registries);
        // Nobody asks what the cases touched.
        let (report, found) = self.test_under(files, &sets, Coverage::default());
        problems.extend(found);
        for case in report.cases.iter().filter(|c| !c.failures.is_empty()) {
            // Cases beside rules stand in the file of the rule.
            let beside = self.entries.iter().map(Entry::file);
            let file = files.iter().chain(beside).find(|f| f.path == case.source);
            let file = file.unwrap_or(&self.written.rules);
            let said = format!("the test `{}` fails: {}", case.name, case.failures.join("; "));
            let mut d = Diagnostic::error(FAILS, file, case.at, said);
            d.hint = Some("`turnout policy test` runs the tests alone".to_owned());
            problems.push(d);
        }
        problems
    }

    /// Runs the cases of test files, and those that stand beside rules, each under the registry that it names. Gives
    /// what came of each, and what is wrong with the files (codes `PL1xx`; `PL211` a registry that is not there) or
    /// with the policies under a registry.
    #[must_use]
    pub fn test(&self, files: &[SourceFile], registries: &Registries) -> (TestReport, Vec<Diagnostic>) {
        let (sets, mut problems) = Sets::of(self, registries);
        let (report, found) = self.test_under(files, &sets, Coverage::of(self));
        problems.extend(found);
        (report, problems)
    }

    /// Runs the cases under these sets, and notes what they touch of what they should.
    fn test_under(
        &self,
        files: &[SourceFile],
        sets: &Sets,
        coverage: Coverage,
    ) -> (TestReport, Vec<Diagnostic>) {
        let mut report = TestReport { cases: Vec::new(), coverage };
        let mut problems = Vec::new();
        for entry in self.entries.iter() {
            let Body::Rule(rule) = &entry.body else { continue };
            let Some(node) = &rule.tests else { continue };
            let mut r = Reader::new(&rule.file, "PL");
            let path = format!("rules.{}.tests", entry.head.id);
            let given = entry.tenant.as_ref().map_or(Value::Null, |t| json!({"tenant": {"id": t}}));
            let usual = Usual { phase: entry.phase, registry: None, given };
            let cases = cases(&mut r, node, &path, &usual);
            problems.extend(r.problems);
            let place = (format!("rule {}", entry.head.id), &rule.file);
            problems.extend(self.run(place, cases, sets, &mut report));
        }
        for file in files {
            let (cases, found) = read(file);
            problems.extend(found);
            problems.extend(self.run((file.path.clone(), file), cases, sets, &mut report));
        }
        (report, problems)
    }

    /// Runs cases of one place, which is called so and stands in that file; gives what is wrong with them.
    fn run(
        &self,
        (called, file): (String, &SourceFile),
        cases: Vec<Case>,
        sets: &Sets,
        report: &mut TestReport,
    ) -> Vec<Diagnostic> {
        let mut problems: Vec<Diagnostic> = Vec::new();
        for case in cases {
            let set = match sets.find(case.registry.as_ref(), file, self) {
                Ok(Some(set)) => set,
                Ok(None) => continue,
                Err(d) => {
                    // What all cases of a file name is wrong once.
                    if !problems.contains(&d) {
                        problems.push(*d);
                    }
                    continue;
                }
            };
            let failures = match scope_of(&case.given, case.phase) {
                Ok(scope) => case.played(set, &scope, &mut report.coverage),
                Err(problems) => problems.iter().map(GivenProblem::to_string).collect(),
            };
            let (source, file, at) = (file.path.clone(), called.clone(), case.at);
            report.cases.push(CaseResult { file, source, name: case.name, line: at.line, at, failures });
        }
        problems
    }
}

/// What is wrong with the shape of test files (codes `PL1xx`), whatever policies they are about.
#[must_use]
pub fn misshapen(files: &[SourceFile]) -> Vec<Diagnostic> {
    files.iter().flat_map(|file| read(file).1).collect()
}

/// The cases of a file, and what is wrong with their shape.
fn read(file: &SourceFile) -> (Vec<Case>, Vec<Diagnostic>) {
    let mut r = Reader::new(file, "PL");
    match doc::parse(file, "PL") {
        Ok(root) => {
            let cases = of_file(&mut r, &root);
            (cases, r.problems)
        }
        Err(d) => (Vec::new(), vec![*d]),
    }
}

/// What cases have that do not say otherwise.
struct Usual {
    phase: Phase,
    registry: Option<Asked>,
    given: Value,
}

/// `version`, `registry`, `defaults`, `cases`.
fn of_file(r: &mut Reader<'_>, root: &Node) -> Vec<Case> {
    let Some(mut f) = r.fields(root, "") else { return Vec::new() };
    if let Some(n) = f.require(r, "version") {
        r.integer(n, "version", 1, 1);
    }
    let registry = f.take("registry").and_then(|n| Asked::read(r, n, "registry"));
    let given = f.take("defaults").map_or(Value::Null, Node::to_json);
    let usual = Usual { phase: Phase::Request, registry, given };
    let list = f.require(r, "cases");
    f.finish(r);
    list.map_or_else(Vec::new, |n| cases(r, n, "cases", &usual))
}

fn cases(r: &mut Reader<'_>, node: &Node, path: &str, usual: &Usual) -> Vec<Case> {
    let mut all = Vec::new();
    for (i, item) in r.list(node, path).unwrap_or_default().iter().enumerate() {
        let at = format!("{path}[{i}]");
        case(r, item, &at, usual, &mut all);
        if all.len() > MAX_CASES {
            r.error("104", item.span, "too many cases").expected = Some(format!("at most {MAX_CASES}"));
            break;
        }
    }
    all
}

fn case(r: &mut Reader<'_>, node: &Node, path: &str, usual: &Usual, all: &mut Vec<Case>) {
    let Some(mut f) = r.fields(node, path) else { return };
    let name = f.take("name").and_then(|n| r.string(n, &f.at("name"))).unwrap_or_else(|| path.to_owned());
    let phase = match f.take("phase") {
        None => Some(usual.phase),
        Some(n) => r.one_of(n, &f.at("phase"), Phase::NAMES).and_then(Phase::parse),
    };
    let own = f.take("registry").and_then(|n| Asked::read(r, n, &f.at("registry")));
    let registry = own.or_else(|| usual.registry.clone());
    let given = f.take("given").map_or(Value::Null, Node::to_json);
    let each: Vec<(String, Vec<Value>)> = match f.take("each") {
        None => Vec::new(),
        Some(n) => {
            let at = f.at("each");
            let members = r.map(n, &at).unwrap_or_default();
            let mut each = Vec::new();
            for (key, values) in members {
                let list = r.list(values, &format!("{at}.{}", key.name)).unwrap_or_default();
                each.push((key.name.clone(), list.iter().map(Node::to_json).collect()));
            }
            each
        }
    };
    let mut expects = Vec::new();
    // Every combination of `each` has the same expectations.
    let expect_node = f.require(r, "expect");
    let at = f.at("expect");
    f.finish(r);
    let (Some(phase), Some(expect_node)) = (phase, expect_node) else { return };
    let mut combinations = vec![(name, merged(&usual.given, &given))];
    for (path, values) in &each {
        combinations = combinations
            .iter()
            .flat_map(|(name, given)| {
                values.iter().map(move |value| {
                    let mut given = given.clone();
                    put(&mut given, path, value.clone());
                    (format!("{name} [{path} = {value}]"), given)
                })
            })
            .take(MAX_CASES.saturating_add(1))
            .collect();
    }
    for (i, (name, given)) in combinations.into_iter().enumerate() {
        let before = r.problems.len();
        let expect = expect::read(r, expect_node, &at);
        if i > 0 {
            // The same node was read before.
            r.problems.truncate(before);
        }
        if let Some(expect) = expect {
            let registry = registry.clone();
            expects.push(Case { name, at: node.span, phase, registry, given, expect });
        }
    }
    all.append(&mut expects);
}

/// `over` laid over `base`, maps within maps.
pub(crate) fn merged(base: &Value, over: &Value) -> Value {
    match (base, over) {
        (Value::Object(a), Value::Object(b)) => {
            let mut out = a.clone();
            for (key, value) in b {
                let inner = merged(a.get(key).unwrap_or(&Value::Null), value);
                out.insert(key.clone(), inner);
            }
            Value::Object(out)
        }
        (base, Value::Null) => base.clone(),
        (_, over) => over.clone(),
    }
}
