//! `turnout learn`: a prior from recorded outcomes, and what a learned state holds.

use super::{learned, pack, prepared, progress, read, told, write};
use crate::cli::out::Out;
use crate::cli::{GOOD, Outcome, Problem};
use engine::replay::{Exploration, study};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Learn a prior from recorded outcomes, or show what a learned state holds
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout learn --pack mix24 --out mix24.prior\n  turnout replay --pack other --prior mix24.prior --protocol warm\n  turnout learn --show mix24.prior"
)]
#[group(required = true, multiple = true)]
pub(in crate::cli) struct Args {
    /// Folder of the table
    #[arg(long, value_name = "DIR", requires = "out", conflicts_with = "show")]
    pack: Option<PathBuf>,
    /// Where to write what was learned
    #[arg(long, value_name = "FILE", requires = "pack")]
    out: Option<PathBuf>,
    /// Only from the half that `replay` does not test on
    #[arg(long, requires = "pack")]
    half: bool,
    /// Do not use the source's task family
    #[arg(long, requires = "pack")]
    hide_task: bool,
    /// A learned state
    #[arg(long, value_name = "FILE")]
    show: Option<PathBuf>,
}

pub(in crate::cli) fn run(args: &Args, out: &Out) -> Outcome {
    match (&args.pack, &args.out, &args.show) {
        (Some(pack), Some(to), _) => {
            let (table, left_out) = pack::open(pack, None).map_err(Problem)?;
            left_out.iter().for_each(|line| out.note(line));
            let seen = prepared(&table, args.hide_task)?;
            let of = |i: &usize| !args.half || table.queries.get(*i).is_some_and(|q| !q.tested);
            let queries: Vec<usize> = (0..table.queries.len()).filter(of).collect();
            let bar = progress(queries.len(), "learning");
            let state = study(&table, &seen, &queries, Exploration::default()).map_err(told)?;
            bar.finish_and_clear();
            write(to, &state)?;
            show(to, &state, out)
        }
        (_, _, Some(path)) => show(path, &read(path)?, out),
        _ => Err(Problem("name a table with --pack and --out, or a state with --show".to_owned())),
    }
}

fn show(path: &Path, state: &[u8], out: &Out) -> Outcome {
    let s = learned(path, state)?.load();
    let mut arms: Vec<_> = s.arms().collect();
    arms.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    if out.json {
        let row = |(w, m, a): &(_, _, &engine::learn::ArmStats)| json!({"workflow": w, "model": m, "outcomes": a.ever, "mean_reward": mean(a.total), "surprise": a.surprise.mean(0.0, 8.0)});
        out.value(&json!({"bytes": state.len(), "arms": arms.iter().map(row).collect::<Vec<_>>(), "changes": *s.changes}));
        return Ok(GOOD);
    }
    let mut table = out.table(&["workflow", "model", "outcomes", "mean reward", "against its prior"]);
    for (w, m, a) in &arms {
        let reward = mean(a.total).map_or_else(|| "-".to_owned(), |r| format!("{r:.3}"));
        let row = [
            w.to_string(),
            m.to_string(),
            format!("{:.0}", a.ever),
            reward,
            format!("{:+.3}", a.surprise.mean(0.0, 8.0)),
        ];
        table.add_row(row);
    }
    out.line(&table.to_string());
    for c in s.changes.iter() {
        out.line(&format!("{} changed in {} after {} outcomes", c.model, c.aspect.as_str(), c.at));
    }
    Ok(GOOD)
}

fn mean(c: engine::learn::Count) -> Option<f64> {
    (c.n > 0.0).then(|| c.s / c.n)
}
