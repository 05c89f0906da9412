//! Values at dotted paths, as rules and their tests name them.

use serde_json::{Map, Value};

/// Sets the value at a dotted path; what stands in its way becomes an object.
pub fn put(into: &mut Value, path: &str, value: Value) {
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
    let Some(members) = into.as_object_mut() else { return };
    match rest {
        None => {
            members.insert(first.to_owned(), value);
        }
        Some(rest) => put(members.entry(first).or_insert(Value::Null), rest, value),
    }
}

#[cfg(test)]
mod tests {
    use super::put;
    use serde_json::json;

    #[test]
    fn what_stands_in_the_way_becomes_an_object() {
        let mut given = json!({"a": 1, "b": {"c": 2}});
        put(&mut given, "a.x", json!(3));
        put(&mut given, "b.d", json!(4));
        assert_eq!(given, json!({"a": {"x": 3}, "b": {"c": 2, "d": 4}}));
    }
}
