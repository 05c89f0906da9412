//! What of a request's body is redacted beside its texts one by one: names of members, identifiers, and values that
//! stand in several texts that are read as one.

use super::{Blocked, Redaction};
use serde_json::{Map, Value};
use std::borrow::Cow;
use types::directives::{Place, RedactAction};
use types::privacy::Entity;
use types::privacy::texts::{is_data_url, is_no_text, is_word};

/// Members that hold an identifier by which one part of a body names another.
const IDS: &[&str] = &["tool_call_id", "id"];

impl Redaction {
    /// Redacts every text of a request's body, the names of members and identifiers included.
    ///
    /// # Errors
    /// A value that must be refused.
    pub(crate) fn body(&self, body: &mut Value) -> Result<(), Blocked> {
        match body {
            Value::String(s) => {
                if !is_data_url(s)
                    && let Cow::Owned(redacted) = self.text(s, Place::Input)?
                {
                    *s = redacted;
                }
                Ok(())
            }
            Value::Array(items) => {
                self.across(items)?;
                items.iter_mut().try_for_each(|item| self.body(item))
            }
            Value::Object(members) => {
                self.names(members)?;
                members.iter_mut().try_for_each(|(key, value)| self.member(key, value))
            }
            _ => Ok(()),
        }
    }

    fn member(&self, key: &str, value: &mut Value) -> Result<(), Blocked> {
        match value {
            Value::String(id) if IDS.contains(&key) => {
                *id = self.id(id)?;
                Ok(())
            }
            // A member of that name that is no string is somebody's own, such as a property of a schema.
            Value::String(text) if is_no_text(key, text) => Ok(()),
            value => self.body(value),
        }
    }

    /// An identifier: what is masked in it is the same wherever it stands, and what would be removed is masked, since
    /// one that is gone names nothing.
    fn id(&self, id: &str) -> Result<String, Blocked> {
        self.text_with(id, Place::Input, RedactAction::Mask).map(Cow::into_owned)
    }

    /// The names of members, apart from those that are words as the formats of vendors have them.
    pub(super) fn names(&self, members: &mut Map<String, Value>) -> Result<(), Blocked> {
        let mut renamed = Vec::new();
        for name in members.keys().filter(|name| !is_word(name)) {
            if let Cow::Owned(new) = self.text_with(name, Place::Input, RedactAction::Mask)? {
                renamed.push((name.clone(), new));
            }
        }
        if renamed.is_empty() {
            return Ok(());
        }
        let own = std::mem::take(members);
        for (name, value) in own {
            let new = renamed.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new.clone());
            members.insert(new, value);
        }
        Ok(())
    }

    /// Values that begin in one text of a list and end in a later one, as far as only texts stand between: some vendors
    /// are sent them as one text, and models read them so.
    fn across(&self, items: &mut [Value]) -> Result<(), Blocked> {
        let kinds = self.kinds(Place::Input);
        if kinds.is_empty() {
            return Ok(());
        }
        for run in items.split_mut(|item| text_of(item).is_none()).filter(|run| run.len() > 1) {
            let texts: Vec<&str> = run.iter().filter_map(text_of).collect();
            let ends: Vec<usize> = texts
                .iter()
                .scan(0_usize, |end, text| {
                    *end = end.saturating_add(text.len());
                    Some(*end)
                })
                .collect();
            // What is whole in a text is no part of what follows in the next one.
            let joined: String = texts.iter().map(|text| self.without_values(text, &kinds)).collect();
            let mut parts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
            let mut changed = false;
            // From the end, so that the places before stay as they are.
            for hit in self.find(&joined, &kinds).into_iter().rev() {
                let of = |at: usize| ends.iter().position(|end| at < *end);
                let (Some(first), Some(last)) = (of(hit.span.start), of(hit.span.end.saturating_sub(1)))
                else {
                    continue;
                };
                if first == last {
                    continue;
                }
                let instead = self.instead(hit.entity, &hit.value, Place::Input)?;
                let begin = |part: usize| part.checked_sub(1).and_then(|p| ends.get(p)).copied().unwrap_or(0);
                for (i, part) in parts.iter_mut().enumerate().take(last.saturating_add(1)).skip(first) {
                    let from = hit.span.start.saturating_sub(begin(i)).min(part.len());
                    let to = hit.span.end.saturating_sub(begin(i)).min(part.len());
                    part.replace_range(from..to, if i == first { &instead } else { "" });
                }
                changed = true;
            }
            if changed {
                for (item, part) in run.iter_mut().zip(parts) {
                    if let Some(text) = item.get_mut("text") {
                        *text = part.into();
                    }
                }
            }
        }
        Ok(())
    }

    /// A text with blanks in the place of its values, as long as it is.
    fn without_values(&self, text: &str, kinds: &[Entity]) -> String {
        let mut blank = text.to_owned();
        for hit in self.find(text, kinds) {
            blank.replace_range(hit.span.clone(), &" ".repeat(hit.span.len()));
        }
        blank
    }
}

/// The text of a part of a message.
fn text_of(item: &Value) -> Option<&str> {
    (item.get("type")?.as_str()? == "text").then_some(item.get("text")?.as_str()?)
}

#[cfg(test)]
mod tests {
    use crate::redact::tests::redaction;
    use serde_json::{Value, json};
    use types::directives::{Place, RedactAction};
    use types::privacy::Entity;

    fn check(action: RedactAction, mut body: Value, want: &Value) {
        redaction(&[(Entity::Email, Place::Input, action, false)]).body(&mut body).unwrap();
        assert_eq!(body, *want);
    }

    #[test]
    fn names_of_members_are_texts_of_the_clients() {
        let body = |name: &str| {
            json!({"metadata": {name: "a", "team": "b"}, "tools": [{"function": {"parameters": {
                "additionalProperties": false, "properties": {name: {"type": "string"}}, "required": [name]}}}]})
        };
        check(RedactAction::Mask, body("ada@analytical.co.uk"), &body("[EMAIL_1]"));
        check(
            RedactAction::Drop,
            json!({"metadata": {"ada@analytical.co.uk": 1, "bob@analytical.co.uk": 2}}),
            &json!({"metadata": {"[EMAIL_1]": 1, "[EMAIL_3]": 2}}),
        );
    }

    #[test]
    fn identifiers_stay_those_of_each_other() {
        let body = |id: &str| {
            json!({"messages": [
                {"role": "assistant", "tool_calls": [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": id, "content": "x"},
            ]})
        };
        for action in [RedactAction::Mask, RedactAction::Drop] {
            check(action, body("call_ada@analytical.co.uk"), &body("[EMAIL_1]"));
            check(action, body("call_1"), &body("call_1"));
        }
    }

    #[test]
    fn values_across_texts_are_values() {
        let of = |texts: &[&str]| {
            let parts = texts.iter().map(|t| json!({"type": "text", "text": t})).collect::<Vec<_>>();
            json!({"messages": [{"role": "user", "content": parts}]})
        };
        let mask = |given: &[&str], want: &[&str]| check(RedactAction::Mask, of(given), &of(want));
        mask(&["to ada@anal", "ytical.co.uk now"], &["to [EMAIL_1]", " now"]);
        mask(&["to ada", "@analy", "tical.co.uk"], &["to [EMAIL_1]", "", ""]);
        mask(&["ada@analytical.co.uk", "bob@anal", "ytical.co.uk!"], &["[EMAIL_3]", "[EMAIL_1]", "!"]);
        mask(&["ada@analytical.co", "ol, is it"], &["[EMAIL_1]", "ol, is it"]);
        // Something else stands between.
        let image = json!({"type": "image_url", "image_url": {"url": "https://a.example/x"}});
        let mut apart = of(&["ada@anal", "ytical.co.uk"]);
        apart["messages"][0]["content"].as_array_mut().unwrap().insert(1, image);
        check(RedactAction::Mask, apart.clone(), &apart);
    }
}
