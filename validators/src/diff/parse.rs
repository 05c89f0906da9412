//! Reading unified diffs leniently, so that what is wrong with one can be said.

use std::ops::Range;

/// The patch of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilePatch {
    /// Its path before; `None` for a new file or where none is given.
    pub(crate) old: Option<String>,
    /// Its path after; `None` for a deleted file or where none is given.
    pub(crate) new: Option<String>,
    /// Its hunks in order.
    pub(crate) hunks: Vec<Hunk>,
    /// It renames, copies, changes modes or bits: what needs no hunks.
    pub(crate) bare: bool,
    /// Bytes of the lines that name it.
    pub(crate) span: Range<usize>,
}

impl FilePatch {
    /// The path by which it is known.
    pub(crate) fn path(&self) -> &str {
        self.new.as_deref().or(self.old.as_deref()).unwrap_or("")
    }

    /// Whether it makes a file that was not there.
    pub(crate) fn creates(&self) -> bool {
        self.old.is_none() && self.new.is_some()
    }
}

/// One hunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hunk {
    /// First line and number of lines before, as the header says; `None` if it says nothing readable.
    pub(crate) old: Option<(usize, usize)>,
    /// First line and number of lines after.
    pub(crate) new: Option<(usize, usize)>,
    /// What stands behind the second `@@`.
    pub(crate) section: String,
    /// Bytes of the header.
    pub(crate) header: Range<usize>,
    /// Its lines without line breaks, each with its kind.
    pub(crate) lines: Vec<(Kind, Range<usize>)>,
}

/// What a line of a hunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Stays.
    Context,
    /// Goes.
    Removed,
    /// Comes.
    Added,
    /// The note that the file ends without a line break.
    NoBreak,
    /// None of these.
    Unknown,
}

impl Hunk {
    /// Lines before and after, as they are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let n = |kinds: [Kind; 2]| self.lines.iter().filter(|(k, _)| kinds.contains(k)).count();
        (n([Kind::Context, Kind::Removed]), n([Kind::Context, Kind::Added]))
    }
}

/// The files of a diff, in order; lines outside of them are skipped, as `patch` does.
pub(crate) fn parse(text: &str) -> Vec<FilePatch> {
    let lines = lines(text);
    let mut files: Vec<FilePatch> = Vec::new();
    let mut i = 0_usize;
    while let Some(span) = lines.get(i) {
        let line = text.get(span.clone()).unwrap_or("");
        let next = lines.get(i.saturating_add(1)).and_then(|s| text.get(s.clone())).unwrap_or("");
        if let Some(names) = line.strip_prefix("diff --git ") {
            let (old, new) = git_names(names);
            files.push(FilePatch { old, new, span: span.clone(), ..FilePatch::default() });
        } else if line.starts_with("--- ") && next.starts_with("+++ ") {
            named(&mut files, line, next, span);
            i = i.saturating_add(1);
        } else if line.starts_with("@@") {
            if files.is_empty() {
                files.push(FilePatch { span: span.clone(), ..FilePatch::default() });
            }
            let (hunk, end) = hunk(text, &lines, i);
            if let Some(f) = files.last_mut() {
                f.hunks.push(hunk);
            }
            i = end;
            continue;
        } else if let Some(f) = files.last_mut().filter(|f| f.hunks.is_empty()) {
            extended(f, line);
        }
        i = i.saturating_add(1);
    }
    files
}

/// Bytes of every line without its break.
fn lines(text: &str) -> Vec<Range<usize>> {
    let mut at = 0_usize;
    text.split_inclusive('\n')
        .map(|l| {
            let start = at;
            at = at.saturating_add(l.len());
            start..start.saturating_add(l.strip_suffix('\n').unwrap_or(l).trim_end_matches('\r').len())
        })
        .collect()
}

/// Takes the names of `---` and `+++`: of the file that `diff --git` opened, or of a new one.
fn named(files: &mut Vec<FilePatch>, old: &str, new: &str, span: &Range<usize>) {
    let (old, new) = (name(old), name(new));
    match files.last_mut().filter(|f| f.hunks.is_empty() && (f.old.is_some() || f.new.is_some())) {
        Some(f) => (f.old, f.new) = (old, new),
        None => files.push(FilePatch { old, new, span: span.clone(), ..FilePatch::default() }),
    }
}

/// The path of a `---` or `+++` line, without the time behind it and the `a/` before it.
fn name(line: &str) -> Option<String> {
    let path = line.get(4..)?.split('\t').next()?.trim().trim_matches('"');
    let path = path.strip_prefix("a/").or_else(|| path.strip_prefix("b/")).unwrap_or(path);
    (!path.is_empty() && path != "/dev/null").then(|| path.to_owned())
}

fn git_names(names: &str) -> (Option<String>, Option<String>) {
    let Some((old, new)) = names.rsplit_once(" b/") else { return (None, None) };
    (Some(old.trim().trim_start_matches("a/").to_owned()), Some(new.trim().to_owned()))
}

/// Lines of `git` between the names and the first hunk.
fn extended(file: &mut FilePatch, line: &str) {
    if line.starts_with("new file") {
        file.old = None;
    } else if line.starts_with("deleted file") {
        file.new = None;
    }
    let bare = [
        "rename ",
        "copy ",
        "old mode",
        "new mode",
        "Binary files",
        "GIT binary patch",
        "similarity",
        "new file",
        "deleted file",
    ];
    file.bare |= bare.iter().any(|b| line.starts_with(b));
}

/// The hunk whose header is this line, and the number of the line behind it.
fn hunk(text: &str, lines: &[Range<usize>], at: usize) -> (Hunk, usize) {
    let header = lines.get(at).cloned().unwrap_or(0..0);
    let mut hunk = read_header(text.get(header.clone()).unwrap_or(""));
    hunk.header = header;
    let mut i = at.saturating_add(1);
    while let Some(span) = lines.get(i) {
        let line = text.get(span.clone()).unwrap_or("");
        let next = lines.get(i.saturating_add(1)).and_then(|s| text.get(s.clone())).unwrap_or("");
        let another = line.starts_with("@@")
            || line.starts_with("diff --git ")
            || line.starts_with("--- ") && next.starts_with("+++ ");
        if another {
            break;
        }
        let kind = match line.chars().next() {
            Some(' ') => Kind::Context,
            Some('-') => Kind::Removed,
            Some('+') => Kind::Added,
            Some('\\') => Kind::NoBreak,
            // An empty line is an empty context line whose blank was lost.
            None => Kind::Context,
            Some(_) => Kind::Unknown,
        };
        // `index`, `Index:` and the like open the next file.
        if kind == Kind::Unknown
            && (line.starts_with("index ") || line.starts_with("Index: ") || line.starts_with("===="))
        {
            break;
        }
        hunk.lines.push((kind, span.clone()));
        i = i.saturating_add(1);
    }
    trim(&mut hunk);
    (hunk, i)
}

/// Empty lines at the end separate what follows, unless the header counts them.
fn trim(hunk: &mut Hunk) {
    while let Some((Kind::Context, span)) = hunk.lines.last() {
        let counted = hunk.old.is_some_and(|(_, n)| hunk.counts().0 <= n);
        if !span.is_empty() || counted {
            break;
        }
        hunk.lines.pop();
    }
}

/// `@@ -1,2 +3,4 @@ section`.
fn read_header(line: &str) -> Hunk {
    let empty = Hunk::default();
    let Some((ranges, section)) = line.strip_prefix("@@").and_then(|r| r.split_once("@@")) else {
        return empty;
    };
    let mut parts = ranges.split_whitespace();
    let (old, new) = (range(parts.next(), '-'), range(parts.next(), '+'));
    let section = section.trim_end().to_owned();
    if parts.next().is_some() {
        return Hunk { section, ..empty };
    }
    Hunk { old, new, section, ..empty }
}

fn range(part: Option<&str>, sign: char) -> Option<(usize, usize)> {
    let part = part?.strip_prefix(sign)?;
    match part.split_once(',') {
        Some((start, n)) => Some((start.parse().ok()?, n.parse().ok()?)),
        None => Some((part.parse().ok()?, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[(&str, &[(usize, usize)])]) {
        let got = parse(text);
        let got: Vec<(&str, Vec<(usize, usize)>)> =
            got.iter().map(|f| (f.path(), f.hunks.iter().map(Hunk::counts).collect())).collect();
        let want: Vec<(&str, Vec<(usize, usize)>)> = want.iter().map(|(p, c)| (*p, c.to_vec())).collect();
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn files_and_hunks_are_found() {
        check("--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n", &[("x.py", &[(2, 2)])]);
        check("@@ -1 +1 @@\n-a\n+b\n", &[("", &[(1, 1)])]);
        check("diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n", &[("y", &[])]);
        check(
            "diff --git a/n b/n\nnew file mode 100644\n--- /dev/null\n+++ b/n\n@@ -0,0 +1,2 @@\n+a\n+b\n",
            &[("n", &[(0, 2)])],
        );
        check(
            "--- a\n+++ a\n@@ -1,2 +1 @@\n--- x\n y\n@@ -9 +8 @@\n-q\n\n--- b\n+++ b\n@@ -1 +1 @@\n-1\n+2\n",
            &[("a", &[(2, 1), (1, 0)]), ("b", &[(1, 1)])],
        );
        check("no diff\n", &[]);
    }

    #[test]
    fn lines_without_their_blank_are_context() {
        check("@@ -1,3 +1,3 @@\n a\n\n-b\n+c\n", &[("", &[(3, 3)])]);
        check("@@ -1,3 +1,3 @@\n a\n-b\n+c\n\n", &[("", &[(3, 3)])]);
        check("@@ -1,2 +1,2 @@\n a\n-b\n+c\n\n", &[("", &[(2, 2)])]);
    }

    #[test]
    fn unreadable_headers_stay_empty() {
        for line in ["@@", "@@ @@", "@@ ... @@", "@@ -a,b +c,d @@", "@@ -1,2 +1,2 +3 @@", "@@ def f():"] {
            assert_eq!(read_header(line).old, None, "{line}");
        }
        assert_eq!(read_header("@@ -3 +4,0 @@ fn x() ").old, Some((3, 1)));
        assert_eq!(read_header("@@ -3 +4,0 @@ fn x() ").section, " fn x()");
    }
}
