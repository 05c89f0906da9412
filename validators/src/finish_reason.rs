//! `finish_reason` (also `not_truncated`): the answer was not cut off.

use crate::finding::{Note, decided};
use crate::params::{Params, Problem};
use crate::{About, Check, Entry, Input, Kind};
use serde_json::Value;
use std::sync::Arc;
use types::Report;
use types::completion::FinishReason;
use types::run::Severity;

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: "finish_reason",
    about: "another name of not_truncated",
    kind: Kind::Structural,
    stream: "end",
    severity: Severity::Repair,
    build,
};

/// The same check under the name of the workflow format.
pub(crate) const NOT_TRUNCATED: Entry = Entry {
    name: "not_truncated",
    about: "the answer was not cut by the token limit or a lost stream",
    build: build_not_truncated,
    ..ENTRY
};

#[derive(Debug)]
struct Finish {
    name: &'static str,
    severity: Severity,
}

/// No parameters.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    named("finish_reason", with, severity)
}

/// The same check under the name of the workflow format.
pub(crate) fn build_not_truncated(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    named("not_truncated", with, severity)
}

fn named(name: &'static str, with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    Params::new(with, &[])?;
    Ok(Arc::new(Finish { name, severity }))
}

/// The check, for whoever needs it without parameters.
pub(crate) fn not_truncated(severity: Severity) -> Arc<dyn Check> {
    Arc::new(Finish { name: "not_truncated", severity })
}

impl Check for Finish {
    fn about(&self) -> About {
        About::structural(self.name, self.severity)
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let choices = &input.completion.choices;
        let cut = choices.iter().enumerate().filter_map(|(position, c)| {
            let (code, message, hint) = match &c.finish_reason {
                Some(FinishReason::Length) => {
                    ("truncated", "the answer was cut by the token limit", "answer more briefly")
                }
                None => ("lost", "the answer has no end: its stream was lost", "answer again"),
                Some(_) => return None,
            };
            let note = Note::new(self.name, self.severity, code, message).hint(hint);
            Some(note.choice(position, choices.len()).into_finding())
        });
        decided(cut.collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use serde_json::{Value, json};
    use types::completion::FinishReason;

    fn check(reason: Option<FinishReason>, want: &[&str]) {
        let mut c = answer("x");
        c.choices[0].finish_reason = reason;
        for name in ["finish_reason", "not_truncated"] {
            assert_eq!(codes(name, &Value::Null, &request(json!({})), &c), want);
        }
    }

    #[test]
    fn cut_answers_are_found() {
        check(Some(FinishReason::Stop), &[]);
        check(Some(FinishReason::ToolCalls), &[]);
        check(Some(FinishReason::Other("eos".into())), &[]);
        check(Some(FinishReason::Length), &["truncated"]);
        check(None, &["lost"]);
        assert!(refused("finish_reason", &json!({"x": 1})).expected.contains("takes none"));
    }
}
