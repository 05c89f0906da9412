//! Checks of a text that still grows: the state of one check, and a watch over several.

use crate::check::{Check, Promise};
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use types::run::Severity;
use types::{ChatRequest, Finding};

/// What a check says after one more piece of text.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing wrong so far.
    Continue {
        /// Bytes from the start of the text that nothing to come can make wrong. Never falls.
        safe_up_to: usize,
    },
    /// Wrong, whatever comes.
    Reject(Box<Finding>),
    /// Right, whatever comes; it need not be asked again.
    Done,
    /// It cannot decide any more, and says why.
    Unverified(Cow<'static, str>),
}

/// The state of one check on one growing text. After anything but [`Step::Continue`] it is not asked again.
pub trait Growing: Send {
    /// Takes the next piece of the text.
    fn push(&mut self, delta: &str) -> Step;

    /// The text is whole: what its end makes wrong, if anything. Only what [`Growing::push`] held back is to
    /// be decided here; the check of the whole answer follows in any case.
    fn finish(&mut self) -> Option<Box<Finding>> {
        None
    }
}

/// A state whose text is held until the end, because the check may fail there for other reasons.
pub(crate) struct Held(pub(crate) Box<dyn Growing>);

impl Growing for Held {
    fn push(&mut self, delta: &str) -> Step {
        match self.0.push(delta) {
            Step::Continue { .. } | Step::Done => Step::Continue { safe_up_to: 0 },
            step => step,
        }
    }

    fn finish(&mut self) -> Option<Box<Finding>> {
        self.0.finish()
    }
}

struct Part {
    check: Arc<dyn Check>,
    promise: Promise,
    state: Option<Box<dyn Growing>>,
    /// Bytes that this check lets go.
    safe: usize,
}

/// Several checks over the growing text of one choice.
///
/// Warnings neither reject nor hold back. A check that panics or gives up is unverified: it promises nothing
/// further, so no text beyond what it had let go becomes safe.
pub struct Watch {
    parts: Vec<Part>,
    length: usize,
    unverified: Vec<(&'static str, Cow<'static, str>)>,
}

impl Watch {
    /// Opens the states of the checks that apply to the request and are more than warnings.
    #[must_use]
    pub fn open(checks: &[Arc<dyn Check>], request: &ChatRequest) -> Self {
        let judging = checks.iter().filter(|c| c.severity() > Severity::Warn && c.applies(request));
        let parts = judging.map(|c| {
            let promise = c.promise(request);
            let state = promise.reads_text().then(|| c.open(request)).flatten();
            let safe = if promise == Promise::Calls { usize::MAX } else { 0 };
            Part { check: c.clone(), promise, state, safe }
        });
        Watch { parts: parts.collect(), length: 0, unverified: Vec::new() }
    }

    /// Takes the next piece of text. Gives the first finding that makes the answer wrong whatever comes;
    /// nothing is to be pushed or released after it.
    pub fn push(&mut self, delta: &str) -> Option<Finding> {
        self.length = self.length.saturating_add(delta.len());
        self.each(|state| state.push(delta))
    }

    /// The text is whole: the finding that its end makes certain. Without one, [`Watch::safe_up_to`] is then
    /// the whole text, unless a check is open that needs the whole answer or could not decide.
    pub fn finish(&mut self) -> Option<Finding> {
        self.each(|state| state.finish().map_or(Step::Done, Step::Reject))
    }

    /// The answer calls tools, or declines: it is not of the form that was asked for, and checks that pass only its end
    /// reject nothing of it before that.
    pub fn of_no_form(&mut self) {
        for part in self.parts.iter_mut().filter(|p| p.promise == Promise::Early) {
            part.state = None;
        }
    }

    /// Bytes from the start of the text that may be released; the whole text where no check holds it.
    #[must_use]
    pub fn safe_up_to(&self) -> usize {
        self.parts.iter().map(|p| p.safe).min().unwrap_or(self.length).min(self.length)
    }

    /// Whether every check has passed the text whatever comes.
    #[must_use]
    pub fn done(&self) -> bool {
        self.parts.iter().all(|p| p.safe == usize::MAX)
    }

    /// Names of the checks that gave up or panicked, with the reason.
    #[must_use]
    pub fn unverified(&self) -> &[(&'static str, Cow<'static, str>)] {
        &self.unverified
    }

    fn each(&mut self, mut ask: impl FnMut(&mut dyn Growing) -> Step) -> Option<Finding> {
        for part in &mut self.parts {
            let Some(state) = part.state.as_deref_mut() else { continue };
            let step = catch_unwind(AssertUnwindSafe(|| ask(state)))
                .unwrap_or_else(|_| Step::Unverified("the check panicked".into()));
            match step {
                Step::Continue { safe_up_to } => part.safe = part.safe.max(safe_up_to),
                Step::Done => (part.state, part.safe) = (None, usize::MAX),
                Step::Reject(finding) => return Some(*finding),
                Step::Unverified(why) => {
                    part.state = None;
                    self.unverified.push((part.check.name(), why));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use crate::{About, Input, finding};
    use serde_json::json;
    use types::Report;

    /// A check whose state answers from a list.
    #[derive(Debug)]
    struct Told(Severity, Promise, Vec<Step>);

    struct Reading(std::vec::IntoIter<Step>);

    impl Growing for Reading {
        fn push(&mut self, _: &str) -> Step {
            self.0.next().unwrap()
        }
    }

    impl Check for Told {
        fn about(&self) -> About {
            About::structural("told", self.0)
        }
        fn promise(&self, _: &ChatRequest) -> Promise {
            self.1
        }
        fn open(&self, _: &ChatRequest) -> Option<Box<dyn Growing>> {
            Some(Box::new(Reading(self.2.clone().into_iter())))
        }
        fn check(&self, _: &Input<'_>) -> Report {
            finding::nothing()
        }
    }

    /// Pushes one byte per expected position; `None` where a rejection is expected.
    fn check(parts: &[(Severity, Promise, Vec<Step>)], want: &[Option<usize>]) -> Watch {
        let checks: Vec<Arc<dyn Check>> =
            parts.iter().map(|(s, p, l)| Arc::new(Told(*s, *p, l.clone())) as Arc<dyn Check>).collect();
        let mut watch = Watch::open(&checks, &request(json!({})));
        for expected in want {
            let rejected = watch.push("x").is_some();
            assert_eq!((!rejected).then(|| watch.safe_up_to()), *expected, "{parts:?}");
        }
        watch
    }

    #[test]
    fn an_answer_of_another_form_is_watched_by_what_has_no_form() {
        let go = |n| Step::Continue { safe_up_to: n };
        let no = || {
            let note = finding::Note::new("told", Severity::Repair, "no", "no");
            Step::Reject(Box::new(note.into_finding()))
        };
        let of = |promise| {
            let mut watch = check(&[(Severity::Repair, promise, vec![go(1), no()])], &[Some(1)]);
            watch.of_no_form();
            watch.push("x").is_some()
        };
        assert!(of(Promise::Window(1)) && of(Promise::Head(9)) && !of(Promise::Early));
    }

    #[test]
    fn the_most_careful_check_decides_what_is_released() {
        use Severity::{Block, Repair, Warn};
        let go = |n| Step::Continue { safe_up_to: n };
        let no = || {
            let note = finding::Note::new("told", Block, "no", "no");
            Step::Reject(Box::new(note.into_finding()))
        };
        check(&[], &[Some(1), Some(2)]);
        check(
            &[
                (Block, Promise::Window(1), vec![go(0), go(1), go(2)]),
                (Repair, Promise::Head(2), vec![go(0), Step::Done]),
            ],
            &[Some(0), Some(1), Some(2)],
        );
        check(&[(Block, Promise::Window(1), vec![go(0), no()])], &[Some(0), None]);
        // What looks at calls of tools alone has nothing to say of the text.
        check(
            &[(Repair, Promise::Calls, vec![]), (Block, Promise::Window(1), vec![go(0), go(1)])],
            &[Some(0), Some(1)],
        );
        check(&[(Repair, Promise::Calls, vec![])], &[Some(1), Some(2)]);
        // A warning holds nothing back and is not even asked; a check of the whole text holds everything.
        check(&[(Warn, Promise::Window(9), vec![])], &[Some(1), Some(2)]);
        let mut watch = check(&[(Repair, Promise::End, vec![])], &[Some(0), Some(0)]);
        assert!(watch.finish().is_none() && watch.safe_up_to() == 0 && !watch.done());
        let mut watch = check(&[(Block, Promise::Window(9), vec![go(0), go(0)])], &[Some(0), Some(0)]);
        assert!(watch.finish().is_none() && watch.safe_up_to() == 2 && watch.done());
    }

    #[test]
    fn a_check_that_panics_or_gives_up_promises_nothing_further() {
        for (second, reason) in
            [(vec![], "panicked"), (vec![Step::Unverified("too long".into())], "too long")]
        {
            let steps = [vec![Step::Continue { safe_up_to: 1 }], second].concat();
            let mut watch =
                check(&[(Severity::Block, Promise::Window(0), steps)], &[Some(1), Some(1), Some(1)]);
            assert!(watch.finish().is_none());
            assert_eq!(watch.safe_up_to(), 1);
            assert_eq!(watch.unverified().len(), 1);
            assert!(watch.unverified()[0].1.contains(reason));
        }
    }
}
