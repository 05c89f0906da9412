//! `contradiction`: no sentence of the answer says another thing than its best-matching passage, or than
//! another sentence of the answer.
//!
//! A heuristic, so its findings warn: two sentences that share most of their content words clash if their
//! dates or numbers differ, if one denies what the other says, or if they use opposite words.

mod clash;
mod lexicon;

use crate::check::Reference;
use crate::finding::{Note, cut, decided, nothing, unverified};
use crate::params::{Params, Problem};
use crate::passages::{Index, MAX_PASSAGES, MAX_SENTENCES};
use crate::sources::Origin;
use crate::text::blocks::outline;
use crate::text::sentences::Sentence;
use crate::text::terms::terms;
use crate::text::{MAX_BYTES, claims, line_column, marks, sentences};
use crate::{About, Check, Entry, Input, Kind};
use clash::{Said, clash, overlap};
use serde_json::Value;
use std::sync::Arc;
use types::Report;
use types::run::Severity;

const NAME: &str = "contradiction";
/// Most sentences of an answer that are compared with each other.
const MAX_PAIRED: usize = 300;
/// How many of the best passages may clear a sentence.
const LOOKED_AT: usize = 3;

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "no sentence clashes with its best-matching passage or with another sentence",
    kind: Kind::Semantic,
    stream: "end",
    severity: Severity::Warn,
    build,
};

#[derive(Debug)]
struct Contradiction {
    severity: Severity,
    origin: Origin,
    own: bool,
}

/// Parameters: `sources` (path of a value; without it what the request brings) and `self` (default true: also
/// compare the answer's sentences with each other).
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["sources", "self"])?;
    Ok(Arc::new(Contradiction {
        severity,
        origin: Origin::new(&params)?,
        own: params.boolean("self", true)?,
    }))
}

impl Check for Contradiction {
    fn about(&self) -> About {
        About::semantic(NAME, self.severity)
    }

    fn references(&self) -> &[Reference] {
        self.origin.references()
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let sources = match self.origin.read(input) {
            Ok(s) => s,
            // Without sources an answer can still contradict itself.
            Err(_) if self.own && self.origin.references().is_empty() => Vec::new(),
            Err(why) => return unverified(why),
        };
        let Some(index) = Index::new(&sources) else {
            return unverified(format!("the sources have more than {MAX_PASSAGES} passages"));
        };
        let choices = &input.completion.choices;
        let (mut findings, mut looked) = (Vec::new(), false);
        for (position, choice) in choices.iter().enumerate() {
            match self.text(&choice.text, &index, sources.is_empty()) {
                Ok((n, notes)) => {
                    looked |= n;
                    findings
                        .extend(notes.into_iter().map(|n| n.choice(position, choices.len()).into_finding()));
                }
                Err(why) => return unverified(why),
            }
        }
        if looked { decided(findings) } else { nothing() }
    }
}

impl Contradiction {
    /// Whether there was anything to compare, and what clashes.
    fn text(&self, text: &str, index: &Index<'_>, alone: bool) -> Result<(bool, Vec<Note>), String> {
        if text.len() > MAX_BYTES {
            return Err("the answer is too long to be looked at".to_owned());
        }
        let outline = outline(text);
        let claims: Vec<Sentence> =
            sentences::of(text, &outline).into_iter().filter(|s| claims::is_claim(text, s)).collect();
        let most = if self.own { MAX_PAIRED } else { MAX_SENTENCES };
        if claims.len() > most {
            return Err(format!("{} sentences are more than are compared", claims.len()));
        }
        let said: Vec<Said> = claims.iter().map(|s| Said::new(&plain(text, s))).collect();
        let mut notes = Vec::new();
        if !alone {
            let pairs = claims.iter().zip(&said);
            notes.extend(pairs.filter_map(|(s, mine)| self.with_sources(text, s, mine, index)));
        }
        if self.own {
            notes.extend(self.with_itself(text, &claims, &said));
        }
        let looked = !claims.is_empty() && (!alone || claims.len() > 1);
        Ok((looked, notes))
    }

    fn note(&self, code: &str, sentence: &Sentence, what: &str) -> Note {
        Note::new(NAME, self.severity, code, what)
            .span(sentence.span.start, sentence.span.end)
            .hint("say what the sources say, or leave the sentence out")
    }

    fn with_sources(&self, text: &str, sentence: &Sentence, mine: &Said, index: &Index<'_>) -> Option<Note> {
        let near = index.nearest(&terms(&plain(text, sentence)), LOOKED_AT);
        let mut worst = None;
        let mut clash_share = 0.0;
        for passage in near {
            let other = Said::new(index.text(passage));
            let (share, _) = overlap(mine, &other);
            match clash(mine, &other) {
                Some(c) if worst.is_none() => {
                    clash_share = share;
                    worst = Some((c, passage));
                }
                // Another passage that is as near and does not clash clears the sentence.
                None if share >= clash_share.max(0.6) => return None,
                _ => {}
            }
        }
        let (c, passage) = worst?;
        let source = cut(index.text(passage), 70);
        let what = format!("`{}` here, `{}` in the sources: {source}", cut(&c.mine, 40), cut(&c.other, 40));
        Some(self.note(c.code, sentence, &what).expected(c.other).actual(c.mine))
    }

    fn with_itself(&self, text: &str, claims: &[Sentence], said: &[Said]) -> Vec<Note> {
        let mut notes = Vec::new();
        for (i, (sentence, mine)) in claims.iter().zip(said).enumerate() {
            for (earlier, other) in claims.iter().zip(said).take(i) {
                let Some(c) = clash(mine, other)
                    .filter(|c| c.code != "number" && c.code != "date" || same_block(sentence, earlier))
                else {
                    continue;
                };
                let (line, _) = line_column(text, earlier.span.start);
                let before = cut(text.get(earlier.span.clone()).unwrap_or(""), 70);
                let what =
                    format!("`{}` here, `{}` on line {line}: {before}", cut(&c.mine, 40), cut(&c.other, 40));
                let code = format!("self_{}", c.code);
                notes.push(self.note(&code, sentence, &what).expected(c.other).actual(c.mine));
                break;
            }
        }
        notes
    }
}

/// The sentence without its citations.
fn plain(text: &str, sentence: &Sentence) -> String {
    marks::without_marks(text.get(sentence.span.clone()).unwrap_or(""))
}

/// Numbers of like sentences in different blocks mostly belong to different things.
fn same_block(a: &Sentence, b: &Sentence) -> bool {
    a.block == b.block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use serde_json::json;

    fn check(text: &str, want: &[&str]) {
        let sources = json!([
            "The court must accept the petition within 30 days of the judgment. Petitions cost 50 dollars.",
            "The bridge in Sydney was opened in 1932."
        ]);
        assert_eq!(codes_with(NAME, json!({"sources": "s"}), &[("s", sources)], text), want, "{text}");
    }

    #[test]
    fn answers_are_compared_with_their_sources() {
        check("The court must accept the petition within 30 days of the judgment.", &[]);
        check("The court must accept the petition within 60 days of the judgment.", &["number"]);
        check("The court must not accept the petition within 30 days.", &["negation"]);
        check("The bridge in Sydney was opened in 1936.", &["date"]);
        check("Bananas do not grow in Iceland or Norway.", &[]);
        check("What?", &["none"]);
    }

    #[test]
    fn answers_are_compared_with_themselves() {
        let own = |text: &str| codes(NAME, &Value::Null, &request(json!({})), &answer(text));
        let twice = "The new fund is allowed to invest in foreign shares. \
            The new fund is not allowed to invest in foreign shares.";
        assert_eq!(own(twice), ["self_negation"]);
        assert_eq!(own("Cats sleep all day long. Dogs run around the whole garden."), Vec::<String>::new());
        assert_eq!(codes(NAME, &json!({"self": false}), &request(json!({})), &answer(twice)), ["unverified"]);
    }
}
