//! The loaded rules and policies, and their evaluation for one request.

use crate::Error;
use crate::asked;
use crate::expression::Vars;
use crate::head::{Head, Mode};
use crate::merge::Merge;
use crate::native::Path;
use crate::phase::Phase;
use crate::rule::Rule;
use crate::runner::{self, Lost};
use crate::sandbox::{self, Clock, Sandbox};
use crate::script::Script;
use crate::selection::{Predicate, Selection, Standing};
use crate::selector::Resolver;
use crate::verb::{self, Bound};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use types::axis::Axis;
use types::directives::{ActionRecord, Directives, Pools, RuleId, RuleRecord, RuleResult};
use types::doc::{Node, SourceFile, Span};
use types::expr::Scope;
use types::privacy::{Custom, Entity};

/// A rule or a policy, in one phase.
pub(crate) struct Entry {
    pub(crate) head: Head,
    pub(crate) phase: Phase,
    /// An evaluation error refuses the request.
    pub(crate) closed: bool,
    pub(crate) body: Body,
    /// Requests, calls or answers that it matched since it was loaded.
    pub(crate) matched: AtomicU64,
    /// How often a selector of it that goes by how models are named none.
    named_none: AtomicU64,
}

/// Where the actions come from.
pub(crate) enum Body {
    /// A condition and its actions.
    Rule(Box<Rule>),
    /// A function that collects actions.
    Script(Arc<Script>),
}

/// What a rule or policy came to.
type Outcome<'a> = Result<Found<'a>, types::expr::Error>;

struct Found<'a> {
    /// Of a rule that matches, of a policy that asks for any.
    actions: Option<Cow<'a, [Bound]>>,
    because: Option<&'a Arc<str>>,
}

/// All rules and policies of one snapshot of the configuration. Cheap to clone, shared by all threads.
#[derive(Clone)]
pub struct PolicySet {
    pub(crate) entries: Arc<[Entry]>,
    pub(crate) resolver: Arc<Resolver>,
    /// Where the rules come from, for what is told of the tests beside them.
    pub(crate) rules_file: SourceFile,
    /// The named sets of models as they were written, for reading them again under another matrix.
    pub(crate) written_pools: Option<Arc<Node>>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) clock: Clock,
    /// Functions that look at answers.
    pub(crate) checks: Arc<BTreeMap<String, Arc<Script>>>,
    /// Which phases have any entry, in the order of [`Phase::ALL`].
    phases: [bool; 3],
    /// What of the variables goes into the record of a decision.
    recorded: Arc<[(Arc<str>, Path)]>,
}

impl fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|e| &e.head.id)).finish()
    }
}

impl PolicySet {
    pub(crate) fn new(
        entries: Vec<Entry>,
        resolver: Resolver,
        sandbox: Sandbox,
        rules_file: SourceFile,
        checks: BTreeMap<String, Arc<Script>>,
    ) -> Self {
        let clock = Clock::clone(&sandbox.clock);
        let phases =
            Phase::ALL.map(|p| entries.iter().any(|e| e.phase == p && e.head.mode != Mode::Disabled));
        let recorded = recorded(&entries);
        PolicySet {
            entries: entries.into(),
            resolver: Arc::new(resolver),
            rules_file,
            written_pools: None,
            sandbox: Arc::new(sandbox),
            clock,
            checks: Arc::new(checks),
            phases,
            recorded,
        }
    }

    /// The same with the section that its named sets of models come from.
    pub(crate) fn with_pools_as_written(self, pools: Option<Node>) -> Self {
        PolicySet { written_pools: pools.map(Arc::new), ..self }
    }

    /// The same with other rules and policies, all of them read under the same names.
    pub(crate) fn with_entries(&self, entries: Vec<Entry>) -> Self {
        let phases =
            Phase::ALL.map(|p| entries.iter().any(|e| e.phase == p && e.head.mode != Mode::Disabled));
        PolicySet { recorded: recorded(&entries), entries: entries.into(), phases, ..self.clone() }
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

    /// The file of the rules, as it was read.
    #[must_use]
    pub fn rules_file(&self) -> &SourceFile {
        &self.rules_file
    }

    /// The groups that `require_approval` names, with their members.
    #[must_use]
    pub fn approvers(&self) -> &BTreeMap<String, Vec<String>> {
        &self.resolver.approvers
    }

    /// The operator's own kinds of values, each with the pattern that describes it.
    #[must_use]
    pub fn patterns(&self) -> Vec<(Entity, &str)> {
        let known = self.resolver.patterns.iter();
        known.filter_map(|(name, p)| Some((Entity::Custom(Custom::new(name)?), p.as_str()))).collect()
    }

    /// The policies that have been put away because they reached their limits too often, by file name: how often since
    /// they were loaded, and whether they are away now.
    #[must_use]
    pub fn put_away(&self) -> BTreeMap<&str, (u64, bool)> {
        let now = (self.clock)();
        let told = |s: &Arc<Script>| (s.quarantine.times(), s.quarantine.is_away(now));
        self.scripts().map(|s| (s.path(), told(s))).filter(|(_, (times, _))| *times > 0).collect()
    }

    /// The rules and policies of which a selector that goes by how models are named none where they matched: how often
    /// since they were loaded.
    #[must_use]
    pub fn named_none(&self) -> BTreeMap<&str, u64> {
        let mut all = BTreeMap::new();
        for entry in self.entries.iter() {
            let times = entry.named_none.load(Ordering::Relaxed);
            if times > 0 {
                let sum: &mut u64 = all.entry(&*entry.head.id).or_default();
                *sum = sum.saturating_add(times);
            }
        }
        all
    }

    /// Lets policies run again that were put away.
    pub fn release(&self) {
        self.scripts().for_each(|s| s.quarantine.release());
    }

    fn scripts(&self) -> impl Iterator<Item = &Arc<Script>> {
        self.entries.iter().filter_map(Entry::script).chain(self.checks.values())
    }

    /// The files of the policies, each once.
    pub(crate) fn script_files(&self) -> Vec<&SourceFile> {
        let by_path: BTreeMap<&str, &SourceFile> = self.scripts().map(|s| (s.path(), s.file())).collect();
        by_path.into_values().collect()
    }

    /// No rule and no policy at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many rules and policies there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.iter().map(|e| &e.head.id).collect::<BTreeSet<_>>().len()
    }

    /// Whether any rule or policy could have a say in a phase.
    #[must_use]
    pub fn has(&self, phase: Phase) -> bool {
        Phase::ALL.iter().zip(self.phases).any(|(p, has)| *p == phase && has)
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
        all.extend(self.checks.values().flat_map(|script| script.reads()));
        all.extend(self.predicates().flat_map(Predicate::reads));
        all
    }

    /// What rules set of the variables of workflows: the rule, where it stands, and the variable.
    pub fn sets_vars(&self) -> impl Iterator<Item = (&RuleId, Span, &str)> {
        self.entries.iter().flat_map(|entry| {
            let rule = match &entry.body {
                Body::Rule(rule) => Some(rule),
                Body::Script(_) => None,
            };
            let actions = rule.into_iter().flat_map(|rule| rule.actions.iter().map(move |a| (rule.at, a)));
            let set = actions.filter(|(_, a)| &*a.verb == "set_var");
            set.flat_map(move |(at, action)| {
                let names = action.argument.as_object().into_iter().flatten();
                names.map(move |(name, _)| (&entry.head.id, at, name.as_str()))
            })
        })
    }

    /// The models whose state makes a difference to a predicate over models, by their identifiers.
    #[must_use]
    pub fn watched_models(&self) -> BTreeSet<&str> {
        self.predicates().flat_map(Predicate::watched).collect()
    }

    /// The predicates over models that read what changes while the server runs.
    fn predicates(&self) -> impl Iterator<Item = &Predicate> {
        let pools = self.resolver.moving.values();
        self.entries.iter().flat_map(Entry::selections).chain(pools).flat_map(Selection::predicates)
    }

    /// Evaluates every rule and policy of a phase, and merges the actions of those that match: rules of the rules
    /// file first, then policies by file name.
    ///
    /// Rules, and policies that can be seen to end soon (no loops, no recursion), are evaluated at once on the
    /// caller's thread. Other policies run before them on threads of their own, each for at most 50 000 operations
    /// and 2 ms, in which a pause between two operations counts for at most 200 µs: a thread that was not running is
    /// no runaway. One that does not come back within 100 ms counts as failed, and one that reaches its limits three
    /// times within a minute is not run for a minute, or until it is loaded again; its `on_error` applies. All that
    /// are enforced have 10 ms together: what comes after these are used up counts as failed, too. Those in shadow
    /// have as much for themselves, so that nothing that is only watched fails a request.
    ///
    /// # Errors
    /// [`Error::Evaluation`] when a rule with `on_error: closed` cannot be evaluated; [`Error::Option`] when the
    /// request asks for something that is not there.
    pub async fn evaluate(&self, phase: Phase, scope: &Scope) -> Result<Directives, Error> {
        let mut elsewhere = HashMap::new();
        let mut left = Left::default();
        for (i, entry, script) in self.wild(phase, scope) {
            let left = left.of(entry);
            let result;
            (result, *left) = self.run_elsewhere(script, phase, scope, *left).await;
            elsewhere.insert(i, result);
        }
        self.fold(phase, scope, elsewhere, left)
    }

    /// As [`PolicySet::evaluate`], with every policy on the caller's thread: for tools, not for servers.
    ///
    /// # Errors
    /// As for [`PolicySet::evaluate`].
    pub fn evaluate_now(&self, phase: Phase, scope: &Scope) -> Result<Directives, Error> {
        self.fold(phase, scope, HashMap::new(), Left::default())
    }

    /// The policies in force that must run on threads of their own, with their positions.
    fn wild(&self, phase: Phase, scope: &Scope) -> Vec<(usize, &Entry, &Arc<Script>)> {
        let of_phase = self.entries.iter().enumerate().filter(|(_, e)| e.phase == phase);
        let mut wild: Vec<_> = of_phase.filter_map(|(i, e)| Some((i, e, e.wild()?))).collect();
        if wild.iter().any(|(_, e, _)| e.head.in_force(None).is_none()) {
            let now = Vars::of(scope).ok().and_then(|v| v.unix_ms());
            wild.retain(|(_, e, _)| e.head.in_force(now) != Some(false));
        }
        wild
    }

    async fn run_elsewhere(
        &self,
        script: &Arc<Script>,
        phase: Phase,
        scope: &Scope,
        left: Duration,
    ) -> (Result<Vec<Bound>, types::expr::Error>, Duration) {
        let (set, script, scope) = (self.clone(), Arc::clone(script), scope.clone());
        let own = Arc::clone(&script);
        let clock = Clock::clone(&self.clock);
        let run = move || {
            let run = || script.run(&set.sandbox, &set.clock, &set.resolver, phase, &scope);
            sandbox::together(left, run)
        };
        let lost = |message: &str| types::expr::Error { message: message.to_owned(), limit: true };
        match runner::shared().run(run).await {
            Ok(done) => done,
            Err(Lost::Full) => (Err(lost("too many policies wait to be run")), left),
            // How much of that time it was running, nobody knows; on a busy machine it was hardly any.
            Err(Lost::Overdue) => {
                own.reached_a_limit(&clock);
                (Err(lost("the policy did not come back in time")), left.saturating_sub(sandbox::DEADLINE))
            }
        }
    }

    fn fold(
        &self,
        phase: Phase,
        scope: &Scope,
        mut elsewhere: HashMap<usize, Result<Vec<Bound>, types::expr::Error>>,
        mut left: Left,
    ) -> Result<Directives, Error> {
        let vars = Vars::of(scope);
        let facts = vars.as_ref().ok().and_then(|v| v.facts()).filter(|_| phase == Phase::Request);
        let options = facts.map(|f| f.options());
        let asks = options.map_or(&[] as &[_], |o| o.asks.as_slice());
        if self.entries.is_empty() && asks.is_empty() {
            return Ok(Directives::default());
        }
        let unix_ms = vars.as_ref().ok().and_then(|v| v.unix_ms());
        let standing = vars.as_ref().map_or_else(|_| Standing::default(), |vars| Standing::of_vars(vars));
        let mut pass = Pass {
            merge: Merge::new(self.resolver.matrix.models().len()).under(standing),
            records: Vec::with_capacity(self.entries.len()),
            groups: Vec::new(),
        };
        for (i, entry) in self.entries.iter().enumerate().filter(|(_, e)| e.phase == phase) {
            let Some(gate) = pass.gate(entry, unix_ms) else { continue };
            let left = left.of(entry);
            let outcome = gate.and_then(|()| match (&entry.body, elsewhere.remove(&i), &vars) {
                (_, _, Err(e)) => Err(e.message.clone()),
                (Body::Rule(rule), _, Ok(vars)) => {
                    let result;
                    (result, *left) = sandbox::together(*left, || of_rule(rule, vars));
                    result.map_err(|e| e.message)
                }
                (Body::Script(_), Some(result), _) => of_script(result).map_err(|e| e.message),
                (Body::Script(script), None, _) => {
                    let run = || script.run(&self.sandbox, &self.clock, &self.resolver, phase, scope);
                    let result;
                    (result, *left) = sandbox::together(*left, run);
                    of_script(result).map_err(|e| e.message)
                }
            });
            pass.take(entry, outcome)?;
        }
        asked::apply(asks, &self.resolver, &mut pass.merge)?;
        let value =
            |(name, path): &(Arc<str>, Path)| Some((Arc::clone(name), path.json(vars.as_ref().ok()?)?));
        let inputs = match phase {
            Phase::Request => self.recorded.iter().filter_map(value).collect(),
            _ => Vec::new(),
        };
        let mut directives = Directives { rules: pass.records, inputs, ..pass.merge.finish() };
        if let Some(options) = options {
            asked::settle(options, &self.resolver, &mut directives);
        }
        Ok(directives)
    }

    /// Whether the answer to a request must be held back until it is complete, because a rule or policy of the
    /// response phase could apply to it that does more than write something down.
    #[must_use]
    pub fn holds_back(&self, scope: &Scope) -> bool {
        self.holds_back_but(scope, &|_, _| false)
    }

    /// The same but for those that `but` says.
    pub(crate) fn holds_back_but(&self, scope: &Scope, but: &dyn Fn(&Entry, &Vars) -> bool) -> bool {
        let vars = Vars::of(scope);
        let now = vars.as_ref().ok().and_then(|v| v.unix_ms());
        self.entries.iter().filter(|e| e.phase == Phase::Response && e.head.mode == Mode::Enforce).any(|e| {
            match (&e.body, &vars) {
                _ if e.head.in_force(now) == Some(false) => false,
                (Body::Rule(rule), _) if !rule.holds_back() => false,
                (Body::Rule(rule), Ok(vars)) => rule.may_match(vars) && !but(e, vars),
                (Body::Script(script), _) => {
                    script.verbs.iter().any(|v| verb::holds_back(v, &serde_json::Value::Null))
                }
                (Body::Rule(_), Err(_)) => true,
            }
        })
    }
}

/// Paths that stand elsewhere in the record of a decision, hold texts, or are large.
const NOT_RECORDED: &[&str] = &[
    "request.last_user_text",
    "request.user",
    "request.model_asked",
    "request.options.tags",
    "tenant.id",
    "workload.est_input_tokens",
];

/// What of the variables that the rules read goes into the record of a decision.
fn recorded(entries: &[Entry]) -> Arc<[(Arc<str>, Path)]> {
    let mut paths = BTreeSet::new();
    for entry in entries.iter().filter(|e| e.phase == Phase::Request) {
        match &entry.body {
            Body::Rule(rule) => paths.extend(rule.reads()),
            Body::Script(script) => paths.extend(script.reads()),
        }
    }
    let axis = |p: &str| Axis::ALL.iter().any(|a| p == format!("workload.{}", a.as_str()));
    let elsewhere = |p: &str| {
        NOT_RECORDED.contains(&p)
            || axis(p)
            || ["time.", "workload.axis_confidence.", "provider("].iter().any(|start| p.starts_with(start))
    };
    let paths = paths.into_iter().filter(|p| !elsewhere(p));
    paths.filter_map(|p| Some((Arc::from(p), Path::told(p)?))).collect()
}

fn of_rule<'a>(rule: &'a Rule, vars: &Vars) -> Outcome<'a> {
    let answer = rule.answer(vars)?;
    let actions = answer.matches.then_some(Cow::Borrowed(rule.actions.as_slice()));
    Ok(Found { actions, because: answer.because })
}

fn of_script<'a>(result: Result<Vec<Bound>, types::expr::Error>) -> Outcome<'a> {
    let actions = result?;
    Ok(Found { actions: (!actions.is_empty()).then_some(Cow::Owned(actions)), because: None })
}

impl Entry {
    pub(crate) fn new(head: Head, phase: Phase, closed: bool, body: Body) -> Entry {
        Entry { head, phase, closed, body, matched: AtomicU64::new(0), named_none: AtomicU64::new(0) }
    }

    /// The models that it names, as far as they stand in it.
    fn selections(&self) -> Vec<&Selection> {
        match &self.body {
            Body::Rule(rule) => rule.actions.iter().flat_map(|a| a.action.selections()).collect(),
            Body::Script(script) => script.selections().collect(),
        }
    }

    fn script(&self) -> Option<&Arc<Script>> {
        match &self.body {
            Body::Script(script) => Some(script),
            Body::Rule(_) => None,
        }
    }

    /// The policy, if it must run on a thread of its own.
    fn wild(&self) -> Option<&Arc<Script>> {
        match &self.body {
            Body::Script(script) if self.head.mode != Mode::Disabled && script.is_wild(self.phase) => {
                Some(script)
            }
            _ => None,
        }
    }
}

/// What is left of the time of a phase.
struct Left {
    /// For what is enforced.
    enforced: Duration,
    /// For what is only watched.
    shadow: Duration,
}

impl Default for Left {
    fn default() -> Self {
        Left { enforced: sandbox::PHASE, shadow: sandbox::PHASE }
    }
}

impl Left {
    /// For an entry and those like it.
    fn of(&mut self, entry: &Entry) -> &mut Duration {
        if entry.head.mode == Mode::Shadow { &mut self.shadow } else { &mut self.enforced }
    }
}

/// One evaluation under way.
struct Pass<'a> {
    merge: Merge,
    records: Vec<RuleRecord>,
    /// Groups of which a rule applies, with that rule.
    groups: Vec<(&'a str, &'a RuleId)>,
}

impl<'a> Pass<'a> {
    /// Whether an entry is evaluated at all: `None` = it is not, and that is noted; an error where it cannot be
    /// told.
    fn gate(&mut self, entry: &'a Entry, unix_ms: Option<i64>) -> Option<Result<(), String>> {
        let head = &entry.head;
        let force = if head.mode == Mode::Disabled { Some(false) } else { head.in_force(unix_ms) };
        match force {
            Some(false) => {
                self.note(&head.id, RuleResult::Disabled, None);
                None
            }
            None => Some(Err("the rule has dates, and the time of the request is not known".to_owned())),
            Some(true) => {
                let of_group = |g: &str| self.groups.iter().find(|(name, _)| *name == g).map(|(_, id)| *id);
                if let Some(first) = head.group.as_deref().and_then(of_group) {
                    let why = format!("`{first}` of the same group applies");
                    self.note(&head.id, RuleResult::NotMatched, Some(why));
                    return None;
                }
                Some(Ok(()))
            }
        }
    }

    /// Takes what an entry came to.
    fn take(&mut self, entry: &'a Entry, outcome: Result<Found<'a>, String>) -> Result<(), Error> {
        let head = &entry.head;
        let settled = |found: Found<'a>| {
            let mut actions = found.actions.iter().flat_map(|a| a.iter());
            let result = actions.try_for_each(|a| self.merge.settle(a.action.as_ref()));
            result.map(|()| found).map_err(|e| e.message)
        };
        match outcome.and_then(settled) {
            Ok(Found { actions: None, because }) => {
                self.note(&head.id, RuleResult::NotMatched, None);
                if let Some(record) = self.records.last_mut() {
                    record.because = because.cloned();
                }
            }
            Ok(Found { actions: Some(actions), .. }) => {
                entry.matched.fetch_add(1, Ordering::Relaxed);
                if actions.iter().any(|a| self.merge.names_none(a.action.as_ref())) {
                    entry.named_none.fetch_add(1, Ordering::Relaxed);
                }
                if head.mode == Mode::Shadow {
                    self.watch(head, &actions);
                } else {
                    self.apply(head, &actions);
                }
            }
            Err(detail) if entry.closed && head.mode == Mode::Enforce => {
                return Err(Error::Evaluation { rule: RuleId::clone(&head.id), detail });
            }
            Err(detail) => self.note(&head.id, RuleResult::Error, Some(detail)),
        }
        Ok(())
    }

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
            self.groups.push((group, &head.id));
        }
        for action in actions {
            self.merge.apply(record(head, action), action.action.as_ref(), head.priority);
        }
    }
}

pub(crate) fn record(head: &Head, action: &Bound) -> ActionRecord {
    ActionRecord {
        rule: RuleId::clone(&head.id),
        verb: Arc::clone(&action.verb),
        argument: action.argument.clone(),
        effect: String::new(),
    }
}
