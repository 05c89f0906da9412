//! The seam to the code runner: runs tests against generated code, apart from everything else.
//!
//! A runner is off unless an operator switches it on. It never runs code without isolation: where it cannot
//! isolate, it says so ([`Verdict::Unverified`]) and runs nothing.

use crate::run::Verdict;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most files of one task.
pub const MAX_FILES: usize = 64;
/// Most bytes of all files of one task together.
pub const MAX_BYTES: usize = 1 << 20;

/// Code and the tests it has to pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The language: one of [`CodeRunner::languages`], or another name of it (`py`, `js`, `sh`).
    pub language: String,
    /// The code and whatever it needs.
    pub files: Vec<File>,
    /// The tests; empty = the code itself is run and has to end well.
    pub tests: Vec<File>,
    /// What it may use; each is lowered to what the operator allows.
    pub limits: Limits,
}

/// A file of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Relative path of letters, digits, `_`, `-`, `.` and `/`; `None` = the usual name in the language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it holds.
    pub text: String,
}

/// What a task may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processor time of all its processes together.
    pub cpu: Duration,
    /// Time by the clock.
    pub wall: Duration,
    /// Resident memory of all its processes together, bytes.
    pub memory: u64,
    /// Processes and threads at once.
    pub processes: u32,
    /// Bytes on its disk, which is memory.
    pub disk: u64,
    /// Bytes it may write to its two outputs together before it is ended.
    pub output: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            cpu: Duration::from_secs(10),
            wall: Duration::from_secs(20),
            memory: 256 << 20,
            processes: 64,
            disk: 64 << 20,
            output: 1 << 20,
        }
    }
}

impl Limits {
    /// The lower of each.
    #[must_use]
    pub fn lowered(self, other: Limits) -> Limits {
        Limits {
            cpu: self.cpu.min(other.cpu),
            wall: self.wall.min(other.wall),
            memory: self.memory.min(other.memory),
            processes: self.processes.min(other.processes),
            disk: self.disk.min(other.disk),
            output: self.output.min(other.output),
        }
    }
}

/// Why a task was ended before it ended itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Too much processor time.
    Cpu,
    /// Too long by the clock.
    Wall,
    /// Too much memory.
    Memory,
    /// Too much output.
    Output,
}

impl Ended {
    /// As written in findings and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Ended::Cpu => "cpu",
            Ended::Wall => "wall",
            Ended::Memory => "memory",
            Ended::Output => "output",
        }
    }
}

/// How a task went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// `Passed`: it ended well and its tests said so. `Failed`: anything else that it did. `Unverified`: it
    /// was not run, or no test ran.
    pub verdict: Verdict,
    /// One sentence on why it is not `Passed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Exit code; `None` = it was not run, or ended by a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// Which limit ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// Tests that ran, as the test framework said; `None` = it did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<u32>,
    /// Names of tests that failed, as the test framework said; at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
    /// Standard output, cut in the middle.
    pub stdout: String,
    /// Standard error, cut in the middle.
    pub stderr: String,
    /// Time by the clock, milliseconds, preparing included.
    pub wall_ms: u64,
    /// Processor time of all its processes, milliseconds, as far as it was seen.
    pub cpu_ms: u64,
}

impl Ran {
    /// It was not run; why.
    #[must_use]
    pub fn unverified(reason: impl Into<String>) -> Self {
        Ran {
            verdict: Verdict::Unverified,
            reason: Some(reason.into()),
            exit: None,
            ended: None,
            tests: None,
            failed: Vec::new(),
            stdout: String::new(),
            stderr: String::new(),
            wall_ms: 0,
            cpu_ms: 0,
        }
    }
}

/// Runs tests against code.
pub trait CodeRunner: Send + Sync {
    /// Runs a task to its end. Never fails: what cannot be run is `Unverified`. Dropping the future ends
    /// every process of the task.
    fn run(&self, task: Task) -> BoxFuture<'_, Ran>;

    /// The languages whose tools were found.
    fn languages(&self) -> Vec<&'static str>;
}
