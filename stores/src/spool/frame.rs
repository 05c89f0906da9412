//! A record on disk: length of the payload (u32 LE), CRC-32 of the payload (u32 LE), payload (JSON).

use serde::Serialize;
use std::io::{self, Read};
use types::store::Error;

/// Bytes before the payload.
pub(crate) const HEADER: usize = 8;

/// The longest payload: 16 MiB. A record holds a decision and findings, not answers, so that a longer one
/// is a mistake; the bound also keeps a damaged length from asking for gigabytes.
pub(crate) const MAX_PAYLOAD: usize = 16 << 20;

/// Writes a record's frame into `buf`, which is cleared first.
///
/// # Errors
/// The record is too long.
pub(crate) fn encode(record: &impl Serialize, buf: &mut Vec<u8>) -> Result<(), Error> {
    buf.clear();
    buf.extend_from_slice(&[0; HEADER]);
    serde_json::to_writer(&mut *buf, record).map_err(io::Error::from)?;
    let payload = buf.get(HEADER..).unwrap_or_default();
    let length = match u32::try_from(payload.len()) {
        Ok(n) if payload.len() <= MAX_PAYLOAD => n,
        _ => return Err(Error::Io(io::Error::new(io::ErrorKind::InvalidInput, too_long(payload.len())))),
    };
    let [a, b, c, d] = length.to_le_bytes();
    let [e, f, g, h] = crc32fast::hash(payload).to_le_bytes();
    buf.splice(..HEADER, [a, b, c, d, e, f, g, h]);
    Ok(())
}

fn too_long(len: usize) -> String {
    format!("a record of {len} bytes, expected at most {MAX_PAYLOAD}")
}

/// What stands at a place of a spool file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A whole record; its payload is in the buffer.
    Whole,
    /// The end of the file.
    End,
    /// Something else, and what is wrong with it.
    Bad(&'static str),
}

/// Reads the frame at the reader's place, of which `remaining` bytes exist, its payload into `payload`.
///
/// # Errors
/// Reading fails.
pub(crate) fn read(reader: &mut impl Read, remaining: u64, payload: &mut Vec<u8>) -> io::Result<Frame> {
    if remaining == 0 {
        return Ok(Frame::End);
    }
    if remaining < HEADER as u64 {
        return Ok(Frame::Bad("the header is cut short"));
    }
    let (mut length, mut crc) = ([0; 4], [0; 4]);
    reader.read_exact(&mut length)?;
    reader.read_exact(&mut crc)?;
    let length = u32::from_le_bytes(length) as usize;
    // No record is empty; zeros are what a file system leaves where data never reached the disk, and the
    // CRC of nothing is zero too.
    if length == 0 || length > MAX_PAYLOAD {
        return Ok(Frame::Bad("the length is out of range"));
    }
    if remaining < (HEADER + length) as u64 {
        return Ok(Frame::Bad("the payload is cut short"));
    }
    payload.resize(length, 0);
    reader.read_exact(payload)?;
    if crc32fast::hash(payload) != u32::from_le_bytes(crc) {
        return Ok(Frame::Bad("the checksum does not match"));
    }
    Ok(Frame::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Payloads of the whole frames at the start of `bytes`, and what ended them.
    fn frames(bytes: &[u8]) -> (Vec<Vec<u8>>, Frame) {
        let (mut reader, mut found, mut payload) = (bytes, Vec::new(), Vec::new());
        loop {
            let remaining = reader.len() as u64;
            match read(&mut reader, remaining, &mut payload).unwrap() {
                Frame::Whole => found.push(payload.clone()),
                end => return (found, end),
            }
        }
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(frames(&[0; 64]), (Vec::new(), Frame::Bad("the length is out of range")));
    }

    #[test]
    fn a_record_that_is_too_long_is_refused() {
        let error = encode(&"x".repeat(MAX_PAYLOAD), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("16777218 bytes, expected at most 16777216"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_cut_or_flipped_ends_the_log_and_never_changes_it(
            texts in prop::collection::vec(".{0,40}", 1..6), cut in any::<prop::sample::Index>(), flip in 0_u8..8,
        ) {
            let (mut all, mut one, mut ends) = (Vec::new(), Vec::new(), Vec::new());
            for text in &texts {
                encode(text, &mut one).unwrap();
                all.extend_from_slice(&one);
                ends.push(all.len());
            }
            let wanted: Vec<Vec<u8>> = texts.iter().map(|t| serde_json::to_vec(t).unwrap()).collect();
            prop_assert_eq!(frames(&all), (wanted.clone(), Frame::End));

            let place = cut.index(all.len());
            let whole = ends.iter().filter(|e| **e <= place).count();
            let (found, _) = frames(&all[..place]);
            prop_assert_eq!(&found[..], &wanted[..whole]);

            all[place] ^= 1 << flip;
            let (found, _) = frames(&all);
            prop_assert_eq!(&found[..], &wanted[..whole]);
        }
    }
}
