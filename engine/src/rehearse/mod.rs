//! Tests of workflows: a file says what models and tools answer and what must come of it (`workflow-format.md`
//! §20). Nothing is called, nothing waits: time is simulated.

mod case;
mod clock;
mod expect;
mod record;
mod stage;

pub use case::{Case, load};
pub use expect::{Failure, Outcome};
pub use record::record;

use crate::bundle::Bundle;
use crate::who::Who;
use stage::Stage;
use std::sync::{Arc, Mutex, PoisonError};
use types::expr::Scope;
use types::{ChatRequest, WorkloadProfile};
use workflows::{Event, Facts, Finished, Input, Mode, Observer, Trace};

/// What a run did, for expectations and for coverage.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Node instances in the order in which they resolved: frame path and outcome.
    pub path: Vec<(String, String)>,
    /// Edges: node instance, target, live.
    pub edges: Vec<(String, String, bool)>,
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
            _ => {}
        }
    }
}

/// Plays a case. The workflow is the one of the bundle.
///
/// # Errors
/// The case cannot be played: the workflow does not exist, or the request is none.
pub fn play(bundle: &Bundle, case: &Case) -> Result<Outcome, String> {
    let with_tools = (!case.tools.is_empty()).then(|| bundle.with_tools(&stage::specs(case)));
    let library = with_tools.as_ref().unwrap_or(&bundle.library);
    let workflow = library.get(&case.workflow).cloned().ok_or_else(|| {
        let names = library.names();
        let hint = types::diagnostic::suggestion(&case.workflow, names.iter().copied());
        format!("there is no workflow `{}`; {hint}", case.workflow)
    })?;
    let request = Arc::new(ChatRequest::from_value(&case.request).map_err(|e| e.to_string())?);
    let profile = profiler::profile(&request);
    let scope = scope(case, &request, &profile);
    let notes = Arc::new(Notes::default());
    let trace = Trace::new();
    let input = Input {
        vars: case.vars.clone(),
        usd: case.usd,
        facts: Facts { id: "test".to_owned(), mode: Mode::Test, seed: 0, variant: None },
        trace: trace.clone(),
        observer: Some(notes.clone()),
        ..Input::new(request.clone(), bundle.language.clone(), scope)
    };
    let stage = Arc::new(Stage::new(case, bundle, &request));
    let run = workflows::run(workflow, input, stage.clone());
    let ended: Option<Finished> = stage.clock.drive(run);
    let seen = notes.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(expect::judge(case, ended, &trace.take(), seen, &stage))
}

fn scope(case: &Case, request: &Arc<ChatRequest>, profile: &WorkloadProfile) -> Scope {
    let who = Who::open();
    let mut tenant = (*who.tenant).clone();
    if let Some(id) = &case.tenant {
        tenant.id.clone_from(id);
    }
    let around = policies::Around { tenant: Arc::new(tenant), ..policies::Around::default() };
    policies::scope(&policies::Inputs { request, profile, around: &around, unix_ms: 0 })
}

/// Options of a request that a case may set as its profile.
pub(crate) fn is_option(name: &str) -> bool {
    types::options::NAMES.contains(&name)
}
