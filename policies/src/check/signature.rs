//! What the documented functions take and give.

use super::Ty;

/// A kind of argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Any,
    Text,
    Number,
    Int,
    List,
    Texts,
    Numbers,
    Map,
    /// Text, list, range or map.
    Sized,
    /// `|x| …`
    Closure,
    /// `|x| …` that gives true or false.
    Test,
}

/// What a function gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gives {
    Bool,
    Int,
    Float,
    Text,
    Texts,
    MaybeFloat,
    MaybeInt,
    /// Any value, or `()`.
    Maybe,
    /// What the first argument is.
    Same,
    /// An element of the first argument, or `()`.
    MaybeElement,
    /// A list of what the closure gives.
    Mapped,
    /// The common type of both arguments.
    Common,
}

struct Function(&'static str, &'static [Kind], Gives);

/// By name; several lines where a name takes different arguments.
const FUNCTIONS: &[Function] = {
    use Gives as G;
    use Kind as K;
    &[
        Function("abs", &[K::Number], G::Same),
        Function("agree_count", &[K::Texts], G::Int),
        Function("all", &[K::List, K::Test], G::Bool),
        Function("any_of", &[K::List, K::List], G::Bool),
        Function("ceil", &[K::Number], G::Float),
        Function("contains", &[K::Sized, K::Any], G::Bool),
        Function("ends_with", &[K::Text, K::Text], G::Bool),
        Function("est_tokens", &[K::Text], G::Int),
        Function("filter", &[K::List, K::Test], G::Same),
        Function("find", &[K::List, K::Test], G::MaybeElement),
        Function("find", &[K::Text, K::Text], G::MaybeInt),
        Function("floor", &[K::Number], G::Float),
        Function("get", &[K::Map, K::Text], G::Maybe),
        Function("glob", &[K::Text, K::Text], G::Bool),
        Function("is_empty", &[K::Sized], G::Bool),
        Function("json", &[K::Any], G::Text),
        Function("keys", &[K::Map], G::Texts),
        Function("len", &[K::Sized], G::Int),
        Function("lines", &[K::Text], G::Texts),
        Function("lower", &[K::Text], G::Text),
        Function("map", &[K::List, K::Closure], G::Mapped),
        Function("max", &[K::Number, K::Number], G::Common),
        Function("max", &[K::Numbers], G::MaybeElement),
        Function("mean", &[K::Numbers], G::MaybeFloat),
        Function("median", &[K::Numbers], G::MaybeFloat),
        Function("min", &[K::Number, K::Number], G::Common),
        Function("min", &[K::Numbers], G::MaybeElement),
        Function("parse_float", &[K::Text], G::Float),
        Function("parse_int", &[K::Text], G::Int),
        Function("parse_int", &[K::Text, K::Int], G::Int),
        Function("replace", &[K::Text, K::Text, K::Text], G::Text),
        Function("round", &[K::Number], G::Float),
        Function("set", &[K::Text], G::Texts),
        Function("sha256", &[K::Text], G::Text),
        Function("some", &[K::List, K::Test], G::Bool),
        Function("split", &[K::Text], G::Texts),
        Function("split", &[K::Text, K::Text], G::Texts),
        Function("split", &[K::Text, K::Text, K::Int], G::Texts),
        Function("starts_with", &[K::Text, K::Text], G::Bool),
        Function("trim", &[K::Text], G::Text),
        Function("truncate", &[K::Text, K::Int], G::Text),
        Function("upper", &[K::Text], G::Text),
        Function("words", &[K::Text], G::Texts),
    ]
};

/// What is wrong with an argument.
pub(super) enum Misfit {
    /// It may be unknown.
    Unknown,
    /// It is of another kind; the right one.
    Other(&'static str),
}

impl Kind {
    /// What is wrong with an argument of that type, if anything is.
    pub(super) fn misfit(self, t: &Ty) -> Option<Misfit> {
        if *t == Ty::Any || self == Kind::Any {
            return None;
        }
        if t.is_optional() {
            let known = t.clone().known();
            return Some(if self.takes(&known) { Misfit::Unknown } else { Misfit::Other(self.name()) });
        }
        (!self.takes(t)).then(|| Misfit::Other(self.name()))
    }

    fn takes(self, t: &Ty) -> bool {
        let text = |t: &Ty| matches!(t, Ty::Any | Ty::Str | Ty::Enum(_));
        match (self, t) {
            (_, Ty::Any) | (Kind::Any, _) => true,
            (Kind::Text, t) => text(t),
            (Kind::Number, t) => t.is_number(),
            (Kind::Int, t) => *t == Ty::Int,
            (Kind::List, Ty::List(_)) => true,
            (Kind::Texts, Ty::List(of)) => text(of),
            (Kind::Numbers, Ty::List(of)) => **of == Ty::Any || of.is_number(),
            (Kind::Map, Ty::Map(_)) => true,
            (Kind::Sized, t) => text(t) || matches!(t, Ty::List(_) | Ty::Map(_) | Ty::Range),
            (Kind::Test, Ty::Bool) | (Kind::Closure, _) => true,
            _ => false,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Any => "any value",
            Kind::Text => "a string",
            Kind::Number => "a number",
            Kind::Int => "a whole number",
            Kind::List => "a list",
            Kind::Texts => "a list of strings",
            Kind::Numbers => "a list of numbers",
            Kind::Map => "a map",
            Kind::Sized => "a string, a list or a map",
            Kind::Closure => "a function such as `|x| x.text`",
            Kind::Test => "a function that gives true or false, such as `|x| x.score > 0.5`",
        }
    }

    /// What may stand for an unknown one.
    pub(super) fn instead(self) -> &'static str {
        match self {
            Kind::Number | Kind::Int => "0",
            Kind::List | Kind::Texts | Kind::Numbers => "[]",
            Kind::Map => "#{}",
            Kind::Any | Kind::Text | Kind::Sized | Kind::Closure | Kind::Test => "\"\"",
        }
    }
}

/// The documented function of that name with so many arguments. Where several differ in what their first one is, the
/// one that takes it; `None` where that cannot be told.
fn function(name: &str, arity: usize, first: Option<&Ty>) -> Option<&'static Function> {
    let mut named = FUNCTIONS.iter().filter(|f| f.0 == name && f.1.len() == arity);
    let takes =
        |f: &&Function| first.zip(f.1.first()).is_some_and(|(t, kind)| kind.takes(&t.clone().known()));
    let mut fit = named.clone().filter(takes);
    match (fit.next(), fit.next()) {
        (Some(_), Some(_)) => None,
        (one, _) => one.or_else(|| named.next()),
    }
}

/// What a documented function takes, with so many arguments, of which the first is of that type.
pub(super) fn takes(name: &str, arity: usize, first: Option<&Ty>) -> Option<&'static [Kind]> {
    function(name, arity, first).map(|f| f.1)
}

/// The type of a call's value.
pub(super) fn gives(name: &str, args: &[Ty]) -> Ty {
    let Some(function) = function(name, args.len(), args.first()) else {
        return match name {
            "index_of" | "to_int" => Ty::Int,
            "sqrt" | "to_float" => Ty::Float,
            "to_string" | "sub_string" | "to_upper" | "to_lower" => Ty::Str,
            // Of a list or of a text: both may hold none.
            "find" if args.len() == 2 => Ty::Optional(Box::new(Ty::Any)),
            _ => Ty::Any,
        };
    };
    let at = |i: usize| args.get(i).cloned().unwrap_or(Ty::Any);
    let element = || match at(0) {
        Ty::List(of) => *of,
        _ => Ty::Any,
    };
    match function.2 {
        Gives::Bool => Ty::Bool,
        Gives::Int => Ty::Int,
        Gives::Float => Ty::Float,
        Gives::Text => Ty::Str,
        Gives::Texts => Ty::List(Box::new(Ty::Str)),
        Gives::MaybeFloat => Ty::Optional(Box::new(Ty::Float)),
        Gives::MaybeInt => Ty::Optional(Box::new(Ty::Int)),
        Gives::Maybe => Ty::Optional(Box::new(Ty::Any)),
        Gives::Same => at(0),
        Gives::MaybeElement => Ty::Optional(Box::new(element().known())),
        Gives::Mapped => match at(0) {
            Ty::List(_) => Ty::List(Box::new(at(1))),
            _ => Ty::Any,
        },
        Gives::Common => at(0).join(at(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::shared;

    #[test]
    fn every_function_exists_and_none_is_listed_twice() {
        for (i, f) in FUNCTIONS.iter().enumerate() {
            let arities = shared().functions.get(f.0);
            assert!(arities.is_some_and(|a| a.contains(&f.1.len())), "{} with {}", f.0, f.1.len());
            let alike = |g: &Function| g.0 == f.0 && g.1.len() == f.1.len() && g.1.first() == f.1.first();
            let same = FUNCTIONS.iter().skip(i + 1).any(alike);
            assert!(!same, "{} with {}", f.0, f.1.len());
        }
    }
}
