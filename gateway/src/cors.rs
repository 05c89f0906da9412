//! Pages of other origins: what a browser has to be told before their scripts may ask this server and read its answers.
//!
//! Keys come in the `Authorization` header, which scripts set themselves; nothing here lets a browser send cookies or
//! passwords of its own.

use axum::body::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, HeaderValue, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};

/// Every origin.
const ANY: &str = "*";
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
/// Seconds for which a browser need not ask again.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
/// Asked and answered where a page of the internet asks a server of this machine or its network.
const ASKS_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// Where pages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl Origin {
    /// What stands where an origin is expected.
    pub const EXPECTED: &str =
        "an origin as browsers send it, such as https://chat.example.com or http://localhost:3000, or *";

    /// Reads `*`, or a scheme and a host, with a port if it is not the usual one and without a path; `None` = it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Origin> {
        let text = text.to_ascii_lowercase();
        let is_origin = text.split_once("://").is_some_and(|(scheme, host)| {
            let in_host = |b: u8| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b);
            !scheme.is_empty()
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
                && !host.is_empty()
                && host.bytes().all(in_host)
        });
        (text == ANY || is_origin).then(|| HeaderValue::from_str(&text).ok().map(Origin)).flatten()
    }
}

/// As which origin a request comes from one of these; `None` = it does not, or from no page at all.
pub(crate) fn allowed(origins: &[Origin], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let one = origins.iter().find(|Origin(one)| one == ANY || one == origin)?;
    Some(one.0.clone())
}

/// The answer to a browser that asks whether a page may send a request; `None` = it asks nothing, or may not.
pub(crate) fn preflight(allowed: Option<&HeaderValue>, parts: &Parts) -> Option<Response<Body>> {
    allowed.filter(|_| parts.method == Method::OPTIONS)?;
    parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    // All that are asked for: `*` would not stand for `authorization`.
    if let Some(names) = parts.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    if parts.headers.contains_key(ASKS_PRIVATE) {
        headers.insert(ALLOWS_PRIVATE, HeaderValue::from_static("true"));
    }
    Some(response)
}

/// Tells the browser that the page may read an answer, headers included, and everybody between that it is for this page.
pub(crate) fn tell(origins: &[Origin], allowed: Option<HeaderValue>, headers: &mut HeaderMap) {
    if !origins.is_empty() {
        headers.append(VARY, HeaderValue::from_name(ORIGIN));
    }
    if let Some(origin) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(ANY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_browsers_send() {
        for good in [
            "*",
            "https://chat.example.com",
            "http://localhost:3000",
            "HTTP://Localhost",
            "http://[::1]:80",
            "chrome-extension://abc",
        ] {
            assert!(Origin::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "null",
            "example.com",
            "https://",
            "https://a/",
            "https://a/b",
            "https://u@a",
            "https://*.a",
            "://a",
        ] {
            assert!(Origin::parse(bad).is_none(), "{bad}");
        }
    }
}
