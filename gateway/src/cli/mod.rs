//! The command line: one file per command, one writer for what they say.
//!
//! Exit codes: 0 good, 1 warnings where they were asked to count, 2 errors (of use, of configuration, of
//! anything that kept a command from doing its work).

mod approval;
mod bundle;
mod check;
mod completions;
mod control;
mod defaults;
mod demo;
mod examples;
mod explain;
mod fetch;
mod import;
mod models;
mod out;
mod policy;
mod pool;
mod profile;
mod replay;
mod sarif;
mod serve;
mod usage;
mod workflow;

pub(crate) use workflow::{limits_json, plan_json};

use crate::app::{Data, Settings};
use crate::config::{Environment, Simulated, Source};
use crate::telemetry;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use out::Out;
use std::path::PathBuf;
use std::process::ExitCode;
use types::options::Mode;

/// Everything went well.
const GOOD: u8 = 0;
/// There were warnings, and they were asked to count.
const WARNED: u8 = 1;
/// It did not work.
const FAILED: u8 = 2;

#[derive(Parser, Debug)]
#[command(
    name = "turnout",
    version,
    about = "An outcome-aware inference engine: send model=\"auto\", it decides, checks, repairs and learns",
    after_help = "Examples:\n  turnout demo                          try it on simulated models\n  turnout serve                         serve the providers whose keys are set\n  turnout check                         read every configuration file, tell every problem\n  turnout explain req_0192…             why a request went where it went"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command may be told.
#[derive(Args, Clone, Debug)]
struct Global {
    /// Folder of the configuration; what is absent there is built in
    #[arg(long, global = true, env = "TURNOUT_CONFIG", default_value = ".", value_name = "DIR")]
    config: PathBuf,
    /// Machine-readable output
    #[arg(long, global = true)]
    json: bool,
    /// Address of the server [default: 127.0.0.1:8080]
    #[arg(long, global = true, env = "TURNOUT_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Folder of records and statistics [default: $XDG_DATA_HOME/turnout or ~/.local/share/turnout]
    #[arg(long, global = true, env = "TURNOUT_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Which price tiers may be candidates [default: auto]
    #[arg(long, global = true, env = "TURNOUT_MODE", value_enum)]
    mode: Option<Tier>,
}

/// `--mode`.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum Tier {
    /// Only free tiers
    Free,
    /// Only paid ones
    Paid,
    /// Prefer free tiers, pay where the task calls for it
    Auto,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Start the server
    Serve(serve::Args),
    /// Start it on simulated models, with traffic to look at
    Demo(demo::Args),
    /// Read every configuration file and tell every problem
    Check(check::Args),
    /// Print the configuration files that are built in
    Defaults(defaults::Args),
    /// Tell how a request was decided and how it turned out
    Explain(explain::Args),
    /// List every model: whether it is a candidate, and if not, why
    Models(models::Args),
    /// Profile one request, or measure the profiler on labelled ones
    Profile(profile::Args),
    /// Replay recorded outcomes of real models, and see what routing is worth
    Replay(Box<replay::Args>),
    /// Learn a prior from recorded outcomes
    Learn(replay::LearnArgs),
    /// Pools: named sets of models
    Pool(pool::Args),
    /// Tenants: who the keys belong to
    Tenant(control::tenant::Args),
    /// Virtual keys: what applications send
    Key(control::key::Args),
    /// Providers of the running server
    Provider(control::provider::Args),
    /// Keys of providers that the server keeps, encrypted
    ProviderKey(control::provider_key::Args),
    /// How the limits of tenants and keys stand
    Budget(control::budget::Args),
    /// What was learned, and the way back to what was known before
    Statistics(control::statistics::Args),
    Usage(usage::UsageArgs),
    Import(import::ImportArgs),
    /// Questions that policies put to people
    Approval(approval::Args),
    /// The audit trail: who changed what
    Audit(control::audit::Args),
    /// Bundles: configurations that are kept, put in force, taken back
    Bundle(bundle::Args),
    Reload(control::server::Reload),
    Whoami(control::server::Whoami),
    Openapi(control::server::Openapi),
    /// Check, test, explain, compare and format rules and policies
    Policy(policy::Args),
    /// Begin, check, draw, plan, test, run and compare workflows
    Workflow(workflow::Args),
    /// Print completions for a shell
    Completions(completions::Args),
}

impl Global {
    fn environment() -> Environment {
        Environment::of_the_process()
    }

    fn source(&self) -> Source {
        Source::Folder(self.config.clone())
    }

    fn settings(&self, simulated: Simulated) -> Settings {
        Settings {
            source: self.source(),
            environment: Self::environment(),
            listen: self.listen.clone(),
            data: self.data.clone().map_or(Data::Default, Data::Folder),
            mode: self.mode.map(|m| match m {
                Tier::Free => Mode::Free,
                Tier::Paid => Mode::Paid,
                Tier::Auto => Mode::Auto,
            }),
            simulated,
            ..Settings::default()
        }
    }
}

/// Why a command did not do its work; the text goes to standard error. Empty: what there is to say was said.
#[derive(Debug)]
struct Problem(String);

impl<E: std::error::Error> From<E> for Problem {
    fn from(e: E) -> Self {
        Problem(e.to_string())
    }
}

type Outcome = Result<u8, Problem>;

/// Runs the program on the arguments of the process.
#[must_use]
pub fn run() -> ExitCode {
    let parsed = Cli::from_arg_matches(&examples::with(Cli::command()).get_matches());
    let Cli { global, command } = parsed.unwrap_or_else(|e| e.exit());
    let out = Out::new(global.json);
    let default = match command {
        Command::Serve(_) => "info",
        // The demo's table is what there is to see; a log would tear it.
        Command::Demo(_) => "error",
        _ => "warn",
    };
    let log = std::env::var("TURNOUT_LOG").ok();
    let json = std::env::var("TURNOUT_LOG_FORMAT").is_ok_and(|f| f == "json");
    if let Some(problem) = telemetry::start(Some(log.as_deref().unwrap_or(default)), json) {
        out.error(&problem);
    }
    telemetry::log_panics();
    let ended = match command {
        Command::Check(args) => Ok(check::run(&global, &args, &out)),
        Command::Completions(args) => completions::run(&args, &out),
        Command::Defaults(args) => defaults::run(&args, &out),
        Command::Import(args) => import::run(&args, &out),
        Command::Profile(args) => profile::run(&args, &out),
        Command::Replay(args) => replay::run(&args, &out),
        Command::Learn(args) => replay::learn(&args, &out),
        waiting => wait(&global, waiting, &out),
    };
    match ended {
        Ok(_) if !Out::is_whole() => ExitCode::from(FAILED),
        Ok(code) => ExitCode::from(code),
        Err(Problem(text)) => {
            if !text.is_empty() {
                out.error(&text);
            }
            ExitCode::from(FAILED)
        }
    }
}

/// Commands that wait for something.
fn wait(global: &Global, command: Command, out: &Out) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        match command {
            Command::Serve(args) => serve::run(global, &args, out).await,
            Command::Demo(args) => demo::run(global, &args, out).await,
            Command::Explain(args) => explain::run(global, &args, out).await,
            Command::Models(args) => models::run(global, &args, out).await,
            Command::Policy(args) => policy::run(global, &args, out).await,
            Command::Workflow(args) => workflow::run(global, &args, out).await,
            Command::Pool(args) => pool::run(global, &args, out).await,
            Command::Tenant(args) => control::tenant::run(global, &args, out).await,
            Command::Key(args) => control::key::run(global, &args, out).await,
            Command::Provider(args) => control::provider::run(global, &args, out).await,
            Command::Reload(args) => control::server::reload(global, &args, out).await,
            Command::Whoami(args) => control::server::whoami(global, &args, out).await,
            Command::Openapi(args) => control::server::openapi(global, &args, out).await,
            Command::ProviderKey(args) => control::provider_key::run(global, &args, out).await,
            Command::Budget(args) => control::budget::run(global, &args, out).await,
            Command::Statistics(args) => control::statistics::run(global, &args, out).await,
            Command::Usage(args) => usage::run(global, &args, out).await,
            Command::Approval(args) => approval::run(global, &args, out).await,
            Command::Audit(args) => control::audit::run(global, &args, out).await,
            Command::Bundle(args) => bundle::run(global, &args, out).await,
            _ => Ok(GOOD),
        }
    });
    // What still hangs in a blocking call must not keep the process.
    runtime.shutdown_background();
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command of a group that asks a control API takes its address before or after its own name.
    #[test]
    fn the_address_of_a_control_api_stands_anywhere() {
        let at = "http://127.0.0.1:8081";
        for (group, command) in [
            ("tenant", &["list"][..]),
            ("key", &["list"]),
            ("key", &["show", "0123"]),
            ("provider-key", &["list"]),
            ("bundle", &["list"]),
            ("bundle", &["upload", "new"]),
            ("bundle", &["shadow", "3f9c", "--share", "0.1"]),
            ("policy", &["list"]),
            ("policy", &["show", "a"]),
            ("pool", &["list"]),
            ("approval", &["list"]),
        ] {
            let before = [&["turnout", group, "--url", at], command].concat();
            let after = [&["turnout", group], command, &["--url", at]].concat();
            for line in [before, after] {
                if let Err(e) = Cli::try_parse_from(&line) {
                    panic!("{line:?}: {e}");
                }
            }
        }
    }

    #[test]
    fn the_command_line_is_sound_and_every_command_has_an_example() {
        let mut command = examples::with(Cli::command());
        command.build();
        command.clone().debug_assert();
        let (mut open, mut leaves) = (vec![("turnout".to_owned(), &command)], 0);
        while let Some((path, command)) = open.pop() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(&path), "`{path}` has no example: {after}");
            let below = command.get_subcommands().filter(|s| s.get_name() != "help");
            open.extend(below.map(|s| (format!("{path} {}", s.get_name()), s)));
            leaves += usize::from(!command.has_subcommands());
        }
        assert!(leaves > 50, "{leaves}");
    }
}
