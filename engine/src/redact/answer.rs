//! Answers on their way to the client: every text of theirs, whole or in chunks.

use super::filter::Filter;
use super::{Blocked, Redaction};
use policies::Watched;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::completion::{Delta, ToolCallDelta};
use types::directives::{Denial, Directives, Place, Redact, RedactAction, Set};
use types::{Chunk, Completion};

/// Which text of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Text,
    Reasoning,
    Refusal,
    Arguments(u32),
}

/// Redacts and restores the answers of one request.
pub(crate) struct Answers {
    redaction: Redaction,
    tokens: Vec<(String, String)>,
    /// The answer's text is JSON.
    json: bool,
    /// What rules of the response phase refuse a stream for.
    watched: Vec<Watched>,
    /// By choice and part.
    growing: BTreeMap<(u32, Part), Filter>,
}

impl Answers {
    /// `None` where answers go out as they are.
    pub(crate) fn of(redaction: &Redaction, json: bool, watched: Vec<Watched>) -> Option<Self> {
        let block =
            |entity| Redact { entity, place: Place::Output, action: RedactAction::Block, restore: false };
        let refused = watched.iter().flat_map(|w| {
            let rule = w.said.denials.first().map_or_else(|| "".into(), |d| d.rule.clone());
            w.kinds.iter().map(move |kind| Set { value: block(*kind), rule: rule.clone() })
        });
        let redaction = redaction.with(&refused.collect::<Vec<_>>());
        let tokens = redaction.restorable();
        let idle = tokens.is_empty() && !redaction.concerns(Place::Output);
        (!idle).then_some(Answers { redaction, tokens, json, watched, growing: BTreeMap::new() })
    }

    /// What the rule says that refuses a stream for such a value; `None` = none of the response phase does.
    pub(crate) fn refusal(&mut self, Blocked(entity): &Blocked) -> Option<Directives> {
        self.watched.iter_mut().find(|w| w.kinds.contains(entity)).map(|w| std::mem::take(&mut w.said))
    }

    /// The refusal of a value that may not stand in an answer.
    pub(crate) fn denial(&self, value: Blocked) -> Denial {
        self.redaction.denial(value, Place::Output)
    }

    /// A whole answer.
    ///
    /// # Errors
    /// A value that must be refused.
    pub(crate) fn whole(&self, completion: &mut Completion) -> Result<(), Blocked> {
        for choice in &mut completion.choices {
            choice.text = self.all(&choice.text, self.json)?;
            choice.reasoning = self.all(&choice.reasoning, false)?;
            if let Some(refusal) = &mut choice.refusal {
                *refusal = self.all(refusal, false)?;
            }
            for call in &mut choice.tool_calls {
                call.arguments = self.all(&call.arguments, true)?;
            }
        }
        if let Some(extra) = &mut completion.extra {
            self.beside(extra)?;
        }
        completion.changed();
        Ok(())
    }

    /// Members of an answer beside its choices: what a vendor writes there is text like any other.
    fn beside(&self, extra: &mut Map<String, Value>) -> Result<(), Blocked> {
        for value in extra.values_mut() {
            self.each(value)?;
        }
        Ok(())
    }

    /// Every text of a value.
    fn each(&self, value: &mut Value) -> Result<(), Blocked> {
        match value {
            Value::String(text) => *text = self.all(text, false)?,
            Value::Array(all) => all.iter_mut().try_for_each(|one| self.each(one))?,
            Value::Object(members) => members.values_mut().try_for_each(|one| self.each(one))?,
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        Ok(())
    }

    fn all(&self, text: &str, json: bool) -> Result<String, Blocked> {
        let mut filter = Filter::new(self.redaction.clone(), &self.tokens, json);
        let mut out = filter.push(text)?;
        out.push_str(&filter.finish()?);
        Ok(out)
    }

    /// A chunk: what of its texts, and of those before it, can be given. Where a choice ends, what is left of it is given
    /// there, and its end in a chunk behind it: clients that stop at an end would not read what comes with it.
    ///
    /// # Errors
    /// A value that must be refused.
    pub(crate) fn chunk(&mut self, chunk: &mut Chunk) -> Result<Option<Chunk>, Blocked> {
        let (mut deltas, mut ends) = (Vec::with_capacity(chunk.choices.len()), Vec::new());
        for mut delta in std::mem::take(&mut chunk.choices) {
            let index = delta.index;
            for (part, text) in [
                (Part::Text, &mut delta.text),
                (Part::Reasoning, &mut delta.reasoning),
                (Part::Refusal, &mut delta.refusal),
            ] {
                if let Some(piece) = text.take() {
                    let given = self.filter(index, part).push(&piece)?;
                    *text = (!given.is_empty()).then_some(given);
                }
            }
            for call in &mut delta.tool_calls {
                call.arguments = self.filter(index, Part::Arguments(call.index)).push(&call.arguments)?;
            }
            if delta.finish_reason.is_some()
                && let Some(left) = self.rest(index)?
            {
                ends.push(Delta { index, finish_reason: delta.finish_reason.take(), ..Delta::default() });
                append(&mut delta, left);
            }
            deltas.push(delta);
        }
        chunk.choices = deltas;
        chunk.raw = None;
        let behind = (!ends.is_empty()).then(|| Chunk {
            id: chunk.id.clone(),
            model: chunk.model.clone(),
            created: chunk.created,
            choices: ends,
            usage: chunk.usage.take(),
            ..Chunk::default()
        });
        if let Some(extra) = &mut chunk.extra {
            self.beside(Arc::make_mut(extra))?;
        }
        for delta in &mut chunk.choices {
            // They hold the texts as they were, and some of them in pieces that nobody could look at one by one.
            delta.logprobs = None;
            delta.beside = self.notes(delta.beside.take())?;
        }
        Ok(behind)
    }

    /// Of what stands beside a message what may stay there: annotations, which come whole and count characters of the
    /// text, where that goes out as it came.
    fn notes(&self, beside: Option<Value>) -> Result<Option<Value>, Blocked> {
        const NOTES: &str = "annotations";
        let changes = !self.tokens.is_empty() || self.redaction.changes(Place::Output);
        let Some(mut notes) = beside.filter(|_| !changes).and_then(|mut b| b.get_mut(NOTES).map(Value::take))
        else {
            return Ok(None);
        };
        self.each(&mut notes)?;
        Ok(Some(Value::Object(Map::from_iter([(NOTES.to_owned(), notes)]))))
    }

    /// What is left when a stream ends without saying so of every choice.
    ///
    /// # Errors
    /// A value that must be refused.
    pub(crate) fn end(&mut self) -> Result<Vec<Delta>, Blocked> {
        let choices: Vec<u32> = self.growing.keys().map(|(index, _)| *index).collect();
        let mut deltas = Vec::new();
        for index in choices {
            deltas.extend(self.rest(index)?);
        }
        Ok(deltas)
    }

    fn rest(&mut self, index: u32) -> Result<Option<Delta>, Blocked> {
        let mut delta = Delta { index, ..Delta::default() };
        let mut any = false;
        let own: Vec<(u32, Part)> = self.growing.keys().filter(|(i, _)| *i == index).copied().collect();
        for key in own {
            let Some(mut filter) = self.growing.remove(&key) else { continue };
            let left = filter.finish()?;
            if left.is_empty() {
                continue;
            }
            any = true;
            match key.1 {
                Part::Text => delta.text = Some(left),
                Part::Reasoning => delta.reasoning = Some(left),
                Part::Refusal => delta.refusal = Some(left),
                Part::Arguments(call) => {
                    delta.tool_calls.push(ToolCallDelta {
                        index: call,
                        arguments: left,
                        ..ToolCallDelta::default()
                    });
                }
            }
        }
        Ok(any.then_some(delta))
    }

    fn filter(&mut self, index: u32, part: Part) -> &mut Filter {
        let json = match part {
            Part::Text => self.json,
            Part::Arguments(_) => true,
            Part::Reasoning | Part::Refusal => false,
        };
        let (redaction, tokens) = (&self.redaction, &self.tokens);
        self.growing.entry((index, part)).or_insert_with(|| Filter::new(redaction.clone(), tokens, json))
    }
}

/// Puts what is left of a choice behind what its last delta gives.
fn append(delta: &mut Delta, left: Delta) {
    let join = |given: &mut Option<String>, left: Option<String>| match (given.as_mut(), left) {
        (Some(given), Some(left)) => given.push_str(&left),
        (None, left) => *given = left,
        (Some(_), None) => {}
    };
    join(&mut delta.text, left.text);
    join(&mut delta.reasoning, left.reasoning);
    join(&mut delta.refusal, left.refusal);
    for call in left.tool_calls {
        match delta.tool_calls.iter_mut().find(|known| known.index == call.index) {
            Some(known) => known.arguments.push_str(&call.arguments),
            None => delta.tool_calls.push(call),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::redaction;
    use super::*;
    use serde_json::json;
    use types::FinishReason;
    use types::directives::RedactAction;
    use types::privacy::Entity;

    #[test]
    fn tokens_come_back_over_chunks_in_texts_and_tool_calls() {
        let r = redaction(&[(Entity::Email, Place::Input, RedactAction::Mask, true)]);
        r.text("ada@analytical.co.uk", Place::Input).unwrap();
        let mut answers = Answers::of(&r, false, Vec::new()).unwrap();
        let delta = |text: Option<&str>, arguments: &str, end: bool| Delta {
            text: text.map(str::to_owned),
            tool_calls: if arguments.is_empty() {
                Vec::new()
            } else {
                vec![ToolCallDelta { arguments: arguments.to_owned(), ..ToolCallDelta::default() }]
            },
            finish_reason: end.then_some(FinishReason::Stop),
            ..Delta::default()
        };
        let (mut text, mut arguments) = (String::new(), String::new());
        for d in [
            delta(Some("to [EMA"), "", false),
            delta(Some("IL_1], "), "{\"a\":\"[E", false),
            delta(Some("and [EMAIL"), "MAIL_1]\"}", false),
            delta(None, "", true),
        ] {
            let mut chunk = Chunk { choices: vec![d], ..Chunk::default() };
            let behind = answers.chunk(&mut chunk).unwrap();
            for d in chunk.choices.into_iter().chain(behind.into_iter().flat_map(|c| c.choices)) {
                text.push_str(&d.text.unwrap_or_default());
                arguments.push_str(&d.tool_calls.iter().map(|t| t.arguments.as_str()).collect::<String>());
            }
        }
        assert_eq!(text, "to ada@analytical.co.uk, and [EMAIL");
        assert_eq!(arguments, "{\"a\":\"ada@analytical.co.uk\"}");
        assert!(answers.end().unwrap().is_empty());
    }

    /// What a choice held back goes out behind what its last delta brings, and its end after both.
    #[test]
    fn the_end_of_a_choice_comes_after_what_was_held_back() {
        let r = redaction(&[(Entity::Email, Place::Output, RedactAction::Mask, false)]);
        let mut answers = Answers::of(&r, false, Vec::new()).unwrap();
        let delta = |text: &str, end: bool| Delta {
            text: Some(text.to_owned()),
            finish_reason: end.then_some(FinishReason::Stop),
            ..Delta::default()
        };
        let (mut all, mut chunks) = (String::new(), Vec::new());
        for d in [delta("write to ada@analyt", false), delta("ical.co.uk or to bob@exam", true)] {
            let mut chunk = Chunk { choices: vec![d], ..Chunk::default() };
            let behind = answers.chunk(&mut chunk).unwrap();
            chunks.extend([Some(chunk), behind].into_iter().flatten());
        }
        let ends: Vec<_> = chunks.iter().map(|c| c.choices[0].finish_reason.is_some()).collect();
        assert_eq!(ends, [false, false, true]);
        assert!(chunks.iter().all(|c| c.choices.len() == 1), "one choice in a chunk");
        chunks.iter().for_each(|c| all.push_str(c.choices[0].text.as_deref().unwrap_or_default()));
        assert_eq!(all, "write to [EMAIL_1] or to bob@exam");
    }

    #[test]
    fn what_stands_beside_the_choices_is_text_too() {
        let of = |action| {
            let r = redaction(&[(Entity::Email, Place::Output, action, false)]);
            Answers::of(&r, false, Vec::new()).unwrap()
        };
        let told = json!({"system_fingerprint": "fp ada@analytical.co.uk", "service_tier": "flex"});
        let extra = told.as_object().cloned().unwrap();
        let want = json!({"system_fingerprint": "fp [EMAIL_1]", "service_tier": "flex"});
        let mut whole = Completion { extra: Some(Box::new(extra.clone())), ..Completion::default() };
        of(RedactAction::Mask).whole(&mut whole).unwrap();
        assert_eq!(json!(whole.extra), want);
        let chunk = || Chunk { extra: Some(Arc::new(extra.clone())), ..Chunk::default() };
        let mut masked = chunk();
        of(RedactAction::Mask).chunk(&mut masked).unwrap();
        assert_eq!(json!(masked.extra), want);
        assert_eq!(of(RedactAction::Block).whole(&mut whole.clone()), Ok(()));
        assert_eq!(of(RedactAction::Block).chunk(&mut chunk()), Err(Blocked(Entity::Email)));
    }

    /// Of a stream that is only looked at, or is to be refused.
    #[test]
    fn notes_stay_with_a_text_that_nothing_changes() {
        let of = |action, note: &str| {
            let r = redaction(&[(Entity::Email, Place::Output, action, false)]);
            let beside =
                json!({"annotations": [{"title": note}], "reasoning_details": [{"text": "ada@ana"}]});
            let delta = Delta { beside: Some(beside), logprobs: Some(json!({})), ..Delta::default() };
            let mut chunk = Chunk { choices: vec![delta], ..Chunk::default() };
            Answers::of(&r, false, Vec::new()).unwrap().chunk(&mut chunk)?;
            Ok((chunk.choices[0].beside.clone(), chunk.choices[0].logprobs.clone()))
        };
        let notes = json!({"annotations": [{"title": "A page"}]});
        assert_eq!(of(RedactAction::Block, "A page"), Ok((Some(notes), None)));
        assert_eq!(of(RedactAction::Block, "ada@analytical.co.uk"), Err(Blocked(Entity::Email)));
        assert_eq!(of(RedactAction::Mask, "A page"), Ok((None, None)));
    }

    #[test]
    fn nothing_to_do_is_nothing_done() {
        let r = redaction(&[(Entity::Email, Place::Input, RedactAction::Mask, false)]);
        r.text("ada@analytical.co.uk", Place::Input).unwrap();
        assert!(Answers::of(&r, false, Vec::new()).is_none());
    }
}
