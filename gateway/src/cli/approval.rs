//! `turnout approval`: the questions that policies and gates of workflows put to people, and answers to them.

use super::control::{Client, Where, show};
use super::out::Out;
use super::{GOOD, Global, Outcome};
use clap::Subcommand;
use serde_json::{Value, json};

/// Questions that policies and gates of workflows put to people
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout approval list\n  turnout approval approve apr_0192… --as user:dana\n  turnout approval reject gate_run_0192… --comment \"not today\" --url http://127.0.0.1:8081\n\nWith a key (TURNOUT_ADMIN_KEY) the answer is the key's own: it counts as key:<its id> and as user:<its name>."
)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    at: Where,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Those that stand, oldest first
    List,
    /// Agree
    Approve(Answer),
    /// Refuse
    Reject(Answer),
}

#[derive(clap::Args, Debug)]
struct Answer {
    /// The question's id
    id: String,
    /// Who says so, as the rules name them; only on the machine of the server
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

pub(super) async fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let client = Client::find(global, &args.at)?;
    let (answer, decision) = match &args.what {
        What::List => {
            let said = client.ask("GET", "/approvals", None).await?;
            show(out, &said, &["id", "tenant", "phase", "state", "groups", "requesters", "shows"]);
            return Ok(GOOD);
        }
        What::Approve(answer) => (answer, "approve"),
        What::Reject(answer) => (answer, "reject"),
    };
    let mut body = json!({ "decision": decision });
    if let (Some(name), Some(members)) = (&answer.name, body.as_object_mut()) {
        members.insert("as".to_owned(), name.as_str().into());
    }
    if let (Some(text), Some(members)) = (&answer.comment, body.as_object_mut()) {
        members.insert("comment".to_owned(), text.as_str().into());
    }
    let said: Value = client.ask("POST", &format!("/approvals/{}", answer.id), Some(&body)).await?;
    show(out, &said, &[]);
    Ok(GOOD)
}
