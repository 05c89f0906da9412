//! Reads an audit trail from its files, without a server, and says where it first breaks.

use super::anchor::Anchor;
use super::folder::{INSTANCE, PUBLIC_KEY, files, wrong};
use super::line::{self, Hash, Sealed};
use super::{CHAIN, GAP, Line, NEW_KEY, PUBLIC};
use crate::signing;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Report {
    /// Lines that hold.
    pub(crate) lines: u64,
    /// Seals that hold.
    pub(crate) seals: u64,
    /// Lines after the last seal: chained, not yet signed.
    pub(crate) unsealed: u64,
    /// Lines that say that something is missing before them.
    pub(crate) gaps: u64,
    /// How often another key came into force, announced under the one before it.
    pub(crate) keys_changed: u64,
    /// The number up to which an anchor shows that nothing was taken away; `None` = no anchor was asked.
    pub(crate) anchored: Option<u64>,
    /// Which of the anchors it was that it does not hold against; `None` = the trail itself is broken, or nothing is.
    #[serde(skip)]
    pub(crate) by_anchor: Option<usize>,
    /// The first thing that does not hold.
    pub(crate) broken: Option<Broken>,
}

/// Where the trail breaks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Broken {
    /// Number of the line, or of the line that the seal should cover.
    pub(crate) seq: u64,
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: u64,
    pub(crate) why: String,
}

/// How far a trail holds: what whoever writes on continues from.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) next: u64,
    pub(crate) prev: Hash,
    pub(crate) prev_seal: Hash,
    pub(crate) unsealed: u64,
    /// The last seal, as it stands in the trail.
    pub(crate) seal: Option<String>,
    /// The public key that the next seal is signed with.
    pub(crate) key: Vec<u8>,
    /// The one that comes into force with that seal.
    pub(crate) announced: Option<Vec<u8>>,
}

impl Chain {
    fn new(with: &Reading<'_>) -> Chain {
        Chain {
            next: 1,
            prev: line::genesis(with.instance),
            prev_seal: [0; 32],
            unsealed: 0,
            seal: None,
            key: with.public.to_vec(),
            announced: None,
        }
    }

    /// What follows a seal of this key. `None` = the text is none.
    fn after(seal: &[u8], key: &[u8]) -> Option<Chain> {
        let value: Value = serde_json::from_slice(seal).ok()?;
        let sealed = Sealed::of(&value)?;
        let prev_seal = sealed.verify(CHAIN, &value, key).ok()?;
        Some(Chain {
            next: sealed.seq.checked_add(1)?,
            prev: sealed.hash,
            prev_seal,
            unsealed: 0,
            seal: Some(signing::canonical(&value)),
            key: key.to_vec(),
            announced: None,
        })
    }

    /// A seal that was written or read covers all that came before it: a key that was announced is in force.
    pub(super) fn is_sealed(&mut self, seal: String, hash: Hash) -> bool {
        (self.prev_seal, self.unsealed, self.seal) = (hash, 0, Some(seal));
        let announced = self.announced.take();
        let changed = announced.is_some();
        self.key = announced.unwrap_or_else(|| std::mem::take(&mut self.key));
        changed
    }
}

/// What a trail is read with.
pub(crate) struct Reading<'a> {
    /// The key that it begins with.
    pub(crate) public: &'a [u8],
    pub(crate) instance: &'a str,
    /// What shows how far the trail went; all of them are asked in one reading.
    pub(crate) anchors: &'a [Anchor],
    /// Lines that it must have, as they were told to whoever asked for what they are about.
    pub(crate) receipts: &'a [Line],
}

/// Verifies all files of a folder with a public key, and against the anchors that there are.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn verify(folder: &Path, with: &Reading<'_>) -> io::Result<(Report, Chain)> {
    read(folder, with, &files(folder)?, Chain::new(with))
}

/// Verifies the last file alone, from the seal that ends the one before it, which must be of this key: what that costs
/// does not grow with the trail. `None` = there is no such seal.
///
/// # Errors
/// A file cannot be read.
pub(super) fn verify_last(
    folder: &Path,
    with: &Reading<'_>,
    key: &[u8],
) -> io::Result<Option<(Report, Chain)>> {
    let files = files(folder)?;
    let [.., before, last] = files.as_slice() else { return Ok(None) };
    let Some(chain) = Chain::after(&last_line(before)?, key) else { return Ok(None) };
    read(folder, with, std::slice::from_ref(last), chain).map(Some)
}

/// The last line of a file, as far as one can be long that is a seal.
fn last_line(path: &Path) -> io::Result<Vec<u8>> {
    const LONGEST: u64 = 4_096;
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST)))?;
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(text.strip_suffix(b"\n").and_then(|t| t.rsplit(|b| *b == b'\n').next()).unwrap_or_default().to_vec())
}

fn read(folder: &Path, with: &Reading<'_>, files: &[PathBuf], chain: Chain) -> io::Result<(Report, Chain)> {
    let at = |anchor: &Anchor| {
        (anchor.seq().checked_add(1) == Some(chain.next)).then(|| (chain.prev, chain.key.clone()))
    };
    let mut walk = Walk {
        with,
        report: Report {
            lines: 0,
            seals: 0,
            unsealed: 0,
            gaps: 0,
            keys_changed: 0,
            anchored: None,
            by_anchor: None,
            broken: None,
        },
        at_anchors: with.anchors.iter().map(at).collect(),
        places: places(with.anchors),
        chain,
        last: (folder.display().to_string(), 0),
    };
    for path in files {
        walk.file(path)?;
        if walk.report.broken.is_some() {
            break;
        }
    }
    walk.report.unsealed = walk.chain.unsealed;
    walk.hold_against_anchors();
    let gone = with.receipts.iter().find(|r| r.seq >= walk.chain.next);
    if let Some(receipt) = gone.filter(|_| walk.report.broken.is_none()) {
        walk.breaks(walk.chain.next, format!("the line of the receipt is missing, number {}", receipt.seq));
    }
    Ok((walk.report, walk.chain))
}

/// As [`verify_against`], without receipts.
#[cfg(test)]
pub(crate) fn verify_folder(
    folder: &Path,
    public: Option<&str>,
    anchor: Option<&Path>,
) -> io::Result<Report> {
    verify_against(folder, public, anchor, &[])
}

/// Verifies the trail in a data directory, or one copied elsewhere: `public` replaces the key that lies there, `anchor`
/// the anchor that lies beside a data directory's trail and must be there once the trail has a seal. The trail must have
/// the lines of the receipts.
///
/// # Errors
/// The files cannot be read, or there is no trail.
pub(crate) fn verify_against(
    folder: &Path,
    public: Option<&str>,
    anchor: Option<&Path>,
    receipts: &[Line],
) -> io::Result<Report> {
    let text = match public {
        Some(p) => p.to_owned(),
        None => text_of(folder, PUBLIC_KEY)?,
    };
    let public = signing::unhex(text.trim())
        .ok_or_else(|| io::Error::other("the public key is no hexadecimal text"))?;
    let instance = text_of(folder, INSTANCE)?;
    let instance = instance.trim();
    let (found, path) = match anchor {
        Some(path) => (named(path)?, Some(path.to_owned())),
        None => {
            let path = super::anchor::beside(folder);
            let found = path.as_deref().map(Anchor::read).transpose()?.flatten();
            (found.into_iter().collect(), path)
        }
    };
    let with = Reading { public: &public, instance, anchors: &found, receipts };
    let (mut report, chain) = verify(folder, &with)?;
    if let Some(path) = path.filter(|_| found.is_empty() && chain.seal.is_some() && report.broken.is_none()) {
        let why =
            "the anchor is missing, so that nothing shows whether lines were taken off the end".to_owned();
        let file = path.display().to_string();
        report.broken = Some(Broken { seq: chain.next, file, line: 1, why });
    }
    Ok(report)
}

/// The anchors of a file that somebody names, or of standard input (`-`); none = there is no such file.
fn named(path: &Path) -> io::Result<Vec<Anchor>> {
    let text = match path == Path::new("-") {
        true => io::read_to_string(io::stdin().lock())?,
        false => match std::fs::read_to_string(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read?,
        },
    };
    let of = || if path == Path::new("-") { "standard input".into() } else { path.to_string_lossy() };
    Anchor::all(&text).ok_or_else(|| wrong(format!("{} is no anchor of an audit trail", of())))
}

/// What a file says by which a trail is known; where it is missing, what lies there in its place.
fn text_of(folder: &Path, name: &str) -> io::Result<String> {
    let missing = |e: io::Error| {
        if e.kind() != io::ErrorKind::NotFound {
            return io::Error::new(e.kind(), format!("`{name}` cannot be read: {e}"));
        }
        let within = folder.join(super::FOLDER);
        wrong(if !folder.is_dir() {
            "there is no such folder".to_owned()
        } else if within.join(name).is_file() {
            format!("no audit trail lies here (there is no `{name}`); {} holds one", within.display())
        } else if name == PUBLIC_KEY {
            format!("`{name}` is missing; put it back, or name the key of the trail with --public-key")
        } else {
            format!("`{name}` is missing, which names the trail; put it back")
        })
    };
    std::fs::read_to_string(folder.join(name)).map_err(missing)
}

/// The public key that a line announces.
fn announced(line: &Value) -> Option<Vec<u8>> {
    let text = line.get("detail")?.get(PUBLIC)?.as_str()?;
    signing::unhex(text).filter(|key| key.len() == 32)
}

fn places(anchors: &[Anchor]) -> HashMap<u64, Vec<usize>> {
    let mut places: HashMap<u64, Vec<usize>> = HashMap::new();
    anchors.iter().enumerate().for_each(|(i, anchor)| places.entry(anchor.seq()).or_default().push(i));
    places
}

struct Walk<'a> {
    with: &'a Reading<'a>,
    chain: Chain,
    report: Report,
    /// Hashes of the lines that the anchors speak of, and the keys that were in force there.
    at_anchors: Vec<Option<(Hash, Vec<u8>)>>,
    /// Where anchors of a line stand among them: there may be one a minute, for years.
    places: HashMap<u64, Vec<usize>>,
    /// Where the trail ends.
    last: (String, u64),
}

impl Walk<'_> {
    fn file(&mut self, path: &Path) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
        let (mut text, mut number) = (Vec::new(), 0_u64);
        loop {
            text.clear();
            if reader.read_until(b'\n', &mut text)? == 0 {
                return Ok(());
            }
            number = number.saturating_add(1);
            self.last = (path.display().to_string(), number);
            if let Err(why) = self.next(&text) {
                self.breaks(self.chain.next, why);
                return Ok(());
            }
        }
    }

    fn breaks(&mut self, seq: u64, why: String) {
        let (file, line) = self.last.clone();
        self.report.broken = Some(Broken { seq, file, line, why });
    }

    fn next(&mut self, text: &[u8]) -> Result<(), String> {
        let text = text.strip_suffix(b"\n").ok_or("the line is cut off")?;
        let value: Value = serde_json::from_slice(text).map_err(|_| "it is no JSON".to_owned())?;
        let canonical = signing::canonical(&value);
        if canonical.as_bytes() != text {
            return Err("it is not written as this program writes it".to_owned());
        }
        let chain = &mut self.chain;
        if value.get("type").and_then(Value::as_str) == Some("seal") {
            let sealed = Sealed {
                seq: chain.next.saturating_sub(1),
                hash: chain.prev,
                count: chain.unsealed,
                prev: chain.prev_seal,
            };
            let hash = sealed.verify(CHAIN, &value, &chain.key)?;
            if chain.is_sealed(canonical, hash) {
                self.report.keys_changed = self.report.keys_changed.saturating_add(1);
            }
            self.report.seals = self.report.seals.saturating_add(1);
            return Ok(());
        }
        chain.prev = line::check(&value, CHAIN, chain.next, &chain.prev)?;
        for place in self.places.get(&chain.next).into_iter().flatten() {
            if let Some(at) = self.at_anchors.get_mut(*place) {
                *at = Some((chain.prev, chain.key.clone()));
            }
        }
        if self.with.receipts.iter().any(|r| r.seq == chain.next && r.hash != chain.prev) {
            return Err("it is another line than the receipt says".to_owned());
        }
        chain.next = chain.next.saturating_add(1);
        chain.unsealed = chain.unsealed.saturating_add(1);
        self.report.lines = self.report.lines.saturating_add(1);
        match value.get("action").and_then(Value::as_str) {
            Some(GAP) => self.report.gaps = self.report.gaps.saturating_add(1),
            Some(NEW_KEY) => chain.announced = Some(announced(&value).ok_or("it announces no public key")?),
            _ => {}
        }
        Ok(())
    }

    /// What breaks the chain itself is told first.
    fn hold_against_anchors(&mut self) {
        for (i, (anchor, at)) in self.with.anchors.iter().zip(self.at_anchors.clone()).enumerate() {
            if self.report.broken.is_some() {
                return;
            }
            let (at, key) = at.map_or((None, self.chain.key.clone()), |(hash, key)| (Some(hash), key));
            match anchor.differs(self.with.instance, &key, at) {
                None => self.report.anchored = self.report.anchored.max(Some(anchor.seq())),
                Some(why) => {
                    self.report.by_anchor = Some(i);
                    self.breaks(self.chain.next.min(anchor.seq()), why);
                }
            }
        }
    }
}
