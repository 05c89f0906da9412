//! Changed rules against unchanged tests: what no test notices is not tested.

use super::registry::Sets;
use super::{Coverage, Registries, TestReport};
use crate::load::rules;
use crate::selector::{Context, Moment};
use crate::set::{Body, Entry, PolicySet};
use serde::Serialize;
use std::collections::HashMap;
use types::diagnostic::Severity;
use types::doc::{self, Key, Node, Reader, SourceFile, Span, Style, Value};

/// Most changes that are tried.
const MAX_MUTANTS: usize = 2_000;
/// Comparisons and connectives, and what each becomes. Longer ones first.
const FLIPS: &[(&str, &str)] = &[
    ("==", "!="),
    ("!=", "=="),
    ("<=", ">"),
    (">=", "<"),
    ("&&", "||"),
    ("||", "&&"),
    ("<", ">="),
    (">", "<="),
];
/// Members of a rule that hold conditions.
const CONDITIONS: &[&str] = &["when", "unless"];

/// A change of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mutant {
    /// The rule.
    pub rule: String,
    /// Where the rule, or what is changed of it, stands: line from 1.
    pub line: usize,
    /// What is changed, in words.
    pub change: String,
}

/// What became of all changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mutation {
    /// Changes that a test noticed.
    pub killed: usize,
    /// Changes that none did, in the order of the file.
    pub survived: Vec<Mutant>,
    /// There were more than are tried.
    pub cut: bool,
}

impl Mutation {
    /// One line per change that no test noticed, then how many were; `file` is that of the rules.
    #[must_use]
    pub fn told(&self, file: &str) -> Vec<String> {
        let line = |m: &Mutant| format!("unnoticed  {file}:{}: `{}`: {}", m.line, m.rule, m.change);
        let mut lines: Vec<String> = self.survived.iter().map(line).collect();
        let all = self.killed.saturating_add(self.survived.len());
        let more = if self.cut { "; there are more, which were not tried" } else { "" };
        lines.push(format!("{} of {all} changes of rules were noticed{more}", self.killed));
        lines
    }
}

/// A changed rule.
struct Changed {
    mutant: Mutant,
    at: usize,
    rule: Node,
}

impl PolicySet {
    /// Changes the rules of the rules file one by one (switched off, comparisons turned round, numbers changed) and
    /// runs all cases against each. What a change makes unreadable is none. The cases must pass without it.
    #[must_use]
    pub fn mutate(&self, files: &[SourceFile], registries: &Registries) -> Mutation {
        let (sets, _) = Sets::of(self, registries);
        let mut found = Mutation::default();
        let Ok(root) = doc::parse(&self.rules_file, "PL") else { return found };
        let Some(Node { value: Value::List(list), span, style }) = root.get("rules") else { return found };
        let mut changes: Vec<Changed> = list.iter().enumerate().flat_map(|(at, n)| changes(at, n)).collect();
        found.cut = changes.len() > MAX_MUTANTS;
        changes.truncate(MAX_MUTANTS);
        for Changed { mutant, at, rule } in changes {
            let mut all = list.clone();
            if let Some(slot) = all.get_mut(at) {
                *slot = rule;
            }
            let node = Node { value: Value::List(all), span: *span, style: *style };
            let (Some(set), Some(sets)) = (self.with_rules(&node), sets.with_rules(&node)) else { continue };
            match noticed(&set.test_under(files, &sets, Coverage::default()).0) {
                true => found.killed = found.killed.saturating_add(1),
                false => found.survived.push(mutant),
            }
        }
        found
    }

    /// The same with other rules of the rules file; `None` = they cannot be read.
    pub(super) fn with_rules(&self, node: &Node) -> Option<PolicySet> {
        let mut r = Reader::new(&self.rules_file, "PL");
        let cx = Context { resolver: &self.resolver, moment: Moment::Load };
        let mut entries = Vec::new();
        rules(&mut r, node, &cx, &mut HashMap::new(), &mut entries);
        if r.problems.iter().any(|d| d.severity == Severity::Error) {
            return None;
        }
        let scripts = self.entries.iter().filter_map(|e| match &e.body {
            Body::Script(script) => {
                Some(Entry::new(e.head.clone(), e.phase, e.closed, Body::Script(script.clone())))
            }
            Body::Rule(_) => None,
        });
        entries.extend(scripts);
        Some(self.with_entries(entries))
    }
}

fn noticed(report: &TestReport) -> bool {
    report.failed() > 0
}

/// Everything that is changed of one rule.
fn changes(at: usize, rule: &Node) -> Vec<Changed> {
    let Value::Map(members) = &rule.value else { return Vec::new() };
    let id = rule.get("id").and_then(Node::as_str).unwrap_or("?").to_owned();
    if rule.get("mode").and_then(Node::as_str) == Some("disabled") {
        return Vec::new();
    }
    let changed = |span: Span, change: String, rule: Node| Changed {
        mutant: Mutant { rule: id.clone(), line: span.line, change },
        at,
        rule,
    };
    let mut all = vec![changed(rule.span, "it is switched off".to_owned(), off(rule, members))];
    for (i, (key, value)) in members.iter().enumerate() {
        let with = |value: Node| {
            let mut members = members.clone();
            if let Some(slot) = members.get_mut(i) {
                slot.1 = value;
            }
            Node { value: Value::Map(members), ..rule.clone() }
        };
        if CONDITIONS.contains(&key.name.as_str())
            && let Value::Str(text) = &value.value
        {
            for (said, text) in of_condition(text) {
                let node = Node { value: Value::Str(text), ..value.clone() };
                all.push(changed(value.span, format!("`{}`: {said}", key.name), with(node)));
            }
        }
        if key.name == "actions" {
            for (said, span, node) in of_numbers(value, "") {
                all.push(changed(span, said, with(node)));
            }
        }
    }
    all
}

/// The rule, switched off: its own tests stay.
fn off(rule: &Node, members: &[(Key, Node)]) -> Node {
    let mut members: Vec<_> = members.iter().filter(|(k, _)| k.name != "mode").cloned().collect();
    let mode = Node { value: Value::Str("disabled".to_owned()), span: rule.span, style: Style::Plain };
    members.push((Key { name: "mode".to_owned(), span: rule.span }, mode));
    Node { value: Value::Map(members), ..rule.clone() }
}

/// A condition with one comparison turned round, or one number changed; with each what was done.
fn of_condition(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut at = 0;
    let mut before = ' ';
    while let Some(rest) = text.get(at..).filter(|r| !r.is_empty()) {
        let c = rest.chars().next().unwrap_or(' ');
        let mut length = c.len_utf8();
        if c == '"' {
            length = quoted(rest);
        } else if let Some((from, to)) = FLIPS.iter().find(|(from, _)| rest.starts_with(from)) {
            length = from.len();
            all.push((format!("`{from}` becomes `{to}`"), spliced(text, at, length, to)));
        } else if c.is_ascii_digit() && !(before.is_alphanumeric() || before == '_') {
            length = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
            let number = rest.get(..length).unwrap_or_default();
            if let Some(other) = another(number) {
                all.push((format!("`{number}` becomes `{other}`"), spliced(text, at, length, &other)));
            }
        }
        before = rest.get(..length).and_then(|s| s.chars().next_back()).unwrap_or(' ');
        at = at.saturating_add(length.max(1));
    }
    all
}

/// Length of a string literal, its quotes included.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return i.saturating_add(1),
            _ => {}
        }
    }
    text.len()
}

fn spliced(text: &str, at: usize, length: usize, by: &str) -> String {
    let (before, behind) = (text.get(..at), text.get(at.saturating_add(length)..));
    format!("{}{by}{}", before.unwrap_or_default(), behind.unwrap_or_default())
}

/// Another number of the same kind.
fn another(number: &str) -> Option<String> {
    match number.parse::<i64>() {
        Ok(n) => Some(n.saturating_add(1).to_string()),
        Err(_) => number.parse::<f64>().ok().map(|x| format!("{:?}", if x == 0.0 { 0.5 } else { x / 2.0 })),
    }
}

/// Arguments of actions with one number changed; with each what was done, and where.
fn of_numbers(node: &Node, path: &str) -> Vec<(String, Span, Node)> {
    let changed = |value: Value, from: String, to: String| {
        let place = path.trim_start_matches('.');
        vec![(format!("`{place}`: `{from}` becomes `{to}`"), node.span, Node { value, ..node.clone() })]
    };
    match &node.value {
        Value::Int(n) => {
            // Downwards, where a ceiling or a count has no room above.
            let to = if *n > 1 { n.saturating_sub(1) } else { n.saturating_add(1) };
            changed(Value::Int(to), n.to_string(), to.to_string())
        }
        Value::Float(x) => {
            let to = if *x == 0.0 { 0.5 } else { x / 2.0 };
            changed(Value::Float(to), x.to_string(), to.to_string())
        }
        Value::List(items) => items
            .iter()
            .enumerate()
            .flat_map(|(i, item)| {
                let inner = of_numbers(item, &format!("{path}[{i}]"));
                inner.into_iter().map(move |(said, span, new)| {
                    let mut items = items.clone();
                    if let Some(slot) = items.get_mut(i) {
                        *slot = new;
                    }
                    (said, span, Node { value: Value::List(items), ..node.clone() })
                })
            })
            .collect(),
        Value::Map(members) => members
            .iter()
            .enumerate()
            .flat_map(|(i, (key, value))| {
                let inner = of_numbers(value, &format!("{path}.{}", key.name));
                inner.into_iter().map(move |(said, span, new)| {
                    let mut members = members.clone();
                    if let Some(slot) = members.get_mut(i) {
                        slot.1 = new;
                    }
                    (said, span, Node { value: Value::Map(members), ..node.clone() })
                })
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sound;

    #[track_caller]
    fn condition(text: &str, want: &[&str]) {
        let got: Vec<String> = of_condition(text).into_iter().map(|(_, text)| text).collect();
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn conditions_change_in_one_place_at_a_time_and_never_within_texts() {
        condition(
            "a == 1 && b < 2.5",
            &[
                "a != 1 && b < 2.5",
                "a == 2 && b < 2.5",
                "a == 1 || b < 2.5",
                "a == 1 && b >= 2.5",
                "a == 1 && b < 1.25",
            ],
        );
        condition(r#"x in ["a == 7", "\" < 8"]"#, &[]);
        condition("failures_10m >= 0", &["failures_10m < 0", "failures_10m >= 1"]);
        condition("ä != 0.0", &["ä == 0.0", "ä != 0.5"]);
    }

    const RULES: &str = "rules:\n\
        - { id: dear, when: 'budget.state == \"red\" && history.turn > 3', actions: { cap_cost: 0.02, deny: { reason: no, status: 402 } } }\n\
        - { id: gone, mode: disabled, actions: { cap_cost: 1 } }\n";

    fn survivors(cases: &str) -> (usize, Vec<String>) {
        let set = sound(RULES, &[]);
        let files = [SourceFile::new("t.yaml", format!("version: 1\ncases:\n{cases}"))];
        let (report, problems) = set.test(&files, &Registries::new());
        assert!(report.failed() == 0 && problems.is_empty(), "{problems:?}");
        let found = set.mutate(&files, &Registries::new());
        (
            found.killed,
            found.survived.into_iter().map(|m| format!("{}:{} {}", m.rule, m.line, m.change)).collect(),
        )
    }

    #[test]
    fn what_no_test_notices_survives() {
        let weak = "- { name: a, given: { budget: { state: red }, history: { turn: 9 } }, expect: { matched: [dear] } }\n";
        let (killed, alive) = survivors(weak);
        // `==`, `>` and the rule itself are noticed.
        assert_eq!(killed, 3);
        assert_eq!(
            alive,
            [
                "dear:2 `when`: `&&` becomes `||`",
                "dear:2 `when`: `3` becomes `4`",
                "dear:2 `cap_cost`: `0.02` becomes `0.01`",
                "dear:2 `deny.status`: `402` becomes `401`",
            ]
        );
        let strong = "- { name: a, given: { budget: { state: red }, history: { turn: 4 } }, expect: { matched: [dear], \
                      directives: { cap_cost: 0.02, deny: [{ reason: no, code: denied, status: 402 }] } } }\n\
                      - { name: b, given: { budget: { state: red }, history: { turn: 3 } }, expect: { not_matched: [dear] } }\n";
        assert_eq!(survivors(strong), (7, Vec::new()));
    }
}
