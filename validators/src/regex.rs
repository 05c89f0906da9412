//! `regex`: patterns that must and must not occur in the text, matched in linear time.

use crate::finding::{Note, decided, unverified};
use crate::params::{Params, Problem};
use crate::{Check, Entry, Input, Kind};
use regex::{Regex, RegexBuilder};
use serde_json::Value;
use std::sync::Arc;
use types::Report;
use types::run::Severity;

const NAME: &str = "regex";
/// Longest pattern, in bytes (`reliability.md` §5).
const MAX_PATTERN: usize = 1024;
/// Largest compiled pattern, in bytes.
const MAX_COMPILED: usize = 1024 * 1024;
/// Longest text that is searched, in bytes.
const MAX_TEXT: usize = 1024 * 1024;
/// Most patterns in one list.
const MAX_PATTERNS: usize = 64;

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "patterns that must and must not occur",
    kind: Kind::Structural,
    stream: "window for must_not, else end",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct Patterns {
    severity: Severity,
    must: Vec<Regex>,
    must_not: Vec<Regex>,
}

/// Parameters: `must` and `must_not`, each a pattern or a list of patterns.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["must", "must_not"])?;
    let must = compile(&params, "must")?;
    let must_not = compile(&params, "must_not")?;
    if must.is_empty() && must_not.is_empty() {
        return Err(Problem::new("", "no pattern is given", "`must`, `must_not` or both"));
    }
    Ok(Arc::new(Patterns { severity, must, must_not }))
}

fn compile(params: &Params<'_>, key: &str) -> Result<Vec<Regex>, Problem> {
    let sources = params.strings(key)?;
    if sources.len() > MAX_PATTERNS {
        return Err(Problem::new(
            key,
            format!("{} patterns", sources.len()),
            format!("at most {MAX_PATTERNS}"),
        ));
    }
    sources
        .into_iter()
        .map(|source| {
            if source.len() > MAX_PATTERN {
                let found = format!("the pattern has {} bytes", source.len());
                return Err(Problem::new(key, found, format!("at most {MAX_PATTERN}")));
            }
            RegexBuilder::new(source).size_limit(MAX_COMPILED).build().map_err(|e| {
                let what = e.to_string().lines().last().unwrap_or_default().trim().to_owned();
                Problem::new(
                    key,
                    format!("`{source}` is not a pattern: {what}"),
                    "a regular expression without look-around and back-references",
                )
            })
        })
        .collect()
}

impl Check for Patterns {
    fn name(&self) -> &'static str {
        NAME
    }

    fn severity(&self) -> Severity {
        self.severity
    }

    fn kind(&self) -> Kind {
        Kind::Structural
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let choices = &input.completion.choices;
        if choices.iter().any(|c| c.text.len() > MAX_TEXT) {
            return unverified(format!("the text is longer than {MAX_TEXT} bytes"));
        }
        let mut findings = Vec::new();
        for (position, choice) in choices.iter().enumerate() {
            for r in self.must.iter().filter(|r| !r.is_match(&choice.text)) {
                let message = "a required pattern does not occur";
                let note = Note::new(NAME, self.severity, "missing", message).expected(r.as_str());
                findings.push(note.choice(position, choices.len()).into_finding());
            }
            for (r, m) in self.must_not.iter().filter_map(|r| Some((r, r.find(&choice.text)?))) {
                let message = format!("the forbidden pattern `{}` occurs", r.as_str());
                let note = Note::new(NAME, self.severity, "forbidden", &message).span(m.start(), m.end());
                findings.push(note.choice(position, choices.len()).into_finding());
            }
        }
        decided(findings)
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use crate::testing::*;
    use serde_json::{Value, json};

    fn check(text: &str, with: Value, want: &[&str]) {
        assert_eq!(codes("regex", &with, &request(json!({})), &answer(text)), want, "{text:?} {with}");
    }

    #[test]
    fn patterns_must_and_must_not_occur() {
        check("order A-17", json!({"must": "[A-Z]-\\d+"}), &[]);
        check("order", json!({"must": ["[A-Z]-\\d+", "order"]}), &["missing"]);
        check("call 555", json!({"must_not": "\\d{3}"}), &["forbidden"]);
        check("call", json!({"must_not": ["\\d"], "must": "x"}), &["missing"]);
        check(&"a".repeat(1_048_577), json!({"must": "a"}), &["unverified"]);
    }

    #[test]
    fn bad_patterns_are_refused() {
        assert_eq!(refused("regex", &json!({"must": "("})).field, "must");
        assert_eq!(refused("regex", &json!({"must": "(?=a)"})).field, "must");
        assert_eq!(refused("regex", &json!({"must_not": "a{1000}{1000}{1000}"})).field, "must_not");
        assert_eq!(refused("regex", &json!({"must": "a".repeat(1025)})).field, "must");
        assert_eq!(refused("regex", &json!({"must": 1})).field, "must");
        assert_eq!(refused("regex", &Value::Null).message, "no pattern is given");
    }
}
