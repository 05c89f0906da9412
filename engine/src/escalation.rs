//! Rules that send a request on to other models (`escalate`), where nothing comes of it.

use types::directives::ActionRecord;

/// Why nothing does where no model of theirs is a candidate.
pub(crate) const NOBODY: &str = "none of these models may answer this request";

/// Has the record say so.
pub(crate) fn comes_to_nothing(actions: &mut [ActionRecord], why: &str) {
    for action in actions.iter_mut().filter(|a| &*a.verb == "escalate" && a.effect == "applied") {
        action.effect = format!("no effect: {why}");
    }
}
