//! A text that a node is given: the value of a reference, or a template.

use super::{Cx, Expr, Template};
use crate::node::Read;
use crate::reference::Ref;
use crate::run::At;
use types::doc::Node;

/// Where a text comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Value(Ref),
    Text(Template),
}

impl Source {
    /// Reads it: without `${` it is a reference.
    pub(crate) fn lower(cx: &mut Cx<'_>, n: &Node, path: &str) -> Option<Source> {
        match n.as_str() {
            Some(s) if !s.contains("${") => Ref::lower(cx, n, path).map(Source::Value),
            _ => Template::lower(cx, n, path).map(Source::Text),
        }
    }

    /// As it is written.
    pub(crate) fn source(&self) -> &str {
        match self {
            Source::Value(r) => r.canonical(),
            Source::Text(t) => t.source(),
        }
    }

    pub(crate) fn reads(&self) -> Option<Read<'_>> {
        match self {
            Source::Value(reference) => Some(Read { reference, may_be_absent: false }),
            Source::Text(_) => None,
        }
    }

    pub(crate) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let template = match self {
            Source::Value(_) => None,
            Source::Text(t) => Some(t),
        };
        template.into_iter().flat_map(Template::exprs)
    }

    /// The text itself.
    pub(crate) fn text(&self, at: &At<'_>) -> Result<String, types::expr::Error> {
        match self {
            Source::Value(r) => Ok(at.text(r)),
            Source::Text(t) => t.render(at.frame, at.host, &[]),
        }
    }
}
