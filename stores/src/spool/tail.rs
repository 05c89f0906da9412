//! Reads the spool behind those who write it.

use super::frame::{self, Frame};
use super::{Segment, recover};
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use types::store::{Error, Seq};

/// The most payload in one batch, so that 512 very long records do not fill the memory.
const MAX_BATCH_BYTES: u64 = 32 << 20;

/// The largest memory of a batch that is kept for the next one.
const KEEP_BYTES: usize = 8 << 20;

/// A record as it stands in the spool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    /// Its position.
    pub(crate) seq: Seq,
    /// See [`crate::record`].
    pub(crate) payload: &'a [u8],
}

/// Records that follow each other: one at least.
pub(crate) struct Batch {
    /// All payloads.
    bytes: Vec<u8>,
    /// Position of each record, and where its payload ends in `bytes`.
    lines: Vec<(Seq, usize)>,
    /// Position after the last.
    pub(crate) end: Seq,
}

impl Batch {
    /// The records, in order.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut start = 0;
        self.lines.iter().map(move |(seq, end)| {
            let payload = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            Line { seq: *seq, payload }
        })
    }
}

/// Reads records from where it stands.
pub(crate) struct Tail {
    dir: PathBuf,
    open: Option<(Seq, Seq, BufReader<File>)>,
    /// A batch that is done with, for its memory.
    spare: Option<Batch>,
}

impl Tail {
    pub(super) fn new(dir: PathBuf) -> Self {
        Tail { dir, open: None, spare: None }
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
                let (_, mut file) = recover::open(&self.dir, segment.base)?;
                file.seek(SeekFrom::Start(position - segment.base))?;
                BufReader::with_capacity(1 << 18, file)
            }
        };
        let mut batch = match self.spare.take() {
            Some(spare) => Batch { end: position, ..spare },
            None => Batch { bytes: Vec::new(), lines: Vec::new(), end: position },
        };
        while batch.lines.len() < limit && batch.end - position < MAX_BATCH_BYTES {
            let before = batch.bytes.len();
            match frame::read(&mut reader, segment.end - batch.end, &mut batch.bytes)? {
                Frame::End => break,
                Frame::Whole => {
                    let seq = batch.end;
                    batch.end += (frame::HEADER + batch.bytes.len() - before) as u64;
                    batch.lines.push((seq, batch.bytes.len()));
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

    /// Takes a batch back: the next one uses its memory.
    pub(crate) fn done(&mut self, mut batch: Batch) {
        if batch.bytes.capacity() <= KEEP_BYTES {
            batch.bytes.clear();
            batch.lines.clear();
            self.spare = Some(batch);
        }
    }
}
