//! Looks at a tree of processes from outside: what it uses, all of them together.
//!
//! The kernel limits each process; what all of them use together nobody limits but this watcher. It looks
//! every few milliseconds, so that a tree may use a little more than allowed for a moment; each process alone
//! is held by its own hard limit meanwhile.

use std::path::PathBuf;
use std::time::Duration;
use types::runner::{Ended, Limits};

/// How often it looks.
const EVERY: Duration = Duration::from_millis(20);
/// Linux tells processor time in hundredths of a second on every architecture.
const TICK_MS: u64 = 10;
/// More processes than any limit allows: the tree is not followed further.
const MOST: usize = 4_096;

/// What a tree uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// Anonymous and shared memory that is resident, bytes.
    pub(super) memory: u64,
    /// Processor time of those that live and those they waited for, milliseconds.
    pub(super) cpu_ms: u64,
}

/// Watches the tree below a process until it passes a limit; `seen` holds the most that was seen so far.
pub(super) async fn until_exceeded(process: u32, limits: Limits, seen: &mut Use) -> Ended {
    let cpu_ms = u64::try_from(limits.cpu.as_millis()).unwrap_or(u64::MAX);
    loop {
        let now = of(process);
        seen.cpu_ms = seen.cpu_ms.max(now.cpu_ms);
        seen.memory = seen.memory.max(now.memory);
        if now.memory > limits.memory {
            return Ended::Memory;
        }
        if now.cpu_ms > cpu_ms {
            return Ended::Cpu;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Whether the kernel tells children of processes, which the watcher lives from.
pub(super) fn possible() -> bool {
    PathBuf::from("/proc/thread-self/children").exists()
}

/// What the processes below one use, itself included.
pub(super) fn of(process: u32) -> Use {
    let mut total = Use::default();
    let mut left = vec![process];
    let mut visited = 0;
    while let Some(id) = left.pop() {
        visited += 1;
        if visited > MOST {
            break;
        }
        let folder = PathBuf::from(format!("/proc/{id}"));
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        total.memory = total.memory.saturating_add(resident(&read("status")));
        total.cpu_ms = total.cpu_ms.saturating_add(processor_ms(&read("stat")));
        for task in std::fs::read_dir(folder.join("task")).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            left.extend(children.split_whitespace().filter_map(|c| c.parse::<u32>().ok()));
        }
    }
    total
}

/// Bytes, from `/proc/<id>/status`.
fn resident(status: &str) -> u64 {
    let kib = |line: &str| line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
    let own = |line: &&str| line.starts_with("RssAnon:") || line.starts_with("RssShmem:");
    status.lines().filter(own).filter_map(kib).sum::<u64>().saturating_mul(1024)
}

/// Milliseconds, from `/proc/<id>/stat`: user and system time, and those of children it waited for.
fn processor_ms(stat: &str) -> u64 {
    // The name before the last bracket may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(4).filter_map(|n| n.parse::<u64>().ok());
    ticks.sum::<u64>().saturating_mul(TICK_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let status =
            "Name:\tx\nVmRSS:\t  9000 kB\nRssAnon:\t  5000 kB\nRssFile:\t 3000 kB\nRssShmem:\t 24 kB\n";
        assert_eq!(resident(status), 5_024 * 1_024);
        assert_eq!(resident(""), 0);
        let stat = "7 (a) b) R 1 7 7 0 -1 4194304 90 0 0 0 11 12 13 14 20 0 1 0 100 0 0";
        assert_eq!(processor_ms(stat), 500);
        assert_eq!(processor_ms("gone"), 0);
    }

    #[test]
    fn this_process_uses_something() {
        assert!(possible());
        assert!(of(std::process::id()).memory > 100_000);
        assert_eq!(of(u32::MAX), Use::default());
    }
}
