//! `keywords`: words and phrases that must, may and must not occur, and how often.

use crate::finding::{Note, decided, unverified};
use crate::growing::Held;
use crate::params::{Params, Problem};
use crate::pattern::{Pattern, TooSlow};
use crate::scan::{self, Hunt, Rule, TOO_SLOW};
use crate::{About, Check, Entry, Growing, Input, Kind, Promise};
use serde_json::Value;
use std::ops::Range;
use std::sync::Arc;
use types::completion::Choice;
use types::run::Severity;
use types::{ChatRequest, Report};

const NAME: &str = "keywords";
/// Most keywords in one list.
const MAX_KEYWORDS: usize = 256;
/// Longest keyword, in characters.
const MAX_LENGTH: usize = 200;
/// Occurrences counted at most.
const MAX_COUNT: usize = 10_000;

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "words and phrases that must, may and must not occur, and how often",
    kind: Kind::Structural,
    stream: "window for none, else end",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct Keywords {
    severity: Severity,
    all: Vec<Rule>,
    any: Vec<Rule>,
    none: Hunt,
    counts: Vec<(Rule, usize, usize)>,
}

/// Parameters: `all`, `any`, `none`, each a word or phrase or a list of them; `count`, a map from a word or
/// phrase to how often it occurs, as a number or as `min` and/or `max`. Case does not matter, words are
/// matched whole, and one space stands for any white space.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["all", "any", "none", "count"])?;
    let [all, any, none] = ["all", "any", "none"].map(|key| rules(&params, key));
    let (all, any, none, counts) = (all?, any?, none?, counts(&params)?);
    if all.is_empty() && any.is_empty() && none.is_empty() && counts.is_empty() {
        return Err(Problem::new("", "no keyword is given", "`all`, `any`, `none` or `count`"));
    }
    let tell = move |rule: &Rule, span: Range<usize>, _: &str| {
        let message = format!("`{}` occurs", rule.code);
        Note::new(NAME, severity, "forbidden", &message).span(span.start, span.end)
    };
    let none =
        Hunt { rules: none.into_iter().map(Arc::new).collect(), tell: Arc::new(tell), max: usize::MAX };
    Ok(Arc::new(Keywords { severity, all, any, none, counts }))
}

fn rules(params: &Params<'_>, key: &str) -> Result<Vec<Rule>, Problem> {
    let words = params.strings(key)?;
    if words.len() > MAX_KEYWORDS {
        let found = format!("{} keywords", words.len());
        return Err(Problem::new(key, found, format!("at most {MAX_KEYWORDS}")));
    }
    words.into_iter().map(|w| rule(w).map_err(|why| Problem::new(key, why, EXPECTED))).collect()
}

const EXPECTED: &str = "a word or phrase of at most 200 characters";

fn rule(keyword: &str) -> Result<Rule, String> {
    let words: Vec<String> = keyword.split_whitespace().map(regex_syntax::escape).collect();
    if words.is_empty() {
        return Err("is empty".to_owned());
    }
    if keyword.chars().count() > MAX_LENGTH {
        return Err(format!("has {} characters", keyword.chars().count()));
    }
    let pattern = Pattern::new(&format!("(?i){}", words.join("\\s{1,4}")))?;
    let longest = pattern.longest().unwrap_or(usize::MAX);
    let trimmed = keyword.trim();
    let (first, last) = (trimmed.chars().next().filter(joins), trimmed.chars().next_back().filter(joins));
    let accept = move |text: &str, span: Range<usize>| {
        let cut = |edge: Option<char>, next: Option<char>| edge.is_some() && next.as_ref().is_some_and(joins);
        let inside = cut(first, scan::before(text, span.start)) || cut(last, scan::behind(text, span.end));
        (!inside).then_some(span)
    };
    Ok(Rule { code: trimmed.to_owned(), pattern, longest, accept: Box::new(accept) })
}

/// Whether a character continues a word. Chinese, Japanese, Thai and the like are written without spaces,
/// and Korean joins its particles: there a word may stand anywhere.
fn joins(c: &char) -> bool {
    let unspaced = matches!(c,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}');
    (c.is_alphanumeric() || *c == '_') && !unspaced
}

fn counts(params: &Params<'_>) -> Result<Vec<(Rule, usize, usize)>, Problem> {
    let map = match params.get("count") {
        None => return Ok(Vec::new()),
        Some(Value::Object(m)) if m.len() <= MAX_KEYWORDS => m,
        Some(v) => {
            let found = format!("is {}", crate::params::kind(v));
            return Err(Problem::new("count", found, format!("a map of at most {MAX_KEYWORDS} keywords")));
        }
    };
    let each = map.iter().map(|(keyword, bound)| {
        let field = format!("count.{keyword}");
        let rule = rule(keyword).map_err(|why| Problem::new(field.clone(), why, EXPECTED))?;
        if let Some(n) = bound.as_u64().and_then(|n| usize::try_from(n).ok()) {
            return Ok((rule, n, n));
        }
        let bounds = Params::at(bound, &["min", "max"], &field)?;
        let (min, max) = (bounds.count("min")?.unwrap_or(0), bounds.count("max")?.unwrap_or(usize::MAX));
        if min > max || (min, max) == (0, usize::MAX) {
            return Err(Problem::new(field, "bounds nothing", "a number, or `min` at most `max`"));
        }
        Ok((rule, min, max))
    });
    each.collect()
}

fn occurrences(rule: &Rule, text: &str, max: usize) -> Result<usize, TooSlow> {
    Ok(scan::all(std::slice::from_ref(rule), text, max)?.len())
}

impl Keywords {
    fn look(&self, choice: &Choice) -> Result<Vec<Note>, TooSlow> {
        let mut notes = Vec::new();
        let note = |code: &str, message: &str| Note::new(NAME, self.severity, code, message);
        for rule in &self.all {
            if occurrences(rule, &choice.text, 1)? == 0 {
                notes.push(note("missing", &format!("`{}` does not occur", rule.code)).expected(&*rule.code));
            }
        }
        let mut found = self.any.is_empty();
        for rule in &self.any {
            found = found || occurrences(rule, &choice.text, 1)? > 0;
        }
        if !found {
            let words: Vec<Value> = self.any.iter().map(|r| r.code.as_str().into()).collect();
            notes.push(note("missing", "none of the keywords occurs").expected(words));
        }
        for (rule, min, max) in &self.counts {
            let n = occurrences(rule, &choice.text, MAX_COUNT)?;
            let (code, want) = match n {
                n if n < *min => ("too_few", format!("at least {min}")),
                n if n > *max => ("too_many", format!("at most {max}")),
                _ => continue,
            };
            let message = format!("`{}` occurs {n} times, {want} are asked for", rule.code);
            notes.push(note(code, &message).expected(want).actual(n));
        }
        Ok(notes)
    }
}

impl Check for Keywords {
    fn about(&self) -> About {
        About::structural(NAME, self.severity)
    }

    fn promise(&self, _: &ChatRequest) -> Promise {
        let only = self.all.is_empty() && self.any.is_empty() && self.counts.is_empty();
        match self.none.promise() {
            _ if self.none.rules.is_empty() => Promise::End,
            Promise::Window(hold) if only => Promise::Window(hold),
            Promise::Window(_) => Promise::Early,
            promise => promise,
        }
    }

    fn open(&self, request: &ChatRequest) -> Option<Box<dyn Growing>> {
        match self.promise(request) {
            Promise::End => None,
            Promise::Early => Some(Box::new(Held(self.none.open()))),
            _ => Some(self.none.open()),
        }
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let choices = &input.completion.choices;
        let mut findings = match self.none.findings(input) {
            Ok(findings) => findings,
            Err(why) => return unverified(why),
        };
        for (position, choice) in choices.iter().enumerate() {
            match self.look(choice) {
                Ok(notes) => {
                    findings
                        .extend(notes.into_iter().map(|n| n.choice(position, choices.len()).into_finding()));
                }
                Err(TooSlow) => return unverified(TOO_SLOW),
            }
        }
        decided(findings)
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use crate::build;
    use crate::scan::testing::window;
    use crate::testing::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn check(text: &str, with: Value, want: &[&str]) {
        assert_eq!(codes("keywords", &with, &request(json!({})), &answer(text)), want, "{text:?} {with}");
    }

    #[test]
    fn words_are_found_whole_and_in_any_case() {
        check("The Cat sat", json!({"all": ["cat", "SAT"]}), &[]);
        check("concatenate", json!({"all": "cat"}), &["missing"]);
        check("concatenate cat", json!({"none": "cat"}), &["forbidden"]);
        check("snake_case", json!({"none": "case"}), &[]);
        check("a top\n secret thing", json!({"none": "top secret"}), &["forbidden"]);
        check("C++ and C#", json!({"all": ["c++", "C#"]}), &[]);
        check("我住在北京市", json!({"all": "北京"}), &[]);
        check("ÜBER alles", json!({"none": "über"}), &["forbidden"]);
        check("no", json!({"any": ["yes", "maybe"]}), &["missing"]);
        check("maybe", json!({"any": ["yes", "maybe"]}), &[]);
    }

    #[test]
    fn occurrences_are_counted() {
        check("a b a", json!({"count": {"a": 2, "b": {"min": 1, "max": 1}}}), &[]);
        check("a b a", json!({"count": {"a": 1, "b": {"min": 2}}}), &["too_many", "too_few"]);
    }

    #[test]
    fn parameters_are_checked() {
        assert_eq!(refused("keywords", &Value::Null).message, "no keyword is given");
        assert_eq!(refused("keywords", &json!({"all": " "})).field, "all");
        assert_eq!(refused("keywords", &json!({"count": {"a": {}}})).field, "count.a");
        assert_eq!(refused("keywords", &json!({"count": {"a": {"mx": 1}}})).field, "count.a.mx");
        assert_eq!(refused("keywords", &json!({"none": "x".repeat(201)})).field, "none");
        assert_eq!(refused("keywords", &json!({"count": [1]})).field, "count");
    }

    proptest! {
        #[test]
        fn no_byte_of_a_forbidden_word_is_released(
            text in "[abé北 \n_]{0,40}", pieces in proptest::collection::vec(1_usize..9, 1..6),
        ) {
            let check = build("keywords", &json!({"none": ["ab", "a b", "bé", "北", "aab"]}), None).unwrap();
            window(&check, &text, &pieces);
        }
    }
}
