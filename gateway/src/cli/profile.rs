//! `turnout profile`: the ten axes of one request, or how right the profiler is on labelled ones.

use super::out::Out;
use super::{GOOD, Outcome, Problem};
use engine::profiler;
use flate2::read::GzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;
use types::ChatRequest;

/// Profile one request, or measure the profiler on labelled ones
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout profile request.json\n  echo '{\"model\":\"auto\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}' | turnout profile -\n  turnout profile --eval requests.jsonl.gz --predictions predictions.jsonl"
)]
#[group(required = true, multiple = true)]
pub(super) struct Args {
    /// Body of a chat request; `-` reads standard input
    #[arg(conflicts_with_all = ["eval", "predictions"])]
    file: Option<PathBuf>,
    /// Labelled requests, one a line, plain or gzip
    #[arg(long, value_name = "FILE")]
    eval: Option<PathBuf>,
    /// Where to write one prediction a line
    #[arg(long, value_name = "FILE", requires = "eval")]
    predictions: Option<PathBuf>,
}

/// Largest input, decompressed.
const MAX_BYTES: u64 = 2 * 1024 * 1024 * 1024;

pub(super) fn run(args: &Args, out: &Out) -> Outcome {
    match (&args.eval, &args.file) {
        (Some(labelled), _) => evaluate(labelled, args.predictions.as_deref(), out),
        (None, Some(file)) => one(file, out),
        (None, None) => Err(Problem("name a file, or labelled requests with --eval".to_owned())),
    }
}

fn one(file: &Path, out: &Out) -> Outcome {
    let body = read(file)?;
    let request = ChatRequest::decode(body.into(), &types::chat::Limits::default())
        .map_err(|e| Problem(format!("{}: {} {}", file.display(), e.pointer, e.message)))?;
    profiler::warm_up();
    let start = Instant::now();
    let profile = profiler::profile(&request);
    let spent = start.elapsed();
    if out.json {
        out.value(&serde_json::to_value(&profile)?);
        return Ok(GOOD);
    }
    for (axis, value, confidence) in profile.axes() {
        out.line(&format!("{axis:22} {value:14} {confidence:.2}"));
    }
    if let Some(sub) = profile.sub_label {
        out.line(&format!("{:22} {}", "sub_label", sub.as_str()));
    }
    out.line(&format!("{:22} {}", "pooled in", profile.cell()));
    out.line(&format!("{:22} {:.3} ms", "took", spent.as_secs_f64() * 1e3));
    Ok(GOOD)
}

fn evaluate(file: &Path, predictions: Option<&Path>, out: &Out) -> Outcome {
    let text = read(file)?;
    let lines = memchr::memchr_iter(b'\n', &text).count();
    let bar = ProgressBar::new(lines as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} requests, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    let start = Instant::now();
    let clock = || -> Duration { start.elapsed() };
    let evaluation =
        profiler::eval::evaluate_timed(&*text, &mut |done| bar.set_position(done as u64), &clock)
            .map_err(|e| Problem(format!("{}: {e}", file.display())))?;
    bar.finish_and_clear();
    if let Some(path) = predictions {
        let lines: Vec<String> = evaluation.predictions.iter().map(|p| format!("{p}\n")).collect();
        std::fs::write(path, lines.concat()).map_err(|e| Problem(format!("{}: {e}", path.display())))?;
    }
    if out.json {
        out.value(&serde_json::to_value(&evaluation)?);
    } else {
        out.raw(&evaluation.to_string());
        out.line("");
    }
    Ok(GOOD)
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
