//! Sums that the text itself states, worked out again: `3 + 4 = 8`, `20 % of 150 is 40`, `from 50 to 75, up 30 %`.
//!
//! Numbers with decimals stand for all that round to them, so that what was rounded on the way is not called
//! wrong: expressions are worked out over intervals, and a sum is wrong if no value of one side lies in the other.

mod expression;
mod statements;
mod tokens;

use crate::text::quantities::Unit;
use expression::evaluate;
use statements::{changes, shares};
use std::ops::Range;
use tokens::{Placed, Token, tokens};

/// Longest expression, in tokens.
const MAX_TOKENS: usize = 100;

/// A sum that a text states.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sum {
    /// Bytes of the text.
    pub(super) span: Range<usize>,
    /// Bytes of the result.
    pub(super) result: Range<usize>,
    /// What it should have been; `None` if it is right.
    pub(super) wrong: Option<f64>,
}

/// The sums of a text, line by line; ranges to skip come in order.
pub(super) fn sums(text: &str, skip: &[Range<usize>]) -> Vec<Sum> {
    let mut out = Vec::new();
    let mut at = 0_usize;
    for line in text.split_inclusive('\n') {
        let start = at;
        at = at.saturating_add(line.len());
        if !line.chars().any(|c| c.is_ascii_digit()) {
            continue;
        }
        let here: Vec<Range<usize>> = skip
            .iter()
            .skip(skip.partition_point(|s| s.end <= start))
            .take_while(|s| s.start < at)
            .map(|s| s.start.saturating_sub(start)..s.end.saturating_sub(start))
            .collect();
        let tokens = tokens(line, &here);
        let mut found = equations(&tokens);
        found.extend(shares(&tokens));
        found.extend(changes(&tokens));
        let moved = |r: &Range<usize>| r.start.saturating_add(start)..r.end.saturating_add(start);
        out.extend(found.into_iter().map(|s| Sum { span: moved(&s.span), result: moved(&s.result), ..s }));
    }
    out
}

/// Both sides of every `=`.
fn equations(tokens: &[Placed]) -> Vec<Sum> {
    let mut out = Vec::new();
    for (i, _) in tokens.iter().enumerate().filter(|(_, p)| p.token == Token::Equal) {
        let (Some(left), Some(right)) = (left_of(tokens, i), right_of(tokens, i)) else { continue };
        let works = left.iter().chain(right).any(|p| match &p.token {
            Token::Operator(_) => true,
            Token::Word(w) => w == "of",
            _ => false,
        });
        let (Some(span), Some(result)) = (cover(left), cover(right)) else { continue };
        if works && let Some(wrong) = compare(left, right) {
            out.push(Sum { span: span.start..result.end, result, wrong });
        }
    }
    out
}

fn cover(tokens: &[Placed]) -> Option<Range<usize>> {
    Some(tokens.first()?.span.start..tokens.last()?.span.end)
}

/// Whether the token belongs to an expression; a word behind a number names what it counts.
fn part(tokens: &[Placed], i: usize) -> bool {
    match tokens.get(i).map(|p| &p.token) {
        Some(Token::Number(_) | Token::Operator(_) | Token::Open | Token::Close) => true,
        Some(Token::Word(w)) => {
            let before = i.checked_sub(1).and_then(|b| tokens.get(b)).map(|p| &p.token);
            let after = tokens.get(i.saturating_add(1)).map(|p| &p.token);
            let ends = matches!(after, Some(Token::Operator(_) | Token::Equal | Token::Close));
            w.len() > 1 && ends && matches!(before, Some(Token::Number(_))) || w == "of" && is_percent(before)
        }
        _ => false,
    }
}

fn is_percent(token: Option<&Token>) -> bool {
    matches!(token, Some(Token::Number(n)) if n.unit == Unit::Percent)
}

fn left_of(tokens: &[Placed], equal: usize) -> Option<&[Placed]> {
    let mut from = equal;
    while from > 0 && part(tokens, from.saturating_sub(1)) {
        from = from.saturating_sub(1);
    }
    let mut run = tokens.get(from..equal)?;
    // "(3 + 4 = 7)": a bracket that closes behind the result does not belong here.
    let balance = |run: &[Placed]| {
        let n = |t: &Token| run.iter().filter(|p| p.token == *t).count();
        (n(&Token::Open), n(&Token::Close))
    };
    while let (Some(Placed { token: Token::Open, .. }), (open, close)) = (run.first(), balance(run)) {
        if open <= close {
            break;
        }
        run = run.get(1..)?;
        from = from.saturating_add(1);
    }
    let before = from.checked_sub(1).and_then(|b| tokens.get(b)).map(|p| &p.token);
    let free = match before {
        None | Some(Token::Stop | Token::Equal | Token::Open) => true,
        Some(Token::Word(w)) => w.chars().count() > 1 && !FUNCTIONS.contains(&w.as_str()),
        _ => false,
    };
    let starts = matches!(run.first().map(|p| &p.token), Some(Token::Number(_) | Token::Open));
    (free && starts && run.len() <= MAX_TOKENS).then_some(run)
}

/// Words behind which a number is an argument.
const FUNCTIONS: &[&str] =
    &["sin", "cos", "tan", "log", "ln", "sqrt", "max", "min", "abs", "mod", "exp", "times", "minus", "plus"];

fn right_of(tokens: &[Placed], equal: usize) -> Option<&[Placed]> {
    let from = equal.saturating_add(1);
    let mut to = from;
    while part(tokens, to) {
        to = to.saturating_add(1);
    }
    let mut run = tokens.get(from..to)?;
    let count = |run: &[Placed], t: &Token| run.iter().filter(|p| p.token == *t).count();
    while count(run, &Token::Close) > count(run, &Token::Open) {
        let close = run.iter().rposition(|p| p.token == Token::Close)?;
        run = run.get(..close)?;
    }
    // "= 7 (as above)": a bracket that is not part of the sum.
    while let Some(Placed { token: Token::Open | Token::Operator(_), .. }) = run.last() {
        let opens = run.last().is_some_and(|p| p.token == Token::Open);
        if !opens {
            return None;
        }
        run = run.get(..run.len().saturating_sub(1))?;
    }
    let end = from.saturating_add(run.len());
    let free = match tokens.get(end).map(|p| &p.token) {
        Some(Token::Other | Token::Operator(_)) => false,
        Some(Token::Word(w)) => w.chars().count() > 1,
        _ => true,
    };
    let starts = matches!(run.first().map(|p| &p.token), Some(Token::Number(_) | Token::Open));
    (free && starts && run.len() <= MAX_TOKENS).then_some(run)
}

/// `Some(None)` if both sides agree, `Some(Some(value))` with what the right side should be, `None` if a side
/// cannot be worked out.
fn compare(left: &[Placed], right: &[Placed]) -> Option<Option<f64>> {
    let percents = |side: &[Placed]| {
        let mut all = side.iter().filter_map(|p| match &p.token {
            Token::Number(n) => Some(n.unit == Unit::Percent),
            _ => None,
        });
        all.all(|p| p)
    };
    let only_sums = left.iter().all(|p| !matches!(p.token, Token::Operator('*' | '/')));
    // Per cent that are added stay per cent; per cent of something are hundredths.
    let raw = percents(left) && only_sums && percents(right);
    let whole = left.iter().all(|p| match &p.token {
        Token::Operator(op) => *op != '/',
        Token::Number(n) => n.step == 1.0 && n.unit != Unit::Percent,
        _ => true,
    });
    let l = evaluate(left, !raw, None)?;
    let r = evaluate(right, !raw, Some(!whole))?;
    let fits = l.meets(r)
        || percents(right) && l.meets(r.scaled(100.0))
        || percents(left) && l.scaled(100.0).meets(r);
    let shown = if percents(right) && !raw { l.middle() * 100.0 } else { l.middle() };
    Some((!fits).then_some(shown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, want: &[Option<f64>]) {
        let got: Vec<Option<f64>> =
            sums(text, &[]).into_iter().map(|s| s.wrong.map(|w| (w * 1000.0).round() / 1000.0)).collect();
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn equations_are_worked_out() {
        check("3 + 4 = 7", &[None]);
        check("3 + 4 = 8", &[Some(7.0)]);
        check("So 2 × (3 + 4) = 14, and 10 / 4 = 2.5.", &[None, None]);
        check("12 - 5 = 6", &[Some(7.0)]);
        check("2 + 3 * 4 = 20", &[Some(14.0)]);
        check("$3.50 + $4.25 = $8.75", &[Some(7.75)]);
        check("1,200 + 300 = 1,500 = 1,400 + 100", &[None, None]);
        check("3 apples + 4 apples = 8 apples", &[Some(7.0)]);
        check("3 x 4 = 13", &[Some(12.0)]);
        check("**5 + 5 = 11**", &[Some(10.0)]);
        check("$3 \\times 4 = 12$", &[None]);
        check("(3 + 4 = 7)", &[None]);
        check("2.5 million + 1.5 million = 4 million", &[None]);
    }

    #[test]
    fn rounding_is_no_mistake() {
        check("10 / 3 = 3.33", &[None]);
        check("10 / 3 = 3.3333", &[None]);
        check("2 / 3 = 0.66", &[None]);
        check("0.333 * 3 = 1", &[None]);
        check("7 / 2 ≈ 3.5", &[None]);
        check("10 / 3 = 3.5", &[Some(3.333)]);
    }

    #[test]
    fn per_cents_are_understood() {
        check("20% of 150 = 30", &[None]);
        check("20% of 150 is 40", &[Some(30.0)]);
        check("30 out of 150 (20%)", &[None]);
        check("30 of the 150 students (25%)", &[Some(20.0)]);
        check("20% + 30% = 50%", &[None]);
        check("20% + 30% = 60%", &[Some(50.0)]);
        check("150 / 200 = 75%", &[None]);
        check("150 / 200 × 100 = 75%", &[None]);
        check("0.2 * 150 = 30", &[None]);
        check("Sales rose from 50 to 75, an increase of 50%.", &[None]);
        check("Sales rose from 50 to 75, an increase of 30%.", &[Some(50.0)]);
        check("Sales rose by 5% from 2019 to 2020.", &[]);
    }

    #[test]
    fn what_is_no_sum_is_left_alone() {
        for text in [
            "x + 3 = 8",
            "2x + 3 = 8",
            "f(3) = 10",
            "y - 3 + 4 = 10",
            "a = 3",
            "2^3 = 8",
            "10² = 100",
            "5! = 120",
            "if 3 + 4 == 8",
            "3 + 4 = 7x",
            "3 + 4 = 7 + x",
            "3 + x = 4",
            "sqrt 9 + 7 = 10",
            "n >= 3 + 4",
            "1-2-3 = go",
            "2024-05-01 = today",
            "The score was 3 - 4.",
            "1/2 = half",
        ] {
            let got = sums(text, &[]);
            assert!(got.iter().all(|s| s.wrong.is_none()), "{text}: {got:?}");
        }
    }

    proptest! {
        #[test]
        fn right_sums_pass_and_wrong_ones_fail(a in 0_i64..10_000, b in 1_i64..10_000, d in 1_i64..50) {
            let wrong = |text: String| sums(&text, &[]).iter().filter(|s| s.wrong.is_some()).count();
            prop_assert_eq!(wrong(format!("{a} + {b} = {}", a + b)), 0);
            prop_assert_eq!(wrong(format!("{a} * {b} = {}", a * b)), 0);
            prop_assert_eq!(wrong(format!("{a} + {b} = {}", a + b + d)), 1);
        }

        #[test]
        fn any_line_ends(text in "[0-9+*/=().,% x$a-c-]{0,80}") {
            let _ = sums(&text, &[]);
        }
    }
}
