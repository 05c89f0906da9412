//! Guessing the language of code that no label names.

use super::language::Language;
use regex::{Regex, RegexSet};
use std::sync::LazyLock;

/// What the signs say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guess {
    /// Two signs or one that nothing else has: an error in it may be told.
    Sure(Language),
    /// One sign: only what parses counts.
    Perhaps(Language),
    /// No sign of any language here.
    Unknown,
}

/// Signs of languages with their worth; two make a guess sure.
const SIGNS: &[(Language, usize, &str)] = &[
    (Language::Python, 2, r"(?m)^[ \t]*(?:async )?def \w+\(.*\).*:\s*(?:#.*)?$"),
    (Language::Python, 2, r"(?m)^[ \t]*class \w+(?:\([\w., =]*\))?:\s*$"),
    (Language::Python, 1, r"(?m)^(?:from [\w.]+ import |import \w+(?:\.\w+)*(?: as \w+)?\s*$)"),
    (Language::Python, 1, r"(?m)^[ \t]*(?:if|for|while|elif|with|try|except|else)\b.*:\s*$"),
    (Language::Python, 2, r"(?m)^>>> "),
    (Language::Python, 1, r#"(?m)^[ \t]*print\(.*\)\s*$"#),
    (Language::JavaScript, 1, r"(?m)^[ \t]*(?:const|let|var) [\w{\[].*[=;]"),
    (Language::JavaScript, 1, r"(?m)\bfunction\s*\w*\s*\([^)\n]*\)\s*\{|=>\s*[{(\w]"),
    (
        Language::JavaScript,
        1,
        r"\bconsole\.(?:log|error|warn)\(|\bdocument\.\w+|\brequire\(['\x22]|\bmodule\.exports\b",
    ),
    (Language::JavaScript, 1, r#"(?m)^import .* from ['"]|^export (?:default |const |function )"#),
    (Language::TypeScript, 2, r"(?m)^[ \t]*(?:export )?(?:interface|type) \w+(?:<[^>\n]*>)?\s*[={]"),
    (
        Language::TypeScript,
        2,
        r"(?m)\b(?:const|let|function)\b[^=\n]*:\s*(?:string|number|boolean|void|Promise<)",
    ),
    (Language::Rust, 2, r"(?m)^[ \t]*(?:pub(?:\([a-z]+\))? )?(?:async )?fn \w+(?:<[^>\n]*>)?\("),
    (Language::Rust, 1, r"\blet mut |\bprintln!\(|\bimpl(?:<[^>\n]*>)? \w+|(?m)^use (?:std|crate|super)::"),
    (Language::Go, 2, r"(?m)^package \w+\s*$"),
    (Language::Go, 2, r"(?m)^func (?:\(\w+ \*?\w+\) )?\w+\("),
    (Language::Go, 1, r"\bfmt\.\w+\(|:= "),
    (
        Language::Java,
        2,
        r"\bpublic (?:static |final |abstract )*(?:class|interface|enum|void|int|String)\b[^;\n]*\{",
    ),
    (Language::Java, 1, r"\bSystem\.out\.print|(?m)^import java[x]?\."),
    (Language::Cpp, 2, r"(?m)^\s*#include\s*<(?:iostream|vector|string|map|memory|algorithm)>|\bstd::\w+"),
    (Language::C, 2, r#"(?m)^\s*#include\s*[<"]\w+(?:/\w+)*\.h[>"]"#),
    (Language::C, 1, r"(?m)^int main\s*\("),
    (Language::Bash, 2, r"^#!.*\b(?:ba|z|k|da)?sh\b"),
    (
        Language::Bash,
        1,
        r"(?m)^(?:sudo |apt(?:-get)? |pip3? |npm |yarn |git |docker |kubectl |cargo |brew |curl |cd |mkdir |export \w+=|source |chmod )",
    ),
    (Language::Bash, 1, r"(?m)^\$ \w|;\s*then\s*$|^\s*(?:fi|done|esac)\s*$"),
    (
        Language::Sql,
        2,
        r"(?im)^\s*(?:select\b[\s\S]*?\bfrom\b|insert into \w|create (?:table|index|view) |update \w+\s+set |delete from \w|alter table )",
    ),
    (
        Language::Html,
        2,
        r"(?i)^\s*<!doctype html|^\s*<(?:html|head|body|div|form|table|ul|nav|section|svg)\b",
    ),
    (Language::Css, 2, r"(?m)^\s*[.#@]?[\w-]+(?:[ ,>:.#\w()-]*)\{\s*\n?\s*[a-z-]+\s*:\s*[^;{}\n]+;"),
    (Language::Json, 2, r#"^\s*\{\s*"[^"\n]*"\s*:|^\s*\[\s*(?:\{\s*"|\[|"[^"\n]*"\s*[,\]]|-?\d+\s*[,\]])"#),
    (Language::Yaml, 1, r"^---\s*\n|(?m)^(?:apiVersion|version|services|name|on|jobs|kind):\s"),
    (Language::Yaml, 1, r"(?m)^\s*- \w[\w-]*:\s|^\w[\w-]*:\s*\n\s+(?:- |\w[\w-]*:)"),
];

static SET: LazyLock<Option<RegexSet>> =
    LazyLock::new(|| RegexSet::new(SIGNS.iter().map(|(_, _, p)| *p)).ok());
static DRAWING: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[├└│┌┐─┬╔═║]|(?m)^\s*\+-{2,}").ok());
/// How far into the code signs are looked for, in bytes.
const LOOK: usize = 16 * 1024;

/// The language that the code looks like.
pub(crate) fn detect(code: &str) -> Guess {
    let mut end = LOOK.min(code.len());
    while !code.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let head = code.get(..end).unwrap_or(code);
    if DRAWING.as_ref().is_some_and(|d| d.is_match(head)) {
        return Guess::Unknown;
    }
    let Some(set) = SET.as_ref() else { return Guess::Unknown };
    let mut scores: Vec<(Language, usize)> = Vec::new();
    for (language, worth, _) in set.matches(head).into_iter().filter_map(|i| SIGNS.get(i)) {
        match scores.iter_mut().find(|(l, _)| l == language) {
            Some((_, n)) => *n = n.saturating_add(*worth),
            None => scores.push((*language, *worth)),
        }
    }
    // TypeScript is JavaScript with more, C++ is C with more.
    inherit(&mut scores, Language::TypeScript, Language::JavaScript);
    inherit(&mut scores, Language::Cpp, Language::C);
    // Members of types look like declarations of style.
    if scores.len() > 1 {
        scores.retain(|(l, _)| *l != Language::Css);
    }
    scores.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    match scores.as_slice() {
        [] => Guess::Unknown,
        [(l, n)] if *n >= 2 => Guess::Sure(*l),
        [(l, n), (_, m), ..] if *n >= 2 && *n > m.saturating_add(1) => Guess::Sure(*l),
        [(l, n), (_, m), ..] if n > m => Guess::Perhaps(*l),
        [(l, _)] => Guess::Perhaps(*l),
        _ => Guess::Unknown,
    }
}

fn inherit(scores: &mut Vec<(Language, usize)>, heir: Language, from: Language) {
    let Some(at) = scores.iter().position(|(l, _)| *l == from) else { return };
    if scores.iter().any(|(l, _)| *l == heir) {
        let (_, n) = scores.remove(at);
        if let Some((_, m)) = scores.iter_mut().find(|(l, _)| *l == heir) {
            *m = m.saturating_add(n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, want: Guess) {
        assert_eq!(detect(code), want, "{code:?}");
    }

    #[test]
    fn patterns_compile() {
        assert!(SET.is_some() && DRAWING.is_some());
    }

    #[test]
    fn languages_are_recognised_by_their_signs() {
        use Guess::{Perhaps, Sure, Unknown};
        check("def f(x):\n    return x\n", Sure(Language::Python));
        check("import os\nprint(os.name)\n", Sure(Language::Python));
        check("const a = 1;\nconsole.log(a);", Sure(Language::JavaScript));
        check("interface A {\n  b: string;\n}", Sure(Language::TypeScript));
        check("fn main() {\n    println!(\"x\");\n}", Sure(Language::Rust));
        check("package main\n\nimport \"fmt\"\n", Sure(Language::Go));
        check("public class A {\n}", Sure(Language::Java));
        check("#include <stdio.h>\nint main(void) { return 0; }", Sure(Language::C));
        check("#include <iostream>\nint main() { std::cout << 1; }", Sure(Language::Cpp));
        check("#!/bin/bash\necho hi", Sure(Language::Bash));
        check("git clone x\ncd x\n", Perhaps(Language::Bash));
        check("SELECT a\nFROM b", Sure(Language::Sql));
        check("<!DOCTYPE html>\n<html></html>", Sure(Language::Html));
        check("body {\n  color: red;\n}", Sure(Language::Css));
        check("{\"a\": 1}", Sure(Language::Json));
        check("a\n├── b\n└── c", Unknown);
        check("Hello there, this is output: 3", Unknown);
        check("x + y = 3", Unknown);
        check("", Unknown);
    }
}
