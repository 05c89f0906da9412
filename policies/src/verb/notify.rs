//! `notify: {sink, message}` — tells people, out of band; the same of a rule at most once a minute.
//!
//! The record of a request holds what was asked for; whoever keeps records sends it on.

use super::{ANY, Kind, Single, Verb};
use crate::merge::{Action, At, Merge};
use std::sync::Arc;

/// Longest message, in bytes.
const MAX_MESSAGE: usize = 512;
/// Who can be told.
const SINKS: &[&str] = &["log", "webhook"];

pub(super) const VERB: Verb = Verb {
    name: "notify",
    kind: Kind::Soft,
    phases: ANY,
    single: Single::No,
    arguments: &["sink", "message"],
    read: |r, node, field, _| {
        let mut f = r.fields(node, field)?;
        let sink = f.require(r, "sink").and_then(|n| r.one_of(n, &f.at("sink"), SINKS));
        let message = f.require(r, "message").and_then(|n| {
            let text = r.string(n, &f.at("message"))?;
            if (1..=MAX_MESSAGE).contains(&text.len()) {
                return Some(text);
            }
            let d = r.error("104", n.span, format!("`{}` has {} bytes", f.at("message"), text.len()));
            d.expected = Some(format!("1 to {MAX_MESSAGE}"));
            d.field = f.at("message");
            None
        });
        f.finish(r);
        sink.zip(message).map(|_| Arc::new(Notify) as Arc<dyn Action>)
    },
};

/// What it asks for stands in the record of the action.
#[derive(Debug)]
struct Notify;

impl Action for Notify {
    fn apply(&self, _: At, _: &mut Merge) {}
}
