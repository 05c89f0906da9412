//! How digits are written: separators of thousands and decimals, lists of numbers.

use super::ascii_digit;

/// Length of the digits and separators at the beginning of the text; a separator counts only between digits.
pub(super) fn run(rest: &str) -> usize {
    let mut end = 0_usize;
    let mut chars = rest.char_indices().peekable();
    while let Some((i, c)) = chars.next() {
        let digit = ascii_digit(c).is_ascii_digit();
        let joins = separator(c) && chars.peek().is_some_and(|(_, n)| ascii_digit(*n).is_ascii_digit());
        if !digit && !joins {
            break;
        }
        end = i.saturating_add(c.len_utf8());
    }
    end
}

fn separator(c: char) -> bool {
    matches!(c, ',' | '.' | '\'' | '’' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '٬' | '٫' | '，')
}

/// The parts of a run: `1,2,3` lists three numbers, `1,234` is one.
pub(super) fn pieces(body: &str) -> Vec<(String, usize)> {
    let groups: Vec<&str> = body.split(',').collect();
    let thousands =
        groups.iter().skip(1).all(|g| g.split('.').next().is_some_and(|g| g.chars().count() == 3));
    if groups.len() > 2 && !thousands {
        let mut at = 0_usize;
        let mut out = Vec::new();
        for g in groups {
            out.push((g.to_owned(), at));
            at = at.saturating_add(g.len()).saturating_add(1);
        }
        return out;
    }
    vec![(body.to_owned(), 0)]
}

/// Value, other reading and digits behind the decimal sign.
pub(super) fn read(body: &str) -> Option<(f64, Option<f64>, i32)> {
    let plain: String = body
        .chars()
        .filter(|c| !matches!(c, '\'' | '’' | '\u{a0}' | '\u{202f}' | '\u{2009}' | '٬'))
        .map(|c| match c {
            '٫' => '.',
            '，' => ',',
            c => ascii_digit(c),
        })
        .collect();
    let commas = plain.matches(',').count();
    let dots = plain.matches('.').count();
    let last = plain.rfind([',', '.']);
    let behind = last.map_or(0, |i| plain.len().saturating_sub(i).saturating_sub(1));
    let lead = plain.find([',', '.']).unwrap_or(0);
    let groups = |s: &str| s.split([',', '.']).skip(1).all(|g| g.len() == 3);
    let decimal_at_last = |s: &str| {
        let (whole, part) = s.split_at(last.unwrap_or(s.len()));
        let whole: String = whole.chars().filter(char::is_ascii_digit).collect();
        format!("{whole}.{}", part.trim_start_matches([',', '.']))
    };
    let joined: String = plain.chars().filter(char::is_ascii_digit).collect();
    let digits = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let parse = |s: &str| s.parse::<f64>().ok();
    match (commas, dots) {
        (0, 0) => Some((parse(&joined)?, None, 0)),
        (1, 0) | (0, 1) => {
            let could_group = behind == 3 && (1..=3).contains(&lead) && !plain.starts_with('0');
            let decimal = parse(&decimal_at_last(&plain))?;
            match (could_group, commas) {
                (true, 1) => Some((parse(&joined)?, Some(decimal), 0)),
                (true, _) => Some((decimal, Some(parse(&joined)?), digits(behind))),
                _ => Some((decimal, None, digits(behind))),
            }
        }
        (_, 0) | (0, _) if groups(&plain) => Some((parse(&joined)?, None, 0)),
        (_, 0) | (0, _) => None,
        _ => Some((parse(&decimal_at_last(&plain))?, None, digits(behind))),
    }
}
