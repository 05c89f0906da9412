//! The most that a call can have used: what a vendor reports beyond that is a mistake, and nobody pays for it.

use super::{dropped, max_tokens};
use types::Usage;
use types::completion::Why;
use types::provider::{Call, Error};

/// Tokens that a vendor may count around an answer, for its own frame of it.
const FRAME: u32 = 64;

/// Bounds on the usage of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Possible {
    input: u32,
    output: u32,
}

impl Possible {
    /// What a call may use whose body has so many bytes.
    ///
    /// No input is longer than the model's window, nor has text more tokens than bytes: the larger of the two
    /// holds, for the window stands in a file that may be out of date. The output is bounded by what was granted to
    /// every choice, and by as much again where the model reasons, for vendors differ in whether the limit counts
    /// that.
    pub(crate) fn of(call: &Call, body: usize) -> Self {
        let model = &call.model;
        let limit = call.provider.quirks.max_tokens_field.as_str();
        let granted = max_tokens(call).filter(|_| !dropped(call, limit)).unwrap_or(model.max_output_tokens);
        let thoughts = if model.abilities.reasoning { model.max_output_tokens } else { 0 };
        let each = granted.saturating_add(thoughts).saturating_add(FRAME);
        Possible {
            input: model.context_window.max(count(body)),
            output: each.saturating_mul(call.request.params.n.max(1)),
        }
    }

    /// What was reported, or that it cannot be; `said`: bytes of what the model wrote. Nothing visible has more
    /// tokens than bytes, so that a limit that the vendor did not keep to is no reason for doubt.
    pub(crate) fn judge(self, reported: Usage, said: usize) -> Usage {
        if reported.input > self.input {
            return Usage::impossible(Why::ImpossibleInput);
        }
        if reported.output > self.output.max(count(said)) {
            return Usage::impossible(Why::ImpossibleOutput);
        }
        reported
    }
}

impl Possible {
    /// The same for what was reported with a failure: what cannot be was not.
    pub(crate) fn judge_failed(self, mut error: Error) -> Error {
        error.used = error.used.filter(|used| self.judge(**used, 0).reported().is_some());
        error
    }
}

/// More than can be counted is never reached.
fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).min(u32::MAX.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::super::tests::call;
    use super::*;
    use bytes::Bytes;
    use serde_json::{Value, json};
    use std::sync::Arc;
    use types::matrix::Dialect;

    /// A model of 100 000 tokens, 8 192 of them output, that was sent 1 000 bytes and wrote 10.
    fn check(more: &Value, thinks: bool, (input, output): (u32, u32), want: Option<Why>) {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut call = call(&Bytes::from(body.to_string()), Dialect::OpenaiChat);
        Arc::make_mut(&mut call.model).abilities.reasoning = thinks;
        let reported = Usage { input, output, ..Usage::default() };
        let got = Possible::of(&call, 1_000).judge(reported, 10);
        assert_eq!(got, want.map_or(reported, Usage::impossible), "{more} {thinks} {input} {output}");
    }

    #[test]
    fn what_cannot_be_is_told_from_what_is_much() {
        let (input, output) = (Some(Why::ImpossibleInput), Some(Why::ImpossibleOutput));
        let none = json!({});
        check(&none, false, (100_000, 8_192), None);
        check(&none, false, (100_001, 1), input);
        check(&none, false, (u32::MAX, 1), input);
        check(&none, false, (1, 9_000), output);
        check(&none, true, (1, 9_000), None);
        check(&none, true, (1, 20_000), output);
        check(&none, true, (1, u32::MAX), output);
        let short = json!({"max_tokens": 10});
        check(&short, false, (1, 10), None);
        check(&short, false, (1, 1_000), output);
        check(&short, true, (1, 1_000), None);
        check(&json!({"max_tokens": 10, "n": 16}), false, (1, 1_000), None);
        // The vendor cannot give more than the model has.
        check(&json!({"max_tokens": 1_000_000}), false, (1, 9_000), output);
    }

    #[test]
    fn what_can_be_seen_and_what_was_sent_is_believed() {
        let body = json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]});
        let mut call = call(&Bytes::from(body.to_string()), Dialect::OpenaiChat);
        Arc::make_mut(&mut call.model).abilities.reasoning = false;
        let long = Usage { input: 300_000, output: 5_000, ..Usage::default() };
        assert_eq!(Possible::of(&call, 400_000).judge(long, 6_000), long);
        let quirks = &mut Arc::make_mut(&mut call.provider).quirks;
        quirks.drop = vec!["max_tokens".into()];
        assert_eq!(Possible::of(&call, 400_000).judge(long, 0), long, "the vendor was told no limit");
        let most = Usage { input: u32::MAX, ..long };
        assert_eq!(Possible::of(&call, usize::MAX).judge(most, 0), Usage::impossible(Why::ImpossibleInput));
    }
}
