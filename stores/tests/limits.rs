//! What every counter of limits promises, whoever counts.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;
use stores::limits::{Counters, Kept};
use types::limits::{Amount, Claim, Inquiry, Limit, LimitStore, Metric, Reached, Refused, Window};

/// 2026-07-01 12:00 UTC.
const NOON: i64 = 1_782_907_200_000;

fn limits(all: &[(&str, Metric, f64, Window)]) -> Arc<[Limit]> {
    all.iter().map(|(holder, m, n, w)| Limit::rate(holder, *m, *n, *w).unwrap()).collect()
}

fn usd(dollars: f64) -> Amount {
    Amount { requests: 1, tokens: 10, usd: (dollars * 1e9) as u64, concurrency: 1, ..Amount::default() }
}

const MINUTE: Window = Window::Sliding(60_000);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_once_spend_what_twenty_may() {
    let store = Arc::new(Counters::default());
    let tenant: Arc<str> = "acme".into();
    let all = limits(&[
        ("key:k", Metric::Usd, 2.0, Window::Day),
        ("tenant:acme", Metric::Usd, 50.0, Window::Month),
    ]);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (store, tenant, all) = (store.clone(), tenant.clone(), all.clone());
        tasks.spawn(async move { store.reserve(&tenant, &all, usd(0.1), NOON).await.ok() });
    }
    let granted: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(granted.len(), 20);
    // Each turns out to have cost half: ten more fit, and not one beyond.
    for r in granted {
        store.settle(r, Amount { concurrency: 0, ..usd(0.05) });
    }
    let mut more = 0;
    while store.reserve(&tenant, &all, usd(0.1), NOON).await.is_ok() {
        more += 1;
    }
    assert_eq!(more, 10);
}

/// What calls that were cut off may have used is counted and told apart from what was used, by each counter that it touched, and
/// over a restart as well.
#[tokio::test(start_paused = true)]
async fn an_upper_bound_is_told_apart_from_what_was_used() {
    let store = Counters::default();
    let tenant: Arc<str> = "acme".into();
    let all = limits(&[
        ("key:k", Metric::Usd, 100e-9, Window::Day),
        ("key:k", Metric::Tokens, 100.0, MINUTE),
        ("key:k", Metric::Requests, 9.0, Window::Day),
    ]);
    let told = async |store: &Counters, at| {
        let standing = store.standing(&tenant, &all, at).await;
        standing.iter().map(|s| (s.used, s.at_most)).collect::<Vec<_>>()
    };
    let amount = |n: u64| Amount { requests: 1, usd: n, tokens: n, ..Amount::default() };
    let (first, second) = (
        store.reserve(&tenant, &all, amount(30), NOON).await.unwrap(),
        store.reserve(&tenant, &all, amount(30), NOON).await.unwrap(),
    );
    assert_eq!(told(&store, NOON).await, [(60, 0), (60, 0), (2, 0)]);
    store.settle(first, amount(10));
    store.settle(second, Amount { usd_at_most: 15, tokens_at_most: 5, ..amount(20) });
    assert_eq!(told(&store, NOON).await, [(30, 15), (30, 5), (2, 0)]);
    let again = Counters::default();
    for kept in store.kept(NOON) {
        let text = serde_json::to_string(&kept).unwrap();
        let kept: Kept = serde_json::from_str(&text).unwrap();
        again.resume(&kept, kept.used, NOON, NOON);
    }
    assert_eq!(told(&again, NOON).await, [(30, 15), (0, 0), (2, 0)]);
    // It leaves with what it is a part of.
    tokio::time::advance(Duration::from_secs(86_400)).await;
    let tomorrow = NOON + 86_400_000;
    assert_eq!(told(&store, tomorrow).await, [(0, 0), (0, 0), (0, 0)]);
    // What an earlier version wrote says nothing of it.
    let old = r#"{"tenant":"acme","holder":"key:k","metric":"usd","window":"day","used":7,"settled":7,"period":20635}"#;
    assert_eq!(serde_json::from_str::<Kept>(old).unwrap().at_most, 0);
}

/// What is only asked about takes nothing, and is told the same as who reserves it.
#[tokio::test(start_paused = true)]
async fn what_is_foreseen_is_what_a_reservation_is_told() {
    let store = Counters::default();
    let tenant: Arc<str> = "acme".into();
    let all = limits(&[("key:k", Metric::Usd, 20e-9, Window::Day), ("key:k", Metric::Tokens, 30.0, MINUTE)]);
    let amount = |n: u64| Amount { usd: n, tokens: n, ..Amount::default() };
    let taken = store.reserve(&tenant, &all, amount(15), NOON).await.unwrap();
    let amounts = [0, 5, 6, 15, 16, 30, 31];
    let asked: Vec<Inquiry> =
        all.iter().map(|limit| Inquiry { limit: limit.clone(), amounts: amounts.to_vec() }).collect();
    let before = store.standing(&tenant, &all, NOON).await;
    let foreseen = store.foresee(&tenant, &asked, NOON).await;
    assert_eq!(foreseen.iter().map(|f| f.standing.clone()).collect::<Vec<_>>(), before);
    for (limit, foreseen) in all.iter().zip(foreseen) {
        for (n, reached) in amounts.iter().zip(foreseen.reached) {
            let alone: Arc<[Limit]> = Arc::from([limit.clone()]);
            match store.reserve(&tenant, &alone, amount(*n), NOON).await {
                Ok(taken) => {
                    assert_eq!(reached, None, "{n} of {limit}");
                    store.settle(taken, Amount::default());
                }
                Err(refused) => assert_eq!(reached.as_ref(), refused.last(), "{n} of {limit}"),
            }
        }
    }
    assert_eq!(
        store.standing(&tenant, &all, NOON).await.iter().map(|s| s.used).collect::<Vec<_>>(),
        [15, 15]
    );
    store.settle(taken, Amount::default());
}

#[tokio::test(start_paused = true)]
async fn what_was_used_beyond_a_reservation_counts_in_full_on_every_limit_that_it_touched() {
    let store = Counters::default();
    let tenant: Arc<str> = "acme".into();
    let all = limits(&[
        ("key:k", Metric::Usd, 20e-9, Window::Day),
        ("tenant:acme", Metric::Usd, 50e-9, Window::Month),
        ("tenant:acme/label:team=red", Metric::Tokens, 30.0, MINUTE),
        ("key:k/model:p/m", Metric::Usd, 100e-9, Window::Day),
    ]);
    let amount = |n: u64| Amount { usd: n, tokens: n, ..Amount::default() };
    let (small, large) = (
        store.reserve(&tenant, &all, amount(5), NOON).await.unwrap(),
        store.reserve(&tenant, &all, amount(10), NOON).await.unwrap(),
    );
    store.settle(large, amount(55));
    // What is in work beside it is neither lost nor counted twice.
    let used = async || {
        let standing = store.standing(&tenant, &all, NOON).await;
        standing.iter().map(|s| (s.used, s.left())).collect::<Vec<_>>()
    };
    assert_eq!(used().await, [(60, 0), (60, 0), (60, 0), (60, 40)]);
    store.settle(small, amount(2));
    assert_eq!(used().await, [(57, 0), (57, 0), (57, 0), (57, 43)]);
    for limit in &all[..3] {
        let one: Arc<[Limit]> = Arc::from([limit.clone()]);
        let refused = store.reserve(&tenant, &one, amount(1), NOON).await.unwrap_err();
        let Reached { left, free, .. } = *refused.last().unwrap();
        assert_eq!((left, free), (0, 0), "{limit}");
    }
    // A reservation that turns out dearer on the day after loses nothing either.
    let late = limits(&[("key:late", Metric::Usd, 100e-9, Window::Day)]);
    let held = store.reserve(&tenant, &late, amount(10), NOON).await.unwrap();
    tokio::time::advance(Duration::from_secs(86_400)).await;
    store.settle(held, amount(55));
    let that_day = store.standing(&tenant, &late, NOON).await;
    assert_eq!(that_day.first().map(|s| s.used), Some(55), "it belongs to the day on which it was set aside");
}

#[tokio::test(start_paused = true)]
async fn all_or_nothing() {
    let store = Counters::default();
    let tenant: Arc<str> = "acme".into();
    let both =
        limits(&[("key:k", Metric::Requests, 100.0, MINUTE), ("tenant:acme", Metric::Tokens, 15.0, MINUTE)]);
    store.reserve(&tenant, &both, usd(0.0), NOON).await.unwrap();
    for _ in 0..5 {
        let refused = store.reserve(&tenant, &both, usd(0.0), NOON).await.unwrap_err();
        let Reached { limit, left, retry_after, .. } = refused.last().unwrap().clone();
        assert_eq!((limit.metric, left), (Metric::Tokens, 5));
        assert_eq!(retry_after, Duration::from_secs(1), "what is in work may give some of it back");
    }
    let used: Vec<u64> = store.standing(&tenant, &both, NOON).await.iter().map(|s| s.used).collect();
    assert_eq!(used, [1, 10], "refusals count nothing");
}

/// Claims on counters of several owners: all of them or none, and every limit without room is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_are_taken_together_or_not_at_all() {
    let store = Arc::new(Counters::default());
    let (acme, other, house): (Arc<str>, Arc<str>, Arc<str>) =
        ("acme".into(), "other".into(), "(all)".into());
    let door =
        limits(&[("key:k", Metric::Requests, 100.0, MINUTE), ("key:k", Metric::Concurrency, 50.0, MINUTE)]);
    let own =
        limits(&[("key:k", Metric::Usd, 1.0, Window::Day), ("tenant:acme", Metric::Tokens, 500.0, MINUTE)]);
    let all = limits(&[("all:rule:r:model=p/m", Metric::Usd, 2.0, Window::Day)]);
    let claims = |tenant: &Arc<str>| {
        let claim = |tenant: &Arc<str>, limits: &Arc<[Limit]>| {
            let (tenant, limits) = (tenant.clone(), limits.clone());
            Claim { tenant, limits, amount: usd(0.1) }
        };
        vec![claim(tenant, &door), claim(&house, &all), claim(tenant, &own)]
    };
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..200 {
        let (store, claims) = (store.clone(), claims(if i % 2 == 0 { &acme } else { &other }));
        tasks.spawn(async move { store.reserve_all(claims, NOON).await.ok() });
    }
    let granted: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(granted.len(), 20, "ten of each tenant's own, twenty of what is counted for all");
    assert!(granted.iter().all(|r| r.len() == 3 && r[1].tenant == house));
    // Who is refused is counted on nothing, and told every limit in the way, the one that ends last first.
    let used = async |tenant: &Arc<str>, limits: &Arc<[Limit]>| {
        store.standing(tenant, limits, NOON).await.iter().map(|s| s.used).collect::<Vec<_>>()
    };
    assert_eq!(used(&acme, &door).await, [10, 10]);
    let large =
        Claim { tenant: acme.clone(), limits: own.clone(), amount: Amount { tokens: 450, ..usd(0.1) } };
    let named = |refused: Refused| match refused {
        Refused::Reached(all) => all.iter().map(|r| (r.tenant.clone(), r.limit.metric)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let together: Vec<Claim> = claims(&acme).into_iter().take(2).chain([large]).collect();
    let refused = named(store.reserve_all(together, NOON).await.unwrap_err());
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert_eq!(used(&acme, &door).await, [10, 10]);
    for reservation in granted.into_iter().flatten() {
        store.settle(reservation, Amount::default());
    }
    assert_eq!((used(&house, &all).await, used(&other, &own).await), (vec![0], vec![0, 0]));
    // One counter that two claims name gives both what they want, or neither.
    let half = Claim { tenant: acme.clone(), limits: own.clone(), amount: usd(0.6) };
    assert!(store.reserve_all(vec![half.clone(), half.clone()], NOON).await.is_err());
    assert!(store.reserve_all(vec![half], NOON).await.is_ok());
}

/// What is in work gives most of it back soon; what is used comes back with the window.
#[tokio::test(start_paused = true)]
async fn what_is_set_aside_is_waited_for_shortly_and_what_is_used_for_long() {
    let store = Counters::default();
    let tenant: Arc<str> = "acme".into();
    for (metric, window, long) in [(Metric::Usd, Window::Day, 3_600), (Metric::Tokens, MINUTE, 30)] {
        let all = limits(&[("key:k", metric, 1_000.0, window)]);
        let ceiling = all[0].ceiling;
        let amount = |share: u64| {
            let n = ceiling / 100 * share;
            match metric {
                Metric::Usd => Amount { usd: n, ..Amount::default() },
                _ => Amount { tokens: n, ..Amount::default() },
            }
        };
        let refused = async |share: u64| {
            let refused = store.reserve(&tenant, &all, amount(share), NOON).await.unwrap_err();
            let Reached { left, free, retry_after, .. } = *refused.last().unwrap();
            (left * 100 / ceiling, free * 100 / ceiling, retry_after.as_secs())
        };
        let held = store.reserve(&tenant, &all, amount(60), NOON).await.unwrap();
        let more = store.reserve(&tenant, &all, amount(40), NOON).await.unwrap();
        assert_eq!(refused(50).await, (0, 100, 1), "nothing is used yet");
        store.settle(held, Amount { concurrency: 0, ..amount(55) });
        assert_eq!(refused(40).await, (5, 45, 1), "55 are used, 40 are in work");
        let (left, free, wait) = refused(50).await;
        assert_eq!((left, free), (5, 45));
        assert!(wait > long, "50 do not fit before the window is over: {wait}");
        store.settle(more, Amount { concurrency: 0, ..amount(40) });
        let (left, free, wait) = refused(10).await;
        assert_eq!((left, free), (5, 5));
        assert!(wait > long, "nothing is in work: {wait}");
        // What was set aside on another day is no part of this one.
        if window == Window::Day {
            let old = store.reserve(&tenant, &all, amount(5), NOON).await.unwrap();
            let tomorrow = NOON + 86_400_000;
            let _new = store.reserve(&tenant, &all, amount(90), tomorrow).await.unwrap();
            store.settle(old, Amount::default());
            let refused = store.reserve(&tenant, &all, amount(20), tomorrow).await.unwrap_err();
            assert_eq!(refused.last().map(|reached| reached.free), Some(ceiling), "90 of 100 are set aside");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_rate_admits_one_each_five_seconds() {
    let store = Counters::default();
    let tenant: Arc<str> = "acme".into();
    let slow = limits(&[("key:k", Metric::Requests, 0.2, Window::Sliding(1_000))]);
    let mut admitted = Vec::new();
    for i in 0..300_u64 {
        if store.reserve(&tenant, &slow, usd(0.0), NOON).await.is_ok() {
            admitted.push(i * 100);
        }
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    assert!(admitted.windows(2).all(|w| w[1] - w[0] >= 5_000), "{admitted:?}");
    assert!(admitted.len() >= 5, "{admitted:?}");
}

#[tokio::test(start_paused = true)]
async fn places_come_back_and_days_begin_anew() {
    let store = Counters::default();
    let tenant: Arc<str> = "acme".into();
    let all =
        limits(&[("key:k", Metric::Concurrency, 2.0, MINUTE), ("key:k", Metric::Usd, 1.0, Window::Day)]);
    let a = store.reserve(&tenant, &all, usd(0.4), NOON).await.unwrap();
    let _b = store.reserve(&tenant, &all, usd(0.4), NOON).await.unwrap();
    assert!(store.reserve(&tenant, &all, usd(0.0), NOON).await.is_err(), "two at once");
    store.settle(a, Amount { concurrency: 0, ..usd(0.4) });
    assert!(store.reserve(&tenant, &all, usd(0.4), NOON).await.is_err(), "the money is spent");
    let tomorrow = NOON + 86_400_000;
    let c = store.reserve(&tenant, &all, usd(0.4), tomorrow).await.unwrap();
    store.settle(c, Amount::default());
    // A clock that steps back opens no day again.
    assert!(store.reserve(&tenant, &all, usd(1.1), NOON).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn tenants_do_not_share_and_what_was_spent_before_counts() {
    let store = Counters::default();
    let all = limits(&[("model:p/m", Metric::Usd, 1.0, Window::Month)]);
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    store.restore(&a, &all[0], 900_000_000, NOON);
    assert!(store.reserve(&a, &all, usd(0.2), NOON).await.is_err());
    assert!(store.reserve(&a, &all, usd(0.1), NOON).await.is_ok());
    assert!(store.reserve(&b, &all, usd(0.9), NOON).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn days_and_months_outlive_the_process_and_reservations_count_as_used() {
    let store = Counters::default();
    let tenant: Arc<str> = "acme".into();
    let all = limits(&[("key:k", Metric::Usd, 1.0, Window::Day), ("key:k", Metric::Requests, 9.0, MINUTE)]);
    let done = store.reserve(&tenant, &all, usd(0.5), NOON).await.unwrap();
    store.settle(done, Amount { concurrency: 0, ..usd(0.2) });
    let _open = store.reserve(&tenant, &all, usd(0.3), NOON).await.unwrap();
    let kept = store.kept(NOON);
    assert_eq!(kept.iter().map(|k| k.used).collect::<Vec<_>>(), [500_000_000]);
    let again = Counters::default();
    for k in kept {
        let limit = Limit { holder: k.holder, metric: k.metric, ceiling: 0, window: k.window, reserved: 0 };
        again.restore(&k.tenant, &limit, k.used, NOON);
    }
    assert!(again.reserve(&tenant, &all, usd(0.6), NOON).await.is_err());
    assert!(again.reserve(&tenant, &all, usd(0.5), NOON).await.is_ok());
    assert!(again.reserve(&tenant, &all, usd(1.0), NOON + 86_400_000).await.is_ok(), "the next day");
}

#[tokio::test(start_paused = true)]
async fn nobody_relies_on_more_than_what_is_written_down() {
    let store = Arc::new(Counters::default());
    let tenant: Arc<str> = "acme".into();
    let all = limits(&[("key:k", Metric::Usd, 1.0, Window::Day)]);
    store.begin_writing();
    let take = |dollars| {
        let (store, tenant, all) = (store.clone(), tenant.clone(), all.clone());
        async move { store.reserve(&tenant, &all, usd(dollars), NOON).await }
    };
    let wait = Duration::from_millis(10);
    let mut first = Box::pin(take(0.1));
    assert!(tokio::time::timeout(wait, first.as_mut()).await.is_err(), "it went on before it was written");
    store.wanted().await;
    let kept = store.kept(NOON);
    // A fiftieth of the ceiling beyond what is reserved.
    assert_eq!(kept[0].used, 120_000_000);
    assert!(tokio::time::timeout(wait, first.as_mut()).await.is_err(), "it is not on the disk yet");
    store.written(&kept);
    let first = first.await.unwrap();
    // Within the slice nobody waits, beyond it one does; who leaves meanwhile has used nothing.
    let second = take(0.02).await.unwrap();
    let mut third = Box::pin(take(0.1));
    assert!(tokio::time::timeout(wait, third.as_mut()).await.is_err());
    drop(third);
    store.settle(first, Amount { concurrency: 0, ..usd(0.1) });
    store.settle(second, Amount { concurrency: 0, ..usd(0.02) });
    let _ = store.kept(NOON);
    assert_eq!(store.kept(NOON)[0].used, 120_000_000, "at rest the disk is told what is used, and no more");
    // A disk that does not answer refuses, and takes nothing.
    assert!(matches!(take(0.5).await, Err(Refused::Away(_))));
    let standing = store.standing(&tenant, &all, NOON).await;
    assert_eq!(standing[0].used, 120_000_000);
}

/// A writing visits what has changed, however many counters there are.
#[tokio::test(start_paused = true)]
async fn only_what_has_changed_is_to_be_written() {
    let store = Counters::default();
    store.begin_writing();
    let tenant: Arc<str> = "acme".into();
    let day = |key: usize| limits(&[(&format!("key:{key}"), Metric::Usd, 1.0, Window::Day)]);
    let nano = |k: &stores::limits::Kept| (k.holder.to_string(), k.used, k.settled);
    let write = |at| {
        let kept = store.kept(at);
        store.written(&kept);
        kept.iter().map(nano).collect::<Vec<_>>()
    };
    for key in 0..5_000 {
        store.restore(&tenant, &day(key)[0], 1_000, NOON);
    }
    assert_eq!((store.kept(NOON).len(), write(NOON).len()), (5_000, 5_000), "until it is written");
    assert_eq!(write(NOON), []);
    let tokens = Amount { usd: 100, ..Amount::default() };
    let slice = 1_000_000_000 / 50;
    let settled = |n: u64| Some(1_000 + n);
    let (one, other) = (("key:7".to_owned(), 1_100), ("key:8".to_owned(), 1_100));
    // Who was there before the restart relies on what is on the disk: a reservation waits for more.
    let ask = async |key: usize| {
        let limits = day(key);
        let mut reserved = store.reserve(&tenant, &limits, tokens, NOON);
        tokio::select! {
            biased;
            reserved = &mut reserved => return (reserved.unwrap(), Vec::new()),
            () = store.wanted() => {}
        }
        let wrote = write(NOON);
        (reserved.await.unwrap(), wrote)
    };
    let (a, wrote) = ask(7).await;
    assert_eq!(wrote, [(one.0.clone(), one.1 + slice, settled(0))]);
    let (b, wrote) = ask(8).await;
    // The first is at rest but for what is in work: the disk is told so, and then no more.
    let at_rest = (one.0.clone(), one.1, settled(0));
    assert_eq!(wrote, [at_rest, (other.0.clone(), other.1 + slice, settled(0))]);
    assert_eq!(write(NOON), [(other.0.clone(), other.1, settled(0))]);
    assert_eq!(write(NOON), []);
    store.settle(a, Amount { usd: 50, ..Amount::default() });
    store.settle(b, tokens);
    let settled = [(one.0.clone(), 1_050, settled(50)), (other.0.clone(), 1_100, settled(100))];
    assert_eq!((write(NOON), write(NOON)), (settled.to_vec(), Vec::new()));
    // The next day none of it counts: each is told once, whether or not somebody looked at it meanwhile.
    let tomorrow = NOON + 86_400_000;
    store.standing(&tenant, &day(9), tomorrow).await;
    let over = write(tomorrow);
    assert!(over.len() == 5_000 && over.iter().all(|(_, used, settled)| (*used, *settled) == (0, Some(0))));
    assert_eq!((write(tomorrow), write(NOON)), (Vec::new(), Vec::new()));
}

/// What is forgotten here is taken off the disk as well.
#[tokio::test(start_paused = true)]
async fn what_is_forgotten_counts_nothing_on_the_disk_either() {
    let store = Counters::default();
    store.begin_writing();
    let tenant: Arc<str> = "acme".into();
    let user = |n: usize| limits(&[(&format!("rule:r:user={n}"), Metric::Requests, 1_000.0, Window::Day)]);
    for n in 0..10_000 {
        store.restore(&tenant, &user(n)[0], 1, NOON);
    }
    store.written(&store.kept(NOON));
    // Their kind is full, and their day over: they make room.
    let tomorrow = NOON + 86_400_000;
    let one = Amount { requests: 1, ..Amount::default() };
    let late = user(10_000);
    let mut reserved = store.reserve(&tenant, &late, one, tomorrow);
    assert!(tokio::time::timeout(Duration::from_millis(10), &mut reserved).await.is_err());
    // One of them is looked at again before the disk is told.
    store.standing(&tenant, &user(3), tomorrow).await;
    let kept = store.kept(tomorrow);
    assert_eq!(kept.len(), 10_001);
    let counts: Vec<_> = kept.iter().filter(|k| k.used > 0).map(|k| &*k.holder).collect();
    assert_eq!(counts, ["rule:r:user=10000"]);
    store.written(&kept);
    reserved.await.unwrap();
    assert_eq!(store.kept(tomorrow).len(), 1, "what was written ran ahead of it");
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_late_takes_back_nothing_of_others() {
    let store = Counters::default();
    let tenant: Arc<str> = "acme".into();
    let all = limits(&[("key:k", Metric::Tokens, 100.0, MINUTE)]);
    let tokens = |n| Amount { tokens: n, ..Amount::default() };
    let early = store.reserve(&tenant, &all, tokens(100), NOON).await.unwrap();
    tokio::time::advance(Duration::from_secs(62)).await;
    store.reserve(&tenant, &all, tokens(100), NOON).await.unwrap();
    store.settle(early, tokens(0));
    assert!(store.reserve(&tenant, &all, tokens(1), NOON).await.is_err());
}

const DAY: i64 = 86_400_000;
/// 2026-07-02 00:00 UTC.
const MIDNIGHT: i64 = NOON + DAY / 2;

fn only_usd(dollars: f64) -> Amount {
    Amount { usd: (dollars * 1e9) as u64, ..Amount::default() }
}

/// What is used of the first limit, what of it is free but for what is set aside, both in cents, and how long who wants all
/// of it and more has to wait.
#[expect(clippy::indexing_slicing, reason = "a test fails by panicking")]
async fn stands(store: &Counters, all: &Arc<[Limit]>, at: i64) -> (u64, u64, Duration) {
    let tenant: Arc<str> = "acme".into();
    let used = store.standing(&tenant, all, at).await[0].used;
    let refused = store.reserve(&tenant, all, only_usd(1_000.0), at).await.unwrap_err();
    let Reached { free, retry_after, .. } = *refused.last().unwrap();
    (used / 10_000_000, free / 10_000_000, retry_after)
}

/// What is counted in a new day comes back to it, however old the stamp is that it came with.
#[tokio::test(start_paused = true)]
async fn what_is_taken_while_the_clock_steps_back_over_midnight_comes_back() {
    for window in [Window::Day, Window::Month] {
        let store = Counters::default();
        let tenant: Arc<str> = "acme".into();
        let all = limits(&[("key:k", Metric::Usd, 1.0, window)]);
        let midnight = if window == Window::Day { MIDNIGHT } else { MIDNIGHT + 30 * DAY };
        let old = store.reserve(&tenant, &all, only_usd(0.5), midnight - 2).await.unwrap();
        let first = store.reserve(&tenant, &all, only_usd(0.2), midnight).await.unwrap();
        let late = store.reserve(&tenant, &all, only_usd(0.7), midnight - 1).await.unwrap();
        let (used, free, wait) = stands(&store, &all, midnight - 1).await;
        assert_eq!((used, free), (90, 100));
        // A clock that was set back opens the day a second time at no midnight, and says so.
        let next = if window == Window::Day { DAY } else { 31 * DAY };
        assert_eq!(wait, Duration::from_millis(u64::try_from(next + 1).unwrap()));
        store.settle(late, Amount::default());
        assert_eq!(
            (stands(&store, &all, midnight - 1).await.0, stands(&store, &all, midnight).await.1),
            (20, 100)
        );
        store.settle(first, only_usd(0.1));
        store.settle(old, Amount::default());
        let (used, free, _) = stands(&store, &all, midnight - 1).await;
        assert_eq!((used, free), (10, 90), "what was taken the day before is no part of it");
    }
}

/// A clock that was days ahead, and is set right, leaves no counter behind that begins anew only then.
#[tokio::test(start_paused = true)]
async fn a_clock_that_was_ahead_freezes_no_day_and_no_month() {
    for (window, ahead, next) in [
        (Window::Day, NOON + 10 * DAY, NOON + DAY),
        (Window::Month, NOON + 33 * DAY, NOON + 31 * DAY),
        (Window::Month, NOON + 400 * DAY, NOON + 31 * DAY),
    ] {
        let store = Counters::default();
        let tenant: Arc<str> = "acme".into();
        let all = limits(&[("key:k", Metric::Usd, 1.0, window)]);
        let spent = store.reserve(&tenant, &all, only_usd(0.3), NOON).await.unwrap();
        store.settle(spent, only_usd(0.3));
        let before = store.reserve(&tenant, &all, only_usd(0.2), NOON).await.unwrap();
        let meanwhile = store.reserve(&tenant, &all, only_usd(0.4), ahead).await.unwrap();
        // Set right: all of it was used of the present day.
        let (used, free, _) = stands(&store, &all, NOON).await;
        assert_eq!((used, free), (90, 70), "{window}");
        store.settle(meanwhile, only_usd(0.1));
        assert_eq!(stands(&store, &all, NOON).await.0, 60, "{window}");
        store.settle(before, only_usd(0.1));
        let (used, free, wait) = stands(&store, &all, NOON).await;
        assert_eq!((used, free), (50, 50), "{window}");
        assert!(NOON + i64::try_from(wait.as_millis()).unwrap() <= next, "{window}: {wait:?}");
        let open = store.reserve(&tenant, &all, only_usd(0.1), NOON).await.unwrap();
        assert_eq!(stands(&store, &all, next).await.0, 0, "{window}: the next one begins with nothing used");
        store.settle(open, Amount::default());
        assert_eq!(stands(&store, &all, next).await.1, 100, "{window}");
    }
}

/// A clock that is set back by days and returns opens neither day nor month a second time.
/// The moment at which a row was written says nothing of the clock of the process that reads it.
#[tokio::test(start_paused = true)]
async fn what_was_restored_from_yesterday_opens_nothing_twice_when_the_clock_goes_back() {
    let (store, tenant): (Counters, Arc<str>) = (Counters::default(), "acme".into());
    let all = limits(&[("key:k", Metric::Usd, 1.0, Window::Day)]);
    store.restore(&tenant, &all[0], 500_000_000, NOON - DAY);
    let spent = store.reserve(&tenant, &all, only_usd(0.9), NOON).await.unwrap();
    store.settle(spent, only_usd(0.9));
    stands(&store, &all, NOON - 3 * DAY).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    let (used, ..) = stands(&store, &all, NOON + 60_000).await;
    assert!(used >= 90, "{used}");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_behind_opens_nothing_anew_when_it_returns() {
    for (window, yesterday, behind, next) in [
        (Window::Day, false, 3, 1),
        (Window::Day, true, 3, 1),
        (Window::Month, false, 40, 31),
        (Window::Month, true, 2, 31),
    ] {
        let store = Counters::default();
        let tenant: Arc<str> = "acme".into();
        let all = limits(&[("key:k", Metric::Usd, 1.0, window)]);
        let spend = async |dollars: f64, at: i64| {
            let spent = store.reserve(&tenant, &all, only_usd(dollars), at).await.unwrap();
            store.settle(spent, only_usd(dollars));
        };
        let days = |n: i64| Duration::from_secs(86_400 * n.unsigned_abs());
        if yesterday {
            spend(0.1, NOON - DAY).await;
            tokio::time::advance(days(1)).await;
        }
        spend(0.3, NOON).await;
        let open = store.reserve(&tenant, &all, only_usd(0.2), NOON).await.unwrap();
        spend(0.1, NOON - behind * DAY).await;
        tokio::time::advance(Duration::from_secs(60)).await;
        let meanwhile = stands(&store, &all, NOON - behind * DAY + 60_000).await.0;
        assert!(meanwhile >= 60, "{window}: {meanwhile}");
        // It is right again: what was used before and meanwhile counts.
        let (used, ..) = stands(&store, &all, NOON + 120_000).await;
        assert!((60..=70).contains(&used), "{window}: {used}");
        store.settle(open, Amount::default());
        let (used, free, _) = stands(&store, &all, NOON + 120_000).await;
        assert!((40..=50).contains(&used) && free == 100 - used, "{window}: {used}, {free}");
        // The next one begins when it comes.
        tokio::time::advance(days(next)).await;
        assert_eq!(stands(&store, &all, NOON + next * DAY + 120_000).await.0, 0, "{window}");
    }
}

/// What a process wrote down under a clock that was ahead freezes nothing in the next one.
#[tokio::test(start_paused = true)]
async fn what_was_written_under_a_clock_that_was_ahead_counts_for_today() {
    let store = Counters::default();
    let tenant: Arc<str> = "acme".into();
    let all = limits(&[("key:k", Metric::Usd, 1.0, Window::Day)]);
    store.restore(&tenant, &all[0], 400_000_000, NOON + 10 * DAY);
    assert_eq!(stands(&store, &all, NOON).await.0, 40);
    assert_eq!(stands(&store, &all, NOON + DAY).await.0, 0);
}

/// What a long stream had set aside has left a sliding window: only time brings back what is used in it.
#[tokio::test(start_paused = true)]
async fn what_has_left_a_sliding_window_is_not_waited_for() {
    let store = Counters::default();
    let tenant: Arc<str> = "acme".into();
    let all = limits(&[("key:k", Metric::Tokens, 10_000.0, MINUTE)]);
    let tokens = |n| Amount { tokens: n, ..Amount::default() };
    let stream = store.reserve(&tenant, &all, tokens(8_000), NOON).await.unwrap();
    tokio::time::advance(Duration::from_secs(120)).await;
    let used = store.reserve(&tenant, &all, tokens(9_500), NOON).await.unwrap();
    store.settle(used, tokens(9_500));
    tokio::time::advance(Duration::from_secs(20)).await;
    let told = async || {
        let refused = store.reserve(&tenant, &all, tokens(1_000), NOON).await.unwrap_err();
        refused.last().map(|reached| (reached.free, reached.retry_after.as_secs())).unwrap()
    };
    let (free, wait) = told().await;
    assert!(free == 500 && (38..=45).contains(&wait), "{free}, {wait} s");
    store.settle(stream, tokens(8_000));
    assert_eq!(told().await.0, 500);
}

/// Money of a day that slides outlives the process, and comes back when it would have come back without.
#[tokio::test(start_paused = true)]
async fn money_of_a_long_sliding_window_outlives_the_process() {
    let tenant: Arc<str> = "acme".into();
    let hour = Window::Sliding(3_600_000);
    let all = limits(&[
        ("key:k", Metric::Usd, 1.0, Window::Sliding(86_400_000)),
        ("key:k", Metric::Tokens, 100.0, hour),
        ("key:k", Metric::Usd, 1.0, MINUTE),
        ("key:k", Metric::Requests, 9.0, hour),
    ]);
    let store = Counters::default();
    let used = Amount { usd: 600_000_000, tokens: 60, requests: 1, ..Amount::default() };
    let half = Amount { usd: used.usd / 2, tokens: used.tokens / 2, ..used };
    for (tokens, hours) in [(half.tokens, 9), (used.tokens, 0)] {
        let done = store.reserve(&tenant, &all, half, NOON - hours * 3_600_000).await.unwrap();
        store.settle(done, Amount { tokens, ..half });
        tokio::time::advance(Duration::from_secs(hours.unsigned_abs() * 3_600)).await;
    }
    let mut kept = store.kept(NOON);
    kept.sort_by_key(|k| std::cmp::Reverse(k.used));
    assert_eq!(
        kept.iter().map(|k| (k.metric, k.used)).collect::<Vec<_>>(),
        [(Metric::Usd, 600_000_000), (Metric::Tokens, 60)]
    );
    store.written(&kept);
    assert_eq!(store.kept(NOON), []);

    // Ten hours later.
    let (again, later) = (Counters::default(), NOON + 10 * 3_600_000);
    for k in &kept {
        again.resume(k, k.used, NOON, later);
    }
    let used = async |store: &Counters, at| {
        store.standing(&tenant, &all, at).await.iter().map(|s| s.used).collect::<Vec<_>>()
    };
    assert_eq!(used(&again, later).await, [600_000_000, 0, 0, 0], "the hour is over, the day is not");
    let refused = again.reserve(&tenant, &all, only_usd(0.5), later).await.unwrap_err();
    let Reached { retry_after, .. } = *refused.last().unwrap();
    // Half of it was used nineteen hours ago: that is free in five.
    assert!((18_000..=21_000).contains(&retry_after.as_secs()), "{retry_after:?}");
    tokio::time::advance(Duration::from_secs(6 * 3_600)).await;
    assert_eq!(used(&again, later + 6 * 3_600_000).await[0], 300_000_000);
    tokio::time::advance(Duration::from_secs(9 * 3_600)).await;
    let next = later + 15 * 3_600_000;
    assert_eq!(used(&again, next).await, [0; 4]);
    // The disk is told that nothing of it counts any more.
    let told = again.kept(next);
    assert!(told.iter().any(|k| k.metric == Metric::Usd) && told.iter().all(|k| k.used == 0), "{told:?}");
}
