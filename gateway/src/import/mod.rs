//! Configurations of other gateways become ours, with a report of what was carried over, what became something
//! else, and what could not be kept and why. Secrets are never repeated: keys become names of variables.

mod condition;
mod known;
mod litellm;
mod mend;
mod openrouter;
mod portkey;
mod prices;
mod secrets;
mod write;

pub(crate) use mend::{Settled, settle};

use crate::config::{self, Environment, Simulated, Source};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use types::doc::{self, SourceFile};
use types::matrix::Matrix;

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A LiteLLM proxy's `config.yaml`.
    Litellm,
    /// A Portkey config, JSON.
    Portkey,
    /// OpenRouter request preferences, JSON.
    Openrouter,
}

/// What became of one setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fate {
    /// It means the same here.
    Carried,
    /// It became something near it.
    Changed,
    /// It is not kept.
    Left,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Note {
    /// Where it stands in the file.
    pub(crate) place: String,
    pub(crate) fate: Fate,
    /// What it became, or why it is left out. Never a secret.
    pub(crate) text: String,
}

/// A provider to be written.
#[derive(Clone, Debug, Default, PartialEq)]
struct Provider {
    /// Dialect and address; `None` = one of the shipped matrix.
    own: Option<(&'static str, String)>,
    /// Variables that hold its keys; empty = as shipped, or none is needed.
    keys: Vec<String>,
    /// Milliseconds a whole call may take, and until its first event.
    total_ms: Option<u64>,
    first_ms: Option<u64>,
}

/// A model to be written.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    /// The shipped matrix does not have it.
    fresh: bool,
    /// Where it stands in the file.
    place: String,
    aliases: Vec<String>,
    context: Option<u64>,
    output: Option<u64>,
    /// What the file says it can do, or cannot, beyond streaming, which all can.
    abilities: BTreeMap<&'static str, bool>,
    price: Option<Price>,
}

/// What a model costs.
#[derive(Clone, Debug, Default, PartialEq)]
struct Price {
    rates: Rates,
    /// By tokens of input beyond which they hold, the lowest first.
    above: Vec<(u64, Rates)>,
    /// Factors of the tiers `flex` and `priority`.
    tiers: [Option<f64>; 2],
}

/// USD per million tokens; `None` = as input, or as output.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rates {
    input: f64,
    output: f64,
    /// Of the vendor's cache.
    cached_input: Option<f64>,
    cache_write: Option<f64>,
    cache_write_1h: Option<f64>,
    image: Option<f64>,
    reasoning: Option<f64>,
}

impl Rates {
    /// The dearer of each.
    fn dearer(self, o: Rates) -> Rates {
        let of = |mine: Option<f64>, other: Option<f64>, usual: (f64, f64)| match (mine, other) {
            (None, None) => None,
            (mine, other) => Some(mine.unwrap_or(usual.0).max(other.unwrap_or(usual.1))),
        };
        let (input, output) = ((self.input, o.input), (self.output, o.output));
        Rates {
            input: self.input.max(o.input),
            output: self.output.max(o.output),
            cached_input: of(self.cached_input, o.cached_input, input),
            cache_write: of(self.cache_write, o.cache_write, input),
            cache_write_1h: of(self.cache_write_1h, o.cache_write_1h, input),
            image: of(self.image, o.image, input),
            reasoning: of(self.reasoning, o.reasoning, output),
        }
    }
}

/// A rule to be written: its id, condition, group, and actions as YAML lines.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    id: String,
    description: String,
    when: Option<String>,
    group: Option<&'static str>,
    actions: Vec<String>,
}

/// A workflow to be written: a pool, and what of it is asked first.
#[derive(Clone, Debug, PartialEq)]
struct Flow {
    description: String,
    pool: String,
    prefer: Vec<String>,
}

/// All that was made of a file.
#[derive(Debug, Default)]
pub(crate) struct Import {
    providers: BTreeMap<String, Provider>,
    models: BTreeMap<String, Model>,
    pools: BTreeMap<String, Vec<String>>,
    rules: Vec<Rule>,
    flows: BTreeMap<String, Flow>,
    /// Attempts of a call, and the deadline of a request in seconds.
    attempts: Option<u64>,
    deadline_s: Option<u64>,
    /// What is not repeated.
    secrets: Vec<String>,
    /// Keys that stood in the file in clear, with their variables.
    clear: Vec<(String, String)>,
    /// Names of pools and workflows that are taken.
    taken: BTreeSet<String>,
    /// The variables of the shipped providers.
    shipped_keys: BTreeMap<String, String>,
    /// Variables that have to be set.
    pub(crate) variables: Vec<String>,
    pub(crate) notes: Vec<Note>,
}

impl Import {
    fn note(&mut self, place: impl Into<String>, fate: Fate, text: impl Into<String>) {
        let (place, text) = (self.plain(&place.into()), self.plain(&text.into()));
        self.notes.push(Note { place, fate, text });
    }

    /// The text without any secret of the file.
    pub(crate) fn plain(&self, text: &str) -> String {
        secrets::taken_out(&self.secrets, text)
    }

    /// A name for a pool and a workflow that stands for nothing else.
    fn name_for(&mut self, group: &str) -> String {
        let plain = ident(group);
        let mut name = plain.clone();
        let mut n = 2_u32;
        while !self.taken.insert(name.clone()) {
            name = format!("{plain}_{n}");
            n = n.saturating_add(1);
        }
        name
    }

    /// A variable that holds a key of a provider.
    fn key(&mut self, provider: &str, variable: &str) {
        let keys = &mut self.providers.entry(provider.to_owned()).or_default().keys;
        if !keys.iter().any(|k| k == variable) {
            keys.push(variable.to_owned());
        }
    }

    /// The variables that what was made needs: those in addresses, those of keys, and those of shipped providers
    /// whose models it names.
    fn needed(&self) -> Vec<String> {
        let models = self.models.keys().chain(self.pools.values().flatten());
        let named = models.filter_map(|m| Some(m.split_once('/')?.0.to_owned()));
        let with_keys = self.providers.iter().filter(|(_, p)| !p.keys.is_empty());
        let ids: BTreeSet<String> = with_keys.map(|(id, _)| id.clone()).chain(named).collect();
        let mut all = BTreeSet::new();
        for id in &ids {
            let provider = self.providers.get(id);
            let base = provider.and_then(|p| p.own.as_ref()).map(|(_, base)| base);
            let keys = provider.map_or(&[][..], |p| p.keys.as_slice());
            all.extend(base.and_then(|b| providers::matrix::first_reference(b)).map(str::to_owned));
            all.extend(keys.iter().cloned());
            if base.is_none() && keys.is_empty() {
                all.extend(self.shipped_keys.get(id).cloned());
            }
        }
        all.into_iter().collect()
    }

    /// Whether a model is at an address that the file names.
    fn own(&self, model: &str) -> bool {
        let provider = model.split_once('/').and_then(|(p, _)| self.providers.get(p));
        provider.is_some_and(|p| p.own.is_some())
    }

    /// Says of every model that the shipped matrix lacks what is assumed of it, and what that costs.
    fn tell_assumptions(&mut self) {
        let fresh: Vec<(String, String)> = self
            .models
            .iter()
            .filter(|(_, m)| m.fresh)
            .map(|(id, m)| (m.place.clone(), write::assumptions(id, m, self.own(id))))
            .collect();
        for (place, text) in fresh {
            let at = self.notes.iter().position(|n| n.place == place).unwrap_or(self.notes.len());
            self.note(place, Fate::Changed, text);
            // Beside what else is told of the entry.
            if let Some(last) = self.notes.pop() {
                self.notes.insert(at, last);
            }
        }
    }

    /// A variable for a key that stands in the file in clear; each key has its own.
    fn clear_key(&mut self, provider: &str, key: &str, wanted: &str, place: String) {
        let known = self.clear.iter().find(|(k, _)| k == key).map(|(_, name)| name.clone());
        let taken = |name: &str| self.clear.iter().any(|(_, n)| n == name);
        let mut name = wanted.to_owned();
        let mut n = 2_u32;
        while taken(&name) {
            name = format!("{wanted}_{n}");
            n = n.saturating_add(1);
        }
        let name = known.unwrap_or(name);
        self.clear.push((key.to_owned(), name.clone()));
        self.key(provider, &name);
        let text = format!(
            "the key stood in the file in clear and is not repeated: put it into the variable {name}, and change it if others could read the file"
        );
        self.note(place, Fate::Changed, text);
    }

    /// The files, by their names in a configuration folder.
    pub(crate) fn files(&self, kind: Kind) -> Vec<(String, String)> {
        let plain = |(name, text): (String, String)| (name, self.plain(&text));
        write::files(self, kind).into_iter().map(plain).collect()
    }
}

/// Reads a file of another gateway.
///
/// # Errors
/// It is no document of that kind, in words with the place.
pub(crate) fn import(kind: Kind, name: &str, text: &str, shipped: &Matrix) -> Result<Import, String> {
    let file = SourceFile::new(name, text);
    // JSON is YAML as far as these documents go, and this reader is bounded and names the place of what is wrong.
    let document = doc::parse_merged(&file, "IM").map_err(|d| d.to_string())?.to_json();
    if !document.is_object() {
        return Err(format!("{name}: expected an object at the top"));
    }
    let key =
        |p: &std::sync::Arc<types::matrix::Provider>| Some((p.id.clone(), p.api_key_env.first()?.clone()));
    let mut import = Import {
        secrets: secrets::of(&document),
        taken: names_in_use(),
        shipped_keys: shipped.providers().iter().filter_map(key).collect(),
        ..Import::default()
    };
    match kind {
        Kind::Litellm => litellm::read(&document, shipped, &mut import)?,
        Kind::Portkey => portkey::read(&document, shipped, &mut import)?,
        Kind::Openrouter => openrouter::read(&document, shipped, &mut import)?,
    }
    let of_a_model = |id: &str| import.models.keys().any(|m| m.split('/').next() == Some(id));
    import.providers.retain(|id, p| p.own.is_none() || of_a_model(id));
    import.tell_assumptions();
    import.variables = import.needed();
    Ok(import)
}

/// The names of the pools and workflows that are shipped.
fn names_in_use() -> BTreeSet<String> {
    let loaded = config::load(&Source::Given(Vec::new()), &Environment::default(), Simulated::AsWritten);
    let Some(bundle) = loaded.bundle else { return BTreeSet::new() };
    bundle.workflow_names().into_iter().chain(bundle.policies().pools().keys().cloned()).collect()
}

/// True or false, also as LiteLLM's reader takes it.
fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        Value::String(s) => match s.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A number, also one that stands there as a text, such as `3e-06`.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|n: &f64| n.is_finite())
}

/// A name of ours made from one of theirs: letters, digits and `_`, a letter first.
fn ident(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let mut made: String = name.chars().map(plain).collect();
    while made.contains("__") {
        made = made.replace("__", "_");
    }
    let made = made.trim_matches('_').to_owned();
    if made.chars().next().is_some_and(|c| c.is_ascii_alphabetic()) { made } else { format!("m_{made}") }
}

/// A variable's name made from a text.
fn variable(text: &str) -> String {
    ident(text).to_ascii_uppercase()
}

/// The members of an object, in order.
fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

/// Text as a YAML scalar that is read back as the same text.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// Texts as a YAML list.
fn list(all: &[String]) -> String {
    format!("[{}]", all.iter().map(|t| quoted(t)).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
