//! Implicit feedback: what a client does after an answer, noted on the request that was answered (`no_retry`).
//!
//! Who asks the same again within ten minutes of an answer did not keep it; who goes on in the conversation did. The second
//! is noted of answers that nothing checked only: what is known of these is what is said and done, and where only failures
//! were noted, the models that are used would seem to fail. Of checked answers it would say next to nothing.

use crate::history::Conversation;
use crate::recent::Recent;
use crate::who::Who;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::UnitInterval;
use types::outcome::{Feedback, IMPLICIT, Outcome, Status};

/// For so long an answer may be asked for again (`routing.md` §6).
const WINDOW: Duration = Duration::from_secs(600);
/// Answers remembered; of more, those that were asked about longest ago are forgotten.
const MAX: usize = 65_536;
/// Who asks the same more often than that measures something: it says nothing of the answers.
const MOST_AGAIN: u8 = 3;
/// Likewise where nothing tells a conversation from others of the same key that begin alike: several people may ask the
/// same, and a program does.
const MOST_AGAIN_UNTOLD: u8 = 1;

/// A request that was answered.
#[derive(Clone, Debug)]
struct Answered {
    request_id: Arc<str>,
    at: Instant,
    /// Nothing is known of the answer but what is said and done.
    unchecked: bool,
    /// How often the same had been asked before it.
    again: u8,
}

/// A conversation, and all messages of one of its turns.
type Turn = ([u8; 16], [u8; 16]);

/// The answers of late. Copies remember the same.
#[derive(Clone, Debug)]
pub(crate) struct Answers(Recent<Turn, Answered>);

impl Default for Answers {
    fn default() -> Self {
        Answers(Recent::new(MAX))
    }
}

impl Answers {
    /// What a request that comes in earnest says of the answers before it, and how often the same was asked before.
    pub(crate) fn asked(&self, who: &Who, of: &Conversation, ts_ms: i64) -> (Option<Feedback>, u8) {
        // A library asks again where nobody has seen an answer.
        if of.of_sdk {
            return (None, 0);
        }
        if let Some(same) = self.take(of, of.messages, |_| true) {
            let most = if of.told { MOST_AGAIN } else { MOST_AGAIN_UNTOLD };
            let counts = same.again < most;
            return (
                counts.then(|| word(&same, who, ts_ms, UnitInterval::ZERO)),
                same.again.saturating_add(1),
            );
        }
        let before = of.before.filter(|_| of.of_user);
        let kept = before.and_then(|before| self.take(of, before, |a| a.unchecked));
        (kept.map(|a| word(&a, who, ts_ms, UnitInterval::ONE)), 0)
    }

    /// Notes a request that was answered; `again` is how often the same had been asked before.
    pub(crate) fn answered(&self, of: &Conversation, outcome: &Outcome, again: u8) {
        if outcome.status != Status::Delivered || !outcome.observations.iter().any(|o| o.ok) {
            return;
        }
        let answered = Answered {
            request_id: outcome.request_id.as_str().into(),
            at: Instant::now(),
            unchecked: outcome.parts.is_unchecked(),
            again,
        };
        self.0.put((of.key, of.messages), answered);
    }

    /// The answer to a turn of a conversation, if that is not long ago. Of each answer one thing is noted.
    fn take(&self, of: &Conversation, turn: [u8; 16], which: impl Fn(&Answered) -> bool) -> Option<Answered> {
        let turn = (of.key, turn);
        self.0.get(&turn).filter(&which)?;
        self.0.take(&turn).filter(|a| a.at.elapsed() <= WINDOW)
    }
}

/// As it stands in the log.
fn word(of: &Answered, who: &Who, ts_ms: i64, score: UnitInterval) -> Feedback {
    Feedback {
        request_id: of.request_id.to_string(),
        ts_ms,
        score,
        reason: None,
        source: IMPLICIT.to_owned(),
        principal: who.speaker(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::sample;
    use serde_json::{Value, json};
    use types::chat::ChatRequest;
    use types::outcome::RewardParts;

    fn talk(texts: &[&str], more: &Value) -> Conversation {
        let message = |(i, t): (usize, &&str)| json!({"role": if i % 2 == 0 { "user" } else { "assistant" }, "content": t});
        let messages: Vec<_> = texts.iter().enumerate().map(message).collect();
        let mut body = json!({"model": "auto", "messages": messages});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Conversation::of(&Who::gone("acme", "k"), &ChatRequest::from_value(&body).unwrap())
    }

    /// An answer to a request of that name, checked or not.
    fn answer(id: &str, checked: bool) -> Outcome {
        let parts = RewardParts { contract: checked.then_some(1.0), ..RewardParts::default() };
        Outcome { request_id: id.into(), parts, ..sample("w", "p/a", 1.0) }
    }

    /// What is noted: of which request, and what.
    fn noted(answers: &Answers, of: &Conversation) -> Option<(String, f64)> {
        let (word, _) = answers.asked(&Who::gone("acme", "k"), of, 7);
        word.map(|w| (w.request_id, w.score.get()))
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_the_same_again_did_not_keep_the_answer_and_who_goes_on_did() {
        let none = json!({});
        let answers = Answers::default();
        let (first, next) = (talk(&["hi"], &none), talk(&["hi", "hello", "how are you"], &none));
        assert_eq!(noted(&answers, &first), None, "nobody has answered yet");
        answers.answered(&first, &answer("1", false), 0);
        let by_library = Conversation { of_sdk: true, ..first };
        assert_eq!(noted(&answers, &by_library), None);
        assert_eq!(noted(&answers, &talk(&["ho"], &none)), None, "another question");
        assert_eq!(noted(&answers, &first), Some(("1".into(), 0.0)));
        assert_eq!(noted(&answers, &first), None, "one thing of each answer");
        answers.answered(&first, &answer("2", false), 1);
        assert_eq!(noted(&answers, &next), Some(("2".into(), 1.0)));
        // That the conversation goes on says nothing of what was checked, and nothing is forgotten over it.
        answers.answered(&first, &answer("3", true), 0);
        assert_eq!(noted(&answers, &next), None);
        assert_eq!(noted(&answers, &first), Some(("3".into(), 0.0)));
        // An answer that nobody got is none.
        answers.answered(&next, &Outcome { status: Status::Cancelled, ..answer("4", false) }, 0);
        assert_eq!(noted(&answers, &next), None);
        answers.answered(&next, &answer("5", true), 0);
        tokio::time::advance(WINDOW + Duration::from_secs(1)).await;
        assert_eq!(noted(&answers, &next), None, "too long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_the_same_all_the_time_measures_something() {
        let said = |texts: &[&str], more: Value| {
            let (answers, of) = (Answers::default(), talk(texts, &more));
            let mut said = 0;
            for i in 0..20 {
                let (word, again) = answers.asked(&Who::gone("acme", "k"), &of, 0);
                said += u8::from(word.is_some());
                answers.answered(&of, &answer(&i.to_string(), true), again);
            }
            said
        };
        assert_eq!(said(&["hi"], json!({})), MOST_AGAIN_UNTOLD);
        assert_eq!(said(&["hi"], json!({"user": "ann"})), MOST_AGAIN);
        assert_eq!(said(&["hi"], json!({"routing": {"session": "s"}})), MOST_AGAIN);
        assert_eq!(said(&["hi", "hello", "how are you"], json!({})), MOST_AGAIN);
    }

    #[test]
    fn the_step_after_a_tool_is_no_word_of_its_user() {
        let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let turns = |texts: Value| {
            let body = json!({"model": "auto", "messages": texts});
            Conversation::of(&Who::gone("acme", "k"), &ChatRequest::from_value(&body).unwrap())
        };
        let hi = json!({"role": "user", "content": "hi"});
        let answers = Answers::default();
        answers.answered(&turns(json!([hi])), &answer("1", false), 0);
        let asked = json!({"role": "assistant", "tool_calls": [call]});
        let result = json!({"role": "tool", "tool_call_id": "c", "content": "7"});
        assert_eq!(noted(&answers, &turns(json!([hi, asked, result]))), None);
        assert_eq!(noted(&answers, &turns(json!([hi, asked, result, hi]))), Some(("1".into(), 1.0)));
    }
}
