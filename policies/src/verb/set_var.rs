//! `set_var: {name: value}` — values for variables that the workflow declares; single-valued per name.

use super::{Kind, REQUEST, Single, Verb, put};

pub(super) const VERB: Verb = Verb {
    name: "set_var",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::PerName,
    arguments: &["vars"],
    read: |r, node, field, _| {
        let members = r.map(node, field)?;
        if members.is_empty() {
            r.wrong_type(node, field, "a map with at least one variable");
            return None;
        }
        let each: Vec<_> = members.iter().map(|(k, v)| (k.name.clone(), v.to_json())).collect();
        put(each, |m, each, at| {
            for (name, value) in each {
                m.single_of(|m| &mut m.further().vars, name, value, at);
            }
        })
    },
};
