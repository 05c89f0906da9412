//! Comparisons that are answered without the engine.

use super::operand::{Constant, Operand, Path, constants};
use crate::expression::Vars;
use crate::inputs::Val;
use crate::sandbox::Sets;
use rhai::{Expr, FnCallExpr};
use std::cmp::Ordering;

/// Gives the values of fields.
pub(crate) trait Read {
    /// The value; `None` where there is none, or one that only the engine can handle.
    fn read<'a>(&'a self, path: &Path) -> Option<Val<'a>>;
}

impl Read for Vars {
    fn read<'a>(&'a self, path: &Path) -> Option<Val<'a>> {
        path.read(self)
    }
}

/// A comparison.
pub(crate) enum Test {
    /// A field that is true or false.
    Is(Operand),
    Compare(Operand, Relation, Operand),
    /// Whether the first is one of the constants.
    OneOf(Operand, Box<[Constant]>),
    /// Whether any element of the list is one of the constants.
    AnyOf(Operand, Box<[Constant]>),
    /// Whether the list, or the text, holds the constant.
    Holds(Operand, Constant),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Test {
    pub(super) fn of(expr: &Expr, sets: &Sets) -> Option<Test> {
        if let Expr::FnCall(call, _) = expr {
            return Test::of_call(call, sets);
        }
        Some(Test::Is(Operand::Path(Path::of(expr)?)))
    }

    fn of_call(call: &FnCallExpr, sets: &Sets) -> Option<Test> {
        let [a, b] = call.args.as_slice() else { return None };
        let relation = match call.name.as_str() {
            "==" => Relation::Equal,
            "!=" => Relation::NotEqual,
            "<" => Relation::Less,
            "<=" => Relation::LessOrEqual,
            ">" => Relation::Greater,
            ">=" => Relation::GreaterOrEqual,
            // `item in list` is `contains(list, item)`.
            "contains" => {
                return Some(match constants(a, sets) {
                    Some(list) => Test::OneOf(Operand::of(b)?, list),
                    None => Test::Holds(Operand::of(a)?, Constant::of(b)?),
                });
            }
            "any_of" => return Some(Test::AnyOf(Operand::of(a)?, constants(b, sets)?)),
            _ => return None,
        };
        Some(Test::Compare(Operand::of(a)?, relation, Operand::of(b)?))
    }

    /// The value that is compared with constants.
    pub(crate) fn value(&self, vars: &Vars) -> Option<serde_json::Value> {
        let operand = match self {
            Test::Compare(Operand::Constant(_), _, operand) | Test::Compare(operand, ..) => operand,
            Test::Is(operand)
            | Test::OneOf(operand, _)
            | Test::AnyOf(operand, _)
            | Test::Holds(operand, _) => operand,
        };
        match operand {
            Operand::Path(path) | Operand::Or(path, _) => path.json(vars),
            Operand::Constant(_) => None,
        }
    }

    /// Whether it holds; `None` where the values are not of the kinds it knows.
    pub(crate) fn holds<'a>(&'a self, source: &'a dyn Read) -> Option<bool> {
        match self {
            Test::Is(a) => match a.read(source)? {
                Val::Bool(b) => Some(b),
                _ => None,
            },
            Test::Compare(a, relation, b) => relation.holds(&a.read(source)?, &b.read(source)?),
            Test::OneOf(a, list) => one_of(&a.read(source)?, list),
            Test::AnyOf(a, list) => match a.read(source)? {
                Val::Strs(items) => any(items.iter().map(|s| one_of(&Val::Str(s), list))),
                _ => None,
            },
            Test::Holds(a, constant) => match (a.read(source)?, constant) {
                (Val::Strs(items), Constant::Str(s)) => Some(items.contains(&s.as_ref())),
                (Val::Str(text), Constant::Str(s)) => Some(text.contains(s.as_ref())),
                _ => None,
            },
        }
    }
}

/// Whether any is true; `None` if one is not known.
fn any(mut each: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    each.try_fold(false, |found, one| one.map(|b| found || b))
}

fn one_of(value: &Val<'_>, list: &[Constant]) -> Option<bool> {
    any(list.iter().map(|c| equal(value, &c.val())))
}

/// `None` where only the engine knows.
fn equal(a: &Val<'_>, b: &Val<'_>) -> Option<bool> {
    Some(match (a, b) {
        (Val::Str(a), Val::Str(b)) => a == b,
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Int(a), Val::Int(b)) => a == b,
        (Val::Float(a), Val::Float(b)) => a == b,
        (Val::Int(i), Val::Float(f)) | (Val::Float(f), Val::Int(i)) => *i as f64 == *f,
        (Val::Unit, Val::Unit) => true,
        (Val::Unit, Val::Str(_) | Val::Bool(_) | Val::Int(_) | Val::Float(_))
        | (Val::Str(_) | Val::Bool(_) | Val::Int(_) | Val::Float(_), Val::Unit) => false,
        _ => return None,
    })
}

fn order(a: &Val<'_>, b: &Val<'_>) -> Option<Ordering> {
    match (a, b) {
        (Val::Str(a), Val::Str(b)) => Some(a.cmp(b)),
        (Val::Int(a), Val::Int(b)) => Some(a.cmp(b)),
        (Val::Float(a), Val::Float(b)) => a.partial_cmp(b),
        (Val::Int(a), Val::Float(b)) => (*a as f64).partial_cmp(b),
        (Val::Float(a), Val::Int(b)) => a.partial_cmp(&(*b as f64)),
        _ => None,
    }
}

impl Relation {
    fn holds(self, a: &Val<'_>, b: &Val<'_>) -> Option<bool> {
        match self {
            Relation::Equal => equal(a, b),
            Relation::NotEqual => equal(a, b).map(|e| !e),
            Relation::Less => order(a, b).map(Ordering::is_lt),
            Relation::LessOrEqual => order(a, b).map(Ordering::is_le),
            Relation::Greater => order(a, b).map(Ordering::is_gt),
            Relation::GreaterOrEqual => order(a, b).map(Ordering::is_ge),
        }
    }
}
