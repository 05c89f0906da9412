//! The model of a session: where its prompt cache is warm, and what leaving it costs.

use crate::history::Conversation;
use crate::recent::Recent;
use std::sync::Arc;
use types::Usage;
use types::decision::Decision;
use types::matrix::Price;

/// Sessions remembered; of more, those that were asked about longest ago are forgotten.
const MAX: usize = 65_536;
/// After so long a provider's prompt cache is cold.
const WARM_MS: i64 = 10 * 60 * 1_000;

/// What a session was given last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Warm {
    pub(crate) model: Arc<str>,
    /// Input tokens of its last turn.
    tokens: u32,
    ts_ms: i64,
    /// All messages of that turn.
    messages: [u8; 16],
}

impl Warm {
    /// Dollars that the session's model saves on `input` tokens because it has read most of them before.
    pub(crate) fn saving(&self, price: Option<Price>, input: u32) -> f64 {
        let rates = price.map(|p| p.of_request(&Usage { input, ..Usage::default() }).0);
        rates.map_or(0.0, |r| f64::from(self.tokens.min(input)) * (r.input - r.cached_input).max(0.0) / 1e6)
    }
}

impl Warm {
    /// Whether a request comes after the turn that was noted, or is that turn once more. Requests that only begin alike,
    /// with the same examples for one, are none of each other's.
    fn is_continued_by(&self, of: &Conversation) -> bool {
        of.named || of.before.is_some_and(|before| [before, of.messages].contains(&self.messages))
    }
}

/// The sessions of late. Copies remember the same.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    named: Recent<[u8; 16], Warm>,
    /// Apart, for every request begins one: single questions, however many, push no session out.
    unnamed: Recent<[u8; 16], Warm>,
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions { named: Recent::new(MAX), unnamed: Recent::new(MAX) }
    }
}

impl Sessions {
    /// What a session was given last, if that is not long ago. Nothing where a conversation only begins: others that
    /// begin alike are others.
    pub(crate) fn warm(&self, of: Conversation, ts_ms: i64) -> Option<Warm> {
        let goes_on = of.named || of.before.is_some();
        let warm = goes_on.then(|| self.by_name(of).get(&of.key)).flatten();
        warm.filter(|w| ts_ms.saturating_sub(w.ts_ms) < WARM_MS && w.is_continued_by(&of))
    }

    /// Notes which model answered a turn of a session: it is the one that has read it.
    pub(crate) fn note(&self, of: Conversation, decision: &Decision, served: &Arc<str>) {
        let (tokens, ts_ms) = (decision.est_input_tokens, decision.ts_ms);
        let warm = Warm { model: served.clone(), tokens, ts_ms, messages: of.messages };
        self.by_name(of).put(of.key, warm);
    }

    const fn by_name(&self, of: Conversation) -> &Recent<[u8; 16], Warm> {
        if of.named { &self.named } else { &self.unnamed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::who::Who;
    use serde_json::json;
    use types::chat::ChatRequest;

    /// A request of these messages, by turns of the user's and the model's.
    fn talk(texts: &[&str]) -> Conversation {
        let message = |(i, t): (usize, &&str)| json!({"role": if i % 2 == 0 { "user" } else { "assistant" }, "content": t});
        let messages: Vec<_> = texts.iter().enumerate().map(message).collect();
        let body = json!({"model": "auto", "messages": messages});
        Conversation::of(&Who::gone("acme", "k"), &ChatRequest::from_value(&body).unwrap(), false)
    }

    #[test]
    fn a_turn_follows_the_one_before_it_and_not_what_only_begins_alike() {
        let noted = |texts: &[&str]| Warm {
            model: "p/a".into(),
            tokens: 10,
            ts_ms: 0,
            messages: talk(texts).messages,
        };
        let follows = |texts: &[&str], before: &[&str]| noted(before).is_continued_by(&talk(texts));
        assert!(follows(&["hi", "hello", "how are you"], &["hi"]));
        assert!(follows(&["hi", "hello", "how", "so", "well"], &["hi", "hello", "how"]));
        // The same once more.
        assert!(follows(&["hi", "hello", "how"], &["hi", "hello", "how"]));
        // Two questions behind the same example.
        assert!(!follows(&["2+2", "4", "3+3"], &["2+2", "4", "5+5"]));
        assert!(!follows(&["hi"], &["hi"]), "it only begins");
        let example = |question| talk(&["2+2", "4", question]).key;
        assert_eq!(example("3+3"), example("5+5"), "they begin alike");
    }

    #[test]
    fn a_warm_cache_saves_what_was_read_before() {
        let warm = Warm { model: "p/a".into(), tokens: 10_000, ts_ms: 0, messages: [0; 16] };
        let price = Price { cached_input: 0.3, ..Price::new(3.0, 15.0) };
        assert!((warm.saving(Some(price), 12_000) - 0.027).abs() < 1e-12);
        assert!((warm.saving(Some(price), 1_000) - 0.0027).abs() < 1e-12);
        assert_eq!(warm.saving(None, 1_000), 0.0);
    }
}
