//! What is learned, on disk: one versioned value, in bytes.

use super::Count;
use super::cells::{Cells, Costs, Saved};
use super::ease::Ease;
use super::forest::{Draws, Past, TREES};
use super::influence::Influence;
use super::learner::{Held, Learner};
use super::ridge::Ridge;
use super::shrinkage::Shrinkage;
use super::snapshot::{ArmStats, ByName, Change, Names};
use super::soft::Spoken;
use super::table::GROUP;
use super::tenants::Tenants;
use super::watch::Watched;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The version guards against another format.
const FORMAT: u32 = 6;
/// The oldest that is read: what it does not hold (kept contracts by contract, tests by family) begins anew.
const OLDEST: u32 = 5;

/// Workflow, model, what is known of the two, and what their prior is worth.
type SavedArm = (Arc<str>, Arc<str>, Arc<ArmStats>, Ridge, f64);

#[derive(Serialize, Deserialize)]
struct State {
    format: u32,
    version: u64,
    arms: Vec<SavedArm>,
    cells: Vec<Saved>,
    past: Vec<Past>,
    past_at: usize,
    draws: Draws,
    shrinkage: Shrinkage,
    models: Vec<(Arc<str>, Watched)>,
    influence: Influence,
    seen: [u64; 8],
    opinion: Count,
    costs: Costs,
    ever: u64,
    changes: Vec<Change>,
    // States from before tenants were told apart have neither.
    #[serde(default)]
    of_tenants: Influence,
    #[serde(default)]
    tenants: Arc<Tenants>,
    // Nor were these told apart from their arms.
    #[serde(default)]
    ease: Ease,
    // Nor were these counted.
    #[serde(default)]
    spoken: Spoken,
    #[serde(default)]
    of_refusals: Influence,
}

/// Only the version, of whatever format.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

pub(super) fn save(l: &Learner) -> Result<Vec<u8>, String> {
    let mut models: Vec<_> = l.models.iter().map(|(m, w)| (m.clone(), w.clone())).collect();
    models.sort_by(|a, b| a.0.cmp(&b.0));
    let arm = |h: &Held| (h.workflow.clone(), h.model.clone(), h.stats.clone(), h.ridge.clone(), h.strength);
    let state = State {
        format: FORMAT,
        version: l.version,
        arms: l.arms.iter().map(arm).collect(),
        cells: l.cells.iter().map(Cells::save).collect(),
        past: l.past.clone(),
        past_at: l.past_at,
        draws: l.draws.clone(),
        shrinkage: l.shrinkage.clone(),
        models,
        influence: l.influence.clone(),
        seen: l.seen,
        opinion: l.opinion,
        costs: l.costs.clone(),
        ever: l.ever,
        changes: l.changes.clone(),
        of_tenants: l.of_tenants.clone(),
        tenants: l.tenants.clone(),
        ease: l.ease.clone(),
        spoken: l.spoken,
        of_refusals: l.of_refusals.clone(),
    };
    rmp_serde::to_vec_named(&state).map_err(|e| e.to_string())
}

/// Takes a state up; the learner is as it was if it is not readable.
pub(super) fn restore(l: &mut Learner, saved: &[u8]) -> Result<(), String> {
    let unreadable = |e: rmp_serde::decode::Error| format!("saved statistics: {e}");
    let Versioned { format } = rmp_serde::from_slice(saved).map_err(unreadable)?;
    if !(OLDEST..=FORMAT).contains(&format) {
        let reads = format!("this version reads {OLDEST} to {FORMAT}");
        return Err(format!("saved statistics have format {format}, {reads}"));
    }
    let state: State = rmp_serde::from_slice(saved).map_err(unreadable)?;
    let broken = |what: &str| format!("saved statistics do not hold together: {what}");
    if state.cells.len() != TREES {
        return Err(broken("trees"));
    }
    if !state.ease.is_sound() {
        return Err(broken("the ease of requests"));
    }
    let mut names = Names::default();
    let mut arms = Vec::with_capacity(state.arms.len());
    for (at, (workflow, model, stats, ridge, strength)) in state.arms.into_iter().enumerate() {
        if !ridge.is_sound() || !strength.is_finite() {
            return Err(broken("an arm"));
        }
        names.entry(workflow.clone()).or_default().insert(model.clone(), at);
        arms.push(Held { workflow, model, stats, strength, ridge });
    }
    let cells: Option<Vec<Cells>> = state.cells.into_iter().map(Cells::restore).collect();
    l.cells = cells.ok_or_else(|| broken("cells"))?;
    l.lines = vec![l.blank.clone(); arms.len().div_ceil(GROUP)];
    (l.names, l.arms) = (Arc::new(names), arms);
    (l.past, l.past_at, l.draws, l.shrinkage) = (state.past, state.past_at, state.draws, state.shrinkage);
    l.models = state.models.into_iter().collect::<ByName<_>>();
    (l.influence, l.seen, l.opinion, l.costs) = (state.influence, state.seen, state.opinion, state.costs);
    (l.of_tenants, l.tenants, l.ease, l.spoken) = (state.of_tenants, state.tenants, state.ease, state.spoken);
    l.of_refusals = state.of_refusals;
    (l.ever, l.changes, l.version) = (state.ever, state.changes, state.version);
    Ok(())
}
