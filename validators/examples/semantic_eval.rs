//! How often `grounding`, `numbers` and `contradiction` are right on sentences whose truth is known by
//! construction: sentences taken from documents, the same with a number, a name or a negation changed, and
//! sentences of other documents.
//!
//! `cargo run --release -p validators --example semantic_eval -- <requests.jsonl.gz> [labelled.jsonl [cases]]`
//!
//! The first file holds requests whose system message carries numbered documents. The second, if given, holds
//! one answer a line: `{"sources": [..], "question": "..", "answer": "..", "supported": true}`; supported answers are also taken
//! apart and corrupted like the documents. With a third word the findings of the cases whose name holds it are
//! shown.

use serde_json::Value;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Read;
use types::completion::Choice;
use types::{ChatRequest, Completion, Report, Verdict};
use validators::{Input, Values};

/// Checks, and for grounding the least support that is asked for.
const CHECKS: &[(&str, Option<f64>)] = &[
    ("grounding", Some(0.4)),
    ("grounding", Some(0.5)),
    ("grounding", Some(0.6)),
    ("grounding", Some(0.7)),
    ("numbers", None),
    ("contradiction", None),
];
/// Fewest and most words of a sentence that is taken.
const WORDS: std::ops::RangeInclusive<usize> = 7..=45;
/// Most sentences taken from one set of documents.
const PER_SET: usize = 12;

/// A sentence or answer, what it may rest on, and what was done to it.
struct Case {
    sources: Value,
    text: String,
    /// What was asked.
    question: String,
    kind: String,
}

/// Numbers that look random and are the same every time (Marsaglia's xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}

#[expect(clippy::print_stdout, reason = "an evaluation prints its result")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("give the path of the requests")?;
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut cases = from_requests(&path, &mut dice)?;
    if let Some(labelled) = args.next() {
        cases.extend(from_labelled(&labelled, &mut dice)?);
    }
    let show = args.next();
    let mut counts: BTreeMap<(String, String), [usize; 3]> = BTreeMap::new();
    for case in &cases {
        for (name, min) in CHECKS {
            let label = min.map_or_else(|| (*name).to_owned(), |m| format!("{name} {m}"));
            let report = judge(name, *min, case)?;
            if show.as_ref().is_some_and(|s| case.kind.contains(s)) {
                report.findings.iter().for_each(|f| println!("{label}: {} [{:?}]", f.message, f.actual));
            }
            let at = match report.verdict {
                Verdict::Failed => 0,
                Verdict::Unverified => 2,
                _ => 1,
            };
            let n = counts.entry((case.kind.clone(), label)).or_default();
            if let Some(n) = n.get_mut(at) {
                *n = n.saturating_add(1);
            }
        }
    }
    println!(
        "{:<34} {:<14} {:>8} {:>8} {:>10} {:>8}",
        "cases", "check", "flagged", "passed", "unverified", "flagged%"
    );
    for ((kind, name), [failed, passed, unsure]) in &counts {
        let total = failed.saturating_add(*passed).saturating_add(*unsure).max(1);
        let share = failed.saturating_mul(1000) / total;
        println!(
            "{kind:<34} {name:<14} {failed:>8} {passed:>8} {unsure:>10} {:>6}.{}",
            share / 10,
            share % 10
        );
    }
    Ok(())
}

fn judge(name: &str, min: Option<f64>, case: &Case) -> Result<Report, Box<dyn Error>> {
    let mut with = serde_json::json!({"sources": "sources"});
    if let (Some(m), Some(map)) = (min, with.as_object_mut()) {
        map.insert("min".to_owned(), m.into());
    }
    let check = validators::build(name, &with, None)?;
    let values = Values::from([("sources".to_owned(), case.sources.clone())]);
    let body = serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": case.question}]});
    let request = ChatRequest::from_value(&body)?;
    let choice = Choice { text: case.text.clone(), ..Choice::default() };
    let completion = Completion { choices: vec![choice], ..Completion::default() };
    Ok(check.check(&Input::new(&completion, &request).with_values(&values)))
}

/// Sentences of the documents of requests, whole and changed.
fn from_requests(path: &str, dice: &mut Dice) -> Result<Vec<Case>, Box<dyn Error>> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path)?).read_to_string(&mut text)?;
    let mut sets: Vec<Vec<String>> = Vec::new();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line)?;
        let system = row.pointer("/request/messages/0/content").and_then(Value::as_str).unwrap_or("");
        if let Some((_, documents)) = system.split_once("documents below.") {
            sets.push(documents.split("\n\n[").map(str::to_owned).collect());
        }
    }
    let mut cases = Vec::new();
    for (i, set) in sets.iter().enumerate() {
        let other = sets.get((i.saturating_add(7)) % sets.len().max(1));
        let taken = sentences(&set.join("\n\n"));
        let foreign = other.map(|o| sentences(&o.join("\n\n"))).unwrap_or_default();
        let set = Set { from: "document", sources: set, question: "", foreign: &foreign };
        add(&mut cases, &set, &taken, dice);
    }
    Ok(cases)
}

/// Answers that people judged, whole, and the sentences of supported ones, whole and changed.
fn from_labelled(path: &str, dice: &mut Dice) -> Result<Vec<Case>, Box<dyn Error>> {
    let mut cases = Vec::new();
    let mut rows: Vec<(Vec<String>, String, Vec<String>)> = Vec::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let row: Value = serde_json::from_str(line)?;
        let strings = |v: &Value| -> Vec<String> {
            v.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let sources = strings(row.get("sources").unwrap_or(&Value::Null));
        let answer = row.get("answer").and_then(Value::as_str).unwrap_or("");
        let supported = row.get("supported").and_then(Value::as_bool).unwrap_or(false);
        let kind = if supported { "answer: judged supported" } else { "answer: judged unsupported" };
        let question = row.get("question").and_then(Value::as_str).unwrap_or("").to_owned();
        let (text, kind) = (answer.to_owned(), kind.to_owned());
        cases.push(Case { sources: sources.clone().into(), text, question: question.clone(), kind });
        if supported {
            rows.push((sources, question, sentences(answer)));
        }
    }
    for (i, (sources, question, taken)) in rows.iter().enumerate() {
        // Seven on: the answers of several models to one question stand side by side.
        let foreign = rows.get((i.saturating_add(7)) % rows.len().max(1)).map(|(_, _, s)| s.as_slice());
        let set = Set { from: "answer sentence", sources, question, foreign: foreign.unwrap_or_default() };
        add(&mut cases, &set, taken, dice);
    }
    Ok(cases)
}

/// Sources with what was asked of them, and sentences of other ones.
struct Set<'a> {
    from: &'static str,
    sources: &'a [String],
    question: &'a str,
    foreign: &'a [String],
}

fn add(cases: &mut Vec<Case>, set: &Set<'_>, taken: &[String], dice: &mut Dice) {
    let sources = Value::from(set.sources.to_vec());
    let mut push = |kind: &str, text: String| {
        let (sources, question) = (sources.clone(), set.question.to_owned());
        cases.push(Case { sources, text, question, kind: format!("{}: {kind}", set.from) });
    };
    let whole = set.sources.join("\n");
    for s in taken.iter().take(PER_SET) {
        push("as it is", s.clone());
        if let Some(text) = other_number(s, &whole, dice) {
            push("a number changed", text);
        }
        if let Some(text) = other_name(s, &whole, set.foreign, dice) {
            push("a name changed", text);
        }
        if let Some(text) = negated(s) {
            push("negated", text);
        }
    }
    for s in set.foreign.iter().take(PER_SET / 3) {
        push("of another subject", s.clone());
    }
}

/// Plain sentences: the evaluation has its own splitting, so that the one under test does not choose its cases.
fn sentences(text: &str) -> Vec<String> {
    text.split(['\n'])
        .flat_map(|line| line.split_inclusive(". "))
        .map(str::trim)
        .filter(|s| s.ends_with('.') && WORDS.contains(&s.split_whitespace().count()))
        .filter(|s| s.starts_with(char::is_uppercase) && !s.contains('?') && !s.contains('|'))
        .map(str::to_owned)
        .collect()
}

/// The sentence with one number replaced by one that the documents do not hold.
fn other_number(s: &str, whole: &str, dice: &mut Dice) -> Option<String> {
    let words: Vec<&str> = s.split(' ').collect();
    let digits = |w: &str| w.trim_end_matches([',', '.', '%', ')']).to_owned();
    let places: Vec<usize> = (0..words.len())
        .filter(|i| words.get(*i).is_some_and(|w| digits(w).parse::<u32>().is_ok_and(|n| n > 1)))
        .collect();
    let at = *dice.pick(&places)?;
    let old = words.get(at)?;
    let n: u32 = digits(old).parse().ok()?;
    let step = u32::try_from(dice.below(7)).ok()?.saturating_add(2);
    let new = (1..40)
        .map(|k| n.saturating_add(step.saturating_mul(k)))
        .find(|m| !whole.contains(&m.to_string()))?;
    let changed = old.replacen(&n.to_string(), &new.to_string(), 1);
    Some(
        words
            .iter()
            .enumerate()
            .map(|(i, w)| if i == at { changed.as_str() } else { w })
            .collect::<Vec<_>>()
            .join(" "),
    )
}

/// The sentence with one name replaced by a name of another subject.
fn other_name(s: &str, whole: &str, foreign: &[String], dice: &mut Dice) -> Option<String> {
    let name = |w: &&str| {
        let bare = w.trim_matches(|c: char| !c.is_alphanumeric());
        bare.len() > 3 && bare.starts_with(char::is_uppercase) && bare.chars().skip(1).all(char::is_lowercase)
    };
    let words: Vec<&str> = s.split(' ').collect();
    let places: Vec<usize> = (1..words.len()).filter(|i| words.get(*i).is_some_and(name)).collect();
    let others: Vec<&str> = foreign
        .iter()
        .flat_map(|f| f.split(' ').skip(1))
        .filter(name)
        .map(|w| w.trim_matches(|c: char| !c.is_alphanumeric()))
        .filter(|w| !whole.contains(w))
        .collect();
    let (at, new) = (*dice.pick(&places)?, *dice.pick(&others)?);
    let old = words.get(at)?;
    let changed = old.replace(old.trim_matches(|c: char| !c.is_alphanumeric()), new);
    Some(
        words
            .iter()
            .enumerate()
            .map(|(i, w)| if i == at { changed.as_str() } else { w })
            .collect::<Vec<_>>()
            .join(" "),
    )
}

/// The sentence with `not` behind its first auxiliary, or without the one it has.
fn negated(s: &str) -> Option<String> {
    if s.contains(" not ") {
        return Some(s.replacen(" not ", " ", 1));
    }
    let verbs =
        [" is ", " are ", " was ", " were ", " can ", " will ", " has ", " must ", " should ", " may "];
    let (at, verb) = verbs.iter().filter_map(|v| Some((s.find(v)?, *v))).min()?;
    let end = at.saturating_add(verb.len());
    Some(format!("{}not {}", s.get(..end)?, s.get(end..)?))
}
