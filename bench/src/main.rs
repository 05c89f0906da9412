//! Load generator, mock upstream and floor proxies: what turnout costs, as ratios to floors measured in the
//! same run. Absolute figures depend on the machine; the ratios are what to quote.

mod arms;
mod audit;
mod compare;
mod decide;
mod escalation;
mod floor;
mod graph;
mod house;
mod load;
mod mock;
mod policies;
mod prefix;
mod process;
mod profile;
mod wire;

use clap::{Parser, Subcommand};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

// What the shipped binary uses.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What turnout costs, as ratios to floors measured in the same run.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Start mock, floors and turnout, load each, print ratios.
    All {
        /// A few hundred requests: shows that it runs, measures nothing worth quoting.
        #[arg(long)]
        quick: bool,
        /// Bytes of the prompt.
        #[arg(long, default_value_t = 2_000)]
        bytes: usize,
        /// Requests per row.
        #[arg(long, default_value_t = 12_000)]
        requests: usize,
        /// Requests a second of the open loop, from which the latencies come.
        #[arg(long, default_value_t = 150.0)]
        rate: f64,
        /// Only rows whose name holds this text, and the floors; for a quick look at one change.
        #[arg(long)]
        only: Option<String>,
        /// Only whole answers, no streams.
        #[arg(long)]
        whole: bool,
    },
    /// Load any server in a closed loop, for a profiler beside it.
    Load {
        /// Which.
        target: SocketAddr,
        /// `model` of the requests.
        #[arg(long, default_value = "auto")]
        model: String,
        /// Bytes of the prompt.
        #[arg(long, default_value_t = 2_000)]
        bytes: usize,
        /// Requests in all.
        #[arg(long, default_value_t = 100_000)]
        requests: usize,
        /// Connections.
        #[arg(long, default_value_t = 16)]
        connections: usize,
        /// Ask for streams.
        #[arg(long)]
        stream: bool,
        /// Ask for an answer by schema.
        #[arg(long)]
        schema: bool,
    },
    /// Microseconds to profile requests of 2, 32 and 200 KB.
    Profile,
    /// Microseconds to evaluate the shipped rules and the documentation's example for a profiled request.
    Policies,
    /// What workflows cost by themselves: graphs on calls that answer at once, and reading a long file.
    Graph,
    /// How fast checks read text that grows, JSON by a schema above all, in MB/s.
    Prefix,
    /// What the audit trail costs, as ratios to a plain file.
    Audit {
        /// Lines of the trail.
        #[arg(long, default_value_t = 1_000_000)]
        lines: u64,
    },
    /// Processor time per `auto` request as the number of arms grows.
    Decide,
    /// Microseconds to decide among 2, 20 and 200 arms that have all been learned of, in process.
    Arms,
    /// What checking answers and escalating adds over asking once, at equal cost, on the simulated fleet.
    Escalation {
        /// Requests of each way.
        #[arg(long, default_value_t = 1_200)]
        requests: usize,
        /// Of requests and draws.
        #[arg(long, default_value_t = 7)]
        seed: u64,
        /// Everything as JSON.
        #[arg(long)]
        json: bool,
    },
    /// A vendor that answers at once.
    Mock,
    /// Bytes through.
    Bare {
        /// Where to.
        upstream: SocketAddr,
    },
    /// Parse, replace the model, forward.
    Parse {
        /// Where to.
        upstream: SocketAddr,
    },
}

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// As much as steady figures take.
    Whole,
    /// As little as shows that it runs.
    Quick,
}

fn main() -> ExitCode {
    // A child that is called so is the program under test, built with the bench.
    if std::env::args_os().next().is_some_and(|name| name == process::TURNOUT) {
        return gateway::cli::run();
    }
    let what = Arguments::parse().what;
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(e) => return failed(&e),
    };
    match runtime.block_on(run(what)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed(&*e),
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn run(what: What) -> Result<(), Failure> {
    match what {
        What::All { quick, bytes, requests, rate, only, whole } => {
            let requests = if quick { 240 } else { requests };
            compare::run(compare::Plan { quick, bytes, requests, rate, only, whole }).await
        }
        What::Load { target, model, bytes, requests, connections, stream, schema } => {
            let shape = load::Shape { model, bytes, stream, schema };
            let limit = std::time::Duration::from_secs(120);
            let amount = load::Amount { requests, connections, rate: None, limit };
            let start = tokio::time::Instant::now();
            let measured = load::run(target, &shape, amount).await;
            let seconds = start.elapsed().as_secs_f64();
            let at = |share| load::percentile(&measured.total, share);
            say(&format!(
                "{} answered, {} failed, {:.0} a second; p50 {:.0} us, p99 {:.0} us",
                measured.ok,
                measured.failed,
                measured.ok as f64 / seconds.max(1e-9),
                at(0.5),
                at(0.99)
            ));
            Ok(())
        }
        What::Profile => profile::run(),
        What::Policies => policies::run().await,
        What::Arms => arms::run().await,
        What::Graph => graph::run(Effort::Whole).await,
        What::Prefix => prefix::run(Effort::Whole),
        What::Audit { lines } => audit::run(lines),
        What::Decide => decide::run().await,
        What::Escalation { requests, seed, json } => {
            escalation::run(escalation::Plan { requests, seed, json }).await
        }
        What::Mock => Ok(mock::serve(listen().await?).await?),
        What::Bare { upstream } => Ok(floor::bare(listen().await?, upstream).await?),
        What::Parse { upstream } => Ok(floor::parse(listen().await?, upstream).await?),
    }
}

/// A socket of our own on loopback; its address goes to standard output, where the parent reads it.
async fn listen() -> Result<tokio::net::TcpListener, Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    say(&format!("listening on {}", listener.local_addr()?));
    Ok(listener)
}

/// One line to standard output.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "bench: {error}");
    ExitCode::FAILURE
}

/// Starts a task that lives as long as the process.
#[expect(clippy::disallowed_methods, reason = "a bench has no shutdown to wait for")]
fn background(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}
