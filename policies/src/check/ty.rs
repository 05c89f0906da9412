//! Types as the static checks see them.

use std::sync::Arc;
use types::expr::Type;

/// The strings that a value may be.
#[derive(Clone, Debug)]
pub(crate) enum Words {
    Fixed(&'static [&'static str]),
    /// Those that a file names.
    Own(Arc<[Arc<str>]>),
}

impl Words {
    fn get(&self, at: usize) -> Option<&str> {
        match self {
            Words::Fixed(words) => words.get(at).copied(),
            Words::Own(words) => words.get(at).map(|w| &**w),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        (0..).map_while(|at| self.get(at))
    }

    pub(crate) fn contains(&self, word: &str) -> bool {
        self.iter().any(|w| w == word)
    }

    /// For messages.
    pub(crate) fn list(&self) -> String {
        self.iter().collect::<Vec<_>>().join(", ")
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// A type; `Any` is whatever is not known before the request, and never wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ty {
    Any,
    Unit,
    Bool,
    Int,
    Float,
    Str,
    Enum(Words),
    List(Box<Ty>),
    /// `1..5`
    Range,
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
    Range,
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
            Type::Enum(values) => Ty::Enum(Words::Fixed(values)),
            Type::OneOf(values) => Ty::Enum(Words::Own(values.clone())),
            Type::List(of) => Ty::List(Box::new(Ty::of(of))),
            Type::Map(fields) => Ty::Map(fields.iter().map(|(k, t)| (k.clone(), Ty::of(t))).collect()),
            Type::Any => Ty::Any,
            Type::Optional(of) => Ty::Optional(Box::new(Ty::of(of))),
        }
    }

    /// As a declaration; what has none (a range, `()`) is any value.
    pub(crate) fn declared(&self) -> Type {
        match self {
            Ty::Any | Ty::Unit | Ty::Range => Type::Any,
            Ty::Bool => Type::Bool,
            Ty::Int => Type::Int,
            Ty::Float => Type::Float,
            Ty::Str => Type::Str,
            Ty::Enum(Words::Fixed(values)) => Type::Enum(values),
            Ty::Enum(Words::Own(values)) => Type::OneOf(values.clone()),
            Ty::List(of) => of.declared().list(),
            Ty::Map(fields) => Type::Map(fields.iter().map(|(k, t)| (k.clone(), t.declared())).collect()),
            Ty::Optional(of) => of.declared().optional(),
        }
    }

    /// Whether a value of this type serves where one of type `want` is asked for.
    pub(crate) fn fits(&self, want: &Ty) -> bool {
        match (want, self) {
            (_, Ty::Any) | (Ty::Any, _) => true,
            (Ty::Optional(_), Ty::Unit) => true,
            (Ty::Optional(want), Ty::Optional(of)) => of.fits(want),
            (Ty::Optional(want), found) => found.fits(want),
            (Ty::Float, Ty::Int) | (Ty::Str, Ty::Enum(_)) | (Ty::Enum(_), Ty::Str) => true,
            (Ty::Enum(want), Ty::Enum(found)) => found.iter().all(|v| want.contains(v)),
            (Ty::List(want), Ty::List(of)) => of.fits(want),
            (Ty::Map(want), Ty::Map(found)) => want.iter().all(|(name, t)| {
                found.iter().find(|(n, _)| n == name).is_some_and(|(_, found)| found.fits(t))
            }),
            (want, found) => want == found,
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
                    Ty::Range => Class::Range,
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
            Ty::Enum(values) => format!("one of {}", values.list()),
            Ty::List(_) => "a list".into(),
            Ty::Range => "a range".into(),
            Ty::Map(_) => "a map".into(),
            Ty::Optional(of) => format!("{} or unknown", of.name()),
        }
    }
}
