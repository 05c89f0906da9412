//! Room on the disk of the data folder: told when it runs low, kept for what must be kept when it is nearly gone.

use crate::error::Failure;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How often it is looked at: what had to wait is written within five seconds.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// Bytes that should be free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Below, readiness says so.
    pub low: usize,
    /// Below, records wait in memory, and what must be on disk before it is acknowledged is refused.
    pub critical: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { low: 1 << 30, critical: 256 << 20 }
    }
}

/// Bytes that are free for this process; `None` = they cannot be asked.
fn free(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Room {
    Enough,
    Low,
    Critical,
}

impl Room {
    fn of(free: u64, config: Config) -> Self {
        let below = |bound: usize| free < u64::try_from(bound).unwrap_or(u64::MAX);
        match () {
            () if below(config.critical) => Room::Critical,
            () if below(config.low) => Room::Low,
            () => Room::Enough,
        }
    }

    fn from(code: u8) -> Self {
        match code {
            0 => Room::Enough,
            1 => Room::Low,
            _ => Room::Critical,
        }
    }
}

/// The disk of the data folder.
#[derive(Debug)]
pub(crate) struct Disk {
    /// `None` = nothing is kept on a disk.
    folder: Option<PathBuf>,
    config: Config,
    room: AtomicU8,
    free: AtomicU64,
}

impl Disk {
    pub(crate) fn of(folder: Option<&Path>, config: Config) -> Self {
        let (room, free) = (AtomicU8::new(0), AtomicU64::new(u64::MAX));
        Disk { folder: folder.map(Path::to_owned), config, room, free }
    }

    /// Whether there is anything to look at.
    pub(crate) fn is_watched(&self) -> bool {
        self.folder.is_some()
    }

    /// Looks; whether it is another than before. A disk that cannot be asked is taken to have room: its writes tell.
    pub(crate) fn look(&self) -> bool {
        let Some(free) = self.folder.as_deref().and_then(free) else { return false };
        self.free.store(free, Relaxed);
        let room = Room::of(free, self.config);
        let before = Room::from(self.room.swap(room as u8, Relaxed));
        if room == before {
            return false;
        }
        match room {
            Room::Enough => tracing::info!(free, "the disk of the data folder has room again"),
            Room::Low => tracing::warn!(free, "the disk of the data folder runs low (disk.low)"),
            Room::Critical => {
                tracing::error!(
                    free,
                    "the disk of the data folder is nearly full (disk.critical): records wait in memory"
                );
            }
        }
        true
    }

    /// Whether hardly anything is free.
    pub(crate) fn is_critical(&self) -> bool {
        Room::from(self.room.load(Relaxed)) == Room::Critical
    }

    /// What readiness tells of it.
    pub(crate) fn told(&self) -> Option<String> {
        let free = self.free.load(Relaxed) >> 20;
        match Room::from(self.room.load(Relaxed)) {
            Room::Enough => None,
            Room::Low => Some(format!("disk: {free} MiB are free, less than disk.low")),
            Room::Critical => Some(format!(
                "disk: {free} MiB are free, less than disk.critical; runs and changes are refused"
            )),
        }
    }

    /// Whether something may be begun that has to be on disk before it is acknowledged.
    ///
    /// # Errors
    /// 503: it may not.
    pub(crate) fn has_room(&self) -> Result<(), Failure> {
        if !self.is_critical() {
            return Ok(());
        }
        let text =
            "the disk is nearly full, so nothing is taken on that has to be kept; chat requests are served";
        Err(Failure::busy("disk_full", text, LOOK.saturating_mul(5)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_what_they_say() {
        let config = Config { low: 100, critical: 10 };
        for (free, room) in [
            (0, Room::Critical),
            (9, Room::Critical),
            (10, Room::Low),
            (99, Room::Low),
            (100, Room::Enough),
            (u64::MAX, Room::Enough),
        ] {
            assert_eq!(Room::of(free, config), room, "{free}");
            assert_eq!(Room::from(room as u8), room);
        }
    }

    #[test]
    fn a_disk_is_asked_and_a_change_is_told_once() {
        let folder = std::env::temp_dir();
        let full = Disk::of(Some(&folder), Config { low: usize::MAX, critical: usize::MAX });
        assert!(full.has_room().is_ok() && full.look() && !full.look());
        assert_eq!(full.has_room().unwrap_err().code, "disk_full");
        assert!(full.told().unwrap().contains("disk.critical"));
        let low = Disk::of(Some(&folder), Config { low: usize::MAX, critical: 0 });
        assert!(low.look() && low.has_room().is_ok() && low.told().unwrap().contains("disk.low"));
        let none = Disk::of(None, Config { low: usize::MAX, critical: usize::MAX });
        assert!(!none.look() && none.told().is_none() && !none.is_watched());
    }
}
