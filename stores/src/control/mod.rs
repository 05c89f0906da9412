//! The control plane's objects: SQLite in a folder ([`Control`]), or memory ([`ControlMemory`]).

mod memory;
mod sqlite;

pub use memory::ControlMemory;
pub use sqlite::Control;

use types::control::{Error, Object};

/// What a change that names `expected` finds; an error where it is not that.
fn matches(object: &Object, expected: u64, found: u64) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Conflict { kind: object.kind.clone(), id: object.id.clone(), expected, found })
}
