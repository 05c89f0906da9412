//! Runs that are on record: asked of the server that keeps them, or of their folder.

use super::run::{self as once};
use crate::cli::explain::{addresses, folder, token};
use crate::cli::fetch;
use crate::cli::{Global, Problem};
use http::Method;
use serde_json::Value;

/// Asks for something of a run: the server that uses the data folder first, then the one at `--listen`, then the
/// folder itself; with `url` that server alone. `what` is what could not be done, for the error.
///
/// # Errors
/// `id` is no identifier of a run, or nobody knows it; what each of those who were asked said.
pub(super) async fn ask(
    global: &Global,
    url: Option<&str>,
    id: &str,
    (method, what): (Method, &str),
    body: Option<&Value>,
) -> Result<Value, Problem> {
    if !types::options::is_identifier(id) {
        return Err(Problem(
            "that is no identifier of a run; `turnout workflow run` and POST /v1/runs give one".to_owned(),
        ));
    }
    let path = format!("/v1/runs/{id}/{what}");
    let data = folder(global);
    let (addresses, token) = match url {
        Some(url) => (vec![url.to_owned()], std::env::var("TURNOUT_API_KEY").ok()),
        None => (addresses(global, &data), token(&data)),
    };
    let mut tried = Vec::new();
    for address in addresses {
        match fetch::ask(&address, method.as_str(), &path, token.as_deref(), body).await {
            Ok(answered) if answered.status == 200 => return Ok(answered.document),
            Ok(answered) => {
                let text =
                    answered.document.pointer("/error/message").and_then(Value::as_str).unwrap_or("no");
                // Whoever knows the run and refuses has said all that there is to say.
                if matches!(answered.status, 400 | 409 | 422) {
                    return Err(Problem(text.to_owned()));
                }
                tried.push(format!("{address}: {text}"));
            }
            Err(Problem(why)) => tried.push(why),
        }
    }
    if url.is_none() && data.is_dir() {
        let settings = Global { data: Some(data.clone()), ..global.clone() };
        let found = match once::start(&settings, false).await {
            Ok(running) => {
                // All that answers a request is large; what mostly asks a server need not be.
                let found = Box::pin(once::ask(&running, method, &path, body)).await;
                running.stop().await;
                found
            }
            // Mostly the server that has answered already has it.
            Err(problem) => Err(problem),
        };
        match found {
            Ok(document) => return Ok(document),
            Err(Problem(why)) => tried.push(format!("{}: {why}", data.display())),
        }
    }
    Err(Problem(format!("there is no {what} of `{id}`:\n  {}", tried.join("\n  "))))
}
