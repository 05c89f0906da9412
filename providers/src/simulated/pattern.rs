//! Text that matches a regular expression, as far as can be had cheaply.

use super::draw::Draw;
use regex_syntax::hir::{Class, Hir, HirKind};

/// Longest text that is made.
const MAX_CHARS: usize = 4_096;

/// A text that matches `pattern` and has `min..=max` characters; `None` if the pattern is of a kind that
/// is not understood or no repetition count fits. Look-around is ignored.
pub(super) fn matching(pattern: &str, min: usize, max: usize, draw: &mut Draw) -> Option<String> {
    let hir = regex_syntax::Parser::new().parse(pattern).ok()?;
    [0, 1, 2, 4, 8, 16, 32, 64, 128, 256].into_iter().find_map(|extra| {
        let mut out = String::new();
        write(&hir, extra, draw, &mut out)?;
        (min..=max).contains(&out.chars().count()).then_some(out)
    })
}

/// Writes one match; every repetition is made `extra` times more often than it must.
fn write(hir: &Hir, extra: u32, draw: &mut Draw, out: &mut String) -> Option<()> {
    if out.len() > MAX_CHARS {
        return None;
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(l) => out.push_str(std::str::from_utf8(&l.0).ok()?),
        HirKind::Class(c) => out.push(one_of(c, draw)?),
        HirKind::Capture(c) => write(&c.sub, extra, draw, out)?,
        HirKind::Concat(subs) => subs.iter().try_for_each(|s| write(s, extra, draw, out))?,
        HirKind::Alternation(subs) => write(draw.pick(subs)?, extra, draw, out)?,
        HirKind::Repetition(r) => {
            let times = r.min.saturating_add(extra).min(r.max.unwrap_or(u32::MAX));
            for _ in 0..times {
                write(&r.sub, extra, draw, out)?;
            }
        }
    }
    Some(())
}

/// A character of a class: a plain letter or digit if it has any.
fn one_of(class: &Class, draw: &mut Draw) -> Option<char> {
    let ranges: Vec<(char, char)> = match class {
        Class::Unicode(c) => c.ranges().iter().map(|r| (r.start(), r.end())).collect(),
        Class::Bytes(c) => c.ranges().iter().map(|r| (char::from(r.start()), char::from(r.end()))).collect(),
    };
    let holds = |c: char| ranges.iter().any(|(lo, hi)| (*lo..=*hi).contains(&c));
    let plain: Vec<char> = ('0'..='9').chain('a'..='z').chain('A'..='Z').filter(|c| holds(*c)).collect();
    match draw.pick(&plain) {
        Some(c) => Some(*c),
        None => (' '..='~').find(|c| holds(*c)).or_else(|| ranges.first().map(|(lo, _)| *lo)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_match_their_pattern_and_length() {
        let d = &mut Draw::new(&[b"p"]);
        for (pattern, min, max) in [
            ("^[A-Z]{3}-\\d{4}$", 0, 99),
            ("^(foo|bar)+$", 7, 40),
            ("^\\w+@\\w+\\.(com|org)$", 12, 60),
            ("^#[0-9a-fA-F]{6}$", 0, 7),
            ("^[^a-z]$", 1, 1),
            ("^é?x*$", 5, 6),
        ] {
            let made = matching(pattern, min, max, d).unwrap_or_else(|| panic!("{pattern}"));
            let schema = serde_json::json!({"pattern": pattern, "minLength": min, "maxLength": max});
            assert!(jsonschema::is_valid(&schema, &serde_json::json!(made)), "{pattern} {made}");
        }
    }

    #[test]
    fn what_cannot_be_made_is_not_made() {
        let d = &mut Draw::new(&[b"p"]);
        assert_eq!(matching("^a{3}$", 5, 9, d), None);
        assert_eq!(matching("(?=a)b", 0, 9, d), None);
        assert_eq!(matching("^a{999999}$", 0, usize::MAX, d), None);
    }
}
