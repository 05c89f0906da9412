//! What is believed of every arm in every node of one tree, as requests read it: θ = a·c + b, and the correction of
//! the cost. Arms stand in groups whose numbers lie side by side, so that a request takes up a whole group at once.

/// Arms of a group: as many as fill a line of the processor's cache with one number each.
pub(super) const GROUP: usize = 16;

/// One number of each arm of a group.
pub(super) type Each = [f32; GROUP];

/// Adds the numbers of another list.
pub(super) fn add(to: &mut Each, from: &Each) {
    for (x, y) in to.iter_mut().zip(from) {
        *x += y;
    }
}

/// The number of an arm; `none` where a group holds no such place.
pub(super) fn of_arm(each: &Each, arm: usize, none: f32) -> f32 {
    each.get(arm % GROUP).copied().unwrap_or(none)
}

/// What one node says of the arms of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Thetas {
    pub(super) a: Each,
    pub(super) b: Each,
    pub(super) cost: Each,
}

/// What one node says of one arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Theta {
    pub(super) a: f32,
    pub(super) b: f32,
    pub(super) cost: f32,
}

/// What is believed where nothing was seen: the prior, and that the forecast of the cost is right.
pub(super) const PRIOR: Theta = Theta { a: 1.0, b: 0.0, cost: 1.0 };
const PRIORS: Thetas = Thetas { a: [PRIOR.a; GROUP], b: [PRIOR.b; GROUP], cost: [PRIOR.cost; GROUP] };

impl Thetas {
    /// The mean of those of several trees; the prior where there are none.
    pub(super) fn mean<'a>(trees: impl Iterator<Item = &'a Thetas>) -> Thetas {
        let mut sum = Thetas { a: [0.0; GROUP], b: [0.0; GROUP], cost: [0.0; GROUP] };
        let mut n = 0.0;
        for tree in trees {
            add(&mut sum.a, &tree.a);
            add(&mut sum.b, &tree.b);
            add(&mut sum.cost, &tree.cost);
            n += 1.0;
        }
        if n > 0.0 {
            Thetas { a: sum.a.map(|x| x / n), b: sum.b.map(|x| x / n), cost: sum.cost.map(|x| x / n) }
        } else {
            PRIORS
        }
    }

    pub(super) fn of(&self, arm: usize) -> Theta {
        Theta {
            a: of_arm(&self.a, arm, PRIOR.a),
            b: of_arm(&self.b, arm, PRIOR.b),
            cost: of_arm(&self.cost, arm, PRIOR.cost),
        }
    }
}

/// One tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    /// Of every node.
    groups: usize,
    /// By node, then group.
    thetas: Vec<Thetas>,
}

impl Table {
    /// The prior in so many nodes for so many arms.
    pub(super) fn new(nodes: usize, arms: usize) -> Self {
        let groups = arms.div_ceil(GROUP);
        Table { groups, thetas: vec![PRIORS; nodes.saturating_mul(groups)] }
    }

    /// Whether it has room for so many nodes and arms, and no more.
    pub(super) fn fits(&self, nodes: usize, arms: usize) -> bool {
        self.groups == arms.div_ceil(GROUP) && self.thetas.len() == nodes.saturating_mul(self.groups)
    }

    fn place(&self, node: usize, group: usize) -> usize {
        node.saturating_mul(self.groups).saturating_add(group)
    }

    /// What a node says of a group.
    pub(super) fn of_group(&self, node: usize, group: usize) -> Option<&Thetas> {
        self.thetas.get(self.place(node, group)).filter(|_| group < self.groups)
    }

    /// What a node says of an arm.
    pub(super) fn of(&self, node: usize, arm: usize) -> Theta {
        self.of_group(node, arm / GROUP).map_or(PRIOR, |group| group.of(arm))
    }

    pub(super) fn set(&mut self, node: usize, arm: usize, is: Theta) {
        let (place, at) = (self.place(node, arm / GROUP), arm % GROUP);
        let Some(Thetas { a, b, cost }) = self.thetas.get_mut(place) else { return };
        if let (Some(a), Some(b), Some(cost)) = (a.get_mut(at), b.get_mut(at), cost.get_mut(at)) {
            (*a, *b, *cost) = (is.a, is.b, is.cost);
        }
    }
}
