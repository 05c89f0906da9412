//! Which requests may use what budgets hold back for those that call for it.

use crate::who::Who;
use types::WorkloadProfile;
use types::axis::PrecisionSensitivity;
use types::directives::Directives;

/// The label of a key whose requests all are premium.
const LABEL: &str = "premium";

/// What policies say: `None` = nothing.
pub(crate) fn said(directives: &Directives) -> Option<bool> {
    Some(directives.further.as_ref()?.premium.as_ref()?.value)
}

/// Why a request is premium; `None` = it is not. A rule has the last word, then the label of the key (which clients
/// cannot set), then the profile.
pub(crate) fn why(who: &Who, profile: &WorkloadProfile, said: Option<bool>) -> Option<&'static str> {
    match said {
        Some(true) => Some("a rule says so"),
        Some(false) => None,
        None if who.labels().get(LABEL).is_some_and(|v| v == "true") => {
            Some("the key has the label premium=true")
        }
        None if profile.precision_sensitivity.value == PrecisionSensitivity::High => {
            Some("its precision_sensitivity is high")
        }
        None => None,
    }
}
