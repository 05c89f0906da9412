//! A record on disk: length of the payload (u32 LE), CRC-32 of the payload (u32 LE), payload.

use std::io::{self, Read};
use types::store::Error;

/// Bytes before the payload.
pub(crate) const HEADER: usize = 8;

/// The longest payload: 16 MiB. A record holds a decision and findings, not answers, so that a longer one
/// is a mistake; the bound also keeps a damaged length from asking for gigabytes.
pub(crate) const MAX_PAYLOAD: usize = 16 << 20;

/// Appends a frame to `buf` around the payload that `write` appends.
///
/// # Errors
/// That of `write`, or the payload is too long; `buf` holds a part of it then.
pub(crate) fn encode(
    buf: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    let start = buf.len();
    buf.extend_from_slice(&[0; HEADER]);
    write(buf)?;
    let (header, payload) =
        buf.get_mut(start..).and_then(<[u8]>::split_first_chunk_mut::<HEADER>).ok_or_else(|| too_long(0))?;
    let length = match u32::try_from(payload.len()) {
        Ok(n) if payload.len() <= MAX_PAYLOAD => n,
        _ => return Err(too_long(payload.len())),
    };
    let [a, b, c, d] = length.to_le_bytes();
    let [e, f, g, h] = crc32fast::hash(payload).to_le_bytes();
    *header = [a, b, c, d, e, f, g, h];
    Ok(())
}

fn too_long(len: usize) -> Error {
    let text = format!("a record of {len} bytes, expected at most {MAX_PAYLOAD}");
    Error::Io(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// What stands at a place of a spool file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A whole record; its payload is at the end of the buffer.
    Whole,
    /// The end of the file.
    End,
    /// Something else, and what is wrong with it.
    Bad(&'static str),
}

/// Reads the frame at the reader's place, of which `remaining` bytes exist, and appends its payload to `buf`,
/// which otherwise stays as it is.
///
/// # Errors
/// Reading fails.
pub(crate) fn read(reader: &mut impl Read, remaining: u64, buf: &mut Vec<u8>) -> io::Result<Frame> {
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
    let start = buf.len();
    buf.resize(start + length, 0);
    let payload = buf.get_mut(start..).unwrap_or_default();
    let read = reader.read_exact(payload);
    if read.is_ok() && crc32fast::hash(payload) == u32::from_le_bytes(crc) {
        return Ok(Frame::Whole);
    }
    buf.truncate(start);
    read.map(|()| Frame::Bad("the checksum does not match"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Payloads of the whole frames at the start of `bytes`, and what ended them.
    fn frames(bytes: &[u8]) -> (Vec<Vec<u8>>, Frame) {
        let (mut reader, mut found) = (bytes, Vec::new());
        loop {
            let (remaining, mut payload) = (reader.len() as u64, Vec::new());
            match read(&mut reader, remaining, &mut payload).unwrap() {
                Frame::Whole => found.push(payload),
                end => return (found, end),
            }
        }
    }

    fn put(text: &str, buf: &mut Vec<u8>) -> Result<(), Error> {
        encode(buf, |buf| {
            buf.extend_from_slice(text.as_bytes());
            Ok(())
        })
    }

    #[test]
    fn zeros_are_no_record() {
        assert_eq!(frames(&[0; 64]), (Vec::new(), Frame::Bad("the length is out of range")));
    }

    #[test]
    fn a_record_that_is_too_long_is_refused() {
        let error = put(&"x".repeat(MAX_PAYLOAD + 1), &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("16777217 bytes, expected at most 16777216"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_cut_or_flipped_ends_the_log_and_never_changes_it(
            texts in prop::collection::vec(".{1,40}", 1..6), cut in any::<prop::sample::Index>(), flip in 0_u8..8,
        ) {
            let (mut all, mut ends) = (Vec::new(), Vec::new());
            for text in &texts {
                put(text, &mut all).unwrap();
                ends.push(all.len());
            }
            let wanted: Vec<Vec<u8>> = texts.iter().map(|t| t.clone().into_bytes()).collect();
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
