//! Values that several rules say together, and which of the rules matter for what they come to.

use super::At;

/// A value of which several come to one: in any order, and twice the same is the same.
pub(crate) trait Join: Clone + PartialEq {
    /// What both come to.
    #[must_use]
    fn join(self, other: Self) -> Self;
}

impl Join for () {
    fn join(self, (): ()) {}
}

/// Values of actions that hold together.
#[derive(Debug)]
pub(crate) struct Joint<T> {
    parts: Vec<(T, At)>,
}

impl<T> Default for Joint<T> {
    fn default() -> Self {
        Joint { parts: Vec::new() }
    }
}

/// What the parts come to.
pub(crate) struct Sum<T> {
    pub(crate) value: T,
    /// The first action without which it would be another value.
    pub(crate) by: At,
    /// All of these, the latest first.
    pub(crate) needed: Vec<At>,
    /// Actions without which it would be the same, with the one that says as much; `None` where only several together do.
    pub(crate) moot: Vec<(At, Option<At>)>,
}

impl<T> Joint<T> {
    /// Whether nobody says anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

impl<T: Join> Joint<T> {
    /// Adds what an action says.
    pub(crate) fn add(&mut self, value: T, at: At) {
        self.parts.push((value, at));
    }

    /// What all come to; `None` = nobody says anything. Of actions that say the same the first one matters.
    pub(crate) fn sum(self) -> Option<Sum<T>> {
        // What comes before each part, joined.
        let mut before: Vec<Option<T>> = Vec::with_capacity(self.parts.len());
        let mut all: Option<T> = None;
        for (value, _) in &self.parts {
            before.push(all.clone());
            all = with(all, value);
        }
        let value = all?;
        let mut after: Option<T> = None;
        let (mut needed, mut moot) = (Vec::<(T, At)>::new(), Vec::new());
        for ((part, at), before) in self.parts.into_iter().zip(before).rev() {
            let rest = match (before, &after) {
                (Some(before), Some(after)) => Some(before.join(after.clone())),
                (before, after) => before.or_else(|| after.clone()),
            };
            if rest.as_ref() == Some(&value) {
                moot.push((part, at));
            } else {
                after = with(after, &part);
                needed.push((part, at));
            }
        }
        let by = needed.last().map(|(_, at)| *at)?;
        let says = |all: &T, part: &T| all.clone().join(part.clone()) == *all;
        let alone = |part: &T| needed.iter().rev().find(|(n, _)| says(n, part)).map(|(_, at)| *at);
        let moot = moot.iter().map(|(part, at)| (*at, alone(part))).collect();
        Some(Sum { value, by, needed: needed.into_iter().map(|(_, at)| at).collect(), moot })
    }
}

fn with<T: Join>(all: Option<T>, part: &T) -> Option<T> {
    Some(match all {
        Some(all) => all.join(part.clone()),
        None => part.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Join for u8 {
        fn join(self, other: u8) -> u8 {
            self | other
        }
    }

    /// Bits that are said in this order: what matters, and what says as much as the others.
    #[track_caller]
    fn check(parts: &[u8], needed: &[At], moot: &[(At, Option<At>)]) {
        let mut joint = Joint::default();
        parts.iter().enumerate().for_each(|(at, part)| joint.add(*part, at));
        let sum = joint.sum().unwrap();
        assert_eq!(sum.value, parts.iter().fold(0, |a, b| a | b));
        let mut got = (sum.needed, sum.moot);
        got.0.sort_unstable();
        got.1.sort_unstable();
        assert_eq!((got.0.as_slice(), got.1.as_slice()), (needed, moot));
        assert_eq!(sum.by, needed[0]);
    }

    #[test]
    fn who_changes_nothing_is_told_from_who_does() {
        assert!(Joint::<u8>::default().sum().is_none());
        check(&[1], &[0], &[]);
        check(&[1, 2], &[0, 1], &[]);
        check(&[1, 1, 1], &[0], &[(1, Some(0)), (2, Some(0))]);
        check(&[1, 3], &[1], &[(0, Some(1))]);
        check(&[3, 5, 6], &[0, 1], &[(2, None)]);
        check(&[4, 1, 2, 3], &[0, 1, 2], &[(3, None)]);
    }
}
