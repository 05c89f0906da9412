//! Small matrices that cases name instead of the one of the configuration, and the policies under each.

use crate::expression::Rhai;
use crate::load::{Reading, pools};
use crate::sandbox::{Constants, Sandbox};
use crate::script;
use crate::selector::{Context, Moment};
use crate::set::PolicySet;
use std::collections::BTreeMap;
use types::Matrix;
use types::diagnostic::{Diagnostic, Severity, suggestion};
use types::doc::{self, Node, Reader, SourceFile, Span};

/// The matrices that cases may name in `registry`, by their names.
pub type Registries = BTreeMap<String, Matrix>;

/// The registry that a case names, and where.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    name: String,
    at: Span,
}

impl Asked {
    /// Reads `registry: <name>`.
    pub(super) fn read(r: &mut Reader<'_>, node: &Node, path: &str) -> Option<Asked> {
        let name = r.string(node, path)?;
        Some(Asked { name, at: node.span })
    }
}

/// The policies under each registry; `None` = they cannot be read under it, which has been told.
pub(super) struct Sets(BTreeMap<String, Option<PolicySet>>);

impl Sets {
    /// Reads the policies again under each registry; what cannot be read under one is told.
    pub(super) fn of(set: &PolicySet, registries: &Registries) -> (Sets, Vec<Diagnostic>) {
        let (mut sets, mut problems) = (BTreeMap::new(), Vec::new());
        for (name, matrix) in registries {
            let under = set.under(matrix).map_err(|found| {
                problems.extend(found.into_iter().map(|mut d| {
                    d.hint = Some(format!("the tests read it under their registry `{name}`"));
                    d
                }));
            });
            sets.insert(name.clone(), under.ok());
        }
        (Sets(sets), problems)
    }

    /// The same with other rules in a file; `None` = under some registry they cannot be read.
    pub(super) fn with_rules(&self, file: &SourceFile, rules: &Node) -> Option<Sets> {
        self.each(|set| set.with_rules(file, rules))
    }

    /// The same with another text of a script; `None` = under some registry it cannot be read.
    pub(super) fn with_script(&self, script: &SourceFile) -> Option<Sets> {
        self.each(|set| set.with_script(script))
    }

    fn each(&self, change: impl Fn(&PolicySet) -> Option<PolicySet>) -> Option<Sets> {
        let each = self.0.iter().map(|(name, set)| match set {
            Some(set) => Some((name.clone(), Some(change(set)?))),
            None => Some((name.clone(), None)),
        });
        each.collect::<Option<_>>().map(Sets)
    }

    /// The policies that a case is about: those of the configuration where it names no registry; `None` = none that
    /// could be read.
    ///
    /// # Errors
    /// `PL211`: there is no registry of that name.
    pub(super) fn find<'a>(
        &'a self,
        asked: Option<&Asked>,
        file: &SourceFile,
        own: &'a PolicySet,
    ) -> Result<Option<&'a PolicySet>, Box<Diagnostic>> {
        let Some(Asked { name, at }) = asked else { return Ok(Some(own)) };
        self.0.get(name).map(Option::as_ref).ok_or_else(|| {
            let mut d = Diagnostic::error("PL211", file, *at, format!("there is no registry `{name}`"));
            d.expected = Some(format!("a matrix in the file policies/tests/registries/{name}.yaml"));
            d.hint = (!self.0.is_empty()).then(|| suggestion(name, self.0.keys().map(String::as_str)));
            Box::new(d)
        })
    }
}

impl PolicySet {
    /// The same rules and policies under another matrix, which may lack what they name: that names nothing then.
    fn under(&self, matrix: &Matrix) -> Result<PolicySet, Vec<Diagnostic>> {
        let own = &self.sandbox.constants;
        let more = matrix.providers().iter().map(|p| p.id.clone());
        let constants = Constants {
            sets: own.sets.clone(),
            providers: own.providers.as_ref().map(|known| known.iter().cloned().chain(more).collect()),
        };
        let mut resolver = self.resolver.under(matrix, Rhai::with(&constants));
        let rules = &self.written.rules;
        let mut r = Reader::new(rules, "PL");
        if let Some(node) = &self.written.pools {
            pools(&mut r, node, &mut resolver);
        }
        let cx = Context { resolver: &resolver, moment: Moment::Load };
        let sandbox = Sandbox::scripts(&constants, script::register);
        let mut reading = Reading::new(&cx, &sandbox);
        let root = doc::parse(rules, "PL").map_err(|d| vec![*d])?;
        if let Some(node) = root.get("rules") {
            reading.rules(&mut r, node);
        }
        let tenants = &self.written.tenants;
        tenants.iter().for_each(|tenant| reading.rules_of(tenant));
        reading.scripts(self.script_files().into_iter().filter(|f| self.tenant_of(f).is_none()).collect());
        tenants.iter().for_each(|tenant| reading.scripts_of(tenant));
        let Reading { entries, checks, problems: found, .. } = reading;
        let mut problems = r.problems;
        problems.extend(found);
        problems.retain(|d| d.severity == Severity::Error);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut set = PolicySet::new(entries, resolver, sandbox, self.written.clone(), checks);
        set.clock.clone_from(&self.clock);
        Ok(set)
    }
}
