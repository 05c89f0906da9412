//! Usage and economics: what is asked of the sums, and what is said of them.

mod budget;
mod report;

pub(crate) use budget::row as budget;
pub(crate) use report::{asked, document};
