//! A JSON object as its members' raw text: change one member, leave the bytes of the others alone.

use memchr::memmem;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

/// The members of an object, in order, values as written.
pub(crate) struct Object<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Object<'a> {
    /// `None` if `json` is no JSON object.
    pub(crate) fn parse(json: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The text of a member's value.
    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| *v)
    }

    /// The object again: members named in `changes` get the text given there, or go if it is `None`;
    /// those that were not there before follow at the end.
    pub(crate) fn write(&self, changes: &[(&str, Option<&str>)]) -> String {
        let mut out = String::from("{");
        let mut put = |key: &str, value: &str| {
            if out.len() > 1 {
                out.push(',');
            }
            // A string always serialises.
            out.push_str(&serde_json::to_string(key).unwrap_or_default());
            out.push(':');
            out.push_str(value);
        };
        for (key, value) in &self.0 {
            match changes.iter().find(|(k, _)| k == key) {
                None => put(key, value),
                Some((_, Some(new))) => put(key, new),
                Some((_, None)) => {}
            }
        }
        for (key, new) in changes {
            if let (None, Some(new)) = (self.get(key), new) {
                put(key, new);
            }
        }
        out.push('}');
        out
    }
}

/// The object with the value of `model` exchanged by looking for it, without parsing anything else. `None`
/// where it does not stand exactly once in the usual spelling; the caller parses then. A quote within a
/// string is escaped, so what is found is a member.
pub(crate) fn with_model(json: &[u8], vendors: &str, ours: &str) -> Option<Vec<u8>> {
    let mut places = MODEL.find_iter(json);
    let at = places.next()?;
    if places.next().is_some() {
        return None;
    }
    let (before, rest) = json.split_at_checked(at.saturating_add(MEMBER.len()))?;
    // A name with anything to escape in it is for the parser.
    let quoted = rest.strip_prefix(b":\"")?.strip_prefix(vendors.as_bytes())?;
    let after = quoted.strip_prefix(b"\"").filter(|_| !vendors.contains(['"', '\\']))?;
    let mut out = Vec::with_capacity(json.len().saturating_add(ours.len()));
    out.extend_from_slice(before);
    out.push(b':');
    out.extend_from_slice(ours.as_bytes());
    out.extend_from_slice(after);
    Some(out)
}

const MEMBER: &[u8] = b"\"model\"";
static MODEL: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(MEMBER));

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Vec<(Cow<'de, str>, &'de str)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut a: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some((key, value)) = a.next_entry::<String, &'de RawValue>()? {
                    members.push((Cow::Owned(key), value.get()));
                }
                Ok(members)
            }
        }
        d.deserialize_map(V).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, changes: &[(&str, Option<&str>)], want: &str) {
        assert_eq!(Object::parse(json.as_bytes()).unwrap().write(changes), want);
    }

    #[test]
    fn one_member_changes_and_the_others_keep_their_bytes() {
        check(r#"{"a": 1.0,"b":{"x" : 1}}"#, &[], r#"{"a":1.0,"b":{"x" : 1}}"#);
        check(r#"{"a":1,"usage":{"t":1},"b":2}"#, &[("usage", None)], r#"{"a":1,"b":2}"#);
        check(r#"{"a":1,"usage":{"t":1}}"#, &[("usage", Some("null"))], r#"{"a":1,"usage":null}"#);
        check(r#"{"a":1}"#, &[("usage", Some("null")), ("x", None)], r#"{"a":1,"usage":null}"#);
        check("{}", &[("q\"", Some("1"))], r#"{"q\"":1}"#);
        assert!(Object::parse(b"[1]").is_none());
    }

    #[test]
    fn the_model_is_exchanged_where_it_stands_once() {
        let with =
            |json: &str| with_model(json.as_bytes(), "m-1", "\"p/m\"").map(|v| String::from_utf8(v).unwrap());
        assert_eq!(
            with(r#"{"id":1.0,"model":"m-1","x":"y"}"#).as_deref(),
            Some(r#"{"id":1.0,"model":"p/m","x":"y"}"#)
        );
        let text = r#"{"model":"m-1","x":"say \"model\":\"m-1\""}"#;
        assert_eq!(with(text).as_deref(), Some(r#"{"model":"p/m","x":"say \"model\":\"m-1\""}"#));
        for other in
            [r#"{"model": "m-1"}"#, r#"{"model":"m-2"}"#, r#"{"model":"m-1","x":{"model":"m-1"}}"#, "{}"]
        {
            assert_eq!(with(other), None, "{other}");
        }
    }
}
