//! What the command line tells the authors of workflows about files that are not in force yet.

use serde_json::{Value, json};
use tests::folder::Folder;
use tests::house::cli;

const GOOD: &str =
    "version: 1\nname: good\nnodes: [{ id: ask, type: generate }]\noutput: nodes.ask.completion\n";
const BAD: &str =
    "version: 1\nname: bad\nnodes: [{ id: ask, type: generate, sampels: 2 }]\noutput: nodes.ask.completion\n";

/// Exit code and standard output of a command.
async fn told(folder: &Folder, args: &[&str]) -> (i32, String) {
    let done = cli(folder, args).await;
    (done.status.code().unwrap_or(-1), String::from_utf8_lossy(&done.stdout).into_owned())
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_checked_by_themselves() {
    let folder = Folder::default();
    let at = |name: &str| folder.path().join(name).display().to_string();
    folder.write("drafts/good.yaml", GOOD);
    folder.write("drafts/bad.yaml", BAD);
    let (code, text) = told(&folder, &["workflow", "check", &at("drafts/good.yaml")]).await;
    assert_eq!((code, text.as_str()), (0, "good: 1 workflows (0 errors, 0 warnings in 1 files)\n"));
    let (code, text) = told(&folder, &["--json", "workflow", "check", &at("drafts")]).await;
    let told_of = json_of(&text);
    assert_eq!((code, &told_of["good"], &told_of["errors"]), (2, &json!(false), &json!(1)), "{text}");
    assert_eq!(told_of["problems"][0]["file"], at("drafts/bad.yaml"), "{text}");
    assert_eq!(told(&folder, &["workflow", "check"]).await.0, 0, "drafts are not part of the configuration");

    // A file of the configuration is told of alone, whatever else is wrong with it; what stands beside it is found.
    folder.write("workflows/bad.yaml", BAD);
    let calls = GOOD.replace("name: good", "name: calls").replace(
        "type: generate }",
        "type: generate, response: { format: json_schema, schema: 'file:schemas/person.json' } }",
    );
    folder.write("drafts/calls.yaml", &calls);
    folder.write("drafts/schemas/person.json", r#"{"type": "object"}"#);
    assert_eq!(
        told(&folder, &["workflow", "check", &at("drafts/calls.yaml")]).await.0,
        2,
        "it does not start"
    );
    let (code, text) = told(&folder, &["--json", "workflow", "check", &at("workflows/bad.yaml")]).await;
    assert_eq!((code, json_of(&text)["problems"][0]["code"].as_str()), (2, Some("WF101")), "{text}");
    std::fs::remove_file(folder.path().join("workflows/bad.yaml")).unwrap();
    assert_eq!(told(&folder, &["workflow", "check", &at("drafts/calls.yaml")]).await.0, 0);
    let (_, text) = told(&folder, &["workflow", "check"]).await;
    assert!(!text.contains("stands in the place"), "{text}");
    folder.write("workflows/default.yaml", &GOOD.replace("name: good", "name: default"));
    let (code, text) = told(&folder, &["workflow", "check"]).await;
    let says =
        format!("{} stands in the place of the shipped workflow `default`\n", at("workflows/default.yaml"));
    assert!(code == 0 && text.contains(&says), "{text}");
    let (_, text) = told(&folder, &["--json", "check"]).await;
    assert_eq!(json_of(&text)["replaces"], json!(["default"]), "{text}");
    let empty = told(&folder, &["workflow", "check", &at("drafts/schemas")]).await;
    assert_eq!(empty.0, 2, "a folder without workflows is a mistake");
}

/// A file that is no text is one problem, at the place of the first odd byte, and hides none of the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_text_hides_no_other() {
    let folder = Folder::default();
    for within in ["drafts", "workflows"] {
        folder.write(&format!("{within}/bad.yaml"), BAD);
        folder.write(&format!("{within}/wide.yaml"), &GOOD.replace("name: good", "name:   wide"));
        let latin = folder.path().join(within).join("latin.yaml");
        std::fs::write(&latin, b"version: 1\nname: latin\ntitle: caf\xe9\n").unwrap();
        let calls = GOOD.replace("type: generate", "type: call, workflow: latin").replace("good", "calls");
        folder.write(&format!("{within}/calls.yaml"), &calls);
        let path = folder.path().join(within).display().to_string();
        let (code, text) = told(&folder, &["workflow", "check", &path, "--format", "json"]).await;
        let told_of = json_of(&text);
        let mut found: Vec<_> = told_of["problems"].as_array().unwrap().iter().collect();
        found.sort_by_key(|d| d["code"].to_string());
        let [odd, key] = &found[..] else { panic!("{text}") };
        assert_eq!((code, &odd["code"], &key["code"]), (2, &json!("TS007"), &json!("WF101")), "{text}");
        let place = (odd["file"].as_str().unwrap(), &odd["line"], &odd["column"]);
        assert_eq!(place, (latin.to_str().unwrap(), &json!(3), &json!(11)), "{text}");
        assert!(odd["message"].as_str().unwrap().contains("the byte 0xe9"), "{text}");
        let (_, sarif) = told(&folder, &["workflow", "check", &path, "--format", "sarif"]).await;
        assert_eq!(json_of(&sarif)["runs"][0]["results"].as_array().unwrap().len(), 2, "{sarif}");
    }
    let (code, text) = told(&folder, &["--json", "workflow", "fmt", "--check"]).await;
    let laid_out = json_of(&text);
    assert_eq!((code, &laid_out["files"]), (2, &json!(4)), "{text}");
    assert_eq!(laid_out["problems"].as_array().unwrap().len(), 1, "{text}");
    assert!(laid_out["changed"].to_string().contains("wide.yaml"), "{text}");
}

/// Files are compared with the schemas and the workflows that stand beside them, not with those in force.
#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_takes_what_stands_beside_a_file() {
    let folder = Folder::default();
    let outer = "version: 1\nname: outer\nnodes:
  - { id: a, type: call, workflow: inner }
  - { id: b, type: generate, needs: a, response: { format: json_schema, schema: 'file:schemas/form.json' } }
output: nodes.b.completion\n";
    let inner = GOOD.replace("good", "inner");
    let form = r#"{"type": "object"}"#;
    let others = [("own", form, inner.as_str()), ("schema", r#"{"type": "array"}"#, inner.as_str())];
    let called = inner.replace("generate }", "generate, samples: 2 }");
    for (name, form, inner) in others.into_iter().chain([("called", form, called.as_str())]) {
        folder.write(&format!("{name}/outer.yaml"), outer);
        folder.write(&format!("{name}/inner.yaml"), inner);
        folder.write(&format!("{name}/schemas/form.json"), form);
    }
    let file = |name: &str| folder.path().join(name).join("outer.yaml").display().to_string();
    for (name, same) in [("own", true), ("schema", false), ("called", false)] {
        let (code, text) = told(&folder, &["--json", "workflow", "diff", &file("own"), &file(name)]).await;
        assert_eq!((code, &json_of(&text)["same"]), (0, &json!(same)), "{name}: {text}");
    }
    let checked = told(&folder, &["workflow", "check", &file("own")]).await;
    assert_eq!(checked.0, 0, "{}", checked.1);
}

/// A dry run that comes to no answer on stubs says why, and fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_that_cannot_deliver_says_why() {
    let folder = Folder::default();
    let topic =
        GOOD.replace("name: good\n", "name: good\ninputs: { topic: { type: string, required: true } }\n");
    folder.write("workflows/good.yaml", &topic);
    let dry = |more: &'static [&'static str]| {
        let args = ["workflow", "run", "good", "--simulated", "--dry", "--message", "hi"];
        args.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()
    };
    let (code, text) = told(&folder, &dry(&[])).await;
    assert!(
        code == 2 && text.contains("on stubs failed (invalid_value: the input `topic` is missing"),
        "{code} {text}"
    );
    let (code, text) = told(&folder, &dry(&["--input", "topic=tea"])).await;
    assert!(code == 0 && text.contains("on stubs delivered,"), "{code} {text}");
    // Where a live run would find nobody, stubs stand in for nobody.
    let lacking = "version: 1\nname: good\nnodes:
  - { id: ask, type: generate }
  - { id: quick, type: generate, needs: ask, route: { require: [\"openai/*\"] } }
  - { id: answer, type: stream, needs: quick, from: nodes.quick.completion }\n";
    folder.write("workflows/good.yaml", lacking);
    let (code, text) = told(&folder, &dry(&[])).await;
    assert!(code == 2 && text.contains("no model is left for node `quick`"), "{code} {text}");
    assert!(text.contains("ask: ok") && text.contains("quick: error"), "{text}");
}

/// A call gives what the other workflow takes, as far as types tell before a run.
#[tokio::test(flavor = "multi_thread")]
async fn inputs_of_calls_have_their_types() {
    let folder = Folder::default();
    let takes =
        |ty: &str| GOOD.replace("name: good\n", &format!("name: good\ninputs: {{ x: {{ type: {ty} }} }}\n"));
    for (ty, value, told_of) in [
        ("int", "1 + 1", ""),
        ("float", "1 + 1", ""),
        ("int", "1.5", "the input `x` is given a number"),
        ("string", "request.has_tools", "the input `x` is given true or false"),
        ("string", "workload.task_family", ""),
        ("string", "request.message_count", "the input `x` is given a whole number"),
        ("list", "request.tool_names", ""),
        ("map", "request.tool_names", "the input `x` is given a list"),
        ("any", "request.tool_names", ""),
    ] {
        folder.write("drafts/good.yaml", &takes(ty));
        folder.write(
            "drafts/calls.yaml",
            &format!(
                "version: 1\nname: calls\nnodes:\n  - {{ id: a, type: call, workflow: good, inputs: {{ x: \"{value}\" }} }}\n\
                 output: nodes.a.completion\n"
            ),
        );
        let path = folder.path().join("drafts").display().to_string();
        let (_, text) = told(&folder, &["--json", "workflow", "check", &path]).await;
        let problems = json_of(&text)["problems"].clone();
        let first = problems[0]["message"].as_str().unwrap_or_default();
        assert!(first.contains(told_of) && first.is_empty() == told_of.is_empty(), "{ty} {value}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_hosts_are_told_in_sarif() {
    let folder = Folder::default();
    folder.write("workflows/bad.yaml", BAD);
    let file = folder.path().join("workflows/bad.yaml").display().to_string();
    for args in [&["workflow", "check", &file, "--format", "sarif"][..], &["check", "--format", "sarif"]] {
        let (code, text) = told(&folder, args).await;
        let sarif = json_of(&text);
        assert_eq!((code, &sarif["version"]), (2, &json!("2.1.0")), "{text}");
        let run = &sarif["runs"][0];
        let result = run["results"].as_array().unwrap().iter().find(|r| r["ruleId"] == "WF101").unwrap();
        assert_eq!(result["level"], "error");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["region"], json!({"startLine": 3, "startColumn": 36}), "{text}");
        assert!(place["artifactLocation"]["uri"].as_str().unwrap().ends_with("workflows/bad.yaml"), "{text}");
        let rule = json!({"id": "WF101", "shortDescription": {"text": "unknown key"}});
        assert!(run["tool"]["driver"]["rules"].as_array().unwrap().contains(&rule));
    }
}

const STREAMED: &str = "workflow: good
name: NAME
request: { model: auto, stream: true, messages: [{ role: user, content: 'Why is the sky blue?' }] }
calls:
  - at: ask
    reply: { stream: [\"The sky \", { wait: 1h }, \"is blue\"BREAK] }
expect: EXPECT
";

fn streamed(breaks: &str, expect: &str) -> String {
    let stream = STREAMED.replace("BREAK", breaks).replace("NAME", "streamed");
    stream.replace("EXPECT", expect)
}

/// Plays a test; whether it holds, and what it says.
async fn plays(folder: &Folder, test: &str) -> (bool, String) {
    folder.write("one.yaml", test);
    let path = folder.path().join("one.yaml").display().to_string();
    let (code, text) = told(folder, &["workflow", "test", &path]).await;
    (code == 0, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_say_how_an_answer_streams() {
    let folder = Folder::default();
    folder.write("workflows/good.yaml", GOOD);
    let lost = ", { error: stream_lost }";
    for (breaks, expect, holds, why) in [
        ("", "{ text: The sky is blue, stream: { mode: passthrough } }", true, "0 failed"),
        ("", "{ stream: { mode: buffered } }", false, "passthrough: nothing to check"),
        (
            lost,
            "{ error: stream_lost, stream: { mode: passthrough, chunks_before_error: 2 } }",
            true,
            "0 failed",
        ),
        (
            lost,
            "{ error: stream_lost, stream: { chunks_before_error: 1 } }",
            false,
            "stream.chunks_before_error",
        ),
        ("", "{ stream: { chunks_before_error: 2 } }", false, "delivered"),
        (", { error: lost }", "{ error: lost }", false, ""),
        (", { error: timeout }, more", "{ error: timeout }", false, ""),
    ] {
        let (held, text) = plays(&folder, &streamed(breaks, expect)).await;
        assert!(held == holds && text.contains(why), "{breaks} {expect}: {text}");
    }
    // Nothing that a client has seen is taken back; what it has not seen is asked for again.
    let again = "workflow: good
name: lost unseen
request: { model: auto, stream: true, messages: [{ role: user, content: hi }] }
calls:
  - { at: ask, reply: { stream: [{ error: stream_lost }] } }
expect: { error: stream_lost, stream: { chunks_before_error: 0 } }
";
    let (held, text) = plays(&folder, again).await;
    assert!(held, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tests_name_nodes_that_there_are() {
    let folder = Folder::default();
    folder.write("workflows/good.yaml", GOOD);
    let test = |node: &str| {
        format!(
            "workflow: default\nname: plain\nrequest: {{ model: auto, messages: [{{ role: user, content: hi }}] }}\n\
             calls: [{{ at: generate, reply: hello }}]\nexpect: {{ not_run: [{node}] }}\n"
        )
    };
    assert!(plays(&folder, &test("fix")).await.0);
    let (held, text) = plays(&folder, &test("fx")).await;
    assert!(!held && text.contains("has no node `fx`") && text.contains("did you mean `fix`?"), "{text}");
}

/// A case in which every name is wrong, and two keys besides.
const ODD: &str = "\
workflow: good
name: odd
request: { model: auto, mesages: [{ role: user, content: hi }] }
vars: { tone: loud, wrod: bye }
clock: virtul
calls:
  - { at: aks, reply: hello }
  - { at: ask, reply: hello, model: sim/nobody, latncy: 1s }
expect: { path: [asc: ok, ask: oks], not_run: [answr] }
";

/// Mistakes in tests are told as those of every other file: each at its place, in the order of the file, all at once; and
/// `turnout check` tells them, too, whatever else is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_tests_are_told_at_their_places() {
    let folder = Folder::default();
    folder.write("workflows/good.yaml", &GOOD.replacen("nodes:", "vars: { tone: 1, word: hi }\nnodes:", 1));
    folder.write("workflows/tests/good.odd.yaml", ODD);
    folder
        .write("workflows/tests/good.odder.yaml", "workflow: goood\nname: odder\nrequest: []\nexpect: {}\n");
    let all = async |args: &[&str]| -> Vec<(String, u64, u64, String)> {
        let (code, text) = told(&folder, args).await;
        assert_eq!(code, 2, "{text}");
        let value = json_of(&text);
        let row = |p: &Value| {
            let at = |key: &str| p[key].as_u64().unwrap();
            let hint = p["hint"].as_str().unwrap_or_default();
            (p["code"].as_str().unwrap().to_owned(), at("line"), at("column"), hint.to_owned())
        };
        let of_tests = |p: &&Value| p["code"].as_str().unwrap().starts_with("WT");
        value["problems"].as_array().unwrap().iter().filter(of_tests).map(row).collect()
    };
    let want = [
        ("WT104", 3, ""),
        ("WT103", 4, ""),
        ("WT301", 4, "did you mean `word`"),
        ("WT104", 5, ""),
        ("WT320", 7, "did you mean `ask`"),
        ("WT201", 8, ""),
        ("WT101", 8, "did you mean `latency`"),
        ("WT320", 9, "did you mean `ask`"),
        ("WT304", 9, "did you mean `ok`"),
        ("WT320", 9, ""),
        ("WT205", 1, "did you mean `good`"),
        ("WT104", 3, ""),
    ];
    for args in [["--json", "workflow", "test"].as_slice(), &["--json", "check"]] {
        let found = all(args).await;
        let codes: Vec<(&str, u64)> = found.iter().map(|(code, line, ..)| (code.as_str(), *line)).collect();
        assert_eq!(codes, want.map(|(code, line, _)| (code, line)), "{args:?}: {found:#?}");
        for ((.., hint), (code, _, part)) in found.iter().zip(want) {
            assert!(hint.contains(part), "{code}: {hint}");
        }
    }
    // For people, with the line.
    let (_, text) = told(&folder, &["workflow", "test"]).await;
    assert!(text.contains("at: aks") && text.contains("^^^"), "{text}");
    // Their form is told where another file keeps their names from being looked up.
    folder.write("routing_rules.yaml", "ruless: []\n");
    let codes: Vec<String> = all(&["--json", "check"]).await.into_iter().map(|(code, ..)| code).collect();
    assert!(["WT101", "WT104"].iter().all(|c| codes.iter().any(|code| code == c)), "{codes:?}");
    assert!(!codes.iter().any(|code| code == "WT205"), "{codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_what_is_usual_and_how_it_streams() {
    let folder = Folder::default();
    let (code, text) = told(&folder, &["--json", "workflow", "plan", "default"]).await;
    let plan = json_of(&text);
    assert_eq!(code, 0, "{text}");
    let (calls, most) = (plan["typical"]["calls"].as_f64().unwrap(), plan["most"]["calls"].as_f64().unwrap());
    assert!((1.0..2.0).contains(&calls) && most > 2.0, "{text}");
    assert_eq!(plan["stream"]["text"], "passthrough: nothing to check and one source", "{text}");
    assert_eq!(plan["stream"]["json_object"], "buffered: `contract` must see the whole answer", "{text}");
    assert_eq!(plan["stream"]["tools"], "windowed: `contract` holds back calls of tools alone", "{text}");
    let (_, vote) = told(&folder, &["workflow", "plan", "consensus_vote"]).await;
    assert!(vote.contains("stream   text: buffered: several sources, a judge, a condition"), "{vote}");
    assert!(vote.contains("usually "), "{vote}");

    // For a request, without a key: what rules have to say, and the longest way.
    folder.write("request.json", &json!({"messages": [{"role": "user", "content": "hello"}]}).to_string());
    folder.write(
        "routing_rules.yaml",
        "version: 1\nrules:\n  - { id: short, when: request.message_count == 1, actions: { cap_tokens: 900 } }\n",
    );
    let file = folder.path().join("request.json").display().to_string();
    let routed = ["workflow", "plan", "default", "--request", &file, "--simulated"];
    let (code, text) = told(&folder, &routed).await;
    assert_eq!(code, 0, "{text}");
    for part in [
        "profile  ",
        "rule     short: cap_tokens 900 (applied)",
        "chosen   default on sim/",
        "time     at most ",
        "115s",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let (_, text) = told(&folder, &[&["--json"][..], &routed].concat()).await;
    assert_eq!(json_of(&text)["time"]["longest_way_ms"], 115_000, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_goes_its_way_on_stubs() {
    let folder = Folder::default();
    let run = ["--json", "workflow", "run", "default", "--simulated", "--dry", "--message", "hello"];
    let (code, text) = told(&folder, &run).await;
    let stubbed = &json_of(&text)["stubbed"];
    assert_eq!((code, &stubbed["outcome"], &stubbed["calls"]), (0, &json!("delivered"), &json!(1)), "{text}");
    assert_eq!(stubbed["text"], "[stub] primary of node generate");
    assert_eq!(stubbed["path"][0], json!(["generate", "ok"]));

    // A form that is asked for is kept to; judges grade, and tools answer.
    folder.write(
        "workflows/judged.yaml",
        "version: 1\nname: judged\nnodes:\n  - { id: ask, type: generate, samples: 2 }\n  - { id: rank, type: judge, input: \
         nodes.ask.completions, route: { strategy: cheapest }, independent: any }\n  - { id: answer, type: stream, from: nodes.rank.best }\n\
         edges:\n  - { from: ask, to: rank }\n  - { from: rank, to: answer }\n",
    );
    let request = json!({"messages": [{"role": "user", "content": "Ada"}], "response_format": {"type": "json_schema",
        "json_schema": {"name": "p", "schema": {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer"}}}}}});
    folder.write("request.json", &request.to_string());
    let file = folder.path().join("request.json").display().to_string();
    let (_, text) =
        told(&folder, &["--json", "workflow", "run", "judged", "--simulated", "--dry", "--request", &file])
            .await;
    let told_of = json_of(&text);
    assert_eq!(told_of["stubbed"]["text"], r#"{"age":0}"#, "{text}");
    assert_eq!(told_of["stubbed"]["path"][1], json!(["rank", "scored"]), "{text}");
    assert!(told_of["stream"].as_str().unwrap().starts_with("buffered"), "{text}");
}
