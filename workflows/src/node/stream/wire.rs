//! How a streamed answer goes out, whatever it says: when its head leaves, what keeps it alive, what follows it.

use crate::load::Cx;
use serde::Serialize;
use std::time::Duration;
use types::doc::{Fields, Node};

/// Whether what the run came to follows the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trailer {
    /// Where the request asks for it.
    #[default]
    OptIn,
    /// Always.
    Always,
    /// Never, whoever asks.
    Never,
}

/// How a streamed answer goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Wire {
    /// Longest time that the head of the response waits for the first content; until then a failure is a plain
    /// HTTP error. Default 10 s; `None`: as long as it takes.
    pub header_hold: Option<Duration>,
    /// Quiet time after which a comment goes out; zero = none ever does; `None` = as the server is set up.
    pub keepalive: Option<Duration>,
    /// What follows the answer.
    pub trailer: Trailer,
}

/// How long the head of a response waits where the file does not say.
const HOLD: Duration = Duration::from_secs(10);

impl Default for Wire {
    fn default() -> Self {
        Wire { header_hold: Some(HOLD), keepalive: None, trailer: Trailer::default() }
    }
}

impl Wire {
    pub(super) fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let header_hold = match f.take("header_hold") {
            None => Some(HOLD),
            Some(n) if n.as_str() == Some("none") => None,
            Some(n) => cx.r.duration(n, &f.at("header_hold")),
        };
        let keepalive = f.take("keepalive").and_then(|n| match n.as_str() {
            Some("none") => Some(Duration::ZERO),
            _ => cx.r.duration(n, &f.at("keepalive")),
        });
        let trailer = f.take("trailer").map_or(Trailer::OptIn, |n| {
            match cx.r.one_of(n, &f.at("trailer"), &["opt_in", "always", "never"]) {
                Some("always") => Trailer::Always,
                Some("never") => Trailer::Never,
                _ => Trailer::OptIn,
            }
        });
        Wire { header_hold, keepalive, trailer }
    }
}

/// Most bytes of a window, and of what it keeps back.
const MOST: u64 = 64 * 1024;

/// The pieces in which a watched answer goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Window {
    /// Least bytes that go out at a time, but for the end.
    pub(crate) bytes: usize,
    /// Bytes that wait until more has come.
    pub(crate) overlap: usize,
}

impl Window {
    /// Where the file does not say.
    pub(super) const USUAL: Window = Window { bytes: 1024, overlap: 256 };

    pub(super) fn lower(cx: &mut Cx<'_>, n: &Node, path: &str) -> Option<Self> {
        let mut f = cx.r.fields(n, path)?;
        let mut bytes = |key: &'static str, usual: usize| {
            let Some(n) = f.take(key) else { return usual };
            let at = f.at(key);
            let Some(given) = cx.r.bytes(n, &at) else { return usual };
            if given > MOST {
                let d = cx.r.error("104", n.span, format!("`{at}` is out of range"));
                d.expected = Some("at most 64KiB".to_owned());
                d.field = at;
            }
            usize::try_from(given.min(MOST)).unwrap_or(usual)
        };
        let window = Window {
            bytes: bytes("bytes", Window::USUAL.bytes),
            overlap: bytes("overlap", Window::USUAL.overlap),
        };
        f.finish(&mut cx.r);
        Some(window)
    }
}
