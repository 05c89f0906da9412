//! Members whose names differ from known ones in case alone. They are passed on unread, and a vendor whose JSON library
//! takes no notice of case (Go's, for one) would read them in the place of what was checked.

use super::{Error, shorten};

/// Of a request.
pub(super) const REQUEST: &[&str] = &[
    "model",
    "messages",
    "stream",
    "stream_options",
    "tools",
    "tool_choice",
    "response_format",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "seed",
    "stop",
    "reasoning_effort",
    "parallel_tool_calls",
    "logprobs",
    "user",
    "metadata",
    "routing",
    "provider",
    "functions",
    "function_call",
    "guardrails",
    "models",
    "service_tier",
    "modalities",
    "prediction",
    "store",
    "prompt_cache_retention",
];
/// Of a message.
pub(super) const MESSAGE: &[&str] =
    &["role", "content", "name", "tool_calls", "tool_call_id", "function_call", "refusal"];
/// Of a tool, and of the function in it.
pub(super) const TOOL: &[&str] =
    &["type", "function", "custom", "name", "description", "parameters", "strict"];

/// Refuses a member that is one of `known` but for case; `at` is its place.
///
/// # Errors
/// `ambiguous_field`.
pub(super) fn refuse(key: &str, known: &[&str], at: impl Fn() -> String) -> Result<(), Error> {
    // What is written in small letters alone is itself; nearly all are.
    if key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
        return Ok(());
    }
    let folded: String = key.chars().map(fold).collect();
    let Some(name) = known.iter().find(|name| **name == folded) else { return Ok(()) };
    let text = format!(
        "`{}` is `{name}` but for its case, and some vendors read one as the other; write `{name}`",
        shorten(key)
    );
    Err(Error::new("ambiguous_field", at(), text))
}

/// The small letter that Go takes a letter for: the long s and the sign of kelvin too.
const fn fold(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_case_makes_a_name_another_ones() {
        for bad in ["Model", "MAX_TOKENS", "ſtop", "Max_To\u{212a}ens", "mesſages"] {
            let told = refuse(bad, REQUEST, || format!("/{bad}")).unwrap_err();
            assert_eq!((told.code, told.pointer.as_str()), ("ambiguous_field", &*format!("/{bad}")));
        }
        for good in ["model", "Models2", "X-Model", "modèle", "top_K", "maxTokens"] {
            assert!(refuse(good, REQUEST, String::new).is_ok(), "{good}");
        }
    }
}
