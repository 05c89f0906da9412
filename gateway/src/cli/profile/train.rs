//! `turnout profile --train`: fits the task family's model and writes it with its report.

use super::{Args, plot, progress, read};
use crate::cli::out::Out;
use crate::cli::{GOOD, Outcome, Problem};
use profiler::train::{self, Input, Settings};
use std::path::{Path, PathBuf};

/// Name and text of every file.
type Files = Vec<(String, Vec<u8>)>;

pub(super) fn run(args: &Args, to: &Path, settings: &Settings, out: &Out) -> Outcome {
    let files = read_all(&args.train)?;
    let bar = progress(0, "fits");
    let told = |done: usize, total: usize| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let trained = train::train(&inputs(&files), settings, &told)?;
    bar.finish_and_clear();
    let beside = to.with_extension("json");
    let report = serde_json::to_value(&trained.report)?;
    write(to, &trained.model)?;
    write(&beside, format!("{}\n", serde_json::to_string_pretty(&report)?).as_bytes())?;
    plot::write(args.svg.as_deref(), [("task_family on unseen sources", &trained.report.reliability)])?;
    if out.json {
        out.value(&report);
        return Ok(GOOD);
    }
    let r = &trained.report;
    let mut table = out.table(&["family", "requests", "F1 on unseen sources"]);
    for (name, family) in &r.families {
        table.add_row([name.clone(), family.requests.to_string(), format!("{:.3}", family.f1)]);
    }
    out.line(&table.to_string());
    out.raw(&r.reliability.to_string());
    out.line(&format!(
        "{} requests and {} dressed copies from {} sources in {} groups that share no text\n\
         on unseen sources: accuracy {:.4}, macro-F1 {:.4}, calibration error {:.4}, temperature {:.3}\n\
         written: {} ({} bytes) and {}",
        r.requests,
        r.dressed,
        r.sources.len(),
        r.groups,
        r.accuracy,
        r.macro_f1,
        r.calibration_error,
        r.temperature,
        to.display(),
        trained.model.len(),
        beside.display()
    ));
    Ok(GOOD)
}

/// Every file, under the name of its folder and its own: packs all call theirs the same.
pub(super) fn read_all(files: &[PathBuf]) -> Result<Files, Problem> {
    let name = |file: &Path| {
        let part = |p: Option<&Path>| p.and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned());
        [part(file.parent()), part(Some(file))].into_iter().flatten().collect::<Vec<_>>().join("/")
    };
    files.iter().map(|f| Ok((name(f), read(f)?))).collect()
}

pub(super) fn inputs(files: &Files) -> Vec<Input<'_>> {
    files.iter().map(|(name, text)| Input { name, text }).collect()
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Problem> {
    std::fs::write(path, bytes).map_err(|e| Problem(format!("cannot write {}: {e}", path.display())))
}
