//! What is refused on the head alone, before a body is read and before a route is chosen.

use crate::error::Failure;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, HOST};
use http::request::Parts;
use http::{Method, StatusCode, Version};

/// Parameters that would carry a key in the address, where logs and histories keep it.
const KEYS_IN_URL: &[&str] = &["key", "api_key", "api-key", "apikey", "access_token", "token"];

/// The one path whose tail may hold an encoded slash: SDKs encode a model's id as one segment.
const MODELS: &str = "/v1/models/";

/// Checks a head.
pub(crate) fn check(parts: &Parts, uri_bytes: usize) -> Result<(), Failure> {
    method(parts)?;
    host(parts)?;
    target(parts, uri_bytes)?;
    credentials(parts)?;
    let codings = parts.headers.get_all(CONTENT_ENCODING);
    if codings.iter().any(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let f = Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            "bodies are taken as they are; send this one without Content-Encoding",
        );
        return Err(f.param("content-encoding").closing());
    }
    Ok(())
}

fn method(parts: &Parts) -> Result<(), Failure> {
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        let text = "this is no proxy: CONNECT and TRACE are not taken";
        return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text).closing());
    }
    Ok(())
}

fn host(parts: &Parts) -> Result<(), Failure> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let good = match (hosts.next(), hosts.next()) {
        (None, _) => parts.version != Version::HTTP_11,
        (Some(one), None) => is_host(one.as_bytes()),
        (Some(_), Some(_)) => false,
    };
    if good {
        return Ok(());
    }
    let text = "expected exactly one Host header with a name or address and a port";
    Err(Failure::bad_request("bad_host", text).param("host").closing())
}

fn is_host(host: &[u8]) -> bool {
    (1..=255).contains(&host.len()) && host.iter().all(|b| b.is_ascii_alphanumeric() || b".:[]-".contains(b))
}

fn target(parts: &Parts, uri_bytes: usize) -> Result<(), Failure> {
    let path = parts.uri.path();
    let query = parts.uri.query().unwrap_or("");
    if path.len().saturating_add(query.len()) > uri_bytes {
        let text = format!("the request target is longer than {uri_bytes} bytes");
        return Err(Failure::new(StatusCode::URI_TOO_LONG, "uri_too_long", text).closing());
    }
    if path_is_plain(path) {
        return Ok(());
    }
    Err(Failure::not_found("no such path; paths are taken as they stand, without dots, doubles or encodings"))
}

/// No segment is empty (but a last one), `.` or `..`; nothing encoded decodes to a slash, a backslash, a
/// dot or a control character, and all of it to UTF-8.
fn path_is_plain(path: &str) -> bool {
    // Letters, digits, dashes and single slashes: nothing that could be read two ways.
    let mut last = 0;
    let simple = path.starts_with('/')
        && path.bytes().all(|b| {
            let doubled = b == b'/' && last == b'/';
            last = b;
            !doubled && (b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_'))
        });
    if simple {
        return true;
    }
    if !path.starts_with('/') || path.contains("//") || path.contains('\\') {
        return false;
    }
    if path.split('/').any(|s| s == "." || s == "..") {
        return false;
    }
    let tail_of_model = path.strip_prefix(MODELS).is_some();
    let mut rest = path;
    let mut decoded: Vec<u8> = Vec::with_capacity(path.len());
    while let Some((before, after)) = rest.split_once('%') {
        let Some(byte) = after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
            return false;
        };
        let refused = matches!(byte, b'.' | b'\\' | b'%' | 0..=0x1f | 0x7f) || byte == b'/' && !tail_of_model;
        if refused {
            return false;
        }
        decoded.extend_from_slice(before.as_bytes());
        decoded.push(byte);
        rest = after.get(2..).unwrap_or_default();
    }
    decoded.extend_from_slice(rest.as_bytes());
    std::str::from_utf8(&decoded).is_ok()
}

fn credentials(parts: &Parts) -> Result<(), Failure> {
    let refuse = |code: &str, text: &str, param: &str| {
        Err(Failure::new(StatusCode::UNAUTHORIZED, code, text).param(param).closing())
    };
    let mut given = parts.headers.get_all(AUTHORIZATION).iter();
    if let Some(one) = given.next() {
        if given.next().is_some() {
            return refuse("two_credentials", "the Authorization header stands twice", "authorization");
        }
        let scheme = one.as_bytes().split(|b| *b == b' ').next().unwrap_or_default();
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return refuse("unknown_scheme", "expected `Authorization: Bearer <key>`", "authorization");
        }
    }
    let in_url = parts.uri.query().is_some_and(|query| {
        query.split('&').any(|pair| {
            let name = pair.split('=').next().unwrap_or("");
            KEYS_IN_URL.iter().any(|k| name.eq_ignore_ascii_case(k))
        })
    });
    if in_url {
        return refuse("key_in_url", "keys belong in the Authorization header, not in the address", "query");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    fn check(method: &str, uri: &str, headers: &[(&str, &str)], want: u16) {
        let mut request = Request::builder().method(method).uri(uri);
        for (k, v) in headers {
            request = request.header(*k, *v);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let got = super::check(&parts, 256).map_or_else(|f| f.status.as_u16(), |()| 200);
        assert_eq!(got, want, "{method} {uri} {headers:?}");
    }

    const HOST_OK: (&str, &str) = ("host", "127.0.0.1:8080");

    #[test]
    fn paths() {
        for (uri, want) in [
            ("/v1/models", 200),
            ("/v1/models/openai/gpt-4o", 200),
            ("/v1/models/openai%2Fgpt-4o", 200),
            ("/v1/models/a%3Ab", 200),
            ("/v1%2Fmodels", 404),
            ("/v1/decisions/a%2fb", 404),
            ("/v1//models", 404),
            ("/v1/./models", 404),
            ("/v1/../v1/models", 404),
            ("/v1/models/..", 404),
            ("/v1/models/%2e%2e/x", 404),
            ("/v1/models/%252e", 404),
            ("/v1/models/%5cx", 404),
            ("/v1/models/%00", 404),
            ("/v1/models/%zz", 404),
            ("/v1/runs/%ff", 404),
            ("/v1/runs/%c3x%a4", 404),
            ("/v1/workflows/gr%c3%b6%c3%9fe", 200),
        ] {
            check("GET", uri, &[HOST_OK], want);
        }
        check("GET", &format!("/{}", "a".repeat(300)), &[HOST_OK], 414);
    }

    #[test]
    fn heads() {
        check("GET", "/", &[], 400);
        check("GET", "/", &[("host", "a"), ("host", "a")], 400);
        check("GET", "/", &[("host", "a b")], 400);
        check("GET", "/", &[("host", "a@b")], 400);
        check("GET", "/", &[("host", "[::1]:80")], 200);
        check("TRACE", "/", &[HOST_OK], 405);
        check("CONNECT", "a:1", &[HOST_OK], 405);
        check("GET", "/", &[HOST_OK, ("authorization", "Bearer x")], 200);
        check("GET", "/", &[HOST_OK, ("authorization", "Bearer x"), ("authorization", "Bearer x")], 401);
        check("GET", "/", &[HOST_OK, ("authorization", "Basic eA==")], 401);
        check("GET", "/?api_key=x", &[HOST_OK], 401);
        check("GET", "/?keys=x", &[HOST_OK], 200);
        check("POST", "/", &[HOST_OK, ("content-encoding", "gzip")], 415);
        check("POST", "/", &[HOST_OK, ("content-encoding", "identity")], 200);
    }
}
