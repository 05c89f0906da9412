//! Leaves out what does not load, one thing at a time, so that one bad entry does not cost all the others.

use super::{Fate, Import, Kind};
use crate::config::{self, Environment, Loaded, Simulated, Source};
use std::collections::BTreeSet;
use types::Severity;
use types::diagnostic::Diagnostic;

/// What can be left out by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Provider(String),
    /// One alias of a model.
    Alias(String, String),
    Price(String),
    Model(String),
    Pool(String),
    Rule(String),
    Flow(String),
    Settings,
}

/// Most rounds: leaving one thing out can show that another is no good.
const ROUNDS: usize = 64;

/// An import whose files were loaded.
pub(crate) struct Settled {
    pub(crate) import: Import,
    pub(crate) files: Vec<(String, String)>,
    pub(crate) loaded: Loaded,
}

/// Loads what was made, and leaves out what is no good until the rest is.
pub(crate) fn settle(mut import: Import, kind: Kind) -> Settled {
    let mut rounds = 0;
    loop {
        let files = import.files(kind);
        let given = Source::Given(files.clone());
        let loaded = config::load(&given, &Environment::default(), Simulated::AsWritten);
        let faulty = loaded.problems.iter().filter(|d| d.severity == Severity::Error);
        let owned: Vec<_> = faulty.filter_map(|d| Some((owner(&import, &files, d)?, said(d)))).collect();
        if loaded.is_good() || owned.is_empty() || rounds >= ROUNDS {
            return Settled { import, files, loaded };
        }
        let mut gone = BTreeSet::new();
        for (part, why) in owned {
            if gone.insert(part.clone()) {
                leave_out(&mut import, part, &why);
            }
        }
        rounds += 1;
    }
}

fn said(d: &Diagnostic) -> String {
    let more =
        |label: &str, text: &Option<String>| text.as_ref().map_or(String::new(), |t| format!("; {label}{t}"));
    format!("{}{}{}", d.message, more("expected ", &d.expected), more("", &d.hint))
}

/// What a problem is about: the entry that begins above its line.
fn owner(import: &Import, files: &[(String, String)], d: &Diagnostic) -> Option<Part> {
    let (file, text) = files.iter().find(|(name, _)| *name == d.file)?;
    if let Some(name) = file.strip_prefix("workflows/").and_then(|f| f.strip_suffix(".yaml")) {
        return import.flows.contains_key(name).then(|| Part::Flow(name.to_owned()));
    }
    if file == "turnout.yaml" {
        return Some(Part::Settings);
    }
    let above = || text.lines().take(d.line).collect::<Vec<_>>().into_iter().rev();
    if file == "routing_rules.yaml" {
        let rule = above().find_map(|l| l.strip_prefix("  - id: "));
        if let Some(rule) = rule.filter(|id| import.rules.iter().any(|r| r.id == **id)) {
            return Some(Part::Rule(rule.to_owned()));
        }
        let pool = above().find_map(|l| l.strip_prefix("  ")?.split_once(": {")).map(|(name, _)| name);
        return pool.filter(|p| import.pools.contains_key(*p)).map(|p| Part::Pool(p.to_owned()));
    }
    let entry =
        above().find_map(|l| l.strip_prefix("  ").filter(|l| !l.starts_with(' '))?.strip_suffix(':'))?;
    let models = above().find_map(|l| match l {
        "models:" => Some(true),
        "providers:" => Some(false),
        _ => None,
    });
    let entry = entry.to_owned();
    let line = text.lines().nth(d.line.saturating_sub(1)).unwrap_or_default().trim_start();
    let of_model = |m: &super::Model| {
        let named = |alias: &&String| d.message.contains(&format!("`{alias}`"));
        match m.aliases.iter().find(named) {
            Some(alias) if line.starts_with("aliases:") => Part::Alias(entry.clone(), alias.clone()),
            _ if line.starts_with("price:") && m.price.is_some() => Part::Price(entry.clone()),
            _ => Part::Model(entry.clone()),
        }
    };
    match models? {
        true => import.models.get(&entry).map(of_model),
        false => import.providers.contains_key(&entry).then(|| Part::Provider(entry.clone())),
    }
}

fn leave_out(import: &mut Import, part: Part, why: &str) {
    match part {
        Part::Provider(id) => {
            let own = import.providers.remove(&id).is_some_and(|p| p.own.is_some());
            import.note(format!("provider {id}"), Fate::Left, why);
            let of_it = |m: &&String| own && m.starts_with(&format!("{id}/"));
            for model in import.models.keys().filter(of_it).cloned().collect::<Vec<_>>() {
                without_model(import, &model, &format!("its provider `{id}` is left out"));
            }
        }
        Part::Alias(id, alias) => {
            let Some(m) = import.models.get_mut(&id) else { return };
            m.aliases.retain(|a| *a != alias);
            import.note(format!("the name {alias}"), Fate::Left, format!("clients ask for \"{id}\": {why}"));
        }
        Part::Price(id) => {
            let Some(m) = import.models.get_mut(&id) else { return };
            m.price = None;
            import.note(format!("the price of {id}"), Fate::Left, why);
        }
        Part::Model(id) => without_model(import, &id, why),
        Part::Pool(name) => without_pool(import, &name, why),
        Part::Rule(id) => {
            import.rules.retain(|r| r.id != id);
            import.note(format!("rule {id}"), Fate::Left, why);
        }
        Part::Flow(name) => {
            import.flows.remove(&name);
            import.note(format!("workflow {name}"), Fate::Left, why);
        }
        Part::Settings => {
            (import.attempts, import.deadline_s) = (None, None);
            import.note("settings", Fate::Left, why);
        }
    }
    // Of what is left out no key is needed.
    import.variables = import.needed();
}

/// Leaves a model out, wherever it stands.
fn without_model(import: &mut Import, id: &str, why: &str) {
    let Some(m) = import.models.remove(id) else { return };
    // What was said of it before does not hold.
    let of_it =
        |place: &str| place == m.place || place.strip_prefix(&m.place).is_some_and(|r| r.starts_with('.'));
    import.notes.retain(|n| n.fate == Fate::Left || !of_it(&n.place));
    import.note(m.place, Fate::Left, why);
    if !m.fresh {
        for alias in m.aliases {
            let text = format!("clients ask for \"{id}\": what the file says of this model is left out");
            import.note(format!("the name {alias}"), Fate::Left, text);
        }
        return;
    }
    // Other entries that are the same model were told to be carried over.
    let text = format!("its model `{id}` is left out");
    let named = format!("`{id}`");
    for n in import.notes.iter_mut().filter(|n| n.fate == Fate::Carried && n.text.contains(&named)) {
        (n.fate, n.text) = (Fate::Left, text.clone());
    }
    for flow in import.flows.values_mut() {
        flow.prefer.retain(|m| m != id);
    }
    let mut empty = Vec::new();
    for (name, models) in &mut import.pools {
        models.retain(|m| m != id);
        if models.is_empty() {
            empty.push(name.clone());
        }
    }
    for name in empty {
        without_pool(import, &name, "none of its models is left");
    }
}

fn without_pool(import: &mut Import, name: &str, why: &str) {
    import.pools.remove(name);
    import.note(format!("pool {name}"), Fate::Left, why);
    import.flows.retain(|_, f| f.pool != name);
    let named = format!("\"pool:{name}\"");
    import.rules.retain(|r| !r.actions.iter().any(|a| a.contains(&named)));
}
