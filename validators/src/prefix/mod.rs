//! Whether a text that is still being written can become one JSON value that fits a schema.
//!
//! Refuses only what no continuation can make valid: wrong syntax, wrong types, names outside a closed
//! object, values outside an `enum`, lengths and limits, and at the end of an object what it lacks. An object
//! that gives a name twice counts as having both.

use crate::finding::Note;
use crate::growing::{Growing, Step};
use std::sync::{Arc, LazyLock};
use types::Finding;
use types::run::Severity;

mod failure;
mod node;
mod syntax;
#[cfg(test)]
mod tests;
mod track;

use failure::Cause;
pub(crate) use node::Nodes;
use syntax::{Stop, Syntax};
use track::Tracker;

static ANYTHING: LazyLock<Arc<Nodes>> = LazyLock::new(|| Arc::new(Nodes::new(&true.into(), None)));

/// The state of one text.
pub(crate) struct Prefix {
    validator: &'static str,
    severity: Severity,
    syntax: Syntax,
    tracker: Tracker,
}

impl Prefix {
    /// A text that is to be JSON; `allow_fence` accepts one Markdown code fence around it.
    pub(crate) fn json(validator: &'static str, severity: Severity, allow_fence: bool) -> Self {
        let tracker = Tracker::new(ANYTHING.clone());
        Prefix { validator, severity, syntax: Syntax::new(allow_fence), tracker }
    }

    /// A text that is to be JSON and to fit a schema.
    pub(crate) fn fitting(validator: &'static str, severity: Severity, nodes: Arc<Nodes>) -> Self {
        Prefix { validator, severity, syntax: Syntax::new(false), tracker: Tracker::new(nodes) }
    }

    fn finding(&mut self, stop: &Stop) -> Box<Finding> {
        let note = match stop {
            Stop::Syntax { at, what } => {
                let message = format!("cannot become one JSON value: {what} at byte {at}");
                Note::new(self.validator, self.severity, "not_json", &message)
                    .span(*at, at.saturating_add(1))
                    .expected("one JSON value and nothing else")
                    .hint(crate::json::ALONE)
            }
            Stop::Refused => self.misfit(),
        };
        Box::new(note.into_finding())
    }

    fn misfit(&mut self) -> Note {
        let Some(Cause { failure, path }) = self.tracker.cause() else {
            return Note::new(self.validator, self.severity, "misfit", "the value cannot fit the schema");
        };
        let place = if path.is_empty() { "the value" } else { &path };
        let message = format!("{place} cannot fit any more: `{}`", failure.keyword);
        let mut note = Note::new(self.validator, self.severity, failure.keyword, &message).path(&path);
        if !failure.expected.is_null() {
            note = note.expected(failure.expected);
        }
        if !failure.actual.is_null() {
            note = note.actual(failure.actual);
        }
        note
    }
}

impl Growing for Prefix {
    fn push(&mut self, delta: &str) -> Step {
        match self.syntax.push(delta, &mut self.tracker) {
            // What is right so far passes only when it is whole.
            Ok(()) => Step::Continue { safe_up_to: 0 },
            Err(stop) => Step::Reject(self.finding(&stop)),
        }
    }

    fn finish(&mut self) -> Option<Box<Finding>> {
        let stop = self.syntax.finish(&mut self.tracker).err()?;
        Some(self.finding(&stop))
    }
}
