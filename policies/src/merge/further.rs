//! What is seldom set: the slots of its verbs, and their result.

use super::{At, Merge, Slot};
use serde_json::Value;
use std::collections::BTreeMap;
use types::directives::{
    Approval, AssumedPrice, DataDemand, Escalate, Format, Further, LimitRule, LogContent, Place, Redact,
    RedactAction, RetryRule, Set, Sticky, StreamMode, SystemText,
};
use types::privacy::Entity;

/// What is redacted, and where.
pub(crate) type Key = (Entity, Place);

/// Values that actions hold until better ones come.
#[derive(Debug, Default)]
pub(crate) struct FurtherSlots {
    pub(crate) residency: Slot<Vec<String>>,
    pub(crate) data: Slot<DataDemand>,
    pub(crate) min_quality: Slot<f64>,
    pub(crate) explore: Slot<f64>,
    pub(crate) sticky: Slot<Sticky>,
    pub(crate) assume_price: Slot<AssumedPrice>,
    pub(crate) premium: Slot<bool>,
    pub(crate) format: Slot<Format>,
    pub(crate) stream: Slot<StreamMode>,
    pub(crate) vars: BTreeMap<String, Slot<Value>>,
    pub(crate) escalate: Slot<Escalate>,
    pub(crate) retry: Slot<RetryRule>,
    pub(crate) cap_tokens: Slot<u32>,
    pub(crate) cap_calls: Slot<u32>,
    pub(crate) cap_attempts: Slot<u32>,
    pub(crate) params: BTreeMap<String, Slot<Value>>,
    pub(crate) system: Vec<(SystemText, At)>,
    pub(crate) limits: Vec<(LimitRule, At)>,
    pub(crate) approvals: BTreeMap<String, Slot<Approval>>,
    pub(crate) redact: BTreeMap<Key, Slot<(RedactAction, bool)>>,
    pub(crate) allow_tools: Vec<(Vec<String>, At)>,
    pub(crate) deny_tools: Vec<(String, At)>,
    pub(crate) log: Slot<LogContent>,
    pub(crate) audit: Slot<()>,
    pub(crate) headers: BTreeMap<String, Slot<String>>,
}

fn holders<K, T>(map: &BTreeMap<K, Slot<T>>) -> impl Iterator<Item = At> + '_ {
    map.values().filter_map(|s| s.held.as_ref().map(|(_, at)| *at))
}

impl FurtherSlots {
    /// Positions of actions that set several values at once and of which one is in force.
    pub(super) fn held_in_part(&self) -> Vec<At> {
        let maps = holders(&self.vars).chain(holders(&self.params)).chain(holders(&self.headers));
        maps.chain(holders(&self.redact)).chain(holders(&self.approvals)).collect()
    }

    /// The result.
    pub(super) fn finish(self, merge: &mut Merge) -> Further {
        let merge = &*merge;
        let list = |l: Vec<(LimitRule, At)>| each(merge, l);
        let redact = self.redact.into_iter().filter_map(|((entity, place), slot)| {
            let ((action, restore), at) = slot.held?;
            Some(Set { value: Redact { entity, place, action, restore }, rule: merge.rule(at) })
        });
        Further {
            residency: merge.set(self.residency),
            data: merge.set(self.data),
            min_quality: merge.set(self.min_quality),
            explore: merge.set(self.explore),
            sticky: merge.set(self.sticky),
            assume_price: merge.set(self.assume_price),
            premium: merge.set(self.premium),
            format: merge.set(self.format),
            stream: merge.set(self.stream),
            vars: named(merge, self.vars),
            escalate: merge.set(self.escalate),
            retry: merge.set(self.retry),
            cap_tokens: merge.set(self.cap_tokens),
            cap_calls: merge.set(self.cap_calls),
            cap_attempts: merge.set(self.cap_attempts),
            params: named(merge, self.params),
            system: each(merge, in_order(merge, self.system)),
            limits: list(self.limits),
            approvals: self.approvals.into_values().filter_map(|s| merge.set(s)).collect(),
            redact: redact.collect(),
            allow_tools: each(merge, self.allow_tools),
            deny_tools: each(merge, self.deny_tools),
            log: merge.set(self.log),
            audit: self.audit.held.map(|(_, at)| merge.rule(at)),
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

/// By falling priority; of equal ones in the order of the rules.
fn in_order<T>(merge: &Merge, mut list: Vec<(T, At)>) -> Vec<(T, At)> {
    list.sort_by_key(|(_, at)| std::cmp::Reverse(merge.priority(*at)));
    list
}
