//! How feedback joins: one word counts per principal and source, the last one; saying the same again changes nothing. What comes
//! before its request waits for it.

use serde::{Deserialize, Serialize};
use types::outcome::{Feedback, Late};

/// What came before the request that it is about.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Orphan {
    Word(Feedback),
    Late(Late),
}

impl Orphan {
    /// The request.
    pub(crate) fn request_id(&self) -> &str {
        match self {
            Orphan::Word(word) => &word.request_id,
            Orphan::Late(late) => &late.request_id,
        }
    }
}

/// `word` says what its source says already.
pub(crate) fn repeats(current: &[Feedback], word: &Feedback) -> bool {
    current.iter().any(|f| word.replaces(f) && f.score == word.score && f.reason == word.reason)
}

/// The words that count once `word` has been said, the newest last.
pub(crate) fn with(current: Vec<Feedback>, word: &Feedback) -> Vec<Feedback> {
    let mut words = current;
    words.retain(|f| !word.replaces(f));
    words.push(word.clone());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::UnitInterval;

    fn word(source: &str, score: f64, reason: Option<&str>, ts_ms: i64) -> Feedback {
        Feedback {
            request_id: "r".to_owned(),
            ts_ms,
            score: UnitInterval::clamped(score),
            reason: reason.map(str::to_owned),
            source: source.to_owned(),
            principal: String::new(),
        }
    }

    #[test]
    fn the_last_word_of_each_source_counts() {
        let words = with(with(Vec::new(), &word("a", 0.1, None, 1)), &word("b", 0.2, None, 2));
        let words = with(words, &word("a", 0.9, None, 3));
        let seen: Vec<_> = words.iter().map(|f| (f.source.as_str(), f.score.get())).collect();
        assert_eq!(seen, [("b", 0.2), ("a", 0.9)]);
    }

    #[test]
    fn nobody_replaces_the_word_of_another() {
        let of =
            |principal: &str| Feedback { principal: principal.to_owned(), ..word("client", 0.5, None, 1) };
        assert!(!repeats(&[of("key:a")], &of("key:b")));
        assert_eq!(with(vec![of("key:a")], &of("key:b")).len(), 2);
    }

    #[test]
    fn only_the_same_source_score_and_reason_is_a_repetition() {
        let said = [word("a", 0.5, Some("x"), 1)];
        for (next, repeated) in [
            (word("a", 0.5, Some("x"), 9), true),
            (word("a", 0.6, Some("x"), 9), false),
            (word("a", 0.5, None, 9), false),
            (word("b", 0.5, Some("x"), 9), false),
        ] {
            assert_eq!(repeats(&said, &next), repeated, "{next:?}");
        }
    }
}
