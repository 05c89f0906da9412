//! `redact: {entities or use, in, action, restore}` — values that must not go everywhere; kinds and places unite,
//! and of two actions the stronger counts.

use super::{ANY, Kind, Single, Verb, put};
use crate::phase::Phase;
use crate::selector::Context;
use types::diagnostic::suggestion;
use types::directives::{Place, RedactAction};
use types::doc::{Fields, Node, Reader, Span, Value};
use types::privacy::custom::PREFIX;
use types::privacy::{Custom, Entity};

const PLACES: &[&str] = &["input", "output", "logs"];
const ACTIONS: &[&str] = &["mask", "hash", "drop", "block"];

/// How rules of the later phases redact.
pub(super) const LATER: &str = "`in: [output]` for what goes out, `in: [logs]` for what is recorded, or both, and no \
    `restore`; what goes to a provider is redacted by a rule of the phase `request`";

/// What a rule of a later phase asks for in vain: where, and in words. `None` = nothing.
pub(super) fn too_late(node: &Node, phase: Phase) -> Option<(Span, &'static str)> {
    let places = match node.get("in").map(|n| &n.value) {
        Some(Value::List(places)) => places.as_slice(),
        _ => &[],
    };
    let input = places.iter().find(|place| phase == Phase::Response && place.as_str() == Some("input"));
    let restore = node.get("restore").filter(|n| n.value == Value::Bool(true));
    let input = input.map(|n| (n.span, "in the phase `response` the input has gone out already"));
    input.or(restore.map(|n| (n.span, "only what a rule of the phase `request` masks is put back")))
}

/// What a name of the section `redaction` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redaction {
    pub(crate) entities: Vec<Entity>,
    pub(crate) action: Option<RedactAction>,
}

pub(super) const VERB: Verb = Verb {
    name: "redact",
    kind: Kind::Hard,
    phases: ANY,
    single: Single::No,
    arguments: &["entities", "in", "action"],
    read: |r, node, field, cx| {
        let mut f = r.fields(node, field)?;
        let named = f.take("use").map(|n| {
            let name = r.string(n, &f.at("use"))?;
            let known = &cx.resolver.redactions;
            if let Some(redaction) = known.get(&name) {
                return Some(redaction.clone());
            }
            let d = r.error("208", n.span, format!("there is no redaction `{name}`"));
            d.hint = Some(suggestion(&name, known.keys().map(String::as_str)));
            d.field = f.at("use");
            None
        });
        let listed = entities(r, &mut f, cx);
        let action = action(r, &mut f);
        let places =
            f.take("in").map_or(Some(vec![Place::Input, Place::Logs]), |n| places(r, n, &f.at("in")));
        let restore = f.take("restore").map_or(Some(false), |n| r.boolean(n, &f.at("restore")));
        let span = f.span;
        f.finish(r);
        let stays = |a: &RedactAction| *a != RedactAction::Mask;
        let (named, listed) = (named.map_or(Some(None), |n| n.map(Some))?, listed?);
        let mut all = listed.unwrap_or_default();
        all.extend(named.iter().flat_map(|n| n.entities.iter().copied()));
        if all.is_empty() {
            r.error("102", span, "it is not said what is redacted").expected =
                Some("`entities: [..]`, or `use: <name of a redaction>`".to_owned());
            return None;
        }
        all.sort_unstable();
        all.dedup();
        let action = action?.or(named.and_then(|n| n.action)).unwrap_or(RedactAction::Mask);
        let (places, restore) = (places?, restore?);
        let why = match () {
            () if restore && stays(&action) => Some("only what is masked can be put back"),
            () if restore && !places.contains(&Place::Input) => {
                Some("only what is masked in the input is put back")
            }
            () => None,
        };
        if let Some(why) = why {
            let d = r.error("104", span, format!("`restore: true`: {why}"));
            d.expected = Some("`action: mask` with `input` in `in`, or no `restore`".to_owned());
            d.field = format!("{field}.restore");
            return None;
        }
        let redact = (all, places, action, restore);
        put(redact, |m, (entities, places, action, restore), at| {
            for entity in entities {
                for place in &places {
                    m.redact((entity, *place), action, restore, at);
                }
            }
        })
    },
};

/// Reads an entry of the section `redaction`.
pub(crate) fn redaction(r: &mut Reader<'_>, node: &Node, path: &str, cx: &Context<'_>) -> Option<Redaction> {
    let mut f = r.fields(node, path)?;
    if f.require(r, "entities").is_none() {
        f.finish(r);
        return None;
    }
    // Taken again by the reader that rules share.
    let mut f = r.fields(node, path)?;
    let entities = entities(r, &mut f, cx);
    let action = action(r, &mut f);
    f.finish(r);
    Some(Redaction { entities: entities?.unwrap_or_default(), action: action? })
}

/// `entities`; the outer `None` is a noted problem.
#[expect(clippy::option_option, reason = "absent and wrong are two different things here")]
fn entities(r: &mut Reader<'_>, f: &mut Fields<'_>, cx: &Context<'_>) -> Option<Option<Vec<Entity>>> {
    let Some(n) = f.take("entities") else { return Some(None) };
    let at = f.at("entities");
    let list = r.list(n, &at)?;
    if list.is_empty() {
        r.wrong_type(n, &at, "at least one kind of value");
        return None;
    }
    let each: Vec<_> = list.iter().enumerate().map(|(i, e)| kind(r, e, &format!("{at}[{i}]"), cx)).collect();
    each.into_iter().collect::<Option<Vec<_>>>().map(Some)
}

fn kind(r: &mut Reader<'_>, n: &Node, at: &str, cx: &Context<'_>) -> Option<Entity> {
    if let Some(name) = n.as_str().and_then(|name| name.strip_prefix(PREFIX)) {
        let known = &cx.resolver.patterns;
        let custom = Custom::new(name).filter(|_| known.contains_key(name));
        if custom.is_none() {
            let d = r.error("209", n.span, format!("there is no pattern `{name}`"));
            d.expected = Some("a name of the section `patterns`".to_owned());
            d.hint = Some(suggestion(name, known.keys().map(String::as_str)));
            at.clone_into(&mut d.field);
        }
        return custom.map(Entity::Custom);
    }
    r.one_of(n, at, Entity::NAMES).and_then(Entity::parse)
}

/// `action`; the outer `None` is a noted problem.
#[expect(clippy::option_option, reason = "absent and wrong are two different things here")]
fn action(r: &mut Reader<'_>, f: &mut Fields<'_>) -> Option<Option<RedactAction>> {
    let Some(n) = f.take("action") else { return Some(None) };
    r.one_of(n, &f.at("action"), ACTIONS).map(|a| {
        Some(match a {
            "hash" => RedactAction::Hash,
            "drop" => RedactAction::Drop,
            "block" => RedactAction::Block,
            _ => RedactAction::Mask,
        })
    })
}

fn places(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<Vec<Place>> {
    let list = r.list(node, field)?;
    if list.is_empty() {
        r.wrong_type(node, field, "at least one of input, output, logs");
        return None;
    }
    let place = |name: &str| match name {
        "output" => Place::Output,
        "logs" => Place::Logs,
        _ => Place::Input,
    };
    let each: Vec<_> = list
        .iter()
        .enumerate()
        .map(|(i, n)| r.one_of(n, &format!("{field}[{i}]"), PLACES).map(place))
        .collect();
    each.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use crate::testing::{check_rules, load_text, sound};
    use types::directives::{Place, RedactAction};
    use types::privacy::Entity;

    #[test]
    fn kinds_unite_and_the_stronger_action_counts() {
        let d = check_rules(
            "- { id: a, actions: { redact: { entities: [email, card], in: [input], restore: true } } }\n\
             - { id: b, actions: { redact: { entities: [card], in: [input, output], action: drop } } }",
            &["applied", "applied"],
        );
        let got: Vec<_> = d.further.unwrap().redact.into_iter().map(|r| r.value).collect();
        let of = |e, p| got.iter().find(|r| r.entity == e && r.place == p).map(|r| (r.action, r.restore));
        assert_eq!(of(Entity::Email, Place::Input), Some((RedactAction::Mask, true)));
        assert_eq!(of(Entity::Card, Place::Input), Some((RedactAction::Drop, false)));
        assert_eq!(of(Entity::Card, Place::Output), Some((RedactAction::Drop, false)));
        assert_eq!(got.len(), 3);
    }

    #[test]
    fn what_cannot_be_put_back_is_told() {
        for (argument, message) in [
            ("{ entities: [email], action: drop, restore: true }", "only what is masked can"),
            ("{ use: personal, restore: true }", "only what is masked can"),
            ("{ entities: [email], in: [output], restore: true }", "in the input"),
        ] {
            let yaml = format!(
                "redaction: {{ personal: {{ entities: [phone], action: hash }} }}\nrules: [{{ id: a, actions: {{ redact: {argument} }} }}]"
            );
            let (_, problems) = load_text(&yaml, &[]);
            assert!(
                problems.iter().any(|d| d.code == "PL104" && d.message.contains(message)),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn an_operators_pattern_is_a_kind() {
        let yaml = "patterns: { badge: 'B-[0-9]{6}' }\nredaction: { staff: { entities: [\"custom:badge\"] } }\n\
                    rules: [{ id: a, actions: { redact: { use: staff, entities: [email, \"custom:badge\"], in: [logs] } } }]";
        let set = sound(yaml, &[]);
        let d = set.evaluate_now(crate::Phase::Request, &crate::testing::usual()).unwrap();
        let got: Vec<_> = d.further.unwrap().redact.into_iter().map(|r| r.value.entity).collect();
        let badge = Entity::parse("custom:badge").unwrap();
        assert_eq!((got, set.patterns()), (vec![Entity::Email, badge], vec![(badge, "B-[0-9]{6}")]));
        for (patterns, entity, code, message) in [
            ("{ badge: x }", "custom:bage", "PL209", "no pattern `bage`"),
            ("{ badge: bad }", "custom:badge", "PL104", "`custom:badge`: no good"),
            ("{ email: x }", "email", "PL120", "there already"),
            ("{ Badge: x }", "email", "PL104", "no name of a pattern"),
            ("{ badge: 7 }", "email", "PL103", ""),
        ] {
            let yaml = format!(
                "patterns: {patterns}\nrules: [{{ id: a, actions: {{ redact: {{ entities: [\"{entity}\"] }} }} }}]"
            );
            let (_, problems) = load_text(&yaml, &[]);
            assert!(
                problems.iter().any(|d| d.code == code && d.message.contains(message)),
                "{patterns}: {problems:?}"
            );
        }
    }

    #[test]
    fn a_named_redaction_stands_for_its_kinds() {
        let yaml = "redaction: { personal: { entities: [email, phone], action: hash } }\n\
                    rules: [{ id: a, actions: { redact: { use: personal, entities: [iban], in: [logs] } } }]";
        let d = sound(yaml, &[]).evaluate_now(crate::Phase::Request, &crate::testing::usual()).unwrap();
        let got: Vec<_> =
            d.further.unwrap().redact.into_iter().map(|r| (r.value.entity, r.value.action)).collect();
        let hash = RedactAction::Hash;
        assert_eq!(got, [(Entity::Email, hash), (Entity::Phone, hash), (Entity::Iban, hash)]);
    }
}
