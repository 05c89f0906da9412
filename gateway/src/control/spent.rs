//! What was used of days and months, and of free tiers, kept over restarts.
//!
//! What limits count is one object for each counter, so that a write is as large as what has changed, however many
//! tenants there are.

use super::directory::KEY;
use super::settled::{self, Log};
use crate::clock;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use providers::FreeUse;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use stores::limits::{Counters, Kept};
use types::control::{ControlStore, Error, Object};
use types::limits::{Metric, Window};

/// Kind of the objects that hold one counter of limits each.
const COUNTER: &str = "counter";
/// Kind and id of the one object that held all of them in earlier versions.
const SPENT: &str = "spent";
/// Kind and id of the one object that holds what was used of free tiers.
const FREE: &str = "free_use";
/// How often it is written where something has changed. What limits count is also written whenever more is used than
/// the disk says, so that a killed process forgets none of it.
const EVERY: Duration = Duration::from_secs(1);
/// Most counters that are removed after one writing: each is a write of its own, and nobody waits for it.
const REMOVED_AT_ONCE: usize = 32;

/// Tells what is to be kept at a moment, Unix milliseconds.
pub(crate) type Now = Box<dyn Fn(i64) -> Value + Send + Sync>;

/// Something that changes and is kept.
trait Changing: Send + Sync {
    /// Its name, for messages.
    fn name(&self) -> &'static str;
    /// Writes what has changed since it was last written.
    fn write(&mut self) -> BoxFuture<'_, Result<(), Error>>;
    /// Resolves when somebody waits for it to be written.
    fn wanted(&self) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }
}

/// Keeps something that changes, again and again.
pub(crate) struct Keeper(Box<dyn Changing>);

impl Keeper {
    /// Reads what was kept into the counters of limits. After a kill the log tells what became of what was set aside.
    ///
    /// # Errors
    /// The store, or what it holds, cannot be read.
    pub(crate) async fn spent(
        store: Arc<dyn ControlStore>,
        counters: Arc<Counters>,
        log: &Log,
    ) -> Result<Keeper, String> {
        Ok(Keeper(Box::new(Spent::read(store, counters, Some(log)).await?)))
    }

    /// Reads what was used of free tiers and tells `resume` of it.
    ///
    /// # Errors
    /// The store cannot be read. What it holds and is not understood is told to nobody: the vendor's own answer
    /// then says what is used up.
    pub(crate) async fn free_use(
        store: Arc<dyn ControlStore>,
        resume: impl FnOnce(&[FreeUse]),
    ) -> Result<impl FnOnce(Now) -> Keeper, String> {
        let found = store.all(FREE).await.map_err(|e| e.to_string())?.into_iter().next();
        let (version, doc) = found.map_or((0, Value::Null), |o| (o.version, o.doc));
        let last = doc.get("counters").cloned().unwrap_or_else(|| json!([]));
        match serde_json::from_value::<Vec<FreeUse>>(last.clone()) {
            Ok(all) => resume(&all),
            Err(e) => tracing::warn!(error = %e, "what was used of free tiers is not understood"),
        }
        Ok(move |now: Now| Keeper(Box::new(Free { store, version, last, now })))
    }

    /// Writes what has changed, again and again, until nothing is in work any more.
    pub(crate) async fn run(mut self, at_rest: tokio_util::sync::CancellationToken) {
        loop {
            let stopped = tokio::select! {
                () = tokio::time::sleep(EVERY) => false,
                () = self.0.wanted() => false,
                () = at_rest.cancelled() => true,
            };
            self.try_write().await;
            if stopped {
                // Once more: what was written ran ahead of what is used if anything had been reserved since the last.
                self.try_write().await;
                return;
            }
        }
    }

    async fn try_write(&mut self) {
        if let Err(e) = self.0.write().await {
            tracing::error!(error = %e, kind = self.0.name(), "what was used could not be kept");
        }
    }
}

/// What was used of free tiers, as one object: there are few of them.
struct Free {
    store: Arc<dyn ControlStore>,
    version: u64,
    last: Value,
    now: Now,
}

impl Free {
    async fn write_changed(&mut self) -> Result<(), Error> {
        let at = clock::unix_ms();
        let now = (self.now)(at);
        if now == self.last {
            return Ok(());
        }
        let object = object((FREE, FREE), self.version, json!({ "unix_ms": at, "counters": now }), at);
        self.store.put(vec![object]).await?;
        self.version = self.version.saturating_add(1);
        self.last = now;
        Ok(())
    }
}

impl Changing for Free {
    fn name(&self) -> &'static str {
        FREE
    }

    fn write(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        self.write_changed().boxed()
    }
}

fn object((kind, id): (&str, &str), version: u64, doc: Value, at: i64) -> Object {
    Object { kind: kind.to_owned(), id: id.to_owned(), version, doc, sealed: Vec::new(), updated_ms: at }
}

/// What limits count.
struct Spent {
    store: Arc<dyn ControlStore>,
    counters: Arc<Counters>,
    /// What is on the disk.
    rows: HashMap<Whose, Row>,
    /// What is there and counts nothing any more.
    over: HashSet<Whose>,
    /// Version of the object of earlier versions; 0 = it is not there.
    old: u64,
}

/// One counter.
type Whose = (Arc<str>, Arc<str>, Metric, Window);

fn whose(k: &Kept) -> Whose {
    (k.tenant.clone(), k.holder.clone(), k.metric, k.window)
}

struct Row {
    id: String,
    version: u64,
    kept: Kept,
}

/// The identifier of a counter's object: short, whatever its holder is called.
fn id_of(k: &Kept) -> String {
    let name = json!([k.tenant, k.holder, k.metric, k.window]).to_string();
    blake3::hash(name.as_bytes()).to_hex().chars().take(32).collect()
}

/// Keys that took the place of others, and under whose name what they spend is counted.
async fn lines(store: &Arc<dyn ControlStore>) -> Result<HashMap<String, String>, Error> {
    let counted = |o: &Object| Some((o.id.clone(), o.doc.get("counts_as")?.as_str()?.to_owned()));
    Ok(store.all(KEY).await?.iter().filter_map(counted).collect())
}

impl Spent {
    async fn read(
        store: Arc<dyn ControlStore>,
        counters: Arc<Counters>,
        log: Option<&Log>,
    ) -> Result<Spent, String> {
        let words = |e: Error| e.to_string();
        let unread = |e: serde_json::Error| format!("what was spent: {e}");
        let mut found: HashMap<String, (u64, Kept, i64)> = HashMap::new();
        let moment = |o: &Object| o.doc.get("unix_ms").and_then(Value::as_i64).unwrap_or(0);
        let mut old = 0;
        for o in store.all(SPENT).await.map_err(words)? {
            let all = o.doc.get("counters").cloned().unwrap_or_else(|| json!([]));
            for kept in serde_json::from_value::<Vec<Kept>>(all).map_err(unread)? {
                found.insert(id_of(&kept), (0, kept, moment(&o)));
            }
            old = o.version;
        }
        // Where both are there, the one was written after the other.
        for o in store.all(COUNTER).await.map_err(words)? {
            let kept = o.doc.get("counter").cloned().unwrap_or_default();
            let kept: Kept = serde_json::from_value(kept).map_err(unread)?;
            let at = moment(&o);
            found.insert(o.id, (o.version, kept, at));
        }
        let open = found.values().filter(|(_, k, _)| k.settled.is_some_and(|settled| settled < k.used));
        let spent = match (log, open.map(|(.., at)| *at).min()) {
            (Some(log), Some(earliest)) => log.since(earliest).await,
            _ => None,
        };
        let spent = match spent {
            Some(spent) => Some(settled::together(spent, &lines(&store).await.map_err(words)?)),
            None => None,
        };
        for (_, k, at) in found.values() {
            let used = spent.as_deref().map_or(k.used, |all| settled::used(k, *at, all));
            counters.resume(k, used, *at, clock::unix_ms());
        }
        counters.begin_writing();
        // What the log tells counts by the moments of its requests, so that it is written down before there are more of
        // them: to a later start, those that this one found cut off are old.
        let rows = found.into_iter().filter(|(_, (version, ..))| *version > 0);
        let rows = rows.map(|(id, (version, kept, _))| (whose(&kept), Row { id, version, kept })).collect();
        let mut all = Spent { store, counters, rows, over: HashSet::new(), old };
        if spent.is_some()
            && let Err(error) = all.write_changed().await
        {
            // The rows still say what was set aside; the next writing makes it good.
            tracing::error!(%error, "what was spent before the process ended could not be written down");
        }
        Ok(all)
    }

    async fn write_changed(&mut self) -> Result<(), Error> {
        let at = clock::unix_ms();
        let all = self.counters.kept(at);
        let mut changed = Vec::new();
        let mut objects = Vec::new();
        for kept in &all {
            let whose = whose(kept);
            let row = self.rows.get(&whose);
            if kept.used == 0 {
                self.over.extend(row.is_some().then_some(whose));
                continue;
            }
            self.over.remove(&whose);
            if row.is_none_or(|row| row.kept != *kept) {
                let (id, version) = row.map_or_else(|| (id_of(kept), 0), |row| (row.id.clone(), row.version));
                objects.push(object((COUNTER, &id), version, json!({ "unix_ms": at, "counter": kept }), at));
                changed.push((whose, id, kept));
            }
        }
        if !objects.is_empty() {
            let written = self.store.put(objects).await?;
            for ((whose, id, kept), object) in changed.into_iter().zip(written) {
                self.rows.insert(whose, Row { id, version: object.version, kept: kept.clone() });
            }
        }
        self.counters.written(&all);
        self.tidy().await
    }

    /// Removes what counts no more, and what an earlier version wrote, once all of it stands in objects of its own.
    async fn tidy(&mut self) -> Result<(), Error> {
        if self.old > 0 {
            self.store.remove(SPENT, SPENT, self.old).await?;
            self.old = 0;
        }
        for whose in self.over.iter().take(REMOVED_AT_ONCE).cloned().collect::<Vec<_>>() {
            if let Some(row) = self.rows.get(&whose) {
                self.store.remove(COUNTER, &row.id, row.version).await?;
            }
            self.rows.remove(&whose);
            self.over.remove(&whose);
        }
        Ok(())
    }
}

impl Changing for Spent {
    fn name(&self) -> &'static str {
        SPENT
    }

    fn write(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        self.write_changed().boxed()
    }

    fn wanted(&self) -> BoxFuture<'_, ()> {
        self.counters.wanted().boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::super::settled::tests::cut_off;
    use super::*;
    use stores::Memory;
    use stores::control::ControlMemory;
    use types::Usd;
    use types::limits::{Amount, Limit, LimitStore as _};
    use types::outcome::{Feedback, Outcome};
    use types::store::{Observer, OutcomeStore, Record, RequestRecord, Seq};

    /// Learns nothing.
    struct Deaf;

    impl Observer for Deaf {
        fn restore(&mut self, _: &[u8]) -> Result<(), String> {
            Ok(())
        }

        fn outcome(&mut self, _: Seq, _: &Outcome) {}

        fn feedback(&mut self, _: Seq, outcome: &Outcome, _: &[Feedback]) -> Outcome {
            outcome.clone()
        }

        fn batch_done(&mut self) -> Option<Vec<u8>> {
            None
        }
    }

    fn budget(holder: &str) -> Arc<[Limit]> {
        Limit::rate(holder, Metric::Usd, 100.0, Window::Day).into_iter().collect()
    }

    fn usd(dollars: u64) -> Amount {
        Amount { usd: dollars * 1_000_000_000, ..Amount::default() }
    }

    /// Spends without waiting for the disk, as settling does.
    async fn spend(counters: &Counters, tenant: &str, dollars: u64) {
        let tenant = Arc::from(tenant);
        let taken = counters.reserve(&tenant, &budget("tenant:x"), usd(0), clock::unix_ms()).await.unwrap();
        counters.settle(taken, usd(dollars));
    }

    async fn used(counters: &Counters, tenant: &str) -> u64 {
        let standing = counters.standing(&Arc::from(tenant), &budget("tenant:x"), clock::unix_ms()).await;
        standing[0].used / 1_000_000_000
    }

    async fn versions(store: &Arc<dyn ControlStore>) -> Vec<u64> {
        let mut all: Vec<u64> = store.all(COUNTER).await.unwrap().into_iter().map(|o| o.version).collect();
        all.sort_unstable();
        all
    }

    #[tokio::test]
    async fn a_write_touches_what_has_changed_and_nothing_else() {
        let store: Arc<dyn ControlStore> = Arc::new(ControlMemory::default());
        let counters = Arc::new(Counters::default());
        let mut spent = Spent::read(store.clone(), counters.clone(), None).await.unwrap();
        for tenant in ["a", "b", "c"] {
            spend(&counters, tenant, 3).await;
        }
        spent.write_changed().await.unwrap();
        // What is written runs ahead of what is used until nothing is reserved any more.
        spent.write_changed().await.unwrap();
        let first = versions(&store).await;
        assert_eq!(first.len(), 3);
        spent.write_changed().await.unwrap();
        assert_eq!(versions(&store).await, first, "nothing has changed");
        spend(&counters, "b", 4).await;
        spent.write_changed().await.unwrap();
        let second = versions(&store).await;
        let grown: u64 = second.iter().sum::<u64>() - first.iter().sum::<u64>();
        assert_eq!(grown, 1, "{first:?} {second:?}");

        let after = Arc::new(Counters::default());
        Spent::read(store, after.clone(), None).await.unwrap();
        assert_eq!((used(&after, "a").await, used(&after, "b").await, used(&after, "d").await), (3, 7, 0));
    }

    /// A request of a month's budget, as the log has it of one that was cut off, or that was refused.
    fn request(id: &str, ts_ms: i64, dollars: Option<u64>) -> RequestRecord {
        let reserved = Usd::from_nanos(i64::try_from(usd(dollars.unwrap_or(0)).usd).unwrap());
        let mut record = cut_off((id, ts_ms), ("a", ""), (reserved, Some(0)));
        if dollars.is_none() {
            record.outcome.error = Some("insufficient_quota".to_owned());
        }
        record
    }

    /// A start that finds a request cut off is killed before anything is spent again, but not before somebody was
    /// refused: to the next start that request is not the newest any more, and older than the counter's row.
    #[tokio::test]
    async fn what_one_start_finds_cut_off_is_not_forgotten_by_the_next() {
        let store: Arc<dyn ControlStore> = Arc::new(ControlMemory::default());
        let requests: Arc<dyn OutcomeStore> = Arc::new(Memory::new(16, Box::new(Deaf)).unwrap());
        let log = || Log { requests: requests.clone(), runs: Vec::new() };
        let counters = Arc::new(Counters::default());
        let mut spent = Spent::read(store.clone(), counters.clone(), Some(&log())).await.unwrap();
        spend(&counters, "a", 3).await;
        let begun_ms = clock::unix_ms() - 1_000;
        let (tenant, budget) = (Arc::from("a"), budget("tenant:x"));
        let written = async {
            counters.wanted().await;
            spent.write_changed().await.unwrap();
        };
        let (in_work, ()) = tokio::join!(counters.reserve(&tenant, &budget, usd(4), begun_ms), written);
        let _in_work = in_work.unwrap();

        requests.append(&Record::Request(Box::new(request("cut_off", begun_ms, Some(4))))).unwrap();
        let first = Arc::new(Counters::default());
        Spent::read(store.clone(), first.clone(), Some(&log())).await.unwrap();
        assert_eq!(used(&first, "a").await, 7);

        requests.append(&Record::Request(Box::new(request("refused", clock::unix_ms(), None)))).unwrap();
        let second = Arc::new(Counters::default());
        Spent::read(store, second.clone(), Some(&log())).await.unwrap();
        assert_eq!(used(&second, "a").await, 7);
    }

    #[tokio::test]
    async fn what_an_earlier_version_wrote_is_kept_and_then_replaced() {
        let store: Arc<dyn ControlStore> = Arc::new(ControlMemory::default());
        let at = clock::unix_ms();
        let kept = |tenant: &str, dollars: u64| {
            json!({"tenant": tenant, "holder": "tenant:x", "metric": Metric::Usd, "window": Window::Day,
                   "used": dollars * 1_000_000_000})
        };
        let doc = json!({ "unix_ms": at, "counters": [kept("a", 5), kept("b", 6)] });
        store.put(vec![object((SPENT, SPENT), 0, doc, at)]).await.unwrap();
        let counters = Arc::new(Counters::default());
        let mut spent = Spent::read(store.clone(), counters.clone(), None).await.unwrap();
        assert_eq!((used(&counters, "a").await, used(&counters, "b").await), (5, 6));
        // Killed before anything was written: all is as before.
        let again = Arc::new(Counters::default());
        Spent::read(store.clone(), again.clone(), None).await.unwrap();
        assert_eq!(used(&again, "b").await, 6);
        spend(&counters, "a", 1).await;
        spent.write_changed().await.unwrap();
        spent.write_changed().await.unwrap();
        assert!(store.all(SPENT).await.unwrap().is_empty());
        let after = Arc::new(Counters::default());
        Spent::read(store.clone(), after.clone(), None).await.unwrap();
        assert_eq!((used(&after, "a").await, used(&after, "b").await), (6, 6));
    }

    #[tokio::test]
    async fn a_counter_of_yesterday_counts_no_more_and_goes() {
        let store: Arc<dyn ControlStore> = Arc::new(ControlMemory::default());
        let yesterday = clock::unix_ms() - 2 * 86_400_000;
        for tenant in ["a", "b"] {
            let kept = Kept {
                at_most: 0,
                tenant: tenant.into(),
                holder: "tenant:x".into(),
                metric: Metric::Usd,
                window: Window::Day,
                used: 9_000_000_000,
                settled: None,
                period: yesterday.div_euclid(86_400_000),
                parts: Vec::new(),
            };
            let doc = json!({ "unix_ms": yesterday, "counter": kept });
            store.put(vec![object((COUNTER, &id_of(&kept)), 0, doc, yesterday)]).await.unwrap();
        }
        let counters = Arc::new(Counters::default());
        let mut spent = Spent::read(store.clone(), counters.clone(), None).await.unwrap();
        assert_eq!(used(&counters, "a").await, 0);
        // The same amount on another day is another thing to write.
        spend(&counters, "a", 9).await;
        spent.write_changed().await.unwrap();
        spent.write_changed().await.unwrap();
        let written = store.all(COUNTER).await.unwrap();
        assert!(written.iter().all(|o| o.doc["unix_ms"].as_i64() > Some(yesterday)), "{written:?}");
        assert_eq!(written.len(), 1, "what nobody has spent of since is gone");
    }
}
