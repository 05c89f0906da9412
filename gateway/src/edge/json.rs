//! One pass over a body before any parser: how deep it nests and how many values it may hold.

use crate::error::Failure;

/// Refuses bodies that would cost the parser too much. Counts upwards: a comma or an opening bracket may
/// stand for one value each, so the count is never below the true one by more than one. What is no JSON is
/// left to the parser.
pub(crate) fn check(body: &[u8], depth_max: usize, values_max: usize) -> Result<(), Failure> {
    let (mut depth, mut values) = (0_usize, 1_usize);
    let mut rest = body;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => rest = after_string(rest),
            b'[' | b'{' => {
                depth = depth.saturating_add(1);
                values = values.saturating_add(1);
            }
            b',' => values = values.saturating_add(1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > depth_max {
            let text = format!("the body nests deeper than {depth_max} levels");
            return Err(Failure::bad_request("invalid_json", text));
        }
        if values > values_max {
            let text = format!("the body holds more than {values_max} values");
            return Err(Failure::bad_request("invalid_json", text));
        }
    }
    Ok(())
}

/// What follows the string whose opening quote has been read.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let escape = rest.get(at) == Some(&b'\\');
        let skip = at.saturating_add(if escape { 2 } else { 1 });
        rest = rest.get(skip..).unwrap_or_default();
        if !escape {
            return rest;
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(body: &str) -> bool {
        check(body.as_bytes(), 3, 5).is_ok()
    }

    #[test]
    fn depth_and_number_are_bounded_and_strings_do_not_count() {
        assert!(good("[[[]]]") && !good("[[[[]]]]"));
        assert!(good("[1,2,3,4]") && !good("[1,2,3,4,5]"));
        assert!(good(r#"{"a":"[[[[,,,,\"[[[[\\"}"#));
        assert!(!good(r#"{"a\\":[[[]]]}"#));
        assert!(good("") && good("\"[[[[") && good("]]]]"));
    }
}
