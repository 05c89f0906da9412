//! Child processes of this program, each one thing that is measured, and the processor time they used.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// The name under which this program is the `turnout` program.
pub(crate) const TURNOUT: &str = "turnout";

/// A running child. It is killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
}

impl Process {
    /// Starts this program with other arguments and waits until it says where it listens.
    pub(crate) async fn start(args: &[&str]) -> std::io::Result<Process> {
        Self::named("bench", args).await
    }

    /// Starts `turnout` and waits until it says where it listens.
    pub(crate) async fn turnout(args: &[&str]) -> std::io::Result<Process> {
        Self::named(TURNOUT, args).await
    }

    async fn named(name: &str, args: &[&str]) -> std::io::Result<Process> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg0(name)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (found, mut address) = tokio::sync::watch::channel(None);
        let found = std::sync::Arc::new(found);
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            crate::background(watch(out, std::sync::Arc::clone(&found)));
            crate::background(watch(err, found));
        }
        let waited = tokio::time::timeout(Duration::from_secs(20), address.wait_for(Option::is_some)).await;
        let addr = waited.ok().and_then(Result::ok).and_then(|a| *a);
        match addr {
            Some(addr) => Ok(Process { child, addr }),
            None => Err(std::io::Error::other(format!("{args:?} did not say where it listens"))),
        }
    }

    /// Seconds of processor time so far, user and system, of all threads that live. The scheduler counts it in
    /// nanoseconds, where `/proc/<pid>/stat` tells hundredths of a second.
    pub(crate) fn cpu(&self) -> f64 {
        let Some(pid) = self.child.id() else { return 0.0 };
        let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0.0 };
        let on_cpu = |thread: std::fs::DirEntry| -> Option<f64> {
            std::fs::read_to_string(thread.path().join("schedstat")).ok()?.split(' ').next()?.parse().ok()
        };
        threads.flatten().filter_map(on_cpu).sum::<f64>() / 1e9
    }
}

async fn watch(
    pipe: impl AsyncRead + Unpin,
    found: std::sync::Arc<tokio::sync::watch::Sender<Option<SocketAddr>>>,
) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if found.borrow().is_none()
            && let Some(addr) = address_in(&line)
        {
            found.send_replace(Some(addr));
        }
    }
}

fn address_in(line: &str) -> Option<SocketAddr> {
    let text = line.get(line.find("127.0.0.1:")?..)?;
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(text.len());
    text.get(..end)?.trim_end_matches(['.', ':']).parse().ok()
}
