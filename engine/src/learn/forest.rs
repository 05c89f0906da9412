//! Where cells begin and end: random trees over the points of requests, grown with the traffic.
//!
//! A tree cuts the space of requests into cells; a cell is split when it has seen enough, at a threshold
//! between two requests that fell into it, on the one of a few random candidates that best separates outcomes
//! (extremely randomised trees: Geurts et al. 2006, grown online as by Saffari et al. 2009). Many trees give
//! many overlapping partitions; their mean is smooth where one partition is ragged. Cells adapt to what a
//! deployment really sees, and nothing about them is specific to a model: all arms share them.

use super::point::{AXES, Point};
use serde::{Deserialize, Serialize};

/// Trees.
pub(crate) const TREES: usize = 24;
/// Outcomes in a cell before it is split.
const SPLIT_AT: u32 = 10;
/// Every how many further outcomes a split is tried again, and how rarely in a cell that has seen so many without
/// one: its requests are alike, and each try looks at all that is past.
const RETRY: u32 = 4;
const RARELY: u32 = 64;
/// Cuts on one way, at most.
const DEPTH: u8 = 10;
/// Nodes of a tree, at most; fewer where there are more arms (`super::cells`).
pub(super) const NODES: usize = 255;
/// Candidates for a split.
const CANDIDATES: usize = 4;
/// Requests on either side of a split, at least.
const SIDE: f32 = 4.0;
/// What an arm's mean on one side is shrunk by, in outcomes, when splits are compared.
const SHRINK: f32 = 3.0;
/// Past outcomes that splits are chosen from.
pub(super) const PAST: usize = 2_048;

/// A small generator whose state is part of what is saved: the same outcomes give the same trees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Draws(u64);

impl Draws {
    pub(super) const fn new(seed: u64) -> Self {
        Draws(seed)
    }

    /// SplitMix64 (Steele et al. 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n.max(1) as u64)).unwrap_or(0)
    }
}

/// An outcome that splits are chosen from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Past {
    pub(super) point: Point,
    pub(super) arm: u32,
    /// Less what all arms together made of the request, where that is known: a cut is to part the arms.
    pub(super) reward: f32,
    /// One over the outcomes of the same request.
    pub(super) share: f32,
}

/// A cell, or a cut through one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Node {
    /// Coordinate of the cut; 255 for a cell.
    axis: u8,
    /// At most this goes to `left`, more to the node after it.
    at: i8,
    depth: u8,
    left: u32,
    seen: u32,
}

impl Node {
    const fn cell(depth: u8, seen: u32) -> Self {
        Node { axis: u8::MAX, at: 0, depth, left: 0, seen }
    }

    fn next(&self, p: &Point) -> Option<usize> {
        if self.axis == u8::MAX {
            return None;
        }
        let right = u32::from(p.at(self.axis) > self.at);
        usize::try_from(self.left.saturating_add(right)).ok()
    }
}

/// A partition of all requests. Nodes stand after their parents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

impl Default for Tree {
    fn default() -> Self {
        Tree { nodes: vec![Node::cell(0, 0)] }
    }
}

impl Tree {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes on the way to the cell of a point, from the root.
    pub(super) fn way<'a>(&'a self, p: &'a Point) -> impl Iterator<Item = usize> + 'a {
        std::iter::successors(Some(0_usize), |i| self.nodes.get(*i)?.next(p))
    }

    /// The cell of a point.
    pub(super) fn cell(&self, p: &Point) -> usize {
        self.way(p).last().unwrap_or(0)
    }

    /// The parent of every node but the root, in order.
    pub(super) fn parents(&self) -> Vec<usize> {
        let mut parents = vec![0; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate().filter(|(_, n)| n.axis != u8::MAX) {
            let left = usize::try_from(node.left).unwrap_or(0);
            for child in [left, left.saturating_add(1)] {
                if let Some(p) = parents.get_mut(child) {
                    *p = i;
                }
            }
        }
        parents
    }

    /// Whether the ways end and every cut leads to nodes that are there: what is read from a file may not.
    pub(super) fn is_sound(&self) -> bool {
        let sound = |(i, n): (usize, &Node)| {
            let left = usize::try_from(n.left).unwrap_or(usize::MAX);
            n.axis == u8::MAX
                || (usize::from(n.axis) < AXES && left > i && left.saturating_add(1) < self.nodes.len())
        };
        // The root, and two for each cut.
        self.nodes.len() % 2 == 1 && self.nodes.len() <= NODES && self.nodes.iter().enumerate().all(sound)
    }

    /// Takes the last cuts back until there are at most so many nodes.
    pub(super) fn cut_back(&mut self, most: usize) {
        while self.nodes.len() > most.max(1) {
            // Nobody has cut through the last two: what that had made would stand after them.
            let left = self.nodes.len().saturating_sub(2).max(1);
            self.nodes.truncate(left);
            let parent =
                self.nodes.iter_mut().find(|n| n.axis != u8::MAX && usize::try_from(n.left) == Ok(left));
            if let Some(parent) = parent {
                *parent = Node::cell(parent.depth, parent.seen);
            }
        }
    }

    /// A request was seen; splits its cell if that has seen enough. Whether it did.
    pub(super) fn see(&mut self, p: &Point, past: &[Past], most: usize, draws: &mut Draws) -> bool {
        let at = self.cell(p);
        let room = self.nodes.len().saturating_add(2) <= most.min(NODES);
        let Some(node) = self.nodes.get_mut(at) else { return false };
        node.seen = node.seen.saturating_add(1);
        let (seen, depth) = (node.seen, node.depth);
        let every = if seen < RARELY { RETRY } else { RARELY };
        if !room || depth >= DEPTH || seen < SPLIT_AT || !seen.is_multiple_of(every) {
            return false;
        }
        let here: Vec<&Past> = past.iter().filter(|x| self.cell(&x.point) == at).collect();
        let Some((axis, cut, left_share)) = best_cut(&here, draws) else { return false };
        let Ok(left) = u32::try_from(self.nodes.len()) else { return false };
        // What each side has seen is known only as far as the past reaches back.
        let left_seen = ((f64::from(seen) * left_share) as u32).min(SPLIT_AT / 2);
        let right_seen = ((f64::from(seen) * (1.0 - left_share)) as u32).min(SPLIT_AT / 2);
        let below = depth.saturating_add(1);
        self.nodes.push(Node::cell(below, left_seen));
        self.nodes.push(Node::cell(below, right_seen));
        if let Some(node) = self.nodes.get_mut(at) {
            *node = Node { axis, at: cut, left, ..*node };
        }
        true
    }
}

/// The best of a few random cuts: axis, threshold, share on the left.
fn best_cut(here: &[&Past], draws: &mut Draws) -> Option<(u8, i8, f64)> {
    let all: f32 = here.iter().map(|p| p.share).sum();
    if all < 2.0 * SIDE {
        return None;
    }
    let means = Means::of(here);
    let mut best: Option<(f32, u8, i8, f64)> = None;
    let mut tried = 0;
    for _ in 0..CANDIDATES * 3 {
        if tried == CANDIDATES {
            break;
        }
        let (a, b) = (here.get(draws.below(here.len()))?, here.get(draws.below(here.len()))?);
        // Among the axes on which two requests differ: most do not vary within a cell.
        let Some(axis) = a.point.apart(&b.point, draws) else { continue };
        let (x, y) = (a.point.at(axis), b.point.at(axis));
        let (low, high) = (x.min(y), x.max(y));
        let span = usize::from(high.abs_diff(low));
        let cut = low.saturating_add_unsigned(u8::try_from(draws.below(span)).unwrap_or(0));
        let left: f32 = here.iter().filter(|p| p.point.at(axis) <= cut).map(|p| p.share).sum();
        if left < SIDE || all - left < SIDE {
            continue;
        }
        tried += 1;
        let gain = means.gain(here, axis, cut);
        if best.is_none_or(|(g, ..)| gain > g) {
            best = Some((gain, axis, cut, f64::from(left / all)));
        }
    }
    best.map(|(_, axis, cut, share)| (axis, cut, share))
}

/// Mean reward per arm among some outcomes, by arm.
struct Means(Vec<(u32, f32)>);

impl Means {
    fn of(here: &[&Past]) -> Self {
        let mut sorted: Vec<(u32, f32)> = here.iter().map(|p| (p.arm, p.reward)).collect();
        sorted.sort_by_key(|(arm, _)| *arm);
        let mean = |group: &[(u32, f32)]| {
            let arm = group.first()?.0;
            Some((arm, group.iter().map(|(_, r)| r).sum::<f32>() / group.len() as f32))
        };
        Means(sorted.chunk_by(|a, b| a.0 == b.0).filter_map(mean).collect())
    }

    /// Σ over arms and sides of (Σ residual)² / (n + k): how far outcomes of the same arm part.
    fn gain(&self, here: &[&Past], axis: u8, cut: i8) -> f32 {
        let mut sides = vec![[0.0_f32; 4]; self.0.len()];
        for p in here {
            let Ok(at) = self.0.binary_search_by_key(&p.arm, |(arm, _)| *arm) else { continue };
            let (Some(side), Some((_, mean))) = (sides.get_mut(at), self.0.get(at)) else { continue };
            let [ln, ls, rn, rs] = side;
            let (n, s) = if p.point.at(axis) <= cut { (ln, ls) } else { (rn, rs) };
            *n += 1.0;
            *s += p.reward - mean;
        }
        sides.iter().map(|[ln, ls, rn, rs]| ls * ls / (ln + SHRINK) + rs * rs / (rn + SHRINK)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Features;
    use types::axis::TaskFamily;

    fn point(x: f32, y: f32) -> Point {
        let mut v = [0.0; Features::COUNT];
        (v[5], v[9]) = (x, y);
        Point::new(Features::from_values(&v), TaskFamily::Chat, None)
    }

    #[test]
    fn cells_part_what_turns_out_differently() {
        let mut draws = Draws::new(1);
        let (mut tree, mut past) = (Tree::default(), Vec::new());
        for i in 0..400_usize {
            let (x, y) =
                ((draws.below(600) as f32 - 300.0) / 100.0, (draws.below(600) as f32 - 300.0) / 100.0);
            let reward = if x > 0.0 { 1.0 } else { 0.0 };
            past.push(Past { point: point(x, y), arm: (i % 2) as u32, reward, share: 1.0 });
            tree.see(&point(x, y), &past, NODES, &mut draws);
        }
        assert!(tree.is_sound() && tree.len() > 20, "{}", tree.len());
        let mixed = past.iter().filter(|a| {
            let cell = tree.cell(&a.point);
            past.iter().any(|b| tree.cell(&b.point) == cell && b.reward != a.reward)
        });
        let share = mixed.count() as f32 / past.len() as f32;
        assert!(share < 0.4, "{share} of the outcomes share a cell with the other kind");
    }

    #[test]
    fn nodes_stand_after_their_parents_and_ways_end_in_cells() {
        let mut draws = Draws::new(2);
        let (mut tree, mut past) = (Tree::default(), Vec::new());
        for _ in 0..3_000 {
            let p = point(draws.below(600) as f32 / 100.0 - 3.0, draws.below(600) as f32 / 100.0 - 3.0);
            past.push(Past { point: p, arm: 0, reward: 0.5, share: 1.0 });
            past = past.split_off(past.len().saturating_sub(200));
            tree.see(&p, &past, 101, &mut draws);
        }
        assert!(tree.len() <= 101 && tree.len() > 50, "{}", tree.len());
        let parents = tree.parents();
        assert!(parents.iter().enumerate().skip(1).all(|(i, p)| *p < i));
        let way: Vec<usize> = tree.way(&past[0].point).collect();
        assert!(way.windows(2).all(|w| parents[w[1]] == w[0]), "{way:?}");
        let cut_short = Tree { nodes: tree.nodes[..tree.len() - 1].to_vec() };
        assert!(!cut_short.is_sound());
    }

    #[test]
    fn sides_of_a_cut_are_counted_in_requests_not_in_outcomes() {
        let cuts = |share: f32| {
            let past: Vec<Past> = (0..40_u32)
                .map(|i| {
                    let x = (i / 4) as f32 / 2.0 - 2.5;
                    Past { point: point(x, 0.0), arm: i % 4, reward: f32::from(x > 0.0), share }
                })
                .collect();
            let here: Vec<&Past> = past.iter().collect();
            let mut draws = Draws::new(3);
            (0..50).filter_map(|_| best_cut(&here, &mut draws)).collect::<Vec<_>>()
        };
        // Ten requests of four arms each: four of them, or 40 %, stay on either side.
        let of_four = cuts(0.25);
        assert!(!of_four.is_empty());
        assert!(of_four.iter().all(|(.., left)| (0.39..=0.61).contains(left)), "{of_four:?}");
        // Forty requests of one arm each may be cut further out; seven requests cannot be cut at all.
        assert!(cuts(1.0).iter().any(|(.., left)| !(0.39..=0.61).contains(left)));
        assert!(cuts(0.18).is_empty());
    }
}
