//! Reads lines of the audit trail for those who may see them.
//!
//! Lines stand in the order of their numbers, so that a page is found without reading what stands before it: what it costs
//! does not grow with the trail.

use super::folder::files;
use super::writer::timestamp;
use serde_json::Value;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes that are read at once, looking for a line.
const BLOCK: u64 = 64 << 10;

/// Lines that one look reads, at most: where few of them are asked for, the next look goes on behind them.
const LOOKED: usize = 50_000;

/// Which lines are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// As it stands in the line, or how it begins, up to a full stop: `key` is all of `key.create`, `key.revoke` …
    pub(crate) action: Option<String>,
    /// The id of who did it.
    pub(crate) actor: Option<String>,
    pub(crate) tenant: Option<String>,
    /// From this moment on, milliseconds of Unix time.
    pub(crate) from_ms: Option<i64>,
    /// Before this one.
    pub(crate) to_ms: Option<i64>,
}

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look {
    /// The first lines after a number.
    After(u64),
    /// The newest before a number; without one, of all.
    Before(Option<u64>),
}

/// What was found, in the order of the trail.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) lines: Vec<Value>,
    /// The number after which, or before which, the next look goes on; `None` = there is nothing more.
    pub(crate) next: Option<u64>,
}

/// Wanted lines, seals left out.
///
/// # Errors
/// A file cannot be read.
pub(crate) fn read(folder: &Path, look: Look, wanted: &Wanted, limit: usize) -> io::Result<Page> {
    let files = files(folder)?;
    let search = Search { tests: Tests::of(wanted), limit, found: VecDeque::new(), looked: 0, last: None };
    match look {
        Look::After(after) => following(&files, after, search),
        Look::Before(before) => newest(&files, before, search),
    }
}

/// What a line must say, in its own words.
struct Tests {
    texts: Vec<(&'static str, String)>,
    action: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

impl Tests {
    fn of(wanted: &Wanted) -> Tests {
        let Wanted { action, actor, tenant, from_ms, to_ms } = wanted;
        let of = |at, text: &Option<String>| text.clone().map(|text| (at, text));
        Tests {
            texts: [of("/actor/id", actor), of("/tenant", tenant)].into_iter().flatten().collect(),
            action: action.clone(),
            from: from_ms.map(timestamp),
            to: to_ms.map(timestamp),
        }
    }

    fn fit(&self, line: &Value) -> bool {
        let text = |at: &str| line.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let (action, ts) = (text("/action"), text("/ts"));
        let begins = |wanted: &str| action.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'));
        self.action.as_deref().is_none_or(|wanted| action == wanted || begins(wanted))
            && self.texts.iter().all(|(at, wanted)| text(at) == wanted)
            && self.from.as_deref().is_none_or(|from| ts >= from)
            && self.to.as_deref().is_none_or(|to| ts < to)
    }
}

/// What a look has come to.
struct Search {
    tests: Tests,
    limit: usize,
    found: VecDeque<Value>,
    looked: usize,
    /// The number of the last line that was looked at.
    last: Option<u64>,
}

impl Search {
    /// Whether one more line may be looked at.
    fn goes_on(&self) -> bool {
        self.found.len() < self.limit && self.looked < LOOKED
    }

    /// Looks at a line: gives it back if it is wanted.
    fn see(&mut self, (number, line): (u64, Value)) -> Option<Value> {
        (self.looked, self.last) = (self.looked.saturating_add(1), Some(number));
        self.tests.fit(&line).then_some(line)
    }

    fn page(self, more: bool) -> Page {
        Page { next: self.last.filter(|_| more), lines: self.found.into() }
    }
}

/// A line with its number, unless it is a seal or damaged.
fn entry(text: &[u8]) -> Option<(u64, Value)> {
    let line = serde_json::from_slice::<Value>(text).ok().filter(|l| l.get("type").is_none())?;
    let number = line.get("seq").and_then(Value::as_u64).unwrap_or(0);
    Some((number, line))
}

/// The number of the first line of a file.
fn first(path: &Path) -> io::Result<Option<u64>> {
    Ok(next(&mut BufReader::new(File::open(path)?))?.map(|(_, number)| number))
}

fn following(files: &[PathBuf], after: u64, mut search: Search) -> io::Result<Page> {
    let mut begin = files.len();
    for path in files.iter().rev() {
        begin = begin.saturating_sub(1);
        if first(path)?.is_some_and(|number| number <= after) {
            break;
        }
    }
    for path in files.iter().skip(begin) {
        let mut file = BufReader::new(File::open(path)?);
        let at = place(&mut file, after)?;
        file.seek(SeekFrom::Start(at))?;
        let mut text = Vec::new();
        while file.read_until(b'\n', &mut text)? > 0 {
            if let Some(line) = entry(&text).filter(|(number, _)| *number > after) {
                if !search.goes_on() {
                    return Ok(search.page(true));
                }
                let line = search.see(line);
                search.found.extend(line);
            }
            text.clear();
        }
    }
    Ok(search.page(false))
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

/// Where the lines before a number end.
fn end_before(path: &Path, before: u64) -> io::Result<u64> {
    let mut file = BufReader::new(File::open(path)?);
    let mut at = place(&mut file, before.saturating_sub(1))?;
    file.seek(SeekFrom::Start(at))?;
    let mut text = Vec::new();
    loop {
        let length = file.read_until(b'\n', &mut text)?;
        if length == 0 || entry(&text).is_some_and(|(number, _)| number >= before) {
            return Ok(at);
        }
        at = at.saturating_add(length as u64);
        text.clear();
    }
}

fn newest(files: &[PathBuf], before: Option<u64>, mut search: Search) -> io::Result<Page> {
    for path in files.iter().rev() {
        let mut end = match before {
            None => std::fs::metadata(path)?.len(),
            Some(before) if first(path)?.is_none_or(|number| number >= before) => continue,
            Some(before) => end_before(path, before)?,
        };
        let mut file = File::open(path)?;
        // What was read of a line whose beginning was not.
        let mut rest = Vec::new();
        while end > 0 {
            let begin = end.saturating_sub(BLOCK);
            let mut block = Vec::new();
            file.seek(SeekFrom::Start(begin))?;
            (&mut file).take(end.saturating_sub(begin)).read_to_end(&mut block)?;
            block.append(&mut rest);
            let broken =
                block.iter().position(|b| *b == b'\n').map_or(block.len(), |at| at.saturating_add(1));
            let lines = block.split_off(if begin == 0 { 0 } else { broken });
            for line in lines.rsplit(|b| *b == b'\n').filter_map(entry) {
                if !search.goes_on() {
                    return Ok(search.page(true));
                }
                if let Some(line) = search.see(line) {
                    search.found.push_front(line);
                }
            }
            (rest, end) = (block, begin);
        }
    }
    Ok(search.page(false))
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
                let line = json!({"seq": number, "detail": detail, "action": if number % 1_000 == 7 { "key.create" } else { "keys" },
                    "actor": {"id": format!("k{}", number % 2)}, "tenant": "acme",
                    "ts": timestamp(i64::try_from(number).unwrap() * 1_000)});
                text.extend(format!("{line}\n").bytes());
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

    fn numbers(page: &Page) -> Vec<u64> {
        page.lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect()
    }

    /// All that is wanted, page by page.
    fn all(folder: &Path, mut look: Look, wanted: &Wanted, limit: usize) -> Vec<u64> {
        let mut found = Vec::new();
        loop {
            let page = read(folder, look, wanted, limit).unwrap();
            assert!(page.lines.len() <= limit);
            look = match (look, page.next) {
                (_, None) => {
                    found.extend(numbers(&page));
                    return found;
                }
                (Look::After(_), Some(next)) => Look::After(next),
                (Look::Before(_), Some(next)) => Look::Before(Some(next)),
            };
            found.extend(numbers(&page));
        }
    }

    #[test]
    fn what_is_wanted_is_found_page_by_page_in_both_directions() {
        let folder = trail();
        let keys = Wanted { action: Some("key".to_owned()), ..Wanted::default() };
        let some = Wanted {
            actor: Some("k1".to_owned()),
            tenant: Some("acme".to_owned()),
            from_ms: Some(2_990_000),
            to_ms: Some(3_010_000),
            ..Wanted::default()
        };
        let nobody = Wanted { tenant: Some("other".to_owned()), ..Wanted::default() };
        let odd: Vec<u64> = (2_990..3_010).filter(|n| n % 2 == 1).collect();
        for (wanted, want) in [
            (Wanted::default(), (1..=9_000).collect::<Vec<_>>()),
            (keys, (0..9).map(|n| n * 1_000 + 7).collect()),
            (Wanted { action: Some("key.create".to_owned()), ..some.clone() }, vec![3_007]),
            (some, odd),
            (nobody, Vec::new()),
        ] {
            for limit in [1_000, 3, 70] {
                assert_eq!(all(folder.path(), Look::After(0), &wanted, limit), want, "{wanted:?}");
                let mut back = all(folder.path(), Look::Before(None), &wanted, limit);
                back.sort_unstable();
                assert_eq!(back, want, "{wanted:?}");
            }
        }
    }

    #[test]
    fn a_page_is_found_wherever_it_stands() {
        let folder = trail();
        let of = |after: Option<u64>, limit: usize| -> Vec<u64> {
            let look = after.map_or(Look::Before(None), Look::After);
            numbers(&read(folder.path(), look, &Wanted::default(), limit).unwrap())
        };
        for after in [0, 1, 99, 100, 2_950, 2_999, 3_000, 3_001, 5_999, 6_000, 7_777, 8_999, 9_000, 12_000] {
            for limit in [0, 1, 150, 1_000, 20_000] {
                let want: Vec<u64> = (after + 1..=9_000).take(limit).collect();
                assert_eq!(of(Some(after), limit), want, "{limit} after {after}");
            }
        }
        for limit in [0, 1, 150, 1_000, 3_000, 3_001, 20_000] {
            let want: Vec<u64> = (1..=9_000).skip(9_000_usize.saturating_sub(limit)).collect();
            assert_eq!(of(None, limit), want, "the newest {limit}");
        }
    }

    #[test]
    fn a_trail_without_lines_gives_none() {
        let folder = tempfile::tempdir().unwrap();
        let none = |look| read(folder.path(), look, &Wanted::default(), 10).unwrap().lines.is_empty();
        assert!(none(Look::Before(None)));
        std::fs::write(super::super::folder::name(folder.path(), 1), "").unwrap();
        assert!(none(Look::Before(None)) && none(Look::Before(Some(5))) && none(Look::After(0)));
    }
}
