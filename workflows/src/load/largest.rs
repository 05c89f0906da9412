//! Files as large as files may be: the work that they make is bounded, counted rather than timed.

use super::work::{EACH, MOST};
use crate::Library;
use crate::edge::MAX_EDGES;
use crate::testing::{Small, load_with};
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use types::Diagnostic;
use types::doc::{MAX_BYTES, MAX_NODES, SourceFile};
use types::expr::{Compiled, Language, Problem, Scope, Type, Variables};

/// Counts what it is asked for.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Language for Counting {
    fn compile(
        &self,
        source: &str,
        variables: &Variables,
        result: Option<&Type>,
    ) -> Result<Compiled, Vec<Problem>> {
        self.0.fetch_add(source.len() + EACH, Ordering::Relaxed);
        Small.compile(source, variables, result)
    }

    fn scope(&self, base: Option<&Scope>, variables: Vec<(String, Value)>) -> Scope {
        Small.scope(base, variables)
    }
}

/// A file of these lines, as many as fit; each counts as so many values.
fn lines(cost: usize, head: &str, line: impl Fn(usize) -> String, tail: &str) -> String {
    let mut text = format!("version: 1\nname: w\n{head}");
    for i in 0.. {
        let next = line(i);
        if text.len() + next.len() + tail.len() > MAX_BYTES || i >= 9_000 / cost {
            break;
        }
        text.push_str(&next);
    }
    text + tail
}

const NODES: &str = "nodes:\n  - { id: a, type: generate }\noutput: nodes.a.completion\n";

fn files() -> Vec<(&'static str, String)> {
    let ids: Vec<String> = (0..60).map(|i| format!("n{i}")).collect();
    let sixty: String = ids.iter().map(|i| format!("  - {{ id: {i}, type: generate }}\n")).collect();
    let list = ids.join(", ");
    let (mut nested, mut close) = (String::new(), String::new());
    for d in 0..19 {
        let pad = " ".repeat(d * 6);
        nested += &format!(
            "{pad}  - id: l{d}\n{pad}    type: loop\n{pad}    max_iterations: 2\n{pad}    until: flag\n{pad}    body:\n{pad}      nodes:\n"
        );
    }
    let pad = " ".repeat(19 * 6);
    nested += &format!("{pad}  - {{ id: in, type: generate }}\n");
    close += "output: nodes.l0.last\n";
    vec![
        ("unknown keys at the top", lines(2, "", |i| format!("nodez{i}: 1\n"), NODES)),
        (
            "unknown keys of a node",
            lines(2, "nodes:\n  - id: a\n    type: generate\n", |i| format!("    samplez{i}: 1\n"), ""),
        ),
        ("nodes that are none", lines(1, "nodes:\n", |_| "  - {}\n".to_owned(), "")),
        ("nodes of no type", lines(5, "nodes:\n", |i| format!("  - {{ id: x{i}, type: generete }}\n"), "")),
        (
            "edges that lead nowhere",
            lines(5, &format!("{NODES}edges:\n"), |i| format!("  - {{ from: x{i}, to: y{i} }}\n"), ""),
        ),
        (
            "edges of all to all",
            lines(
                125,
                &format!("nodes:\n{sixty}edges:\n  - {{ from: &l [{list}], to: *l }}\n"),
                |_| "  - { from: *l, to: *l }\n".to_owned(),
                "",
            ),
        ),
        ("vars", lines(3, "vars:\n", |i| format!("  v{i}: [1]\n"), NODES)),
        (
            "templates by aliases",
            lines(
                430,
                &format!("prompts:\n  p: &t \"{}\"\n", "${ vars.x } ".repeat(4000)),
                |i| format!("  p{i}: *t\n"),
                NODES,
            ),
        ),
        (
            "one expression",
            format!(
                "version: 1\nname: w\nnodes:\n  - {{ id: a, type: generate, when: \"{}flag\" }}\noutput: nodes.a.completion\n",
                "flag && ".repeat(30_000)
            ),
        ),
        (
            "alias of small lists",
            lines(
                130,
                &format!("nodes:\n{sixty}edges:\n  - {{ from: n0, to: &l [{list}] }}\n"),
                |i| format!("  - {{ from: n{}, to: *l, when: flag }}\n", i % 60),
                "",
            ),
        ),
        (
            "a condition for each pair",
            format!(
                "version: 1\nname: w\nnodes:\n{sixty}edges:\n  - {{ from: [n0, n1, n2, n3], to: [{}], when: \"{}flag\" }}\n",
                ids[4..].join(", "),
                "flag && ".repeat(4_000)
            ),
        ),
        ("loops in loops", format!("version: 1\nname: w\nnodes:\n{nested}{close}")),
        (
            "validators of validators",
            lines(
                20,
                "validators:\n  v0: { use: json }\n",
                |i| format!("  v{}: {{ use: v{i} }}\n", i + 1),
                NODES,
            ),
        ),
        ("one long key", format!("version: 1\nname: w\n{}: 1\n{NODES}", "k".repeat(200_000))),
        ("pools", lines(20, "pools:\n", |i| format!("  p{i}: {{ pool: p{} }}\n", i + 1), NODES)),
        ("comments", lines(1, "", |_| "# nothing\n".to_owned(), NODES)),
        ("brackets", format!("version: 1\nname: w\nvars: {}\n", "[".repeat(200_000))),
        ("braces", format!("version: 1\nname: w\nvars: {}\n", "{a: ".repeat(60_000))),
    ]
}

/// Reads a file; gives what it is, its problems, and what was compiled for it.
fn read(text: String) -> (Library, Vec<Diagnostic>, usize) {
    let language = Counting::default();
    let (library, problems) = load_with(&[SourceFile::new("w.yaml", text)], &language);
    (library, problems, language.0.into_inner())
}

/// Scenario 22, of the largest files: what is compiled, what is told and what is built of them has its bounds.
#[test]
fn scenario_22_the_largest_files_make_bounded_work() {
    for (name, text) in files() {
        assert!(text.len() <= MAX_BYTES, "{name}");
        let (library, problems, compiled) = read(text);
        // One expression may be under way when the bound is reached.
        assert!(compiled <= MOST + MAX_BYTES, "{name}: {compiled} bytes were compiled");
        assert!(problems.len() <= MAX_NODES, "{name}: {} problems", problems.len());
        let edges = library.get("w").map_or(0, |w| w.root.edges.len());
        assert!(edges <= MAX_EDGES, "{name}: {edges} edges");
    }
}

/// What multiplies is refused where it stands.
#[test]
fn what_multiplies_is_told_of_once() {
    let told = |name: &str| {
        let text = files().into_iter().find(|(n, _)| *n == name).unwrap().1;
        let (_, problems, _) = read(text);
        let large = problems.iter().filter(|p| p.code == "WF003");
        large.map(|p| (p.line, p.message.clone())).collect::<Vec<_>>()
    };
    let edges = format!("more than {MAX_EDGES} edges, lists of ends expanded");
    assert_eq!(told("edges of all to all"), [(66, edges)]);
    let many = told("a condition for each pair");
    assert!(many.len() == 1 && many[0].1.contains("too many expressions"), "{many:?}");
    assert_eq!(told("templates by aliases").len(), 1);
    assert_eq!(told("comments"), []);
}

/// Patterns of a few bytes that take a million each when compiled: a page of them kept a core for seconds.
#[test]
fn patterns_of_a_file_take_a_bounded_amount_together() {
    let told = |check: &dyn Fn(usize) -> String, count: usize| {
        let node = |i| {
            format!(
                "  - {{ id: c{i}, type: validate, input: nodes.a.completion, validators: [{}] }}\n",
                check(i)
            )
        };
        let nodes: String = (0..count).map(node).collect();
        let text = format!(
            "version: 1\nname: w\nnodes:\n  - {{ id: a, type: generate }}\n{nodes}output: nodes.a.completion\n"
        );
        let (_, problems, _) = read(text);
        problems.iter().filter(|p| p.message.contains("more than 8388608 bytes")).count()
    };
    let regex = |i| format!("{{ use: regex, with: {{ must: '^\\p{{L}}{{24}}x{i}' }} }}");
    let pattern = |i| format!("{{ type: string, pattern: '^\\p{{L}}{{24}}x{i}' }}");
    let schema = |i| format!("{{ use: json_schema, with: {{ schema: {} }} }}", pattern(i));
    let checks: [&dyn Fn(usize) -> String; 2] = [&regex, &schema];
    for check in checks {
        assert_eq!(told(check, 2), 0);
        let refused = told(check, 30);
        assert!((1..30).contains(&refused), "{refused}");
    }
}
