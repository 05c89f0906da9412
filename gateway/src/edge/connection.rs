//! One connection from accept to close: which protocol, how long each phase may take, how it ends.

use super::accept::{Acceptor, Handler};
use super::beside::beside;
use super::framing::{Framing, Limits, Violation};
use super::io::{Busy, Io, Late, Patience, Shared};
use super::payload::Payload;
use super::peer::Peer;
use super::request_id;
use super::streams::{self, Executor};
use crate::error::Failure;
use crate::metrics::Cut;
use bytes::{Bytes, BytesMut};
use futures_util::future::Either;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// What an HTTP/2 connection starts with; no HTTP/1 request can.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest buffer for what a connection reads ahead.
const READ_BUFFER: usize = 64 * 1024;
/// Time in which last words reach the client once the grace is over.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Serves one connection to its end.
pub(super) async fn serve<H: Handler>(acceptor: Arc<Acceptor<H>>, mut stream: TcpStream, peer: Peer) {
    let _ = stream.set_nodelay(true);
    let patience = acceptor.edge.first_byte_timeout;
    let first = tokio::select! {
        () = acceptor.stop.cancelled() => return,
        first = tokio::time::timeout(patience, opening(&mut stream)) => first,
    };
    match first {
        Err(_) => acceptor.metrics.cut(Cut::FirstByteTimeout),
        Ok(None) => {}
        Ok(Some(Opening { read, two: true })) => two(&acceptor, stream, read, peer).await,
        Ok(Some(Opening { read, two: false })) => one(&acceptor, stream, read, peer).await,
    }
}

/// The first bytes of a connection.
pub(super) struct Opening {
    pub(super) read: Bytes,
    /// They are of HTTP/2.
    pub(super) two: bool,
}

/// Reads until the protocol is plain. `None`: the client left.
pub(super) async fn opening(stream: &mut TcpStream) -> Option<Opening> {
    let mut read = BytesMut::with_capacity(1024);
    loop {
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
        if read.starts_with(PREFACE) {
            return Some(Opening { read: read.freeze(), two: true });
        }
        if !PREFACE.starts_with(&read) {
            return Some(Opening { read: read.freeze(), two: false });
        }
    }
}

async fn one<H: Handler>(acceptor: &Arc<Acceptor<H>>, stream: TcpStream, prefix: Bytes, peer: Peer) {
    let edge = &acceptor.edge;
    let shared = Shared::new(true);
    let framing = Framing::new(Limits {
        head_bytes: edge.head_bytes,
        max_headers: edge.max_headers,
        uri_bytes: edge.uri_bytes,
    });
    let io = Io::new(stream, prefix, Some(framing), shared.clone(), acceptor.stream.write_stall);
    let mut builder = http1::Builder::new();
    builder
        // Heads and idling have their time below: one timer for a connection, not one for each request.
        .header_read_timeout(None)
        .max_headers(edge.max_headers)
        .max_buf_size(READ_BUFFER.max(acceptor.stream.buffer_bytes));
    let mut conn = builder.serve_connection(TokioIo::new(io), service(acceptor, &shared, peer));
    match drive(acceptor, Pin::new(&mut conn), http1::Connection::graceful_shutdown, &shared).await {
        Ended::Violation => {
            // Whatever follows a violation cannot be trusted to be a request: one answer, and the end.
            acceptor.metrics.cut(Cut::Framing);
            if let Some(violation) = shared.violation.get() {
                conn.into_parts().io.into_inner().refuse(&answer(&refusal(*violation))).await;
            }
        }
        ended => note(acceptor, &shared, ended),
    }
}

async fn two<H: Handler>(acceptor: &Arc<Acceptor<H>>, stream: TcpStream, prefix: Bytes, peer: Peer) {
    let edge = &acceptor.edge;
    let shared = Shared::new(false);
    let io = Io::new(stream, prefix, None, shared.clone(), acceptor.stream.write_stall);
    let executor = Executor {
        tasks: acceptor.tasks.clone(),
        limits: acceptor.stream.clone(),
        metrics: acceptor.metrics.clone(),
    };
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(u32::try_from(edge.http2_streams).unwrap_or(100))
        .max_header_list_size(u32::try_from(edge.head_bytes).unwrap_or(32 * 1024))
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_send_buf_size(acceptor.stream.buffer_bytes);
    let mut conn =
        std::pin::pin!(builder.serve_connection(TokioIo::new(io), service(acceptor, &shared, peer)));
    let ended = drive(acceptor, conn.as_mut(), http2::Connection::graceful_shutdown, &shared).await;
    note(acceptor, &shared, ended);
}

/// How a connection ended.
enum Ended {
    /// By itself.
    Itself(Result<(), hyper::Error>),
    /// It idled, or a head came too slowly.
    Idle(Late),
    /// The grace of a shutdown ran out.
    Cut,
    /// Bytes came that are no request.
    Violation,
}

/// Why it ended, for the counters.
fn note<H>(acceptor: &Acceptor<H>, shared: &Shared, ended: Ended) {
    let cut = match ended {
        Ended::Idle(late) => Some(cut_for(late)),
        Ended::Cut => acceptor.kill.is_cancelled().then_some(Cut::Shutdown),
        Ended::Violation => Some(Cut::Framing),
        Ended::Itself(Ok(())) => None,
        Ended::Itself(Err(_)) if shared.violation.get().is_some() => Some(Cut::Framing),
        Ended::Itself(Err(_)) if shared.stalled.load(Ordering::SeqCst) => Some(Cut::WriteStall),
        Ended::Itself(Err(e)) if e.is_parse() => Some(Cut::Framing),
        Ended::Itself(Err(_)) => None,
    };
    if let Some(cut) = cut {
        acceptor.metrics.cut(cut);
    }
}

const fn cut_for(late: Late) -> Cut {
    match late {
        Late::Head => Cut::HeaderTimeout,
        Late::Request => Cut::IdleTimeout,
    }
}

/// What happens to a connection from outside of it.
enum Signal {
    /// The server stops: what is in work may end.
    Stop,
    /// Nothing may be in work any more.
    Cut,
    /// It has had nothing to do for too long.
    Idle(Late),
    Violation,
}

/// Polls a connection to its end. HTTP/2 says goodbye before it is closed for idling.
async fn drive<H, C>(
    acceptor: &Acceptor<H>,
    mut conn: Pin<&mut C>,
    graceful: impl Fn(Pin<&mut C>),
    shared: &Shared,
) -> Ended
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let (mut stopping, mut last) = (false, false);
    loop {
        let signal = match beside(conn.as_mut(), signal(acceptor, shared, stopping, last)).await {
            Either::Left(ended) => return Ended::Itself(ended),
            Either::Right(signal) => signal,
        };
        match signal {
            Signal::Stop => {
                graceful(conn.as_mut());
                stopping = true;
            }
            Signal::Cut => return Ended::Cut,
            Signal::Idle(late) if shared.framed || stopping => return Ended::Idle(late),
            Signal::Idle(late) => {
                acceptor.metrics.cut(cut_for(late));
                graceful(conn.as_mut());
                // The goodbye needs a moment; a client that says nothing to it is left.
                (stopping, last) = (true, true);
            }
            Signal::Violation => return Ended::Violation,
        }
    }
}

/// The next signal. `last`: the last words are being said already.
async fn signal<H>(acceptor: &Acceptor<H>, shared: &Shared, stopping: bool, last: bool) -> Signal {
    let over = async {
        if !last {
            acceptor.kill.cancelled().await;
        }
        tokio::time::sleep(LAST_WORDS).await;
    };
    let patience = Patience { head: acceptor.edge.header_timeout, idle: acceptor.edge.idle_timeout };
    tokio::select! {
        biased;
        () = shared.violated.notified() => Signal::Violation,
        () = acceptor.stop.cancelled(), if !stopping => Signal::Stop,
        () = over => Signal::Cut,
        late = shared.idle_for(patience) => Signal::Idle(late),
    }
}

fn service<H: Handler>(
    acceptor: &Arc<Acceptor<H>>,
    shared: &Arc<Shared>,
    peer: Peer,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Guarded>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Guarded>, Infallible>> + Send + use<H>,
> + use<H> {
    let (handler, shared) = (acceptor.handler.clone(), shared.clone());
    service_fn(move |mut request: Request<Incoming>| {
        let busy = shared.begin();
        request.extensions_mut().insert(peer);
        let answer = handler.clone().handle(request);
        async move {
            let response = answer.await;
            Ok::<_, Infallible>(response.map(|body| Guarded { body, _busy: busy }))
        }
    })
}

/// A body that keeps its connection busy until it has ended.
struct Guarded {
    body: Payload,
    _busy: Busy,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        streams::taken();
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            streams::given(data.len());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What bytes are told that never became a request.
fn refusal(v: Violation) -> Failure {
    Failure::new(v.status, v.code, v.message).closing()
}

/// The answer to a connection that is closed after it.
pub(super) fn answer(failure: &Failure) -> Vec<u8> {
    let body = failure.body().to_string();
    let mut headers = HeaderMap::new();
    failure.headers(&mut headers);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if let Ok(id) = HeaderValue::from_str(&request_id::fresh()) {
        headers.insert(request_id::HEADER, id);
    }
    let (code, reason) = (failure.status.as_u16(), failure.status.canonical_reason().unwrap_or("Error"));
    let mut answer = format!("HTTP/1.1 {code} {reason}\r\n").into_bytes();
    for (name, value) in &headers {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(body.as_bytes());
    answer
}
