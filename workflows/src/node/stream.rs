//! `stream`: the one way to the client.

use super::{Begun, NodeType, Read, Resolved, Spec, no_labels};
use crate::ending::RunFailure;
use crate::load::{Cx, later};
use crate::outcome::Outcome;
use crate::reference::Ref;
use crate::run::{At, End};
use serde_json::{Value as Json, json};
use std::time::Duration;
use types::doc::{self, Fields};

pub(crate) static TYPE: NodeType = NodeType {
    name: "stream",
    outcomes: &[Outcome::Delivered, Outcome::Rejected],
    words: &["delivered", "rejected", "error", "timeout", "cancelled", "skipped"],
    timeout: Duration::from_secs(5),
    sink: true,
    cacheable: false,
    retries: false,
    outputs: |_| Vec::new(),
    labels: no_labels,
    lower: |cx, f| Box::new(Stream::lower(cx, f)),
};

/// When the client sees the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Auto,
    Buffered,
    Passthrough,
}

impl Mode {
    const fn as_str(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Buffered => "buffered",
            Mode::Passthrough => "passthrough",
        }
    }

    fn lower(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Mode {
        if let Some(name) = n.as_str().filter(|s| matches!(*s, "windowed" | "optimistic")) {
            cx.unsupported(n.span, &format!("mode: {name}"));
            return Mode::Buffered;
        }
        match cx.r.one_of(n, path, &["auto", "buffered", "passthrough"]) {
            Some("buffered") => Mode::Buffered,
            Some("passthrough") => Mode::Passthrough,
            _ => Mode::Auto,
        }
    }
}

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// `None` only in a file with errors.
    pub(crate) from: Option<Ref>,
    pub(crate) mode: Mode,
}

/// Keys of the format that come later.
const LATER: &[&str] =
    &["window", "validators", "on_late_failure", "header_hold", "keepalive", "trailer", "pace"];

impl Stream {
    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let from = f.require(&mut cx.r, "from").and_then(|n| Ref::lower_completions(cx, n, &f.at("from")));
        let mode = f.take("mode").map_or(Mode::Auto, |n| Mode::lower(cx, n, &f.at("mode")));
        later(cx, f, LATER);
        Stream { from, mode }
    }

    /// The `output` of a file: a reference, or a map of the keys of a `stream` node.
    pub(crate) fn lower_output(cx: &mut Cx<'_>, node: &doc::Node) -> Self {
        if matches!(node.value, doc::Value::Map(_)) {
            let Some(mut f) = cx.r.fields(node, "output") else {
                return Stream { from: None, mode: Mode::Auto };
            };
            let stream = Stream::lower(cx, &mut f);
            f.finish(&mut cx.r);
            return stream;
        }
        Stream { from: Ref::lower_completions(cx, node, "output"), mode: Mode::Auto }
    }
}

impl Spec for Stream {
    fn canonical(&self) -> Json {
        json!({"from": self.from.as_ref().map(Ref::canonical), "mode": self.mode.as_str()})
    }

    fn reads(&self) -> Vec<Read<'_>> {
        self.from.iter().map(|reference| Read { reference, may_be_absent: false }).collect()
    }

    /// Delivers the completion, after the checks that policies demand and nothing before has run.
    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        let Some(id) = at.rows(self.from.as_slice()).first().copied() else {
            return Begun::done(Resolved::plain(Outcome::Error).note("there is no completion to deliver"));
        };
        let findings = at.demanded(id);
        if findings.is_empty() {
            let end = Some(Box::new(End::Delivered(id)));
            return Begun::done(Resolved { end, ..Resolved::plain(Outcome::Delivered) });
        }
        let message = "the answer broke a rule that forbids its delivery";
        let failure = RunFailure::new("validation", "failed", 422, message);
        let end = Some(Box::new(End::Failed(RunFailure { findings, ..failure })));
        Begun::done(Resolved { end, ..Resolved::plain(Outcome::Rejected) })
    }
}
