//! The turnout binary: HTTP, command line, configuration, wiring
