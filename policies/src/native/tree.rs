//! Conditions taken apart: `&&`, `||`, `!` and the atoms between them.

use super::operand::Asked;
use super::test::{Read, Test};
use crate::check::start;
use crate::sandbox::{Sets, place};
use rhai::{AST, ASTNode, Expr, Position, Stmt};
use std::sync::Arc;

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
    /// What would make it hold, where that is known.
    pub(crate) asked: Option<Asked>,
    ast: AST,
    /// The variables it may read, by their names alone.
    reads: Box<[Box<str>]>,
}

/// The text that a tree is taken from.
pub(crate) struct Text<'a> {
    pub(crate) ast: &'a AST,
    pub(crate) source: &'a str,
    pub(crate) sets: &'a Sets,
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
            _ => {
                let ast = AST::new([Stmt::Expr(Box::new(expr.clone()))], text.ast.shared_lib().clone());
                Tree::Atom(Box::new(Atom {
                    text: positive(expr, written(text.source, offset(text.source, start(expr)), end)).into(),
                    test: Test::of(expr, text.sets),
                    asked: Asked::of(expr, text.sets),
                    reads: variables(&ast),
                    ast,
                }))
            }
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
    /// Whether it may read a variable of which `is` holds.
    pub(crate) fn may_read(&self, is: impl Fn(&str) -> bool) -> bool {
        self.reads.iter().any(|name| is(name))
    }

    /// What it comes to; `engine` answers what is not answered here.
    pub(crate) fn holds<E>(
        &self,
        read: &dyn Read,
        engine: &mut dyn FnMut(&AST) -> Result<bool, E>,
    ) -> Result<bool, E> {
        self.test.as_ref().and_then(|t| t.holds(read)).map_or_else(|| engine(&self.ast), Ok)
    }
}

/// The names of all variables in a tree, those of its closures included.
fn variables(ast: &AST) -> Box<[Box<str>]> {
    let mut names: Vec<Box<str>> = Vec::new();
    ast.walk(&mut |path| {
        if let Some(ASTNode::Expr(Expr::Variable(x, ..))) = path.last() {
            names.push(x.1.as_str().into());
        }
        true
    });
    names.sort_unstable();
    names.dedup();
    names.into()
}

/// The text of `a in b` where `a !in b` was written: the negation stands outside of it.
fn positive(expr: &Expr, text: String) -> String {
    match expr {
        Expr::FnCall(call, _) if call.name == "contains" => text.replacen(" !in ", " in ", 1),
        _ => text,
    }
}

/// Where a position stands in the source, in bytes.
pub(crate) fn offset(source: &str, at: Position) -> usize {
    let (line, column) = place(at);
    let before: usize = source.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let within = source.get(before..).unwrap_or("");
    let chars = within.char_indices().nth(column.saturating_sub(1)).map_or(within.len(), |(i, _)| i);
    before.saturating_add(chars)
}

/// The text between two places, without the operator and the brackets that are not its own, and with those of its
/// own that open before its first name.
fn written(source: &str, from: usize, to: usize) -> String {
    let mut text = source.get(from..to).unwrap_or("").trim_end();
    loop {
        let shorter = ["&&", "||", "!", "("].iter().find_map(|end| text.strip_suffix(end));
        let unmatched = if unopened(text) > 0 { text.strip_suffix(')') } else { None };
        match shorter.or(unmatched) {
            Some(shorter) => text = shorter.trim_end(),
            None => break,
        }
    }
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut before = source.get(..from).unwrap_or("").trim_end();
    while unopened(&text) > 0
        && let Some(rest) = before.strip_suffix('(')
    {
        text.insert(0, '(');
        before = rest.trim_end();
    }
    text
}

/// How many brackets close in a text that do not open in it, apart from those within strings.
fn unopened(text: &str) -> usize {
    let (mut open, mut unopened, mut within, mut escaped) = (0_usize, 0_usize, false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if within => escaped = true,
            '"' => within = !within,
            '(' if !within => open = open.saturating_add(1),
            ')' if !within && open > 0 => open = open.saturating_sub(1),
            ')' if !within => unopened = unopened.saturating_add(1),
            _ => {}
        }
    }
    unopened
}
