//! `tag: {name: value}` — labels for the record; single-valued per name.

use super::{ANY, Kind, Single, Verb, strings};
use crate::merge::{Action, At, Merge};
use std::sync::Arc;
use types::doc::{Node, Reader};

/// Longest value, in bytes.
const MAX_VALUE: usize = 256;

pub(super) const VERB: Verb = Verb {
    name: "tag",
    kind: Kind::Soft,
    phases: ANY,
    single: Single::PerName,
    arguments: &["tags"],
    read: |r, node, field, _| Some(Arc::new(read(r, node, field)?)),
};

#[derive(Debug)]
struct Tag(Vec<(String, String)>);

fn read(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<Tag> {
    let tags = strings(r, node, field, |r, key, (value, text), at| {
        if text.len() > MAX_VALUE {
            let d = r.error("104", value.span, format!("`{at}` has {} bytes", text.len()));
            d.expected = Some(format!("at most {MAX_VALUE}"));
            return None;
        }
        Some((key.name.clone(), text))
    });
    tags.map(Tag)
}

impl Action for Tag {
    fn apply(&self, at: At, merge: &mut Merge) {
        for (name, value) in &self.0 {
            merge.tag(name, value, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::check_verb;

    #[test]
    fn labels_unite_and_the_earlier_rule_keeps_a_name() {
        let d = check_verb(
            &["tag: { a: \"1\" }", "tag: { a: \"2\" }", "tag: { b: x }"],
            &["applied", "overridden by r0", "applied"],
        );
        assert_eq!(
            d.tags.into_iter().collect::<Vec<_>>(),
            [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "x".to_owned())]
        );
    }
}
