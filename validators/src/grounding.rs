//! `grounding`: every claim of the answer is supported by a passage of the sources.
//!
//! Support of a sentence by a passage is the weight of its content terms that the passage, its neighbours or
//! the title of its source hold, over the weight of all of them ([`crate::passages::Index::weight`]): rare
//! terms weigh more than common ones, names and numbers more than words, and the words of the question need no
//! support. This sees words, not meaning: a
//! sentence that says the opposite in the same words is supported. That is what `contradiction` looks for.

use crate::check::Reference;
use crate::finding::{Note, cut, decided, nothing, unverified};
use crate::params::{Params, Problem};
use crate::passages::{Index, MAX_PASSAGES, MAX_SENTENCES};
use crate::sources::Origin;
use crate::text::blocks::outline;
use crate::text::terms::{Kind as TermKind, keys, terms};
use crate::text::{MAX_BYTES, claims, marks, sentences};
use crate::{About, Check, Entry, Input, Kind};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;
use types::Report;
use types::chat::Role;
use types::run::Severity;

const NAME: &str = "grounding";
/// Least support of a sentence, where the file says nothing.
const MIN: f64 = 0.6;

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "every claim of the answer is supported by a passage of the sources",
    kind: Kind::Semantic,
    stream: "end",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct Grounding {
    severity: Severity,
    origin: Origin,
    min: f64,
}

/// Parameters: `sources` (path of a value; without it what the request brings) and `min` (0..=1, default 0.6),
/// the least support of a sentence.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["sources", "min"])?;
    let min = params.fraction("min")?.unwrap_or(MIN);
    Ok(Arc::new(Grounding { severity, origin: Origin::new(&params)?, min }))
}

impl Check for Grounding {
    fn about(&self) -> About {
        About::semantic(NAME, self.severity)
    }

    fn references(&self) -> &[Reference] {
        self.origin.references()
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let sources = match self.origin.read(input) {
            Ok(s) => s,
            Err(why) => return unverified(why),
        };
        let Some(index) = Index::new(&sources) else {
            return unverified(format!("the sources have more than {MAX_PASSAGES} passages"));
        };
        let users = input.request.messages.iter().filter(|m| m.role == Role::User);
        let asked: HashSet<String> = users.flat_map(|m| keys(&m.content.text())).collect();
        let choices = &input.completion.choices;
        let mut findings = Vec::new();
        let mut claims = 0_usize;
        for (position, choice) in choices.iter().enumerate() {
            match self.text(&choice.text, &index, &asked) {
                Ok((n, notes)) => {
                    claims = claims.saturating_add(n);
                    findings
                        .extend(notes.into_iter().map(|n| n.choice(position, choices.len()).into_finding()));
                }
                Err(why) => return unverified(why),
            }
        }
        if claims == 0 { nothing() } else { decided(findings) }
    }
}

impl Grounding {
    /// How many claims the text makes, and those that lack support.
    fn text(
        &self,
        text: &str,
        index: &Index<'_>,
        asked: &HashSet<String>,
    ) -> Result<(usize, Vec<Note>), String> {
        if text.len() > MAX_BYTES {
            return Err("the answer is too long to be looked at".to_owned());
        }
        let outline = outline(text);
        let all = sentences::of(text, &outline);
        let claims: Vec<_> = all.iter().filter(|s| claims::is_claim(text, s)).collect();
        if claims.len() > MAX_SENTENCES {
            return Err(format!("{} sentences are more than are looked at", claims.len()));
        }
        let mut notes = Vec::new();
        for sentence in &claims {
            let words = text.get(sentence.span.clone()).unwrap_or("");
            let terms = terms(&marks::without_marks(words));
            let best = index.best(&terms, asked);
            let support = best.map_or(0.0, |m| m.support);
            if support >= self.min {
                continue;
            }
            let unknown: Vec<&str> = terms
                .iter()
                .filter(|t| t.kind != TermKind::Word && !index.knows(&t.key))
                .filter_map(|t| words.get(t.span.clone()))
                .take(5)
                .collect();
            let what = match unknown.as_slice() {
                [] => {
                    format!("no source supports this ({support:.2} of {:.2}): {}", self.min, cut(words, 110))
                }
                names => format!(
                    "no source supports this ({support:.2} of {:.2}; none has {}): {}",
                    self.min,
                    cut(&names.join(", "), 50),
                    cut(words, 80)
                ),
            };
            let note = Note::new(NAME, self.severity, "unsupported", &what)
                .span(sentence.span.start, sentence.span.end)
                .expected(format!("support of at least {}", self.min))
                .hint("say only what the sources say, or leave the sentence out");
            let near = best.map(|m| cut(index.text(m.passage), 160)).unwrap_or_default();
            notes.push(if near.is_empty() { note } else { note.actual(format!("nearest passage: {near}")) });
        }
        Ok((claims.len(), notes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use serde_json::json;

    fn check(sources: Value, text: &str, want: &[&str]) {
        assert_eq!(codes_with(NAME, json!({"sources": "s"}), &[("s", sources)], text), want, "{text}");
    }

    fn paris() -> Value {
        json!([{"title": "Eiffel Tower", "text": "The tower was completed in March 1889. It stands on the Champ de \
            Mars in Paris, and was designed by the company of Gustave Eiffel."}])
    }

    #[test]
    fn claims_need_a_passage() {
        check(paris(), "The Eiffel Tower was completed in 1889 in Paris.", &[]);
        check(paris(), "Gustave Eiffel's company designed the tower [1].", &[]);
        check(paris(), "The tower was completed in 1925 by Stephen Sauvestre in Lyon.", &["unsupported"]);
        check(paris(), "Bananas grow in warm countries such as Ecuador.", &["unsupported"]);
        check(
            paris(),
            "The tower stands in Paris on the Champ de Mars. It attracts seven million visitors.",
            &["unsupported"],
        );
    }

    #[test]
    fn talk_and_admissions_are_no_claims() {
        check(paris(), "I hope this helps! Would you like to know more about towers?", &["none"]);
        check(paris(), "The documents do not mention the height of the tower.", &["none"]);
    }

    #[test]
    fn other_scripts_are_grounded() {
        let tokyo = json!("東京は日本の首都であり、人口は約1400万人です。");
        check(tokyo.clone(), "日本の首都は東京です。", &[]);
        check(tokyo, "大阪は関西地方の中心都市です。", &["unsupported"]);
    }

    #[test]
    fn without_sources_nothing_is_verified() {
        check(Value::Null, "The tower was completed in 1889.", &["unverified"]);
        check(json!([]), "The tower was completed in 1889.", &["unverified"]);
        assert_eq!(
            codes(NAME, &Value::Null, &request(json!({})), &answer("The tower is in Paris.")),
            ["unverified"]
        );
        assert_eq!(refused(NAME, &json!({"min": 2})).field, "min");
        assert_eq!(refused(NAME, &json!({"sources": "a b"})).field, "sources");
    }

    #[test]
    fn the_request_can_be_the_source() {
        let long = "The tower stands on the Champ de Mars in Paris. ".repeat(8);
        let r = request(
            json!({"messages": [{"role": "system", "content": long}, {"role": "user", "content": "where"}]}),
        );
        assert_eq!(
            codes(NAME, &Value::Null, &r, &answer("The tower stands in Paris.")),
            Vec::<String>::new()
        );
        assert_eq!(
            codes(NAME, &Value::Null, &r, &answer("The tower stands in Berlin Mitte.")),
            ["unsupported"]
        );
    }
}
