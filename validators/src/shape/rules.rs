//! The rules of form and how parameters state them.

use crate::params::{Params, Problem, kind};
use serde_json::Value;

const PARAMS: &[&str] = &[
    "bullets",
    "sections",
    "paragraphs",
    "highlighted",
    "placeholders",
    "capital_words",
    "letters",
    "starts_with",
    "ends_with",
    "first_word",
    "case",
    "title",
    "postscript",
    "one_of",
    "quoted",
    "commas",
    "responses",
    "repeats_prompt",
];

/// How many of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    min: usize,
    max: usize,
}

impl Bound {
    pub(super) fn holds(self, n: usize) -> bool {
        (self.min..=self.max).contains(&n)
    }

    pub(super) fn words(self) -> String {
        match (self.min, self.max) {
            (a, b) if a == b => format!("exactly {a}"),
            (a, usize::MAX) => format!("at least {a}"),
            (0, b) => format!("at most {b}"),
            (a, b) => format!("{a} to {b}"),
        }
    }
}

/// One rule of form.
#[derive(Clone, Debug)]
pub(super) enum Rule {
    Bullets(Bound),
    Sections { bound: Bound, marker: Option<String>, names: Vec<String> },
    Paragraphs { bound: Bound, separator: Option<String> },
    Highlighted(Bound),
    Placeholders(Bound),
    CapitalWords(Bound),
    Letter(char, Bound),
    StartsWith(Vec<String>),
    EndsWith(Vec<String>),
    FirstWord { paragraph: usize, word: String },
    Case(&'static str),
    Title(&'static str),
    Postscript(String),
    OneOf(Vec<String>),
    Quoted,
    NoCommas,
    Responses { bound: Bound, separator: String },
    RepeatsPrompt,
}

/// The rules that the parameters state, at least one.
pub(super) fn read(with: &Value) -> Result<Vec<Rule>, Problem> {
    let params = Params::new(with, PARAMS)?;
    let mut rules = Vec::new();
    rules.extend(bound(&params, "bullets", &[])?.map(|(b, _)| Rule::Bullets(b)));
    rules.extend(bound(&params, "highlighted", &[])?.map(|(b, _)| Rule::Highlighted(b)));
    rules.extend(bound(&params, "placeholders", &[])?.map(|(b, _)| Rule::Placeholders(b)));
    rules.extend(bound(&params, "capital_words", &[])?.map(|(b, _)| Rule::CapitalWords(b)));
    rules.extend(sections(&params)?);
    if let Some((bound, nested)) = bound(&params, "paragraphs", &["separator"])? {
        rules.push(Rule::Paragraphs { bound, separator: string(nested.as_ref(), "separator")? });
    }
    if let Some((bound, nested)) = bound(&params, "responses", &["separator"])? {
        let separator = string(nested.as_ref(), "separator")?.unwrap_or_else(|| "******".to_owned());
        rules.push(Rule::Responses { bound, separator });
    }
    rules.extend(letters(&params)?);
    rules.extend(texts(&params, "starts_with")?.map(Rule::StartsWith));
    rules.extend(texts(&params, "ends_with")?.map(Rule::EndsWith));
    rules.extend(texts(&params, "one_of")?.map(Rule::OneOf));
    rules.extend(first_word(&params)?);
    rules.extend(params.word("case", &["lower", "upper", "title"])?.map(Rule::Case));
    rules.extend(title(&params)?.map(Rule::Title));
    rules.extend(postscript(&params)?.map(Rule::Postscript));
    rules.extend(params.boolean("quoted", false)?.then_some(Rule::Quoted));
    rules.extend((!params.boolean("commas", true)?).then_some(Rule::NoCommas));
    rules.extend(params.boolean("repeats_prompt", false)?.then_some(Rule::RepeatsPrompt));
    if rules.is_empty() {
        return Err(Problem::new("", "no rule is given", format!("at least one of {}", PARAMS.join(", "))));
    }
    Ok(rules)
}

/// A bound: a number, or a map with `min`, `max` and what else the rule takes.
fn bound<'a>(
    params: &Params<'a>,
    key: &str,
    more: &[&str],
) -> Result<Option<(Bound, Option<Params<'a>>)>, Problem> {
    match params.get(key) {
        None => Ok(None),
        Some(v) if v.is_number() => {
            let n = params.count(key)?.unwrap_or(0);
            Ok(Some((Bound { min: n, max: n }, None)))
        }
        Some(_) => {
            let known: Vec<&str> = ["min", "max"].iter().chain(more).copied().collect();
            let nested = params.nested(key, &known)?;
            let count = |k: &str| nested.as_ref().map_or(Ok(None), |n| n.count(k));
            let (min, max) = (count("min")?, count("max")?);
            let given = min.is_some() || max.is_some();
            let b = Bound { min: min.unwrap_or(usize::from(!given)), max: max.unwrap_or(usize::MAX) };
            if b.min > b.max {
                let what = format!("min {} is above max {}", b.min, b.max);
                return Err(Problem::new(key, what, "min at most max"));
            }
            Ok(Some((b, nested)))
        }
    }
}

fn string(params: Option<&Params<'_>>, key: &str) -> Result<Option<String>, Problem> {
    match params.and_then(|p| p.get(key)) {
        None => Ok(None),
        Some(Value::String(s)) if !s.trim().is_empty() => Ok(Some(s.clone())),
        Some(v) => Err(Problem::new(key, format!("is {}", kind(v)), "a string that is not empty")),
    }
}

fn texts(params: &Params<'_>, key: &str) -> Result<Option<Vec<String>>, Problem> {
    let list: Vec<String> = params.strings(key)?.into_iter().map(str::to_owned).collect();
    if list.iter().any(|s| s.trim().is_empty()) {
        return Err(Problem::new(key, "is empty", "a string that is not empty, or a list of such"));
    }
    Ok((!list.is_empty()).then_some(list))
}

fn sections(params: &Params<'_>) -> Result<Option<Rule>, Problem> {
    let Some((mut bound, nested)) = bound(params, "sections", &["marker", "names"])? else { return Ok(None) };
    let marker = string(nested.as_ref(), "marker")?;
    let names: Vec<String> = match &nested {
        Some(n) => n.strings("names")?.into_iter().map(str::to_owned).collect(),
        None => Vec::new(),
    };
    if !names.is_empty() {
        bound.min = bound.min.max(names.len());
    }
    Ok(Some(Rule::Sections { bound, marker, names }))
}

fn letters(params: &Params<'_>) -> Result<Vec<Rule>, Problem> {
    let Some(Value::Object(map)) = params.get("letters") else {
        return match params.get("letters") {
            None => Ok(Vec::new()),
            Some(v) => Err(Problem::new("letters", format!("is {}", kind(v)), "a map from letter to bound")),
        };
    };
    let keys: Vec<&str> = map.keys().map(String::as_str).collect();
    let nested = params.nested("letters", &keys)?;
    let mut rules = Vec::new();
    for key in keys {
        let mut chars = key.chars().flat_map(char::to_lowercase);
        let (Some(letter), None) = (chars.next(), chars.next()) else {
            return Err(Problem::new("letters", format!("`{key}` is not one letter"), "one letter"));
        };
        let found = nested.as_ref().map_or(Ok(None), |n| bound(n, key, &[]))?;
        rules.extend(found.map(|(b, _)| Rule::Letter(letter, b)));
    }
    Ok(rules)
}

fn first_word(params: &Params<'_>) -> Result<Option<Rule>, Problem> {
    let Some(nested) = params.nested("first_word", &["paragraph", "word"])? else { return Ok(None) };
    let paragraph = nested.count("paragraph")?.unwrap_or(1);
    let Some(word) = string(Some(&nested), "word")? else {
        return Err(Problem::new("first_word.word", "is missing", "the word"));
    };
    if paragraph == 0 {
        return Err(Problem::new("first_word.paragraph", "is 0", "a paragraph, counted from 1"));
    }
    Ok(Some(Rule::FirstWord { paragraph, word }))
}

fn title(params: &Params<'_>) -> Result<Option<&'static str>, Problem> {
    match params.get("title") {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(Value::Bool(true)) => Ok(Some("any")),
        Some(_) => params.word("title", &["angle", "heading"]),
    }
}

fn postscript(params: &Params<'_>) -> Result<Option<String>, Problem> {
    match params.get("postscript") {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(Value::Bool(true)) => Ok(Some("P.S.".to_owned())),
        Some(_) => string(Some(params), "postscript"),
    }
}
