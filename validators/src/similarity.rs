//! `similarity`: how alike the answer and another text are, by their sequences of four characters.
//!
//! `s = 2 · Σ min(a_g, b_g) / (Σ a_g + Σ b_g)` over the 4-grams g of both texts in small letters with blanks
//! joined (Sørensen 1948, Dice 1945, for multisets): 1 for the same text, 0 without a common 4-gram.

use crate::check::Reference;
use crate::finding::{Note, decided, nothing, unverified};
use crate::params::{Params, Problem};
use crate::sources;
use crate::text::MAX_BYTES;
use crate::{About, Check, Entry, Input, Kind};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use types::Report;
use types::run::Severity;

const NAME: &str = "similarity";
/// Characters of a sequence.
const GRAM: usize = 4;

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "the answer is as alike another text as asked, by sequences of four characters",
    kind: Kind::Semantic,
    stream: "end",
    severity: Severity::Warn,
    build,
};

#[derive(Debug)]
struct Similarity {
    severity: Severity,
    to: Vec<Reference>,
    min: f64,
    max: f64,
}

/// Parameters: `to` (path of a value: a text, an answer, or a list of which the most alike counts), and `min`
/// and/or `max` (0..=1).
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["to", "min", "max"])?;
    let Some(to) = params.reference("to")? else {
        return Err(Problem::new("to", "is missing", "a path such as `nodes.draft.completion`"));
    };
    let (min, max) = (params.fraction("min")?, params.fraction("max")?);
    if min.is_none() && max.is_none() {
        return Err(Problem::new("", "no bound is given", "`min`, `max` or both"));
    }
    let (min, max) = (min.unwrap_or(0.0), max.unwrap_or(1.0));
    if min > max {
        return Err(Problem::new("min", format!("min {min} is above max {max}"), "min at most max"));
    }
    Ok(Arc::new(Similarity { severity, to: vec![to], min, max }))
}

impl Check for Similarity {
    fn about(&self) -> About {
        About::semantic(NAME, self.severity)
    }

    fn references(&self) -> &[Reference] {
        &self.to
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let path = self.to.first().map_or("", |r| r.path.as_str());
        let Some(value) = input.value(path) else {
            return unverified(format!("`{path}` has no value in this run"));
        };
        let others: Vec<String> = texts(value);
        let choices = &input.completion.choices;
        let bytes: usize = others.iter().map(String::len).chain(choices.iter().map(|c| c.text.len())).sum();
        if bytes > MAX_BYTES {
            return unverified("the texts are too long to be compared");
        }
        if others.is_empty() {
            return unverified(format!("`{path}` holds no text"));
        }
        if choices.is_empty() {
            return nothing();
        }
        let others: Vec<HashMap<[char; GRAM], usize>> = others.iter().map(|t| grams(t)).collect();
        let findings = choices.iter().enumerate().filter_map(|(position, choice)| {
            let mine = grams(&choice.text);
            let s = others.iter().map(|o| dice(&mine, o)).fold(0.0, f64::max);
            let (code, want) = if s < self.min {
                ("too_different", format!("at least {}", self.min))
            } else if s > self.max {
                ("too_similar", format!("at most {}", self.max))
            } else {
                return None;
            };
            let what = format!("the answer is {s:.2} alike `{path}`, {want} is asked for");
            let note = Note::new(NAME, self.severity, code, &what)
                .expected(want)
                .actual((s * 1000.0).round() / 1000.0);
            Some(note.choice(position, choices.len()).into_finding())
        });
        decided(findings.collect())
    }
}

/// The texts of a value: each item of a list on its own.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(s) => vec![s.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        other => sources::read(other).into_iter().map(|s| s.text).collect(),
    }
}

fn grams(text: &str) -> HashMap<[char; GRAM], usize> {
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let mut chars: Vec<char> = joined.chars().collect();
    // A shorter text is one sequence, filled up.
    while !chars.is_empty() && chars.len() < GRAM {
        chars.push('\0');
    }
    let mut counts = HashMap::new();
    for w in chars.windows(GRAM) {
        if let Ok(gram) = <[char; GRAM]>::try_from(w) {
            let n: &mut usize = counts.entry(gram).or_default();
            *n = n.saturating_add(1);
        }
    }
    counts
}

#[expect(clippy::cast_precision_loss, reason = "counts of characters are far below 2^52")]
fn dice(a: &HashMap<[char; GRAM], usize>, b: &HashMap<[char; GRAM], usize>) -> f64 {
    let total: usize = a.values().chain(b.values()).sum();
    let common: usize = a.iter().map(|(g, n)| *n.min(b.get(g).unwrap_or(&0))).sum();
    if total == 0 { 1.0 } else { 2.0 * common as f64 / total as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn bounds_hold() {
        let check = |to: Value, with: Value, text: &str, want: &[&str]| {
            let mut with = with;
            with["to"] = json!("nodes.a.text");
            assert_eq!(codes_with(NAME, with, &[("nodes.a.text", to)], text), want, "{text}");
        };
        check(json!("The cat sat"), json!({"min": 1.0}), "the  cat sat", &[]);
        check(json!("The cat sat"), json!({"min": 0.5}), "dogs run far", &["too_different"]);
        check(json!("The cat sat"), json!({"max": 0.5}), "The cat sat", &["too_similar"]);
        check(json!({"text": "abcdef"}), json!({"min": 0.9}), "abcdef", &[]);
        check(json!(["xyz", "abcdef"]), json!({"min": 0.9}), "abcdef", &[]);
        check(json!("ab"), json!({"min": 1.0}), "AB", &[]);
        check(Value::Null, json!({"min": 1.0}), "AB", &["unverified"]);
    }

    #[test]
    fn parameters_are_checked() {
        assert_eq!(refused(NAME, &json!({"min": 0.5})).field, "to");
        assert_eq!(refused(NAME, &json!({"to": "a"})).message, "no bound is given");
        assert_eq!(refused(NAME, &json!({"to": "a", "min": 0.5, "max": 0.1})).field, "min");
    }

    proptest! {
        #[test]
        fn likeness_is_symmetric_and_bounded(a in "\\PC{0,30}", b in "\\PC{0,30}") {
            let (x, y) = (grams(&a), grams(&b));
            let s = dice(&x, &y);
            prop_assert!((0.0..=1.0).contains(&s));
            prop_assert!((s - dice(&y, &x)).abs() < 1e-12);
            prop_assert!((dice(&x, &x) - 1.0).abs() < 1e-12);
        }
    }
}
