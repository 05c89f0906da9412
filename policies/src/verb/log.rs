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
        let retention = f.take("retention");
        let at = f.at("retention");
        f.finish(r);
        if let Some(n) = retention {
            let message = "`retention` is not supported yet: records are kept while there is room for them";
            let d = r.error("109", n.span, message);
            d.expected =
                Some("`log: { content: … }`; `content: none` keeps nothing that would have to go".to_owned());
            d.field = at;
            return None;
        }
        let content = match content? {
            "none" => LogContent::None,
            "metadata" => LogContent::Metadata,
            "redacted" => LogContent::Redacted,
            _ => LogContent::Full,
        };
        put(content, |m, v, at| m.lower(|m| &mut m.further().log, v, at))
    },
};

#[cfg(test)]
mod tests {
    use crate::testing::load_text;

    #[test]
    fn a_time_to_keep_records_is_refused_in_so_many_words() {
        let rule = "rules: [{ id: a, actions: { log: { content: none, retention: 30d } } }]";
        let (_, problems) = load_text(rule, &[]);
        let told = problems.iter().map(ToString::to_string).collect::<String>();
        assert!(problems.iter().any(|d| d.code == "PL109") && told.contains("retention"), "{told}");
    }
}
