//! The folder of the audit trail: its files of lines, its keys, its name.

use super::super::secret::write_private;
use super::CHAIN;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

const SIGNING_KEY: &str = "signing.key";
/// The public key in hexadecimal, for verifying elsewhere.
pub(super) const PUBLIC_KEY: &str = "public.key";
pub(super) const INSTANCE: &str = "instance";

/// Files of the trail, in order.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|f| Some(f.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    all.sort();
    Ok(all)
}

/// The file of that number, from 1.
pub(super) fn name(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{CHAIN}-{number:06}.jsonl"))
}

/// The file that is written to.
pub(super) fn current(folder: &Path) -> io::Result<File> {
    append_to(&files(folder)?.pop().unwrap_or_else(|| name(folder, 1)))
}

/// A file of the trail, made where it is not there.
pub(super) fn append_to(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Removes what a kill left of a line at the very end: it was never acknowledged. Gives how many bytes.
pub(super) fn cut_tail(folder: &Path) -> io::Result<u64> {
    let Some(last) = files(folder)?.pop() else { return Ok(0) };
    let bytes = std::fs::read(&last)?;
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at.saturating_add(1));
    let cut = bytes.len().saturating_sub(whole);
    if cut > 0 {
        OpenOptions::new().write(true).open(&last)?.set_len(whole as u64)?;
    }
    Ok(cut as u64)
}

/// The key that seals are signed with, made where there is none; its public half is written beside it.
pub(super) fn signing_key(folder: &Path) -> io::Result<Ed25519KeyPair> {
    let path = folder.join(SIGNING_KEY);
    let wrong =
        |_| io::Error::new(io::ErrorKind::InvalidData, format!("{} is no signing key", path.display()));
    if !path.exists() {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| io::Error::other("the system gives no random bytes"))?;
        write_private(&path, made.as_ref())?;
    }
    let key = Ed25519KeyPair::from_pkcs8(&std::fs::read(&path)?).map_err(wrong)?;
    let public = format!("{}\n", types::encoding::hex(key.public_key().as_ref()));
    let path = folder.join(PUBLIC_KEY);
    if std::fs::read_to_string(&path).ok().as_deref() != Some(&public) {
        std::fs::write(path, public)?;
    }
    Ok(key)
}

/// Names the trail, from its first line on.
pub(super) fn instance(folder: &Path) -> io::Result<String> {
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
