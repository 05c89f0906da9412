//! The edge on raw sockets: slow clients are cut, framing has one reading, sizes
//! have bounds, and the process serves the next client afterwards.

use serde_json::json;
use std::time::Duration;
use tests::admin::Admin;
use tests::client::{Response, Socket};
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Vendor};

/// Waits short enough for a test, every one well below the time after which a test gives up, and so long that no good
/// client is taken for a slow one where the machine is busy.
const SETTINGS: &str = "
edge:
  first_byte_timeout: 3s
  header_timeout: 4s
  idle_timeout: 4s
  body_timeout: 7s
  body_rate: 4KiB
  body_rate_after: 2s
  head_bytes: 8KiB
  max_headers: 40
  uri_bytes: 1KiB
  body_bytes: 64KiB
  messages: 20
  tools: 4
  parts: 8
";

async fn start() -> (Vendor, House) {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).settings(SETTINGS);
    (vendor, plan.start().await)
}

fn chat() -> String {
    json!({"model": "auto", "messages": [{"role": "user", "content": "hello"}]}).to_string()
}

/// A request with these header lines (each ended by `\r\n`) and body.
fn post(headers: &str, body: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\n{headers}\r\n{body}")
}

fn plain(body: &str) -> String {
    post(&format!("host: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len()), body)
}

async fn say(house: &House, bytes: impl AsRef<[u8]>) -> (Option<Response>, Socket) {
    let mut socket = Socket::open(house.addr()).await;
    socket.send(bytes).await;
    let response = socket.response().await;
    (response, socket)
}

/// After whatever was done to it, it still answers.
async fn lives(house: &House) {
    let (response, _) = say(house, plain(&chat())).await;
    assert_eq!(response.map(|r| r.status), Some(200), "\n{}", house.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_slow_clients_are_cut() {
    let (vendor, house) = start().await;
    let mut silent = Socket::open(house.addr()).await;
    let mut half_a_head = Socket::open(house.addr()).await;
    half_a_head.send("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n").await;
    let mut idle = Socket::open(house.addr()).await;
    idle.send(plain(&chat())).await;
    assert_eq!(idle.response().await.unwrap().status, 200);

    assert!(silent.closed().await, "a silent connection");
    drip(house.addr()).await;
    let cut = half_a_head.response().await;
    assert!(cut.as_ref().is_none_or(|r| r.status == 408), "half a head: {cut:?}");
    assert!(idle.closed().await, "an idle connection");
    assert_eq!(vendor.count(), 1);
    lives(&house).await;
}

/// How long a connection may idle is not how long a head may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_idle_for_longer_than_a_head_may_take() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let settings = "edge: { header_timeout: 2s, idle_timeout: 1m }\n";
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).settings(settings);
    let house = house.start().await;
    let (first, mut idle) = say(&house, plain(&chat())).await;
    let first = first.unwrap();
    assert_eq!((first.status, first.header("keep-alive")), (200, Some("timeout=60")));
    let half = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n";
    let mut late = Socket::open(house.addr()).await;
    late.send(half).await;
    assert!(late.response().await.is_none_or(|r| r.status == 408), "a head that began later is over");

    idle.send(plain(&chat())).await;
    assert_eq!(idle.response().await.map(|r| r.status), Some(200), "its connection is still there");
    // Now that a head has begun, it has to end in time on this one, too.
    idle.send(half).await;
    assert!(idle.response().await.is_none_or(|r| r.status == 408));
    let metrics = house.client().get("/metrics").await.text();
    assert!(metrics.contains("turnout_connections_cut_total{reason=\"header_timeout\"} 2"), "{metrics}");
    assert!(!metrics.contains("reason=\"idle_timeout\""), "{metrics}");
}

/// Who finds no place is told which bound that is, and the log tells whoever runs the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_told_so() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let settings = "edge: { max_connections_per_ip: 4 }\n";
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).settings(settings);
    let house = house.start().await;
    let mut held = Vec::new();
    // Connections that the start-up made may still count at first.
    let refused = loop {
        let (answer, socket) = say(&house, plain(&chat())).await;
        match answer {
            Some(answer) if answer.status == 200 => held.push(socket),
            refused => break (refused, socket),
        }
        assert!(held.len() <= 4, "more are served than may be open");
    };
    let (Some(answer), mut socket) = refused else { panic!("it was closed without a word") };
    let error = answer.error(503);
    assert_eq!(error["code"], "too_many_connections", "{error}");
    assert!(error["message"].as_str().unwrap().contains("edge.max_connections_per_ip"), "{error}");
    let told = (answer.header("retry-after"), answer.header("x-should-retry"), answer.header("connection"));
    assert_eq!(told, (Some("1"), Some("true"), Some("close")));
    assert!(socket.closed().await);
    assert!(house.log().contains("edge.max_connections_per_ip"), "{}", house.log());
    held.clear();
    let served = async || say(&house, plain(&chat())).await.0.is_some_and(|r| r.status == 200);
    while !served().await {}
}

/// A browser asks before a page of another origin may: the same questions as a real one sends.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_origins_that_are_named_may_ask() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let plan = || Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one"));
    let named = plan().settings("cors: { origins: [\"https://chat.example.com\"] }\n").start().await;
    let (any, none) = (plan().settings("cors: { origins: [\"*\"] }\n").start().await, plan().start().await);
    let preflight = |origin: &str| {
        format!(
            "OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: authorization,content-type,x-stainless-lang\r\n\
             access-control-request-private-network: true\r\nsec-fetch-mode: cors\r\n\r\n"
        )
    };
    let ask = |origin: &str| {
        let body = chat();
        let head = format!("host: x\r\norigin: {origin}\r\ncontent-type: application/json\r\n");
        post(&format!("{head}content-length: {}\r\n", body.len()), &body)
    };
    let (page, other) = ("https://chat.example.com", "https://evil.example.com");
    for (house, origin, allowed) in
        [(&named, page, Some(page)), (&named, other, None), (&any, other, Some("*")), (&none, page, None)]
    {
        let asked = say(house, preflight(origin)).await.0.unwrap();
        let header = |name| asked.header(name).unwrap_or("-").to_owned();
        assert_eq!(asked.header("access-control-allow-origin"), allowed, "{origin}: {asked:?}");
        if allowed.is_some() {
            assert_eq!((asked.status, asked.text().as_str()), (204, ""), "{asked:?}");
            assert!(header("access-control-allow-methods").contains("POST"));
            let names = "authorization,content-type,x-stainless-lang";
            assert_eq!(header("access-control-allow-headers"), names, "`*` does not stand for authorization");
            assert_eq!(header("access-control-allow-private-network"), "true");
        } else {
            assert_eq!(asked.status, 405, "{asked:?}");
        }
        let answer = say(house, ask(origin)).await.0.unwrap();
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, allowed), "{origin}");
        let shown = answer.header("access-control-expose-headers");
        assert_eq!(shown, allowed.map(|_| "*"), "headers such as retry-after are there to be read");
    }
    // A refusal can be read, too; and who has no origin, no browser that is, is told nothing of all this.
    let refused =
        say(&named, format!("GET /v1/none HTTP/1.1\r\nhost: x\r\norigin: {page}\r\n\r\n")).await.0.unwrap();
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (404, Some(page)));
    assert_eq!(refused.header("vary"), Some("origin"));
    let plain = say(&named, plain(&chat())).await.0.unwrap();
    assert_eq!((plain.status, plain.header("access-control-allow-origin")), (200, None));
}

/// One byte of a head at a time, for ever: each byte is in time, the head is not.
async fn drip(addr: std::net::SocketAddr) {
    let mut socket = Socket::open(addr).await;
    let end = tokio::time::timeout(Duration::from_secs(40), async {
        socket.send("GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
        while socket.send("a").await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(end.await.is_ok(), "a dripping head was endured for 40 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_is_cut() {
    let (vendor, house) = start().await;
    for framing in ["content-length: 20000\r\n", "transfer-encoding: chunked\r\n"] {
        let mut socket = Socket::open(house.addr()).await;
        let head = format!("host: x\r\ncontent-type: application/json\r\n{framing}");
        socket.send(post(&head, "")).await;
        let mut writer = Duration::ZERO;
        // A few bytes now and then: far below the rate that the settings ask for.
        while writer < Duration::from_secs(30) {
            let piece = if framing.starts_with('t') { "1\r\n \r\n" } else { " " };
            if !socket.send(piece).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            writer += Duration::from_millis(50);
        }
        assert!(writer < Duration::from_secs(30), "a dribbling body was endured ({framing})");
        // The refusal may have been lost with the connection; a success would be a defect.
        let answer = socket.response().await;
        assert!(answer.as_ref().is_none_or(|r| r.status == 408), "{answer:?}");
    }
    assert_eq!(vendor.count(), 0);
    lives(&house).await;
}

/// What a head declares costs nobody anything; what has come of a body is counted, and not by the control API.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_come_shut_nobody_out() {
    const MIB: usize = 1 << 20;
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let settings = "edge: {body_bytes: 1MiB, body_bytes_inflight: 1MiB, body_timeout: 5m, body_rate: 0}\n";
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).settings(settings);
    let house = plan.start().await;
    let head = format!("host: x\r\ncontent-type: application/json\r\ncontent-length: {MIB}\r\n");
    let mut sockets = Vec::new();
    for _ in 0..16 {
        let mut socket = Socket::open(house.addr()).await;
        assert!(socket.send(post(&head, "{")).await);
        sockets.push(socket);
    }
    for _ in 0..8 {
        lives(&house).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // All of one comes but for its end.
    drop(sockets);
    let mut socket = Socket::open(house.addr()).await;
    assert!(socket.send(post(&head, &" ".repeat(MIB - 1))).await);
    let large = json!({"name": "x".repeat(64 * 1024)});
    let mut refused = None;
    for _ in 0..400 {
        // An answer may be lost that goes out before all of the body has come in.
        let (answer, _) = say(&house, plain(&large.to_string())).await;
        refused = answer.filter(|a| a.status == 503).map(|a| a.error(503)["code"].clone());
        if refused.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(refused, Some(json!("body_budget")), "what came is not counted");
    let answer = Admin::of(&house).call("POST", "/keys", &large).await;
    assert_ne!(answer.status, 503, "{}", answer.text());
    drop(socket);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_which_nothing_comes_is_told() {
    let (_vendor, house) = start().await;
    let head = "host: x\r\ncontent-type: application/json\r\ncontent-length: 500\r\n";
    let (answer, mut socket) = say(&house, post(head, "{")).await;
    let answer = answer.expect("408");
    let _ = answer.error(408);
    assert!(socket.closed().await);
    lives(&house).await;
}

/// Refused framing: one answer of that status (or none), then the connection is closed; what follows on it is
/// never read as a second request.
#[tokio::test(flavor = "multi_thread")]
async fn framing_has_one_reading() {
    let (vendor, house) = start().await;
    let body = chat();
    let n = body.len();
    let json = "content-type: application/json\r\n";
    let cases: Vec<(&str, String, &[u16])> = vec![
        ("no host", post(&format!("{json}content-length: {n}\r\n"), &body), &[400]),
        ("two hosts", post(&format!("host: x\r\nhost: y\r\n{json}content-length: {n}\r\n"), &body), &[400]),
        ("empty host", post(&format!("host: \r\n{json}content-length: {n}\r\n"), &body), &[400]),
        ("host with a space", post(&format!("host: a b\r\n{json}content-length: {n}\r\n"), &body), &[400]),
        ("host with a slash", post(&format!("host: a/b\r\n{json}content-length: {n}\r\n"), &body), &[400]),
        ("host with an at", post(&format!("host: u@x\r\n{json}content-length: {n}\r\n"), &body), &[400]),
        (
            "length and coding",
            post(&format!("host: x\r\n{json}content-length: {n}\r\ntransfer-encoding: chunked\r\n"), &body),
            &[400],
        ),
        (
            "two lengths",
            post(&format!("host: x\r\n{json}content-length: {n}\r\ncontent-length: 0\r\n"), &body),
            &[400],
        ),
        ("a list of lengths", post(&format!("host: x\r\n{json}content-length: {n}, {n}\r\n"), &body), &[400]),
        ("a signed length", post(&format!("host: x\r\n{json}content-length: +{n}\r\n"), &body), &[400]),
        ("a negative length", post(&format!("host: x\r\n{json}content-length: -1\r\n"), &body), &[400]),
        (
            "a length past all bounds",
            post(&format!("host: x\r\n{json}content-length: 99999999999999999999999\r\n"), &body),
            &[400, 413],
        ),
        ("gzip coding", post(&format!("host: x\r\n{json}transfer-encoding: gzip\r\n"), &body), &[400, 501]),
        (
            "two codings",
            post(&format!("host: x\r\n{json}transfer-encoding: gzip, chunked\r\n"), &body),
            &[400, 501],
        ),
        (
            "chunked twice",
            post(
                &format!("host: x\r\n{json}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
                &body,
            ),
            &[400, 501],
        ),
        (
            "identity coding",
            post(&format!("host: x\r\n{json}transfer-encoding: identity\r\n"), &body),
            &[400, 501],
        ),
        (
            "a bad chunk size",
            post(&format!("host: x\r\n{json}transfer-encoding: chunked\r\n"), "xyz\r\nabc\r\n0\r\n\r\n"),
            &[400],
        ),
        (
            "a folded header",
            post(&format!("host: x\r\nx-a: b\r\n c\r\n{json}content-length: {n}\r\n"), &body),
            &[400],
        ),
        (
            "a space before the colon",
            post(&format!("host : x\r\n{json}content-length: {n}\r\n"), &body),
            &[400],
        ),
        (
            "NUL in a header",
            post(&format!("host: x\r\nx-a: b\0c\r\n{json}content-length: {n}\r\n"), &body),
            &[400],
        ),
        ("no such version", "GET / HTTP/9.9\r\nhost: x\r\n\r\n".to_owned(), &[400, 505]),
        ("no HTTP", "EHLO mail.example\r\n\r\n".to_owned(), &[400]),
    ];
    for (name, bytes, statuses) in cases {
        // A request smuggled behind must never be answered.
        let smuggled = format!("{bytes}GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n");
        let (answer, mut socket) = say(&house, smuggled).await;
        if let Some(answer) = &answer {
            assert!(statuses.contains(&answer.status), "{name}: {} {}", answer.status, answer.text());
            assert!(socket.closed().await, "{name}: a second answer, or the connection stays");
        }
    }
    assert_eq!(vendor.count(), 0, "one of them reached the vendor");
    lives(&house).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_targets_have_bounds() {
    let (_vendor, house) = start().await;
    let long = "a".repeat(4000);
    let many: String = (0..60).map(|i| format!("x-{i}: 1\r\n")).collect();
    let big: String = (0..20).map(|i| format!("x-{i}: {}\r\n", "b".repeat(800))).collect();
    for (name, bytes, statuses) in [
        ("a long target", format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"), [414, 414]),
        ("many headers", format!("GET /v1/models HTTP/1.1\r\nhost: x\r\n{many}\r\n"), [431, 431]),
        ("a big head", format!("GET /v1/models HTTP/1.1\r\nhost: x\r\n{big}\r\n"), [431, 431]),
    ] {
        let (answer, mut socket) = say(&house, bytes).await;
        let answer = answer.unwrap_or_else(|| panic!("{name}: no answer"));
        assert!(statuses.contains(&answer.status), "{name}: {}", answer.status);
        assert!(socket.closed().await, "{name}");
    }
    lives(&house).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversize_bodies_are_refused_before_they_are_read() {
    let (vendor, house) = start().await;
    // Declared: refused from the number alone, not a byte of the body is sent.
    let head = "host: x\r\ncontent-type: application/json\r\ncontent-length: 10000000\r\n";
    let (answer, mut socket) = say(&house, post(head, "")).await;
    let _ = answer.expect("413 from the declared length").error(413);
    assert!(socket.closed().await, "a refusal that leaves a body unread closes");
    // Chunked: refused when the limit is passed.
    let chunk = format!("1000\r\n{}\r\n", "a".repeat(0x1000));
    let body: String = std::iter::repeat_n(chunk.as_str(), 64).collect();
    let head = "host: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n";
    let (answer, _socket) = say(&house, post(head, &body)).await;
    let _ = answer.expect("413 at the limit").error(413);
    assert_eq!(vendor.count(), 0);
    lives(&house).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_wide_and_double_json_is_refused() {
    let (vendor, house) = start().await;
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let wide = format!("[{}]", vec!["1"; 20_000].join(","));
    let user =
        |content: &str| format!(r#"{{"model":"auto","messages":[{{"role":"user","content":{content}}}]}}"#);
    let good = r#""messages":[{"role":"user","content":"hello"}]"#;
    let cases = [
        ("10 000 levels", deep(10_000)),
        (
            "10 000 levels in a member nobody reads",
            format!(r#"{{"model":"auto",{good},"x":{}}}"#, deep(10_000)),
        ),
        (
            "10 000 levels of objects",
            format!(r#"{{"x":{}1{}}}"#, r#"{"a":"#.repeat(10_000), "}".repeat(10_000)),
        ),
        ("never closed", "[".repeat(10_000)),
        ("65 levels", format!(r#"{{"model":"auto",{good},"x":{}}}"#, deep(70))),
        ("the same key twice", format!(r#"{{"model":"auto","model":"auto",{good}}}"#)),
        ("the same key twice, escaped", format!(r#"{{"model":"auto","mod\u0065l":"auto",{good}}}"#)),
        ("twice in a message", user(r#""hello","content":"bye""#)),
        (
            "twice in routing",
            format!(r#"{{"model":"auto",{good},"routing":{{"mode":"free","mode":"paid"}}}}"#),
        ),
        ("a byte-order mark", format!("\u{feff}{}", chat())),
        ("something behind", format!("{}x", chat())),
        ("two documents", format!("{0}{0}", chat())),
        ("NaN", format!(r#"{{"model":"auto",{good},"temperature":NaN}}"#)),
        ("a number past all bounds", format!(r#"{{"model":"auto",{good},"temperature":1e999}}"#)),
        ("a raw control character", user("\"a\u{1}b\"")),
        ("half an escape", user(r#""\u12""#)),
        ("nothing", String::new()),
        ("an array", "[]".to_owned()),
        ("a text", "\"hello\"".to_owned()),
    ];
    for (name, body) in cases {
        let (answer, _) = say(&house, plain(&body)).await;
        let answer = answer.unwrap_or_else(|| panic!("{name}: no answer"));
        let _ = answer.error(400);
    }
    let (answer, _) = say(&house, plain(&format!(r#"{{"model":"auto",{good},"x":{wide}}}"#))).await;
    assert_eq!(answer.map(|a| a.status), Some(200), "20 000 values in a member that passes through");

    let mut broken = plain(&user("\"abc\"")).into_bytes();
    let at = broken.windows(3).position(|w| w == b"abc").unwrap();
    for bytes in [[0xff, 0xfe, 0xfd], [0xed, 0xa0, 0x80], [0xc0, 0x80, b'x']] {
        broken[at..at + 3].copy_from_slice(&bytes);
        let (answer, _) = say(&house, &broken).await;
        let _ = answer.expect("bad UTF-8").error(400);
    }
    assert_eq!(vendor.count(), 1);
    lives(&house).await;
}

/// 100 000 values are the bound, wherever they stand.
#[tokio::test(flavor = "multi_thread")]
async fn very_wide_json_is_refused() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).start().await;
    let wide = format!(r#"{{"model":"auto","x":[{}]}}"#, vec!["1"; 200_000].join(","));
    let (answer, _) = say(&house, plain(&wide)).await;
    let _ = answer.unwrap().error(400);
    assert_eq!(vendor.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_an_error_object() {
    let (vendor, house) = start().await;
    let body = chat();
    let n = body.len();
    let cases = [
        ("no such path", "GET /v2/nothing HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 404),
        ("dots", "GET /v1/../v1/models HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 404),
        ("two slashes", "GET //v1/models HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 404),
        ("an encoded slash", "GET /v1%2Fmodels HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 404),
        ("no such model", "GET /v1/models/nobody%20at-all HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 404),
        ("wrong method", "GET /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 405),
        ("wrong method", "DELETE /v1/models HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 405),
        ("TRACE", "TRACE /v1/models HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), 405),
        ("CONNECT", "CONNECT x:443 HTTP/1.1\r\nhost: x:443\r\n\r\n".to_owned(), 405),
        ("no type", post(&format!("host: x\r\ncontent-length: {n}\r\n"), &body), 415),
        (
            "wrong type",
            post(&format!("host: x\r\ncontent-type: text/plain\r\ncontent-length: {n}\r\n"), &body),
            415,
        ),
        (
            "packed",
            post(
                &format!(
                    "host: x\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {n}\r\n"
                ),
                &body,
            ),
            415,
        ),
    ];
    for (name, bytes, status) in cases {
        let (answer, _) = say(&house, bytes).await;
        let answer = answer.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        let error = answer.error(status);
        assert!(error["message"].as_str().unwrap().len() < 2000, "{name}: {error}");
        if status == 405 {
            assert!(answer.header("allow").is_some(), "{name}");
        }
    }
    // A charset is no other type.
    let head = format!("host: x\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {n}\r\n");
    let (answer, _) = say(&house, post(&head, &body)).await;
    assert_eq!(answer.unwrap().status, 200);
    assert_eq!(vendor.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let (_vendor, house) = start().await;
    let mut socket = Socket::open(house.addr()).await;
    let request = plain(&chat());
    socket
        .send(format!(
            "{request}GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\nGET /nothing HTTP/1.1\r\nhost: x\r\n\r\n"
        ))
        .await;
    let first = socket.response().await.expect("the first");
    assert_eq!((first.status, first.content().as_str()), (200, "ok"));
    let second = socket.response().await.expect("the second");
    assert_eq!((second.status, second.json()["object"].as_str()), (200, Some("list")));
    assert_eq!(socket.response().await.expect("the third").status, 404);
}

/// A refusal that does not read the body closes, or what it did not read would be the next request.
#[tokio::test(flavor = "multi_thread")]
async fn an_unread_body_closes_the_connection() {
    let (vendor, house) = start().await;
    let inner = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n";
    for path in ["/v1/nothing", "/v1/models"] {
        let bytes =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{inner}", inner.len());
        let (answer, mut socket) = say(&house, bytes).await;
        let status = answer.unwrap().status;
        assert!([404, 405].contains(&status), "{status}");
        // Either the body is read away or the connection is closed; it is never read as a request.
        socket.send("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        if let Some(next) = socket.response().await {
            assert_eq!(next.status, 200, "the body was read as a request: {}", next.text());
        }
    }
    assert_eq!(vendor.count(), 0);
}

/// Many bad clients at once do not keep a good one waiting.
#[tokio::test(flavor = "multi_thread")]
async fn bad_clients_do_not_stop_good_ones() {
    let (_vendor, house) = start().await;
    let mut bad = Vec::new();
    for i in 0..100 {
        let mut socket = Socket::open(house.addr()).await;
        match i % 3 {
            0 => {}
            1 => _ = socket.send("GET / HT").await,
            _ => {
                _ = socket
                    .send("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n")
                    .await
            }
        }
        bad.push(socket);
    }
    for _ in 0..10 {
        lives(&house).await;
    }
    for mut socket in bad {
        while socket.response().await.is_some() {}
    }
}

/// Whatever is wrong with a head is told as an error object with an identifier, and counted.
#[tokio::test(flavor = "multi_thread")]
async fn every_malformed_head_is_told_and_counted() {
    let (vendor, house) = start().await;
    let heads: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\nhost: x\r\nx-a: b\0c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx@a: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx-a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx-a : b\r\n\r\n",
        b"G@T / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\"<> HTTP/1.1\r\nhost: x\r\n\r\n\r\nGET",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    for (i, head) in heads.iter().enumerate() {
        let (answer, mut socket) = say(&house, head).await;
        let shown = String::from_utf8_lossy(head).into_owned();
        let answer = answer.unwrap_or_else(|| panic!("no answer to {shown:?}"));
        if answer.status == 404 {
            // What is a path, however odd, is looked up.
            assert!(shown.contains('<'), "{shown:?}");
            continue;
        }
        let error = answer.error(400);
        assert_eq!(
            (error["code"].as_str(), answer.header("x-should-retry")),
            (Some("bad_framing"), Some("false")),
            "{shown:?}"
        );
        assert!(socket.closed().await, "{shown:?}");
        let metrics = house.client().get("/metrics").await.text();
        let counted = metrics
            .lines()
            .find_map(|l| l.strip_prefix("turnout_connections_cut_total{reason=\"framing\"} "));
        assert!(
            counted.and_then(|n| n.parse::<usize>().ok()).is_some_and(|n| n > i - usize::from(i > 7)),
            "{shown:?}: {counted:?}"
        );
    }
    assert_eq!(vendor.count(), 0);
    lives(&house).await;
}

/// A page whose owner has its name point to this machine is one site with it for a browser.
#[tokio::test(flavor = "multi_thread")]
async fn while_no_key_exists_a_name_that_a_page_may_have_is_not_served() {
    let (vendor, house) = start().await;
    let body = chat();
    let of = |host: &str| {
        let length = body.len();
        post(
            &format!("host: {host}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"),
            &body,
        )
    };
    for host in ["evil.example:8080", "127.0.0.1.evil.example"] {
        let (refused, _) = say(&house, of(host)).await;
        assert_eq!(refused.unwrap().error(403)["code"], "foreign_host", "{host}");
    }
    assert_eq!(vendor.count(), 0);
    for host in ["localhost:8080", "127.0.0.1", "[::1]:8080", "turnout:8080"] {
        assert_eq!(say(&house, of(host)).await.0.unwrap().status, 200, "{host}");
    }
}
