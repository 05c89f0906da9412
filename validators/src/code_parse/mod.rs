//! `code_parse`: code in the answer parses in the language it is labelled with.

mod detect;
mod fragments;
mod html;
mod language;
mod prepare;
mod python;
mod sql;
mod tree;
mod yaml;

use crate::finding::{Note, cut, decided, nothing, unverified};
use crate::params::{Params, Problem};
use crate::text::blocks::{Code, outline};
use crate::text::{MAX_BYTES, line_column};
use crate::{About, Check, Entry, Input, Kind};
use detect::Guess;
use language::{Label, Language};
use prepare::Snippet;
use serde_json::Value;
use std::sync::Arc;
use tree::Fault;
use types::run::Severity;
use types::{Finding, Report};

const NAME: &str = "code_parse";
/// Longest piece of code that is parsed, in bytes.
const MAX_CODE: usize = 256 * 1024;
/// Most pieces of code that are parsed.
const MAX_BLOCKS: usize = 100;
/// Characters of the code shown in a message.
const SHOWN: usize = 40;

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "code in the answer parses in the language it is labelled with",
    kind: Kind::Structural,
    stream: "end",
    severity: Severity::Repair,
    build,
};

/// What parsing says of a piece of code.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reading {
    Fine,
    Faulty(Vec<Fault>),
    /// Could not be judged, and why.
    Unsure(String),
}

/// Which part of the answer is code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extract {
    Fences,
    Whole,
}

#[derive(Debug)]
struct CodeParse {
    severity: Severity,
    /// Only these; empty = every language that has a parser.
    languages: Vec<Language>,
    extract: Extract,
    require: bool,
}

/// Parameters: `languages` (`auto`, or a list of names: only code in these is looked at), `extract`
/// (`fences`, or `whole` for an answer that is code without fences), `require` (default false: an answer
/// without code fails).
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["languages", "extract", "require"])?;
    let mut languages = Vec::new();
    for name in params.strings("languages")?.into_iter().filter(|n| *n != "auto") {
        languages.push(Language::parse(&name.to_lowercase()).ok_or_else(|| {
            let near = types::diagnostic::suggestion(name, Language::names());
            let expected = format!("auto, or any of {}", Language::names().join(", "));
            Problem::new("languages", format!("there is no parser for `{name}`; {near}"), expected)
        })?);
    }
    let extract = match params.word("extract", &["fences", "whole"])? {
        Some("whole") => Extract::Whole,
        _ => Extract::Fences,
    };
    let require = params.boolean("require", false)?;
    Ok(Arc::new(CodeParse { severity, languages, extract, require }))
}

impl Check for CodeParse {
    fn about(&self) -> About {
        About::structural(NAME, self.severity)
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let choices = &input.completion.choices;
        let mut all = Gathered::default();
        for (position, choice) in choices.iter().enumerate() {
            if choice.text.len() > MAX_BYTES {
                all.unsure.push("the answer is too long to be looked at".to_owned());
                continue;
            }
            let notes = self.text(&choice.text, &mut all);
            all.findings.extend(notes.into_iter().map(|n| n.choice(position, choices.len()).into_finding()));
        }
        all.report()
    }
}

/// What was found in all pieces of code.
#[derive(Default)]
struct Gathered {
    findings: Vec<Finding>,
    unsure: Vec<String>,
    parsed: usize,
}

impl Gathered {
    fn report(self) -> Report {
        match (self.findings.is_empty(), self.unsure.first(), self.parsed) {
            (false, _, _) => decided(self.findings),
            (true, Some(why), _) => unverified(why.clone()),
            (true, None, 0) => nothing(),
            (true, None, _) => decided(Vec::new()),
        }
    }
}

impl CodeParse {
    fn text(&self, text: &str, all: &mut Gathered) -> Vec<Note> {
        let blocks = match self.extract {
            Extract::Fences => outline(text)
                .code
                .into_iter()
                .filter(|c| c.info.is_some() && !c.text.trim().is_empty())
                .collect(),
            Extract::Whole => vec![whole(text)],
        };
        if blocks.len() > MAX_BLOCKS {
            all.unsure.push(format!("{} pieces of code are more than are looked at", blocks.len()));
        }
        let mut notes = Vec::new();
        let mut wanted = 0_usize;
        for (n, block) in blocks.iter().take(MAX_BLOCKS).enumerate() {
            let Some(aim) = self.aim(block) else { continue };
            wanted = wanted.saturating_add(1);
            let snippet = prepare::dedent(&block.text);
            let reading = match aim {
                Ok(aim) => judge(aim, block, &snippet).map(|r| (aim.language, r)),
                Err(why) => Some((Language::C, Reading::Unsure(why))),
            };
            match reading {
                None => {}
                Some((_, Reading::Fine)) => all.parsed = all.parsed.saturating_add(1),
                Some((_, Reading::Unsure(why))) => {
                    all.unsure.push(format!("code block {}: {why}", n.saturating_add(1)))
                }
                Some((language, Reading::Faulty(faults))) => {
                    all.parsed = all.parsed.saturating_add(1);
                    let of = if blocks.len() > 1 {
                        format!(" (block {})", n.saturating_add(1))
                    } else {
                        String::new()
                    };
                    notes.extend(faults.iter().map(|f| self.note(text, block, &snippet, language, f, &of)));
                }
            }
        }
        if wanted == 0 && self.require {
            notes.push(self.absent());
        }
        notes
    }

    /// The language to parse a block as; why it cannot be parsed; or nothing if it is none of our business.
    fn aim(&self, block: &Code) -> Option<Result<Aim, String>> {
        let wanted =
            |l: Language| self.languages.is_empty() || self.languages.contains(&l) || self.related(l);
        match language::label(block.info.as_deref().unwrap_or("")) {
            Label::Known(l) => wanted(l).then_some(Ok(Aim { language: l, sure: true })),
            Label::Session(l) => wanted(l).then_some(Ok(Aim { language: l, sure: true })),
            Label::NoCode => None,
            Label::Foreign(name) if self.languages.is_empty() => {
                Some(Err(format!("there is no parser for `{}`", cut(&name, SHOWN))))
            }
            Label::Foreign(_) => None,
            Label::Absent => match (self.languages.as_slice(), detect::detect(&block.text)) {
                // One language is asked for, so that is what code without a label is in.
                ([only], Guess::Unknown) => {
                    Some(Ok(Aim { language: *only, sure: self.extract == Extract::Whole }))
                }
                ([only], Guess::Perhaps(_)) if self.extract == Extract::Whole => {
                    Some(Ok(Aim { language: *only, sure: true }))
                }
                (_, Guess::Sure(l)) => wanted(l).then_some(Ok(Aim { language: l, sure: true })),
                (_, Guess::Perhaps(l)) => wanted(l).then_some(Ok(Aim { language: l, sure: false })),
                ([], Guess::Unknown) => {
                    Some(Err("it has no label, and its language is not plain".to_owned()))
                }
                (_, Guess::Unknown) => None,
            },
        }
    }

    /// Whether the language is a form of one that is asked for.
    fn related(&self, l: Language) -> bool {
        let has = |o: Language| self.languages.contains(&o);
        l == Language::Tsx && has(Language::TypeScript)
    }

    fn absent(&self) -> Note {
        let names: Vec<&str> = self.languages.iter().map(|l| l.name()).collect();
        let what = if names.is_empty() { "code".to_owned() } else { names.join(" or ") };
        Note::new(NAME, self.severity, "no_code", &format!("the answer holds no {what}"))
            .expected(format!("a fenced block of {what}"))
            .hint("put the code into a fenced block with its language behind the fence")
    }

    fn note(
        &self,
        answer: &str,
        block: &Code,
        snippet: &Snippet,
        language: Language,
        fault: &Fault,
        of: &str,
    ) -> Note {
        let (line, column) = line_column(&snippet.code, fault.span.start);
        let column = column.saturating_add(snippet.indent);
        let here = format!("{}{of}, line {line}:{column}", language.name());
        let shown = shown(&snippet.code, fault);
        let message = match (&fault.what, &fault.missing) {
            (Some(what), _) => format!("{here}: {what}"),
            (None, Some(missing)) => format!("{here}: `{missing}` is missing"),
            (None, None) => format!("{here}: this does not parse: `{shown}`"),
        };
        let span = prepare::place(answer, &block.body, snippet, &fault.span);
        let code = if fault.missing.is_some() { "missing" } else { "syntax" };
        let note = Note::new(NAME, self.severity, code, &message).span(span.start, span.end).actual(shown);
        let note = match &fault.missing {
            Some(m) => note.expected(m.clone()),
            None => note.expected(format!("{} that parses", language.name())),
        };
        note.hint("give the whole piece of code again, without the mistake")
    }
}

/// What a block is to be parsed as, and whether an error in it may be told.
#[derive(Clone, Copy, Debug)]
struct Aim {
    language: Language,
    sure: bool,
}

/// The text as one piece of code; one fence around it is taken off.
fn whole(text: &str) -> Code {
    let fenced = outline(text).code.into_iter().find(|c| c.info.is_some());
    fenced.unwrap_or_else(|| Code {
        info: Some(String::new()),
        span: 0..text.len(),
        body: 0..text.len(),
        text: text.to_owned(),
        closed: true,
    })
}

/// The beginning of what does not parse, or of what stands before a missing piece.
fn shown(code: &str, fault: &Fault) -> String {
    let at = code.get(fault.span.clone()).unwrap_or("").trim();
    if !at.is_empty() {
        return cut(at.lines().next().unwrap_or(""), SHOWN);
    }
    let before = code.get(..fault.span.start).unwrap_or("").trim_end();
    let line = before.lines().next_back().unwrap_or("").trim();
    let skip = line.chars().count().saturating_sub(SHOWN);
    line.chars().skip(skip).collect()
}

/// Parses a block; `None` if there is nothing in it.
fn judge(aim: Aim, block: &Code, snippet: &Snippet) -> Option<Reading> {
    let code = snippet.code.as_str();
    if code.trim().is_empty() {
        return None;
    }
    if code.len() > MAX_CODE {
        return Some(Reading::Unsure("it is too long to be parsed".to_owned()));
    }
    let label = block.info.as_deref().unwrap_or("").split_whitespace().next().unwrap_or("").to_lowercase();
    let mut first: Option<Reading> = None;
    for reading in fragments::readings(aim.language, code) {
        let got = parse(aim.language, &reading, &label);
        if got == Reading::Fine {
            return Some(got);
        }
        first.get_or_insert(got);
    }
    let faulty = first?;
    if !aim.sure && matches!(faulty, Reading::Faulty(_)) {
        return Some(Reading::Unsure("it has no label, and its language is not plain".to_owned()));
    }
    Some(excused(aim.language, code, &label, faulty))
}

fn parse(language: Language, code: &str, label: &str) -> Reading {
    match language {
        Language::Sql => sql::read(code, label),
        Language::Yaml => yaml::read(code),
        Language::Html => html::read(code),
        // The grammar knows comments and misses some numbers.
        Language::Json if json(code) => Reading::Fine,
        l => match fragments::faults(l, code) {
            Ok(f) if f.is_empty() => Reading::Fine,
            Ok(f) => Reading::Faulty(f),
            Err(gave) => Reading::Unsure(gave.why().to_owned()),
        },
    }
}

/// Whether the code is one JSON value or several, one behind the other.
fn json(code: &str) -> bool {
    serde_json::Deserializer::from_str(code).into_iter::<Value>().all(|v| v.is_ok())
}

/// Code that leaves something out, or that a template engine fills in, is not judged by what that breaks.
fn excused(language: Language, code: &str, label: &str, reading: Reading) -> Reading {
    let Reading::Faulty(faults) = reading else { return reading };
    // In Python `...` is an expression.
    let elided = if language == Language::Python { None } else { prepare::without_elisions(code) };
    if let Some(filled) = elided {
        return match parse(language, &filled, label) {
            Reading::Faulty(left) if left.iter().any(|f| !near_gap(code, &filled, f)) => {
                Reading::Faulty(left)
            }
            _ => Reading::Unsure("it leaves out part of the code".to_owned()),
        };
    }
    if prepare::is_template(code)
        && !matches!(language, Language::JavaScript | Language::TypeScript | Language::Tsx)
    {
        return Reading::Unsure("it is a template, which is filled in before it is code".to_owned());
    }
    match weakness(language, code, label, &faults) {
        Some(why) => Reading::Unsure(why.to_owned()),
        None => Reading::Faulty(faults),
    }
}

/// Why a fault may be the grammar's rather than the code's.
fn weakness(language: Language, code: &str, label: &str, faults: &[Fault]) -> Option<&'static str> {
    match language {
        Language::C | Language::Cpp if near_macros(language, code, faults) => {
            Some("it depends on macros, which are not known")
        }
        Language::Css if prepare::is_balanced(code) => Some("it uses CSS that the grammar may not know"),
        Language::Bash if matches!(label, "zsh" | "ksh") => Some("it is written for another shell than Bash"),
        _ => None,
    }
}

/// Whether what goes wrong stands beside something that the preprocessor may replace, in the reading of the
/// code as it stands or in the best one.
fn near_macros(language: Language, code: &str, faults: &[Fault]) -> bool {
    let near = |f: &Fault| prepare::near_macro(code, &f.span);
    let plain = tree::parse(language, code).map(|t| tree::faults(&t, language)).unwrap_or_default();
    faults.iter().all(near) || plain.first().is_some_and(near)
}

/// Whether a fault lies on a line, or next to one, from which something was left out.
fn near_gap(code: &str, filled: &str, fault: &Fault) -> bool {
    let (line, _) = line_column(code, fault.span.start);
    let (last, _) = line_column(code, fault.span.end);
    let lines = code.lines().zip(filled.lines()).enumerate();
    lines.filter(|(_, (a, b))| a != b).any(|(i, _)| (line.saturating_sub(2)..=last).contains(&i))
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(text: &str, with: Value, want: &[&str]) {
        assert_eq!(codes(NAME, &with, &request(json!({})), &answer(text)), want, "{text}");
    }

    fn report(text: &str) -> Report {
        build(&Value::Null, Severity::Repair).unwrap().check(&Input::new(&answer(text), &request(json!({}))))
    }

    #[test]
    fn code_of_every_language_passes_or_fails() {
        for (label, good, bad) in [
            ("python", "def f(x):\n    return x + 1\n", "def f(x:\n    return x\n"),
            ("javascript", "const f = (x) => x?.y ?? 1;\n", "const f = (x => { return 1;\n"),
            (
                "typescript",
                "function f<T>(x: T): T { return x as T; }\n",
                "function f(x: ): number { return 1; }\n",
            ),
            ("tsx", "const A = () => <b className=\"x\">hi</b>;\n", "const A = () => <b>hi;\n"),
            ("rust", "fn main() { let v = vec![1]; println!(\"{:?}\", v); }\n", "fn main() { let v = ; }\n"),
            (
                "go",
                "package main\n\nfunc main() { x := []int{1} ; _ = x }\n",
                "func main() { x := []int{1 }\n",
            ),
            ("java", "class A { int f() { return 1; } }\n", "class A { int f() { return ; 1 } \n"),
            ("c", "#include <stdio.h>\nint main(void) { return 0; }\n", "int main(void) { return 0 \n"),
            (
                "cpp",
                "template<class T> T f(T x) { return x; }\n",
                "template<class T T f(T x) { return x; }\n",
            ),
            ("bash", "for f in *.txt; do echo \"$f\"; done\n", "for f in *.txt; do echo \"$f\"\n"),
            ("json", "{\"a\": [1, 2, null]}\n", "{\"a\": [1, 2, null}\n"),
            ("yaml", "a:\n  - b: 1\n", "a:\n - b: 1\n  c: 2\n"),
            ("html", "<p>hi <b>you</b></p>\n", "<div><p>hi</div></b>\n"),
            ("css", "a:hover { color: red; }\n", "a { color: red;\n"),
            ("sql", "SELECT a FROM b WHERE c = 1;\n", "SELECT a FROM WHERE c = 1;\n"),
        ] {
            check(&format!("Here:\n```{label}\n{good}```\n"), Value::Null, &[]);
            let got = report(&format!("Here:\n```{label}\n{bad}```\n"));
            assert_eq!(got.verdict, types::Verdict::Failed, "{label}: {got:?}");
        }
    }

    #[test]
    fn what_cannot_be_judged_is_unverified_and_what_is_no_code_is_nothing() {
        check("no code at all", Value::Null, &["none"]);
        check("```text\n(((\n```", Value::Null, &["none"]);
        check("```\n```", Value::Null, &["none"]);
        check("```php\n<?php echo 1;\n```", Value::Null, &["unverified"]);
        check("```\nsome output (\n```", Value::Null, &["unverified"]);
        check("```\ndef f(x):\n    return x\n```", Value::Null, &[]);
        check("```\ndef f(x):\n    return (x\n```", Value::Null, &["syntax"]);
        check("```js\nfunction f() {\n  ...\n}\n```", Value::Null, &["unverified"]);
        check("```js\nfunction f() {\n  ...\n}\n\n\n\nlet x = = 3;\nlet y;\n```", Value::Null, &["syntax"]);
        check(&format!("```python\n{}\n```", "(".repeat(5_000)), Value::Null, &["unverified"]);
        check("```php\nx\n```\n```json\n{\n```", Value::Null, &["syntax"]);
    }

    #[test]
    fn languages_and_extraction_can_be_chosen() {
        check("```js\nlet = (\n```", json!({"languages": ["python"]}), &["none"]);
        check("```js\nlet x\n```", json!({"languages": ["python"], "require": true}), &["no_code"]);
        check("```py\nx = (\n```", json!({"languages": "python"}), &["syntax"]);
        check("x = 1\n", json!({"languages": ["python"], "extract": "whole"}), &[]);
        check("x = (\n", json!({"languages": ["python"], "extract": "whole"}), &["syntax"]);
        check("```\nx = 1\n```", json!({"languages": ["python"]}), &[]);
        assert_eq!(refused(NAME, &json!({"languages": ["pyton"]})).field, "languages");
        assert!(refused(NAME, &json!({"languages": ["pyton"]})).message.contains("did you mean `python`"));
        assert_eq!(refused(NAME, &json!({"extract": "all"})).field, "extract");
    }

    #[test]
    fn sessions_magics_and_placeholders_are_understood() {
        check("```python\n>>> 1 + 1\n2\n>>> 'a'\n'a'\n```", Value::Null, &[]);
        check("```bash\n$ git status\nOn branch main (clean\n```", Value::Null, &[]);
        check("```python\n%matplotlib inline\n!pip install x\nimport x\n```", Value::Null, &[]);
        check("```bash\ndocker run <image name>\n```", Value::Null, &[]);
        check("```yaml\nkey: <your: key>\n```", Value::Null, &[]);
    }

    #[test]
    fn findings_name_the_place() {
        let text = "1. Do:\n\n   ```json\n   {\n     \"a\": 1,,\n   }\n   ```\n";
        let f = &report(text).findings[0];
        assert_eq!(f.message, "json, line 2:9: this does not parse: `,,`");
        assert_eq!(&text[f.span.unwrap().0..f.span.unwrap().1], ",,");
        let f = &report("```c\nint x = 1;\n```\n```c\nint f() { return 1 }\n```").findings[0];
        assert_eq!(f.message, "c (block 2), line 1:19: `;` is missing");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn no_bytes_bring_it_down(
            label in prop::sample::select(Language::names()),
            code in "[\\PC\n\t(){}\\[\\]<>/\"'`;:=#$\\\\]{0,80}",
        ) {
            let r = report(&format!("~~~{label}\n{code}\n~~~\n"));
            for f in r.findings {
                let (a, b) = f.span.unwrap();
                prop_assert!(a <= b);
            }
        }
    }
}
