//! Whatever the control API offers there is a command for, and every such command asks it for just that.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use tests::admin::Admin;
use tests::folder::Folder;
use tests::house::{Model, Plan, cli_as};
use tests::openapi::{Document, Operation};
use tests::service::Service;
use tests::vendor::{Dialect, Reply, Vendor};

/// Commands, and the operation that each asks for.
const COMMANDS: &[(&str, &str, &str)] = &[
    ("openapi", "GET", "/openapi.json"),
    ("whoami", "GET", "/whoami"),
    ("reload", "POST", "/reload"),
    ("tenant list", "GET", "/tenants"),
    ("tenant create acme --allow-explore true", "POST", "/tenants"),
    ("tenant show acme", "GET", "/tenants/{tenant}"),
    ("tenant change acme --tier gold", "PATCH", "/tenants/{tenant}"),
    ("tenant remove acme", "DELETE", "/tenants/{tenant}"),
    ("key list", "GET", "/keys"),
    ("key create --tenant acme --expires 30d", "POST", "/keys"),
    ("key show 0123", "GET", "/keys/{key}"),
    ("key change 0123 --name web", "PATCH", "/keys/{key}"),
    ("key rotate 0123", "POST", "/keys/{key}/rotate"),
    ("key revoke 0123", "DELETE", "/keys/{key}"),
    ("provider list", "GET", "/providers"),
    ("models", "GET", "/models"),
    ("provider-key list", "GET", "/provider-keys"),
    ("provider-key add alpha --name spare", "POST", "/provider-keys"),
    ("provider-key change pk-1 --name spare", "PATCH", "/provider-keys/{id}"),
    ("provider-key remove pk-1", "DELETE", "/provider-keys/{id}"),
    ("budget list", "GET", "/budgets"),
    ("usage --by model", "GET", "/usage"),
    ("statistics list", "GET", "/statistics"),
    ("statistics rollback --to 2026-11-22T10:00:00Z", "POST", "/statistics/rollback"),
    ("approval list", "GET", "/approvals"),
    ("approval approve apr_1", "POST", "/approvals/{approval}"),
    ("pool list", "GET", "/pools"),
    ("pool show cheap", "GET", "/pools/{pool}"),
    ("pool put cheap --model alpha/* --dry-run", "PUT", "/pools/{pool}"),
    ("pool remove cheap", "DELETE", "/pools/{pool}"),
    ("policy list", "GET", "/policies"),
    ("policy show a", "GET", "/policies/{policy}"),
    ("policy put a rule.yaml", "PUT", "/policies/{policy}"),
    ("policy remove a --dry-run", "DELETE", "/policies/{policy}"),
    ("bundle show", "GET", "/bundle"),
    ("bundle list", "GET", "/bundles"),
    ("bundle upload new", "POST", "/bundles"),
    ("bundle rollback", "POST", "/bundles/rollback"),
    ("bundle show 3f9c", "GET", "/bundles/{hash}"),
    ("bundle activate 3f9c", "POST", "/bundles/{hash}/activate"),
    ("bundle shadow 3f9c --share 0.1", "POST", "/bundles/{hash}/shadow"),
    ("bundle shadow 3f9c --report", "GET", "/bundles/{hash}/shadow"),
    ("bundle shadow 3f9c --end", "DELETE", "/bundles/{hash}/shadow"),
    ("bundle diff 3f9c", "GET", "/bundles/{hash}/diff"),
    ("audit list --action key --tenant acme --from 2026-11-01", "GET", "/audit"),
    ("audit rotate-key", "POST", "/audit/key"),
];

/// Whether a command is one of a pattern, in which capitals stand for what its caller says.
fn says(pattern: &str, command: &str) -> bool {
    let given: Vec<&str> = command.split(' ').collect();
    let mut words = pattern.strip_prefix("turnout ").unwrap_or_default().split(' ').enumerate();
    words.all(|(i, word)| {
        let capitals = word.bytes().all(|b| b.is_ascii_uppercase());
        given.get(i).is_some_and(|said| capitals || *said == word)
    })
}

/// Who has no server at hand finds each operation with its command and its role on the page.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_lists_every_command_with_its_path_and_role() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = Plan::new().vendor("alpha", &vendor).model(&Model::new("alpha/one")).start().await;
    let document = Document(Admin::of(&house).call("GET", "/openapi.json", &Value::Null).await.json());
    let row = |op: &Operation| {
        let role = op.needs.trim_start_matches("Needs the role ").trim_end_matches('.');
        format!("| `{}` | `{} {}` | {role} |", op.command, op.method, op.path)
    };
    let want: Vec<String> = document.operations().iter().map(row).collect();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/control.md");
    let page = std::fs::read_to_string(page).unwrap();
    let missing: Vec<&String> = want.iter().filter(|row| !page.lines().any(|l| l == *row)).collect();
    assert!(missing.is_empty(), "docs/control.md lacks\n{missing:#?}");
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"].map(|m| format!("| `{m} /"));
    let told = page.lines().filter(|l| l.starts_with("| `turnout ") && methods.iter().any(|m| l.contains(m)));
    for line in told {
        assert!(want.iter().any(|row| row == line), "docs/control.md says, and it is not so: {line}");
    }
}

/// Whether a path is one of a pattern.
fn fits(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len() && pattern.iter().zip(&path).all(|(p, s)| p.starts_with('{') || p == s)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_the_control_api_has_a_command_and_every_command_its_operation() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = Plan::new().vendor("alpha", &vendor).model(&Model::new("alpha/one")).start().await;
    let named: BTreeSet<(String, String)> =
        COMMANDS.iter().map(|(_, method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    let document = Document(Admin::of(&house).call("GET", "/openapi.json", &Value::Null).await.json());
    let all = document.operations();
    let own = all.iter().map(|op| (op.method.clone(), op.path.clone())).collect::<BTreeSet<_>>();
    assert_eq!(own, named, "the document of the control API, and what commands ask for");
    for op in &all {
        let (command, ..) = COMMANDS.iter().find(|(_, m, p)| (*m, *p) == (&*op.method, &*op.path)).unwrap();
        assert!(
            says(&op.command, command),
            "the document says `{}`, and that is `turnout {command}`",
            op.command
        );
    }

    let folder = Folder::default();
    std::fs::write(folder.path().join("rule.yaml"), "id: a\nactions: { tag: { a: b } }\n").unwrap();
    std::fs::create_dir(folder.path().join("new")).unwrap();
    std::fs::write(folder.path().join("new/routing_rules.yaml"), "version: 1\n").unwrap();
    let said = json!({"object": "list", "data": [], "hash": "3f9c", "files": {}}).to_string();
    for (command, method, pattern) in COMMANDS {
        let answer = said.clone();
        let service = Service::start(move |_| (200, answer.clone(), Duration::ZERO)).await;
        let (at, words) = (service.origin(), command.replace("rule.yaml", &path_in(&folder, "rule.yaml")));
        let words = words.replace("upload new", &format!("upload {}", path_in(&folder, "new")));
        let args: Vec<&str> = words.split(' ').chain(["--url", &at]).collect();
        let out = cli_as(&folder, "a-key", &args).await;
        let asked = service.asked();
        let told = String::from_utf8_lossy(&out.stderr);
        assert_eq!(asked.len(), 1, "`turnout {command}` asks once: {told}");
        let path = asked[0].path.split('?').next().unwrap().strip_prefix("/admin/v1").unwrap();
        assert_eq!(asked[0].method, *method, "turnout {command}");
        assert!(fits(pattern, path), "`turnout {command}` asks for {path}, not {pattern}");
    }
}

/// Members of what is made and changed: the schema, the member, the options that set it, what they send.
const SETS: &[(&str, &str, &str, &str)] = &[
    ("NewTenant", "id", "tenant create acme", r#""acme""#),
    ("NewTenant", "title", "tenant create acme --title Acme", r#""Acme""#),
    ("NewTenant", "tier", "tenant create acme --tier gold", r#""gold""#),
    ("NewTenant", "region", "tenant create acme --region eu", r#""eu""#),
    ("NewTenant", "time_zone", "tenant create acme --time-zone UTC", r#""UTC""#),
    ("NewTenant", "labels", "tenant create acme --label a=b", r#"{"a": "b"}"#),
    (
        "NewTenant",
        "limits",
        "tenant create acme --limit 4_concurrency",
        r#"[{"metric": "concurrency", "amount": 4.0}]"#,
    ),
    ("NewTenant", "allow_explore", "tenant create acme --allow-explore false", "false"),
    ("NewTenant", "on_disconnect", "tenant create acme --on-disconnect finish", r#""finish""#),
    ("NewTenant", "suspended", "tenant create acme --suspended true", "true"),
    ("TenantChange", "version", "tenant change acme --title Acme --if-version 3", "3"),
    ("TenantChange", "title", "tenant change acme --title Acme", r#""Acme""#),
    ("TenantChange", "tier", "tenant change acme --tier gold", r#""gold""#),
    ("TenantChange", "region", "tenant change acme --region eu", r#""eu""#),
    ("TenantChange", "time_zone", "tenant change acme --time-zone UTC", r#""UTC""#),
    ("TenantChange", "labels", "tenant change acme --label a=b --no-label c", r#"{"a": "b", "c": null}"#),
    (
        "TenantChange",
        "limits",
        "tenant change acme --limit 4_concurrency --no-limit usd_per_day",
        r#"[{"metric": "concurrency", "amount": 4.0}, {"metric": "usd", "amount": null, "per": "day"}]"#,
    ),
    ("TenantChange", "allow_explore", "tenant change acme --allow-explore false", "false"),
    ("TenantChange", "on_disconnect", "tenant change acme --on-disconnect finish", r#""finish""#),
    ("TenantChange", "suspended", "tenant change acme --suspended false", "false"),
    ("NewKey", "tenant", "key create --tenant acme", r#""acme""#),
    ("NewKey", "role", "key create --role viewer", r#""viewer""#),
    ("NewKey", "name", "key create --name web", r#""web""#),
    ("NewKey", "scopes", "key create --model a --model b", r#"{"models": ["a", "b"]}"#),
    ("NewKey", "labels", "key create --label a=b", r#"{"a": "b"}"#),
    ("NewKey", "limits", "key create --limit 4_concurrency", r#"[{"metric": "concurrency", "amount": 4.0}]"#),
    ("NewKey", "expires_ms", "key create --expires 2096-01-31", "3978806400000"),
    ("NewKey", "suspended", "key create --suspended true", "true"),
    ("KeyChange", "version", "key change 0123 --name web --if-version 3", "3"),
    ("KeyChange", "name", "key change 0123 --name web", r#""web""#),
    (
        "KeyChange",
        "scopes",
        "key change 0123 --model a --workflow b --endpoint chat",
        r#"{"models": ["a"], "workflows": ["b"], "endpoints": ["chat"]}"#,
    ),
    ("KeyChange", "labels", "key change 0123 --label a=b --no-label c", r#"{"a": "b", "c": null}"#),
    (
        "KeyChange",
        "limits",
        "key change 0123 --limit 4_concurrency --no-limit usd_per_day",
        r#"[{"metric": "concurrency", "amount": 4.0}, {"metric": "usd", "amount": null, "per": "day"}]"#,
    ),
    ("KeyChange", "expires_ms", "key change 0123 --expires-ms 3978806400000", "3978806400000"),
    ("KeyChange", "suspended", "key change 0123 --suspended false", "false"),
];

/// Those that can be empty or nothing at all, and what makes them so.
const CLEARS: &[(&str, &str, &str, &str)] = &[
    ("NewKey", "limits", "key create --no-limits", "[]"),
    ("KeyChange", "limits", "key change 0123 --no-limits", "null"),
    ("KeyChange", "labels", "key change 0123 --no-labels", "null"),
    ("KeyChange", "expires_ms", "key change 0123 --no-expires", "null"),
    (
        "KeyChange",
        "scopes",
        "key change 0123 --all-models --all-workflows --all-endpoints",
        r#"{"models": [], "workflows": [], "endpoints": []}"#,
    ),
    ("TenantChange", "limits", "tenant change acme --no-limits", "null"),
    ("TenantChange", "labels", "tenant change acme --no-labels", "null"),
    ("TenantChange", "region", "tenant change acme --no-region", "null"),
];

/// Members that a change may repeat and not change.
const FIXED: &[(&str, &str)] = &[("TenantChange", "id"), ("KeyChange", "tenant"), ("KeyChange", "role")];

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_keys_and_tenants_is_set_and_cleared_by_command() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = Plan::new().vendor("alpha", &vendor).model(&Model::new("alpha/one")).start().await;
    let document = Document(Admin::of(&house).call("GET", "/openapi.json", &Value::Null).await.json());
    let named = |table: &[(&'static str, &'static str, &str, &str)]| -> BTreeSet<(String, String)> {
        table.iter().map(|(schema, member, ..)| ((*schema).to_owned(), (*member).to_owned())).collect()
    };
    let (mut all, mut clearable) = (BTreeSet::new(), BTreeSet::new());
    for schema in ["NewTenant", "TenantChange", "NewKey", "KeyChange"] {
        for (member, of) in document.schema(schema)["properties"].as_object().unwrap() {
            if FIXED.contains(&(schema, member.as_str())) {
                continue;
            }
            let entry = (schema.to_owned(), member.clone());
            // What is new has nothing yet that could be taken away, but for the limits that a key has by itself.
            let nothing = of["type"].as_array().is_some_and(|t| t.contains(&json!("null")));
            let lists = of["properties"]["models"]["type"] == "array";
            if schema.ends_with("Change") && (nothing || lists)
                || entry == ("NewKey".to_owned(), "limits".to_owned())
            {
                clearable.insert(entry.clone());
            }
            all.insert(entry);
        }
    }
    assert_eq!(named(SETS), all, "members of the document, and options that set them");
    assert_eq!(named(CLEARS), clearable, "members that can be nothing, and options that make them so");

    let folder = Folder::default();
    let service = Service::saying(200, "{}").await;
    let at = service.origin();
    for (schema, member, command, want) in SETS.iter().chain(CLEARS) {
        let words: Vec<String> = command.split(' ').map(|word| word.replace('_', " ")).collect();
        let args: Vec<&str> = words.iter().map(String::as_str).chain(["--url", &at]).collect();
        let out = cli_as(&folder, "a-key", &args).await;
        assert!(out.status.success(), "turnout {command}: {}", String::from_utf8_lossy(&out.stderr));
        let body = service.asked().last().unwrap().body.clone();
        assert_eq!(body[member], serde_json::from_str::<Value>(want).unwrap(), "turnout {command}: {body}");
        assert!(body.get(member).is_some(), "turnout {command}: {body}");
        let misfits = document.misfits(document.schema(schema), &body, "");
        assert!(misfits.is_empty(), "turnout {command}: {misfits:?}");
    }
}

/// Programs tell refusals apart by what the server says, not by words for people.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_command_tells_programs_what_the_server_said() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |_| Reply::text("hello")).await;
    let house = Plan::new().vendor("alpha", &vendor).model(&Model::new("alpha/one")).start().await;
    let refused = async |args: &[&str]| -> Value {
        let out = house.cli(args).await;
        assert_eq!(out.status.code(), Some(2), "{args:?}: {out:?}");
        assert!(out.stdout.is_empty(), "{args:?}: {out:?}");
        serde_json::from_slice(&out.stderr).unwrap_or_else(|e| panic!("{args:?}: {e}: {out:?}"))
    };
    assert!(house.cli(&["tenant", "create", "acme"]).await.status.success());
    let told = refused(&["--json", "tenant", "create", "acme"]).await;
    assert_eq!((&told["error"]["code"], &told["error"]["param"]), (&json!("exists"), &json!("id")), "{told}");
    house.folder().write("bad.yaml", "id: bad\nwhen: request.nothing == 1\nactions: { deny: no }\n");
    let file = house.folder().path().join("bad.yaml").display().to_string();
    let told = refused(&["--json", "policy", "put", "bad", &file]).await;
    assert_eq!(told["error"]["code"], "invalid_configuration", "{told}");
    assert!(told["error"]["metadata"]["problems"][0]["line"].is_u64(), "{told}");
    let told = refused(&["--json", "key", "create", "--limit", "ten usd"]).await;
    assert!(told["error"]["message"].as_str().unwrap().contains("--limit"), "{told}");
    let out = house.cli(&["tenant", "create", "acme"]).await;
    assert!(String::from_utf8_lossy(&out.stderr).starts_with("turnout: there is a tenant `acme`"), "{out:?}");
}

fn path_in(folder: &Folder, name: &str) -> String {
    folder.path().join(name).display().to_string()
}
