//! Reading a validator's parameters: unknown names and wrong types are refused with what would be right.

use crate::Reference;
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
    /// Names of parameters that would have been known, where one was not.
    pub known: Vec<String>,
}

impl Problem {
    pub(crate) fn new(
        field: impl Into<String>,
        message: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Problem { field: field.into(), message: message.into(), expected: expected.into(), known: Vec::new() }
    }

    fn known(mut self, known: &[&str]) -> Self {
        self.known = known.iter().map(|k| (*k).to_owned()).collect();
        self
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

    /// The same for a map at a place of its own.
    pub(crate) fn at(with: &'a Value, known: &[&str], path: &str) -> Result<Self, Problem> {
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
            )
            .known(known)),
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

    /// A fraction from 0 to 1.
    pub(crate) fn fraction(&self, key: &str) -> Result<Option<f64>, Problem> {
        let Some(v) = self.get(key) else { return Ok(None) };
        match v.as_f64().filter(|f| (0.0..=1.0).contains(f)) {
            Some(f) => Ok(Some(f)),
            None => Err(Problem::new(self.field(key), shown(v), "a number from 0 to 1")),
        }
    }

    /// One of the known words.
    pub(crate) fn word(&self, key: &str, known: &[&'static str]) -> Result<Option<&'static str>, Problem> {
        let Some(v) = self.get(key) else { return Ok(None) };
        let expected = || format!("one of {}", known.join(", "));
        let Some(s) = v.as_str() else {
            return Err(Problem::new(self.field(key), format!("is {}", kind(v)), expected()));
        };
        known.iter().find(|k| **k == s).copied().map(Some).ok_or_else(|| {
            let near = types::diagnostic::suggestion(s, known.iter().copied());
            Problem::new(self.field(key), format!("`{s}` is not known; {near}"), expected())
        })
    }

    /// The path of a value of the run, such as `nodes.retrieve.result`: names, dots and `[0]`.
    pub(crate) fn reference(&self, key: &'static str) -> Result<Option<Reference>, Problem> {
        let Some(v) = self.get(key) else { return Ok(None) };
        let path = v.as_str().filter(|s| is_path(s));
        path.map(|p| Some(Reference { param: key, path: p.to_owned() })).ok_or_else(|| {
            let found = v.as_str().map_or_else(|| kind(v).to_owned(), |s| format!("`{s}`"));
            Problem::new(self.field(key), format!("is {found}"), "a path such as `nodes.retrieve.result`")
        })
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

/// Names joined by dots, each with any number of `[index]` behind it.
fn is_path(text: &str) -> bool {
    let name = |s: &str| {
        !s.is_empty()
            && s.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !s.starts_with(|c: char| c.is_ascii_digit())
    };
    let index = |s: &str| s.strip_suffix(']').is_some_and(|n| n.parse::<u32>().is_ok());
    text.split('.').all(|part| {
        let mut pieces = part.split('[');
        pieces.next().is_some_and(name) && pieces.all(index)
    })
}

/// What kind of value it is, for messages.
/// What was found in the place of a number within a range.
pub(crate) fn shown(v: &Value) -> String {
    if v.is_number() { format!("is {v}") } else { format!("is {}", kind(v)) }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_names_dots_and_indices() {
        let check = |text: &str, want: bool| assert_eq!(is_path(text), want, "{text}");
        check("nodes.retrieve.result", true);
        check("nodes.get.results[0].text", true);
        check("inputs", true);
        for bad in ["", ".", "a.", "a[x]", "a[0", "a b", "a + b", "0a", "a..b", "[0]"] {
            check(bad, false);
        }
    }

    #[test]
    fn words_fractions_and_paths_say_what_would_be_right() {
        let with = json!({"w": "msk", "f": 2, "r": [1]});
        let p = Params::new(&with, &["w", "f", "r"]).unwrap();
        assert!(p.word("w", &["mask", "block"]).unwrap_err().message.contains("did you mean `mask`"));
        assert_eq!(p.fraction("f").unwrap_err().expected, "a number from 0 to 1");
        assert!(p.reference("r").unwrap_err().expected.contains("a path"));
    }
}
