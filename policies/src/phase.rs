//! When rules are evaluated: before routing, before a tool call, before an answer is delivered.

/// A phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// After profiling, before routing.
    Request,
    /// Before each tool call of a workflow.
    Tool,
    /// When an answer is about to be delivered.
    Response,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Phase; 3] = [Phase::Request, Phase::Tool, Phase::Response];
    /// The strings of files and records, in the order of [`Phase::ALL`].
    pub const NAMES: &'static [&'static str] = &["request", "tool", "response"];

    /// The string of files and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Request => "request",
            Phase::Tool => "tool",
            Phase::Response => "response",
        }
    }

    /// The phase of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Phase> {
        Phase::ALL.into_iter().find(|p| p.as_str() == name)
    }

    /// The function of a policy that runs in it.
    pub(crate) const fn function(self) -> &'static str {
        match self {
            Phase::Request => "on_request",
            Phase::Tool => "on_tool",
            Phase::Response => "on_response",
        }
    }
}
