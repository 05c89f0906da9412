//! Why an answer ended, in any vendor's words: one table for all dialects.
//!
//! One, because "compatible" vendors let the words of what they wrap through. Clients know OpenAI's five and
//! no other, so that each word comes to one of those, or means that there is no answer.

use types::completion::FinishReason;
use types::provider::ErrorKind;

/// The end as our clients know it.
///
/// # Errors
/// What a word means that stands for a failure; `otherwise` where it tells nothing of whose.
pub(super) fn reason(
    written: &str,
    called_tools: bool,
    otherwise: ErrorKind,
) -> Result<FinishReason, (ErrorKind, &'static str)> {
    let word = written.to_ascii_lowercase();
    if let Some(failed) = failure(&word, otherwise) {
        return Err(failed);
    }
    Ok(match word.as_str() {
        "length"
        | "max_tokens"
        | "max_length"
        | "model_length"
        | "token_limit"
        | "max_output_tokens"
        | "model_context_window_exceeded"
        | "pause_turn" => FinishReason::Length,
        "function_call" => FinishReason::FunctionCall,
        // What was cut by something else than the model and its limits: half of Gemini's words, and `OTHER`, for
        // which it gives no reason.
        "content_filter"
        | "content_filtered"
        | "filtered"
        | "refusal"
        | "safety"
        | "recitation"
        | "language"
        | "blocklist"
        | "prohibited_content"
        | "spii"
        | "sensitive"
        | "blocked"
        | "guardrail_intervened"
        | "image_safety"
        | "image_prohibited_content"
        | "image_recitation"
        | "image_other"
        | "no_image"
        | "other" => FinishReason::ContentFilter,
        // `stop`, `end_turn`, `eos`, `tool_calls` and what is yet to be invented: vendors say `stop` where calls
        // end an answer.
        _ if called_tools => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    })
}

/// Words that end no answer but tell that there is none, with the word as it may be told on.
pub(super) fn failure(written: &str, otherwise: ErrorKind) -> Option<(ErrorKind, &'static str)> {
    let malformed = [
        "malformed_function_call",
        "malformed_response",
        "missing_thought_signature",
        "too_many_tool_calls",
        "unexpected_tool_call",
    ];
    let lost = ["abort", "aborted", "cancelled", "error", "insufficient_system_resource", "network_error"];
    let find = |list: &[&'static str]| list.iter().find(|w| written.eq_ignore_ascii_case(w)).copied();
    find(&malformed).map(|w| (ErrorKind::Malformed, w)).or_else(|| find(&lost).map(|w| (otherwise, w)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(written: &str, called_tools: bool, want: Result<&str, ErrorKind>) {
        let got = reason(written, called_tools, ErrorKind::StreamLost);
        let got = got.as_ref().map(FinishReason::as_str).map_err(|(kind, _)| *kind);
        assert_eq!(got, want, "{written} {called_tools}");
    }

    #[test]
    fn every_word_is_one_that_clients_know_or_a_failure() {
        for (word, want) in [
            ("stop", "stop"),
            ("STOP", "stop"),
            ("eos", "stop"),
            ("end_turn", "stop"),
            ("tool_calls", "stop"),
            ("never_heard_of", "stop"),
            ("length", "length"),
            ("MAX_TOKENS", "length"),
            ("model_length", "length"),
            ("pause_turn", "length"),
            ("content_filter", "content_filter"),
            ("SAFETY", "content_filter"),
            ("OTHER", "content_filter"),
            ("LANGUAGE", "content_filter"),
            ("refusal", "content_filter"),
            ("function_call", "function_call"),
        ] {
            check(word, false, Ok(want));
        }
        for word in ["stop", "STOP", "tool_calls", "tool_use", "eos"] {
            check(word, true, Ok("tool_calls"));
        }
        check("length", true, Ok("length"));
        for word in ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "unexpected_tool_call"] {
            check(word, false, Err(ErrorKind::Malformed));
        }
        for word in ["error", "network_error", "insufficient_system_resource"] {
            check(word, false, Err(ErrorKind::StreamLost));
        }
    }
}
