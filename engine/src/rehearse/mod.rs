//! Tests of workflows: a file says what models and tools answer and what must come of it. Nothing
//! is called, nothing waits: time is simulated.

mod again;
mod case;
mod ceilings;
mod clock;
mod expect;
mod names;
mod pieces;
mod record;
mod stage;
mod stub;

use case::Caller;
pub use case::{Case, load};
pub use expect::{Failure, Outcome};
pub use record::record;

use crate::bundle::Bundle;
use crate::who::Who;
use crate::worst_case::Bound;
use serde::Serialize;
use serde_json::{Map, Value};
use stage::Stage;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use types::expr::Scope;
use types::{ChatRequest, Chunk, WorkloadProfile};
use workflows::{Event, Facts, Finished, Input, Library, Mode, NodeKind, Observer, Trace, Workflow};

/// What a run did, for expectations and for coverage.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Node instances in the order in which they resolved: frame path and outcome.
    pub path: Vec<(String, String)>,
    /// Edges: node instance, target, live.
    pub edges: Vec<(String, String, bool)>,
    /// Parts of a `when` that were looked at: node instance, target of an edge, part, whether it held.
    pub parts: Vec<(String, Option<String>, String, bool)>,
}

impl Seen {
    /// Nodes without the numbers of their instances, such as `work/act`.
    #[must_use]
    pub fn plain(frame: &str) -> String {
        let parts = frame.split('/').map(|p| p.split_once('[').map_or(p, |(name, _)| name));
        parts.collect::<Vec<_>>().join("/")
    }
}

#[derive(Default)]
struct Notes(Mutex<Seen>);

impl Observer for Notes {
    fn event(&self, event: &Event) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Resolved { frame, outcome, .. } => seen.path.push((frame.to_string(), outcome.clone())),
            Event::Edge { from, to, live } => seen.edges.push((from.to_string(), to.to_string(), *live)),
            Event::Part { of, to, part, holds } => {
                let to = to.as_ref().map(ToString::to_string);
                seen.parts.push((of.to_string(), to, part.clone(), *holds));
            }
            _ => {}
        }
    }
}

/// Plays a case that was read beside the same bundle. The workflow is the one of the bundle.
///
/// # Errors
/// The case cannot be played: the workflow does not exist, or the request is none.
pub fn play(bundle: &Bundle, case: &Case) -> Result<Outcome, String> {
    let with_tools = (!case.tools.is_empty()).then(|| bundle.with_tools(&stage::specs(case)));
    let library = with_tools.as_ref().unwrap_or(&bundle.library);
    let workflow = found(library, &case.workflow)?;
    let request = Arc::new(ChatRequest::from_value(&case.request).map_err(|e| e.to_string())?);
    let profile = profiler::profile(&request);
    let scope = scope(case, &request, &profile);
    let notes = Arc::new(Notes::default());
    let trace = Trace::new();
    let (sink, mut shown) = request.stream.then(|| mpsc::channel(ROOM)).unzip();
    let input = Input {
        sink,
        inputs: case.inputs.clone(),
        vars: case.vars.clone(),
        usd: case.limits.usd,
        limits: Some(case.limits.with(&workflow.limits)),
        facts: Facts { id: "test".to_owned(), mode: Mode::Test, seed: 0, variant: None },
        trace: trace.clone(),
        observer: Some(notes.clone()),
        ..Input::new(request.clone(), bundle.language.clone(), scope)
    };
    let stage = Arc::new(Stage::new(case, bundle, &request));
    let run = workflows::run(workflow, input, stage.clone());
    let mut chunks = 0;
    let ended: Option<Finished> = stage.clock.drive(async {
        let mut run = pin!(run);
        loop {
            tokio::select! {
                biased;
                Some(chunk) = next(&mut shown) => chunks += u32::from(chunk.has_content()),
                ended = &mut run => break ended,
            }
        }
    });
    // What was on its way when it ended.
    while let Some(Ok(chunk)) = shown.as_mut().map(mpsc::Receiver::try_recv) {
        chunks += u32::from(chunk.has_content());
    }
    let seen = notes.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(expect::judge(case, (ended, chunks), &trace.take(), seen, &stage))
}

/// What a run did whose calls were answered by stubs.
#[derive(Clone, Debug, Serialize)]
pub struct Stubbed {
    /// `delivered`, `failed`, `suspended`, or `stuck` where it waits for what never comes.
    pub outcome: &'static str,
    /// The code of its error, if it has one.
    pub error: Option<String>,
    /// What is said of that error.
    pub reason: Option<String>,
    /// What the client would get.
    pub text: String,
    /// What the checks say of it.
    pub verdict: String,
    /// Calls of models.
    pub calls: u32,
    /// Node instances in the order in which they resolved: frame path and outcome.
    pub path: Vec<(String, String)>,
}

/// Runs a workflow on stubs: whatever asks a model or a tool gets an answer that says that it is none, but for nodes that
/// no model may serve by `bound`: those fail as they would. Nothing is called, and nothing waits.
///
/// # Errors
/// There is no such workflow.
pub fn stubbed(
    bundle: &Bundle,
    name: &str,
    request: &Arc<ChatRequest>,
    inputs: Map<String, Value>,
    bound: &Bound,
) -> Result<Stubbed, String> {
    let workflow = found(&bundle.library, name)?;
    let case = Case::empty(name);
    let profile = profiler::profile(request);
    let notes = Arc::new(Notes::default());
    let input = Input {
        inputs,
        facts: Facts { id: "dry".to_owned(), mode: Mode::Test, seed: 0, variant: None },
        observer: Some(notes.clone()),
        ..Input::new(request.clone(), bundle.language.clone(), scope(&case, request, &profile))
    };
    let stage =
        Arc::new(Stage::new(&case, bundle, request).stubbed(request, bundle.tools.specs(), lacking(bound)));
    let finished = stage.clock.drive(workflows::run(workflow, input, stage.clone()));
    let seen = notes.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let end = expect::ended(finished);
    Ok(Stubbed {
        outcome: end.outcome,
        error: end.error,
        reason: end.reason,
        text: end.text,
        verdict: end.verdict,
        calls: stage.made(),
        path: seen.path,
    })
}

/// Nodes for which there is no model. A repair can ask the one whose answer it repairs.
fn lacking(bound: &Bound) -> Vec<String> {
    let none = bound.nodes.iter().filter(|row| row.models.is_empty() && row.kind != NodeKind::Repair);
    none.map(|row| row.node.clone()).collect()
}

fn found(library: &Library, name: &str) -> Result<Arc<Workflow>, String> {
    library.get(name).cloned().ok_or_else(|| {
        let hint = types::diagnostic::suggestion(name, library.names().iter().copied());
        format!("there is no workflow `{name}`; {hint}")
    })
}

/// Chunks between a run and the client of a test.
const ROOM: usize = 16;

/// The next chunk that the client sees, where it asked for a stream.
async fn next(shown: &mut Option<mpsc::Receiver<Chunk>>) -> Option<Chunk> {
    match shown {
        Some(shown) => shown.recv().await,
        None => None,
    }
}

fn scope(case: &Case, request: &Arc<ChatRequest>, profile: &WorkloadProfile) -> Scope {
    let who = Who::open();
    let mut tenant = (*who.tenant).clone();
    let Caller { id, tier, region, labels } = case.tenant.clone();
    tenant.id = id.unwrap_or(tenant.id);
    tenant.tier = tier.unwrap_or(tenant.tier);
    tenant.region = region.or(tenant.region);
    tenant.labels.extend(labels);
    let around = policies::Around { tenant: Arc::new(tenant), ..policies::Around::default() };
    policies::scope(&policies::Inputs { request, profile, around: &around, unix_ms: 0 })
}

/// Options of a request that a case may set as its profile.
pub(crate) fn is_option(name: &str) -> bool {
    types::options::names().any(|known| known == name)
}
