//! Answers in prose, which somebody who asks the same in other words may be given (`cache: { match: semantic }`).

use super::{Generate, Offer};
use crate::run::At;
use types::chat::{Content, PartKind, ResponseFormat, Role};

impl Generate {
    /// Why its answers are for the question to the letter alone, with the key that makes them so.
    pub(crate) fn is_literal(&self) -> Option<(&'static str, &'static str)> {
        if matches!(self.offer, Offer::Own { .. }) {
            return Some(("tools", "the node offers tools, and what they give is no part of the question"));
        }
        if !self.form.is_prose() {
            return Some(("response", "the answers of the node have a form to keep to"));
        }
        (!self.conversation.ends_as_asked())
            .then_some(("messages", "what the node asks is not the last message of the request"))
    }

    /// The last message of the request, where that is what it asks, and where nothing but its words says what a good
    /// answer is: no tools are offered, no form is demanded, and there is nothing in it but text.
    pub(crate) fn question<'a>(&self, at: &At<'a>) -> Option<&'a str> {
        let request = &at.host.input.request;
        let offers = self.offer.offers(request, self.clients) || request.vendor_tools().next().is_some();
        let edits = at.host.edits(&self.edits);
        let format = edits.response_format.as_ref().unwrap_or(&request.response_format);
        if offers || self.is_literal().is_some() || *format != ResponseFormat::Text {
            return None;
        }
        let last = request.messages.last().filter(|m| m.role == Role::User)?;
        match &last.content {
            Content::Text(text) => Some(text),
            Content::Parts(parts) => match parts.as_slice() {
                [one] => match &one.kind {
                    PartKind::Text(text) => Some(text),
                    _ => None,
                },
                _ => None,
            },
            Content::None => None,
        }
    }
}
