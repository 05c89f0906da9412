//! How two workflows differ in what they do: nodes, edges, limits and the rest, not comments, titles or order.

use crate::canonical::{sorted, unusual};
use crate::draw::edge_label;
use crate::plan::Workflow;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use types::doc::{self, SourceFile};

/// What became of one thing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// `node fix`, `edge check -> fix`, `limits`, `serves`, …
    pub what: String,
    /// `added`, `removed` or `changed`.
    pub how: &'static str,
    /// Field, value before, value after; `null` where there is none.
    pub fields: Vec<(String, Value, Value)>,
}

/// How two workflows differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Whether nothing that happens is different.
    pub same: bool,
    /// What is different, in the order of the files.
    pub changes: Vec<Change>,
}

/// Keys that change nothing that happens.
const SILENT: &[&str] = &[
    "name",
    "title",
    "description",
    "owner",
    "revision",
    "labels",
    "tests",
    "lint",
    "version",
    "nodes",
    "edges",
    "needs",
];

/// Compares two workflows; their files give the words, their plans decide whether anything is different.
#[must_use]
pub fn difference(a: (&Workflow, &SourceFile), b: (&Workflow, &SourceFile)) -> Difference {
    let mut changes = Vec::new();
    let (x, y) = (written(a.1), written(b.1));
    fields(&mut changes, &x, &y);
    nodes(&mut changes, (a.0, &x), (b.0, &y));
    edges(&mut changes, a.0, b.0);
    if changes.is_empty() && without_name(a.0) != without_name(b.0) {
        changes.push(Change { what: "what it builds on".to_owned(), how: "changed", fields: Vec::new() });
    }
    Difference { same: changes.is_empty(), changes }
}

/// What the plan hash is made of, the name apart: two names may do the same.
fn without_name(w: &Workflow) -> (Value, String, Value, Option<String>) {
    let fallback = w.fallback.as_ref().map(|f| f.plan_hash.clone());
    (unusual(&w.limits), w.vars.to_string(), sorted(&w.root.canonical()), fallback)
}

fn written(file: &SourceFile) -> Value {
    doc::parse(file, "WF").map(|n| n.to_json()).unwrap_or_default()
}

/// The members of both objects, in the order of the first, then of the second.
fn members<'a>(a: &'a Value, b: &'a Value) -> Vec<(&'a str, &'a Value, &'a Value)> {
    let empty = &Value::Null;
    let of = |v: &'a Value| v.as_object().into_iter().flatten();
    let mut all: Vec<(&str, &Value, &Value)> =
        of(a).map(|(k, v)| (k.as_str(), v, b.get(k).unwrap_or(empty))).collect();
    all.extend(of(b).filter(|(k, _)| a.get(k.as_str()).is_none()).map(|(k, v)| (k.as_str(), empty, v)));
    all
}

/// Top-level keys, one level deep.
fn fields(into: &mut Vec<Change>, a: &Value, b: &Value) {
    for (key, x, y) in members(a, b) {
        if SILENT.contains(&key) || key.starts_with("x-") || sorted(x) == sorted(y) {
            continue;
        }
        let how = change(x, y);
        let fields = if x.is_object() || y.is_object() {
            members(x, y).into_iter().filter(|(_, x, y)| x != y).map(owned).collect()
        } else {
            vec![owned(("", x, y))]
        };
        into.push(Change { what: key.to_owned(), how, fields });
    }
}

fn owned((key, x, y): (&str, &Value, &Value)) -> (String, Value, Value) {
    (key.to_owned(), x.clone(), y.clone())
}

fn change(x: &Value, y: &Value) -> &'static str {
    match (x.is_null(), y.is_null()) {
        (true, false) => "added",
        (false, true) => "removed",
        _ => "changed",
    }
}

fn nodes(into: &mut Vec<Change>, (a, x): (&Workflow, &Value), (b, y): (&Workflow, &Value)) {
    let (before, after) = (a.node_hashes(), b.node_hashes());
    let ids = a.root.nodes.iter().chain(&b.root.nodes).map(|n| n.id.to_string());
    let mut seen = Vec::new();
    for id in ids {
        if seen.contains(&id) || before.get(&id) == after.get(&id) {
            continue;
        }
        let (u, v) = (node(x, &id), node(y, &id));
        let how = match (before.contains_key(&id), after.contains_key(&id)) {
            (false, _) => "added",
            (_, false) => "removed",
            _ => "changed",
        };
        let kept = |(k, u, v): &(&str, &Value, &Value)| !SILENT.contains(k) && !k.starts_with("x-") && u != v;
        let fields = match how {
            "changed" => members(&u, &v).into_iter().filter(kept).map(owned).collect(),
            _ => Vec::new(),
        };
        // Positions of other nodes are part of a plan: a node that is written the same and moved is the same.
        if how != "changed" || !fields.is_empty() {
            into.push(Change { what: format!("node {id}"), how, fields });
        }
        seen.push(id);
    }
}

/// A node as it is written.
fn node(file: &Value, id: &str) -> Value {
    let mut nodes = file.get("nodes").and_then(Value::as_array).into_iter().flatten();
    let found = nodes.find(|n| n.get("id").and_then(Value::as_str) == Some(id));
    found.cloned().unwrap_or_else(|| Value::Object(Map::new()))
}

/// Edges by their ends, `needs` included; between the same ends by what they accept.
fn edges(into: &mut Vec<Change>, a: &Workflow, b: &Workflow) {
    let (x, y) = (ends(a), ends(b));
    let mut all: Vec<&(String, String)> = x.keys().chain(y.keys()).collect();
    all.sort();
    all.dedup();
    for (from, to) in all {
        let key = (from.clone(), to.clone());
        let (u, v) = (x.get(&key), y.get(&key));
        if u == v {
            continue;
        }
        let text = |l: Option<&Vec<String>>| l.map_or(Value::Null, |l| l.join(" | ").into());
        let (u, v) = (text(u), text(v));
        let how = change(&u, &v);
        into.push(Change {
            what: format!("edge {from} -> {to}"),
            how,
            fields: vec![("accepts".to_owned(), u, v)],
        });
    }
}

fn ends(w: &Workflow) -> BTreeMap<(String, String), Vec<String>> {
    let id = |i: usize| w.root.nodes.get(i).map(|n| n.id.to_string()).unwrap_or_default();
    let mut all: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for e in &w.root.edges {
        let label = edge_label(&w.root, e);
        let label = if label.is_empty() { "completed".to_owned() } else { label };
        all.entry((id(e.from), id(e.to))).or_default().push(label);
    }
    all.values_mut().for_each(|l| l.sort());
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{file, load_all};

    fn check(a: &str, b: &str, want: &[&str]) {
        let made = |body: &str| {
            let (library, problems) = load_all(&[file(body)]);
            (library.get("w").unwrap_or_else(|| panic!("{problems:?}")).clone(), file(body))
        };
        let ((a, x), (b, y)) = (made(a), made(b));
        let got = difference((&a, &x), (&b, &y));
        let shown: Vec<String> = got
            .changes
            .iter()
            .map(|c| {
                let fields = c.fields.iter().map(|(k, u, v)| format!(" {k}: {u} => {v}"));
                format!("{} {}{}", c.how, c.what, fields.collect::<String>())
            })
            .collect();
        assert_eq!(shown, want);
        assert_eq!(got.same, want.is_empty());
    }

    const GOOD: &str = "\
limits: { usd: 0.05, calls: 4 }
nodes:
  - { id: ask, type: generate }
  - { id: check, type: validate, validators: [contract] }
  - { id: answer, type: stream, from: nodes.check.best }
edges:
  - { from: ask, to: check }
  - { from: check, to: answer }
";

    #[test]
    fn what_is_written_otherwise_and_means_the_same_is_no_difference() {
        check(GOOD, GOOD, &[]);
        let other = "\
title: T
x-note: mine
nodes:
  - { type: generate, id: ask, title: Ask }   # asks
  - { id: check, type: validate, validators: [contract], needs: ask }
  - { id: answer, type: stream, from: nodes.check.best, needs: [check] }
limits: { calls: 4, usd: 0.05 }
";
        check(GOOD, other, &[]);
    }

    #[test]
    fn nodes_edges_and_limits_are_named_with_both_values() {
        let other = GOOD
            .replace("usd: 0.05", "usd: 0.1")
            .replace("type: generate }", "type: generate, samples: 2 }")
            .replace(
                "from: nodes.check.best }",
                "from: nodes.check.best }\n  - { id: no, type: fail, code: no, message: none }",
            )
            .replace(
                "to: answer }",
                "to: answer, outcome: [passed, unverified] }\n  - { from: check, to: no, outcome: failed }",
            );
        check(
            GOOD,
            &other,
            &[
                "changed limits usd: 0.05 => 0.1",
                "changed node ask samples: null => 2",
                "added node no",
                "changed edge check -> answer accepts: \"completed\" => \"passed, unverified\"",
                "added edge check -> no accepts: null => \"failed\"",
            ],
        );
    }

    #[test]
    fn what_stands_elsewhere_counts() {
        let with = |pool: &str| {
            format!(
                "pools: {{ own: {{ {pool} }} }}\n{}",
                GOOD.replace("generate }", "generate, route: { pool: own } }")
            )
        };
        check(
            &with("min_tier: 1"),
            &with("min_tier: 2"),
            &["changed pools own: {\"min_tier\":1} => {\"min_tier\":2}"],
        );
    }
}
