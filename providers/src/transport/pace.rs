//! The least speed of a streamed answer: a vendor that drips holds a request as one that has stalled does.

use std::time::Duration;
use types::completion::{Chunk, Delta};

/// Time of waiting for the vendor over which its speed is taken.
const WINDOW: Duration = Duration::from_secs(20);
/// Pieces in that time from which on it is a drip; fewer are pauses, which have a bound of their own.
const PIECES: u32 = 8;
/// Bytes of a token, about.
const BYTES_PER_TOKEN: f64 = 4.0;

/// How fast the answer comes. Only time spent waiting for the vendor counts: a slow reader slows no vendor.
#[derive(Debug)]
pub(super) struct Pace {
    /// Tokens per second; 0 = whatever it is.
    floor: f64,
    waited: Duration,
    tokens: f64,
    pieces: u32,
}

impl Pace {
    pub(super) fn new(floor: f64) -> Self {
        Pace { floor, waited: Duration::ZERO, tokens: 0.0, pieces: 0 }
    }

    /// So long was waited for the vendor.
    pub(super) fn waited(&mut self, waited: Duration) {
        // Time until something is said belongs to the first token.
        if self.pieces > 0 {
            self.waited = self.waited.saturating_add(waited);
        }
    }

    /// What came.
    pub(super) fn heard<'a>(&mut self, chunks: impl Iterator<Item = &'a Chunk>) {
        if self.floor <= 0.0 {
            return;
        }
        for bytes in chunks.flat_map(|c| &c.choices).map(Delta::bytes).filter(|n| *n > 0) {
            self.pieces = self.pieces.saturating_add(1);
            self.tokens += (bytes as f64 / BYTES_PER_TOKEN).max(1.0);
        }
    }

    /// Whether the answer drips. To be asked when everything that came has been heard.
    pub(super) fn drips(&mut self) -> bool {
        if self.waited < WINDOW {
            return false;
        }
        let drips = self.pieces > PIECES && self.tokens < self.floor * self.waited.as_secs_f64();
        // The next window begins with the piece that ended this one.
        (self.waited, self.tokens, self.pieces) = (Duration::ZERO, 0.0, 1);
        drips
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(pace: &mut Pace, waited: Duration, piece: &Chunk) -> bool {
        pace.waited(waited);
        pace.heard([piece].into_iter());
        pace.drips()
    }

    fn piece(text: &str) -> Chunk {
        let delta = Delta { text: Some(text.to_owned()), ..Delta::default() };
        Chunk { choices: vec![delta], ..Chunk::default() }
    }

    /// Whether an answer drips whose pieces of so many bytes come every so many milliseconds, for a minute.
    fn check(floor: f64, bytes: usize, every_ms: u64, drips: bool) {
        let mut pace = Pace::new(floor);
        let text = "x".repeat(bytes);
        let wait = Duration::from_millis(every_ms);
        let found = (0..60_000 / every_ms).any(|_| heard(&mut pace, wait, &piece(&text)));
        assert_eq!(found, drips, "{bytes} bytes every {every_ms} ms under a floor of {floor}");
    }

    #[test]
    fn a_drip_is_slow_for_long() {
        check(1.0, 4, 1_500, true);
        check(1.0, 4, 700, false);
        check(0.0, 4, 1_500, false);
        check(10.0, 4, 200, true);
        check(10.0, 80, 500, false);
        // One large piece now and then is no drip, but an answer in pieces.
        check(1.0, 4, 5_000, false);
    }

    #[test]
    fn neither_the_first_wait_nor_a_pause_nor_empty_pieces_count() {
        let mut pace = Pace::new(1.0);
        assert!(!heard(&mut pace, Duration::from_secs(60), &piece("first")));
        assert!(!heard(&mut pace, Duration::from_secs(25), &piece("after a pause")));
        for _ in 0..200 {
            assert!(!heard(&mut pace, Duration::from_millis(500), &piece("")), "a sign of life is no drip");
        }
    }
}
