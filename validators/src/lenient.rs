//! A parser of almost-JSON: reads what models write when they mean JSON, in linear time.
//!
//! It accepts comments, missing or trailing commas, single and typographic quotes, bare keys and words,
//! Python's literals, unescaped quotes inside strings, and an end that comes too early, between two values. Every loop consumes
//! at least one character or leaves. (The `jsonrepair` crate 0.1.0 does not end on inputs such as
//! `'a,}/"0'/`, and a check must end whatever a model writes.)

use crate::exact;
use serde_json::{Map, Value};

/// Deepest nesting.
const MAX_DEPTH: usize = 100;
/// How far the parser looks past white space to decide whether a quote closes its string.
const LOOK_AHEAD: usize = 64;

/// What a text opens with, and how it is written.
pub(crate) struct Found<'a> {
    /// The list or object.
    pub(crate) value: Value,
    /// What follows it.
    pub(crate) rest: &'a str,
    /// A text in quotes is in it.
    pub(crate) is_quoted: bool,
    /// A word without quotes is one of its values.
    pub(crate) has_words: bool,
    /// It is written like no value: several words in a list, a colon in one, a name with nothing to it.
    pub(crate) is_prose: bool,
}

/// The list or object that opens the text. `None` if the text opens with neither, is nested too deep, or leaves open
/// what was meant: a number that would come out as another one, a text or a number that may go on behind the end (of
/// a text that still `grows` the end is nobody's).
pub(crate) fn find(text: &str, grows: bool) -> Option<Found<'_>> {
    let mut parser = Parser::new(text, grows)?;
    let value = parser.value(0)?;
    let Parser { rest, is_quoted, has_words, is_prose, .. } = parser;
    (!parser.too_deep && !parser.doubtful).then_some(Found { value, rest, is_quoted, has_words, is_prose })
}

/// Whether another list, or another object, stands in what follows the first one.
pub(crate) fn is_one_of_several(value: &Value, mut rest: &str) -> bool {
    let open = if value.is_array() { '[' } else { '{' };
    while let Some(at) = rest.find(open) {
        let Some(mut parser) = rest.get(at..).and_then(|r| Parser::new(r, true)) else { return false };
        match parser.value(0) {
            Some(other) if !is_empty(&other) && other != *value => return true,
            Some(_) if parser.rest.len() < rest.len() => rest = parser.rest,
            _ => return false,
        }
    }
    false
}

/// Whether a list or object holds nothing.
pub(crate) fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// What ends a word without quotes.
const BARE_ENDS: [char; 8] = [',', ':', '{', '}', '[', ']', '\n', '"'];

/// A word that nothing more can follow.
fn is_literal(word: &str) -> bool {
    matches!(word.to_ascii_lowercase().as_str(), "true" | "false" | "null" | "none" | "undefined" | "nan")
}

struct Parser<'a> {
    rest: &'a str,
    too_deep: bool,
    /// What stands there may mean something else.
    doubtful: bool,
    is_quoted: bool,
    has_words: bool,
    is_prose: bool,
    /// More of the text may come.
    grows: bool,
}

impl<'a> Parser<'a> {
    /// `None` where the text opens with no bracket.
    fn new(text: &'a str, grows: bool) -> Option<Self> {
        let rest = text.trim_start();
        rest.starts_with(['{', '[']).then_some(Parser {
            rest,
            too_deep: false,
            doubtful: false,
            is_quoted: false,
            has_words: false,
            is_prose: false,
            grows,
        })
    }
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        Some(c)
    }

    /// Skips white space, comments and the given separators.
    fn skip(&mut self, separators: &[char]) {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(r) = self.rest.strip_prefix("/*") {
                self.rest = r.split_once("*/").map_or("", |(_, after)| after);
            } else if self.rest.starts_with("//") || self.rest.starts_with('#') {
                self.rest = self.rest.split_once('\n').map_or("", |(_, after)| after);
            } else if self.rest.starts_with(separators) {
                self.bump();
            } else {
                return;
            }
        }
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            self.too_deep = true;
            return None;
        }
        self.skip(&[]);
        match self.peek()? {
            '{' => Some(self.object(depth)),
            '[' => Some(self.array(depth)),
            c if closing(c).is_some() => self.string(false).map(Value::String),
            '}' | ']' | ':' | ',' => None,
            _ => {
                // A word at the very end may have more to it: `1` may be 12.
                let cut = !self.rest.contains(BARE_ENDS) && !self.rest.ends_with(char::is_whitespace);
                let bare = self.bare();
                self.doubtful |= cut && !self.grows && !is_literal(&bare);
                let word = self.word(&bare);
                self.has_words |= word.is_string();
                Some(word)
            }
        }
    }

    fn object(&mut self, depth: usize) -> Value {
        self.bump();
        let mut map = Map::new();
        while !self.too_deep {
            self.skip(&[',', ';']);
            let key = match self.peek() {
                None => break,
                Some('}') => {
                    self.bump();
                    break;
                }
                // The bracket belongs to a list further out: this object lacks its own end.
                Some(']') => break,
                Some(c) if closing(c).is_some() => self.string(true),
                Some(_) => {
                    let bare = self.bare();
                    // A number where a name should be belongs to the value before it: `1,234`.
                    self.doubtful |= bare.starts_with(|c: char| c.is_ascii_digit())
                        && !self.rest.trim_start().starts_with([':', '=']);
                    Some(bare)
                }
            };
            let Some(key) = key.filter(|k| !k.is_empty()) else {
                self.bump();
                continue;
            };
            self.skip(&[]);
            let is_named = self.rest.starts_with([':', '=']);
            self.skip(&[':', '=']);
            match self.value(depth.saturating_add(1)) {
                Some(v) => {
                    map.insert(key, v);
                }
                // The text ends before the value: the key alone says nothing.
                None if self.rest.is_empty() => break,
                None => {
                    self.is_prose |= !is_named;
                    map.insert(key, Value::Null);
                }
            }
        }
        Value::Object(map)
    }

    fn array(&mut self, depth: usize) -> Value {
        self.bump();
        let mut list = Vec::new();
        while !self.too_deep {
            self.skip(&[',', ';']);
            match self.peek() {
                None => break,
                Some(']') => {
                    self.bump();
                    break;
                }
                Some('}') => break,
                Some(c) => {
                    self.is_prose |= c == ':';
                    let is_bare = closing(c).is_none();
                    match self.value(depth.saturating_add(1)) {
                        Some(v) => {
                            let words = v.as_str().filter(|_| is_bare);
                            self.is_prose |= words.is_some_and(|w| w.contains(char::is_whitespace));
                            list.push(v);
                        }
                        None => {
                            self.bump();
                        }
                    }
                }
            }
        }
        Value::Array(list)
    }

    /// A word without quotes, up to a delimiter; consumes at least one character.
    fn bare(&mut self) -> String {
        let end = self.rest.find(BARE_ENDS).unwrap_or(self.rest.len());
        let (found, rest) = self.rest.split_at(end);
        self.rest = rest;
        if found.is_empty() {
            self.bump();
        }
        found.trim().to_owned()
    }

    /// A string in any kind of quotes; the end of the text ends it too, and then nobody knows what it would have been.
    fn string(&mut self, key: bool) -> Option<String> {
        let close = self.bump().and_then(closing)?;
        self.is_quoted = true;
        let mut out = String::new();
        while let Some(c) = self.bump() {
            if close.contains(&c) && self.closes(key) {
                return Some(out);
            }
            if c == '\\' {
                self.escape(&mut out);
            } else {
                out.push(c);
            }
        }
        self.doubtful |= !self.grows;
        Some(out)
    }

    /// Whether a quote just read ends its string: what follows must be what can follow a string.
    fn closes(&self, key: bool) -> bool {
        let next = self.rest.chars().take(LOOK_AHEAD).find(|c| !c.is_whitespace());
        match next {
            None | Some('}' | ']' | ',' | ':') => true,
            // A missing comma: the next line opens another string.
            Some(c) if closing(c).is_some() => {
                self.rest.trim_start_matches([' ', '\t', '\r']).starts_with('\n')
            }
            Some('/' | '#') => true,
            Some(_) => key,
        }
    }

    fn escape(&mut self, out: &mut String) {
        match self.bump() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('u') => out.push(self.unicode().unwrap_or(char::REPLACEMENT_CHARACTER)),
            Some(c) => out.push(c),
            None => {}
        }
    }

    fn unicode(&mut self) -> Option<char> {
        let high = self.hex4()?;
        if !(0xD800..0xDC00).contains(&high) {
            return char::from_u32(high);
        }
        self.rest = self.rest.strip_prefix("\\u")?;
        let low = self.hex4().filter(|l| (0xDC00..0xE000).contains(l))?;
        let (high, low) = (high.checked_sub(0xD800)?, low.checked_sub(0xDC00)?);
        char::from_u32(0x1_0000_u32.checked_add(high << 10)?.checked_add(low)?)
    }

    fn word(&mut self, text: &str) -> Value {
        match text {
            "true" | "True" | "TRUE" => return Value::Bool(true),
            "false" | "False" | "FALSE" => return Value::Bool(false),
            "" | "null" | "None" | "NULL" | "undefined" | "NaN" | "Infinity" | "-Infinity" => {
                return Value::Null;
            }
            _ => {}
        }
        // A comment behind the value is not part of it.
        let end = ["//", "/*", "#"].iter().filter_map(|mark| text.find(mark)).min();
        let plain = end.and_then(|at| text.get(..at)).unwrap_or(text).trim().trim_start_matches('+');
        let numeric = plain.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
        if !numeric || plain.parse::<f64>().is_err() {
            return Value::String(text.to_owned());
        }
        match exact::number(plain) {
            Some(n) => Value::Number(n),
            None => {
                self.doubtful = true;
                Value::Null
            }
        }
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.rest = self.rest.get(4..)?;
        u32::from_str_radix(digits, 16).ok()
    }
}

/// The quotes that may close what this one opens.
fn closing(open: char) -> Option<&'static [char]> {
    Some(match open {
        '"' => &['"'],
        '\'' => &['\''],
        '`' => &['`'],
        '“' | '”' => &['”', '“'],
        '‘' | '’' => &['’', '‘'],
        _ => return None,
    })
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(text: &str) -> Option<Value> {
        let found = find(text, false).filter(|f| !is_one_of_several(&f.value, f.rest));
        found.map(|f| f.value)
    }

    fn check(text: &str, want: Option<Value>) {
        assert_eq!(parse(text), want, "{text}");
    }

    #[test]
    fn almost_json_is_read() {
        check("{\"a\": 1}", Some(json!({"a": 1})));
        check("{a: 1, 'b': 'x', }", Some(json!({"a": 1, "b": "x"})));
        check("{“a”: “b”}", Some(json!({"a": "b"})));
        check("{\"a\": True, \"b\": None, \"c\": 1.5e3}", Some(json!({"a": true, "b": null, "c": 1500.0})));
        check("[1,\n 2]", Some(json!([1, 2])));
        check("[1,, 2,]", Some(json!([1, 2])));
        check("{\"a\": 1 // one\n, /* two */ \"b\": 2 # three\n}", Some(json!({"a": 1, "b": 2})));
        check("{\"a\": 18446744073709551615,}", Some(json!({"a": u64::MAX})));
        check("{\"a\": -.5, \"b\": 5., \"c\": +7,}", Some(json!({"a": -0.5, "b": 5.0, "c": 7})));
        for lost in ["18446744073709551616", "-9223372036854775809", "0.12345678901234567", "1e400", "1e-400"]
        {
            check(&format!("{{\"a\": {lost},}}"), None);
        }
        check("{\"a\": \"x\"\n \"b\": \"y\"}", Some(json!({"a": "x", "b": "y"})));
        check("{\"a\": \"He said \"hi\" to me\"}", Some(json!({"a": "He said \"hi\" to me"})));
        check("{\"a\": \"line\none\"}", Some(json!({"a": "line\none"})));
        check("{\"a\": \"\\u00e9\\ud83d\\ude00\\n\"}", Some(json!({"a": "é😀\n"})));
        check("{\"a\": [1, 2]", Some(json!({"a": [1, 2]})));
        check("{\"a\": [1, 2 ", Some(json!({"a": [1, 2]})));
        check("{\"a\": true", Some(json!({"a": true})));
        check("{\"a\": 1, \"b\":", Some(json!({"a": 1})));
        check("{\"a\": [{\"b\": 1], \"c\": 2}", Some(json!({"a": [{"b": 1}], "c": 2})));
        check("prose", None);
        check(&"[".repeat(5000), None);
    }

    #[test]
    fn what_may_mean_something_else_is_not_read() {
        // The text ends within a value.
        for cut in ["{\"a\": [1, 2", "{\"a\": 1, \"b\": \"unfin", "{\"a\": -", "{\"a\": tru"] {
            check(cut, None);
            assert!(find(cut, true).is_some(), "{cut}");
        }
        // Separators and signs that are no number's.
        for odd in ["{\"a\": 1,234}", "{\"a\": 1,234, \"b\": 2}", "{\"a\": 036}", "{\"a\": 1.234,56}"] {
            check(odd, None);
        }
        check("{\"a\": 36 / 2}", Some(json!({"a": "36 / 2"})));
        check("{1: \"a\", 2: \"b\"}", Some(json!({"1": "a", "2": "b"})));
        // Several values, and nobody knows which is meant.
        for several in
            ["{\"a\": 1}\n{\"a\": 2}", "{a: 1} or maybe {a: 2}", "[1,] [2]", "{a: 1} {a: 1} {a: 3}"]
        {
            check(several, None);
        }
        for one in ["{a: 1} [1]", "{a: 1} and so on {}", "{a: 1}\n{a: 1}", "{a: 1} {"] {
            check(one, Some(json!({"a": 1})));
        }
    }

    #[test]
    fn how_it_is_written_is_told() {
        let check = |text: &str, want: (bool, bool, bool)| {
            let found = find(text, false).unwrap();
            assert_eq!((found.is_quoted, found.has_words, found.is_prose), want, "{text}");
        };
        check("{a: 1, 'b': true}", (true, false, false));
        check("{city: London Town}", (false, true, false));
        check("[red, green]", (false, true, false));
        check("[\"red\", null, 1.5]", (true, false, false));
        check("[red wine]", (false, true, true));
        check("[Note: none]", (false, true, true));
        check("{customer}", (false, false, true));
        check("{ return 1 }", (false, false, true));
        check("{\"a\"}", (true, false, true));
        check("{\"a\" : , b: [1]}", (true, false, false));
    }

    #[test]
    fn the_input_that_never_ended_elsewhere_ends() {
        assert!(find("\n{'a,}/\"0'/", true).is_some());
        assert_eq!(parse("\n{'a,}/\"0'/"), None, "its text has no end");
    }

    proptest! {
        #[test]
        fn real_json_is_read_as_it_is(text in "[a-z\"\\\\{}:, é]{0,20}", n in any::<i64>()) {
            let v = json!({"k": text.replace('"', ""), "n": [n, {"x": null, "y": true}]});
            prop_assert_eq!(parse(&v.to_string()), Some(v));
        }

        #[test]
        fn anything_ends(text in "[\\[\\]{}\":,'a-z0-9`\\\\ \n/#*]{0,300}") {
            let _ = parse(&format!("{{{text}"));
            let _ = parse(&format!("[{text}"));
        }
    }
}
