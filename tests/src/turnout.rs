//! The `turnout` program, built together with the tests.

fn main() -> std::process::ExitCode {
    gateway::cli::run()
}
