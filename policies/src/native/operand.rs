//! What is compared: fields, and values that are written out.

use super::test::Read;
use crate::expression::Vars;
use crate::inputs::{Get, PROVIDER, ProviderField, ProviderState, ROOT, Val};
use crate::sandbox::Sets;
use rhai::{Expr, FnCallExpr};

/// A value in a comparison.
pub(crate) enum Operand {
    Constant(Constant),
    Path(Path),
    /// `path ?? constant`
    Or(Path, Constant),
}

/// A value that is written out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Constant {
    Unit,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Box<str>),
}

/// A field, by the names that lead to it.
pub(crate) struct Path {
    /// Of a provider: `providers`, its name, the field.
    pub(crate) names: Box<[Box<str>]>,
    get: Source,
}

/// Where a field of the request is read.
enum Source {
    Field(Get),
    Provider(&'static ProviderField),
    /// It is no field of the request.
    Elsewhere,
}

impl Operand {
    pub(super) fn of(expr: &Expr) -> Option<Operand> {
        if let Some(constant) = Constant::of(expr) {
            return Some(Operand::Constant(constant));
        }
        if let Expr::Coalesce(operands, _) = expr {
            return match operands.as_slice() {
                [path, constant] => Some(Operand::Or(Path::of(path)?, Constant::of(constant)?)),
                _ => None,
            };
        }
        Path::of(expr).map(Operand::Path)
    }

    pub(super) fn read<'a>(&'a self, source: &'a dyn Read) -> Option<Val<'a>> {
        match self {
            Operand::Constant(c) => Some(c.val()),
            Operand::Path(path) => source.read(path),
            Operand::Or(path, c) => {
                source.read(path).map(|v| if matches!(v, Val::Unit) { c.val() } else { v })
            }
        }
    }
}

impl Constant {
    pub(super) fn of(expr: &Expr) -> Option<Constant> {
        Some(match expr {
            Expr::Unit(_) => Constant::Unit,
            Expr::BoolConstant(b, _) => Constant::Bool(*b),
            Expr::IntegerConstant(i, _) => Constant::Int(*i),
            Expr::FloatConstant(f, _) => Constant::Float(**f),
            Expr::StringConstant(s, _) => Constant::Str(s.as_str().into()),
            Expr::FnCall(call, _) if call.name == "-" => match call.args.as_slice() {
                [Expr::IntegerConstant(i, _)] => Constant::Int(i.checked_neg()?),
                [Expr::FloatConstant(f, _)] => Constant::Float(-**f),
                _ => return None,
            },
            _ => return None,
        })
    }

    pub(crate) fn val(&self) -> Val<'_> {
        match self {
            Constant::Unit => Val::Unit,
            Constant::Bool(b) => Val::Bool(*b),
            Constant::Int(i) => Val::Int(*i),
            Constant::Float(f) => Val::Float(*f),
            Constant::Str(s) => Val::Str(s),
        }
    }
}

/// The elements of a list that is written out, or of a set.
pub(super) fn constants(expr: &Expr, sets: &Sets) -> Option<Box<[Constant]>> {
    match expr {
        Expr::Array(items, _) => items.iter().map(Constant::of).collect(),
        Expr::FnCall(call, _) if call.name == "set" => match call.args.as_slice() {
            [Expr::StringConstant(name, _)] => {
                let values = sets.get(name.as_str())?;
                Some(values.iter().map(|v| Constant::Str(v.as_str().into())).collect())
            }
            _ => None,
        },
        _ => None,
    }
}

impl Path {
    /// A chain of plain names, such as `workload.task_family`.
    pub(crate) fn of(expr: &Expr) -> Option<Path> {
        let mut names = Vec::new();
        collect(expr, &mut names)?;
        Path::named(names)
    }

    /// The path of these names; `None` for a field that no provider has.
    fn named(names: Vec<Box<str>>) -> Option<Path> {
        let names: Box<[Box<str>]> = names.into();
        let get = match &*names {
            [root, _, field] if **root == *"providers" => {
                Source::Provider(PROVIDER.iter().find(|(name, ..)| **name == **field)?)
            }
            names => ROOT.leaf(names).map_or(Source::Elsewhere, Source::Field),
        };
        Some(Path { names, get })
    }

    /// The path that is told as `workload.task_family`.
    pub(crate) fn told(path: &str) -> Option<Path> {
        Path::named(path.split('.').map(Into::into).collect())
    }

    pub(super) fn read<'a>(&self, vars: &'a Vars) -> Option<Val<'a>> {
        let (root, rest) = self.names.split_first()?;
        let own = vars.own(root);
        match (&self.get, own) {
            (Source::Provider((_, _, get)), Some(states)) => match states.get(&**self.names.get(1)?) {
                Some(state) => json(state.get(&**rest.last()?)?),
                None => Some(get(&ProviderState::default())),
            },
            (_, Some(value)) => json(rest.iter().try_fold(value, |v, name| v.as_object()?.get(&**name))?),
            (Source::Provider((_, _, get)), None) => Some(get(&vars.facts()?.provider(self.names.get(1)?))),
            (Source::Field(get), None) => match get(vars.facts()?) {
                Val::Table(_) | Val::Made(_) => None,
                value => Some(value),
            },
            (Source::Elsewhere, None) => None,
        }
    }

    /// The value in JSON form; `None` where only the engine knows.
    pub(crate) fn json(&self, vars: &Vars) -> Option<serde_json::Value> {
        let (root, rest) = self.names.split_first()?;
        if let (Some(value), Source::Field(_) | Source::Elsewhere) = (vars.own(root), &self.get) {
            return rest.iter().try_fold(value, |v, name| v.as_object()?.get(&**name)).cloned();
        }
        Some(match self.read(vars)? {
            Val::Unit => serde_json::Value::Null,
            Val::Bool(b) => b.into(),
            Val::Int(i) => i.into(),
            Val::Float(f) => f.into(),
            Val::Str(s) => s.into(),
            Val::Strs(l) => l.into(),
            Val::Table(_) | Val::Made(_) => return None,
        })
    }
}

fn json(value: &serde_json::Value) -> Option<Val<'_>> {
    use serde_json::Value as Json;
    Some(match value {
        Json::Null => Val::Unit,
        Json::Bool(b) => Val::Bool(*b),
        Json::Number(n) => match n.as_i64() {
            Some(i) => Val::Int(i),
            None => Val::Float(n.as_f64()?),
        },
        Json::String(s) => Val::Str(s),
        Json::Array(items) => Val::Strs(items.iter().map(serde_json::Value::as_str).collect::<Option<_>>()?),
        Json::Object(_) => return None,
    })
}

/// What a part of a condition asks for that is taken as it is, where a value at some place is known to make it hold: a member
/// of a map (`tenant.labels.get("team") == "search"`), a text of some form (`glob(…)`), or so many of something
/// (`request.tool_names.len() > 3`).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    /// The names that lead to the value.
    pub(crate) names: Box<[Box<str>]>,
    pub(crate) with: With,
}

/// With what it holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum With {
    /// This value.
    Value(Constant),
    /// A text with this in it.
    Text(Box<str>),
    /// So many characters, or elements.
    Length(usize),
}

/// The longest that a witness is made.
const MAX_LENGTH: i64 = 256;

impl Asked {
    pub(super) fn of(expr: &Expr, sets: &Sets) -> Option<Asked> {
        let Expr::FnCall(call, _) = expr else { return None };
        let [a, b] = call.args.as_slice() else { return None };
        let (names, with) = match call.name.as_str() {
            "glob" => (place(a)?, With::Text(fitting(b)?)),
            "contains" => (named(b)?, With::Value(constants(a, sets)?.first()?.clone())),
            relation => match lengths(relation, a, b) {
                Some((names, length)) => (names, With::Length(length)),
                None if relation == "==" => match Constant::of(b) {
                    Some(value) => (named(a)?, With::Value(value)),
                    None => (named(b)?, With::Value(Constant::of(a)?)),
                },
                None => return None,
            },
        };
        Some(Asked { names: names.into(), with })
    }
}

/// A text that fits a pattern.
fn fitting(pattern: &Expr) -> Option<Box<str>> {
    let Expr::StringConstant(pattern, _) = pattern else { return None };
    Some(pattern.replace('*', "").replace('?', "x").into())
}

/// What is to have which length, where `a` and `b` are compared so.
fn lengths(relation: &str, a: &Expr, b: &Expr) -> Option<(Vec<Box<str>>, usize)> {
    let (of, n, relation) = match (Constant::of(a), Constant::of(b)) {
        (None, Some(Constant::Int(n))) => (a, n, relation),
        (Some(Constant::Int(n)), None) => {
            let turned = match relation {
                "<" => ">",
                "<=" => ">=",
                other => other,
            };
            (b, n, turned)
        }
        _ => return None,
    };
    let least = match relation {
        ">" => n.saturating_add(1),
        ">=" | "==" => n,
        _ => return None,
    };
    let (names, call) = called(of)?;
    let is_length = call.name == "len" && call.args.is_empty() && (1..=MAX_LENGTH).contains(&least);
    Some((names, usize::try_from(least).ok().filter(|_| is_length)?))
}

/// The names of a field or of a member of a map, also where something stands in the place of what is absent.
fn place(expr: &Expr) -> Option<Vec<Box<str>>> {
    let field = |expr| Path::of(expr).map(|path| path.names.into_vec());
    field(expr).or_else(|| field(otherwise(expr)?)).or_else(|| named(expr))
}

/// What something else may stand in the place of.
fn otherwise(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Coalesce(operands, _) => operands.first(),
        _ => None,
    }
}

/// The names of `a.b.get("c")`, also where something stands in the place of what is absent.
fn named(expr: &Expr) -> Option<Vec<Box<str>>> {
    let (mut names, call) = called(expr)?;
    match call.args.as_slice() {
        [Expr::StringConstant(name, _)] if call.name == "get" => names.push(name.as_str().into()),
        _ => return None,
    }
    Some(names)
}

/// The names of `a.b.f(…)`, and the call of `f`.
fn called(expr: &Expr) -> Option<(Vec<Box<str>>, &FnCallExpr)> {
    let mut names = Vec::new();
    let mut rest = otherwise(expr).unwrap_or(expr);
    while let Expr::Dot(x, flags, _) = rest
        && flags.is_empty()
    {
        collect(&x.lhs, &mut names)?;
        rest = &x.rhs;
    }
    match rest {
        Expr::MethodCall(call, _) => Some((names, call)),
        _ => None,
    }
}

/// The names of a chain of `a.b.c`.
fn collect(expr: &Expr, names: &mut Vec<Box<str>>) -> Option<()> {
    match expr {
        Expr::Variable(x, ..) => names.push(x.1.as_str().into()),
        Expr::FnCall(call, _) if call.name == "provider" && names.is_empty() => match call.args.as_slice() {
            [Expr::StringConstant(name, _)] => names.extend(["providers".into(), name.as_str().into()]),
            _ => return None,
        },
        Expr::Property(p, _) => names.push(p.2.as_str().into()),
        Expr::Dot(x, flags, _) if flags.is_empty() => {
            collect(&x.lhs, names)?;
            collect(&x.rhs, names)?;
        }
        _ => return None,
    }
    Some(())
}
