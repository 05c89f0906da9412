//! How a trail is continued: what is there must hold, and what is missing is said.

use super::super::secret::write_private;
use super::anchor::{self, Anchor};
use super::folder::{INSTANCE, PUBLIC_KEY, wrong};
use super::tail::Tail;
use super::verify::{self, Chain, Reading, Report};
use super::writer::Writer;
use super::{Event, FOLDER, folder, keys};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use types::encoding::hex;

/// What a trail is known by.
struct Identity {
    instance: String,
    /// The public key that it began with.
    public: Vec<u8>,
    /// The key that sealed it when the server ended.
    key: Ed25519KeyPair,
    /// One that was announced, or was about to be.
    next: Option<Ed25519KeyPair>,
}

impl Writer {
    /// Opens the trail of a data directory to write on. `elsewhere` is a file to which its anchor is written besides.
    ///
    /// # Errors
    /// The folder cannot be used; or the trail is broken, or shorter than it was, or what it is known by is gone.
    pub(super) fn open(data: &Path, boot: String, elsewhere: Option<&Path>) -> io::Result<Writer> {
        let folder = data.join(FOLDER);
        std::fs::create_dir_all(&folder)?;
        keys::take_out(data, &folder)?;
        let anchors: Vec<PathBuf> =
            std::iter::once(anchor::path_in(data)).chain(elsewhere.map(Path::to_owned)).collect();
        let begun = folder::is_begun(&folder)?;
        let identity = match begun {
            true => Identity::of(data, &folder)?,
            false => Identity::begun(data, &folder, &anchors)?,
        };
        let cut_bytes = folder::cut_tail(&folder)?;
        let chain = intact(&folder, &identity, &anchors)?;
        let Identity { instance, key, next, .. } = identity;
        let (key, next) = in_force(data, &chain, (key, next))?;
        let anchored = anchor::path_in(data).exists();
        let (file, lost) = (Tail::of(folder::current(&folder)?)?, Arc::default());
        let data = data.to_owned();
        let mut writer = Writer {
            data,
            file,
            folder,
            instance,
            anchors,
            key,
            next,
            changed: false,
            ends_file: false,
            chain,
            boot,
            lost,
            newest: watch::Sender::new(None),
        };
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

impl Identity {
    /// That of a trail which has lines. Nothing of it is made anew: what sealed those lines would be lost for good.
    fn of(data: &Path, folder: &Path) -> io::Result<Identity> {
        let missing = |path: PathBuf| {
            let anchor = anchor::path_in(data);
            wrong(format!(
                "the audit trail has lines, and {} is missing, without which it cannot be continued; put it back, or move {} and {} \
                 away, keeping them for whoever verifies what was, and begin another trail",
                path.display(),
                folder.display(),
                anchor.display()
            ))
        };
        let instance = folder::instance(folder)?.ok_or_else(|| missing(folder.join(INSTANCE)))?;
        let public = folder::public_key(folder)?.ok_or_else(|| missing(folder.join(PUBLIC_KEY)))?;
        let next = keys::next(data)?;
        let key = keys::present(data)?.ok_or_else(|| missing(keys::path(data)))?;
        Ok(Identity { instance, public, key, next })
    }

    /// That of a trail which begins, kept where it is not yet. Where an anchor speaks of another trail, nothing is written.
    fn begun(data: &Path, folder: &Path, anchors: &[PathBuf]) -> io::Result<Identity> {
        let (known, kept) = (folder::instance(folder)?, folder::public_key(folder)?);
        let instance = known.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let (key, made) = match keys::present(data)? {
            Some(key) => (key, None),
            None => {
                let made = keys::make()?;
                (made.pair()?, Some(made))
            }
        };
        let public = kept.clone().unwrap_or_else(|| key.public_key().as_ref().to_vec());
        let identity = Identity { instance, public, key, next: None };
        intact(folder, &identity, anchors)?;
        if !keys::is(&identity.key, &identity.public) {
            let path = folder.join(PUBLIC_KEY);
            return Err(wrong(format!(
                "{} is not that of the signing key {}; put that one back, or move the folder away and begin another trail",
                path.display(),
                keys::path(data).display()
            )));
        }
        keys::forget_next(data)?;
        if let Some(made) = made {
            made.keep(data)?;
        }
        if known.is_none() {
            write_private(&folder.join(INSTANCE), format!("{}\n", identity.instance).as_bytes())?;
        }
        if kept.is_none() {
            write_private(&folder.join(PUBLIC_KEY), format!("{}\n", hex(&identity.public)).as_bytes())?;
        }
        Ok(identity)
    }
}

/// The key that seals from now on, and the one that is announced and still has to be sealed. A process that ended while it
/// changed keys has left both.
fn in_force(
    data: &Path,
    chain: &Chain,
    (key, next): (Ed25519KeyPair, Option<Ed25519KeyPair>),
) -> io::Result<(Ed25519KeyPair, Option<Ed25519KeyPair>)> {
    let (key, next) = match next {
        Some(next) if keys::is(&next, &chain.key) && !keys::is(&key, &chain.key) => {
            keys::adopt(data)?;
            (next, None)
        }
        next => (key, next),
    };
    let other = |what: &str| {
        wrong(format!("{} is not the key that {what}; put that one back", keys::path(data).display()))
    };
    if !keys::is(&key, &chain.key) {
        return Err(other("the audit trail is sealed with"));
    }
    match &chain.announced {
        None => {
            keys::forget_next(data)?;
            Ok((key, None))
        }
        Some(public) => {
            let next = next.filter(|next| keys::is(next, public));
            Ok((key, Some(next.ok_or_else(|| other("the audit trail announces"))?)))
        }
    }
}

/// The chain of a trail that holds, by itself and against every anchor that is there. What stands in files before the last
/// one was checked when that one was begun, and the seal before it vouches for it: `turnout audit verify` reads it all.
fn intact(folder: &Path, identity: &Identity, paths: &[PathBuf]) -> io::Result<Chain> {
    let (mut anchors, mut from) = (Vec::new(), Vec::new());
    for path in paths {
        if let Some(anchor) = Anchor::read(path)? {
            anchors.push(anchor);
            from.push(path);
        }
    }
    let Identity { instance, public, key, .. } = identity;
    let with = Reading { public, instance, anchors: &anchors, receipts: &[] };
    if let Some((report, chain)) = verify::verify_last(folder, &with, key.public_key().as_ref())?
        && report.broken.is_none()
    {
        return Ok(chain);
    }
    // Where that does not do, the whole of it says what is wrong.
    let (report, chain): (Report, Chain) = verify::verify(folder, &with)?;
    let Some(b) = report.broken else { return Ok(chain) };
    let hint = report.by_anchor.and_then(|i| from.get(i)).map_or(String::new(), |path| {
        let path = path.display();
        format!("; put back what is missing, or remove {path} to go on without it, which the trail will say")
    });
    let text = format!("the audit trail is broken at line {} of {}: {}{hint}", b.line, b.file, b.why);
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}
