//! Answers on their way: what cannot pass is stopped at its vendor, nothing wrong is let out, and a failure
//! that comes too late to be hidden is told.

use serde_json::{Value, json};
use std::time::Duration;
use tests::client::{End, text_of};
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Fault, Gate, Reply, Vendor};

const GOOD: &str = r#"{"name": "Ada", "age": 36}"#;

/// A workflow of one model, the checks given, and a sink of that kind.
fn workflow(validators: &str, stream: &str) -> String {
    format!(
        "version: 1\nname: own\nlimits: {{ calls: 5 }}\nnodes:\n  - {{ id: ask, type: generate, primary: true }}\n  - {{ id: check, type: validate, \
         validators: [{validators}] }}\n  - {{ id: fix, type: repair, from: check, strategies: [reprompt], max_attempts: 1 }}\n  - {{ id: pick, type: \
         select, from: [nodes.check.usable, nodes.fix.completion], method: first }}\n  - {{ id: answer, type: \
         stream, from: nodes.pick.completion, {stream} }}\n  - {{ id: no, type: fail, code: none_passed, message: \
         none }}\nedges:\n  - {{ from: ask, to: check }}\n  - {{ from: check, to: pick, outcome: [passed, \
         unverified] }}\n  - {{ from: check, to: fix, outcome: failed }}\n  - {{ from: fix, to: pick }}\n  - {{ \
         from: pick, to: answer, outcome: selected }}\n  - {{ from: pick, to: no, outcome: none }}\n"
    )
}

async fn start(vendor: &Vendor, own: Option<&str>) -> House {
    let plan = Plan::new().vendor("lab", vendor).model(&Model::new("lab/one")).rules(crate::NO_CHANCE);
    let plan = own.map_or_else(|| plan.clone(), |text| plan.clone().file("workflows/own.yaml", text));
    plan.start().await
}

fn ask(workflow: &str) -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": "Tell me about Ada."}],
           "routing": {"workflow": workflow}})
}

fn extract(workflow: &str) -> Value {
    let mut body = ask(workflow);
    body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "person", "schema": {
        "type": "object", "required": ["name", "age"], "additionalProperties": false,
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}}});
    body
}

/// An answer whose first words show that nothing can come of it, and which goes on for long.
fn doomed() -> Reply {
    let mut pieces = vec![r#"{"age": "#.to_owned(), r#""thirty-six", "#.to_owned()];
    pieces.extend((0..2000).map(|i| format!("{i} ")));
    Reply::Answer(Answer::pieces(pieces).gap(Duration::from_millis(5)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_pass_is_stopped_at_its_vendor() {
    for (workflow, stream) in [("default", false), ("default", true), ("json_extraction", false)] {
        let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text(GOOD)).await;
        vendor.queue(doomed());
        let house = start(&vendor, None).await;
        let (id, text) = if stream {
            let events = house.client().stream(&extract(workflow)).await;
            let id = events.header("x-request-id").unwrap().to_owned();
            let (events, end) = events.collect().await;
            assert_eq!(end, End::Done, "{events:?}");
            (id, text_of(&events))
        } else {
            let answer = house.client().chat(&extract(workflow)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            (answer.request_id(), answer.content())
        };
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            serde_json::from_str::<Value>(GOOD).unwrap()
        );
        let first = &vendor.seen()[0];
        assert!(first.wait_left().await, "{workflow}: the vendor goes on");
        assert!(first.events() < 1000, "{workflow}: {} events were paid for", first.events());
        let record = house.decision(&id).await;
        assert_eq!(record["outcome"]["verdict"], "passed", "{record}");
        // What was stopped counts as an answer of its model, with what it used until then.
        let calls: Vec<&Value> = record["run"]["steps"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|s| s["calls"].as_array())
            .flatten()
            .collect();
        assert_eq!(calls.len(), 2, "{record}");
        assert!(calls[0]["error"].is_null() && calls[0]["usage"]["estimated"] == true, "{}", calls[0]);
        assert!(record["run"].to_string().contains("stopped before its end"), "{}", record["run"]);
    }
}

/// Windowed, and no longer held back than the checks want.
const AT_ONCE: &str = "mode: windowed, window: { bytes: 1, overlap: 0 }";

const FORBIDDEN: &str = "{ use: keywords, severity: block, with: { none: [forbidden] } }";

fn pieces(list: &[&str]) -> Answer {
    Answer::pieces(list.iter().map(|s| (*s).to_owned()).collect())
}

/// After content: an error event, no `[DONE]`, nothing of what is wrong, and the vendor is left.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_15_a_window_that_fails_after_content_ends_with_an_error_event() {
    let long =
        [vec!["A first sentence that is long enough. ", "Then for", "bidden things. "], vec!["more "; 2000]];
    let answer = pieces(&long.concat()).gap(Duration::from_millis(5));
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| Reply::Answer(answer.clone())).await;
    let house = start(&vendor, Some(&workflow(FORBIDDEN, AT_ONCE))).await;
    let events = house.client().stream(&ask("own")).await;
    assert_eq!(events.status, 200);
    let (events, end) = events.collect().await;
    assert_eq!(end, End::NoDone);
    let text = text_of(&events);
    assert!(text.starts_with("A first sentence") && !text.contains("forbidden"), "{text}");
    let last = events.last().unwrap();
    assert!(last["error"]["message"].as_str().is_some_and(|m| m.contains("had been delivered")), "{last}");
    assert!(vendor.seen()[0].wait_left().await && vendor.count() == 1);
}

/// Before content: the failure is hidden by a repair, or an HTTP status.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_15_a_window_that_fails_before_content_is_repaired_or_a_status() {
    let bad = || Reply::Answer(pieces(&["for", "bidden ", "words"]));
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("These are allowed.")).await;
    vendor.queue(bad());
    let house = start(&vendor, Some(&workflow(FORBIDDEN, AT_ONCE))).await;
    let (events, end) = house.client().stream(&ask("own")).await.collect().await;
    assert_eq!((text_of(&events).as_str(), end), ("These are allowed.", End::Done));
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| bad()).await;
    let house = start(&vendor, Some(&workflow(FORBIDDEN, AT_ONCE))).await;
    let answer = house.client().stream(&ask("own")).await;
    assert_eq!(answer.status, 422);
}

/// What the run came to rides before `[DONE]` where it is asked for, in a form that clients take for a chunk
/// without choices; nobody else sees it.
#[tokio::test(flavor = "multi_thread")]
async fn scenario_15_the_trailer_comes_when_asked_for_and_never_else() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("Ada wrote programs.")).await;
    let house = start(&vendor, Some(&workflow(FORBIDDEN, AT_ONCE))).await;
    for (by, asked) in [("nothing", false), ("option", true), ("header", true)] {
        let mut body = ask("own");
        body["stream"] = json!(true);
        if by == "option" {
            body["routing"]["explain"] = json!(true);
        }
        let mut headers = vec![("content-type", "application/json")];
        headers.extend((by == "header").then_some(("x-turnout-explain", "true")));
        let answer =
            house.client().send("POST", "/v1/chat/completions", &headers, body.to_string().as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let text = answer.text();
        let events: Vec<&str> =
            text.split("\n\n").filter_map(|e| e.strip_prefix("data: ")).filter(|e| *e != "[DONE]").collect();
        let events: Vec<Value> = events.iter().map(|e| serde_json::from_str(e).unwrap()).collect();
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        assert_eq!(text_of(&events), "Ada wrote programs.");
        let trailers: Vec<&Value> = events.iter().filter(|e| e.get("turnout").is_some()).collect();
        assert_eq!(trailers.len(), usize::from(asked), "{by}: {text}");
        for trailer in trailers {
            assert_eq!(Some(trailer), events.last(), "behind all content");
            assert_eq!(
                (&trailer["choices"], &trailer["object"]),
                (&json!([]), &json!("chat.completion.chunk"))
            );
            assert!(trailer.get("error").is_none() && trailer["id"] == events[0]["id"], "{trailer}");
            assert_eq!(trailer["turnout"]["outcome"]["verdict"], "passed", "{trailer}");
            assert_eq!(trailer["turnout"]["run"]["workflow"], "own", "{trailer}");
        }
    }
}

async fn raw(house: &House, body: &mut Value) -> tests::client::Response {
    body["stream"] = json!(true);
    house.client().post("/v1/chat/completions", body).await
}

/// The head of a stream waits for content as long as the workflow says; after that comments go out, and a failure is
/// an event of the stream.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_need_not_wait_leaves_early_and_says_nothing_it_does_not_know() {
    let slow = Reply::text("Ada wrote programs.").slow(Duration::from_millis(2_500));
    for (keys, status, comments) in [
        ("header_hold: 100ms, keepalive: 100ms", 200, true),
        ("header_hold: 100ms, keepalive: 0s", 200, false),
        ("keepalive: 1s", 200, false),
    ] {
        let reply = slow.clone();
        let vendor = Vendor::scripted(Dialect::OpenAi, move |_| reply.clone()).await;
        let house = start(&vendor, Some(&workflow("refusal", keys))).await;
        let answer = raw(&house, &mut ask("own")).await;
        let text = answer.text();
        assert_eq!(answer.status, status, "{keys}: {text}");
        assert_eq!(text.contains(": keep-alive"), comments, "{keys}: {text}");
        let early = keys.contains("header_hold");
        assert_eq!(answer.header("x-turnout-model").is_none(), early, "{keys}: {:?}", answer.headers);
        assert!(
            text.contains("\"model\":\"lab/one\"") && text.ends_with("data: [DONE]\n\n"),
            "{keys}: {text}"
        );
    }
    for (keys, status) in [("header_hold: 100ms", 200), ("trailer: opt_in", 504)] {
        let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::Hang).await;
        let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).rules(crate::NO_CHANCE);
        let own = workflow("refusal", keys);
        let plan = plan.settings("retry:\n  max_attempts: 1\n").file("workflows/own.yaml", &own);
        let house = plan.silent().start().await;
        let answer = raw(&house, &mut ask("own")).await;
        let text = answer.text();
        assert_eq!(answer.status, status, "{keys}: {text}");
        assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "{keys}: {text}");
    }
}

/// An answer that a workflow gives whole has a first byte as well, behind a head that left before it.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_byte_behind_an_early_head_is_on_record_however_it_came() {
    let gate = Gate::default();
    let held = Reply::text("Ada wrote programs.").held(&gate);
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| held.clone()).await;
    let own = "version: 1\nname: own\nnodes:\n  - { id: ask, type: generate }\n  - { id: say, type: merge, method: template, \
               from: [nodes.ask.completion], template: \"${ nodes.ask.completion.text }\" }\n  - { id: answer, type: stream, \
               from: nodes.say.completion, header_hold: 1ms }\nedges:\n  - { from: ask, to: say }\n  - { from: say, to: answer }\n";
    let house = start(&vendor, Some(own)).await;
    let events = house.client().stream(&ask("own")).await;
    let id = events.header("x-request-id").unwrap().to_owned();
    assert!(events.header("x-turnout-model").is_none(), "the head has left before there was an answer");
    gate.open();
    let (events, end) = events.collect().await;
    assert_eq!((text_of(&events).as_str(), end), ("Ada wrote programs.", End::Done), "{events:?}");
    let outcome = &house.decision(&id).await["outcome"];
    assert!(outcome["ttft_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{outcome:#}");
}

/// An SDK says how long it waits for the next byte: that is no end of an answer whose bytes come.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_last_longer_than_its_client_waits_for_a_byte() {
    let paced = Answer::text("Ada wrote programs for a machine.")
        .after(Duration::from_millis(600))
        .gap(Duration::from_millis(300));
    let vendor = Vendor::scripted(Dialect::OpenAi, move |_| Reply::Answer(paced.clone())).await;
    let house = start(&vendor, None).await;
    let mut body = ask("default");
    for (stream, status) in [(false, 504), (true, 200)] {
        body["stream"] = json!(stream);
        let headers = [("content-type", "application/json"), ("x-stainless-read-timeout", "0.5")];
        let bytes = body.to_string();
        let client = house.client();
        let answer = client.send("POST", "/v1/chat/completions", &headers, bytes.as_bytes()).await;
        let text = answer.text();
        assert_eq!(answer.status, status, "{text}");
        assert_eq!(text.ends_with("data: [DONE]\n\n"), stream, "{text}");
        assert_eq!(text.contains("\"error\""), !stream, "{text}");
    }
}

/// A workflow may always tell what its run came to, or never.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_decides_about_its_trailer() {
    for (keys, told) in [
        ("trailer: always", [true, true]),
        ("trailer: never", [false, false]),
        ("trailer: opt_in", [false, true]),
    ] {
        let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("Ada wrote programs.")).await;
        let house = start(&vendor, Some(&workflow("refusal", keys))).await;
        for (asked, told) in [false, true].into_iter().zip(told) {
            let mut body = ask("own");
            body["routing"]["explain"] = json!(asked);
            let text = raw(&house, &mut body).await.text();
            assert_eq!(text.contains("\"turnout\":{"), told, "{keys}, asked: {asked}: {text}");
            // How it was decided is told to who asks for it, and to nobody else.
            assert_eq!(text.contains("\"utility\""), told && asked, "{keys}, asked: {asked}: {text}");
            assert!(!told || text.contains("\"verdict\":\"passed\""), "{text}");
            assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        }
    }
}

/// A vendor that breaks off after content: with `continue` another one goes on, and the record says so; without it the
/// stream ends with an error.
#[tokio::test(flavor = "multi_thread")]
async fn another_vendor_goes_on_where_one_broke_off() {
    for on_loss in ["continue", "fail"] {
        let broken =
            pieces(&["Ada wrote ", "the first ", "program, ", "and never this"]).fault(3, Fault::Cut);
        let first = Vendor::scripted(Dialect::OpenAi, move |_| Reply::Answer(broken.clone())).await;
        let second = Vendor::scripted(Dialect::Anthropic, |_| Reply::text("for an engine.")).await;
        let own = workflow(FORBIDDEN, AT_ONCE)
            .replace("primary: true", &format!("primary: true, on_upstream_loss: {on_loss}"));
        let house = Plan::new()
            .vendor("lab", &first)
            .vendor("other", &second)
            .model(&Model::new("lab/one").success(0.95))
            .model(&Model::new("other/two").success(0.3))
            .rules(crate::NO_CHANCE)
            .file("workflows/own.yaml", &own)
            .start()
            .await;
        let events = house.client().stream(&ask("own")).await;
        let id = events.header("x-request-id").unwrap().to_owned();
        let (events, end) = events.collect().await;
        let record = house.decision(&id).await;
        if on_loss == "fail" {
            assert_eq!(end, End::NoDone, "{events:?}");
            assert_eq!((&record["outcome"]["status"], second.count()), (&json!("failed"), 0), "{record}");
            continue;
        }
        let text = text_of(&events);
        assert!(text.starts_with("Ada wrote the first ") && text.ends_with("for an engine."), "{text}");
        assert_eq!(end, End::Done, "{events:?}");
        let ids: std::collections::BTreeSet<&str> = events.iter().filter_map(|e| e["id"].as_str()).collect();
        assert_eq!(ids.len(), 1, "one answer, one id: {events:?}");
        assert_eq!(record["outcome"]["continued"], true, "{record}");
        assert_eq!(record["run"]["continued"], "other/two", "{record}");
        assert_eq!(record["outcome"]["status"], "delivered", "{record}");
        let told = second.seen()[0].body["messages"].clone();
        assert_eq!(told[1]["role"], "assistant", "{told}");
        assert!(told[1].to_string().contains("Ada wrote"), "{told}");
    }
}

/// Optimistic shows everything at once: the verdict says what became of it, or the end is an error.
#[tokio::test(flavor = "multi_thread")]
async fn an_optimistic_stream_tells_its_late_failure() {
    let of = async |late: &str| {
        let answer = pieces(&["{\"a\": ", "1", ", oops", " and more"]);
        let vendor = Vendor::scripted(Dialect::OpenAi, move |_| Reply::Answer(answer.clone())).await;
        let house = start(&vendor, Some(&workflow("json", &format!("mode: optimistic{late}")))).await;
        let events = house.client().stream(&ask("own")).await;
        let id = events.header("x-request-id").unwrap().to_owned();
        let (events, end) = events.collect().await;
        (text_of(&events), end, house.decision(&id).await)
    };
    let (text, end, record) = of("").await;
    assert_eq!((text.as_str(), end), ("{\"a\": 1, oops and more", End::Done));
    assert_eq!(record["outcome"]["verdict"], "failed", "{record}");
    let (text, end, record) = of(", on_late_failure: error").await;
    assert_eq!((text.as_str(), end), ("{\"a\": 1", End::NoDone));
    assert_eq!(record["outcome"]["status"], "failed", "{record}");
    assert_eq!(record["outcome"]["verdict"], "failed", "{record}");
}

/// Everything that comes back, as it came.
async fn wire(house: &House, headers: &str, body: &Value) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut body = body.clone();
    body["stream"] = Value::Bool(true);
    let text = body.to_string();
    let mut socket = tokio::net::TcpStream::connect(house.addr()).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n",
        text.len()
    );
    socket.write_all(format!("{head}{text}").as_bytes()).await.unwrap();
    let mut all = String::new();
    socket.read_to_string(&mut all).await.unwrap();
    all
}

/// A verdict is never hidden: in the head where the answer was held back, behind the words of it otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_what_it_came_to() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("no JSON at all")).await;
    let house = start(&vendor, None).await;
    let events = house.client().stream(&extract("json_extraction")).await;
    if events.status == 200 {
        assert_eq!(events.header("x-turnout-verdict"), Some("failed"));
    }
    let held = wire(&house, "", &extract("default")).await;
    assert!(held.starts_with("HTTP/1.1 200") && held.contains("x-turnout-verdict: failed\r\n"), "{held}");
    assert!(held.contains("x-turnout-cost-usd: 0.0") && !held.contains(": turnout "), "{held}");

    let plain = wire(&house, "", &ask("default")).await;
    assert!(
        !plain.contains("x-turnout-verdict") && plain.contains("\n: turnout verdict=none cost_usd=0.0"),
        "{plain}"
    );
    let (comment, done) = (plain.find(": turnout").unwrap(), plain.find("data: [DONE]").unwrap());
    assert!(comment < done, "{plain}");

    // Clients that cannot bear comments are spared it, and no keep-alive with it.
    let silent = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(crate::NO_CHANCE)
        .settings("stream: { sum_comment: false }\n")
        .start()
        .await;
    let bare = wire(&silent, "", &ask("default")).await;
    assert!(bare.contains("data: [DONE]") && !bare.contains("\n: "), "{bare}");

    let behind = wire(&house, "te: trailers\r\n", &ask("default")).await;
    let (head, rest) = behind.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("trailer: x-turnout-cost-usd, x-turnout-verdict"), "{behind}");
    assert!(rest.contains("[DONE]") && !rest.contains(": turnout "), "{behind}");
    let trailers = rest.split_once("\r\n0\r\n").unwrap().1;
    assert!(
        trailers.contains("x-turnout-verdict: none") && trailers.contains("x-turnout-cost-usd: 0.0"),
        "{behind}"
    );
}

/// A client that is shown a call may carry it out: one of a tool that nobody offered never reaches it.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_a_tool_that_nobody_offered_reaches_no_client() {
    let strange = || Answer::call("c1", "rm", r#"{"path": "/"}"#);
    let shown = |events: &[Value]| events.iter().any(|e| e.to_string().contains("\"tool_calls\":["));
    for workflow in ["default", "own"] {
        let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("Ada wrote the first one.")).await;
        let house = start(&vendor, Some(&self::workflow("refusal", "mode: passthrough"))).await;
        // Nothing has been shown yet: it goes the way of an answer that came whole.
        vendor.queue(Reply::Answer(strange()));
        let (events, end) = house.client().stream(&ask("default")).await.collect().await;
        assert_eq!((end, text_of(&events).as_str()), (End::Done, "Ada wrote the first one."), "{events:?}");
        assert!(!shown(&events) && vendor.count() == 2, "{events:?}");
        // Something has: the stream ends there, and no clean end is made up.
        vendor.queue(Reply::Answer(Answer {
            tool_calls: strange().tool_calls,
            ..Answer::text("Let me see. ")
        }));
        let answer = house.client().stream(&ask(workflow)).await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        let (events, end) = answer.collect().await;
        assert_eq!(end, End::NoDone, "{events:?}");
        assert!(!shown(&events) && text_of(&events).starts_with("Let me"), "{events:?}");
        assert!(events.last().is_some_and(|e| e["error"]["code"].is_string()), "{events:?}");
        let record = house.decision(&id).await;
        assert_eq!(record["outcome"]["status"], "failed");
        assert!(record["run"].to_string().contains("not a tool that was offered"), "{record}");
    }
}
