//! Labelled requests as the optimiser sees them.

use super::{Error, Input, Settings, dress};
use crate::cues::{self, Signal};
use crate::dense;
use crate::features::{Features, Hit, ask_text};
use crate::model::Class;
use crate::train::folds;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use types::ChatRequest;

/// A line of an input: a labelled request of the eval set, or a query of a routing pack.
#[derive(Deserialize)]
struct Line {
    #[serde(alias = "query_id")]
    id: String,
    source: Option<String>,
    source_label: Option<String>,
    licence: Option<String>,
    task_family: Option<String>,
    task: Option<String>,
    request: Option<Value>,
    prompt: Option<Value>,
    tools: Option<Value>,
}

/// Which cues count: those that other sources than the held ones can vouch for.
pub(crate) type Mask = Vec<bool>;

/// One labelled request.
pub(crate) struct Example {
    /// The line's id.
    pub(crate) id: String,
    /// Where it comes from.
    pub(crate) source: String,
    /// Sources that share text are one group; never in training and test at once.
    pub(crate) group: usize,
    /// What it is labelled as.
    pub(crate) class: Class,
    /// A copy in other clothes: trained on, never judged.
    pub(crate) dressed: bool,
    /// Structure and counts.
    features: Features,
    /// Cues found.
    hits: Vec<Hit>,
    /// N-grams: bucket and value, the values of unit length together.
    pub(crate) grams: Vec<(u32, f32)>,
    /// Hashes of runs of words, by which shared text is noticed.
    runs: Vec<u64>,
}

impl Example {
    /// The example of a body, which must be a valid request.
    fn of(id: String, source: String, class: Class, body: &Value) -> Result<Self, types::chat::Error> {
        let request = ChatRequest::from_value(body)?;
        let (mut grams, mut hits) = (Vec::new(), Vec::new());
        let features = Features::read_noting(&request, &mut grams, Some(&mut hits));
        let length = grams.iter().map(|(_, v): &(u32, f32)| v * v).sum::<f32>().sqrt();
        for (_, value) in &mut grams {
            *value /= length;
        }
        let runs = folds::runs(&ask_text(&request));
        Ok(Example { id, source, group: 0, class, dressed: false, features, hits, grams, runs })
    }

    /// The example in other clothes; its text counts for nothing when sources are grouped.
    fn dressed(&self, body: &Value, draw: u64) -> Option<Self> {
        let copy = dress::dressed(body, draw)?;
        let example = Self::of(self.id.clone(), self.source.clone(), self.class, &copy).ok()?;
        Some(Example { dressed: true, runs: Vec::new(), ..example })
    }

    /// The numbers the model weighs; cues that `mask` does not vouch for are as if they were not written.
    pub(crate) fn numbers(&self, mask: Option<&Mask>) -> [f32; dense::COUNT] {
        let Some(mask) = mask else { return dense::numbers(&self.features) };
        let mut features = self.features.clone();
        features.signals = [0.0; Signal::COUNT];
        for (cue, value) in &self.hits {
            let vouched = mask.get(*cue as usize).copied().unwrap_or(false);
            if let Some(c) = cues::cue(*cue as usize).filter(|_| vouched)
                && let Some(sum) = features.signals.get_mut(c.signal as usize)
            {
                *sum += value;
            }
        }
        dense::numbers(&features)
    }
}

/// Every labelled request of the inputs.
pub(crate) struct Corpus {
    /// In the order of the inputs.
    pub(crate) examples: Vec<Example>,
    /// Licence per source, where the lines state one.
    pub(crate) licences: BTreeMap<String, String>,
}

/// A line that has a family.
struct Labelled {
    id: String,
    source: String,
    class: Class,
    body: Value,
    place: (usize, usize),
}

impl Corpus {
    /// Reads all lines that have a family, takes a bounded number per source (all of the first `whole` inputs), and
    /// groups sources that share text.
    pub(crate) fn read(inputs: &[Input<'_>], whole: usize, settings: &Settings) -> Result<Self, Error> {
        let mut licences = BTreeMap::new();
        let mut rows = Vec::new();
        let mut seen = BTreeSet::new();
        for (n, input) in inputs.iter().enumerate() {
            for (i, line) in input.text.split(|b| *b == b'\n').enumerate() {
                let Some(row) = labelled(input, (n, i.saturating_add(1)), line, &mut licences)? else {
                    continue;
                };
                // Packs share questions: one is taken once.
                if seen.insert((row.id.clone(), row.class)) {
                    rows.push(row);
                }
            }
        }
        thin(&mut rows, whole, settings);
        let mut corpus = Corpus { examples: Vec::new(), licences };
        for row in rows {
            let Labelled { id, source, class, body, place: (input, line) } = row;
            let draw = draw(settings, &id);
            let example = Example::of(id, source, class, &body).map_err(|e| Error::Line {
                name: inputs.get(input).map_or("", |i| i.name).to_owned(),
                line,
                problem: format!("the request is refused at `{}`: {}", e.pointer, e.message),
            })?;
            if settings.dressed_every > 0 && draw.is_multiple_of(settings.dressed_every) {
                corpus.examples.extend(example.dressed(&body, draw / settings.dressed_every));
            }
            corpus.examples.push(example);
        }
        folds::group(&mut corpus.examples);
        Ok(corpus)
    }

    /// How many groups of sources there are.
    pub(crate) fn groups(&self) -> usize {
        self.examples.iter().map(|e| e.group).collect::<BTreeSet<_>>().len()
    }

    /// Weight per example: every family alike, within it every group alike; 0 outside. The mean inside is 1.
    pub(crate) fn weights(&self, inside: impl Fn(&Example) -> bool) -> Vec<f64> {
        let mut counts: BTreeMap<(Class, usize), f64> = BTreeMap::new();
        for e in self.examples.iter().filter(|e| inside(e)) {
            *counts.entry((e.class, e.group)).or_default() += 1.0;
        }
        let mut groups: BTreeMap<Class, f64> = BTreeMap::new();
        for (class, _) in counts.keys() {
            *groups.entry(*class).or_default() += 1.0;
        }
        let total: f64 = counts.values().sum();
        let families = groups.len() as f64;
        let weight = |e: &Example| {
            let n = counts.get(&(e.class, e.group)).copied()?;
            Some(total / (families * groups.get(&e.class)? * n))
        };
        self.examples.iter().map(|e| if inside(e) { weight(e).unwrap_or(0.0) } else { 0.0 }).collect()
    }

    /// The cues that examples `inside` vouch for: found there in a request of the family the cue speaks for, or, for
    /// cues that speak for no family, in any.
    pub(crate) fn vouched(&self, inside: impl Fn(&Example) -> bool) -> Mask {
        let mut mask = vec![false; cues::count()];
        for example in self.examples.iter().filter(|e| inside(e)) {
            for (number, _) in &example.hits {
                let Some(cue) = cues::cue(*number as usize) else { continue };
                let fits = speaks_for(cue.signal).is_none_or(|class| class == example.class);
                if let Some(slot) = mask.get_mut(*number as usize) {
                    *slot |= fits;
                }
            }
        }
        mask
    }

    /// Hashes of runs of words of one example.
    pub(super) fn runs(examples: &[Example]) -> impl Iterator<Item = (&str, &[u64])> {
        examples.iter().map(|e| (e.source.as_str(), e.runs.as_slice()))
    }
}

/// A line that has a family; `None` for blank lines and those without.
fn labelled(
    input: &Input<'_>,
    place: (usize, usize),
    line: &[u8],
    licences: &mut BTreeMap<String, String>,
) -> Result<Option<Labelled>, Error> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let fail = |problem: String| Error::Line { name: input.name.to_owned(), line: place.1, problem };
    let row: Line = serde_json::from_slice(line).map_err(|e| fail(format!("not a labelled request: {e}")))?;
    let label = row.task_family.or(row.task).unwrap_or_default();
    // Factual questions are chat; a refinement tells them apart.
    let label = if label == "knowledge_qa" { "chat" } else { label.as_str() };
    let Some(class) = Class::parse(label) else { return Ok(None) };
    let body = match (row.request, row.prompt) {
        (Some(body), _) => body,
        (None, Some(prompt)) => {
            let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": prompt}]});
            if let (Some(tools), Some(map)) = (row.tools, body.as_object_mut()) {
                map.insert("tools".into(), tools);
            }
            body
        }
        (None, None) => return Err(fail("neither `request` nor `prompt`; expected one of them".into())),
    };
    let part = |s: &str| s.split('/').next().unwrap_or(s).to_owned();
    let source = row.source.or_else(|| row.source_label.as_deref().map(part));
    let source = source.unwrap_or_else(|| input.name.to_owned());
    if let Some(licence) = row.licence {
        licences.insert(source.clone(), licence);
    }
    Ok(Some(Labelled { id: row.id, source, class, body, place }))
}

/// A number that follows from seed and id alone.
fn draw(settings: &Settings, id: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&settings.seed.to_le_bytes()).update(id.as_bytes());
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
}

/// Takes at most so many of a source and family, by their draw.
fn thin(rows: &mut Vec<Labelled>, whole: usize, settings: &Settings) {
    let mut by_source: BTreeMap<(String, Class), Vec<(u64, usize)>> = BTreeMap::new();
    for (i, row) in rows.iter().enumerate().filter(|(_, r)| r.place.0 >= whole) {
        by_source.entry((row.source.clone(), row.class)).or_default().push((draw(settings, &row.id), i));
    }
    let mut left_out = BTreeSet::new();
    for mut drawn in by_source.into_values() {
        drawn.sort_unstable();
        left_out.extend(drawn.into_iter().skip(settings.per_source).map(|(_, i)| i));
    }
    let mut i = 0_usize;
    rows.retain(|_| {
        let keep = !left_out.contains(&i);
        i = i.saturating_add(1);
        keep
    });
}

const fn speaks_for(signal: Signal) -> Option<Class> {
    Some(match signal {
        Signal::Chat | Signal::Persona | Signal::Factual | Signal::Summarise | Signal::Translate => {
            Class::Chat
        }
        Signal::Extraction | Signal::Labels => Class::Extraction,
        Signal::Coding | Signal::Patch => Class::Coding,
        Signal::Planning => Class::Planning,
        Signal::ToolUse => Class::ToolUse,
        Signal::Rag | Signal::Document => Class::Rag,
        Signal::Eval | Signal::Candidate => Class::Eval,
        Signal::Agent | Signal::Action => Class::AgentLoop,
        Signal::Math | Signal::Quantity | Signal::NumberWord => Class::Math,
        Signal::Form => Class::Creative,
        _ => return None,
    })
}
