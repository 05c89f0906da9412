//! `turnout usage`: what was used, what it cost and what was saved, as a table with bars, as JSON, or as a picture.

use super::control::{Client, Where};
use super::out::Out;
use super::{GOOD, Global, Outcome, Problem};
use crate::query::encoded;
use clap::builder::PossibleValuesParser;
use comfy_table::Table;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::PathBuf;
use types::encoding::xml;
use types::usage::GroupBy;

/// What was used, what it cost and what was saved
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout usage                                    the last 30 days\n  turnout usage --by model --from 2026-07-01 --to 2026-07-31\n  turnout usage --by key --tenant acme --json\n  turnout usage --by day --svg spend.svg\n\nTokens include cached, image and reasoning ones once. `saved` is an estimate: what the most capable candidate would have\ncost for the tokens of the answers that were delivered, less what the same requests cost, failed ones included."
)]
pub(super) struct UsageArgs {
    /// What each row is of
    #[arg(long, default_value = "day", value_parser = PossibleValuesParser::new(GroupBy::NAMES))]
    by: String,
    /// First day, UTC, as in 2026-07-01 [default: 29 days before the last one]
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// Last day, UTC [default: today]
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// Only this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Most rows: the dearest, or the newest days
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Draw the cost of the rows into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    at: Where,
}

/// Days that are shown unless the caller says otherwise.
const DAYS: i64 = 30;
/// Width of the longest bar, characters.
const BAR: usize = 12;

pub(super) async fn run(global: &Global, args: &UsageArgs, out: &Out) -> Outcome {
    let mut path = format!("/usage?group_by={}&limit={}", args.by, args.limit);
    let from = args.from.clone().or_else(|| args.to.is_none().then(default_from).flatten());
    for (name, value) in [("from", &from), ("to", &args.to), ("tenant", &args.tenant)] {
        if let Some(v) = value {
            let _ = write!(path, "&{name}={}", encoded(v));
        }
    }
    let said = Client::find(global, &args.at)?.ask("GET", &path, None).await?;
    if let Some(file) = &args.svg {
        std::fs::write(file, svg(&args.by, &said))
            .map_err(|e| Problem(format!("cannot write {}: {e}", file.display())))?;
    }
    if out.json {
        out.value(&said);
    } else {
        tell(out, &args.by, &said);
    }
    Ok(GOOD)
}

fn default_from() -> Option<String> {
    let today = crate::clock::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let days = jiff::Span::new().try_days(DAYS.saturating_sub(1)).ok()?;
    today.checked_sub(days).ok().map(|d| d.to_string())
}

fn number(row: &Value, name: &str) -> f64 {
    row.get(name).and_then(Value::as_f64).unwrap_or(0.0)
}

fn whole(row: &Value, name: &str) -> String {
    row.get(name).and_then(Value::as_i64).unwrap_or(0).to_string()
}

/// Dollars with as many digits as say something.
fn dollars(row: &Value, name: &str) -> String {
    match row.get(name).and_then(Value::as_f64) {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(x) if x.abs() >= 1.0 => format!("{x:.2}"),
        Some(x) => format!("{x:.6}"),
    }
}

fn bar(share: f64) -> String {
    // A share of 0..=1 of a dozen characters, in eighths.
    let eighths = (share.clamp(0.0, 1.0) * BAR as f64 * 8.0).round() as usize;
    let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(eighths % 8).copied().unwrap_or("");
    format!("{}{rest}", "█".repeat(eighths / 8))
}

/// The rows as a table, with bars where a terminal shows it.
fn table(out: &Out, by: &str, said: &Value) -> Table {
    let rows: Vec<&Value> = said.get("data").and_then(Value::as_array).into_iter().flatten().collect();
    let most = rows.iter().map(|r| number(r, "cost_usd")).fold(0.0, f64::max);
    let mut columns = vec![
        by,
        "requests",
        "successes",
        "failed",
        "calls",
        "input",
        "cached",
        "images",
        "output",
        "reasoning",
        "cost USD",
        "per request",
        "per success",
        "saved",
    ];
    // Bars are for people to look at.
    if out.terminal {
        columns.push("");
    }
    let mut table = out.table(&columns);
    let cells = |name: String, r: &Value, bar: String| {
        let mut cells = vec![
            name,
            whole(r, "requests"),
            whole(r, "successes"),
            whole(r, "failed"),
            whole(r, "calls"),
            whole(r, "input_tokens"),
            whole(r, "cached_input_tokens"),
            whole(r, "images"),
            whole(r, "output_tokens"),
            whole(r, "reasoning_tokens"),
            dollars(r, "cost_usd"),
            dollars(r, "cost_per_request_usd"),
            dollars(r, "cost_per_success_usd"),
            dollars(r, "saved_usd"),
        ];
        cells.extend(out.terminal.then_some(bar));
        cells
    };
    for r in &rows {
        let name = r.get("group").and_then(Value::as_str).filter(|g| !g.is_empty()).unwrap_or("(none)");
        let share = if most > 0.0 { number(r, "cost_usd") / most } else { 0.0 };
        table.add_row(cells(name.to_owned(), r, bar(share)));
    }
    if let Some(total) = said.get("total") {
        table.add_row(cells("all".to_owned(), total, String::new()));
    }
    table
}

fn tell(out: &Out, by: &str, said: &Value) {
    let table = table(out, by, said);
    if let Some(total) = said.get("total") {
        if number(total, "estimated_calls") > 0.0 {
            out.line(&format!(
                "{} USD of the cost are estimated: vendors did not say what {} calls used, or not all of it.",
                dollars(total, "estimated_usd"),
                whole(total, "estimated_calls")
            ));
        }
        if number(total, "at_most_usd") > number(total, "cost_usd") {
            out.line(&format!(
                "Vendors may bill {} USD at most, which is what limits count: nobody said what calls used that were cut off.",
                dollars(total, "at_most_usd")
            ));
        }
        if number(total, "unpriced_calls") > 0.0 {
            out.line(&format!(
                "{} calls had no known price and are in no sum of money.",
                whole(total, "unpriced_calls")
            ));
        }
    }
    out.line(&table.to_string());
    out.line("saved: an estimate, against the most capable candidate of each request at its price for the same answer.");
}

/// Bars of the cost of each row, as a picture.
fn svg(by: &str, said: &Value) -> String {
    const ROW: usize = 22;
    const LEFT: usize = 260;
    const WIDTH: usize = 420;
    let rows: Vec<&Value> = said.get("data").and_then(Value::as_array).into_iter().flatten().collect();
    let most = rows.iter().map(|r| number(r, "cost_usd")).fold(0.0, f64::max);
    let height = rows.len().saturating_add(2).saturating_mul(ROW);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"820\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<text x=\"8\" y=\"16\" font-weight=\"bold\">cost by {}, USD</text>\n",
        xml(by)
    );
    for (i, r) in rows.iter().enumerate() {
        let y = i.saturating_add(1).saturating_mul(ROW).saturating_add(4);
        let name = xml(r.get("group").and_then(Value::as_str).unwrap_or(""));
        let share = if most > 0.0 { number(r, "cost_usd") / most } else { 0.0 };
        let width = share * WIDTH as f64;
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "<text x=\"8\" y=\"{}\">{name}</text><rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"16\" \
             fill=\"#4878a8\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
            y.saturating_add(12),
            LEFT as f64 + width + 6.0,
            y.saturating_add(12),
            dollars(r, "cost_usd")
        );
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bars_are_as_long_as_their_share() {
        for (share, want) in
            [(0.0, ""), (1.0, "████████████"), (0.5, "██████"), (0.01, "▏"), (7.0, "████████████")]
        {
            assert_eq!(bar(share), want, "{share}");
        }
    }

    #[test]
    fn only_a_terminal_has_a_column_of_bars() {
        let said = json!({"data": [{"group": "a", "cost_usd": 2.0}], "total": {"cost_usd": 2.0}});
        for terminal in [true, false] {
            let shown = table(&Out { json: false, terminal }, "day", &said).to_string();
            let heading = shown.lines().nth(1).unwrap();
            assert_eq!(heading.matches('┆').count(), if terminal { 14 } else { 13 }, "{shown}");
            assert_eq!(shown.contains('█'), terminal, "{shown}");
        }
    }

    #[test]
    fn a_picture_is_well_formed_whatever_the_names() {
        let said =
            json!({"data": [{"group": "<a & \"b\">", "cost_usd": 2.0}, {"group": "c", "cost_usd": 0.0}]});
        let picture = svg("model", &said);
        assert!(
            picture.contains("&lt;a &amp; &quot;b&quot;&gt;") && picture.ends_with("</svg>\n"),
            "{picture}"
        );
        assert_eq!(picture.matches("<rect").count(), 2);
    }
}
