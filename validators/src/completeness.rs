//! `completeness`: every question, point and field that the request asks for is addressed.
//!
//! A heuristic, so its findings warn: a point is addressed if the answer numbers its parts as the request does,
//! or holds enough of the content words that this point has and the others do not.

use crate::finding::{Note, cut, nothing, unverified};
use crate::json::each_text;
use crate::params::{Params, Problem};
use crate::text::MAX_BYTES;
use crate::text::blocks::{Kind as Block, outline};
use crate::text::sentences;
use crate::text::terms::keys;
use crate::{About, Check, Entry, Input, Kind};
use regex::Regex;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock};
use types::run::Severity;
use types::{ChatRequest, Finding, Report};

const NAME: &str = "completeness";
/// Least share of a point's content words, where the file says nothing.
const MIN: f64 = 0.5;
/// Most points that are looked at.
const MAX_POINTS: usize = 100;
/// Longest request in which points are looked for, in bytes: what is longer brings material of its own.
const MAX_REQUEST: usize = 16 * 1024;

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "every question, point and field that the request asks for is addressed",
    kind: Kind::Semantic,
    stream: "end",
    severity: Severity::Warn,
    build,
};

#[derive(Debug)]
struct Completeness {
    severity: Severity,
    items: Vec<String>,
    min: f64,
}

/// Parameters: `items` (what must be addressed; without it what the last user message asks for, if that is more
/// than one thing) and `min` (0..=1, default 0.5: the share of an item's words that the answer must hold).
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["items", "min"])?;
    let items: Vec<String> = params.strings("items")?.into_iter().map(str::to_owned).collect();
    if items.len() > MAX_POINTS {
        return Err(Problem::new(
            "items",
            format!("{} are given", items.len()),
            format!("at most {MAX_POINTS}"),
        ));
    }
    Ok(Arc::new(Completeness { severity, items, min: params.fraction("min")?.unwrap_or(MIN) }))
}

/// Something that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point {
    text: String,
    /// Its number in a numbered list of the request.
    number: Option<usize>,
}

impl Check for Completeness {
    fn about(&self) -> About {
        About::semantic(NAME, self.severity)
    }

    fn check(&self, input: &Input<'_>) -> Report {
        if input.completion.choices.iter().any(|c| c.text.len() > MAX_BYTES) {
            return unverified("the answer is too long to be looked at");
        }
        let points = if self.items.is_empty() {
            asked(input.request)
        } else {
            self.items.iter().map(|i| Point { text: i.clone(), number: None }).collect()
        };
        // One question needs no check of its own: an answer that misses it misses all.
        let enough = if self.items.is_empty() { 2 } else { 1 };
        if points.len() < enough {
            return nothing();
        }
        if points.len() > MAX_POINTS {
            return unverified(format!("{} points are more than are looked for", points.len()));
        }
        each_text(input, |choice, position, of| {
            let missing = missing(&points, &choice.text, self.min);
            missing
                .into_iter()
                .map(|p| {
                    let what = format!("this is not addressed: {}", cut(&p.text, 140));
                    Note::new(NAME, self.severity, "unaddressed", &what)
                        .expected(p.text.as_str())
                        .hint("address every point of the request, in its order")
                        .choice(position, of)
                        .into_finding()
                })
                .collect::<Vec<Finding>>()
        })
    }
}

/// The points that the answer does not touch.
fn missing<'p>(points: &'p [Point], answer: &str, min: f64) -> Vec<&'p Point> {
    let have: HashSet<String> = keys(answer).into_iter().collect();
    let numbered = numbered(answer);
    let mut common: HashMap<String, usize> = HashMap::new();
    for p in points {
        for k in wanted(p) {
            let n = common.entry(k).or_insert(0);
            *n = n.saturating_add(1);
        }
    }
    let addressed = |p: &&Point| {
        if p.number.is_some_and(|n| numbered.contains(&n)) {
            return true;
        }
        let all = wanted(p);
        // Words that every point has tell nothing of this one.
        let own: Vec<&String> = all
            .iter()
            .filter(|k| points.len() == 1 || common.get(*k).is_none_or(|n| *n < points.len()))
            .collect();
        let held = own.iter().filter(|k| have.contains(**k)).count();
        own.is_empty() || share(held, own.len()) >= min
    };
    points.iter().filter(|p| !addressed(p)).collect()
}

/// The content words of a point without the words that ask for it.
fn wanted(point: &Point) -> HashSet<String> {
    let text = PATTERNS.as_ref().map_or(point.text.as_str().into(), |p| p.ask.replace(&point.text, ""));
    keys(&text).into_iter().collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of words are far below 2^52")]
fn share(a: usize, b: usize) -> f64 {
    a as f64 / b as f64
}

struct Patterns {
    number: Regex,
    fields: Regex,
    ask: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        number: Regex::new(r"(?im)^[ \t>]*(?:#{1,6}[ \t]*)?(?:[*_]{1,2})?(?:(?:question|part|answer|q|a)[ \t]*)?(?P<n>\d{1,2})[.):]").ok()?,
        fields: Regex::new(r"(?i)\b(?:include|including|contain|cover|mention|address|discuss|list|state|with the following(?: \w+)?|the following(?: \w+)?)\b:?\s+(?P<l>[^.?!\n]{3,300})").ok()?,
        ask: Regex::new(r"(?i)^\W*(?:please |also |then |and |finally,? )*(?:write|explain|describe|list|give|provide|summari[sz]e|compare|translate|calculate|compute|find|identify|create|discuss|suggest|name|state|define|analy[sz]e|include|mention|add|show|tell|outline|propose|evaluate|estimate|recommend|what|how|why|when|where|who|which|is|are|does|do|can|should|would|erkläre|nenne|beschreibe|was|wie|warum|explique|décris|explica|describe|qué|cómo)\b").ok()?,
    })
});

/// The numbers that open lines of the answer.
fn numbered(answer: &str) -> HashSet<usize> {
    let Some(p) = PATTERNS.as_ref() else { return HashSet::new() };
    p.number.captures_iter(answer).filter_map(|c| c.name("n")?.as_str().parse().ok()).collect()
}

/// What the last user message asks for: its questions, the points of its lists that ask for something, and the
/// fields it wants included.
fn asked(request: &ChatRequest) -> Vec<Point> {
    let Some(message) = request.last_user() else { return Vec::new() };
    let text = message.content.text();
    let Some(p) = PATTERNS.as_ref().filter(|_| text.len() <= MAX_REQUEST) else { return Vec::new() };
    let outline = outline(&text);
    let mut points = Vec::new();
    for s in sentences::of(&text, &outline) {
        let words = text.get(s.span.clone()).unwrap_or("");
        let question = words.trim_end_matches(['"', '*', '_', ')', ' ']).ends_with(['?', '？', '؟']);
        let item = s.kind == Block::Item && p.ask.is_match(words);
        if (question || item) && !keys(words).is_empty() {
            points.push(Point { text: words.to_owned(), number: opening_number(&text, s.span.start) });
        }
        if s.kind == Block::Paragraph && !question {
            points.extend(fields(words, p).into_iter().map(|f| Point { text: f, number: None }));
        }
    }
    points
}

/// The number that stands before a place at the beginning of its line.
fn opening_number(text: &str, at: usize) -> Option<usize> {
    let line = text.get(..at)?.rsplit('\n').next()?;
    let digits = line.trim().trim_end_matches(['.', ')', ':']);
    digits.parse().ok()
}

/// The parts of a list of short phrases, as in "include the price, the size and the colour".
fn fields(sentence: &str, p: &Patterns) -> Vec<String> {
    let Some(list) = p.fields.captures(sentence).and_then(|c| c.name("l")).map(|m| m.as_str()) else {
        return Vec::new();
    };
    let parts: Vec<&str> = list
        .split([',', ';'])
        .flat_map(|part| part.split(" and "))
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .collect();
    // One phrase is no list, and long ones are clauses.
    let short = parts.iter().all(|f| f.split_whitespace().count() <= 5);
    if parts.len() < 2 || !short {
        return Vec::new();
    }
    let bare = |f: &str| f.trim_start_matches("and ").trim_start_matches("or ").to_owned();
    parts.into_iter().map(bare).filter(|f| !keys(f).is_empty()).collect()
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use super::*;
    use crate::testing::*;
    use serde_json::json;

    fn check(prompt: &str, text: &str, want: &[&str]) {
        check_with(prompt, text, Value::Null, want);
    }

    fn check_with(prompt: &str, text: &str, with: Value, want: &[&str]) {
        let r = request(json!({"messages": [{"role": "user", "content": prompt}]}));
        assert_eq!(codes(NAME, &with, &r, &answer(text)), want, "{prompt} / {text}");
    }

    #[test]
    fn questions_are_answered() {
        let two = "What is the capital of Peru? How many people live in Norway?";
        check(two, "The capital of Peru is Lima. Norway has five million people living in it.", &[]);
        check(two, "The capital of Peru is Lima.", &["unaddressed"]);
        check("1. What is love?\n2. Who wrote Faust?", "1. Hard to say.\n2. Goethe.", &[]);
        check("Where is the Eiffel Tower?", "In Paris.", &["none"]);
    }

    #[test]
    fn points_and_fields_are_found() {
        let list =
            "Please do this:\n\n- Explain photosynthesis\n- List three volcanoes\n- blue paint, old stock";
        check(list, "Photosynthesis turns light into sugar. Volcanoes: Etna, Fuji, Teide.", &[]);
        check(list, "Photosynthesis turns light into sugar.", &["unaddressed"]);
        let fields = "Describe the house. Include the price, the garden size and the heating system.";
        check(
            fields,
            "It costs 5; price fixed. The garden has a size of 3 ares. Heating: a gas system.",
            &[],
        );
        check(fields, "Price 5. Heating system: gas.", &["unaddressed"]);
    }

    #[test]
    fn items_can_be_given() {
        check_with("x", "All about risk and reward", json!({"items": ["risk", "reward"]}), &[]);
        check_with("x", "All about risk", json!({"items": ["risk", "reward"]}), &["unaddressed"]);
        assert_eq!(refused(NAME, &json!({"min": 7})).field, "min");
    }
}
