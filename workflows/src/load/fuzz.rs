//! Files out of the corpus, mutated at random, through the loader: it never panics, points into the file, and a
//! file that loads can be drawn, planned and laid out.
//!
//! The corpus is the shipped files, those of `diagnostics`, and `corpus/loader`, where what was found is kept.
//! `LOADER_FUZZ_SEED` replays a run, `LOADER_FUZZ_ROUNDS` sets how many texts are tried.

use crate::testing::load_all;
use crate::{DrawFormat, format};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::path::Path;
use types::doc::SourceFile;

const SEED: u64 = 20_261_121;
const ROUNDS: u64 = 2_000;
/// Longest text that is tried.
const MAX_BYTES: usize = 6_000;
/// What mutation puts in beside pieces of other files.
const TOKENS: &[&str] = &[
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "|\n",
    ">-\n",
    "\n",
    "\n  ",
    "\t",
    "#",
    "&a ",
    "*a",
    "<<: ",
    "!x ",
    "'",
    "\"",
    "${ ",
    "}",
    "nodes.",
    "type: ",
    "id: ",
    "true",
    "~",
    "9999999999999999999",
    "-1",
    "1e309",
    "0.1",
    "5s",
    "é",
    "😀",
    "\u{0}",
    "\u{2028}",
    "samples: 16",
    "needs: ",
    "outcome: any",
    "body:\n",
    "when: flag\n",
    "x-a: 1\n",
    "---\n",
    "? a\n",
];

fn corpus() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["library", "diagnostics", "corpus/loader"] {
        let entries = std::fs::read_dir(root.join(folder)).unwrap().map(|e| e.unwrap().path());
        files.extend(entries.filter(|p| p.is_file()));
    }
    files.sort();
    let named = |l: &str| if l.starts_with("name: ") { "name: w\n".to_owned() } else { format!("{l}\n") };
    let read = |p: &std::path::PathBuf| std::fs::read_to_string(p).unwrap().lines().map(named).collect();
    let texts: Vec<String> = files.iter().map(read).collect();
    assert!(texts.len() > 30, "the corpus is missing");
    texts
}

fn cut(text: &str, rng: &mut StdRng) -> usize {
    let at = rng.random_range(0..=text.len());
    (0..=at).rev().find(|i| text.is_char_boundary(*i)).unwrap()
}

fn mutate(text: &str, other: &str, rng: &mut StdRng) -> String {
    let mut text = text.to_owned();
    for _ in 0..rng.random_range(1..5) {
        let (a, b) = (cut(&text, rng), cut(&text, rng));
        let (from, to) = (a.min(b), a.max(b));
        match rng.random_range(0..6) {
            0 => text.insert_str(from, TOKENS[rng.random_range(0..TOKENS.len())]),
            1 => {
                let few: usize = text[from..to].chars().take(8).map(char::len_utf8).sum();
                text.replace_range(from..from + few, "");
            }
            2 => {
                let piece: String = text[from..to].chars().take(200).collect();
                text.insert_str(to, &piece);
            }
            3 => {
                let (c, d) = (cut(other, rng), cut(other, rng));
                let piece: String = other[c.min(d)..c.max(d)].chars().take(200).collect();
                text.insert_str(from, &piece);
            }
            4 => {
                // Whole lines change places.
                let mut lines: Vec<&str> = text.lines().collect();
                if lines.len() > 1 {
                    let (x, y) = (rng.random_range(0..lines.len()), rng.random_range(0..lines.len()));
                    lines.swap(x, y);
                }
                text = lines.join("\n");
            }
            _ => text.insert(from, char::from_u32(rng.random_range(0..0xd7ff)).unwrap()),
        }
        while text.len() > MAX_BYTES {
            text.pop();
        }
    }
    text
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().unwrap())
}

fn try_one(text: &str, about: &str) -> bool {
    let source = SourceFile::new("w.yaml", text);
    let (library, problems) = load_all(std::slice::from_ref(&source));
    for d in &problems {
        assert!(d.line >= 1 && d.column >= 1 && d.range.start <= d.range.end, "{about}: {d}\n{text}");
        assert!(d.render(Some(text), false).contains(&d.code), "{about}: {d}");
    }
    if let Some(w) = library.get("w") {
        for f in [DrawFormat::Mermaid, DrawFormat::Dot, DrawFormat::Svg] {
            assert!(!w.draw(f, &crate::Marks::new()).is_empty());
        }
        assert!(w.max_calls() <= w.limits.calls, "{about}: {text}");
        assert_eq!(w.callers().iter().map(|c| c.calls).sum::<u32>(), w.max_calls(), "{about}: {text}");
    }
    if let Ok(made) = format(&source) {
        let (again, _) = load_all(&[SourceFile::new("w.yaml", made.as_str())]);
        let hash = |l: &crate::Library| l.get("w").map(|w| w.plan_hash.clone());
        assert_eq!(hash(&library), hash(&again), "{about}: {text}\n{made}");
    }
    library.get("w").is_some()
}

#[test]
fn mutated_files_never_panic_and_problems_point_into_them() {
    let (seed, rounds) = (number("LOADER_FUZZ_SEED", SEED), number("LOADER_FUZZ_ROUNDS", ROUNDS));
    let mut rng = StdRng::seed_from_u64(seed);
    let corpus = corpus();
    let mut loaded = 0_u64;
    for text in &corpus {
        try_one(text, "corpus");
    }
    for round in 0..rounds {
        let pick = |rng: &mut StdRng| corpus[rng.random_range(0..corpus.len())].as_str();
        let (a, b) = (pick(&mut rng), pick(&mut rng));
        let text = mutate(a, b, &mut rng);
        loaded += u64::from(try_one(&text, &format!("LOADER_FUZZ_SEED={seed}, round {round}")));
    }
    assert!(loaded > rounds / 200, "hardly anything loads: {loaded} of {rounds}");
}
