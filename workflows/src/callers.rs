//! Which nodes call models, how often at most, and by which routes: what a plan and a bound on cost are made of.

use crate::graph::Graph;
use crate::node::Node;
use crate::node::generate::Generate;
use crate::plan::Workflow;
use crate::route::Route;
use types::Usd;

/// A node that calls models.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    /// Ids from the root, such as `work/think`.
    pub path: String,
    /// Its type.
    pub kind: &'static str,
    /// Most calls in one run of the workflow.
    pub calls: u32,
    /// Most money of all these calls, where the node has a budget of its own.
    pub usd: Option<Usd>,
    /// It gets the candidate that the router chose.
    pub primary: bool,
    /// Where its models come from. A repair also asks the model whose answer it repairs, which no route names.
    pub routes: Vec<&'a Route>,
}

impl Workflow {
    /// Every node that may call a model, in the order of the graph; those of workflows that it calls included.
    #[must_use]
    pub fn callers(&self) -> Vec<Caller<'_>> {
        let mut found = Vec::new();
        of_graph(&self.root, "", 1, true, &mut found);
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
            let primary = first && n.get::<Generate>().is_some_and(Generate::is_primary);
            let calls = times.saturating_mul(n.max_calls());
            let budget = n.common.budget.and_then(|b| b.usd);
            let usd = budget.map(|b| Usd::from_nanos(b.nanos().saturating_mul(i64::from(times))));
            into.push(Caller { usd, path, kind: n.kind.name, calls, primary, routes: n.spec.routes() });
        }
    }
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
        let got: Vec<_> =
            callers.iter().map(|c| (c.path.as_str(), c.kind, c.calls, c.primary, c.routes.len())).collect();
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
            ("work/rank", "judge", 6, false, 1),
            ("ask", "generate", 1, true, 1),
        ];
        check(&workflow(body), &want);
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
