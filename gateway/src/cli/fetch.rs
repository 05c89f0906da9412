//! Asks a running turnout for a document: one plain GET, for the commands of this program.

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

/// Asks `address` (`host:port`, or `http://host:port`) for `path`.
pub(super) async fn get(address: &str, path: &str) -> Result<Said, Problem> {
    if address.starts_with("https://") {
        return Err(Problem(
            "only http:// is spoken here; ask through a tunnel to the server's machine".to_owned(),
        ));
    }
    let host = address.trim_start_matches("http://").trim_end_matches('/');
    let failed = |e: String| Problem(format!("cannot ask {host}: {e}"));
    let connect = timeout(Duration::from_secs(2), TcpStream::connect(host)).await;
    let mut stream = connect.map_err(|_| failed("no answer".into()))?.map_err(|e| failed(e.to_string()))?;
    // HTTP/1.0: the answer is neither chunked nor kept open.
    let request = format!("GET {path} HTTP/1.0\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|e| failed(e.to_string()))?;
    let mut answer = Vec::new();
    let mut bounded = stream.take(MAX_BYTES);
    let read = timeout(Duration::from_secs(20), bounded.read_to_end(&mut answer)).await;
    read.map_err(|_| failed("no answer in time".into()))?.map_err(|e| failed(e.to_string()))?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| failed("this is no HTTP server".into()))?;
    let status = head.split(' ').nth(1).unwrap_or("");
    let document: Value = serde_json::from_str(body)
        .map_err(|_| failed(format!("status {status}, and no JSON: is it turnout?")))?;
    let message =
        || document.pointer("/error/message").and_then(Value::as_str).unwrap_or("not found").to_owned();
    match status {
        "200" => Ok(Said::Document(document)),
        "404" => Ok(Said::NotFound(message())),
        other => Err(failed(format!("status {other}: {}", message()))),
    }
}
