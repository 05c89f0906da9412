//! What a judge is asked, and how its verdicts are read.

use super::{Independent, Judge, Judged};
use crate::load::Template;
use crate::node::Fault;
use crate::run::At;
use crate::world::{Ask, EffectId, EffectKind, Failure};
use serde_json::{Value, json};
use std::sync::Arc;
use types::chat::{Message, ResponseFormat, Role};
use types::provider::Edits;
use types::run::Purpose;

/// Most of an answer that is shown to a judge, in bytes.
const MAX_SHOWN: usize = 64 * 1024;

/// A text as data that cannot end itself, and not too much of it.
pub(super) fn quoted(text: &str) -> Value {
    let mut end = text.len().min(MAX_SHOWN);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    Value::from(text.get(..end).unwrap_or(""))
}

/// What the questions of one run of the node share.
pub(super) struct Asking<'a> {
    pub(super) at: &'a At<'a>,
    pub(super) conversation: Value,
    pub(super) instructions: Option<String>,
    pub(super) reference: Option<String>,
    models: Vec<Arc<str>>,
    families: Vec<String>,
}

impl Judge {
    /// Everything that waits for nothing.
    pub(super) fn prepare<'a>(&self, at: &'a At<'a>, all: &[Judged]) -> Result<Asking<'a>, Fault> {
        let render = |t: &Template| t.render(at.frame, at.host, &[]);
        let messages = &at.host.input.request.messages;
        let said = messages.iter().map(|m| json!({"role": m.role.as_str(), "content": m.content.text()}));
        Ok(Asking {
            at,
            conversation: said.collect(),
            instructions: self.rubric.instructions.as_ref().map(render).transpose()?,
            reference: self.reference.as_ref().map(|r| r.text(at)).transpose()?,
            models: all.iter().map(|j| j.model.clone()).collect(),
            families: all.iter().map(|j| j.family.clone()).collect(),
        })
    }

    /// One verdict, asked for again once when it cannot be read. `None`: the judge abstains.
    pub(super) async fn ask<T>(
        &self,
        asking: &Asking<'_>,
        index: u32,
        (system, user): (String, String),
        schema: Value,
        read: &(impl Fn(&Value) -> Option<T> + Sync),
    ) -> Result<Option<T>, Failure> {
        let at = asking.at;
        let schema = Arc::new(schema);
        for attempt in 1..=2 {
            let id = EffectId::new(&at.path, EffectKind::Model, index, attempt);
            let own = Edits {
                messages: Some(vec![
                    Message::text(Role::System, system.clone()),
                    Message::text(Role::User, user.clone()),
                ]),
                response_format: Some(ResponseFormat::JsonSchema {
                    name: "grade".to_owned(),
                    schema: schema.clone(),
                    strict: true,
                }),
                temperature: Some(0.0),
                without_tools: true,
                // What ends an answer to the client would cut this one short.
                stop: Some(Vec::new()),
                logprobs: Some(false),
                ..Edits::default()
            };
            let mut ask =
                Ask { edits: at.host.edits(&own), ..at.question(id, Purpose::Judge, self.route.clone()) };
            match self.independent {
                Independent::Require => ask.not_families.extend(asking.families.iter().cloned()),
                Independent::Prefer => {
                    ask.avoid.clone_from(&asking.models);
                    ask.avoid_families.clone_from(&asking.families);
                }
                Independent::Any => {}
            }
            let answer = match at.call(ask).await {
                // Nobody is independent of all that answered.
                Err(Failure::NoCandidate { .. }) if self.independent == Independent::Require => {
                    return Ok(None);
                }
                other => other?,
            };
            let text = answer.completion.text();
            let mended = || validators::fix::json(text, Some(&*schema));
            let value: Option<Value> = serde_json::from_str(text)
                .ok()
                .or_else(|| mended().and_then(|t| serde_json::from_str(&t).ok()));
            if let Some(verdict) = value.and_then(|v| read(&v)) {
                return Ok(Some(verdict));
            }
        }
        Ok(None)
    }
}
