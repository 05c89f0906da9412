//! The model of a session: where its prompt cache is warm, and what leaving it costs.

use crate::history;
use crate::recent::Recent;
use crate::who::Who;
use std::sync::Arc;
use types::chat::{ChatRequest, Role};
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
}

impl Warm {
    /// Dollars that the session's model saves on `input` tokens because it has read most of them before.
    pub(crate) fn saving(&self, price: Option<Price>, input: u32) -> f64 {
        price.map_or(0.0, |p| f64::from(self.tokens.min(input)) * (p.input - p.cached_input).max(0.0) / 1e6)
    }
}

/// What a request is a turn of: the session that it names, or else the conversation that its first messages are of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Talk {
    key: [u8; 16],
    named: bool,
    /// Something has been answered in it.
    goes_on: bool,
}

impl Talk {
    pub(crate) fn of(who: &Who, request: &ChatRequest) -> Self {
        let named = request.options.session.is_some();
        let answered = || request.messages.iter().any(|m| m.role == Role::Assistant);
        Talk { key: history::conversation(who, request), named, goes_on: named || answered() }
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
    pub(crate) fn warm(&self, talk: Talk, ts_ms: i64) -> Option<Warm> {
        let warm = talk.goes_on.then(|| self.of(talk).get(&talk.key)).flatten();
        warm.filter(|w| ts_ms.saturating_sub(w.ts_ms) < WARM_MS)
    }

    /// Notes which model answered a turn of a session: it is the one that has read it.
    pub(crate) fn note(&self, talk: Talk, decision: &Decision, served: &Arc<str>) {
        let warm = Warm { model: served.clone(), tokens: decision.est_input_tokens, ts_ms: decision.ts_ms };
        self.of(talk).put(talk.key, warm);
    }

    const fn of(&self, talk: Talk) -> &Recent<[u8; 16], Warm> {
        if talk.named { &self.named } else { &self.unnamed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_cache_saves_what_was_read_before() {
        let warm = Warm { model: "p/a".into(), tokens: 10_000, ts_ms: 0 };
        let price = Price { cached_input: 0.3, ..Price::new(3.0, 15.0) };
        assert!((warm.saving(Some(price), 12_000) - 0.027).abs() < 1e-12);
        assert!((warm.saving(Some(price), 1_000) - 0.0027).abs() < 1e-12);
        assert_eq!(warm.saving(None, 1_000), 0.0);
    }
}
