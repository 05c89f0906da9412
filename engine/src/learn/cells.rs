//! What arms did in the cells of the trees, and what that makes one believe of them.
//!
//! Every node of a tree keeps discounted trials n and successes s per arm. Down the way from the root to a
//! cell, each level is shrunk to the one above (hierarchical Beta shrinkage; Hong et al. 2022):
//!
//! ```text
//! θ_root = (K0·c + s) / (K0 + n)        c: the prior with what the arm did against it elsewhere
//! θ_node = (k·θ_parent + s) / (k + n)   k: estimated (`super::shrinkage`)
//! P      = mean of θ over the cells of the request in all trees
//! ```
//!
//! θ is linear in c, so that θ = a·c + b is prepared per node and arm, and a request only adds up. The same way
//! the cost is learned: the mean of real cost over what the forecast and all arms together (`Costs`) say.

use super::Count;
use super::forest::{NODES, Tree};
use super::point::{KINDS, Point};
use super::table::{PRIOR, Table, Theta};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What the prior weighs at the root, in outcomes.
pub(crate) const K0: f32 = 8.0;
/// What the level above weighs for the cost, in outcomes: costs scatter more than successes.
pub(super) const K_COST: f32 = 10.0;
/// Entries (node × arm) of one tree, at most: trees stay smaller where there are more arms.
pub(super) const ENTRIES: usize = 65_536;
/// Ratios of real cost to forecast outside of this are errors of one or the other, and clipped.
pub(super) const RATIO: (f32, f32) = (0.02, 50.0);

/// Real cost over forecast of all arms together, by kind of request: an arm that was never tried is expected to
/// be off as the others are, or it would look dear or cheap for nothing but the forecast's error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Costs {
    all: Count,
    kinds: [Count; KINDS],
}

impl Costs {
    pub(super) fn add(&mut self, kind: usize, ratio: f64, discount: f64) {
        self.all.add_amount(ratio, discount);
        if let Some(c) = self.kinds.get_mut(kind) {
            c.add_amount(ratio, discount);
        }
    }

    pub(super) fn of(&self, kind: usize) -> f64 {
        let k = f64::from(K_COST);
        let all = self.all.posterior(1.0, k);
        self.kinds.get(kind).map_or(all, |c| c.posterior(all, k))
    }
}

/// Nodes that a tree may have beside so many arms: at least one.
fn nodes_beside(arms: usize) -> usize {
    (ENTRIES / arms.max(1)).clamp(1, NODES)
}

/// What one arm did in one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Trials, successes.
    n: f32,
    s: f32,
    /// Known costs, and the sum of real over forecast.
    m: f32,
    c: f32,
}

impl Tally {
    fn is_empty(&self) -> bool {
        *self == Tally::default()
    }
}

/// The cells of one tree.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells {
    pub(super) tree: Arc<Tree>,
    /// By node, then arm.
    tallies: Vec<Tally>,
    pub(super) table: Arc<Table>,
    arms: usize,
}

impl Cells {
    /// Nodes it may have with as many arms.
    pub(super) fn most(&self) -> usize {
        nodes_beside(self.arms)
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.tallies.len()
    }

    /// Makes room for `arms` arms: where that is more than the tree leaves, its last cuts are taken back, and what was seen on
    /// either side of one stands where they part, as it did.
    pub(super) fn widen(&mut self, arms: usize) {
        if arms <= self.arms {
            return;
        }
        let most = nodes_beside(arms);
        if self.tree.len() > most {
            Arc::make_mut(&mut self.tree).cut_back(most);
        }
        let mut wide = vec![Tally::default(); self.tree.len().saturating_mul(arms)];
        if self.arms > 0 {
            for (to, from) in wide.chunks_exact_mut(arms).zip(self.tallies.chunks_exact(self.arms)) {
                for (t, f) in to.iter_mut().zip(from) {
                    *t = *f;
                }
            }
        }
        self.tallies = wide;
        self.arms = arms;
    }

    fn tally(&mut self, node: usize, arm: usize) -> Option<&mut Tally> {
        self.tallies.get_mut(node.saturating_mul(self.arms).saturating_add(arm))
    }

    fn read(&self, node: usize, arm: usize) -> Tally {
        self.tallies.get(node.saturating_mul(self.arms).saturating_add(arm)).copied().unwrap_or_default()
    }

    /// Makes room for the nodes of the tree, which has grown.
    pub(super) fn grown(&mut self) {
        self.tallies.resize(self.tree.len().saturating_mul(self.arms), Tally::default());
    }

    /// Takes an outcome in, `weight` of it.
    pub(super) fn add(&mut self, p: &Point, arm: usize, reward: f32, discount: f32, weight: f32) {
        let tree = self.tree.clone();
        for node in tree.way(p) {
            if let Some(t) = self.tally(node, arm) {
                t.n = t.n * discount + weight;
                t.s = t.s * discount + weight * reward;
            }
        }
    }

    /// Takes a cost in, as a multiple of its forecast.
    pub(super) fn add_cost(&mut self, p: &Point, arm: usize, ratio: f32, discount: f32) {
        let tree = self.tree.clone();
        for node in tree.way(p) {
            if let Some(t) = self.tally(node, arm) {
                t.m = t.m * discount + 1.0;
                t.c = t.c * discount + ratio.clamp(RATIO.0, RATIO.1);
            }
        }
    }

    /// An outcome that was counted is worth `difference` more; the mean stays within 0..=1.
    pub(super) fn revise(&mut self, p: &Point, arm: usize, difference: f32) {
        let tree = self.tree.clone();
        for node in tree.way(p) {
            if let Some(t) = self.tally(node, arm) {
                t.s = (t.s + difference).clamp(0.0, t.n);
            }
        }
    }

    /// Successes, or costs, of an arm weigh `factor` as much.
    pub(super) fn scale(&mut self, arm: usize, successes: f32, costs: f32) {
        let arms = self.arms.max(1);
        for t in self.tallies.iter_mut().skip(arm).step_by(arms) {
            (t.n, t.s) = (t.n * successes, t.s * successes);
            (t.m, t.c) = (t.m * costs, t.c * costs);
        }
    }

    /// Successes of some arms weigh `factor` as much in the cells of some requests.
    pub(super) fn scale_at<'a>(
        &mut self,
        points: impl Iterator<Item = &'a Point>,
        arms: &[usize],
        factor: f32,
    ) {
        let mut cells: Vec<usize> = points.map(|p| self.tree.cell(p)).collect();
        cells.sort_unstable();
        cells.dedup();
        for cell in cells {
            for arm in arms {
                if let Some(t) = self.tally(cell, *arm) {
                    (t.n, t.s) = (t.n * factor, t.s * factor);
                }
            }
        }
    }

    /// Successes of an arm become those of another, or none; its costs stay.
    pub(super) fn liken(&mut self, to: usize, from: Option<usize>) {
        for node in 0..self.tree.len() {
            let like = from.map(|f| self.read(node, f)).unwrap_or_default();
            if let Some(t) = self.tally(node, to) {
                (t.n, t.s) = (like.n, like.s);
            }
        }
    }

    /// θ of one arm along the way of a point under some k, from a prior: what [`Table`] holds, for one cell.
    pub(super) fn believe(&self, p: &Point, arm: usize, prior: f32, root: f32, k: f32) -> f32 {
        let mut k_here = root;
        self.tree.way(p).fold(prior, |above, node| {
            let t = self.read(node, arm);
            let theta = (k_here * above + t.s) / (k_here + t.n);
            k_here = k;
            theta
        })
    }

    /// Prepares the table: the column of one arm, or all of them where the tree or the arms have grown. `roots`
    /// says by arm what the prior weighs.
    pub(super) fn prepare(&mut self, arm: Option<usize>, roots: &[f32], k: f32) {
        let (nodes, arms) = (self.tree.len(), self.arms);
        let parents = self.tree.parents();
        let fits = self.table.fits(nodes, arms);
        let columns = match arm {
            Some(arm) if fits => arm..arm.saturating_add(1),
            _ => 0..arms,
        };
        let tallies = &self.tallies;
        let table = Arc::make_mut(&mut self.table);
        if !fits {
            *table = Table::new(nodes, arms);
        }
        for (node, parent) in parents.iter().enumerate() {
            for arm in columns.clone() {
                let above = if node == 0 { PRIOR } else { table.of(*parent, arm) };
                let t =
                    tallies.get(node.saturating_mul(arms).saturating_add(arm)).copied().unwrap_or_default();
                let k = if node == 0 { roots.get(arm).copied().unwrap_or(K0) } else { k };
                let here = Theta {
                    a: k * above.a / (k + t.n),
                    b: (k * above.b + t.s) / (k + t.n),
                    cost: (K_COST * above.cost + t.c) / (K_COST + t.m),
                };
                table.set(node, arm, here);
            }
        }
    }

    /// What is saved: the tree, and the tallies that hold anything.
    pub(super) fn save(&self) -> Saved {
        let held = self.tallies.iter().enumerate().filter(|(_, t)| !t.is_empty());
        let tallies = held.filter_map(|(i, t)| Some((u32::try_from(i).ok()?, *t))).collect();
        Saved { tree: (*self.tree).clone(), arms: self.arms, tallies }
    }

    /// From what was saved; `None` if it does not hold together.
    pub(super) fn restore(saved: Saved) -> Option<Self> {
        let Saved { mut tree, arms, tallies } = saved;
        let size = tree.len().checked_mul(arms).filter(|_| arms <= ENTRIES && tree.is_sound())?;
        // States of earlier versions hold larger trees.
        tree.cut_back(nodes_beside(arms));
        let mut all = vec![Tally::default(); tree.len().saturating_mul(arms)];
        for (i, t) in tallies {
            let i = usize::try_from(i).ok().filter(|i| *i < size)?;
            all.get_mut(i).into_iter().for_each(|slot| *slot = t);
        }
        Some(Cells { tree: Arc::new(tree), tallies: all, table: Arc::default(), arms })
    }
}

/// [`Cells`] on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    tree: Tree,
    arms: usize,
    tallies: Vec<(u32, Tally)>,
}

#[cfg(test)]
mod tests {
    use super::super::forest::{Draws, Past};
    use super::*;
    use types::Features;
    use types::axis::TaskFamily;

    fn point(x: f32) -> Point {
        let mut v = [0.0; Features::COUNT];
        v[5] = x;
        Point::new(Features::from_values(&v), TaskFamily::Chat, None)
    }

    fn taught(outcomes: usize) -> (Cells, Vec<Past>) {
        let mut draws = Draws::new(4);
        let mut cells = Cells::default();
        cells.widen(2);
        let mut past = Vec::new();
        for i in 0..outcomes {
            let p = point(draws.below(600) as f32 / 100.0 - 3.0);
            let reward = if (p.at(5) > 0) == (i % 2 == 0) { 1.0 } else { 0.0 };
            past.push(Past { point: p, arm: (i % 2) as u32, reward, share: 1.0 });
            if Arc::make_mut(&mut cells.tree).see(&p, &past, NODES, &mut draws) {
                cells.grown();
            }
            cells.add(&p, i % 2, reward, 1.0, 1.0);
            cells.add_cost(&p, i % 2, 3.0, 1.0);
        }
        cells.prepare(None, &[], 8.0);
        (cells, past)
    }

    #[test]
    fn the_table_says_what_the_way_says() {
        let (mut cells, past) = taught(300);
        cells.add(&past[7].point, 1, 0.25, 0.99, 1.0);
        cells.prepare(Some(1), &[], 8.0);
        for p in past.iter().map(|x| &x.point).take(40) {
            for (arm, prior) in [(0, 0.6), (1, 0.3)] {
                let Theta { a, b, cost } = cells.table.of(cells.tree.cell(p), arm);
                let want = cells.believe(p, arm, prior, K0, 8.0);
                assert!((a * prior + b - want).abs() < 1e-5);
                assert!(cost > 2.5 && cost < 3.0, "{cost}");
            }
        }
    }

    #[test]
    fn arms_part_where_their_outcomes_do_and_forget_when_told() {
        let (mut cells, _) = taught(600);
        let theta = |c: &Cells, x: f32, arm| c.believe(&point(x), arm, 0.5, K0, 8.0);
        assert!(theta(&cells, 2.0, 0) > 0.75 && theta(&cells, 2.0, 1) < 0.25);
        assert!(theta(&cells, -2.0, 0) < 0.25 && theta(&cells, -2.0, 1) > 0.75);
        let before = theta(&cells, 2.0, 1);
        cells.scale(0, 0.0, 1.0);
        assert!((theta(&cells, 2.0, 0) - 0.5).abs() < 1e-6);
        assert_eq!(theta(&cells, 2.0, 1), before);
    }

    #[test]
    fn a_third_arm_finds_room_and_what_is_saved_comes_back() {
        let (mut cells, past) = taught(200);
        let p = &past[3].point;
        let before = cells.believe(p, 1, 0.5, K0, 8.0);
        cells.widen(5);
        assert_eq!(cells.believe(p, 1, 0.5, K0, 8.0), before);
        cells.prepare(None, &[], 8.0);
        let mut again = Cells::restore(cells.save()).expect("sound");
        again.prepare(None, &[], 8.0);
        assert_eq!((&again.tallies, &again.tree, &again.table), (&cells.tallies, &cells.tree, &cells.table));
        let mut broken = cells.save();
        broken.tallies.push((u32::MAX, Tally::default()));
        assert!(Cells::restore(broken).is_none());
    }
}
