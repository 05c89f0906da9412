//! What drawings show, and that nothing in a picture overlaps.

use super::*;
use crate::testing;

fn drawn(text: &str) -> Vec<String> {
    let w = testing::workflow(text);
    let marks: Marks =
        [("check".to_owned(), Mark { outcome: "failed".into(), note: "3 ms".into() })].into_iter().collect();
    [Format::Mermaid, Format::Dot, Format::Svg].into_iter().map(|f| w.draw(f, &marks)).collect()
}

const LOOP: &str = "
nodes:
  - { id: first, type: generate }
  - { id: check, type: validate, validators: [contract] }
  - id: again
    type: loop
    max_iterations: 3
    until: \"loop.index > 1\"
    body:
      nodes:
        - { id: think, type: generate }
        - { id: look, type: validate, validators: [contract] }
      edges: [{ from: think, to: look }]
  - { id: answer, type: stream, from: nodes.first.completion }
edges:
  - { from: first, to: check, outcome: [ok, truncated, tool_calls, refused] }
  - { from: check, to: again, outcome: failed }
  - { from: check, to: answer, outcome: [passed, unverified], when: '1 < 2 && \"a\" == \"a\"' }
  - { from: check, to: answer, outcome: [passed, unverified], else: true }
  - { from: again, to: answer, outcome: any }
";

#[test]
fn all_formats_show_nodes_bodies_edges_and_marks() {
    for text in drawn(LOOP) {
        for word in ["first", "check", "again", "think", "look", "answer", "failed", "else"] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
    let [mermaid, dot, svg] = drawn(LOOP).try_into().unwrap();
    assert!(mermaid.contains("subgraph n_again") && mermaid.contains("n_again__think"), "{mermaid}");
    assert!(
        dot.contains("subgraph \"cluster_again\"") && dot.matches('{').count() == dot.matches('}').count()
    );
    assert!(svg.contains("1 &lt; 2 &amp;&amp;") && !svg.contains("1 < 2"), "{svg}");
}

#[test]
fn what_the_author_calls_things_is_drawn() {
    let named = LOOP
        .replace("{ id: first, type: generate }", "{ id: first, type: generate, title: \"The <draft>\" }")
        .replace(
            "{ from: check, to: again, outcome: failed }",
            "{ from: check, to: again, outcome: failed, label: once more }",
        );
    let [mermaid, dot, svg] = drawn(&named).try_into().unwrap();
    assert!(mermaid.contains("The #lt;draft#gt;\nfirst : generate"), "{mermaid}");
    assert!(mermaid.contains("|\"once more · failed\"|"), "{mermaid}");
    assert!(dot.contains("label=\"The <draft>\\nfirst : generate\""), "{dot}");
    assert!(dot.contains("label=\"once more · failed\""), "{dot}");
    assert!(svg.contains(">The &lt;draft&gt;</text>") && svg.contains(">first · generate</text>"), "{svg}");
    assert!(svg.contains("once more · failed</text>"), "{svg}");
    // They are words: nothing that runs has changed.
    assert_eq!(testing::workflow(&named).plan_hash, testing::workflow(LOOP).plan_hash);
}

#[test]
fn nothing_in_a_picture_overlaps() {
    let w = testing::workflow(LOOP);
    let scene = Scene::new(&w.root, "", &Marks::new());
    let placed = layout::place(&scene);
    for (i, a) in placed.boxes.iter().enumerate() {
        for b in &placed.boxes[i + 1..] {
            let apart = a.x + a.width <= b.x
                || b.x + b.width <= a.x
                || a.y + a.height <= b.y
                || b.y + b.height <= a.y;
            assert!(apart, "({}, {}) and ({}, {})", a.x, a.y, b.x, b.y);
        }
        for body in &a.bodies {
            assert!(body.width <= a.width && body.height < a.height);
        }
    }
}
