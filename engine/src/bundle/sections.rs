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
    /// Ids of the experiments.
    pub(super) experiments: Vec<String>,
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
            experiments: Vec::new(),
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
        sections.experiments = f.take("experiments").map(|n| experiments(r, n)).unwrap_or_default();
        let owned = f.take("require_owner").and_then(|n| r.boolean(n, "require_owner"));
        sections.require_owner = owned.unwrap_or(false);
        f.finish(r);
        sections
    }
}

/// The ids of `experiments`, each of which is told of (`109`): what would be measured is not carried out. Rules that name one
/// of them are not called faulty, too.
fn experiments(r: &mut Reader<'_>, node: &Node) -> Vec<String> {
    // All of them commented out leaves `experiments:` with nothing behind it.
    if matches!(node.value, doc::Value::Null) {
        return Vec::new();
    }
    let list = r.list(node, "experiments").unwrap_or(&[]);
    let mut ids = Vec::new();
    for (i, item) in list.iter().enumerate() {
        let d = r.error("109", item.span, "an experiment, and this version runs none");
        d.expected = Some("no experiments: `[]`, or the section left out".to_owned());
        d.field = format!("experiments[{i}]");
        ids.extend(item.get("id").and_then(Node::as_str).map(str::to_owned));
    }
    ids
}

/// `workflows: { disabled: [name, …] }`.
pub(super) fn disabled_workflows(r: &mut Reader<'_>, node: Option<&Node>) -> Vec<(String, doc::Span)> {
    let Some(mut f) = node.and_then(|n| r.fields(n, "workflows")) else { return Vec::new() };
    let list = f.take("disabled").and_then(|n| r.list(n, "workflows.disabled")).unwrap_or(&[]);
    let names = list.iter().filter_map(|n| r.ident(n, "workflows.disabled").map(|s| (s, n.span))).collect();
    f.finish(r);
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::doc::SourceFile;

    #[test]
    fn experiments_may_be_empty_and_are_told_of_where_there_are_some() {
        let check = |text: &str, want: &[(&str, usize)], ids: &[&str]| {
            let file = SourceFile::new("routing_rules.yaml", format!("version: 1\n{text}"));
            let root = doc::parse(&file, "PL").unwrap();
            let mut r = Reader::new(&file, "PL");
            let sections = Sections::read(&mut r, &root);
            let told: Vec<_> = r.problems.iter().map(|d| (d.code.as_str(), d.line)).collect();
            assert_eq!(
                (told.as_slice(), sections.experiments),
                (want, ids.iter().map(|i| (*i).to_owned()).collect()),
                "{text}"
            );
        };
        check("", &[], &[]);
        check("experiments:", &[], &[]);
        check("experiments: []", &[], &[]);
        check("experiments: {}", &[("PL103", 2)], &[]);
        check("experiments:\n- { id: repairs }\n- 7", &[("PL109", 3), ("PL109", 4)], &["repairs"]);
    }
}
