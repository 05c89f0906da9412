//! What stands in a folder of the configuration.
//!
//! Only what is not there at all is absent. A link to nothing, a folder in the place of a file and whatever else is
//! there and cannot be read is an error: nobody would miss the rules in it before they are needed.

use super::sources::RULES;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use types::doc;

/// Something that is there and cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be read: {why}", path.display())]
pub(crate) struct Unreadable {
    pub(super) path: PathBuf,
    pub(super) why: Why,
}

/// Why something that is there cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Why {
    /// A link to nothing.
    #[error("it is a link to {}, and nothing is there", .0.display())]
    Dangling(PathBuf),
    /// A folder, where a file is expected.
    #[error("it is a folder, and a file is expected")]
    Folder,
    /// A pipe, a device: what has no text that stays.
    #[error("it is no file")]
    NoFile,
    /// Bytes that are no text.
    #[error("it is not UTF-8: the byte {byte:#04x} is part of no character")]
    NotUtf8 {
        /// Where it stands, counted from 1, in lines and in characters.
        line: usize,
        column: usize,
        byte: u8,
    },
    /// More bytes than a file of its kind may have: so many.
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
    /// A name that cannot be written down.
    #[error("its name is not UTF-8")]
    Name,
    /// Whatever else the system says.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl Why {
    /// What to do about it.
    pub(super) const fn hint(&self) -> Option<&'static str> {
        match self {
            Why::Dangling(_) => Some("put back what it leads to, or remove the link"),
            Why::Folder => Some("a mount of a file that does not exist leaves a folder of its name"),
            Why::Name => Some("rename it"),
            Why::NotUtf8 { .. } => Some("save it as UTF-8"),
            Why::NoFile | Why::TooLarge(_) | Why::System(_) => None,
        }
    }
}

/// Whether a file of that name is read; editors leave others behind.
pub(super) fn is_text(name: &str, extension: &str) -> bool {
    let (stem, found) = name.rsplit_once('.').unwrap_or((name, ""));
    let fits = found == extension || extension == "yaml" && found == "yml";
    fits && !stem.is_empty() && !name.starts_with('.')
}

/// Everything in a folder, by name; nothing where there is no such folder.
///
/// # Errors
/// It is there and cannot be listed.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, Unreadable> {
    let entries = || fs::read_dir(folder)?.map(|e| Ok(e?.path())).collect();
    let mut all: Vec<PathBuf> = unless_absent(folder, entries())?.unwrap_or_default();
    all.sort();
    Ok(all)
}

/// What in a folder is named as a text of that kind is, by name. Whether each can be read is found when it is.
///
/// # Errors
/// As for [`list`].
pub(crate) fn texts(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, Unreadable> {
    let mut all = list(folder)?;
    all.retain(|p| p.file_name().is_some_and(|name| is_text(&name.to_string_lossy(), extension)));
    Ok(all)
}

/// The text of a file; `None` = there is none of that name.
///
/// # Errors
/// It is there and cannot be read.
pub(super) fn text(path: &Path) -> Result<Option<String>, Unreadable> {
    let Some(about) = unless_absent(path, fs::metadata(path))? else { return Ok(None) };
    let most = if path.ends_with(RULES) { doc::MAX_BYTES_OF_RULES } else { doc::MAX_BYTES };
    let why = match () {
        () if about.is_dir() => Why::Folder,
        // To open a pipe is to wait for who writes into it.
        () if !about.is_file() => Why::NoFile,
        () if path.file_name().is_none_or(|name| name.to_str().is_none()) => Why::Name,
        () if about.len() > most as u64 => Why::TooLarge(most),
        () => match unless_absent(path, fs::read(path))?.map(decoded) {
            None => return Ok(None),
            Some(Ok(text)) => return Ok(Some(text)),
            Some(Err(why)) => why,
        },
    };
    Err(Unreadable { path: path.to_owned(), why })
}

/// The text that bytes are.
fn decoded(bytes: Vec<u8>) -> Result<String, Why> {
    String::from_utf8(bytes).map_err(|e| {
        let (good, rest) = e.as_bytes().split_at(e.utf8_error().valid_up_to());
        let good = String::from_utf8_lossy(good);
        let last = good.rsplit('\n').next().unwrap_or_default();
        Why::NotUtf8 {
            line: good.matches('\n').count().saturating_add(1),
            column: last.chars().count().saturating_add(1),
            byte: rest.first().copied().unwrap_or_default(),
        }
    })
}

/// `None` where something failed because there is nothing of that name, nor a link of it.
fn unless_absent<T>(path: &Path, done: io::Result<T>) -> Result<Option<T>, Unreadable> {
    let failed = match done {
        Ok(done) => return Ok(Some(done)),
        Err(failed) => failed,
    };
    let why = match fs::symlink_metadata(path) {
        Ok(about) if about.is_symlink() && failed.kind() == io::ErrorKind::NotFound => {
            fs::read_link(path).map_or(Why::System(failed), Why::Dangling)
        }
        Ok(_) => failed.into(),
        // Of a file in the place of the folder around it that folder tells.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => e.into(),
    };
    Err(Unreadable { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let said = |name: &str| match text(&at(name)) {
            Ok(found) => found,
            Err(why) => Some(format!("! {why}")),
        };
        fs::write(at("real.yaml"), "a: 1\n").unwrap();
        fs::write(at("latin.yaml"), b"a: 1\n\xc3\xa9: \xe9\n").unwrap();
        let why = text(&at("latin.yaml")).unwrap_err().why;
        assert!(matches!(why, Why::NotUtf8 { line: 2, column: 4, byte: 0xe9 }), "{why:?}");
        fs::create_dir(at("folder.yaml")).unwrap();
        for (link, to) in [
            ("good.yaml", "real.yaml"),
            ("gone.yaml", "not/there.yaml"),
            ("round.yaml", "round.yaml"),
            ("device.yaml", "/dev/null"),
        ] {
            std::os::unix::fs::symlink(to, at(link)).unwrap();
        }
        assert_eq!(said("good.yaml").as_deref(), Some("a: 1\n"));
        assert_eq!(said("absent.yaml"), None);
        assert_eq!(said("real.yaml/below.yaml"), None, "the folder around it tells");
        for (name, why) in [
            ("gone.yaml", "a link to not/there.yaml"),
            ("round.yaml", "symbolic links"),
            ("folder.yaml", "it is a folder"),
            ("device.yaml", "it is no file"),
        ] {
            let said = said(name).unwrap_or_default();
            assert!(said.starts_with('!') && said.contains(why), "{name}: {said}");
        }
        let names: Vec<_> = texts(dir.path(), "yaml").unwrap();
        assert_eq!(names.len(), 7, "{names:?}");
        assert_eq!(list(&at("absent")).unwrap(), Vec::<PathBuf>::new());
        assert!(list(&at("gone.yaml")).is_err() && list(&at("real.yaml")).is_err());
    }
}
