//! The audit trail: every change of the control plane and every refused request, chained and signed.
//!
//! One thread writes; a change waits until its line is on the disk, a refused request does not wait: what does not
//! fit into the queue is counted and becomes a line of its own.

pub(crate) mod anchor;
pub(crate) mod line;
pub(crate) mod verify;

use super::secret::write_private;
use crate::signing;
use anchor::Anchor;
use line::Sealed;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use verify::{Chain, Reading};

/// Name of the chain.
pub(crate) const CHAIN: &str = "admin";
/// The action of a line that says that something is missing before it.
const GAP: &str = "audit.gap";
/// Folder within the data directory.
pub(crate) const FOLDER: &str = "audit";
const SIGNING_KEY: &str = "signing.key";
/// The public key in hexadecimal, for verifying elsewhere.
pub(crate) const PUBLIC_KEY: &str = "public.key";
pub(crate) const INSTANCE: &str = "instance";
/// A new file is begun beyond this size, bytes.
const FILE_BYTES: u64 = 64 << 20;
/// A seal follows so many lines.
const SEAL_LINES: u64 = 1_000;
/// A seal follows the first unsealed line after this time.
const SEAL_AFTER: Duration = Duration::from_secs(60);
/// Lines that may wait.
const QUEUE: usize = 4_096;

/// Something that happened. `before` and `after` are hashes; what was said stays out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Event {
    pub(crate) actor_kind: &'static str,
    pub(crate) actor: String,
    pub(crate) action: &'static str,
    pub(crate) target: String,
    pub(crate) tenant: String,
    pub(crate) request: String,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    /// Strings and integers only.
    pub(crate) detail: Map<String, Value>,
}

enum Job {
    /// Written and on the disk before it is answered.
    Sync(Box<Event>, oneshot::Sender<io::Result<u64>>),
    Later(Box<Event>),
}

/// The trail of one data directory.
pub(crate) struct Audit {
    jobs: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    lost: Arc<AtomicU64>,
}

impl Audit {
    /// Opens the trail, checks that what is there holds, and continues it. `elsewhere` is a file to which its anchor
    /// is written besides.
    ///
    /// # Errors
    /// The folder cannot be used; or the trail is broken, or shorter than it was: it is not continued as if it were not.
    pub(crate) fn open(data: &Path, boot: String, elsewhere: Option<&Path>) -> io::Result<Audit> {
        Audit::open_sealing_after(data, boot, elsewhere, SEAL_AFTER)
    }

    fn open_sealing_after(
        data: &Path,
        boot: String,
        elsewhere: Option<&Path>,
        seal_after: Duration,
    ) -> io::Result<Audit> {
        let folder = data.join(FOLDER);
        std::fs::create_dir_all(&folder)?;
        let key = signing_key(&folder)?;
        let instance = instance(&folder)?;
        let lost_bytes = cut_tail(&folder)?;
        let anchors: Vec<PathBuf> =
            std::iter::once(anchor::path_in(data)).chain(elsewhere.map(Path::to_owned)).collect();
        let chain = intact(&folder, &instance, key.public_key().as_ref(), &anchors)?;
        let anchored = anchor::path_in(data).exists();
        let (file, lost) = (current(&folder)?, Arc::default());
        let mut writer = Writer { file, folder, instance, anchors, key, chain, boot, lost };
        if lost_bytes > 0 {
            let mut gap = Event { actor_kind: "system", action: GAP, ..Event::default() };
            gap.detail.insert("cut_bytes".to_owned(), lost_bytes.into());
            writer.line(&gap)?;
        }
        if writer.chain.seal.is_some() && !anchored {
            // Whether lines are missing before this one nobody can tell.
            let mut gap = Event { actor_kind: "system", action: GAP, ..Event::default() };
            gap.detail.insert("anchor".to_owned(), "missing".into());
            writer.line(&gap)?;
        }
        writer.seal()?;
        // After a kill between a seal and its anchor, or where a second anchor is new.
        writer.anchor()?;
        let lost = writer.lost.clone();
        let (jobs, queue) = mpsc::sync_channel(QUEUE);
        let thread =
            thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&queue, seal_after))?;
        Ok(Audit { jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)), lost })
    }

    /// Writes a line; it is on the disk when this returns. Gives its number.
    ///
    /// # Errors
    /// It is not: what it is about must not happen.
    pub(crate) async fn record(&self, event: Event) -> io::Result<u64> {
        let (tell, answer) = oneshot::channel();
        let away = || io::Error::other("the audit trail cannot be written");
        {
            let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let jobs = jobs.as_ref().ok_or_else(away)?;
            jobs.try_send(Job::Sync(Box::new(event), tell)).map_err(|_| away())?;
        }
        answer.await.unwrap_or_else(|_| Err(away()))
    }

    /// Writes a line soon. What does not fit is counted, and the count becomes a line.
    pub(crate) fn note(&self, event: Event) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = jobs.as_ref().map(|j| j.try_send(Job::Later(Box::new(event))));
        if !matches!(sent, Some(Ok(()))) {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("the thread of the audit trail had panicked");
        }
    }
}

/// The chain of a trail that holds, by itself and against every anchor that is there.
fn intact(folder: &Path, instance: &str, public: &[u8], paths: &[PathBuf]) -> io::Result<Chain> {
    let (mut anchors, mut from) = (Vec::new(), Vec::new());
    for path in paths {
        if let Some(anchor) = Anchor::read(path)? {
            anchors.push(anchor);
            from.push(path);
        }
    }
    let (report, chain) = verify::verify(folder, &Reading { public, instance, anchors: &anchors })?;
    let Some(b) = report.broken else { return Ok(chain) };
    let hint = report.by_anchor.and_then(|i| from.get(i)).map_or(String::new(), |path| {
        let path = path.display();
        format!("; put back what is missing, or remove {path} to go on without it, which the trail will say")
    });
    let text = format!("the audit trail is broken at line {} of {}: {}{hint}", b.line, b.file, b.why);
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

struct Writer {
    folder: PathBuf,
    instance: String,
    /// Files that tell how far the trail went.
    anchors: Vec<PathBuf>,
    file: File,
    key: Ed25519KeyPair,
    chain: Chain,
    /// Identifies the process.
    boot: String,
    lost: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, queue: &mpsc::Receiver<Job>, seal_after: Duration) {
        // When the first line without a seal gets one, however many follow it.
        let mut due: Option<Instant> = None;
        loop {
            let wait = due.map_or(seal_after, |d| d.saturating_duration_since(Instant::now()));
            let received = queue.recv_timeout(wait);
            match received {
                Ok(job) => {
                    let mut waiting: Vec<_> = self.take(job).into_iter().collect();
                    while let Ok(job) = queue.try_recv() {
                        waiting.extend(self.take(job));
                    }
                    self.commit(waiting);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.report(Self::seal);
                    return;
                }
            }
            if due.is_some_and(|d| Instant::now() >= d) {
                self.report(Self::seal);
                // One that failed is tried again when as much time has passed once more.
                due = None;
            }
            due = match self.chain.unsealed {
                0 => None,
                _ => due.or_else(|| Some(Instant::now() + seal_after)),
            };
        }
    }

    /// Whether it could be done.
    fn report(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> bool {
        work(self).inspect_err(|e| tracing::error!(error = %e, "the audit trail cannot be written")).is_ok()
    }

    /// Writes one line; who waits for it is told after the sync.
    fn take(&mut self, job: Job) -> Option<(oneshot::Sender<io::Result<u64>>, io::Result<u64>)> {
        let lost = self.lost.swap(0, Relaxed);
        if lost > 0 {
            let mut gap = Event { actor_kind: "system", action: GAP, ..Event::default() };
            gap.detail.insert("lost_lines".to_owned(), lost.into());
            if !self.report(|w| w.line(&gap).map(drop)) {
                // The gap is told when there is room again, and is as long as it was.
                self.lost.fetch_add(lost, Relaxed);
            }
        }
        match job {
            Job::Later(event) => {
                if !self.report(|w| w.line(&event).map(drop)) {
                    self.lost.fetch_add(1, Relaxed);
                }
                None
            }
            Job::Sync(event, tell) => {
                let written = self.line(&event);
                Some((tell, written))
            }
        }
    }

    fn commit(
        &mut self,
        waiting: impl IntoIterator<Item = (oneshot::Sender<io::Result<u64>>, io::Result<u64>)>,
    ) {
        if self.chain.unsealed >= SEAL_LINES {
            self.report(Self::seal);
        }
        let synced = self.file.sync_data();
        for (tell, written) in waiting {
            let answer = match &synced {
                Ok(()) => written,
                Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
            };
            // Nobody may be waiting any more.
            tell.send(answer).ok();
        }
    }

    fn line(&mut self, e: &Event) -> io::Result<u64> {
        let seq = self.chain.next;
        let members = json!({
            "ts": timestamp(), "boot": self.boot, "actor": {"kind": e.actor_kind, "id": e.actor},
            "action": e.action, "target": e.target, "tenant": e.tenant, "request": e.request,
            "before": e.before, "after": e.after, "detail": e.detail,
        });
        let Value::Object(members) = members else { return Err(io::Error::other("a line is an object")) };
        let (text, hash) = line::chained(members, CHAIN, seq, &self.chain.prev);
        self.append(&text)?;
        self.chain.next = seq.saturating_add(1);
        self.chain.prev = hash;
        self.chain.unsealed = self.chain.unsealed.saturating_add(1);
        Ok(seq)
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        let before = self.file.metadata()?.len();
        let written = self.file.write_all(format!("{text}\n").as_bytes());
        if written.is_err() {
            // Half a line would break the chain for good.
            self.file.set_len(before)?;
        }
        written
    }

    /// Signs what was written since the last seal, and begins a new file where one has grown large.
    fn seal(&mut self) -> io::Result<()> {
        if self.chain.unsealed == 0 {
            return Ok(());
        }
        let sealed = Sealed {
            seq: self.chain.next.saturating_sub(1),
            hash: self.chain.prev,
            count: self.chain.unsealed,
            prev: self.chain.prev_seal,
        };
        let (text, hash) = sealed.sign(CHAIN, &self.key);
        self.append(&text)?;
        self.file.sync_data()?;
        self.chain.prev_seal = hash;
        self.chain.unsealed = 0;
        self.chain.seal = Some(text);
        self.anchor()?;
        if self.file.metadata()?.len() > FILE_BYTES {
            let number = files(&self.folder)?.len().saturating_add(1);
            self.file = append_to(&name(&self.folder, number))?;
        }
        Ok(())
    }

    /// Writes down how far the trail is sealed, wherever that is kept.
    fn anchor(&self) -> io::Result<()> {
        let Some(seal) = &self.chain.seal else { return Ok(()) };
        self.anchors.iter().try_for_each(|path| anchor::write(path, &self.instance, seal))
    }
}

/// Files of the trail, in order.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|f| Some(f.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    all.sort();
    Ok(all)
}

fn name(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{CHAIN}-{number:06}.jsonl"))
}

fn current(folder: &Path) -> io::Result<File> {
    append_to(&files(folder)?.pop().unwrap_or_else(|| name(folder, 1)))
}

fn append_to(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Removes what a kill left of a line at the very end: it was never acknowledged. Gives how many bytes.
fn cut_tail(folder: &Path) -> io::Result<u64> {
    let Some(last) = files(folder)?.pop() else { return Ok(0) };
    let bytes = std::fs::read(&last)?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at.saturating_add(1));
    let cut = bytes.len().saturating_sub(whole);
    if cut > 0 {
        OpenOptions::new().write(true).open(&last)?.set_len(whole as u64)?;
    }
    Ok(cut as u64)
}

fn signing_key(folder: &Path) -> io::Result<Ed25519KeyPair> {
    let path = folder.join(SIGNING_KEY);
    let wrong =
        |_| io::Error::new(io::ErrorKind::InvalidData, format!("{} is no signing key", path.display()));
    if !path.exists() {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| io::Error::other("the system gives no random bytes"))?;
        write_private(&path, made.as_ref())?;
    }
    let key = Ed25519KeyPair::from_pkcs8(&std::fs::read(&path)?).map_err(wrong)?;
    let public = format!("{}\n", signing::hex(key.public_key().as_ref()));
    let path = folder.join(PUBLIC_KEY);
    if std::fs::read_to_string(&path).ok().as_deref() != Some(&public) {
        std::fs::write(path, public)?;
    }
    Ok(key)
}

fn instance(folder: &Path) -> io::Result<String> {
    let path = folder.join(INSTANCE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let id = uuid::Uuid::now_v7().to_string();
            std::fs::write(path, format!("{id}\n"))?;
            Ok(id)
        }
        Err(e) => Err(e),
    }
}

fn timestamp() -> String {
    let ms = crate::clock::unix_ms();
    let (year, month, day) = types::calendar::date(ms.div_euclid(86_400_000));
    let of_day = ms.rem_euclid(86_400_000);
    let (h, m, s, ms) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{ms:03}Z")
}

/// Verifies the trail in a data directory, or one copied elsewhere: `public` replaces the key that lies there, `anchor`
/// the anchor that lies beside a data directory's trail and must be there once the trail has a seal.
///
/// # Errors
/// The files cannot be read, or there is no trail.
pub(crate) fn verify_folder(
    folder: &Path,
    public: Option<&str>,
    anchor: Option<&Path>,
) -> io::Result<verify::Report> {
    let text = match public {
        Some(p) => p.to_owned(),
        None => std::fs::read_to_string(folder.join(PUBLIC_KEY))?,
    };
    let public = signing::unhex(text.trim())
        .ok_or_else(|| io::Error::other("the public key is no hexadecimal text"))?;
    let instance = std::fs::read_to_string(folder.join(INSTANCE))?;
    let instance = instance.trim();
    let path = anchor.map(Path::to_owned).or_else(|| anchor::beside(folder));
    let found: Vec<Anchor> = path.as_deref().map(Anchor::read).transpose()?.flatten().into_iter().collect();
    let with = Reading { public: &public, instance, anchors: &found };
    let (mut report, chain) = verify::verify(folder, &with)?;
    if let Some(path) = path.filter(|_| found.is_empty() && chain.seal.is_some() && report.broken.is_none()) {
        let why =
            "the anchor is missing, so that nothing shows whether lines were taken off the end".to_owned();
        let file = path.display().to_string();
        report.broken = Some(verify::Broken { seq: chain.next, file, line: 1, why });
    }
    Ok(report)
}

/// The first lines after a number or, without one, the newest; seals left out.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn read(folder: &Path, after: Option<u64>, limit: usize) -> io::Result<Vec<Value>> {
    use std::io::{BufRead as _, BufReader};
    let mut found = VecDeque::new();
    for path in files(folder)? {
        for text in BufReader::new(File::open(path)?).lines() {
            let Ok(line) = serde_json::from_str::<Value>(&text?) else { continue };
            let seq = line.get("seq").and_then(Value::as_u64).unwrap_or(0);
            if line.get("type").is_some() || after.is_some_and(|a| seq <= a) {
                continue;
            }
            match after {
                Some(_) if found.len() >= limit => return Ok(found.into()),
                None if found.len() >= limit => drop(found.pop_front()),
                _ => {}
            }
            found.push_back(line);
            found.truncate(limit);
        }
    }
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(
            verify_folder(&folder, Some(&"ab".repeat(32)), None).unwrap().broken.is_some(),
            "another key"
        );
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
}
