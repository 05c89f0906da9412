//! Which candidates an ask may go to, best first.

use super::Calls;
use crate::route::resolve;
use std::sync::Arc;
use types::matrix::{Model, ModelIx};
use workflows::{Ask, Route, Strategy};

impl Calls {
    /// The candidates for a node, best first; models it should avoid come last, those it must not use not at
    /// all.
    pub(super) fn order(&self, ask: &Ask) -> Vec<ModelIx> {
        // A workflow that chooses its models itself may call one that is given its model.
        let mut order = if ask.primary && !self.candidates.primary.is_empty() {
            self.candidates.primary_by(&ask.route, &self.reach.matrix)
        } else {
            resolve(&ask.route, &self.candidates, &self.reach.matrix, self.seed)
        };
        if let Some(set) = self.ceilings.escalate.as_ref().filter(|_| ask.purpose.contains("escalate")) {
            let all = resolve(&strongest(), &self.candidates, &self.reach.matrix, self.seed);
            let stronger: Vec<ModelIx> = all.into_iter().filter(|ix| set.contains(*ix)).collect();
            if !stronger.is_empty() {
                order = stronger;
            }
        }
        let model = |ix: &ModelIx| self.reach.matrix.model(*ix);
        if ask.edits.tools.is_some() {
            order.retain(|ix| model(ix).is_some_and(|m| m.abilities.tools));
        }
        if !ask.not_models.is_empty() || !ask.not_families.is_empty() {
            let barred =
                |m: &Arc<Model>| ask.not_models.contains(&m.id) || ask.not_families.contains(&m.family);
            order.retain(|ix| !model(ix).is_some_and(barred));
        }
        if let Some(spread) = ask.spread {
            order = spread.share(order, |ix| model(ix).cloned());
        }
        if !order.is_empty() {
            let skip = usize::try_from(ask.skip).unwrap_or(0);
            // Company of the same model is no help unless it was asked for.
            if ask.purpose == "hedge" && skip >= order.len() {
                return Vec::new();
            }
            let skip = skip % order.len();
            order.rotate_left(skip);
        }
        let used = |ix: &ModelIx| {
            model(ix).is_some_and(|m| ask.avoid.contains(&m.id) || ask.avoid_families.contains(&m.family))
        };
        order.sort_by_key(used);
        order
    }
}

/// Every candidate, the strongest first.
fn strongest() -> Route {
    Route { strategy: Strategy::Strongest, ..Route::default() }
}
