//! Measures profiles against labelled requests, with the numbers of the labelled set's own scoring script.

mod by_source;
mod reliability;
mod row;
mod score;

pub use by_source::{BySource, Fold, Reading, by_source};
pub use reliability::Reliability;
pub use score::{Evaluation, Latency, SourceAccuracy};

use crate::dense;
use crate::features::Features;
use crate::model::Model;
use row::Row;
use std::io::BufRead;
use std::time::Duration;
use types::diagnostic::suggestion;
use types::{Blame, ChatRequest};

/// Why a labelled set could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input could not be read.
    #[error("cannot read line {line} of the labelled requests: {source}")]
    Read {
        /// Line, from 1.
        line: usize,
        /// What the reader said.
        source: std::io::Error,
    },
    /// A line is not a labelled request.
    #[error(
        "line {line} is not a labelled request: {source}; expected one JSON object a line with id, source, \
         task_family, axes and request"
    )]
    Row {
        /// Line, from 1.
        line: usize,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The `task_family` of a line is none.
    #[error("line {line} ({id}): `{label}` is no task family; {hint}")]
    Label {
        /// Line, from 1.
        line: usize,
        /// The row's id.
        id: String,
        /// What stands there.
        label: String,
        /// What was probably meant.
        hint: String,
    },
    /// The `request` of a line is not a chat-completions body.
    #[error("line {line} ({id}): `request` is refused at `{}`: {}", source.pointer, source.message)]
    Request {
        /// Line, from 1.
        line: usize,
        /// The row's id.
        id: String,
        /// Where and why.
        source: types::chat::Error,
    },
}

impl Error {
    /// Who can do something about it: whoever supplied the file.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Error::Read { .. } => Blame::Internal,
            Error::Row { .. } | Error::Label { .. } | Error::Request { .. } => Blame::Client,
        }
    }

    /// Never: the same input fails the same way.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        false
    }

    /// The whole message: it names lines and ids of the file only.
    #[must_use]
    pub fn public_message(&self) -> String {
        self.to_string()
    }
}

/// Profiles every labelled request of `input` (JSON lines, already decompressed) and scores the profiles.
///
/// `progress` is called after each request with the number done so far. Blank lines are skipped.
///
/// # Errors
/// The first line that cannot be read, is no labelled request, names no task family, or holds a refused body.
pub fn evaluate(input: impl BufRead, progress: &mut dyn FnMut(usize)) -> Result<Evaluation, Error> {
    run(input, progress, None)
}

/// As [`evaluate`], and measures the time of each profile with `clock` (any monotonic time since a fixed
/// moment); parsing is not counted.
///
/// # Errors
/// As for [`evaluate`].
pub fn evaluate_timed(
    input: impl BufRead,
    progress: &mut dyn FnMut(usize),
    clock: &dyn Fn() -> Duration,
) -> Result<Evaluation, Error> {
    run(input, progress, Some(clock))
}

fn run(
    input: impl BufRead,
    progress: &mut dyn FnMut(usize),
    clock: Option<&dyn Fn() -> Duration>,
) -> Result<Evaluation, Error> {
    let mut tally = score::Tally::default();
    let mut done = 0_usize;
    crate::warm_up();
    for (i, line) in input.lines().enumerate() {
        let number = i.saturating_add(1);
        let line = line.map_err(|source| Error::Read { line: number, source })?;
        if line.trim().is_empty() {
            continue;
        }
        let row: Row = serde_json::from_str(&line).map_err(|source| Error::Row { line: number, source })?;
        if let Some(label) = row.unknown_family() {
            let hint = suggestion(label, row::families());
            return Err(Error::Label { line: number, id: row.id.clone(), label: label.to_owned(), hint });
        }
        let request = ChatRequest::from_value(&row.request).map_err(|source| Error::Request {
            line: number,
            id: row.id.clone(),
            source,
        })?;
        let start = clock.map(|c| c());
        let model = Model::shipped();
        let mut grams = model.sums();
        let features = Features::read(&request, &mut grams);
        let mut log_odds = model.log_odds(&dense::numbers(&features), &grams);
        crate::outright::add(&features, &mut log_odds);
        let profile = crate::assemble(&request, &features, &model.probabilities(&log_odds));
        let spent = clock.zip(start).map(|(c, start)| c().saturating_sub(start));
        tally.add(&row, &row::Prediction::of(&row.id, &features, &profile, spent));
        done = done.saturating_add(1);
        progress(done);
    }
    Ok(tally.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(id: &str, family: Option<&str>, text: &str) -> String {
        json!({"id": id, "source": "s", "task_family": family,
            "axes": {"tools_offered": 0, "output_contract": "free_text", "context_topology": "single_turn",
                "approx_input_tokens": text.len() / 4},
            "request": {"model": "auto", "messages": [{"role": "user", "content": text}]}})
        .to_string()
    }

    fn check(lines: &[String]) -> Result<Evaluation, Error> {
        let mut done = 0;
        let result = evaluate(lines.join("\n").as_bytes(), &mut |n| done = n);
        if let Ok(e) = &result {
            assert_eq!(done, e.predictions.len());
        }
        result
    }

    #[test]
    fn numbers_follow_the_script() {
        let e = check(&[
            row("a", Some("creative"), "Write a poem about the sea."),
            row("b", Some("coding"), "Write a Python function that sorts a list."),
            row("c", Some("coding"), "Write a haiku."),
            row("d", None, "Hello"),
        ])
        .expect("good rows");
        assert_eq!((e.labelled, e.missing, e.predictions.len()), (3, 0, 4));
        assert!((e.accuracy - 2.0 / 3.0).abs() < 1e-9);
        // creative: tp 1, fp 1 -> 2/3; coding: tp 1, fn 1 -> 2/3.
        assert!((e.macro_f1 - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(e.source_macro_accuracy, None, "sources under twenty rows do not count");
        assert!(e.to_string().contains("source-macro accuracy=- "), "{e}");
        assert_eq!(e.confusion, vec![("coding".into(), "creative".into(), 1)]);
        assert!(e.latency_ms.is_none());
        assert!(e.to_string().contains("macro-F1"));
    }

    #[test]
    fn axes_whose_truth_is_labelled_are_plotted_beside_the_family() {
        let labelled = |id: &str, json: bool, text: &str| {
            let mut row: serde_json::Value = serde_json::from_str(&row(id, None, text)).expect("a row");
            row["axes"]["json_requested_in_text"] = json.into();
            row.to_string()
        };
        let e = check(&[
            labelled("a", true, "List three fruits. Return a JSON array only."),
            labelled("b", false, "Is it warm in Rome?"),
            labelled("c", true, "Is it warm in Rome?"),
        ])
        .expect("good rows");
        let of = |axis: &str| {
            e.axes[axis].bins().fold((0.0, 0), |(s, n), (_, right, m)| (s + right * m as f64, n + m))
        };
        let (right, n) = of("output_contract");
        assert!((right - 2.0).abs() < 1e-9 && n == 3, "{right} of {n}");
        assert_eq!(of("tool_dependence"), (3.0, 3));
        let text = e.to_string();
        assert!(text.contains("\n  output_contract\n") && !text.contains("\n  task_family\n"), "{text}");
        // Where no label says it, nothing is plotted.
        let silent = check(&[row("a", Some("chat"), "Hi")]).expect("a good row");
        assert_eq!(silent.axes.keys().copied().collect::<Vec<_>>(), ["tool_dependence"]);
    }

    #[test]
    fn a_clock_gives_latencies() {
        let now = std::cell::Cell::new(0_u64);
        let clock = || {
            now.set(now.get() + 5);
            Duration::from_micros(now.get())
        };
        let e = evaluate_timed(row("a", None, "Hi").as_bytes(), &mut |_| {}, &clock).expect("a good row");
        assert_eq!(e.latency_ms, Some(Latency { p50: 0.005, p99: 0.005, max: 0.005 }));
    }

    #[test]
    fn errors_name_the_line() {
        for (line, expected) in [
            ("{".to_owned(), "line 2 is not a labelled request"),
            (json!({"id": "x", "source": "s", "axes": {}, "request": {}}).to_string(), "line 2 (x)"),
            (row("y", Some("codin"), "Hi"), "line 2 (y): `codin` is no task family; did you mean `coding`?"),
        ] {
            let error = check(&[row("a", None, "Hi"), line]).expect_err("a bad line");
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!error.retryable());
        }
    }

    #[test]
    fn an_empty_set_is_no_division_by_zero() {
        let e = check(&[]).expect("nothing to fail");
        assert_eq!((e.labelled, e.accuracy, e.macro_f1), (0, 0.0, 0.0));
    }
}
