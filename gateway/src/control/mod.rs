//! The control plane: who may use what, how it is changed, and the log of who changed it.

pub(crate) mod actor;
pub(crate) mod answered;
pub(crate) mod audit;
pub(crate) mod directory;
pub(crate) mod fields;
pub(crate) mod key;
pub(crate) mod keys;
pub(crate) mod merge;
mod object;
pub(crate) mod plane;
pub(crate) mod provider_keys;
pub(crate) mod refusals;
pub(crate) mod secret;
pub(crate) mod settled;
pub(crate) mod spent;
pub(crate) mod tenants;
pub(crate) mod tripwire;

pub(crate) use actor::{Actor, Need};
