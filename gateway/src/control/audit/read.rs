//! Reads lines of the audit trail for those who may see them.

use super::folder::files;
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

/// The first lines after a number or, without one, the newest; seals left out.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn read(folder: &Path, after: Option<u64>, limit: usize) -> io::Result<Vec<Value>> {
    let mut found = VecDeque::new();
    for path in files(folder)? {
        for text in BufReader::new(File::open(path)?).lines() {
            let Ok(line) = serde_json::from_str::<Value>(&text?) else { continue };
            let seq = line.get("seq").and_then(Value::as_u64).unwrap_or(0);
            if line.get("type").is_some() || after.is_some_and(|a| seq <= a) {
                continue;
            }
            match after {
                Some(_) if found.len() >= limit => return Ok(found.into()),
                None if found.len() >= limit => drop(found.pop_front()),
                _ => {}
            }
            found.push_back(line);
            found.truncate(limit);
        }
    }
    Ok(found.into())
}
