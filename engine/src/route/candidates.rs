//! The models a request may use, in the order to try them, for the chosen node and for every other route.

mod written;

pub(crate) use written::Written;

use super::score::Scored;
use statrs::distribution::{ContinuousCDF as _, Normal};
use std::cmp::Ordering;
use std::sync::Arc;
use types::directives::Pools;
use types::matrix::{Matrix, ModelIx, ModelSet, Tier};
use types::{Usage, Usd};
use workflows::{Estimate, Route, Strategy};

/// What a model would do with the request, alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimated {
    pub(crate) ix: ModelIx,
    pub(crate) tier: u8,
    pub(crate) cost_known: bool,
    pub(crate) p95_ttft_ms: f64,
    pub(crate) estimate: Estimate,
}

impl Estimated {
    /// Its place in the matrix and its tier.
    pub(crate) const fn known(&self) -> (ModelIx, u8) {
        (self.ix, self.tier)
    }
}

/// The models a request may use.
#[derive(Clone, Debug)]
pub(crate) struct Candidates {
    /// For the primary node: the chosen model, then the others by utility in the chosen workflow.
    pub(crate) primary: Vec<ModelIx>,
    /// All that passed the filters, by utility (best first).
    eligible: Vec<Estimated>,
    /// Those that fell to nothing but their breaker, which keeps them out for a while.
    away: Vec<ModelIx>,
    pools: Arc<Pools>,
}

impl Candidates {
    /// `scored` are the arms, best first.
    pub(crate) fn new(scored: &[Scored], chosen: &Scored, eligible: &[Estimated], pools: Arc<Pools>) -> Self {
        // No list is sorted, for the arms are: each model comes where the first of its arms stands, one without any at
        // the end.
        let mut left = by_model(eligible);
        let ranked = scored.iter().filter_map(|s| left.get_mut(usize::from(s.model?.0))?.take());
        let mut by_utility = Vec::with_capacity(eligible.len());
        by_utility.extend(ranked.copied());
        by_utility.extend(left.into_iter().flatten().copied());
        let mut primary = Vec::with_capacity(eligible.len());
        let same = scored.iter().filter(|s| s.flow == chosen.flow).filter_map(|s| s.model);
        primary.extend(chosen.model.into_iter().chain(same.filter(|ix| chosen.model != Some(*ix))));
        Candidates { primary, eligible: by_utility, away: Vec::new(), pools }
    }

    /// The same, knowing who is only kept out for a while.
    pub(crate) fn with_away(self, away: Vec<ModelIx>) -> Self {
        Candidates { away, ..self }
    }

    /// Those that a route may take and that are only kept out for a while.
    pub(crate) fn away<'a>(
        &'a self,
        route: &'a Route,
        matrix: &'a Matrix,
    ) -> impl Iterator<Item = ModelIx> + 'a {
        let tier = |ix| matrix.model(ix).map_or(0, |m| m.quality_tier);
        self.away.iter().copied().filter(move |ix| fits(route, (*ix, tier(*ix)), &self.pools, matrix))
    }
}

impl Candidates {
    /// Every model that any node may call, the best first.
    pub(crate) fn all(&self) -> impl Iterator<Item = ModelIx> + Clone {
        self.eligible.iter().map(|e| e.ix)
    }

    /// The pools that its routes name.
    pub(crate) const fn pools(&self) -> &Arc<Pools> {
        &self.pools
    }

    /// Milliseconds within which a share `q` of a model's answers have begun, or are whole. The time to the first
    /// content is taken to be log-normal with the median and the 95th percentile that are known of it, and the
    /// whole answer to be spread likewise.
    pub(crate) fn patience(&self, ix: ModelIx, q: f64, begun: bool) -> Option<f64> {
        let e = self.eligible.iter().find(|e| e.ix == ix)?;
        let median = e.estimate.ttft_ms.max(1.0);
        let spread = (e.p95_ttft_ms.max(median) / median).ln();
        let middle = if begun { median } else { e.estimate.total_ms.max(1.0) };
        Some(middle * (spread * normal(q) / normal(0.95)).exp())
    }

    /// Every model of a matrix that is switched on, as if each could serve the request, whatever it is, with what is
    /// believed of it before any evidence, for calls of so many tokens.
    pub(crate) fn of_all(matrix: &Matrix, pools: Arc<Pools>, usage: &Usage) -> Self {
        let on = |ix: &ModelIx| {
            let provider = matrix.provider_of(*ix).is_some_and(|p| p.enabled);
            provider && matrix.model(*ix).is_some_and(|m| m.enabled)
        };
        let eligible = matrix.indices().filter(on).filter_map(|ix| {
            let (model, provider) = matrix.model(ix).zip(matrix.provider_of(ix))?;
            let cost = if provider.tier == Tier::Free {
                Some(Usd::ZERO)
            } else {
                model.price.map(|p| p.cost(usage))
            };
            let prior = &model.prior;
            let writes_ms = f64::from(usage.output) / prior.tokens_per_second.max(1.0) * 1e3;
            let estimate = Estimate {
                success: prior.default.get(),
                cost_usd: cost.unwrap_or_default().dollars(),
                ttft_ms: prior.ttft_ms,
                total_ms: prior.ttft_ms + writes_ms,
            };
            let (tier, cost_known) = (model.quality_tier, cost.is_some());
            Some(Estimated { ix, tier, cost_known, p95_ttft_ms: 0.0, estimate })
        });
        let eligible: Vec<Estimated> = eligible.collect();
        let primary = eligible.iter().map(|e| e.ix).collect();
        Candidates { primary, eligible, away: Vec::new(), pools }
    }

    /// What a model is expected to do with the request.
    pub(crate) fn estimated(&self, ix: ModelIx) -> Option<&Estimated> {
        self.eligible.iter().find(|e| e.ix == ix)
    }

    /// Only those of a set, the best first; `None` where none of them is a candidate.
    pub(crate) fn only(&self, set: &ModelSet) -> Option<Candidates> {
        let eligible: Vec<Estimated> = self.eligible.iter().filter(|e| set.contains(e.ix)).copied().collect();
        let primary = eligible.iter().map(|e| e.ix).collect();
        let away = self.away.iter().copied().filter(|ix| set.contains(*ix)).collect();
        (!eligible.is_empty()).then(|| Candidates { primary, eligible, away, pools: self.pools.clone() })
    }

    /// Those of the primary node's that its route may take, in their order.
    pub(crate) fn primary_by(&self, route: &Route, matrix: &Matrix) -> Vec<ModelIx> {
        if route.is_open() {
            return self.primary.clone();
        }
        let fitting = Fitting::new(route, &self.eligible, &self.pools, matrix);
        let of = |ix: ModelIx| self.eligible.iter().find(|e| e.ix == ix);
        let may = |ix: &ModelIx| of(*ix).is_some_and(|e| fitting.takes(e));
        self.primary.iter().copied().filter(may).collect()
    }

    /// The model to call first; without a primary node, the best of all.
    pub(crate) fn first(&self) -> Option<ModelIx> {
        self.primary.first().copied().or_else(|| self.eligible.first().map(|e| e.ix))
    }
}

/// Quantile of the standard normal distribution, for 0.5..=0.999.
fn normal(q: f64) -> f64 {
    Normal::standard().inverse_cdf(q.clamp(0.5, 0.999))
}

/// The models of a list by their positions in the matrix.
fn by_model(list: &[Estimated]) -> Vec<Option<&Estimated>> {
    let models = list.iter().map(|e| usize::from(e.ix.0).saturating_add(1)).max().unwrap_or(0);
    let mut by_model = vec![None; models];
    for e in list {
        if let Some(slot) = by_model.get_mut(usize::from(e.ix.0)) {
            *slot = Some(e);
        }
    }
    by_model
}

/// The models of a route that `may` be asked, best first by its strategy. Where the operator's pool for nodes that name
/// none leaves nobody, it does not count.
pub(crate) fn resolve(
    route: &Route,
    c: &Candidates,
    matrix: &Matrix,
    seed: u64,
    may: impl Fn(ModelIx) -> bool + Copy,
) -> Vec<ModelIx> {
    let list = strictly(route, c, matrix, seed, may);
    match route.beyond_usual().filter(|_| list.is_empty()) {
        Some(beyond) => strictly(&beyond, c, matrix, seed, may),
        None => list,
    }
}

fn strictly(
    route: &Route,
    c: &Candidates,
    matrix: &Matrix,
    seed: u64,
    may: impl Fn(ModelIx) -> bool,
) -> Vec<ModelIx> {
    let fitting = Fitting::new(route, &c.eligible, &c.pools, matrix);
    let mut list: Vec<&Estimated> = c.eligible.iter().filter(|e| fitting.takes(e) && may(e.ix)).collect();
    order(route, &mut list, seed);
    let mut ids: Vec<ModelIx> = list.into_iter().map(|e| e.ix).collect();
    if !route.prefer.is_empty() {
        ids.sort_by_key(|ix| !matches_any(&route.prefer, *ix, &c.pools, matrix));
    }
    ids
}

/// What the first model of a route would do.
pub(crate) fn best(
    route: &Route,
    eligible: &[Estimated],
    pools: &Pools,
    matrix: &Matrix,
) -> Option<Estimate> {
    let fitting = Fitting::new(route, eligible, pools, matrix);
    first(route.strategy, eligible.iter().filter(|e| fitting.takes(e))).map(|e| e.estimate)
}

/// Which of a list, best first by utility, comes first by a strategy.
fn first<'a>(by: Strategy, mut list: impl Iterator<Item = &'a Estimated>) -> Option<&'a Estimated> {
    match by {
        // The first of the draw with the seed 0 is the first of the list.
        Strategy::Utility | Strategy::Fixed | Strategy::Random => list.next(),
        by => list.min_by(|a, b| compare(by, a, b)),
    }
}

fn order(route: &Route, list: &mut [&Estimated], seed: u64) {
    match route.strategy {
        // They come by utility.
        Strategy::Utility | Strategy::Fixed => {}
        Strategy::Random => {
            let turn = usize::try_from(seed % list.len().max(1) as u64).unwrap_or(0);
            list.rotate_left(turn);
        }
        by => list.sort_by(|a, b| compare(by, a, b)),
    }
}

/// Which of two models comes first by a strategy that compares them.
fn compare(by: Strategy, a: &Estimated, b: &Estimated) -> Ordering {
    match by {
        // An unknown price is not a low one.
        Strategy::Cheapest => {
            (!a.cost_known).cmp(&!b.cost_known).then(a.estimate.cost_usd.total_cmp(&b.estimate.cost_usd))
        }
        Strategy::Strongest => b.tier.cmp(&a.tier).then(b.estimate.success.total_cmp(&a.estimate.success)),
        Strategy::Fastest => a.estimate.total_ms.total_cmp(&b.estimate.total_ms),
        Strategy::Utility | Strategy::Fixed | Strategy::Random => Ordering::Equal,
    }
}

/// Which of the candidates a route may take.
pub(super) struct Fitting<'a> {
    route: &'a Route,
    /// Left to other nodes.
    left: Vec<ModelIx>,
    pools: &'a Pools,
    matrix: &'a Matrix,
}

impl<'a> Fitting<'a> {
    /// `eligible`: all candidates of the request, best first by utility.
    pub(super) fn new(
        route: &'a Route,
        eligible: &[Estimated],
        pools: &'a Pools,
        matrix: &'a Matrix,
    ) -> Self {
        let left = route.not_firsts().filter_map(|by| first(by, eligible.iter()).map(|e| e.ix)).collect();
        Fitting { route, left, pools, matrix }
    }

    /// Whether the route may take a candidate.
    pub(super) fn takes(&self, e: &Estimated) -> bool {
        !self.left.contains(&e.ix) && fits(self.route, e.known(), self.pools, self.matrix)
    }
}

/// Whether a model, by its place in the matrix and its tier, is what a route asks for, whoever else is a candidate.
fn fits(route: &Route, (ix, tier): (ModelIx, u8), pools: &Pools, matrix: &Matrix) -> bool {
    let Some(model) = matrix.model(ix) else { return false };
    let in_pool = |name: &String| pools.get(name).is_some_and(|p| p.contains(ix));
    route.pool.as_ref().is_none_or(in_pool)
        && route.model.as_ref().is_none_or(|m| matrix.find(m) == Some(ix))
        && route.min_tier.is_none_or(|t| tier >= t)
        && route.capabilities.iter().all(|c| model.abilities.has(c))
        && (route.require.is_empty() || matches_any(&route.require, ix, pools, matrix))
        && !matches_any(&route.exclude, ix, pools, matrix)
        && route.only.as_ref().is_none_or(|only| only.contains(&model.id))
        && route.within.as_ref().is_none_or(|within| fits(within, (ix, tier), pools, matrix))
}

/// Whether a selector names the model: `pool:name`, an id, an alias or a pattern.
pub(crate) fn matches_any(selectors: &[String], ix: ModelIx, pools: &Pools, matrix: &Matrix) -> bool {
    selectors.iter().any(|s| match s.strip_prefix("pool:") {
        Some(pool) => pools.get(pool).is_some_and(|p| p.contains(ix)),
        None => matrix.find(s) == Some(ix) || matrix.model(ix).is_some_and(|m| types::matrix::glob(s, &m.id)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::matrix::{Dialect, Model, Provider};

    /// The pool that a node has because it names none is no reason for nobody to answer; one that it names is.
    #[test]
    fn a_usual_pool_holds_where_one_of_it_may_be_asked() {
        let models = ["a", "b"].map(|name| Model::new(format!("p/{name}"), 0, (100_000, 4_000)));
        let matrix = Matrix::new(vec![Provider::new("p", Dialect::Recorded)], models.into());
        let ix = |id: &str| matrix.find(id).unwrap();
        let mut judges = ModelSet::default();
        judges.insert(ix("p/b"));
        let pools = Arc::new(Pools::from([("judge".to_owned(), judges)]));
        let all = Candidates::of_all(&matrix, pools, &Usage::default());
        let judge = |is_usual| Route { pool: Some("judge".to_owned()), is_usual, ..Route::default() };
        let (a, b) = (ix("p/a"), ix("p/b"));
        for (usual, may, want) in [
            (true, [true, true], vec![b]),
            (false, [true, true], vec![b]),
            (true, [true, false], vec![a]),
            (false, [true, false], Vec::new()),
            (true, [false, false], Vec::new()),
        ] {
            let may = |ix: ModelIx| if ix == a { may[0] } else { may[1] };
            assert_eq!(resolve(&judge(usual), &all, &matrix, 0, may), want, "{usual}");
        }
    }
}
