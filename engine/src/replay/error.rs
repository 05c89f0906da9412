//! Why a replay cannot be made.

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The models and numbers make no configuration: what is wrong with it, a problem a line.
    #[error("{0}")]
    Configuration(String),
    /// What was learned before cannot be taken up, or what is learned not written down.
    #[error("{0}")]
    State(String),
    /// Nobody can be chosen.
    #[error("{0}")]
    Route(Box<crate::Error>),
    /// A decision names no model of the table.
    #[error("no choice was made")]
    NoChoice,
    /// A decision names a model that answered the query nowhere.
    #[error("an unavailable model was chosen")]
    Unavailable,
    /// Events that cannot be: each with its place.
    #[error("{0}")]
    Events(String),
    /// No runtime to decide in.
    #[error(transparent)]
    Runtime(#[from] std::io::Error),
}
