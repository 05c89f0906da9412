//! Bodies out of the corpus, mutated at random, through the one reading of requests: it never panics, what it takes is
//! what was sent, and it reads the same request however that is spelt.
//!
//! The seed is printed and `BODY_FUZZ_SEED` replays it; `BODY_FUZZ_ROUNDS` sets how many bodies are tried. A body that
//! was read wrongly is kept in `corpus/bodies`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test: what goes wrong is to be seen, with the seed that shows it again"
)]

use bytes::Bytes;
use serde_json::Value;
use std::path::Path;
use types::ChatRequest;
use types::chat::{Error, Limits};

const SEED: u64 = 20_261_123;
const ROUNDS: u64 = 20_000;
/// Longest body that is tried.
const MAX_BYTES: usize = 4_096;
/// What mutation puts in beside pieces of other bodies.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "\\u0061",
    "\\ud83d",
    "\\ude00",
    "\u{feff}",
    "\u{0}",
    "\u{202e}",
    "é",
    "😀",
    "null",
    "true",
    "0",
    "-1",
    "1e309",
    "16",
    "17",
    "9223372036854775808",
    "\"model\":",
    "\"messages\":[",
    "\"role\":\"assistant\"",
    "\"role\":\"tool\"",
    "\"tool_call_id\":\"1\"",
    "\"content\":null",
    "\"stream\":true,",
    "\"routing\":{},",
    "\"Model\":\"x\",",
    "\"base_url\":\"x\",",
    "\"type\":\"text\"",
    "{\"role\":\"user\",\"content\":\"a\"},",
];

/// A small generator: the rounds need variety, not quality.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n.max(1)
    }
}

fn corpus() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/bodies");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10, "the corpus at {} is missing", folder.display());
    files.iter().map(|f| std::fs::read_to_string(f).unwrap().trim_end().to_owned()).collect()
}

fn cut(text: &str, random: &mut Random) -> usize {
    let at = random.below(text.len() + 1);
    (0..=at).rev().find(|i| text.is_char_boundary(*i)).unwrap()
}

fn mutate(text: &str, other: &str, random: &mut Random) -> String {
    let mut text = text.to_owned();
    for _ in 0..=random.below(3) {
        let (a, b) = (cut(&text, random), cut(&text, random));
        let (from, to) = (a.min(b), a.max(b));
        match random.below(6) {
            0 => text.insert_str(from, TOKENS[random.below(TOKENS.len())]),
            1 => {
                let few: usize = text[from..to].chars().take(6).map(char::len_utf8).sum();
                text.replace_range(from..from + few, "");
            }
            2 => {
                let piece: String = text[from..to].chars().take(60).collect();
                text.insert_str(to, &piece);
            }
            3 => {
                let (c, d) = (cut(other, random), cut(other, random));
                let piece: String = other[c.min(d)..c.max(d)].chars().take(120).collect();
                text.insert_str(from, &piece);
            }
            // A member of another body, whole, so that it is often still one.
            4 => {
                let members: Vec<&str> = other.split(",\"").collect();
                let member = members[random.below(members.len())].trim_matches(['{', '}']);
                if let Some(at) = text.rfind('}') {
                    text.insert_str(at, &format!(",\"{}", member.trim_start_matches('"')));
                }
            }
            _ => text.insert(from, char::from_u32(u32::try_from(random.below(0xd7ff)).unwrap()).unwrap()),
        }
        while text.len() > MAX_BYTES {
            text.pop();
        }
    }
    text
}

fn decode(text: &str) -> Result<ChatRequest, Error> {
    ChatRequest::decode(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())
}

/// All that was read of it, but for where in the body it stands and how it is spelt.
fn read(r: &ChatRequest) -> String {
    let tools: Vec<_> = r
        .tools
        .iter()
        .map(|t| (&t.name, &t.description, &t.parameters, t.strict, &t.other, t.known_as()))
        .collect();
    let keys: Vec<&str> = r.members().iter().map(|m| &*m.key).collect();
    format!(
        "{:?}",
        (
            (&r.model, &r.messages, r.stream, r.include_usage, tools, &r.tool_choice),
            (&r.response_format, &r.params, &r.user, &r.options, keys)
        )
    )
}

/// The same value with every letter of its keys written as an escape, and space wherever there may be some.
fn respelt(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let member = |(k, v): (&String, &Value)| {
                let units = k.encode_utf16().map(|u| format!("\\u{u:04x}"));
                format!(" \"{}\" :\n{}", units.collect::<String>(), respelt(v))
            };
            format!("{{{} }}", map.iter().map(member).collect::<Vec<_>>().join(" ,"))
        }
        Value::Array(list) => {
            format!("[\t{}\r]", list.iter().map(respelt).collect::<Vec<_>>().join(" ,\t"))
        }
        other => other.to_string(),
    }
}

/// Looks at what becomes of one body; whether it is taken.
fn try_one(text: &str, about: &str) -> bool {
    let request = decode(text);
    match &request {
        Ok(r) => {
            assert_eq!(r.body(), text.as_bytes(), "{about}");
            assert!(
                !r.messages.is_empty() && !r.model.is_empty() && (1..=16).contains(&r.params.n),
                "{about}"
            );
            assert!(r.params.temperature.is_none_or(|t| (0.0..=2.0).contains(&t)), "{about}");
            let names = r.messages.iter().filter_map(|m| m.name.as_ref()).chain([&r.model]);
            assert!(names.into_iter().all(|n| !n.chars().any(char::is_control)), "{about}");
            let mut keys: Vec<&str> = r.members().iter().map(|m| &*m.key).collect();
            assert!(r.members().is_sorted_by_key(|m| m.value.start), "{about}");
            keys.sort_unstable();
            assert!(keys.windows(2).all(|w| w[0] != w[1]), "{about}: a member stands twice");
            for m in r.members() {
                let raw = &text[m.value.clone()];
                assert!(serde_json::from_str::<&serde_json::value::RawValue>(raw).is_ok(), "{about}: {raw}");
            }
            assert_eq!(decode(text).map(|again| read(&again)), Ok(read(r)), "{about}");
        }
        Err(e) => {
            assert!(!e.message.is_empty() && !e.code.is_empty(), "{about}: refused without a word");
            assert!(e.pointer.is_empty() || e.pointer.starts_with('/'), "{about}: {e:?}");
        }
    }
    // What a reader of all values takes is the same request in every spelling.
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        let (plain, other) = (decode(&value.to_string()), decode(&respelt(&value)));
        let told =
            |r: &Result<ChatRequest, Error>| r.as_ref().map(read).map_err(|e| (e.code, e.pointer.clone()));
        assert_eq!(told(&plain), told(&other), "{about}");
        if let Ok(r) = &request {
            assert_eq!(plain.as_ref().map(read), Ok(read(r)), "{about}");
        }
    }
    request.is_ok()
}

#[test]
fn mutated_bodies_are_taken_as_they_were_sent_or_refused() {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |v| v.parse().unwrap());
    let (seed, rounds) = (number("BODY_FUZZ_SEED", SEED), number("BODY_FUZZ_ROUNDS", ROUNDS));
    println!("BODY_FUZZ_SEED={seed}");
    let (corpus, mut random) = (corpus(), Random(seed));
    let mut taken = 0;
    for round in 0..rounds {
        let n = usize::try_from(round).unwrap();
        let text = match corpus.get(n) {
            Some(text) => text.clone(),
            None => {
                let (a, b) = (random.below(corpus.len()), random.below(corpus.len()));
                mutate(&corpus[a], &corpus[b], &mut random)
            }
        };
        taken += u64::from(try_one(&text, &format!("seed {seed}, round {round}: {text:?}")));
    }
    assert!(taken > rounds / 50, "hardly anything is taken: {taken} of {rounds}");
}
