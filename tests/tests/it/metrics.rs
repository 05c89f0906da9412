//! What a running server counts is what the document of metrics says.

use serde_json::json;
use std::collections::BTreeMap;
use tests::house::{Model, Plan};
use tests::vendor::{Dialect, Reply, Vendor};

const RULES: &str = "version: 1
rules:
  - { id: none_today, when: request.max_tokens == 7, actions: { deny: not today } }
";

/// A judge for whom the answer that stands first is the better one, and a check that has nothing to check against.
const JUDGED: &str = "version: 1
name: judged
nodes:
  - { id: ask, type: generate, samples: 2 }
  - { id: rank, type: judge, mode: pairwise, input: nodes.ask.completions, needs: ask }
  - { id: check, type: validate, input: nodes.rank.best, validators: [grounding], needs: { node: rank, outcome: completed } }
  - { id: out, type: stream, from: nodes.check.best, needs: { node: check, outcome: completed } }
";

/// Series by name: their kind and their labels.
fn documented() -> BTreeMap<String, (String, String)> {
    let page = include_str!("../../../docs/metrics.md");
    let rows = page.lines().filter(|l| l.starts_with("| `"));
    let cell = |text: &str| text.replace(['`', ' '], "");
    let row = |line: &str| {
        let mut cells = line.split('|').skip(1).map(cell);
        let mut next = || cells.next().unwrap();
        (next(), (next(), next()))
    };
    rows.map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_series_of_a_server_stands_in_the_document() {
    let vendor = Vendor::scripted(Dialect::OpenAi, |seen| {
        match seen.body["messages"].to_string().contains("ANSWER A") {
            true => Reply::text(r#"{"better": "A", "rationale": ""}"#),
            false => Reply::text("ok"),
        }
    })
    .await;
    let plan = Plan::new().vendor("lab", &vendor).model(&Model::new("lab/one")).rules(RULES);
    let plan = plan.file("workflows/judged.yaml", JUDGED);
    let house = plan.start().await;
    let ask = |more: (&str, serde_json::Value)| {
        let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}]});
        body[more.0] = more.1;
        body
    };
    let good = house.client().chat(&ask(("stream", json!(false)))).await;
    assert_eq!(good.status, 200, "{}", good.text());
    assert_eq!(house.client().chat(&ask(("stream", json!(true)))).await.status, 200);
    assert_eq!(house.client().chat(&ask(("max_tokens", json!(7)))).await.status, 403);
    let judged = house.client().chat(&ask(("model", json!("workflow/judged")))).await;
    assert_eq!(judged.status, 200, "{}", judged.text());
    let word = json!({"request_id": good.request_id(), "score": 1});
    assert_eq!(house.client().post("/v1/feedback", &word).await.status, 200);

    let documented = documented();
    let text = house.client().get("/metrics").await.text();
    for line in [
        r#"turnout_checks_unverified_total{validator="grounding"} 1"#,
        r#"turnout_judge_pairs_total{result="turned"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    let mut seen = 0;
    for (name, kind) in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split_once(' ')) {
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let Some((said, labels)) = documented.get(&name) else { panic!("`{name}` stands in no document") };
        assert_eq!(said, kind, "{name}");
        let sample = text.lines().find_map(|l| {
            let (suffix, labels) = l.strip_prefix(&name)?.split_once('{')?;
            ["", "_bucket", "_sum", "_count"].contains(&suffix).then_some(labels)
        });
        let shown = sample.and_then(|labels| labels.split('}').next()).unwrap_or_default();
        let shown: Vec<&str> = shown.split("\",").filter_map(|l| l.split_once('=')).map(|(l, _)| l).collect();
        let shown: Vec<&str> = shown.into_iter().filter(|l| *l != "le").collect();
        assert!(shown.is_empty() || shown.join(",") == *labels, "{name}: {shown:?} and {labels}");
        seen += 1;
    }
    assert!(seen > 20, "{text}");
}
