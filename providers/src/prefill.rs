//! The beginning of an answer that a model was given, put before what it says: the answer is both.
//!
//! Vendors give the continuation; some of them repeat the beginning.

use crate::dialect::Wire;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use types::completion::Delta;
use types::provider::{Call, Error};
use types::{Chunk, Completion};

/// What an answer begins with.
#[derive(Clone, Debug)]
pub(crate) struct Prefill {
    text: Arc<str>,
    /// The vendor may repeat it.
    echoed: bool,
}

impl Prefill {
    /// That of a call, where its dialect can say so.
    pub(crate) fn of(call: &Call, wire: Wire) -> Option<Self> {
        let text = call.edits.prefill.clone().filter(|_| wire.prefills())?;
        Some(Prefill { text, echoed: call.provider.quirks.prefill_echoed })
    }

    /// A whole answer with its beginning.
    pub(crate) fn whole(&self, completion: &mut Completion) {
        for choice in &mut completion.choices {
            if !(self.echoed && choice.text.starts_with(&*self.text)) {
                choice.text.insert_str(0, &self.text);
                // The vendor's own bytes lack it.
                completion.raw = None;
            }
        }
    }

    /// A streamed one.
    pub(crate) fn stream(
        self,
        inner: BoxStream<'static, Result<Chunk, Error>>,
    ) -> BoxStream<'static, Result<Chunk, Error>> {
        let state = (inner, Begins { prefill: self, choices: HashMap::new() }, VecDeque::new());
        stream::unfold(state, |(mut inner, mut begins, mut last)| async move {
            if let Some(chunk) = last.pop_front() {
                return Some((Ok(chunk), (inner, begins, last)));
            }
            let item = match inner.next().await {
                Some(Ok(mut chunk)) => {
                    begins.put(&mut chunk);
                    Ok(chunk)
                }
                Some(Err(e)) => Err(e),
                None => {
                    last.extend(begins.rest());
                    Ok(last.pop_front()?)
                }
            };
            Some((item, (inner, begins, last)))
        })
        .boxed()
    }
}

/// How far the beginning of each choice has been settled.
struct Begins {
    prefill: Prefill,
    /// What is held back of a choice as long as it may be a repetition; `None` = settled.
    choices: HashMap<u32, Option<String>>,
}

impl Begins {
    fn put(&mut self, chunk: &mut Chunk) {
        let mut changed = false;
        for delta in &mut chunk.choices {
            changed |= self.delta(delta);
        }
        if changed {
            // The vendor's own bytes say something else.
            chunk.raw = None;
        }
    }

    /// Whether it says something else than before.
    fn delta(&mut self, delta: &mut Delta) -> bool {
        let Prefill { text, echoed } = &self.prefill;
        let Some(held) = self.choices.entry(delta.index).or_insert_with(|| Some(String::new())) else {
            return false;
        };
        let (last, said) = (delta.finish_reason.is_some(), delta.text.is_some());
        if !said && !last {
            return false;
        }
        held.push_str(delta.text.as_deref().unwrap_or_default());
        let may_repeat = *echoed && text.starts_with(held.as_str()) && held.len() < text.len();
        if may_repeat && !last {
            delta.text = None;
            return true;
        }
        let whole = beginning(text, *echoed, held);
        let same = delta.text.as_deref() == Some(whole.as_str());
        delta.text = Some(whole);
        self.choices.insert(delta.index, None);
        !same
    }

    /// What was still held back at the end.
    fn rest(&mut self) -> Option<Chunk> {
        let Prefill { text, echoed } = self.prefill.clone();
        let open = self.choices.iter_mut().filter_map(|(index, held)| Some((*index, held.take()?)));
        let choices: Vec<Delta> = open
            .filter(|(_, held)| !held.is_empty())
            .map(|(index, held)| Delta {
                index,
                text: Some(beginning(&text, echoed, &held)),
                ..Delta::default()
            })
            .collect();
        (!choices.is_empty()).then(|| Chunk { choices, ..Chunk::default() })
    }
}

fn beginning(prefill: &str, echoed: bool, said: &str) -> String {
    if echoed && said.starts_with(prefill) { said.to_owned() } else { format!("{prefill}{said}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use types::completion::{Accumulator, Choice, FinishReason};

    fn prefill(echoed: bool) -> Prefill {
        Prefill { text: "{\"name\":".into(), echoed }
    }

    fn chunk(text: Option<&str>, last: bool) -> Chunk {
        let finish_reason = last.then_some(FinishReason::Stop);
        let delta = Delta { text: text.map(str::to_owned), finish_reason, ..Delta::default() };
        Chunk { choices: vec![delta], raw: Some(bytes::Bytes::from_static(b"{}")), ..Chunk::default() }
    }

    /// What comes of these pieces, and whether a piece that is passed on as it came is one that was not changed.
    fn streamed(echoed: bool, pieces: &[&str], last: bool) -> String {
        let mut chunks: Vec<_> = pieces.iter().map(|t| Ok(chunk(Some(t), false))).collect();
        if last {
            chunks.push(Ok(chunk(None, true)));
        }
        let all: Vec<_> = futures_util::FutureExt::now_or_never(
            prefill(echoed).stream(stream::iter(chunks).boxed()).collect(),
        )
        .expect("nothing waits");
        let mut folded = Accumulator::default();
        all.iter().for_each(|c: &Result<Chunk, Error>| folded.push(c.as_ref().expect("no error")));
        folded.finish().text().to_owned()
    }

    fn whole(echoed: bool, text: &str) -> (String, bool) {
        let choice = Choice { text: text.to_owned(), ..Choice::default() };
        let raw = Some(bytes::Bytes::from_static(b"{}"));
        let mut completion = Completion { choices: vec![choice], raw, ..Completion::default() };
        prefill(echoed).whole(&mut completion);
        (completion.text().to_owned(), completion.raw.is_some())
    }

    #[test]
    fn the_answer_is_beginning_and_continuation() {
        let both = "{\"name\":1}".to_owned();
        assert_eq!(whole(false, "1}"), (both.clone(), false));
        assert_eq!(whole(true, "1}"), (both.clone(), false));
        assert_eq!(whole(true, &both), (both.clone(), true), "what was said already is passed on as it came");
        assert_eq!(
            whole(false, &both),
            (format!("{{\"name\":{both}"), false),
            "only where a vendor repeats it"
        );
    }

    #[test]
    fn a_stream_begins_with_it_once() {
        let both = "{\"name\":1}";
        for last in [true, false] {
            assert_eq!(streamed(false, &["", "1", "}"], last), both);
            assert_eq!(streamed(true, &["", "1", "}"], last), both);
            assert_eq!(streamed(true, &["{\"na", "me\":", "1}"], last), both);
            assert_eq!(streamed(true, &["{\"name\":1}"], last), both);
            // It began like a repetition, and is none.
            assert_eq!(streamed(true, &["{\"n", "o"], last), "{\"name\":{\"no");
            assert_eq!(streamed(true, &["{\"n"], last), "{\"name\":{\"n");
        }
        assert_eq!(streamed(false, &[], true), "{\"name\":", "it ended at once");
    }

    proptest! {
        #[test]
        fn a_stream_says_what_the_whole_does(
            text in "(\\{\"name\":)?[a{\":}n]{0,6}", cut in prop::collection::vec(0_usize..20, 0..4), echoed: bool,
        ) {
            let mut at: Vec<usize> = cut.into_iter().map(|c| c.min(text.len())).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let pieces: Vec<&str> = at.windows(2).filter_map(|w| text.get(w[0]..w[1])).collect();
            prop_assert_eq!(streamed(echoed, &pieces, true), whole(echoed, &text).0);
        }
    }
}
