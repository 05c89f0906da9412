//! `turnout workflow replay`: repeats a recorded run without a call, under its own plan or an edited one.

use super::run::{self as once};
use crate::cli::explain::{addresses, folder, token};
use crate::cli::fetch;
use crate::cli::out::Out;
use crate::cli::{FAILED, GOOD, Global, Outcome, Problem};
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
    if !types::options::is_identifier(&args.run) {
        return Err(Problem(
            "that is no identifier of a run; `turnout workflow run` and POST /v1/runs give one".to_owned(),
        ));
    }
    let body = match &args.workflow {
        None => json!({}),
        Some(path) => {
            let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
            json!({"workflow": {"name": name, "text": super::read(path)?}})
        }
    };
    let replay = find(global, args, &body).await?;
    let same = replay.get("same") == Some(&Value::Bool(true));
    if out.json {
        out.value(&replay);
    } else {
        tell(&replay, out);
    }
    Ok(if same { GOOD } else { FAILED })
}

async fn find(global: &Global, args: &Args, body: &Value) -> Result<Value, Problem> {
    let path = format!("/v1/runs/{}/replay", args.run);
    let data = folder(global);
    let (addresses, token) = match &args.url {
        Some(url) => (vec![url.clone()], std::env::var("TURNOUT_API_KEY").ok()),
        None => (addresses(global, &data), token(&data)),
    };
    let mut tried = Vec::new();
    for address in addresses {
        match fetch::ask(&address, "POST", &path, token.as_deref(), Some(body)).await {
            Ok(answered) if answered.status == 200 => return Ok(answered.document),
            Ok(answered) => {
                let text =
                    answered.document.pointer("/error/message").and_then(Value::as_str).unwrap_or("no");
                tried.push(format!("{address}: {text}"));
            }
            Err(Problem(why)) => tried.push(why),
        }
    }
    if args.url.is_none() && data.is_dir() {
        let settings = Global { data: Some(data.clone()), ..global.clone() };
        let running = once::start(&settings, false).await?;
        let found = once::ask(&running, Method::POST, &path, Some(body)).await;
        running.stop().await;
        match found {
            Ok(document) => return Ok(document),
            Err(Problem(why)) => tried.push(format!("{}: {why}", data.display())),
        }
    }
    Err(Problem(format!("`{}` was not replayed:\n  {}", args.run, tried.join("\n  "))))
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
