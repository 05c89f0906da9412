//! What a call will do and when: all of it is decided before the first wait.

use super::answer::{self, Turn, tokens};
use super::contract::{self, Contract};
use super::draw::Draw;
use super::{FINGERPRINT, wire};
use futures_util::StreamExt;
use futures_util::stream;
use std::time::Duration;
use types::completion::{Chunk, Completion, Usage};
use types::matrix::Simulate;
use types::provider::{Call, Error, ErrorKind, Reply};

/// Longest time to the first token, whatever is drawn.
const MAX_TTFT: Duration = Duration::from_secs(600);

/// Fewest and most tokens of reasoning at medium effort.
const REASONING: (usize, usize) = (150, 900);

/// What a call does.
pub(super) enum Script {
    /// Answers whole.
    Whole {
        /// Counted from the call.
        after: Duration,
        /// What is given then.
        result: Result<Completion, Error>,
    },
    /// Answers as a stream.
    Stream(Vec<Step>),
}

/// One event of a stream.
pub(super) struct Step {
    /// Counted from the event before.
    pub(super) after: Duration,
    /// What comes.
    pub(super) item: Result<Chunk, Error>,
}

/// Failure modes that strike a call as a whole.
enum Strike {
    Turn(Turn),
    Cut,
    Stall,
    At(Error),
}

/// Decides everything about a call.
///
/// # Errors
/// `BadRequest` if the model does not say how it behaves.
pub(super) fn write(call: &Call) -> Result<Script, Error> {
    let Some(sim) = &call.model.simulate else {
        return Err(Error::new(ErrorKind::BadRequest, &call.model, "this model has no `simulate` block"));
    };
    let messages = serde_json::to_vec(contract::messages(call)).unwrap_or_default();
    let mut draw = Draw::new(&[
        &call.provider.seed.to_le_bytes(),
        call.model.id.as_bytes(),
        call.request.body(),
        &messages,
        call.id.as_bytes(),
    ]);
    let ttft = scaled(sim.ttft, (sim.sigma * draw.normal()).exp());
    let contract = contract::of(call);
    let strike = strike(sim, call, &contract, &mut draw);
    if let Some(Strike::At(error)) = strike {
        // A refused call is answered at once: a fifth of the usual wait.
        return Ok(if call.stream {
            Script::Stream(limit(call, vec![Step { after: ttft / 5, item: Err(error) }]))
        } else {
            whole(call, ttft / 5, Err(error))
        });
    }
    let turn = if let Some(Strike::Turn(turn)) = strike { Some(turn) } else { None };
    let completion = complete(call, sim, &contract, turn, &mut draw);
    let thought = seconds(f64::from(completion.usage.reasoning) / sim.tokens_per_second);
    let first = ttft.saturating_add(thought);
    if !call.stream {
        let visible = completion.usage.output.saturating_sub(completion.usage.reasoning);
        let after = first.saturating_add(seconds(f64::from(visible) / sim.tokens_per_second));
        return Ok(match strike {
            Some(Strike::Cut) => whole(call, after / 2, Err(lost(call))),
            Some(Strike::Stall) => whole(call, Duration::MAX, Ok(completion)),
            _ => whole(call, after, Ok(wire::with_raw(completion, FINGERPRINT))),
        });
    }
    let mut steps = paced(&completion, first, sim);
    let keep = draw.between(2, steps.len().saturating_sub(2).max(2));
    match strike {
        Some(Strike::Cut) => {
            steps.truncate(keep);
            steps.push(Step { after: Duration::ZERO, item: Err(lost(call)) });
        }
        Some(Strike::Stall) => {
            // Silence either from the start or in the middle.
            steps.truncate(if draw.below(2) == 0 { 0 } else { keep });
            steps.push(Step { after: Duration::MAX, item: Err(lost(call)) });
        }
        _ => {}
    }
    Ok(Script::Stream(limit(call, steps)))
}

/// Plays a stream: what comes first is waited for here, so that a failure before it is the call's failure.
pub(super) async fn play(steps: Vec<Step>) -> Result<Reply, Error> {
    let mut steps = steps.into_iter();
    let Some(first) = steps.next() else { return Ok(Reply::Stream(stream::empty().boxed())) };
    tokio::time::sleep(first.after).await;
    let first = first.item?;
    let rest = stream::unfold(steps, |mut steps| async {
        let step = steps.next()?;
        // A zero sleep would still cost a turn of the timer.
        if !step.after.is_zero() {
            tokio::time::sleep(step.after).await;
        }
        Some((step.item, steps))
    });
    Ok(Reply::Stream(stream::iter([Ok(first)]).chain(rest).boxed()))
}

/// Draws whether one of the model's failure modes strikes; each with its stated probability, at most one.
fn strike(sim: &Simulate, call: &Call, contract: &Contract, draw: &mut Draw) -> Option<Strike> {
    let mut u = draw.unit();
    let mut hit = None;
    for (mode, p) in &sim.failures {
        if u < p.get() {
            hit = Some(mode.as_str());
            break;
        }
        u -= p.get();
    }
    let http = |kind, status, detail: &str| {
        Strike::At(Error {
            status: Some(status),
            ..Error::new(kind, &call.model, format!("simulated {detail}"))
        })
    };
    Some(match hit? {
        "broken_json" if contract.is_json() => Strike::Turn(Turn::BrokenJson),
        "wrong_schema" if contract.is_json() => Strike::Turn(Turn::WrongSchema),
        "refuse" => Strike::Turn(Turn::Refuse),
        "truncate" => Strike::Turn(Turn::Truncate),
        "cut_stream" => Strike::Cut,
        "stall" => Strike::Stall,
        "http_429" => {
            let wait = Duration::from_secs(draw.between(1, 3) as u64);
            match http(ErrorKind::RateLimited, 429, "rate limit") {
                Strike::At(e) => Strike::At(Error { retry_after: Some(wait), ..e }),
                other => other,
            }
        }
        "http_500" => http(ErrorKind::Unavailable, 500, "server error"),
        "connect_error" => {
            Strike::At(Error::new(ErrorKind::Connect, &call.model, "simulated refusal of the connection"))
        }
        _ => return None,
    })
}

fn lost(call: &Call) -> Error {
    Error::new(
        ErrorKind::StreamLost,
        &call.model,
        "simulated end of the connection before the end of the answer",
    )
}

/// Writes all choices and counts their tokens.
fn complete(
    call: &Call,
    sim: &Simulate,
    contract: &Contract,
    turn: Option<Turn>,
    draw: &mut Draw,
) -> Completion {
    let most =
        call.edits.max_tokens.or(call.request.params.max_tokens).unwrap_or(call.model.max_output_tokens);
    let reasoning = reasoning(call, most, draw);
    let id = format!("chatcmpl-sim-{:016x}", draw.bits());
    let mut choices = Vec::new();
    for index in 0..call.request.params.n.max(1) {
        let turn = turn.unwrap_or_else(|| answer::turn(sim, call, contract, draw));
        let choice = answer::write(call, contract, turn, most.saturating_sub(reasoning), draw);
        choices.push(types::completion::Choice { index, ..choice });
    }
    let visible: u32 = choices.iter().map(|c| tokens(answer::body(c))).sum();
    Completion {
        id,
        created: 0,
        model: call.model.id.to_string(),
        choices,
        usage: Usage {
            input: input_tokens(call),
            output: visible.saturating_add(reasoning),
            reasoning,
            ..Usage::default()
        },
        ..Completion::default()
    }
}

/// Tokens of reasoning of a model that reasons: more where more effort is asked for, never more than half
/// of what may be written.
fn reasoning(call: &Call, most: u32, draw: &mut Draw) -> u32 {
    if !call.model.abilities.reasoning {
        return 0;
    }
    let (lo, hi) = REASONING;
    let scale = match call.reasoning_effort() {
        Some("none") => 0,
        Some("minimal" | "low") => 1,
        Some("high" | "xhigh" | "max") => 6,
        _ => 3,
    };
    let drawn = draw.between(lo, hi).saturating_mul(scale) / 3;
    u32::try_from(drawn).unwrap_or(u32::MAX).min(most / 2)
}

fn input_tokens(call: &Call) -> u32 {
    let said: usize = contract::messages(call).iter().flat_map(|m| m.content.texts()).map(str::len).sum();
    let tools = if call.edits.without_tools { &[][..] } else { call.tools() };
    let offered: usize = tools.iter().map(|t| t.raw.get().len()).sum();
    u32::try_from(said.saturating_add(offered).div_ceil(4)).unwrap_or(u32::MAX).max(1)
}

/// The chunks with the time each takes to write.
fn paced(completion: &Completion, first: Duration, sim: &Simulate) -> Vec<Step> {
    let chunks = wire::chunks(completion, FINGERPRINT);
    let mut steps = Vec::with_capacity(chunks.len());
    for (i, chunk) in chunks.into_iter().enumerate() {
        let bytes: usize = chunk.choices.iter().map(written).sum();
        let pace = seconds(bytes as f64 / 4.0 / sim.tokens_per_second);
        steps.push(Step { after: if i == 0 { first } else { pace }, item: Ok(chunk) });
    }
    steps
}

fn written(d: &types::completion::Delta) -> usize {
    let text = d.text.as_deref().map_or(0, str::len).saturating_add(d.refusal.as_deref().map_or(0, str::len));
    d.tool_calls.iter().map(|t| t.arguments.len()).fold(text, usize::saturating_add)
}

/// Time left for the whole call.
fn budget(call: &Call) -> Duration {
    call.remaining.min(call.provider.timeouts.total)
}

fn whole(call: &Call, after: Duration, result: Result<Completion, Error>) -> Script {
    let (first, total) = (call.provider.timeouts.first_token, budget(call));
    let (limit, kind) =
        if total <= first { (total, ErrorKind::TotalTimeout) } else { (first, ErrorKind::FirstTokenTimeout) };
    if after <= limit {
        return Script::Whole { after, result };
    }
    Script::Whole { after: limit, result: Err(late(call, kind)) }
}

fn late(call: &Call, kind: ErrorKind) -> Error {
    Error::new(kind, &call.model, "the simulated model took longer than allowed")
}

/// Ends a stream where a real transport would: at the first gap that is too long, or when the time is over.
fn limit(call: &Call, steps: Vec<Step>) -> Vec<Step> {
    let t = call.provider.timeouts;
    let mut left = budget(call);
    let mut out = Vec::with_capacity(steps.len());
    for step in steps {
        let (gap, kind) = if out.is_empty() {
            (t.first_token, ErrorKind::FirstTokenTimeout)
        } else {
            (t.inter_token, ErrorKind::InterTokenTimeout)
        };
        let (gap, kind) = if left < gap { (left, ErrorKind::TotalTimeout) } else { (gap, kind) };
        if step.after > gap {
            out.push(Step { after: gap, item: Err(late(call, kind)) });
            return out;
        }
        left = left.saturating_sub(step.after);
        let end = step.item.is_err();
        out.push(step);
        if end {
            return out;
        }
    }
    out
}

fn seconds(s: f64) -> Duration {
    Duration::try_from_secs_f64(s).unwrap_or(MAX_TTFT)
}

fn scaled(d: Duration, by: f64) -> Duration {
    seconds(d.as_secs_f64() * by).min(MAX_TTFT)
}
