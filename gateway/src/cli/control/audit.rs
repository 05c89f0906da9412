//! `turnout audit`: the trail of who changed what.

use super::super::explain::folder;
use super::super::out::Out;
use super::super::{FAILED, GOOD, Global, Outcome, Problem};
use super::{Client, Where, show};
use crate::control::audit;
use clap::Subcommand;
use std::path::PathBuf;

/// The audit trail: who changed what
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout audit list --after 120\n  turnout audit verify                      checks the trail of the data folder; no server is needed\n  turnout audit verify --folder copy/ --public-key 3b6a… --anchor /mnt/other/audit.anchor"
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
        #[arg(long)]
        after: Option<u64>,
        /// Most lines
        #[arg(long, default_value_t = 100)]
        limit: u64,
    },
    /// Check that no line was changed, left out or added
    Verify {
        /// The folder of the trail [default: `audit` in the data folder]
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
        /// The public key, if not the one in the folder
        #[arg(long, value_name = "HEX")]
        public_key: Option<String>,
        /// The anchor that shows how far the trail went [default: `audit.anchor` in the data folder]
        #[arg(long, value_name = "FILE")]
        anchor: Option<PathBuf>,
    },
}

pub(in crate::cli) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    match &args.what {
        AuditCommand::List { after, limit } => {
            let after = after.map_or_else(String::new, |n| format!("&after={n}"));
            let path = format!("/audit?limit={limit}{after}");
            let said = Client::find(global, &args.at)?.ask("GET", &path, None).await?;
            show(out, &said, &["seq", "ts", "actor", "action", "target", "tenant", "detail"]);
            Ok(GOOD)
        }
        AuditCommand::Verify { folder: named, public_key, anchor } => {
            let folder = named.clone().unwrap_or_else(|| folder(global).join(audit::FOLDER));
            let report = audit::verify_folder(&folder, public_key.as_deref(), anchor.as_deref())
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
