//! Problems in SARIF 2.1.0, which code hosts show beside the lines they are about.

use serde_json::{Value, json};
use types::{Diagnostic, Severity};

/// The document.
pub(super) fn of(problems: &[&Diagnostic]) -> Value {
    let mut codes: Vec<&str> = problems.iter().map(|d| d.code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    let rules: Vec<Value> = codes.iter().map(|code| rule(code)).collect();
    json!({
        "version": "2.1.0",
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "runs": [{
            "tool": {"driver": {"name": "turnout", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            // Columns are counted in characters.
            "columnKind": "unicodeCodePoints",
            "results": problems.iter().map(|d| result(d)).collect::<Vec<_>>(),
        }],
    })
}

/// A code, with what it means where that is in the table of codes.
fn rule(code: &str) -> Value {
    let meaning = workflows::CODES.iter().find(|(c, _)| *c == code).map(|(_, meaning)| *meaning);
    match meaning {
        Some(meaning) => json!({"id": code, "shortDescription": {"text": meaning}}),
        None => json!({ "id": code }),
    }
}

fn place(d: &Diagnostic, line: usize, column: usize) -> Value {
    json!({
        "artifactLocation": {"uri": uri(&d.file)},
        // A problem of a whole file stands at its beginning.
        "region": {"startLine": line.max(1), "startColumn": column.max(1)},
    })
}

fn result(d: &Diagnostic) -> Value {
    let expected = d.expected.iter().map(|e| format!("expected {e}"));
    let parts: Vec<String> =
        std::iter::once(d.message.clone()).chain(expected).chain(d.hint.clone()).collect();
    let related = d
        .related
        .iter()
        .map(|r| json!({"physicalLocation": place(d, r.line, r.column), "message": {"text": r.message}}));
    let mut made = json!({
        "ruleId": d.code,
        "level": if d.severity == Severity::Error { "error" } else { "warning" },
        "message": {"text": parts.join("; ")},
        "locations": [{"physicalLocation": place(d, d.line, d.column)}],
    });
    if let (false, Some(m)) = (d.related.is_empty(), made.as_object_mut()) {
        m.insert("relatedLocations".to_owned(), related.collect());
    }
    made
}

/// A path as a reference: relative to the folder in which the command runs, or of the whole file system.
fn uri(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path).replace('\\', "/");
    let free = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let mut text = String::from(if path.starts_with('/') { "file://" } else { "" });
    for c in path.chars() {
        if free(c) {
            text.push(c);
        } else {
            let mut bytes = [0; 4];
            text.extend(c.encode_utf8(&mut bytes).bytes().map(|b| format!("%{b:02X}")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::doc::{SourceFile, Span};

    #[test]
    fn a_problem_has_its_code_level_and_place() {
        let file = SourceFile::new("workflows/a.yaml", "name: a\n");
        let span = Span { line: 3, column: 7, ..Span::default() };
        let mut d = Diagnostic::error("WF101", &file, span, "unknown key `x`");
        d.hint = Some("did you mean `y`?".to_owned());
        d.relate(Span { line: 1, column: 1, ..Span::default() }, "beside this");
        let made = of(&[&d, &d]);
        let rule = json!([{"id": "WF101", "shortDescription": {"text": "unknown key"}}]);
        assert_eq!(made["runs"][0]["tool"]["driver"]["rules"], rule);
        let result = &made["runs"][0]["results"][1];
        assert_eq!((&result["ruleId"], &result["level"]), (&json!("WF101"), &json!("error")));
        assert_eq!(result["message"]["text"], "unknown key `x`; did you mean `y`?");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "workflows/a.yaml");
        assert_eq!(place["region"], json!({"startLine": 3, "startColumn": 7}));
        let related = &result["relatedLocations"][0];
        assert_eq!(related["physicalLocation"]["region"], json!({"startLine": 1, "startColumn": 1}));
        assert_eq!(related["message"]["text"], "beside this");
        let other = Diagnostic::error("PL301", &file, span, "unknown");
        let made = of(&[&other]);
        assert_eq!(made["runs"][0]["tool"]["driver"]["rules"], json!([{"id": "PL301"}]));
        assert_eq!(made["runs"][0]["results"][0].get("relatedLocations"), None);
    }

    #[test]
    fn paths_are_references() {
        let check = |path: &str, want: &str| assert_eq!(uri(path), want);
        check("./own/a.yaml", "own/a.yaml");
        check("/etc/a.yaml", "file:///etc/a.yaml");
        check("my own/ä.yaml", "my%20own/%C3%A4.yaml");
    }
}
