//! The only room that knows databases
