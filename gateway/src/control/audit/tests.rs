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
