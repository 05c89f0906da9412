//! `experiment: none` or `{only: [ids]}` — which experiments a request may be part of; lists intersect, and none is none.

use super::{Kind, REQUEST, Single, Verb, put};
use crate::merge::Shared;
use crate::selector::Context;
use types::diagnostic::suggestion;
use types::doc::{Node, Reader, Value};

pub(super) const VERB: Verb = Verb {
    name: "experiment",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["only"],
    read: |r, node, field, cx| {
        let ids = match &node.value {
            Value::Map(_) => {
                let mut f = r.fields(node, field)?;
                let ids = f.require(r, "only").and_then(|n| only(r, n, &f.at("only"), cx));
                f.finish(r);
                ids?
            }
            _ if node.as_str() == Some("none") => Vec::new(),
            _ => {
                r.wrong_type(node, field, "`none`, or {only: [ids]}");
                return None;
            }
        };
        put(Shared::of(ids), |m, ids, at| m.join(|m| &mut m.further().experiment, ids, at))
    },
};

/// Ids of experiments; notes each of which there is none (`212`).
fn only(r: &mut Reader<'_>, node: &Node, field: &str, cx: &Context<'_>) -> Option<Vec<String>> {
    let ids = r.strings(node, field)?;
    if ids.is_empty() {
        r.wrong_type(node, field, "at least one experiment; `experiment: none` for none");
        return None;
    }
    let known = &cx.resolver.experiments;
    let mut all_there = true;
    for id in ids.iter().filter(|id| !known.contains(id)) {
        let d = r.error("212", node.span, format!("there is no experiment `{id}`"));
        d.hint = Some(match known.is_empty() {
            true => {
                "there are no experiments; `experiment: none` keeps requests out of those to come".to_owned()
            }
            false => suggestion(id, known.iter().map(String::as_str)),
        });
        field.clone_into(&mut d.field);
        all_there = false;
    }
    all_there.then_some(ids)
}

#[cfg(test)]
mod tests {
    use crate::testing::{check_verb, load_text};
    use types::directives::Directives;

    fn allowed(d: &Directives) -> Option<Vec<String>> {
        d.further.as_ref().unwrap().experiment.as_ref().map(|s| s.value.clone())
    }

    #[test]
    fn lists_intersect_and_none_is_none() {
        let (none, first, both) = ("experiment: none", "experiment: { only: [repairs] }", ["applied"; 2]);
        let check = |actions: &[&str], effects: &[&str], want: &[&str]| {
            assert_eq!(allowed(&check_verb(actions, effects)).unwrap(), want, "{actions:?}");
        };
        check(&[none], &["applied"], &[]);
        check(&["experiment: { only: [repairs, judges, repairs] }"], &["applied"], &["judges", "repairs"]);
        check(
            &["experiment: { only: [judges, repairs] }", first],
            &["overridden by r1", "applied"],
            &["repairs"],
        );
        check(&[first, "experiment: { only: [judges] }"], &both, &[]);
        check(&[first, none], &["overridden by r1", "applied"], &[]);
        check(&[none, none], &["applied", "overridden by r0"], &[]);
    }

    #[test]
    fn what_is_kept_out_of_experiments_has_no_run_beside_it() {
        let shadow = "shadow: { workflow: careful, rate: 1 }";
        for experiment in ["experiment: none", "experiment: { only: [repairs] }"] {
            let kept_out = "no effect: `experiment` keeps the request out of it";
            for (actions, effects) in
                [([shadow, experiment], [kept_out, "applied"]), ([experiment, shadow], ["applied", kept_out])]
            {
                let d = check_verb(&actions, &effects);
                assert!(d.further.unwrap().shadow.is_empty(), "{actions:?}");
            }
        }
    }

    #[test]
    fn only_what_is_there_can_be_named() {
        for (argument, code, part) in [
            ("{ only: [repair] }", "PL212", "did you mean `repairs`?"),
            ("{ only: [x, repairs, y] }", "PL212", "there is no experiment `y`"),
            ("{ only: [] }", "PL103", "`experiment: none`"),
            ("{}", "PL102", "`only`"),
            ("{ only: [repairs], also: 1 }", "PL101", "`also`"),
            ("all", "PL103", "`none`, or {only: [ids]}"),
            ("[repairs]", "PL103", "`none`, or {only: [ids]}"),
        ] {
            let (_, problems) =
                load_text(&format!("rules: [{{ id: a, actions: {{ experiment: {argument} }} }}]"), &[]);
            let told = problems.iter().any(|d| d.code == code && d.to_string().contains(part));
            assert!(told, "{argument}: {problems:#?}");
        }
    }
}
