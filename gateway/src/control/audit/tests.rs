//! What breaks a trail, and what does not.

use super::folder::{files, name};
use super::writer::SEAL_LINES;
use super::*;
use crate::signing;
use serde_json::json;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

fn event(i: u64) -> Event {
    let mut e =
        Event { actor_kind: "key", action: "key.create", target: format!("k{i}"), ..Event::default() };
    e.detail.insert("n".to_owned(), i.into());
    e.detail.insert("text".to_owned(), "ä\u{7}\n\"".into());
    e
}

async fn written(dir: &Path, lines: u64) {
    for boot in 0..2 {
        let audit = Audit::open(dir, format!("boot-{boot}"), None).unwrap();
        for i in 0..lines / 2 {
            if i % 3 == 0 {
                audit.record(event(i)).await.unwrap();
            } else {
                audit.note(event(i));
            }
        }
    }
}

#[tokio::test]
async fn a_trail_holds_over_restarts_and_one_flipped_byte_is_found() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 20).await;
    let folder = dir.path().join(FOLDER);
    let good = verify_folder(&folder, None, None).unwrap();
    assert_eq!((good.lines, good.unsealed, good.broken), (20, 0, None));
    assert!(good.seals >= 2);
    let path = name(&folder, 1);
    let bytes = std::fs::read(&path).unwrap();
    for at in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
        for flip in [0x01, 0x20] {
            let mut wrong = bytes.clone();
            wrong[at] ^= flip;
            std::fs::write(&path, &wrong).unwrap();
            let report = verify_folder(&folder, None, None).unwrap();
            let line = bytes[..at].iter().filter(|b| **b == b'\n').count() as u64 + 1;
            let broken = report.broken.unwrap_or_else(|| panic!("byte {at} ^ {flip:#x} was not found"));
            assert!(broken.line <= line + 1, "byte {at}: {broken:?}");
        }
    }
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(verify_folder(&folder, None, None).unwrap().broken, None);
    assert!(verify_folder(&folder, Some(&"ab".repeat(32)), None).unwrap().broken.is_some(), "another key");
}

#[tokio::test]
async fn lines_left_out_added_or_forged_break_the_chain() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 12).await;
    let folder = dir.path().join(FOLDER);
    let path = name(&folder, 1);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let check = |kept: Vec<&str>| {
        std::fs::write(&path, format!("{}\n", kept.join("\n"))).unwrap();
        verify_folder(&folder, None, None).unwrap().broken.is_some()
    };
    for i in 0..lines.len() - 1 {
        assert!(check([&lines[..i], &lines[i + 1..]].concat()), "line {i} left out");
        assert!(check([&lines[..=i], &lines[i..]].concat()), "line {i} twice");
    }
    let Value::Object(m) = serde_json::from_str(lines[2]).unwrap() else { panic!() };
    let prev: Value = serde_json::from_str(lines[1]).unwrap();
    let prev = <[u8; 32]>::try_from(signing::unhex(prev["hash"].as_str().unwrap()).unwrap()).unwrap();
    let mut m: Map<String, Value> = m.into_iter().filter(|(k, _)| k != "hash").collect();
    m.insert("actor".into(), json!({"kind": "key", "id": "somebody else"}));
    let (forged, _) = line::chained(m, CHAIN, 3, &prev);
    assert!(
        check([&lines[..2], &[forged.as_str()], &lines[3..]].concat()),
        "a forged line with a right hash"
    );
    std::fs::write(&path, &text).unwrap();
    assert!(Audit::open(dir.path(), "b".into(), None).is_ok());
    std::fs::write(&path, text.replace("k1", "k9")).unwrap();
    assert!(Audit::open(dir.path(), "b".into(), None).is_err(), "a broken trail is not continued");
}

#[tokio::test]
async fn lines_that_keep_coming_do_not_put_the_seal_off() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open_sealing_after(dir.path(), "b".into(), None, Duration::from_secs(1)).unwrap();
    let folder = dir.path().join(FOLDER);
    for i in 0.. {
        assert!(i < SEAL_LINES - 100, "no seal although its time has come");
        audit.record(event(i)).await.unwrap();
        if verify_folder(&folder, None, None).is_ok_and(|r| r.seals > 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_a_kill_cut_off_is_removed_and_said() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 6).await;
    let path = name(&dir.path().join(FOLDER), 1);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"action\":\"key.cre").unwrap();
    drop(Audit::open(dir.path(), "b".into(), None).unwrap());
    let report = verify_folder(&dir.path().join(FOLDER), None, None).unwrap();
    assert_eq!((report.lines, report.broken), (7, None));
    assert!(std::fs::read_to_string(&path).unwrap().contains("audit.gap"));
}

/// Takes the trail back to where it was when it was copied: shorter, and whole by itself.
fn shorten(folder: &Path, to: &[(PathBuf, Vec<u8>)]) {
    files(folder).unwrap().iter().for_each(|f| std::fs::remove_file(f).unwrap());
    to.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
}

#[tokio::test]
async fn lines_taken_off_the_end_and_a_trail_that_is_gone_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    let second = dir.path().join("elsewhere.anchor");
    let write = async |n: u64| {
        let audit = Audit::open(dir.path(), "b".into(), Some(&second)).unwrap();
        for i in 0..n {
            audit.record(event(i)).await.unwrap();
        }
    };
    let why = |anchor: Option<&Path>| {
        verify_folder(&folder, None, anchor).unwrap().broken.map_or_else(String::new, |b| b.why)
    };
    write(3).await;
    let early: Vec<_> =
        files(&folder).unwrap().into_iter().map(|f| (f.clone(), std::fs::read(&f).unwrap())).collect();
    let early_anchor = std::fs::read(anchor::path_in(dir.path())).unwrap();
    write(4).await;
    assert_eq!((why(None), why(Some(&second))), (String::new(), String::new()));
    assert_eq!(verify_folder(&folder, None, None).unwrap().anchored, Some(7));
    let late: Vec<_> =
        files(&folder).unwrap().into_iter().map(|f| (f.clone(), std::fs::read(&f).unwrap())).collect();

    shorten(&folder, &early);
    assert!(why(None).contains("number 7 was sealed"), "{}", why(None));
    shorten(&folder, &[]);
    assert!(why(None).contains("number 7 was sealed"), "{}", why(None));
    let refused = Audit::open(dir.path(), "b".into(), None).err().unwrap().to_string();
    assert!(refused.contains("lines are missing") && refused.contains("audit.anchor"), "{refused}");

    // An anchor of old, put back with the trail of old: only one that lies elsewhere shows it.
    shorten(&folder, &early);
    std::fs::write(anchor::path_in(dir.path()), &early_anchor).unwrap();
    assert_eq!(why(None), "");
    assert!(why(Some(&second)).contains("number 7 was sealed"));
    assert!(Audit::open(dir.path(), "b".into(), Some(&second)).is_err());

    // One that is made up, and none.
    shorten(&folder, &late);
    let text = String::from_utf8(early_anchor).unwrap();
    std::fs::write(anchor::path_in(dir.path()), text.replace("\"seq\":3", "\"seq\":2")).unwrap();
    assert!(why(None).contains("the anchor does not hold"), "{}", why(None));
    std::fs::remove_file(anchor::path_in(dir.path())).unwrap();
    assert!(why(None).contains("the anchor is missing"), "{}", why(None));
    // Going on without one is said in the trail.
    drop(Audit::open(dir.path(), "b".into(), None).unwrap());
    let report = verify_folder(&folder, None, None).unwrap();
    assert_eq!((report.gaps, report.anchored, report.broken), (1, Some(8), None));

    // All of it removed, and another begun in its place.
    std::fs::remove_dir_all(&folder).unwrap();
    let refused = Audit::open(dir.path(), "b".into(), None).err().unwrap().to_string();
    assert!(refused.contains("is that of another trail"), "{refused}");
}

/// A small generator: the rounds need variety, not quality.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n.max(1)
    }
}

/// Changes that were once made to a trail, one a line; what the test below found is kept there. A change is made of
/// numbers, each of which chooses among what there is to choose from at its place.
const KEPT: &str = include_str!("../../../corpus/audit.txt");

/// Cuts, moves, repeats and overwrites bytes and lines.
fn mutated(bytes: &[u8], choose: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=choose(3) {
        let lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        let (a, b) = (choose(bytes.len() + 1), choose(bytes.len() + 1));
        let (from, to) = (a.min(b), a.max(b));
        let (i, j) = (choose(lines.len()), choose(lines.len()));
        match choose(7) {
            0 => bytes.truncate(from),
            1 => _ = bytes.splice(from..to.min(from + 9), []),
            2 => {
                let piece = bytes[from..to.min(from + 40)].to_vec();
                bytes.splice(to..to, piece);
            }
            3 if from < bytes.len() => bytes[from] = u8::try_from(choose(256)).unwrap(),
            3 => {}
            other => {
                let mut lines = lines;
                match other {
                    _ if lines.is_empty() => {}
                    4 => lines.swap(i, j),
                    5 => lines.insert(i, lines[j].clone()),
                    // What is written otherwise and means the same is no line of this program.
                    _ => lines[i].splice(1..1, *b" ").for_each(drop),
                }
                bytes = lines.concat();
            }
        }
    }
    bytes
}

/// Trails that were changed at random, and by the cases that are kept: what was changed is found, or only lines after the
/// last seal are gone. `AUDIT_FUZZ_SEED` replays a run, `AUDIT_FUZZ_ROUNDS` sets how many are tried.
#[tokio::test]
async fn whatever_is_made_of_a_trail_is_found() {
    let number = |name: &str, usual: u64| std::env::var(name).map_or(usual, |v| v.parse().unwrap());
    let (seed, rounds) = (number("AUDIT_FUZZ_SEED", 20_261_123), number("AUDIT_FUZZ_ROUNDS", 600));
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 24).await;
    let folder = dir.path().join(FOLDER);
    let path = name(&folder, 1);
    let bytes = std::fs::read(&path).unwrap();
    // No anchor: what was taken off the end is found by others than the trail.
    std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).for_each(|p| {
        if p.extension().is_some_and(|e| e == "anchor") {
            std::fs::remove_file(p).unwrap();
        }
    });
    let text = std::fs::read_to_string(folder.join(super::folder::PUBLIC_KEY)).unwrap();
    let public = signing::unhex(text.trim()).unwrap();
    let instance = std::fs::read_to_string(folder.join(super::folder::INSTANCE)).unwrap();
    let with =
        super::verify::Reading { public: &public, instance: instance.trim(), anchors: &[], receipts: &[] };
    let try_one = |changed: &[u8], about: &str| {
        std::fs::write(&path, changed).unwrap();
        let (report, _) = super::verify::verify(&folder, &with).unwrap();
        let whole = bytes.starts_with(changed) && changed.last().is_none_or(|b| *b == b'\n');
        assert_eq!(report.broken.is_none(), whole, "{about}: {:?}", report.broken);
        let same = bytes.iter().zip(changed).take_while(|(a, b)| a == b).count();
        // A line that is moved before a seal still follows the line before it: the seal shows it.
        let lines = bytes[..same].iter().filter(|b| **b == b'\n').count() as u64;
        assert!(report.lines + report.seals >= lines, "{about}: what stands before holds: {report:?}");
    };
    for line in KEPT.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let mut numbers = line.split(' ').map(|n| n.parse::<usize>().unwrap());
        let changed = mutated(&bytes, &mut |n| numbers.next().unwrap_or(0) % n.max(1));
        try_one(&changed, line);
    }
    let mut random = Random(seed);
    for round in 0..rounds {
        let mut chosen = Vec::new();
        let changed = mutated(&bytes, &mut |n| {
            chosen.push(random.below(n));
            chosen.last().copied().unwrap_or(0)
        });
        let case: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        try_one(&changed, &format!("seed {seed}, round {round}, {}", case.join(" ")));
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut all: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

fn refused(data: &Path) -> String {
    Audit::open(data, "b".into(), None).err().map(|e| e.to_string()).unwrap_or_default()
}

/// What a trail with lines is known by is not made anew: it would be called broken from then on, or be another one.
#[tokio::test]
async fn what_a_trail_is_known_by_is_missed_and_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 6).await;
    let folder = dir.path().join(FOLDER);
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let (public, instance) = (read("public.key"), read("instance"));
    for path in [dir.path().join("audit.key"), folder.join("public.key"), folder.join("instance")] {
        let aside = dir.path().join("aside");
        std::fs::rename(&path, &aside).unwrap();
        let why = refused(dir.path());
        assert!(why.contains(&format!("{} is missing", path.display())), "{why}");
        assert!(!path.exists(), "{} was made anew", path.display());
        std::fs::rename(&aside, &path).unwrap();
        assert_eq!((read("public.key"), read("instance")), (public.clone(), instance.clone()));
    }
    assert_eq!(verify_folder(&folder, None, None).unwrap().broken, None);
    // Another key in its place is not taken either.
    super::keys::make().unwrap().keep(dir.path()).unwrap();
    assert!(refused(dir.path()).contains("is not the key"), "{}", refused(dir.path()));
    // Nor where all lines are gone, and no anchor says that there were any.
    std::fs::remove_file(name(&folder, 1)).unwrap();
    std::fs::remove_file(anchor::path_in(dir.path())).unwrap();
    assert!(refused(dir.path()).contains("is not that of the signing key"), "{}", refused(dir.path()));
    assert_eq!((read("public.key"), read("instance")), (public, instance));
}

/// Whoever is given the folder to verify it can forge nothing with what lies there.
#[tokio::test]
async fn the_folder_of_the_trail_holds_nothing_secret() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 6).await;
    let folder = dir.path().join(FOLDER);
    let all = ["admin-000001.jsonl", "instance", "public.key"];
    assert_eq!(names(&folder), all);
    // One of old is taken out of it.
    std::fs::rename(dir.path().join("audit.key"), folder.join("signing.key")).unwrap();
    drop(Audit::open(dir.path(), "b".into(), None).unwrap());
    assert_eq!(names(&folder), all);
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    all.iter().for_each(|f| _ = std::fs::copy(folder.join(f), copy.join(f)).unwrap());
    let report = verify_folder(&copy, None, None).unwrap();
    assert_eq!((report.lines, report.broken), (6, None));
}

fn rotation() -> Event {
    Event { actor_kind: "local", actor: "local".to_owned(), ..Event::default() }
}

#[tokio::test]
async fn another_key_is_announced_under_the_one_before_and_verified_from_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    let mut keys = Vec::new();
    for round in 0..3 {
        let audit = Audit::open(dir.path(), format!("boot-{round}"), None).unwrap();
        audit.record(event(round)).await.unwrap();
        let rotated = audit.rotate(rotation()).await.unwrap();
        audit.record(event(round)).await.unwrap();
        keys.push(rotated.public_key);
    }
    let first = std::fs::read_to_string(folder.join("public.key")).unwrap();
    let good = verify_folder(&folder, Some(&first), None).unwrap();
    // Each time two lines of events, one that announces the key, and one that it seals.
    assert_eq!((good.lines, good.keys_changed, good.broken), (12, 3, None));
    assert_eq!(good.anchored, Some(12));
    for key in &keys {
        assert!(verify_folder(&folder, Some(key), None).unwrap().broken.is_some(), "it began with another");
        assert!(!first.contains(key.as_str()));
    }
    assert_eq!(names(dir.path()), ["audit", "audit.anchor", "audit.key"], "no key of before is kept");
    let lines = read(&folder, Look::After(0), &Wanted::default(), 100).unwrap().lines;
    let announced: Vec<&str> = lines
        .iter()
        .filter(|l| l["action"] == NEW_KEY)
        .map(|l| l["detail"]["public_key"].as_str().unwrap())
        .collect();
    assert_eq!(announced, keys);
    // Taken back to before the last key: the anchor, which that has signed, shows it.
    files(&folder).unwrap().iter().skip(2).for_each(|f| std::fs::remove_file(f).unwrap());
    let why = verify_folder(&folder, None, None).unwrap().broken.unwrap().why;
    assert!(why.contains("number 12 was sealed"), "{why}");
}

/// Somebody who has no key of the trail announces one of their own, and seals with it.
#[tokio::test]
async fn a_key_that_only_its_own_seal_announces_breaks_the_trail() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 6).await;
    let folder = dir.path().join(FOLDER);
    std::fs::remove_file(anchor::path_in(dir.path())).unwrap();
    let mut writer = Writer::open(dir.path(), "b".into(), None).unwrap();
    std::fs::remove_file(anchor::path_in(dir.path())).unwrap();
    let lines = writer.chain.next;
    let forged = super::keys::make().unwrap().pair().unwrap();
    let public = ring::signature::KeyPair::public_key(&forged).as_ref().to_vec();
    let mut line = rotation();
    line.action = NEW_KEY;
    line.detail.insert(PUBLIC.to_owned(), types::encoding::hex(&public).into());
    writer.line(&line).unwrap();
    writer.key = forged;
    writer.seal().unwrap();
    drop(writer);
    std::fs::remove_file(anchor::path_in(dir.path())).unwrap();
    let report = verify_folder(&dir.path().join(FOLDER), None, None).unwrap();
    let broken = report.broken.unwrap();
    assert!(broken.why.contains("names another key") && report.lines == lines, "{broken:?} in {folder:?}");
    assert!(refused(dir.path()).contains("is broken"), "{}", refused(dir.path()));
}

/// A process that ends at any moment of the change of a key goes on with the key that the trail then has.
#[tokio::test]
async fn a_change_of_the_key_that_is_cut_off_is_brought_to_its_end_or_was_none() {
    for (what, changed) in [("made", 0), ("announced", 1), ("sealed", 1), ("adopted", 1)] {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 6).await;
        let mut writer = Writer::open(dir.path(), "b".into(), None).unwrap();
        let made = super::keys::make().unwrap();
        made.keep_next(dir.path()).unwrap();
        if what != "made" {
            let public = ring::signature::KeyPair::public_key(&made.pair().unwrap()).as_ref().to_vec();
            let mut line = rotation();
            line.action = NEW_KEY;
            line.detail.insert(PUBLIC.to_owned(), types::encoding::hex(&public).into());
            writer.line(&line).unwrap();
            if what != "announced" {
                writer.chain.announced = Some(public);
                writer.seal().unwrap();
            }
        }
        drop(writer);
        if what == "adopted" {
            super::keys::adopt(dir.path()).unwrap();
        }
        if what == "announced" {
            // Without the announced key it does not go on as if nothing had been said.
            let (next, aside) = (dir.path().join("audit.key.next"), dir.path().join("aside"));
            std::fs::rename(&next, &aside).unwrap();
            assert!(refused(dir.path()).contains("the audit trail announces"), "{}", refused(dir.path()));
            std::fs::rename(&aside, &next).unwrap();
        }
        let audit = Audit::open(dir.path(), "b".into(), None).unwrap();
        audit.record(event(1)).await.unwrap();
        drop(audit);
        let report = verify_folder(&dir.path().join(FOLDER), None, None).unwrap();
        assert_eq!((report.keys_changed, report.broken), (changed, None), "{what}");
        assert!(!dir.path().join("audit.key.next").exists(), "{what}");
        drop(Audit::open(dir.path(), "b".into(), None).unwrap());
    }
}

/// A second anchor whose volume is away keeps nobody from changing the key, and from being told which it is.
#[tokio::test]
async fn a_key_is_changed_though_an_anchor_cannot_be_written() {
    let (dir, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let elsewhere = away.path().join("audit.anchor");
    let audit = Audit::open(dir.path(), "b".into(), Some(&elsewhere)).unwrap();
    audit.record(event(1)).await.unwrap();
    drop(away);
    let rotated = audit.rotate(rotation()).await.unwrap();
    let again = audit.rotate(rotation()).await.unwrap();
    assert_ne!(rotated.public_key, again.public_key);
    drop(audit);
    let folder = dir.path().join(FOLDER);
    let report = verify_folder(&folder, None, None).unwrap();
    assert_eq!((report.keys_changed, report.broken, report.anchored), (2, None, Some(5)));
    assert_eq!(files(&folder).unwrap().len(), 3, "each key has a file of its own");
    assert_eq!(refused(dir.path()), "");
}

/// What a power cut soon after the first start may leave of small files is taken for nothing, and over lines it is missed.
#[tokio::test]
async fn files_that_a_power_cut_left_empty_are_made_anew_or_missed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    std::fs::create_dir(&folder).unwrap();
    let small = ["instance", "public.key"].map(|name| folder.join(name));
    small.iter().for_each(|path| std::fs::write(path, "").unwrap());
    written(dir.path(), 6).await;
    assert_eq!(verify_folder(&folder, None, None).unwrap().broken, None);
    for path in &small {
        let kept = std::fs::read(path).unwrap();
        assert!(!kept.is_empty());
        std::fs::write(path, "").unwrap();
        let why = refused(dir.path());
        assert!(why.contains(&format!("{} is missing", path.display())), "{why}");
        std::fs::write(path, kept).unwrap();
    }
    assert_eq!(refused(dir.path()), "");
}

/// What a start reads does not grow with the trail: the files before the last one are for `verify`.
#[tokio::test]
async fn a_start_reads_the_last_file_and_verify_reads_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    written(dir.path(), 20).await;
    let audit = Audit::open(dir.path(), "b".into(), None).unwrap();
    // A file of its own begins.
    audit.rotate(rotation()).await.unwrap();
    audit.record(event(77)).await.unwrap();
    drop(audit);
    let (old, new) = (name(&folder, 1), name(&folder, 2));
    let damaged = |path: &Path, from: &str, to: &str| {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(from));
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
        text
    };
    let text = damaged(&old, "k1", "k9");
    assert_eq!(refused(dir.path()), "", "it is not read");
    assert!(verify_folder(&folder, None, None).unwrap().broken.is_some(), "and verify finds it");
    std::fs::write(&old, &text).unwrap();
    assert_eq!(verify_folder(&folder, None, None).unwrap().broken, None);
    // What the last file goes on from is read, and so is the file itself.
    let seal = text.lines().last().unwrap();
    std::fs::write(&old, text.replace(seal, &seal.replace("\"count\":1", "\"count\":2"))).unwrap();
    assert!(refused(dir.path()).contains("is broken"), "{}", refused(dir.path()));
    std::fs::write(&old, &text).unwrap();
    damaged(&new, "k77", "k78");
    assert!(refused(dir.path()).contains("is broken"), "{}", refused(dir.path()));
}

/// Who keeps what a change was answered with finds a trail that was written anew, with all its keys.
#[tokio::test]
async fn a_receipt_shows_a_line_that_is_gone_or_another() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join(FOLDER);
    let audit = Audit::open(dir.path(), "b".into(), None).unwrap();
    let first = audit.record(event(1)).await.unwrap();
    let second = audit.record(event(2)).await.unwrap();
    drop(audit);
    let broken = |receipts: &[Line]| {
        let report = verify_against(&folder, None, None, receipts).unwrap();
        report.broken.map(|b| (b.seq, b.why)).unwrap_or_default()
    };
    assert_eq!(broken(&[first, second]), (0, String::new()));
    let other = Line { hash: second.hash, ..first };
    assert_eq!(broken(&[second, other]).0, 1);
    assert!(broken(&[other]).1.contains("another line than the receipt"), "{:?}", broken(&[other]));
    let gone = Line { seq: 9, ..second };
    assert!(broken(&[gone]).1.contains("is missing, number 9"), "{:?}", broken(&[gone]));
}

/// Whoever asks for lines of an action is told that there is none of that name, which has to be true.
#[test]
fn every_action_of_a_line_is_listed() {
    let groups: Vec<&str> = super::ACTIONS.iter().filter_map(|a| Some(a.split_once('.')?.0)).collect();
    assert!(super::ACTIONS.is_sorted());
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            let made = ["event(\"", "action: \"", "action = \"", "actor, \"", ".named(\""];
            for found in made.iter().flat_map(|made| code.split(made).skip(1)) {
                let name = found.split('"').next().unwrap();
                let is_one = name.split_once('.').is_some_and(|(group, _)| groups.contains(&group));
                assert!(!is_one || super::ACTIONS.contains(&name), "{name} of {}", path.display());
            }
        }
    }
}

/// Of a folder that is no trail it is told what is missing, and where one lies.
#[tokio::test]
async fn a_folder_without_a_trail_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 2).await;
    let told = |folder: &Path| verify_folder(folder, None, None).unwrap_err().to_string();
    let within = dir.path().join(FOLDER);
    let of_data = told(dir.path());
    assert!(of_data.contains("no `public.key`") && of_data.contains(within.to_str().unwrap()), "{of_data}");
    std::fs::remove_file(within.join("public.key")).unwrap();
    assert!(told(&within).contains("`public.key` is missing"), "{}", told(&within));
    let named = verify_folder(&dir.path().join("none"), Some(&"ab".repeat(32)), None);
    assert!(named.unwrap_err().to_string().contains("no such folder"));
}
