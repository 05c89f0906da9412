//! `turnout profile FILE`: every axis of one request, and what moved it by how much.

use super::read;
use crate::cli::out::Out;
use crate::cli::{GOOD, Outcome, Problem};
use profiler::{
    self,
    explain::{AxisReasons, Explanation, FamilyReasons},
};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;
use types::ChatRequest;
use types::axis::AxisValue as _;

/// Reasons shown per axis, cues shown in all.
const REASONS: usize = 4;
const CUES: usize = 16;
/// Steps of the family shown at either end.
const STEPS: usize = 10;

pub(super) fn run(file: &Path, out: &Out) -> Outcome {
    let body = read(file)?;
    let request = ChatRequest::decode(body.into(), &types::chat::Limits::default())
        .map_err(|e| Problem(format!("{}: {}", place(file, &e.pointer), e.message)))?;
    profiler::warm_up();
    let start = Instant::now();
    std::hint::black_box(profiler::profile(&request));
    let spent = start.elapsed();
    let why = profiler::explain::explain(&request);
    if out.json {
        out.value(&value(&why)?);
    } else {
        tables(&why, spent, out);
    }
    Ok(GOOD)
}

/// The file, and the member of the request where there is one.
fn place(file: &Path, pointer: &str) -> String {
    let file = if file == Path::new("-") { "standard input".into() } else { file.display().to_string() };
    if pointer.is_empty() { file } else { format!("{file}, at {pointer}") }
}

/// The profile as it is, and under `why` what moved it.
fn value(why: &Explanation) -> Result<serde_json::Value, Problem> {
    let mut all = serde_json::to_value(&why.profile)?;
    if let Some(map) = all.as_object_mut() {
        map.insert("cell".to_owned(), why.profile.cell().to_string().into());
        let reasons = serde_json::json!({"task_family": why.family, "axes": why.axes, "cues": why.cues});
        map.insert("why".to_owned(), reasons);
    }
    Ok(all)
}

fn tables(why: &Explanation, spent: Duration, out: &Out) {
    let mut table = out.table(&["axis", "value", "sure", "what gave the value its score"]);
    let family = &why.profile.task_family;
    let name = why.profile.sub_label.map_or_else(
        || family.value.as_str().to_owned(),
        |sub| format!("{} ({})", family.value.as_str(), sub.as_str()),
    );
    let because = if family.explicit { "an option".to_owned() } else { "the steps below".to_owned() };
    table.add_row(["task_family".to_owned(), name, format!("{:.2}", family.confidence), because]);
    for axis in &why.axes {
        let sure = format!("{:.2}", axis.confidence);
        table.add_row([axis.axis.to_owned(), axis.value.to_owned(), sure, because_of(axis)]);
    }
    out.line(&table.to_string());
    steps(&why.family, out);
    cues(why, out);
    out.line(&format!("pooled in {}; profiled in {:.0} µs", why.profile.cell(), spent.as_secs_f64() * 1e6));
}

fn because_of(axis: &AxisReasons) -> String {
    if let Some(by) = axis.said_by {
        return by.to_owned();
    }
    if axis.reasons.is_empty() {
        return "nothing in the request speaks against the usual".to_owned();
    }
    let reasons = axis.reasons.iter().take(REASONS);
    reasons.map(|r| format!("{} {:+.2}", r.signal, r.adds)).collect::<Vec<_>>().join(", ")
}

fn steps(family: &FamilyReasons, out: &Out) {
    out.line(&format!(
        "\n{} over {}: log odds {:+.2}, divided by {:.2} for the probability",
        family.winner, family.runner_up, family.log_odds, family.temperature
    ));
    let mut table = out.table(&["kind", "feature", "value", "adds"]);
    let left_out = family.steps.len().saturating_sub(2 * STEPS);
    for (i, step) in family.steps.iter().enumerate() {
        if left_out > 0 && i >= STEPS && i < family.steps.len().saturating_sub(STEPS) {
            if i == STEPS {
                table.add_row([String::new(), format!("… {left_out} more"), String::new(), String::new()]);
            }
            continue;
        }
        let value = if step.value == 0.0 { String::new() } else { format!("{:.2}", step.value) };
        table.add_row([step.kind.to_owned(), step.feature.clone(), value, format!("{:+.2}", step.adds)]);
    }
    out.line(&table.to_string());
}

fn cues(why: &Explanation, out: &Out) {
    if why.cues.is_empty() {
        return;
    }
    let shown = why.cues.iter().take(CUES).map(|c| format!("{} “{}” {:.1}", c.signal, c.words, c.adds));
    let more = why.cues.len().saturating_sub(CUES);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    out.line(&format!("cues: {}{more}", shown.collect::<Vec<_>>().join(", ")));
}
