//! The configuration of one table: its models as candidates, one plain workflow, and the objective that is measured.

use super::error::Error;
use super::table::Listed;
use crate::bundle::{Bundle, Files};
use crate::route::Router;
use std::sync::Arc;
use types::UnitInterval;
use types::doc::SourceFile;
use types::matrix::{Abilities, Availability, Dialect, Matrix, Model, ModelIx, Price, Prior, Provider};

/// The workflow: one call, no checks, for only single answers are recorded.
const WORKFLOW: &str = "single";
/// What requests ask for.
pub(super) const MODEL: &str = "workflow/single";
const PROVIDER: &str = "table";
/// Larger than every recorded prompt: no candidate drops out for its length.
const CONTEXT: u32 = 10_000_000;
/// Success before anything is known but prices, and what e times the median price adds to it.
const PRIOR: f64 = 0.6;
const PRIOR_PER_PRICE: f64 = 0.03;
/// What that is worth, in outcomes: prices say little of success.
const STRENGTH: f64 = 0.9;

/// What shipped workflows name.
const POOLS: &str =
    r#"{ default: { models: ["*"] }, extraction: { models: ["*"] }, judge: { models: ["*"] } }"#;

const GRAPH: &str = "\
version: 1
name: single
description: One call of one model.
nodes:
  - { id: generate, type: generate, primary: true }
  - { id: answer, type: stream, from: nodes.generate.completion }
edges:
  - { from: generate, to: answer }
";

/// What may be set of how a replay explores; `None` = as shipped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exploration {
    /// Share of choices that are drawn rather than best, 0..=1.
    pub epsilon: Option<f64>,
    /// Width of the exploration bonus, 0 or more.
    pub beta: Option<f64>,
}

/// A router over the models of a table.
#[derive(Debug)]
pub struct Stage {
    pub(super) router: Router,
}

impl Stage {
    /// Success and money only: quality − λ·cost/cost_ref is what a replay measures.
    ///
    /// # Errors
    /// [`Error::Configuration`].
    pub fn new(
        models: &[Listed],
        lambda: f64,
        cost_ref: f64,
        exploration: Exploration,
    ) -> Result<Self, Error> {
        let rules = rules(lambda, cost_ref, exploration);
        let files = Files {
            workflows: vec![SourceFile::new(format!("{WORKFLOW}.yaml"), GRAPH)],
            runner: true,
            ..Files::new(SourceFile::new("replay.yaml", rules))
        };
        let (bundle, problems) = Bundle::load(Arc::new(matrix(models)), &files);
        let bundle = bundle.ok_or_else(|| {
            Error::Configuration(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })?;
        Ok(Stage { router: Router::new(bundle) })
    }

    /// Which models may be candidates.
    pub(super) fn availability(allowed: impl Iterator<Item = bool>) -> Vec<Availability> {
        allowed.map(|a| if a { Availability::Ready } else { Availability::Disabled }).collect()
    }

    /// The place of a model in the table from its name in the matrix.
    pub(super) fn place(&self, id: &str) -> Option<usize> {
        self.router.bundle().matrix().find(id).map(|ModelIx(i)| usize::from(i))
    }
}

/// The name of a table's model in the matrix.
pub(super) fn id(name: &str) -> Arc<str> {
    format!("{PROVIDER}/{name}").into()
}

fn rules(lambda: f64, cost_ref: f64, exploration: Exploration) -> String {
    let weights = "{ success: 1.0, quality: 0.0, schema: 0.0, cost: 1.0, latency: 0.0, safety: 0.0 }";
    let mut text = format!(
        "version: 1\npools: {POOLS}\nutility:\n  weights: {{ cheapest: {weights}, balanced: {weights}, best_possible: {weights} }}\n  \
         lambda: {{ cheapest: {lambda}, balanced: {lambda}, best_possible: {lambda} }}\n"
    );
    if cost_ref > 0.0 {
        text.push_str(&format!("  cost_ref_usd: {cost_ref:.12}\n"));
    }
    // A share of spend that no replay reaches: what exploring costs is part of the reward here.
    text.push_str("exploration:\n  budget: 1.0\n  min_confidence: 0.0\n");
    if let Some(e) = exploration.epsilon {
        text.push_str(&format!("  epsilon: {e}\n"));
    }
    if let Some(b) = exploration.beta {
        text.push_str(&format!("  beta: {b}\n  beta_young: {b}\n"));
    }
    text
}

fn matrix(models: &[Listed]) -> Matrix {
    let mut prices: Vec<f64> = models.iter().filter_map(|m| m.output.or(m.input)).collect();
    prices.sort_by(f64::total_cmp);
    let median = prices.get(prices.len() / 2).copied().unwrap_or(1.0);
    let provider = Provider::new(PROVIDER, Dialect::Recorded);
    Matrix::new(vec![provider], models.iter().map(|m| model(m, median)).collect())
}

fn model(m: &Listed, median: f64) -> Model {
    let price = m.output.or(m.input).unwrap_or(median).max(1e-4);
    let success = PRIOR + PRIOR_PER_PRICE * (price / median.max(1e-4)).ln();
    let both = m.input.or(m.output).zip(m.output.or(m.input));
    Model {
        abilities: Abilities {
            streaming: true,
            tools: true,
            json: true,
            json_schema: true,
            ..Abilities::default()
        },
        price: both.map(|(input, output)| Price::new(input, output)),
        prior: Prior {
            default: UnitInterval::clamped(success.clamp(0.05, 0.95)),
            strength: STRENGTH,
            ..Prior::default()
        },
        ..Model::new(id(&m.name), 0, (CONTEXT, CONTEXT))
    }
}
