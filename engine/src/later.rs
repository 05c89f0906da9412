//! What a workflow does after its response, such as grading it for the record.

use crate::ledger::Ledger;
use crate::settle::unix_ms;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use types::outcome::Feedback;
use types::store::{self, OutcomeStore, Record};
use workflows::Later;

/// Looks for the record of a request, one each second.
const LOOKS: u32 = 60;

/// Starts work that nobody waits for, under a name; the caller counts it, and waits for it when it stops.
pub type Background = Arc<dyn Fn(&'static str, BoxFuture<'static, ()>) + Send + Sync>;

/// Does what remains of a run. What judges say of the answer goes on record as a word on it; what their calls
/// cost is told, since the record of the request is closed.
pub(crate) async fn finish(later: Later, after: Ledger, store: Arc<dyn OutcomeStore>, request_id: String) {
    let mut run = later.run().await;
    after.hand_over(&mut run);
    let (cost, _) = run.cost();
    let nodes: Vec<String> = run.steps.iter().map(|s| format!("{}:{}", s.node, s.outcome)).collect();
    tracing::info!(
        request_id,
        cost_usd = cost.dollars(),
        calls = run.calls().count(),
        ?nodes,
        "after the response"
    );
    let Some(score) = run.judge else { return };
    let word = Feedback {
        request_id,
        ts_ms: unix_ms(),
        score,
        reason: None,
        source: format!("judge:{}", run.workflow),
    };
    let request_id = word.request_id.clone();
    let recorded = match known(&*store, &request_id).await {
        Ok(true) => store.append(&Record::Feedback(word)).map(|_| ()),
        Ok(false) => Err(store::Error::Corrupt("the request is not on record".to_owned())),
        Err(e) => Err(e),
    };
    if let Err(e) = recorded {
        tracing::error!(request_id, error = %e, "a judge's word is not recorded");
    }
}

/// Whether the request is on record. It is as soon as its client has taken the last of the answer.
async fn known(store: &dyn OutcomeStore, request_id: &str) -> Result<bool, store::Error> {
    for _ in 0..LOOKS {
        if store.request(request_id).await?.is_some() {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(false)
}
