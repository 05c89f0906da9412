//! HTTP/2: a client that takes nothing of a stream loses that stream, and the places that it held.

use serde_json::json;
use tests::client::Client;
use tests::house::{House, Model, Plan};
use tests::http2::{Connection, DATA, END, RESET};
use tests::vendor::{Dialect, Reply, Vendor};

const CHAT: &str = "/v1/chat/completions";

async fn start(settings: &str) -> (Vendor, House) {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("taken or not")).await;
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).settings(settings);
    (vendor, plan.start().await)
}

fn ask(stream: bool) -> String {
    json!({"model": "auto", "stream": stream, "messages": [{"role": "user", "content": "hello"}]}).to_string()
}

/// The value of a series without labels, or with these.
async fn series(client: Client, name: &str) -> f64 {
    let text = client.get("/metrics").await.text();
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|v| v.trim().parse().ok()).unwrap_or(0.0)
}

/// The windows of the streams alone are shut: the connection itself takes all, and answers pings.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_a_window_is_reset_and_gives_its_place_back() {
    let (vendor, house) = start("stream: {write_stall: 1s}\n").await;
    let mut connection = Connection::open(house.addr(), 0).await;
    let streams = [1, 3, 5, 7];
    for (i, stream) in streams.into_iter().enumerate() {
        connection.post(stream, CHAT, &ask(i > 0)).await;
    }
    let mut reset = Vec::new();
    while reset.len() < streams.len() {
        let frame = connection.next().await.expect("the connection stays");
        assert!(frame.kind != DATA || frame.payload.is_empty(), "sent without a window: {frame:?}");
        if frame.kind == RESET {
            reset.push(frame.stream);
        }
    }
    reset.sort_unstable();
    assert_eq!((reset.as_slice(), vendor.count()), (streams.as_slice(), 4), "\n{}", house.log());
    let cuts = "turnout_connections_cut_total{reason=\"write_stall\"}";
    let mut standing = (1.0, 0.0);
    for _ in 0..400 {
        standing =
            (series(house.client(), "turnout_requests_in_flight").await, series(house.client(), cuts).await);
        if standing == (0.0, 4.0) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(standing, (0.0, 4.0), "places and cuts");
}

/// A client that opens the window later, a little at a time, gets all of its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_window_opens_goes_on() {
    let (_vendor, house) = start("").await;
    let mut connection = Connection::open(house.addr(), 0).await;
    connection.post(1, CHAT, &ask(true)).await;
    let mut text = Vec::new();
    loop {
        connection.widen(1, 64).await;
        let frame = connection.next().await.expect("the connection stays");
        assert_ne!(frame.kind, RESET, "{frame:?}");
        if frame.kind == DATA {
            text.extend(&frame.payload);
        }
        if frame.flags & END != 0 {
            break;
        }
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}");
}
