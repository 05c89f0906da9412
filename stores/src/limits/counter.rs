//! One counter: what was used within its window.

use types::calendar::Date;
use types::limits::{Metric, Window};

/// Parts of a sliding window. The oldest is counted whole, so that no stretch of the window's length ever holds
/// more than the ceiling; the price is that room comes back up to a sixtieth of the window late.
const PARTS: usize = 60;

const DAY_MS: i64 = 86_400_000;
/// Length of a sliding window, in milliseconds, from which on its money and tokens outlive the process: what is shorter is
/// over about as soon as a process has started again.
const LASTING_MS: u64 = 3_600_000;
/// How far ahead of the clock a day or month may have begun, in milliseconds, before the clock is taken to have been wrong
/// then. A clock that is set back by less opens nothing again, so that nobody gains by it.
const AHEAD_MS: i64 = DAY_MS;
/// A clock that has gained so many milliseconds on the one that never runs backwards was set.
const SET_MS: i64 = 3_600_000;

/// Counts for one limit.
#[derive(Clone, Debug)]
pub(super) enum Counter {
    Sliding(Box<Ring>),
    Calendar(Calendar),
    Gauge(u64),
}

/// Times of one question: since the process started, and of the calendar.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Nanoseconds that never run backwards. No two questions to counters that lie together have the same.
    pub(super) ns: u64,
    pub(super) unix_ms: i64,
}

impl Moment {
    /// Milliseconds that never run backwards.
    pub(super) const fn ms(self) -> u64 {
        ms_of(self.ns)
    }
}

const fn ms_of(ns: u64) -> u64 {
    ns / 1_000_000
}

/// What counts, and what of that is set aside for what has not ended.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    used: u64,
    open: u64,
    /// What of the used is an upper bound alone.
    at_most: u64,
}

impl Sum {
    const fn add(&mut self, other: Sum) {
        self.used = self.used.saturating_add(other.used);
        self.open = self.open.saturating_add(other.open);
        self.at_most = self.at_most.saturating_add(other.at_most);
    }

    const fn take(&mut self, other: Sum) {
        self.used = self.used.saturating_sub(other.used);
        self.open = self.open.saturating_sub(other.open);
        self.at_most = self.at_most.saturating_sub(other.at_most);
    }
}

/// A day or month.
#[derive(Clone, Copy, Debug)]
struct Period {
    number: i64,
    /// When it began to count, on the clock that never runs backwards: what was taken since lies in it, whatever the
    /// clock of the day said then.
    since: u64,
    sum: Sum,
    /// It did not come by itself: the clock was set to it.
    set: bool,
}

/// A day or month that came by itself, and that a clock went back from by so much that it must be wrong: then, or now.
#[derive(Clone, Copy, Debug)]
struct Left {
    number: i64,
    /// As of [`Period::since`].
    since: u64,
    /// When the clock was found to have gone back.
    at: Moment,
}

/// Days or months: the present one, and the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calendar {
    now: Option<Period>,
    before: Option<Period>,
    left: Option<Left>,
    /// When it was last asked.
    last: Option<Moment>,
}

/// Whether the clock of the day was set ahead between two moments.
const fn is_set(from: Moment, to: Moment) -> bool {
    let passed = to.ms().saturating_sub(from.ms());
    to.unix_ms.saturating_sub(from.unix_ms).saturating_sub_unsigned(passed) > SET_MS
}

impl Calendar {
    /// Moves on to a moment.
    fn turn(&mut self, window: Window, now: Moment) {
        let number = period(window, now.unix_ms);
        let set = self.last.replace(now).is_some_and(|last| is_set(last, now));
        let returns = self.left.filter(|left| left.number == number && is_set(left.at, now));
        match &mut self.now {
            Some(of) if number < of.number && is_far(window, of.number, now.unix_ms) => {
                let left = of.number;
                // The clock was wrong. What was used while it was counts for the present period, and so does what was
                // used of this before.
                of.number = number;
                if let Some(before) = self.before.take().filter(|before| before.number >= number) {
                    of.since = before.since;
                    of.sum.add(before.sum);
                }
                // Or it is wrong now: should it return, nothing is open a second time.
                self.left = (!of.set).then_some(Left { number: left, since: of.since, at: now });
            }
            // A clock that steps back opens no new period.
            Some(of) if number <= of.number => {}
            Some(of) if returns.is_some() => {
                of.number = number;
                let since = self.left.take().map_or(of.since, |left| left.since);
                if let Some(before) = self.before.take_if(|before| before.since >= since) {
                    of.since = before.since;
                    of.sum.add(before.sum);
                }
            }
            of => {
                let new = Period { number, since: now.ns, sum: Sum::default(), set };
                self.before = of.replace(new);
                self.left = None;
            }
        }
    }

    /// The day or month in which something was taken; `None` = none that still counts.
    fn of(&mut self, taken: u64) -> Option<&mut Period> {
        [&mut self.now, &mut self.before].into_iter().flatten().find(|period| period.since <= taken)
    }
}

/// Whether a day or month begins so late after a moment that it cannot have begun.
fn is_far(window: Window, number: i64, unix_ms: i64) -> bool {
    match number.saturating_sub(period(window, unix_ms)) {
        ..=0 => false,
        1 => end(window, unix_ms).saturating_sub(unix_ms) > AHEAD_MS,
        _ => true,
    }
}

#[derive(Clone, Debug)]
pub(super) struct Ring {
    part_ms: u64,
    /// It outlives the process.
    lasts: bool,
    /// Number of the newest part, counted from the epoch.
    newest: u64,
    parts: [Sum; PARTS],
    sum: Sum,
    /// All that was used and has left the window.
    slid: u64,
}

/// What of something is set aside until that ends: a request was made, however it ends.
const fn open(metric: Metric, amount: u64) -> u64 {
    if matches!(metric, Metric::Requests) { 0 } else { amount }
}

impl Counter {
    pub(super) fn new(metric: Metric, window: Window) -> Self {
        match (metric, window) {
            (Metric::Concurrency, _) => Counter::Gauge(0),
            (_, Window::Sliding(ms)) => {
                // One part more than fits, since the oldest counts whole.
                let part_ms = ms.div_ceil(PARTS as u64 - 1).max(1);
                let (parts, sum) = ([Sum::default(); PARTS], Sum::default());
                let lasts = ms >= LASTING_MS && matches!(metric, Metric::Usd | Metric::Tokens);
                Counter::Sliding(Box::new(Ring { part_ms, lasts, newest: 0, parts, sum, slid: 0 }))
            }
            // What one request may use is counted by its own ledger; who asks all the same has it as a day.
            (_, Window::Request | Window::Day | Window::Month) => Counter::Calendar(Calendar::default()),
        }
    }

    /// Moves on to a moment and tells what is used then.
    pub(super) fn used(&mut self, window: Window, now: Moment) -> u64 {
        match self {
            Counter::Gauge(n) => *n,
            Counter::Sliding(ring) => {
                ring.advance(now.ms());
                ring.sum.used
            }
            Counter::Calendar(calendar) => {
                calendar.turn(window, now);
                calendar.now.map_or(0, |period| period.sum.used)
            }
        }
    }

    /// The moment at which it was asked last was none of this process's clock.
    pub(super) fn forget_when_asked(&mut self) {
        if let Counter::Calendar(calendar) = self {
            calendar.last = None;
        }
    }

    /// What of that is set aside for what has not ended.
    pub(super) fn open(&self) -> u64 {
        match self {
            Counter::Gauge(n) => *n,
            Counter::Sliding(ring) => ring.sum.open,
            Counter::Calendar(calendar) => calendar.now.map_or(0, |period| period.sum.open),
        }
    }

    /// What of what is used is an upper bound alone.
    pub(super) fn at_most(&self) -> u64 {
        let sum = match self {
            Counter::Gauge(_) => Sum::default(),
            Counter::Sliding(ring) => ring.sum,
            Counter::Calendar(calendar) => calendar.now.map_or_else(Sum::default, |period| period.sum),
        };
        sum.at_most.min(sum.used)
    }

    /// So much of what was used, and taken at a moment, is an upper bound, where it still counts.
    pub(super) fn is_at_most(&mut self, at_most: u64, taken: u64) {
        let sum = Sum { at_most, ..Sum::default() };
        match self {
            Counter::Gauge(_) => {}
            Counter::Sliding(ring) => ring.add_at(sum, ms_of(taken)),
            Counter::Calendar(calendar) => {
                calendar.of(taken).into_iter().for_each(|period| period.sum.add(sum));
            }
        }
    }

    /// Whether what it counts outlives the process.
    pub(super) fn lasts(&self) -> bool {
        match self {
            Counter::Gauge(_) => false,
            Counter::Sliding(ring) => ring.lasts,
            Counter::Calendar(_) => true,
        }
    }

    /// The day or month as a number, 0 of a window that slides, and what is used in it; `None` where that does not outlive the
    /// process, or nothing has been counted yet.
    pub(super) fn lasting(&self) -> Option<(i64, u64)> {
        match self {
            Counter::Calendar(calendar) => calendar.now.map(|period| (period.number, period.sum.used)),
            Counter::Sliding(ring) if ring.lasts => Some((0, ring.sum.used)),
            _ => None,
        }
    }

    /// All that has left a window that slides since the counter was made.
    pub(super) fn slid(&self) -> u64 {
        if let Counter::Sliding(ring) = self { ring.slid } else { 0 }
    }

    /// The sums of the parts of a window that slides and outlives the process, as they are kept: the oldest first, each with
    /// the Unix milliseconds at which its part ended, or now: nothing of it was used later.
    pub(super) fn parts(&self, now: Moment) -> Vec<(i64, u64)> {
        let Counter::Sliding(ring) = self else { return Vec::new() };
        let ended = |part: u64| {
            let ago = now.ms().saturating_sub(part.saturating_add(1).saturating_mul(ring.part_ms));
            now.unix_ms.saturating_sub_unsigned(ago)
        };
        let all = (0..PARTS as u64).rev().map(|ago| ring.newest.saturating_sub(ago));
        let used = |part: u64| ring.parts.get(index(part)).map_or(0, |slot| slot.used);
        all.map(|part| (ended(part), used(part))).filter(|(_, used)| *used > 0).collect()
    }

    /// Adds what was used before this process, so many milliseconds ago at the latest.
    pub(super) fn add_earlier(&mut self, n: u64, ago_ms: u64, now: Moment) {
        match self {
            Counter::Sliding(ring) => {
                ring.add_at(Sum { used: n, ..Sum::default() }, now.ms().saturating_sub(ago_ms))
            }
            _ => self.add(n),
        }
    }

    fn add_sum(&mut self, sum: Sum) {
        match self {
            Counter::Gauge(used) => *used = used.saturating_add(sum.used),
            Counter::Calendar(calendar) => calendar.now.iter_mut().for_each(|period| period.sum.add(sum)),
            Counter::Sliding(ring) => ring.add(sum),
        }
    }

    /// Adds to what is used now.
    pub(super) fn add(&mut self, n: u64) {
        self.add_sum(Sum { used: n, ..Sum::default() });
    }

    /// Sets something aside now.
    pub(super) fn reserve(&mut self, metric: Metric, amount: u64) {
        self.add_sum(Sum { used: amount, open: open(metric, amount), at_most: 0 });
    }

    /// Puts what was used in the place of what was set aside at a moment, where that still counts; what was used beyond it
    /// is used now. `now` has the time of the day of that moment, which says what a counter counts that is new.
    pub(super) fn settle(
        &mut self,
        (metric, window): (Metric, Window),
        (reserved, used): (u64, u64),
        taken: u64,
        now: Moment,
    ) {
        let back = Sum { used: reserved.saturating_sub(used), open: open(metric, reserved), at_most: 0 };
        match self {
            Counter::Gauge(n) => *n = n.saturating_sub(back.used),
            Counter::Sliding(ring) => {
                ring.advance(now.ms());
                ring.take(back, ms_of(taken));
            }
            Counter::Calendar(calendar) => {
                if calendar.now.is_none() {
                    calendar.turn(window, now);
                }
                if let Some(period) = calendar.of(taken) {
                    period.sum.take(back);
                }
            }
        }
        self.add(used.saturating_sub(reserved));
    }

    /// Milliseconds until `want` fits under `ceiling`, if nothing else happens.
    pub(super) fn wait(&self, want: u64, ceiling: u64, window: Window, now: Moment) -> u64 {
        match self {
            Counter::Gauge(_) => 1_000,
            Counter::Calendar(calendar) => {
                let present = period(window, now.unix_ms);
                let ahead = calendar.now.is_some_and(|period| period.number > present);
                // A clock that was set back opens no new period at the end of this one.
                let over =
                    if ahead { end(window, end(window, now.unix_ms)) } else { end(window, now.unix_ms) };
                u64::try_from(over.saturating_sub(now.unix_ms)).unwrap_or(1).max(1)
            }
            Counter::Sliding(ring) => ring.wait(want, ceiling, now.ms()),
        }
    }

    /// The day or month of a moment as a number; `None` for a window that slides.
    pub(super) fn period_of(window: Window, unix_ms: i64) -> Option<i64> {
        (!matches!(window, Window::Sliding(_))).then(|| period(window, unix_ms))
    }

    /// Milliseconds since its day or month began.
    pub(super) fn begun(window: Window, now: Moment) -> i64 {
        let length = match window {
            Window::Sliding(_) => 0,
            Window::Request | Window::Day => DAY_MS,
            Window::Month => {
                let date = Date::from_days(now.unix_ms.div_euclid(DAY_MS));
                return i64::from(date.day)
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
            self.parts = [Sum::default(); PARTS];
            self.slid = self.slid.saturating_add(std::mem::take(&mut self.sum).used);
        } else {
            for i in 1..=passed {
                let at = index(self.newest.saturating_add(i));
                if let Some(slot) = self.parts.get_mut(at) {
                    let over = std::mem::take(slot);
                    self.slid = self.slid.saturating_add(over.used);
                    self.sum.take(over);
                }
            }
        }
        self.newest = self.newest.max(part);
    }

    fn add(&mut self, sum: Sum) {
        if let Some(slot) = self.parts.get_mut(index(self.newest)) {
            slot.add(sum);
            self.sum.add(sum);
        }
    }

    /// Adds what was used at an earlier moment, if that is not over.
    fn add_at(&mut self, sum: Sum, ms: u64) {
        let part = (ms / self.part_ms).min(self.newest);
        if part.saturating_add(PARTS as u64) <= self.newest {
            return;
        }
        if let Some(slot) = self.parts.get_mut(index(part)) {
            slot.add(sum);
            self.sum.add(sum);
        }
    }

    /// Takes back what was added at a moment, if that is not over.
    fn take(&mut self, back: Sum, ms: u64) {
        let part = ms / self.part_ms;
        if part.saturating_add(PARTS as u64) <= self.newest {
            return;
        }
        if let Some(slot) = self.parts.get_mut(index(part)) {
            let back = Sum { used: back.used.min(slot.used), open: back.open.min(slot.open), at_most: 0 };
            slot.take(back);
            self.sum.take(back);
        }
    }

    fn wait(&self, want: u64, ceiling: u64, ms: u64) -> u64 {
        let mut used = self.sum.used;
        for ahead in 1..=PARTS as u64 {
            let part = self.newest.saturating_add(ahead);
            used = used.saturating_sub(self.parts.get(index(part)).map_or(0, |slot| slot.used));
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
            let Date { year, month, .. } = Date::from_days(day);
            i64::from(year).saturating_mul(12).saturating_add(i64::from(month))
        }
        _ => day,
    }
}

/// When the day or month of a moment ends, Unix milliseconds.
fn end(window: Window, unix_ms: i64) -> i64 {
    let day = unix_ms.div_euclid(DAY_MS);
    match window {
        Window::Month => {
            let of_month = |day: i64| i64::from(Date::from_days(day).day);
            let first = day.saturating_sub(of_month(day).saturating_sub(1));
            // Day 32 of any month lies in the next one.
            let past = first.saturating_add(31);
            past.saturating_sub(of_month(past).saturating_sub(1)).saturating_mul(DAY_MS)
        }
        _ => day.saturating_add(1).saturating_mul(DAY_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Moment {
        Moment { ns: ms * 1_000_000, unix_ms: 1_782_907_200_000_i64.saturating_add_unsigned(ms) }
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
