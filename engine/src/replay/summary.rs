//! What runs of one protocol came to, beside what they are compared with.

use super::plan::Protocol;
use super::play::Choice;
use super::reference::References;
use super::table::mean;

/// A number over runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread {
    /// Mean of the runs.
    pub mean: f64,
    /// Standard deviation between runs.
    pub sd: f64,
}

impl Spread {
    fn of(xs: &[f64]) -> Self {
        let m = mean(xs.iter().copied());
        Spread { mean: m, sd: mean(xs.iter().map(|x| (x - m).powi(2))).sqrt() }
    }
}

/// What runs of one protocol and λ came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What happened in them.
    pub protocol: Protocol,
    /// Points of success that the reference cost was worth.
    pub lambda: f64,
    /// Length of the stream.
    pub queries: usize,
    /// Mean reward of a query.
    pub reward: Spread,
    /// Mean quality of a query.
    pub quality: Spread,
    /// Mean cost of a query, in USD.
    pub cost: Spread,
    /// Reward of the last 40 % of the stream.
    pub tail: Spread,
    /// What it is compared with.
    pub references: References,
    /// Median and 99th percentile of a decision, microseconds.
    pub spent_us: (f64, f64),
}

impl Summary {
    pub(super) fn of(
        (protocol, lambda): (Protocol, f64),
        queries: usize,
        references: References,
        runs: &[Vec<Choice>],
    ) -> Self {
        let over = |f: &dyn Fn(&[Choice]) -> f64| Spread::of(&runs.iter().map(|r| f(r)).collect::<Vec<_>>());
        let mut spent: Vec<f64> = runs.iter().flatten().map(|m| m.spent_us).collect();
        spent.sort_by(f64::total_cmp);
        let at = |share: f64| spent.get((share * spent.len() as f64) as usize).copied().unwrap_or(0.0);
        let last = |r: &[Choice]| {
            let from = (0.6 * r.len() as f64) as usize;
            mean(r.iter().skip(from).map(|m| m.reward))
        };
        Summary {
            protocol,
            lambda,
            queries,
            reward: over(&|r| mean(r.iter().map(|m| m.reward))),
            quality: over(&|r| mean(r.iter().map(|m| m.quality))),
            cost: over(&|r| mean(r.iter().map(|m| m.cost.unwrap_or(0.0)))),
            tail: over(&last),
            references,
            spent_us: (at(0.5), at(0.99)),
        }
    }

    /// Share of the strongest model's cost at which runs of a protocol reach its quality, at the λ where it is least;
    /// `None` = at none of them. All of `all` are of that protocol.
    #[must_use]
    pub fn thrift(all: &[&Summary]) -> Option<f64> {
        let (_, quality, cost) = &all.first()?.references.strongest;
        let enough = all.iter().filter(|r| r.quality.mean >= *quality);
        enough.map(|r| r.cost.mean / cost.max(1e-12)).min_by(f64::total_cmp)
    }
}
