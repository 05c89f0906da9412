//! Texts out of the corpus, mutated at random, through the reading of growing JSON: it never panics, never
//! refuses what the parser and the schema accept, and says the same however the text is cut.
//!
//! The seed is printed and `PREFIX_FUZZ_SEED` replays it; `PREFIX_FUZZ_ROUNDS` sets how many texts are tried.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test: what goes wrong is to be seen, with the seed that shows it again"
)]

use serde_json::{Value, json};
use std::path::Path;
use types::{ChatRequest, Completion, Verdict};
use validators::{Check, Input, Step, build};

const SEED: u64 = 20_261_121;
const ROUNDS: u64 = 20_000;
/// Longest text that is tried.
const MAX_BYTES: usize = 4096;
/// What mutation puts in beside single bytes.
const TOKENS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "\\u",
    "\\ud83d",
    "\\ude00",
    "```",
    "```json\n",
    "\n",
    " ",
    "true",
    "null",
    "-",
    "0",
    "1e",
    ".5",
    "e+",
    "é",
    "😀",
    "\u{0}",
    "\u{a0}",
    "\"a\":",
    "\"t\":\"node\"",
    "[[[[[[[[",
    "]]]]]]]]",
    "/*",
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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/prefix_json");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10, "the corpus at {} is missing", folder.display());
    files.iter().map(|f| std::fs::read_to_string(f).unwrap()).collect()
}

fn cut(text: &str, random: &mut Random) -> usize {
    let at = random.below(text.len() + 1);
    (0..=at).rev().find(|i| text.is_char_boundary(*i)).unwrap()
}

fn mutate(text: &str, other: &str, random: &mut Random) -> String {
    let mut text = text.to_owned();
    for _ in 0..=random.below(4) {
        let (a, b) = (cut(&text, random), cut(&text, random));
        let (from, to) = (a.min(b), a.max(b));
        match random.below(6) {
            0 => text.truncate(from),
            1 => text.insert_str(from, TOKENS[random.below(TOKENS.len())]),
            2 => {
                let few: usize = text[from..to].chars().take(8).map(char::len_utf8).sum();
                text.replace_range(from..from + few, "");
            }
            3 => {
                let piece = text[from..to].to_owned();
                text.insert_str(to, &piece);
            }
            4 => {
                let (c, d) = (cut(other, random), cut(other, random));
                text.insert_str(from, &other[c.min(d)..c.max(d)]);
            }
            _ => text.insert(from, char::from_u32(u32::try_from(random.below(0xd7ff)).unwrap()).unwrap()),
        }
        while text.len() > MAX_BYTES {
            text.pop();
        }
    }
    text
}

fn checks() -> Vec<std::sync::Arc<dyn Check>> {
    let node = json!({"type": "object", "required": ["t"], "additionalProperties": false, "properties": {
        "t": {"enum": ["node", "leaf"]}, "v": {"type": ["integer", "string"], "maxLength": 3, "maximum": 9},
        "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}});
    let wide = json!({"oneOf": [
        {"type": "object", "properties": {"a": {"items": {"type": "number"}, "maxItems": 3}}},
        {"type": "array", "items": {"anyOf": [{"const": 1}, {"type": "string", "minLength": 1}, {"$ref": "#"}]}},
        {"type": ["string", "null"]}]});
    vec![
        build("json", &Value::Null, None).unwrap(),
        build("json", &json!({"allow_fence": false}), None).unwrap(),
        build("json_schema", &json!({"schema": node}), None).unwrap(),
        build("json_schema", &json!({"schema": wide, "drafts": "2019-09"}), None).unwrap(),
    ]
}

/// Whether the text is refused when it comes in pieces of random size up to `most`.
fn refused(check: &dyn Check, request: &ChatRequest, text: &str, most: usize, random: &mut Random) -> bool {
    let mut state = check.open(request).unwrap();
    let mut rest = text;
    while !rest.is_empty() {
        let size = 1 + random.below(most);
        let end = (size.min(rest.len())..=rest.len()).find(|i| rest.is_char_boundary(*i)).unwrap();
        match state.push(&rest[..end]) {
            Step::Continue { safe_up_to: 0 } => {}
            Step::Reject(finding) => {
                assert!(finding.message.chars().count() <= validators::MAX_EXCERPT);
                return true;
            }
            other => panic!("{other:?}"),
        }
        rest = &rest[end..];
    }
    state.finish().is_some()
}

#[test]
fn mutated_texts_are_read_like_whole_ones() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |v| v.parse().unwrap());
    let (seed, rounds) = (number("PREFIX_FUZZ_SEED", SEED), number("PREFIX_FUZZ_ROUNDS", ROUNDS));
    println!("PREFIX_FUZZ_SEED={seed} PREFIX_FUZZ_ROUNDS={rounds}");
    let mut random = Random(seed);
    let (corpus, checks) = (corpus(), checks());
    let body = json!({"model": "auto", "messages": [{"role": "user", "content": "x"}]});
    let request = ChatRequest::from_value(&body).unwrap();
    let (mut early, mut valid) = (0_u64, 0_u64);
    for round in 0..rounds {
        let text = match usize::try_from(round).unwrap() {
            n if n < corpus.len() => corpus[n].clone(),
            _ => {
                let (a, b) = (random.below(corpus.len()), random.below(corpus.len()));
                mutate(&corpus[a], &corpus[b], &mut random)
            }
        };
        let check = checks[random.below(checks.len())].as_ref();
        let by_pieces = refused(check, &request, &text, 16, &mut random);
        let at_once = refused(check, &request, &text, MAX_BYTES * 2, &mut random);
        assert_eq!(by_pieces, at_once, "seed {seed}, round {round}: {text:?}");
        let mut completion = Completion::default();
        completion.choices.push(types::completion::Choice { text: text.clone(), ..Default::default() });
        let verdict = check.check(&Input::new(&completion, &request)).verdict;
        assert!(
            !by_pieces || verdict != Verdict::Passed || repeats(&text),
            "seed {seed}, round {round}: {text:?}"
        );
        early += u64::from(by_pieces);
        valid += u64::from(verdict == Verdict::Passed);
    }
    println!("{rounds} texts: {early} refused early, {valid} valid");
    assert!(early > rounds / 10 && valid > rounds / 100, "the texts are all of one kind");
}

/// Whether an object gives a name twice: the parser keeps the last one, a reader on the way has seen both.
fn repeats(text: &str) -> bool {
    let text = text.trim().trim_start_matches("```json").trim_matches('`').trim();
    serde_json::from_str::<Value>(text).is_ok_and(|v| {
        let names = |t: &str| t.matches("\":").count();
        let compact: String = text.split_whitespace().collect();
        names(&compact) > names(&v.to_string())
    })
}
