//! The socket as the HTTP layer sees it: framing is checked on the way in, stalls are cut on the way out,
//! and closing lingers so that a refusal reaches a client that is still sending.

use super::framing::{Framing, Violation};
use bytes::Bytes;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

/// How long, and how much, is read and thrown away after our last byte. Closing with unread bytes would
/// reset the connection and take the answer with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// What the connection's parts tell each other.
#[derive(Debug)]
pub(super) struct Shared {
    /// HTTP/1: one request after another, with framing of its own.
    pub(super) framed: bool,
    pub(super) violation: OnceLock<Violation>,
    /// Told of a violation between two requests: the parser is then left waiting, because on an error it
    /// would close without an answer.
    pub(super) violated: Notify,
    pub(super) stalled: AtomicBool,
    active: AtomicUsize,
    /// The client does not take what it was sent.
    waits: AtomicBool,
    quiet: Mutex<Quiet>,
}

/// Since when a connection has nothing to do, and what of a request there is.
#[derive(Debug)]
struct Quiet {
    /// When the last request ended, or the connection began.
    since: Instant,
    /// When the head began that is being read.
    head: Option<Instant>,
    /// A request has come.
    asked: bool,
}

/// How long a connection may have nothing to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From the beginning of a head to its end, and until the first request.
    pub(super) head: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
}

/// What a connection was waited for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// The end of a head.
    Head,
    /// Another request.
    Request,
}

impl Shared {
    pub(super) fn new(framed: bool) -> Arc<Self> {
        Arc::new(Shared {
            framed,
            violation: OnceLock::new(),
            violated: Notify::new(),
            stalled: AtomicBool::new(false),
            active: AtomicUsize::new(0),
            waits: AtomicBool::new(false),
            quiet: Mutex::new(Quiet { since: Instant::now(), head: None, asked: false }),
        })
    }

    /// A request begins; it ends when the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.active.fetch_add(1, Ordering::SeqCst);
        self.quiet().asked = true;
        Busy(self.clone())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.active.load(Ordering::SeqCst) > 0
    }

    /// Waits until nothing has been in work, and nothing on its way to the client, for too long.
    pub(super) async fn idle_for(&self, patience: Patience) -> Late {
        loop {
            let (late, left) = self.waits_for(patience);
            let working = self.is_busy() || self.waits.load(Ordering::SeqCst);
            if !working && left.is_zero() {
                return late;
            }
            // A head may begin at any time, and has its own time then.
            tokio::time::sleep(if working { patience.head } else { left.min(patience.head) }).await;
        }
    }

    /// What is waited for, and for how long still.
    fn waits_for(&self, patience: Patience) -> (Late, Duration) {
        let quiet = self.quiet();
        let (late, since, most) = match quiet.head {
            Some(begun) => (Late::Head, begun.max(quiet.since), patience.head),
            None if quiet.asked => (Late::Request, quiet.since, patience.idle),
            None => (Late::Head, quiet.since, patience.head),
        };
        (late, most.saturating_sub(since.elapsed()))
    }

    /// Notes whether a head is being read.
    fn reads_head(&self, reading: bool) {
        let mut quiet = self.quiet();
        quiet.head = reading.then(|| quiet.head.unwrap_or_else(Instant::now));
    }

    fn quiet(&self) -> MutexGuard<'_, Quiet> {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn idles_from_now(&self) {
        self.quiet().since = Instant::now();
    }
}

/// A request in work.
#[derive(Debug)]
pub(super) struct Busy(Arc<Shared>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idles_from_now();
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A socket with its guards.
pub(super) struct Io {
    stream: TcpStream,
    /// Read already, to tell the protocol.
    prefix: Bytes,
    /// HTTP/1 only.
    framing: Option<Framing>,
    shared: Arc<Shared>,
    stall: Duration,
    /// Runs while a write makes no progress.
    stalling: Option<Pin<Box<Sleep>>>,
    closing: Closing,
}

enum Closing {
    No,
    Lingering { until: Pin<Box<Sleep>>, left: usize },
    Closed,
}

impl Io {
    pub(super) fn new(
        stream: TcpStream,
        prefix: Bytes,
        framing: Option<Framing>,
        shared: Arc<Shared>,
        stall: Duration,
    ) -> Self {
        Io { stream, prefix, framing, shared, stall, stalling: None, closing: Closing::No }
    }

    /// Sends a last answer and closes.
    pub(super) async fn refuse(mut self, answer: &[u8]) {
        let _ = tokio::time::timeout(LINGER, self.stream.write_all(answer)).await;
        let _ = self.shutdown().await;
    }

    /// Progress ends a stall; none starts one, and one too long is an error.
    fn watch<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            if self.stalling.take().is_some() {
                self.shared.waits.store(false, Ordering::SeqCst);
                self.shared.idles_from_now();
            }
            return polled;
        }
        let stall = self.stall;
        let shared = &self.shared;
        let sleep = self.stalling.get_or_insert_with(|| {
            shared.waits.store(true, Ordering::SeqCst);
            Box::pin(tokio::time::sleep(stall))
        });
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.shared.stalled.store(true, Ordering::SeqCst);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        let before = buf.filled().len();
        if me.prefix.is_empty() {
            ready!(Pin::new(&mut me.stream).poll_read(cx, buf))?;
        } else {
            let n = me.prefix.len().min(buf.remaining());
            buf.put_slice(&me.prefix.split_to(n));
            if me.prefix.is_empty() {
                // An empty rest would still hold the whole buffer.
                me.prefix = Bytes::new();
            }
        }
        if let Some(framing) = &mut me.framing {
            let fresh = buf.filled().get(before..).unwrap_or_default();
            if let Err(violation) = framing.push(fresh) {
                buf.set_filled(before);
                let _ = me.shared.violation.set(violation);
                if !me.shared.is_busy() {
                    me.shared.violated.notify_one();
                    return Poll::Pending;
                }
                // Within a body: whoever reads it is told, and answers.
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, violation.message)));
            }
            me.shared.reads_head(framing.in_head());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        if matches!(me.closing, Closing::No) {
            ready!(Pin::new(&mut me.stream).poll_shutdown(cx))?;
            me.closing =
                Closing::Lingering { until: Box::pin(tokio::time::sleep(LINGER)), left: LINGER_BYTES };
        }
        let mut waste = [0_u8; 4096];
        while let Closing::Lingering { until, left } = &mut me.closing {
            let mut buf = ReadBuf::new(&mut waste);
            let more = match Pin::new(&mut me.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) => buf.filled().len(),
                Poll::Ready(Err(_)) => 0,
                Poll::Pending if until.as_mut().poll(cx).is_pending() => return Poll::Pending,
                Poll::Pending => 0,
            };
            *left = left.saturating_sub(more);
            if more == 0 || *left == 0 {
                me.closing = Closing::Closed;
            }
        }
        Poll::Ready(Ok(()))
    }
}
