//! References to completions of other nodes, such as `nodes.check.passing`.

use crate::load::Cx;
use crate::node::Tag;
use types::diagnostic::suggestion;
use types::doc::{Node, Span};

/// An output that holds completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Completions,
    Completion,
    Passing,
    Usable,
    Failing,
    Best,
    RunnerUp,
}

impl Field {
    const fn as_str(self) -> &'static str {
        match self {
            Field::Completions => "completions",
            Field::Completion => "completion",
            Field::Passing => "passing",
            Field::Usable => "usable",
            Field::Failing => "failing",
            Field::Best => "best",
            Field::RunnerUp => "runner_up",
        }
    }

    /// The outputs of a type of node that hold completions.
    const fn of(tag: Tag) -> &'static [Field] {
        match tag {
            Tag::Generate => &[Field::Completions, Field::Completion],
            Tag::Validate => {
                &[Field::Completions, Field::Passing, Field::Usable, Field::Failing, Field::Best]
            }
            Tag::Repair => &[Field::Completion],
            Tag::Judge => &[Field::Best],
            Tag::Select => &[Field::Completion, Field::RunnerUp],
            Tag::Stream | Tag::Fail => &[],
        }
    }
}

/// A reference to completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ref {
    /// Position of the node.
    pub(crate) node: usize,
    /// Which of its outputs.
    pub(crate) field: Field,
    /// Where it is written.
    pub(crate) span: Span,
}

impl Ref {
    /// For the hash of the plan.
    pub(crate) fn canonical(&self, ids: &[std::sync::Arc<str>]) -> String {
        let id = ids.get(self.node).map_or("", |i| i);
        format!("nodes.{id}.{}", self.field.as_str())
    }

    /// Reads a reference.
    pub(crate) fn lower(cx: &mut Cx<'_>, node: &Node, path: &str) -> Option<Ref> {
        const FORM: &str = "a reference such as nodes.check.passing";
        let text = cx.r.string(node, path)?;
        let parts: Vec<&str> = text.trim().split('.').collect();
        let indexed = text.contains('[');
        let (["nodes", id, field], false) = (parts.as_slice(), indexed) else {
            let unsupported = indexed || parts.first() == Some(&"nodes") && parts.len() > 3;
            let (number, message) = if unsupported {
                ("105", format!("`{text}`: references into an output are not supported yet"))
            } else {
                ("103", format!("`{text}` is no reference to completions"))
            };
            let d = cx.r.error(number, node.span, message);
            d.expected = Some(FORM.to_owned());
            path.clone_into(&mut d.field);
            return None;
        };
        let Some(position) = cx.position(id) else {
            let hint = suggestion(id, cx.ids.iter().map(|(i, _)| i.as_str()));
            let d = cx.r.error("301", node.span, format!("there is no node `{id}`"));
            d.hint = Some(hint);
            path.clone_into(&mut d.field);
            return None;
        };
        let tag = cx.ids.get(position).and_then(|(_, t)| *t)?;
        if let Some(field) = Field::of(tag).iter().copied().find(|f| f.as_str() == *field) {
            return Some(Ref { node: position, field, span: node.span });
        }
        let names = Field::of(tag).iter().map(|f| f.as_str());
        let message = format!("`{}` nodes have no completions named `{field}`", tag.as_str());
        let hint = suggestion(field, names);
        let d = cx.r.error("301", node.span, message);
        d.hint = Some(hint);
        path.clone_into(&mut d.field);
        None
    }

    /// Reads one reference or a list of them.
    pub(crate) fn lower_list(cx: &mut Cx<'_>, node: &Node, path: &str) -> Vec<Ref> {
        match &node.value {
            types::doc::Value::List(l) => l.iter().filter_map(|n| Ref::lower(cx, n, path)).collect(),
            _ => Ref::lower(cx, node, path).into_iter().collect(),
        }
    }
}
