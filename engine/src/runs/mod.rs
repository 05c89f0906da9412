//! Durable runs.
mod codec;
mod drive;
mod keeper;
mod state;
mod tape;
#[cfg(test)]
mod tests;
mod world;
