//! Types as the static checks see them.

use types::expr::Type;

/// A type; `Any` is whatever is not known before the request, and never wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ty {
    Any,
    Unit,
    Bool,
    Int,
    Float,
    Str,
    Enum(&'static [&'static str]),
    List(Box<Ty>),
    Map(Vec<(String, Ty)>),
    Optional(Box<Ty>),
}

/// What can be compared with what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Unit,
    Bool,
    Number,
    Text,
    List,
    Map,
}

impl Ty {
    /// The type of a declaration.
    pub(crate) fn of(t: &Type) -> Ty {
        match t {
            Type::Bool => Ty::Bool,
            Type::Int => Ty::Int,
            Type::Float => Ty::Float,
            Type::Str => Ty::Str,
            Type::Enum(values) => Ty::Enum(values),
            Type::List(of) => Ty::List(Box::new(Ty::of(of))),
            Type::Map(fields) => Ty::Map(fields.iter().map(|(k, t)| (k.clone(), Ty::of(t))).collect()),
            Type::Any => Ty::Any,
            Type::Optional(of) => Ty::Optional(Box::new(Ty::of(of))),
        }
    }

    /// Without "or unknown".
    pub(crate) fn known(self) -> Ty {
        match self {
            Ty::Optional(of) => *of,
            t => t,
        }
    }

    pub(crate) fn is_optional(&self) -> bool {
        matches!(self, Ty::Optional(_))
    }

    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Ty::Int | Ty::Float)
    }

    /// The type of a value that has one of two types.
    pub(crate) fn join(self, other: Ty) -> Ty {
        match (self, other) {
            (a, b) if a == b => a,
            (Ty::Unit, t) | (t, Ty::Unit) if t != Ty::Any => Ty::Optional(Box::new(t.known())),
            (Ty::Int, Ty::Float) | (Ty::Float, Ty::Int) => Ty::Float,
            (Ty::Str, Ty::Enum(_)) | (Ty::Enum(_), Ty::Str) | (Ty::Enum(_), Ty::Enum(_)) => Ty::Str,
            (Ty::Optional(a), b) | (b, Ty::Optional(a)) => match a.join(b.known()) {
                Ty::Any => Ty::Any,
                t => Ty::Optional(Box::new(t)),
            },
            _ => Ty::Any,
        }
    }

    /// Whether a value of this type can equal one of `other`.
    pub(crate) fn comparable(&self, other: &Ty) -> bool {
        let classes = |t: &Ty| -> Option<Vec<Class>> {
            let class = |t: &Ty| {
                Some(match t {
                    Ty::Any | Ty::Optional(_) => return None,
                    Ty::Unit => Class::Unit,
                    Ty::Bool => Class::Bool,
                    Ty::Int | Ty::Float => Class::Number,
                    Ty::Str | Ty::Enum(_) => Class::Text,
                    Ty::List(_) => Class::List,
                    Ty::Map(_) => Class::Map,
                })
            };
            match t {
                Ty::Optional(of) => class(of).map(|c| vec![Class::Unit, c]),
                t => class(t).map(|c| vec![c]),
            }
        };
        match (classes(self), classes(other)) {
            (Some(a), Some(b)) => a.iter().any(|c| b.contains(c)),
            _ => true,
        }
    }

    /// For messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Ty::Any => "any value".into(),
            Ty::Unit => "nothing".into(),
            Ty::Bool => "true or false".into(),
            Ty::Int => "a whole number".into(),
            Ty::Float => "a decimal number".into(),
            Ty::Str => "a string".into(),
            Ty::Enum(values) => format!("one of {}", values.join(", ")),
            Ty::List(_) => "a list".into(),
            Ty::Map(_) => "a map".into(),
            Ty::Optional(of) => format!("{} or unknown", of.name()),
        }
    }
}
