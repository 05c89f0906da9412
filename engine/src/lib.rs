//! The loop: admit, profile, decide, run, settle, assess, learn
