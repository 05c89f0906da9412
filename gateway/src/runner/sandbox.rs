//! One program in namespaces of its own, from its files to its end.

use super::capture::{self, Meter};
use super::files::{self, Written};
use super::watch;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;
use types::runner::{Ended, Limits};

/// The fixed script that sets the sandbox up.
const SCRIPT: &str = include_str!("sandbox.sh");
/// Where the tools of the sandbox and of the languages are looked for.
const PATH: &[&str] = &["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"];
/// What code may read, as far as it is there: programs and libraries, and the little of `/etc` they need.
const SHOWN: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
];
/// Folders of `/etc` that begin so are shown as well: Java's own settings stand there.
const SHOWN_ETC: &str = "java";
/// Whom a task runs as where this process is root. Elsewhere it runs as this process's own user, who is nobody
/// in the task's world.
const NOBODY: u32 = 65_534;
/// The clock inside ends a task that outlived this process; the clock outside is the one that counts.
const AFTER_WALL: Duration = Duration::from_secs(2);
/// Memory that a process may map beyond its task's limit: the watcher counts what is resident, and runtimes
/// map more than they use.
const MAPPED: u64 = 256 << 20;
/// Open files of one process.
const FILES: u32 = 256;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program<'a> {
    /// Absolute path, then arguments.
    pub(super) arguments: &'a [String],
    /// Memory that its runtime maps without using it.
    pub(super) reserve: u64,
}

/// How a program went.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) exit: Option<i32>,
    pub(super) ended: Option<Ended>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) wall_ms: u64,
    pub(super) cpu_ms: u64,
}

/// How this machine isolates.
#[derive(Debug)]
pub(super) struct Sandbox {
    /// The command that leads into the namespaces, or what is missing for it.
    enter: Result<Vec<String>, String>,
    shown: Vec<String>,
    path: Vec<PathBuf>,
}

impl Sandbox {
    /// Looks for the tools. `folders` are shown besides the system's, and their `bin` is searched first.
    pub(super) fn new(folders: &[String]) -> Self {
        let there = |p: &&&str| Path::new(p).symlink_metadata().is_ok();
        let mut shown: Vec<String> = SHOWN.iter().filter(there).map(|p| (*p).to_owned()).collect();
        let etc = std::fs::read_dir("/etc").into_iter().flatten().flatten().map(|e| e.path());
        let wanted =
            etc.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(SHOWN_ETC)));
        shown.extend(wanted.map(|p| p.to_string_lossy().into_owned()));
        shown.extend(folders.iter().cloned());
        let own = folders.iter().map(|f| Path::new(f).join("bin"));
        let path: Vec<PathBuf> = own.chain(PATH.iter().map(PathBuf::from)).collect();
        Sandbox { enter: enter(folders), shown, path }
    }

    /// The absolute path of a program that code can run.
    pub(super) fn find(&self, program: &str) -> Option<String> {
        search(&self.path, program)
    }

    /// Tries whether a program can be run isolated.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn probe(&self) -> Result<(), String> {
        if !watch::possible() {
            return Err("the kernel does not tell children of processes (CONFIG_PROC_CHILDREN)".to_owned());
        }
        let nothing = self.find("true").ok_or("the program `true` is not there")?;
        let limits = Limits { wall: Duration::from_secs(10), ..Limits::default() };
        let run = self.run(&[], Program { arguments: &[nothing], reserve: 0 }, limits).await?;
        match run.exit {
            Some(0) => Ok(()),
            _ => Err(format!("a program that does nothing failed: {}", run.stderr.trim())),
        }
    }

    /// Runs a program. Dropping the future ends it and everything it started.
    ///
    /// # Errors
    /// It was not run; why.
    pub(super) async fn run(
        &self,
        files: &[Written],
        program: Program<'_>,
        limits: Limits,
    ) -> Result<Finished, String> {
        let started = Instant::now();
        let enter = self.enter.as_ref().map_err(Clone::clone)?;
        let scratch = scratch(files).map_err(|e| format!("no folder for the task's files: {e}"))?;
        let child = self.command(enter, scratch.path(), program, limits).spawn();
        let child = child.map_err(|e| format!("the sandbox does not start: {e}"))?;
        // Its buffers would lie in every future above it.
        let run = Box::pin(follow(child, limits, started)).await;
        if scratch.path().join("ready").exists() {
            return Ok(run);
        }
        let why: String = run.stderr.trim().chars().take(300).collect();
        Err(format!("the sandbox could not be set up: {why}"))
    }

    fn command(&self, enter: &[String], scratch: &Path, program: Program<'_>, limits: Limits) -> Command {
        let seconds = (limits.wall + AFTER_WALL).as_secs().max(1);
        // The first is the program itself; there always is one.
        let (first, rest) = enter.split_first().map_or(("", enter), |(f, r)| (f.as_str(), r));
        let mut command = Command::new(first);
        command.args(rest).args(["-c", SCRIPT, "turnout-runner"]).arg(scratch);
        command.args([limits.disk.to_string(), seconds.to_string()]).args(&self.shown).arg("--");
        command.args(self.environment()).args(hold(program, limits)).args(program.arguments);
        command
            .env_clear()
            .env("PATH", PATH.join(":"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .current_dir("/")
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Nothing of ours, and the little that runtimes expect.
    fn environment(&self) -> Vec<String> {
        let path: Vec<String> = self.path.iter().map(|p| p.to_string_lossy().into_owned()).collect();
        ["env", "-i", "HOME=/task", "TMPDIR=/tmp", "LANG=C.UTF-8"]
            .into_iter()
            .map(str::to_owned)
            .chain([format!("PATH={}", path.join(":"))])
            .collect()
    }
}

/// What the kernel holds each process to, and the loss of every privilege.
fn hold(program: Program<'_>, limits: Limits) -> Vec<String> {
    let mapped = limits.memory.saturating_add(MAPPED).saturating_add(program.reserve);
    // The watcher counts all processes together and comes first; this holds one that it does not see.
    let cpu = limits.cpu.as_secs().saturating_add(1);
    [
        "prlimit".to_owned(),
        format!("--cpu={cpu}:{}", cpu.saturating_add(1)),
        format!("--data={mapped}"),
        format!("--nproc={}", limits.processes),
        format!("--fsize={}", limits.disk),
        format!("--nofile={FILES}"),
        "--core=0".to_owned(),
        "setpriv".to_owned(),
        "--no-new-privs".to_owned(),
        "--bounding-set=-all".to_owned(),
        "--inh-caps=-all".to_owned(),
    ]
    .into()
}

/// The command into new namespaces, up to the shell that sets them up.
fn enter(folders: &[String]) -> Result<Vec<String>, String> {
    let path: Vec<PathBuf> = PATH.iter().map(PathBuf::from).collect();
    let tool = |name: &str| search(&path, name).ok_or_else(|| format!("the program `{name}` is not there"));
    for name in ["mount", "umount", "pivot_root", "prlimit", "timeout", "env", "cp"] {
        tool(name)?;
    }
    if let Some(odd) = folders.iter().find(|f| !Path::new(f).is_absolute() || !Path::new(f).is_dir()) {
        return Err(format!("`{odd}` of runner.folders is no folder; expected an absolute path of one"));
    }
    let mut command = Vec::new();
    if is_root() {
        let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
        command.push(tool("setpriv")?);
        command.extend(user);
    }
    command.push(tool("unshare")?);
    let flags = "--user --map-root-user --net --ipc --uts --cgroup --pid --fork --kill-child --mount-proc";
    command.extend(flags.split(' ').map(str::to_owned));
    // Other shells cannot close descriptors above 9, and would refuse where there are some.
    command.push(tool("bash").or_else(|_| tool("sh"))?);
    Ok(command)
}

fn search(path: &[PathBuf], program: &str) -> Option<String> {
    let at = path.iter().map(|folder| folder.join(program)).find(|p| p.is_file())?;
    Some(at.to_string_lossy().into_owned())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

/// A folder for one task; only whom the task runs as may read it.
fn scratch(files: &[Written]) -> std::io::Result<TempDir> {
    let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    let folder = tempfile::Builder::new().prefix("turnout-task-").permissions(owner_only).tempdir()?;
    let (root, inside) = (folder.path().join("root"), folder.path().join("files"));
    std::fs::create_dir(&root)?;
    std::fs::create_dir(&inside)?;
    files::write(&inside, files)?;
    if is_root() {
        give_away(folder.path())?;
    }
    Ok(folder)
}

fn give_away(path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))?;
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give_away(&entry?.path())?;
        }
    }
    Ok(())
}

/// Waits for the end of a program, or ends it at a limit.
async fn follow(mut child: Child, limits: Limits, started: Instant) -> Finished {
    let meter = Meter::new(limits.output);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<_>| {
        let meter = meter.clone();
        async move {
            match pipe {
                Some(Pipe::Out(pipe)) => capture::read(pipe, meter).await,
                Some(Pipe::Err(pipe)) => capture::read(pipe, meter).await,
                None => String::new(),
            }
        }
    };
    let (out, err) = (read(out.map(Pipe::Out)), read(err.map(Pipe::Err)));
    let mut seen = watch::Use::default();
    let process = child.id().unwrap_or(0);
    let until_end = async {
        let ended = tokio::select! {
            biased;
            status = child.wait() => return (status.ok(), None),
            () = meter.exceeded.notified() => Ended::Output,
            ended = watch::until_exceeded(process, limits, &mut seen) => ended,
            () = tokio::time::sleep_until(started + limits.wall) => Ended::Wall,
        };
        // The first process of the namespaces dies with it, and all others with that one.
        let _ = child.kill().await;
        (None, Some(ended))
    };
    // The outputs end when the last process has: after this nothing is left.
    let ((status, ended), stdout, stderr) = tokio::join!(until_end, out, err);
    let wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let exit = status.as_ref().and_then(ExitStatus::code);
    let ended = ended.or_else(|| by_the_kernel(exit, seen, limits));
    Finished { exit, ended, stdout, stderr, wall_ms, cpu_ms: seen.cpu_ms }
}

/// The limit by which the kernel ended the program, as far as its exit tells: 128 + 24 is the signal for too
/// much processor time, and a kill near that limit is its second one.
fn by_the_kernel(exit: Option<i32>, seen: watch::Use, limits: Limits) -> Option<Ended> {
    let near = u128::from(seen.cpu_ms).saturating_mul(10) >= limits.cpu.as_millis().saturating_mul(9);
    match exit {
        Some(152) => Some(Ended::Cpu),
        Some(137) if near => Some(Ended::Cpu),
        _ => None,
    }
}

enum Pipe {
    Out(tokio::process::ChildStdout),
    Err(tokio::process::ChildStderr),
}
