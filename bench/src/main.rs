//! Load generator, mock upstream and floor proxies: what turnout costs, as ratios to floors measured in the
//! same run. Absolute figures depend on the machine; the ratios are what to quote.

mod compare;
mod decide;
mod floor;
mod house;
mod load;
mod mock;
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
    },
    /// Microseconds to profile requests of 2, 32 and 200 KB.
    Profile,
    /// Processor time per `auto` request as the number of arms grows.
    Decide,
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
        What::All { quick, bytes, requests, rate } => {
            compare::run(compare::Plan { quick, bytes, requests: if quick { 240 } else { requests }, rate })
                .await
        }
        What::Profile => profile::run(),
        What::Decide => decide::run().await,
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
