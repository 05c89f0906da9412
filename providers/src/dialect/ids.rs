//! Identifiers of tool calls as a vendor takes them.
//!
//! Histories go from vendor to vendor, and each has its own idea of an identifier. One that a vendor would refuse is
//! replaced, in calls and results alike, by one that depends on nothing but itself: the next turn of the same
//! conversation says the same, so that caches of prompts still hold.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use types::chat::Message;
use types::matrix::{Dialect, ToolCallIds};
use types::provider::Call;

/// What replaces the identifiers of one conversation; those that may stay are not in it.
#[derive(Debug, Default)]
pub(super) struct Ids<'a>(HashMap<&'a str, String>);

/// What a vendor takes for an identifier.
#[derive(Clone, Copy)]
struct Form {
    /// Characters, at least and at most.
    length: (usize, usize),
    takes: fn(char) -> bool,
    /// What those begin with that are made here.
    prefix: &'static str,
}

impl Form {
    fn of(call: &Call) -> Option<Form> {
        let quirks = &call.provider.quirks;
        match call.provider.dialect {
            Dialect::OpenaiChat if quirks.tool_call_ids == ToolCallIds::Nine => {
                Some(Form { length: (9, 9), takes: |c| c.is_ascii_alphanumeric(), prefix: "" })
            }
            Dialect::OpenaiChat => Some(Form { length: (1, 40), takes: |_| true, prefix: "call_" }),
            // docs.anthropic.com: `^[a-zA-Z0-9_-]+$`; 64 is the limit where the same models are had elsewhere.
            Dialect::AnthropicMessages => Some(Form {
                length: (1, 64),
                takes: |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'),
                prefix: "call_",
            }),
            Dialect::Gemini | Dialect::Simulated | Dialect::Recorded => None,
        }
    }

    fn takes(self, id: &str) -> bool {
        let (least, most) = self.length;
        (least..=most).contains(&id.chars().count()) && id.chars().all(self.takes)
    }

    fn make(self, id: &str, attempt: u32) -> String {
        let length = self.length.1.min(MADE).saturating_sub(self.prefix.len());
        format!("{}{}", self.prefix, digest(&[id.as_bytes(), &attempt.to_le_bytes()], length))
    }
}

/// Characters of what is made here, where the vendor sets no length.
const MADE: usize = 29;

/// Letters and digits that stand for the parts.
fn digest(parts: &[&[u8]], length: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let hash = hasher.finalize();
    let digit = |b: &u8| DIGITS.get(usize::from(*b) % DIGITS.len()).map(|d| char::from(*d));
    hash.as_bytes().iter().take(length).filter_map(digit).collect()
}

/// The identifier of a call whose vendor gave none: the `n`th of a choice of the answer `seed`. At most 40 characters,
/// which every vendor of chat completions takes.
pub(super) fn made(seed: &str, choice: u32, n: usize) -> String {
    const LONGEST: usize = 24;
    let plain: String = seed.chars().filter(char::is_ascii_alphanumeric).collect();
    let seed = if plain.len() > LONGEST { digest(&[seed.as_bytes()], LONGEST) } else { plain };
    format!("call_{seed}_{choice}_{n}")
}

/// The identifiers of the tool calls of one choice so far: every call has one of its own, or its client could not answer
/// them apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Given(HashSet<String>);

impl Given {
    /// The identifier of the next call: the vendor's, unless it gave none or gave it to another call already.
    pub(super) fn own(&mut self, given: Option<&str>, made: impl FnOnce() -> String) -> String {
        let given = given.filter(|id| !id.is_empty() && !self.0.contains(*id));
        let id = given.map_or_else(made, str::to_owned);
        self.0.insert(id.clone());
        id
    }
}

impl<'a> Ids<'a> {
    /// Of the conversation that a call sends.
    pub(super) fn of(call: &'a Call) -> Ids<'a> {
        let Some(form) = Form::of(call) else { return Ids::default() };
        let all = || super::messages(call).iter().flat_map(in_message);
        if all().all(|id| form.takes(id)) {
            return Ids::default();
        }
        let mut used: HashSet<Cow<'_, str>> = all().filter(|id| form.takes(id)).map(Cow::Borrowed).collect();
        let mut new: HashMap<&str, String> = HashMap::new();
        for id in all().filter(|id| !form.takes(id)) {
            if new.contains_key(id) {
                continue;
            }
            let mut attempts = (0..u32::MAX).map(|attempt| form.make(id, attempt));
            let free = attempts.find(|made| !used.contains(made.as_str())).unwrap_or_default();
            used.insert(Cow::Owned(free.clone()));
            new.insert(id, free);
        }
        Ids(new)
    }

    /// What the vendor is told in the place of an identifier.
    pub(super) fn get<'s>(&'s self, id: &'s str) -> &'s str {
        self.0.get(id).map_or(id, String::as_str)
    }

    /// Whether a message holds one that is replaced.
    pub(super) fn concern(&self, message: &Message) -> bool {
        !self.0.is_empty() && in_message(message).any(|id| self.0.contains_key(id))
    }
}

fn in_message(message: &Message) -> impl Iterator<Item = &str> {
    message.tool_calls.iter().map(|c| c.id.as_str()).chain(message.tool_call_id.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::Arc;
    use types::chat::{Role, ToolCall};

    fn call(dialect: Dialect, form: ToolCallIds, ids: &[&str]) -> Call {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        let mut call = crate::dialect::tests::call(&Bytes::from(body.to_string()), dialect);
        Arc::make_mut(&mut call.provider).quirks.tool_call_ids = form;
        let made = ids.iter().map(|id| ToolCall { id: (*id).to_owned(), ..ToolCall::default() });
        let said = Message { tool_calls: made.collect(), ..Message::silent(Role::Assistant) };
        let told =
            |id: &&str| Message { tool_call_id: Some((*id).to_owned()), ..Message::text(Role::Tool, "x") };
        call.edits.messages = Some(std::iter::once(said).chain(ids.iter().map(told)).collect());
        call
    }

    /// The identifiers that go out for those given, all of which the vendor must take.
    fn check(dialect: Dialect, form: ToolCallIds, ids: &[&str]) -> Vec<String> {
        let call = call(dialect, form, ids);
        let new = Ids::of(&call);
        let out: Vec<String> = ids.iter().map(|id| new.get(id).to_owned()).collect();
        if let Some(form) = Form::of(&call) {
            assert!(out.iter().all(|id| form.takes(id)), "{out:?}");
        }
        let same = out.iter().zip(ids).all(|(new, old)| new == old);
        assert_eq!(call.edits.messages.iter().flatten().any(|m| new.concern(m)), !same);
        out
    }

    #[test]
    fn what_a_vendor_takes_stays_and_what_it_refuses_is_replaced() {
        use Dialect::{AnthropicMessages, Gemini, OpenaiChat};
        let long = "call_0123456789012345678901234567890123456789_0_0";
        let odd = ["call_a", "functions.get_time:1", "a1B2c3D4e", long, ""];
        let any = check(OpenaiChat, ToolCallIds::Any, &odd);
        assert_eq!((&any[..3], any[3] == long), (&odd.map(str::to_owned)[..3], false));
        let nine = check(OpenaiChat, ToolCallIds::Nine, &odd);
        assert_eq!((nine[2].as_str(), nine[0].len()), ("a1B2c3D4e", 9));
        let words = check(AnthropicMessages, ToolCallIds::Any, &odd);
        assert_eq!((words[0].as_str(), words[3].as_str()), ("call_a", long));
        assert_ne!(words[1], odd[1]);
        assert_eq!(check(Gemini, ToolCallIds::Any, &odd), odd);
        assert_eq!(nine[1], check(OpenaiChat, ToolCallIds::Nine, &odd[1..2])[0], "whatever stands beside it");
    }

    #[test]
    fn an_identifier_that_is_taken_already_is_not_made_again() {
        let first = check(Dialect::OpenaiChat, ToolCallIds::Nine, &["call_a"]).remove(0);
        let both = check(Dialect::OpenaiChat, ToolCallIds::Nine, &["call_a", &first]);
        assert_eq!(both[1], first);
        assert_ne!(both[0], first);
    }

    #[test]
    fn what_is_made_of_an_answer_is_short_and_its_own() {
        assert_eq!(made("Rid-1x", 0, 3), "call_Rid1x_0_3");
        let long = |end: &str| made(&format!("req-0123456789-0123456789-0123456789:{end}"), 15, 255);
        assert!(long("1").len() <= 40, "{}", long("1"));
        assert_ne!(long("1"), long("2"));
    }

    proptest! {
        #[test]
        fn different_identifiers_stay_different(ids in prop::collection::hash_set("[a-c.:]{0,45}", 1..20)) {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            for form in [ToolCallIds::Any, ToolCallIds::Nine] {
                for dialect in [Dialect::OpenaiChat, Dialect::AnthropicMessages] {
                    let out: HashSet<String> = check(dialect, form, &ids).into_iter().collect();
                    prop_assert_eq!(out.len(), ids.len());
                }
            }
        }
    }
}
