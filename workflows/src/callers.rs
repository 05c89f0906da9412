//! Which nodes call models, how often at most and how often in any case, and by which routes: what a plan, a bound on
//! cost and what is set aside for a run are made of.

use crate::graph::{Graph, bit};
use crate::node::generate::Generate;
use crate::node::{Join, Node, NodeKind};
use crate::plan::Workflow;
use crate::route::Route;
use types::Usd;

/// A node that calls models.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    /// Ids from the root, such as `work/think`.
    pub path: String,
    /// Its type.
    pub kind: NodeKind,
    /// Most calls in one run of the workflow, where each is answered at its first attempt.
    pub calls: u32,
    /// Most further calls where answers are lost on their way.
    pub again: u32,
    /// Attempts of one model at a call, as the file says; `None`: as is usual.
    pub attempts: Option<u32>,
    /// Another model may be asked where one fails.
    pub elsewhere: bool,
    /// Most attempts of all its calls together, where the node has a budget of calls.
    pub most: Option<u32>,
    /// Most money of all these calls, where the node has a budget of its own.
    pub usd: Option<Usd>,
    /// It gets the candidate that the router chose.
    pub primary: bool,
    /// Where its models come from. A repair also asks the model whose answer it repairs, which no route names.
    pub routes: Vec<&'a Route>,
}

/// Calls that a run makes in any case, as long as nothing fails.
#[derive(Clone, Debug)]
pub struct Sure {
    /// They go to the candidate that the router chose.
    pub primary: bool,
    /// Where their model comes from.
    pub route: Route,
    /// How many, 1 and more.
    pub calls: u32,
}

impl Workflow {
    /// The calls that a run of it makes whatever comes out of them; those after the response are among them. Empty where
    /// that depends on the request.
    #[must_use]
    pub fn sure(&self) -> &[Sure] {
        &self.sure
    }

    /// Every node that may call a model, in the order of the graph; those of workflows that it calls, and of the one
    /// that it falls back on, included.
    #[must_use]
    pub fn callers(&self) -> Vec<Caller<'_>> {
        let mut found = Vec::new();
        of_graph(&self.root, "", 1, true, &mut found);
        if let Some(other) = &self.fallback {
            of_graph(&other.root, "fallback", 1, false, &mut found);
        }
        found
    }
}

fn of_graph<'a>(graph: &'a Graph, above: &str, times: u32, first: bool, into: &mut Vec<Caller<'a>>) {
    for n in graph.topo.iter().filter_map(|i| graph.nodes.get(*i)).filter(|n| n.enabled) {
        let path = if above.is_empty() { n.id.to_string() } else { format!("{above}/{}", n.id) };
        for body in n.spec.bodies() {
            of_graph(body, &path, times.saturating_mul(rounds(n, body)), first, into);
        }
        if let Some(callee) = n.spec.callee() {
            of_graph(&callee.root, &path, times, false, into);
        } else if !n.spec.holds_graphs() && n.max_calls() > 0 {
            let primary = first && n.spec.get::<Generate>().is_some_and(Generate::is_primary);
            let calls = times.saturating_mul(n.max_calls());
            let budget = n.common.budget.unwrap_or_default();
            let each = |b: Usd| Usd::from_nanos(b.nanos().saturating_mul(i64::from(times)));
            let retry = n.common.retry.as_ref();
            into.push(Caller {
                path,
                kind: n.kind(),
                calls,
                again: times.saturating_mul(n.spec.max_again()),
                attempts: retry.and_then(|r| r.max_attempts),
                elsewhere: retry.is_none_or(|r| r.reroute),
                most: budget.calls.map(|c| c.saturating_mul(times)),
                usd: budget.usd.map(each),
                primary,
                routes: n.spec.routes(),
            });
        }
    }
}

/// The calls that a run of a graph makes in any case.
pub(crate) fn sure(graph: &Graph) -> Vec<Sure> {
    let mut found = Vec::new();
    surely(graph, true, &mut found);
    found
}

fn surely(graph: &Graph, first: bool, into: &mut Vec<Sure>) {
    let set = certain(graph);
    for (_, n) in graph.nodes.iter().enumerate().filter(|(i, _)| set & bit(*i) != 0) {
        if let Some(callee) = n.spec.callee() {
            surely(&callee.root, false, into);
        } else if n.spec.sure_rounds() > 0 {
            n.spec.bodies().into_iter().for_each(|body| surely(body, first, into));
        } else if let (Some(route), calls @ 1..) = (n.spec.routes().first(), n.spec.sure_calls()) {
            let primary = first && n.spec.get::<Generate>().is_some_and(Generate::is_primary);
            into.push(Sure { primary, route: Route::clone(route), calls });
        }
    }
}

/// The nodes that run whatever the answers are, as bits: those where the graph begins, and those to which such a node
/// leads by each of its outcomes.
fn certain(graph: &Graph) -> u64 {
    let mut set = 0;
    for i in graph.topo.iter().copied() {
        let Some(n) = graph.nodes.get(i).filter(|n| n.enabled && n.guard.is_none()) else { continue };
        let leads = |from: usize, accepts: crate::outcome::OutcomeSet| {
            let source = graph.nodes.get(from).filter(|_| set & bit(from) != 0);
            source.is_some_and(|source| accepts.includes(source.possible()))
        };
        let edges = || graph.edges_to(i).map(|(_, e)| e);
        let sure = edges().filter(|e| e.certain() && leads(e.from, e.accepts)).count();
        let enough = match n.join {
            Join::All | Join::Any => sure > 0,
            Join::Strict => sure == edges().count(),
            Join::AtLeast(least) => sure >= usize::try_from(least).unwrap_or(usize::MAX),
        };
        if enough || graph.is_root(i) {
            set |= bit(i);
        }
    }
    set
}

/// How often a node runs its body at most.
fn rounds(n: &Node, body: &Graph) -> u32 {
    n.max_calls().checked_div(body.max_calls()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use crate::testing::{shipped, workflow};

    fn check(w: &crate::Workflow, want: &[(&str, &str, u32, bool, usize)]) {
        let callers = w.callers();
        let got: Vec<_> = callers
            .iter()
            .map(|c| (c.path.as_str(), c.kind.as_str(), c.calls, c.primary, c.routes.len()))
            .collect();
        assert_eq!(got, want);
        assert_eq!(callers.iter().map(|c| c.calls).sum::<u32>(), w.max_calls());
    }

    #[test]
    fn every_call_is_counted_where_it_is_made() {
        check(&shipped("default"), &[("generate", "generate", 1, true, 1), ("fix", "repair", 3, false, 2)]);
        let body = "\
nodes:
  - id: work
    type: loop
    max_iterations: 3
    while: flag
    body:
      nodes:
        - { id: think, type: generate, samples: 2 }
        - { id: rank, type: judge, input: nodes.think.completions, needs: think, lint: { allow: [WF334] } }
  - { id: ask, type: generate, needs: work, primary: true }
output: nodes.ask.completion
";
        let want = [
            ("work/think", "generate", 6, false, 1),
            ("work/rank", "judge", 12, false, 1),
            ("ask", "generate", 1, true, 1),
        ];
        check(&workflow(body), &want);
    }

    #[test]
    fn what_is_called_in_any_case_is_told_from_what_may_be() {
        let sure = |w: &crate::Workflow| -> Vec<(bool, u32)> {
            w.sure().iter().map(|s| (s.primary, s.calls)).collect()
        };
        for (name, want) in [
            ("default", vec![(true, 1)]),
            ("json_extraction", vec![(true, 1)]),
            ("cheap_first_cascade", vec![(false, 2)]),
            ("consensus_vote", vec![(true, 5)]),
        ] {
            assert_eq!(sure(&shipped(name)), want, "{name}");
        }
        // A judge after the response is certain, one behind a check is not; nor is what a condition keeps out.
        let body = "\
vars: { parts: [a] }
nodes:
  - { id: ask, type: generate, samples: 2, primary: true }
  - { id: audit, type: judge, input: nodes.ask.completions, needs: ask }
  - { id: more, type: generate, when: flag, needs: ask, lint: { allow: [WF334] } }
  - id: work
    type: loop
    needs: ask
    max_iterations: 3
    until: flag
    lint: { allow: [WF334] }
    body: { nodes: [{ id: think, type: generate }] }
  - id: perhaps
    type: loop
    needs: ask
    max_iterations: 3
    while: flag
    lint: { allow: [WF334] }
    body: { nodes: [{ id: think, type: generate }] }
  - id: each
    type: map
    over: vars.parts
    as: part
    max_items: 4
    needs: ask
    lint: { allow: [WF334] }
    body: { nodes: [{ id: one, type: generate }], result: nodes.one.completion }
output: nodes.ask.completion
";
        assert_eq!(sure(&workflow(body)), [(true, 2), (false, 1), (false, 1)]);
    }

    #[test]
    fn judges_ask_about_every_answer_that_may_come() {
        let body = |draft: &str, rank: &str| {
            workflow(&format!(
                "limits: {{ calls: 200 }}
nodes:
  - {{ id: draft, type: generate, {draft} }}
  - {{ id: check, type: validate, input: nodes.draft.completions, validators: [json], needs: draft }}
  - {{ id: rank, type: judge, {rank}, needs: check }}
output: nodes.draft.completion
"
            ))
        };
        let most = |draft: &str, rank: &str| {
            body(draft, rank)
                .callers()
                .iter()
                .find(|c| c.kind == crate::NodeKind::Judge)
                .map(|c| (c.calls, c.again))
        };
        // Each answer, each sample of the judge, and once more where the verdict cannot be read.
        assert_eq!(most("samples: 3", "input: nodes.check.usable"), Some((3 * 2, 0)));
        assert_eq!(most("samples: 3", "input: nodes.check.best, samples: 2"), Some((2 * 2, 0)));
        assert_eq!(
            most("samples: 3", "input: [nodes.check.usable, nodes.draft.completion]"),
            Some((4 * 2, 0))
        );
        // Each with each, in both orders; more than four with the best so far.
        let pairs = |n: u32, keys: &str| {
            most(&format!("samples: {n}"), &format!("input: nodes.check.usable, mode: pairwise{keys}"))
        };
        assert_eq!(pairs(1, ""), None);
        assert_eq!(pairs(4, ""), Some((6 * 2 * 2, 0)));
        assert_eq!(pairs(4, ", order: random, samples: 3"), Some((6 * 3 * 2, 0)));
        assert_eq!(pairs(6, ""), Some((5 * 2 * 2, 0)));
    }

    #[test]
    fn what_may_be_lost_or_tried_again_is_told_apart() {
        let w = workflow(
            "
nodes:
  - id: ask
    type: generate
    samples: 2
    hedge: { after: 1s, max: 2, to: strong }
    retry: { max_attempts: 3, reroute: false }
    budget: { calls: 7 }
  - { id: check, type: validate, validators: [json] }
  - { id: fix, type: repair, from: check, max_attempts: 2 }
  - { id: pick, type: select, from: [nodes.check.completions, nodes.fix.completion] }
  - { id: answer, type: stream, from: nodes.pick.completion }
edges:
  - { from: ask, to: check }
  - { from: check, to: fix, outcome: failed }
  - { from: check, to: pick, outcome: [passed, unverified] }
  - { from: fix, to: pick }
  - { from: pick, to: answer }
pools: { strong: { min_tier: 3 } }
",
        );
        let callers = w.callers();
        let got: Vec<_> = callers
            .iter()
            .map(|c| (c.path.as_str(), c.calls, c.again, c.attempts, c.elsewhere, c.most, c.routes.len()))
            .collect();
        assert_eq!(got, [("ask", 6, 2, Some(3), false, Some(7), 2), ("fix", 2, 2, None, true, None, 1)]);
    }

    #[test]
    fn what_takes_over_counts() {
        let files = [
            crate::testing::file(
                "on_failure: { fallback: other }
nodes:
  - { id: ask, type: generate, samples: 2 }
output: nodes.ask.completion
",
            ),
            types::doc::SourceFile::new(
                "other.yaml",
                "version: 1\nname: other\nnodes: [{ id: ask, type: generate, samples: 3 }]\noutput: nodes.ask.completion\n",
            ),
        ];
        let (library, problems) = crate::testing::load_all(&files);
        assert!(problems.is_empty(), "{problems:?}");
        check(
            library.get("w").unwrap(),
            &[("ask", "generate", 2, true, 1), ("fallback/ask", "generate", 3, false, 1)],
        );
    }

    #[test]
    fn what_ships_leaves_room_for_failures() {
        for file in crate::load::shipped() {
            let w = shipped(file.stem());
            // Four models and a second attempt of the last one, of which the first is planned.
            assert!(
                w.limits.calls >= w.max_calls() + 4,
                "{}: {} of {}",
                w.name,
                w.max_calls(),
                w.limits.calls
            );
        }
    }

    #[test]
    fn a_budget_counts_as_often_as_its_node_runs() {
        let budget = |w: &crate::Workflow| -> Vec<Option<String>> {
            w.callers().iter().map(|c| c.usd.map(|u| u.to_string())).collect()
        };
        assert_eq!(budget(&shipped("hard_coding")), [None, None, Some("0.1".to_owned())]);
        let body = "\
nodes:
  - id: work
    type: loop
    max_iterations: 3
    while: flag
    body:
      nodes:
        - { id: think, type: generate, budget: { usd: 0.02 } }
  - { id: ask, type: generate, needs: work, primary: true }
output: nodes.ask.completion
";
        assert_eq!(budget(&workflow(body)), [Some("0.06".to_owned()), None]);
    }
}
