//! Streams, whole and broken, and who leaves them.

use super::house::{RULES, end, house, model, pieces, prose, schema, text, whole};
use engine::{Answer, Event, Kind};
use futures_util::stream::{self, StreamExt};
use serde_json::json;
use types::provider::{Error, ErrorKind, Reply};
use types::{Chunk, Usage};

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_ends_in_a_failure_and_one_that_never_begins_falls_back() {
    let h = house(vec![model("a", 0.1), model("b", 1.0)], RULES, |c| {
        let lost = Error::new(ErrorKind::StreamLost, &c.model, "cut");
        Ok(if &*c.model.id == "p/a" {
            pieces(vec![Ok(Chunk::default()), Err(lost)])
        } else {
            pieces(vec![Ok(text("Hel")), Err(lost)])
        })
    });
    let mut body = prose();
    body["stream"] = json!(true);
    let (id, answer) = h.ask(body).await;
    let Ok(Answer::Live(live)) = answer else { panic!("{answer:?}") };
    assert_eq!(&*live.head.model, "p/b", "nothing of the first candidate was shown");
    let events: Vec<Event> = live.events.collect().await;
    assert!(matches!(events.first(), Some(Event::Chunk(c)) if c.choices[0].text.as_deref() == Some("Hel")));
    assert!(matches!(events.last(), Some(Event::Failed(e)) if matches!(e.kind, Kind::Provider(_))));
    assert!(!events.iter().any(|e| matches!(e, Event::Done(_))));
    assert_eq!(h.stored(&id).await.record.outcome.status, types::outcome::Status::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_stream_passes_through_and_is_charged_what_was_reported() {
    let h =
        house(vec![model("a", 1.0)], RULES, |_| Ok(pieces(vec![Ok(text("Hel")), Ok(text("lo")), Ok(end())])));
    let mut body = prose();
    body["stream"] = json!(true);
    let (id, answer) = h.ask(body).await;
    let Ok(Answer::Live(live)) = answer else { panic!("{answer:?}") };
    let events: Vec<Event> = live.events.collect().await;
    assert!(matches!(events.last(), Some(Event::Done(t)) if t.usage.output == 2 && t.cost_known));
    let stored = h.stored(&id).await.record;
    assert!(stored.run.stream_mode.starts_with("passthrough"), "{}", stored.run.stream_mode);
    assert!(!stored.outcome.usage.estimated);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_cancels_the_call_and_the_request_is_still_recorded() {
    let h = house(vec![model("a", 1.0)], RULES, |_| {
        Ok(Reply::Stream(stream::iter(vec![Ok(text("x"))]).chain(stream::pending()).boxed()))
    });
    let mut body = prose();
    body["stream"] = json!(true);
    let (id, answer) = h.ask(body).await;
    let Ok(Answer::Live(mut live)) = answer else { panic!("{answer:?}") };
    assert!(live.events.next().await.is_some());
    drop(live);
    let o = h.stored(&id).await.record.outcome;
    assert_eq!(o.status, types::outcome::Status::Cancelled);
    assert!(o.usage.estimated && o.cost_usd > types::Usd::ZERO, "{o:?}");
    assert_eq!(o.reward, None);
    assert_eq!(h.engine.health().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_buffered_stream_names_its_model_and_is_on_record_once_it_was_taken() {
    let h = house(vec![model("a", 1.0)], RULES, |c| Ok(whole(c, "{\"name\": \"Ada\"}")));
    for taken in [1, usize::MAX] {
        let mut body = schema();
        body["stream"] = json!(true);
        let (id, answer) = h.ask(body).await;
        let Ok(Answer::Live(live)) = answer else { panic!("{answer:?}") };
        assert_eq!(&*live.head.model, "p/a");
        let n = live.events.take(taken).count().await;
        let record = h.stored(&id).await.record;
        assert!(record.run.stream_mode.starts_with("buffered"), "{}", record.run.stream_mode);
        let (cut, status) = (n == taken, record.outcome.status);
        let expected =
            if cut { types::outcome::Status::Cancelled } else { types::outcome::Status::Delivered };
        assert_eq!(status, expected, "after {n} events");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_charged_for_all_that_came() {
    for kind in [ErrorKind::Unavailable, ErrorKind::TotalTimeout, ErrorKind::StreamLost] {
        let h = house(vec![model("a", 1.0)], RULES, move |c| {
            let mut first = text("x");
            first.usage = Some(Usage { input: 10, output: 1, ..Usage::default() });
            let broken = Error::new(kind, &c.model, "cut");
            Ok(pieces(vec![Ok(first), Ok(text(&"x".repeat(4_000))), Err(broken)]))
        });
        let mut body = prose();
        body["stream"] = json!(true);
        let (id, answer) = h.ask(body).await;
        let Ok(Answer::Live(live)) = answer else { panic!("{answer:?}") };
        assert!(matches!(live.events.collect::<Vec<_>>().await.last(), Some(Event::Failed(_))));
        let usage = h.stored(&id).await.record.outcome.usage;
        assert!(usage.output >= 1_000 && usage.input == 10 && usage.estimated, "{kind:?}: {usage:?}");
    }
}
