//! Static checks: types are inferred over the syntax tree, because the engine compares values of different
//! types to `false` and notices a misspelt name only when its line runs.

mod arms;
mod call;
mod chain;
mod lexical;
mod signature;
mod statement;
mod ty;

pub(crate) use lexical::lexical;
pub(crate) use ty::Ty;

use crate::sandbox::{Sandbox, place};
use rhai::{AST, ASTNode, Expr, FnCallExpr, ImmutableString, Position, ScriptFuncDef, Stmt};
use std::collections::{BTreeMap, BTreeSet};
use types::diagnostic::suggestion;
use types::expr::{Problem, Type, Variables};

/// What the checks found.
pub(crate) struct Checked {
    pub(crate) problems: Vec<Problem>,
    /// Paths of declared variables that are read, such as `workload.task_family`.
    pub(crate) reads: BTreeSet<String>,
    /// The type of the value.
    pub(crate) result: Type,
}

impl Default for Checked {
    fn default() -> Self {
        Checked { problems: Vec::new(), reads: BTreeSet::new(), result: Type::Any }
    }
}

/// A function of the text, closures included.
pub(crate) struct Function {
    pub(crate) name: ImmutableString,
    pub(crate) params: Vec<ImmutableString>,
    pub(crate) body: Vec<Stmt>,
    /// Nodes of its tree.
    pub(crate) nodes: u64,
    /// Names of what it calls.
    pub(crate) calls: Vec<ImmutableString>,
    /// It holds a loop, or hands a function on.
    pub(crate) repeats: bool,
}

/// Functions of a tree. Their bodies can only be reached by walking a tree of that function alone.
pub(crate) fn functions_of(ast: &AST) -> Vec<Function> {
    let one = |def: &ScriptFuncDef| {
        // `clone_functions_only_filtered` does not filter when the clone is empty (rhai 1.27).
        let mut alone = ast.clone_functions_only();
        alone.retain_functions(|_, _, name, arity| name == def.name.as_str() && arity == def.params.len());
        let mut f = Function {
            name: def.name.clone(),
            params: def.params.iter().cloned().collect(),
            body: Vec::new(),
            nodes: 0,
            calls: Vec::new(),
            repeats: false,
        };
        alone.walk(&mut |path| {
            if let [ASTNode::Stmt(statement)] = path {
                f.body.push((*statement).clone());
            }
            f.nodes = f.nodes.saturating_add(1);
            match path.last() {
                Some(ASTNode::Stmt(Stmt::For(..) | Stmt::While(..) | Stmt::Do(..)))
                | Some(ASTNode::Expr(Expr::DynamicConstant(..))) => f.repeats = true,
                Some(ASTNode::Stmt(Stmt::FnCall(call, _)))
                | Some(ASTNode::Expr(Expr::FnCall(call, _) | Expr::MethodCall(call, _))) => {
                    f.calls.push(call.name.clone());
                }
                _ => {}
            }
            true
        });
        f
    };
    ast.iter_fn_def().map(|def| one(def)).collect()
}

/// Most nodes that a call of the function visits, with those of the functions it calls; `None` where loops or
/// recursion leave that open.
pub(crate) fn most_nodes(functions: &[Function], name: &str) -> Option<u64> {
    fn visit(functions: &[Function], name: &str, within: &mut Vec<String>) -> Option<u64> {
        let Some(f) = functions.iter().find(|f| f.name == name) else { return Some(1) };
        if f.repeats || within.iter().any(|outer| outer == name) {
            return None;
        }
        within.push(name.to_owned());
        let mut nodes = f.nodes;
        for call in &f.calls {
            nodes = nodes.saturating_add(visit(functions, call, within)?);
            // What is this large need not be known more exactly.
            if nodes > 1_000_000 {
                break;
            }
        }
        within.pop();
        Some(nodes)
    }
    visit(functions, name, &mut Vec::new())
}

/// Where an expression starts; the engine gives the operator's place for `a == b`.
pub(crate) fn start(expr: &Expr) -> Position {
    let least = |a: Position, b: Position| match (place(a), place(b)) {
        (x, y) if y < x && !b.is_none() => b,
        _ => a,
    };
    match expr {
        Expr::FnCall(call, at) => call.args.iter().map(start).fold(*at, least),
        Expr::And(operands, at) | Expr::Or(operands, at) | Expr::Coalesce(operands, at) => {
            operands.iter().map(start).fold(*at, least)
        }
        Expr::Dot(x, ..) | Expr::Index(x, ..) => start(&x.lhs),
        other => other.start_position(),
    }
}

/// A call of a method of `act`, to be checked by the verbs.
pub(crate) struct ActCall {
    pub(crate) call: FnCallExpr,
    pub(crate) at: Position,
}

/// Checks one tree.
pub(crate) struct Checker<'a> {
    sandbox: &'a Sandbox,
    ast: &'a AST,
    functions: BTreeMap<ImmutableString, Function>,
    /// Variables in scope, innermost last.
    variables: Vec<(String, Ty)>,
    /// How many of them are declared from outside.
    declared: usize,
    /// Local variables that are assigned somewhere: their type is not followed.
    assigned: BTreeSet<String>,
    /// Paths known not to be `()` here.
    narrowed: Vec<String>,
    /// Calls on the variable `act` of a policy.
    pub(crate) acts: Vec<ActCall>,
    /// A policy rather than an expression: `ctx` and `act` are special, strings may hold templates.
    script: bool,
    /// Paths below which values may be missing.
    doubtful: &'a [String],
    /// The text of the tree, where there is more than an expression.
    text: &'a str,
    /// What own functions are given by those that call them, by their names: one type for each parameter.
    given: BTreeMap<ImmutableString, Vec<Ty>>,
    /// The same, as it is found out now.
    found: BTreeMap<ImmutableString, Vec<Ty>>,
    /// How many `??` follow.
    guarded: usize,
    out: Checked,
}

impl<'a> Checker<'a> {
    /// For a tree in which these variables are declared.
    pub(crate) fn new(sandbox: &'a Sandbox, ast: &'a AST, variables: &Variables) -> Self {
        let functions = functions_of(ast).into_iter().map(|f| (f.name.clone(), f)).collect();
        Checker {
            sandbox,
            ast,
            functions,
            variables: variables.iter().map(|(name, t)| (name.clone(), Ty::of(t))).collect(),
            declared: variables.len(),
            assigned: BTreeSet::new(),
            narrowed: Vec::new(),
            acts: Vec::new(),
            script: false,
            doubtful: &[],
            text: "",
            given: BTreeMap::new(),
            found: BTreeMap::new(),
            guarded: 0,
            out: Checked::default(),
        }
    }

    /// The same, of a tree that was made of this text.
    pub(crate) fn of_text(self, text: &'a str) -> Self {
        Checker { text, ..self }
    }

    /// Checks a tree that is one expression; `doubtful` are paths below which values may be missing.
    pub(crate) fn expression(mut self, result: Option<&Type>, doubtful: &'a [String]) -> Checked {
        self.doubtful = doubtful;
        let Some(Stmt::Expr(expr)) = self.ast.statements().first() else { return self.out };
        let found = self.infer(expr);
        self.out.result = found.declared();
        if let Some(want) = result.map(Ty::of) {
            self.result(expr, &found, &want);
        }
        // A bare `true` or `false` is meant; a computed constant is not.
        let stated = matches!(**expr, Expr::BoolConstant(..));
        if !stated && self.out.reads.is_empty() && self.out.problems.is_empty() {
            self.warn(
                "308",
                start(expr),
                "the expression reads no variable: it is the same for every request",
            );
        }
        self.out
    }

    /// The result must have the type that is asked for.
    fn result(&mut self, expr: &Expr, found: &Ty, want: &Ty) {
        if found.fits(want) {
            return;
        }
        let hint = match (found, want) {
            (Ty::Optional(of), want) if **of == *want => "give a value for unknown: `… ?? false`".to_owned(),
            (_, Ty::Bool) => "compare the value with something".to_owned(),
            _ => format!("the value must be {}", want.name()),
        };
        let message = format!("the result is {}, not {}", found.name(), want.name());
        self.error("302", start(expr), message, Some(hint));
    }

    fn error(&mut self, number: &'static str, at: Position, message: String, hint: Option<String>) {
        let (line, column) = place(at);
        let problem = Problem { number, warning: false, line, column, message, hint };
        if !self.out.problems.contains(&problem) {
            self.out.problems.push(problem);
        }
    }

    fn warn(&mut self, number: &'static str, at: Position, message: &str) {
        let (line, column) = place(at);
        let message = message.to_owned();
        let problem = Problem { number, warning: true, line, column, message, hint: None };
        if !self.out.problems.contains(&problem) {
            self.out.problems.push(problem);
        }
    }

    /// The type of an expression; problems are noted on the way.
    fn infer(&mut self, expr: &Expr) -> Ty {
        match expr {
            Expr::BoolConstant(..) => Ty::Bool,
            Expr::IntegerConstant(..) => Ty::Int,
            Expr::FloatConstant(..) => Ty::Float,
            Expr::StringConstant(..) => Ty::Str,
            Expr::CharConstant(..) | Expr::ThisPtr(_) | Expr::Property(..) | Expr::MethodCall(..) => Ty::Any,
            Expr::Unit(_) => Ty::Unit,
            Expr::InterpolatedString(parts, _) => {
                parts.iter().for_each(|p| drop(self.infer(p)));
                Ty::Str
            }
            Expr::Array(items, _) => {
                let types: Vec<Ty> = items.iter().map(|i| self.infer(i)).collect();
                Ty::List(Box::new(types.into_iter().reduce(Ty::join).unwrap_or(Ty::Any)))
            }
            Expr::Map(fields, _) => {
                fields.0.iter().for_each(|(_, value)| drop(self.infer(value)));
                Ty::Any
            }
            Expr::Variable(x, _, at) => {
                self.note_read(&x.1);
                self.variable(&x.1, *at)
            }
            Expr::Stmt(block) => self.block(block.statements()),
            Expr::FnCall(call, at) => self.call(call, *at),
            Expr::Dot(..) | Expr::Index(..) => self.chain(expr),
            Expr::And(operands, _) => self.all(operands, true),
            Expr::Or(operands, _) => self.all(operands, false),
            Expr::Coalesce(operands, _) => self.coalesce(operands),
            // A closure by itself: its body is checked where it is passed.
            _ => Ty::Any,
        }
    }

    fn variable(&mut self, name: &str, at: Position) -> Ty {
        let found = self.variables.iter().rposition(|(n, _)| n == name);
        let Some(index) = found else {
            let known: Vec<&str> = self.variables.iter().map(|(n, _)| n.as_str()).collect();
            let hint = suggestion(name, known);
            self.error("301", at, format!("unknown variable `{name}`"), Some(hint));
            return Ty::Any;
        };
        if self.script && matches!(name, "ctx" | "act") && index < self.declared {
            let message = format!("`{name}` stands alone");
            let hint = format!(
                "use `{name}.<name>`, or hand it to a function whose parameter is also called `{name}`"
            );
            self.error("131", at, message, Some(hint));
        }
        let ty = self.variables.get(index).map_or(Ty::Any, |(_, t)| t.clone());
        if self.narrowed.iter().any(|n| n == name) { ty.known() } else { ty }
    }

    /// `&&` and `||`: every operand is Bool; what one says of `()` holds in the next.
    fn all(&mut self, operands: &[Expr], and: bool) -> Ty {
        let outer = self.narrowed.len();
        for operand in operands {
            self.boolean(operand, if and { "&&" } else { "||" });
            let known = known_after(operand, and);
            self.narrowed.extend(known);
        }
        self.narrowed.truncate(outer);
        Ty::Bool
    }

    /// An operand that must be Bool.
    fn boolean(&mut self, expr: &Expr, of: &str) {
        match self.infer(expr) {
            Ty::Any | Ty::Bool => {}
            other => {
                let message = format!("`{of}` takes true or false, not {}", other.name());
                let hint = match other {
                    Ty::Optional(_) => "give a value for unknown: `(… ?? false)`",
                    _ => "compare the value with something",
                };
                self.error("302", start(expr), message, Some(hint.to_owned()));
            }
        }
    }

    fn coalesce(&mut self, operands: &[Expr]) -> Ty {
        let last = operands.len().saturating_sub(1);
        let mut types = Vec::with_capacity(operands.len());
        for (i, operand) in operands.iter().enumerate() {
            let guards = usize::from(i < last);
            self.guarded = self.guarded.saturating_add(guards);
            types.push(self.infer(operand));
            self.guarded = self.guarded.saturating_sub(guards);
        }
        let known = types.into_iter().enumerate().map(|(i, t)| if i < last { t.known() } else { t });
        known.filter(|t| *t != Ty::Unit).reduce(Ty::join).unwrap_or(Ty::Unit)
    }
}

/// Dotted path of a chain of plain names.
fn path_of(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Variable(x, ..) => Some(x.1.to_string()),
        Expr::Property(p, _) => Some(p.2.to_string()),
        Expr::Dot(x, ..) => Some(format!("{}.{}", path_of(&x.lhs)?, path_of(&x.rhs)?)),
        _ => None,
    }
}

/// Paths that are not `()` once `expr` is `holds`.
fn known_after(expr: &Expr, holds: bool) -> Vec<String> {
    match expr {
        Expr::And(operands, _) if holds => operands.iter().flat_map(|o| known_after(o, true)).collect(),
        Expr::Or(operands, _) if !holds => operands.iter().flat_map(|o| known_after(o, false)).collect(),
        Expr::FnCall(call, _) if call.name.as_str() == "!" => {
            call.args.first().map_or_else(Vec::new, |a| known_after(a, !holds))
        }
        Expr::FnCall(call, _) => {
            let operator = if holds { "!=" } else { "==" };
            match (call.name.as_str(), call.args.as_slice()) {
                (name, [a, b]) if name == operator => match (a, b) {
                    (path, Expr::Unit(_)) | (Expr::Unit(_), path) => path_of(path).into_iter().collect(),
                    _ => Vec::new(),
                },
                // Equal to a string: known.
                ("==", [a, b]) if holds => match (a, b) {
                    (path, Expr::StringConstant(..)) | (Expr::StringConstant(..), path) => {
                        path_of(path).into_iter().collect()
                    }
                    _ => Vec::new(),
                },
                // One of some strings: known.
                ("contains", [Expr::Array(items, _), path])
                    if holds && items.iter().all(|i| matches!(i, Expr::StringConstant(..))) =>
                {
                    path_of(path).into_iter().collect()
                }
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}
