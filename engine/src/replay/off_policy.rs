//! What another configuration would have earned, estimated from the log of one run.
//!
//! The log holds the choices of a run with their exact propensities. It is cut into fifths, and one learner
//! taught from each two of them. A decision of the log is taken anew by a learner of two other fifths under the target, and
//! what its choices are worth, q̂, is asked of the learner of the last two: who both chooses and judges
//! believes too much in what he chose, for he chose what he overrates (cross-fitting by unit). All six ways to do so
//! are averaged: with thirds every learner would know a sixth less, and there were two ways. The target learns nothing
//! more, and so has no bonus for what it has not tried.
//! With w = π_target / π_logged clipped at 20,
//!
//! ```text
//! DR = mean( Σ_a π_target(a|x)·q̂(x,a)  +  w·(r − q̂(x, a logged)) )
//! ```
//!
//! The interval has two parts: how the scores scatter, and, where the log could not have chosen as the target
//! does and w corrects nothing, how little is known of q̂, whose errors are common to all requests of a family. Over all
//! ways, each fifth but the decision's own judges as often as any other: q̂ rests on what all four of them hold.
//! The table knows what every choice would have earned, so the error is known too.

use super::error::Error;
use super::play::{Choice, Run};
use super::player::{Player, Prepared, lessons};
use super::stage::{Exploration, Stage};
use super::table::{Row, Table, mean};
use std::collections::HashMap;
use types::Decision;
use types::decision::Arm;

/// Weights beyond this are cut.
const CLIP: f64 = 20.0;
/// Two-sided 95 % of a normal.
const Z: f64 = 1.959_964;
/// Parts of the log: one that is decided anew, and as many to choose by as to judge by.
const PARTS: usize = 5;
/// What a prior weighs against outcomes of an arm in a family, in outcomes.
const PRIOR_WEIGHT: f64 = 8.0;
/// Below any of these an estimate is as good as its model (grade C), not as its log (grade B).
const MIN_OVERLAP: f64 = 0.95;
const MIN_EFFECTIVE: f64 = 200.0;
const MAX_SHARE: f64 = 0.05;

/// An estimate beside the truth.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Estimate {
    /// λ of the log.
    pub logged: f64,
    /// λ of the target.
    pub target: f64,
    /// Seed of the log.
    pub seed: u64,
    /// Mean reward of the target, from the log.
    pub estimate: f64,
    /// Half of the 95 % interval.
    pub half: f64,
    /// Mean reward of the target, from the table.
    pub truth: f64,
    /// The same by inverse weighting alone (self-normalised), for comparison.
    pub snips: f64,
    /// Effective sample size.
    pub effective: f64,
    /// Share of the target's choices that the log could have made.
    pub overlap: f64,
    /// B: the log carries it. C: in part only what is believed does.
    pub grade: char,
}

/// How near estimates come to the truth.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Accuracy {
    /// How many there are.
    pub estimates: usize,
    /// Root of the mean squared error.
    pub rms_error: f64,
    /// Mean error.
    pub bias: f64,
    /// Share of the intervals that hold the truth.
    pub covered: f64,
    /// Mean half of an interval.
    pub mean_half_width: f64,
    /// Root of the mean squared error of inverse weighting alone.
    pub snips_rms_error: f64,
}

impl Accuracy {
    /// Of the estimates that `of` picks.
    #[must_use]
    pub fn of(all: &[Estimate], of: impl Fn(&Estimate) -> bool) -> Self {
        let picked: Vec<&Estimate> = all.iter().filter(|e| of(e)).collect();
        let errors = || picked.iter().map(|e| e.estimate - e.truth);
        let covered = picked.iter().filter(|e| (e.estimate - e.truth).abs() <= e.half).count() as f64;
        Accuracy {
            estimates: picked.len(),
            rms_error: mean(errors().map(|e| e * e)).sqrt(),
            bias: mean(errors()),
            covered: covered / picked.len().max(1) as f64,
            mean_half_width: mean(picked.iter().map(|e| e.half)),
            snips_rms_error: mean(picked.iter().map(|e| (e.snips - e.truth).powi(2))).sqrt(),
        }
    }
}

/// One logged choice.
struct Logged {
    query: usize,
    model: usize,
    propensity: f64,
    /// By model.
    all: Vec<f64>,
    quality: f64,
    cost: f64,
}

/// Estimates targets of other λ from the log of one run under `run.lambda`.
pub(super) fn estimate(
    run: &Run<'_>,
    targets: &[f64],
    step: &(dyn Fn() + Sync),
) -> Result<Vec<Estimate>, Error> {
    let names: Vec<_> = run.table.models.iter().map(|m| super::player::full(&m.name)).collect();
    let mut propensities: Vec<Vec<f64>> = Vec::new();
    let made = run.play(step, |_, d: &Decision| {
        let of = |name: &std::sync::Arc<str>| {
            d.arms.iter().find(|a| a.model == *name).map_or(0.0, |a| a.propensity)
        };
        propensities.push(names.iter().map(of).collect());
    })?;
    let logged = |(m, all): (&Choice, Vec<f64>)| Logged {
        query: m.query,
        model: m.model,
        propensity: m.propensity,
        all,
        quality: m.quality,
        cost: m.cost.unwrap_or(0.0),
    };
    let log: Vec<Logged> = made.iter().zip(propensities).map(logged).collect();
    targets.iter().map(|t| one(run, &log, *t)).collect()
}

fn one(run: &Run<'_>, log: &[Logged], target: f64) -> Result<Estimate, Error> {
    // What is asked for is the worth of what was learned. A learner that learns no more would pay for its bonus for ever,
    // and with what the log cannot tell of.
    let exploration = Exploration { beta: Some(0.0), ..run.exploration };
    let stage = Stage::new(&run.table.models, target, run.table.cost_ref, exploration)?;
    let of = |parts: u32| -> Vec<&Logged> {
        log.iter().enumerate().filter(|(i, _)| parts & part(*i) != 0).map(|(_, l)| l).collect()
    };
    let mut students = Vec::new();
    for taught_from in halves() {
        let mut player = Player::new(&stage, run.prior, run.seed)?;
        teach(&mut player, run, &of(taught_from))?;
        students.push((taught_from, player));
    }
    let known: Vec<Known<'_>> = (0..PARTS).map(|p| Known::of(run.table, &of(!part(p)))).collect();
    let mut sums = Sums::default();
    for (i, l) in log.iter().enumerate() {
        let (Some(seen), Some(q)) = (run.seen.get(l.query), run.table.queries.get(l.query)) else { continue };
        let Some(known) = known.get(i % PARTS) else { continue };
        let mut said = Vec::with_capacity(students.len());
        for (taught_from, player) in students.iter_mut().filter(|(from, _)| from & part(i) == 0) {
            said.push((*taught_from, player.decide(&q.id, seen, run.table.available(l.query))?));
        }
        let judges = |chooser: u32| said.iter().filter(move |(judge, _)| chooser & judge == 0);
        let ways =
            said.iter().flat_map(|(from, chosen)| judges(*from).map(move |(_, judged)| (chosen, judged)));
        sums.add(run.table, &stage, l, target, known, &ways.collect::<Vec<_>>());
    }
    Ok(sums.estimate(run, target))
}

/// The part that a decision of the log belongs to, as a set of parts.
const fn part(decision: usize) -> u32 {
    1 << (decision % PARTS)
}

/// The sets of parts that learners are taught from: half of all but one.
fn halves() -> impl Iterator<Item = u32> {
    (0..1_u32 << PARTS).filter(|set| set.count_ones() as usize == (PARTS - 1) / 2)
}

/// Outcomes of each model in each family.
struct Known<'a>(HashMap<(&'a str, usize), f64>);

impl<'a> Known<'a> {
    fn of(table: &'a Table, log: &[&Logged]) -> Self {
        let mut known = HashMap::new();
        for l in log {
            if let Some(q) = table.queries.get(l.query) {
                *known.entry((q.task.as_str(), l.model)).or_default() += 1.0;
            }
        }
        Known(known)
    }

    /// Standard deviation of what is believed of a model in a family on the whole.
    fn doubt(&self, key: (&str, usize), success: f64) -> f64 {
        let n = self.0.get(&key).copied().unwrap_or(0.0);
        (success * (1.0 - success) / (PRIOR_WEIGHT + n)).sqrt()
    }
}

/// Sums over the log.
#[derive(Default)]
struct Sums<'a> {
    scores: Vec<f64>,
    /// As often each decision is weighed.
    ways: f64,
    truth: f64,
    overlap: f64,
    weighted: f64,
    weights: f64,
    squares: f64,
    largest: f64,
    /// By family, what is believed only, times its doubt. That errors of a family's models add up is meant: a
    /// prior that is too low is too low for all of them.
    believed: HashMap<&'a str, f64>,
}

impl<'a> Sums<'a> {
    /// One decision of the log, taken anew: each way who chooses and who judges, and what all judges know.
    fn add(
        &mut self,
        table: &'a Table,
        stage: &Stage,
        l: &Logged,
        target: f64,
        known: &Known<'_>,
        ways: &[(&Decision, &Decision)],
    ) {
        let family = table.queries.get(l.query).map_or("", |q| q.task.as_str());
        let reward = table.worth(l.quality, Some(l.cost), target);
        let part = 1.0 / ways.len().max(1) as f64;
        self.ways = ways.len() as f64;
        let mut score = 0.0;
        for (chooser, judge) in ways.iter().copied() {
            let mut of_logged = (0.0, 0.0);
            for a in
                chooser.arms.iter().filter(|a| a.propensity > 0.0 || stage.place(&a.model) == Some(l.model))
            {
                let Some(m) = stage.place(&a.model) else { continue };
                let Some(judged) = judge.arms.iter().find(|x| x.model == a.model) else { continue };
                let q_hat = worth(judged);
                score += part * a.propensity * q_hat;
                self.truth += part * a.propensity * table.reward(l.query, m, target).unwrap_or(0.0);
                let logged = l.all.get(m).copied().unwrap_or(0.0);
                if logged > 0.0 {
                    self.overlap += part * a.propensity;
                }
                // The share of it that no weight corrects.
                let only = (a.propensity - CLIP * logged).max(0.0);
                let success = judged.terms.success;
                *self.believed.entry(family).or_default() += part * only * known.doubt((family, m), success);
                if m == l.model {
                    of_logged = (a.propensity, q_hat);
                }
            }
            let w = (of_logged.0 / l.propensity.max(1e-9)).min(CLIP);
            score += part * w * (reward - of_logged.1);
            self.weighted += w * reward;
            self.weights += w;
            self.squares += w * w;
            self.largest = self.largest.max(w);
        }
        self.scores.push(score);
    }

    fn estimate(&self, run: &Run<'_>, target: f64) -> Estimate {
        let n = self.scores.len().max(1) as f64;
        let estimate = mean(self.scores.iter().copied());
        let scatter = mean(self.scores.iter().map(|s| (s - estimate).powi(2))) / n;
        let belief: f64 = self.believed.values().map(|b| (b / n).powi(2)).sum();
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        let effective = ratio(self.weights * self.weights, self.squares) / self.ways.max(1.0);
        let overlap = self.overlap / n;
        let carried = overlap >= MIN_OVERLAP
            && effective >= MIN_EFFECTIVE
            && ratio(self.ways * self.largest, self.weights) < MAX_SHARE;
        Estimate {
            logged: run.lambda,
            target,
            seed: run.seed,
            estimate,
            half: Z * (scatter + belief).sqrt(),
            truth: self.truth / n,
            snips: ratio(self.weighted, self.weights),
            effective,
            overlap,
            grade: if carried { 'B' } else { 'C' },
        }
    }
}

/// q̂: what is believed of an arm, without a bonus.
fn worth(arm: &Arm) -> f64 {
    arm.terms.success - arm.terms.price
}

/// Teaches what one part of a log holds.
fn teach(player: &mut Player<'_>, run: &Run<'_>, log: &[&Logged]) -> Result<(), Error> {
    let mut outcomes = Vec::with_capacity(log.len());
    for l in log {
        let (Some(seen), Some(q)) = (run.seen.get(l.query), run.table.queries.get(l.query)) else { continue };
        let seen: &Prepared = seen;
        let decision = player.decide(&q.id, seen, (0..run.table.models.len()).map(|m| m == l.model))?;
        let told = |m: usize| {
            (m == l.model).then_some(Row {
                quality: l.quality,
                cost: Some(l.cost),
                output_tokens: None,
                latency_s: None,
            })
        };
        outcomes.extend(lessons(&decision, seen, told, player.stage));
    }
    player.learner.study(&outcomes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_judges_what_he_chose_by_and_all_others_judge_alike() {
        for decision in 0..PARTS {
            let others: Vec<u32> = halves().filter(|set| set & part(decision) == 0).collect();
            let ways: Vec<(u32, u32)> = others
                .iter()
                .flat_map(|a| others.iter().filter(move |b| a & **b == 0).map(move |b| (*a, *b)))
                .collect();
            assert_eq!(ways.len(), 6);
            for (chooser, judge) in &ways {
                assert_eq!(chooser | judge | part(decision), (1 << PARTS) - 1, "all of the log is used");
            }
            let judged = |p: usize| ways.iter().filter(|(_, judge)| judge & part(p) != 0).count();
            assert!((0..PARTS).filter(|p| *p != decision).all(|p| judged(p) == 3));
        }
    }

    #[test]
    fn an_interval_is_as_wide_as_the_belief_that_nothing_corrects() {
        let known = Known(HashMap::from([(("math", 0), 92.0)]));
        let of = |key| known.doubt(key, 0.5);
        assert!((of(("math", 0)) - 0.05).abs() < 1e-12, "half a point of spread over ten times ten outcomes");
        assert!(
            (of(("math", 1)) - (0.25_f64 / PRIOR_WEIGHT).sqrt()).abs() < 1e-12,
            "never tried: the prior's"
        );
        assert_eq!(of(("math", 1)), of(("coding", 0)), "tried elsewhere is not tried here");
    }
}
