//! Providers and models as data: what `capability_matrix.yaml` says, validated.

mod describe;
mod model;
mod names;
mod provider;
mod steps;

pub use describe::model_type;
pub use model::{Abilities, Above, Availability, KeyLimits, Model, Price, Prior, Rates, Simulate, Tiers};
pub use provider::{DataPolicy, Dialect, Provider, Quirks, THOUGHTS, Tier, Timeouts, ToolCallIds};
pub use steps::Steps;

use names::Names;
use serde::Serialize;
use std::sync::Arc;

/// Position of a model in [`Matrix::models`]; valid for one snapshot of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ModelIx(pub u16);

/// A set of models of one matrix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelSet(Vec<u64>);

impl ModelSet {
    /// Adds a model.
    pub fn insert(&mut self, ix: ModelIx) {
        let word = usize::from(ix.0) / 64;
        if self.0.len() <= word {
            self.0.resize(word.saturating_add(1), 0);
        }
        if let Some(w) = self.0.get_mut(word) {
            *w |= 1_u64 << (ix.0 % 64);
        }
    }

    /// Whether the model is in.
    #[must_use]
    pub fn contains(&self, ix: ModelIx) -> bool {
        self.0.get(usize::from(ix.0) / 64).is_some_and(|w| w >> (ix.0 % 64) & 1 == 1)
    }

    /// Adds all of `other`.
    pub fn union(&mut self, other: &ModelSet) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }

    /// No model at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// The models, in order.
    pub fn iter(&self) -> impl Iterator<Item = ModelIx> + '_ {
        let bits = self.0.len().saturating_mul(64).min(usize::from(u16::MAX));
        (0..bits).filter_map(|i| u16::try_from(i).ok().map(ModelIx)).filter(|ix| self.contains(*ix))
    }
}

impl FromIterator<ModelIx> for ModelSet {
    fn from_iter<I: IntoIterator<Item = ModelIx>>(iter: I) -> Self {
        let mut s = ModelSet::default();
        for ix in iter {
            s.insert(ix);
        }
        s
    }
}

/// All providers and models of one snapshot of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    providers: Vec<Arc<Provider>>,
    models: Vec<Arc<Model>>,
    names: Names,
}

impl Matrix {
    /// From validated parts. `models[i].provider` must be a position in `providers`; names and aliases are
    /// unique (the loader has checked it; a later duplicate is ignored here). At most 65 535 models.
    #[must_use]
    pub fn new(providers: Vec<Provider>, models: Vec<Model>) -> Self {
        Matrix {
            names: Names::of(&models),
            providers: providers.into_iter().map(Arc::new).collect(),
            models: models.into_iter().map(Arc::new).collect(),
        }
    }

    /// All providers.
    #[must_use]
    pub fn providers(&self) -> &[Arc<Provider>] {
        &self.providers
    }

    /// All models.
    #[must_use]
    pub fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    /// All positions.
    pub fn indices(&self) -> impl Iterator<Item = ModelIx> + use<> {
        (0..self.models.len()).filter_map(|i| u16::try_from(i).ok().map(ModelIx))
    }

    /// The model at a position of this snapshot.
    #[must_use]
    pub fn model(&self, ix: ModelIx) -> Option<&Arc<Model>> {
        self.models.get(usize::from(ix.0))
    }

    /// The provider of a model.
    #[must_use]
    pub fn provider_of(&self, ix: ModelIx) -> Option<&Arc<Provider>> {
        self.model(ix).and_then(|m| self.providers.get(m.provider))
    }

    /// By id, alias, or bare name where only one provider has it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ModelIx> {
        self.names.find(name)
    }

    /// The models that a name may mean, the surest first. An id or an alias means its model and no other. Any other
    /// name means the model that [`Matrix::find`] gives, and those whose id, alias or bare name reads the same but for
    /// case and for `.`, `-` or `_` between two digits: the same model at other providers, which spell it otherwise.
    pub fn meant<'a>(&'a self, name: &str) -> impl Iterator<Item = ModelIx> + use<'a> {
        let found = self.find(name);
        let own = |m: &Arc<Model>| *m.id == *name || m.aliases.iter().any(|a| a == name);
        let is_own = found.and_then(|ix| self.model(ix)).is_some_and(own);
        let alike = if is_own { &[] } else { self.names.alike(name) };
        found.into_iter().chain(alike.iter().copied().filter(move |ix| Some(*ix) != found))
    }

    /// All names that [`Matrix::find`] knows with what it gives for them, in no order.
    pub fn names(&self) -> impl Iterator<Item = (&str, ModelIx)> + Clone {
        self.names.all()
    }

    /// The models a selector names: `provider/model`, `provider/*`, `*/glob`, an alias. `*` stands for any
    /// text. Pools and predicates are resolved by the policies room.
    #[must_use]
    pub fn select(&self, selector: &str) -> ModelSet {
        if let Some(ix) = self.find(selector) {
            return ModelSet::from_iter([ix]);
        }
        self.indices().filter(|ix| self.model(*ix).is_some_and(|m| glob(selector, &m.id))).collect()
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any text. Linear in both.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(first) = pieces.next() else { return text.is_empty() };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else { return rest.is_empty() };
    for p in middle {
        match rest.find(p) {
            Some(at) => rest = rest.get(at.saturating_add(p.len())..).unwrap_or(""),
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (p, t, want) in [
            ("groq/*", "groq/llama", true),
            ("*/llama-*b", "groq/llama-70b", true),
            ("*", "", true),
            ("a", "ab", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXc", false),
            ("*aa", "a", false),
        ] {
            assert_eq!(glob(p, t), want, "{p} {t}");
        }
    }

    #[test]
    fn sets_of_models() {
        let s = ModelSet::from_iter([ModelIx(3), ModelIx(130)]);
        assert!(s.contains(ModelIx(130)) && !s.contains(ModelIx(4)));
        assert_eq!(s.iter().collect::<Vec<_>>(), [ModelIx(3), ModelIx(130)]);
        assert!(ModelSet::default().is_empty());
    }
}
