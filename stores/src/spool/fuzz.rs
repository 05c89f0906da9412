//! Spools that were torn, flipped, cut and lost parts of, opened again: what is read of them is what was written, from
//! the beginning and without a hole, or the start says what is wrong and leaves the files as they are.
//!
//! The cases of `corpus/spool.txt` come first, then random ones. `SPOOL_FUZZ_SEED` replays a run, `SPOOL_FUZZ_ROUNDS` sets
//! how many are tried; a failure prints its case as a line of the corpus.

use super::tests::{SMALL, append, open, read_all};
use super::*;
use std::collections::BTreeMap;
use std::fmt;

const SEED: u64 = 20_261_123;
const ROUNDS: u64 = 150;
/// What is written; files hold two of these or one.
const TEXTS: [&str; 10] = ["a", "bb", "c", "dddddd", "e", "ff", "g", "hh", "iiiiiiiiiiii", "j"];

/// A small generator: the rounds need variety, not quality.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }

    fn pick(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).unwrap()
    }
}

/// Damage to one file.
#[derive(Clone, Debug)]
enum Damage {
    /// So many bytes are gone from its end.
    Cut(usize, usize),
    /// A byte is another one.
    Flip(usize, usize, u8),
    /// Something stands behind its end.
    Add(usize, Vec<u8>),
    Remove(usize),
    /// The last one has the name of a file that was begun before the one before it was on the disk.
    Unname,
    Empty(usize),
}

/// What becomes of a spool between two starts.
#[derive(Clone, Debug)]
struct Case {
    /// So many records are in the database.
    moved: usize,
    damage: Vec<Damage>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "moved {}", self.moved)?;
        for damage in &self.damage {
            match damage {
                Damage::Cut(file, n) => write!(f, " cut {file} {n}")?,
                Damage::Flip(file, at, with) => write!(f, " flip {file} {at} {with}")?,
                Damage::Add(file, bytes) => {
                    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                    write!(f, " add {file} {hex}")?;
                }
                Damage::Remove(file) => write!(f, " remove {file}")?,
                Damage::Unname => write!(f, " unname")?,
                Damage::Empty(file) => write!(f, " empty {file}")?,
            }
        }
        Ok(())
    }
}

impl Case {
    fn parse(line: &str) -> Case {
        let mut words = line.split_whitespace();
        let mut case = Case { moved: 0, damage: Vec::new() };
        while let Some(word) = words.next() {
            let mut number = || words.next().unwrap().parse::<usize>().unwrap();
            match word {
                "moved" => case.moved = number(),
                "cut" => case.damage.push(Damage::Cut(number(), number())),
                "flip" => {
                    let (file, at, with) = (number(), number(), u8::try_from(number()).unwrap());
                    case.damage.push(Damage::Flip(file, at, with));
                }
                "add" => {
                    let file = number();
                    let hex = words.next().unwrap().as_bytes();
                    let byte = |b: &[u8]| u8::from_str_radix(std::str::from_utf8(b).unwrap(), 16).unwrap();
                    case.damage.push(Damage::Add(file, hex.chunks(2).map(byte).collect()));
                }
                "remove" => case.damage.push(Damage::Remove(number())),
                "unname" => case.damage.push(Damage::Unname),
                "empty" => case.damage.push(Damage::Empty(number())),
                other => panic!("{other} is no damage: {line}"),
            }
        }
        case
    }

    fn random(random: &mut Random) -> Case {
        let damage = |random: &mut Random| {
            // Mostly the last of them: it is what a kill tears.
            let file = if random.below(3) > 0 { usize::MAX } else { random.pick(8) };
            match random.below(10) {
                0..3 => Damage::Cut(file, random.pick(40)),
                3..6 => Damage::Flip(file, random.pick(40), u8::try_from(1 + random.below(255)).unwrap()),
                6..8 => {
                    let n = 1 + random.below(24);
                    Damage::Add(file, (0..n).map(|_| u8::try_from(random.below(256)).unwrap()).collect())
                }
                8 => Damage::Unname,
                _ if random.below(2) == 0 => Damage::Remove(file),
                _ => Damage::Empty(file),
            }
        };
        let moved = random.pick(TEXTS.len() + 1);
        Case { moved, damage: (0..random.below(4)).map(|_| damage(random)).collect() }
    }
}

/// By name: the bytes of all files of a folder.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    all.map(|p| (p.clone(), std::fs::read(p).unwrap())).collect()
}

/// Does the damage, and gives the position of the first byte of the log that is not as it was written. A file of a number
/// that there is not is the last one.
fn hurt(dir: &Path, case: &Case) -> Seq {
    let mut first = Seq::MAX;
    for damage in &case.damage {
        let files: Vec<PathBuf> = contents(dir).into_keys().collect();
        let Some(last) = files.len().checked_sub(1) else { break };
        let file = match damage {
            Damage::Cut(file, _)
            | Damage::Flip(file, ..)
            | Damage::Add(file, _)
            | Damage::Remove(file)
            | Damage::Empty(file) => *file,
            Damage::Unname => last,
        };
        let path = &files[file.min(last)];
        let name = path.file_stem().unwrap().to_str().unwrap();
        let base: Seq = name.strip_prefix("spool-").unwrap().parse().unwrap();
        let mut bytes = std::fs::read(path).unwrap();
        let was = bytes.len();
        match damage {
            Damage::Cut(_, n) => bytes.truncate(was.saturating_sub(*n)),
            Damage::Flip(_, at, with) if was > 0 => bytes[at % was] ^= with,
            Damage::Flip(..) => {}
            Damage::Add(_, more) => bytes.extend_from_slice(more),
            Damage::Remove(_) => {
                std::fs::remove_file(path).unwrap();
                first = first.min(base);
                continue;
            }
            Damage::Unname => {
                std::fs::rename(path, path.with_extension("next")).unwrap();
                continue;
            }
            Damage::Empty(_) => bytes.clear(),
        }
        let now = std::fs::read(path).unwrap();
        let same = bytes.iter().zip(&now).take_while(|(a, b)| a == b).count();
        if same < bytes.len().max(now.len()) {
            first = first.min(base + same as Seq);
        }
        std::fs::write(path, bytes).unwrap();
    }
    first
}

fn try_one(case: &Case) {
    let dir = tempfile::tempdir().unwrap();
    let written = {
        let (spool, _) = open(dir.path(), SMALL, 0).unwrap();
        append(&spool, &TEXTS);
        read_all(&spool, 0)
    };
    let end = written.last().map(|(at, text)| at + 10 + text.len() as Seq).unwrap();
    let moved = written.get(case.moved).map_or(end, |(at, _)| *at);
    let harm = hurt(dir.path(), case);
    let before = contents(dir.path());
    let (spool, recovery) = match open(dir.path(), SMALL, moved) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(matches!(error, Error::Corrupt(_)), "{case}: {error:?}");
            // A file that was begun after an end that is torn goes whatever else is wrong; all others are as they were.
            let after = contents(dir.path());
            let lasting = before.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "log"));
            for (path, bytes) in lasting {
                assert_eq!(after.get(path), Some(bytes), "{case}: {} {error}", path.display());
            }
            return;
        }
    };
    let found = read_all(&spool, moved);
    let wanted: Vec<_> = written.iter().filter(|(at, _)| *at >= moved).cloned().collect();
    assert!(wanted.starts_with(&found), "{case}: {found:?}");
    let whole = wanted.iter().filter(|(at, text)| at + 10 + text.len() as Seq <= harm).count();
    let named = !case.damage.iter().any(|d| matches!(d, Damage::Unname));
    assert!(!named || found.len() >= whole, "{case}: {} of {whole} whole records: {recovery:?}", found.len());
    assert_eq!(recovery.recovered, found.len() as u64, "{case}");
    // The log goes on where it ends now, and is the same at the next start.
    append(&spool, &["more", "and more"]);
    let on = read_all(&spool, moved);
    assert_eq!(on.len(), found.len() + 2, "{case}");
    drop(spool);
    let (spool, recovery) = open(dir.path(), SMALL, moved).unwrap_or_else(|e| panic!("{case}, again: {e}"));
    assert_eq!((read_all(&spool, moved), recovery.torn_bytes), (on, 0), "{case}, again");
}

#[test]
fn a_damaged_spool_gives_what_was_written_or_says_what_is_wrong() {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |v| v.parse().unwrap());
    let (seed, rounds) = (number("SPOOL_FUZZ_SEED", SEED), number("SPOOL_FUZZ_ROUNDS", ROUNDS));
    let kept = include_str!("../../corpus/spool.txt");
    for line in kept.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let case = Case::parse(line);
        assert_eq!(case.to_string(), line, "the corpus is written otherwise than it is read");
        try_one(&case);
    }
    let mut random = Random(seed);
    for _ in 0..rounds {
        try_one(&Case::random(&mut random));
    }
}
