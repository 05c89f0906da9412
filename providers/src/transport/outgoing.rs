//! Words sent to addresses that operators allow: webhooks, tools, services that check.

use super::connect::{Body, Failed, HttpClient, Tls, is_public, root_cause};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use std::net::IpAddr;
use std::time::Duration;

/// Time for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for all of it.
const WHOLE: Duration = Duration::from_secs(15);
/// Read of an answer, so that its connection can be kept; what it says matters to nobody.
const ANSWER: usize = 1 << 20;

/// Sends words out. One connection pool of its own, apart from those of providers.
#[derive(Clone, Debug)]
pub struct Outgoing {
    http: HttpClient,
    allow_private: bool,
}

impl Outgoing {
    /// `allow_private` says whether a name may resolve to an address that is not public; the address that is
    /// checked is the one connected to.
    ///
    /// # Errors
    /// In words: the cryptography cannot do what TLS asks.
    pub fn new(allow_private: bool) -> Result<Self, String> {
        Ok(Outgoing { http: Tls::new()?.client(CONNECT, allow_private), allow_private })
    }

    /// Posts JSON and gives the status of the answer. Redirects are answers like any other: nothing is followed.
    ///
    /// # Errors
    /// There was no answer; why.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&'static str, String)],
        body: Bytes,
    ) -> Result<u16, String> {
        let request = request(Method::POST, url, headers, Some(body))?;
        let sent = async {
            let (status, body) = self.send(request).await?;
            // Too long an answer only costs its connection.
            let _ = Limited::new(body, ANSWER).collect().await;
            Ok(status)
        };
        tokio::time::timeout(WHOLE, sent).await.unwrap_or_else(|_| Err("it took too long".to_owned()))
    }

    /// Sends a request, with JSON where there is a body, and gives status and body of the answer, which has `most` bytes
    /// at most. Redirects are answers like any other: nothing is followed.
    ///
    /// # Errors
    /// There was no answer, or a longer one; why.
    pub async fn call(
        &self,
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: Option<Bytes>,
        timeout: Duration,
        most: usize,
    ) -> Result<(u16, String), String> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| "the method is none".to_owned())?;
        let request = request(method, url, headers, body)?;
        let sent = async {
            let (status, body) = self.send(request).await?;
            let body = Limited::new(body, most).collect().await;
            let body = body.map_err(|_| format!("its answer broke off, or is longer than {most} bytes"))?;
            Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
        };
        tokio::time::timeout(timeout, sent).await.unwrap_or_else(|_| Err("it took too long".to_owned()))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(u16, Body), String> {
        // A host that is an address already is never resolved, so nobody else would look at it.
        let address = request.uri().host().and_then(|h| h.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if !self.allow_private && address.is_some_and(|a| !is_public(a)) {
            return Err("no connection: the address is not public".to_owned());
        }
        let answer = self.http.request(request).await.map_err(|e| match e {
            Failed::Connect(e) => format!("no connection: {}", root_cause(&*e)),
            Failed::Lost(e) => format!("no answer: {}", root_cause(&*e)),
        })?;
        let (head, body) = answer.into_parts();
        Ok((head.status.as_u16(), body))
    }
}

fn request<N: AsRef<str>>(
    method: Method,
    url: &str,
    headers: &[(N, String)],
    body: Option<Bytes>,
) -> Result<Request<Full<Bytes>>, String> {
    let uri: Uri = url.parse().map_err(|_| "the address is none".to_owned())?;
    let json = body.is_some();
    let mut request = Request::new(Full::new(body.unwrap_or_default()));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let all = request.headers_mut();
    if json {
        all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in headers {
        let name = name.as_ref();
        let wrong = || format!("the header {name} is none");
        let value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        all.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?, value);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn posts_arrive_and_redirects_are_not_followed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?x=1", listener.local_addr().unwrap());
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"{\"a\":1}") {
                let mut piece = [0; 1024];
                let n = socket.read(&mut piece).await.unwrap();
                seen.extend_from_slice(&piece[..n]);
            }
            let answer = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
            socket.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(seen).unwrap()
        };
        let out = Outgoing::new(true).unwrap();
        let headers = [("x-turnout-webhook-id", "wh_1".to_owned())];
        let (seen, status) = tokio::join!(server, out.post(&url, &headers, Bytes::from_static(b"{\"a\":1}")));
        assert_eq!(status, Ok(302));
        assert!(
            seen.starts_with("POST /hook?x=1 HTTP/1.1\r\n") && seen.contains("x-turnout-webhook-id: wh_1"),
            "{seen}"
        );
    }

    /// Answers every request on every connection with its own name, and keeps the connections.
    async fn named(name: &'static str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        #[expect(clippy::disallowed_methods, reason = "a server of the test, which ends with it")]
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut piece = [0; 4096];
                    while socket.read(&mut piece).await.is_ok_and(|n| n > 0) {
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{name}");
                        socket.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        url
    }

    #[tokio::test]
    async fn a_connection_carries_words_to_its_own_host_alone() {
        let (a, b) = (named("a").await, named("b").await);
        let out = Outgoing::new(true).unwrap();
        for (url, name) in [(&a, "a"), (&b, "b"), (&a, "a"), (&b, "b")] {
            let got = out.call("GET", url, &[], None, Duration::from_secs(5), 1 << 20).await;
            assert_eq!(got, Ok((200, name.to_owned())));
        }
    }

    #[tokio::test]
    async fn private_addresses_are_refused_unless_allowed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let out = Outgoing::new(false).unwrap();
        for host in [
            "127.0.0.1",
            "localhost",
            "2130706433",
            "0x7f.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "169.254.169.254",
            "10.0.0.1",
        ] {
            let sent = out.post(&format!("http://{host}:{port}/"), &[], Bytes::new()).await;
            assert!(sent.as_ref().is_err_and(|e| e.starts_with("no connection")), "{host}: {sent:?}");
        }
        let came = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(came.is_err(), "somebody came");
    }
}
