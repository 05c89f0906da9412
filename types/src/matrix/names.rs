//! The names under which a model is found: its id, its aliases, its bare name, and what reads like one of them.

use super::{Model, ModelIx};
use std::collections::HashMap;
use std::iter::once;

#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// Ids, aliases, and bare names that only one provider has.
    exact: HashMap<String, ModelIx>,
    /// The same by their [`spelling`]; several models where theirs are alike, in the order of the matrix.
    spelt: HashMap<String, Vec<ModelIx>>,
}

impl Names {
    pub(super) fn of(models: &[Model]) -> Self {
        let mut names = Names::default();
        let placed = || (0..=u16::MAX).map(ModelIx).zip(models);
        for (ix, m) in placed() {
            for own in once(&*m.id).chain(m.aliases.iter().map(String::as_str)) {
                names.add(own, ix);
            }
        }
        // A bare upstream name finds its model when only one provider has it, however each of them spells it.
        let mut exact: HashMap<&str, Option<ModelIx>> = HashMap::new();
        let mut spelt: HashMap<String, Option<ModelIx>> = HashMap::new();
        for (ix, m) in placed() {
            if let Some((_, bare)) = m.id.split_once('/') {
                exact.entry(bare).and_modify(|x| *x = None).or_insert(Some(ix));
                spelt.entry(spelling(bare)).and_modify(|x| *x = None).or_insert(Some(ix));
            }
        }
        for (bare, ix) in exact {
            if let Some(ix) = ix {
                names.exact.entry(bare.to_owned()).or_insert(ix);
            }
        }
        for (bare, ix) in spelt {
            if let Some(ix) = ix {
                names.spell(bare, ix);
            }
        }
        names
    }

    fn add(&mut self, name: &str, ix: ModelIx) {
        self.exact.entry(name.to_owned()).or_insert(ix);
        self.spell(spelling(name), ix);
    }

    fn spell(&mut self, spelling: String, ix: ModelIx) {
        let alike = self.spelt.entry(spelling).or_default();
        if let Err(place) = alike.binary_search(&ix) {
            alike.insert(place, ix);
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<ModelIx> {
        self.exact.get(name).copied()
    }

    pub(super) fn alike(&self, name: &str) -> &[ModelIx] {
        self.spelt.get(&spelling(name)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, ModelIx)> + Clone {
        self.exact.iter().map(|(name, ix)| (name.as_str(), *ix))
    }
}

/// A name as it is compared with others: vendors and those who sell their models on write the same version `4.6` and
/// `4-6`, and letters large or small. What stands between two digits is therefore one sign, whichever it was.
fn spelling(name: &str) -> String {
    let mut before = None;
    let mut rest = name.chars().peekable();
    let mut spelt = String::with_capacity(name.len());
    while let Some(c) = rest.next() {
        let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        let between = matches!(c, '.' | '_') && digit(before) && digit(rest.peek().copied());
        spelt.push(if between { '-' } else { c.to_ascii_lowercase() });
        before = Some(c);
    }
    spelt
}

#[cfg(test)]
mod tests {
    use super::super::{Dialect, Matrix, Provider};
    use super::*;

    #[test]
    fn versions_are_spelt_alike() {
        for (name, want) in [
            ("anthropic/Claude-Sonnet-4.6", "anthropic/claude-sonnet-4-6"),
            ("gpt-5_4", "gpt-5-4"),
            ("v1.beta_2", "v1.beta_2"),
            ("1.", "1."),
            ("", ""),
        ] {
            assert_eq!(spelling(name), want);
        }
    }

    fn matrix() -> Matrix {
        let provider = |id| Provider::new(id, Dialect::Recorded);
        let model = |id: &str, provider| Model::new(id, provider, (1_000, 100));
        let alias = Model { aliases: vec!["house-2.5".to_owned()], ..model("b/other", 1) };
        Matrix::new(
            vec![provider("a"), provider("b")],
            vec![model("b/a/m-4.6", 1), model("a/m-4-6", 0), model("a/x-1", 0), model("b/x-1", 1), alias],
        )
    }

    /// What is named exactly is that; what nobody is called names all that read like it.
    #[test]
    fn a_name_means_what_reads_like_it() {
        let matrix = matrix();
        let ids = |name: &str| -> Vec<String> {
            matrix.meant(name).filter_map(|ix| matrix.model(ix)).map(|m| m.id.to_string()).collect()
        };
        for (name, want) in [
            ("a/m-4-6", &["a/m-4-6"][..]),
            ("b/a/m-4.6", &["b/a/m-4.6"]),
            // The bare name of one, and the id of the other but for its spelling.
            ("a/m-4.6", &["b/a/m-4.6", "a/m-4-6"]),
            ("A/m-4.6", &["b/a/m-4.6", "a/m-4-6"]),
            ("m-4.6", &["a/m-4-6"]),
            ("House-2-5", &["b/other"]),
            // Two providers have it: nobody can tell which is meant.
            ("x-1", &[]),
            ("X-1", &[]),
            ("a/m-46", &[]),
        ] {
            assert_eq!(ids(name), want, "{name}");
        }
    }
}
