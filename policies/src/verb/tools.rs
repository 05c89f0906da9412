//! `allow_tools` and `deny_tools`: which tools may be offered and called; lists of allowed ones intersect, of
//! denied ones unite.

use super::{Kind, REQUEST, REQUEST_TOOL, Single, Verb, put};
use types::doc::{Node, Reader};

pub(super) const ALLOW: Verb = Verb {
    name: "allow_tools",
    kind: Kind::Hard,
    phases: REQUEST,
    single: Single::No,
    arguments: &["tools"],
    // An empty list allows no tool at all.
    read: |r, node, field, _| put(r.strings(node, field)?, |m, l, at| m.further().allow_tools.push((l, at))),
};

pub(super) const DENY: Verb = Verb {
    name: "deny_tools",
    kind: Kind::Hard,
    phases: REQUEST_TOOL,
    single: Single::No,
    arguments: &["tools"],
    read: |r, node, field, _| {
        put(some(r, node, field)?, |m, l, at| {
            m.further().deny_tools.extend(l.into_iter().map(|name| (name, at)));
        })
    },
};

fn some(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<Vec<String>> {
    let tools = r.strings(node, field)?;
    if tools.is_empty() {
        r.wrong_type(node, field, "at least one tool");
        return None;
    }
    Some(tools)
}

#[cfg(test)]
mod tests {
    use crate::testing::check_verb;

    #[test]
    fn a_tool_must_be_on_every_list_and_denied_by_none() {
        let d = check_verb(
            &["allow_tools: [search, send_mail]", "allow_tools: [\"s*\"]", "deny_tools: [send_mail]"],
            &["applied"; 3],
        );
        let further = d.further.unwrap();
        assert_eq!(further.forbids_tool("search"), None);
        assert_eq!(further.forbids_tool("send_mail").map(|r| &**r), Some("r2"));
        assert_eq!(further.forbids_tool("sum").map(|r| &**r), Some("r0"));
        assert_eq!(further.forbids_tool("delete").map(|r| &**r), Some("r0"));
    }
}
