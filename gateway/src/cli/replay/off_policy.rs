//! What another configuration would have earned, estimated from the log of one run (`experiments.md` §13).
//!
//! The log holds the choices of a warm run with their exact propensities. For a target configuration, each half
//! of the log is decided anew by a learner that has seen the other half only (two-fold cross-fitting), which
//! also gives q̂; then, with w = π_target / π_logged clipped at 20,
//!
//! ```text
//! DR = mean( Σ_a π_target(a|x)·q̂(x,a)  +  w·(r − q̂(x, a logged)) )
//! ```
//!
//! The table knows what every choice would have earned, so the error is known too.

use super::pack::mean;
use super::plan::Plan;
use super::play::{Made, Run};
use super::player::{Player, Seen, Told, lessons};
use super::stage::Stage;
use types::Decision;

/// Weights beyond this are cut.
const CLIP: f64 = 20.0;
/// Two-sided 95 % of a normal.
const Z: f64 = 1.959_964;

/// An estimate beside the truth.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Estimate {
    /// λ of the target.
    pub(super) target: f64,
    pub(super) seed: u64,
    /// Mean reward of the target, from the log.
    pub(super) estimate: f64,
    /// Half of the 95 % interval.
    pub(super) half: f64,
    /// Mean reward of the target, from the table.
    pub(super) truth: f64,
    /// The same by inverse weighting alone (self-normalised), for comparison.
    pub(super) snips: f64,
    /// Effective sample size.
    pub(super) effective: f64,
    /// Share of the target's choices that the log could have made.
    pub(super) overlap: f64,
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
) -> Result<Vec<Estimate>, String> {
    let names: Vec<_> = run.pack.models.iter().map(|m| super::player::full(&m.name)).collect();
    let mut propensities: Vec<Vec<f64>> = Vec::new();
    let made = run.play(step, |_, d: &Decision| {
        let of = |name: &std::sync::Arc<str>| {
            d.arms.iter().find(|a| a.model == *name).map_or(0.0, |a| a.propensity)
        };
        propensities.push(names.iter().map(of).collect());
    })?;
    let logged = |(m, all): (&Made, Vec<f64>)| Logged {
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

fn one(run: &Run<'_>, log: &[Logged], target: f64) -> Result<Estimate, String> {
    let pack = run.pack;
    let stage = Stage::new(&pack.models, target, pack.cost_ref, run.knobs)?;
    let mut scores = Vec::with_capacity(log.len());
    let (mut truth, mut weighted, mut weights, mut squares, mut covered) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for fold in 0..2_usize {
        let other: Vec<&Logged> =
            log.iter().enumerate().filter(|(i, _)| i % 2 != fold).map(|(_, l)| l).collect();
        let mut player = Player::new(&stage, run.prior, run.seed)?;
        teach(&mut player, run, &other)?;
        for l in log.iter().enumerate().filter(|(i, _)| i % 2 == fold).map(|(_, l)| l) {
            let (Some(seen), Some(q)) = (run.seen.get(l.query), pack.queries.get(l.query)) else { continue };
            let allowed = (0..pack.models.len()).map(|m| pack.row(l.query, m).is_some());
            let decision = player.decide(&q.id, seen, allowed)?;
            let (mut direct, mut of_logged) = (0.0, (0.0, 0.0));
            for a in &decision.arms {
                let Some(m) = stage.place(&a.model) else { continue };
                let q_hat = a.terms.success - a.terms.price;
                direct += a.propensity * q_hat;
                truth += a.propensity * pack.reward(l.query, m, target).unwrap_or(0.0);
                if l.all.get(m).is_some_and(|p| *p > 0.0) {
                    covered += a.propensity;
                }
                if m == l.model {
                    of_logged = (a.propensity, q_hat);
                }
            }
            let w = (of_logged.0 / l.propensity.max(1e-9)).min(CLIP);
            let reward = pack.worth(l.quality, Some(l.cost), target);
            scores.push(direct + w * (reward - of_logged.1));
            weighted += w * reward;
            weights += w;
            squares += w * w;
        }
    }
    let n = scores.len().max(1) as f64;
    let estimate = mean(scores.iter().copied());
    let variance = mean(scores.iter().map(|s| (s - estimate).powi(2)));
    Ok(Estimate {
        target,
        seed: run.seed,
        estimate,
        half: Z * (variance / n).sqrt(),
        truth: truth / n,
        snips: if weights > 0.0 { weighted / weights } else { 0.0 },
        effective: if squares > 0.0 { weights * weights / squares } else { 0.0 },
        overlap: covered / n,
    })
}

/// Teaches what one half of a log holds.
fn teach(player: &mut Player<'_>, run: &Run<'_>, log: &[&Logged]) -> Result<(), String> {
    let mut outcomes = Vec::with_capacity(log.len());
    for l in log {
        let (Some(seen), Some(q)) = (run.seen.get(l.query), run.pack.queries.get(l.query)) else { continue };
        let seen: &Seen = seen;
        let decision = player.decide(&q.id, seen, (0..run.pack.models.len()).map(|m| m == l.model))?;
        let told = |m: usize| {
            (m == l.model).then_some(Told {
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

/// An undisturbed plan: what logs are made under.
pub(super) fn plan() -> Plan {
    Plan { shuffled: true, ..Plan::default() }
}
