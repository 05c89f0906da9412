//! A tiny table, made up here, read from a folder of its own.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::io::Write as _;
use std::path::PathBuf;
use types::axis::TaskFamily;
use types::chat::ChatRequest;
use types::completion::Accumulator;
use types::doc::SourceFile;
use types::matrix::{Dialect, Matrix};
use types::provider::Edits;

/// A folder that is gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("turnout-recorded-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Folder(dir)
    }

    fn pack(self, name: &str, text: &str) -> Self {
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        std::fs::write(self.0.join(name), gz.finish().unwrap()).unwrap();
        self
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const QUERIES: &str = r#"{"query_id":"q1","task":"math","prompt":"What is  two\nplus two?"}
{"query_id":"q2","task":"tool_use","prompt":"Sell it","tools":[{"type":"function","function":{"name":"sell"}}]}
{"query_id":"q3","task":"tool_use","prompt":"Sell it","tools":[{"type":"function","function":{"name":"trade"}}]}
"#;
const OUTCOMES: &str = "query_id,model,quality,input_tokens,output_tokens,cost_usd,latency_s
q1,small,0.25,10,20,0.00005,1.5
q1,large,1,10,,0.00041,
q2,large,1,11,12,,
q3,large,0,11,12,,
";
const DATASET: &str = r#"{"name":"tiny","models":{
    "small":{"price_in_usd_per_mtok":1,"price_out_usd_per_mtok":2},
    "large":{"price_in_usd_per_mtok":1,"price_out_usd_per_mtok":20}, "unpriced":{}}}"#;

fn tiny(name: &str) -> Folder {
    let folder = Folder::new(name).pack("queries.jsonl.gz", QUERIES).pack("outcomes.csv.gz", OUTCOMES);
    std::fs::write(folder.0.join("dataset.json"), DATASET).unwrap();
    folder
}

fn matrix(folder: &Folder) -> Matrix {
    let yaml = matrix_for(&folder.0, "rec").unwrap();
    let (matrix, problems) = crate::matrix::load(&[SourceFile::new("rec.yaml", yaml)], &|_| None, None);
    assert!(problems.is_empty(), "{problems:?}");
    matrix
}

fn call(matrix: &Matrix, model: &str, prompt: &str, tool: Option<&str>) -> Call {
    let mut body = json!({"model": "auto", "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": prompt}]});
    if let Some(t) = tool {
        body["tools"] = json!([{"type": "function", "function": {"name": t}}]);
    }
    let ix = matrix.find(model).unwrap();
    Call {
        request: Arc::new(ChatRequest::from_value(&body).unwrap()),
        edits: Edits::default(),
        model: Arc::clone(matrix.model(ix).unwrap()),
        provider: Arc::clone(matrix.provider_of(ix).unwrap()),
        stream: false,
        remaining: Duration::from_secs(60),
        id: "r1".to_owned(),
        family: TaskFamily::Chat,
        sub_label: None,
        est_input: None,
    }
}

async fn whole(recorded: &Recorded, call: Call) -> Result<Completion, Error> {
    match recorded.call(call).await? {
        Reply::Whole(c) => Ok(c),
        Reply::Stream(_) => panic!("a stream that was not asked for"),
    }
}

fn told(c: &Completion) -> (Value, Value) {
    let told: Value = serde_json::from_str(c.text()).unwrap();
    assert_eq!(told["recorded"], true);
    (told["query_id"].clone(), told["quality"].clone())
}

#[tokio::test]
async fn recorded_prompts_are_answered_with_what_was_recorded() {
    let folder = tiny("answers");
    let (m, r) = (matrix(&folder), Recorded::open(&folder.0).unwrap());
    assert_eq!(r.size(), (3, 4));
    let c = whole(&r, call(&m, "rec/small", "What is two plus two? ", None)).await.unwrap();
    assert_eq!(told(&c), (json!("q1"), json!(0.25)));
    assert_eq!((c.usage.input, c.usage.output, c.usage.estimated), (10, 20, false));
    assert_eq!(serde_json::from_slice::<Value>(&c.raw.unwrap()).unwrap()["system_fingerprint"], FINGERPRINT);
    // 0.00041 dollars are 10 tokens at 1 and 20 at 20 dollars a million.
    let c = whole(&r, call(&m, "rec/large", "What is two plus two?", None)).await.unwrap();
    assert_eq!((c.usage.input, c.usage.output, c.usage.estimated), (10, 20, true));
    // Equal prompts are told apart by their tools.
    for (tool, id) in [("sell", "q2"), ("trade", "q3"), ("other", "q2")] {
        let c = whole(&r, call(&m, "rec/large", "Sell it", Some(tool))).await.unwrap();
        assert_eq!(told(&c).0, json!(id), "{tool}");
    }
}

#[tokio::test]
async fn a_stream_says_the_same() {
    let folder = tiny("stream");
    let (m, r) = (matrix(&folder), Recorded::open(&folder.0).unwrap());
    let ask = call(&m, "rec/small", "What is two plus two?", None);
    let expected = whole(&r, ask.clone()).await.unwrap();
    let Reply::Stream(mut chunks) = r.call(Call { stream: true, ..ask }).await.unwrap() else {
        panic!("a stream")
    };
    let mut all = Accumulator::default();
    while let Some(c) = chunks.next().await {
        all.push(&c.unwrap());
    }
    let got = all.finish();
    assert_eq!((got.text(), got.usage), (expected.text(), expected.usage));
}

#[tokio::test]
async fn what_was_not_recorded_is_refused() {
    let folder = tiny("refusals");
    let (m, r) = (matrix(&folder), Recorded::open(&folder.0).unwrap());
    for (model, prompt, part) in [
        ("rec/small", "What is three plus three?", "not a recorded prompt"),
        ("rec/small", "Sell it", "was not run on query q2"),
        ("rec/unpriced", "Sell it", "was not run on query q2"),
    ] {
        let e = whole(&r, call(&m, model, prompt, None)).await.unwrap_err();
        assert_eq!(e.kind, ErrorKind::BadRequest);
        assert!(e.detail.contains(part) && !e.detail.contains("three"), "{e}");
    }
}

#[tokio::test(start_paused = true)]
async fn recorded_time_passes_only_when_asked_for() {
    let folder = tiny("time");
    let (m, r) = (matrix(&folder), Recorded::open(&folder.0).unwrap());
    let took = async |r: &Recorded, remaining: u64| {
        let start = tokio::time::Instant::now();
        let ask = call(&m, "rec/small", "What is two plus two?", None);
        let got = whole(r, Call { remaining: Duration::from_secs(remaining), ..ask }).await;
        (start.elapsed().as_millis(), got.map_err(|e| e.kind).map(|_| ()))
    };
    assert_eq!(took(&r, 60).await, (0, Ok(())));
    let r = r.waiting(true);
    assert_eq!(took(&r, 60).await, (1_500, Ok(())));
    assert_eq!(took(&r, 1).await, (1_000, Err(ErrorKind::TotalTimeout)));
}

#[test]
fn the_snippet_makes_candidates_of_all_models() {
    let folder = tiny("snippet");
    let m = matrix(&folder);
    let p = &m.providers()[0];
    assert_eq!((p.dialect, p.file.as_deref()), (Dialect::Recorded, folder.0.to_str()));
    let tools: Vec<_> = m.models().iter().map(|m| (m.upstream_name.as_str(), m.abilities.tools)).collect();
    assert_eq!(tools, [("large", true), ("small", false), ("unpriced", false)]);
    assert_eq!(m.models()[0].price.map(|p| p.output), Some(20.0));
    assert!(m.models()[2].price.is_none());
}

#[test]
fn broken_tables_are_refused_with_their_place() {
    let check = |name: &str, queries: &str, outcomes: &str, part: &str| {
        let folder = Folder::new(name).pack("queries.jsonl.gz", queries).pack("outcomes.csv.gz", outcomes);
        let e = Recorded::open(&folder.0).unwrap_err();
        assert!(e.contains(part), "{e}");
    };
    check("json", "{\"query_id\":1}\n", OUTCOMES, "queries.jsonl.gz:1: ");
    check("header", QUERIES, "query_id,model\n", "outcomes.csv.gz:1: column `quality` is missing");
    check("id", QUERIES, "query_id,model,quality\nq9,m,1\n", "outcomes.csv.gz:2: unknown query `q9`");
    check("range", QUERIES, "query_id,model,quality\nq1,m,2\n", "outcomes.csv.gz:2: `quality`");
    check("number", QUERIES, "query_id,model,quality,cost_usd\nq1,m,1,x\n", ":2: `x` is not a number");
    check("empty", QUERIES, "query_id,model,quality\n", "no outcomes");
    let folder = Folder::new("none");
    assert!(Recorded::open(&folder.0).unwrap_err().contains("queries.jsonl.gz"));
    let folder = folder.pack("outcomes.csv.gz", OUTCOMES);
    std::fs::write(folder.0.join("queries.jsonl.gz"), "not packed").unwrap();
    let told = Recorded::open(&folder.0).unwrap_err();
    assert!(
        told.contains("queries.jsonl.gz: ") && told.contains("expected a text packed with gzip"),
        "{told}"
    );
}
