//! Calls of tools for workflows: what is declared, whether it may be called, and the call itself.

mod call;
mod guard;
mod registry;

pub(crate) use call::{Toolbox, call};
pub(crate) use guard::{Guard, OfRun, Stands, over, so_far};
pub(crate) use registry::Registry;
