//! Labels and limits as people write them.

use super::super::Problem;
use serde_json::{Map, Value};
use types::control::Quota;
use types::diagnostic::suggestion;
use types::doc::parse_duration;
use types::limits::{Metric, Window};

/// `name=value` pairs as an object.
fn labels(pairs: &[String]) -> Result<Map<String, Value>, Problem> {
    let mut all = Map::new();
    for p in pairs {
        let (name, value) = p
            .split_once('=')
            .ok_or_else(|| Problem(format!("--label {p}: that is no label; write it as in team=red")))?;
        all.insert(name.to_owned(), value.into());
    }
    Ok(all)
}

/// "10 usd per day", "5 requests per second for model openai/*", "4 concurrency".
fn limit(text: &str) -> Result<Value, Problem> {
    let option = format!("--limit \"{text}\"");
    let wrong = |why: &str| {
        Problem(format!(
            "{option}: {why}; write it as in \"10 usd per day\", \"0.05 usd per request\", \"0.2 requests per second\", \
             \"4 concurrency\" or \"5 usd per day for model openai/*\""
        ))
    };
    let mut words = text.split_whitespace();
    let amount =
        words.next().and_then(|w| w.parse().ok()).ok_or_else(|| wrong("it begins with no number"))?;
    Ok(serde_json::to_value(quota(&option, amount, words, &wrong)?)?)
}

/// As [`limit`], without its amount or with any: which limit is to be taken away.
fn unlimit(text: &str) -> Result<Value, Problem> {
    let option = format!("--no-limit \"{text}\"");
    let wrong = |why: &str| {
        Problem(format!(
            "{option}: {why}; write it as in \"usd per day\", \"concurrency\" or \"usd per day for model openai/*\""
        ))
    };
    let amount = |word: &&str| word.parse::<f64>().is_ok();
    let words = text.split_whitespace().enumerate().filter(|(i, word)| *i > 0 || !amount(word));
    let which = quota(&option, 1.0, words.map(|(_, word)| word), &wrong)?;
    let mut which = serde_json::to_value(Quota { reserved_premium: None, ..which })?;
    if let Some(members) = which.as_object_mut() {
        members.insert("amount".to_owned(), Value::Null);
    }
    Ok(which)
}

/// What follows the amount of a limit.
fn quota<'a>(
    option: &str,
    amount: f64,
    mut words: impl Iterator<Item = &'a str>,
    wrong: &dyn Fn(&str) -> Problem,
) -> Result<Quota, Problem> {
    let unknown = |what: &str, name: &str, known: &'static [&'static str]| {
        let hint = suggestion(name, known.iter().copied());
        Problem(format!("{option}: `{name}` is no {what}; {hint}"))
    };
    let name = words.next().ok_or_else(|| wrong("it does not say what is counted"))?;
    let metric = Metric::parse(name).ok_or_else(|| unknown("metric", name, Metric::NAMES))?;
    let mut quota = Quota { metric, amount, per: None, model: None, label: None, reserved_premium: None };
    while let Some(word) = words.next() {
        match (word, words.next()) {
            ("per", Some(window)) if !Window::NAMES.contains(&window) => {
                return Err(unknown("window", window, Window::NAMES));
            }
            ("per", Some(window)) => quota.per = Some(window.to_owned()),
            ("reserving", Some(share)) => {
                let percent = share.strip_suffix('%').and_then(|p| p.parse::<f64>().ok());
                let percent = percent.filter(|p| *p > 0.0 && *p < 100.0);
                let percent = percent.ok_or_else(|| wrong("what is reserved is a share such as 20%"))?;
                quota.reserved_premium = Some(percent / 100.0);
            }
            ("for", Some("model")) => quota.model = words.next().map(str::to_owned),
            ("for", Some("label")) => quota.label = words.next().map(str::to_owned),
            (odd, _) => return Err(wrong(&format!("`{odd}` means nothing there"))),
        }
    }
    quota.limit("check").map_err(|why| wrong(&why))?;
    Ok(quota)
}

/// The moment that somebody names by a date, by a date with its time, or by how far off it is; Unix milliseconds.
pub(super) fn moment(option: &str, text: &str) -> Result<i64, Problem> {
    let now = crate::clock::now();
    let off = parse_duration(text).and_then(|d| jiff::SignedDuration::try_from(d).ok());
    let off = off.and_then(|d| now.checked_add(d).ok());
    let day = || text.parse::<jiff::civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    let at = off.or_else(|| text.parse().ok()).or_else(|| day().map(|z| z.timestamp()));
    let at = at.ok_or_else(|| {
        Problem(format!(
            "{option} {text}: that is no moment; write a date (2027-01-31, from its beginning in UTC), a date with its time \
             (2027-01-31T18:00:00+01:00) or how far off it is (30d, 12h)"
        ))
    })?;
    if at <= now {
        return Err(Problem(format!("{option} {text}: that lies in the past (it is {now} now)")));
    }
    Ok(at.as_millisecond())
}

/// Puts a member into a body, if it was given.
pub(in crate::cli) fn put(body: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(v) = value {
        body.insert(name.to_owned(), v.into());
    }
}

/// Limits of something that has no labels.
#[derive(clap::Args, Debug)]
pub(super) struct Limited {
    /// What it may be used for, such as "60 requests per minute"; repeat for more. A change sets the limit of the same
    /// metric and window, and leaves the others
    #[arg(long, value_name = "AMOUNT METRIC per WINDOW", allow_hyphen_values = true)]
    limit: Vec<String>,
}

/// Limits that a change takes away.
#[derive(clap::Args, Debug)]
pub(super) struct Unlimited {
    /// The limit of this metric and window, such as "usd per day"; repeat for more
    #[arg(long, value_name = "METRIC per WINDOW", conflicts_with = "no_limits")]
    no_limit: Vec<String>,
    /// All limits
    #[arg(long, conflicts_with = "limit")]
    no_limits: bool,
}

impl Limited {
    /// Of something new.
    pub(super) fn put(&self, body: &mut Map<String, Value>) -> Result<(), Problem> {
        if !self.limit.is_empty() {
            body.insert("limits".to_owned(), Value::Array(all(&self.limit, limit)?));
        }
        Ok(())
    }

    /// Of a change.
    pub(super) fn put_change(&self, away: &Unlimited, body: &mut Map<String, Value>) -> Result<(), Problem> {
        let mut limits = all(&self.limit, limit)?;
        limits.extend(all(&away.no_limit, unlimit)?);
        if away.no_limits {
            body.insert("limits".to_owned(), Value::Null);
        } else if !limits.is_empty() {
            body.insert("limits".to_owned(), Value::Array(limits));
        }
        Ok(())
    }
}

/// Labels and limits of something new or of a change; whatever is not named is left out.
#[derive(clap::Args, Debug)]
pub(super) struct Common {
    /// name=value, for policies and reports; repeat for more
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// What may be used, such as "10 usd per day"; repeat for more. A change sets the limit of the same metric, window and
    /// selector, and leaves the others
    // A negative amount is told what an amount is, and is no option.
    #[arg(long, value_name = "AMOUNT METRIC per WINDOW", allow_hyphen_values = true)]
    limit: Vec<String>,
    /// No limit at all, the default budget of a new key included
    #[arg(long, conflicts_with = "limit")]
    no_limits: bool,
}

/// What a change takes away of labels and limits.
#[derive(clap::Args, Debug)]
pub(super) struct Away {
    /// The label of this name; repeat for more
    #[arg(long, value_name = "NAME")]
    no_label: Vec<String>,
    /// All labels
    #[arg(long, conflicts_with_all = ["label", "no_label"])]
    no_labels: bool,
    /// The limit of this metric, window and selector, such as "usd per day"; repeat for more
    #[arg(long, value_name = "METRIC per WINDOW", conflicts_with = "no_limits")]
    no_limit: Vec<String>,
    /// Refuse the change where it has another version by now: `version` of what was shown
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
}

impl Common {
    /// Of something new.
    pub(super) fn put(&self, body: &mut Map<String, Value>) -> Result<(), Problem> {
        if !self.label.is_empty() {
            body.insert("labels".to_owned(), Value::Object(labels(&self.label)?));
        }
        if self.no_limits || !self.limit.is_empty() {
            body.insert("limits".to_owned(), Value::Array(all(&self.limit, limit)?));
        }
        Ok(())
    }

    /// Of a change.
    pub(super) fn put_change(&self, away: &Away, body: &mut Map<String, Value>) -> Result<(), Problem> {
        put(body, "version", away.if_version);
        let mut named = labels(&self.label)?;
        named.extend(away.no_label.iter().map(|name| (name.clone(), Value::Null)));
        if away.no_labels {
            body.insert("labels".to_owned(), Value::Null);
        } else if !named.is_empty() {
            body.insert("labels".to_owned(), Value::Object(named));
        }
        let mut limits = all(&self.limit, limit)?;
        limits.extend(all(&away.no_limit, unlimit)?);
        if self.no_limits {
            body.insert("limits".to_owned(), Value::Null);
        } else if !limits.is_empty() {
            body.insert("limits".to_owned(), Value::Array(limits));
        }
        Ok(())
    }
}

/// That a change names anything but the version that it is made for: it would be told of as made, and stand on the trail.
pub(super) fn changes(body: &Map<String, Value>) -> Result<(), Problem> {
    match body.keys().any(|name| name != "version") {
        true => Ok(()),
        false => Err(Problem(
            "nothing to change: name what is to be otherwise; `--help` lists the options".to_owned(),
        )),
    }
}

fn all(texts: &[String], read: fn(&str) -> Result<Value, Problem>) -> Result<Vec<Value>, Problem> {
    texts.iter().map(|text| read(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::show;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_names_something() {
        let body = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        assert!(changes(&body("{}")).unwrap_err().0.contains("nothing to change"));
        assert!(changes(&body(r#"{"version": 3}"#)).is_err());
        assert!(changes(&body(r#"{"version": 3, "region": null}"#)).is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_limit_is_told_in_words_of_the_command() {
        for (text, want) in [
            ("10 dollars per day", "`dollars` is no metric; known names: requests, tokens, usd, concurrency"),
            ("5 request per second", "did you mean `requests`?"),
            (
                "5 requests per fortnight",
                "`fortnight` is no window; known names: request, second, minute, hour, day, month",
            ),
            ("10 usd/day", "`usd/day` is no metric"),
            ("5 requests", "`per` is missing: one of request, second, minute"),
            ("5 requests per request", "`per: request` is for `usd` and `tokens`, not for `requests`"),
            ("nan usd per request", "`amount: NaN` is not a number above 0"),
            ("0 usd per request", "`amount: 0` is not a number above 0"),
            ("-1 tokens per request", "`amount: -1` is not a number above 0"),
            ("1 usd per request reserving 20%", "`reserved_premium` is a part of what many requests share"),
            ("ten usd", "it begins with no number"),
            ("5 usd a day", "`a` means nothing there"),
        ] {
            let told = limit(text).unwrap_err().0;
            assert!(told.matches("month").count() < 2, "names are told once: {told}");
            assert!(told.starts_with(&format!("--limit \"{text}\"")) && told.contains(want), "{told}");
        }
    }

    #[test]
    fn a_negative_limit_is_read_as_a_limit() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Command {
            #[command(flatten)]
            common: Common,
        }
        let command = Command::try_parse_from(["create", "--limit", "-1 usd per day"]).unwrap();
        let told = command.common.put(&mut Map::new()).unwrap_err().0;
        assert!(told.contains("`amount: -1` is not a number above 0"), "{told}");
    }

    #[test]
    fn a_limit_is_taken_away_by_what_it_counts() {
        let day = json!({"amount": null, "metric": "usd", "per": "day"});
        for (text, want) in [
            ("usd per day", Some(day.clone())),
            ("10 usd per day", Some(day.clone())),
            ("10 usd per day reserving 20%", Some(day)),
            ("concurrency", Some(json!({"amount": null, "metric": "concurrency"}))),
            (
                "usd per day for model openai/*",
                Some(json!({"amount": null, "metric": "usd", "per": "day", "model": "openai/*"})),
            ),
            ("usd", None),
            ("all", None),
        ] {
            assert_eq!(unlimit(text).ok(), want, "{text}");
        }
        let told = unlimit("usd per dya").unwrap_err().0;
        assert!(
            told.starts_with("--no-limit \"usd per dya\": `dya` is no window; did you mean `day`"),
            "{told}"
        );
    }

    #[test]
    fn moments_are_dates_or_far_off() {
        let now = jiff::Timestamp::now().as_millisecond();
        let day = 86_400_000;
        let in_a_month = moment("--expires", "30d").unwrap();
        assert!((in_a_month - now - 30 * day).abs() < day, "{in_a_month}");
        assert_eq!(moment("--expires", "2096-01-31").unwrap(), 3_978_806_400_000);
        assert_eq!(moment("--expires", "2096-01-31T01:00:00+01:00").unwrap(), 3_978_806_400_000);
        for (text, want) in [("tomorrow", "no moment"), ("2001-01-01", "past"), ("5", "no moment")] {
            let told = moment("--expires", text).unwrap_err().0;
            assert!(told.contains(want) && told.contains(&format!("--expires {text}")), "{told}");
        }
    }

    #[test]
    fn limits_are_written_as_people_say_them() {
        for (text, want) in [
            ("10 usd per day", Some(json!({"amount": 10.0, "metric": "usd", "per": "day"}))),
            ("0.01 usd per request", Some(json!({"amount": 0.01, "metric": "usd", "per": "request"}))),
            (
                "900 tokens per request for label team=red",
                Some(json!({"amount": 900.0, "metric": "tokens", "per": "request", "label": "team=red"})),
            ),
            ("4 concurrency", Some(json!({"amount": 4.0, "metric": "concurrency"}))),
            (
                "0.2 requests per second for model openai/*",
                Some(json!({"amount": 0.2, "metric": "requests", "per": "second", "model": "openai/*"})),
            ),
            (
                "10 usd per day reserving 20%",
                Some(json!({"amount": 10.0, "metric": "usd", "per": "day", "reserved_premium": 0.2})),
            ),
            ("10 usd per day reserving 0.2", None),
            ("10 usd per day reserving 100%", None),
            ("ten usd", None),
            ("10 usd per", None),
            ("10 usd a day", None),
        ] {
            assert_eq!(limit(text).ok(), want, "{text}");
        }
        for text in [
            "0.01 usd per request for model openai/*",
            "10 usd per day",
            "10 usd per day for model openai/* reserving 12.5%",
        ] {
            assert_eq!(show::quota(&limit(text).unwrap()), text);
        }
    }
}
