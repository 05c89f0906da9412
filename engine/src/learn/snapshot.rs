//! What routing reads: an immutable picture of what was learned, swapped whole.

use super::cells::{Costs, K_COST, K0};
use super::detect::{Aspect, Changes, Way};
use super::ease::Published;
use super::forest::Tree;
use super::lines::{Lined, Lines, Place};
use super::point::Point;
use super::table::{GROUP, Table, Theta, Thetas, of_arm};
use super::tenants::{Own, Tenants};
use super::{Count, Forms, Latency, Surprise, Whole};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use types::axis::{AxisValue, TaskFamily};

/// Outcomes of an arm at which its cells weigh as much as its linear part.
const RAMP: f64 = 200.0;
/// s²: the most that one outcome can scatter. With P(1−P) in its place an arm whose first outcome is bad would never be
/// tried again.
const NOISE: f64 = 0.25;
/// What the model's surprise weighs at the arm's, in outcomes.
const K_ARM: f64 = 8.0;

/// What was learned of one arm, beside its cells and its linear part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmStats {
    /// Over everything.
    pub total: Count,
    /// Against its prior.
    pub surprise: Surprise,
    /// Contract held at delivery, where there was one to hold. States of earlier versions do not hold it by contract.
    #[serde(default)]
    pub forms: Forms,
    /// Judge and feedback, given an answer.
    pub quality: Count,
    /// Outcomes ever, undiscounted.
    pub ever: f64,
}

/// What was learned of one model, whatever the workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelStats {
    /// Time to the first content.
    pub ttft: Latency,
    /// Milliseconds per output token.
    pub per_token: Latency,
    /// Time of whole answers. States of earlier versions do not hold it.
    #[serde(default)]
    pub whole: Whole,
    /// Output tokens.
    pub output_tokens: Latency,
    /// Calls that were answered.
    pub answered: Count,
    /// Outcomes of all its arms against their priors.
    pub surprise: Surprise,
    /// Contract held at delivery, in all its arms.
    #[serde(default)]
    pub forms: Forms,
    /// Answers that went out, which `s` counts, and those that a rule on what models say refused.
    #[serde(default)]
    pub safe: Count,
    /// Real cost over forecast, of all its arms: `s` sums the ratios.
    pub cost: Count,
    /// It was seen to change: outcomes for which it is tried out more than others.
    pub reopened: u32,
    /// What its prior is still worth, 0..=1, after it was seen to change; `None` = all of it.
    pub trust: Option<f64>,
    /// How often it was seen to change.
    #[serde(default)]
    pub changes: Changes,
}

impl ModelStats {
    pub(super) fn trust(&self) -> f64 {
        self.trust.unwrap_or(1.0)
    }
}

/// A model no longer does what it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// `provider/model`.
    pub model: Arc<str>,
    /// In what.
    pub aspect: Aspect,
    /// Which way.
    pub way: Way,
    /// The task family that spoke loudest.
    pub family: TaskFamily,
    /// It changed in that family alone, as far as is known: what is known of others stays.
    #[serde(default)]
    pub alone: bool,
    /// Unix time in milliseconds of the answer, or the word, that told; 0 in states of earlier versions.
    #[serde(default)]
    pub ts_ms: i64,
    /// Outcomes learned of until then.
    pub at: u64,
}

/// A hasher for names: eight bytes a step. Names come from the configuration, nobody chooses them to collide.
#[derive(Clone, Copy, Default)]
pub(crate) struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(0_u64, |w, b| (w << 8) | u64::from(*b));
            self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }
    fn write_u8(&mut self, n: u8) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(n)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// A map by name.
pub(crate) type ByName<T> = HashMap<Arc<str>, T, BuildHasherDefault<Quick>>;

/// Which arm is which: by workflow, then model.
pub(super) type Names = ByName<ByName<usize>>;

/// A picture of everything learned.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows with every publication.
    pub version: u64,
    pub(super) names: Arc<Names>,
    pub(super) arms: Vec<Arc<ArmStats>>,
    /// By groups of arms.
    pub(super) lines: Vec<Arc<Lines>>,
    pub(super) trees: Vec<(Arc<Tree>, Arc<Table>)>,
    pub(super) models: Arc<ByName<Arc<ModelStats>>>,
    /// Outcomes per family, in the order of `TaskFamily::ALL`, undiscounted.
    pub seen: [u64; 8],
    /// What judges and people say of all arms.
    pub opinion: Count,
    pub(super) ease: Published,
    pub(super) costs: Costs,
    pub(super) tenants: Arc<Tenants>,
    /// The last changes, oldest first.
    pub changes: Arc<Vec<Change>>,
}

/// A request where the learner stands it, with what is known there of arms.
#[derive(Debug)]
pub(crate) struct Located {
    place: Place,
    /// Its cell in each tree.
    cells: Vec<usize>,
    /// By groups of arms: found when the first arm of a group is asked for.
    groups: Vec<OnceCell<Known>>,
    /// Real cost over forecast of all arms together.
    cost: f64,
    /// How much easier it is than others, for all arms.
    ease: f64,
    /// What the tenant's outcomes say beyond everybody's.
    own: Option<Arc<Own>>,
}

/// What is known of the arms of a group where a request stands.
#[derive(Debug)]
struct Known {
    cells: Thetas,
    linear: Lined,
}

/// What a belief in an arm rests on, whatever the request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seat {
    /// Where its outcomes are kept, if it has any.
    pub(crate) arm: Option<usize>,
    /// Outcomes of its own against its prior, shrunk to its model's; its model's where it has none.
    surprise: f64,
    /// Weight of its linear part.
    omega: f64,
    /// What the prior of its model is worth in the matrix, in outcomes.
    strength: f64,
    /// Outcomes of its own, discounted.
    held: f64,
    /// What the prior weighs at the root: that, or the usual where it is less, as far as it is still trusted.
    root: f64,
    /// Real cost over forecast, of its model.
    cost: f64,
}

impl Seat {
    /// What the prior is worth, in outcomes.
    pub(crate) fn strength(&self) -> f64 {
        self.strength
    }
}

/// Belief in an arm for one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Belief {
    /// P, 0.01..=0.99.
    pub(crate) mean: f64,
    /// Of P as a Beta posterior.
    pub(crate) variance: f64,
    /// How far P may be off, for the bonus: by that, and by how little the arm has been tried on requests like this.
    pub(crate) doubt: f64,
    /// Outcomes behind it, discounted.
    pub(crate) n: f64,
    /// Real cost over forecast.
    pub(crate) cost: f64,
}

impl Belief {
    /// Standard deviation of P as a Beta posterior.
    pub(crate) fn sd(&self) -> f64 {
        self.variance.sqrt()
    }
}

/// What is known of an arm where a request stands.
struct Here {
    /// What its cells say: θ = a·prior + b, and real cost over forecast.
    a: f64,
    b: f64,
    cost: f64,
    /// How much better than its prior its linear part says it is.
    beyond: f64,
    /// φᵀA⁻¹φ.
    tried: f64,
}

impl Known {
    fn of(&self, arm: usize) -> Here {
        let Theta { a, b, cost } = self.cells.of(arm);
        Here {
            a: f64::from(a),
            b: f64::from(b),
            cost: f64::from(cost),
            beyond: f64::from(of_arm(&self.linear.mean, arm, 0.0)),
            tried: f64::from(of_arm(&self.linear.doubt, arm, 0.0)),
        }
    }
}

impl Snapshot {
    /// What was learned of an arm.
    #[must_use]
    pub fn arm(&self, workflow: &str, model: &str) -> Option<&ArmStats> {
        self.place_of(workflow, model).and_then(|a| self.arms.get(a)).map(|a| &**a)
    }

    /// Every arm: workflow, model, what was learned. In no order.
    pub fn arms(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &ArmStats)> {
        self.names.iter().flat_map(move |(w, models)| {
            models.iter().filter_map(move |(m, a)| Some((w, m, &**self.arms.get(*a)?)))
        })
    }

    /// What was learned of a model.
    #[must_use]
    pub fn model(&self, model: &str) -> Option<&ModelStats> {
        self.models.get(model).map(|m| &**m)
    }

    /// Every model with what was learned of it. In no order.
    pub fn models(&self) -> impl Iterator<Item = (&Arc<str>, &ModelStats)> {
        self.models.iter().map(|(name, m)| (name, &**m))
    }

    /// Outcomes seen in a family.
    #[must_use]
    pub fn seen_in(&self, family: TaskFamily) -> u64 {
        self.seen.get(family.index()).copied().unwrap_or_default()
    }

    /// Arms of a workflow, to find many of them.
    pub(crate) fn workflow(&self, name: &str) -> Option<&ByName<usize>> {
        self.names.get(name)
    }

    pub(crate) fn stats(&self, arm: usize) -> Option<&ArmStats> {
        self.arms.get(arm).map(|a| &**a)
    }

    pub(super) fn place_of(&self, workflow: &str, model: &str) -> Option<usize> {
        self.names.get(workflow)?.get(model).copied()
    }

    /// Looks a request of a tenant up, once for all arms.
    pub(crate) fn locate(&self, p: &Point, tenant: &str) -> Located {
        let cells = self.trees.iter().map(|(tree, _)| tree.cell(p)).collect();
        let groups = (0..self.lines.len()).map(|_| OnceCell::new()).collect();
        let own = self.tenants.of(tenant).cloned();
        let place = Place::of(p);
        let ease = self.ease.at(&place);
        Located { place, cells, groups, cost: self.costs.of(p.kind()), ease, own }
    }

    /// What is known of the arms of a group.
    fn known<'a>(&self, at: &'a Located, group: usize) -> Option<&'a Known> {
        let lines = self.lines.get(group)?;
        let know = || {
            let trees = self.trees.iter().zip(&at.cells);
            let cells = trees.filter_map(|((_, table), cell)| table.of_group(*cell, group));
            Known { cells: Thetas::mean(cells), linear: lines.at(&at.place) }
        };
        at.groups.get(group).map(|known| known.get_or_init(know))
    }

    /// What beliefs in an arm rest on; `model` is what was learned of its model, `strength` what its prior is worth.
    pub(crate) fn seat(&self, arm: Option<usize>, model: Option<&ModelStats>, strength: f64) -> Seat {
        let stats = arm.and_then(|a| self.stats(a));
        // Cells never rest on less than the usual: one outcome says little of a cell.
        let rests = strength.max(f64::from(K0));
        let of_model = model.map_or(0.0, |m| m.surprise.mean(0.0, rests));
        Seat {
            arm,
            surprise: stats.map_or(of_model, |s| s.surprise.mean(of_model, K_ARM)),
            omega: RAMP / (RAMP + stats.map_or(0.0, |s| s.ever)),
            strength,
            held: stats.map_or(0.0, |s| s.total.n),
            root: rests * model.map_or(1.0, ModelStats::trust),
            cost: model.map_or(1.0, |m| m.cost.posterior(1.0, f64::from(K_COST))),
        }
    }

    /// What is believed of an arm. `prior` is P before any evidence.
    ///
    /// ```text
    /// linear = prior + wᵀφ + z·ease     cells = a·(prior + r + ease) + b    r: surprise of the arm, shrunk to its model's
    /// z      = φᵀA⁻¹φ / φᵀA₀⁻¹φ         what the linear part leaves of the prior here, as a does of the cells; A₀: no outcomes
    /// P      = ω·linear + (1−ω)·cells + what the tenant's own outcomes say beyond,   ω = 200 / (200 + outcomes of the arm)
    /// doubt² = P(1−P)/(k + n + 1) + s²·φᵀA⁻¹φ               k: strength of the prior, s² = 1/4
    /// n      = min(k·(1/a − 1), outcomes of the arm)        a: what the cells leave of the prior
    /// ```
    pub(crate) fn believe(&self, at: &Located, seat: &Seat, prior: f64, doubts: bool) -> Belief {
        let &Seat { arm, surprise, omega, strength, held, root, cost } = seat;
        let blank = at.place.untried(strength);
        let known = arm.and_then(|arm| Some((arm, self.known(at, arm / GROUP)?)));
        // An arm without outcomes of its own has only its model's surprise to go by.
        let none = Here { a: 1.0, b: 0.0, cost, beyond: surprise, tried: blank };
        let Here { a, b, cost, beyond, tried } = known.map_or(none, |(arm, known)| known.of(arm));
        let cells = a * (prior + surprise + at.ease) + b;
        let tried = tried.clamp(0.0, blank);
        let left = tried / blank.max(f64::MIN_POSITIVE);
        let linear = prior + beyond + left * at.ease;
        let own = arm.zip(at.own.as_ref()).map_or(0.0, |(arm, own)| own.shift(arm));
        let mean = omega * linear + (1.0 - omega) * cells + own;
        let mean = mean.clamp(0.01, 0.99);
        // Every level of a tree leaves less of the prior, and counts the outcomes of the one above again.
        let n = (root * (1.0 / a.max(1e-6) - 1.0)).clamp(0.0, held);
        let variance = mean * (1.0 - mean) / (root + n + 1.0);
        Belief {
            mean,
            variance,
            doubt: if doubts { (variance + NOISE * tried).sqrt() } else { 0.0 },
            n,
            cost: at.cost * cost,
        }
    }
}

/// Handle to the snapshot in force; cheap to clone, read without locks.
#[derive(Clone, Debug, Default)]
pub struct Statistics(Arc<ArcSwap<Snapshot>>);

impl Statistics {
    /// The snapshot in force.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}
