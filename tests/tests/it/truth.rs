//! What vendors say of an answer is believed as far as it can be: usage, errors, and what they were never told.

use serde_json::{Value, json};
use tests::admin::{Admin, send};
use tests::client::{End, text_of};
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Reply, Vendor};

async fn start(vendor: &Vendor) -> House {
    Plan::new().vendor("lab", vendor).model(&Model::new("lab/one")).rules(crate::NO_CHANCE).start().await
}

fn ask() -> Value {
    json!({"model": "lab/one", "messages": [{"role": "user", "content": "count to three, please"}]})
}

/// Status, text, usage as the client sees it, and the request's id.
async fn asked(house: &House, body: &Value, stream: bool) -> (u16, String, Value, String) {
    if !stream {
        let answer = house.client().chat(body).await;
        return (answer.status, answer.content(), answer.json()["usage"].clone(), answer.request_id());
    }
    let mut body = body.clone();
    body["stream_options"] = json!({"include_usage": true});
    let events = house.client().stream(&body).await;
    let (status, id) = (events.status, events.header("x-request-id").unwrap().to_owned());
    let (events, end) = events.collect().await;
    assert_eq!(end, End::Done, "{events:?}");
    let usage = events.last().unwrap()["usage"].clone();
    (status, text_of(&events), usage, id)
}

/// A vendor that reports what nobody can have used: the answer is delivered, and what it cost is estimated.
#[tokio::test(flavor = "multi_thread")]
async fn impossible_usage_is_discarded_and_estimated() {
    for dialect in Dialect::ALL {
        let vendor = Vendor::start(dialect).await;
        let house = start(&vendor).await;
        for odd in ["1e30", "1000000000000", "-7", "12.5", "3000000"] {
            for stream in [false, true] {
                vendor.queue(Reply::Answer(Answer::text("one two three").reporting(odd)));
                let (status, text, usage, id) = asked(&house, &ask(), stream).await;
                let case = format!("{dialect:?} {odd} stream={stream}");
                assert_eq!((status, text.as_str()), (200, "one two three"), "{case}");
                let record = house.decision(&id).await;
                let call = &record["run"]["steps"][0]["calls"][0];
                assert_eq!(call["usage"]["why"], "impossible_output", "{case}: {call}");
                assert_eq!(
                    (&call["usage"]["estimated"], &call["usage"]["output"]),
                    (&json!(true), &json!(4))
                );
                let cost = record["outcome"]["cost_usd"].as_f64().unwrap();
                assert!(cost > 0.0 && cost < 0.001, "{case}: {cost}");
                let told = (&usage["completion_tokens"], &usage["estimated"]);
                assert_eq!(told, (&json!(4), &json!(true)), "{case}: {usage}");
            }
        }
        let metrics = house.client().get("/metrics").await.text();
        let line = "turnout_usage_discarded_total{model=\"lab/one\",reason=\"impossible_output\"} 10";
        assert!(metrics.lines().any(|l| l == line), "{dialect:?}: {metrics}");
    }
}

/// Input beyond the window of the model, and beyond what was sent.
#[tokio::test(flavor = "multi_thread")]
async fn impossible_input_is_discarded_as_well() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("one").costing(200_001, 1)).await;
    let house = start(&vendor).await;
    for stream in [false, true] {
        let (_, _, usage, id) = asked(&house, &ask(), stream).await;
        let record = house.decision(&id).await;
        let call = &record["run"]["steps"][0]["calls"][0];
        assert_eq!(call["usage"]["why"], "impossible_input", "{call}");
        assert!(usage["prompt_tokens"].as_u64().unwrap() < 100, "{usage}");
        let table = house.cli(&["explain", &id]).await;
        let table = String::from_utf8(table.stdout).unwrap();
        assert!(table.contains("estimated: the vendor's input cannot be"), "{table}");
    }
    vendor.otherwise(|_| Reply::text("one").costing(200_000, 1));
    let (_, _, usage, _) = asked(&house, &ask(), false).await;
    assert_eq!((&usage["prompt_tokens"], &usage["estimated"]), (&json!(200_000), &Value::Null));
}

/// A vendor that counts one half of a call alone: the other one is estimated, paid for, and said to be.
#[tokio::test(flavor = "multi_thread")]
async fn the_half_that_nobody_counted_is_estimated() {
    let text = "four".repeat(500);
    for dialect in Dialect::ALL {
        let vendor = Vendor::start(dialect).await;
        let house = start(&vendor).await;
        for ((input, output), why) in
            [((20, 0), "missing_output"), ((0, 60), "missing_input"), ((20, 1), "unlikely_output")]
        {
            for stream in [false, true] {
                vendor.queue(Reply::text(&text).costing(input, output));
                let (status, said, told, id) = asked(&house, &ask(), stream).await;
                let case = format!("{dialect:?} {why} stream={stream}: {told}");
                assert_eq!((status, said.len()), (200, text.len()), "{case}");
                let record = house.decision(&id).await;
                let usage = &record["run"]["steps"][0]["calls"][0]["usage"];
                assert_eq!((&usage["why"], &usage["estimated"]), (&json!(why), &json!(true)), "{case}");
                let of = |half: &str| usage[half].as_u64().unwrap();
                match why {
                    "missing_input" => assert!(of("input") >= 29 && of("output") == 60, "{case}"),
                    _ => assert_eq!((of("input"), of("output")), (20, 500), "{case}"),
                }
                assert_eq!(&record["outcome"]["usage"], usage, "{case}");
                assert_eq!(
                    (&told["completion_tokens"], &told["estimated"]),
                    (&usage["output"], &json!(true))
                );
            }
        }
        let metrics = house.client().get("/metrics").await.text();
        let line = "turnout_usage_discarded_total{model=\"lab/one\",reason=\"missing_output\"} 2";
        assert!(metrics.lines().any(|l| l == line), "{dialect:?}: {metrics}");
    }
}

/// A count of one for hundreds of words is not what they came to. What may be is believed, however few tokens it is.
#[tokio::test(flavor = "multi_thread")]
async fn counts_that_are_too_low_for_the_text_are_estimated() {
    let words = "word ".repeat(400);
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = start(&vendor).await;
    let mut body = ask();
    body["messages"][0]["content"] = json!(words);
    for stream in [false, true] {
        vendor.queue(Reply::text(&words).costing(1, 1));
        let (_, _, told, id) = asked(&house, &body, stream).await;
        let record = house.decision(&id).await;
        let usage = &record["run"]["steps"][0]["calls"][0]["usage"];
        assert_eq!((&usage["why"], &usage["output"]), (&json!("unlikely_input"), &json!(500)), "{usage}");
        assert!(usage["input"].as_u64().unwrap() > 300, "{usage}");
        assert_eq!((&told["completion_tokens"], &told["estimated"]), (&json!(500), &json!(true)));

        vendor.queue(Reply::text(&words).costing(60, 60));
        let (_, _, told, _) = asked(&house, &body, stream).await;
        assert_eq!((&told["prompt_tokens"], &told["completion_tokens"]), (&json!(60), &json!(60)));
        assert_eq!(told["estimated"], Value::Null, "{told}");
    }
}

/// What an Anthropic stream says of the output at its beginning is no count of the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_its_final_count_is_estimated() {
    let events = [
        json!({"type": "message_start", "message": {"id": "m1", "type": "message", "role": "assistant",
            "model": "one", "content": [], "usage": {"input_tokens": 20, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0,
            "delta": {"type": "text_delta", "text": "forty letters are ten tokens of English."}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
        json!({"type": "message_stop"}),
    ];
    let body: String = events.iter().map(|e| format!("data: {e}\n\n")).collect();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let reply = Reply::Raw(format!("{head}{body}").into_bytes());
    let vendor = Vendor::scripted(Dialect::Anthropic, move |_| reply.clone()).await;
    let house = start(&vendor).await;
    let (_, _, told, id) = asked(&house, &ask(), true).await;
    let record = house.decision(&id).await;
    let usage = &record["run"]["steps"][0]["calls"][0]["usage"];
    assert_eq!((&usage["why"], &usage["output"]), (&json!("missing_output"), &json!(10)), "{usage}");
    assert_eq!((&told["prompt_tokens"], &told["completion_tokens"]), (&json!(20), &json!(10)), "{told}");
}

/// A key pays for answers whose tokens its vendor does not count.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_vendor_does_not_count_is_on_the_budget() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text(&"four".repeat(500)).costing(20, 0)).await;
    let house = start(&vendor).await;
    let admin = Admin::of(&house);
    let limits = json!([{"metric": "usd", "amount": 0.002, "per": "day"}]);
    let (_, key) = admin.key(json!({"tenant": "default", "limits": limits})).await;
    let mut body = ask();
    body["max_tokens"] = json!(600);
    let mut answers = 0;
    while send(house.client(), &key, "/v1/chat/completions", &body).await.status == 200 {
        answers += 1;
        assert!(answers < 20, "nothing of it is paid for");
    }
    assert!(answers >= 1);
}

/// A ceiling on tokens leaves room for what the vendor puts around the words.
#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_on_tokens_counts_what_is_put_around_a_message() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("yes")).await;
    let house = start(&vendor).await;
    let mut body = ask();
    body["messages"][0]["content"] = json!("x");
    body["routing"] = json!({"cap_tokens": 200});
    let answer = house.client().chat(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = vendor.seen()[0].body.clone();
    let most = ["max_tokens", "max_completion_tokens"].iter().find_map(|m| sent[*m].as_u64());
    assert_eq!(most, Some(200 - 25), "{sent}");
}

fn http(status: u16, kind: &str, body: &str) -> Reply {
    let head = format!("HTTP/1.1 {status} Odd\r\ncontent-type: {kind}\r\ncontent-length: {}", body.len());
    Reply::Raw(format!("{head}\r\nconnection: close\r\n\r\n{body}").into_bytes())
}

/// What was written in refusing and in thinking is counted where the vendor counts nothing, and the client is told.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_counted_is_estimated_from_all_that_was_written() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = start(&vendor).await;
    for (member, tokens) in [("refusal", 100), ("reasoning_content", 100), ("content", 100)] {
        for stream in [false, true] {
            let text = "abcd".repeat(100);
            let object = json!({"id": "c", "created": 1, "model": "one"});
            let mut event = object.clone();
            event["choices"] = json!([{"index": 0, "delta": {"role": "assistant"}, "finish_reason": "stop"}]);
            event["choices"][0]["delta"][member] = json!(text);
            let mut whole = object;
            whole["choices"] = json!([{"index": 0, "message": {"role": "assistant", "content": null},
                                       "finish_reason": "stop"}]);
            whole["choices"][0]["message"][member] = json!(text);
            vendor.queue(match stream {
                true => http(200, "text/event-stream", &format!("data: {event}\n\ndata: [DONE]\n\n")),
                false => http(200, "application/json", &whole.to_string()),
            });
            let (status, _, usage, id) = asked(&house, &ask(), stream).await;
            let case = format!("{member} stream={stream}: {usage}");
            assert_eq!(status, 200, "{case}");
            assert_eq!(
                (&usage["completion_tokens"], &usage["estimated"]),
                (&json!(tokens), &json!(true)),
                "{case}"
            );
            // Its words, and what vendors put around a message and a conversation.
            assert!(usage["prompt_tokens"].as_u64().is_some_and(|n| n >= 5 + 24), "{case}");
            let record = house.decision(&id).await;
            assert_eq!(record["outcome"]["usage"]["output"], tokens, "{case}");
        }
    }
}

/// Whichever dialect says that a request is too long, a client of OpenAI's SDK knows it by OpenAI's code.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_has_openais_code_in_every_dialect() {
    let message = |dialect| match dialect {
        Dialect::OpenAi => "This model's maximum context length is 8192 tokens.",
        Dialect::Anthropic => "prompt is too long: 210000 tokens > 200000 maximum",
        Dialect::Gemini => {
            "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."
        }
    };
    for dialect in Dialect::ALL {
        let vendor = Vendor::scripted(dialect, move |_| Reply::Error {
            status: 400,
            headers: Vec::new(),
            message: message(dialect).to_owned(),
        })
        .await;
        let house = start(&vendor).await;
        let mut body = ask();
        for stream in [false, true] {
            body["stream"] = json!(stream);
            let error = house.client().chat(&body).await.error(400);
            let told = (error["code"].as_str(), error["type"].as_str());
            assert_eq!(
                told,
                (Some("context_length_exceeded"), Some("invalid_request_error")),
                "{dialect:?}: {error}"
            );
        }
    }
    // The same where nobody had to be asked.
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = start(&vendor).await;
    let error = house.client().chat(&of_words("lab/one", 220_000)).await.error(400);
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("context_length_exceeded"), &json!("messages")),
        "{error}"
    );
    assert_eq!(vendor.count(), 0);
}

/// A request of so many words, each of which is at least one token to any tokeniser.
fn of_words(model: &str, words: usize) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "several words ".repeat(words / 2)}]})
}

/// Nobody is refused by a guess: where a request may fit, its vendor is asked, who knows.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_fit_is_for_the_vendor_to_refuse() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| Reply::text(&seen.model())).await;
    let house = start(&vendor).await;
    // 315,000 tokens by four bytes each, and 180,000 in truth: the window holds 200,000.
    let answer = house.client().chat(&of_words("lab/one", 180_000)).await;
    assert_eq!((answer.status, vendor.count()), (200, 1), "{}", answer.text());

    // Who is not sure to have room comes after all who are, however much better it is believed to be.
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/good").success(0.99))
        .model(&Model::new("lab/wide").success(0.2).window(1_000_000))
        .rules(crate::NO_CHANCE)
        .start()
        .await;
    let answer = house.client().chat(&of_words("auto", 180_000)).await;
    assert_eq!(answer.content(), "wide", "{}", answer.text());
    let record = house.decision(&answer.request_id()).await;
    let excluded = record["decision"]["excluded"].as_array().unwrap();
    assert!(
        excluded.iter().any(|e| e["model"] == "lab/good" && e["reason"] == "context_window"),
        "{excluded:?}"
    );
    let answer = house.client().chat(&of_words("auto", 1_000)).await;
    assert_eq!(answer.content(), "good", "{}", answer.text());
}

/// The vendor's `param` and `code` reach the client where the request is at fault, and nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn the_vendors_param_and_code_are_told_where_the_request_is_at_fault() {
    let error = |code: &str| {
        json!({"error": {"message": "Unsupported value: 'logit_bias'", "type": "invalid_request_error",
                         "param": "logit_bias", "code": code}})
        .to_string()
    };
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = start(&vendor).await;
    vendor.otherwise(move |_| http(400, "application/json", &error("unsupported_value")));
    let told = house.client().chat(&ask()).await.error(400);
    assert_eq!(
        (&told["param"], &told["code"]),
        (&json!("logit_bias"), &json!("unsupported_value")),
        "{told}"
    );
    vendor.otherwise(move |_| http(401, "application/json", &error("invalid_api_key")));
    let told = house.client().chat(&ask()).await.error(502);
    assert_eq!((&told["param"], &told["code"]), (&Value::Null, &json!("auth")), "{told}");
}

/// What a vendor is not told, or otherwise than it was asked for, stands in the record of the attempt.
#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_a_dialect_lacks_are_on_record() {
    let vendor = Vendor::start(Dialect::Anthropic).await;
    let house = start(&vendor).await;
    let mut body = ask();
    for (name, value) in
        [("seed", json!(7)), ("logit_bias", json!({"50256": -100})), ("temperature", json!(1.75))]
    {
        body[name] = value;
    }
    (body["max_tokens"], body["presence_penalty"]) = (json!(50_000), json!(0));
    for stream in [false, true] {
        let (status, _, _, id) = asked(&house, &body, stream).await;
        assert_eq!(status, 200);
        let record = house.decision(&id).await;
        let want = json!([
            {"name": "seed", "from": 7}, {"name": "logit_bias"},
            {"name": "temperature", "from": 1.75, "to": 1.0}, {"name": "max_tokens", "from": 50_000, "to": 8192},
        ]);
        assert_eq!(record["run"]["steps"][0]["calls"][0]["adjusted"], want, "{record}");
        let table = String::from_utf8(house.cli(&["explain", &id]).await.stdout).unwrap();
        for line in ["~ seed 7 left out", "~ logit_bias left out", "~ temperature 1.75 went out as 1.0"] {
            assert!(table.contains(line), "{line}: {table}");
        }
    }
    let (.., id) = asked(&house, &ask(), false).await;
    let record = house.decision(&id).await;
    assert_eq!(record["run"]["steps"][0]["calls"][0]["adjusted"], Value::Null, "{record}");
}

/// Who requires that every parameter counts is not served by a model that does not see them all.
#[tokio::test(flavor = "multi_thread")]
async fn required_parameters_leave_out_who_cannot_be_told_them() {
    let an = Vendor::scripted(Dialect::Anthropic, |_| Reply::text("from an")).await;
    let oa = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("from oa")).await;
    let house = Plan::new()
        .vendor("an", &an)
        .vendor("oa", &oa)
        .model(&Model::new("an/one").success(0.95))
        .model(&Model::new("oa/two").success(0.3))
        .rules(crate::NO_CHANCE)
        .start()
        .await;
    let mut body = ask();
    (body["model"], body["logit_bias"]) = (json!("auto"), json!({"50256": -100}));
    assert_eq!(house.client().chat(&body).await.content(), "from an");
    body["provider"] = json!({"require_parameters": true});
    assert_eq!(house.client().chat(&body).await.content(), "from oa");
    body["model"] = json!("an/one");
    let error = house.client().chat(&body).await.error(400);
    assert_eq!(error["param"], "provider.require_parameters", "{error}");
    body["logit_bias"] = json!({});
    assert_eq!(house.client().chat(&body).await.content(), "from an");
}
