//! Portkey's conditions as the expressions of rules.

use super::{members, quoted};
use serde_json::Value;

/// Numbers of a request that may be absent.
const NUMBERS: &[&str] = &["max_tokens", "temperature"];

/// The expression of a query, or why there is none.
pub(super) fn expression(query: &Value) -> Result<String, String> {
    let parts: Result<Vec<String>, String> = members(query).map(|(name, value)| part(name, value)).collect();
    let parts = parts?;
    if parts.is_empty() {
        return Err("a query without a condition".to_owned());
    }
    Ok(parts.join(" && "))
}

fn part(name: &str, value: &Value) -> Result<String, String> {
    let joined = |word: &str| {
        let all = value.as_array().ok_or_else(|| format!("`{name}` without a list"))?;
        let all: Result<Vec<String>, String> =
            all.iter().map(|q| expression(q).map(|e| format!("({e})"))).collect();
        let all = all?;
        if all.is_empty() {
            Err(format!("`{name}` without a condition"))
        } else {
            Ok(format!("({})", all.join(word)))
        }
    };
    match name {
        "$and" => joined(" && "),
        "$or" => joined(" || "),
        _ => {
            let field = Field::of(name)?;
            match value.as_object() {
                Some(operators) if !operators.is_empty() => {
                    let all: Result<Vec<String>, String> =
                        operators.iter().map(|(op, v)| field.compare(op, v)).collect();
                    Ok(all?.join(" && "))
                }
                Some(_) => Err(format!("`{name}` without an operator")),
                None => field.compare("$eq", value),
            }
        }
    }
}

/// What is compared.
enum Field {
    /// A text, always there.
    Text(&'static str),
    /// A member of a map, which may be absent.
    Member(String),
    /// A parameter of the request with a number, which may be absent.
    Number(String),
    /// A parameter that is true or not there.
    Flag(&'static str),
}

/// What stands for an absent number, so that the comparison comes out as Portkey has it: nothing but `$ne` and `$nin`
/// holds of what is not there.
fn in_place_of_absent(operator: &str, value: &Value) -> String {
    let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let numbers = items.iter().filter_map(Value::as_f64);
    let Some(largest) = numbers.reduce(f64::max) else { return "0".to_owned() };
    let chosen = match operator {
        // No number is more or less than itself.
        "$gt" | "$lt" => return value.to_string(),
        "$gte" => (largest - 1.0).floor(),
        _ => (largest + 1.0).floor(),
    };
    // Whole numbers are written without a point, as those of both parameters may be.
    format!("{chosen:.0}")
}

impl Field {
    fn of(name: &str) -> Result<Field, String> {
        if let Some(key) = name.strip_prefix("metadata.") {
            return Ok(Field::Member(format!("request.metadata.get({})", quoted(key))));
        }
        match name.strip_prefix("params.") {
            Some("model") => Ok(Field::Text("request.model_asked")),
            Some("stream") => Ok(Field::Flag("request.stream")),
            Some("tools") => {
                Err("`params.tools`: rules read `request.has_tools`, true where there are some".to_owned())
            }
            Some(n) if NUMBERS.contains(&n) => Ok(Field::Number(format!("request.{n}"))),
            _ => Err(format!("`{name}` is nothing that rules see")),
        }
    }

    fn compare(&self, operator: &str, value: &Value) -> Result<String, String> {
        let literal = |v: &Value| match v {
            Value::String(s) => Ok(quoted(s)),
            Value::Number(_) | Value::Bool(_) => Ok(v.to_string()),
            _ => Err(format!("`{operator}` with something else than a text or number")),
        };
        if let Field::Flag(name) = self {
            // What is absent is no different from `false` to rules, and is to Portkey.
            return match (operator, value) {
                ("$eq", Value::Bool(true)) => Ok((*name).to_owned()),
                ("$ne", Value::Bool(true)) => Ok(format!("!{name}")),
                _ => Err(format!("of `{name}` rules know whether it is true, and nothing else")),
            };
        }
        let (subject, word) = match self {
            Field::Text(s) => ((*s).to_owned(), true),
            Field::Member(s) => (s.clone(), true),
            Field::Flag(s) => ((*s).to_owned(), true),
            Field::Number(s) => (format!("({s} ?? {})", in_place_of_absent(operator, value)), false),
        };
        match operator {
            "$eq" => Ok(format!("{subject} == {}", literal(value)?)),
            "$ne" => Ok(format!("{subject} != {}", literal(value)?)),
            "$in" | "$nin" => {
                let all = value.as_array().ok_or_else(|| format!("`{operator}` without a list"))?;
                let all: Result<Vec<String>, String> = all.iter().map(literal).collect();
                let within = format!("{subject} in [{}]", all?.join(", "));
                Ok(if operator == "$in" { within } else { format!("!({within})") })
            }
            "$gt" | "$gte" | "$lt" | "$lte" if !word && value.is_number() => {
                let sign = match operator {
                    "$gt" => ">",
                    "$gte" => ">=",
                    "$lt" => "<",
                    _ => "<=",
                };
                Ok(format!("{subject} {sign} {value}"))
            }
            "$regex" => Err("`$regex`: rules have `glob(text, pattern)`, which is not the same".to_owned()),
            other => Err(format!("the operator `{other}` here")),
        }
    }
}
