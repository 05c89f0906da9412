//! An answer that is watched while it grows, so that nothing more is paid for one that cannot pass.

use std::sync::Arc;
use types::completion::FinishReason;
use types::run::Severity;
use types::{ChatRequest, Chunk, Finding};
use validators::{Check, Watch, fix};

/// Text that is still read, in bytes, after a rejection which a local repair may yet undo: chatter before the
/// JSON is free to strip, but it is not seen to be that until the JSON has begun.
const GRACE: usize = 256;

/// Several checks over one growing answer.
pub(crate) struct EarlyAbort<'a> {
    checks: Vec<Arc<dyn Check>>,
    request: &'a ChatRequest,
    /// A local repair follows, which may mend what is rejected here.
    mends: bool,
    /// `None`: nothing more is to be told.
    watch: Option<Watch>,
    text: String,
    /// What was let go when the watch ended.
    safe: usize,
    /// A rejection that may be undone, and the length of the text then.
    doubt: Option<(Finding, usize)>,
}

impl<'a> EarlyAbort<'a> {
    /// `None` where no check can tell anything before the end.
    pub(crate) fn open(checks: Vec<Arc<dyn Check>>, request: &'a ChatRequest, mends: bool) -> Option<Self> {
        let early = |c: &Arc<dyn Check>| {
            c.severity() > Severity::Warn && c.applies(request) && c.promise(request).reads_text()
        };
        // Choices that grow side by side would need a watch each.
        if request.params.n > 1 || !checks.iter().any(early) {
            return None;
        }
        Some(EarlyAbort::new(checks, request, mends))
    }

    /// The same whatever the checks can tell.
    pub(crate) fn new(checks: Vec<Arc<dyn Check>>, request: &'a ChatRequest, mends: bool) -> Self {
        let watch = Some(Watch::open(&checks, request));
        EarlyAbort { checks, request, mends, watch, text: String::new(), safe: 0, doubt: None }
    }

    /// For another answer to the same.
    pub(crate) fn again(&self) -> Self {
        EarlyAbort::new(self.checks.clone(), self.request, self.mends)
    }

    /// Takes what has come. Gives what makes the answer wrong whatever comes, here and after any local repair.
    pub(crate) fn push(&mut self, chunk: &Chunk) -> Option<Finding> {
        for delta in &chunk.choices {
            // An answer that calls tools is not what its text is, and one that declines is none.
            let declines = delta.refusal.as_deref().is_some_and(|r| !r.is_empty())
                || delta.finish_reason == Some(FinishReason::ContentFilter);
            if declines || !delta.tool_calls.is_empty() {
                self.doubt = None;
                self.watch.as_mut().into_iter().for_each(Watch::of_no_form);
            }
            let Some(text) = delta.text.as_deref().filter(|t| !t.is_empty()) else { continue };
            self.text.push_str(text);
            if let Some(found) = self.look(text) {
                return Some(found);
            }
        }
        None
    }

    /// The text is whole: what its end makes certain.
    pub(crate) fn finish(&mut self) -> Option<Finding> {
        let found = self.watch.as_mut().and_then(Watch::finish);
        if let Some(w) = &self.watch {
            self.safe = w.safe_up_to();
        }
        found.or_else(|| self.doubt.take().map(|(f, _)| f))
    }

    /// Part of it has been shown: nothing can be mended any more.
    pub(crate) fn commit(&mut self) {
        self.mends = false;
    }

    /// Bytes from the start of the text that nothing to come can make wrong.
    pub(crate) fn safe_up_to(&self) -> usize {
        self.safe
    }

    /// Bytes that have come.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    fn look(&mut self, delta: &str) -> Option<Finding> {
        if let Some((_, at)) = &self.doubt {
            if self.text.len() < at.saturating_add(GRACE) {
                return None;
            }
            let (found, _) = self.doubt.take()?;
            return (!self.can_be_mended(&found)).then_some(found);
        }
        let watch = self.watch.as_mut()?;
        let Some(found) = watch.push(delta) else {
            self.safe = watch.safe_up_to();
            return None;
        };
        self.watch = None;
        if !self.mends {
            return Some(found);
        }
        if !self.can_be_mended(&found) {
            self.doubt = Some((found, self.text.len()));
        }
        None
    }

    /// Whether the text so far, locally repaired, would not be rejected for the same.
    fn can_be_mended(&self, found: &Finding) -> bool {
        if self.checks.iter().any(|c| c.label() == found.validator && c.mend(&self.text).is_some()) {
            return true;
        }
        let schema = self.checks.iter().find_map(|c| c.schema(self.request));
        let Some(mended) = fix::json_so_far(&self.text, schema.as_deref()) else { return false };
        let again = Watch::open(&self.checks, self.request).push(&mended);
        // Whatever else it is rejected for may be of its end, which has not come.
        again.is_none_or(|f| f.fingerprint() != found.fingerprint())
    }
}
