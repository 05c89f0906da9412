//! Puts something else in the place of records whose time is over. Nothing moves: every other position stays as it is.

use super::{HEADER, Spool, encode};
use crate::record;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use types::store::{Error, Seq};

/// What is to stand in the place of a record.
#[derive(Debug)]
pub(crate) struct Instead {
    /// Where the record stands.
    pub(crate) seq: Seq,
    /// Bytes of its payload, those of what comes in its place too.
    pub(crate) length: usize,
    /// What comes there; the rest is filled up.
    pub(crate) left: Vec<u8>,
}

impl Instead {
    fn frame(&self) -> Result<Vec<u8>, Error> {
        let mut frame = Vec::with_capacity(HEADER + self.length);
        encode(&mut frame, |buf| {
            buf.extend_from_slice(&self.left);
            buf.resize(HEADER + self.length, record::filling(&self.left));
            Ok(())
        })?;
        Ok(frame)
    }
}

impl Spool {
    /// Overwrites records that were moved. Gives the positions of those that are gone from the disk when this returns, and
    /// the first error of those that are not, and may be half overwritten: one file that refuses keeps no other. It needs
    /// nothing of what stands there but its length, which stays as it is, so that one which was cut off is simply done
    /// again.
    pub(crate) fn overwrite(&self, all: &[Instead]) -> (Vec<Seq>, Option<Error>) {
        let (mut done, mut refused) = (Vec::with_capacity(all.len()), None);
        let mut files: BTreeMap<Seq, Vec<(u64, &Instead)>> = BTreeMap::new();
        for one in all {
            match self.place(one.seq) {
                Some((base, at)) => files.entry(base).or_default().push((at, one)),
                // It went with its file.
                None => done.push(one.seq),
            }
        }
        for (base, all) in files {
            match self.overwrite_in(base, &all) {
                Ok(()) => done.extend(all.iter().map(|(_, one)| one.seq)),
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        (done, refused)
    }

    fn overwrite_in(&self, base: Seq, all: &[(u64, &Instead)]) -> Result<(), Error> {
        let (path, mut file) = match self.open_file(base) {
            Ok(found) => found,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let mut pieces = Vec::with_capacity(all.len());
        for (at, one) in all {
            if stands(&mut file, *at, one, &path)? {
                pieces.push((*at, one.frame()?));
            }
        }
        // Where it has another name since, that is an error, and done again.
        Ok(self.medium.overwrite(&path, &pieces)?)
    }
}

/// Whether a record of that length stands there: a power cut may have taken the end of a file, and what stands in another
/// folder's file than the database tells of must not be touched.
fn stands(file: &mut File, at: u64, one: &Instead, path: &Path) -> io::Result<bool> {
    if file.metadata()?.len() < at + (HEADER + one.length) as u64 {
        return Ok(false);
    }
    let mut length = [0; 4];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut length)?;
    let found = u32::from_le_bytes(length) as usize;
    if found != one.length {
        let file = path.display();
        tracing::error!(%file, at, found, expected = one.length, "no record stands where one is to be erased");
    }
    Ok(found == one.length)
}
