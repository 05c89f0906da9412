//! The loaded rules and policies, and their evaluation for one request.

use crate::Error;
use crate::expression::Vars;
use crate::merge::Merge;
use crate::rule::{Head, Mode, Rule};
use crate::sandbox::{Clock, Sandbox};
use crate::script::Script;
use crate::selector::Resolver;
use crate::verb::Bound;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use types::directives::{ActionRecord, Directives, Pools, RuleId, RuleRecord, RuleResult};
use types::expr::Scope;

/// A rule or a policy.
pub(crate) struct Entry {
    pub(crate) head: Head,
    /// An evaluation error refuses the request.
    pub(crate) closed: bool,
    pub(crate) body: Body,
}

/// Where the actions come from.
pub(crate) enum Body {
    /// A condition and its actions.
    Rule(Box<Rule>),
    /// A function that collects actions.
    Script(Box<Script>),
}

/// All rules and policies of one snapshot of the configuration. Cheap to clone, shared by all threads.
#[derive(Clone)]
pub struct PolicySet {
    entries: Arc<[Entry]>,
    resolver: Arc<Resolver>,
    sandbox: Arc<Sandbox>,
    clock: Clock,
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|e| &e.head.id)).finish()
    }
}

impl PolicySet {
    pub(crate) fn new(entries: Vec<Entry>, resolver: Resolver, sandbox: Sandbox) -> Self {
        let clock = Clock::clone(&sandbox.clock);
        PolicySet { entries: entries.into(), resolver: Arc::new(resolver), sandbox: Arc::new(sandbox), clock }
    }

    /// The same rules with another clock for the time limit of policies: a monotonic time since any fixed
    /// moment. Without it, tokio's clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The named sets of models, resolved against the matrix the set was loaded with.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        &self.resolver.pools
    }

    /// No rule and no policy at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Every path of a variable that some rule or policy reads, such as `workload.task_family`; a variable
    /// that is used whole stands by its name alone.
    #[must_use]
    pub fn reads(&self) -> BTreeSet<&str> {
        let mut all = BTreeSet::new();
        for entry in self.entries.iter() {
            match &entry.body {
                Body::Rule(rule) => all.extend(rule.reads()),
                Body::Script(script) => all.extend(script.reads()),
            }
        }
        all
    }

    /// Evaluates every rule and policy, rules of the rules file first, then policies by file name, and
    /// merges the actions of those that match.
    ///
    /// Policies run on the caller's thread, each for at most 50 000 operations and 2 ms, in which a
    /// pause between two operations counts for at most 1 ms: a thread that was not running is no runaway.
    ///
    /// # Errors
    /// [`Error::Evaluation`] when a rule with `on_error: closed` cannot be evaluated.
    pub fn evaluate(&self, scope: &Scope) -> Result<Directives, Error> {
        if self.entries.is_empty() {
            return Ok(Directives::default());
        }
        let unix_ms = Vars::of(scope).ok().and_then(Vars::unix_ms);
        let mut pass = Pass {
            merge: Merge::new(self.resolver.matrix.models().len()),
            records: Vec::with_capacity(self.entries.len()),
            groups: HashMap::new(),
        };
        for entry in self.entries.iter() {
            self.entry(entry, scope, unix_ms, &mut pass)?;
        }
        Ok(Directives { rules: pass.records, ..pass.merge.finish() })
    }

    fn entry<'a>(
        &'a self,
        entry: &'a Entry,
        scope: &Scope,
        unix_ms: Option<i64>,
        pass: &mut Pass<'a>,
    ) -> Result<(), Error> {
        let head = &entry.head;
        if head.mode == Mode::Disabled {
            pass.note(&head.id, RuleResult::Disabled, None);
            return Ok(());
        }
        let outcome = match head.in_force(unix_ms) {
            Some(false) => {
                pass.note(&head.id, RuleResult::Disabled, None);
                return Ok(());
            }
            None => Err("the rule has dates, and the time of the request is not known".to_owned()),
            Some(true) => {
                if let Some(first) = head.group.as_deref().and_then(|g| pass.groups.get(g)) {
                    let why = format!("`{first}` of the same group applies");
                    pass.note(&head.id, RuleResult::NotMatched, Some(why));
                    return Ok(());
                }
                self.actions(entry, scope).map_err(|e| e.message)
            }
        };
        match outcome {
            Ok(None) => pass.note(&head.id, RuleResult::NotMatched, None),
            Ok(Some(actions)) if head.mode == Mode::Shadow => pass.watch(head, &actions),
            Ok(Some(actions)) => pass.apply(head, &actions),
            Err(detail) if entry.closed && head.mode == Mode::Enforce => {
                return Err(Error::Evaluation { rule: RuleId::clone(&head.id), detail });
            }
            Err(detail) => pass.note(&head.id, RuleResult::Error, Some(detail)),
        }
        Ok(())
    }

    /// The actions of a rule that matches, of a policy that asks for any.
    fn actions<'a>(
        &self,
        entry: &'a Entry,
        scope: &Scope,
    ) -> Result<Option<Cow<'a, [Bound]>>, types::expr::Error> {
        match &entry.body {
            Body::Rule(rule) => Ok(rule.matches(scope)?.then_some(Cow::Borrowed(rule.actions.as_slice()))),
            Body::Script(script) => {
                let actions = script.run(&self.sandbox, &self.clock, &self.resolver, scope)?;
                Ok((!actions.is_empty()).then_some(Cow::Owned(actions)))
            }
        }
    }
}

/// One evaluation under way.
struct Pass<'a> {
    merge: Merge,
    records: Vec<RuleRecord>,
    /// Groups of which a rule applies, with that rule.
    groups: HashMap<&'a str, &'a RuleId>,
}

impl<'a> Pass<'a> {
    fn note(&mut self, id: &RuleId, result: RuleResult, detail: Option<String>) {
        self.records.push(RuleRecord { id: RuleId::clone(id), result, detail, because: None });
    }

    fn watch(&mut self, head: &Head, actions: &[Bound]) {
        self.note(&head.id, RuleResult::Shadow, None);
        for action in actions {
            self.merge.watch(record(head, action));
        }
    }

    fn apply(&mut self, head: &'a Head, actions: &[Bound]) {
        self.note(&head.id, RuleResult::Matched, None);
        if let Some(group) = head.group.as_deref() {
            self.groups.insert(group, &head.id);
        }
        for action in actions {
            self.merge.apply(record(head, action), action.action.as_ref(), head.priority);
        }
    }
}

fn record(head: &Head, action: &Bound) -> ActionRecord {
    ActionRecord {
        rule: RuleId::clone(&head.id),
        verb: Arc::clone(&action.verb),
        argument: action.argument.clone(),
        effect: String::new(),
    }
}
