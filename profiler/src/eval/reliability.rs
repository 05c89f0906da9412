//! Confidence against accuracy: ten bins, the expected calibration error, and a plot of both in text.

use serde::{Serialize, Serializer, ser::SerializeSeq as _};
use std::fmt;

/// Bins of confidence: 0 to 0.1, 0.1 to 0.2, and so on.
const BINS: usize = 10;
/// Columns of the plot.
const WIDTH: usize = 50;

/// How sure predictions were, against how often they were right.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reliability {
    bins: [Bin; BINS],
}

/// Predictions of about the same confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bin {
    confidence: f64,
    right: usize,
    n: usize,
}

impl Reliability {
    /// Adds a prediction: how sure it was (0..=1), and whether it was right.
    pub fn add(&mut self, confidence: f32, right: bool) {
        // 0..=9: the confidence is in 0..=1.
        let bin = ((confidence * BINS as f32) as usize).min(BINS.saturating_sub(1));
        if let Some(bin) = self.bins.get_mut(bin) {
            bin.confidence += f64::from(confidence);
            bin.right = bin.right.saturating_add(usize::from(right));
            bin.n = bin.n.saturating_add(1);
        }
    }

    /// Expected calibration error: the mean gap between confidence and accuracy over the bins, weighted by their
    /// size; 0..=1, 0 if nothing was added.
    #[must_use]
    pub fn error(&self) -> f64 {
        let n: usize = self.bins.iter().map(|b| b.n).sum();
        let gaps: f64 = self.bins.iter().map(|b| (b.confidence - b.right as f64).abs()).sum();
        gaps / n.max(1) as f64
    }

    /// Per bin that holds any prediction: mean confidence, share right, number.
    pub fn bins(&self) -> impl Iterator<Item = (f64, f64, usize)> {
        let full = self.bins.iter().filter(|b| b.n > 0);
        full.map(|b| (b.confidence / b.n as f64, b.right as f64 / b.n as f64, b.n))
    }
}

/// A list of objects, one per bin that holds any prediction.
impl Serialize for Reliability {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let round = |x: f64| (x * 1e4).round() / 1e4;
        let mut list = s.serialize_seq(None)?;
        for (confidence, accuracy, n) in self.bins() {
            let bin = serde_json::json!({"confidence": round(confidence), "accuracy": round(accuracy), "requests": n});
            list.serialize_element(&bin)?;
        }
        list.end()
    }
}

/// A bar per bin up to the accuracy, with a mark at the confidence: honest bars end at their mark.
impl fmt::Display for Reliability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  confidence, accuracy (bar), where honest would end (|); calibration error {:.4}",
            self.error()
        )?;
        for (confidence, accuracy, n) in self.bins() {
            // 0..=WIDTH: both are shares.
            let (bar, mark) =
                ((accuracy * WIDTH as f64).round() as usize, (confidence * WIDTH as f64).round() as usize);
            let line: String = (0..=WIDTH)
                .map(|i| match i {
                    _ if i == mark => '|',
                    _ if i < bar => '█',
                    _ => '·',
                })
                .collect();
            writeln!(f, "  {confidence:.2}  {accuracy:.2}  {line} {n:>5}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(f32, bool)]) -> Reliability {
        let mut r = Reliability::default();
        pairs.iter().for_each(|(c, right)| r.add(*c, *right));
        r
    }

    #[test]
    fn the_error_is_the_mean_gap() {
        assert_eq!(of(&[]).error(), 0.0);
        assert!(of(&[(1.0, true), (1.0, true)]).error() < 1e-9);
        assert!((of(&[(1.0, false), (1.0, true)]).error() - 0.5).abs() < 1e-9);
        // 0.8 claimed, 0.5 right; 0.3 claimed, 0 right: (2·0.3 + 1·0.3) / 3.
        assert!((of(&[(0.8, true), (0.8, false), (0.3, false)]).error() - 0.3).abs() < 1e-6);
    }

    #[test]
    fn the_plot_shows_bars_and_marks() {
        let text = of(&[(0.8, true), (0.8, false)]).to_string();
        assert!(text.contains("0.80  0.50") && text.contains('█') && text.contains('|'), "{text}");
    }
}
