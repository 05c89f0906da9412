//! Results of effects as a journal holds them: written whole, read back equal.

use crate::said::OfCall;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use types::matrix::Model;
use types::provider::{self, ErrorKind};
use types::run::CallRecord;
use types::{Completion, Report};
use workflows::{
    Cached, Consent, Exhausted, Failure, GateReply, Generated, Recalled, ToolFailure, ToolReply,
};

/// Finds a model by its name; `None` = the configuration has it no longer.
pub(super) type Models = dyn Fn(&str) -> Option<Arc<Model>> + Send + Sync;

/// Beside the result of a call of a tool: what rules said of it.
const SAID: &str = "said";

/// What cannot be read back; why.
pub(super) type Unreadable = String;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome<T, E> {
    Ok(T),
    Error(E),
}

/// An answer of a model with the calls it took.
#[derive(Serialize, Deserialize)]
struct Call {
    #[serde(flatten)]
    outcome: Outcome<Answer, CallFailure>,
    /// Nano-dollars that were taken from the budget of the question.
    #[serde(default)]
    budget: i64,
    #[serde(default)]
    calls: Vec<CallRecord>,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    completion: Completion,
    model: String,
    #[serde(default)]
    served: workflows::Served,
}

impl Answer {
    fn of(completion: &Completion, model: &Model, served: &workflows::Served) -> Self {
        Answer { completion: completion.clone(), model: model.id.to_string(), served: served.clone() }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CallFailure {
    Provider {
        kind: ErrorKind,
        status: Option<u16>,
        model: String,
        detail: String,
        retry_after_ms: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<Box<provider::Fault>>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        no_time: bool,
    },
    NoCandidate {
        why: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wait_ms: Option<u64>,
    },
    Budget(Exhausted),
    Deadline,
}

/// What a model answered, as it is served again.
pub(super) struct Served {
    pub(super) result: Result<Generated, Failure>,
    /// Nano-dollars that the budget of the question has to bear.
    pub(super) budget: i64,
    pub(super) calls: Vec<CallRecord>,
}

/// Writes down what a model answered, the calls it took, and what its budget bore. A stream is put together by
/// who calls this.
pub(super) fn write_call(
    result: Result<(&Completion, &Model, &workflows::Served), &Failure>,
    budget: i64,
    calls: Vec<CallRecord>,
) -> Value {
    let outcome = match result {
        Ok((completion, model, served)) => Outcome::Ok(Answer::of(completion, model, served)),
        Err(failure @ (Failure::Provider(e) | Failure::NoTime(e))) => Outcome::Error(CallFailure::Provider {
            kind: e.kind,
            status: e.status,
            model: e.model.clone(),
            detail: e.detail.clone(),
            retry_after_ms: e.retry_after.and_then(|d| u64::try_from(d.as_millis()).ok()),
            fault: e.fault.clone(),
            no_time: matches!(failure, Failure::NoTime(_)),
        }),
        Err(Failure::NoCandidate { why, wait }) => Outcome::Error(CallFailure::NoCandidate {
            why: why.clone(),
            wait_ms: wait.and_then(|d| u64::try_from(d.as_millis()).ok()),
        }),
        Err(Failure::Budget(limit)) => Outcome::Error(CallFailure::Budget(*limit)),
        Err(Failure::Deadline) => Outcome::Error(CallFailure::Deadline),
    };
    to_json(&Call { outcome, budget, calls })
}

/// Reads what [`write_call`] wrote.
///
/// # Errors
/// It is something else, or the model is gone.
pub(super) fn read_call(value: Value, models: &Models) -> Result<Served, Unreadable> {
    let Call { outcome, budget, calls } = read(value)?;
    let result = match outcome {
        Outcome::Ok(Answer { completion, model, served }) => {
            let model =
                models(&model).ok_or_else(|| format!("model `{model}` is no longer in the matrix"))?;
            Ok(Generated::Whole { completion, model, served })
        }
        Outcome::Error(e) => Err(failure(e)),
    };
    Ok(Served { result, budget, calls })
}

fn failure(e: CallFailure) -> Failure {
    match e {
        CallFailure::Provider { kind, status, model, detail, retry_after_ms, fault, no_time } => {
            let retry_after = retry_after_ms.map(Duration::from_millis);
            let error = provider::Error {
                kind,
                status,
                model,
                detail,
                retry_after,
                daily: false,
                no_model: false,
                unanswered: false,
                fault,
                used: None,
            };
            if no_time { Failure::NoTime(error) } else { Failure::Provider(error) }
        }
        CallFailure::NoCandidate { why, wait_ms } => {
            Failure::NoCandidate { why, wait: wait_ms.map(Duration::from_millis) }
        }
        CallFailure::Budget(limit) => Failure::Budget(limit),
        CallFailure::Deadline => Failure::Deadline,
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToolRefusal {
    Unknown(String),
    Denied(String),
    BadArgs(String),
    Timeout,
    Failed(String),
    Approval(Vec<Consent>),
}

/// Writes down what a tool answered.
pub(super) fn write_tool(result: &Result<ToolReply, ToolFailure>, said: &OfCall) -> Value {
    let mut written = match result {
        Ok(ToolReply { result, is_error }) => json!({"ok": {"result": result, "is_error": is_error}}),
        Err(e) => {
            let e = match e.clone() {
                ToolFailure::Unknown(s) => ToolRefusal::Unknown(s),
                ToolFailure::Denied(s) => ToolRefusal::Denied(s),
                ToolFailure::BadArgs(s) => ToolRefusal::BadArgs(s),
                ToolFailure::Timeout => ToolRefusal::Timeout,
                ToolFailure::Failed(s) => ToolRefusal::Failed(s),
                ToolFailure::Approval(groups) => ToolRefusal::Approval(groups),
            };
            json!({"error": e})
        }
    };
    if let (false, Some(members)) = (said.is_empty(), written.as_object_mut()) {
        members.insert(SAID.to_owned(), to_json(said));
    }
    written
}

/// Reads what [`write_tool`] wrote.
///
/// # Errors
/// It is something else.
pub(super) fn read_tool(mut value: Value) -> Result<(Result<ToolReply, ToolFailure>, OfCall), Unreadable> {
    #[derive(Deserialize)]
    struct Reply {
        result: Value,
        #[serde(default)]
        is_error: bool,
    }
    let said = value.as_object_mut().and_then(|members| members.shift_remove(SAID));
    let said = said.map_or_else(|| Ok(OfCall::default()), read)?;
    let reply = match read::<Outcome<Reply, ToolRefusal>>(value)? {
        Outcome::Ok(Reply { result, is_error }) => Ok(ToolReply { result, is_error }),
        Outcome::Error(e) => Err(match e {
            ToolRefusal::Unknown(s) => ToolFailure::Unknown(s),
            ToolRefusal::Denied(s) => ToolFailure::Denied(s),
            ToolRefusal::BadArgs(s) => ToolFailure::BadArgs(s),
            ToolRefusal::Timeout => ToolFailure::Timeout,
            ToolRefusal::Failed(s) => ToolFailure::Failed(s),
            ToolRefusal::Approval(groups) => ToolFailure::Approval(groups),
        }),
    };
    Ok((reply, said))
}

/// Writes down what a check said.
pub(super) fn write_report(report: &Report) -> Value {
    to_json(report)
}

/// Reads what [`write_report`] wrote.
///
/// # Errors
/// It is something else.
pub(super) fn read_report(value: Value) -> Result<Report, Unreadable> {
    read(value)
}

/// Writes down what people decided.
pub(super) fn write_gate(reply: &GateReply) -> Value {
    match reply {
        GateReply::Approved(comment) => json!({"decision": "approved", "comment": comment}),
        GateReply::Rejected(comment) => json!({"decision": "rejected", "comment": comment}),
        GateReply::Expired => json!({"decision": "expired"}),
    }
}

/// Reads what [`write_gate`] wrote.
///
/// # Errors
/// It is something else.
pub(super) fn read_gate(value: Value) -> Result<GateReply, Unreadable> {
    #[derive(Deserialize)]
    #[serde(tag = "decision", rename_all = "snake_case")]
    enum Said {
        Approved {
            #[serde(default)]
            comment: Option<String>,
        },
        Rejected {
            #[serde(default)]
            comment: Option<String>,
        },
        Expired,
    }
    Ok(match read(value)? {
        Said::Approved { comment } => GateReply::Approved(comment),
        Said::Rejected { comment } => GateReply::Rejected(comment),
        Said::Expired => GateReply::Expired,
    })
}

#[derive(Serialize, Deserialize)]
struct Kept {
    outcome: String,
    outputs: Value,
    completions: Vec<Answer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    similarity: Option<f64>,
}

/// Writes down what was found in a store.
pub(super) fn write_recalled(found: Option<&Recalled>) -> Value {
    let kept = found.map(|Recalled { cached: c, of, similarity }| Kept {
        of: of.clone(),
        similarity: *similarity,
        outcome: c.outcome.clone(),
        outputs: c.outputs.clone(),
        completions: c
            .completions
            .iter()
            .map(|(completion, model, served)| Answer::of(completion, model, served))
            .collect(),
    });
    to_json(&kept)
}

/// Reads what [`write_recalled`] wrote.
///
/// # Errors
/// It is something else, or a model is gone.
pub(super) fn read_recalled(value: Value, models: &Models) -> Result<Option<Recalled>, Unreadable> {
    let Some(Kept { outcome, outputs, completions, of, similarity }) = read(value)? else { return Ok(None) };
    let with_model = |Answer { completion, model, served }: Answer| {
        let found = models(&model).ok_or_else(|| format!("model `{model}` is no longer in the matrix"))?;
        Ok((completion, found, served))
    };
    let completions = completions.into_iter().map(with_model).collect::<Result<_, Unreadable>>()?;
    Ok(Some(Recalled { cached: Cached { outcome, outputs, completions }, of, similarity }))
}

fn read<T: serde::de::DeserializeOwned>(mut value: Value) -> Result<T, Unreadable> {
    // Where it was taken over from is no part of what was answered.
    if let Some(object) = value.as_object_mut() {
        object.remove("from");
    }
    serde_json::from_value(value).map_err(|e| format!("a recorded result is not what it should be: {e}"))
}

/// What is written here has string keys only, which always becomes JSON.
fn to_json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::run::Verdict;

    #[test]
    fn failures_come_back_as_they_were() {
        let provider = Failure::Provider(provider::Error {
            kind: ErrorKind::RateLimited,
            status: Some(429),
            model: "p/m".into(),
            detail: "slow down".into(),
            retry_after: Some(Duration::from_millis(1_500)),
            no_model: false,
            daily: false,
            unanswered: false,
            fault: Some(Box::new(provider::Fault { param: Some("messages".into()), code: None })),
            used: None,
        });
        let budgets = Exhausted::ALL.map(Failure::Budget);
        let kept_out = Failure::NoCandidate { why: "none".into(), wait: Some(Duration::from_millis(1_500)) };
        let others =
            [provider.clone().without_time(), provider, kept_out, Failure::nobody("none"), Failure::Deadline];
        for failure in others.into_iter().chain(budgets) {
            let written = write_call(Err(&failure), 7, Vec::new());
            let served = read_call(written, &|_| None).unwrap();
            assert_eq!((served.result.unwrap_err(), served.budget), (failure, 7));
        }
        assert!(read_call(json!({"ok": {"completion": {}, "model": "p/gone"}}), &|_| None).is_err());
        assert!(read_call(json!({"else": 1}), &|_| None).is_err());
        let of = |limit: &str| json!({"error": {"budget": limit}, "budget": 0, "calls": []});
        assert!(read_call(of("node_runs"), &|_| None).is_ok());
        assert!(
            read_call(of("tenant"), &|_| None).is_err(),
            "a limit that there is not is none of those there are"
        );
    }

    #[test]
    fn replies_of_tools_people_and_checks_come_back_as_they_were() {
        let tools = [
            Ok(ToolReply { result: json!({"a": [1.5]}), is_error: true }),
            Err(ToolFailure::Unknown("x".into())),
            Err(ToolFailure::Denied("x".into())),
            Err(ToolFailure::BadArgs("x".into())),
            Err(ToolFailure::Timeout),
            Err(ToolFailure::Failed("x".into())),
            Err(ToolFailure::Approval(vec![Consent {
                group: "ops".to_owned(),
                reason: "it sends".to_owned(),
                expires_ms: 5,
            }])),
        ];
        let said = json!({"actions": [{"rule": "r", "verb": "tag", "argument": {"a": "b"}, "effect": "applied"}], "tags": {"a": "b"}});
        let said: OfCall = serde_json::from_value(said).unwrap();
        for (tool, said) in tools.into_iter().zip([OfCall::default(), said].into_iter().cycle()) {
            let written = write_tool(&tool, &said);
            assert_eq!(written.get(SAID).is_some(), !said.is_empty());
            assert_eq!(read_tool(written).unwrap(), (tool, said));
        }
        let said = [GateReply::Approved(Some("ok".into())), GateReply::Rejected(None), GateReply::Expired];
        for said in said {
            assert_eq!(read_gate(write_gate(&said)).unwrap(), said);
        }
        let report = Report { verdict: Verdict::Failed, reason: Some("why".into()), findings: Vec::new() };
        assert_eq!(read_report(write_report(&report)).unwrap(), report);
        let cached =
            Cached { outcome: "ok".to_owned(), outputs: json!({"text": "a"}), completions: Vec::new() };
        let found = Recalled { cached, of: Some("r".to_owned()), similarity: Some(0.98) };
        for found in [None, Some(found)] {
            assert_eq!(read_recalled(write_recalled(found.as_ref()), &|_| None).unwrap(), found);
        }
    }
}
