//! The comparison: mock alone, bytes through, parse and forward, turnout; each loaded in turn, in many short
//! rounds. What disturbs the machine for a while disturbs some rounds of every row: figures are the medians of
//! the rounds, and ratios the medians of the ratios within a round.

use crate::load::{Amount, Measured, Shape, percentile};
use crate::process::Process;
use crate::{Effort, Failure, house, say};
use comfy_table::{CellAlignment, Table, presets};
use std::net::SocketAddr;
use std::time::Duration;

/// What to run.
#[derive(Clone)]
pub(crate) struct Plan {
    /// Only to show that it runs.
    pub(crate) quick: bool,
    /// Bytes of the prompt.
    pub(crate) bytes: usize,
    /// Requests per row.
    pub(crate) requests: usize,
    /// Requests a second of the open loop.
    pub(crate) rate: f64,
    /// Only rows whose name holds this, and the floors.
    pub(crate) only: Option<String>,
    /// No streams.
    pub(crate) whole: bool,
}

/// Arms of the turnout that is measured: models, times the workflows that serve a request.
const MODELS: usize = 12;
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 12;

/// One line of the table: who is asked, and for what.
struct Row<'a> {
    name: &'static str,
    /// `None`: nobody stands between the load and the mock.
    process: Option<&'a Process>,
    target: SocketAddr,
    shape: Shape,
    /// Processor seconds per 1,000 requests, by round.
    cpu: Vec<f64>,
    closed: Measured,
    open: Measured,
}

impl<'a> Row<'a> {
    fn new(name: &'static str, process: Option<&'a Process>, target: SocketAddr, shape: Shape) -> Self {
        let (closed, open) = (Measured::default(), Measured::default());
        Row { name, process, target, shape, cpu: Vec::new(), closed, open }
    }
}

/// Starts everything, loads it, prints the tables.
pub(crate) async fn run(plan: Plan) -> Result<(), Failure> {
    let mock = Process::start(&["mock"]).await?;
    let upstream = mock.addr.to_string();
    let bare = Process::start(&["bare", &upstream]).await?;
    let parse = Process::start(&["parse", &upstream]).await?;
    let house = house::start(mock.addr, MODELS).await?;
    let turnout = &house.process;
    for stream in [false, true].into_iter().filter(|stream| !(plan.whole && *stream)) {
        let shape =
            |model: &str, schema| Shape { model: model.to_owned(), bytes: plan.bytes, stream, schema };
        let mut rows = vec![
            Row::new("mock alone", None, mock.addr, shape("mock/m0", false)),
            Row::new("bare: bytes through", Some(&bare), bare.addr, shape("mock/m0", false)),
            Row::new("parse and forward", Some(&parse), parse.addr, shape("mock/m0", false)),
            Row::new("turnout, model named", Some(turnout), turnout.addr, shape("mock/m0", false)),
            Row::new("turnout, auto", Some(turnout), turnout.addr, shape("auto", false)),
            Row::new("turnout, auto + schema", Some(turnout), turnout.addr, shape("auto", true)),
        ];
        if stream {
            // It is held back until it is checked: its first content says nothing of the way there.
            rows.pop();
        }
        let wanted = |r: &Row<'_>| plan.only.as_deref().is_none_or(|only| r.name.contains(only));
        rows.retain(|r| !r.name.starts_with("turnout") || wanted(r));
        measure(&mut rows, &plan).await?;
        print(&rows, &plan, stream);
    }
    if plan.only.is_none() {
        let effort = if plan.quick { Effort::Quick } else { Effort::Whole };
        crate::graph::run(effort).await?;
        crate::prefix::run(effort)?;
    }
    if plan.quick {
        let few = crate::escalation::Plan { requests: 36, seed: 7, json: false };
        crate::escalation::run(few).await?;
        say("(a quick run: it shows that everything runs; the figures mean nothing)");
    }
    Ok(())
}

async fn measure(rows: &mut [Row<'_>], plan: &Plan) -> Result<(), Failure> {
    let rounds = if plan.quick { 2 } else { ROUNDS };
    let limit = Duration::from_secs(30);
    let requests = plan.requests.div_ceil(rounds);
    let closed = Amount { requests, connections: CONNECTIONS, rate: None, limit };
    let open = Amount { requests: requests.div_ceil(8), rate: Some(plan.rate), ..closed };
    // The first requests pay for connections, automatons and caches.
    for row in rows.iter() {
        let warm = Amount { requests: requests.min(200), ..closed };
        let _ = crate::load::run(row.target, &row.shape, warm).await;
    }
    for _ in 0..rounds {
        for row in rows.iter_mut() {
            let before = row.process.map_or(0.0, Process::cpu);
            let measured = crate::load::run(row.target, &row.shape, closed).await;
            // What is written and learned behind the replies is part of their price.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let used = row.process.map_or(0.0, Process::cpu) - before;
            row.cpu.push(used * 1e3 / (measured.ok.max(1) as f64));
            row.closed.add(measured);
            row.open.add(crate::load::run(row.target, &row.shape, open).await);
        }
    }
    for row in rows.iter() {
        let failed = row.closed.failed.saturating_add(row.open.failed);
        if failed > 0 || row.closed.ok == 0 {
            return Err(
                format!("{}: {failed} of {} requests failed", row.name, row.closed.ok + failed).into()
            );
        }
    }
    Ok(())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(0.0)
}

/// The table of one kind of answer. The first row is the mock alone.
fn print(rows: &[Row<'_>], plan: &Plan, stream: bool) {
    // Each figure is a function of a row, so that a row and its floor are read in the same way.
    let mock = |of: fn(&Row<'_>) -> f64| rows.first().map_or(0.0, of);
    let cpu = |r: &Row<'_>| median(r.cpu.clone());
    let p50 = |r: &Row<'_>| percentile(&r.open.total, 0.5) - mock(|m| percentile(&m.open.total, 0.5));
    let p99 = |r: &Row<'_>| percentile(&r.open.total, 0.99) - mock(|m| percentile(&m.open.total, 0.99));
    let first = |r: &Row<'_>| percentile(&r.open.first, 0.5) - mock(|m| percentile(&m.open.first, 0.5));
    let ratio = |r: &Row<'_>, name: &str, figure: &dyn Fn(&Row<'_>) -> f64| {
        let floor = rows.iter().find(|f| r.process.is_some() && f.name.starts_with(name)).map(figure);
        floor.filter(|f| *f > 0.0).map_or_else(|| "-".to_owned(), |f| format!("{:.2}x", figure(r) / f))
    };
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "",
        "req/s",
        "CPU s / 1000",
        "to bare",
        "to parse",
        "p50 +us",
        "p99 +us",
        "p50 to parse",
        "first p50 +us",
        "first to parse",
    ]);
    for r in rows {
        let elapsed: f64 = r.closed.total.iter().map(Duration::as_secs_f64).sum::<f64>() / CONNECTIONS as f64;
        // Processor time is compared within a round, where both had the same machine.
        let cpu_ratio = |name: &str| {
            let floor = rows.iter().find(|f| r.process.is_some() && f.name.starts_with(name));
            let ratios = |f: &Row<'_>| r.cpu.iter().zip(&f.cpu).map(|(a, b)| a / b.max(1e-9)).collect();
            floor.map_or_else(|| "-".to_owned(), |f| format!("{:.2}x", median(ratios(f))))
        };
        table.add_row([
            r.name.to_owned(),
            format!("{:.0}", r.closed.ok as f64 / elapsed.max(1e-9)),
            r.process.map_or_else(|| "-".to_owned(), |_| format!("{:.3}", cpu(r))),
            cpu_ratio("bare"),
            cpu_ratio("parse"),
            format!("{:.0}", p50(r)),
            format!("{:.0}", p99(r)),
            ratio(r, "parse", &p50),
            format!("{:.0}", first(r)),
            ratio(r, "parse", &first),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let kind = if stream { "streams of 17 events" } else { "whole answers of 1 KB" };
    say(&format!(
        "{kind}, prompts of {} bytes, {} requests a row, {CONNECTIONS} connections; latency at {} requests a second, \
         added to the mock alone; {MODELS} models",
        plan.bytes, plan.requests, plan.rate
    ));
    say(&table.to_string());
}
