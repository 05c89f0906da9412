//! `stream`: the one way to the client.

use super::{Output, Resolved};
use crate::load::{Cx, later};
use crate::outcome::Outcome;
use crate::reference::Ref;
use crate::run::{Host, State};
use serde_json::{Value, json};
use std::sync::Arc;
use types::doc::{self, Fields};
use types::run::Severity;

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
    pub(crate) fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let from = f.require(&mut cx.r, "from").and_then(|n| Ref::lower(cx, n, &f.at("from")));
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
        Stream { from: Ref::lower(cx, node, "output"), mode: Mode::Auto }
    }

    pub(crate) fn canonical(&self, ids: &[Arc<str>]) -> Value {
        json!({"from": self.from.map(|r| r.canonical(ids)), "mode": self.mode.as_str()})
    }

    /// The completion that is delivered, after the checks that policies demand and nothing before has run.
    pub(crate) fn run(&self, host: &Host<'_>, state: &mut State) -> Resolved {
        let found = self.from.and_then(|r| state.read(&[r]).first().copied());
        let Some(id) = found else {
            let note = Some("there is no completion to deliver".to_owned());
            return Resolved { note, ..Resolved::plain(Outcome::Error) };
        };
        let Some(row) = state.row_mut(id) else { return Resolved::plain(Outcome::Error) };
        if !host.extras.is_empty() && !row.extras {
            let checked = host.check(&host.extras, &row.completion);
            row.join(checked);
        }
        let blocked = row.findings.iter().any(|f| f.severity == Severity::Block);
        Resolved {
            outcome: if blocked { Outcome::Rejected } else { Outcome::Delivered },
            output: Output { completions: vec![id], ..Output::default() },
            findings: Vec::new(),
            note: None,
        }
    }
}
