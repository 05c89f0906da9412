//! The tables of runs in SQLite.

use crate::database::sql;
use crate::runs::ops::{json, read};
use crate::runs::table::{Done, HookRow, KeyRow, Part, PutTimes, Table};
use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use types::runs::{Cursor, Entry, Filter, Head, Key, Posted, State};

/// A connection, inside a transaction of its user.
pub(super) struct Sql<'c> {
    conn: &'c Connection,
    /// Something was forgotten, and the write-ahead log still holds it.
    pub(super) forgot: bool,
}

impl<'c> Sql<'c> {
    pub(super) const fn new(conn: &'c Connection) -> Self {
        Sql { conn, forgot: false }
    }

    fn run(&self, statement: &str, params: impl Params) -> Done {
        let mut prepared = self.conn.prepare_cached(statement).map_err(sql)?;
        prepared.execute(params).map_err(sql)?;
        Ok(())
    }

    fn all<T>(
        &self,
        query: &str,
        params: impl Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Done<Vec<T>> {
        let mut prepared = self.conn.prepare_cached(query).map_err(sql)?;
        let found = prepared.query_map(params, row).and_then(Iterator::collect).map_err(sql)?;
        Ok(found)
    }

    fn one<T>(
        &self,
        query: &str,
        params: impl Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Done<Option<T>> {
        let mut prepared = self.conn.prepare_cached(query).map_err(sql)?;
        Ok(prepared.query_row(params, row).optional().map_err(sql)?)
    }

    fn heads(&self, query: &str, params: impl Params) -> Done<Vec<Head>> {
        let texts = self.all(query, params, |r| r.get::<_, String>(0))?;
        texts.iter().map(|text| read(text, "head of a run", "")).collect()
    }
}

fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn hook(r: &Row<'_>) -> rusqlite::Result<HookRow> {
    Ok(HookRow {
        id: r.get(0)?,
        run: r.get(1)?,
        url: r.get(2)?,
        tries: r.get(3)?,
        since_ms: r.get(4)?,
        due_ms: r.get(5)?,
    })
}

impl Table for Sql<'_> {
    fn head(&mut self, id: &str) -> Done<Option<Head>> {
        let text = self.one("SELECT head FROM runs WHERE id = ?", [id], |r| r.get::<_, String>(0))?;
        text.map(|text| read(&text, "head of run", id)).transpose()
    }

    fn insert(&mut self, head: &Head, submission: &str) -> Done {
        self.run(
            "INSERT INTO runs (id, tenant, created_ms, workflow, state, head, submission) VALUES (?, ?, ?, ?, ?, '', ?)",
            params![head.id, head.tenant, head.created_ms, head.workflow, head.state.as_str(), submission],
        )
    }

    fn put_head(&mut self, head: &Head, due_ms: Option<i64>) -> Done {
        let expires_ms = (!head.state.is_final()).then_some(head.expires_ms);
        self.run(
            "UPDATE runs SET workflow = ?2, state = ?3, due_ms = ?4, expires_ms = ?5, ended_ms = ?6, head = ?7, \
             forget_ms = ?8, plan = ?9 WHERE id = ?1",
            params![
                head.id,
                head.workflow,
                head.state.as_str(),
                due_ms,
                expires_ms,
                head.ended_ms,
                json(head)?,
                head.forget_ms,
                head.plan
            ],
        )
    }

    fn put_part(&mut self, id: &str, part: Part, text: Option<&str>) -> Done {
        let statement = match part {
            Part::Submission => "UPDATE runs SET submission = ?2 WHERE id = ?1",
            Part::Waiting => "UPDATE runs SET waiting = ?2 WHERE id = ?1",
            Part::Result => "UPDATE runs SET result = ?2 WHERE id = ?1",
        };
        self.run(statement, params![id, text])
    }

    fn part(&mut self, id: &str, part: Part) -> Done<Option<String>> {
        let query = match part {
            Part::Submission => "SELECT submission FROM runs WHERE id = ?",
            Part::Waiting => "SELECT waiting FROM runs WHERE id = ?",
            Part::Result => "SELECT result FROM runs WHERE id = ?",
        };
        Ok(self.one(query, [id], |r| r.get(0))?.flatten())
    }

    fn due(&mut self, now_ms: i64, limit: usize) -> Done<Vec<Head>> {
        self.heads(
            "SELECT head FROM runs WHERE due_ms IS NOT NULL AND due_ms <= ? ORDER BY due_ms, id LIMIT ?",
            params![now_ms, limited(limit)],
        )
    }

    fn queued(&mut self, tenant: &str, most: usize) -> Done<usize> {
        let found = self.one(
            "SELECT COUNT(*) FROM (SELECT 1 FROM runs WHERE tenant = ? AND state = 'queued' LIMIT ?)",
            params![tenant, limited(most)],
            |r| r.get::<_, i64>(0),
        )?;
        Ok(usize::try_from(found.unwrap_or(0)).unwrap_or(0))
    }

    fn expired(&mut self, now_ms: i64, limit: usize) -> Done<Vec<Head>> {
        self.heads(
            "SELECT head FROM runs WHERE expires_ms IS NOT NULL AND expires_ms <= ? ORDER BY expires_ms LIMIT ?",
            params![now_ms, limited(limit)],
        )
    }

    fn list(&mut self, filter: &Filter, after: Option<&Cursor>, limit: usize) -> Done<Vec<Head>> {
        let states: Vec<&str> = filter.states.iter().map(|s: &State| s.as_str()).collect();
        let states = (!states.is_empty()).then(|| json(&states)).transpose()?;
        self.heads(
            "SELECT head FROM runs WHERE tenant = ?1 \
             AND (?2 IS NULL OR state IN (SELECT value FROM json_each(?2))) \
             AND (?3 IS NULL OR workflow = ?3) \
             AND (?4 IS NULL OR created_ms >= ?4) AND (?5 IS NULL OR created_ms < ?5) \
             AND (?6 IS NULL OR (created_ms, id) < (?6, ?7)) \
             AND NOT EXISTS (SELECT 1 FROM json_each(?8) AS want WHERE NOT EXISTS ( \
                 SELECT 1 FROM json_each(head, '$.labels') AS has \
                 WHERE has.key = json_extract(want.value, '$[0]') AND has.value = json_extract(want.value, '$[1]')) \
             AND NOT EXISTS ( \
                 SELECT 1 FROM json_each(head, '$.authored.labels') AS own \
                 WHERE own.key = json_extract(want.value, '$[0]') AND own.value = json_extract(want.value, '$[1]'))) \
             ORDER BY created_ms DESC, id DESC LIMIT ?9",
            params![
                filter.tenant,
                states,
                filter.workflow,
                filter.from_ms,
                filter.before_ms,
                after.map(|c| c.created_ms),
                after.map(|c| &c.id),
                json(&filter.labels)?,
                limited(limit)
            ],
        )
    }

    fn add_entry(&mut self, run: &str, entry: &Entry) -> Done {
        self.run(
            "INSERT INTO journal (run, seq, ts_ms, epoch, kind, record) VALUES (?, ?, ?, ?, ?, ?)",
            params![
                run,
                entry.seq.cast_signed(),
                entry.ts_ms,
                entry.epoch.cast_signed(),
                entry.record.kind(),
                json(&entry.record)?
            ],
        )
    }

    fn entries(&mut self, run: &str, after: u64, limit: usize) -> Done<Vec<Entry>> {
        let rows = self.all(
            "SELECT seq, ts_ms, epoch, record FROM journal WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?",
            params![run, after.cast_signed(), limited(limit)],
            |r| Ok((r.get::<_, i64>(0)?, r.get(1)?, r.get::<_, i64>(2)?, r.get::<_, String>(3)?)),
        )?;
        let entry = |(seq, ts_ms, epoch, record): (i64, i64, i64, String)| {
            let record = read(&record, "journal of run", run)?;
            Ok(Entry { seq: seq.cast_unsigned(), ts_ms, epoch: epoch.cast_unsigned(), record })
        };
        rows.into_iter().map(entry).collect()
    }

    fn copy_entries(&mut self, from: &str, to: &str, up_to: u64) -> Done {
        self.run(
            "INSERT INTO journal (run, seq, ts_ms, epoch, kind, record) \
             SELECT ?2, seq, ts_ms, 0, kind, record FROM journal WHERE run = ?1 AND seq <= ?3",
            params![from, to, up_to.cast_signed()],
        )
    }

    fn key(&mut self, tenant: &str, principal: &str, key: &Key) -> Done<Option<KeyRow>> {
        self.one(
            "SELECT body, run, expires_ms FROM keys WHERE tenant = ? AND principal = ? AND route = ? AND key = ?",
            params![tenant, principal, key.route, key.key],
            |r| Ok(KeyRow { body: r.get(0)?, run: r.get(1)?, expires_ms: r.get(2)? }),
        )
    }

    fn put_key(&mut self, tenant: &str, principal: &str, key: &Key, row: &KeyRow) -> Done {
        self.run(
            "INSERT OR REPLACE INTO keys (tenant, principal, route, key, body, run, expires_ms) \
             VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![tenant, principal, key.route, key.key, row.body, row.run, row.expires_ms],
        )
    }

    fn drop_keys(&mut self, now_ms: i64) -> Done {
        self.run("DELETE FROM keys WHERE expires_ms <= ?", [now_ms])
    }

    fn add_post(&mut self, run: &str, post: &Posted) -> Done {
        self.run(
            "INSERT INTO posts (run, number, ts_ms, key, body) VALUES (?, ?, ?, ?, ?)",
            params![run, post.number.cast_signed(), post.ts_ms, post.key, json(&post.body)?],
        )
    }

    fn posts(&mut self, run: &str, after: u64) -> Done<Vec<Posted>> {
        let rows = self.all(
            "SELECT number, ts_ms, key, body FROM posts WHERE run = ? AND number > ? ORDER BY number",
            params![run, after.cast_signed()],
            |r| Ok((r.get::<_, i64>(0)?, r.get(1)?, r.get(2)?, r.get::<_, String>(3)?)),
        )?;
        let post = |(number, ts_ms, key, body): (i64, i64, String, String)| {
            Ok(Posted { number: number.cast_unsigned(), ts_ms, key, body: read(&body, "posts of run", run)? })
        };
        rows.into_iter().map(post).collect()
    }

    fn put_plan(&mut self, hash: &str, plan: &str, times: PutTimes) -> Done {
        self.run(
            "INSERT INTO plans (hash, put_ms, plan) VALUES (?1, ?2, ?3) \
             ON CONFLICT DO UPDATE SET put_ms = ?2 WHERE put_ms < ?4",
            params![hash, times.now_ms, plan, times.again_ms],
        )
    }

    fn plan(&mut self, hash: &str) -> Done<Option<String>> {
        self.one("SELECT plan FROM plans WHERE hash = ?", [hash], |r| r.get(0))
    }

    fn drop_plans(&mut self, put_before_ms: i64, limit: usize) -> Done {
        self.run(
            "DELETE FROM plans WHERE hash IN (SELECT hash FROM plans AS p WHERE put_ms < ? \
             AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.plan = p.hash) LIMIT ?)",
            params![put_before_ms, limited(limit)],
        )
    }

    fn put_hook(&mut self, hook: &HookRow) -> Done {
        self.run(
            "INSERT OR REPLACE INTO webhooks (id, run, url, tries, since_ms, due_ms) VALUES (?, ?, ?, ?, ?, ?)",
            params![hook.id, hook.run, hook.url, hook.tries, hook.since_ms, hook.due_ms],
        )
    }

    fn hook(&mut self, id: &str) -> Done<Option<HookRow>> {
        self.one("SELECT id, run, url, tries, since_ms, due_ms FROM webhooks WHERE id = ?", [id], hook)
    }

    fn drop_hook(&mut self, id: &str) -> Done {
        self.run("DELETE FROM webhooks WHERE id = ?", [id])
    }

    fn due_hooks(&mut self, now_ms: i64, limit: usize) -> Done<Vec<HookRow>> {
        self.all(
            "SELECT id, run, url, tries, since_ms, due_ms FROM webhooks WHERE due_ms <= ? ORDER BY due_ms LIMIT ?",
            params![now_ms, limited(limit)],
            hook,
        )
    }

    fn forgettable(&mut self, ended_before_ms: i64, now_ms: i64, limit: usize) -> Done<Vec<String>> {
        self.all(
            "SELECT id FROM runs WHERE ended_ms IS NOT NULL AND ended_ms < ?1 \
             UNION SELECT id FROM runs WHERE forget_ms IS NOT NULL AND forget_ms <= ?2 LIMIT ?3",
            params![ended_before_ms, now_ms, limited(limit)],
            |r| r.get(0),
        )
    }

    fn clear(&mut self, run: &str) -> Done {
        self.forgot = true;
        self.run("DELETE FROM journal WHERE run = ?", [run])?;
        self.run("DELETE FROM posts WHERE run = ?", [run])
    }

    fn remove(&mut self, run: &str) -> Done {
        self.clear(run)?;
        self.run("DELETE FROM webhooks WHERE run = ?", [run])?;
        self.run("DELETE FROM runs WHERE id = ?", [run])
    }
}
