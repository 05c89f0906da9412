//! Files of outcome tables as text: packed lines, and fields of comma-separated ones.

use flate2::read::GzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

/// Most bytes of one file, unpacked: a guard against a broken archive.
const MAX_BYTES: u64 = 1 << 31;

/// Gives each line of a packed file to `take`.
///
/// # Errors
/// The file cannot be read, or `take` refuses a line: told with the file and the line.
pub fn lines(path: &Path, mut take: impl FnMut(&str) -> Result<(), String>) -> Result<(), String> {
    numbered(path, |_, line| take(line))
}

/// As [`lines`], each with its number, counted from 1.
///
/// # Errors
/// As for [`lines`].
pub fn numbered(path: &Path, mut take: impl FnMut(usize, &str) -> Result<(), String>) -> Result<(), String> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let reader = BufReader::new(GzDecoder::new(BufReader::new(file)).take(MAX_BYTES));
    for (i, line) in reader.lines().enumerate() {
        let number = i.saturating_add(1);
        let at = |e: String| format!("{}:{number}: {e}", path.display());
        let line = line.map_err(|e| match e.kind() {
            ErrorKind::InvalidInput | ErrorKind::UnexpectedEof if i == 0 => {
                format!("{}: {e}; expected a text packed with gzip", path.display())
            }
            _ => at(e.to_string()),
        })?;
        if !line.trim().is_empty() {
            take(number, &line).map_err(at)?;
        }
    }
    Ok(())
}

/// The fields of one line of comma-separated values (RFC 4180, without line feeds inside quotes).
#[must_use]
pub fn fields(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.trim_end_matches('\r').chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quoted) {
            ('"', true) if chars.peek() == Some(&'"') => {
                chars.next();
                push(&mut out, '"');
            }
            ('"', _) => quoted = !quoted,
            (',', false) => out.push(String::new()),
            _ => push(&mut out, c),
        }
    }
    out
}

fn push(fields: &mut [String], c: char) {
    if let Some(last) = fields.last_mut() {
        last.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn lines_split_into_fields() {
        assert_eq!(fields("a,,\"b,c\",\"d\"\"e\"\r"), ["a", "", "b,c", "d\"e"]);
        assert_eq!(fields(""), [""]);
    }
}
