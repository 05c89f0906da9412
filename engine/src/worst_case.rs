//! What a workflow may cost at most: by its graph alone, or for one request as it would be routed now. Nothing is
//! called.

use crate::Inner;
use crate::answer::Admission;
use crate::bundle::Bundle;
use crate::config::Retry;
use crate::decide::{Decided, Decider};
use crate::error::Error;
use crate::profiled::Profiled;
use crate::route::{Candidates, Chosen, Estimated, detection, resolve};
use serde::Serialize;
use std::cell::Cell;
use std::sync::Arc;
use types::diagnostic::Diagnostic;
use types::directives::Pools;
use types::doc::SourceFile;
use types::matrix::{Matrix, Model, ModelIx, Tier};
use types::{ChatRequest, Decision, Usage, Usd};
use workflows::{Caller, Estimate, NodeKind, Route, Sure, Workflow};

/// What one node may call.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Ids from the root, such as `work/think`.
    pub node: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: NodeKind,
    /// Most calls of one run, where each is answered at its first attempt.
    pub calls: u32,
    /// Most that vendors are asked for them, where calls fail, are tried again and go to other models, and answers are
    /// lost on their way.
    pub attempts: u32,
    /// The models it may call, the one that it would call first before the others. A repair also asks the model
    /// whose answer it repairs.
    pub models: Vec<Arc<str>>,
    /// What one call may cost at most; `None`: no model of it has a known price.
    pub call_usd: Option<Usd>,
    /// What all its attempts may cost at most: at their dearest model, and no more than its own budget.
    pub usd: Option<Usd>,
    /// The same of what the file itself asks for: its calls, as often as `retry` says.
    #[serde(skip)]
    planned: Option<Usd>,
}

/// What a workflow may cost at most.
#[derive(Clone, Debug, Serialize)]
pub struct Bound {
    /// Its name.
    pub workflow: String,
    /// Hash of its plan.
    pub plan_hash: String,
    /// Tokens that a call is taken to read, and to write at most where the model allows as many.
    pub tokens: (u32, u32),
    /// By node.
    pub nodes: Vec<Row>,
    /// Most that vendors are asked: all attempts of its nodes, and no more than its limit.
    pub calls: u32,
    /// The calls that its nodes ask for at most, where each is answered at its first attempt.
    pub asks: u32,
    /// Its limit on calls, every attempt counted.
    pub limit_calls: u32,
    /// What its nodes could spend together if every attempt were made at its dearest model, and paid for. `None`: a
    /// price is not known.
    pub worst_usd: Option<Usd>,
    /// Its own limit, which is never passed.
    pub limit_usd: Option<Usd>,
    /// Where it states none: the money after which no further call begins.
    pub enough_usd: Option<Usd>,
    /// What is to be expected instead.
    pub typical: Typical,
}

/// What a run of a workflow usually takes: its graph followed with the probability that answers are right and that
/// checks catch the wrong ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Typical {
    /// Calls of models.
    pub calls: f64,
    /// Money; `None`: a price is not known.
    pub usd: Option<Usd>,
    /// Milliseconds until its end.
    pub total_ms: f64,
}

impl Bound {
    /// What a run costs at most: the limit, or what its nodes can spend if that is less.
    #[must_use]
    pub fn most_usd(&self) -> Option<Usd> {
        [self.worst_usd, self.limit_usd].into_iter().flatten().min()
    }
}

/// How a request would be handled.
#[derive(Clone, Debug, Serialize)]
pub struct Dry {
    /// How it would be decided: profile, rules, every arm with its terms.
    pub decision: Decision,
    /// What would run, and what it may cost.
    pub bound: Bound,
    /// How the answer would reach a client that streams, and why; what policies demand of it is left out.
    pub stream: String,
}

impl Bundle {
    /// What a workflow may cost at most for requests of so many input tokens and answers of so many output tokens,
    /// on the models that are switched on, where failed calls are retried like this.
    #[must_use]
    pub fn bound(&self, workflow: &Workflow, (input, output): (u32, u32), retry: Retry) -> Bound {
        let usage = Usage { input, output, ..Usage::default() };
        let candidates = Candidates::of_all(self.matrix(), self.pools.clone(), &usage);
        let bound = bound(self.matrix(), workflow, &candidates, &usage, retry);
        Bound { typical: typical(self.matrix(), workflow, &candidates, CAUGHT), ..bound }
    }
}

/// How a request would be decided and what that may cost. Nothing is called, reserved or recorded.
pub(crate) async fn dry(inner: &Inner, admission: Admission, request: ChatRequest) -> Result<Dry, Error> {
    let view = inner.view.load_full();
    let by_key = admission.who.principal.key.is_some();
    let ts_ms = inner.clock.unix_ms();
    let decider = Decider { inner, view: &view, admission: &admission, ts_ms };
    let Decided { profiled, mut decision, chosen, directives, .. } =
        decider.consider(Arc::new(request)).await;
    let Profiled { request, profile, .. } = profiled;
    if by_key {
        decision.leave_out_setup();
    }
    let Chosen { workflow, candidates, cap } = chosen?;
    let output = request.params.max_tokens.unwrap_or(USUAL.1).saturating_mul(request.params.n.max(1));
    let usage =
        request.most_usage((profile.facts.most_input_tokens, profile.facts.most_image_tokens), output);
    let mut retry = inner.config.retry;
    if let Some(set) = directives.further.as_ref().and_then(|f| f.retry.as_ref()) {
        retry.max_attempts = set.value.max;
    }
    let mut bound = bound(view.bundle.matrix(), &workflow, &candidates, &usage, retry);
    let caught = detection(profile.output_contract.value);
    bound.typical = typical(view.bundle.matrix(), &workflow, &candidates, caught);
    bound.limit_usd = [bound.limit_usd, cap].into_iter().flatten().min();
    Ok(Dry { decision, bound, stream: workflow.stream_mode(&request) })
}

/// Share of wrong answers that checks catch, of requests that nobody knows: what they do with answers in JSON.
const CAUGHT: f64 = 0.4;

/// Tokens of a call whose request nobody knows: in, and out.
pub const USUAL: (u32, u32) = (2_000, 1_024);

/// `WF402` of each workflow: its calls, at the dearest models that are switched on, cost more than it allows. Where
/// a price is not known nothing is said.
pub(crate) fn over_limit<'f>(
    matrix: &Matrix,
    pools: &Arc<Pools>,
    workflows: impl Iterator<Item = (&'f Workflow, &'f SourceFile)>,
) -> Vec<Diagnostic> {
    let mut candidates = None;
    let limited = workflows.filter(|(w, _)| w.limits.usd.is_some());
    let usage = Usage { input: USUAL.0, output: USUAL.1, ..Usage::default() };
    let found = limited.filter_map(|(w, file)| {
        let all = candidates.get_or_insert_with(|| Candidates::of_all(matrix, pools.clone(), &usage));
        let bound = bound(matrix, w, all, &usage, Retry::default());
        w.over_limit(bound.nodes.iter().map(|r| r.planned).sum::<Option<Usd>>()?, file)
    });
    found.collect()
}

fn bound(
    matrix: &Matrix,
    workflow: &Workflow,
    candidates: &Candidates,
    usage: &Usage,
    retry: Retry,
) -> Bound {
    let callers = workflow.callers();
    let asked: Vec<Vec<ModelIx>> = callers.iter().map(|c| models(c, candidates, matrix)).collect();
    // A repair asks again whoever gave the answer.
    let generators = callers.iter().zip(&asked).filter(|(c, _)| c.kind == NodeKind::Generate);
    let generators: Vec<ModelIx> = generators.flat_map(|(_, list)| list.iter().copied()).collect();
    let row = |(c, own): (&Caller<'_>, &Vec<ModelIx>)| {
        let again = if c.kind == NodeKind::Repair { generators.as_slice() } else { &[] };
        let mut all: Vec<ModelIx> = Vec::new();
        for ix in again.iter().chain(own) {
            if !all.contains(ix) {
                all.push(*ix);
            }
        }
        let prices: Vec<Option<Usd>> = all.iter().map(|ix| price(matrix, *ix, usage)).collect();
        let call_usd = prices.iter().flatten().max().copied();
        let known = !prices.is_empty() && prices.iter().all(Option::is_some);
        let total = |n: u32| {
            let all =
                call_usd.filter(|_| known).map(|u| Usd::from_nanos(u.nanos().saturating_mul(i64::from(n))));
            [all, c.usd].into_iter().flatten().min()
        };
        let attempts = attempts(c, all.len(), retry);
        Row {
            node: c.path.clone(),
            kind: c.kind,
            calls: c.calls,
            attempts,
            models: all.iter().filter_map(|ix| matrix.model(*ix).map(|m| m.id.clone())).collect(),
            call_usd,
            usd: total(attempts),
            planned: total(c.calls.saturating_mul(c.attempts.unwrap_or(1))),
        }
    };
    let nodes: Vec<Row> = callers.iter().zip(&asked).map(row).collect();
    let all = nodes.iter().fold(0_u32, |sum, r| sum.saturating_add(r.attempts));
    Bound {
        workflow: workflow.name.clone(),
        plan_hash: workflow.plan_hash.clone(),
        tokens: (usage.input, usage.output),
        calls: all.min(workflow.limits.calls),
        asks: workflow.max_calls(),
        limit_calls: workflow.limits.calls,
        worst_usd: worst(&nodes, workflow.limits.calls),
        limit_usd: workflow.limits.usd,
        enough_usd: workflow.limits.enough(),
        typical: Typical::default(),
        nodes,
    }
}

/// What is to be expected where `caught` is the probability that the checks catch a wrong answer.
fn typical(matrix: &Matrix, workflow: &Workflow, candidates: &Candidates, caught: f64) -> Typical {
    let known = Cell::new(true);
    let expected = |cost: &dyn Fn(&Estimated) -> f64| {
        let one = |ix: ModelIx| {
            let e = candidates.estimated(ix)?;
            known.set(known.get() && e.cost_known);
            Some(Estimate { cost_usd: cost(e), ..e.estimate })
        };
        let first = workflow.primary_route().and_then(|r| candidates.primary_by(r, matrix).first().copied());
        let of_route =
            |r: &Route| resolve(r, candidates, matrix, 0, |_| true).first().and_then(|ix| one(*ix));
        workflow.forecaster(caught, &of_route).of(first.and_then(one).unwrap_or_default())
    };
    let money = expected(&|e| e.estimate.cost_usd);
    let usd = known.get().then(|| Usd::from_dollars(money.cost_usd));
    Typical { calls: expected(&|_| 1.0).cost_usd, usd, total_ms: money.total_ms }
}

/// What the attempts of all nodes cost at most, the dearest first, as many as the limit allows. `None`: nobody knows.
fn worst(nodes: &[Row], most: u32) -> Option<Usd> {
    let all = nodes.iter().map(|r| r.usd).sum::<Option<Usd>>()?;
    let dearest = nodes.iter().filter_map(|r| r.call_usd).max().unwrap_or_default();
    Some(all.min(Usd::from_nanos(dearest.nanos().saturating_mul(i64::from(most)))))
}

/// How often vendors are asked at most for the calls of a node that so many models may serve: each model once, the last
/// of them as often as a failed call is tried again.
fn attempts(c: &Caller<'_>, models: usize, retry: Retry) -> u32 {
    let elsewhere = if c.elsewhere { retry.max_candidates } else { 1 };
    let others = u32::try_from(models.min(elsewhere)).unwrap_or(u32::MAX).saturating_sub(1);
    let each = others.saturating_add(c.attempts.unwrap_or(retry.max_attempts).max(1));
    let all = c.calls.saturating_add(c.again).saturating_mul(each);
    c.most.map_or(all, |most| most.min(all))
}

/// The calls that a run makes in any case, each with the model that is asked first. Where none is certain, the first
/// that may be made.
pub(crate) fn sure(matrix: &Matrix, workflow: &Workflow, candidates: &Candidates) -> Vec<(ModelIx, u32)> {
    let first = |s: &Sure| {
        let asked = match s.primary && !candidates.primary.is_empty() {
            true => candidates.primary_by(&s.route, matrix),
            false => resolve(&s.route, candidates, matrix, 0, |_| true),
        };
        Some((*asked.first()?, s.calls))
    };
    let sure: Vec<_> = workflow.sure().iter().filter_map(first).collect();
    if !sure.is_empty() {
        return sure;
    }
    let may_be = |c: Caller<'_>| Some((*models(&c, candidates, matrix).first()?, 1));
    workflow.callers().into_iter().find_map(may_be).into_iter().collect()
}

/// The models of a node, the first choice first.
fn models(caller: &Caller<'_>, candidates: &Candidates, matrix: &Matrix) -> Vec<ModelIx> {
    let chosen = caller.primary && !candidates.primary.is_empty();
    let mut all: Vec<ModelIx> = Vec::new();
    for ix in caller.routes.iter().enumerate().flat_map(|(i, route)| match chosen && i == 0 {
        true => candidates.primary_by(route, matrix),
        false => resolve(route, candidates, matrix, 0, |_| true),
    }) {
        if !all.contains(&ix) {
            all.push(ix);
        }
    }
    all
}

/// The price of a call; `None`: nobody knows.
fn price(matrix: &Matrix, ix: ModelIx, usage: &Usage) -> Option<Usd> {
    let (model, provider): (&Arc<Model>, _) = (matrix.model(ix)?, matrix.provider_of(ix)?);
    if provider.tier == Tier::Free {
        return Some(Usd::ZERO);
    }
    let output = usage.output.min(model.max_output_tokens);
    model.price.map(|p| p.most(&Usage { output, ..*usage }.of(provider)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Files;
    use types::UnitInterval;
    use types::matrix::{Dialect, Price, Prior, Provider};

    /// What is said of a workflow of one generate node, on a model of that price in dollars per million tokens.
    fn check(price: Option<f64>, limits: &str, keys: &str, want: &[&str]) {
        let provider = Provider::new("p", Dialect::Simulated);
        let model =
            Model { price: price.map(|p| Price::new(p, p)), ..Model::new("p/m", 0, (100_000, 4_000)) };
        let matrix = Arc::new(Matrix::new(vec![provider], vec![model]));
        let text = format!(
            "version: 1\nname: own\nlimits: {{ {limits} }}\nnodes:\n  - {{ id: ask, type: generate, {keys} }}\n\
             output: nodes.ask.completion\n"
        );
        let files = Files {
            workflows: vec![SourceFile::new("workflows/own.yaml", text.as_str())],
            runner: true,
            ..Files::new(SourceFile::new("routing_rules.yaml", "version: 1\n"))
        };
        let (bundle, problems) = Bundle::load(matrix, &files);
        let own = |all: &[Diagnostic]| -> Vec<String> {
            all.iter().filter(|d| d.code == "WF402").map(|d| d.message.clone()).collect()
        };
        assert_eq!(own(&problems), want, "{problems:?}");
        assert!(problems.iter().all(|d| d.code != "WF402" || (d.line, d.column) == (3, 16)), "{problems:?}");
        // The same is said of a text that is tried beside them.
        let tried = bundle.unwrap().try_workflows(&[SourceFile::new("own.yaml", text)]).1;
        assert_eq!(own(&tried), want, "{tried:?}");
    }

    #[test]
    fn what_is_usual_lies_below_what_is_possible() {
        let provider = Provider::new("p", Dialect::Simulated);
        let model = |price: Option<f64>| {
            let prior = Prior { default: UnitInterval::clamped(0.8), ..Prior::default() };
            Model { price: price.map(|p| Price::new(p, p)), prior, ..Model::new("p/m", 0, (100_000, 4_000)) }
        };
        let usual = |price: Option<f64>, name: &str| {
            let matrix = Arc::new(Matrix::new(vec![provider.clone()], vec![model(price)]));
            let files =
                Files { runner: true, ..Files::new(SourceFile::new("routing_rules.yaml", "version: 1\n")) };
            let bundle = Bundle::load(matrix, &files).0.unwrap();
            let flow = bundle.workflow(name).unwrap().clone();
            bundle.bound(&flow, (1_000, 1_000), Retry::default())
        };
        let one = Usd::from_dollars(0.002);
        let default = usual(Some(1.0), "default");
        // A fifth is wrong, of which the checks catch two fifths; some of those are mended without a call.
        assert!((1.0..1.2).contains(&default.typical.calls) && default.typical.calls > 1.01, "{default:?}");
        let cost = default.typical.usd.unwrap().dollars();
        assert!((cost - default.typical.calls * one.dollars()).abs() < 1e-8, "{default:?}");
        assert!(default.typical.usd < default.worst_usd && default.typical.total_ms > 0.0);
        assert_eq!(usual(None, "default").typical.usd, None);
        let vote = usual(Some(1.0), "consensus_vote");
        assert!(vote.typical.calls >= 5.0 && vote.typical.calls < f64::from(vote.asks), "{vote:?}");
    }

    #[test]
    fn calls_that_may_cost_more_than_the_limit_are_told() {
        let three = "samples: 3";
        let told = "its calls may cost up to 0.009072 USD, `limits.usd` is 0.009";
        check(Some(1.0), "usd: 0.009", three, &[told]);
        check(Some(1.0), "usd: 0.01", three, &[]);
        check(Some(1.0), "calls: 3", three, &[]);
        check(Some(1.0), "usd: 0.009", "samples: 3, budget: { usd: 0.008 }", &[]);
        // Nobody knows what it costs.
        check(None, "usd: 0.000001", three, &[]);
    }
}
