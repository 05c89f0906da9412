//! Conditions in the shape most of them have: comparisons of fields with constants, joined by `&&`, `||` and
//! `!`. They are answered without the engine; what has another shape is left to it, piece by piece.

use crate::check::start;
use crate::expression::Vars;
use crate::inputs::{Get, PROVIDER, ProviderField, ProviderState, ROOT, Val};
use crate::sandbox::{Sets, place};
use rhai::{AST, Expr, FnCallExpr, Position, Stmt};
use std::cmp::Ordering;
use std::sync::Arc;

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

/// A condition, taken apart.
pub(crate) enum Tree {
    Const(bool),
    All(Box<[Tree]>),
    Any(Box<[Tree]>),
    Not(Box<Tree>),
    Atom(Box<Atom>),
}

/// A part of a condition that holds or does not.
pub(crate) struct Atom {
    /// As it was written.
    pub(crate) text: Arc<str>,
    /// How it is answered here; `None` = by the engine, which also answers where the values turn out to be of
    /// another kind.
    pub(crate) test: Option<Test>,
    ast: AST,
}

/// The text that a tree is taken from.
pub(crate) struct Text<'a> {
    pub(crate) ast: &'a AST,
    pub(crate) source: &'a str,
    pub(crate) sets: &'a Sets,
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

impl Tree {
    /// Takes an expression apart.
    pub(crate) fn of(expr: &Expr, text: &Text<'_>) -> Tree {
        Tree::within(expr, text, text.source.len())
    }

    /// Takes a part apart that ends before `end`.
    fn within(expr: &Expr, text: &Text<'_>, end: usize) -> Tree {
        let each = |operands: &[Expr]| {
            let ends = operands.iter().skip(1).map(|o| offset(text.source, start(o))).chain([end]);
            operands.iter().zip(ends).map(|(o, end)| Tree::within(o, text, end)).collect()
        };
        match expr {
            Expr::BoolConstant(b, _) => Tree::Const(*b),
            Expr::And(operands, _) => Tree::All(each(operands)),
            Expr::Or(operands, _) => Tree::Any(each(operands)),
            Expr::FnCall(call, _) if call.name == "!" && call.args.len() == 1 => call
                .args
                .first()
                .map_or(Tree::Const(false), |a| Tree::Not(Box::new(Tree::within(a, text, end)))),
            _ => Tree::Atom(Box::new(Atom {
                text: positive(expr, written(text.source, offset(text.source, start(expr)), end)).into(),
                test: Test::of(expr, text.sets),
                ast: AST::new([Stmt::Expr(Box::new(expr.clone()))], text.ast.shared_lib().clone()),
            })),
        }
    }

    /// Whether the value of the expression is true or false whatever it reads.
    pub(crate) fn is_bool(&self) -> bool {
        match self {
            Tree::Atom(atom) => !matches!(atom.test, None | Some(Test::Is(_))),
            _ => true,
        }
    }

    /// Its atoms, in the order of the text.
    pub(crate) fn atoms(&self) -> Vec<&Atom> {
        match self {
            Tree::Const(_) => Vec::new(),
            Tree::All(each) | Tree::Any(each) => each.iter().flat_map(Tree::atoms).collect(),
            Tree::Not(inner) => inner.atoms(),
            Tree::Atom(atom) => vec![atom],
        }
    }

    /// Whether it holds when `answer` tells of each atom whether it does; parts that do not matter are not
    /// asked for.
    pub(crate) fn holds<'a, E>(
        &'a self,
        answer: &mut dyn FnMut(&'a Atom) -> Result<bool, E>,
    ) -> Result<bool, E> {
        match self {
            Tree::Const(b) => Ok(*b),
            Tree::All(each) => {
                for tree in each {
                    if !tree.holds(answer)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Tree::Any(each) => {
                for tree in each {
                    if tree.holds(answer)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Tree::Not(inner) => inner.holds(answer).map(|b| !b),
            Tree::Atom(atom) => answer(atom),
        }
    }

    /// Whether it may hold when some atoms are not known yet (`None`): Kleene's logic, `None` = it may.
    pub(crate) fn may_hold<'a>(&'a self, answer: &mut dyn FnMut(&'a Atom) -> Option<bool>) -> Option<bool> {
        match self {
            Tree::Const(b) => Some(*b),
            Tree::All(each) => each
                .iter()
                .try_fold(true, |all, t| match t.may_hold(answer) {
                    Some(false) => Err(()),
                    Some(true) => Ok(all),
                    None => Ok(false),
                })
                .map_or(Some(false), |all| all.then_some(true)),
            Tree::Any(each) => each
                .iter()
                .try_fold(true, |none, t| match t.may_hold(answer) {
                    Some(true) => Err(()),
                    Some(false) => Ok(none),
                    None => Ok(false),
                })
                .map_or(Some(true), |none| none.then_some(false)),
            Tree::Not(inner) => inner.may_hold(answer).map(|b| !b),
            Tree::Atom(atom) => answer(atom),
        }
    }
}

impl Atom {
    /// What it comes to; `engine` answers what is not answered here.
    pub(crate) fn holds<E>(
        &self,
        vars: &Vars,
        engine: &mut dyn FnMut(&AST) -> Result<bool, E>,
    ) -> Result<bool, E> {
        self.test.as_ref().and_then(|t| t.holds(vars)).map_or_else(|| engine(&self.ast), Ok)
    }
}

/// The text of `a in b` where `a !in b` was written: the negation stands outside of it.
fn positive(expr: &Expr, text: String) -> String {
    match expr {
        Expr::FnCall(call, _) if call.name == "contains" => text.replacen(" !in ", " in ", 1),
        _ => text,
    }
}

/// Where a position stands in the source, in bytes.
fn offset(source: &str, at: Position) -> usize {
    let (line, column) = place(at);
    let before: usize = source.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let within = source.get(before..).unwrap_or("");
    let chars = within.char_indices().nth(column.saturating_sub(1)).map_or(within.len(), |(i, _)| i);
    before.saturating_add(chars)
}

/// The text between two places, without the operator and the brackets that are not its own.
fn written(source: &str, from: usize, to: usize) -> String {
    let mut text = source.get(from..to).unwrap_or("").trim_end();
    loop {
        let shorter = ["&&", "||", "!", "("].iter().find_map(|end| text.strip_suffix(end));
        let open = text.matches('(').count();
        let unmatched = if text.matches(')').count() > open { text.strip_suffix(')') } else { None };
        match shorter.or(unmatched) {
            Some(shorter) => text = shorter.trim_end(),
            None => break,
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Test {
    fn of(expr: &Expr, sets: &Sets) -> Option<Test> {
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

    /// The fields it reads.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let (a, b) = match self {
            Test::Compare(a, _, b) => (a, Some(b)),
            Test::Is(a) | Test::OneOf(a, _) | Test::AnyOf(a, _) | Test::Holds(a, _) => (a, None),
        };
        std::iter::once(a).chain(b).filter_map(|operand| match operand {
            Operand::Path(path) | Operand::Or(path, _) => Some(path),
            Operand::Constant(_) => None,
        })
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

impl Operand {
    fn of(expr: &Expr) -> Option<Operand> {
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

    fn read<'a>(&'a self, source: &'a dyn Read) -> Option<Val<'a>> {
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
    fn of(expr: &Expr) -> Option<Constant> {
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
fn constants(expr: &Expr, sets: &Sets) -> Option<Box<[Constant]>> {
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

    fn read<'a>(&self, vars: &'a Vars) -> Option<Val<'a>> {
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

#[cfg(test)]
mod tests {
    use crate::expression::Rhai;
    use crate::sandbox::{Constants, Sets};
    use crate::testing::{around, full_body, plain_body, profile};
    use crate::{Inputs, request_variables, scope};
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::Arc;
    use types::ChatRequest;
    use types::expr::{Expression as _, Language as _, Scope, Type, Variables};

    fn variables() -> Variables {
        let mut all = request_variables();
        all.push((
            "own".to_owned(),
            Type::map([
                ("n", Type::Int),
                ("x", Type::Float),
                ("s", Type::Str),
                ("none", Type::Str.optional()),
                ("list", Type::Str.list()),
                ("numbers", Type::Int.list()),
                ("flag", Type::Bool),
            ]),
        ));
        all
    }

    fn scopes(language: &Rhai) -> Vec<Scope> {
        let of = |body| {
            let request = Arc::new(ChatRequest::from_value(&body).unwrap());
            scope(&Inputs { request: &request, profile: &profile(), around: &around(), unix_ms: 0 })
        };
        let own = json!({
            "n": 3, "x": 3.0, "s": "search engine", "none": null, "list": ["search", "x"], "numbers": [1, 3],
            "flag": true
        });
        let more = |base: Scope| language.scope(Some(&base), vec![("own".to_owned(), own.clone())]);
        vec![more(of(plain_body())), more(of(full_body()))]
    }

    /// Comparisons of every kind, among them some that only the engine can answer.
    fn atom() -> impl Strategy<Value = String> {
        let number = prop::sample::select(vec![
            "request.message_count",
            "(request.max_tokens ?? 7)",
            "(request.temperature ?? 0.5)",
            "own.n",
            "own.x",
            "workload.confidence",
            "time.hour",
            "3",
            "-1",
            "2.5",
            "own.numbers.len()",
        ]);
        let text = prop::sample::select(vec![
            "workload.task_family",
            "request.user",
            "tenant.id",
            "own.s",
            "own.none",
            "\"u\"",
            "\"acme\"",
            "()",
            "request.options.session",
            "request.last_user_text",
        ]);
        let relation = prop::sample::select(vec!["==", "!=", "<", "<=", ">", ">="]);
        let equality = prop::sample::select(vec!["==", "!="]);
        prop_oneof![
            (number.clone(), relation, number).prop_map(|(a, r, b)| format!("{a} {r} {b}")),
            (text.clone(), equality, text.clone()).prop_map(|(a, r, b)| format!("{a} {r} {b}")),
            (text, any::<bool>()).prop_map(|(a, not)| {
                format!("{a} {}in [\"coding\", \"acme\", (), \"u\"]", if not { "!" } else { "" })
            }),
            prop::sample::select(vec![
                "request.stream",
                "own.flag",
                "true",
                "false",
                "\"search\" in request.tool_names",
                "\"eng\" in own.s",
                "\"x\" in own.list",
                "3 in own.numbers",
                "tenant.id in set(\"known\")",
                "any_of(request.tool_names, [\"search\", \"b\"])",
                "any_of(own.list, set(\"known\"))",
                "own.list.len() > 1",
                "request.options.explain",
                "own.list.some(|s| s == \"x\")",
            ])
            .prop_map(str::to_owned),
        ]
    }

    fn expression() -> impl Strategy<Value = String> {
        atom().prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
                inner.prop_map(|a| format!("!({a})")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn the_answers_are_those_of_the_engine(source in expression()) {
            let sets = Sets::from([("known".to_owned(), vec!["acme".to_owned(), "x".to_owned()])]);
            let language = Rhai::with(&Constants { sets, providers: None });
            // What does not pass the checks (always false, say) is never evaluated.
            if let Ok((condition, _)) = language.condition(&source, &variables(), Some(&Type::Bool)) {
                for scope in scopes(&language) {
                    prop_assert_eq!(condition.eval_bool(&scope), condition.by_engine(&scope), "{}", source);
                }
            }
        }
    }
}
