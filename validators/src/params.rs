//! Reading a validator's parameters: unknown names and wrong types are refused with what would be right.

use serde_json::{Map, Value};

/// Why a validator could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {message}; expected {expected}")]
pub struct Problem {
    /// Path of the parameter within `with`, or `use` for the name itself.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What would have been right.
    pub expected: String,
}

impl Problem {
    pub(crate) fn new(
        field: impl Into<String>,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Problem { field: field.into(), message: message.into(), expected: expected.into() }
    }
}

/// The parameters of one validator, whose names are known.
pub(crate) struct Params<'a> {
    map: Option<&'a Map<String, Value>>,
    path: String,
}

impl<'a> Params<'a> {
    /// Parameters out of `with`, which may hold only `known` names.
    pub(crate) fn new(with: &'a Value, known: &[&str]) -> Result<Self, Problem> {
        Self::at(with, known, "")
    }

    fn at(with: &'a Value, known: &[&str], path: &str) -> Result<Self, Problem> {
        let map = match with {
            Value::Null => None,
            Value::Object(m) => Some(m),
            _ => return Err(Problem::new(path, format!("is {}", kind(with)), "a map of parameters")),
        };
        let params = Params { map, path: path.to_owned() };
        let unknown = map.and_then(|m| m.keys().find(|k| !known.contains(&k.as_str())));
        match unknown {
            None => Ok(params),
            Some(k) if known.is_empty() => Err(Problem::new(
                params.field(k),
                format!("unknown parameter `{k}`"),
                "no parameters: this validator takes none",
            )),
            Some(k) => Err(Problem::new(
                params.field(k),
                format!(
                    "unknown parameter `{k}`; {}",
                    types::diagnostic::suggestion(k, known.iter().copied())
                ),
                format!("one of {}", known.join(", ")),
            )),
        }
    }

    fn field(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The parameter, if given and not null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.and_then(|m| m.get(key)).filter(|v| !v.is_null())
    }

    /// A nested map of parameters.
    pub(crate) fn nested(&self, key: &str, known: &[&str]) -> Result<Option<Params<'a>>, Problem> {
        self.get(key).map(|v| Params::at(v, known, &self.field(key))).transpose()
    }

    /// A boolean, or the default.
    pub(crate) fn boolean(&self, key: &str, default: bool) -> Result<bool, Problem> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(b)) => Ok(*b),
            Some(v) => Err(Problem::new(self.field(key), format!("is {}", kind(v)), "true or false")),
        }
    }

    /// A whole number from 0.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>, Problem> {
        match self.get(key) {
            None => Ok(None),
            Some(v) => match v.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(n) => Ok(Some(n)),
                None => {
                    Err(Problem::new(self.field(key), format!("is {}", kind(v)), "a whole number from 0"))
                }
            },
        }
    }

    /// Strings; one string counts as a list of one.
    pub(crate) fn strings(&self, key: &str) -> Result<Vec<&'a str>, Problem> {
        let wrong = |v: &Value| {
            Problem::new(self.field(key), format!("is {}", kind(v)), "a string or a list of strings")
        };
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::String(s)) => Ok(vec![s]),
            Some(Value::Array(l)) => l.iter().map(|v| v.as_str().ok_or_else(|| wrong(v))).collect(),
            Some(v) => Err(wrong(v)),
        }
    }
}

/// What kind of value it is, for messages.
pub(crate) fn kind(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(n) if n.is_f64() => "a decimal number",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
