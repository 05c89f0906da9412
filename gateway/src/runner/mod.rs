//! The code runner: tests against generated code, in namespaces of their own, or not at all.
//!
//! Each task gets a process tree of its own (new user, mount, process, network, IPC, host name and control
//! group namespaces), a root of read-only system folders, a disk in memory, an empty environment, no
//! capabilities, no way to gain any, and limits that the kernel and a watcher hold. What it may read is what
//! `sandbox` shows it: system folders and what the operator added; no home, no data, no configuration. Off
//! unless an operator switches it on; where the machine cannot isolate, nothing is run.

mod capture;
mod config;
mod evidence;
mod files;
mod language;
mod sandbox;
mod watch;

pub use config::Config;

use futures_util::future::BoxFuture;
use language::{Found, Plan};
use sandbox::{Program, Sandbox};
use std::sync::Arc;
use tokio::sync::{OnceCell, Semaphore};
use types::Verdict;
use types::runner::{CodeRunner, Limits, Ran, Task};

/// Runs tasks, a few at a time; a cheap handle.
#[derive(Clone, Debug)]
pub struct Runner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    allowed: Limits,
    places: Semaphore,
    sandbox: Sandbox,
    languages: Vec<Found>,
    /// Whether this machine isolates, found out before the first task: `Err` says why not.
    isolates: OnceCell<Result<(), String>>,
}

impl Runner {
    /// A runner. It looks for the languages' tools now, and tries the isolation before the first task.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let sandbox = Sandbox::new(&config.folders);
        let languages = language::find(&sandbox);
        Runner(Arc::new(Inner {
            allowed: config.limits(),
            places: Semaphore::new(config.parallel),
            sandbox,
            languages,
            isolates: OnceCell::new(),
        }))
    }

    /// Whether tasks can be isolated on this machine.
    ///
    /// # Errors
    /// Why not.
    pub async fn isolates(&self) -> Result<(), String> {
        self.0.isolates.get_or_init(|| self.0.sandbox.probe()).await.clone()
    }

    async fn run_one(&self, task: Task) -> Ran {
        if let Err(why) = self.isolates().await {
            return Ran::unverified(format!("code cannot be isolated on this machine: {why}"));
        }
        let plan = match language::plan(&self.0.languages, &task) {
            Ok(plan) => plan,
            Err(why) => return Ran::unverified(why),
        };
        let Ok(_place) = self.0.places.acquire().await else {
            return Ran::unverified("the runner is shutting down");
        };
        self.judge(plan, task.limits.lowered(self.0.allowed)).await
    }

    async fn judge(&self, plan: Plan, limits: Limits) -> Ran {
        let program = Program { arguments: &plan.arguments, reserve: plan.reserve };
        let run = match self.0.sandbox.run(&plan.files, program, limits).await {
            Ok(run) => run,
            Err(why) => return Ran::unverified(why),
        };
        let told = evidence::read(plan.framework, &run.stdout, &run.stderr);
        let mut stderr = run.stderr;
        let reached = plan.mark.as_deref().is_none_or(|mark| evidence::take_mark(&mut stderr, mark));
        let (verdict, reason) = evidence::verdict((plan.framework, reached), &told, run.exit, run.ended);
        let (wall_ms, cpu_ms) = (run.wall_ms, run.cpu_ms);
        Ran {
            verdict,
            reason: reason.filter(|_| verdict != Verdict::Passed),
            exit: run.exit,
            ended: run.ended,
            tests: told.ran,
            failed: told.failed,
            stdout: run.stdout,
            stderr,
            wall_ms,
            cpu_ms,
        }
    }
}

impl CodeRunner for Runner {
    fn run(&self, task: Task) -> BoxFuture<'_, Ran> {
        Box::pin(self.run_one(task))
    }

    fn languages(&self) -> Vec<&'static str> {
        self.0.languages.iter().map(|l| l.row.name).collect()
    }
}
