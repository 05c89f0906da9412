//! Authoring workflows: the guide works as it stands, and everything the command line tells is served over HTTP.

use serde_json::{Value, json};
use tests::admin::{Admin, get, send};
use tests::folder::Folder;
use tests::house::{House, Model, Plan, cli};
use tests::vendor::{Dialect, Reply, Vendor};

const GUIDE: &str = include_str!("../../../docs/workflows.md");

/// The code blocks of a document, in order: language and text.
fn blocks(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (language, after) = after.split_once('\n').unwrap();
        let (body, after) = after.split_once("\n```").unwrap();
        found.push((language, body));
        rest = after;
    }
    found
}

/// Words of a command, quoted ones whole.
fn words(line: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => all.push(String::new()),
            c => all.last_mut().unwrap().push(c),
        }
    }
    all
}

/// Every file of the guide is written and every command run, in order; what the guide says they print, they print,
/// and where it shows no problems they succeed.
#[tokio::test(flavor = "multi_thread")]
async fn the_guide_works_as_it_stands() {
    let folder = Folder::default();
    let all = blocks(GUIDE);
    let (mut files, mut commands) = (0, 0);
    for (i, (language, body)) in all.iter().enumerate() {
        let file = body.lines().next().and_then(|l| l.strip_prefix("# workflows/"));
        if let (&"yaml", Some(name)) = (language, file) {
            folder.write(&format!("workflows/{name}"), &format!("{body}\n"));
            files += 1;
        } else if *language == "yaml" {
            fragment(body).await;
        }
        if *language != "sh" {
            continue;
        }
        let shown = all.get(i + 1).filter(|(l, _)| *l == "text").map(|(_, text)| *text);
        let mut printed = String::new();
        for line in body.lines().filter(|l| l.starts_with("turnout ")) {
            let line = line.replace("--out ", &format!("--out {}/", folder.path().display()));
            let line = words(&line);
            let args: Vec<&str> = line.iter().skip(1).map(String::as_str).collect();
            let done = cli(&folder, &args).await;
            let said = [&done.stdout[..], &done.stderr[..]].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            let expects_errors = shown.is_some_and(|s| s.contains("error["));
            assert_eq!(done.status.success(), !expects_errors, "{args:?}: {said}");
            printed.push_str(&said);
            commands += 1;
        }
        for line in shown.unwrap_or_default().lines() {
            assert!(printed.contains(line.trim()), "{line:?} is not in {printed}");
        }
    }
    assert!(files >= 5 && commands >= 10, "{files} files, {commands} commands");
    let summary = std::fs::read_to_string(folder.path().join("workflows/summary.yaml")).unwrap();
    let house = Plan::new().demo().file("workflows/summary.yaml", &summary).start().await;
    let (path, body) = all.iter().find_map(|(_, body)| curl(body)).expect("the guide shows a live request");
    let answer = house.client().post(&path, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-turnout-workflow"), Some("summary"));
    assert!(!answer.content().is_empty());
}

/// Path and body of a `curl` line that sends JSON to the usual address.
fn curl(block: &str) -> Option<(String, Value)> {
    let command = block.strip_prefix("$ curl ")?;
    let (_, after) = command.split_once("localhost:8080")?;
    let path = after.split_whitespace().next()?.to_owned();
    let (_, body) = after.split_once("-d '")?;
    Some((path, serde_json::from_str(body.split_once('\'')?.0).expect("the body is JSON")))
}

/// A part of a file, put where it belongs: nothing about its shape may be wrong. What it names stands elsewhere.
async fn fragment(body: &str) {
    let folder = Folder::default();
    let file = if body.trim_start().starts_with("- ") {
        format!("version: 1\nname: part\nnodes:\n{body}\n")
    } else {
        let rest = "nodes: [{ id: zz, type: generate }]\noutput: nodes.zz.completion";
        format!("version: 1\nname: part\n{body}\n{rest}\n")
    };
    folder.write("workflows/part.yaml", &file);
    let checked = cli(&folder, &["--json", "workflow", "check"]).await;
    let checked: Value = serde_json::from_slice(&checked.stdout).unwrap();
    for p in checked["problems"].as_array().unwrap() {
        let code = p["code"].as_str().unwrap();
        assert!(!code.starts_with("WF0") && !code.starts_with("WF1"), "{p}\n{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_clean_tested_and_in_its_usual_form() {
    let folder = Folder::default();
    for template in ["default", "json_extraction", "cheap_first_cascade", "rag_grounded"] {
        let name = format!("my_{template}");
        for args in [
            &["workflow", "new", template, &name][..],
            &["workflow", "check", "--deny-warnings"],
            &["workflow", "fmt", "--check"],
            &["workflow", "plan", &name],
            &["workflow", "graph", &name],
        ] {
            let done = cli(&folder, args).await;
            assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        }
        let same = cli(&folder, &["--json", "workflow", "diff", template, &name]).await;
        let same: Value = serde_json::from_slice(&same.stdout).unwrap();
        assert_eq!(same["same"], true, "{same}");
        let text = std::fs::read_to_string(folder.path().join(format!("workflows/{name}.yaml"))).unwrap();
        assert!(text.starts_with("# yaml-language-server: $schema=workflow.v1.json\n"));
    }
    let played = cli(&folder, &["workflow", "test"]).await;
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stdout));
    let again = cli(&folder, &["workflow", "new", "default", "my_default"]).await;
    assert_eq!(again.status.code(), Some(2), "a file that is there is not overwritten");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_kept_and_replayed() {
    let folder = Folder::default();
    let data = folder.path().join("kept");
    let data = data.to_str().unwrap();
    let args = ["--json", "--data", data, "workflow", "run", "default", "--simulated", "--message", "hello"];
    let done = cli(&folder, &args).await;
    let run: Value = serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&done.stderr)));
    assert_eq!(run["status"], "succeeded", "{run}");
    let id = run["id"].as_str().unwrap();
    let replayed = cli(&folder, &["--data", data, "workflow", "replay", id]).await;
    let said = String::from_utf8_lossy(&replayed.stdout).into_owned();
    assert!(replayed.status.success() && said.contains("the same to the byte"), "{said}{replayed:?}");
    let missing = cli(&folder, &["--data", data, "workflow", "replay", "run_nope"]).await;
    assert_eq!(missing.status.code(), Some(2));
}

/// A run becomes a test that plays and says the same, and a drawing coloured by it; both from the folder it is kept in.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_becomes_a_test_and_a_drawing() {
    let folder = Folder::default();
    let data = folder.path().join("kept");
    let data = data.to_str().unwrap();
    let made = cli(&folder, &["workflow", "new", "default", "mine"]).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let args = ["--json", "--data", data, "workflow", "run", "mine", "--simulated", "--message", "hello"];
    let done = cli(&folder, &args).await;
    let run: Value = serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&done.stderr)));
    let id = run["id"].as_str().unwrap();
    let said = |o: &std::process::Output| {
        String::from_utf8_lossy(&[&o.stdout[..], &o.stderr[..]].concat()).into_owned()
    };

    let recorded = cli(&folder, &["--data", data, "workflow", "test", "--record", id]).await;
    assert!(recorded.status.success(), "{}", said(&recorded));
    let file = folder.path().join(format!("workflows/tests/mine.{id}.yaml"));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("hello") && text.contains("outcome: delivered"), "{text}");
    assert!(said(&recorded).contains("1 tests, 0 failed"), "{}", said(&recorded));
    // It is a test like any other: it fails when something else comes of it.
    let path = file.to_str().unwrap();
    assert!(cli(&folder, &["workflow", "test", path]).await.status.success());
    std::fs::write(&file, text.replace("exact", "max").replace("outcome: delivered", "outcome: failed"))
        .unwrap();
    let failing = cli(&folder, &["workflow", "test", path]).await;
    assert_eq!(failing.status.code(), Some(2), "{}", said(&failing));
    let again = cli(&folder, &["--data", data, "workflow", "test", "--record", id]).await;
    assert!(!again.status.success() && said(&again).contains("exists"), "{}", said(&again));

    let drawn = cli(&folder, &["--data", data, "workflow", "graph", "mine", "--run", id]).await;
    let text = said(&drawn);
    assert!(
        drawn.status.success() && text.contains(" ms") && text.contains("style n_answer fill:"),
        "{text}"
    );
    assert!(text.contains("passed") && text.contains("skipped"), "{text}");
    let plain = said(&cli(&folder, &["workflow", "graph", "mine"]).await);
    assert!(!plain.contains("style n_"), "{plain}");
    let other = cli(&folder, &["--data", data, "workflow", "graph", "default", "--run", id]).await;
    assert!(!other.status.success() && said(&other).contains("a run of `mine`"), "{}", said(&other));
}

/// What a run was given is part of the test that is made of it, and a failure is told in the words of clients.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_inputs_becomes_a_test() {
    let folder = Folder::default();
    let data = folder.path().join("kept");
    let data = data.to_str().unwrap();
    let text = "version: 1\nname: about\ninputs: { topic: { type: string, required: true } }\nnodes:\n  \
                - { id: told, type: merge, method: template, from: [], template: \"${ inputs.topic }\" }\n  \
                - { id: more, type: set, when: inputs.topic == \"much\", values: { a: \"[1][inputs.topic.len()]\" } }\n  \
                - { id: answer, type: stream, from: nodes.told.completion }\nedges:\n  - { from: told, to: more }\n  \
                - { from: more, to: answer, outcome: [ok, skipped] }\n";
    folder.write("workflows/about.yaml", text);
    let said = |o: &std::process::Output| {
        String::from_utf8_lossy(&[&o.stdout[..], &o.stderr[..]].concat()).into_owned()
    };
    for (topic, parts) in [
        ("rain", ["topic: rain", "outcome: delivered"]),
        ("much", ["topic: much", "error: expression.runtime"]),
    ] {
        let input = format!("topic={topic}");
        let args = ["--json", "--data", data, "workflow", "run", "about", "--simulated", "--input", &input];
        let done = cli(&folder, &args).await;
        let run: Value =
            serde_json::from_slice(&done.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&done)));
        let id = run["id"].as_str().unwrap();
        let recorded = cli(&folder, &["--data", data, "workflow", "test", "--record", id]).await;
        assert!(recorded.status.success(), "{topic}: {}{run:#}", said(&recorded));
        let written = folder.path().join(format!("workflows/tests/about.{id}.yaml"));
        let text = std::fs::read_to_string(&written).unwrap();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}

/// A house whose one model is never asked.
async fn house() -> (Vendor, House) {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let about = "version: 1\nname: about\nrevision: \"7\"\ndurability: exit\ninputs:\n  topic: { type: string, required: true }\n  \
                 days: { type: int, default: 3 }\nlimits: { wall: 90s, tokens: 4000, calls: 5, parallel: 2, finish_reserve: 1s, on_exhausted: fail }\n\
                 nodes:\n  - { id: told, type: merge, method: template, from: [], template: \"${ inputs.topic }\" }\n\
                 output: nodes.told.completion\n";
    let plan = Plan::new().vendor("alpha", &vendor).model(&Model::new("alpha/one"));
    let house = plan.file("workflows/about.yaml", about).start().await;
    (vendor, house)
}

fn request() -> Value {
    json!({"messages": [{"role": "user", "content": "Why is the sky blue?"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_command_line_tells_is_served() {
    let (vendor, house) = house().await;
    let client = house.client();
    let list = client.get("/v1/workflows").await.json();
    let names: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|w| w["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"default") && names.contains(&"rag_grounded"), "{list}");
    let one = client.get("/v1/workflows/default").await.json();
    assert!(one["source"].as_str().unwrap().contains("name: default") && one["serves"] == true, "{one}");
    for (format, start) in [("mermaid", "flowchart"), ("dot", "digraph"), ("svg", "<svg")] {
        let drawn = client.get(&format!("/v1/workflows/default/graph?format={format}")).await;
        assert!(drawn.status == 200 && drawn.text().contains(start), "{}", drawn.text());
    }
    let plan = client.get("/v1/workflows/default/plan").await.json();
    assert!(plan["most"]["calls"].as_u64().unwrap() >= 1 && plan["nodes"].is_array(), "{plan}");
    let dry = client.post("/v1/workflows/default/dry_run", &json!({"request": request()})).await.json();
    assert_eq!(dry["bound"]["nodes"][0]["models"], json!(["alpha/one"]), "{dry}");
    assert_eq!(dry["decision"]["arms"][0]["workflow"], "default");
    // Who would ask for it learns what it takes, and what it may use.
    let told = client.get("/v1/workflows/about").await.json();
    let inputs =
        json!({"topic": {"type": "string", "required": true}, "days": {"type": "int", "default": 3}});
    assert_eq!((&told["inputs"], &told["revision"]), (&inputs, &json!("7")), "{told}");
    assert_eq!(told["durability"], "exit", "{told}");
    let limits = json!({"usd": null, "enough_usd": 1.0, "wall_ms": 90_000, "tokens": 4_000, "enough_tokens": null, "calls": 5,
        "node_runs": 200, "parallel": 2, "finish_reserve_ms": 1_000, "on_exhausted": "fail"});
    assert_eq!(told["limits"], limits, "{told}");
    // What a request says by its model holds on the way through a workflow, too.
    for (model, economy) in [("auto:best", "best_possible"), ("auto:cheapest", "cheapest")] {
        let mut request = request();
        request["model"] = json!(model);
        let dry = client.post("/v1/workflows/default/dry_run", &json!({"request": request})).await.json();
        let axes = dry["decision"]["profile"].as_array().unwrap();
        let asked = axes.iter().find(|a| a["axis"] == "economic_policy");
        assert_eq!(asked.unwrap()["value"], economy, "{model}: {axes:?}");
        assert_eq!(dry["decision"]["arms"][0]["workflow"], "default");
    }

    let text =
        "version: 1\nname: own\nnodes: [{ id: a, type: generate, sampels: 2 }]\noutput: nodes.a.completion\n";
    let checked = client.post("/v1/workflows/check", &json!({"name": "own", "text": text})).await.json();
    assert_eq!(checked["good"], false);
    let p = &checked["problems"][0];
    assert_eq!((&p["code"], &p["line"], &p["column"]), (&json!("WF101"), &json!(3), &json!(34)), "{p}");
    let mended = text.replace("sampels", "samples");
    let checked = client.post("/v1/workflows/check", &json!({"name": "own", "text": mended})).await.json();
    assert_eq!(checked, json!({"good": true, "problems": []}));
    assert_eq!(client.get("/v1/workflows/own").await.status, 404, "nothing is kept");

    let case = "workflow: default\nname: plain\nrequest: { model: auto, messages: [{ role: user, content: hi }] }\n\
                calls: [{ at: generate, reply: hello }]\nexpect: { text: hello }\n";
    let played = client.post("/v1/workflows/default/test", &json!({"test": case})).await.json();
    assert_eq!(played["good"], true, "{played}");
    let failing = case.replace("text: hello", "text: bye");
    let played = client.post("/v1/workflows/default/test", &json!({"test": failing})).await.json();
    assert_eq!(
        (&played["good"], &played["failures"][0]["what"]),
        (&json!(false), &json!("text")),
        "{played}"
    );
    assert_eq!(vendor.count(), 0, "a model was called");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_an_error_object() {
    let (_vendor, house) = house().await;
    let client = house.client();
    let missing = client.get("/v1/workflows/defalt").await.error(404);
    assert_eq!((&missing["code"], &missing["param"]), (&json!("unknown_workflow"), &json!("name")));
    assert!(missing["message"].as_str().unwrap().contains("did you mean `default`"), "{missing}");
    assert_eq!(client.get("/v1/workflows/default/graph?format=png").await.error(400)["param"], "format");
    assert_eq!(
        client.get("/v1/workflows/default/plan?input_tokens=x").await.error(400)["param"],
        "input_tokens"
    );
    for path in ["plan?input_token=10", "graph?fromat=svg"] {
        let unknown = client.get(&format!("/v1/workflows/default/{path}")).await.error(400);
        assert_eq!(unknown["code"], "unknown_parameter", "{unknown}");
        assert!(unknown["message"].as_str().unwrap().contains("did you mean"), "{unknown}");
    }
    let inputs = json!({"request": request(), "inputs": {"topic": 1}});
    let refused = client.post("/v1/workflows/default/dry_run", &inputs).await.error(400);
    assert_eq!(refused["param"], "inputs", "{refused}");
    let wrong = json!({"name": "../x", "text": ""});
    assert_eq!(client.post("/v1/workflows/check", &wrong).await.error(400)["param"], "name");
    let wrong =
        client.post("/v1/workflows/default/test", &json!({"test": "workflow: default\n"})).await.error(400);
    assert_eq!(wrong["code"], "invalid_test");
    assert!(wrong["metadata"]["problems"].as_array().unwrap().len() >= 2, "{wrong}");
    assert_eq!(
        client.post("/v1/workflows/default/dry_run", &json!({"request": {}})).await.error(400)["param"],
        "request"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn scopes_hold_for_workflows() {
    let (_vendor, house) = house().await;
    let admin = Admin::of(&house);
    let (_, chat) = admin.key(json!({"scopes": {"endpoints": ["chat"]}})).await;
    let (_, own) = admin.key(json!({"scopes": {"endpoints": ["workflows"]}})).await;
    assert_eq!(get(house.client(), &chat, "/v1/workflows").await.error(403)["code"], "not_allowed");
    assert_eq!(get(house.client(), &own, "/v1/workflows").await.status, 200);
    let dry = json!({"request": request()});
    assert_eq!(send(house.client(), &chat, "/v1/workflows/default/dry_run", &dry).await.status, 403);
    assert_eq!(send(house.client(), &own, "/v1/workflows/default/dry_run", &dry).await.status, 200);
    assert_eq!(house.client().get("/v1/workflows").await.error(401)["code"], "missing_api_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_sees_no_workflow_but_its_own() {
    let (_vendor, house) = house().await;
    let admin = Admin::of(&house);
    let key = async |name: &str| admin.key(json!({"scopes": {"workflows": [name]}})).await.1;
    let (default, other) = (key("default").await, key("consensus_vote").await);
    let listed = get(house.client(), &default, "/v1/workflows").await.json();
    let names: Vec<&str> =
        listed["data"].as_array().unwrap().iter().filter_map(|w| w["name"].as_str()).collect();
    assert_eq!(names, ["default"]);
    let dry = json!({"request": request()});
    for path in ["", "/graph", "/plan"] {
        let path = |name: &str| format!("/v1/workflows/{name}{path}");
        assert_eq!(get(house.client(), &default, &path("default")).await.status, 200);
        let hidden = get(house.client(), &default, &path("json_extraction")).await.error(404);
        let absent = get(house.client(), &default, &path("nothing_such")).await.error(404);
        assert_eq!(hidden["code"], absent["code"]);
        assert!(
            !hidden.to_string().contains("json_extraction") && !absent.to_string().contains("hard_coding")
        );
    }
    let path = "/v1/workflows/json_extraction/dry_run";
    assert_eq!(send(house.client(), &default, path, &dry).await.status, 404);
    // A model by its name is the workflow `default`, which the other key may not use.
    let models = async |key: &str| get(house.client(), key, "/v1/models").await.text();
    let (of_default, of_other) = (models(&default).await, models(&other).await);
    assert!(
        of_default.contains("\"kind\":\"model\"") && !of_other.contains("\"kind\":\"model\""),
        "{of_other}"
    );
    assert!(
        of_other.contains("workflow/consensus_vote") && !of_other.contains("workflow/default"),
        "{of_other}"
    );
    // Nor does that workflow offer itself, so that there is nothing to choose.
    assert!(of_default.contains("\"auto\"") && !of_other.contains("\"auto"), "{of_other}");
}
