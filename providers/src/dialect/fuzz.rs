//! Streams out of the fixtures and the corpus, mutated at random, through framing and decoders: they never panic, say the
//! same however the bytes are cut, and end cleanly only where an end was said.
//!
//! `STREAM_FUZZ_SEED` replays a run, `STREAM_FUZZ_ROUNDS` sets how many streams are tried. A stream that was read wrongly
//! is kept in `corpus/streams` under the name of its dialect.

use super::tests::{DIALECTS, call, decode_stream, streams};
use super::{Context, Wire};
use bytes::Bytes;
use std::path::Path;
use types::completion::Accumulator;

const SEED: u64 = 20_261_123;
const ROUNDS: u64 = 3_000;
/// Longest stream that is tried.
const MAX_BYTES: usize = 6_000;
/// What mutation puts in beside pieces of other streams.
const TOKENS: &[&[u8]] = &[
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"data: ",
    b"data:",
    b"data: [DONE]\n\n",
    b"event: error\n",
    b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    b": comment\n",
    b"retry: 1\n",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\0",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"null",
    b"-1",
    b"1e999",
    b"4294967296",
    b"\\ud83d",
    b"\\ude00",
    b"\"index\":4294967295,",
    b"\"finish_reason\":\"stop\"",
    b"\"finish_reason\":null,",
    b"\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1},",
    b"{\"error\":{\"message\":\"x\"}}",
    b"\"arguments\":\"{\",",
    b"\"content\":\"a\",",
];

/// A small generator: the rounds need variety, not quality.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n.max(1)
    }
}

fn corpus() -> Vec<(Wire, Context, Vec<u8>)> {
    let mut all = streams();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/streams");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let body = Bytes::from_static(
        br#"{"model":"m","messages":[{"role":"user","content":"a"}],"stream":true,
            "tools":[{"type":"function","function":{"name":"f"}}]}"#,
    );
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let (_, dialect) = DIALECTS.into_iter().find(|(d, _)| name.starts_with(d)).unwrap();
        let context = Context::of(&call(&body, dialect));
        all.push((Wire::of(dialect).unwrap(), context, std::fs::read(&file).unwrap()));
    }
    assert!(all.len() > 20, "the corpus is missing");
    all
}

fn mutate(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let (a, b) = (random.below(bytes.len() + 1), random.below(bytes.len() + 1));
        let (from, to) = (a.min(b), a.max(b));
        let piece = match random.below(6) {
            0 => TOKENS[random.below(TOKENS.len())].to_vec(),
            1 => {
                bytes.drain(from..to.min(from + 8));
                continue;
            }
            2 => bytes[from..to.min(from + 200)].to_vec(),
            3 => {
                let (c, d) = (random.below(other.len() + 1), random.below(other.len() + 1));
                other[c.min(d)..c.max(d).min(c.min(d) + 200)].to_vec()
            }
            // Whole events of another stream.
            4 => {
                let text = String::from_utf8_lossy(other);
                let events: Vec<&str> = text.split_inclusive("\n\n").collect();
                events[random.below(events.len())].as_bytes().to_vec()
            }
            _ => vec![u8::try_from(random.below(256)).unwrap()],
        };
        bytes.splice(from..from, piece);
        bytes.truncate(MAX_BYTES);
    }
    bytes
}

/// Looks at what becomes of one stream; whether it ends cleanly.
fn try_one(wire: Wire, context: &Context, bytes: &[u8], random: &mut Random, about: &str) -> bool {
    let (chunks, end) = decode_stream(wire, context, &[bytes]);
    let mut cuts: Vec<usize> =
        (0..6).map(|_| random.below(bytes.len() + 1)).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
    assert_eq!(
        decode_stream(wire, context, &pieces),
        (chunks.clone(), end.clone()),
        "{about}: cut at {cuts:?}"
    );
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode_stream(wire, context, &single), (chunks.clone(), end.clone()), "{about}: byte by byte");
    let text = String::from_utf8_lossy(bytes);
    let finished = chunks.iter().flat_map(|c| &c.choices).any(|d| d.finish_reason.is_some());
    let said = text.contains("[DONE]") || text.contains("message_stop");
    assert!(end.is_err() || finished || said, "{about}: a clean end that nobody said");
    // What is put together of it is no more than what came.
    let mut whole = Accumulator::default();
    chunks.iter().for_each(|c| whole.push(c));
    let whole = whole.finish();
    assert!(whole.choices.len() <= 256, "{about}: {} choices", whole.choices.len());
    let calls = whole.choices.iter().map(|c| c.tool_calls.len()).max().unwrap_or(0);
    assert!(calls <= 256, "{about}: {calls} calls of tools");
    assert!(whole.bytes() <= 4 * bytes.len() + 4_096, "{about}: {} bytes of {}", whole.bytes(), bytes.len());
    end.is_ok()
}

#[test]
fn mutated_streams_never_panic_and_end_cleanly_only_where_an_end_was_said() {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |v| v.parse().unwrap());
    let (seed, rounds) = (number("STREAM_FUZZ_SEED", SEED), number("STREAM_FUZZ_ROUNDS", ROUNDS));
    let (corpus, mut random) = (corpus(), Random(seed));
    let mut clean = 0;
    for round in 0..rounds {
        let n = usize::try_from(round).unwrap();
        let (at, bytes) = match corpus.get(n) {
            Some((_, _, bytes)) => (n, bytes.clone()),
            None => {
                let (a, b) = (random.below(corpus.len()), random.below(corpus.len()));
                (a, mutate(&corpus[a].2, &corpus[b].2, &mut random))
            }
        };
        let (wire, context, _) = &corpus[at];
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let about = format!("seed {seed}, round {round}, {wire:?}: {text:?}");
        clean += u64::from(try_one(*wire, context, &bytes, &mut random, &about));
    }
    assert!(clean > rounds / 50, "hardly any stream ends cleanly: {clean} of {rounds}");
}
