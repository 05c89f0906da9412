//! Connections: name, TCP and TLS within one time, kept in one pool per provider.

use super::plain::{self, Plain};
use crate::dialect::Context;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tower::Service;
use types::provider::{Error, ErrorKind};

/// Below what vendors and their load balancers keep (60 s and more): who closes last never hits a closed one.
pub(super) const POOL_IDLE: Duration = Duration::from_secs(50);
/// Idle connections kept per provider.
pub(super) const POOL_SIZE: usize = 256;
/// Most that is read of an answer before somebody asks for it, a head's size too: what a stalled reader holds.
pub(super) const READ_BUFFER: usize = 32 * 1024;
/// The same for a stream of an HTTP/2 connection: the protocol's own first size.
const HTTP2_STREAM_WINDOW: u32 = 64 * 1024 - 1;
/// The same for all streams of an HTTP/2 connection together: a thousand that stall hold up no other.
const HTTP2_CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
/// A connection with many streams on it must not die unnoticed.
const HTTP2_PING: Duration = Duration::from_secs(20);

/// A connection as it is made.
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The connections of one provider, or those to all hosts that words are sent to.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    plain: Arc<Plain>,
    any: Client<Connector, Full<Bytes>>,
}

impl HttpClient {
    /// Sends a request with an absolute address and waits for the answer's head.
    pub(super) async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, Failed> {
        if request.uri().scheme() == Some(&Scheme::HTTP) {
            return self.plain.request(request).await.map(|answer| answer.map(Body::Plain));
        }
        match self.any.request(request).await {
            Ok(answer) => Ok(answer.map(Body::Any)),
            Err(e) if e.is_connect() => Err(Failed::Connect(e.into())),
            Err(e) => Err(Failed::Lost(e.into())),
        }
    }
}

/// The body of an answer.
pub(super) enum Body {
    Plain(plain::Body),
    Any(Incoming),
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Body::Plain(body) => Pin::new(body).poll_frame(cx),
            Body::Any(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Plain(body) => body.is_end_stream(),
            Body::Any(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Plain(body) => body.size_hint(),
            Body::Any(body) => body.size_hint(),
        }
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// There is no connection.
    Connect(BoxError),
    /// It broke before an answer began, or what came was none.
    Lost(BoxError),
}

/// The roots of trust, shared by all providers.
#[derive(Clone, Debug)]
pub(crate) struct Tls(Arc<ClientConfig>);

impl Tls {
    /// The system's roots, or those built in where the system has none.
    ///
    /// # Errors
    /// In words, when the cryptography cannot do what TLS asks, which a test rules out.
    pub(crate) fn new() -> Result<Self, String> {
        let ring = || Arc::new(rustls::crypto::ring::default_provider());
        let builder = || {
            let builder = ClientConfig::builder_with_provider(ring());
            builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())
        };
        let roots = match builder()?.with_native_roots() {
            Ok(with_roots) => with_roots,
            Err(e) => {
                tracing::warn!(reason = %e, "no roots of trust in the system: the built-in ones are used");
                builder()?.with_webpki_roots()
            }
        };
        let mut config = roots.with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Tls(Arc::new(config)))
    }

    /// A pool. `allow_private` says whether a name may resolve to an address that is not public.
    pub(crate) fn client(&self, connect: Duration, allow_private: bool) -> HttpClient {
        let mut http = HttpConnector::new_with_resolver(Resolver { gai: GaiResolver::new(), allow_private });
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(Duration::from_secs(60)));
        let https = HttpsConnector::from((http, Arc::clone(&self.0)));
        let connector = Connector { https, timeout: connect };
        let any = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_SIZE)
            .http1_max_buf_size(READ_BUFFER)
            .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
            .http2_keep_alive_interval(HTTP2_PING)
            .build(connector.clone());
        HttpClient { plain: Plain::new(connector), any }
    }
}

/// Resolves, connects and shakes hands within one time.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    https: HttpsConnector<HttpConnector<Resolver>>,
    timeout: Duration,
}

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connected = self.https.call(uri);
        let time = self.timeout;
        Box::pin(async move {
            match tokio::time::timeout(time, connected).await {
                Ok(result) => result,
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time").into()),
            }
        })
    }
}

/// The system's resolver, refusing what may not be reached: the address that is checked is the one connected to.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    gai: GaiResolver,
    allow_private: bool,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.gai.poll_ready(cx)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let found = self.gai.call(name);
        let allow_private = self.allow_private;
        Box::pin(async move {
            let all: Vec<SocketAddr> = found.await?.filter(|a| allow_private || is_public(a.ip())).collect();
            if all.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the name has no public address",
                ));
            }
            Ok(all.into_iter())
        })
    }
}

/// Whether an address belongs to the open internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => is_public_v4(a),
        IpAddr::V6(a) => is_public_v6(a),
    }
}

fn is_public_v4(a: Ipv4Addr) -> bool {
    let [b0, b1, b2, _] = a.octets();
    let reserved =
        matches!((b0, b1, b2), (0 | 240.., ..) | (100, 64..=127, _) | (192, 0, 0) | (198, 18..=19, _));
    !(reserved
        || a.is_private()
        || a.is_loopback()
        || a.is_link_local()
        || a.is_multicast()
        || a.is_documentation())
}

fn is_public_v6(a: Ipv6Addr) -> bool {
    if let Some(v4) = a.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    let [s0, s1, s2, .., s6, s7] = a.segments();
    let v4 = |high: u16, low: u16| is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match (s0, s1) {
        // NAT64 and 6to4 carry an IPv4 address.
        (0x64, 0xff9b) => v4(s6, s7),
        (0x2002, _) => v4(s1, s2),
        (0x2001, 0xdb8) => false,
        // Only 2000::/3 is given out.
        _ => s0 & 0xe000 == 0x2000,
    }
}

/// What a request that got no answer means.
pub(super) fn failure(context: &Context, failed: &Failed) -> Error {
    let (Failed::Connect(error) | Failed::Lost(error)) = failed;
    let cause = root_cause(&**error);
    if matches!(failed, Failed::Connect(_)) {
        return context.error(ErrorKind::Connect, cause);
    }
    let mut source: Option<&(dyn StdError + 'static)> = Some(&**error);
    let mut unsent = false;
    while let Some(e) = source {
        if e.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return context.error(ErrorKind::Malformed, format!("the answer is not HTTP: {cause}"));
        }
        unsent |= e.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        unsent |= e.downcast_ref::<h2::Error>().is_some_and(is_unprocessed);
        source = e.source();
    }
    let detail = format!("the connection was lost before an answer began: {cause}");
    Error { unanswered: !unsent, ..context.error(ErrorKind::Unavailable, detail) }
}

/// The peer guarantees that it has done nothing of the request (RFC 9113, sections 6.8 and 8.7).
fn is_unprocessed(e: &h2::Error) -> bool {
    let refused = e.is_reset() && e.reason() == Some(h2::Reason::REFUSED_STREAM);
    e.is_remote() && (refused || e.is_go_away() && e.reason() == Some(h2::Reason::NO_ERROR))
}

/// The innermost message: the outer ones say "client error".
pub(super) fn root_cause(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_open_internet_are_public() {
        for (address, want) in [
            ("8.8.8.8", true),
            ("127.0.0.1", false),
            ("10.1.2.3", false),
            ("172.31.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("0.0.0.0", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("198.18.0.1", false),
            ("2606:4700::1111", true),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::a00:1", false),
            ("2002:7f00:1::", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), want, "{address}");
        }
    }

    #[test]
    fn roots_of_trust_can_be_had() {
        assert!(Tls::new().is_ok());
    }
}
