//! Labels and limits as people write them.

use super::super::Problem;
use serde_json::{Map, Value, json};

/// `name=value` pairs as an object.
fn labels(pairs: &[String]) -> Result<Value, Problem> {
    let mut all = Map::new();
    for p in pairs {
        let (name, value) = p
            .split_once('=')
            .ok_or_else(|| Problem(format!("`{p}` is no label; write it as in team=red")))?;
        all.insert(name.to_owned(), value.into());
    }
    Ok(Value::Object(all))
}

/// "10 usd per day", "5 requests per second for model openai/*", "4 concurrency".
fn limit(text: &str) -> Result<Value, Problem> {
    let wrong = || {
        Problem(format!(
            "`{text}` is no limit; write it as in \"10 usd per day\", \"0.2 requests per second\", \"4 concurrency\" or \
             \"5 usd per day for model openai/*\""
        ))
    };
    let mut words = text.split_whitespace();
    let amount: f64 = words.next().and_then(|w| w.parse().ok()).ok_or_else(wrong)?;
    let metric = words.next().ok_or_else(wrong)?;
    let mut quota = json!({ "amount": amount, "metric": metric });
    while let Some(word) = words.next() {
        let (name, value) = match word {
            "per" => ("per", words.next()),
            "reserving" => {
                let share = words.next().and_then(|w| w.strip_suffix('%')?.parse::<f64>().ok());
                let share = share.filter(|p| *p > 0.0 && *p < 100.0).ok_or_else(wrong)?;
                if let Some(q) = quota.as_object_mut() {
                    q.insert("reserved_premium".to_owned(), (share / 100.0).into());
                }
                continue;
            }
            "for" => match words.next() {
                Some(kind @ ("model" | "label")) => (kind, words.next()),
                _ => return Err(wrong()),
            },
            _ => return Err(wrong()),
        };
        if let (Some(q), Some(v)) = (quota.as_object_mut(), value) {
            q.insert(name.to_owned(), v.into());
        } else {
            return Err(wrong());
        }
    }
    Ok(quota)
}

pub(super) fn put(body: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(v) = value {
        body.insert(name.to_owned(), v.into());
    }
}

pub(super) fn common(
    body: &mut Map<String, Value>,
    label: &[String],
    limits: &[String],
) -> Result<(), Problem> {
    if !label.is_empty() {
        body.insert("labels".to_owned(), labels(label)?);
    }
    if !limits.is_empty() {
        let all: Result<Vec<Value>, Problem> = limits.iter().map(|l| limit(l)).collect();
        body.insert("limits".to_owned(), Value::Array(all?));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::show::quota;
    use super::*;

    #[test]
    fn limits_are_written_as_people_say_them() {
        for (text, want) in [
            ("10 usd per day", Some(json!({"amount": 10.0, "metric": "usd", "per": "day"}))),
            ("4 concurrency", Some(json!({"amount": 4.0, "metric": "concurrency"}))),
            (
                "0.2 requests per second for model openai/*",
                Some(json!({"amount": 0.2, "metric": "requests", "per": "second", "model": "openai/*"})),
            ),
            (
                "10 usd per day reserving 20%",
                Some(json!({"amount": 10.0, "metric": "usd", "per": "day", "reserved_premium": 0.2})),
            ),
            ("10 usd per day reserving 0.2", None),
            ("10 usd per day reserving 100%", None),
            ("ten usd", None),
            ("10 usd per", None),
            ("10 usd a day", None),
        ] {
            assert_eq!(limit(text).ok(), want, "{text}");
        }
        for text in ["10 usd per day", "10 usd per day for model openai/* reserving 12.5%"] {
            assert_eq!(quota(&limit(text).unwrap()), text);
        }
    }
}
