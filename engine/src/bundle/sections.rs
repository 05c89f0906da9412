//! The sections of `routing_rules.yaml`, told apart and not yet understood.

use types::doc::{self, Node, Reader};

/// One root key of `routing_rules.yaml` each; `None` = it is not there.
pub(super) struct Sections<'a> {
    pub(super) utility: Option<&'a Node>,
    pub(super) exploration: Option<&'a Node>,
    pub(super) disabled: Option<&'a Node>,
    pub(super) tools: Option<&'a Node>,
    /// Those that the policies understand.
    pub(super) policies: policies::Sections<'a>,
    /// Rules that restrict have to say who answers for them.
    pub(super) require_owner: bool,
}

impl<'a> Sections<'a> {
    /// Reads the root of the file.
    pub(super) fn read(r: &mut Reader<'_>, root: &'a Node) -> Sections<'a> {
        let nothing = policies::Sections {
            pools: None,
            sets: None,
            approvers: None,
            patterns: None,
            redaction: None,
            rules: None,
        };
        let mut sections = Sections {
            utility: None,
            exploration: None,
            disabled: None,
            tools: None,
            policies: nothing,
            require_owner: false,
        };
        let Some(mut f) = r.fields(root, "") else { return sections };
        if !matches!(root.value, doc::Value::Null)
            && let Some(v) = f.require(r, "version")
        {
            r.integer(v, "version", 1, 1);
        }
        sections.utility = f.take("utility");
        sections.exploration = f.take("exploration");
        sections.disabled = f.take("workflows");
        sections.policies.pools = f.take("pools");
        sections.policies.sets = f.take("sets");
        sections.policies.approvers = f.take("approvers");
        sections.policies.patterns = f.take("patterns");
        sections.policies.redaction = f.take("redaction");
        sections.tools = f.take("tools");
        sections.policies.rules = f.take("rules");
        let owned = f.take("require_owner").and_then(|n| r.boolean(n, "require_owner"));
        sections.require_owner = owned.unwrap_or(false);
        f.finish(r);
        sections
    }
}

/// `workflows: { disabled: [name, …] }`.
pub(super) fn disabled_workflows(r: &mut Reader<'_>, node: Option<&Node>) -> Vec<(String, doc::Span)> {
    let Some(mut f) = node.and_then(|n| r.fields(n, "workflows")) else { return Vec::new() };
    let list = f.take("disabled").and_then(|n| r.list(n, "workflows.disabled")).unwrap_or(&[]);
    let names = list.iter().filter_map(|n| r.ident(n, "workflows.disabled").map(|s| (s, n.span))).collect();
    f.finish(r);
    names
}
