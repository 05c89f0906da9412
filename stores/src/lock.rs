//! One process per data directory: a lock file, held while the store is open.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;
use types::store::Error;

/// Takes the directory for this process. The lock ends with the returned file, also when the process is
/// killed.
///
/// # Errors
/// Another process holds it, or the file cannot be made.
pub(crate) fn hold(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            // Only for the message of the next one who comes; nothing depends on it.
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(Error::Io(in_use(dir, &mut file))),
        Err(TryLockError::Error(e)) => Err(Error::Io(e)),
    }
}

fn in_use(dir: &Path, file: &mut File) -> io::Error {
    let mut holder = String::new();
    let holder = match file.take(20).read_to_string(&mut holder) {
        Ok(_) if !holder.trim().is_empty() => format!("process {}", holder.trim()),
        _ => "another process".to_owned(),
    };
    io::Error::new(
        io::ErrorKind::WouldBlock,
        format!(
            "the data directory {} is in use by {holder}, and one process at a time may use it; stop the \
             other one, or name another directory",
            dir.display()
        ),
    )
}
