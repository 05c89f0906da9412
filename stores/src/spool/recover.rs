//! What a start finds of the spool: which files are left, and what a killed process tore.

use super::frame::{self, Frame};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use types::store::{Error, Seq};

/// What was found of the spool at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whole records that had not reached the database yet.
    pub recovered: u64,
    /// Bytes cut off the end of the last file, because they are no whole record; they were never
    /// acknowledged, or a power cut took them within 100 ms. With them those of a file that had been begun after such an
    /// end.
    pub torn_bytes: u64,
    /// Spool files that held something not yet in the database.
    pub files: u64,
}

/// The spool as it stands after recovery.
pub(super) struct Found {
    pub(super) recovery: Recovery,
    /// First position of each file, ascending.
    pub(super) bases: VecDeque<Seq>,
    /// The last file ends at `end`, so that the log goes on in it.
    pub(super) open: bool,
    /// End of the last record.
    pub(super) end: Seq,
}

/// Path of the file that begins at `base`.
pub(super) fn path(dir: &Path, base: Seq) -> PathBuf {
    dir.join(format!("spool-{base:020}.log"))
}

/// Path of the file that begins at `base` while the one before it is not on the disk.
pub(super) fn next_path(dir: &Path, base: Seq) -> PathBuf {
    dir.join(format!("spool-{base:020}.next"))
}

/// Opens the file that begins at `base`, whichever of its names it has.
///
/// # Errors
/// It is not there, or cannot be opened.
pub(super) fn open(dir: &Path, base: Seq) -> io::Result<(PathBuf, File)> {
    // It may be given the name that lasts between two looks; that is the only change there is.
    for path in [path(dir, base), next_path(dir, base)] {
        match File::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            found => return found.map(|file| (path, file)),
        }
    }
    let path = path(dir, base);
    File::open(&path).map(|file| (path, file))
}

/// Looks through the spool of `dir`, of which everything before `moved` is in the database, and cuts a torn
/// end off. Files of which everything is in the database are not looked through: they are the archive.
///
/// # Errors
/// Files cannot be read, or damage stands elsewhere than at the end of the last file.
pub(super) fn recover(dir: &Path, moved: Seq) -> Result<Found, Error> {
    let dropped = name_next(dir, moved)?;
    let (archive, files): (Vec<_>, Vec<_>) =
        list(dir, ".log")?.into_iter().partition(|(base, len)| base + len <= moved);
    let mut recovery = Recovery { files: files.len() as u64, torn_bytes: dropped, ..Recovery::default() };
    if let Some((first, _)) = files.first().filter(|(base, _)| *base > moved) {
        return Err(Error::Corrupt(format!(
            "{} begins at position {first}, but the database ends at {moved}: records between them are missing; \
             put the missing files or the database back, or start with an empty data directory",
            path(dir, *first).display()
        )));
    }
    let mut end = moved;
    for (i, (base, len)) in files.iter().enumerate() {
        let next = files.get(i + 1).map(|(base, _)| *base);
        let scan = scan(&path(dir, *base), (*base).max(moved) - base, *len)?;
        recovery.recovered += scan.records;
        end = base + scan.good;
        match (scan.bad, next) {
            (Some(why), Some(_)) => return Err(damaged(&path(dir, *base), scan.good, why)),
            (Some(why), None) => {
                let torn = len - scan.good;
                recovery.torn_bytes += torn;
                cut(&path(dir, *base), scan.good, torn, why)?;
            }
            (None, Some(next)) if next != end => {
                return Err(damaged(
                    &path(dir, *base),
                    scan.good,
                    "the file ends before the next one begins",
                ));
            }
            (None, _) => {}
        }
    }
    // The last file goes on where the log does; one that ends before it (a power cut took its end, which the
    // database had already) is archive like the others.
    let last = files.last().or(archive.last()).copied();
    let open = last.is_some_and(|(base, len)| !files.is_empty() || base + len == end);
    let bases = archive.iter().chain(&files).map(|(base, _)| *base).collect();
    Ok(Found { recovery, bases, open, end })
}

/// Gives a file the name that lasts which was begun before the one before it was on the disk; where a power cut took the
/// end of that one, it is removed: it comes after what is lost. Gives how many bytes went.
fn name_next(dir: &Path, moved: Seq) -> io::Result<u64> {
    let mut gone = 0;
    for (base, len) in list(dir, ".next")? {
        let next = next_path(dir, base);
        if follows(dir, base, moved)? {
            std::fs::rename(&next, path(dir, base))?;
        } else {
            let file = next.display();
            tracing::warn!(%file, bytes = len, "removed a file of the spool: a power cut took the end of the one before it");
            std::fs::remove_file(&next)?;
            gone += len;
        }
        File::open(dir)?.sync_all()?;
    }
    Ok(gone)
}

/// Whether the log reaches the position at which a file begins. The file that reaches it is on the disk then.
fn follows(dir: &Path, base: Seq, moved: Seq) -> io::Result<bool> {
    let before = list(dir, ".log")?.into_iter().rev().find(|(before, _)| *before < base);
    // What the database has needs no file before it; one that is missing altogether is found by who looks at all of them.
    let Some((before, len)) = before.filter(|_| moved < base) else { return Ok(true) };
    if before + len <= moved {
        return Ok(false);
    }
    let path = path(dir, before);
    let scan = scan(&path, before.max(moved) - before, len)?;
    let reaches = scan.bad.is_none() && before + scan.good == base;
    if reaches {
        File::open(&path)?.sync_all()?;
    }
    Ok(reaches)
}

/// First position and length of every spool file whose name ends so, ascending.
fn list(dir: &Path, ending: &str) -> io::Result<Vec<(Seq, u64)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let base = name.to_str().and_then(|n| n.strip_prefix("spool-")?.strip_suffix(ending)?.parse().ok());
        if let Some(base) = base {
            files.push((base, entry.metadata()?.len()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

struct Scan {
    records: u64,
    /// Where the last whole record ends in the file.
    good: u64,
    /// What stands there instead of the end of the file.
    bad: Option<&'static str>,
}

fn scan(path: &Path, from: u64, len: u64) -> io::Result<Scan> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut scan = Scan { records: 0, good: from, bad: None };
    let mut payload = Vec::new();
    loop {
        payload.clear();
        match frame::read(&mut reader, len - scan.good, &mut payload)? {
            Frame::Whole => {
                scan.records += 1;
                scan.good += (frame::HEADER + payload.len()) as u64;
            }
            Frame::End => return Ok(scan),
            Frame::Bad(why) => {
                scan.bad = Some(why);
                return Ok(scan);
            }
        }
    }
}

fn damaged(path: &Path, offset: u64, why: &str) -> Error {
    Error::Corrupt(format!(
        "{} at byte {offset}: {why}; only the end of the last file may be torn, so this one was damaged after it \
         was written; restore it, or move it and the later ones away to go on without them",
        path.display()
    ))
}

fn cut(path: &Path, good: u64, torn: u64, why: &str) -> io::Result<()> {
    tracing::warn!(file = %path.display(), offset = good, torn_bytes = torn, why, "cut the torn end of the spool");
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(good)?;
    file.sync_all()
}
