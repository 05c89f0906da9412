//! Languages and the labels by which answers name them.

use tree_sitter::Language as Grammar;

/// A language that can be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Language {
    Python,
    JavaScript,
    TypeScript,
    Tsx,
    Rust,
    Go,
    Java,
    C,
    Cpp,
    Bash,
    Json,
    Yaml,
    Html,
    Css,
    Sql,
}

/// What a label says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// A language with a parser here.
    Known(Language),
    /// The transcript of an interactive session of this language.
    Session(Language),
    /// Text, output, drawings: nothing that could be parsed.
    NoCode,
    /// A language without a parser here.
    Foreign(String),
    /// Nothing is said.
    Absent,
}

/// Languages with the names that answers use for them; the first is the name in messages.
const NAMES: &[(Language, &[&str])] = &[
    (Language::Python, &["python", "py", "python3", "py3", "python2", "ipython", "gyp", "wsgi", "pyi"]),
    (Language::JavaScript, &["javascript", "js", "jsx", "mjs", "cjs", "node", "nodejs", "ecmascript", "es6"]),
    (Language::TypeScript, &["typescript", "ts", "mts", "cts"]),
    (Language::Tsx, &["tsx"]),
    (Language::Rust, &["rust", "rs"]),
    (Language::Go, &["go", "golang"]),
    (Language::Java, &["java"]),
    (Language::C, &["c", "h"]),
    (Language::Cpp, &["cpp", "c++", "cc", "cxx", "hpp", "hxx", "hh", "h++", "ino", "arduino"]),
    (Language::Bash, &["bash", "sh", "shell", "zsh", "ksh", "dash", "shellscript"]),
    (Language::Json, &["json", "jsonc", "json5", "jsonl", "ndjson", "geojson", "webmanifest"]),
    (Language::Yaml, &["yaml", "yml"]),
    (Language::Html, &["html", "htm", "xhtml", "html5"]),
    (Language::Css, &["css"]),
    (
        Language::Sql,
        &[
            "sql",
            "mysql",
            "mariadb",
            "postgresql",
            "postgres",
            "pgsql",
            "psql",
            "sqlite",
            "sqlite3",
            "tsql",
            "t-sql",
            "mssql",
            "plsql",
            "oracle",
            "bigquery",
            "snowflake",
            "redshift",
            "duckdb",
            "spark-sql",
            "hive",
            "clickhouse",
        ],
    ),
];

/// Labels of blocks that hold no code.
const NO_CODE: &[&str] = &[
    "text",
    "txt",
    "plain",
    "plaintext",
    "plain-text",
    "output",
    "stdout",
    "stderr",
    "out",
    "log",
    "logs",
    "console",
    "terminal",
    "shell-session",
    "shellsession",
    "sh-session",
    "bash-session",
    "session",
    "none",
    "nohighlight",
    "markdown",
    "md",
    "mdx",
    "mermaid",
    "diff",
    "patch",
    "udiff",
    "csv",
    "tsv",
    "http",
    "ascii",
    "tree",
    "math",
    "latex",
    "tex",
    "bibtex",
    "regex",
    "email",
    "example",
    "pseudocode",
    "pseudo",
    "algorithm",
    "plantuml",
    "dot",
    "graphviz",
    "svgbob",
    "error",
    "traceback",
    "prompt",
    "table",
    "ebnf",
    "bnf",
    "abc",
    "gitignore",
    "gitcommit",
];

impl Language {
    /// The name in messages and parameters.
    pub(crate) fn name(self) -> &'static str {
        NAMES.iter().find(|(l, _)| *l == self).and_then(|(_, names)| names.first()).copied().unwrap_or("")
    }

    /// Every name in messages and parameters.
    pub(crate) fn names() -> Vec<&'static str> {
        NAMES.iter().filter_map(|(_, names)| names.first()).copied().collect()
    }

    /// The language of that name or alias, in small letters.
    pub(crate) fn parse(name: &str) -> Option<Language> {
        NAMES.iter().find(|(_, names)| names.contains(&name)).map(|(l, _)| *l)
    }

    /// Its grammar; JSON with comments, but not SQL and YAML, whose parsers are others.
    pub(crate) fn grammar(self) -> Option<Grammar> {
        Some(match self {
            Language::Python => tree_sitter_python::LANGUAGE.into(),
            Language::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
            Language::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
            Language::Tsx => tree_sitter_typescript::LANGUAGE_TSX.into(),
            Language::Rust => tree_sitter_rust::LANGUAGE.into(),
            Language::Go => tree_sitter_go::LANGUAGE.into(),
            Language::Java => tree_sitter_java::LANGUAGE.into(),
            Language::C => tree_sitter_c::LANGUAGE.into(),
            Language::Cpp => tree_sitter_cpp::LANGUAGE.into(),
            Language::Bash => tree_sitter_bash::LANGUAGE.into(),
            Language::Json => tree_sitter_json::LANGUAGE.into(),
            Language::Html => tree_sitter_html::LANGUAGE.into(),
            Language::Css => tree_sitter_css::LANGUAGE.into(),
            Language::Yaml | Language::Sql => return None,
        })
    }
}

/// What the info string behind a fence says: ```` ```python title="a.py" ````, ```` ```{.js} ````,
/// ```` ```src/main.rs ````.
pub(crate) fn label(info: &str) -> Label {
    let word = info.trim().trim_start_matches(['{', '.']);
    let word =
        word.split(|c: char| c.is_whitespace() || matches!(c, ',' | '{' | '}' | ';')).next().unwrap_or("");
    let word = word.to_lowercase();
    if word.is_empty() {
        return Label::Absent;
    }
    let base = word.split(':').next().unwrap_or("");
    for name in [word.as_str(), base] {
        if matches!(name, "pycon" | "python-repl" | "pythonrepl" | "py-repl") {
            return Label::Session(Language::Python);
        }
        if let Some(l) = Language::parse(name) {
            return Label::Known(l);
        }
        if NO_CODE.contains(&name) {
            return Label::NoCode;
        }
    }
    // A path names its language by its ending.
    let ending = word.rsplit_once('.').map(|(_, e)| e);
    if let Some(l) = ending.and_then(Language::parse) {
        return Label::Known(l);
    }
    if ending.is_some_and(|e| NO_CODE.contains(&e)) {
        return Label::NoCode;
    }
    Label::Foreign(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read() {
        let check = |info: &str, want: Label| assert_eq!(label(info), want, "{info}");
        check("", Label::Absent);
        check("python", Label::Known(Language::Python));
        check("Python3 title=\"a\"", Label::Known(Language::Python));
        check("{.js .numberLines}", Label::Known(Language::JavaScript));
        check("rust,ignore", Label::Known(Language::Rust));
        check("ts:src/app.ts", Label::Known(Language::TypeScript));
        check("src/main.rs", Label::Known(Language::Rust));
        check("C++", Label::Known(Language::Cpp));
        check("mysql", Label::Known(Language::Sql));
        check("pycon", Label::Session(Language::Python));
        check("text", Label::NoCode);
        check("notes.md", Label::NoCode);
        check("php", Label::Foreign("php".into()));
    }

    #[test]
    fn names_are_listed_once_and_every_grammar_loads() {
        let mut all: Vec<&str> =
            NAMES.iter().flat_map(|(_, n)| n.iter().copied()).chain(NO_CODE.iter().copied()).collect();
        let n = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), n);
        for (l, _) in NAMES {
            if let Some(g) = l.grammar() {
                tree_sitter::Parser::new().set_language(&g).unwrap();
            }
        }
    }
}
