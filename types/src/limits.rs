//! Rates and budgets: what may be used, over which time, by whom; and the seam to those who count.
//!
//! A reservation is taken on every limit that applies, or on none, before the first call; what was really used
//! is put in its place after the last.

mod shortage;

pub use shortage::Shortage;

use crate::units::Usd;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Requests admitted.
    Requests,
    /// Tokens, input and output.
    Tokens,
    /// Money, in nano-dollars.
    Usd,
    /// Requests in work at once; its window means nothing.
    Concurrency,
}

impl Metric {
    /// The strings of files, records and metrics.
    pub const NAMES: &'static [&'static str] = &["requests", "tokens", "usd", "concurrency"];

    /// The string used in files, records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Metric::Requests => "requests",
            Metric::Tokens => "tokens",
            Metric::Usd => "usd",
            Metric::Concurrency => "concurrency",
        }
    }

    /// The metric of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "requests" => Metric::Requests,
            "tokens" => Metric::Tokens,
            "usd" => Metric::Usd,
            "concurrency" => Metric::Concurrency,
            _ => return None,
        })
    }
}

/// Over which time something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// One request with all its calls: nothing that it leaves or uses counts for another, so that no store counts it.
    Request,
    /// Any stretch of so many milliseconds: never more than the ceiling within one, wherever it begins.
    Sliding(u64),
    /// A day from midnight UTC.
    Day,
    /// A month of the calendar, UTC.
    Month,
}

impl Window {
    /// Named windows of files and of the control API; `second`, `minute`, `hour` slide.
    pub const NAMES: &'static [&'static str] = &["request", "second", "minute", "hour", "day", "month"];

    /// The window of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "request" => Window::Request,
            "second" => Window::Sliding(1_000),
            "minute" => Window::Sliding(60_000),
            "hour" => Window::Sliding(3_600_000),
            "day" => Window::Day,
            "month" => Window::Month,
            _ => return None,
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::Request => f.write_str("request"),
            Window::Sliding(1_000) => f.write_str("second"),
            Window::Sliding(60_000) => f.write_str("minute"),
            Window::Sliding(3_600_000) => f.write_str("hour"),
            Window::Sliding(ms) if ms % 1_000 == 0 => write!(f, "{} s", ms / 1_000),
            Window::Sliding(ms) => write!(f, "{ms} ms"),
            Window::Day => f.write_str("day"),
            Window::Month => f.write_str("month"),
        }
    }
}

/// Whose counters are those of limits that all tenants share. No tenant has this name.
pub const ALL: &str = "(all)";
/// What the holders of such limits begin with.
pub const OVER_ALL: &str = "all:";

/// One limit on one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Whose counter it is, such as `key:ab12`, `tenant:acme`, `model:openai/gpt-x`, `label:team=red`,
    /// `rule:slow:user=ada`, and `all:rule:vllm:model=p/m` where all tenants share it ([`OVER_ALL`]). Limits of the same holder, metric and window share a counter.
    pub holder: Arc<str>,
    /// What is counted.
    pub metric: Metric,
    /// Most of it: requests, tokens, nano-dollars.
    pub ceiling: u64,
    /// Over which time.
    pub window: Window,
    /// Of the ceiling, what only premium requests may use; the others are counted against the rest.
    #[serde(default)]
    pub reserved: u64,
}

impl Limit {
    /// A rate as people write it, fractions included: 0.2 a second is one in five seconds. `None` if the amount
    /// is not a positive number or too small to ever admit anything within a year.
    #[must_use]
    pub fn rate(holder: &str, metric: Metric, amount: f64, window: Window) -> Option<Limit> {
        /// A year.
        const LONGEST_MS: f64 = 366.0 * 86_400_000.0;
        if !(amount.is_finite() && amount > 0.0) {
            return None;
        }
        let limit = |ceiling: f64, window| {
            // `as` saturates; the amount is positive.
            Some(Limit { holder: holder.into(), metric, ceiling: ceiling as u64, window, reserved: 0 })
        };
        match (metric, window) {
            (Metric::Usd, _) => limit((amount * 1e9).round(), window).filter(|l| l.ceiling > 0),
            (_, Window::Sliding(ms)) if amount.fract() != 0.0 => {
                // One unit more than the whole part, in the time that makes the rate the same.
                let units = amount.ceil();
                let stretched = ms as f64 * units / amount;
                (stretched <= LONGEST_MS).then(|| limit(units, Window::Sliding(stretched.ceil() as u64)))?
            }
            _ => limit(amount.floor(), window).filter(|l| l.ceiling > 0),
        }
    }
}

impl Limit {
    /// Of a counter that a word of a request opens, a user or a label of a rule's limit, what all of its kind have in
    /// common; `None` = those who run the server know how many such counters there can be.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        let (kind, _) = self.holder.split_once('=')?;
        let (_, of) = kind.strip_prefix(OVER_ALL).unwrap_or(kind).strip_prefix("rule:")?.split_once(':')?;
        (of == "user" || of.starts_with("label:")).then_some(kind)
    }

    /// What it is on, of a closed set: `key`, `tenant`, `model`, `label` or `rule`.
    #[must_use]
    pub fn on(&self) -> &'static str {
        let holder = self.holder.strip_prefix(OVER_ALL).unwrap_or(&self.holder);
        match () {
            () if holder.starts_with("rule:") => "rule",
            () if holder.contains("/label:") => "label",
            () if holder.contains("/model:") => "model",
            () if holder.starts_with("tenant:") => "tenant",
            () => "key",
        }
    }

    /// Whose counters it is counted by, for a request of a tenant: that one's, or those of all tenants together.
    #[must_use]
    pub fn whose(&self, tenant: &Arc<str>) -> Arc<str> {
        if self.is_over_all() { Arc::from(ALL) } else { tenant.clone() }
    }

    /// Whether it counts the requests of all tenants together.
    #[must_use]
    pub fn is_over_all(&self) -> bool {
        self.holder.starts_with(OVER_ALL)
    }

    /// The same limit with this share of it (0..1) for premium requests alone.
    #[must_use]
    pub fn reserving(self, share: f64) -> Limit {
        // `as` saturates; rounded down, so that something is left for the others.
        Limit { reserved: (self.ceiling as f64 * share.clamp(0.0, 1.0)).floor() as u64, ..self }
    }

    /// As it counts for requests that are not premium. It shares its counter with this one.
    #[must_use]
    pub fn ordinary(&self) -> Limit {
        Limit { ceiling: self.ceiling.saturating_sub(self.reserved), reserved: 0, ..self.clone() }
    }

    /// Whether two limits share a counter.
    #[must_use]
    pub fn counts_with(&self, other: &Limit) -> bool {
        (&self.holder, self.metric, self.window) == (&other.holder, other.metric, other.window)
    }
}

/// What a record says of a counter that its request took money or tokens from and that it does not name anyway, in the place
/// of the holder's name: that may name a person. `None` = all that a key or a tenant does counts there.
#[must_use]
pub fn mark(holder: &str) -> Option<u64> {
    let plain = holder.starts_with("key:") || holder.starts_with("tenant:");
    if plain && !holder.contains('/') {
        return None;
    }
    // FNV-1a, 64 bits: the same on every machine and in every version, and no secret.
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    Some(holder.bytes().fold(BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME)))
}

/// The marks of the counters of money and tokens among these limits, each once.
pub fn marks<'a>(limits: impl Iterator<Item = &'a Limit>) -> Vec<u64> {
    let spent = limits.filter(|l| matches!(l.metric, Metric::Usd | Metric::Tokens));
    let mut all: Vec<u64> = spent.filter_map(|l| mark(&l.holder)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i64::try_from(self.ceiling).unwrap_or(i64::MAX);
        match self.metric {
            Metric::Usd => write!(f, "{} USD per {}", Usd::from_nanos(nanos), self.window)?,
            Metric::Concurrency => write!(f, "{} requests at once", self.ceiling)?,
            metric => write!(f, "{} {} per {}", self.ceiling, metric.as_str(), self.window)?,
        }
        write!(f, " for {}", self.holder)
    }
}

/// What a request uses, or may use at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Requests.
    pub requests: u64,
    /// Tokens, input and output.
    pub tokens: u64,
    /// Nano-dollars.
    pub usd: u64,
    /// Places among those in work.
    pub concurrency: u64,
    /// Of the tokens that were used, those that nobody said or estimated: what calls that were cut off may have used beyond.
    #[serde(default)]
    pub tokens_at_most: u64,
    /// The same of the nano-dollars.
    #[serde(default)]
    pub usd_at_most: u64,
}

impl Amount {
    /// The part that a metric counts.
    #[must_use]
    pub const fn of(&self, metric: Metric) -> u64 {
        match metric {
            Metric::Requests => self.requests,
            Metric::Tokens => self.tokens,
            Metric::Usd => self.usd,
            Metric::Concurrency => self.concurrency,
        }
    }

    /// What of that is an upper bound alone.
    #[must_use]
    pub const fn at_most_of(&self, metric: Metric) -> u64 {
        match metric {
            Metric::Tokens => self.tokens_at_most,
            Metric::Usd => self.usd_at_most,
            Metric::Requests | Metric::Concurrency => 0,
        }
    }
}

/// Something to take of limits whose counters lie together.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose counters: those of one tenant lie together.
    pub tenant: Arc<str>,
    /// On what it is taken. Several ceilings over the same counter take from it once.
    pub limits: Arc<[Limit]>,
    /// How much of each.
    pub amount: Amount,
}

/// A limit that has no room for what is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Whose counter it is, as in [`Claim::tenant`].
    pub tenant: Arc<str>,
    /// Which.
    pub limit: Limit,
    /// What is left of it.
    pub left: u64,
    /// What would be left if what is in work turned out to use nothing.
    pub free: u64,
    /// When trying again makes sense: soon where only what is in work stands in the way.
    pub retry_after: Duration,
}

/// Why nothing was reserved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Limits are reached: all that have no room, the one that ends last first, and never none.
    #[error("the limit of {} is reached", .0.first().map_or_else(String::new, |first| first.limit.to_string()))]
    Reached(Vec<Reached>),
    /// Those who count cannot be asked.
    #[error("limits cannot be checked: {0}")]
    Away(String),
}

impl Refused {
    /// The limit that ends last; `None` = those who count cannot be asked.
    #[must_use]
    pub fn last(&self) -> Option<&Reached> {
        match self {
            Refused::Reached(all) => all.first(),
            Refused::Away(_) => None,
        }
    }
}

/// What is left of one limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// Which.
    pub limit: Limit,
    /// Used and reserved.
    pub used: u64,
    /// What of that is set aside for requests in work, which give back what they do not use.
    pub in_work: u64,
    /// What of it is an upper bound: what calls that were cut off may have used beyond what they are estimated to have used,
    /// since nobody said it.
    pub at_most: u64,
    /// Until all of it is free again.
    pub resets_in: Duration,
    /// At which pace it is used, in its units an hour: an exponentially weighted mean. `None` for windows that
    /// slide, and places in work.
    pub pace_per_h: Option<f64>,
}

/// A limit, and amounts that are asked of it, each by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Inquiry {
    /// Which.
    pub limit: Limit,
    /// Of what it counts, in its units.
    pub amounts: Vec<u64>,
}

/// What a limit would say to amounts that are only asked about.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreseen {
    /// How it stands.
    pub standing: Standing,
    /// For each amount, in their order, why the limit does not give it; `None` = it does.
    pub reached: Vec<Option<Reached>>,
}

/// How near a limit is to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pressure {
    /// Plenty is left.
    #[default]
    Green,
    /// At the present pace it does not last until it is free again, or [`Standing::AMBER`] of it is used.
    Amber,
    /// [`Standing::RED`] of it is used.
    Red,
}

impl Pressure {
    /// The string of policies and the control API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Pressure::Green => "green",
            Pressure::Amber => "amber",
            Pressure::Red => "red",
        }
    }
}

impl Standing {
    /// Share used from which on a limit is amber whatever the pace.
    pub const AMBER: f64 = 0.8;
    /// Share used from which on a limit is red.
    pub const RED: f64 = 0.95;
    /// Share used below which no pace makes a limit amber: after the first requests of a month there is none yet.
    pub const EARLY: f64 = 0.05;

    /// That of a limit of which nothing is used.
    #[must_use]
    pub fn untouched(limit: &Limit) -> Self {
        Standing {
            limit: limit.clone(),
            used: 0,
            resets_in: Duration::ZERO,
            pace_per_h: None,
            in_work: 0,
            at_most: 0,
        }
    }

    /// What is left.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.limit.ceiling.saturating_sub(self.used)
    }

    /// What is left for requests that are not premium.
    #[must_use]
    pub const fn ordinary_left(&self) -> u64 {
        self.left().saturating_sub(self.limit.reserved)
    }

    /// Share used, 0..=1.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        (self.used as f64 / self.limit.ceiling.max(1) as f64).clamp(0.0, 1.0)
    }

    /// When it is used up at the present pace: left / pace. `None` = not before it is free again. Of a limit that
    /// holds something back for premium requests, when the others have to end.
    #[must_use]
    pub fn runs_out_in(&self) -> Option<Duration> {
        let pace = self.pace_per_h.filter(|p| *p > 0.0)?;
        let seconds = self.ordinary_left() as f64 / pace * 3_600.0;
        (seconds < self.resets_in.as_secs_f64()).then(|| Duration::from_secs_f64(seconds))
    }

    /// How near it is to its end; to that of the others where something is held back for premium requests.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        let ratio = Standing { limit: self.limit.ordinary(), ..self.clone() }.ratio();
        match () {
            () if ratio >= Self::RED => Pressure::Red,
            () if ratio >= Self::AMBER => Pressure::Amber,
            () if ratio >= Self::EARLY && self.runs_out_in().is_some() => Pressure::Amber,
            () => Pressure::Green,
        }
    }
}

/// An amount that was reserved. Give it back with [`LimitStore::settle`], exactly once.
#[derive(Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Whose limits: counters of one tenant lie together.
    pub tenant: Arc<str>,
    /// On what it was taken.
    pub limits: Arc<[Limit]>,
    /// How much.
    pub amount: Amount,
    /// Unix milliseconds at which it was taken.
    pub unix_ms: i64,
    /// The same moment on the clock of those who count, in nanoseconds, which never runs backwards: it is settled in the day
    /// or month that counted then, whatever the clock of the day says.
    pub at_ns: u64,
}

/// Counts what is used. Check and act are one step, also between processes.
pub trait LimitStore: Send + Sync {
    /// Takes every claim whole, or nothing of any of them, in one step: nothing is counted of what is refused, not for a
    /// moment. Gives a reservation for each claim, in their order. `unix_ms` decides days and months.
    ///
    /// Errors: [`Refused::Reached`] names every limit that has no room.
    fn reserve_all(
        &self,
        claims: Vec<Claim>,
        unix_ms: i64,
    ) -> BoxFuture<'_, Result<Vec<Reservation>, Refused>>;

    /// Takes `amount` from every limit of one tenant, or from none.
    ///
    /// Errors: as of [`LimitStore::reserve_all`].
    fn reserve(
        &self,
        tenant: &Arc<str>,
        limits: &Arc<[Limit]>,
        amount: Amount,
        unix_ms: i64,
    ) -> BoxFuture<'_, Result<Reservation, Refused>> {
        let claim = Claim { tenant: tenant.clone(), limits: limits.clone(), amount };
        let taken = self.reserve_all(vec![claim], unix_ms);
        let lost = || Refused::Away("a reservation was lost".to_owned());
        Box::pin(async move { taken.await?.pop().ok_or_else(lost) })
    }

    /// Puts what was used in the place of what was reserved; places in work come back. Must not block.
    fn settle(&self, reservation: Reservation, used: Amount);

    /// Counts what was used before this process started.
    fn restore(&self, tenant: &Arc<str>, limit: &Limit, used: u64, unix_ms: i64);

    /// How limits stand, in the order in which they are asked for; nothing where they cannot be read.
    fn standing(&self, tenant: &Arc<str>, limits: &[Limit], unix_ms: i64) -> BoxFuture<'_, Vec<Standing>>;

    /// How limits stand and which amounts they would not give now, in the order in which they are asked for and in one step:
    /// nothing is taken, however much is asked. Nothing where they cannot be read.
    fn foresee(&self, tenant: &Arc<str>, asked: &[Inquiry], unix_ms: i64) -> BoxFuture<'_, Vec<Foreseen>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(metric: Metric, amount: f64, window: Window, want: Option<(u64, Window)>) {
        let got = Limit::rate("key:a", metric, amount, window).map(|l| (l.ceiling, l.window));
        assert_eq!(got, want, "{amount} {} per {window}", metric.as_str());
    }

    #[test]
    fn rates_may_be_fractions() {
        let second = Window::Sliding(1_000);
        check(Metric::Requests, 10.0, second, Some((10, second)));
        check(Metric::Requests, 0.2, second, Some((1, Window::Sliding(5_000))));
        check(Metric::Requests, 1.5, second, Some((2, Window::Sliding(1_334))));
        check(Metric::Requests, 2.9, Window::Day, Some((2, Window::Day)));
        check(Metric::Requests, 0.5, Window::Day, None);
        check(Metric::Usd, 0.5, Window::Day, Some((500_000_000, Window::Day)));
        check(Metric::Usd, 0.01, Window::Request, Some((10_000_000, Window::Request)));
        check(Metric::Tokens, 900.5, Window::Request, Some((900, Window::Request)));
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-12] {
            check(Metric::Requests, wrong, second, None);
        }
    }

    #[test]
    fn what_all_tenants_share_is_counted_under_no_tenant() {
        let own: Arc<str> = "acme".into();
        for (holder, whose, on, kind) in [
            ("key:k", "acme", "key", None),
            ("tenant:acme/model:p/*", "acme", "model", None),
            ("rule:slow:user=ada", "acme", "rule", Some("rule:slow:user")),
            ("all:rule:dear:model=p/m", ALL, "rule", None),
            ("all:rule:atlas:label:project=x", ALL, "rule", Some("all:rule:atlas:label:project")),
        ] {
            let limit = Limit::rate(holder, Metric::Usd, 1.0, Window::Day).unwrap();
            assert_eq!((&*limit.whose(&own), limit.on(), limit.kind()), (whose, on, kind), "{holder}");
            assert_eq!(limit.is_over_all(), whose == ALL, "{holder}");
        }
    }

    #[test]
    fn a_limit_that_does_not_last_is_amber_and_one_nearly_used_up_is_red() {
        let limit = Limit::rate("key:a", Metric::Usd, 10.0, Window::Day).unwrap();
        let check = |used: f64, pace: Option<f64>, hours: f64, want: (Option<u64>, Pressure)| {
            let s = Standing {
                limit: limit.clone(),
                used: (used * 1e9) as u64,
                in_work: 0,
                at_most: 0,
                resets_in: Duration::from_secs_f64(hours * 3_600.0),
                pace_per_h: pace.map(|p| p * 1e9),
            };
            assert_eq!((s.runs_out_in().map(|d| d.as_secs() / 3_600), s.pressure()), want, "{s:?}");
        };
        check(0.0, None, 0.0, (None, Pressure::Green));
        check(2.0, Some(0.4), 10.0, (None, Pressure::Green));
        check(2.0, Some(1.0), 10.0, (Some(8), Pressure::Amber));
        check(0.1, Some(9.9), 10.0, (Some(1), Pressure::Green));
        check(8.5, Some(0.0), 10.0, (None, Pressure::Amber));
        check(9.6, Some(0.1), 1.0, (None, Pressure::Red));
        check(11.0, Some(1.0), 1.0, (Some(0), Pressure::Red));
        // Where 4 of 10 are held back, those who may not touch them have 6.
        let limit = limit.reserving(0.4);
        let of = |used: u64, pace: f64| {
            let used = used * 1_000_000_000;
            let resets_in = Duration::from_secs(36_000);
            let pace_per_h = Some(pace * 1e9);
            let s = Standing { limit: limit.clone(), used, in_work: 0, at_most: 0, resets_in, pace_per_h };
            (s.left(), s.ordinary_left(), s.runs_out_in().map(|d| d.as_secs() / 3_600), s.pressure())
        };
        assert_eq!(of(4, 0.5), (6_000_000_000, 2_000_000_000, Some(4), Pressure::Amber));
        assert_eq!(of(4, 0.1), (6_000_000_000, 2_000_000_000, None, Pressure::Green));
        assert_eq!(of(7, 0.0), (3_000_000_000, 0, None, Pressure::Red));
    }

    #[test]
    fn what_is_held_back_shares_the_counter_of_the_rest() {
        let limit = Limit::rate("tenant:a", Metric::Usd, 10.0, Window::Day).unwrap();
        let held = limit.clone().reserving(0.2);
        assert_eq!(
            (held.ceiling, held.reserved, held.ordinary().ceiling),
            (10_000_000_000, 2_000_000_000, 8_000_000_000)
        );
        assert!(held.counts_with(&held.ordinary()) && held.ordinary().ordinary() == held.ordinary());
        assert_eq!(limit.ordinary(), limit);
    }

    #[test]
    fn counters_that_requests_open_are_told_from_those_of_keys_and_models() {
        let kind = |holder: &str| {
            let limit = Limit::rate(holder, Metric::Requests, 1.0, Window::Day).unwrap();
            limit.kind().map(str::to_owned)
        };
        assert_eq!(kind("rule:slow:user=ada=1").as_deref(), Some("rule:slow:user"));
        assert_eq!(kind("rule:slow:label:team=").as_deref(), Some("rule:slow:label:team"));
        for known in [
            "key:ab12",
            "label:team=red",
            "rule:slow:key=ab",
            "rule:slow:model=p/m",
            "rule:slow:tenant=user=x",
        ] {
            assert_eq!(kind(known), None, "{known}");
        }
    }

    #[test]
    fn a_limit_reads_as_people_say_it() {
        let limit = |metric, amount, window| Limit::rate("tenant:acme", metric, amount, window).unwrap();
        let usd = limit(Metric::Usd, 12.5, Window::Month);
        assert_eq!(usd.to_string(), "12.5 USD per month for tenant:acme");
        let each = limit(Metric::Usd, 0.01, Window::Request);
        assert_eq!(each.to_string(), "0.01 USD per request for tenant:acme");
        let slow = limit(Metric::Requests, 0.2, Window::Sliding(1_000));
        assert_eq!(slow.to_string(), "1 requests per 5 s for tenant:acme");
    }
}
