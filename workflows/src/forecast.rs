//! What a workflow is expected to do with a model, from its graph alone: the prior of an arm.
//!
//! The run is followed as a flow of probability through the graph, in topological order. Along each edge
//! travel three masses: `g`, the answer in hand is right; `b`, it is wrong and not known to be; `c`, it is
//! wrong and a check has said so. With s the success of the model a node calls and d the probability that a
//! check catches a wrong answer:
//!
//! ```text
//! generate  g = m·s,  b = m·(1−s)                         m = mass that arrives; of k samples checked or
//!                                                         compared, s_k = d·(1−(1−s)^k) + (1−d)·s
//! validate  passed: g, b·(1−d)      failed: c + b·d
//! repair    each attempt on what is left, c: repaired g += c·s', b += c·(1−s')·(1−d), left c·(1−s')·d
//! judge     passed: g, b·(1−j)      failed: c + b·j       j = JUDGE
//! vote      agrees: g·AGREE_RIGHT, b·AGREE_WRONG          the rest: no consensus
//! select    selected: g, b (and c if it takes failed ones), else c: none
//! success   Σ g at stream nodes     cost  Σ mass · cost of each call     time  mean over stream nodes
//! ```
//!
//! So a verified cascade succeeds if the first does, or the second does, and costs the first plus the
//! escalated share of the second (`routing.md` §2). Ways that exclude each other add; ways that run beside
//! each other succeed if either does. Assumptions: models err independently, and a condition (`when`) holds
//! half of the time. The constants are guesses on which outcomes soon outweigh the prior.

use crate::graph::Graph;
use crate::node::generate::Generate;
use crate::node::judge::Judge;
use crate::node::repair::{Repair, Strategy};
use crate::node::select::Select;
use crate::node::stream::Stream;
use crate::node::validate::Validate;
use crate::node::{Join, Node};
use crate::outcome::Outcome;
use crate::plan::Workflow;
use crate::route::Route;

/// What is expected of one model, or of a whole workflow, for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Probability of success, 0..=1.
    pub success: f64,
    /// Expected cost in dollars.
    pub cost_usd: f64,
    /// Expected time until the client sees the first content, milliseconds.
    pub ttft_ms: f64,
    /// Expected time until the end, milliseconds.
    pub total_ms: f64,
}

/// Share of caught answers that local repair mends.
const FIX: f64 = 0.3;
/// What a model's success is worth when it is shown what it did wrong: it has just failed on this.
const AGAIN: f64 = 0.5;
/// Probability that a judge turns down a wrong answer.
const JUDGE: f64 = 0.5;
/// Probability that samples agree on a right answer.
const AGREE_RIGHT: f64 = 0.7;
/// Probability that samples agree on a wrong answer.
const AGREE_WRONG: f64 = 0.3;
/// Checks that catch less than this look at meaning, not form, and let an answer stream.
const STREAMS_BELOW: f64 = 0.2;

/// Masses of one place of the graph; `t` is time, weighted by mass.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    g: f64,
    b: f64,
    c: f64,
    t: f64,
}

impl Flow {
    fn mass(self) -> f64 {
        self.g + self.b + self.c
    }

    fn scaled(self, w: f64) -> Flow {
        Flow { g: self.g * w, b: self.b * w, c: self.c * w, t: self.t * w }
    }

    /// With these masses, and the mean time that has passed for the whole.
    fn timed(g: f64, b: f64, c: f64, mean: f64) -> Flow {
        Flow { g, b, c, t: (g + b + c) * mean }
    }

    /// Two ways into one node: exclusive ones add, parallel ones succeed if either does.
    fn meet(self, o: Flow, first: bool) -> Flow {
        let (m, n) = (self.mass(), o.mass());
        if m + n <= 1.0 + 1e-9 {
            return Flow { g: self.g + o.g, b: self.b + o.b, c: self.c + o.c, t: self.t + o.t };
        }
        let g = self.g + o.g - self.g * o.g;
        let total = m.max(n);
        let c = self.c.min(o.c).min((total - g).max(0.0));
        let (x, y) = (self.t / m, o.t / n);
        Flow::timed(g, (total - g - c).max(0.0), c, if first { x.min(y) } else { x.max(y) })
    }
}

struct Forecast<'a> {
    graph: &'a Graph,
    primary: Estimate,
    detect: f64,
    route: &'a dyn Fn(&Route) -> Option<Estimate>,
    at: [Flow; 64],
    cost: f64,
}

impl Workflow {
    /// What this workflow is expected to do when `primary` is the estimate of the model it gets. `detect`
    /// is the probability that a wrong answer is caught by the checks; `route` estimates the best model of
    /// another node's route (`None`: there is none, and that node is taken to fail).
    ///
    /// Deterministic, and without allocation of its own.
    #[must_use]
    pub fn forecast(
        &self,
        primary: Estimate,
        detect: f64,
        route: &dyn Fn(&Route) -> Option<Estimate>,
    ) -> Estimate {
        let detect = detect.clamp(0.0, 1.0);
        let mut f =
            Forecast { graph: &self.root, primary, detect, route, at: [Flow::default(); 64], cost: 0.0 };
        let mut delivered = Flow::default();
        for i in self.root.topo.iter().copied() {
            let Some(node) = self.root.nodes.get(i) else { continue };
            if self.root.is_root(i)
                && let Some(start) = f.at.get_mut(i)
            {
                *start = Flow { b: 1.0, ..Flow::default() };
            }
            let flow = f.at.get(i).copied().unwrap_or_default();
            if flow.mass() < 1e-9 {
                continue;
            }
            if node.is::<Stream>() {
                delivered = delivered.meet(flow, true);
            } else {
                f.node(i, node, flow);
            }
        }
        let mass = delivered.mass();
        let total_ms = if mass > 0.0 { delivered.t / mass } else { 0.0 };
        let streams = self.chain.is_some() && detect < STREAMS_BELOW;
        Estimate {
            success: delivered.g.clamp(0.0, 1.0),
            cost_usd: f.cost,
            ttft_ms: if streams { primary.ttft_ms } else { total_ms },
            total_ms,
        }
    }
}

impl Forecast<'_> {
    fn node(&mut self, i: usize, node: &Node, flow: Flow) {
        let m = flow.mass();
        let mean = flow.t / m;
        if !node.enabled {
            return self.emit(i, Outcome::Skipped, flow);
        }
        if let Some(g) = node.get::<Generate>() {
            let called = if g.is_primary() { Some(self.primary) } else { (self.route)(&g.route) };
            let e = called.unwrap_or_default();
            self.cost += m * f64::from(g.samples) * e.cost_usd;
            let any = 1.0 - (1.0 - e.success).powi(i32::try_from(g.samples).unwrap_or(1));
            let s = self.detect * any + (1.0 - self.detect) * e.success;
            let out = Flow::timed(m * s, m * (1.0 - s), 0.0, mean + e.total_ms);
            let outcome = if called.is_some() { Outcome::Ok } else { Outcome::Error };
            self.emit(i, outcome, out);
        } else if let Some(v) = node.get::<Validate>() {
            let d = if v.checks.is_empty() { 0.0 } else { self.detect };
            self.emit(i, Outcome::Passed, Flow::timed(flow.g, flow.b * (1.0 - d), 0.0, mean));
            self.emit(i, Outcome::Failed, Flow::timed(0.0, 0.0, flow.c + flow.b * d, mean));
        } else if let Some(r) = node.get::<Repair>() {
            self.repair(i, r, flow, mean);
        } else if let Some(j) = node.get::<Judge>() {
            let e = (self.route)(j.route()).unwrap_or_default();
            self.cost += m * f64::from(j.samples) * e.cost_usd;
            let mean = mean + e.total_ms;
            if node.possible().contains(Outcome::Scored) {
                self.emit(i, Outcome::Scored, Flow::timed(flow.g, flow.b, flow.c, mean));
            } else {
                self.emit(i, Outcome::Passed, Flow::timed(flow.g, flow.b * (1.0 - JUDGE), 0.0, mean));
                self.emit(i, Outcome::Failed, Flow::timed(0.0, 0.0, flow.c + flow.b * JUDGE, mean));
            }
        } else if let Some(s) = node.get::<Select>() {
            let (mut g, mut b) = (flow.g, flow.b);
            if s.is_vote() {
                (g, b) = (g * AGREE_RIGHT, b * AGREE_WRONG);
                self.emit(i, Outcome::NoConsensus, Flow::timed(flow.g - g, flow.b - b, 0.0, mean));
            }
            let (taken, left) = if s.takes_failed() { (flow.c, 0.0) } else { (0.0, flow.c) };
            self.emit(i, Outcome::Selected, Flow::timed(g, b + taken, 0.0, mean));
            self.emit(i, Outcome::None, Flow::timed(0.0, 0.0, left, mean));
        } else if !node.kind.sink
            && let Some(first) = node.kind.outcomes.first()
        {
            // Whatever else there is passes on what it gets.
            self.emit(i, *first, flow);
        }
    }

    fn repair(&mut self, i: usize, r: &Repair, flow: Flow, mean: f64) {
        let d = self.detect;
        // Whatever arrives at a repair is taken to be known to fail.
        let mut left = flow.mass();
        let (mut good, mut bad, mut time) = (0.0, 0.0, left * mean);
        if r.fix {
            good += left * FIX;
            left *= 1.0 - FIX;
        }
        let rungs = r.ladder.iter().take(usize::try_from(r.max_attempts).unwrap_or(usize::MAX));
        for rung in rungs {
            let (e, worth) = match (rung.strategy, &rung.route) {
                (Strategy::Escalate, Some(route)) => ((self.route)(route), 1.0),
                (Strategy::Escalate, None) => ((self.route)(&r.next_tier), 1.0),
                _ => (Some(self.primary), AGAIN),
            };
            let e = e.unwrap_or(self.primary);
            self.cost += left * e.cost_usd;
            time += left * e.total_ms;
            let s = e.success * worth;
            good += left * s;
            bad += left * (1.0 - s) * (1.0 - d);
            left *= (1.0 - s) * d;
        }
        let mean = time / flow.mass();
        self.emit(i, Outcome::Repaired, Flow::timed(good, bad, 0.0, mean));
        self.emit(i, Outcome::Exhausted, Flow::timed(0.0, 0.0, left, mean));
    }

    /// Hands a flow to the edges that accept the outcome.
    fn emit(&mut self, i: usize, outcome: Outcome, flow: Flow) {
        if flow.mass() < 1e-12 {
            return;
        }
        let graph = self.graph;
        let certain = graph.edges_from(i).any(|(_, e)| e.certain() && e.accepts.contains(outcome));
        for (_, e) in graph.edges_from(i).filter(|(_, e)| e.accepts.contains(outcome)) {
            let w = match (&e.when, e.otherwise) {
                (None, false) => 1.0,
                (None, true) if certain => 0.0,
                _ => 0.5,
            };
            let first = graph.nodes.get(e.to).is_some_and(|n| n.join == Join::Any);
            if let Some(place) = self.at.get_mut(e.to) {
                let add = flow.scaled(w);
                *place = if place.mass() < 1e-12 { add } else { place.meet(add, first) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{shipped, workflow};
    use proptest::prelude::*;

    fn model(success: f64, cost_usd: f64) -> Estimate {
        Estimate { success, cost_usd, ttft_ms: 100.0, total_ms: 1000.0 }
    }

    fn check(w: &Workflow, success: f64, detect: f64, want: (f64, f64)) {
        let f = w.forecast(model(success, 1.0), detect, &|_| Some(model(0.9, 10.0)));
        assert!((f.success - want.0).abs() < 1e-9 && (f.cost_usd - want.1).abs() < 1e-9, "{f:?} {want:?}");
    }

    #[test]
    fn a_verified_cascade_succeeds_if_either_does_and_costs_the_escalated_share() {
        let cascade = workflow(
            "\
nodes:
  - { id: first, type: generate }
  - { id: check, type: validate, validators: [json] }
  - { id: second, type: generate, route: { strategy: strongest } }
  - { id: pick, type: select, from: [nodes.second.completions, nodes.check.completions], method: first }
  - { id: answer, type: stream, from: nodes.pick.completion }
edges:
  - { from: first, to: check }
  - { from: check, to: pick, outcome: [passed, unverified] }
  - { from: check, to: second, outcome: failed }
  - { from: second, to: pick }
  - { from: pick, to: answer }
",
        );
        check(&cascade, 0.6, 1.0, (0.6 + 0.4 * 0.9, 1.0 + 0.4 * 10.0));
        check(&cascade, 0.6, 0.5, (0.6 + 0.2 * 0.9, 1.0 + 0.2 * 10.0));
        check(&cascade, 0.6, 0.0, (0.6, 1.0));
    }

    #[test]
    fn ways_beside_each_other_succeed_if_either_does() {
        let hedge = workflow(
            "\
nodes:
  - { id: a, type: generate }
  - { id: b, type: generate, route: { strategy: fastest } }
  - { id: pick, type: select, from: [nodes.a.completions, nodes.b.completions] }
  - { id: answer, type: stream, from: nodes.pick.completion }
edges:
  - { from: [a, b], to: pick }
  - { from: pick, to: answer }
",
        );
        check(&hedge, 0.5, 0.0, (1.0 - 0.5 * 0.1, 11.0));
    }

    #[test]
    fn default_streams_prose_and_buffers_contracts() {
        let w = shipped("default");
        let prose = w.forecast(model(0.8, 1.0), 0.02, &|_| None);
        assert!((prose.ttft_ms - 100.0).abs() < 1e-9 && prose.success >= 0.8);
        let json = w.forecast(model(0.8, 1.0), 0.6, &|_| Some(model(0.9, 2.0)));
        assert!(json.ttft_ms >= 1000.0 && json.success > prose.success && json.cost_usd > 1.0, "{json:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn success_rises_with_the_models_and_never_leaves_its_range(
            s in 0.0..=1.0_f64, more in 0.0..=1.0_f64, detect in 0.0..=1.0_f64, other in 0.0..=1.0_f64,
        ) {
            for name in ["default", "json_extraction", "cheap_first_cascade"] {
                let w = shipped(name);
                let at = |s: f64| w.forecast(model(s, 1.0), detect, &|_| Some(model(other, 2.0)));
                let (low, high) = (at(s.min(more)), at(s.max(more)));
                prop_assert!((0.0..=1.0).contains(&low.success) && low.cost_usd >= 0.0);
                prop_assert!(high.success >= low.success - 1e-9, "{name} {low:?} {high:?}");
                prop_assert_eq!(at(s), at(s));
            }
        }
    }
}
