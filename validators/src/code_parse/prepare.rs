//! Making a snippet of an answer into something a parser can be asked about: indentation, prompts,
//! placeholders and omissions, with places kept.

use super::language::Language;
use regex::Regex;
use std::ops::Range;
use std::sync::LazyLock;

/// Code without its common indentation, and where each of its lines comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snippet {
    /// The code.
    pub(crate) code: String,
    /// Characters taken from the beginning of every line.
    pub(crate) indent: usize,
}

/// Takes the indentation away that all lines share.
pub(crate) fn dedent(text: &str) -> Snippet {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = || text.split_inclusive('\n');
    let width = |l: &str| l.len().saturating_sub(l.trim_start_matches([' ', '\t']).len());
    let indent = lines().filter(|l| !l.trim().is_empty()).map(width).min().unwrap_or(0);
    let code = lines().map(|l| l.get(indent.min(width(l))..).unwrap_or("")).collect();
    Snippet { code, indent }
}

struct Patterns {
    prompt: Regex,
    placeholder: Regex,
    elision: Regex,
    magic: Regex,
    template: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        prompt: Regex::new(r"(?m)^(?:\([\w.-]+\)\s*)?(?:[\w.-]+@[\w.-]+[^\n$#]{0,80})?[$%#❯➜]\s+(?P<c>\S)").ok()?,
        placeholder: Regex::new(r"<[A-Za-z][A-Za-z0-9_ ./:-]{0,60}>|\[[A-Z][A-Z0-9_ -]{2,60}\]").ok()?,
        elision: Regex::new(r"(?m)^[ \t]*(?:\.\.\.|…)[,;]?[ \t]*$|[{(\[,][ \t]*(?:\.\.\.|…)[ \t]*(?P<c>[})\],]|$)|=[ \t]*(?:\.\.\.|…)[ \t]*;?[ \t]*$|…").ok()?,
        magic: Regex::new(r"(?m)^[ \t]*(?:[%!][^\n]*|[\w.]+\?{1,2}[ \t]*)$").ok()?,
        template: Regex::new(r"\{\{|\{%|<\?php|<%|\$\{\{").ok()?,
    })
});

fn patterns() -> Option<&'static Patterns> {
    PATTERNS.as_ref()
}

/// Blanks of the same length, line breaks kept.
fn blank(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c == '\n' { "\n".chars().collect() } else { vec![' '; c.len_utf8()] })
        .collect()
}

/// Only the input of an interactive session: lines behind `>>>` and `...`, or behind a shell's `$`. `None`
/// if the code is none.
pub(crate) fn session(language: Language, code: &str) -> Option<String> {
    match language {
        Language::Python if code.trim_start().starts_with(">>>") => Some(python_session(code)),
        Language::Bash => shell_session(code),
        _ => None,
    }
}

fn python_session(code: &str) -> String {
    // Statements of a session need no blank line between them, their bodies end at the next prompt.
    code.split_inclusive('\n')
        .map(|line| match line.strip_prefix(">>>").or_else(|| line.strip_prefix("...")) {
            Some(rest) => {
                format!("{}{}", rest.strip_prefix(' ').unwrap_or(rest).trim_end_matches('\n'), "\n")
            }
            None => blank(line),
        })
        .collect()
}

/// Lines behind a prompt are input, and so are those that a backslash continues; the rest is output. `#`
/// alone opens a comment, so that at least one line must have another prompt.
fn shell_session(code: &str) -> Option<String> {
    let prompt = &patterns()?.prompt;
    let prompted = |l: &str| prompt.captures(l).and_then(|c| c.name("c")).map(|m| m.start());
    let any = code.lines().any(|l| !l.starts_with('#') && prompted(l).is_some());
    if !any {
        return None;
    }
    let mut goes_on = false;
    let lines = code.split_inclusive('\n').map(|line| {
        let start = prompted(line).filter(|_| !goes_on);
        let input = goes_on || start.is_some();
        let kept = start.map_or_else(
            || if input { line.to_owned() } else { blank(line) },
            |at| format!("{}{}", " ".repeat(at), line.get(at..).unwrap_or("")),
        );
        goes_on = input && line.trim_end().ends_with('\\');
        kept
    });
    Some(lines.collect())
}

/// Lines of notebooks that are no Python: `%matplotlib inline`, `!pip install x`, `help?`.
pub(crate) fn without_magic(code: &str) -> Option<String> {
    replaced(&patterns()?.magic, code, blank)
}

/// Things to be filled in (`<your-name>`, `[API KEY]`) as plain words of the same length.
pub(crate) fn filled_in(code: &str) -> Option<String> {
    replaced(&patterns()?.placeholder, code, |m| "x".repeat(m.len()))
}

/// The code with omissions (`...`) blanked; `None` if it has none.
pub(crate) fn without_elisions(code: &str) -> Option<String> {
    let elision = &patterns()?.elision;
    replaced(elision, code, |m| {
        let inner: String = m
            .chars()
            .flat_map(|c| match c {
                '.' => vec![' '],
                '…' => vec![' '; 3],
                c => vec![c],
            })
            .collect();
        inner
    })
}

/// Whether the text has the marks of a template language, which fills it in before anyone parses it.
pub(crate) fn is_template(code: &str) -> bool {
    patterns().is_some_and(|p| p.template.is_match(code))
}

/// Whether the word before a place, at it or behind it is written like a macro, which may stand for anything.
pub(crate) fn near_macro(code: &str, span: &Range<usize>) -> bool {
    let before = code.get(..span.start).unwrap_or("");
    let from = code.get(span.start..).unwrap_or("");
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let last = before.rsplit(|c| !word(c)).find(|w| !w.is_empty());
    // A macro with arguments has them between its name and the place.
    let called = before.trim_end().strip_suffix(')').and_then(|b| b.rfind('(').and_then(|i| b.get(..i)));
    let name = called.and_then(|b| b.rsplit(|c| !word(c)).find(|w| !w.is_empty()));
    let mut next = from.split(|c| !word(c)).filter(|w| !w.is_empty());
    let line = before.rsplit('\n').next().unwrap_or("");
    let directive = line.trim_start().starts_with('#') || from.trim_start().starts_with('#');
    directive || [last, name, next.next(), next.next()].into_iter().flatten().any(is_macro)
}

fn is_macro(word: &str) -> bool {
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    word.starts_with("__") || letters >= 2 && !word.bytes().any(|b| b.is_ascii_lowercase())
}

/// Whether every bracket outside of quotes and comments is closed.
pub(crate) fn is_balanced(code: &str) -> bool {
    let mut open = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'*') => {
                let mut last = ' ';
                let closed =
                    chars.by_ref().skip(1).any(|c| std::mem::replace(&mut last, c) == '*' && c == '/');
                if !closed {
                    return false;
                }
            }
            '"' | '\'' => {
                let mut escaped = false;
                let closed = chars.by_ref().any(|d| {
                    let ends = d == c && !escaped;
                    escaped = d == '\\' && !escaped;
                    ends
                });
                if !closed {
                    return false;
                }
            }
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(c) => return false,
            _ => {}
        }
    }
    open.is_empty()
}

fn replaced(pattern: &Regex, code: &str, with: impl Fn(&str) -> String) -> Option<String> {
    let mut any = false;
    let out = pattern.replace_all(code, |c: &regex::Captures<'_>| {
        any = true;
        c.get(0).map_or_else(String::new, |m| with(m.as_str()))
    });
    any.then(|| out.into_owned())
}

/// Where a byte range of the dedented code lies in the answer: line by line, since the fence may stand in a
/// list or a quote.
pub(crate) fn place(
    answer: &str,
    body: &Range<usize>,
    snippet: &Snippet,
    span: &Range<usize>,
) -> Range<usize> {
    let raw = answer.get(body.clone()).unwrap_or("");
    let at = |offset: usize| {
        let before = snippet.code.get(..offset).unwrap_or(&snippet.code);
        let line = before.matches('\n').count();
        let start = before.rfind('\n').map_or(0, |i| i.saturating_add(1));
        let column = before.len().saturating_sub(start);
        let content = snippet.code.get(start..).and_then(|r| r.lines().next()).unwrap_or("");
        let mut raw_start = 0_usize;
        let mut raw_line = "";
        for (i, l) in raw.split_inclusive('\n').enumerate() {
            raw_line = l;
            if i == line {
                break;
            }
            raw_start = raw_start.saturating_add(l.len());
            raw_line = "";
        }
        let found = raw_line.find(content).unwrap_or(0);
        body.start.saturating_add(raw_start).saturating_add(found).saturating_add(column).min(body.end)
    };
    let (start, end) = (at(span.start), at(span.end));
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_indentation_goes() {
        let check = |text: &str, code: &str, indent: usize| {
            assert_eq!(dedent(text), Snippet { code: code.to_owned(), indent }, "{text:?}");
        };
        check("    a\n\n      b\n", "a\n\n  b\n", 4);
        check("a\n  b", "a\n  b", 0);
        check("\tx\n\ty\n", "x\ny\n", 1);
        check("  \n  a", "\na", 2);
        check("", "", 0);
    }

    #[test]
    fn sessions_keep_their_input() {
        let check = |l: Language, code: &str, want: Option<&str>| {
            assert_eq!(session(l, code).as_deref(), want, "{code:?}");
        };
        check(Language::Python, ">>> x = 1\n>>> x\n1\n", Some("x = 1\nx\n \n"));
        check(Language::Python, "x = 1", None);
        check(Language::Bash, "$ ls -l\ntotal 0\n", Some("  ls -l\n       \n"));
        check(Language::Bash, "$ a \\\n  b\nout\n", Some("  a \\\n  b\n   \n"));
        check(Language::Bash, "# comment\nls\n", None);
        check(Language::Bash, "user@host:~$ ls\n", Some("             ls\n"));
        check(Language::Bash, "echo $HOME\n", None);
    }

    #[test]
    fn replacements_keep_lengths() {
        for (f, text, want) in [
            (without_magic as fn(&str) -> Option<String>, "%time x\ny\n", Some("       \ny\n")),
            (filled_in, "cp <your file> b", Some("cp xxxxxxxxxxx b")),
            (filled_in, "a < b > c", None),
            (without_elisions, "a\n  ...\nb", Some("a\n     \nb")),
            (without_elisions, "f() { ... }", Some("f() {     }")),
            (without_elisions, "[1, 2, …]", Some("[1, 2,    ]")),
            (without_elisions, "f(...args)", None),
            (without_elisions, "\"Loading...\"", None),
        ] {
            let got = f(text);
            assert_eq!(got.as_deref(), want, "{text:?}");
            assert!(got.is_none_or(|g| g.len() == text.len()), "{text:?}");
        }
    }

    #[test]
    fn macros_and_balance_are_seen() {
        let near = |code: &str, at: &str, want: bool| {
            let i = code.find(at).unwrap();
            assert_eq!(near_macro(code, &(i..i + at.len())), want, "{code}");
        };
        near("static INLINE int f();", "int", true);
        near("FOREACH(x, y) {", "{", true);
        near("int f(int a) {", "{", false);
        near("for (i = 0; i < MAX; i++ {", "{", false);
        for (code, want) in [
            ("a { b: url(\"x)\") }", true),
            ("a { /* } */ }", true),
            ("a { b: c", false),
            ("a { b: c) }", false),
            ("a \"", false),
            ("/*", false),
        ] {
            assert_eq!(is_balanced(code), want, "{code}");
        }
    }

    #[test]
    fn places_lead_back_into_the_answer() {
        let answer = "- x\n\n      ```py\n        a = (\n      ```\n";
        let body = answer.find("  a = (").unwrap() - 6..answer.rfind("      ```").unwrap();
        let snippet = dedent("  a = (\n");
        let at = snippet.code.find('(').unwrap();
        let got = place(answer, &body, &snippet, &(at..at + 1));
        assert_eq!(&answer[got], "(");
    }
}
