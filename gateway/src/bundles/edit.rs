//! Members of a section changed in the text of a rules file: everything else, comments included, stays as it is.
//!
//! The text is changed by lines, and what comes of that is read again: it must say what it said before, but for the
//! member. Where it does not (unusual YAML), nothing is changed.

use crate::error::Failure;
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::ops::Range;
use types::doc::{self, Node, SourceFile};

/// Why a text cannot be changed, in words for the operator.
pub(super) type Stuck = String;

pub(super) fn refused(why: Stuck) -> Failure {
    Failure::new(StatusCode::CONFLICT, "not_editable", why)
}

/// A section of a rules file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// `pools`: members by their names.
    Pools,
    /// `rules`: a list, its members named by their `id`.
    Rules,
}

impl Section {
    const fn name(self) -> &'static str {
        match self {
            Section::Pools => "pools",
            Section::Rules => "rules",
        }
    }

    const fn empty(self) -> &'static str {
        match self {
            Section::Pools => "pools: {}\n",
            Section::Rules => "rules: []\n",
        }
    }

    /// A member on one line, as JSON, which is YAML.
    fn line(self, name: &str, value: &Value) -> String {
        match self {
            Section::Pools => format!("{name}: {}", flow(value)),
            Section::Rules => flow(value),
        }
    }

    /// The lines of a member at an indent; comments before it stay above it.
    fn indented(self, text: &str, indent: usize) -> String {
        let (pad, deep) = match self {
            Section::Pools => (String::new(), " ".repeat(indent)),
            Section::Rules => ("- ".to_owned(), " ".repeat(indent.saturating_add(2))),
        };
        let mut out = String::new();
        let mut begun = false;
        for line in text.trim_matches('\n').lines() {
            let blank = line.trim().is_empty();
            let above = !begun && (blank || line.trim_start().starts_with('#'));
            let before = match (begun, above) {
                (_, true) => " ".repeat(indent),
                (false, false) => format!("{}{pad}", " ".repeat(indent)),
                (true, false) => deep.clone(),
            };
            begun |= !above;
            out.push_str(format!("{before}{line}").trim_end());
            out.push('\n');
        }
        out
    }
}

/// A value as people write small maps.
fn flow(value: &Value) -> String {
    let Some(members) = value.as_object() else { return value.to_string() };
    let parts: Vec<String> = members.iter().map(|(k, v)| format!("{k}: {v}")).collect();
    format!("{{ {} }}", parts.join(", "))
}

/// What a member is to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Member<'a> {
    /// This value.
    Value(&'a Value),
    /// What these lines say, whose value is given too.
    Lines(&'a str, &'a Value),
    /// Nothing.
    Gone,
}

/// The text with one member put or removed.
///
/// # Errors
/// The text is written in a way that this cannot change.
pub(super) fn put(text: &str, section: Section, name: &str, member: Member<'_>) -> Result<String, Stuck> {
    let file = SourceFile::new("routing_rules.yaml", text);
    let root = doc::parse(&file, "PL").map_err(|d| d.to_string())?;
    let wanted = expected(&root, section, name, member);
    let by_lines = by_lines(text, &root, section, name, member);
    let changed = by_lines.into_iter().chain(whole(text, &root, section, &wanted));
    for text in changed {
        let read = doc::parse(&SourceFile::new("routing_rules.yaml", text.as_str()), "PL");
        if read.is_ok_and(|n| json_of(&n) == wanted) {
            return Ok(text);
        }
    }
    let section = section.name();
    Err(format!(
        "the section `{section}` of the file is written in a way that cannot be changed here; change the file"
    ))
}

/// The lines of a member, as they would stand alone, and the first of them.
pub(super) fn lines_of(text: &str, section: Section, name: &str) -> Option<String> {
    let file = SourceFile::new("routing_rules.yaml", text);
    let root = doc::parse(&file, "PL").ok()?;
    let value = root.get(section.name()).and_then(|n| find(n, name))?;
    let own = layout(text, &root, section).and_then(|l| {
        let (_, range) = l.members.iter().find(|(n, _)| n == name)?;
        let lines: Vec<&str> = text.lines().collect();
        let depth = l.indent.saturating_add(if section == Section::Rules { 2 } else { 0 });
        let own = lines.get(range.clone())?.iter().map(|l| l.get(depth..).unwrap_or("").trim_end());
        Some(own.collect::<Vec<_>>().join("\n"))
    });
    let reads_alike = |t: &String| {
        let read = doc::parse(&SourceFile::new("", t.as_str()), "PL");
        read.is_ok_and(|n| n.to_json() == value.to_json())
    };
    own.filter(reads_alike)
        .or_else(|| serde_json::to_string_pretty(&value.to_json()).ok())
        .map(|t| format!("{}\n", t.trim_end()))
}

fn find<'a>(section: &'a Node, name: &str) -> Option<&'a Node> {
    match &section.value {
        doc::Value::List(items) => items.iter().find(|i| i.get("id").and_then(Node::as_str) == Some(name)),
        _ => section.get(name),
    }
}

fn json_of(root: &Node) -> Value {
    match root.to_json() {
        Value::Null => json!({}),
        other => other,
    }
}

/// What the whole file is to say.
fn expected(root: &Node, section: Section, name: &str, member: Member<'_>) -> Value {
    let value = match member {
        Member::Value(v) | Member::Lines(_, v) => Some(v.clone()),
        Member::Gone => None,
    };
    let mut all = json_of(root);
    let Some(sections) = all.as_object_mut() else { return all };
    match section {
        Section::Pools => {
            let pools = sections.entry("pools").or_insert_with(|| json!({}));
            if pools.is_null() {
                *pools = json!({});
            }
            let Some(pools) = pools.as_object_mut() else { return all };
            match value {
                Some(v) => pools.insert(name.to_owned(), v),
                None => pools.remove(name),
            };
        }
        Section::Rules => {
            let rules = sections.entry("rules").or_insert_with(|| json!([]));
            if rules.is_null() {
                *rules = json!([]);
            }
            let Some(rules) = rules.as_array_mut() else { return all };
            let at = rules.iter().position(|r| r.get("id").and_then(Value::as_str) == Some(name));
            match (at.and_then(|i| rules.get_mut(i)), value) {
                (Some(rule), Some(v)) => *rule = v,
                (Some(_), None) => rules.retain(|r| r.get("id").and_then(Value::as_str) != Some(name)),
                (None, Some(v)) => rules.push(v),
                (None, None) => {}
            }
        }
    }
    all
}

/// Where the lines of a section are; lines count from 0.
struct Layout {
    /// Its first line, which names it, up to the line after its last.
    all: Range<usize>,
    indent: usize,
    members: Vec<(String, Range<usize>)>,
}

fn root_keys(root: &Node) -> Option<&[(doc::Key, Node)]> {
    match &root.value {
        doc::Value::Map(m) => m.iter().all(|(k, _)| k.span.column == 1).then_some(m.as_slice()),
        _ => None,
    }
}

/// The lines of a section, without blank ones and comments at their end.
fn section_lines(text: &str, root: &Node, section: Section) -> Option<Range<usize>> {
    let keys = root_keys(root)?;
    let at = keys.iter().position(|(k, _)| k.name == section.name())?;
    let line = |i: usize| keys.get(i).map(|(k, _)| k.span.line.saturating_sub(1));
    let lines: Vec<&str> = text.lines().collect();
    let end = line(at.saturating_add(1)).unwrap_or(lines.len());
    Some(trimmed(&lines, line(at)?..end))
}

fn trimmed(lines: &[&str], range: Range<usize>) -> Range<usize> {
    let idle = |l: &&str| l.trim().is_empty() || l.trim_start().starts_with('#');
    let own = lines.get(range.clone()).unwrap_or(&[]);
    let idle = own.iter().rev().take_while(|l| idle(l)).count();
    range.start..range.end.saturating_sub(idle).max(range.start.saturating_add(1))
}

/// `None` where the members do not stand below each other.
fn layout(text: &str, root: &Node, section: Section) -> Option<Layout> {
    let all = section_lines(text, root, section)?;
    let lines: Vec<&str> = text.lines().collect();
    let starts: Vec<(String, usize)> = match &root.get(section.name())?.value {
        doc::Value::Map(m) => m.iter().map(|(k, _)| (k.name.clone(), k.span.line)).collect(),
        doc::Value::List(items) => {
            let named = |i: &Node| Some((i.get("id")?.as_str()?.to_owned(), i.span.line));
            items.iter().map(named).collect::<Option<_>>()?
        }
        _ => return None,
    };
    let first = starts.first()?.1.saturating_sub(1);
    let indent = lines.get(first)?.chars().take_while(|c| *c == ' ').count();
    let mut members = Vec::new();
    for (i, (name, line)) in starts.iter().enumerate() {
        let start = line.saturating_sub(1);
        let (before, own) = lines.get(start)?.split_at_checked(indent)?;
        let begins = match section {
            Section::Pools => !own.starts_with(' '),
            Section::Rules => own.starts_with("- "),
        };
        let end = starts.get(i.saturating_add(1)).map_or(all.end, |(_, l)| l.saturating_sub(1));
        if !begins || !before.trim().is_empty() || start <= all.start || end <= start {
            return None;
        }
        members.push((name.clone(), trimmed(&lines, start..end)));
    }
    Some(Layout { all, indent, members })
}

/// The text with these lines in the place of others.
fn with(text: &str, range: Range<usize>, new: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut out = String::with_capacity(text.len().saturating_add(new.len()));
    out.extend(lines.get(..range.start).into_iter().flatten().copied());
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    out.push_str(new);
    out.extend(lines.get(range.end..).into_iter().flatten().copied());
    out
}

/// The text with only the lines of the member changed.
fn by_lines(text: &str, root: &Node, section: Section, name: &str, member: Member<'_>) -> Option<String> {
    let layout = layout(text, root, section)?;
    let own = layout.members.iter().find(|(n, _)| n == name).map(|(_, r)| r.clone());
    let last = layout.members.last().map(|(_, r)| r.end..r.end)?;
    let new = match member {
        Member::Gone if layout.members.len() == 1 => return Some(with(text, layout.all, section.empty())),
        Member::Gone => return Some(with(text, own?, "")),
        Member::Value(v) => section.indented(&section.line(name, v), layout.indent),
        Member::Lines(lines, _) => section.indented(lines, layout.indent),
    };
    Some(with(text, own.unwrap_or(last), &new))
}

/// The text with the section written anew: where there is none, or where its members share lines.
fn whole(text: &str, root: &Node, section: Section, wanted: &Value) -> Option<String> {
    if root_keys(root).is_none() && !matches!(root.value, doc::Value::Null) {
        return None;
    }
    let mut new = format!("{}:\n", section.name());
    match wanted.get(section.name())? {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in in_order(root, section, members) {
                new.push_str(&section.indented(&section.line(name, value), 2));
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                new.push_str(&section.indented(&section.line("", item), 2));
            }
        }
        _ => section.empty().clone_into(&mut new),
    }
    let end = text.lines().count();
    let range = section_lines(text, root, section).unwrap_or_else(|| {
        new.insert(0, '\n');
        end..end
    });
    Some(with(text, range, &new))
}

/// Members as they stood, then the others: a pool may name those before it.
fn in_order<'a>(
    root: &Node,
    section: Section,
    members: &'a Map<String, Value>,
) -> Vec<(&'a String, &'a Value)> {
    let before: Vec<&str> = match root.get(section.name()).map(|n| &n.value) {
        Some(doc::Value::Map(m)) => m.iter().map(|(k, _)| k.name.as_str()).collect(),
        _ => Vec::new(),
    };
    let mut all: Vec<_> = members.iter().collect();
    all.sort_by_key(|(name, _)| before.iter().position(|b| b == name).unwrap_or(usize::MAX));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts or removes a pool, or a rule of these lines.
    fn check(text: &str, section: Section, name: &str, new: Option<&str>, want: &str) {
        let value = |t: &str| doc::parse(&SourceFile::new("new", t), "PL").unwrap().to_json();
        let got = match (section, new) {
            (_, None) => put(text, section, name, Member::Gone),
            (Section::Pools, Some(t)) => put(text, section, name, Member::Value(&value(t))),
            (Section::Rules, Some(t)) => put(text, section, name, Member::Lines(t, &value(t))),
        };
        assert_eq!(got.as_deref(), Ok(want), "{name} in\n{text}");
    }

    const FILE: &str = "version: 1\n# ours\npools:\n  # small ones\n  cheap: { where: model.tier == 1 }   # so\n\n  # big\n  strong:\n    where: model.tier == 3\n    min: 1\n\n# the rules\nrules:\n  - id: a\n    description: |\n      # a heading\n      text\n    actions: { tag: { a: b } }\n\n  # of b\n  - id: b\n    actions: { tag: { a: c } }\n";

    #[test]
    fn a_member_changes_and_nothing_else_does() {
        let pool = Some("{ where: \"model.tier == 2\" }");
        let cheap = "  cheap: { where: model.tier == 1 }   # so\n";
        let new = "  cheap: { where: \"model.tier == 2\" }\n";
        check(FILE, Section::Pools, "cheap", pool, &FILE.replace(cheap, new));
        let strong = "  strong:\n    where: model.tier == 3\n    min: 1\n";
        let mid = "  mid: { where: \"model.tier == 2\" }\n";
        check(FILE, Section::Pools, "mid", pool, &FILE.replace(strong, &format!("{strong}{mid}")));
        check(FILE, Section::Pools, "strong", None, &FILE.replace(strong, ""));
        let b = "  - id: b\n    actions: { tag: { a: c } }\n";
        check(FILE, Section::Rules, "b", None, &FILE.replace(b, ""));
        let lines = "# why\nid: b\nactions:\n  tag: { a: d }\n";
        let written = "  # why\n  - id: b\n    actions:\n      tag: { a: d }\n";
        check(FILE, Section::Rules, "b", Some(lines), &FILE.replace(b, written));
        check(
            FILE,
            Section::Rules,
            "c",
            Some("{ id: c, actions: { tag: { a: d } } }"),
            &format!("{FILE}  - {{ id: c, actions: {{ tag: {{ a: d }} }} }}\n"),
        );
    }

    #[test]
    fn sections_come_go_and_are_written_anew_where_members_share_lines() {
        let pool = Some("{ models: [\"*\"] }");
        let rule = Some("id: a\nactions: { tag: { a: b } }");
        let mine = "pools:\n  mine: { models: [\"*\"] }\n";
        check("version: 1\n", Section::Pools, "mine", pool, &format!("version: 1\n\n{mine}"));
        check("version: 1", Section::Pools, "mine", pool, &format!("version: 1\n\n{mine}"));
        check("version: 1\npools: {}\n", Section::Pools, "mine", pool, &format!("version: 1\n{mine}"));
        check(
            "version: 1\npools: {}\nsets: {}\n",
            Section::Pools,
            "mine",
            pool,
            &format!("version: 1\n{mine}sets: {{}}\n"),
        );
        check(&format!("version: 1\n{mine}"), Section::Pools, "mine", None, "version: 1\npools: {}\n");
        check(
            "version: 1\npools: { b: { models: [\"*\"] }, a: { models: [\"pool:b\"] } }\n",
            Section::Pools,
            "mine",
            pool,
            "version: 1\npools:\n  b: { models: [\"*\"] }\n  a: { models: [\"pool:b\"] }\n  mine: { models: [\"*\"] }\n",
        );
        let rules = "rules:\n  - { id: \"a\", actions: {\"tag\":{\"a\":\"b\"}} }\n";
        for text in ["version: 1\nrules: []\n", "version: 1\nrules:\n"] {
            check(text, Section::Rules, "a", rule, &format!("version: 1\n{rules}"));
        }
        check(
            "version: 1\nrules:\n- id: a\n  actions: {}\n",
            Section::Rules,
            "a",
            None,
            "version: 1\nrules: []\n",
        );
    }

    #[test]
    fn what_cannot_be_changed_stays() {
        let pool = json!({"models": ["*"]});
        let stuck = put("{ version: 1, pools: {} }\n", Section::Pools, "mine", Member::Value(&pool));
        assert!(stuck.is_err_and(|e| e.contains("`pools`") && e.contains("change the file")));
        let anchored = "version: 1\npools:\n  a: &x { models: [\"*\"] }\n  b: *x\n";
        // Without `a` nothing is left that `b` could mean: the section is written anew.
        check(anchored, Section::Pools, "a", None, "version: 1\npools:\n  b: { models: [\"*\"] }\n");
    }

    #[test]
    fn a_member_reads_alone_as_it_stands() {
        let rule = lines_of(FILE, Section::Rules, "a");
        let want = "id: a\ndescription: |\n  # a heading\n  text\nactions: { tag: { a: b } }\n";
        assert_eq!(rule.as_deref(), Some(want));
        let shared = lines_of("rules: [{ id: x, actions: {} }]", Section::Rules, "x");
        assert_eq!(shared.as_deref(), Some("{\n  \"id\": \"x\",\n  \"actions\": {}\n}\n"));
        assert_eq!(lines_of(FILE, Section::Rules, "z"), None);
    }
}
