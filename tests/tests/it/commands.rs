//! Whatever the control API offers there is a command for, and every such command asks it for just that.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tests::admin::Admin;
use tests::folder::Folder;
use tests::house::{House, Model, Plan, cli_as};
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

/// The operations of the document of a running server, their names in a path as `{}`.
async fn operations(house: &House) -> BTreeSet<(String, String)> {
    let document = Admin::of(house).call("GET", "/openapi.json", &Value::Null).await.json();
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, methods): (&String, &Value)| {
        let path = path.strip_prefix("/admin/v1").unwrap().to_owned();
        let methods: Vec<String> = methods.as_object().unwrap().keys().cloned().collect();
        methods.into_iter().map(move |method| (method.to_uppercase(), path.clone()))
    };
    paths.iter().flat_map(of).collect()
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
    assert_eq!(operations(&house).await, named, "the document of the control API, and what commands ask for");

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

fn path_in(folder: &Folder, name: &str) -> String {
    folder.path().join(name).display().to_string()
}
