//! Threads of their own for policies that repeat things, watched so that none can hold a request.
//!
//! A policy ends by itself: the engine counts its operations and looks at the clock at each. The watchdog is
//! for what neither can interrupt, one operation that does not come back: the caller gets its answer, and
//! another thread takes the place of the one that is lost.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Threads that run policies.
const THREADS: usize = 2;
/// Their stacks, in bytes.
const STACK: usize = 2 * 1024 * 1024;
/// Most calls that wait for a thread.
const QUEUE: usize = 1_024;
/// Most threads that may be lost before nothing is run any more.
const MAX_LOST: usize = 8;
/// The watchdog looks so often.
const TICK: Duration = Duration::from_millis(20);
/// Looks that a call may live through: it is given up after 80 to 100 ms. That is far beyond its own limit,
/// because on a busy machine a thread may not run for a while, and that is no fault of the policy.
const TICKS: u8 = 5;

/// Why a call has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Too many calls wait.
    Full,
    /// It did not come back.
    Overdue,
}

/// Work for a thread.
struct Job {
    work: Box<dyn FnOnce() + Send>,
    state: Arc<Running>,
}

/// A call that is waiting, running, given up or done.
struct Running {
    done: AtomicBool,
    /// Told when the watchdog gives the call up.
    give_up: Mutex<Option<oneshot::Sender<Lost>>>,
}

#[derive(Default)]
struct Desk {
    waiting: VecDeque<Job>,
    /// Calls that run, with the looks they have lived through.
    running: Vec<(Arc<Running>, u8)>,
    lost: usize,
}

/// The threads.
pub(crate) struct Runner {
    desk: Mutex<Desk>,
    arrived: Condvar,
    started: Condvar,
}

/// The threads of this process, started when first needed.
pub(crate) fn shared() -> &'static Arc<Runner> {
    static SHARED: OnceLock<Arc<Runner>> = OnceLock::new();
    SHARED.get_or_init(Runner::start)
}

impl Runner {
    fn start() -> Arc<Runner> {
        let runner =
            Arc::new(Runner { desk: Mutex::default(), arrived: Condvar::new(), started: Condvar::new() });
        for _ in 0..THREADS {
            runner.worker();
        }
        let watched = Arc::clone(&runner);
        // A thread that cannot be started leaves calls unanswered by it, and so to their own limits.
        let _ = std::thread::Builder::new().name("policy-watch".to_owned()).spawn(move || watched.watch());
        runner
    }

    fn worker(self: &Arc<Self>) {
        let own = Arc::clone(self);
        let thread = std::thread::Builder::new().name("policy".to_owned()).stack_size(STACK);
        let _ = thread.spawn(move || own.work());
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Every write leaves the desk consistent.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `f` on a thread of the runner.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let (answer, mut answered) = oneshot::channel();
        let (give_up, mut given_up) = oneshot::channel();
        let state = Arc::new(Running { done: AtomicBool::new(false), give_up: Mutex::new(Some(give_up)) });
        {
            let mut desk = self.desk();
            if desk.waiting.len() >= QUEUE || desk.lost > MAX_LOST {
                return Err(Lost::Full);
            }
            let work = Box::new(move || drop(answer.send(f())));
            desk.waiting.push_back(Job { work, state });
        }
        self.arrived.notify_one();
        tokio::select! {
            biased;
            Ok(value) = &mut answered => Ok(value),
            Ok(lost) = &mut given_up => Err(lost),
            // The call unwound.
            else => Err(Lost::Overdue),
        }
    }

    fn work(self: &Arc<Self>) {
        loop {
            let mut desk = self.desk();
            let job = loop {
                match desk.waiting.pop_front() {
                    Some(job) => break job,
                    None => desk = self.arrived.wait(desk).unwrap_or_else(PoisonError::into_inner),
                }
            };
            desk.running.push((Arc::clone(&job.state), 0));
            drop(desk);
            self.started.notify_one();
            let Job { work, state } = job;
            // A panic ends the call, not the thread.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            state.done.store(true, Ordering::Release);
            let mut desk = self.desk();
            let before = desk.running.len();
            desk.running.retain(|(r, _)| !Arc::ptr_eq(r, &state));
            if desk.running.len() == before {
                // The watchdog gave this thread up and started another; it came back after all.
                desk.lost = desk.lost.saturating_sub(1);
                return;
            }
        }
    }

    fn watch(self: &Arc<Self>) {
        let mut desk = self.desk();
        loop {
            while desk.running.is_empty() {
                desk = self.started.wait(desk).unwrap_or_else(PoisonError::into_inner);
            }
            desk = self.arrived_or_tick(desk);
            let mut overdue = Vec::new();
            desk.running.retain_mut(|(state, ticks)| {
                *ticks = ticks.saturating_add(1);
                let late = *ticks >= TICKS && !state.done.load(Ordering::Acquire);
                if late {
                    overdue.push(Arc::clone(state));
                }
                !late
            });
            for state in overdue {
                desk.lost = desk.lost.saturating_add(1);
                let teller = state.give_up.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(teller) = teller {
                    let _ = teller.send(Lost::Overdue);
                }
                self.worker();
            }
        }
    }

    /// Waits for a tick. Nothing is ever sent to this wait: it only gives the desk free.
    fn arrived_or_tick<'a>(&self, desk: MutexGuard<'a, Desk>) -> MutexGuard<'a, Desk> {
        static NEVER: Condvar = Condvar::new();
        let (desk, _) = NEVER.wait_timeout(desk, TICK).unwrap_or_else(PoisonError::into_inner);
        desk
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn block_on<T>(f: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(f)
    }

    #[test]
    fn a_call_that_never_comes_back_holds_nobody() {
        let runner = Runner::start();
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let stuck = || {
            let held = Arc::clone(&held);
            runner.run(move || held.lock().unwrap().recv().is_err())
        };
        let (a, b) = block_on(async { tokio::join!(stuck(), stuck()) });
        assert!(matches!((a, b), (Err(Lost::Overdue), Err(Lost::Overdue))));
        // Both threads are lost; others have taken their place.
        assert_eq!(block_on(runner.run(|| 1)), Ok(1));
        assert_eq!(runner.desk().lost, 2);
        drop(release);
    }

    #[test]
    fn a_call_that_unwinds_is_lost_alone() {
        let runner = Runner::start();
        assert_eq!(block_on(runner.run(|| -> u8 { panic!("a bug") })), Err(Lost::Overdue));
        assert_eq!(block_on(runner.run(|| 1)), Ok(1));
    }
}
