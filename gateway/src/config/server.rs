//! Settings of the server: what `turnout.yaml` and `TURNOUT_*` may say.
//!
//! One list of keys ([`KEYS`]) and one function that finds a key's place serve the file and the environment alike.

use crate::control::tripwire::TripwireAction;
use std::time::Duration;

mod address;
mod keys;
mod read;

pub use crate::cors::Origin;
pub use crate::edge::peer::Net;
pub use crate::signing::PublicKey;
pub use address::{NOT_SERVED, address};
pub use keys::KEYS;
pub use read::{MODES, apply_environment, apply_file, mode};

/// Prefix of the codes of this file's diagnostics.
pub const PREFIX: &str = "TS";

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
    /// Who is told by the verb `notify`; `None` = only the log.
    pub notify_url: Option<String>,
    /// A file on another volume to which the anchor of the audit trail is written besides.
    pub audit_anchor: Option<String>,
    /// Who is told of each anchor of the audit trail; `None` = nobody.
    pub anchor_url: Option<String>,
    /// How much room the data folder needs.
    pub disk: crate::disk::Config,
    /// How much room records may take in it.
    pub spool: Spool,
    /// What is done when files of the configuration change.
    pub reload: Reload,
    /// Who must agree before a bundle is in force.
    pub bundles: Bundles,
    /// Headers of requests that policies may read, by their lower-case names.
    pub policy_headers: Vec<String>,
    /// What a key may spend a day that is made without limits, in USD.
    pub default_budget: f64,
    /// What follows when a key spends ten times its usual.
    pub tripwire: TripwireAction,
    /// `/metrics` asks for a key of the control API.
    pub metrics_key: bool,
    /// Whose pages may ask in a browser.
    pub origins: Vec<Origin>,
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
            notify_url: None,
            audit_anchor: None,
            anchor_url: None,
            disk: crate::disk::Config::default(),
            spool: Spool::default(),
            reload: Reload::default(),
            bundles: Bundles::default(),
            policy_headers: Vec::new(),
            default_budget: 10.0,
            tripwire: TripwireAction::default(),
            metrics_key: false,
            origins: Vec::new(),
        }
    }
}

/// Limits at the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Open connections.
    pub max_connections: usize,
    /// Open connections from one address.
    pub max_connections_per_ip: usize,
    /// Proxies whose word on the client's address counts, and whose connections are not counted by address.
    pub trusted_proxies: Vec<Net>,
    /// From accept to the first byte, and to the end of the protocol's preface.
    pub first_byte_timeout: Duration,
    /// From the first byte of a head to its end; also until the first head.
    pub header_timeout: Duration,
    /// How long a connection may idle between two requests.
    pub idle_timeout: Duration,
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

impl Default for Edge {
    fn default() -> Self {
        let requests = types::chat::Limits::default();
        Edge {
            max_connections: 4_096,
            max_connections_per_ip: 1_024,
            trusted_proxies: Vec::new(),
            first_byte_timeout: secs(10),
            header_timeout: secs(10),
            idle_timeout: secs(75),
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

/// Limits of a streamed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// How long a client may take nothing.
    pub write_stall: Duration,
    /// Quiet time after which a comment is sent; zero = never.
    pub keep_alive: Duration,
    /// Verdict and cost are told in a comment before the end, where neither head nor trailers tell them.
    pub sum_comment: bool,
    /// Buffered towards one client.
    pub buffer_bytes: usize,
}

impl Default for Stream {
    fn default() -> Self {
        Stream { write_stall: secs(30), keep_alive: secs(15), sum_comment: true, buffer_bytes: 64 * KIB }
    }
}

/// Bytes of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spool {
    /// Of those that the database does not have yet.
    pub max: usize,
    /// Of all that are kept; the oldest go first, a file at a time.
    pub keep: usize,
}

impl Default for Spool {
    fn default() -> Self {
        let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Spool { max: bytes(stores::Config::SPOOL_MAX), keep: bytes(stores::Config::ARCHIVE_MAX) }
    }
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

/// What stands before a bundle that is to come into force.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundles {
    /// Keys of which one must have signed it; empty = nobody has to.
    pub require_signature: Vec<PublicKey>,
    /// Whoever uploaded it may not be who puts it in force.
    pub two_person: bool,
    /// Share of the recorded requests that one put in force over the control API may decide differently, 0.01 to 1.
    pub max_changed: f64,
    /// Share of them that it may refuse and the one in force does not, 0.01 to 1.
    pub max_new_denials: f64,
}

impl Default for Bundles {
    fn default() -> Self {
        Bundles { require_signature: Vec::new(), two_person: false, max_changed: 1.0, max_new_denials: 0.5 }
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: usize = 1024 * MIB;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
