//! `turnout workflow replay`: repeats a recorded run without a call, under its own plan or an edited one.

use super::kept;
use crate::cli::out::Out;
use crate::cli::{FAILED, GOOD, Global, Outcome};
use http::Method;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Repeat a recorded run without a call
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout workflow replay run_0192f3a1…\n  turnout workflow replay run_0192f3a1… --workflow workflows/invoices.yaml   would the edited one do the same?\n  turnout --data ./runs workflow replay run_0192f3a1…\n\nThe server that uses the data folder is asked first, then the one at --listen, then the folder itself. Recorded\nanswers are given to whoever asks the same; what is not on record is named, not called.\nExit code: 0 the same to the byte, 2 something differs."
)]
pub(super) struct Args {
    /// The run
    run: String,
    /// Under this file instead of the plan it ran under
    #[arg(long, value_name = "FILE")]
    workflow: Option<PathBuf>,
    /// Ask this server
    #[arg(long, value_name = "http://HOST:PORT")]
    url: Option<String>,
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let body = match &args.workflow {
        None => json!({}),
        Some(path) => {
            let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
            json!({"workflow": {"name": name, "text": super::read(path)?}})
        }
    };
    let replay =
        kept::ask(global, args.url.as_deref(), &args.run, (Method::POST, "replay"), Some(&body)).await?;
    let same = replay.get("same") == Some(&Value::Bool(true));
    if out.json {
        out.value(&replay);
    } else {
        tell(&replay, out);
    }
    Ok(if same { GOOD } else { FAILED })
}

fn tell(replay: &Value, out: &Out) {
    let records = &replay["records"];
    if replay.get("same") == Some(&Value::Bool(true)) {
        out.line(&format!("the same to the byte, over {records} records"));
    } else {
        out.line(&format!("not the same, over {records} records"));
    }
    if let Some(d) = replay.get("divergence") {
        out.line(&format!("first difference: {d}"));
    }
    for effect in replay["would_call"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        out.line(&format!("would call {effect}"));
    }
}
