//! What a workflow tells every client of its run at the end of a stream (`trailer: always`): what it came to, and
//! nothing of how it was decided, which is the business of who asks for it (`explain`) and may read the record.

use serde_json::{Value, json};
use types::store::RequestRecord;

/// Its fields. Findings by code and path only: their texts quote the answer.
pub(crate) fn trailer(record: &RequestRecord) -> Value {
    let RequestRecord { decision, run, outcome } = record;
    let findings = run.steps.iter().flat_map(|s| &s.findings);
    json!({
        "run": outcome.request_id,
        "workflow": run.workflow,
        "plan_hash": run.plan_hash,
        "verdict": run.verdict.as_str(),
        "findings": findings
            .map(|f| json!({"validator": f.validator, "code": f.code, "path": f.path}))
            .collect::<Vec<_>>(),
        "repairs": run.repairs,
        "attempts": outcome.calls,
        "served_by": run.served_by,
        "cost_usd": outcome.cost_known.then(|| outcome.cost_usd.dollars()),
        "usage": outcome.usage,
        "budget_exhausted": run.exhausted.is_some(),
        "stream_mode": run.stream_mode.split(':').next(),
        "policy": decision.rules,
        "continued": run.continued.is_some(),
    })
}
