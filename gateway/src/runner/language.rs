//! The languages: one row each.

use super::evidence::Framework;
use super::files::{self, Written};
use super::sandbox::Sandbox;
use types::runner::{File, Task};

/// A language.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name.
    pub(super) name: &'static str,
    /// Other names of it, as fences in answers have them.
    also: &'static [&'static str],
    /// Programs that must be there; the first is what runs.
    tools: &'static [&'static str],
    /// The usual names of the file of code and of that of tests.
    usual: (&'static str, &'static str),
    /// A file that a project needs besides: its name, and its text with `{code}` and `{tests}`.
    more: Option<(&'static str, &'static str)>,
    /// How tests that do not name the code come to see it.
    join: Join,
    /// How plain tests say, by a word of its own (`{}`), that they came to their end.
    mark: Mark,
    /// Memory that its runtime maps without using it.
    reserve: u64,
    /// The arguments that run the code alone.
    run: Arguments,
    /// What tests are written with, and the arguments that run them, chosen by their text.
    test: fn(&str) -> (Framework, Arguments),
}

/// How plain tests say that they came to their end: code may end the process before them.
#[derive(Debug)]
enum Mark {
    /// They count themselves.
    None,
    /// By this line behind them.
    Line(&'static str),
    /// By a program that runs theirs. `own`: how theirs ends the process, and what does so in its place after saying so.
    Around {
        file: &'static str,
        program: &'static str,
        head: &'static str,
        own: (&'static str, &'static str),
    },
}

/// How tests come to see the code.
#[derive(Debug)]
enum Join {
    /// They do by themselves.
    Not,
    /// By this line before them; `{}` is the name of the code's file without its ending.
    Line(&'static str),
    /// By standing behind it, in one file.
    Behind,
}

/// Arguments after the program: fixed words. `{code}` and `{tests}` stand for the name of a file, `{all}` for
/// the names of all tests; each is an argument of its own.
type Arguments = &'static [&'static str];

const C_CODE: &str = "cc -std=c17 -o /tmp/program \"$1\" -lm; exec /tmp/program";
const C_TESTS: &str =
    "cc -std=c17 -Wl,--wrap=main -o /tmp/program \"$1\" tests_at_their_end.c -lm; exec /tmp/program";
/// The linker puts it before the `main` of the tests, whose own value is 0 where it returns none.
const C_MARK: &str = "#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int __real_main(int, char **, char **);
void exit_at_the_end(int code) {
    static const char mark[] = \"\\n{}\\n\";
    fflush(0);
    if (write(2, mark, sizeof mark - 1) < 0) code = 1;
    exit(code);
}
int __wrap_main(int count, char **words, char **environment) {
    exit_at_the_end(__real_main(count, words, environment));
    return 1;
}
";
const JAVA_TESTS: &str = "javac -J-Xmx192m -d /tmp/classes ./*.java; \
                          exec java -Xmx192m -ea -cp /tmp/classes TestsAtTheirEnd \"${1%.java}\"";
const JAVA_MARK: &str = "class TestsAtTheirEnd {
    static void exit(int code) {
        System.err.print(\"\\n{}\\n\");
        System.err.flush();
        System.exit(code);
    }
    public static void main(String[] words) throws Throwable {
        java.lang.reflect.Method main = Class.forName(words[0]).getDeclaredMethod(\"main\", String[].class);
        main.setAccessible(true);
        try {
            main.invoke(null, (Object) new String[0]);
        } catch (java.lang.reflect.InvocationTargetException e) {
            throw e.getCause();
        }
        exit(0);
    }
}
";
const RUST_CODE: &str = "rustc --edition 2021 -o /tmp/program \"$1\"; exec /tmp/program";
const RUST_TESTS: &str = "rustc --edition 2021 --test -o /tmp/program main.rs; exec /tmp/program";

/// Every language.
const LANGUAGES: &[Row] = &[
    Row {
        name: "python",
        also: &["py", "python3"],
        tools: &["python3"],
        usual: ("solution.py", "test_solution.py"),
        more: None,
        join: Join::Line("from {} import *\n"),
        mark: Mark::Line("__import__('os').write(2, b'\\n{}\\n')"),
        reserve: 0,
        run: &["-B", "{code}"],
        test: |text| match text {
            t if t.contains("unittest") => (Framework::Unittest, &["-B", "-m", "unittest", "-v", "{all}"]),
            t if t.contains("pytest") || t.contains("def test_") => {
                (Framework::Pytest, &["-B", "-m", "pytest", "-rf", "-p", "no:cacheprovider", "{all}"])
            }
            _ => (Framework::Script, &["-B", "{tests}"]),
        },
    },
    Row {
        name: "javascript",
        also: &["js", "node", "mjs"],
        tools: &["node"],
        usual: ("solution.js", "solution.test.js"),
        more: None,
        join: Join::Behind,
        mark: Mark::Line(";process._rawDebug('\\n{}');"),
        reserve: 512 << 20,
        run: &["{code}"],
        test: |text| match text {
            t if t.contains("node:test") => (Framework::NodeTest, &["--test-reporter=tap", "{tests}"]),
            _ => (Framework::Script, &["{tests}"]),
        },
    },
    Row {
        name: "bash",
        also: &["sh", "shell"],
        tools: &["bash"],
        usual: ("solution.sh", "tests.sh"),
        more: None,
        join: Join::Line(". ./{}.sh\n"),
        mark: Mark::Line("printf '\\n%s\\n' '{}' >&2"),
        reserve: 0,
        run: &["{code}"],
        test: |_| (Framework::Script, &["-e", "{tests}"]),
    },
    Row {
        name: "rust",
        also: &["rs"],
        tools: &["sh", "rustc", "cc"],
        usual: ("solution.rs", "tests.rs"),
        more: Some(("main.rs", "include!(\"{code}\");\ninclude!(\"{tests}\");\n")),
        join: Join::Not,
        mark: Mark::None,
        reserve: 1 << 30,
        run: &["-ec", RUST_CODE, "sh", "{code}"],
        test: |_| (Framework::RustTest, &["-ec", RUST_TESTS]),
    },
    Row {
        name: "go",
        also: &["golang"],
        tools: &["go"],
        usual: ("solution.go", "solution_test.go"),
        more: Some(("go.mod", "module solution\n\ngo 1.19\n")),
        join: Join::Not,
        mark: Mark::None,
        reserve: 1 << 30,
        run: &["run", "{code}"],
        test: |_| (Framework::GoTest, &["test", "-v", "./..."]),
    },
    Row {
        name: "java",
        also: &[],
        tools: &["sh", "java", "javac"],
        usual: ("Solution.java", "SolutionTest.java"),
        more: None,
        join: Join::Not,
        mark: Mark::Around {
            file: "TestsAtTheirEnd.java",
            program: JAVA_MARK,
            head: "",
            own: ("System.exit(", "TestsAtTheirEnd.exit("),
        },
        reserve: 1 << 30,
        run: &["-ec", "exec java -Xmx192m \"$1\"", "sh", "{code}"],
        test: |_| (Framework::Script, &["-ec", JAVA_TESTS, "sh", "{tests}"]),
    },
    Row {
        name: "c",
        also: &[],
        tools: &["sh", "cc"],
        usual: ("solution.c", "test_solution.c"),
        more: None,
        join: Join::Line("#include \"{}.c\"\n"),
        mark: Mark::Around {
            file: "tests_at_their_end.c",
            program: C_MARK,
            head: "void exit_at_the_end(int);\n",
            own: ("exit(", "exit_at_the_end("),
        },
        reserve: 0,
        run: &["-ec", C_CODE, "sh", "{code}"],
        test: |_| (Framework::Script, &["-ec", C_TESTS, "sh", "{tests}"]),
    },
];

/// A language whose tools are there.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) row: &'static Row,
    program: String,
}

/// The languages whose tools are there.
pub(super) fn find(sandbox: &Sandbox) -> Vec<Found> {
    let found = |row: &'static Row| {
        let all = row.tools.iter().map(|t| sandbox.find(t)).collect::<Option<Vec<_>>>()?;
        Some(Found { row, program: all.into_iter().next()? })
    };
    LANGUAGES.iter().filter_map(found).collect()
}

/// What is run for a task.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) files: Vec<Written>,
    /// Absolute program, then its arguments.
    pub(super) arguments: Vec<String>,
    pub(super) framework: Framework,
    /// The word that is said once plain tests have come to their end; `None` = the end by itself has to do.
    pub(super) mark: Option<String>,
    pub(super) reserve: u64,
}

/// How a task is run.
///
/// # Errors
/// Why it cannot be: no such language, or odd files.
pub(super) fn plan(languages: &[Found], task: &Task) -> Result<Plan, String> {
    let asked = task.language.to_lowercase();
    let called = |f: &&Found| f.row.name == asked || f.row.also.contains(&asked.as_str());
    let Some(Found { row, program }) = languages.iter().find(called) else {
        let known: Vec<&str> = languages.iter().map(|f| f.row.name).collect();
        return Err(format!("no tools for `{asked}` here; there are those for {}", known.join(", ")));
    };
    let named = |file: &File, usual: &str| Written {
        name: file.name.clone().unwrap_or_else(|| usual.to_owned()),
        text: file.text.clone(),
    };
    let mut files: Vec<Written> = task.files.iter().map(|f| named(f, row.usual.0)).collect();
    let mut tests: Vec<Written> = task.tests.iter().map(|f| named(f, row.usual.1)).collect();
    let code = files.first().map(|f| f.name.clone()).ok_or("the task holds no code")?;
    let of_code = files.first().map(|f| f.text.clone()).unwrap_or_default();
    tests.iter_mut().for_each(|t| join(row, t, &code, &of_code));
    let all: Vec<String> = tests.iter().map(|t| t.name.clone()).collect();
    let first = all.first().cloned();
    let text: String = tests.iter().map(|t| t.text.as_str()).collect();
    let (framework, arguments) =
        if tests.is_empty() { (Framework::Script, row.run) } else { (row.test)(&text) };
    let first_tests = tests.first_mut().filter(|_| framework == Framework::Script);
    let mark = first_tests.and_then(|tests| {
        // No code names this word unless it means to.
        let hash = blake3::hash(format!("{of_code}\n{}", tests.text).as_bytes()).to_hex();
        let word = format!("tests-at-their-end-{}", hash.get(..16).unwrap_or_default());
        match row.mark {
            Mark::None => return None,
            Mark::Line(line) => put_mark(&mut tests.text, &line.replace("{}", &word)),
            Mark::Around { file, program, head, own: (exit, marked) } => {
                tests.text = format!("{head}{}", replace_word(&tests.text, exit, marked));
                files.push(Written { name: file.to_owned(), text: program.replace("{}", &word) });
            }
        }
        Some(word)
    });
    files.append(&mut tests);
    if let Some((name, text)) = row.more {
        let text = text.replace("{code}", &code).replace("{tests}", first.as_deref().unwrap_or_default());
        files.push(Written { name: name.to_owned(), text });
    }
    files::check(&files)?;
    let mut all_arguments = vec![program.clone()];
    for word in arguments {
        match *word {
            "{code}" => all_arguments.push(code.clone()),
            "{tests}" => all_arguments.extend(first.clone()),
            "{all}" => all_arguments.extend(all.iter().cloned()),
            word => all_arguments.push(word.to_owned()),
        }
    }
    Ok(Plan { files, arguments: all_arguments, framework, mark, reserve: row.reserve })
}

/// Puts a line behind tests; before their last line where they end the process with it themselves.
fn put_mark(tests: &mut String, line: &str) {
    const ENDS: &[&str] = &["exit", "sys.exit", "quit", "os._exit", "process.exit"];
    let text = tests.trim_end();
    let last = text.rfind('\n').map_or(0, |at| at.saturating_add(1));
    let (before, end) = text.split_at(last);
    let inner = end.trim_start();
    let indent = end.get(..end.len().saturating_sub(inner.len())).unwrap_or_default();
    let word = inner
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_'))
        .next()
        .unwrap_or_default();
    *tests = if ENDS.contains(&word) {
        format!("{before}{indent}{line}\n{end}\n")
    } else {
        format!("{text}\n{line}\n")
    };
}

/// Puts another word in the place of one that stands for itself.
fn replace_word(text: &str, word: &str, other: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, behind) = rest.split_at(at);
        let within = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        out.push_str(before);
        out.push_str(if within { word } else { other });
        rest = behind.get(word.len()..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Lets tests see the code that they do not name.
fn join(row: &Row, tests: &mut Written, code: &str, of_code: &str) {
    let stem = code.rsplit_once('.').map_or(code, |(stem, _)| stem);
    if tests.text.contains(stem) {
        return;
    }
    match row.join {
        Join::Not => {}
        Join::Line(line) => tests.text.insert_str(0, &line.replace("{}", &stem.replace('/', "."))),
        Join::Behind => tests.text.insert_str(0, &format!("{of_code}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::runner::Limits;

    fn found() -> Vec<Found> {
        LANGUAGES.iter().map(|row| Found { row, program: format!("/usr/bin/{}", row.tools[0]) }).collect()
    }

    fn task(language: &str, code: &str, tests: &[&str]) -> Task {
        let file = |text: &str| File { name: None, text: text.to_owned() };
        Task {
            language: language.to_owned(),
            files: vec![file(code)],
            tests: tests.iter().map(|t| file(t)).collect(),
            limits: Limits::default(),
        }
    }

    fn check(language: &str, tests: &[&str], framework: Framework, arguments: &str) {
        let plan = plan(&found(), &task(language, "code", tests)).unwrap();
        assert_eq!((plan.framework, plan.arguments.join(" ").as_str()), (framework, arguments), "{tests:?}");
    }

    #[test]
    fn the_command_follows_from_language_and_tests() {
        check("py", &[], Framework::Script, "/usr/bin/python3 -B solution.py");
        check("Python", &["assert f(1)"], Framework::Script, "/usr/bin/python3 -B test_solution.py");
        check(
            "python",
            &["import unittest"],
            Framework::Unittest,
            "/usr/bin/python3 -B -m unittest -v test_solution.py",
        );
        check(
            "python",
            &["def test_f(): pass"],
            Framework::Pytest,
            "/usr/bin/python3 -B -m pytest -rf -p no:cacheprovider test_solution.py",
        );
        check("js", &["assert(f())"], Framework::Script, "/usr/bin/node solution.test.js");
        check(
            "js",
            &["require('node:test')"],
            Framework::NodeTest,
            "/usr/bin/node --test-reporter=tap solution.test.js",
        );
        check("go", &["package solution"], Framework::GoTest, "/usr/bin/go test -v ./...");
    }

    #[test]
    fn tests_that_do_not_name_the_code_see_it_all_the_same() {
        let second = |language: &str, tests: &str| {
            plan(&found(), &task(language, "CODE", &[tests])).unwrap().files[1].text.clone()
        };
        let begins = |language: &str, tests: &str, want: &str| {
            let got = second(language, tests);
            assert!(got.starts_with(want), "{got}");
        };
        begins("python", "assert f()", "from solution import *\nassert f()\n");
        begins("python", "from solution import f", "from solution import f\n");
        begins("javascript", "assert(f())", "CODE\nassert(f())\n");
        begins("bash", "f", ". ./solution.sh\nf\n");
        let rust = plan(&found(), &task("rust", "fn f() {}", &["#[test] fn t() {}"])).unwrap();
        assert_eq!(rust.files[2].text, "include!(\"solution.rs\");\ninclude!(\"tests.rs\");\n");
    }

    #[test]
    fn plain_tests_say_that_they_came_to_their_end() {
        let check = |tests: &str, want: &str| {
            let mut text = tests.to_owned();
            put_mark(&mut text, "MARK");
            assert_eq!(text, want);
        };
        check("assert f()", "assert f()\nMARK\n");
        check("[ 1 = 1 ]\nexit 0\n\n", "[ 1 = 1 ]\nMARK\nexit 0\n");
        check("if x:\n  sys.exit(main())", "if x:\n  MARK\n  sys.exit(main())\n");
        check("exited = 1", "exited = 1\nMARK\n");
        let mark =
            |language: &str, tests: &[&str]| plan(&found(), &task(language, "CODE", tests)).unwrap().mark;
        assert_eq!(
            replace_word("exit(1); _exit(2); at_exit(3)", "exit(", "e("),
            "e(1); _exit(2); at_exit(3)"
        );
        for language in ["python", "javascript", "bash", "java", "c"] {
            assert!(mark(language, &["f()"]).is_some() && mark(language, &[]).is_none(), "{language}");
        }
        assert!(mark("python", &["import unittest"]).is_none(), "it counts its tests itself");
    }

    #[test]
    fn odd_tasks_are_refused() {
        let refused = |task: &Task| plan(&found(), task).unwrap_err();
        assert!(
            refused(&task("cobol", "x", &[]))
                .contains("no tools for `cobol` here; there are those for python")
        );
        let mut odd = task("python", "x", &[]);
        odd.files[0].name = Some("--version".into());
        assert!(refused(&odd).contains("cannot be named `--version`"));
        odd.files.clear();
        assert!(refused(&odd).contains("no code"));
        assert!(refused(&task("python", "x", &["a", "b"])).contains("two files"));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> =
            LANGUAGES.iter().flat_map(|r| r.also.iter().copied().chain([r.name])).collect();
        let before = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), before);
    }
}
