//! What tests of answers begin with.

use engine::Head;

/// The head of an answer of `p/m`.
pub(super) fn head() -> Head {
    Head {
        request_id: "req_1".into(),
        workflow: "default".into(),
        model: "p/m".into(),
        simulated: false,
        bundle: "b".into(),
        overhead_ms: 0.5,
        headers: Vec::new(),
    }
}
