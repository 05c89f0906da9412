//! What a key may use by limits of its own: requests, tokens and money of a window, and calls at once.
//!
//! They are counted where those of clients are ([`LimitStore`]), so that they hold over reloads and restarts: an amount is
//! set aside before a call leaves and put right when it has ended. What a call may cost is set aside whole; one that may
//! use more than all of a limit goes out where nothing else is used of it.

use super::{Room, Slot};
use futures_util::FutureExt as _;
use std::sync::Arc;
use std::time::Duration;
use types::Usage;
use types::control::Quota;
use types::limits::{Amount, Limit, LimitStore, Metric, Refused, Reservation, Standing, Window};
use types::matrix::Price;

/// Tokens of an answer, where nobody says how long it may be: what is used beyond them is counted when it has ended.
const USUAL: u32 = 1_024;
/// Tokens that a vendor may have written by the time it learns that nobody reads on.
const ON_ITS_WAY: u32 = 2_048;
/// What is in work is over within seconds, mostly; so is an outage of those who count.
const SOON: Duration = Duration::from_secs(1);
/// Until somebody has changed the price of a model, or the limits of the key.
const LONG: Duration = Duration::from_secs(3_600);

/// Who counts what keys use.
#[derive(Clone)]
pub struct Counting {
    /// Where it is counted.
    pub store: Arc<dyn LimitStore>,
    /// Whose counters they are, as [`types::limits::Claim::tenant`] says: nobody's who asks for models.
    pub whose: Arc<str>,
}

impl std::fmt::Debug for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counting").field("whose", &self.whose).finish_non_exhaustive()
    }
}

/// The limits of one key.
#[derive(Clone, Debug, Default)]
pub(in crate::transport) struct Own {
    /// As they were written, in the order of `limits`.
    stated: Vec<Quota>,
    limits: Arc<[Limit]>,
}

impl Own {
    /// Those that are stated of a key; what is no limit was refused where it was written.
    pub(in crate::transport) fn of(provider: &str, name: &str, stated: &[Quota]) -> Own {
        let read = |q: &Quota| Some((q.clone(), q.of_provider_key(provider, name).ok()?));
        let (stated, limits): (Vec<Quota>, Vec<Limit>) = stated.iter().filter_map(read).unzip();
        Own { stated, limits: limits.into() }
    }

    pub(super) fn is_none(&self) -> bool {
        self.limits.is_empty()
    }

    /// What the first of them counts, and over which time.
    pub(super) fn kind(&self) -> Option<(Metric, Window)> {
        self.limits.first().map(|l| (l.metric, l.window))
    }

    pub(super) fn counts_money(&self) -> bool {
        self.limits.iter().any(|l| l.metric == Metric::Usd)
    }

    /// How they stand, as far as that is known at once: it is asked of every model at every request.
    pub(super) fn standing(&self, counting: &Counting, unix_ms: i64) -> Vec<Standing> {
        if self.is_none() {
            return Vec::new();
        }
        counting.store.standing(&counting.whose, &self.limits, unix_ms).now_or_never().unwrap_or_default()
    }

    /// As they were stated, each with what is used of it.
    pub(in crate::transport) fn told(&self, counting: Option<&Counting>, unix_ms: i64) -> Vec<(Quota, u64)> {
        let standing = counting.map(|c| self.standing(c, unix_ms)).unwrap_or_default();
        let used = standing.iter().map(|s| s.used).chain(std::iter::repeat(0));
        self.stated.iter().cloned().zip(used).collect()
    }
}

/// What is left of them all, and how much they weigh beside those of other keys.
pub(super) fn room(standing: &[Standing]) -> Room {
    let each = standing.iter().map(|s| Room {
        ratio: 1.0 - s.ratio(),
        wait: if s.left() > 0 { Duration::ZERO } else { wait(s) },
        weight: s.limit.ceiling as f64,
    });
    each.reduce(|all, one| Room {
        ratio: all.ratio.min(one.ratio),
        wait: all.wait.max(one.wait),
        weight: all.weight,
    })
    .unwrap_or(Room::WHOLE)
}

/// How long until something comes free of a limit that is used up.
fn wait(s: &Standing) -> Duration {
    match s.limit.window {
        _ if s.in_work > 0 || s.limit.metric == Metric::Concurrency => SOON,
        // Room comes back part by part, and all of it only at the end.
        Window::Sliding(ms) => s.resets_in.min(Duration::from_millis(ms / 6)).max(Duration::from_millis(1)),
        _ => s.resets_in.max(Duration::from_millis(1)),
    }
}

/// What a call may use.
#[derive(Clone, Copy, Debug)]
pub(in crate::transport) struct Most {
    /// Its input, about, and its longest answer, all choices together.
    pub(in crate::transport) usage: Usage,
    /// Somebody says how long the answer may be.
    pub(in crate::transport) is_said: bool,
    /// `None` = nobody knows.
    pub(in crate::transport) price: Option<Price>,
    /// Calls cost nothing.
    pub(in crate::transport) free: bool,
    /// The model thinks beside its answer, which nobody sees.
    pub(in crate::transport) thinks: bool,
}

impl Most {
    fn cost(&self, usage: &Usage, of: fn(&Price, &Usage) -> types::Usd) -> u64 {
        let price = self.price.as_ref().filter(|_| !self.free);
        price.map_or(0, |p| u64::try_from(of(p, usage).nanos()).unwrap_or(0))
    }

    /// What is set aside for it on these limits.
    fn amount(&self, limits: &[Limit]) -> Amount {
        let output = if self.is_said { self.usage.output } else { self.usage.output.min(USUAL) };
        let tokens = u64::from(self.usage.input).saturating_add(u64::from(output));
        let within = |metric: Metric, n: u64| {
            let ceilings = limits.iter().filter(|l| l.metric == metric).map(|l| l.ceiling);
            ceilings.min().map_or(n, |ceiling| n.min(ceiling))
        };
        Amount {
            requests: 1,
            tokens: within(Metric::Tokens, tokens.max(1)),
            usd: within(Metric::Usd, self.cost(&self.usage, Price::most)),
            concurrency: 1,
            ..Amount::default()
        }
    }
}

/// What is set aside on the limits of a key for a call with it.
#[derive(Debug)]
pub(super) struct Claimed {
    counting: Counting,
    /// Settled when this is dropped.
    reservation: Option<Reservation>,
    most: Most,
    /// What the vendor has told, the whole so far.
    usage: Option<Usage>,
    /// Bytes of the answer that have come.
    said: usize,
    end: End,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is under way, or was left before its end.
    Open,
    /// All of its answer has come.
    Whole,
    /// The vendor has not done the work; whether the request has reached it.
    Unserved { sent: bool },
}

/// Sets aside what a call may use on all limits of the key, or on none.
///
/// # Errors
/// One has no room; how long until it may have.
pub(super) async fn claim(
    slot: &Slot,
    counting: &Counting,
    most: Most,
    unix_ms: i64,
) -> Result<Option<Claimed>, Duration> {
    if slot.own.is_none() {
        return Ok(None);
    }
    if most.price.is_none() && !most.free && slot.own.counts_money() {
        return Err(LONG);
    }
    let amount = most.amount(&slot.own.limits);
    let taken = counting.store.reserve(&counting.whose, &slot.own.limits, amount, unix_ms).await;
    match taken {
        Ok(reservation) => {
            let (counting, reservation) = (counting.clone(), Some(reservation));
            Ok(Some(Claimed { counting, reservation, most, usage: None, said: 0, end: End::Open }))
        }
        Err(Refused::Reached(all)) => Err(all.first().map_or(SOON, |first| first.retry_after)),
        Err(Refused::Away(error)) => {
            tracing::warn!(key = %slot.name, error, "what a key may use cannot be counted: it is left alone");
            Err(SOON)
        }
    }
}

impl Claimed {
    pub(super) fn used(&mut self, usage: &Usage) {
        // Who tells of nothing at all has counted nothing.
        if usage.why.is_none() && usage.total() > 0 {
            self.usage = Some(*usage);
        }
    }

    pub(super) fn said(&mut self, bytes: usize) {
        self.said = bytes;
    }

    pub(super) fn ended(&mut self) {
        self.end = End::Whole;
    }

    pub(super) fn unserved(&mut self, sent: bool) {
        self.end = End::Unserved { sent };
    }

    /// What is counted in the place of what was set aside.
    fn counted(&self, reserved: Amount) -> Amount {
        let of = |usage: &Usage, cost: fn(&Price, &Usage) -> types::Usd| Amount {
            requests: 1,
            tokens: usage.total(),
            usd: self.most.cost(usage, cost),
            ..Amount::default()
        };
        match (self.end, self.usage) {
            (End::Unserved { sent }, _) => Amount { requests: u64::from(sent), ..Amount::default() },
            (End::Whole, Some(usage)) if usage.output > 0 || self.said == 0 => of(&usage, Price::cost),
            // Nobody knows whether anything came of it.
            (End::Open, None) if self.said == 0 => Amount { requests: 1, concurrency: 0, ..reserved },
            (end, told) => {
                let bytes = u32::try_from(self.said).unwrap_or(u32::MAX);
                let output = match end {
                    End::Whole if self.most.thinks => self.most.usage.output,
                    End::Whole => bytes,
                    _ => bytes.saturating_add(ON_ITS_WAY),
                };
                let output = output.min(self.most.usage.output);
                let told = told.unwrap_or(Usage { output: 0, ..self.most.usage });
                of(&Usage { output: output.max(told.output), ..told }, Price::most)
            }
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            let counted = self.counted(reservation.amount);
            self.counting.store.settle(reservation, counted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::counter;
    use super::*;
    use types::control::Quota;

    fn own(json: &str) -> Own {
        let stated: Vec<Quota> = serde_json::from_str(json).unwrap();
        Own::of("p", "K", &stated)
    }

    fn most(input: u32, output: u32, is_said: bool) -> Most {
        let usage = Usage { input, output, ..Usage::default() };
        Most { usage, is_said, price: Some(Price::new(1.0, 2.0)), free: false, thinks: false }
    }

    #[test]
    fn what_is_set_aside() {
        let all = r#"[{"metric":"tokens","amount":3000,"per":"minute"},{"metric":"usd","amount":0.01,"per":"day"}]"#;
        let check = |most: Most, tokens: u64, nanos: u64| {
            let amount = most.amount(&own(all).limits);
            assert_eq!((amount.tokens, amount.usd), (tokens, nanos), "{most:?}");
            assert_eq!((amount.requests, amount.concurrency), (1, 1));
        };
        check(most(1_000, 500, true), 1_500, 2_000_000);
        // Nobody says how long: money for the longest answer, tokens for a usual one.
        check(most(1_000, 2_000, false), 2_024, 5_000_000);
        // More than the whole limit takes all of it.
        check(most(1_000, 64_000, true), 3_000, 10_000_000);
        check(Most { free: true, ..most(1_000, 500, true) }, 1_500, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_counted_when_a_call_has_ended() {
        let limits = r#"[{"metric":"requests","amount":100,"per":"day"},{"metric":"tokens","amount":100000,"per":"day"},
                         {"metric":"usd","amount":1,"per":"day"},{"metric":"concurrency","amount":9}]"#;
        let told = Usage { input: 900, output: 50, ..Usage::default() };
        type Happens = fn(&mut Claimed);
        let cases: [(&str, Happens, [u64; 4]); 7] = [
            (
                "as the vendor tells",
                |c| {
                    c.used(&Usage { input: 900, output: 50, ..Usage::default() });
                    c.ended();
                },
                [1, 950, 1_000_000, 0],
            ),
            ("not sent", |c| c.unserved(false), [0, 0, 0, 0]),
            ("refused", |c| c.unserved(true), [1, 0, 0, 0]),
            ("nobody knows", |_| {}, [1, 4_000, 7_000_000, 0]),
            (
                "cut off",
                |c| {
                    c.used(&Usage { input: 900, output: 1, ..Usage::default() });
                    c.said(100);
                },
                [1, 900 + 2_148, 900_000 + 2 * 2_148_000, 0],
            ),
            (
                "whole, and the vendor tells nothing",
                |c| {
                    c.used(&Usage::default());
                    c.said(400);
                    c.ended();
                },
                [1, 1_400, 1_800_000, 0],
            ),
            (
                "whole, and the vendor tells only what went in",
                |c| {
                    c.used(&Usage { input: 900, ..Usage::default() });
                    c.said(400);
                    c.ended();
                },
                [1, 1_300, 1_700_000, 0],
            ),
        ];
        assert_eq!(told.total(), 950);
        for (name, happens, want) in cases {
            let counting = counter();
            let slot = Slot { own: own(limits), ..Slot::default() };
            let mut claimed = claim(&slot, &counting, most(1_000, 3_000, true), 0).await.unwrap().unwrap();
            happens(&mut claimed);
            drop(claimed);
            let used: Vec<u64> = slot.own.standing(&counting, 0).iter().map(|s| s.used).collect();
            assert_eq!(used, want, "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_counts_money_is_not_used_for_what_has_no_price() {
        let slot = Slot { own: own(r#"[{"metric":"usd","amount":1,"per":"day"}]"#), ..Slot::default() };
        let unpriced = Most { price: None, ..most(10, 10, true) };
        assert_eq!(claim(&slot, &counter(), unpriced, 0).await.err(), Some(LONG));
        assert!(claim(&slot, &counter(), Most { free: true, ..unpriced }, 0).await.is_ok());
    }
}
