//! Arguments of policy calls as document nodes, so that scripts and YAML share one reader per verb.

use crate::report;
use crate::sandbox::place;
use rhai::{Expr, Position};
use serde_json::Value as Json;
use types::doc::{Key, Node, SourceFile, Span, Style, Value};

/// The place of what is not written out; problems there are not problems of the text.
pub(crate) const UNKNOWN: Span = Span { line: 0, column: 0, start: 0, end: 0 };

/// A value that was computed, all of it at one place.
pub(crate) fn from_json(value: &Json, span: Span) -> Node {
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match n.as_i64() {
            Some(i) => Value::Int(i),
            None => Value::Float(n.as_f64().unwrap_or(f64::MAX)),
        },
        Json::String(s) => Value::Str(s.clone()),
        Json::Array(a) => Value::List(a.iter().map(|v| from_json(v, span)).collect()),
        Json::Object(o) => {
            Value::Map(o.iter().map(|(k, v)| (Key { name: k.clone(), span }, from_json(v, span))).collect())
        }
    };
    Node { value, span, style: Style::Folded }
}

/// What is written out of an argument; the rest stands at [`UNKNOWN`].
pub(crate) fn from_expr(expr: &Expr, file: &SourceFile, call: Span) -> Node {
    let at = |position: Position| {
        let (line, column) = place(position);
        if position.is_none() { call } else { report::span(file, line, column) }
    };
    // Only a string on one line without escapes can be mapped character by character.
    let string = |s: &str, position: Position| {
        let span = at(position);
        let plain = file
            .text
            .get(span.start..)
            .is_some_and(|rest| rest.strip_prefix('"').is_some_and(|r| r.starts_with(s)));
        Node {
            value: Value::Str(s.to_owned()),
            span,
            style: if plain { Style::Quoted } else { Style::Folded },
        }
    };
    let node = |value: Value, position: Position| Node { value, span: at(position), style: Style::Plain };
    match expr {
        Expr::BoolConstant(b, p) => node(Value::Bool(*b), *p),
        Expr::IntegerConstant(i, p) => node(Value::Int(*i), *p),
        Expr::FloatConstant(f, p) => node(Value::Float(**f), *p),
        Expr::StringConstant(s, p) => string(s, *p),
        Expr::Array(items, p) => {
            node(Value::List(items.iter().map(|i| from_expr(i, file, call)).collect()), *p)
        }
        Expr::Map(fields, p) => {
            let members = fields.0.iter().map(|(name, value)| {
                let key = Key { name: name.name.to_string(), span: at(name.pos) };
                (key, from_expr(value, file, call))
            });
            node(Value::Map(members.collect()), *p)
        }
        Expr::FnCall(f, p) if f.name.as_str() == "-" && f.args.len() == 1 => match f.args.first() {
            Some(Expr::IntegerConstant(i, _)) => node(Value::Int(i.saturating_neg()), *p),
            Some(Expr::FloatConstant(x, _)) => node(Value::Float(-**x), *p),
            _ => unknown(),
        },
        _ => unknown(),
    }
}

/// A value that was computed, each part of it at the place where it is written out, as far as it is.
pub(crate) fn placed(mut value: Node, written: &Node) -> Node {
    if written.span == UNKNOWN {
        return value;
    }
    value.span = written.span;
    value.value = match (value.value, &written.value) {
        (Value::Map(members), Value::Map(own)) => {
            let member = |(key, value): (Key, Node)| match own.iter().find(|(k, _)| k.name == key.name) {
                Some((k, w)) => (k.clone(), placed(value, w)),
                None => (key, value),
            };
            Value::Map(members.into_iter().map(member).collect())
        }
        (Value::List(items), Value::List(own)) if items.len() == own.len() => {
            Value::List(items.into_iter().zip(own).map(|(item, w)| placed(item, w)).collect())
        }
        (value, _) => value,
    };
    value
}

fn unknown() -> Node {
    Node { value: Value::Null, span: UNKNOWN, style: Style::Folded }
}
