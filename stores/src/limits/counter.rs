//! One counter: what was used within its window.

use types::calendar::date;
use types::limits::{Metric, Window};

/// Parts of a sliding window. The oldest is counted whole, so that no stretch of the window's length ever holds
/// more than the ceiling; the price is that room comes back up to a sixtieth of the window late.
const PARTS: usize = 60;

const DAY_MS: i64 = 86_400_000;

/// Counts for one limit.
#[derive(Clone, Debug)]
pub(super) enum Counter {
    Sliding(Box<Ring>),
    Calendar { period: i64, used: u64 },
    Gauge(u64),
}

/// Times of one question: since the process started, and of the calendar.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Milliseconds that never run backwards.
    pub(super) ms: u64,
    pub(super) unix_ms: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Ring {
    part_ms: u64,
    /// Number of the newest part, counted from the epoch.
    newest: u64,
    parts: [u64; PARTS],
    sum: u64,
}

impl Counter {
    pub(super) fn new(metric: Metric, window: Window) -> Self {
        match (metric, window) {
            (Metric::Concurrency, _) => Counter::Gauge(0),
            (_, Window::Sliding(ms)) => {
                // One part more than fits, since the oldest counts whole.
                let part_ms = ms.div_ceil(PARTS as u64 - 1).max(1);
                Counter::Sliding(Box::new(Ring { part_ms, newest: 0, parts: [0; PARTS], sum: 0 }))
            }
            (_, Window::Day | Window::Month) => Counter::Calendar { period: i64::MIN, used: 0 },
        }
    }

    /// Moves on to a moment and tells what is used then.
    pub(super) fn used(&mut self, window: Window, now: Moment) -> u64 {
        match self {
            Counter::Gauge(n) => *n,
            Counter::Sliding(ring) => {
                ring.advance(now.ms);
                ring.sum
            }
            Counter::Calendar { period, used } => {
                let current = self::period(window, now.unix_ms);
                // A clock that steps back opens no new period.
                if current > *period {
                    (*period, *used) = (current, 0);
                }
                *used
            }
        }
    }

    /// The day or month as a number, and what is used in it; `None` for a counter of another kind.
    pub(super) fn calendar(&self) -> Option<(i64, u64)> {
        match self {
            Counter::Calendar { period, used } => Some((*period, *used)),
            _ => None,
        }
    }

    /// Adds to what is used now.
    pub(super) fn add(&mut self, n: u64) {
        match self {
            Counter::Gauge(used) | Counter::Calendar { used, .. } => *used = used.saturating_add(n),
            Counter::Sliding(ring) => ring.add(n),
        }
    }

    /// Takes back what was counted at a moment, if that still counts.
    pub(super) fn take_back(&mut self, n: u64, window: Window, counted: Moment) {
        match self {
            Counter::Gauge(used) => *used = used.saturating_sub(n),
            Counter::Calendar { period, used } if self::period(window, counted.unix_ms) >= *period => {
                *used = used.saturating_sub(n);
            }
            Counter::Calendar { .. } => {}
            Counter::Sliding(ring) => ring.take_back(n, counted.ms),
        }
    }

    /// Milliseconds until `want` fits under `ceiling`, if nothing else happens.
    pub(super) fn wait(&self, want: u64, ceiling: u64, window: Window, now: Moment) -> u64 {
        match self {
            Counter::Gauge(_) => 1_000,
            Counter::Calendar { .. } => {
                u64::try_from(end(window, now.unix_ms).saturating_sub(now.unix_ms)).unwrap_or(1).max(1)
            }
            Counter::Sliding(ring) => ring.wait(want, ceiling, now.ms),
        }
    }

    /// The day or month of a moment as a number; `None` for a window that slides.
    pub(super) fn period_of(window: Window, now: Moment) -> Option<i64> {
        (!matches!(window, Window::Sliding(_))).then(|| period(window, now.unix_ms))
    }

    /// Milliseconds since its day or month began.
    pub(super) fn begun(window: Window, now: Moment) -> i64 {
        let length = match window {
            Window::Sliding(_) => 0,
            Window::Day => DAY_MS,
            Window::Month => {
                let (_, _, day) = date(now.unix_ms.div_euclid(DAY_MS));
                return day
                    .saturating_sub(1)
                    .saturating_mul(DAY_MS)
                    .saturating_add(now.unix_ms.rem_euclid(DAY_MS));
            }
        };
        if length == 0 { 0 } else { now.unix_ms.rem_euclid(length) }
    }

    /// Nothing is counted: the counter can be forgotten.
    pub(super) fn is_idle(&mut self, window: Window, now: Moment) -> bool {
        self.used(window, now) == 0
    }
}

impl Ring {
    fn advance(&mut self, ms: u64) {
        let part = ms / self.part_ms;
        let passed = part.saturating_sub(self.newest);
        if passed >= PARTS as u64 {
            self.parts = [0; PARTS];
            self.sum = 0;
        } else {
            for i in 1..=passed {
                let at = index(self.newest.saturating_add(i));
                if let Some(slot) = self.parts.get_mut(at) {
                    self.sum = self.sum.saturating_sub(std::mem::take(slot));
                }
            }
        }
        self.newest = self.newest.max(part);
    }

    fn add(&mut self, n: u64) {
        if let Some(slot) = self.parts.get_mut(index(self.newest)) {
            *slot = slot.saturating_add(n);
            self.sum = self.sum.saturating_add(n);
        }
    }

    fn take_back(&mut self, n: u64, ms: u64) {
        let part = ms / self.part_ms;
        if part.saturating_add(PARTS as u64) <= self.newest {
            return;
        }
        if let Some(slot) = self.parts.get_mut(index(part)) {
            let taken = n.min(*slot);
            *slot = slot.saturating_sub(taken);
            self.sum = self.sum.saturating_sub(taken);
        }
    }

    fn wait(&self, want: u64, ceiling: u64, ms: u64) -> u64 {
        let mut used = self.sum;
        for ahead in 1..=PARTS as u64 {
            let part = self.newest.saturating_add(ahead);
            used = used.saturating_sub(self.parts.get(index(part)).copied().unwrap_or(0));
            if used.saturating_add(want) <= ceiling {
                return part.saturating_mul(self.part_ms).saturating_sub(ms).max(1);
            }
        }
        self.part_ms.saturating_mul(PARTS as u64)
    }
}

fn index(part: u64) -> usize {
    usize::try_from(part % PARTS as u64).unwrap_or(0)
}

/// Number of the day or month that a moment lies in.
fn period(window: Window, unix_ms: i64) -> i64 {
    let day = unix_ms.div_euclid(DAY_MS);
    match window {
        Window::Month => {
            let (year, month, _) = date(day);
            year.saturating_mul(12).saturating_add(month)
        }
        _ => day,
    }
}

/// When the day or month of a moment ends, Unix milliseconds.
fn end(window: Window, unix_ms: i64) -> i64 {
    let day = unix_ms.div_euclid(DAY_MS);
    match window {
        Window::Month => {
            let (_, _, of_month) = date(day);
            let first = day.saturating_sub(of_month.saturating_sub(1));
            // Day 32 of any month lies in the next one.
            let (_, _, past) = date(first.saturating_add(31));
            first.saturating_add(31).saturating_sub(past.saturating_sub(1)).saturating_mul(DAY_MS)
        }
        _ => day.saturating_add(1).saturating_mul(DAY_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Moment {
        Moment { ms, unix_ms: 1_782_907_200_000_i64.saturating_add_unsigned(ms) }
    }

    #[test]
    fn months_end_where_the_calendar_says() {
        for (from, want) in [
            (1_782_907_200_000, 1_785_542_400_000_i64), // 2026-07-01 12:00 -> 2026-08-01
            (1_769_904_000_000, 1_772_323_200_000),     // 2026-02-01 -> 2026-03-01
            (1_798_761_599_999, 1_798_761_600_000),     // 2026-12-31 23:59:59.999 -> 2027-01-01
        ] {
            assert_eq!(end(Window::Month, from), want);
            assert_eq!(period(Window::Month, want), period(Window::Month, from) + 1);
        }
    }

    proptest! {
        /// Whatever the arrivals, no stretch of the window's length holds more than the ceiling.
        #[test]
        fn a_sliding_window_never_admits_more_than_its_ceiling(
            gaps in proptest::collection::vec(0_u64..400, 1..200), ceiling in 1_u64..6, window in 500_u64..3_000,
        ) {
            let w = Window::Sliding(window);
            let mut c = Counter::new(Metric::Requests, w);
            let (mut now, mut admitted) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                if c.used(w, at(now)) < ceiling {
                    c.add(1);
                    admitted.push(now);
                }
            }
            for (i, first) in admitted.iter().enumerate() {
                let within = admitted[i..].iter().filter(|t| **t < first + window).count();
                prop_assert!(within as u64 <= ceiling, "{within} from {first}: {admitted:?}");
            }
        }

        /// After the wait that is told, the request fits.
        #[test]
        fn the_wait_that_is_told_is_enough(uses in proptest::collection::vec((0_u64..300, 1_u64..4), 1..60)) {
            let w = Window::Sliding(1_000);
            let mut c = Counter::new(Metric::Tokens, w);
            let mut now = 0;
            for (gap, n) in uses {
                now += gap;
                c.used(w, at(now));
                c.add(n);
            }
            let wait = c.wait(1, 5, w, at(now));
            prop_assert!(c.used(w, at(now + wait)) < 5);
        }
    }
}
