//! Dates of prices, as `YYYY-MM-DD`.

/// Days since 1970-01-01 of a civil date (proleptic Gregorian), or `None` if there is no such day.
pub(super) fn days(year: i32, month: u8, day: u8) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if day == 0 || day > longest {
        return None;
    }
    // Years are counted from March, so that the leap day is the last of its year (Hinnant 2013).
    let (m, y) = (i64::from(month), i64::from(year).saturating_sub(i64::from(month < 3)));
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((m + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Days since 1970-01-01 of a written date.
pub(super) fn parse(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let mut part =
        |width: usize| parts.next().filter(|p| p.len() == width && p.bytes().all(|b| b.is_ascii_digit()));
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    if parts.next().is_some() {
        return None;
    }
    days(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_or_refused() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("2000-02-29", Some(11_016)),
            ("2026-07-02", Some(20_636)),
            ("2026-02-29", None),
            ("2026-13-01", None),
            ("26-01-01", None),
            ("2026-1-01", None),
            ("2026-01-01-01", None),
            ("+026-01-01", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
