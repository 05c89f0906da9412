//! Runs beside live ones that rules want (`shadow`): after the response, on the operator's money, seen by nobody but the
//! record. They call no tools, keep nothing and have nothing of what is kept, and teach nobody.

use crate::admit::Gate;
use crate::ledger::{Ledger, Limits};
use crate::limits::{self, Counters, Held, Worst};
use crate::post_response::{Background, Place, Work};
use crate::respond::Again;
use crate::tools::Toolbox;
use crate::{Inner, View, failed, unrecorded};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;
use tokio::time::Instant;
use types::directives::{Further, RuleId, Set, ShadowRule};
use types::limits::{Amount, Limit, Metric, Window};
use types::outcome::{Beside, Late};
use types::store::{OutcomeStore, Record};
use types::{Clock, Usd};
use workflows::{Ending, Trace};

/// Whose budget pays for runs beside live ones: no tenant can have that name, and no request is asked under it.
pub const OPERATOR: &str = "(operator)";
/// The holder of the budget.
const HOLDER: &str = "shadow";
/// Longest run, where its workflow does not say less.
const LONGEST: Duration = Duration::from_secs(300);

/// The runs beside one live run.
pub(crate) struct Trials {
    start: Background,
    store: Arc<dyn OutcomeStore>,
    clock: Clock,
    limits: Option<Counters>,
    budget: f64,
    gate: Arc<Gate>,
    work: Arc<Work>,
    request_id: String,
    trials: Vec<Trial>,
}

struct Trial {
    rule: RuleId,
    again: Again,
}

/// The answer of a live run, to be compared with others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer(blake3::Hash);

/// The answer that a run ended with; `None` = it has none, and there is nothing to run beside it.
pub(crate) fn answer(ending: &Ending) -> Option<Answer> {
    match ending {
        Ending::Delivered { completion, .. } | Ending::Streamed { completion, .. } => {
            Some(Answer(blake3::hash(completion.text().as_bytes())))
        }
        Ending::Failed(_) | Ending::Broken { .. } | Ending::Suspended(_) => None,
    }
}

/// Whether a rule's share of the requests holds one. Each rule draws by itself, and the same request the same again.
fn draws(rule: &Set<ShadowRule>, seed: u64) -> bool {
    let own = blake3::hash(rule.rule.as_bytes());
    let own = own.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    StdRng::seed_from_u64(seed ^ own).random::<f64>() < rule.value.rate
}

/// The rules whose share holds a request.
pub(crate) fn drawn(further: Option<&Further>, seed: u64) -> Vec<Set<ShadowRule>> {
    let all = further.iter().flat_map(|f| &f.shadow);
    all.filter(|rule| draws(rule, seed)).cloned().collect()
}

impl Inner {
    /// What rules want beside a run, of which `live` tells how it is run; `None` = nothing, or there is nowhere to run
    /// it.
    pub(crate) fn trials(
        &self,
        view: &View,
        request_id: &str,
        wanted: &[Set<ShadowRule>],
        live: impl Fn() -> Again,
    ) -> Option<Trials> {
        let start = self.background.clone().filter(|_| !wanted.is_empty())?;
        let trials = wanted.iter().filter_map(|rule| {
            let mut again = live();
            if let Some(name) = &rule.value.workflow {
                again.workflow = view.bundle.library.get(name)?.clone();
            }
            if let Some(models) = &rule.value.models {
                again.calls.candidates = again.calls.candidates.only(models)?;
            }
            Some(Trial { rule: rule.rule.clone(), again })
        });
        Some(Trials {
            start,
            store: self.store.clone(),
            clock: self.clock.clone(),
            limits: self.limits.clone(),
            budget: self.config.shadow_usd,
            gate: self.gate.clone(),
            work: self.beside.clone(),
            request_id: request_id.to_owned(),
            trials: trials.collect(),
        })
    }
}

impl Trials {
    /// Begins them once the live run has ended with that answer; under load they are the first that is left out.
    pub(crate) fn begin(self, live: Answer) {
        let Trials { start, store, clock, limits: counters, budget, gate, work, request_id, trials } = self;
        for Trial { rule, again } in trials {
            let Some(place) = work.enter(&gate) else { continue };
            let (store, counters, work) = (store.clone(), counters.clone(), work.clone());
            let (clock, request_id) = (clock.clone(), request_id.clone());
            let run = async move {
                let worst = again.calls.worst_beside();
                let Some((held, paid)) = pay(counters.as_ref(), budget, worst).await else {
                    work.was_unpaid();
                    tracing::debug!(request_id, rule = &*rule, "no money is left for a run beside");
                    return;
                };
                let beside = one(again, &rule, &request_id, (held, paid), live, place).await;
                work.was_done();
                let (named, ts_ms) = (request_id.clone(), clock.unix_ms());
                let late = Late { request_id: named, ts_ms, calls: Vec::new(), beside: vec![beside] };
                if let Err(e) = store.append(&Record::Late(late)) {
                    unrecorded::say(&request_id, &e, "a run beside is not recorded");
                }
            };
            start("shadow", Box::pin(run));
        }
    }
}

/// Reserves what a run may cost on the operator's budget, or what is left of it where that is enough to begin with; gives
/// with it how much it is. `None` = there is not so much. What costs nothing needs none.
async fn pay(counters: Option<&Counters>, budget: f64, worst: Worst) -> Option<(Option<Held>, Usd)> {
    /// Runs beside this one may take what is left.
    const TRIES: usize = 4;
    if worst.usd == Usd::ZERO {
        return Some((None, Usd::ZERO));
    }
    let counters = counters?;
    let (least, mut usd) = (limits::nanos(worst.least), limits::nanos(worst.usd));
    let all: Arc<[Limit]> = Arc::from([Limit::rate(HOLDER, Metric::Usd, budget, Window::Day)?]);
    for _ in 0..TRIES {
        let amount = Amount { usd, ..Amount::default() };
        match counters.reserve(&Arc::from(OPERATOR), &all, amount).await {
            Ok(taken) => {
                let usd = Usd::from_nanos(i64::try_from(usd).unwrap_or(i64::MAX));
                return Some((Some(Held::of(counters, taken, usd)), usd));
            }
            Err(refused) => match refused.last().map(|reached| reached.left) {
                Some(left) if left >= least && left < usd => usd = left,
                _ => return None,
            },
        }
    }
    None
}

/// Runs one on what is held for it; tells what came of it.
async fn one(
    again: Again,
    rule: &RuleId,
    request_id: &str,
    (mut held, paid): (Option<Held>, Usd),
    Answer(live): Answer,
    _place: Place,
) -> Beside {
    let Again { mut input, mut calls, workflow } = again;
    let (now, trace) = (Instant::now(), Trace::new());
    let ledger = Ledger::under(Limits { usd: Some(paid), ..Limits::default() });
    if let Some(held) = &mut held {
        held.is_spent_by(&ledger);
    }
    let until = now + workflow.limits.wall.map_or(LONGEST, |wall| wall.min(LONGEST));
    calls.request_id = format!("{request_id}.shadow.{rule}");
    (calls.ledger, calls.after, calls.cap) = (ledger.clone(), ledger.clone(), Some(paid));
    (calls.started, calls.deadline) = (now, until);
    (calls.tools, calls.kept) = (Toolbox::default(), None);
    (calls.begins, calls.log) = (None, None);
    calls.made = Arc::new(AtomicU32::new(0));
    input.facts.id.clone_from(&calls.request_id);
    (input.trace, input.usd, input.deadline) = (trace.clone(), Some(paid), Some(until));
    let name: Arc<str> = workflow.name.as_str().into();
    let done = Box::pin(workflows::run(workflow, input, Arc::new(calls)));
    let ending = tokio::time::timeout_at(until, done).await.ok().map(|done| done.ending);
    let mut run = trace.take();
    ledger.hand_over(&mut run);
    if let Some(held) = held {
        held.settle(&run);
    }
    let (model, verdict, error, same) = match ending {
        Some(
            Ending::Delivered { completion, model, verdict }
            | Ending::Streamed { completion, model, verdict },
        ) => {
            let same = blake3::hash(completion.text().as_bytes()) == live;
            (Some(model.id.clone()), verdict, None, Some(same))
        }
        Some(Ending::Failed(f)) => {
            (None, run.verdict, Some(failed::failure(f).public_code().to_owned()), None)
        }
        Some(Ending::Broken { error, .. }) => (None, run.verdict, Some(error.kind.as_str().to_owned()), None),
        Some(Ending::Suspended(_)) => (None, run.verdict, Some("suspended".to_owned()), None),
        None => (None, run.verdict, Some("deadline".to_owned()), None),
    };
    Beside {
        rule: rule.to_string(),
        workflow: name,
        model,
        error,
        verdict,
        judge: run.judge,
        same,
        calls: u32::try_from(run.calls().count()).unwrap_or(u32::MAX),
        cost_usd: run.cost().0,
        total_ms: now.elapsed().as_secs_f64() * 1e3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::limits::{Claim, Reached, Refused, Reservation};

    #[test]
    fn each_rule_draws_its_share_by_itself() {
        let rule = |name: &str, rate: f64| Set {
            value: ShadowRule { workflow: None, models: None, rate },
            rule: name.into(),
        };
        let (a, b) = (rule("a", 0.3), rule("b", 0.3));
        let seeds = 0..10_000_u64;
        let count = |holds: &dyn Fn(u64) -> bool| seeds.clone().filter(|s| holds(*s)).count();
        let drawn = count(&|s| draws(&a, s));
        assert!((2_800..3_200).contains(&drawn), "{drawn}");
        let both = count(&|s| draws(&a, s) && draws(&b, s));
        assert!((700..1_100).contains(&both), "{both}");
        assert_eq!(count(&|s| draws(&rule("a", 0.0), s)), 0);
        assert_eq!(count(&|s| draws(&rule("a", 1.0), s)), 10_000);
    }

    #[tokio::test]
    async fn without_money_nothing_runs_and_what_is_free_needs_none() {
        let of = |left: u64| Counters::new(Arc::new(Left::of(left)), Clock::stopped(0));
        let worst = |usd: i64| Worst {
            usd: Usd::from_nanos(usd),
            least: Usd::from_nanos(2),
            tokens: 0,
            least_tokens: 0,
        };
        let paid = async |store: Option<Counters>, budget: f64, usd: i64| {
            let paid = pay(store.as_ref(), budget, worst(usd)).await?;
            Some((paid.0.map(|held| held.allowed().unwrap().nanos()), paid.1.nanos()))
        };
        assert_eq!(paid(Some(of(0)), 1.0, 0).await, Some((None, 0)));
        assert_eq!(paid(Some(of(9)), 1.0, 5).await, Some((Some(5), 5)));
        assert_eq!(
            paid(Some(of(2)), 1.0, 5).await,
            Some((Some(2), 2)),
            "what is left is enough to begin with"
        );
        assert_eq!(paid(Some(of(1)), 1.0, 5).await, None);
        assert_eq!(paid(None, 1.0, 5).await, None, "nobody counts");
        assert_eq!(paid(Some(of(9)), 0.0, 5).await, None, "the operator gives nothing");
    }

    #[tokio::test]
    async fn a_run_that_never_comes_to_its_end_pays_what_it_has_spent_and_no_more() {
        let store = Arc::new(Left::of(9));
        let counters = Counters::new(store.clone(), Clock::stopped(0));
        let worst = Worst { usd: Usd::from_nanos(5), least: Usd::from_nanos(2), tokens: 0, least_tokens: 0 };
        let ledger = Ledger::default();
        for begun in [false, true] {
            let (held, _) = pay(Some(&counters), 1.0, worst).await.unwrap();
            let mut held = held.unwrap();
            if begun {
                held.is_spent_by(&ledger);
                ledger.reserve("p/a", Usd::from_nanos(3), None).unwrap();
            }
            // As a panic drops it, or the end of the process.
            drop(held);
        }
        assert_eq!(*store.settled.lock().unwrap(), [0, 3]);
    }

    /// So much is left, and so much was settled.
    struct Left {
        usd: u64,
        settled: std::sync::Mutex<Vec<u64>>,
    }

    impl Left {
        fn of(usd: u64) -> Left {
            Left { usd, settled: std::sync::Mutex::default() }
        }
    }

    impl types::limits::LimitStore for Left {
        fn reserve_all(
            &self,
            claims: Vec<Claim>,
            unix_ms: i64,
        ) -> futures_util::future::BoxFuture<'_, Result<Vec<Reservation>, Refused>> {
            let take = |Claim { tenant, limits, amount }: Claim| {
                assert_eq!(&*tenant, OPERATOR);
                if amount.usd <= self.usd {
                    return Ok(Reservation { tenant, limits, amount, unix_ms, at_ns: 0 });
                }
                let (limit, retry_after) = (limits[0].clone(), Duration::ZERO);
                let reached = Reached { tenant, limit, left: self.usd, free: self.usd, retry_after };
                Err(Refused::Reached(vec![reached]))
            };
            Box::pin(std::future::ready(claims.into_iter().map(take).collect()))
        }
        fn settle(&self, _: Reservation, used: Amount) {
            self.settled.lock().unwrap().push(used.usd);
        }
        fn restore(&self, _: &Arc<str>, _: &Limit, _: u64, _: i64) {}
        fn standing(
            &self,
            _: &Arc<str>,
            _: &[Limit],
            _: i64,
        ) -> futures_util::future::BoxFuture<'_, Vec<types::limits::Standing>> {
            Box::pin(std::future::ready(Vec::new()))
        }
        fn foresee(
            &self,
            _: &Arc<str>,
            _: &[types::limits::Inquiry],
            _: i64,
        ) -> futures_util::future::BoxFuture<'_, Vec<types::limits::Foreseen>> {
            Box::pin(std::future::ready(Vec::new()))
        }
    }
}
