//! Files of a configuration that are there and say nothing.
//!
//! What is built in gives way to a file that is there: rules that somebody emptied by mistake are gone, and nothing in
//! the file is wrong.

use super::sources::Sources;
use types::Diagnostic;
use types::doc::{SourceFile, Span};

/// A warning for each file of models or rules that holds nothing, or nothing but comments, and of which no other problem is
/// told.
pub(super) fn find(sources: &Sources, problems: &[Diagnostic]) -> Vec<Diagnostic> {
    // An empty file of a tenant is refused by who reads it.
    let files = sources.matrix.iter().chain(std::iter::once(&sources.rules));
    let hollow = files.filter(|f| says_nothing(&f.text) && problems.iter().all(|d| d.file != f.path));
    hollow.map(told).collect()
}

fn says_nothing(text: &str) -> bool {
    text.lines().map(str::trim).all(|l| l.is_empty() || l.starts_with('#') || l == "---" || l == "\u{feff}")
}

fn told(file: &SourceFile) -> Diagnostic {
    let at = Span { line: 1, column: 1, ..Span::default() };
    Diagnostic::warning("TS013", file, at, "the file holds nothing, and what it held is not in force")
        .expected("`version: 1` and what it is there for")
        .hint("remove the file if nothing is to stand in it")
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, Simulated, Source, load};

    #[test]
    fn a_file_that_says_nothing_is_told_of() {
        let found = |path: &str, text: &str| {
            let source = Source::Given(vec![(path.to_owned(), text.to_owned())]);
            let loaded = load(&source, &Environment::default(), Simulated::Only);
            let told = loaded.problems.iter().filter(|d| d.code == "TS013");
            told.map(|d| (d.file.clone(), d.severity)).collect::<Vec<_>>()
        };
        let path = "routing_rules.yaml";
        let warned = |path: &str| vec![(path.to_owned(), types::Severity::Warning)];
        for text in ["", "\n \n", "---\n# rules:\n#   - id: a\n"] {
            assert_eq!(found(path, text), warned(path), "{text:?}");
        }
        assert_eq!(found(path, "version: 1\n"), []);
        assert_eq!(found("matrix.d/local.yaml", "# nothing yet\n"), warned("matrix.d/local.yaml"));
    }
}
