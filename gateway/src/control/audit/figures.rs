//! What a trail costs: for the bench, which compares it with a plain file.

use super::verify::verify_against;
use super::writer::{SEAL_LINES, Writer};
use super::{Event, FOLDER};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How long a trail took that held when it was verified.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Size of its files.
    pub bytes: u64,
    /// Lines between two seals, after each of which it is on the disk.
    pub sealed_after: u64,
    /// To write and seal all lines.
    pub written: Duration,
    /// To verify all of it.
    pub verified: Duration,
    /// To open it again, as a start does.
    pub opened: Duration,
}

/// Writes a trail of so many lines into an empty data folder, verifies it and opens it again.
///
/// # Errors
/// The folder cannot be used; what was written does not verify.
pub fn figures(data: &Path, lines: u64) -> io::Result<Figures> {
    let begun = Instant::now();
    let mut writer = Writer::open(data, "bench".to_owned(), None)?;
    for i in 1..=lines {
        writer.line(&event(i))?;
        if i % SEAL_LINES == 0 {
            writer.seal()?;
        }
    }
    writer.seal()?;
    drop(writer);
    let written = begun.elapsed();

    let folder = data.join(FOLDER);
    let begun = Instant::now();
    let report = verify_against(&folder, None, None, &[])?;
    let verified = begun.elapsed();
    if report.lines != lines || report.broken.is_some() {
        return Err(io::Error::other(format!("{lines} lines were written, and verified are {report:?}")));
    }

    let begun = Instant::now();
    drop(Writer::open(data, "bench".to_owned(), None)?);
    let opened = begun.elapsed();

    let size = |entry: io::Result<std::fs::DirEntry>| Ok::<u64, io::Error>(entry?.metadata()?.len());
    let bytes = std::fs::read_dir(&folder)?.map(size).sum::<io::Result<u64>>()?;
    Ok(Figures { bytes, sealed_after: SEAL_LINES, written, verified, opened })
}

/// A change such as keys are made by.
fn event(i: u64) -> Event {
    let mut event = Event {
        actor_kind: "key",
        actor: "operator".to_owned(),
        action: "key.create",
        target: format!("key-{i}"),
        tenant: "default".to_owned(),
        ..Event::default()
    };
    event.detail.insert("name".to_owned(), format!("service {i}").into());
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_is_measured_whole() {
        let dir = tempfile::tempdir().unwrap();
        let figures = figures(dir.path(), SEAL_LINES + 1).unwrap();
        assert!(figures.bytes > SEAL_LINES * 100, "{figures:?}");
        assert_eq!(figures.sealed_after, SEAL_LINES);
    }
}
