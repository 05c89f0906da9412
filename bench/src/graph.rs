//! What workflows cost by themselves: graphs on models that answer at once, and reading files.

use crate::{Effort, Failure, say};
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::completion::{Choice, FinishReason};
use types::doc::SourceFile;
use types::expr::Language;
use types::matrix::{Dialect, Matrix, Model, Price, Provider};
use types::{ChatRequest, Completion, Usage};
use workflows::{Ask, Ending, Generated, Input, Library, Names, Workflow, World, load, shipped};

/// Ten nodes of most kinds.
const TEN: &str = include_str!("../ten.yaml");

/// A model that answers at once.
struct Instantly(Arc<Model>);

type Answered<'a> = Pin<Box<dyn Future<Output = Result<Generated, workflows::Failure>> + Send + 'a>>;

impl World for Instantly {
    fn generate(&self, ask: Ask) -> Answered<'_> {
        let model = self.0.clone();
        Box::pin(async move {
            let _ = ask;
            let choice = Choice {
                text: "The answer is forty-two.".to_owned(),
                finish_reason: Some(FinishReason::Stop),
                ..Choice::default()
            };
            let usage = Usage { input: 20, output: 6, ..Usage::default() };
            let completion = Completion { choices: vec![choice], usage, ..Completion::default() };
            Ok(Generated::whole(completion, model))
        })
    }
}

fn model(name: &str, tier: u8) -> Model {
    Model {
        price: Some(Price::new(1.0, 1.0)),
        quality_tier: tier,
        speed_tier: 1,
        ..Model::new(format!("p/{name}"), 0, (8_000, 1_000))
    }
}

fn matrix() -> Matrix {
    let provider = Provider::new("p", Dialect::Simulated);
    Matrix::new(vec![provider], vec![model("a", 1), model("b", 2), model("c", 3)])
}

struct House {
    matrix: Matrix,
    language: Arc<dyn Language>,
}

impl House {
    fn load(&self, source: SourceFile) -> Result<Library, Failure> {
        let variables = Vec::new();
        let names = Names {
            matrix: &self.matrix,
            pools: &[],
            approvers: None,
            tools: &[],
            language: &*self.language,
            variables: &variables,
            scripts: &[],
            runner: false,
            may_ask: None,
        };
        let (library, problems) = load(&[source], &names);
        match problems.first() {
            None => Ok(library),
            Some(p) => Err(p.to_string().into()),
        }
    }

    fn input(&self, request: &Arc<ChatRequest>) -> Input {
        let scope = self.language.scope(None, Vec::new());
        Input::new(request.clone(), self.language.clone(), scope)
    }

    /// Microseconds of one run, the best of some rounds.
    async fn time(
        &self,
        flow: &Arc<Workflow>,
        request: &Arc<ChatRequest>,
        effort: Effort,
    ) -> Result<f64, Failure> {
        let runs: u32 = if effort == Effort::Quick { 50 } else { 5_000 };
        let world: Arc<dyn World> = Arc::new(Instantly(Arc::new(model("a", 1))));
        let mut best = f64::INFINITY;
        for _ in 0..7 {
            let start = Instant::now();
            for _ in 0..runs {
                let done = workflows::run(flow.clone(), self.input(request), world.clone()).await;
                if !matches!(done.ending, Ending::Delivered { .. }) {
                    return Err(format!("{:?}", done.ending).into());
                }
            }
            best = best.min(micros(start.elapsed()) / f64::from(runs));
        }
        Ok(best)
    }
}

fn micros(d: Duration) -> f64 {
    d.as_secs_f64() * 1e6
}

/// A file as long as files may be: sixty texts with expressions in them.
fn longest() -> String {
    let mut file =
        String::from("version: 1\nname: long\nvars: { word: so }\nnodes:\n  - { id: ask, type: generate }\n");
    let line =
        "and ${ vars.word } it goes on and on, one word behind the other, until the line is full of them.";
    let mut edges = String::from("edges:\n");
    for i in 0..60 {
        let before = if i == 0 { "ask".to_owned() } else { format!("n{}", i - 1) };
        // Writing to a string does not fail.
        let _ = write!(
            file,
            "  - id: n{i}\n    type: merge\n    method: template\n    from: [nodes.ask.completion]\n    template: |\n"
        );
        for _ in 0..40 {
            let _ = writeln!(file, "      {line}");
        }
        let _ = writeln!(edges, "  - {{ from: {before}, to: n{i} }}");
    }
    file += "  - { id: answer, type: stream, from: nodes.n59.completion }\n";
    edges += "  - { from: n59, to: answer }\n";
    file + edges.as_str()
}

/// The aim for `default` around a plain call, microseconds of processor time.
const AIM: f64 = 30.0;

/// Prints what graphs cost, and files.
pub(crate) async fn run(effort: Effort) -> Result<(), Failure> {
    let house = House { matrix: matrix(), language: policies::language() };
    let body = serde_json::json!({"model": "auto", "messages": [{"role": "user", "content": "What is the answer?"}]});
    let request = Arc::new(ChatRequest::from_value(&body).map_err(|e| e.to_string())?);
    let named = |library: Library, name: &str| {
        library.get(name).cloned().ok_or_else(|| Failure::from(format!("no workflow `{name}`")))
    };
    let ten = named(house.load(SourceFile::new("ten.yaml", TEN))?, "ten")?;
    let default = shipped().into_iter().find(|f| f.stem() == "default").ok_or("no default")?;
    let default = named(house.load(default)?, "default")?;
    let ten = house.time(&ten, &request, effort).await?;
    let default = house.time(&default, &request, effort).await?;
    say(&format!("ten nodes, calls that answer at once: {ten:.1} us a run, {:.2} us a node", ten / 10.0));
    say(&format!("`default` around a plain call: {default:.1} us   aim: under {AIM:.0} us"));
    let text = longest();
    let mut best = f64::INFINITY;
    for _ in 0..(if effort == Effort::Quick { 1 } else { 9 }) {
        let start = Instant::now();
        house.load(SourceFile::new("long.yaml", text.clone()))?;
        best = best.min(micros(start.elapsed()));
    }
    say(&format!(
        "reading a file of {} KiB, {} expressions: {:.1} ms",
        text.len() / 1024,
        60 * 40,
        best / 1e3
    ));
    Ok(())
}
