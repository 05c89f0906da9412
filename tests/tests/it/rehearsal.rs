//! What tests of workflows say: which call of a tool gets which result, and what the run may use.

use serde_json::{Value, json};
use tests::folder::Folder;
use tests::house::{House, Model, Plan, cli};
use tests::vendor::{Dialect, Reply, Vendor};

/// Two calls of a tool, and three models in a row.
const STEPS: &str = "\
version: 1
name: steps
limits: { wall: 60s, calls: 3 }
nodes:
  - { id: one, type: generate }
  - { id: two, type: generate }
  - { id: three, type: generate }
  - { id: answer, type: stream, from: nodes.three.completion }
edges:
  - { from: one, to: two }
  - { from: two, to: three }
  - { from: three, to: answer }
";
const LOOKS: &str = "\
version: 1
name: looks
nodes:
  - { id: rome, type: tool, tool: weather, args: { city: Rome } }
  - { id: oslo, type: tool, tool: weather, args: { city: Oslo, day: today } }
  - { id: all, type: merge, from: [nodes.rome.text, nodes.oslo.text] }
  - { id: answer, type: stream, from: nodes.all.completion }
edges:
  - { from: rome, to: oslo, outcome: [ok, tool_error, denied] }
  - { from: oslo, to: all, outcome: [ok, tool_error, denied] }
  - { from: all, to: answer }
";
const TOOL: &str = "\
tools:
  weather:
    description: Tells the weather.
    url: http://127.0.0.1:1/
    input_schema: { type: object }
    side_effect: none
";

async fn start() -> House {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("nobody is asked")).await;
    Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(&format!("{}{TOOL}", crate::NO_CHANCE))
        .settings("tools: { allow_hosts: [127.0.0.1], allow_private: true, allow_http: true }\n")
        .file("workflows/steps.yaml", STEPS)
        .file("workflows/looks.yaml", LOOKS)
        .start()
        .await
}

async fn play(house: &House, workflow: &str, rest: &str) -> Value {
    let test = format!(
        "workflow: {workflow}\nname: a case\nrequest: {{ model: auto, messages: [{{ role: user, content: hi }}] }}\n\
         clock: virtual\n{rest}"
    );
    house.client().post(&format!("/v1/workflows/{workflow}/test"), &json!({"test": test})).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_answers_by_what_it_is_called_with() {
    let house = start().await;
    let good = async |tools: &str, text: &str| {
        let played = play(&house, "looks", &format!("tools:\n{tools}expect: {{ text: \"{text}\" }}\n")).await;
        assert_eq!(played["good"], true, "{played:#}");
    };
    // The first that fits, whatever the order in which they are called.
    let oslo = "  - { tool: weather, when: 'args.city == \"Oslo\"', result: cold }\n";
    good(&format!("{oslo}  - {{ tool: weather, result: warm }}\n"), "warm\\n\\ncold").await;
    good("  - { tool: weather, result: warm }\n", "warm\\n\\nwarm").await;
    good(
        "  - { tool: weather, when: '\"day\" in args', result: today }\n  - { tool: weather, when: '!(\"day\" in args)', result: any }\n",
        "any\\n\\ntoday",
    )
    .await;
    // A call for which the file has none, and one of which it cannot be told.
    for (tools, why) in [
        (oslo, "has no result for it"),
        ("  - { tool: weather, when: args.day == 1, result: x }\n", "`when`"),
    ] {
        let played =
            play(&house, "looks", &format!("tools:\n{tools}expect: {{ outcome: delivered }}\n")).await;
        let found = played["failures"][0]["found"].as_str().unwrap_or_default();
        assert!(found.contains(why), "{played:#}");
    }
    let wrong = "tools: [{ tool: weather, when: arg.city, result: x }]\nexpect: { outcome: delivered }\n";
    let refused = play(&house, "looks", wrong).await;
    assert_eq!(refused["error"]["metadata"]["problems"][0]["code"], "WT301", "{refused:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_may_allow_less_than_the_workflow() {
    let house = start().await;
    let calls = |count: usize| -> String {
        let one = |at: &str| {
            format!(
                "  - {{ at: {at}, reply: from {at}, latency: 10s, usage: {{ input: 10, output: 10 }} }}\n"
            )
        };
        format!(
            "calls:\n{}",
            ["one", "two", "three"].iter().take(count).map(|at| one(at)).collect::<String>()
        )
    };
    let check = async |limits: &str, made: usize, expect: &str| {
        let rest = format!("limits: {{ {limits} }}\n{}expect: {{ {expect} }}\n", calls(made));
        let played = play(&house, "steps", &rest).await;
        assert_eq!(played["good"], true, "{limits}: {played:#}");
    };
    let whole = "text: from three, calls: { exact: 3 }";
    check("tokens: 1000, calls: 3, wall: 40s", 3, whole).await;
    // More than the file allows itself changes nothing.
    check("calls: 30, wall: 1h", 3, whole).await;
    check("calls: 2", 2, "text: from one, calls: { exact: 2 }").await;
    check("tokens: 40", 2, "text: from one").await;
    check("wall: 15s", 2, "text: from one, calls: { exact: 2 }").await;
    check("wall: 25s, finish_reserve: 10s", 2, "text: from one, calls: { exact: 2 }").await;
    check("node_runs: 2", 2, "text: from one").await;
    // In the word that clients read, or in that of `nodes.<id>.error`.
    for (limit, code) in [("calls: 2", "calls"), ("wall: 15s", "wall")] {
        for word in [code.to_owned(), format!("budget.{code}")] {
            check(&format!("{limit}, on_exhausted: fail"), 2, &format!("outcome: failed, error: {word}"))
                .await;
        }
    }
    let refused =
        play(&house, "steps", "limits: { call: 2, wall: 5 }\nexpect: { outcome: delivered }\n").await;
    let codes: Vec<&str> = refused["error"]["metadata"]["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["WT101", "WT111"], "{refused:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_names_tests_that_stand_elsewhere() {
    let folder = Folder::default();
    let names = |tests: &str| {
        let text = format!(
            "version: 1\nname: mine\ntests: [{tests}]\nnodes:\n  - {{ id: a, type: generate }}\noutput: nodes.a.completion\n"
        );
        folder.write("workflows/mine.yaml", &text);
    };
    let test = "workflow: mine\nname: found\nrequest: { model: auto, messages: [{ role: user, content: hi }] }\n\
                calls: [{ at: a, reply: hello }]\nexpect: { text: hello }\n";
    folder.write("workflows/checks/mine.one.yaml", test);
    names("\"./checks/mine.*.yaml\", checks/mine.one.yaml");
    let played = cli(&folder, &["workflow", "test"]).await;
    let told = String::from_utf8_lossy(&played.stdout).into_owned();
    assert_eq!(played.status.code(), Some(0), "{told}");
    assert_eq!(told.matches("good   mine: found").count(), 1, "{told}");
    names("checks/mine.two.yaml");
    let missing = cli(&folder, &["workflow", "test"]).await;
    let told = String::from_utf8_lossy(&missing.stdout).into_owned();
    assert_eq!(missing.status.code(), Some(2), "{told}");
    assert!(told.contains("`checks/mine.two.yaml`") && told.contains("workflows/mine.yaml:3:9"), "{told}");
    assert!(told.contains("did you mean `checks/mine.one.yaml`"), "{told}");
}

/// Each part of a condition has to have held and not to have held; what no test has shown is named.
#[tokio::test(flavor = "multi_thread")]
async fn coverage_counts_the_parts_of_conditions() {
    let folder = Folder::default();
    let workflow = "version: 1
name: mine
nodes:
  - { id: a, type: generate }
  - { id: b, type: generate }
  - { id: pick, type: select, from: [nodes.b.completion, nodes.a.completion], method: first }
  - { id: out, type: stream, from: nodes.pick.completion }
edges:
  - { from: a, to: b, when: request.message_count > 1 && nodes.a.ok_count == 1 }
  - { from: a, to: pick, else: true }
  - { from: b, to: pick }
  - { from: pick, to: out, outcome: [selected, none] }
";
    folder.write("workflows/mine.yaml", workflow);
    let test = |name: &str, messages: &str, calls: &str| {
        let text = format!(
            "workflow: mine\nname: {name}\nrequest: {{ model: auto, messages: [{messages}] }}\ncalls: [{calls}]\nexpect: {{ outcome: delivered }}\n"
        );
        folder.write(&format!("workflows/tests/mine.{name}.yaml"), &text);
    };
    let message = "{ role: user, content: hi }";
    let missed = async || {
        let played = cli(&folder, &["workflow", "test", "--coverage"]).await;
        let told = String::from_utf8_lossy(&played.stdout).into_owned();
        let problems = String::from_utf8_lossy(&played.stderr).into_owned();
        assert_eq!(played.status.code(), Some(0), "{told}{problems}");
        // What stands behind its name, up to the next one.
        let own = told.split("\nmine: ").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
        own.lines().filter(|l| l.contains('`')).map(|l| l.trim().to_owned()).collect::<Vec<_>>()
    };
    test("short", message, "{ at: a, reply: hello }");
    assert_eq!(
        missed().await,
        [
            "not reached: a -> b: `request.message_count > 1` holds",
            "not reached: a -> b: `nodes.a.ok_count == 1` holds",
            "not reached: a -> b: `nodes.a.ok_count == 1` does not hold"
        ]
    );
    let calls = "{ at: a, reply: hello }, { at: b, reply: hello }";
    test("long", &format!("{message}, {message}"), calls);
    assert_eq!(missed().await, ["not reached: a -> b: `nodes.a.ok_count == 1` does not hold"]);
}

const TIERED: &str = "version: 1
name: tiered
vars: { word: hi }
nodes:
  - { id: gold, type: merge, method: template, from: [], template: \"${ vars.word } ${ tenant.labels.team }\" }
  - { id: answer, type: stream, from: nodes.gold.completion }
  - { id: no, type: fail, code: no, message: no }
  - { id: who, type: set, values: {} }
edges:
  - { from: who, to: gold, when: tenant.tier == \"gold\" && tenant.region == \"eu\" }
  - { from: who, to: no, else: true }
  - { from: gold, to: answer }
";

/// A test is anybody's whom a workflow can tell apart, and sets no variable that there is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_test_says_who_asks_and_sets_the_variables_that_there_are() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(crate::NO_CHANCE)
        .file("workflows/tiered.yaml", TIERED)
        .start()
        .await;
    let check = async |given: &str, expect: &str| {
        let played = play(&house, "tiered", &format!("{given}expect: {{ {expect} }}\n")).await;
        assert_eq!(played["good"], true, "{given}: {played:#}");
    };
    check("tenant: { id: acme, tier: gold, region: eu, labels: { team: blue } }\n", "text: hi blue").await;
    check("tenant: { tier: silver, region: eu }\n", "outcome: failed, error: no").await;
    let wrong = play(&house, "tiered", "vars: { wrod: bye }\nexpect: { outcome: failed }\n").await;
    assert!(wrong["good"] != true && wrong.to_string().contains("did you mean `word`"), "{wrong:#}");
}

/// Its call is tried again as it says.
fn tries(name: &str, retry: &str) -> String {
    format!(
        "version: 1\nname: {name}\nnodes:\n  - {{ id: ask, type: generate, retry: {{ {retry} }} }}\noutput: nodes.ask.completion\n"
    )
}

/// Where a node has a `retry`, each reply is one attempt; what is left of all of them is said by the last one.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_of_a_node_are_played_one_by_one() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(crate::NO_CHANCE)
        .file("workflows/thrice.yaml", &tries("thrice", "max_attempts: 3"))
        .file("workflows/twice.yaml", &tries("twice", "max_attempts: 2"))
        .file("workflows/busy.yaml", &tries("busy", "max_attempts: 3, codes: [rate_limited]"))
        .file("workflows/slow.yaml", &tries("slow", "max_attempts: 2, backoff: { initial: 5s, max: 5s }"))
        .start()
        .await;
    let fails = "{ at: ask, reply: { error: unavailable } }";
    let check = async |workflow: &str, calls: &[&str], expect: &str, surprises: &[&str]| {
        let rest = format!("calls: [{}]\nexpect: {{ {expect} }}\n", calls.join(", "));
        let played = play(&house, workflow, &rest).await;
        let failures = played["failures"].as_array().unwrap_or_else(|| panic!("{played:#}"));
        let found: Vec<String> = failures.iter().map(|f| f["found"].to_string()).collect();
        assert_eq!(found.len(), surprises.len(), "{workflow} {calls:?}: {played:#}");
        assert!(found.iter().zip(surprises).all(|(f, part)| f.contains(part)), "{workflow}: {found:?}");
    };
    let (answers, never) = ("{ at: ask, reply: fine }", "never asked for");
    check("thrice", &[fails, fails, answers], "text: fine, calls: { exact: 3 }", &[]).await;
    check("twice", &[fails, fails], "error: unavailable, calls: { exact: 2 }", &[]).await;
    check("twice", &[fails, fails, answers], "text: fine", &[never, "unavailable", "\"\""]).await;
    check("thrice", &[fails], "error: unavailable, calls: { exact: 1 }", &[]).await;
    let last = "{ at: ask, reply: { error: unavailable, last: true } }";
    check("thrice", &[last, answers], "error: unavailable", &[never]).await;
    // Only what its `codes` name is tried again.
    check("busy", &[fails, answers], "error: unavailable", &[never]).await;
    check("busy", &["{ at: ask, reply: { error: rate_limited } }", answers], "text: fine", &[]).await;
    // A request that is too long is so at the same model every time.
    let long = "{ at: ask, reply: { error: context_overflow } }";
    check("thrice", &[long], "error: context_length_exceeded", &[]).await;
    check("thrice", &[long], "error: context_overflow", &[]).await;
    // The pause takes time of the run.
    let wall = "limits: { wall: 3s }\n";
    let played =
        play(&house, "slow", &format!("{wall}calls: [{fails}]\nexpect: {{ error: unavailable }}\n")).await;
    assert_eq!(played["good"], true, "{played:#}");
    let wrong =
        play(&house, "thrice", "calls: [{ at: ask, reply: { json: {}, last: true } }]\nexpect: {}\n").await;
    assert_eq!(wrong["error"]["metadata"]["problems"][0]["code"], "WT101", "{wrong:#}");
}

const ABOUT: &str = "version: 1
name: about
inputs:
  topic: { type: string, required: true }
  days: { type: int, default: 3 }
nodes:
  - { id: told, type: merge, method: template, from: [], template: \"${ inputs.topic }, ${ inputs.days } days\" }
output: nodes.told.completion
";

/// What a workflow is given beside its request stands in the test, and is checked before anything is played.
#[tokio::test(flavor = "multi_thread")]
async fn a_test_gives_a_workflow_its_inputs() {
    let vendor = Vendor::start(Dialect::OpenAi).await;
    let house = Plan::new()
        .vendor("lab", &vendor)
        .model(&Model::new("lab/one"))
        .rules(crate::NO_CHANCE)
        .file("workflows/about.yaml", ABOUT)
        .start()
        .await;
    for (inputs, text) in [("topic: rain", "rain, 3 days"), ("topic: rain, days: 5", "rain, 5 days")] {
        let rest = format!("inputs: {{ {inputs} }}\nexpect: {{ text: \"{text}\" }}\n");
        let played = play(&house, "about", &rest).await;
        assert_eq!(played["good"], true, "{inputs}: {played:#}");
    }
    for (inputs, line, part) in [
        ("", 1, "`topic` is missing"),
        ("inputs: { topik: rain }\n", 5, "no input `topik`"),
        ("inputs: { topic: rain, days: soon }\n", 5, "`days` is not of its type"),
    ] {
        let refused = play(&house, "about", &format!("{inputs}expect: {{ outcome: delivered }}\n")).await;
        let problem = &refused["error"]["metadata"]["problems"][0];
        assert_eq!((&problem["code"], &problem["line"]), (&json!("WT208"), &json!(line)), "{refused:#}");
        assert!(problem["message"].as_str().unwrap().contains(part), "{problem:#}");
    }
    // Inputs alone are what a run on them is asked for.
    let alone = "workflow: about\nname: alone\ninputs: { topic: rain }\nexpect: { text: \"rain, 3 days\" }\n";
    let played = house.client().post("/v1/workflows/about/test", &json!({"test": alone})).await.json();
    assert_eq!(played["good"], true, "{played:#}");
}
