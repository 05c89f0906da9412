//! The wall clock, where a date or a timestamp is meant for people and records. Durations use tokio's clock.

use std::time::{SystemTime, UNIX_EPOCH};
use types::calendar::Date;

/// Unix time in milliseconds; 0 if the clock stands before 1970.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The same as a timestamp.
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(unix_ms()).unwrap_or_default()
}

/// Unix time in seconds.
pub(crate) fn unix() -> i64 {
    unix_ms() / 1_000
}

/// The date in UTC.
pub(crate) fn today() -> Date {
    Date::from_days(unix().div_euclid(86_400))
}

/// Unix time of the start of a date written `YYYY-MM-DD`.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    types::calendar::parse(text).map(|days| days * 86_400)
}
