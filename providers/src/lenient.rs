//! Serde helpers that forgive what vendors disagree on: numbers as text or fractions, `null` for absent,
//! text as a list of parts. A scalar that does not fit at all counts as absent.

use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A scalar of any type; lists and objects are read over.
#[derive(Debug, Default)]
enum Scalar<'a> {
    #[default]
    Absent,
    Number(f64),
    Integer(i64),
    Text(Cow<'a, str>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Scalar<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Absent)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Absent)
            }
            fn visit_i64<E>(self, v: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Integer(v))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Integer(i64::try_from(v).unwrap_or(i64::MAX)))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(v))
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(v)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(v.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut a: A) -> Result<Self::Value, A::Error> {
                while a.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Absent)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut a: A) -> Result<Self::Value, A::Error> {
                while a.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Absent)
            }
        }
        d.deserialize_any(V)
    }
}

/// A whole number, also written as a fraction or as text; out of range saturates.
pub(crate) fn integer<'de, D: Deserializer<'de>>(d: D) -> Result<Option<i64>, D::Error> {
    Ok(match Scalar::deserialize(d)? {
        Scalar::Integer(i) => Some(i),
        // `as` saturates, and NaN cannot be written in JSON.
        Scalar::Number(x) => Some(x as i64),
        Scalar::Text(t) => t.trim().parse::<f64>().ok().filter(|x| x.is_finite()).map(|x| x as i64),
        Scalar::Absent => None,
    })
}

/// A position: as [`integer`], negative counts as 0.
pub(crate) fn count<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    Ok(integer(d)?.map(|i| u32::try_from(i.max(0)).unwrap_or(u32::MAX)))
}

/// What a vendor counts as tokens. What is no number of tokens (negative, a fraction, more than any call has) is
/// `u32::MAX`, which no call can have used.
pub(crate) fn tokens<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    let whole = |x: f64| {
        let is_count = x.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&x);
        // It was seen to fit.
        if is_count { x as u32 } else { u32::MAX }
    };
    Ok(match Scalar::deserialize(d)? {
        Scalar::Integer(i) => Some(u32::try_from(i).unwrap_or(u32::MAX)),
        Scalar::Number(x) => Some(whole(x)),
        Scalar::Text(t) => t.trim().parse().ok().map(whole),
        Scalar::Absent => None,
    })
}

/// A part of what [`tokens`] counts: what is no number of tokens is not told.
pub(crate) fn part<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u32>, D::Error> {
    Ok(tokens(d)?.filter(|n| *n != u32::MAX))
}

/// An object that is read apart from what surrounds it, so that nothing odd in it spoils the rest: what is no such
/// object counts as absent.
pub(crate) fn apart<'de, D: Deserializer<'de>, T: DeserializeOwned>(d: D) -> Result<Option<T>, D::Error> {
    let raw = Option::<&'de RawValue>::deserialize(d)?;
    // What is derived would be read from a list as well.
    let object = raw.map(RawValue::get).filter(|json| json.starts_with('{'));
    Ok(object.and_then(|json| serde_json::from_str(json).ok()))
}

/// A text; a number counts as its digits.
pub(crate) fn text<'de: 'a, 'a, D: Deserializer<'de>>(d: D) -> Result<Option<Cow<'a, str>>, D::Error> {
    Ok(match Scalar::deserialize(d)? {
        Scalar::Text(t) => Some(t),
        Scalar::Integer(i) => Some(Cow::Owned(i.to_string())),
        Scalar::Number(x) => Some(Cow::Owned(x.to_string())),
        Scalar::Absent => None,
    })
}

/// A list whose place may hold `null`.
pub(crate) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(d)?.unwrap_or_default())
}

/// An object whose place may hold `null`.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// Text and reasoning of a message: a string, `null`, or (Mistral) a list of parts, where those of type
/// `thinking` are reasoning.
#[derive(Debug, Default)]
pub(crate) struct Content<'a> {
    pub(crate) text: Option<Cow<'a, str>>,
    pub(crate) reasoning: Option<Cow<'a, str>>,
    /// It was a list of parts.
    pub(crate) in_parts: bool,
}

#[derive(serde::Deserialize)]
struct ContentPart<'a> {
    #[serde(borrow, default, deserialize_with = "text")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thinking: Option<Box<Content<'a>>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Content<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a list of parts or null")
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Content::default())
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Content { text: Some(Cow::Borrowed(v)), ..Content::default() })
            }
            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Content { text: Some(Cow::Owned(v.to_owned())), ..Content::default() })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut a: A) -> Result<Self::Value, A::Error> {
                let mut all = Content { in_parts: true, ..Content::default() };
                while let Some(part) = a.next_element::<ContentPart<'de>>()? {
                    if let Some(t) = part.text {
                        all.text.get_or_insert_default().to_mut().push_str(&t);
                    }
                    if let Some(t) = part.thinking.and_then(|c| c.text) {
                        all.reasoning.get_or_insert_default().to_mut().push_str(&t);
                    }
                }
                Ok(all)
            }
        }
        d.deserialize_any(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Row<'a> {
        #[serde(default, deserialize_with = "count")]
        n: Option<u32>,
        #[serde(borrow, default, deserialize_with = "text")]
        t: Option<Cow<'a, str>>,
        #[serde(borrow, default)]
        c: Content<'a>,
    }

    fn check(json: &str, n: Option<u32>, t: Option<&str>, c: Option<&str>) {
        let row: Row<'_> = serde_json::from_str(json).unwrap();
        assert_eq!((row.n, row.t.as_deref(), row.c.text.as_deref()), (n, t, c), "{json}");
    }

    #[test]
    fn odd_types_are_forgiven() {
        check(r#"{"n":3,"t":"x","c":"y"}"#, Some(3), Some("x"), Some("y"));
        check(r#"{"n":"3","t":7,"c":null}"#, Some(3), Some("7"), None);
        check(r#"{"n":3.9,"t":null}"#, Some(3), None, None);
        check(r#"{"n":-1,"t":[1,{"a":2}]}"#, Some(0), None, None);
        check(r#"{"n":1e300,"t":true}"#, Some(u32::MAX), None, None);
        check(r#"{"n":{"a":[1]},"c":[{"type":"text","text":"a"},{"text":"\n"}]}"#, None, None, Some("a\n"));
    }

    #[test]
    fn what_is_no_number_of_tokens_is_more_than_any_call_has() {
        #[derive(serde::Deserialize)]
        struct Used {
            #[serde(default, deserialize_with = "tokens")]
            all: Option<u32>,
            #[serde(default, deserialize_with = "part")]
            part: Option<u32>,
        }
        #[derive(serde::Deserialize)]
        struct Outer {
            #[serde(default, deserialize_with = "apart")]
            used: Option<Used>,
        }
        for (written, all, part) in [
            ("3", Some(3), Some(3)),
            ("3.0", Some(3), Some(3)),
            ("\"3\"", Some(3), Some(3)),
            ("null", None, None),
            ("{}", None, None),
            ("0", Some(0), Some(0)),
            ("-1", Some(u32::MAX), None),
            ("3.5", Some(u32::MAX), None),
            ("1e30", Some(u32::MAX), None),
            ("1000000000000", Some(u32::MAX), None),
            ("-9e300", Some(u32::MAX), None),
        ] {
            let json = format!("{{\"used\":{{\"all\":{written},\"part\":{written}}}}}");
            let used = serde_json::from_str::<Outer>(&json).unwrap().used.expect("an object");
            assert_eq!((used.all, used.part), (all, part), "{written}");
        }
        for odd in ["1e999", "\"none\"", "[1]", "{\"all\":1e999}", "null", "7"] {
            let json = format!("{{\"used\":{odd}}}");
            assert!(serde_json::from_str::<Outer>(&json).unwrap().used.is_none(), "{odd}");
        }
    }

    #[test]
    fn thinking_parts_are_reasoning() {
        let json = r#"{"c":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a"}]}"#;
        let row: Row<'_> = serde_json::from_str(json).unwrap();
        assert_eq!(row.c.reasoning.as_deref(), Some("hm"));
        assert_eq!(row.c.text.as_deref(), Some("a"));
    }
}
