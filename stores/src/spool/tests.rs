//! The spool on a disk that obeys, and on one that refuses, tears and comes back.

use super::medium::{Medium, Sink};
use super::*;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const WIDE: Limits =
    Limits { spool_max: 1 << 30, rotate_bytes: 1 << 30, ring_max: 1 << 20, archive_max: 1 << 30 };

fn frame(text: &str) -> Vec<u8> {
    let mut buf = Vec::new();
    let quoted = format!("\"{text}\"");
    encode(&mut buf, |buf| {
        buf.extend_from_slice(quoted.as_bytes());
        Ok(())
    })
    .unwrap();
    buf
}

/// Appends each text; all must be taken. A new file has its lasting name before the next.
pub(super) fn append(spool: &Spool, texts: &[&str]) -> Vec<Seq> {
    let one = |text: &&str| {
        let seq = spool.append(&frame(text), None).unwrap();
        if lock(&spool.state).before.is_some() {
            syncer::sync(spool);
        }
        seq
    };
    texts.iter().map(one).collect()
}

/// What stands in the spool from `position`, with its positions.
pub(super) fn read_all(spool: &Spool, mut position: Seq) -> Vec<(Seq, String)> {
    let (mut tail, mut found) = (spool.tail(), Vec::new());
    while position < lock(&spool.state).written {
        let part = segment(&lock(&spool.state), position);
        let batch = tail.take(part, position, 2).unwrap();
        position = batch.end;
        found.extend(batch.lines().map(|l| (l.seq, serde_json::from_slice(l.payload).unwrap())));
        tail.done(batch);
    }
    found
}

fn texts(spool: &Spool, position: Seq) -> Vec<String> {
    read_all(spool, position).into_iter().map(|(_, text)| text).collect()
}

pub(super) fn open(dir: &Path, limits: Limits, moved: Seq) -> Result<(Spool, Recovery), Error> {
    Spool::open(dir, limits, moved, Box::new(Disk))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn put(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

/// Small files: one record each, or two.
pub(super) const SMALL: Limits = Limits { rotate_bytes: 12, ..WIDE };

#[test]
fn positions_are_bytes_of_the_whole_log_across_files() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), SMALL, 0).unwrap();
    let seqs = append(&spool, &["a", "bb", "ccc", "d"]);
    assert_eq!(seqs, [0, 11, 23, 36]);
    assert_eq!(files(dir.path()).len(), 3);
    let wanted = [(0, "a"), (11, "bb"), (23, "ccc"), (36, "d")].map(|(s, t)| (s, t.to_owned()));
    assert_eq!(read_all(&spool, 0), wanted);
    assert_eq!(read_all(&spool, 23), wanted[2..]);
}

#[test]
fn a_torn_end_is_cut_and_the_log_goes_on_there() {
    let torn: [(&str, Vec<u8>); 4] = [
        ("half a header", vec![9, 0]),
        ("half a payload", frame("torn away")[..12].to_vec()),
        ("a wrong checksum", [&frame("xx")[..11], b"z"].concat()),
        ("zeros, as after a power cut", vec![0; 40]),
    ];
    for (case, bytes) in torn {
        let dir = tempfile::tempdir().unwrap();
        append(&open(dir.path(), WIDE, 0).unwrap().0, &["a", "b"]);
        put(&files(dir.path())[0], &bytes);

        let (spool, recovery) = open(dir.path(), WIDE, 11).unwrap();
        let wanted = Recovery { recovered: 1, torn_bytes: bytes.len() as u64, files: 1 };
        assert_eq!(recovery, wanted, "{case}");
        append(&spool, &["c"]);
        assert_eq!(texts(&spool, 11), ["b", "c"], "{case}");
    }
}

#[test]
fn damage_in_an_earlier_file_is_named_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    append(&open(dir.path(), SMALL, 0).unwrap().0, &["a", "bb", "ccc", "d"]);
    let first = &files(dir.path())[0];
    let mut bytes = std::fs::read(first).unwrap();
    bytes[20] ^= 1;
    std::fs::write(first, &bytes).unwrap();

    let error = open(dir.path(), SMALL, 0).err().unwrap();
    assert!(matches!(error, Error::Corrupt(_)), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("spool-00000000000000000000.log at byte 11: the checksum"), "{message}");
    assert_eq!(std::fs::read(first).unwrap(), bytes);
}

#[test]
fn a_hole_between_files_or_before_them_is_found() {
    for (gone, moved, wanted) in [(1, 0, "at byte 23: the file ends before"), (0, 0, "begins at position 23")]
    {
        let dir = tempfile::tempdir().unwrap();
        append(&open(dir.path(), SMALL, 0).unwrap().0, &["a", "bb", "ccc", "d", "e"]);
        std::fs::remove_file(&files(dir.path())[gone]).unwrap();
        let message = open(dir.path(), SMALL, moved).err().unwrap().to_string();
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn files_stay_until_there_are_too_many_and_what_is_not_moved_stays_anyway() {
    let dir = tempfile::tempdir().unwrap();
    // Files of 23, 13 and 22 bytes.
    let (spool, _) = open(dir.path(), Limits { archive_max: 40, ..SMALL }, 0).unwrap();
    let end = append(&spool, &["a", "bb", "ccc", "d", "e"])[4] + 11;
    assert_eq!(spool.counts().archive, 58);
    for (durable, first) in [(0, None), (22, None), (23, Some(23)), (46, Some(23)), (end, Some(23))] {
        assert_eq!(spool.excess(durable), first, "{durable}");
    }
    spool.remove_before(23);
    assert_eq!((spool.excess(end), files(dir.path()).len(), spool.counts().archive), (None, 2, 35));
    assert_eq!((spool.place(22), spool.place(34)), (None, Some((23, 11))));
    assert_eq!(texts(&spool, 23), ["ccc", "d", "e"]);
    drop(spool);

    let (spool, _) = open(dir.path(), Limits { archive_max: 1, ..SMALL }, end).unwrap();
    assert_eq!((spool.excess(46), spool.excess(end)), (Some(36), Some(36)), "the last file stays");
}

#[test]
fn the_log_goes_on_in_the_last_file_unless_that_has_lost_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), WIDE, 0).unwrap();
    append(&spool, &["a", "b"]);
    drop(spool);
    for (moved, files_after) in [(22, 1), (40, 2)] {
        let (spool, recovery) = open(dir.path(), WIDE, moved).unwrap();
        assert_eq!(recovery, Recovery::default());
        assert_eq!(append(&spool, &["c"]), [moved]);
        assert_eq!((texts(&spool, moved), files(dir.path()).len()), (vec!["c".to_owned()], files_after));
    }
}

#[test]
fn constants_stand_before_the_first_record_that_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), WIDE, 0).unwrap();
    let exclusion = types::decision::Exclusion {
        model: "p/m".into(),
        workflow: None,
        reason: "no_key".into(),
        rule: None,
        detail: None,
        passes_ms: None,
    };
    let mut record = crate::samples::request("r", 1);
    record.decision.unavailable = Arc::new(vec![exclusion]);
    let one = Constants::of(&record, None).unwrap().unwrap();
    let again = Constants::of(&record, Some(&one)).unwrap().unwrap();
    assert!(Arc::ptr_eq(&one, &again), "the same pointer is the same content");
    let first = spool.append(&frame("a"), Some(&one)).unwrap();
    let second = spool.append(&frame("b"), Some(&one)).unwrap();
    assert_eq!(first, (HEADER + one.payload.len()) as u64);
    assert_eq!(second, first + 11, "told once");
}

#[test]
fn a_full_spool_refuses_until_something_is_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), Limits { spool_max: 30, ..WIDE }, 0).unwrap();
    append(&spool, &["a", "b"]);
    assert!(matches!(spool.append(&frame("c"), None), Err(Error::Full("spool"))));
    assert_eq!((spool.counts().full, spool.counts().dropped), (Some("spool"), 1));
    spool.moved(11, 1);
    assert_eq!(spool.counts().full, None);
    append(&spool, &["c"]);
    assert_eq!(texts(&spool, 11), ["b", "c"]);
}

#[test]
fn a_closed_spool_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, _) = open(dir.path(), WIDE, 0).unwrap();
    spool.close();
    assert!(spool.append(&frame("a"), None).unwrap_err().to_string().contains("closed"));
}

/// A disk with switches.
#[derive(Default)]
struct Faults {
    /// Bytes that a write takes before it fails; `usize::MAX` = all.
    room: AtomicUsize,
    no_truncate: AtomicBool,
    no_open: AtomicBool,
    no_overwrite: AtomicBool,
    no_sync: AtomicBool,
    no_rename: AtomicBool,
    syncs: AtomicUsize,
}

struct Faulty(Arc<Faults>);
struct FaultySink(Arc<dyn Sink>, Arc<Faults>);

impl Medium for Faulty {
    fn open(&self, path: &Path, len: u64) -> io::Result<Arc<dyn Sink>> {
        if self.0.no_open.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Arc::new(FaultySink(Disk.open(path, len)?, Arc::clone(&self.0))))
    }
    fn overwrite(&self, path: &Path, pieces: &[(u64, Vec<u8>)]) -> io::Result<()> {
        if self.0.no_overwrite.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Disk.overwrite(path, pieces)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.0.no_rename.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => Disk.rename(from, to),
        }
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }
}

impl Sink for FaultySink {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.1.room.load(Ordering::Relaxed).min(bytes.len());
        match room {
            0 => Err(io::ErrorKind::StorageFull.into()),
            n => self.0.write(&bytes[..n]),
        }
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        match self.1.no_truncate.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => self.0.truncate(len),
        }
    }
    fn sync(&self) -> io::Result<()> {
        if self.1.no_sync.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.1.syncs.fetch_add(1, Ordering::Relaxed);
        self.0.sync()
    }
}

fn faulty(dir: &Path, limits: Limits) -> (Spool, Arc<Faults>) {
    let faults = Arc::new(Faults { room: AtomicUsize::new(usize::MAX), ..Faults::default() });
    let (spool, _) = Spool::open(dir, limits, 0, Box::new(Faulty(Arc::clone(&faults)))).unwrap();
    (spool, faults)
}

/// What the syncer does when the disk may be back.
fn retry(spool: &Spool) {
    while syncer::drain(spool) {}
}

#[test]
fn what_a_full_disk_refuses_waits_in_memory_and_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, faults) = faulty(dir.path(), WIDE);
    append(&spool, &["a"]);
    // A torn write, with and without a way to cut it off.
    for (room, no_truncate) in [(0, false), (5, false), (5, true)] {
        faults.room.store(room, Ordering::Relaxed);
        faults.no_truncate.store(no_truncate, Ordering::Relaxed);
        let before = spool.counts();
        let seqs = append(&spool, &["b", "c"]);
        assert_eq!(seqs[1] - seqs[0], 11, "positions go on");
        retry(&spool);
        let counts = spool.counts();
        assert_eq!((counts.ring, counts.failed), (2, true), "room {room}");
        assert!(counts.write_errors > before.write_errors);

        faults.no_truncate.store(false, Ordering::Relaxed);
        faults.room.store(usize::MAX, Ordering::Relaxed);
        append(&spool, &["d"]);
        assert_eq!(spool.counts().ring, 3, "the ring goes first");
        retry(&spool);
        assert_eq!((spool.counts().ring, spool.counts().failed), (0, false));
        append(&spool, &["e"]);
    }
    let round = ["b", "c", "d", "e"];
    assert_eq!(texts(&spool, 0), [&["a"][..], &round, &round, &round].concat());
    drop(spool);
    assert_eq!(open(dir.path(), WIDE, 0).unwrap().1, Recovery { recovered: 13, torn_bytes: 0, files: 1 });
}

#[test]
fn a_directory_that_takes_no_new_file_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, faults) = faulty(dir.path(), SMALL);
    append(&spool, &["a", "bb"]);
    faults.no_open.store(true, Ordering::Relaxed);
    append(&spool, &["c", "d"]);
    retry(&spool);
    assert_eq!(spool.counts().ring, 2);
    faults.no_open.store(false, Ordering::Relaxed);
    retry(&spool);
    assert_eq!(texts(&spool, 0), ["a", "bb", "c", "d"]);
    assert_eq!(files(dir.path()).len(), 2);
}

#[test]
fn a_full_ring_refuses_counts_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, faults) = faulty(dir.path(), Limits { ring_max: 10, ..WIDE });
    append(&spool, &["a"]);
    faults.room.store(0, Ordering::Relaxed);
    assert!(matches!(spool.append(&frame("b"), None), Err(Error::Full("ring"))));
    assert_eq!((spool.counts().dropped, spool.counts().appended), (1, 1));
    assert_eq!(spool.counts().full, Some("ring"));
    faults.room.store(usize::MAX, Ordering::Relaxed);
    retry(&spool);
    append(&spool, &["c"]);
    assert_eq!((spool.counts().full, spool.counts().dropped), (None, 1), "taken");
    assert_eq!(texts(&spool, 0), ["a", "c"]);
}

#[test]
fn closing_writes_the_ring_and_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, faults) = faulty(dir.path(), WIDE);
    faults.room.store(0, Ordering::Relaxed);
    append(&spool, &["a"]);
    faults.room.store(usize::MAX, Ordering::Relaxed);
    spool.close();
    run_syncer(&spool);
    assert_eq!(texts(&spool, 0), ["a"]);
    assert_eq!(faults.syncs.load(Ordering::Relaxed), 1);
}

#[test]
fn records_are_overwritten_where_they_stand_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, faults) = faulty(dir.path(), SMALL);
    let seqs = append(&spool, &["aaaa", "bb", "cccc", "d"]);
    let instead = |seq, length| Instead { seq, length, left: b"{}".to_vec() };
    let both = [instead(seqs[0], 6), instead(seqs[2], 6)];
    faults.no_overwrite.store(true, Ordering::Relaxed);
    let (done, refused) = spool.overwrite(&both);
    assert!(done.is_empty() && refused.is_some());
    assert_eq!(texts(&spool, 0), ["aaaa", "bb", "cccc", "d"]);
    faults.no_overwrite.store(false, Ordering::Relaxed);
    for _ in 0..2 {
        // One of another length, and one that is not there.
        assert!(spool.overwrite(&[instead(seqs[1], 9), instead(99, 6)]).1.is_none());
        let (done, refused) = spool.overwrite(&both);
        assert!(done == [seqs[0], seqs[2]] && refused.is_none());
    }
    append(&spool, &["e"]);
    let mut tail = spool.tail();
    let (mut position, mut found) = (0, Vec::new());
    while position < spool.end() {
        let batch = tail.take(segment(&lock(&spool.state), position), position, 9).unwrap();
        position = batch.end;
        found.extend(batch.lines().map(|l| (l.seq, String::from_utf8(l.payload.to_vec()).unwrap())));
    }
    let payloads: Vec<_> = found.iter().map(|(_, p)| p.as_str()).collect();
    assert_eq!(payloads, ["{}    ", "\"bb\"", "{}    ", "\"d\"", "\"e\""]);
    assert_eq!(found.iter().map(|(seq, _)| *seq).take(4).collect::<Vec<_>>(), seqs);
}

/// What the files hold at this moment, in another directory: as if killed now.
fn killed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in files(dir) {
        std::fs::copy(&file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    copy
}

fn names(dir: &Path) -> Vec<String> {
    files(dir).iter().map(|f| f.extension().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_new_file_waits_for_no_disk_and_a_kill_at_each_step_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, faults) = faulty(dir.path(), SMALL);
    append(&spool, &["a", "bb"]);
    faults.no_sync.store(true, Ordering::Relaxed);
    let said = spool.append(&frame("ccc"), None).unwrap();
    assert_eq!((said, names(dir.path())), (23, vec!["log".to_owned(), "next".to_owned()]));
    // No third file before the first is on the disk, however long the second grows.
    for text in ["d", "e", "f"] {
        spool.append(&frame(text), None).unwrap();
    }
    let all = ["a", "bb", "ccc", "d", "e", "f"];
    let check = |step: &str, names_now: [&str; 2]| {
        assert_eq!(names(dir.path()), names_now, "{step}");
        assert_eq!(texts(&spool, 0), all, "{step}: it is read as it stands");
        let copy = killed(dir.path());
        let (again, recovery) = open(copy.path(), SMALL, 0).unwrap();
        assert_eq!(recovery, Recovery { recovered: 6, torn_bytes: 0, files: 2 }, "{step}");
        assert_eq!(names(copy.path()), ["log", "log"], "{step}");
        append(&again, &["g"]);
        assert_eq!(texts(&again, 0), [&all[..], &["g"]].concat(), "{step}");
    };
    check("begun", ["log", "next"]);
    syncer::sync(&spool);
    check("the disk refuses", ["log", "next"]);
    faults.no_sync.store(false, Ordering::Relaxed);
    faults.no_rename.store(true, Ordering::Relaxed);
    syncer::sync(&spool);
    assert!(faults.syncs.load(Ordering::Relaxed) > 0);
    check("the first is on the disk", ["log", "next"]);
    // What has another name is overwritten where it stands as well.
    let instead = Instead { seq: said, length: 5, left: b"\"ccc\"".to_vec() };
    assert_eq!(spool.overwrite(&[instead]).0, [said]);
    faults.no_rename.store(false, Ordering::Relaxed);
    syncer::sync(&spool);
    check("named", ["log", "log"]);
    append(&spool, &["g"]);
    assert_eq!(files(dir.path()).len(), 3);
}

#[test]
fn what_follows_an_end_that_a_power_cut_took_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, faults) = faulty(dir.path(), SMALL);
    append(&spool, &["a", "bb"]);
    faults.no_sync.store(true, Ordering::Relaxed);
    spool.append(&frame("ccc"), None).unwrap();
    let shorten = |dir: &Path, to: u64| {
        OpenOptions::new().write(true).open(&files(dir)[0]).unwrap().set_len(to).unwrap();
    };
    // Where the first file ends now, what is in the database, and what is left.
    for (end, moved, left, torn) in
        [(23, 0, "a bb ccc", 0), (15, 0, "a", 4 + 13), (11, 0, "a", 13), (11, 11, "", 13)]
    {
        let copy = killed(dir.path());
        shorten(copy.path(), end);
        let (again, recovery) = open(copy.path(), SMALL, moved).unwrap();
        let wanted: Vec<&str> = left.split_whitespace().collect();
        assert_eq!(
            (texts(&again, moved), recovery.torn_bytes),
            (wanted.iter().map(|t| (*t).to_owned()).collect(), torn),
            "{end} {moved}"
        );
        append(&again, &["z"]);
        assert_eq!(texts(&again, moved), [&wanted[..], &["z"]].concat(), "{end} {moved}");
    }
    // The database has what was lost: the log goes on behind it.
    let copy = killed(dir.path());
    shorten(copy.path(), 15);
    let (again, recovery) = open(copy.path(), SMALL, 23).unwrap();
    assert_eq!((texts(&again, 23), recovery.torn_bytes), (vec!["ccc".to_owned()], 0));
    // A file that has its lasting name follows one that was whole on the disk: what is missing there was damaged since.
    faults.no_sync.store(false, Ordering::Relaxed);
    syncer::sync(&spool);
    let copy = killed(dir.path());
    shorten(copy.path(), 15);
    assert!(matches!(open(copy.path(), SMALL, 0), Err(Error::Corrupt(_))));
    // So is one whose file before it is missing altogether.
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(&files(dir.path())[1], copy.path().join("spool-00000000000000000023.next")).unwrap();
    assert!(matches!(open(copy.path(), SMALL, 0), Err(Error::Corrupt(_))));
}
