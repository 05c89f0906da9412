//! What checking an answer and asking a stronger model only where it fails adds over asking once, at equal cost.
//!
//! Every way sends the same seeded requests through the engine to the simulated fleet: each model by itself, the
//! router's choice among them, the shipped workflows, and the router's choice among all of these (`auto`). What a router
//! chooses it learns on the way, so that its second half stands in a row of its own. An answer counts if it is delivered and [`task`] finds it right; what it
//! cost is what the record of its request says, failed calls, repairs and judges included.
//!
//! To ask once at a cost between two models is to toss a coin between them: the upper hull of the single models over
//! (cost, success), from (0, 0). A way is compared with the hull at its own cost.

mod task;

use crate::{Failure, say};
use comfy_table::Table;
use engine::{Admission, Answer, Who};
use gateway::app::{self, Data, Running, Settings};
use gateway::config::{Simulated, Source};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use task::{FAMILIES, Task};
use tokio::task::JoinSet;
use tokio::time::Instant;
use types::ChatRequest;

/// One call and a check for the record: nothing is mended, nobody else is asked.
const ONCE: &str = "version: 1
name: once
serves: \"true\"
limits: { wall: 120s, calls: 1 }
nodes:
  - { id: generate, type: generate, primary: true, timeout: 115s }
  - { id: check, type: validate, input: nodes.generate.completions, validators: [contract] }
  - { id: answer, type: stream, from: nodes.check.best }
edges:
  - { from: generate, to: check }
  - { from: check, to: answer }
";

/// Requests under way at the same time.
const AT_ONCE: usize = 96;

/// How often a request comes again that nobody was asked for, and the pause before.
const PATIENCE: usize = 600;
const PAUSE: Duration = Duration::from_millis(100);

/// How much is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Requests of each way.
    pub(crate) requests: usize,
    /// Of requests and draws.
    pub(crate) seed: u64,
    /// One JSON document instead of tables.
    pub(crate) json: bool,
}

/// A way to have a request answered.
#[derive(Clone)]
struct Way {
    name: String,
    /// Its `routing`.
    routing: Value,
    /// One model, asked once.
    single: bool,
    /// The router chooses, and learns as it goes.
    learns: bool,
}

/// What came of one way.
#[derive(Default)]
struct Came {
    requests: usize,
    good: usize,
    usd: f64,
    calls: u64,
    /// Requests and good answers by family.
    families: BTreeMap<&'static str, (usize, usize)>,
}

impl Came {
    fn add(&mut self, other: &Came) {
        self.requests = self.requests.saturating_add(other.requests);
        self.good = self.good.saturating_add(other.good);
        self.usd += other.usd;
        self.calls = self.calls.saturating_add(other.calls);
        for (family, (n, good)) in &other.families {
            let f = self.families.entry(family).or_default();
            *f = (f.0.saturating_add(*n), f.1.saturating_add(*good));
        }
    }

    fn success(&self) -> f64 {
        share(self.good, self.requests)
    }

    /// Standard error of the success.
    fn error(&self) -> f64 {
        let p = self.success();
        (p * (1.0 - p) / self.requests.max(1) as f64).sqrt()
    }

    /// Dollars a request.
    fn cost(&self) -> f64 {
        self.usd / self.requests.max(1) as f64
    }

    fn family(&self, name: &str) -> f64 {
        self.families.get(name).map_or(0.0, |(n, good)| share(*good, *n))
    }
}

fn share(part: usize, all: usize) -> f64 {
    part as f64 / all.max(1) as f64
}

/// Prints a table, or JSON.
///
/// # Errors
/// The engine does not start.
pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for way in ways(plan).await? {
        // Each begins with the same, and learns from its own requests only.
        let running = Arc::new(start(plan.seed).await?);
        let came = ask_all(&running, &way, plan).await;
        if let Ok(running) = Arc::try_unwrap(running).map_err(|_| ()) {
            running.stop().await;
        }
        let [early, late] = came;
        let mut all = early;
        all.add(&late);
        let second = way.learns.then(|| Way { name: format!("{}, second half", way.name), ..way.clone() });
        rows.push((way, all));
        rows.extend(second.map(|way| (way, late)));
    }
    let singles: Vec<(f64, f64)> =
        rows.iter().filter(|(w, _)| w.single).map(|(_, c)| (c.cost(), c.success())).collect();
    let hull = hull(singles);
    if plan.json {
        say(&document(&rows, &hull, plan).to_string());
    } else {
        print(&rows, &hull, plan);
    }
    Ok(())
}

async fn start(seed: u64) -> Result<Running, Failure> {
    let settings = Settings {
        source: Source::Given(vec![("workflows/once.yaml".to_owned(), ONCE.to_owned())]),
        listen: Some("127.0.0.1:0".to_owned()),
        admin: Some("none".to_owned()),
        data: Data::Memory,
        simulated: Simulated::Only,
        seed: Some(seed),
        ..Settings::default()
    };
    Ok(app::start(settings).await?)
}

/// Every simulated model by itself, the router's choice asked once, and the workflows that check.
async fn ways(plan: Plan) -> Result<Vec<Way>, Failure> {
    let running = start(plan.seed).await?;
    let ready = |r: &engine::ModelRow| r.availability == types::matrix::Availability::Ready;
    let models: Vec<String> =
        running.engine().models().iter().filter(|r| ready(r)).map(|r| r.id.to_string()).collect();
    running.stop().await;
    let single = |m: String| Way {
        routing: json!({"workflow": "once", "require": [m]}),
        name: format!("once, {m}"),
        single: true,
        learns: false,
    };
    let by =
        |name: &str, routing: Value| Way { name: name.to_owned(), routing, single: false, learns: false };
    let learns = |way: Way| Way { learns: true, ..way };
    let mut all: Vec<Way> = models.into_iter().map(single).collect();
    all.push(learns(by("once, router's choice", json!({"workflow": "once"}))));
    all.push(by("default (repairs)", json!({"workflow": "default"})));
    all.push(by("cheap_first_cascade", json!({"workflow": "cheap_first_cascade"})));
    all.push(learns(by("auto", json!({}))));
    Ok(all)
}

/// What came of the first half of the requests, and of the second.
async fn ask_all(running: &Arc<Running>, way: &Way, plan: Plan) -> [Came; 2] {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE.min(plan.requests) {
        let (running, next, routing) = (running.clone(), next.clone(), way.routing.clone());
        workers.spawn(async move {
            let mut came = <[Came; 2]>::default();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= plan.requests {
                    return came;
                }
                let [early, late] = &mut came;
                let half = if 2 * n < plan.requests { early } else { late };
                half.add(&ask(&running, task::task(n, plan.seed), &routing, n).await);
            }
        });
    }
    let mut all = <[Came; 2]>::default();
    while let Some(done) = workers.join_next().await {
        let done = done.unwrap_or_default();
        all.iter_mut().zip(&done).for_each(|(all, done)| all.add(done));
    }
    all
}

async fn ask(running: &Running, task: Task, routing: &Value, n: usize) -> Came {
    let mut options = Map::from_iter([
        ("task_family".to_owned(), json!(task.family)),
        ("latency_class".to_owned(), json!("async")),
    ]);
    options.extend(routing.as_object().cloned().unwrap_or_default());
    let mut body = task.body.clone();
    body.insert("model".to_owned(), json!("auto"));
    body.insert("routing".to_owned(), Value::Object(options));
    let Ok(request) = ChatRequest::from_value(&Value::Object(body)) else { return Came::default() };
    let mut again = 0;
    let (answer, outcome) = loop {
        // The draws of the simulated models depend on it, so that every run of a seed meets the same ones.
        let request_id = format!("escalation-{n}-{again}");
        let admission = Admission::new(request_id.clone(), Who::open(), Instant::now());
        let answer = running.engine().chat(admission, request.clone()).await;
        // Where a breaker keeps the only model out nothing was asked, and a patient client comes again.
        let outcome = running.engine().stored(&request_id).await.ok().flatten().map(|s| s.record.outcome);
        let kept_out = answer.is_err() && outcome.as_ref().is_none_or(|o| o.calls == 0);
        if !kept_out || again >= PATIENCE {
            break (answer, outcome);
        }
        again += 1;
        tokio::time::sleep(PAUSE).await;
    };
    let good = matches!(&answer, Ok(Answer::Whole(whole)) if task.is_met(&whole.completion));
    Came {
        requests: 1,
        good: usize::from(good),
        usd: outcome.as_ref().map_or(0.0, |o| o.cost_usd.dollars()),
        calls: outcome.map_or(0, |o| u64::from(o.calls)),
        families: BTreeMap::from([(task.family, (1, usize::from(good)))]),
    }
}

/// The corners of the upper hull of (cost, success), from (0, 0), by cost.
fn hull(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.push((0.0, 0.0));
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut corners: Vec<(f64, f64)> = Vec::new();
    for p in points {
        // Who costs more and is no better is no corner.
        if corners.last().is_some_and(|last| p.1 <= last.1) {
            continue;
        }
        while let [.., a, b] = corners.as_slice()
            && (b.1 - a.1) * (p.0 - a.0) <= (p.1 - a.1) * (b.0 - a.0)
        {
            corners.pop();
        }
        corners.push(p);
    }
    corners
}

/// The success that single models reach at a cost.
fn at_cost(hull: &[(f64, f64)], cost: f64) -> f64 {
    let after = hull.iter().position(|p| p.0 > cost);
    let before = hull.iter().rev().find(|p| p.0 <= cost);
    match (before, after.and_then(|i| hull.get(i))) {
        (Some(a), Some(b)) => a.1 + (b.1 - a.1) * (cost - a.0) / (b.0 - a.0),
        (Some(a), None) => a.1,
        (None, _) => 0.0,
    }
}

/// What single models cost at a success; `None` = none of them reaches it.
fn at_success(hull: &[(f64, f64)], success: f64) -> Option<f64> {
    let after = hull.iter().position(|p| p.1 >= success)?;
    let b = hull.get(after)?;
    let Some(a) = after.checked_sub(1).and_then(|i| hull.get(i)) else { return Some(b.0) };
    Some(a.0 + (b.0 - a.0) * (success - a.1) / (b.1 - a.1))
}

fn document(rows: &[(Way, Came)], hull: &[(f64, f64)], plan: Plan) -> Value {
    let row = |(way, c): &(Way, Came)| {
        let families: Map<String, Value> =
            FAMILIES.iter().map(|f| ((*f).to_owned(), json!(c.family(f)))).collect();
        json!({
            "way": way.name, "single": way.single, "requests": c.requests, "success": c.success(),
            "standard_error": c.error(), "usd_per_request": c.cost(),
            "calls_per_request": c.calls as f64 / c.requests.max(1) as f64, "by_family": families,
            "singles_at_this_cost": at_cost(hull, c.cost()), "adds": c.success() - at_cost(hull, c.cost()),
            "singles_cost_at_this_success": at_success(hull, c.success()),
        })
    };
    json!({"simulated": true, "seed": plan.seed, "ways": rows.iter().map(row).collect::<Vec<_>>(), "hull": hull})
}

fn print(rows: &[(Way, Came)], hull: &[(f64, f64)], plan: Plan) {
    let mut table = Table::new();
    let mut head =
        vec!["way", "success", "USD / 1000", "calls", "once, at this cost", "adds", "once, for this success"];
    head.extend(FAMILIES);
    table.set_header(head);
    for (way, c) in rows {
        let thousand = |usd: f64| format!("{:.3}", usd * 1_000.0);
        let mut cells = vec![
            way.name.clone(),
            format!("{:.3} ±{:.3}", c.success(), c.error()),
            thousand(c.cost()),
            format!("{:.2}", c.calls as f64 / c.requests.max(1) as f64),
        ];
        cells.extend(match way.single {
            true => [String::new(), String::new(), String::new()],
            false => [
                format!("{:.3}", at_cost(hull, c.cost())),
                format!("{:+.3}", c.success() - at_cost(hull, c.cost())),
                at_success(hull, c.success()).map_or_else(
                    || "never".to_owned(),
                    |usd| format!("{} ({:.1}x)", thousand(usd), usd / c.cost().max(1e-12)),
                ),
            ],
        });
        cells.extend(FAMILIES.iter().map(|f| format!("{:.2}", c.family(f))));
        table.add_row(cells);
    }
    say(&table.to_string());
    say(&format!(
        "SIMULATED: {} requests a way, seed {}; success: delivered and right by a check of the bench's own. On this fleet a\n\
         wrong answer always breaks its contract, so that a check sees it: what is added is the most that checking can add.",
        plan.requests, plan.seed
    ));
}
