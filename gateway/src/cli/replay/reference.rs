//! What a replay is compared with: fixed models, the family matrix, the oracle.

use super::pack::{Pack, mean};
use std::collections::HashMap;

/// The opponents on some queries of a table, for one λ.
#[derive(Clone, Debug)]
pub(super) struct References {
    /// The best single model in hindsight, its reward.
    pub(super) best_fixed: (String, f64),
    /// The model of highest quality: name, quality, cost.
    pub(super) strongest: (String, f64, f64),
    /// The cheapest model, its reward.
    pub(super) cheapest: (String, f64),
    /// The best model of each source family on the other half, its reward here; `None` without another half.
    pub(super) family_matrix: Option<f64>,
    /// The longer half of the queries to the best fixed model, the rest to the cheapest.
    pub(super) longer_first: f64,
    /// The best model of every query.
    pub(super) oracle: f64,
}

/// A policy that always takes one model, and another where that is not available.
pub(super) struct Fixed<'a> {
    pack: &'a Pack,
    fallback: usize,
}

impl<'a> Fixed<'a> {
    /// Falls back on the best of the models that are available for all of `queries`.
    pub(super) fn new(pack: &'a Pack, queries: &[usize], lambda: f64) -> Self {
        let always = (0..pack.models.len()).filter(|m| queries.iter().all(|q| pack.row(*q, *m).is_some()));
        let reward = |m: usize| mean(queries.iter().filter_map(|q| pack.reward(*q, m, lambda)));
        let fallback = always.max_by(|a, b| reward(*a).total_cmp(&reward(*b))).unwrap_or(0);
        Fixed { pack, fallback }
    }

    /// The model it takes.
    pub(super) fn choice(&self, query: usize, model: usize) -> usize {
        if self.pack.row(query, model).is_some() { model } else { self.fallback }
    }

    fn reward(&self, queries: &[usize], model: usize, lambda: f64) -> f64 {
        let of = |q: &usize| self.pack.reward(*q, self.choice(*q, model), lambda).unwrap_or(0.0);
        mean(queries.iter().map(of))
    }

    /// Mean quality and mean cost.
    pub(super) fn point(&self, queries: &[usize], model: usize) -> (f64, f64) {
        let row = |q: &usize| self.pack.row(*q, self.choice(*q, model));
        let quality = mean(queries.iter().map(|q| row(q).map_or(0.0, |r| r.quality)));
        (quality, mean(queries.iter().map(|q| row(q).and_then(|r| r.cost).unwrap_or(0.0))))
    }
}

impl References {
    /// `training` are the queries that a family matrix may be made from.
    pub(super) fn of(pack: &Pack, queries: &[usize], training: &[usize], lambda: f64) -> Self {
        let fixed = Fixed::new(pack, queries, lambda);
        let all = 0..pack.models.len();
        let name = |m: usize| pack.models.get(m).map(|m| m.name.clone()).unwrap_or_default();
        let best = all.clone().map(|m| (m, fixed.reward(queries, m, lambda)));
        let (best, reward) = best.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0));
        let points: Vec<(usize, (f64, f64))> = all.map(|m| (m, fixed.point(queries, m))).collect();
        let strong = points.iter().max_by(|a, b| a.1.0.total_cmp(&b.1.0)).copied().unwrap_or_default();
        let cheap = points.iter().min_by(|a, b| a.1.1.total_cmp(&b.1.1)).map_or(0, |p| p.0);
        References {
            best_fixed: (name(best), reward),
            strongest: (name(strong.0), strong.1.0, strong.1.1),
            cheapest: (name(cheap), fixed.reward(queries, cheap, lambda)),
            family_matrix: (!training.is_empty()).then(|| family_matrix(pack, queries, training, lambda)),
            longer_first: longer_first(pack, queries, &fixed, (best, cheap), lambda),
            oracle: mean(queries.iter().map(|q| oracle(pack, *q, lambda))),
        }
    }
}

fn oracle(pack: &Pack, query: usize, lambda: f64) -> f64 {
    let rewards = (0..pack.models.len()).filter_map(|m| pack.reward(query, m, lambda));
    rewards.fold(f64::NEG_INFINITY, f64::max)
}

fn longer_first(
    pack: &Pack,
    queries: &[usize],
    fixed: &Fixed<'_>,
    (best, cheap): (usize, usize),
    lambda: f64,
) -> f64 {
    let length = |q: usize| pack.queries.get(q).map_or(0, |x| x.request.body().len());
    let mut sorted: Vec<usize> = queries.iter().map(|q| length(*q)).collect();
    sorted.sort_unstable();
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    let choice = |q: usize| fixed.choice(q, if length(q) >= middle { best } else { cheap });
    mean(queries.iter().map(|q| pack.reward(*q, choice(*q), lambda).unwrap_or(0.0)))
}

/// Mean quality and cost per source family and model on `training`, the best of them on `queries`.
fn family_matrix(pack: &Pack, queries: &[usize], training: &[usize], lambda: f64) -> f64 {
    let mut sums: HashMap<(&str, usize), (f64, f64)> = HashMap::new();
    let task = |q: usize| pack.queries.get(q).map_or("", |x| x.task.as_str());
    for q in training.iter().copied() {
        for m in 0..pack.models.len() {
            if let Some(r) = pack.reward(q, m, lambda) {
                let (n, sum) = sums.entry((task(q), m)).or_default();
                (*n, *sum) = (*n + 1.0, *sum + r);
            }
        }
    }
    let worth = |q: usize, m: usize| sums.get(&(task(q), m)).map_or(f64::NEG_INFINITY, |(n, s)| s / n);
    let of = |q: &usize| {
        let open = (0..pack.models.len()).filter(|m| pack.row(*q, *m).is_some());
        let best = open.max_by(|a, b| worth(*q, *a).total_cmp(&worth(*q, *b)))?;
        pack.reward(*q, best, lambda)
    };
    mean(queries.iter().map(|q| of(q).unwrap_or(0.0)))
}
