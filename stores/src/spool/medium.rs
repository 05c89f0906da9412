//! The few file operations of the spool, apart so that tests can let them fail.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

/// Where spool files are made.
pub(crate) trait Medium: Send + Sync {
    /// Opens a file for appending, made if it is absent; it must be `len` bytes long.
    fn open(&self, path: &Path, len: u64) -> io::Result<Arc<dyn Sink>>;
    /// Puts each of the pieces where it is to stand in a file that is long enough, in the place of what stands there, and
    /// makes them survive a power cut.
    fn overwrite(&self, path: &Path, pieces: &[(u64, Vec<u8>)]) -> io::Result<()>;
    /// Gives a file another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the directory's entries survive a power cut.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open spool file.
pub(crate) trait Sink: Send + Sync {
    /// One `write` at the end; gives how much was taken.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;
    /// Cuts what stands after `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Makes what was written survive a power cut.
    fn sync(&self) -> io::Result<()>;
}

/// The disk.
pub(crate) struct Disk;

impl Medium for Disk {
    fn open(&self, path: &Path, len: u64) -> io::Result<Arc<dyn Sink>> {
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        let found = file.metadata()?.len();
        if found != len {
            let message = format!("{} is {found} bytes long, expected {len}", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Ok(Arc::new(file))
    }

    fn overwrite(&self, path: &Path, pieces: &[(u64, Vec<u8>)]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        for (at, bytes) in pieces {
            file.seek(SeekFrom::Start(*at))?;
            file.write_all(bytes)?;
        }
        file.sync_data()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl Sink for File {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self;
        loop {
            match Write::write(&mut file, bytes) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
