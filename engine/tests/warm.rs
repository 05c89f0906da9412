//! What rules need and what takes long to make is there before their first request. Alone in its process: whatever else
//! looks for personal data makes the same patterns.

use engine::{Bundle, Files};
use std::sync::Arc;
use types::doc::SourceFile;
use types::matrix::Matrix;

/// Whether the patterns are there once these rules are loaded.
fn check(rules: &str, want: bool) {
    let files = Files { ..Files::new(SourceFile::new("routing_rules.yaml", format!("version: 1\n{rules}"))) };
    let (bundle, problems) = Bundle::load(Arc::new(Matrix::default()), &files);
    assert!(bundle.is_some(), "{problems:?}");
    assert_eq!(workflows::detector_is_ready(), want, "{rules}");
}

#[test]
fn the_patterns_of_secrets_are_made_with_the_rules_that_look_for_them() {
    check("rules: []\n", false);
    check("rules:\n  - { id: a, when: request.stream, actions: { deny: no } }\n", false);
    check("rules:\n  - { id: a, when: input.secrets, actions: { deny: no } }\n", true);
}
