//! The only room that knows vendors' wire formats
