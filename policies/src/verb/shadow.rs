//! `shadow: {workflow, models, rate}` — for a share of requests another run beside the live one, after the response.

use super::{Kind, REQUEST, Single, Verb, put, put_models};
use crate::selector::models;
use types::diagnostic::suggestion;
use types::directives::ShadowRule;

pub(super) const VERB: Verb = Verb {
    name: "shadow",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::No,
    arguments: &["models", "rate"],
    read: |r, node, field, cx| {
        let mut f = r.fields(node, field)?;
        let rate = f.require(r, "rate").and_then(|n| r.number(n, &f.at("rate"), 0.0, 1.0));
        let workflow = f.take("workflow").map(|n| {
            let name = r.string(n, &f.at("workflow"))?;
            let known = &cx.resolver.workflows;
            if known.contains(&name) {
                return Some(name);
            }
            let d = r.error("205", n.span, format!("there is no workflow `{name}`"));
            d.hint = Some(suggestion(&name, known.iter().map(String::as_str)));
            d.field = f.at("workflow");
            None
        });
        let listed = f.take("models").map(|n| models(r, n, &f.at("models"), cx, false));
        let span = f.span;
        f.finish(r);
        if workflow.is_none() && listed.is_none() {
            let d = r.error("102", span, "it is not said what runs beside");
            d.expected = Some("`workflow: <name>`, `models: [..]`, or both".to_owned());
            field.clone_into(&mut d.field);
            return None;
        }
        let workflow = workflow.map_or(Some(None), |w| w.map(Some))?;
        let rule = ShadowRule { workflow, models: None, rate: rate? };
        match listed {
            None => put(rule, |m, v, at| m.further().shadow.push((v, at))),
            Some(models) => put_models(models?, rule, |m, (models, rule), at| {
                m.further().shadow.push((ShadowRule { models: Some(models), ..rule }, at));
            }),
        }
    },
};

#[cfg(test)]
mod tests {
    use crate::testing::{check_verb, load_text};

    #[test]
    fn all_of_them_run() {
        let d = check_verb(
            &["shadow: { models: [acme/large], rate: 0.5 }", "shadow: { workflow: careful, rate: 1 }"],
            &["applied"; 2],
        );
        let all = d.further.unwrap().shadow;
        let got: Vec<_> = all.iter().map(|s| (&*s.rule, s.value.workflow.as_deref(), s.value.rate)).collect();
        assert_eq!(got, [("r0", None, 0.5), ("r1", Some("careful"), 1.0)]);
        assert_eq!(all[0].value.models.as_ref().map(|m| m.iter().count()), Some(1));
    }

    #[test]
    fn what_runs_has_to_be_said_and_to_be_there() {
        for (argument, code) in [
            ("{ rate: 0.1 }", "PL102"),
            ("{ workflow: careful }", "PL102"),
            ("{ workflow: carefull, rate: 0.1 }", "PL205"),
            ("{ models: [gone/model], rate: 0.1 }", "PL201"),
            ("{ workflow: careful, rate: 2 }", "PL104"),
        ] {
            let (_, problems) =
                load_text(&format!("rules: [{{ id: a, actions: {{ shadow: {argument} }} }}]"), &[]);
            assert!(problems.iter().any(|d| d.code == code), "{argument}: {problems:?}");
        }
    }
}
