//! What is noted of a request for those after it: the model of its session, the arm that a `sticky` rule keeps, and that it
//! was answered.

use crate::Inner;
use crate::history::Conversation;
use crate::implicit::Answers;
use crate::route::Sessions;
use crate::sticky::{Arms, Holder};
use crate::who::Who;
use std::sync::Arc;
use types::ChatRequest;
use types::decision::Decision;
use types::outcome::{Feedback, Outcome};

/// Where a request's answer is noted for those that follow it.
pub(crate) struct Stays {
    sessions: Sessions,
    conversation: Conversation,
    holder: Option<(Arms, Holder)>,
    /// Where it stands that the request was answered, and how often the same had been asked before. A run waits for nobody who
    /// might ask again.
    answers: Option<(Answers, u8)>,
}

impl Stays {
    /// Of a request that is to be answered; `holder`: whose arm a `sticky` rule keeps.
    pub(crate) fn of(inner: &Inner, conversation: Conversation, holder: Option<Holder>) -> Box<Stays> {
        let holder = holder.map(|holder| (inner.arms.clone(), holder));
        let answers = Some((inner.answers.clone(), 0));
        Box::new(Stays { sessions: inner.sessions.clone(), conversation, holder, answers })
    }

    /// Of a run, for which rules kept what they keep when it was decided.
    pub(crate) fn of_run(inner: &Inner, who: &Who, request: &ChatRequest) -> Box<Stays> {
        let (sessions, conversation) = (inner.sessions.clone(), Conversation::of(who, request));
        Box::new(Stays { sessions, conversation, holder: None, answers: None })
    }

    /// Notes that the request came: what it says of the answers before it.
    pub(crate) fn came(&mut self, who: &Who, ts_ms: i64) -> Option<Feedback> {
        let (answers, again) = self.answers.as_mut()?;
        let (word, times) = answers.asked(who, &self.conversation, ts_ms);
        *again = times;
        word
    }

    /// Notes the arm that was chosen: who asks meanwhile is sent there, too.
    pub(crate) fn chosen(&self, decision: &Decision) {
        if let Some((arms, holder)) = &self.holder {
            arms.note(holder, decision, None);
        }
    }

    /// Notes how the request ended.
    pub(crate) fn ended(&self, outcome: &Outcome) {
        if let Some((answers, again)) = &self.answers {
            answers.answered(&self.conversation, outcome, *again);
        }
    }

    /// Notes the model that answered, which may be another one than was chosen.
    pub(crate) fn answered(&self, decision: &Decision, served: &Arc<str>) {
        self.sessions.note(self.conversation, decision, served);
        if let Some((arms, holder)) = &self.holder {
            arms.note(holder, decision, Some(served));
        }
    }
}
