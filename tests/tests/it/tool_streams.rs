//! Who offers tools reads the answer as it grows; calls of tools leave once they are known to be right.

use serde_json::{Value, json};
use tests::client::{End, text_of};
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Fault, Gate, Reply, Vendor};

const DIALECTS: [Dialect; 3] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini];
const WORDS: &str = "Let me look that up. ";
const GOOD: &str = r#"{"city": "Oslo"}"#;
/// JSON, so that every dialect can write it, and no city that a local repair could find.
const BAD: &str = r#"{"town": "Oslo"}"#;

async fn start(vendor: &Vendor) -> House {
    Plan::new().vendor("lab", vendor).model(&Model::new("lab/one")).rules(crate::NO_CHANCE).start().await
}

fn ask(more: Value) -> Value {
    let mut body = json!({
        "model": "auto", "messages": [{"role": "user", "content": "What is the weather in Oslo?"}],
        "stream_options": {"include_usage": true},
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {
            "type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}}}],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Words, and a call behind them.
fn both(arguments: &str) -> Answer {
    Answer { pieces: Answer::text(WORDS).pieces, ..Answer::call("c0", "weather", arguments) }
}

/// The calls that the chunks of a stream come to, as clients put them together, each as its name and arguments.
fn calls_of(events: &[Value]) -> Vec<(String, String)> {
    let mut calls: Vec<(String, String)> = Vec::new();
    let deltas = events.iter().filter_map(|e| e["choices"][0]["delta"]["tool_calls"].as_array()).flatten();
    for delta in deltas {
        let index = usize::try_from(delta["index"].as_u64().unwrap()).unwrap();
        if index == calls.len() {
            assert!(delta["id"].is_string() && delta["type"] == "function", "{delta}");
            calls.push((delta["function"]["name"].as_str().unwrap().to_owned(), String::new()));
        }
        calls[index].1.push_str(delta["function"]["arguments"].as_str().unwrap_or_default());
    }
    calls
}

fn finish_of(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|e| e["choices"][0]["finish_reason"].as_str()).collect()
}

fn weather(arguments: &str) -> (String, String) {
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    ("weather".to_owned(), arguments.to_string())
}

/// The vendor never comes to the end of its answer, and the client reads the beginning.
#[tokio::test(flavor = "multi_thread")]
async fn prose_flows_although_tools_are_offered() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| {
        Reply::Answer(Answer::text("one two three").fault(3, Fault::Hang))
    })
    .await;
    let house = start(&vendor).await;
    let mut events = house.client().stream(&ask(json!({}))).await;
    let mut seen = Vec::new();
    while !text_of(&seen).contains("one") {
        seen.push(events.next().await.unwrap());
    }
    assert!(vendor.seen()[0].streams());
}

#[tokio::test(flavor = "multi_thread")]
async fn words_are_read_before_the_model_calls_and_its_calls_are_whole() {
    for dialect in DIALECTS {
        let gate = Gate::default();
        let answer = both(GOOD).and_call("c1", "weather", r#"{"city": "Rome"}"#).calling_behind(&gate);
        let vendor = Vendor::scripted(dialect, move |_| Reply::Answer(answer.clone())).await;
        let house = start(&vendor).await;
        let mut stream = house.client().stream(&ask(json!({}))).await;
        let id = stream.header("x-request-id").unwrap().to_owned();
        assert_eq!(stream.header("x-turnout-verdict"), None, "nothing is known yet");
        let mut events = Vec::new();
        while text_of(&events) != WORDS {
            events.push(stream.next().await.unwrap_or_else(|| panic!("{dialect:?}: {events:?}")));
        }
        gate.open();
        let (rest, end) = stream.collect().await;
        events.extend(rest);
        assert_eq!(end, End::Done, "{dialect:?}: {events:?}");
        assert_eq!(text_of(&events), WORDS);
        let calls: Vec<_> =
            calls_of(&events).iter().map(|(name, args)| (name.clone(), weather(args).1)).collect();
        assert_eq!(calls, [weather(GOOD), weather(r#"{"city": "Rome"}"#)], "{dialect:?}");
        assert_eq!(finish_of(&events), ["tool_calls"], "{dialect:?}: {events:?}");
        assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], 5, "{dialect:?}: {events:?}");
        let record = house.decision(&id).await;
        assert_eq!(record["outcome"]["verdict"], "passed", "{dialect:?}: {}", record["outcome"]);
        let mode = "windowed: `contract` holds back calls of tools alone";
        assert_eq!(record["run"]["stream_mode"], mode, "{dialect:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_behind_words_never_leaves_and_no_clean_end_follows() {
    let two = || both(GOOD).and_call("c1", "weather", GOOD);
    let stranger = Answer { pieces: Answer::text(WORDS).pieces, ..Answer::call("c0", "launch", "{}") };
    let cut = Answer { finish: "length".to_owned(), ..both("{\"city\": \"Os") };
    let mut cases = vec![
        (Dialect::OpenAi, stranger, json!({})),
        (Dialect::OpenAi, cut, json!({})),
        (Dialect::OpenAi, both(GOOD).and_call("c1", "weather", BAD), json!({})),
        (Dialect::OpenAi, two(), json!({"parallel_tool_calls": false})),
    ];
    cases.extend(DIALECTS.map(|dialect| (dialect, both(BAD), json!({}))));
    for (dialect, answer, more) in cases {
        let vendor = Vendor::scripted(dialect, move |_| Reply::Answer(answer.clone())).await;
        let house = start(&vendor).await;
        let stream = house.client().stream(&ask(more)).await;
        let id = stream.header("x-request-id").unwrap().to_owned();
        let (events, end) = stream.collect().await;
        assert_eq!(end, End::NoDone, "{dialect:?}: {events:?}");
        assert_eq!(text_of(&events), WORDS, "{dialect:?}");
        assert_eq!((calls_of(&events), finish_of(&events)), (vec![], vec![]), "{dialect:?}");
        let error = &events.last().unwrap()["error"];
        let message = error["message"].as_str().unwrap_or_else(|| panic!("{dialect:?}: {events:?}"));
        assert!(message.contains("after a part of it had been delivered"), "{dialect:?}: {message}");
        assert_eq!(vendor.count(), 1, "{dialect:?}: what has been read cannot be mended");
        let record = house.decision(&id).await;
        assert_eq!(record["outcome"]["verdict"], "failed", "{dialect:?}: {}", record["outcome"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_which_nothing_was_read_is_mended() {
    let blank = Answer { pieces: vec!["\n\n".to_owned()], ..Answer::call("c0", "weather", BAD) };
    for dialect in DIALECTS {
        for bad in [Answer::call("c0", "weather", BAD), blank.clone()] {
            let vendor =
                Vendor::scripted(dialect, |_| Reply::Answer(Answer::call("c9", "weather", GOOD))).await;
            vendor.queue(Reply::Answer(bad));
            let house = start(&vendor).await;
            let stream = house.client().stream(&ask(json!({}))).await;
            assert_eq!(stream.header("x-turnout-verdict"), Some("passed"), "{dialect:?}");
            let id = stream.header("x-request-id").unwrap().to_owned();
            let (events, end) = stream.collect().await;
            assert_eq!(end, End::Done, "{dialect:?}: {events:?}");
            let calls: Vec<_> = calls_of(&events).iter().map(|(_, args)| weather(args)).collect();
            assert_eq!(calls, [weather(GOOD)], "{dialect:?}: {events:?}");
            assert_eq!(finish_of(&events), ["tool_calls"], "{dialect:?}");
            assert_eq!((vendor.count(), text_of(&events).trim()), (2, ""), "{dialect:?}");
            let record = house.decision(&id).await;
            assert_eq!(record["outcome"]["verdict"], "passed", "{dialect:?}: {}", record["outcome"]);
        }
    }
}

/// Words alone are no answer to who wants a call: they are not shown, and the model is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn words_wait_where_a_call_is_required() {
    let vendor =
        Vendor::scripted(Dialect::OpenAi, |_| Reply::Answer(Answer::call("c9", "weather", GOOD))).await;
    vendor.queue(Reply::text(WORDS));
    let house = start(&vendor).await;
    let stream = house.client().stream(&ask(json!({"tool_choice": "required"}))).await;
    let (events, end) = stream.collect().await;
    assert_eq!(end, End::Done, "{events:?}");
    assert_eq!((text_of(&events).as_str(), vendor.count()), ("", 2), "{events:?}");
    assert_eq!(calls_of(&events).len(), 1, "{events:?}");
}

/// A stream that is lost within a call is asked for again unseen, unless words have been read.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_lost_within_a_call_is_honest() {
    for (answer, fault, done) in [(Answer::call("c0", "weather", GOOD), 2, true), (both(GOOD), 7, false)] {
        let vendor =
            Vendor::scripted(Dialect::OpenAi, |_| Reply::Answer(Answer::call("c9", "weather", GOOD))).await;
        vendor.queue(Reply::Answer(answer.fault(fault, Fault::Cut)));
        let house = start(&vendor).await;
        let (events, end) = house.client().stream(&ask(json!({}))).await.collect().await;
        assert_eq!(end, if done { End::Done } else { End::NoDone }, "{events:?}");
        assert_eq!(calls_of(&events).len(), usize::from(done), "{events:?}");
    }
}
