//! Sums in words: shares of a whole, and changes from one value to another.

use super::Sum;
use super::expression::Interval;
use super::tokens::{Placed, Token};
use crate::text::numbers::Number;
use crate::text::quantities::Unit;

/// `20 % of 150 is 30`, and `30 of 150 (20 %)`.
pub(super) fn shares(tokens: &[Placed]) -> Vec<Sum> {
    let mut out = Vec::new();
    let number = |i: usize| match tokens.get(i).map(|p| &p.token) {
        Some(Token::Number(n)) => Some(n),
        _ => None,
    };
    let word = |i: usize, list: &[&str]| matches!(tokens.get(i).map(|p| &p.token), Some(Token::Word(w)) if list.contains(&w.as_str()));
    for i in 0..tokens.len() {
        let next = |k: usize| i.saturating_add(k);
        if let (Some(p), true, Some(base), true, Some(share)) = (
            number(i).filter(|n| n.unit == Unit::Percent),
            word(next(1), &["of"]),
            number(next(2)),
            word(next(3), &["is", "equals", "makes", "gives"]),
            number(next(4)).filter(|n| n.unit != Unit::Percent),
        ) && !word(next(5), &["times", "more", "less", "of", "to", "percent"])
        {
            let (lo, hi) = spread(p);
            let want = Interval::new(lo * base.value / 100.0, hi * base.value / 100.0);
            out.extend(verdict(tokens, i, next(4), want, share));
        }
        // `30 (out) of (the) 150 … (20 %)`
        let of = if word(next(1), &["out"]) { next(2) } else { next(1) };
        let base_at = if word(of.saturating_add(1), &["the", "all", "a"]) {
            of.saturating_add(2)
        } else {
            of.saturating_add(1)
        };
        let (Some(a), true, Some(b)) = (number(i), word(of, &["of"]), number(base_at)) else { continue };
        let plain = a.unit != Unit::Percent && b.unit != Unit::Percent && b.value != 0.0;
        let bracket = (base_at.saturating_add(1)..base_at.saturating_add(4))
            .find(|k| tokens.get(*k).is_some_and(|p| p.token == Token::Open));
        let Some(open) = bracket.filter(|_| plain) else { continue };
        let gap = (base_at.saturating_add(1)..open)
            .all(|k| matches!(tokens.get(k).map(|p| &p.token), Some(Token::Word(_))));
        let Some(p) = number(open.saturating_add(1)).filter(|n| n.unit == Unit::Percent && gap) else {
            continue;
        };
        let exact = a.value / b.value * 100.0;
        out.extend(verdict(tokens, i, open.saturating_add(1), Interval::new(exact, exact), p));
    }
    out
}

/// The values that a number may stand for.
fn spread(n: &Number) -> (f64, f64) {
    let half = if n.step < 1.0 || n.hedged { n.step / 2.0 } else { 0.0 };
    (n.value - half, n.value + half)
}

fn verdict(tokens: &[Placed], from: usize, to: usize, want: Interval, said: &Number) -> Option<Sum> {
    let slack = if said.hedged { said.step.max(said.value.abs() * 0.1) } else { said.step };
    let have = Interval::new(said.value - slack, said.value + slack);
    let span = tokens.get(from)?.span.start..tokens.get(to)?.span.end;
    let wrong = (!have.meets(want)).then(|| want.middle());
    Some(Sum { span, result: said.span.clone(), wrong })
}

const RISES: &[&str] = &[
    "increase",
    "increased",
    "increases",
    "rise",
    "rose",
    "risen",
    "grew",
    "growth",
    "up",
    "gain",
    "gained",
];

const FALLS: &[&str] = &[
    "decrease",
    "decreased",
    "decreases",
    "fall",
    "fell",
    "fallen",
    "drop",
    "dropped",
    "decline",
    "declined",
    "down",
    "reduction",
    "reduced",
];

/// `rose from 50 to 75, an increase of 50 %`, where the line has one such pair and one share only.
pub(super) fn changes(tokens: &[Placed]) -> Vec<Sum> {
    let words: Vec<&str> = tokens
        .iter()
        .filter_map(|p| if let Token::Word(w) = &p.token { Some(w.as_str()) } else { None })
        .collect();
    let (up, down) = (words.iter().any(|w| RISES.contains(w)), words.iter().any(|w| FALLS.contains(w)));
    let shares: Vec<&Number> = tokens
        .iter()
        .filter_map(|p| match &p.token {
            Token::Number(n) if n.unit == Unit::Percent => Some(n),
            _ => None,
        })
        .collect();
    let pairs: Vec<(usize, &Number, &Number)> = tokens
        .windows(4)
        .enumerate()
        .filter_map(|(i, w)| match w {
            [
                Placed { token: Token::Word(f), .. },
                Placed { token: Token::Number(a), .. },
                Placed { token: Token::Word(t), .. },
                Placed { token: Token::Number(b), .. },
            ] if f == "from" && t == "to" => Some((i, a, b)),
            _ => None,
        })
        .collect();
    let (&[(at, a, b)], &[share], true) = (pairs.as_slice(), shares.as_slice(), up != down) else {
        return Vec::new();
    };
    let year = |n: &Number| n.unit == Unit::None && n.step == 1.0 && (1500.0..2200.0).contains(&n.value);
    let odd = year(a) && year(b) || a.unit == Unit::Percent || b.unit == Unit::Percent || a.value <= 0.0;
    let agrees = if up { b.value > a.value } else { b.value < a.value };
    if odd || !agrees {
        return Vec::new();
    }
    let exact = (b.value - a.value).abs() / a.value * 100.0;
    let after = tokens.iter().position(|p| p.span == share.span).unwrap_or(at);
    verdict(tokens, at.min(after), after.max(at.saturating_add(3)), Interval::new(exact, exact), share)
        .into_iter()
        .collect()
}
