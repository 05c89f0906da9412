//! `refusal`: the answer does what was asked instead of declining.

use crate::finding::{Note, decided};
use crate::params::{Params, Problem};
use crate::{Check, Entry, Input, Kind};
use regex::Regex;
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use types::Report;
use types::completion::{Choice, FinishReason};
use types::run::Severity;

const NAME: &str = "refusal";
/// A refusal opens the answer; what stands later talks about something else.
const HEAD: usize = 300;

/// How refusals open: an apology or a statement of inability tied to the request itself, in a few
/// languages. "I can't believe" and "I cannot stress enough" are no refusals, hence the verbs.
static OPENINGS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)^\W*(?:(?:i['’]?m|i am|we['’]?re|we are) (?:very |so |really )?sorry[,.;:]? ?(?:but )?|sorry[,.;:]? ?(?:but )?|",
        r"unfortunately[,]? |i apologi[sz]e[,.]? ?(?:but )?|as an ai[^,.]{0,40}, ?)*",
        r"(?:(?:i|we) (?:can['’]?t|cannot|can not|won['’]?t|will not|am not able to|['’]?m not able to|am unable to|",
        r"must decline(?: to)?|have to decline(?: to)?|['’]?m unable to)|i['’]m (?:not able|unable) to) ?",
        r"(?:help|assist|comply|fulfil|fulfill|provide|answer|do that|do this|support|engage|create|generate|write|",
        r"share|give|discuss|continue|complete|participate|offer|produce|with (?:that|this)|$|\.)",
        r"|^\W*(?:es tut mir leid|leider|tut mir leid)[^.]{0,40}\b(?:kann|darf|werde) (?:ich|dir|ihnen)?[^.]{0,60}nicht\b",
        r"|^\W*(?:je suis désolé|désolé)[^.]{0,40}\bje ne (?:peux|suis)",
        r"|^\W*(?:lo siento)[^.]{0,40}\bno puedo\b",
    ))
    .ok()
});

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "the answer does not refuse",
    kind: Kind::Semantic,
    stream: "head(300)",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct Refusal {
    severity: Severity,
    allow: bool,
}

/// Parameter: `allow` (default false) lets refusals pass.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let allow = Params::new(with, &["allow"])?.boolean("allow", false)?;
    Ok(Arc::new(Refusal { severity, allow }))
}

impl Check for Refusal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn severity(&self) -> Severity {
        self.severity
    }

    fn kind(&self) -> Kind {
        Kind::Semantic
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let choices = &input.completion.choices;
        let refused = choices.iter().enumerate().filter(|_| !self.allow).filter_map(|(position, c)| {
            let (code, message) = refusal(c)?;
            let note = Note::new(NAME, self.severity, code, message);
            Some(note.hint("answer the request as far as it is allowed").choice(position, choices.len()))
        });
        decided(refused.map(Note::into_finding).collect())
    }
}

fn refusal(c: &Choice) -> Option<(&'static str, &'static str)> {
    if c.refusal.as_deref().is_some_and(|r| !r.is_empty()) {
        return Some(("refused", "the model refused"));
    }
    if c.finish_reason == Some(FinishReason::ContentFilter) {
        return Some(("filtered", "the provider's filter cut the answer"));
    }
    let end = c.text.char_indices().nth(HEAD).map_or(c.text.len(), |(i, _)| i);
    let head = c.text.get(..end).unwrap_or("");
    let opens = OPENINGS.as_ref().is_some_and(|r| r.is_match(head));
    opens.then_some(("refusal_text", "the answer opens as a refusal"))
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use serde_json::{Value, json};

    fn check(text: &str, want: &[&str]) {
        assert_eq!(codes("refusal", &Value::Null, &request(json!({})), &answer(text)), want, "{text}");
    }

    #[test]
    fn the_patterns_compile() {
        assert!(super::OPENINGS.is_some());
    }

    #[test]
    fn openings_are_told_apart() {
        for t in [
            "I'm sorry, but I can't help with that.",
            "I cannot assist with this request.",
            "Sorry, I can’t provide instructions for that.",
            "As an AI language model, I cannot fulfill this.",
            "Unfortunately, I am unable to help.",
            "I won't write that.",
            "Es tut mir leid, dabei kann ich nicht helfen.",
            "Lo siento, pero no puedo ayudarte.",
        ] {
            check(t, &["refusal_text"]);
        }
        for t in [
            "",
            "I can't believe how good this is!",
            "I cannot stress enough how important tests are.",
            "Sure! The function cannot return null.",
            "The server says: I can't help with that.",
            "Sorry to hear that your order is late. Here is what to do.",
        ] {
            check(t, &[]);
        }
    }

    #[test]
    fn refusals_of_the_vendor_count_and_may_be_allowed() {
        let mut c = answer("");
        c.choices[0].refusal = Some("no".into());
        let r = request(json!({}));
        assert_eq!(codes("refusal", &Value::Null, &r, &c), ["refused"]);
        assert_eq!(codes("refusal", &json!({"allow": true}), &r, &c), Vec::<String>::new());
        c.choices[0].refusal = None;
        c.choices[0].finish_reason = Some(types::completion::FinishReason::ContentFilter);
        assert_eq!(codes("refusal", &Value::Null, &r, &c), ["filtered"]);
    }
}
