//! Units, scales and currencies as they stand beside numbers, and numbers written as words.

/// What a number counts or measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unit {
    /// Nothing that is known.
    None,
    /// Hundredths.
    Percent,
    /// Money, by the code of its currency.
    Money(&'static str),
    /// Minutes since midnight.
    Clock,
    /// Place in an order.
    Ordinal,
    /// A measure: its dimension and how many base units one of it is.
    Measure(&'static str, f64),
}

/// Signs and words of currencies.
const CURRENCIES: &[(&str, &str)] = &[
    ("$", "usd"),
    ("us$", "usd"),
    ("usd", "usd"),
    ("dollar", "usd"),
    ("dollars", "usd"),
    ("€", "eur"),
    ("eur", "eur"),
    ("euro", "eur"),
    ("euros", "eur"),
    ("£", "gbp"),
    ("gbp", "gbp"),
    ("pound", "gbp"),
    ("pounds", "gbp"),
    ("¥", "jpy"),
    ("jpy", "jpy"),
    ("yen", "jpy"),
    ("円", "jpy"),
    ("元", "cny"),
    ("cny", "cny"),
    ("₹", "inr"),
    ("inr", "inr"),
    ("rupees", "inr"),
    ("chf", "chf"),
];

/// The code of a currency.
pub(crate) fn currency(word: &str) -> Option<&'static str> {
    CURRENCIES.iter().find(|(w, _)| *w == word).map(|(_, code)| *code)
}

/// Words and signs that multiply the number before them.
const SCALES: &[(&str, f64)] = &[
    ("hundred", 1e2),
    ("thousand", 1e3),
    ("thousands", 1e3),
    ("k", 1e3),
    ("tausend", 1e3),
    ("mille", 1e3),
    ("mil", 1e3),
    ("千", 1e3),
    ("万", 1e4),
    ("萬", 1e4),
    ("lakh", 1e5),
    ("million", 1e6),
    ("millions", 1e6),
    ("millionen", 1e6),
    ("millón", 1e6),
    ("millones", 1e6),
    ("mio", 1e6),
    ("mn", 1e6),
    ("crore", 1e7),
    ("亿", 1e8),
    ("億", 1e8),
    ("billion", 1e9),
    ("billions", 1e9),
    ("bn", 1e9),
    ("milliarde", 1e9),
    ("milliarden", 1e9),
    ("milliards", 1e9),
    ("mrd", 1e9),
    ("trillion", 1e12),
    ("trillions", 1e12),
    ("兆", 1e12),
];

/// How often the number before this word is to be taken.
pub(crate) fn scale(word: &str) -> Option<f64> {
    SCALES.iter().find(|(w, _)| *w == word).map(|(_, f)| *f)
}

/// Words for hundredths.
pub(crate) fn is_percent(word: &str) -> bool {
    matches!(word, "%" | "％" | "percent" | "prozent" | "percentage" | "procent" | "pct")
}

/// Units of measure with their dimension and factor to its base unit.
const MEASURES: &[(&str, &str, f64)] = &[
    ("mm", "length", 0.001),
    ("cm", "length", 0.01),
    ("m", "length", 1.0),
    ("meter", "length", 1.0),
    ("meters", "length", 1.0),
    ("metre", "length", 1.0),
    ("metres", "length", 1.0),
    ("km", "length", 1000.0),
    ("kilometer", "length", 1000.0),
    ("kilometers", "length", 1000.0),
    ("kilometre", "length", 1000.0),
    ("kilometres", "length", 1000.0),
    ("inch", "length", 0.0254),
    ("inches", "length", 0.0254),
    ("ft", "length", 0.3048),
    ("foot", "length", 0.3048),
    ("feet", "length", 0.3048),
    ("mile", "length", 1609.344),
    ("miles", "length", 1609.344),
    ("mg", "mass", 0.001),
    ("g", "mass", 1.0),
    ("gram", "mass", 1.0),
    ("grams", "mass", 1.0),
    ("kg", "mass", 1000.0),
    ("kilogram", "mass", 1000.0),
    ("kilograms", "mass", 1000.0),
    ("lb", "mass", 453.592_37),
    ("lbs", "mass", 453.592_37),
    ("oz", "mass", 28.349_523),
    ("ms", "time", 0.001),
    ("millisecond", "time", 0.001),
    ("milliseconds", "time", 0.001),
    ("s", "time", 1.0),
    ("sec", "time", 1.0),
    ("second", "time", 1.0),
    ("seconds", "time", 1.0),
    ("min", "time", 60.0),
    ("mins", "time", 60.0),
    ("minute", "time", 60.0),
    ("minutes", "time", 60.0),
    ("h", "time", 3600.0),
    ("hour", "time", 3600.0),
    ("hours", "time", 3600.0),
    ("stunden", "time", 3600.0),
    ("day", "time", 86_400.0),
    ("days", "time", 86_400.0),
    ("tage", "time", 86_400.0),
    ("week", "time", 604_800.0),
    ("weeks", "time", 604_800.0),
    ("month", "calendar", 1.0),
    ("months", "calendar", 1.0),
    ("year", "calendar", 12.0),
    ("years", "calendar", 12.0),
    ("decade", "calendar", 120.0),
    ("decades", "calendar", 120.0),
    ("kb", "data", 1e3),
    ("mb", "data", 1e6),
    ("gb", "data", 1e9),
    ("tb", "data", 1e12),
    ("kib", "data", 1024.0),
    ("mib", "data", 1_048_576.0),
    ("gib", "data", 1_073_741_824.0),
    ("w", "power", 1.0),
    ("kw", "power", 1e3),
    ("mw", "power", 1e6),
    ("gw", "power", 1e9),
    ("wh", "energy", 1.0),
    ("kwh", "energy", 1e3),
    ("mwh", "energy", 1e6),
    ("hz", "frequency", 1.0),
    ("khz", "frequency", 1e3),
    ("mhz", "frequency", 1e6),
    ("ghz", "frequency", 1e9),
    ("ml", "volume", 0.001),
    ("l", "volume", 1.0),
    ("liter", "volume", 1.0),
    ("liters", "volume", 1.0),
    ("litre", "volume", 1.0),
    ("litres", "volume", 1.0),
    ("v", "voltage", 1.0),
    ("kv", "voltage", 1e3),
    ("px", "pixels", 1.0),
    ("°c", "celsius", 1.0),
    ("°f", "fahrenheit", 1.0),
    ("mph", "speed", 1.609_344),
    ("km/h", "speed", 1.0),
    ("kph", "speed", 1.0),
];

/// The unit of measure of that name, in small letters.
pub(crate) fn measure(word: &str) -> Option<Unit> {
    MEASURES
        .iter()
        .find(|(w, _, _)| *w == word)
        .map(|(_, dimension, factor)| Unit::Measure(dimension, *factor))
}

/// Words for small numbers; tens and teens join with what follows.
const SPELLED: &[(&str, f64)] = &[
    ("zero", 0.0),
    ("one", 1.0),
    ("two", 2.0),
    ("three", 3.0),
    ("four", 4.0),
    ("five", 5.0),
    ("six", 6.0),
    ("seven", 7.0),
    ("eight", 8.0),
    ("nine", 9.0),
    ("ten", 10.0),
    ("eleven", 11.0),
    ("twelve", 12.0),
    ("thirteen", 13.0),
    ("fourteen", 14.0),
    ("fifteen", 15.0),
    ("sixteen", 16.0),
    ("seventeen", 17.0),
    ("eighteen", 18.0),
    ("nineteen", 19.0),
    ("twenty", 20.0),
    ("thirty", 30.0),
    ("forty", 40.0),
    ("fifty", 50.0),
    ("sixty", 60.0),
    ("seventy", 70.0),
    ("eighty", 80.0),
    ("ninety", 90.0),
];

/// Words for places and parts.
const PLACES: &[(&str, f64)] = &[
    ("first", 1.0),
    ("second", 2.0),
    ("third", 3.0),
    ("fourth", 4.0),
    ("fifth", 5.0),
    ("sixth", 6.0),
    ("seventh", 7.0),
    ("eighth", 8.0),
    ("ninth", 9.0),
    ("tenth", 10.0),
    ("dozen", 12.0),
    ("once", 1.0),
    ("twice", 2.0),
    ("double", 2.0),
    ("triple", 3.0),
    ("half", 0.5),
    ("quarter", 0.25),
];

/// The number that one word writes.
pub(crate) fn spelled(word: &str) -> Option<f64> {
    SPELLED.iter().find(|(w, _)| *w == word).map(|(_, n)| *n)
}

/// The place or part that one word writes: `third`, `dozen`, `half`.
pub(crate) fn place(word: &str) -> Option<f64> {
    PLACES.iter().find(|(w, _)| *w == word).map(|(_, n)| *n)
}

/// The number that a sequence of words writes, such as `two hundred and five`, and how many words it takes.
pub(crate) fn sequence(words: &[&str]) -> Option<(f64, usize)> {
    let (mut total, mut group, mut used, mut any) = (0.0_f64, 0.0_f64, 0_usize, false);
    for (i, word) in words.iter().enumerate() {
        let lower = word.to_lowercase();
        if let Some(n) = spelled(&lower) {
            // "one two" are two numbers; "twenty one" is one.
            if any && group % 10.0 == 0.0 && group % 100.0 >= 20.0 && n < 10.0 || group % 100.0 == 0.0 {
                group += n;
            } else {
                break;
            }
            any = true;
        } else if any && lower == "hundred" {
            group = group.max(1.0) * 100.0;
        } else if any && matches!(lower.as_str(), "thousand" | "million" | "billion" | "trillion") {
            total += group.max(1.0) * scale(&lower).unwrap_or(1.0);
            group = 0.0;
        } else if any && lower == "and" && used == i && (group >= 100.0 || total > 0.0) {
            continue;
        } else {
            break;
        }
        used = i.saturating_add(1);
    }
    any.then_some((total + group, used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_words_are_read() {
        let check = |text: &str, want: Option<(f64, usize)>| {
            let words: Vec<&str> = text.split([' ', '-']).collect();
            assert_eq!(sequence(&words), want, "{text}");
        };
        check("twenty-one apples", Some((21.0, 2)));
        check("two hundred and five", Some((205.0, 4)));
        check("three million two hundred thousand", Some((3_200_000.0, 5)));
        check("one two", Some((1.0, 1)));
        check("seven and then", Some((7.0, 1)));
        check("hundred", None);
        check("apples", None);
    }

    #[test]
    fn names_are_listed_once() {
        for (i, (w, _, _)) in MEASURES.iter().enumerate() {
            assert!(!MEASURES[..i].iter().any(|(o, _, _)| o == w), "{w}");
        }
        assert_eq!(currency("€"), Some("eur"));
        assert_eq!(scale("million"), Some(1e6));
        assert_eq!(measure("km"), Some(Unit::Measure("length", 1000.0)));
    }
}
