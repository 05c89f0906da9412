//! How a trail is continued: what is there must hold, and what is missing is said.

use super::anchor::{self, Anchor};
use super::tail::Tail;
use super::verify::{self, Chain, Reading};
use super::writer::Writer;
use super::{Event, FOLDER, folder};
use ring::signature::KeyPair as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Writer {
    /// Opens the trail of a data directory to write on. `elsewhere` is a file to which its anchor is written besides.
    ///
    /// # Errors
    /// The folder cannot be used; or the trail is broken, or shorter than it was.
    pub(super) fn open(data: &Path, boot: String, elsewhere: Option<&Path>) -> io::Result<Writer> {
        let folder = data.join(FOLDER);
        std::fs::create_dir_all(&folder)?;
        let key = folder::signing_key(&folder)?;
        let instance = folder::instance(&folder)?;
        let cut_bytes = folder::cut_tail(&folder)?;
        let anchors: Vec<PathBuf> =
            std::iter::once(anchor::path_in(data)).chain(elsewhere.map(Path::to_owned)).collect();
        let chain = intact(&folder, &instance, key.public_key().as_ref(), &anchors)?;
        let anchored = anchor::path_in(data).exists();
        let (file, lost) = (Tail::of(folder::current(&folder)?)?, Arc::default());
        let mut writer = Writer { file, folder, instance, anchors, key, chain, boot, lost };
        if cut_bytes > 0 {
            writer.line(&Event::gap("cut_bytes", cut_bytes))?;
        }
        if writer.chain.seal.is_some() && !anchored {
            // Whether lines are missing before this one nobody can tell.
            writer.line(&Event::gap("anchor", "missing"))?;
        }
        writer.seal()?;
        // After a kill between a seal and its anchor, or where a second anchor is new.
        writer.anchor()?;
        Ok(writer)
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
