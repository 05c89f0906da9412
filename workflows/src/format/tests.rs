//! Layout, comments, order, and that nothing else changes.

use super::*;
use proptest::prelude::*;

fn check(text: &str, want: &str) {
    let got = format(&SourceFile::new("w.yaml", text)).unwrap_or_else(|d| panic!("{d}\n{text}"));
    assert_eq!(got, want, "of:\n{text}");
    let again = format(&SourceFile::new("w.yaml", got.as_str())).unwrap();
    assert_eq!(again, got, "twice");
}

#[test]
fn levels_are_two_spaces_and_lists_stand_within_their_key() {
    check(
        "nodes:\n- id: a\n  type: generate\n-   id: b\n    retry:\n        backoff:\n            max: 2s\n",
        "nodes:\n  - id: a\n    type: generate\n  - id: b\n    retry:\n      backoff:\n        max: 2s\n",
    );
    check("a:\n    - - x\n      - y\n    - z\n", "a:\n  - - x\n    - y\n  - z\n");
    check("a:\n-\n  b: 1\n", "a:\n  -\n    b: 1\n");
}

#[test]
fn one_space_where_one_is_enough() {
    check("a:   {b:  1,c: [ x,y , z ]}   \n", "a: { b: 1, c: [x, y, z] }\n");
    check("a: {}\nb: [ ]\n", "a: {}\nb: []\n");
    check("a: \"{ x,y }\"\nb: say ${ f(a,  b) } twice\n", "a: \"{ x,y }\"\nb: say ${ f(a,  b) } twice\n");
    check("a: [ 'x,  y', \"p\\\" ,q\" ]\n", "a: ['x,  y', \"p\\\" ,q\"]\n");
    check("a: 1\n\n\n\nb: 2\n\n\n", "a: 1\n\nb: 2\n");
}

#[test]
fn comments_stay() {
    check(
        "# the file\na: 1   # why\n\n      # of b\nb:\n    # of c\n    c: 2\n# the end\n",
        "# the file\na: 1   # why\n\n# of b\nb:\n  # of c\n  c: 2\n# the end\n",
    );
    check("a: 'x # y'\nb: x#y\n", "a: 'x # y'\nb: x#y\n");
}

#[test]
fn blocks_keep_their_text() {
    check(
        "a:\n    text: |\n        one\n          two: [ x ]\n        # no comment\n\n        three\n    b: 1\n",
        "a:\n  text: |\n    one\n      two: [ x ]\n    # no comment\n\n    three\n  b: 1\n",
    );
    check("l:\n- |\n  x\n- >-\n  y\n", "l:\n  - |\n    x\n  - >-\n    y\n");
    check("l:\n- text: |\n    x\n   # of k\n  k: 1\n", "l:\n  - text: |\n      x\n    # of k\n    k: 1\n");
}

#[test]
fn values_of_several_lines_move_as_one() {
    check("a:\n    b: [x,\n        y]\n    c: 1\n", "a:\n  b: [x,\n      y]\n  c: 1\n");
}

#[test]
fn top_level_keys_have_an_order_and_take_their_comments_along() {
    check(
        "# yaml-language-server: $schema=workflow.v1.json\n# of nodes\nnodes: []\n# of the name\nname: w\nversion: 1\nx-own: 1\n",
        "# yaml-language-server: $schema=workflow.v1.json\nversion: 1\n# of the name\nname: w\n# of nodes\nnodes: []\nx-own: 1\n",
    );
    // An alias must come after its anchor, so this order stays.
    check("nodes: &n []\nname: *n\n", "nodes: &n []\nname: *n\n");
}

#[test]
fn what_is_no_yaml_is_refused() {
    assert_eq!(format(&SourceFile::new("w.yaml", "a: [")).unwrap_err().code, "WF001");
}

#[test]
fn shipped_files_are_in_their_usual_form() {
    for f in crate::shipped() {
        assert_eq!(format(&f).unwrap(), &*f.text, "{}", f.path);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any text is either refused or keeps its meaning and comments, and is then in its usual form.
    #[test]
    fn meaning_stays(lines in prop::collection::vec((0..5_usize, "(- )?[a-c]: ?( [a-z{}\\[\\],: '\"#|>-]{0,9})?"), 0..9)) {
        let text: String = lines.iter().map(|(n, l)| format!("{}{l}\n", " ".repeat(*n))).collect();
        let file = SourceFile::new("w.yaml", text.as_str());
        if let Ok(made) = format(&file) {
            let after = SourceFile::new("w.yaml", made.as_str());
            prop_assert!(same(&doc::parse(&file, "WF").unwrap(), &doc::parse(&after, "WF").unwrap(), true));
            prop_assert_eq!(comments(&file), comments(&after));
        }
    }

    /// However a shipped file is indented, its form is the same.
    #[test]
    fn indentation_does_not_matter(step in 1..7_usize, which in 0..3_usize) {
        let files = crate::shipped();
        let file = &files[which % files.len()];
        let wide: String = file.text.lines().map(|l| {
            let n = l.len() - l.trim_start().len();
            // `- ` takes two columns whatever the step is.
            let at = (n / 2) * (step + 1) ;
            format!("{}{}\n", " ".repeat(at), l.trim_start())
        }).collect();
        let wide = SourceFile::new(file.path.as_str(), wide);
        if doc::parse(&wide, "WF").is_ok() {
            prop_assert_eq!(format(&wide).unwrap(), &*file.text);
        }
    }
}
