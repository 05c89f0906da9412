//! `stream`: the one way to the client.

use super::validate::Suite;
use super::{Begun, NodeResult, NodeSpec, NodeType, Out, Read, Resolved, Spec, repair};
use crate::canonical::unusual;
use crate::ending::{Class, RunFailure};
use crate::load::{Checks, Cx};
use crate::outcome::Outcome;
use crate::reference::Ref;
use crate::run::{At, End, Progress, Row, RowId, Sent, of_answer};
use crate::value::{Ty, Value};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use std::time::Duration;
use types::doc::{self, Fields};
use types::expr::Type;
use types::run::Severity;
use types::{Finding, Verdict};

mod wire;

pub(crate) use wire::Window;
pub use wire::{Trailer, Wire};

pub(crate) static TYPE: NodeType = NodeType {
    outcomes: &[Outcome::Delivered, Outcome::Rejected],
    words: &["delivered", "rejected", "error", "timeout", "cancelled", "skipped"],
    timeout: Duration::from_secs(5),
    sink: true,
    outputs: |_| {
        vec![
            Out::data("bytes", Type::Int),
            Out::data("chunks", Type::Int),
            Out::data("first_byte_ms", Type::Float.optional()),
        ]
    },
    ..NodeType::of(|cx, f| NodeSpec::Stream(Box::new(Stream::lower(cx, f))))
};

/// When the client sees the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As the checks that apply to the request allow.
    Auto,
    /// After everything.
    Buffered,
    /// Window by window, each once nothing to come can make it wrong.
    Windowed,
    /// At once; the verdict comes at the end.
    Optimistic,
    /// At once; the checks are for the record.
    Passthrough,
}

impl Mode {
    const NAMES: &'static [&'static str] = &["auto", "buffered", "windowed", "optimistic", "passthrough"];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Buffered => "buffered",
            Mode::Windowed => "windowed",
            Mode::Optimistic => "optimistic",
            Mode::Passthrough => "passthrough",
        }
    }

    /// Whether the author asks for text to flow before the answer is whole.
    pub(crate) const fn flows(self) -> bool {
        matches!(self, Mode::Windowed | Mode::Optimistic | Mode::Passthrough)
    }

    fn lower(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Mode {
        match cx.r.one_of(n, path, Mode::NAMES) {
            Some("buffered") => Mode::Buffered,
            Some("windowed") => Mode::Windowed,
            Some("optimistic") => Mode::Optimistic,
            Some("passthrough") => Mode::Passthrough,
            _ => Mode::Auto,
        }
    }
}

/// What becomes of an answer that fails once it has been shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Late {
    /// The verdict says so.
    Annotate,
    /// The stream ends with an error.
    Error,
    /// An error if what fails must never be delivered, else the verdict.
    #[default]
    BySeverity,
}

impl Late {
    /// Whether an answer with this finding ends with an error.
    pub(crate) fn is_error(self, finding: &Finding) -> bool {
        match self {
            Late::Annotate => false,
            Late::Error => finding.severity > Severity::Warn,
            Late::BySeverity => finding.severity == Severity::Block,
        }
    }

    fn lower(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Late {
        match cx.r.one_of(n, path, &["annotate", "error"]) {
            Some("annotate") => Late::Annotate,
            Some(_) => Late::Error,
            None => Late::BySeverity,
        }
    }
}

/// What a file says of it.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// `None` only in a file with errors.
    pub(crate) from: Option<Ref>,
    pub(crate) mode: Mode,
    /// Its own checks, beside those before it.
    pub(crate) checks: Checks,
    pub(crate) late: Late,
    /// The pieces in which it goes out, where it is watched on the way.
    pub(crate) window: Option<Window>,
    /// What may go out together goes out as one piece, rather than in the pieces in which it came.
    pub(crate) burst: bool,
    pub(crate) wire: Wire,
}

impl Stream {
    fn of(from: Option<Ref>) -> Self {
        let (checks, late, wire) = (Checks::default(), Late::default(), Wire::default());
        Stream { from, mode: Mode::Auto, checks, late, window: None, burst: false, wire }
    }

    fn lower(cx: &mut Cx<'_>, f: &mut Fields<'_>) -> Self {
        let from = f.require(&mut cx.r, "from").and_then(|n| said(cx, n, &f.at("from")));
        let mode = f.take("mode").map_or(Mode::Auto, |n| Mode::lower(cx, n, &f.at("mode")));
        let checks = f.take("validators").map(|n| (n.span, Checks::lower(cx, n, &f.at("validators"))));
        if let Some((span, checks)) = &checks {
            streams(cx, *span, checks, &f.at("validators"));
        }
        let late = f
            .take("on_late_failure")
            .map_or(Late::default(), |n| Late::lower(cx, n, &f.at("on_late_failure")));
        let window = f.take("window").and_then(|n| {
            if !matches!(mode, Mode::Auto | Mode::Windowed) {
                let d = cx.r.error(
                    "104",
                    n.span,
                    format!("`window` says nothing where mode is {}", mode.as_str()),
                );
                d.expected = Some("mode: windowed, or auto".to_owned());
                d.field = f.at("window");
            }
            Window::lower(cx, n, &f.at("window"))
        });
        // Who says `windowed` gets windows; `auto` lets text go as soon as its checks do.
        let window = window.or((mode == Mode::Windowed).then_some(Window::USUAL));
        let pace = f.take("pace").and_then(|n| cx.r.one_of(n, &f.at("pace"), &["burst", "chunked"]));
        let (burst, wire) = (pace == Some("burst"), Wire::lower(cx, f));
        Stream { from, mode, checks: checks.map(|(_, c)| c).unwrap_or_default(), late, window, burst, wire }
    }

    /// The `output` of a file: a reference, or a map of the keys of a `stream` node.
    pub(crate) fn lower_output(cx: &mut Cx<'_>, node: &doc::Node) -> Self {
        if matches!(node.value, doc::Value::Map(_)) {
            let Some(mut f) = cx.r.fields(node, "output") else {
                return Stream::of(None);
            };
            let stream = Stream::lower(cx, &mut f);
            f.finish(&mut cx.r);
            return stream;
        }
        Stream::of(said(cx, node, "output"))
    }

    /// What its own checks find against an answer.
    pub(crate) fn own(&self, at: &At<'_>, id: RowId) -> Vec<Finding> {
        if self.checks.is_empty() {
            return Vec::new();
        }
        let suite = Suite::of(at, &self.checks, false);
        let mut table = at.host.table();
        let Some(row) = table.row_mut(id) else { return Vec::new() };
        let checked = suite.at_once(&row.completion);
        let failed = checked.report.verdict == Verdict::Failed;
        row.join(checked);
        if failed { row.findings.clone() } else { Vec::new() }
    }
}

/// What it puts out, of what has gone out through it.
pub(crate) fn told(sent: Sent) -> Vec<Value> {
    vec![Value::of(json!(sent.bytes)), Value::of(json!(sent.chunks)), Value::of(json!(sent.first_ms))]
}

/// Why there is no completion to deliver.
fn nothing(at: &At<'_>, from: Option<&Ref>) -> RunFailure {
    let source = from.and_then(Ref::own_node).map(|node| at.frame.progress(node));
    let failure = match source {
        Some(Progress::Resolved { outcome: Outcome::NoConsensus, .. }) => RunFailure::no_consensus(),
        _ => RunFailure::new(Class::Validation, "failed", "there is no completion to deliver"),
    };
    RunFailure { findings: at.host.table().worst_findings(), ..failure }
}

/// An answer that goes out in one piece, as its sink begins.
fn whole(at: &At<'_>, id: RowId) -> Sent {
    let bytes = at.host.table().row(id).map_or(0, |row| of_answer(&row.completion));
    let started = at.frame.with(at.position, |c| c.started_ms);
    Sent { bytes, chunks: 1, first_ms: started }
}

/// A reference to what is delivered.
fn said(cx: &mut Cx<'_>, node: &doc::Node, path: &str) -> Option<Ref> {
    Ref::lower_to(cx, node, path, (Ty::may_be_said, "a completion or a text"))
}

/// Whether a check can look at text that flows.
pub(crate) fn watches(name: &str) -> bool {
    let entry = validators::entries().iter().find(|e| e.name == name);
    entry.is_some_and(|e| e.stream.starts_with("window") || e.stream.starts_with("head"))
}

/// The checks of a sink look at text that flows: each must be able to.
fn streams(cx: &mut Cx<'_>, span: doc::Span, checks: &Checks, path: &str) {
    let whole = checks.list.iter().map(|c| c.name()).find(|name| !watches(name));
    if let Some(t) = checks.timed.first() {
        let d = cx.r.error(
            "104",
            span,
            format!("`{}` has a `timeout`, and text that flows does not wait", t.check.name()),
        );
        d.hint =
            Some("leave `timeout` out, or put the check into a validate node before the stream".to_owned());
        path.clone_into(&mut d.field);
    }
    if let Some(name) = whole.or_else(|| checks.outside.first().map(|o| o.what.name())) {
        let d = cx.r.error("411", span, format!("`{name}` needs the whole answer, and cannot watch it flow"));
        d.hint = Some("put it into a validate node before the stream".to_owned());
        path.clone_into(&mut d.field);
    }
}

impl Spec for Stream {
    fn canonical(&self) -> Json {
        json!({
            "from": self.from.as_ref().map(Ref::canonical), "mode": self.mode.as_str(),
            "checks": self.checks.canonical, "late": self.late,
            "window": self.window, "burst": self.burst, "wire": unusual(&self.wire),
        })
    }

    fn given(&self, _: &mut Map<String, Json>) -> Result<Outcome, String> {
        // Nothing has been delivered.
        Ok(Outcome::Rejected)
    }

    fn reads(&self) -> Vec<Read<'_>> {
        let from = self.from.iter().map(|reference| Read { reference, may_be_absent: false });
        from.chain(self.checks.reads()).collect()
    }

    /// Delivers the completion, repaired first where it fails what policies demand.
    fn start<'a>(&'a self, at: At<'a>) -> Begun<'a> {
        let Some(id) = at.answers(self.from.as_slice()).first().copied() else {
            return Begun::Done(Err(nothing(&at, self.from.as_ref()).into()));
        };
        let findings = self.own(&at, id);
        if !findings.is_empty() || !fails_demands(&at, id) {
            return Begun::Done(deliver(&at, id, findings));
        }
        Begun::waits(async move {
            let id = repair::of_demands(&at, id).await;
            deliver(&at, id, Vec::new())
        })
    }
}

/// Whether an answer fails what policies demand and nothing before has checked: then it is repaired, as it is where a
/// workflow checks and repairs by itself.
fn fails_demands(at: &At<'_>, id: RowId) -> bool {
    let fails = |row: &Row| row.doomed || row.verdict == Verdict::Failed;
    let unseen = at.host.table().row(id).is_some_and(|row| !row.extras && !fails(row));
    if !unseen || at.host.extras.is_empty() {
        return false;
    }
    // What forbids delivery is told once more of what is delivered in the end.
    drop(at.demanded(id));
    at.host.table().row(id).is_some_and(fails)
}

/// Delivers an answer with what its own checks found against it, after the checks that policies demand and nothing before
/// has run.
fn deliver(at: &At<'_>, id: RowId, mut findings: Vec<Finding>) -> NodeResult {
    if findings.is_empty() {
        findings = at.demanded(id);
    }
    let doomed = at.host.table().row(id).filter(|r| r.doomed).map(|r| r.findings.clone());
    if let Some(found) = doomed {
        findings = found;
    }
    if findings.is_empty() {
        let end = Some(Box::new(End::Delivered(id)));
        let outputs = told(whole(at, id));
        return Ok(Resolved { end, ..Resolved::with(Outcome::Delivered, outputs) });
    }
    let failure = at.host.no_answer(at.frame, "the answer broke a rule that forbids its delivery");
    let end = Some(Box::new(End::Failed(RunFailure { findings, ..failure })));
    Ok(Resolved { end, ..Resolved::plain(Outcome::Rejected) })
}
