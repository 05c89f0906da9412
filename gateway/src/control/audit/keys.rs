//! The private keys of the audit trail, in the data folder beside that of the trail: the one that seals, and while it is
//! changed the next one.

use super::super::secret::write_private;
use super::folder::{there, wrong};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The key that seals are signed with.
const KEY: &str = "audit.key";
/// The key that is announced, until the trail says that it seals.
const NEXT: &str = "audit.key.next";

/// Where the key that seals lay in the folder of the trail itself.
const BESIDE_LINES: &str = "signing.key";

/// Takes a key out of the folder of the trail, which people copy and hand on.
///
/// # Errors
/// The disk refuses.
pub(super) fn take_out(data: &Path, folder: &Path) -> io::Result<()> {
    let (from, to) = (folder.join(BESIDE_LINES), data.join(KEY));
    let Some(document) = there(std::fs::read(&from))?.map(Zeroizing::new) else { return Ok(()) };
    match there(std::fs::read(&to))?.map(Zeroizing::new) {
        None => write_private(&to, &document)?,
        Some(kept) if kept == document => {}
        Some(_) => {
            let text = "is another key than the one beside the lines of the trail; move one of the two away";
            return Err(wrong(format!("{} {text}", to.display())));
        }
    }
    std::fs::remove_file(from)
}

/// A key that was just made.
pub(super) struct Made {
    document: Zeroizing<Vec<u8>>,
}

/// A new key.
///
/// # Errors
/// The system gives no random bytes.
pub(super) fn make() -> io::Result<Made> {
    let away = || io::Error::other("the system gives no random bytes");
    let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| away())?;
    Ok(Made { document: Zeroizing::new(made.as_ref().to_vec()) })
}

impl Made {
    /// The key itself.
    ///
    /// # Errors
    /// It is none, which cannot be.
    pub(super) fn pair(&self) -> io::Result<Ed25519KeyPair> {
        Ed25519KeyPair::from_pkcs8(&self.document)
            .map_err(|_| io::Error::other("a key that was just made is none"))
    }

    /// Keeps it as the key that seals.
    pub(super) fn keep(&self, data: &Path) -> io::Result<()> {
        write_private(&data.join(KEY), &self.document)
    }

    /// Keeps it as the next one.
    pub(super) fn keep_next(&self, data: &Path) -> io::Result<()> {
        write_private(&data.join(NEXT), &self.document)
    }
}

/// Where the key that seals lies.
pub(super) fn path(data: &Path) -> PathBuf {
    data.join(KEY)
}

/// The key that seals; `None` = there is none.
pub(super) fn present(data: &Path) -> io::Result<Option<Ed25519KeyPair>> {
    read(&data.join(KEY))
}

/// The next one; `None` = there is none.
pub(super) fn next(data: &Path) -> io::Result<Option<Ed25519KeyPair>> {
    read(&data.join(NEXT))
}

/// Makes the next key the one that seals. The one before it is gone.
pub(super) fn adopt(data: &Path) -> io::Result<()> {
    std::fs::rename(data.join(NEXT), data.join(KEY))
}

/// Removes a next key that nothing announces.
pub(super) fn forget_next(data: &Path) -> io::Result<()> {
    there(std::fs::remove_file(data.join(NEXT))).map(drop)
}

/// Whether a key has this public half.
pub(super) fn is(key: &Ed25519KeyPair, public: &[u8]) -> bool {
    key.public_key().as_ref() == public
}

fn read(path: &Path) -> io::Result<Option<Ed25519KeyPair>> {
    let Some(document) = there(std::fs::read(path))?.map(Zeroizing::new) else { return Ok(None) };
    let key = Ed25519KeyPair::from_pkcs8(&document);
    key.map(Some).map_err(|_| wrong(format!("{} is no signing key", path.display())))
}
