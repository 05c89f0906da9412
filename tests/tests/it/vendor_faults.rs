//! What vendors do wrong costs the client neither more than it has to nor an answer that there is.

use crate::NO_CHANCE;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tests::client::{End, text_of};
use tests::house::{House, Model, Plan};
use tests::vendor::{Answer, Dialect, Fault, Reply, Vendor};

async fn house(settings: &str) -> (Vendor, Vendor, Arc<House>) {
    let (first, second) = (Vendor::start(Dialect::OpenAi).await, Vendor::start(Dialect::OpenAi).await);
    let plan = Plan::new()
        .vendor("alpha", &first)
        .vendor("beta", &second)
        .model(&Model::new("alpha/one").success(0.95).price(1.0))
        .model(&Model::new("beta/two").success(0.3).price(1.0))
        .rules(NO_CHANCE)
        .settings(settings);
    (first, second, Arc::new(plan.start().await))
}

fn ask(model: &str, more: &Value) -> Value {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "say something"}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn whole(body: &Value) -> Reply {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Reply::Raw(format!("{head}{body}").into_bytes())
}

/// All calls of a request, as they are on record.
async fn calls(house: &House, id: &str) -> Vec<Value> {
    let record = house.decision(id).await;
    let steps = record["run"]["steps"].as_array().cloned().unwrap_or_default();
    steps.iter().flat_map(|s| s["calls"].as_array().cloned().unwrap_or_default()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_a_vendor_names_is_over_when_it_is_over() {
    let (first, _second, house) = house("").await;
    let named = ask("alpha/one", &json!({}));
    first.queue(Reply::error_with(429, "retry-after", "1"));
    first.otherwise(|_| Reply::Answer(Answer::text("late").after(Duration::from_secs(4))));
    let waits = {
        let (house, named) = (house.clone(), named.clone());
        tokio::spawn(async move { house.client().chat(&named).await.status })
    };
    // It is asked again, and takes its time: nobody else has to wait for the end of that.
    while first.count() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let beside = house.client().chat(&named).await;
    assert_eq!((beside.status, beside.content().as_str()), (200, "late"), "{}", beside.text());
    assert_eq!(waits.await.unwrap(), 200);
    // No wait at all shuts nothing.
    first.otherwise(|_| Reply::error_with(429, "retry-after", "0"));
    assert_eq!(house.client().chat(&named).await.status, 429);
    first.otherwise(|_| Reply::text("back"));
    assert_eq!(house.client().chat(&named).await.content(), "back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_whose_streams_break_is_kept_out() {
    let (first, second, house) = house("").await;
    first.otherwise(|_| Reply::Answer(Answer::text("one two three four").fault(3, Fault::Cut)));
    let body = ask("alpha/one", &json!({}));
    for _ in 0..5 {
        let (events, end) = house.client().stream(&body).await.collect().await;
        assert_eq!(end, End::NoDone, "{events:?}");
    }
    let out = house.client().chat(&body).await;
    assert!(out.error(503)["message"].as_str().unwrap().contains("kept out"), "{}", out.text());
    assert_eq!((first.count(), second.count()), (5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_passes_is_told_before_a_model_that_its_vendor_does_not_know() {
    for (one, two) in [
        (Reply::error(404), Reply::error_with(429, "retry-after", "5")),
        (Reply::error_with(429, "retry-after", "5"), Reply::error(404)),
        (Reply::error_with(429, "retry-after", "600"), Reply::error_with(429, "retry-after", "5")),
    ] {
        let (first, second, house) = house("").await;
        first.otherwise(move |_| one.clone());
        second.otherwise(move |_| two.clone());
        let answer = house.client().chat(&ask("auto", &json!({}))).await;
        let error = answer.error(429);
        // What is left of the shorter wait.
        let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=5).contains(&wait), "{wait}: {error}");
        assert_eq!(answer.header("x-should-retry"), Some("true"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_vendor_counts_for_an_answer_that_is_none_is_charged() {
    let usage = json!({"prompt_tokens": 110, "completion_tokens": 90, "total_tokens": 200});
    let endless =
        json!({"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": null});
    for choices in [json!([]), json!([endless])] {
        let (first, _second, house) = house("").await;
        let body = json!({"id": "x", "object": "chat.completion", "choices": choices, "usage": usage});
        first.otherwise(move |_| whole(&body));
        let answer = house.client().chat(&ask("alpha/one", &json!({}))).await;
        assert!(answer.status >= 500, "{}", answer.text());
        let made = calls(&house, &answer.request_id()).await;
        assert!(!made.is_empty());
        for call in made {
            let told = (call["usage"]["input"].as_u64(), call["usage"]["output"].as_u64());
            assert_eq!(told, (Some(110), Some(90)), "{call}");
        }
    }
    // The usage of a stream, and then an error in the place of its end.
    let (first, _second, house) = house("").await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let events = format!(
        "data: {}\n\nevent: error\ndata: {}\n\n",
        json!({"choices": [], "usage": usage}),
        json!({"message": "the words of the vendor"})
    );
    first.otherwise(move |_| Reply::Raw(format!("{head}{events}").into_bytes()));
    let answer = house.client().chat(&ask("alpha/one", &json!({"stream": true}))).await;
    assert!(answer.status >= 500 && !answer.text().contains("the words of the vendor"), "{}", answer.text());
    for call in calls(&house, &answer.request_id()).await {
        assert_eq!(
            (call["usage"]["input"].as_u64(), call["usage"]["output"].as_u64()),
            (Some(110), Some(90)),
            "{call}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_an_answer_whatever_form_was_asked_for() {
    let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}});
    let form = json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}});
    for (refusal, finish, text) in [(Some("I will not"), "", ""), (None, "content_filter", "{\"a\": ")] {
        for stream in [false, true] {
            let (first, second, house) = house("").await;
            let answer = Answer {
                refusal: refusal.map(str::to_owned),
                finish: finish.to_owned(),
                ..Answer::text(text)
            };
            first.otherwise(move |_| Reply::Answer(answer.clone()));
            let body = ask("auto", &json!({"response_format": form, "stream": stream}));
            let case = format!("{refusal:?} {finish:?} {stream}");
            let id = if stream {
                let stream = house.client().stream(&body).await;
                assert_eq!(stream.status, 200, "{case}");
                let id = stream.header("x-request-id").unwrap().to_owned();
                let (events, end) = stream.collect().await;
                assert_eq!(end, End::Done, "{case} {events:?}");
                let said = events.iter().filter_map(|e| e["choices"][0]["delta"]["refusal"].as_str());
                assert_eq!(said.collect::<String>(), refusal.unwrap_or_default(), "{case} {events:?}");
                assert_eq!(text_of(&events), text, "{case} {events:?}");
                id
            } else {
                let answer = house.client().chat(&body).await;
                assert_eq!(answer.status, 200, "{case} {}", answer.text());
                let message = &answer.json()["choices"][0]["message"];
                assert_eq!(message["refusal"].as_str(), refusal, "{case} {message}");
                assert_eq!(answer.header("x-turnout-verdict"), Some("unverified"), "{case}");
                answer.request_id()
            };
            assert_eq!(first.count() + second.count(), 1, "{case}: asked again");
            assert_eq!(house.decision(&id).await["outcome"]["status"], "delivered", "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_choices_go_out_as_were_asked_for() {
    let (first, _second, house) = house("").await;
    let choice = |index: u32| json!({"index": index, "message": {"role": "assistant", "content": format!("c{index}")}, "finish_reason": "stop"});
    let two = json!({"id": "x", "object": "chat.completion", "choices": [choice(0), choice(1)]});
    first.otherwise(move |_| whole(&two));
    let answer = house.client().chat(&ask("alpha/one", &json!({"n": 1}))).await;
    assert_eq!(answer.json()["choices"].as_array().map(Vec::len), Some(1), "{}", answer.text());
    first.otherwise(|_| Reply::text("only one"));
    let few = ask("alpha/one", &json!({"n": 2}));
    let answer = house.client().chat(&few).await;
    assert_eq!(answer.content(), "only one");
    let stream = house.client().stream(&few).await;
    let id = stream.header("x-request-id").unwrap().to_owned();
    let (events, _) = stream.collect().await;
    assert_eq!(text_of(&events), "only one");
    for id in [answer.request_id(), id] {
        let made = calls(&house, &id).await;
        let told = json!([{"name": "n", "from": 2, "to": 1}]);
        assert_eq!(made.first().map(|c| &c["adjusted"]), Some(&told), "{made:?}");
    }
}
