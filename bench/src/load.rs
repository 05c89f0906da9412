//! The load generator: closed loop (each connection asks again when answered) for processor time, open loop
//! (a constant rate, latency counted from the moment a request was due) for latency. Bounded in count and time.

use crate::mock::FIRST;
use crate::wire::Inbox;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What to send.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// `model` of the request.
    pub(crate) model: String,
    /// Bytes of the prompt, about.
    pub(crate) bytes: usize,
    /// Ask for a stream.
    pub(crate) stream: bool,
    /// Ask for an answer by schema.
    pub(crate) schema: bool,
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    /// Requests in all.
    pub(crate) requests: usize,
    /// Connections.
    pub(crate) connections: usize,
    /// Requests a second; `None` = closed loop.
    pub(crate) rate: Option<f64>,
    /// Never longer than this.
    pub(crate) limit: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Answers of success.
    pub(crate) ok: usize,
    /// Everything else.
    pub(crate) failed: usize,
    /// Time to the end of each answer, sorted.
    pub(crate) total: Vec<Duration>,
    /// Time to its first content, sorted.
    pub(crate) first: Vec<Duration>,
}

impl Measured {
    /// Takes the figures of another run of the same thing.
    pub(crate) fn add(&mut self, other: Measured) {
        self.ok = self.ok.saturating_add(other.ok);
        self.failed = self.failed.saturating_add(other.failed);
        self.total.extend(other.total);
        self.first.extend(other.first);
        self.total.sort_unstable();
        self.first.sort_unstable();
    }
}

/// The value at a share of a sorted list, in microseconds.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let at = (sorted.len() as f64 * share) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(at.min(last)).map_or(0.0, |d| d.as_secs_f64() * 1e6)
}

impl Shape {
    /// The bytes of the request; `host` is that of the server asked.
    fn request(&self, host: SocketAddr) -> Vec<u8> {
        let words = "the quick brown fox jumps over the lazy dog and writes it down. ";
        let prompt: String = words.chars().cycle().take(self.bytes).collect();
        let mut body = serde_json::json!({
            "model": self.model, "stream": self.stream, "max_tokens": 256,
            "messages": [{"role": "system", "content": "You are a helpful assistant."},
                         {"role": "user", "content": prompt}],
        });
        if let (true, Some(members)) = (self.schema, body.as_object_mut()) {
            let format = serde_json::json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": {
                "type": "object", "required": ["answer", "score"],
                "properties": {"answer": {"type": "string"}, "score": {"type": "integer"}}}}});
            members.insert("response_format".to_owned(), format);
        }
        let body = body.to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        (head + body.as_str()).into_bytes()
    }
}

/// Sends an amount of requests of one shape.
pub(crate) async fn run(target: SocketAddr, shape: &Shape, amount: Amount) -> Measured {
    let request: Arc<[u8]> = shape.request(target).into();
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..amount.connections {
        workers.spawn(worker(target, Arc::clone(&request), Arc::clone(&next), start, amount));
    }
    let mut all = Measured::default();
    while let Some(done) = workers.join_next().await {
        all.add(done.unwrap_or_default());
    }
    all
}

async fn worker(
    target: SocketAddr,
    request: Arc<[u8]>,
    next: Arc<AtomicUsize>,
    start: Instant,
    amount: Amount,
) -> Measured {
    let mut out = Measured::default();
    let mut connection = None;
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= amount.requests || start.elapsed() > amount.limit {
            return out;
        }
        let due = match amount.rate {
            Some(rate) => {
                let due = start + Duration::from_secs_f64(n as f64 / rate);
                tokio::time::sleep_until(due).await;
                due
            }
            None => Instant::now(),
        };
        match ask(&mut connection, target, &request).await {
            Ok((200, first)) => {
                out.ok = out.ok.saturating_add(1);
                out.total.push(due.elapsed());
                out.first.push(first.unwrap_or_else(Instant::now).saturating_duration_since(due));
            }
            _ => {
                out.failed = out.failed.saturating_add(1);
                connection = None;
            }
        }
    }
}

/// One request on a kept connection: its status, and when the first content came.
async fn ask(
    connection: &mut Option<(TcpStream, Inbox)>,
    target: SocketAddr,
    request: &[u8],
) -> std::io::Result<(u16, Option<Instant>)> {
    if connection.is_none() {
        let socket = TcpStream::connect(target).await?;
        socket.set_nodelay(true)?;
        *connection = Some((socket, Inbox::default()));
    }
    let Some((socket, inbox)) = connection else { return Err(std::io::ErrorKind::NotConnected.into()) };
    socket.write_all(request).await?;
    let head = inbox.head(socket).await?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let mut first = None;
    inbox
        .body(socket, &head, |piece| {
            if first.is_none() && piece.windows(FIRST.len()).any(|w| w == FIRST) {
                first = Some(Instant::now());
            }
        })
        .await?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Ok((status, first))
}
