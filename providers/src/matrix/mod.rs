//! Reads `capability_matrix.yaml` and the files merged over it into a checked [`Matrix`].

mod evidence;
mod expand;
mod key_limits;
mod merge;
mod model;
mod provider;

use std::collections::HashMap;
use types::calendar::Date;
use types::diagnostic::{Diagnostic, nearest};
use types::doc::{Fields, Node, Reader, SourceFile, Span, Value, parse};
use types::matrix::{Matrix, Model, Provider};

pub use expand::{Unexpanded, expand, first_reference};

/// The matrix that is built into the binary; used where the configuration folder has none.
pub const SHIPPED: &str = include_str!("../../../capability_matrix.yaml");

/// Prices older than this many days are worth a warning.
pub const MAX_PRICE_AGE_DAYS: i64 = 180;

/// Most models of one matrix ([`types::ModelIx`] is 16 bits wide, and its last value stays free).
const MAX_MODELS: usize = 65_535;

/// Names that the router itself answers to; no alias may take them.
const RESERVED: &[&str] = &["auto", "workflow"];

/// Loads a matrix: `files[0]` is the base, every later one is merged over what is before it, key by key
/// (maps merge, scalars and lists replace, an empty value changes nothing in a map; `enabled: false`
/// switches a provider or model off).
///
/// `env` gives environment variables for `${ENV:NAME}` in `base_url`. Where one is not set the reference
/// stays in [`Provider::base_url`] as written ([`first_reference`] finds it): the provider cannot be used,
/// which is no error. Headers are checked here and expanded at the call.
///
/// A variable of `api_key_env` that is set and empty is worth a warning, but in the shipped file.
///
/// `today` turns on the warning about prices older than [`MAX_PRICE_AGE_DAYS`].
///
/// Gives what could be read and every problem of every file, each at its place in the file it comes from.
/// With an error among them the matrix is not to be used.
pub fn load(
    files: &[SourceFile],
    env: &dyn Fn(&str) -> Option<String>,
    today: Option<Date>,
) -> (Matrix, Vec<Diagnostic>) {
    let (root, mut problems) = merge::read(files);
    let (Some(root), Some(base)) = (root, files.first()) else { return (Matrix::default(), problems) };
    let mut reader = Reader::new(base, merge::PREFIX);
    let matrix = lower(&root, &mut reader, env, today);
    let mut found = reader.problems;
    if *base.text != *SHIPPED
        && found.iter().any(|d| d.code == "CM201")
        && let Ok(shipped) = parse(&SourceFile::new("", SHIPPED), merge::PREFIX)
    {
        found.iter_mut().filter(|d| d.code == "CM201").for_each(|d| tell_of_shipped(d, &shipped));
    }
    problems.extend(found.into_iter().map(|d| merge::relocate(d, files)));
    // Which vendors of the shipped file somebody has keys of is not said by variables that an environment leaves empty.
    let shipped = |d: &Diagnostic| files.iter().any(|f| f.path == d.file && *f.text == *SHIPPED);
    problems.retain(|d| d.code != format!("{}{}", merge::PREFIX, provider::EMPTY_KEY) || !shipped(d));
    problems.sort_by_key(|d| (files.iter().position(|f| f.path == d.file), d.line, d.column));
    (matrix, problems)
}

fn lower(
    root: &Node,
    r: &mut Reader<'_>,
    env: &dyn Fn(&str) -> Option<String>,
    today: Option<Date>,
) -> Matrix {
    let Some(mut top) = r.fields(root, "") else { return Matrix::default() };
    if let Some(n) = top.require(r, "version") {
        r.integer(n, "version", 1, 1);
    }
    let providers = top.require(r, "providers");
    let models = top.require(r, "models");
    let evaluations = top.take("evaluations");
    top.finish(r);
    let evaluations = evaluations.map(|n| evidence::evaluations(n, r)).unwrap_or_default();

    let mut names = HashMap::new();
    let mut rows: Vec<Provider> = Vec::new();
    let providers = providers.and_then(|n| r.map(n, "providers")).unwrap_or_default();
    for (key, node) in providers {
        if changes_nothing(node, &["dialect"]) {
            let whole = providers.iter().filter(|(_, n)| !changes_nothing(n, &["dialect"]));
            let d = r.error("201", key.span, format!("there is no provider `{}` to change", key.name));
            d.hint = Some(types::diagnostic::suggestion(&key.name, whole.map(|(k, _)| k.name.as_str())));
            d.expected = Some("a provider that there is, or `dialect` and the rest of a new one".to_owned());
            names.insert(key.name.as_str(), None);
            continue;
        }
        let row = provider::lower(key, node, r, env, today);
        // A provider that could not be read is still known by name, so that its models are not blamed.
        let place = row.is_some().then_some(rows.len());
        names.insert(key.name.as_str(), place);
        rows.extend(row);
    }
    let mut read = Vec::new();
    let models = models.and_then(|n| r.map(n, "models")).unwrap_or_default();
    for (key, node) in models {
        if changes_nothing(node, OF_MODELS) {
            let whole = models.iter().filter(|(_, n)| !changes_nothing(n, OF_MODELS));
            let whole = whole.map(|(k, _)| k.name.as_str());
            let d = r.error("201", key.span, format!("there is no model `{}` to change", key.name));
            d.hint = Some(types::diagnostic::suggestion(&key.name, whole));
            d.expected =
                Some("a model that there is, or `context_window` and the rest of a new one".to_owned());
            continue;
        }
        let Some((prefix, _)) = key.name.split_once('/') else {
            let d = r.error("104", key.span, format!("`{}` is not a model's name", key.name));
            d.expected = Some("provider/name, such as groq/llama-3.3-70b-versatile".to_owned());
            continue;
        };
        let place = names.get(prefix);
        if place.is_none() {
            let message = format!("model `{}` has no provider: there is no `{prefix}`", key.name);
            let hint = types::diagnostic::suggestion(prefix, names.keys().copied());
            r.error("201", key.span, message).hint = Some(hint);
        }
        let provider = place.and_then(|place| place.and_then(|p| rows.get(p).map(|row| (p, row))));
        read.extend(model::lower(key, node, provider, &evaluations, r));
    }
    if let Some(extra) = read.get(MAX_MODELS) {
        r.error("202", extra.span, format!("more than {MAX_MODELS} models"));
        read.truncate(MAX_MODELS);
    }
    check_names(&mut read, r);
    Matrix::new(rows, read.into_iter().map(|m| m.model).collect())
}

/// Of which a new model has at least one.
const OF_MODELS: &[&str] = &["context_window", "max_output_tokens", "abilities", "upstream_name", "simulate"];

/// Whether an entry only changes one that is not there: nothing of what a new one has at least one of stands in it, not
/// even misspelt.
fn changes_nothing(node: &Node, own: &[&str]) -> bool {
    let is_own = |name: &str| !nearest(name, own.iter().copied()).is_empty();
    match &node.value {
        Value::Map(members) => !members.is_empty() && !members.iter().any(|(k, _)| is_own(&k.name)),
        _ => false,
    }
}

/// Says of a provider or model that is shipped, and not there because the base is another file, where a change of it
/// belongs.
fn tell_of_shipped(d: &mut Diagnostic, shipped: &Node) {
    let named = d.message.split('`').nth(1).unwrap_or_default();
    let has = |section: &str, name: &str| shipped.get(section).is_some_and(|s| s.get(name).is_some());
    let provider = named.split('/').next().unwrap_or_default();
    if has("providers", named) || has("models", named) || has("providers", provider) {
        d.hint = Some(
            "a capability_matrix.yaml of your own takes the place of the whole shipped one: to add to that or to change \
             it, put this file into `matrix.d/`"
                .to_owned(),
        );
    }
}

/// A string that may be absent but not empty.
fn string(f: &mut Fields<'_>, r: &mut Reader<'_>, key: &'static str) -> Option<String> {
    let node = f.take(key)?;
    let text = r.string(node, &f.at(key))?;
    if text.is_empty() {
        let d = r.error("104", node.span, format!("`{}` is empty", f.at(key)));
        d.expected = Some("a name".to_owned());
        return None;
    }
    Some(text)
}

/// A model as it was read, with the places of its names.
struct ReadModel {
    model: Model,
    span: Span,
    aliases: Vec<(String, Span)>,
}

/// Every id and alias names one model. Models that are switched off keep their id and give up their aliases.
fn check_names(models: &mut [ReadModel], r: &mut Reader<'_>) {
    let mut taken: HashMap<String, String> =
        models.iter().map(|m| (m.model.id.to_string(), m.model.id.to_string())).collect();
    for m in models.iter_mut().filter(|m| m.model.enabled) {
        let id = m.model.id.to_string();
        for (alias, span) in &m.aliases {
            let reserved = alias.split([':', '/']).next().is_some_and(|first| RESERVED.contains(&first));
            if reserved {
                let d = r.error("203", *span, format!("alias `{alias}` of `{id}` is a name of the router"));
                d.expected = Some(format!(
                    "a name that is not {0}, with or without more after `:` or `/`",
                    RESERVED.join(" or ")
                ));
            } else if let Some(first) = taken.get(alias) {
                let d = r.error("203", *span, format!("alias `{alias}` of `{id}` already names `{first}`"));
                d.hint = Some("give each alias to one model only".to_owned());
            } else {
                taken.insert(alias.clone(), id.clone());
                m.model.aliases.push(alias.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
