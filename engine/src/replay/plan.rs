//! What happens to a stream while it is replayed: when outcomes arrive, what is lost, which models change.

use super::error::Error;
use super::table::{Row, Table, mean};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::HashMap;

/// The ways of replaying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The whole table, knowing nothing but prices.
    Cold,
    /// Prior learned on one half, replayed on the other.
    Warm,
    /// Warm, and every outcome arrives 100 requests late.
    Delay,
    /// Warm, and 70 % of the outcomes never arrive.
    Lost,
    /// Cold, with the task families one after the other.
    Blocks,
    /// Warm, and three much-used models silently become weak ones at 40 %.
    Downgrade,
    /// The same, but the learner is told.
    Told,
    /// Warm, and the price of the most used model is four times the list price from the middle on.
    Price,
}

impl Protocol {
    /// All of them.
    pub const ALL: &[Protocol] = &[
        Protocol::Cold,
        Protocol::Warm,
        Protocol::Delay,
        Protocol::Lost,
        Protocol::Blocks,
        Protocol::Downgrade,
        Protocol::Told,
        Protocol::Price,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Cold => "cold",
            Protocol::Warm => "warm",
            Protocol::Delay => "delay",
            Protocol::Lost => "lost",
            Protocol::Blocks => "blocks",
            Protocol::Downgrade => "downgrade",
            Protocol::Told => "told",
            Protocol::Price => "price",
        }
    }

    /// It starts from a prior.
    #[must_use]
    pub const fn is_warm(self) -> bool {
        !matches!(self, Protocol::Cold | Protocol::Blocks)
    }

    /// Models change in it, which depends on what an undisturbed run uses.
    pub(super) const fn disturbs(self) -> bool {
        matches!(self, Protocol::Downgrade | Protocol::Told | Protocol::Price)
    }
}

/// Outcomes that arrive late, in requests.
const DELAY: usize = 100;
/// Share of outcomes that are lost.
const LOST: f64 = 0.7;

/// A model changes: between two shares of the stream.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Its name in the table.
    pub model: String,
    /// Share of the stream at which it begins, 0..=1. Default 0.
    #[serde(default)]
    pub from: f64,
    /// Share at which it ends. Default 1.
    #[serde(default = "end")]
    pub to: f64,
    /// Another model's outcomes are served for it.
    #[serde(default)]
    pub serve_as: Option<String>,
    /// It answers nothing and costs nothing.
    #[serde(default)]
    pub down: bool,
    /// What it costs is multiplied.
    #[serde(default)]
    pub price_factor: Option<f64>,
}

const fn end() -> f64 {
    1.0
}

impl Event {
    /// What of it cannot be: members, each with what is wrong.
    fn wrong(&self, table: &Table) -> Vec<String> {
        let names = || table.models.iter().map(|m| m.name.as_str());
        let unknown = |member: &str, name: &String| {
            let told = || {
                format!(
                    "{member}: `{name}` is no model of the pack; {}",
                    types::diagnostic::suggestion(name, names())
                )
            };
            (!names().any(|n| n == name)).then(told)
        };
        let span = (0.0..=1.0).contains(&self.from) && self.from < self.to && self.to <= 1.0;
        let span = (!span).then(|| {
            format!("from: {} to {} is no stretch of the stream, which goes from 0 to 1", self.from, self.to)
        });
        let factor = self.price_factor.filter(|f| !(0.0..=1e6).contains(f));
        let factor = factor.map(|f| format!("price_factor: {f}, expected 0..=1000000"));
        let like = self.serve_as.as_ref().and_then(|other| unknown("serve_as", other));
        unknown("model", &self.model).into_iter().chain(like).chain(span).chain(factor).collect()
    }
}

/// How a stream is played.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Requests after which an outcome arrives.
    pub delay: usize,
    /// Share of the outcomes that never arrive, 0..=1.
    pub lost: f64,
    /// Which models change, and when.
    pub events: Vec<Event>,
    /// The learner hears of the events.
    pub told: bool,
    /// Play the queries in an order of their own, drawn from the seed.
    pub shuffled: bool,
}

impl Plan {
    /// The plan of a protocol. `used` are the models of an undisturbed run, the most used first.
    pub(super) fn of(protocol: Protocol, table: &Table, used: &[usize]) -> Self {
        let mut plan = Plan::default();
        match protocol {
            Protocol::Cold | Protocol::Warm | Protocol::Blocks => {}
            Protocol::Delay => plan.delay = DELAY,
            Protocol::Lost => plan.lost = LOST,
            Protocol::Downgrade | Protocol::Told => {
                plan.events = downgrades(table, used);
                plan.told = protocol == Protocol::Told;
            }
            Protocol::Price => {
                let model = used.first().and_then(|m| table.models.get(*m)).map(|m| m.name.clone());
                plan.events = model.map(|model| price(model, 4.0)).into_iter().collect();
            }
        }
        plan
    }

    /// Reads a JSON list of events of the models of a table.
    ///
    /// # Errors
    /// [`Error::Events`]: all that is wrong with them.
    pub fn read(text: &str, table: &Table) -> Result<Vec<Event>, Error> {
        let events: Vec<Event> = serde_json::from_str(text).map_err(|e| Error::Events(e.to_string()))?;
        let wrong: Vec<String> = events
            .iter()
            .enumerate()
            .flat_map(|(i, e)| e.wrong(table).into_iter().map(move |w| format!("[{i}].{w}")))
            .collect();
        match wrong.as_slice() {
            [] => Ok(events),
            some => Err(Error::Events(some.join("; "))),
        }
    }

    /// The table as it is served: what fixed models and those who know everything are measured on as well.
    pub(super) fn on<'p>(&self, table: &'p Table, stream: &[usize]) -> Cow<'p, Table> {
        if self.events.is_empty() {
            return Cow::Borrowed(table);
        }
        let at: HashMap<usize, f64> =
            stream.iter().enumerate().map(|(i, q)| (*q, i as f64 / stream.len() as f64)).collect();
        Cow::Owned(table.with(|query, model, row| {
            at.get(&query).and_then(|at| self.served(table, *at, query, model)).unwrap_or(row)
        }))
    }

    /// What a model makes of a query at a place of the stream.
    pub(super) fn served(&self, table: &Table, at: f64, query: usize, model: usize) -> Option<Row> {
        let mut row = *table.row(query, model)?;
        let name = &table.models.get(model)?.name;
        for e in self.events.iter().filter(|e| e.model == *name && (e.from..e.to).contains(&at)) {
            if e.down {
                (row.quality, row.cost) = (0.0, Some(0.0));
            }
            let other = e.serve_as.as_ref().and_then(|o| table.models.iter().position(|m| m.name == *o));
            if let Some(other) = other.and_then(|o| table.row(query, o)) {
                row.quality = other.quality;
            }
            if let Some(f) = e.price_factor {
                row.cost = row.cost.map(|c| c * f);
            }
        }
        Some(row)
    }
}

fn price(model: String, factor: f64) -> Event {
    Event { model, from: 0.5, to: 1.0, serve_as: None, down: false, price_factor: Some(factor) }
}

/// The three most used models become the three weakest of the others.
fn downgrades(table: &Table, used: &[usize]) -> Vec<Event> {
    let strong: Vec<usize> = used.iter().copied().take(3).collect();
    // Where both were run, so that a model of hard queries does not look weak.
    let common = |a: usize| {
        mean((0..table.queries.len()).filter_map(|q| {
            let others = (0..table.models.len()).filter_map(|m| table.row(q, m));
            let average = mean(others.map(|r| r.quality));
            table.row(q, a).map(|r| r.quality - average)
        }))
    };
    let mut weak: Vec<usize> = (0..table.models.len()).filter(|m| !strong.contains(m)).collect();
    weak.sort_by(|a, b| common(*a).total_cmp(&common(*b)));
    let name = |m: usize| table.models.get(m).map(|m| m.name.clone());
    let event = |(s, w): (usize, usize)| {
        Some(Event {
            model: name(s)?,
            from: 0.4,
            to: 1.0,
            serve_as: name(w),
            down: false,
            price_factor: None,
        })
    };
    strong.into_iter().zip(weak).filter_map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::super::reference::References;
    use super::super::table::tiny;
    use super::*;

    fn read(events: &str) -> Result<Vec<Event>, Error> {
        Plan::read(events, &tiny(4))
    }

    #[test]
    fn what_fixed_models_are_worth_is_what_they_served() {
        let (table, all) = (tiny(4), [0, 1, 2, 3]);
        let of = |events: &str| {
            let plan = Plan { events: read(events).unwrap(), ..Plan::default() };
            let r = References::of(&plan.on(&table, &all), &all, &[], 0.0);
            (r.best_fixed.0, r.best_fixed.1, r.oracle)
        };
        assert_eq!(of("[]"), ("a".to_owned(), 1.0, 1.0));
        assert_eq!(of(r#"[{"model": "a", "down": true}]"#), ("b".to_owned(), 0.5, 0.5));
        // From the middle on: query 2 is answered by nobody any more.
        assert_eq!(of(r#"[{"model": "a", "from": 0.5, "down": true}]"#), ("b".to_owned(), 0.5, 0.75));
        assert_eq!(of(r#"[{"model": "a", "serve_as": "b"}]"#).2, 0.5);
    }

    #[test]
    fn events_that_cannot_be_are_told_all_at_once() {
        let error = read(
            r#"[{"model": "a"}, {"model": "aa", "serve_as": "c"}, {"model": "a", "from": 0.9, "to": 0.1},
                {"model": "a", "price_factor": -2}]"#,
        )
        .unwrap_err()
        .to_string();
        for told in [
            "[1].model: `aa` is no model",
            "[1].serve_as: `c`",
            "[2].from: 0.9 to 0.1",
            "[3].price_factor: -2",
        ] {
            assert!(error.contains(told), "{error}");
        }
    }
}
