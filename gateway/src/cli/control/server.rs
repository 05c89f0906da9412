//! `turnout reload`, `whoami`, `openapi`: what the control API of a running server is asked about itself.

use super::super::out::Out;
use super::super::{GOOD, Global, Outcome};
use super::{Client, Where, show, text};
use serde_json::Value;

/// Have the running server read its configuration again; a bad one changes nothing
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout reload\n  turnout reload --url https://turnout.example:8081\n\nA server takes up its files by itself when they change; this does it at once, and says what is wrong with them."
)]
pub(in crate::cli) struct Reload {
    #[command(flatten)]
    at: Where,
}

/// Tell as whom the control API of the running server sees you
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout whoami\n  TURNOUT_ADMIN_KEY=… turnout whoami --url https://turnout.example:8081"
)]
pub(in crate::cli) struct Whoami {
    #[command(flatten)]
    at: Where,
}

/// Print the OpenAPI document of the control API
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  turnout openapi > control.json")]
pub(in crate::cli) struct Openapi {
    #[command(flatten)]
    at: Where,
}

pub(in crate::cli) async fn reload(global: &Global, args: &Reload, out: &Out) -> Outcome {
    let said = Client::find(global, &args.at)?.ask("POST", "/reload", None).await?;
    match out.json {
        true => out.value(&said),
        false => out.line(&format!("bundle {} is in force", text(&said, "hash"))),
    }
    Ok(GOOD)
}

pub(in crate::cli) async fn whoami(global: &Global, args: &Whoami, out: &Out) -> Outcome {
    let said = Client::find(global, &args.at)?.ask("GET", "/whoami", None).await?;
    show(out, &said, &[]);
    Ok(GOOD)
}

pub(in crate::cli) async fn openapi(global: &Global, args: &Openapi, out: &Out) -> Outcome {
    let said: Value = Client::find(global, &args.at)?.ask("GET", "/openapi.json", None).await?;
    out.value(&said);
    Ok(GOOD)
}
