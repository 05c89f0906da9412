//! Trouble at a provider does not multiply what it is asked, and where there is much to do, what only improves waits.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tests::client::Client;
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Gate, Reply, Vendor};

fn ask(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "say where you are from"}]})
}

async fn metric(client: &Client, line: &str) -> f64 {
    let text = client.get("/metrics").await.text();
    let found = text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no `{line}` in\n{text}"))
}

/// A vendor that fails three of ten calls, which no breaker minds. All asks are sent one after another.
async fn sickly(requests: usize, settings: &str) -> (House, Vendor, usize) {
    let calls = AtomicUsize::new(0);
    let script = move |_: &_| match calls.fetch_add(1, Ordering::Relaxed) % 10 {
        0 | 3 | 7 => Reply::error(503),
        _ => Reply::text("here"),
    };
    let vendor = Vendor::scripted(Dialect::OpenAi, script).await;
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).rules(NO_CHANCE);
    let house = plan.settings(settings).start().await;
    let mut failed = 0;
    for _ in 0..requests {
        let answer = house.client().chat(&ask("lab/one")).await;
        match answer.status {
            200 => assert_eq!(answer.content(), "here"),
            status => {
                assert!(answer.error(status)["message"].is_string());
                failed += 1;
            }
        }
    }
    (house, vendor, failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_stay_within_their_budget() {
    let few = "retry: { budget: 0.1, budget_per_second: 0, backoff: 1ms }";
    let (house, vendor, failed) = sickly(200, few).await;
    let calls = vendor.count();
    // The budget of ten seconds: what is asked now may count for less a little later, never for more.
    assert!((201..=220).contains(&calls), "{calls} calls for 200 requests");
    assert!(failed > 0, "more was retried than the budget allows");
    let client = house.client();
    let made = metric(&client, "turnout_extra_calls_total{kind=\"retry\",result=\"made\"}").await;
    assert_eq!(made, (calls - 200) as f64);
    assert_eq!(
        metric(&client, "turnout_extra_calls_total{kind=\"retry\",result=\"refused\"}").await,
        failed as f64
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn few_failures_are_all_retried() {
    let (_house, vendor, failed) = sickly(40, "retry: { backoff: 1ms }").await;
    assert_eq!(failed, 0);
    assert!(vendor.count() > 50, "{} calls for 40 requests", vendor.count());
}

const HEDGED: &str = "\
version: 1
name: hedged
nodes:
  - { id: ask, type: generate, primary: true, hedge: { after: 20ms } }
  - { id: answer, type: stream, from: nodes.ask.completion }
edges:
  - { from: ask, to: answer }
";

/// Four fifths of the places taken for five seconds: no hedges any more, and it shows.
#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_much_to_do_nobody_is_asked_beside_a_slow_one() {
    // The first one is slow, and at first waits for the hedge; the second answers once all has been seen.
    let (hedged, seen) = (Gate::default(), Gate::default());
    let slow = Reply::text("slowly").slow(Duration::from_millis(500)).held(&hedged);
    let first = Vendor::scripted(Dialect::OpenAi, move |_| slow.clone()).await;
    let held = Reply::text("much later").held(&seen);
    let second = Vendor::scripted(Dialect::OpenAi, move |_| held.clone()).await;
    let house = Plan::new()
        .vendor("alpha", &first)
        .vendor("beta", &second)
        .model(&Model::new("alpha/one").success(0.95))
        .model(&Model::new("beta/two").success(0.3))
        .rules(NO_CHANCE)
        .settings("edge: { max_inflight: 40 }")
        .file("workflows/hedged.yaml", HEDGED)
        .start()
        .await;
    let client = house.client();
    let with_company = tokio::spawn(async move { client.chat(&ask("workflow/hedged")).await.content() });
    let company = tests::eventually(Duration::from_secs(20), || second.count() == 1).await;
    assert!(company, "a hedge while there is little to do");
    hedged.open();
    assert_eq!(with_company.await.unwrap(), "slowly");
    let mut busy = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let client = house.client();
        busy.spawn(async move { client.chat(&ask("beta/two")).await.status });
    }
    let tried = tokio::time::timeout(Duration::from_secs(40), async {
        while metric(&client, "turnout_brownout").await < 1.0 {
            let answer = client.chat(&ask("alpha/one")).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    });
    tried.await.expect("it never began");
    let before = second.count();
    assert_eq!(client.chat(&ask("workflow/hedged")).await.content(), "slowly");
    assert_eq!(second.count(), before, "a hedge in the middle of a brownout");
    let ready = client.get("/readyz").await.json();
    assert!(ready["degraded"].to_string().contains("brownout"), "{ready}");
    seen.open();
    while let Some(status) = busy.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
}

/// Batch waits for a place while four fifths are taken; others do not.
#[tokio::test(flavor = "multi_thread")]
async fn batch_gives_way_where_there_is_much_to_do() {
    let gate = Gate::default();
    let held = Reply::text("slowly").held(&gate);
    let slow = Vendor::scripted(Dialect::OpenAi, move |_| held.clone()).await;
    let quick = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("here")).await;
    let rule = "rules:\n  - { id: bulk, when: 'request.user == \"bulk\"', actions: { priority: batch } }\n";
    let house = Plan::new()
        .vendor("slow", &slow)
        .vendor("quick", &quick)
        .model(&Model::new("slow/one"))
        .model(&Model::new("quick/one"))
        .rules(&format!("{NO_CHANCE}{rule}"))
        .settings("edge: { max_inflight: 20 }")
        .start()
        .await;
    let bulk = || {
        let mut body = ask("quick/one");
        body["user"] = "bulk".into();
        body
    };
    assert_eq!(house.client().chat(&bulk()).await.status, 200, "while there is little to do");
    let mut busy = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let client = house.client();
        busy.spawn(async move { client.chat(&ask("slow/one")).await.status });
    }
    assert!(tests::eventually(Duration::from_secs(20), || slow.count() == 16).await);
    assert_eq!(house.client().chat(&ask("quick/one")).await.status, 200);
    let refused = house.client().chat(&bulk()).await;
    assert_eq!(refused.error(503)["code"], "queue_full");
    assert!(refused.header("x-turnout-decision").is_some() && refused.header("retry-after").is_some());
    gate.open();
    while let Some(status) = busy.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(house.client().chat(&bulk()).await.status, 200);
}

/// A full house lets a request wait for a place, and refuses what comes when the queue is full as well.
#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_waits_for_one_while_there_is_room_to_wait() {
    let gate = Gate::default();
    let held = Reply::text("slowly").held(&gate);
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| held.clone()).await;
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(NO_CHANCE)
        .settings("edge: { max_inflight: 1, queue: 1, queue_wait: 60s }")
        .start()
        .await;
    let client = house.client();
    let chat = || tokio::spawn(async move { client.chat(&ask("lab/one")).await.status });
    let first = chat();
    assert!(tests::eventually(Duration::from_secs(20), || vendor.count() == 1).await);
    let second = chat();
    let waits = tokio::time::timeout(Duration::from_secs(40), async {
        while metric(&client, "turnout_requests_waiting").await < 1.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waits.await.expect("nobody waited");
    let refused = client.chat(&ask("lab/one")).await;
    assert_eq!(refused.error(503)["code"], "queue_full");
    assert_eq!(refused.header("retry-after"), Some("1"));
    gate.open();
    assert_eq!((first.await.unwrap(), second.await.unwrap(), vendor.count()), (200, 200, 2));
}

/// A vendor that bears two calls at once is asked for no more for long, and nobody's answer is lost by it.
#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_complains_is_asked_less_at_once() {
    let under_way = Arc::new(AtomicUsize::new(0));
    let refusals = Arc::new(AtomicUsize::new(0));
    let (now, refused) = (under_way.clone(), refusals.clone());
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| {
        // It sees a call when it comes, and takes it for done when its answer is due.
        if now.fetch_add(1, Ordering::SeqCst) >= 2 {
            now.fetch_sub(1, Ordering::SeqCst);
            refused.fetch_add(1, Ordering::SeqCst);
            return Reply::error(429);
        }
        let done = now.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            done.fetch_sub(1, Ordering::SeqCst);
        });
        Reply::Answer(Answer::text("here").after(Duration::from_millis(350)))
    })
    .await;
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(NO_CHANCE)
        .settings(
            "retry: { max_attempts: 5, budget: 1.0, budget_per_second: 100, backoff: 180ms }\n\
             breaker: { consecutive: 1000, min_calls: 1000 }\n",
        )
        .start()
        .await;
    let storm = |n: usize| {
        let client = house.client();
        async move {
            let asks = (0..n).map(|_| tokio::spawn(async move { client.chat(&ask("lab/one")).await.status }));
            let mut all = Vec::new();
            for asked in asks.collect::<Vec<_>>() {
                all.push(asked.await.unwrap());
            }
            all
        }
    };
    // Each storm may be complained of once; between them it is forgotten that one was.
    for round in 0..12 {
        let before = refusals.load(Ordering::SeqCst);
        let answers = storm(12).await;
        let limit = metric(&house.client(), "turnout_concurrency_limit{model=\"lab/one\"}").await;
        assert!(limit < 12.0, "{limit} in round {round}");
        // One more is tried now and then.
        if refusals.load(Ordering::SeqCst) - before <= 3 {
            assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
            return;
        }
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    panic!("it is still asked for more than it bears: {}", refusals.load(Ordering::SeqCst));
}
