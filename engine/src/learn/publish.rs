//! What was learned becomes the picture that routing reads.

use super::learner::Learner;
use super::snapshot::Snapshot;
use super::table::GROUP;
use std::sync::Arc;

/// What has to be prepared anew before the next publication.
#[derive(Clone, Debug, Default)]
pub(super) struct Dirty {
    pub(super) changed: bool,
    pub(super) all: bool,
    pub(super) arms: Vec<usize>,
}

impl Learner {
    pub(super) fn publish(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        for arm in &dirty.arms {
            if let (Some(held), Some(lines)) = (self.arms.get(*arm), self.lines.get_mut(*arm / GROUP)) {
                Arc::make_mut(lines).set(*arm, &held.ridge.solve(held.strength));
            }
        }
        let roots: Vec<f32> = self.arms.iter().map(|h| self.root(h)).collect();
        let k = self.shrinkage.k();
        let whole = dirty.all || dirty.arms.len() > 4;
        for c in &mut self.cells {
            if whole {
                c.prepare(None, &roots, k);
            } else {
                dirty.arms.iter().for_each(|arm| c.prepare(Some(*arm), &roots, k));
            }
        }
        self.version = self.version.saturating_add(1);
        self.published.publish(Snapshot {
            version: self.version,
            names: self.names.clone(),
            arms: self.arms.iter().map(|h| h.stats.clone()).collect(),
            lines: self.lines.clone(),
            trees: self.cells.iter().map(|c| (c.tree.clone(), c.table.clone())).collect(),
            models: Arc::new(self.models.iter().map(|(m, w)| (m.clone(), w.stats.clone())).collect()),
            seen: self.seen,
            opinion: self.opinion,
            ease: self.ease.publish(),
            costs: self.costs.clone(),
            tenants: self.tenants.clone(),
            changes: Arc::new(self.changes.clone()),
        });
    }
}
