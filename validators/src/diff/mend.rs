//! Setting the counts of hunks right.

use super::parse::Kind as Line;
use super::patches;
use crate::text::MAX_BYTES;
use std::ops::Range;

/// The answer with the counts of its hunks set right and the lost blanks of empty lines restored; `None` if
/// there is nothing to mend, or a hunk cannot be read.
pub(super) fn fixed(text: &str) -> Option<String> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for (shift, files, _) in patches(text) {
        for file in files {
            let mut moved = 0_isize;
            for hunk in &file.hunks {
                let (Some(old), Some(_)) = (hunk.old, hunk.new) else { return None };
                if hunk.lines.iter().any(|(k, _)| *k == Line::Unknown) {
                    return None;
                }
                let (before, after) = hunk.counts();
                // Nothing before, or nothing after, is said by a start one lower.
                let shifted = old.0.saturating_add_signed(moved);
                let start = match (before, after) {
                    (0, n) if n > 0 => shifted.saturating_add(1),
                    (n, 0) if n > 0 => shifted.saturating_sub(1),
                    _ => shifted,
                };
                let header = format!("@@ -{},{before} +{start},{after} @@{}", old.0, hunk.section);
                if Some((old.1, hunk.new.map_or(0, |n| n.1))) != Some((before, after)) {
                    edits.push((
                        hunk.header.start.saturating_add(shift)..hunk.header.end.saturating_add(shift),
                        header,
                    ));
                }
                let lost = hunk.lines.iter().filter(|(k, s)| *k == Line::Context && s.is_empty());
                edits.extend(lost.map(|(_, s)| {
                    let at = s.start.saturating_add(shift);
                    (at..at, " ".to_owned())
                }));
                moved = moved.saturating_add_unsigned(after).saturating_sub_unsigned(before);
            }
        }
    }
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|(s, _)| s.start);
    let mut out = text.to_owned();
    for (span, with) in edits.into_iter().rev() {
        out.replace_range(span, &with);
    }
    Some(out)
}
