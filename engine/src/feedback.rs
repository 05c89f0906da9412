//! A word on an answer: recorded, and learned from as soon as the log is read.

use crate::Inner;
use types::UnitInterval;
use types::outcome::Feedback;
use types::store::{self, Record};

/// What became of a word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Receipt {
    /// The same word of the same principal and source had been recorded before.
    pub duplicate: bool,
    /// The reward of the request as it stands now.
    pub reward: Option<UnitInterval>,
}

/// Why a word was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    /// No request has that identifier.
    #[error("no request has that identifier")]
    UnknownRequest,
    /// Words are taken for seven days (`reliability.md` §12).
    #[error("the request is more than 7 days old")]
    TooLate,
    /// One principal's words on a request come from few sources.
    #[error("a request takes words from at most {MAX_SOURCES} sources of one key")]
    TooManySources,
    /// It could not be recorded.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Sources of one principal told apart on a request.
const MAX_SOURCES: usize = 8;
const WINDOW_MS: i64 = 7 * 24 * 3_600 * 1_000;

pub(crate) async fn feedback(inner: &Inner, feedback: Feedback) -> Result<Receipt, FeedbackError> {
    let stored = inner.store.request(&feedback.request_id).await?.ok_or(FeedbackError::UnknownRequest)?;
    if feedback.ts_ms.saturating_sub(stored.record.outcome.ts_ms) > WINDOW_MS {
        return Err(FeedbackError::TooLate);
    }
    let same =
        |f: &Feedback| feedback.replaces(f) && f.score == feedback.score && f.reason == feedback.reason;
    if stored.feedback.iter().rev().find(|f| feedback.replaces(f)).is_some_and(same) {
        return Ok(Receipt { duplicate: true, reward: stored.record.outcome.reward });
    }
    // Superseded words are on record, too.
    let mut words: Vec<Feedback> = Vec::new();
    for word in stored.feedback.into_iter().chain([feedback.clone()]) {
        words.retain(|earlier| !word.replaces(earlier));
        words.push(word);
    }
    if words.iter().filter(|f| f.principal == feedback.principal).count() > MAX_SOURCES {
        return Err(FeedbackError::TooManySources);
    }
    let reward = crate::outcome::with_feedback(&stored.record.outcome, &words).reward;
    inner.store.append(&Record::Feedback(feedback))?;
    Ok(Receipt { duplicate: false, reward })
}
