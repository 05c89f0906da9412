//! Expressions out of the corpus, mutated at random, through the seam: compiling and evaluating never panics, never
//! runs away, and what is wrong is said at a place of the text.
//!
//! `EXPRESSION_FUZZ_SEED` replays a run, `EXPRESSION_FUZZ_ROUNDS` sets how many texts are tried.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test: what goes wrong is to be seen, with the seed that shows it again"
)]

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use std::sync::Arc;
use types::ChatRequest;
use types::expr::Type;

const SEED: u64 = 20_261_121;
const ROUNDS: u64 = 4_000;
const MAX_BYTES: usize = 600;
const CORPUS: &str = include_str!("corpus/expressions.txt");
const TOKENS: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "#{",
    "|x| ",
    ".",
    "?.",
    "??",
    "&&",
    "||",
    "!",
    "==",
    "!=",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "**",
    "<<",
    "\"",
    "'",
    "`",
    "${",
    "}",
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "1e308",
    "true",
    "()",
    "\n",
    " ",
    ";",
    "let x = 1;",
    "while true {}",
    "loop {}",
    "eval(\"1\")",
    "import \"x\" as y;",
    "fn f() { f() }",
    "request.",
    "workload.",
    ".len()",
    ".map(|x| x)",
    ".filter(|x| true)",
    "in",
    "!in",
    "0..9999999",
    "é",
    "😀",
    "\u{0}",
    "//",
    "/*",
];

fn cut(text: &str, rng: &mut StdRng) -> usize {
    let at = rng.random_range(0..=text.len());
    (0..=at).rev().find(|i| text.is_char_boundary(*i)).unwrap()
}

fn mutate(text: &str, other: &str, rng: &mut StdRng) -> String {
    let mut text = text.to_owned();
    for _ in 0..rng.random_range(1..4) {
        let (a, b) = (cut(&text, rng), cut(&text, rng));
        let (from, to) = (a.min(b), a.max(b));
        match rng.random_range(0..4) {
            0 => text.insert_str(from, TOKENS[rng.random_range(0..TOKENS.len())]),
            1 => text.replace_range(from..to.min(text.len()), ""),
            2 => {
                let (c, d) = (cut(other, rng), cut(other, rng));
                text.insert_str(from, &other[c.min(d)..c.max(d)]);
            }
            _ => {
                let piece = text[from..to].to_owned();
                text.insert_str(to, &piece);
            }
        }
        while text.len() > MAX_BYTES {
            text.pop();
        }
    }
    text
}

#[test]
fn mutated_expressions_are_compiled_and_evaluated_or_refused() {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |v| v.parse().unwrap());
    let (seed, rounds) = (number("EXPRESSION_FUZZ_SEED", SEED), number("EXPRESSION_FUZZ_ROUNDS", ROUNDS));
    let mut rng = StdRng::seed_from_u64(seed);
    let (language, variables) = (policies::language(), policies::request_variables());
    let body = json!({"model": "auto", "messages": [{"role": "user", "content": "Write a function."}]});
    let request = Arc::new(ChatRequest::from_value(&body).unwrap());
    let profile = profiler::profile(&request);
    let around = policies::Around::default();
    let inputs = policies::Inputs { request: &request, profile: &profile, around: &around, unix_ms: 0 };
    let scope = policies::scope(&inputs);
    let corpus: Vec<&str> = CORPUS.lines().filter(|l| !l.is_empty()).collect();
    assert!(corpus.len() > 20, "the corpus is missing");
    let (mut good, mut values) = (0_u64, 0_u64);
    for round in 0..rounds {
        let n = usize::try_from(round).unwrap();
        let text = match corpus.get(n) {
            Some(text) => (*text).to_owned(),
            None => {
                let (a, b) = (rng.random_range(0..corpus.len()), rng.random_range(0..corpus.len()));
                mutate(corpus[a], corpus[b], &mut rng)
            }
        };
        let result = [None, Some(&Type::Bool)][n % 2];
        match language.compile(&text, &variables, result) {
            Ok((compiled, _)) => {
                good += 1;
                // Limits end what would go on; a value that is no boolean is an error, not `true`.
                values += u64::from(compiled.eval(&scope).is_ok());
                let _ = compiled.eval_bool(&scope);
            }
            Err(problems) => {
                assert!(!problems.is_empty(), "seed {seed}, round {round}: refused without a word: {text:?}");
                let lines = text.lines().count().max(1) + 1;
                let there = problems.iter().all(|p| p.line <= lines && !p.message.is_empty());
                assert!(there, "seed {seed}, round {round}: {text:?}: {problems:?}");
            }
        }
    }
    assert!(good > rounds / 50 && values > 0, "hardly anything compiles: {good} of {rounds}");
}
