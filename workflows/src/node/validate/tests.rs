//! Checks in files: what they refer to, what they find, and what they mend.

use crate::testing::{Says, Script, file, load_all, play, replies, request, text, workflow};
use serde_json::{Value, json};

fn body(validators: &str) -> String {
    format!(
        "\
nodes:
  - {{ id: find, type: tool, tool: look, args: {{ q: tower }} }}
  - {{ id: ask, type: generate }}
  - {{ id: check, type: validate, validators: [{validators}] }}
  - {{ id: fix, type: repair, from: check, strategies: [fix, reprompt], on_exhausted: best }}
  - {{ id: answer, type: stream, from: nodes.check.best }}
  - {{ id: mended, type: stream, from: nodes.fix.completion }}
edges:
  - {{ from: find, to: ask }}
  - {{ from: ask, to: check }}
  - {{ from: check, to: answer, outcome: [passed, unverified] }}
  - {{ from: check, to: fix, outcome: failed }}
  - {{ from: fix, to: mended }}
"
    )
}

const SOURCED: &str = "{ use: citations, with: { sources: nodes.find.result, style: author_year } }, \
    { use: grounding, with: { sources: nodes.find.result } }, code_parse, { use: pii, with: { action: mask } }";

const GOOD: &str = "The tower was completed in March 1889 (Smith, 2020).";

fn paris() -> Value {
    json!([{"title": "Eiffel Tower", "author": "Smith", "year": 2020, "text": "The tower was completed in March 1889. It stands on the Champ de \
        Mars in Paris, and was designed by the company of Gustave Eiffel."}])
}

/// The text that is delivered, with its verdict, and the questions that were asked.
async fn run(validators: &str, found: Value, says: &[&'static str]) -> (String, Vec<String>) {
    let mut says = says.iter().map(|s| Says::Text(1, s));
    let first = says.next().into_iter().collect();
    let script = Script::new(vec![("ask", first), ("fix", says.collect())]).with_tools(vec![replies(found)]);
    let (ending, _) = play(&workflow(&body(validators)), request(json!({})), &script).await;
    (text(&ending), script.purposes())
}

#[tokio::test(start_paused = true)]
async fn answers_are_held_against_what_a_node_has_found() {
    let check = async |says: &[&'static str], want: &str, asked: &[&str]| {
        let got = run(SOURCED, paris(), says).await;
        assert_eq!(
            (got.0.as_str(), got.1.iter().map(String::as_str).collect::<Vec<_>>()),
            (want, asked.to_vec())
        );
    };
    let passed = format!("{GOOD}|passed");
    check(&[GOOD], &passed, &["primary"]).await;
    // Not supported, not cited, pointing nowhere: each is repaired.
    for bad in [
        "The tower was completed in 1925 by Stephen Sauvestre in Lyon (Smith, 2020).",
        "The tower was completed in March 1889.",
        "The tower was completed in March 1889 (Jones, 2019).",
    ] {
        check(&[bad, GOOD], &passed, &["primary", "repair:reprompt"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_value_is_unverified_and_never_passed() {
    let (said, asked) = run(SOURCED, Value::Null, &[GOOD]).await;
    assert_eq!((said, asked.len()), (format!("{GOOD}|unverified"), 1));
}

#[tokio::test(start_paused = true)]
async fn code_that_does_not_parse_is_asked_for_again() {
    const CODE: &str = "```python\ndef f():\n    return 1\n```";
    let (said, asked) = run("code_parse", json!([]), &["```python\ndef f(:\n    return 1\n```", CODE]).await;
    assert_eq!((said, asked.len()), (format!("{CODE}|passed"), 2));
}

#[tokio::test(start_paused = true)]
async fn checks_mend_what_they_know_how_to_put_right() {
    let answer = "Write to jane.doe@towers.org about it.";
    let (said, asked) = run("{ use: pii, with: { action: mask } }", json!([]), &[answer]).await;
    assert!(said.ends_with("|passed") && !said.contains("jane.doe") && said.contains("about it."), "{said}");
    assert_eq!(asked, ["primary"], "a mask needs no model");
    let (said, asked) = run("pii", json!([]), &[answer, "Write to us."]).await;
    assert_eq!((said.as_str(), asked.len()), ("Write to us.|passed", 2));
}

#[test]
fn wrong_parameters_and_references_are_shown_at_their_place() {
    // The list of validators begins at column 47 of line 6.
    let check = |validators: &str, want: (&str, &str)| {
        let (library, problems) = load_all(&[file(&body(validators))]);
        let first = problems.first().unwrap_or_else(|| panic!("{validators} is taken"));
        let at = validators.find(want.1).unwrap() + 47;
        assert_eq!((first.code.as_str(), first.line, first.column), (want.0, 6, at), "{first}");
        assert_eq!(first.file, "w.yaml");
        assert!(library.get("w").is_none());
    };
    check("{ use: grounding, with: { sources: nodes.fnd.result } }", ("WF301", "nodes.fnd"));
    check("{ use: grounding, with: { sources: nodes.find.reslt } }", ("WF301", "nodes.find"));
    check("{ use: grounding, with: { sources: nodes.fix.attempts } }", ("WF320", "nodes.fix"));
    check("{ use: grounding, with: { min: 2 } }", ("WF104", "min"));
    check("{ use: citations, with: { stile: url } }", ("WF101", "stile"));
    check("{ use: similarity, with: { to: quick, min: 0.5 } }", ("WF103", "quick"));
    check("http", ("WF105", "http"));
}
