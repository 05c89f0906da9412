//! Settings of the server: what `turnout.yaml` and `TURNOUT_*` may say, with ranges and hard caps.
//!
//! One list of keys ([`KEYS`]) and one function that finds a key's place (`slot`) serve the file and the
//! environment alike. Ranges and caps are those of `reliability.md` §2.

use std::ops::RangeInclusive;
use std::time::Duration;
use types::doc::{Node, Reader, SourceFile, Value};
use types::options::Mode;
use types::{Diagnostic, diagnostic};

/// Prefix of the codes of this file's diagnostics.
pub const PREFIX: &str = "TS";

/// Limits at the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Open connections.
    pub max_connections: usize,
    /// Open connections from one address.
    pub max_connections_per_ip: usize,
    /// From accept to the first byte, and to the end of the protocol's preface.
    pub first_byte_timeout: Duration,
    /// From the first byte of a head to its end; also how long a connection may idle.
    pub header_timeout: Duration,
    /// From the head to the end of the body.
    pub body_timeout: Duration,
    /// Least rate of a body, bytes per second; 0 = none.
    pub body_rate: usize,
    /// When the rate is first looked at.
    pub body_rate_after: Duration,
    /// Largest head, request line included.
    pub head_bytes: usize,
    /// Most header fields.
    pub max_headers: usize,
    /// Longest request target.
    pub uri_bytes: usize,
    /// Largest body of a chat request.
    pub body_bytes: usize,
    /// Bodies of all requests together.
    pub body_bytes_inflight: usize,
    /// Deepest nesting of a body.
    pub json_depth: usize,
    /// Most values of a body.
    pub json_values: usize,
    /// Concurrent streams of one HTTP/2 connection.
    pub http2_streams: usize,
    /// Messages of one request.
    pub messages: usize,
    /// Tools of one request.
    pub tools: usize,
    /// Parts of one message.
    pub parts: usize,
    /// Stop strings of one request.
    pub stop: usize,
    /// Members of `metadata`.
    pub metadata: usize,
}

/// Limits of a streamed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// How long a client may take nothing.
    pub write_stall: Duration,
    /// Quiet time after which a comment is sent; zero = never.
    pub keep_alive: Duration,
    /// Buffered towards one client.
    pub buffer_bytes: usize,
}

/// Everything `turnout.yaml` may say.
#[derive(Clone, Debug)]
pub struct Server {
    /// `address:port`; `None` = 127.0.0.1:8080.
    pub listen: Option<String>,
    /// `address:port` of the control API, on loopback; `none` = not served; `None` = beside `listen`.
    pub admin: Option<String>,
    /// Folder of the data; `None` = the user's data folder.
    pub data: Option<String>,
    /// Limits at the edge.
    pub edge: Edge,
    /// Limits of a streamed answer.
    pub stream: Stream,
    /// Bounds on what providers may do to us.
    pub upstream: providers::Config,
    /// How long requests in work may go on after the first signal.
    pub grace: Duration,
    /// Requests in work, deadlines, retries, breakers, price tiers.
    pub engine: engine::Config,
    /// The code runner.
    pub runner: crate::runner::Config,
    /// Which services tools and checks may ask.
    pub tools: crate::hosts::Config,
    /// Durable runs.
    pub runs: engine::runs::Config,
    /// Webhooks of runs.
    pub webhooks: crate::webhooks::Config,
    /// What is done when files of the configuration change.
    pub reload: Reload,
    /// Headers of requests that policies may read, by their lower-case names.
    pub policy_headers: Vec<String>,
}

/// What is done when files of the configuration change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    /// They are taken up by themselves; otherwise at a signal or on request.
    pub watch: bool,
    /// How long they must have stayed as they are.
    pub debounce: Duration,
    /// A bundle under which requests fail goes back by itself.
    pub rollback: bool,
}

impl Default for Reload {
    fn default() -> Self {
        Reload { watch: true, debounce: Duration::from_millis(500), rollback: true }
    }
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: None,
            admin: None,
            data: None,
            edge: Edge::default(),
            stream: Stream::default(),
            upstream: providers::Config::default(),
            grace: secs(30),
            engine: engine::Config::default(),
            runner: crate::runner::Config::default(),
            tools: crate::hosts::Config::default(),
            runs: engine::runs::Config::default(),
            webhooks: crate::webhooks::Config::default(),
            reload: Reload::default(),
            policy_headers: Vec::new(),
        }
    }
}

impl Default for Edge {
    fn default() -> Self {
        let requests = types::chat::Limits::default();
        Edge {
            max_connections: 4_096,
            max_connections_per_ip: 512,
            first_byte_timeout: secs(10),
            header_timeout: secs(10),
            body_timeout: secs(30),
            body_rate: 4 * KIB,
            body_rate_after: secs(10),
            head_bytes: 32 * KIB,
            max_headers: 100,
            uri_bytes: 8 * KIB,
            body_bytes: 32 * MIB,
            body_bytes_inflight: 512 * MIB,
            json_depth: 64,
            json_values: 100_000,
            http2_streams: 100,
            messages: requests.messages,
            tools: requests.tools,
            parts: requests.parts,
            stop: requests.stop,
            metadata: requests.metadata,
        }
    }
}

impl Edge {
    /// The limits that the decoding of a request applies.
    #[must_use]
    pub fn requests(&self) -> types::chat::Limits {
        types::chat::Limits {
            messages: self.messages,
            tools: self.tools,
            parts: self.parts,
            stop: self.stop,
            metadata: self.metadata,
        }
    }
}

impl Default for Stream {
    fn default() -> Self {
        Stream { write_stall: secs(30), keep_alive: secs(15), buffer_bytes: 64 * KIB }
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// The place of a key's value, with what it may be.
enum Slot<'a> {
    Time(&'a mut Duration, RangeInclusive<Duration>),
    Bytes(&'a mut usize, RangeInclusive<usize>),
    Count(&'a mut usize, RangeInclusive<usize>),
    Whole(&'a mut u32, RangeInclusive<u32>),
    Share(&'a mut f64),
    Flag(&'a mut bool),
    Seed(&'a mut Option<u64>),
    Mode(&'a mut Mode),
    Text(&'a mut Option<String>),
    Texts(&'a mut Vec<String>),
    Headers(&'a mut Vec<String>),
}

/// Every key, as in the file; in the environment `edge.max_headers` is `TURNOUT_EDGE__MAX_HEADERS`.
pub const KEYS: &[&str] = &[
    "listen",
    "admin.listen",
    "data",
    "mode",
    "edge.max_connections",
    "edge.max_connections_per_ip",
    "edge.first_byte_timeout",
    "edge.header_timeout",
    "edge.body_timeout",
    "edge.body_rate",
    "edge.body_rate_after",
    "edge.head_bytes",
    "edge.max_headers",
    "edge.uri_bytes",
    "edge.body_bytes",
    "edge.body_bytes_inflight",
    "edge.max_inflight",
    "edge.json_depth",
    "edge.json_values",
    "edge.http2_streams",
    "edge.messages",
    "edge.tools",
    "edge.parts",
    "edge.stop",
    "edge.metadata",
    "stream.write_stall",
    "stream.keep_alive",
    "stream.buffer_bytes",
    "upstream.answer_bytes",
    "upstream.event_bytes",
    "upstream.allow_private",
    "shutdown.grace",
    "request.default_deadline",
    "request.seed",
    "retry.max_attempts",
    "retry.max_candidates",
    "retry.backoff",
    "retry.backoff_max",
    "breaker.window",
    "breaker.min_calls",
    "breaker.failure_share",
    "breaker.consecutive",
    "breaker.open",
    "breaker.open_max",
    "runner.enabled",
    "runner.cpu",
    "runner.wall",
    "runner.memory",
    "runner.processes",
    "runner.disk",
    "runner.output",
    "runner.parallel",
    "runner.folders",
    "tools.allow_hosts",
    "tools.allow_http",
    "tools.allow_private",
    "runs.parallel",
    "runs.wall",
    "runs.lifetime",
    "runs.keep",
    "webhooks.allow_hosts",
    "webhooks.allow_http",
    "webhooks.allow_private",
    "reload.watch",
    "reload.debounce",
    "reload.rollback",
    "policies.headers",
];

fn slot<'a>(s: &'a mut Server, key: &str) -> Option<Slot<'a>> {
    let least = Duration::from_millis(10);
    let (e, n) = (&mut s.edge, &mut s.engine);
    Some(match key {
        "listen" => Slot::Text(&mut s.listen),
        "admin.listen" => Slot::Text(&mut s.admin),
        "data" => Slot::Text(&mut s.data),
        "mode" => Slot::Mode(&mut n.mode),
        "edge.max_connections" => Slot::Count(&mut e.max_connections, 1..=65_536),
        "edge.max_connections_per_ip" => Slot::Count(&mut e.max_connections_per_ip, 1..=65_536),
        "edge.first_byte_timeout" => Slot::Time(&mut e.first_byte_timeout, least..=secs(60)),
        "edge.header_timeout" => Slot::Time(&mut e.header_timeout, least..=secs(60)),
        "edge.body_timeout" => Slot::Time(&mut e.body_timeout, least..=secs(300)),
        "edge.body_rate" => Slot::Bytes(&mut e.body_rate, 0..=16 * MIB),
        "edge.body_rate_after" => Slot::Time(&mut e.body_rate_after, least..=secs(300)),
        "edge.head_bytes" => Slot::Bytes(&mut e.head_bytes, KIB..=64 * KIB),
        "edge.max_headers" => Slot::Count(&mut e.max_headers, 8..=100),
        "edge.uri_bytes" => Slot::Bytes(&mut e.uri_bytes, 128..=32 * KIB),
        "edge.body_bytes" => Slot::Bytes(&mut e.body_bytes, KIB..=128 * MIB),
        "edge.body_bytes_inflight" => Slot::Bytes(&mut e.body_bytes_inflight, MIB..=65_536 * MIB),
        "edge.max_inflight" => Slot::Count(&mut n.max_inflight, 1..=65_536),
        "edge.json_depth" => Slot::Count(&mut e.json_depth, 8..=128),
        "edge.json_values" => Slot::Count(&mut e.json_values, 100..=1_000_000),
        "edge.http2_streams" => Slot::Count(&mut e.http2_streams, 1..=1_000),
        "edge.messages" => Slot::Count(&mut e.messages, 1..=10_000),
        "edge.tools" => Slot::Count(&mut e.tools, 1..=1_024),
        "edge.parts" => Slot::Count(&mut e.parts, 1..=1_024),
        "edge.stop" => Slot::Count(&mut e.stop, 1..=64),
        "edge.metadata" => Slot::Count(&mut e.metadata, 1..=256),
        "stream.write_stall" => Slot::Time(&mut s.stream.write_stall, least..=secs(300)),
        "stream.keep_alive" => Slot::Time(&mut s.stream.keep_alive, Duration::ZERO..=secs(300)),
        "stream.buffer_bytes" => Slot::Bytes(&mut s.stream.buffer_bytes, 8 * KIB..=MIB),
        "upstream.answer_bytes" => Slot::Bytes(&mut s.upstream.max_answer_bytes, 64 * KIB..=256 * MIB),
        "upstream.event_bytes" => Slot::Bytes(&mut s.upstream.max_event_bytes, 4 * KIB..=16 * MIB),
        "upstream.allow_private" => Slot::Flag(&mut s.upstream.allow_private),
        "shutdown.grace" => Slot::Time(&mut s.grace, Duration::ZERO..=secs(600)),
        "request.default_deadline" => Slot::Time(&mut n.default_deadline, least..=secs(3_600)),
        "request.seed" => Slot::Seed(&mut n.seed),
        "retry.max_attempts" => Slot::Whole(&mut n.retry.max_attempts, 1..=5),
        "retry.max_candidates" => Slot::Count(&mut n.retry.max_candidates, 1..=32),
        "retry.backoff" => Slot::Time(&mut n.retry.backoff, Duration::ZERO..=secs(30)),
        "retry.backoff_max" => Slot::Time(&mut n.retry.backoff_max, Duration::ZERO..=secs(60)),
        "breaker.window" => Slot::Time(&mut n.breaker.window, least..=secs(600)),
        "breaker.min_calls" => Slot::Whole(&mut n.breaker.min_calls, 1..=10_000),
        "breaker.failure_share" => Slot::Share(&mut n.breaker.failure_share),
        "breaker.consecutive" => Slot::Whole(&mut n.breaker.consecutive, 1..=1_000),
        "breaker.open" => Slot::Time(&mut n.breaker.open, least..=secs(600)),
        "breaker.open_max" => Slot::Time(&mut n.breaker.open_max, least..=secs(3_600)),
        "runner.enabled" => Slot::Flag(&mut s.runner.enabled),
        "runner.cpu" => Slot::Time(&mut s.runner.cpu, secs(1)..=secs(300)),
        "runner.wall" => Slot::Time(&mut s.runner.wall, secs(1)..=secs(600)),
        "runner.memory" => Slot::Bytes(&mut s.runner.memory, 16 * MIB..=8_192 * MIB),
        "runner.processes" => Slot::Whole(&mut s.runner.processes, 1..=1_024),
        "runner.disk" => Slot::Bytes(&mut s.runner.disk, MIB..=4_096 * MIB),
        "runner.output" => Slot::Bytes(&mut s.runner.output, KIB..=64 * MIB),
        "runner.parallel" => Slot::Count(&mut s.runner.parallel, 1..=64),
        "runner.folders" => Slot::Texts(&mut s.runner.folders),
        "tools.allow_hosts" => Slot::Texts(&mut s.tools.allow_hosts),
        "tools.allow_http" => Slot::Flag(&mut s.tools.allow_http),
        "tools.allow_private" => Slot::Flag(&mut s.tools.allow_private),
        "runs.parallel" => Slot::Count(&mut s.runs.parallel, 1..=1_024),
        "runs.wall" => Slot::Time(&mut s.runs.wall, secs(1)..=secs(7 * 86_400)),
        "runs.lifetime" => Slot::Time(&mut s.runs.lifetime, secs(1)..=secs(90 * 86_400)),
        "runs.keep" => Slot::Time(&mut s.runs.keep, secs(60)..=secs(3_650 * 86_400)),
        "webhooks.allow_hosts" => Slot::Texts(&mut s.webhooks.allow_hosts),
        "webhooks.allow_http" => Slot::Flag(&mut s.webhooks.allow_http),
        "webhooks.allow_private" => Slot::Flag(&mut s.webhooks.allow_private),
        "reload.watch" => Slot::Flag(&mut s.reload.watch),
        "reload.rollback" => Slot::Flag(&mut s.reload.rollback),
        "policies.headers" => Slot::Headers(&mut s.policy_headers),
        "reload.debounce" => Slot::Time(&mut s.reload.debounce, least..=secs(60)),
        _ => return None,
    })
}

/// What could have been meant in a key's place: the keys of its group, or what stands at the top.
fn siblings(key: &str) -> Vec<&'static str> {
    let group = key.split_once('.').map(|(g, _)| g);
    let beside = |k: &&str| k.split_once('.').map(|(g, _)| g) == group;
    let keys = KEYS.iter().copied().filter(beside);
    if group.is_some() { keys.collect() } else { keys.chain(groups()).collect() }
}

/// The groups of keys: what stands before the dot.
fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = KEYS.iter().filter_map(|k| k.split_once('.')).map(|(g, _)| g).collect();
    groups.dedup();
    groups
}

/// Takes a file's settings over what stands; gives every problem.
pub fn apply_file(server: &mut Server, file: &SourceFile) -> Vec<Diagnostic> {
    let node = match types::doc::parse(file, PREFIX) {
        Ok(node) => node,
        Err(problem) => return vec![*problem],
    };
    let mut r = Reader::new(file, PREFIX);
    let Some(members) = r.map(&node, "the file") else { return r.problems };
    for (key, value) in members {
        let name = key.name.as_str();
        if name == "version" {
            r.integer(value, "version", 1, 1);
        } else if groups().contains(&name) {
            for (inner, value) in r.map(value, name).unwrap_or_default() {
                apply(server, &mut r, &format!("{name}.{}", inner.name), inner.span, value);
            }
        } else if !name.starts_with("x-") {
            apply(server, &mut r, name, key.span, value);
        }
    }
    r.problems
}

/// Takes settings from the environment (`name`, `value`) over what stands; gives every problem.
pub fn apply_environment(server: &mut Server, variables: &[(String, String)]) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix("TURNOUT_") else { continue };
        if OTHERS.contains(&rest) {
            continue;
        }
        let file = SourceFile::new(format!("environment variable {name}"), text.as_str());
        let key = rest.to_lowercase().replace("__", ".");
        let mut r = Reader::new(&file, PREFIX);
        match types::doc::parse(&file, PREFIX) {
            Ok(node) if known(&key) => apply(server, &mut r, &key, node.span, &node),
            // Not ours for certain: another version's, or another program's.
            Ok(node) => {
                let d = r.warning("101", node.span, format!("{name} sets nothing"));
                d.hint = Some(diagnostic::suggestion(&key, KEYS.iter().copied()));
            }
            Err(problem) => problems.push(*problem),
        }
        problems.append(&mut r.problems);
    }
    problems
}

/// `TURNOUT_*` variables that are no settings of this file.
const OTHERS: &[&str] = &["LOG", "LOG_FORMAT", "CONFIG", "WEBHOOK_SECRET"];

fn known(key: &str) -> bool {
    KEYS.contains(&key)
}

fn apply(server: &mut Server, r: &mut Reader<'_>, key: &str, at: types::doc::Span, node: &Node) {
    let Some(slot) = slot(server, key) else {
        let d = r.error("101", at, format!("unknown key `{key}`"));
        d.field = key.to_owned();
        let near = siblings(key);
        d.hint = Some(diagnostic::suggestion(key, near.iter().copied()));
        return;
    };
    match slot {
        Slot::Time(place, range) => set(r, node, key, place, &range, |r| r.duration(node, key), show_time),
        Slot::Bytes(place, range) => {
            let read = |r: &mut Reader<'_>| r.bytes(node, key).and_then(|b| usize::try_from(b).ok());
            set(r, node, key, place, &range, read, show_bytes);
        }
        Slot::Count(place, range) => {
            let (lo, hi) = (as_i64(*range.start()), as_i64(*range.end()));
            if let Some(n) = r.integer(node, key, lo, hi).and_then(|n| usize::try_from(n).ok()) {
                *place = n;
            }
        }
        Slot::Whole(place, range) => {
            let n = r.integer(node, key, i64::from(*range.start()), i64::from(*range.end()));
            if let Some(n) = n.and_then(|n| u32::try_from(n).ok()) {
                *place = n;
            }
        }
        Slot::Share(place) => {
            if let Some(x) = r.number(node, key, 0.01, 1.0) {
                *place = x;
            }
        }
        Slot::Flag(place) => {
            if let Some(b) = r.boolean(node, key) {
                *place = b;
            }
        }
        Slot::Seed(place) => {
            let n = r.integer(node, key, 0, i64::MAX).and_then(|n| u64::try_from(n).ok());
            if n.is_some() {
                *place = n;
            }
        }
        Slot::Mode(place) => {
            if let Some(m) = r.one_of(node, key, MODES).and_then(mode) {
                *place = m;
            }
        }
        Slot::Text(place) => {
            let text = match &node.value {
                // `data: 7` names a folder all the same.
                Value::Int(i) => Some(i.to_string()),
                _ => r.string(node, key),
            };
            if let Some(t) = text {
                *place = Some(t);
            }
        }
        Slot::Texts(place) => {
            let Some(list) = r.list(node, key) else { return };
            let texts: Option<Vec<String>> = list.iter().map(|n| r.string(n, key)).collect();
            if let Some(texts) = texts {
                *place = texts;
            }
        }
        Slot::Headers(place) => {
            let list = r.list(node, key).unwrap_or_default();
            let names = list.iter().filter_map(|n| header(r, n, key)).collect();
            *place = names;
        }
    }
}

/// Parts of the names of headers that hold credentials.
const CREDENTIALS: &[&str] = &[
    "auth",
    "cookie",
    "token",
    "secret",
    "password",
    "passwd",
    "credential",
    "apikey",
    "api-key",
    "api_key",
    "session",
];

/// The name of a header that policies may read: none that holds a credential, for what policies read is put on record.
fn header(r: &mut Reader<'_>, node: &Node, key: &str) -> Option<String> {
    let name = r.string(node, key)?.to_ascii_lowercase();
    let why = if http::HeaderName::try_from(&name).is_err() {
        "is no name of a header"
    } else if CREDENTIALS.iter().any(|part| name.contains(part)) || name.split(['-', '_']).any(|p| p == "key")
    {
        "is the name of a header that holds a credential; policies are never told those"
    } else {
        return Some(name);
    };
    r.error("104", node.span, format!("`{name}` {why}")).field = key.to_owned();
    None
}

/// The strings of `mode`.
pub const MODES: &[&str] = &["free", "paid", "auto"];

/// The mode of that name.
#[must_use]
pub fn mode(name: &str) -> Option<Mode> {
    Some(match name {
        "free" => Mode::Free,
        "paid" => Mode::Paid,
        "auto" => Mode::Auto,
        _ => return None,
    })
}

fn as_i64(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn set<T: PartialOrd + Copy>(
    r: &mut Reader<'_>,
    node: &Node,
    key: &str,
    place: &mut T,
    range: &RangeInclusive<T>,
    read: impl FnOnce(&mut Reader<'_>) -> Option<T>,
    show: impl Fn(T) -> String,
) {
    let Some(value) = read(r) else { return };
    if range.contains(&value) {
        *place = value;
        return;
    }
    let d = r.error("104", node.span, format!("`{key}` is {}", show(value)));
    d.expected = Some(format!("{} to {}", show(*range.start()), show(*range.end())));
    d.field = key.to_owned();
}

fn show_time(d: Duration) -> String {
    if d.subsec_millis() == 0 { format!("{}s", d.as_secs()) } else { format!("{}ms", d.as_millis()) }
}

fn show_bytes(n: usize) -> String {
    match n {
        _ if n >= MIB && n.is_multiple_of(MIB) => format!("{}MiB", n / MIB),
        _ if n >= KIB && n.is_multiple_of(KIB) => format!("{}KiB", n / KIB),
        _ => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[(&str, usize, usize)]) -> Server {
        let mut server = Server::default();
        let file = SourceFile::new("turnout.yaml", text);
        let got = apply_file(&mut server, &file);
        let got: Vec<_> = got.iter().map(|d| (d.code.as_str(), d.line, d.column)).collect();
        assert_eq!(got, want, "{text}");
        server
    }

    #[test]
    fn every_key_has_a_place() {
        for key in KEYS {
            assert!(slot(&mut Server::default(), key).is_some(), "{key}");
        }
    }

    #[test]
    fn a_file_sets_what_it_names_and_nothing_else() {
        let s = check(
            "listen: 127.0.0.1:9000\nmode: free\nedge:\n  header_timeout: 2s\n  body_bytes: 1MiB\nx-note: mine\n",
            &[],
        );
        assert_eq!(s.listen.as_deref(), Some("127.0.0.1:9000"));
        assert_eq!((s.engine.mode, s.edge.header_timeout, s.edge.body_bytes), (Mode::Free, secs(2), MIB));
        assert_eq!(s.edge.max_headers, 100);
        check("", &[]);
    }

    #[test]
    fn every_problem_has_its_code_and_place() {
        check("edge: 3\n", &[("TS103", 1, 7)]);
        check("lisen: x\n", &[("TS101", 1, 1)]);
        check("edge:\n  heder_timeout: 2s\n", &[("TS101", 2, 3)]);
        check("edge:\n  header_timeout: 2\n", &[("TS111", 2, 19)]);
        check("edge:\n  header_timeout: 61s\n", &[("TS104", 2, 19)]);
        check("edge:\n  body_bytes: 1GiB\n", &[("TS104", 2, 15)]);
        check("mode: fre\nedge: {max_headers: 101}\n", &[("TS104", 1, 7), ("TS104", 2, 21)]);
        check("retry: {max_attempts: many}\n", &[("TS103", 1, 23)]);
        check("a: 1\na: 2\n", &[("TS002", 2, 1)]);
        check("version: 2\n", &[("TS104", 1, 10)]);
    }

    #[test]
    fn policies_are_told_no_credentials() {
        let s = check("policies: { headers: [X-Team, accept-language] }\n", &[]);
        assert_eq!(s.policy_headers, ["x-team", "accept-language"]);
        for name in [
            "Authorization",
            "x-api-key",
            "Cookie",
            "x-goog-api-key",
            "x-auth-request-user",
            "\"a b\"",
            "my-key",
        ] {
            check(&format!("policies: {{ headers: [x-team, {name}] }}\n"), &[("TS104", 1, 31)]);
        }
    }

    #[test]
    fn the_environment_outranks_the_file_and_unknown_names_are_told() {
        let mut s = Server::default();
        let vars = [
            ("TURNOUT_EDGE__HEADER_TIMEOUT", "3s"),
            ("TURNOUT_MODE", "paid"),
            ("TURNOUT_LOG", "debug"),
            ("TURNOUT_EDGE__MAX_HEADER", "3"),
            ("TURNOUT_EDGE__MAX_HEADERS", "many"),
            ("HOME", "/"),
        ];
        let vars: Vec<_> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let problems = apply_environment(&mut s, &vars);
        assert_eq!((s.edge.header_timeout, s.engine.mode), (secs(3), Mode::Paid));
        let got: Vec<_> = problems.iter().map(|d| (d.code.as_str(), d.severity)).collect();
        assert_eq!(got, [("TS101", types::Severity::Warning), ("TS103", types::Severity::Error)]);
        assert!(problems[0].hint.as_deref().is_some_and(|h| h.contains("edge.max_headers")));
    }
}
