//! `turnout policy diff`: how two configurations differ, by their rules and over recorded requests.

use super::{bundle, read};
use crate::cli::explain::folder;
use crate::cli::out::Out;
use crate::cli::{GOOD, Global, Outcome, Problem};
use crate::clock;
use policies::{CostEffect, Replay, RuleChanges};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use stores::Store;
use types::Decision;
use types::store::OutcomeStore as _;

/// Tell how two configurations differ, by their rules and over recorded requests
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout policy diff old-config new-config\n  turnout policy diff old-config new-config --over\n  turnout policy diff old-config new-config --over --since 24h\n  turnout policy diff old-config new-config --over decisions.jsonl --json\n\nWith --over, the newest recorded requests are put to both: those of the data folder (its server must not be\nrunning), or of a file with one record of `turnout explain --json` a line. Values that were not recorded take their\ndefaults in both, and are named."
)]
pub(super) struct Args {
    /// Folder of the first configuration
    a: PathBuf,
    /// Folder of the second
    b: PathBuf,
    /// Over recorded requests: of this file or folder, or of the data folder
    // An empty default is no value to clap, so the value is an option of its own.
    #[arg(long, value_name = "FILE|DIR")]
    over: Option<Option<PathBuf>>,
    /// Most requests
    #[arg(long, default_value_t = 10_000)]
    last: usize,
    /// Only requests of so long before now, such as 24h
    #[arg(long, value_name = "DURATION", value_parser = length)]
    since: Option<Duration>,
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let (a, b) = (bundle(&args.a)?, bundle(&args.b)?);
    let changes = a.policies().changes(b.policies());
    let replay = match &args.over {
        None => None,
        Some(over) => {
            let mut decisions = decisions(global, over.as_deref(), args.last).await?;
            if let Some(since) = args.since {
                let since = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
                let from_ms = clock::unix_ms().saturating_sub(since);
                decisions.retain(|d| d.ts_ms >= from_ms);
            }
            Some(a.policies().replay(b.policies(), decisions.iter()))
        }
    };
    if out.json {
        out.value(&json!({"rules": changes, "over": replay}));
        return Ok(GOOD);
    }
    tell(&changes, out);
    if let Some(replay) = replay {
        tell_replay(&replay, out);
    }
    Ok(GOOD)
}

pub(in crate::cli) fn length(text: &str) -> Result<Duration, String> {
    types::doc::parse_duration(text).ok_or_else(|| "expected a length of time, such as 30m or 24h".to_owned())
}

fn tell(changes: &RuleChanges, out: &Out) {
    if *changes == RuleChanges::default() {
        out.line("the rules, and what they name, are the same");
        return;
    }
    for id in &changes.added {
        out.line(&format!("added    {id}"));
    }
    for id in &changes.removed {
        out.line(&format!("removed  {id}"));
    }
    for (id, what) in &changes.changed {
        out.line(&format!("changed  {id}"));
        for line in what {
            out.line(&format!("         {line}"));
        }
    }
    for (pool, (came, went)) in &changes.pools {
        let list = |sign: &str, l: &[String]| l.iter().map(|m| format!("{sign}{m}")).collect::<Vec<_>>();
        let all = [list("+", came), list("-", went)].concat();
        out.line(&format!("pool     {pool}: {}", all.join(" ")));
    }
    let shown = |v: &Value| if v.is_null() { "nothing".to_owned() } else { v.to_string() };
    for (path, (before, after)) in &changes.named {
        out.line(&format!("named    {path}: {} -> {}", shown(before), shown(after)));
    }
}

pub(in crate::cli) fn tell_replay(replay: &Replay, out: &Out) {
    out.line(&format!(
        "\nover {} recorded requests: {} would be decided differently, by another arm or refusal",
        replay.requests, replay.differ
    ));
    if replay.otherwise > 0 {
        let n = replay.otherwise;
        out.line(&format!(
            "  of {n} others something else changes: what is asked for beside the arm, or other candidates"
        ));
    }
    let counts = [
        ("newly denied", replay.new_denials),
        ("no longer denied", replay.lifted_denials),
        ("newly without a candidate", replay.new_empty),
        ("newly failing to evaluate", replay.new_errors),
    ];
    for (what, n) in counts.into_iter().filter(|(_, n)| *n > 0) {
        out.line(&format!("  {n} {what}"));
    }
    if replay.cost.of > 0 {
        let CostEffect { of, before_usd, after_usd } = replay.cost;
        out.line(&format!(
            "  {before_usd:.6} USD become {after_usd:.6} USD, for {of} of them: by the models that were scored then"
        ));
    }
    if !replay.rules.is_empty() {
        let mut table = out.table(&["rule", "newly matches", "no longer", "asks otherwise", "examples"]);
        for (rule, delta) in &replay.rules {
            let [newly, gone, otherwise] =
                [delta.newly, delta.no_longer, delta.otherwise].map(|n| n.to_string());
            table.add_row([rule.clone(), newly, gone, otherwise, delta.examples.join(" ")]);
        }
        out.line(&table.to_string());
    }
    if !replay.assumed.is_empty() {
        let paths: Vec<&str> = replay.assumed.iter().map(String::as_str).collect();
        out.line(&format!("not recorded, and so taken at their defaults in both: {}", paths.join(", ")));
    }
    if !replay.unasked.is_empty() {
        let rules: Vec<&str> = replay.unasked.iter().map(String::as_str).collect();
        out.line(&format!(
            "rules of the phases tool and response were not asked, for calls and answers are not recorded: {}",
            rules.join(", ")
        ));
    }
}

/// Recorded decisions, newest first.
async fn decisions(global: &Global, over: Option<&Path>, last: usize) -> Result<Vec<Decision>, Problem> {
    if let Some(file) = over.filter(|p| p.is_file()) {
        return of_lines(&read(file)?, last);
    }
    let folder = over.map_or_else(|| folder(global), Path::to_owned);
    if !folder.is_dir() {
        return Err(Problem(format!("{}: there is no such file or folder", folder.display())));
    }
    let (learner, _) = engine::learner(engine::learn::Limits::default());
    let store = Store::open(&folder, stores::Config::default(), Box::new(learner))?;
    let recent = store.recent(last).await;
    store.close()?;
    // Those whose time is over may not have been erased yet: no server may have run since.
    let now_ms = clock::unix_ms();
    let kept = recent?.into_iter().filter(|stored| !stored.record.outcome.has_expired(now_ms));
    Ok(kept.map(|stored| stored.record.decision).collect())
}

/// One record a line, whole or the decision alone.
fn of_lines(text: &str, last: usize) -> Result<Vec<Decision>, Problem> {
    let mut all = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()).take(last) {
        let at = |e: serde_json::Error| Problem(format!("line {}: {e}", i.saturating_add(1)));
        let mut value: Value = serde_json::from_str(line).map_err(at)?;
        let decision = value.get_mut("decision").map(Value::take).unwrap_or(value);
        all.push(serde_json::from_value(decision).map_err(at)?);
    }
    Ok(all)
}
