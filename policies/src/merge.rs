//! Merging the actions of all matching rules: hard verbs only tighten, soft ones have one tie-break.

use std::collections::BTreeMap;
use std::time::Duration;
use types::directives::{ActionRecord, Denial, Directives, RuleId, Set, TermWeights};
use types::matrix::{ModelIx, ModelSet};
use types::units::Usd;

/// Bounds of the sum of `prefer` strengths.
const BOOST: std::ops::RangeInclusive<f64> = -2.0..=2.0;
/// Greatest factor on a term's weight.
const MAX_WEIGHT: f64 = 4.0;

/// Position of an action in the order in which rules are tried.
pub(crate) type At = usize;

/// What became of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Applied,
    /// Another action won; the position of the winner.
    Overridden(At),
    None(&'static str),
    Shadow,
}

/// A value that one action holds until a better one comes.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    held: Option<(T, At)>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot { held: None }
    }
}

/// An action that a verb has read: what it does to the result.
pub(crate) trait Action: std::fmt::Debug + Send + Sync {
    /// Folds the action, which stands at `at`, into the result.
    fn apply(&self, at: At, merge: &mut Merge);
}

/// The fold over all actions.
pub(crate) struct Merge {
    records: Vec<(ActionRecord, Effect, i64)>,
    removed: Vec<Option<At>>,
    boost: Vec<f64>,
    weights: TermWeights,
    pub(crate) cap_cost: Slot<Usd>,
    pub(crate) cap_latency: Slot<Duration>,
    pub(crate) cap_max_tokens: Slot<u32>,
    pub(crate) cap_temperature: Slot<f64>,
    pub(crate) workflow: Slot<String>,
    tags: BTreeMap<String, Slot<String>>,
    /// By name, parameters, and whether a severity is stated.
    validators: BTreeMap<(String, String, bool), Slot<crate::verb::Validator>>,
    denials: Vec<Denial>,
}

impl Merge {
    /// For a matrix of so many models.
    pub(crate) fn new(models: usize) -> Self {
        Merge {
            records: Vec::new(),
            removed: vec![None; models],
            boost: vec![0.0; models],
            weights: TermWeights::default(),
            cap_cost: Slot::default(),
            cap_latency: Slot::default(),
            cap_max_tokens: Slot::default(),
            cap_temperature: Slot::default(),
            workflow: Slot::default(),
            tags: BTreeMap::new(),
            validators: BTreeMap::new(),
            denials: Vec::new(),
        }
    }

    /// Records an action of a rule with that priority; gives its position.
    fn record(&mut self, record: ActionRecord, effect: Effect, priority: i64) -> At {
        self.records.push((record, effect, priority));
        self.records.len().saturating_sub(1)
    }

    /// Records and folds an action.
    pub(crate) fn apply(&mut self, record: ActionRecord, action: &dyn Action, priority: i64) {
        let at = self.record(record, Effect::Applied, priority);
        action.apply(at, self);
    }

    /// Records what a watched rule would have done.
    pub(crate) fn watch(&mut self, record: ActionRecord) {
        self.record(record, Effect::Shadow, 0);
    }

    fn set_effect(&mut self, at: At, effect: Effect) {
        if let Some((_, e, _)) = self.records.get_mut(at) {
            *e = effect;
        }
    }

    /// Notes that an action did nothing, and why.
    pub(crate) fn no_effect(&mut self, at: At, why: &'static str) {
        self.set_effect(at, Effect::None(why));
    }

    fn rule(&self, at: At) -> RuleId {
        self.records.get(at).map_or_else(|| "?".into(), |(r, ..)| RuleId::clone(&r.rule))
    }

    fn priority(&self, at: At) -> i64 {
        self.records.get(at).map_or(0, |(_, _, p)| *p)
    }

    /// Puts the value into the slot if it beats the one that is there; the loser is overridden.
    pub(crate) fn offer<T>(
        &mut self,
        slot: fn(&mut Merge) -> &mut Slot<T>,
        value: T,
        at: At,
        beats: impl FnOnce(&T, &T) -> bool,
    ) {
        let held = slot(self).held.take();
        let winner = self.contest(held, (value, at), beats);
        slot(self).held = winner;
    }

    fn contest<T>(
        &mut self,
        held: Option<(T, At)>,
        offered: (T, At),
        beats: impl FnOnce(&T, &T) -> bool,
    ) -> Option<(T, At)> {
        let Some(held) = held else { return Some(offered) };
        let (winner, loser) = if beats(&offered.0, &held.0) { (offered, held.1) } else { (held, offered.1) };
        self.set_effect(loser, Effect::Overridden(winner.1));
        Some(winner)
    }

    /// A single-valued verb: the greater priority wins, then the earlier rule.
    pub(crate) fn single<T>(&mut self, slot: fn(&mut Merge) -> &mut Slot<T>, value: T, at: At) {
        let held = slot(self).held.as_ref().map(|(_, by)| *by);
        let wins = held.is_none_or(|by| self.priority(at) > self.priority(by));
        self.offer(slot, value, at, |_, _| wins);
    }

    /// Sets a label; single-valued per name.
    pub(crate) fn tag(&mut self, name: &str, value: &str, at: At) {
        let slot = self.tags.entry(name.to_owned()).or_default();
        let held = slot.held.take();
        let wins = held.as_ref().is_none_or(|(_, by)| self.priority(at) > self.priority(*by));
        let winner = self.contest(held, (value.to_owned(), at), |_, _| wins);
        self.tags.insert(name.to_owned(), Slot { held: winner });
    }

    /// Adds a validator; of equal ones the strictest counts.
    pub(crate) fn validator(&mut self, validator: &crate::verb::Validator, at: At) {
        let key = validator.key();
        let held = self.validators.remove(&key).and_then(|s| s.held);
        let winner = self.contest(held, (validator.clone(), at), |a, b| a.severity > b.severity);
        self.validators.insert(key, Slot { held: winner });
    }

    /// Removes every model for which `gone` holds.
    pub(crate) fn remove(&mut self, at: At, gone: impl Fn(ModelIx) -> bool) {
        let mut any = false;
        for (i, slot) in self.removed.iter_mut().enumerate() {
            let ix = u16::try_from(i).map(ModelIx);
            if slot.is_none() && ix.is_ok_and(&gone) {
                *slot = Some(at);
                any = true;
            }
        }
        if !any {
            self.no_effect(at, "it removes no further model");
        }
    }

    /// Adds to the boost of models.
    pub(crate) fn prefer(&mut self, models: &ModelSet, strength: f64, at: At) {
        if models.is_empty() {
            self.no_effect(at, "it matches no model");
        }
        for ix in models.iter() {
            if let Some(b) = self.boost.get_mut(usize::from(ix.0)) {
                *b += strength;
            }
        }
    }

    /// Multiplies the weight of a term.
    pub(crate) fn weight(&mut self, term: &str, factor: f64) {
        if let Some(w) = self.weights.weight(term) {
            *w *= factor;
        }
    }

    /// Refuses the request.
    pub(crate) fn deny(&mut self, at: At, denial: impl FnOnce(RuleId) -> Denial) {
        let denial = denial(self.rule(at));
        self.denials.push(denial);
    }

    fn set<T>(&self, slot: Slot<T>) -> Option<Set<T>> {
        slot.held.map(|(value, at)| Set { value, rule: self.rule(at) })
    }

    fn effect(&self, effect: &Effect) -> String {
        match effect {
            Effect::Applied => "applied".to_owned(),
            Effect::Overridden(by) => format!("overridden by {}", self.rule(*by)),
            Effect::None(why) => format!("no effect: {why}"),
            Effect::Shadow => "shadow".to_owned(),
        }
    }

    /// An action of which anything holds is applied, though another part of it may have lost.
    fn applied_in_part(&mut self) {
        let tags = self.tags.values().filter_map(|s| s.held.as_ref().map(|(_, at)| *at));
        let validators = self.validators.values().filter_map(|s| s.held.as_ref().map(|(_, at)| *at));
        for at in tags.chain(validators).collect::<Vec<_>>() {
            self.set_effect(at, Effect::Applied);
        }
    }

    /// The result, without the rules' own records.
    pub(crate) fn finish(mut self) -> Directives {
        self.applied_in_part();
        let mut weights = self.weights;
        for name in TermWeights::NAMES {
            if let Some(w) = weights.weight(name) {
                *w = w.clamp(0.0, MAX_WEIGHT);
            }
        }
        let index = |i: usize| u16::try_from(i).map(ModelIx).ok();
        let removed = self.removed.iter().enumerate();
        let removed = removed.filter_map(|(i, at)| Some((index(i)?, self.rule((*at)?)))).collect();
        let boosted = self.boost.iter().enumerate().filter(|(_, b)| **b != 0.0);
        let boost =
            boosted.filter_map(|(i, b)| Some((index(i)?, b.clamp(*BOOST.start(), *BOOST.end())))).collect();
        let (cap_cost, cap_latency) =
            (std::mem::take(&mut self.cap_cost), std::mem::take(&mut self.cap_latency));
        let (cap_max_tokens, cap_temperature) =
            (std::mem::take(&mut self.cap_max_tokens), std::mem::take(&mut self.cap_temperature));
        let workflow = std::mem::take(&mut self.workflow);
        let validators = std::mem::take(&mut self.validators).into_values();
        let validators = validators.filter_map(|slot| self.set(slot));
        let validators = validators.map(|s| Set { value: s.value.to_json(), rule: s.rule }).collect();
        let tags = std::mem::take(&mut self.tags).into_iter();
        let tags = tags.filter_map(|(name, slot)| Some((name, slot.held?.0))).collect();
        let actions = self.records.iter();
        let actions = actions.map(|(r, e, _)| ActionRecord { effect: self.effect(e), ..r.clone() }).collect();
        Directives {
            rules: Vec::new(),
            actions,
            removed,
            boost,
            weights,
            cap_cost: self.set(cap_cost),
            cap_latency: self.set(cap_latency),
            cap_max_tokens: self.set(cap_max_tokens),
            cap_temperature: self.set(cap_temperature),
            workflow: self.set(workflow),
            validators,
            tags,
            further: None,
            denials: self.denials,
        }
    }
}
