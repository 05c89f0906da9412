//! `add_system: text` or `{text, before}` — instructions added to the request; all of them, by priority.

use super::{Kind, REQUEST, Single, Verb, put};
use types::directives::SystemText;

/// Longest text, in bytes.
const MAX_TEXT: usize = 16 * 1024;

pub(super) const VERB: Verb = Verb {
    name: "add_system",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::No,
    arguments: &["text", "before"],
    read: |r, node, field, _| {
        let (text, before) = if node.as_str().is_some() {
            (r.string(node, field), Some(false))
        } else {
            let mut f = r.fields(node, field)?;
            let text = f.require(r, "text").and_then(|n| r.string(n, &f.at("text")));
            let before = f.take("before").map_or(Some(false), |n| r.boolean(n, &f.at("before")));
            f.finish(r);
            (text, before)
        };
        let text = text?;
        if text.trim().is_empty() || text.len() > MAX_TEXT {
            let d = r.error("104", node.span, format!("the text has {} bytes", text.len()));
            d.expected = Some(format!("1 to {MAX_TEXT}"));
            field.clone_into(&mut d.field);
            return None;
        }
        put(SystemText { text, before: before? }, |m, v, at| m.further().system.push((v, at)))
    },
};
