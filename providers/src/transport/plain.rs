//! Connections without TLS: one call at a time on each, driven by the call itself.
//!
//! A client for every kind of connection runs each as a task of its own and passes requests and answers
//! between tasks. Where a connection carries one call at a time that buys nothing, so here whoever waits for
//! an answer moves the connection along. One that nobody uses lies still; whether its peer has left is found
//! when it is taken up again. While there are such ones, a task closes those that nobody has used for long.

use super::connect::{Connector, Failed, POOL_IDLE, POOL_SIZE, READ_BUFFER, Stream};
use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::uri::Authority;
use http::{Request, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;
use tower::{Service as _, ServiceExt as _};

/// Connections, each to be used for the host alone that it was made to.
pub(super) struct Plain {
    connector: Connector,
    idle: Mutex<Pool>,
}

/// Connections that nobody uses.
#[derive(Default)]
struct Pool {
    /// The one used last at the end; at most [`POOL_SIZE`].
    links: VecDeque<Idle>,
    /// A task closes those that are old.
    watched: bool,
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain").finish_non_exhaustive()
    }
}

/// A connection that nobody uses.
struct Idle {
    since: Instant,
    link: Box<Link>,
}

/// One connection.
struct Link {
    /// Host and port that it was made to: a request for another one must never go out on it.
    to: Authority,
    sender: SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    connection: Option<Connection<Stream, Full<Bytes>>>,
}

impl Plain {
    pub(super) fn new(connector: Connector) -> Arc<Self> {
        Arc::new(Plain { connector, idle: Mutex::default() })
    }

    /// Sends a request with an absolute address on a connection of its own and waits for the answer's head.
    pub(super) async fn request(
        self: &Arc<Self>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Body>, Failed> {
        let address = std::mem::take(request.uri_mut());
        *request.uri_mut() = address.path_and_query().cloned().map(Uri::from).unwrap_or_default();
        if !request.headers().contains_key(HOST)
            && let Some(host) = address.authority().and_then(|a| HeaderValue::from_str(a.as_str()).ok())
        {
            request.headers_mut().insert(HOST, host);
        }
        let Some(to) = address.authority().cloned() else {
            return Err(Failed::Connect("the address names no host".into()));
        };
        while let Some(mut link) = self.take(&to) {
            match link.send(request).await {
                Ok(answer) => return Ok(self.answer(answer, link)),
                // The peer closed while we took it up: what it has not seen goes out on another.
                Err((_, Some(unsent))) => request = unsent,
                Err((error, None)) => return Err(Failed::Lost(error.into())),
            }
        }
        let mut link = self.connect(address, to).await?;
        match link.send(request).await {
            Ok(answer) => Ok(self.answer(answer, link)),
            Err((error, _)) => Err(Failed::Lost(error.into())),
        }
    }

    fn answer(self: &Arc<Self>, answer: Response<Incoming>, link: Box<Link>) -> Response<Body> {
        answer.map(|incoming| Body { incoming, back: Some((link, Arc::clone(self))) })
    }

    async fn connect(&self, address: Uri, to: Authority) -> Result<Box<Link>, Failed> {
        let mut connector = self.connector.clone();
        let stream = connector.ready().await.map_err(Failed::Connect)?.call(address);
        let stream = stream.await.map_err(Failed::Connect)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(READ_BUFFER)
            .handshake(stream)
            .await
            .map_err(|e| Failed::Lost(e.into()))?;
        Ok(Box::new(Link { to, sender, connection: Some(connection) }))
    }

    /// The connection to a host used last that is still good. Older ones are closed by their peers, or below.
    fn take(&self, to: &Authority) -> Option<Box<Link>> {
        loop {
            let mut pool = self.pool();
            let at = pool.links.iter().rposition(|i| i.link.to == *to)?;
            let Idle { since, mut link } = pool.links.remove(at)?;
            drop(pool);
            if since.elapsed() < POOL_IDLE && link.is_free() {
                return Some(link);
            }
        }
    }

    fn put(self: &Arc<Self>, link: Box<Link>) {
        let mut pool = self.pool();
        let full = pool.links.len() >= POOL_SIZE;
        let gone = if full { pool.links.pop_front() } else { None };
        pool.links.push_back(Idle { since: Instant::now(), link });
        let watched = std::mem::replace(&mut pool.watched, true);
        drop(pool);
        drop(gone);
        if !watched {
            TokioExecutor::new().execute(close_old(Arc::downgrade(self)));
        }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what nobody has used for [`POOL_IDLE`]; gives when the next one is to be closed, `None` = there is none, and
    /// nobody watches any more.
    fn close_old(&self) -> Option<Duration> {
        let mut gone = Vec::new();
        let mut pool = self.pool();
        while let Some(old) = pool.links.pop_front_if(|i| i.since.elapsed() >= POOL_IDLE) {
            gone.push(old);
        }
        let next = pool.links.front().map(|i| POOL_IDLE.saturating_sub(i.since.elapsed()));
        pool.watched = next.is_some();
        next
    }
}

/// Closes old connections until none is left, as the pool of the other kind does: nobody else looks while nobody asks, and
/// the vendor's end, too, is held until then.
async fn close_old(pool: Weak<Plain>) {
    while let Some(wait) = pool.upgrade().and_then(|pool| pool.close_old()) {
        tokio::time::sleep(wait).await;
    }
}

impl Link {
    /// The answer's head, or why there is none, with the request if nothing of it was sent.
    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, (hyper::Error, Option<Request<Full<Bytes>>>)> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let connection = &mut self.connection;
        poll_fn(|cx| {
            // The answer comes about in the connection and nowhere else, so that only that one needs to wake us.
            move_along(connection, cx);
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
        .map_err(|mut e| {
            let unsent = e.take_message();
            (e.into_error(), unsent)
        })
    }

    /// It waits for a request, and its peer is there as far as is known.
    fn is_free(&mut self) -> bool {
        move_along(&mut self.connection, &mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }
}

/// Does what can be done on a connection now. One that has ended is dropped, which tells whoever still waits
/// for something from it.
fn move_along(connection: &mut Option<Connection<Stream, Full<Bytes>>>, cx: &mut Context<'_>) {
    if connection.as_mut().is_some_and(|c| Pin::new(c).poll(cx).is_ready()) {
        *connection = None;
    }
}

/// The body of an answer. Its connection goes back when it has been read to its end, and is closed otherwise.
pub(super) struct Body {
    incoming: Incoming,
    back: Option<(Box<Link>, Arc<Plain>)>,
}

impl Body {
    fn ended(&mut self) {
        if let Some((mut link, pool)) = self.back.take()
            && link.is_free()
        {
            pool.put(link);
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let me = &mut *self;
        // Asking for a frame is what makes the connection read one, and then it is there.
        for _ in 0..2 {
            // As in `send`: what is asked for comes about in the connection alone.
            let asked = Pin::new(&mut me.incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(frame) = asked {
                if frame.is_none() || me.incoming.is_end_stream() {
                    me.ended();
                }
                return Poll::Ready(frame);
            }
            if let Some((link, _)) = &mut me.back {
                move_along(&mut link.connection, cx);
            }
        }
        let asked = Pin::new(&mut me.incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
        if asked.is_ready() && (matches!(asked, Poll::Ready(None)) || me.incoming.is_end_stream()) {
            me.ended();
        }
        asked
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
