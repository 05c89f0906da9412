//! Counting what the rules of form are about.

use crate::text::blocks::{Kind, Outline};
use std::collections::HashMap;
use unicode_segmentation::UnicodeSegmentation;

/// Items of lists at any level.
pub(super) fn bullets(outline: &Outline) -> usize {
    outline.lists.iter().sum()
}

/// Paragraphs: parts of the text between separators, or between empty lines if none is given. A part without
/// a letter or digit is none.
pub(super) fn paragraphs<'t>(text: &'t str, separator: Option<&str>) -> Vec<&'t str> {
    let filled = |p: &&str| p.chars().any(char::is_alphanumeric);
    match separator {
        Some(s) if !s.is_empty() => text.split(s).map(str::trim).filter(filled).collect(),
        _ => {
            let mut out = Vec::new();
            let (mut start, mut at) = (0_usize, 0_usize);
            for line in text.split_inclusive('\n') {
                if line.trim().is_empty() {
                    out.extend(text.get(start..at));
                    start = at.saturating_add(line.len());
                }
                at = at.saturating_add(line.len());
            }
            out.extend(text.get(start..));
            out.into_iter().map(str::trim).filter(filled).collect()
        }
    }
}

/// Sections: headings, or lines that begin with a marker such as `SECTION` and a number or name behind it.
pub(super) fn sections<'t>(text: &'t str, outline: &Outline, marker: Option<&str>) -> Vec<&'t str> {
    match marker {
        None => outline
            .blocks
            .iter()
            .filter(|b| matches!(b.kind, Kind::Heading(_)))
            .filter_map(|b| text.get(b.span.clone()))
            .collect(),
        Some(m) => text
            .lines()
            .map(|l| l.trim_start_matches(['#', '*', '_', ' ', '\t']))
            .filter_map(|l| {
                let rest =
                    l.get(..m.len()).filter(|h| h.eq_ignore_ascii_case(m)).and_then(|_| l.get(m.len()..))?;
                rest.chars()
                    .next()
                    .is_none_or(|c| !c.is_alphanumeric())
                    .then(|| rest.trim_matches([' ', ':', '*', '_', '.']))
            })
            .collect(),
    }
}

/// Passages set off by `*…*` or `**…**`, on one line, with something in them.
pub(super) fn highlighted(text: &str) -> usize {
    text.lines().map(highlights).fold(0, usize::saturating_add)
}

fn highlights(line: &str) -> usize {
    let mut n = 0_usize;
    let mut rest = line;
    // The star that opens a list item sets nothing off.
    if let Some(item) = rest.trim_start().strip_prefix("* ") {
        rest = item;
    }
    while let Some(open) = rest.find('*') {
        let from = rest.get(open..).unwrap_or("");
        let mark = if from.starts_with("**") { "**" } else { "*" };
        let inner = from.get(mark.len()..).unwrap_or("");
        let Some(end) = inner.find(mark) else { break };
        if inner.get(..end).is_some_and(|i| !i.trim().is_empty()) {
            n = n.saturating_add(1);
        }
        rest = inner.get(end.saturating_add(mark.len())..).unwrap_or("");
    }
    n
}

/// Things in brackets to be filled in, such as `[address]`: no links, citations, or boxes to tick.
pub(super) fn placeholders(text: &str) -> usize {
    let mut n = 0_usize;
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let inner = rest.get(open.saturating_add(1)..).unwrap_or("");
        let Some(end) = inner.find([']', '[', '\n']) else { break };
        let body = inner.get(..end).unwrap_or("");
        let behind = inner.get(end..).unwrap_or("");
        let closed = behind.starts_with(']') && !behind.starts_with("](");
        if closed
            && body.chars().any(char::is_alphabetic)
            && !body.eq_ignore_ascii_case("x")
            && !body.starts_with('^')
        {
            n = n.saturating_add(1);
        }
        rest = behind.strip_prefix(']').unwrap_or(behind);
    }
    n
}

/// Words all of whose letters are capitals, of two letters or more.
pub(super) fn capital_words(text: &str) -> usize {
    let capital = |w: &&str| {
        let mut letters = w.chars().filter(|c| c.is_alphabetic());
        letters.clone().count() > 1 && letters.all(char::is_uppercase)
    };
    text.unicode_words().filter(capital).count()
}

/// How often each letter occurs, small and capital together.
pub(super) fn letters(text: &str) -> HashMap<char, usize> {
    let mut counts = HashMap::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        let n: &mut usize = counts.entry(c).or_default();
        *n = n.saturating_add(1);
    }
    counts
}

/// The title: the text within `<<` and `>>`, else the first block if it is a heading.
pub(super) fn title<'t>(text: &'t str, outline: &Outline, style: &str) -> Option<&'t str> {
    let angled = || {
        let inner = text.split_once("<<")?.1;
        let title = inner.split_once(">>")?.0.trim();
        (!title.is_empty() && !title.contains('\n')).then_some(title)
    };
    let heading = || {
        let first = outline.blocks.first().filter(|b| matches!(b.kind, Kind::Heading(_)))?;
        text.get(first.span.clone())
    };
    match style {
        "angle" => angled(),
        "heading" => heading(),
        _ => angled().or_else(heading),
    }
}

/// The first letter that breaks the case, with its place.
pub(super) fn wrong_case(text: &str, case: &str) -> Option<usize> {
    match case {
        "lower" => text.char_indices().find(|(_, c)| c.is_uppercase()).map(|(i, _)| i),
        "upper" => text.char_indices().find(|(_, c)| c.is_lowercase()).map(|(i, _)| i),
        _ => {
            let word = |(_, w): &(usize, &str)| {
                w.chars().next().is_some_and(char::is_lowercase) && w.chars().count() > 3
            };
            text.unicode_word_indices().find(word).map(|(i, _)| i)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::blocks::outline;

    #[test]
    fn things_are_counted_as_people_count_them() {
        assert_eq!(bullets(&outline("- a\n- b\n\n1. c\n   - d")), 4);
        assert_eq!(paragraphs("a\n\nb\nc\n \n***\n\nd", None).len(), 3);
        assert_eq!(paragraphs("a\n***\nb\n***\nc", Some("***")).len(), 3);
        assert_eq!(sections("# a\nx\n## b", &outline("# a\nx\n## b"), None), ["a", "b"]);
        assert_eq!(
            sections("SECTION 1\nx\n**Section 2:** y\nsections", &outline(""), Some("SECTION")),
            ["1", "2:** y"]
        );
        for (text, n) in
            [("*a* and **b**", 2), ("* item *x*", 1), ("2 * 3 * 4", 1), ("** **", 0), ("none", 0)]
        {
            assert_eq!(highlighted(text), n, "{text}");
        }
        for (text, n) in
            [("Dear [name], [your address]", 2), ("[1] [x] [a](b) [^f]", 0), ("[[a]]", 1), ("[", 0)]
        {
            assert_eq!(placeholders(text), n, "{text}");
        }
        assert_eq!(capital_words("NASA and ESA, I am B2B"), 3);
        assert_eq!(letters("Aab").get(&'a'), Some(&2));
        assert_eq!(title("<<A b>>\nx", &outline("<<A b>>\nx"), "any"), Some("A b"));
        assert_eq!(title("# T\nx", &outline("# T\nx"), "any"), Some("T"));
        assert_eq!(title("# T\nx", &outline("# T\nx"), "angle"), None);
        assert_eq!(wrong_case("all lower 中 1", "lower"), None);
        assert_eq!(wrong_case("aB", "lower"), Some(1));
        assert_eq!(wrong_case("A Title of Things", "title"), None);
        assert_eq!(wrong_case("A title of Things", "title"), Some(2));
    }
}
