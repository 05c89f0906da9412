//! Sources that share text become one group, and groups are dealt into parts: never the same text on both sides.

use super::{Corpus, Example, Settings};
use crate::scan::{Kind, Scanner};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Words of a run: that many in a row are hardly the same by chance.
const RUN: usize = 12;
/// Bytes of a text that are looked at.
const LONGEST: usize = 3_000;
/// Share of the smaller source's requests, and number of them, that make two sources one group.
const SHARED: f64 = 0.05;
const SHARED_LEAST: usize = 2;

/// Hashes of every run of twelve words of a text.
pub(super) fn runs(text: &str) -> Vec<u64> {
    let mut scanner = Scanner::default();
    scanner.read(text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(text));
    let words: Vec<u32> = scanner.tokens.iter().filter(|t| t.kind != Kind::Sign).map(|t| t.hash).collect();
    let hash =
        |run: &[u32]| run.iter().fold(0_u64, |h, w| (h ^ u64::from(*w)).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    words.windows(RUN).map(hash).collect()
}

/// Numbers the groups: sources are joined where enough of their requests share a run of words.
pub(super) fn group(examples: &mut [Example]) {
    let joined = {
        let sources: BTreeSet<&str> = examples.iter().map(|e| e.source.as_str()).collect();
        let number: BTreeMap<&str, usize> = sources.iter().enumerate().map(|(i, s)| (*s, i)).collect();
        let mut sizes = vec![0_usize; number.len()];
        let mut holders: HashMap<u64, BTreeSet<usize>> = HashMap::new();
        for (source, runs) in Corpus::runs(examples) {
            let Some(s) = number.get(source) else { continue };
            if let Some(size) = sizes.get_mut(*s) {
                *size = size.saturating_add(1);
            }
            for run in runs {
                holders.entry(*run).or_default().insert(*s);
            }
        }
        holders.retain(|_, s| s.len() > 1);
        let mut shared: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (source, runs) in Corpus::runs(examples) {
            let Some(s) = number.get(source) else { continue };
            let others: BTreeSet<usize> =
                runs.iter().filter_map(|r| holders.get(r)).flatten().copied().collect();
            for other in others.into_iter().filter(|o| o != s) {
                let n = shared.entry((*s, other)).or_default();
                *n = n.saturating_add(1);
            }
        }
        let mut root: Vec<usize> = (0..number.len()).collect();
        for ((a, b), n) in shared {
            let size = sizes.get(a).copied().unwrap_or(0);
            if n >= SHARED_LEAST && n as f64 >= SHARED * size as f64 {
                let (a, b) = (find(&root, a), find(&root, b));
                if let Some(r) = root.get_mut(a.max(b)) {
                    *r = a.min(b);
                }
            }
        }
        let of = |source: &str| number.get(source).map_or(0, |i| find(&root, *i));
        examples.iter().map(|e| of(&e.source)).collect::<Vec<_>>()
    };
    for (example, group) in examples.iter_mut().zip(joined) {
        example.group = group;
    }
}

fn find(root: &[usize], mut i: usize) -> usize {
    while let Some(up) = root.get(i).filter(|up| **up != i) {
        i = *up;
    }
    i
}

/// Deals the groups into parts of about the same number of requests: the largest first, each to the smallest part.
pub(super) fn deal(corpus: &Corpus, settings: &Settings) -> Vec<BTreeSet<usize>> {
    let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
    for e in &corpus.examples {
        let n = sizes.entry(e.group).or_default();
        *n = n.saturating_add(1);
    }
    let mut groups: Vec<(usize, usize)> = sizes.into_iter().map(|(g, n)| (n, g)).collect();
    groups.sort_unstable_by(|a, b| b.cmp(a));
    let count = settings.folds.max(2).min(groups.len());
    let mut parts: Vec<(usize, BTreeSet<usize>)> = vec![(0, BTreeSet::new()); count];
    for (n, group) in groups {
        if let Some((size, part)) = parts.iter_mut().min_by_key(|(size, _)| *size) {
            *size = size.saturating_add(n);
            part.insert(group);
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}

/// Runs `work` for 0..n on as many threads as there are cores; the results in order, whatever ended first.
pub(crate) fn in_parallel<T: Send>(
    n: usize,
    progress: &(dyn Fn(usize) + Sync),
    work: &(dyn Fn(usize) -> T + Sync),
) -> Vec<T> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results: Mutex<BTreeMap<usize, T>> = Mutex::new(BTreeMap::new());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores.min(n) {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= n {
                        break;
                    }
                    let result = work(i);
                    if let Ok(mut results) = results.lock() {
                        results.insert(i, result);
                    }
                    progress(done.fetch_add(1, Ordering::Relaxed).saturating_add(1));
                }
            });
        }
    });
    results.into_inner().map(|r| r.into_values().collect()).unwrap_or_default()
}
