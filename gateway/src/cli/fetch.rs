//! Asks a running turnout for a document: one plain request, for the commands of this program.

use super::Problem;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Largest answer.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

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

/// Asks `address` (`host:port`, or `http://host:port`) for `path`.
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
    if address.starts_with("https://") {
        return Err(Problem(
            "only http:// is spoken here; ask through a tunnel to the server's machine".to_owned(),
        ));
    }
    let host = address.trim_start_matches("http://").trim_end_matches('/');
    let failed = |e: String| Problem(format!("cannot ask {host}: {e}"));
    let connect = timeout(Duration::from_secs(2), TcpStream::connect(host)).await;
    let mut stream = connect.map_err(|_| failed("no answer".into()))?.map_err(|e| failed(e.to_string()))?;
    let token = token.map(|t| format!("authorization: Bearer {t}\r\n")).unwrap_or_default();
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len())
    };
    // HTTP/1.0: the answer is neither chunked nor kept open.
    let request = format!("{method} {path} HTTP/1.0\r\nhost: {host}\r\n{token}{length}\r\n{body}");
    stream.write_all(request.as_bytes()).await.map_err(|e| failed(e.to_string()))?;
    let mut answer = Vec::new();
    let mut bounded = stream.take(MAX_BYTES);
    let read = timeout(Duration::from_secs(20), bounded.read_to_end(&mut answer)).await;
    read.map_err(|_| failed("no answer in time".into()))?.map_err(|e| failed(e.to_string()))?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| failed("this is no HTTP server".into()))?;
    let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let document = serde_json::from_str(body)
        .map_err(|_| failed(format!("status {status}, and no JSON: is it turnout?")))?;
    Ok(Answered { status, document })
}
