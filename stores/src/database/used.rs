//! What was used, by day and by whom, in the database.

use super::sql;
use crate::used::{DAYS, MAX_TAGS, OTHER, Used};
use rusqlite::{Connection, Row as SqlRow, named_params, params_from_iter, types::Value};
use std::collections::BTreeSet;
use types::store::Error;
use types::usage::{GroupBy, Query, Report, Row, Sums};

/// Sums are added where the row is there already. Both tables have them.
macro_rules! adding {
    ($into:literal) => {
        concat!(
            $into,
            " \
            ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, \
            successes = successes + excluded.successes, failed = failed + excluded.failed, \
            images = images + excluded.images, calls = calls + excluded.calls, \
            unpriced_calls = unpriced_calls + excluded.unpriced_calls, \
            input_tokens = input_tokens + excluded.input_tokens, \
            cached_input_tokens = cached_input_tokens + excluded.cached_input_tokens, \
            cache_write_tokens = cache_write_tokens + excluded.cache_write_tokens, \
            output_tokens = output_tokens + excluded.output_tokens, \
            reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens, \
            cost_nanos = cost_nanos + excluded.cost_nanos, compared_nanos = compared_nanos + excluded.compared_nanos, \
            reference_nanos = reference_nanos + excluded.reference_nanos, \
            image_input_tokens = image_input_tokens + excluded.image_input_tokens, \
            estimated_calls = estimated_calls + excluded.estimated_calls, \
            estimated_nanos = estimated_nanos + excluded.estimated_nanos, \
            beyond_nanos = beyond_nanos + excluded.beyond_nanos"
        )
    };
}

const ADD: &str =
    adding!("INSERT INTO used VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
const ADD_TAG: &str =
    adding!("INSERT INTO used_tags VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");

/// Whether a tag is new and there are too many of its tenant and day.
const TOO_MANY: &str = "SELECT NOT EXISTS (SELECT 1 FROM used_tags WHERE day = ?1 AND tenant = ?2 AND tag = ?3) \
    AND (SELECT count(*) FROM used_tags WHERE day = ?1 AND tenant = ?2) >= ?4";

/// Days before the newest so many: an odd clock costs the oldest day, never all of them.
const OLD: &str =
    "DELETE FROM used WHERE day < (SELECT day FROM used GROUP BY day ORDER BY day DESC LIMIT 1 OFFSET ?)";
const OLD_TAGS: &str = "DELETE FROM used_tags WHERE day < (SELECT day FROM used_tags GROUP BY day ORDER BY day DESC LIMIT 1 OFFSET ?)";

const REPORT: &str = "SELECT CASE :by WHEN 'day' THEN CAST(day AS TEXT) WHEN 'tenant' THEN tenant \
    WHEN 'key' THEN key WHEN 'model' THEN model WHEN 'workflow' THEN workflow ELSE '' END AS part, \
    sum(requests), sum(successes), sum(failed), sum(images), sum(calls), sum(unpriced_calls), sum(input_tokens), \
    sum(cached_input_tokens), sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens), \
    sum(cost_nanos), sum(compared_nanos), sum(reference_nanos), sum(image_input_tokens), sum(estimated_calls), \
    sum(estimated_nanos), sum(beyond_nanos) FROM used \
    WHERE day BETWEEN :from AND :to AND (:tenant IS NULL OR tenant = :tenant) GROUP BY part \
    ORDER BY CASE :by WHEN 'day' THEN max(day) ELSE sum(cost_nanos) END DESC, part LIMIT :limit";

const REPORT_TAGS: &str = "SELECT tag, sum(requests), sum(successes), sum(failed), sum(images), sum(calls), \
    sum(unpriced_calls), sum(input_tokens), sum(cached_input_tokens), sum(cache_write_tokens), \
    sum(output_tokens), sum(reasoning_tokens), sum(cost_nanos), sum(compared_nanos), sum(reference_nanos), \
    sum(image_input_tokens), sum(estimated_calls), sum(estimated_nanos), sum(beyond_nanos) FROM used_tags WHERE day BETWEEN :from AND :to AND (:tenant IS NULL OR tenant = :tenant) GROUP BY tag \
    ORDER BY sum(cost_nanos) DESC, tag LIMIT :limit";

/// Adds what a batch used.
///
/// # Errors
/// The database refuses.
pub(super) fn write(used: &Used, conn: &Connection) -> Result<(), Error> {
    let mut days = BTreeSet::new();
    let mut known = conn.prepare_cached("SELECT EXISTS (SELECT 1 FROM used WHERE day = ?)").map_err(sql)?;
    let mut add = conn.prepare_cached(ADD).map_err(sql)?;
    for by in used.rows.keys() {
        if !days.contains(&by.day) && known.query_row([by.day], |r| r.get::<_, bool>(0)).map_err(sql)? {
            continue;
        }
        days.insert(by.day);
    }
    for (by, sums) in &used.rows {
        let by = [by.tenant.as_str(), &by.key, &by.workflow, &by.model]
            .into_iter()
            .map(|t| Value::Text(t.to_owned()))
            .fold(vec![Value::Integer(by.day)], |mut v, t| {
                v.push(t);
                v
            });
        add.execute(params_from_iter(by.into_iter().chain(numbers(sums)))).map_err(sql)?;
    }
    let mut add = conn.prepare_cached(ADD_TAG).map_err(sql)?;
    let mut full = conn.prepare_cached(TOO_MANY).map_err(sql)?;
    for ((day, tenant, tag), sums) in &used.tags {
        let most = i64::try_from(MAX_TAGS).unwrap_or(i64::MAX);
        let other: bool =
            full.query_row(rusqlite::params![day, tenant, tag, most], |r| r.get(0)).map_err(sql)?;
        let tag = if other { OTHER } else { tag };
        let by = [Value::Integer(*day), Value::Text(tenant.clone()), Value::Text(tag.to_owned())];
        add.execute(params_from_iter(by.into_iter().chain(numbers(sums)))).map_err(sql)?;
    }
    if !days.is_empty() {
        // A new day began: the oldest one may have to go.
        let most = i64::try_from(DAYS.saturating_sub(1)).unwrap_or(i64::MAX);
        conn.execute(OLD, [most]).map_err(sql)?;
        conn.execute(OLD_TAGS, [most]).map_err(sql)?;
    }
    Ok(())
}

/// Adds what is taken away from tags of requests whose records are erased; a tag that no other request of its day has is
/// forgotten. One that is not here was counted with others, and stays there.
///
/// # Errors
/// The database refuses.
pub(super) fn forget_tags(used: &Used, conn: &Connection) -> Result<(), Error> {
    const ONE: &str = "day = ? AND tenant = ? AND tag = ?";
    let mut known =
        conn.prepare_cached(&format!("SELECT EXISTS (SELECT 1 FROM used_tags WHERE {ONE})")).map_err(sql)?;
    let mut add = conn.prepare_cached(ADD_TAG).map_err(sql)?;
    let mut delete =
        conn.prepare_cached(&format!("DELETE FROM used_tags WHERE {ONE} AND requests <= 0")).map_err(sql)?;
    for ((day, tenant, tag), sums) in &used.tags {
        let by = [Value::Integer(*day), Value::Text(tenant.clone()), Value::Text(tag.clone())];
        if known.query_row(params_from_iter(by.clone()), |r| r.get::<_, bool>(0)).map_err(sql)? {
            add.execute(params_from_iter(by.clone().into_iter().chain(numbers(sums)))).map_err(sql)?;
            delete.execute(params_from_iter(by)).map_err(sql)?;
        }
    }
    Ok(())
}

fn numbers(sums: &Sums) -> impl Iterator<Item = Value> {
    sums.values().into_iter().map(Value::Integer)
}

fn sums(row: &SqlRow<'_>) -> rusqlite::Result<Sums> {
    let mut values = [0_i64; 18];
    for (i, v) in values.iter_mut().enumerate() {
        // Over no rows at all a sum is null.
        *v = row.get::<_, Option<i64>>(i.saturating_add(1))?.unwrap_or(0);
    }
    Ok(Sums::of(values))
}

/// A report of what the database holds.
///
/// # Errors
/// The database cannot be read.
pub(super) fn report(conn: &Connection, query: &Query) -> Result<Report, Error> {
    let rows = |by: &str, statement: &'static str, limit: i64| {
        let mut select = conn.prepare_cached(statement).map_err(sql)?;
        let (from, to) = (query.from.unwrap_or(i64::MIN), query.to.unwrap_or(i64::MAX));
        let row = |r: &SqlRow<'_>| Ok(Row { group: r.get(0)?, sums: sums(r)? });
        let tenant = &query.tenant;
        let found = if by == GroupBy::Tag.as_str() {
            let given = named_params! { ":from": from, ":to": to, ":tenant": tenant, ":limit": limit };
            select.query_map(given, row)
        } else {
            let given =
                named_params! { ":by": by, ":from": from, ":to": to, ":tenant": tenant, ":limit": limit };
            select.query_map(given, row)
        };
        found.map_err(sql)?.collect::<Result<Vec<_>, _>>().map_err(sql)
    };
    let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
    let statement = if query.group_by == GroupBy::Tag { REPORT_TAGS } else { REPORT };
    let mut found = rows(query.group_by.as_str(), statement, limit)?;
    if query.group_by == GroupBy::Day {
        found.reverse();
    }
    let total = rows("", REPORT, 1)?.first().map_or_else(Sums::default, |r| r.sums);
    Ok(Report { rows: found, total })
}

#[cfg(test)]
mod tests {
    use super::super::schema::{MIGRATIONS, migrate};
    use super::*;
    use crate::used::By;

    /// A database of before there was anything known of what vendors may bill beyond the cost keeps its sums, and counts that
    /// from now on.
    #[test]
    fn sums_of_an_earlier_version_are_kept_and_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut conn = Connection::open(dir.path().join("outcomes.db")).unwrap();
        migrate(&mut conn, dir.path(), "outcomes", MIGRATIONS.get(..9).unwrap()).unwrap();
        let numbers = "1, 1, 0, 0, 2, 0, 30, 0, 0, 4, 0, 500, 0, 0, 0, 1, 200";
        conn.execute_batch(&format!(
            "INSERT INTO used VALUES (10, 'acme', 'k', 'default', 'p/m', {numbers}); \
             INSERT INTO used_tags VALUES (10, 'acme', 'team=red', {numbers});"
        ))
        .unwrap();
        migrate(&mut conn, dir.path(), "outcomes", MIGRATIONS).unwrap();
        assert!(dir.path().join("outcomes-v9.bak").exists(), "what was there is kept beside it");
        let mut used = Used::default();
        let (tenant, key) = ("acme".to_owned(), "k".to_owned());
        let sums = Sums { requests: 1, cost_nanos: 100, beyond_nanos: 70, ..Sums::default() };
        let by = By { day: 10, tenant: tenant.clone(), key, workflow: "default".into(), model: "p/m".into() };
        used.rows.insert(by, sums);
        used.tags.insert((10, tenant, "team=red".to_owned()), sums);
        for (beyond, cost, requests) in [(0, 500, 1), (70, 600, 2)] {
            for group_by in [GroupBy::Model, GroupBy::Tag] {
                let query = Query { group_by, limit: 10, ..Query::default() };
                let told = report(&conn, &query).unwrap().rows;
                let of = told.first().unwrap().sums;
                assert_eq!((of.beyond_nanos, of.cost_nanos, of.requests), (beyond, cost, requests));
                assert_eq!((of.estimated_nanos, of.at_most()), (200, cost + beyond));
            }
            if beyond == 0 {
                write(&used, &conn).unwrap();
            }
        }
    }
}
