//! Answers of a control API as tables.

use super::super::out::{Out, moment_of};
use serde_json::Value;

/// A list as a table, one thing as name and value.
pub(in crate::cli) fn show(out: &Out, said: &Value, columns: &[&str]) {
    if out.json {
        out.value(said);
        return;
    }
    let Some(rows) = said.get("data").and_then(Value::as_array) else {
        let mut table = out.table(&["field", "value"]);
        for (name, value) in said.as_object().into_iter().flatten().filter(|(n, _)| *n != "key") {
            table.add_row([heading(name), cell(name, value)]);
        }
        out.line(&table.to_string());
        return;
    };
    let headings: Vec<String> = columns.iter().map(|c| heading(c)).collect();
    let mut table = out.table(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        table.add_row(columns.iter().map(|c| row.get(*c).map_or_else(String::new, |v| cell(c, v))));
    }
    out.line(&table.to_string());
}

/// A member that is a text; empty = there is none.
pub(in crate::cli) fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or("")
}

/// A field's name above its values: moments are shown as dates, and how long something takes as hours and minutes.
fn heading(name: &str) -> String {
    match name.strip_suffix("_ms") {
        Some(lasting) if lasting.ends_with("_in") => lasting.to_owned(),
        Some(moment) => format!("{moment} (UTC)"),
        None => name.to_owned(),
    }
}

/// Milliseconds as a person says them: `59m 59s`.
fn lasting(ms: u64) -> String {
    let s = ms / 1_000;
    match (s / 3_600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s}s"),
        (h, m, _) => format!("{h}h {m}m"),
    }
}

fn cell(name: &str, value: &Value) -> String {
    match value {
        Value::Number(n) if name.ends_with("_in_ms") => n.as_u64().map(lasting).unwrap_or_default(),
        Value::Number(_) if name.ends_with("_ms") => moment_of(value).unwrap_or_default(),
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        Value::Array(list) if name == "limits" => list.iter().map(quota).collect::<Vec<_>>().join("\n"),
        Value::Object(m) if name == "actor" => {
            let of = |k: &str| m.get(k).and_then(Value::as_str).unwrap_or("").to_owned();
            // The server itself is called by what it does.
            match (of("kind"), of("id")) {
                (kind, id) if kind == id || id.is_empty() => kind,
                (kind, id) => format!("{kind} {id}"),
            }
        }
        Value::Object(m) => {
            let empty = |v: &Value| v.as_array().is_some_and(Vec::is_empty);
            let shown = m.iter().filter(|(_, v)| !empty(v));
            shown.map(|(k, v)| format!("{k}: {}", cell(k, v))).collect::<Vec<_>>().join("\n")
        }
        Value::Array(list) => list.iter().map(|v| cell(name, v)).collect::<Vec<_>>().join(", "),
        // A whole number of dollars or requests is written as one.
        Value::Number(n) => n.to_string().trim_end_matches(".0").to_owned(),
        other => other.to_string(),
    }
}

pub(super) fn quota(q: &Value) -> String {
    let text = |k: &str| q.get(k).map(|v| cell(k, v)).unwrap_or_default();
    let mut said = format!("{} {}", text("amount"), text("metric"));
    for (word, name) in [(" per ", "per"), (" for model ", "model"), (" for label ", "label")] {
        if q.get(name).is_some() {
            said = format!("{said}{word}{}", text(name));
        }
    }
    if let Some(share) = q.get("reserved_premium").and_then(Value::as_f64) {
        said = format!("{said} reserving {}%", (share * 1e6).round() / 1e4);
    }
    if q.get("used").is_some() {
        said = format!("{said} ({} used)", text("used"));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn moments_are_dates() {
        let at = json!(1_795_309_003_613_i64);
        assert_eq!(cell("created_ms", &at), "2026-11-22 00:56:43");
        for (ms, text) in [(3_599_000, "59m 59s"), (7_000, "7s"), (90_000_000, "25h 0m")] {
            assert_eq!(cell("expires_in_ms", &json!(ms)), text);
        }
        assert_eq!(heading("expires_in_ms"), "expires_in");
        assert_eq!((heading("created_ms"), heading("id")), ("created (UTC)".to_owned(), "id".to_owned()));
        assert_eq!(cell("version", &json!(1)), "1");
    }

    #[test]
    fn who_did_something_is_named_once() {
        for (kind, id, want) in [
            ("local", "local", "local"),
            ("system", "", "system"),
            ("key", "0123456789ab", "key 0123456789ab"),
        ] {
            assert_eq!(cell("actor", &json!({"kind": kind, "id": id})), want);
        }
    }
}
