//! One conversation, any vendor: calls of tools and what stands beside the text survive the way there and back.

use serde_json::{Value, json};
use tests::client::{End, text_of};
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Reply, Vendor};

async fn start(vendor: &Vendor) -> House {
    let abilities = "streaming, tools, json, json_schema, parallel_tools, logprobs";
    let model = Model { abilities, ..Model::new("lab/one") };
    Plan::new().vendor("lab", vendor).model(&model).rules(crate::NO_CHANCE).start().await
}

fn ask(more: Value) -> Value {
    let mut body = json!({"model": "lab/one", "messages": [{"role": "user", "content": "x"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn http(kind: &str, body: &str) -> Reply {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}", body.len());
    Reply::Raw(format!("{head}\r\nconnection: close\r\n\r\n{body}").into_bytes())
}

/// A vendor of chat completions that answers with one choice, whole or streamed as it is asked.
async fn answering(message: Value, beside: Value, usage: Value) -> Vendor {
    Vendor::scripted(Dialect::OpenAi, move |seen| {
        let finish = if message["tool_calls"].is_array() { "tool_calls" } else { "stop" };
        let mut object = json!({"id": "c1", "created": 7, "model": "one", "usage": usage, "service_tier": "flex",
                                "system_fingerprint": "fp_1"});
        let mut choice = json!({"index": 0, "finish_reason": finish});
        choice.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
        if !seen.streams() {
            choice["message"] = message.clone();
            object["choices"] = json!([choice]);
            return http("application/json", &object.to_string());
        }
        choice["delta"] = message.clone();
        if let Some(calls) = choice["delta"]["tool_calls"].as_array_mut() {
            calls.iter_mut().enumerate().for_each(|(i, call)| call["index"] = json!(i));
        }
        object["choices"] = json!([choice]);
        http("text/event-stream", &format!("data: {object}\n\ndata: [DONE]\n\n"))
    })
    .await
}

/// The message and its choice as a client sees them, with the whole object, whichever way it was asked.
async fn asked(house: &House, body: &Value, stream: bool) -> (Value, Value, Value) {
    if !stream {
        let answer = house.client().chat(body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let mut object = answer.json();
        object["request"] = json!(answer.request_id());
        return (object["choices"][0]["message"].clone(), object["choices"][0].clone(), object);
    }
    let mut body = body.clone();
    body["stream_options"] = json!({"include_usage": true});
    let events = house.client().stream(&body).await;
    let id = events.header("x-request-id").map(str::to_owned);
    let (events, end) = events.collect().await;
    assert_eq!(end, End::Done, "{events:?}");
    let said = |name: &str| events.iter().find(|e| !e["choices"][0]["delta"][name].is_null()).cloned();
    let event = said("tool_calls").or_else(|| said("content").filter(|_| !text_of(&events).is_empty()));
    let mut event = event.unwrap_or_else(|| panic!("{events:?}"));
    event["request"] = json!(id);
    event["usage"] = events.last().unwrap()["usage"].clone();
    (event["choices"][0]["delta"].clone(), event["choices"][0].clone(), event)
}

fn tokens() -> Value {
    json!({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13})
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_custom_tools_go_there_and_back() {
    let call = json!({"id": "call_9", "type": "custom", "custom": {"name": "sh", "input": "ls -l"}});
    let message = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let vendor = answering(message, json!({}), tokens()).await;
    let house = start(&vendor).await;
    let mut body = ask(json!({"tools": [{"type": "custom", "custom": {"name": "sh"}}]}));
    for stream in [false, true] {
        let (message, ..) = asked(&house, &body, stream).await;
        let got = &message["tool_calls"][0];
        assert_eq!(
            (&got["type"], &got["custom"], &got["id"]),
            (&call["type"], &call["custom"], &call["id"]),
            "stream={stream}: {message}"
        );
        assert_eq!(got["function"], Value::Null, "stream={stream}: {message}");
    }
    let history = body["messages"].as_array_mut().unwrap();
    history.push(json!({"role": "assistant", "content": null, "tool_calls": [call]}));
    history.push(json!({"role": "tool", "tool_call_id": "call_9", "content": "a.txt"}));
    asked(&house, &body, false).await;
    assert_eq!(vendor.seen()[2].body["messages"], body["messages"]);
    // Who calls another one is asked again.
    let wrong = json!({"id": "c1", "created": 7, "model": "one", "usage": tokens(), "choices": [{"index": 0,
        "finish_reason": "tool_calls", "message": {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_8", "type": "custom", "custom": {"name": "rm", "input": "-r /"}}]}}]});
    vendor.queue(http("application/json", &wrong.to_string()));
    let (message, ..) = asked(&house, &body, false).await;
    assert_eq!(message["tool_calls"][0]["custom"]["name"], "sh", "{message}");
    assert_eq!(vendor.count(), 5);
}

/// Gemini pairs results with calls by their place: whatever order they come in, and if one is missing.
#[tokio::test(flavor = "multi_thread")]
async fn results_stand_in_the_order_of_their_calls() {
    let call = |id: &str, city: &str| {
        json!({"id": id, "type": "function",
               "function": {"name": "get_weather", "arguments": json!({"city": city}).to_string()}})
    };
    let result = |id: &str, text: &str| json!({"role": "tool", "tool_call_id": id, "content": text});
    let calls = [call("functions.w:0", "Paris"), call("c_oslo", "Oslo"), call("c_rome", "Rome")];
    let body = ask(json!({"messages": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": null, "tool_calls": calls},
        result("c_oslo", "3 in Oslo"), result("functions.w:0", "21 in Paris"),
        {"role": "user", "content": "So?"},
    ]}));
    let gemini = Vendor::start(Dialect::Gemini).await;
    let house = start(&gemini).await;
    asked(&house, &body, false).await;
    let turns = gemini.seen()[0].body["contents"].clone();
    let parts = |turn: usize, kind: &str| -> Vec<Value> {
        let all = turns[turn]["parts"].as_array().unwrap();
        all.iter().map(|p| p[kind].clone()).filter(|p| !p.is_null()).collect()
    };
    let (made, told) = (parts(1, "functionCall"), parts(2, "functionResponse"));
    let ids =
        |list: &[Value]| -> Vec<String> { list.iter().map(|p| p["id"].as_str().unwrap().into()).collect() };
    assert_eq!(ids(&made), ["functions.w:0", "c_oslo", "c_rome"], "{turns}");
    assert_eq!(ids(&told), ids(&made), "{turns}");
    assert_eq!(told[0]["response"]["result"], "21 in Paris", "{turns}");
    assert!(told[2]["response"]["error"].is_string(), "{turns}");
    assert_eq!(parts(2, "text"), ["So?"], "{turns}");
    let anthropic = Vendor::start(Dialect::Anthropic).await;
    let house = start(&anthropic).await;
    asked(&house, &body, false).await;
    let turns = anthropic.seen()[0].body["messages"].clone();
    let id = |turn: usize, block: usize, name: &str| {
        turns[turn]["content"][block][name].as_str().unwrap().to_owned()
    };
    for block in 0..3 {
        let id_of_call = id(1, block, "id");
        assert_eq!(id(2, block, "tool_use_id"), id_of_call, "{turns}");
        assert!(id_of_call.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)), "{turns}");
    }
    assert_eq!(turns[2]["content"][0]["content"][0]["text"], "21 in Paris", "{turns}");
    assert_eq!(turns[2]["content"][2]["is_error"], true, "{turns}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_allowed_tools_are_offered_and_taken() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let body = ask(json!({
        "tools": [tool("get_weather"), tool("delete_city")],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("get_weather")]}},
    }));
    for dialect in Dialect::ALL {
        let vendor =
            Vendor::scripted(dialect, |_| Reply::Answer(Answer::call("c2", "get_weather", "{}"))).await;
        vendor.queue(Reply::Answer(Answer::call("c1", "delete_city", "{}")));
        let house = start(&vendor).await;
        let (message, _, object) = asked(&house, &body, false).await;
        assert_eq!(message["tool_calls"][0]["function"]["name"], "get_weather", "{dialect:?}: {object}");
        assert_eq!(vendor.count(), 2, "{dialect:?}");
        let sent = &vendor.seen()[0].body;
        match dialect {
            Dialect::OpenAi => assert_eq!(sent["tool_choice"], body["tool_choice"]),
            Dialect::Anthropic => {
                assert_eq!(sent["tool_choice"]["type"], "any", "{sent}");
                assert_eq!(
                    (&sent["tools"][0]["name"], &sent["tools"][1]),
                    (&json!("get_weather"), &Value::Null)
                );
            }
            Dialect::Gemini => {
                assert_eq!(sent["toolConfig"]["functionCallingConfig"]["mode"], "ANY", "{sent}");
                let told = &sent["tools"][0]["functionDeclarations"];
                assert_eq!((&told[0]["name"], &told[1]), (&json!("get_weather"), &Value::Null), "{sent}");
            }
        }
    }
}

/// A tool that is demanded and not offered is the request's fault, and costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn demands_for_tools_that_are_not_offered_are_refused_at_the_door() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = start(&vendor).await;
    let named = json!({"type": "function", "function": {"name": "get_wether"}});
    let tools = json!([{"type": "function", "function": {"name": "get_weather"}}]);
    for (more, hint) in [
        (json!({"tool_choice": "required"}), "give `tools`"),
        (json!({"tool_choice": "required", "tools": []}), "give `tools`"),
        (json!({"tool_choice": named, "tools": tools}), "did you mean `get_weather`?"),
    ] {
        let error = house.client().chat(&ask(more.clone())).await.error(400);
        assert_eq!(error["param"], "tool_choice", "{more}: {error}");
        assert!(error["message"].as_str().unwrap().contains(hint), "{more}: {error}");
    }
    assert_eq!(vendor.count(), 0);
}

/// xAI counts reasoning beside the completion: it is paid for, and part of the output for everybody.
#[tokio::test(flavor = "multi_thread")]
async fn reasoning_that_is_counted_beside_the_completion_is_output() {
    let usage = json!({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
                       "completion_tokens_details": {"reasoning_tokens": 94}});
    let vendor = answering(json!({"role": "assistant", "content": "Hi"}), json!({}), usage).await;
    let house = start(&vendor).await;
    let mut costs = Vec::new();
    for stream in [false, true] {
        let (.., object) = asked(&house, &ask(json!({})), stream).await;
        let usage = &object["usage"];
        assert_eq!(
            (&usage["completion_tokens"], &usage["total_tokens"]),
            (&json!(103), &json!(135)),
            "{object}"
        );
        assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], 94, "{object}");
        let record = house.decision(object["request"].as_str().unwrap()).await;
        assert_eq!(record["outcome"]["usage"]["output"], 103, "{record}");
        costs.push(record["outcome"]["cost_usd"].clone());
    }
    assert_eq!(costs[0], costs[1]);
}

/// What stands beside the text reaches the client, also where the answer was read and checked before.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_beside_the_text_is_delivered() {
    let probabilities = json!({"content": [{"token": "{}", "logprob": -0.25, "bytes": null, "top_logprobs": []}],
                               "refusal": null});
    let notes = json!([{"type": "url_citation", "url_citation": {"url": "https://example.com", "title": "x",
                        "start_index": 0, "end_index": 2}}]);
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13,
        "completion_tokens_details": {"reasoning_tokens": 0, "rejected_prediction_tokens": 2, "audio_tokens": 1}});
    let audio = json!({"id": "audio_1", "data": "AAAA", "transcript": "braces", "expires_at": 7});
    let message = json!({"role": "assistant", "content": "{}", "annotations": notes, "audio": audio});
    let vendor = answering(message, json!({"logprobs": probabilities}), usage).await;
    let house = start(&vendor).await;
    let schema = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}});
    let tools = json!([{"type": "function", "function": {"name": "get_weather"}}]);
    for more in
        [json!({"logprobs": true, "response_format": schema}), json!({"logprobs": true, "tools": tools})]
    {
        for stream in [false, true] {
            let (message, choice, object) = asked(&house, &ask(more.clone()), stream).await;
            let case = format!("stream={stream} {more}: {object}");
            assert_eq!(choice["logprobs"], probabilities, "{case}");
            assert_eq!((&message["annotations"], &message["audio"]), (&notes, &audio), "{case}");
            assert_eq!(
                (&object["service_tier"], &object["system_fingerprint"]),
                (&json!("flex"), &json!("fp_1"))
            );
            let details = &object["usage"]["completion_tokens_details"];
            assert_eq!(
                (&details["rejected_prediction_tokens"], &details["audio_tokens"]),
                (&json!(2), &json!(1)),
                "{case}"
            );
        }
    }
}

/// A rule that looks for a value in the answer takes nothing from one that is held back for another reason.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_beside_a_text_outlives_a_rule_that_finds_nothing() {
    let probabilities = json!({"content": [{"token": "fine", "logprob": -0.25, "bytes": null, "top_logprobs": []}],
                               "refusal": null});
    let notes =
        json!([{"type": "url_citation", "url_citation": {"url": "https://example.com", "title": "x"}}]);
    let message = json!({"role": "assistant", "content": "fine", "annotations": notes});
    let vendor = answering(message, json!({"logprobs": probabilities}), tokens()).await;
    let abilities = "streaming, logprobs";
    let rule =
        "rules:\n  - { id: no_leaks, phase: response, when: response.secrets, actions: { deny: leak } }\n";
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model { abilities, ..Model::new("lab/one") })
        .rules(&format!("{}{rule}", crate::NO_CHANCE))
        .start()
        .await;
    for (logprobs, want) in [(true, &probabilities), (false, &Value::Null)] {
        for stream in [false, true] {
            let body = ask(json!({"logprobs": logprobs}));
            let (message, choice, object) = asked(&house, &body, stream).await;
            assert_eq!(message["annotations"], notes, "stream={stream}: {object}");
            if stream {
                assert_eq!(&choice["logprobs"], want, "stream={stream}: {object}");
            }
        }
    }
}

/// Whoever said nothing is told so, by vendors that refuse an empty turn, before one is asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_word_is_refused_where_the_vendor_would() {
    for dialect in [Dialect::Anthropic, Dialect::Gemini] {
        let vendor = Vendor::start(dialect).await;
        let house = start(&vendor).await;
        for content in [json!(""), Value::Null] {
            let body = ask(json!({"messages": [{"role": "user", "content": content}]}));
            let error = house.client().chat(&body).await.error(400);
            assert_eq!(error["param"], "messages", "{dialect:?}: {error}");
        }
        assert_eq!(vendor.count(), 0, "{dialect:?}");
    }
}

/// What a client sends back of an answer is what the SDKs make of it: all members that stood in it, also those that the
/// next vendor would refuse.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_may_be_sent_back_to_a_vendor_that_knows_fewer_members() {
    let strict = Vendor::scripted(Dialect::OpenAi, |seen| {
        let known = ["role", "content", "tool_calls", "tool_call_id"];
        let messages = seen.body["messages"].as_array().unwrap();
        let strange = messages
            .iter()
            .flat_map(|m| m.as_object().unwrap())
            .any(|(k, v)| !known.contains(&k.as_str()) || v.is_null());
        if strange { Reply::error(422) } else { Reply::text("understood") }
    })
    .await;
    let quirk = "quirks: { message_members: [tool_calls, tool_call_id] }";
    let house = Plan::new()
        .vendor("strict", &strict)
        .with_line("strict", quirk)
        .model(&Model::new("strict/one"))
        .rules(crate::NO_CHANCE)
        .start()
        .await;
    let body = json!({"model": "strict/one", "messages": [
        {"role": "user", "name": "ann", "content": "hi"},
        {"role": "assistant", "content": "Hi.", "refusal": null, "annotations": [], "audio": null,
         "citations": ["https://example.com"]},
        {"role": "user", "content": "go on"},
    ]});
    let answer = house.client().chat(&body).await;
    assert_eq!((answer.status, answer.content()), (200, "understood".to_owned()), "{}", answer.text());
    let record = house.decision(&answer.request_id()).await;
    let adjusted = &record["run"]["steps"][0]["calls"][0]["adjusted"];
    assert_eq!(*adjusted, json!([{"name": "messages.name"}, {"name": "messages.citations"}]), "{record}");
}

/// What a vendor adds to an answer because the request asked for it reaches the client, however the answer was made.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_asks_for_beside_the_answer_is_given() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| {
        let object = |more: Value| {
            let mut object = json!({"id": "c1", "created": 7, "model": "one", "object": "chat.completion.chunk"});
            object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            format!("data: {object}\n\n")
        };
        let moderation = json!({"output": [{"flagged": false}]});
        if !seen.streams() {
            let whole = json!({"id": "c1", "created": 7, "model": "one", "usage": tokens(), "moderation": moderation,
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "{\"a\":1}"}, "finish_reason": "stop"}]});
            return http("application/json", &whole.to_string());
        }
        let delta = json!({"role": "assistant", "content": "{\"a\":1}"});
        let events = [
            object(json!({"choices": [], "prompt_filter_results": []})),
            object(json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]})),
            object(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})),
            object(json!({"choices": [], "moderation": moderation})),
            // What vendors repeat with every event is nothing of its own.
            object(json!({"choices": [], "usage": tokens(), "service_tier": "default"})),
            "data: [DONE]\n\n".to_owned(),
        ];
        http("text/event-stream", &events.concat())
    })
    .await;
    let house = start(&vendor).await;
    let schema = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}});
    for body in [
        ask(json!({"moderation": {"type": "full"}, "service_tier": "auto"})),
        ask(json!({"moderation": {"type": "full"}, "response_format": schema})),
    ] {
        let answer = house.client().chat(&body).await;
        assert_eq!(answer.json()["moderation"]["output"][0]["flagged"], false, "{}", answer.text());
        let (events, end) = house.client().stream(&body).await.collect().await;
        assert_eq!(end, End::Done, "{events:?}");
        let told = events.iter().filter(|e| !e["moderation"].is_null()).count();
        assert!(told > 0, "{events:?}");
        let of_use = |e: &Value| !e["choices"][0].is_null() || !e["moderation"].is_null();
        assert!(events.iter().all(of_use), "{events:?}");
        assert!(events.iter().all(|e| e["prompt_filter_results"].is_null()), "{events:?}");
    }
    // Who does not ask for it gets no event without choices.
    let (events, _) = house.client().stream(&ask(json!({}))).await.collect().await;
    assert!(events.iter().all(|e| !e["choices"][0].is_null()), "{events:?}");
}
