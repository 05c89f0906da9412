//! Passing an answer through: whether it may be, and how.

use super::walk::record_chain;
use super::{Answer, At, Frame, Host};
use crate::budget::Purse;
use crate::ending::{Ending, RunFailure};
use crate::graph::chain::Chain;
use crate::node::generate::{self, Generate, Race};
use crate::node::stream::{Mode, Stream};
use crate::node::validate::Validate;
use crate::node::{Fault, NodeResult};
use crate::world::{EffectId, EffectKind, Failure, Generated};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use types::completion::Accumulator;
use types::matrix::Model;
use types::provider::{self, ErrorKind};
use types::run::{Severity, Step};
use types::{Chunk, Verdict};

/// Which way the answer takes to the client, and why, in the words of the record.
pub(crate) fn decide(host: &Host) -> (Option<&Chain>, String) {
    let buffered = |why: &str| (None, format!("buffered: {why}"));
    if host.input.sink.is_none() {
        return buffered("the client asked for no stream");
    }
    let Some(chain) = &host.workflow.chain else {
        return buffered("several sources, a judge or a condition lie before the answer");
    };
    let nodes = &host.workflow.root.nodes;
    let mode = nodes.get(chain.stream).and_then(|n| n.get()).map(|s: &Stream| s.mode);
    match mode {
        Some(Mode::Buffered) => return buffered("the workflow says so"),
        Some(Mode::Passthrough) => {
            // The author gives up the workflow's own checks, never those that a policy demands.
            let demanded =
                host.extras.iter().find(|c| c.severity() > Severity::Warn && c.applies(&host.input.request));
            return match demanded {
                Some(c) => buffered(&format!("a policy demands that `{}` sees the whole answer", c.name())),
                None => (Some(chain), "passthrough: the workflow says so".to_owned()),
            };
        }
        _ => {}
    }
    let request = &host.input.request;
    let between = chain.between.iter().filter_map(|i| nodes.get(*i));
    let outside = between.clone().filter_map(|n| n.get()).flat_map(|v: &Validate| &v.checks.outside);
    if let Some(o) = outside.clone().find(|o| o.severity > Severity::Warn) {
        return buffered(&format!("`{}` must see the whole answer", o.what.name()));
    }
    let own = between.filter_map(|n| n.get()).map(|v: &Validate| v.checks.list.iter());
    let mut checks = own.flatten().chain(&host.extras);
    match checks.find(|c| c.severity() > Severity::Warn && c.applies(request)) {
        Some(c) => buffered(&format!("`{}` must see the whole answer", c.name())),
        None => (Some(chain), "passthrough: nothing to check and one source".to_owned()),
    }
}

/// How an attempt to pass through went.
pub(crate) enum Live {
    /// Bytes reached the client; the run is over.
    Ended(Box<Ending>),
    /// Nothing did: the graph is walked in the usual way, with this result of its first node.
    Instead(NodeResult),
}

pub(crate) async fn run<'a>(
    host: &'a Host,
    frame: &'a Frame<'a>,
    chain: &Chain,
    sink: &Sender<Chunk>,
) -> Live {
    let nothing = || Live::Instead(Err(Fault::Call(Failure::NoCandidate("no source".to_owned()))));
    let Some(at) = At::new(host, frame, chain.generate) else { return nothing() };
    let Some(spec) = at.node.get::<Generate>() else { return nothing() };
    let started = at.begin();
    let mut ask = spec.ask(&at, 0);
    ask.stream = true;
    // The node's time holds until the answer begins; a long answer may take as long as the run may.
    ask.timeout = None;
    let id = EffectId::new(&at.path, EffectKind::Wait, 0, 1);
    let mut race = Race::new(spec.hedge.as_ref(), &at, ask);
    let opened = tokio::select! {
        biased;
        result = race.winner() => result,
        () = host.world.wait(id, at.until()) => {
            return Live::Instead(Err(Fault::Timeout));
        }
    };
    let (generated, purse) = match opened {
        Err(f) => return Live::Instead(Err(Fault::Call(f))),
        Ok((_, opened)) => opened.split(),
    };
    match generated {
        Generated::Whole { completion, model } => {
            host.input.trace.with(|run| {
                run.stream_mode = "buffered: the model answered in one piece".to_owned();
            });
            let answer = Answer { completion, model, ms: at.ms("answer") - started };
            at.charge(&answer, &purse);
            Live::Instead(Ok(generate::finish(vec![(0, answer)], &at.path, &mut host.table())))
        }
        Generated::Stream { model, head, rest } => {
            host.input.trace.with(|run| run.served_by = Some(model.id.clone()));
            let mut pump = Pump {
                host,
                sink,
                all: Accumulator::default(),
                deadline: host.deadline(),
                model: model.clone(),
            };
            let stop = pump.pass(head, rest).await;
            Live::Ended(Box::new(ended(&at, chain, pump, stop, &purse).await))
        }
    }
}

/// Why chunks stopped flowing before the answer's own end.
enum Stop {
    Upstream(provider::Error),
    ClientGone,
}

struct Pump<'a> {
    host: &'a Host,
    sink: &'a Sender<Chunk>,
    all: Accumulator,
    deadline: Option<Instant>,
    model: Arc<Model>,
}

impl Pump<'_> {
    /// Passes every chunk on as it arrives; a full sink holds the provider back.
    async fn pass(
        &mut self,
        head: Vec<Chunk>,
        mut rest: BoxStream<'static, Result<Chunk, provider::Error>>,
    ) -> Option<Stop> {
        let flow = async {
            for chunk in head {
                self.all.push(&chunk);
                if self.sink.send(chunk).await.is_err() {
                    return Some(Stop::ClientGone);
                }
            }
            // Whoever reads the sink in this same task sees the beginning before more is read.
            tokio::task::yield_now().await;
            while let Some(next) = rest.next().await {
                let chunk = match next {
                    Ok(chunk) => chunk,
                    Err(e) => return Some(Stop::Upstream(e)),
                };
                self.all.push(&chunk);
                if self.sink.send(chunk).await.is_err() {
                    return Some(Stop::ClientGone);
                }
            }
            None
        };
        let Some(deadline) = self.deadline else { return flow.await };
        let id = EffectId::new(&Arc::from(""), EffectKind::Wait, 0, 1);
        tokio::select! {
            biased;
            stop = flow => stop,
            () = self.host.world.wait(id, deadline) => {
                let e = provider::Error::new(ErrorKind::TotalTimeout, &self.model, "the run's time is up");
                Some(Stop::Upstream(e))
            }
        }
    }
}

async fn ended(at: &At<'_>, chain: &Chain, pump: Pump<'_>, stop: Option<Stop>, purse: &Purse) -> Ending {
    let Pump { all, model, .. } = pump;
    let host = at.host;
    let completion = all.finish();
    let answer = Answer { completion, model, ms: at.ms("answer") };
    at.charge(&answer, purse);
    match stop {
        None => {
            let row = record_chain(host, at.frame, chain, answer.clone()).await;
            let verdict = row.map_or(Verdict::None, |id| {
                host.delivered(id);
                at.demanded(id);
                host.table().row(id).map_or(Verdict::None, |r| r.verdict)
            });
            host.input.trace.with(|run| run.verdict = verdict);
            Ending::Streamed { completion: answer.completion, model: answer.model, verdict }
        }
        Some(Stop::Upstream(error)) => {
            record_stop(at, "error", error.to_string());
            Ending::Broken { error, model: answer.model, partial: answer.completion }
        }
        Some(Stop::ClientGone) => {
            record_stop(at, "cancelled", "the client left".to_owned());
            Ending::Failed(RunFailure::new("cancelled", "client", 499, "the client left"))
        }
    }
}

fn record_stop(at: &At<'_>, outcome: &str, note: String) {
    at.host.input.trace.push(Step {
        node: at.path.clone(),
        kind: at.node.kind_name.clone(),
        outcome: outcome.to_owned(),
        started_ms: 0.0,
        duration_ms: at.ms("end"),
        calls: Vec::new(),
        findings: Vec::new(),
        note: Some(note),
    });
}
