//! `json`: the text of every choice is one JSON value.

use crate::finding::{Note, decided, nothing, unverified};
use crate::params::{Params, Problem};
use crate::prefix::{Nodes, Prefix};
use crate::{About, Check, Entry, Growing, Input, Kind, Promise};
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use types::completion::Choice;
use types::run::Severity;
use types::{ChatRequest, Finding, Report};

const NAME: &str = "json";
/// What a model is told whose answer is more or less than JSON.
pub(crate) const ALONE: &str = "answer with the JSON value alone, without prose and without a code fence";
const OBJECT_ALONE: &str = "answer with one JSON object alone, even where it has a single member";

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "the text is one JSON value",
    kind: Kind::Structural,
    stream: "early",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct Json {
    severity: Severity,
    allow_fence: bool,
    /// No list, text, number, truth value or null.
    object: bool,
}

/// Parameter: `allow_fence` (default true) accepts one Markdown code fence around the value.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let allow_fence = Params::new(with, &["allow_fence"])?.boolean("allow_fence", true)?;
    Ok(Arc::new(Json { severity, allow_fence, object: false }))
}

/// The strict form: what a client that asked for an object can parse as it is.
pub(crate) fn object(severity: Severity) -> Arc<dyn Check> {
    Arc::new(Json { severity, allow_fence: false, object: true })
}

static OBJECT: LazyLock<Arc<Nodes>> =
    LazyLock::new(|| Arc::new(Nodes::new(&serde_json::json!({"type": "object"}), None)));

/// What is wrong with a value that has to be an object.
fn no_object(value: &Value, severity: Severity) -> Option<Note> {
    let found = match value {
        Value::Object(_) => return None,
        Value::Array(_) => "a list",
        Value::String(_) => "a text",
        Value::Number(_) => "a number",
        Value::Bool(_) => "a truth value",
        Value::Null => "null",
    };
    let message = format!("the JSON value is {found}, and an object was asked for");
    Some(Note::new(NAME, severity, "type", &message).expected("one JSON object").hint(OBJECT_ALONE))
}

impl Check for Json {
    fn about(&self) -> About {
        About::structural(NAME, self.severity)
    }

    fn promise(&self, _: &ChatRequest) -> Promise {
        Promise::Early
    }

    fn open(&self, _: &ChatRequest) -> Option<Box<dyn Growing>> {
        Some(Box::new(match self.object {
            true => Prefix::fitting(NAME, self.severity, OBJECT.clone()),
            false => Prefix::json(NAME, self.severity, self.allow_fence),
        }))
    }

    fn check(&self, input: &Input<'_>) -> Report {
        each_text(input, |choice, position, of| {
            let text = if self.allow_fence { unfenced(&choice.text) } else { choice.text.as_str() };
            match parse(NAME, self.severity, choice, text) {
                Ok(value) => {
                    let wrong = if self.object { no_object(&value, self.severity) } else { None };
                    wrong.map(|note| note.choice(position, of).into_finding()).into_iter().collect()
                }
                Err(note) => vec![note.choice(position, of).into_finding()],
            }
        })
    }
}

/// Looks at every choice that answers in text; calls of tools that were offered are another check's business, and
/// whether a model may decline is that of `refusal`.
pub(crate) fn each_text(
    input: &Input<'_>,
    mut look: impl FnMut(&Choice, usize, usize) -> Vec<Finding>,
) -> Report {
    let choices = &input.completion.choices;
    let offered = !input.request.tools.is_empty();
    let (mut findings, mut declined) = (Vec::new(), false);
    let mut looked = choices.is_empty();
    if choices.is_empty() {
        findings.extend(look(&Choice::default(), 0, 1));
    }
    for (position, choice) in choices.iter().enumerate() {
        if offered && choice.text.trim().is_empty() && !choice.tool_calls.is_empty() {
            continue;
        }
        looked = true;
        let found = look(choice, position, choices.len());
        // An outcome and no fault: nobody asked again would be asked for another answer than this.
        match choice.declined() && !found.is_empty() {
            true => declined = true,
            false => findings.extend(found),
        }
    }
    match (looked, declined && findings.is_empty()) {
        (false, _) => nothing(),
        (_, true) => unverified("the model declined to answer"),
        _ => decided(findings),
    }
}

/// The text as one JSON value, or the finding that says why it is none.
#[expect(clippy::result_large_err, reason = "the error is built once per bad answer and used at once")]
pub(crate) fn parse(
    validator: &'static str,
    severity: Severity,
    choice: &Choice,
    text: &str,
) -> Result<Value, Note> {
    if text.trim().is_empty() {
        let (code, message) = if !choice.tool_calls.is_empty() {
            ("unexpected_call", "a tool is called in the place of an answer, and none was offered")
        } else {
            ("empty", "the answer is empty")
        };
        return Err(Note::new(validator, severity, code, message).expected("one JSON value"));
    }
    serde_json::from_str(text).map_err(|e| {
        let at = offset(text, e.line(), e.column());
        let found = text.get(at..).unwrap_or("").chars().take(40).collect::<String>();
        let what = match e.classify() {
            serde_json::error::Category::Eof => "the JSON value ends early".to_owned(),
            // The parser's message names places and tokens, never the text itself.
            _ => format!("not one JSON value: {e}"),
        };
        Note::new(validator, severity, "not_json", &what)
            .span(at, text.len())
            .expected("one JSON value and nothing else")
            .actual(found)
            .hint(ALONE)
    })
}

fn offset(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut at = start.saturating_add(column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at = at.saturating_sub(1);
    }
    at
}

/// The inside of the one code fence that surrounds the text, else the text.
pub(crate) fn unfenced(text: &str) -> &str {
    let t = text.trim();
    let inner = t.strip_prefix("```").and_then(|r| r.strip_suffix("```"));
    match inner.and_then(|i| i.split_once('\n')) {
        Some((info, body)) if !info.contains('`') && !body.contains("```") => body.trim(),
        _ => text,
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use crate::testing::*;
    use serde_json::{Value, json};
    use types::Verdict;
    use types::chat::ToolCall;
    use types::completion::{Choice, Completion, FinishReason};

    fn check(text: &str, with: Value, want: &[&str]) {
        assert_eq!(codes("json", &with, &request(json!({})), &answer(text)), want, "{text:?}");
    }

    #[test]
    fn one_value_and_nothing_else() {
        check("{\"a\": 1}", Value::Null, &[]);
        check(" [1]\n", Value::Null, &[]);
        check("```json\n{\"a\": 1}\n```", Value::Null, &[]);
        check("```json\n{\"a\": 1}\n```", json!({"allow_fence": false}), &["not_json"]);
        check("```json\n{}\n```\ntext\n```\n{}\n```", Value::Null, &["not_json"]);
        check("{\"a\": 1", Value::Null, &["not_json"]);
        check("Sure: {}", Value::Null, &["not_json"]);
        check("", Value::Null, &["empty"]);
        check(&"[".repeat(100_000), Value::Null, &["not_json"]);
    }

    #[test]
    fn every_choice_counts_and_calls_of_tools_do_not() {
        let r = request(json!({}));
        let mut c = answer("{}");
        c.choices.push(Choice { index: 1, text: "no".into(), ..Choice::default() });
        assert_eq!(codes("json", &Value::Null, &r, &c), ["not_json"]);
        let mut c = answer("");
        c.choices[0].tool_calls.push(ToolCall {
            id: "1".into(),
            name: "f".into(),
            arguments: "{}".into(),
            ..ToolCall::default()
        });
        let offers = request(json!({"tools": [{"type": "function", "function": {"name": "f"}}]}));
        assert_eq!(codes("json", &Value::Null, &offers, &c), ["none"]);
        assert_eq!(codes("json", &Value::Null, &r, &c), ["unexpected_call"]);
    }

    #[test]
    fn who_declines_gave_no_answer_that_could_be_wrong() {
        let check = |choices: Vec<Choice>, want: Verdict| {
            let c = Completion { choices, ..answer("") };
            let schema = json!({"schema": {"type": "object"}});
            for (name, with) in [("json", Value::Null), ("json_schema", schema)] {
                let r = request(json!({}));
                let report = crate::build(name, &with, None).unwrap().check(&crate::Input::new(&c, &r));
                assert_eq!(report.verdict, want, "{name} {c:?}");
            }
        };
        let end = |text: &str, reason| Choice {
            text: text.into(),
            finish_reason: Some(reason),
            ..Choice::default()
        };
        let refused = || Choice { refusal: Some("no".into()), ..end("", FinishReason::Stop) };
        let filtered = || end("{\"a\": \"b", FinishReason::ContentFilter);
        check(vec![refused()], Verdict::Unverified);
        check(vec![filtered()], Verdict::Unverified);
        check(vec![refused(), end("{}", FinishReason::Stop)], Verdict::Unverified);
        check(vec![refused(), end("{", FinishReason::Stop)], Verdict::Failed);
        check(vec![end("{}", FinishReason::ContentFilter)], Verdict::Passed);
        check(vec![end("I cannot help.", FinishReason::Stop)], Verdict::Failed);
    }

    #[test]
    fn parameters_are_checked() {
        assert_eq!(refused("json", &json!({"allow_fence": 1})).expected, "true or false");
        assert_eq!(refused("json", &json!([1])).expected, "a map of parameters");
    }
}
