//! The framing of HTTP/1: a strict second pair of eyes on the bytes before the parser sees them.
//!
//! The parser is lenient where two readers could disagree: it takes a lone line feed for a line's end,
//! lets a transfer coding outrank a length, and merges equal lengths. Behind a proxy that reads the other
//! way this smuggles requests, so all of it is refused here. Only heads and chunk sizes are looked at,
//! bodies are skipped.

use http::StatusCode;

/// What one connection may send before a request exists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) head_bytes: usize,
    pub(crate) max_headers: usize,
    pub(crate) uri_bytes: usize,
}

/// Why the connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: &'static str,
}

const fn bad(message: &'static str) -> Violation {
    Violation { status: StatusCode::BAD_REQUEST, code: "bad_framing", message }
}

const BARE_LF: Violation = bad("a line feed without a carriage return before it");
const BARE_CR: Violation = bad("a carriage return without a line feed after it");
const FOLDED: Violation = bad("a folded header line");
const BOTH: Violation = bad("a length and a transfer coding at once");
const TWO_LENGTHS: Violation = bad("Content-Length stands twice");
const LENGTH: Violation = bad("Content-Length is not one whole number of decimal digits");
const OLD_CHUNKED: Violation = bad("a transfer coding in HTTP/1.0");
const CHUNK: Violation = bad("a bad chunk");
const HOSTS: Violation = bad("exactly one Host header is needed");
const METHOD: Violation = bad("the request line does not begin with a method");
const TARGET: Violation = bad("the request target is no path or address");
const VERSION: Violation = bad("the request line does not end with HTTP/1.0 or HTTP/1.1");
const NO_COLON: Violation = bad("a header line without a colon");
const NAME: Violation = bad("the name of a header holds what no name may hold");
const VALUE: Violation = bad("the value of a header holds a control character");
const CODING: Violation = Violation {
    status: StatusCode::NOT_IMPLEMENTED,
    code: "transfer_coding",
    message: "the only transfer coding taken is a single `chunked`",
};
const URI: Violation = Violation {
    status: StatusCode::URI_TOO_LONG,
    code: "uri_too_long",
    message: "the request target is too long",
};
const HEAD: Violation = Violation {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    code: "head_too_large",
    message: "the head of the request is too large, or holds too many fields",
};

/// Follows one HTTP/1 connection.
#[derive(Debug)]
pub(crate) struct Framing {
    limits: Limits,
    state: State,
    /// The line being read, without its end.
    line: Vec<u8>,
    head: Head,
}

/// What is known of the head being read.
#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    fields: usize,
    request_line: bool,
    http_10: bool,
    length: Option<u64>,
    chunked: bool,
    hosts: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Lines of a head.
    Head,
    /// So many bytes of a body, then a head.
    Body(u64),
    /// The line with a chunk's size.
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Lines after the last chunk.
    Trailer,
}

/// The parser keeps the lengths from here for marks of its own.
const MAX_LENGTH: u64 = u64::MAX - 2;

/// Longest line with a chunk's size: extensions have no use here.
const MAX_SIZE_LINE: usize = 128;

impl Framing {
    pub(crate) fn new(limits: Limits) -> Self {
        Framing { limits, state: State::Head, line: Vec::new(), head: Head::default() }
    }

    /// A head has begun and not ended.
    pub(crate) fn in_head(&self) -> bool {
        self.state == State::Head && (self.head.request_line || !self.line.is_empty())
    }

    /// Takes bytes as they were read.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Body(left) | State::Chunk(left) => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left = left.saturating_sub(n as u64);
                    bytes = bytes.get(n..).unwrap_or_default();
                    if *left == 0 {
                        let chunk = matches!(self.state, State::Chunk(_));
                        self.state = if chunk { State::ChunkEnd } else { State::Head };
                    }
                }
                _ => {
                    let end = memchr::memchr(b'\n', bytes);
                    let take = end.map_or(bytes.len(), |e| e.saturating_add(1));
                    let (piece, rest) = bytes.split_at_checked(take).unwrap_or((bytes, &[]));
                    bytes = rest;
                    self.piece(piece, end.is_some())?;
                }
            }
        }
        Ok(())
    }

    /// A piece of a line; `whole` = it ends in a line feed.
    fn piece(&mut self, piece: &[u8], whole: bool) -> Result<(), Violation> {
        self.count(piece.len())?;
        self.line.extend_from_slice(piece);
        // A target without an end must not grow to the size of a whole head before it is refused.
        if self.state == State::Head && !self.head.request_line {
            self.check_target()?;
        }
        if !whole {
            return Ok(());
        }
        let mut line = std::mem::take(&mut self.line);
        line.pop();
        if line.pop() != Some(b'\r') {
            return Err(BARE_LF);
        }
        if memchr::memchr(b'\r', &line).is_some() {
            return Err(BARE_CR);
        }
        let result = self.take_line(&line);
        // The allocation is kept for the next line.
        line.clear();
        self.line = line;
        result
    }

    fn count(&mut self, bytes: usize) -> Result<(), Violation> {
        match self.state {
            State::Head | State::Trailer => {
                self.head.bytes = self.head.bytes.saturating_add(bytes);
                if self.head.bytes > self.limits.head_bytes { Err(HEAD) } else { Ok(()) }
            }
            _ if self.line.len().saturating_add(bytes) > MAX_SIZE_LINE => Err(CHUNK),
            _ => Ok(()),
        }
    }

    fn check_target(&self) -> Result<(), Violation> {
        let mut words = self.line.split(|b| *b == b' ');
        // Known before the line has ended, which it may never do: what comes may be of another protocol.
        let method = words.next().unwrap_or_default();
        let method = method.strip_suffix(b"\r\n").unwrap_or(method);
        if !method.iter().all(|b| is_token(*b) || matches!(b, b'\r' | b'\n')) {
            return Err(METHOD);
        }
        let target = words.next().unwrap_or_default();
        if target.len() > self.limits.uri_bytes { Err(URI) } else { Ok(()) }
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        match self.state {
            State::Head if !self.head.request_line => {
                // Empty lines before a request line are allowed, and counted.
                if !line.is_empty() {
                    self.head.request_line = true;
                    self.head.http_10 = request_line(line)?;
                }
                Ok(())
            }
            State::Head if line.is_empty() => self.end_of_head(),
            State::Head => self.field(line),
            State::Size => self.size(line),
            State::ChunkEnd if line.is_empty() => {
                self.state = State::Size;
                Ok(())
            }
            State::Trailer if line.is_empty() => {
                self.next_request();
                Ok(())
            }
            State::Trailer if !starts_folded(line) => Ok(()),
            _ => Err(CHUNK),
        }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Violation> {
        if starts_folded(line) {
            return Err(FOLDED);
        }
        self.head.fields = self.head.fields.saturating_add(1);
        if self.head.fields > self.limits.max_headers {
            return Err(HEAD);
        }
        let colon = memchr::memchr(b':', line).ok_or(NO_COLON)?;
        let (name, value) = line.split_at_checked(colon).unwrap_or((line, &[]));
        if name.is_empty() || !name.iter().all(|b| is_token(*b)) {
            return Err(NAME);
        }
        if value.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            return Err(VALUE);
        }
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.head.length.is_some() {
                return Err(TWO_LENGTHS);
            }
            self.head.length = Some(length(value).ok_or(LENGTH)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.head.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(CODING);
            }
            self.head.chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            self.head.hosts = self.head.hosts.saturating_add(1);
        }
        Ok(())
    }

    fn end_of_head(&mut self) -> Result<(), Violation> {
        let head = &self.head;
        if head.chunked && head.length.is_some() {
            return Err(BOTH);
        }
        if head.chunked && head.http_10 {
            return Err(OLD_CHUNKED);
        }
        if head.hosts > 1 || head.hosts == 0 && !head.http_10 {
            return Err(HOSTS);
        }
        match (head.chunked, head.length) {
            (true, _) => self.state = State::Size,
            (false, Some(n)) if n > 0 => {
                self.next_request();
                self.state = State::Body(n);
            }
            _ => self.next_request(),
        }
        Ok(())
    }

    fn size(&mut self, line: &[u8]) -> Result<(), Violation> {
        let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let text = std::str::from_utf8(digits).map_err(|_| CHUNK)?;
        if text.is_empty() || text.len() > 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(CHUNK);
        }
        let n = u64::from_str_radix(text, 16).map_err(|_| CHUNK)?;
        self.state = if n == 0 { State::Trailer } else { State::Chunk(n) };
        Ok(())
    }

    fn next_request(&mut self) {
        self.state = State::Head;
        self.head = Head::default();
    }
}

/// Takes a request line apart as the parser would; whether it is of HTTP/1.0.
fn request_line(line: &[u8]) -> Result<bool, Violation> {
    let mut words = line.split(|b| *b == b' ');
    let method = words.next().unwrap_or_default();
    if method.is_empty() || !method.iter().all(|b| is_token(*b)) {
        return Err(METHOD);
    }
    let target = words.next().unwrap_or_default();
    // Most are plain paths, which need no second parser.
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/-_.~".contains(b);
    if !(target.starts_with(b"/") && target.iter().all(plain)) && http::Uri::try_from(target).is_err() {
        return Err(TARGET);
    }
    match (words.next(), words.next()) {
        (Some(b"HTTP/1.1"), None) => Ok(false),
        (Some(b"HTTP/1.0"), None) => Ok(true),
        (Some(word), _) if !word.starts_with(b"HTTP/") => Err(TARGET),
        _ => Err(VERSION),
    }
}

/// What methods and names of headers are made of.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn starts_folded(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

fn length(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
        .filter(|n| *n < MAX_LENGTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { head_bytes: 512, max_headers: 5, uri_bytes: 64 };

    /// Whole, and byte by byte: the split must not matter.
    fn check(bytes: &str, want: Result<(), Violation>) {
        assert_eq!(Framing::new(LIMITS).push(bytes.as_bytes()), want, "{bytes:?}");
        let mut slow = Framing::new(LIMITS);
        let got = bytes.as_bytes().chunks(1).try_for_each(|b| slow.push(b));
        assert_eq!(got, want, "byte by byte: {bytes:?}");
    }

    fn post(fields: &str, body: &str) -> String {
        format!("POST /x HTTP/1.1\r\nhost: a\r\n{fields}\r\n{body}")
    }

    #[test]
    fn good_requests_pass_and_bodies_are_not_looked_at() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(()));
        check("\r\nGET / HTTP/1.0\r\n\r\n", Ok(()));
        let evil = "\nTransfer-Encoding: x\n\n\r\r";
        let one = post(&format!("content-length: {}\r\n", evil.len()), evil);
        check(&one.repeat(3), Ok(()));
        check(
            &post("transfer-encoding: Chunked\r\n", "3;a=b\r\n\n\r\r\r\n0\r\nx: y\r\n\r\n").repeat(2),
            Ok(()),
        );
        check(&post("content-length: 0\r\n", "").repeat(2), Ok(()));
    }

    #[test]
    fn what_two_readers_could_read_two_ways_is_refused() {
        let chunked = "transfer-encoding: chunked\r\n";
        for (fields, want) in [
            ("content-length: 3\r\ntransfer-encoding: chunked\r\n", BOTH),
            ("transfer-encoding: chunked\r\ncontent-length: 3\r\n", BOTH),
            ("content-length: 3\r\ncontent-length: 3\r\n", TWO_LENGTHS),
            ("content-length: 3, 3\r\n", LENGTH),
            ("content-length: +3\r\n", LENGTH),
            ("content-length: -3\r\n", LENGTH),
            ("content-length: 0x3\r\n", LENGTH),
            ("content-length:\r\n", LENGTH),
            ("content-length: 99999999999999999999999\r\n", LENGTH),
            ("transfer-encoding: gzip, chunked\r\n", CODING),
            ("transfer-encoding: identity\r\n", CODING),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", CODING),
            ("x: a\n", BARE_LF),
            ("x: a\rb\r\n", BARE_CR),
            ("x: a\r\n folded\r\n", FOLDED),
            ("host: b\r\n", HOSTS),
        ] {
            check(&post(fields, ""), Err(want));
        }
        check("GET / HTTP/1.1\r\n\r\n", Err(HOSTS));
        check("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", Err(OLD_CHUNKED));
        for body in ["x\r\n", "\r\n", "-1\r\n", "0x3\r\n", "11111111111111111\r\n", "3\r\nabcd\r\n"] {
            check(&post(chunked, body), Err(CHUNK));
        }
        check(&post(chunked, "3\nabc\r\n"), Err(BARE_LF));
        check(&post(chunked, &format!("3;{}\r\n", "x".repeat(200))), Err(CHUNK));
    }

    #[test]
    fn what_the_parser_would_refuse_is_refused_here_with_a_reason() {
        for (line, want) in [
            ("G@T / HTTP/1.1", METHOD),
            ("\u{16}\u{3}\u{1}", METHOD),
            (" / HTTP/1.1", METHOD),
            ("GET /a b HTTP/1.1", TARGET),
            ("GET  / HTTP/1.1", TARGET),
            ("GET a/b HTTP/1.1", TARGET),
            ("GET /\u{1} HTTP/1.1", TARGET),
            ("GET / HTTP/9.9", VERSION),
            ("GET / HTTP/1.1 x", VERSION),
            ("GET /", VERSION),
        ] {
            check(&format!("{line}\r\nhost: a\r\n\r\n"), Err(want));
        }
        for (field, want) in [
            ("x@a: b", NAME),
            ("x-a : b", NAME),
            (": b", NAME),
            ("x\u{e9}: b", NAME),
            ("x", NO_COLON),
            ("x: a\0b", VALUE),
            ("x: a\u{7f}", VALUE),
            ("content-length: 18446744073709551615", LENGTH),
        ] {
            check(&post(&format!("{field}\r\n"), ""), Err(want));
        }
        check("GET /v1/models?a=b&c=%20 HTTP/1.1\r\nhost: a\r\nx: \u{e9}\ta\r\ny:\r\n\r\n", Ok(()));
        check("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\nGET http://a/b HTTP/1.1\r\nhost: a\r\n\r\n", Ok(()));
        // A whole head that the parser refuses must not pass: it would be answered without a word.
        assert_eq!(Framing::new(LIMITS).push(b"\x16\x03\x01\x02\x00\x01"), Err(METHOD));
    }

    #[test]
    fn heads_are_bounded() {
        check(&format!("GET /{}", "a".repeat(64)), Err(URI));
        check(&post(&"a: b\r\n".repeat(5), ""), Err(HEAD));
        check(&post(&format!("a: {}\r\n", "b".repeat(512)), ""), Err(HEAD));
        check(&format!("GET /x HTTP/1.1\r\na: {}", "b".repeat(600)), Err(HEAD));
        check(&"\r\n".repeat(300), Err(HEAD));
        check(
            &post("transfer-encoding: chunked\r\n", &format!("0\r\n{}", "a: b\r\n".repeat(200))),
            Err(HEAD),
        );
    }
}
