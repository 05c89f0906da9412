//! The numbers, dates and names with digits that sources hold, and whether one of an answer is among them.

use crate::text::dates::{Date, dates};
use crate::text::numbers::{Number, numbers};
use crate::text::quantities::Unit;
use std::collections::HashSet;

/// Shortest run of digits that is looked for without what parts it.
const MIN_DIGITS: usize = 7;
/// Slack of conversions between units, as a share: factors are rounded by those who convert.
const CONVERSION: f64 = 0.01;

/// What sources hold.
#[derive(Debug, Default)]
pub(super) struct Known {
    numbers: Vec<Number>,
    dates: Vec<Date>,
    literals: HashSet<String>,
    digits: String,
}

impl Known {
    /// Takes in a text.
    pub(super) fn add(&mut self, text: &str) {
        let found = dates(text);
        let spans: Vec<_> = found.iter().map(|d| d.span.clone()).collect();
        for n in numbers(text, &spans) {
            match n.literal {
                Some(l) => {
                    self.literals.insert(l);
                }
                None => self.numbers.push(n),
            }
        }
        // The parts of a date are numbers as well.
        for d in &found {
            let parts = [d.year.map(f64::from), d.day.map(f64::from), Some(f64::from(d.month))];
            self.numbers.extend(parts.into_iter().flatten().map(plain));
        }
        self.dates.extend(found);
        self.digits.extend(text.chars().map(crate::text::numbers::ascii_digit).filter(char::is_ascii_digit));
    }

    /// Drops what is held twice.
    pub(super) fn finish(&mut self) {
        self.numbers.sort_by(|a, b| a.value.total_cmp(&b.value).then(a.step.total_cmp(&b.step)));
        self.numbers.dedup_by(|a, b| {
            a.value == b.value && a.unit == b.unit && a.other == b.other && a.step == b.step
        });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether a number stands there: the same, as written elsewhere, rounded, or in another unit.
    pub(super) fn has(&self, n: &Number, tolerance: f64) -> bool {
        if let Some(l) = &n.literal {
            return self.literals.contains(l) || l.len() >= MIN_DIGITS && self.digits.contains(l.as_str());
        }
        self.numbers.iter().any(|k| same(n, k, tolerance))
    }

    /// Whether a date stands there, with every part it gives.
    pub(super) fn has_date(&self, date: &Date) -> bool {
        let mut near = self.dates.iter().filter(|d| d.agrees(date));
        near.clone().any(|d| d.year.is_some() >= date.year.is_some() && d.day.is_some() >= date.day.is_some())
            || near.any(|d| d.day.is_some() >= date.day.is_some())
                && date.year.is_none_or(|y| self.numbers.iter().any(|n| n.value == f64::from(y)))
    }
}

fn plain(value: f64) -> Number {
    Number {
        value,
        other: None,
        step: 1.0,
        unit: Unit::None,
        spelled: false,
        hedged: false,
        literal: None,
        span: 0..0,
        digits: 0..0,
    }
}

/// Whether a number of an answer says what a known one says.
pub(super) fn same(n: &Number, known: &Number, tolerance: f64) -> bool {
    let readings = |x: &Number| [Some(x.value), x.other];
    readings(n)
        .into_iter()
        .flatten()
        .any(|a| readings(known).into_iter().flatten().any(|b| agree(n, a, known, b, tolerance)))
}

fn agree(n: &Number, a: f64, known: &Number, b: f64, tolerance: f64) -> bool {
    let near = |a: f64, b: f64, slack: f64| {
        // The sign is often in the words: "fell by 5 %".
        let (a, b) = (a.abs(), b.abs());
        (a - b).abs() <= slack.max(b * tolerance).max(b * 1e-9)
    };
    let rounding = rounding(n, a, known);
    match (n.unit, known.unit) {
        (Unit::Clock, Unit::Clock) => near(a, b, 0.0),
        // "10 a.m." is 10:00.
        (Unit::Clock, _) => near(a, b * 60.0, 0.0) || near(a, (b + 12.0) * 60.0, 0.0),
        (_, Unit::Clock) => near(a * 60.0, b, 0.0) || near((a + 12.0) * 60.0, b, 0.0),
        (Unit::Percent, Unit::Percent) => near(a, b, rounding),
        // A quarter is 25 %, and a column of shares leaves the sign to its header.
        (Unit::Percent, Unit::None) => near(a, b, rounding) || near(a, b * 100.0, rounding),
        (Unit::None, Unit::Percent) => near(a, b, rounding) || near(a * 100.0, b, rounding * 100.0),
        (Unit::Money(x), Unit::Money(y)) => x == y && near(a, b, rounding),
        (Unit::Measure(x, f), Unit::Measure(y, g)) => {
            let converted = if (f - g).abs() < f64::EPSILON { 0.0 } else { b.abs() * g / f * CONVERSION };
            x == y && near(a, b * g / f, rounding.max(converted))
        }
        (Unit::Percent, Unit::Money(_) | Unit::Measure(..))
        | (Unit::Money(_) | Unit::Measure(..), Unit::Percent) => false,
        (Unit::Money(_), Unit::Measure(..)) | (Unit::Measure(..), Unit::Money(_)) => false,
        _ => near(a, b, rounding),
    }
}

/// How far the number may be off by rounding: half its last digit if the source gives more digits, and half
/// its last digit that is not zero if it says that it is not exact.
fn rounding(n: &Number, a: f64, known: &Number) -> f64 {
    if n.hedged || known.hedged {
        let mut step = n.step;
        while step < 1e15 && a != 0.0 && (a / (step * 10.0)).fract() == 0.0 {
            step *= 10.0;
        }
        return step / 2.0;
    }
    if n.step > known.step * 1.5 { n.step / 2.0 * (1.0 + 1e-9) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, answer: &str, want: bool) {
        let mut known = Known::default();
        known.add(source);
        known.finish();
        let found = dates(answer);
        let spans: Vec<_> = found.iter().map(|d| d.span.clone()).collect();
        let got = found.iter().all(|d| known.has_date(d))
            && numbers(answer, &spans).iter().all(|n| known.has(n, 0.0));
        assert_eq!(got, want, "{source} / {answer}");
    }

    #[test]
    fn the_same_number_may_be_written_in_many_ways() {
        check("1,234 people", "1234 people", true);
        check("1.234.567 Menschen", "1,234,567 people", true);
        check("0.25 of all", "25%", true);
        check("25 percent", "25 %", true);
        check("a quarter", "25%", true);
        check("seventeen", "17", true);
        check("1,234,567", "1.2 million", true);
        check("1,284,567", "1.2 million", false);
        check("3.14159", "3.14", true);
        check("4,987 cars", "about 5,000 cars", true);
        check("4,987 cars", "5,000 cars", false);
        check("$5 million", "5,000,000 dollars", true);
        check("$5", "5 EUR", false);
        check("1.5 km", "1,500 metres", true);
        check("5 km", "3.1 miles", true);
        check("5 km", "5 kg", false);
        check("90 minutes", "1.5 hours", true);
        check("5 %", "$5", false);
        check("open at 10 a.m.", "open at 10:00", true);
        check("call (888) 407-4747", "call 888-407-4747", true);
        check("call (888) 407-4747", "call 888-407-4748", false);
        check("version 1.2.3", "version 1.2.4", false);
    }

    #[test]
    fn dates_are_compared_as_dates() {
        check("on 15 May 2024", "on 2024-05-15", true);
        check("on 15 May 2024", "in May 2024", true);
        check("in May 2024", "on 15 May 2024", false);
        check("on 15 May 2024", "on 16 May 2024", false);
        check("on 15 May of the year 2024", "on May 15, 2024", true);
        check("on 15 May 2024", "in 2024", true);
        check("on 15 May 2024", "in 2023", false);
    }
}
