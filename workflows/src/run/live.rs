//! Passing an answer through: whether it may be, and how.

use super::walk::{Fault, NodeResult, record_chain};
use super::{Answer, Host, Produced};
use crate::ending::{Ending, RunFailure};
use crate::graph::chain::Chain;
use crate::node::Kind;
use crate::node::stream::Mode;
use crate::seam::{Failure, Generated};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep_until, timeout};
use types::completion::Accumulator;
use types::matrix::Model;
use types::provider::{self, ErrorKind};
use types::run::{Severity, Step};
use types::{Chunk, Verdict};

/// Which way the answer takes to the client, and why, in the words of the record.
pub(crate) fn decide<'a>(host: &Host<'a>) -> (Option<&'a Chain>, String) {
    let buffered = |why: &str| (None, format!("buffered: {why}"));
    if host.input.sink.is_none() {
        return buffered("the client asked for no stream");
    }
    let Some(chain) = &host.workflow.chain else {
        return buffered("several sources, a judge or a condition lie before the answer");
    };
    let mode = host.workflow.nodes.get(chain.stream).map(|n| &n.kind);
    match mode {
        Some(Kind::Stream(s)) if s.mode == Mode::Buffered => return buffered("the workflow says so"),
        Some(Kind::Stream(s)) if s.mode == Mode::Passthrough => {
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
    let nodes = chain.between.iter().filter_map(|i| host.workflow.nodes.get(*i));
    let own = nodes.filter_map(|n| match &n.kind {
        Kind::Validate(v) => Some(v.checks.list.iter()),
        _ => None,
    });
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

pub(crate) async fn run(host: &Host<'_>, chain: &Chain, sink: &Sender<Chunk>) -> Live {
    let Some((node, Kind::Generate(spec))) = host.workflow.nodes.get(chain.generate).map(|n| (n, &n.kind))
    else {
        return Live::Instead(Err(Fault::Failure(Failure::NoCandidate("no source".to_owned()))));
    };
    let mut ask = spec.ask(node, host, 0);
    ask.stream = true;
    // The node's time holds until the answer begins; a long answer may take as long as the run may.
    ask.timeout = None;
    let generated = match timeout(node.timeout, host.ask(ask)).await {
        Err(_) => return Live::Instead(Err(Fault::Timeout)),
        Ok(Err(f)) => return Live::Instead(Err(Fault::Failure(f))),
        Ok(Ok(g)) => g,
    };
    match generated {
        Generated::Whole { completion, model } => {
            host.spent(&completion);
            host.input.trace.with(|run| {
                run.stream_mode = "buffered: the model answered in one piece".to_owned();
            });
            let answer = Answer { completion, model, ms: host.elapsed_ms() };
            Live::Instead(Ok(Produced::Answers(vec![answer])))
        }
        Generated::Stream { model, head, rest } => {
            host.input.trace.with(|run| run.served_by = Some(model.id.clone()));
            let mut pump =
                Pump { sink, all: Accumulator::default(), deadline: host.deadline(), model: model.clone() };
            let stop = pump.pass(head, rest).await;
            Live::Ended(Box::new(ended(host, chain, pump, stop)))
        }
    }
}

/// Why chunks stopped flowing before the answer's own end.
enum Stop {
    Upstream(provider::Error),
    ClientGone,
}

struct Pump<'a> {
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
        tokio::select! {
            biased;
            stop = flow => stop,
            () = sleep_until(deadline) => {
                let e = provider::Error::new(ErrorKind::TotalTimeout, &self.model, "the run's time is up");
                Some(Stop::Upstream(e))
            }
        }
    }
}

fn ended(host: &Host<'_>, chain: &Chain, pump: Pump<'_>, stop: Option<Stop>) -> Ending {
    let Pump { all, model, .. } = pump;
    let completion = all.finish();
    host.spent(&completion);
    match stop {
        None => {
            let answer =
                Answer { completion: completion.clone(), model: model.clone(), ms: host.elapsed_ms() };
            let verdict = record_chain(host, chain, answer).map_or(Verdict::None, |row| row.verdict);
            host.input.trace.with(|run| run.verdict = verdict);
            Ending::Streamed { completion, model, verdict }
        }
        Some(Stop::Upstream(error)) => {
            record_stop(host, chain, "error", error.to_string());
            Ending::Broken { error, model, partial: completion }
        }
        Some(Stop::ClientGone) => {
            record_stop(host, chain, "cancelled", "the client left".to_owned());
            Ending::Failed(RunFailure::new("cancelled", "client", 499, "the client left"))
        }
    }
}

fn record_stop(host: &Host<'_>, chain: &Chain, outcome: &str, note: String) {
    let Some(node) = host.workflow.nodes.get(chain.generate) else { return };
    host.input.trace.push(Step {
        node: node.id.clone(),
        kind: node.kind_name.clone(),
        outcome: outcome.to_owned(),
        started_ms: 0.0,
        duration_ms: host.elapsed_ms(),
        calls: Vec::new(),
        findings: Vec::new(),
        note: Some(note),
    });
}
