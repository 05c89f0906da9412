//! What an answer is checked against: the sources a workflow names, else what the request itself brings.

use crate::check::{Input, Reference};
use crate::params::{Params, Problem};
use crate::text::MAX_BYTES;
use regex::Regex;
use serde_json::{Map, Value};
use std::sync::LazyLock;
use types::ChatRequest;
use types::chat::Role;

/// Most sources of one check.
pub(crate) const MAX_SOURCES: usize = 2_000;
/// Deepest nesting of lists and objects in a value that holds sources.
const MAX_DEPTH: usize = 6;
/// Fewest words of a request that can serve as sources.
const MIN_WORDS: usize = 40;

/// Members that hold the text of a source.
const TEXTS: &[&str] =
    &["text", "content", "page_content", "passage", "snippet", "body", "document", "chunk", "summary"];
/// Members that hold a list of sources.
const LISTS: &[&str] = &[
    "results",
    "documents",
    "passages",
    "chunks",
    "items",
    "hits",
    "matches",
    "sources",
    "data",
    "contexts",
    "result",
];
/// Members that name a source.
const IDS: &[&str] = &["id", "document_id", "doc_id", "source_id", "index", "number", "key", "ref"];
/// Members that hold its address.
const URLS: &[&str] = &["url", "link", "href", "uri", "source"];
/// Members that hold its title.
const TITLES: &[&str] = &["title", "name", "heading", "author", "authors", "year", "date"];

/// A text that an answer may rest on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its name, where it has one.
    pub(crate) id: Option<String>,
    /// Its address, where it has one.
    pub(crate) url: Option<String>,
    /// Title, author and year, as far as given, each on a line.
    pub(crate) head: String,
    /// Its text.
    pub(crate) text: String,
}

/// Where the sources of a check come from.
#[derive(Clone, Debug)]
pub(crate) struct Origin(Vec<Reference>);

impl Origin {
    /// The parameter `sources`: a path, or nothing for what the request brings.
    pub(crate) fn new(params: &Params<'_>) -> Result<Self, Problem> {
        Ok(Origin(params.reference("sources")?.into_iter().collect()))
    }

    /// What the check must be given.
    pub(crate) fn references(&self) -> &[Reference] {
        &self.0
    }

    /// The sources, or why there are none.
    pub(crate) fn read(&self, input: &Input<'_>) -> Result<Vec<Source>, String> {
        let sources = match self.0.first() {
            Some(r) => {
                let value =
                    input.value(&r.path).ok_or_else(|| format!("`{}` has no value in this run", r.path))?;
                read(value)
            }
            None => of_request(input.request),
        };
        let bytes: usize = sources.iter().map(|s| s.text.len()).sum();
        if bytes > MAX_BYTES || sources.len() > MAX_SOURCES {
            return Err(format!("{} sources of {bytes} bytes are more than can be looked at", sources.len()));
        }
        if sources.iter().all(|s| s.text.trim().is_empty()) {
            return Err("there are no sources to check against".to_owned());
        }
        Ok(sources)
    }
}

/// The sources that a value holds: a text, a list, or the answer of a retriever in one of the usual forms.
pub(crate) fn read(value: &Value) -> Vec<Source> {
    let mut out = Vec::new();
    collect(value, MAX_DEPTH, &mut out);
    out
}

fn collect(value: &Value, depth: usize, out: &mut Vec<Source>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match value {
        Value::String(s) => out.extend(numbered(s)),
        Value::Array(items) => items.iter().for_each(|i| collect(i, depth, out)),
        Value::Object(map) => object(map, depth, out),
        _ => {}
    }
}

fn object(map: &Map<String, Value>, depth: usize, out: &mut Vec<Source>) {
    let word = |names: &[&str]| {
        names.iter().find_map(|n| match map.get(*n) {
            Some(Value::String(s)) if !s.is_empty() => Some(s.clone()),
            Some(Value::Number(n)) => Some(n.to_string()),
            _ => None,
        })
    };
    let texts: Vec<String> =
        TEXTS.iter().filter_map(|n| map.get(*n)).map(joined).filter(|t| !t.is_empty()).collect();
    if let Some(text) = texts.into_iter().max_by_key(String::len) {
        let head: Vec<String> = TITLES.iter().filter_map(|t| word(&[*t])).collect();
        let bare = word(IDS).is_none() && word(URLS).is_none() && head.is_empty();
        if bare {
            out.extend(numbered(&text));
        } else {
            out.push(Source { id: word(IDS), url: word(URLS), head: head.join("\n"), text });
        }
        return;
    }
    let lists: Vec<&Value> = LISTS.iter().filter_map(|n| map.get(*n)).collect();
    if lists.is_empty() {
        // A record: all it says, each member on a line.
        let lines: Vec<String> = map.iter().map(|(k, v)| format!("{k}: {}", plain(v))).collect();
        out.push(Source { id: word(IDS), url: word(URLS), head: String::new(), text: lines.join("\n") });
    } else {
        lists.into_iter().for_each(|l| collect(l, depth, out));
    }
}

/// The text of a member: a string, a list of strings, or parts with `text`.
fn joined(value: &Value) -> String {
    match value {
        Value::String(s) => s.clone(),
        Value::Array(parts) => {
            let pieces: Vec<&str> = parts
                .iter()
                .filter_map(|p| p.as_str().or_else(|| p.get("text").and_then(Value::as_str)))
                .collect();
            pieces.join("\n")
        }
        _ => String::new(),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

static MARK: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?m)^[ \t]*(?:\[(\d{1,3})\]|(?:Document|Source|Passage|Doc) \[?(\d{1,3})\]?\s*[:.-])[ \t]*")
        .ok()
});

/// Tags that documents are handed over in.
static TAGGED: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let one = |tag: &str| Regex::new(&format!(r"(?is)<{tag}(?P<with>\s[^>]*)?>(?P<text>.*?)</{tag}>")).ok();
    ["document", "passage", "chunk", "excerpt", "context"].into_iter().filter_map(one).collect()
});

static NAMED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"(?i)\b(?:id|index|number|name)\s*=\s*["']?([\w.:/-]{1,60})"#).ok());

/// Documents that stand between tags, such as `<document id="7">…</document>`: of the tags that there are the first
/// kind counts. None: there are no tags.
fn tagged(text: &str) -> Vec<Source> {
    let one = |c: regex::Captures<'_>| {
        let id = c.name("with").zip(NAMED.as_ref()).and_then(|(with, named)| named.captures(with.as_str()));
        let id = id.and_then(|c| Some(c.get(1)?.as_str().to_owned()));
        let text = c.name("text").map_or("", |t| t.as_str()).trim();
        Source { id, text: text.to_owned(), ..Source::default() }
    };
    let all = TAGGED.iter().map(|tag| tag.captures_iter(text).map(one).collect::<Vec<_>>());
    all.into_iter().find(|found| !found.is_empty()).unwrap_or_default()
}

/// A text as sources: numbered passages (`[1] …`) each on its own, else the whole.
pub(crate) fn numbered(text: &str) -> Vec<Source> {
    let whole = || vec![Source { text: text.to_owned(), ..Source::default() }];
    let Some(mark) = MARK.as_ref() else { return whole() };
    let marks: Vec<(usize, usize, String)> = mark
        .captures_iter(text)
        .filter_map(|c| {
            let all = c.get(0)?;
            let id = c.get(1).or_else(|| c.get(2))?;
            Some((all.start(), all.end(), id.as_str().to_owned()))
        })
        .collect();
    if marks.is_empty() {
        return whole();
    }
    let mut out = Vec::new();
    let lead = marks.first().and_then(|(start, _, _)| text.get(..*start)).unwrap_or("").trim();
    if !lead.is_empty() {
        out.push(Source { text: lead.to_owned(), ..Source::default() });
    }
    for (i, (_, end, id)) in marks.iter().enumerate() {
        let stop = marks.get(i.saturating_add(1)).map_or(text.len(), |(next, _, _)| *next);
        let body = text.get(*end..stop).unwrap_or("").trim();
        out.push(Source { id: Some(id.clone()), text: body.to_owned(), ..Source::default() });
    }
    out
}

/// What the caller gave with the request: results of tools, instructions and questions, but no answers.
/// Nothing if it is too short to be an evidence for anything, unless it is plain that it is meant as one: results of
/// tools, documents between tags, numbered passages.
pub(crate) fn of_request(request: &ChatRequest) -> Vec<Source> {
    let (mut out, mut meant) = (Vec::new(), false);
    for m in request.messages.iter().filter(|m| m.role != Role::Assistant) {
        let text = m.content.text();
        match serde_json::from_str::<Value>(&text) {
            Ok(v @ (Value::Object(_) | Value::Array(_))) if m.role == Role::Tool => out.extend(read(&v)),
            _ => {
                let found = tagged(&text);
                meant |= !found.is_empty();
                let before = out.len();
                if found.is_empty() {
                    out.extend(numbered(&text));
                } else {
                    // What stands around the tags is no document, but may be what an answer repeats.
                    let around = TAGGED
                        .iter()
                        .fold(text.clone().into_owned(), |t, tag| tag.replace_all(&t, "").into_owned());
                    out.extend(found);
                    out.extend(numbered(around.trim()));
                }
                meant |= out.get(before..).is_some_and(|new| new.iter().any(|s| s.id.is_some()));
            }
        }
        meant |= m.role == Role::Tool && !text.trim().is_empty();
    }
    let words: usize = out.iter().map(|s| s.text.split_whitespace().count()).sum();
    let unspaced: usize =
        out.iter().map(|s| s.text.chars().filter(|c| crate::text::unspaced(*c)).count()).sum();
    if !meant && words.saturating_add(unspaced) < MIN_WORDS { Vec::new() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::request;
    use serde_json::json;

    fn check(value: &Value, want: &[(Option<&str>, &str)]) {
        let got = read(value);
        let got: Vec<(Option<&str>, &str)> = got.iter().map(|s| (s.id.as_deref(), s.text.as_str())).collect();
        assert_eq!(got, want, "{value}");
    }

    #[test]
    fn answers_of_retrievers_are_understood() {
        check(&json!("plain"), &[(None, "plain")]);
        check(&json!(["a", "b"]), &[(None, "a"), (None, "b")]);
        check(&json!("[1] one\n\n[2] two\nmore"), &[(Some("1"), "one"), (Some("2"), "two\nmore")]);
        check(&json!("Answer from these:\n[7] x"), &[(None, "Answer from these:"), (Some("7"), "x")]);
        check(
            &json!([{"id": 3, "text": "a"}, {"document_id": "d", "page_content": "b"}]),
            &[(Some("3"), "a"), (Some("d"), "b")],
        );
        check(
            &json!({"results": [{"content": [{"type": "text", "text": "a"}], "url": "u"}]}),
            &[(None, "a")],
        );
        check(&json!({"text": "[1] a\n[2] b"}), &[(Some("1"), "a"), (Some("2"), "b")]);
        check(&json!({"price": 3, "name": "x"}), &[(None, "price: 3\nname: x")]);
        check(&json!(null), &[]);
        let s = &read(&json!({"title": "T", "year": 2020, "link": "http://x", "body": "b"}))[0];
        assert_eq!((s.head.as_str(), s.url.as_deref()), ("T\n2020", Some("http://x")));
    }

    #[test]
    fn depth_is_bounded() {
        let mut v = json!("deep");
        for _ in 0..40 {
            v = json!([v]);
        }
        check(&v, &[]);
    }

    #[test]
    fn requests_bring_their_own_sources_if_they_say_enough() {
        let long = "word ".repeat(50);
        let r = request(json!({"messages": [
            {"role": "system", "content": format!("Use these.\n[1] {long}")},
            {"role": "assistant", "content": "I said so"},
            {"role": "user", "content": "why?"}]}));
        let got = of_request(&r);
        assert_eq!(got.iter().map(|s| s.id.as_deref()).collect::<Vec<_>>(), [None, Some("1"), None]);
        assert_eq!(of_request(&request(json!({}))), Vec::new());
    }

    #[test]
    fn what_is_meant_as_a_source_may_be_short() {
        let got = |messages: Value| -> Vec<(Option<String>, String)> {
            let r = request(json!({"messages": messages}));
            of_request(&r).into_iter().map(|s| (s.id, s.text)).collect()
        };
        assert_eq!(got(json!([{"role": "user", "content": "What does it cost?"}])), []);
        let doc = "<document index=\"7\">It costs 3 euros.</document>\nWhat does it cost?";
        assert_eq!(
            got(json!([{"role": "user", "content": doc}])),
            [(Some("7".to_owned()), "It costs 3 euros.".to_owned()), (None, "What does it cost?".to_owned())]
        );
        let numbered = "[1] It costs 3 euros.\n[2] It is red.";
        assert_eq!(got(json!([{"role": "system", "content": numbered}])).len(), 2);
        let tool = json!([{"role": "user", "content": "What does it cost?"},
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "s", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "3 euros"}]);
        assert_eq!(got(tool).last().unwrap().1, "3 euros");
    }
}
