//! The wall clock, where a date or a timestamp is meant for people and records. Durations use tokio's clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds; 0 if the clock stands before 1970.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Unix time in seconds.
pub(crate) fn unix() -> i64 {
    unix_ms() / 1_000
}

/// The date in UTC: year, month, day.
pub(crate) fn today() -> (i32, u8, u8) {
    civil(unix().div_euclid(86_400))
}

/// The date in UTC of a number of days since 1970-01-01.
pub(crate) fn date(days: i64) -> (i32, u8, u8) {
    civil(days)
}

/// Year, month and day of a number of days since 1970-01-01 (Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", 2014, `civil_from_days`): years begin in March, eras have 400 years of 146 097 days.
fn civil(days: i64) -> (i32, u8, u8) {
    let z = days.saturating_add(719_468);
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (i32::try_from(year).unwrap_or(1970), u8::try_from(month).unwrap_or(1), u8::try_from(day).unwrap_or(1))
}

/// Unix time of the start of a date written `YYYY-MM-DD`; the inverse of [`civil`].
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, '-').map(|p| p.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era - 719_468) * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_there_and_back() {
        for (text, seconds, date) in [
            ("1970-01-01", 0, (1970, 1, 1)),
            ("2000-02-29", 951_782_400, (2000, 2, 29)),
            ("2026-11-21", 1_795_219_200, (2026, 11, 21)),
        ] {
            assert_eq!(parse_date(text), Some(seconds), "{text}");
            assert_eq!(civil(seconds / 86_400), date);
        }
        assert_eq!((parse_date("2026-13-01"), parse_date("soon")), (None, None));
    }
}
