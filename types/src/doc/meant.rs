//! What somebody meant who wrote a value in a form that other programs take: for hints.

use crate::credential::masked;

/// A number: `5%`, `$0.05`, `1,000`, `32k`, or one in quotes.
pub(super) fn number(text: &str) -> Option<f64> {
    let lower = text.trim().to_ascii_lowercase();
    let bare = lower.trim_start_matches("us$").trim_start_matches('$');
    let bare = bare.trim_end_matches("usd").trim_end_matches('$').trim();
    // Divided, for 0.07 is nearer to 7 / 100 than to 7 · 0.01.
    let (digits, times, parts) = match bare.chars().last()? {
        '%' => (bare.trim_end_matches('%'), 1.0, 100.0),
        'k' => (bare.trim_end_matches('k'), 1e3, 1.0),
        'm' => (bare.trim_end_matches('m'), 1e6, 1.0),
        _ => (bare, 1.0, 1.0),
    };
    let digits = digits.trim().replace('_', "");
    let grouped = digits.split(',').skip(1).all(|part| part.split('.').next().is_some_and(|g| g.len() == 3));
    let number: f64 = if grouped { digits.replace(',', "") } else { digits }.parse().ok()?;
    number.is_finite().then_some(number * times / parts)
}

/// A number of bytes as it is taken here: `1 GB`, `500MB`, `10 megabytes`, `1.5G`.
pub(super) fn bytes(text: &str) -> Option<String> {
    let (number, unit) = measured(text)?;
    let (power, unit) = match unit.as_str() {
        "b" | "byte" | "bytes" => (0, ""),
        "k" | "kb" | "kib" | "kilobyte" | "kilobytes" => (1, "KiB"),
        "m" | "mb" | "mib" | "megabyte" | "megabytes" => (2, "MiB"),
        "g" | "gb" | "gib" | "gigabyte" | "gigabytes" => (3, "GiB"),
        _ => return None,
    };
    if number.fract() == 0.0 {
        return Some(format!("{number}{unit}"));
    }
    let below = ["", "KiB", "MiB"].get(usize::checked_sub(power, 1)?)?;
    Some(format!("{}{below}", (number * 1024.0).round()))
}

/// A duration as it is taken here: `5 seconds`, `2 min`, `1hr`.
pub(super) fn duration(text: &str) -> Option<String> {
    let (number, unit) = measured(text)?;
    let unit = match unit.as_str() {
        "ms" | "msec" | "millis" | "millisecond" | "milliseconds" => "ms",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        _ => return None,
    };
    Some(format!("{number}{unit}"))
}

/// A number of 0 or more and the word behind it, in small letters.
fn measured(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let number: f64 = number.trim().parse().ok()?;
    (number.is_finite() && number >= 0.0).then(|| (number, unit.to_ascii_lowercase()))
}

/// A flag in the words of other formats.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "y" | "on" | "true" => Some(true),
        "no" | "n" | "off" | "false" => Some(false),
        _ => None,
    }
}

/// A list whose brackets are missing.
pub(super) fn list(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./*, ".contains(c);
    let short = text.len() <= 80 && !text.trim().is_empty() && text.chars().all(plain);
    short.then(|| format!("[{}]", masked(text.trim())))
}

/// What to do about a text that is no YAML, by what the parser says of it and what stands before that place.
pub(super) fn syntax(said: &str, before: &str) -> Option<&'static str> {
    const INDENTED: [&str; 4] =
        ["not allowed in this context", "block mapping", "block collection", "invalid indentation"];
    let line = before.rsplit('\n').next().unwrap_or_default();
    let is = |part: &str| said.contains(part);
    match () {
        // Of two on one line the second one stands within a value.
        () if is("mapping values") && line.contains(": ") => {
            Some("put the value in quotes: a colon and a blank within it begin another value")
        }
        () if is("tab") => Some("indent with blanks"),
        () if is("end of stream") => Some("close the quote"),
        () if is("trailing content") => Some("put the whole value in quotes of the other kind: '\"a\" == b'"),
        () if is("escape") => Some("write `\\\\` for `\\` within double quotes, or use single ones"),
        () if is("flow mapping") => {
            Some("close the `{` before it with `}`, and put commas between its members")
        }
        () if is("flow sequence") => {
            Some("close the `[` before it with `]`, and put commas between its values")
        }
        () if is("node content") => {
            Some("close the `[` or `{` before it, or write the value that is missing")
        }
        () if is("simple key") => Some("write a colon and a blank behind the key"),
        () if is("unexpected character") => Some("put the value in quotes"),
        () if INDENTED.into_iter().any(is) => {
            Some("lines of one section begin at the same column, and what belongs to a key deeper than it")
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_other_formats_are_read() {
        for (text, want) in [
            ("5%", Some(0.05)),
            ("7 %", Some(0.07)),
            ("$5", Some(5.0)),
            ("$0.05", Some(0.05)),
            ("0.5 USD", Some(0.5)),
            ("1,000", Some(1000.0)),
            ("1_000_000.5", Some(1_000_000.5)),
            ("32k", Some(32_000.0)),
            ("7", Some(7.0)),
            ("0,05", None),
            ("inf", None),
            ("many", None),
            ("", None),
        ] {
            assert_eq!(number(text), want, "{text}");
        }
        for (text, want) in [
            ("1 GB", Some("1GiB")),
            ("500MB", Some("500MiB")),
            ("10 megabytes", Some("10MiB")),
            ("1.5g", Some("1536MiB")),
            ("64 kb", Some("64KiB")),
            ("12 bytes", Some("12")),
            ("1.5b", None),
            ("5 apples", None),
            ("GB", None),
        ] {
            assert_eq!(bytes(text).as_deref(), want, "{text}");
        }
        for (text, want) in [
            ("5 seconds", Some("5s")),
            ("1.5 Min", Some("1.5m")),
            ("2hrs", Some("2h")),
            ("soon", None),
            ("-5s", None),
        ] {
            assert_eq!(duration(text).as_deref(), want, "{text}");
        }
        assert_eq!((flag("Yes"), flag("off"), flag("1")), (Some(true), Some(false), None));
        assert_eq!(list("x-team, x-org").as_deref(), Some("[x-team, x-org]"));
        assert_eq!((list("[a"), list("")), (None, None));
    }
}
