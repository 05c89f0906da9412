//! Scripted vendors on loopback: they speak a wire format as its vendor documents it, fail exactly as told,
//! and remember every request and whether its caller went away. Raw sockets, so that faults are exact.

mod gate;
mod seen;
mod speak;

pub use gate::Gate;
pub use seen::Seen;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Wire format that a vendor speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Chat completions.
    OpenAi,
    /// Anthropic messages.
    Anthropic,
    /// Google generateContent.
    Gemini,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Dialect; 3] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini];

    /// As the matrix names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Dialect::OpenAi => "openai_chat",
            Dialect::Anthropic => "anthropic_messages",
            Dialect::Gemini => "gemini",
        }
    }
}

/// A tool call in an answer.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// Its identifier.
    pub id: String,
    /// The function.
    pub name: String,
    /// JSON text of the arguments, in the pieces in which a stream carries it.
    pub arguments: Vec<String>,
}

/// Tokens that a vendor reports; `input` includes the cached ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// All input.
    pub input: u32,
    /// Of these, cached.
    pub cached_input: u32,
    /// Of these, images; 0 = that is not told.
    pub image: u32,
    /// Output.
    pub output: u32,
}

/// Stands for what an answer reports until it is written.
const REPORTED: u32 = 424_242;

/// What goes wrong within a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed without the end of its body.
    Cut,
    /// The body ends cleanly, but the vendor's end of the answer never came.
    EndEarly,
    /// Nothing more comes; the connection stays.
    Hang,
    /// An event that is no JSON.
    Malformed,
    /// The vendor's own error event.
    ErrorEvent,
}

/// A well-formed answer, whole or as a stream as the request asks, with at most one fault.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Text, in the pieces in which a stream carries it.
    pub pieces: Vec<String>,
    /// Tool calls.
    pub tool_calls: Vec<ToolCall>,
    /// Text of a refusal (chat completions only).
    pub refusal: Option<String>,
    /// Finish reason, `""` for what fits the answer.
    pub finish: String,
    /// What it reports.
    pub usage: Usage,
    /// What it writes in the place of the number of output tokens, as it stands; `None` = that number.
    pub reports: Option<&'static str>,
    /// Wait before the head.
    pub delay: Duration,
    /// What it waits for after that, before the head.
    pub gate: Option<Gate>,
    /// What it waits for in a stream before its first call of a tool.
    pub calls_gate: Option<Gate>,
    /// Wait before each event after the first.
    pub gap: Duration,
    /// After this many events of the stream (or, unstreamed, instead of the body), this happens.
    pub fault: Option<(usize, Fault)>,
}

impl Answer {
    /// A text in one piece per word.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Answer::pieces(text.split_inclusive(' ').map(str::to_owned).collect())
    }

    /// A text in these pieces.
    #[must_use]
    pub const fn pieces(pieces: Vec<String>) -> Self {
        Answer {
            pieces,
            tool_calls: Vec::new(),
            refusal: None,
            finish: String::new(),
            usage: Usage { input: 20, cached_input: 8, image: 0, output: 5 },
            reports: None,
            delay: Duration::ZERO,
            gate: None,
            calls_gate: None,
            gap: Duration::ZERO,
            fault: None,
        }
    }

    /// A call of one tool; the arguments arrive in pieces of a few characters.
    #[must_use]
    pub fn call(id: &str, name: &str, arguments: &str) -> Self {
        let chars: Vec<char> = arguments.chars().collect();
        let arguments = chars.chunks(7).map(|c| c.iter().collect()).collect();
        let call = ToolCall { id: id.to_owned(), name: name.to_owned(), arguments };
        Answer { tool_calls: vec![call], ..Answer::pieces(Vec::new()) }
    }

    /// Calls another tool, or the same again.
    #[must_use]
    pub fn and_call(mut self, id: &str, name: &str, arguments: &str) -> Self {
        self.tool_calls.extend(Answer::call(id, name, arguments).tool_calls);
        self
    }

    /// Waits in a stream before its first call of a tool until the gate is open.
    #[must_use]
    pub fn calling_behind(self, gate: &Gate) -> Self {
        Answer { calls_gate: Some(gate.clone()), ..self }
    }

    /// Writes this where the number of output tokens belongs.
    #[must_use]
    pub fn reporting(self, reports: &'static str) -> Self {
        let usage = Usage { output: REPORTED, ..self.usage };
        Answer { usage, reports: Some(reports), ..self }
    }

    /// What it writes, with what it reports in its place.
    fn written(&self, text: &str) -> String {
        self.reports.map_or_else(|| text.to_owned(), |r| text.replace(&REPORTED.to_string(), r))
    }

    /// Waits this long before the head.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Answer { delay, ..self }
    }

    /// Waits this long before each further event.
    #[must_use]
    pub fn gap(self, gap: Duration) -> Self {
        Answer { gap, ..self }
    }

    /// After `events` events, `fault`.
    #[must_use]
    pub fn fault(self, events: usize, fault: Fault) -> Self {
        Answer { fault: Some((events, fault)), ..self }
    }
}

/// What a vendor does with one request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers.
    Answer(Answer),
    /// Refuses, in its own form of error.
    Error {
        /// HTTP status.
        status: u16,
        /// Further headers.
        headers: Vec<(String, String)>,
        /// Text of the error.
        message: String,
    },
    /// Sends these bytes and closes.
    Raw(Vec<u8>),
    /// Never says anything.
    Hang,
    /// Closes without a byte.
    Close,
}

impl Reply {
    /// A text, one piece per word.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Reply::Answer(Answer::text(text))
    }

    /// A refusal with that status.
    #[must_use]
    pub fn error(status: u16) -> Self {
        Reply::Error { status, headers: Vec::new(), message: format!("the vendor says {status}") }
    }

    /// The same answer, reporting this usage.
    #[must_use]
    pub fn costing(self, input: u32, output: u32) -> Self {
        match self {
            Reply::Answer(a) => {
                Reply::Answer(Answer { usage: Usage { input, output, ..Usage::default() }, ..a })
            }
            other => other,
        }
    }

    /// The same answer, after a while.
    #[must_use]
    pub fn slow(self, delay: Duration) -> Self {
        match self {
            Reply::Answer(a) => Reply::Answer(a.after(delay)),
            other => other,
        }
    }

    /// The same answer, once the gate is open.
    #[must_use]
    pub fn held(self, gate: &Gate) -> Self {
        match self {
            Reply::Answer(a) => Reply::Answer(Answer { gate: Some(gate.clone()), ..a }),
            other => other,
        }
    }

    /// A refusal with that status and one header.
    #[must_use]
    pub fn error_with(status: u16, name: &str, value: &str) -> Self {
        let headers = vec![(name.to_owned(), value.to_owned())];
        Reply::Error { status, headers, message: format!("the vendor says {status}") }
    }
}

type Script = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

struct State {
    dialect: Dialect,
    queue: Mutex<VecDeque<Reply>>,
    otherwise: Mutex<Script>,
    seen: Mutex<Vec<Arc<Seen>>>,
}

/// A running vendor. It ends when dropped.
pub struct Vendor {
    addr: SocketAddr,
    state: Arc<State>,
    accept: tokio::task::JoinHandle<()>,
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

impl Vendor {
    /// Starts one that answers `ok` to everything until told otherwise.
    pub async fn start(dialect: Dialect) -> Vendor {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(State {
            dialect,
            queue: Mutex::default(),
            otherwise: Mutex::new(Arc::new(|_| Reply::text("ok"))),
            seen: Mutex::default(),
        });
        let shared = Arc::clone(&state);
        let accept = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, Arc::clone(&shared)));
                while connections.try_join_next().is_some() {}
            }
        });
        Vendor { addr, state, accept }
    }

    /// One whose every answer is made from the request.
    pub async fn scripted(
        dialect: Dialect,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Vendor {
        let vendor = Vendor::start(dialect).await;
        vendor.otherwise(script);
        vendor
    }

    /// `http://127.0.0.1:port`, without a path.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Its wire format.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.state.dialect
    }

    /// The next request without a queued reply gets this one.
    pub fn queue(&self, reply: Reply) {
        self.state.queue.lock().unwrap().push_back(reply);
    }

    /// What requests get when nothing is queued, from now on.
    pub fn otherwise(&self, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *self.state.otherwise.lock().unwrap() = Arc::new(script);
    }

    /// Every request so far, in order of arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Arc<Seen>> {
        self.state.seen.lock().unwrap().clone()
    }

    /// How many requests came so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }
}

/// Serves one connection until it ends or a reply ends it.
async fn serve(mut socket: TcpStream, state: Arc<State>) {
    let _ = socket.set_nodelay(true);
    let mut buffer = Vec::new();
    while let Some(seen) = Seen::read(&mut socket, &mut buffer, state.dialect).await {
        let seen = Arc::new(seen);
        state.seen.lock().unwrap().push(Arc::clone(&seen));
        let queued = state.queue.lock().unwrap().pop_front();
        let script = Arc::clone(&state.otherwise.lock().unwrap());
        let reply = queued.unwrap_or_else(|| script(&seen));
        let (mut read, mut write) = socket.split();
        let mut byte = [0_u8; 1];
        let keep = tokio::select! {
            // So does one that nothing more can be written to.
            kept = perform(&mut write, &reply, &seen) => kept.unwrap_or_else(|_| {
                seen.mark_left();
                false
            }),
            gone = read.read(&mut byte) => {
                // A caller that closes before the end of the answer has left.
                if !matches!(gone, Ok(1)) {
                    seen.mark_left();
                }
                false
            }
        };
        if !keep {
            return;
        }
        seen.mark_done();
    }
}

/// Writes the reply; whether the connection may be used again. An error: the caller takes nothing more.
async fn perform(
    out: &mut (impl tokio::io::AsyncWrite + Unpin),
    reply: &Reply,
    seen: &Seen,
) -> std::io::Result<bool> {
    match reply {
        Reply::Hang => std::future::pending().await,
        Reply::Close => Ok(false),
        Reply::Raw(bytes) => out.write_all(bytes).await.map(|()| false),
        Reply::Error { status, headers, message } => {
            let body = speak::error(seen.dialect, *status, message).to_string();
            let extra: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
            whole(out, *status, &extra, &body).await
        }
        Reply::Answer(answer) => {
            tokio::time::sleep(answer.delay).await;
            if let Some(gate) = &answer.gate {
                gate.passed().await;
            }
            if seen.streams() { stream(out, answer, seen).await } else { body(out, answer, seen).await }
        }
    }
}

async fn whole(
    out: &mut (impl tokio::io::AsyncWrite + Unpin),
    status: u16,
    extra: &str,
    body: &str,
) -> std::io::Result<bool> {
    let head = format!(
        "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\n{extra}content-length: {}\r\n\r\n",
        body.len()
    );
    out.write_all(format!("{head}{body}").as_bytes()).await.map(|()| true)
}

async fn body(
    out: &mut (impl tokio::io::AsyncWrite + Unpin),
    answer: &Answer,
    seen: &Seen,
) -> std::io::Result<bool> {
    let text = answer.written(&speak::whole(seen.dialect, answer, &seen.model()).to_string());
    match answer.fault {
        None => whole(out, 200, "", &text).await,
        Some((_, Fault::Malformed)) => whole(out, 200, "", "{\"this is\": not json").await,
        Some((_, Fault::ErrorEvent)) => {
            let text = speak::error(seen.dialect, 503, "overloaded").to_string();
            whole(out, 503, "", &text).await
        }
        Some((_, fault)) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
                text.len(),
                text.get(..text.len() / 2).unwrap_or_default()
            );
            out.write_all(head.as_bytes()).await?;
            if fault == Fault::Hang {
                std::future::pending::<()>().await;
            }
            Ok(false)
        }
    }
}

async fn stream(
    out: &mut (impl tokio::io::AsyncWrite + Unpin),
    answer: &Answer,
    seen: &Seen,
) -> std::io::Result<bool> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    out.write_all(head.as_bytes()).await?;
    let events = speak::events(seen.dialect, answer, &seen.model(), seen.wants_usage());
    for (i, event) in events.iter().enumerate() {
        if i > 0 {
            tokio::time::sleep(answer.gap).await;
        }
        match answer.fault.filter(|(after, _)| *after == i) {
            None => {}
            Some((_, Fault::Cut)) => return Ok(false),
            Some((_, Fault::EndEarly)) => break,
            Some((_, Fault::Hang)) => std::future::pending().await,
            Some((_, Fault::Malformed)) => {
                out.write_all(chunk("data: {\"choices\": [oops\n\n").as_bytes()).await?;
                std::future::pending().await
            }
            Some((_, Fault::ErrorEvent)) => {
                let event = speak::error_event(seen.dialect, "overloaded");
                out.write_all(chunk(&event).as_bytes()).await?;
                break;
            }
        }
        if let Some(gate) = answer.calls_gate.as_ref().filter(|_| speak::calls(event)) {
            gate.passed().await;
        }
        out.write_all(chunk(&answer.written(event)).as_bytes()).await?;
        seen.mark_event();
    }
    out.write_all(b"0\r\n\r\n").await.map(|()| true)
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}
