//! The expression language: compiling with static checks, binding values, evaluating.

use crate::check::{Checked, Checker, lexical};
use crate::sandbox::{MAX_EXPRESSION, Sandbox, Sets, explain, place, shared, timed};
use crate::values::{Record, from_json, to_json};
use rhai::{AST, Dynamic};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use types::expr::{self, Compiled, Expression, Language, Problem, Scope, Type, Variables};

/// Values of variables.
pub(crate) struct Vars {
    record: Record,
    /// The moment of the request, for the dates of rules.
    pub(crate) unix_ms: Option<i64>,
}

impl Vars {
    pub(crate) fn new(fields: Vec<(Cow<'static, str>, Dynamic)>, unix_ms: Option<i64>) -> Self {
        Vars { record: Record::new(fields), unix_ms }
    }

    /// All variables as one map.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// The values behind a scope of this language.
    pub(crate) fn of(scope: &Scope) -> Result<&Vars, expr::Error> {
        scope.0.downcast_ref().ok_or_else(|| expr::Error {
            message: "the scope belongs to another language".to_owned(),
            limit: false,
        })
    }
}

/// The expression language of rules, pools and workflows.
pub(crate) struct Rhai(Arc<Sandbox>);

impl Rhai {
    /// The language with these constants for `set("…")`.
    pub(crate) fn with_sets(sets: &Sets) -> Self {
        if sets.is_empty() { Rhai(Arc::clone(shared())) } else { Rhai(Arc::new(Sandbox::expressions(sets))) }
    }

    /// As [`Language::compile`], with the concrete type.
    pub(crate) fn condition(
        &self,
        source: &str,
        variables: &Variables,
        result: Option<&Type>,
    ) -> Result<(Condition, Vec<Problem>), Vec<Problem>> {
        if source.len() > MAX_EXPRESSION {
            let message = format!("the expression has {} bytes; the limit is {MAX_EXPRESSION}", source.len());
            return Err(vec![problem("300", (1, 1), message, None)]);
        }
        let problems = lexical(source);
        if !problems.is_empty() {
            return Err(problems);
        }
        let ast = self.0.engine.compile_expression(source).map_err(|e| vec![uncompiled(&e)])?;
        let Checked { problems, reads } = Checker::new(&self.0, &ast, variables).expression(result);
        if problems.iter().any(|p| !p.warning) {
            return Err(problems);
        }
        let used = reads.iter().map(|path| path.split('.').next().unwrap_or(path).to_owned());
        let used: BTreeSet<String> = used.collect();
        let used = used.into_iter().collect();
        Ok((Condition { source: source.into(), ast, used, reads, sandbox: Arc::clone(&self.0) }, problems))
    }
}

fn problem(number: &'static str, at: (usize, usize), message: String, hint: Option<String>) -> Problem {
    Problem { number, warning: false, line: at.0, column: at.1, message, hint }
}

/// A parse error as a problem.
pub(crate) fn uncompiled(error: &rhai::ParseError) -> Problem {
    let message = error.err_type().to_string();
    let hint = match error.err_type() {
        rhai::ParseErrorType::Reserved(word) => Some(match word.as_str() {
            "while" | "loop" | "do" => format!("`{word}` is off; use `for` over a list or a range"),
            _ => format!("`{word}` is off in policies"),
        }),
        _ => None,
    };
    problem("300", place(error.position()), message, hint)
}

impl Language for Rhai {
    fn compile(
        &self,
        source: &str,
        variables: &Variables,
        result: Option<&Type>,
    ) -> Result<Compiled, Vec<Problem>> {
        let (condition, warnings) = self.condition(source, variables, result)?;
        Ok((Arc::new(condition), warnings))
    }

    fn scope(&self, base: Option<&Scope>, variables: Vec<(String, Value)>) -> Scope {
        let base = base.and_then(|b| b.0.downcast_ref::<Vars>());
        let mut fields = base.map_or_else(Vec::new, |b| b.record.fields().to_vec());
        fields.extend(variables.into_iter().map(|(name, value)| (Cow::Owned(name), from_json(&value))));
        Scope(Arc::new(Vars::new(fields, base.and_then(|b| b.unix_ms))))
    }
}

/// A compiled expression.
pub(crate) struct Condition {
    source: Arc<str>,
    ast: AST,
    /// Variables it reads: only these are bound.
    used: Vec<String>,
    /// Paths it reads.
    pub(crate) reads: BTreeSet<String>,
    sandbox: Arc<Sandbox>,
}

impl Condition {
    fn run(&self, scope: &Scope) -> Result<Dynamic, expr::Error> {
        let vars = Vars::of(scope)?;
        let mut bound = rhai::Scope::with_capacity(self.used.len());
        for name in &self.used {
            if let Some(value) = vars.record.get(name) {
                bound.push_dynamic(name.as_str(), value.clone());
            }
        }
        let sandbox = &self.sandbox;
        timed(&sandbox.clock, || sandbox.engine.eval_ast_with_scope::<Dynamic>(&mut bound, &self.ast))
            .map_err(|e| explain(&e))
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({:?})", self.source)
    }
}

impl Expression for Condition {
    fn eval(&self, scope: &Scope) -> Result<Value, expr::Error> {
        self.run(scope).map(|v| to_json(&v))
    }

    fn eval_bool(&self, scope: &Scope) -> Result<bool, expr::Error> {
        self.run(scope)?.as_bool().map_err(|found| expr::Error {
            message: format!("the result is not true or false but {found}"),
            limit: false,
        })
    }

    fn source(&self) -> &str {
        &self.source
    }
}
