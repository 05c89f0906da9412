//! Checks of operators, function calls and closures.

use super::signature::{self, Kind, Misfit};
use super::{Checker, Ty, start};
use crate::inputs::provider_type;
use rhai::{Dynamic, Expr, FnCallExpr, FnPtr, Position, Stmt};
use types::diagnostic::suggestion;

impl Checker<'_> {
    /// A function call or an operator.
    pub(super) fn call(&mut self, call: &FnCallExpr, at: Position) -> Ty {
        match (call.op_token.is_some(), call.args.as_slice()) {
            // `x in list` is `contains(list, x)`.
            (_, [container, item]) if call.name.as_str() == "contains" => self.contains(container, item, at),
            (true, [a, b]) => self.binary(&call.name, a, b, at),
            (true, [a]) => self.unary(&call.name, a),
            _ if call.name.as_str() == "curry" => Ty::Any,
            _ if self.functions.contains_key(&call.name) => self.own_function(call, at),
            (false, args) => {
                let (receiver, rest) = match args.split_first() {
                    Some((first, rest)) => (Some(self.infer(first)), rest),
                    None => (None, args),
                };
                self.named(&call.name, receiver, args.first(), rest, at)
            }
            _ => Ty::Any,
        }
    }

    /// A call of a function of the same text. `ctx` and `act` may be handed on under their own names, so
    /// that what is done with them there is checked, too.
    fn own_function(&mut self, call: &FnCallExpr, at: Position) -> Ty {
        self.known_function(&call.name, call.args.len(), at);
        let params = self.functions.get(&call.name).map_or_else(Vec::new, |f| f.params.clone());
        let mut types = Vec::with_capacity(call.args.len());
        for (i, arg) in call.args.iter().enumerate() {
            let handed_on = match arg {
                Expr::Variable(x, ..) => matches!(x.1.as_str(), "ctx" | "act") && params.get(i) == Some(&x.1),
                _ => false,
            };
            types.push(if handed_on { Ty::Any } else { self.infer(arg) });
        }
        self.gives(&call.name, types);
        Ty::Any
    }

    /// Notes what a function is given. What is not the same wherever it is called, or may be unknown, is anything.
    fn gives(&mut self, name: &rhai::ImmutableString, types: Vec<Ty>) {
        let plain = |t: Ty| if matches!(t, Ty::Map(_) | Ty::Enum(_)) { t } else { Ty::Any };
        let types: Vec<Ty> = types.into_iter().map(plain).collect();
        match self.found.get_mut(name) {
            None => {
                self.found.insert(name.clone(), types);
            }
            Some(known) => {
                let pairs = known.iter_mut().zip(types);
                pairs.filter(|(a, b)| **a != *b).for_each(|(a, _)| *a = Ty::Any);
            }
        }
    }

    fn unary(&mut self, name: &str, a: &Expr) -> Ty {
        if name == "!" {
            self.boolean(a, "!");
            return Ty::Bool;
        }
        let t = self.infer(a);
        self.number(a, t, name)
    }

    /// A number that is known; anything else is noted.
    fn number(&mut self, expr: &Expr, t: Ty, operator: &str) -> Ty {
        if t == Ty::Any || t.is_number() {
            return t;
        }
        let known = t.clone().known();
        if t.is_optional() && (known.is_number() || known == Ty::Any) {
            let message = format!("`{operator}` on a number that may be unknown");
            self.error("303", start(expr), message, Some(or_zero(expr)));
        } else {
            let message = format!("`{operator}` takes numbers, not {}", t.name());
            self.error("303", start(expr), message, None);
        }
        Ty::Any
    }

    fn binary(&mut self, operator: &str, a: &Expr, b: &Expr, at: Position) -> Ty {
        let (ta, tb) = (self.infer(a), self.infer(b));
        match operator {
            "==" | "!=" => {
                self.equality(operator, (a, &ta), (b, &tb), at);
                Ty::Bool
            }
            "<" | "<=" | ">" | ">=" => {
                self.order(operator, (a, &ta), (b, &tb), at);
                Ty::Bool
            }
            "+" if matches!(ta, Ty::List(_)) || matches!(tb, Ty::List(_)) => self.joined((a, ta), (b, tb)),
            "+" if ta == Ty::Str || tb == Ty::Str || matches!(ta, Ty::Enum(_)) => Ty::Str,
            ".." | "..=" => {
                for (expr, t) in [(a, ta), (b, tb)] {
                    if self.number(expr, t, operator) == Ty::Float {
                        self.error("303", start(expr), format!("`{operator}` takes whole numbers"), None);
                    }
                }
                Ty::Range
            }
            "+" | "-" | "*" | "/" | "%" | "**" => {
                let ta = self.number(a, ta, operator);
                let tb = self.number(b, tb, operator);
                if operator == "/" && ta == Ty::Int && tb == Ty::Int {
                    self.warn("309", at, "a whole number divided by a whole number drops the remainder; write `1.0 * …` for a decimal");
                }
                ta.join(tb)
            }
            _ => Ty::Any,
        }
    }

    /// One list behind the other.
    fn joined(&mut self, a: (&Expr, Ty), b: (&Expr, Ty)) -> Ty {
        let mut items = Vec::new();
        for (expr, t) in [a, b] {
            match t {
                Ty::List(of) => items.push(*of),
                Ty::Any => items.push(Ty::Any),
                other => {
                    let (message, hint) = match other.is_optional() {
                        true => ("`+` on a list that may be unknown".to_owned(), "write `(… ?? [])`"),
                        false => (
                            format!("`+` joins lists, and this is {}", other.name()),
                            "write `[…]` around one item",
                        ),
                    };
                    self.error("303", start(expr), message, Some(hint.to_owned()));
                    return Ty::List(Box::new(Ty::Any));
                }
            }
        }
        Ty::List(Box::new(items.into_iter().reduce(Ty::join).unwrap_or(Ty::Any)))
    }

    fn equality(&mut self, operator: &str, a: (&Expr, &Ty), b: (&Expr, &Ty), at: Position) {
        self.enum_value(a.1, b.0);
        self.enum_value(b.1, a.0);
        if a.1.comparable(b.1) {
            return;
        }
        let always = if operator == "==" { "false" } else { "true" };
        let message = match (a.1, b.1) {
            (Ty::Unit, t) | (t, Ty::Unit) => {
                format!("{} is never unknown: this is always {always}", t.name())
            }
            (a, b) => format!("{} is compared with {}: this is always {always}", a.name(), b.name()),
        };
        self.error("303", at, message, None);
    }

    fn order(&mut self, operator: &str, a: (&Expr, &Ty), b: (&Expr, &Ty), at: Position) {
        for (expr, t) in [a, b] {
            if t.is_optional() {
                let message = format!("`{operator}` on a value that may be unknown");
                self.error("303", start(expr), message, Some(or_zero(expr)));
                return;
            }
            if let Ty::Enum(values) = t {
                let message = format!("`{operator}` on names that have no order");
                let hint = format!("use `in [\"…\"]`; the values are {}", values.list());
                self.error("303", start(expr), message, Some(hint));
                return;
            }
        }
        let ordered = |t: &Ty| *t == Ty::Any || *t == Ty::Str || t.is_number();
        if !ordered(a.1) || !ordered(b.1) || !a.1.comparable(b.1) {
            let message = format!("`{operator}` between {} and {}", a.1.name(), b.1.name());
            self.error("303", at, message, Some("compare numbers with numbers".to_owned()));
        }
    }

    /// `item in container`.
    fn contains(&mut self, container: &Expr, item: &Expr, at: Position) -> Ty {
        let (tc, ti) = (self.infer(container), self.infer(item));
        if let Expr::Array(items, _) = container {
            items.iter().for_each(|i| self.enum_value(&ti, i));
        }
        match &tc {
            Ty::Any => {}
            Ty::List(of) => {
                self.enum_value(of, item);
                if !of.comparable(&ti) {
                    let message = format!("the list never holds {}", ti.name());
                    self.error("303", at, message, None);
                }
            }
            Ty::Str | Ty::Enum(_) | Ty::Map(_) if matches!(ti, Ty::Any | Ty::Str | Ty::Enum(_)) => {}
            Ty::Range if matches!(ti, Ty::Any | Ty::Int) => {}
            other => {
                let message = format!("`in` looks for {} in {}", ti.name(), other.name());
                self.error("303", at, message, None);
            }
        }
        Ty::Bool
    }

    /// A string that is compared with an enum must be one of its values.
    fn enum_value(&mut self, t: &Ty, literal: &Expr) {
        if let Expr::StringConstant(s, at) = literal {
            self.one_of_enum(t, s, *at);
        }
    }

    pub(super) fn one_of_enum(&mut self, t: &Ty, s: &str, at: Position) {
        let Ty::Enum(values) = t.clone().known() else { return };
        if !values.contains(s) {
            let near = suggestion(s, values.iter());
            let hint = match near.starts_with("known") {
                true => format!("values: {}", values.list()),
                false => format!("{near} values: {}", values.list()),
            };
            self.error("304", at, format!("`{s}` is not a value of this field"), Some(hint));
        }
    }

    /// A call by name; `receiver` is the first argument, also of a method.
    pub(super) fn named(
        &mut self,
        name: &str,
        receiver: Option<Ty>,
        first: Option<&Expr>,
        rest: &[Expr],
        at: Position,
    ) -> Ty {
        let arity = rest.len().saturating_add(usize::from(receiver.is_some()));
        self.known_function(name, arity, at);
        if name == "set"
            && let Some(Expr::StringConstant(set, at)) = first
            && !self.sandbox.constants.sets.contains_key(set.as_str())
        {
            let hint = suggestion(set, self.sandbox.constants.sets.keys().map(String::as_str));
            self.error("301", *at, format!("unknown set `{set}`"), Some(hint));
        }
        if name == "provider" {
            return self.provider(first, at);
        }
        let element = match &receiver {
            Some(Ty::List(of)) => of.as_ref().clone(),
            _ => Ty::Any,
        };
        let takes = signature::takes(name, arity, receiver.as_ref()).unwrap_or(&[]);
        let mut types = Vec::with_capacity(arity);
        if let Some(t) = receiver {
            self.argument(name, takes.first().copied(), &t, first.map_or(at, start));
            types.push(t);
        }
        for arg in rest {
            let kind = takes.get(types.len()).copied();
            let body = self.closure(arg, &element);
            match kind {
                Some(Kind::Closure | Kind::Test) if body.is_none() => {
                    if self.infer(arg) != Ty::Any {
                        self.misfit(name, kind, &Misfit::Other("a function such as `|x| x > 1`"), start(arg));
                    }
                    types.push(Ty::Any);
                }
                _ => {
                    let t = body.unwrap_or_else(|| self.infer(arg));
                    self.argument(name, kind, &t, start(arg));
                    types.push(t);
                }
            }
        }
        if matches!((name, rest), ("contains", [_])) {
            rest.iter().for_each(|item| self.enum_value(&element, item));
        }
        if let ("any_of", Some(Expr::Array(items, _))) = (name, rest.first()) {
            items.iter().for_each(|i| self.enum_value(&element, i));
        }
        signature::gives(name, &types)
    }

    /// `provider("name")`
    fn provider(&mut self, name: Option<&Expr>, at: Position) -> Ty {
        let ty = Ty::of(&provider_type());
        let Some(Expr::StringConstant(name, at)) = name else {
            let hint = "write it out: `provider(\"…\")`".to_owned();
            self.error("201", at, "the name of a provider is computed".to_owned(), Some(hint));
            return ty;
        };
        if let Some(known) = &self.sandbox.constants.providers
            && !known.contains(name.as_str())
        {
            let hint = suggestion(name, known.iter().map(String::as_str));
            self.error("201", *at, format!("there is no provider `{name}`"), Some(hint));
        }
        self.out.reads.insert(format!("provider(\"{name}\")"));
        ty
    }

    /// An argument must be of the kind the function takes.
    fn argument(&mut self, name: &str, kind: Option<Kind>, t: &Ty, at: Position) {
        if let Some(misfit) = kind.and_then(|k| k.misfit(t)) {
            self.misfit(name, kind, &misfit, at);
        }
    }

    fn misfit(&mut self, name: &str, kind: Option<Kind>, misfit: &Misfit, at: Position) {
        match (misfit, kind) {
            (Misfit::Other(expected), Some(Kind::Test)) => {
                self.error("302", at, format!("`{name}` takes {expected}"), None);
            }
            (Misfit::Other(expected), _) => {
                self.error("303", at, format!("`{name}` takes {expected} here"), None);
            }
            (Misfit::Unknown, _) => {
                let instead = kind.map_or("\"\"", Kind::instead);
                let hint = format!("give a value for unknown: `(… ?? {instead})`");
                self.error("303", at, format!("`{name}` on a value that may be unknown"), Some(hint));
            }
        }
    }

    fn known_function(&mut self, name: &str, arity: usize, at: Position) {
        if let Some(f) = self.functions.get(name) {
            if f.params.len() != arity {
                let message = format!("`{name}` takes {} arguments, not {arity}", f.params.len());
                self.error("301", at, message, None);
            }
            return;
        }
        match self.sandbox.functions.get(name) {
            Some(arities) if arities.contains(&arity) => {}
            Some(arities) => {
                let takes: Vec<String> = arities.iter().map(usize::to_string).collect();
                let message = format!("`{name}` takes {} arguments, not {arity}", takes.join(" or "));
                self.error("301", at, format!("{message} (a value before the dot counts)"), None);
            }
            None => {
                let own = self.functions.keys().map(|k| k.as_str()).filter(|k| !k.contains('$'));
                let known: Vec<&str> = self.sandbox.functions.keys().map(String::as_str).chain(own).collect();
                let hint = suggestion(name, known);
                self.error("301", at, format!("unknown function `{name}`"), Some(hint));
            }
        }
    }

    /// The type of a closure's body when its first parameter has type `element`; `None` if `arg` is none.
    fn closure(&mut self, arg: &Expr, element: &Ty) -> Option<Ty> {
        let (pointer, captured) = function_pointer(arg)?;
        let function = self.functions.remove(pointer.as_str())?;
        let outer = self.variables.len();
        for (i, param) in function.params.iter().skip(captured).enumerate() {
            // The second parameter is the position in the list.
            let t = match i {
                0 => element.clone(),
                1 => Ty::Int,
                _ => Ty::Any,
            };
            self.variables.push((param.to_string(), t));
        }
        let body = self.block(&function.body);
        self.variables.truncate(outer);
        self.functions.insert(function.name.clone(), function);
        Some(body)
    }
}

/// `(x ?? 0)` in the text's own words, where they are a plain path.
fn or_zero(expr: &Expr) -> String {
    let path = super::path_of(expr).unwrap_or_else(|| "…".to_owned());
    format!("give a value for unknown: `({path} ?? 0)`, or test `{path} != ()` first")
}

/// Name of the function behind a closure and how many of its parameters are captured variables.
fn function_pointer(expr: &Expr) -> Option<(String, usize)> {
    let name = |d: &Dynamic| d.read_lock::<FnPtr>().map(|f| f.fn_name().to_owned());
    match expr {
        Expr::DynamicConstant(value, _) => name(value).map(|n| (n, 0)),
        Expr::Stmt(block) => match block.statements().last() {
            Some(Stmt::Expr(inner)) => match inner.as_ref() {
                Expr::FnCall(call, _) if call.name.as_str() == "curry" => curried(call),
                _ => None,
            },
            Some(Stmt::FnCall(call, _)) if call.name.as_str() == "curry" => curried(call),
            _ => None,
        },
        _ => None,
    }
}

fn curried(call: &FnCallExpr) -> Option<(String, usize)> {
    let (name, _) = function_pointer(call.args.first()?)?;
    Some((name, call.args.len().saturating_sub(1)))
}
