//! Checks of the statements of a policy: the types of local variables are followed.

use super::{Checked, Checker, Function, Ty, arms, known_after};
use crate::native::offset;
use crate::phase::Phase;
use rhai::{ASTNode, BinaryExpr, Expr, FlowControl, Position, Stmt};
use std::collections::BTreeSet;

/// Helpers that call helpers are followed so deep.
const HELPERS: usize = 5;

impl Checker<'_> {
    /// Checks every function of a policy that a phase can reach; those that none reaches, in the first of its
    /// phases. In each, a parameter called `ctx` is the map of the declared variables and one called `act`
    /// collects actions.
    pub(crate) fn policy(mut self, phase: Phase, own: &[Phase]) -> (Checked, Vec<super::ActCall>) {
        self.script = true;
        self.assigned = assigned(self.ast);
        let ctx = Ty::Map(std::mem::take(&mut self.variables));
        let mut reached = self.reached(phase.function());
        if own.first() == Some(&phase) {
            let by_any: BTreeSet<_> = own.iter().flat_map(|p| self.reached(p.function())).collect();
            reached.extend(self.functions.keys().filter(|k| !by_any.contains(*k)).cloned());
        }
        self.bodies(&reached, &ctx)
    }

    /// Checks every function that one of these can reach, and where `all` is said the others as well: functions that
    /// look at answers.
    pub(crate) fn checks(mut self, names: &[String], all: bool) -> (Checked, Vec<super::ActCall>) {
        self.script = true;
        self.assigned = assigned(self.ast);
        let ctx = Ty::Map(std::mem::take(&mut self.variables));
        let reached = match all {
            true => self.functions.keys().cloned().collect(),
            false => names.iter().flat_map(|n| self.reached(n)).collect(),
        };
        self.bodies(&reached, &ctx)
    }

    fn bodies(mut self, names: &BTreeSet<rhai::ImmutableString>, ctx: &Ty) -> (Checked, Vec<super::ActCall>) {
        // What helpers are given is known once those that call them have been looked at, and so on.
        let mut settled = false;
        for _ in 0..HELPERS {
            self.each(names, ctx);
            let found = std::mem::take(&mut self.found);
            settled = found == self.given;
            if settled {
                break;
            }
            self.given = found;
            (self.out, self.acts) = (Checked::default(), Vec::new());
        }
        if !settled {
            self.given.clear();
            self.each(names, ctx);
        }
        // Paths are told as the expressions tell them, without the leading `ctx`.
        let reads = std::mem::take(&mut self.out.reads);
        let told =
            reads.iter().filter_map(|p| p.strip_prefix("ctx.").or(p.starts_with("provider(").then_some(p)));
        self.out.reads = told.map(str::to_owned).collect();
        (self.out, self.acts)
    }

    fn each(&mut self, names: &BTreeSet<rhai::ImmutableString>, ctx: &Ty) {
        for name in names.iter().filter(|k| !k.contains('$')) {
            let Some(function) = self.functions.remove(name) else { continue };
            self.function(&function, ctx);
            self.functions.insert(name.clone(), function);
        }
    }

    /// The function of that name and all that it can call.
    fn reached(&self, name: &str) -> BTreeSet<rhai::ImmutableString> {
        let mut reached = BTreeSet::new();
        let mut ahead = vec![rhai::ImmutableString::from(name)];
        while let Some(name) = ahead.pop() {
            if let Some(function) = self.functions.get(&name)
                && reached.insert(name)
            {
                ahead.extend(function.calls.iter().cloned());
            }
        }
        reached
    }

    fn function(&mut self, function: &Function, ctx: &Ty) {
        // Recursion must find the function that is being checked.
        let stub = Function {
            name: function.name.clone(),
            params: function.params.clone(),
            body: Vec::new(),
            nodes: 0,
            calls: Vec::new(),
            repeats: false,
        };
        self.functions.insert(function.name.clone(), stub);
        self.variables.clear();
        let mut own = Vec::new();
        let given = self.given.get(&function.name).cloned().unwrap_or_default();
        for (i, param) in function.params.iter().enumerate() {
            match param.as_str() {
                "ctx" => self.variables.push(("ctx".to_owned(), ctx.clone())),
                "act" => self.variables.push(("act".to_owned(), Ty::Any)),
                other => {
                    let follow = !self.assigned.contains(other);
                    let ty = given.get(i).filter(|_| follow).cloned();
                    own.push((other.to_owned(), ty.unwrap_or(Ty::Any)));
                }
            }
        }
        self.declared = self.variables.len();
        self.variables.extend(own);
        self.block(&function.body);
    }

    /// A block; its type is that of its last expression.
    pub(super) fn block(&mut self, statements: &[Stmt]) -> Ty {
        let (variables, narrowed) = (self.variables.len(), self.narrowed.len());
        let mut last = Ty::Unit;
        for statement in statements {
            last = self.statement(statement);
        }
        self.variables.truncate(variables);
        self.narrowed.truncate(narrowed);
        last
    }

    fn statement(&mut self, statement: &Stmt) -> Ty {
        match statement {
            Stmt::Expr(expr) => return self.infer(expr),
            Stmt::FnCall(call, at) => return self.call(call, *at),
            Stmt::If(flow, _) => self.branches(flow),
            Stmt::Switch(x, at) => {
                let of = self.infer(&x.0);
                self.arms(&of, *at);
                for case in &x.1.expressions {
                    drop(self.infer(&case.lhs));
                    drop(self.infer(&case.rhs));
                }
            }
            Stmt::For(x, _) => {
                let (variable, counter, flow) = x.as_ref();
                let element = match self.infer(&flow.expr) {
                    Ty::List(of) => *of,
                    Ty::Range => Ty::Int,
                    _ => Ty::Any,
                };
                let outer = self.variables.len();
                self.variables.push((variable.name.to_string(), element));
                if let Some(counter) = counter {
                    self.variables.push((counter.name.to_string(), Ty::Int));
                }
                self.block(flow.body.statements());
                self.variables.truncate(outer);
            }
            Stmt::While(flow, _) | Stmt::Do(flow, ..) => {
                drop(self.infer(&flow.expr));
                self.block(flow.body.statements());
            }
            Stmt::Var(x, ..) => {
                let ty = self.infer(&x.1);
                let follow = !self.assigned.contains(x.0.name.as_str());
                self.variables.push((x.0.name.to_string(), if follow { ty } else { Ty::Any }));
            }
            Stmt::Assignment(x) => self.assignment(&x.1),
            Stmt::Block(block) => return self.block(block.statements()),
            Stmt::TryCatch(flow, _) => {
                self.block(flow.body.statements());
                let outer = self.variables.len();
                if let Expr::Variable(x, ..) = &flow.expr {
                    self.variables.push((x.1.to_string(), Ty::Any));
                }
                self.block(flow.branch.statements());
                self.variables.truncate(outer);
            }
            Stmt::Return(Some(expr), ..) | Stmt::BreakLoop(Some(expr), ..) => drop(self.infer(expr)),
            _ => {}
        }
        Ty::Any
    }

    /// What a field is compared with in a `switch`.
    fn arms(&mut self, of: &Ty, at: Position) {
        let begin = offset(self.text, at);
        for (place, literal) in arms::literals(self.text.get(begin..).unwrap_or("")) {
            let before = self.text.get(..begin.saturating_add(place)).unwrap_or("");
            let line = before.matches('\n').count().saturating_add(1);
            let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count());
            let number = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
            self.one_of_enum(of, literal, Position::new(number(line), number(column)));
        }
    }

    fn branches(&mut self, flow: &FlowControl) {
        self.boolean(&flow.expr, "if");
        for (block, holds) in [(&flow.body, true), (&flow.branch, false)] {
            let outer = self.narrowed.len();
            self.narrowed.extend(known_after(&flow.expr, holds));
            self.block(block.statements());
            self.narrowed.truncate(outer);
        }
    }

    fn assignment(&mut self, x: &BinaryExpr) {
        if let Expr::Dot(target, ..) | Expr::Index(target, ..) = &x.lhs
            && let Expr::Variable(v, _, at) = &target.lhs
            && matches!(v.1.as_str(), "ctx" | "act")
        {
            self.error("131", *at, format!("`{}` is read-only", v.1), None);
        }
        drop(self.infer(&x.lhs));
        drop(self.infer(&x.rhs));
    }
}

/// Names of all variables that are assigned anywhere.
fn assigned(ast: &rhai::AST) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    ast.walk(&mut |path| {
        if let Some(ASTNode::Stmt(Stmt::Assignment(x))) = path.last()
            && let Expr::Variable(v, ..) = &x.1.lhs
        {
            names.insert(v.1.to_string());
        }
        true
    });
    names
}
