//! What a model is asked to go on from: a conversation, and the beginning of its answer.

use super::Generate;
use crate::load::Template;
use crate::node::{Fault, Resolved};
use crate::run::At;
use crate::value::Value;
use std::sync::Arc;
use types::chat::Message;

/// What a model is asked to go on from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Opening {
    /// The conversation; `None` = the request's own.
    pub(super) messages: Option<Vec<Message>>,
    /// How the answer begins.
    pub(super) prefill: Option<Arc<str>>,
}

impl Generate {
    /// What it is asked to go on from.
    pub(crate) fn opening(&self, at: &At<'_>) -> Result<Opening, Fault> {
        self.form.possible(at, &self.offer, self.clients)?;
        Ok(Opening { messages: self.conversation.messages(at)?, prefill: begun(self.prefill.as_ref(), at)? })
    }

    /// That models were not given the beginning of their answers, where that is so.
    pub(super) fn without_prefill(&self, at: &At<'_>, resolved: &Resolved) -> Option<String> {
        let prefill = begun(self.prefill.as_ref(), at).ok()??;
        let Some(Value::Rows(rows)) = resolved.outputs.first() else { return None };
        let table = at.host.table();
        let answers = rows.iter().filter_map(|id| table.row(*id));
        let without = answers.filter(|row| !row.completion.text().starts_with(&*prefill));
        let left: Vec<&str> = without.map(|row| &*row.model.id).collect();
        (!left.is_empty())
            .then(|| format!("the prefill was left out: {} did not go on from one", left.join(", ")))
    }
}

/// The beginning of the answer. White space at its end is left to the model: vendors refuse it.
fn begun(prefill: Option<&Template>, at: &At<'_>) -> Result<Option<Arc<str>>, Fault> {
    let Some(prefill) = prefill else { return Ok(None) };
    let text = prefill.render(at.frame, at.host, &[])?;
    let text = text.trim_end();
    Ok((!text.is_empty()).then(|| text.into()))
}
