//! Fields of the request's variables: name, type and value of each, in one place, read only when asked for.

use super::Facts;
use crate::values::{self, Record};
use rhai::Dynamic;
use std::sync::Arc;
use types::expr::Type;

/// A value as it stands in the request, not yet in the engine's form.
pub(crate) enum Val<'a> {
    Unit,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'a str),
    Strs(Vec<&'a str>),
    /// A map with fields of its own.
    Table(&'static Table),
    /// Anything else.
    Made(Dynamic),
}

impl<'a> Val<'a> {
    /// The value, or `()`.
    pub(crate) fn or_unit(value: Option<impl Into<Val<'a>>>) -> Val<'a> {
        value.map_or(Val::Unit, Into::into)
    }

    /// In the engine's form.
    pub(crate) fn made(self, facts: &Arc<Facts>) -> Dynamic {
        match self {
            Val::Unit => Dynamic::UNIT,
            Val::Bool(b) => b.into(),
            Val::Int(i) => i.into(),
            Val::Float(f) => f.into(),
            Val::Str(s) => values::text(s),
            Val::Strs(l) => values::list(l.into_iter().map(values::text).collect()),
            Val::Table(table) => Dynamic::from(Record::Lazy(Arc::clone(facts), table)),
            Val::Made(d) => d,
        }
    }
}

impl From<bool> for Val<'_> {
    fn from(b: bool) -> Self {
        Val::Bool(b)
    }
}
impl From<i64> for Val<'_> {
    fn from(i: i64) -> Self {
        Val::Int(i)
    }
}
impl From<u32> for Val<'_> {
    fn from(i: u32) -> Self {
        Val::Int(i.into())
    }
}
impl From<u8> for Val<'_> {
    fn from(i: u8) -> Self {
        Val::Int(i.into())
    }
}
impl From<usize> for Val<'_> {
    fn from(n: usize) -> Self {
        Val::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }
}
impl From<f64> for Val<'_> {
    fn from(f: f64) -> Self {
        Val::Float(f)
    }
}
impl From<f32> for Val<'_> {
    fn from(f: f32) -> Self {
        Val::Float(f.into())
    }
}
impl<'a> From<&'a str> for Val<'a> {
    fn from(s: &'a str) -> Self {
        Val::Str(s)
    }
}
impl<'a> From<&'a [String]> for Val<'a> {
    fn from(l: &'a [String]) -> Self {
        Val::Strs(l.iter().map(String::as_str).collect())
    }
}

/// Reads a field.
pub(crate) type Get = for<'a> fn(&'a Facts) -> Val<'a>;

/// A field.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Leaf(fn() -> Type, Get),
    Table(&'static Table),
}

/// A field that is a value.
pub(crate) const fn leaf(name: &'static str, ty: fn() -> Type, get: Get) -> Field {
    Field { name, kind: Kind::Leaf(ty, get) }
}

/// A field that is a map with known fields.
pub(crate) const fn table(name: &'static str, table: &'static Table) -> Field {
    Field { name, kind: Kind::Table(table) }
}

impl Field {
    pub(crate) fn get<'a>(&self, facts: &'a Facts) -> Val<'a> {
        match self.kind {
            Kind::Leaf(_, get) => get(facts),
            Kind::Table(table) => Val::Table(table),
        }
    }

    pub(crate) fn ty(&self) -> Type {
        match self.kind {
            Kind::Leaf(ty, _) => ty(),
            Kind::Table(table) => table.ty(),
        }
    }
}

/// A map whose fields are known.
#[derive(Debug)]
pub(crate) struct Table(pub(crate) &'static [Field]);

impl Table {
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.0.iter().find(|f| f.name == name)
    }

    /// What reads the value at a path of names; `None` where there is none, or a map.
    pub(crate) fn leaf(&self, path: &[Box<str>]) -> Option<Get> {
        self.reach(path).filter(|(_, rest)| rest.is_empty()).map(|(get, _)| get)
    }

    /// What reads the value to which the first of these names lead, with the names that lead on within it.
    pub(crate) fn reach<'n>(&self, path: &'n [Box<str>]) -> Option<(Get, &'n [Box<str>])> {
        let (first, rest) = path.split_first()?;
        match &self.field(first)?.kind {
            Kind::Leaf(_, get) => Some((*get, rest)),
            Kind::Table(table) => table.reach(rest),
        }
    }

    /// The type of the map.
    pub(crate) fn ty(&self) -> Type {
        Type::map(self.0.iter().map(|f| (f.name, f.ty())))
    }

    /// Names of all fields, of maps within, too.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let inner = |f: &Field| match f.kind {
            Kind::Table(table) => table.names(),
            Kind::Leaf(..) => Vec::new(),
        };
        self.0.iter().flat_map(|f| inner(f).into_iter().chain([f.name])).collect()
    }
}
