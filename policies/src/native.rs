//! Conditions in the shape most of them have: comparisons of fields with constants, joined by `&&`, `||` and
//! `!`. They are answered without the engine; what has another shape is left to it, piece by piece.

mod operand;
mod test;
#[cfg(test)]
mod tests;
mod tree;

pub(crate) use operand::{Constant, Operand, Path, With};
pub(crate) use test::{Read, Relation, Test};
pub(crate) use tree::{Atom, Text, Tree, offset};
