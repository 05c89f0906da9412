//! The seam to the expression language: rooms that hold conditions need no knowledge of the script engine.

use serde_json::Value;
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Type of a variable, for static checks.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A decimal number.
    Float,
    /// Any string.
    Str,
    /// One of some strings.
    Enum(&'static [&'static str]),
    /// One of some strings that a file names, such as the labels of a node.
    OneOf(Arc<[Arc<str>]>),
    /// A list.
    List(Box<Type>),
    /// A map with known fields.
    Map(Vec<(String, Type)>),
    /// A map with fields not known before the request.
    Any,
    /// The type, or `()` for unknown.
    Optional(Box<Type>),
}

impl Type {
    /// The same type, or `()`.
    #[must_use]
    pub fn optional(self) -> Type {
        Type::Optional(Box::new(self))
    }

    /// A list of these.
    #[must_use]
    pub fn list(self) -> Type {
        Type::List(Box::new(self))
    }

    /// A map with these fields.
    #[must_use]
    pub fn map<'a>(fields: impl IntoIterator<Item = (&'a str, Type)>) -> Type {
        Type::Map(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
    }
}

/// Variables in scope of an expression.
pub type Variables = Vec<(String, Type)>;

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Number within the caller's prefix: `301` unknown name, `302` wrong result type, `303` unrelated
    /// comparison, `304` not a value of the enum, `305` template text, `306` foreign syntax, `307` a value that
    /// may be missing is used unguarded, `308` constant, `309` integer division, `300` does not compile.
    pub number: &'static str,
    /// A warning only.
    pub warning: bool,
    /// Line in the expression, from 1.
    pub line: usize,
    /// Column in the expression, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

/// Why an expression gave no value at run time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What happened, with line and column in the expression; never the values of variables.
    pub message: String,
    /// A limit (operations, time, size) cut it.
    pub limit: bool,
}

/// Values of the variables, in the language's own form, built once and shared by many evaluations.
#[derive(Clone)]
pub struct Scope(pub Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scope")
    }
}

/// A compiled expression with the warnings of its compilation.
pub type Compiled = (Arc<dyn Expression>, Vec<Problem>);

/// A language for conditions and small computations.
pub trait Language: Send + Sync {
    /// Compiles and checks an expression that must give `result` (`None`: anything).
    ///
    /// # Errors
    /// Every problem found. Warnings alone do not fail; they come with the expression.
    fn compile(
        &self,
        source: &str,
        variables: &Variables,
        result: Option<&Type>,
    ) -> Result<Compiled, Vec<Problem>>;

    /// As [`Language::compile`], where parts of the variables may be missing although their types do not say
    /// so: `doubtful` holds paths such as `nodes.fix`, of nodes that may be skipped. What lies below such a
    /// path, apart from `status`, `outcome` and `duration_ms`, gives the warning `307` unless `??` follows or
    /// the node's `status` or `outcome` has been tested before it in the same expression.
    ///
    /// # Errors
    /// As for [`Language::compile`].
    fn compile_with(
        &self,
        source: &str,
        variables: &Variables,
        result: Option<&Type>,
        doubtful: &[String],
    ) -> Result<Compiled, Vec<Problem>> {
        let _ = doubtful;
        self.compile(source, variables, result)
    }

    /// Binds values to variables; with `base`, adds to its variables (an equal name hides the base's).
    fn scope(&self, base: Option<&Scope>, variables: Vec<(String, Value)>) -> Scope;
}

/// A compiled expression.
pub trait Expression: Send + Sync + fmt::Debug {
    /// Its value.
    ///
    /// # Errors
    /// Type errors, missing properties and limits; never "false" instead.
    fn eval(&self, scope: &Scope) -> Result<Value, Error>;

    /// Its value as a boolean.
    ///
    /// # Errors
    /// As for [`Expression::eval`], and when the value is no boolean.
    fn eval_bool(&self, scope: &Scope) -> Result<bool, Error> {
        match self.eval(scope)? {
            Value::Bool(b) => Ok(b),
            _ => Err(Error { message: "the result is not true or false".to_owned(), limit: false }),
        }
    }

    /// The text it was compiled from.
    fn source(&self) -> &str;

    /// Paths of the variables it reads, such as `nodes.check.score`; a variable that is used whole stands
    /// by its name alone. Nothing else needs a value when it is evaluated. Empty = it does not tell.
    fn reads(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Its parts between `&&`, `||` and `!`, as they are written; empty = it does not tell.
    fn parts(&self) -> Vec<&str> {
        Vec::new()
    }

    /// The parts that an evaluation of it looks at, in order, each with whether it holds; those behind one that fails
    /// are not among them.
    fn looked_at(&self, scope: &Scope) -> Vec<(&str, bool)> {
        let _ = scope;
        Vec::new()
    }

    /// The type of its value as far as it is known before it is evaluated.
    fn result(&self) -> Type {
        Type::Any
    }
}
