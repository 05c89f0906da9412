//! What is said where a record was not taken, and nobody waits to hear of it.

use types::store::Error;

/// Says what is not recorded. Of a store that is full this is not said of each request: it says so itself, once a minute,
/// with how many records it lost.
pub(crate) fn say(request_id: &str, error: &Error, what: &'static str) {
    match error {
        Error::Full(_) => tracing::debug!(request_id, %error, "{what}"),
        _ => tracing::error!(request_id, %error, "{what}"),
    }
}
