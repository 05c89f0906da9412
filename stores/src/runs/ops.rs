//! Each operation of the seam, once, over the tables of any store. The caller makes it atomic.

use super::clock::millis;
use super::rules;
use super::table::{Done, HookRow, KeyRow, Part, PutTimes, Table};
use serde_json::Value;
use std::time::Duration;
use types::runs::{
    Advance, Chosen, Claimed, Claims, Created, Cursor, Entry, Error, Filter, Head, JOURNAL_PAGE, KEY_KEPT,
    Key, Lease, NewRun, PAGE, Page, Post, Posted, Record, Renewed, Row, State, To, Told, WEBHOOK_TRIES,
    Webhook,
};

/// Runs that one claim expires at most.
const SWEEP: usize = 100;
/// A webhook of which nothing was heard is due again after this.
const HOOK_LEASE: Duration = Duration::from_secs(60);
/// How long a plan stays that no run is pinned to: a run is pinned to its plan a moment after the plan was put.
const PLAN_KEPT: Duration = Duration::from_secs(3_600);
/// A plan that was put within this time is not written once more: each run puts its own.
const PLAN_AGAIN: Duration = Duration::from_secs(1_800);

pub(super) fn create(t: &mut impl Table, new: &NewRun, now: i64) -> Done<Created> {
    if let Some(key) = &new.key
        && let Some(head) = asked_before(t, new, key, now)?
    {
        return Ok(Created::Again(head));
    }
    has_room(t, &new.tenant, new.room)?;
    let parent = new.fork.as_ref().map(|f| known(t, &new.tenant, &f.run)).transpose()?;
    let mut head = rules::fresh(new, now);
    t.insert(&head, &json(&new.submission)?)?;
    if let (Some(fork), Some(parent)) = (&new.fork, parent) {
        head.records = fork.up_to.min(parent.records);
        head.workflow = parent.workflow;
        head.plan = parent.plan;
        t.copy_entries(&fork.run, &new.id, head.records)?;
    }
    write(t, &mut head, &new.records, now)?;
    put(t, &head)?;
    if let Some(key) = &new.key {
        let expires_ms = now.saturating_add(millis(KEY_KEPT));
        let row = KeyRow { body: key.body.clone(), run: new.id.clone(), expires_ms };
        t.put_key(&new.tenant, &new.principal, key, &row)?;
    }
    Ok(Created::New(head))
}

/// The run that a key made, unless it was deleted since or failed before it cost anything: then asking again
/// means trying again.
fn asked_before(t: &mut impl Table, new: &NewRun, key: &Key, now: i64) -> Done<Option<Head>> {
    let known = t.key(&new.tenant, &new.principal, key)?.filter(|k| k.expires_ms > now);
    let Some(known) = known else { return Ok(None) };
    let head = t.head(&known.run)?.filter(|h| !(h.state == State::Failed && h.spent.calls == 0));
    match head {
        Some(_) if known.body != key.body => Err(Error::KeyReused { run: known.run }),
        head => Ok(head),
    }
}

/// Whether one more run of a tenant may be queued.
///
/// # Errors
/// [`Error::Full`].
fn has_room(t: &mut impl Table, tenant: &str, room: Option<usize>) -> Done {
    match room {
        Some(most) if t.queued(tenant, most)? >= most => Err(Error::Full { most }),
        _ => Ok(()),
    }
}

pub(super) fn get(t: &mut impl Table, tenant: &str, id: &str) -> Done<Option<Row>> {
    head(t, tenant, id)?.map(|head| row(t, head)).transpose()
}

pub(super) fn head(t: &mut impl Table, tenant: &str, id: &str) -> Done<Option<Head>> {
    Ok(t.head(id)?.filter(|h| h.tenant == tenant))
}

pub(super) fn list(t: &mut impl Table, filter: &Filter) -> Done<Page> {
    let limit = filter.limit.clamp(1, PAGE);
    let mut runs = t.list(filter, filter.after.as_ref(), limit.saturating_add(1))?;
    let more = runs.len() > limit;
    runs.truncate(limit);
    let last = runs.last().filter(|_| more);
    let next = last.map(|h| Cursor { created_ms: h.created_ms, id: h.id.clone() });
    Ok(Page { runs, next })
}

pub(super) fn journal(t: &mut impl Table, id: &str, after: u64, limit: usize) -> Done<Vec<Entry>> {
    t.entries(id, after, limit.min(JOURNAL_PAGE))
}

pub(super) fn claim(t: &mut impl Table, owner: &str, limit: usize, now: i64) -> Done<Claims> {
    let mut claims = Claims::default();
    for head in t.expired(now, SWEEP)? {
        // An owner that is alive ends its run itself.
        if head.holder.as_ref().is_none_or(|h| h.until_ms <= now) {
            let why = ended("run_expired", "the run's time was up");
            claims.expired.push(finish(t, head, State::Expired, &why, now)?);
        }
    }
    for mut head in t.due(now, limit)? {
        let (lease, taken_over) = rules::claim(&mut head, owner, now);
        put(t, &head)?;
        claims.taken.push(Claimed { lease, row: row(t, head)?, taken_over });
    }
    Ok(claims)
}

pub(super) fn renew(t: &mut impl Table, lease: &Lease, now: i64) -> Done<Renewed> {
    let mut head = owned(t, lease)?;
    let until_ms = rules::renew(&mut head, now);
    put(t, &head)?;
    Ok(Renewed { until_ms, cancel: head.cancel, posts: head.posts })
}

pub(super) fn advance(t: &mut impl Table, lease: &Lease, step: &Advance, now: i64) -> Done<Head> {
    let mut head = owned(t, lease)?;
    rules::step(&mut head, step, now)?;
    if step.forgets.contents && head.state.is_final() {
        t.clear(&head.id)?;
        t.put_part(&head.id, Part::Submission, Some("null"))?;
        t.put_part(&head.id, Part::Waiting, None)?;
    }
    write(t, &mut head, &step.records, now)?;
    match &step.to {
        Some(To::Waiting { waiting, .. }) => t.put_part(&head.id, Part::Waiting, Some(&json(waiting)?))?,
        Some(To::Ended { result, .. }) => close(t, &head, result, now)?,
        Some(To::Queued { .. }) | None => {}
    }
    put(t, &head)?;
    Ok(head)
}

pub(super) fn post(
    t: &mut impl Table,
    (tenant, id): (&str, &str),
    posts: &[Post],
    whole: &[Vec<String>],
    now: i64,
) -> Done<Head> {
    let mut head = known(t, tenant, id)?;
    let before = t.posts(id, 0)?;
    let mut fresh = Vec::new();
    for post in posts {
        let said = before.iter().map(|p| (&p.key, &p.body));
        let mut said = said.chain(fresh.iter().map(|p: &&Post| (&p.key, &p.body)));
        match said.find(|(key, _)| **key == post.key) {
            Some((_, body)) if *body == post.body => {}
            Some(_) => return Err(Error::Answered { run: id.to_owned(), key: post.key.clone() }),
            None => fresh.push(post),
        }
    }
    if fresh.is_empty() {
        return Ok(head);
    }
    if head.state.is_final() {
        return Err(Error::State { run: id.to_owned(), state: head.state });
    }
    let answered =
        |key: &String| before.iter().any(|p| p.key == *key) || fresh.iter().any(|p: &&Post| p.key == *key);
    let wakes = whole.is_empty() || whole.iter().any(|keys| keys.iter().all(answered));
    for Post { key, body } in fresh {
        head.posts = head.posts.saturating_add(1);
        let post = Posted { number: head.posts, ts_ms: now, key: key.clone(), body: body.clone() };
        t.add_post(id, &post)?;
    }
    head.updated_ms = now;
    if wakes {
        rules::wake(&mut head, now);
    }
    put(t, &head)?;
    Ok(head)
}

pub(super) fn cancel(t: &mut impl Table, tenant: &str, id: &str, why: &str, now: i64) -> Done<Head> {
    let mut head = known(t, tenant, id)?;
    if head.state.is_final() {
        return Ok(head);
    }
    head.cancel.get_or_insert_with(|| why.to_owned());
    head.updated_ms = now;
    if head.holder.as_ref().is_some_and(|h| h.until_ms > now) {
        put(t, &head)?;
        return Ok(head);
    }
    finish(t, head, State::Cancelled, &ended("cancelled", why), now)
}

pub(super) fn reopen(
    t: &mut impl Table,
    (tenant, id): (&str, &str),
    (resumed, plan): (&Record, Option<&Chosen>),
    room: Option<usize>,
    now: i64,
) -> Done<Head> {
    let mut head = known(t, tenant, id)?;
    rules::reopen(&mut head, now)?;
    has_room(t, tenant, room)?;
    if let Some(plan) = plan {
        rules::choose(&mut head, plan);
    }
    write(t, &mut head, std::slice::from_ref(resumed), now)?;
    t.put_part(id, Part::Result, None)?;
    put(t, &head)?;
    Ok(head)
}

pub(super) fn delete(t: &mut impl Table, tenant: &str, id: &str) -> Done {
    let head = known(t, tenant, id)?;
    if !head.state.is_final() {
        return Err(Error::State { run: id.to_owned(), state: head.state });
    }
    t.remove(id)
}

pub(super) fn purge(t: &mut impl Table, before: i64, limit: usize, now: i64) -> Done<usize> {
    t.drop_keys(now)?;
    let old = t.forgettable(before, now, limit)?;
    for id in &old {
        t.remove(id)?;
    }
    t.drop_plans(now.saturating_sub(millis(PLAN_KEPT)), limit)?;
    Ok(old.len())
}

pub(super) fn webhooks(t: &mut impl Table, limit: usize, now: i64) -> Done<Vec<Webhook>> {
    let mut due = Vec::new();
    for mut hook in t.due_hooks(now, limit)? {
        let Some(head) = t.head(&hook.run)? else {
            t.drop_hook(&hook.id)?;
            continue;
        };
        hook.tries = hook.tries.saturating_add(1);
        hook.due_ms = now.saturating_add(millis(HOOK_LEASE));
        t.put_hook(&hook)?;
        due.push(Webhook { id: hook.id, url: hook.url, attempt: hook.tries, row: row(t, head)? });
    }
    Ok(due)
}

pub(super) fn told(t: &mut impl Table, id: &str, told: Told, now: i64) -> Done {
    let Some(mut hook) = t.hook(id)? else { return Ok(()) };
    let next = usize::try_from(hook.tries).ok().and_then(|n| WEBHOOK_TRIES.get(n));
    match (told, next) {
        (Told::Failed, Some(next)) => {
            hook.due_ms = hook.since_ms.saturating_add(millis(*next)).max(now);
            t.put_hook(&hook)
        }
        (Told::Failed, None) => {
            tracing::warn!(run = hook.run, tries = hook.tries, "a webhook is given up");
            t.drop_hook(id)
        }
        (Told::Delivered, _) => t.drop_hook(id),
    }
}

pub(super) fn put_plan(t: &mut impl Table, hash: &str, plan: &Value, now: i64) -> Done {
    let again_ms = now.saturating_sub(millis(PLAN_AGAIN));
    t.put_plan(hash, &json(plan)?, PutTimes { now_ms: now, again_ms })
}

pub(super) fn plan(t: &mut impl Table, hash: &str) -> Done<Option<Value>> {
    t.plan(hash)?.map(|text| read(&text, "plan", hash)).transpose()
}

/// Reads JSON of a table.
///
/// # Errors
/// It is not what `what` is in this version.
pub(super) fn read<T: serde::de::DeserializeOwned>(text: &str, what: &str, id: &str) -> Done<T> {
    let wrong = |e| types::store::Error::Corrupt(format!("the {what} of {id}: {e}"));
    serde_json::from_str(text).map_err(|e| wrong(e).into())
}

/// Writes JSON for a table.
///
/// # Errors
/// None in practice: everything written here has string keys only.
pub(super) fn json(value: &impl serde::Serialize) -> Done<String> {
    serde_json::to_string(value).map_err(|e| types::store::Error::Io(e.into()).into())
}

fn known(t: &mut impl Table, tenant: &str, id: &str) -> Done<Head> {
    head(t, tenant, id)?.ok_or_else(|| Error::Unknown(id.to_owned()))
}

fn owned(t: &mut impl Table, lease: &Lease) -> Done<Head> {
    let head = t.head(&lease.run)?.ok_or_else(|| Error::Unknown(lease.run.clone()))?;
    rules::owned(&head, lease)?;
    Ok(head)
}

fn put(t: &mut impl Table, head: &Head) -> Done {
    t.put_head(head, rules::due(head))
}

fn row(t: &mut impl Table, head: Head) -> Done<Row> {
    let mut part = |part| -> Done<Option<Value>> {
        t.part(&head.id, part)?.map(|text| read(&text, "run", &head.id)).transpose()
    };
    let submission = part(Part::Submission)?.unwrap_or(Value::Null);
    let waiting = part(Part::Waiting)?.filter(|_| head.state.is_waiting());
    let result = part(Part::Result)?;
    Ok(Row { submission, waiting, result, head })
}

fn write(t: &mut impl Table, head: &mut Head, records: &[Record], now: i64) -> Done {
    for record in records {
        head.records = head.records.saturating_add(1);
        let entry = Entry { seq: head.records, ts_ms: now, epoch: head.epoch, record: record.clone() };
        t.add_entry(&head.id, &entry)?;
    }
    Ok(())
}

/// Ends a run that nobody owns.
fn finish(t: &mut impl Table, mut head: Head, state: State, result: &Value, now: i64) -> Done<Head> {
    rules::end(&mut head, state, now);
    let record = Record::RunFinished { state, result: result.clone() };
    write(t, &mut head, std::slice::from_ref(&record), now)?;
    close(t, &head, result, now)?;
    put(t, &head)?;
    Ok(head)
}

/// What follows from a run's end: its result, and the word to whom it concerns.
fn close(t: &mut impl Table, head: &Head, result: &Value, now: i64) -> Done {
    t.put_part(&head.id, Part::Result, Some(&json(result)?))?;
    let Some(url) = &head.callback_url else { return Ok(()) };
    // A run that is resumed ends twice; each end is told by its own name.
    let id = format!("wh_{}_{}", head.id, head.records);
    let hook = HookRow { id, run: head.id.clone(), url: url.clone(), tries: 0, since_ms: now, due_ms: now };
    t.put_hook(&hook)
}

fn ended(code: &str, message: &str) -> Value {
    serde_json::json!({"error": {"code": code, "message": message}})
}
