//! A record that would be too long: what says least of the choice goes first, and the record says what went.

use super::{Arm, Decision};
use crate::directives::RuleResult;
use crate::run::Run;
use std::collections::BTreeMap;

/// Most bytes of the record of one request: how it was decided, and what it ran.
pub const LONGEST: usize = 256 << 10;

/// Entries of a list that are kept where the list is cut.
const KEPT: usize = 32;

/// Leaves a part of a record out; gives what that is called, and of how many entries it was.
type Leave = fn(&mut Decision, &mut Run) -> (&'static str, usize);

/// In this order: rules that did not apply, arms and exclusions beyond the first, what rules read, what checks found and
/// nodes noted, actions beyond the first.
const PARTS: [Leave; 7] = [
    |d, _| ("rules", without(&mut d.rules, |rule| rule.result == RuleResult::NotMatched)),
    |d, _| ("arms", arms(d)),
    |d, _| ("excluded", cut(&mut d.excluded)),
    |d, _| ("inputs", std::mem::take(&mut d.inputs).len()),
    |_, run| ("findings", run.steps.iter_mut().map(|s| std::mem::take(&mut s.findings).len()).sum()),
    |d, _| ("actions", cut(&mut d.actions)),
    |_, run| ("steps", cut(&mut run.steps)),
];

impl Decision {
    /// This and its run, as much shorter as it takes until they fit; what was left out stands in
    /// [`Decision::left_out`].
    #[must_use]
    pub fn shortened(&self, run: &Run, fits: impl Fn(&Decision, &Run) -> bool) -> (Decision, Run) {
        let (mut decision, mut run) = (self.clone(), run.clone());
        for leave in PARTS {
            if fits(&decision, &run) {
                break;
            }
            let (name, entries) = leave(&mut decision, &mut run);
            if entries > 0 {
                decision.left_out.insert(name.into(), entries);
            }
        }
        (decision, run)
    }
}

/// What a record says of parts that it leaves out: their names, with how many entries each had.
pub type LeftOut = BTreeMap<std::borrow::Cow<'static, str>, usize>;

fn without<T>(list: &mut Vec<T>, drop: impl Fn(&T) -> bool) -> usize {
    let before = list.len();
    list.retain(|one| !drop(one));
    before.saturating_sub(list.len())
}

fn cut<T>(list: &mut Vec<T>) -> usize {
    let beyond = list.len().saturating_sub(KEPT);
    list.truncate(KEPT);
    beyond
}

/// The best arms, and the chosen one wherever it stood.
fn arms(d: &mut Decision) -> usize {
    let beyond = d.chosen.filter(|at| *at >= KEPT);
    let chosen: Option<Arm> = beyond.and_then(|at| d.arms.get(at).cloned());
    let before = d.arms.len();
    cut(&mut d.arms);
    if let Some(arm) = chosen {
        d.chosen = Some(d.arms.len());
        d.arms.push(arm);
    }
    before.saturating_sub(d.arms.len())
}
