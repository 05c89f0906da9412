//! What a selector comes to: a set that is settled when it is loaded, or one that goes by how the models are when a
//! request comes.

use crate::expression::{Condition, Vars};
use crate::inputs::{MODEL, ModelState, ModelStates, Val};
use crate::native::{Path, Read};
use serde_json::Value;
use std::sync::Arc;
use types::expr::{self, Scope};
use types::matrix::{ModelIx, ModelSet};

/// The models that a selector names.
#[derive(Clone, Debug)]
pub(crate) enum Selection {
    /// The same for every request.
    Settled(ModelSet),
    /// By how the models are.
    Moving(Arc<Moving>),
}

/// A selection that is not settled before a request comes.
#[derive(Debug)]
pub(crate) enum Moving {
    Where(Box<Predicate>),
    /// What any of them names.
    Any(Vec<Selection>),
    /// What both of them name.
    Both(Selection, Selection),
}

/// A condition on models that reads what changes while the server runs.
#[derive(Debug)]
pub(crate) struct Predicate {
    condition: Condition,
    /// The models of which it holds however they are.
    always: ModelSet,
    /// Those for which that makes the difference, by their identifiers, with what stands in the matrix.
    open: Vec<(ModelIx, Arc<str>, Scope)>,
}

impl Default for Selection {
    fn default() -> Self {
        Selection::Settled(ModelSet::default())
    }
}

impl Selection {
    /// What any of them names.
    pub(crate) fn any(mut each: Vec<Selection>) -> Selection {
        if each.len() == 1 {
            return each.pop().unwrap_or_default();
        }
        let mut all = ModelSet::default();
        for one in &each {
            let Selection::Settled(set) = one else { return Selection::Moving(Arc::new(Moving::Any(each))) };
            all.union(set);
        }
        Selection::Settled(all)
    }

    /// What both of them name.
    pub(crate) fn both(a: Selection, b: Selection) -> Selection {
        match (&a, &b) {
            (Selection::Settled(a), Selection::Settled(b)) => Selection::Settled(common(a, b)),
            _ => Selection::Moving(Arc::new(Moving::Both(a, b))),
        }
    }

    /// All models that it may ever name.
    pub(crate) fn possible(&self) -> ModelSet {
        let moving = match self {
            Selection::Settled(set) => return set.clone(),
            Selection::Moving(moving) => moving,
        };
        match &**moving {
            Moving::Where(p) => p.open.iter().map(|(ix, ..)| *ix).chain(p.always.iter()).collect(),
            Moving::Any(each) => united(each.iter().map(Selection::possible)),
            Moving::Both(a, b) => common(&a.possible(), &b.possible()),
        }
    }

    /// The models that it names while they are so.
    fn now(&self, standing: &Standing) -> Result<ModelSet, expr::Error> {
        let moving = match self {
            Selection::Settled(set) => return Ok(set.clone()),
            Selection::Moving(moving) => moving,
        };
        match &**moving {
            Moving::Where(predicate) => predicate.now(standing),
            Moving::Any(each) => {
                let each: Result<Vec<_>, _> = each.iter().map(|s| s.now(standing)).collect();
                Ok(united(each?.into_iter()))
            }
            Moving::Both(a, b) => Ok(common(&a.now(standing)?, &b.now(standing)?)),
        }
    }

    /// The predicates in it that read what changes while the server runs.
    pub(crate) fn predicates(&self) -> Vec<&Predicate> {
        let Selection::Moving(moving) = self else { return Vec::new() };
        match &**moving {
            Moving::Where(predicate) => vec![&**predicate],
            Moving::Any(each) => each.iter().flat_map(Selection::predicates).collect(),
            Moving::Both(a, b) => [a, b].into_iter().flat_map(Selection::predicates).collect(),
        }
    }
}

fn united(each: impl Iterator<Item = ModelSet>) -> ModelSet {
    each.fold(ModelSet::default(), |mut all, set| {
        all.union(&set);
        all
    })
}

fn common(a: &ModelSet, b: &ModelSet) -> ModelSet {
    a.iter().filter(|ix| b.contains(*ix)).collect()
}

/// Whether a condition on models reads what changes while the server runs.
pub(crate) fn moves(condition: &Condition) -> bool {
    let moving = |path: &String| MODEL.iter().any(|(name, ..)| path.strip_prefix("model.") == Some(name));
    condition.reads.iter().any(|path| path == "model" || moving(path))
}

impl Predicate {
    /// Sorts the models into those of which it holds in any case and those of which it may.
    ///
    /// # Errors
    /// It cannot be evaluated for a model of which nothing bad is known; its identifier, and why.
    pub(crate) fn of<'a>(
        condition: Condition,
        models: impl Iterator<Item = (ModelIx, &'a str, &'a Scope)>,
    ) -> Result<Predicate, (String, expr::Error)> {
        let (mut always, mut open) = (ModelSet::default(), Vec::new());
        for (ix, id, scope) in models {
            let wrong = |e| (id.to_owned(), e);
            let vars = Vars::of(scope).map_err(wrong)?;
            holds(&condition, vars, ModelState::default()).map_err(wrong)?;
            let still = |text: &str| MODEL.iter().all(|(name, ..)| !text.contains(name));
            let settled = condition.tree.may_hold(&mut |atom| match still(&atom.text) {
                true => condition.atom(atom, vars).ok(),
                false => None,
            });
            match settled {
                Some(true) => always.insert(ix),
                Some(false) => {}
                None => open.push((ix, id.into(), scope.clone())),
            }
        }
        Ok(Predicate { condition, always, open })
    }

    /// The models whose state makes a difference, by their identifiers.
    pub(crate) fn watched(&self) -> impl Iterator<Item = &str> {
        self.open.iter().map(|(_, id, _)| &**id)
    }

    /// What it reads that changes.
    pub(crate) fn reads(&self) -> impl Iterator<Item = &str> {
        let paths = self.condition.reads.iter().map(String::as_str);
        paths.filter(|path| MODEL.iter().any(|(name, ..)| path.strip_prefix("model.") == Some(name)))
    }

    fn now(&self, standing: &Standing) -> Result<ModelSet, expr::Error> {
        let mut set = self.always.clone();
        for (ix, id, scope) in &self.open {
            let holds = holds(&self.condition, Vars::of(scope)?, standing.of(id));
            let told = |e: expr::Error| expr::Error { message: format!("for `{id}`: {}", e.message), ..e };
            if holds.map_err(told)? {
                set.insert(*ix);
            }
        }
        Ok(set)
    }
}

fn holds(condition: &Condition, fixed: &Vars, state: ModelState) -> Result<bool, expr::Error> {
    condition.holds_of(&OneModel { fixed, state }, &|| with_state(fixed, state))
}

/// A model: what stands in the matrix, and how it is.
struct OneModel<'a> {
    fixed: &'a Vars,
    state: ModelState,
}

impl Read for OneModel<'_> {
    fn read<'a>(&'a self, path: &Path) -> Option<Val<'a>> {
        if let [root, field] = &*path.names
            && **root == *"model"
            && let Some((_, _, get)) = MODEL.iter().find(|(name, ..)| **name == **field)
        {
            return Some(get(&self.state));
        }
        self.fixed.read(path)
    }
}

/// The same for the engine, where a comparison is not answered without it.
fn with_state(fixed: &Vars, state: ModelState) -> Vars {
    let mut model = fixed.own("model").cloned().unwrap_or_default();
    if let Some(members) = model.as_object_mut() {
        members.extend(state.written());
    }
    Vars::given(vec![("model".to_owned(), model)], 0)
}

/// How models are during one evaluation, and what was made of it.
#[derive(Default)]
pub(crate) struct Standing {
    asked: Asked,
    settled: Vec<(Arc<Moving>, ModelSet)>,
}

/// Where the state of a model is looked up.
#[derive(Default)]
enum Asked {
    /// Every model is well.
    #[default]
    Nobody,
    Engine(ModelStates),
    /// Written down, by the identifiers of models.
    Given(Value),
}

impl Standing {
    /// As the variables of a request tell it.
    pub(crate) fn of_vars(vars: &Vars) -> Self {
        let asked = match (vars.own("models"), vars.facts().and_then(|f| f.around.models.clone())) {
            (Some(given), _) => Asked::Given(given.clone()),
            (None, Some(states)) => Asked::Engine(states),
            (None, None) => Asked::Nobody,
        };
        Standing { asked, settled: Vec::new() }
    }

    fn of(&self, id: &str) -> ModelState {
        match &self.asked {
            Asked::Nobody => ModelState::default(),
            Asked::Engine(states) => states(id),
            Asked::Given(given) => given.get(id).map_or_else(ModelState::default, ModelState::read),
        }
    }

    /// Finds out what a selection comes to, so that all that use it see the same.
    ///
    /// # Errors
    /// A predicate cannot be evaluated.
    pub(crate) fn settle(&mut self, selection: &Selection) -> Result<(), expr::Error> {
        let Selection::Moving(moving) = selection else { return Ok(()) };
        if self.found(moving).is_none() {
            let set = selection.now(self)?;
            self.settled.push((Arc::clone(moving), set));
        }
        Ok(())
    }

    fn found(&self, moving: &Arc<Moving>) -> Option<&ModelSet> {
        self.settled.iter().find(|(m, _)| Arc::ptr_eq(m, moving)).map(|(_, set)| set)
    }

    /// What a settled selection comes to; nothing for one that could not be settled.
    pub(crate) fn models(&self, selection: &Selection) -> ModelSet {
        match selection {
            Selection::Settled(set) => set.clone(),
            Selection::Moving(moving) => self.found(moving).cloned().unwrap_or_default(),
        }
    }
}
