//! One request as a vendor saw it, and what became of its caller.

use super::Dialect;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// A request and its fate.
#[derive(Debug)]
pub struct Seen {
    /// The vendor's wire format.
    pub dialect: Dialect,
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body; null if it was no JSON.
    pub body: Value,
    /// The body as it came.
    pub bytes: Vec<u8>,
    events: AtomicUsize,
    done: AtomicBool,
    left: AtomicBool,
}

impl Seen {
    /// Reads the next request of a connection; `None` when it ends. `buffer` keeps what came early.
    pub(super) async fn read(socket: &mut TcpStream, buffer: &mut Vec<u8>, dialect: Dialect) -> Option<Seen> {
        let end = loop {
            if let Some(p) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break p + 4;
            }
            fill(socket, buffer).await?;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
        let headers: Vec<(String, String)> = lines
            .filter_map(|l| l.split_once(':'))
            .map(|(n, v)| (n.trim().to_lowercase(), v.trim().to_owned()))
            .collect();
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let bytes = if header("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
            chunked(socket, buffer).await?
        } else {
            let length = header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
            take(socket, buffer, length).await?
        };
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Some(Seen {
            dialect,
            method,
            path,
            headers,
            body,
            bytes,
            events: AtomicUsize::new(0),
            done: AtomicBool::new(false),
            left: AtomicBool::new(false),
        })
    }

    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The model asked for, wherever the wire format puts it.
    #[must_use]
    pub fn model(&self) -> String {
        match self.dialect {
            Dialect::Gemini => {
                let path = self.path.split("/models/").nth(1).unwrap_or_default();
                path.split(':').next().unwrap_or_default().to_owned()
            }
            _ => self.body["model"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// Whether a stream is asked for.
    #[must_use]
    pub fn streams(&self) -> bool {
        match self.dialect {
            Dialect::Gemini => self.path.contains(":streamGenerateContent"),
            _ => self.body["stream"] == Value::Bool(true),
        }
    }

    pub(super) fn wants_usage(&self) -> bool {
        self.body["stream_options"]["include_usage"] == Value::Bool(true)
    }

    /// All messages as one JSON text, for `contains`.
    #[must_use]
    pub fn conversation(&self) -> String {
        match self.dialect {
            Dialect::Gemini => self.body["contents"].to_string(),
            _ => self.body["messages"].to_string(),
        }
    }

    /// Text of the last message that holds any.
    #[must_use]
    pub fn last_text(&self) -> String {
        let key = if self.dialect == Dialect::Gemini { "contents" } else { "messages" };
        let messages = self.body[key].as_array().cloned().unwrap_or_default();
        messages.iter().rev().map(text_of).find(|t| !t.is_empty()).unwrap_or_default()
    }

    /// How many events of a stream were written to the caller.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events.load(Ordering::Acquire)
    }

    /// Whether the caller left before the answer's end.
    #[must_use]
    pub fn left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }

    /// Whether the whole answer was written.
    #[must_use]
    pub fn done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// Waits until the caller has left; false after half a minute.
    pub async fn wait_left(&self) -> bool {
        crate::eventually(Duration::from_secs(30), || self.left()).await
    }

    pub(super) fn mark_event(&self) {
        self.events.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn mark_left(&self) {
        self.left.store(true, Ordering::Release);
    }

    pub(super) fn mark_done(&self) {
        self.done.store(true, Ordering::Release);
    }
}

/// Text of one message, whatever the wire format: `content` as text or parts, or `parts`.
fn text_of(message: &Value) -> String {
    let content = if message["parts"].is_array() { &message["parts"] } else { &message["content"] };
    match content {
        Value::String(s) => s.clone(),
        Value::Array(parts) => parts.iter().filter_map(|p| p["text"].as_str()).collect(),
        _ => String::new(),
    }
}

async fn fill(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    match socket.read_buf(buffer).await {
        Ok(n) if n > 0 => Some(()),
        _ => None,
    }
}

async fn take(socket: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while buffer.len() < length {
        fill(socket, buffer).await?;
    }
    Some(buffer.drain(..length).collect())
}

async fn chunked(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(p) = buffer.windows(2).position(|w| w == b"\r\n") {
                break p;
            }
            fill(socket, buffer).await?;
        };
        let size = usize::from_str_radix(std::str::from_utf8(&buffer[..line]).ok()?.trim(), 16).ok()?;
        buffer.drain(..line + 2);
        body.extend(take(socket, buffer, size).await?);
        take(socket, buffer, 2).await?;
        if size == 0 {
            return Some(body);
        }
    }
}
