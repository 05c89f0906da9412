//! Which strings of a request's body are texts that values may stand in: those that rules look at and those that are
//! redacted are the same.

use serde_json::Value;

/// Members of a body whose strings are no text of the client's.
const NOT_TEXT: &[&str] = &["model", "role", "type", "tool_choice"];
/// A number of fewer digits is no value that anybody looks for.
const SHORTEST_NUMBER: usize = 9;

/// Whether a member is no text of the client's: a name of the format, or sound and files as base64.
#[must_use]
pub fn is_no_text(key: &str, text: &str) -> bool {
    NOT_TEXT.contains(&key) || matches!(key, "data" | "file_data") && is_base64(text)
}

/// Whether a string is an image or a file and nothing else: what only begins like one is a text.
#[must_use]
pub fn is_data_url(s: &str) -> bool {
    let Some((media, data)) = s.strip_prefix("data:").and_then(|s| s.split_once(";base64,")) else {
        return false;
    };
    media.bytes().all(|b| b.is_ascii_alphanumeric() || b"/+-.;=".contains(&b)) && is_base64(data)
}

fn is_base64(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/-_=".contains(&b))
}

/// Whether the name of a member is a word, as the formats of vendors have them; others are texts of the client's.
#[must_use]
pub fn is_word(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_' || b == b'$')
}

/// Shows every text of a body: strings, names of members, long whole numbers, and the texts of each list as one, since vendors
/// join them.
pub fn each(body: &Value, see: &mut impl FnMut(&str)) {
    match body {
        Value::String(text) if !is_data_url(text) => see(text),
        Value::Number(n) if !n.is_f64() => {
            let digits = n.to_string();
            if digits.len() >= SHORTEST_NUMBER {
                see(&digits);
            }
        }
        Value::Array(items) => {
            let texts: Vec<&str> = items.iter().filter_map(|item| item.get("text")?.as_str()).collect();
            if texts.len() > 1 {
                see(&texts.concat());
            }
            items.iter().for_each(|item| each(item, see));
        }
        Value::Object(members) => {
            for (name, value) in members {
                if !is_word(name) {
                    see(name);
                }
                if !value.as_str().is_some_and(|text| is_no_text(name, text)) {
                    each(value, see);
                }
            }
        }
        Value::String(_) | Value::Number(_) | Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_what_is_no_name_of_the_format_and_no_file() {
        let body = json!({
            "model": "p/m", "stop": ["a"], "seed": 7, "card": 4_111_111_111_111_111_u64,
            "messages": [{"role": "user", "name": "b", "content": [
                {"type": "text", "text": "c"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBOR="}},
                {"type": "input_text", "text": "d"}, {"type": "file", "file": {"file_data": "QUJD", "filename": "e f"}},
            ]}],
            "metadata": {"g h": "i"},
        });
        let mut seen = Vec::new();
        each(&body, &mut |text| seen.push(text.to_owned()));
        assert_eq!(seen, ["a", "4111111111111111", "b", "cd", "c", "d", "e f", "g h", "i"]);
    }
}
