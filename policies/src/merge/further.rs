//! What is seldom set: the slots of its verbs, and their result.

use super::{At, Effect, Join, Joint, Merge, Slot};
use serde_json::Value;
use std::collections::BTreeMap;
use types::directives::{
    Approval, AssumedPrice, CacheRule, DataDemand, Escalate, Format, Further, HedgeRule, LimitRule,
    LogContent, Place, Priority, Redact, RedactAction, RepairRule, RetryRule, Set, ShadowRule, Sticky,
    StreamMode, SystemText,
};
use types::privacy::Entity;

/// What is redacted, and where.
pub(crate) type Key = (Entity, Place);

/// How a kind of value is redacted: the stronger action counts, and it is put back if every rule wants that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub(crate) action: RedactAction,
    pub(crate) restore: bool,
}

impl Join for Hidden {
    fn join(self, other: Self) -> Self {
        Hidden { action: self.action.max(other.action), restore: self.restore && other.restore }
    }
}

/// Names in their order, each once; of several lists what stands in all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shared(Vec<String>);

impl Shared {
    /// Of names in any order.
    pub(crate) fn of(mut names: Vec<String>) -> Self {
        names.sort();
        names.dedup();
        Shared(names)
    }
}

impl Join for Shared {
    fn join(self, other: Self) -> Self {
        Shared(self.0.into_iter().filter(|name| other.0.contains(name)).collect())
    }
}

/// Actions whose values were joined with those of others.
#[derive(Default)]
struct Joined {
    /// Each is needed for what some value comes to.
    needed: Vec<At>,
    /// Each says no more of some value than the others do, or than that one.
    moot: Vec<(At, Option<At>)>,
}

impl Joined {
    /// What the values come to, with the rule that is named for it.
    fn sum<T: Join>(&mut self, merge: &Merge, joint: Joint<T>) -> Option<Set<T>> {
        let sum = joint.sum()?;
        self.needed.extend(sum.needed);
        self.moot.extend(sum.moot);
        Some(Set { value: sum.value, rule: merge.rule(sum.by) })
    }

    /// As [`Joined::sum`], of actions that remove models, too: one that does so has an effect.
    fn sum_beside<T: Join>(&mut self, merge: &Merge, joint: Joint<T>) -> Option<Set<T>> {
        let sum = joint.sum()?;
        self.needed.extend(sum.needed);
        Some(Set { value: sum.value, rule: merge.rule(sum.by) })
    }

    /// Tells of each action whether it has an effect: it has, if it is needed for any of its values.
    fn tell(self, merge: &mut Merge) {
        for (at, by) in self.moot {
            merge.set_effect(at, by.map_or(Effect::None("the others say as much"), Effect::Overridden));
        }
        for at in self.needed {
            merge.set_effect(at, Effect::Applied);
        }
    }
}

/// Values that actions hold until better ones come.
#[derive(Debug, Default)]
pub(crate) struct FurtherSlots {
    pub(crate) residency: Joint<Shared>,
    pub(crate) data: Joint<DataDemand>,
    pub(crate) min_quality: Slot<f64>,
    pub(crate) explore: Slot<f64>,
    pub(crate) sticky: Slot<Sticky>,
    pub(crate) assume_price: Slot<AssumedPrice>,
    pub(crate) premium: Slot<bool>,
    pub(crate) priority: Slot<Priority>,
    pub(crate) format: Slot<Format>,
    pub(crate) stream: Slot<StreamMode>,
    pub(crate) vars: BTreeMap<String, Slot<Value>>,
    pub(crate) escalate: Slot<Escalate>,
    pub(crate) retry: Slot<RetryRule>,
    pub(crate) cap_tokens: Slot<u32>,
    pub(crate) cap_calls: Slot<u32>,
    pub(crate) cap_attempts: Slot<u32>,
    pub(crate) fanout: Slot<u32>,
    pub(crate) cap_fanout: Slot<u32>,
    pub(crate) hedge: Slot<HedgeRule>,
    pub(crate) repair: Slot<RepairRule>,
    pub(crate) params: BTreeMap<String, Slot<Value>>,
    pub(crate) system: Vec<(SystemText, At)>,
    pub(crate) limits: Vec<(LimitRule, At)>,
    pub(crate) approvals: BTreeMap<String, Slot<Approval>>,
    pub(crate) redact: BTreeMap<Key, Joint<Hidden>>,
    pub(crate) allow_tools: Vec<(Vec<String>, At)>,
    pub(crate) deny_tools: Vec<(String, At)>,
    pub(crate) log: Slot<LogContent>,
    pub(crate) retention: Slot<u64>,
    pub(crate) experiment: Joint<Shared>,
    pub(crate) shadow: Vec<(ShadowRule, At)>,
    pub(crate) cache: Joint<CacheRule>,
    pub(crate) audit: Joint<()>,
    pub(crate) headers: BTreeMap<String, Slot<String>>,
}

fn holders<K, T>(map: &BTreeMap<K, Slot<T>>) -> impl Iterator<Item = At> + '_ {
    map.values().filter_map(|s| s.held.as_ref().map(|(_, at)| *at))
}

impl FurtherSlots {
    /// Positions of actions that set several values at once and of which one is in force.
    pub(super) fn held_in_part(&self) -> Vec<At> {
        let log = self.log.held.as_ref().map(|(_, at)| *at);
        let retention = self.retention.held.as_ref().map(|(_, at)| *at);
        let maps = holders(&self.vars).chain(holders(&self.params)).chain(holders(&self.headers));
        maps.chain(holders(&self.approvals)).chain(log).chain(retention).collect()
    }

    /// What one verb leaves of another: samples within their ceiling, further calls only where calls are left, and no run
    /// beside a request that is kept out of what is tried.
    fn cross(&mut self, merge: &mut Merge) {
        if !self.experiment.is_empty() {
            for (_, at) in self.shadow.drain(..) {
                merge.no_effect(at, "`experiment` keeps the request out of it");
            }
        }
        if let (Some((samples, at)), Some((cap, by))) = (&mut self.fanout.held, &self.cap_fanout.held)
            && *samples > *cap
        {
            *samples = *cap;
            merge.set_effect(*at, Effect::Overridden(*by));
        }
        let Some(calls) = self.cap_calls.held.as_ref().map(|(calls, _)| *calls) else { return };
        if let Some((_, at)) = self.fanout.held.take_if(|(samples, _)| *samples > calls) {
            merge.no_effect(at, "`cap_calls` allows fewer calls");
        }
        let samples = self.fanout.held.as_ref().map_or(1, |(samples, _)| *samples);
        let begins = |(rule, _): &mut (HedgeRule, At)| *rule != HedgeRule::None;
        if calls <= samples
            && let Some((_, at)) = self.hedge.held.take_if(begins)
        {
            merge.no_effect(at, "`cap_calls` leaves no call for it");
        }
    }

    /// The result.
    pub(super) fn finish(mut self, merge: &mut Merge) -> Further {
        self.cross(merge);
        let mut joined = Joined::default();
        let residency = joined.sum_beside(merge, self.residency);
        let residency = residency.map(|s| Set { value: s.value.0, rule: s.rule });
        let data = joined.sum_beside(merge, self.data);
        let redact = self.redact.into_iter().filter_map(|((entity, place), joint)| {
            let Set { value: Hidden { action, restore }, rule } = joined.sum(merge, joint)?;
            Some(Set { value: Redact { entity, place, action, restore }, rule })
        });
        let redact = redact.collect();
        let experiment = joined.sum(merge, self.experiment);
        let experiment = experiment.map(|s| Set { value: s.value.0, rule: s.rule });
        let cache = joined.sum(merge, self.cache);
        let audit = joined.sum(merge, self.audit).map(|s| s.rule);
        joined.tell(merge);
        let merge = &*merge;
        let list = |l: Vec<(LimitRule, At)>| each(merge, l);
        Further {
            residency,
            data,
            min_quality: merge.set(self.min_quality),
            explore: merge.set(self.explore),
            sticky: merge.set(self.sticky),
            assume_price: merge.set(self.assume_price),
            premium: merge.set(self.premium),
            priority: merge.set(self.priority),
            format: merge.set(self.format),
            stream: merge.set(self.stream),
            vars: named(merge, self.vars),
            escalate: merge.set(self.escalate),
            retry: merge.set(self.retry),
            cap_tokens: merge.set(self.cap_tokens),
            cap_calls: merge.set(self.cap_calls),
            cap_attempts: merge.set(self.cap_attempts),
            fanout: merge.set(self.fanout),
            cap_fanout: merge.set(self.cap_fanout),
            hedge: merge.set(self.hedge),
            repair: merge.set(self.repair),
            params: named(merge, self.params),
            system: each(merge, in_order(merge, self.system)),
            limits: list(self.limits),
            approvals: self.approvals.into_values().filter_map(|s| merge.set(s)).collect(),
            redact,
            allow_tools: each(merge, self.allow_tools),
            deny_tools: each(merge, self.deny_tools),
            log: merge.set(self.log),
            retention: merge.set(self.retention),
            experiment,
            shadow: each(merge, self.shadow),
            cache,
            audit,
            headers: named(merge, self.headers),
        }
    }
}

fn each<T>(merge: &Merge, list: Vec<(T, At)>) -> Vec<Set<T>> {
    list.into_iter().map(|(value, at)| Set { value, rule: merge.rule(at) }).collect()
}

fn named<T>(merge: &Merge, map: BTreeMap<String, Slot<T>>) -> BTreeMap<String, Set<T>> {
    map.into_iter().filter_map(|(name, slot)| Some((name, merge.set(slot)?))).collect()
}

/// By falling rank; of equal ones in the order of the rules.
fn in_order<T>(merge: &Merge, mut list: Vec<(T, At)>) -> Vec<(T, At)> {
    list.sort_by_key(|(_, at)| std::cmp::Reverse(merge.rank(*at)));
    list
}
