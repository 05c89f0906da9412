//! Clients: they ask, read fast or slowly, stay or leave, and look at what they are given.

use crate::book::{Asked, Book};
use crate::days::Periods;
use crate::traffic::{Ask, Caller};
use engine::{Admission, Answer, Engine, Event};
use futures_util::StreamExt as _;
use serde_json::Value;
use std::sync::Arc;
use tokio::time::{Instant, sleep, timeout};
use types::outcome::Status;
use types::{ChatRequest, FinishReason, Verdict};

/// What tells whose a text is.
const MARK: &str = "tenant:";

/// Whether everything in a text that says whose it is says this tenant.
pub(crate) fn is_of(text: &str, tenant: &str) -> bool {
    text.match_indices(MARK).all(|(at, _)| text[at + MARK.len()..].starts_with(tenant))
}

/// How it ended for the client.
enum End {
    /// With an answer, and what the checks say of it.
    Answered(String, Option<FinishReason>, Verdict),
    Failed(engine::Error),
    Left,
}

pub(crate) async fn ask(
    engine: Engine,
    caller: Arc<Vec<Caller>>,
    ask: Ask,
    book: Arc<Book>,
    (life, periods): (u32, Periods),
) {
    let caller = &caller[ask.caller];
    let request = ChatRequest::from_value(&ask.body).unwrap();
    let admission = Admission {
        deadline: ask.deadline,
        ..Admission::new(ask.id.clone(), caller.who.clone(), Instant::now())
    };
    let on_record = Some(admission.on_record.clone());
    let (tenant, never) = (caller.tenant, ask.never.clone());
    let key = caller.who.principal.key_id().to_owned();
    let (end, crosses, rested) = (None, false, false);
    let asked = Asked { tenant, never, on_record, end, life, periods, crosses, rested, key };
    book.facts().asked.insert(ask.id.clone(), asked);
    book.say(format!("{} of {tenant} asks {}", ask.id, ask.body["model"]));
    let work = answered(engine, admission, request, &ask, &book);
    let end = match ask.patience {
        None => work.await,
        Some(patience) => timeout(patience, work).await.unwrap_or(End::Left),
    };
    let status = match &end {
        End::Answered(text, finish, verdict) => {
            book.say(format!("{} has {} bytes, {finish:?}, {}", ask.id, text.len(), verdict.as_str()));
            look(&ask, tenant, (text, finish.as_ref(), *verdict), &book);
            Status::Delivered
        }
        End::Failed(error) => {
            book.say(format!("{} Failed({}) {:?}", ask.id, error.code(), error.retry_after));
            Status::Failed
        }
        End::Left => {
            book.say(format!("{} leaves", ask.id));
            Status::Cancelled
        }
    };
    book.facts().asked.get_mut(&ask.id).unwrap().end = Some(status);
}

async fn answered(engine: Engine, admission: Admission, request: ChatRequest, ask: &Ask, book: &Book) -> End {
    let mut live = match engine.chat(admission, request).await {
        Err(e) => return End::Failed(e),
        Ok(Answer::Whole(whole)) => {
            let choice = &whole.completion.choices[0];
            return End::Answered(choice.text.clone(), choice.finish_reason.clone(), whole.tail.verdict);
        }
        Ok(Answer::Live(live)) => live,
        Ok(Answer::AsRun) => {
            book.wrong(format!("{} became a run", ask.id));
            return End::Left;
        }
    };
    let (mut text, mut finish, mut seen, mut end) = (String::new(), None, 0, None);
    while let Some(event) = live.events.next().await {
        book.must(end.is_none(), || format!("{}: something follows the end of its stream", ask.id));
        match event {
            Event::Serves(_) => {}
            Event::Chunk(chunk) => {
                for delta in &chunk.choices {
                    text.push_str(delta.text.as_deref().unwrap_or_default());
                    finish = delta.finish_reason.clone().or(finish);
                }
                if !is_of(&text, book.facts().asked[&ask.id].tenant) {
                    book.wrong(format!("{} is given {text}", ask.id));
                }
            }
            Event::Done(tail) => end = Some(End::Answered(text.clone(), finish.clone(), tail.verdict)),
            Event::Failed(e) => end = Some(End::Failed(e)),
        }
        seen += 1;
        if ask.reads.is_some_and(|n| seen > n) && end.is_none() {
            return End::Left;
        }
        if end.is_none() {
            sleep(ask.pace).await;
        }
    }
    end.unwrap_or_else(|| {
        book.wrong(format!("{}: its stream just ends", ask.id));
        End::Left
    })
}

/// Looks at an answer that ended as a whole one does.
fn look(
    ask: &Ask,
    tenant: &str,
    (text, finish, verdict): (&str, Option<&FinishReason>, Verdict),
    book: &Book,
) {
    let facts = book.facts();
    let mut wrong = Vec::new();
    if !is_of(text, tenant) {
        wrong.push(format!("it holds what belongs to somebody else: {text}"));
    }
    let record = facts.records.get(&ask.id);
    let recalled = record.is_some_and(|r| r.run.recalled > 0);
    if !recalled && !facts.bills.iter().any(|b| b.request == ask.id && b.whole) {
        wrong.push("nobody answered it to the end".to_owned());
    }
    let form = ask.body.get("response_format").is_some();
    if form {
        let fits = serde_json::from_str::<Value>(text).is_ok_and(|v| v["name"].is_string());
        if verdict == Verdict::Passed && !fits {
            wrong.push(format!("it passed its checks as {text}"));
        }
    } else {
        let continued = record.is_some_and(|r| r.run.continued.is_some());
        let is_whole = facts.texts.get(tenant).is_some_and(|all| all.contains(text));
        let has_end = text.ends_with("[end]") || finish == Some(&FinishReason::Length);
        let is_given = is_whole || (continued && has_end);
        if !is_given {
            wrong.push(format!("no vendor gave that to its end: {text}"));
        }
    }
    match record.map(|r| r.outcome.status) {
        Some(Status::Delivered) => {}
        other => wrong.push(format!("it ends with its record at {other:?}")),
    }
    drop(facts);
    for what in wrong {
        book.wrong(format!("{} has a clean end, and {what}", ask.id));
    }
}
