//! Head and body to a request: the body is decoded once, headers add options, a deadline is read.

use crate::error::Failure;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use types::ChatRequest;
use types::chat::Limits;
use types::options::SDK_RETRY;

/// Prefix of options that ride in headers.
const PREFIX: &str = "x-turnout-";
/// Sent by OpenAI's SDKs: seconds that the client waits for the next byte.
const READ_TIMEOUT: HeaderName = HeaderName::from_static("x-stainless-read-timeout");
/// Likewise: how often the same request was sent before, because it failed or no answer came.
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");
/// Longest deadline that is taken from a client.
const MAX_DEADLINE: Duration = Duration::from_secs(3_600);

/// Headers that name a destination or a credential of a vendor. They are the operator's, and a caller who sends them
/// believes that they count.
const FORBIDDEN: &[&str] =
    &["api-key", "x-api-key", "x-goog-api-key", "proxy-authorization", "x-portkey-custom-host"];

/// Decodes the body and lets the headers' options outrank those of its `routing` member.
pub(crate) fn decode(headers: &HeaderMap, body: Bytes, limits: &Limits) -> Result<ChatRequest, Failure> {
    let mut request = ChatRequest::decode(body, limits)?;
    request.check_results()?;
    if let Some(times) = sent_before(headers) {
        request.options.tags.insert(SDK_RETRY.to_owned(), times.to_string());
    }
    for (name, value) in headers {
        if FORBIDDEN.contains(&name.as_str()) {
            let message = format!(
                "{name}: destinations and credentials of vendors are the operator's; a key of this server stands in `authorization: Bearer`"
            );
            return Err(Failure::bad_request("forbidden_field", message).param(name.as_str()));
        }
        let Some(suffix) = name.as_str().strip_prefix(PREFIX) else { continue };
        let bad = |message: String| Failure::bad_request("invalid_option", message).param(name.as_str());
        if headers.get_all(name).iter().nth(1).is_some() {
            return Err(bad(format!("{name}: stands twice")));
        }
        let text = value.to_str().map_err(|_| bad(format!("{name}: expected plain ASCII text")))?;
        request.options.set_header(suffix, text).map_err(|p| {
            // Names of options are told as the headers they are here.
            bad(format!("{name}: {}", p.message.replace('`', "")))
        })?;
    }
    Ok(request)
}

/// The time within which an answer must be there by what the client's SDK says, if it does and it is a time. Of a
/// streamed one it says nothing: its bytes come again and again.
pub(crate) fn deadline(headers: &HeaderMap, request: &ChatRequest) -> Option<Duration> {
    if request.stream {
        return None;
    }
    let seconds: f64 = headers.get(READ_TIMEOUT)?.to_str().ok()?.trim().parse().ok()?;
    let wait = Duration::try_from_secs_f64(seconds).ok()?;
    (!wait.is_zero()).then_some(wait.min(MAX_DEADLINE))
}

/// How often the client's SDK says that it has sent the request before, if that is a number above 0.
fn sent_before(headers: &HeaderMap) -> Option<u8> {
    let times: u8 = headers.get(RETRY_COUNT)?.to_str().ok()?.trim().parse().ok()?;
    (times > 0).then_some(times)
}

/// Longest value of a header that policies are told.
const TOLD_BYTES: usize = 1_024;

/// The headers of these names, for policies. Values that are no text, or longer than a name for something is, are
/// left out; a header that stands twice is told as one, with commas.
pub(crate) fn told(headers: &HeaderMap, names: &[String]) -> Arc<BTreeMap<String, String>> {
    if names.is_empty() {
        return Arc::default();
    }
    let value = |name: &String| {
        let all: Result<Vec<&str>, _> = headers.get_all(name).iter().map(|v| v.to_str()).collect();
        let all = all.ok().filter(|a| !a.is_empty())?.join(", ");
        (all.len() <= TOLD_BYTES).then(|| (name.clone(), all))
    };
    Arc::new(names.iter().filter_map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(pairs: &[(&str, &str)], want: Result<Option<f64>, &str>) {
        let mut headers = HeaderMap::new();
        for (k, v) in pairs {
            headers.append(HeaderName::try_from(*k).unwrap(), v.parse().unwrap());
        }
        let body = json!({
            "model": "auto", "messages": [{"role": "user", "content": "x"}], "routing": {"max_cost_usd": 0.5}
        });
        let got = decode(&headers, Bytes::from(body.to_string()), &Limits::default());
        match want {
            Ok(cost) => assert_eq!(got.unwrap().options.max_cost.map(|c| c.dollars()), cost),
            Err(part) => {
                let f = got.unwrap_err();
                assert!(f.status == 400 && f.message.contains(part), "{}", f.message);
                assert_eq!(f.param.as_deref(), pairs.first().map(|p| p.0));
            }
        }
    }

    #[test]
    fn headers_outrank_the_body_and_unknown_ones_are_refused() {
        check(&[], Ok(Some(0.5)));
        check(&[("x-turnout-max-cost-usd", "0.01")], Ok(Some(0.01)));
        check(&[("x-turnout-session", "s1"), ("x-other", "y")], Ok(Some(0.5)));
        check(&[("x-turnout-max-cost", "1")], Err("did you mean max_cost_usd?"));
        check(&[("x-turnout-economy", "cheap")], Err("cheapest"));
        check(&[("x-turnout-session", "a"), ("x-turnout-session", "b")], Err("twice"));
        for name in FORBIDDEN {
            check(&[(name, "sk-1")], Err("are the operator's"));
        }
    }

    #[test]
    fn policies_are_told_what_is_named_and_nothing_else() {
        let long = "x".repeat(TOLD_BYTES + 1);
        let mut headers = HeaderMap::new();
        for (k, v) in [("x-team", "a"), ("x-team", "b"), ("x-long", &long), ("x-other", "c"), ("cookie", "d")]
        {
            headers.append(HeaderName::try_from(k).unwrap(), v.parse().unwrap());
        }
        headers.insert("x-bytes", http::HeaderValue::from_bytes(b"\xff").unwrap());
        let names = ["x-team", "x-long", "x-bytes", "x-absent"].map(str::to_owned);
        let want = BTreeMap::from([("x-team".to_owned(), "a, b".to_owned())]);
        assert_eq!(*told(&headers, &names), want);
        assert!(told(&headers, &[]).is_empty());
    }

    #[test]
    fn what_the_sdk_sends_again_is_known() {
        for (text, want) in
            [("0", None), ("1", Some("1")), (" 2 ", Some("2")), ("-1", None), ("x", None), ("999", None)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_COUNT, text.parse().unwrap());
            let body = json!({"model": "auto", "messages": [{"role": "user", "content": "x"}]});
            let request = decode(&headers, Bytes::from(body.to_string()), &Limits::default()).unwrap();
            assert_eq!(request.options.tags.get(SDK_RETRY).map(String::as_str), want, "{text}");
        }
    }

    #[test]
    fn the_sdks_timeout_is_a_deadline_of_answers_that_come_whole() {
        for (text, want) in [
            ("600", Some(600)),
            ("1.5", Some(1)),
            ("0", None),
            ("-1", None),
            ("NaN", None),
            ("x", None),
            ("1e9", Some(3_600)),
        ] {
            let mut h = HeaderMap::new();
            h.insert(READ_TIMEOUT, text.parse().unwrap());
            let asked = |stream| {
                let body =
                    json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": stream});
                ChatRequest::from_value(&body).unwrap()
            };
            assert_eq!(deadline(&h, &asked(false)).map(|d| d.as_secs()), want, "{text}");
            assert_eq!(deadline(&h, &asked(true)), None, "{text}");
        }
    }
}
