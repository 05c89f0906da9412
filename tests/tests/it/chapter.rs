//! The chapters on policies and on tenants tell the truth: files that they show are loaded, checked and tested, commands
//! run.

use std::collections::BTreeMap;
use std::path::Path;
use tests::admin::send;
use tests::folder::Folder;
use tests::house::{House, Model, Plan, cli, cli_of_a_reader};
use tests::vendor::{Dialect, Reply, Vendor};

/// A block of the page, by the comment above it.
struct Block {
    /// `file: path` or `run: folder`; empty = an example that nobody runs.
    says: String,
    text: String,
}

/// Every block with its comment.
fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    let mut before = "";
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            let says = before.strip_prefix("<!-- ").and_then(|c| c.strip_suffix(" -->")).unwrap_or_default();
            let text =
                lines.by_ref().take_while(|l| *l != "```").fold(String::new(), |all, l| all + l + "\n");
            found.push(Block { says: says.to_owned(), text });
        }
        before = line;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_chapter_on_policies_does_what_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policies.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut folders: BTreeMap<String, Folder> = BTreeMap::new();
    let mut run = 0;
    for Block { says, text } in blocks(&page) {
        if let Some(file) = says.strip_prefix("file: ") {
            let (folder, name) = file.split_once('/').unwrap();
            folders.entry(folder.to_owned()).or_default().write(name, &text);
            continue;
        }
        let of = says.strip_prefix("run: ").unwrap_or_else(|| panic!("no test runs this block: {text}"));
        let (folder, fails) = of.split_once(", fails: ").map_or((of, None), |(f, e)| (f, Some(e)));
        let folder = &folders[folder];
        for line in text.lines() {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(words[0], "turnout", "{line}");
            // What stands beside the rules is named from their folder.
            let beside = |w: &String| match folder.path().join(w).is_file() {
                true => folder.path().join(w).display().to_string(),
                false => w.clone(),
            };
            let args: Vec<String> = words[1..].iter().map(beside).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let output = cli(folder, &args).await;
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), fails.is_none(), "{of}: {line}\n{said}");
            if let Some(hint) = fails {
                assert!(said.contains(hint), "{line}\n{said}");
            }
            if line.contains("policy test") {
                assert!(!said.lines().any(|l| l.starts_with("0 passed")), "{of}: {line}\n{said}");
            }
            run += 1;
        }
    }
    assert!(run > 10, "the page shows commands");
}

/// The words of a command, as a shell takes them: quoted ones whole, a comment not at all.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('"').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
            continue;
        }
        let (part, comment) = part.split_once(" #").map_or((part, false), |(p, _)| (p, true));
        words.extend(part.split_whitespace().map(str::to_owned));
        if comment {
            break;
        }
    }
    words
}

/// What a block sets for a shell in a folder.
fn set(block: &str, folder: &Path) -> Vec<(String, String)> {
    let of = |line: &str| {
        let (name, value) =
            words(line)[1].split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())).unwrap();
        (name, value.replace("$PWD", &folder.display().to_string()))
    };
    block.lines().filter(|l| l.starts_with("export ")).map(of).collect()
}

/// Runs the commands of a block as a reader of the page would, who has set what it says; gives what they said.
async fn run(house: &House, env: &[(String, String)], block: &str) -> String {
    let mut all = String::new();
    for line in block.lines() {
        let words = words(line);
        assert_eq!(words[0], "turnout", "{line}");
        let args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let output = cli_of_a_reader(house.folder(), env, &args).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{line}\n{said}{}", String::from_utf8_lossy(&output.stderr));
        all += &said;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_lead_from_nothing_to_a_refused_request_that_explains_itself() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/control.md");
    let blocks = blocks(&std::fs::read_to_string(path).unwrap());
    let files: BTreeMap<&str, &str> =
        blocks.iter().filter_map(|b| Some((b.says.strip_prefix("file: ten/")?, b.text.as_str()))).collect();
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let plan = Plan::new().vendor("alpha", &vendor).model(&Model::new("alpha/one"));
    let plan = plan.rules(files["routing_rules.yaml"]);
    let plan = plan.file("policies/tests/secrets.yaml", files["policies/tests/secrets.yaml"]);
    let house = plan.start().await;
    let sets = blocks.iter().find(|b| b.says == "set: ten").expect("the page says where the data goes");
    let env = set(&sets.text, house.folder().path());
    let mut said = String::new();
    for block in blocks.iter().filter(|b| b.says == "run: ten") {
        said += &run(&house, &env, &block.text).await;
    }
    assert!(said.contains("2 passed, 0 failed"), "{said}");
    let keys: Vec<&str> = said.lines().filter(|l| l.starts_with("sk-to-")).collect();
    let [web, notebook] = keys[..] else { panic!("{said}") };
    let chat = "/v1/chat/completions";
    let ask = serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": "Why is the sky blue?"}]});
    assert_eq!(house.client().chat(&ask).await.error(401)["code"], "missing_api_key");
    assert_eq!(send(house.client(), web, chat, &ask).await.status, 200);
    assert_eq!(send(house.client(), notebook, chat, &ask).await.status, 200);
    let limited = send(house.client(), notebook, chat, &ask).await;
    assert_eq!(limited.error(429)["code"], "rate_limit_exceeded");
    assert_eq!(limited.header("x-turnout-decision"), None, "nothing was decided");

    let secret = serde_json::from_str(files["secret.json"]).unwrap();
    let refused = send(house.client(), web, chat, &secret).await;
    assert_eq!(refused.error(403)["code"], "secret_in_prompt");
    let id = refused.header("x-turnout-decision").expect("a refusal names its record").to_owned();
    let explained = run(&house, &env, &format!("turnout explain {id}")).await;
    assert!(explained.contains("denied by no_secrets"), "{explained}");
    assert!(run(&house, &env, "turnout audit list").await.contains(&id), "{said}");

    // Nothing is said of a folder that the server itself has looked through.
    let unknown = house.cli(&["explain", "req_nobody"]).await;
    let told = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(!unknown.status.success() && told.contains("has no such request"), "{told}");
    assert!(!told.contains("in use"), "{told}");
    assert!(
        !house.folder().path().join("home").exists(),
        "nothing is written where the reader keeps their own"
    );
}
