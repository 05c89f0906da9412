//! The code runner on this machine: its languages, and that nothing gets out.
//!
//! These tests need Linux with user namespaces, util-linux, `python3` with pytest, `node`, `bash`, `cc`, `go`, a JDK
//! and the `rustc` that builds them; `make setup` fetches what is missing, and they fail where one is.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

use gateway::runner::{Config, Runner};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use types::Verdict;
use types::runner::{CodeRunner, Ended, File, Limits, Ran, Task};

fn runner(folders: &[&Path]) -> Runner {
    let folders = folders.iter().map(|f| f.to_str().unwrap().to_owned()).collect();
    Runner::new(&Config {
        enabled: true,
        folders,
        cpu: Duration::from_secs(300),
        wall: Duration::from_secs(300),
        memory: 2 << 30,
        disk: 1 << 30,
        processes: 512,
        ..Config::default()
    })
}

fn file(text: &str) -> File {
    File { name: None, text: text.to_owned() }
}

fn task(language: &str, code: &str, tests: &str) -> Task {
    let tests = if tests.is_empty() { Vec::new() } else { vec![file(tests)] };
    Task { language: language.to_owned(), files: vec![file(code)], tests, limits: Limits::default() }
}

async fn run(task: Task) -> Ran {
    runner(&[]).run(task).await
}

/// Runs Python code that must be able to run; gives what it printed.
async fn python(code: &str) -> String {
    let ran = run(task("python", code, "")).await;
    assert_eq!(ran.verdict, Verdict::Passed, "{ran:#?}");
    ran.stdout
}

fn check(ran: &Ran, verdict: Verdict, tests: Option<u32>, failed: &[&str]) {
    assert_eq!((ran.verdict, ran.tests), (verdict, tests), "{ran:#?}");
    assert_eq!(ran.failed, failed, "{ran:#?}");
    assert_eq!(ran.reason.is_none(), verdict == Verdict::Passed, "{ran:#?}");
}

const ADD: &str = "def add(a, b):\n    return a + b\n";
const WRONG: &str = "def add(a, b):\n    return a - b\n";

#[tokio::test]
async fn this_machine_isolates() {
    runner(&[]).isolates().await.unwrap();
    let languages = runner(&[]).languages();
    for needed in ["python", "javascript", "bash", "c"] {
        assert!(languages.contains(&needed), "install the tools for {needed}: {languages:?}");
    }
}

#[tokio::test]
async fn python_is_tested() {
    let unit = "import unittest\nfrom solution import add\nclass T(unittest.TestCase):\n    \
                def test_sum(self): self.assertEqual(add(2, 3), 5)\n    \
                def test_zero(self): self.assertEqual(add(0, 0), 0)\n";
    check(&run(task("python", ADD, unit)).await, Verdict::Passed, Some(2), &[]);
    check(&run(task("python", WRONG, unit)).await, Verdict::Failed, Some(2), &["test_sum"]);
    check(&run(task("py", ADD, "assert add(2, 3) == 5")).await, Verdict::Passed, None, &[]);
    let ran = run(task("py", WRONG, "assert add(2, 3) == 5")).await;
    check(&ran, Verdict::Failed, None, &[]);
    assert!(ran.stderr.contains("AssertionError"), "{ran:#?}");
    // Code that ends the process before the tests report has not passed them.
    let early = format!("{ADD}import os, threading\nos._exit(0)\n");
    check(&run(task("python", &early, unit)).await, Verdict::Failed, None, &[]);
    for early in ["quit()", "import sys; sys.exit(0)", "import os; os._exit(0)"] {
        let ran = run(task("py", &format!("{WRONG}{early}\n"), "assert add(2, 3) == 5")).await;
        check(&ran, Verdict::Failed, None, &[]);
    }
    let own = "import sys\nassert add(2, 3) == 5\nsys.exit(0)\n";
    check(&run(task("py", ADD, own)).await, Verdict::Passed, None, &[]);
    let none = "import unittest\nfrom solution import add\n";
    assert_eq!(run(task("python", ADD, none)).await.verdict, Verdict::Unverified);
}

#[tokio::test]
async fn javascript_is_tested() {
    let code = "function add(a, b) { return a + b }\nmodule.exports = { add }\n";
    let test = "const { test } = require('node:test'); const assert = require('node:assert');\n\
                const { add } = require('./solution.js');\n\
                test('adds', () => assert.equal(add(2, 3), 5));\ntest('zero', () => assert.equal(add(0, 0), 0));\n";
    check(&run(task("js", code, test)).await, Verdict::Passed, Some(2), &[]);
    let wrong = code.replace("a + b", "a - b");
    check(&run(task("js", &wrong, test)).await, Verdict::Failed, Some(2), &["adds"]);
    let plain = "if (add(2, 3) !== 5) throw new Error('wrong');";
    check(&run(task("javascript", code, plain)).await, Verdict::Passed, None, &[]);
    check(&run(task("javascript", &wrong, plain)).await, Verdict::Failed, None, &[]);
    for early in ["process.exit(0);", "process.on('uncaughtException', () => {});"] {
        let ran = run(task("js", &format!("{wrong}{early}"), plain)).await;
        check(&ran, Verdict::Failed, None, &[]);
    }
}

#[tokio::test]
async fn java_that_ends_before_its_tests_has_not_passed_them() {
    let code = |body: &str| format!("class Solution {{ static int add(int a, int b) {{ {body} }} }}\n");
    let tests = |end: &str| {
        format!(
            "class SolutionTest {{ public static void main(String[] a) {{ assert Solution.add(2, 3) == 5; {end} }} }}\n"
        )
    };
    let sum = code("return a + b;");
    check(&run(task("java", &sum, &tests(""))).await, Verdict::Passed, None, &[]);
    check(&run(task("java", &sum, &tests("System.exit(0);"))).await, Verdict::Passed, None, &[]);
    check(&run(task("java", &code("return a - b;"), &tests(""))).await, Verdict::Failed, None, &[]);
    check(
        &run(task("java", &code("System.exit(0); return 0;"), &tests(""))).await,
        Verdict::Failed,
        None,
        &[],
    );
}

#[tokio::test]
async fn bash_and_c_are_tested() {
    let code = "add() { echo $(($1 + $2)); }\n";
    check(&run(task("bash", code, "[ \"$(add 2 3)\" = 5 ]\n")).await, Verdict::Passed, None, &[]);
    check(&run(task("bash", code, "[ \"$(add 2 3)\" = 6 ]\n")).await, Verdict::Failed, None, &[]);
    let early = "add() { echo $(($1 - $2)); }\nexit 0\n";
    check(&run(task("bash", early, "[ \"$(add 2 3)\" = 5 ] || exit 1\n")).await, Verdict::Failed, None, &[]);
    check(&run(task("bash", code, "[ \"$(add 2 3)\" = 5 ]\nexit 0\n")).await, Verdict::Passed, None, &[]);
    let code = "int add(int a, int b) { return a + b; }\n";
    let tests =
        |sum| format!("#include <assert.h>\nint main(void) {{ assert(add(2, 3) == {sum}); return 0; }}\n");
    check(&run(task("c", code, &tests(5))).await, Verdict::Passed, None, &[]);
    check(&run(task("c", code, &tests(6))).await, Verdict::Failed, None, &[]);
    // Code that ends the process before its tests has not passed them; tests may end it themselves.
    let early = "#include <stdlib.h>\nint add(int a, int b) { exit(0); }\n";
    check(&run(task("c", early, &tests(5))).await, Verdict::Failed, None, &[]);
    let own = "#include <stdlib.h>\nint main(void) { exit(add(2, 3) == 5 ? 0 : 1); }\n";
    check(&run(task("c", code, own)).await, Verdict::Passed, None, &[]);
    check(
        &run(task("c", code, "int main(void) { if (add(2, 3) != 5) return 1; }")).await,
        Verdict::Passed,
        None,
        &[],
    );
    let broken = run(task("c", "int add(", &tests(5))).await;
    assert!(broken.verdict == Verdict::Failed && broken.stderr.contains("error"), "{broken:#?}");
}

/// A copy of the toolchain, as links, where somebody without rights can read it.
fn toolchain() -> tempfile::TempDir {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().unwrap().stdout;
    let sysroot = PathBuf::from(String::from_utf8(sysroot).unwrap().trim());
    let at = tempfile::Builder::new().permissions(readable()).tempdir().unwrap();
    for part in ["bin", "lib"] {
        let copy =
            |how: &str| Command::new("cp").args([how, "--"]).arg(sysroot.join(part)).arg(at.path()).status();
        assert!(copy("-al").unwrap().success() || copy("-a").unwrap().success());
    }
    at
}

fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

#[tokio::test]
async fn rust_is_tested_from_a_folder_of_the_operators() {
    let folder = tokio::task::spawn_blocking(toolchain).await.unwrap();
    let runner = runner(&[folder.path()]);
    assert!(runner.languages().contains(&"rust"));
    let tests =
        "#[test] fn sum() { assert_eq!(add(2, 3), 5); }\n#[test] fn zero() { assert_eq!(add(0, 0), 0); }\n";
    let limits = Limits {
        cpu: Duration::from_secs(60),
        wall: Duration::from_secs(120),
        memory: 1 << 30,
        processes: 128,
        ..Limits::default()
    };
    let task = |code: &str| Task { limits, ..task("rust", code, tests) };
    check(&runner.run(task("fn add(a: i32, b: i32) -> i32 { a + b }")).await, Verdict::Passed, Some(2), &[]);
    check(
        &runner.run(task("fn add(a: i32, b: i32) -> i32 { a - b }")).await,
        Verdict::Failed,
        Some(2),
        &["sum"],
    );
    check(&runner.run(task("fn add(a: i32) {")).await, Verdict::Failed, None, &[]);
}

const PATIENT: Limits = Limits {
    cpu: Duration::from_secs(240),
    wall: Duration::from_secs(280),
    memory: 1 << 30,
    processes: 512,
    disk: 512 << 20,
    output: 1 << 20,
};

#[tokio::test]
async fn java_is_tested() {
    let code =
        |op: &str| format!("public class Solution {{ static int add(int a, int b) {{ return a {op} b; }} }}");
    let tests = "public class SolutionTest { public static void main(String[] a) { assert Solution.add(2, 3) == 5; } }";
    let run = async |op: &str| run(Task { limits: PATIENT, ..task("java", &code(op), tests) }).await;
    check(&run("+").await, Verdict::Passed, None, &[]);
    check(&run("-").await, Verdict::Failed, None, &[]);
}

#[tokio::test]
async fn go_is_tested() {
    let code = |op: &str| format!("package solution\nfunc Add(a, b int) int {{ return a {op} b }}\n");
    let tests = "package solution\nimport \"testing\"\nfunc TestAdd(t *testing.T) { if Add(2, 3) != 5 { t.Fatal(\"wrong\") } }\n";
    let run = async |op: &str| run(Task { limits: PATIENT, ..task("go", &code(op), tests) }).await;
    check(&run("+").await, Verdict::Passed, Some(1), &[]);
    check(&run("-").await, Verdict::Failed, Some(1), &["TestAdd"]);
}

#[tokio::test]
async fn pytest_is_used_where_it_is() {
    let tests = "def test_sum():\n    assert add(2, 3) == 5\n\ndef test_zero():\n    assert add(0, 0) == 0\n";
    check(&run(task("python", ADD, tests)).await, Verdict::Passed, Some(2), &[]);
    check(
        &run(task("python", WRONG, tests)).await,
        Verdict::Failed,
        Some(2),
        &["test_solution.py::test_sum"],
    );
}

#[tokio::test]
async fn there_is_no_network() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let said = python(&format!(
        "import socket\nfor a in [('127.0.0.1', {port}), ('8.8.8.8', 53), ('::1', {port})]:\n    try:\n        \
         socket.create_connection(a, 2); print('REACHED', a)\n    except OSError as e: print('no', e.errno)\n\
         try:\n    print('REACHED', socket.getaddrinfo('example.com', 80))\nexcept OSError as e: print('no name')\n"
    ))
    .await;
    assert!(!said.contains("REACHED") && said.contains("no name"), "{said}");
    assert!(listener.accept().is_err(), "nobody came");
}

#[tokio::test]
async fn files_outside_are_neither_read_nor_written() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "marked secret").unwrap();
    std::fs::set_permissions(secret.path(), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let home = std::env::var("HOME").unwrap();
    let here = env!("CARGO_MANIFEST_DIR");
    let said = python(&format!(
        "import os\nfor p in ['{}', '{home}', '{here}', '/root', '/home', '/etc/shadow', '/etc/passwd', '/var', '/run', '/sys', '/proc/1/root', '/proc/1/environ', '/proc/1/cwd/x']:\n    \
         try:\n        print('READ', p, os.listdir(p) if os.path.isdir(p) else open(p).read())\n    except OSError as e: print('no', p, e.errno)\n\
         for p in ['/x', '/usr/x', '/usr/bin/x', '/etc/x', '/dev/x', '/proc/x', '/proc/sys/kernel/hostname', '/mnt/x', '/home/x']:\n    \
         try:\n        open(p, 'w').write('1'); print('WROTE', p)\n    except OSError as e: print('no', p, e.errno)\n\
         for p in ['/task/x', '/tmp/x', '/dev/shm/x']: open(p, 'w').write('1')\n",
        secret.path().display()
    ))
    .await;
    assert!(!said.contains("READ") && !said.contains("WROTE") && !said.contains("secret"), "{said}");
    assert_eq!(std::fs::read_to_string(secret.path()).unwrap(), "marked secret");
}

#[tokio::test]
async fn there_is_no_environment_no_privilege_and_no_way_to_one() {
    let said = python(
        "import os, subprocess\nprint(sorted(os.environ))\n\
         print([l.strip() for l in open('/proc/self/status') if l.startswith(('Cap', 'NoNew'))])\n\
         print('fds', os.listdir('/proc/self/fd'))\n\
         for c in [['unshare', '-Ur', 'id'], ['mount', '-t', 'tmpfs', 'x', '/tmp'], ['chroot', '/task', 'id'], ['umount', '/usr'], ['kill', '-9', '1']]:\n    \
         r = subprocess.run(c, capture_output=True); print('DID' if r.returncode == 0 and c[0] != 'kill' else 'no', c)\n\
         print('sees', [p for p in os.listdir('/proc') if p.isdigit()])\n",
    )
    .await;
    assert!(!said.contains("DID"), "{said}");
    assert!(said.contains("NoNewPrivs:\\t1") && said.contains("CapEff:\\t0000000000000000"), "{said}");
    assert!(said.contains("CapBnd:\\t0000000000000000"), "{said}");
    let environment = said.lines().next().unwrap();
    for ours in ["CARGO", "USER", "TURNOUT", "KEY", "SHLVL", "OLDPWD"] {
        assert!(!environment.contains(ours), "{environment}");
    }
    // Input, output, errors, and the folder that is being listed.
    assert!(said.contains("fds ['0', '1', '2', '3']"), "{said}");
    let seen = said.lines().find(|l| l.starts_with("sees")).unwrap();
    assert!(seen.matches('\'').count() <= 8, "{seen}");
}

fn limits() -> Limits {
    Limits { cpu: Duration::from_secs(60), wall: Duration::from_secs(60), ..Limits::default() }
}

#[tokio::test]
async fn a_fork_bomb_is_bounded() {
    let bomb = "import os, time\nn = 0\nwhile True:\n    try:\n        if os.fork() == 0: time.sleep(60)\n        n += 1\n    \
                except OSError: print('stopped at', n, flush=True); os._exit(3)\n";
    let limits = Limits { processes: 20, ..limits() };
    let ran = run(Task { limits, ..task("python", bomb, "") }).await;
    assert_eq!((ran.verdict, ran.exit), (Verdict::Failed, Some(3)), "{ran:#?}");
    let stopped: u32 = ran.stdout.rsplit(' ').next().unwrap().trim().parse().unwrap();
    assert!(stopped < 20, "{stopped}");
    // One that does not give up and leaves its children behind is ended with all of them.
    let relentless = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n";
    let limits = Limits { processes: 20, cpu: Duration::from_secs(2), ..limits };
    let ran = run(Task { limits, ..task("python", relentless, "") }).await;
    assert_eq!((ran.verdict, ran.ended), (Verdict::Failed, Some(Ended::Cpu)), "{ran:#?}");
}

#[tokio::test]
async fn memory_is_bounded_over_all_processes() {
    let one =
        "x = bytearray(1 << 30)\nimport time\nfor i in range(0, len(x), 4096): x[i] = 1\ntime.sleep(30)\n";
    let ran = run(Task { limits: limits(), ..task("python", one, "") }).await;
    assert_eq!(ran.verdict, Verdict::Failed, "{ran:#?}");
    assert!(ran.ended == Some(Ended::Memory) || ran.stderr.contains("MemoryError"), "{ran:#?}");
    // Each alone stays below the limit; together they do not.
    let many = "import os, time\nfor _ in range(8): os.fork() or (globals().update(x=bytearray(b'1') * (60 << 20)), time.sleep(30))\ntime.sleep(30)\n";
    let ran = run(Task { limits: limits(), ..task("python", many, "") }).await;
    assert_eq!((ran.verdict, ran.ended), (Verdict::Failed, Some(Ended::Memory)), "{ran:#?}");
    // Memory that processes share, and its disk, which is memory.
    let shared = "import mmap, time\nm = mmap.mmap(-1, 1 << 30)\nfor i in range(0, 1 << 30, 4096): m[i] = 1\ntime.sleep(30)\n";
    let ran = run(Task { limits: limits(), ..task("python", shared, "") }).await;
    assert_eq!((ran.verdict, ran.ended), (Verdict::Failed, Some(Ended::Memory)), "{ran:#?}");
    let disk = "import os\nfor n in range(40):\n    open(f'/tmp/{n}', 'wb').write(b'x' * (8 << 20))\n";
    let ran = run(Task { limits: limits(), ..task("python", disk, "") }).await;
    assert!(ran.verdict == Verdict::Failed && ran.stderr.contains("No space left"), "{ran:#?}");
}

#[tokio::test]
async fn endless_output_is_cut() {
    let ran = run(Task { limits: limits(), ..task("python", "while True: print('x' * 1000)", "") }).await;
    assert_eq!((ran.verdict, ran.ended), (Verdict::Failed, Some(Ended::Output)), "{ran:#?}");
    assert!(ran.stdout.len() < 80 << 10 && ran.stdout.contains("bytes cut"), "{}", ran.stdout.len());
    let ran = run(Task { limits: limits(), ..task("bash", "yes >&2 & yes >&2 & wait", "") }).await;
    assert_eq!((ran.verdict, ran.ended), (Verdict::Failed, Some(Ended::Output)), "{ran:#?}");
}

#[tokio::test]
async fn endless_loops_are_ended() {
    let limits = Limits { cpu: Duration::from_secs(1), ..limits() };
    let ran = run(Task { limits, ..task("python", "while True: pass", "") }).await;
    assert_eq!((ran.verdict, ran.ended), (Verdict::Failed, Some(Ended::Cpu)), "{ran:#?}");
    assert!(ran.cpu_ms >= 500, "{ran:#?}");
    let limits = Limits { wall: Duration::from_secs(1), ..limits };
    let stubborn = "import signal, time\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n    except OSError: pass\n\
                    while True: time.sleep(1)\n";
    let ran = run(Task { limits, ..task("python", stubborn, "") }).await;
    assert_eq!((ran.verdict, ran.ended), (Verdict::Failed, Some(Ended::Wall)), "{ran:#?}");
}

/// Processes of this machine whose arguments hold a mark.
fn marked(mark: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let own = std::process::id().to_string();
    let name = |e: std::fs::DirEntry| e.file_name().to_string_lossy().into_owned();
    let ids = all.map(name).filter(|n| n.bytes().all(|b| b.is_ascii_digit()) && *n != own);
    let line = |id: &String| std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    ids.filter(|id| String::from_utf8_lossy(&line(id)).contains(mark)).collect()
}

/// A program that hides as well as it can: a session of its own, no death with its parent, signals ignored.
fn hider(mark: &str, then: &str) -> String {
    format!(
        "import os, ctypes, signal, time, sys\n\
         if os.fork() == 0:\n    os.setsid()\n    ctypes.CDLL(None).prctl(1, 0)\n    \
         for s in range(1, 32):\n        try: signal.signal(s, signal.SIG_IGN)\n        except OSError: pass\n    \
         os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(600)', '{mark}'])\n\
         time.sleep(0.3)\n{then}\n"
    )
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let mark = format!("left-{}-a", std::process::id());
    let ran = run(Task { limits: limits(), ..task("python", &hider(&mark, "sys.exit(7)"), "") }).await;
    assert_eq!(ran.exit, Some(7), "{ran:#?}");
    assert_eq!(marked(&mark), Vec::<String>::new(), "after its own end");

    let mark = format!("left-{}-b", std::process::id());
    let limits = Limits { wall: Duration::from_secs(2), ..limits() };
    let ran = run(Task { limits, ..task("python", &hider(&mark, "time.sleep(600)"), "") }).await;
    assert_eq!(ran.ended, Some(Ended::Wall), "{ran:#?}");
    assert_eq!(marked(&mark), Vec::<String>::new(), "after a limit");
}

#[tokio::test]
async fn a_cancelled_task_ends_within_two_seconds() {
    let mark = format!("left-{}-c", std::process::id());
    let runner = runner(&[]);
    let code = hider(&mark, "time.sleep(600)");
    let task = Task { limits: limits(), ..task("python", &code, "") };
    let running = tokio::spawn(async move { runner.run(task).await });
    let there = |yes: bool| {
        let mark = mark.clone();
        async move {
            // Generous while it starts on a busy machine; the promise of two seconds is for the end.
            for _ in 0..if yes { 1_500 } else { 100 } {
                if marked(&mark).is_empty() != yes {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            false
        }
    };
    assert!(there(true).await, "it runs");
    running.abort();
    assert!(there(false).await, "it is gone: {:?}", marked(&mark));
}

#[tokio::test]
async fn without_isolation_nothing_is_run() {
    let gone = runner(&[Path::new("/nowhere/at/all")]);
    let ran = gone.run(task("python", "print(1)", "")).await;
    assert_eq!((ran.verdict, ran.exit, ran.stdout.as_str()), (Verdict::Unverified, None, ""));
    assert!(ran.reason.as_deref().is_some_and(|r| r.contains("/nowhere/at/all")), "{ran:#?}");
    // A folder that its user may not enter cannot be shown: the set-up fails, and with it the task.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    let closed = tempfile::Builder::new().permissions(mode).tempdir().unwrap();
    let inner = closed.path().join("tools");
    std::fs::create_dir(&inner).unwrap();
    if this_is_root() {
        let ran = runner(&[&inner]).run(task("python", "print(1)", "")).await;
        assert_eq!((ran.verdict, ran.stdout.as_str()), (Verdict::Unverified, ""), "{ran:#?}");
    }
    let ran = run(task("cobol", "x", "")).await;
    assert_eq!(ran.verdict, Verdict::Unverified);
}

fn this_is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0
}
