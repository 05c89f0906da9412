//! Values that nodes put out and read: data, references to completions, lists of messages.

use crate::load::{has_type, kind};
use crate::node::Out;
use crate::run::{RowId, Table};
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;
use types::Finding;
use types::chat::Message;
use types::expr::Type;
use types::repair::Strategy;

/// A value within a run.
#[derive(Clone, Debug, Default)]
pub(crate) enum Value {
    /// Unknown, or there is none.
    #[default]
    Nothing,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Arc<str>),
    Json(Arc<Json>),
    /// A completion of the run's table.
    Row(RowId),
    /// Several.
    Rows(Vec<RowId>),
    /// Messages of a conversation.
    Messages(Arc<Vec<Message>>),
    /// Values in order.
    List(Vec<Value>),
    /// Values by name.
    Map(Vec<(Arc<str>, Value)>),
}

/// The type of a value, for static checks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ty {
    /// One completion, or none.
    Completion,
    Completions,
    Messages,
    /// Outputs of nodes, by their ids: what a `loop` had in its last iteration.
    Nodes(Vec<(String, Option<Vec<Out>>)>),
    /// Anything without an identity of its own.
    Data(Type),
}

impl Ty {
    /// Of a value that comes of an expression: completions keep their identity on their way through one.
    pub(crate) fn of(t: Type) -> Ty {
        match &t {
            Type::Map(_) if is_completion(&t) => Ty::Completion,
            Type::Optional(of) if is_completion(of) => Ty::Completion,
            Type::List(of) if is_completion(of) => Ty::Completions,
            _ => Ty::Data(t),
        }
    }

    /// As expressions see it.
    pub(crate) fn expr(&self) -> Type {
        match self {
            Ty::Completion => completion().optional(),
            Ty::Completions => completion().list(),
            Ty::Messages => Type::Any.list(),
            Ty::Nodes(nodes) => Type::Map(
                nodes
                    .iter()
                    .map(|(id, outputs)| (id.clone(), outputs.as_deref().map_or(Type::Any, fields)))
                    .collect(),
            ),
            Ty::Data(t) => t.clone(),
        }
    }

    /// What is read of it where there is none: lists are empty, flags false, counts 0, members as they would be each
    /// for itself, all else is unknown.
    pub(crate) fn absent(&self) -> Json {
        match self.expr() {
            Type::List(_) => Json::Array(Vec::new()),
            Type::Bool => Json::Bool(false),
            Type::Int => Json::from(0),
            Type::Map(members) => members
                .into_iter()
                .map(|(name, t)| (name, Ty::Data(t).absent()))
                .collect::<Map<_, _>>()
                .into(),
            _ => Json::Null,
        }
    }

    /// As expressions see it where it is there.
    fn known(&self) -> Type {
        let mut t = self.expr();
        while let Type::Optional(of) = t {
            t = *of;
        }
        t
    }

    /// What a file may write for it, in words, where that value is none of it. Nothing may stand for anything; completions and
    /// messages are no data that a file could hold.
    pub(crate) fn refuses(&self, v: &Json) -> Option<String> {
        let none = v.is_null() || v.as_array().is_some_and(Vec::is_empty);
        match self {
            _ if v.is_null() => None,
            Ty::Completion | Ty::Nodes(_) => Some("null: a completion comes of a call".to_owned()),
            Ty::Completions => (!none).then(|| "[]: completions come of calls".to_owned()),
            Ty::Messages => (!v.is_array()).then(|| "a list".to_owned()),
            Ty::Data(t) => (!has_type(v, t)).then(|| match self.known() {
                Type::Enum(words) => format!("one of {}", words.join(", ")),
                Type::OneOf(words) => format!("one of {}", words.join(", ")),
                Type::List(of) if v.is_array() => format!("a list whose items are each {}", kind(&of)),
                _ => kind(t).to_owned(),
            }),
        }
    }

    /// Whether it can be text, a list or a map, as far as is known before the run.
    pub(crate) fn may_be_text_or_list(&self) -> bool {
        !matches!(self.known(), Type::Bool | Type::Int | Type::Float)
    }

    /// Whether it can be one completion, several of them or a text, as far as is known before the run.
    pub(crate) fn may_be_said(&self) -> bool {
        self.holds_completions() || matches!(self.known(), Type::Str | Type::Enum(_) | Type::OneOf(_))
    }

    /// Whether it can be the messages of a conversation, as far as is known before the run.
    pub(crate) fn may_be_messages(&self) -> bool {
        match self {
            Ty::Messages => true,
            Ty::Completion | Ty::Completions | Ty::Nodes(_) => false,
            Ty::Data(t) => match t {
                Type::Optional(of) => Ty::Data((**of).clone()).may_be_messages(),
                Type::List(of) => matches!(**of, Type::Any | Type::Map(_)),
                t => *t == Type::Any,
            },
        }
    }

    /// Whether completions may be read from it. Of data whose form is not known before the run, they may.
    pub(crate) fn holds_completions(&self) -> bool {
        match self {
            Ty::Completion | Ty::Completions | Ty::Data(Type::Any) => true,
            Ty::Data(Type::List(of) | Type::Optional(of)) => **of == Type::Any,
            _ => false,
        }
    }

    /// Whether it can be a call that a model has made, as far as is known before the run.
    pub(crate) fn may_be_call(&self) -> bool {
        match self.known() {
            Type::Any => true,
            Type::Map(members) => ["name", "args"].iter().all(|key| members.iter().any(|(k, _)| k == key)),
            _ => false,
        }
    }
}

/// Whether values of a type are completions: it has all that can be read of one.
fn is_completion(t: &Type) -> bool {
    let Type::Map(members) = t else { return false };
    let Type::Map(all) = completion() else { return false };
    all.iter().all(|(name, _)| members.iter().any(|(n, _)| n == name))
}

fn fields(outputs: &[Out]) -> Type {
    Type::Map(outputs.iter().map(|o| (o.name.to_string(), o.ty.expr())).collect())
}

/// What checks have come to.
pub(crate) const VERDICTS: &[&str] = &["passed", "failed", "unverified", "none"];
/// Why an answer ended; `lost`: its stream ended before it did.
const FINISH_REASONS: &[&str] = &["stop", "length", "tool_calls", "content_filter", "lost"];

/// What expressions can read of a completion.
pub(crate) fn completion() -> Type {
    Type::map([
        ("id", Type::Str),
        ("text", Type::Str),
        ("json", Type::Any),
        (
            "tool_calls",
            Type::map([
                ("id", Type::Str),
                ("name", Type::Str),
                ("args_text", Type::Str),
                ("args", Type::Any),
            ])
            .list(),
        ),
        ("finish_reason", Type::Enum(FINISH_REASONS).optional()),
        ("provider", Type::Str),
        ("model", Type::Str),
        ("family", Type::Str),
        ("region", Type::Str.optional()),
        ("params", params()),
        ("cost_usd", Type::Float.optional()),
        ("latency", Type::map([("ttft_ms", Type::Float.optional()), ("total_ms", Type::Float)])),
        ("logprob_mean", Type::Float.optional()),
        ("refused", Type::Bool),
        ("truncated", Type::Bool),
        ("partial", Type::Bool),
        ("quality", Type::Float),
        (
            "validation",
            Type::map([
                ("verdict", Type::Enum(VERDICTS)),
                ("score", Type::Float),
                ("findings", finding().list()),
            ]),
        ),
        ("judge", Type::map([("score", Type::Float.optional()), ("agreement", Type::Float.optional())])),
        (
            "origin",
            Type::map([
                ("node", Type::Str),
                ("index", Type::Int),
                ("attempt", Type::Int),
                ("strategy", Type::Enum(Strategy::NAMES).optional()),
                ("parents", Type::Str.list()),
            ]),
        ),
        (
            "usage",
            Type::map([
                ("input", Type::Int),
                ("cached_input", Type::Int),
                ("output", Type::Int),
                ("reasoning", Type::Int),
                ("estimated", Type::Bool),
            ]),
        ),
    ])
}

/// What a vendor was asked with; unknown = as is usual with the model.
fn params() -> Type {
    Type::map([
        ("temperature", Type::Float.optional()),
        ("top_p", Type::Float.optional()),
        ("max_tokens", Type::Int.optional()),
        ("seed", Type::Int.optional()),
        ("stop", Type::Str.list()),
        ("presence_penalty", Type::Float.optional()),
        ("frequency_penalty", Type::Float.optional()),
        ("reasoning_effort", Type::Str.optional()),
        ("logprobs", Type::Bool),
    ])
}

/// What expressions can read of a finding.
pub(crate) fn finding() -> Type {
    const SEVERITIES: &[&str] = &["warn", "repair", "block"];
    Type::map([
        ("validator", Type::Str),
        ("code", Type::Str),
        ("severity", Type::Enum(SEVERITIES)),
        ("path", Type::Str.optional()),
        ("span", Type::Int.list().optional()),
        ("message", Type::Str),
        ("expected", Type::Any),
        ("actual", Type::Any),
        ("hint", Type::Str.optional()),
    ])
}

/// Findings as expressions read them: every member is there, known or not.
pub(crate) fn findings(all: &[Finding]) -> Vec<Json> {
    let one = |f: &Finding| {
        json!({"validator": f.validator, "code": f.code, "severity": f.severity, "path": f.path, "span": f.span,
            "message": f.message, "expected": f.expected, "actual": f.actual, "hint": f.hint})
    };
    all.iter().map(one).collect()
}

impl Value {
    /// Of a JSON value.
    pub(crate) fn of(json: Json) -> Self {
        match json {
            Json::Null => Value::Nothing,
            Json::Bool(b) => Value::Bool(b),
            Json::Array(l) if l.is_empty() => Value::Rows(Vec::new()),
            Json::String(s) => Value::Text(s.into()),
            other => Value::Json(Arc::new(other)),
        }
    }

    /// A list of data; an empty one costs nothing.
    pub(crate) fn list<T: serde::Serialize>(list: &[T]) -> Self {
        if list.is_empty() {
            return Value::Rows(Vec::new());
        }
        serde_json::to_value(list).map_or(Value::Nothing, Value::of)
    }

    /// Of a number that may be unknown.
    pub(crate) fn float(f: Option<f64>) -> Self {
        f.map_or(Value::Nothing, Value::Float)
    }

    /// Of a completion that may be missing.
    pub(crate) fn row(id: Option<RowId>) -> Self {
        id.map_or(Value::Nothing, Value::Row)
    }

    /// Of a count.
    pub(crate) fn count(n: usize) -> Self {
        Value::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }

    /// Appends the completions it names. Data names one by a completion's `id`: that is how it passes through
    /// expressions without losing its identity.
    pub(crate) fn rows_into(&self, table: &Table, into: &mut Vec<RowId>) {
        if let Value::List(values) = self {
            return values.iter().for_each(|v| v.rows_into(table, into));
        }
        let mut add = |id: RowId| {
            if !into.contains(&id) {
                into.push(id);
            }
        };
        match self {
            Value::Row(id) => add(*id),
            Value::Rows(ids) => ids.iter().copied().for_each(add),
            Value::Json(json) => match &**json {
                Json::Array(list) => list.iter().filter_map(|j| table.named(j)).for_each(add),
                one => table.named(one).into_iter().for_each(add),
            },
            _ => {}
        }
    }

    /// As data.
    pub(crate) fn json(&self, table: &Table) -> Json {
        match self {
            Value::Nothing => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(i) => Json::from(*i),
            Value::Float(f) => Json::from(*f),
            Value::Text(t) => Json::String(t.to_string()),
            Value::Json(j) => (**j).clone(),
            Value::Row(id) => table.json(*id),
            Value::Rows(ids) => Json::Array(ids.iter().map(|id| table.json(*id)).collect()),
            Value::Messages(m) => serde_json::to_value(&**m).unwrap_or(Json::Null),
            Value::List(l) => Json::Array(l.iter().map(|v| v.json(table)).collect()),
            Value::Map(m) => Json::Object(m.iter().map(|(k, v)| (k.to_string(), v.json(table))).collect()),
        }
    }

    /// As data for others than expressions: a completion stands as what it says, parsed if that is JSON.
    pub(crate) fn data(&self, table: &Table) -> Json {
        match self {
            Value::Row(id) => {
                let text = table.row(*id).map_or("", |r| r.completion.text());
                validators::fix::value(text).unwrap_or_else(|| Json::from(text))
            }
            Value::Rows(ids) => ids.iter().map(|id| Value::Row(*id).data(table)).collect(),
            Value::List(l) => l.iter().map(|v| v.data(table)).collect(),
            other => other.json(table),
        }
    }

    /// As text: of completions what they say, of data its JSON.
    pub(crate) fn text(&self, table: &Table) -> String {
        match self {
            Value::Nothing => String::new(),
            Value::Text(t) => t.to_string(),
            Value::Row(id) => table.row(*id).map(|r| r.completion.text().to_owned()).unwrap_or_default(),
            Value::Json(j) => match j.get("text").and_then(Json::as_str) {
                // A completion that came through an expression.
                Some(text) if table.named(j).is_some() => text.to_owned(),
                _ => j.to_string(),
            },
            other => other.data(table).to_string(),
        }
    }

    /// The items of a list; `None` if it is none.
    pub(crate) fn items(&self, table: &Table) -> Option<Vec<Value>> {
        Some(match self {
            Value::Rows(ids) => ids.iter().map(|id| Value::Row(*id)).collect(),
            Value::List(l) => l.clone(),
            Value::Messages(_) => match self.json(table) {
                Json::Array(l) => l.into_iter().map(Value::of).collect(),
                _ => return None,
            },
            Value::Json(j) => match &**j {
                Json::Array(l) => l.iter().cloned().map(Value::of).collect(),
                _ => return None,
            },
            _ => return None,
        })
    }

    /// The messages of a conversation; `None` if it is none.
    pub(crate) fn messages(&self) -> Option<Vec<Message>> {
        match self {
            Value::Messages(m) => Some((**m).clone()),
            Value::Json(j) => messages(j),
            _ => None,
        }
    }

    /// A part of it, as data; nothing where the path leads nowhere.
    pub(crate) fn part(&self, path: &[Step], table: &Table) -> Value {
        let Some((first, rest)) = path.split_first() else { return self.clone() };
        match (self, first) {
            (Value::Rows(ids), Step::At(i)) => {
                let row = at(*i, ids.len()).and_then(|i| ids.get(i)).copied();
                Value::row(row).part(rest, table)
            }
            (Value::List(l), Step::At(i)) => {
                let item = at(*i, l.len()).and_then(|i| l.get(i));
                item.map(|v| v.part(rest, table)).unwrap_or_default()
            }
            (Value::Map(m), Step::Key(k)) => {
                let member = m.iter().find(|(name, _)| **name == **k);
                member.map(|(_, v)| v.part(rest, table)).unwrap_or_default()
            }
            _ => {
                let json = self.json(table);
                let found = path.iter().try_fold(&json, |j, step| step.of(j));
                found.cloned().map_or(Value::Nothing, Value::of)
            }
        }
    }

    /// The first completion that a path into the value leads to or through.
    pub(crate) fn row_on(&self, path: &[Step], table: &Table) -> Option<RowId> {
        match (self, path) {
            (Value::Row(id), _) => Some(*id),
            (Value::Rows(ids), [Step::At(i), ..]) => ids.get(at(*i, ids.len())?).copied(),
            (Value::List(l), [Step::At(i), rest @ ..]) => l.get(at(*i, l.len())?)?.row_on(rest, table),
            (Value::Map(m), [Step::Key(k), rest @ ..]) => {
                m.iter().find(|(name, _)| **name == **k)?.1.row_on(rest, table)
            }
            (Value::Json(json), _) => {
                let mut steps = path.iter();
                let way = std::iter::successors(Some(&**json), |j| steps.next()?.of(j));
                way.filter_map(|j| table.named(j)).next()
            }
            _ => None,
        }
    }
}

/// One step of a path into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(Box<str>),
    /// A position; below 0: from the end.
    At(i64),
}

impl Step {
    fn of<'j>(&self, json: &'j Json) -> Option<&'j Json> {
        match (self, json) {
            (Step::Key(k), Json::Object(m)) => m.get(&**k),
            (Step::At(i), Json::Array(l)) => l.get(at(*i, l.len())?),
            _ => None,
        }
    }
}

fn at(i: i64, len: usize) -> Option<usize> {
    let from_end = usize::try_from(i.unsigned_abs()).ok()?;
    if i < 0 { len.checked_sub(from_end) } else { Some(from_end) }
}

/// Messages in their wire form.
fn messages(json: &Json) -> Option<Vec<Message>> {
    let body = json!({"model": "auto", "messages": json});
    types::ChatRequest::from_value(&body).ok().map(|r| r.messages)
}
