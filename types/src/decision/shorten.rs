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
/// nodes noted, actions beyond the first, nodes beyond the first, rules that were off.
const PARTS: [Leave; 8] = [
    |d, _| ("rules", without(&mut d.rules, |rule| rule.result == RuleResult::NotMatched)),
    |d, _| ("arms", arms(d)),
    |d, _| ("excluded", cut(&mut d.excluded)),
    |d, _| ("inputs", std::mem::take(&mut d.inputs).len()),
    |_, run| ("findings", run.steps.iter_mut().map(|s| std::mem::take(&mut s.findings).len()).sum()),
    |d, _| ("actions", cut(&mut d.actions)),
    |_, run| ("steps", cut(&mut run.steps)),
    |d, _| ("rules", without(&mut d.rules, |rule| rule.result == RuleResult::Disabled)),
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
                let all = decision.left_out.entry(name.into()).or_default();
                *all = all.saturating_add(entries);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axis::{OutputContract, TaskFamily, ToolDependence};
    use crate::begun::{Beginning, Begun, unsettled};
    use crate::directives::{Layer, RuleRecord};
    use crate::profile::Cell;
    use crate::profile::LengthBand;
    use std::sync::Arc;

    fn decision() -> Decision {
        let cell = Cell {
            family: TaskFamily::Chat,
            sub: None,
            contract: OutputContract::Prose,
            tools: ToolDependence::None,
            length: LengthBand::S,
        };
        let of = Beginning {
            request_id: "r".to_owned(),
            ts_ms: 0,
            tenant: "acme".to_owned(),
            key: String::new(),
            tags: BTreeMap::new(),
            cell,
            model_asked: "auto".to_owned(),
            workflow: "default".into(),
            model: "p/m".into(),
            bundle: String::new(),
            retention_ms: None,
            counters: Vec::new(),
        };
        let begun = Begun {
            of: Arc::new(of),
            call: "p/m".into(),
            reserved: None,
            tokens: None,
            counters: Vec::new(),
            late: false,
        };
        unsettled(&[begun]).unwrap().decision
    }

    #[test]
    fn rules_that_are_off_go_last_and_are_counted_with_the_others() {
        let results =
            [RuleResult::NotMatched, RuleResult::Disabled, RuleResult::Disabled, RuleResult::Matched];
        let rule = |result| RuleRecord {
            id: "r".into(),
            layer: Layer::Platform,
            result,
            detail: None,
            because: None,
        };
        let long = Decision { rules: results.map(rule).into(), ..decision() };
        let kept = |most: usize| {
            let (short, _) = long.shortened(&Run::default(), |d, _| d.rules.len() <= most);
            (short.rules.len(), short.left_out.get("rules").copied())
        };
        assert_eq!(
            [kept(4), kept(3), kept(2), kept(0)],
            [(4, None), (3, Some(1)), (1, Some(3)), (1, Some(3))]
        );
    }
}
