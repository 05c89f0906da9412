//! Bodies of chat requests, right and wrong, and what is said about them.

use super::*;

fn check(body: &str, pointer: &str, code: &str) {
    let got = ChatRequest::decode(Bytes::copy_from_slice(body.as_bytes()), &Limits::default());
    match got {
        Ok(_) => assert_eq!((pointer, code), ("", "ok"), "{body}"),
        Err(e) => assert_eq!((e.pointer.as_str(), e.code), (pointer, code), "{body}: {}", e.message),
    }
}

#[test]
fn a_wrong_body_names_the_place() {
    let m = r#""messages":[{"role":"user","content":"hi"}]"#;
    check(&format!(r#"{{"model":"auto",{m}}}"#), "", "ok");
    check(&format!(r#"{{"model":"auto",{m},"novel":{{"a":[1]}}}}"#), "", "ok");
    check(&format!(r#"{{{m}}}"#), "/model", "missing_field");
    check(r#"{"model":"auto"}"#, "/messages", "missing_field");
    check(r#"{"model":"auto","messages":[]}"#, "/messages", "out_of_range");
    check(&format!(r#"{{"model":"a b",{m}}}"#), "/model", "invalid_value");
    check(&format!(r#"{{"model":"auto",{m},"model":"x"}}"#), "/model", "duplicate_key");
    check(
        r#"{"model":"auto","messages":[{"role":"user","role":"system","content":"x"}]}"#,
        "/messages/0/role",
        "duplicate_key",
    );
    check(
        r#"{"model":"auto","messages":[{"role":"usr","content":"x"}]}"#,
        "/messages/0/role",
        "invalid_value",
    );
    check(
        r#"{"model":"auto","messages":[{"role":"user","content":[{"type":"text"}]}]}"#,
        "/messages/0/content/0/text",
        "invalid_type",
    );
    check(&format!(r#"{{"model":"auto",{m},"temperature":9}}"#), "/temperature", "out_of_range");
    check(&format!(r#"{{"model":"auto",{m},"temperature":"hot"}}"#), "/temperature", "invalid_type");
    check(&format!(r#"{{"model":"auto",{m},"n":0}}"#), "/n", "out_of_range");
    check(&format!(r#"{{"model":"auto",{m},"max_tokens":1e999}}"#), "/max_tokens", "invalid_json");
    for beyond in ["1e999", "-1E+400", "[0, {\"x\": 2e308}]", &"9".repeat(400)] {
        check(
            &format!(r#"{{"model":"auto",{m},"frequency_penalty": {beyond} }}"#),
            "/frequency_penalty",
            "invalid_json",
        );
    }
    for within in ["1e300", "1e-999", "true", "[false,null,\"1e999\",\"\\\"1e999\"]", "-0.0", "{\"1e999\":7}"]
    {
        ChatRequest::from_value(
            &serde_json::from_str(&format!(r#"{{"model":"auto",{m},"novel":{within}}}"#)).unwrap(),
        )
        .unwrap_or_else(|e| panic!("{within}: {e}"));
    }
    check(&format!(r#"{{"model":"auto",{m}}} x"#), "", "invalid_json");
    check(
        &format!(r#"{{"model":"auto",{m},"routing":{{"econmy":"x"}}}}"#),
        "/routing/econmy",
        "invalid_option",
    );
    check(&format!(r#"{{"model":"auto",{m},"api_base":"http://x"}}"#), "/api_base", "forbidden_field");
    check(&format!(r#"{{"model":"auto",{m},"fallbacks":["dear"]}}"#), "/fallbacks", "forbidden_field");
    check(&format!(r#"{{"model":"auto",{m},"Model":"dear"}}"#), "/Model", "ambiguous_field");
    check(&format!(r#"{{"model":"auto",{m},"MAX_TOKENS":9}}"#), "/MAX_TOKENS", "ambiguous_field");
    check(
        r#"{"model":"auto","messages":[{"role":"user","content":"x","Content":"y"}]}"#,
        "/messages/0/Content",
        "ambiguous_field",
    );
    check(
        &format!(
            r#"{{"model":"auto",{m},"tools":[{{"type":"function","function":{{"name":"f","Name":"g"}}}}]}}"#
        ),
        "/tools/0/function/Name",
        "ambiguous_field",
    );
    check(
        &format!(
            r#"{{"model":"auto",{m},"tools":[{{"type":"function","function":{{"name":"f","name":"g"}}}}]}}"#
        ),
        "/tools/0/function/name",
        "duplicate_key",
    );
    check(
        &format!(r#"{{"model":"auto",{m},"functions":[{{"name":"f"}}]}}"#),
        "/functions",
        "unsupported_field",
    );
    check(
        &format!(r#"{{"model":"auto",{m},"function_call":"auto"}}"#),
        "/function_call",
        "unsupported_field",
    );
    check(&format!(r#"{{"model":"auto",{m},"functions":[ ],"function_call":null}}"#), "", "ok");
    check(
        r#"{"model":"auto","messages":[{"role":"assistant","content":null,"function_call":{"name":"f","arguments":""}}]}"#,
        "/messages/0/function_call",
        "unsupported_field",
    );
    check(
        r#"{"model":"auto","messages":[{"role":"assistant","content":"x","function_call":null}]}"#,
        "",
        "ok",
    );
    check("\u{feff}{}", "", "invalid_json");
    check(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)), "", "invalid_type");
    let deep = format!(r#"{{"model":"auto",{m},"tools":[{}1{}]}}"#, "[".repeat(300), "]".repeat(300));
    check(&deep, "/tools/0", "invalid_type");
    let deep = format!(r#"{{"model":"auto",{m},"novel":{}1{}}}"#, "[".repeat(300), "]".repeat(300));
    check(&deep, "/novel", "invalid_json");
}

#[test]
fn one_pass_takes_what_the_careful_one_takes() {
    let limits = Limits { messages: 2, parts: 2, tools: 1, ..Limits::default() };
    let call = r#"{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}"#;
    let long = "x".repeat(600);
    for message in [
        r#"{"role":"user","content":"hi \u00e9\n"}"#,
        r#"{"content":null,"role":"assistant","refusal":"no","x":{"y":[1,{"z":2}]}}"#,
        r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}}]}"#,
        r#"{"role":"tool","content":"42","tool_call_id":"a","name":"f"}"#,
        r#"{"role":"assistant","refusal":null,"name":null,"tool_calls":null,"r\u006fle":"user"}"#,
        r#"{"role":"assistant","refusal":null,"name":null,"tool_calls":null}"#,
        &format!(r#"{{"role":"assistant","content":null,"tool_calls":[{call}]}}"#),
        &format!(r#"{{"role":"assistant","content":null,"tool_calls":[{call},{call}]}}"#),
        &format!(r#"{{"role":"user","content":"x","name":"{long}"}}"#),
        r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"},{"type":"text","text":"c"}]}"#,
        r#"{"role":"user","content":[{"type":"text","type":"text","text":"a"}]}"#,
        r#"{"role":"user","content":5}"#,
        r#"{"role":"usr","content":"x"}"#,
        r#"{"role":5,"content":"x"}"#,
        r#"{"content":"x"}"#,
        r#"{"role":"user","content":"x","content":"y"}"#,
        r#"{"role":"user","content":"x","a":1,"a":2}"#,
        r#"{"role":"user","content":"x","a":{"b":1,"b":2}}"#,
        r#"{"role":"user","content":"x"} 1"#,
        "5",
    ] {
        for list in [
            format!("[{message}]"),
            format!(" [ {message} , {message} ] "),
            format!("[{message},{message},{message}]"),
        ] {
            let raw: Result<Vec<&RawValue>, _> = serde_json::from_str(&list);
            let careful = raw.ok().filter(|r| r.len() <= limits.messages).and_then(|raw| {
                raw.iter()
                    .enumerate()
                    .map(|(i, m)| super::messages::message(m.get(), i, &limits).ok())
                    .collect::<Option<Vec<_>>>()
            });
            assert_eq!(super::one_pass::read(&list, &limits), careful, "{list}");
        }
    }
}

#[test]
fn messages_say_what_is_expected_and_what_kind_was_found_and_never_the_value() {
    let m = r#""messages":[{"role":"user","content":"hi"}]"#;
    let with = |member: &str| format!(r#"{{"model":"auto",{m},{member}}}"#);
    let message = |member: &str| format!(r#"{{"model":"auto","messages":[{{"role":"user",{member}}}]}}"#);
    for (body, param, want) in [
        (
            with(r#""temperature":"hunter2""#),
            "temperature",
            "`temperature`: expected a number from 0 to 2, found a string",
        ),
        (with(r#""temperature":7741"#), "temperature", "`temperature`: expected a number from 0 to 2"),
        (
            with(r#""max_tokens":-7741"#),
            "max_tokens",
            "`max_tokens`: expected a whole number of at least 1, found a negative number",
        ),
        (
            with(r#""max_tokens":1.7741"#),
            "max_tokens",
            "`max_tokens`: expected a whole number of at least 1, found a number with a fraction",
        ),
        (with(r#""stream":"hunter2""#), "stream", "`stream`: expected true or false, found a string"),
        (with(r#""tools":{"hunter2":1}"#), "tools", "`tools`: expected a list of tools, found an object"),
        (with(r#""tools":["hunter2"]"#), "tools.0", "`tools.0`: expected an object, found a string"),
        (
            with(r#""temperature":1,"temperature":0"#),
            "temperature",
            "the key `temperature` stands twice in one object",
        ),
        (
            with(r#""routing":{"tags":{"a":"x","a":"y"}}"#),
            "routing.tags.a",
            "the key `a` stands twice in one object",
        ),
        (
            with(r#""routing":{"hunter2 7741":1,"hunter2 7741":2}"#),
            "routing",
            "a key stands twice in one object",
        ),
        (with(r#""top_p":1e999"#), "top_p", "no JSON that can be read: number out of range"),
        (
            message(r#""content":[{"type":"text","text":"a"},7741]"#),
            "messages.0.content.1",
            "`messages.0.content.1`: expected an object, found a number",
        ),
        (
            message(r#""content":[{"type":"text","text":"a","text":"b"}]"#),
            "messages.0.content.0.text",
            "the key `text` stands twice in one object",
        ),
        (
            r#"{"model":"auto","messages":"hunter2"}"#.to_owned(),
            "messages",
            "`messages`: expected a list of messages, found a string",
        ),
        (r#""hunter2""#.to_owned(), "", "expected an object, found a string"),
        (
            r#"{"model":"auto",}"#.to_owned(),
            "",
            "no JSON that can be read: trailing comma at line 1 column 17",
        ),
    ] {
        let e = ChatRequest::decode(Bytes::from(body.clone()), &Limits::default()).unwrap_err();
        assert_eq!((e.param().unwrap_or_default().as_str(), e.message.as_str()), (param, want), "{body}");
    }
}

#[test]
fn documents_hold_no_key_twice() {
    assert_eq!(document(br#"{"a":[{"b":1}]}"#), Ok(serde_json::json!({"a": [{"b": 1}]})));
    let e = document(br#"{"a":[{"b":1},{"b":1,"c":{},"b":2}]}"#).unwrap_err();
    assert_eq!((e.pointer.as_str(), e.code), ("/a/1/b", "duplicate_key"));
    assert!(document(b"{").is_err() && document(b"\xff").is_err());
}

#[test]
fn members_point_into_the_body() {
    let r = ChatRequest::from_value(
        &serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": "é"}], "x": [1, 2]}),
    );
    let r = r.unwrap();
    assert_eq!(r.raw("x"), Some("[1,2]"));
    assert_eq!(r.raw("model"), Some("\"auto\""));
}

#[test]
fn messages_survive_a_round_trip() {
    let body = serde_json::json!({"model": "auto", "messages": [
        {"role": "assistant", "content": null, "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}], "reasoning_content": "…"},
        {"role": "tool", "content": "42", "tool_call_id": "a"},
        {"role": "user", "content": [{"type": "text", "text": "see", "cache_control": {"type": "ephemeral"}}, {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}, {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]},
    ]});
    let r = ChatRequest::from_value(&body).unwrap();
    let back = serde_json::to_value(&r.messages).unwrap();
    assert_eq!(back, body["messages"]);
}
