//! What the chapter on policies says of variables is all that there is.

use crate::inputs::ROOT;
use crate::phase::Phase;
use std::collections::BTreeSet;
use types::expr::Type;

const PAGE: &str = include_str!("../../../docs/policies.md");

/// The variables of a phase down to what has a value, of `axis_confidence` the whole.
fn paths(name: &str, ty: &Type, into: &mut BTreeSet<String>) {
    match ty {
        Type::Map(fields) if !name.ends_with("axis_confidence") => {
            fields.iter().for_each(|(field, ty)| paths(&format!("{name}.{field}"), ty, into));
        }
        _ => drop(into.insert(name.to_owned())),
    }
}

/// What a variable holds is made by the engine, so that only a test of the whole house can show it.
#[test]
fn every_variable_is_tried_with_requests() {
    const TRIED: &str = include_str!("../../../tests/tests/it/variables.rs");
    let mut all = BTreeSet::new();
    for phase in Phase::ALL {
        crate::variables(phase).iter().for_each(|(name, ty)| paths(name, ty, &mut all));
    }
    assert!(all.len() > 90, "{all:?}");
    let missing: Vec<&String> = all.iter().filter(|path| !TRIED.contains(&format!("\"{path}\""))).collect();
    assert!(missing.is_empty(), "tests/tests/it/variables.rs does not try {missing:?}");
}

#[test]
fn every_variable_is_documented() {
    let begin = PAGE.find("## What rules can read").unwrap();
    let section = PAGE[begin..].split("\n## ").next().unwrap();
    let known = |name: &str| section.contains(&format!("`{name}`")) || section.contains(&format!(".{name}`"));
    let missing: Vec<&str> =
        ROOT.names().into_iter().filter(|name| !known(name) && *name != "axis_confidence").collect();
    assert!(missing.is_empty(), "docs/policies.md does not tell of {missing:?}");
    for function in ["set", "provider", "glob", "any_of"] {
        assert!(section.contains(&format!("`{function}(")), "{function}");
        assert!(crate::variables(Phase::Request).iter().all(|(name, _)| name != function));
    }
}
