//! The newest seal, kept beside the trail: what shows that lines were taken off its end, or that all of it is gone.

use super::super::secret::create_private;
use super::line::{Hash, Sealed, key_id};
use super::{CHAIN, FOLDER};
use crate::signing;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Its file, in the data folder and not in that of the trail.
const FILE: &str = "audit.anchor";

/// The file of the anchor that lies in a data folder.
pub(crate) fn path_in(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// The file of the anchor of a trail that lies in its data folder.
pub(crate) fn beside(folder: &Path) -> Option<PathBuf> {
    let usual = folder.file_name().is_some_and(|name| name == FOLDER);
    folder.parent().filter(|_| usual).map(path_in)
}

/// How far a trail went when it was last sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    instance: String,
    sealed: Sealed,
    seal: Value,
}

impl Anchor {
    /// The number of the last line that it covers.
    pub(crate) fn seq(&self) -> u64 {
        self.sealed.seq
    }

    /// Those that a text holds, one or several of them: as they are written to files, and as they are told to
    /// `audit.anchor_url`. `None` = it is something else.
    pub(crate) fn all(text: &str) -> Option<Vec<Anchor>> {
        let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
        let of = |value: &Value| Anchor::of(value).or_else(|| Anchor::of(value.get("data")?));
        let found: Option<Vec<Anchor>> = values.ok()?.iter().map(of).collect();
        found.filter(|all| !all.is_empty())
    }

    /// Reads a file; `None` = there is none.
    ///
    /// # Errors
    /// It cannot be read, or is no anchor.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Anchor>> {
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let wrong = || {
            let message = format!("{} is no anchor of an audit trail", path.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let value: Value = serde_json::from_str(&text).map_err(|_| wrong())?;
        Anchor::of(&value).map(Some).ok_or_else(wrong)
    }

    fn of(value: &Value) -> Option<Anchor> {
        let seal = value.get("seal")?;
        let sealed = Sealed::of(seal)?;
        let instance = value.get("instance")?.as_str()?.to_owned();
        Some(Anchor { instance, sealed, seal: seal.clone() })
    }

    /// Why a trail is not the one that was sealed: `None` = it is, as far as the anchor goes. `public` is the key that was in
    /// force there, and `at` gives the hash of the line of that number, where there is one.
    pub(crate) fn differs(&self, instance: &str, public: &[u8], at: Option<Hash>) -> Option<String> {
        if self.instance != instance {
            return Some("the anchor is that of another trail, which is gone".to_owned());
        }
        let missing =
            || Some(format!("lines are missing: the anchor says that number {} was sealed", self.seq()));
        let by = self.seal.get("key").and_then(Value::as_str);
        if at.is_none() && by != Some(&key_id(public)) {
            // With a key that the lines announce which are missing.
            return missing();
        }
        if let Err(why) = self.sealed.verify(CHAIN, &self.seal, public) {
            return Some(format!("the anchor does not hold: {why}"));
        }
        match at {
            None => missing(),
            Some(hash) if hash != self.sealed.hash => {
                Some(format!("number {} is another line than was sealed", self.seq()))
            }
            Some(_) => None,
        }
    }
}

/// The anchor of a trail, as it is written and told.
///
/// # Errors
/// The seal is no JSON.
pub(super) fn document(instance: &str, seal: &str) -> io::Result<Value> {
    let seal: Value = serde_json::from_str(seal)?;
    Ok(json!({"instance": instance, "seal": seal}))
}

/// Writes the anchor of a trail: all of it or nothing, on the disk when this returns.
///
/// # Errors
/// The disk refuses.
pub(crate) fn write(path: &Path, instance: &str, seal: &str) -> io::Result<()> {
    let text = format!("{}\n", signing::canonical(&document(instance, seal)?));
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    // One that a kill left behind is in the way.
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = create_private(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}
