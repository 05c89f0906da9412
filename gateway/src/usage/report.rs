//! Reports: a query string becomes a question, sums become a document.

use crate::control::Actor;
use crate::error::Failure;
use serde_json::{Map, Value, json};
use types::Usd;
use types::calendar::Date;
use types::diagnostic::suggestion;
use types::usage::{GroupBy, MAX_ROWS, Query, Report, Sums};

/// Rows of an answer unless the caller says otherwise.
const ROWS: usize = 100;

fn wrong(name: &str, text: String) -> Failure {
    Failure::bad_request("invalid_value", text).param(name)
}

/// The number of a day, `YYYY-MM-DD`.
fn day(name: &str, text: &str) -> Result<i64, Failure> {
    let wrong = || wrong(name, format!("`{name}` is a day, as in 2026-07-31, in UTC"));
    types::calendar::parse(text).ok_or_else(wrong)
}

/// The date of a day.
fn date(day: i64) -> String {
    Date::from_days(day).to_string()
}

/// The question of a request, within what its caller may see.
///
/// # Errors
/// Which parameter is wrong; another tenant is asked for.
pub(crate) fn asked<'a>(
    actor: &Actor,
    parameter: impl Fn(&str) -> Option<&'a str>,
) -> Result<Query, Failure> {
    let group_by = match parameter("group_by") {
        None => GroupBy::default(),
        Some(name) => GroupBy::parse(name).ok_or_else(|| {
            let hint = suggestion(name, GroupBy::NAMES.iter().copied());
            let text = format!("`group_by` is one of {}; {hint}", GroupBy::NAMES.join(", "));
            wrong("group_by", text)
        })?,
    };
    let from = parameter("from").map(|t| day("from", t)).transpose()?;
    let to = parameter("to").map(|t| day("to", t)).transpose()?;
    if from.zip(to).is_some_and(|(f, t)| f > t) {
        return Err(wrong("from", "`from` is later than `to`".to_owned()));
    }
    let tenant = parameter("tenant").map(str::to_owned).or_else(|| actor.tenant.clone());
    if let Some(t) = &tenant {
        crate::control::fields::identifier("tenant", t)?;
        if !actor.sees(Some(t)) {
            let text = format!("the key sees nothing of tenant `{t}`");
            return Err(Failure::new(http::StatusCode::FORBIDDEN, "role_missing", text).param("tenant"));
        }
    }
    let limit = parameter("limit").map_or(Ok(ROWS), |t| {
        let n = t.parse().ok().filter(|n| (1..=MAX_ROWS).contains(n));
        n.ok_or_else(|| wrong("limit", format!("`limit` is a whole number, 1 to {MAX_ROWS}")))
    })?;
    Ok(Query { group_by, from, to, tenant, limit })
}

/// A report as the control API gives it.
pub(crate) fn document(query: &Query, report: &Report) -> Value {
    let rows = report.rows.iter().map(|r| {
        let group = if query.group_by == GroupBy::Day {
            r.group.parse().map_or_else(|_| r.group.clone(), date)
        } else {
            r.group.clone()
        };
        let mut row = Map::from_iter([("group".to_owned(), Value::String(group))]);
        members(&mut row, &r.sums);
        Value::Object(row)
    });
    let mut total = Map::new();
    members(&mut total, &report.total);
    json!({
        "object": "usage", "group_by": query.group_by, "from": query.from.map(date), "to": query.to.map(date),
        "tenant": query.tenant, "data": rows.collect::<Vec<_>>(), "total": total,
    })
}

/// Money that may be below nothing, in dollars.
fn dollars(nanos: i64) -> Value {
    json!(nanos as f64 / 1e9)
}

fn members(row: &mut Map<String, Value>, s: &Sums) {
    let counts = Sums::COLUMNS.iter().zip(s.values()).filter(|(name, _)| !name.ends_with("_nanos"));
    row.extend(counts.map(|(name, n)| ((*name).to_owned(), json!(n))));
    for (name, value) in [
        ("cost_usd", json!(Usd::from_nanos(s.cost_nanos))),
        ("at_most_usd", json!(Usd::from_nanos(s.at_most()))),
        ("estimated_usd", json!(Usd::from_nanos(s.estimated_nanos))),
        ("cost_per_request_usd", json!(s.cost_per_request())),
        ("cost_per_success_usd", json!(s.cost_per_success())),
        ("compared_cost_usd", json!(Usd::from_nanos(s.compared_nanos))),
        ("reference_usd", json!(Usd::from_nanos(s.reference_nanos))),
        ("saved_usd", dollars(s.saved())),
    ] {
        row.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::usage::Row;

    #[test]
    fn questions_are_checked_and_bound_to_a_tenant() {
        let all = Actor::local();
        let one = Actor { tenant: Some("acme".to_owned()), ..Actor::local() };
        let check = |actor: &Actor, given: &[(&str, &'static str)], want: Result<Query, &str>| {
            let got = asked(actor, |name| given.iter().find(|(n, _)| *n == name).map(|(_, v)| *v));
            assert_eq!(
                got.map_err(|f| f.param.unwrap_or_default()),
                want.map_err(str::to_owned),
                "{given:?}"
            );
        };
        let query = Query { limit: ROWS, ..Query::default() };
        check(&all, &[], Ok(query.clone()));
        check(&one, &[], Ok(Query { tenant: Some("acme".to_owned()), ..query.clone() }));
        check(&one, &[("tenant", "other")], Err("tenant"));
        check(&all, &[("group_by", "modle")], Err("group_by"));
        check(
            &all,
            &[("from", "1970-01-02"), ("to", "2026-07-01")],
            Ok(Query { from: Some(1), to: Some(20_635), ..query }),
        );
        for (name, value) in [("from", "1.7.2026"), ("to", "2026-02-30"), ("limit", "0"), ("limit", "-1")] {
            check(&all, &[(name, value)], Err(name));
        }
        check(&all, &[("from", "2026-02-02"), ("to", "2026-02-01")], Err("from"));
    }

    #[test]
    fn a_report_says_money_in_dollars_and_days_as_dates() {
        let sums = Sums {
            requests: 4,
            successes: 2,
            cost_nanos: 3_000_000,
            compared_nanos: 3_000_000,
            reference_nanos: 1_000_000,
            ..Sums::default()
        };
        let report = Report { rows: vec![Row { group: "20635".to_owned(), sums }], total: sums };
        let said = document(&Query { limit: 1, ..Query::default() }, &report);
        let row = &said["data"][0];
        assert_eq!((&row["group"], &row["cost_per_success_usd"]), (&json!("2026-07-01"), &json!(0.0015)));
        assert_eq!((&row["saved_usd"], &said["total"]["cost_usd"]), (&json!(-0.002), &json!(0.003)));
        assert_eq!(
            document(&Query::default(), &Report::default())["total"]["cost_per_success_usd"],
            Value::Null
        );
    }
}
