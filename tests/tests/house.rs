//! House rules as tests: which room may use what, what is nowhere to be found, and that documents tell the truth.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who may use whom (`ARCHITECTURE.md`). What is not named here is nobody's room.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("profiler", &["types"]),
    ("policies", &["types"]),
    ("validators", &["types"]),
    ("providers", &["types"]),
    ("stores", &["types"]),
    ("cache", &[]),
    ("workflows", &["validators", "types"]),
    ("engine", &["profiler", "policies", "workflows", "cache", "types"]),
    ("gateway", &["engine", "policies", "profiler", "workflows", "providers", "stores", "types"]),
    ("tests", &["gateway", "types"]),
    ("bench", &["gateway", "engine", "policies", "profiler", "workflows", "validators", "types"]),
];

/// Whom the tests of a room may use beside that: the engine is simulated with the stores that it works with.
const ARROWS_OF_TESTS: &[(&str, &[&str])] = &[("engine", &["stores"])];

/// Heavy things from outside, and the one room that may know each.
const FENCES: &[(&str, &str)] = &[
    ("axum", "gateway"),
    ("clap", "gateway"),
    ("hyper-rustls", "providers"),
    ("rusqlite", "stores"),
    ("rhai", "policies"),
    ("petgraph", "workflows"),
];

/// Crates of the same kind as the fenced ones; they are nowhere.
const NOWHERE: &[&str] =
    &["reqwest", "ureq", "isahc", "openssl", "native-tls", "openssl-sys", "sqlx", "diesel", "warp"];

/// Rooms in which nothing looks at a clock, a network or a generator of its own.
const PURE: &[&str] = &[
    "profiler/src",
    "policies/src",
    "validators/src",
    "cache/src",
    "engine/src/route",
    "engine/src/outcome.rs",
];

/// What such a look would be called.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "std::net",
    "tokio::net",
    "std::fs",
    "tokio::fs",
    "std::env",
    "std::process",
    "rand::rng(",
    "rand::random",
    "thread_rng",
    "from_os_rng",
    "from_entropy",
    "SysRng",
    "OsRng",
    "tokio::time::sleep",
    "hyper::",
    "reqwest::",
];

/// Exceptions: file, what it may look at, why.
const EXCUSED: &[(&str, &str, &str)] = &[(
    "policies/src/sandbox.rs",
    "Instant::now",
    "the time limit of a script cuts it; no result of a policy depends on it",
)];

/// The files that read the wall clock of the machine, and what for; everybody else is given one (`types::clock`).
const WALL_CLOCKS: &[(&str, &str)] = &[
    ("gateway/src/clock.rs", "the clock of the process, which the engine is given"),
    ("stores/src/runs/clock.rs", "leases of runs, by a clock that never goes back"),
    ("providers/src/transport.rs", "dates in the headers of vendors"),
    ("providers/src/transport/keys.rs", "the days of free tiers"),
    ("providers/src/transport/keys/taken.rs", "dates in the headers of vendors"),
    ("tests/src/lib.rs", "what tests of the whole house compare with"),
];

/// Licences that code in this house may have.
const LICENCES: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Unicode-3.0",
    "Zlib",
    "CC0-1.0",
    "Unlicense",
    "BSL-1.0",
    "MPL-2.0",
    "MPL-2.0+",
    "CDLA-Permissive-2.0",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn metadata(more: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(more)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Dependencies of every member of the workspace, tests' included.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    dependencies_of(|_| true)
}

/// Those of some kinds: `dev` are those of tests alone.
fn dependencies_of(kind: impl Fn(Option<&str>) -> bool) -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata(&["--no-deps"]);
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| {
            let all = p["dependencies"].as_array().unwrap().iter().filter(|d| kind(d["kind"].as_str()));
            let names = all.map(|d| d["name"].as_str().unwrap().to_owned());
            (p["name"].as_str().unwrap().to_owned(), names.collect())
        })
        .collect()
}

/// Files that belong to the project, by the end of their names.
fn tracked(ending: &str) -> Vec<String> {
    let git = Command::new("git").args(["ls-files"]).current_dir(root()).output().unwrap();
    assert!(git.status.success(), "git ls-files: {}", String::from_utf8_lossy(&git.stderr));
    String::from_utf8(git.stdout)
        .unwrap()
        .lines()
        .filter(|l| l.ends_with(ending) && root().join(l).exists())
        .map(str::to_owned)
        .collect()
}

/// A source without its tests, which may do what they like. They may be a file of their own, which it names at its head.
fn before_tests(path: &str) -> String {
    read(path).split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
}

/// The same without its comments.
fn code(path: &str) -> String {
    let text = before_tests(path);
    text.lines().filter(|l| !l.trim_start().starts_with("//")).map(|l| format!("{l}\n")).collect()
}

#[test]
fn arrows_point_one_way() {
    let all = dependencies_of(|kind| kind != Some("dev"));
    let of_tests = dependencies_of(|kind| kind == Some("dev"));
    let rooms: BTreeSet<&str> = ARROWS.iter().map(|(room, _)| *room).collect();
    assert_eq!(all.keys().map(String::as_str).collect::<BTreeSet<_>>(), rooms, "rooms and the table differ");
    for (room, may) in ARROWS {
        for used in all[*room].iter().filter(|d| rooms.contains(d.as_str())) {
            assert!(may.contains(&used.as_str()), "{room} uses {used}; it may use {may:?}");
        }
        let tests = ARROWS_OF_TESTS.iter().find(|(r, _)| r == room).map_or(&[][..], |(_, may)| may);
        for used in of_tests[*room].iter().filter(|d| rooms.contains(d.as_str())) {
            let fine = may.contains(&used.as_str()) || tests.contains(&used.as_str());
            assert!(fine, "tests of {room} use {used}; they may use {may:?} and {tests:?}");
        }
    }
}

/// An arrow that stands in no `Cargo.toml` is one that nobody sees.
#[test]
fn no_room_hands_on_another() {
    let rooms = || ARROWS.iter().map(|(room, _)| *room);
    for path in tracked(".rs").iter().filter(|p| rooms().any(|room| p.starts_with(&format!("{room}/src/")))) {
        let code = code(path);
        for room in rooms() {
            let whole =
                [format!("pub use {room};"), format!("pub use ::{room};"), format!("pub use {room}::*;")];
            let found = whole.iter().find(|w| code.contains(w.as_str()));
            assert!(found.is_none(), "{path} hands on a room: {found:?}");
        }
    }
}

#[test]
fn heavy_things_stay_behind_their_fences() {
    for (room, uses) in dependencies().iter().filter(|(r, _)| !["tests", "bench"].contains(&r.as_str())) {
        for (thing, home) in FENCES {
            assert!(room == home || !uses.contains(*thing), "{thing} belongs to {home}, and {room} uses it");
        }
    }
    // hyper-util serves in the gateway; its client is for the providers alone.
    for path in tracked(".rs") {
        let allowed = ["providers/", "tests/", "bench/"].iter().any(|p| path.starts_with(p));
        for client in ["client::legacy", "client::conn"] {
            assert!(allowed || !code(&path).contains(client), "{path} makes HTTP calls");
        }
    }
}

#[test]
fn what_is_nowhere_is_nowhere() {
    let metadata = metadata(&[]);
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        assert!(!NOWHERE.contains(&name), "{name} came in");
    }
}

#[test]
fn pure_rooms_look_at_nothing_but_their_input() {
    let files: Vec<String> =
        tracked(".rs").into_iter().filter(|f| PURE.iter().any(|p| f.starts_with(p))).collect();
    assert!(files.len() > 10, "{files:?}");
    for path in &files {
        let code = code(path);
        for look in IMPURE {
            let excused = EXCUSED.iter().any(|(f, l, _)| f == path && l == look);
            assert!(excused || !code.contains(look), "{path} has `{look}`");
        }
    }
    for (file, look, _) in EXCUSED {
        assert!(code(file).contains(look), "{file} no longer needs its excuse for `{look}`");
    }
}

#[test]
fn only_named_files_read_the_wall_clock() {
    let reads =
        |path: &str| ["SystemTime::now", "Timestamp::now"].iter().any(|look| code(path).contains(look));
    let found: BTreeSet<String> = tracked(".rs").into_iter().filter(|path| reads(path)).collect();
    let own = "tests/tests/house.rs".to_owned();
    let named = WALL_CLOCKS.iter().map(|(path, _)| (*path).to_owned()).chain([own]);
    assert_eq!(found, named.collect());
}

/// A comment that names a page names one that the reader has.
#[test]
fn pages_that_sources_name_exist() {
    let mut lost = Vec::new();
    for path in tracked(".rs") {
        for line in read(&path).lines().filter(|l| l.trim_start().starts_with("//")) {
            let words = line.split(|c: char| c.is_whitespace() || "`()[]<>,;:\"".contains(c));
            for page in words.map(|w| w.trim_end_matches('.')).filter(|w| w.ends_with(".md")) {
                if !["", "docs"].iter().any(|folder| root().join(folder).join(page).exists()) {
                    lost.push(format!("{path}: {page}"));
                }
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

/// A test that is passed over tells nothing: what measures is a bench.
#[test]
fn no_test_is_passed_over() {
    // Put together here so that this file is no finding of its own.
    let mark = ["#[ign", "ore"].concat();
    for path in tracked(".rs") {
        assert!(!read(&path).contains(&mark), "{path} passes over a test");
    }
}

#[test]
fn every_module_says_what_it_is() {
    for path in tracked(".rs").iter().filter(|p| p.contains("/src/") || p.contains("/tests/")) {
        assert!(read(path).starts_with("//! "), "{path} does not open with `//! `");
    }
}

#[test]
fn every_dependency_may_be_used() {
    let metadata = metadata(&[]);
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or("none");
        if !allowed(licence) {
            wrong.push(format!("{} {}: {licence}", package["name"], package["version"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What `cargo deny check bans sources` looks for, for those who do not have it: no package that `deny.toml` bans, none from
/// elsewhere than the one registry, and no version left open.
#[test]
fn every_dependency_comes_from_the_registry_and_none_is_banned() {
    let deny = read("deny.toml");
    let banned: BTreeSet<&str> =
        deny.split("{ crate = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(banned.contains("openssl-sys"), "the bans of deny.toml were not found: {banned:?}");
    let registry = ["crates", "io-index"].join(".");
    let mut wrong = Vec::new();
    for package in metadata(&[])["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if banned.contains(name) {
            wrong.push(format!("{name} is banned by deny.toml"));
        }
        match package["source"].as_str() {
            None => {
                let open = package["dependencies"].as_array().unwrap().iter();
                let open = open.filter(|d| d["req"] == "*" && d["path"].is_null());
                wrong.extend(open.map(|d| format!("{name} takes any version of {}", d["name"])));
            }
            Some(source) if source.starts_with("registry+") && source.ends_with(&registry) => {}
            Some(other) => wrong.push(format!("{name} comes from {other}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a licence expression can be met: one side of every `OR`, both of every `AND`.
fn allowed(expression: &str) -> bool {
    let e = expression.trim().replace('/', " OR ");
    let e = e.trim();
    if let Some((a, b)) = split(e, " OR ") {
        return allowed(a) || allowed(b);
    }
    if let Some((a, b)) = split(e, " AND ") {
        return allowed(a) && allowed(b);
    }
    match e.strip_prefix('(').and_then(|e| e.strip_suffix(')')) {
        Some(inner) => allowed(inner),
        None => LICENCES.contains(&e.split_whitespace().collect::<Vec<_>>().join(" ").as_str()),
    }
}

/// At the first such word outside brackets.
fn split<'a>(e: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    e.match_indices(word)
        .find(|(at, _)| e[..*at].matches('(').count() == e[..*at].matches(')').count())
        .map(|(at, _)| (&e[..at], &e[at + word.len()..]))
}

#[test]
fn licence_expressions_are_read() {
    for (expression, want) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT AND GPL-3.0", false),
        ("MIT/Apache-2.0", true),
        ("(MIT OR GPL-2.0) AND Unicode-3.0", true),
        ("(GPL-2.0 OR LGPL-2.1) AND MIT", false),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
    ] {
        assert_eq!(allowed(expression), want, "{expression}");
    }
}

/// `deny.toml` and this file agree on licences, so that either finds what the other would.
#[test]
fn the_deny_list_names_the_same_licences() {
    let text = read("deny.toml");
    for licence in LICENCES.iter().filter(|l| !l.ends_with('+') && !l.contains(" WITH ")) {
        assert!(text.contains(&format!("\"{licence}\"")), "{licence} is not in deny.toml");
    }
}

/// The places within a document that links may name: its headings as code hosts write them, and those that say their name.
fn places(text: &str) -> BTreeSet<String> {
    let slug = |heading: &str| -> String {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    let outside = text.split("```").step_by(2).collect::<String>();
    let headings = outside.lines().filter(|l| l.starts_with('#')).map(|l| slug(l.trim_start_matches('#')));
    let named = text.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next());
    headings.chain(named.map(str::to_owned)).collect()
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut broken = Vec::new();
    for path in tracked(".md") {
        let text = read(&path);
        let folder = root().join(&path).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|t| t.split(')').next()) {
            let (target, place) = link.split_once('#').unwrap_or((link, ""));
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let file = if target.is_empty() { root().join(&path) } else { folder.join(target) };
            let lost = || !places(&std::fs::read_to_string(&file).unwrap()).contains(place);
            if !file.exists() || !place.is_empty() && lost() {
                broken.push(format!("{path}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The program built beside this test.
fn turnout(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_turnout-under-test")).args(args).output().unwrap()
}

#[test]
fn commands_in_documents_exist() {
    let makefile = read("Makefile");
    for path in tracked(".md") {
        for line in read(&path).lines().map(|l| l.trim_start_matches(['$', '`', ' '])) {
            let mut words = line.split([' ', '`']).filter(|w| !w.is_empty());
            match (words.next(), words.next()) {
                (Some("make"), Some(target))
                    if target.chars().all(|c| c.is_ascii_lowercase() || c == '-') =>
                {
                    assert!(makefile.contains(&format!("\n{target}:")), "{path}: make {target}");
                }
                (Some("turnout"), Some(command)) if command.chars().all(|c| c.is_ascii_lowercase()) => {
                    assert!(turnout(&[command, "--help"]).status.success(), "{path}: turnout {command}");
                }
                _ => {}
            }
        }
    }
}

/// Which series there are at all; what a server shows of them is compared where one runs.
#[test]
fn every_metric_stands_in_its_document() {
    let bare = |name: &str| name.trim_end_matches("_total").trim_end_matches("_seconds").to_owned();
    let is_name = |s: &&str| {
        s.starts_with("turnout_") || s.starts_with("gen_ai_client_") || s.starts_with("gen_ai_workflow_")
    };
    let metrics: String =
        tracked(".rs").iter().filter(|p| p.starts_with("gateway/src/metrics")).map(|p| code(p)).collect();
    let registered: BTreeSet<String> = metrics.split('"').filter(is_name).map(bare).collect();
    let page = read("docs/metrics.md");
    let rows = page.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.map(bare).collect::<BTreeSet<_>>(), registered);
}

/// Codes that other rooms give in the files of policies: the reader of files, and what joins policies with workflows.
const CODES: [&str; 9] = ["001", "002", "004", "005", "006", "103", "111", "210", "220"];

/// Three digits after `PL`, or alone between quotes: codes of problems in a source of `policies`.
fn codes(text: &str) -> BTreeSet<String> {
    let digits = |s: &str| s.get(..3).filter(|d| d.bytes().all(|b| b.is_ascii_digit())).map(str::to_owned);
    let named = text.split("PL").skip(1).filter_map(digits);
    named.chain(text.split('"').filter(|part| part.len() == 3).filter_map(digits)).collect()
}

#[test]
fn every_code_of_a_problem_of_policies_is_explained() {
    let files = tracked(".rs").into_iter();
    let own = files.filter(|f| f.starts_with("policies/src/") && !f.starts_with("policies/src/tests/"));
    let mut given: BTreeSet<String> = CODES.map(str::to_owned).into();
    own.for_each(|path| given.extend(codes(&code(&path))));
    let page = read("docs/policies.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `PL")?.get(..3));
    let told: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert!(given.len() > 40, "{given:?}");
    assert_eq!(told, given, "docs/policies.md, \"Codes of problems\"");
}

/// What stands between quotes behind one of the ways in which the control API refuses.
fn refusals(text: &str) -> BTreeSet<String> {
    const WAYS: [&str; 5] = ["bad_request(", "busy(", "conflict(", "refuse(", "unknown("];
    let statuses = text.split("StatusCode::").skip(1).filter_map(|rest| Some(rest.split_once(',')?.1));
    let ways = WAYS.iter().flat_map(|way| text.split(way).skip(1));
    let quoted = |rest: &str| {
        let code = rest.trim_start().strip_prefix('"')?.split('"').next()?;
        code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then(|| code.to_owned())
    };
    statuses.chain(ways).filter_map(quoted).collect()
}

#[test]
fn every_code_of_the_control_api_is_explained() {
    let rooms = ["admin/", "bundles/", "control/", "usage/"].map(|room| format!("gateway/src/{room}"));
    let own = tracked(".rs").into_iter();
    let own = own.filter(|f| rooms.iter().any(|r| f.starts_with(r)) && !f.ends_with("tests.rs"));
    let own = own.chain(["gateway/src/query.rs".to_owned()]);
    let given: BTreeSet<String> = own.flat_map(|path| refusals(&before_tests(&path))).collect();
    let page = read("docs/control.md");
    let rows = page.split("### Codes of the control API").nth(1).unwrap_or_default().lines();
    let rows = rows.take_while(|line| !line.starts_with('#'));
    let told: BTreeSet<String> =
        rows.filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned())).collect();
    let told = told.into_iter().filter(|code| code != "code").collect::<BTreeSet<_>>();
    assert!(given.len() > 40, "{given:?}");
    assert_eq!(told, given, "docs/control.md, \"Codes of the control API\"");
}

#[test]
fn shipped_files_are_clean() {
    let empty = tests::folder::Folder::default();
    for folder in [root().as_path(), empty.path()] {
        let output = turnout(&["--config", folder.to_str().unwrap(), "check", "--json"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let problems = if json.is_array() { &json } else { &json["problems"] };
        let problems = problems.as_array().unwrap();
        assert!(output.status.success() && problems.is_empty(), "{}: {problems:#?}", folder.display());
    }
}

/// Nothing that belongs to one machine or one registry is written into the project.
#[test]
fn files_hold_no_addresses_of_machines_or_registries() {
    // Put together here so that this file is no finding of its own.
    let hosts = [["crates", "io"], ["pypi", "org"], ["npmjs", "org"], ["debian", "org"]].map(|p| p.join("."));
    let folders = ["work", "root", "farm"].map(|f| format!("/{f}/"));
    for path in tracked("").iter().filter(|p| *p != "Cargo.lock") {
        let Ok(text) = std::fs::read_to_string(root().join(path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let found = hosts.iter().chain(&folders).any(|f| line.contains(f.as_str()));
            assert!(!found, "{path}:{}: {line}", number + 1);
        }
    }
}
