//! `refusal`: the answer does what was asked instead of declining.

use crate::finding::{Note, decided};
use crate::head::{Head, Heard, first};
use crate::params::{Params, Problem};
use crate::pattern::Pattern;
use crate::{About, Check, Entry, Growing, Input, Kind, Promise};
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use types::completion::{Choice, FinishReason};
use types::run::Severity;
use types::{ChatRequest, Report};

const NAME: &str = "refusal";
/// A refusal opens the answer; what stands later talks about something else.
const HEAD: usize = 300;

/// How refusals open: an apology or a statement of inability tied to the request itself, in a few
/// languages. "I can't believe" and "I cannot stress enough" are no refusals, hence the verbs.
static OPENINGS: LazyLock<Option<Pattern>> = LazyLock::new(|| {
    Pattern::own(concat!(
        r"(?i)^\W*(?:(?:i['’]?m|i am|we['’]?re|we are) (?:very |so |really )?sorry[,.;:]? ?(?:but )?|sorry[,.;:]? ?(?:but )?|",
        r"unfortunately[,]? |i apologi[sz]e[,.]? ?(?:but )?|as an ai[^,.]{0,40}, ?)*",
        r"(?:(?:i|we) (?:can['’]?t|cannot|can not|won['’]?t|will not|am not able to|['’]?m not able to|am unable to|",
        r"must decline(?: to)?|have to decline(?: to)?|['’]?m unable to)|i['’]m (?:not able|unable) to) ?",
        r"(?:help|assist|comply|fulfil|fulfill|provide|answer|do that|do this|support|engage|create|generate|write|",
        r"share|give|discuss|continue|complete|participate|offer|produce|with (?:that|this)|$|\.)",
        r"|^\W*(?:es tut mir leid|leider|tut mir leid)[^.]{0,40}(?-u:\b)(?:kann|darf|werde) (?:ich|dir|ihnen)?[^.]{0,60}nicht(?-u:\b)",
        r"|^\W*(?:je suis désolé|désolé)[^.]{0,40}\bje ne (?:peux|suis)",
        r"|^\W*(?:lo siento)[^.]{0,40}\bno puedo(?-u:\b)",
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
    fn about(&self) -> About {
        About::semantic(NAME, self.severity)
    }

    fn promise(&self, _: &ChatRequest) -> Promise {
        Promise::Head(HEAD)
    }

    fn open(&self, _: &ChatRequest) -> Option<Box<dyn Growing>> {
        let (severity, allow) = (self.severity, self.allow);
        Some(Box::new(Head::new(
            HEAD,
            move |head, whole| {
                if allow { Heard::Right } else { judge(severity, head, whole) }
            },
        )))
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let choices = &input.completion.choices;
        let refused = choices.iter().enumerate().filter(|_| !self.allow).filter_map(|(position, c)| {
            let (code, message) = refusal(c)?;
            let note = Note::new(NAME, self.severity, code, message);
            Some(note.hint(HINT).choice(position, choices.len()))
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
    opens(first(&c.text, HEAD)).map(|_| (CODE, MESSAGE))
}

const CODE: &str = "refusal_text";
const MESSAGE: &str = "the answer opens as a refusal";
const HINT: &str = "answer the request as far as it is allowed";

/// Where the opening of a refusal ends.
fn opens(head: &str) -> Option<usize> {
    // A pattern of this house is searched to the end.
    OPENINGS.as_ref()?.find_at(head, 0).ok().flatten().map(|m| m.end)
}

/// Judges a beginning that may still grow: an opening is one once something follows it, and none is to come
/// once the pattern can no longer match.
fn judge(severity: Severity, head: &str, whole: bool) -> Heard {
    let opening = opens(head);
    if opening.is_some_and(|end| whole || end < head.len()) {
        return Heard::Wrong(Box::new(Note::new(NAME, severity, CODE, MESSAGE).hint(HINT)));
    }
    let undecided = OPENINGS.as_ref().is_some_and(|p| p.undecided(head, 0) == 0);
    if whole || !undecided && !head.is_empty() { Heard::Right } else { Heard::More }
}

#[cfg(test)]
mod tests {
    use crate::testing::*;
    use proptest::prelude::*;
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

    #[test]
    fn a_stream_is_decided_as_soon_as_it_can_be() {
        let check = |text: &str, refused: bool, read: usize| {
            let check = crate::build("refusal", &Value::Null, None).unwrap();
            let mut watch = crate::Watch::open(&[check], &request(json!({})));
            for (i, c) in text.char_indices() {
                let wrong = watch.push(c.encode_utf8(&mut [0; 4])).is_some();
                if wrong || watch.done() {
                    assert_eq!((wrong, i + 1), (refused, read), "{text}");
                    return;
                }
                assert_eq!(watch.safe_up_to(), 0, "{text}");
            }
            assert_eq!((watch.finish().is_some(), text.len() + 1), (refused, read), "{text}");
        };
        check("Paris is the capital.", false, 1);
        check("I think it is Paris.", false, 3);
        check("I can't believe it!", false, 9);
        check("Sorry, I can't help with that.", true, 20);
        check("I cannot", true, 9);
        check("Sorry", false, 6);
    }

    proptest! {
        #[test]
        fn a_stream_says_what_the_whole_says(
            parts in proptest::collection::vec(prop_oneof![
                Just("I'm sorry, "), Just("I "), Just("can't "), Just("cannot "), Just("help"), Just("believe "), Just("."),
                Just("Unfortunately, "), Just("Es tut mir leid, "), Just("ich kann "), Just("nicht"), Just("é"), Just("’"),
                Just(" helfen"), Just("As an AI, "), Just("must decline"), Just(" "),
            ], 0..9),
            size in 1_usize..9,
        ) {
            let text = parts.concat();
            let check = crate::build("refusal", &Value::Null, None).unwrap();
            let whole = codes("refusal", &Value::Null, &request(json!({})), &answer(&text));
            let mut watch = crate::Watch::open(&[check], &request(json!({})));
            let chars: Vec<char> = text.chars().collect();
            let wrong = chars.chunks(size).find_map(|p| watch.push(&p.iter().collect::<String>()));
            let wrong = wrong.or_else(|| watch.finish());
            prop_assert_eq!(wrong.is_some(), !whole.is_empty(), "{}", text);
        }
    }
}
