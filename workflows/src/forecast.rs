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
//! classify  each of n labels 1/n of what arrives
//! loop, map, call   as one call of the model that the workflow gets: what happens within is not looked into
//! select    selected: g, b (and c if it takes failed ones), else c: none
//! success   Σ g at stream nodes     cost  Σ mass · cost of each call     time  mean over stream nodes
//! ```
//!
//! So a verified cascade succeeds if the first does, or the second does, and costs the first plus the
//! escalated share of the second. Ways that exclude each other add; ways that run beside
//! each other succeed if either does. Assumptions: models err independently, and a condition (`when`) holds
//! half of the time. The constants are guesses on which outcomes soon outweigh the prior.

use crate::plan::Workflow;
use crate::route::Route;

mod lanes;
mod plan;

use lanes::{Estimates, LANES, Lanes};
pub(crate) use plan::Plan;
use plan::{Step, Ways, What};

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
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Flow {
    g: Lanes,
    b: Lanes,
    c: Lanes,
    t: Lanes,
}

impl Flow {
    fn mass(&self) -> Lanes {
        self.g + self.b + self.c
    }

    fn scaled(&self, w: f64) -> Flow {
        Flow { g: self.g * w, b: self.b * w, c: self.c * w, t: self.t * w }
    }

    /// With these masses, and the mean time that has passed for the whole.
    fn timed(g: Lanes, b: Lanes, c: Lanes, mean: Lanes) -> Flow {
        Flow { g, b, c, t: (g + b + c) * mean }
    }

    /// Comes to a place, where nothing else may have come yet.
    fn arrive(&self, place: &mut Option<Flow>, first: bool) {
        match place {
            Some(there) => *there = there.meet(self, first),
            None => *place = Some(*self),
        }
    }

    /// Two ways into one node: exclusive ones add, parallel ones succeed if either does.
    fn meet(&self, o: &Flow, first: bool) -> Flow {
        /// Most mass of ways that exclude each other, but for rounding.
        const ONE: f64 = 1.0 + 1e-9;
        let (m, n) = (self.mass(), o.mass());
        let both = Flow { g: self.g + o.g, b: self.b + o.b, c: self.c + o.c, t: self.t + o.t };
        if (m + n).are_at_most(ONE) {
            return both;
        }
        let g = self.g + o.g - self.g * o.g;
        let total = m.max(n);
        let c = self.c.min(o.c).min((total - g).max(Lanes::default()));
        let (x, y) = (self.t.over(m), o.t.over(n));
        let either =
            Flow::timed(g, (total - g - c).max(Lanes::default()), c, if first { x.min(y) } else { x.max(y) });
        let pick = |both, either| (m + n).choose(ONE, both, either);
        Flow {
            g: pick(both.g, either.g),
            b: pick(both.b, either.b),
            c: pick(both.c, either.c),
            t: pick(both.t, either.t),
        }
    }
}

/// Forecasts of one workflow for one request: what does not depend on the model is found once.
#[derive(Debug)]
pub struct Forecaster<'a> {
    plan: &'a Plan,
    detect: f64,
    /// Of the plan's routes.
    routes: Vec<Option<Estimate>>,
    /// By place; `None` = nothing has arrived there. Kept from one walk to the next.
    at: Vec<Option<Flow>>,
    cost: Lanes,
}

impl Workflow {
    /// Forecasts of this workflow. `detect` is the probability that a wrong answer is caught by the checks; `route`
    /// estimates the best model of another node's route (`None`: there is none, and that node is taken to fail).
    #[must_use]
    pub fn forecaster(&self, detect: f64, route: &dyn Fn(&Route) -> Option<Estimate>) -> Forecaster<'_> {
        let plan = &self.forecast;
        let routes = plan.routes.iter().map(route).collect();
        let at = vec![None; plan.steps.len()];
        Forecaster { plan, detect: detect.clamp(0.0, 1.0), routes, at, cost: Lanes::default() }
    }
}

impl Forecaster<'_> {
    /// What the workflow is expected to do when `primary` is the estimate of the model it gets. Deterministic, and
    /// without allocation.
    pub fn of(&mut self, primary: Estimate) -> Estimate {
        self.walk(Estimates::all(primary)).each().next().unwrap_or_default()
    }

    /// The same with each of several models, in their order. Takes memory once.
    pub fn of_each(&mut self, mut primaries: impl ExactSizeIterator<Item = Estimate>) -> Vec<Estimate> {
        let mut all = Vec::with_capacity(primaries.len());
        while primaries.len() > 0 {
            let some = primaries.len().min(LANES);
            let primary = Estimates::of(primaries.by_ref().take(LANES));
            all.extend(self.walk(primary).each().take(some));
        }
        all
    }

    /// Follows the runs with several models through the graph at once.
    fn walk(&mut self, primary: Estimates) -> Estimates {
        let plan = self.plan;
        self.cost = Lanes::default();
        for (place, step) in self.at.iter_mut().zip(&plan.steps) {
            *place = step.root.then(|| Flow { b: Lanes::all(1.0), ..Flow::default() });
        }
        let mut delivered = None;
        for (i, step) in plan.steps.iter().enumerate() {
            let Some(flow) = self.at.get_mut(i).and_then(Option::take) else { continue };
            if flow.mass().are_at_most(1e-9) {
                continue;
            }
            match step.what {
                What::Deliver => flow.arrive(&mut delivered, true),
                _ => self.step(step, &flow, &primary),
            }
        }
        let delivered = delivered.unwrap_or_default();
        let total_ms = delivered.t.over(delivered.mass());
        let streams = plan.streams && self.detect < STREAMS_BELOW;
        Estimates {
            success: delivered.g.map(|g| g.clamp(0.0, 1.0)),
            cost_usd: self.cost,
            ttft_ms: if streams { primary.ttft_ms } else { total_ms },
            total_ms,
        }
    }

    fn route(&self, route: usize) -> Option<Estimates> {
        self.routes.get(route).copied().flatten().map(Estimates::all)
    }

    fn step(&mut self, step: &Step, flow: &Flow, primary: &Estimates) {
        let m = flow.mass();
        let mean = flow.t.over(m);
        let zero = Lanes::default();
        match &step.what {
            What::Deliver => {}
            What::Pass(on) => self.emit(on, flow),
            What::Sort { route, labels } => {
                let e = route.and_then(|r| self.route(r)).unwrap_or_default();
                self.cost += m * e.cost_usd;
                let share = 1.0 / labels.len().max(1) as f64;
                let each = Flow { t: flow.t + m * e.total_ms, ..*flow }.scaled(share);
                labels.iter().for_each(|label| self.emit(label, &each));
            }
            What::Call { route, samples, ok, error } => {
                let called = route.map_or(Some(*primary), |r| self.route(r));
                let e = called.unwrap_or_default();
                self.cost += m * f64::from(*samples) * e.cost_usd;
                let s = match samples {
                    1 => e.success,
                    n => {
                        let any = e.success.rest().map(|wrong| wrong.powi(*n)).rest();
                        any * self.detect + e.success * (1.0 - self.detect)
                    }
                };
                let out = Flow::timed(m * s, m * s.rest(), zero, mean + e.total_ms);
                self.emit(if called.is_some() { ok } else { error }, &out);
            }
            What::Check { looks, passed, failed } => {
                let d = if *looks { self.detect } else { 0.0 };
                self.emit(passed, &Flow::timed(flow.g, flow.b * (1.0 - d), zero, mean));
                self.emit(failed, &Flow::timed(zero, zero, flow.c + flow.b * d, mean));
            }
            What::Repair { .. } => self.repair(&step.what, flow, primary),
            What::Judge { route, samples, scored, passed, failed } => {
                let e = self.route(*route).unwrap_or_default();
                self.cost += m * f64::from(*samples) * e.cost_usd;
                let mean = mean + e.total_ms;
                if let Some(scored) = scored {
                    self.emit(scored, &Flow::timed(flow.g, flow.b, flow.c, mean));
                } else {
                    self.emit(passed, &Flow::timed(flow.g, flow.b * (1.0 - JUDGE), zero, mean));
                    self.emit(failed, &Flow::timed(zero, zero, flow.c + flow.b * JUDGE, mean));
                }
            }
            What::Select { takes_failed, selected, none, no_consensus } => {
                let (mut g, mut b) = (flow.g, flow.b);
                if let Some(apart) = no_consensus {
                    (g, b) = (g * AGREE_RIGHT, b * AGREE_WRONG);
                    self.emit(apart, &Flow::timed(flow.g - g, flow.b - b, zero, mean));
                }
                let (taken, left) = if *takes_failed { (flow.c, zero) } else { (zero, flow.c) };
                self.emit(selected, &Flow::timed(g, b + taken, zero, mean));
                self.emit(none, &Flow::timed(zero, zero, left, mean));
            }
        }
    }

    fn repair(&mut self, what: &What, flow: &Flow, primary: &Estimates) {
        let What::Repair { fix, rungs, repaired, exhausted } = what else { return };
        let d = self.detect;
        let zero = Lanes::default();
        // Whatever arrives at a repair is taken to be known to fail.
        let mut left = flow.mass();
        let (mut good, mut bad, mut time) = (zero, zero, flow.t);
        if *fix {
            good += left * FIX;
            left = left * (1.0 - FIX);
        }
        for escalates in rungs {
            let (e, worth) = match escalates {
                Some(route) => (self.route(*route).unwrap_or(*primary), 1.0),
                None => (*primary, AGAIN),
            };
            self.cost += left * e.cost_usd;
            time += left * e.total_ms;
            let s = e.success * worth;
            let wrong = left * s.rest();
            good += left * s;
            bad += wrong * (1.0 - d);
            left = wrong * d;
        }
        let mean = time.over(flow.mass());
        self.emit(repaired, &Flow::timed(good, bad, zero, mean));
        self.emit(exhausted, &Flow::timed(zero, zero, left, mean));
    }

    /// Hands a flow on.
    fn emit(&mut self, ways: &Ways, flow: &Flow) {
        for way in ways {
            if let Some(place) = self.at.get_mut(way.to) {
                if way.share == 1.0 {
                    flow.arrive(place, way.first);
                } else {
                    flow.scaled(way.share).arrive(place, way.first);
                }
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
        let f = w.forecaster(detect, &|_| Some(model(0.9, 10.0))).of(model(success, 1.0));
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

    /// A workflow is worth what it leads to, whatever it sorts, repeats or hands on.
    #[test]
    fn what_sorts_repeats_or_hands_on_is_worth_the_answers_it_leads_to() {
        let sorted = workflow(
            "\
nodes:
  - { id: sort, type: classify, method: rules, labels: [a, b], rules: [{ when: 'request.model == \"x\"', label: a }] }
  - { id: ask, type: generate }
  - { id: answer, type: stream, from: nodes.ask.completion }
edges:
  - { from: sort, to: ask, outcome: [a, b] }
  - { from: ask, to: answer }
",
        );
        check(&sorted, 0.6, 0.0, (0.6, 1.0));
        let repeated = workflow(
            "\
nodes:
  - id: work
    type: loop
    max_iterations: 3
    until: nodes.ask.completion.text == \"enough\"
    body: { nodes: [{ id: ask, type: generate }] }
  - { id: answer, type: stream, from: nodes.work.last.ask.completion }
edges:
  - { from: work, to: answer, outcome: [done, exhausted] }
",
        );
        check(&repeated, 0.6, 0.0, (0.6, 1.0));
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
        let prose = w.forecaster(0.02, &|_| None).of(model(0.8, 1.0));
        assert!((prose.ttft_ms - 100.0).abs() < 1e-9 && prose.success >= 0.8);
        let json = w.forecaster(0.6, &|_| Some(model(0.9, 2.0))).of(model(0.8, 1.0));
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
                let mut all = w.forecaster(detect, &|_| Some(model(other, 2.0)));
                let mut at = |s: f64| all.of(model(s, 1.0));
                let (low, high) = (at(s.min(more)), at(s.max(more)));
                prop_assert!((0.0..=1.0).contains(&low.success) && low.cost_usd >= 0.0);
                prop_assert!(high.success >= low.success - 1e-9, "{name} {low:?} {high:?}");
                prop_assert_eq!(at(s), at(s));
            }
        }

        /// Where nothing has come yet, what comes meets nothing.
        #[test]
        fn what_comes_first_to_a_place_meets_nothing(
            parts in prop::array::uniform3(0.0..=1.0_f64), mean in 0.0..1e5_f64, first: bool,
        ) {
            let [g, b, c] = parts.map(|x| Lanes::all(x / 3.0));
            let flow = Flow::timed(g, b, c, Lanes::all(mean));
            let mut place = None;
            flow.arrive(&mut place, first);
            prop_assert_eq!(place, Some(Flow::default().meet(&flow, first)));
            flow.arrive(&mut place, first);
            prop_assert_eq!(place, Some(flow.meet(&flow, first)));
        }

        /// One after the other, each alone, or many at once: who stands beside a model changes nothing.
        #[test]
        fn many_at_once_are_forecast_as_each_alone(
            models in prop::collection::vec((0.0..=1.0_f64, 0.0..10.0_f64, 1.0..1e4_f64), 0..30),
            detect in 0.0..=1.0_f64, other in 0.0..=1.0_f64,
        ) {
            let models: Vec<Estimate> = models
                .into_iter()
                .map(|(success, cost_usd, ttft_ms)| Estimate { success, cost_usd, ttft_ms, total_ms: 2.0 * ttft_ms })
                .collect();
            for name in ["default", "cheap_first_cascade", "speculative_hedge"] {
                let w = shipped(name);
                let mut forecaster = w.forecaster(detect, &|_| Some(model(other, 2.0)));
                let alone: Vec<Estimate> = models.iter().map(|m| forecaster.of(*m)).collect();
                prop_assert_eq!(forecaster.of_each(models.iter().copied()), alone);
            }
        }
    }
}
