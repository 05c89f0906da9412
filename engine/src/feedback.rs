//! A word on an answer: recorded, and learned from as soon as the log is read.

use crate::demands;
use crate::who::Who;
use crate::{Engine, Inner};
use std::sync::Arc;
use std::time::Duration;
use types::limits::{Amount, Limit, Metric, Window};
use types::outcome::Feedback;
use types::store::{self, Record};
use types::{Blame, UnitInterval};

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
pub enum Error {
    /// No request has that identifier.
    #[error("no request has that identifier")]
    UnknownRequest,
    /// Its record was erased when its time was over.
    #[error(
        "the record of that request was erased when its retention was over; no more words are taken on it"
    )]
    Erased {
        /// Whose request it was.
        tenant: String,
    },
    /// Words are taken for seven days.
    #[error("the request is more than 7 days old")]
    TooLate,
    /// One principal's words on a request come from few sources.
    #[error("a request takes words from at most {MAX_SOURCES} sources of one key")]
    TooManySources,
    /// One principal says so much in a minute.
    #[error("at most {MOST} words a minute are taken of one key")]
    TooMany {
        /// Until another one is taken.
        wait: Duration,
    },
    /// It could not be recorded.
    #[error(transparent)]
    Store(store::Error),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Erased { tenant } => Error::Erased { tenant },
            error => Error::Store(error),
        }
    }
}

impl Error {
    /// Who can do something about it.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Error::UnknownRequest | Error::Erased { .. } | Error::TooLate | Error::TooManySources => {
                Blame::Client
            }
            Error::TooMany { .. } => Blame::Capacity,
            Error::Store(_) => Blame::Internal,
        }
    }

    /// Whether the same word may be taken a moment later.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        matches!(self, Error::TooMany { .. } | Error::Store(_))
    }

    /// What the client may read.
    #[must_use]
    pub fn public_message(&self) -> String {
        match self {
            Error::Store(_) => "the word could not be recorded".to_owned(),
            other => other.to_string(),
        }
    }
}

impl Engine {
    /// Counts a word on an answer that somebody wants to say, before it is looked at.
    ///
    /// # Errors
    /// [`Error::TooMany`] within a minute.
    pub async fn may_say(&self, who: &Who, principal: &str) -> Result<(), Error> {
        admit(&self.0, who, principal).await
    }

    /// Takes a word on an answer. It is on record when this returns.
    ///
    /// # Errors
    /// The request is not known or too old, or the word could not be recorded.
    pub async fn feedback(&self, feedback: Feedback) -> Result<Receipt, Error> {
        take(&self.0, feedback).await
    }
}

/// Sources of one principal told apart on a request.
const MAX_SOURCES: usize = 8;
/// Words of one principal in any minute, those that are refused included: each is looked up, and each that differs from
/// the one before is kept.
const MOST: u32 = 3_000;
const WINDOW_MS: i64 = 7 * 24 * 3_600 * 1_000;

/// Counts a word of a principal before anything is done for it. Where nobody can count, it is taken.
///
/// # Errors
/// [`Error::TooMany`].
async fn admit(inner: &Inner, who: &Who, principal: &str) -> Result<(), Error> {
    let Some(store) = &inner.limits else { return Ok(()) };
    let holder = format!("feedback:{principal}");
    let limit = Limit::rate(&holder, Metric::Requests, f64::from(MOST), Window::Sliding(60_000));
    let limits: Arc<[Limit]> = limit.into_iter().collect();
    let one = Amount { requests: 1, ..Amount::default() };
    match store.reserve(&who.tenant_id, &limits, one).await {
        Ok(reservation) => {
            store.settle(reservation, one);
            Ok(())
        }
        Err(refused) => match refused.last() {
            Some(reached) => Err(Error::TooMany { wait: reached.retry_after }),
            None => Ok(()),
        },
    }
}

async fn take(inner: &Inner, mut feedback: Feedback) -> Result<Receipt, Error> {
    let stored = inner.store.request(&feedback.request_id).await?.ok_or(Error::UnknownRequest)?;
    if feedback.ts_ms.saturating_sub(stored.record.outcome.ts_ms) > WINDOW_MS {
        return Err(Error::TooLate);
    }
    let said = feedback.reason.take();
    let detector = inner.view.load().bundle.detector.clone();
    feedback.reason =
        said.and_then(|text| demands::reason(&stored.record.decision, detector, &inner.redaction_key, &text));
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
        return Err(Error::TooManySources);
    }
    let reward = crate::outcome::with_feedback(&stored.record.outcome, &words).reward;
    inner.store.append(&Record::Feedback(feedback))?;
    Ok(Receipt { duplicate: false, reward })
}
