//! What a choice costs as the number of models grows: processor time of whole `auto` requests, so that the
//! slope is the price of an arm and the rest is everything else.

use crate::load::{Amount, Shape};
use crate::process::Process;
use crate::{Failure, house, say};
use std::time::Duration;

/// Prints a line per number of models.
pub(crate) async fn run() -> Result<(), Failure> {
    let mock = Process::start(&["mock"]).await?;
    let shape = Shape { model: "auto".to_owned(), bytes: 2_000, stream: false, schema: false };
    let amount = Amount { requests: 3_000, connections: 4, rate: None, limit: Duration::from_secs(30) };
    let mut first: Option<(usize, f64)> = None;
    for models in [2, 20, 200] {
        let house = house::start(mock.addr, models).await?;
        let process = &house.process;
        let _ = crate::load::run(process.addr, &shape, Amount { requests: 300, ..amount }).await;
        let before = process.cpu();
        let measured = crate::load::run(process.addr, &shape, amount).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        if measured.failed > 0 || measured.ok == 0 {
            return Err(format!("{} requests failed", measured.failed).into());
        }
        let each = (process.cpu() - before) * 1e6 / measured.ok as f64;
        let slope = match first {
            Some((least, base)) => {
                format!("   {:.2} us per further model", (each - base) / ((models - least) as f64))
            }
            None => String::new(),
        };
        first = first.or(Some((models, each)));
        say(&format!("{models:>4} models   {each:8.1} us of processor time a request{slope}"));
    }
    Ok(())
}
