//! The mock upstream: a chat-completions vendor that answers at once, whole or as a stream. Raw sockets, so
//! that it costs as little as possible beside what is measured.

use crate::wire::{Inbox, header};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

/// Text that marks the first content of a stream.
pub(crate) const FIRST: &[u8] = b"tok0";

/// Events of a stream, the first one included.
const EVENTS: usize = 16;

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let replies = Replies::new();
    loop {
        let (socket, _) = listener.accept().await?;
        crate::background(connection(socket, replies.clone()));
    }
}

#[derive(Clone)]
struct Replies {
    whole: std::sync::Arc<[u8]>,
    stream: std::sync::Arc<[u8]>,
}

impl Replies {
    fn new() -> Self {
        let body = whole();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut stream =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                .to_owned();
        for event in events() {
            stream.push_str(&format!("{:x}\r\n{event}\r\n", event.len()));
        }
        stream.push_str("0\r\n\r\n");
        Replies { whole: (head + body.as_str()).into_bytes().into(), stream: stream.into_bytes().into() }
    }
}

/// A body of about 1 KB whose content is valid JSON, so that contracts can be asked for.
fn whole() -> String {
    let content = serde_json::json!({"answer": "x".repeat(600), "score": 7}).to_string();
    serde_json::json!({
        "id": "chatcmpl-mock", "object": "chat.completion", "created": 1_700_000_000, "model": "mock",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content, "refusal": null},
                     "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 500, "completion_tokens": 160, "total_tokens": 660,
                  "prompt_tokens_details": {"cached_tokens": 0}},
    })
    .to_string()
}

/// The stream's content in pieces; together they are valid JSON, too, for an answer that is checked while it
/// grows is asked for as a stream.
fn pieces() -> impl Iterator<Item = String> {
    (0..EVENTS).map(|i| {
        let start = if i == 0 { "{\"answer\":\"" } else { "" };
        let end = if i + 1 == EVENTS { "\",\"score\":7}" } else { "" };
        format!("{start}tok{i} {end}")
    })
}

fn events() -> Vec<String> {
    let event = |delta: serde_json::Value, finish: Option<&str>| {
        let e = serde_json::json!({
            "id": "chatcmpl-mock", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "mock",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}],
        });
        format!("data: {e}\n\n")
    };
    let mut all = vec![event(serde_json::json!({"role": "assistant", "content": ""}), None)];
    all.extend(pieces().map(|piece| event(serde_json::json!({ "content": piece }), None)));
    all.push(event(serde_json::json!({}), Some("stop")));
    let usage = r#"{"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1700000000,"model":"mock","choices":[],"usage":{"prompt_tokens":500,"completion_tokens":160,"total_tokens":660}}"#;
    all.push(format!("data: {usage}\n\n"));
    all.push("data: [DONE]\n\n".to_owned());
    all
}

async fn connection(mut socket: TcpStream, replies: Replies) {
    let _ = socket.set_nodelay(true);
    let mut inbox = Inbox::default();
    while let Ok(Some((head, body))) = inbox.message(&mut socket).await {
        let streams = memchr(&body, b"\"stream\":true") || memchr(&body, b"\"stream\": true");
        let reply = if streams { &replies.stream } else { &replies.whole };
        let close = header(&head, "connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        if socket.write_all(reply).await.is_err() || close {
            return;
        }
    }
}

fn memchr(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}
