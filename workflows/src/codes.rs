//! Every code of a problem in a workflow file, with what it means.

/// Code and meaning, in order.
pub const CODES: &[(&str, &str)] = &[
    ("WF001", "this is no YAML, or more than one document"),
    ("WF002", "a key stands twice"),
    ("WF003", "too large: bytes, levels or values"),
    ("WF004", "a merge key (`<<`)"),
    ("WF005", "a tag (`!…`)"),
    ("WF006", "a key that is no string"),
    ("WF101", "unknown key"),
    ("WF102", "a key is missing"),
    ("WF103", "a value of the wrong type"),
    ("WF104", "a value out of range, or none of those allowed"),
    ("WF111", "a duration without its unit"),
    ("WF121", "an id stands twice"),
    ("WF131", "an edge is given twice"),
    ("WF201", "no model matches"),
    ("WF202", "there is no such pool"),
    ("WF203", "there is no such validator"),
    ("WF204", "there is no such tool"),
    ("WF205", "there is no such workflow"),
    ("WF206", "there is no such prompt"),
    ("WF207", "a file that holds no JSON Schema, or is not there"),
    ("WF208", "a call whose inputs are not those of the workflow that it calls"),
    ("WF209", "there is no such group of approvers"),
    ("WF221", "a pool of the file hides a pool of the configuration"),
    ("WF300", "an expression does not compile"),
    ("WF301", "an unknown name in an expression, a reference or an edge"),
    ("WF302", "an expression of the wrong type"),
    ("WF303", "types that cannot be compared"),
    ("WF304", "a text that is not one of the values"),
    ("WF305", "a template where an expression is wanted"),
    ("WF306", "words or signs of another language in an expression"),
    ("WF307", "a value that may be missing is used as if it were there"),
    ("WF308", "an expression that is always the same"),
    ("WF309", "a division of whole numbers"),
    ("WF310", "a cycle"),
    ("WF320", "a reference to a node that cannot come before"),
    ("WF331", "a node that cannot run"),
    ("WF332", "an outcome that leads nowhere"),
    ("WF333", "a way without an answer"),
    ("WF334", "a node of which nothing comes"),
    ("WF341", "something waits for a node that runs after the answer"),
    ("WF401", "more calls or node runs than the limits allow"),
    ("WF402", "calls that may cost more than the limits allow"),
    ("WF403", "a way that takes longer than the limits allow"),
    ("WF411", "a stream mode that the graph does not allow"),
    ("WF421", "tests of code, and nothing that runs them"),
    ("WF422", "a check outside that may not be asked"),
    ("WF431", "fewer models that keep apart than samples"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// Three-digit numbers that the loader gives as codes.
    fn given(folder: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                given(&path, into);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for call in [".error(\"", ".warning(\"", "error(\n", "warning(\n", "warning(\"WF"] {
                for (at, _) in text.match_indices(call) {
                    let rest = text[at + call.len()..].trim_start().trim_start_matches('"');
                    let number = rest.get(..3).filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
                    into.extend(number.map(|n| format!("WF{n}")));
                }
            }
        }
    }

    #[test]
    fn every_code_that_is_given_is_in_the_table() {
        let mut found = BTreeSet::new();
        given(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
        let known = |c: &String| CODES.iter().any(|(code, _)| code == c);
        let missing: Vec<_> = found.iter().filter(|c| !known(c)).collect();
        assert!(found.len() > 20, "{found:?}");
        assert!(missing.is_empty(), "add to CODES, with a file in workflows/diagnostics: {missing:?}");
        assert!(CODES.windows(2).all(|w| w[0].0 < w[1].0), "in order");
    }
}
