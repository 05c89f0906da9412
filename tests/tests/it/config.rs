//! Configuration that is wrong never runs: `turnout check` lists every problem of every file with its place,
//! what was expected and a hint, and `serve` refuses to start.

use serde_json::{Value, json};
use tests::admin::{Admin, get};
use tests::folder::Folder;
use tests::house::{Model, Plan, cli, cli_into};

const MATRIX: &str = "version: 1
providers:
  lab:
    dialect: simulated
    tier: free
models:
  lab/one:
    context_window: 8000
    max_output_tokens: 1000
    abilities: [streaming, tools, json]
    price: { input: 1, cached_input: 1, output: 1 }
    quality_tier: 2
    speed_tier: 1
    prior: { success: { default: 0.7 } }
    simulate: { success: { default: 0.9 } }
";

const WORKFLOW: &str = "version: 1
name: own
nodes:
  - id: answer
    type: generate
  - id: check
    type: validate
    validators: [contract]
  - id: out
    type: stream
    from: nodes.check.best
edges:
  - { from: answer, to: check }
  - { from: check, to: out }
";

fn plan() -> Plan {
    Plan::new()
        .file("capability_matrix.yaml", MATRIX)
        .file("routing_rules.yaml", "version: 1\nrules: []\n")
        .file("workflows/own.yaml", WORKFLOW)
}

/// What `turnout check --json` says: success, and the problems.
async fn check(plan: &Plan) -> (bool, Vec<Value>) {
    let folder = plan.write();
    let output = cli(&folder, &["check", "--json"]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let json: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let list = if json.is_array() { &json } else { &json["problems"] };
    let problems = list.as_array().unwrap_or_else(|| panic!("no list of problems: {json}")).clone();
    (output.status.success(), problems)
}

fn errors(problems: &[Value]) -> Vec<&Value> {
    problems.iter().filter(|p| p["severity"] == "error").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_passes() {
    let (good, problems) = check(&plan()).await;
    assert!(good && errors(&problems).is_empty(), "{problems:?}");
    // Nothing but what is built in.
    let (good, problems) = check(&Plan::new()).await;
    assert!(good && errors(&problems).is_empty(), "{problems:?}");
}

/// One broken file each: name of the file, what to replace, by what, and what the message must speak of.
fn broken() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    let matrix = "capability_matrix.yaml";
    let rules = "routing_rules.yaml";
    let workflow = "workflows/own.yaml";
    vec![
        (matrix, "dialect: simulated", "dialect: opnai_chat", "openai_chat"),
        (matrix, "tier: free", "teir: free", "tier"),
        (matrix, "tier: free", "tier: gratis", "free"),
        (matrix, "context_window: 8000", "context_window: lots", "context_window"),
        (matrix, "context_window: 8000", "context_window: -1", "context_window"),
        (matrix, "input: 1,", "input: -1,", "input"),
        (matrix, "lab/one:", "nobody/one:", "nobody"),
        (matrix, "[streaming, tools, json]", "[streaming, tolls]", "tools"),
        (matrix, "quality_tier: 2", "quality_tier: 9", "quality_tier"),
        (matrix, "default: 0.7", "default: 1.7", "1.7"),
        (matrix, "default: 0.7", "codng: 0.7", "coding"),
        (matrix, "    speed_tier: 1\n", "    speed_tier: 1\n    speed_tier: 2\n", "speed_tier"),
        (matrix, "version: 1", "version: 2", "version"),
        (matrix, "models:", "models: [", ""),
        (rules, "rules: []", "ruels: []", "rules"),
        (
            rules,
            "rules: []",
            "rules:\n  - id: a\n    when: workload.task_familly == \"chat\"\n    actions: { tag: { a: b } }",
            "task_family",
        ),
        (
            rules,
            "rules: []",
            "rules:\n  - id: a\n    when: workload.task_family == \"chatt\"\n    actions: { tag: { a: b } }",
            "chat",
        ),
        (rules, "rules: []", "rules:\n  - id: a\n    when: 1 +\n    actions: { tag: { a: b } }", ""),
        (
            rules,
            "rules: []",
            "rules:\n  - id: a\n    when: request.message_count\n    actions: { tag: { a: b } }",
            "true or false",
        ),
        (rules, "rules: []", "rules:\n  - id: a\n    actions: { exlude: [lab/one] }", "exclude"),
        (rules, "rules: []", "rules:\n  - id: a\n    actions: { exclude: [lab/two] }", "lab/two"),
        (rules, "rules: []", "rules:\n  - id: a\n    actions: { workflow: onw }", "own"),
        (rules, "rules: []", "rules:\n  - id: a\n    actions: { cap_temperature: warm }", "cap_temperature"),
        (rules, "rules: []", "rules:\n  - id: a\n    actions: {}", "actions"),
        (
            rules,
            "rules: []",
            "rules:\n  - id: a\n    actions: { tag: { a: b } }\n  - id: a\n    actions: { tag: { a: c } }",
            "a",
        ),
        (rules, "rules: []", "exploration: { epsilon: 7 }", "epsilon"),
        (workflow, "type: validate", "type: valdate", "validate"),
        (workflow, "name: own", "name: other", "own"),
        (workflow, "to: check }", "to: chek }", "check"),
        (workflow, "[contract]", "[contrakt]", "contract"),
        (
            workflow,
            "  - { from: check, to: out }",
            "  - { from: check, to: out }\n  - { from: check, to: answer }",
            "circle",
        ),
        (workflow, "nodes.check.best", "nodes.chek.best", "chek"),
        (workflow, "type: generate", "type: generate\n    timeout: 5", "timeout"),
        (workflow, "type: generate", "type: generate\n    timeout: 5s\n    timeuot: 5s", "timeout"),
        (workflow, "type: generate", "type: loop", "max_iterations"),
        (workflow, "    from: nodes.check.best", "\tfrom: nodes.check.best", ""),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_mistake_is_found_in_its_place() {
    let mut wrong = Vec::new();
    for (file, from, to, speaks_of) in broken() {
        let text = match file {
            "capability_matrix.yaml" => MATRIX,
            "workflows/own.yaml" => WORKFLOW,
            _ => "version: 1\nrules: []\n",
        };
        assert!(text.contains(from), "{file}: {from}");
        let (good, problems) = check(&plan().file(file, &text.replacen(from, to, 1))).await;
        let errors = errors(&problems);
        let case = format!("{file}: `{to}`: {problems:?}");
        let Some(first) = errors.iter().find(|e| e.to_string().contains(speaks_of)) else {
            wrong.push(format!("does not speak of `{speaks_of}`: {case}"));
            continue;
        };
        let placed = first["line"].as_u64().is_some_and(|l| l >= 1)
            && first["column"].as_u64().is_some_and(|c| c >= 1);
        if good || !placed || !first["file"].as_str().is_some_and(|f| f.ends_with(file)) {
            wrong.push(format!("passes, or has no place: {case}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_problems_of_all_files_come_at_once_and_nothing_starts() {
    let plan = plan()
        .file(
            "capability_matrix.yaml",
            &MATRIX.replace("tier: free", "tier: gratis").replace("input: 1,", "input: -1,"),
        )
        .file("routing_rules.yaml", "version: 1\nruels: []\n")
        .file("workflows/own.yaml", &WORKFLOW.replace("type: validate", "type: valdate"))
        .file(
            "policies/bad.rhai",
            "fn describe() { #{ id: \"bad\" } }\nfn on_request(ctx, act) { act.exlude([\"x\"]) }\n",
        )
        .file("turnout.yaml", "edge:\n  header_timeout: 10\nlisten: 127.0.0.1:0\n");
    let (good, problems) = check(&plan).await;
    assert!(!good);
    for file in ["capability_matrix.yaml", "routing_rules.yaml", "own.yaml", "bad.rhai", "turnout.yaml"] {
        let found = errors(&problems).iter().any(|p| p["file"].as_str().is_some_and(|f| f.ends_with(file)));
        assert!(found, "nothing of {file} in {problems:#?}");
    }
    let matrix = |p: &&&Value| p["file"].as_str().is_some_and(|f| f.ends_with("capability_matrix.yaml"));
    assert!(
        errors(&problems).iter().filter(matrix).count() >= 2,
        "only the first of the matrix: {problems:#?}"
    );

    let folder = plan.write();
    let output = cli(&folder, &["serve", "--listen", "127.0.0.1:0"]).await;
    assert!(!output.status.success(), "it started on a broken configuration");
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    for part in ["capability_matrix.yaml:5:", "gratis", "ruels", "valdate", "exlude", "header_timeout"] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    assert!(!folder.path().join("data/outcomes.db").exists());
}

/// `check` for people shows the line with a caret, and what would have been right.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_sees_the_line() {
    let folder = plan().file("capability_matrix.yaml", &MATRIX.replace("tier: free", "teir: free")).write();
    let output = cli(&folder, &["check"]).await;
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    assert!(text.contains("teir: free") && text.contains('^') && text.contains("`tier`"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_command_lines_are_told_so() {
    let folder = Plan::new().simulated("lab").model(&Model::new("lab/one")).write();
    for args in [&["srve"][..], &["serve", "--listen", "nowhere"], &["explain"], &["check", "--jsn"], &[]] {
        let output = cli(&folder, args).await;
        let text =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && !text.is_empty(), "{args:?}: {text}");
    }
    let missing = cli(&folder, &["explain", "req_nobody"]).await;
    assert!(!missing.status.success());
    for shell in ["bash", "zsh", "fish"] {
        let output = cli(&folder, &["completions", shell]).await;
        assert!(output.status.success() && output.stdout.len() > 100, "{shell}");
    }
}

/// What is built in can be printed, and is good as a configuration of one's own.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_built_in_is_printed() {
    let (folder, copy) = (Folder::default(), Folder::default());
    let listed = cli(&folder, &["defaults"]).await;
    let names = String::from_utf8(listed.stdout).unwrap();
    assert!(names.contains("routing_rules.yaml") && names.contains("workflows/default.yaml"), "{names}");
    for name in names.lines() {
        let text = String::from_utf8(cli(&folder, &["defaults", name]).await.stdout).unwrap();
        assert!(text.contains("version: 1"), "{name}: {text}");
        copy.write(name, &text);
    }
    let checked = cli(&copy, &["check", "--deny-warnings"]).await;
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    let wrong = cli(&folder, &["defaults", "routing_rule.yaml"]).await;
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(wrong.status.code() == Some(2) && said.contains("did you mean `routing_rules.yaml`"), "{said}");
}

/// What cannot be written is lost, and the exit code says so; only a reader that left is no error.
#[tokio::test(flavor = "multi_thread")]
async fn output_that_is_lost_is_told() {
    let folder = Folder::default();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let lost = cli_into(&folder, &["completions", "bash"], full).await;
    assert_eq!(lost.status.code(), Some(2), "{lost:?}");
    assert!(String::from_utf8_lossy(&lost.stderr).contains("cannot be written"), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_as_json_is_json() {
    let house = plan().start().await;
    for args in [
        &["workflow", "graph", "default", "--json"][..],
        &["workflow", "new", "default", "mine", "--json"],
        &["bundle", "show", "active", "routing_rules.yaml", "--json"],
    ] {
        let said = house.cli(args).await;
        assert!(said.status.success(), "{args:?}: {said:?}");
        let told: Result<Value, _> = serde_json::from_slice(&said.stdout);
        assert!(told.is_ok_and(|v| v.is_object()), "{args:?}: {said:?}");
    }
}

/// `check` says of an address what `serve` would say.
#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_checked_before_a_start() {
    let folder = plan().settings("listen: 8080\nadmin: { listen: \"0.0.0.0:1\" }\n").write();
    let checked = cli(&folder, &["check", "--json"]).await;
    let told: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let fields: Vec<&str> =
        told["problems"].as_array().unwrap().iter().filter_map(|p| p["field"].as_str()).collect();
    assert_eq!(
        (checked.status.code(), fields.as_slice()),
        (Some(2), &["listen", "admin.listen"][..]),
        "{told}"
    );
}

/// What is served with simulated models is another bundle, and both places say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_the_bundle_that_is_served() {
    let folder = plan().write();
    let check = async |args: &[&str]| {
        let checked = cli(&folder, args).await;
        assert!(checked.status.success(), "{checked:?}");
        String::from_utf8(checked.stdout).unwrap()
    };
    let bundle = |json: &str| -> String {
        let told: Value = serde_json::from_str(json).unwrap();
        told["bundle"].as_str().unwrap().to_owned()
    };
    let plain = bundle(&check(&["check", "--json"]).await);
    let simulated = bundle(&check(&["check", "--simulated", "--json"]).await);
    assert_ne!(plain, simulated);
    let told = check(&["check", "--simulated"]).await;
    assert!(told.contains(&format!("bundle {simulated} with simulated models")), "{told}");
    let house = plan().start().await;
    let ask = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(house.client().chat(&ask).await.header("x-turnout-bundle"), Some(&*plain));
}

/// An address that others reach is no mistake, and a start without a key refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_others_reach_is_told_of() {
    for (settings, args, told) in [
        ("listen: 0.0.0.0:8080\n", &["check", "--json"][..], 1),
        ("", &["check", "--json", "--listen", "0.0.0.0:8080"], 1),
        ("listen: 127.0.0.1:8080\n", &["check", "--json"], 0),
    ] {
        let checked = cli(&plan().settings(settings).write(), args).await;
        let said: Value = serde_json::from_slice(&checked.stdout).unwrap();
        let notes = said["notes"].as_array().unwrap();
        assert_eq!((checked.status.code(), notes.len()), (Some(0), told), "{said}");
        assert!(notes.iter().all(|n| n.as_str().unwrap().contains("turnout key create")), "{said}");
    }
}

/// The control API has an address of its own, which other machines cannot reach.
#[tokio::test(flavor = "multi_thread")]
async fn the_control_api_is_served_at_its_own_address_or_nowhere() {
    let plan = |admin: &str| plan().settings(&format!("admin: {{ listen: \"{admin}\" }}\n"));
    let folder = plan("0.0.0.0:0").write();
    let refused = cli(&folder, &["serve", "--listen", "127.0.0.1:0"]).await;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && told.contains("admin.listen") && told.contains("loopback"),
        "{told}"
    );

    let house = plan("127.0.0.1:0").start().await;
    let admin = Admin::of(&house);
    assert_eq!(admin.call("GET", "/keys", &Value::Null).await.status, 200);
    let at_main = get(house.client(), &admin.token, "/admin/v1/keys").await;
    assert_eq!(at_main.status, 404, "{}", at_main.text());

    let house = plan("none").start().await;
    assert!(!house.folder().path().join("data/admin").exists());
    assert_eq!(house.client().get("/admin/v1/keys").await.status, 404);
}
