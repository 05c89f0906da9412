//! Reads the spool behind those who write it.

use super::frame::{self, Frame};
use super::{Segment, recover};
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use types::store::{Error, Seq};

/// The most payload in one batch, so that 512 very long records do not fill the memory.
const MAX_BATCH_BYTES: u64 = 32 << 20;

/// A record as it stands in the spool.
pub(crate) struct Line {
    /// Its position.
    pub(crate) seq: Seq,
    /// Its JSON.
    pub(crate) payload: Vec<u8>,
}

/// Records that follow each other.
pub(crate) struct Batch {
    /// At least one.
    pub(crate) lines: Vec<Line>,
    /// Position after the last.
    pub(crate) end: Seq,
}

/// Reads records from where it stands.
pub(crate) struct Tail {
    dir: PathBuf,
    open: Option<(Seq, Seq, BufReader<File>)>,
}

impl Tail {
    pub(super) fn new(dir: PathBuf) -> Self {
        Tail { dir, open: None }
    }

    /// The next records from `position`, at most `limit`, all of one segment, which must hold one at least.
    ///
    /// # Errors
    /// The file cannot be read, or what was written there has been damaged since.
    pub(crate) fn take(&mut self, segment: Segment, position: Seq, limit: usize) -> Result<Batch, Error> {
        // Whatever goes wrong, the next try opens the file anew.
        let mut reader = match self.open.take() {
            Some((base, at, reader)) if base == segment.base && at == position => reader,
            _ => {
                let mut file = File::open(recover::path(&self.dir, segment.base))?;
                file.seek(SeekFrom::Start(position - segment.base))?;
                BufReader::with_capacity(1 << 18, file)
            }
        };
        let mut batch = Batch { lines: Vec::new(), end: position };
        while batch.lines.len() < limit && batch.end - position < MAX_BATCH_BYTES {
            let mut payload = Vec::new();
            match frame::read(&mut reader, segment.end - batch.end, &mut payload)? {
                Frame::End => break,
                Frame::Whole => {
                    let seq = batch.end;
                    batch.end += (frame::HEADER + payload.len()) as u64;
                    batch.lines.push(Line { seq, payload });
                }
                Frame::Bad(why) => {
                    let file = recover::path(&self.dir, segment.base);
                    let offset = batch.end - segment.base;
                    return Err(Error::Corrupt(format!("{} at byte {offset}: {why}", file.display())));
                }
            }
        }
        self.open = Some((segment.base, batch.end, reader));
        Ok(batch)
    }
}
