//! Changed rules and scripts against unchanged tests: what no test notices is not tested.

use super::registry::Sets;
use super::{Coverage, Registries, TestReport};
use crate::load::Reading;
use crate::sandbox::Sandbox;
use crate::script;
use crate::selector::{Context, Moment};
use crate::set::{Entry, PolicySet};
use crate::tenant::TenantFiles;
use serde::Serialize;
use std::ops::Range;
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

/// A change of one rule or script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mutant {
    /// The rule, or the script by its file.
    pub rule: String,
    /// The file that it stands in.
    pub file: String,
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
    /// One line per change that no test noticed, then how many were.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        let line = |m: &Mutant| format!("unnoticed  {}:{}: `{}`: {}", m.file, m.line, m.rule, m.change);
        let mut lines: Vec<String> = self.survived.iter().map(line).collect();
        let all = self.killed.saturating_add(self.survived.len());
        let more = if self.cut { "; there are more, which were not tried" } else { "" };
        lines.push(format!("{} of {all} changes were noticed{more}", self.killed));
        lines
    }
}

impl Mutation {
    /// Counts what the tests made of a change.
    fn count(&mut self, mutant: Mutant, report: &TestReport) {
        match report.failed() > 0 {
            true => self.killed = self.killed.saturating_add(1),
            false => self.survived.push(mutant),
        }
    }
}

/// A changed rule.
struct Changed {
    mutant: Mutant,
    at: usize,
    rule: Node,
}

impl PolicySet {
    /// Changes the rules, those of the rules file unless they are `shipped`, and the scripts one by one (rules switched off,
    /// comparisons and truth turned round, numbers changed) and runs all cases against each. What a change makes unreadable
    /// is none. The cases must pass without it.
    #[must_use]
    pub fn mutate(&self, files: &[SourceFile], registries: &Registries, shipped: bool) -> Mutation {
        let (sets, _) = Sets::of(self, registries);
        let mut found = Mutation::default();
        let mut left = MAX_MUTANTS;
        let own = Some(&self.written.rules).filter(|_| !shipped);
        for rules in own.into_iter().chain(self.written.tenants.iter().flat_map(TenantFiles::rules)) {
            self.mutate_rules(rules, (files, &sets), &mut left, &mut found);
        }
        for script in self.script_files() {
            let changes = of_script(script);
            found.cut |= changes.len() > left;
            for (mutant, text) in changes.into_iter().take(left) {
                left = left.saturating_sub(1);
                let changed = SourceFile::new(script.path.clone(), text);
                let (Some(set), Some(sets)) = (self.with_script(&changed), sets.with_script(&changed)) else {
                    continue;
                };
                found.count(mutant, &set.test_under(files, &sets, Coverage::default()).0);
            }
        }
        found
    }

    fn mutate_rules(
        &self,
        rules: &SourceFile,
        (files, sets): (&[SourceFile], &Sets),
        left: &mut usize,
        found: &mut Mutation,
    ) {
        let Ok(root) = doc::parse(rules, "PL") else { return };
        let Some(Node { value: Value::List(list), span, style }) = root.get("rules") else { return };
        let changes: Vec<Changed> =
            list.iter().enumerate().flat_map(|(at, n)| changes(&rules.path, at, n)).collect();
        found.cut |= changes.len() > *left;
        for Changed { mutant, at, rule } in changes.into_iter().take(*left) {
            *left = left.saturating_sub(1);
            let mut all = list.clone();
            if let Some(slot) = all.get_mut(at) {
                *slot = rule;
            }
            let node = Node { value: Value::List(all), span: *span, style: *style };
            let (Some(set), Some(sets)) = (self.with_rules(rules, &node), sets.with_rules(rules, &node))
            else {
                continue;
            };
            found.count(mutant, &set.test_under(files, &sets, Coverage::default()).0);
        }
    }

    /// The same with another text of one script; `None` = it cannot be read.
    pub(super) fn with_script(&self, changed: &SourceFile) -> Option<PolicySet> {
        self.with_file(changed, |reading, _| reading.scripts(vec![changed]))
    }

    /// The same with other rules in a file; `None` = they cannot be read.
    pub(super) fn with_rules(&self, file: &SourceFile, node: &Node) -> Option<PolicySet> {
        self.with_file(file, |reading, r| reading.rules(r, node))
    }

    /// The same with what `read` makes of one file; `None` = it cannot be read.
    fn with_file(
        &self,
        file: &SourceFile,
        read: impl FnOnce(&mut Reading<'_>, &mut Reader<'_>),
    ) -> Option<PolicySet> {
        let cx = Context { resolver: &self.resolver, moment: Moment::Load };
        let sandbox = Sandbox::scripts(&self.sandbox.constants, script::register);
        let mut reading = Reading::new(&cx, &sandbox);
        let mut r = Reader::new(file, "PL");
        match self.tenant_of(file) {
            Some(tenant) => reading.of_tenant(tenant, |reading| read(reading, &mut r)),
            None => read(&mut reading, &mut r),
        }
        if reading.is_faulty() || r.problems.iter().any(|d| d.severity == Severity::Error) {
            return None;
        }
        let mut entries = reading.entries;
        entries.extend(self.entries.iter().filter(|e| e.file().path != file.path).map(Entry::anew));
        Some(self.with_entries(entries))
    }
}

/// Everything that is changed of one script, what it says of itself left out; with each the whole text.
fn of_script(script: &SourceFile) -> Vec<(Mutant, String)> {
    let text: &str = &script.text;
    let about = about(text);
    let changes = of_code(text).into_iter().filter(|change| !about.contains(&change.at));
    changes
        .map(|Change { at, said, text: changed }| {
            let before = text.get(..at).unwrap_or_default();
            let line = before.matches('\n').count().saturating_add(1);
            let rule = script.stem().to_owned();
            (Mutant { rule, file: script.path.clone(), line, change: said }, changed)
        })
        .collect()
}

/// Where in a script the function `describe` stands: to the first line that closes at its beginning.
fn about(text: &str) -> Range<usize> {
    let Some(start) = text.find("fn describe") else { return 0..0 };
    let rest = text.get(start..).unwrap_or_default();
    let end = rest.find("\n}").or_else(|| rest.find('\n')).unwrap_or(rest.len());
    start..start.saturating_add(end)
}

/// Everything that is changed of one rule.
fn changes(file: &str, at: usize, rule: &Node) -> Vec<Changed> {
    let Value::Map(members) = &rule.value else { return Vec::new() };
    let id = rule.get("id").and_then(Node::as_str).unwrap_or("?").to_owned();
    if rule.get("mode").and_then(Node::as_str) == Some("disabled") {
        return Vec::new();
    }
    let changed = |span: Span, change: String, rule: Node| Changed {
        mutant: Mutant { rule: id.clone(), file: file.to_owned(), line: span.line, change },
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
            for Change { said, text, .. } in of_code(text) {
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

/// A text that differs in one place.
struct Change {
    /// Where, in bytes.
    at: usize,
    /// What was done.
    said: String,
    /// The whole of it.
    text: String,
}

/// A condition or a script with one comparison or truth turned round, or one number changed.
fn of_code(text: &str) -> Vec<Change> {
    let mut all = Vec::new();
    let mut at = 0;
    let mut before = ' ';
    while let Some(rest) = text.get(at..).filter(|r| !r.is_empty()) {
        let within = before.is_alphanumeric() || before == '_';
        let (length, other) = token(rest, within);
        if let (Some(to), Some(from)) = (other, rest.get(..length)) {
            let said = format!("`{from}` becomes `{to}`");
            all.push(Change { at, said, text: spliced(text, at, length, &to) });
        }
        before = rest.get(..length).and_then(|s| s.chars().next_back()).unwrap_or(' ');
        at = at.saturating_add(length.max(1));
    }
    all
}

/// How long what a text begins with is, and what it may become. `within`: a name goes on there.
fn token(rest: &str, within: bool) -> (usize, Option<String>) {
    let c = rest.chars().next().unwrap_or(' ');
    let to = |end: Option<usize>| end.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return (to(rest.find('\n')), None);
    }
    if rest.starts_with("/*") {
        return (to(rest.find("*/").map(|end| end.saturating_add(2))), None);
    }
    if c == '"' || c == '`' {
        return (quoted(rest, c), None);
    }
    // Arms of a switch and closures are no comparisons.
    if rest.starts_with("=>") || rest.starts_with("->") {
        return (2, None);
    }
    if let Some((from, flipped)) = FLIPS.iter().find(|(from, _)| rest.starts_with(from)) {
        return (from.len(), Some((*flipped).to_owned()));
    }
    if c.is_ascii_digit() && !within {
        let length = to(rest.find(|c: char| !(c.is_ascii_digit() || c == '.')));
        // The ends of a range are two numbers.
        let length = rest.get(..length).and_then(|n| n.find("..")).unwrap_or(length);
        return (length, rest.get(..length).and_then(another));
    }
    if (c.is_alphabetic() || c == '_') && !within {
        let length = to(rest.find(|c: char| !(c.is_alphanumeric() || c == '_')));
        let other = match rest.get(..length) {
            Some("true") => Some("false"),
            Some("false") => Some("true"),
            _ => None,
        };
        return (length, other.map(str::to_owned));
    }
    (c.len_utf8(), None)
}

/// Length of a string literal, its quotes included.
fn quoted(text: &str, mark: char) -> usize {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == mark => return i.saturating_add(1),
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
        let got: Vec<String> = of_code(text).into_iter().map(|change| change.text).collect();
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
        condition("a_true || !true", &["a_true && !true", "a_true || !false"]);
        condition(
            "for i in 0..3 { } // 5 < 6",
            &["for i in 1..3 { } // 5 < 6", "for i in 0..4 { } // 5 < 6"],
        );
        condition("switch x { \"a\" => 2, _ => `${1 < 2}` }", &["switch x { \"a\" => 3, _ => `${1 < 2}` }"]);
    }

    #[test]
    fn scripts_are_changed_too_and_shipped_rules_are_not() {
        let text = "fn describe() {\n    #{ id: \"guard\", priority: 5 }\n}\n\nfn most() { 3 }\n\n\
                    fn on_request(ctx, act) {\n    if ctx.history.turn > most() { act.deny(\"no\"); }\n}\n";
        let set = sound(RULES, &[("guard.rhai", text)]);
        let play = |cases: &str| {
            let files = [SourceFile::new("t.yaml", format!("version: 1\ncases:\n{cases}"))];
            let found = set.mutate(&files, &Registries::new(), true);
            let alive = found.survived.iter().map(|m| format!("{}:{} {}", m.file, m.line, m.change));
            (found.killed, alive.collect::<Vec<_>>())
        };
        let given = |turn: u32, expect: &str| {
            format!(
                "- {{ name: t{turn}, given: {{ history: {{ turn: {turn} }} }}, expect: {{ {expect} }} }}\n"
            )
        };
        let weak = given(9, "denied: denied");
        assert_eq!(play(&weak), (1, vec!["guard.rhai:5 `3` becomes `4`".to_owned()]));
        let strong = [given(4, "denied: denied"), given(3, "not_matched: [guard]")].concat();
        assert_eq!(play(&strong), (2, Vec::new()));
    }

    const RULES: &str = "rules:\n\
        - { id: dear, when: 'budget.state == \"red\" && history.turn > 3', actions: { cap_cost: 0.02, deny: { reason: no, status: 402 } } }\n\
        - { id: gone, mode: disabled, actions: { cap_cost: 1 } }\n";

    fn survivors(cases: &str) -> (usize, Vec<String>) {
        let set = sound(RULES, &[]);
        let files = [SourceFile::new("t.yaml", format!("version: 1\ncases:\n{cases}"))];
        let (report, problems) = set.test(&files, &Registries::new());
        assert!(report.failed() == 0 && problems.is_empty(), "{problems:?}");
        let found = set.mutate(&files, &Registries::new(), false);
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
