//! Asks a running turnout for a document, for the commands of this program.

use super::Problem;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// Largest answer.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// How long a connection may take, and an answer from its first to its last byte.
const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(20);

/// What a server said.
pub(super) enum Said {
    /// A document.
    Document(Value),
    /// It has no such thing: its own words.
    NotFound(String),
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
    let mut request = hyper::Request::builder().method(method).uri(format!("{base}{path}"));
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = request.body(Full::new(Bytes::from(body))).map_err(|e| failed(e.to_string()))?;
    let answer = timeout(ANSWER, sent(request)).await.map_err(|_| failed("no answer in time".into()))?;
    let (status, body) = answer.map_err(|e| failed(innermost(&*e)))?;
    let document = serde_json::from_slice(&body)
        .map_err(|_| failed(format!("status {status}, and no JSON: is it turnout?")))?;
    Ok(Answered { status, document })
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn sent(request: hyper::Request<Full<Bytes>>) -> Result<(u16, Bytes), Failure> {
    let mut plain = HttpConnector::new();
    plain.set_connect_timeout(Some(CONNECT));
    plain.enforce_http(false);
    let connector =
        HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().wrap_connector(plain);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let answer: hyper::Response<Incoming> = client.request(request).await?;
    let status = answer.status().as_u16();
    Ok((status, Limited::new(answer.into_body(), MAX_BYTES).collect().await?.to_bytes()))
}

/// What an error comes from: its outer layers say only where it was noticed.
fn innermost(e: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(e), |e| e.source()).last().map(ToString::to_string).unwrap_or_default()
}
