//! `shape`: the form that an instruction can ask for and a count can check: bullets, sections, paragraphs, how
//! the answer begins and ends, its case, its title.
//!
//! The rules are those of instructions that can be verified (Zhou et al. 2023, IFEval), beside the ones that
//! `keywords`, `length`, `language` and `json` check.

mod measure;
mod rules;

use crate::finding::{Note, cut, unverified};
use crate::json::each_text;
use crate::params::Problem;
use crate::text::MAX_BYTES;
use crate::text::blocks::{Outline, outline};
use crate::{About, Check, Entry, Input, Kind};
use rules::{Bound, Rule};
use serde_json::Value;
use std::sync::Arc;
use types::run::Severity;
use types::{ChatRequest, Finding, Report};
use unicode_segmentation::UnicodeSegmentation;

const NAME: &str = "shape";

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "bullets, sections, paragraphs, beginning, end, case, title and the like are as asked",
    kind: Kind::Structural,
    stream: "end",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct Shape {
    severity: Severity,
    rules: Vec<Rule>,
}

/// Parameters, at least one: `bullets`, `highlighted`, `placeholders`, `capital_words` (each a number, or a map
/// with `min` and/or `max`); `sections` (also `marker` and `names`), `paragraphs` (also `separator`), `responses`
/// (also `separator`, default `******`), `letters` (a map from letter to bound); `starts_with`, `ends_with`,
/// `one_of` (a string or a list: one of them); `first_word` (`{paragraph, word}`); `case` (lower, upper, title);
/// `title` (true, angle, heading); `postscript` (true or the mark); `quoted`, `repeats_prompt` (true); `commas`
/// (false).
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    Ok(Arc::new(Shape { severity, rules: rules::read(with)? }))
}

impl Check for Shape {
    fn about(&self) -> About {
        About::structural(NAME, self.severity)
    }

    fn mend(&self, text: &str) -> Option<String> {
        let mended = self.rules.iter().fold(text.to_owned(), |t, rule| mended(&t, rule).unwrap_or(t));
        (mended != text).then_some(mended)
    }

    fn check(&self, input: &Input<'_>) -> Report {
        if input.completion.choices.iter().any(|c| c.text.len() > MAX_BYTES) {
            return unverified("the answer is too long to be looked at");
        }
        each_text(input, |choice, position, of| {
            let outline = outline(&choice.text);
            let notes = self.rules.iter().filter_map(|r| self.rule(r, &choice.text, &outline, input.request));
            notes.map(|n| n.choice(position, of).into_finding()).collect::<Vec<Finding>>()
        })
    }
}

impl Shape {
    fn rule(&self, rule: &Rule, text: &str, outline: &Outline, request: &ChatRequest) -> Option<Note> {
        match rule {
            Rule::Bullets(b) => self.count("bullets", "items of lists", measure::bullets(outline), *b),
            Rule::Highlighted(b) => {
                self.count("highlighted", "highlighted passages", measure::highlighted(text), *b)
            }
            Rule::Placeholders(b) => {
                self.count("placeholders", "placeholders in brackets", measure::placeholders(text), *b)
            }
            Rule::CapitalWords(b) => {
                self.count("capital_words", "words in capitals", measure::capital_words(text), *b)
            }
            Rule::Paragraphs { bound, separator } => {
                let n = measure::paragraphs(text, separator.as_deref()).len();
                self.count("paragraphs", "paragraphs", n, *bound)
            }
            Rule::Responses { bound, separator } => {
                let n = measure::paragraphs(text, Some(separator)).len();
                self.count("responses", &format!("responses parted by `{}`", cut(separator, 20)), n, *bound)
            }
            Rule::Letter(c, b) => {
                let n = measure::letters(text).get(c).copied().unwrap_or(0);
                self.count("letters", &format!("times the letter `{c}`"), n, *b)
            }
            Rule::Sections { bound, marker, names } => {
                self.sections(text, outline, *bound, marker.as_deref(), names)
            }
            Rule::StartsWith(list) => {
                let fine = list.iter().any(|s| starts(text.trim_start(), s));
                (!fine).then(|| self.ends("starts_with", "begin", list, &head(text)))
            }
            Rule::EndsWith(list) => {
                let fine = list.iter().any(|s| ends(text.trim_end(), s));
                (!fine).then(|| self.ends("ends_with", "end", list, &tail(text)))
            }
            Rule::OneOf(list) => {
                let fine = list.iter().any(|s| text.to_lowercase().contains(&s.to_lowercase()));
                (!fine).then(|| {
                    let what = format!("the answer holds none of: {}", list.join(" | "));
                    self.note("one_of", &what).expected(list.clone())
                })
            }
            Rule::FirstWord { paragraph, word } => self.first_word(text, *paragraph, word),
            Rule::Case(case) => self.case(text, case),
            Rule::Title(style) => measure::title(text, outline, style).is_none().then(|| {
                let want =
                    if *style == "heading" { "a heading at the top" } else { "a title such as `<<Title>>`" };
                self.note("title", "the answer has no title").expected(want)
            }),
            Rule::Postscript(mark) => postscript_missing(text, mark).then(|| {
                let what = format!("the answer has no postscript that begins with `{mark}`");
                self.note("postscript", &what).expected(mark.clone())
            }),
            Rule::Quoted => (!is_quoted(text)).then(|| {
                self.note("quoted", "the answer is not wrapped in double quotation marks").expected("\"…\"")
            }),
            Rule::NoCommas => text.find([',', '，', '、']).map(|at| {
                let end = at
                    .saturating_add(text.get(at..).and_then(|r| r.chars().next()).map_or(1, char::len_utf8));
                self.note("commas", "the answer has a comma").span(at, end).expected("no commas")
            }),
            Rule::RepeatsPrompt => self.repeats(text, request),
        }
    }

    fn note(&self, code: &str, what: &str) -> Note {
        Note::new(NAME, self.severity, code, what)
    }

    fn count(&self, code: &str, things: &str, n: usize, bound: Bound) -> Option<Note> {
        let want = bound.words();
        let what = format!("the answer has {n} {things}, {want} are asked for");
        (!bound.holds(n)).then(|| self.note(code, &what).expected(want).actual(n))
    }

    fn ends(&self, code: &str, verb: &str, list: &[String], found: &str) -> Note {
        let want = list.iter().map(|s| format!("`{}`", cut(s, 60))).collect::<Vec<_>>().join(" or ");
        let what = format!("the answer does not {verb} with {want}");
        self.note(code, &what).expected(list.to_vec()).actual(found)
    }

    fn sections(
        &self,
        text: &str,
        outline: &Outline,
        bound: Bound,
        marker: Option<&str>,
        names: &[String],
    ) -> Option<Note> {
        let found = measure::sections(text, outline, marker);
        let has = |name: &String| found.iter().any(|f| f.to_lowercase().contains(&name.to_lowercase()));
        let missing: Vec<&str> = names.iter().filter(|n| !has(n)).map(String::as_str).collect();
        if !missing.is_empty() {
            let what = format!("the answer has no section {}", missing.join(", "));
            return Some(self.note("sections", &what).expected(names.to_vec()));
        }
        self.count("sections", "sections", found.len(), bound)
    }

    fn first_word(&self, text: &str, paragraph: usize, word: &str) -> Option<Note> {
        let all = measure::paragraphs(text, None);
        let found = all.get(paragraph.saturating_sub(1)).and_then(|p| p.unicode_words().next());
        let fine = found.is_some_and(|f| f.to_lowercase() == word.to_lowercase());
        (!fine).then(|| {
            let what = format!("paragraph {paragraph} does not begin with the word `{}`", cut(word, 60));
            self.note("first_word", &what).expected(word).actual(found.unwrap_or("no such paragraph"))
        })
    }

    fn case(&self, text: &str, case: &str) -> Option<Note> {
        let at = measure::wrong_case(text, case)?;
        let found = text.get(at..).and_then(|r| r.split_whitespace().next()).unwrap_or("");
        let want = match case {
            "lower" => "small letters only",
            "upper" => "capitals only",
            _ => "a capital at every word of more than three letters",
        };
        let note = self.note("case", &format!("`{}` breaks the case that is asked for", cut(found, 60)));
        Some(note.span(at, at.saturating_add(found.len())).expected(want).actual(found))
    }

    fn repeats(&self, text: &str, request: &ChatRequest) -> Option<Note> {
        let prompt = request.last_user().map(|m| m.content.text().into_owned()).unwrap_or_default();
        let plain = |s: &str| s.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ");
        // The prompt may end with the wish to have it repeated: its first sentence is enough.
        let first = prompt.trim().lines().next().unwrap_or("");
        let fine = !first.is_empty() && plain(text).starts_with(&plain(first));
        (!fine).then(|| self.note("repeats_prompt", "the answer does not begin by repeating the request"))
    }
}

/// Whether the text begins so; marks of Markdown and quotation before it do not count.
fn starts(text: &str, with: &str) -> bool {
    let bare = text.trim_start_matches(['*', '_', '#', '"', '“', ' ']);
    [text, bare].iter().any(|t| t.get(..with.len()).is_some_and(|h| h == with) || same_head(t, with))
}

fn same_head(text: &str, with: &str) -> bool {
    let mut text = text.chars().flat_map(char::to_lowercase);
    with.chars().flat_map(char::to_lowercase).all(|w| text.next() == Some(w))
}

fn ends(text: &str, with: &str) -> bool {
    let bare = text.trim_end_matches(['*', '_', '"', '”', ' ']);
    let reversed = |s: &str| s.chars().rev().collect::<String>();
    let with = reversed(with.trim_end());
    [text, bare].iter().any(|t| {
        // Only as much of the end as is compared.
        let tail: String = t.chars().rev().take(with.chars().count()).collect();
        same_head(&tail, &with)
    })
}

fn head(text: &str) -> String {
    cut(text.trim_start(), 60)
}

fn tail(text: &str) -> String {
    let text = text.trim_end();
    let skip = text.chars().count().saturating_sub(60);
    text.chars().skip(skip).collect()
}

/// A postscript begins a line of the last third of the text.
fn postscript_missing(text: &str, mark: &str) -> bool {
    let plain = |s: &str| s.to_lowercase().replace([' ', '*', '_'], "");
    let mark = plain(mark);
    !text.lines().skip(1).any(|l| plain(l).starts_with(&mark))
}

fn is_quoted(text: &str) -> bool {
    let t = text.trim();
    let pairs = [("\"", "\""), ("“", "”"), ("„", "“"), ("«", "»"), ("「", "」")];
    t.chars().count() > 1 && pairs.iter().any(|(a, b)| t.starts_with(a) && t.ends_with(b))
}

/// What of a rule can be put right without changing what is said.
fn mended(text: &str, rule: &Rule) -> Option<String> {
    match rule {
        Rule::Case("lower") => Some(text.to_lowercase()),
        Rule::Case("upper") => Some(text.to_uppercase()),
        Rule::Quoted if !is_quoted(text) && !text.trim().is_empty() => Some(format!("\"{}\"", text.trim())),
        Rule::StartsWith(list) => {
            let only = list.first().filter(|s| list.len() == 1 && !starts(text.trim_start(), s))?;
            Some(format!("{only}\n\n{}", text.trim_start()))
        }
        Rule::EndsWith(list) => {
            let only = list.first().filter(|s| list.len() == 1 && !ends(text.trim_end(), s))?;
            Some(format!("{}\n\n{only}", text.trim_end()))
        }
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use super::*;
    use crate::testing::*;
    use serde_json::json;

    fn check(text: &str, with: Value, want: &[&str]) {
        let r =
            request(json!({"messages": [{"role": "user", "content": "Write a poem.\nRepeat this first."}]}));
        assert_eq!(codes(NAME, &with, &r, &answer(text)), want, "{text:?} {with}");
    }

    #[test]
    fn counts_are_bounded() {
        check("- a\n- b", json!({"bullets": 2}), &[]);
        check("- a\n- b", json!({"bullets": 3}), &["bullets"]);
        check("- a\n- b", json!({"bullets": {"min": 1, "max": 2}}), &[]);
        check("a\n\nb", json!({"paragraphs": {"max": 1}}), &["paragraphs"]);
        check("a\n***\nb", json!({"paragraphs": {"min": 2, "separator": "***"}}), &[]);
        check("# a\n\n# b", json!({"sections": 2}), &[]);
        check("SECTION 1\nx\nSECTION 2", json!({"sections": {"min": 3, "marker": "SECTION"}}), &["sections"]);
        check("# Intro\n\n# End", json!({"sections": {"names": ["intro", "summary"]}}), &["sections"]);
        check("*a* *b*", json!({"highlighted": {"min": 2}}), &[]);
        check("[name]", json!({"placeholders": {"min": 2}}), &["placeholders"]);
        check("NO WAY", json!({"capital_words": {"max": 1}}), &["capital_words"]);
        check("aab", json!({"letters": {"a": {"min": 2}, "B": 2}}), &["letters"]);
        check("x\n******\ny", json!({"responses": 2}), &[]);
    }

    #[test]
    fn beginnings_and_ends_hold() {
        check("Dear you, hi", json!({"starts_with": "dear"}), &[]);
        check("**Dear** you", json!({"starts_with": "Dear"}), &[]);
        check("Hello", json!({"starts_with": ["Dear", "Hi"]}), &["starts_with"]);
        check("bye. Is there more?\n", json!({"ends_with": "is there more?"}), &[]);
        check("bye", json!({"ends_with": "end"}), &["ends_with"]);
        check("a\n\nWeek one", json!({"first_word": {"paragraph": 2, "word": "week"}}), &[]);
        check("a", json!({"first_word": {"paragraph": 2, "word": "week"}}), &["first_word"]);
        check("Write a poem. Here:", json!({"repeats_prompt": true}), &[]);
        check("Here:", json!({"repeats_prompt": true}), &["repeats_prompt"]);
        check("x\nP.S. y", json!({"postscript": true}), &[]);
        check("x\nPS y", json!({"postscript": "P.P.S"}), &["postscript"]);
        check("\"all\"", json!({"quoted": true}), &[]);
        check("all", json!({"quoted": true}), &["quoted"]);
    }

    #[test]
    fn the_whole_text_is_held_to_its_case_and_marks() {
        check("small ünly", json!({"case": "lower"}), &[]);
        check("smalL", json!({"case": "lower"}), &["case"]);
        check("BIG ONLY", json!({"case": "upper"}), &[]);
        check("<<T>> x", json!({"title": true}), &[]);
        check("x", json!({"title": true}), &["title"]);
        check("a, b", json!({"commas": false}), &["commas"]);
        check("My answer is yes.", json!({"one_of": ["My answer is yes.", "My answer is no."]}), &[]);
        check("Perhaps", json!({"one_of": ["yes", "no"]}), &["one_of"]);
    }

    #[test]
    fn what_is_certain_is_mended() {
        let mend = |text: &str, with: Value| build(&with, Severity::Repair).unwrap().mend(text);
        assert_eq!(mend("Abc", json!({"case": "lower"})).as_deref(), Some("abc"));
        assert_eq!(mend("abc", json!({"quoted": true})).as_deref(), Some("\"abc\""));
        assert_eq!(mend("abc", json!({"ends_with": "end"})).as_deref(), Some("abc\n\nend"));
        assert_eq!(mend("abc", json!({"bullets": 2})), None);
    }

    #[test]
    fn parameters_are_checked() {
        assert_eq!(refused(NAME, &json!({})).message, "no rule is given");
        assert_eq!(refused(NAME, &json!({"bullets": {"min": 3, "max": 1}})).field, "bullets");
        assert_eq!(refused(NAME, &json!({"bullets": "many"})).field, "bullets");
        assert_eq!(refused(NAME, &json!({"letters": {"ab": 1}})).field, "letters");
        assert_eq!(refused(NAME, &json!({"case": "camel"})).field, "case");
        assert_eq!(refused(NAME, &json!({"starts_with": ""})).field, "starts_with");
    }
}
