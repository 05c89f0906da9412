//! A raw HTTP/1.1 client: sends exactly the bytes it is given and reads exactly what comes back.

use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No test waits longer than this for an answer; what takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(90);

/// A connection.
pub struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The body, unchunked.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.text()))
    }

    /// The text of the first choice.
    #[must_use]
    pub fn content(&self) -> String {
        let json = self.json();
        json["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
    }

    /// `x-request-id`, which every answer has.
    #[must_use]
    pub fn request_id(&self) -> String {
        self.header("x-request-id").unwrap_or_else(|| panic!("no x-request-id: {self:?}")).to_owned()
    }

    /// Asserts an error object with that status and returns it: message, type, `param`, `code`, no more guesswork.
    #[must_use]
    pub fn error(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        let error = self.json()["error"].clone();
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{error}");
        assert!(error["type"].is_string(), "{error}");
        let object = error.as_object().unwrap();
        assert!(object.contains_key("param") && object.contains_key("code"), "{error}");
        let _ = self.request_id();
        error
    }
}

/// What stood at the start of an answer.
#[derive(Clone, Debug)]
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Socket {
    /// Connects.
    pub async fn open(addr: SocketAddr) -> Socket {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Socket { stream, buffer: Vec::new() }
    }

    /// Connects, if anybody listens.
    pub async fn try_open(addr: SocketAddr) -> Option<Socket> {
        let stream = TcpStream::connect(addr).await.ok()?;
        Some(Socket { stream, buffer: Vec::new() })
    }

    /// Sends bytes as they are. A peer that has closed is no error here; reading shows it.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Closes our side for writing.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads one whole answer; `None` when the peer closes before a complete one.
    pub async fn response(&mut self) -> Option<Response> {
        tokio::time::timeout(PATIENCE, self.read_response()).await.expect("no answer within 90 s")
    }

    /// Reads until the peer closes; true when it did so without another byte.
    pub async fn closed(&mut self) -> bool {
        tokio::time::timeout(PATIENCE, self.fill()).await.expect("still open after 90 s").is_none()
            && self.buffer.is_empty()
    }

    async fn fill(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(n) if n > 0 => Some(()),
            _ => None,
        }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(p) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..p]).into_owned();
                self.buffer.drain(..p + 2);
                return Some(line);
            }
            self.fill().await?;
        }
    }

    async fn head(&mut self) -> Option<Head> {
        let status = self.line().await?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            match line.split_once(':') {
                Some((n, v)) => headers.push((n.to_lowercase(), v.trim().to_owned())),
                None => return Some(Head { status, headers }),
            }
        }
    }

    /// The next piece of a chunked body; `Some(empty)` at its clean end, `None` when it was cut.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(self.line().await?.trim(), 16).ok()?;
        let mut piece = self.take(size + 2).await?;
        piece.truncate(size);
        Some(piece)
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill().await?;
        }
        Some(self.buffer.drain(..length).collect())
    }

    async fn read_response(&mut self) -> Option<Response> {
        let head = self.head().await?;
        let mut body = Vec::new();
        if head.header("transfer-encoding").is_some() {
            loop {
                let piece = self.chunk().await?;
                if piece.is_empty() {
                    break;
                }
                body.extend(piece);
            }
        } else if let Some(length) = head.header("content-length") {
            body = self.take(length.parse().ok()?).await?;
        } else if head.status >= 200 && head.status != 204 {
            while self.fill().await.is_some() {}
            body = std::mem::take(&mut self.buffer);
        }
        Some(Response { status: head.status, headers: head.headers, body })
    }
}

/// How a streamed answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `data: [DONE]`, then the clean end of the body.
    Done,
    /// The body ended cleanly, without `[DONE]`.
    NoDone,
    /// The connection was cut.
    Cut,
}

/// A streamed answer being read. Dropping it closes the connection.
pub struct Events {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(String, String)>,
    socket: Socket,
    text: String,
    /// How it ended, once it has.
    pub end: Option<End>,
    done: bool,
}

impl Events {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The next `data:` event as JSON; `None` at the end, whose kind is then in `end`.
    pub async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(PATIENCE, self.read_next()).await.expect("no event within 90 s")
    }

    async fn read_next(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let data = event.lines().find_map(|l| l.strip_prefix("data:")).map(str::trim);
                let data = data.map(str::to_owned);
                self.text = rest.to_owned();
                match data.as_deref() {
                    None => continue,
                    Some("[DONE]") => {
                        assert!(!self.done, "a second [DONE]");
                        self.done = true;
                    }
                    Some(json) => {
                        assert!(!self.done, "an event after [DONE]: {json}");
                        return Some(serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}")));
                    }
                }
                continue;
            }
            match self.socket.chunk().await {
                None => self.end = Some(End::Cut),
                Some(piece) if piece.is_empty() => {
                    self.end = Some(if self.done { End::Done } else { End::NoDone });
                }
                Some(piece) => {
                    self.text.push_str(std::str::from_utf8(&piece).expect("events are UTF-8"));
                    continue;
                }
            }
            return None;
        }
    }

    /// Reads to the end: all events, and how it ended.
    pub async fn collect(mut self) -> (Vec<Value>, End) {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        (all, self.end.unwrap())
    }
}

/// The text that the chunks of a stream carry together.
#[must_use]
pub fn text_of(events: &[Value]) -> String {
    events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect()
}

/// Sends requests to one server, each on a connection of its own.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub SocketAddr);

impl Client {
    /// One request, whole.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut socket = Socket::open(self.0).await;
        socket.send(self.head(method, path, headers, body)).await;
        socket.response().await.unwrap_or_else(|| panic!("{method} {path}: closed without an answer"))
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"").await
    }

    /// `POST` of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes()).await
    }

    /// A chat request.
    pub async fn chat(&self, body: &Value) -> Response {
        self.post("/v1/chat/completions", body).await
    }

    /// A chat request whose answer is read event by event. The body gets `stream: true`.
    pub async fn stream(&self, body: &Value) -> Events {
        let mut body = body.clone();
        body["stream"] = Value::Bool(true);
        let headers = [("content-type", "application/json")];
        self.events("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes()).await
    }

    /// What a path sends for as long as it likes, read event by event.
    pub async fn follow(&self, path: &str, headers: &[(&str, &str)]) -> Events {
        self.events("GET", path, headers, b"").await
    }

    async fn events(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Events {
        let mut socket = Socket::open(self.0).await;
        socket.send(self.head(method, path, headers, body)).await;
        let head = tokio::time::timeout(PATIENCE, socket.head()).await.expect("no head within 90 s");
        let head = head.expect("closed without an answer");
        Events {
            status: head.status,
            headers: head.headers,
            socket,
            text: String::new(),
            end: None,
            done: false,
        }
    }

    fn head(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.0);
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}
