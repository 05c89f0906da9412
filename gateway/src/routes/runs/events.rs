//! `GET /v1/runs/{id}/events`: a run's journal as server-sent events, from any point, to its end.

use super::show::{form, unknown_parameter};
use super::{expected, object, refusal};
use crate::app::App;
use crate::error::Failure;
use crate::front::Arrival;
use crate::routes::Shared;
use axum::body::Body;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::response::Response;
use bytes::Bytes;
use engine::runs::{Following, is_judged};
use futures_util::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use types::runs::JOURNAL_PAGE;

const LAST: HeaderName = HeaderName::from_static("last-event-id");
/// The one parameter of its address.
const AFTER: &str = "after";
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Another process may write to the same runs, of which nobody here is told: looked for so often.
const LOOK: Duration = Duration::from_secs(1);

/// Follows a run.
pub(crate) async fn get(
    State(app): Shared,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let after = after(&headers, query.as_deref().unwrap_or_default())?;
    let tenant = arrival.tenant().to_owned();
    // Before the head goes out: a run that is not there is a plain 404.
    app.runs.head(&tenant, &id).await.map_err(refusal)?;
    // How it began, where the client has seen that already.
    let before = if after > 0 { app.runs.whole_journal(&id).await.map_err(refusal)? } else { Vec::new() };
    let judged = is_judged(&before);
    let follow = Follow { changes: app.runs.follow(&id), app, tenant, id, after, judged, over: false };
    let events = stream::unfold(follow, |mut follow| async move {
        let bytes = follow.next().await?;
        Some((Ok::<_, Infallible>(bytes), follow))
    });
    let mut response = Response::new(Body::from_stream(events));
    let all = response.headers_mut();
    all.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    all.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    all.insert(NO_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// After which event: what the browser saw last outranks what the address says.
fn after(headers: &HeaderMap, query: &str) -> Result<u64, Failure> {
    let mut asked = 0;
    for (key, value) in form(query)? {
        if key != AFTER {
            return Err(unknown_parameter(&key, &[AFTER]));
        }
        asked = value.parse().map_err(|_| expected(AFTER, "a sequence number"))?;
    }
    if let Some(value) = headers.get(LAST) {
        let seen = value.to_str().ok().and_then(|v| v.trim().parse().ok());
        return seen.ok_or_else(|| expected("last-event-id", "the id of an event"));
    }
    Ok(asked)
}

struct Follow {
    app: Arc<App>,
    changes: Following,
    tenant: String,
    id: String,
    after: u64,
    /// Rules may keep its answer from the client.
    judged: bool,
    over: bool,
}

impl Follow {
    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let keep_alive = self.app.server.stream.keep_alive;
        let quiet = tokio::time::Instant::now();
        loop {
            // What changes from here on is not missed while the journal is read.
            self.changes.seen();
            match self.look().await {
                Ok(Some(bytes)) => return Some(bytes),
                Ok(None) => {}
                Err(failure) => {
                    self.over = true;
                    return Some(format!("event: error\ndata: {}\n\n", failure.body()).into());
                }
            }
            if !keep_alive.is_zero() && quiet.elapsed() >= keep_alive {
                return Some(Bytes::from_static(b": keep-alive\n\n"));
            }
            tokio::select! {
                biased;
                () = self.app.kill.cancelled() => {
                    self.over = true;
                    return None;
                }
                () = self.changes.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// What is there beyond the last event.
    async fn look(&mut self) -> Result<Option<Bytes>, Failure> {
        // Read before the journal: a run that has ended by then has written everything.
        let head = self.app.runs.head(&self.tenant, &self.id).await.map_err(refusal)?;
        let entries = self.app.runs.journal(&self.id, self.after, JOURNAL_PAGE).await.map_err(refusal)?;
        let mut out = String::new();
        self.judged |= is_judged(&entries);
        for entry in &entries {
            self.after = entry.seq;
            if let Some(event) = object::event(entry, self.judged) {
                let kind = entry.record.kind();
                out.push_str(&format!("id: {}\nevent: {kind}\ndata: {event}\n\n", entry.seq));
            }
        }
        if head.state.is_final() && entries.len() < JOURNAL_PAGE {
            self.over = true;
            out.push_str("data: [DONE]\n\n");
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_seen_outranks_the_address() {
        let check = |seen: Option<&str>, query: &str, want: Option<u64>| {
            let mut headers = HeaderMap::new();
            if let Some(seen) = seen {
                headers.insert(LAST, seen.parse().unwrap());
            }
            assert_eq!(after(&headers, query).ok(), want, "{seen:?} {query}");
        };
        check(None, "", Some(0));
        check(None, "after=7", Some(7));
        check(Some("9"), "after=7", Some(9));
        check(None, "after=x", None);
        check(Some("x"), "", None);
        check(None, "after=%37", Some(7));
        check(None, "afetr=7", None);
        check(Some("9"), "afetr=7", None);
    }
}
