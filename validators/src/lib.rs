//! Checks of an answer
