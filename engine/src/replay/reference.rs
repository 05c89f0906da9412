//! What a replay is compared with: fixed models, the family matrix, the oracle.

use super::table::{Listed, Table, mean};
use std::collections::HashMap;

/// The opponents on some queries of a table, for one λ.
#[derive(Clone, Debug)]
pub struct References {
    /// The best single model in hindsight, its reward.
    pub best_fixed: (String, f64),
    /// The model of highest quality: name, quality, cost.
    pub strongest: (String, f64, f64),
    /// The cheapest model, its reward.
    pub cheapest: (String, f64),
    /// The best model of each source family on the other half, its reward here; `None` without another half.
    pub family_matrix: Option<f64>,
    /// The longer half of the queries to the best fixed model, the rest to the cheapest.
    pub longer_first: f64,
    /// The best model of every query.
    pub oracle: f64,
}

/// A policy that always takes one model, and another where that is not available.
struct Fixed<'a> {
    table: &'a Table,
    fallback: usize,
}

impl<'a> Fixed<'a> {
    /// Falls back on the best of the models that are available for all of `queries`.
    fn new(table: &'a Table, queries: &[usize], lambda: f64) -> Self {
        let always = (0..table.models.len()).filter(|m| queries.iter().all(|q| table.row(*q, *m).is_some()));
        let reward = |m: usize| mean(queries.iter().filter_map(|q| table.reward(*q, m, lambda)));
        let fallback = always.max_by(|a, b| reward(*a).total_cmp(&reward(*b))).unwrap_or(0);
        Fixed { table, fallback }
    }

    /// The model it takes.
    fn choice(&self, query: usize, model: usize) -> usize {
        if self.table.row(query, model).is_some() { model } else { self.fallback }
    }

    fn reward(&self, queries: &[usize], model: usize, lambda: f64) -> f64 {
        let of = |q: &usize| self.table.reward(*q, self.choice(*q, model), lambda).unwrap_or(0.0);
        mean(queries.iter().map(of))
    }

    /// Mean quality and mean cost.
    fn point(&self, queries: &[usize], model: usize) -> (f64, f64) {
        let row = |q: &usize| self.table.row(*q, self.choice(*q, model));
        let quality = mean(queries.iter().map(|q| row(q).map_or(0.0, |r| r.quality)));
        (quality, mean(queries.iter().map(|q| row(q).and_then(|r| r.cost).unwrap_or(0.0))))
    }
}

impl References {
    /// `training` are the queries that a family matrix may be made from.
    pub(super) fn of(table: &Table, queries: &[usize], training: &[usize], lambda: f64) -> Self {
        let fixed = Fixed::new(table, queries, lambda);
        let all = 0..table.models.len();
        let name = |m: usize| table.models.get(m).map(|m| m.name.clone()).unwrap_or_default();
        let best = all.clone().map(|m| (m, fixed.reward(queries, m, lambda)));
        let (best, reward) = best.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0));
        let points: Vec<(usize, (f64, f64))> = all.map(|m| (m, fixed.point(queries, m))).collect();
        let strong = points.iter().max_by(|a, b| a.1.0.total_cmp(&b.1.0)).copied().unwrap_or_default();
        let cheap = points.iter().min_by(|a, b| a.1.1.total_cmp(&b.1.1)).map_or(0, |p| p.0);
        References {
            best_fixed: (name(best), reward),
            strongest: (name(strong.0), strong.1.0, strong.1.1),
            cheapest: (name(cheap), fixed.reward(queries, cheap, lambda)),
            family_matrix: (!training.is_empty()).then(|| family_matrix(table, queries, training, lambda)),
            longer_first: longer_first(table, queries, &fixed, (best, cheap), lambda),
            oracle: mean(queries.iter().map(|q| oracle(table, *q, lambda))),
        }
    }
}

/// A policy as a point between cost and quality.
#[derive(Clone, Debug, PartialEq)]
pub struct Corner {
    /// The model, or the λ of an oracle.
    pub label: String,
    /// Mean cost in USD.
    pub cost: f64,
    /// Mean quality.
    pub quality: f64,
}

/// λ of the oracles that are drawn.
const ORACLES: [f64; 5] = [1.0, 0.5, 0.2, 0.05, 0.01];

/// Where every fixed model, and oracles of several λ, stand on some queries of a table.
#[must_use]
pub fn corners(table: &Table, queries: &[usize]) -> (Vec<Corner>, Vec<Corner>) {
    let fixed = Fixed::new(table, queries, 0.0);
    let named = |(m, listed): (usize, &Listed)| {
        let (quality, cost) = fixed.point(queries, m);
        Corner { label: listed.name.clone(), cost, quality }
    };
    let oracle = |lambda: f64| {
        let best = |q: &usize| {
            let worth = |m: &usize| table.reward(*q, *m, lambda).unwrap_or(f64::NEG_INFINITY);
            let best = (0..table.models.len()).max_by(|a, b| worth(a).total_cmp(&worth(b)));
            best.and_then(|m| table.row(*q, m))
        };
        let quality = mean(queries.iter().filter_map(|q| best(q).map(|r| r.quality)));
        let cost = mean(queries.iter().filter_map(|q| best(q).and_then(|r| r.cost)));
        Corner { label: lambda.to_string(), cost, quality }
    };
    (table.models.iter().enumerate().map(named).collect(), ORACLES.map(oracle).to_vec())
}

fn oracle(table: &Table, query: usize, lambda: f64) -> f64 {
    let rewards = (0..table.models.len()).filter_map(|m| table.reward(query, m, lambda));
    rewards.fold(f64::NEG_INFINITY, f64::max)
}

fn longer_first(
    table: &Table,
    queries: &[usize],
    fixed: &Fixed<'_>,
    (best, cheap): (usize, usize),
    lambda: f64,
) -> f64 {
    let length = |q: usize| table.queries.get(q).map_or(0, |x| x.request.body().len());
    let mut sorted: Vec<usize> = queries.iter().map(|q| length(*q)).collect();
    sorted.sort_unstable();
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    let choice = |q: usize| fixed.choice(q, if length(q) >= middle { best } else { cheap });
    mean(queries.iter().map(|q| table.reward(*q, choice(*q), lambda).unwrap_or(0.0)))
}

/// Mean quality and cost per source family and model on `training`, the best of them on `queries`.
fn family_matrix(table: &Table, queries: &[usize], training: &[usize], lambda: f64) -> f64 {
    let mut sums: HashMap<(&str, usize), (f64, f64)> = HashMap::new();
    let task = |q: usize| table.queries.get(q).map_or("", |x| x.task.as_str());
    for q in training.iter().copied() {
        for m in 0..table.models.len() {
            if let Some(r) = table.reward(q, m, lambda) {
                let (n, sum) = sums.entry((task(q), m)).or_default();
                (*n, *sum) = (*n + 1.0, *sum + r);
            }
        }
    }
    let worth = |q: usize, m: usize| sums.get(&(task(q), m)).map_or(f64::NEG_INFINITY, |(n, s)| s / n);
    let of = |q: &usize| {
        let open = (0..table.models.len()).filter(|m| table.row(*q, *m).is_some());
        let best = open.max_by(|a, b| worth(*q, *a).total_cmp(&worth(*q, *b)))?;
        table.reward(*q, best, lambda)
    };
    mean(queries.iter().map(|q| of(q).unwrap_or(0.0)))
}
