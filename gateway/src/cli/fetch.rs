//! Asks a running turnout for a document, for the commands of this program.

use super::Problem;
use bytes::Bytes;
use providers::Outgoing;
use serde_json::Value;
use std::time::Duration;

/// Largest answer.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// What a server said.
pub(super) enum Said {
    /// A document.
    Document(Value),
    /// It has no such thing: its own words.
    NotFound(String),
    /// It had it, and it is gone for good: its own words.
    Gone(String),
}

/// An answer with its status.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) document: Value,
}

/// Asks `address` (`host:port`, or an `http://` or `https://` address) for `path`.
pub(super) async fn get(address: &str, path: &str, token: Option<&str>) -> Result<Said, Problem> {
    let Answered { status, document } = ask(address, "GET", path, token, None).await?;
    let message =
        || document.pointer("/error/message").and_then(Value::as_str).unwrap_or("not found").to_owned();
    match status {
        200 => Ok(Said::Document(document)),
        404 => Ok(Said::NotFound(message())),
        410 => Ok(Said::Gone(message())),
        other => Err(Problem(format!("cannot ask {address}: status {other}: {}", message()))),
    }
}

/// Sends one request, with a key and a body where there are, and reads the answer whole.
pub(super) async fn ask(
    address: &str,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> Result<Answered, Problem> {
    let base = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let base = base.trim_end_matches('/');
    let failed = |e: String| Problem(format!("cannot ask {base}: {e}"));
    let key = token.map(|t| ("authorization".to_owned(), format!("Bearer {t}")));
    let body = body.map(|b| Bytes::from(b.to_string()));
    let headers: Vec<_> = key.into_iter().collect();
    let out = Outgoing::new(true).map_err(failed)?;
    let answer = out.call(method, &format!("{base}{path}"), &headers, body, ANSWER, MAX_BYTES).await;
    let (status, body) = answer.map_err(failed)?;
    let document = serde_json::from_str(&body)
        .map_err(|_| failed(format!("status {status}, and no JSON: is it turnout?")))?;
    Ok(Answered { status, document })
}
