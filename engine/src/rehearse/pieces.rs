//! A model's answer in pieces, as a test says it, on the simulated clock.

use super::case::{ERRORS, error_kind};
use super::clock::Clock;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use types::Chunk;
use types::Usage;
use types::completion::{Delta, FinishReason};
use types::doc::{self, Node, Reader};
use types::matrix::Model;
use types::provider::Error;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Wait(Duration),
    /// The stream breaks here, with this kind of failure.
    Error(String),
}

/// Reads a list of texts, `{ wait: <duration> }` and, last, `{ error: <kind> }`.
pub(super) fn lower(r: &mut Reader<'_>, n: &Node, path: &str) -> Option<Vec<Piece>> {
    let list = r.list(n, path)?;
    let mut pieces = Vec::new();
    for (i, n) in list.iter().enumerate() {
        let at = format!("{path}[{i}]");
        if !matches!(n.value, doc::Value::Map(_)) {
            pieces.push(Piece::Text(r.string(n, &at)?));
            continue;
        }
        let mut f = r.fields(n, &at)?;
        let wait = f.take("wait").and_then(|n| r.duration(n, &f.at("wait")));
        let error = f.take("error").and_then(|n| r.one_of(n, &f.at("error"), ERRORS));
        f.finish(r);
        match (wait, error) {
            (Some(wait), None) => pieces.push(Piece::Wait(wait)),
            (None, Some(kind)) => pieces.push(Piece::Error(kind.to_owned())),
            _ => {
                let d = r.error("102", n.span, "a piece of a stream is one thing");
                d.expected = Some("a text, `wait` or `error`".to_owned());
                return None;
            }
        }
        if i.saturating_add(1) < list.len() && matches!(pieces.last(), Some(Piece::Error(_))) {
            let d = r.error("104", n.span, "nothing comes after a stream has broken");
            d.hint = Some("put `error` last".to_owned());
            return None;
        }
    }
    Some(pieces)
}

/// All of the text.
pub(super) fn text(pieces: &[Piece]) -> String {
    let texts = pieces.iter().filter_map(|p| match p {
        Piece::Text(text) => Some(text.as_str()),
        Piece::Wait(_) | Piece::Error(_) => None,
    });
    texts.collect()
}

/// How it breaks, if it does.
pub(super) fn broken(pieces: &[Piece]) -> Option<&str> {
    match pieces.last() {
        Some(Piece::Error(kind)) => Some(kind),
        _ => None,
    }
}

/// How long all of it takes.
pub(super) fn time(pieces: &[Piece]) -> Duration {
    let waits = pieces.iter().map(|p| if let Piece::Wait(w) = p { *w } else { Duration::ZERO });
    waits.fold(Duration::ZERO, Duration::saturating_add)
}

/// The pieces as they come, then the end of the answer.
pub(super) fn flow(
    pieces: VecDeque<Piece>,
    clock: Arc<Clock>,
    model: Arc<Model>,
    usage: Usage,
) -> BoxStream<'static, Result<Chunk, Error>> {
    let next = move |left: Option<VecDeque<Piece>>| {
        let (clock, model) = (clock.clone(), model.clone());
        async move {
            let mut left = left?;
            loop {
                return match left.pop_front() {
                    Some(Piece::Wait(time)) => {
                        clock.sleep(time).await;
                        continue;
                    }
                    Some(Piece::Text(text)) => Some((Ok(chunk(Some(text), None)), Some(left))),
                    Some(Piece::Error(kind)) => {
                        Some((Err(Error::new(error_kind(&kind), &model, "as the test says")), None))
                    }
                    None => {
                        let end = chunk(None, Some(FinishReason::Stop));
                        Some((Ok(Chunk { usage: Some(usage), ..end }), None))
                    }
                };
            }
        }
    };
    stream::unfold(Some(pieces), next).boxed()
}

fn chunk(text: Option<String>, finish_reason: Option<FinishReason>) -> Chunk {
    Chunk { choices: vec![Delta { text, finish_reason, ..Delta::default() }], ..Chunk::default() }
}
