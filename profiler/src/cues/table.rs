//! The cue tables as written.

use super::{Cue, Signal};

/// What is built in.
const TABLES: [(&str, &str); 4] = [
    ("families.cues", include_str!("../../cues/families.cues")),
    ("axes.cues", include_str!("../../cues/axes.cues")),
    ("manner.cues", include_str!("../../cues/manner.cues")),
    ("world.cues", include_str!("../../cues/world.cues")),
];

/// Every cue of the shipped tables; lines that are no cues are left out (a test sees that there are none).
pub(super) fn shipped() -> Vec<Cue> {
    TABLES.iter().flat_map(|(_, text)| read(text)).filter_map(Result::ok).collect()
}

/// Cues of one table in the order written, and what of it could not be read.
fn read(text: &'static str) -> impl Iterator<Item = Result<Cue, &'static str>> {
    let mut group: Option<(Signal, f32)> = None;
    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).flat_map(move |line| {
        if let Some(head) = heading(line) {
            group = head;
            return head.is_none().then_some(Err(line)).into_iter().collect();
        }
        let words = line.split('|').map(str::trim).filter(|w| !w.is_empty());
        let cues = words.map(|word| group.map(|g| cue(g, word)).ok_or(word));
        cues.collect::<Vec<_>>()
    })
}

/// `[signal weight]`: outer `None` if the line is no heading, inner if it names no signal or weight.
fn heading(line: &str) -> Option<Option<(Signal, f32)>> {
    let (name, weight) = line.strip_prefix('[')?.strip_suffix(']')?.split_once(' ')?;
    let weight: f32 = weight.parse().ok()?;
    Some(Signal::parse(name).map(|s| (s, weight)).filter(|_| (0.1..=3.0).contains(&weight)))
}

fn cue((signal, weight): (Signal, f32), word: &'static str) -> Cue {
    let (line_start, rest) = word.strip_prefix('^').map_or((false, word), |r| (true, r));
    let (open_end, words) = rest.strip_suffix('*').map_or((false, rest), |r| (true, r));
    Cue { signal, weight, words, line_start, open_end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn tables_are_clean() {
        let mut seen = BTreeSet::new();
        for (name, text) in TABLES {
            for cue in read(text) {
                let cue = cue.unwrap_or_else(|line| panic!("{name}: {line:?} is neither heading nor cue"));
                assert_eq!(cue.words, cue.words.to_lowercase(), "cues are written in lower case");
                let key = (cue.signal as usize, cue.words, cue.line_start, cue.open_end);
                assert!(seen.insert(key), "{name}: {:?} stands twice for {:?}", cue.words, cue.signal);
            }
        }
        assert!(seen.len() > 3_000);
    }
}
