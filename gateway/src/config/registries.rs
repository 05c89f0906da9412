//! The small matrices that tests of policies name, each a file of its own.

use super::sources::REGISTRIES;
use policies::Registries;
use types::Diagnostic;
use types::doc::{SourceFile, Span};

/// Most of them: the policies are read again under each.
const MAX: usize = 32;

/// Reads them; all problems of all files. A provider needs no key and no address that can be reached: nobody is called.
#[must_use]
pub fn registries(files: &[SourceFile]) -> (Registries, Vec<Diagnostic>) {
    let (mut all, mut problems) = (Registries::new(), Vec::new());
    if let Some(file) = files.get(MAX) {
        let start = Span { line: 1, column: 1, ..Span::default() };
        let text = format!("there are {} registries in {REGISTRIES}", files.len());
        problems.push(Diagnostic::error("PL104", file, start, text).expected(format!("at most {MAX}")));
    }
    for file in files.iter().take(MAX) {
        let (matrix, found) = providers::matrix::load(std::slice::from_ref(file), &|_| None, None);
        problems.extend(found);
        all.insert(file.stem().to_owned(), matrix);
    }
    (all, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_read_than_can_be_gone_through() {
        let file = |i: usize| {
            let text = "version: 1\nproviders: { a: { dialect: simulated, tier: free } }\nmodels: {}\n";
            SourceFile::new(format!("policies/tests/registries/r{i:02}.yaml"), text)
        };
        let files: Vec<SourceFile> = (0..=MAX).map(file).collect();
        let (all, problems) = registries(&files);
        assert_eq!(all.len(), MAX);
        assert_eq!(
            problems.iter().map(|d| (&*d.code, &*d.file)).collect::<Vec<_>>(),
            [("PL104", &*files[MAX].path)]
        );
        let (all, problems) = registries(&files[..MAX]);
        assert!(problems.is_empty() && all.contains_key("r31"), "{problems:?}");
    }
}
