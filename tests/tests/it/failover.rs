//! Before the first byte a failing candidate is invisible; after it a failure is told, never hidden.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::Duration;
use tests::client::{End, text_of};
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Fault, Reply, Vendor};

/// Two vendors; the first is believed to be so much better that every choice falls on it.
struct Pair {
    first: Vendor,
    second: Vendor,
    house: House,
}

async fn pair() -> Pair {
    pair_with(Dialect::OpenAi, "").await
}

async fn pair_with(dialect: Dialect, settings: &str) -> Pair {
    pair_where(dialect, settings, |plan| plan).await
}

/// The first keeps silent.
async fn silent_pair(dialect: Dialect) -> Pair {
    pair_where(dialect, "", Plan::silent).await
}

/// `waits` says how long the first is waited for.
async fn pair_where(dialect: Dialect, settings: &str, waits: impl Fn(Plan) -> Plan) -> Pair {
    let first = Vendor::scripted(dialect, |_| Reply::text("from the first")).await;
    let second = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("from the second")).await;
    let house = waits(Plan::new().vendor("alpha", &first))
        .vendor("beta", &second)
        .model(&Model::new("alpha/one").success(0.95))
        .model(&Model::new("beta/two").success(0.3))
        .rules(NO_CHANCE)
        .settings(settings)
        .start()
        .await;
    Pair { first, second, house }
}

fn ask() -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": "say where you are from"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn without_failures_the_better_one_answers() {
    let p = pair().await;
    let answer = p.house.client().chat(&ask()).await;
    assert_eq!((answer.status, answer.content().as_str()), (200, "from the first"), "{}", answer.text());
    assert_eq!((p.first.count(), p.second.count()), (1, 0));
}

/// Every failure before the first token, whole and streamed: the client sees only the second's answer.
async fn invisible(name: &str, failure: Reply) {
    invisible_in(pair().await, name, failure).await;
}

async fn invisible_in(p: Pair, name: &str, failure: Reply) {
    p.first.otherwise(move |_| failure.clone());
    let answer = p.house.client().chat(&ask()).await;
    assert_eq!(
        (answer.status, answer.content().as_str()),
        (200, "from the second"),
        "{name}: {}",
        answer.text()
    );
    assert_eq!(answer.json()["model"], "beta/two", "{name}");
    let (events, end) = p.house.client().stream(&ask()).await.collect().await;
    assert_eq!((text_of(&events).as_str(), end), ("from the second", End::Done), "{name}");
    assert!(p.first.count() >= 1, "{name}: the first was never asked");
    let record = p.house.decision(&answer.request_id()).await;
    assert!(record.to_string().contains("alpha/one"), "{name}: the record does not tell of the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_vendor_are_invisible() {
    for status in [408, 409, 429, 500, 502, 503, 529] {
        invisible(&status.to_string(), Reply::error(status)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_our_key_or_request_are_invisible() {
    for status in [400, 401, 402, 403, 404, 422] {
        invisible(&status.to_string(), Reply::error(status)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_nonsense_are_invisible() {
    invisible("close", Reply::Close).await;
    invisible_in(silent_pair(Dialect::OpenAi).await, "hang", Reply::Hang).await;
    let page = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>oh</html>";
    invisible("a web page", Reply::Raw(page.to_vec())).await;
    invisible("no HTTP at all", Reply::Raw(b"220 smtp ready\r\n".to_vec())).await;
    for fault in [Fault::Cut, Fault::Malformed, Fault::ErrorEvent] {
        invisible(&format!("{fault:?} at once"), Reply::Answer(Answer::text("x").fault(0, fault))).await;
    }
}

/// A vendor that takes a request for a whole answer and never says anything must not hold it until its deadline: as
/// long as somebody else could be asked it gets a share of the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_never_answers_leaves_time_for_another() {
    for (settings, status) in [
        ("request: { default_deadline: 4s }\n", 200),
        ("request: { default_deadline: 4s }\nretry: { time_share: 1 }\n", 504),
    ] {
        let p = pair_with(Dialect::OpenAi, settings).await;
        p.first.otherwise(|_| Reply::Hang);
        let answer = p.house.client().chat(&ask()).await;
        assert_eq!(answer.status, status, "{settings}: {}", answer.text());
        if status == 200 {
            assert_eq!(answer.content(), "from the second");
            let record = p.house.decision(&answer.request_id()).await;
            let calls = &record["run"]["steps"][0]["calls"];
            assert_eq!(calls[0]["error"]["kind"], "total_timeout", "{calls}");
        }
    }
}

/// Half a body and then silence, or events without a word in them.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_stalls_half_way_is_invisible() {
    let stalls = Reply::Answer(Answer::text("x").fault(0, Fault::Hang));
    invisible_in(silent_pair(Dialect::OpenAi).await, "stalls", stalls).await;
}

/// The role alone is no answer: a stream that breaks after it has not begun.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_after_its_opening_events_is_invisible() {
    for (dialect, opening) in [(Dialect::OpenAi, 1), (Dialect::Anthropic, 3)] {
        for fault in [Fault::Cut, Fault::EndEarly, Fault::Malformed, Fault::ErrorEvent, Fault::Hang] {
            let p = match fault {
                Fault::Hang => silent_pair(dialect).await,
                _ => pair_with(dialect, "").await,
            };
            p.first.otherwise(move |_| Reply::Answer(Answer::text("from the first").fault(opening, fault)));
            let (events, end) = p.house.client().stream(&ask()).await.collect().await;
            let got = (text_of(&events), end);
            assert_eq!(got, ("from the second".to_owned(), End::Done), "{dialect:?} {fault:?}");
        }
    }
}

/// Who cannot be connected to takes nobody's place among those that are asked, however many they are.
#[tokio::test(flavor = "multi_thread")]
async fn dead_ports_use_up_no_candidates() {
    let failing = Vendor::scripted(Dialect::OpenAi, |_| Reply::error(500)).await;
    let alive = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("from the last")).await;
    let mut plan = Plan::new().rules(NO_CHANCE).settings("retry: { max_candidates: 2 }\n");
    for (n, name) in ["one", "two", "three", "four"].into_iter().enumerate() {
        let dead = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/v1", dead.local_addr().unwrap());
        let success = 0.95 - 0.01 * n as f64;
        plan = plan
            .provider(name, "openai_chat", &address)
            .model(&Model::new(&format!("{name}/dead")).success(success));
    }
    let house = plan
        .vendor("failing", &failing)
        .vendor("alive", &alive)
        .model(&Model::new("failing/one").success(0.8))
        .model(&Model::new("alive/one").success(0.3))
        .start()
        .await;
    let answer = house.client().chat(&ask()).await;
    assert_eq!((answer.status, answer.content().as_str()), (200, "from the last"), "{}", answer.text());
    assert_eq!(failing.count(), 1);
    // Of those that are reached no more are asked than may be.
    alive.otherwise(|_| Reply::error(500));
    let before = (failing.count(), alive.count());
    assert_eq!(house.client().chat(&ask()).await.status, 503);
    assert!(failing.count() > before.0 && alive.count() > before.1, "both were asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_port_is_invisible() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1", dead.local_addr().unwrap());
    drop(dead);
    let alive = Vendor::start(Dialect::OpenAi).await;
    let house = Plan::new()
        .provider("alpha", "openai_chat", &address)
        .vendor("beta", &alive)
        .model(&Model::new("alpha/one").success(0.95))
        .model(&Model::new("beta/two").success(0.3))
        .rules(NO_CHANCE)
        .start()
        .await;
    for _ in 0..8 {
        let answer = house.client().chat(&ask()).await;
        assert_eq!((answer.status, answer.content().as_str()), (200, "ok"), "{}", answer.text());
    }
    assert_eq!(alive.count(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_after_the_first_token_is_told() {
    for dialect in Dialect::ALL {
        for fault in [Fault::Cut, Fault::EndEarly, Fault::Malformed, Fault::Hang, Fault::ErrorEvent] {
            // Only what follows its first words is waited for but briefly.
            let waits = |plan: Plan| plan.timeouts("first_token: 20s, inter_token: 1s, total: 60s");
            let p = pair_where(dialect, "", waits).await;
            let broken = Answer::text("one two three four five six seven").fault(6, fault);
            p.first.otherwise(move |_| Reply::Answer(broken.clone()));
            let stream = p.house.client().stream(&ask()).await;
            assert_eq!(stream.status, 200);
            let id = stream.header("x-request-id").unwrap().to_owned();
            let (events, end) = stream.collect().await;
            let case = format!("{dialect:?} {fault:?}: {events:?}");
            assert!(text_of(&events).starts_with("one"), "{case}");
            assert_eq!(end, End::NoDone, "{case}");
            let last = events.last().unwrap();
            assert!(last["error"]["message"].is_string(), "no error event: {case}");
            assert_eq!(p.second.count(), 0, "another model went on in the middle: {case}");
            let record = p.house.decision(&id).await;
            assert_eq!(record["outcome"]["status"], "failed", "recorded as success: {case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn total_failure_is_never_a_success_and_lists_the_attempts() {
    for (first, second) in [(500, 503), (429, 500), (400, 400), (401, 401), (529, 429)] {
        for stream in [false, true] {
            // A house for each: breakers and waits of one case are none of the next one's business.
            let p = pair().await;
            p.first.otherwise(move |_| Reply::error(first));
            p.second.otherwise(move |_| Reply::error(second));
            let mut body = ask();
            body["stream"] = json!(stream);
            let answer = p.house.client().chat(&body).await;
            assert!(answer.status >= 400, "{first} {second}: {}", answer.text());
            let error = answer.error(answer.status);
            let attempts = error["metadata"]["attempts"].as_array().cloned().unwrap_or_default();
            let models: Vec<&str> = attempts.iter().filter_map(|a| a["model"].as_str()).collect();
            assert!(models.contains(&"beta/two"), "{first} {second}: {error}");
            assert!(["true", "false"].contains(&answer.header("x-should-retry").unwrap_or("-")), "{error}");
            let told = answer.text().contains("the vendor says");
            assert_eq!(told, answer.status == 400, "its reason, only where the request is at fault: {error}");
        }
    }
}

/// Only whoever asked can put a refused request right, and needs the vendor's reason for it; a vendor's other words
/// are the operator's.
#[tokio::test(flavor = "multi_thread")]
async fn the_vendors_reason_is_told_where_the_request_is_at_fault() {
    let p = pair().await;
    let said = |status, text: &str| {
        let message = text.to_owned();
        move |_: &_| Reply::Error { status, headers: Vec::new(), message: message.clone() }
    };
    let named = json!({"model": "alpha/one", "messages": ask()["messages"]});
    p.first.otherwise(said(400, "`temperature` must be 1 for this model, key sk-live-0123456789abcdef"));
    let error = p.house.client().chat(&named).await.error(400);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`temperature` must be 1 for this model"), "{message}");
    assert!(!message.contains("sk-live"), "{message}");
    p.first.otherwise(said(500, "host db-7 of rack 12 is down"));
    let error = p.house.client().chat(&named).await.error(503);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("alpha/one") && message.contains("not available"), "{message}");
    assert!(!message.contains("rack"), "{message}");
}

/// A model that is kept out says for how long: the vendor's own time where it named one.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_model_that_is_kept_out_is_told_how_long() {
    let p = pair().await;
    let wait = vec![("retry-after".to_owned(), "3600".to_owned())];
    p.first.otherwise(move |_| Reply::Error { status: 429, headers: wait.clone(), message: "slowly".into() });
    let named = json!({"model": "alpha/one", "messages": ask()["messages"]});
    assert_eq!(p.house.client().chat(&named).await.status, 429);
    let calls = p.first.count();
    let out = p.house.client().chat(&named).await;
    let error = out.error(503);
    assert!(error["message"].as_str().unwrap().contains("kept out"), "{error}");
    let wait: u64 = out.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3_600).contains(&wait), "{wait}");
    assert_eq!(p.first.count(), calls, "nobody asks it meanwhile");
}

/// So is who asks for a workflow in which that model is fixed.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_workflow_whose_model_is_kept_out_is_told_how_long() {
    let throttled = Vendor::scripted(Dialect::OpenAi, |_| Reply::error_with(429, "retry-after", "60")).await;
    let other = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("from the other")).await;
    let fixed = "version: 1\nname: fixed\nnodes: [{ id: ask, type: generate, model: alpha/one }]\noutput: nodes.ask.completion\n";
    let house = Plan::new()
        .vendor("alpha", &throttled)
        .vendor("beta", &other)
        .model(&Model::new("alpha/one"))
        .model(&Model::new("beta/two"))
        .rules(NO_CHANCE)
        .file("workflows/fixed.yaml", fixed)
        .start()
        .await;
    let named = |model: &str| json!({"model": model, "messages": ask()["messages"]});
    assert_eq!(house.client().chat(&named("workflow/fixed")).await.status, 429);
    let directly = house.client().chat(&named("alpha/one")).await;
    let within = house.client().chat(&named("workflow/fixed")).await;
    for answer in [directly, within] {
        let error = answer.error(503);
        assert_eq!(error["code"], "no_candidates", "{error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("1 by breaker (kept out after failures; asked again in "), "{message}");
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((30..=60).contains(&wait), "{wait}");
        assert_eq!(answer.header("x-should-retry"), Some("true"), "{message}");
    }
    assert_eq!((throttled.count(), other.count()), (1, 0), "nobody asks it meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_reaches_the_client_when_nobody_is_left() {
    let p = pair().await;
    for vendor in [&p.first, &p.second] {
        vendor.otherwise(|_| Reply::error_with(429, "retry-after", "3"));
    }
    let answer = p.house.client().chat(&ask()).await;
    let _ = answer.error(429);
    let wait: f64 = answer.header("retry-after").expect("retry-after").parse().unwrap();
    assert!((0.0..=3.0).contains(&wait), "{wait}");
}

/// Told to wait an hour, the vendor is not asked again by the requests that follow.
#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honoured() {
    let p = pair().await;
    p.first.otherwise(|_| Reply::error_with(429, "retry-after", "3600"));
    for _ in 0..6 {
        let answer = p.house.client().chat(&ask()).await;
        assert_eq!(answer.content(), "from the second", "{}", answer.text());
    }
    assert_eq!(p.first.count(), 1, "asked again within the hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_keeps_a_dead_one_out_and_lets_one_probe_in() {
    // Meanwhile the other has earned trust: only once the doubt no longer counts is the first one the best again.
    let p = pair_with(Dialect::OpenAi, "breaker: { open_max: 3s }").await;
    p.first.otherwise(|_| Reply::error(500));
    let client = p.house.client();
    for _ in 0..30 {
        assert_eq!(client.chat(&ask()).await.content(), "from the second");
    }
    let while_dead = p.first.count();
    assert!(while_dead < 30, "it was asked for every request: {while_dead}");
    // It lives again, but slowly: while the one probe is out, nobody else is sent there.
    p.first.otherwise(|_| Reply::Answer(Answer::text("from the first").after(Duration::from_millis(300))));
    let back = tokio::time::timeout(Duration::from_secs(30), async {
        while client.chat(&ask()).await.content() != "from the first" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    back.await.expect("it never came back");
    assert!(p.first.count() <= while_dead + 3, "more than a probe: {} after {while_dead}", p.first.count());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_the_request_holds() {
    let p = pair().await;
    p.first.otherwise(|_| Reply::Hang);
    p.second.otherwise(|_| Reply::Hang);
    let mut body = ask();
    // More than they are expected to take, so that they are asked at all.
    body["routing"] = json!({"max_latency_ms": 900});
    let answer = p.house.client().chat(&body).await;
    let error = answer.error(answer.status);
    assert!((500..600).contains(&answer.status), "{error}");
    assert!(p.first.count() + p.second.count() > 0, "{error}");
}

/// Of a vendor that drips for twenty seconds no more is waited for; it is told to stop, and the client is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_drips_is_cut() {
    let drip = Answer::text(&"drop ".repeat(60)).gap(Duration::from_millis(1_700));
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| Reply::Answer(drip.clone())).await;
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one"));
    let house = plan.timeouts("first_token: 5s, inter_token: 5s, total: 60s").start().await;
    let (events, end) = house.client().stream(&ask()).await.collect().await;
    assert_eq!(end, End::NoDone, "{events:?}");
    let drops = text_of(&events).matches("drop").count();
    assert!((8..30).contains(&drops), "{drops} pieces came through");
    let error = events.iter().find_map(|e| e.get("error")).expect("an error event");
    assert_eq!(error["code"], "inter_token_timeout", "{error}");
    assert!(vendor.seen()[0].wait_left().await, "the vendor goes on");
}
