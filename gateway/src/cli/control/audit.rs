//! `turnout audit`: the trail of who changed what.

use super::super::explain::folder;
use super::super::out::Out;
use super::super::{FAILED, GOOD, Global, Outcome, Problem};
use super::{Client, Where, show};
use crate::admin::MOST;
use crate::control::audit;
use crate::query::encoded;
use clap::Subcommand;
use serde_json::{Value, json};
use std::path::PathBuf;

/// The audit trail: who changed what
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout audit list --after 120\n  turnout audit list --action key --tenant acme --from 2026-11-01\n  turnout audit rotate-key\n  turnout audit verify                      checks the trail of the data folder; no server is needed\n  turnout audit verify --folder copy/audit --public-key 3b6a… --anchor /mnt/other/audit.anchor\n  turnout audit verify --receipt 17:3fa9…    the trail still has the line that a change was answered with"
)]
pub(in crate::cli) struct Args {
    #[command(subcommand)]
    what: AuditCommand,
    #[command(flatten)]
    at: Where,
}

#[derive(Subcommand, Debug)]
enum AuditCommand {
    /// Lines of the trail
    List {
        /// The first lines after this number, instead of the newest
        #[arg(long, conflicts_with = "before")]
        after: Option<u64>,
        /// The newest lines before this number
        #[arg(long)]
        before: Option<u64>,
        /// Only lines of this action, such as key.create, or of all that begin so, such as key
        #[arg(long)]
        action: Option<String>,
        /// Only what this one did: the id of a key, or local
        #[arg(long)]
        actor: Option<String>,
        /// Only lines about this tenant
        #[arg(long)]
        tenant: Option<String>,
        /// Only lines from this day or moment on, such as 2026-11-22 or 2026-11-22T10:00:00Z
        #[arg(long, value_name = "WHEN")]
        from: Option<String>,
        /// Only lines up to this day, or before this moment
        #[arg(long, value_name = "WHEN")]
        to: Option<String>,
        /// Most lines
        #[arg(long, default_value_t = 100)]
        limit: u64,
    },
    /// Seal with a new key from now on; a line announces it, sealed with the one before
    RotateKey,
    /// Check that no line was changed, left out or added
    Verify {
        /// The folder of the trail [default: `audit` in the data folder]
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
        /// The public key, if not the one in the folder
        #[arg(long, value_name = "HEX")]
        public_key: Option<String>,
        /// The anchor that shows how far the trail went, or what `audit.anchor_url` was told, one after the other; `-` reads
        /// it from standard input [default: `audit.anchor` in the data folder]
        #[arg(long, value_name = "FILE")]
        anchor: Option<PathBuf>,
        /// A line that the trail must have: `x-turnout-audit` of the answer to a change; repeat for more
        #[arg(long = "receipt", value_name = "NUMBER:HASH")]
        receipts: Vec<audit::Line>,
    },
}

pub(in crate::cli) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    match &args.what {
        AuditCommand::List { after, before, action, actor, tenant, from, to, limit } => {
            let texts =
                [("action", action), ("actor", actor), ("tenant", tenant), ("from", from), ("to", to)];
            let numbers = [("after", *after), ("before", *before)];
            let client = Client::find(global, &args.at)?;
            let said = lines(&client, numbers, &texts, *limit).await?;
            show(out, &said, &["seq", "ts", "actor", "action", "target", "tenant", "detail"]);
            Ok(GOOD)
        }
        AuditCommand::RotateKey => {
            let said = Client::find(global, &args.at)?.ask("POST", "/audit/key", None).await?;
            show(out, &said, &[]);
            Ok(GOOD)
        }
        AuditCommand::Verify { folder: named, public_key, anchor, receipts } => {
            let folder = named.clone().unwrap_or_else(|| folder(global).join(audit::FOLDER));
            let report = audit::verify_against(&folder, public_key.as_deref(), anchor.as_deref(), receipts)
                .map_err(|e| Problem(format!("{}: {e}", folder.display())))?;
            if out.json {
                out.value(&serde_json::to_value(&report)?);
            } else {
                out.line(&format!(
                    "{} lines and {} seals hold; {} lines are not sealed yet",
                    report.lines, report.seals, report.unsealed
                ));
                match report.anchored {
                    Some(seq) => {
                        out.line(&format!("nothing was taken away up to number {seq}, says the anchor"))
                    }
                    None if report.broken.is_none() => {
                        out.line("without an anchor nothing shows whether lines were taken off the end");
                    }
                    None => {}
                }
                if !receipts.is_empty() && report.broken.is_none() {
                    out.line(&format!("the trail has all {} lines of the receipts", receipts.len()));
                }
                if report.keys_changed > 0 {
                    out.line(&format!(
                        "the key was changed {} times, announced under the one before each time",
                        report.keys_changed
                    ));
                }
                if report.gaps > 0 {
                    out.line(&format!("{} lines say that something is missing before them", report.gaps));
                }
            }
            match report.broken {
                None => Ok(GOOD),
                Some(b) => {
                    out.error(&format!(
                        "broken at line {} of {} (number {}): {}",
                        b.line, b.file, b.seq, b.why
                    ));
                    Ok(FAILED)
                }
            }
        }
    }
}

/// As many lines as are asked for, page by page, in the order of the trail.
async fn lines(
    client: &Client,
    numbers: [(&str, Option<u64>); 2],
    texts: &[(&str, &Option<String>)],
    limit: u64,
) -> Result<Value, Problem> {
    let mut query = String::new();
    for (name, text) in texts.iter().filter_map(|(name, text)| Some((name, text.as_deref()?))) {
        query.push_str(&format!("&{name}={}", encoded(text)));
    }
    let mut place =
        numbers.iter().find_map(|(name, n)| n.map(|n| format!("&{name}={n}"))).unwrap_or_default();
    let (mut found, mut left) = (Vec::new(), limit);
    loop {
        let path = format!("/audit?limit={}{place}{query}", left.min(MOST));
        let mut page = client.ask("GET", &path, None).await?;
        let data = page.get_mut("data").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
        left = left.saturating_sub(data.len() as u64);
        let next = |name: &str| page.get(format!("next_{name}")).and_then(Value::as_u64);
        let next = numbers.iter().find_map(|(name, _)| Some((*name, next(name)?)));
        match next {
            // Older lines come before those that were found.
            Some(("before", _)) => _ = found.splice(0..0, data),
            _ => found.extend(data),
        }
        match next.filter(|_| left > 0) {
            Some((name, n)) => place = format!("&{name}={n}"),
            None => return Ok(json!({ "object": "list", "data": found, "has_more": next.is_some() })),
        }
    }
}
