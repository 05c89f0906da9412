//! The state of a check that is decided by the beginning of the text.

use crate::finding::Note;
use crate::growing::{Growing, Step};
use std::borrow::Cow;
use types::Finding;

/// What the beginning says.
pub(crate) enum Heard {
    /// Wrong, whatever follows.
    Wrong(Box<Note>),
    /// Right, whatever follows.
    Right,
    /// Nothing yet.
    More,
    /// It cannot be told.
    Unclear(Cow<'static, str>),
}

/// Judges the beginning of a text; `whole` once it is as long as it gets.
type Judge = Box<dyn Fn(&str, bool) -> Heard + Send>;

/// Collects the first characters and asks the judge about them.
pub(crate) struct Head {
    text: String,
    left: usize,
    judge: Judge,
}

/// The first characters of a text.
pub(crate) fn first(text: &str, characters: usize) -> &str {
    let end = text.char_indices().nth(characters).map_or(text.len(), |(i, _)| i);
    text.get(..end).unwrap_or(text)
}

impl Head {
    pub(crate) fn new(characters: usize, judge: impl Fn(&str, bool) -> Heard + Send + 'static) -> Self {
        Head { text: String::new(), left: characters, judge: Box::new(judge) }
    }
}

impl Growing for Head {
    fn push(&mut self, delta: &str) -> Step {
        let more = first(delta, self.left);
        self.text.push_str(more);
        self.left = self.left.saturating_sub(more.chars().count());
        match (self.judge)(&self.text, self.left == 0) {
            Heard::Wrong(note) => Step::Reject(Box::new(note.into_finding())),
            Heard::Right => Step::Done,
            Heard::More => Step::Continue { safe_up_to: 0 },
            Heard::Unclear(why) => Step::Unverified(why),
        }
    }

    fn finish(&mut self) -> Option<Box<Finding>> {
        match (self.judge)(&self.text, true) {
            Heard::Wrong(note) => Some(Box::new(note.into_finding())),
            _ => None,
        }
    }
}
