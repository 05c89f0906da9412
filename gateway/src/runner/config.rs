//! What `runner.*` of `turnout.yaml` may say.

use std::time::Duration;
use types::runner::Limits;

/// Settings of the code runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether there is one.
    pub enabled: bool,
    /// Most processor time of a task, all its processes together.
    pub cpu: Duration,
    /// Longest time of a task by the clock.
    pub wall: Duration,
    /// Most resident memory of a task, bytes, all its processes together.
    pub memory: usize,
    /// Most processes and threads of a task.
    pub processes: u32,
    /// Bytes of a task's disk.
    pub disk: usize,
    /// Bytes that a task may write to its outputs.
    pub output: usize,
    /// Tasks at once.
    pub parallel: usize,
    /// Further folders that code may read; `bin` in them is searched for the languages' tools first.
    pub folders: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        let Limits { cpu, wall, memory, processes, disk, output } = Limits::default();
        let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Config {
            enabled: false,
            cpu,
            wall,
            memory: bytes(memory),
            processes,
            disk: bytes(disk),
            output: bytes(output),
            parallel: 2,
            folders: Vec::new(),
        }
    }
}

impl Config {
    /// What a task may use at most.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let bytes = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Limits {
            cpu: self.cpu,
            wall: self.wall,
            memory: bytes(self.memory),
            processes: self.processes,
            disk: bytes(self.disk),
            output: bytes(self.output),
        }
    }
}
