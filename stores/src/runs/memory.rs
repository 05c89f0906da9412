//! Runs in memory: for tests, and for running without data. They end with the process.

use super::clock::Clock;
use super::ops;
use super::table::{Done, HookRow, KeyRow, Part, PutTimes, Table};
use crate::lock;
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use types::runs::{
    Advance, Chosen, Claims, Created, Cursor, Entry, Error, Filter, Head, Key, Lease, NewRun, Page, Post,
    Posted, Record, Renewed, Row, RunStore, State, Told, Webhook,
};

/// Runs of this process; a cheap handle.
#[derive(Clone)]
pub struct RunsMemory {
    tables: Arc<Mutex<Tables>>,
    clock: Clock,
    capacity: usize,
}

#[derive(Default)]
struct Tables {
    runs: BTreeMap<String, Run>,
    keys: HashMap<(String, String, String, String), KeyRow>,
    plans: HashMap<String, Plan>,
    hooks: BTreeMap<String, HookRow>,
}

struct Plan {
    text: String,
    put_ms: i64,
}

struct Run {
    head: Head,
    due_ms: Option<i64>,
    submission: String,
    waiting: Option<String>,
    result: Option<String>,
    journal: Vec<Entry>,
    posts: Vec<Posted>,
}

impl RunsMemory {
    /// Default of `capacity`.
    pub const CAPACITY: usize = 1_000;

    /// No runs yet. Of more than `capacity` runs the ones that ended first are forgotten.
    #[must_use]
    pub fn new(clock: Clock, capacity: usize) -> Self {
        RunsMemory { tables: Arc::default(), clock, capacity }
    }

    fn with<T: Send + 'static>(
        &self,
        op: impl FnOnce(&mut Tables, i64) -> Result<T, Error>,
    ) -> BoxFuture<'static, Result<T, Error>> {
        // Nothing is awaited: operations check before they write, so each is whole or did nothing.
        let done = op(&mut lock(&self.tables), self.clock.now_ms());
        Box::pin(std::future::ready(done))
    }
}

impl RunStore for RunsMemory {
    fn create(&self, new: NewRun) -> BoxFuture<'_, Result<Created, Error>> {
        let capacity = self.capacity;
        self.with(|t, now| {
            let created = ops::create(t, &new, now)?;
            t.make_room(capacity);
            Ok(created)
        })
    }

    fn get(&self, tenant: &str, id: &str) -> BoxFuture<'_, Result<Option<Row>, Error>> {
        self.with(|t, _| ops::get(t, tenant, id))
    }

    fn head(&self, tenant: &str, id: &str) -> BoxFuture<'_, Result<Option<Head>, Error>> {
        self.with(|t, _| ops::head(t, tenant, id))
    }

    fn list(&self, filter: Filter) -> BoxFuture<'_, Result<Page, Error>> {
        self.with(|t, _| ops::list(t, &filter))
    }

    fn journal(&self, id: &str, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, Error>> {
        self.with(|t, _| ops::journal(t, id, after, limit))
    }

    fn claim(&self, owner: &str, limit: usize) -> BoxFuture<'_, Result<Claims, Error>> {
        self.with(|t, now| ops::claim(t, owner, limit, now))
    }

    fn renew(&self, lease: &Lease) -> BoxFuture<'_, Result<Renewed, Error>> {
        self.with(|t, now| ops::renew(t, lease, now))
    }

    fn advance(&self, lease: &Lease, step: Advance) -> BoxFuture<'_, Result<Head, Error>> {
        self.with(|t, now| ops::advance(t, lease, &step, now))
    }

    fn put_plan(&self, hash: &str, plan: Value) -> BoxFuture<'_, Result<(), Error>> {
        self.with(|t, now| ops::put_plan(t, hash, &plan, now))
    }

    fn plan(&self, hash: &str) -> BoxFuture<'_, Result<Option<Value>, Error>> {
        self.with(|t, _| ops::plan(t, hash))
    }

    fn post(
        &self,
        tenant: &str,
        id: &str,
        posts: Vec<Post>,
        whole: Vec<Vec<String>>,
    ) -> BoxFuture<'_, Result<Head, Error>> {
        self.with(|t, now| ops::post(t, (tenant, id), &posts, &whole, now))
    }

    fn posted(&self, id: &str, after: u64) -> BoxFuture<'_, Result<Vec<Posted>, Error>> {
        self.with(|t, _| t.posts(id, after))
    }

    fn cancel(&self, tenant: &str, id: &str, why: &str) -> BoxFuture<'_, Result<Head, Error>> {
        self.with(|t, now| ops::cancel(t, tenant, id, why, now))
    }

    fn reopen(
        &self,
        tenant: &str,
        id: &str,
        resumed: (Record, Option<Chosen>),
        room: Option<usize>,
    ) -> BoxFuture<'_, Result<Head, Error>> {
        self.with(|t, now| ops::reopen(t, (tenant, id), (&resumed.0, resumed.1.as_ref()), room, now))
    }

    fn delete(&self, tenant: &str, id: &str) -> BoxFuture<'_, Result<(), Error>> {
        self.with(|t, _| ops::delete(t, tenant, id))
    }

    fn purge(&self, ended_before_ms: i64, limit: usize) -> BoxFuture<'_, Result<usize, Error>> {
        self.with(|t, now| ops::purge(t, ended_before_ms, limit, now))
    }

    fn webhooks(&self, limit: usize) -> BoxFuture<'_, Result<Vec<Webhook>, Error>> {
        self.with(|t, now| ops::webhooks(t, limit, now))
    }

    fn told(&self, webhook_id: &str, told: Told) -> BoxFuture<'_, Result<(), Error>> {
        self.with(|t, now| ops::told(t, webhook_id, told, now))
    }
}

impl Tables {
    fn make_room(&mut self, capacity: usize) {
        let excess = self.runs.len().saturating_sub(capacity);
        let mut ended: Vec<(i64, String)> =
            self.runs.values().filter_map(|r| Some((r.head.ended_ms?, r.head.id.clone()))).collect();
        ended.sort_unstable();
        for (_, id) in ended.into_iter().take(excess) {
            self.runs.remove(&id);
        }
    }

    fn run(&mut self, id: &str) -> Done<&mut Run> {
        self.runs.get_mut(id).ok_or_else(|| Error::Unknown(id.to_owned()))
    }
}

/// The earliest of what was found.
fn earliest(mut rows: Vec<(i64, &Head)>, limit: usize) -> Vec<Head> {
    rows.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.id.cmp(&b.1.id)));
    rows.into_iter().take(limit).map(|(_, head)| head.clone()).collect()
}

fn key_of(tenant: &str, principal: &str, key: &Key) -> (String, String, String, String) {
    (tenant.to_owned(), principal.to_owned(), key.route.clone(), key.key.clone())
}

impl Table for Tables {
    fn head(&mut self, id: &str) -> Done<Option<Head>> {
        Ok(self.runs.get(id).map(|r| r.head.clone()))
    }

    fn insert(&mut self, head: &Head, submission: &str) -> Done {
        let run = Run {
            head: head.clone(),
            due_ms: None,
            submission: submission.to_owned(),
            waiting: None,
            result: None,
            journal: Vec::new(),
            posts: Vec::new(),
        };
        self.runs.insert(head.id.clone(), run);
        Ok(())
    }

    fn put_head(&mut self, head: &Head, due_ms: Option<i64>) -> Done {
        let run = self.run(&head.id)?;
        run.head = head.clone();
        run.due_ms = due_ms;
        Ok(())
    }

    fn put_part(&mut self, id: &str, part: Part, json: Option<&str>) -> Done {
        let run = self.run(id)?;
        let json = json.map(str::to_owned);
        match part {
            Part::Submission => run.submission = json.unwrap_or_default(),
            Part::Waiting => run.waiting = json,
            Part::Result => run.result = json,
        }
        Ok(())
    }

    fn part(&mut self, id: &str, part: Part) -> Done<Option<String>> {
        let run = self.run(id)?;
        Ok(match part {
            Part::Submission => Some(run.submission.clone()),
            Part::Waiting => run.waiting.clone(),
            Part::Result => run.result.clone(),
        })
    }

    fn due(&mut self, now_ms: i64, limit: usize) -> Done<Vec<Head>> {
        let due = self.runs.values().filter_map(|r| Some((r.due_ms?, &r.head)));
        Ok(earliest(due.filter(|(at, _)| *at <= now_ms).collect(), limit))
    }

    fn queued(&mut self, tenant: &str, most: usize) -> Done<usize> {
        let queued = self.runs.values().filter(|r| r.head.state == State::Queued && r.head.tenant == tenant);
        Ok(queued.take(most).count())
    }

    fn expired(&mut self, now_ms: i64, limit: usize) -> Done<Vec<Head>> {
        let open = self.runs.values().map(|r| &r.head).filter(|h| !h.state.is_final());
        let late = open.filter(|h| h.expires_ms <= now_ms).map(|h| (h.expires_ms, h));
        Ok(earliest(late.collect(), limit))
    }

    fn list(&mut self, filter: &Filter, after: Option<&Cursor>, limit: usize) -> Done<Vec<Head>> {
        let shown = |h: &&Head| {
            h.tenant == filter.tenant
                && (filter.states.is_empty() || filter.states.contains(&h.state))
                && filter.workflow.as_ref().is_none_or(|w| *w == h.workflow)
                && filter.labels.iter().all(|(k, v)| {
                    [&h.labels, &h.authored.labels].iter().any(|labels| labels.get(k) == Some(v))
                })
                && filter.from_ms.is_none_or(|t| h.created_ms >= t)
                && filter.before_ms.is_none_or(|t| h.created_ms < t)
                && after.is_none_or(|c| (h.created_ms, h.id.as_str()) < (c.created_ms, c.id.as_str()))
        };
        let mut found: Vec<&Head> = self.runs.values().map(|r| &r.head).filter(shown).collect();
        found.sort_by(|a, b| (b.created_ms, &b.id).cmp(&(a.created_ms, &a.id)));
        Ok(found.into_iter().take(limit).cloned().collect())
    }

    fn add_entry(&mut self, run: &str, entry: &Entry) -> Done {
        self.run(run)?.journal.push(entry.clone());
        Ok(())
    }

    fn entries(&mut self, run: &str, after: u64, limit: usize) -> Done<Vec<Entry>> {
        let Some(run) = self.runs.get(run) else { return Ok(Vec::new()) };
        Ok(run.journal.iter().filter(|e| e.seq > after).take(limit).cloned().collect())
    }

    fn copy_entries(&mut self, from: &str, to: &str, up_to: u64) -> Done {
        let copied: Vec<Entry> = self.run(from)?.journal.iter().filter(|e| e.seq <= up_to).cloned().collect();
        self.run(to)?.journal.extend(copied.into_iter().map(|e| Entry { epoch: 0, ..e }));
        Ok(())
    }

    fn key(&mut self, tenant: &str, principal: &str, key: &Key) -> Done<Option<KeyRow>> {
        Ok(self.keys.get(&key_of(tenant, principal, key)).cloned())
    }

    fn put_key(&mut self, tenant: &str, principal: &str, key: &Key, row: &KeyRow) -> Done {
        self.keys.insert(key_of(tenant, principal, key), row.clone());
        Ok(())
    }

    fn drop_keys(&mut self, now_ms: i64) -> Done {
        self.keys.retain(|_, k| k.expires_ms > now_ms);
        Ok(())
    }

    fn add_post(&mut self, run: &str, post: &Posted) -> Done {
        self.run(run)?.posts.push(post.clone());
        Ok(())
    }

    fn posts(&mut self, run: &str, after: u64) -> Done<Vec<Posted>> {
        let posts = self.runs.get(run).map_or(&[] as &[Posted], |r| r.posts.as_slice());
        Ok(posts.iter().filter(|p| p.number > after).cloned().collect())
    }

    fn put_plan(&mut self, hash: &str, plan: &str, times: PutTimes) -> Done {
        let new = || Plan { text: plan.to_owned(), put_ms: times.now_ms };
        let kept = self.plans.entry(hash.to_owned()).or_insert_with(new);
        if kept.put_ms < times.again_ms {
            kept.put_ms = times.now_ms;
        }
        Ok(())
    }

    fn plan(&mut self, hash: &str) -> Done<Option<String>> {
        Ok(self.plans.get(hash).map(|p| p.text.clone()))
    }

    fn drop_plans(&mut self, put_before_ms: i64, limit: usize) -> Done {
        let named: HashSet<&String> = self.runs.values().filter_map(|r| r.head.plan.as_ref()).collect();
        let mut left = limit;
        self.plans.retain(|hash, plan| {
            let goes = left > 0 && plan.put_ms < put_before_ms && !named.contains(hash);
            left = left.saturating_sub(usize::from(goes));
            !goes
        });
        Ok(())
    }

    fn put_hook(&mut self, hook: &HookRow) -> Done {
        self.hooks.insert(hook.id.clone(), hook.clone());
        Ok(())
    }

    fn hook(&mut self, id: &str) -> Done<Option<HookRow>> {
        Ok(self.hooks.get(id).cloned())
    }

    fn drop_hook(&mut self, id: &str) -> Done {
        self.hooks.remove(id);
        Ok(())
    }

    fn due_hooks(&mut self, now_ms: i64, limit: usize) -> Done<Vec<HookRow>> {
        let mut due: Vec<&HookRow> = self.hooks.values().filter(|h| h.due_ms <= now_ms).collect();
        due.sort_by_key(|h| h.due_ms);
        Ok(due.into_iter().take(limit).cloned().collect())
    }

    fn forgettable(&mut self, ended_before_ms: i64, now_ms: i64, limit: usize) -> Done<Vec<String>> {
        let goes = |head: &Head| {
            let own = head.forget_ms.is_some_and(|t| t <= now_ms);
            head.ended_ms.is_some_and(|t| t < ended_before_ms || own)
        };
        let found = self.runs.values().filter(|r| goes(&r.head));
        Ok(found.take(limit).map(|r| r.head.id.clone()).collect())
    }

    fn clear(&mut self, run: &str) -> Done {
        let run = self.run(run)?;
        run.journal.clear();
        run.posts.clear();
        Ok(())
    }

    fn remove(&mut self, run: &str) -> Done {
        self.runs.remove(run);
        self.hooks.retain(|_, h| h.run != run);
        Ok(())
    }
}
