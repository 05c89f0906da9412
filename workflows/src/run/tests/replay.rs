//! A run is a function of its effects: repeated with the recorded ones, in the recorded order, it does the
//! same to the byte.

use super::prose;
use crate::testing::*;
use crate::world::{
    Ask, CheckAsk, EffectId, Failure, Generated, Moment, ToolAsk, ToolFailure, ToolReply, ToolSpec, Turns,
    World,
};
use crate::{Ending, Event, Observer, Workflow};
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;
use types::matrix::Model;
use types::{Completion, Report, Verdict};

/// What an effect came to.
#[derive(Clone)]
enum Said {
    Answer(Completion, Arc<Model>),
    Failed(Failure),
    Tool(Result<ToolReply, ToolFailure>),
    Checked(Report),
    Waited,
}

type Moments = HashMap<(String, &'static str, u32, u32), Duration>;

/// Results in the order in which they arrived, and the times that the run was told.
#[derive(Default)]
struct Journal {
    results: Vec<(EffectId, String, Said)>,
    times: Moments,
}

/// Writes down what another world says.
struct Recorder {
    inner: Script,
    start: Instant,
    journal: Mutex<Journal>,
    turns: Turns,
}

impl Recorder {
    fn note(&self, id: EffectId, digest: String, said: Said) {
        self.journal.lock().unwrap().results.push((id, digest, said));
    }
}

impl World for Recorder {
    fn generate(&self, ask: Ask) -> BoxFuture<'_, Result<Generated, Failure>> {
        Box::pin(async move {
            let (id, digest) = (ask.id.clone(), ask.digest());
            let result = self.inner.generate(ask).await;
            self.turns.pass().await;
            match &result {
                Ok(Generated::Whole { completion, model, .. }) => {
                    self.note(id, digest, Said::Answer(completion.clone(), model.clone()));
                }
                Ok(Generated::Stream { .. }) => {}
                Err(e) => self.note(id, digest, Said::Failed(e.clone())),
            }
            result
        })
    }

    fn tool_named(&self, name: &str) -> Option<Arc<ToolSpec>> {
        self.inner.tool_named(name)
    }

    fn tool(&self, ask: ToolAsk) -> BoxFuture<'_, Result<ToolReply, ToolFailure>> {
        Box::pin(async move {
            let (id, digest) = (ask.id.clone(), ask.digest());
            let result = self.inner.tool(ask).await;
            self.turns.pass().await;
            self.note(id, digest, Said::Tool(result.clone()));
            result
        })
    }

    fn check(&self, ask: CheckAsk) -> BoxFuture<'_, Report> {
        Box::pin(async move {
            let (id, digest) = (ask.id.clone(), ask.digest());
            let report = self.inner.check(ask).await;
            self.turns.pass().await;
            self.note(id, digest, Said::Checked(report.clone()));
            report
        })
    }

    fn wait(&self, id: EffectId, until: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            tokio::time::sleep_until(until).await;
            self.turns.pass().await;
            self.note(id, String::new(), Said::Waited);
        })
    }

    fn now(&self, m: &Moment<'_>) -> Instant {
        let now = Instant::now();
        let key = (m.frame.to_owned(), m.what, m.index, m.attempt);
        self.journal.lock().unwrap().times.insert(key, now.duration_since(self.start));
        now
    }
}

/// What is left to give, and who waits for it.
type Left = (VecDeque<(EffectId, String, Said)>, Vec<Waker>);

/// Gives back what was written down, one result at a time and in its order; asks nobody.
struct Player {
    start: Instant,
    times: Moments,
    left: Mutex<Left>,
}

impl Player {
    async fn said(&self, id: &EffectId, digest: &str) -> Said {
        std::future::poll_fn(|cx| {
            let mut left = self.left.lock().unwrap();
            if left.0.front().is_some_and(|(next, ..)| next == id) {
                return Poll::Ready(());
            }
            left.1.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
        tokio::task::yield_now().await;
        let mut left = self.left.lock().unwrap();
        let (_, as_asked, said) = left.0.pop_front().unwrap();
        assert_eq!(as_asked, digest, "{id} asks for something else");
        left.1.drain(..).for_each(Waker::wake);
        said
    }
}

impl World for Player {
    fn generate(&self, ask: Ask) -> BoxFuture<'_, Result<Generated, Failure>> {
        Box::pin(async move {
            match self.said(&ask.id, &ask.digest()).await {
                Said::Answer(completion, model) => Ok(Generated::whole(completion, model)),
                Said::Failed(e) => Err(e),
                _ => panic!("{}", ask.id),
            }
        })
    }

    fn tool_named(&self, name: &str) -> Option<Arc<ToolSpec>> {
        tools().into_iter().find(|t| *t.name == *name)
    }

    fn tool(&self, ask: ToolAsk) -> BoxFuture<'_, Result<ToolReply, ToolFailure>> {
        Box::pin(async move {
            match self.said(&ask.id, &ask.digest()).await {
                Said::Tool(result) => result,
                _ => panic!("{}", ask.id),
            }
        })
    }

    fn check(&self, ask: CheckAsk) -> BoxFuture<'_, Report> {
        Box::pin(async move {
            match self.said(&ask.id, &ask.digest()).await {
                Said::Checked(report) => report,
                _ => panic!("{}", ask.id),
            }
        })
    }

    fn wait(&self, id: EffectId, _: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.said(&id, "").await;
        })
    }

    fn now(&self, m: &Moment<'_>) -> Instant {
        let key = (m.frame.to_owned(), m.what, m.index, m.attempt);
        self.start + *self.times.get(&key).unwrap_or_else(|| panic!("no time for {m:?}"))
    }
}

#[derive(Default)]
struct Watcher(Mutex<Vec<Event>>);

impl Observer for Watcher {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// A loop of tools and samples beside a branch that is abandoned, under a deadline.
const BUSY: &str = "\
limits: { calls: 60, finish_reserve: 100ms }
nodes:
  - id: work
    type: loop
    max_iterations: 3
    carry: { n: { init: \"0\", next: carry.n + 1 }, last: { init: \"()\", next: nodes.pick.completion } }
    until: carry.n == 3
    body:
      nodes:
        - { id: ask, type: generate, samples: 3, min_ok: 2, stop_when: completions.len() > 1, hedge: { after: 30ms } }
        - { id: look, type: tool, tool: look, on_error: skip }
        - { id: check, type: validate, validators: [json, code_tests], needs: ask }
        - { id: fix, type: repair, from: check, max_attempts: 1, strategies: [resample] }
        - { id: pick, type: select, join: any, from: [nodes.check.usable, nodes.fix.completion, nodes.check.completions], when_none: best }
      edges:
        - { from: check, to: fix, outcome: failed }
        - { from: [check, fix, look], to: pick, outcome: [completed, skipped] }
  - { id: beside, type: generate, timeout: 40ms, on_error: skip }
  - { id: end, type: merge, method: template, join: all, from: [nodes.work.carry.last], template: \"${ nodes.work.iterations ?? 0 } ${ nodes.work.duration_ms } ${ spent.wall_ms } ${ nodes.beside.outcome }\" }
  - { id: answer, type: stream, from: nodes.end.completion }
edges:
  - { from: work, to: end, outcome: [done, exhausted] }
  - { from: beside, to: end, outcome: any }
  - { from: end, to: answer }
";

fn script(delays: &[u64]) -> Script {
    const TEXTS: [&str; 4] = ["{}", "no", "[1]", "never"];
    let mut at = delays.iter().copied().cycle();
    let mut say = move || {
        let d = at.next().unwrap();
        if d.is_multiple_of(7) { Says::Fail(unavailable()) } else { Says::Text(d, TEXTS[(d % 4) as usize]) }
    };
    let mut lines: Vec<(&'static str, Vec<Says>)> = Vec::new();
    for i in 0..3 {
        lines.push((format!("work[{i}]/ask").leak(), (0..6).map(|_| say()).collect()));
        lines.push((format!("work[{i}]/fix").leak(), vec![say()]));
    }
    lines.push(("beside", vec![say()]));
    let reply = |d: &u64| {
        if d.is_multiple_of(3) { Err(ToolFailure::Failed("x".into())) } else { replies(serde_json::json!(d)) }
    };
    let tools = delays.iter().cycle().take(12).map(reply).collect();
    let report = |d: &u64| {
        let verdict = [Verdict::Passed, Verdict::Failed, Verdict::Unverified][(d % 3) as usize];
        Report { verdict, reason: None, findings: Vec::new() }
    };
    let reports = delays.iter().cycle().take(60).map(report).collect();
    Script::new(lines).with_tools(tools).with_checks(reports)
}

/// The ending, the record and the events of a run, as text.
async fn told(w: &Arc<Workflow>, world: Arc<dyn World>, deadline: Instant) -> String {
    let watcher = Arc::new(Watcher::default());
    let mut i = input(prose(), None);
    i.deadline = Some(deadline);
    i.observer = Some(watcher.clone());
    let trace = i.trace.clone();
    let done = crate::run(w.clone(), i, world).await;
    let ending = match done.ending {
        Ending::Delivered { completion, model, verdict } => {
            format!("{completion:?} {} {verdict:?}", model.id)
        }
        other => format!("{other:?}"),
    };
    let events = watcher.0.lock().unwrap();
    format!("{ending}\n{:#?}\n{events:#?}", trace.take())
}

fn repeats(delays: &[u64], wall: u64) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let w = workflow(BUSY);
        let start = Instant::now();
        let deadline = start + Duration::from_millis(wall);
        let recorder = Arc::new(Recorder {
            inner: script(delays),
            start,
            journal: Mutex::default(),
            turns: Turns::default(),
        });
        let first = told(&w, recorder.clone(), deadline).await;
        tokio::time::advance(Duration::from_secs(77)).await;
        let journal = std::mem::take(&mut *recorder.journal.lock().unwrap());
        let player =
            Player { start, times: journal.times, left: Mutex::new((journal.results.into(), Vec::new())) };
        let again = tokio::time::timeout(Duration::from_secs(60), told(&w, Arc::new(player), deadline)).await;
        pretty(&first, &again.expect("the repetition came to a stop"));
    });
}

/// Compares line by line: a difference in a long text is hard to find otherwise.
fn pretty(first: &str, again: &str) {
    for (i, (a, b)) in first.lines().zip(again.lines()).enumerate() {
        if a != b {
            let around =
                |t: &str| t.lines().skip(i.saturating_sub(30)).take(60).collect::<Vec<_>>().join("\n");
            panic!("line {i}: as it was\n{}\nrepeated\n{}", around(first), around(again));
        }
    }
    assert_eq!(first.lines().count(), again.lines().count());
}

#[test]
fn a_repetition_does_the_same_to_the_byte() {
    repeats(&[10, 22, 9, 35, 4, 18], 10_000);
    // Cut by the deadline.
    repeats(&[50, 61, 52, 83, 90], 250);
    repeats(&[11], 40);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_run_can_be_repeated(delays in prop::collection::vec(1..120_u64, 1..9), wall in 20..1500_u64) {
        repeats(&delays, wall);
    }
}
