//! `turnout workflow replay`: repeats a recorded run under its own plan or an edited one, without a call unless it is
//! told what it may spend.

use super::kept;
use crate::cli::out::Out;
use crate::cli::{FAILED, GOOD, Global, Outcome};
use http::Method;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Repeat a recorded run, without a call or within a budget
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout workflow replay run_0192f3a1…\n  turnout workflow replay run_0192f3a1… --workflow workflows/invoices.yaml   would the edited one do the same?\n  turnout workflow replay run_0192f3a1… --workflow workflows/invoices.yaml --live --usd 0.05   and what would it answer?\n  turnout --data ./runs workflow replay run_0192f3a1…\n\nThe server that uses the data folder is asked first, then the one at --listen, then the folder itself. Recorded\nanswers are given to whoever asks the same; what is not on record is named, not called. With --live models are\ncalled, and tools that change nothing (not under a file that the server has not in force), as a request of whoever asked for the run.\nExit code: 0 the same to the byte, 2 something differs."
)]
pub(super) struct Args {
    /// The run
    run: String,
    /// Under this file instead of the plan it ran under
    #[arg(long, value_name = "FILE")]
    workflow: Option<PathBuf>,
    /// Ask for what is not on record; tools that change something are still only named
    #[arg(long, requires = "usd")]
    live: bool,
    /// Most that it may cost, in US dollars
    #[arg(long, value_name = "N", requires = "live", value_parser = dollars)]
    usd: Option<f64>,
    /// Ask this server
    #[arg(long, value_name = "http://HOST:PORT")]
    url: Option<String>,
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let mut body = match &args.workflow {
        None => json!({}),
        Some(path) => {
            let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
            json!({"workflow": {"name": name, "text": super::read(path)?}})
        }
    };
    if let (Some(usd), Some(members)) = (args.usd.filter(|_| args.live), body.as_object_mut()) {
        members.insert("live".to_owned(), json!({ "usd": usd }));
    }
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

/// An amount of money above 0.
fn dollars(text: &str) -> Result<f64, String> {
    let usd = text.parse::<f64>().ok().filter(|usd| *usd > 0.0 && usd.is_finite());
    usd.ok_or_else(|| "expected dollars above 0, such as 0.05".to_owned())
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
    for effect in replay["called"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        out.line(&format!("called {effect}"));
    }
    if let Some(record) = replay["record"].as_str() {
        out.line(&format!("cost {} USD, on record as {record}", replay["cost_usd"]));
        let text = replay.pointer("/result/completion/choices/0/text").and_then(Value::as_str);
        let error = || replay.pointer("/result/error/message").and_then(Value::as_str);
        if let Some(said) = text.or_else(error) {
            out.line(said);
        }
    }
}
