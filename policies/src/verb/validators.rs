//! `validators: list` — checks before delivery; they unite, and of equal ones the strictest severity counts.

use super::{Kind, REQUEST, Single, Verb};
use crate::merge::{Action, At, Merge};
use crate::selector::{Context, Moment};
use serde_json::{Map, Value as Json};
use std::sync::Arc;
use types::diagnostic::suggestion;
use types::doc::{Node, Reader, Value};

/// Severities, mildest first.
const SEVERITIES: &[&str] = &["warn", "repair", "block"];

pub(super) const VERB: Verb = Verb {
    name: "validators",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["validators"],
    read: |r, node, field, cx| Some(Arc::new(read(r, node, field, cx)?)),
};

#[derive(Debug)]
struct Validators(Vec<Validator>);

/// One validator of a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Validator {
    name: String,
    with: Option<Json>,
    /// Position in [`SEVERITIES`]; `None` = the validator's own.
    pub(crate) severity: Option<usize>,
}

impl Validator {
    /// What makes two of them the same: name and parameters. One with a stated severity and one without
    /// both stay, since only the validator knows which of the two is stricter.
    pub(crate) fn key(&self) -> (String, String, bool) {
        (
            self.name.clone(),
            self.with.as_ref().map(Json::to_string).unwrap_or_default(),
            self.severity.is_some(),
        )
    }

    /// In the form of a workflow's list.
    pub(crate) fn to_json(&self) -> Json {
        let mut map = Map::new();
        map.insert("use".to_owned(), Json::String(self.name.clone()));
        if let Some(with) = &self.with {
            map.insert("with".to_owned(), with.clone());
        }
        if let Some(severity) = self.severity.and_then(|s| SEVERITIES.get(s)) {
            map.insert("severity".to_owned(), Json::String((*severity).to_owned()));
        }
        Json::Object(map)
    }
}

fn read(r: &mut Reader<'_>, node: &Node, field: &str, cx: &Context<'_>) -> Option<Validators> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let each = items.iter().enumerate().map(|(i, item)| one(r, item, &format!("{field}[{i}]"), cx));
    let each: Vec<_> = each.collect();
    each.into_iter().collect::<Option<Vec<_>>>().map(Validators)
}

fn one(r: &mut Reader<'_>, node: &Node, field: &str, cx: &Context<'_>) -> Option<Validator> {
    match &node.value {
        Value::Str(_) => {
            let name = known(r, node, field, cx)?;
            fits(r, (&name, node), None, field, cx).then_some(Validator { name, with: None, severity: None })
        }
        Value::Map(_) => {
            let mut f = r.fields(node, field)?;
            let name = f.require(r, "use").and_then(|n| Some((known(r, n, &f.at("use"), cx)?, n)));
            let given = f.take("with");
            let with = match given {
                Some(n) => r.map(n, &f.at("with")).map(|_| Some(n.to_json())),
                None => Some(None),
            };
            let severity = match f.take("severity") {
                Some(n) => r
                    .one_of(n, &f.at("severity"), SEVERITIES)
                    .map(|s| SEVERITIES.iter().position(|known| *known == s)),
                None => Some(None),
            };
            f.finish(r);
            let (name, at) = name?;
            let validator = Validator { name, with: with?, severity: severity? };
            fits(r, (&validator.name, at), given, field, cx).then_some(validator)
        }
        _ => {
            r.wrong_type(node, field, "a validator's name, or {use, with, severity}");
            None
        }
    }
}

/// Whether the validator takes these parameters. It is asked when files are loaded and for requests' own: what policies make at run time would
/// have to be built within their time limit.
fn fits(
    r: &mut Reader<'_>,
    (name, at): (&str, &Node),
    with: Option<&Node>,
    field: &str,
    cx: &Context<'_>,
) -> bool {
    let Some(found) = (cx.moment != Moment::Run).then(|| (cx.resolver.misfit)(name, with)).flatten() else {
        return true;
    };
    let message = format!("validator `{name}`: {}", found.message);
    let d = r.error(found.number, found.span.unwrap_or(at.span), message);
    d.expected = Some(found.expected);
    d.field = match found.field.as_str() {
        "" => field.to_owned(),
        within => format!("{field}.with.{within}"),
    };
    false
}

fn known(r: &mut Reader<'_>, node: &Node, field: &str, cx: &Context<'_>) -> Option<String> {
    let name = r.string(node, field)?;
    let known = &cx.resolver.validators;
    if known.contains(&name.as_str()) {
        return Some(name);
    }
    let hint = suggestion(&name, known.iter().copied());
    let d = r.error("206", node.span, format!("there is no validator `{name}`"));
    d.hint = Some(hint);
    field.clone_into(&mut d.field);
    None
}

impl Action for Validators {
    fn apply(&self, at: At, merge: &mut Merge) {
        for validator in &self.0 {
            merge.validator(validator, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check_verb;
    use serde_json::json;

    #[test]
    fn they_unite_and_the_strictest_counts() {
        let d = check_verb(
            &[
                "validators: [{ use: json, severity: warn }, { use: length, with: { max: 3 } }]",
                "validators: [{ use: json, severity: block }]",
                "validators: { use: json, severity: repair }",
                "validators: [length, json]",
            ],
            &["applied", "applied", "overridden by r1", "applied"],
        );
        let got: Vec<_> = d.validators.iter().map(|v| (v.value.clone(), v.rule.as_ref())).collect();
        let want = [
            (json!({"use": "json"}), "r3"),
            (json!({"use": "json", "severity": "block"}), "r1"),
            (json!({"use": "length"}), "r3"),
            (json!({"use": "length", "with": {"max": 3}}), "r0"),
        ];
        assert_eq!(got, want);
    }
}
