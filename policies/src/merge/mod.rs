//! Merging the actions of all matching rules: hard verbs only tighten, soft ones have one tie-break.

mod further;
mod joint;

pub(crate) use further::{FurtherSlots, Hidden, Key, Shared};
pub(crate) use joint::{Join, Joint};

use crate::selection::{Selection, Standing};
use std::collections::BTreeMap;
use std::time::Duration;
use types::directives::{
    self, ActionRecord, Approval, Denial, Directives, Layer, RedactAction, RuleId, Set, TermWeights,
};
use types::matrix::{ModelIx, ModelSet};
use types::units::Usd;

/// Bounds of the sum of `prefer` and `avoid` strengths.
const BOOST: std::ops::RangeInclusive<f64> = -2.0..=2.0;
/// Greatest factor on a term's weight.
const MAX_WEIGHT: f64 = 4.0;

/// Position of an action in the order in which rules are tried.
pub(crate) type At = usize;

/// What decides between actions of which one can hold: the layer of their rules, then the priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) layer: Layer,
    pub(crate) priority: i64,
}

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

    /// The models it names, where it names any.
    fn selections(&self) -> Vec<&Selection> {
        Vec::new()
    }
}

/// The fold over all actions.
#[derive(Default)]
pub(crate) struct Merge {
    /// Of the matrix.
    models: usize,
    /// How they are.
    standing: Standing,
    records: Vec<(ActionRecord, Effect, Rank)>,
    /// By model; empty = nothing is removed.
    removed: Vec<Option<At>>,
    /// By model; empty = nothing is preferred or avoided.
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
    further: Option<Box<FurtherSlots>>,
}

impl Merge {
    /// For a matrix of so many models.
    pub(crate) fn new(models: usize) -> Self {
        Merge { models, ..Merge::default() }
    }

    /// The same while models are so.
    pub(crate) fn under(self, standing: Standing) -> Self {
        Merge { standing, ..self }
    }

    /// Finds out which models an action names, before it is folded in.
    ///
    /// # Errors
    /// A predicate cannot be evaluated.
    pub(crate) fn settle(&mut self, action: &dyn Action) -> Result<(), types::expr::Error> {
        action.selections().into_iter().try_for_each(|s| self.standing.settle(s))
    }

    /// Whether an action that has been settled names models by how they are, and none is so.
    pub(crate) fn names_none(&self, action: &dyn Action) -> bool {
        let none = |s: &&Selection| matches!(s, Selection::Moving(_)) && self.chosen(s).is_empty();
        action.selections().iter().any(none)
    }

    /// The models that an action names; it has been settled.
    pub(crate) fn chosen(&self, selection: &Selection) -> ModelSet {
        self.standing.models(selection)
    }

    /// What is seldom set.
    pub(crate) fn further(&mut self) -> &mut FurtherSlots {
        self.further.get_or_insert_default()
    }

    /// Records an action of a rule of that rank; gives its position.
    fn record(&mut self, record: ActionRecord, effect: Effect, rank: Rank) -> At {
        self.records.push((record, effect, rank));
        self.records.len().saturating_sub(1)
    }

    /// Records and folds an action.
    pub(crate) fn apply(&mut self, record: ActionRecord, action: &dyn Action, rank: Rank) {
        let at = self.record(record, Effect::Applied, rank);
        action.apply(at, self);
    }

    /// Records what a watched rule would have done.
    pub(crate) fn watch(&mut self, record: ActionRecord) {
        self.record(record, Effect::Shadow, Rank::default());
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

    /// Whose word an action is.
    pub(crate) fn layer(&self, at: At) -> Layer {
        self.rank(at).layer
    }

    fn rank(&self, at: At) -> Rank {
        self.records.get(at).map_or_else(Rank::default, |(_, _, rank)| *rank)
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

    /// A ceiling: the lower one counts.
    pub(crate) fn lower<T: PartialOrd>(&mut self, slot: fn(&mut Merge) -> &mut Slot<T>, value: T, at: At) {
        self.offer(slot, value, at, |new, old| new < old);
    }

    /// A demand: the greater one counts.
    pub(crate) fn raise<T: PartialOrd>(&mut self, slot: fn(&mut Merge) -> &mut Slot<T>, value: T, at: At) {
        self.offer(slot, value, at, |new, old| new > old);
    }

    /// What several actions say together.
    pub(crate) fn join<T: Join>(&mut self, joint: fn(&mut Merge) -> &mut Joint<T>, value: T, at: At) {
        joint(self).add(value, at);
    }

    /// A single-valued verb: the greater rank wins, then the earlier rule.
    pub(crate) fn single<T>(&mut self, slot: fn(&mut Merge) -> &mut Slot<T>, value: T, at: At) {
        let held = slot(self).held.as_ref().map(|(_, by)| *by);
        let wins = held.is_none_or(|by| self.rank(at) > self.rank(by));
        self.offer(slot, value, at, |_, _| wins);
    }

    /// Single-valued per name.
    pub(crate) fn single_of<K: Ord, T>(
        &mut self,
        map: fn(&mut Merge) -> &mut BTreeMap<K, Slot<T>>,
        key: K,
        value: T,
        at: At,
    ) {
        let held = map(self).remove(&key).and_then(|slot| slot.held);
        let wins = held.as_ref().is_none_or(|(_, by)| self.rank(at) > self.rank(*by));
        let winner = self.contest(held, (value, at), |_, _| wins);
        map(self).insert(key, Slot { held: winner });
    }

    /// A question to a group; of several to the same group the one that expires first counts.
    pub(crate) fn shorter(
        &mut self,
        map: fn(&mut Merge) -> &mut BTreeMap<String, Slot<Approval>>,
        group: String,
        approval: Approval,
        at: At,
    ) {
        let held = map(self).remove(&group).and_then(|slot| slot.held);
        let winner = self.contest(held, (approval, at), |a, b| a.expires_ms < b.expires_ms);
        map(self).insert(group, Slot { held: winner });
    }

    /// Redacts a kind of value somewhere: the stronger action counts, and what one rule does not want restored
    /// is not.
    pub(crate) fn redact(&mut self, key: Key, action: RedactAction, restore: bool, at: At) {
        self.further().redact.entry(key).or_default().add(Hidden { action, restore }, at);
    }

    /// Sets a label; single-valued per name.
    pub(crate) fn tag(&mut self, name: &str, value: &str, at: At) {
        self.single_of(|m| &mut m.tags, name.to_owned(), value.to_owned(), at);
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
        self.removed.resize(self.models, None);
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

    /// Adds to the boost of models; below 0 to avoid them.
    pub(crate) fn prefer(&mut self, models: &ModelSet, strength: f64, at: At) {
        if models.is_empty() {
            self.no_effect(at, "it matches no model");
        }
        self.boost.resize(self.models, 0.0);
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

    fn effect(&self, effect: &Effect) -> directives::Effect {
        match effect {
            Effect::Applied => directives::Effect::Applied,
            Effect::Overridden(by) => directives::Effect::Overridden(self.rule(*by)),
            Effect::None(why) => directives::Effect::None((*why).into()),
            Effect::Shadow => directives::Effect::Shadow,
        }
    }

    /// An action of which anything holds is applied, though another part of it may have lost.
    fn applied_in_part(&mut self) {
        let tags = self.tags.values().filter_map(|s| s.held.as_ref().map(|(_, at)| *at));
        let validators = self.validators.values().filter_map(|s| s.held.as_ref().map(|(_, at)| *at));
        let further = self.further.iter().flat_map(|f| f.held_in_part());
        for at in tags.chain(validators).chain(further).collect::<Vec<_>>() {
            self.set_effect(at, Effect::Applied);
        }
    }

    /// The result, without the rules' own records.
    pub(crate) fn finish(mut self) -> Directives {
        self.applied_in_part();
        let further = self.further.take().map(|f| Box::new(f.finish(&mut self)));
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
        let records = std::mem::take(&mut self.records);
        let mut actions = Vec::with_capacity(records.len());
        let effects: Vec<directives::Effect> = {
            self.records = records;
            self.records.iter().map(|(_, e, _)| self.effect(e)).collect()
        };
        let (cap_cost, cap_latency) = (self.set(cap_cost), self.set(cap_latency));
        let (cap_max_tokens, cap_temperature) = (self.set(cap_max_tokens), self.set(cap_temperature));
        let workflow = self.set(workflow);
        for ((record, ..), effect) in self.records.into_iter().zip(effects) {
            actions.push(ActionRecord { effect, ..record });
        }
        Directives {
            rules: Vec::new(),
            inputs: Vec::new(),
            actions,
            removed,
            boost,
            weights,
            cap_cost,
            cap_latency,
            cap_max_tokens,
            cap_temperature,
            workflow,
            validators,
            tags,
            further,
            denials: self.denials,
        }
    }
}
