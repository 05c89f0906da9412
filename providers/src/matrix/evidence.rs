//! Where the beliefs of a prior come from: public evaluations, and the scores that a row cites.

use super::string;
use std::collections::HashMap;
use types::calendar;
use types::doc::{Key, Node, Reader};
use types::units::UnitInterval;

/// How far a stated belief may lie from what its score says: half a hundredth, and the rounding of both.
const ROUNDING: f64 = 0.0051;

/// The name under which families stand that no evaluation speaks for.
const JUDGEMENT: &str = "judgement";

/// What an evaluation says of success: per family, the belief at score 0 and what a score of 1 adds.
pub(super) type Evaluation = Vec<(String, f64, f64)>;

/// Evaluations by name.
pub(super) type Evaluations = HashMap<String, Evaluation>;

/// Reads `evaluations`.
pub(super) fn evaluations(node: &Node, r: &mut Reader<'_>) -> Evaluations {
    let rows = r.map(node, "evaluations").unwrap_or_default();
    rows.iter().filter_map(|(key, node)| Some((key.name.clone(), evaluation(key, node, r)?))).collect()
}

fn evaluation(key: &Key, node: &Node, r: &mut Reader<'_>) -> Option<Evaluation> {
    let mut f = r.fields(node, &format!("evaluations.{}", key.name))?;
    for text in ["measures", "source"] {
        if string(&mut f, r, text).is_none() {
            f.require(r, text);
        }
    }
    if let Some(n) = f.require(r, "as_of")
        && let Some(text) = r.string(n, &f.at("as_of"))
        && calendar::parse(&text).is_none()
    {
        let d = r.error("104", n.span, format!("`{text}` is not a date"));
        d.expected = Some("a date as YYYY-MM-DD".to_owned());
        d.field = f.at("as_of");
    }
    let scale = f.require(r, "scale");
    let at = f.at("scale");
    f.finish(r);
    let mut out = Vec::new();
    for (family, node) in scale.and_then(|n| r.map(n, &at)).unwrap_or_default() {
        let path = format!("{at}.{}", family.name);
        if !super::model::is_family(family, &path, r) {
            continue;
        }
        let Some(mut f) = r.fields(node, &path) else { continue };
        let base = f.require(r, "base").and_then(|n| r.number(n, &format!("{path}.base"), 0.0, 1.0));
        let slope = f.require(r, "slope").and_then(|n| r.number(n, &format!("{path}.slope"), 0.0, 1.0));
        string(&mut f, r, "of");
        f.finish(r);
        out.extend(base.zip(slope).map(|(base, slope)| (family.name.clone(), base, slope)));
    }
    Some(out)
}

/// Reads `prior.sources`: per evaluation the model it names (`of`) and its score per family, and under `judgement`
/// the families that nothing measured speaks for. Gives a line per family; a belief that differs from what its score
/// says was stated by hand, so its line says judgement.
pub(super) fn sources(
    node: &Node,
    field: &str,
    beliefs: &[(String, UnitInterval)],
    known: &Evaluations,
    r: &mut Reader<'_>,
) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (key, node) in r.map(node, field).unwrap_or_default() {
        let path = format!("{field}.{}", key.name);
        if key.name == JUDGEMENT {
            let families = r.strings(node, &path).unwrap_or_default();
            out.extend(families.into_iter().map(|family| (family, JUDGEMENT.to_owned())));
        } else if let Some(evaluation) = known.get(&key.name) {
            scores(key, node, &path, beliefs, evaluation, r, &mut out);
        } else {
            let hint = types::diagnostic::suggestion(&key.name, known.keys().map(String::as_str));
            r.error("201", key.span, format!("there is no evaluation `{}`", key.name)).hint = Some(hint);
        }
    }
    out
}

fn scores(
    key: &Key,
    node: &Node,
    path: &str,
    beliefs: &[(String, UnitInterval)],
    evaluation: &Evaluation,
    r: &mut Reader<'_>,
    out: &mut Vec<(String, String)>,
) {
    let mut of = String::new();
    for (family, node) in r.map(node, path).unwrap_or_default() {
        if family.name == "of" {
            of = r.string(node, path).map(|name| format!(", as {name}")).unwrap_or_default();
            continue;
        }
        let Some((_, base, slope)) = evaluation.iter().find(|(name, ..)| *name == family.name) else {
            let d = r.error("101", family.span, format!("`{}` does not measure `{}`", key.name, family.name));
            let measured: Vec<&str> = evaluation.iter().map(|(name, ..)| name.as_str()).collect();
            d.expected = Some(format!("of, {}", measured.join(", ")));
            continue;
        };
        let Some(score) = r.number(node, &format!("{path}.{}", family.name), 0.0, 1.0) else { continue };
        let said = base + slope * score;
        let kept = beliefs.iter().any(|(name, p)| *name == family.name && (p.get() - said).abs() < ROUNDING);
        let line = if kept { format!("{} {score}{of}", key.name) } else { JUDGEMENT.to_owned() };
        out.push((family.name.clone(), line));
    }
}
