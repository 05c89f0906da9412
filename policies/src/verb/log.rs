//! `log: {content, retention}` — how much of a request may be recorded, and for how long: the least and the shortest count.

use super::{Kind, REQUEST_RESPONSE, Single, Verb, millis, put};
use types::directives::LogContent;
use types::doc::{Node, Reader};

pub(super) const VERB: Verb = Verb {
    name: "log",
    kind: Kind::Hard,
    phases: REQUEST_RESPONSE,
    single: Single::No,
    arguments: &["content", "retention"],
    read: |r, node, field, _| {
        let mut f = r.fields(node, field)?;
        let content = f.take("content").map(|n| content(r, n, &f.at("content")));
        let retention = f.take("retention").map(|n| millis(r, n, &f.at("retention")));
        f.finish(r);
        if content.is_none() && retention.is_none() {
            r.wrong_type(node, field, "a map with content, retention, or both");
            return None;
        }
        // What is given and wrong has been told of, and says nothing by halves.
        let content = content.map_or(Some(None), |c| c.map(Some))?;
        let retention = retention.map_or(Some(None), |ms| ms.map(Some))?;
        put((content, retention), |m, (content, retention), at| {
            if let Some(content) = content {
                m.lower(|m| &mut m.further().log, content, at);
            }
            if let Some(ms) = retention {
                m.lower(|m| &mut m.further().retention, ms, at);
            }
        })
    },
};

fn content(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<LogContent> {
    Some(match r.one_of(node, field, &["none", "metadata", "redacted", "full"])? {
        "none" => LogContent::None,
        "metadata" => LogContent::Metadata,
        "redacted" => LogContent::Redacted,
        _ => LogContent::Full,
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{check_verb, load_text};
    use types::directives::LogContent;

    #[test]
    fn the_least_and_the_shortest_count_each_by_itself() {
        let first = "{ content: metadata, retention: 30d }";
        let one = [
            "log: { content: metadata }",
            "log: { retention: 30d }",
            "log: { content: full, retention: 1h }",
        ];
        let d = check_verb(&one, &["applied", "overridden by r2", "applied"]);
        let f = d.further.unwrap();
        assert_eq!(f.log.unwrap().value, LogContent::Metadata);
        assert_eq!(f.retention.unwrap().value, 3_600_000);
        let d = check_verb(
            &[&format!("log: {first}"), "log: { content: full }"],
            &["applied", "overridden by r0"],
        );
        assert_eq!(d.further.unwrap().retention.unwrap().value, 30 * 86_400_000);
        let d = check_verb(&["log: { retention: 90s }"], &["applied"]);
        assert!(d.further.unwrap().log.is_none(), "a time alone leaves out nothing");
    }

    #[test]
    fn a_time_that_is_none_and_a_map_that_says_nothing_are_refused_with_their_place() {
        for (argument, field) in [
            ("{}", "log"),
            ("{ retention: 0s }", "log.retention"),
            ("{ retention: soon }", "log.retention"),
            ("{ content: none, retention: [1d] }", "log.retention"),
            ("{ content: some, retention: 1d }", "log.content"),
        ] {
            let rule = format!("rules: [{{ id: a, actions: {{ log: {argument} }} }}]");
            let (_, problems) = load_text(&rule, &[]);
            let told = problems.iter().map(ToString::to_string).collect::<String>();
            assert!(problems.iter().any(|d| d.field.ends_with(field)), "{argument}: {told}");
        }
    }
}
