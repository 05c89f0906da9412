//! Numbers as they are written: which of them JSON as we hold it keeps, and which would come out as others.

use serde_json::Number;

/// The number that a text stands for; `None` = none, or one that would be written with another value.
pub(crate) fn number(text: &str) -> Option<Number> {
    // In JSON no number begins like this, and where it is one it may be octal.
    let digits = text.trim_start_matches(['-', '+']);
    if digits.len() > 1 && digits.starts_with('0') && digits.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
    {
        return None;
    }
    if let Ok(i) = text.parse::<i64>() {
        return Some(i.into());
    }
    if let Ok(u) = text.parse::<u64>() {
        return Some(u.into());
    }
    let number = Number::from_f64(text.parse().ok()?)?;
    (decimal(&number.to_string())? == decimal(text)?).then_some(number)
}

/// Whether every number of a JSON text comes out with its value.
pub(crate) fn all_kept(json: &str) -> bool {
    let mut rest = json;
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        let from = rest.get(start..).unwrap_or("");
        let len = match from.strip_prefix('"') {
            Some(inside) => string(inside).saturating_add(1),
            None => {
                let end = from.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
                let len = end.unwrap_or(from.len());
                if from.get(..len).is_none_or(|token| number(token).is_none()) {
                    return false;
                }
                len
            }
        };
        rest = from.get(len..).unwrap_or("");
    }
    true
}

/// Bytes of a string behind its opening quotation mark, the closing one included.
fn string(inside: &str) -> usize {
    let mut escaped = false;
    let end = inside.bytes().position(|b| {
        let closes = b == b'"' && !escaped;
        escaped = b == b'\\' && !escaped;
        closes
    });
    end.map_or(inside.len(), |at| at.saturating_add(1))
}

/// A decimal number as its sign, its digits without zeros around them, and the power of ten of the last of them.
#[derive(PartialEq)]
struct Decimal {
    negative: bool,
    digits: String,
    power: i64,
}

fn decimal(text: &str) -> Option<Decimal> {
    let (negative, plain) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, power) = match plain.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, power.parse::<i64>().ok()?),
        None => (plain, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{part}");
    let digits = all.trim_start_matches('0').trim_end_matches('0');
    if digits.is_empty() {
        return Some(Decimal { negative: false, digits: String::new(), power: 0 });
    }
    let zeros = all.len().saturating_sub(all.trim_end_matches('0').len());
    let length = |n: usize| i64::try_from(n).ok();
    let power = power.checked_sub(length(part.len())?)?.checked_add(length(zeros)?)?;
    Some(Decimal { negative, digits: digits.to_owned(), power })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, want: Option<&str>) {
        assert_eq!(number(text).map(|n| n.to_string()).as_deref(), want, "{text}");
    }

    #[test]
    fn what_comes_out_as_another_number_is_none() {
        check("7", Some("7"));
        check("-0", Some("0"));
        check("18446744073709551615", Some("18446744073709551615"));
        check("18446744073709551616", None);
        check("100000000000000000000", Some("1e+20"));
        check("-9223372036854775809", None);
        check("1.50", Some("1.5"));
        check("0.1", Some("0.1"));
        check("-0.000", Some("-0.0"));
        check("150E-1", Some("15.0"));
        check("0.12345678901234567", None);
        check("1e400", None);
        check("1e-400", None);
        check("1e99999999999999999999", None);
        check("x", None);
        check("", None);
    }

    #[test]
    fn numbers_are_sought_outside_of_texts() {
        for (json, kept) in [
            (r#"{"a": [1, -2.5, 1e3], "b1e400": "1e400 \\\" 1e400"}"#, true),
            (r#"{"a": "\\", "b": 1e400}"#, false),
            ("18446744073709551616", false),
            ("[0.12345678901234567]", false),
        ] {
            assert_eq!(all_kept(json), kept, "{json}");
        }
    }

    proptest! {
        #[test]
        fn what_json_holds_is_kept(x in any::<f64>().prop_filter("finite", |x| x.is_finite()), n in any::<i64>(), u in any::<u64>()) {
            let texts = [serde_json::json!(x).to_string(), n.to_string(), u.to_string()];
            for text in texts {
                prop_assert_eq!(number(&text).map(|n| n.to_string()), Some(text));
            }
        }
    }
}
