//! `turnout profile`: the ten axes of one request and why, how right the profiler is on labelled ones, and its
//! training.

mod one;
mod plot;
mod train;

use super::out::Out;
use super::{GOOD, Outcome, Problem};
use flate2::read::GzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use profiler::{self, train::Settings};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// Profile one request, measure the profiler on labelled ones, or train it
#[derive(clap::Args, Debug, Default)]
#[command(
    after_help = "Examples:\n  turnout profile request.json\n  echo '{\"model\":\"auto\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}' | turnout profile -\n  turnout profile --eval requests.jsonl.gz --predictions predictions.jsonl --svg reliability.svg\n  turnout profile --eval requests.jsonl.gz --by-source --with more.jsonl.gz\n  turnout profile --train requests.jsonl.gz more.jsonl.gz --out family.model"
)]
pub(super) struct Args {
    /// Body of a chat request; `-` reads standard input
    #[arg(conflicts_with_all = ["eval", "predictions", "train"])]
    file: Option<PathBuf>,
    /// Labelled requests, one a line, plain or gzip
    #[arg(long, value_name = "FILE", conflicts_with = "train")]
    eval: Option<PathBuf>,
    /// Where to write one prediction a line
    #[arg(long, value_name = "FILE", requires = "eval", conflicts_with = "by_source")]
    predictions: Option<PathBuf>,
    /// Where to draw how sure the profiles are against how often right, as a picture
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    svg: Option<PathBuf>,
    /// Judge every source by weights fitted without it, instead of judging the built-in model
    #[arg(long, requires = "eval")]
    by_source: bool,
    /// Labelled requests to fit on as well, never judged
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "by_source")]
    with: Vec<PathBuf>,
    /// Train the task family's model on these labelled requests
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "out")]
    train: Vec<PathBuf>,
    /// Where to write the model; its report goes beside it, ending in .json
    #[arg(long, value_name = "FILE", requires = "train")]
    out: Option<PathBuf>,
    /// Chooses which requests of a large source are taken and how copies are dressed [default: that of the built-in model]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

/// Largest input, decompressed.
const MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;

pub(super) fn run(args: &Args, out: &Out) -> Outcome {
    let settings = Settings { seed: args.seed.unwrap_or(Settings::default().seed), ..Settings::default() };
    match (&args.file, &args.eval, &args.out) {
        (Some(file), _, _) => one::run(file, out),
        (None, Some(labelled), _) if args.by_source => by_source(labelled, args, &settings, out),
        (None, Some(labelled), _) => evaluate(labelled, args, out),
        (None, None, Some(to)) => train::run(args, to, &settings, out),
        (None, None, None) => Err(Problem(
            "name a file, or labelled requests with --eval, or with --train together with --out".to_owned(),
        )),
    }
}

fn evaluate(file: &Path, args: &Args, out: &Out) -> Outcome {
    let text = read(file)?;
    let lines = memchr::memchr_iter(b'\n', &text).count();
    let bar = progress(lines, "requests");
    let start = Instant::now();
    let clock = || -> Duration { start.elapsed() };
    let evaluation =
        profiler::eval::evaluate_timed(&*text, &mut |done| bar.set_position(done as u64), &clock)
            .map_err(|e| Problem(format!("{}: {e}", file.display())))?;
    bar.finish_and_clear();
    if evaluation.predictions.is_empty() {
        return Err(nothing_in(file));
    }
    if let Some(path) = &args.predictions {
        let lines: Vec<String> = evaluation.predictions.iter().map(|p| format!("{p}\n")).collect();
        std::fs::write(path, lines.concat()).map_err(|e| Problem(format!("{}: {e}", path.display())))?;
    }
    let family = Some(("task_family", &evaluation.reliability)).filter(|_| evaluation.labelled > 0);
    let others = evaluation.axes.iter().map(|(axis, r)| (*axis, r));
    plot::write(args.svg.as_deref(), family.into_iter().chain(others))?;
    say(&evaluation, out)
}

/// Nothing measured is no accuracy of 0.
fn nothing_in(file: &Path) -> Problem {
    Problem(format!("{}: no requests in it, so that nothing is measured", file.display()))
}

fn by_source(judged: &Path, args: &Args, settings: &Settings, out: &Out) -> Outcome {
    let files: Vec<PathBuf> = std::iter::once(judged.to_owned()).chain(args.with.iter().cloned()).collect();
    let files = train::read_all(&files)?;
    let inputs = train::inputs(&files);
    let Some((judged, others)) = inputs.split_first() else {
        return Err(Problem("no labelled requests to judge".to_owned()));
    };
    if judged.text.trim_ascii().is_empty() {
        return Err(nothing_in(Path::new(judged.name)));
    }
    let bar = progress(0, "fits");
    let told = |done: usize, total: usize| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let found = profiler::eval::by_source(judged, others, settings, &told)?;
    bar.finish_and_clear();
    let plots = [
        ("task_family by source, as written", &found.written.reliability),
        ("task_family by source, vouched", &found.vouched.reliability),
    ];
    plot::write(args.svg.as_deref(), plots)?;
    say(&found, out)
}

fn say(result: &(impl std::fmt::Display + serde::Serialize), out: &Out) -> Outcome {
    if out.json {
        out.value(&serde_json::to_value(result)?);
    } else {
        out.raw(&result.to_string());
        out.line("");
    }
    Ok(GOOD)
}

fn progress(total: usize, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(total as u64);
    let template = format!("{{bar:40}} {{pos}}/{{len}} {what}, {{eta}} left");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}

/// A file, decompressed if it is gzip.
fn read(file: &Path) -> Result<Vec<u8>, Problem> {
    let failed = |e: io::Error| Problem(format!("cannot read {}: {e}", file.display()));
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        io::stdin().lock().take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        bytes = std::fs::read(file).map_err(failed)?;
    }
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    GzDecoder::new(&*bytes).take(MAX_BYTES).read_to_end(&mut plain).map_err(failed)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_requests_measures_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty.jsonl");
        for text in ["", "\n \n"] {
            std::fs::write(&path, text).unwrap();
            let out = Out::new(true);
            let settings = Settings::default();
            let args = Args::default();
            for outcome in [evaluate(&path, &args, &out), by_source(&path, &args, &settings, &out)] {
                let Err(Problem(told)) = outcome else { panic!("{text:?} was measured") };
                assert!(told.contains("empty.jsonl: no requests in it"), "{text:?}: {told}");
            }
        }
    }
}
