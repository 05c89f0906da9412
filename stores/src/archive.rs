//! Reads single records out of the files of the spool, wherever they stand.

use crate::spool::{self, Frame, HEADER, Spool};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Seek, SeekFrom};
use std::sync::Arc;
use types::store::{Error, Seq};

/// What is read of a file at once: a record of ordinary size.
const READ: usize = 8 << 10;

/// See the module. Keeps the last file open, because neighbours are often asked for together.
pub(crate) struct Archive {
    spool: Arc<Spool>,
    open: Option<(Seq, BufReader<File>)>,
}

impl Archive {
    pub(crate) fn new(spool: Arc<Spool>) -> Self {
        Archive { spool, open: None }
    }

    /// The payload of the record at a position. `None` = its file is gone, or ends before it: files are
    /// removed when there are too many, and a power cut may take the end of one.
    ///
    /// # Errors
    /// The file cannot be read, or what stands there is no record.
    pub(crate) fn read(&mut self, position: Seq) -> Result<Option<Vec<u8>>, Error> {
        let Some((base, offset)) = self.spool.place(position) else { return Ok(None) };
        let mut reader = match self.open.take() {
            Some((open, reader)) if open == base => reader,
            _ => match self.spool.open_file(base) {
                Ok((_, file)) => BufReader::with_capacity(READ, file),
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(e.into()),
            },
        };
        reader.seek(SeekFrom::Start(offset))?;
        let mut payload = Vec::new();
        let longest = (HEADER + spool::MAX_PAYLOAD) as u64;
        let found = match spool::read(&mut reader, longest, &mut payload) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        self.open = Some((base, reader));
        match found {
            Frame::Whole => Ok(Some(payload)),
            Frame::End => Ok(None),
            Frame::Bad(why) => {
                let path = self.spool.open_file(base).map(|(path, _)| path).unwrap_or_default();
                Err(Error::Corrupt(format!("{} at byte {offset}: {why}", path.display())))
            }
        }
    }
}
