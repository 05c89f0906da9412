//! Sums at the foot of tables, worked out again.

use crate::text::blocks::{Kind, Outline};
use crate::text::numbers::{Number, numbers};
use crate::text::quantities::Unit;
use std::ops::Range;

/// First words of a row that sums up the rows above it.
const TOTALS: &[&str] = &[
    "total",
    "totals",
    "sum",
    "gesamt",
    "summe",
    "insgesamt",
    "total général",
    "totale",
    "suma",
    "合计",
    "总计",
    "合計",
];
/// Words of a header whose column is not summed up.
const NO_SUM: &[&str] = &[
    "average",
    "avg",
    "mean",
    "median",
    "rate",
    "%",
    "percent",
    "share",
    "price",
    "per ",
    "unit",
    "ratio",
    "year",
    "rank",
    "no.",
    "id",
    "growth",
    "change",
    "score",
    "max",
    "min",
    "cumulative",
];

/// A column whose foot does not give its sum.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WrongTotal {
    /// Bytes of the row that sums up.
    pub(super) row: Range<usize>,
    /// The header of the column.
    pub(super) column: String,
    /// What the row says.
    pub(super) said: f64,
    /// What the rows above sum up to.
    pub(super) sum: f64,
}

/// The tables whose totals can be checked, and the wrong totals.
pub(super) fn totals(text: &str, outline: &Outline) -> (usize, Vec<WrongTotal>) {
    let mut checked = 0_usize;
    let mut wrong = Vec::new();
    let tables = outline.blocks.chunk_by(|_, b| b.kind != Kind::Header);
    for table in tables {
        let mut rows = table
            .iter()
            .skip_while(|b| b.kind != Kind::Header)
            .take_while(|b| matches!(b.kind, Kind::Header | Kind::Row));
        let Some(header) = rows.next().filter(|b| b.kind == Kind::Header) else { continue };
        let header = cells(text, &header.span);
        let rows: Vec<(&Range<usize>, Vec<String>)> = rows.map(|b| (&b.span, cells(text, &b.span))).collect();
        let Some(((place, total), body)) = rows.split_last() else { continue };
        let name = |row: &[String]| row.first().map(|c| c.to_lowercase()).unwrap_or_default();
        let sums = TOTALS.iter().any(|t| name(total) == *t || name(total).starts_with(&format!("{t} ")));
        let partial = body.iter().any(|(_, r)| name(r).contains("total") || name(r).contains("summe"));
        if !sums || partial || body.len() < 2 {
            continue;
        }
        for (i, column) in header.iter().enumerate().skip(1) {
            let lower = column.to_lowercase();
            if NO_SUM.iter().any(|w| lower.contains(w)) {
                continue;
            }
            let Some((sum, said)) = column_sum(body, total, i) else { continue };
            checked = checked.saturating_add(1);
            let slack = sum.1 + said.step / 2.0 + 1e-9 * sum.0.abs();
            if (sum.0 - said.value).abs() > slack {
                wrong.push(WrongTotal {
                    row: (*place).clone(),
                    column: column.clone(),
                    said: said.value,
                    sum: sum.0,
                });
            }
        }
    }
    (checked, wrong)
}

/// The cells of the whole line that a row stands on, without marks of emphasis.
fn cells(text: &str, span: &Range<usize>) -> Vec<String> {
    let start = text.get(..span.start).and_then(|t| t.rfind('\n')).map_or(0, |i| i.saturating_add(1));
    let end =
        text.get(span.end..).and_then(|t| t.find('\n')).map_or(text.len(), |i| span.end.saturating_add(i));
    let line = text.get(start..end).unwrap_or("").trim();
    let line = line.strip_prefix('|').unwrap_or(line);
    let line = line.strip_suffix('|').unwrap_or(line);
    line.split('|').map(|c| c.trim().trim_matches(['*', '_', '`']).trim().to_owned()).collect()
}

/// The sum of a column with what rounding may have taken from it, and the total; `None` if a cell is no number,
/// or the numbers measure different things.
fn column_sum(
    body: &[(&Range<usize>, Vec<String>)],
    total: &[String],
    column: usize,
) -> Option<((f64, f64), Number)> {
    let said = only(total.get(column)?)?;
    let (mut sum, mut slack, mut filled) = (0.0, 0.0, 0_usize);
    for (_, row) in body {
        let cell = row.get(column)?;
        if matches!(cell.as_str(), "" | "-" | "–" | "—") {
            continue;
        }
        let n = only(cell)?;
        let same = n.unit == said.unit || n.unit == Unit::None || said.unit == Unit::None;
        if !same {
            return None;
        }
        sum += n.value;
        slack += if n.step != 1.0 { n.step / 2.0 } else { 0.0 };
        filled = filled.saturating_add(1);
    }
    // Shares sum up to a hundred or to nothing that can be said.
    let shares = said.unit == Unit::Percent && (said.value - 100.0).abs() > 0.5;
    (filled >= 2 && !shares).then_some(((sum, slack), said))
}

/// The number of a cell that holds one and nothing else of note.
fn only(cell: &str) -> Option<Number> {
    let mut all = numbers(cell, &[]).into_iter().filter(|n| !n.spelled);
    let n = all.next().filter(|n| n.literal.is_none())?;
    let rest = cell.len().saturating_sub(n.span.len());
    (all.next().is_none() && rest <= 6 && n.unit != Unit::Clock).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::blocks::outline;

    fn check(rows: &str, checked: usize, wrong: &[(&str, f64)]) {
        let text = format!("| Item | Cost | Price per unit |\n|---|---|---|\n{rows}\n\nMore text.\n");
        let (n, found) = totals(&text, &outline(&text));
        let found: Vec<(&str, f64)> = found.iter().map(|w| (w.column.as_str(), w.sum)).collect();
        assert_eq!((n, found.as_slice()), (checked, wrong), "{rows}");
    }

    #[test]
    fn totals_are_added_up() {
        check("| a | 1 | 9 |\n| b | 2 | 9 |\n| **Total** | **3** | 9 |", 1, &[]);
        check("| a | 1 | 9 |\n| b | 2 | 9 |\n| Total | 4 | |", 1, &[("Cost", 3.0)]);
        check("| a | $1,200 | |\n| b | $300.50 | |\n| Total | $1,500.50 | |", 1, &[]);
        check("| a | 1.2 | |\n| b | 1.3 | |\n| Total | 2.6 | |", 1, &[]);
        check("| a | 50% | |\n| b | 49% | |\n| Total | 100% | |", 1, &[("Cost", 99.0)]);
    }

    #[test]
    fn what_is_no_sum_is_left_alone() {
        check("| a | 1 | |\n| b | 2 | |", 0, &[]);
        check("| a | one | |\n| b | 2 | |\n| Total | 4 | |", 0, &[]);
        check("| a | 1 | |\n| Subtotal | 1 | |\n| Total | 4 | |", 0, &[]);
        check("| a | 3% | |\n| b | 2% | |\n| Total | 4% | |", 0, &[]);
        check("| a | 1 kg | |\n| b | 2 km | |\n| Total | 4 kg | |", 0, &[]);
    }
}
