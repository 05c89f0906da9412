//! The structure and the signals of a request as a list of numbers, each about 0..=1 or a logarithm.

use crate::cues::Signal;
use crate::features::{Contract, Features};

/// A number the model weighs: its name in explanations and reports, and how it is read off.
type Entry = (&'static str, fn(&Features) -> f32);

/// How many numbers there are.
pub(crate) const COUNT: usize = STRUCTURE.len() + Signal::WEIGHED + PAIRS.len();

/// Where the signals begin.
pub(crate) const FIRST_SIGNAL: usize = STRUCTURE.len();

/// Names in the order of [`numbers`].
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    let structure = STRUCTURE.iter().map(|(name, _)| *name);
    let signals = Signal::ALL.iter().take(Signal::WEIGHED).map(|(_, name)| *name);
    structure.chain(signals).chain(PAIRS.iter().map(|(name, _)| *name))
}

/// Where a name stands in [`numbers`].
pub(crate) fn position(name: &str) -> Option<usize> {
    names().position(|n| n == name)
}

/// The numbers of a request.
pub(crate) fn numbers(f: &Features) -> [f32; COUNT] {
    let mut out = [0.0; COUNT];
    let structure = STRUCTURE.iter().map(|(_, read)| read(f));
    let signals = f.signals.iter().take(Signal::WEIGHED).map(|s| s.ln_1p());
    let pairs = PAIRS.iter().map(|(_, read)| read(f));
    for (slot, value) in out.iter_mut().zip(structure.chain(signals).chain(pairs)) {
        *slot = value;
    }
    out
}

/// 1 if `holds`, else 0.
fn one(holds: bool) -> f32 {
    f32::from(u8::from(holds))
}

/// `n / full`, at most 1.
fn part(n: u32, full: f32) -> f32 {
    (n as f32 / full).min(1.0)
}

/// A share of turns; 0 if there are none.
fn share(n: u32, of: u32) -> f32 {
    if of == 0 { 0.0 } else { n as f32 / of as f32 }
}

fn log(n: u32) -> f32 {
    ((n as f32).ln_1p() / 3.0).min(1.2)
}

/// How near the length of the ask is to 2^`octave` bytes, on a logarithmic scale.
fn near(f: &Features, octave: f32) -> f32 {
    (1.0 - ((f.ask_bytes as f32 + 1.0).log2() - octave).abs() / 2.0).max(0.0)
}

/// Per hundred bytes of the ask that were read.
fn density(f: &Features, n: u32, per: f32) -> f32 {
    (n as f32 * per / f.shape.bytes.max(1) as f32).min(1.0)
}

fn offered(f: &Features) -> bool {
    f.facts.tools > 0 && !f.tools_forbidden
}

/// Structure first: what the form of the request says without a look at its words.
const STRUCTURE: &[Entry] = &[
    ("tools offered", |f| one(offered(f))),
    ("number of tools", |f| if offered(f) { log(f.facts.tools) } else { 0.0 }),
    ("tool demanded", |f| one(f.tools_demanded && f.facts.tools > 0)),
    ("tool results", |f| one(f.facts.tool_results > 0)),
    ("number of tool results", |f| log(f.facts.tool_results)),
    ("share of command turns", |f| share(f.command_turns, f.looked_turns)),
    ("share of turns without question", |f| share(f.questionless_turns, f.history_turns)),
    ("ends in a prompt", |f| one(f.ask_edge.prompt)),
    ("contract: json", |f| one(f.contract == Contract::JsonObject)),
    ("contract: schema", |f| one(f.contract == Contract::JsonSchema)),
    ("ask of 8 bytes", |f| near(f, 3.0)),
    ("ask of 32 bytes", |f| near(f, 5.0)),
    ("ask of 128 bytes", |f| near(f, 7.0)),
    ("ask of 512 bytes", |f| near(f, 9.0)),
    ("ask of 2 KiB", |f| near(f, 11.0)),
    ("ask of 8 KiB", |f| near(f, 13.0)),
    ("ask of 32 KiB", |f| near(f, 15.0)),
    ("lines", |f| ((f.shape.lines as f32).ln_1p() / 4.0).min(1.2)),
    ("length of lines", |f| (f.shape.bytes as f32 / f.shape.lines.max(1) as f32 / 400.0).min(1.0)),
    ("code lines", |f| part(f.shape.code_lines, 4.0)),
    ("share of code", |f| f.shape.code_share()),
    ("definitions", |f| one(f.shape.definitions > 0)),
    ("fences", |f| one(f.shape.fences > 0)),
    ("data lines", |f| part(f.shape.data_lines, 6.0)),
    ("table lines", |f| part(f.shape.table_lines, 4.0)),
    ("numbers", |f| part(f.signs.numbers, 6.0)),
    ("density of numbers", |f| density(f, f.signs.numbers, 25.0)),
    ("formula signs", |f| part(f.signs.formula, 8.0)),
    ("density of formula signs", |f| density(f, f.signs.formula, 20.0)),
    ("question", |f| one(f.signs.questions > 0)),
    ("ends in a question", |f| one(f.ask_edge.question)),
    ("ends in a colon", |f| one(f.ask_edge.colon)),
    ("begins in lower case", |f| one(f.ask_edge.lower)),
    ("beyond ASCII", |f| density(f, f.signs.beyond_ascii, 1.5)),
    ("labelled lines", |f| (f.shape.label_kinds() as f32 / 5.0).min(1.0)),
    ("examples", |f| part(f.shape.label_repeats(), 4.0)),
    ("options", |f| part(f.shape.option_lines, 4.0)),
    ("tags", |f| part(f.shape.tag_lines, 4.0)),
    ("bracketed lines", |f| part(f.shape.bracket_lines, 3.0)),
    ("headings", |f| part(f.shape.heading_lines, 3.0)),
    ("list", |f| part(f.shape.list_lines, 6.0)),
    ("braces", |f| part(f.signs.braces, 4.0)),
    ("bars", |f| part(f.signs.bars, 8.0)),
    ("quotes", |f| part(f.signs.quotes, 4.0)),
    ("paragraphs", |f| part(f.shape.paragraphs, 6.0)),
    ("long prose", |f| (f.shape.longest_prose as f32 / 800.0).min(1.0)),
    ("documents in the ask", |f| part(f.shape.document_lines, 3.0)),
    ("documents in the instructions", |f| part(f.instruction_shape.document_lines, 3.0)),
    ("document marks in the instructions", |f| f.instruction_documents.max(0.0).ln_1p()),
    ("code in the instructions", |f| {
        one(f.instruction_shape.code_lines > 1 || f.instruction_shape.fences > 1)
    }),
    ("material and a question", |f| {
        one(f.shape.longest_prose > 0 && f.shape.edge_question && f.shape.paragraphs <= 8)
    }),
    ("instructions that are material", |f| {
        let material = f.instruction_shape.longest_prose > 0 && f.ask_bytes < 300;
        one(material) * if f.instruction_address { 0.3 } else { 1.0 }
    }),
];

/// Two things at once that say more than both alone.
const PAIRS: &[Entry] = &[
    ("compose a form", |f| f.signal(Signal::Compose).ln_1p().min(1.0) * f.signal(Signal::Form).ln_1p()),
    ("compose a summary", |f| {
        let retold = f.signal(Signal::Summarise) + f.signal(Signal::Translate);
        f.signal(Signal::Compose).ln_1p().min(1.0) * retold.ln_1p()
    }),
    ("compose code", |f| f.signal(Signal::Compose).ln_1p().min(1.0) * f.signal(Signal::Coding).ln_1p()),
    ("quantities asked and given", |f| {
        let given = f.signs.numbers as f32 + f.signal(Signal::NumberWord).min(4.0);
        f.signal(Signal::Quantity).ln_1p() * (given / 6.0).min(1.0)
    }),
    ("much of judging", |f| excess(f.signal(Signal::Eval), 6.0)),
    ("much of tools", |f| excess(f.signal(Signal::ToolUse), 4.0)),
    ("bound to material", |f| {
        f.signal(Signal::Rag).ln_1p() * (f.shape.longest_prose as f32 / 600.0).min(1.0)
    }),
    ("labels of material", |f| {
        f.signal(Signal::Extraction).ln_1p() * (f.shape.longest_prose as f32 / 600.0).min(1.0)
    }),
    ("actions in a transcript", |f| f.signal(Signal::Action).ln_1p() * one(f.assistant_turns > 0)),
    ("judged candidates", |f| f.signal(Signal::Candidate).ln_1p() * f.signal(Signal::Eval).ln_1p() / 2.0),
];

/// The logarithm of what goes beyond a threshold.
fn excess(value: f32, threshold: f32) -> f32 {
    (value / threshold).max(1.0).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_counted() {
        let all: BTreeSet<&str> = names().collect();
        assert_eq!((all.len(), names().count()), (COUNT, COUNT));
        assert_eq!(position("tools offered"), Some(0));
        assert_eq!(position("no such thing"), None);
    }

    #[test]
    fn numbers_stay_in_range() {
        for text in ["", "?", "Write 3 poems.", &"{x} = 1\n".repeat(9_000), &"汉".repeat(70_000)] {
            let body = serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": text}]});
            let request = types::ChatRequest::from_value(&body).expect("a valid request");
            let f = Features::read(&request, &mut crate::grams::Nowhere);
            for (name, value) in names().zip(numbers(&f)) {
                assert!((0.0..=12.0).contains(&value), "{name} of {text:.20}: {value}");
            }
        }
    }
}
