//! Types of nodes: what files may say of them, and how they run. One file each.

use crate::edge::{self, Edge};
use crate::load::{Cx, Expr, later};
use crate::outcome::{Outcome, OutcomeSet};
use crate::reference::{Field, Ref};
use crate::run::RowId;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use types::Finding;
use types::doc::{self, Fields, Span};

pub(crate) mod fail;
pub(crate) mod generate;
pub(crate) mod judge;
pub(crate) mod repair;
pub(crate) mod select;
pub(crate) mod stream;
pub(crate) mod validate;

/// A type of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    Generate,
    Validate,
    Repair,
    Judge,
    Select,
    Stream,
    Fail,
}

/// Types of the format that come later.
const LATER: &[&str] = &["classify", "tool", "merge", "loop", "map", "call", "gate", "set"];

impl Tag {
    const NAMES: &'static [&'static str] =
        &["generate", "validate", "repair", "judge", "select", "stream", "fail"];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Tag::Generate => "generate",
            Tag::Validate => "validate",
            Tag::Repair => "repair",
            Tag::Judge => "judge",
            Tag::Select => "select",
            Tag::Stream => "stream",
            Tag::Fail => "fail",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "generate" => Tag::Generate,
            "validate" => Tag::Validate,
            "repair" => Tag::Repair,
            "judge" => Tag::Judge,
            "select" => Tag::Select,
            "stream" => Tag::Stream,
            "fail" => Tag::Fail,
            _ => return None,
        })
    }

    /// Every completed outcome that edges may name.
    pub(crate) const fn outcomes(self) -> &'static [Outcome] {
        match self {
            Tag::Generate => &[Outcome::Ok, Outcome::ToolCalls, Outcome::Refused, Outcome::Truncated],
            Tag::Validate => &[Outcome::Passed, Outcome::Unverified, Outcome::Failed],
            Tag::Repair => &[Outcome::Repaired, Outcome::Exhausted],
            Tag::Judge => &[Outcome::Scored, Outcome::Passed, Outcome::Failed, Outcome::Abstained],
            Tag::Select => &[Outcome::Selected, Outcome::NoConsensus, Outcome::None],
            Tag::Stream => &[Outcome::Delivered, Outcome::Rejected],
            Tag::Fail => &[Outcome::Failed],
        }
    }

    /// Names of all outcomes, for the type of `nodes.<id>.outcome`.
    pub(crate) const fn outcome_names(self) -> &'static [&'static str] {
        match self {
            Tag::Generate => {
                &["ok", "tool_calls", "refused", "truncated", "error", "timeout", "cancelled", "skipped"]
            }
            Tag::Validate => &["passed", "unverified", "failed", "error", "timeout", "cancelled", "skipped"],
            Tag::Repair => &["repaired", "exhausted", "error", "timeout", "cancelled", "skipped"],
            Tag::Judge => {
                &["scored", "passed", "failed", "abstained", "error", "timeout", "cancelled", "skipped"]
            }
            Tag::Select => &["selected", "no_consensus", "none", "error", "timeout", "cancelled", "skipped"],
            Tag::Stream => &["delivered", "rejected", "error", "timeout", "cancelled", "skipped"],
            Tag::Fail => &["failed", "error", "timeout", "cancelled", "skipped"],
        }
    }

    /// Ends the run.
    pub(crate) const fn is_sink(self) -> bool {
        matches!(self, Tag::Stream | Tag::Fail)
    }

    const fn timeout(self) -> Duration {
        Duration::from_secs(match self {
            Tag::Generate => 60,
            Tag::Judge => 30,
            // A repair makes up to four calls, each of which ends by itself.
            Tag::Repair => 120,
            Tag::Validate => 10,
            Tag::Select | Tag::Stream | Tag::Fail => 5,
        })
    }
}

/// When a node starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Join {
    All,
    Strict,
    Any,
    AtLeast(u32),
}

/// What a node does.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Generate(generate::Generate),
    Validate(validate::Validate),
    Repair(repair::Repair),
    Judge(judge::Judge),
    Select(select::Select),
    Stream(stream::Stream),
    Fail(fail::Fail),
}

/// A checked node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: Arc<str>,
    pub(crate) tag: Tag,
    /// The type's name, shared with the record.
    pub(crate) kind_name: Arc<str>,
    pub(crate) span: Span,
    pub(crate) join: Join,
    pub(crate) guard: Option<Expr>,
    pub(crate) enabled: bool,
    pub(crate) timeout: Duration,
    /// `on_error: skip`.
    pub(crate) skip_on_error: bool,
    /// Codes silenced here.
    pub(crate) lint: Vec<String>,
    pub(crate) kind: Kind,
}

impl Node {
    /// The completed outcomes that can occur with these settings.
    pub(crate) fn possible(&self) -> OutcomeSet {
        match &self.kind {
            Kind::Judge(j) => j.possible(),
            Kind::Select(s) => s.possible(),
            _ => OutcomeSet::of(self.tag.outcomes()),
        }
    }

    /// References to completions, with whether a source that did not run simply contributes nothing.
    pub(crate) fn refs(&self) -> (Vec<Ref>, bool) {
        match &self.kind {
            Kind::Validate(v) => (v.input.clone(), false),
            Kind::Repair(r) => (r.input.clone(), false),
            Kind::Judge(j) => (j.input.clone(), false),
            Kind::Select(s) => (s.from.clone(), true),
            Kind::Stream(s) => (s.from.into_iter().collect(), false),
            Kind::Generate(_) | Kind::Fail(_) => (Vec::new(), true),
        }
    }

    /// Most model calls of one run of it.
    pub(crate) fn max_calls(&self) -> u32 {
        if !self.enabled {
            return 0;
        }
        match &self.kind {
            Kind::Generate(g) => g.samples,
            Kind::Repair(r) => r.max_attempts,
            // Each sample may be asked for twice.
            Kind::Judge(j) => j.samples.saturating_mul(2),
            _ => 0,
        }
    }

    /// For the hash of the plan: everything that changes what happens.
    pub(crate) fn canonical(&self, ids: &[Arc<str>]) -> Value {
        let kind = match &self.kind {
            Kind::Generate(k) => k.canonical(),
            Kind::Validate(k) => k.canonical(ids),
            Kind::Repair(k) => k.canonical(ids),
            Kind::Judge(k) => k.canonical(ids),
            Kind::Select(k) => k.canonical(ids),
            Kind::Stream(k) => k.canonical(ids),
            Kind::Fail(k) => k.canonical(),
        };
        json!({
            "id": &*self.id, "type": self.tag.as_str(), "join": format!("{:?}", self.join),
            "when": self.guard.as_ref().map(Expr::source), "enabled": self.enabled,
            "timeout_ms": u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
            "skip_on_error": self.skip_on_error, "spec": kind,
        })
    }

    /// Reads a node; its `needs` become edges.
    pub(crate) fn lower(
        cx: &mut Cx<'_>,
        node: &doc::Node,
        index: usize,
        into: &mut Vec<Edge>,
    ) -> Option<Node> {
        let path = format!("nodes[{index}]");
        let mut f = cx.r.fields(node, &path)?;
        let id = f.require(&mut cx.r, "id").and_then(|n| cx.r.ident(n, &f.at("id")));
        let tag = f.require(&mut cx.r, "type").and_then(|n| tag(cx, n, &f.at("type")));
        let (Some(id), Some(tag)) = (id, tag) else { return None };
        if let Some(n) = f.take("title") {
            cx.r.string(n, &f.at("title"));
        }
        if let Some(n) = f.take("needs") {
            edge::lower_needs(cx, n, index, &f.at("needs"), into);
        }
        let join = f.take("join").map_or(Join::All, |n| join(cx, n, &f.at("join")));
        let guard = f.take("when").and_then(|n| cx.condition(n, &f.at("when")));
        let enabled = f.take("enabled").and_then(|n| cx.r.boolean(n, &f.at("enabled"))).unwrap_or(true);
        let timeout =
            f.take("timeout").and_then(|n| cx.r.duration(n, &f.at("timeout"))).unwrap_or(tag.timeout());
        let skip_on_error = f.take("on_error").is_some_and(|n| on_error(cx, n, &f.at("on_error")));
        if let Some(n) = f.take("labels") {
            cx.r.map(n, &f.at("labels"));
        }
        let lint = f.take("lint").map(|n| lint(cx, n, &f.at("lint"))).unwrap_or_default();
        later(cx, &mut f, &["budget", "retry", "cache", "async"]);
        let kind = match tag {
            Tag::Generate => Kind::Generate(generate::Generate::lower(cx, &mut f)),
            Tag::Validate => Kind::Validate(validate::Validate::lower(cx, &mut f)),
            Tag::Repair => Kind::Repair(repair::Repair::lower(cx, &mut f)),
            Tag::Judge => Kind::Judge(judge::Judge::lower(cx, &mut f)),
            Tag::Select => Kind::Select(select::Select::lower(cx, &mut f)),
            Tag::Stream => Kind::Stream(stream::Stream::lower(cx, &mut f)),
            Tag::Fail => Kind::Fail(fail::Fail::lower(cx, &mut f)),
        };
        let span = f.span;
        f.finish(&mut cx.r);
        Some(Node {
            id: id.into(),
            tag,
            kind_name: tag.as_str().into(),
            span,
            join,
            guard,
            enabled,
            timeout,
            skip_on_error,
            lint,
            kind,
        })
    }
}

fn tag(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Option<Tag> {
    if let Some(name) = n.as_str().filter(|s| LATER.contains(s)) {
        cx.unsupported(n.span, &format!("type: {name}"));
        return None;
    }
    cx.r.one_of(n, path, Tag::NAMES).and_then(Tag::parse)
}

fn join(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Join {
    if matches!(n.value, doc::Value::Map(_)) {
        let Some(mut f) = cx.r.fields(n, path) else { return Join::All };
        let least = f
            .require(&mut cx.r, "at_least")
            .and_then(|n| cx.r.integer(n, &f.at("at_least"), 1, 64))
            .and_then(|n| u32::try_from(n).ok());
        f.finish(&mut cx.r);
        return least.map_or(Join::All, Join::AtLeast);
    }
    match cx.r.one_of(n, path, &["all", "strict", "any"]) {
        Some("strict") => Join::Strict,
        Some("any") => Join::Any,
        _ => Join::All,
    }
}

fn on_error(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> bool {
    if matches!(n.value, doc::Value::Map(_)) {
        cx.unsupported(n.span, "on_error: {value: …}");
        return false;
    }
    cx.r.one_of(n, path, &["fail", "skip"]) == Some("skip")
}

fn lint(cx: &mut Cx<'_>, n: &doc::Node, path: &str) -> Vec<String> {
    let Some(mut f) = cx.r.fields(n, path) else { return Vec::new() };
    let codes = f.take("allow").and_then(|n| cx.r.strings(n, &f.at("allow"))).unwrap_or_default();
    f.finish(&mut cx.r);
    codes
}

/// A whole number in a range as `u32`, or the default.
pub(crate) fn count(
    cx: &mut Cx<'_>,
    f: &mut Fields<'_>,
    key: &'static str,
    range: (u32, u32),
    default: u32,
) -> u32 {
    let Some(n) = f.take(key) else { return default };
    let found = cx.r.integer(n, &f.at(key), i64::from(range.0), i64::from(range.1));
    found.and_then(|i| u32::try_from(i).ok()).unwrap_or(default)
}

/// Outputs of a node that hold completions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) completions: Vec<RowId>,
    pub(crate) passing: Vec<RowId>,
    pub(crate) usable: Vec<RowId>,
    pub(crate) failing: Vec<RowId>,
    pub(crate) best: Option<RowId>,
    pub(crate) runner_up: Option<RowId>,
    /// Everything else that expressions may read, beside the common fields.
    pub(crate) facts: Facts,
}

/// Facts of a resolved node for expressions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) score: Option<f64>,
    pub(crate) agreement: Option<f64>,
    pub(crate) count: usize,
    pub(crate) strategy: Option<String>,
    pub(crate) unverified: Vec<&'static str>,
}

impl Output {
    pub(crate) fn read(&self, field: Field) -> &[RowId] {
        match field {
            Field::Completions => &self.completions,
            Field::Completion => self.completions.get(..1).unwrap_or(&[]),
            Field::Passing => &self.passing,
            Field::Usable => &self.usable,
            Field::Failing => &self.failing,
            Field::Best => self.best.as_slice(),
            Field::RunnerUp => self.runner_up.as_slice(),
        }
    }
}

/// How a node resolved.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) outcome: Outcome,
    pub(crate) output: Output,
    pub(crate) findings: Vec<Finding>,
    pub(crate) note: Option<String>,
}

impl Resolved {
    pub(crate) fn plain(outcome: Outcome) -> Self {
        Resolved { outcome, output: Output::default(), findings: Vec::new(), note: None }
    }
}
