//! The variables of the later phases: `tool`, `run`, `response`.

use super::around::{PERSONAL, entities};
use super::table::{Table, Val, leaf};
use super::{Facts, kinds};
use crate::values::{from_json, list};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use types::expr::Type;
use types::privacy::Entity;
use types::{Finding, Usage, Verdict};

/// What a tool does outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SideEffect {
    /// Nothing.
    None,
    /// The same, however often it is called.
    Idempotent,
    /// Anything.
    #[default]
    Unsafe,
}

impl SideEffect {
    /// The strings of variables.
    pub const NAMES: &'static [&'static str] = &["none", "idempotent", "unsafe"];

    /// The string of variables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            SideEffect::None => "none",
            SideEffect::Idempotent => "idempotent",
            SideEffect::Unsafe => "unsafe",
        }
    }
}

const TRUST: &[&str] = &["trusted", "untrusted"];
const VERDICTS: &[&str] = &["passed", "failed", "unverified", "none"];

/// A tool call that is about to be made: the variable `tool`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolCall {
    /// `tool.name`.
    pub name: String,
    /// `tool.side_effect`.
    pub side_effect: SideEffect,
    /// `tool.trust`: whether its results may be taken for more than data.
    pub trusted: bool,
    /// `tool.args`.
    pub args: Value,
    /// `tool.calls_so_far`: tool calls of the run before this one.
    pub calls_so_far: u32,
}

/// The run so far: the variable `run`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunSoFar {
    /// `run.workflow`.
    pub workflow: String,
    /// `run.iterations` of the loop that calls the tool; 0 outside of loops.
    pub iterations: u32,
    /// `run.cost_usd`; `None` = a model was called whose price is not known.
    pub cost_usd: Option<f64>,
    /// `run.calls` of models.
    pub calls: u32,
    /// `run.elapsed_ms`.
    pub elapsed_ms: u64,
}

/// An answer that is about to be delivered: the variable `response`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    /// `response.text`.
    pub text: Arc<str>,
    /// What else goes out and may hold what `response.pii` and `response.secrets` tell of: reasoning, refusals, arguments
    /// of calls.
    pub beside: Vec<String>,
    /// `response.verdict`.
    pub verdict: Verdict,
    /// `response.findings`, and their codes as `response.codes`.
    pub findings: Vec<Finding>,
    /// `response.provider`.
    pub provider: String,
    /// `response.model`, with its provider.
    pub model: String,
    /// `response.finish_reason`.
    pub finish_reason: String,
    /// `response.refused`.
    pub refused: bool,
    /// `response.usage`.
    pub usage: Usage,
    /// `response.cost_usd`; `None` = the price is not known.
    pub cost_usd: Option<f64>,
    /// `response.escalated`: a rule has sent the request on already.
    pub escalated: bool,
}

/// What belongs to a later phase.
#[derive(Clone, Debug)]
pub(crate) struct Later {
    pub(super) run: RunSoFar,
    pub(super) of: Of,
}

#[derive(Clone, Debug)]
pub(super) enum Of {
    Tool(ToolCall),
    Response(Box<Response>, OnceLock<Vec<Entity>>),
}

fn run<'a>(f: &'a Facts, read: impl FnOnce(&'a RunSoFar) -> Val<'a>) -> Val<'a> {
    f.later.as_ref().map_or(Val::Unit, |l| read(&l.run))
}

fn tool<'a>(f: &'a Facts, read: impl FnOnce(&'a ToolCall) -> Val<'a>) -> Val<'a> {
    match f.later.as_deref() {
        Some(Later { of: Of::Tool(t), .. }) => read(t),
        _ => Val::Unit,
    }
}

fn response<'a>(f: &'a Facts, read: impl FnOnce(&'a Response) -> Val<'a>) -> Val<'a> {
    match f.later.as_deref() {
        Some(Later { of: Of::Response(r, _), .. }) => read(r),
        _ => Val::Unit,
    }
}

/// Kinds of values in the answer.
fn found(f: &Facts) -> &[Entity] {
    match f.later.as_deref() {
        Some(Later { of: Of::Response(r, found), .. }) => found.get_or_init(|| {
            let Some(detector) = f.around.detector.as_deref() else { return Vec::new() };
            let texts = std::iter::once(&*r.text).chain(r.beside.iter().map(String::as_str));
            let all: BTreeSet<Entity> = texts.flat_map(|text| kinds(detector, text)).collect();
            all.into_iter().collect()
        }),
        _ => &[],
    }
}

pub(super) static TOOL: Table = Table(&[
    leaf("name", || Type::Str, |f| tool(f, |t| Val::Str(&t.name))),
    leaf("side_effect", || Type::Enum(SideEffect::NAMES), |f| tool(f, |t| t.side_effect.as_str().into())),
    leaf(
        "trust",
        || Type::Enum(TRUST),
        |f| tool(f, |t| Val::Str(if t.trusted { "trusted" } else { "untrusted" })),
    ),
    leaf("args", || Type::Any, |f| tool(f, |t| Val::Made(from_json(&t.args)))),
    leaf("calls_so_far", || Type::Int, |f| tool(f, |t| t.calls_so_far.into())),
]);

pub(super) static RUN: Table = Table(&[
    leaf("workflow", || Type::Str, |f| run(f, |r| Val::Str(&r.workflow))),
    leaf("iterations", || Type::Int, |f| run(f, |r| r.iterations.into())),
    leaf("cost_usd", || Type::Float.optional(), |f| run(f, |r| Val::or_unit(r.cost_usd))),
    leaf("calls", || Type::Int, |f| run(f, |r| r.calls.into())),
    leaf(
        "elapsed_ms",
        || Type::Int,
        |f| run(f, |r| Val::Int(i64::try_from(r.elapsed_ms).unwrap_or(i64::MAX))),
    ),
]);

pub(super) static RESPONSE: Table = Table(&[
    leaf("text", || Type::Str, |f| response(f, |r| Val::Str(&r.text))),
    leaf("verdict", || Type::Enum(VERDICTS), |f| response(f, |r| r.verdict.as_str().into())),
    leaf(
        "findings",
        || Type::Any.list(),
        |f| {
            response(f, |r| {
                let each = r.findings.iter().filter_map(|f| serde_json::to_value(f).ok());
                Val::Made(list(each.map(|v| from_json(&v)).collect()))
            })
        },
    ),
    leaf(
        "codes",
        || Type::Str.list(),
        |f| response(f, |r| Val::Strs(r.findings.iter().map(|f| f.code.as_str()).collect())),
    ),
    leaf("provider", || Type::Str, |f| response(f, |r| Val::Str(&r.provider))),
    leaf("model", || Type::Str, |f| response(f, |r| Val::Str(&r.model))),
    leaf("finish_reason", || Type::Str, |f| response(f, |r| Val::Str(&r.finish_reason))),
    leaf("refused", || Type::Bool, |f| response(f, |r| r.refused.into())),
    leaf("pii", || Type::Enum(PERSONAL).list(), |f| entities(found(f))),
    leaf("secrets", || Type::Bool, |f| found(f).contains(&Entity::Secret).into()),
    super::table::table("usage", &USAGE),
    leaf("cost_usd", || Type::Float.optional(), |f| response(f, |r| Val::or_unit(r.cost_usd))),
    leaf("escalated", || Type::Bool, |f| response(f, |r| r.escalated.into())),
]);

static USAGE: Table = Table(&[
    leaf("input", || Type::Int, |f| response(f, |r| r.usage.input.into())),
    leaf("cached_input", || Type::Int, |f| response(f, |r| r.usage.cached_input.into())),
    leaf("output", || Type::Int, |f| response(f, |r| r.usage.output.into())),
    leaf("reasoning", || Type::Int, |f| response(f, |r| r.usage.reasoning.into())),
]);
