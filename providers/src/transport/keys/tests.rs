//! Which key a call takes, by what calls before it have said of the keys.

use super::*;
use crate::dialect::tests::model;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use types::Usage;
use types::limits::{
    Amount, Claim, Foreseen, Inquiry, Limit, LimitStore, Metric, Reached, Refused, Reservation,
    Standing as Stands,
};
use types::matrix::Price;
use types::provider::{Error, ErrorKind};

fn pool(keys: usize) -> Arc<KeyPool> {
    let slot = |i| Slot { name: format!("K{i}"), ..Slot::default() };
    Arc::new(KeyPool {
        provider: "p".to_owned(),
        slots: (0..keys).map(slot).collect(),
        turn: AtomicUsize::new(0),
        free: true,
        of_all: None,
        unused: Vec::new(),
        turns: Arc::default(),
        told: AtomicBool::new(false),
        counting: None,
    })
}

/// Counts in memory, all of it in one window that never ends.
#[derive(Default)]
struct Sums(Mutex<HashMap<(Arc<str>, Metric), u64>>);

impl Sums {
    fn used(&self, limit: &Limit) -> u64 {
        self.0.lock().unwrap().get(&(limit.holder.clone(), limit.metric)).copied().unwrap_or(0)
    }
}

impl LimitStore for Sums {
    fn reserve_all(
        &self,
        claims: Vec<Claim>,
        unix_ms: i64,
    ) -> BoxFuture<'_, Result<Vec<Reservation>, Refused>> {
        let mut taken = Vec::new();
        for Claim { tenant, limits, amount } in claims {
            let full = limits.iter().find(|l| self.used(l) + amount.of(l.metric) > l.ceiling);
            if let Some(limit) = full.cloned() {
                let left = limit.ceiling - self.used(&limit);
                let retry_after = Duration::from_secs(7);
                let reached = Reached { tenant, limit, left, free: left, retry_after };
                return ready(Err(Refused::Reached(vec![reached]))).boxed();
            }
            for l in limits.iter() {
                *self.0.lock().unwrap().entry((l.holder.clone(), l.metric)).or_default() +=
                    amount.of(l.metric);
            }
            taken.push(Reservation { tenant, limits, amount, unix_ms, at_ns: 0 });
        }
        ready(Ok(taken)).boxed()
    }

    fn settle(&self, r: Reservation, used: Amount) {
        for l in r.limits.iter() {
            let mut all = self.0.lock().unwrap();
            let n = all.entry((l.holder.clone(), l.metric)).or_default();
            *n = *n - r.amount.of(l.metric) + used.of(l.metric);
        }
    }

    fn restore(&self, _: &Arc<str>, _: &Limit, _: u64, _: i64) {}

    fn standing(&self, _: &Arc<str>, limits: &[Limit], _: i64) -> BoxFuture<'_, Vec<Stands>> {
        let of = |l: &Limit| Stands { used: self.used(l), ..Stands::untouched(l) };
        ready(limits.iter().map(of).collect()).boxed()
    }

    fn foresee(&self, _: &Arc<str>, _: &[Inquiry], _: i64) -> BoxFuture<'_, Vec<Foreseen>> {
        unreachable!("keys are only taken")
    }
}

/// Whoever counts what keys use.
pub(super) fn counter() -> Counting {
    Counting { store: Arc::new(Sums::default()), whose: "(nobody)".into() }
}

fn failed(kind: ErrorKind, status: u16, retry_after: Option<u64>) -> Error {
    Error {
        status: Some(status),
        retry_after: retry_after.map(Duration::from_secs),
        ..Error::new(kind, &model("m"), "")
    }
}

fn try_take(pool: &Arc<KeyPool>, model: &Model, tried: &mut Tried) -> Result<Taken, NoKey> {
    let now = Instant::now();
    let patience = Duration::from_secs(20);
    let wanted = Wanted { model, tokens: 10, began: now, patience, sound: false };
    pool.take(wanted, (tried, &Full::default()), now)
}

fn take(pool: &Arc<KeyPool>) -> Taken {
    try_take(pool, &model("m"), &mut Tried::default()).unwrap()
}

/// The keys that so many calls take which are answered at once.
fn picks(pool: &Arc<KeyPool>, of: &Model, n: usize) -> Vec<usize> {
    (0..n).map(|_| try_take(pool, of, &mut Tried::default()).unwrap().key).collect()
}

/// A call with that key fails.
fn fails(pool: &Arc<KeyPool>, key: usize, error: &Error) -> bool {
    let now = Instant::now();
    let slot = &pool.slots[key];
    slot.in_flight.fetch_add(1, Relaxed);
    let m = model("m");
    let left = slot.known().leaves(&m.id, now);
    let mut taken = Taken {
        pool: pool.clone(),
        key,
        model: m.id.clone(),
        left,
        patient_until: now + Duration::from_secs(20),
        heard: false,
        counted: [None, None],
        claimed: None,
    };
    taken.failed(error)
}

async fn after(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn keys_take_turns_and_rest_after_a_refusal() {
    let pool = pool(3);
    let (m, other) = (model("m"), model("other"));
    assert_eq!(picks(&pool, &m, 4), [0, 1, 2, 0]);
    assert!(fails(&pool, 1, &failed(ErrorKind::RateLimited, 429, Some(3600))));
    assert!(!picks(&pool, &m, 6).contains(&1));
    assert!(picks(&pool, &other, 6).contains(&1), "it is the model's limit");
    assert!(fails(&pool, 2, &failed(ErrorKind::Auth, 401, None)));
    assert_eq!(picks(&pool, &m, 3), [0, 0, 0]);
    assert!(!picks(&pool, &other, 6).contains(&2), "a key that is unknown is so for every model");
    assert!(fails(&pool, 0, &failed(ErrorKind::Auth, 403, None)), "another key may do");
    assert_eq!(picks(&pool, &m, 2), [1, 1], "all rest: the one whose rest passes by itself");
    assert!(picks(&pool, &other, 6).contains(&0), "a 403 is about the model");
    assert!(!fails(&pool, 1, &failed(ErrorKind::BadRequest, 400, None)), "no key mends that");
}

#[tokio::test(start_paused = true)]
async fn a_key_without_a_model_is_passed_over_for_that_model() {
    let pool = pool(2);
    let gone = Error { no_model: true, ..failed(ErrorKind::BadRequest, 404, None) };
    assert!(fails(&pool, 0, &gone));
    assert_eq!(picks(&pool, &model("m"), 3), [1, 1, 1]);
    assert!(picks(&pool, &model("other"), 4).contains(&0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_under_way_ends_no_rest() {
    let pool = pool(2);
    let (mut a, mut b) = (take(&pool), take(&pool));
    let (mut older, _) = (take(&pool), take(&pool));
    assert_eq!((a.key, b.key, older.key), (0, 1, 0));
    assert!(a.failed(&failed(ErrorKind::RateLimited, 429, Some(60))));
    older.accepted();
    b.accepted();
    drop((a, b, older));
    assert_eq!(picks(&pool, &model("m"), 3), [1, 1, 1], "the wait is kept to");
    // Nor does one of another model.
    let mut other = try_take(&pool, &model("other"), &mut Tried::default()).unwrap();
    other.accepted();
    drop(other);
    assert_eq!(picks(&pool, &model("m"), 3), [1, 1, 1]);
    after(60).await;
    let mut tries = take(&pool);
    while tries.key != 0 {
        tries = take(&pool);
    }
    assert_eq!(picks(&pool, &model("m"), 3), [1, 1, 1], "one call tries it");
    tries.accepted();
    drop(tries);
    assert!(picks(&pool, &model("m"), 2).contains(&0), "it is back");
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_calls_fail_rests_and_comes_back() {
    let pool = pool(3);
    let m = model("m");
    let away = failed(ErrorKind::Unavailable, 503, None);
    assert!(fails(&pool, 0, &away), "another key may do");
    assert!(!picks(&pool, &m, 6).contains(&0), "for a moment others come first");
    after(1).await;
    assert!(picks(&pool, &m, 6).contains(&0));
    for _ in 0..2 {
        fails(&pool, 0, &away);
    }
    after(1).await;
    assert!(fails(&pool, 0, &away), "it was tried, and fails again");
    after(1).await;
    assert!(!picks(&pool, &m, 6).contains(&0), "it rests for two seconds");
    after(1).await;
    assert!(picks(&pool, &m, 6).contains(&0));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_keeps_silent_rests_though_nobody_waited_to_the_end() {
    let pool = pool(2);
    let m = model("m");
    let (silent, hurried) = (take(&pool), take(&pool));
    after(19).await;
    drop(hurried);
    assert!(picks(&pool, &m, 4).contains(&1), "who leaves early says nothing of the key");
    after(1).await;
    drop(silent);
    assert_eq!(picks(&pool, &m, 3), [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_refused_goes_on_with_keys_that_do_not_rest_alone() {
    let pool = pool(8);
    let throttled = failed(ErrorKind::RateLimited, 429, Some(60));
    for key in 0..7 {
        fails(&pool, key, &throttled);
    }
    let mut tried = Tried::default();
    let mut last = try_take(&pool, &model("m"), &mut tried).unwrap();
    assert_eq!(last.key, 7);
    assert!(last.failed(&throttled));
    drop(last);
    assert_eq!(try_take(&pool, &model("m"), &mut tried).unwrap_err(), NoKey::Tried);
    // Where all rest, the vendor is asked once.
    let mut tried = Tried::default();
    assert!(try_take(&pool, &model("m"), &mut tried).is_ok());
    assert_eq!(try_take(&pool, &model("m"), &mut tried).unwrap_err(), NoKey::Tried);
}

fn limited(name: &str, limits: KeyLimits) -> Model {
    Model { free_tier: Some(limits), ..model(name) }
}

#[tokio::test(start_paused = true)]
async fn limits_of_keys_add_up_and_the_one_with_more_left_goes_first() {
    let pool = pool(2);
    let model = limited("m", KeyLimits { rpd: Some(10), ..KeyLimits::default() });
    let take = || try_take(&pool, &model, &mut Tried::default()).map(|t| t.key);
    let taken: Vec<usize> = std::iter::from_fn(|| take().ok()).take(100).collect();
    assert_eq!(taken.len(), 20, "twice ten");
    let first_ten = taken.iter().take(10).filter(|k| **k == 0).count();
    assert!((4..=6).contains(&first_ten), "spread from the start: {taken:?}");
    assert!(matches!(take(), Err(NoKey::UsedUp(wait)) if !wait.is_zero()));
    let left = pool.headroom(&model, Instant::now()).unwrap();
    assert!(left.ratio == 0.0 && !left.wait.is_zero() && left.why == Short::UsedUp);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_paid_for_have_the_limits_that_are_stated() {
    let mut pool = pool(2);
    let inner = Arc::get_mut(&mut pool).unwrap();
    inner.free = false;
    inner.of_all = Some(KeyLimits { rpd: Some(5), ..KeyLimits::default() });
    // What a model gives for nothing is not what is paid for.
    let m = limited("m", KeyLimits { rpd: Some(1), ..KeyLimits::default() });
    let narrow = KeyLimits { rpd: Some(2), ..KeyLimits::default() };
    let other = Model { limits: Some(narrow), ..model("other") };
    let taken = |of: &Model| std::iter::from_fn(|| try_take(&pool, of, &mut Tried::default()).ok()).count();
    assert_eq!(taken(&other), 4, "two of each key");
    assert_eq!(taken(&m), 6, "five of each key, of both models together");
    assert!(
        matches!(try_take(&pool, &m, &mut Tried::default()), Err(NoKey::UsedUp(wait)) if !wait.is_zero())
    );
    let left = pool.headroom(&m, Instant::now()).unwrap();
    assert!(left.ratio == 0.0 && !left.wait.is_zero() && left.why == Short::Limited);
}

#[test]
fn of_two_limits_the_tighter_holds() {
    let free = KeyLimits {
        rpm: Some(9),
        tpd: Some(9),
        resets: Some("00:00 UTC".to_owned()),
        ..KeyLimits::default()
    };
    let stated = KeyLimits { rpm: Some(3), rpd: Some(7), ..KeyLimits::default() };
    let want = KeyLimits { rpm: Some(3), rpd: Some(7), ..free.clone() };
    assert_eq!(both([Some(&free), Some(&stated)]).as_deref(), Some(&want));
    assert_eq!(both([None, Some(&stated)]).as_deref(), Some(&stated));
    assert_eq!(both([None, None]), None);
}

/// What a vendor says of a key with its answers.
fn head(remaining: &'static str) -> HeaderMap {
    let pairs = [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", remaining)];
    pairs
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_key_of_which_the_vendor_says_that_little_is_left_comes_last() {
    let mut pool = pool(2);
    Arc::get_mut(&mut pool).unwrap().free = false;
    let (m, other) = (model("m"), model("other"));
    assert_eq!(pool.headroom(&m, Instant::now()), None, "nobody has said anything");
    let says = |key: usize, remaining| {
        let mut taken = take(&pool);
        while taken.key != key {
            taken = take(&pool);
        }
        taken.told(&head(remaining));
        taken.accepted();
    };
    says(0, "1");
    assert_eq!(picks(&pool, &m, 20), [1; 20]);
    assert!(picks(&pool, &other, 4).contains(&0), "vendors limit models one by one");
    says(1, "50");
    let left = pool.headroom(&m, Instant::now()).unwrap();
    assert!((left.ratio - 0.255).abs() < 1e-9 && left.wait.is_zero(), "{left:?}");
    assert_eq!(pool.headroom(&other, Instant::now()), None);
    // Whether one that has nothing left is asked is for the vendor to say, and for its breaker.
    says(1, "0");
    assert_eq!(picks(&pool, &m, 3), [0; 3]);
    after(60).await;
    let all = picks(&pool, &m, 4);
    assert!(all.contains(&0) && all.contains(&1), "it is whole again");
}

#[tokio::test(start_paused = true)]
async fn only_the_model_that_was_throttled_has_no_room() {
    let limits = || KeyLimits { rpd: Some(10), ..KeyLimits::default() };
    let (m, other) = (limited("m", limits()), limited("other", limits()));
    let check = |error: Error, want: (u64, Short), of_other: u64| {
        let pool = pool(1);
        fails(&pool, 0, &error);
        let left = pool.headroom(&m, Instant::now()).unwrap();
        assert_eq!((left.wait, left.why), (Duration::from_secs(want.0), want.1), "{error:?}");
        let left = pool.headroom(&other, Instant::now()).unwrap();
        assert_eq!(left.wait, Duration::from_secs(of_other), "{error:?}");
    };
    check(failed(ErrorKind::RateLimited, 429, Some(3720)), (3720, Short::Throttled), 0);
    // Whether a model is asked whose key is none is for its breaker to say.
    check(failed(ErrorKind::Auth, 401, None), (0, Short::UsedUp), 0);
    check(failed(ErrorKind::Quota, 402, None), (0, Short::UsedUp), 0);
    check(failed(ErrorKind::Auth, 403, None), (0, Short::UsedUp), 0);
}

#[tokio::test(start_paused = true)]
async fn a_tier_of_all_models_together_counts_beside_those_of_each() {
    let mut pool = pool(2);
    Arc::get_mut(&mut pool).unwrap().of_all = Some(KeyLimits { rpd: Some(5), ..KeyLimits::default() });
    let (m, other) = (limited("m", KeyLimits { rpd: Some(3), ..KeyLimits::default() }), model("other"));
    let taken = |of: &Model| std::iter::from_fn(|| try_take(&pool, of, &mut Tried::default()).ok()).count();
    assert_eq!(taken(&m), 6, "three of each key");
    let left = |of: &Model| pool.headroom(of, Instant::now()).unwrap();
    assert!(left(&m).ratio == 0.0 && !left(&m).wait.is_zero());
    assert!(
        (left(&other).ratio - 0.4).abs() < 1e-9 && left(&other).wait.is_zero(),
        "a refused one counts on none"
    );
    assert_eq!(taken(&other), 4);
    assert!(!left(&other).wait.is_zero() && left(&other).why == Short::UsedUp);
    let now = unix_ms();
    let days = pool.days(now);
    let of_all: Vec<u32> = days.iter().filter(|(_, m, _)| &**m == OF_ALL).map(|(.., d)| d.requests).collect();
    assert_eq!(of_all, [5, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_day_that_the_vendor_says_is_used_up_is_the_models_or_else_of_all() {
    let error = Error { daily: true, ..failed(ErrorKind::RateLimited, 429, None) };
    let nothing_said = || KeyLimits { resets: Some("00:00 UTC".to_owned()), ..KeyLimits::default() };
    let (m, other) = (limited("m", nothing_said()), model("other"));
    let check = |refused: &Model, error: &Error, open: [bool; 2]| {
        let mut pool = pool(1);
        Arc::get_mut(&mut pool).unwrap().of_all = Some(nothing_said());
        assert!(try_take(&pool, refused, &mut Tried::default()).unwrap().failed(error));
        let is_open = |of: &Model| {
            let left = pool.headroom(of, Instant::now()).unwrap();
            assert_eq!(left.wait.is_zero(), left.ratio > 0.0);
            left.wait.is_zero()
        };
        assert_eq!([is_open(&m), is_open(&other)], open);
    };
    check(&m, &error, [false, true]);
    check(&other, &error, [false, false]);
    check(&m, &failed(ErrorKind::RateLimited, 429, Some(3600)), [false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_day_of_one_model_that_is_used_up_closes_no_other_model_of_a_paid_key() {
    let daily = Error { daily: true, ..failed(ErrorKind::RateLimited, 429, None) };
    let of_one = Model { limits: Some(KeyLimits { rpm: Some(9), ..KeyLimits::default() }), ..model("m") };
    let other = model("other");
    for (refused, error) in [
        (&model("m"), &daily),
        (&model("m"), &failed(ErrorKind::RateLimited, 429, Some(7200))),
        (&of_one, &daily),
    ] {
        let mut pool = pool(1);
        let inner = Arc::get_mut(&mut pool).unwrap();
        inner.free = false;
        inner.of_all = Some(KeyLimits { rpm: Some(1000), ..KeyLimits::default() });
        assert!(try_take(&pool, refused, &mut Tried::default()).unwrap().failed(error));
        assert!(try_take(&pool, &other, &mut Tried::default()).is_ok(), "{error:?}");
        let left = pool.headroom(refused, Instant::now()).unwrap();
        assert!(!left.wait.is_zero(), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_key_is_told_by_its_name() {
    let pool = pool(5);
    let told = || -> Vec<String> {
        let shown = |s: KeyState| {
            let rest = |r: Rest| format!("{} {}", r.why, r.left.as_secs());
            let whole = if let Standing::Resting(r) = s.standing { rest(r) } else { String::new() };
            let models: Vec<String> = s.models.iter().map(|(m, r)| format!("{m} {}", rest(*r))).collect();
            [s.name.clone(), s.as_str().to_owned(), whole, models.join(",")].join("|")
        };
        pool.states(Instant::now()).into_iter().map(shown).collect()
    };
    fails(&pool, 0, &failed(ErrorKind::Auth, 401, None));
    fails(&pool, 1, &failed(ErrorKind::RateLimited, 429, Some(9)));
    fails(&pool, 2, &failed(ErrorKind::Quota, 402, None));
    fails(&pool, 3, &failed(ErrorKind::Auth, 403, None));
    let other = ["K2|resting|no_credit 60|", "K3|partly||p/m forbidden 30", "K4|ready||"];
    assert_eq!(told()[..2], ["K0|resting|refused 30|", "K1|partly||p/m throttled 9"]);
    assert_eq!(told()[2..], other);
    after(31).await;
    // A rate has passed by then; nobody knows yet of the others.
    assert_eq!(told()[..2], ["K0|resting|refused 0|", "K1|ready||"]);
    assert_eq!(pool.turns.load(Relaxed), 0);
    let mut tried = Tried::default();
    drop(try_take(&pool, &model("m"), &mut tried).unwrap());
    drop(try_take(&pool, &model("m"), &mut tried).unwrap());
    assert_eq!(pool.turns.load(Relaxed), 1, "it went on");
}

/// A pool whose keys may be used for so many requests by limits of their own; 0 = as many as one likes.
fn own_limits(of_each: &[u32]) -> Arc<KeyPool> {
    let mut pool = pool(of_each.len());
    let inner = Arc::get_mut(&mut pool).unwrap();
    inner.free = false;
    inner.counting = Some(counter());
    for (slot, n) in inner.slots.iter_mut().zip(of_each).filter(|(_, n)| **n > 0) {
        let json = format!(r#"[{{"metric":"requests","amount":{n},"per":"minute"}}]"#);
        slot.own = Own::of("p", &slot.name, &serde_json::from_str::<Vec<_>>(&json).unwrap());
    }
    pool
}

/// The key that a call takes, which ends at once.
fn claim(pool: &Arc<KeyPool>) -> Result<usize, NoKey> {
    let (m, began) = (model("m"), Instant::now());
    let patience = Duration::from_secs(20);
    let wanted = Wanted { model: &m, tokens: 10, began, patience, sound: false };
    let usage = Usage { input: 10, output: 10, ..Usage::default() };
    let most = Most { usage, is_said: true, price: Some(Price::new(1.0, 1.0)), free: false, thinks: false };
    let taken = pool.claim(wanted, most, &mut Tried::default()).now_or_never().unwrap();
    taken.map(|mut taken| {
        taken.used(&usage);
        taken.ended();
        taken.accepted();
        taken.key
    })
}

#[tokio::test(start_paused = true)]
async fn limits_of_single_keys_add_up_and_a_full_one_is_passed_over() {
    let pool = own_limits(&[3, 12]);
    let m = model("m");
    let left = |pool: &Arc<KeyPool>| pool.headroom(&m, Instant::now()).unwrap();
    let taken: Vec<usize> = std::iter::from_fn(|| claim(&pool).ok()).take(100).collect();
    let of = |key: usize| taken.iter().filter(|k| **k == key).count();
    assert_eq!((of(0), of(1)), (3, 12), "{taken:?}");
    let early = taken.iter().take(5).filter(|k| **k == 0).count();
    assert!(early <= 2, "by what is left of each: {taken:?}");
    assert_eq!(claim(&pool).unwrap_err(), NoKey::UsedUp(Duration::from_secs(7)));
    let none = left(&pool);
    assert!(none.ratio == 0.0 && !none.wait.is_zero() && none.why == Short::Limited, "{none:?}");
    // The sum of what is left by the sum of what there is, and not the mean of the shares.
    let pool = own_limits(&[1, 9]);
    while pool.own_room(0, 0).is_some_and(|room| room.ratio > 0.0) {
        claim(&pool).unwrap();
    }
    let used = 9 - (pool.own_room(1, 0).unwrap().ratio * 9.0).round() as u32;
    let rest = left(&pool);
    assert!((rest.ratio - f64::from(9 - used) / 10.0).abs() < 1e-9 && rest.wait.is_zero(), "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn beside_a_full_key_one_without_limits_goes_on() {
    let pool = own_limits(&[2, 0]);
    let taken: Vec<usize> = std::iter::from_fn(|| claim(&pool).ok()).take(30).collect();
    assert_eq!(taken.len(), 30);
    // The one with more left goes first.
    assert_eq!(taken.iter().filter(|k| **k == 0).count(), 1, "{taken:?}");
    assert!(pool.headroom(&model("m"), Instant::now()).unwrap().wait.is_zero());
    // One that rests is no way out of a full one before it is asked for: it rests, and is asked where nothing else is.
    let pool = own_limits(&[1, 0]);
    fails(&pool, 1, &failed(ErrorKind::RateLimited, 429, Some(60)));
    assert_eq!((claim(&pool), claim(&pool)), (Ok(0), Ok(1)));
}
