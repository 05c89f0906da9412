//! The end of the file that the trail is written to: a line stands there whole or not at all.

use std::fs::File;
use std::io::{self, Write as _};

/// What lines are appended to, apart so that tests can let it fail.
pub(super) trait Medium {
    /// Writes at the end. One that fails may leave a part there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts off what stands after `len` bytes.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

impl Medium for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// See the module.
pub(super) struct Tail<M = File> {
    medium: M,
    /// Length of the whole lines, bytes.
    end: u64,
    /// A part of a line stands after them: it is cut off before anything else is written.
    torn: bool,
}

impl Tail {
    /// The end of a file that is open for appending and holds whole lines only.
    ///
    /// # Errors
    /// Its length cannot be read.
    pub(super) fn of(file: File) -> io::Result<Tail> {
        let end = file.metadata()?.len();
        Ok(Tail { medium: file, end, torn: false })
    }

    /// Makes the lines survive a power cut.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.medium.sync_data()
    }
}

impl<M: Medium> Tail<M> {
    /// Length of the whole lines, bytes.
    pub(super) const fn len(&self) -> u64 {
        self.end
    }

    /// Appends a line.
    ///
    /// # Errors
    /// The disk refuses it, or to cut off what it took of an earlier one. No line comes behind half a one, which would
    /// break the chain for good.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        if self.torn {
            self.medium.cut(self.end)?;
            self.torn = false;
        }
        let line = format!("{text}\n");
        if let Err(error) = self.medium.append(line.as_bytes()) {
            // The error of the write says what is wrong; whether the cut failed is seen at the next line.
            self.torn = self.medium.cut(self.end).is_err();
            return Err(error);
        }
        self.end = self.end.saturating_add(line.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that takes so many bytes, and cuts where that is allowed.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
        cuts: bool,
    }

    impl Medium for Disk {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            let taken = bytes.len().min(self.room - self.bytes.len());
            self.bytes.extend_from_slice(&bytes[..taken]);
            if taken < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn cut(&mut self, len: u64) -> io::Result<()> {
            if !self.cuts {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            self.bytes.truncate(usize::try_from(len).unwrap());
            Ok(())
        }
    }

    #[test]
    fn nothing_is_written_behind_half_a_line() {
        let medium = Disk { bytes: Vec::new(), room: 8, cuts: true };
        let mut tail = Tail { medium, end: 0, torn: false };
        tail.line("one").unwrap();
        let refused = |tail: &mut Tail<Disk>, text| tail.line(text).unwrap_err().kind();
        assert_eq!(refused(&mut tail, "second"), io::ErrorKind::StorageFull);
        assert_eq!((&tail.medium.bytes[..], tail.len()), (&b"one\n"[..], 4), "what was taken is cut off");

        tail.medium.cuts = false;
        assert_eq!(refused(&mut tail, "second"), io::ErrorKind::StorageFull, "the cause, not what followed");
        assert_eq!((&tail.medium.bytes[..], tail.len()), (&b"one\nseco"[..], 4));
        tail.medium.room = 100;
        assert_eq!(refused(&mut tail, "third"), io::ErrorKind::PermissionDenied);
        assert_eq!(tail.medium.bytes, b"one\nseco");

        tail.medium.cuts = true;
        tail.line("fourth").unwrap();
        assert_eq!((&tail.medium.bytes[..], tail.len()), (&b"one\nfourth\n"[..], 11));
    }
}
