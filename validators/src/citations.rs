//! `citations`: claims carry marks, and the marks point at sources.

use crate::check::Reference;
use crate::finding::{Note, cut, decided, nothing, unverified};
use crate::params::{Params, Problem};
use crate::sources::{Origin, Source};
use crate::text::blocks::{Kind as Block, Outline, outline};
use crate::text::{MAX_BYTES, claims, sentences};
use crate::{About, Check, Entry, Input, Kind};
use regex::Regex;
use serde_json::Value;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use types::Report;
use types::run::Severity;

const NAME: &str = "citations";
const STYLES: &[&str] = &["bracket", "footnote", "author_year", "url"];
/// Characters of a source in which its authors and year are looked for.
const HEAD: usize = 600;
/// Most citations that are looked at.
const MAX_MARKS: usize = 2_000;
/// Longest range of numbers in one mark, such as `[1-9]`.
const MAX_RANGE: usize = 50;

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "claims carry citations, and the citations point at supplied sources",
    kind: Kind::Structural,
    stream: "end",
    severity: Severity::Repair,
    build,
};

#[derive(Debug)]
struct Citations {
    severity: Severity,
    styles: Vec<&'static str>,
    min: usize,
    min_per_paragraph: usize,
    resolve: bool,
    origin: Origin,
}

/// Parameters: `style` (bracket `[1]`, footnote `[^1]`, `author_year` (Smith, 2020), url; one or a list, default
/// any), `min` (default 1) in the whole answer, `min_per_paragraph` (default 0), `resolve` (default true: each
/// must point at a source), `sources` (path of a value; without it what the request brings).
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["style", "min", "min_per_paragraph", "resolve", "sources"])?;
    let mut styles = Vec::new();
    for name in params.strings("style")?.into_iter().filter(|s| *s != "any" && *s != "auto") {
        styles.push(STYLES.iter().copied().find(|s| *s == name).ok_or_else(|| {
            let near = types::diagnostic::suggestion(name, STYLES.iter().copied());
            Problem::new(
                "style",
                format!("`{name}` is not a style; {near}"),
                format!("any of {}", STYLES.join(", ")),
            )
        })?);
    }
    if styles.is_empty() {
        styles.extend(STYLES);
    }
    Ok(Arc::new(Citations {
        severity,
        styles,
        min: params.count("min")?.unwrap_or(1),
        min_per_paragraph: params.count("min_per_paragraph")?.unwrap_or(0),
        resolve: params.boolean("resolve", true)?,
        origin: Origin::new(&params)?,
    }))
}

struct Patterns {
    bracket: Regex,
    footnote: Regex,
    defined: Regex,
    author: Regex,
    narrative: Regex,
    url: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        bracket: Regex::new(r"\[(?P<n>\d{1,4}(?:\s*[,;–-]\s*\d{1,4})*)\]|【(?P<m>\d{1,4})(?::\d+)?†[^】\n]{0,80}】|\[(?P<id>[A-Za-z][\w.:#/-]{0,60})\]").ok()?,
        footnote: Regex::new(r"\[\^(?P<f>[\w.-]{1,40})\]").ok()?,
        defined: Regex::new(r"(?m)^[ \t]*(?:[-*] )?(?:\[\^(?P<f>[\w.-]{1,40})\]:|\[(?P<n>\d{1,4})\]:?[ \t]+\S|(?P<m>\d{1,4})\.[ \t]+\S)").ok()?,
        author: Regex::new(r"\((?:see |e\.g\.,? |cf\. )?(?P<a>\p{Lu}[^()\d\n]{1,80}?),?\s+(?P<y>1[5-9]\d{2}|20\d{2})[a-z]?(?:,[^()\n]{0,40})?\)").ok()?,
        narrative: Regex::new(r"(?P<a>\p{Lu}[\p{L}'’-]+)(?: et al\.?| (?:and|&) \p{Lu}[\p{L}'’-]+)? \((?P<y>1[5-9]\d{2}|20\d{2})[a-z]?\)").ok()?,
        url: Regex::new(r#"https?://[^\s<>()\[\]"'`]+"#).ok()?,
    })
});

/// A mark in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    span: Range<usize>,
    target: Target,
}

/// What a mark points at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Number(usize),
    Id(String),
    Footnote(String),
    Author { name: String, year: String },
    Url(String),
}

impl Check for Citations {
    fn about(&self) -> About {
        About::structural(NAME, self.severity)
    }

    fn references(&self) -> &[Reference] {
        self.origin.references()
    }

    fn check(&self, input: &Input<'_>) -> Report {
        let sources = if self.resolve { self.origin.read(input) } else { Ok(Vec::new()) };
        // A path that leads nowhere is a mistake of the run; that nobody gave sources is not.
        if let (Err(why), false) = (&sources, self.origin.references().is_empty()) {
            return unverified(why.clone());
        }
        let sources = sources.unwrap_or_default();
        let choices = &input.completion.choices;
        let (mut findings, mut unsure, mut looked) = (Vec::new(), None, false);
        for (position, choice) in choices.iter().enumerate() {
            if choice.text.len() > MAX_BYTES {
                return unverified("the answer is too long to be looked at");
            }
            let Some((notes, doubt)) = self.text(&choice.text, &sources) else { continue };
            looked = true;
            unsure = unsure.or(doubt);
            findings.extend(notes.into_iter().map(|n| n.choice(position, choices.len()).into_finding()));
        }
        match (findings.is_empty(), unsure) {
            (true, Some(why)) => unverified(why),
            _ if !looked => nothing(),
            _ => decided(findings),
        }
    }
}

impl Citations {
    /// What is wrong, and what could not be told; `None` if the text claims nothing and cites nothing.
    fn text(&self, text: &str, sources: &[Source]) -> Option<(Vec<Note>, Option<String>)> {
        let outline = outline(text);
        let defined = definitions(text);
        let ids: HashSet<&str> = sources.iter().filter_map(|s| s.id.as_deref()).collect();
        let places: Vec<Range<usize>> = defined.iter().map(|(_, place)| place.clone()).collect();
        let mut marks = marks(text, &outline, &ids, &self.styles);
        marks.retain(|m| !within(&places, m.span.start));
        if marks.len() > MAX_MARKS {
            return Some((
                Vec::new(),
                Some(format!("{} citations are more than are looked at", marks.len())),
            ));
        }
        let groups = paragraphs(text, &outline);
        if groups.is_empty() && marks.is_empty() {
            return None;
        }
        // Whoever has nothing to cite is not asked to make something up.
        if self.resolve && sources.is_empty() && defined.is_empty() {
            return Some((Vec::new(), Some("there are no sources that could be cited".to_owned())));
        }
        let mut notes = self.missing(text, &groups, &marks);
        let mut unsure = None;
        if self.resolve {
            match self.unresolved(text, &marks, sources, &defined) {
                Ok(more) => notes.extend(more),
                Err(why) => unsure = Some(why),
            }
        }
        Some((notes, unsure))
    }

    fn note(&self, code: &str, what: &str) -> Note {
        Note::new(NAME, self.severity, code, what).hint("mark each claim with the source it is taken from")
    }

    fn missing(&self, text: &str, groups: &[Range<usize>], marks: &[Mark]) -> Vec<Note> {
        if marks.len() < self.min && !groups.is_empty() {
            let what =
                format!("the answer has {} citations, at least {} are asked for", marks.len(), self.min);
            let note = self.note("too_few", &what).expected(self.min).actual(marks.len());
            return vec![note];
        }
        let lacking = groups
            .iter()
            .filter(|g| marks.iter().filter(|m| g.contains(&m.span.start)).count() < self.min_per_paragraph);
        lacking
            .map(|g| {
                let begin = cut(text.get(g.clone()).unwrap_or("").trim(), 80);
                let what =
                    format!("this paragraph has fewer than {} citations: {begin}", self.min_per_paragraph);
                self.note("uncited_paragraph", &what).span(g.start, g.end).expected(self.min_per_paragraph)
            })
            .collect()
    }

    /// Marks that point at nothing; why it cannot be told.
    fn unresolved(
        &self,
        text: &str,
        marks: &[Mark],
        sources: &[Source],
        defined: &[(String, Range<usize>)],
    ) -> Result<Vec<Note>, String> {
        let own: HashSet<&str> = defined.iter().map(|(n, _)| n.as_str()).collect();
        // The numbers that a request gives its passages are theirs; what else it says is no passage of a number.
        let own_numbers = self.origin.references().is_empty()
            && sources.iter().any(|s| s.id.as_deref().is_some_and(|id| id.parse::<usize>().is_ok()));
        let mut notes = Vec::new();
        for mark in marks {
            let shown = cut(text.get(mark.span.clone()).unwrap_or(""), 60);
            let fine = match &mark.target {
                Target::Footnote(f) => own.contains(f.as_str()) || by_id(f, sources),
                // Without sources the answer's own list of references is what its numbers point at.
                Target::Number(n) if sources.is_empty() => own.contains(n.to_string().as_str()),
                _ if sources.is_empty() => {
                    return Err(format!("there are no sources that {shown} could point at"));
                }
                Target::Number(n) if own_numbers => by_id(&n.to_string(), sources),
                Target::Number(n) => (1..=sources.len()).contains(n) || by_id(&n.to_string(), sources),
                Target::Id(id) => by_id(id, sources),
                Target::Author { name, year } => by_author(name, year, sources),
                Target::Url(url) => by_url(url, sources),
            };
            if !fine {
                let known: Vec<&str> = sources.iter().filter_map(|s| s.id.as_deref()).take(20).collect();
                let want =
                    if known.is_empty() { format!("1 to {}", sources.len()) } else { known.join(", ") };
                let what = format!("{shown} points at no source");
                notes.push(
                    self.note("unresolved", &what)
                        .span(mark.span.start, mark.span.end)
                        .expected(want)
                        .actual(shown),
                );
            }
        }
        Ok(notes)
    }
}

/// Names that the answer itself explains, in footnotes or in a list of references, and where.
fn definitions(text: &str) -> Vec<(String, Range<usize>)> {
    let Some(p) = PATTERNS.as_ref() else { return Vec::new() };
    let list = references_from(text);
    p.defined
        .captures_iter(text)
        .filter_map(|c| {
            let all = c.get(0)?;
            let end = text
                .get(all.start()..)
                .and_then(|r| r.find('\n'))
                .map_or(text.len(), |i| all.start().saturating_add(i));
            let name = match c.name("f") {
                Some(f) => f,
                // Numbers explain themselves only in a list at the end.
                None if all.start() >= list => c.name("n").or_else(|| c.name("m"))?,
                None => return None,
            };
            Some((name.as_str().to_owned(), all.start()..end.max(all.end())))
        })
        .collect()
}

/// Where the list of references begins, if a line announces one.
fn references_from(text: &str) -> usize {
    let mut at = 0_usize;
    let mut found = usize::MAX;
    for line in text.split_inclusive('\n') {
        at = at.saturating_add(line.len());
        let bare = line.trim().trim_matches(['#', '*', ':', '_', ' ']).to_lowercase();
        if matches!(
            bare.as_str(),
            "references"
                | "sources"
                | "citations"
                | "bibliography"
                | "quellen"
                | "literatur"
                | "références"
                | "sources:"
                | "referencias"
                | "fuentes"
                | "参考文献"
        ) {
            found = at;
        }
    }
    found
}

fn marks(text: &str, outline: &Outline, ids: &HashSet<&str>, styles: &[&str]) -> Vec<Mark> {
    let Some(p) = PATTERNS.as_ref() else { return Vec::new() };
    let mut out = Vec::new();
    let has = |s: &str| styles.contains(&s);
    if has("bracket") {
        for c in p.bracket.captures_iter(text) {
            let Some(all) = c.get(0) else { continue };
            // `[1](…)` and `[a](…)` are links.
            if text.get(all.end()..).is_some_and(|r| r.starts_with('(') || r.starts_with(':')) {
                continue;
            }
            let span = all.start()..all.end();
            if let Some(id) = c.name("id").map(|m| m.as_str()).filter(|id| ids.contains(id)) {
                out.push(Mark { span, target: Target::Id(id.to_owned()) });
            } else if let Some(list) = c.name("n").or_else(|| c.name("m")) {
                let numbers = numbers(list.as_str());
                out.extend(
                    numbers.into_iter().map(|n| Mark { span: span.clone(), target: Target::Number(n) }),
                );
            }
        }
    }
    if has("footnote") {
        out.extend(p.footnote.captures_iter(text).filter_map(|c| {
            let (all, name) = (c.get(0)?, c.name("f")?);
            Some(Mark { span: all.start()..all.end(), target: Target::Footnote(name.as_str().to_owned()) })
        }));
    }
    if has("author_year") {
        out.extend(p.author.captures_iter(text).chain(p.narrative.captures_iter(text)).filter_map(|c| {
            let (all, name, year) = (c.get(0)?, c.name("a")?, c.name("y")?);
            let target = Target::Author { name: name.as_str().to_owned(), year: year.as_str().to_owned() };
            Some(Mark { span: all.start()..all.end(), target })
        }));
    }
    if has("url") {
        out.extend(p.url.find_iter(text).map(|m| {
            let url = m.as_str().trim_end_matches(['.', ',', ';', ':', '!', '?', '*', '_']);
            Mark { span: m.start()..m.start().saturating_add(url.len()), target: Target::Url(url.to_owned()) }
        }));
    }
    let blocks: Vec<Range<usize>> = outline.code.iter().map(|c| c.span.clone()).collect();
    out.retain(|m| !within(&blocks, m.span.start) && !within(&outline.inline, m.span.start));
    out.sort_by_key(|m| m.span.start);
    out
}

/// Whether one of the ranges, which come in order, holds the place.
fn within(ranges: &[Range<usize>], at: usize) -> bool {
    let next = ranges.partition_point(|r| r.end <= at);
    ranges.get(next).is_some_and(|r| r.contains(&at))
}

/// `1, 3-5` as 1, 3, 4, 5.
fn numbers(list: &str) -> Vec<usize> {
    let mut out = Vec::new();
    for part in list.split([',', ';']) {
        let mut ends = part.split(['-', '–']).filter_map(|n| n.trim().parse::<usize>().ok());
        match (ends.next(), ends.next()) {
            (Some(a), Some(b)) if b > a && b.saturating_sub(a) <= MAX_RANGE => out.extend(a..=b),
            (Some(a), Some(b)) => out.extend([a, b]),
            (Some(a), None) => out.push(a),
            _ => {}
        }
    }
    out
}

/// Paragraphs that claim something; the items of a list count as one with each other.
fn paragraphs(text: &str, outline: &Outline) -> Vec<Range<usize>> {
    let all = sentences::of(text, outline);
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut last: Option<(Block, usize)> = None;
    let stop = references_from(text);
    for s in all.iter().filter(|s| s.span.start < stop && claims::is_claim(text, s)) {
        let Some(block) = outline.blocks.get(s.block) else { continue };
        let goes_on = match last {
            Some((_, at)) if at == s.block => true,
            Some((Block::Item, at)) => block.kind == Block::Item && s.block == at.saturating_add(1),
            Some((Block::Row, at)) => block.kind == Block::Row && s.block == at.saturating_add(1),
            _ => false,
        };
        match out.last_mut().filter(|_| goes_on) {
            Some(g) => g.end = block.span.end.max(g.end),
            None => out.push(block.span.clone()),
        }
        last = Some((block.kind, s.block));
    }
    // A mark right behind a paragraph's last word belongs to it.
    for g in &mut out {
        let rest = text.get(g.end..).unwrap_or("");
        let line = rest.find('\n').unwrap_or(rest.len());
        g.end = g.end.saturating_add(line);
    }
    out
}

fn by_id(id: &str, sources: &[Source]) -> bool {
    sources.iter().any(|s| s.id.as_deref() == Some(id))
}

fn by_author(name: &str, year: &str, sources: &[Source]) -> bool {
    let surname = name.split([',', '&', ';']).next().unwrap_or(name);
    let surname = surname
        .split(" et al")
        .next()
        .and_then(|n| n.split(" and ").next())
        .unwrap_or(surname)
        .trim()
        .to_lowercase();
    sources.iter().any(|s| {
        let end = s.text.char_indices().nth(HEAD).map_or(s.text.len(), |(i, _)| i);
        let head = format!("{}\n{}", s.head, s.text.get(..end).unwrap_or("")).to_lowercase();
        head.contains(&surname) && head.contains(year)
    })
}

fn by_url(url: &str, sources: &[Source]) -> bool {
    let plain = |u: &str| {
        let u = u.trim_start_matches("https://").trim_start_matches("http://").trim_start_matches("www.");
        u.split('#').next().unwrap_or(u).trim_end_matches('/').to_lowercase()
    };
    let wanted = plain(url);
    sources.iter().any(|s| {
        s.url.as_deref().is_some_and(|u| plain(u) == wanted)
            || s.id.as_deref().is_some_and(|u| plain(u) == wanted)
            || s.text.contains(url)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use serde_json::json;

    fn check(text: &str, with: Value, want: &[&str]) {
        let sources = json!([
            {"id": "a1", "url": "https://example.com/x", "title": "On towers", "author": "Smith", "year": 2020, "text": "t"},
            {"text": "Jones and Brown (2019). On bridges."}]);
        let mut with = with;
        with["sources"] = json!("s");
        assert_eq!(codes_with(NAME, with, &[("s", sources)], text), want, "{text}");
    }

    const CLAIM: &str = "The tower has a height of many metres";

    #[test]
    fn marks_point_at_sources() {
        check(&format!("{CLAIM} [1]."), json!({}), &[]);
        check(&format!("{CLAIM} [1, 2]."), json!({}), &[]);
        check(&format!("{CLAIM} [1-2][3]."), json!({}), &["unresolved"]);
        check(&format!("{CLAIM} [a1]."), json!({}), &[]);
        check(&format!("{CLAIM}【2†source】."), json!({}), &[]);
        check(&format!("{CLAIM} (Smith, 2020)."), json!({}), &[]);
        check(&format!("{CLAIM} (Smith et al., 2021)."), json!({}), &["unresolved"]);
        check(&format!("Jones and Brown (2019) say: {CLAIM}."), json!({}), &[]);
        check(&format!("{CLAIM}, see https://www.example.com/x/."), json!({}), &[]);
        check(&format!("{CLAIM}, see https://example.com/y."), json!({}), &["unresolved"]);
        check(&format!("{CLAIM}[^n].\n\n[^n]: a note"), json!({}), &[]);
        check(&format!("{CLAIM}[^n]."), json!({}), &["unresolved"]);
        check(&format!("{CLAIM} [9]."), json!({"resolve": false}), &[]);
    }

    #[test]
    fn marks_are_asked_for() {
        check(&format!("{CLAIM}."), json!({}), &["too_few"]);
        check(&format!("{CLAIM}."), json!({"min": 0}), &[]);
        check(&format!("{CLAIM} [1]."), json!({"style": "url"}), &["too_few"]);
        let two = format!("{CLAIM} [1].\n\n{CLAIM}.");
        check(&two, json!({}), &[]);
        check(&two, json!({"min_per_paragraph": 1}), &["uncited_paragraph"]);
        let list = format!("Facts:\n\n- {CLAIM}\n- {CLAIM} [1]\n\nHope this helps!");
        check(&list, json!({"min_per_paragraph": 1}), &[]);
        check("The sources do not say how high the tower is.", json!({}), &["none"]);
        check("```\na[1]\n```\nUse `a[7]`.", json!({}), &["none"]);
        check(&format!("{CLAIM} [link](http://example.com/x)."), json!({"style": "bracket"}), &["too_few"]);
    }

    #[test]
    fn an_answer_may_bring_its_own_list() {
        let run = |text: &str| codes(NAME, &Value::Null, &request(json!({})), &answer(text));
        let list = format!("{CLAIM} [1].\n\n## References\n\n[1] Smith: On towers");
        assert_eq!(run(&list), Vec::<String>::new());
        assert_eq!(run(&list.replace("tres [1]", "tres [2]")), ["unresolved"]);
        assert_eq!(run(&format!("{CLAIM} (Smith, 2020).")), ["unverified"]);
    }

    #[test]
    fn without_anything_to_cite_nothing_is_known() {
        let run = |text: &str, with: Value| codes(NAME, &with, &request(json!({})), &answer(text));
        for text in ["CLAIM [1].", "CLAIM[^1].", "CLAIM.", "CLAIM, see https://example.com/y."] {
            let text = text.replace("CLAIM", CLAIM);
            assert_eq!(run(&text, json!({})), ["unverified"], "{text}");
            assert_eq!(run(&text, json!({"min": 0})), ["unverified"], "{text}");
        }
        assert_eq!(run(&format!("{CLAIM}."), json!({"resolve": false})), ["too_few"]);
        assert_eq!(run("Hello!", json!({})), ["none"]);
    }

    #[test]
    fn passages_of_a_request_have_their_own_numbers() {
        let asked = "Answer from these.\n[1] The tower is high.\n[2] The bridge is long.";
        let request = request(
            json!({"messages": [{"role": "system", "content": asked}, {"role": "user", "content": "How high?"}]}),
        );
        let run = |text: &str| codes(NAME, &Value::Null, &request, &answer(text));
        assert_eq!(run(&format!("{CLAIM} [2].")), Vec::<String>::new());
        assert_eq!(run(&format!("{CLAIM} [3].")), ["unresolved"]);
    }

    #[test]
    fn parameters_are_checked() {
        assert_eq!(refused(NAME, &json!({"style": "brackets"})).field, "style");
        assert_eq!(refused(NAME, &json!({"min": -1})).field, "min");
    }
}
