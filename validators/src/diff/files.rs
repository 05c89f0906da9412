//! The files a patch is for: those a workflow names, else those the request shows.

use crate::text::blocks::outline;
use serde_json::Value;
use std::collections::BTreeMap;
use types::ChatRequest;
use types::chat::Role;

/// Texts of files by path; an empty path stands for the one file whose name nobody said.
pub(crate) type Files = BTreeMap<String, String>;

/// Files out of a value: a text, a map from path to text, or a list of objects with a path and a text.
pub(crate) fn of_value(value: &Value) -> Files {
    let mut files = Files::new();
    match value {
        Value::String(text) => {
            files.insert(String::new(), text.clone());
        }
        Value::Object(map) => match named(value) {
            Some((path, text)) => {
                files.insert(path, text);
            }
            None => files.extend(map.iter().filter_map(|(k, v)| Some((k.clone(), text_of(v)?)))),
        },
        Value::Array(items) => files.extend(items.iter().filter_map(named)),
        _ => {}
    }
    files
}

fn text_of(value: &Value) -> Option<String> {
    value
        .as_str()
        .or_else(|| value.get("content")?.as_str())
        .or_else(|| value.get("text")?.as_str())
        .map(str::to_owned)
}

fn named(value: &Value) -> Option<(String, String)> {
    let path = ["path", "file", "filename", "name"].iter().find_map(|k| value.get(*k)?.as_str())?;
    Some((path.to_owned(), text_of(value)?))
}

/// Files that the messages show: fenced blocks whose path stands behind the fence or on the line before.
pub(crate) fn of_request(request: &ChatRequest) -> Files {
    let mut files = Files::new();
    for m in request.messages.iter().filter(|m| m.role != Role::Assistant) {
        let text = m.content.text();
        for code in outline(&text).code.into_iter().filter(|c| c.info.is_some() && c.closed) {
            let above =
                text.get(..code.span.start).unwrap_or("").trim_end().lines().next_back().unwrap_or("");
            let info = code.info.as_deref().unwrap_or("");
            if let Some(path) = path_in(info).or_else(|| path_in(above)) {
                files.insert(path, code.text);
            }
        }
    }
    files
}

/// The one word of a line that looks like a path of a file.
fn path_in(line: &str) -> Option<String> {
    let trimmed = |w: &str| {
        let w = w.rsplit('=').next().unwrap_or(w);
        let w = w.rsplit_once(':').map_or(w, |(a, b)| if b.is_empty() { a } else { b });
        w.trim_matches(|c: char| !(c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-')))
            .trim_end_matches('.')
            .to_owned()
    };
    let mut paths = line.split_whitespace().map(trimmed).filter(|w| {
        let ending = w.rsplit_once('.').map_or("", |(_, e)| e);
        !ending.is_empty()
            && ending.len() <= 6
            && ending.chars().all(char::is_alphanumeric)
            && ending.chars().any(char::is_alphabetic)
    });
    let one = paths.next()?;
    paths.next().is_none().then_some(one)
}

/// The file of that path: the same path, else the only one that ends in it or that it ends in.
pub(crate) fn find<'f>(files: &'f Files, path: &str) -> Option<&'f str> {
    if let Some(text) = files.get(path) {
        return Some(text);
    }
    let tail = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('/'));
    let mut near = files.iter().filter(|(p, _)| tail(p, path) || tail(path, p));
    let one = near.next();
    if let (Some((_, text)), None) = (one, near.next()) {
        return Some(text);
    }
    // A single text without a name is the file meant.
    files.get("").filter(|_| files.len() == 1).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::request;
    use serde_json::json;

    #[test]
    fn values_hold_files_in_many_forms() {
        let check = |value: &Value, want: &[(&str, &str)]| {
            let got = of_value(value);
            let got: Vec<(&str, &str)> = got.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
            assert_eq!(got, want, "{value}");
        };
        check(&json!("x"), &[("", "x")]);
        check(&json!({"a.py": "x", "b.py": {"content": "y"}}), &[("a.py", "x"), ("b.py", "y")]);
        check(&json!([{"path": "a", "text": "x"}]), &[("a", "x")]);
        check(&json!({"filename": "a", "content": "x"}), &[("a", "x")]);
        check(&json!(3), &[]);
    }

    #[test]
    fn requests_show_files() {
        let r = request(json!({"messages": [{"role": "user", "content":
            "Fix src/a.py:\n\n```python\nx = 1\n```\n\n```js title=\"b.js\"\ny\n```\n\n```\nz\n```"}]}));
        let got = of_request(&r);
        assert_eq!(got.keys().collect::<Vec<_>>(), ["b.js", "src/a.py"]);
        assert_eq!(find(&got, "a.py"), Some("x = 1\n"));
        assert_eq!(find(&got, "repo/src/a.py"), Some("x = 1\n"));
        assert_eq!(find(&got, "c.py"), None);
        assert_eq!(find(&of_value(&json!("t")), "any"), Some("t"));
    }
}
