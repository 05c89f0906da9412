//! How a record becomes rows: the request or word itself, its join, the sums, the observer's state.

use super::begun::{self, Calls};
use super::erase;
use super::query::{self, row_word};
use super::sql;
use super::states;
use super::sums::Sums;
use super::used;
use crate::archive::Archive;
use crate::record::{self, Hash, Head};
use crate::spool::Line;
use crate::telling::Telling;
use crate::used::Used;
use crate::words::{self, Orphan};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Transaction, params};
use types::outcome::{Feedback, Late, Outcome};
use types::store::{Error, Seq};

/// The most constants that are kept: those told last.
const CONSTANTS: i64 = 1_000;

/// Writes the records of a batch into one transaction and tells the observer of them.
pub(crate) struct Rows<'a> {
    tx: &'a Transaction<'a>,
    telling: &'a mut Telling,
    archive: &'a mut Archive,
    /// Once per record, so not looked up each time.
    insert: CachedStatement<'a>,
    /// Something waits for its request; mostly nothing does.
    orphans: bool,
    begun: Calls,
    sums: Sums,
    used: Used,
    records: u64,
    /// When the last request ended; `None` = there was none.
    last_ms: Option<i64>,
    /// What the observer knows is not what it was told.
    went_back: bool,
}

impl<'a> Rows<'a> {
    /// Begins a batch.
    ///
    /// # Errors
    /// The database refuses.
    pub(crate) fn new(
        tx: &'a Transaction<'a>,
        telling: &'a mut Telling,
        archive: &'a mut Archive,
    ) -> Result<Self, Error> {
        let insert = "INSERT INTO records (seq, request_id, erased) VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
        let insert = tx.prepare_cached(insert).map_err(sql)?;
        let orphans = tx
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM orphans)")
            .and_then(|mut select| select.query_row([], |r| r.get(0)))
            .map_err(sql)?;
        Ok(Rows {
            tx,
            telling,
            archive,
            insert,
            orphans,
            begun: Calls::new(tx)?,
            sums: Sums::default(),
            used: Used::default(),
            records: 0,
            last_ms: None,
            went_back: false,
        })
    }

    /// Stores a record. One that is here already changes nothing, and one that makes no sense is kept aside:
    /// neither may stop those behind it.
    ///
    /// # Errors
    /// The database refuses.
    pub(crate) fn store(&mut self, line: Line<'_>) -> Result<(), Error> {
        self.records += 1;
        match record::head(line.payload) {
            Ok(Head::Request(outcome)) => {
                if let Some(due_ms) = outcome.expires_ms {
                    erase::expires(self.tx, line.seq, &outcome.request_id, due_ms)?;
                }
                self.request(line.seq, *outcome, false)
            }
            Ok(Head::Erased(outcome)) => self.request(line.seq, *outcome, true),
            Ok(Head::Feedback(word)) => self.feedback(line.seq, word),
            Ok(Head::Late(late)) => self.late(line.seq, late),
            Ok(Head::GoBack(unix_ms)) => self.go_back(unix_ms),
            Ok(Head::Constants(hash, content)) => {
                self.records -= 1;
                self.constants(line.seq, hash, content)
            }
            Ok(Head::Begun(request_id, late, content)) => {
                let what = if late { begun::late(&request_id) } else { request_id };
                self.begun.begin(line.seq, what, content);
                Ok(())
            }
            Err(why) => self.unreadable(line, &why),
        }
    }

    /// Ends the batch at `end`: everything before is stored and observed. Gives the number of records.
    ///
    /// # Errors
    /// The database refuses.
    pub(crate) fn end(self, end: Seq) -> Result<u64, Error> {
        self.begun.write(self.tx)?;
        self.sums.write(self.tx)?;
        used::write(&self.used, self.tx)?;
        save_state(self.tx, self.telling, end)?;
        if self.went_back
            && let Some(state) = self.telling.state()
        {
            // A restart must not tell it again what it is to know no more.
            write_state(self.tx, &state, end)?;
        }
        if let Some(last_ms) = self.last_ms {
            states::keep(self.tx, self.telling, last_ms)?;
        }
        set_position(self.tx, end)?;
        Ok(self.records)
    }

    /// A request ended. `erased`: only its figures are left.
    fn request(&mut self, seq: Seq, outcome: Outcome, erased: bool) -> Result<(), Error> {
        self.begun.end(self.tx, &outcome.request_id)?;
        let whose = erased.then_some(&outcome.tenant);
        let row = params![seq.cast_signed(), outcome.request_id, whose];
        if self.insert.execute(row).map_err(sql)? == 0 {
            return Ok(());
        }
        self.telling.outcome(seq, &outcome);
        self.last_ms = self.last_ms.max(Some(outcome.ts_ms));
        self.sums.count(&outcome, 1);
        self.used.count(&outcome, 1);
        if !self.orphans {
            return Ok(());
        }
        let mut now = outcome;
        for (said, orphan) in self.take_orphans(&now.request_id)? {
            now = match orphan {
                Orphan::Word(word) => self.join(seq, said, now, &word)?,
                Orphan::Late(late) => self.add_late(now, &late)?,
            };
        }
        Ok(())
    }

    /// The observer goes back to what it knew; what comes after this line it learns.
    fn go_back(&mut self, unix_ms: i64) -> Result<(), Error> {
        match states::at(self.tx, unix_ms)? {
            Some(state) => {
                self.telling.go_back(&state);
                self.went_back = true;
            }
            None => tracing::error!(unix_ms, "statistics stay as they are: the state to go back to is gone"),
        }
        Ok(())
    }

    fn constants(&self, seq: Seq, hash: Hash, content: &[u8]) -> Result<(), Error> {
        self.tx
            .execute(
                "INSERT INTO constants VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET told = excluded.told",
                params![hash, seq.cast_signed(), content],
            )
            .and_then(|_| {
                self.tx.execute(
                    "DELETE FROM constants WHERE hash NOT IN (SELECT hash FROM constants ORDER BY told DESC LIMIT ?)",
                    [CONSTANTS],
                )
            })
            .map_err(sql)?;
        Ok(())
    }

    fn feedback(&mut self, seq: Seq, word: Feedback) -> Result<(), Error> {
        match query::current_outcome(self.tx, self.archive, &word.request_id)? {
            Some(outcome) => self.join(seq, seq, outcome, &word).map(|_| ()),
            None => self.insert_orphan(seq, &Orphan::Word(word)),
        }
    }

    fn late(&mut self, seq: Seq, late: Late) -> Result<(), Error> {
        if !late.calls.is_empty() {
            self.begun.end(self.tx, &begun::late(&late.request_id))?;
        }
        match query::current_outcome(self.tx, self.archive, &late.request_id)? {
            Some(outcome) => self.add_late(outcome, &late).map(|_| ()),
            None => self.insert_orphan(seq, &Orphan::Late(late)),
        }
    }

    /// Counts what was paid for after the response of a request; gives the outcome after it.
    fn add_late(&mut self, before: Outcome, late: &Late) -> Result<Outcome, Error> {
        let Some(after) = before.with_late(late) else { return Ok(before) };
        let written = query::write(&after)?;
        self.replace(&before, &after, &written)?;
        Ok(after)
    }

    /// Puts an outcome in the place of what it was.
    fn replace(&mut self, before: &Outcome, after: &Outcome, written: &str) -> Result<(), Error> {
        self.tx
            .prepare_cached("UPDATE records SET outcome = ? WHERE request_id = ?")
            .and_then(|mut update| update.execute([written, &after.request_id]))
            .map_err(sql)?;
        for (outcome, sign) in [(before, -1), (after, 1)] {
            self.sums.count(outcome, sign);
            self.used.count(outcome, sign);
        }
        Ok(())
    }

    /// Lets a word take effect on a request whose outcome is `before`; gives the outcome after it.
    fn join(&mut self, applied: Seq, seq: Seq, before: Outcome, word: &Feedback) -> Result<Outcome, Error> {
        // Its own line goes with the record of the request, also where it only says again what was said.
        if let Some(due_ms) = before.expires_ms {
            erase::expires(self.tx, seq, &word.request_id, due_ms)?;
        }
        let current = self.current_words(&word.request_id)?;
        if words::repeats(&current, word) {
            return Ok(before);
        }
        let after = self.telling.feedback(applied, &before, &words::with(current, word));
        let written = query::write(&after)?;
        self.insert_word(applied, seq, word, &written)?;
        self.replace(&before, &after, &written)?;
        Ok(after)
    }

    fn current_words(&self, request_id: &str) -> Result<Vec<Feedback>, Error> {
        let mut select = self
            .tx
            .prepare_cached(
                "SELECT request_id, ts_ms, score, reason, source, principal FROM feedback \
                 WHERE request_id = ? AND superseded = 0 ORDER BY applied, seq",
            )
            .map_err(sql)?;
        let rows = select.query_map([request_id], row_word).map_err(sql)?;
        rows.collect::<Result<_, _>>().map_err(sql)
    }

    fn insert_word(&self, applied: Seq, seq: Seq, word: &Feedback, outcome: &str) -> Result<(), Error> {
        self.tx
            .prepare_cached(
                "UPDATE feedback SET superseded = 1 \
                 WHERE request_id = ? AND principal = ? AND source = ? AND superseded = 0",
            )
            .and_then(|mut update| update.execute([&word.request_id, &word.principal, &word.source]))
            .map_err(sql)?;
        self.tx
            .prepare_cached(
                "INSERT INTO feedback (seq, applied, request_id, principal, source, ts_ms, score, reason, outcome) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .and_then(|mut insert| {
                insert.execute(params![
                    seq.cast_signed(),
                    applied.cast_signed(),
                    word.request_id,
                    word.principal,
                    word.source,
                    word.ts_ms,
                    word.score.get(),
                    word.reason,
                    outcome
                ])
            })
            .map_err(sql)?;
        Ok(())
    }

    fn insert_orphan(&mut self, seq: Seq, orphan: &Orphan) -> Result<(), Error> {
        self.orphans = true;
        self.tx
            .prepare_cached("INSERT INTO orphans (seq, request_id, word) VALUES (?, ?, ?)")
            .map_err(sql)?
            .execute(params![seq.cast_signed(), orphan.request_id(), query::write(orphan)?])
            .map_err(sql)?;
        Ok(())
    }

    /// What waited for a request, oldest first; it waits no longer.
    fn take_orphans(&self, request_id: &str) -> Result<Vec<(Seq, Orphan)>, Error> {
        let mut select = self
            .tx
            .prepare_cached("SELECT seq, word FROM orphans WHERE request_id = ? ORDER BY seq")
            .map_err(sql)?;
        let rows = select
            .query_map([request_id], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?)))
            .map_err(sql)?;
        let mut found = Vec::new();
        for row in rows {
            let (seq, word) = row.map_err(sql)?;
            found.push((seq.cast_unsigned(), query::parse(&word, "feedback on request", request_id)?));
        }
        if !found.is_empty() {
            self.tx.execute("DELETE FROM orphans WHERE request_id = ?", [request_id]).map_err(sql)?;
        }
        Ok(found)
    }

    fn unreadable(&self, line: Line<'_>, why: &str) -> Result<(), Error> {
        tracing::error!(seq = line.seq, why, "a record makes no sense and is kept aside");
        self.tx
            .execute(
                "INSERT INTO unreadable (seq, error, payload) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                params![line.seq.cast_signed(), why, line.payload],
            )
            .map_err(sql)?;
        Ok(())
    }
}

/// Forgets the requests before a position, and the words on them: their records go.
///
/// # Errors
/// The database refuses.
pub(crate) fn forget(conn: &mut Connection, first: Seq) -> Result<(), Error> {
    let tx = conn.transaction().map_err(sql)?;
    for statement in [
        "DELETE FROM feedback WHERE request_id IN (SELECT request_id FROM records WHERE seq < ?1)",
        "DELETE FROM records WHERE seq < ?1",
        "DELETE FROM orphans WHERE seq < ?1",
        "DELETE FROM unreadable WHERE seq < ?1",
        "DELETE FROM begun WHERE seq < ?1",
        "DELETE FROM expiring WHERE seq < ?1",
        "DELETE FROM erasing WHERE seq < ?1",
    ] {
        tx.execute(statement, [first.cast_signed()]).map_err(sql)?;
    }
    tx.commit().map_err(sql)
}

/// Saves what the observer gives, if it gives something, as its state at `position`.
///
/// # Errors
/// The database refuses.
pub(super) fn save_state(conn: &Connection, telling: &mut Telling, position: Seq) -> Result<(), Error> {
    telling.batch_done().map_or(Ok(()), |state| write_state(conn, &state, position))
}

fn write_state(conn: &Connection, state: &[u8], position: Seq) -> Result<(), Error> {
    conn.prepare_cached("INSERT OR REPLACE INTO observer_state VALUES (1, ?, ?)")
        .and_then(|mut replace| replace.execute(params![state, position.cast_signed()]))
        .map_err(sql)?;
    Ok(())
}

/// The observer's saved state, and the position up to which it had observed then.
///
/// # Errors
/// The database cannot be read.
pub(super) fn state(conn: &Connection) -> Result<Option<(Vec<u8>, Seq)>, Error> {
    conn.query_row("SELECT state, position FROM observer_state", [], |r| {
        Ok((r.get(0)?, r.get::<_, i64>(1)?.cast_unsigned()))
    })
    .optional()
    .map_err(sql)
}

/// Everything before this position of the log is in the database.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn position(conn: &Connection) -> Result<Seq, Error> {
    conn.query_row("SELECT value FROM meta WHERE key = 'position'", [], |r| r.get(0))
        .map(i64::cast_unsigned)
        .map_err(sql)
}

/// See [`position`].
///
/// # Errors
/// The database refuses.
fn set_position(conn: &Connection, position: Seq) -> Result<(), Error> {
    conn.prepare_cached("UPDATE meta SET value = ? WHERE key = 'position'")
        .and_then(|mut update| update.execute([position.cast_signed()]))
        .map_err(sql)?;
    Ok(())
}
