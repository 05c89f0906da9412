//! Answers that wait until a test says so, instead of for a time that some machine finds too short.

use std::sync::Arc;
use tokio::sync::watch;

/// Holds answers back until it is opened; clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// Lets out whatever waits, and from now on whatever comes.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn passed(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}
