//! Dates of the calendar (proleptic Gregorian, UTC) as numbers of days since 1970-01-01.

/// Year, month (1..=12) and day (1..=31) of a number of days.
///
/// Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2014, `civil_from_days`: years begin in March, so that
/// the leap day is the last of its year; eras of 400 years have 146 097 days.
#[must_use]
pub fn date(days: i64) -> (i64, i64, i64) {
    let z = days.saturating_add(719_468);
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days of a date of the years 0 to 9999, the inverse of [`date`]; `None` = there is no such day.
#[must_use]
pub fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(0..=9_999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    // The 30th of February would be counted as a day of March.
    (date(days) == (year, month, day)).then_some(days)
}

/// Days of a date written `YYYY-MM-DD`; `None` = it is none.
#[must_use]
pub fn parse(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let mut part = |width: usize| {
        let digits = parts.next().filter(|p| p.len() == width && p.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse::<i64>().ok()
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    if parts.next().is_some() {
        return None;
    }
    days(year, month, day)
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
            ("2026-11-21", Some(20_778)),
            ("2026-02-29", None),
            ("2026-02-30", None),
            ("2026-13-01", None),
            ("2026-00-01", None),
            ("2026-01-00", None),
            ("26-01-01", None),
            ("2026-1-01", None),
            ("2026-01-01-01", None),
            ("+026-01-01", None),
            ("soon", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn days_and_dates_are_inverse_over_centuries() {
        for d in (-200_000..200_000).step_by(13) {
            let (year, month, day) = date(d);
            assert_eq!(days(year, month, day), Some(d));
        }
    }
}
