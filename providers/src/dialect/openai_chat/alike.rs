//! Events that differ from the one before in nothing but their text, read without parsing them again.
//!
//! Most vendors repeat identifier, time, model and all the rest with every few letters of an answer: comparing
//! bytes says in a fraction of the time what parsing would.

use bytes::Bytes;
use std::borrow::Cow;
use types::completion::{Chunk, Delta};

/// After so many events that are not alike, no more are remembered: this vendor's never are.
const TRIES: u8 = 4;

/// An event that was parsed, with the place of its text.
#[derive(Debug)]
pub(super) struct Alike {
    event: Bytes,
    /// Bytes before the text, its opening quotation mark included, and from its closing one on.
    before: usize,
    after: usize,
    /// What it said, without its text.
    chunk: Chunk,
}

/// The last event worth comparing with, and how often comparing was in vain.
#[derive(Debug, Default)]
pub(super) struct Last {
    alike: Option<Alike>,
    missed: u8,
}

/// Where a text that was borrowed from an event begins in it; `None` = it was not, for something had to be
/// unescaped or put together.
pub(super) fn place(event: &[u8], text: Option<&Cow<'_, str>>) -> Option<usize> {
    match text? {
        Cow::Borrowed(text) => text.as_ptr().addr().checked_sub(event.as_ptr().addr()),
        Cow::Owned(_) => None,
    }
}

impl Last {
    /// What an event says, if it is like the last one.
    pub(super) fn read(&mut self, event: &Bytes) -> Option<Chunk> {
        let chunk = self.alike.as_ref()?.read(event);
        self.missed = if chunk.is_some() { 0 } else { self.missed.saturating_add(1) };
        chunk
    }

    /// Remembers an event that was parsed, if others may be like it: `chunk` is what it says, `start` where its
    /// text begins.
    pub(super) fn keep(&mut self, event: &Bytes, chunk: &Chunk, start: Option<usize>) {
        let fresh = start.filter(|_| self.missed < TRIES).and_then(|start| Alike::of(event, chunk, start));
        // A text that had to be unescaped is followed by such as were not.
        self.alike = fresh.or(self.alike.take());
    }
}

impl Alike {
    /// `None` = an event that says more than a text, or goes out other than it came.
    fn of(event: &Bytes, chunk: &Chunk, start: usize) -> Option<Self> {
        let [delta] = chunk.choices.as_slice() else { return None };
        let text = delta.text.as_ref()?;
        let more = delta.reasoning.is_some() || delta.refusal.is_some() || delta.finish_reason.is_some();
        let beside = delta.logprobs.is_some() || delta.beside.is_some();
        if more || beside || !delta.tool_calls.is_empty() || chunk.usage.is_some() || chunk.raw.is_none() {
            return None;
        }
        let end = start.checked_add(text.len())?;
        let quoted = event.get(start.checked_sub(1)?) == Some(&b'"') && event.get(end) == Some(&b'"');
        let delta = Delta { index: delta.index, role: delta.role, ..Delta::default() };
        quoted.then(|| Alike {
            event: event.clone(),
            before: start,
            after: event.len().saturating_sub(end),
            chunk: Chunk {
                id: chunk.id.clone(),
                model: chunk.model.clone(),
                created: chunk.created,
                choices: vec![delta],
                usage: None,
                extra: chunk.extra.clone(),
                asked: false,
                raw: None,
            },
        })
    }

    fn read(&self, event: &Bytes) -> Option<Chunk> {
        let text = event.len().checked_sub(self.before.checked_add(self.after)?)?;
        let (before, rest) = event.split_at_checked(self.before)?;
        let (text, after) = rest.split_at_checked(text)?;
        let known = |range| self.event.get(range);
        let ends = self.event.len().checked_sub(self.after)?;
        if Some(before) != known(0..self.before) || Some(after) != known(ends..self.event.len()) {
            return None;
        }
        // What JSON writes as it is: the text ends where it seems to.
        if text.iter().any(|b| matches!(b, b'"' | b'\\' | 0..0x20)) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?.to_owned();
        let mut chunk = Chunk { raw: Some(event.clone()), ..self.chunk.clone() };
        chunk.choices.first_mut()?.text = Some(text);
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stream;
    use super::*;
    use crate::dialect::Context;
    use crate::sse::Event;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn push(stream: &mut Stream, data: &str) -> Result<VecDeque<Chunk>, String> {
        let mut out = VecDeque::new();
        let event = Event { name: Bytes::new(), data: Bytes::from(data.to_owned()) };
        let body = Bytes::from_static(br#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#);
        let context = Context::of(&crate::dialect::tests::call(&body, types::matrix::Dialect::OpenaiChat));
        let pushed = stream.push(&context, &event, &mut out);
        pushed.map(|()| out).map_err(|_| "bad".to_owned())
    }

    /// Every event says to a stream that remembers what it says to one that parses them all.
    fn check(events: &[String]) -> usize {
        let (mut remembers, mut parses) = (Stream::default(), Stream::default());
        let mut alike = 0;
        for event in events {
            alike += usize::from(
                remembers.last.alike.as_ref().is_some_and(|a| a.read(&Bytes::from(event.clone())).is_some()),
            );
            parses.last = Last::default();
            assert_eq!(push(&mut remembers, event), push(&mut parses, event), "{event}");
        }
        alike
    }

    fn event(delta: &str, rest: &str) -> String {
        format!(
            r#"{{"id":"c","model":"m","created":7,"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]{rest}}}"#
        )
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|t| event(&format!(r#"{{"content":"{t}"}}"#), "")).collect()
    }

    #[test]
    fn events_that_differ_in_their_text_are_alike() {
        assert_eq!(check(&texts(&["Hel", "lo", "", "größer", " {", "}"])), 5);
        // What is escaped, or no JSON, is parsed.
        assert_eq!(check(&texts(&["a", r"\n", "b", r"\u00e9", "c\td", "e"])), 2);
        assert_eq!(check(&texts(&["a", r#"b","role":"x"#, r#"c\"d"#])), 0);
    }

    #[test]
    fn what_says_more_than_a_text_is_parsed() {
        let all = [
            event(r#"{"role":"assistant","content":""}"#, ""),
            event(r#"{"content":"a"}"#, ""),
            event(
                r#"{"content":"a","tool_calls":[{"index":0,"id":"t","function":{"name":"f","arguments":""}}]}"#,
                "",
            ),
            event(r#"{"content":"a"}"#, r#","usage":{"prompt_tokens":1,"completion_tokens":2}"#),
            event(r#"{"content":"b"}"#, r#","usage":{"prompt_tokens":1,"completion_tokens":2}"#),
            event(r#"{"content":"a","reasoning":"b"}"#, ""),
            event(r#"{"content":[{"type":"text","text":"a"}]}"#, ""),
            event(r#"{"content":[{"type":"text","text":"b"}]}"#, ""),
            event(r#"{"content":"c"}"#, ""),
            "[DONE]".to_owned(),
            event(r#"{"content":"d"}"#, ""),
        ];
        check(&all);
        let same =
            |n: usize| vec![all[n].clone(), all[n].replace("\"a\"", "\"b\"").replace("\"b\"}", "\"c\"}")];
        for n in [2, 3, 5, 6] {
            assert_eq!(check(&same(n)), 0, "{}", all[n]);
        }
    }

    #[test]
    fn where_events_never_are_alike_no_more_are_kept() {
        let mut stream = Stream::default();
        for n in 0..40 {
            let unlike =
                event(r#"{"content":"a"}"#, "").replace(r#""created":7"#, &format!(r#""created":{n}"#));
            push(&mut stream, &unlike).expect("an event");
        }
        let kept = stream.last.alike.expect("one of the first").chunk;
        assert_eq!(kept.created, i64::from(TRIES) - 1, "the last one before it is given up");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_as_if_it_were_parsed(
            rows in prop::collection::vec(("[a\"\\\\nu0é,:{}\\[\\] ]{0,6}", 0_u8..4), 1..12),
        ) {
            let events: Vec<String> = rows.iter().map(|(text, kind)| match kind {
                0 => event(&format!(r#"{{"content":"{text}"}}"#), ""),
                1 => event(&format!(r#"{{"content":{}}}"#, serde_json::Value::from(text.as_str())), ""),
                2 => event(&format!(r#"{{"role":"assistant","content":"{text}"}}"#), r#","x":1"#),
                _ => event(&format!(r#"{{"content":"{text}","content":"a"}}"#), ""),
            }).collect();
            check(&events);
        }
    }
}
