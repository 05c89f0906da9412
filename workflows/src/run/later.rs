//! What a run does after its response: the nodes that are `async`.

use super::{Cell, Env, Frame, Host, walk};
use crate::budget::{Amounts, Budget, Used};
use crate::ending::Ending;
use crate::node::Node;
use crate::plan::Limits;
use crate::trace::Trace;
use crate::world::{EffectId, EffectKind, Moment};
use std::sync::Arc;
use std::time::Duration;
use types::{Run, UnitInterval};

/// Longest time that is given to it.
const LONGEST: Duration = Duration::from_secs(300);

/// What remains to be done once the answer is out. It neither delays nor fails the answer, and dropping it
/// leaves it undone.
pub struct Later {
    host: Host,
    env: Env,
    cells: Vec<Cell>,
}

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Later").field("workflow", &self.host.workflow.name).finish_non_exhaustive()
    }
}

/// What the file's own limits leave. What the request was allowed is no measure here: whoever makes the calls
/// reserves for them anew.
fn rest(limits: &Limits, used: Used) -> Amounts {
    let tokens = u32::try_from(used.tokens).unwrap_or(u32::MAX);
    let own = limits.amounts();
    Amounts {
        usd: own.usd.map(|most| most.minus(used.usd)),
        enough: own.enough.map(|most| most.minus(used.usd)),
        tokens: own.tokens.map(|most| most.saturating_sub(tokens)),
        enough_tokens: own.enough_tokens.map(|most| most.saturating_sub(tokens)),
        calls: own.calls.map(|most| most.saturating_sub(used.calls)),
        wall: None,
    }
}

impl Later {
    /// What remains after that ending, if anything does. Where a budget is used up, nothing new is begun.
    pub(super) fn of(mut host: Host, env: Env, cells: Vec<Cell>, ending: &Ending) -> Option<Later> {
        let answered = matches!(ending, Ending::Delivered { .. } | Ending::Streamed { .. });
        let more = host.workflow.root.nodes.iter().any(Node::is_later);
        if !answered || !more || host.is_exhausted() {
            return None;
        }
        // The record of the answer is closed; this is another one.
        host.input.trace = Trace::new();
        host.late = true;
        host.budget = Budget::new(rest(&host.limits, host.budget.used()), None);
        Some(Later { host, env, cells })
    }

    /// Runs what remains, within the nodes' own times and budgets and at most five minutes; gives the record
    /// of it, with what judges say of the answer. What the run did before its response is not in it.
    pub async fn run(self) -> Run {
        let Later { host, env, cells } = self;
        let frame = Frame::resumed(&host.workflow.root, &env, host.budget.clone(), cells);
        host.input.trace.with(|run| {
            run.workflow.clone_from(&host.workflow.name);
            run.plan_hash.clone_from(&host.workflow.plan_hash);
        });
        let now = host.world.now(&Moment { frame: "", what: "later", index: 0, attempt: 1 });
        let id = EffectId::new(&Arc::from(""), EffectKind::Wait, 1, 1);
        tokio::select! {
            biased;
            () = walk::rest(&host, &frame) => {}
            () = host.world.wait(id, now + LONGEST) => {}
        }
        host.keep().await;
        let delivered = host.delivered.get().and_then(|id| host.table().row(*id)?.judge);
        host.input.trace.with(|run| run.judge = delivered.map(UnitInterval::clamped));
        host.input.trace.take()
    }
}
