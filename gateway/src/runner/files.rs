//! A task's files: which names are taken, and the folder in which they wait for their sandbox.

use std::io;
use std::path::Path;
use types::runner::{MAX_BYTES, MAX_FILES};

/// Deepest folder of a task.
const MAX_DEPTH: usize = 8;
/// Longest name.
const MAX_NAME: usize = 128;

/// A file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) name: String,
    pub(super) text: String,
}

/// Checks the files of a task together.
///
/// # Errors
/// What is wrong, for a finding.
pub(super) fn check(files: &[Written]) -> Result<(), String> {
    if files.len() > MAX_FILES {
        return Err(format!("the task has {} files, expected {MAX_FILES} at most", files.len()));
    }
    let bytes: usize = files.iter().map(|f| f.text.len()).sum();
    if bytes > MAX_BYTES {
        return Err(format!("the task's files have {bytes} bytes, expected {MAX_BYTES} at most"));
    }
    for (i, file) in files.iter().enumerate() {
        name(&file.name)?;
        if files.iter().take(i).any(|f| f.name == file.name) {
            return Err(format!("the task has two files `{}`", file.name));
        }
    }
    Ok(())
}

/// A name goes into arguments and into a path: it is plain, relative, and never an option.
///
/// # Errors
/// The name, and what is expected.
fn name(name: &str) -> Result<(), String> {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    let parts: Vec<&str> = name.split('/').collect();
    if name.len() <= MAX_NAME && parts.len() <= MAX_DEPTH && parts.iter().all(|p| plain(p)) {
        return Ok(());
    }
    let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    Err(format!(
        "a file cannot be named `{shown}`: expected a relative path of letters, digits, `.`, `_` and `-`"
    ))
}

/// Writes files into a folder that is there and empty.
///
/// # Errors
/// The disk refuses.
pub(super) fn write(folder: &Path, files: &[Written]) -> io::Result<()> {
    for file in files {
        let path = folder.join(&file.name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, &file.text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_stay_inside() {
        let long = "a".repeat(200);
        for (given, taken) in [
            ("solution.py", true),
            ("src/lib-2/a_b.rs", true),
            ("", false),
            ("/etc/passwd", false),
            ("../x", false),
            ("a/../../x", false),
            (".ready", false),
            ("-rf", false),
            ("a/-rf", false),
            ("a//b", false),
            ("a/", false),
            ("a b", false),
            ("a\nb", false),
            ("a;reboot", false),
            ("ä.py", false),
            ("a/b/c/d/e/f/g/h/i", false),
            (long.as_str(), false),
        ] {
            assert_eq!(name(given).is_ok(), taken, "{given:?}");
        }
    }

    #[test]
    fn files_are_bounded_and_each_name_stands_once() {
        let file = |name: &str, text: &str| Written { name: name.into(), text: text.into() };
        assert!(check(&[file("a", ""), file("b", "")]).is_ok());
        assert!(check(&[file("a", ""), file("a", "x")]).unwrap_err().contains("two files `a`"));
        assert!(check(&[file("a", &"x".repeat(MAX_BYTES + 1))]).unwrap_err().contains("bytes"));
        let many: Vec<Written> = (0..65).map(|i| file(&format!("f{i}"), "")).collect();
        assert!(check(&many).unwrap_err().contains("65 files"));
    }
}
