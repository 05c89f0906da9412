//! `language`: the answer is in the language that was asked for.

use crate::finding::{Note, decided, nothing, unverified};
use crate::head::{Head, Heard, first};
use crate::params::{Params, Problem};
use crate::{About, Check, Entry, Growing, Input, Kind, Promise};
use regex::Regex;
use serde_json::Value;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use types::run::Severity;
use types::{ChatRequest, Report};
use whatlang::Lang;

const NAME: &str = "language";
/// Characters that are read of the answer.
const HEAD: usize = 200;
/// Characters that are read at the beginning and at the end of the request.
const ASKED: usize = 400;
/// Least letters by which a language can be told.
const LETTERS: usize = 20;
/// Least letters, and least confidence, of a language that is to be wrong.
const SURE: f64 = 0.9;

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "the answer is in the language that was asked for",
    kind: Kind::Semantic,
    stream: "head(200)",
    severity: Severity::Repair,
    build,
};

/// Two-letter codes of the languages that can be told apart (ISO 639-1).
const CODES: &[(&str, Lang)] = &[
    ("eo", Lang::Epo),
    ("en", Lang::Eng),
    ("ru", Lang::Rus),
    ("zh", Lang::Cmn),
    ("es", Lang::Spa),
    ("pt", Lang::Por),
    ("it", Lang::Ita),
    ("bn", Lang::Ben),
    ("fr", Lang::Fra),
    ("de", Lang::Deu),
    ("uk", Lang::Ukr),
    ("ka", Lang::Kat),
    ("ar", Lang::Ara),
    ("hi", Lang::Hin),
    ("ja", Lang::Jpn),
    ("he", Lang::Heb),
    ("yi", Lang::Yid),
    ("pl", Lang::Pol),
    ("am", Lang::Amh),
    ("jv", Lang::Jav),
    ("ko", Lang::Kor),
    ("no", Lang::Nob),
    ("nb", Lang::Nob),
    ("da", Lang::Dan),
    ("sv", Lang::Swe),
    ("fi", Lang::Fin),
    ("tr", Lang::Tur),
    ("nl", Lang::Nld),
    ("hu", Lang::Hun),
    ("cs", Lang::Ces),
    ("el", Lang::Ell),
    ("bg", Lang::Bul),
    ("be", Lang::Bel),
    ("mr", Lang::Mar),
    ("kn", Lang::Kan),
    ("ro", Lang::Ron),
    ("sl", Lang::Slv),
    ("hr", Lang::Hrv),
    ("sr", Lang::Srp),
    ("mk", Lang::Mkd),
    ("lt", Lang::Lit),
    ("lv", Lang::Lav),
    ("et", Lang::Est),
    ("ta", Lang::Tam),
    ("vi", Lang::Vie),
    ("ur", Lang::Urd),
    ("th", Lang::Tha),
    ("gu", Lang::Guj),
    ("uz", Lang::Uzb),
    ("pa", Lang::Pan),
    ("az", Lang::Aze),
    ("id", Lang::Ind),
    ("te", Lang::Tel),
    ("fa", Lang::Pes),
    ("ml", Lang::Mal),
    ("or", Lang::Ori),
    ("my", Lang::Mya),
    ("ne", Lang::Nep),
    ("si", Lang::Sin),
    ("km", Lang::Khm),
    ("tk", Lang::Tuk),
    ("ak", Lang::Aka),
    ("zu", Lang::Zul),
    ("sn", Lang::Sna),
    ("af", Lang::Afr),
    ("la", Lang::Lat),
    ("sk", Lang::Slk),
    ("ca", Lang::Cat),
    ("tl", Lang::Tgl),
    ("hy", Lang::Hye),
    ("cy", Lang::Cym),
];

/// What is in no language: code, links, numbers and marks.
static NO_PROSE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?s)```.*?(?:```|\z)|`[^`\n]*`|[a-z]{2,10}://\S+|\S+@\S+|</?[A-Za-z][^>]{0,80}>|[\d_*#|\\/+=<>]+",
    )
    .ok()
});

/// Words that speak of another language than the one they are written in.
const TRANSLATION: &[&str] =
    &["translat", "übersetz", "tradu", "перевод", "перевед", "翻译", "翻訳", "번역", "vertaal"];

/// Names of the languages, in English and in themselves.
static LANGUAGES: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let all = Lang::all().iter();
    let names = all.flat_map(|l| [l.eng_name().to_lowercase(), l.name().to_lowercase()]);
    names.chain(["chinese", "norwegian", "farsi", "castellano"].map(str::to_owned)).collect()
});

#[derive(Clone, Copy, Debug)]
enum Expect {
    Request,
    Language(Lang),
}

#[derive(Debug)]
struct Language {
    severity: Severity,
    expect: Expect,
}

/// Parameter: `expect`, `request` (default: the language of the last message of the user) or a code such as
/// `de`.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["expect"])?;
    let codes: Vec<&'static str> = ["request"].into_iter().chain(CODES.iter().map(|(c, _)| *c)).collect();
    let expect = match params.word("expect", &codes)? {
        None | Some("request") => Expect::Request,
        Some(code) => {
            CODES.iter().find(|(c, _)| *c == code).map(|(_, l)| Expect::Language(*l)).ok_or_else(|| {
                Problem::new("expect", format!("`{code}` is not known"), "`request` or a code")
            })?
        }
    };
    Ok(Arc::new(Language { severity, expect }))
}

/// The text without what is in no language.
fn prose(text: &str) -> String {
    NO_PROSE.as_ref().map_or_else(|| text.to_owned(), |r| r.replace_all(text, " ").into_owned())
}

fn letters(text: &str) -> usize {
    // One sign of Chinese or Japanese says about as much as three letters.
    let weight = |c: char| if matches!(c, '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}') { 3 } else { 1 };
    text.chars().filter(|c| c.is_alphabetic()).map(weight).sum()
}

/// The language that the request is to be answered in, or why it cannot be told.
fn asked(request: &ChatRequest) -> Result<Lang, &'static str> {
    let message = request.last_user().ok_or("the request has no message of the user")?;
    let text = message.content.text();
    let lower = text.to_lowercase();
    let names = lower.split(|c: char| !c.is_alphabetic()).any(|w| LANGUAGES.contains(w));
    if names || TRANSLATION.iter().any(|t| lower.contains(t)) {
        return Err("the request speaks of languages");
    }
    let begin = first(&text, ASKED);
    let tail = text.char_indices().rev().nth(ASKED.saturating_sub(1)).map_or(0, |(i, _)| i);
    let told = |part: &str| {
        let part = prose(part);
        let info = whatlang::detect(&part).filter(|_| letters(&part) >= LETTERS)?;
        (info.confidence() >= SURE).then(|| info.lang())
    };
    let end = if tail > 0 { told(text.get(tail..).unwrap_or("")) } else { None };
    match (told(begin), end) {
        (Some(a), Some(b)) if a != b => Err("the request is in more than one language"),
        (Some(a), _) | (None, Some(a)) => Ok(a),
        (None, None) => Err("the language of the request is not clear"),
    }
}

impl Language {
    fn expected(&self, request: &ChatRequest) -> Result<Lang, &'static str> {
        match self.expect {
            Expect::Request => asked(request),
            Expect::Language(lang) => Ok(lang),
        }
    }
}

/// Judges the beginning of an answer. Too little text is in any language.
fn judge(severity: Severity, expected: Lang, head: &str) -> Heard {
    let text = prose(head);
    let Some(info) = whatlang::detect(&text).filter(|_| letters(&text) >= LETTERS) else {
        return Heard::Right;
    };
    if info.lang() == expected {
        return Heard::Right;
    }
    if info.confidence() < SURE {
        return Heard::Unclear("the language of the answer is not clear".into());
    }
    let message = format!("the answer is in {}, {} is expected", info.lang().eng_name(), expected.eng_name());
    let note = Note::new(NAME, severity, "wrong_language", &message)
        .expected(expected.eng_name())
        .actual(info.lang().eng_name());
    Heard::Wrong(Box::new(note.hint(&format!("answer in {}", expected.eng_name()))))
}

impl Check for Language {
    fn about(&self) -> About {
        About::semantic(NAME, self.severity)
    }

    fn promise(&self, _: &ChatRequest) -> Promise {
        Promise::Head(HEAD)
    }

    fn open(&self, request: &ChatRequest) -> Option<Box<dyn Growing>> {
        let (severity, expected) = (self.severity, self.expected(request));
        Some(Box::new(Head::new(HEAD, move |head, whole| match expected {
            Err(why) => Heard::Unclear(why.into()),
            Ok(expected) if whole => judge(severity, expected, head),
            Ok(_) => Heard::More,
        })))
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let choices = &input.completion.choices;
        let texts =
            choices.iter().enumerate().filter(|(_, c)| letters(&prose(first(&c.text, HEAD))) >= LETTERS);
        let texts: Vec<_> = texts.collect();
        if texts.is_empty() {
            return nothing();
        }
        let expected = match self.expected(input.request) {
            Ok(expected) => expected,
            Err(why) => return unverified(why),
        };
        let mut findings = Vec::new();
        let mut unclear = None;
        for (position, choice) in texts {
            match judge(self.severity, expected, first(&choice.text, HEAD)) {
                Heard::Wrong(note) => findings.push(note.choice(position, choices.len()).into_finding()),
                Heard::Unclear(why) => unclear = Some(why),
                Heard::Right | Heard::More => {}
            }
        }
        match unclear {
            Some(why) if findings.is_empty() => unverified(why),
            _ => decided(findings),
        }
    }
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{Watch, build};
    use serde_json::json;

    const EN: &str =
        "The capital of France is Paris, which lies on the river Seine and has about two million people.";
    const DE: &str = "Die Hauptstadt von Frankreich ist Paris, das an der Seine liegt und etwa zwei Millionen Einwohner hat.";
    const FR: &str = "La capitale de la France est Paris, qui se trouve sur la Seine et compte environ deux millions d'habitants.";
    const ES: &str = "La capital de Francia es París, que se encuentra a orillas del Sena y tiene unos dos millones de habitantes.";
    const RU: &str =
        "Столица Франции — Париж, он стоит на реке Сене, и живёт в нём около двух миллионов человек.";
    const JA: &str = "フランスの首都はパリで、セーヌ川のほとりにあり、人口は約二百万人です。";
    const ZH: &str = "法国的首都是巴黎，它位于塞纳河畔，大约有两百万人口。";

    fn saying(text: &str) -> ChatRequest {
        ChatRequest::from_value(&json!({"model": "auto", "messages": [{"role": "user", "content": text}]}))
            .unwrap()
    }

    fn check(asked: &str, text: &str, with: Value, want: &[&str]) {
        let (r, c) = (saying(asked), answer(text));
        assert_eq!(codes(NAME, &with, &r, &c), want, "{asked:?} {text:?} {with}");
        // A stream says the same, as far as it says anything.
        let check = build(NAME, &with, None).unwrap();
        for size in [1, 7, 500] {
            let mut watch = Watch::open(std::slice::from_ref(&check), &r);
            let chars: Vec<char> = text.chars().collect();
            let wrong = chars.chunks(size).find_map(|p| watch.push(&p.iter().collect::<String>()));
            let wrong = wrong.or_else(|| watch.finish()).is_some();
            assert_eq!(wrong, want == ["wrong_language"], "{asked:?} {text:?} {size}");
        }
    }

    #[test]
    fn languages_are_told_apart() {
        let all = [("en", EN), ("de", DE), ("fr", FR), ("es", ES), ("ru", RU), ("ja", JA), ("zh", ZH)];
        for (code, _) in all {
            for (other, text) in all {
                let want: &[&str] = if code == other { &[] } else { &["wrong_language"] };
                check("x", text, json!({"expect": code}), want);
            }
        }
    }

    #[test]
    fn the_request_says_which() {
        let en = "What is the capital of France, and how many people live there today?";
        let de = "Was ist die Hauptstadt von Frankreich, und wie viele Menschen leben dort?";
        check(en, EN, Value::Null, &[]);
        check(en, DE, Value::Null, &["wrong_language"]);
        check(de, DE, json!({"expect": "request"}), &[]);
        check(de, EN, json!({"expect": "request"}), &["wrong_language"]);
        check(
            "Translate this into the language of Goethe, please: what is this?",
            DE,
            Value::Null,
            &["unverified"],
        );
        check("Please answer in German: what is the capital of France?", DE, Value::Null, &["unverified"]);
        check("hm", EN, Value::Null, &["unverified"]);
    }

    #[test]
    fn what_is_in_no_language_is_not_judged() {
        let code = "```python\ndef main(argument):\n    return argument + 1\n```";
        for text in ["", "42", "OK.", code, "https://example.org/a/long/path/that/says/nothing"] {
            check("Was ist die Hauptstadt von Frankreich, und wer lebt dort?", text, Value::Null, &["none"]);
        }
        check("x", &format!("{code}\n{DE}{DE}"), json!({"expect": "de"}), &[]);
    }

    #[test]
    fn codes_are_known() {
        assert_eq!(refused(NAME, &json!({"expect": "xx"})).field, "expect");
        assert!(NO_PROSE.is_some());
        for (code, _) in CODES {
            assert!(build(NAME, &json!({"expect": code}), None).is_ok(), "{code}");
        }
        assert_eq!(CODES.len(), Lang::all().len() + 1, "one language has two codes");
    }
}
