//! A run that goes on: followed while it does, and through a restart of the server.

use crate::money::STEPS;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tests::client::{End, Events};
use tests::house::{House, Model, Plan};
use tests::vendor::{Dialect, Gate, Reply, Seen, Vendor};

async fn start(vendor: &Vendor) -> House {
    let plan = Plan::new().vendor("lab", vendor).model(&Model::new("lab/one")).rules(crate::NO_CHANCE);
    plan.settings("retry:\n  max_attempts: 1\n").file("workflows/steps.yaml", STEPS).start().await
}

/// Whether it is the second of the two calls.
fn second(seen: &Seen) -> bool {
    seen.body["temperature"] == 0.2
}

async fn submit(house: &House) -> String {
    let body = json!({"workflow": "steps", "request": {"messages": [{"role": "user", "content": "hello"}]}});
    super::runs::path_of(&house.client().post("/v1/runs", &body).await)
}

fn seq(event: &Value) -> u64 {
    event["seq"].as_u64().unwrap_or_else(|| panic!("{event}"))
}

/// The sequence numbers of what is left, to the clean end of it.
async fn rest(events: Events) -> Vec<u64> {
    let (events, end) = events.collect().await;
    assert_eq!(end, End::Done);
    events.iter().map(seq).collect()
}

/// Whoever follows a run asks how it stands again and again; what was asked of it, however large, is not read for that.
#[tokio::test(flavor = "multi_thread")]
async fn followers_of_a_run_do_not_each_hold_what_was_asked() {
    const FOLLOWERS: usize = 100;
    const MIB: usize = 1 << 20;
    let gate = Gate::default();
    let held = Reply::text("hello there").held(&gate);
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| held.clone()).await;
    let house = start(&vendor).await;
    // A picture, which no context window is too small for.
    let picture = format!("data:image/png;base64,{}", "AAAA".repeat(6 * MIB / 4));
    let picture = json!({"type": "image_url", "image_url": {"url": picture}});
    let content = json!([{"type": "text", "text": "hello"}, picture]);
    let body =
        json!({"workflow": "default", "request": {"messages": [{"role": "user", "content": content}]}});
    let run = house.client().post("/v1/runs", &body).await;
    assert_eq!(run.status, 202, "{}", run.text());
    let events = format!("{}/events", super::runs::path_of(&run));
    assert!(tests::eventually(Duration::from_secs(20), || vendor.count() == 1).await, "{}", house.log());
    let before = house.most_memory();
    let mut followers = Vec::new();
    for _ in 0..FOLLOWERS {
        followers.push(house.client().follow(&events, &[]).await);
    }
    for follower in &mut followers {
        follower.next().await.expect("it goes on");
    }
    // They look once a second.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let more = (house.most_memory() - before) / 1024;
    assert!(more < 200, "{more} MiB more for {FOLLOWERS} followers");
    gate.open();
}

/// Whoever follows a run sees it go on, may come back where they left off by the address or by the header, and misses
/// and repeats nothing; the header outranks the address.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_followed_while_it_goes_on() {
    let gate = Gate::default();
    let held = Reply::text("hello there").held(&gate);
    let vendor = Vendor::scripted(Dialect::OpenAi, move |seen| {
        if second(seen) { held.clone() } else { Reply::text("hello there") }
    })
    .await;
    let house = start(&vendor).await;
    let path = submit(&house).await;
    let events = format!("{path}/events");
    let mut live = house.client().follow(&events, &[]).await;
    assert_eq!((live.status, live.header("content-type")), (200, Some("text/event-stream; charset=utf-8")));
    let mut before = Vec::new();
    loop {
        let event = live.next().await.expect("it goes on");
        before.push(seq(&event));
        if event["kind"] == "call_intent" && event["effect"].as_str().unwrap().starts_with("two#") {
            break;
        }
    }
    assert_eq!(house.client().get(&path).await.json()["status"], "running", "it is told as it happens");
    let last = before.last().unwrap().to_string();
    let by_address = house.client().follow(&format!("{events}?after={last}"), &[]).await;
    let by_header = house.client().follow(&format!("{events}?after=0"), &[("last-event-id", &last)]).await;
    gate.open();
    let (live, by_address, by_header) = tokio::join!(rest(live), rest(by_address), rest(by_header));
    assert!(
        !live.is_empty() && live == by_address && live == by_header,
        "{live:?} {by_address:?} {by_header:?}"
    );
    let all = rest(house.client().follow(&events, &[]).await).await;
    assert_eq!([before, live].concat(), all);
    assert!(all.windows(2).all(|w| w[0] < w[1]), "{all:?}");
    house.run_in(&path, "succeeded").await;
}

/// A server that is told to stop gives back what it walks: the next one goes on at once, from where it stood.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_under_way_goes_on_at_once_after_a_stop() {
    let hung = AtomicBool::new(false);
    let vendor = Vendor::scripted(Dialect::OpenAi, move |seen| {
        let hangs = second(seen) && !hung.swap(true, Ordering::Relaxed);
        if hangs { Reply::Hang } else { Reply::text("hello there") }
    })
    .await;
    let mut house = start(&vendor).await;
    let path = submit(&house).await;
    assert!(tests::eventually(Duration::from_secs(20), || vendor.count() == 2).await, "{}", house.log());
    assert_eq!(house.stop().await, Some(0), "{}", house.log());
    house.restart().await;
    // A lease that was kept would hold for a quarter of a minute, with its one owner.
    let found = house.client().get(&path).await.json();
    let free = found["status"] == "queued" || found["owners"].as_u64() > Some(1);
    assert!(free, "nobody else walks it: {found:#}");
    let done = house.run_in(&path, "succeeded").await;
    assert_eq!(done["result"]["choices"][0]["message"]["content"], "hello there", "{done:#}");
    let asked = |which: bool| vendor.seen().iter().filter(|s| second(s) == which).count();
    assert_eq!((asked(false), asked(true)), (1, 2), "what had an answer was not asked again");
}
