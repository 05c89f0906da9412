//! Reads lines of the audit trail for those who may see them.
//!
//! Lines stand in the order of their numbers, so that a page is found without reading what stands before it: what it costs
//! does not grow with the trail.

use super::folder::files;
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes that are read at once, looking for a line.
const BLOCK: u64 = 64 << 10;

/// The first lines after a number or, without one, the newest; seals left out.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn read(folder: &Path, after: Option<u64>, limit: usize) -> io::Result<Vec<Value>> {
    let files = files(folder)?;
    match after {
        Some(after) => following(&files, after, limit),
        None => newest(&files, limit),
    }
}

/// A line with its number, unless it is a seal or damaged.
fn entry(text: &[u8]) -> Option<(u64, Value)> {
    let line = serde_json::from_slice::<Value>(text).ok().filter(|l| l.get("type").is_none())?;
    let number = line.get("seq").and_then(Value::as_u64).unwrap_or(0);
    Some((number, line))
}

fn following(files: &[PathBuf], after: u64, limit: usize) -> io::Result<Vec<Value>> {
    let mut begin = files.len();
    for path in files.iter().rev() {
        begin = begin.saturating_sub(1);
        let first = next(&mut BufReader::new(File::open(path)?))?;
        if first.is_some_and(|(_, number)| number <= after) {
            break;
        }
    }
    let mut found = Vec::new();
    for path in files.iter().skip(begin) {
        let mut file = BufReader::new(File::open(path)?);
        let at = place(&mut file, after)?;
        file.seek(SeekFrom::Start(at))?;
        let mut text = Vec::new();
        while file.read_until(b'\n', &mut text)? > 0 {
            if let Some((_, line)) = entry(&text).filter(|(number, _)| *number > after) {
                if found.len() >= limit {
                    return Ok(found);
                }
                found.push(line);
            }
            text.clear();
        }
    }
    Ok(found)
}

/// Where a line begins that stands not long before the first one after a number.
fn place(file: &mut BufReader<File>, after: u64) -> io::Result<u64> {
    let (mut low, mut high) = (0, file.get_ref().metadata()?.len());
    while high.saturating_sub(low) > BLOCK {
        let middle = low.midpoint(high);
        file.seek(SeekFrom::Start(middle))?;
        // The middle of some line, most likely.
        file.skip_until(b'\n')?;
        match next(file)? {
            Some((at, number)) if number <= after && at < high => low = at,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The next line that has a number: where it begins, and that number.
fn next(file: &mut BufReader<File>) -> io::Result<Option<(u64, u64)>> {
    let mut text = Vec::new();
    loop {
        let at = file.stream_position()?;
        if file.read_until(b'\n', &mut text)? == 0 {
            return Ok(None);
        }
        if let Some((number, _)) = entry(&text) {
            return Ok(Some((at, number)));
        }
        text.clear();
    }
}

fn newest(files: &[PathBuf], limit: usize) -> io::Result<Vec<Value>> {
    let mut found = VecDeque::new();
    for path in files.iter().rev() {
        let mut file = File::open(path)?;
        let mut end = file.metadata()?.len();
        // What was read of a line whose beginning was not.
        let mut rest = Vec::new();
        while end > 0 && found.len() < limit {
            let begin = end.saturating_sub(BLOCK);
            let mut block = Vec::new();
            file.seek(SeekFrom::Start(begin))?;
            (&mut file).take(end.saturating_sub(begin)).read_to_end(&mut block)?;
            block.append(&mut rest);
            let broken =
                block.iter().position(|b| *b == b'\n').map_or(block.len(), |at| at.saturating_add(1));
            let lines = block.split_off(if begin == 0 { 0 } else { broken });
            let entries = lines.rsplit(|b| *b == b'\n').filter_map(entry);
            entries.take(limit.saturating_sub(found.len())).for_each(|(_, line)| found.push_front(line));
            (rest, end) = (block, begin);
        }
    }
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Three files of 3,000 lines with a seal after each hundredth; what is damaged is at the very beginning.
    fn trail() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in 0..3_u64 {
            let mut text = if file == 0 { b"\xff\xfe, which is no text\n".to_vec() } else { Vec::new() };
            for number in file * 3_000 + 1..=(file + 1) * 3_000 {
                let detail = "x".repeat(usize::try_from(number % 97).unwrap());
                text.extend(format!("{}\n", json!({"seq": number, "detail": detail})).bytes());
                if number % 100 == 0 {
                    text.extend(format!("{}\n", json!({"type": "seal", "to": number})).bytes());
                }
            }
            std::fs::write(
                super::super::folder::name(folder.path(), usize::try_from(file).unwrap() + 1),
                text,
            )
            .unwrap();
        }
        folder
    }

    #[test]
    fn a_page_is_found_wherever_it_stands() {
        let folder = trail();
        let numbers = |after, limit| -> Vec<u64> {
            let page = read(folder.path(), after, limit).unwrap();
            page.iter().map(|line| line["seq"].as_u64().unwrap()).collect()
        };
        for after in [0, 1, 99, 100, 2_950, 2_999, 3_000, 3_001, 5_999, 6_000, 7_777, 8_999, 9_000, 12_000] {
            for limit in [0, 1, 150, 1_000, 20_000] {
                let want: Vec<u64> = (after + 1..=9_000).take(limit).collect();
                assert_eq!(numbers(Some(after), limit), want, "{limit} after {after}");
            }
        }
        for limit in [0, 1, 150, 1_000, 3_000, 3_001, 20_000] {
            let want: Vec<u64> = (1..=9_000).skip(9_000_usize.saturating_sub(limit)).collect();
            assert_eq!(numbers(None, limit), want, "the newest {limit}");
        }
    }

    #[test]
    fn a_trail_without_lines_gives_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path(), None, 10).unwrap().is_empty());
        std::fs::write(super::super::folder::name(folder.path(), 1), "").unwrap();
        assert!(
            read(folder.path(), None, 10).unwrap().is_empty()
                && read(folder.path(), Some(0), 10).unwrap().is_empty()
        );
    }
}
