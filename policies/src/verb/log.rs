//! `log: {content}` — how much of a request may be recorded; the least counts.

use super::{Kind, REQUEST_RESPONSE, Single, Verb, put};
use types::directives::LogContent;

pub(super) const VERB: Verb = Verb {
    name: "log",
    kind: Kind::Hard,
    phases: REQUEST_RESPONSE,
    single: Single::No,
    arguments: &["content"],
    read: |r, node, field, _| {
        let mut f = r.fields(node, field)?;
        let names = ["none", "metadata", "redacted", "full"];
        let content = f.require(r, "content").and_then(|n| r.one_of(n, &f.at("content"), &names));
        f.finish(r);
        let content = match content? {
            "none" => LogContent::None,
            "metadata" => LogContent::Metadata,
            "redacted" => LogContent::Redacted,
            _ => LogContent::Full,
        };
        put(content, |m, v, at| m.lower(|m| &mut m.further().log, v, at))
    },
};
